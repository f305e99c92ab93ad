/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people want of a standby: to know about it, to promote it, to stop it. */
#include <errno.h>
#include <stdio.h>

#include "codec/json.h"
#include "keeper/standby-side.h"

int hf_standby_order_promote(void *role, bool is_forced, struct hf_err *err)
{
	struct hf_standby_side *s = role;
	enum hf_standby_state state = s->machine.state;

	s->is_order_refused = false;
	s->k->is_forced_live |= is_forced && state == HF_STANDBY_LOST;
	hf_standby_feed(s, is_forced ? HF_STANDBY_PROMOTE_FORCED : HF_STANDBY_PROMOTE_WANTED, 0);
	if (!s->is_order_refused)
		return 0;
	if (state == HF_STANDBY_LOST)
		hf_err_set(err, "out of touch with the primary, whose death is not proven: running "
				"the VM here "
				"as well would run it twice. If you know that the primary is dead, "
				"use --force");
	else
		hf_err_set(err, "this standby is %s (%s): there is nothing to promote",
			   hf_standby_state_name(state), hf_standby_state_text(state));
	return -EINVAL;
}

int hf_standby_order_stop(void *role, bool is_forced, struct hf_err *err)
{
	struct hf_standby_side *s = role;

	if (s->machine.state == HF_STANDBY_LOST && !is_forced) {
		hf_err_set(err, "this standby may hold the only copy of the VM's state: --force "
				"discards it");
		return -EBUSY;
	}
	hf_event(&s->k->journal, "stopping", NULL, "an operator stops the standby");
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_ENDED);
	return 0;
}

int hf_standby_order_resume(void *role __attribute__((unused)), struct hf_err *err)
{
	hf_err_set(err, "this is a standby: the VM does not run here");
	return -EINVAL;
}

void hf_standby_order_signal(void *role, int signal __attribute__((unused)))
{
	struct hf_standby_side *s = role;

	if (s->machine.state == HF_STANDBY_LOST && !s->has_been_signalled) {
		s->has_been_signalled = true;
		hf_log(&s->k->journal, HF_LOG_ERROR,
		       "this standby may hold the only copy of the VM's state: a second signal "
		       "ends it and discards that");
		return;
	}
	hf_event(&s->k->journal, "stopping", NULL, "stopped by a signal");
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_ENDED);
}

static void add_protection(const struct hf_standby_side *s, struct json_object *status)
{
	const char *trouble = hf_ownership_trouble(s->k->ownership);
	bool is_waiting = trouble[0] && s->arbiter.lver;
	char text[256];

	(void)snprintf(text, sizeof(text), "%s%s%s", hf_standby_state_text(s->machine.state),
		       is_waiting ? "; who goes on is decided by the VM's lease: " : "",
		       is_waiting ? trouble : "");
	json_object_object_add(status, "protection", json_object_new_string(text));
}

void hf_standby_add_status(void *role, struct json_object *status)
{
	struct hf_standby_side *s = role;
	struct hf_inbox_stats stats;
	struct json_object *e = json_object_new_object();
	bool is_ready = s->machine.state == HF_STANDBY_READY;

	hf_inbox_get_stats(s->inbox, &stats);
	json_object_object_add(status, "role", json_object_new_string("standby"));
	json_object_object_add(status, "state",
			       json_object_new_string(hf_standby_state_name(s->machine.state)));
	json_object_object_add(status, "protected", json_object_new_boolean(is_ready));
	add_protection(s, status);
	json_object_object_add(status, "connected", json_object_new_boolean(s->link != NULL));
	json_object_object_add(status, "primary_verified",
			       json_object_new_boolean(s->is_address_verified));
	json_object_object_add(e, "captured", json_object_new_uint64(s->machine.epoch));
	json_object_object_add(e, "committed", json_object_new_uint64(s->machine.epoch));
	json_object_object_add(
		e, "dirty_pages",
		json_object_new_uint64(stats.last.data_pages + stats.last.zero_pages));
	json_object_object_add(e, "held_frames", json_object_new_uint64(stats.kept_frames));
	json_object_object_add(e, "held_bytes", json_object_new_uint64(stats.kept_frame_bytes));
	json_object_object_add(
		e, "lag_ns",
		json_object_new_uint64(s->machine.epoch ? hf_now_ns() - s->whole_ns : 0));
	json_object_object_add(status, "epochs", e);
	if (s->k->disks)
		json_object_object_add(status, "disks", hf_disks_status(s->k->disks));
	if (s->machine.state == HF_STANDBY_SYNCING) {
		struct json_object *y = json_object_new_object();

		json_object_object_add(
			y, "done_bytes",
			json_object_new_uint64((stats.sync_data_pages + stats.sync_zero_pages) *
					       HF_WIRE_PAGE_BYTES));
		json_object_object_add(
			y, "total_bytes",
			json_object_new_uint64(hf_guest_ram(s->k->guest)->size_bytes));
		json_object_object_add(status, "sync", y);
	}
}

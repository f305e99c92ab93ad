/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people want of a primary: to know about it, to stop it, to have the VM elsewhere. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "codec/json.h"
#include "keeper/primary-side.h"

int hf_primary_order_stop(void *role, bool is_forced, struct hf_err *err __attribute__((unused)))
{
	struct hf_primary_side *s = role;

	if (is_forced && s->is_finishing) {
		hf_log(&s->k->journal, HF_LOG_ERROR,
		       "ended before the disks had all that was logged: the guest's last writes "
		       "are lost");
		hf_keeper_finish(s->k, s->finish_code);
		return 0;
	}
	if (is_forced && s->machine.state == HF_PRIMARY_ENDING) {
		hf_log(&s->k->journal, HF_LOG_ERROR,
		       "ended without the standby's word: a standby that holds this VM's state may "
		       "start it");
		hf_keeper_finish(s->k, HF_KEEPER_EXIT_ENDED);
		return 0;
	}
	hf_event(&s->k->journal, "stopping", NULL, "%s",
		 is_forced ? "an operator stops the VM" : "the guest is asked to shut down");
	/* QEMU waits for its requests before it ends, and a full log may have made them wait. */
	if (is_forced && s->k->disks)
		hf_disks_draining(s->k->disks, true);
	hf_keeper_qmp(s->k, is_forced ? "quit" : "system_powerdown");
	return 0;
}

int hf_primary_order_promote(void *role, bool is_forced __attribute__((unused)), struct hf_err *err)
{
	struct hf_primary_side *s = role;

	hf_err_set(err, "this is the primary, the VM runs here (%s): promote on the standby's host",
		   hf_primary_state_name(s->machine.state));
	return -EINVAL;
}

/* Of a VM that a disk fault, its user or the guest's own storage errors have stopped. */
int hf_primary_order_resume(void *role, struct hf_err *err)
{
	struct hf_primary_side *s = role;
	const struct hf_disks *d = s->k->disks;

	if (d && d->has_fault) {
		hf_err_set(err, "the disk still fails: %s", d->fault_text);
		return -EIO;
	}
	if (s->is_fenced) {
		hf_err_set(err,
			   "this host's lease has run out: the VM goes on by itself when it is "
			   "claimed anew (%s)",
			   hf_ownership_trouble(s->k->ownership));
		return -EPERM;
	}
	s->is_pause_wanted = false;
	if (s->k->is_guest_running) {
		hf_err_set(err, "the VM runs");
		return -EALREADY;
	}
	hf_keeper_qmp(s->k, "cont");
	return 0;
}

int hf_primary_order_pause(void *role, struct hf_err *err __attribute__((unused)))
{
	struct hf_primary_side *s = role;

	s->is_pause_wanted = true;
	hf_primary_stop_for_fault(s);
	return 0;
}

/* The host is going down, or somebody wants the keeper gone: the VM moves if it can. */
void hf_primary_order_signal(void *role, int signal)
{
	struct hf_primary_side *s = role;

	if (s->is_freezing && !hf_freezer_is_certified(s->k->freezer)) {
		hf_log(&s->k->journal, HF_LOG_INFO, "signal %d: the VM is being frozen first",
		       signal);
		return;
	}
	if (signal == SIGTERM && s->machine.state == HF_PRIMARY_PROTECTED &&
	    !s->has_stopped_orderly) {
		s->has_stopped_orderly = true;
		hf_primary_feed(s, HF_PRIMARY_HANDOVER_WANTED, 0);
		return;
	}
	(void)!hf_primary_order_stop(s, signal == SIGINT || s->has_stopped_orderly, NULL);
	s->has_stopped_orderly = true;
}

static void add_epochs(const struct hf_primary_side *s, struct json_object *status)
{
	struct json_object *e = json_object_new_object();
	uint64_t frames;
	uint64_t bytes;

	hf_keeper_held(s->k, &frames, &bytes);
	hf_json_add_u64(e, "captured", s->machine.captured);
	hf_json_add_u64(e, "committed", s->machine.committed);
	hf_json_add_u64(e, "released", s->released);
	json_object_object_add(e, "pause", hf_status_quantiles(&s->pause));
	json_object_object_add(e, "commit", hf_status_quantiles(&s->commit));
	hf_json_add_u64(e, "dirty_pages", s->dirty_pages);
	hf_json_add_u64(e, "early_commits", s->early_commits);
	hf_json_add_u64(e, "held_frames", frames);
	hf_json_add_u64(e, "held_bytes", bytes);
	hf_json_add_u64(e, "state_bytes", s->checkpoint.state_len);
	hf_json_add_u64(e, "lag_ns", s->machine.committed ? hf_now_ns() - s->committed_ns : 0);
	json_object_object_add(status, "epochs", e);
}

static void add_protection(const struct hf_primary_side *s, bool is_protected,
			   struct json_object *status)
{
	bool is_first_under_way = s->machine.state == HF_PRIMARY_PROTECTED && !is_protected;
	const char *trouble = hf_ownership_trouble(s->k->ownership);
	const char *why = s->why_unprotectable ? s->why_unprotectable
			  : is_first_under_way ? "the first epoch is on its way to the standby"
			  : s->k->meetings     ? hf_primary_state_text(s->machine.state)
					       : "started without a peer";
	char text[sizeof(struct hf_err) + 256];
	bool is_waiting = trouble[0] && s->arbiter.lver;

	(void)snprintf(text, sizeof(text), "no: %s%s%s", why,
		       is_waiting ? "; who goes on is decided by the VM's lease: " : "",
		       is_waiting ? trouble : "");
	json_object_object_add(status, "protection",
			       json_object_new_string(is_protected ? "yes" : text));
}

void hf_primary_add_status(void *role, struct json_object *status)
{
	struct hf_primary_side *s = role;
	bool is_protected = s->machine.state == HF_PRIMARY_PROTECTED && s->machine.committed;

	json_object_object_add(status, "role", json_object_new_string("primary"));
	json_object_object_add(status, "state",
			       json_object_new_string(hf_primary_state_name(s->machine.state)));
	json_object_object_add(status, "protected", json_object_new_boolean(is_protected));
	add_protection(s, is_protected, status);
	json_object_object_add(status, "connected", json_object_new_boolean(s->link != NULL));
	json_object_object_add(
		status, "tracking",
		json_object_new_string(s->tracker ? hf_tracker_mode_name(s->tracker) : "none"));
	add_epochs(s, status);
	if (s->k->disks)
		json_object_object_add(status, "disks", hf_disks_status(s->k->disks));
	hf_sync_add_status(s, status);
}

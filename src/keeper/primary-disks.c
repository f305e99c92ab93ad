/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The primary and its disks: what they mean for outputs, for the first copy, and for the end. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "codec/json.h"
#include "keeper/primary-side.h"

/* ---- outputs ---- */

static void send_again(void *ctx, unsigned int netdev, const uint8_t *frame, size_t len)
{
	struct hf_primary_side *s = ctx;

	if (netdev < hf_guest_net_count(s->k->guest))
		(void)!hf_nettap_inject(hf_guest_net(s->k->guest, netdev), frame, len, NULL);
}

static void pass_now(struct hf_primary_side *s)
{
	s->is_passing = true;
	/* In the order in which the guest sent them: first those from before the failover. */
	if (s->resend && s->k->set->may_resend)
		hf_inbox_each_frame(s->resend, send_again, s);
	hf_inbox_free(s->resend);
	s->resend = NULL;
	hf_keeper_set_net_mode(s->k, HF_NETTAP_PASS);
}

static void release_to(struct hf_primary_side *s, uint64_t epoch)
{
	struct hf_err err;

	s->let_out = epoch;
	for (size_t i = 0; i < hf_guest_net_count(s->k->guest); i++)
		if (hf_nettap_release(hf_guest_net(s->k->guest, i), epoch, &err) < 0)
			hf_log(&s->k->journal, HF_LOG_ERROR, "netdev %s: %s",
			       hf_guest_net_id(s->k->guest, i), err.text);
}

void hf_primary_let_out(struct hf_primary_side *s)
{
	if (s->k->disks)
		hf_disks_feed_gate(s->k->disks, &s->gate);
	/* What the other side may have sent again must not follow. */
	if (s->was_handed_over || s->machine.state == HF_PRIMARY_SUPERSEDED)
		return;
	if (hf_gate_open_to(&s->gate) > s->let_out)
		release_to(s, hf_gate_open_to(&s->gate));
	if (!s->is_passing && hf_gate_may_pass(&s->gate))
		pass_now(s);
}

void hf_primary_hold(struct hf_primary_side *s, uint64_t epoch)
{
	s->is_passing = false;
	hf_gate_hold(&s->gate);
	hf_keeper_set_net_mode(s->k, HF_NETTAP_HOLD);
	if (!s->k->disks)
		return;
	hf_disks_hold(s->k->disks, epoch);
	hf_disks_permit(s->k->disks, hf_now_ns() + s->k->set->peer_timeout_ns);
	(void)hf_disks_set_state(s->k->disks, HF_DISK_HELD, s->machine.session);
}

void hf_primary_pass(struct hf_primary_side *s)
{
	hf_gate_pass(&s->gate);
	if (s->k->disks) {
		hf_disks_copy_end(s->k->disks);
		hf_disks_pass(s->k->disks);
	} else {
		hf_gate_drained(&s->gate);
	}
	hf_primary_let_out(s);
}

/* ---- the end ---- */

/* What the guest wrote last is in the log, and has to reach the images before this process ends. */
void hf_primary_finish(struct hf_primary_side *s, enum hf_keeper_exit code)
{
	struct hf_disks *d = s->k->disks;

	s->finish_code = code;
	if (d && !d->is_cut && !s->was_handed_over && s->machine.state == HF_PRIMARY_FINISHED) {
		hf_disks_pass(d);
		s->is_finishing = !hf_disks_is_direct(d);
	}
	if (!s->is_finishing)
		hf_primary_end(s);
}

/* ---- the first copy ---- */

uint8_t hf_primary_copy_kind(const struct hf_primary_side *s)
{
	const struct hf_disks *d = s->k->disks;
	bool has_copy = s->peer_disk_condition == HF_WIRE_DISKS_HELD ||
			s->peer_disk_condition == HF_WIRE_DISKS_REPLICATED ||
			s->peer_disk_condition == HF_WIRE_DISKS_PARTIAL;

	if (!d || d->is_shared)
		return HF_WIRE_SYNC_DISKS_NONE;
	return hf_disk_may_copy_delta(d->map_session, d->is_map_trusted, s->peer_disk_session,
				      has_copy)
		       ? HF_WIRE_SYNC_DISKS_DELTA
		       : HF_WIRE_SYNC_DISKS_FULL;
}

/* The standby counts on it: it forgets, or no longer marks, what our images have for good. */
void hf_primary_tell_settled(struct hf_primary_side *s)
{
	struct hf_disks *d = s->k->disks;
	struct hf_wire_msg msg = { .type = HF_WIRE_SETTLED };

	if (!d || !s->link || !s->machine.committed)
		return;
	msg.mark.epoch = atomic_load(&d->shm.words->settled);
	if (msg.mark.epoch <= d->told_settled || msg.mark.epoch > s->machine.committed)
		return;
	d->told_settled = msg.mark.epoch;
	hf_primary_say(s, &msg);
}

/* ---- what the disk process says ---- */

static void on_notice(void *ctx)
{
	struct hf_primary_side *s = ctx;

	hf_freezer_disks_moved(s->k->freezer);
	hf_primary_let_out(s);
	if (s->is_finishing && hf_disks_is_direct(s->k->disks)) {
		s->is_finishing = false;
		hf_primary_end(s);
		return;
	}
	hf_primary_tell_settled(s);
	hf_sync_disks_moved(s);
	hf_epoch_copy_moved(s);
	if (!hf_primary_may_capture(&s->machine) || s->checkpoint.step != HF_CHECKPOINT_IDLE)
		return;
	if (hf_disks_wants_epoch(s->k->disks) && !hf_disks_is_behind(s->k->disks)) {
		s->early_commits++;
		hf_pace_over_bound(&s->pace);
	}
	hf_epoch_reschedule(s);
}

static void on_done(void *ctx, uint32_t number __attribute__((unused)), int error, const char *text)
{
	struct hf_primary_side *s = ctx;

	if (error)
		hf_log(&s->k->journal, HF_LOG_ERROR, "the disk process: %s", text);
}

/* As QEMU's werror=stop would: nothing was lost, and an operator decides when it goes on; or because the
 * lease has run out. Not in the
 * middle of a checkpoint, nor between it and RESUME: its `cont` would undo it; and
 * again after one that began before QEMU had stopped. */
void hf_primary_stop_for_fault(struct hf_primary_side *s)
{
	if (s->is_freezing || (!s->is_stop_wanted && !s->is_fenced && !s->is_pause_wanted) ||
	    s->checkpoint.step != HF_CHECKPOINT_IDLE || !s->k->is_guest_running)
		return;
	hf_keeper_qmp(s->k, "stop");
}

static const char *string_of(struct json_object *o, const char *key)
{
	const char *v;

	return hf_json_str(o, key, &v, NULL) == 0 ? v : "";
}

/* While nothing is held, an error goes to QEMU, which deals with it as its werror= and rerror= say. */
void hf_primary_on_io_error(struct hf_primary_side *s, struct json_object *data)
{
	const char *id = string_of(data, "device");
	bool is_stop = strcmp(string_of(data, "action"), "stop") == 0;
	struct json_object *details = json_object_new_object();

	if (!id[0])
		id = string_of(data, "node-name");
	json_object_object_add(details, "disk", json_object_new_string(id));
	json_object_object_add(details, "action",
			       json_object_new_string(string_of(data, "action")));
	hf_event(&s->k->journal, "disk-error", details, "disk %s: %s: %s", id,
		 string_of(data, "reason"),
		 is_stop ? "QEMU keeps the request and stops the VM; 'holdfast resume' tries again"
			 : "told to the guest");
}

/* The log keeps what the guest wrote, so nothing is lost by standing still; whether the VM is to go on elsewhere
 * is the policy's affair. */
static void on_fault(void *ctx, bool is_well, const char *text)
{
	struct hf_primary_side *s = ctx;

	if (!is_well && !s->is_stop_wanted)
		s->was_running_before_fault = hf_primary_is_guest_meant_to_run(s);
	s->is_stop_wanted = !is_well;
	if (!is_well)
		hf_life_fault(s->k, HF_VM_CAUSE_IO_ERROR, HF_VM_RECOVERABLE, NULL, "%s", text);
	hf_primary_stop_for_fault(s);
}

static void on_lost(void *ctx, const char *why)
{
	struct hf_primary_side *s = ctx;

	if (s->is_finishing) {
		hf_log(&s->k->journal, HF_LOG_ERROR, "what was logged last is lost: %s", why);
		hf_keeper_finish(s->k, HF_KEEPER_EXIT_FAILED);
	} else if (!s->is_freezing && hf_guest_kill(s->k->guest) == 0) {
		hf_log(&s->k->journal, HF_LOG_ERROR, "a VM without its disks is of no use: killed");
	}
}

static void on_restarted(void *ctx)
{
	struct hf_primary_side *s = ctx;

	hf_disks_copy_again(s->k->disks);
}

static void on_cut(void *ctx)
{
	struct hf_primary_side *s = ctx;

	hf_freezer_disks_dead(s->k->freezer);
	hf_primary_feed(s, HF_PRIMARY_DISKS_CUT, 0); /* told only if the standby waits for it */
}

static const struct hf_disks_ops disks_ops = {
	.on_notice = on_notice,
	.on_done = on_done,
	.on_fault = on_fault,
	.on_lost = on_lost,
	.on_restarted = on_restarted,
	.on_cut = on_cut,
};

void hf_primary_watch_disks(struct hf_primary_side *s)
{
	struct hf_disks *d = s->k->disks;

	hf_gate_init(&s->gate,
		     d ? (enum hf_durability)s->k->set->durability : HF_DURABILITY_MEMORY);
	if (!d)
		return;
	s->machine.is_storage_shared = d->is_shared;
	hf_disks_set_ops(d, &disks_ops, s);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The primary's driver: the machine's actions and events, the guest's end. The peer is primary-peer.c's, disks
 * are primary-disks.c's, epochs epoch.c's, the first copy sync.c's.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keeper/dumper.h"
#include "keeper/peer-fenced.h"
#include "keeper/primary-side.h"
#include "keeper/saver.h"

/* ---- what the machine wants done ---- */

static void release(struct hf_primary_side *s, uint64_t epoch)
{
	hf_gate_committed(&s->gate, epoch);
	hf_primary_let_out(s);
	hf_epoch_committed(s, epoch);
}

static void discard(struct hf_primary_side *s)
{
	for (size_t i = 0; i < hf_guest_net_count(s->k->guest); i++)
		hf_nettap_discard(hf_guest_net(s->k->guest, i));
}

static void begin_sync(struct hf_primary_side *s, struct hf_id session, uint64_t lver)
{
	uint64_t ram = hf_guest_ram(s->k->guest)->size_bytes;
	struct hf_wire_msg msg = {
		.type = HF_WIRE_SYNC_BEGIN,
		.sync_begin = {
			.session = session,
			.ram_bytes = ram,
			.pages = ram / HF_WIRE_PAGE_BYTES,
			.disks = hf_primary_copy_kind(s),
			.lver = lver,
		},
	};

	if (s->is_held || s->is_freezing) {
		hf_primary_drop_link(s, "the VM is being saved, dumped or frozen");
		return;
	}
	hf_outbox_reset(&s->outbox);
	hf_primary_say(s, &msg);
	hf_sync_begin(s, session);
}

static void send_ended(struct hf_primary_side *s)
{
	static const struct {
		enum hf_wire_ending code;
		const char *text;
	} endings[] = {
		[HF_GUEST_END_UNKNOWN] = { HF_WIRE_ENDING_OPERATOR, "QEMU was ended in order" },
		[HF_GUEST_END_SHUTDOWN] = { HF_WIRE_ENDING_GUEST_SHUTDOWN, "the guest shut down" },
		[HF_GUEST_END_OPERATOR] = { HF_WIRE_ENDING_OPERATOR, "an operator stopped the VM" },
		[HF_GUEST_END_PANIC] = { HF_WIRE_ENDING_GUEST_PANIC, "the guest panicked" },
	};

	hf_primary_send_reason(s, HF_WIRE_ENDED, endings[s->k->guest_end].code,
			       endings[s->k->guest_end].text);
}

/* The VM is another host's: frozen if that is the policy, else its end. To have handed it over is no fault. */
static void stand_down(struct hf_primary_side *s)
{
	bool is_fault = s->machine.state != HF_PRIMARY_HANDED_OVER && !s->was_handed_over;
	int r;

	if (is_fault && hf_guest_process(s->k->guest)->pid >= 0)
		hf_life_fault(s->k, HF_VM_CAUSE_LEASE, HF_VM_FATAL, NULL,
			      "the VM is run by another host now");
	if (s->k->freezer)
		return;
	r = hf_guest_kill(s->k->guest);

	if (r < 0)
		hf_log(&s->k->journal, HF_LOG_ERROR, "cannot kill QEMU: %s", strerror(-r));
}

static void finish(struct hf_primary_side *s)
{
	enum hf_keeper_exit code = HF_KEEPER_EXIT_ENDED;

	if (s->link)
		hf_link_flush(s->link);
	if (s->machine.state != HF_PRIMARY_SUPERSEDED)
		hf_keeper_flush_nets(s->k);
	if (s->is_lease_lost)
		code = HF_KEEPER_EXIT_LEASE_LOST;
	else if (s->machine.state == HF_PRIMARY_SUPERSEDED && !s->was_handed_over)
		code = s->has_vm_died ? HF_KEEPER_EXIT_VM_DIED : HF_KEEPER_EXIT_SUPERSEDED;
	else if (s->has_vm_died || s->k->guest_end == HF_GUEST_END_PANIC)
		code = HF_KEEPER_EXIT_VM_DIED;
	hf_primary_finish(s, code);
}

static void perform_on_vm(struct hf_primary_side *s, const struct hf_primary_action *a)
{
	switch ((unsigned int)a->kind) { /* the other half is perform_on_peer() */
	case HF_PRIMARY_HOLD:
		hf_primary_hold(s, a->epoch);
		break;
	case HF_PRIMARY_PASS:
		hf_primary_pass(s);
		break;
	case HF_PRIMARY_CAPTURE:
		hf_epoch_capture(s, a->epoch, a->resume);
		break;
	case HF_PRIMARY_DROP:
		hf_epoch_drop(s);
		break;
	case HF_PRIMARY_RELEASE:
		release(s, a->epoch);
		break;
	case HF_PRIMARY_DISCARD:
		discard(s);
		break;
	case HF_PRIMARY_FREEZE:
		stand_down(s);
		break;
	case HF_PRIMARY_RESUME:
		hf_primary_run_on(s);
		break;
	case HF_PRIMARY_CUT_DISKS:
		hf_disks_cut(s->k->disks);
		break;
	case HF_PRIMARY_FINISH:
		finish(s);
		break;
	default:
		break;
	}
}

static void perform_on_peer(struct hf_primary_side *s, const struct hf_primary_action *a)
{
	switch ((unsigned int)a->kind) { /* the other half is perform_on_vm() */
	case HF_PRIMARY_BEGIN_SYNC:
		begin_sync(s, a->session, a->lver);
		break;
	case HF_PRIMARY_STOP_SYNC:
		hf_sync_stop(s);
		break;
	case HF_PRIMARY_SEND:
		hf_epoch_send(s);
		break;
	case HF_PRIMARY_SEND_DEAD:
		hf_primary_send_reason(s, HF_WIRE_DEAD, s->death, s->death_text);
		break;
	case HF_PRIMARY_SEND_ENDED:
		send_ended(s);
		break;
	case HF_PRIMARY_SEND_HANDOVER:
		/* The last frames of this side leave before the first ones of the other. */
		hf_keeper_flush_nets(s->k);
		s->was_handed_over = s->k->was_handed_over = true;
		hf_primary_send_mark(s, HF_WIRE_HANDOVER, a->epoch, s->machine.session);
		break;
	case HF_PRIMARY_SEND_ABANDON:
		s->abandoned = a->session;
		hf_primary_send_mark(s, HF_WIRE_ABANDON, 0, a->session);
		break;
	case HF_PRIMARY_ASK_ARBITER:
		hf_primary_ask_arbiter(s, a->lver);
		break;
	case HF_PRIMARY_CANCEL_ARBITER:
		hf_arbiter_cancel(&s->arbiter);
		break;
	case HF_PRIMARY_SEND_LEASE:
		hf_primary_send_lease(s, a->lver);
		break;
	case HF_PRIMARY_REFUSE:
		s->is_refused = true;
		break;
	default:
		break;
	}
}

/* ---- steps ---- */

static const char *const state_texts[HF_PRIMARY_STATE_COUNT] = {
	[HF_PRIMARY_ALONE] = "runs unprotected: there is no standby",
	[HF_PRIMARY_SYNCING] = "synchronising a standby",
	[HF_PRIMARY_PROTECTED] = "protected",
	[HF_PRIMARY_HOLDING] =
		"lost touch with the standby, whose death is not proven: outputs are held",
	[HF_PRIMARY_LEAVING] = "giving up protection: waits for the standby to discard its copy",
	[HF_PRIMARY_HANDING_OVER] = "handing over to the standby",
	[HF_PRIMARY_HANDED_OVER] = "handed over: the VM does not run here any more",
	[HF_PRIMARY_DEAD] = "the VM died here: the standby is to take over",
	[HF_PRIMARY_ENDING] = "the VM ended: waits for the standby to discard its copy",
	[HF_PRIMARY_SUPERSEDED] = "the VM runs on the standby's host now",
	[HF_PRIMARY_FINISHED] = "the VM is gone",
};

const char *hf_primary_state_text(enum hf_primary_state state)
{
	return state_texts[state];
}

/* Protected is who has a standby with a whole epoch, not who is about to fill it: that is said with the
 * first commit, which is no change of state. */
static void announce(struct hf_primary_side *s, enum hf_primary_state before)
{
	enum hf_primary_state state = s->machine.state;
	bool is_protected = state == HF_PRIMARY_PROTECTED && s->machine.committed;
	struct json_object *details;

	if (state == before && is_protected == s->is_told_protected)
		return;
	s->is_told_protected = is_protected;
	details = json_object_new_object();
	json_object_object_add(details, "role", json_object_new_string("primary"));
	json_object_object_add(details, "state",
			       json_object_new_string(hf_primary_state_name(state)));
	json_object_object_add(details, "before",
			       json_object_new_string(hf_primary_state_name(before)));
	json_object_object_add(details, "epoch", json_object_new_uint64(s->machine.committed));
	if (state == HF_PRIMARY_PROTECTED && !is_protected)
		hf_event(&s->k->journal, "protecting", details,
			 "outputs are held: the first epoch is on its way to the standby");
	else
		hf_event(&s->k->journal, hf_primary_state_name(state), details, "%s",
			 state_texts[state]);
}

static void announce_role(struct hf_primary_side *s)
{
	struct json_object *details = json_object_new_object();

	json_object_object_add(details, "role", json_object_new_string("primary"));
	json_object_object_add(details, "state",
			       json_object_new_string(hf_primary_state_name(s->machine.state)));
	hf_event(&s->k->journal, "primary", details, "this is the primary now, unprotected so far");
}

/* A hand-over begins, succeeds, or is called off: what is said of the VM itself. */
static void follow_hand_over(struct hf_primary_side *s, enum hf_primary_state before)
{
	enum hf_primary_state state = s->machine.state;
	bool is_here = state == HF_PRIMARY_PROTECTED || state == HF_PRIMARY_HOLDING ||
		       state == HF_PRIMARY_ALONE;

	if (state == before)
		return;
	if (state == HF_PRIMARY_HANDING_OVER)
		hf_life_note(s->k, HF_VM_EV_HANDING_OVER);
	else if (state == HF_PRIMARY_HANDED_OVER)
		hf_life_note(s->k, HF_VM_EV_HANDED_OVER);
	else if (before == HF_PRIMARY_HANDING_OVER && is_here)
		hf_life_stays(s->k, s->k->is_guest_running || s->checkpoint.was_running);
}

static void step(struct hf_primary_side *s, const struct hf_primary_event *ev)
{
	enum hf_primary_state before = s->machine.state;
	struct hf_primary_actions actions;

	hf_primary_step(&s->machine, ev, &actions);
	announce(s, before);
	follow_hand_over(s, before);
	for (unsigned int i = 0; i < actions.n; i++) {
		perform_on_vm(s, &actions.a[i]);
		perform_on_peer(s, &actions.a[i]);
	}
	hf_primary_follow_lease(s);
	hf_primary_follow_handover(s, before);
	hf_peer_fenced_again(s->k);
}

void hf_primary_feed_event(struct hf_primary_side *s, const struct hf_primary_event *ev)
{
	assert(s->n_queued < HF_PRIMARY_QUEUE);
	s->queue[s->n_queued++] = *ev;
	if (s->is_stepping)
		return;
	s->is_stepping = true;
	while (s->n_queued) {
		struct hf_primary_event next = s->queue[0];

		memmove(s->queue, s->queue + 1, --s->n_queued * sizeof(s->queue[0]));
		step(s, &next);
	}
	s->is_stepping = false;
	hf_epoch_reschedule(s);
}

void hf_primary_feed(struct hf_primary_side *s, enum hf_primary_event_kind kind, uint64_t epoch)
{
	struct hf_primary_event ev = { .kind = kind, .epoch = epoch };

	hf_primary_feed_event(s, &ev);
}

void hf_primary_feed_session(struct hf_primary_side *s, enum hf_primary_event_kind kind,
			     struct hf_id session)
{
	struct hf_primary_event ev = { .kind = kind, .session = session };

	hf_primary_feed_event(s, &ev);
}

/* ---- the guest ---- */

static void on_qmp_event(void *role, const char *name, struct json_object *data,
			 uint64_t timestamp_us)
{
	struct hf_primary_side *s = role;

	hf_epoch_qmp_event(s, name, data, timestamp_us);
	hf_primary_stop_for_fault(s);
	if (strcmp(name, "BLOCK_IO_ERROR") == 0)
		hf_primary_on_io_error(s, data);
	if (strcmp(name, "RESUME") == 0 || strcmp(name, "STOP") == 0)
		hf_epoch_reschedule(s);
}

static void on_guest_gone(void *role, const struct hf_process_exit *how)
{
	struct hf_primary_side *s = role;
	char text[HF_PROCESS_EXIT_TEXT];
	/* QEMU 10.0 may abort when it is ended in the middle of a migration, which an epoch is: that the VM
	 * was to end has been said before. */
	bool is_end = s->k->guest_end != HF_GUEST_END_UNKNOWN;

	hf_checkpoint_abort(&s->checkpoint);
	hf_sync_stop(s);
	s->death = how->is_signal ? HF_WIRE_DEATH_QEMU_KILLED : HF_WIRE_DEATH_QEMU_EXITED;
	(void)snprintf(s->death_text, sizeof(s->death_text), "QEMU %s",
		       hf_process_exit_format(how, text, sizeof(text)));
	if (s->machine.state == HF_PRIMARY_HANDED_OVER || s->machine.state == HF_PRIMARY_SUPERSEDED)
		return; /* it was us */
	/* Before the standby sends the same frames again, so that none overtakes a later one. */
	hf_keeper_flush_nets(s->k);
	s->has_vm_died = !is_end;
	hf_event(&s->k->journal, is_end ? "guest-ended" : "guest-died", NULL, "%s", s->death_text);
	hf_primary_feed(s, is_end ? HF_PRIMARY_VM_ENDED : HF_PRIMARY_VM_DIED, 0);
}

static void on_first_held(void *role)
{
	struct hf_primary_side *s = role;

	hf_pace_output_held(&s->pace);
	hf_epoch_reschedule(s);
}

static void on_over_limit(void *role)
{
	struct hf_primary_side *s = role;

	s->early_commits++;
	hf_pace_over_bound(&s->pace);
	hf_epoch_reschedule(s);
}

/* ---- being frozen ---- */

static bool on_freeze(void *role)
{
	struct hf_primary_side *s = role;

	s->is_freezing = true;
	hf_checkpoint_hold(&s->checkpoint);
	hf_sync_stop(s);
	hf_timer_set(&s->pace_timer, &s->k->loop, UINT64_MAX, s->pace_timer.fire, s);
	return s->checkpoint.step == HF_CHECKPOINT_IDLE;
}

static bool on_hold(void *role, bool is_held)
{
	struct hf_primary_side *s = role;

	s->is_held = is_held;
	if (is_held && s->sync.step != HF_SYNC_OFF)
		hf_primary_drop_link(s, "the VM is being saved or dumped");
	if (!is_held)
		hf_epoch_reschedule(s);
	return s->checkpoint.step == HF_CHECKPOINT_IDLE;
}

static bool is_guests_own(enum hf_vm_cause cause)
{
	return cause == HF_VM_CAUSE_PANIC || cause == HF_VM_CAUSE_WATCHDOG;
}

static void on_frozen(void *role)
{
	struct hf_primary_side *s = role;
	const struct hf_certificate *c = &s->k->freezer->certificate;
	bool is_ours = s->machine.state != HF_PRIMARY_HANDED_OVER &&
		       s->machine.state != HF_PRIMARY_SUPERSEDED;

	if (!s->has_vm_died && is_ours) {
		hf_checkpoint_abort(&s->checkpoint);
		s->has_vm_died = true;
		s->death = is_guests_own(c->cause) ? HF_WIRE_DEATH_GUEST : HF_WIRE_DEATH_FROZEN;
		(void)snprintf(s->death_text, sizeof(s->death_text), "frozen: %.80s",
			       c->cause_text);
		hf_primary_feed(s, HF_PRIMARY_VM_DIED, 0);
	}
	if (s->is_end_due)
		hf_primary_end(s);
}

static bool has_standby(void *role)
{
	const struct hf_primary_side *s = role;

	return s->machine.state == HF_PRIMARY_PROTECTED && s->machine.committed;
}

static void on_rest(void *role)
{
	struct hf_primary_side *s = role;

	hf_timer_fini(&s->beat_timer);
	hf_timer_fini(&s->dial_timer);
	hf_timer_fini(&s->pace_timer);
	hf_timer_fini(&s->fence_timer);
	hf_arbiter_fini(&s->arbiter);
	hf_watch_remove(&s->link_watch);
	hf_link_free(s->link);
	s->link = NULL;
}

/* Then what it has is to go on from, and nothing of here may reach the disks. One that is being filled has
 * nothing: what the guest wrote last is in nobody else's hands. */
static bool is_pledged(void *role)
{
	const struct hf_primary_side *s = role;
	bool is_filling = s->machine.state == HF_PRIMARY_SYNCING;

	return (!hf_id_is_none(s->machine.session) && !is_filling) ||
	       s->machine.state == HF_PRIMARY_SUPERSEDED ||
	       s->machine.state == HF_PRIMARY_HANDED_OVER;
}

static bool is_own_standstill(void *role)
{
	const struct hf_primary_side *s = role;

	return s->checkpoint.step != HF_CHECKPOINT_IDLE || s->sync.step == HF_SYNC_STOPPING ||
	       hf_saver_is_at_work(s->k) || hf_dumper_is_at_work(s->k);
}

static bool is_standing_for_lease(void *role)
{
	const struct hf_primary_side *s = role;

	return s->is_fenced;
}

static const struct hf_role_ops role_ops = {
	.on_qmp_event = on_qmp_event,
	.on_guest_gone = on_guest_gone,
	.on_first_held = on_first_held,
	.on_over_limit = on_over_limit,
	.on_signal = hf_primary_order_signal,
	.add_status = hf_primary_add_status,
	.promote = hf_primary_order_promote,
	.stop = hf_primary_order_stop,
	.resume = hf_primary_order_resume,
	.pause = hf_primary_order_pause,
	.hand_over = hf_primary_order_handover,
	.see_peer = hf_primary_see_peer,
	.peer_dead = hf_primary_peer_dead,
	.freeze = on_freeze,
	.hold = on_hold,
	.frozen = on_frozen,
	.rest = on_rest,
	.has_standby = has_standby,
	.is_pledged = is_pledged,
	.is_own_standstill = is_own_standstill,
	.is_standing_for_lease = is_standing_for_lease,
};

/* Copying is bound by memory, which a few processors use up. */
static unsigned int copy_threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > 4 ? 4 : (unsigned int)n;
}

static int open_tracker(struct hf_keeper *k, struct hf_tracker **ret, struct hf_err *err)
{
	const struct hf_report *report = hf_guest_report(k->guest);
	struct hf_tracker_config config = {
		.pid = (pid_t)report->pid,
		.address = report->address,
		.length_bytes = report->length_bytes,
		.file_offset_bytes = report->file_offset_bytes,
		.tracking_errno = report->tracking_errno,
		.mode = (enum hf_tracker_mode)k->set->tracking,
		.n_threads = k->set->thread_count,
	};

	return hf_tracker_open(&config, ret, err);
}

int hf_primary_check_tracking(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_tracker *tracker;
	int r = open_tracker(k, &tracker, err);

	if (r == 0)
		hf_tracker_close(tracker);
	return r;
}

static int open_tracking(struct hf_primary_side *s, struct hf_err *err)
{
	unsigned int n = s->k->set->thread_count ? s->k->set->thread_count : copy_threads();
	int r = open_tracker(s->k, &s->tracker, err);

	if (r < 0)
		return r;
	r = hf_pool_new(n, &s->pool);
	if (!r)
		r = hf_pages_new(hf_guest_ram(s->k->guest), s->pool, s->k->set->epoch_memory_bytes,
				 &s->pages);
	if (!r)
		r = hf_pages_new(hf_guest_ram(s->k->guest), s->pool, HF_SYNC_AHEAD_BYTES,
				 &s->sync_pages);
	if (r < 0)
		hf_err_set(err, "cannot prepare the copying of pages: %s", strerror(-r));
	return r;
}

int hf_primary_side_start(struct hf_keeper *k, uint64_t last_epoch, struct hf_inbox *resend,
			  struct hf_err *err)
{
	struct hf_primary_side *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->k = k;
	s->resend = resend;
	hf_primary_init(&s->machine, last_epoch);
	hf_primary_watch_disks(s);
	hf_primary_start_lease(s);
	s->released = s->let_out = last_epoch;
	r = hf_epoch_init(s, err);
	if (r < 0) {
		free(s); /* the inbox stays the caller's */
		return r;
	}
	k->role = s;
	k->ops = &role_ops;
	hf_primary_pass(s);
	if (k->meetings)
		hf_primary_answer_peers(s);
	announce_role(s);
	hf_life_begin(k, k->set->role == HF_ROLE_STANDBY);
	r = open_tracking(s, err);
	if (r < 0)
		s->why_unprotectable = strdup(err->text);
	if (r < 0 || !k->meetings)
		return r;
	hf_primary_look_for_standby(s);
	return 0;
}

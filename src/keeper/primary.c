/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The primary's driver: the peer, the machine's actions, the guest's end. Epochs are epoch.c's, the
 * first copy is sync.c's.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "keeper/primary-side.h"

#define REDIAL_SOON_NS 2000000ull
#define REDIAL_AGAIN_NS 1000000000ull

/* ---- the connection ---- */

static void forget_link(struct hf_primary_side *s)
{
	struct hf_link *link = s->link;

	if (!link)
		return;
	hf_watch_remove(&s->link_watch);
	s->link = NULL;
	hf_link_free(link);
	if (s->k->disks)
		hf_disks_copy_link_lost(s->k->disks);
	s->work.has_begun = false;
	s->work.sent_pages = 0;
	hf_epoch_link_moved(s);
	hf_epoch_copy_moved(s);
	/* Who is gone answers with a closed port: that is the proof that is looked for at once. */
	s->redial_ns = REDIAL_SOON_NS;
	hf_timer_set(&s->dial_timer, &s->k->loop, 0, s->dial_timer.fire, s);
}

void hf_primary_drop_link(struct hf_primary_side *s, const char *why)
{
	if (!s->link)
		return;
	if (s->is_dispatching) {
		s->is_link_doomed = true;
		return;
	}
	hf_log(&s->k->journal, HF_LOG_INFO, "connection to %s dropped: %s",
	       hf_meetings_peer_text(s->k->meetings), why);
	forget_link(s);
	hf_primary_feed(s, HF_PRIMARY_LINK_DOWN, 0);
}

void hf_primary_say(struct hf_primary_side *s, const struct hf_wire_msg *msg)
{
	struct hf_err err;

	if (!s->link)
		return;
	s->said_ns = hf_now_ns();
	if (hf_link_send(s->link, msg, &err) < 0)
		hf_primary_drop_link(s, err.text);
}

static void send_mark(struct hf_primary_side *s, enum hf_wire_type type, uint64_t epoch,
		      struct hf_id session)
{
	struct hf_wire_msg msg = { .type = type, .mark = { .epoch = epoch, .session = session } };

	hf_primary_say(s, &msg);
}

static void send_reason(struct hf_primary_side *s, enum hf_wire_type type, uint32_t code,
			const char *text)
{
	struct hf_wire_msg msg = { .type = type, .reason = { .code = code, .text = text } };

	hf_primary_say(s, &msg);
}

/* ---- what the machine wants done ---- */

static void on_arbiter(void *ctx, bool is_granted)
{
	hf_primary_feed(ctx, is_granted ? HF_PRIMARY_ARBITER_GRANTED : HF_PRIMARY_ARBITER_DENIED,
			0);
}

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

static void begin_sync(struct hf_primary_side *s, struct hf_id session)
{
	uint64_t ram = hf_guest_ram(s->k->guest)->size_bytes;
	struct hf_wire_msg msg = {
		.type = HF_WIRE_SYNC_BEGIN,
		.sync_begin = {
			.session = session,
			.ram_bytes = ram,
			.pages = ram / HF_WIRE_PAGE_BYTES,
			.disks = hf_primary_copy_kind(s),
		},
	};

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

	send_reason(s, HF_WIRE_ENDED, endings[s->k->guest_end].code, endings[s->k->guest_end].text);
}

static void freeze(struct hf_primary_side *s)
{
	int r = hf_guest_kill(s->k->guest);

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
	if (s->machine.state == HF_PRIMARY_SUPERSEDED && !s->was_handed_over)
		code = s->has_vm_died ? HF_KEEPER_EXIT_VM_DIED : HF_KEEPER_EXIT_SUPERSEDED;
	else if (s->has_vm_died)
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
		freeze(s);
		break;
	case HF_PRIMARY_RESUME:
		hf_keeper_qmp(s->k, "cont");
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
		begin_sync(s, a->session);
		break;
	case HF_PRIMARY_STOP_SYNC:
		hf_sync_stop(s);
		break;
	case HF_PRIMARY_SEND:
		hf_epoch_send(s);
		break;
	case HF_PRIMARY_SEND_DEAD:
		send_reason(s, HF_WIRE_DEAD, s->death, s->death_text);
		break;
	case HF_PRIMARY_SEND_ENDED:
		send_ended(s);
		break;
	case HF_PRIMARY_SEND_HANDOVER:
		/* The last frames of this side leave before the first ones of the other. */
		hf_keeper_flush_nets(s->k);
		s->was_handed_over = true;
		send_mark(s, HF_WIRE_HANDOVER, a->epoch, s->machine.session);
		break;
	case HF_PRIMARY_SEND_ABANDON:
		s->abandoned = a->session;
		send_mark(s, HF_WIRE_ABANDON, 0, a->session);
		break;
	case HF_PRIMARY_ASK_ARBITER:
		hf_arbiter_ask(&s->arbiter, s->machine.session, s->heard_ns, on_arbiter, s);
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

static void step(struct hf_primary_side *s, const struct hf_primary_event *ev)
{
	enum hf_primary_state before = s->machine.state;
	struct hf_primary_actions actions;

	hf_primary_step(&s->machine, ev, &actions);
	announce(s, before);
	for (unsigned int i = 0; i < actions.n; i++) {
		perform_on_vm(s, &actions.a[i]);
		perform_on_peer(s, &actions.a[i]);
	}
}

static void feed_event(struct hf_primary_side *s, const struct hf_primary_event *ev)
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

	feed_event(s, &ev);
}

static void feed_session(struct hf_primary_side *s, enum hf_primary_event_kind kind,
			 struct hf_id session)
{
	struct hf_primary_event ev = { .kind = kind, .session = session };

	feed_event(s, &ev);
}

/* ---- what the standby says ---- */

static void heard(struct hf_primary_side *s)
{
	s->heard_ns = hf_now_ns();
	if (!s->machine.is_peer_silent)
		return;
	hf_arbiter_cancel(&s->arbiter);
	hf_primary_feed(s, HF_PRIMARY_PEER_HEARD, 0);
}

static void on_discarded(struct hf_primary_side *s, struct hf_id session)
{
	if (hf_id_is_equal(session, s->abandoned))
		s->abandoned = (struct hf_id){ 0 };
	feed_session(s, HF_PRIMARY_PEER_DISCARDED, session);
	hf_primary_drop_link(s, "the standby has discarded its copy");
}

static void on_control(struct hf_primary_side *s, const struct hf_wire_msg *msg)
{
	struct hf_wire_msg pong = { .type = HF_WIRE_PONG, .ping = msg->ping };

	switch ((unsigned int)msg->type) { /* whatever else is said here is out of place */
	case HF_WIRE_ACK:
		hf_primary_feed(s, HF_PRIMARY_ACK, msg->mark.epoch);
		break;
	case HF_WIRE_PING:
		hf_primary_say(s, &pong);
		break;
	case HF_WIRE_PONG:
		if (s->k->disks) /* it has heard of us since we sent that */
			hf_disks_permit(s->k->disks,
					msg->ping.time_ns + s->k->set->peer_timeout_ns);
		break;
	case HF_WIRE_SYNC_DONE:
		if (s->k->disks)
			hf_disks_copy_confirmed(s->k->disks, msg->mark.sync_mark);
		hf_sync_disks_moved(s);
		break;
	case HF_WIRE_SETTLED:
		if (s->k->disks)
			hf_disks_peer_settled(s->k->disks, msg->mark.epoch);
		break;
	case HF_WIRE_DISCARDED:
		on_discarded(s, msg->mark.session);
		break;
	case HF_WIRE_PROMOTED:
		feed_session(s, HF_PRIMARY_PEER_PROMOTED, msg->mark.session);
		break;
	case HF_WIRE_HANDOVER_REQUEST:
		hf_log(&s->k->journal, HF_LOG_INFO, "the standby asks to take over");
		hf_primary_feed(s, HF_PRIMARY_HANDOVER_WANTED, 0);
		break;
	case HF_WIRE_ERROR:
	case HF_WIRE_REFUSE:
		hf_primary_drop_link(s, msg->reason.text);
		hf_log(&s->k->journal, HF_LOG_ERROR, "the standby says: %s", msg->reason.text);
		break;
	default:
		hf_primary_drop_link(s, "it sent a message that a standby does not send");
		break;
	}
}

static bool on_message(void *ctx, const struct hf_wire_view *view)
{
	struct hf_primary_side *s = ctx;
	struct hf_wire_msg msg;
	struct hf_err err = { "a message that a standby does not send" };

	heard(s);
	if (!hf_wire_may_send(HF_WIRE_ROLE_STANDBY, view->type) ||
	    hf_wire_decode(view, &msg, &err) < 0) {
		hf_log(&s->k->journal, HF_LOG_ERROR, "the standby sent nonsense: %s", err.text);
		hf_primary_drop_link(s, err.text);
	} else {
		on_control(s, &msg);
	}
	return !s->is_link_doomed;
}

/* Who fills and sends in turns is called again also if the link took the last turn whole. */
static uint32_t link_wanted(void *ctx)
{
	const struct hf_primary_side *s = ctx;
	bool has_more = s->work.is_overflowing || s->sync.step == HF_SYNC_COPYING;

	return hf_link_events(s->link) | (has_more ? EPOLLOUT : 0u);
}

static void link_ready(void *ctx, uint32_t revents)
{
	struct hf_primary_side *s = ctx;
	struct hf_err err = { "" };
	int r;

	s->is_dispatching = true;
	r = hf_link_dispatch(s->link, revents, on_message, s, &err);
	s->is_dispatching = false;
	if (r || s->is_link_doomed) {
		s->is_link_doomed = false;
		hf_primary_drop_link(s, err.text[0] ? err.text : "given up");
		return;
	}
	hf_epoch_link_moved(s);
	hf_epoch_copy_moved(s);
	hf_sync_link_moved(s);
}

/* ---- keeping in touch ---- */

static void beat(void *ctx)
{
	struct hf_primary_side *s = ctx;
	uint64_t now_ns = hf_now_ns();
	uint64_t period_ns = s->k->set->peer_timeout_ns / 4;
	struct hf_wire_msg ping = { .type = HF_WIRE_PING, .ping = { .time_ns = now_ns } };

	if (s->link && now_ns - s->said_ns >= period_ns && !hf_link_bulk_pending(s->link))
		hf_primary_say(s, &ping);
	if (s->link && !s->machine.is_peer_silent &&
	    now_ns - s->heard_ns > s->k->set->peer_timeout_ns)
		hf_primary_feed(s, HF_PRIMARY_PEER_SILENT, 0);
	/* TCP would try less and less often, and notice only minutes later that a cut cable has healed; and
	 * a standby that has hung while it was filled keeps another one out. */
	if (s->link && now_ns - s->heard_ns > s->k->set->peer_timeout_ns * HF_MEETING_SILENCE_MAX)
		hf_primary_drop_link(s, "the standby has fallen silent");
	hf_timer_set(&s->beat_timer, &s->k->loop, now_ns + period_ns, beat, s);
}

static void on_dial_timer(void *ctx)
{
	struct hf_primary_side *s = ctx;

	if (!s->link && s->k->meetings && s->machine.state != HF_PRIMARY_FINISHED &&
	    s->machine.state != HF_PRIMARY_SUPERSEDED)
		hf_meetings_dial(s->k->meetings);
}

/* Soon at first: a dying process may close its connection a little before its port. */
static void dial_later(struct hf_primary_side *s)
{
	hf_timer_set(&s->dial_timer, &s->k->loop, hf_now_ns() + s->redial_ns, on_dial_timer, s);
	s->redial_ns = s->redial_ns * 2 < REDIAL_AGAIN_NS ? s->redial_ns * 2 : REDIAL_AGAIN_NS;
}

static void missed(void *ctx, enum hf_meeting_miss why, const char *text)
{
	struct hf_primary_side *s = ctx;

	if (strncmp(s->last_miss, text, sizeof(s->last_miss) - 1) != 0)
		hf_log(&s->k->journal, HF_LOG_INFO,
		       "no standby at %s: %s; trying again every second",
		       hf_meetings_peer_text(s->k->meetings), text);
	(void)snprintf(s->last_miss, sizeof(s->last_miss), "%s", text);
	if (why == HF_MEETING_REFUSED_PORT && !hf_id_is_none(s->machine.session))
		hf_primary_feed(s, HF_PRIMARY_PEER_DEAD, 0);
	if (why == HF_MEETING_REFUSED_PORT)
		s->abandoned = (struct hf_id){ 0 };
	dial_later(s);
}

/* Another primary. If its state is the one that we were promoted from, it is to learn so. */
static void meet_primary(struct hf_primary_side *s, struct hf_link *link,
			 const struct hf_wire_hello *theirs)
{
	struct hf_keeper *k = s->k;
	struct hf_wire_msg msg = {
		.type = HF_WIRE_PROMOTED,
		.mark = { .epoch = k->promoted_epoch, .session = k->promoted_session },
	};

	if (!hf_id_is_none(k->promoted_session) &&
	    hf_id_is_equal(theirs->session, k->promoted_session)) {
		(void)!hf_link_send(link, &msg, NULL);
		hf_log(&k->journal, HF_LOG_INFO, "told the old primary that the VM runs here now");
	} else if (strcmp(s->last_miss, "another primary") != 0) {
		(void)snprintf(s->last_miss, sizeof(s->last_miss), "another primary");
		hf_event(
			&k->journal, "conflict", NULL,
			"%s runs this VM too, and not from a state that was ours: stop one of them",
			hf_meetings_peer_text(k->meetings));
	}
}

/* True: @link is the connection to our standby now. */
static bool adopt(struct hf_primary_side *s, struct hf_link *link,
		  const struct hf_wire_hello *theirs)
{
	struct hf_primary_event ev = {
		.kind = HF_PRIMARY_LINK_UP,
		.session = theirs->session,
		.epoch = theirs->epoch,
		.fresh = hf_keeper_new_id(),
	};

	if (!hf_id_is_none(s->machine.session) &&
	    !hf_id_is_equal(theirs->session, s->machine.session))
		feed_session(s, HF_PRIMARY_PEER_DISCARDED, s->machine.session);
	s->peer_disk_condition = theirs->disk_condition;
	s->peer_disk_session = theirs->disk_session;
	s->link = link;
	if (hf_watch_add(&s->link_watch, &s->k->loop, hf_link_fd(link), HF_PRIORITY_LINK,
			 link_wanted, link_ready, s) < 0) {
		s->link = NULL;
		return false;
	}
	s->heard_ns = s->said_ns = hf_now_ns();
	s->is_refused = false;
	s->last_miss[0] = '\0';
	s->is_dispatching =
		true; /* whoever drops the link meanwhile must wait: it is not ours yet */
	feed_event(s, &ev);
	s->is_dispatching = false;
	if (!s->is_refused) {
		hf_arbiter_cancel(&s->arbiter);
		return true;
	}
	hf_watch_remove(&s->link_watch);
	s->link = NULL;
	s->is_link_doomed = false;
	return false;
}

static bool met(void *ctx, struct hf_link *link, const struct hf_wire_hello *theirs,
		bool we_dialled)
{
	struct hf_primary_side *s = ctx;
	struct hf_wire_msg abandon = { .type = HF_WIRE_ABANDON,
				       .mark = { .session = s->abandoned } };

	if (theirs->role == HF_WIRE_ROLE_PRIMARY) {
		meet_primary(s, link, theirs);
	} else if (we_dialled && !s->link) {
		if (!hf_id_is_none(s->abandoned) && hf_id_is_equal(theirs->session, s->abandoned) &&
		    hf_id_is_none(s->machine.session)) {
			(void)!hf_link_send(link, &abandon, NULL);
		} else if (adopt(s, link, theirs)) {
			link_ready(s, EPOLLIN);
			return true;
		}
	}
	if (we_dialled)
		dial_later(s);
	return false;
}

static void told(void *ctx, enum hf_wire_type what, const struct hf_wire_mark *mark)
{
	if (what == HF_WIRE_PROMOTED)
		feed_session(ctx, HF_PRIMARY_PEER_PROMOTED, mark->session);
}

/* To an inquiry that it made while it was the standby; as long as that was open it could not dial. */
static void learnt(void *ctx, const struct hf_wire_hello *theirs __attribute__((unused)))
{
	struct hf_primary_side *s = ctx;

	hf_timer_set(&s->dial_timer, &s->k->loop, 0, on_dial_timer, s);
}

static enum hf_wire_vm_state wire_state(const struct hf_primary_side *s)
{
	static const enum hf_wire_vm_state states[HF_PRIMARY_STATE_COUNT] = {
		[HF_PRIMARY_ALONE] = HF_WIRE_VM_ALONE,
		[HF_PRIMARY_SYNCING] = HF_WIRE_VM_SYNCING,
		[HF_PRIMARY_PROTECTED] = HF_WIRE_VM_PROTECTED,
		[HF_PRIMARY_HOLDING] = HF_WIRE_VM_HOLDING,
		[HF_PRIMARY_LEAVING] = HF_WIRE_VM_LEAVING,
		[HF_PRIMARY_HANDING_OVER] = HF_WIRE_VM_HANDING_OVER,
		[HF_PRIMARY_HANDED_OVER] = HF_WIRE_VM_HANDED_OVER,
		[HF_PRIMARY_DEAD] = HF_WIRE_VM_DEAD,
		[HF_PRIMARY_ENDING] = HF_WIRE_VM_ENDED,
		[HF_PRIMARY_SUPERSEDED] = HF_WIRE_VM_SUPERSEDED,
		[HF_PRIMARY_FINISHED] = HF_WIRE_VM_ENDED,
	};

	return states[s->machine.state];
}

static void describe(void *ctx, struct hf_wire_hello *ret)
{
	struct hf_primary_side *s = ctx;

	hf_keeper_describe(s->k, ret);
	ret->role = HF_WIRE_ROLE_PRIMARY;
	ret->state = wire_state(s);
	ret->session = s->machine.session;
	ret->epoch = s->machine.committed;
}

static const struct hf_meeting_ops meeting_ops = {
	.describe = describe,
	.met = met,
	.missed = missed,
	.learnt = learnt,
	.told = told,
};

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
	s->released = s->let_out = last_epoch;
	s->arbiter = (struct hf_arbiter){
		.loop = &k->loop,
		.grants = k->set->on_peer_loss == HF_ON_PEER_LOSS_PROMOTE,
		.patience_ns = k->set->peer_timeout_ns,
	};
	s->dial_timer.fire = on_dial_timer;
	s->redial_ns = REDIAL_SOON_NS;
	r = hf_epoch_init(s, err);
	if (r < 0) {
		free(s); /* the inbox stays the caller's */
		return r;
	}
	k->role = s;
	k->ops = &role_ops;
	hf_primary_pass(s);
	if (k->meetings)
		hf_meetings_set_ops(k->meetings, &meeting_ops, s);
	announce_role(s);
	r = open_tracking(s, err);
	if (r < 0)
		s->why_unprotectable = strdup(err->text);
	if (r < 0 || !k->meetings)
		return r;
	beat(s);
	hf_timer_set(&s->dial_timer, &k->loop, hf_now_ns(), on_dial_timer, s);
	return 0;
}

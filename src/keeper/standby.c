/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby's driver.
 *
 * Theory of operation. The primary dials; what it sends goes through the inbox, which says when an
 * epoch is whole. When the connection is lost, the primary's host is asked (an inquiry to its port):
 * refused, or answered by another instance, is the proof of death that promotes. An inquiry is made
 * also while all is well, right after the primary has come: if its address does not lead to the very
 * keeper that we are connected to, then a closed port there would prove nothing, and is not taken
 * for a proof.
 *
 * Promotion: QEMU has been waiting in `migrate-incoming` since its start. It is fed the device state
 * of the last whole epoch, byte for byte; meanwhile the frames that the primary may not have sent are
 * sent again. With QEMU's RESUME this keeper becomes the primary.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/histogram.h"
#include "cluster/inbox.h"
#include "codec/json.h"
#include "keeper/arbiter.h"
#include "keeper/primary.h"
#include "keeper/standby.h"
#include "sys/fd.h"

#define INQUIRE_SOON_NS 2000000ull
#define INQUIRE_AGAIN_NS 1000000000ull
#define QUEUE 16

struct standby_side {
	struct hf_keeper *k;
	struct hf_standby machine;
	struct hf_standby_event queue[QUEUE];
	unsigned int n_queued;
	bool is_stepping;

	struct hf_arbiter arbiter;
	struct hf_inbox *inbox;
	struct hf_link *link; /* NULL: none */
	struct hf_watch link_watch;
	bool is_dispatching;
	bool is_link_doomed;
	bool is_refused;
	bool is_silent;
	uint64_t heard_ns;
	uint64_t said_ns;
	struct hf_timer beat_timer;
	struct hf_timer inquiry_timer;
	uint64_t inquiry_wait_ns;

	struct hf_id primary; /* instance of the keeper that our session is with */
	bool is_address_verified; /* its address leads to it: a closed port there is proof */
	bool has_told_unverified;

	int load_fd; /* the device state goes in here */
	struct hf_watch load_watch;
	size_t loaded_bytes;
	uint64_t proof_ns; /* when the promotion was decided */
	uint64_t whole_ns; /* when the last epoch was */
	bool is_order_refused;
	struct hf_timer live_timer;
};

static void feed(struct standby_side *s, enum hf_standby_event_kind kind, uint64_t epoch,
		 struct hf_id session);

static const struct hf_id none;

/* ---- the connection ---- */

static void drop_link(struct standby_side *s, enum hf_standby_event_kind kind, const char *why)
{
	if (!s->link)
		return;
	if (s->is_dispatching) {
		s->is_link_doomed = true;
		return;
	}
	hf_log(&s->k->journal, HF_LOG_INFO, "connection from the primary ended: %s", why);
	hf_watch_remove(&s->link_watch);
	hf_link_free(s->link);
	s->link = NULL;
	s->is_silent = false;
	feed(s, kind, 0, none);
}

static void send_msg(struct standby_side *s, const struct hf_wire_msg *msg)
{
	struct hf_err err;

	if (!s->link)
		return;
	s->said_ns = hf_now_ns();
	if (hf_link_send(s->link, msg, &err) < 0)
		drop_link(s, HF_STANDBY_LINK_DOWN, err.text);
}

static void send_mark(struct standby_side *s, enum hf_wire_type type, uint64_t epoch,
		      struct hf_id session)
{
	struct hf_wire_msg msg = { .type = type, .mark = { .epoch = epoch, .session = session } };

	send_msg(s, &msg);
}

static void send_error(struct standby_side *s, enum hf_wire_refusal code, const char *text)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_ERROR,
				   .reason = { .code = code, .text = text } };

	send_msg(s, &msg);
}

/* ---- proof of death ---- */

static void on_inquiry_timer(void *ctx)
{
	struct standby_side *s = ctx;

	if (s->machine.state == HF_STANDBY_LOST || s->machine.state == HF_STANDBY_READY ||
	    s->machine.state == HF_STANDBY_SYNCING)
		hf_meetings_inquire(s->k->meetings);
}

static void inquire_in(struct standby_side *s, uint64_t wait_ns)
{
	hf_timer_set(&s->inquiry_timer, &s->k->loop, hf_now_ns() + wait_ns, on_inquiry_timer, s);
}

/* Soon at first: a dying process may close its connection a little before its port. */
static void inquire_again(struct standby_side *s)
{
	inquire_in(s, s->inquiry_wait_ns);
	s->inquiry_wait_ns = s->inquiry_wait_ns * 2 < INQUIRE_AGAIN_NS ? s->inquiry_wait_ns * 2
								       : INQUIRE_AGAIN_NS;
}

static void on_proof(struct standby_side *s, const char *what)
{
	if (s->machine.state != HF_STANDBY_LOST)
		return;
	if (!s->is_address_verified) {
		if (!s->has_told_unverified)
			hf_event(&s->k->journal, "no-proof", NULL,
				 "%s, but that address never led to our primary, so it proves "
				 "nothing; if the "
				 "primary is dead, order `holdfast promote --force`",
				 what);
		s->has_told_unverified = true;
		return;
	}
	hf_event(&s->k->journal, "primary-dead", NULL, "the primary is dead: %s", what);
	feed(s, HF_STANDBY_PEER_DEAD, 0, none);
}

static void missed(void *ctx, enum hf_meeting_miss why, const char *text)
{
	struct standby_side *s = ctx;

	if (s->machine.state == HF_STANDBY_LOST) {
		if (why == HF_MEETING_REFUSED_PORT)
			on_proof(s, "its host says that nothing listens on its port");
		else if (why == HF_MEETING_NO_ANSWER)
			hf_log(&s->k->journal, HF_LOG_DEBUG, "the primary's host: %s", text);
	} else if (s->link && !s->is_address_verified && !s->has_told_unverified) {
		s->has_told_unverified = true;
		hf_event(&s->k->journal, "unverified", NULL,
			 "the primary cannot be reached at %s (%s): its death could not be proven, "
			 "so there "
			 "would be no failover by itself",
			 hf_meetings_peer_text(s->k->meetings), text);
	}
	inquire_again(s);
}

static void learnt(void *ctx, const struct hf_wire_hello *theirs)
{
	struct standby_side *s = ctx;
	bool is_ours = hf_id_is_equal(theirs->instance, s->primary);

	if (s->machine.state == HF_STANDBY_LOST && !is_ours) {
		on_proof(s, "another keeper has its port now");
	} else if (is_ours && s->link) {
		s->is_address_verified = true;
		return;
	} else if (is_ours && s->machine.state == HF_STANDBY_LOST) {
		hf_log(&s->k->journal, HF_LOG_DEBUG,
		       "the primary lives: waiting for it to connect again");
	}
	inquire_again(s);
}

/* ---- promotion ---- */

static void send_again(void *ctx, unsigned int netdev, const uint8_t *frame, size_t len)
{
	struct standby_side *s = ctx;

	if (netdev < hf_guest_net_count(s->k->guest))
		(void)!hf_nettap_inject(hf_guest_net(s->k->guest, netdev), frame, len, NULL);
}

static void on_load_failed(struct standby_side *s, const char *why)
{
	hf_event(&s->k->journal, "load-failed", NULL, "QEMU could not load the VM's state: %s",
		 why);
	hf_watch_remove(&s->load_watch);
	hf_fd_close(&s->load_fd);
	feed(s, HF_STANDBY_LOAD_FAILED, 0, none);
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_FAILED);
}

static uint32_t load_wanted(void *ctx __attribute__((unused)))
{
	return EPOLLOUT;
}

static void load_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct standby_side *s = ctx;
	size_t len;
	size_t n;
	const uint8_t *state = hf_inbox_state(s->inbox, &len);
	int r = 0;

	while (!r && s->loaded_bytes < len) {
		r = hf_fd_send(s->load_fd, state + s->loaded_bytes, len - s->loaded_bytes, &n);
		if (!r)
			s->loaded_bytes += n;
	}
	if (r == HF_FD_AGAIN)
		return;
	hf_watch_remove(&s->load_watch);
	hf_fd_close(&s->load_fd); /* its end is the stream's end */
	if (r < 0)
		on_load_failed(s, strerror(-r));
}

static void promote(struct standby_side *s)
{
	s->proof_ns = hf_now_ns();
	s->load_fd = hf_guest_take_incoming_fd(s->k->guest);
	if (hf_watch_add(&s->load_watch, &s->k->loop, s->load_fd, HF_PRIORITY_VM, load_wanted,
			 load_ready, s) < 0) {
		on_load_failed(s, "cannot wait for it");
		return;
	}
	load_ready(s, EPOLLOUT);
	hf_keeper_set_net_mode(s->k, HF_NETTAP_PASS);
	if (s->k->set->may_resend)
		hf_inbox_each_frame(s->inbox, send_again, s);
}

static void become_primary(struct standby_side *s);

static void on_live_timer(void *ctx)
{
	become_primary(ctx);
}

static void go_live(struct standby_side *s)
{
	struct json_object *details = json_object_new_object();
	uint64_t took_ns = hf_now_ns() - s->proof_ns;

	s->k->promoted_session = s->machine.session;
	s->k->promoted_epoch = s->machine.epoch;
	json_object_object_add(details, "epoch", json_object_new_uint64(s->machine.epoch));
	json_object_object_add(details, "took_ns", json_object_new_uint64(took_ns));
	hf_event(&s->k->journal, "live", details,
		 "the VM runs here, from epoch %" PRIu64 ", %.1f ms after the "
		 "decision",
		 s->machine.epoch, (double)took_ns / 1e6);
	feed(s, HF_STANDBY_LIVE, 0, none);
	/* Not from within the QMP session's dispatch, whose events change hands. */
	hf_timer_set(&s->live_timer, &s->k->loop, 0, on_live_timer, s);
}

static void on_qmp_event(void *role, const char *name, struct json_object *data,
			 uint64_t timestamp_us __attribute__((unused)))
{
	struct standby_side *s = role;
	const char *status;
	bool is_completed = false;

	if (s->machine.state != HF_STANDBY_PROMOTING)
		return;
	if (strcmp(name, "MIGRATION") == 0 && hf_json_str(data, "status", &status, NULL) == 0) {
		is_completed = strcmp(status, "completed") == 0;
		if (strcmp(status, "failed") == 0)
			on_load_failed(s, "see its own message on stderr");
	}
	if (is_completed && hf_inbox_is_vm_running(s->inbox) && hf_guest_is_paused_by_user(s->k->guest))
		hf_keeper_qmp(s->k, "cont"); /* the user's -S is for the start of a VM, not for this */
	if (strcmp(name, "RESUME") == 0 || (is_completed && !hf_inbox_is_vm_running(s->inbox)))
		go_live(s);
}

/* ---- what the machine wants done ---- */

static void on_arbiter(void *ctx, bool is_granted)
{
	feed(ctx, is_granted ? HF_STANDBY_ARBITER_GRANTED : HF_STANDBY_ARBITER_DENIED, 0, none);
}

static void ask_for_proof(struct standby_side *s)
{
	s->inquiry_wait_ns = INQUIRE_SOON_NS;
	hf_meetings_inquire(s->k->meetings);
	hf_arbiter_ask(&s->arbiter, s->machine.session, on_arbiter, s);
}

static void perform(struct standby_side *s, const struct hf_standby_action *a)
{
	switch (a->kind) {
	case HF_STANDBY_CLEAR:
		hf_inbox_clear(s->inbox);
		break;
	case HF_STANDBY_APPLY:
		s->whole_ns = hf_now_ns();
		hf_inbox_apply(s->inbox);
		break;
	case HF_STANDBY_ACK:
		send_mark(s, HF_WIRE_ACK, a->epoch, none);
		break;
	case HF_STANDBY_DROP_PARTIAL:
		hf_inbox_drop_partial(s->inbox);
		break;
	case HF_STANDBY_DISCARD:
		hf_inbox_clear(s->inbox);
		break;
	case HF_STANDBY_SEND_DISCARDED:
		send_mark(s, HF_WIRE_DISCARDED, 0, a->session);
		break;
	case HF_STANDBY_REQUEST_HANDOVER:
		send_mark(s, HF_WIRE_HANDOVER_REQUEST, a->epoch, none);
		break;
	case HF_STANDBY_ASK_ARBITER:
		ask_for_proof(s);
		break;
	case HF_STANDBY_PROMOTE:
		promote(s);
		break;
	case HF_STANDBY_SEND_PROMOTED:
		send_mark(s, HF_WIRE_PROMOTED, a->epoch, a->session);
		break;
	case HF_STANDBY_REFUSE:
		s->is_refused = true;
		break;
	case HF_STANDBY_REFUSE_ORDER:
		s->is_order_refused = true;
		break;
	case HF_STANDBY_ACTION_COUNT:
		break;
	}
}

static const char *const state_texts[HF_STANDBY_STATE_COUNT] = {
	[HF_STANDBY_IDLE] = "waits for a primary",
	[HF_STANDBY_SYNCING] = "is being filled",
	[HF_STANDBY_READY] = "ready to take over",
	[HF_STANDBY_LOST] = "lost touch with the primary, whose death is not proven: waits",
	[HF_STANDBY_PROMOTING] = "going live",
	[HF_STANDBY_PROMOTED] = "live",
	[HF_STANDBY_FAILED] = "could not load the VM's state",
};

static void announce(struct standby_side *s, enum hf_standby_state before)
{
	struct json_object *details;

	if (s->machine.state == before)
		return;
	details = json_object_new_object();
	json_object_object_add(details, "role", json_object_new_string("standby"));
	json_object_object_add(details, "state",
			       json_object_new_string(hf_standby_state_name(s->machine.state)));
	json_object_object_add(details, "before",
			       json_object_new_string(hf_standby_state_name(before)));
	json_object_object_add(details, "epoch", json_object_new_uint64(s->machine.epoch));
	hf_event(&s->k->journal, hf_standby_state_name(s->machine.state), details, "%s",
		 state_texts[s->machine.state]);
}

/* Actions before words: in a failover every log line would be a delay. */
static void step(struct standby_side *s, const struct hf_standby_event *ev)
{
	enum hf_standby_state before = s->machine.state;
	struct hf_standby_actions actions;

	hf_standby_step(&s->machine, ev, &actions);
	for (unsigned int i = 0; i < actions.n; i++)
		perform(s, &actions.a[i]);
	announce(s, before);
}

static void feed(struct standby_side *s, enum hf_standby_event_kind kind, uint64_t epoch,
		 struct hf_id session)
{
	assert(s->n_queued < QUEUE);
	s->queue[s->n_queued++] =
		(struct hf_standby_event){ .kind = kind, .epoch = epoch, .session = session };
	if (s->is_stepping)
		return;
	s->is_stepping = true;
	while (s->n_queued) {
		struct hf_standby_event next = s->queue[0];

		memmove(s->queue, s->queue + 1, --s->n_queued * sizeof(s->queue[0]));
		step(s, &next);
	}
	s->is_stepping = false;
}

/* ---- what the primary says ---- */

static void bad_peer(struct standby_side *s, const char *text)
{
	hf_log(&s->k->journal, HF_LOG_ERROR, "the primary sent nonsense: %s", text);
	send_error(s, HF_WIRE_REFUSE_PROTOCOL, text);
	drop_link(s, HF_STANDBY_BAD_PEER, text);
}

static void on_control(struct standby_side *s, const struct hf_wire_msg *msg)
{
	struct hf_wire_msg pong = { .type = HF_WIRE_PONG, .ping = msg->ping };

	switch ((unsigned int)msg->type) { /* whatever else is said here is out of place */
	case HF_WIRE_SYNC_BEGIN:
		if (msg->sync_begin.ram_bytes != hf_guest_ram(s->k->guest)->size_bytes)
			bad_peer(s, "SYNC_BEGIN names another size of RAM than HELLO did");
		else
			feed(s, HF_STANDBY_SYNC_BEGIN, 0, msg->sync_begin.session);
		break;
	case HF_WIRE_PING:
		send_msg(s, &pong);
		break;
	case HF_WIRE_PONG:
		break;
	case HF_WIRE_DEAD:
		hf_event(&s->k->journal, "primary-dead", NULL, "the primary's keeper says: %s",
			 msg->reason.text);
		feed(s, HF_STANDBY_VM_DIED, 0, none);
		break;
	case HF_WIRE_ENDED:
		hf_event(&s->k->journal, "vm-ended", NULL, "the primary's keeper says: %s",
			 msg->reason.text);
		feed(s, HF_STANDBY_VM_ENDED, 0, none);
		break;
	case HF_WIRE_HANDOVER:
		feed(s, HF_STANDBY_HANDOVER, msg->mark.epoch, none);
		break;
	case HF_WIRE_ABANDON:
		feed(s, HF_STANDBY_ABANDON, 0, msg->mark.session);
		break;
	case HF_WIRE_ERROR:
	case HF_WIRE_REFUSE:
		hf_log(&s->k->journal, HF_LOG_ERROR, "the primary says: %s", msg->reason.text);
		drop_link(s, HF_STANDBY_LINK_DOWN, msg->reason.text);
		break;
	default:
		bad_peer(s, "a message that a primary does not send here");
		break;
	}
}

static void heard(struct standby_side *s)
{
	s->heard_ns = hf_now_ns();
	if (s->is_silent) {
		s->is_silent = false;
		feed(s, HF_STANDBY_PEER_HEARD, 0, none);
	}
}

static bool may_receive(const struct standby_side *s)
{
	return s->machine.state == HF_STANDBY_SYNCING || s->machine.state == HF_STANDBY_READY;
}

static bool on_message(void *ctx, const struct hf_wire_view *view)
{
	struct standby_side *s = ctx;
	struct hf_wire_msg msg;
	struct hf_err err = { "" };
	uint64_t epoch = 0;
	int r;

	heard(s);
	if (hf_inbox_wants(view->type)) {
		if (!may_receive(s))
			return !s->is_link_doomed; /* decided otherwise: it comes too late */
		r = hf_inbox_take(s->inbox, view, &epoch, &err);
		if (r == HF_INBOX_WHOLE)
			feed(s, HF_STANDBY_EPOCH_WHOLE, epoch, none);
		else if (r)
			bad_peer(s, err.text[0] ? err.text : strerror(-r));
	} else if (!hf_wire_is_control(view->type) || hf_wire_decode(view, &msg, &err) < 0) {
		bad_peer(s, err.text);
	} else {
		on_control(s, &msg);
	}
	if (s->is_refused) {
		s->is_refused = false;
		bad_peer(s, "a synchronisation cannot begin in this state");
	}
	return !s->is_link_doomed;
}

static uint32_t link_wanted(void *ctx)
{
	const struct standby_side *s = ctx;

	return hf_link_events(s->link);
}

static void link_ready(void *ctx, uint32_t revents)
{
	struct standby_side *s = ctx;
	struct hf_err err = { "" };
	int r;

	s->is_dispatching = true;
	r = hf_link_dispatch(s->link, revents, on_message, s, &err);
	s->is_dispatching = false;
	if (!r && !s->is_link_doomed)
		return;
	s->is_link_doomed = false;
	if (r == HF_LINK_BAD)
		bad_peer(s, err.text);
	else
		drop_link(s, HF_STANDBY_LINK_DOWN, err.text[0] ? err.text : "given up");
}

static void beat(void *ctx)
{
	struct standby_side *s = ctx;
	uint64_t now_ns = hf_now_ns();
	uint64_t period_ns = s->k->set->peer_timeout_ns / 4;
	struct hf_wire_msg ping = { .type = HF_WIRE_PING, .ping = { .time_ns = now_ns } };

	if (s->link && now_ns - s->said_ns >= period_ns)
		send_msg(s, &ping);
	if (s->link && !s->is_silent && now_ns - s->heard_ns > s->k->set->peer_timeout_ns) {
		s->is_silent = true;
		feed(s, HF_STANDBY_PEER_SILENT, 0, none);
	}
	hf_timer_set(&s->beat_timer, &s->k->loop, now_ns + period_ns, beat, s);
}

/* ---- meeting ---- */

static bool met(void *ctx, struct hf_link *link, const struct hf_wire_hello *theirs,
		bool we_dialled __attribute__((unused)))
{
	struct standby_side *s = ctx;
	struct hf_wire_msg refuse = {
		.type = HF_WIRE_REFUSE,
		.reason = { .code = HF_WIRE_REFUSE_BUSY,
			    .text = "this standby holds the state of another run of this VM: "
				    "promote it, or "
				    "stop it to discard that" },
	};

	if (theirs->role != HF_WIRE_ROLE_PRIMARY)
		return false;
	/* The same keeper connects anew: it has given the older connection up. */
	if (s->link && hf_id_is_equal(theirs->instance, s->primary))
		drop_link(s, HF_STANDBY_LINK_DOWN, "the primary connects anew");
	if (s->link) {
		(void)!hf_link_send(link, &refuse, NULL);
		return false;
	}
	s->link = link;
	if (hf_watch_add(&s->link_watch, &s->k->loop, hf_link_fd(link), HF_PRIORITY_LINK, link_wanted,
			 link_ready, s) < 0) {
		s->link = NULL;
		return false;
	}
	s->heard_ns = s->said_ns = hf_now_ns();
	s->is_refused = false;
	s->is_dispatching = true;
	feed(s, HF_STANDBY_LINK_UP, 0, theirs->session);
	s->is_dispatching = false;
	if (s->is_refused) {
		s->is_refused = false;
		hf_watch_remove(&s->link_watch);
		s->link = NULL;
		(void)!hf_link_send(link, &refuse, NULL);
		return false;
	}
	if (!hf_id_is_equal(s->primary, theirs->instance))
		s->is_address_verified = s->has_told_unverified = false;
	s->primary = theirs->instance;
	s->inquiry_wait_ns = INQUIRE_AGAIN_NS / 4;
	if (!s->is_address_verified)
		hf_meetings_inquire(s->k->meetings);
	link_ready(s, EPOLLIN);
	return true;
}

static void told(void *ctx, enum hf_wire_type what, const struct hf_wire_mark *mark)
{
	if (what == HF_WIRE_ABANDON)
		feed(ctx, HF_STANDBY_ABANDON, 0, mark->session);
}

static void describe(void *ctx, struct hf_wire_hello *ret)
{
	static const enum hf_wire_vm_state states[HF_STANDBY_STATE_COUNT] = {
		[HF_STANDBY_IDLE] = HF_WIRE_VM_WAITING,
		[HF_STANDBY_SYNCING] = HF_WIRE_VM_SYNCING,
		[HF_STANDBY_READY] = HF_WIRE_VM_READY,
		[HF_STANDBY_LOST] = HF_WIRE_VM_LOST,
		[HF_STANDBY_PROMOTING] = HF_WIRE_VM_PROMOTING,
		[HF_STANDBY_PROMOTED] = HF_WIRE_VM_PROMOTED,
		[HF_STANDBY_FAILED] = HF_WIRE_VM_FAILED,
	};
	struct standby_side *s = ctx;

	hf_keeper_describe(s->k, ret);
	ret->role = HF_WIRE_ROLE_STANDBY;
	ret->state = states[s->machine.state];
	ret->session = s->machine.session;
	ret->epoch = s->machine.epoch;
}

static const struct hf_meeting_ops meeting_ops = {
	.describe = describe,
	.met = met,
	.missed = missed,
	.learnt = learnt,
	.told = told,
};

/* ---- people ---- */

static int on_promote(void *role, bool is_forced, struct hf_err *err)
{
	struct standby_side *s = role;
	enum hf_standby_state state = s->machine.state;

	s->is_order_refused = false;
	feed(s, is_forced ? HF_STANDBY_PROMOTE_FORCED : HF_STANDBY_PROMOTE_WANTED, 0, none);
	if (!s->is_order_refused)
		return 0;
	if (state == HF_STANDBY_LOST)
		hf_err_set(err, "out of touch with the primary, whose death is not proven: running "
				"the VM here "
				"as well would run it twice. If you know that the primary is dead, "
				"use --force");
	else
		hf_err_set(err, "this standby is %s (%s): there is nothing to promote",
			   hf_standby_state_name(state), state_texts[state]);
	return -EINVAL;
}

static int on_stop(void *role, bool is_forced, struct hf_err *err)
{
	struct standby_side *s = role;

	if (s->machine.state == HF_STANDBY_LOST && !is_forced) {
		hf_err_set(err, "this standby may hold the only copy of the VM's state: --force "
				"discards it");
		return -EBUSY;
	}
	hf_event(&s->k->journal, "stopping", NULL, "an operator stops the standby");
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_ENDED);
	return 0;
}

static void on_signal(void *role, int signal __attribute__((unused)))
{
	struct standby_side *s = role;

	hf_event(&s->k->journal, "stopping", NULL, "stopped by a signal");
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_ENDED);
}

static void on_guest_gone(void *role, const struct hf_process_exit *how)
{
	struct standby_side *s = role;
	char text[HF_PROCESS_EXIT_TEXT];

	hf_event(&s->k->journal, "guest-died", NULL, "the standby's QEMU %s",
		 hf_process_exit_format(how, text, sizeof(text)));
	if (s->machine.state == HF_STANDBY_PROMOTING)
		on_load_failed(s, text);
	else
		hf_keeper_finish(s->k, HF_KEEPER_EXIT_FAILED);
}

static void on_nothing(void *role __attribute__((unused)))
{
}

static void add_status(void *role, struct json_object *status)
{
	struct standby_side *s = role;
	struct hf_inbox_stats stats;
	struct json_object *e = json_object_new_object();
	bool is_ready = s->machine.state == HF_STANDBY_READY;

	hf_inbox_get_stats(s->inbox, &stats);
	json_object_object_add(status, "role", json_object_new_string("standby"));
	json_object_object_add(status, "state",
			       json_object_new_string(hf_standby_state_name(s->machine.state)));
	json_object_object_add(status, "protected", json_object_new_boolean(is_ready));
	json_object_object_add(status, "protection",
			       json_object_new_string(state_texts[s->machine.state]));
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

static const struct hf_role_ops role_ops = {
	.on_qmp_event = on_qmp_event,
	.on_guest_gone = on_guest_gone,
	.on_first_held = on_nothing,
	.on_over_limit = on_nothing,
	.on_signal = on_signal,
	.add_status = add_status,
	.promote = on_promote,
	.stop = on_stop,
};

/* ---- beginning and end ---- */

/* A connection to the old primary, kept only until that has read what we told it and has gone. */
struct farewell {
	struct hf_link *link;
	struct hf_watch watch;
};

static bool ignore_message(void *ctx __attribute__((unused)),
			   const struct hf_wire_view *view __attribute__((unused)))
{
	return true;
}

static uint32_t farewell_wanted(void *ctx)
{
	const struct farewell *f = ctx;

	return hf_link_events(f->link);
}

static void farewell_ready(void *ctx, uint32_t revents)
{
	struct farewell *f = ctx;

	if (hf_link_dispatch(f->link, revents, ignore_message, NULL, NULL) == 0)
		return;
	hf_watch_remove(&f->watch);
	hf_link_free(f->link);
	free(f);
}

static void bid_farewell(struct standby_side *s)
{
	struct farewell *f = calloc(1, sizeof(*f));

	hf_watch_remove(&s->link_watch);
	if (f) {
		f->link = s->link;
		if (hf_watch_add(&f->watch, &s->k->loop, hf_link_fd(f->link), HF_PRIORITY_LINK,
				 farewell_wanted, farewell_ready, f) == 0)
			return;
	}
	free(f);
	hf_link_free(s->link);
}

static void become_primary(struct standby_side *s)
{
	struct hf_keeper *k = s->k;
	uint64_t epoch = s->machine.epoch;
	struct hf_err err = { "" };

	if (s->link)
		bid_farewell(s);
	hf_timer_fini(&s->beat_timer);
	hf_timer_fini(&s->inquiry_timer);
	hf_timer_fini(&s->live_timer);
	hf_inbox_free(s->inbox);
	free(s);
	if (hf_primary_side_start(k, epoch, &err) < 0) {
		/* The guest lives; a keeper that cannot protect it is still better than none. */
		hf_event(&k->journal, "unprotectable", NULL,
			 "the VM runs on but cannot be protected: %s", err.text);
	}
}

int hf_standby_side_start(struct hf_keeper *k, struct hf_err *err)
{
	struct standby_side *s = calloc(1, sizeof(*s));
	struct hf_ram *ram = hf_guest_ram(k->guest);
	struct hf_inbox_config config = {
		.ram = ram,
		/* An epoch may be all of RAM, with its tables; of what it did not touch nothing is used. */
		.epoch_max_bytes = ram->size_bytes + ram->size_bytes / 64 + (64u << 20),
		.n_netdevs = hf_guest_net_count(k->guest),
	};
	int r;

	if (!s)
		return -ENOMEM;
	s->k = k;
	s->load_fd = -1;
	hf_standby_init(&s->machine);
	s->arbiter.grants = k->set->on_peer_loss == HF_ON_PEER_LOSS_PROMOTE;
	r = hf_inbox_new(&config, &s->inbox, err);
	if (r < 0)
		return r; /* the program ends */
	k->role = s;
	k->ops = &role_ops;
	hf_meetings_set_ops(k->meetings, &meeting_ops, s);
	beat(s);
	hf_event(&k->journal, "idle", NULL, "waits for a primary");
	return 0;
}

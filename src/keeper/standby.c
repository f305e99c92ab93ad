/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby's driver: the connection, the machine's events and actions. What the primary sends goes
 * through the inbox, which says when an epoch is whole.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "codec/json.h"
#include "keeper/peer-fenced.h"
#include "keeper/primary.h"
#include "keeper/standby-side.h"

static const struct hf_id none;

/* ---- the connection ---- */

static void drop_link(struct hf_standby_side *s, enum hf_standby_event_kind kind, const char *why)
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
	hf_standby_forget_waits(s);
	hf_standby_feed(s, kind, 0);
}

void hf_standby_drop_link(struct hf_standby_side *s, const char *why)
{
	drop_link(s, HF_STANDBY_LINK_DOWN, why);
}

void hf_standby_say(struct hf_standby_side *s, const struct hf_wire_msg *msg)
{
	struct hf_err err;

	if (!s->link)
		return;
	s->said_ns = hf_now_ns();
	if (hf_link_send(s->link, msg, &err) < 0)
		drop_link(s, HF_STANDBY_LINK_DOWN, err.text);
}

void hf_standby_send(struct hf_standby_side *s, enum hf_wire_type type, uint64_t epoch,
		     struct hf_id session)
{
	struct hf_wire_msg msg = { .type = type, .mark = { .epoch = epoch, .session = session } };

	hf_standby_say(s, &msg);
}

static void send_error(struct hf_standby_side *s, enum hf_wire_refusal code, const char *text)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_ERROR,
				   .reason = { .code = code, .text = text } };

	hf_standby_say(s, &msg);
}

static void say_discarded(struct hf_standby_side *s, const struct hf_standby_action *a)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_DISCARDED,
				   .mark = { .session = a->session, .lver = a->lver } };

	hf_standby_say(s, &msg);
}

/* ---- what the machine wants done ---- */

static void perform(struct hf_standby_side *s, const struct hf_standby_action *a)
{
	switch (a->kind) {
	case HF_STANDBY_CLEAR:
		hf_inbox_clear(s->inbox);
		hf_standby_begin_copy(s, a->session);
		break;
	case HF_STANDBY_APPLY:
		s->whole_ns = hf_now_ns();
		hf_inbox_apply(s->inbox);
		break;
	case HF_STANDBY_ACK:
		hf_standby_ack(s, a->epoch);
		break;
	case HF_STANDBY_DROP_PARTIAL:
		hf_inbox_drop_partial(s->inbox);
		break;
	case HF_STANDBY_DISCARD:
		hf_inbox_clear(s->inbox);
		break;
	case HF_STANDBY_SEND_DISCARDED:
		say_discarded(s, a);
		break;
	case HF_STANDBY_REQUEST_HANDOVER:
		hf_standby_send(s, HF_WIRE_HANDOVER_REQUEST, a->epoch, none);
		break;
	case HF_STANDBY_ASK_ARBITER:
		hf_standby_proof_ask(s, a->lver);
		break;
	case HF_STANDBY_CANCEL_ARBITER:
		hf_arbiter_cancel(&s->arbiter);
		break;
	case HF_STANDBY_RELEASE_LEASE:
		hf_ownership_release(s->k->ownership, NULL, NULL);
		break;
	case HF_STANDBY_PROMOTE:
		hf_standby_go_live(s, a->must_wait, a->must_win);
		break;
	case HF_STANDBY_RUN:
		hf_standby_may_run(s);
		break;
	case HF_STANDBY_SEND_PROMOTED:
		hf_standby_send(s, HF_WIRE_PROMOTED, a->epoch, a->session);
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
	[HF_STANDBY_DENIED] = "lost the vote: the other side goes on",
};

const char *hf_standby_state_text(enum hf_standby_state state)
{
	return state_texts[state];
}

static void announce(struct hf_standby_side *s, enum hf_standby_state before)
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
static void step(struct hf_standby_side *s, const struct hf_standby_event *ev)
{
	enum hf_standby_state before = s->machine.state;
	struct hf_standby_actions actions;

	hf_standby_step(&s->machine, ev, &actions);
	for (unsigned int i = 0; i < actions.n; i++)
		perform(s, &actions.a[i]);
	if (s->machine.state == HF_STANDBY_LOST && before != HF_STANDBY_LOST)
		hf_standby_proof_look(s);
	announce(s, before);
	if (s->machine.state == HF_STANDBY_DENIED && before != HF_STANDBY_DENIED)
		hf_standby_denied(s);
	hf_peer_fenced_again(s->k);
}

static void feed_event(struct hf_standby_side *s, const struct hf_standby_event *ev)
{
	assert(s->n_queued < HF_STANDBY_QUEUE);
	s->queue[s->n_queued++] = *ev;
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

void hf_standby_feed(struct hf_standby_side *s, enum hf_standby_event_kind kind, uint64_t epoch)
{
	struct hf_standby_event ev = { .kind = kind, .epoch = epoch };

	feed_event(s, &ev);
}

void hf_standby_feed_verdict(struct hf_standby_side *s, enum hf_standby_event_kind kind,
			     uint64_t lver, uint64_t won)
{
	struct hf_standby_event ev = { .kind = kind, .lver = lver, .won = won };

	feed_event(s, &ev);
}

static void feed_session(struct hf_standby_side *s, enum hf_standby_event_kind kind,
			 struct hf_id session)
{
	struct hf_standby_event ev = { .kind = kind, .session = session };

	feed_event(s, &ev);
}

static void feed_lease(struct hf_standby_side *s, enum hf_standby_event_kind kind,
		       struct hf_id session, uint64_t lver)
{
	struct hf_standby_event ev = { .kind = kind, .session = session, .lver = lver };

	feed_event(s, &ev);
}

/* ---- what the primary says ---- */

static void bad_peer(struct hf_standby_side *s, const char *text)
{
	hf_log(&s->k->journal, HF_LOG_ERROR, "the primary sent nonsense: %s", text);
	send_error(s, HF_WIRE_REFUSE_PROTOCOL, text);
	drop_link(s, HF_STANDBY_BAD_PEER, text);
}

static void on_control(struct hf_standby_side *s, const struct hf_wire_msg *msg)
{
	struct hf_wire_msg pong = { .type = HF_WIRE_PONG, .ping = msg->ping };

	switch ((unsigned int)msg->type) { /* whatever else is said here is out of place */
	case HF_WIRE_SYNC_BEGIN:
		if (msg->sync_begin.ram_bytes != hf_guest_ram(s->k->guest)->size_bytes)
			bad_peer(s, "SYNC_BEGIN names another size of RAM than HELLO did");
		else if ((msg->sync_begin.disks != HF_WIRE_SYNC_DISKS_NONE) !=
			 (s->k->disks && !s->k->disks->is_shared))
			bad_peer(s, "SYNC_BEGIN and HELLO do not agree about disks to be copied");
		else if ((msg->sync_begin.lver != 0) != s->machine.has_vote)
			bad_peer(s, "SYNC_BEGIN and HELLO do not agree about a lease");
		else
			feed_lease(s, HF_STANDBY_SYNC_BEGIN, msg->sync_begin.session,
				   msg->sync_begin.lver);
		break;
	case HF_WIRE_LEASE:
		feed_lease(s, HF_STANDBY_LEASE, msg->mark.session, msg->mark.lver);
		break;
	case HF_WIRE_PING:
		/* On shared storage an answer lets the primary write on: not once we go live. */
		if (s->machine.state < HF_STANDBY_PROMOTING)
			hf_standby_say(s, &pong);
		break;
	case HF_WIRE_PONG:
		break;
	case HF_WIRE_SYNC_MARK:
		if (!s->k->disks || s->mark_order)
			bad_peer(s, "a SYNC_MARK that does not belong here");
		else
			hf_standby_on_mark(s, msg->mark.sync_mark);
		break;
	case HF_WIRE_SETTLED:
		if (s->k->disks && msg->mark.epoch <= s->machine.epoch)
			hf_disks_peer_settled(s->k->disks, msg->mark.epoch);
		break;
	case HF_WIRE_DEAD:
		hf_event(&s->k->journal, "primary-dead", NULL, "the primary's keeper says: %s",
			 msg->reason.text);
		s->is_reset_wanted = msg->reason.code == HF_WIRE_DEATH_GUEST;
		hf_standby_feed(s, HF_STANDBY_VM_DIED, 0);
		break;
	case HF_WIRE_ENDED:
		hf_event(&s->k->journal, "vm-ended", NULL, "the primary's keeper says: %s",
			 msg->reason.text);
		hf_standby_feed(s, HF_STANDBY_VM_ENDED, 0);
		break;
	case HF_WIRE_HANDOVER:
		hf_standby_feed(s, HF_STANDBY_HANDOVER, msg->mark.epoch);
		break;
	case HF_WIRE_ABANDON:
		feed_session(s, HF_STANDBY_ABANDON, msg->mark.session);
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

static void heard(struct hf_standby_side *s)
{
	s->heard_ns = s->word_ns = hf_now_ns();
	if (s->is_silent) {
		s->is_silent = false;
		hf_standby_feed(s, HF_STANDBY_PEER_HEARD, 0);
	}
}

static bool may_receive(const struct hf_standby_side *s)
{
	return s->machine.state == HF_STANDBY_SYNCING || s->machine.state == HF_STANDBY_READY;
}

static bool on_message(void *ctx, const struct hf_wire_view *view)
{
	struct hf_standby_side *s = ctx;
	struct hf_wire_msg msg;
	struct hf_err err = { "" };
	uint64_t epoch = 0;
	int r;

	heard(s);
	if (!hf_wire_may_send(HF_WIRE_ROLE_PRIMARY, view->type)) {
		bad_peer(s, "a message that a primary does not send");
	} else if (hf_inbox_wants(view->type)) {
		if (!may_receive(s))
			return !s->is_link_doomed; /* decided otherwise: it comes too late */
		r = hf_inbox_take(s->inbox, view, &epoch, &err);
		if (r == HF_INBOX_WHOLE)
			hf_standby_feed(s, HF_STANDBY_EPOCH_WHOLE, epoch);
		else if (r)
			bad_peer(s, err.text[0] ? err.text : strerror(-r));
	} else if (hf_wire_decode(view, &msg, &err) < 0) {
		bad_peer(s, err.text);
	} else {
		on_control(s, &msg);
	}
	if (s->is_refused) {
		s->is_refused = false;
		bad_peer(s, "a synchronisation cannot begin in this state");
	}
	return !s->is_link_doomed && !s->is_paused;
}

static uint32_t link_wanted(void *ctx)
{
	const struct hf_standby_side *s = ctx;

	return hf_link_events(s->link);
}

static void link_ready(void *ctx, uint32_t revents)
{
	struct hf_standby_side *s = ctx;
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

/* What has come meanwhile is all there; what came before the pause was heard. */
void hf_standby_read_on(struct hf_standby_side *s)
{
	if (!s->is_paused)
		return;
	s->is_paused = false;
	if (!s->link)
		return;
	hf_link_pause(s->link, false);
	s->heard_ns = hf_now_ns();
	if (!s->is_dispatching)
		link_ready(s, EPOLLIN);
}

static void beat(void *ctx)
{
	struct hf_standby_side *s = ctx;
	uint64_t now_ns = hf_now_ns();
	uint64_t period_ns = s->k->set->peer_timeout_ns / 4;
	struct hf_wire_msg ping = { .type = HF_WIRE_PING, .ping = { .time_ns = now_ns } };

	if (s->link && now_ns - s->said_ns >= period_ns)
		hf_standby_say(s, &ping);
	if (s->is_paused) /* nobody listens */
		s->heard_ns = now_ns;
	if (s->link && !s->is_silent && now_ns - s->heard_ns > s->k->set->peer_timeout_ns) {
		s->is_silent = true;
		hf_standby_feed(s, HF_STANDBY_PEER_SILENT, 0);
	}
	/* It would keep out the primary that comes after a hung one. */
	if (s->link &&
	    (s->machine.state == HF_STANDBY_IDLE || s->machine.state == HF_STANDBY_SYNCING) &&
	    now_ns - s->heard_ns > s->k->set->peer_timeout_ns * HF_MEETING_SILENCE_MAX)
		drop_link(s, HF_STANDBY_LINK_DOWN, "the primary has fallen silent");
	hf_timer_set(&s->beat_timer, &s->k->loop, now_ns + period_ns, beat, s);
}

/* ---- meeting ---- */

static bool met(void *ctx, struct hf_link *link, const struct hf_wire_hello *theirs,
		bool we_dialled __attribute__((unused)))
{
	struct hf_standby_side *s = ctx;
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
	if (hf_watch_add(&s->link_watch, &s->k->loop, hf_link_fd(link), HF_PRIORITY_LINK,
			 link_wanted, link_ready, s) < 0) {
		s->link = NULL;
		return false;
	}
	s->established_ns = s->heard_ns = s->word_ns = s->said_ns = hf_now_ns();
	s->is_refused = false;
	s->is_dispatching = true;
	feed_session(s, HF_STANDBY_LINK_UP, theirs->session);
	s->is_dispatching = false;
	if (s->is_refused) {
		s->is_refused = false;
		hf_watch_remove(&s->link_watch);
		s->link = NULL;
		(void)!hf_link_send(link, &refuse, NULL);
		return false;
	}
	hf_standby_proof_met(s, theirs->instance);
	link_ready(s, EPOLLIN);
	return true;
}

static void told(void *ctx, enum hf_wire_type what, const struct hf_wire_mark *mark)
{
	if (what == HF_WIRE_ABANDON)
		feed_session(ctx, HF_STANDBY_ABANDON, mark->session);
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
		[HF_STANDBY_DENIED] = HF_WIRE_VM_SUPERSEDED,
	};
	struct hf_standby_side *s = ctx;

	hf_keeper_describe(s->k, ret);
	ret->role = HF_WIRE_ROLE_STANDBY;
	ret->state = states[s->machine.state];
	ret->session = s->machine.session;
	ret->epoch = s->machine.epoch;
}

static const struct hf_meeting_ops meeting_ops = {
	.describe = describe,
	.met = met,
	.missed = hf_standby_proof_missed,
	.learnt = hf_standby_proof_learnt,
	.told = told,
};

/* ---- the guest ---- */

static void on_qmp_event(void *role, const char *name, struct json_object *data,
			 uint64_t timestamp_us __attribute__((unused)))
{
	struct hf_standby_side *s = role;

	if (s->machine.state == HF_STANDBY_PROMOTING)
		hf_standby_live_event(s, name, data);
}

static void on_guest_gone(void *role, const struct hf_process_exit *how)
{
	struct hf_standby_side *s = role;
	char text[HF_PROCESS_EXIT_TEXT];

	hf_event(&s->k->journal, "guest-died", NULL, "the standby's QEMU %s",
		 hf_process_exit_format(how, text, sizeof(text)));
	if (s->machine.state == HF_STANDBY_PROMOTING)
		hf_standby_load_failed(s, text);
	else
		hf_keeper_finish(s->k, HF_KEEPER_EXIT_FAILED);
}

static void on_nothing(void *role __attribute__((unused)))
{
}

static const struct hf_role_ops role_ops = {
	.on_qmp_event = on_qmp_event,
	.on_guest_gone = on_guest_gone,
	.on_first_held = on_nothing,
	.on_over_limit = on_nothing,
	.on_signal = hf_standby_order_signal,
	.add_status = hf_standby_add_status,
	.promote = hf_standby_order_promote,
	.stop = hf_standby_order_stop,
	.resume = hf_standby_order_resume,
	.see_peer = hf_standby_see_peer,
	.peer_dead = hf_standby_peer_dead,
};

/* ---- beginning and end ---- */

int hf_standby_side_start(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_standby_side *s = calloc(1, sizeof(*s));
	struct hf_ram *ram = hf_guest_ram(k->guest);
	struct hf_inbox_config config = {
		.ram = ram,
		/* An epoch may be all of RAM, with its tables; of what it did not touch nothing is used. */
		.epoch_max_bytes = ram->size_bytes + ram->size_bytes / 64 + (64u << 20),
		.n_netdevs = hf_guest_net_count(k->guest),
	};
	int r;

	if (k->disks)
		hf_disks_inbox(k->disks, &config.disks);

	if (!s)
		return -ENOMEM;
	s->k = k;
	s->load_fd = -1;
	hf_standby_init(&s->machine);
	s->machine.has_vote = k->ownership != NULL;
	s->arbiter = (struct hf_arbiter){ .loop = &k->loop, .ownership = k->ownership };
	hf_standby_watch_disks(s);
	r = hf_primary_check_tracking(k, err);
	if (!r)
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

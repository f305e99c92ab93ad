/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The primary and its peer: the connection, what the standby says, keeping in touch, meeting others. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

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

void hf_primary_send_mark(struct hf_primary_side *s, enum hf_wire_type type, uint64_t epoch,
			  struct hf_id session)
{
	struct hf_wire_msg msg = { .type = type, .mark = { .epoch = epoch, .session = session } };

	hf_primary_say(s, &msg);
}

void hf_primary_send_reason(struct hf_primary_side *s, enum hf_wire_type type, uint32_t code,
			    const char *text)
{
	struct hf_wire_msg msg = { .type = type, .reason = { .code = code, .text = text } };

	hf_primary_say(s, &msg);
}

/* ---- what the standby says ---- */

static void heard(struct hf_primary_side *s)
{
	s->heard_ns = hf_now_ns();
	if (!s->machine.is_peer_silent)
		return;
	hf_primary_feed(s, HF_PRIMARY_PEER_HEARD, 0);
}

static void on_discarded(struct hf_primary_side *s, const struct hf_wire_mark *mark)
{
	struct hf_primary_event ev = { .kind = HF_PRIMARY_PEER_DISCARDED,
				       .session = mark->session,
				       .lver = mark->lver };

	if (hf_id_is_equal(mark->session, s->abandoned))
		s->abandoned = (struct hf_id){ 0 };
	hf_primary_feed_event(s, &ev);
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
		on_discarded(s, &msg->mark);
		break;
	case HF_WIRE_PROMOTED:
		hf_primary_feed_session(s, HF_PRIMARY_PEER_PROMOTED, msg->mark.session);
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
	if (why == HF_MEETING_REFUSED_PORT && !hf_id_is_none(s->machine.session)) {
		s->is_peer_proven_dead = true;
		hf_primary_feed(s, HF_PRIMARY_PEER_DEAD, 0);
		hf_arbiter_hasten(&s->arbiter);
	}
	if (why == HF_MEETING_REFUSED_PORT)
		s->abandoned = (struct hf_id){ 0 };
	dial_later(s);
}

bool hf_primary_see_peer(void *role, struct hf_fenced_sight *ret)
{
	const struct hf_primary_side *s = role;

	if (hf_id_is_none(s->machine.session) || s->machine.state == HF_PRIMARY_SUPERSEDED ||
	    s->machine.state == HF_PRIMARY_FINISHED)
		return false;
	*ret = (struct hf_fenced_sight){
		.established_ns = s->established_ns,
		.heard_ns = s->heard_ns,
		.is_in_touch = s->link && !s->machine.is_peer_silent,
	};
	return true;
}

/* A connection that still stands is one to nobody. */
void hf_primary_peer_dead(void *role, const char *why)
{
	struct hf_primary_side *s = role;

	hf_event(&s->k->journal, "standby-dead", NULL, "the standby is dead: %s", why);
	s->is_peer_proven_dead = true;
	hf_primary_drop_link(s, "the standby is dead");
	hf_primary_feed(s, HF_PRIMARY_PEER_DEAD, 0);
	hf_arbiter_hasten(&s->arbiter);
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

/* The keeper that held our session is gone; by a lease it may have won the VM before. */
static void standby_is_another(struct hf_primary_side *s)
{
	if (!s->machine.has_vote) {
		hf_primary_feed_session(s, HF_PRIMARY_PEER_DISCARDED, s->machine.session);
		return;
	}
	s->is_peer_proven_dead = true;
	hf_primary_feed(s, HF_PRIMARY_PEER_DEAD, 0);
	hf_arbiter_hasten(&s->arbiter);
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
		standby_is_another(s);
	s->peer_disk_condition = theirs->disk_condition;
	s->peer_disk_session = theirs->disk_session;
	s->link = link;
	if (hf_watch_add(&s->link_watch, &s->k->loop, hf_link_fd(link), HF_PRIORITY_LINK,
			 link_wanted, link_ready, s) < 0) {
		s->link = NULL;
		return false;
	}
	s->established_ns = s->heard_ns = s->said_ns = hf_now_ns();
	s->is_peer_proven_dead = false;
	s->is_refused = false;
	s->last_miss[0] = '\0';
	s->is_dispatching =
		true; /* whoever drops the link meanwhile must wait: it is not ours yet */
	hf_primary_feed_event(s, &ev);
	s->is_dispatching = false;
	if (!s->is_refused)
		return true;
	hf_watch_remove(&s->link_watch);
	s->link = NULL;
	s->is_link_doomed = false;
	return false;
}

/* A first copy would be in the way of a save, a dump or a freeze: the standby is asked again later. */
static bool may_fill(const struct hf_primary_side *s)
{
	return !hf_id_is_none(s->machine.session) || (!s->is_held && !s->is_freezing);
}

static bool met(void *ctx, struct hf_link *link, const struct hf_wire_hello *theirs,
		bool we_dialled)
{
	struct hf_primary_side *s = ctx;
	struct hf_wire_msg abandon = { .type = HF_WIRE_ABANDON,
				       .mark = { .session = s->abandoned } };

	if (theirs->role == HF_WIRE_ROLE_PRIMARY) {
		meet_primary(s, link, theirs);
	} else if (we_dialled && !s->link && may_fill(s)) {
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
		hf_primary_feed_session(ctx, HF_PRIMARY_PEER_PROMOTED, mark->session);
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

void hf_primary_answer_peers(struct hf_primary_side *s)
{
	s->dial_timer.fire = on_dial_timer;
	s->redial_ns = REDIAL_SOON_NS;
	hf_meetings_set_ops(s->k->meetings, &meeting_ops, s);
}

void hf_primary_look_for_standby(struct hf_primary_side *s)
{
	beat(s);
	hf_timer_set(&s->dial_timer, &s->k->loop, hf_now_ns(), on_dial_timer, s);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The primary's half of the commit protocol.
 *
 *            LINK_UP            SYNCED                 ACK (release)
 *   ALONE ------------> SYNCING -------> PROTECTED <------------------+
 *     ^  ^  link lost      |              | |  ^  \___capture, send___/
 *     |  +-----------------+   link lost, | |  | in touch again
 *     |                          silence  v |  | (same session)
 *     |   proof of death; with a lease    HOLDING ------> SUPERSEDED (the standby went live,
 *     |   only a vote that was won          | |            or the vote is lost: from any state)
 *     +-----------------------------------+ |
 *     |   the standby has discarded         | give up protection
 *     +------------------------------- LEAVING
 *
 *   PROTECTED --HANDOVER_WANTED--> HANDING_OVER --final epoch committed--> HANDED_OVER
 *   any --VM_DIED--> DEAD          any --VM_ENDED--> ENDING               all end in FINISHED
 *
 * The one rule behind all of it: from the moment the first capture of a session starts until the
 * standby is known to be unable to promote that session, an output leaves only after the epoch that
 * it belongs to was acknowledged.
 *
 * With a lease the standby is known to be unable to go live when the vote is won, or when it has
 * discarded by its own word, which it gives only if its own vote is not won. Its death proves
 * nothing: it may have won, and gone live, before.
 */
#include "core/commit.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define UNUSED __attribute__((unused))
#define BIT(state) (1u << HF_PRIMARY_##state)

/* Which state may follow which; anything else is a bug of this file. */
static const unsigned int successors[HF_PRIMARY_STATE_COUNT] = {
	[HF_PRIMARY_ALONE] = BIT(SYNCING) | BIT(SUPERSEDED) | BIT(FINISHED),
	[HF_PRIMARY_SYNCING] = BIT(ALONE) | BIT(PROTECTED) | BIT(SUPERSEDED) | BIT(FINISHED),
	[HF_PRIMARY_PROTECTED] = BIT(HOLDING) | BIT(ALONE) | BIT(LEAVING) | BIT(HANDING_OVER) |
				 BIT(DEAD) | BIT(ENDING) | BIT(SUPERSEDED),
	[HF_PRIMARY_HOLDING] = BIT(PROTECTED) | BIT(ALONE) | BIT(SYNCING) | BIT(LEAVING) |
			       BIT(DEAD) | BIT(ENDING) | BIT(SUPERSEDED),
	[HF_PRIMARY_LEAVING] = BIT(ALONE) | BIT(DEAD) | BIT(ENDING) | BIT(SUPERSEDED),
	[HF_PRIMARY_HANDING_OVER] = BIT(HANDED_OVER) | BIT(HOLDING) | BIT(PROTECTED) | BIT(ALONE) |
				    BIT(DEAD) | BIT(ENDING) | BIT(SUPERSEDED),
	[HF_PRIMARY_HANDED_OVER] = BIT(SUPERSEDED) | BIT(FINISHED),
	[HF_PRIMARY_DEAD] = BIT(SUPERSEDED) | BIT(FINISHED),
	[HF_PRIMARY_ENDING] = BIT(SUPERSEDED) | BIT(FINISHED),
	[HF_PRIMARY_SUPERSEDED] = 0,
	[HF_PRIMARY_FINISHED] = 0,
};

static void move(struct hf_primary *p, enum hf_primary_state to)
{
	assert(successors[p->state] & 1u << to);
	p->state = to;
}

static struct hf_primary_action *add(struct hf_primary_actions *out,
				     enum hf_primary_action_kind kind, uint64_t epoch)
{
	struct hf_primary_action *a;

	assert(out->n < HF_PRIMARY_ACTIONS_MAX);
	a = &out->a[out->n++];
	*a = (struct hf_primary_action){ .kind = kind, .epoch = epoch };
	return a;
}

static void add_session(struct hf_primary_actions *out, enum hf_primary_action_kind kind,
			struct hf_id session)
{
	add(out, kind, 0)->session = session;
}

static const struct hf_id none;

static void capture(struct hf_primary *p, struct hf_primary_actions *out)
{
	assert(p->stage == HF_STAGE_RUN);
	p->stage = HF_STAGE_CAPTURE;
	p->is_final = p->state == HF_PRIMARY_HANDING_OVER;
	add(out, HF_PRIMARY_CAPTURE, ++p->captured)->resume = !p->is_final;
}

/* An epoch that was sent but not acknowledged: the standby turned out not to have it. */
static void drop_flight(struct hf_primary *p, struct hf_primary_actions *out)
{
	if (p->stage != HF_STAGE_FLIGHT)
		return;
	add(out, HF_PRIMARY_DROP, p->captured);
	p->stage = HF_STAGE_RUN;
}

/* Is it up to the vote who goes on? Not while the standby can still be heard. */
static bool wants_vote(const struct hf_primary *p)
{
	bool is_in_touch = p->is_link_up && !p->is_peer_silent;

	return p->must_verify || p->state == HF_PRIMARY_HOLDING ||
	       (p->state == HF_PRIMARY_LEAVING && !is_in_touch) ||
	       (p->state == HF_PRIMARY_ENDING && !is_in_touch);
}

/* One question at a time: what is open may be won yet, also if it is being taken back. */
static void ask_if_wanted(struct hf_primary *p, struct hf_primary_actions *out)
{
	struct hf_primary_action *a;

	if (!p->has_vote || p->is_asking || !wants_vote(p))
		return;
	p->is_asking = true;
	a = add(out, HF_PRIMARY_ASK_ARBITER, 0);
	a->session = p->session;
	a->lver = p->lver;
}

static void cancel_question(struct hf_primary *p, struct hf_primary_actions *out)
{
	if (!p->is_asking || p->is_cancelling || p->must_verify)
		return;
	p->is_cancelling = true;
	add(out, HF_PRIMARY_CANCEL_ARBITER, 0);
}

/*
 * The standby asks about the lver that it was told: with an old one it would be denied, and discard
 * what it holds.
 */
static void send_lease(const struct hf_primary *p, struct hf_primary_actions *out)
{
	struct hf_primary_action *a;

	if (!p->has_vote || !p->is_link_up)
		return;
	a = add(out, HF_PRIMARY_SEND_LEASE, 0);
	a->session = p->session;
	a->lver = p->lver;
}

/* What the guest wrote in the epoch that is open now goes to the disks, too: its number is used
 * up. */
static void pass(struct hf_primary *p, struct hf_primary_actions *out)
{
	add(out, HF_PRIMARY_PASS, p->captured + 1);
}

/* The standby cannot promote our session any more: nothing has to be held. */
static void go_alone(struct hf_primary *p, struct hf_primary_actions *out)
{
	drop_flight(p, out);
	move(p, HF_PRIMARY_ALONE);
	p->session = none;
	p->committed = 0;
	p->failures = 0;
	cancel_question(p, out);
	pass(p, out);
}

static void begin_sync(struct hf_primary *p, struct hf_id fresh, struct hf_primary_actions *out)
{
	struct hf_primary_action *a;

	assert(!hf_id_is_none(fresh));
	move(p, HF_PRIMARY_SYNCING);
	p->session = fresh;
	p->committed = 0;
	a = add(out, HF_PRIMARY_BEGIN_SYNC, 0);
	a->session = fresh;
	a->lver = p->lver;
}

/* On shared storage a late write of this side would land over what the standby writes once it is
 * live. */
static void cut_disks(struct hf_primary *p, struct hf_primary_actions *out)
{
	if (p->is_storage_shared && !p->is_cut)
		add(out, HF_PRIMARY_CUT_DISKS, 0);
}

/* The word on which the standby goes live at once: only when nothing of this side can be in its
 * way: no write, and no vote, which it would lose. */
static void tell_to_go_live(const struct hf_primary *p, struct hf_primary_actions *out)
{
	if (!p->is_link_up || p->is_asking || (p->is_storage_shared && !p->is_cut))
		return;
	if (p->state == HF_PRIMARY_DEAD)
		add(out, HF_PRIMARY_SEND_DEAD, 0);
	else
		add(out, HF_PRIMARY_SEND_HANDOVER, p->committed);
}

static void supersede(struct hf_primary *p, struct hf_primary_actions *out)
{
	move(p, HF_PRIMARY_SUPERSEDED);
	p->is_synced = false;
	p->must_verify = false;
	add(out, HF_PRIMARY_DISCARD, 0);
	add(out, HF_PRIMARY_FREEZE, 0);
	cut_disks(p, out);
	cancel_question(p, out);
	add(out, HF_PRIMARY_FINISH, 0);
}

static void finish(struct hf_primary *p, struct hf_primary_actions *out)
{
	move(p, HF_PRIMARY_FINISHED);
	p->is_synced = false;
	p->must_verify = false;
	cancel_question(p, out);
	add(out, HF_PRIMARY_FINISH, 0);
}

/* A question of this side that is still open would be in its way. */
static void let_the_standby_win(struct hf_primary *p, struct hf_primary_actions *out)
{
	p->must_verify = false;
	cancel_question(p, out);
}

static void acknowledged(struct hf_primary *p, struct hf_primary_actions *out)
{
	p->stage = HF_STAGE_RUN;
	p->committed = p->captured;
	p->failures = 0;
	add(out, HF_PRIMARY_RELEASE, p->committed);
	if (p->state != HF_PRIMARY_HANDING_OVER)
		return;
	if (!p->is_final) {
		capture(p, out);
		return;
	}
	move(p, HF_PRIMARY_HANDED_OVER);
	add(out, HF_PRIMARY_FREEZE, 0);
	cut_disks(p, out);
	let_the_standby_win(p, out);
	tell_to_go_live(p, out);
}

static void on_ack(struct hf_primary *p, const struct hf_primary_event *ev,
		   struct hf_primary_actions *out)
{
	if (!p->is_link_up || p->stage != HF_STAGE_FLIGHT || ev->epoch != p->captured)
		return;
	if (p->state == HF_PRIMARY_PROTECTED || p->state == HF_PRIMARY_HOLDING ||
	    p->state == HF_PRIMARY_LEAVING || p->state == HF_PRIMARY_HANDING_OVER)
		acknowledged(p, out);
}

static void be_in_touch(struct hf_primary *p, struct hf_primary_actions *out)
{
	move(p, HF_PRIMARY_PROTECTED);
	cancel_question(p, out);
}

/*
 * The standby of our session is back. It holds the epoch in flight (the acknowledgement was lost),
 * or the one before (the epoch in flight was lost: its pages go with the next one), or, if the
 * first epoch of the session never arrived, none: then it cannot be promoted and is filled from the
 * start.
 */
static void rejoin(struct hf_primary *p, const struct hf_primary_event *ev,
		   struct hf_primary_actions *out)
{
	if (p->stage == HF_STAGE_FLIGHT && ev->epoch == p->captured) {
		be_in_touch(p, out);
		send_lease(p, out);
		acknowledged(p, out);
		return;
	}
	if (ev->epoch != p->committed) {
		/* Neither what we know it has nor what it may have: do not touch it, keep
		 * holding. */
		p->is_link_up = false;
		add(out, HF_PRIMARY_REFUSE, 0);
		return;
	}
	drop_flight(p, out);
	if (p->committed) {
		be_in_touch(p, out);
		send_lease(p, out);
		return;
	}
	cancel_question(p, out);
	pass(p, out);
	begin_sync(p, ev->fresh, out);
}

static void on_link_up(struct hf_primary *p, const struct hf_primary_event *ev,
		       struct hf_primary_actions *out)
{
	bool is_ours = hf_id_is_equal(ev->session, p->session) && !hf_id_is_none(p->session);

	if (p->is_link_up) {
		add(out, HF_PRIMARY_REFUSE, 0);
		return;
	}
	p->is_link_up = true;
	p->is_peer_silent = false;
	if (p->state == HF_PRIMARY_ALONE && p->stage == HF_STAGE_RUN) {
		begin_sync(p, ev->fresh, out);
	} else if (p->state == HF_PRIMARY_HOLDING && is_ours && p->stage != HF_STAGE_CAPTURE) {
		rejoin(p, ev, out);
	} else if (p->state == HF_PRIMARY_LEAVING && is_ours) {
		add_session(out, HF_PRIMARY_SEND_ABANDON, p->session);
	} else if ((p->state == HF_PRIMARY_DEAD || p->state == HF_PRIMARY_HANDED_OVER) && is_ours) {
		send_lease(p, out);
		tell_to_go_live(p, out);
	} else if (p->state == HF_PRIMARY_ENDING && is_ours) {
		add(out, HF_PRIMARY_SEND_ENDED, 0);
	} else {
		p->is_link_up = false;
		add(out, HF_PRIMARY_REFUSE, 0);
	}
}

/* A hand-over is called off: if the VM stands still for it, it runs on. */
static void run_on(struct hf_primary *p, struct hf_primary_actions *out)
{
	if (!p->is_final)
		return;
	p->is_final = false;
	add(out, HF_PRIMARY_RESUME, 0);
}

/* Out of touch without proof. The connection may still stand (silence) or be gone. */
static void lose_touch(struct hf_primary *p, struct hf_primary_actions *out)
{
	if (p->state == HF_PRIMARY_HANDING_OVER && p->stage == HF_STAGE_FLIGHT)
		run_on(p, out);
	if (p->state == HF_PRIMARY_HOLDING)
		return; /* has asked */
	if (p->state == HF_PRIMARY_PROTECTED || p->state == HF_PRIMARY_HANDING_OVER)
		move(p, HF_PRIMARY_HOLDING);
	ask_if_wanted(p, out);
}

static void on_link_down(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			 struct hf_primary_actions *out)
{
	p->is_link_up = false;
	p->is_peer_silent = false;
	if (p->state == HF_PRIMARY_SYNCING) {
		/* No epoch was captured yet, so there is nothing that the standby could promote. */
		move(p, HF_PRIMARY_ALONE);
		p->session = none;
		p->is_synced = false;
		add(out, HF_PRIMARY_STOP_SYNC, 0);
		return;
	}
	lose_touch(p, out);
}

/* The standby that held our session will never promote it. */
static void standby_gone(struct hf_primary *p, const struct hf_primary_event *ev,
			 struct hf_primary_actions *out)
{
	p->is_link_up = false;
	p->is_peer_silent = false;
	switch (p->state) {
	case HF_PRIMARY_SYNCING:
		on_link_down(p, ev, out);
		break;
	case HF_PRIMARY_HANDING_OVER:
		if (p->stage != HF_STAGE_CAPTURE)
			run_on(p, out);
		go_alone(p, out);
		break;
	case HF_PRIMARY_PROTECTED:
	case HF_PRIMARY_HOLDING:
	case HF_PRIMARY_LEAVING:
		go_alone(p, out);
		break;
	case HF_PRIMARY_ENDING:
		pass(p, out);
		finish(p, out);
		break;
	case HF_PRIMARY_DEAD:
	case HF_PRIMARY_HANDED_OVER:
		finish(p, out);
		break;
	case HF_PRIMARY_ALONE:
	case HF_PRIMARY_SUPERSEDED:
	case HF_PRIMARY_FINISHED:
	case HF_PRIMARY_STATE_COUNT:
		break;
	}
}

static void on_peer_dead(struct hf_primary *p, const struct hf_primary_event *ev,
			 struct hf_primary_actions *out)
{
	if (!p->has_vote || (!hf_primary_is_holding(p) && p->state != HF_PRIMARY_ENDING)) {
		standby_gone(p, ev, out);
		return;
	}
	p->is_link_up = false;
	p->is_peer_silent = false;
	lose_touch(p, out);
}

/* From here on the standby may come to hold an epoch: nothing leaves any more before its commit. */
static void begin_protection(struct hf_primary *p, struct hf_primary_actions *out)
{
	p->is_synced = false;
	move(p, HF_PRIMARY_PROTECTED);
	/* An epoch was open when outputs passed last: no number names two contents. */
	if (p->captured)
		p->captured++;
	add(out, HF_PRIMARY_HOLD, p->captured + 1);
	capture(p, out);
}

static void on_peer_heard(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			  struct hf_primary_actions *out)
{
	if (p->state == HF_PRIMARY_HOLDING && p->is_link_up && p->is_peer_silent)
		be_in_touch(p, out);
	p->is_peer_silent = false;
	if (p->is_synced)
		begin_protection(p, out);
}

static void on_peer_silent(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			   struct hf_primary_actions *out)
{
	if (!p->is_link_up)
		return;
	p->is_peer_silent = true;
	lose_touch(p, out);
}

static void on_peer_promoted(struct hf_primary *p, const struct hf_primary_event *ev,
			     struct hf_primary_actions *out)
{
	if (hf_id_is_none(p->session) || !hf_id_is_equal(ev->session, p->session))
		return;
	if (p->state != HF_PRIMARY_SUPERSEDED && p->state != HF_PRIMARY_FINISHED &&
	    p->state != HF_PRIMARY_SYNCING)
		supersede(p, out);
}

static void on_peer_discarded(struct hf_primary *p, const struct hf_primary_event *ev,
			      struct hf_primary_actions *out)
{
	if (hf_id_is_none(p->session) || !hf_id_is_equal(ev->session, p->session))
		return;
	if (p->has_vote && ev->lver > p->lver && p->state == HF_PRIMARY_ENDING) {
		/* It heard of the end when it had won: what is left to be written here needs the
		 * lease. */
		p->lver = ev->lver;
		p->must_win = true;
	}
	if (p->must_win) {
		on_link_down(p, ev, out);
		return;
	}
	/*
	 * In HANDED_OVER and DEAD, too: nobody will promote, and waiting for it would be for ever.
	 * The link, if any, is started afresh.
	 */
	standby_gone(p, ev, out);
}

static void on_captured(struct hf_primary *p, const struct hf_primary_event *ev,
			struct hf_primary_actions *out)
{
	if (p->stage != HF_STAGE_CAPTURE || ev->epoch != p->captured)
		return;
	p->stage = HF_STAGE_FLIGHT;
	if ((p->state == HF_PRIMARY_PROTECTED || p->state == HF_PRIMARY_HANDING_OVER) &&
	    p->is_link_up) {
		add(out, HF_PRIMARY_SEND, ev->epoch);
		/* Silence called the hand-over off while its capture ran, and is over by now. */
		if (p->state == HF_PRIMARY_PROTECTED)
			run_on(p, out);
		return;
	}
	if (p->state != HF_PRIMARY_DEAD && p->state != HF_PRIMARY_ENDING &&
	    p->state != HF_PRIMARY_SUPERSEDED)
		run_on(p, out);
	drop_flight(p, out);
}

static void on_capture_failed(struct hf_primary *p, const struct hf_primary_event *ev,
			      struct hf_primary_actions *out)
{
	if (p->stage != HF_STAGE_CAPTURE || ev->epoch != p->captured)
		return;
	p->stage = HF_STAGE_RUN;
	add(out, HF_PRIMARY_DROP, ev->epoch);
	/* Of the final epoch or of the one before it: either way the hand-over is called off. */
	if (p->state == HF_PRIMARY_HANDING_OVER)
		move(p, HF_PRIMARY_PROTECTED);
	p->is_final = false;
	if (++p->failures < HF_PRIMARY_FAILURES_MAX || p->state != HF_PRIMARY_PROTECTED)
		return;
	move(p, HF_PRIMARY_LEAVING);
	add_session(out, HF_PRIMARY_SEND_ABANDON, p->session);
}

static void on_vm_died(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
		       struct hf_primary_actions *out)
{
	switch (p->state) {
	case HF_PRIMARY_ALONE:
	case HF_PRIMARY_SYNCING:
		finish(p, out);
		break;
	case HF_PRIMARY_PROTECTED:
	case HF_PRIMARY_HOLDING:
	case HF_PRIMARY_HANDING_OVER:
	case HF_PRIMARY_LEAVING:
		move(p, HF_PRIMARY_DEAD);
		cut_disks(p, out);
		let_the_standby_win(p, out);
		tell_to_go_live(p, out);
		break;
	case HF_PRIMARY_HANDED_OVER:
	case HF_PRIMARY_DEAD:
	case HF_PRIMARY_ENDING:
	case HF_PRIMARY_SUPERSEDED:
	case HF_PRIMARY_FINISHED:
	case HF_PRIMARY_STATE_COUNT:
		break;
	}
}

static void on_vm_ended(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			struct hf_primary_actions *out)
{
	switch (p->state) {
	case HF_PRIMARY_SYNCING: /* nothing there that could be promoted: no answer is waited for */
		if (p->is_link_up)
			add(out, HF_PRIMARY_SEND_ENDED, 0);
		finish(p, out);
		break;
	case HF_PRIMARY_ALONE:
		finish(p, out);
		break;
	case HF_PRIMARY_PROTECTED:
	case HF_PRIMARY_HOLDING:
	case HF_PRIMARY_HANDING_OVER:
	case HF_PRIMARY_LEAVING:
		move(p, HF_PRIMARY_ENDING);
		if (p->is_link_up)
			add(out, HF_PRIMARY_SEND_ENDED, 0);
		ask_if_wanted(p, out);
		break;
	case HF_PRIMARY_HANDED_OVER:
	case HF_PRIMARY_DEAD:
	case HF_PRIMARY_ENDING:
	case HF_PRIMARY_SUPERSEDED:
	case HF_PRIMARY_FINISHED:
	case HF_PRIMARY_STATE_COUNT:
		break;
	}
}

static void on_handover_wanted(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			       struct hf_primary_actions *out)
{
	/* A vote of this side that is being taken back may still be won: then the standby would
	 * lose the one by which it is to take over. */
	if (p->state != HF_PRIMARY_PROTECTED || !p->is_link_up || p->is_asking)
		return;
	/* A capture under way may be the final one of a hand-over that was called off: it will
	 * do. */
	move(p, HF_PRIMARY_HANDING_OVER);
	if (p->stage == HF_STAGE_RUN)
		capture(p, out);
}

static void on_abandon_wanted(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			      struct hf_primary_actions *out)
{
	if (p->state != HF_PRIMARY_PROTECTED && p->state != HF_PRIMARY_HOLDING)
		return;
	move(p, HF_PRIMARY_LEAVING);
	if (p->is_link_up)
		add_session(out, HF_PRIMARY_SEND_ABANDON, p->session);
}

/* The lver that the standby was told is the past: with it nobody can win any more. */
static void won(struct hf_primary *p, uint64_t lver, struct hf_primary_actions *out)
{
	assert(lver > p->lver);
	p->lver = lver;
	p->must_win = false;
	p->must_verify = false;
	switch (p->state) {
	case HF_PRIMARY_HOLDING:
	case HF_PRIMARY_LEAVING:
		/* Also without a link: the standby still waits with that state, and has to hear it
		 * on the next. */
		add_session(out, HF_PRIMARY_SEND_ABANDON, p->session);
		go_alone(p, out);
		break;
	case HF_PRIMARY_ENDING:
		pass(p, out);
		finish(p, out);
		break;
	case HF_PRIMARY_SYNCING:
	case HF_PRIMARY_PROTECTED:
	case HF_PRIMARY_HANDING_OVER:
		send_lease(p, out);
		break;
	case HF_PRIMARY_DEAD:
	case HF_PRIMARY_HANDED_OVER:
		send_lease(p, out);
		tell_to_go_live(p, out);
		break;
	case HF_PRIMARY_ALONE:
	case HF_PRIMARY_SUPERSEDED:
	case HF_PRIMARY_FINISHED:
	case HF_PRIMARY_STATE_COUNT:
		break;
	}
}

static void undecided(struct hf_primary *p, struct hf_primary_actions *out)
{
	if (!p->is_asking)
		return;
	p->is_asking = false;
	p->is_cancelling = false;
	ask_if_wanted(p, out);
	if (p->state == HF_PRIMARY_DEAD || p->state == HF_PRIMARY_HANDED_OVER)
		tell_to_go_live(p, out);
}

/* Lost: another host owns the lease. It is not looked at whether we had reason to ask. */
static void on_arbiter(struct hf_primary *p, const struct hf_primary_event *ev,
		       struct hf_primary_actions *out)
{
	if (!p->has_vote)
		return;
	if (ev->lver != p->lver) {
		undecided(p, out); /* what was asked about is the past */
		return;
	}
	p->is_asking = false;
	p->is_cancelling = false;
	if (ev->kind == HF_PRIMARY_ARBITER_GRANTED)
		won(p, ev->won ? ev->won : ev->lver + 1, out);
	else if (p->state != HF_PRIMARY_SUPERSEDED && p->state != HF_PRIMARY_FINISHED)
		supersede(p, out);
}

/* While it was not, another host may have become the owner of what this one owned. */
static void on_lease_renewed(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			     struct hf_primary_actions *out)
{
	if (!p->has_vote || p->state == HF_PRIMARY_HANDED_OVER || p->state == HF_PRIMARY_DEAD ||
	    p->state == HF_PRIMARY_SUPERSEDED || p->state == HF_PRIMARY_FINISHED)
		return;
	p->must_verify = true;
	ask_if_wanted(p, out);
}

static void on_arbiter_cancelled(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
				 struct hf_primary_actions *out)
{
	undecided(p, out);
}

/* With a silent standby nothing would be committed: until it is heard outputs may as well pass. */
static void on_synced(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
		      struct hf_primary_actions *out)
{
	if (p->state != HF_PRIMARY_SYNCING || p->stage != HF_STAGE_RUN)
		return;
	if (p->is_peer_silent)
		p->is_synced = true;
	else
		begin_protection(p, out);
}

static void on_epoch_due(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			 struct hf_primary_actions *out)
{
	if (hf_primary_may_capture(p))
		capture(p, out);
}

static void on_disks_cut(struct hf_primary *p, const struct hf_primary_event *ev UNUSED,
			 struct hf_primary_actions *out)
{
	if (!p->is_storage_shared || p->is_cut)
		return;
	if (p->state != HF_PRIMARY_DEAD && p->state != HF_PRIMARY_HANDED_OVER)
		return; /* nothing to tell: SUPERSEDED, or nobody asked for it */
	p->is_cut = true;
	tell_to_go_live(p, out);
}

typedef void handler(struct hf_primary *p, const struct hf_primary_event *ev,
		     struct hf_primary_actions *out);

static handler *const handlers[HF_PRIMARY_EVENT_COUNT] = {
	[HF_PRIMARY_LINK_UP] = on_link_up,
	[HF_PRIMARY_LINK_DOWN] = on_link_down,
	[HF_PRIMARY_PEER_SILENT] = on_peer_silent,
	[HF_PRIMARY_PEER_HEARD] = on_peer_heard,
	[HF_PRIMARY_PEER_DEAD] = on_peer_dead,
	[HF_PRIMARY_PEER_PROMOTED] = on_peer_promoted,
	[HF_PRIMARY_PEER_DISCARDED] = on_peer_discarded,
	[HF_PRIMARY_SYNCED] = on_synced,
	[HF_PRIMARY_EPOCH_DUE] = on_epoch_due,
	[HF_PRIMARY_CAPTURED] = on_captured,
	[HF_PRIMARY_CAPTURE_FAILED] = on_capture_failed,
	[HF_PRIMARY_ACK] = on_ack,
	[HF_PRIMARY_ARBITER_GRANTED] = on_arbiter,
	[HF_PRIMARY_ARBITER_DENIED] = on_arbiter,
	[HF_PRIMARY_ARBITER_CANCELLED] = on_arbiter_cancelled,
	[HF_PRIMARY_VM_DIED] = on_vm_died,
	[HF_PRIMARY_VM_ENDED] = on_vm_ended,
	[HF_PRIMARY_HANDOVER_WANTED] = on_handover_wanted,
	[HF_PRIMARY_ABANDON_WANTED] = on_abandon_wanted,
	[HF_PRIMARY_LEASE_RENEWED] = on_lease_renewed,
	[HF_PRIMARY_DISKS_CUT] = on_disks_cut,
};

static void check(const struct hf_primary *p)
{
	assert(p->state < HF_PRIMARY_STATE_COUNT);
	assert(p->committed <= p->captured);
	if (p->state == HF_PRIMARY_ALONE)
		assert(hf_id_is_none(p->session));
	if (hf_primary_is_holding(p) || p->state == HF_PRIMARY_SYNCING)
		assert(!hf_id_is_none(p->session));
	if (p->stage == HF_STAGE_FLIGHT)
		assert(p->state != HF_PRIMARY_ALONE && p->state != HF_PRIMARY_SYNCING);
	if (p->is_synced)
		assert(p->state == HF_PRIMARY_SYNCING && p->is_peer_silent);
	if (p->is_peer_silent)
		assert(p->is_link_up);
	/* Who counts on an acknowledgement to come has heard of the standby: else the arbiter is
	 * asked. */
	if (p->state == HF_PRIMARY_PROTECTED || p->state == HF_PRIMARY_HANDING_OVER)
		assert(!p->is_peer_silent);
	assert(!p->is_asking || p->has_vote);
	assert(!p->is_cancelling || p->is_asking);
	assert(!p->must_verify || p->is_asking);
	if (p->must_win)
		assert(p->state == HF_PRIMARY_ENDING || p->state == HF_PRIMARY_SUPERSEDED);
	if (p->has_vote && p->state == HF_PRIMARY_HOLDING)
		assert(p->is_asking);
	if (p->is_cut)
		assert(!hf_primary_is_holding(p) && p->state != HF_PRIMARY_ALONE);
}

void hf_primary_init(struct hf_primary *p, uint64_t last_epoch)
{
	memset(p, 0, sizeof(*p));
	p->captured = last_epoch;
	check(p);
}

void hf_primary_step(struct hf_primary *p, const struct hf_primary_event *ev,
		     struct hf_primary_actions *ret)
{
	assert(ev->kind < HF_PRIMARY_EVENT_COUNT);
	ret->n = 0;
	handlers[ev->kind](p, ev, ret);
	check(p);
}

bool hf_primary_may_capture(const struct hf_primary *p)
{
	return p->state == HF_PRIMARY_PROTECTED && p->stage == HF_STAGE_RUN && p->is_link_up;
}

bool hf_primary_is_holding(const struct hf_primary *p)
{
	return p->state == HF_PRIMARY_PROTECTED || p->state == HF_PRIMARY_HOLDING ||
	       p->state == HF_PRIMARY_LEAVING || p->state == HF_PRIMARY_HANDING_OVER;
}

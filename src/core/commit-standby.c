/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby's half of the commit protocol.
 *
 *            SYNC_BEGIN           EPOCH_WHOLE             out of touch
 *     IDLE -----------> SYNCING ------------> READY <------------------> LOST
 *      ^ ^                 |                   | |     same session        | |
 *      | |  any loss       |   ABANDON, ended, | |                         | |
 *      | +-----------------+   bad data        | |  proof of death,        | |
 *      +---------------------------------------+ |  hand-over              | | vote won,
 *      ^                                         v                         | | proof, force
 *      |                                     PROMOTING <-------------------|-+
 *      +------------------------------------- |  |  | --------------------+ vote lost
 *                               load failed   v  |  v   vote lost
 *                                        FAILED  |  DENIED
 *                                                v
 *                                            PROMOTED
 *
 * Two rules: what is promoted is the last whole epoch, never a part of one; and it is promoted only
 * on proof that the primary can let no output leave any more (its port is closed, or its keeper
 * says so), when the vote is won, or when an operator vouches for it. With a lease a proof only
 * starts to load the state, and the vote alone lets it run: the dead may have won it before.
 */
#include "core/commit.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define UNUSED __attribute__((unused))
#define BIT(state) (1u << HF_STANDBY_##state)

static const unsigned int successors[HF_STANDBY_STATE_COUNT] = {
	[HF_STANDBY_IDLE] = BIT(SYNCING),
	[HF_STANDBY_SYNCING] = BIT(IDLE) | BIT(READY) | BIT(SYNCING),
	[HF_STANDBY_READY] = BIT(LOST) | BIT(IDLE) | BIT(PROMOTING),
	[HF_STANDBY_LOST] = BIT(READY) | BIT(IDLE) | BIT(PROMOTING),
	[HF_STANDBY_PROMOTING] = BIT(PROMOTED) | BIT(FAILED) | BIT(DENIED),
	[HF_STANDBY_PROMOTED] = 0,
	[HF_STANDBY_FAILED] = 0,
	[HF_STANDBY_DENIED] = 0,
};

static void move(struct hf_standby *s, enum hf_standby_state to)
{
	assert(successors[s->state] & 1u << to);
	s->state = to;
}

static struct hf_standby_action *add(struct hf_standby *s, struct hf_standby_actions *out,
				     enum hf_standby_action_kind kind)
{
	struct hf_standby_action *a;

	assert(out->n < HF_STANDBY_ACTIONS_MAX);
	a = &out->a[out->n++];
	*a = (struct hf_standby_action){
		.kind = kind, .epoch = s->epoch, .session = s->session, .lver = s->lver
	};
	return a;
}

static bool holds_epoch(const struct hf_standby *s)
{
	return s->state == HF_STANDBY_READY || s->state == HF_STANDBY_LOST;
}

static bool may_run(const struct hf_standby *s)
{
	return !s->has_vote || s->has_won || s->is_forced;
}

/* One question at a time: what is open may be won yet, also if it is being taken back. */
static void ask_if_wanted(struct hf_standby *s, struct hf_standby_actions *out)
{
	bool is_wanted = s->state == HF_STANDBY_LOST ||
			 (s->state == HF_STANDBY_PROMOTING && !s->has_won);

	if (!s->has_vote || s->is_asking || !is_wanted)
		return;
	s->is_asking = true;
	add(s, out, HF_STANDBY_ASK_ARBITER);
}

static void cancel_question(struct hf_standby *s, struct hf_standby_actions *out)
{
	if (!s->is_asking || s->is_cancelling)
		return;
	s->is_cancelling = true;
	add(s, out, HF_STANDBY_CANCEL_ARBITER);
}

/* Nothing of this session can be promoted after this; only then may the primary be told so. */
static void discard(struct hf_standby *s, bool is_asked_to, struct hf_standby_actions *out)
{
	add(s, out, HF_STANDBY_DISCARD);
	if (is_asked_to && s->is_link_up)
		add(s, out, HF_STANDBY_SEND_DISCARDED)->lver = s->has_won ? s->lver : 0;
	move(s, HF_STANDBY_IDLE);
	s->has_won = false;
	s->session = (struct hf_id){ 0 };
	s->epoch = 0;
	s->lver = 0;
	s->leave = HF_STANDBY_STAY;
}

/*
 * What to load, and on what to wait. @is_proven: the death of all that could write for the old
 * primary, or its own word. If it had asked us to discard, it has not been told that we did: it may
 * count on us.
 */
static void promote(struct hf_standby *s, bool is_proven, struct hf_standby_actions *out)
{
	struct hf_standby_action *a;

	assert(holds_epoch(s));
	assert(s->epoch);
	add(s, out, HF_STANDBY_DROP_PARTIAL);
	a = add(s, out, HF_STANDBY_PROMOTE);
	a->must_wait = s->is_storage_shared && !is_proven;
	a->must_win = !may_run(s);
	move(s, HF_STANDBY_PROMOTING);
	s->leave = HF_STANDBY_STAY;
	ask_if_wanted(s, out);
}

static void be_in_touch(struct hf_standby *s, struct hf_standby_actions *out)
{
	move(s, HF_STANDBY_READY);
	cancel_question(s, out);
}

static void lose_touch(struct hf_standby *s, struct hf_standby_actions *out)
{
	move(s, HF_STANDBY_LOST);
	ask_if_wanted(s, out);
}

/* Who meets the old primary while the vote is open has nothing to say to it yet. */
static void on_link_up(struct hf_standby *s, const struct hf_standby_event *ev,
		       struct hf_standby_actions *out)
{
	bool is_going_live = s->state == HF_STANDBY_PROMOTING || s->state == HF_STANDBY_PROMOTED;

	if (is_going_live && may_run(s)) {
		s->is_link_up = true;
		add(s, out, HF_STANDBY_SEND_PROMOTED);
		return;
	}
	if (s->is_link_up || is_going_live || s->state == HF_STANDBY_FAILED ||
	    s->state == HF_STANDBY_DENIED ||
	    (holds_epoch(s) && !hf_id_is_equal(ev->session, s->session))) {
		add(s, out, HF_STANDBY_REFUSE);
		return;
	}
	s->is_link_up = true;
	if (s->state == HF_STANDBY_LOST)
		be_in_touch(s, out);
}

static void on_link_down(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
			 struct hf_standby_actions *out)
{
	s->is_link_up = false;
	if (s->state == HF_STANDBY_SYNCING) {
		discard(s, /* is_asked_to= */ false, out);
	} else if (holds_epoch(s)) {
		add(s, out, HF_STANDBY_DROP_PARTIAL);
		if (s->state == HF_STANDBY_READY)
			lose_touch(s, out);
	}
}

static void on_silence(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
		       struct hf_standby_actions *out)
{
	if (s->state == HF_STANDBY_READY)
		lose_touch(s, out);
}

/* The proof comes with a closed port, or in words over a live connection (VM_DIED). */
static void on_primary_gone(struct hf_standby *s, const struct hf_standby_event *ev,
			    struct hf_standby_actions *out)
{
	if (ev->kind == HF_STANDBY_PEER_DEAD)
		s->is_link_up = false;
	if (holds_epoch(s) && s->leave != HF_STANDBY_LEAVE_ENDED)
		promote(s, /* is_proven= */ true, out);
	else if (s->state == HF_STANDBY_SYNCING)
		/* a keeper that still speaks waits for an answer */
		discard(s, /* is_asked_to= */ ev->kind == HF_STANDBY_VM_DIED, out);
}

static void on_sync_begin(struct hf_standby *s, const struct hf_standby_event *ev,
			  struct hf_standby_actions *out)
{
	if (!s->is_link_up || hf_id_is_none(ev->session) || s->has_vote != (ev->lver != 0) ||
	    (s->state != HF_STANDBY_IDLE && s->state != HF_STANDBY_SYNCING)) {
		add(s, out, HF_STANDBY_REFUSE);
		return;
	}
	move(s, HF_STANDBY_SYNCING);
	s->session = ev->session;
	s->epoch = 0;
	s->lver = ev->lver;
	add(s, out, HF_STANDBY_CLEAR);
}

/* A question that is open names the lver before: its answer will be none. */
static void on_lease(struct hf_standby *s, const struct hf_standby_event *ev,
		     struct hf_standby_actions *out UNUSED)
{
	if (s->has_vote && hf_id_is_equal(ev->session, s->session) && !s->has_won &&
	    ev->lver > s->lver)
		s->lver = ev->lver;
}

static void on_epoch_whole(struct hf_standby *s, const struct hf_standby_event *ev,
			   struct hf_standby_actions *out)
{
	if (!s->is_link_up || ev->epoch <= s->epoch ||
	    (s->state != HF_STANDBY_SYNCING && !holds_epoch(s))) {
		add(s, out, HF_STANDBY_DROP_PARTIAL);
		return;
	}
	s->epoch = ev->epoch;
	if (s->state == HF_STANDBY_SYNCING)
		move(s, HF_STANDBY_READY);
	add(s, out, HF_STANDBY_ACK);
	add(s, out, HF_STANDBY_APPLY);
}

static void on_handover(struct hf_standby *s, const struct hf_standby_event *ev,
			struct hf_standby_actions *out)
{
	if (holds_epoch(s) && ev->epoch == s->epoch && s->leave != HF_STANDBY_LEAVE_ENDED)
		promote(s, /* is_proven= */ true, out);
}

static void on_order(struct hf_standby *s, const struct hf_standby_event *ev,
		     struct hf_standby_actions *out)
{
	bool is_staying = s->leave == HF_STANDBY_STAY;

	if (is_staying && s->state == HF_STANDBY_READY) {
		add(s, out, HF_STANDBY_REQUEST_HANDOVER);
	} else if (is_staying && s->state == HF_STANDBY_LOST &&
		   ev->kind == HF_STANDBY_PROMOTE_FORCED) {
		s->is_forced = true;
		promote(s, /* is_proven= */ false, out);
	} else {
		add(s, out, HF_STANDBY_REFUSE_ORDER);
	}
}

static void on_live(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
		    struct hf_standby_actions *out)
{
	if (s->state != HF_STANDBY_PROMOTING || !may_run(s))
		return;
	move(s, HF_STANDBY_PROMOTED);
	if (s->is_link_up)
		add(s, out, HF_STANDBY_SEND_PROMOTED);
}

static void on_load_failed(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
			   struct hf_standby_actions *out)
{
	if (s->state != HF_STANDBY_PROMOTING)
		return;
	move(s, HF_STANDBY_FAILED);
	cancel_question(s, out);
	if (s->has_won)
		add(s, out, HF_STANDBY_RELEASE_LEASE);
}

static void on_heard(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
		     struct hf_standby_actions *out)
{
	if (s->state == HF_STANDBY_LOST && s->is_link_up)
		be_in_touch(s, out);
}

/*
 * To have discarded is the leave for the primary to let everything out: nothing may come of this
 * side after that, so a vote under way has to end first.
 */
static void on_unwanted(struct hf_standby *s, const struct hf_standby_event *ev,
			struct hf_standby_actions *out)
{
	bool is_ended = ev->kind == HF_STANDBY_VM_ENDED;

	if (!is_ended && !hf_id_is_equal(ev->session, s->session))
		return;
	if (!holds_epoch(s) && s->state != HF_STANDBY_SYNCING)
		return;
	if (!s->is_asking) {
		discard(s, /* is_asked_to= */ true, out);
		return;
	}
	if (is_ended)
		s->leave = HF_STANDBY_LEAVE_ENDED;
	else if (s->leave == HF_STANDBY_STAY)
		s->leave = HF_STANDBY_LEAVE_ABANDONED;
	cancel_question(s, out);
}

static void won(struct hf_standby *s, uint64_t lver, struct hf_standby_actions *out)
{
	assert(lver > s->lver);
	switch (s->state) {
	case HF_STANDBY_READY:
	case HF_STANDBY_LOST:
		s->has_won = true;
		s->lver = lver;
		if (s->leave == HF_STANDBY_LEAVE_ENDED) {
			add(s, out, HF_STANDBY_RELEASE_LEASE);
			discard(s, /* is_asked_to= */ true, out);
			return;
		}
		promote(s, /* is_proven= */ false, out);
		break;
	case HF_STANDBY_PROMOTING:
	case HF_STANDBY_PROMOTED:
		s->has_won = true;
		s->lver = lver;
		if (!s->is_forced)
			add(s, out, HF_STANDBY_RUN);
		break;
	case HF_STANDBY_IDLE:
	case HF_STANDBY_SYNCING:
	case HF_STANDBY_FAILED:
	case HF_STANDBY_DENIED:
	case HF_STANDBY_STATE_COUNT:
		add(s, out, HF_STANDBY_RELEASE_LEASE);
		break;
	}
}

static void lost(struct hf_standby *s, struct hf_standby_actions *out)
{
	if (holds_epoch(s)) {
		discard(s, /* is_asked_to= */ true, out);
		return;
	}
	if (s->state != HF_STANDBY_PROMOTING)
		return;
	add(s, out, HF_STANDBY_DISCARD);
	if (s->is_link_up)
		add(s, out, HF_STANDBY_SEND_DISCARDED)->lver = 0;
	move(s, HF_STANDBY_DENIED);
}

/* The question came to nothing: was the answer waited for, or has it to be asked again? */
static void undecided(struct hf_standby *s, struct hf_standby_actions *out)
{
	if (s->leave != HF_STANDBY_STAY)
		discard(s, /* is_asked_to= */ true, out);
	else
		ask_if_wanted(s, out);
}

static void on_arbiter(struct hf_standby *s, const struct hf_standby_event *ev,
		       struct hf_standby_actions *out)
{
	if (!s->is_asking)
		return;
	s->is_asking = false;
	s->is_cancelling = false;
	/* The primary owns a later lver by now: the one of the question was its own. */
	if (ev->lver != s->lver || ev->kind == HF_STANDBY_ARBITER_CANCELLED)
		undecided(s, out);
	else if (ev->kind == HF_STANDBY_ARBITER_GRANTED)
		won(s, ev->won ? ev->won : ev->lver + 1, out);
	else
		lost(s, out);
}

typedef void handler(struct hf_standby *s, const struct hf_standby_event *ev,
		     struct hf_standby_actions *out);

static handler *const handlers[HF_STANDBY_EVENT_COUNT] = {
	[HF_STANDBY_LINK_UP] = on_link_up,
	/* A damaged stream is no reason to throw a good epoch away: it is as if the link were
	 * cut. */
	[HF_STANDBY_LINK_DOWN] = on_link_down,
	[HF_STANDBY_BAD_PEER] = on_link_down,
	[HF_STANDBY_PEER_SILENT] = on_silence,
	[HF_STANDBY_PEER_HEARD] = on_heard,
	[HF_STANDBY_PEER_DEAD] = on_primary_gone,
	[HF_STANDBY_VM_DIED] = on_primary_gone,
	[HF_STANDBY_VM_ENDED] = on_unwanted,
	[HF_STANDBY_ABANDON] = on_unwanted,
	[HF_STANDBY_HANDOVER] = on_handover,
	[HF_STANDBY_SYNC_BEGIN] = on_sync_begin,
	[HF_STANDBY_LEASE] = on_lease,
	[HF_STANDBY_EPOCH_WHOLE] = on_epoch_whole,
	[HF_STANDBY_ARBITER_GRANTED] = on_arbiter,
	[HF_STANDBY_ARBITER_DENIED] = on_arbiter,
	[HF_STANDBY_ARBITER_CANCELLED] = on_arbiter,
	[HF_STANDBY_PROMOTE_WANTED] = on_order,
	[HF_STANDBY_PROMOTE_FORCED] = on_order,
	[HF_STANDBY_LIVE] = on_live,
	[HF_STANDBY_LOAD_FAILED] = on_load_failed,
};

static void check(const struct hf_standby *s)
{
	assert(s->state < HF_STANDBY_STATE_COUNT);
	if (s->state == HF_STANDBY_IDLE)
		assert(hf_id_is_none(s->session));
	else
		assert(!hf_id_is_none(s->session));
	if (s->state == HF_STANDBY_IDLE || s->state == HF_STANDBY_SYNCING)
		assert(!s->epoch);
	else
		assert(s->epoch);
	assert(!s->is_asking || s->has_vote);
	assert(!s->is_cancelling || s->is_asking);
	if (s->state == HF_STANDBY_IDLE || s->state == HF_STANDBY_SYNCING)
		assert(!s->is_asking && !s->has_won && !s->is_forced);
	if (s->has_vote && s->state == HF_STANDBY_LOST)
		assert(s->is_asking);
	if (s->has_vote && s->state == HF_STANDBY_PROMOTING)
		assert(s->is_asking || s->has_won);
	if (s->leave != HF_STANDBY_STAY)
		assert(holds_epoch(s) && s->is_asking);
	if (s->state == HF_STANDBY_PROMOTED)
		assert(may_run(s));
}

void hf_standby_init(struct hf_standby *s)
{
	memset(s, 0, sizeof(*s));
	check(s);
}

void hf_standby_step(struct hf_standby *s, const struct hf_standby_event *ev,
		     struct hf_standby_actions *ret)
{
	assert(ev->kind < HF_STANDBY_EVENT_COUNT);
	ret->n = 0;
	handlers[ev->kind](s, ev, ret);
	check(s);
}

bool hf_standby_may_promote(const struct hf_standby *s)
{
	return holds_epoch(s) && s->leave != HF_STANDBY_LEAVE_ENDED;
}

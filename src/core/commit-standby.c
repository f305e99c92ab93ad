/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby's half of the commit protocol.
 *
 *            SYNC_BEGIN           EPOCH_WHOLE             out of touch
 *     IDLE -----------> SYNCING ------------> READY <------------------> LOST
 *      ^ ^                 |                   | |     same session        | |
 *      | |  any loss       |   ABANDON, ended, | |                         | |
 *      | +-----------------+   bad data        | |  proof of death,        | |
 *      +---------------------------------------+ |  hand-over              | | arbiter's word,
 *      ^                                         v                         | | proof, force
 *      |                                     PROMOTING <-------------------|-+
 *      +------------------------------------------ | ----------------------+ arbiter denies
 *                                                  v
 *                                          PROMOTED or FAILED
 *
 * Two rules: what is promoted is the last whole epoch, never a part of one; and it is promoted only
 * on proof that the primary can let no output leave any more (its port is closed, or its keeper
 * says so), on the arbiter's word, or when an operator vouches for it.
 */
#include "core/commit.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static const char *const state_names[HF_STANDBY_STATE_COUNT] = {
	[HF_STANDBY_IDLE] = "idle",           [HF_STANDBY_SYNCING] = "syncing",
	[HF_STANDBY_READY] = "ready",         [HF_STANDBY_LOST] = "lost",
	[HF_STANDBY_PROMOTING] = "promoting", [HF_STANDBY_PROMOTED] = "promoted",
	[HF_STANDBY_FAILED] = "failed",
};

#define UNUSED __attribute__((unused))
#define BIT(state) (1u << HF_STANDBY_##state)

static const unsigned int successors[HF_STANDBY_STATE_COUNT] = {
	[HF_STANDBY_IDLE] = BIT(SYNCING),
	[HF_STANDBY_SYNCING] = BIT(IDLE) | BIT(READY) | BIT(SYNCING),
	[HF_STANDBY_READY] = BIT(LOST) | BIT(IDLE) | BIT(PROMOTING),
	[HF_STANDBY_LOST] = BIT(READY) | BIT(IDLE) | BIT(PROMOTING),
	[HF_STANDBY_PROMOTING] = BIT(PROMOTED) | BIT(FAILED),
	[HF_STANDBY_PROMOTED] = 0,
	[HF_STANDBY_FAILED] = 0,
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
	*a = (struct hf_standby_action){ .kind = kind, .epoch = s->epoch, .session = s->session };
	return a;
}

static bool holds_epoch(const struct hf_standby *s)
{
	return s->state == HF_STANDBY_READY || s->state == HF_STANDBY_LOST;
}

/* Nothing of this session can be promoted after this; only then may the primary be told so. */
static void discard(struct hf_standby *s, bool is_asked_to, struct hf_standby_actions *out)
{
	add(s, out, HF_STANDBY_DISCARD);
	if (is_asked_to && s->is_link_up)
		add(s, out, HF_STANDBY_SEND_DISCARDED);
	move(s, HF_STANDBY_IDLE);
	s->session = (struct hf_id){ 0 };
	s->epoch = 0;
}

/* @is_proven: by the death of all that could write for the old primary, or by its own word. */
static void promote(struct hf_standby *s, bool is_proven, struct hf_standby_actions *out)
{
	assert(holds_epoch(s));
	assert(s->epoch);
	add(s, out, HF_STANDBY_DROP_PARTIAL);
	add(s, out, HF_STANDBY_PROMOTE)->must_wait = s->is_storage_shared && !is_proven;
	move(s, HF_STANDBY_PROMOTING);
}

static void on_link_up(struct hf_standby *s, const struct hf_standby_event *ev,
		       struct hf_standby_actions *out)
{
	if (s->state == HF_STANDBY_PROMOTING || s->state == HF_STANDBY_PROMOTED) {
		s->is_link_up = true;
		add(s, out, HF_STANDBY_SEND_PROMOTED);
		return;
	}
	if (s->is_link_up || s->state == HF_STANDBY_FAILED ||
	    (holds_epoch(s) && !hf_id_is_equal(ev->session, s->session))) {
		add(s, out, HF_STANDBY_REFUSE);
		return;
	}
	s->is_link_up = true;
	if (s->state == HF_STANDBY_LOST)
		move(s, HF_STANDBY_READY);
}

static void on_link_down(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
			 struct hf_standby_actions *out)
{
	s->is_link_up = false;
	if (s->state == HF_STANDBY_SYNCING) {
		discard(s, /* is_asked_to= */ false, out);
	} else if (holds_epoch(s)) {
		add(s, out, HF_STANDBY_DROP_PARTIAL);
		if (s->state == HF_STANDBY_READY) {
			move(s, HF_STANDBY_LOST);
			add(s, out, HF_STANDBY_ASK_ARBITER);
		}
	}
}

static void on_silence(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
		       struct hf_standby_actions *out)
{
	if (s->state != HF_STANDBY_READY)
		return;
	move(s, HF_STANDBY_LOST);
	add(s, out, HF_STANDBY_ASK_ARBITER);
}

/* The proof comes with a closed port, or in words over a live connection (VM_DIED). */
static void on_primary_gone(struct hf_standby *s, const struct hf_standby_event *ev,
			    struct hf_standby_actions *out)
{
	if (ev->kind == HF_STANDBY_PEER_DEAD)
		s->is_link_up = false;
	if (holds_epoch(s))
		promote(s, /* is_proven= */ true, out);
	else if (s->state == HF_STANDBY_SYNCING)
		/* a keeper that still speaks waits for an answer */
		discard(s, /* is_asked_to= */ ev->kind == HF_STANDBY_VM_DIED, out);
}

static void on_sync_begin(struct hf_standby *s, const struct hf_standby_event *ev,
			  struct hf_standby_actions *out)
{
	if (!s->is_link_up || hf_id_is_none(ev->session) ||
	    (s->state != HF_STANDBY_IDLE && s->state != HF_STANDBY_SYNCING)) {
		add(s, out, HF_STANDBY_REFUSE);
		return;
	}
	move(s, HF_STANDBY_SYNCING);
	s->session = ev->session;
	s->epoch = 0;
	add(s, out, HF_STANDBY_CLEAR);
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
	if (holds_epoch(s) && ev->epoch == s->epoch)
		promote(s, /* is_proven= */ true, out);
}

static void on_order(struct hf_standby *s, const struct hf_standby_event *ev,
		     struct hf_standby_actions *out)
{
	if (s->state == HF_STANDBY_READY)
		add(s, out, HF_STANDBY_REQUEST_HANDOVER);
	else if (s->state == HF_STANDBY_LOST && ev->kind == HF_STANDBY_PROMOTE_FORCED)
		promote(s, /* is_proven= */ false, out);
	else
		add(s, out, HF_STANDBY_REFUSE_ORDER);
}

static void on_loaded(struct hf_standby *s, const struct hf_standby_event *ev,
		      struct hf_standby_actions *out)
{
	bool is_live = ev->kind == HF_STANDBY_LIVE;

	if (s->state != HF_STANDBY_PROMOTING)
		return;
	move(s, is_live ? HF_STANDBY_PROMOTED : HF_STANDBY_FAILED);
	if (is_live && s->is_link_up)
		add(s, out, HF_STANDBY_SEND_PROMOTED);
}

static void on_heard(struct hf_standby *s, const struct hf_standby_event *ev UNUSED,
		     struct hf_standby_actions *out UNUSED)
{
	if (s->state == HF_STANDBY_LOST && s->is_link_up)
		move(s, HF_STANDBY_READY);
}

static void on_unwanted(struct hf_standby *s, const struct hf_standby_event *ev,
			struct hf_standby_actions *out)
{
	if (ev->kind == HF_STANDBY_ABANDON && !hf_id_is_equal(ev->session, s->session))
		return;
	if (holds_epoch(s) || s->state == HF_STANDBY_SYNCING)
		discard(s, /* is_asked_to= */ true, out);
}

static void on_arbiter(struct hf_standby *s, const struct hf_standby_event *ev,
		       struct hf_standby_actions *out)
{
	if (s->state != HF_STANDBY_LOST)
		return; /* an answer to a question that no longer stands */
	if (ev->kind == HF_STANDBY_ARBITER_GRANTED)
		promote(s, /* is_proven= */ false, out);
	else
		discard(s, /* is_asked_to= */ true, out);
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
	[HF_STANDBY_EPOCH_WHOLE] = on_epoch_whole,
	[HF_STANDBY_ARBITER_GRANTED] = on_arbiter,
	[HF_STANDBY_ARBITER_DENIED] = on_arbiter,
	[HF_STANDBY_PROMOTE_WANTED] = on_order,
	[HF_STANDBY_PROMOTE_FORCED] = on_order,
	[HF_STANDBY_LIVE] = on_loaded,
	[HF_STANDBY_LOAD_FAILED] = on_loaded,
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
	return holds_epoch(s);
}

const char *hf_standby_state_name(enum hf_standby_state state)
{
	assert(state < HF_STANDBY_STATE_COUNT);
	return state_names[state];
}

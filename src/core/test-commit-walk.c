/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Both machines under events in any order, also in orders that no driver produces: the assertions
 * of the core hold, outputs leave only on the word of somebody who may say so, and every event has
 * been fed in every state.
 */
#include <stdlib.h>

#include "../../tests/test.h"
#include "core/commit.h"

#define WALKS 200000u
#define STEPS 60u

static uint64_t random_state;

static unsigned int draw(unsigned int below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned int)(random_state >> 33) % below;
}

static struct hf_id draw_session(struct hf_id own)
{
	unsigned int n = draw(4);

	return n == 0 ? (struct hf_id){ 0 } : n == 1 ? (struct hf_id){ 7, 7 } : own;
}

static bool is_word_of_the_standby(const struct hf_primary *before,
				   const struct hf_primary_event *ev, uint64_t epoch)
{
	if (ev->kind == HF_PRIMARY_ACK)
		return ev->epoch == epoch;
	return ev->kind == HF_PRIMARY_LINK_UP && ev->epoch == epoch &&
	       hf_id_is_equal(ev->session, before->session);
}

static bool is_leave_to_go_alone(const struct hf_primary *before, const struct hf_primary_event *ev)
{
	if (ev->kind == HF_PRIMARY_PEER_DISCARDED)
		return hf_id_is_equal(ev->session, before->session) && !before->must_win;
	if (ev->kind == HF_PRIMARY_LINK_UP) /* it is back, and says that it holds no epoch */
		return ev->epoch == 0 && hf_id_is_equal(ev->session, before->session);
	if (ev->kind == HF_PRIMARY_ARBITER_GRANTED)
		return before->has_vote && ev->lver == before->lver;
	return ev->kind == HF_PRIMARY_PEER_DEAD && !before->has_vote;
}

/* One question at a time, about the lver that is owned; none is taken back twice. */
static void check_primary_question(const struct hf_primary *before,
				   const struct hf_primary_event *ev,
				   const struct hf_primary_action *a,
				   const struct hf_primary *after)
{
	bool is_answer = ev->kind == HF_PRIMARY_ARBITER_GRANTED ||
			 ev->kind == HF_PRIMARY_ARBITER_DENIED ||
			 ev->kind == HF_PRIMARY_ARBITER_CANCELLED;

	if (a->kind == HF_PRIMARY_ASK_ARBITER) {
		CHECK(before->has_vote);
		CHECK(!before->is_asking || is_answer);
		CHECK(after->is_asking && !after->is_cancelling);
		CHECK_EQ(a->lver, after->lver);
	}
	if (a->kind == HF_PRIMARY_CANCEL_ARBITER)
		CHECK(before->is_asking && !before->is_cancelling && after->is_cancelling);
	if (a->kind == HF_PRIMARY_SEND_LEASE) {
		CHECK(before->has_vote && after->is_link_up);
		CHECK_EQ(a->lver, after->lver);
	}
}

static bool is_word_to_go_live(const struct hf_primary_action *a)
{
	return a->kind == HF_PRIMARY_SEND_DEAD || a->kind == HF_PRIMARY_SEND_HANDOVER;
}

static void check_primary(const struct hf_primary *before, const struct hf_primary_event *ev,
			  const struct hf_primary_actions *out, const struct hf_primary *after,
			  bool *is_over)
{
	if (before->has_vote && ev->kind == HF_PRIMARY_ARBITER_DENIED && ev->lver == before->lver)
		CHECK(after->state == HF_PRIMARY_SUPERSEDED || after->state == HF_PRIMARY_FINISHED);
	for (unsigned int i = 0; i < out->n; i++) {
		const struct hf_primary_action *a = &out->a[i];

		if (a->kind == HF_PRIMARY_RELEASE)
			CHECK(is_word_of_the_standby(before, ev, a->epoch));
		if (a->kind == HF_PRIMARY_PASS)
			CHECK(is_leave_to_go_alone(before, ev));
		check_primary_question(before, ev, a, after);
		if (is_word_to_go_live(a))
			CHECK(!after->is_asking); /* the standby's vote must be able to be won */
		if (before->is_storage_shared && is_word_to_go_live(a))
			CHECK(before->is_cut || ev->kind == HF_PRIMARY_DISKS_CUT);
		CHECK(before->is_storage_shared || a->kind != HF_PRIMARY_CUT_DISKS);
		if (*is_over)
			CHECK(a->kind != HF_PRIMARY_PASS && a->kind != HF_PRIMARY_RELEASE &&
			      a->kind != HF_PRIMARY_RESUME && a->kind != HF_PRIMARY_CAPTURE);
		*is_over |= a->kind == HF_PRIMARY_DISCARD || a->kind == HF_PRIMARY_FREEZE;
	}
}

/* Every other event is one that leads on: chance alone seldom comes as far as a hand-over. */
static enum hf_primary_event_kind draw_primary_kind(void)
{
	static const enum hf_primary_event_kind onward[] = {
		HF_PRIMARY_LINK_UP,  HF_PRIMARY_SYNCED, HF_PRIMARY_EPOCH_DUE,
		HF_PRIMARY_CAPTURED, HF_PRIMARY_ACK,    HF_PRIMARY_HANDOVER_WANTED,
	};

	return draw(2) ? onward[draw(6)] : draw(HF_PRIMARY_EVENT_COUNT);
}

static struct hf_primary_event draw_primary_event(const struct hf_primary *p)
{
	const uint64_t epochs[] = { 0, p->committed, p->captured, p->captured + 1 };
	const uint64_t lvers[] = { 0, 0, 0, 0, 1, UINT64_MAX };

	return (struct hf_primary_event){ .kind = draw_primary_kind(),
					  .epoch = epochs[draw(4)],
					  .session = draw_session(p->session),
					  .fresh = { 1, random_state | 1 },
					  .lver = p->lver + lvers[draw(6)],
					  .won = p->lver + 1 + draw(2) };
}

TEST(the_primary_takes_any_event_in_any_state)
{
	static bool is_seen[HF_PRIMARY_STATE_COUNT][HF_PRIMARY_EVENT_COUNT];
	unsigned int n_seen = 0;

	for (unsigned int walk = 0; walk < WALKS; walk++) {
		bool is_over = false;
		struct hf_primary p;

		hf_primary_init(&p, draw(3));
		p.is_storage_shared = draw(2);
		p.has_vote = draw(2);
		p.lver = p.has_vote ? 5 : 0;
		for (unsigned int n = 0; n < STEPS; n++) {
			struct hf_primary_event ev = draw_primary_event(&p);
			struct hf_primary before = p;
			struct hf_primary_actions out;

			n_seen += !is_seen[p.state][ev.kind];
			is_seen[p.state][ev.kind] = true;
			hf_primary_step(&p, &ev, &out);
			check_primary(&before, &ev, &out, &p, &is_over);
		}
	}
	CHECK_EQ(n_seen, HF_PRIMARY_STATE_COUNT * HF_PRIMARY_EVENT_COUNT);
}

static bool is_leave_to_promote(const struct hf_standby *before, const struct hf_standby_event *ev)
{
	if (ev->kind == HF_STANDBY_HANDOVER)
		return ev->epoch == before->epoch;
	return ev->kind == HF_STANDBY_PEER_DEAD || ev->kind == HF_STANDBY_VM_DIED ||
	       ev->kind == HF_STANDBY_ARBITER_GRANTED || ev->kind == HF_STANDBY_PROMOTE_FORCED;
}

static bool is_proof(const struct hf_standby_event *ev)
{
	return ev->kind == HF_STANDBY_PEER_DEAD || ev->kind == HF_STANDBY_VM_DIED ||
	       ev->kind == HF_STANDBY_HANDOVER;
}

/* What the world knows of a standby, whatever the machine says of itself. */
struct account {
	bool is_promoted;
	bool must_win; /* and RUN has not come */
	bool is_question_open;
};

static void check_promotion(const struct hf_standby *before, const struct hf_standby_event *ev,
			    const struct hf_standby_action *a, struct account *acc)
{
	bool is_verdict = ev->kind == HF_STANDBY_ARBITER_GRANTED;

	CHECK(!acc->is_promoted);
	CHECK(is_leave_to_promote(before, ev));
	CHECK(before->epoch && a->epoch == before->epoch);
	CHECK(before->leave != HF_STANDBY_LEAVE_ENDED);
	CHECK_EQ(a->must_wait, before->is_storage_shared && !is_proof(ev));
	CHECK_EQ(a->must_win, before->has_vote && is_proof(ev));
	if (before->has_vote && is_verdict)
		CHECK_EQ(ev->lver, before->lver);
	acc->is_promoted = true;
	acc->must_win = a->must_win;
}

static void check_question(const struct hf_standby_event *ev, const struct hf_standby_action *a,
			   struct account *acc)
{
	if (a->kind == HF_STANDBY_ASK_ARBITER) {
		CHECK(!acc->is_question_open);
		acc->is_question_open = true;
	}
	if (a->kind == HF_STANDBY_CANCEL_ARBITER)
		CHECK(acc->is_question_open);
	/* The leave for the primary to let everything out. */
	if (a->kind == HF_STANDBY_SEND_DISCARDED || a->kind == HF_STANDBY_DISCARD)
		CHECK(!acc->is_question_open);
	if (a->kind == HF_STANDBY_RUN || a->kind == HF_STANDBY_RELEASE_LEASE)
		CHECK(ev->kind == HF_STANDBY_ARBITER_GRANTED || ev->kind == HF_STANDBY_LOAD_FAILED);
}

static void check_standby(const struct hf_standby *before, const struct hf_standby_event *ev,
			  const struct hf_standby_actions *out, struct account *acc)
{
	for (unsigned int i = 0; i < out->n; i++) {
		const struct hf_standby_action *a = &out->a[i];
		bool is_denial = before->state == HF_STANDBY_PROMOTING &&
				 ev->kind == HF_STANDBY_ARBITER_DENIED;

		if (a->kind == HF_STANDBY_ASK_ARBITER)
			CHECK(before->has_vote);
		check_question(ev, a, acc);
		if (a->kind == HF_STANDBY_PROMOTE)
			check_promotion(before, ev, a, acc);
		if (a->kind == HF_STANDBY_RUN) {
			CHECK(acc->must_win && ev->lver == before->lver);
			acc->must_win = false;
		}
		if (a->kind == HF_STANDBY_SEND_PROMOTED)
			CHECK(acc->is_promoted && !acc->must_win);
		if (acc->is_promoted)
			CHECK(a->kind != HF_STANDBY_ACK && a->kind != HF_STANDBY_APPLY &&
			      (a->kind != HF_STANDBY_SEND_DISCARDED || is_denial));
	}
}

static bool is_answer(const struct hf_standby_event *ev)
{
	return ev->kind == HF_STANDBY_ARBITER_GRANTED || ev->kind == HF_STANDBY_ARBITER_DENIED ||
	       ev->kind == HF_STANDBY_ARBITER_CANCELLED;
}

static struct hf_standby_event draw_standby_event(const struct hf_standby *s)
{
	const uint64_t epochs[] = { 1, s->epoch, s->epoch + 1, s->epoch + 2 };

	return (struct hf_standby_event){
		.kind = draw(HF_STANDBY_EVENT_COUNT),
		.epoch = epochs[draw(4)],
		.session = hf_id_is_none(s->session) ? (struct hf_id){ 1, random_state | 1 }
						     : draw_session(s->session),
		.lver = s->has_vote ? s->lver + (draw(8) == 0) + (s->lver == 0) : draw(20) == 0,
		.won = s->lver + 2 + draw(2)
	};
}

TEST(the_standby_takes_any_event_in_any_state)
{
	static bool is_seen[HF_STANDBY_STATE_COUNT][HF_STANDBY_EVENT_COUNT];
	unsigned int n_seen = 0;

	for (unsigned int walk = 0; walk < WALKS; walk++) {
		struct account acc = { 0 };
		struct hf_standby s;

		hf_standby_init(&s);
		s.is_storage_shared = draw(2);
		s.has_vote = draw(2);
		for (unsigned int n = 0; n < STEPS; n++) {
			struct hf_standby_event ev = draw_standby_event(&s);
			struct hf_standby before = s;
			struct hf_standby_actions out;

			n_seen += !is_seen[s.state][ev.kind];
			is_seen[s.state][ev.kind] = true;
			acc.is_question_open &= !is_answer(&ev);
			hf_standby_step(&s, &ev, &out);
			check_standby(&before, &ev, &out, &acc);
			CHECK(s.state != HF_STANDBY_PROMOTED || !acc.must_win);
		}
	}
	CHECK_EQ(n_seen, HF_STANDBY_STATE_COUNT * HF_STANDBY_EVENT_COUNT);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arbiters. `wait` never answers. `promote` says yes to one of the two hosts, whenever it asks. The
 * vote stands for the lease to come: for each session the first to ask wins, for ever, and either
 * side may ask again as often as it likes. An answer belongs to the session that it was asked for.
 */
#include "sim.h"

#include <assert.h>

#define ASK_MAX_NS (15 * SIM_MS)
#define ASK_AGAIN_NS (30 * SIM_MS)

static uint64_t look_up(const struct sim_vote *votes, unsigned int n, struct hf_id session)
{
	for (unsigned int i = 0; i < n; i++)
		if (hf_id_is_equal(votes[i].session, session))
			return votes[i].inst;
	return 0;
}

uint64_t sim_arbiter_winner(const struct sim_world *w, struct hf_id session)
{
	return look_up(w->votes, w->n_votes, session);
}

uint64_t sim_arbiter_grantee(const struct sim_world *w, struct hf_id session)
{
	return look_up(w->grants, w->n_grants, session);
}

static void remember(struct sim_vote *votes, unsigned int *n, struct hf_id session, uint64_t inst)
{
	assert(*n < SIM_VOTES);
	votes[(*n)++] = (struct sim_vote){ .session = session, .inst = inst };
}

void sim_arbiter_claim(struct sim_world *w, struct hf_id session, uint64_t inst)
{
	if (w->plan->arbiter == SIM_ARBITER_VOTE && !sim_arbiter_winner(w, session))
		remember(w->votes, &w->n_votes, session, inst);
}

void sim_arbiter_ask(struct sim_world *w, struct sim_keeper *k)
{
	bool is_standby = k->is_standby && k->s.state == HF_STANDBY_LOST;
	bool is_primary = k->is_primary &&
			  (k->p.state == HF_PRIMARY_HOLDING || k->p.state == HF_PRIMARY_LEAVING);
	struct sim_event ev = { .kind = SIM_EV_ASK,
				.a = is_standby,
				.session = is_standby ? k->s.session : k->p.session };

	if (!is_standby && !is_primary)
		k->is_asking = false;
	if (!k->is_asking || w->now_ns < k->ask_ns || w->arbiter_cuts[k->node])
		return;
	k->ask_ns = w->now_ns + ASK_AGAIN_NS;
	if (w->plan->arbiter == SIM_ARBITER_VOTE ||
	    (w->plan->arbiter == SIM_ARBITER_PROMOTE && w->plan->promote_node == k->node))
		sim_keeper_post(w, k, ASK_MAX_NS, &ev);
}

/* The winner may be gone before it hears of it: then nobody may go on. */
static void vote(struct sim_world *w, const struct sim_event *ev)
{
	const struct sim_keeper *k = &w->keepers[ev->node];

	if (sim_arbiter_winner(w, ev->session))
		return;
	w->stats->votes++;
	remember(w->votes, &w->n_votes, ev->session, ev->inst);
	if (k->inst != ev->inst ||
	    (!ev->a && (!k->vm.is_alive || k->p.state == HF_PRIMARY_HANDED_OVER)))
		w->may_be_lost = true;
}

void sim_arbiter_asked(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_keeper *k = &w->keepers[ev->node];
	struct sim_event answer = {
		.kind = SIM_EV_VERDICT, .a = ev->a, .session = ev->session, .value = 1
	};

	if (w->plan->arbiter == SIM_ARBITER_VOTE) {
		vote(w, ev);
		answer.value = sim_arbiter_winner(w, ev->session) == ev->inst ||
			       w->plant == SIM_PLANT_BOTH_GRANTED;
	}
	if (k->inst == ev->inst && !w->arbiter_cuts[ev->node] && !w->is_host_down[ev->node])
		sim_keeper_post(w, k, ASK_MAX_NS, &answer);
}

void sim_arbiter_verdict(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	struct hf_id session = ev->a ? k->s.session : k->p.session;
	bool is_heeded = ev->a ? k->s.state == HF_STANDBY_LOST
			       : (k->p.state == HF_PRIMARY_HOLDING ||
				  k->p.state == HF_PRIMARY_LEAVING);

	if (!hf_id_is_equal(session, ev->session))
		return;
	if (is_heeded && !ev->a && !k->vm.is_alive)
		w->may_be_lost = true; /* it gives up the standby for a VM that has just died */
	if (is_heeded && w->plan->arbiter == SIM_ARBITER_PROMOTE) {
		if (hf_id_is_equal(session, w->forced))
			sim_check_proof(w, k, session);
		if (!sim_arbiter_grantee(w, session))
			remember(w->grants, &w->n_grants, session, k->inst);
	}
	if (ev->a)
		sim_standby_event(
			w, k, ev->value ? HF_STANDBY_ARBITER_GRANTED : HF_STANDBY_ARBITER_DENIED, 0,
			session);
	else
		sim_primary_event(
			w, k, ev->value ? HF_PRIMARY_ARBITER_GRANTED : HF_PRIMARY_ARBITER_DENIED, 0,
			session);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A keeper's side of the vote: its questions go to the daemon of its host, answers come as events.
 * And what everybody can see who sees everything: whose vote is won, who has gone on from a session.
 */
#include "sim.h"

#include <assert.h>

bool sim_has_vote(const struct sim_world *w)
{
	return w->plan->arbiter == SIM_ARBITER_VOTE;
}

void sim_vote_ask(struct sim_world *w, struct sim_keeper *k, bool is_standby, uint64_t lver)
{
	uint64_t heard_ns = is_standby ? k->primary_heard_ns : k->standby_heard_ns;
	bool is_proven = is_standby && k->s.state != HF_STANDBY_LOST;

	if (sim_has_vote(w))
		sim_daemon_ask(w, k, is_standby, lver, is_proven ? 0 : heard_ns + SIM_SILENCE_NS);
}

static void tell_primary(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	static const enum hf_primary_event_kind kinds[] = {
		[SIM_DENIED] = HF_PRIMARY_ARBITER_DENIED,
		[SIM_GRANTED] = HF_PRIMARY_ARBITER_GRANTED,
		[SIM_CANCELLED] = HF_PRIMARY_ARBITER_CANCELLED,
	};

	/* Somebody had vouched for its death, and it was not so. */
	if (ev->value == SIM_GRANTED)
		sim_check_proof(w, k, k->p.session);
	sim_keeper_item(w, k, SIM_ITEM_PRIMARY)->pev = (struct hf_primary_event){
		.kind = kinds[ev->value],
		.session = k->p.session,
		.lver = ev->epoch,
		.won = ev->conn,
	};
}

static void tell_standby(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	static const enum hf_standby_event_kind kinds[] = {
		[SIM_DENIED] = HF_STANDBY_ARBITER_DENIED,
		[SIM_GRANTED] = HF_STANDBY_ARBITER_GRANTED,
		[SIM_CANCELLED] = HF_STANDBY_ARBITER_CANCELLED,
	};

	sim_keeper_item(w, k, SIM_ITEM_STANDBY)->sev = (struct hf_standby_event){
		.kind = kinds[ev->value],
		.session = k->s.session,
		.lver = ev->epoch,
		.won = ev->conn,
	};
}

/* Who went live by force without a verdict gets it as a primary. */
void sim_vote_verdict(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	if (ev->a)
		tell_standby(w, k, ev);
	if (k->is_primary)
		tell_primary(w, k, ev);
}

/* ---- the truth ---- */

/* Can @s not win any more, whatever it does? */
bool sim_vote_is_lost(const struct sim_world *w, const struct sim_keeper *s)
{
	uint64_t owner = sim_has_vote(w) ? sim_area_owner_of(w, s->s.lver + 1) : 0;

	return owner && owner != (uint64_t)s->node + 1 && !s->s.has_won;
}

/* Is it decided, or may it be by what was written, that @node goes on where @s stands? */
bool sim_vote_has_bid(const struct sim_world *w, int node, const struct sim_keeper *s)
{
	return sim_has_vote(w) && sim_area_has_bid(w, node, s->s.lver + 1);
}

void sim_check_owner(struct sim_world *w, int node, uint64_t lver)
{
	if (sim_area_owner_of(w, lver) != (uint64_t)node + 1)
		sim_fail(w, SIM_RULE_OWNER, "%c takes lver %llu for its own, which it is not",
			 sim_letter(node), (unsigned long long)lver);
}

void sim_check_denied(struct sim_world *w, const struct sim_keeper *k)
{
	if (w->is_forked)
		return;
	if (k->was_denied || (!hf_id_is_none(k->denied) && hf_id_is_equal(k->denied, k->s.session)))
		sim_fail(w, SIM_RULE_DENIED, "%c lost the vote and lets something out",
			 sim_letter(k->node));
}

/* Something leaves that no standby stands behind: only where the lease is. */
void sim_check_may_go_on(struct sim_world *w, const struct sim_keeper *k)
{
	const struct sim_area *a = &w->area;
	uint64_t owner = a->owners[a->best];

	sim_check_denied(w, k);
	if (!sim_has_vote(w) || w->is_forked || (k->s.is_forced && !k->s.has_won))
		return;
	if (owner != (uint64_t)k->node + 1)
		sim_fail(w, SIM_RULE_OWNER, "%c lets something out, the lease is %c's",
			 sim_letter(k->node), sim_letter((int)owner - 1));
	else if (a->freed == a->best)
		sim_fail(w, SIM_RULE_OWNER, "%c lets something out, and has released the lease",
			 sim_letter(k->node));
}

/* @k goes on from @session, without whoever else took part in it: at most one does, ever. */
void sim_check_gone_on(struct sim_world *w, const struct sim_keeper *k, struct hf_id session)
{
	if (hf_id_is_none(session) || w->is_forked)
		return;
	for (unsigned int i = 0; i < w->n_gone_on; i++) {
		if (!hf_id_is_equal(w->gone_on[i].session, session))
			continue;
		if (w->gone_on[i].inst != k->inst)
			sim_fail(w, SIM_RULE_ONCE,
				 "%c goes on from a session that another side has gone on from",
				 sim_letter(k->node));
		return;
	}
	assert(w->n_gone_on < SIM_GONE_ON);
	w->gone_on[w->n_gone_on++] = (struct sim_gone_on){ .session = session, .inst = k->inst };
}

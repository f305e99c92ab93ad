/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A keeper's side of the vote: its questions go to the daemon of its host, answers come as events.
 * And what everybody can see who sees everything: whose vote is won, who has gone on from a
 * session.
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
	if (ev->value == SIM_GRANTED && hf_id_is_equal(k->p.session, w->forced))
		sim_check_proof(w, k, k->p.session);
	if (ev->value == SIM_GRANTED)
		k->tenure = ev->session.lo;
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
	if (ev->a && ev->value == SIM_GRANTED)
		k->tenure = ev->session.lo;
	if (ev->a)
		tell_standby(w, k, ev);
	if (k->is_primary)
		tell_primary(w, k, ev);
}

/* ---- the host's lease ---- */

static bool is_exempt(const struct sim_world *w, const struct sim_keeper *k)
{
	/* Nobody but its standby could run it, and that is in touch. */
	return k->p.state == HF_PRIMARY_PROTECTED && w->plan->layout != SIM_DISKS_SHARED;
}

static bool is_lease_good(const struct sim_world *w, const struct sim_keeper *k)
{
	const struct sim_daemon *d = &w->daemons[k->node];

	return (w->now_ns < d->valid_ns || w->plant == SIM_PLANT_EXPIRY_IGNORED) &&
	       (k->tenure == d->tenure || w->plant == SIM_PLANT_TENURE_IGNORED);
}

/* Who was forced to go live has none, until he gets one. */
static bool is_unleased(const struct sim_keeper *k)
{
	return k->s.is_forced && !k->tenure;
}

bool sim_vote_may_run(const struct sim_world *w, const struct sim_keeper *k)
{
	return !sim_has_vote(w) || is_unleased(k) || is_exempt(w, k) || is_lease_good(w, k);
}

static bool may_go_on(const struct sim_world *w, const struct sim_keeper *k)
{
	return !sim_has_vote(w) || is_unleased(k) || is_lease_good(w, k);
}

bool sim_vote_may_go_on(const struct sim_world *w, const struct sim_keeper *k)
{
	return may_go_on(w, k);
}

void sim_vote_lease_renewed(struct sim_world *w, struct sim_keeper *k)
{
	const struct sim_daemon *d = &w->daemons[k->node];

	if (!k->is_primary || k->is_frozen)
		return;
	if (k->tenure != d->tenure && !k->p.must_verify && !is_unleased(k)) {
		sim_primary_event(w, k, HF_PRIMARY_LEASE_RENEWED, 0, k->p.session);
		sim_keeper_work(w, k);
	}
}

/* What stood still for want of a lease. */
void sim_vote_go_on(struct sim_world *w, struct sim_keeper *k)
{
	if (!k->is_primary)
		return;
	if (may_go_on(w, k) && k->is_resend_due)
		sim_standby_resend(w, k);
	if (may_go_on(w, k) && k->is_pass_wanted)
		sim_tap_pass(w, k);
	if (k->is_lease_stopped && sim_vote_may_run(w, k)) {
		k->is_lease_stopped = false;
		sim_say(w, "%c the VM may run again", sim_letter(k->node));
		k->vm.is_running = k->vm.is_alive && !k->is_stopped_for_good && !k->has_capture &&
				   k->p.stage != HF_STAGE_CAPTURE && !k->p.is_final;
	}
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
	else if (w->now_ns >= w->daemons[k->node].valid_ns)
		sim_fail(w, SIM_RULE_OWNER, "%c lets something out, its host's lease has run out",
			 sim_letter(k->node));
	else if (k->tenure != w->daemons[k->node].tenure)
		sim_fail(w, SIM_RULE_OWNER,
			 "%c lets something out, and has not looked since its host's lease had run "
			 "out",
			 sim_letter(k->node));
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The checkers that look into the keepers from outside of them. They believe what the world knows
 * (which process lives, what was captured), not what a machine says of itself.
 */
#include "sim.h"

#define FLOW_NS (450 * SIM_MS)

static bool is_standby_of(const struct sim_keeper *s, const struct sim_keeper *k)
{
	return s->inst && s->is_standby && s->primary_inst == k->inst &&
	       hf_id_is_equal(s->s.session, k->p.session) &&
	       (s->s.state == HF_STANDBY_READY || s->s.state == HF_STANDBY_LOST ||
		s->s.state == HF_STANDBY_PROMOTING);
}

static bool has_standby(const struct sim_world *w, const struct sim_keeper *k)
{
	for (int n = 0; n < SIM_NODES; n++)
		if (is_standby_of(&w->keepers[n], k))
			return true;
	return false;
}

/* Runs, and its outputs can reach the outside: at once, or by the word of a standby. */
static bool is_live(const struct sim_world *w, const struct sim_keeper *k)
{
	if (!k->inst || !k->vm.is_alive || !k->vm.is_running)
		return false;
	return k->tap.mode == SIM_TAP_PASS || (k->tap.mode == SIM_TAP_HOLD && has_standby(w, k));
}

void sim_check_world(struct sim_world *w)
{
	int live = SIM_NONE;

	if (w->is_forked)
		return;
	for (int n = 0; n < SIM_NODES; n++) {
		if (!is_live(w, &w->keepers[n]))
			continue;
		if (live != SIM_NONE)
			sim_fail(w, SIM_RULE_LIVE, "the VM runs on %c and on %c", sim_letter(live),
				 sim_letter(n));
		live = n;
	}
}

void sim_check_begin(struct sim_world *w, struct sim_keeper *k)
{
	if (k->partial.is_active)
		sim_fail(w, SIM_RULE_WHOLE,
			 "%c takes an epoch while a part of %llu was not thrown away",
			 sim_letter(k->node), (unsigned long long)k->partial.epoch);
}

const struct sim_epoch *sim_find_epoch(const struct sim_world *w, struct hf_id session,
				       uint64_t epoch)
{
	for (unsigned int i = w->n_epochs; i-- > 0;)
		if (w->epochs[i].epoch == epoch && hf_id_is_equal(w->epochs[i].session, session))
			return &w->epochs[i];
	return NULL;
}

void sim_check_promote(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	const struct sim_epoch *e = sim_find_epoch(w, k->s.session, epoch);

	if (!e)
		sim_fail(w, SIM_RULE_WHOLE, "%c promotes epoch %llu, which was never captured",
			 sim_letter(k->node), (unsigned long long)epoch);
	else if (epoch != k->whole_epoch)
		sim_fail(w, SIM_RULE_WHOLE,
			 "%c promotes epoch %llu, but %llu was the last whole one",
			 sim_letter(k->node), (unsigned long long)epoch,
			 (unsigned long long)k->whole_epoch);
	else if (k->partial.is_active)
		sim_fail(w, SIM_RULE_WHOLE, "%c promotes with a part of epoch %llu in its hands",
			 sim_letter(k->node), (unsigned long long)k->partial.epoch);
	else if (sim_guest_digest(&k->replica) != sim_guest_digest(&e->g))
		sim_fail(w, SIM_RULE_WHOLE,
			 "what %c promotes is not the state that was captured as epoch "
			 "%llu",
			 sim_letter(k->node), (unsigned long long)epoch);
	sim_check_view(w, k, epoch);
	if (k->was_told_ended)
		sim_fail(w, SIM_RULE_ENDED, "%c promotes a VM that it knows to have ended",
			 sim_letter(k->node));
}

/* From now on nothing may leave its old primary that this state does not know of. */
void sim_note_promotion(struct sim_world *w, struct sim_keeper *k)
{
	const struct sim_epoch *e = sim_find_epoch(w, k->s.session, k->s.epoch);

	if (!e)
		return;
	w->promotions[w->n_promotions++ % SIM_PROMOTIONS] = (struct sim_promotion){
		.session = k->s.session, .inst = k->inst, .out_seq = e->g.out_seq
	};
	if (!w->plan->does_resend)
		w->outside.gap_inst = k->inst;
}

/*
 * An operator vouched for the death of this side, or for the other one, and was wrong: then two
 * histories exist, and what is promised ends here. That is a limit of force
 * (docs/failure-model.md), so it is counted.
 */
void sim_check_proof(struct sim_world *w, struct sim_keeper *k, struct hf_id session)
{
	bool has_other_won = k->is_standby && sim_vote_is_lost(w, k);

	if (hf_id_is_none(session) || w->is_forked)
		return;
	if (hf_id_is_equal(session, w->forced) || has_other_won) {
		w->is_forked = true;
		w->stats->forks++;
		sim_say(w, "%c goes on from where the dead side left the common path",
			sim_letter(k->node));
	}
}

static bool is_stopping(const struct sim_keeper *k)
{
	/* HANDING_OVER: the acknowledgement that commits the hand-over may be under way. */
	return k->is_stopped_for_good || k->p.state == HF_PRIMARY_HANDED_OVER ||
	       k->p.state == HF_PRIMARY_HANDING_OVER || k->p.state == HF_PRIMARY_DEAD ||
	       k->p.state == HF_PRIMARY_SUPERSEDED;
}

static void note_primary(struct sim_world *w, const struct sim_keeper *k)
{
	if (!has_standby(w, k) || k->p.state == HF_PRIMARY_ALONE ||
	    k->p.state == HF_PRIMARY_SYNCING || k->p.state == HF_PRIMARY_LEAVING)
		w->may_be_lost = true;
	for (int n = 0; n < SIM_NODES; n++) {
		const struct sim_keeper *s = &w->keepers[n];

		if (is_standby_of(s, k) &&
		    (sim_vote_is_lost(w, s) || sim_vote_has_bid(w, k->node, s)))
			w->may_be_lost = true;
	}
}

static void note_standby(struct sim_world *w, const struct sim_keeper *s)
{
	if (s->s.state == HF_STANDBY_PROMOTING ||
	    (s->s.session.lo && sim_vote_has_bid(w, s->node, s)))
		w->may_be_lost = true;
	for (int n = 0; n < SIM_NODES; n++) {
		const struct sim_keeper *k = &w->keepers[n];

		if (k->inst && k->is_primary && is_standby_of(s, k) && k->vm.is_alive &&
		    !is_stopping(k))
			return;
	}
	if (s->s.state == HF_STANDBY_READY || s->s.state == HF_STANDBY_LOST)
		w->may_be_lost = true;
}

/* Something of @node is about to die: does anything stand behind it? */
void sim_note_death(struct sim_world *w, int node)
{
	const struct sim_keeper *k = &w->keepers[node];

	if (!k->inst)
		return;
	if (k->is_primary && k->p.state != HF_PRIMARY_SUPERSEDED)
		note_primary(w, k);
	else if (k->is_standby)
		note_standby(w, k);
}

/*
 * A standby was forced to go live, and has died since: its old primary cannot know how far it had
 * come and holds on, until an operator ends it. No progress is promised to it.
 */
static bool is_stray(const struct sim_world *w, const struct sim_keeper *k)
{
	struct hf_id session = k->p.session;

	if (hf_id_is_none(session) || !hf_id_is_equal(session, w->forced) ||
	    (k->p.state != HF_PRIMARY_LEAVING && k->p.state != HF_PRIMARY_HOLDING &&
	     k->p.state != HF_PRIMARY_DEAD))
		return false;
	for (int n = 0; n < SIM_NODES; n++)
		if (w->keepers[n].is_standby && n != k->node &&
		    hf_id_is_equal(w->keepers[n].s.session, session))
			return false;
	return true;
}

/* Its standby would be denied, and discard the VM, if the primary died now. */
static bool is_told_wrong(const struct sim_world *w, const struct sim_keeper *k)
{
	for (int n = 0; n < SIM_NODES; n++)
		if (is_standby_of(&w->keepers[n], k) && w->keepers[n].s.lver != k->p.lver)
			return true;
	return false;
}

static void check_one_calm(struct sim_world *w, const struct sim_keeper *k)
{
	if (k->p.state != HF_PRIMARY_PROTECTED || k->tap.mode != SIM_TAP_HOLD || !has_standby(w, k))
		sim_fail(w, SIM_RULE_PROGRESS, "the VM on %c is %s long after all was healed",
			 sim_letter(k->node), hf_primary_state_name(k->p.state));
	else if (is_told_wrong(w, k))
		sim_fail(w, SIM_RULE_PROGRESS,
			 "the standby of %c would ask about a lver that is past",
			 sim_letter(k->node));
	else if (w->now_ns - w->outside.last_ns > FLOW_NS)
		sim_fail(w, SIM_RULE_PROGRESS, "nothing left %c for %llu ms after all was healed",
			 sim_letter(k->node),
			 (unsigned long long)((w->now_ns - w->outside.last_ns) / SIM_MS));
}

void sim_check_calm(struct sim_world *w)
{
	int running = SIM_NONE;

	if (w->is_forked)
		return;
	for (int n = 0; n < SIM_NODES; n++) {
		const struct sim_keeper *k = &w->keepers[n];

		if (!k->inst || !k->is_primary)
			continue;
		if (is_stray(w, k)) {
			w->may_be_lost = true;
			continue;
		}
		if (!k->vm.is_alive || w->now_ns - k->vm.ran_ns > FLOW_NS) {
			sim_fail(w, SIM_RULE_PROGRESS, "%c is stuck as %s, its VM does not run",
				 sim_letter(n), hf_primary_state_name(k->p.state));
			return;
		}
		if (running != SIM_NONE)
			sim_fail(w, SIM_RULE_PROGRESS,
				 "%c and %c both run the VM long after all was healed",
				 sim_letter(running), sim_letter(n));
		running = n;
	}
	if (running != SIM_NONE) {
		check_one_calm(w, &w->keepers[running]);
		return;
	}
	if (w->is_ended)
		w->stats->vms_ended++;
	else if (w->may_be_lost)
		w->stats->vms_lost++;
	else
		sim_fail(w, SIM_RULE_PROGRESS,
			 "the VM runs nowhere, and no fault took all that held it");
}

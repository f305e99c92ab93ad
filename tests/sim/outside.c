/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The outside is the judge of everything: it sees numbered outputs, each with a digest of the whole
 * history of the guest that sent it, and remembers them. A guest that does not know of an output
 * that the outside has seen cannot go on with a fitting digest.
 */
#include "sim.h"

/* Output commit: whoever could be promoted from this VM must know of what leaves it. */
static void check_covered(struct sim_world *w, const struct sim_keeper *k,
			  const struct sim_output *o)
{
	for (int n = 0; n < SIM_NODES; n++) {
		const struct sim_keeper *s = &w->keepers[n];
		const struct sim_epoch *e;

		if (!s->inst || s == k || !s->is_standby || s->primary_inst != k->inst ||
		    (s->s.state != HF_STANDBY_READY && s->s.state != HF_STANDBY_LOST &&
		     s->s.state != HF_STANDBY_PROMOTING) ||
		    sim_vote_is_lost(w, s))
			continue;
		e = sim_find_epoch(w, s->s.session, s->s.epoch);
		if (!e || e->g.out_seq <= o->seq)
			sim_fail(w, SIM_RULE_COMMIT,
				 "output %llu left %c before its epoch was whole on %c",
				 (unsigned long long)o->seq, sim_letter(k->node), sim_letter(n));
	}
}

/* Once a standby goes live, only what it knows of may still leave its old primary. */
static void check_superseded(struct sim_world *w, const struct sim_keeper *k,
			     const struct sim_output *o)
{
	for (unsigned int i = 0; i < w->n_promotions; i++) {
		const struct sim_promotion *p = &w->promotions[i];

		if (p->inst != k->inst && hf_id_is_equal(p->session, k->p.session) &&
		    o->seq >= p->out_seq)
			sim_fail(w, SIM_RULE_LIVE,
				 "output %llu left %c after its standby went live",
				 (unsigned long long)o->seq, sim_letter(k->node));
	}
}

static void check_duplicate(struct sim_world *w, const struct sim_keeper *k,
			    const struct sim_output *o)
{
	uint64_t *seen = &w->outside.seen[o->seq % SIM_SEEN];

	if (!w->n_promotions)
		sim_fail(w, SIM_RULE_ORDER, "output %llu left %c twice without a failover",
			 (unsigned long long)o->seq, sim_letter(k->node));
	if (!*seen) {
		/* Not sent again at the failover, and now its old primary wakes up and lets it
		 * go. */
		w->stats->lost--;
		*seen = o->digest;
		return;
	}
	w->stats->duplicates++;
	if (*seen != o->digest)
		sim_fail(w, SIM_RULE_COMMIT,
			 "output %llu of %c is not what the outside saw before: the "
			 "VM went back in time",
			 (unsigned long long)o->seq, sim_letter(k->node));
}

static void check_next(struct sim_world *w, const struct sim_keeper *k, const struct sim_output *o)
{
	struct sim_outside *out = &w->outside;

	if (o->seq > out->next_seq) {
		w->stats->lost += o->seq - out->next_seq;
		if (out->gap_inst != k->inst)
			sim_fail(w, SIM_RULE_ORDER, "%llu outputs before %llu of %c are missing",
				 (unsigned long long)(o->seq - out->next_seq),
				 (unsigned long long)o->seq, sim_letter(k->node));
		for (uint64_t seq = out->next_seq; seq < o->seq; seq++)
			out->seen[seq % SIM_SEEN] = 0;
	} else if (o->seq && out->seen[(o->seq - 1) % SIM_SEEN] != o->prev) {
		sim_fail(w, SIM_RULE_COMMIT,
			 "output %llu of %c depends on a history that the outside did "
			 "not see",
			 (unsigned long long)o->seq, sim_letter(k->node));
	}
	if (out->gap_inst == k->inst)
		out->gap_inst = 0;
}

void sim_outside_sees(struct sim_world *w, struct sim_keeper *k, const struct sim_output *o,
		      bool is_again)
{
	struct sim_outside *out = &w->outside;

	w->stats->outputs++;
	w->stats->hash = sim_mix(w->stats->hash, o->digest);
	sim_check_told(w, k, o);
	sim_check_denied(w, k);
	if (!w->is_forked) {
		check_covered(w, k, o);
		check_superseded(w, k, o);
		if (is_again && o->seq >= k->replica.out_seq)
			sim_fail(w, SIM_RULE_RESEND,
				 "%c sends output %llu, which its epoch does not contain",
				 sim_letter(k->node), (unsigned long long)o->seq);
		if (o->seq < out->next_seq)
			check_duplicate(w, k, o);
		else
			check_next(w, k, o);
	}
	if (o->seq >= out->next_seq) {
		out->next_seq = o->seq + 1;
		out->last_ns = w->now_ns;
		out->seen[o->seq % SIM_SEEN] = o->digest;
	} else if (w->is_forked) {
		out->last_ns = w->now_ns;
	}
}

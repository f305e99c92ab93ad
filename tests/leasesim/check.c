/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The checkers: they see everything, in true time, and take no part. */
#include "leasesim.h"

#include <string.h>

#define OPERATION_MAX_NS (12 * LS_S)

struct ls_decided *ls_decided_at(struct ls_world *w, int lease, uint64_t lver)
{
	return &w->decided[lease][lver < LS_LVERS ? lver : LS_LVERS - 1];
}

/* ---- who can act ---- */

static void check_lease(struct ls_world *w, int lease)
{
	const struct ls_machine *actor = NULL;
	uint64_t lver;

	for (int i = 0; i < w->plan->n_machines; i++) {
		const struct ls_machine *m = &w->machines[i];

		if (!ls_vm_can_act(w, m, lease))
			continue;
		if (actor)
			ls_fail(w, LS_RULE_ONE_OWNER,
				"VM %d can act on %c (lver %llu) and %c (%llu)", lease,
				ls_letter(ls_index(w, actor)),
				(unsigned long long)actor->vms[lease].lver, ls_letter(i),
				(unsigned long long)m->vms[lease].lver);
		actor = m;
	}
	if (!actor)
		return;
	lver = actor->vms[lease].lver;
	if (lver < w->acted_lver[lease])
		ls_fail(w, LS_RULE_ONE_OWNER, "VM %d acts on %c at lver %llu after it did at %llu",
			lease, ls_letter(ls_index(w, actor)), (unsigned long long)lver,
			(unsigned long long)w->acted_lver[lease]);
	w->acted_lver[lease] = lver;
}

void ls_check_world(struct ls_world *w)
{
	for (int l = 0; l < w->plan->n_leases; l++)
		check_lease(w, l);
}

/* ---- what was decided ---- */

static struct ls_machine *machine_of(struct ls_world *w, uint64_t id)
{
	for (int i = 0; i < w->plan->n_machines; i++)
		if (w->machines[i].id == id && !w->machines[i].is_twin)
			return &w->machines[i];
	return NULL;
}

/* Has the owner of this lver been alive, by its own deadline, all the time since it became that? */
static bool is_alive_since(const struct ls_world *w, const struct ls_machine *m,
			   const struct ls_decided *d)
{
	if (!m->is_up || m->valid_since_ns > d->at_ns)
		return false;
	if (m->is_sanlock)
		return w->san.is_member && w->san.generation == d->generation &&
		       ls_local_ns(w, m) < w->san.limit_ns;
	return m->page.generation == d->generation && m->page.valid_ns &&
	       ls_local_ns(w, m) < m->page.fence_ns;
}

static void check_robbed(struct ls_world *w, int lease, uint64_t lver, const struct ls_decided *d)
{
	const struct ls_decided *before = lver ? ls_decided_at(w, lease, lver - 1) : d;
	const struct ls_machine *m = machine_of(w, before->owner);

	if (!before->owner || !m || before->owner == d->owner || before->is_released ||
	    before->may_claim & UINT64_C(1) << d->owner)
		return;
	if (is_alive_since(w, m, before))
		ls_fail(w, LS_RULE_NOT_ROBBED,
			"lease %d goes to host %llu at lver %llu, but its owner %llu is alive",
			lease, (unsigned long long)d->owner, (unsigned long long)lver,
			(unsigned long long)before->owner);
	else
		w->stats->took_over++;
}

static void decide(struct ls_world *w, int lease, uint64_t lver, uint64_t owner,
		   uint64_t generation)
{
	struct ls_decided *d = ls_decided_at(w, lease, lver);

	if (!lver || lver >= LS_LVERS)
		return;
	if (!d->owner) {
		d->owner = owner;
		d->generation = generation;
		d->at_ns = w->now_ns;
		check_robbed(w, lease, lver, d);
	} else if (d->owner != owner || d->generation != generation) {
		ls_fail(w, LS_RULE_ONE_VALUE,
			"lver %llu of lease %d is decided for %llu.%llu, and for %llu.%llu",
			(unsigned long long)lver, lease, (unsigned long long)d->owner,
			(unsigned long long)d->generation, (unsigned long long)owner,
			(unsigned long long)generation);
	}
}

/* sanlock's block does not keep what it has accepted: after a crash its host may decide for itself
 * once more, in its new generation. Nobody ran by the first. */
static void forget_corpse(struct ls_world *w, const struct ls_machine *m, int lease,
			  const struct hf_lease_leader *l)
{
	struct ls_decided *d = ls_decided_at(w, lease, l->lver);

	if (m->is_sanlock && l->owner == m->id && d->owner == m->id &&
	    d->generation < l->generation && w->acted_lver[lease] < l->lver)
		memset(d, 0, sizeof(*d));
}

void ls_check_leader(struct ls_world *w, struct ls_machine *m, int lease,
		     const struct hf_lease_leader *l)
{
	forget_corpse(w, m, lease, l);
	decide(w, lease, l->lver, l->owner, l->generation);
	if (!m->is_sanlock && m->works[lease].b.want.op == HF_BALLOT_TRANSFER && !l->timestamp_s)
		ls_fail(w, LS_RULE_NOT_FREE, "%c gives lease %d away by freeing it",
			ls_letter(ls_index(w, m)), lease);
}

void ls_check_landed(struct ls_world *w, int lease, const struct hf_lease_leader *l)
{
	if (w->giving_lver[lease] && l->lver == w->giving_lver[lease] && !l->timestamp_s)
		ls_fail(w, LS_RULE_NOT_FREE, "lease %d is free at lver %llu while it is given",
			lease, (unsigned long long)l->lver);
}

/* ---- results ---- */

static void check_value(struct ls_world *w, int lease, const struct hf_ballot_action *a,
			uint64_t owner, uint64_t generation)
{
	const struct ls_decided *d = ls_decided_at(w, lease, a->lver);

	if (!d->owner)
		decide(w, lease, a->lver, owner, generation);
	else if (a->lver < LS_LVERS && (d->owner != owner || d->generation != generation))
		ls_fail(w, LS_RULE_TRUE,
			"lease %d, lver %llu: '%s' for %llu.%llu, but it was decided for %llu.%llu",
			lease, (unsigned long long)a->lver, hf_ballot_result_text(a->result),
			(unsigned long long)owner, (unsigned long long)generation,
			(unsigned long long)d->owner, (unsigned long long)d->generation);
}

void ls_check_done(struct ls_world *w, struct ls_machine *m, int lease,
		   const struct hf_ballot_action *a)
{
	const struct hf_ballot_want *want = &m->works[lease].b.want;

	w->stats->results[want->op][a->result]++;
	if (a->result == HF_BALLOT_WON)
		check_value(w, lease, a, want->host_id, want->generation);
	else if (a->result == HF_BALLOT_GIVEN)
		check_value(w, lease, a, want->to, want->to_generation);
	else if (a->result == HF_BALLOT_LOST && a->owner)
		check_value(w, lease, a, a->owner, a->generation);
	else if (a->result == HF_BALLOT_CANCELLED && m->works[lease].was_bound &&
		 w->plant != LS_PLANT_CANCEL_BOUND && w->plant != LS_PLANT_FAILURE_ASSUMED)
		ls_fail(w, LS_RULE_TRUE, "%c says that it has not chosen, but it may have",
			ls_letter(ls_index(w, m)));
}

/* ---- host leases ---- */

static void check_generation(struct ls_world *w, const struct ls_machine *m)
{
	for (int l = 0; l < w->plan->n_leases; l++) {
		enum ls_vm_state s = m->vms[l].state;

		if ((s == LS_VM_RUNNING || s == LS_VM_STOPPED || s == LS_VM_HOLDING) &&
		    m->page.generation != m->vms[l].generation)
			ls_fail(w, LS_RULE_GENERATION,
				"generation of %c goes from %llu to %llu under VM %d",
				ls_letter(ls_index(w, m)), (unsigned long long)m->vms[l].generation,
				(unsigned long long)m->page.generation, l);
	}
	if (!w->plan->has_twin && m->page.generation < w->max_generation[m->id - 1])
		ls_fail(w, LS_RULE_GENERATION, "generation of host %llu goes back to %llu",
			(unsigned long long)m->id, (unsigned long long)m->page.generation);
	/* An old write that lands in a slot that was left hides a generation; no matter, if nothing
	 * has run under it. */
	if (ls_keeper_uses_page(m))
		w->max_generation[m->id - 1] = m->page.generation;
}

void ls_check_publish(struct ls_world *w, struct ls_machine *m)
{
	uint64_t now = ls_local_ns(w, m);

	if (m->page.fence_ns <= now || !m->page.generation)
		return;
	check_generation(w, m);
	for (int i = 0; i < w->plan->n_machines; i++) {
		const struct ls_machine *o = &w->machines[i];

		if (o != m && o->id == m->id && o->is_up && o->page.valid_ns &&
		    ls_local_ns(w, o) < o->page.fence_ns)
			ls_fail(w, LS_RULE_GENERATION, "%c and %c are both host %llu",
				ls_letter(ls_index(w, m)), ls_letter(i), (unsigned long long)m->id);
	}
	if (m->seen_fence_ns <= now || m->valid_generation != m->page.generation)
		m->valid_since_ns = w->now_ns;
	m->seen_fence_ns = m->page.fence_ns;
	m->valid_generation = m->page.generation;
}

/* ---- progress ---- */

/* Damage is for an operator to repair: nothing has to go on then. */
static bool has_damage(const struct ls_world *w)
{
	for (unsigned int i = 0; i < LS_IDS; i++) {
		if (w->disk.slots[i].is_damaged)
			return true;
		for (int l = 0; l < w->plan->n_leases; l++)
			if (w->disk.areas[l].blocks[i].is_damaged ||
			    w->disk.areas[l].leader.is_damaged)
				return true;
	}
	return false;
}

static const char *find_stuck(struct ls_world *w, const struct ls_machine *m, int lease)
{
	const struct ls_work *work = &m->works[lease];
	enum ls_vm_state s = m->vms[lease].state;

	if (work->is_active && w->now_ns - work->began_ns > OPERATION_MAX_NS &&
	    !(work->b.want.op == HF_BALLOT_ACQUIRE && work->b.want.patience_ms))
		return "an operation does not end";
	if (s != LS_VM_NONE && s != LS_VM_ACQUIRING && s != LS_VM_RUNNING && s != LS_VM_STANDBY)
		return "its keeper does not get on";
	return NULL;
}

static const char *find_trouble(struct ls_world *w, char *ret_machine, int *ret_lease)
{
	*ret_lease = 0;
	for (int i = 0; i < w->plan->n_machines; i++) {
		const struct ls_machine *m = &w->machines[i];
		const char *why;

		*ret_machine = ls_letter(i);
		if (m->is_retired || m->is_sanlock)
			continue;
		if (!ls_member_is_valid(w, m))
			return "its host lease is not valid";
		for (int l = 0; l < w->plan->n_leases; l++) {
			*ret_lease = l;
			why = find_stuck(w, m, l);
			if (why)
				return why;
		}
	}
	*ret_machine = '-';
	for (int l = 0; l < w->plan->n_leases; l++) {
		bool is_any = false;

		*ret_lease = l;
		for (int i = 0; i < w->plan->n_machines; i++)
			is_any |= ls_vm_can_act(w, &w->machines[i], l);
		if (!is_any)
			return "nobody owns it";
	}
	return NULL;
}

bool ls_check_is_well(struct ls_world *w)
{
	char machine;
	int lease;

	if (has_damage(w)) {
		w->stats->excused++;
		return true;
	}
	return !find_trouble(w, &machine, &lease);
}

void ls_check_progress(struct ls_world *w)
{
	char machine;
	int lease;
	const char *why = find_trouble(w, &machine, &lease);

	if (why)
		ls_fail(w, LS_RULE_PROGRESS, "%c, lease %d: %s", machine, lease, why);
}

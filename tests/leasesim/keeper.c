/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keepers: the VMs of a machine and what is done with them, at random. What the machines of
 * src/core leave to their callers is here: a VM acts only in the tenure in which its lease was
 * verified and before the page's deadline; what was verified in an earlier tenure is claimed anew; a
 * primary acts only together with its standby, until one of them has won the vote.
 */
#include "leasesim.h"

#define PATIENCES 4

static struct ls_machine *partner_of(struct ls_world *w, const struct ls_vm *vm)
{
	return vm->partner < 0 ? NULL : &w->machines[vm->partner];
}

static void become(struct ls_world *w, struct ls_machine *m, int lease, enum ls_vm_state state)
{
	struct ls_vm *vm = &m->vms[lease];

	if (vm->state != state)
		ls_say(w, "%c: VM %d is %s, lver %llu", ls_letter(ls_index(w, m)), lease,
		       ls_vm_state_names[state], (unsigned long long)vm->lver);
	vm->state = state;
	if (state == LS_VM_NONE || state == LS_VM_RUNNING || state == LS_VM_STOPPED) {
		vm->partner = LS_NONE;
		vm->is_standby_gone = vm->was_interrupted = false;
	}
}

static void run(struct ls_world *w, struct ls_machine *m, int lease, uint64_t lver,
		uint64_t generation, uint64_t tenure)
{
	struct ls_vm *vm = &m->vms[lease];

	vm->lver = lver;
	vm->generation = generation;
	vm->tenure = tenure;
	vm->slack = simkit_rand_below(&w->rand, 2) ? 1000 : simkit_rand_below(&w->rand, 1001);
	become(w, m, lease, ls_local_ns(w, m) < m->page.valid_ns ? LS_VM_RUNNING : LS_VM_STOPPED);
	ls_keeper_look(w, m);
}

static void run_won(struct ls_world *w, struct ls_machine *m, int lease, uint64_t lver)
{
	const struct ls_work *work = &m->works[lease];

	run(w, m, lease, lver, work->b.want.generation,
	    w->plant == LS_PLANT_TENURE_AT_END ? m->page.tenure : work->tenure);
}

bool ls_keeper_uses_page(const struct ls_machine *m)
{
	for (int l = 0; l < LS_LEASES; l++) {
		enum ls_vm_state s = m->vms[l].state;

		if (s == LS_VM_RUNNING || s == LS_VM_STOPPED || s == LS_VM_CLAIMING ||
		    s == LS_VM_GIVING || s == LS_VM_HOLDING)
			return true;
	}
	return false;
}

/* ---- the guard ---- */

static uint64_t limit_of(const struct ls_machine *m, const struct ls_vm *vm)
{
	const struct ls_page *p = &m->page;

	return p->fence_ns <= p->valid_ns
		       ? p->valid_ns
		       : p->valid_ns + (p->fence_ns - p->valid_ns) / 1000 * vm->slack;
}

static bool may_run(const struct ls_world *w, const struct ls_machine *m, const struct ls_vm *vm)
{
	return m->page.tenure == vm->tenure && m->page.generation == vm->generation &&
	       ls_local_ns(w, m) < limit_of(m, vm);
}

/* Does the standby of this primary take part? Without its acknowledgement nothing leaves. */
static bool has_standby(const struct ls_world *w, const struct ls_machine *m, int lease)
{
	const struct ls_vm *vm = &m->vms[lease];
	const struct ls_machine *other = &w->machines[vm->partner];

	return other->is_up && !other->is_paused && other->vms[lease].state == LS_VM_STANDBY &&
	       other->vms[lease].partner == ls_index(w, m) && other->vms[lease].lver == vm->lver;
}

bool ls_vm_can_act(const struct ls_world *w, const struct ls_machine *m, int lease)
{
	const struct ls_vm *vm = &m->vms[lease];

	if (m->is_sanlock)
		return ls_san_can_act(w, m, lease);
	if (vm->state == LS_VM_RELEASING && w->plant == LS_PLANT_RELEASE_RUNNING)
		return m->is_up && !m->is_paused;
	if (vm->state != LS_VM_RUNNING || !m->is_up || m->is_paused)
		return false;
	if (vm->partner >= 0 && w->plant != LS_PLANT_PRIMARY_ACTS && !has_standby(w, m, lease))
		return false;
	return m->skips_guard || may_run(w, m, vm);
}

void ls_keeper_look(struct ls_world *w, struct ls_machine *m)
{
	m->skips_guard = false;
	for (int l = 0; l < w->plan->n_leases; l++) {
		struct ls_vm *vm = &m->vms[l];

		if (vm->state != LS_VM_RUNNING)
			continue;
		if (w->plant == LS_PLANT_REVIVED && m->page.generation == vm->generation)
			vm->tenure = m->page.tenure;
		if (!may_run(w, m, vm))
			become(w, m, l, LS_VM_STOPPED);
	}
}

/* ---- what operations end in ---- */

/* It is ours by an operation that was interrupted: true, but not verified in this tenure. */
static bool is_mine_before(const struct ls_machine *m, int lease, const struct hf_ballot_action *a)
{
	return a->result == HF_BALLOT_LOST && a->owner == m->id &&
	       a->generation == m->works[lease].b.want.generation;
}

static void tell_standby_gone(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];
	struct ls_machine *primary = partner_of(w, vm);

	if (primary && primary->is_up && primary->vms[lease].partner == ls_index(w, m) &&
	    primary->vms[lease].lver == vm->lver &&
	    (primary->vms[lease].state == LS_VM_HOLDING ||
	     primary->vms[lease].state == LS_VM_RUNNING))
		primary->vms[lease].is_standby_gone = true;
}

/* A claim that was interrupted before may have named a value: calling off says nothing of that. */
static void claim_called_off(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];

	if (vm->state == LS_VM_CLAIMING) {
		become(w, m, lease, LS_VM_STOPPED);
	} else if (vm->state == LS_VM_VOTING && !vm->was_interrupted) {
		tell_standby_gone(w, m, lease);
		become(w, m, lease, LS_VM_NONE);
	} else if (vm->state == LS_VM_HOLDING && vm->is_standby_gone) {
		run(w, m, lease, vm->lver, vm->generation, vm->tenure);
	}
}

static void claim_done(struct ls_world *w, struct ls_machine *m, int lease,
		       const struct hf_ballot_action *a)
{
	struct ls_vm *vm = &m->vms[lease];

	if (a->result == HF_BALLOT_WON) {
		w->stats->pairs += vm->state == LS_VM_VOTING;
		run_won(w, m, lease, a->lver);
	} else if (is_mine_before(m, lease, a)) {
		vm->lver = a->lver;
		vm->generation = a->generation;
		become(w, m, lease, LS_VM_STOPPED);
	} else if (a->result == HF_BALLOT_CANCELLED) {
		claim_called_off(w, m, lease);
	} else if (a->result == HF_BALLOT_DAMAGED) {
		if (vm->state == LS_VM_CLAIMING)
			become(w, m, lease, LS_VM_STOPPED);
	} else {
		become(w, m, lease, LS_VM_NONE);
	}
}

static void giving_done(struct ls_world *w, struct ls_machine *m, int lease,
			const struct hf_ballot_action *a)
{
	struct ls_vm *vm = &m->vms[lease];

	w->giving_lver[lease] = 0;
	if (is_mine_before(m, lease, a))
		run(w, m, lease, a->lver, vm->generation, vm->tenure);
	else if (a->result == HF_BALLOT_CANCELLED && !vm->was_interrupted)
		run(w, m, lease, vm->lver, vm->generation, vm->tenure);
	else if (a->result == HF_BALLOT_CANCELLED || a->result == HF_BALLOT_DAMAGED)
		become(w, m, lease, LS_VM_STOPPED);
	else
		become(w, m, lease, LS_VM_NONE);
}

static void prepare_done(struct ls_world *w, struct ls_machine *m, int lease,
			 const struct hf_ballot_action *a)
{
	struct ls_vm *vm = &m->vms[lease];

	if (a->result != HF_BALLOT_PREPARED) {
		become(w, m, lease, LS_VM_NONE);
		return;
	}
	vm->generation = m->works[lease].b.want.generation;
	vm->tenure = m->works[lease].tenure;
	vm->until_ns = ls_local_ns(w, m) + (1 + simkit_rand_below(&w->rand, 6)) * LS_S;
	become(w, m, lease, LS_VM_AWAITING);
}

void ls_keeper_done(struct ls_world *w, struct ls_machine *m, int lease,
		    const struct hf_ballot_action *a)
{
	struct ls_vm *vm = &m->vms[lease];

	switch (vm->state) {
	case LS_VM_ACQUIRING:
		if (a->result == HF_BALLOT_WON)
			run_won(w, m, lease, a->lver);
		else
			become(w, m, lease, LS_VM_NONE);
		break;
	case LS_VM_CLAIMING:
	case LS_VM_VOTING:
	case LS_VM_HOLDING:
		claim_done(w, m, lease, a);
		break;
	case LS_VM_GIVING:
		giving_done(w, m, lease, a);
		break;
	case LS_VM_RELEASING:
		become(w, m, lease, LS_VM_NONE);
		break;
	case LS_VM_PREPARING:
		prepare_done(w, m, lease, a);
		break;
	case LS_VM_NONE:
	case LS_VM_RUNNING:
	case LS_VM_STOPPED:
	case LS_VM_AWAITING:
	case LS_VM_STANDBY:
	case LS_VM_STATE_COUNT:
		break;
	}
}

void ls_keeper_daemon_died(struct ls_world *w, struct ls_machine *m)
{
	for (int l = 0; l < w->plan->n_leases; l++) {
		struct ls_vm *vm = &m->vms[l];

		vm->was_interrupted = vm->was_interrupted || m->works[l].is_active;
		vm->is_read_out = false;
		if (vm->state == LS_VM_ACQUIRING || vm->state == LS_VM_RELEASING ||
		    vm->state == LS_VM_PREPARING || vm->state == LS_VM_AWAITING)
			become(w, m, l, LS_VM_NONE);
		else if (vm->state == LS_VM_CLAIMING)
			become(w, m, l, LS_VM_STOPPED);
		else if (vm->state == LS_VM_GIVING)
			w->giving_lver[l] = 0;
	}
}

void ls_keeper_await_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	struct ls_vm *vm = &m->vms[io->lease];
	const struct hf_lease_leader *l = &io->u.area.leader.leader;

	vm->is_read_out = false;
	if (vm->state != LS_VM_AWAITING)
		return;
	if (!io->is_failed && !io->u.area.leader.is_damaged && l->owner == m->id &&
	    (l->generation == vm->generation || w->plant == LS_PLANT_OLD_GENERATION) &&
	    l->lver == vm->lver + 1)
		run(w, m, io->lease, l->lver, vm->generation, vm->tenure);
	else if (ls_local_ns(w, m) > vm->until_ns)
		become(w, m, io->lease, LS_VM_NONE);
}

/* ---- what they do ---- */

static bool does(struct ls_world *w, enum ls_do what, unsigned int percent)
{
	return !w->is_calm && (w->plan->does & 1u << what) &&
	       simkit_rand_percent(&w->rand, percent * w->plan->busy);
}

static void begin(struct ls_world *w, struct ls_machine *m, int lease, enum hf_ballot_op op,
		  enum ls_vm_state state)
{
	struct ls_vm *vm = &m->vms[lease];
	struct hf_ballot_want want = { .op = op, .lver = vm->lver };

	become(w, m, lease, state);
	if (op == HF_BALLOT_RELEASE)
		ls_decided_at(w, lease, vm->lver)->is_released = true;
	/* With what an interrupted claim may have got. */
	if (op == HF_BALLOT_RELEASE && w->disk.areas[lease].blocks[m->id - 1].lver == vm->lver + 1)
		ls_decided_at(w, lease, vm->lver + 1)->is_released = true;
	if (op == HF_BALLOT_TRANSFER) {
		want.to = vm->to;
		want.to_generation = vm->to_generation;
		ls_decided_at(w, lease, vm->lver)->may_claim |= UINT64_C(1) << vm->to;
		w->giving_lver[lease] = vm->lver;
	}
	ls_work_begin(w, m, lease, &want);
}

static void acquire(struct ls_world *w, struct ls_machine *m, int lease)
{
	static const uint32_t patiences[PATIENCES] = { 0, 0, 700, 5000 };
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };

	if (!simkit_rand_percent(&w->rand, w->is_calm ? 60 : 15) || !ls_work_may_begin(w, m, lease))
		return;
	want.patience_ms = patiences[simkit_rand_below(&w->rand, PATIENCES)];
	if (simkit_rand_percent(&w->rand, 10))
		want.lver = w->disk.areas[lease].leader.leader.lver;
	become(w, m, lease, LS_VM_ACQUIRING);
	ls_work_begin(w, m, lease, &want);
}

/* Another machine that could take part in something with this one now. */
static struct ls_machine *find_other(struct ls_world *w, const struct ls_machine *m, int lease)
{
	int n = w->plan->n_machines, from = (int)simkit_rand_below(&w->rand, (unsigned int)n);

	for (int i = 0; i < n; i++) {
		struct ls_machine *o = &w->machines[(from + i) % n];

		if (o != m && o->is_up && !o->is_paused && !o->is_sanlock && !o->is_twin &&
		    o->vms[lease].state == LS_VM_NONE && ls_work_may_begin(w, o, lease))
			return o;
	}
	return NULL;
}

static void prepare_transfer(struct ls_world *w, struct ls_machine *m, int lease,
			     struct ls_machine *to)
{
	to->vms[lease].lver = m->vms[lease].lver;
	m->vms[lease].partner = LS_NONE;
	to->vms[lease].partner = ls_index(w, m);
	begin(w, to, lease, HF_BALLOT_PREPARE, LS_VM_PREPARING);
}

static void pair(struct ls_world *w, struct ls_machine *m, int lease, struct ls_machine *to)
{
	struct ls_vm *vm = &m->vms[lease], *other = &to->vms[lease];

	other->lver = vm->lver;
	other->was_interrupted = false;
	become(w, to, lease, LS_VM_STANDBY);
	other->partner = ls_index(w, m);
	vm->partner = ls_index(w, to);
	vm->is_standby_gone = vm->was_interrupted = false;
	ls_decided_at(w, lease, vm->lver)->may_claim |= UINT64_C(1) << to->id;
}

/* A destination that has prepared itself is waiting: give it the lease. */
static bool give(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];

	for (int i = 0; i < w->plan->n_machines; i++) {
		struct ls_machine *to = &w->machines[i];
		struct ls_vm *other = &to->vms[lease];

		if (other->state != LS_VM_AWAITING || other->partner != ls_index(w, m) ||
		    other->lver != vm->lver || !simkit_rand_percent(&w->rand, 50))
			continue;
		vm->to = to->id;
		vm->to_generation = other->generation;
		begin(w, m, lease, HF_BALLOT_TRANSFER, LS_VM_GIVING);
		if (w->plant == LS_PLANT_AWAIT_NOTHING && m->works[lease].is_active)
			run(w, to, lease, other->lver + 1, other->generation, other->tenure);
		return true;
	}
	return false;
}

static void primary_tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];
	const struct ls_machine *other = partner_of(w, vm);
	bool is_in_touch = has_standby(w, m, lease);

	if (is_in_touch)
		return;
	/* Silence takes a while to be noticed; a standby that says that it is gone does not. */
	if (vm->is_standby_gone)
		run(w, m, lease, vm->lver, vm->generation, vm->tenure);
	else if (other->vms[lease].state != LS_VM_STANDBY || simkit_rand_percent(&w->rand, 20))
		become(w, m, lease, LS_VM_HOLDING);
}

static void running_tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];
	struct ls_machine *other;

	if (vm->partner >= 0) {
		primary_tick(w, m, lease);
		return;
	}
	if (!ls_work_may_begin(w, m, lease) || give(w, m, lease))
		return;
	if (w->request_lver[lease] > vm->lver || does(w, LS_DO_RELEASE, 2)) {
		w->request_lver[lease] = 0;
		begin(w, m, lease, HF_BALLOT_RELEASE, LS_VM_RELEASING);
	} else if (does(w, LS_DO_DIE, 1)) {
		become(w, m, lease, LS_VM_NONE);
	} else if (does(w, LS_DO_TRANSFER, 4)) {
		other = find_other(w, m, lease);
		if (other)
			prepare_transfer(w, m, lease, other);
	} else if (does(w, LS_DO_PAIR, 4)) {
		other = find_other(w, m, lease);
		if (other)
			pair(w, m, lease, other);
	}
}

static void stopped_tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	if (m->host.state == HF_HOST_LOST || does(w, LS_DO_DIE, 1))
		become(w, m, lease, LS_VM_NONE);
	else if (ls_work_may_begin(w, m, lease) && does(w, LS_DO_RELEASE, 12))
		begin(w, m, lease, HF_BALLOT_RELEASE, LS_VM_RELEASING);
	else if (ls_work_may_begin(w, m, lease))
		begin(w, m, lease, HF_BALLOT_CLAIM, LS_VM_CLAIMING);
}

static void standby_tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];
	const struct ls_machine *p = partner_of(w, vm);
	const struct ls_vm *other = &p->vms[lease];
	bool is_there = p->is_up && other->state == LS_VM_RUNNING &&
			other->partner == ls_index(w, m) && other->lver == vm->lver;

	if ((is_there && !p->is_paused) || !simkit_rand_percent(&w->rand, 20))
		return;
	become(w, m, lease, LS_VM_VOTING);
}

static void awaiting_tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];
	struct ls_io *io;

	if (vm->is_read_out)
		return;
	io = ls_io_new(w, m, LS_IO_READ_AREA, LS_FOR_AWAIT);
	io->lease = lease;
	vm->is_read_out = true;
	ls_io_submit(w, io);
}

static void holding_tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_vm *vm = &m->vms[lease];

	if (m->works[lease].is_active && vm->is_standby_gone)
		ls_work_cancel(w, m, lease);
	else if (!m->works[lease].is_active && vm->is_standby_gone && !vm->was_interrupted)
		run(w, m, lease, vm->lver, vm->generation, vm->tenure);
	else if (ls_work_may_begin(w, m, lease) && simkit_rand_percent(&w->rand, 60))
		begin(w, m, lease, HF_BALLOT_CLAIM, LS_VM_HOLDING);
}

static void giving_tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	if (m->works[lease].is_active || !ls_work_may_begin(w, m, lease))
		return;
	if (simkit_rand_percent(&w->rand, 50))
		begin(w, m, lease, HF_BALLOT_TRANSFER, LS_VM_GIVING);
	else
		become(w, m, lease, LS_VM_STOPPED);
}

static void tick(struct ls_world *w, struct ls_machine *m, int lease)
{
	enum ls_vm_state state = m->vms[lease].state;

	if (state != LS_VM_HOLDING && m->works[lease].is_active && does(w, LS_DO_CANCEL, 2))
		ls_work_cancel(w, m, lease);
	else if (state == LS_VM_NONE)
		acquire(w, m, lease);
	else if (state == LS_VM_RUNNING)
		running_tick(w, m, lease);
	else if (state == LS_VM_STOPPED)
		stopped_tick(w, m, lease);
	else if (state == LS_VM_STANDBY)
		standby_tick(w, m, lease);
	else if (state == LS_VM_VOTING && ls_work_may_begin(w, m, lease))
		begin(w, m, lease, HF_BALLOT_CLAIM, LS_VM_VOTING);
	else if (state == LS_VM_AWAITING)
		awaiting_tick(w, m, lease);
	else if (state == LS_VM_HOLDING)
		holding_tick(w, m, lease);
	else if (state == LS_VM_GIVING)
		giving_tick(w, m, lease);
	if (m->vms[lease].state == LS_VM_NONE && does(w, LS_DO_REQUEST, 1))
		w->request_lver[lease] = w->disk.areas[lease].leader.leader.lver + 1;
}

void ls_keeper_lose(struct ls_world *w, struct ls_machine *m)
{
	for (int l = 0; l < w->plan->n_leases; l++)
		if (m->vms[l].state == LS_VM_STANDBY)
			become(w, m, l, LS_VM_VOTING);
}

/* ---- the daemon's life ---- */

static void restart(struct ls_world *w, struct ls_machine *m)
{
	ls_machine_kill(w, m);
	ls_post(w, LS_S / 2 + ls_delay(w, LS_S),
		&(struct ls_event){ .kind = LS_EV_DAEMON, .machine = ls_index(w, m) });
}

static bool is_at_rest(const struct ls_machine *m)
{
	for (int l = 0; l < LS_LEASES; l++)
		if (m->vms[l].state != LS_VM_NONE || m->works[l].is_active || m->works[l].is_io_out)
			return false;
	return true;
}

/* Not a member and not about to be one: a new daemon, once nothing runs under the old lease. */
static void mind_daemon(struct ls_world *w, struct ls_machine *m)
{
	bool is_over = m->host.state == HF_HOST_LOST || m->host.state == HF_HOST_OUT;

	if (is_over && !ls_keeper_uses_page(m)) {
		restart(w, m);
	} else if (is_over && ls_local_ns(w, m) >= m->page.fence_ns) {
		for (int l = 0; l < w->plan->n_leases; l++)
			if (m->vms[l].state != LS_VM_NONE)
				become(w, m, l, LS_VM_NONE);
	} else if (is_at_rest(m) && !m->is_twin && does(w, LS_DO_LEAVE, 1) &&
		   ls_member_is_valid(w, m)) {
		ls_member_leave(w, m);
	}
}

void ls_keeper_tick(struct ls_world *w, struct ls_machine *m)
{
	ls_keeper_look(w, m);
	mind_daemon(w, m);
	if (m->is_twin)
		return;
	for (int l = 0; l < w->plan->n_leases && m->inst; l++)
		tick(w, m, l);
}

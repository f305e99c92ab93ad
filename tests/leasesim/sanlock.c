/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host of the other kind: what sanlock does, by docs/lease-format.md and its own documentation, in
 * our own words. With T its io-timeout: renews every 2T and a bit; fails after 8T without a renewal,
 * then kills its VMs, or its watchdog does within 8T+60 s; takes others for dead after 8T+60 s by
 * their T. It frees a leader only if it wrote it itself, believes a mark of release in the owner's
 * block if another host wrote the leader, and does not wait for late writes: so its way to the disk
 * stalls, but neither fails nor writes late.
 */
#include "leasesim.h"

#include <string.h>

#define T_NS (w->plan->io_timeout_s * LS_S)
#define WATCHDOG_NS (UINT64_C(58) * LS_S) /* of 60: for clocks of different rates */

enum member_stage { OUT, LOOKING, CLAIMING, WAITING, CONFIRMING, MEMBER, READING, WRITING };
enum work_stage {
	IDLE,
	ACQUIRE_READ,
	OWNER_READ,
	PHASE1,
	PHASE1_READ,
	PHASE2,
	PHASE2_READ,
	COMMIT,
	MARK,
	MARK_READ,
	FREE,
};

static void read_slots(struct ls_world *w, struct ls_machine *m, unsigned int stage)
{
	w->san.stage = stage;
	ls_io_submit(w, ls_io_new(w, m, LS_IO_READ_SLOTS, LS_FOR_MEMBER));
}

static void write_slot(struct ls_world *w, struct ls_machine *m, unsigned int stage)
{
	struct ls_io *io = ls_io_new(w, m, LS_IO_SLOT, LS_FOR_MEMBER);
	struct ls_san *s = &w->san;

	s->stage = stage;
	s->own = (struct hf_lease_slot){ .owner = m->id,
					 .generation = s->generation,
					 .timestamp_s = ls_local_ns(w, m) / LS_S + 1,
					 .io_timeout_s = w->plan->io_timeout_s };
	memcpy(s->own.host_name, m->name, sizeof(s->own.host_name));
	io->u.slot = (struct ls_slot){ .slot = s->own };
	ls_io_submit(w, io);
}

static void wake_in(struct ls_world *w, struct ls_machine *m, int lease, uint64_t ns)
{
	struct ls_event ev = {
		.kind = LS_EV_SAN, .machine = ls_index(w, m), .inst = m->inst, .a = lease
	};

	ls_post(w, ls_until_ns(w, m, ls_local_ns(w, m) + ns), &ev);
}

void ls_san_start(struct ls_world *w, struct ls_machine *m)
{
	memset(&w->san, 0, sizeof(w->san));
	read_slots(w, m, LOOKING);
}

static void fail(struct ls_world *w, struct ls_machine *m, const char *why)
{
	ls_say(w, "%c: sanlock fails: %s", ls_letter(ls_index(w, m)), why);
	w->san.is_failing = true;
}

static void take_sights(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	for (unsigned int i = 0; i < LS_IDS; i++) {
		const struct hf_lease_slot *slot = &io->u.slots[i].slot;
		struct hf_lease_slot *was = &w->san.sights[i].slot;

		if (io->u.slots[i].is_damaged)
			continue;
		if (!w->san.sights[i].since_ns || was->owner != slot->owner ||
		    was->generation != slot->generation || was->timestamp_s != slot->timestamp_s)
			w->san.sights[i].since_ns = ls_local_ns(w, m);
		*was = *slot;
	}
}

static void renewed(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	struct ls_san *s = &w->san;

	s->stage = MEMBER;
	if (s->is_failing)
		return;
	if (!s->is_member)
		m->valid_since_ns = w->now_ns;
	s->is_member = true;
	s->renewed_ns = io->issued_ns;
	s->limit_ns = s->renewed_ns + 8 * T_NS +
		      WATCHDOG_NS / 100 * simkit_rand_below(&w->rand, 101);
	wake_in(w, m, LS_NONE, 2 * T_NS + LS_S / 2 + ls_delay(w, LS_S / 2));
}

static void member_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	struct ls_san *s = &w->san;
	const struct hf_lease_slot *mine = &io->u.slots[m->id - 1].slot;

	if (io->kind == LS_IO_READ_SLOTS)
		take_sights(w, m, io);
	if (s->stage == LOOKING) {
		s->generation = mine->generation + 1;
		write_slot(w, m, CLAIMING);
	} else if (s->stage == CLAIMING) {
		s->stage = WAITING;
		wake_in(w, m, LS_NONE, 2 * T_NS);
	} else if (s->stage == CONFIRMING || s->stage == READING) {
		if (io->u.slots[m->id - 1].is_damaged || mine->generation != s->generation ||
		    memcmp(mine->host_name, m->name, sizeof(mine->host_name)) != 0)
			fail(w, m, "its slot has changed");
		else
			write_slot(w, m, WRITING);
	} else if (s->stage == WRITING) {
		renewed(w, m, io);
	}
}

/* ---- leases ---- */

static void read_area(struct ls_world *w, struct ls_machine *m, int lease, unsigned int stage)
{
	struct ls_io *io = ls_io_new(w, m, LS_IO_READ_AREA, LS_FOR_WORK);

	w->san.works[lease].stage = stage;
	io->lease = lease;
	ls_io_submit(w, io);
}

static void write_block(struct ls_world *w, struct ls_machine *m, int lease, unsigned int stage)
{
	struct ls_io *io = ls_io_new(w, m, LS_IO_BLOCK, LS_FOR_WORK);
	struct ls_san_work *work = &w->san.works[lease];

	work->stage = stage;
	io->lease = lease;
	io->u.block = work->own;
	ls_say(w, "%c: sanlock, lease %d: write block lver %llu mbal %llu bal %llu: %llu.%llu%s",
	       ls_letter(ls_index(w, m)), lease, (unsigned long long)work->own.lver,
	       (unsigned long long)work->own.mbal, (unsigned long long)work->own.bal,
	       (unsigned long long)work->own.owner, (unsigned long long)work->own.generation,
	       work->own.is_released ? " released" : "");
	ls_io_submit(w, io);
}

static void write_leader(struct ls_world *w, struct ls_machine *m, int lease, unsigned int stage)
{
	struct ls_io *io = ls_io_new(w, m, LS_IO_LEADER, LS_FOR_WORK);
	struct ls_san_work *work = &w->san.works[lease];

	work->stage = stage;
	io->lease = lease;
	io->u.leader = (struct ls_leader){ .leader = work->leader };
	ls_say(w, "%c: sanlock, lease %d: write leader lver %llu: %llu.%llu%s",
	       ls_letter(ls_index(w, m)), lease, (unsigned long long)work->leader.lver,
	       (unsigned long long)work->leader.owner, (unsigned long long)work->leader.generation,
	       work->leader.timestamp_s ? "" : " free");
	ls_io_submit(w, io);
}

/* Is the owner by this leader known to run nothing any more? */
static bool is_dead(const struct ls_world *w, const struct ls_machine *m,
		    const struct hf_lease_leader *l)
{
	const struct hf_lease_slot *slot;
	uint64_t since;

	if (l->owner == m->id)
		return l->generation <= w->san.generation;
	slot = &w->san.sights[l->owner - 1].slot;
	since = w->san.sights[l->owner - 1].since_ns;
	if (!since)
		return false;
	if (!slot->timestamp_s || slot->generation > l->generation || slot->owner != l->owner)
		return true;
	return ls_local_ns(w, m) - since > HF_LEASE_SANLOCK_DEAD_S(slot->io_timeout_s) * LS_S;
}

static bool may_take(const struct ls_world *w, const struct ls_machine *m,
		     const struct ls_area *area)
{
	const struct hf_lease_leader *l = &area->leader.leader;

	if (area->leader.is_damaged)
		return false;
	for (unsigned int i = 0; i < LS_IDS; i++)
		if (area->blocks[i].is_damaged)
			return false;
	if (!l->timestamp_s || is_dead(w, m, l))
		return true;
	return l->write_id != l->owner && area->blocks[l->owner - 1].is_released;
}

/* The owner's slot is read after the leader that names it. */
static void look(struct ls_world *w, struct ls_machine *m, int lease, const struct ls_area *area)
{
	struct ls_io *io = ls_io_new(w, m, LS_IO_READ_SLOTS, LS_FOR_WORK);

	w->san.works[lease].area = *area;
	w->san.works[lease].stage = OWNER_READ;
	io->lease = lease;
	ls_io_submit(w, io);
}

static void begin_ballot(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_san_work *work = &w->san.works[lease];
	const struct ls_area *area = &work->area;
	uint64_t mbal = 0;

	work->stage = IDLE;
	if (!may_take(w, m, area))
		return;
	work->leader = area->leader.leader;
	work->lver = work->leader.lver + 1;
	for (unsigned int i = 0; i < LS_IDS; i++)
		if (area->blocks[i].mbal > mbal)
			mbal = area->blocks[i].mbal;
	work->own = (struct hf_lease_block){
		.lver = work->lver, .mbal = mbal - mbal % LS_MAX_HOSTS + LS_MAX_HOSTS + m->id
	};
	write_block(w, m, lease, PHASE1);
}

/* The highest value accepted at this lver, or NULL; false: somebody is ahead. */
static bool find_value(const struct ls_san_work *work, const struct ls_area *area,
		       const struct hf_lease_block **ret)
{
	*ret = NULL;
	for (unsigned int i = 0; i < LS_IDS; i++) {
		const struct hf_lease_block *k = &area->blocks[i];

		if (k->is_damaged || k->lver > work->lver ||
		    (k->lver == work->lver && k->mbal > work->own.mbal))
			return false;
		if (k->lver == work->lver && k->bal && (!*ret || k->bal > (*ret)->bal))
			*ret = k;
	}
	return area->leader.leader.lver < work->lver;
}

static void promised(struct ls_world *w, struct ls_machine *m, int lease,
		     const struct ls_area *area)
{
	struct ls_san_work *work = &w->san.works[lease];
	const struct hf_lease_block *value;

	if (!find_value(work, area, &value)) {
		work->stage = IDLE; /* tries again with a later tick */
		return;
	}
	work->own.owner = value ? value->owner : m->id;
	work->own.generation = value ? value->generation : w->san.generation;
	work->own.timestamp_s = value ? value->timestamp_s : ls_local_ns(w, m) / LS_S + 1;
	work->own.bal = work->own.mbal;
	write_block(w, m, lease, PHASE2);
}

static void accepted(struct ls_world *w, struct ls_machine *m, int lease,
		     const struct ls_area *area)
{
	struct ls_san_work *work = &w->san.works[lease];
	const struct hf_lease_block *value;

	work->stage = IDLE;
	if (!find_value(work, area, &value))
		return;
	work->leader.owner = work->own.owner;
	work->leader.generation = work->own.generation;
	work->leader.timestamp_s = work->own.timestamp_s;
	work->leader.lver = work->lver;
	work->leader.write_id = m->id;
	work->leader.write_generation = w->san.generation;
	write_leader(w, m, lease, COMMIT);
}

static void committed(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_san_work *work = &w->san.works[lease];

	work->stage = IDLE;
	if (work->leader.owner != m->id || work->leader.generation != w->san.generation)
		return;
	m->vms[lease].state = LS_VM_RUNNING;
	m->vms[lease].lver = work->lver;
	w->stats->sanlock_wins++;
	ls_say(w, "%c: sanlock owns lease %d, lver %llu", ls_letter(ls_index(w, m)), lease,
	       (unsigned long long)work->lver);
}

static void marked(struct ls_world *w, struct ls_machine *m, int lease, const struct ls_area *area)
{
	struct ls_san_work *work = &w->san.works[lease];
	const struct hf_lease_leader *l = &area->leader.leader;

	work->stage = IDLE;
	if (area->leader.is_damaged || l->owner != m->id || l->lver != m->vms[lease].lver ||
	    l->write_id != m->id)
		return;
	work->leader = *l;
	work->leader.timestamp_s = 0;
	write_leader(w, m, lease, FREE);
}

static void work_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	int lease = io->lease;
	struct ls_san_work *work = &w->san.works[lease];

	if (io->kind == LS_IO_READ_SLOTS)
		take_sights(w, m, io);
	if (work->stage == ACQUIRE_READ)
		look(w, m, lease, &io->u.area);
	else if (work->stage == OWNER_READ)
		begin_ballot(w, m, lease);
	else if (work->stage == PHASE1)
		read_area(w, m, lease, PHASE1_READ);
	else if (work->stage == PHASE1_READ)
		promised(w, m, lease, &io->u.area);
	else if (work->stage == PHASE2)
		read_area(w, m, lease, PHASE2_READ);
	else if (work->stage == PHASE2_READ)
		accepted(w, m, lease, &io->u.area);
	else if (work->stage == COMMIT)
		committed(w, m, lease);
	else if (work->stage == MARK)
		read_area(w, m, lease, MARK_READ);
	else if (work->stage == MARK_READ)
		marked(w, m, lease, &io->u.area);
	else
		work->stage = IDLE;
}

void ls_san_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	if (io->what_for == LS_FOR_MEMBER)
		member_io(w, m, io);
	else
		work_io(w, m, io);
}

void ls_san_wake(struct ls_world *w, struct ls_machine *m, const struct ls_event *ev)
{
	(void)ev;
	if (w->san.is_failing)
		return;
	if (w->san.stage == WAITING)
		read_slots(w, m, CONFIRMING);
	else if (w->san.stage == MEMBER)
		read_slots(w, m, READING);
}

static void tick_lease(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_san_work *work = &w->san.works[lease];
	struct ls_vm *vm = &m->vms[lease];
	bool is_calm = w->is_calm;

	if (work->stage != IDLE || !w->san.is_member || w->san.is_failing)
		return;
	if (vm->state != LS_VM_RUNNING) {
		vm->state = LS_VM_NONE;
		if (simkit_rand_percent(&w->rand, 30))
			read_area(w, m, lease, ACQUIRE_READ);
	} else if (!is_calm && simkit_rand_percent(&w->rand, 2 * w->plan->busy)) {
		vm->state = LS_VM_NONE;
		ls_decided_at(w, lease, vm->lver)->is_released = true;
		work->own.is_released = true;
		write_block(w, m, lease, MARK);
	}
}

void ls_san_tick(struct ls_world *w, struct ls_machine *m)
{
	struct ls_san *s = &w->san;

	if (s->is_member && !s->is_failing && ls_local_ns(w, m) > s->renewed_ns + 8 * T_NS)
		fail(w, m, "no renewal for too long");
	if (s->is_failing && ls_local_ns(w, m) >= s->limit_ns) {
		for (int l = 0; l < LS_LEASES; l++)
			m->vms[l].state = LS_VM_NONE;
		ls_machine_power_off(w, m); /* the watchdog; or an operator, who starts it anew */
		ls_post(w, 5 * LS_S,
			&(struct ls_event){ .kind = LS_EV_BOOT, .machine = ls_index(w, m) });
		return;
	}
	for (int l = 0; l < w->plan->n_leases; l++)
		tick_lease(w, m, l);
}

bool ls_san_can_act(const struct ls_world *w, const struct ls_machine *m, int lease)
{
	return m->is_up && !m->is_paused && m->vms[lease].state == LS_VM_RUNNING &&
	       ls_local_ns(w, m) < w->san.limit_ns;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver of core/ballot.h: an operation on a lease, one action at a time. */
#include "leasesim.h"

#include <stdio.h>
#include <string.h>

static void feed(struct ls_world *w, struct ls_machine *m, int lease, struct hf_ballot_event *ev);

bool ls_work_may_begin(const struct ls_world *w, const struct ls_machine *m, int lease)
{
	const struct ls_work *work = &m->works[lease];

	return !work->is_active && !work->is_io_out && !m->is_leaving &&
	       (ls_local_ns(w, m) >= m->settled_ns || w->plant == LS_PLANT_NOT_SETTLED) &&
	       ls_member_is_valid(w, m);
}

static void look(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_work *work = &m->works[lease];
	const struct hf_ballot_action *a = &work->act;
	const struct hf_lease_sight *s = &m->sights[a->owner - 1];
	struct hf_ballot_event ev = { .kind = HF_BALLOT_OWNER_LIFE };

	if (w->plant == LS_PLANT_OLD_EVIDENCE) {
		ev.life = ls_plant_life(w, m, a);
	} else if (a->owner < 1 || a->owner > LS_IDS) {
		ev.life = HF_LEASE_LIFE_GONE;
	} else {
		if (!s->is_seen || s->issued_ns <= a->since_ns)
			return;
		ev.life = ls_plant_life(w, m, a);
	}
	work->is_looking = false;
	work->looked_owner = a->owner;
	work->looked_life = ev.life;
	feed(w, m, lease, &ev);
}

void ls_work_sights(struct ls_world *w, struct ls_machine *m)
{
	for (int l = 0; l < w->plan->n_leases; l++)
		if (m->works[l].is_active && m->works[l].is_looking)
			look(w, m, l);
}

static void submit(struct ls_world *w, struct ls_machine *m, int lease, enum ls_io_kind kind)
{
	struct ls_io *io = ls_io_new(w, m, kind, LS_FOR_WORK);
	struct ls_work *work = &m->works[lease];

	io->lease = lease;
	io->serial = work->serial;
	work->is_io_out = true;
	if (kind == LS_IO_LEADER) {
		io->u.leader = (struct ls_leader){ .leader = work->act.leader };
		ls_check_leader(w, m, lease, &work->act.leader);
	} else if (kind == LS_IO_BLOCK) {
		io->u.block = work->act.block;
		io->is_first = work->b.is_bound && !work->was_bound &&
			       work->b.want.op != HF_BALLOT_RELEASE;
		if (io->is_first && w->plan->is_like_daemon)
			work->tenure = m->page.tenure;
		work->was_bound = work->was_bound || work->b.is_bound;
	}
	if (kind != LS_IO_READ_AREA && work->has_read && work->last.leader.is_damaged)
		ls_fail(w, LS_RULE_DAMAGE, "%c writes to lease %d although its leader is damaged",
			ls_letter(ls_index(w, m)), lease);
	ls_io_submit(w, io);
}

static void say_action(struct ls_world *w, const struct ls_machine *m, int lease,
		       const struct hf_ballot_action *a)
{
	static const char *const names[] = { "nothing", "read", "write block", "write leader",
					     "look",    "wait", "done" };
	char what[120] = "";

	if (!w->narrate)
		return;
	if (a->kind == HF_BALLOT_DO_WRITE_BLOCK)
		(void)snprintf(what, sizeof(what), " lver %llu mbal %llu bal %llu: %llu.%llu%s",
			       (unsigned long long)a->block.lver, (unsigned long long)a->block.mbal,
			       (unsigned long long)a->block.bal, (unsigned long long)a->block.owner,
			       (unsigned long long)a->block.generation,
			       a->block.is_released ? " released" : "");
	else if (a->kind == HF_BALLOT_DO_WRITE_LEADER)
		(void)snprintf(what, sizeof(what), " lver %llu: %llu.%llu by %llu%s",
			       (unsigned long long)a->leader.lver,
			       (unsigned long long)a->leader.owner,
			       (unsigned long long)a->leader.generation,
			       (unsigned long long)a->leader.write_id,
			       a->leader.timestamp_s ? "" : " free");
	else if (a->kind == HF_BALLOT_DO_LOOK)
		(void)snprintf(what, sizeof(what), " at %llu.%llu", (unsigned long long)a->owner,
			       (unsigned long long)a->generation);
	else if (a->kind == HF_BALLOT_DONE)
		(void)snprintf(what, sizeof(what), ": %s, lver %llu owner %llu",
			       hf_ballot_result_text(a->result), (unsigned long long)a->lver,
			       (unsigned long long)a->owner);
	ls_say(w, "%c: lease %d: %s: %s%s", ls_letter(ls_index(w, m)), lease,
	       hf_ballot_op_name(m->works[lease].b.want.op), names[a->kind], what);
}

static void finish(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct hf_ballot_action a = m->works[lease].act;

	m->works[lease].is_active = false;
	ls_check_done(w, m, lease, &a);
	ls_keeper_done(w, m, lease, &a);
}

/* Without the machine. */
static void call_off(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_work *work = &m->works[lease];

	work->act = (struct hf_ballot_action){ .kind = HF_BALLOT_DONE,
					       .result = HF_BALLOT_CANCELLED,
					       .lver = work->b.want.lver };
	finish(w, m, lease);
}

static void act(struct ls_world *w, struct ls_machine *m, int lease, struct hf_ballot_action *a)
{
	struct ls_work *work = &m->works[lease];
	struct ls_event wake = { .kind = LS_EV_WAKE_WORK,
				 .machine = ls_index(w, m),
				 .a = lease,
				 .inst = m->inst,
				 .b = work->serial };

	if (a->kind == HF_BALLOT_NOTHING)
		return;
	ls_plant_ballot_action(w, m, lease, a);
	say_action(w, m, lease, a);
	work->act = *a;
	switch (a->kind) {
	case HF_BALLOT_NOTHING:
		break;
	case HF_BALLOT_DO_READ:
		submit(w, m, lease, LS_IO_READ_AREA);
		break;
	case HF_BALLOT_DO_WRITE_BLOCK:
		submit(w, m, lease, LS_IO_BLOCK);
		break;
	case HF_BALLOT_DO_WRITE_LEADER:
		submit(w, m, lease, LS_IO_LEADER);
		break;
	case HF_BALLOT_DO_LOOK:
		work->is_looking = true;
		look(w, m, lease);
		break;
	case HF_BALLOT_DO_WAIT:
		ls_post(w, ls_until_ns(w, m, a->at_ns), &wake);
		break;
	case HF_BALLOT_DONE:
		finish(w, m, lease);
		break;
	}
}

static void feed(struct ls_world *w, struct ls_machine *m, int lease, struct hf_ballot_event *ev)
{
	struct hf_ballot_action a = { 0 };

	ev->now_ns = ls_local_ns(w, m);
	ev->now_s = ev->now_ns / LS_S + 1;
	ev->random = (uint32_t)simkit_rand_next(&w->rand);
	hf_ballot_step(&m->works[lease].b, ev, &a);
	act(w, m, lease, &a);
}

void ls_work_begin(struct ls_world *w, struct ls_machine *m, int lease,
		   const struct hf_ballot_want *want)
{
	struct ls_work *work = &m->works[lease];
	struct hf_ballot_want mine = *want;
	struct hf_ballot_action a = { 0 };

	memset(work, 0, offsetof(struct ls_work, last));
	work->has_read = false;
	work->is_active = true;
	work->serial = ++w->next_serial;
	work->tenure = m->page.tenure;
	work->began_ns = w->now_ns;
	mine.host_id = m->id;
	mine.generation = m->page.generation;
	mine.max_hosts = LS_MAX_HOSTS;
	ls_plant_want(w, m, lease, &mine);
	ls_say(w, "%c: lease %d: %s begins, lver %llu to %llu.%llu", ls_letter(ls_index(w, m)),
	       lease, hf_ballot_op_name(mine.op), (unsigned long long)mine.lver,
	       (unsigned long long)mine.to, (unsigned long long)mine.to_generation);
	hf_ballot_begin(&work->b, &mine, ls_local_ns(w, m), &a);
	act(w, m, lease, &a);
}

/*
 * As the daemon has it: the tenure in which a result counts is that of the write by which the value
 * was first named; and that goes out in this tenure, or not at all.
 */
bool ls_work_may_go(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	struct ls_work *work = &m->works[io->lease];

	if (!w->plan->is_like_daemon || m->is_sanlock || io->kind != LS_IO_BLOCK || !io->is_first ||
	    (ls_local_ns(w, m) < m->page.valid_ns && m->page.tenure == work->tenure))
		return true;
	work->is_io_out = false;
	if (work->is_active && work->serial == io->serial) {
		work->was_bound = false;
		call_off(w, m, io->lease);
	}
	return false;
}

void ls_work_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	struct ls_work *work = &m->works[io->lease];
	struct hf_ballot_event ev = { .issued_ns = io->issued_ns, .is_settled = io->is_settled };
	bool is_success = !io->is_failed;

	work->is_io_out = false;
	if (!work->is_active || io->serial != work->serial) {
		/* Called off meanwhile; the next operation waits for what may still land. */
		if (io->kind == LS_IO_BLOCK && io->is_failed && !io->is_settled)
			m->settled_ns = ls_local_ns(w, m) + HF_BALLOT_SETTLE_MS * LS_MS;
		return;
	}
	if (io->kind != LS_IO_READ_AREA && w->plant == LS_PLANT_SUCCESS_ASSUMED)
		is_success = true;
	if (!is_success && w->plant == LS_PLANT_GIVES_UP)
		return;
	if (!is_success && w->plant == LS_PLANT_FAILURE_ASSUMED) {
		call_off(w, m, io->lease);
		return;
	}
	ev.kind = !is_success                   ? HF_BALLOT_IO_FAILED
		  : io->kind == LS_IO_READ_AREA ? HF_BALLOT_READ
						: HF_BALLOT_WRITTEN;
	if (ev.kind == HF_BALLOT_READ) {
		struct ls_area area = io->u.area;

		ls_plant_ballot_read(w, m, io->lease, &area, &ev);
		work->last = area;
		work->has_read = true;
		ev.leader = &work->last.leader.leader;
		ev.is_leader_damaged = work->last.leader.is_damaged;
		ev.blocks = work->last.blocks;
		ev.n_blocks = LS_IDS;
		if (w->plant == LS_PLANT_DAMAGE_IGNORED)
			ev.is_leader_damaged = false;
	}
	feed(w, m, io->lease, &ev);
}

void ls_work_wake(struct ls_world *w, struct ls_machine *m, int lease, uint64_t serial)
{
	struct ls_work *work = &m->works[lease];

	if (work->is_active && work->serial == serial && work->act.kind == HF_BALLOT_DO_WAIT)
		feed(w, m, lease, &(struct hf_ballot_event){ .kind = HF_BALLOT_WAKE });
}

void ls_work_cancel(struct ls_world *w, struct ls_machine *m, int lease)
{
	struct ls_work *work = &m->works[lease];

	if (!work->is_active)
		return;
	ls_say(w, "%c: lease %d: cancel", ls_letter(ls_index(w, m)), lease);
	if (w->plant == LS_PLANT_CANCEL_BOUND && work->b.is_bound) {
		call_off(w, m, lease);
		return;
	}
	feed(w, m, lease, &(struct hf_ballot_event){ .kind = HF_BALLOT_CANCEL });
	if (!work->is_active || work->b.is_bound || !w->plan->is_like_daemon)
		return;
	/* What it was waiting for, the next one waits for. */
	if (work->b.is_settling)
		m->settled_ns = ls_local_ns(w, m) + HF_BALLOT_SETTLE_MS * LS_MS;
	call_off(w, m, lease);
}

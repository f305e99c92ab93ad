/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Striking, and healing. */
#include "leasesim.h"

static void undo_later(struct ls_world *w, int i)
{
	ls_post(w, w->plan->faults[i].for_ns, &(struct ls_event){ .kind = LS_EV_UNDO, .a = i });
}

static unsigned int *counter(struct ls_machine *m, enum ls_fault_kind kind)
{
	switch (kind) {
	case LS_FAULT_PAUSE:
		return &m->pauses;
	case LS_FAULT_HANG:
		return &m->hangs;
	case LS_FAULT_CUT:
		return &m->cuts;
	case LS_FAULT_SLOW:
		return &m->slows;
	case LS_FAULT_ERRORS:
		return &m->errors;
	case LS_FAULT_DOUBLE:
		return &m->doubles;
	case LS_FAULT_POWER:
	case LS_FAULT_FENCE:
	case LS_FAULT_KILL:
	case LS_FAULT_LOSE:
	case LS_FAULT_COUNT:
		break;
	}
	return NULL;
}

/* ---- fencing ---- */

/* At once, soon, or when it has long been back. */
static uint64_t word_delay(struct ls_world *w)
{
	unsigned int n = simkit_rand_below(&w->rand, 10);

	return n < 4 ? ls_delay(w, 20 * LS_MS) : n < 7 ? ls_delay(w, LS_S) : ls_delay(w, 9 * LS_S);
}

/* Not everybody hears of it, and nobody at the same time. Who has two machines of one name cannot know which of the two
 * was fenced: what is promised goes no further. */
static void spread_word(struct ls_world *w, int who, bool is_early)
{
	if (w->plan->is_twin_namesake && w->plan->has_twin && w->machines[who].id == 1)
		return;
	for (int i = 0; i < w->plan->n_machines; i++) {
		const struct ls_machine *m = &w->machines[i];
		struct ls_event ev = { .kind = LS_EV_FENCED,
				       .machine = i,
				       .a = who,
				       .inst = m->inst,
				       .b = w->now_ns };

		if (i != who && m->inst && !m->is_sanlock && simkit_rand_percent(&w->rand, 80))
			ls_post(w, is_early ? 0 : word_delay(w), &ev);
	}
}

/* The clock of who fenced is not ours; it is trusted to be off by no more than what is taken off. */
static uint64_t not_before(struct ls_world *w, const struct ls_machine *m, uint64_t at_ns)
{
	uint64_t off_ns = ls_delay(w, LS_S / 2);

	if (w->plant == LS_PLANT_FENCED_LATE)
		return ls_local_ns(w, m);
	return ls_local_at(m, at_ns > off_ns ? at_ns - off_ns : 0);
}

void ls_fault_told(struct ls_world *w, struct ls_machine *m, int who, uint64_t at_ns)
{
	struct hf_lease_sight *s = &m->sights[w->machines[who].id - 1];
	enum hf_lease_fencing fencing = hf_lease_sight_fenced(
		s, w->machines[who].name, not_before(w, m, at_ns), ls_local_ns(w, m));

	w->stats->fencings += fencing == HF_LEASE_FENCING_TAKEN;
	ls_say(w, "%c: is told that %c was fenced at %.3f: %s", ls_letter(ls_index(w, m)),
	       ls_letter(who), (double)at_ns / (double)LS_MS, hf_lease_fencing_text(fencing));
}

/* ---- striking ---- */

static void fence(struct ls_world *w, struct ls_machine *m, uint64_t for_ns)
{
	int who = ls_index(w, m);

	if (w->plant == LS_PLANT_FENCED_EARLY) {
		/* it goes on; its power is cut with the next such fault */
		spread_word(w, who, true);
		return;
	}
	ls_machine_power_off(w, m);
	spread_word(w, who, false);
	ls_post(w, for_ns, &(struct ls_event){ .kind = LS_EV_BOOT, .machine = who });
}

/* Whoever runs a VM. */
static int some_owner(const struct ls_world *w)
{
	for (int l = 0; l < w->plan->n_leases; l++)
		for (int i = 0; i < w->plan->n_machines; i++)
			if (w->machines[i].is_up && w->machines[i].vms[l].state == LS_VM_RUNNING)
				return i;
	return 0;
}

void ls_fault_strike(struct ls_world *w, int i)
{
	const struct ls_fault *f = &w->plan->faults[i];
	int who = w->is_done[i] ? w->struck[i] : f->machine == LS_ANY ? some_owner(w) : f->machine;
	struct ls_machine *m = &w->machines[who];
	unsigned int *count = counter(m, f->kind);

	if (w->is_calm || !m->is_up)
		return;
	w->struck[i] = who;
	w->stats->faults++;
	ls_say(w, "fault %d: %s of %c for %.1f ms", i, ls_fault_names[f->kind], ls_letter(who),
	       (double)f->for_ns / (double)LS_MS);
	if (count) {
		++*count;
		undo_later(w, i);
	}
	if (f->kind == LS_FAULT_FENCE) {
		fence(w, m, f->for_ns);
	} else if (f->kind == LS_FAULT_PAUSE) {
		m->is_paused = true;
	} else if (f->kind == LS_FAULT_HANG) {
		m->is_hung = true;
	} else if (f->kind == LS_FAULT_POWER || (f->kind == LS_FAULT_KILL && m->is_sanlock)) {
		ls_machine_power_off(w, m);
		ls_post(w, f->for_ns, &(struct ls_event){ .kind = LS_EV_BOOT, .machine = who });
	} else if (f->kind == LS_FAULT_KILL && m->inst) {
		ls_machine_kill(w, m);
		ls_post(w, f->for_ns, &(struct ls_event){ .kind = LS_EV_DAEMON, .machine = who });
	} else if (f->kind == LS_FAULT_LOSE) {
		ls_keeper_lose(w, m);
	}
}

void ls_fault_undo(struct ls_world *w, int i)
{
	const struct ls_fault *f = &w->plan->faults[i];
	struct ls_machine *m = &w->machines[w->struck[i]];
	unsigned int *count = counter(m, f->kind);

	if (!count || !*count)
		return; /* healed with all others */
	--*count;
	if (f->kind != LS_FAULT_PAUSE && f->kind != LS_FAULT_HANG)
		return;
	m->is_paused = m->pauses;
	m->is_hung = m->hangs;
	ls_say(w, "%c: goes on", ls_letter(w->struck[i]));
	ls_machine_wake(w, m);
}

void ls_fault_point(struct ls_world *w, struct ls_machine *m, unsigned int point)
{
	for (unsigned int i = 0; i < w->plan->n_faults; i++) {
		const struct ls_fault *f = &w->plan->faults[i];

		if (w->is_done[i] || f->point != point ||
		    (f->machine != LS_ANY && f->machine != ls_index(w, m)) || ++w->hits[i] < f->nth)
			continue;
		w->is_done[i] = true;
		w->struck[i] = ls_index(w, m);
		if (f->at_ns)
			ls_post(w, f->at_ns,
				&(struct ls_event){ .kind = LS_EV_FAULT, .a = (int)i });
		else
			ls_fault_strike(w, (int)i);
	}
}

static void heal(struct ls_world *w, struct ls_machine *m)
{
	struct ls_event ev = { .machine = ls_index(w, m) };

	m->cuts = m->slows = m->errors = m->doubles = m->pauses = m->hangs = 0;
	m->is_paused = m->is_hung = false;
	ls_machine_wake(w, m);
	if (m->is_twin) {
		if (m->is_up)
			ls_machine_power_off(w, m);
		m->is_retired = true;
	} else if (!m->is_up) {
		ev.kind = LS_EV_BOOT;
		ls_post(w, ls_delay(w, LS_S), &ev);
	} else if (!m->inst) {
		ev.kind = LS_EV_DAEMON;
		ls_post(w, ls_delay(w, LS_S), &ev);
	}
}

void ls_fault_heal_all(struct ls_world *w)
{
	for (int i = 0; i < w->plan->n_machines; i++)
		heal(w, &w->machines[i]);
}

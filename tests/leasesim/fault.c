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
	case LS_FAULT_KILL:
	case LS_FAULT_LOSE:
	case LS_FAULT_COUNT:
		break;
	}
	return NULL;
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
	if (f->kind == LS_FAULT_PAUSE) {
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

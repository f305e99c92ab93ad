/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "leasesim.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define WAKE_NS (2 * LS_MS)
#define BOOT_NS (200 * LS_MS)

char ls_letter(int machine)
{
	return machine < 0 ? '-' : (char)('A' + machine);
}

int ls_index(const struct ls_world *w, const struct ls_machine *m)
{
	return (int)(m - w->machines);
}

void ls_say(struct ls_world *w, const char *format, ...)
{
	char line[400];
	va_list ap;
	int at;

	if (!w->narrate)
		return;
	at = snprintf(line, sizeof(line), "%11.3f ", (double)w->now_ns / (double)LS_MS);
	va_start(ap, format);
	(void)vsnprintf(line + at, sizeof(line) - (size_t)at, format, ap);
	va_end(ap);
	w->narrate(w->narrate_arg, line);
}

void ls_fail(struct ls_world *w, enum ls_rule rule, const char *format, ...)
{
	va_list ap;
	int at;

	if (w->has_failed)
		return;
	w->has_failed = true;
	at = snprintf(w->failure, sizeof(w->failure), "rule %u (%s): ", rule, ls_rule_names[rule]);
	va_start(ap, format);
	(void)vsnprintf(w->failure + at, sizeof(w->failure) - (size_t)at, format, ap);
	va_end(ap);
	ls_say(w, "VIOLATION of %s", w->failure);
}

uint64_t ls_delay(struct ls_world *w, uint64_t max_ns)
{
	uint64_t r = simkit_rand_next(&w->rand);

	if (w->plan->is_edge && (r & 1))
		return r & 2 ? max_ns : 0;
	return (r >> 8) % (max_ns + 1);
}

uint64_t ls_local_at(const struct ls_machine *m, uint64_t true_ns)
{
	return m->offset_ns + true_ns / 1000 * m->rate_ppm / 1000;
}

uint64_t ls_local_ns(const struct ls_world *w, const struct ls_machine *m)
{
	return ls_local_at(m, w->now_ns);
}

uint64_t ls_until_ns(const struct ls_world *w, const struct ls_machine *m, uint64_t local_ns)
{
	uint64_t now = ls_local_ns(w, m);

	return local_ns <= now ? 0 : (local_ns - now) * 1000 / m->rate_ppm * 1000 + 2000;
}

/* ---- the queue: a binary heap ---- */

static bool is_before(const struct ls_event *a, const struct ls_event *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->seq < b->seq);
}

static void push(struct ls_world *w, const struct ls_event *ev)
{
	unsigned int i = w->n_events++;

	assert(i < LS_EVENTS);
	while (i && is_before(ev, &w->events[(i - 1) / 2])) {
		w->events[i] = w->events[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->events[i] = *ev;
}

static bool pop(struct ls_world *w, struct ls_event *ret)
{
	struct ls_event last;
	unsigned int i = 0, child;

	if (!w->n_events)
		return false;
	*ret = w->events[0];
	last = w->events[--w->n_events];
	while ((child = 2 * i + 1) < w->n_events) {
		if (child + 1 < w->n_events && is_before(&w->events[child + 1], &w->events[child]))
			child++;
		if (!is_before(&w->events[child], &last))
			break;
		w->events[i] = w->events[child];
		i = child;
	}
	w->events[i] = last;
	return true;
}

void ls_post(struct ls_world *w, uint64_t delay_ns, const struct ls_event *ev)
{
	struct ls_event mine = *ev;

	mine.at_ns = w->now_ns + delay_ns;
	mine.seq = ++w->event_seq;
	push(w, &mine);
}

/* ---- machines ---- */

void ls_machine_start(struct ls_world *w, struct ls_machine *m)
{
	struct ls_event tick = { .kind = LS_EV_TICK, .machine = ls_index(w, m) };

	m->is_leaving = false;
	m->inst = ++w->next_serial;
	memset(m->works, 0, sizeof(m->works));
	memset(m->sights, 0, sizeof(m->sights));
	tick.inst = m->inst;
	ls_say(w, "%c: its daemon starts", ls_letter(ls_index(w, m)));
	ls_post(w, ls_delay(w, w->plan->tick_ns), &tick);
	if (m->is_sanlock)
		ls_san_start(w, m);
	else
		ls_member_start(w, m);
}

void ls_machine_kill(struct ls_world *w, struct ls_machine *m)
{
	if (!m->inst)
		return;
	ls_say(w, "%c: its daemon dies", ls_letter(ls_index(w, m)));
	ls_disk_orphan(w, m, /* is_power= */ false);
	m->inst = 0;
	m->settled_ns = ls_local_ns(w, m) + HF_BALLOT_SETTLE_MS * LS_MS;
	ls_keeper_daemon_died(w, m);
}

void ls_machine_power_off(struct ls_world *w, struct ls_machine *m)
{
	ls_say(w, "%c: power is lost", ls_letter(ls_index(w, m)));
	ls_disk_orphan(w, m, /* is_power= */ true);
	m->inst = 0;
	m->settled_ns = ls_local_ns(w, m) + HF_BALLOT_SETTLE_MS * LS_MS;
	m->is_up = false;
	memset(&m->page, 0, sizeof(m->page));
	memset(m->vms, 0, sizeof(m->vms));
	for (int i = 0; i < LS_LEASES; i++)
		m->vms[i].partner = LS_NONE;
}

bool ls_machine_is_still(const struct ls_machine *m)
{
	return m->is_paused || m->is_hung;
}

/* What would have come to it meanwhile comes now, in its order. */
void ls_machine_wake(struct ls_world *w, struct ls_machine *m)
{
	unsigned int kept = 0, n = w->n_deferred;
	int me = ls_index(w, m);

	if (ls_machine_is_still(m))
		return;
	m->skips_guard = w->plant == LS_PLANT_WAKES_BLIND && m->is_up;
	for (unsigned int i = 0; i < n; i++) {
		struct ls_event ev = w->deferred[i];

		if (ev.machine != me)
			w->deferred[kept++] = ev;
		else
			ls_post(w, i * UINT64_C(1000) + ls_delay(w, 500), &ev);
	}
	w->n_deferred = kept;
}

static void on_boot(struct ls_world *w, struct ls_machine *m)
{
	if (m->is_up || m->is_retired)
		return;
	m->is_up = true;
	m->offset_ns = w->plan->offset_ns[ls_index(w, m)];
	ls_say(w, "%c: boots", ls_letter(ls_index(w, m)));
	ls_machine_start(w, m);
}

static bool is_of_machine(enum ls_event_kind kind)
{
	return kind != LS_EV_EFFECT && kind != LS_EV_FAULT && kind != LS_EV_UNDO &&
	       kind != LS_EV_CALM && kind != LS_EV_BOOT;
}

static bool is_for_nobody(const struct ls_machine *m, const struct ls_event *ev)
{
	if (ev->kind == LS_EV_DAEMON)
		return !m->is_up || m->inst || m->is_retired;
	return !m->is_up || m->inst != ev->inst;
}

static void handle_machine(struct ls_world *w, struct ls_machine *m, const struct ls_event *ev)
{
	struct ls_event again = *ev;

	if (is_for_nobody(m, ev)) {
		if (ev->kind == LS_EV_SUBMIT || ev->kind == LS_EV_DONE)
			ls_io_unref(&w->ios[ev->a]);
	} else if (ls_machine_is_still(m)) {
		assert(w->n_deferred < LS_EVENTS);
		w->deferred[w->n_deferred++] = *ev;
	} else if (ev->kind == LS_EV_SUBMIT) {
		ls_io_submitted(w, ev);
	} else if (ev->kind == LS_EV_DONE) {
		ls_io_done(w, ev);
	} else if (ev->kind == LS_EV_WAKE_MEMBER) {
		ls_member_wake(w, m, ev->b);
	} else if (ev->kind == LS_EV_WAKE_WORK) {
		ls_work_wake(w, m, ev->a, ev->b);
	} else if (ev->kind == LS_EV_FENCED) {
		ls_fault_told(w, m, ev->a, ev->b);
	} else if (ev->kind == LS_EV_SAN) {
		ls_san_wake(w, m, ev);
	} else if (ev->kind == LS_EV_DAEMON) {
		ls_machine_start(w, m);
	} else {
		ls_post(w, w->plan->tick_ns / 2 + ls_delay(w, w->plan->tick_ns), &again);
		if (m->is_sanlock)
			ls_san_tick(w, m);
		else
			ls_keeper_tick(w, m);
	}
}

static void on_calm(struct ls_world *w, const struct ls_event *ev)
{
	if (!w->is_calm) {
		w->is_calm = true;
		w->calm_at_ns = w->now_ns;
		ls_say(w, "all faults are over");
		ls_fault_heal_all(w);
	}
	w->is_well = ls_check_is_well(w);
	if (w->is_well && !w->plan->has_sanlock &&
	    w->now_ns - w->calm_at_ns > w->stats->slowest_ns) {
		w->stats->slowest_ns = w->now_ns - w->calm_at_ns;
		w->stats->slowest_seed = w->plan->seed;
	}
	ls_post(w, 200 * LS_MS, ev);
}

static void handle(struct ls_world *w, const struct ls_event *ev)
{
	struct ls_machine *m = &w->machines[ev->machine];

	w->stats->events++;
	if (is_of_machine(ev->kind))
		handle_machine(w, m, ev);
	else if (ev->kind == LS_EV_EFFECT)
		ls_io_effect(w, ev);
	else if (ev->kind == LS_EV_BOOT)
		on_boot(w, m);
	else if (ev->kind == LS_EV_FAULT)
		ls_fault_strike(w, ev->a);
	else if (ev->kind == LS_EV_UNDO)
		ls_fault_undo(w, ev->a);
	else
		on_calm(w, ev);
	ls_check_world(w);
}

static void init_machine(struct ls_world *w, int i)
{
	const struct ls_plan *p = w->plan;
	struct ls_machine *m = &w->machines[i];
	bool is_last = i == p->n_machines - 1;

	m->is_sanlock = p->has_sanlock && is_last;
	m->is_twin = p->has_twin && is_last;
	m->id = m->is_twin ? 1 : (uint64_t)i + 1;
	m->rate_ppm = p->rate_ppm[i];
	m->offset_ns = p->offset_ns[i];
	(void)snprintf(m->name, sizeof(m->name), "host-%c",
		       m->is_twin && p->is_twin_namesake ? 'A' : 'A' + i);
	for (int l = 0; l < LS_LEASES; l++)
		m->vms[l].partner = LS_NONE;
}

static void begin(struct ls_world *w, const struct ls_plan *plan, struct ls_stats *stats)
{
	ls_narrator *narrate = w->narrate;
	void *arg = w->narrate_arg;
	enum ls_plant plant = w->plant;

	memset(w, 0, sizeof(*w));
	w->narrate = narrate;
	w->narrate_arg = arg;
	w->plant = plant;
	w->plan = plan;
	w->stats = stats;
	w->rand.state = plan->seed;
	for (int l = 0; l < plan->n_leases; l++)
		w->disk.areas[l].leader.leader.num_hosts = LS_IDS;
	for (int i = 0; i < plan->n_machines; i++) {
		init_machine(w, i);
		ls_post(w,
			ls_delay(w, BOOT_NS) + (i == plan->n_machines - 1 && plan->has_twin
							? plan->safety_ns / 4
							: 0),
			&(struct ls_event){ .kind = LS_EV_BOOT, .machine = i });
	}
	for (unsigned int i = 0; i < plan->n_faults; i++) {
		struct ls_event ev = { .kind = LS_EV_FAULT, .a = (int)i };

		if (plan->faults[i].point == LS_POINT_TIME)
			ls_post(w, plan->faults[i].at_ns, &ev);
	}
	ls_post(w, plan->safety_ns, &(struct ls_event){ .kind = LS_EV_CALM });
}

void ls_run(struct ls_world *w, const struct ls_plan *plan, struct ls_stats *stats)
{
	uint64_t end_ns = plan->safety_ns + plan->calm_ns;
	struct ls_event ev;

	begin(w, plan, stats);
	while (!w->has_failed && !w->is_well && pop(w, &ev) && ev.at_ns <= end_ns) {
		w->now_ns = ev.at_ns;
		handle(w, &ev);
		stats->hash = (stats->hash ^ ev.at_ns ^ ev.kind) * 0x100000001b3u;
	}
	if (!w->has_failed && !w->is_well)
		ls_check_progress(w);
	stats->runs++;
}

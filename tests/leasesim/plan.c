/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Swarm: each run draws which kinds of faults it has, how many, how delays are drawn and what keepers
 * do, so that no mixture is missed because another one is more usual.
 */
#include "leasesim.h"

#include <stdio.h>
#include <string.h>

static uint64_t between_ms(struct simkit_rand *r, unsigned int from, unsigned int to)
{
	return (from + simkit_rand_below(r, to - from + 1)) * LS_MS;
}

/* Short, about as long as it takes to be taken for dead, or longer. */
static uint64_t absence(struct simkit_rand *r, const struct ls_plan *p)
{
	unsigned int n = simkit_rand_below(r, 10);

	if (n < 2)
		return between_ms(r, 1, 600);
	if (n < 7)
		return between_ms(r, p->fence_ms[0] * 8 / 10, p->fence_ms[0] * 14 / 10 + 300);
	return between_ms(r, p->fence_ms[0], p->fence_ms[0] * 3);
}

static uint64_t duration(struct simkit_rand *r, const struct ls_plan *p, enum ls_fault_kind kind)
{
	switch (kind) {
	case LS_FAULT_PAUSE:
	case LS_FAULT_HANG:
	case LS_FAULT_CUT:
	case LS_FAULT_KILL:
		return absence(r, p);
	case LS_FAULT_POWER:
		return between_ms(r, 100, 5000);
	case LS_FAULT_FENCE: /* may be back at once, with everything */
		return simkit_rand_percent(r, 40) ? between_ms(r, 1, 50) : between_ms(r, 100, 9000);
	case LS_FAULT_SLOW:
	case LS_FAULT_ERRORS:
	case LS_FAULT_DOUBLE:
		return between_ms(r, 100, 6000);
	case LS_FAULT_LOSE:
	case LS_FAULT_COUNT:
		break;
	}
	return 0;
}

static void draw_trigger(struct simkit_rand *r, const struct ls_plan *p, struct ls_fault *f)
{
	static const unsigned int ballots[] = { LS_POINT_PHASE1,         LS_POINT_PHASE2,
						LS_POINT_LEADER,         LS_POINT_PHASE1_WRITTEN,
						LS_POINT_PHASE2_WRITTEN, LS_POINT_LEADER_WRITTEN,
						LS_POINT_AREA_READ,      LS_POINT_READ_AREA };
	static const unsigned int renewals[] = { LS_POINT_READ_SLOTS, LS_POINT_SLOTS_READ,
						 LS_POINT_SLOT, LS_POINT_SLOT_WRITTEN };

	f->point = LS_POINT_TIME;
	f->at_ns = simkit_rand_next(r) % p->safety_ns;
	if (simkit_rand_percent(r, 35))
		return;
	if (simkit_rand_percent(r, 70)) {
		f->point = ballots[simkit_rand_below(r, 8)];
		f->nth = 1 + simkit_rand_below(r, simkit_rand_percent(r, 50) ? 4 : 20);
	} else {
		f->point = renewals[simkit_rand_below(r, 4)];
		f->nth = 1 + simkit_rand_below(r, 100);
	}
	f->at_ns = simkit_rand_percent(r, 70) ? 0 : simkit_rand_below(r, 8000) * UINT64_C(1000);
}

static void draw_fault(struct simkit_rand *r, struct ls_plan *p, unsigned int kinds)
{
	struct ls_fault *f = &p->faults[p->n_faults++];
	const struct ls_fault *before = f - 1;

	do
		f->kind = simkit_rand_below(r, LS_FAULT_COUNT);
	while (!(kinds & 1u << f->kind));
	f->machine = simkit_rand_percent(r, 60)
			     ? LS_ANY
			     : (int)simkit_rand_below(r, (unsigned int)p->n_machines);
	f->for_ns = duration(r, p, f->kind);
	/* Trouble comes in groups: soon after the one before, and for the same reason. */
	if (p->n_faults > 1 && simkit_rand_percent(r, 35)) {
		if (simkit_rand_percent(r, 50))
			f->machine = before->machine;
		f->point = before->point;
		f->nth = before->nth;
		f->at_ns = before->at_ns + simkit_rand_below(r, 4000000) * UINT64_C(1000);
	} else {
		draw_trigger(r, p, f);
	}
}

/* What a read has seen is told long after: whoever asked may have slept for as long as a fence. */
static void draw_slow_look(struct simkit_rand *r, struct ls_plan *p)
{
	p->faults[p->n_faults++] = (struct ls_fault){
		.kind = simkit_rand_percent(r, 50) ? LS_FAULT_PAUSE : LS_FAULT_HANG,
		.machine = LS_ANY,
		.point = LS_POINT_SLOTS_READ,
		.nth = 20 + simkit_rand_below(r, 120),
		.for_ns = between_ms(r, 1500, 5000),
	};
}

static void draw_clocks(struct simkit_rand *r, struct ls_plan *p)
{
	static const uint64_t edges[] = { 970000, 1030000, 1000000 };

	for (int i = 0; i < p->n_machines; i++) {
		p->rate_ppm[i] = simkit_rand_percent(r, 70) ? edges[simkit_rand_below(r, 3)]
							    : 970000 + simkit_rand_below(r, 60001);
		/* sanlock's rule leaves little for clocks of different rates. */
		if (p->has_sanlock)
			p->rate_ppm[i] = 990000 + simkit_rand_below(r, 20001);
		p->offset_ns[i] = LS_S + simkit_rand_below(r, 1000000) * LS_MS;
	}
}

/* Hosts may have profiles of their own. */
static void draw_profiles(struct simkit_rand *r, struct ls_plan *p)
{
	bool is_common = simkit_rand_percent(r, 30);
	int twin = p->has_twin ? p->n_machines - 1 : LS_NONE;

	for (int i = 0; i < LS_MACHINES; i++) {
		p->renew_ms[i] = simkit_rand_percent(r, 40) ? 500 : 200 + simkit_rand_below(r, 700);
		p->fence_ms[i] = p->renew_ms[i] * (4 + simkit_rand_below(r, 3));
		p->stop_ms[i] = simkit_rand_percent(r, 50)
					? p->fence_ms[i] / 5
					: simkit_rand_below(r, p->fence_ms[i] / 3);
		/* Who has another's id has his profile, too: the promise goes no further. */
		if ((is_common && i) || i == twin) {
			p->renew_ms[i] = p->renew_ms[0];
			p->fence_ms[i] = p->fence_ms[0];
			p->stop_ms[i] = p->stop_ms[0];
		}
	}
}

static void draw_timing(struct simkit_rand *r, struct ls_plan *p)
{
	p->io_timeout_s = 1;
	p->io_ns = simkit_rand_percent(r, 50) ? 5 * LS_MS : (1 + simkit_rand_below(r, 30)) * LS_MS;
	p->late_ns = between_ms(r, 50, simkit_rand_percent(r, 50) ? 500 : 8000);
	p->tick_ns = between_ms(r, 30, 250);
	p->is_edge = simkit_rand_percent(r, 40);
	p->safety_ns = between_ms(r, 3000, 14000);
	p->calm_ns = p->has_sanlock ? 200 * LS_S : 30 * LS_S;
	if (p->has_sanlock)
		p->safety_ns += simkit_rand_percent(r, 50) ? 100 * LS_S : 10 * LS_S;
}

void ls_plan_draw(struct ls_plan *p, uint64_t seed)
{
	struct simkit_rand r = { .state = seed * 0x9e3779b97f4a7c15u + 4711 };
	unsigned int kinds, n;

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	p->n_machines = 2 + (int)simkit_rand_below(&r, 4);
	n = simkit_rand_below(&r, 100);
	p->has_twin = n < 10;
	p->has_sanlock = n >= 10 && n < 15;
	p->is_twin_namesake = simkit_rand_percent(&r, 50);
	p->n_machines += p->has_twin && p->n_machines < LS_MACHINES;
	p->n_leases = simkit_rand_percent(&r, 75) ? 1 : LS_LEASES;
	p->may_tear = simkit_rand_percent(&r, 20);
	draw_profiles(&r, p);
	draw_timing(&r, p);
	p->is_like_daemon = simkit_rand_percent(&r, 50);
	draw_clocks(&r, p);
	p->busy = 1 + simkit_rand_below(&r, 8);
	p->does = simkit_rand_percent(&r, 20)
			  ? (1u << LS_DO_COUNT) - 1
			  : (unsigned int)simkit_rand_next(&r) & ((1u << LS_DO_COUNT) - 1);
	do
		kinds = (unsigned int)simkit_rand_next(&r) & ((1u << LS_FAULT_COUNT) - 1);
	while (!kinds);
	for (n = 1 + simkit_rand_below(&r, 10); n; n--)
		draw_fault(&r, p, kinds);
	if (simkit_rand_percent(&r, 25))
		for (n = 1 + simkit_rand_below(&r, 3); n; n--)
			draw_slow_look(&r, p);
}

void ls_plan_print(const struct ls_plan *p)
{
	(void)printf("seed %llu: %d machines%s%s, %d lease%s, io %llu, "
		     "late %llu, tick %llu ms%s%s, does %#x at %u, faults for %llu ms\n",
		     (unsigned long long)p->seed, p->n_machines,
		     p->has_sanlock ? " (the last one sanlock's)" : "",
		     p->has_twin ? " (the last one with the first one's id)" : "", p->n_leases,
		     p->n_leases == 1 ? "" : "s", (unsigned long long)(p->io_ns / LS_MS),
		     (unsigned long long)(p->late_ns / LS_MS),
		     (unsigned long long)(p->tick_ns / LS_MS), p->is_edge ? ", edges" : "",
		     p->may_tear ? ", torn" : "", p->does, p->busy,
		     (unsigned long long)(p->safety_ns / LS_MS));
	for (int i = 0; i < p->n_machines; i++)
		(void)printf("  %c: rate %.3f, renew %u, fence %u, stop %u ms\n", 'A' + i,
			     (double)p->rate_ppm[i] / 1e6, p->renew_ms[i], p->fence_ms[i],
			     p->stop_ms[i]);
	for (unsigned int i = 0; i < p->n_faults; i++) {
		const struct ls_fault *f = &p->faults[i];

		(void)printf("  fault %u: %s %c for %.1f ms at %.3f ms", i, ls_fault_names[f->kind],
			     f->machine == LS_ANY ? '*' : ls_letter(f->machine),
			     (double)f->for_ns / (double)LS_MS, (double)f->at_ns / (double)LS_MS);
		if (f->point != LS_POINT_TIME)
			(void)printf(" after its %s number %u", ls_point_names[f->point], f->nth);
		(void)puts("");
	}
}

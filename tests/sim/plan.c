/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Swarm: each run draws which kinds of faults it has, how many, how delays are drawn and who
 * arbitrates, so that no mixture is missed because another one is more usual.
 */
#include "sim.h"

#include <string.h>

/* Those before it; a fencing is drawn by itself, for it is more than one event. */
#define SWARM_KINDS SIM_FAULT_FENCE

static uint64_t between_ms(struct sim_rand *r, unsigned int from, unsigned int to)
{
	return (from + sim_rand_below(r, to - from + 1)) * (uint64_t)SIM_MS;
}

/* Most of what happens, happens between A and B. */
static int some_node(struct sim_rand *r)
{
	unsigned int x = sim_rand_below(r, 10);

	return x < 5 ? 0 : x < 9 ? 1 : 2;
}

static void draw_trigger(struct sim_rand *r, struct sim_fault *f, uint64_t safety_ns)
{
	f->when = SIM_WHEN_AT;
	f->at_ns = sim_rand_next(r) % safety_ns / SIM_US * SIM_US;
	if (sim_rand_percent(r, 50))
		return;
	f->when = SIM_WHEN_PRIMARY + sim_rand_below(r, 3);
	f->at_ns = sim_rand_percent(r, 70) ? 0 : sim_rand_below(r, 5000) * SIM_US;
	f->point_node = some_node(r);
	f->nth = 1 + sim_rand_below(r, sim_rand_percent(r, 50) ? 3 : 20);
	if (f->when == SIM_WHEN_PRIMARY)
		f->point = sim_rand_below(r, HF_PRIMARY_ACTION_COUNT);
	else if (f->when == SIM_WHEN_STANDBY)
		f->point = sim_rand_below(r, HF_STANDBY_ACTION_COUNT);
	else
		f->point = sim_rand_below(r, SIM_MSG_COUNT);
}

static uint64_t duration(struct sim_rand *r, enum sim_fault_kind kind)
{
	switch (kind) {
	case SIM_FAULT_CUT:
	case SIM_FAULT_SPLIT:
	case SIM_FAULT_FREEZE:
	case SIM_FAULT_FREEZE_DISK:
	case SIM_FAULT_FAIL_DISK:
		return between_ms(r, 2, sim_rand_percent(r, 50) ? 90 : 400);
	case SIM_FAULT_POWER:
	case SIM_FAULT_FENCE:
	case SIM_FAULT_CUT_STORAGE:
	case SIM_FAULT_KILL_DAEMON:
		return between_ms(r, 20, 400);
	case SIM_FAULT_RESET:
	case SIM_FAULT_CRASH:
	case SIM_FAULT_KILL_VM:
	case SIM_FAULT_END_VM:
	case SIM_FAULT_START:
	case SIM_FAULT_FAIL_CAPTURE:
	case SIM_FAULT_FAIL_LOAD:
	case SIM_FAULT_PROMOTE:
	case SIM_FAULT_FORCE:
	case SIM_FAULT_HANDOVER:
	case SIM_FAULT_ABANDON:
	case SIM_FAULT_DAMAGE:
	case SIM_FAULT_KILL_DISK:
	case SIM_FAULT_COUNT:
		break;
	}
	return 0;
}

/* Trouble comes in groups: soon after the one before, and for the same reason. */
static void follow(struct sim_rand *r, struct sim_fault *f, const struct sim_fault *before)
{
	f->when = before->when;
	f->point_node = before->point_node;
	f->point = before->point;
	f->nth = before->nth;
	f->at_ns = before->at_ns +
		   sim_rand_below(r, sim_rand_percent(r, 50) ? 4000 : 60000) * SIM_US;
}

static void draw_fault(struct sim_rand *r, struct sim_plan *plan, unsigned int kinds)
{
	struct sim_fault *f = &plan->faults[plan->n_faults++];

	do
		f->kind = sim_rand_below(r, SWARM_KINDS);
	while (!(kinds & 1u << f->kind));
	if (plan->n_faults > 1 && sim_rand_percent(r, 40))
		follow(r, f, f - 1);
	else
		draw_trigger(r, f, plan->safety_ns);
	f->a = some_node(r);
	do
		f->b = some_node(r);
	while (f->b == f->a);
	f->for_ns = duration(r, f->kind);
	f->n = 1 + sim_rand_below(r, 4);
}

/* Where disks change what they do, and trouble that they and the two hosts get into there. */
static void draw_disk_fault(struct sim_rand *r, struct sim_plan *plan, bool does_follow)
{
	static const enum sim_fault_kind kinds[] = {
		SIM_FAULT_KILL_DISK, SIM_FAULT_FREEZE_DISK, SIM_FAULT_FAIL_DISK,
		SIM_FAULT_FAIL_DISK, SIM_FAULT_CRASH,       SIM_FAULT_CRASH,
		SIM_FAULT_POWER,     SIM_FAULT_RESET,       SIM_FAULT_DAMAGE,
		SIM_FAULT_FAIL_LOAD,
	};
	static const unsigned int actions[] = { HF_PRIMARY_HOLD, HF_PRIMARY_PASS,
						HF_PRIMARY_CAPTURE, HF_PRIMARY_BEGIN_SYNC,
						HF_PRIMARY_RELEASE };
	static const unsigned int messages[] = { SIM_MSG_DISK_SYNC, SIM_MSG_SYNC_MARK,
						 SIM_MSG_SYNC_DONE, SIM_MSG_SETTLED, SIM_MSG_END };
	struct sim_fault *f = &plan->faults[plan->n_faults++];

	f->kind = kinds[sim_rand_below(r, sizeof(kinds) / sizeof(kinds[0]))];
	f->a = (int)sim_rand_below(r, 2);
	f->b = !f->a;
	f->for_ns = duration(r, f->kind);
	if (does_follow) {
		follow(r, f, f - 1);
		return;
	}
	f->when = sim_rand_percent(r, 50) ? SIM_WHEN_PRIMARY : SIM_WHEN_GOT;
	f->point = f->when == SIM_WHEN_GOT ? messages[sim_rand_below(r, 5)]
					   : actions[sim_rand_below(r, 5)];
	f->point_node = (int)sim_rand_below(r, 2);
	f->nth = 1 + sim_rand_below(r, 4);
	f->at_ns = sim_rand_percent(r, 50) ? 0 : sim_rand_below(r, 5000) * SIM_US;
}

static void draw_disks(struct sim_rand *r, struct sim_plan *plan)
{
	unsigned int n = sim_rand_below(r, 10);

	plan->layout = n < 3 ? SIM_DISKS_NONE : n < 7 ? SIM_DISKS_REPLICATED : SIM_DISKS_SHARED;
	plan->is_memory_enough = sim_rand_percent(r, 30);
	/* The journal has two areas: an owner that stood still for two failovers would add to the one
	 * that a third owner uses. Shared storage is for a pair (docs/failure-model.md). */
	if (plan->layout == SIM_DISKS_SHARED)
		plan->n_hosts = 2;
	if (plan->layout == SIM_DISKS_NONE || sim_rand_percent(r, 40))
		return;
	for (n = 0; n <= sim_rand_below(r, 4); n++)
		draw_disk_fault(r, plan, n != 0);
}

/* A hand-over whose standby stands still for about as long as it may: seldom by chance. */
static void draw_handover(struct sim_rand *r, struct sim_plan *plan)
{
	uint64_t at_ns = sim_rand_next(r) % plan->safety_ns / SIM_US * SIM_US;

	if (!sim_rand_percent(r, 5))
		return;
	plan->is_slow = true;
	plan->calm_ns = 1000 * SIM_MS;
	plan->faults[plan->n_faults++] =
		(struct sim_fault){ .kind = SIM_FAULT_HANDOVER, .a = 0, .b = 1, .at_ns = at_ns };
	plan->faults[plan->n_faults++] =
		(struct sim_fault){ .kind = SIM_FAULT_FREEZE,
				    .a = 1,
				    .at_ns = at_ns + sim_rand_below(r, 8000) * SIM_US,
				    .for_ns = between_ms(r, 25, 60) };
}

/* A silence that is over when the vote about it may not be, and a primary that is behind with its
 * disk. */
static void draw_silence(struct sim_rand *r, struct sim_plan *plan)
{
	uint64_t at_ns = sim_rand_next(r) % plan->safety_ns / SIM_US * SIM_US;

	if (!sim_rand_percent(r, 8))
		return;
	plan->faults[plan->n_faults++] = (struct sim_fault){ .kind = SIM_FAULT_SPLIT,
							     .a = 0,
							     .b = 1,
							     .at_ns = at_ns,
							     .for_ns = between_ms(r, 28, 45) };
	plan->faults[plan->n_faults++] = (struct sim_fault){
		.kind = sim_rand_percent(r, 50) ? SIM_FAULT_FAIL_DISK : SIM_FAULT_FREEZE_DISK,
		.a = 0,
		.at_ns = at_ns + sim_rand_below(r, 20000) * SIM_US,
		.for_ns = between_ms(r, 15, 45)
	};
}

/* A host is powered off by somebody who tells the others, at once, or when it is back and has been met. In every fourth
 * schedule: the other ones stay as they were known. */
static void draw_fencing(struct sim_rand *r, struct sim_plan *plan)
{
	struct sim_fault *f;

	if (plan->seed % 4 != 2 || plan->n_faults == SIM_FAULTS || !sim_rand_percent(r, 50))
		return;
	f = &plan->faults[plan->n_faults++];
	f->kind = SIM_FAULT_FENCE;
	if (plan->n_faults > 1 && sim_rand_percent(r, 40))
		follow(r, f, f - 1);
	else
		draw_trigger(r, f, plan->safety_ns);
	f->a = some_node(r);
	f->n = sim_rand_below(r, sim_rand_percent(r, 60) ? 40 : 300);
	f->for_ns = duration(r, f->kind);
}

/* A host that lost its keeper usually gets a new one before long. */
static void draw_restarts(struct sim_rand *r, struct sim_plan *plan)
{
	for (int node = 0; node < SIM_NODES; node++) {
		if (!sim_rand_percent(r, 60))
			continue;
		plan->faults[plan->n_faults++] = (struct sim_fault){
			.kind = SIM_FAULT_START,
			.a = node,
			.at_ns = sim_rand_next(r) % plan->safety_ns / SIM_US * SIM_US
		};
	}
}

void sim_plan_draw(struct sim_plan *plan, uint64_t seed)
{
	struct sim_rand r = { .state = sim_mix(seed, 77) };
	unsigned int kinds, n;

	memset(plan, 0, sizeof(*plan));
	plan->seed = seed;
	n = sim_rand_below(&r, 10);
	plan->arbiter = n < 4 ? SIM_ARBITER_WAIT : SIM_ARBITER_VOTE;
	plan->is_storage_flaky = sim_rand_percent(&r, 40);
	plan->delays = sim_rand_percent(&r, 50) ? SIM_DELAYS_UNIFORM : SIM_DELAYS_EDGE;
	plan->does_resend = sim_rand_percent(&r, 70);
	plan->is_slow = sim_rand_percent(&r, 30);
	plan->safety_ns = between_ms(&r, 100, 600);
	plan->calm_ns = (plan->is_slow ? 1000 : 600) * SIM_MS;
	/* An end is for ever: rarely. */
	do {
		kinds = (unsigned int)sim_rand_next(&r) & ((1u << SWARM_KINDS) - 1);
		if (!sim_rand_percent(&r, 40))
			kinds &= ~(1u << SIM_FAULT_END_VM);
	} while (!kinds);
	for (n = 1 + sim_rand_below(&r, 8); n; n--)
		draw_fault(&r, plan, kinds);
	draw_restarts(&r, plan);
	plan->does_give_up = sim_rand_percent(&r, 50);
	plan->n_hosts = sim_rand_percent(&r, 50) ? 2 : SIM_NODES;
	draw_disks(&r, plan);
	draw_handover(&r, plan);
	draw_silence(&r, plan);
	draw_fencing(&r, plan);
	draw_fencing(&r, plan);
}

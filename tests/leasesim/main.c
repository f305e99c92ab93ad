/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-leasesim: the machines of leases under random faults.
 *
 * Exit status: 0 all checks held; 1 one did not; 2 wrong usage.
 */
#include <stdio.h>
#include <unistd.h>

#include "leasesim.h"

static struct ls_world world;
static struct ls_plan plan;
static struct ls_stats stats;
static bool is_traced, is_unordered; /* options; a seed that is run alone is always traced */

static const char usage[] =
	"usage: holdfast-leasesim [--first-seed N] [--runs N | --seconds N] [--twice] [--list]\n"
	"       holdfast-leasesim --seed N [--trace | --shrink]\n"
	"       holdfast-leasesim --plants\n"
	"  --seed N          one run, told step by step\n"
	"  --shrink          drop faults from a failing seed while it fails; tell what is left\n"
	"  --twice           run the range twice: both must come to the same hash\n"
	"  --list            print which operations came to which results\n"
	"  --plants          print the bugs that can be planted, and the rules that they break\n"
	"  --plant NAME      plant this bug; goes with all of the above\n"
	"  --unordered       older writes may come over newer ones of the same machine, however\n"
	"                    late: shows what can happen on storage that keeps no order\n";

static void draw(uint64_t seed)
{
	ls_plan_draw(&plan, seed);
	plan.is_unordered = is_unordered;
}

static const char *run(unsigned int plant, bool is_told)
{
	world.plant = plant;
	world.narrate = is_told ? simkit_narrate : NULL;
	ls_run(&world, &plan, &stats);
	return world.has_failed ? world.failure : NULL;
}

/* Fewer machines and kinds of work. */
static bool simplify(unsigned int n)
{
	if (n < LS_DO_COUNT)
		plan.does &= ~(1u << n);
	else if (n == LS_DO_COUNT)
		plan.n_leases = 1;
	else if (n == LS_DO_COUNT + 1)
		plan.is_edge = false;
	else
		return false;
	return true;
}

static bool print_plan(bool is_shrunk)
{
	(void)is_shrunk;
	ls_plan_print(&plan);
	return true;
}

static void print_stats(void)
{
	const struct ls_stats *s = &stats;

	(void)printf("%llu events, %llu faults; %llu I/Os: failed "
		     "%llu, late %llu, twice %llu, torn %llu\n",
		     (unsigned long long)s->events, (unsigned long long)s->faults,
		     (unsigned long long)s->ios, (unsigned long long)s->failed_ios,
		     (unsigned long long)s->late, (unsigned long long)s->twice,
		     (unsigned long long)s->torn);
	(void)printf(
		"renewals %llu, expiries %llu, resumed %llu; taken over %llu, standbys that went "
		"live %llu, won by sanlock %llu; left damaged %llu; hash "
		"%016llx\n",
		(unsigned long long)s->renewals, (unsigned long long)s->expiries,
		(unsigned long long)s->resumes, (unsigned long long)s->took_over,
		(unsigned long long)s->pairs, (unsigned long long)s->sanlock_wins,
		(unsigned long long)s->excused, (unsigned long long)s->hash);
}

static void list_results(void)
{
	(void)printf("fenced: %llu words believed, %llu looks found an owner dead by one\n",
		     (unsigned long long)stats.fencings, (unsigned long long)stats.fenced_dead);
	(void)printf("all well after the faults: %.1f s at most (seed %llu)\n",
		     (double)stats.slowest_ns / (double)LS_S,
		     (unsigned long long)stats.slowest_seed);
	for (unsigned int op = 0; op < HF_BALLOT_OP_COUNT; op++)
		for (unsigned int r = 0; r < HF_BALLOT_RESULT_COUNT; r++)
			if (stats.results[op][r])
				(void)printf("result %s: %s: %llu\n", hf_ballot_op_name(op),
					     hf_ballot_result_text(r),
					     (unsigned long long)stats.results[op][r]);
}

static const struct simkit kit = {
	.usage = usage,
	.flags = { { "trace", &is_traced }, { "unordered", &is_unordered } },
	.plants = ls_plants,
	.n_plants = LS_PLANT_COUNT,
	.notes_fd = STDOUT_FILENO,
	SIMKIT_PLAN(plan),
	SIMKIT_STATS(stats),
	.draw = draw,
	.run = run,
	.simplify = simplify,
	.print_plan = print_plan,
	.print_stats = print_stats,
	.list = list_results,
};

int main(int argc, char **argv)
{
	return simkit_main(&kit, argc, argv);
}

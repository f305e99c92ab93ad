/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-freezesim: the machines of a VM's life and its freezing under random faults and attacks.
 *
 * Exit status: 0 all checks held; 1 one did not; 2 wrong usage.
 */
#include <stdio.h>
#include <unistd.h>

#include "freezesim.h"

static struct fs_world world;
static struct fs_plan plan;
static struct fs_stats stats;

static const char usage[] =
	"usage: holdfast-freezesim [--first-seed N] [--runs N | --seconds N] [--twice] [--list]\n"
	"       holdfast-freezesim --seed N [--shrink]\n"
	"       holdfast-freezesim --plants\n"
	"  --seed N          one run, told step by step\n"
	"  --shrink          drop faults from a failing seed while it fails; tell what is left\n"
	"  --twice           run the range twice: both must come to the same hash\n"
	"  --list            print how runs ended, and what came of each step\n"
	"  --plants          print the bugs that can be planted, and the rules that they break\n"
	"  --plant NAME      plant this bug; goes with all of the above\n";

static void draw(uint64_t seed)
{
	fs_plan_draw(&plan, seed);
}

static const char *run(unsigned int plant, bool is_told)
{
	world.plant = plant;
	world.narrate = is_told ? simkit_narrate : NULL;
	fs_run(&world, &plan, &stats);
	return world.has_failed ? world.failure : NULL;
}

/* A simpler VM. */
static bool simplify(unsigned int n)
{
	bool *settings[] = { &plan.has_lease,      &plan.is_pledged, &plan.has_own_files,
			     &plan.is_kill_wanted, &plan.has_nets,   &plan.has_disks };

	if (n == sizeof(settings) / sizeof(settings[0]))
		return false;
	*settings[n] = false;
	return true;
}

static bool print_plan(bool is_shrunk)
{
	(void)is_shrunk;
	fs_plan_print(&plan);
	return true;
}

static void print_stats(void)
{
	const struct fs_stats *s = &stats;

	(void)printf("%llu events, %llu faults, %llu keepers "
		     "killed, %llu awakenings; hash %016llx\n",
		     (unsigned long long)s->events, (unsigned long long)s->faults,
		     (unsigned long long)s->kills, (unsigned long long)s->awakenings,
		     (unsigned long long)s->hash);
}

static void list_results(void)
{
	for (unsigned int end = 0; end < FS_END_COUNT; end++)
		(void)printf("end %s: %llu\n", fs_end_names[end],
			     (unsigned long long)stats.ends[end]);
	for (unsigned int step = 0; step < HF_FREEZE_STEP_COUNT; step++)
		for (unsigned int r = 0; r < HF_FREEZE_RESULT_COUNT; r++)
			if (stats.results[step][r])
				(void)printf("step %s %s: %llu\n", hf_freeze_step_name(step),
					     hf_freeze_result_name(r),
					     (unsigned long long)stats.results[step][r]);
	for (unsigned int kind = FS_FIRST_ATTACK; kind < FS_FAULT_COUNT; kind++)
		(void)printf("%s: %llu before the certificate, %llu after\n", fs_fault_names[kind],
			     (unsigned long long)stats.attacks[kind][0],
			     (unsigned long long)stats.attacks[kind][1]);
}

static const struct simkit kit = {
	.usage = usage,
	.plants = fs_plants,
	.n_plants = FS_PLANT_COUNT,
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

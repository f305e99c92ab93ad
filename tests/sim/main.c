/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-sim: the commit protocol under random faults, or under one scenario.
 *
 * Exit status: 0 all checks held; 1 one did not; 2 wrong usage.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cover.h"
#include "scenario.h"

static struct sim_world world;
static struct sim_plan plan;
static struct sim_stats stats;
static struct {
	bool is_verbose, is_scenario, does_bless, is_operator_wrong, has_lease;
} own;

static const char usage[] =
	"usage: holdfast-sim [--first-seed N] [--runs N | --seconds N] [--twice] [--list] "
	"[--lease]\n"
	"       holdfast-sim --seed N [--verbose | --shrink]\n"
	"       holdfast-sim --scenario [--verbose | --bless] FILE...\n"
	"       holdfast-sim --plants\n"
	"  --seed N          one run, told step by step\n"
	"  --shrink          drop faults from a failing seed while it fails; print what is left\n"
	"  --twice           run the range twice: both must come to the same hash\n"
	"  --list            print the changes of state that were seen, and the (state, event) "
	"pairs\n"
	"                    that were not\n"
	"  --lease           only VMs that have a lease\n"
	"  --plants          print the bugs that can be planted, and the invariants that they "
	"break\n"
	"  --plant NAME      plant this bug; goes with all of the above\n"
	"  --operator-wrong  operators vouch without looking: shows what can happen then\n";

static void draw(uint64_t seed)
{
	sim_plan_draw(&plan, seed);
	plan.is_operator_wrong = own.is_operator_wrong;
	if (own.has_lease)
		plan.arbiter = SIM_ARBITER_VOTE;
}

static const char *run(unsigned int plant, bool is_told)
{
	world.plant = plant;
	world.narrate = is_told ? simkit_narrate : NULL;
	sim_run(&world, &plan, &stats);
	return world.has_failed ? world.failure : NULL;
}

static bool simplify(unsigned int n)
{
	if (n)
		return false;
	plan.delays = SIM_DELAYS_FIXED;
	return true;
}

/* What is shrunk is told as a scenario. */
static bool print_plan(bool is_shrunk)
{
	if (is_shrunk)
		(void)printf("# shrunk to %u faults\n", plan.n_faults);
	sim_scenario_format(stdout, &plan);
	if (is_shrunk)
		(void)puts("expect");
	world.is_verbose = own.is_verbose && !is_shrunk;
	return !is_shrunk;
}

static void print_stats(void)
{
	const struct sim_stats *s = &stats;

	(void)printf("%llu events, %llu steps, %llu faults\n", (unsigned long long)s->events,
		     (unsigned long long)s->steps, (unsigned long long)s->faults);
	(void)printf("%llu sessions, %llu commits, %llu promotions, %llu hand-overs, %llu votes; "
		     "outputs: %llu, twice %llu, never %llu\n",
		     (unsigned long long)s->sessions, (unsigned long long)s->commits,
		     (unsigned long long)s->promotions, (unsigned long long)s->handovers,
		     (unsigned long long)s->votes, (unsigned long long)s->outputs,
		     (unsigned long long)s->duplicates, (unsigned long long)s->lost);
	(void)printf("disks: %llu writes, %llu copies of what differs, %llu starts from a disk\n",
		     (unsigned long long)s->disk_writes, (unsigned long long)s->deltas,
		     (unsigned long long)s->cold_starts);
	(void)printf("VMs ended %llu, lost to faults beyond the model %llu, two histories %llu; "
		     "hash %016llx\n",
		     (unsigned long long)s->vms_ended, (unsigned long long)s->vms_lost,
		     (unsigned long long)s->forks, (unsigned long long)s->hash);
}

static void print_seen(void)
{
	sim_cover_report(&stats);
}

static void list_seen(void)
{
	sim_cover_list(&stats);
}

/* TAP: each file is a test. */
static int run_scenarios(char **paths)
{
	struct hf_err err = { "" };
	int failed = 0, n = 0;

	while (paths[n])
		n++;
	(void)printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		const char *name = strrchr(paths[i], '/') ? strrchr(paths[i], '/') + 1 : paths[i];
		int r;

		simkit_note(paths[i]);
		r = sim_scenario_run(paths[i], own.does_bless, own.is_verbose, &stats, &err);
		if (r < 0)
			(void)printf("# %s\n", err.text);
		(void)printf("%sok %d - %s\n", r ? "not " : "", i + 1, name);
		(void)fflush(stdout);
		failed += r != 0;
	}
	return failed ? 1 : n ? 0 : 2;
}

static const struct simkit kit = {
	.usage = usage,
	.flags = { { "verbose", &own.is_verbose },
		   { "scenario", &own.is_scenario },
		   { "bless", &own.does_bless },
		   { "operator-wrong", &own.is_operator_wrong },
		   { "lease", &own.has_lease } },
	.plants = sim_plants,
	.n_plants = SIM_PLANT_COUNT,
	.notes_fd = STDERR_FILENO,
	SIMKIT_PLAN(plan),
	SIMKIT_STATS(stats),
	.draw = draw,
	.run = run,
	.simplify = simplify,
	.print_plan = print_plan,
	.print_stats = print_stats,
	.print_seen = print_seen,
	.list = list_seen,
	.has_files = &own.is_scenario,
	.run_files = run_scenarios,
};

int main(int argc, char **argv)
{
	return simkit_main(&kit, argc, argv);
}

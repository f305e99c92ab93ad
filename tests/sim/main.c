/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-sim: the commit protocol under random faults, or under one scenario.
 *
 * Exit status: 0 all checks held; 1 one did not; 2 wrong usage.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cover.h"
#include "scenario.h"

struct options {
	uint64_t first_seed, runs, seconds;
	bool has_seed, does_shrink, is_verbose, does_bless, is_twice, does_list;
	bool is_operator_wrong, does_list_plants, is_scenario, has_lease;
	enum sim_plant plant;
};

static struct sim_world world;
static struct sim_stats stats;
static char crash_note[120];

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

/* An assertion of the core is a finding like any other: say which seed led there. */
static void on_abort(int sig)
{
	(void)sig;
	if (write(STDERR_FILENO, crash_note, strlen(crash_note)) < 0)
		_exit(3);
	_exit(1);
}

static void note_seed(uint64_t seed)
{
	(void)snprintf(crash_note, sizeof(crash_note), "seed %llu: an assertion failed\n",
		       (unsigned long long)seed);
}

static void narrate(void *arg, const char *line)
{
	(void)arg;
	(void)puts(line);
}

static double seconds_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void draw(const struct options *o, struct sim_plan *plan, uint64_t seed)
{
	sim_plan_draw(plan, seed);
	plan->is_operator_wrong = o->is_operator_wrong;
	if (o->has_lease)
		plan->arbiter = SIM_ARBITER_VOTE;
	note_seed(seed);
}

/* In a child, for an assertion may end it. */
static bool does_fail(const struct sim_plan *plan)
{
	int status = 0;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(3);
		world.narrate = NULL;
		sim_run(&world, plan, &stats);
		_exit(world.has_failed);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid &&
	       !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void drop_fault(struct sim_plan *plan, unsigned int i)
{
	plan->n_faults--;
	memmove(&plan->faults[i], &plan->faults[i + 1],
		(plan->n_faults - i) * sizeof(plan->faults[0]));
}

static void shrink_faults(struct sim_plan *plan)
{
	for (unsigned int i = plan->n_faults; i-- > 0;) {
		struct sim_plan smaller = *plan;

		drop_fault(&smaller, i);
		if (does_fail(&smaller)) {
			*plan = smaller;
			i = plan->n_faults;
		}
	}
}

static int shrink(struct sim_plan *plan)
{
	struct sim_plan simpler = *plan;

	if (!does_fail(plan)) {
		(void)printf("seed %llu does not fail\n", (unsigned long long)plan->seed);
		return 2;
	}
	shrink_faults(plan);
	simpler = *plan;
	simpler.delays = SIM_DELAYS_FIXED;
	if (does_fail(&simpler))
		*plan = simpler;
	(void)printf("# shrunk to %u faults\n", plan->n_faults);
	sim_scenario_format(stdout, plan);
	(void)puts("expect");
	(void)fflush(stdout);
	world.narrate = narrate;
	sim_run(&world, plan, &stats);
	return 1;
}

static int run_one(const struct options *o)
{
	struct sim_plan plan;

	draw(o, &plan, o->first_seed);
	if (o->does_shrink)
		return shrink(&plan);
	sim_scenario_format(stdout, &plan);
	(void)fflush(stdout);
	world.narrate = narrate;
	world.is_verbose = o->is_verbose;
	sim_run(&world, &plan, &stats);
	(void)puts(world.has_failed ? world.failure : "all checks held");
	return world.has_failed;
}

static void print_stats(double seconds)
{
	const struct sim_stats *s = &stats;

	(void)printf("%llu schedules in %.1f s (%.0f/s), %llu events, %llu steps, %llu faults\n",
		     (unsigned long long)s->runs, seconds, (double)s->runs / seconds,
		     (unsigned long long)s->events, (unsigned long long)s->steps,
		     (unsigned long long)s->faults);
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

/* 0: none failed; 1: the seed in *ret did. */
static int run_batch(const struct options *o, uint64_t *ret_seed)
{
	double start = seconds_now();
	struct sim_plan plan;

	for (uint64_t n = 0;; n++) {
		if (o->seconds ? seconds_now() - start > (double)o->seconds : n == o->runs)
			return 0;
		draw(o, &plan, o->first_seed + n);
		sim_run(&world, &plan, &stats);
		if (world.has_failed) {
			*ret_seed = plan.seed;
			return 1;
		}
	}
}

static int run_many(const struct options *o)
{
	double start = seconds_now();
	uint64_t seed = 0, hash;
	int r = run_batch(o, &seed);

	print_stats(seconds_now() - start);
	if (r) {
		(void)printf("seed %llu: %s\n", (unsigned long long)seed, world.failure);
		return 1;
	}
	sim_cover_report(&stats);
	if (o->does_list)
		sim_cover_list(&stats);
	if (!o->is_twice)
		return 0;
	hash = stats.hash;
	memset(&stats, 0, sizeof(stats));
	r = run_batch(o, &seed);
	(void)printf("again: hash %016llx\n", (unsigned long long)stats.hash);
	return r || stats.hash != hash;
}

/* TAP: each file is a test. */
static int run_scenarios(const struct options *o, char **paths)
{
	struct hf_err err = { "" };
	int failed = 0, n = 0;

	while (paths[n])
		n++;
	(void)printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		const char *name = strrchr(paths[i], '/') ? strrchr(paths[i], '/') + 1 : paths[i];
		int r;

		(void)snprintf(crash_note, sizeof(crash_note), "%.90s: an assertion failed\n",
			       paths[i]);
		r = sim_scenario_run(paths[i], o->does_bless, o->is_verbose, &stats, &err);
		if (r < 0)
			(void)printf("# %s\n", err.text);
		(void)printf("%sok %d - %s\n", r ? "not " : "", i + 1, name);
		(void)fflush(stdout);
		failed += r != 0;
	}
	return failed ? 1 : n ? 0 : 2;
}

static bool parse_u64(const char *text, uint64_t *ret)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-')
		return false;
	*ret = n;
	return true;
}

static const struct option long_options[] = {
	{ "seed", required_argument, NULL, 's' },
	{ "first-seed", required_argument, NULL, 'f' },
	{ "runs", required_argument, NULL, 'r' },
	{ "seconds", required_argument, NULL, 't' },
	{ "plant", required_argument, NULL, 'p' },
	{ "plants", no_argument, NULL, 'P' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "shrink", no_argument, NULL, 'k' },
	{ "scenario", no_argument, NULL, 'S' },
	{ "bless", no_argument, NULL, 'b' },
	{ "twice", no_argument, NULL, '2' },
	{ "list", no_argument, NULL, 'l' },
	{ "operator-wrong", no_argument, NULL, 'w' },
	{ "lease", no_argument, NULL, 'L' },
	{ NULL, 0, NULL, 0 },
};

static bool parse_value(struct options *o, int c)
{
	switch (c) {
	case 's':
		o->has_seed = true;
		return parse_u64(optarg, &o->first_seed);
	case 'f':
		return parse_u64(optarg, &o->first_seed);
	case 'r':
		return parse_u64(optarg, &o->runs);
	case 't':
		return parse_u64(optarg, &o->seconds);
	case 'p':
		o->plant = sim_plant_find(optarg);
		return o->plant != SIM_PLANT_COUNT;
	default:
		return false;
	}
}

static bool parse_options(struct options *o, int argc, char **argv)
{
	const struct {
		int c;
		bool *flag;
	} flags[] = {
		{ 'v', &o->is_verbose },       { 'k', &o->does_shrink },
		{ 'b', &o->does_bless },       { '2', &o->is_twice },
		{ 'l', &o->does_list },        { 'S', &o->is_scenario },
		{ 'P', &o->does_list_plants }, { 'w', &o->is_operator_wrong },
		{ 'L', &o->has_lease },
	};
	bool is_flag;
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		is_flag = false;
		for (unsigned int i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
			if (flags[i].c == c)
				is_flag = *flags[i].flag = true;
		}
		if (!is_flag && !parse_value(o, c))
			return false;
	}
	return o->is_scenario == (optind != argc);
}

int main(int argc, char **argv)
{
	struct options o = { .first_seed = 1, .runs = 10000 };

	if (!parse_options(&o, argc, argv)) {
		(void)fputs(usage, stderr);
		return 2;
	}
	(void)signal(SIGABRT, on_abort);
	world.plant = o.plant;
	if (o.does_list_plants) {
		sim_plant_list();
		return 0;
	}
	if (o.is_scenario)
		return run_scenarios(&o, argv + optind);
	return o.has_seed ? run_one(&o) : run_many(&o);
}

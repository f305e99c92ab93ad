/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-freezesim: the machines of a VM's life and its freezing under random faults and attacks.
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

#include "freezesim.h"

struct options {
	uint64_t first_seed, runs, seconds;
	bool has_seed, does_shrink, is_twice, does_list, does_list_plants;
	enum fs_plant plant;
};

static struct fs_world world;
static struct fs_stats stats;
static char crash_note[120];

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

/* An assertion of the core is a finding like any other: say which seed led there. */
static void on_abort(int sig)
{
	(void)sig;
	if (write(STDOUT_FILENO, crash_note, strlen(crash_note)) < 0)
		_exit(3);
	_exit(1);
}

static void narrate(void *arg, const char *line)
{
	(void)arg;
	(void)puts(line);
	(void)fflush(stdout);
}

static double seconds_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void draw(struct fs_plan *plan, uint64_t seed)
{
	fs_plan_draw(plan, seed);
	(void)snprintf(crash_note, sizeof(crash_note), "seed %llu: an assertion failed\n",
		       (unsigned long long)seed);
}

/* In a child, for an assertion may end it. */
static bool does_fail(const struct fs_plan *plan)
{
	int status = 0;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
			_exit(3);
		world.narrate = NULL;
		fs_run(&world, plan, &stats);
		_exit(world.has_failed);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid &&
	       !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void shrink_faults(struct fs_plan *plan)
{
	for (unsigned int i = plan->n_faults; i-- > 0;) {
		struct fs_plan smaller = *plan;

		smaller.n_faults--;
		memmove(&smaller.faults[i], &smaller.faults[i + 1],
			(smaller.n_faults - i) * sizeof(smaller.faults[0]));
		if (does_fail(&smaller)) {
			*plan = smaller;
			i = plan->n_faults;
		}
	}
}

/* A simpler VM, where it fails all the same. */
static void shrink_settings(struct fs_plan *plan)
{
	bool *settings[] = { &plan->has_lease,      &plan->is_pledged, &plan->has_own_files,
			     &plan->is_kill_wanted, &plan->has_nets,   &plan->has_disks };

	for (unsigned int i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		bool before = *settings[i];

		*settings[i] = false;
		if (before && !does_fail(plan))
			*settings[i] = true;
	}
}

static int tell(const struct fs_plan *plan)
{
	fs_plan_print(plan);
	(void)fflush(stdout);
	world.narrate = narrate;
	fs_run(&world, plan, &stats);
	(void)puts(world.has_failed ? world.failure : "all checks held");
	return world.has_failed;
}

static int run_one(const struct options *o)
{
	struct fs_plan plan;

	draw(&plan, o->first_seed);
	if (!o->does_shrink)
		return tell(&plan);
	if (!does_fail(&plan)) {
		(void)printf("seed %llu does not fail\n", (unsigned long long)plan.seed);
		return 2;
	}
	shrink_faults(&plan);
	shrink_settings(&plan);
	shrink_faults(&plan);
	return tell(&plan);
}

static void print_stats(double seconds)
{
	const struct fs_stats *s = &stats;

	(void)printf("%llu schedules in %.1f s (%.0f/s), %llu events, %llu faults, %llu keepers "
		     "killed, %llu awakenings; hash %016llx\n",
		     (unsigned long long)s->runs, seconds, (double)s->runs / seconds,
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

/* 0: none failed; 1: the seed in *ret did. */
static int run_batch(const struct options *o, uint64_t *ret_seed)
{
	double start = seconds_now();
	struct fs_plan plan;

	for (uint64_t n = 0;; n++) {
		if (o->seconds ? seconds_now() - start > (double)o->seconds : n == o->runs)
			return 0;
		draw(&plan, o->first_seed + n);
		fs_run(&world, &plan, &stats);
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
	if (o->does_list)
		list_results();
	if (!o->is_twice)
		return 0;
	hash = stats.hash;
	memset(&stats, 0, sizeof(stats));
	r = run_batch(o, &seed);
	(void)printf("again: hash %016llx\n", (unsigned long long)stats.hash);
	return r || stats.hash != hash;
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
	{ "seed", required_argument, NULL, 's' },  { "first-seed", required_argument, NULL, 'f' },
	{ "runs", required_argument, NULL, 'r' },  { "seconds", required_argument, NULL, 't' },
	{ "plant", required_argument, NULL, 'p' }, { "plants", no_argument, NULL, 'P' },
	{ "shrink", no_argument, NULL, 'k' },      { "twice", no_argument, NULL, '2' },
	{ "list", no_argument, NULL, 'l' },        { NULL, 0, NULL, 0 },
};

static bool parse_option(struct options *o, int c)
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
		o->plant = fs_plant_find(optarg);
		return o->plant != FS_PLANT_COUNT;
	case 'P':
		return o->does_list_plants = true;
	case 'k':
		return o->does_shrink = true;
	case '2':
		return o->is_twice = true;
	case 'l':
		return o->does_list = true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	struct options o = { .first_seed = 1, .runs = 10000 };
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (!parse_option(&o, c)) {
			(void)fputs(usage, stderr);
			return 2;
		}
	}
	if (optind != argc) {
		(void)fputs(usage, stderr);
		return 2;
	}
	if (o.does_list_plants) {
		fs_plant_list();
		return 0;
	}
	(void)signal(SIGABRT, on_abort);
	world.plant = o.plant;
	return o.has_seed ? run_one(&o) : run_many(&o);
}

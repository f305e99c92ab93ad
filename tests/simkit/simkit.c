/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "simkit.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct options {
	uint64_t first_seed, runs, seconds;
	bool has_seed, does_shrink, is_twice, does_list, does_list_plants;
	unsigned int plant;
};

static char crash_note[120];
static int crash_fd;

static void on_abort(int sig)
{
	(void)sig;
	if (write(crash_fd, crash_note, strlen(crash_note)) < 0)
		_exit(3);
	_exit(1);
}

void simkit_note(const char *what)
{
	(void)snprintf(crash_note, sizeof(crash_note), "%.90s: an assertion failed\n", what);
}

void simkit_narrate(void *arg, const char *line)
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

static void draw(const struct simkit *kit, uint64_t seed)
{
	char name[40];

	kit->draw(seed);
	(void)snprintf(name, sizeof(name), "seed %llu", (unsigned long long)seed);
	simkit_note(name);
}

/* ---- shrinking ---- */

/* In a child, for an assertion may end it. */
static bool does_fail(const struct simkit *kit, const struct options *o)
{
	int status = 0;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
			_exit(3);
		_exit(kit->run(o->plant, false) != NULL);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid &&
	       !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void drop_fault(const struct simkit *kit, unsigned int i)
{
	char *at = (char *)kit->faults + i * kit->fault_bytes;
	unsigned int n_after = --*kit->n_faults - i;

	memmove(at, at + kit->fault_bytes, n_after * kit->fault_bytes);
}

/* The changed plan stays if it still fails; otherwise it is what it was @before. */
static bool is_kept(const struct simkit *kit, const struct options *o, const void *before)
{
	if (does_fail(kit, o))
		return true;
	memcpy(kit->plan, before, kit->plan_bytes);
	return false;
}

static void shrink_faults(const struct simkit *kit, const struct options *o, void *before)
{
	for (unsigned int i = *kit->n_faults; i-- > 0;) {
		memcpy(before, kit->plan, kit->plan_bytes);
		drop_fault(kit, i);
		if (is_kept(kit, o, before))
			i = *kit->n_faults;
	}
}

static void shrink_settings(const struct simkit *kit, const struct options *o, void *before)
{
	memcpy(before, kit->plan, kit->plan_bytes);
	for (unsigned int n = 0; kit->simplify(n); n++) {
		if (memcmp(before, kit->plan, kit->plan_bytes) != 0)
			(void)is_kept(kit, o, before);
		memcpy(before, kit->plan, kit->plan_bytes);
	}
}

/* false: it does not fail. */
static bool shrink(const struct simkit *kit, const struct options *o)
{
	void *before;

	if (!does_fail(kit, o)) {
		(void)printf("seed %llu does not fail\n", (unsigned long long)o->first_seed);
		return false;
	}
	before = malloc(kit->plan_bytes);
	assert(before);
	shrink_faults(kit, o, before);
	shrink_settings(kit, o, before);
	shrink_faults(kit, o, before);
	free(before);
	return true;
}

/* ---- one seed, or many ---- */

static int run_one(const struct simkit *kit, const struct options *o)
{
	const char *failure;
	bool has_verdict;

	draw(kit, o->first_seed);
	if (o->does_shrink && !shrink(kit, o))
		return 2;
	has_verdict = kit->print_plan(o->does_shrink);
	(void)fflush(stdout);
	failure = kit->run(o->plant, true);
	if (has_verdict)
		(void)puts(failure ? failure : "all checks held");
	return failure != NULL;
}

/* NULL: none failed; otherwise what did, with the seed in *ret. */
static const char *run_batch(const struct simkit *kit, const struct options *o, uint64_t *ret_seed)
{
	double start = seconds_now();
	const char *failure = NULL;

	for (uint64_t n = 0; !failure; n++) {
		if (o->seconds ? seconds_now() - start > (double)o->seconds : n == o->runs)
			return NULL;
		*ret_seed = o->first_seed + n;
		draw(kit, *ret_seed);
		failure = kit->run(o->plant, false);
	}
	return failure;
}

static int run_again(const struct simkit *kit, const struct options *o)
{
	uint64_t seed, hash = *kit->hash;
	const char *failure;

	memset(kit->stats, 0, kit->stats_bytes);
	failure = run_batch(kit, o, &seed);
	(void)printf("again: hash %016llx\n", (unsigned long long)*kit->hash);
	return failure || *kit->hash != hash;
}

static int run_many(const struct simkit *kit, const struct options *o)
{
	double start = seconds_now(), seconds;
	uint64_t seed = 0;
	const char *failure = run_batch(kit, o, &seed);

	seconds = seconds_now() - start;
	(void)printf("%llu schedules in %.1f s (%.0f/s), ", (unsigned long long)*kit->runs, seconds,
		     (double)*kit->runs / seconds);
	kit->print_stats();
	if (failure) {
		(void)printf("seed %llu: %s\n", (unsigned long long)seed, failure);
		return 1;
	}
	if (kit->print_seen)
		kit->print_seen();
	if (o->does_list)
		kit->list();
	return o->is_twice ? run_again(kit, o) : 0;
}

/* ---- planted bugs ---- */

static bool find_plant(const struct simkit *kit, const char *name, unsigned int *ret)
{
	for (unsigned int i = 1; i < kit->n_plants; i++) {
		if (strcmp(kit->plants[i].name, name) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static void list_plants(const struct simkit *kit)
{
	for (const struct simkit_plant *p = kit->plants + 1; p < kit->plants + kit->n_plants; p++) {
		const char *comma = "";

		(void)printf("%s ", p->name);
		for (unsigned int rule = 0; rule < 32; rule++) {
			if (!(p->rules & 1u << rule))
				continue;
			(void)printf("%s%u", comma, rule);
			comma = ",";
		}
		(void)printf(" %s\n", p->what);
	}
}

/* ---- options ---- */

/* getopt's codes: a character for an option of the frame, FLAG and the index for one of the kit. */
#define FLAG 256

static const struct option frame_options[] = {
	{ "seed", required_argument, NULL, 's' },  { "first-seed", required_argument, NULL, 'f' },
	{ "runs", required_argument, NULL, 'r' },  { "seconds", required_argument, NULL, 't' },
	{ "plant", required_argument, NULL, 'p' }, { "plants", no_argument, NULL, 'P' },
	{ "shrink", no_argument, NULL, 'k' },      { "twice", no_argument, NULL, '2' },
	{ "list", no_argument, NULL, 'l' },
};
#define FRAME_OPTIONS (sizeof(frame_options) / sizeof(frame_options[0]))

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

static bool parse_option(const struct simkit *kit, struct options *o, int c)
{
	if (c >= FLAG)
		return *kit->flags[c - FLAG].value = true;
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
		return find_plant(kit, optarg, &o->plant);
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

static bool parse_options(const struct simkit *kit, struct options *o, int argc, char **argv)
{
	struct option all[FRAME_OPTIONS + SIMKIT_FLAGS + 1] = { 0 };
	int c;

	memcpy(all, frame_options, sizeof(frame_options));
	for (int i = 0; i < SIMKIT_FLAGS && kit->flags[i].name; i++)
		all[FRAME_OPTIONS + (unsigned int)i] =
			(struct option){ kit->flags[i].name, no_argument, NULL, FLAG + i };
	while ((c = getopt_long(argc, argv, "", all, NULL)) != -1)
		if (!parse_option(kit, o, c))
			return false;
	return (kit->has_files && *kit->has_files) == (optind != argc);
}

int simkit_main(const struct simkit *kit, int argc, char **argv)
{
	struct options o = { .first_seed = 1, .runs = 10000 };

	if (!parse_options(kit, &o, argc, argv)) {
		(void)fputs(kit->usage, stderr);
		return 2;
	}
	if (o.does_list_plants) {
		list_plants(kit);
		return 0;
	}
	crash_fd = kit->notes_fd;
	(void)signal(SIGABRT, on_abort);
	if (kit->has_files && *kit->has_files)
		return kit->run_files(argv + optind);
	return o.has_seed ? run_one(kit, &o) : run_many(kit, &o);
}

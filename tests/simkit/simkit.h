/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The frame of the simulators: options, seeds, planted bugs, batches, shrinking. A simulator says
 * in a struct simkit what is its own: its world, its plans, what it counts.
 *
 * What every simulator can do: run a range of seeds, the same range twice, or one seed that is told
 * step by step; drop faults from a failing plan while it fails; plant a bug. A failed assertion of
 * the core is a finding like any other: the seed that led there is told.
 *
 * One thread; blocks in the child that tries whether a plan fails; allocates nothing but a copy of
 * the plan while that shrinks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A bug on purpose: the proof that the checkers can fail. */
struct simkit_plant {
	const char *name;
	unsigned int rules; /* as bits: those of which one has to be reported */
	const char *what; /* is wrong */
};

/* An option of one simulator; without an argument. */
struct simkit_flag {
	const char *name;
	bool *value;
};

#define SIMKIT_FLAGS 8

struct simkit {
	const char *usage;
	struct simkit_flag flags[SIMKIT_FLAGS];
	/* By number; 0 is none. NAME RULE[,RULE] WHAT, one a line: --plants, read by simtest.py. */
	const struct simkit_plant *plants;
	unsigned int n_plants;
	int notes_fd; /* where the seed of a failed assertion is told */

	/* The plan that is drawn, changed and run; its faults lie in it. SIMKIT_PLAN sets them. */
	void *plan;
	size_t plan_bytes;
	unsigned int *n_faults;
	void *faults;
	size_t fault_bytes;

	/* What is counted; these two lie in it. SIMKIT_STATS sets them. */
	void *stats;
	size_t stats_bytes;
	const uint64_t *runs, *hash;

	void (*draw)(uint64_t seed);
	/* Run the plan with this bug in it. NULL if all checks held, otherwise what did not. */
	const char *(*run)(unsigned int plant, bool is_told);
	/* Make the nth setting simpler (taken back unless it still fails). False: not so many. */
	bool (*simplify)(unsigned int n);
	/* The plan will be told: print it. False: no verdict is to follow what is told. */
	bool (*print_plan)(bool is_shrunk);
	void (*print_stats)(void); /* goes on in the line of how many and how fast */
	void (*print_seen)(void); /* after a batch without a failure; may be NULL */
	void (*list)(void); /* --list: the same at length */

	/* Instead of seeds: what the arguments name, if this flag was given. NULL: never. */
	const bool *has_files;
	int (*run_files)(char **paths);
};

#define SIMKIT_PLAN(p)                                                                             \
	.plan = &(p), .plan_bytes = sizeof(p), .n_faults = &(p).n_faults, .faults = (p).faults,    \
	.fault_bytes = sizeof((p).faults[0])
#define SIMKIT_STATS(s)                                                                            \
	.stats = &(s), .stats_bytes = sizeof(s), .runs = &(s).runs, .hash = &(s).hash

/* The program. Returns its exit status: 0 all checks held; 1 one did not; 2 wrong usage. */
int simkit_main(const struct simkit *kit, int argc, char **argv);

/* A narrator: prints the line at once. */
void simkit_narrate(void *arg, const char *line);

/* If an assertion fails from now on: "WHAT: an assertion failed". */
void simkit_note(const char *what);

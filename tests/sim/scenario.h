/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plans as text: read by --scenario, written by --shrink. tests/scenario/README.md has the grammar.
 * One thread; allocates nothing but stdio's buffers.
 */
#pragma once

#include <stdio.h>

#include "base/error.h"
#include "sim.h"

/*
 * Read a plan up to the line "expect" or the end of the file; @name is for messages. Times are
 * rounded to nothing: what was written is what runs. Returns 0, or -EINVAL with @err naming the
 * line.
 */
int sim_scenario_parse(FILE *f, const char *name, struct sim_plan *ret, struct hf_err *err);

void sim_scenario_format(FILE *f, const struct sim_plan *plan);

/*
 * Run the scenario in @path and compare what was narrated with what it expects; with @does_bless
 * write what was narrated into the file instead. 0: as expected; 1: not, the difference is on
 * stdout; -errno: @err says what is wrong with the file.
 */
int sim_scenario_run(const char *path, bool does_bless, bool is_verbose, struct sim_stats *stats,
		     struct hf_err *err);

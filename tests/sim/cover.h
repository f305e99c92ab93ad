/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a batch of runs has covered of the two machines. One thread; prints to stdout.
 */
#pragma once

#include "sim.h"

/* Print a summary; with @is_required list the legal transitions that were never taken. Returns
 * false if one was taken that is not legal, or if one is missing and that @is_required. */
bool sim_cover_report(const struct sim_stats *s, bool is_required);

/* Every (state, event) pair that no run has come by. */
void sim_cover_list(const struct sim_stats *s);

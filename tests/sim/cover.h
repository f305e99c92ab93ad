/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a batch of runs has covered of the two machines. One thread; prints to stdout.
 */
#pragma once

#include "sim.h"

/* How many (state, event) pairs were come by. */
void sim_cover_report(const struct sim_stats *s);

/*
 * "took ROLE FROM EVENT TO COUNT" for each change of state that was seen, "unseen ROLE STATE EVENT"
 * for each pair that was not. tests/sim/test-sim.py holds the former against docs/replication.md.
 */
void sim_cover_list(const struct sim_stats *s);

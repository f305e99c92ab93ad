/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is held, for the next daemon: RUN_DIR/.host/held, on the tmpfs that a new start of the machine
 * empties. Layer: daemon. Main thread. So a lease is given back also if its holder ends while no
 * daemon runs. A process is known by its id and the time of its start.
 */
#pragma once

#include "daemon/held.h"

#define HF_HELDFILE_NAME "held"

/* Replaces the file in one step. Return: 0 or -errno; then the old one stands. */
int hf_heldfile_save(const struct hf_held_table *t, const char *folder) HF_MUST_CHECK;

/* Adds what an earlier daemon held, as orphans that are is_unverified; none is ended yet, also if all of
 * its processes have. Return: 0, also without a file; -EBADMSG with @err: it is damaged, and nothing
 * was added; other -errno. */
int hf_heldfile_load(struct hf_held_table *t, const char *folder, struct hf_err *err) HF_MUST_CHECK;

/* As hf_heldfile_load(), of a text. For tests. */
int hf_heldfile_parse(struct hf_held_table *t, char *text, struct hf_err *err) HF_MUST_CHECK;

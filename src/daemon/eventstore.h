/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's events over its own restarts: RUN_DIR/.host/events, a JSON object on each line, and
 * events.old before it. They last as long as the boot does. Layer: daemon. Main thread. Writes to a
 * tmpfs, so nothing waits.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "service/journal.h"

#define HF_EVENTSTORE_KEPT 4096 /* events that can be replayed */
#define HF_EVENTSTORE_FILE_BYTES (2u << 20) /* then another file is begun */
#define HF_EVENTSTORE_LINE_BYTES 65536 /* a longer one was not written by us */

struct hf_eventstore;

/**
 * hf_eventstore_open() - what is there goes into @j, what happens from now on is added
 * A line that is damaged is left out, and so is what does not ascend. Return: 0; -errno with @err.
 */
int hf_eventstore_open(struct hf_journal *j, const char *folder, struct hf_eventstore **ret,
		       struct hf_err *err) HF_MUST_CHECK;
/* The files stay. Takes NULL. */
void hf_eventstore_close(struct hf_eventstore *s);

/* The number, in its own counting, of the last event of that keeper that was passed on; 0: none. */
uint64_t hf_eventstore_seen(const struct hf_eventstore *s, const char *vm, pid_t keeper_pid);

/* A file's text into @j: the part that reads, for tests. */
void hf_eventstore_parse(struct hf_journal *j, const char *text, size_t len);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process that does nothing but keep a memory file alive: guest RAM outlives the keeper that made it.
 * Layer: sys. Main thread.
 *
 * It is forked from the keeper, closes everything but the memory, has a session of its own, no
 * parent-death signal, is called "holdfast-memory", and sleeps until SIGTERM. Anyone who may look into it
 * opens /proc/PID/fd/N.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

#define HF_MEMHOLDER_FD 3

/* Blocks until it has let go of everything else (under a millisecond). @ret_pid: the holder, which is
 * init's child. 0; -errno with @err. */
int hf_memholder_start(int memory_fd, const char *vm, pid_t *ret_pid,
		       struct hf_err *err) HF_MUST_CHECK;

/* Ends one, if (pid, start_ticks) is still it. 0; -ESRCH; -errno. */
int hf_memholder_end(pid_t pid, unsigned long long start_ticks) HF_MUST_CHECK;

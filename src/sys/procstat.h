/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which process a number means, and whether it lives. Layer: sys. Any thread. Nothing allocates; reads
 * /proc, which does not wait for storage. Source: proc(5), /proc/PID/stat.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Of a process, or of one of its threads. */
struct hf_procstat {
	char state; /* 'R', 'S', 'D', 'Z', ... */
	pid_t ppid;
	uint64_t start_ticks; /* since the boot: with the number it names a process for good */
	uint64_t args_start, args_end; /* where its arguments lie; 0: one may not be told */
};

/* @tid: 0, or one of its threads. 0; -ESRCH: there is none; -errno. */
int hf_procstat_read(pid_t pid, pid_t tid, struct hf_procstat *ret) HF_MUST_CHECK;

/* Of this boot of the host: numbers of processes and their start times mean something within it alone.
 * 0 or -errno. */
#define HF_BOOT_ID_TEXT 37
int hf_procstat_boot_id(char ret[HF_BOOT_ID_TEXT]) HF_MUST_CHECK;

/* Does (pid, start_ticks) live? What is dead and only not reaped yet does not: it has let go of
 * everything. */
bool hf_procstat_is_alive(pid_t pid, uint64_t start_ticks);

/* A pidfd of just that process. Return: the descriptor, the caller's to close; -ESRCH: it does not live;
 * -errno. */
int hf_procstat_open(pid_t pid, uint64_t start_ticks) HF_MUST_CHECK;

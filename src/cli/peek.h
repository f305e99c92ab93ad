/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A keeper or daemon that does not answer, seen from outside: its lock file and /proc. Layer: cli. Any
 * thread. Reads a tmpfs and /proc alone; neither waits for storage.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct hf_peek {
	pid_t pid; /* 0: nobody holds the lock */
	bool is_stopped; /* by a signal, or a debugger */
	bool is_waiting; /* in the kernel, uninterruptibly: for storage, mostly */
	pid_t qemu_pid; /* 0: none */
	bool is_qemu_stopped, is_qemu_waiting;
	char text[160]; /* a sentence for people */
};

/* @name: of the folder in RUN_DIR: a VM's, NAME@ID, or HF_RUNDIR_HOST. */
void hf_peek_at(const char *run_dir, const char *name, struct hf_peek *ret);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which processes of a VM live on this host, as /proc says: who must not be believed dead because nobody answers.
 * Layer: cli. One thread. Reads /proc and RUN_DIR (a tmpfs), so it waits for no storage.
 *
 * A VM's are its keeper (it holds RUN_DIR/NAME/lock), the keeper's children, and what a dead keeper has left that has
 * not died with it yet: QEMU by its cgroup, the disk process by its arguments, both by what the keeper has
 * noted in its folder. Frozen instances do not count: their
 * keepers hold the lock of NAME@ID, and have proven that nothing of them runs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define HF_OCF_PROCESSES_MAX 32

struct hf_ocf_process {
	pid_t pid;
	uint64_t start_ticks;
	char state; /* of /proc/PID/stat */
	bool is_keeper;
	char name[16];
};

struct hf_ocf_processes {
	struct hf_ocf_process p[HF_OCF_PROCESSES_MAX]; /* the keeper first, if there is one */
	size_t n; /* more than fit are left out, so many is never none */
};

/* 0; -errno with @err: /proc cannot be read. */
int hf_ocf_processes_look(const char *run_dir, const char *vm, struct hf_ocf_processes *ret,
			  struct hf_err *err) HF_MUST_CHECK;

/* Those of @p that still live stay in it. */
void hf_ocf_processes_again(struct hf_ocf_processes *p);

/* SIGKILL to the keeper; without one, to all. What is in a frozen cgroup of the first version is thawed then, to die. */
void hf_ocf_processes_kill(const struct hf_ocf_processes *p);

/* "qemu-system-x86 (process 12, waits in the kernel)": of one that lives. Returns @buf. */
const char *hf_ocf_processes_text(const struct hf_ocf_processes *p, char *buf, size_t size);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A cgroup for one QEMU, to stop all of its threads for good. Layer: sys. Main thread. cgroup v2, also
 * beside v1 (hybrid); v1's freezer if there is no v2. Source: Documentation/admin-guide/cgroup-v2.rst
 * ("Core Interface Files": cgroup.freeze, cgroup.events, cgroup.kill), cgroup-v1/freezer-subsystem.rst.
 *
 * It is made beneath the cgroup of this process, so that it stays in what systemd has delegated to the
 * service. No controller is enabled, so the kernel's rule about inner processes does not matter.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct hf_cgroup {
	char path[PATH_MAX]; /* "": none */
	int dir_fd; /* -1: none */
	int procs_fd; /* -1: none */
	int events_fd; /* cgroup.events: EPOLLPRI when it changes; -1: v1, which has to be looked at */
	bool is_v1;
	uint64_t id; /* inode of the folder: one made anew under the same path has another */
};

#define HF_CGROUP_NONE ((struct hf_cgroup){ .dir_fd = -1, .procs_fd = -1, .events_fd = -1 })

/**
 * hf_cgroup_open() - make a cgroup
 * @name: a name of our own: "holdfast-NAME"; one that is left over and empty is removed and made anew; with
 * a number behind it if it is not empty
 * Return: 0; -ENOTSUP with @err: no cgroups here that can be written to; other -errno.
 */
int hf_cgroup_open(const char *name, struct hf_cgroup *ret, struct hf_err *err) HF_MUST_CHECK;

/* To place a child before it runs its program: cgroup.procs, open for writing, for hf_process_spawn()
 * (cgroup_procs_fd of its spec), whose child writes itself into it. Stays the cgroup's. */
int hf_cgroup_procs_fd(const struct hf_cgroup *c);

/* Freezing is asynchronous: is_frozen says when, events_fd that it may have changed. 0 or -errno. */
int hf_cgroup_freeze(const struct hf_cgroup *c, bool is_wanted) HF_MUST_CHECK;
/* 1: every process in it; 0; -errno. */
int hf_cgroup_is_frozen(const struct hf_cgroup *c) HF_MUST_CHECK;
/* SIGKILL to all in it, frozen or not. 0 or -errno. */
int hf_cgroup_kill(const struct hf_cgroup *c) HF_MUST_CHECK;
/* Is this thread in it? Takes a thread's number, so a process's for its first one. 1, 0 or -errno. */
int hf_cgroup_has_thread(const struct hf_cgroup *c, pid_t tid) HF_MUST_CHECK;
/* 1: no process is left; 0; -errno. */
int hf_cgroup_is_empty(const struct hf_cgroup *c) HF_MUST_CHECK;

/* Removes what keepers that were killed have left beneath the cgroup of this process: names that begin with
 * @prefix, nothing in them, older than a minute (a younger one may be about to be used). */
void hf_cgroup_sweep(const char *prefix);

/* Lets go of it; removes it if nothing is left in it and @is_removed. Takes HF_CGROUP_NONE. */
void hf_cgroup_close(struct hf_cgroup *c, bool is_removed);

/* The cgroup of this process, as a folder: of v2's hierarchy, or of v1's freezer. -ENOTSUP: there is none. */
int hf_cgroup_own(bool is_v1, char ret[PATH_MAX]) HF_MUST_CHECK;

/* As hf_cgroup_open(), in a given folder. -ENOTSUP: what is made there cannot be frozen. */
int hf_cgroup_open_in(const char *folder, const char *name, struct hf_cgroup *ret,
		      struct hf_err *err) HF_MUST_CHECK;

/* The same by path alone, for who was not its maker (a new keeper, the command line). */
int hf_cgroup_find(const char *path, struct hf_cgroup *ret, struct hf_err *err) HF_MUST_CHECK;

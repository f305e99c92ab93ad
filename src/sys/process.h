/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Child processes that inherit what they are given and nothing else, and that die with their
 * parent. Layer: sys. Main thread only: the kernel ties PR_SET_PDEATHSIG to the parent THREAD
 * (prctl(2)), so a child of a worker would be killed when that worker ends. hf_process_spawn()
 * asserts it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

#define HF_PROCESS_FDS_MAX 32
#define HF_PROCESS_ENV_PID_MAX 31

/* The child finds our @parent_fd as its @child_fd. */
struct hf_process_fd {
	int parent_fd;
	int child_fd;
};

struct hf_process_spec {
	const char *const *argv; /* NULL-terminated; [0] without a slash is looked up in PATH */
	const char *const *env_set; /* "NAME=value", NULL-terminated, or NULL */
	const char *const *env_unset; /* "NAME", NULL-terminated, or NULL */
	/* NULL, or a variable that is set to the child's own pid: LISTEN_PID of sd_listen_fds(3). At
	 * most HF_PROCESS_ENV_PID_MAX letters. */
	const char *env_pid;
	/* Descriptors 0, 1 and 2 are inherited unless they are redirected here. Each child_fd may
	 * stand here once. */
	const struct hf_process_fd *fds;
	size_t n_fds;
	/* In a process group of its own: the terminal's Ctrl-C is its parent's to deal with. */
	bool is_own_group;
	/* It places itself into the cgroup whose cgroup.procs this is (hf_cgroup_procs_fd()), before
	 * it runs its program: it has no thread outside of it, ever. */
	bool has_cgroup;
	int cgroup_procs_fd;
};

/* pid -1 and pidfd -1 when there is none. */
struct hf_process {
	pid_t pid;
	int pidfd; /* becomes readable when the child has ended: wait for EPOLLIN */
};

#define HF_PROCESS_NONE ((struct hf_process){ .pid = -1, .pidfd = -1 })

/**
 * hf_process_spawn() - start a program
 * The child has default signal handlers, an empty signal mask, and is killed (SIGKILL) when the
 * calling thread ends, without a gap in which that could be missed.
 * @ret: to be reaped with hf_process_reap(), then hf_process_close()
 * Blocks until the program has been loaded or found impossible to load (under a millisecond, as
 * long as the file system answers). Allocates and frees.
 * Return: 0; -errno with @err: -ENOENT (no such program: says where it was looked for), -EACCES,
 * what else execve(2) gave, -EAGAIN/-ENOMEM (no process could be made), -EINVAL (more descriptors
 * than HF_PROCESS_FDS_MAX, or an env_pid that is too long), what write(2) gave for the cgroup
 * (-ENODEV: it was removed). No child is left behind.
 */
int hf_process_spawn(const struct hf_process_spec *spec, struct hf_process *ret,
		     struct hf_err *err) HF_MUST_CHECK;

enum hf_process_reap {
	HF_PROCESS_RUNNING = 1,
};

struct hf_process_exit {
	bool is_signal; /* ended by a signal */
	int code; /* the signal's number, or the exit status */
};

/**
 * hf_process_reap() - collect the end of the child, without blocking
 * Return: 0 (once; the pid is free for others from now on, so p->pid becomes -1);
 * HF_PROCESS_RUNNING; -errno.
 */
int hf_process_reap(struct hf_process *p, struct hf_process_exit *ret) HF_MUST_CHECK;

/* "exited with status 1", "killed by signal 9 (Killed)". Returns @buf. */
#define HF_PROCESS_EXIT_TEXT 64
const char *hf_process_exit_format(const struct hf_process_exit *e, char *buf, size_t size);

/* Sends a signal; to a child that has ended already it is no error. 0 or -errno. */
int hf_process_kill(const struct hf_process *p, int signal) HF_MUST_CHECK;

/* Lets go of the handle; neither kills nor reaps. Takes HF_PROCESS_NONE. */
void hf_process_close(struct hf_process *p);

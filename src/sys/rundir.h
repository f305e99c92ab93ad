/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * RUN_DIR/NAME/: the folder of one running keeper (or of the host's daemon), the lock that makes it
 * the only one of that name, and its control socket. Layer: sys. Main thread.
 */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Descriptors are -1 when there is none. */
struct hf_rundir {
	char path[PATH_MAX]; /* RUN_DIR/NAME */
	int dir_fd;
	int lock_fd;
	int listen_fd;
	unsigned int gid; /* who may connect besides us, to look; 0: nobody */
};

#define HF_RUNDIR_NONE ((struct hf_rundir){ .dir_fd = -1, .lock_fd = -1, .listen_fd = -1 })
#define HF_RUNDIR_SOCKET "control"
#define HF_RUNDIR_HOST ".host" /* the folder of the host's daemon: no VM can have this name */

/**
 * hf_rundir_open() - make RUN_DIR/NAME (0700) if need be, and take its lock
 * If RUN_DIR belongs to a group other than root's, its members may reach the control socket, too
 * (0750, and 0660 for the socket): the service behind it knows what they may do.
 * @run_dir: absolute; made (0755) when its own parent exists
 * @name: hf_is_valid_name() or HF_RUNDIR_HOST, else -EINVAL
 * The lock ends with this process however that dies, so nothing stale can be in the way.
 * Return: 0; -EBUSY: a keeper of this name runs, @err names its pid; -EPERM: the folder belongs to
 * another user (one that is merely too open is closed to them); other -errno.
 * Does not wait for the lock. File system calls on what should be a tmpfs.
 */
int hf_rundir_open(const char *run_dir, const char *name, struct hf_rundir *ret,
		   struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_rundir_listen() - the control socket RUN_DIR/NAME/control, 0600, non-blocking
 * Replaces what a dead keeper left. listen_fd then belongs to @r; take connections from it with
 * hf_sock_accept(). Return: 0; -ENAMETOOLONG (unix(7): 107 bytes); other -errno.
 */
int hf_rundir_listen(struct hf_rundir *r, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_rundir_connect() - a client's connection to the keeper of that name, or instance (NAME@ID)
 * Return: 0 with a blocking, close-on-exec socket that is the caller's; -ESRCH: no keeper of that
 * name runs there; -EACCES; -ENAMETOOLONG; -EINVAL; other -errno. @err is fit for the user. May
 * wait while the keeper's backlog is full.
 */
int hf_rundir_connect(const char *run_dir, const char *name, int *ret_fd,
		      struct hf_err *err) HF_MUST_CHECK;

#define HF_RUNDIR_ID 8 /* hex digits of an instance */

/**
 * hf_rundir_rename() - RUN_DIR/NAME becomes RUN_DIR/NAME@ID, with its lock, socket and clients
 * What was NAME is now an instance apart: another keeper may be NAME, and clients reach this one by
 * hf_rundir_connect() of "NAME@ID".
 * @id: HF_RUNDIR_ID hex digits. Return: 0; -EINVAL; -errno of rename(2), and all is as before.
 */
int hf_rundir_rename(struct hf_rundir *r, const char *id, struct hf_err *err) HF_MUST_CHECK;

/* What a keeper notes of its children, so that one that outlives it, dying in the kernel, is still known. */
enum hf_rundir_child { HF_RUNDIR_QEMU, HF_RUNDIR_DISKS, HF_RUNDIR_CHILD_COUNT };

/* Replaces what was noted. 0; -errno. */
int hf_rundir_note(const struct hf_rundir *r, enum hf_rundir_child which, pid_t pid) HF_MUST_CHECK;

/* Of the folder's keeper, or its last one. 0; -ENOENT: nothing is noted; -EBADMSG; -errno. Whether it lives tells
 * hf_procstat_is_alive(). */
int hf_rundir_noted(const char *run_dir, const char *name, enum hf_rundir_child which,
		    pid_t *ret_pid, uint64_t *ret_start_ticks) HF_MUST_CHECK;

/* Notes of children that live still stay, and the folder with them. Removes socket, lock file and folder (which stays if others put something there), and lets go of
 * the lock. Takes HF_RUNDIR_NONE. */
void hf_rundir_close(struct hf_rundir *r);

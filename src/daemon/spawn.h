/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting a keeper that outlives this daemon. Layer: daemon. Main thread. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/hostconf.h"

struct hf_spawn {
	const char *vm;
	bool is_standby;
	bool is_fresh; /* may be beside a frozen instance */
	bool has_two_hosts; /* of which this is the one of the configuration's name */
	const char *
		assigned; /* by a cluster manager: the keeper looks whether it still is; NULL: by none */
};

/**
 * hf_spawn_keeper() - `holdfast run VM` or `standby VM`, in a session of its own
 * The program is $HOLDFAST, the one beside this one in a build folder, or the installed one. It is a
 * child of the daemon, to be reaped by its pid, as long as that lives, and then init's.
 * @ret_why_fd: a memory file in which the keeper leaves what kept it from starting, if anything did;
 * the caller's
 * Blocks until the program has been loaded, or could not be. Return: 0; -errno with @err.
 */
int hf_spawn_keeper(const struct hf_hostconf *conf, const struct hf_spawn *what, pid_t *ret_pid,
		    int *ret_why_fd, struct hf_err *err) HF_MUST_CHECK;

/* What it left there, as one line; "" if nothing. Returns @buf. */
const char *hf_spawn_read_why(int why_fd, char *buf, size_t size);

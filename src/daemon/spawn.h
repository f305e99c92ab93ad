/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting a keeper that outlives this daemon. Layer: daemon. Main thread. */
#pragma once

#include <sys/types.h>

#include "daemon/hostconf.h"

/**
 * hf_spawn_keeper() - `holdfast run VM`, in a session of its own and nobody's child
 * The program is $HOLDFAST, the one beside this one in a build folder, or the installed one.
 * Blocks until the program has been loaded, or could not be. Return: 0; -errno with @err.
 */
int hf_spawn_keeper(const struct hf_hostconf *conf, const char *vm, pid_t *ret_pid,
		    struct hf_err *err) HF_MUST_CHECK;

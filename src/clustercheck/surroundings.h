/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of this host that a cluster's configuration has to fit. Layer: clustercheck. Any thread. Reads files. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "clustercheck/corosync.h"

#define HF_COROSYNC_FILE "/etc/corosync/corosync.conf"

/* 0; -ENOENT, -EACCES and other -errno with @err. */
int hf_corosync_read(const char *path, struct hf_corosync *ret, struct hf_err *err) HF_MUST_CHECK;

/* [pacemaker] fencing = ignore in holdfastd's file? One that cannot be read says nothing. */
bool hf_daemon_ignores_fencing(const char *path);

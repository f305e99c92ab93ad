/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfastd's control socket: Varlink on RUN_DIR/.host/control, interface org.holdfast.Host. Layer:
 * daemon. Main thread only. docs/man/holdfastd.8 describes methods, errors and events.
 *
 * A lease that was acquired belongs to the connection that asked for it.
 */
#pragma once

#include "daemon/daemon.h"

int hf_hostctl_new(struct hf_daemon *d, struct hf_hostctl **ret) HF_MUST_CHECK;
/* Lets go of all clients. Takes NULL. */
void hf_hostctl_free(struct hf_hostctl *c);

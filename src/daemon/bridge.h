/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-pacemaker, started and looked after: it is started again when it ends, ever more rarely when it ends soon, and
 * dies with this daemon. Layer: daemon. Main thread only. Nothing here waits for it, or for Pacemaker.
 */
#pragma once

#include "daemon/daemon.h"

struct hf_bridge;

/* As the configuration says; @ret is NULL where there is none to be. 0 or -ENOMEM. */
int hf_bridge_new(struct hf_daemon *d, struct hf_bridge **ret) HF_MUST_CHECK;
/* Kills it: it has nothing to put in order. Takes NULL. */
void hf_bridge_free(struct hf_bridge *b);

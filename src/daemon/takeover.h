/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VMs whose host has died and that are to be started here: by their definitions. Layer: daemon. Main
 * thread only.
 *
 * Only one whose lease names a dead owner is taken over; what was released in order stays down. Of
 * the hosts that a definition prefers each later one waits a little longer; whoever wins the lease
 * has its keeper started by the supervision (vms.h); that finds the lease waiting for it.
 */
#pragma once

#include "daemon/daemon.h"

int hf_takeover_new(struct hf_daemon *d, struct hf_takeover **ret) HF_MUST_CHECK;
/* Takes NULL. */
void hf_takeover_free(struct hf_takeover *t);

/* Something has changed: look whose VMs are to be started. Takes NULL. */
void hf_takeover_look(struct hf_takeover *t);

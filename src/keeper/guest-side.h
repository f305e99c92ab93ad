/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest in the keeper's loop: its QEMU is started, what it says and the end of its process go to whom they concern, and its
 * networks are served. Layer: keeper. Main thread only.
 */
#pragma once

#include "keeper/keeper.h"

/* @k has its command line, and its disks if there are any. Waits until QEMU answers. 0 or -errno. */
int hf_guest_side_start(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

/* Nothing is heard of the guest any more; to be called before it is freed. Also when it was never started. */
void hf_guest_side_unwatch(struct hf_keeper *k);

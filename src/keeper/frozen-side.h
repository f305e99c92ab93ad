/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is left of a keeper once its VM is frozen and the other host needs nothing more of it: it guards
 * the frozen QEMU, answers questions, and releases it. Layer: keeper. Main thread only.
 */
#pragma once

#include "base/error.h"

struct hf_keeper;

/* The certificate is durable and told: the role hears of it; who has to wait for nothing else guards. */
void hf_frozen_side_certified(struct hf_keeper *k);

/* The role is through. Its port, disks and lease are let go of. */
void hf_frozen_side_enter(struct hf_keeper *k);

/* By an operator: all that was kept is discarded, and this program ends. 0; -errno with @err. */
int hf_frozen_side_release(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

/* Freezer or offloader has nothing more to write: if neither has, a release removes what was written. */
void hf_frozen_side_writer_is_idle(struct hf_keeper *k);

/* ---- frozen-start.c: before a VM is started where one is frozen. BLOCK. ---- */

/* All unfinished freezes of this VM are brought to their end. 0; -EBUSY: something does not die. */
int hf_frozen_finish_all(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;
/* May the VM be started here beside what is frozen? 0; -EEXIST with @err: no. */
int hf_frozen_check_start(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

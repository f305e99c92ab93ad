/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The primary's driver: carries out what core/commit.h's primary decides. Layer: keeper. Main thread.
 */
#pragma once

#include "keeper/keeper.h"

/**
 * hf_primary_side_start() - make this keeper the primary of its guest, which runs or is about to
 * @last_epoch: the promoted epoch after a failover, else 0
 * @resend: NULL, or what has frames to be sent again once outputs may pass: taken over with the role
 * Takes over the keeper's role; lives until the program ends. Return: 0; or -errno with @err: the VM
 * cannot be protected here. Then the role is taken over all the same, unless there was no memory even
 * for that, and its status says so: after a failover the VM is to live on.
 */
struct hf_inbox;
int hf_primary_side_start(struct hf_keeper *k, uint64_t last_epoch, struct hf_inbox *resend,
			  struct hf_err *err) HF_MUST_CHECK;

/* The standby went live by an operator's word while it was still being asked whether it may: with
 * @lver. The answer is the primary's now. */
void hf_primary_inherit_question(struct hf_keeper *k, uint64_t lver);

/* Could this guest's writes be tracked here? A standby has to know before it is needed. 0 or -errno
 * with @err. */
int hf_primary_check_tracking(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

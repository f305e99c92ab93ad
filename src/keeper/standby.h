/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby's driver: carries out what core/commit.h's standby decides. Layer: keeper. Main thread.
 */
#pragma once

#include "keeper/keeper.h"

/* Takes over the keeper's role until promotion. Return: 0 or -errno with @err. */
int hf_standby_side_start(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

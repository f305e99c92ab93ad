/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What becomes of a frozen instance's memory: it stays, goes to a file, or is discarded; and how many
 * instances are kept. Layer: keeper. Main thread only; the work is a thread's.
 */
#pragma once

#include "base/error.h"

struct hf_keeper;
struct hf_varlink_request;

/* By frozen-memory= and frozen-keep=, in the background. */
void hf_offloader_follow_policy(struct hf_keeper *k);

/* What is under way ends soon, and leaves nothing. */
void hf_offloader_call_off(struct hf_keeper *k);

/* By an order: @rq is answered when the memory is in the file, and told how far it is if it wants more. */
void hf_offloader_order(struct hf_keeper *k, struct hf_varlink_request *rq);

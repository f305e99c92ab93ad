/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may go on when primary and standby have lost each other? Layer: keeper. Main thread only.
 *
 * An arbiter is asked and answers later, or never. Without a lease nobody can say, and none answers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/commit.h"

typedef void hf_arbiter_answer(void *ctx, bool is_granted);

struct hf_arbiter {
	hf_arbiter_answer *answer;
	void *ctx;
};

/* @heard_ns: when the other side was last heard, by hf_now_ns(). Never answers from within the call.
 * A question that is asked again replaces the one before. */
void hf_arbiter_ask(struct hf_arbiter *a, struct hf_id session, uint64_t heard_ns,
		    hf_arbiter_answer *answer, void *ctx);

/* The two are in touch again: an answer is not wanted any more. */
void hf_arbiter_cancel(struct hf_arbiter *a);

void hf_arbiter_fini(struct hf_arbiter *a);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may go on when primary and standby have lost each other without proof. Layer: keeper. Main
 * thread only.
 *
 * An arbiter is asked and answers later, or never. The one here is the fixed setting on-peer-loss:
 * "wait" never answers; "promote" grants once the other side has been out of touch for peer-timeout,
 * so that a connection that only breaks decides nothing: it is made anew long before. A pair in which
 * both sides are set to promote is refused when they meet, so at most one side is ever granted. A
 * vote on shared storage takes this place without a change to whoever asks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/commit.h"
#include "keeper/loop.h"

typedef void hf_arbiter_answer(void *ctx, bool is_granted);

struct hf_arbiter {
	struct hf_loop *loop;
	bool grants; /* on-peer-loss=promote */
	uint64_t patience_ns; /* peer-timeout */
	struct hf_timer timer;
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

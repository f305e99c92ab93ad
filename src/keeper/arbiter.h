/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may go on when primary and standby have lost each other without proof. Layer: keeper. Main
 * thread only.
 *
 * An arbiter is asked and answers later, at once, or never. The one here is the fixed setting
 * on-peer-loss: "wait" never answers; "promote" grants at once. A pair in which both sides are set
 * to promote is refused when they meet, so at most one side is ever granted. A vote on shared
 * storage takes this place without a change to whoever asks.
 */
#pragma once

#include <stdbool.h>

#include "core/commit.h"

typedef void hf_arbiter_answer(void *ctx, bool is_granted);

struct hf_arbiter {
	bool grants; /* on-peer-loss=promote */
};

/* May answer from within the call. A question that is asked again replaces the one before. */
void hf_arbiter_ask(struct hf_arbiter *a, struct hf_id session, hf_arbiter_answer *answer,
		    void *ctx);

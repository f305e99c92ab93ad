/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may go on when primary and standby have lost each other? Layer: keeper. Main thread only.
 *
 * An arbiter is asked and answers later, or never. It is the VM's lease: a question is a claim of the
 * tenure after the one that the primary owned, of which exactly one is won. Without a lease nobody
 * can say, and no answer comes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "keeper/ownership.h"
#include "service/loop.h"

/* @lver: of the question. */
typedef void hf_arbiter_answer(void *ctx, enum hf_claim_end end, uint64_t lver);

/* All zero, but for the first two, is one that was never asked. */
struct hf_arbiter {
	struct hf_loop *loop;
	struct hf_ownership *ownership; /* borrowed; NULL: no lease */
	uint64_t lver; /* 0: no question is open */
	uint64_t at_ns;
	bool is_claimed; /* its time has come */
	struct hf_timer timer;
	hf_arbiter_answer *answer;
	void *ctx;
};

/**
 * hf_arbiter_ask() - claim the tenure after @lver, not before @at_ns (hf_now_ns()'s clock)
 * So a connection that only breaks and is made again decides nothing. One answer, never from within
 * a call here. The same question asked again: @answer and @ctx count from now on, the earlier time does.
 */
void hf_arbiter_ask(struct hf_arbiter *a, uint64_t lver, uint64_t at_ns, hf_arbiter_answer *answer,
		    void *ctx);

/* There is nothing to wait for any more: if a question is open, its time has come. */
void hf_arbiter_hasten(struct hf_arbiter *a);

/* The answer is not wanted any more, but comes: cancelled, or what had been decided. */
void hf_arbiter_cancel(struct hf_arbiter *a);

/* No answer comes any more. */
void hf_arbiter_fini(struct hf_arbiter *a);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/arbiter.h"

static void on_patience_over(void *ctx)
{
	struct hf_arbiter *a = ctx;

	a->answer(a->ctx, /* is_granted= */ true);
}

void hf_arbiter_ask(struct hf_arbiter *a, struct hf_id session __attribute__((unused)),
		    uint64_t heard_ns, hf_arbiter_answer *answer, void *ctx)
{
	if (!a->grants)
		return;
	a->answer = answer;
	a->ctx = ctx;
	hf_timer_set(&a->timer, a->loop, heard_ns + a->patience_ns, on_patience_over, a);
}

void hf_arbiter_cancel(struct hf_arbiter *a)
{
	if (a->grants)
		hf_timer_set(&a->timer, a->loop, UINT64_MAX, on_patience_over, a);
}

void hf_arbiter_fini(struct hf_arbiter *a)
{
	hf_timer_fini(&a->timer);
}

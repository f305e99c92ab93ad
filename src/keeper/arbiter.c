/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/arbiter.h"

#include <stddef.h>

static void answer(struct hf_arbiter *a, enum hf_claim_end end)
{
	uint64_t lver = a->lver;

	a->lver = 0;
	a->is_claimed = false;
	a->answer(a->ctx, end, lver);
}

static void on_verdict(void *ctx, enum hf_claim_end end)
{
	struct hf_arbiter *a = ctx;

	if (a->lver)
		answer(a, end);
}

static void on_time(void *ctx)
{
	struct hf_arbiter *a = ctx;

	if (!a->lver)
		return;
	a->is_claimed = true;
	hf_ownership_claim(a->ownership, a->lver, on_verdict, a);
}

static void on_cancelled(void *ctx)
{
	struct hf_arbiter *a = ctx;

	if (a->lver && !a->is_claimed)
		answer(a, HF_CLAIM_CANCELLED);
}

void hf_arbiter_ask(struct hf_arbiter *a, uint64_t lver, uint64_t at_ns,
		    hf_arbiter_answer *answered, void *ctx)
{
	a->answer = answered;
	a->ctx = ctx;
	if (!a->ownership || (a->lver == lver && a->is_claimed))
		return;
	if (a->lver != lver || at_ns < a->at_ns)
		a->at_ns = at_ns;
	a->lver = lver;
	hf_timer_set(&a->timer, a->loop, a->at_ns, on_time, a);
}

void hf_arbiter_hasten(struct hf_arbiter *a)
{
	if (a->lver && !a->is_claimed)
		hf_timer_set(&a->timer, a->loop, 0, on_time, a);
}

void hf_arbiter_cancel(struct hf_arbiter *a)
{
	if (!a->lver)
		return;
	if (a->is_claimed)
		hf_ownership_cancel(a->ownership);
	else
		hf_timer_set(&a->timer, a->loop, 0, on_cancelled, a);
}

void hf_arbiter_fini(struct hf_arbiter *a)
{
	a->lver = 0;
	hf_timer_fini(&a->timer);
}

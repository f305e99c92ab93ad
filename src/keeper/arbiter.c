/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/arbiter.h"

#include <stddef.h>

void hf_arbiter_ask(struct hf_arbiter *a, struct hf_id session __attribute__((unused)),
		    uint64_t heard_ns __attribute__((unused)), hf_arbiter_answer *answer, void *ctx)
{
	a->answer = answer;
	a->ctx = ctx;
}

void hf_arbiter_cancel(struct hf_arbiter *a)
{
	a->answer = NULL;
}

void hf_arbiter_fini(struct hf_arbiter *a)
{
	hf_arbiter_cancel(a);
}

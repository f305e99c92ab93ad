/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Monitor and score: one look, and the table's word. */
#include <stdio.h>

#include "cli/ocf-call.h"

/* Of the deadline, for what comes after the answers. */
#define MARGIN_NS (200 * HF_OCF_MS)

static uint64_t until(const struct hf_ocf_call *c)
{
	uint64_t share_ns = c->timeout_ns / 8;

	return c->deadline_ns - (share_ns < MARGIN_NS ? share_ns : MARGIN_NS);
}

enum hf_ocf hf_ocf_do_monitor(struct hf_ocf_call *c)
{
	struct hf_ocf_verdict v;
	enum hf_ocf rc;

	hf_ocf_view_take(c, until(c));
	rc = hf_ocf_view_judge(c, &v);
	c->score = v.score;
	return rc;
}

enum hf_ocf hf_ocf_do_score(struct hf_ocf_call *c)
{
	enum hf_ocf rc = hf_ocf_do_monitor(c);

	/* With --json it is in the object. */
	if (!c->is_json)
		printf("%d\n", c->score);
	return rc == HF_OCF_ERR_PERM ? rc : hf_ocf_say(c, HF_OCF_SUCCESS, "%s", "");
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Monitor and score: one look, and the table's word. */
#include <stdio.h>

#include "cli/ocf-call.h"

/* Of the deadline, for what comes after the answers. */
#define MARGIN_NS (200 * HF_OCF_MS)

#define CHANGE_NS (2000 * HF_OCF_MS) /* takes no longer, unless something hangs */
#define AGAIN_MS 20

static uint64_t until(const struct hf_ocf_call *c)
{
	uint64_t share_ns = c->timeout_ns / 8;

	return c->deadline_ns - (share_ns < MARGIN_NS ? share_ns : MARGIN_NS);
}

/* Without a keeper that answers: its processes are dying, or it is just becoming one. */
static bool is_changing(const struct hf_ocf_call *c)
{
	return c->view.keeper == HF_OCF_ABSENT && c->view.processes.n;
}

enum hf_ocf hf_ocf_do_monitor(struct hf_ocf_call *c)
{
	uint64_t settled_ns = hf_ocf_soon(c, CHANGE_NS);
	struct hf_ocf_verdict v;
	enum hf_ocf rc;

	hf_ocf_view_take(c, until(c));
	while (is_changing(c) && hf_client_now_ns() < settled_ns && hf_client_now_ns() < until(c)) {
		hf_ocf_rest(c, AGAIN_MS);
		hf_ocf_view_take(c, until(c));
	}
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

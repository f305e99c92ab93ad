/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `holdfast release`: the keeper that guards the instance does it; if none does (it was killed, or the
 * host has booted since), nothing of it can run any more, and it is removed here.
 */
#include <errno.h>
#include <stdio.h>

#include "cli/order-verbs.h"
#include "cli/rows.h"
#include "codec/json.h"
#include "vm/frozen.h"

static int remove_it(const struct hf_verb_options *o, const struct hf_instance *at)
{
	struct hf_frozen f;
	struct hf_err err = { "" };
	int r = hf_frozen_find(o->state_dir, at->vm, at->id, &f, &err);

	if (!r) {
		r = hf_frozen_release(&f, &err);
		hf_frozen_fini(&f);
	}
	if (!r)
		return HF_EXIT_DONE;
	return hf_exit_complain(o->verb, r == -EBUSY ? HF_EXIT_REFUSED : hf_exit_of(r, NULL), &err);
}

static int refuse(const struct hf_instance *at)
{
	(void)fprintf(stderr,
		      "holdfast release: '%s' is not frozen: to discard a frozen instance of it, "
		      "give its id, as `holdfast list` shows it: %s@ID\n",
		      at->vm, at->vm);
	return HF_EXIT_REFUSED;
}

int hf_order_release(const struct hf_verb_options *o)
{
	struct json_object *row;
	struct hf_instance at;
	struct hf_client c;
	int code = hf_order_open(o, &c, &at, &row);

	if (code == HF_EXIT_DONE) {
		/* One whose freeze has not ended has its plain name still: its keeper refuses. */
		code = hf_order_call(o, &c, "Release", NULL, false, NULL);
		if (code == HF_EXIT_DONE && hf_order_wait_end(o, &c) == -ETIMEDOUT) {
			(void)fprintf(stderr, "holdfast release: it is being discarded, but its "
					      "keeper has not ended yet\n");
			code = HF_EXIT_TIMED_OUT;
		}
		hf_client_close(&c);
		return code;
	}
	if (!row)
		return code;
	code = hf_json_has(row, "id") ? remove_it(o, &at) : refuse(&at);
	json_object_put(row);
	return code;
}

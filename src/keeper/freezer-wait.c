/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who waits for a freeze, and is told of each step. */
#include "codec/json.h"
#include "keeper/freezer.h"
#include "keeper/keeper.h"

static void forget_waiter(void *data)
{
	struct hf_freezer_waiter *w = data;

	w->rq = NULL;
}

static void answer(struct hf_freezer_waiter *w, const struct hf_freezer *f)
{
	struct hf_varlink_request *rq = w->rq;
	struct json_object *o = json_object_new_object();

	w->rq = NULL;
	hf_varlink_request_watch(rq, NULL, NULL);
	json_object_object_add(o, "id", json_object_new_string(f->certificate.id));
	json_object_object_add(o, "certificate", hf_certificate_encode(&f->certificate));
	hf_varlink_done(rq, o);
}

void hf_freezer_wait(struct hf_freezer *f, struct hf_varlink_request *rq)
{
	for (size_t i = 0; i < HF_FREEZER_WAITERS_MAX; i++) {
		struct hf_freezer_waiter *w = &f->waiters[i];

		if (w->rq)
			continue;
		*w = (struct hf_freezer_waiter){ .f = f, .rq = rq };
		if (hf_freezer_is_certified(f))
			answer(w, f);
		else
			hf_varlink_request_watch(rq, forget_waiter, w);
		return;
	}
	hf_varlink_refuse(rq, "org.holdfast.Keeper.NotPossible",
			  "it is being frozen, and too many wait for that already");
}

void hf_freezer_tell_waiters(struct hf_freezer *f, struct json_object *progress)
{
	for (size_t i = 0; i < HF_FREEZER_WAITERS_MAX; i++)
		if (f->waiters[i].rq && progress)
			hf_varlink_continue(f->waiters[i].rq, json_object_get(progress));
		else if (f->waiters[i].rq)
			answer(&f->waiters[i], f);
	json_object_put(progress);
}

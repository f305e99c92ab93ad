/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who has ordered a hand-over, and waits for what comes of it. */
#include <stdio.h>

#include "keeper/primary-side.h"

#define NOT_POSSIBLE "org.holdfast.Keeper.NotPossible"

static void forget_waiter(void *data)
{
	struct hf_handover_waiter *w = data;

	w->rq = NULL;
}

static struct hf_handover_waiter *wait_for_end(struct hf_primary_side *s,
					       struct hf_varlink_request *rq)
{
	for (size_t i = 0; i < HF_HANDOVER_WAITERS_MAX; i++) {
		struct hf_handover_waiter *w = &s->handover_waiters[i];

		if (w->rq)
			continue;
		w->rq = rq;
		hf_varlink_request_watch(rq, forget_waiter, w);
		return w;
	}
	return NULL;
}

/* @why_not: NULL: it is handed over. */
static void tell_waiters(struct hf_primary_side *s, const char *why_not)
{
	for (size_t i = 0; i < HF_HANDOVER_WAITERS_MAX; i++) {
		struct hf_varlink_request *rq = s->handover_waiters[i].rq;

		if (!rq)
			continue;
		s->handover_waiters[i].rq = NULL;
		hf_varlink_request_watch(rq, NULL, NULL);
		if (why_not)
			hf_varlink_refuse(rq, NOT_POSSIBLE, why_not);
		else
			hf_varlink_done(rq, NULL);
	}
}

/* Why none can begin now; NULL: it can. */
static const char *why_not_now(const struct hf_primary_side *s)
{
	if (!s->k->meetings)
		return "the VM was started without another host";
	if (s->is_held)
		return "the VM is being saved or dumped";
	if (s->machine.state != HF_PRIMARY_PROTECTED)
		return hf_primary_state_text(s->machine.state);
	if (!s->machine.committed)
		return "the standby is not filled yet: the first epoch is on its way to it";
	if (s->machine.is_asking)
		return "a vote about the VM's lease is not over yet: try again";
	return NULL;
}

void hf_primary_order_handover(void *role, struct hf_varlink_request *rq)
{
	struct hf_primary_side *s = role;
	enum hf_primary_state state = s->machine.state;
	bool is_under_way = state == HF_PRIMARY_HANDING_OVER || state == HF_PRIMARY_HANDED_OVER;
	const char *why_not = is_under_way ? NULL : why_not_now(s);

	if (why_not) {
		char text[256];

		(void)snprintf(text, sizeof(text), "it cannot be handed over now: %s", why_not);
		hf_varlink_refuse(rq, NOT_POSSIBLE, text);
	} else if (!wait_for_end(s, rq)) {
		hf_varlink_refuse(rq, NOT_POSSIBLE,
				  "it is being handed over, and too many wait for that already");
	} else if (is_under_way) {
		hf_primary_follow_handover(s, state);
	} else {
		hf_log(&s->k->journal, HF_LOG_INFO, "an operator wants the VM handed over");
		hf_primary_feed(s, HF_PRIMARY_HANDOVER_WANTED, 0);
	}
}

void hf_primary_follow_handover(struct hf_primary_side *s, enum hf_primary_state before)
{
	enum hf_primary_state state = s->machine.state;
	bool is_away = before == HF_PRIMARY_HANDED_OVER && state == HF_PRIMARY_SUPERSEDED;
	char text[256];

	if (state == HF_PRIMARY_HANDING_OVER)
		return;
	if (is_away || s->was_handed_over) {
		tell_waiters(s, NULL);
		return;
	}
	if (state == HF_PRIMARY_HANDED_OVER)
		return; /* nothing turns it back, but the standby has not been told yet */
	(void)snprintf(text, sizeof(text), "the hand-over was called off: %s",
		       state == HF_PRIMARY_PROTECTED
			       ? "the last epoch could not be captured; the VM runs on here"
			       : hf_primary_state_text(state));
	tell_waiters(s, text);
}

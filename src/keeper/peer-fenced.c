/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See peer-fenced.h. */
#include "keeper/peer-fenced.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codec/fencedword.h"
#include "core/fenced.h"
#include "keeper/keeper.h"

#define NOT_POSSIBLE "org.holdfast.Keeper.NotPossible"

/* "hostB was fenced 1.5 s ago (reboot by hostC)" */
static void put_in_words(const struct hf_fencedword *w, uint64_t now_real_ns, char *buf,
			 size_t size)
{
	double ago_s = now_real_ns > w->time_ns ? (double)(now_real_ns - w->time_ns) / 1e9 : 0.0;

	(void)snprintf(buf, size, "%s was fenced %.1f s ago%s%s%s", w->host, ago_s,
		       w->text[0] ? " (" : "", w->text, w->text[0] ? ")" : "");
}

static void answer(struct hf_varlink_request *rq, bool is_dead, const char *text)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "is_dead", json_object_new_boolean(is_dead));
	json_object_object_add(o, "text", json_object_new_string(text));
	hf_varlink_done(rq, o);
}

static void refuse(struct hf_keeper *k, struct hf_varlink_request *rq, const char *words,
		   const char *why)
{
	char text[HF_PEER_FENCED_TEXT + 256];

	(void)snprintf(text, sizeof(text), "%s, but %s: that proves nothing", words, why);
	hf_event(&k->journal, "no-proof", NULL, "%s", text);
	hf_varlink_refuse(rq, NOT_POSSIBLE, text);
}

static void judge(struct hf_keeper *k, struct hf_varlink_request *rq,
		  const struct hf_fenced_sight *sight, uint64_t fenced_ns, const char *words)
{
	enum hf_fenced_verdict verdict = hf_fenced_judge(sight, fenced_ns);

	switch (verdict) {
	case HF_FENCED_PROOF:
		k->peer_fenced_ns = 0;
		k->ops->peer_dead(k->role, words);
		answer(rq, true, words);
		break;
	case HF_FENCED_WAIT:
		k->peer_fenced_ns = fenced_ns;
		(void)snprintf(k->peer_fenced_text, sizeof(k->peer_fenced_text), "%s", words);
		answer(rq, false, hf_fenced_verdict_text(verdict));
		break;
	case HF_FENCED_NEVER_MET:
	case HF_FENCED_MET_SINCE:
	case HF_FENCED_HEARD_SINCE:
	case HF_FENCED_VERDICT_COUNT:
		refuse(k, rq, words, hf_fenced_verdict_text(verdict));
		break;
	}
}

/* The definition may name another one by now than it did when this keeper was started. */
static bool is_other_host(const struct hf_keeper *k, const char *host, char *why, size_t size)
{
	const char *ours = k->set->other_host;

	if (!ours || strcmp(ours, host) == 0)
		return true;
	(void)snprintf(why, size, "the other host of '%s' is %.64s, since it was started", k->name,
		       ours);
	return false;
}

void hf_order_peer_died(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_keeper *k = ctx;
	struct hf_fencedword w;
	struct hf_err err = { "" };
	struct hf_fenced_sight sight;
	uint64_t now_real_ns = hf_now_real_ns();
	uint64_t fenced_ns;
	char words[HF_PEER_FENCED_TEXT], why[128 + HF_NAME_MAX];

	if (hf_fencedword_read(parameters, &w, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	put_in_words(&w, now_real_ns, words, sizeof(words));
	fenced_ns = hf_fenced_place(w.time_ns, now_real_ns, hf_now_ns());
	if (!is_other_host(k, w.host, why, sizeof(why)))
		refuse(k, rq, words, why);
	else if (!k->ops->see_peer || !k->ops->see_peer(k->role, &sight))
		answer(rq, false, "nothing here depends on the life of the other host");
	else if (!fenced_ns)
		refuse(k, rq, words, "that time is ahead of this host's clock, or none at all");
	else
		judge(k, rq, &sight, fenced_ns, words);
}

void hf_peer_fenced_again(struct hf_keeper *k)
{
	struct hf_fenced_sight sight;
	enum hf_fenced_verdict verdict;

	if (!k->peer_fenced_ns)
		return;
	if (!k->ops->see_peer || !k->ops->see_peer(k->role, &sight)) {
		k->peer_fenced_ns = 0;
		return;
	}
	verdict = hf_fenced_judge(&sight, k->peer_fenced_ns);
	if (verdict == HF_FENCED_WAIT)
		return;
	k->peer_fenced_ns = 0;
	if (verdict == HF_FENCED_PROOF)
		k->ops->peer_dead(k->role, k->peer_fenced_text);
	else
		hf_event(&k->journal, "no-proof", NULL, "%s, but %s: that proves nothing",
			 k->peer_fenced_text, hf_fenced_verdict_text(verdict));
}

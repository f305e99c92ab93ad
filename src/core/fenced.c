/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/fenced.h"

#include <assert.h>

uint64_t hf_fenced_place(uint64_t fenced_real_ns, uint64_t now_real_ns, uint64_t now_ns)
{
	uint64_t age_ns;

	if (!fenced_real_ns || !now_ns)
		return 0;
	if (fenced_real_ns > now_real_ns)
		return fenced_real_ns - now_real_ns <= HF_FENCED_AHEAD_MAX_NS ? now_ns : 0;
	age_ns = now_real_ns - fenced_real_ns;
	/* Before our own boot: older than all that we have met. */
	return age_ns < now_ns ? now_ns - age_ns : 1;
}

/* The connection first: of one that came later no silence is a proof. */
enum hf_fenced_verdict hf_fenced_judge(const struct hf_fenced_sight *s, uint64_t fenced_ns)
{
	assert(fenced_ns);
	if (!s->established_ns)
		return HF_FENCED_NEVER_MET;
	assert(s->heard_ns >= s->established_ns);
	if (s->established_ns >= fenced_ns)
		return HF_FENCED_MET_SINCE;
	if (s->heard_ns >= fenced_ns)
		return HF_FENCED_HEARD_SINCE;
	return s->is_in_touch ? HF_FENCED_WAIT : HF_FENCED_PROOF;
}

const char *hf_fenced_verdict_text(enum hf_fenced_verdict verdict)
{
	static const char *const texts[HF_FENCED_VERDICT_COUNT] = {
		[HF_FENCED_PROOF] = "what was connected is dead",
		[HF_FENCED_WAIT] =
			"nothing was heard since, but it is not silent for long enough yet",
		[HF_FENCED_NEVER_MET] = "there was no connection to it",
		[HF_FENCED_MET_SINCE] = "the connection to it was made after that",
		[HF_FENCED_HEARD_SINCE] = "it was heard after that",
	};

	return verdict < HF_FENCED_VERDICT_COUNT ? texts[verdict] : "?";
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "../../tests/test.h"
#include "core/fenced.h"

#define S 1000000000ull

/* ---- when was it? ---- */

static const struct {
	const char *what;
	uint64_t fenced_s, now_real_s, now_s; /* in seconds, but for 0 */
	uint64_t want_ns;
} places[] = {
	{ "a while ago", 990, 1000, 500, 490 * S },
	{ "just now", 1000, 1000, 500, 500 * S },
	{ "a little ahead: now at the latest", 1003, 1000, 500, 500 * S },
	{ "as far ahead as may be", 1005, 1000, 500, 500 * S },
	{ "too far ahead", 1006, 1000, 500, 0 },
	{ "no time", 0, 1000, 500, 0 },
	{ "before our boot", 400, 1000, 500, 1 },
	{ "at our boot", 500, 1000, 500, 1 },
	{ "our clock of the day is not set yet", 1000000, 3, 3, 0 },
};

TEST(times_are_told_by_the_own_clock)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint64_t got = hf_fenced_place(places[i].fenced_s * S, places[i].now_real_s * S,
					       places[i].now_s * S);

		if (got != places[i].want_ns)
			hf_test_fail(__FILE__, __LINE__, "%s: %" PRIu64, places[i].what, got);
	}
}

/* ---- is it a proof? ---- */

static const struct {
	const char *what;
	struct hf_fenced_sight sight;
	uint64_t fenced_ns;
	enum hf_fenced_verdict want;
} cases[] = {
	{ "connected, then silent, then fenced", { 100, 200, false }, 300, HF_FENCED_PROOF },
	{ "the last word just before", { 100, 299, false }, 300, HF_FENCED_PROOF },
	{ "a word at that very time", { 100, 300, false }, 300, HF_FENCED_HEARD_SINCE },
	{ "a word after it", { 100, 301, false }, 300, HF_FENCED_HEARD_SINCE },
	{ "it speaks", { 100, 400, true }, 300, HF_FENCED_HEARD_SINCE },
	{ "silent, but not for long enough", { 100, 299, true }, 300, HF_FENCED_WAIT },
	{ "connected at that very time", { 300, 300, false }, 300, HF_FENCED_MET_SINCE },
	{ "another boot of it was met, and lost again",
	  { 310, 400, false },
	  300,
	  HF_FENCED_MET_SINCE },
	{ "another boot of it is there", { 310, 400, true }, 300, HF_FENCED_MET_SINCE },
	{ "never met", { 0, 0, false }, 300, HF_FENCED_NEVER_MET },
};

TEST(only_what_was_met_before_and_not_heard_since_is_dead)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum hf_fenced_verdict got = hf_fenced_judge(&cases[i].sight, cases[i].fenced_ns);

		if (got != cases[i].want)
			hf_test_fail(__FILE__, __LINE__, "%s: %s", cases[i].what,
				     hf_fenced_verdict_text(got));
	}
}

/* Over all orders of what can happen: no proof while anything of the host is younger than the fencing. */
TEST(no_order_of_events_makes_a_living_host_dead)
{
	for (uint64_t fenced = 1; fenced < 8; fenced++)
		for (uint64_t met = 1; met < 8; met++)
			for (uint64_t heard = met; heard < 8; heard++)
				for (int touch = 0; touch < 2; touch++) {
					struct hf_fenced_sight s = { met, heard, touch };
					bool is_proof = hf_fenced_judge(&s, fenced) ==
							HF_FENCED_PROOF;

					CHECK_EQ(is_proof,
						 met < fenced && heard < fenced && !touch);
				}
}

TEST(every_verdict_has_words)
{
	for (int i = 0; i < HF_FENCED_VERDICT_COUNT; i++)
		CHECK(strlen(hf_fenced_verdict_text((enum hf_fenced_verdict)i)) > 5);
}

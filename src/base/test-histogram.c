/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "base/histogram.h"

TEST(empty)
{
	struct hf_histogram h = { 0 };

	CHECK_EQ(hf_histogram_quantile(&h, 500), 0);
}

TEST(quantiles_are_within_a_sixteenth)
{
	static struct hf_histogram h;

	for (uint64_t v = 1; v <= 100000; v++)
		hf_histogram_add(&h, v * 1000);
	for (unsigned int q = 10; q <= 1000; q += 10) {
		uint64_t truth = (uint64_t)q * 100000;
		uint64_t got = hf_histogram_quantile(&h, q);

		CHECK(got >= truth);
		CHECK(got <= truth + truth / 16 + 1000);
	}
	CHECK_EQ(hf_histogram_quantile(&h, 1000), 100000000);
}

TEST(extremes_have_a_bucket)
{
	static struct hf_histogram h;

	hf_histogram_add(&h, 0);
	hf_histogram_add(&h, UINT64_MAX);
	CHECK_EQ(hf_histogram_quantile(&h, 500), 0);
	CHECK(hf_histogram_quantile(&h, 1000) == UINT64_MAX);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/pace.h"

static const struct hf_pace_settings settings = {
	.interval_ns = 500000000,
	.stop_share = 25,
	.epoch_bytes = 64 << 20,
};

TEST(idle_guest_waits_for_the_largest_interval)
{
	struct hf_pace p;

	hf_pace_init(&p, &settings);
	CHECK(hf_pace_deadline_ns(&p) == UINT64_MAX);
	hf_pace_epoch_begins(&p, 1000, 2000000, 0);
	CHECK_EQ(hf_pace_deadline_ns(&p), 1000 + 500000000);
	hf_pace_epoch_ends(&p);
	CHECK(hf_pace_deadline_ns(&p) == UINT64_MAX);
}

TEST(output_starts_an_epoch_as_soon_as_the_share_allows)
{
	struct hf_pace p;

	hf_pace_init(&p, &settings);
	hf_pace_epoch_begins(&p, 1000, 2000000, 0);
	hf_pace_output_held(&p);
	/* 2 ms of standing still at a share of 25 % must be followed by 6 ms of running. */
	CHECK_EQ(hf_pace_deadline_ns(&p), 1000 + 6000000);
	hf_pace_epoch_begins(&p, 9000000, 0, 0);
	CHECK_EQ(hf_pace_deadline_ns(&p), 9000000 + 500000000);
}

TEST(a_long_pause_is_followed_by_a_long_run_whatever_is_due)
{
	struct hf_pace p;

	hf_pace_init(&p, &settings);
	hf_pace_epoch_begins(&p, 0, 400000000, 0);
	hf_pace_over_bound(&p);
	CHECK_EQ(hf_pace_deadline_ns(&p), 1200000000);
}

TEST(size_is_looked_at_as_often_as_the_growth_asks)
{
	struct hf_pace p;

	hf_pace_init(&p, &settings);
	hf_pace_epoch_begins(&p, 1, 0, 0);
	CHECK(hf_pace_peek_ns(&p, 1) == UINT64_MAX);
	/* 64 MiB in 200 ms: half of the bound after 100 ms */
	hf_pace_epoch_begins(&p, 200000001, 0, 64 << 20);
	CHECK_EQ(hf_pace_peek_ns(&p, 200000001), 300000001);
	/* 1 MiB in 200 ms: never before the interval ends */
	hf_pace_epoch_begins(&p, 400000001, 0, 1 << 20);
	CHECK(hf_pace_peek_ns(&p, 400000001) == UINT64_MAX);
}

TEST(early_scan_is_tried_learnt_and_tried_again)
{
	struct hf_pace p;
	int tries = 0;

	hf_pace_init(&p, &settings);
	hf_pace_epoch_begins(&p, 1, 0, 1 << 20);
	CHECK(!hf_pace_wants_prescan(&p));
	hf_pace_epoch_begins(&p, 2, 0, 64 << 20);
	CHECK(hf_pace_wants_prescan(&p));
	hf_pace_prescanned(&p, 10000, 100);
	CHECK(hf_pace_wants_prescan(&p));
	hf_pace_prescanned(&p, 10000, 10000);
	for (int i = 0; i < 100; i++)
		if (hf_pace_wants_prescan(&p)) {
			tries++;
			hf_pace_prescanned(&p, 10000, 10000);
		}
	CHECK_EQ(tries, 3);
}

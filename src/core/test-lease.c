/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/lease.h"

#define MS_NS 1000000ULL
#define S_NS 1000000000ULL

static struct hf_lease_slot slot(uint64_t generation, uint64_t timestamp_s, uint32_t fence_ms)
{
	struct hf_lease_slot s;

	memset(&s, 0, sizeof(s));
	s.owner = 3;
	s.generation = generation;
	s.timestamp_s = timestamp_s;
	s.io_timeout_s = 10;
	memcpy(s.host_name, "alpha", 5);
	s.extra.is_present = fence_ms != 0;
	s.extra.instance = fence_ms ? 99 : 0;
	s.extra.fence_ms = fence_ms;
	s.extra.renew_ms = fence_ms / 6;
	return s;
}

TEST(each_kind_of_host_dies_by_its_own_rule)
{
	static const struct {
		uint32_t io_timeout_s, fence_ms;
		uint64_t ms;
	} table[] = {
		{ 10, 0, 140000 },
		{ 1, 0, 68000 },
		{ 0, 0, 140000 },
		{ 255, 0, 2100000 },
		{ 10, 3000, 3287 },
		{ 1, 1600, 1800 },
		{ 10, 60000, 63850 },
		{ 10, 299, 140000 }, /* nobody fences as fast as that */
		{ 10, UINT32_MAX, 4294967295ULL + 268435455 + 100 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct hf_lease_slot s = slot(1, 1, table[i].fence_ms);

		s.io_timeout_s = table[i].io_timeout_s;
		CHECK_EQ(hf_lease_dead_after_ns(&s), table[i].ms * MS_NS);
	}
}

TEST(standing_still_counts_from_the_end_of_one_read_to_the_issue_of_another)
{
	struct hf_lease_slot s = slot(4, 50, 3000);
	struct hf_lease_sight sight = { .is_seen = false };
	uint64_t first_ns = 2 * S_NS, dead_ns = hf_lease_dead_after_ns(&s);

	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_UNKNOWN);
	/* a read that takes a second shows what may have been written at its end */
	hf_lease_sight_update(&sight, &s, S_NS, first_ns);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_ALIVE);
	/* ... and one that ends late shows what stood there when it was issued */
	hf_lease_sight_update(&sight, &s, first_ns + dead_ns - 1, first_ns + 10 * dead_ns);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_ALIVE);
	hf_lease_sight_update(&sight, &s, first_ns + dead_ns, first_ns + dead_ns + 5);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_DEAD);
	/* reported out of order: ignored */
	s.timestamp_s = 49;
	hf_lease_sight_update(&sight, &s, first_ns, first_ns + 1);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_DEAD);
}

TEST(any_change_is_a_sign_of_life)
{
	for (int what = 0; what < 7; what++) {
		struct hf_lease_slot s = slot(4, 50, 3000);
		struct hf_lease_sight sight = { .is_seen = false };

		hf_lease_sight_update(&sight, &s, S_NS, S_NS);
		s.timestamp_s += what == 0;
		s.extra.sequence += what == 1;
		s.extra.instance += what == 2;
		s.extra.fence_ms += what == 3;
		s.io_timeout_s += what == 4;
		s.host_name[0] = what == 5 ? 'b' : 'a';
		s.timestamp_s -= what == 6; /* a late write of an older one */
		hf_lease_sight_update(&sight, &s, 100 * S_NS, 100 * S_NS);
		CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_ALIVE);
		CHECK_EQ(sight.first_seen_ns, 100 * S_NS);
	}
}

TEST(evidence_has_to_be_younger_than_what_it_is_for)
{
	struct hf_lease_slot s = slot(4, 50, 3000);
	struct hf_lease_sight sight = { .is_seen = false };

	hf_lease_sight_update(&sight, &s, S_NS, S_NS);
	hf_lease_sight_update(&sight, &s, 9 * S_NS, 10 * S_NS);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 9 * S_NS), HF_LEASE_LIFE_DEAD);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 9 * S_NS + 1), HF_LEASE_LIFE_UNKNOWN);
	CHECK_EQ(hf_lease_life(&sight, 3, 3, 9 * S_NS + 1), HF_LEASE_LIFE_UNKNOWN);
}

TEST(gone_is_who_left_or_came_back_later)
{
	static const struct {
		uint64_t slot_generation, timestamp_s, slot_owner, generation;
		enum hf_lease_life life;
	} table[] = {
		{ 4, 50, 3, 4, HF_LEASE_LIFE_ALIVE },
		{ 4, 0, 3, 4, HF_LEASE_LIFE_GONE }, /* has left */
		{ 3, 50, 3, 4, HF_LEASE_LIFE_ALIVE }, /* an older record landed late */
		{ 3, 0, 3, 4, HF_LEASE_LIFE_ALIVE }, /* ... also that of leaving */
		{ 0, 0, 0, 4, HF_LEASE_LIFE_ALIVE }, /* made anew: by time only */
		{ 4, 50, 2, 4, HF_LEASE_LIFE_GONE },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct hf_lease_slot s = slot(table[i].slot_generation, table[i].timestamp_s, 3000);
		struct hf_lease_sight sight = { .is_seen = false };

		s.owner = table[i].slot_owner;
		hf_lease_sight_update(&sight, &s, S_NS, 2 * S_NS);
		CHECK_EQ(hf_lease_life(&sight, 3, table[i].generation, 0), table[i].life);
		if (table[i].life != HF_LEASE_LIFE_ALIVE)
			continue;
		hf_lease_sight_update(&sight, &s, 6 * S_NS, 6 * S_NS);
		CHECK_EQ(hf_lease_life(&sight, 3, table[i].generation, 0), HF_LEASE_LIFE_DEAD);
	}
}

TEST(a_later_generation_is_a_claim_until_it_has_stood_for_as_long_as_it_takes)
{
	for (int is_sanlock = 0; is_sanlock < 2; is_sanlock++) {
		struct hf_lease_slot s = slot(4, 50, is_sanlock ? 0 : 3000);
		struct hf_lease_sight sight = { .is_seen = false };
		uint64_t now_ns = S_NS;

		hf_lease_sight_update(&sight, &s, now_ns, now_ns);
		s.generation = 5;
		for (; now_ns < 4200 * MS_NS; now_ns += 500 * MS_NS) {
			s.extra.sequence++; /* it is renewed all the time */
			hf_lease_sight_update(&sight, &s, now_ns, now_ns);
			CHECK_EQ(hf_lease_life(&sight, 3, 4, 0),
				 is_sanlock ? HF_LEASE_LIFE_GONE : HF_LEASE_LIFE_ALIVE);
		}
		now_ns = S_NS + hf_lease_dead_after_ns(&s);
		hf_lease_sight_update(&sight, &s, now_ns, now_ns);
		CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_GONE);
	}
}

/* ---- fenced ---- */

#define NAME "host-a"

/* Seen at 1 s, in generation 4, and renewed since until 10 s. */
static struct hf_lease_sight member(void)
{
	struct hf_lease_slot s = slot(4, 50, 3000);
	struct hf_lease_sight sight = { .is_seen = false };

	memcpy(s.host_name, NAME, sizeof(NAME));
	for (uint64_t now_ns = S_NS; now_ns <= 10 * S_NS; now_ns += 500 * MS_NS) {
		s.extra.sequence++;
		hf_lease_sight_update(&sight, &s, now_ns, now_ns + 1);
	}
	return sight;
}

TEST(a_fenced_host_is_dead_as_soon_as_its_slot_was_read_again)
{
	struct hf_lease_sight sight = member();
	struct hf_lease_slot same = sight.slot;

	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, 9 * S_NS, 10100 * MS_NS),
		 HF_LEASE_FENCING_TAKEN);
	CHECK(hf_lease_is_fenced(&sight, 3, 4));
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_ALIVE);
	/* a read that was issued before we knew shows nothing */
	hf_lease_sight_update(&sight, &same, 10100 * MS_NS, 10200 * MS_NS);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_ALIVE);
	hf_lease_sight_update(&sight, &same, 10101 * MS_NS, 10200 * MS_NS);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_DEAD);
	/* only for who was fenced, and not by older evidence */
	CHECK_EQ(hf_lease_life(&sight, 3, 5, 0), HF_LEASE_LIFE_ALIVE);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 10102 * MS_NS), HF_LEASE_LIFE_UNKNOWN);
}

TEST(a_last_renewal_may_show_after_the_fencing_but_not_two)
{
	struct hf_lease_sight sight = member();
	struct hf_lease_slot s = sight.slot;

	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, 9 * S_NS, 10 * S_NS + 1),
		 HF_LEASE_FENCING_TAKEN);
	s.extra.sequence++;
	hf_lease_sight_update(&sight, &s, 11 * S_NS, 11 * S_NS);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_DEAD);
	s.extra.sequence++;
	hf_lease_sight_update(&sight, &s, 12 * S_NS, 12 * S_NS);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_ALIVE);
	CHECK(!hf_lease_is_fenced(&sight, 3, 4));
	/* back to the timers */
	hf_lease_sight_update(&sight, &s, 16 * S_NS, 16 * S_NS);
	CHECK_EQ(hf_lease_life(&sight, 3, 4, 0), HF_LEASE_LIFE_DEAD);
}

TEST(whoever_joins_after_the_fencing_is_not_dead_by_it)
{
	for (int what = 0; what < 3; what++) {
		struct hf_lease_sight sight = member();
		struct hf_lease_slot s = sight.slot;

		(void)hf_lease_sight_fenced(&sight, NAME, 9 * S_NS, 10 * S_NS + 1);
		s.generation += what == 0;
		s.extra.instance += what == 1;
		s.timestamp_s = what == 2 ? 0 : s.timestamp_s;
		hf_lease_sight_update(&sight, &s, 11 * S_NS, 11 * S_NS);
		hf_lease_sight_update(&sight, &s, 12 * S_NS, 12 * S_NS);
		CHECK(!hf_lease_is_fenced(&sight, 3, s.generation));
		CHECK(hf_lease_life(&sight, 3, s.generation, 0) != HF_LEASE_LIFE_DEAD);
	}
}

TEST(a_proof_that_may_be_older_than_the_generation_is_none)
{
	struct hf_lease_sight sight = member();

	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, S_NS + 1, 11 * S_NS),
		 HF_LEASE_FENCING_TOO_NEW);
	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, S_NS, 11 * S_NS), HF_LEASE_FENCING_TOO_NEW);
	CHECK_EQ(sight.fenced_ns, 0);
	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, S_NS + 2, 11 * S_NS), HF_LEASE_FENCING_TAKEN);
}

TEST(nobody_and_strangers_are_not_fenced)
{
	struct hf_lease_sight sight = { .is_seen = false };
	struct hf_lease_slot s = slot(4, 50, 0);

	memcpy(s.host_name, NAME, sizeof(NAME));
	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, 1, 2), HF_LEASE_FENCING_NO_HOST);
	hf_lease_sight_update(&sight, &s, S_NS, S_NS);
	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, 9 * S_NS, 9 * S_NS), HF_LEASE_FENCING_FOREIGN);
	CHECK_EQ(hf_lease_sight_fenced(&sight, "host", 9 * S_NS, 9 * S_NS),
		 HF_LEASE_FENCING_OTHER_NAME);
	CHECK_EQ(hf_lease_sight_fenced(&sight, "host-ab", 9 * S_NS, 9 * S_NS),
		 HF_LEASE_FENCING_OTHER_NAME);
	s = slot(4, 0, 3000);
	hf_lease_sight_update(&sight, &s, 2 * S_NS, 2 * S_NS);
	CHECK_EQ(hf_lease_sight_fenced(&sight, NAME, 9 * S_NS, 9 * S_NS), HF_LEASE_FENCING_NO_HOST);
	for (int i = HF_LEASE_FENCING_TAKEN; i <= HF_LEASE_FENCING_FOREIGN; i++)
		CHECK(strlen(hf_lease_fencing_text((enum hf_lease_fencing)i)) > 5);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bytes.h"
#include "codec/delta.h"

#define STATE_BYTES 300007

static uint8_t prev[STATE_BYTES], cur[STATE_BYTES], back[STATE_BYTES], patch[STATE_BYTES];

static void make_states(void)
{
	uint32_t seed = 1;

	for (size_t i = 0; i < STATE_BYTES; i++)
		prev[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
	memcpy(cur, prev, STATE_BYTES);
}

/* Returns the patch's length. */
static size_t round_trip(size_t prev_len, size_t cur_len)
{
	size_t len = 0, back_len = 0;
	struct hf_err err = { "" };

	CHECK_EQ(hf_delta_encode(prev, prev_len, cur, cur_len, patch, sizeof(patch), &len), 0);
	memset(back, 0xee, sizeof(back));
	CHECK_EQ(hf_delta_apply(prev, prev_len, patch, len, back, sizeof(back), &back_len, &err),
		 0);
	CHECK_EQ(back_len, cur_len);
	CHECK(memcmp(back, cur, cur_len) == 0);
	return len;
}

TEST(equal_states_cost_a_header)
{
	make_states();
	CHECK_EQ(round_trip(STATE_BYTES, STATE_BYTES), 8);
	CHECK_EQ(round_trip(0, 0), 8);
}

TEST(a_byte_costs_a_block)
{
	make_states();
	cur[1000] ^= 1;
	CHECK_EQ(round_trip(STATE_BYTES, STATE_BYTES), 8 + 12 + 512);
	CHECK_EQ(hf_le64_get(patch), STATE_BYTES);
	CHECK_EQ(hf_le64_get(patch + 8), 512);
	CHECK_EQ(hf_le32_get(patch + 16), 512);
}

TEST(neighbours_share_a_record)
{
	make_states();
	cur[511] ^= 1;
	cur[512] ^= 1;
	cur[1535] ^= 1;
	CHECK_EQ(round_trip(STATE_BYTES, STATE_BYTES), 8 + 12 + 3 * 512);
}

TEST(the_first_and_the_last_byte)
{
	make_states();
	cur[0] ^= 1;
	cur[STATE_BYTES - 1] ^= 1;
	CHECK_EQ(round_trip(STATE_BYTES, STATE_BYTES), 8 + 12 + 512 + 12 + STATE_BYTES % 512);
}

TEST(lengths_may_differ)
{
	static const size_t lengths[] = { 0,    1,    511,  512,   513,
					  1023, 1024, 1025, 99999, STATE_BYTES - 2000 };

	make_states();
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		for (size_t k = 0; k < sizeof(lengths) / sizeof(*lengths); k++)
			round_trip(lengths[i], lengths[k]);
}

TEST(a_delta_that_is_no_gain_is_not_made)
{
	size_t len = 99;

	make_states();
	for (size_t i = 0; i < STATE_BYTES; i++)
		cur[i] ^= 1;
	CHECK_EQ(hf_delta_encode(prev, STATE_BYTES, cur, STATE_BYTES, patch, STATE_BYTES, &len),
		 HF_DELTA_TOO_LONG);
	CHECK_EQ(hf_delta_encode(prev, STATE_BYTES, prev, STATE_BYTES, patch, 7, &len),
		 HF_DELTA_TOO_LONG);
	CHECK_EQ(len, 99);
}

struct bad {
	unsigned int at, bytes;
	uint64_t value;
	const char *says;
};

/* The patch: length 2000 at 0; a record for 512..1023 at 8; one for 1536..1999 at 532. */
static const struct bad bad_patches[] = {
	{ 0, 8, 2001, "announces a state of 2001 bytes" },
	{ 0, 8, UINT64_MAX, "announces a state of" },
	{ 0, 8, 1999, "a record of 464 bytes at 1536 of 1999" },
	{ 0, 8, 0, "a record of 512 bytes at 512 of 0" },
	{ 8, 8, 1489, "a record of 512 bytes at 1489" },
	{ 8, 8, UINT64_MAX, "a record of 512 bytes" },
	{ 8, 8, UINT64_MAX - 511, "a record of 512 bytes" },
	{ 8, 8, 1025, "a record of 464 bytes at 1536 of 2000" },
	{ 16, 4, 0, "a record of 0 bytes" },
	{ 16, 4, UINT32_MAX, "a record of 4294967295 bytes" },
	{ 532, 8, 1023, "a record of 464 bytes at 1023" },
	{ 540, 4, 465, "a record of 465 bytes" },
	{ 540, 4, 463, "ends inside a record" },
};

static size_t small_patch(void)
{
	size_t len = 0;

	make_states();
	cur[600] ^= 1;
	cur[1999] ^= 1;
	CHECK_EQ(hf_delta_encode(prev, 2000, cur, 2000, patch, sizeof(patch), &len), 0);
	CHECK_EQ(len, 8 + 12 + 512 + 12 + 464);
	return len;
}

TEST(bad_patches_are_refused)
{
	for (size_t i = 0; i < sizeof(bad_patches) / sizeof(*bad_patches); i++) {
		size_t len = small_patch(), back_len = 99;
		const struct bad *b = &bad_patches[i];
		struct hf_err err = { "accepted" };
		uint8_t le[8];

		hf_le64_put(le, b->value);
		memcpy(patch + b->at, le, b->bytes);
		CHECK_EQ(hf_delta_apply(prev, 2000, patch, len, back, 2000, &back_len, &err),
			 -EBADMSG);
		CHECK_CONTAINS(err.text, b->says);
		CHECK_EQ(back_len, 99);
	}
}

/* Cut at a record's border it is a shorter patch: the checksum of the result finds that one. */
TEST(truncations_never_pass_for_the_whole)
{
	size_t full = small_patch();

	for (size_t len = 0; len < full; len++) {
		uint8_t *exact = malloc(len + !len), *out = malloc(2000);
		size_t back_len = 0;
		int r;

		CHECK(exact && out);
		memcpy(exact, patch, len);
		r = hf_delta_apply(prev, 2000, exact, len, out, 2000, &back_len, NULL);
		CHECK_EQ(r, len == 8 || len == 532 ? 0 : -EBADMSG);
		if (r == 0)
			CHECK(memcmp(out, cur, 2000) != 0);
		free(exact);
		free(out);
	}
}

TEST(the_result_must_fit)
{
	size_t len = small_patch(), back_len;

	CHECK_EQ(hf_delta_apply(prev, 2000, patch, len, back, 1999, &back_len, NULL), -EBADMSG);
	CHECK_EQ(hf_delta_apply(prev, 2000, patch, len, back, 2000, &back_len, NULL), 0);
}

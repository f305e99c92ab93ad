/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pattern.h"

#include "../test.h"

TEST(any_offset_gives_the_same_bytes)
{
	uint8_t whole[256], part[64];

	hf_pattern_fill(whole, sizeof(whole), 42, 0);
	for (size_t at = 0; at < 32; at++) {
		for (size_t len = 0; len <= sizeof(part); len++) {
			memset(part, 0, sizeof(part));
			hf_pattern_fill(part, len, 42, at);
			CHECK(memcmp(part, whole + at, len) == 0);
			CHECK_EQ(hf_pattern_match(whole + at, len, 42, at), len);
		}
	}
}

TEST(the_first_wrong_byte_is_found)
{
	uint8_t buf[100];

	for (size_t at = 0; at < 8; at++) {
		for (size_t bad = 0; bad < sizeof(buf); bad++) {
			hf_pattern_fill(buf, sizeof(buf), 7, at);
			buf[bad] ^= 0x10;
			CHECK_EQ(hf_pattern_match(buf, sizeof(buf), 7, at), bad);
		}
	}
}

TEST(seeds_give_different_streams)
{
	uint8_t buf[64];

	hf_pattern_fill(buf, sizeof(buf), 1, 0);
	CHECK(hf_pattern_match(buf, sizeof(buf), 2, 0) < 8);
	CHECK(hf_pattern_match(buf, sizeof(buf), 1, 8) < 8);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bitmap.h"

/* Sizes on both sides of each word boundary. */
static const uint64_t sizes[] = { 0, 1, 63, 64, 65, 127, 128, 129, 1000 };

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* The map against a plain array of bytes, which is too simple to be wrong in the same way. */
static void compare(const struct hf_bitmap *b, const uint8_t *oracle)
{
	uint64_t count = 0, at = 0, first, n;

	for (uint64_t i = 0; i < b->n_bits; i++) {
		CHECK_EQ(hf_bitmap_test(b, i), oracle[i]);
		count += oracle[i];
	}
	CHECK_EQ(hf_bitmap_count(b), count);
	while (hf_bitmap_next_set_run(b, at, &first, &n)) {
		CHECK(n > 0 && first >= at);
		for (; at < first; at++)
			CHECK_EQ(oracle[at], 0);
		for (; at < first + n; at++)
			CHECK_EQ(oracle[at], 1);
		CHECK(at == b->n_bits || !oracle[at]);
	}
	for (; at < b->n_bits; at++)
		CHECK_EQ(oracle[at], 0);
}

TEST(agrees_with_an_array_of_bytes)
{
	uint32_t seed = 7;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint64_t size = sizes[s];
		uint8_t oracle[1000] = { 0 };
		struct hf_bitmap b;

		CHECK_EQ(hf_bitmap_init(&b, size), 0);
		compare(&b, oracle);
		for (int round = 0; round < 40; round++) {
			uint64_t first = next_random(&seed) % (size + 1);
			uint64_t n = next_random(&seed) % (size - first + 1);

			if (round == 20) {
				hf_bitmap_clear_all(&b);
				memset(oracle, 0, sizeof(oracle));
			}
			n = round % 3 ? n % 5 : n;
			hf_bitmap_set_range(&b, first, n);
			memset(oracle + first, 1, n);
			compare(&b, oracle);
		}
		hf_bitmap_fini(&b);
	}
}

TEST(whole_range_is_one_run)
{
	struct hf_bitmap b;
	uint64_t first, n;

	CHECK_EQ(hf_bitmap_init(&b, 130), 0);
	hf_bitmap_set_range(&b, 0, 130);
	CHECK_EQ(hf_bitmap_count(&b), 130);
	CHECK(hf_bitmap_next_set_run(&b, 0, &first, &n));
	CHECK_EQ(first, 0);
	CHECK_EQ(n, 130);
	CHECK(hf_bitmap_next_set_run(&b, 100, &first, &n));
	CHECK_EQ(first, 100);
	CHECK_EQ(n, 30);
	first = n = 77;
	CHECK(!hf_bitmap_next_set_run(&b, 130, &first, &n));
	CHECK(!hf_bitmap_next_set_run(&b, UINT64_MAX, &first, &n));
	CHECK_EQ(first, 77);
	CHECK_EQ(n, 77);
	hf_bitmap_fini(&b);
}

TEST(or_into_adds_and_keeps)
{
	struct hf_bitmap a, b;

	CHECK_EQ(hf_bitmap_init(&a, 200), 0);
	CHECK_EQ(hf_bitmap_init(&b, 200), 0);
	hf_bitmap_set_range(&a, 10, 60);
	hf_bitmap_set_range(&b, 65, 70);
	hf_bitmap_or_into(&a, &b);
	CHECK_EQ(hf_bitmap_count(&a), 125);
	CHECK_EQ(hf_bitmap_count(&b), 70);
	CHECK(hf_bitmap_test(&a, 10) && hf_bitmap_test(&a, 134));
	CHECK(!hf_bitmap_test(&a, 9) && !hf_bitmap_test(&a, 135));
	hf_bitmap_fini(&a);
	hf_bitmap_fini(&b);
}

TEST(refuses_an_absurd_size_and_survives_double_fini)
{
	struct hf_bitmap b = { .n_bits = 5 };

	CHECK_EQ(hf_bitmap_init(&b, HF_BITMAP_MAX_BITS + 1), -EINVAL);
	CHECK_EQ(hf_bitmap_init(&b, UINT64_MAX), -EINVAL);
	CHECK_EQ(b.n_bits, 5);
	CHECK_EQ(hf_bitmap_init(&b, 64), 0);
	hf_bitmap_fini(&b);
	hf_bitmap_fini(&b);
	hf_bitmap_fini(NULL);
}

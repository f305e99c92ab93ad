/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/bitmap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t n_words(const struct hf_bitmap *b)
{
	return (b->n_bits + 63) / 64;
}

int hf_bitmap_init(struct hf_bitmap *b, uint64_t n_bits)
{
	struct hf_bitmap fresh = { .n_bits = n_bits };

	if (n_bits > HF_BITMAP_MAX_BITS)
		return -EINVAL;
	/* One word even for no bits: then "words is NULL" always means "not initialised". */
	fresh.words = calloc(n_bits ? n_words(&fresh) : 1, sizeof(uint64_t));
	if (!fresh.words)
		return -ENOMEM;
	*b = fresh;
	return 0;
}

void hf_bitmap_fini(struct hf_bitmap *b)
{
	if (!b)
		return;
	free(b->words);
	*b = (struct hf_bitmap){ 0 };
}

/* Bits from @low up to and including @high of one word. */
static uint64_t mask_of(uint64_t low, uint64_t high)
{
	return (UINT64_MAX << low) & (UINT64_MAX >> (63 - high));
}

void hf_bitmap_set_range(struct hf_bitmap *b, uint64_t first, uint64_t n)
{
	uint64_t last, word;

	assert(first <= b->n_bits);
	assert(n <= b->n_bits - first);
	if (n == 0)
		return;
	last = first + n - 1;
	word = first / 64;
	if (word == last / 64) {
		b->words[word] |= mask_of(first % 64, last % 64);
		return;
	}
	b->words[word++] |= mask_of(first % 64, 63);
	for (; word < last / 64; word++)
		b->words[word] = UINT64_MAX;
	b->words[word] |= mask_of(0, last % 64);
}

bool hf_bitmap_test(const struct hf_bitmap *b, uint64_t bit)
{
	assert(bit < b->n_bits);
	return b->words[bit / 64] >> (bit % 64) & 1;
}

void hf_bitmap_clear_all(struct hf_bitmap *b)
{
	if (b->n_bits)
		memset(b->words, 0, n_words(b) * sizeof(uint64_t));
}

uint64_t hf_bitmap_count(const struct hf_bitmap *b)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < n_words(b); i++)
		count += (uint64_t)__builtin_popcountll(b->words[i]);
	return count;
}

/* The first bit at or after @from that differs from those of @flip; n_bits when there is none. */
static uint64_t find(const struct hf_bitmap *b, uint64_t from, uint64_t flip)
{
	uint64_t word, bits;

	if (from >= b->n_bits)
		return b->n_bits;
	word = from / 64;
	bits = (b->words[word] ^ flip) & mask_of(from % 64, 63);
	while (!bits) {
		if (++word == n_words(b))
			return b->n_bits;
		bits = b->words[word] ^ flip;
	}
	word = word * 64 + (uint64_t)__builtin_ctzll(bits);
	return word < b->n_bits ? word : b->n_bits;
}

bool hf_bitmap_next_set_run(const struct hf_bitmap *b, uint64_t from, uint64_t *ret_first,
			    uint64_t *ret_n)
{
	uint64_t first = find(b, from, 0);

	if (first == b->n_bits)
		return false;
	*ret_first = first;
	*ret_n = find(b, first, UINT64_MAX) - first;
	return true;
}

void hf_bitmap_or_into(struct hf_bitmap *to, const struct hf_bitmap *from)
{
	assert(to->n_bits == from->n_bits);
	for (uint64_t i = 0; i < n_words(to); i++)
		to->words[i] |= from->words[i];
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A fixed-size set of small integers, one bit each: which pages of a guest. Layer: base. No locks:
 * several threads may set bits at once only where no two of them touch the same 64-bit word (the
 * same bit number divided by 64).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* 2^36 pages of 4 KiB are 256 TiB of guest: more is a mistake in somebody's arithmetic. */
#define HF_BITMAP_MAX_BITS (1ull << 36)

/* All zero is a valid empty set of no bits. @words is owned by the bitmap; bits of the last word at
 * n_bits and above are always 0. */
struct hf_bitmap {
	uint64_t *words;
	uint64_t n_bits;
};

/**
 * hf_bitmap_init() - an empty set for the numbers 0 .. n_bits - 1
 * Allocates. @b is written only on success.
 * Return: 0; -EINVAL: more than HF_BITMAP_MAX_BITS; -ENOMEM.
 */
int hf_bitmap_init(struct hf_bitmap *b, uint64_t n_bits) HF_MUST_CHECK;

/* Takes NULL, a zeroed one, and one already finished. */
void hf_bitmap_fini(struct hf_bitmap *b);

/* Adds first .. first + n - 1, all of which must lie inside the set (asserted). */
void hf_bitmap_set_range(struct hf_bitmap *b, uint64_t first, uint64_t n);

/* @bit must lie inside the set (asserted). */
bool hf_bitmap_test(const struct hf_bitmap *b, uint64_t bit);

void hf_bitmap_clear_all(struct hf_bitmap *b);

/* How many bits are set. Reads the whole map: O(n_bits / 64). */
uint64_t hf_bitmap_count(const struct hf_bitmap *b);

/**
 * hf_bitmap_next_set_run() - the first run of set bits at or after @from
 * @from: may be n_bits (or more): then there is none
 * @ret_first, @ret_n: touched only when there is one; the run is as long as it can be, and starts
 *                     at @from when @from lies inside a run
 * Return: whether there is one. To walk all runs, begin at 0 and go on at *ret_first + *ret_n.
 */
bool hf_bitmap_next_set_run(const struct hf_bitmap *b, uint64_t from, uint64_t *ret_first,
			    uint64_t *ret_n);

/* Adds everything in @from to @to. Both must be of the same size (asserted). */
void hf_bitmap_or_into(struct hf_bitmap *to, const struct hf_bitmap *from);

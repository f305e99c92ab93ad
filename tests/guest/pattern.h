/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The byte stream both sides of a test can compute: byte n depends on a seed and on n alone, so a
 * lost, repeated, swapped or stale byte is seen wherever it happens, and any offset can be made
 * without making what lies before it. Any thread. Shared by the guest and by tests/lab.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
 * generators", OOPSLA 2014). */
static inline uint64_t hf_pattern_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline uint64_t hf_pattern_word(uint64_t seed, uint64_t index)
{
	return hf_pattern_mix(seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

static inline uint8_t hf_pattern_byte(uint64_t seed, uint64_t offset)
{
	return (uint8_t)(hf_pattern_word(seed, offset / 8) >> (offset % 8 * 8));
}

/* Write bytes [@offset, @offset + @len) of the stream of @seed to @buf. */
static inline void hf_pattern_fill(uint8_t *buf, size_t len, uint64_t seed, uint64_t offset)
{
	while (len > 0 && offset % 8 != 0) {
		*buf++ = hf_pattern_byte(seed, offset++);
		len--;
	}
	for (; len >= 8; buf += 8, len -= 8, offset += 8)
		hf_le64_put(buf, hf_pattern_word(seed, offset / 8));
	while (len > 0) {
		*buf++ = hf_pattern_byte(seed, offset++);
		len--;
	}
}

/* How many bytes at the start of @buf are right: @len when all are. */
static inline size_t hf_pattern_match(const uint8_t *buf, size_t len, uint64_t seed,
				      uint64_t offset)
{
	size_t n = 0;

	for (; n < len && (offset + n) % 8 != 0; n++)
		if (buf[n] != hf_pattern_byte(seed, offset + n))
			return n;
	while (len - n >= 8 && hf_le64_get(buf + n) == hf_pattern_word(seed, (offset + n) / 8))
		n += 8;
	for (; n < len; n++)
		if (buf[n] != hf_pattern_byte(seed, offset + n))
			return n;
	return n;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which part of a disk is where: a map from ranges to the place of their newest content. Layer: disk.
 * No locks. Allocates nodes; a set of ranges never overlaps. Used for what the log holds and the image
 * does not (the overlay), and for leaving out of a batch what it overwrites itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A range and its content: zeros, or bytes at a place that the owner of the map understands. */
struct hf_extent {
	uint64_t offset_bytes;
	uint64_t length_bytes; /* > 0 */
	bool is_zero;
	uint64_t
		place; /* of the first byte; grows with the offset when a range is cut. Zeros: the owner's
			 * own, never changed */
	uint64_t serial; /* of whoever set it; later ones win */
};

struct hf_extents;

int hf_extents_new(struct hf_extents **ret) HF_MUST_CHECK;
/* Takes NULL. */
void hf_extents_free(struct hf_extents *x);
/* Makes room so that the next @n hf_extents_set() cannot fail. -ENOMEM. */
int hf_extents_reserve(struct hf_extents *x, size_t n) HF_MUST_CHECK;
/* Replaces whatever was in the range. Cannot fail after hf_extents_reserve(). O(log n) and what it replaces. */
void hf_extents_set(struct hf_extents *x, const struct hf_extent *e);
/* Removes those parts of the range that still have this @serial: what came later stays. A range that lies
 * inside one extent cuts it in two: then it needs hf_extents_reserve(1) like a set. */
void hf_extents_drop(struct hf_extents *x, uint64_t offset_bytes, uint64_t length_bytes,
		     uint64_t serial);
/* The first extent, cut to the range, at or after @offset and before @end; false: none. */
bool hf_extents_find(const struct hf_extents *x, uint64_t offset_bytes, uint64_t end_bytes,
		     struct hf_extent *ret);
void hf_extents_clear(struct hf_extents *x);
uint64_t hf_extents_count(const struct hf_extents *x);

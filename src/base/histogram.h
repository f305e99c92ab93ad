/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Quantiles of a duration or a size, in fixed memory. Layer: base. One thread per histogram.
 *
 * Buckets grow geometrically, 16 to each power of two, so a quantile is within 1/16 of the truth.
 */
#pragma once

#include <stdint.h>

#define HF_HISTOGRAM_SUB 16
#define HF_HISTOGRAM_BUCKETS (HF_HISTOGRAM_SUB * 61)

/* All zero is a valid empty histogram. The unit is whatever the caller adds. */
struct hf_histogram {
	uint64_t count;
	uint64_t max;
	uint64_t sum;
	uint32_t bucket[HF_HISTOGRAM_BUCKETS];
};

void hf_histogram_add(struct hf_histogram *h, uint64_t value);

/* The value below or at which @permille thousandths of all values lie; 0 when empty. */
uint64_t hf_histogram_quantile(const struct hf_histogram *h, unsigned int permille);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/histogram.h"

#include <assert.h>

static unsigned int bucket_of(uint64_t v)
{
	unsigned int shift;

	if (v < HF_HISTOGRAM_SUB)
		return (unsigned int)v;
	shift = 59 - (unsigned int)__builtin_clzll(v);
	return (shift + 1) * HF_HISTOGRAM_SUB + (unsigned int)(v >> shift & (HF_HISTOGRAM_SUB - 1));
}

/* The largest value that falls into bucket @b. */
static uint64_t upper_end(unsigned int b)
{
	unsigned int shift;

	if (b < HF_HISTOGRAM_SUB)
		return b;
	shift = b / HF_HISTOGRAM_SUB - 1;
	return ((uint64_t)(HF_HISTOGRAM_SUB + b % HF_HISTOGRAM_SUB) << shift) +
	       (((uint64_t)1 << shift) - 1);
}

void hf_histogram_add(struct hf_histogram *h, uint64_t value)
{
	unsigned int b = bucket_of(value);

	assert(b < HF_HISTOGRAM_BUCKETS);
	h->bucket[b]++;
	h->count++;
	h->sum += value;
	if (value > h->max)
		h->max = value;
}

uint64_t hf_histogram_quantile(const struct hf_histogram *h, unsigned int permille)
{
	uint64_t rank = (h->count * permille + 999) / 1000;
	uint64_t seen = 0;

	assert(permille <= 1000);
	if (!h->count)
		return 0;
	for (unsigned int b = 0; b < HF_HISTOGRAM_BUCKETS; b++) {
		seen += h->bucket[b];
		if (seen && seen >= rank)
			return upper_end(b) < h->max ? upper_end(b) : h->max;
	}
	return h->max;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/delta.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"

enum { HEADER_BYTES = 8, RECORD_BYTES = 12 };

struct patch {
	uint8_t *buf;
	size_t size, used;
};

/* What lies beyond the end of the previous state counts as different. */
static bool is_block_same(const uint8_t *prev, size_t prev_len, const uint8_t *cur, size_t at,
			  size_t n)
{
	return at + n <= prev_len && memcmp(prev + at, cur + at, n) == 0;
}

static size_t block_len(size_t total, size_t at)
{
	return total - at < HF_DELTA_BLOCK_BYTES ? total - at : HF_DELTA_BLOCK_BYTES;
}

static bool put_record(struct patch *p, const uint8_t *cur, size_t at, size_t n)
{
	uint8_t *record = p->buf + p->used;

	if (p->size - p->used < RECORD_BYTES + n)
		return false;
	hf_le64_put(record, at);
	hf_le32_put(record + 8, (uint32_t)n);
	memcpy(record + RECORD_BYTES, cur + at, n);
	p->used += RECORD_BYTES + n;
	return true;
}

int hf_delta_encode(const uint8_t *prev, size_t prev_len, const uint8_t *cur, size_t cur_len,
		    uint8_t *patch, size_t patch_size, size_t *ret_len)
{
	struct patch p = { .buf = patch, .size = patch_size, .used = HEADER_BYTES };
	size_t at = 0;

	assert(prev_len <= HF_DELTA_STATE_MAX);
	assert(cur_len <= HF_DELTA_STATE_MAX);
	if (patch_size < HEADER_BYTES)
		return HF_DELTA_TOO_LONG;
	hf_le64_put(patch, cur_len);
	while (at < cur_len) {
		size_t end = at;

		while (end < cur_len &&
		       !is_block_same(prev, prev_len, cur, end, block_len(cur_len, end)))
			end += block_len(cur_len, end);
		if (end > at && !put_record(&p, cur, at, end - at))
			return HF_DELTA_TOO_LONG;
		at = end < cur_len ? end + block_len(cur_len, end) : end;
	}
	*ret_len = p.used;
	return 0;
}

static int check_length(const uint8_t *patch, size_t patch_len, size_t cur_size, size_t *ret_len,
			struct hf_err *err)
{
	uint64_t len;

	if (patch_len < HEADER_BYTES) {
		hf_err_set(err, "a state delta of only %zu bytes", patch_len);
		return -EBADMSG;
	}
	len = hf_le64_get(patch);
	if (len > HF_DELTA_STATE_MAX || len > cur_size) {
		hf_err_set(err, "a state delta announces a state of %" PRIu64 " bytes", len);
		return -EBADMSG;
	}
	*ret_len = (size_t)len;
	return 0;
}

/* One record at @patch; @done is how far the state has been patched, since records ascend. */
static int apply_record(const uint8_t *patch, size_t patch_len, uint8_t *cur, size_t cur_len,
			size_t *done, size_t *ret_used, struct hf_err *err)
{
	uint64_t at;
	size_t n;

	if (patch_len < RECORD_BYTES) {
		hf_err_set(err, "a state delta ends inside a record");
		return -EBADMSG;
	}
	at = hf_le64_get(patch);
	n = hf_le32_get(patch + 8);
	if (n == 0 || at < *done || at > cur_len || n > cur_len - at ||
	    n > patch_len - RECORD_BYTES) {
		hf_err_set(err, "a state delta has a record of %zu bytes at %" PRIu64 " of %zu", n,
			   at, cur_len);
		return -EBADMSG;
	}
	memcpy(cur + at, patch + RECORD_BYTES, n);
	*done = (size_t)at + n;
	*ret_used = RECORD_BYTES + n;
	return 0;
}

static void copy_unchanged(const uint8_t *prev, size_t prev_len, uint8_t *cur, size_t cur_len)
{
	size_t n = prev_len < cur_len ? prev_len : cur_len;

	if (n > 0)
		memcpy(cur, prev, n);
	if (cur_len > n)
		memset(cur + n, 0, cur_len - n);
}

int hf_delta_apply(const uint8_t *prev, size_t prev_len, const uint8_t *patch, size_t patch_len,
		   uint8_t *cur, size_t cur_size, size_t *ret_len, struct hf_err *err)
{
	size_t cur_len, used, done = 0, at = HEADER_BYTES;
	int r = check_length(patch, patch_len, cur_size, &cur_len, err);

	if (r < 0)
		return r;
	copy_unchanged(prev, prev_len, cur, cur_len);
	while (at < patch_len) {
		r = apply_record(patch + at, patch_len - at, cur, cur_len, &done, &used, err);
		if (r < 0)
			return r;
		at += used;
	}
	*ret_len = cur_len;
	return 0;
}

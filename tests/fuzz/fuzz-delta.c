/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two bytes: length of the first part. The two parts are once a state and a patch from a hostile
 * peer, once two states. Whatever a patch yields, the encoder must be able to reproduce it.
 */
#include "fuzz.h"

#include <string.h>

#include "codec/delta.h"

#define CUR_BYTES 65536

static void check_round_trip(const uint8_t *prev, size_t prev_len, const uint8_t *cur,
			     size_t cur_len)
{
	/* One record in every second block is the worst case. */
	size_t size = 8 + cur_len + 12 * (cur_len / HF_DELTA_BLOCK_BYTES + 1), len, back_len;
	uint8_t *patch = malloc(size), *back = malloc(cur_len + !cur_len);

	FUZZ_CHECK(patch && back);
	FUZZ_CHECK(hf_delta_encode(prev, prev_len, cur, cur_len, patch, size, &len) == 0);
	FUZZ_CHECK(hf_delta_apply(prev, prev_len, patch, len, back, cur_len, &back_len, NULL) == 0);
	FUZZ_CHECK(back_len == cur_len);
	FUZZ_CHECK(memcmp(back, cur, cur_len) == 0);
	/* In any smaller buffer it says that it does not fit, and stays inside. */
	uint8_t *tight = malloc(len - 1);

	FUZZ_CHECK(tight);
	FUZZ_CHECK(hf_delta_encode(prev, prev_len, cur, cur_len, tight, len - 1, &len) ==
		   HF_DELTA_TOO_LONG);
	free(tight);
	free(patch);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *cur = malloc(CUR_BYTES);
	struct hf_err err = { "" };
	size_t split, cur_len;

	FUZZ_CHECK(cur);
	if (size >= 2) {
		split = data[0] | (size_t)data[1] << 8;
		data += 2;
		size -= 2;
		split = split < size ? split : size;
		if (hf_delta_apply(data, split, data + split, size - split, cur, CUR_BYTES,
				   &cur_len, &err) == 0)
			check_round_trip(data, split, cur, cur_len);
		else
			FUZZ_CHECK(err.text[0] != '\0');
		check_round_trip(data, split, data + split, size - split);
	}
	free(cur);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's map of the guest's memory: what is taken is all of the RAM, each byte once. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "vm/mtree.h"

#define RAM_BYTES (UINT64_C(8) << 30)
#define PARTS_MAX 4

static void check(const struct hf_ram_part *part, size_t n)
{
	uint64_t sum = 0;

	FUZZ_CHECK(n >= 1 && n <= PARTS_MAX);
	for (size_t i = 0; i < n; i++) {
		FUZZ_CHECK(part[i].bytes > 0 && part[i].offset + part[i].bytes <= RAM_BYTES);
		FUZZ_CHECK(part[i].address + (part[i].bytes - 1) >= part[i].address);
		FUZZ_CHECK(i == 0 || part[i].address >= part[i - 1].address);
		for (size_t k = 0; k < i; k++)
			FUZZ_CHECK(part[i].offset >= part[k].offset + part[k].bytes ||
				   part[k].offset >= part[i].offset + part[i].bytes);
		sum += part[i].bytes;
	}
	FUZZ_CHECK(sum == RAM_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_ram_part part[PARTS_MAX];
	struct hf_err err = { "" };
	size_t n = 0;
	int r = hf_mtree_parse((const char *)data, size, "holdfast-ram", RAM_BYTES, part, PARTS_MAX,
			       &n, &err);

	FUZZ_CHECK(r == 0 || r == -EPROTO || r == -E2BIG);
	FUZZ_CHECK(r == 0 || err.text[0]);
	if (r == 0)
		check(part, n);
	return 0;
}

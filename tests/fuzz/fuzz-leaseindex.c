/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The index of a lease area. The first byte says how large the storage is, and whether sectors are of
 * 4096 bytes. A lease that is found, and room that is, lie whole on the storage and apart from the
 * index; the entry to write is one of the index's and empty.
 */
#include "fuzz.h"

#include <string.h>

#include "lease/index.h"

#define ALIGN ((uint32_t)1 << 20)
#define AREAS_MAX 16u

static uint8_t area[ALIGN];

static void check_place(const struct hf_index_query *q, uint64_t offset)
{
	FUZZ_CHECK(offset % ALIGN == 0);
	FUZZ_CHECK(offset >= q->offset + 2 * (uint64_t)ALIGN);
	FUZZ_CHECK(offset <= q->store_bytes && ALIGN <= q->store_bytes - offset);
}

static void check_room(const struct hf_index_query *q, const struct hf_index_find *find)
{
	static const uint8_t none[8];

	check_place(q, find->free_offset);
	FUZZ_CHECK(find->free_entry_at >= q->geometry->sector_bytes);
	FUZZ_CHECK(find->free_entry_at <= ALIGN - HF_LEASE_INDEX_ENTRY_BYTES);
	FUZZ_CHECK(memcmp(area + find->free_entry_at, none, sizeof(none)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_index_query q = { .space = "space", .offset = ALIGN, .name = "vm" };
	struct hf_lease_geometry geometry;
	struct hf_index_find find;
	struct hf_err err = { "" };
	int r;

	if (size < 1)
		return 0;
	FUZZ_CHECK(hf_lease_geometry_make(data[0] & 0x80 ? 4096 : 512, ALIGN, &geometry, NULL) ==
		   0);
	q.geometry = &geometry;
	q.store_bytes = (uint64_t)(data[0] % AREAS_MAX) * ALIGN;
	memset(area, 0, sizeof(area));
	memcpy(area, data + 1, size - 1 < sizeof(area) ? size - 1 : sizeof(area));
	r = hf_index_search(&q, area, &find, &err);
	FUZZ_CHECK(r == 0 || err.text[0] != '\0');
	if (r == 0 && find.offset != 0)
		check_place(&q, find.offset);
	else if (r == 0 && find.free_offset != 0)
		check_room(&q, &find);
	return 0;
}

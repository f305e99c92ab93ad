/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lease/index.h"

#include <errno.h>

#include "../../tests/test.h"

#define ALIGN ((uint32_t)1 << 20)

static uint8_t area[ALIGN];
static struct hf_lease_geometry geometry;
static struct hf_lease_index header;
static struct hf_index_query query;

/* An empty index behind a lockspace at 0, and room for five leases. */
static void make(uint32_t sector_bytes)
{
	memset(area, 0, sizeof(area));
	CHECK_EQ(hf_lease_geometry_make(sector_bytes, ALIGN, &geometry, NULL), 0);
	header = (struct hf_lease_index){ .geometry = geometry,
					  .max_resources = HF_LEASE_INDEX_RESOURCES,
					  .offset = hf_index_at(&geometry, 0),
					  .space = "space" };
	hf_lease_index_encode(area, &header);
	query = (struct hf_index_query){ .geometry = &geometry,
					 .space = "space",
					 .offset = ALIGN,
					 .store_bytes = 8 * (uint64_t)ALIGN,
					 .name = "vm" };
}

static uint8_t *entry_bytes(uint32_t i)
{
	return area + hf_lease_index_entry_at(&header, i);
}

static void put(uint32_t i, const char *name)
{
	struct hf_lease_index_entry entry = { .offset = hf_lease_index_resource_at(&header, i) };

	(void)snprintf(entry.name, sizeof(entry.name), "%s", name);
	hf_lease_index_entry_encode(entry_bytes(i), &entry);
}

static struct hf_index_find search(void)
{
	struct hf_index_find find;
	struct hf_err err = { "" };

	if (hf_index_search(&query, area, &find, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return find;
}

static void expect_bad(const char *text)
{
	struct hf_index_find find;
	struct hf_err err = { "" };

	CHECK_EQ(hf_index_search(&query, area, &find, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, text);
}

TEST(a_name_is_found_and_so_is_the_first_room)
{
	static const uint32_t sectors[] = { 512, 4096 };

	for (unsigned int n = 0; n < 2; n++) {
		struct hf_index_find find;

		make(sectors[n]);
		find = search();
		CHECK_EQ(find.offset, 0);
		CHECK_EQ(find.free_offset, 3 * ALIGN);
		CHECK_EQ(find.free_entry_at, sectors[n]);
		put(0, "other");
		put(2, "vm");
		CHECK_EQ(search().offset, 5 * ALIGN);
		query.name = "vm2";
		find = search();
		CHECK_EQ(find.offset, 0);
		CHECK_EQ(find.free_offset, 4 * ALIGN);
		CHECK_EQ(find.free_entry_at, sectors[n] + 64);
		put(1, "vm2");
		CHECK_EQ(search().offset, 4 * ALIGN);
	}
}

TEST(a_name_of_48_bytes_is_told_from_its_beginning)
{
	static const char name[] = "0123456789abcdef0123456789abcdef0123456789abcdef";

	make(512);
	put(0, "0123456789abcdef0123456789abcdef0123456789abcde");
	put(1, name);
	query.name = name;
	CHECK_EQ(search().offset, 4 * ALIGN);
}

TEST(room_ends_with_the_entries_or_with_the_storage)
{
	make(512);
	for (uint32_t i = 0; i < 5; i++)
		put(i, "full");
	CHECK_EQ(search().free_offset, 0);
	query.store_bytes += ALIGN;
	CHECK_EQ(search().free_offset, 8 * ALIGN);
	query.store_bytes -= 1;
	CHECK_EQ(search().free_offset, 0);

	make(512);
	header.max_resources = 2;
	hf_lease_index_encode(area, &header);
	put(0, "a");
	CHECK_EQ(search().free_offset, 4 * ALIGN);
	put(1, "b");
	CHECK_EQ(search().free_offset, 0);
	put(2, "vm");
	CHECK_EQ(search().offset, 0);
}

TEST(what_is_not_this_lockspaces_index_is_refused)
{
	make(512);
	query.space = "spac";
	expect_bad("lockspace \"space\"");
	make(512);
	query.offset = 2 * (uint64_t)ALIGN;
	expect_bad("at offset 1048576");
	make(4096);
	CHECK_EQ(hf_lease_geometry_make(512, ALIGN, &geometry, NULL), 0);
	expect_bad("sectors of 4096");
	make(512);
	memset(area, 0, 512);
	expect_bad("index at offset 1048576: ");
	make(512);
	area[0] ^= 1;
	expect_bad("magic");
}

TEST(a_damaged_entry_hides_no_lease_and_is_not_taken_for_room)
{
	make(512);
	put(0, "first");
	entry_bytes(0)[1] = 0xff; /* the offset */
	put(1, "vm");
	CHECK_EQ(search().offset, 4 * ALIGN);
	query.name = "none";
	expect_bad("entry");
}

TEST(a_lease_beyond_the_end_is_refused)
{
	make(512);
	put(5, "vm");
	expect_bad("beyond the end");
}

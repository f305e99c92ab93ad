/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bytes.h"
#include "codec/leasedisk-internal.h"

#define MIB ((uint64_t)1024 * 1024)

static uint8_t sector[4096];
static struct hf_err err;

static struct hf_lease_geometry begin(void)
{
	struct hf_lease_geometry g;

	memset(sector, 0, sizeof(sector));
	CHECK_EQ(hf_lease_geometry_make(512, MIB, &g, &err), 0);
	return g;
}

static const struct hf_lease_block block = {
	.mbal = 2007,
	.bal = 2007,
	.owner = 9,
	.generation = 4,
	.timestamp_s = 5,
	.lver = 6,
};

TEST(block_comes_back)
{
	struct hf_lease_block got, released = block;

	(void)begin();
	hf_lease_block_encode(sector, &block);
	hf_lease_block_decode(sector, &got);
	CHECK(!got.is_damaged && !got.is_released && !got.is_shared);
	CHECK_EQ(got.mbal, 2007);
	CHECK_EQ(got.bal, 2007);
	CHECK_EQ(got.owner, 9);
	CHECK_EQ(got.generation, 4);
	CHECK_EQ(got.timestamp_s, 5);
	CHECK_EQ(got.lver, 6);
	released.is_released = true;
	hf_lease_block_encode(sector, &released);
	hf_lease_block_decode(sector, &got);
	CHECK(got.is_released);
	CHECK_EQ(got.bal, 2007);
}

TEST(block_keeps_the_mode)
{
	struct hf_lease_block got;

	(void)begin();
	hf_le32_put(sector + B_MODE_FLAGS, 1);
	hf_le64_put(sector + B_MODE_GENERATION, 17);
	hf_lease_block_encode(sector, &block);
	hf_lease_block_decode(sector, &got);
	CHECK(got.is_shared);
	CHECK_EQ(got.shared_generation, 17);
}

TEST(block_of_zeros_is_whole)
{
	struct hf_lease_block got = block;

	(void)begin();
	hf_lease_block_decode(sector, &got);
	CHECK(!got.is_damaged);
	CHECK_EQ(got.mbal, 0);
	CHECK_EQ(got.owner, 0);
}

TEST(every_bit_of_a_block_counts)
{
	struct hf_lease_block got;

	(void)begin();
	hf_lease_block_encode(sector, &block);
	for (size_t bit = 0; bit < (size_t)8 * B_FLAGS; bit++) {
		sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
		hf_lease_block_decode(sector, &got);
		CHECK(got.is_damaged);
		CHECK_EQ(got.mbal, 0);
		CHECK_EQ(got.owner, 0);
		sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	memset(sector, 0, B_END);
	sector[B_CHECKSUM] = 1;
	hf_lease_block_decode(sector, &got);
	CHECK(got.is_damaged);
}

static bool is_damaged_with(size_t at, uint64_t value)
{
	struct hf_lease_block got;

	(void)begin();
	hf_lease_block_encode(sector, &block);
	hf_le64_put(sector + at, value);
	hf_le32_put(sector + B_CHECKSUM, hf_lease_checksum(sector, B_CHECKSUM));
	hf_lease_block_decode(sector, &got);
	return got.is_damaged;
}

TEST(block_that_no_ballot_writes_is_damaged)
{
	CHECK(!is_damaged_with(B_MBAL, 2008));
	CHECK(is_damaged_with(B_MBAL, 2006));
	CHECK(!is_damaged_with(B_OWNER, HF_LEASE_HOSTS_MAX));
	CHECK(is_damaged_with(B_OWNER, HF_LEASE_HOSTS_MAX + 1));
	CHECK(is_damaged_with(B_OWNER, 0));
}

TEST(bitmap_has_a_bit_for_each_host)
{
	(void)begin();
	for (uint64_t id = 1; id <= HF_LEASE_HOSTS_MAX; id++) {
		hf_lease_bitmap_set(sector, id, true);
		CHECK(hf_lease_bitmap_has(sector, id));
		CHECK_EQ(sector[256 + (id - 1) / 8], 1 << (id - 1) % 8);
		hf_lease_bitmap_set(sector, id, false);
		CHECK(!hf_lease_bitmap_has(sector, id));
	}
	for (size_t i = 0; i < sizeof(sector); i++)
		CHECK_EQ(sector[i], 0);
}

TEST(request_comes_back)
{
	const struct hf_lease_request request = { 13, HF_LEASE_FORCE_GRACEFUL };
	struct hf_lease_request got;

	(void)begin();
	CHECK_EQ(hf_lease_request_decode(sector, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "magic");
	hf_lease_request_encode(sector, &request);
	sector[20] = 0x56; /* what sanlock leaves there */
	CHECK_EQ(hf_lease_request_decode(sector, &got, &err), 0);
	CHECK_EQ(got.lver, 13);
	CHECK_EQ(got.force, HF_LEASE_FORCE_GRACEFUL);
	sector[Q_FORCE] = 3;
	CHECK_EQ(hf_lease_request_decode(sector, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "mode 3");
	sector[Q_VERSION + 2] = 2;
	CHECK_EQ(hf_lease_request_decode(sector, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "version 2.1");
}

TEST(places_in_an_area)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_index index = { .geometry = g, .offset = 5 * MIB };

	CHECK_EQ(hf_lease_slot_at(&g, 1), 0);
	CHECK_EQ(hf_lease_slot_at(&g, 2000), 1999 * 512);
	CHECK_EQ(hf_lease_request_at(&g), 512);
	CHECK_EQ(hf_lease_block_at(&g, 1), 1024);
	CHECK_EQ(hf_lease_block_at(&g, 2000), 2001 * 512);
	CHECK_EQ(hf_lease_index_entry_at(&index, 8), 1024);
	CHECK_EQ(hf_lease_index_lease_at(&index), 6 * MIB);
	CHECK_EQ(hf_lease_index_resource_at(&index, 2), 9 * MIB);
}

static struct hf_lease_index sample(void)
{
	struct hf_lease_index index = { begin(), HF_LEASE_INDEX_RESOURCES, MIB, "tt" };

	return index;
}

/* The first sector that `sanlock direct format -x tt:FILE:1048576` wrote. */
static const uint8_t sanlocks_index[80] = {
	0x18, 0x20, 0x04, 0x01, 0x02, 0, 0x01, 0,           1,          0,   0,
	0,    0,    2,    0,    0,    0, 0x10, [26] = 0x10, [32] = 't', 't',
};

TEST(index_is_as_sanlock_writes_it)
{
	struct hf_lease_index index = sample(), got;

	hf_lease_index_encode(sector, &index);
	CHECK(memcmp(sector, sanlocks_index, sizeof(sanlocks_index)) == 0);
	CHECK_EQ(hf_lease_index_decode(sector, &got, &err), 0);
	CHECK_EQ(got.geometry.max_hosts, 2000);
	CHECK_EQ(got.max_resources, HF_LEASE_INDEX_RESOURCES);
	CHECK_EQ(got.offset, MIB);
	CHECK_STR(got.space, "tt");
	CHECK_EQ(hf_lease_identify(sector, 512, &got.geometry), HF_LEASE_KIND_INDEX);
	CHECK_EQ(got.geometry.align_bytes, MIB);
}

static void check_index_error(size_t at, uint32_t value, const char *text)
{
	struct hf_lease_index index = sample(), got = { .offset = 77 };

	hf_lease_index_encode(sector, &index);
	hf_le32_put(sector + at, value);
	CHECK_EQ(hf_lease_index_decode(sector, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, text);
	CHECK_EQ(got.offset, 77);
}

TEST(index_errors_say_what)
{
	check_index_error(I_MAGIC, LOCKSPACE_MAGIC, "magic is 0x12212010");
	check_index_error(I_VERSION, 0x00020000, "version 2.0");
	check_index_error(I_FLAGS, 3, "impossible");
	check_index_error(I_SECTOR_BYTES, 1024, "sectors of 1024");
	check_index_error(I_MAX_RESOURCES, 0, "0 entries");
	check_index_error(I_MAX_RESOURCES, 16377, "16377 entries");
	check_index_error(I_OFFSET, MIB + 512, "offset 1049088");
	check_index_error(I_OFFSET + 4, 0x7fffffff, "impossible");
}

TEST(index_entries)
{
	struct hf_lease_index index = sample();
	struct hf_lease_index_entry entry = { 5 * MIB, 0, "vm2" }, got = { .flags = 77 };

	memset(sector, 0xee, sizeof(sector));
	hf_lease_index_entry_encode(sector, &entry);
	CHECK_EQ(sector[HF_LEASE_INDEX_ENTRY_BYTES], 0xee);
	CHECK_EQ(hf_lease_index_entry_decode(sector, &index, 3, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "entry 3 says offset 5242880");
	CHECK_EQ(got.flags, 77);
	CHECK_EQ(hf_lease_index_entry_decode(sector, &index, 2, &got, &err), 0);
	CHECK_EQ(got.offset, 5 * MIB);
	CHECK_EQ(got.flags, 0);
	CHECK_STR(got.name, "vm2");
	sector[E_NAME] = 0;
	CHECK_EQ(hf_lease_index_entry_decode(sector, &index, 2, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "no name");
	entry.offset = 0;
	hf_lease_index_entry_encode(sector, &entry);
	CHECK_EQ(hf_lease_index_entry_decode(sector, &index, 2, &got, &err), 0);
	CHECK_EQ(got.offset, 0);
	CHECK_STR(got.name, "");
}

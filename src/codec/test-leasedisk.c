/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bytes.h"
#include "codec/leasedisk-internal.h"

#define MIB (1024u * 1024)

static uint8_t area[8 * MIB];
static uint8_t sector[4096], before[4096];
static struct hf_err err;

/* With the checksums that sanlock 3.8.5 wrote: `sanlock direct init -s tt:0:FILE:0 -o 3`, and
 * `-r tt:r1:FILE:OFFSET -n 8`, with -Z and -A of the geometry. */
static const struct {
	uint32_t sector_bytes, align_bytes, max_hosts, flags, slot_sum, leader_sum;
} geometries[] = {
	{ 512, MIB, 2000, 0x10, 0xe387a3a9, 0x5f96ea39 },
	{ 4096, MIB, 250, 0x10, 0x83ae5376, 0x664563b7 },
	{ 4096, 2 * MIB, 500, 0x20, 0x5c1fa924, 0x7ff9c5d8 },
	{ 4096, 4 * MIB, 1000, 0x40, 0xe6902b71, 0x4c808906 },
	{ 4096, 8 * MIB, 2000, 0x80, 0x9663592a, 0x2a7210ba },
};

#define N_GEOMETRIES (sizeof(geometries) / sizeof(*geometries))

static struct hf_lease_geometry geometry(size_t i)
{
	struct hf_lease_geometry g;

	CHECK_EQ(hf_lease_geometry_make(geometries[i].sector_bytes, geometries[i].align_bytes, &g,
					&err),
		 0);
	return g;
}

static struct hf_lease_geometry begin(void)
{
	memset(sector, 0, sizeof(sector));
	return geometry(0);
}

static const struct hf_lease_slot slot = {
	.owner = 7,
	.generation = 3,
	.timestamp_s = 1234567,
	.io_timeout_s = 10,
	.host_name = "alpha",
	.extra = { true, 0x1122334455667788, 42, 500, 3000 },
};

static const struct hf_lease_leader leader = {
	.owner = 7,
	.generation = 3,
	.lver = 12,
	.timestamp_s = 99,
	.write_id = 7,
	.write_generation = 3,
	.num_hosts = 8,
};

static void check_slot_error(const struct hf_lease_geometry *g, const char *text)
{
	struct hf_lease_slot got = { .owner = 77 };

	CHECK_EQ(hf_lease_slot_decode(sector, g, 7, "tt", &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, text);
	CHECK_EQ(got.owner, 77);
}

static void check_leader_error(const struct hf_lease_geometry *g, const char *text)
{
	struct hf_lease_leader got = { .owner = 77 };

	CHECK_EQ(hf_lease_leader_decode(sector, g, "tt", "r1", &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, text);
	CHECK_EQ(got.owner, 77);
}

static void fix_checksum(void)
{
	hf_le32_put(sector + R_CHECKSUM, hf_lease_checksum(sector, R_CHECKSUM));
}

TEST(geometry_follows_from_sizes)
{
	struct hf_lease_geometry g = { 1, 2, 3 };

	for (size_t i = 0; i < N_GEOMETRIES; i++)
		CHECK_EQ(geometry(i).max_hosts, geometries[i].max_hosts);
	CHECK_EQ(hf_lease_geometry_make(512, 2 * MIB, &g, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "512");
	CHECK_EQ(hf_lease_geometry_make(4096, 3 * MIB, &g, &err), -EINVAL);
	CHECK_EQ(hf_lease_geometry_make(0, 0, &g, &err), -EINVAL);
	CHECK_EQ(g.max_hosts, 3);
}

TEST(areas_have_the_checksums_sanlock_writes)
{
	for (size_t i = 0; i < N_GEOMETRIES; i++) {
		struct hf_lease_geometry g = geometry(i), found;
		size_t n = g.sector_bytes;

		hf_lease_lockspace_format(area, &g, "tt", 3);
		CHECK_EQ(hf_le32_get(area + R_CHECKSUM), geometries[i].slot_sum);
		CHECK_EQ(hf_le32_get(area + R_FLAGS), geometries[i].flags);
		CHECK(memcmp(area, area + (g.max_hosts - 1) * n, n) == 0);
		CHECK_EQ(area[g.max_hosts * n], 0);
		CHECK_EQ(hf_lease_identify(area, 512, &found), HF_LEASE_KIND_LOCKSPACE);
		CHECK(memcmp(&g, &found, sizeof(g)) == 0);

		hf_lease_resource_format(area, &g, 8, "tt", "r1");
		CHECK_EQ(hf_le32_get(area + R_CHECKSUM), geometries[i].leader_sum);
		CHECK_EQ(hf_le32_get(area + n), REQUEST_MAGIC);
		CHECK_EQ(hf_lease_identify(area, n, &found), HF_LEASE_KIND_RESOURCE);
		CHECK(memcmp(&g, &found, sizeof(g)) == 0);
	}
}

TEST(identify_goes_by_the_magic)
{
	struct hf_lease_geometry g = begin(), found;

	CHECK_EQ(hf_lease_identify(sector, 512, &found), HF_LEASE_KIND_NONE);
	sector[511] = 1;
	CHECK_EQ(hf_lease_identify(sector, 512, &found), HF_LEASE_KIND_FOREIGN);
	CHECK_EQ(hf_lease_identify(sector, 500, &found), HF_LEASE_KIND_FOREIGN);
	hf_lease_leader_encode(sector, &g, &leader, "tt", "r1");
	hf_le32_put(sector, CLEARED_MAGIC);
	CHECK_EQ(hf_lease_identify(sector, 512, &found), HF_LEASE_KIND_CLEARED);
	CHECK_EQ(found.align_bytes, MIB);
	check_leader_error(&g, "deleted");
	hf_le32_put(sector + R_SECTOR_BYTES, 513);
	CHECK_EQ(hf_lease_identify(sector, 512, &found), HF_LEASE_KIND_CLEARED);
	CHECK_EQ(found.align_bytes, 0);
}

TEST(old_areas_do_not_say_their_size)
{
	struct hf_lease_geometry g = begin(), found;
	struct hf_lease_leader got;

	hf_lease_leader_encode(sector, &g, &leader, "tt", "r1");
	hf_le32_put(sector + R_FLAGS, 0);
	fix_checksum();
	CHECK_EQ(hf_lease_identify(sector, 512, &found), HF_LEASE_KIND_RESOURCE);
	CHECK(memcmp(&g, &found, sizeof(g)) == 0);
	CHECK_EQ(hf_lease_leader_decode(sector, &g, "tt", "r1", &got, &err), 0);
	hf_le32_put(sector + R_SECTOR_BYTES, 4096);
	CHECK_EQ(hf_lease_identify(sector, 512, &found), HF_LEASE_KIND_RESOURCE);
	CHECK_EQ(found.align_bytes, 8 * MIB);
}

TEST(slot_comes_back)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_slot got;

	hf_lease_slot_encode(sector, &g, &slot, "tt");
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "tt", &got, &err), 0);
	CHECK_EQ(got.owner, 7);
	CHECK_EQ(got.generation, 3);
	CHECK_EQ(got.timestamp_s, 1234567);
	CHECK_EQ(got.io_timeout_s, 10);
	CHECK_STR(got.host_name, "alpha");
	CHECK(got.extra.is_present);
	CHECK_EQ(got.extra.instance, 0x1122334455667788);
	CHECK_EQ(got.extra.sequence, 42);
	CHECK_EQ(got.extra.renew_ms, 500);
	CHECK_EQ(got.extra.fence_ms, 3000);
}

TEST(slot_keeps_what_it_does_not_name)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_slot got;

	hf_lease_slot_encode(sector, &g, &slot, "tt");
	hf_lease_bitmap_set(sector, 9, true);
	hf_le64_put(sector + R_WRITE_ID, 5); /* an event */
	hf_lease_slot_encode(sector, &g, &slot, "tt");
	CHECK(hf_lease_bitmap_has(sector, 9));
	CHECK_EQ(hf_le64_get(sector + R_WRITE_ID), 5);
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, NULL, &got, &err), 0);
	CHECK(got.extra.is_present); /* covers the event, too */
	hf_le32_put(sector + R_VERSION, 0x00030001);
	hf_le32_put(sector + R_FLAGS, 0x80000010);
	hf_lease_slot_encode(sector, &g, &slot, "tt");
	CHECK_EQ(hf_le32_get(sector + R_VERSION), 0x00030001);
	CHECK_EQ(hf_le32_get(sector + R_FLAGS), 0x80000010);

	memset(sector, 0xee, sizeof(sector)); /* foreign bytes are not kept */
	hf_lease_slot_encode(sector, &g, &slot, "tt");
	CHECK(!hf_lease_bitmap_has(sector, 9));
	CHECK_EQ(hf_le64_get(sector + R_WRITE_ID), 0);
	CHECK_EQ(sector[511], 0);
	CHECK_EQ(sector[512], 0xee); /* not the next sector */
}

/* Damage to the extra alone costs speed, not the slot. */
TEST(damaged_extra_is_none)
{
	static const size_t at[] = { X_MAGIC,    X_VERSION, X_INSTANCE, X_SEQUENCE, X_RENEW_MS,
				     X_FENCE_MS, 240,       X_CRC32C,   R_WRITE_ID, R_IO_TIMEOUT };
	struct hf_lease_geometry g = begin();
	struct hf_lease_slot got;

	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		memset(sector, 0, sizeof(sector));
		hf_lease_slot_encode(sector, &g, &slot, "tt");
		sector[at[i]] ^= 0x10;
		CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "tt", &got, &err), 0);
		CHECK_EQ(got.generation, 3);
		CHECK(!got.extra.is_present);
		CHECK_EQ(got.extra.fence_ms, 0);
	}
}

static void set_extra(size_t at, uint32_t value)
{
	struct hf_lease_geometry g = begin();

	hf_lease_slot_encode(sector, &g, &slot, "tt");
	hf_le32_put(sector + at, value);
	hf_le32_put(sector + X_CRC32C, hf_lease_extra_checksum(sector));
}

static bool has_extra(void)
{
	struct hf_lease_geometry g = geometry(0);
	struct hf_lease_slot got;

	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "tt", &got, &err), 0);
	return got.extra.is_present;
}

TEST(senseless_extra_is_none)
{
	set_extra(X_VERSION, 1);
	CHECK(has_extra());
	set_extra(X_VERSION, 2);
	CHECK(!has_extra());
	set_extra(X_FENCE_MS, 0);
	CHECK(!has_extra());
	set_extra(X_FENCE_MS, 499);
	CHECK(!has_extra());
	set_extra(X_FENCE_MS, 500);
	CHECK(has_extra());
	set_extra(X_FENCE_MS, 79999);
	CHECK(has_extra());
	set_extra(X_FENCE_MS, 80000);
	CHECK(!has_extra());
	set_extra(X_RENEW_MS, 0);
	CHECK(!has_extra());
}

/* An extra belongs to the record it was written with. */
TEST(extra_left_behind_by_another_record_is_none)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_slot got, next = slot;

	hf_lease_slot_encode(sector, &g, &slot, "tt");
	memcpy(before, sector, sizeof(sector));
	next.timestamp_s++;
	next.extra.is_present = false;
	hf_lease_slot_encode(sector, &g, &next, "tt");
	memcpy(sector + X_MAGIC, before + X_MAGIC, X_END - X_MAGIC);
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "tt", &got, &err), 0);
	CHECK(!got.extra.is_present);
}

TEST(slot_without_extra_is_sanlocks)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_slot got, plain = slot;

	plain.extra.is_present = false;
	hf_lease_slot_encode(sector, &g, &slot, "tt");
	hf_lease_slot_encode(sector, &g, &plain, "tt");
	for (size_t i = R_END; i < 512; i++)
		CHECK_EQ(sector[i], 0);
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "tt", &got, &err), 0);
	CHECK(!got.extra.is_present);
}

TEST(slot_errors_say_what)
{
	struct hf_lease_geometry g = begin(), large = geometry(1);
	struct hf_lease_slot got;

	check_slot_error(&g, "magic is 0x00000000");
	hf_lease_slot_encode(sector, &g, &slot, "tt");
	check_slot_error(&large, "sectors of 512");
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 8, "tt", &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "host 7");
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "t", &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "\"tt\"");
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "ttt", &got, &err), -EBADMSG);
	sector[R_GENERATION] ^= 1;
	check_slot_error(&g, "checksum");
	hf_le32_put(sector + R_VERSION, 0x00040000);
	check_slot_error(&g, "version 4.0");
	hf_le32_put(sector + R_VERSION, 0x00030001); /* minor ones are all right */
	fix_checksum();
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "tt", &got, &err), 0);
	hf_le64_put(sector + R_OWNER, 0);
	fix_checksum();
	check_slot_error(&g, "host 0");
	hf_le64_put(sector + R_OWNER, 7);
	fix_checksum();
	hf_le16_put(sector + R_IO_TIMEOUT, 256);
	check_slot_error(&g, "256 s");
	hf_le16_put(sector + R_IO_TIMEOUT, 0);
	CHECK_EQ(hf_lease_slot_decode(sector, &g, 7, "tt", &got, &err), 0);
	CHECK_EQ(got.io_timeout_s, 10);
}

TEST(names_of_full_length_have_no_end)
{
	static const char space[] = "123456789012345678901234567890123456789012345678";
	struct hf_lease_geometry g = begin();
	struct hf_lease_leader got;
	char a[HF_LEASE_NAME_BYTES + 1], b[HF_LEASE_NAME_BYTES + 1];

	CHECK_EQ(sizeof(space), 49);
	hf_lease_leader_encode(sector, &g, &leader, space, "r1");
	CHECK_EQ(hf_lease_leader_decode(sector, &g, space, "r1", &got, &err), 0);
	hf_lease_names(sector, a, b);
	CHECK_STR(a, space);
	CHECK_STR(b, "r1");
}

TEST(names_cannot_write_to_a_terminal)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_leader got;

	hf_lease_leader_encode(sector, &g, &leader, "t\033[2J", "r1");
	check_leader_error(&g, "\"t?[2J\"");
	CHECK_EQ(hf_lease_leader_decode(sector, &g, NULL, "\033c", &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "\"r1\"'s, not \"?c\"'s");
}

TEST(leader_comes_back)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_leader got, want = leader;

	want.is_short_hold = true;
	want.write_id = 8;
	hf_lease_leader_encode(sector, &g, &want, "tt", "r1");
	CHECK_EQ(hf_lease_leader_decode(sector, &g, "tt", "r1", &got, &err), 0);
	CHECK_EQ(got.owner, 7);
	CHECK_EQ(got.generation, 3);
	CHECK_EQ(got.lver, 12);
	CHECK_EQ(got.timestamp_s, 99);
	CHECK_EQ(got.write_id, 8);
	CHECK_EQ(got.write_generation, 3);
	CHECK_EQ(got.num_hosts, 8);
	CHECK(got.is_short_hold);
	CHECK_EQ(hf_le64_get(sector + R_WRITE_TIMESTAMP), 99);
	want.timestamp_s = 0; /* a release */
	want.is_short_hold = false;
	hf_lease_leader_encode(sector, &g, &want, "tt", "r1");
	CHECK_EQ(hf_lease_leader_decode(sector, &g, "tt", "r1", &got, &err), 0);
	CHECK_EQ(got.timestamp_s, 0);
	CHECK(!got.is_short_hold);
	CHECK_EQ(hf_le64_get(sector + R_WRITE_TIMESTAMP), 99);
}

TEST(leader_errors_say_what)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_leader got;

	hf_lease_leader_encode(sector, &g, &leader, "tt", "r2");
	check_leader_error(&g, "resource \"r2\"");
	CHECK_EQ(hf_lease_leader_decode(sector, &g, "tt", NULL, &got, &err), 0);
	hf_lease_leader_encode(sector, &g, &leader, "tt", "r1");
	hf_le64_put(sector + R_OWNER, 9);
	fix_checksum();
	check_leader_error(&g, "host 9 of 8");
	hf_le64_put(sector + R_OWNER, 0);
	fix_checksum();
	check_leader_error(&g, "host 0");
	hf_le64_put(sector + R_NUM_HOSTS, 2001);
	fix_checksum();
	check_leader_error(&g, "2001 hosts");
	hf_le64_put(sector + R_NUM_HOSTS, 0);
	fix_checksum();
	check_leader_error(&g, "0 hosts");
	hf_le64_put(sector + R_MAX_HOSTS, 250);
	fix_checksum();
	check_leader_error(&g, "250 hosts at most");
}

TEST(every_bit_of_a_record_counts)
{
	struct hf_lease_geometry g = begin();
	struct hf_lease_leader got;

	hf_lease_leader_encode(sector, &g, &leader, "tt", "r1");
	for (size_t bit = 0; bit < (size_t)8 * (R_CHECKSUM + 4); bit++) {
		sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK_EQ(hf_lease_leader_decode(sector, &g, NULL, NULL, &got, &err), -EBADMSG);
		sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	CHECK_EQ(hf_lease_leader_decode(sector, &g, NULL, NULL, &got, &err), 0);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sectors of a lease area. The first byte chooses the geometry, and whether the checksums are made
 * right before; the second what the sector is taken for. What is decoded keeps its promises, and is
 * still the same after being encoded into what stands there.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "codec/leasedisk-internal.h"

enum { SECTOR = 4096, MIB = 1 << 20 };

static const struct {
	uint32_t sector_bytes, align_bytes;
} sizes[] = {
	{ 512, MIB }, { 4096, MIB }, { 4096, 2 * MIB }, { 4096, 4 * MIB }, { 4096, 8 * MIB }
};

static uint8_t sector[SECTOR];

static void fix_checksums(void)
{
	hf_le32_put(sector + R_CHECKSUM, hf_lease_checksum(sector, R_CHECKSUM));
	hf_le32_put(sector + X_CRC32C, hf_lease_extra_checksum(sector));
}

static bool is_text(const char *name)
{
	return memchr(name, 0, HF_LEASE_NAME_BYTES + 1) != NULL;
}

/* An error always says something. */
static bool is_said(int r, const struct hf_err *err)
{
	return r == 0 || (r == -EBADMSG && err->text[0] && memchr(err->text, 0, sizeof(err->text)));
}

static void check_slot(const struct hf_lease_geometry *g)
{
	struct hf_lease_slot slot, again;
	struct hf_err err = { "" };
	char space[HF_LEASE_NAME_BYTES + 1], host[HF_LEASE_NAME_BYTES + 1];
	uint64_t id = hf_le64_get(sector + R_OWNER) % g->max_hosts;
	int r;

	id = id ? id : 1;
	hf_lease_names(sector, space, host);
	FUZZ_CHECK(is_text(space) && is_text(host));
	r = hf_lease_slot_decode(sector, g, id, "tt", &slot, &err);
	FUZZ_CHECK(is_said(r, &err));
	r = hf_lease_slot_decode(sector, g, id, NULL, &slot, &err);
	FUZZ_CHECK(is_said(r, &err));
	if (r < 0)
		return;
	FUZZ_CHECK(slot.owner == id || (slot.owner == 0 && slot.timestamp_s == 0));
	FUZZ_CHECK(slot.io_timeout_s >= 1 && slot.io_timeout_s <= 255);
	FUZZ_CHECK(is_text(slot.host_name));
	FUZZ_CHECK(!slot.extra.is_present ||
		   (slot.extra.fence_ms > 0 && slot.extra.fence_ms < 8000 * slot.io_timeout_s));
	hf_lease_slot_encode(sector, g, &slot, space);
	FUZZ_CHECK(hf_lease_slot_decode(sector, g, id, space, &again, NULL) == 0);
	FUZZ_CHECK(again.owner == slot.owner && again.generation == slot.generation &&
		   again.timestamp_s == slot.timestamp_s &&
		   again.io_timeout_s == slot.io_timeout_s &&
		   strcmp(again.host_name, slot.host_name) == 0 &&
		   again.extra.is_present == slot.extra.is_present &&
		   again.extra.instance == slot.extra.instance &&
		   again.extra.sequence == slot.extra.sequence &&
		   again.extra.fence_ms == slot.extra.fence_ms);
}

static void check_leader(const struct hf_lease_geometry *g)
{
	struct hf_lease_leader leader, again;
	struct hf_err err = { "" };
	char space[HF_LEASE_NAME_BYTES + 1], name[HF_LEASE_NAME_BYTES + 1];
	int r = hf_lease_leader_decode(sector, g, NULL, NULL, &leader, &err);

	FUZZ_CHECK(is_said(r, &err));
	if (hf_lease_leader_decode(sector, g, "tt", "r1", &again, NULL) == 0)
		FUZZ_CHECK(r == 0);
	if (r < 0)
		return;
	FUZZ_CHECK(leader.num_hosts >= 1 && leader.num_hosts <= g->max_hosts);
	FUZZ_CHECK(leader.owner <= leader.num_hosts && (leader.owner || !leader.timestamp_s));
	hf_lease_names(sector, space, name);
	hf_lease_leader_encode(sector, g, &leader, space, name);
	FUZZ_CHECK(hf_lease_leader_decode(sector, g, space, name, &again, NULL) == 0);
	FUZZ_CHECK(again.owner == leader.owner && again.generation == leader.generation &&
		   again.lver == leader.lver && again.timestamp_s == leader.timestamp_s &&
		   again.write_id == leader.write_id &&
		   again.write_generation == leader.write_generation &&
		   again.num_hosts == leader.num_hosts &&
		   again.is_short_hold == leader.is_short_hold);
}

static void check_block(void)
{
	struct hf_lease_block b, again;

	hf_lease_block_decode(sector, &b);
	FUZZ_CHECK(!b.is_damaged || (!b.mbal && !b.bal && !b.owner && !b.lver && !b.is_released));
	if (b.is_damaged)
		return;
	FUZZ_CHECK(b.bal <= b.mbal && (!b.bal || (b.owner && b.owner <= HF_LEASE_HOSTS_MAX)));
	hf_lease_block_encode(sector, &b);
	hf_lease_block_decode(sector, &again);
	FUZZ_CHECK(!again.is_damaged && again.mbal == b.mbal && again.bal == b.bal &&
		   again.owner == b.owner && again.generation == b.generation &&
		   again.timestamp_s == b.timestamp_s && again.lver == b.lver &&
		   again.is_released == b.is_released && again.is_shared == b.is_shared &&
		   again.shared_generation == b.shared_generation);
}

static void check_request(void)
{
	struct hf_lease_request request, again;
	struct hf_err err = { "" };
	int r = hf_lease_request_decode(sector, &request, &err);

	FUZZ_CHECK(is_said(r, &err));
	if (r < 0)
		return;
	hf_lease_request_encode(sector, &request);
	FUZZ_CHECK(hf_lease_request_decode(sector, &again, NULL) == 0);
	FUZZ_CHECK(again.lver == request.lver && again.force == request.force);
}

static void check_entries(const struct hf_lease_index *index)
{
	for (uint32_t i = 0; i < index->max_resources && i < SECTOR / HF_LEASE_INDEX_ENTRY_BYTES;
	     i++) {
		uint8_t *bytes = sector + (size_t)i * HF_LEASE_INDEX_ENTRY_BYTES;
		struct hf_lease_index_entry entry, again;
		struct hf_err err = { "" };
		int r = hf_lease_index_entry_decode(bytes, index, i, &entry, &err);

		FUZZ_CHECK(is_said(r, &err));
		if (r < 0)
			continue;
		FUZZ_CHECK(is_text(entry.name) && (entry.offset != 0) == (entry.name[0] != 0));
		FUZZ_CHECK(entry.offset == 0 ||
			   entry.offset == hf_lease_index_resource_at(index, i));
		hf_lease_index_entry_encode(bytes, &entry);
		FUZZ_CHECK(hf_lease_index_entry_decode(bytes, index, i, &again, NULL) == 0);
		FUZZ_CHECK(again.offset == entry.offset && strcmp(again.name, entry.name) == 0);
	}
}

static void check_index(void)
{
	struct hf_lease_index index, again;
	struct hf_err err = { "" };
	int r = hf_lease_index_decode(sector, &index, &err);

	FUZZ_CHECK(is_said(r, &err));
	if (r < 0)
		return;
	FUZZ_CHECK(is_text(index.space) && index.geometry.max_hosts);
	FUZZ_CHECK(hf_lease_index_entry_at(&index, index.max_resources) <=
		   index.geometry.align_bytes);
	FUZZ_CHECK(hf_lease_index_resource_at(&index, index.max_resources) <= INT64_MAX);
	check_entries(&index); /* whatever stands there */
	hf_lease_index_encode(sector, &index);
	FUZZ_CHECK(hf_lease_index_decode(sector, &again, NULL) == 0);
	FUZZ_CHECK(again.offset == index.offset && again.max_resources == index.max_resources &&
		   again.geometry.align_bytes == index.geometry.align_bytes &&
		   strcmp(again.space, index.space) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_lease_geometry g, found;
	size_t i;

	if (size < 2)
		return 0;
	i = (data[0] & 0x7f) % (sizeof(sizes) / sizeof(*sizes));
	FUZZ_CHECK(hf_lease_geometry_make(sizes[i].sector_bytes, sizes[i].align_bytes, &g, NULL) ==
		   0);
	memset(sector, 0, sizeof(sector));
	memcpy(sector, data + 2, size - 2 < SECTOR ? size - 2 : SECTOR);
	(void)hf_lease_identify(data, size, &found);
	FUZZ_CHECK(hf_lease_kind_name(hf_lease_identify(sector, SECTOR, &found))[0]);
	FUZZ_CHECK(found.align_bytes == 0 || found.max_hosts > 0);
	if (data[0] & 0x80)
		fix_checksums();
	if (data[1] % 5 == 2 && data[0] & 0x80)
		hf_le32_put(sector + B_CHECKSUM, hf_lease_checksum(sector, B_CHECKSUM));
	switch (data[1] % 5) {
	case 0:
		check_slot(&g);
		break;
	case 1:
		check_leader(&g);
		break;
	case 2:
		check_block();
		break;
	case 3:
		check_request();
		break;
	default:
		check_index();
		break;
	}
	return 0;
}

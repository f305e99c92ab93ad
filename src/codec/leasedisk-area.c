/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Of the lease format: blocks, bitmaps, requests, the index, and areas as they are made. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "codec/leasedisk-internal.h"

#define MIB (1024u * 1024)
#define BLOCK_RELEASED 0x1u
#define MODE_SHARED 0x1u
#define BITMAP_AT 256

/* ---- blocks ---- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

/* What the checksum covers; a block that was never written has none. */
static bool is_block_whole(const uint8_t *sector)
{
	uint64_t bal = hf_le64_get(sector + B_BAL), owner = hf_le64_get(sector + B_OWNER);

	if (is_zero(sector, B_FLAGS))
		return true;
	if (hf_le32_get(sector + B_CHECKSUM) != hf_lease_checksum(sector, B_CHECKSUM))
		return false;
	return bal <= hf_le64_get(sector + B_MBAL) &&
	       (bal == 0 || (owner >= 1 && owner <= HF_LEASE_HOSTS_MAX));
}

void hf_lease_block_decode(const uint8_t *sector, struct hf_lease_block *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->is_damaged = !is_block_whole(sector);
	if (ret->is_damaged)
		return;
	ret->mbal = hf_le64_get(sector + B_MBAL);
	ret->bal = hf_le64_get(sector + B_BAL);
	ret->owner = hf_le64_get(sector + B_OWNER);
	ret->generation = hf_le64_get(sector + B_GENERATION);
	ret->timestamp_s = hf_le64_get(sector + B_TIMESTAMP);
	ret->lver = hf_le64_get(sector + B_LVER);
	ret->is_released = (hf_le32_get(sector + B_FLAGS) & BLOCK_RELEASED) != 0;
	ret->is_shared = (hf_le32_get(sector + B_MODE_FLAGS) & MODE_SHARED) != 0;
	ret->shared_generation = hf_le64_get(sector + B_MODE_GENERATION);
}

void hf_lease_block_encode(uint8_t *sector, const struct hf_lease_block *block)
{
	uint32_t flags = hf_le32_get(sector + B_FLAGS) & ~BLOCK_RELEASED;

	assert(!block->is_damaged && block->bal <= block->mbal);
	assert(block->bal == 0 || (block->owner >= 1 && block->owner <= HF_LEASE_HOSTS_MAX));
	hf_le64_put(sector + B_MBAL, block->mbal);
	hf_le64_put(sector + B_BAL, block->bal);
	hf_le64_put(sector + B_OWNER, block->owner);
	hf_le64_put(sector + B_GENERATION, block->generation);
	hf_le64_put(sector + B_TIMESTAMP, block->timestamp_s);
	hf_le64_put(sector + B_LVER, block->lver);
	hf_le32_put(sector + B_CHECKSUM, hf_lease_checksum(sector, B_CHECKSUM));
	hf_le32_put(sector + B_FLAGS, flags | (block->is_released ? BLOCK_RELEASED : 0));
}

/* ---- bitmaps and requests ---- */

bool hf_lease_bitmap_has(const uint8_t *slot_sector, uint64_t host_id)
{
	assert(host_id >= 1 && host_id <= HF_LEASE_HOSTS_MAX);
	return slot_sector[BITMAP_AT + (host_id - 1) / 8] & 1u << (host_id - 1) % 8;
}

void hf_lease_bitmap_set(uint8_t *slot_sector, uint64_t host_id, bool is_set)
{
	uint8_t *byte = slot_sector + BITMAP_AT + (host_id - 1) / 8;
	uint8_t bit = (uint8_t)(1u << (host_id - 1) % 8);

	assert(host_id >= 1 && host_id <= HF_LEASE_HOSTS_MAX);
	*byte = (uint8_t)(is_set ? *byte | bit : *byte & ~bit);
}

int hf_lease_request_decode(const uint8_t *sector, struct hf_lease_request *ret, struct hf_err *err)
{
	uint32_t magic = hf_le32_get(sector + Q_MAGIC), version = hf_le32_get(sector + Q_VERSION);
	uint32_t force = hf_le32_get(sector + Q_FORCE);

	if (magic != REQUEST_MAGIC)
		hf_err_set(err, "the magic is 0x%08" PRIx32 ", a request has 0x%08" PRIx32, magic,
			   REQUEST_MAGIC);
	else if (version >> 16 != REQUEST_VERSION >> 16)
		hf_err_set(err, "version %" PRIu32 ".%" PRIu32 " is unknown, a request has %u.x",
			   version >> 16, version & 0xffff, REQUEST_VERSION >> 16);
	else if (force > HF_LEASE_FORCE_GRACEFUL)
		hf_err_set(err, "force mode %" PRIu32 " is unknown: 1 or 2", force);
	else {
		*ret = (struct hf_lease_request){ hf_le64_get(sector + Q_LVER), force };
		return 0;
	}
	return -EBADMSG;
}

/* sanlock does not look behind its fields, and leaves there what was in its memory. */
void hf_lease_request_encode(uint8_t *sector, const struct hf_lease_request *request)
{
	assert(request->force <= HF_LEASE_FORCE_GRACEFUL);
	hf_le32_put(sector + Q_MAGIC, REQUEST_MAGIC);
	hf_le32_put(sector + Q_VERSION, REQUEST_VERSION);
	hf_le64_put(sector + Q_LVER, request->lver);
	hf_le32_put(sector + Q_FORCE, request->force);
}

/* ---- whole areas ---- */

void hf_lease_lockspace_format(uint8_t *area, const struct hf_lease_geometry *g, const char *space,
			       uint32_t io_timeout_s)
{
	const struct hf_lease_slot slot = { .io_timeout_s = io_timeout_s };

	memset(area, 0, g->align_bytes);
	for (uint64_t id = 1; id <= g->max_hosts; id++)
		hf_lease_slot_encode(area + hf_lease_slot_at(g, id), g, &slot, space);
}

void hf_lease_resource_format(uint8_t *area, const struct hf_lease_geometry *g, uint32_t num_hosts,
			      const char *space, const char *resource)
{
	const struct hf_lease_leader leader = { .num_hosts = num_hosts };
	const struct hf_lease_request request = { 0 };

	memset(area, 0, g->align_bytes);
	hf_lease_leader_encode(area, g, &leader, space, resource);
	hf_lease_request_encode(area + hf_lease_request_at(g), &request);
}

/* ---- the index ---- */

static bool has_entries_in_area(const struct hf_lease_index *index)
{
	const struct hf_lease_geometry *g = &index->geometry;

	return index->max_resources >= 1 &&
	       index->max_resources <=
		       (g->align_bytes - g->sector_bytes) / HF_LEASE_INDEX_ENTRY_BYTES;
}

static bool is_in_place(const struct hf_lease_index *index)
{
	uint64_t align = index->geometry.align_bytes;

	return index->offset % align == 0 &&
	       index->offset <= INT64_MAX - (2 + (uint64_t)index->max_resources + 1) * align;
}

static int check_index(const uint8_t *sector, const struct hf_lease_index *index,
		       struct hf_err *err)
{
	uint32_t magic = hf_le32_get(sector + I_MAGIC), version = hf_le32_get(sector + I_VERSION);

	if (magic != INDEX_MAGIC)
		hf_err_set(err, "the magic is 0x%08" PRIx32 ", an index has 0x%08" PRIx32, magic,
			   INDEX_MAGIC);
	else if (version >> 16 != INDEX_VERSION >> 16)
		hf_err_set(err, "version %" PRIu32 ".%" PRIu32 " is unknown, an index has %u.x",
			   version >> 16, version & 0xffff, INDEX_VERSION >> 16);
	else if (index->geometry.sector_bytes == 0)
		hf_err_set(err, "sectors of %" PRIu32 " bytes with flags 0x%" PRIx32 ": impossible",
			   hf_le32_get(sector + I_SECTOR_BYTES), hf_le32_get(sector + I_FLAGS));
	else if (!has_entries_in_area(index))
		hf_err_set(err, "%" PRIu32 " entries: an area of %" PRIu32 " bytes has no room",
			   index->max_resources, index->geometry.align_bytes);
	else if (!is_in_place(index))
		hf_err_set(err, "it says that it is at offset %" PRIu64 ": impossible",
			   index->offset);
	else
		return 0;
	return -EBADMSG;
}

int hf_lease_index_decode(const uint8_t *sector, struct hf_lease_index *ret, struct hf_err *err)
{
	struct hf_lease_index index = {
		.max_resources = hf_le32_get(sector + I_MAX_RESOURCES),
		.offset = hf_le64_get(sector + I_OFFSET),
	};
	int r;

	(void)hf_lease_identify(sector, 512, &index.geometry);
	hf_lease_name_get(sector + I_SPACE, index.space);
	r = check_index(sector, &index, err);
	if (r == 0)
		*ret = index;
	return r;
}

void hf_lease_index_encode(uint8_t *sector, const struct hf_lease_index *index)
{
	assert(has_entries_in_area(index) && is_in_place(index));
	memset(sector, 0, index->geometry.sector_bytes);
	hf_le32_put(sector + I_MAGIC, INDEX_MAGIC);
	hf_le32_put(sector + I_VERSION, INDEX_VERSION);
	hf_le32_put(sector + I_FLAGS, index->geometry.align_bytes / MIB);
	hf_le32_put(sector + I_SECTOR_BYTES, index->geometry.sector_bytes);
	hf_le32_put(sector + I_MAX_RESOURCES, index->max_resources);
	hf_le64_put(sector + I_OFFSET, index->offset);
	hf_lease_name_put(sector + I_SPACE, index->space);
}

int hf_lease_index_entry_decode(const uint8_t *bytes, const struct hf_lease_index *index,
				uint32_t i, struct hf_lease_index_entry *ret, struct hf_err *err)
{
	uint64_t offset = hf_le64_get(bytes + E_OFFSET);

	assert(i < index->max_resources);
	if (offset != 0 && offset != hf_lease_index_resource_at(index, i)) {
		hf_err_set(err,
			   "entry %" PRIu32 " says offset %" PRIu64 ", its lease is at %" PRIu64, i,
			   offset, hf_lease_index_resource_at(index, i));
		return -EBADMSG;
	}
	if (offset != 0 && !bytes[E_NAME]) {
		hf_err_set(err, "entry %" PRIu32 " is in use but has no name", i);
		return -EBADMSG;
	}
	memset(ret, 0, sizeof(*ret));
	if (offset == 0)
		return 0;
	ret->offset = offset;
	ret->flags = hf_le32_get(bytes + E_FLAGS);
	hf_lease_name_get(bytes + E_NAME, ret->name);
	return 0;
}

void hf_lease_index_entry_encode(uint8_t *bytes, const struct hf_lease_index_entry *entry)
{
	memset(bytes, 0, HF_LEASE_INDEX_ENTRY_BYTES);
	if (entry->offset == 0)
		return;
	hf_le64_put(bytes + E_OFFSET, entry->offset);
	hf_le32_put(bytes + E_FLAGS, entry->flags);
	hf_lease_name_put(bytes + E_NAME, entry->name);
}

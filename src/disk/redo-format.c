/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/text.h"
#include "disk/redo-internal.h"

#define VERSION 1u
#define ENTRY_MAGIC 0x45524648u /* "HFRE" */

static const char header_magic[8] = "HFREDO1\n";

enum header_offset {
	H_MAGIC = 0,
	H_VERSION = 8,
	H_CRC32C = 12,
	H_SERIAL = 16,
	H_GENERATION = 24,
	H_FIRST_SEQ = 32,
	H_ROOT = 40,
	H_START = 48,
	H_AREA = 56,
	H_CONDITION = 64,
	H_DISKS = 68,
	H_SESSION_HI = 72,
	H_SESSION_LO = 80,
	H_VM = 88,
	H_DISK_BYTES = H_VM + HF_REDO_VM_BYTES,
	H_END = H_DISK_BYTES + 8 * HF_WIRE_DISKS_MAX,
};

enum entry_offset {
	E_MAGIC = 0,
	E_CRC32C = 4,
	E_GENERATION = 8,
	E_SEQ = 16,
	E_EPOCH = 24,
	E_ID = 32,
	E_PREV = 40,
	E_PAYLOAD_BYTES = 48,
	E_PAYLOAD_CRC32C = 56,
	E_RESERVED = 60,
};

/* Of all bytes but the four at @at, which count as zeros. */
static uint32_t checksum(const uint8_t *bytes, size_t len, size_t at)
{
	static const uint8_t zeros[4];
	uint32_t crc = hf_crc32c(0, bytes, at);

	crc = hf_crc32c(crc, zeros, sizeof(zeros));
	return hf_crc32c(crc, bytes + at + 4, len - at - 4);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

void hf_redo_put_header(uint8_t *block, const struct hf_redo_header *h)
{
	memset(block, 0, HF_REDO_BLOCK_BYTES);
	memcpy(block + H_MAGIC, header_magic, sizeof(header_magic));
	hf_le32_put(block + H_VERSION, VERSION);
	hf_le64_put(block + H_SERIAL, h->serial);
	hf_le64_put(block + H_GENERATION, h->generation);
	hf_le64_put(block + H_FIRST_SEQ, h->first_seq);
	hf_le64_put(block + H_ROOT, h->root);
	hf_le64_put(block + H_START, h->start_bytes);
	hf_le64_put(block + H_AREA, h->area_bytes);
	hf_le32_put(block + H_CONDITION, (uint32_t)h->condition);
	hf_le32_put(block + H_DISKS, h->n_disks);
	hf_le64_put(block + H_SESSION_HI, h->session.hi);
	hf_le64_put(block + H_SESSION_LO, h->session.lo);
	memcpy(block + H_VM, h->vm, HF_REDO_VM_BYTES);
	for (size_t i = 0; i < h->n_disks; i++)
		hf_le64_put(block + H_DISK_BYTES + 8 * i, h->disk_bytes[i]);
	hf_le32_put(block + H_CRC32C, checksum(block, HF_REDO_BLOCK_BYTES, H_CRC32C));
}

static bool makes_sense(const struct hf_redo_header *h, uint32_t condition)
{
	return h->serial > 0 && h->generation > 0 && condition < HF_DISK_CONDITION_COUNT &&
	       h->n_disks > 0 && h->n_disks <= HF_WIRE_DISKS_MAX &&
	       h->start_bytes >= HF_REDO_HEADERS_BYTES &&
	       h->start_bytes % HF_REDO_BLOCK_BYTES == 0 &&
	       h->start_bytes <= HF_REDO_SIZE_MAX_BYTES &&
	       h->area_bytes >= HF_REDO_AREA_MIN_BYTES &&
	       h->area_bytes % HF_REDO_BLOCK_BYTES == 0 &&
	       h->area_bytes <= HF_REDO_AREA_MAX_BYTES && h->vm[HF_REDO_VM_BYTES - 1] == '\0' &&
	       hf_is_valid_name(h->vm);
}

enum hf_redo_slot hf_redo_get_header(const uint8_t *block, struct hf_redo_header *ret)
{
	struct hf_redo_header h = { 0 };
	uint32_t condition;

	if (is_zero(block, HF_REDO_BLOCK_BYTES))
		return HF_REDO_SLOT_EMPTY;
	if (memcmp(block + H_MAGIC, header_magic, sizeof(header_magic)) != 0)
		return HF_REDO_SLOT_FOREIGN;
	if (hf_le32_get(block + H_CRC32C) != checksum(block, HF_REDO_BLOCK_BYTES, H_CRC32C))
		return HF_REDO_SLOT_BAD;
	if (hf_le32_get(block + H_VERSION) != VERSION)
		return HF_REDO_SLOT_VERSION;
	h.serial = hf_le64_get(block + H_SERIAL);
	h.generation = hf_le64_get(block + H_GENERATION);
	h.first_seq = hf_le64_get(block + H_FIRST_SEQ);
	h.root = hf_le64_get(block + H_ROOT);
	h.start_bytes = hf_le64_get(block + H_START);
	h.area_bytes = hf_le64_get(block + H_AREA);
	condition = hf_le32_get(block + H_CONDITION);
	h.condition = (enum hf_disk_condition)condition;
	h.n_disks = hf_le32_get(block + H_DISKS);
	h.session.hi = hf_le64_get(block + H_SESSION_HI);
	h.session.lo = hf_le64_get(block + H_SESSION_LO);
	memcpy(h.vm, block + H_VM, HF_REDO_VM_BYTES);
	for (size_t i = 0; i < HF_WIRE_DISKS_MAX; i++)
		h.disk_bytes[i] = hf_le64_get(block + H_DISK_BYTES + 8 * i);
	if (!makes_sense(&h, condition))
		return HF_REDO_SLOT_BAD;
	*ret = h;
	return HF_REDO_SLOT_GOOD;
}

void hf_redo_put_entry(uint8_t *head, const struct hf_redo_entry *entry)
{
	memset(head, 0, HF_REDO_ENTRY_HEAD_BYTES);
	hf_le32_put(head + E_MAGIC, ENTRY_MAGIC);
	hf_le64_put(head + E_GENERATION, entry->generation);
	hf_le64_put(head + E_SEQ, entry->seq);
	hf_le64_put(head + E_EPOCH, entry->epoch);
	hf_le64_put(head + E_ID, entry->id);
	hf_le64_put(head + E_PREV, entry->prev);
	hf_le64_put(head + E_PAYLOAD_BYTES, entry->payload_bytes);
	hf_le32_put(head + E_PAYLOAD_CRC32C, entry->payload_crc32c);
	hf_le32_put(head + E_CRC32C, checksum(head, HF_REDO_ENTRY_HEAD_BYTES, E_CRC32C));
}

bool hf_redo_get_entry(const uint8_t *head, struct hf_redo_entry *ret)
{
	struct hf_redo_entry e;

	if (hf_le32_get(head + E_MAGIC) != ENTRY_MAGIC || hf_le32_get(head + E_RESERVED) != 0 ||
	    hf_le32_get(head + E_CRC32C) != checksum(head, HF_REDO_ENTRY_HEAD_BYTES, E_CRC32C))
		return false;
	e.generation = hf_le64_get(head + E_GENERATION);
	e.seq = hf_le64_get(head + E_SEQ);
	e.epoch = hf_le64_get(head + E_EPOCH);
	e.id = hf_le64_get(head + E_ID);
	e.prev = hf_le64_get(head + E_PREV);
	e.payload_bytes = hf_le64_get(head + E_PAYLOAD_BYTES);
	e.payload_crc32c = hf_le32_get(head + E_PAYLOAD_CRC32C);
	if (e.epoch == 0 || e.payload_bytes > HF_REDO_AREA_MAX_BYTES)
		return false;
	*ret = e;
	return true;
}

uint64_t hf_redo_entry_bytes(uint64_t payload_bytes)
{
	uint64_t mask = HF_REDO_BLOCK_BYTES - 1;

	assert(payload_bytes <= HF_REDO_AREA_MAX_BYTES);
	return (HF_REDO_ENTRY_HEAD_BYTES + payload_bytes + mask) & ~mask;
}

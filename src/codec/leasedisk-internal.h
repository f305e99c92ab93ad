/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the lease format share. Layer: codec, only for leasedisk*.c and its tests.
 * Offsets in bytes from the start of the sector; docs/lease-format.md has the tables.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/crc32c.h"
#include "codec/leasedisk.h"

#define LOCKSPACE_MAGIC 0x12212010u
#define LOCKSPACE_VERSION 0x00030004u /* the major one is the high half */
#define RESOURCE_MAGIC 0x06152010u
#define RESOURCE_VERSION 0x00060004u
#define CLEARED_MAGIC 0x11282016u
#define REQUEST_MAGIC 0x08292011u
#define REQUEST_VERSION 0x00010001u
#define INDEX_MAGIC 0x01042018u
#define INDEX_VERSION 0x00010002u
#define EXTRA_MAGIC 0x58464c48u /* "HLFX" */
#define EXTRA_VERSION 1u

#define FLAG_SHORT_HOLD 0x1u
#define FLAG_ALIGN_SHIFT 4 /* 0x10: 1M, 0x20: 2M, 0x40: 4M, 0x80: 8M; none: by the sector size */
#define FLAG_ALIGN_MASK 0xf0u

enum record_offset {
	R_MAGIC = 0,
	R_VERSION = 4,
	R_FLAGS = 8,
	R_SECTOR_BYTES = 12,
	R_NUM_HOSTS = 16,
	R_MAX_HOSTS = 24,
	R_OWNER = 32,
	R_GENERATION = 40,
	R_LVER = 48,
	R_SPACE = 56,
	R_RESOURCE = 104, /* in a slot: the host's name */
	R_TIMESTAMP = 152,
	R_CHECKSUM = 168, /* over all before it */
	R_IO_TIMEOUT = 174,
	R_WRITE_ID = 176,
	R_WRITE_GENERATION = 184,
	R_WRITE_TIMESTAMP = 192,
	R_END = 200,
};

/* Ours, in a slot. */
enum extra_offset {
	X_MAGIC = 200,
	X_VERSION = 204,
	X_INSTANCE = 208,
	X_SEQUENCE = 216,
	X_RENEW_MS = 224,
	X_FENCE_MS = 228,
	X_CRC32C = 252, /* a plain CRC-32C, see hf_lease_extra_checksum() */
	X_END = 256,
};

enum block_offset {
	B_MBAL = 0,
	B_BAL = 8,
	B_OWNER = 16,
	B_GENERATION = 24,
	B_TIMESTAMP = 32,
	B_LVER = 40,
	B_CHECKSUM = 48, /* over all before it */
	B_FLAGS = 52,
	B_END = 56,
	B_MODE_FLAGS = 128,
	B_MODE_GENERATION = 136,
};

enum request_offset { Q_MAGIC = 0, Q_VERSION = 4, Q_LVER = 8, Q_FORCE = 16 };

enum index_offset {
	I_MAGIC = 0,
	I_VERSION = 4,
	I_FLAGS = 8, /* 1, 2, 4, 8: MiB of an area */
	I_SECTOR_BYTES = 12,
	I_MAX_RESOURCES = 16,
	I_OFFSET = 24,
	I_SPACE = 32,
	I_END = 80,
};

enum entry_offset { E_OFFSET = 0, E_FLAGS = 8, E_NAME = 16 };

/* sanlock's: the register starts at 0xFFFFFFFE and is not inverted at the end. */
static inline uint32_t hf_lease_checksum(const uint8_t *bytes, size_t len)
{
	return ~hf_crc32c(1, bytes, len);
}

/* Over the record and the extra, so that one belongs to the other. Not over the record's
 * checksum: what ends in its own CRC always leaves the same remainder behind, and would then
 * count for nothing. */
static inline uint32_t hf_lease_extra_checksum(const uint8_t *sector)
{
	const uint32_t record = hf_crc32c(0, sector, R_CHECKSUM);

	return hf_crc32c(record, sector + R_CHECKSUM + 4, X_CRC32C - R_CHECKSUM - 4);
}

void hf_lease_name_put(uint8_t *bytes, const char *name);
void hf_lease_name_get(const uint8_t *bytes, char *ret);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sanlock's disk format, bit for bit, plus what holdfast adds to its own slots. Layer: codec; pure,
 * any thread, no allocation. Offsets: docs/lease-format.md. Bytes come from a disk that others
 * write: nothing in them is trusted.
 *
 * All integers little-endian. A structure is alone in its sector. Checksums are CRC-32C with the
 * register starting at 0xFFFFFFFE and no final inversion.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/lease.h"

/* Of an area: found from its first bytes, or chosen at initialisation. */
struct hf_lease_geometry {
	uint32_t sector_bytes; /* 512 or 4096 */
	uint32_t align_bytes; /* of an area: 1, 2, 4 or 8 MiB; 512: 1 MiB only */
	uint32_t max_hosts; /* follows from the two */
};

/* -EINVAL with @err: no such combination. */
int hf_lease_geometry_make(uint32_t sector_bytes, uint32_t align_bytes,
			   struct hf_lease_geometry *ret, struct hf_err *err) HF_MUST_CHECK;

enum hf_lease_kind {
	HF_LEASE_KIND_NONE, /* all zero */
	HF_LEASE_KIND_LOCKSPACE,
	HF_LEASE_KIND_RESOURCE,
	HF_LEASE_KIND_CLEARED, /* a resource that was taken away */
	HF_LEASE_KIND_INDEX,
	HF_LEASE_KIND_FOREIGN,
};

/* What begins with these bytes (512 at least), and its geometry if it is one of ours. */
enum hf_lease_kind hf_lease_identify(const uint8_t *bytes, size_t len,
				     struct hf_lease_geometry *ret);

/* Decoders: 0; -EBADMSG with @err, which says what is wrong and with what value: magic, version,
 * checksum, sector or align size other than @geometry's, a lockspace or resource of another name (names
 * may be NULL: any), an owner beyond max_hosts. @len: of a sector at least. @space, @resource: out
 * of disk, at most 48 bytes. */
int hf_lease_slot_decode(const uint8_t *sector, const struct hf_lease_geometry *g, uint64_t host_id,
			 const char *space, struct hf_lease_slot *ret,
			 struct hf_err *err) HF_MUST_CHECK;
int hf_lease_leader_decode(const uint8_t *sector, const struct hf_lease_geometry *g,
			   const char *space, const char *resource, struct hf_lease_leader *ret,
			   struct hf_err *err) HF_MUST_CHECK;

/* Never fails: is_damaged says what a wrong checksum means. */
void hf_lease_block_decode(const uint8_t *sector, struct hf_lease_block *ret);

/* The names in a lockspace's or resource's first sector; for tools. @ret: 49 bytes each. */
void hf_lease_names(const uint8_t *sector, char *ret_space, char *ret_resource);

/* Encoders write a whole sector; what they do not name they keep as it stands in @sector (sanlock's
 * bitmap, a block's mode), or zero for a slot's or block's first time. */
void hf_lease_slot_encode(uint8_t *sector, const struct hf_lease_geometry *g,
			  const struct hf_lease_slot *slot, const char *space);
void hf_lease_leader_encode(uint8_t *sector, const struct hf_lease_geometry *g,
			    const struct hf_lease_leader *leader, const char *space,
			    const char *resource);
void hf_lease_block_encode(uint8_t *sector, const struct hf_lease_block *block);

/* ---- "look at your requests": a bit for each host in the sender's slot (bytes 256..511) ---- */

bool hf_lease_bitmap_has(const uint8_t *slot_sector, uint64_t host_id);
void hf_lease_bitmap_set(uint8_t *slot_sector, uint64_t host_id, bool is_set);

/* ---- requests: sector 1 of a resource ---- */

enum hf_lease_force { HF_LEASE_FORCE_NONE, HF_LEASE_FORCE_KILL = 1, HF_LEASE_FORCE_GRACEFUL = 2 };

struct hf_lease_request {
	uint64_t lver; /* the one the asker wants; above the present one, or it is over */
	uint32_t force;
};

int hf_lease_request_decode(const uint8_t *sector, struct hf_lease_request *ret,
			    struct hf_err *err) HF_MUST_CHECK;
void hf_lease_request_encode(uint8_t *sector, const struct hf_lease_request *request);

/* ---- where things are, in bytes from the start of their area ---- */

static inline uint64_t hf_lease_slot_at(const struct hf_lease_geometry *g, uint64_t host_id)
{
	return (host_id - 1) * g->sector_bytes;
}

static inline uint64_t hf_lease_block_at(const struct hf_lease_geometry *g, uint64_t host_id)
{
	return (1 + host_id) * g->sector_bytes;
}

/* ---- the index of resources ---- */

struct hf_lease_index {
	struct hf_lease_geometry geometry;
	uint32_t max_resources;
	uint64_t offset; /* of the index itself in its file */
	char space[HF_LEASE_NAME_BYTES + 1];
};

struct hf_lease_index_entry {
	uint64_t offset; /* of the resource; 0: unused */
	uint32_t flags;
	char name[HF_LEASE_NAME_BYTES + 1];
};

#define HF_LEASE_INDEX_ENTRY_BYTES 64

int hf_lease_index_decode(const uint8_t *sector, struct hf_lease_index *ret,
			  struct hf_err *err) HF_MUST_CHECK;
void hf_lease_index_encode(uint8_t *sector, const struct hf_lease_index *index);
int hf_lease_index_entry_decode(const uint8_t *bytes, const struct hf_lease_index *index,
				struct hf_lease_index_entry *ret, struct hf_err *err) HF_MUST_CHECK;
void hf_lease_index_entry_encode(uint8_t *bytes, const struct hf_lease_index_entry *entry);

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

/* -EINVAL with @err: no such combination. @ret: only on success. */
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

/* What begins with these bytes, by its magic alone? FOREIGN, too, for fewer than 512 of them.
 * @ret: its geometry if it is one of ours and says a possible one, else all zero. */
enum hf_lease_kind hf_lease_identify(const uint8_t *bytes, size_t len,
				     struct hf_lease_geometry *ret);

const char *hf_lease_kind_name(enum hf_lease_kind kind);

/*
 * Decoders take a whole sector. 0, or -EBADMSG with @err, which says what is wrong and with what
 * value: magic, version, checksum, sector or align size other than @g's, a lockspace or resource
 * of another name than @space or @resource (at most 48 bytes; NULL: any), an owner beyond what
 * there is. @ret: only on success.
 */

/* An extra that is damaged, of an unknown version or senseless (a fence of 8T s or more) is none.
 * A slot that was never used has owner 0. */
int hf_lease_slot_decode(const uint8_t *sector, const struct hf_lease_geometry *g, uint64_t host_id,
			 const char *space, struct hf_lease_slot *ret,
			 struct hf_err *err) HF_MUST_CHECK;
int hf_lease_leader_decode(const uint8_t *sector, const struct hf_lease_geometry *g,
			   const char *space, const char *resource, struct hf_lease_leader *ret,
			   struct hf_err *err) HF_MUST_CHECK;

/* Never fails. is_damaged: the checksum is wrong, or it says what no ballot writes (bal above
 * mbal, a value without an owner); all else is zero then. */
void hf_lease_block_decode(const uint8_t *sector, struct hf_lease_block *ret);

/* The names in a lockspace's or resource's first sector; for tools. @ret: 49 bytes each. */
void hf_lease_names(const uint8_t *sector, char *ret_space, char *ret_resource);

/*
 * Encoders work on a whole sector. What they do not name stays as it is there: sanlock's bitmap
 * and event in a slot, a block's mode, reserved bytes. A sector that is not of the kind in
 * question (slot, leader) is zeroed first. Joining in a new generation: zero the sector
 * before, what stands there is the last one's.
 */
void hf_lease_slot_encode(uint8_t *sector, const struct hf_lease_geometry *g,
			  const struct hf_lease_slot *slot, const char *space);
/* The moment of writing is the timestamp's, if that is not 0. */
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

static inline uint64_t hf_lease_request_at(const struct hf_lease_geometry *g)
{
	return g->sector_bytes;
}

static inline uint64_t hf_lease_block_at(const struct hf_lease_geometry *g, uint64_t host_id)
{
	return (1 + host_id) * g->sector_bytes;
}

/* ---- whole areas, as sanlock initialises them ---- */

/* @area: align_bytes, written from end to end. Names: at most 48 bytes. */
void hf_lease_lockspace_format(uint8_t *area, const struct hf_lease_geometry *g, const char *space,
			       uint32_t io_timeout_s);

/* A free lease for hosts 1..@num_hosts (1..max_hosts). Write sector 0 last: only with it is the
 * area a lease. */
void hf_lease_resource_format(uint8_t *area, const struct hf_lease_geometry *g, uint32_t num_hosts,
			      const char *space, const char *resource);

/*
 * ---- the index of resources ----
 *
 * Behind the lockspace: the index, then the lease that guards changes of it, then resource 0, 1,
 * ... Entry i belongs to resource i: it says the name, or offset 0 if there is none.
 */

#define HF_LEASE_INDEX_ENTRY_BYTES 64
#define HF_LEASE_INDEX_RESOURCES 4096 /* what sanlock makes */
#define HF_LEASE_INDEX_LEASE_NAME "rindex_lease"

struct hf_lease_index {
	struct hf_lease_geometry geometry;
	uint32_t max_resources; /* its entries end within the index's area */
	uint64_t offset; /* of the index itself in its file */
	char space[HF_LEASE_NAME_BYTES + 1];
};

struct hf_lease_index_entry {
	uint64_t offset; /* of the resource; 0: unused */
	uint32_t flags;
	char name[HF_LEASE_NAME_BYTES + 1];
};

int hf_lease_index_decode(const uint8_t *sector, struct hf_lease_index *ret,
			  struct hf_err *err) HF_MUST_CHECK;
void hf_lease_index_encode(uint8_t *sector, const struct hf_lease_index *index);

/* -EBADMSG with @err also for an offset that is not entry @i's, and a used entry without a name. */
int hf_lease_index_entry_decode(const uint8_t *bytes, const struct hf_lease_index *index,
				uint32_t i, struct hf_lease_index_entry *ret,
				struct hf_err *err) HF_MUST_CHECK;
void hf_lease_index_entry_encode(uint8_t *bytes, const struct hf_lease_index_entry *entry);

/* Where entry @i is, from the start of the index; it does not cross a sector. */
static inline uint64_t hf_lease_index_entry_at(const struct hf_lease_index *index, uint32_t i)
{
	return index->geometry.sector_bytes + (uint64_t)i * HF_LEASE_INDEX_ENTRY_BYTES;
}

/* Where the index's own lease, and resource @i, are in the file. */
static inline uint64_t hf_lease_index_lease_at(const struct hf_lease_index *index)
{
	return index->offset + index->geometry.align_bytes;
}

static inline uint64_t hf_lease_index_resource_at(const struct hf_lease_index *index, uint32_t i)
{
	return index->offset + (2 + (uint64_t)i) * index->geometry.align_bytes;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside the redo journal: what its files share. Layer: disk. Byte tables: docs/disk-format.md.
 */
#pragma once

#include "codec/wire-disk.h"
#include "disk/image.h"
#include "disk/redo.h"

#define HF_REDO_BLOCK_BYTES HF_REDO_UNIT_BYTES
#define HF_REDO_AREAS 2u
#define HF_REDO_SLOTS 2u /* copies of an area's header */
#define HF_REDO_HEADERS_BYTES ((size_t)HF_REDO_AREAS * HF_REDO_SLOTS * HF_REDO_BLOCK_BYTES)
#define HF_REDO_AREA_MIN_BYTES ((uint64_t)16 * HF_REDO_BLOCK_BYTES)
#define HF_REDO_AREA_MAX_BYTES ((uint64_t)1 << 40)
/* Of a file: room for two areas and a gap of any size between them. */
#define HF_REDO_SIZE_MAX_BYTES (HF_REDO_HEADERS_BYTES + 4 * HF_REDO_AREA_MAX_BYTES)
#define HF_REDO_ENTRY_HEAD_BYTES 64u
#define HF_REDO_WINDOW_BYTES ((size_t)1 << 20)
#define HF_REDO_VM_BYTES 64u

struct hf_redo_header {
	uint64_t serial; /* of this copy: a later one has a higher one */
	uint64_t generation; /* 0: nothing is written yet */
	uint64_t first_seq; /* of the first entry */
	uint64_t root; /* what the first entry names as the one before it */
	uint64_t start_bytes; /* where the entries begin */
	uint64_t area_bytes; /* and their room */
	enum hf_disk_condition condition;
	struct hf_id session;
	uint32_t n_disks;
	uint64_t disk_bytes[HF_WIRE_DISKS_MAX];
	char vm[HF_REDO_VM_BYTES];
};

struct hf_redo_entry {
	uint64_t generation;
	uint64_t seq;
	uint64_t epoch;
	uint64_t id; /* random: no two attempts to write an entry have the same */
	uint64_t prev; /* id of the one before, or the header's root */
	uint64_t payload_bytes;
	uint32_t payload_crc32c;
};

/* Where the entries end. */
struct hf_redo_chain {
	uint64_t end_bytes; /* from the area's start */
	uint64_t next_seq;
	uint64_t tip; /* id of the last one, or the header's root */
	uint64_t epoch; /* of the last one; 0: there is none */
	uint64_t entries;
};

struct hf_redo {
	struct hf_image *image;
	char *location;
	bool is_shared;
	struct hf_redo_header header; /* what counts */
	unsigned int area;
	unsigned int next_slot; /* the copy to be written first: the other one is good */
	bool is_in_doubt; /* a write of it failed: what would be found is not known */
	bool is_between; /* a take-over failed: it is not even known which area counts */
	struct hf_redo_chain chain;
	struct hf_redo_chain synced; /* as far as it is durable */
	uint64_t first_unsynced; /* epoch; 0: none */
	uint64_t lost; /* the epoch from which on entries are to be appended again; 0: none */
	uint64_t wanted_area_bytes;
	uint8_t *window; /* HF_REDO_WINDOW_BYTES, aligned */
};

/* Where the chain ends, for a person. */
static inline unsigned long long hf_redo_byte_of(const struct hf_redo *r,
						 const struct hf_redo_chain *c)
{
	return r->header.start_bytes + c->end_bytes;
}

/* ---- redo-format.c: bytes ---- */

enum hf_redo_slot {
	HF_REDO_SLOT_EMPTY, /* all zero: never written */
	HF_REDO_SLOT_GOOD,
	HF_REDO_SLOT_BAD, /* ours, but torn or damaged */
	HF_REDO_SLOT_FOREIGN, /* not ours */
	HF_REDO_SLOT_VERSION, /* of another version of the format */
};

/* @block: HF_REDO_BLOCK_BYTES. */
void hf_redo_put_header(uint8_t *block, const struct hf_redo_header *header);
enum hf_redo_slot hf_redo_get_header(const uint8_t *block, struct hf_redo_header *ret);

/* @head: HF_REDO_ENTRY_HEAD_BYTES. */
void hf_redo_put_entry(uint8_t *head, const struct hf_redo_entry *entry);
bool hf_redo_get_entry(const uint8_t *head, struct hf_redo_entry *ret);

/* Room that an entry takes. @payload_bytes at most HF_REDO_AREA_MAX_BYTES. */
uint64_t hf_redo_entry_bytes(uint64_t payload_bytes);

/* ---- redo-scan.c: what is there ---- */

struct hf_redo_found {
	bool is_fresh; /* there is none yet */
	unsigned int area; /* that counts */
	struct hf_redo_header header; /* of it */
	unsigned int next_slot[HF_REDO_AREAS]; /* the copy that may be overwritten */
	uint64_t last_serial[HF_REDO_AREAS]; /* the highest that any copy has */
};

/* All copies of both headers. -EBADMSG with @err; -errno. */
int hf_redo_find_header(struct hf_redo *r, struct hf_redo_found *ret,
			struct hf_err *err) HF_MUST_CHECK;
/* Walks the valid entries of r->header, checksums included. Anything else is their end. */
int hf_redo_scan(struct hf_redo *r, struct hf_redo_chain *ret, struct hf_err *err) HF_MUST_CHECK;
void hf_redo_chain_begin(const struct hf_redo_header *header, struct hf_redo_chain *ret);
void hf_redo_chain_add(struct hf_redo_chain *c, const struct hf_redo_entry *entry);

/* For tests: as hf_redo_open() on an image that is open already; taken over on success. */
int hf_redo_open_image(const struct hf_redo_config *config, struct hf_image *image,
		       struct hf_redo **ret, struct hf_err *err) HF_MUST_CHECK;

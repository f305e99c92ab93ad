/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The redo journal of a VM on a host: each epoch's disk writes, durable before any of them goes to
 * an image; and the record of what this host's images are. Layer: disk. One thread at a time. Calls
 * BLOCK. Format: docs/disk-format.md.
 *
 * Theory of operation. A file (or block device, or NBD export) of two areas. An area has a header
 * in two copies of 4096 bytes; the one with the higher serial that verifies counts; both are
 * written at each change, one after the other, each durable before the next is touched. Behind the
 * headers stand the areas' entries, one after the other. An entry is valid when it is of the
 * header's generation, has the next sequence number, names the id of the one before it, and its
 * checksums are right; the first that is not is their end. Ids are random, so what an earlier lap,
 * or an attempt that failed, left behind never follows by chance. A reset is a new header with a
 * new root for the chain. A new owner takes the other area with the next generation: a late write
 * of the old owner cannot reach it. On recovery the area of the highest generation counts; but of a
 * journal that two hosts share not while its condition is PARTIAL: a promoted standby has not yet
 * brought all that it was given to the images, and the area before it still has that.
 *
 * A call that fails changes nothing that a later one relies on, and may be tried again; but after a
 * hf_redo_sync() (or other call that has to flush) that failed, what was appended since the last
 * good one is lost: the system may have forgotten it, and would say that it is durable at the next
 * try. Until it has been appended again, hf_redo_sync() and appending later epochs fail with -EIO.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "disk/diskctl.h"

/* Everything begins at a multiple of it; an entry takes as many as its records and 64 bytes
 * need. */
#define HF_REDO_UNIT_BYTES 4096u

struct hf_redo_config {
	const char *location; /* path or NBD URI; a file is made if there is none, sparse */
	const char *vm;
	uint64_t area_bytes; /* room for entries; rounded up to HF_REDO_UNIT_BYTES, at most 1 TiB */
	bool is_shared; /* the other host uses the same one: no lock, past the page cache */
	uint32_t n_disks;
	const uint64_t *disk_bytes;
};

struct hf_redo_state {
	enum hf_disk_condition condition;
	struct hf_id session;
	uint64_t generation; /* 0: nothing was ever written */
	uint64_t epoch; /* of the last valid entry, 0: none */
	uint64_t entries; /* valid ones that wait to be redone */
};

struct hf_redo;

/**
 * hf_redo_open() - open, read both areas, verify
 * Writes nothing but the (empty) file if there was none. What is found is durable on return, so an
 * owner that only lost its disk process goes on behind the last valid entry.
 * Return: 0; -EBADMSG with @err that says what and where: it is no journal, another VM's, of
 * another version, damaged beyond both copies of its header, or has entries for disks of other
 * sizes; -ENOSPC: the device is too small; -EBUSY: in use; other -errno.
 */
int hf_redo_open(const struct hf_redo_config *config, struct hf_redo **ret,
		 struct hf_err *err) HF_MUST_CHECK;
void hf_redo_close(struct hf_redo *r); /* takes NULL */
void hf_redo_get_state(const struct hf_redo *r, struct hf_redo_state *ret);

/**
 * hf_redo_replay() - give out the records of each entry, in order
 * They are checked by hf_wire_disk_next() and lie inside their disks. May be called at any time,
 * also to write to the images once more what a failed flush of theirs may have lost. Allocates as
 * much memory as the largest entry.
 * Return: 0; what @fn returned, if negative: it stops there; -EBADMSG, other -errno, with @err.
 */
int hf_redo_replay(struct hf_redo *r,
		   int (*fn)(void *ctx, uint64_t epoch, const uint8_t *records, size_t len),
		   void *ctx, struct hf_err *err) HF_MUST_CHECK;

/* A new owner (or a new start): take the other area with the next generation; its headers are read
 * again before. Whatever entries there were are forgotten: they must be settled. Durable on
 * return. */
int hf_redo_take_over(struct hf_redo *r, enum hf_disk_condition condition, struct hf_id session,
		      struct hf_err *err) HF_MUST_CHECK;
/* Records the condition, durable on return (and so is what was appended); entries stay. */
int hf_redo_set_state(struct hf_redo *r, enum hf_disk_condition condition, struct hf_id session,
		      struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_redo_append() - add an epoch; not durable before hf_redo_sync()
 * @records: whole records in @n pieces, together one epoch's; only read. None at all is allowed
 * Epochs ascend between resets. One that is appended already, but not synced, is left as it is.
 * Return: 0; -ENOSPC: no room in the area (sync, settle and reset, then again; if
 * hf_redo_used_bytes() is 0 the epoch is larger than an area) or in the storage; -EINVAL: an epoch
 * that is durable already; -EIO: see above; other -errno. With @err.
 */
int hf_redo_append(struct hf_redo *r, uint64_t epoch, const struct iovec *records, int n,
		   struct hf_err *err) HF_MUST_CHECK;
int hf_redo_sync(struct hf_redo *r, struct hf_err *err) HF_MUST_CHECK;
/* All entries are settled: forget them, begin at the front again. Durable on return. */
int hf_redo_reset(struct hf_redo *r, struct hf_err *err) HF_MUST_CHECK;
uint64_t hf_redo_used_bytes(const struct hf_redo *r);
uint64_t hf_redo_area_bytes(const struct hf_redo *r);

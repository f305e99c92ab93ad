/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a disk's bytes are at last: a file, a block device, or an NBD export. Layer: disk. Any
 * thread, also several at once. All calls BLOCK, some for as long as storage hangs: never from a
 * main loop.
 *
 * A file may be shorter than the disk (a qcow2 file grows): beyond its end it reads as zeros, and a
 * write makes it longer. Errors are the storage's own: -ENOSPC, -EIO, -ETIMEDOUT..., and a call
 * that failed may have done any part of its work; to do it again is harmless. After a flush that
 * failed, what was written since the last one that did not may be lost even if a later flush
 * succeeds (the system forgets what it could not write): write it again.
 *
 * An NBD export is given 10 s to connect and 30 s for each request: then -ETIMEDOUT, and that
 * connection is given up. A call on a broken connection fails (-ENOTCONN, -EIO...); the next one
 * connects again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct hf_image_config {
	const char *location; /* path, or nbd://, nbd+unix:// URI */
	uint64_t size_bytes; /* of the disk; 0: the image's own size */
	bool is_direct; /* past the page cache: shared images, or cache=none */
	bool is_read_only;
	bool is_shared; /* the other host has it open, too: no lock */
};

struct hf_image;

/**
 * hf_image_open() - open what is there; nothing is created
 * Takes QEMU's own kind of lock (the OFD locks of its block/file-posix.c) unless read-only or
 * shared, so that another QEMU, qemu-img or disk process on the same image is refused, and so is
 * this one.
 * Return: 0; -EBUSY: locked; -errno with @err that names the location: it is missing, a folder, too
 * small for the disk (not a file: that grows), cannot be opened past the page cache...
 */
int hf_image_open(const struct hf_image_config *config, struct hf_image **ret,
		  struct hf_err *err) HF_MUST_CHECK;
void hf_image_close(struct hf_image *i);

uint64_t hf_image_size_bytes(const struct hf_image *i); /* of the disk */
/* What the storage reads and writes at least. Ranges that are no multiples of it work, but cost a
 * read and are safe only as long as nobody writes another part of the same block past this
 * object. */
uint32_t hf_image_block_bytes(const struct hf_image *i);
bool hf_image_can_trim(const struct hf_image *i);
bool hf_image_can_grow(const struct hf_image *i); /* a file */

/* All: 0 or -errno; -EINVAL: the range is not inside the disk; -EROFS. Buffers may be aligned
 * anyhow. */
int hf_image_read(struct hf_image *i, void *buf, size_t len, uint64_t offset) HF_MUST_CHECK;
int hf_image_write(struct hf_image *i, const void *buf, size_t len, uint64_t offset) HF_MUST_CHECK;
struct iovec;
int hf_image_writev(struct hf_image *i, const struct iovec *iov, int n,
		    uint64_t offset) HF_MUST_CHECK;
int hf_image_zero(struct hf_image *i, uint64_t len, uint64_t offset, bool may_trim) HF_MUST_CHECK;
int hf_image_trim(struct hf_image *i, uint64_t len,
		  uint64_t offset) HF_MUST_CHECK; /* then reads as zeros */
int hf_image_flush(struct hf_image *i) HF_MUST_CHECK;
/* The run of data or hole that @offset begins with, up to @end. What cannot tell is data. */
int hf_image_extent(struct hf_image *i, uint64_t offset, uint64_t end, uint64_t *ret_len,
		    bool *ret_is_hole) HF_MUST_CHECK;

/* A qcow2 file's disk, as holdfast exports the file: from its header (docs/interop/qcow2.txt of
 * QEMU). */
struct hf_qcow2_info {
	bool is_qcow2;
	uint64_t virtual_bytes;
	uint64_t room_bytes; /* of the export: most that the file can become, snapshots included */
	bool has_backing_file;
	bool has_data_file;
	char backing_file[1024]; /* as it stands in the header: any bytes but NUL */
};
/* Blocks. @location: as in struct hf_image_config. Return: 0, also for what is no qcow2; -EBADMSG
 * with @err: its header makes no sense; -errno. */
int hf_qcow2_probe(const char *location, struct hf_qcow2_info *ret,
		   struct hf_err *err) HF_MUST_CHECK;

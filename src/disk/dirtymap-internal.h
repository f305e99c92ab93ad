/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file of a dirty map: its header, and its bits mapped. Layer: disk. One thread at a time. Byte
 * tables: docs/disk-format.md.
 */
#pragma once

#include "disk/dirtymap.h"

#define HF_DIRTYFILE_HEADER_BYTES 4096u

struct hf_dirtyfile_header {
	uint64_t disk_bytes;
	bool is_clean; /* closed in order, and nothing was set since */
	struct hf_id session;
	struct hf_id boot; /* of the machine, when it was opened last */
};

struct hf_dirtyfile {
	int fd;
	uint8_t *map; /* header and bits */
	uint64_t size_bytes;
	uint64_t bits_bytes;
	bool is_trusted;
	struct hf_dirtyfile_header header;
};

uint64_t hf_dirtyfile_blocks(uint64_t disk_bytes);

/* @buf: HF_DIRTYFILE_HEADER_BYTES. */
void hf_dirtyfile_put(uint8_t *buf, const struct hf_dirtyfile_header *header);
/* False: it is none, or damaged. */
bool hf_dirtyfile_get(const uint8_t *buf, struct hf_dirtyfile_header *ret);

/* Locked, mapped, durably not clean. Bits as found if is_trusted, else all set. */
int hf_dirtyfile_open(const char *path, uint64_t disk_bytes, struct hf_dirtyfile *ret,
		      struct hf_err *err) HF_MUST_CHECK;
/* Changes f->header in the file, too, where a successor of this process will see it. */
void hf_dirtyfile_set_session(struct hf_dirtyfile *f, struct hf_id session);
/* Durably clean, if the storage lets it. */
void hf_dirtyfile_close(struct hf_dirtyfile *f);
/* As a process that dies leaves it. */
void hf_dirtyfile_abandon(struct hf_dirtyfile *f);

/* For tests: the same for the whole map. */
void hf_dirtymap_abandon(struct hf_dirtymap *m);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A lease area's storage: a file, a block device, or an NBD export. Layer: lease. Whole sectors,
 * past the page cache, durable when a write returns. A store may be used by one thread at a time;
 * open another one on the same path for another thread.
 *
 * Calls block as long as the storage does. A time-out would change nothing: what was given to the
 * storage may land at any later time, so a store never goes on behind a write whose fate it does not
 * know. (NBD: a connection that breaks is made again; a write that was under way then is "unsettled"
 * and the store says so.)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct hf_store;

/* How a write that failed may still come true later, e.g. with a broken connection. */
#define HF_STORE_UNSETTLED 1

struct hf_store_config {
	const char *path; /* absolute path, or nbd://, nbds://, nbd+unix:// URI */
	bool is_read_only;
	uint32_t timeout_ms; /* NBD: a server that says nothing for so long is taken for gone;
			      * 0: 5 s */
};

/**
 * hf_store_open() - with @err that names the path and what is wrong with it
 * Return: 0; -ENOENT; -EMEDIUMTYPE: neither file, block device nor export; -EINVAL: no O_DIRECT
 * there; -EIO, -ETIMEDOUT: the export cannot be reached (it may be tried again); other -errno.
 */
int hf_store_open(const struct hf_store_config *config, struct hf_store **ret,
		  struct hf_err *err) HF_MUST_CHECK;
void hf_store_close(struct hf_store *s);

uint64_t hf_store_size_bytes(const struct hf_store *s);
uint32_t hf_store_sector_bytes(const struct hf_store *s); /* least unit of transfer */

/* Aligned memory for transfers, never freed before the store; NULL: -ENOMEM. */
void *hf_store_buffer(struct hf_store *s, size_t bytes);

/* @buf from hf_store_buffer(); offset and length multiples of a sector. 0 or -errno with @err; they
 * allocate nothing. A write: HF_STORE_UNSETTLED when it failed and may still land. */
int hf_store_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset,
		  struct hf_err *err) HF_MUST_CHECK;
int hf_store_write(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
		   struct hf_err *err) HF_MUST_CHECK;

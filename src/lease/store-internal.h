/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands behind a store: files and devices, NBD exports. Layer: lease. */
#pragma once

#include "lease/store.h"

/* Leases are written in sectors of 512 or 4096 bytes; storage with larger ones cannot hold them. */
#define HF_STORE_SECTOR_MIN_BYTES 512u
#define HF_STORE_SECTOR_MAX_BYTES 4096u

/* Called with ranges that are multiples of a sector, lengths above 0, memory from
 * hf_store_buffer(). */
struct hf_store_ops {
	int (*read)(struct hf_store *s, void *buf, size_t bytes, uint64_t offset,
		    struct hf_err *err);
	int (*write)(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
		     struct hf_err *err);
	/* Looks again how large it is. Storage that cannot be asked now stays as it was. */
	void (*measure)(struct hf_store *s);
	void (*close)(struct hf_store *s); /* what the kind holds, and the object */
};

struct hf_store_memory; /* a buffer that was given out */

/* The first member of each kind's own struct. */
struct hf_store {
	const struct hf_store_ops *ops;
	char *path;
	bool is_read_only;
	uint32_t timeout_ms;
	uint32_t sector_bytes;
	uint64_t size_bytes;
	struct hf_store_memory *memory;
};

/* -ENOMEM. hf_store_fini() is for ops->close; it takes an object that is all zero, too. */
int hf_store_init(struct hf_store *s, const struct hf_store_ops *ops,
		  const struct hf_store_config *config) HF_MUST_CHECK;
void hf_store_fini(struct hf_store *s);

/* -EINVAL with @err: not one that leases can be written in. */
int hf_store_check_sector(const char *path, uint64_t bytes, struct hf_err *err) HF_MUST_CHECK;

/* Does this -errno of a write say that nothing was begun? Of all others nothing is known: what lies
 * between us and the disk (a path of several, a mount, an NBD server's own storage) may still carry it
 * out after it has reported an error. */
bool hf_store_is_refusal(int r);

int hf_store_file_open(const struct hf_store_config *config, struct hf_store **ret,
		       struct hf_err *err) HF_MUST_CHECK;
int hf_store_nbd_open(const struct hf_store_config *config, struct hf_store **ret,
		      struct hf_err *err) HF_MUST_CHECK;

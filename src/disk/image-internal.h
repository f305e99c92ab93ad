/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What stands behind an image: the kinds of storage implement this table, and so does a test that
 * wants to see, refuse or lose what is written. Layer: disk.
 */
#pragma once

#include <pthread.h>
#include <sys/uio.h>

#include "disk/image.h"

/* Called with checked ranges, multiples of block_bytes, lengths above 0, several threads at
 * once. */
struct hf_image_ops {
	int (*read)(struct hf_image *i, void *buf, size_t len, uint64_t offset);
	int (*writev)(struct hf_image *i, const struct iovec *iov, int n, uint64_t offset);
	int (*zero)(struct hf_image *i, uint64_t len, uint64_t offset, bool may_trim);
	int (*flush)(struct hf_image *i);
	int (*extent)(struct hf_image *i, uint64_t offset, uint64_t end, uint64_t *ret_len,
		      bool *ret_is_hole);
	void (*close)(struct hf_image *i); /* frees the object, too */
};

/* The first member of each kind's own struct. */
struct hf_image {
	const struct hf_image_ops *ops;
	uint64_t size_bytes;
	uint32_t block_bytes; /* a power of two */
	bool can_trim;
	bool can_grow;
	bool is_read_only;
	pthread_mutex_t edge; /* one at a time: part of a block is replaced */
};

/* Fills in what is common. Cannot fail. hf_image_fini() is for ops->close. */
void hf_image_init(struct hf_image *i, const struct hf_image_ops *ops,
		   const struct hf_image_config *config);
void hf_image_fini(struct hf_image *i);

int hf_image_file_open(const struct hf_image_config *config, struct hf_image **ret,
		       struct hf_err *err) HF_MUST_CHECK;
int hf_image_nbd_open(const struct hf_image_config *config, struct hf_image **ret,
		      struct hf_err *err) HF_MUST_CHECK;
bool hf_image_is_uri(const char *location);

/* Copies bytes [at, at + len) of what @iov describes. */
void hf_image_gather(const struct iovec *iov, int n, size_t at, uint8_t *to, size_t len);
size_t hf_image_iov_bytes(const struct iovec *iov, int n);
/* Zeros to write where storage cannot make them itself. */
#define HF_IMAGE_ZEROS_BYTES ((size_t)256 * 1024)
int hf_image_write_zeros(struct hf_image *i, uint64_t len, uint64_t offset) HF_MUST_CHECK;

/* For tests: how long a request to an NBD export may take. */
extern unsigned int hf_image_nbd_timeout_ms;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all kinds of images have in common: ranges are checked, and what is not a multiple of the
 * storage's block becomes whole blocks here: the part at each end is read, changed and written
 * back, one at a time. Two such writes to the same block thus both stand. A write of the whole
 * block at the same time would overlap with them, and then no order is promised anyway.
 */
#include "disk/image.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/image-internal.h"

bool hf_image_is_uri(const char *location)
{
	static const char *const schemes[] = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://" };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncmp(location, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

int hf_image_open(const struct hf_image_config *config, struct hf_image **ret, struct hf_err *err)
{
	if (hf_image_is_uri(config->location))
		return hf_image_nbd_open(config, ret, err);
	return hf_image_file_open(config, ret, err);
}

void hf_image_init(struct hf_image *i, const struct hf_image_ops *ops,
		   const struct hf_image_config *config)
{
	i->ops = ops;
	i->size_bytes = config->size_bytes;
	i->is_read_only = config->is_read_only;
	i->block_bytes = 1;
	(void)pthread_mutex_init(&i->edge, NULL);
}

void hf_image_fini(struct hf_image *i)
{
	(void)pthread_mutex_destroy(&i->edge);
}

void hf_image_close(struct hf_image *i)
{
	if (i)
		i->ops->close(i);
}

uint64_t hf_image_size_bytes(const struct hf_image *i)
{
	return i->size_bytes;
}

uint32_t hf_image_block_bytes(const struct hf_image *i)
{
	return i->block_bytes;
}

bool hf_image_can_trim(const struct hf_image *i)
{
	return i->can_trim;
}

bool hf_image_can_grow(const struct hf_image *i)
{
	return i->can_grow;
}

size_t hf_image_iov_bytes(const struct iovec *iov, int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

void hf_image_gather(const struct iovec *iov, int n, size_t at, uint8_t *to, size_t len)
{
	for (int i = 0; i < n && len > 0; i++) {
		size_t take;

		if (at >= iov[i].iov_len) {
			at -= iov[i].iov_len;
			continue;
		}
		take = iov[i].iov_len - at < len ? iov[i].iov_len - at : len;
		memcpy(to, (const uint8_t *)iov[i].iov_base + at, take);
		to += take;
		len -= take;
		at = 0;
	}
	assert(len == 0);
}

static int check_range(const struct hf_image *i, uint64_t len, uint64_t offset, bool is_write)
{
	if (offset > i->size_bytes || len > i->size_bytes - offset)
		return -EINVAL;
	return is_write && i->is_read_only ? -EROFS : 0;
}

static bool is_aligned(const struct hf_image *i, uint64_t len, uint64_t offset)
{
	return ((len | offset) & (i->block_bytes - 1)) == 0;
}

/* The bytes of the block that @offset is in, from @offset on, at most @len. */
static size_t in_block(const struct hf_image *i, uint64_t len, uint64_t offset)
{
	size_t rest = i->block_bytes - (size_t)(offset & (i->block_bytes - 1));

	return len < rest ? (size_t)len : rest;
}

static int read_part(struct hf_image *i, uint8_t *block, uint8_t *buf, size_t len, uint64_t offset)
{
	uint64_t begin = offset & ~(uint64_t)(i->block_bytes - 1);
	int r = i->ops->read(i, block, i->block_bytes, begin);

	if (r == 0)
		memcpy(buf, block + (offset - begin), len);
	return r;
}

/* @buf NULL: zeros. */
static int write_part(struct hf_image *i, uint8_t *block, const uint8_t *buf, size_t len,
		      uint64_t offset)
{
	uint64_t begin = offset & ~(uint64_t)(i->block_bytes - 1);
	struct iovec iov = { block, i->block_bytes };
	int r;

	(void)pthread_mutex_lock(&i->edge);
	r = i->ops->read(i, block, i->block_bytes, begin);
	if (r == 0) {
		if (buf)
			memcpy(block + (offset - begin), buf, len);
		else
			memset(block + (offset - begin), 0, len);
		r = i->ops->writev(i, &iov, 1, begin);
	}
	(void)pthread_mutex_unlock(&i->edge);
	return r;
}

enum piece { PIECE_PART, PIECE_WHOLE };

/* Cuts the next piece off a range: part of one block, or whole blocks. */
static enum piece cut(const struct hf_image *i, uint64_t len, uint64_t offset, uint64_t *ret_len)
{
	size_t part = in_block(i, len, offset);

	if (part == i->block_bytes) {
		*ret_len = len & ~(uint64_t)(i->block_bytes - 1);
		return PIECE_WHOLE;
	}
	*ret_len = part;
	return PIECE_PART;
}

static int read_unaligned(struct hf_image *i, uint8_t *buf, size_t len, uint64_t offset)
{
	uint8_t *block = malloc(i->block_bytes);
	uint64_t n;
	int r = 0;

	if (!block)
		return -ENOMEM;
	for (; r == 0 && len > 0; buf += n, len -= n, offset += n) {
		if (cut(i, len, offset, &n) == PIECE_WHOLE)
			r = i->ops->read(i, buf, n, offset);
		else
			r = read_part(i, block, buf, n, offset);
	}
	free(block);
	return r;
}

static int write_unaligned(struct hf_image *i, uint8_t *buf, size_t len, uint64_t offset)
{
	uint8_t *block = malloc(i->block_bytes);
	uint64_t n;
	int r = 0;

	if (!block)
		return -ENOMEM;
	for (; r == 0 && len > 0; buf += n, len -= n, offset += n) {
		if (cut(i, len, offset, &n) == PIECE_WHOLE)
			r = i->ops->writev(i, &(struct iovec){ buf, n }, 1, offset);
		else
			r = write_part(i, block, buf, n, offset);
	}
	free(block);
	return r;
}

static int zero_unaligned(struct hf_image *i, uint64_t len, uint64_t offset, bool may_trim)
{
	uint8_t *block = malloc(i->block_bytes);
	uint64_t n;
	int r = 0;

	if (!block)
		return -ENOMEM;
	for (; r == 0 && len > 0; len -= n, offset += n) {
		if (cut(i, len, offset, &n) == PIECE_WHOLE)
			r = i->ops->zero(i, n, offset, may_trim);
		else
			r = write_part(i, block, NULL, n, offset);
	}
	free(block);
	return r;
}

int hf_image_read(struct hf_image *i, void *buf, size_t len, uint64_t offset)
{
	int r = check_range(i, len, offset, false);

	if (r < 0 || len == 0)
		return r;
	if (is_aligned(i, len, offset))
		return i->ops->read(i, buf, len, offset);
	return read_unaligned(i, buf, len, offset);
}

int hf_image_write(struct hf_image *i, const void *buf, size_t len, uint64_t offset)
{
	struct iovec iov = { .iov_len = len };

	/* struct iovec has no const; nothing is written through it. */
	memcpy(&iov.iov_base, &buf, sizeof(buf));
	return hf_image_writev(i, &iov, 1, offset);
}

int hf_image_writev(struct hf_image *i, const struct iovec *iov, int n, uint64_t offset)
{
	size_t len = hf_image_iov_bytes(iov, n);
	int r = check_range(i, len, offset, true);
	uint8_t *flat;

	if (r < 0 || len == 0)
		return r;
	if (is_aligned(i, len, offset))
		return i->ops->writev(i, iov, n, offset);
	flat = malloc(len);
	if (!flat)
		return -ENOMEM;
	hf_image_gather(iov, n, 0, flat, len);
	r = write_unaligned(i, flat, len, offset);
	free(flat);
	return r;
}

int hf_image_zero(struct hf_image *i, uint64_t len, uint64_t offset, bool may_trim)
{
	int r = check_range(i, len, offset, true);

	if (r < 0 || len == 0)
		return r;
	if (is_aligned(i, len, offset))
		return i->ops->zero(i, len, offset, may_trim);
	return zero_unaligned(i, len, offset, may_trim);
}

int hf_image_trim(struct hf_image *i, uint64_t len, uint64_t offset)
{
	return hf_image_zero(i, len, offset, true);
}

int hf_image_write_zeros(struct hf_image *i, uint64_t len, uint64_t offset)
{
	/* Never written to; not const, so that it takes no room in the file. */
	static uint8_t zeros[HF_IMAGE_ZEROS_BYTES] __attribute__((aligned(4096)));
	struct iovec iov = { .iov_base = zeros };
	int r = 0;

	while (r == 0 && len > 0) {
		iov.iov_len = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);
		r = i->ops->writev(i, &iov, 1, offset);
		offset += iov.iov_len;
		len -= iov.iov_len;
	}
	return r;
}

int hf_image_flush(struct hf_image *i)
{
	return i->is_read_only ? 0 : i->ops->flush(i);
}

int hf_image_extent(struct hf_image *i, uint64_t offset, uint64_t end, uint64_t *ret_len,
		    bool *ret_is_hole)
{
	uint64_t len;
	int r;

	if (offset >= end || end > i->size_bytes)
		return -EINVAL;
	r = i->ops->extent(i, offset, end, &len, ret_is_hole);
	if (r < 0)
		return r;
	assert(len > 0);
	*ret_len = len < end - offset ? len : end - offset;
	return 0;
}

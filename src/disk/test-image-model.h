/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk in memory beside an image: whatever is done to both, they must read the same. */
#pragma once

#include "../../tests/test.h"

#include <stdbool.h>
#include <sys/uio.h>

#include "disk/image.h"

struct model {
	struct hf_image *image;
	uint8_t *bytes; /* what must be read */
	uint8_t *buf; /* one byte more than the image: never aligned at buf + 1 */
	uint64_t size;
	uint64_t unit; /* ranges are multiples of it */
	uint64_t random;
};

static inline uint64_t model_random(struct model *m)
{
	uint64_t z = m->random += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* The image must read as zeros. */
static inline void model_begin(struct model *m, struct hf_image *image, uint64_t unit)
{
	void *p;

	*m = (struct model){ .image = image, .size = hf_image_size_bytes(image), .unit = unit };
	CHECK_EQ(posix_memalign(&p, 4096, m->size + 1), 0);
	m->buf = p;
	m->bytes = calloc(1, m->size);
	CHECK(m->bytes);
}

static inline void model_end(struct model *m)
{
	free(m->buf);
	free(m->bytes);
}

static inline void model_check_range(struct model *m, uint64_t offset, uint64_t len)
{
	uint8_t *to = m->buf + model_random(m) % 2;

	memset(to, 0xa5, len);
	CHECK_EQ(hf_image_read(m->image, to, len, offset), 0);
	CHECK_EQ(memcmp(to, m->bytes + offset, len), 0);
}

static inline void model_check(struct model *m)
{
	model_check_range(m, 0, m->size);
}

static inline bool model_is_zero(const struct model *m, uint64_t offset, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++)
		if (m->bytes[offset + i])
			return false;
	return true;
}

/* From the beginning to the end: runs join, and a hole reads as zeros. How many bytes are data. */
static inline uint64_t model_check_extents(struct model *m)
{
	uint64_t len, data = 0;
	bool is_hole;

	for (uint64_t at = 0; at < m->size; at += len) {
		CHECK_EQ(hf_image_extent(m->image, at, m->size, &len, &is_hole), 0);
		CHECK(len > 0 && len <= m->size - at);
		if (is_hole)
			CHECK(model_is_zero(m, at, len));
		else
			data += len;
	}
	return data;
}

static inline void model_write(struct model *m, uint64_t offset, uint64_t len)
{
	uint8_t *from = m->buf + model_random(m) % 2;

	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t value = model_random(m);

		memcpy(from + i, &value, len - i < 8 ? len - i : 8);
	}
	memcpy(m->bytes + offset, from, len);
	if (model_random(m) % 2) {
		CHECK_EQ(hf_image_write(m->image, from, len, offset), 0);
	} else {
		size_t half = len / 3;
		struct iovec iov[3] = { { from, half }, { NULL, 0 }, { from + half, len - half } };

		CHECK_EQ(hf_image_writev(m->image, iov, 3, offset), 0);
	}
}

static inline void model_zero(struct model *m, uint64_t offset, uint64_t len)
{
	uint64_t how = model_random(m) % 3;

	memset(m->bytes + offset, 0, len);
	if (how == 0)
		CHECK_EQ(hf_image_trim(m->image, len, offset), 0);
	else
		CHECK_EQ(hf_image_zero(m->image, len, offset, how == 1), 0);
}

/* One random thing, at most @max bytes of it. */
static inline void model_step(struct model *m, uint64_t max)
{
	uint64_t len = (1 + model_random(m) % (max / m->unit)) * m->unit;
	uint64_t offset = model_random(m) % ((m->size - len) / m->unit + 1) * m->unit;

	switch (model_random(m) % 8) {
	case 0:
	case 1:
	case 2:
		model_write(m, offset, len);
		break;
	case 3:
	case 4:
		model_zero(m, offset, len);
		break;
	case 5:
		CHECK_EQ(hf_image_flush(m->image), 0);
		break;
	default:
		model_check_range(m, offset, len);
	}
}

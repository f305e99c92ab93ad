/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image for tests, with a disk behind a cache: what was written is read back at once, but it is
 * on the disk for sure only after a flush. Every write and flush counts as a step, is recorded, and
 * can be made to fail. What a power failure leaves is made from the record: fake_crash().
 */
#pragma once

#include <errno.h>

#include "../../tests/test.h"
#include "disk/image-internal.h"

/* Far less than any disk has, so that headers are torn, too. */
#define FAKE_SECTOR 32u
#define FAKE_STEPS_MAX 4096u

struct fake_step {
	bool is_flush;
	bool is_failed; /* a flush: what was before it is forgotten */
	uint64_t offset;
	size_t len;
	uint8_t *data;
};

struct fake {
	struct hf_image image;
	uint8_t *view; /* what is read */
	uint8_t *first; /* what was there at the beginning */
	size_t size;
	struct fake_step step[FAKE_STEPS_MAX];
	unsigned int n_steps;
	unsigned int fail_at; /* step to fail, once; UINT_MAX: none */
	bool is_silent; /* nothing is recorded: for many threads */
	void (*on_step)(void *ctx, unsigned int n_steps); /* before each */
	void *ctx;
};

static inline struct fake *fake_of(struct hf_image *i)
{
	return (struct fake *)(void *)i;
}

static inline uint64_t fake_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline struct fake_step *fake_new_step(struct fake *f)
{
	CHECK(f->n_steps < FAKE_STEPS_MAX);
	if (f->on_step)
		f->on_step(f->ctx, f->n_steps);
	return &f->step[f->n_steps++];
}

static inline bool fake_fails(const struct fake *f)
{
	return f->n_steps - 1 == f->fail_at;
}

static inline int fake_read(struct hf_image *i, void *buf, size_t len, uint64_t offset)
{
	memcpy(buf, fake_of(i)->view + offset, len);
	return 0;
}

static inline int fake_writev(struct hf_image *i, const struct iovec *iov, int n, uint64_t offset)
{
	struct fake *f = fake_of(i);
	struct fake_step *s;

	if (f->is_silent) {
		hf_image_gather(iov, n, 0, f->view + offset, hf_image_iov_bytes(iov, n));
		return 0;
	}
	s = fake_new_step(f);
	s->offset = offset;
	s->len = hf_image_iov_bytes(iov, n);
	CHECK(offset % FAKE_SECTOR == 0 && s->len % FAKE_SECTOR == 0);
	s->data = malloc(s->len);
	CHECK(s->data);
	hf_image_gather(iov, n, 0, s->data, s->len);
	memcpy(f->view + offset, s->data, s->len);
	return fake_fails(f) ? -EIO : 0;
}

static inline int fake_zero(struct hf_image *i, uint64_t len, uint64_t offset, bool may_trim)
{
	(void)may_trim;
	return hf_image_write_zeros(i, len, offset);
}

static inline int fake_flush(struct hf_image *i)
{
	struct fake *f = fake_of(i);
	struct fake_step *s = fake_new_step(f);

	s->is_flush = true;
	s->is_failed = fake_fails(f);
	return s->is_failed ? -EIO : 0;
}

static inline int fake_extent(struct hf_image *i, uint64_t offset, uint64_t end, uint64_t *ret_len,
			      bool *ret_is_hole)
{
	(void)i;
	*ret_len = end - offset;
	*ret_is_hole = false;
	return 0;
}

static inline void fake_close(struct hf_image *i)
{
	struct fake *f = fake_of(i);

	for (unsigned int n = 0; n < f->n_steps; n++)
		free(f->step[n].data);
	hf_image_fini(i);
	free(f->view);
	free(f->first);
	free(f);
}

/* @content: of the disk; NULL: zeros. */
static inline struct fake *fake_new(size_t size, const uint8_t *content)
{
	static const struct hf_image_ops ops = { .read = fake_read,
						 .writev = fake_writev,
						 .zero = fake_zero,
						 .flush = fake_flush,
						 .extent = fake_extent,
						 .close = fake_close };
	struct fake *f = calloc(1, sizeof(*f));
	struct hf_image_config config = { .size_bytes = size };

	CHECK(f);
	hf_image_init(&f->image, &ops, &config);
	f->image.block_bytes = 4096;
	f->size = size;
	f->fail_at = UINT32_MAX;
	f->view = calloc(1, size);
	f->first = calloc(1, size);
	CHECK(f->view && f->first);
	if (content) {
		memcpy(f->view, content, size);
		memcpy(f->first, content, size);
	}
	return f;
}

/* How much of what was not flushed has reached the disk. */
enum fake_fate {
	FAKE_NONE,
	FAKE_ALL,
	FAKE_ONLY, /* the write numbered `which`, counted from the end */
	FAKE_ALL_BUT,
	FAKE_TORN_HEAD, /* of the last write the first `which` sectors, of the others all */
	FAKE_TORN_TAIL, /* of the last one all but these */
	FAKE_RANDOM, /* each sector or not; `which` is the seed */
};

struct fake_crash {
	enum fake_fate fate;
	uint64_t which;
};

static inline bool fake_lands(const struct fake_crash *c, unsigned int from_end, size_t sector,
			      uint64_t *random)
{
	switch (c->fate) {
	case FAKE_NONE:
		return false;
	case FAKE_ONLY:
		return from_end == c->which;
	case FAKE_ALL_BUT:
		return from_end != c->which;
	case FAKE_TORN_HEAD:
		return from_end > 0 || sector < c->which;
	case FAKE_TORN_TAIL:
		return from_end > 0 || sector >= c->which;
	case FAKE_RANDOM:
		return fake_random(random) & 1;
	case FAKE_ALL:
	default:
		return true;
	}
}

/* Writes first .. end - 1, which lie between two flushes. */
static inline void fake_land(const struct fake *f, uint8_t *disk, unsigned int first,
			     unsigned int end, const struct fake_crash *c, uint64_t *random)
{
	for (unsigned int n = first; n < end; n++) {
		const struct fake_step *s = &f->step[n];

		for (size_t k = 0; k < s->len / FAKE_SECTOR; k++)
			if (fake_lands(c, end - 1 - n, k, random))
				memcpy(disk + s->offset + k * FAKE_SECTOR,
				       s->data + k * FAKE_SECTOR, FAKE_SECTOR);
	}
}

/* The disk as a power failure before step @at leaves it. The caller frees it. */
static inline uint8_t *fake_crash(const struct fake *f, unsigned int at, struct fake_crash crash)
{
	static const struct fake_crash all = { FAKE_ALL, 0 }, some = { FAKE_RANDOM, 0 };
	uint64_t random = crash.which * 7919 + at;
	uint8_t *disk = malloc(f->size);
	unsigned int first = 0;

	CHECK(disk && at <= f->n_steps);
	memcpy(disk, f->first, f->size);
	for (unsigned int n = 0; n < at; n++) {
		if (!f->step[n].is_flush)
			continue;
		fake_land(f, disk, first, n, f->step[n].is_failed ? &some : &all, &random);
		first = n + 1;
	}
	fake_land(f, disk, first, at, &crash, &random);
	return disk;
}

/* How many writes before step @at are not flushed, and how many sectors the last of them has. */
static inline unsigned int fake_unflushed(const struct fake *f, unsigned int at,
					  size_t *ret_sectors)
{
	unsigned int n = 0;

	*ret_sectors = 0;
	while (n < at && !f->step[at - 1 - n].is_flush)
		n++;
	if (n > 0)
		*ret_sectors = f->step[at - 1].len / FAKE_SECTOR;
	return n;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/sparsefile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/text.h"

#define BLOCK_BYTES 4096u
#define CHUNK_BYTES ((size_t)1 << 20)

struct copy {
	int from_fd, to_fd;
	uint8_t *chunk;
	hf_sparse_progress *progress;
	void *ctx;
};

static bool is_zero(const uint8_t *data, size_t n)
{
	return n == 0 || (data[0] == 0 && memcmp(data, data + 1, n - 1) == 0);
}

static int read_all(int fd, uint8_t *data, size_t n, uint64_t offset)
{
	ssize_t got;

	while (n) {
		got = pread(fd, data, n, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -ENODATA;
		data += got;
		offset += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

static int write_all(int fd, const uint8_t *data, size_t n, uint64_t offset)
{
	ssize_t put;

	while (n) {
		put = pwrite(fd, data, n, (off_t)offset);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		data += put;
		offset += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}

/* Runs of blocks that are not zero, each with one write. */
static int write_blocks(const struct copy *c, size_t n, uint64_t to)
{
	size_t start = 0, at = 0, len;
	bool is_in_run = false;
	int r = 0;

	for (; !r && at < n; at += len) {
		len = n - at < BLOCK_BYTES ? n - at : BLOCK_BYTES;
		if (!is_zero(c->chunk + at, len)) {
			start = is_in_run ? start : at;
			is_in_run = true;
		} else if (is_in_run) {
			r = write_all(c->to_fd, c->chunk + start, at - start, to + start);
			is_in_run = false;
		}
	}
	if (!r && is_in_run)
		r = write_all(c->to_fd, c->chunk + start, n - start, to + start);
	return r;
}

/* The next stretch of data in [from, end); false: there is none. hugetlbfs does not tell: all of it is. */
static bool next_data(int fd, uint64_t from, uint64_t end, uint64_t *ret_start, uint64_t *ret_end)
{
	off_t start = lseek(fd, (off_t)from, SEEK_DATA);
	off_t hole;

	if (start < 0 && errno == ENXIO)
		return false;
	*ret_start = start < 0 ? from : (uint64_t)start;
	hole = start < 0 ? -1 : lseek(fd, start, SEEK_HOLE);
	*ret_end = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
	return *ret_start < end;
}

static int copy_stretch(const struct copy *c, uint64_t from, uint64_t end, uint64_t to)
{
	size_t n;
	int r = 0;

	for (; !r && from < end; from += n, to += n) {
		n = end - from < CHUNK_BYTES ? (size_t)(end - from) : CHUNK_BYTES;
		r = read_all(c->from_fd, c->chunk, n, from);
		if (!r)
			r = write_blocks(c, n, to);
	}
	return r;
}

static int copy_all(const struct copy *c, uint64_t from_offset, uint64_t bytes, uint64_t to_offset)
{
	const uint64_t end = from_offset + bytes;
	uint64_t at = from_offset, start, stop;
	int r = 0;

	while (!r && next_data(c->from_fd, at, end, &start, &stop)) {
		/* In pieces, so that whoever waits hears of it. */
		if (stop - start > 16 * CHUNK_BYTES)
			stop = start + 16 * CHUNK_BYTES;
		r = copy_stretch(c, start, stop, to_offset + (start - from_offset));
		at = stop;
		if (!r && c->progress && !c->progress(c->ctx, at - from_offset))
			r = -ECANCELED;
	}
	return r;
}

int hf_sparse_copy(int from_fd, uint64_t from_offset, uint64_t bytes, int to_fd, uint64_t to_offset,
		   hf_sparse_progress *progress, void *ctx)
{
	struct copy c = { .from_fd = from_fd,
			  .to_fd = to_fd,
			  .chunk = malloc(CHUNK_BYTES),
			  .progress = progress,
			  .ctx = ctx };
	int r = c.chunk ? copy_all(&c, from_offset, bytes, to_offset) : -ENOMEM;

	free(c.chunk);
	return r;
}

int hf_sparse_data_bytes(int fd, uint64_t size_bytes, uint64_t *ret_bytes)
{
	uint64_t at = 0, start, stop;

	*ret_bytes = 0;
	while (next_data(fd, at, size_bytes, &start, &stop)) {
		*ret_bytes += stop - start;
		at = stop;
	}
	return 0;
}

int hf_sparse_check_space(const char *path, uint64_t bytes, struct hf_err *err)
{
	char has[HF_TEXT_QUANTITY], takes[HF_TEXT_QUANTITY];
	struct statvfs fs;
	uint64_t room;
	int r;

	if (statvfs(path, &fs) < 0) {
		r = -errno;
		hf_err_set(err, "%.300s: %s", path, strerror(-r));
		return r;
	}
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (room >= bytes)
		return 0;
	hf_err_set(err, "%.300s has room for %s, and %s are needed", path,
		   hf_format_size(room, has, sizeof(has)),
		   hf_format_size(bytes, takes, sizeof(takes)));
	return -ENOSPC;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. SEEK_DATA finds what was ever written; of that, pages full of zeros are left out (a
 * guest's kernel clears what it frees or hands out). Huge pages say nothing of that kind and are read.
 *
 * How much space is needed is counted before the first byte is written, as if no page were full of zeros:
 * a file system that is filled by a copy may have other VMs' state on it.
 */
#include "vm/offload.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/text.h"
#include "sys/fd.h"
#include "vm/frozen-internal.h"

#define PAGE_BYTES 4096u
/* What is left to others on the file system. */
#define RESERVE_BYTES (UINT64_C(64) << 20)

struct hf_offload {
	int from_fd, to_fd;
	uint64_t bytes, at,
		data_end; /* [at, data_end) may hold data; at == data_end: to be found */
	uint64_t written_bytes;
	char path[PATH_MAX];
	char new_path[PATH_MAX];
	bool is_finished;
	uint8_t buf[HF_OFFLOAD_STEP_BYTES];
};

static int fail(int r, const char *what, const char *path, struct hf_err *err)
{
	hf_err_set(err, "cannot %s %.300s: %s", what, path, strerror(-r));
	return r;
}

/* The next stretch that may hold data. 0 with *ret_start == bytes: none. */
static int find_data(int fd, uint64_t from, uint64_t bytes, uint64_t *ret_start, uint64_t *ret_end)
{
	off_t start = lseek(fd, (off_t)from, SEEK_DATA), end;

	*ret_start = *ret_end = bytes;
	if (start < 0 && errno == ENXIO)
		return 0;
	if (start < 0 && errno != EINVAL)
		return -errno;
	if (start < 0) { /* it does not tell (hugetlbfs) */
		*ret_start = from;
		return 0;
	}
	end = lseek(fd, start, SEEK_HOLE);
	if (end < 0 && errno != ENXIO)
		return -errno;
	*ret_start = (uint64_t)start < bytes ? (uint64_t)start : bytes;
	if (end > start && (uint64_t)end < bytes)
		*ret_end = (uint64_t)end;
	return 0;
}

static int count_data(int fd, uint64_t bytes, uint64_t *ret)
{
	uint64_t at = 0, start, end, sum = 0;
	int r = 0;

	while (r == 0 && at < bytes) {
		r = find_data(fd, at, bytes, &start, &end);
		if (r == 0) {
			sum += end - start;
			at = end;
		}
	}
	*ret = sum;
	return r;
}

static int too_much(uint64_t need_bytes, uint64_t have_bytes, const char *where, struct hf_err *err)
{
	char need[HF_TEXT_QUANTITY], have[HF_TEXT_QUANTITY];

	hf_err_set(err, "%s of memory do not fit: %s %s",
		   hf_format_size(need_bytes, need, sizeof(need)),
		   hf_format_size(have_bytes, have, sizeof(have)), where);
	return -ENOSPC;
}

static int check_space(const struct hf_offload *o, uint64_t space_bytes, struct hf_err *err)
{
	char where[PATH_MAX];
	uint64_t need, have;
	struct statvfs v;
	int r = count_data(o->from_fd, o->bytes, &need);

	if (r < 0)
		return fail(r, "find the data of", "guest memory", err);
	if (space_bytes && need > space_bytes)
		return too_much(need, space_bytes, "are allowed (frozen-space)", err);
	if (fstatvfs(o->to_fd, &v) < 0)
		return fail(-errno, "find the free space of", o->new_path, err);
	have = (uint64_t)v.f_bavail * v.f_frsize;
	have = have > RESERVE_BYTES ? have - RESERVE_BYTES : 0;
	(void)snprintf(where, sizeof(where), "can be used where %.200s is", o->path);
	return need > have ? too_much(need, have, where, err) : 0;
}

static int open_to(struct hf_offload *o, const char *path, uint64_t space_bytes, struct hf_err *err)
{
	int n = snprintf(o->path, sizeof(o->path), "%s", path);

	if (n >= (int)sizeof(o->path) - (int)sizeof(".new"))
		return fail(-ENAMETOOLONG, "make", path, err);
	(void)snprintf(o->new_path, sizeof(o->new_path), "%.*s.new", n, path);
	o->to_fd = open(o->new_path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (o->to_fd < 0)
		return fail(-errno, "make", o->new_path, err);
	if (ftruncate(o->to_fd, (off_t)o->bytes) < 0)
		return fail(-errno, "give its size to", o->new_path, err);
	return check_space(o, space_bytes, err);
}

int hf_offload_open(int ram_fd, uint64_t ram_bytes, const char *path, uint64_t space_bytes,
		    struct hf_offload **ret, struct hf_err *err)
{
	struct hf_offload *o = malloc(sizeof(*o));
	int r;

	if (!o) {
		hf_err_set(err, "no memory to copy guest memory with");
		return -ENOMEM;
	}
	o->from_fd = ram_fd;
	o->to_fd = -1;
	o->bytes = ram_bytes;
	o->at = o->data_end = o->written_bytes = 0;
	o->new_path[0] = '\0';
	o->is_finished = false;
	r = open_to(o, path, space_bytes, err);
	if (r < 0)
		hf_offload_free(o);
	else
		*ret = o;
	return r;
}

/* ---- copying ---- */

static bool is_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int write_at(struct hf_offload *o, size_t from, size_t len)
{
	while (len > 0) {
		ssize_t n = pwrite(o->to_fd, o->buf + from, len, (off_t)(o->at + from));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += (size_t)n;
		len -= (size_t)n;
		o->written_bytes += (uint64_t)n;
	}
	return 0;
}

/* What lies between pages full of zeros. */
static int write_data(struct hf_offload *o, size_t len)
{
	size_t start = 0;
	int r = 0;

	for (size_t at = 0; r == 0 && at < len; at += PAGE_BYTES) {
		size_t n = len - at < PAGE_BYTES ? len - at : PAGE_BYTES;

		if (!is_zero(o->buf + at, n))
			continue;
		r = write_at(o, start, at - start);
		start = at + n;
	}
	return r < 0 || start >= len ? r : write_at(o, start, len - start);
}

static int read_data(struct hf_offload *o, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(o->from_fd, o->buf + have, len - have, (off_t)(o->at + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		have += (size_t)n;
	}
	return 0;
}

int hf_offload_step(struct hf_offload *o, struct hf_err *err)
{
	size_t len;
	int r = 0;

	if (o->at == o->data_end && o->at < o->bytes)
		r = find_data(o->from_fd, o->at, o->bytes, &o->at, &o->data_end);
	if (r < 0)
		return fail(r, "find the data of", "guest memory", err);
	if (o->at == o->bytes)
		return 0;
	len = o->data_end - o->at < sizeof(o->buf) ? (size_t)(o->data_end - o->at) : sizeof(o->buf);
	r = read_data(o, len);
	if (r < 0)
		return fail(r, "read", "guest memory", err);
	r = write_data(o, len);
	if (r < 0)
		return fail(r, "write", o->new_path, err);
	o->at += len;
	return HF_OFFLOAD_MORE;
}

uint64_t hf_offload_done_bytes(const struct hf_offload *o)
{
	return o->at;
}

uint64_t hf_offload_written_bytes(const struct hf_offload *o)
{
	return o->written_bytes;
}

int hf_offload_finish(struct hf_offload *o, struct hf_err *err)
{
	char dir[PATH_MAX];
	char *slash;

	assert(o->at == o->bytes);
	if (fsync(o->to_fd) < 0)
		return fail(-errno, "sync", o->new_path, err);
	if (rename(o->new_path, o->path) < 0)
		return fail(-errno, "make", o->path, err);
	o->is_finished = true;
	memcpy(dir, o->path, sizeof(dir));
	slash = strrchr(dir, '/');
	if (!slash)
		return hf_frozen_sync_dir(".", err);
	slash[slash == dir] = '\0';
	return hf_frozen_sync_dir(dir, err);
}

void hf_offload_free(struct hf_offload *o)
{
	if (!o)
		return;
	if (o->to_fd >= 0 && !o->is_finished)
		(void)unlink(o->new_path);
	hf_fd_close(&o->to_fd);
	free(o);
}

/* ---- of a frozen instance ---- */

static int copy_all(struct hf_offload *o, hf_offload_progress *on_progress, void *ctx,
		    struct hf_err *err)
{
	int r = HF_OFFLOAD_MORE;

	while (r == HF_OFFLOAD_MORE) {
		if (on_progress && !on_progress(ctx, hf_offload_done_bytes(o), o->bytes)) {
			hf_err_set(err, "called off");
			return -ECANCELED;
		}
		r = hf_offload_step(o, err);
	}
	return r < 0 ? r : hf_offload_finish(o, err);
}

/* What may still be taken: -ENOSPC if there is nothing. Memory that is a process's is not counted: what
 * this one frees is more than what it takes. */
static int space_left(const char *state_dir, const struct hf_certificate *c, uint64_t space_bytes,
		      uint64_t *ret, struct hf_err *err)
{
	struct hf_frozen *list;
	uint64_t used = 0;
	size_t n;
	int r;

	*ret = 0;
	if (!space_bytes)
		return 0;
	r = hf_frozen_list(state_dir, c->vm, &list, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		used += hf_frozen_disk_bytes(&list[i]);
	hf_frozen_free(list, n);
	if (used >= space_bytes) {
		hf_err_set(err, "the frozen instances of '%s' take all of frozen-space", c->vm);
		return -ENOSPC;
	}
	*ret = space_bytes - used;
	return 0;
}

static int tell_file(const char *state_dir, struct hf_certificate *c, struct hf_err *err)
{
	struct hf_certificate now = *c; /* its lists stay c's */
	int r;

	now.ram = HF_REMAINS_FILE;
	now.ram_holder = (struct hf_process_id){ .pid = 0 };
	r = hf_frozen_write(state_dir, &now, err);
	if (r < 0)
		return r;
	/* The memory is safe. A holder that stays costs memory, and no more. */
	(void)!hf_frozen_end_holder(c, NULL);
	c->ram = now.ram;
	c->ram_holder = now.ram_holder;
	return 0;
}

static int move(const char *state_dir, struct hf_certificate *c, int fd, uint64_t space_bytes,
		hf_offload_progress *on_progress, void *ctx, struct hf_err *err)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct hf_offload *o = NULL;
	int r = hf_frozen_path(state_dir, c->vm, c->id, dir, err);

	if (r == 0)
		r = hf_frozen_join(dir, HF_FROZEN_RAM, path, err);
	if (r == 0)
		r = hf_offload_open(fd, c->ram_bytes, path, space_bytes, &o, err);
	if (r == 0)
		r = copy_all(o, on_progress, ctx, err);
	hf_offload_free(o);
	return r < 0 ? r : tell_file(state_dir, c, err);
}

int hf_offload(const char *state_dir, struct hf_certificate *c, uint64_t space_bytes,
	       hf_offload_progress *on_progress, void *ctx, struct hf_err *err)
{
	uint64_t left_bytes;
	int fd = -1, r;

	if (c->ram == HF_REMAINS_FILE)
		return 0;
	r = space_left(state_dir, c, space_bytes, &left_bytes, err);
	if (r == 0)
		r = hf_frozen_open_ram_of(c, &fd, err);
	if (r == 0)
		r = move(state_dir, c, fd, left_bytes, on_progress, ctx, err);
	hf_fd_close(&fd);
	return r;
}

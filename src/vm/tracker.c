/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * The mapping is cut into slices which the pool's threads read at the same time; the two ways of
 * reading one are behind struct hf_tracker_ops. A slice starts and ends on a multiple of 64 pages
 * of the bitmap, so no two threads touch the same word of it and none needs a lock, and on a
 * multiple of the mapping's own pages, because the kernel resets huge pages only as a whole. Slices
 * are several per thread, as dirty memory is rarely spread evenly.
 */
#include "vm/tracker.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/tracker-internal.h"

#define GIB (UINT64_C(1) << 30)
/* Below this a slice costs less than handing it to a thread. Also the granule of slices: 64 pages
 * of the bitmap are 256 KiB, so any multiple of that will do. */
#define SLICE_MIN_BYTES (UINT64_C(32) << 20)
#define SLICES_PER_THREAD 4
#define ONE_THREAD_UP_TO_BYTES (4 * GIB)
#define AUTO_THREADS_MAX 4

void hf_tracker_slice_add(const struct hf_tracker *t, struct hf_tracker_slice *slice,
			  uint64_t start, uint64_t end)
{
	uint64_t offset = start - t->config.address + t->config.file_offset_bytes;
	uint64_t n = (end - start) / HF_TRACKER_PAGE_BYTES;

	assert(start >= slice->start);
	assert(end <= slice->end);
	slice->n_pages += n;
	if (slice->bitmap)
		hf_bitmap_set_range(slice->bitmap, offset / HF_TRACKER_PAGE_BYTES, n);
}

static int check_config(const struct hf_tracker_config *c, struct hf_err *err)
{
	uint64_t all = c->address | c->length_bytes | c->file_offset_bytes, end;

	if (c->pid <= 0 || c->length_bytes == 0 || all % HF_TRACKER_PAGE_BYTES ||
	    __builtin_add_overflow(c->address, c->length_bytes, &end) ||
	    __builtin_add_overflow(c->file_offset_bytes, c->length_bytes, &end) ||
	    end / HF_TRACKER_PAGE_BYTES > HF_BITMAP_MAX_BITS) {
		hf_err_set(err,
			   "no sound mapping to track: process %ld, address %#llx, %#llx "
			   "bytes",
			   (long)c->pid, (unsigned long long)c->address,
			   (unsigned long long)c->length_bytes);
		return -EINVAL;
	}
	if (c->n_threads > HF_POOL_MAX_THREADS) {
		hf_err_set(err, "%u threads for tracking are too many (at most %d)", c->n_threads,
			   HF_POOL_MAX_THREADS);
		return -EINVAL;
	}
	return 0;
}

static int inspect_mapping(struct hf_tracker *t, struct hf_err *err)
{
	struct hf_tracker_mapping *m = &t->mapping;
	int r = hf_tracker_mapping_read(t->config.pid, t->config.address, m);

	if (r < 0) {
		hf_err_set(err, "no memory of process %ld at %#llx: %s", (long)t->config.pid,
			   (unsigned long long)t->config.address, strerror(-r));
		return r;
	}
	if ((t->config.address | t->config.length_bytes | t->config.file_offset_bytes) %
	    m->page_bytes) {
		hf_err_set(err, "guest RAM is no whole number of its pages of %llu KiB",
			   (unsigned long long)m->page_bytes / 1024);
		return -EINVAL;
	}
	if (m->page_bytes == HF_TRACKER_PAGE_BYTES && !m->is_thp_disabled &&
	    hf_tracker_has_shmem_thp()) {
		hf_err_set(err, "transparent huge pages of tmpfs lose track of writes: write "
				"'never' to /sys/kernel/mm/transparent_hugepage/shmem_enabled");
		return -EOPNOTSUPP;
	}
	return 0;
}

static int try_mode(struct hf_tracker *t, const struct hf_tracker_ops *ops, struct hf_err *err)
{
	int r = ops->probe(t, err);

	if (r == 0)
		t->ops = ops;
	return r;
}

static int choose_mode(struct hf_tracker *t, struct hf_err *err)
{
	struct hf_err scan = { "" }, soft = { "" };

	if (t->config.mode == HF_TRACKER_PAGEMAP_SCAN)
		return try_mode(t, &hf_tracker_scan_ops, err);
	if (t->config.mode == HF_TRACKER_SOFT_DIRTY)
		return try_mode(t, &hf_tracker_softdirty_ops, err);
	if (try_mode(t, &hf_tracker_scan_ops, &scan) == 0)
		return 0;
	if (try_mode(t, &hf_tracker_softdirty_ops, &soft) == 0)
		return 0;
	hf_err_set(err, "cannot track writes to guest RAM. pagemap-scan: %s. soft-dirty: %s",
		   scan.text, soft.text);
	return -EOPNOTSUPP;
}

static unsigned int choose_threads(const struct hf_tracker_config *c)
{
	long n_online;

	if (c->n_threads)
		return c->n_threads;
	if (c->length_bytes <= ONE_THREAD_UP_TO_BYTES)
		return 1;
	n_online = sysconf(_SC_NPROCESSORS_ONLN);
	if (n_online < 1)
		return 1;
	return n_online < AUTO_THREADS_MAX ? (unsigned int)n_online : AUTO_THREADS_MAX;
}

static uint64_t choose_slice_bytes(const struct hf_tracker *t)
{
	uint64_t granule = SLICE_MIN_BYTES;
	uint64_t n = (uint64_t)hf_pool_threads(t->pool) * SLICES_PER_THREAD;

	/* Both are powers of two, so the larger is a multiple of the smaller. */
	if (t->mapping.page_bytes > granule)
		granule = t->mapping.page_bytes;
	return (t->config.length_bytes / n / granule + 1) * granule;
}

static int set_up(struct hf_tracker *t, struct hf_err *err)
{
	int r;

	r = inspect_mapping(t, err);
	if (r == 0)
		r = choose_mode(t, err);
	if (r < 0)
		return r;
	r = hf_pool_new(choose_threads(&t->config), &t->pool);
	if (r < 0) {
		hf_err_set(err, "cannot start threads for tracking: %s", strerror(-r));
		return r;
	}
	t->slice_bytes = choose_slice_bytes(t);
	return 0;
}

int hf_tracker_open(const struct hf_tracker_config *config, struct hf_tracker **ret,
		    struct hf_err *err)
{
	struct hf_tracker *t;
	int r;

	r = check_config(config, err);
	if (r < 0)
		return r;
	t = calloc(1, sizeof(*t));
	if (!t) {
		hf_err_set(err, "no memory for tracking writes");
		return -ENOMEM;
	}
	t->config = *config;
	t->pagemap_fd = t->clear_refs_fd = -1;
	r = set_up(t, err);
	if (r < 0) {
		hf_tracker_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

void hf_tracker_close(struct hf_tracker *t)
{
	if (!t)
		return;
	hf_pool_free(t->pool);
	if (t->pagemap_fd >= 0)
		(void)close(t->pagemap_fd);
	if (t->clear_refs_fd >= 0)
		(void)close(t->clear_refs_fd);
	free(t);
}

struct collect {
	const struct hf_tracker *t;
	struct hf_bitmap *bitmap;
	bool is_resetting;
	atomic_uint_fast64_t n_pages;
	atomic_int error; /* the first one, 0 if none */
};

/* Slices are counted from the start of the RAM file, hence of the bitmap, not of the mapping. */
static void collect_slice(void *ctx, size_t task)
{
	struct collect *c = ctx;
	const struct hf_tracker_config *config = &c->t->config;
	uint64_t skew = config->file_offset_bytes % c->t->slice_bytes;
	uint64_t first = task * c->t->slice_bytes, last = first + c->t->slice_bytes;
	struct hf_tracker_slice slice = { .bitmap = c->bitmap, .is_resetting = c->is_resetting };
	int r, none = 0;

	first = first > skew ? first - skew : 0;
	last = last - skew < config->length_bytes ? last - skew : config->length_bytes;
	slice.start = config->address + first;
	slice.end = config->address + last;
	r = c->t->ops->read(c->t, &slice);
	atomic_fetch_add(&c->n_pages, slice.n_pages);
	if (r < 0)
		atomic_compare_exchange_strong(&c->error, &none, r);
}

static size_t count_slices(const struct hf_tracker *t)
{
	uint64_t skew = t->config.file_offset_bytes % t->slice_bytes;

	return (size_t)((skew + t->config.length_bytes + t->slice_bytes - 1) / t->slice_bytes);
}

/* Pages that the probe found written, and reset, when the tracker was opened. */
static uint64_t add_probed(struct hf_tracker *t, struct hf_bitmap *bitmap)
{
	uint64_t n = t->probed_bytes / HF_TRACKER_PAGE_BYTES;

	hf_bitmap_set_range(bitmap, t->config.file_offset_bytes / HF_TRACKER_PAGE_BYTES, n);
	t->probed_bytes = 0;
	return n;
}

int hf_tracker_collect(struct hf_tracker *t, enum hf_tracker_guest guest, struct hf_bitmap *bitmap,
		       uint64_t *ret_pages)
{
	uint64_t end = t->config.file_offset_bytes + t->config.length_bytes;
	struct collect c = {
		.t = t,
		.bitmap = bitmap,
		.is_resetting = guest == HF_TRACKER_STOPPED || t->ops->may_reset_running,
	};
	int r;

	assert(bitmap->n_bits >= end / HF_TRACKER_PAGE_BYTES);
	hf_pool_run(t->pool, collect_slice, &c, count_slices(t));
	r = c.error;
	if (r == 0)
		r = t->ops->finish(t, c.is_resetting);
	if (r < 0)
		return r;
	c.n_pages += add_probed(t, bitmap);
	if (ret_pages)
		*ret_pages = c.n_pages;
	return 0;
}

int hf_tracker_peek_count(struct hf_tracker *t, uint64_t max, uint64_t *ret)
{
	struct hf_tracker_slice slice = {
		.start = t->config.address,
		.end = t->config.address + t->config.length_bytes,
		.max_pages = max,
	};
	int r = 0;

	if (max > 0)
		r = t->ops->read(t, &slice);
	if (r == 0)
		r = t->ops->finish(t, /* is_resetting= */ false);
	if (r < 0)
		return r;
	*ret = slice.n_pages < max ? slice.n_pages : max;
	return 0;
}

bool hf_tracker_may_reset_running(const struct hf_tracker *t)
{
	return t->ops->may_reset_running;
}

const char *hf_tracker_mode_name(const struct hf_tracker *t)
{
	return t->ops->name;
}

uint64_t hf_tracker_mapping_page_bytes(const struct hf_tracker *t)
{
	return t->mapping.page_bytes;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests: which way they go, and what a read puts together. */
#include "disk/engine.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#include "disk/engine-internal.h"

/* How long a write past the log waits before it asks again for permission. */
#define PERMIT_WAIT_NS (10 * ENGINE_MS_NS)

uint64_t engine_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * ENGINE_S_NS + (uint64_t)t.tv_nsec;
}

void engine_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns)
{
	struct timespec t = { .tv_sec = (time_t)(deadline_ns / ENGINE_S_NS),
			      .tv_nsec = (long)(deadline_ns % ENGINE_S_NS) };

	if (deadline_ns)
		(void)pthread_cond_timedwait(cond, lock, &t);
	else
		(void)pthread_cond_wait(cond, lock);
}

void engine_signal(struct hf_engine *e)
{
	e->n_signals++;
	pthread_cond_broadcast(&e->changed);
}

void engine_poke(struct hf_engine *e)
{
	pthread_mutex_lock(&e->lock);
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static bool is_range_valid(const struct hf_engine *e, uint32_t disk, uint64_t offset, uint64_t len)
{
	const struct engine_disk *d = &e->disk[disk];

	return disk < e->n_disks && len > 0 && offset <= d->size_bytes &&
	       len <= d->size_bytes - offset && offset % d->block_bytes == 0 &&
	       len % d->block_bytes == 0;
}

/* ---- past the log ---- */

/* Counted first and asked then, so that who changes the mode sees either the count or a change of mind. */
static bool enter_direct(struct hf_engine *e)
{
	atomic_fetch_add(&e->n_direct, 1);
	if (engine_is_direct(e))
		return true;
	if (atomic_fetch_sub(&e->n_direct, 1) == 1)
		engine_poke(e);
	return false;
}

static void leave_direct(struct hf_engine *e)
{
	if (atomic_fetch_sub(&e->n_direct, 1) == 1 && !engine_is_direct(e))
		engine_poke(e);
}

/* A write begins only while this host may write. */
static void await_permit(const struct hf_engine *e)
{
	const struct timespec t = { .tv_nsec = PERMIT_WAIT_NS };
	uint64_t permit;

	while ((permit = engine_permit_ns(e)) != UINT64_MAX &&
	       !hf_disk_may_write(engine_now_ns(), permit))
		(void)nanosleep(&t, NULL);
}

static int write_image(struct engine_disk *d, const struct engine_request *q)
{
	switch (q->kind) {
	case HF_WIRE_DISK_WRITE:
		return hf_image_write(d->image, q->data, q->length_bytes, q->offset_bytes);
	case HF_WIRE_DISK_ZERO:
		return hf_image_zero(d->image, q->length_bytes, q->offset_bytes,
				     q->flags & HF_WIRE_DISK_MAY_TRIM);
	case HF_WIRE_DISK_TRIM:
		return hf_image_trim(d->image, q->length_bytes, q->offset_bytes);
	case HF_WIRE_DISK_FLUSH:
		return hf_image_flush(d->image);
	case HF_WIRE_DISK_KIND_COUNT:
	default:
		return -EINVAL;
	}
}

/* The map says before the write that the block may differ, and after it once more: a first copy may have
 * read the block in between. */
static int go_direct(struct hf_engine *e, const struct engine_request *q)
{
	struct engine_disk *d = &e->disk[q->disk];
	bool is_marked = d->map && q->kind != HF_WIRE_DISK_FLUSH;
	unsigned int token = 0;
	int r;

	await_permit(e);
	if (is_marked)
		token = hf_dirtymap_write_begin(d->map, q->offset_bytes, q->length_bytes);
	r = write_image(d, q);
	if (is_marked)
		hf_dirtymap_write_end(d->map, token, q->offset_bytes, q->length_bytes);
	if (!r && (q->flags & HF_WIRE_DISK_FUA))
		r = hf_image_flush(d->image);
	return r;
}

/* ---- requests ---- */

/* Only the VM's owner is written to; a standby's QEMU only looks, until it is promoted. */
static bool is_owner(struct hf_engine *e)
{
	if (atomic_load(&e->words->role) != HF_DISKSHM_OWNER)
		return false;
	if (atomic_load(&e->role) == HF_DISKSHM_OWNER)
		return true;
	if (!atomic_exchange(&e->is_claimed, true))
		engine_poke(e);
	pthread_mutex_lock(&e->log_lock);
	while (atomic_load(&e->role) != HF_DISKSHM_OWNER)
		engine_wait(&e->log_changed, &e->log_lock, engine_now_ns() + ENGINE_S_NS);
	pthread_mutex_unlock(&e->log_lock);
	return true;
}

static int put(struct hf_engine *e, const struct engine_request *q)
{
	int r;

	if (!is_owner(e))
		return -EROFS;
	do {
		if (enter_direct(e)) {
			r = go_direct(e, q);
			leave_direct(e);
		} else {
			r = engine_log(e, q);
		}
	} while (r == ENGINE_GO_DIRECT);
	return r;
}

int hf_engine_write(struct hf_engine *e, uint32_t disk, const void *buf, uint32_t len,
		    uint64_t offset, bool is_fua)
{
	struct engine_request q = {
		.kind = HF_WIRE_DISK_WRITE,
		.disk = (uint8_t)disk,
		.flags = is_fua ? HF_WIRE_DISK_FUA : 0,
		.offset_bytes = offset,
		.length_bytes = len,
		.data = buf,
	};

	if (!is_range_valid(e, disk, offset, len))
		return -EINVAL;
	count(&e->words->n_writes, 1);
	count(&e->words->written_bytes, len);
	return put(e, &q);
}

int hf_engine_zero(struct hf_engine *e, uint32_t disk, uint64_t len, uint64_t offset, bool may_trim,
		   bool is_fua)
{
	struct engine_request q = {
		.kind = HF_WIRE_DISK_ZERO,
		.disk = (uint8_t)disk,
		.flags = (uint8_t)((may_trim ? HF_WIRE_DISK_MAY_TRIM : 0) |
				   (is_fua ? HF_WIRE_DISK_FUA : 0)),
		.offset_bytes = offset,
		.length_bytes = len,
	};

	if (!is_range_valid(e, disk, offset, len))
		return -EINVAL;
	count(&e->words->n_writes, 1);
	return put(e, &q);
}

int hf_engine_trim(struct hf_engine *e, uint32_t disk, uint64_t len, uint64_t offset, bool is_fua)
{
	struct engine_request q = {
		.kind = HF_WIRE_DISK_TRIM,
		.disk = (uint8_t)disk,
		.flags = is_fua ? HF_WIRE_DISK_FUA : 0,
		.offset_bytes = offset,
		.length_bytes = len,
	};

	if (!is_range_valid(e, disk, offset, len))
		return -EINVAL;
	count(&e->words->n_writes, 1);
	return put(e, &q);
}

/* A standby's QEMU flushes, too, when it ends. */
int hf_engine_flush(struct hf_engine *e, uint32_t disk)
{
	struct engine_request q = { .kind = HF_WIRE_DISK_FLUSH, .disk = (uint8_t)disk };

	if (disk >= e->n_disks)
		return -EINVAL;
	count(&e->words->n_flushes, 1);
	if (!is_owner(e))
		return 0;
	if (atomic_load(&e->disk[disk].lost)) {
		int lost = atomic_exchange(&e->disk[disk].lost, 0);

		if (lost)
			return lost;
	}
	return put(e, &q);
}

static int read_gaps(struct engine_disk *d, uint8_t *buf, uint64_t offset,
		     const struct engine_gap *gaps, int n)
{
	int r = 0;

	for (int i = 0; !r && i < n; i++)
		r = hf_image_read(d->image, buf + (gaps[i].offset_bytes - offset),
				  gaps[i].length_bytes, gaps[i].offset_bytes);
	return r;
}

static int read_both(struct hf_engine *e, struct engine_disk *d, uint8_t *buf, uint64_t offset,
		     uint64_t end)
{
	struct engine_gap gaps[ENGINE_GAPS_MAX];
	uint64_t at = offset;
	int r = 0;

	while (!r && at < end) {
		uint64_t from = at;
		int n = engine_overlay_read(e, d, buf + (from - offset), from, end, gaps, &at);

		r = read_gaps(d, buf + (from - offset), from, gaps, n);
	}
	return r;
}

int hf_engine_read(struct hf_engine *e, uint32_t disk, void *buf, uint32_t len, uint64_t offset)
{
	struct engine_disk *d = &e->disk[disk];

	if (!is_range_valid(e, disk, offset, len))
		return -EINVAL;
	count(&e->words->n_reads, 1);
	count(&e->words->read_bytes, len);
	(void)is_owner(e); /* what a standby was given is in the overlay before it is looked into */
	if (atomic_load(&d->n_overlay) == 0)
		return hf_image_read(d->image, buf, len, offset);
	return read_both(e, d, buf, offset, offset + len);
}

int hf_engine_extent(struct hf_engine *e, uint32_t disk, uint64_t offset, uint64_t end,
		     uint64_t *ret_len, bool *ret_is_hole)
{
	struct engine_disk *d = &e->disk[disk];
	struct hf_extent x;
	bool is_found;

	if (disk >= e->n_disks || offset >= end || end > d->size_bytes)
		return -EINVAL;
	(void)is_owner(e);
	pthread_rwlock_rdlock(&d->lock);
	is_found = hf_extents_find(d->overlay, offset, end, &x);
	pthread_rwlock_unlock(&d->lock);
	if (!is_found)
		return hf_image_extent(d->image, offset, end, ret_len, ret_is_hole);
	if (x.offset_bytes > offset)
		return hf_image_extent(d->image, offset, x.offset_bytes, ret_len, ret_is_hole);
	*ret_len = x.length_bytes;
	*ret_is_hole = x.is_zero;
	return 0;
}

void hf_engine_geometry(const struct hf_engine *e, uint32_t disk, struct hf_diskctl_geometry *ret)
{
	const struct engine_disk *d = &e->disk[disk];

	assert(disk < e->n_disks);
	*ret = (struct hf_diskctl_geometry){
		.size_bytes = d->size_bytes,
		.block_bytes = d->block_bytes,
		.can_trim = d->can_trim,
	};
}

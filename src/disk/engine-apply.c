/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Journaled and committed epochs into the images, and the images' flush; pieces of a first copy into a
 * standby's images.
 *
 * Chunks are taken in batches. In a batch only the newest content of each byte is written, in order of
 * offset, and what lies side by side goes in one write. Then the overlay lets go of what was written, and only then
 * are the chunks freed. A batch may end inside an epoch: the journal has the whole of it, and a successor
 * begins with the oldest chunk that is left.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "disk/engine-internal.h"

#define RETRY_NS (1 * ENGINE_S_NS)
#define SETTLE_NS (1 * ENGINE_S_NS)
#define IOV_MAX_N 512
/* A range of zeros is cut, so that the permission is asked for often enough. */
#define ZERO_MAX_BYTES ((uint64_t)64 << 20)

enum { NOT_PERMITTED = 1 };

/* For zeros: what the place of an extent says. */
enum { PLACE_ZERO, PLACE_MAY_TRIM, PLACE_TRIM };

/* ---- one disk ---- */

struct run {
	struct iovec iov[IOV_MAX_N];
	int n;
	uint64_t offset_bytes;
	uint64_t length_bytes;
};

static bool may_write(const struct hf_engine *e)
{
	return hf_disk_may_write(engine_now_ns(), engine_permit_ns(e));
}

/* Is a copy that is being made to be told of what is written now? What the log holds while the VM is protected
 * was marked when it was logged. */
static bool is_marking(const struct hf_engine *e)
{
	return atomic_load(&e->role) != HF_DISKSHM_OWNER || atomic_load(&e->is_syncing) ||
	       atomic_load(&e->words->state) == HF_DISKSHM_DRAIN;
}

static int write_zeros(struct hf_engine *e, struct engine_disk *d, const struct hf_extent *x)
{
	uint64_t max = e->is_shared ? ENGINE_WRITE_MAX_BYTES : ZERO_MAX_BYTES;
	uint64_t end = x->offset_bytes + x->length_bytes;
	int r = 0;

	for (uint64_t at = x->offset_bytes; !r && at < end; at += max) {
		uint64_t len = end - at < max ? end - at : max;

		if (!may_write(e))
			return NOT_PERMITTED;
		if (x->place == PLACE_TRIM)
			r = hf_image_trim(d->image, len, at);
		else
			r = hf_image_zero(d->image, len, at, x->place == PLACE_MAY_TRIM);
	}
	return r;
}

static int write_run(struct hf_engine *e, struct engine_disk *d, struct run *run)
{
	int r = 0;

	if (run->n > 0 && !may_write(e))
		return NOT_PERMITTED;
	if (run->n > 0)
		r = hf_image_writev(d->image, run->iov, run->n, run->offset_bytes);
	run->n = 0;
	run->length_bytes = 0;
	return r;
}

static bool is_next_of(const struct run *run, const struct hf_extent *x)
{
	return run->n < IOV_MAX_N && x->offset_bytes == run->offset_bytes + run->length_bytes &&
	       run->length_bytes + x->length_bytes <= ENGINE_WRITE_MAX_BYTES;
}

static int write_extent(struct hf_engine *e, struct engine_disk *d, struct run *run,
			const struct hf_extent *x)
{
	int r = 0;

	if (run->n > 0 && (x->is_zero || !is_next_of(run, x)))
		r = write_run(e, d, run);
	if (r != 0)
		return r;
	if (x->is_zero)
		return write_zeros(e, d, x);
	if (run->n == 0)
		run->offset_bytes = x->offset_bytes;
	run->iov[run->n++] = (struct iovec){
		(uint8_t *)e->shm.words + x->place,
		x->length_bytes,
	};
	run->length_bytes += x->length_bytes;
	return 0;
}

static int write_disk(struct hf_engine *e, struct engine_disk *d, uint64_t *ret_at)
{
	struct run run = { .n = 0 };
	struct hf_extent x;
	uint64_t at = 0;
	int r = 0;

	while (!r && hf_extents_find(d->batch, at, UINT64_MAX, &x)) {
		r = write_extent(e, d, &run, &x);
		at = x.offset_bytes + x.length_bytes;
	}
	*ret_at = run.n > 0 ? run.offset_bytes : at;
	return r ? r : write_run(e, d, &run);
}

/* Before and after: what is written may be what a copy has just read. */
static void mark_disk(struct engine_disk *d)
{
	struct hf_extent x;
	uint64_t at = 0;

	while (hf_extents_find(d->batch, at, UINT64_MAX, &x)) {
		hf_dirtymap_set(d->map, x.offset_bytes, x.length_bytes);
		at = x.offset_bytes + x.length_bytes;
	}
}

static void drop_disk(struct engine_disk *d, uint64_t *written)
{
	struct hf_extent x;
	uint64_t at = 0;

	while (hf_extents_find(d->batch, at, UINT64_MAX, &x)) {
		engine_overlay_drop(d, &x);
		*written += x.is_zero ? 0 : x.length_bytes;
		at = x.offset_bytes + x.length_bytes;
	}
	hf_extents_clear(d->batch);
}

/* ---- a batch ---- */

struct batch {
	enum hf_diskshm_pool_id pool;
	uint64_t from, to; /* positions */
	uint64_t data_bytes; /* of all records */
	uint64_t record_bytes;
};

static int add_record(struct hf_engine *e, const struct hf_wire_disk_record *rec, uint64_t serial,
		      struct batch *b)
{
	struct engine_disk *d = &e->disk[rec->disk];
	struct hf_extent x = {
		.offset_bytes = rec->offset_bytes,
		.length_bytes = rec->length_bytes,
		.is_zero = rec->kind != HF_WIRE_DISK_WRITE,
		.serial = serial,
	};
	int r;

	if (rec->kind == HF_WIRE_DISK_FLUSH)
		return 0;
	if (!x.is_zero)
		x.place = (uint64_t)(rec->data - (const uint8_t *)e->shm.words);
	else if (rec->kind == HF_WIRE_DISK_TRIM)
		x.place = PLACE_TRIM;
	else
		x.place = rec->flags & HF_WIRE_DISK_MAY_TRIM ? PLACE_MAY_TRIM : PLACE_ZERO;
	r = hf_extents_reserve(d->batch, 1);
	if (!r)
		hf_extents_set(d->batch, &x);
	if (!x.is_zero)
		b->data_bytes += x.length_bytes;
	return r;
}

static int add_chunk(struct hf_engine *e, const struct hf_diskshm_view *v, struct batch *b,
		     struct hf_err *err)
{
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record rec;
	int r;

	while ((r = engine_next_record(e, v, &cursor, &rec, err)) > 0) {
		r = add_record(e, &rec, engine_serial(b->pool, b->to, cursor.n - 1), b);
		if (r < 0)
			break;
	}
	b->record_bytes += v->used;
	return r;
}

static int write_disks(struct hf_engine *e)
{
	uint64_t at = 0;
	int r = 0;

	for (uint32_t i = 0; !r && i < e->n_disks; i++) {
		struct engine_disk *d = &e->disk[i];
		bool is_marked = d->map && is_marking(e);

		if (hf_extents_count(d->batch) == 0)
			continue;
		if (is_marked)
			mark_disk(d);
		r = write_disk(e, d, &at);
		if (is_marked)
			mark_disk(d);
		engine_fault(e, i, at, r < 0 ? r : 0, "disk %u: writing at %llu: %s", i,
			     (unsigned long long)at, strerror(r < 0 ? -r : 0));
	}
	return r;
}

static void clear_batch(struct hf_engine *e)
{
	for (uint32_t i = 0; i < e->n_disks; i++)
		hf_extents_clear(e->disk[i].batch);
}

static int write_batch(struct hf_engine *e, const struct batch *b)
{
	uint64_t written = 0;
	int r = write_disks(e);

	if (r) {
		clear_batch(e);
		return r;
	}
	for (uint32_t i = 0; i < e->n_disks; i++)
		drop_disk(&e->disk[i], &written);
	atomic_fetch_add(&e->words->applied_bytes, written);
	atomic_fetch_add(&e->words->merged_bytes,
			 b->data_bytes > written ? b->data_bytes - written : 0);
	pthread_mutex_lock(&e->lock);
	e->unsettled_bytes += b->record_bytes;
	if (!e->apply_ns)
		e->apply_ns = engine_now_ns();
	pthread_mutex_unlock(&e->lock);
	return 0;
}

/* The chunks of a batch are done with. IN and COPY are the keeper's to free. */
static void release(struct hf_engine *e, const struct batch *b)
{
	if (b->pool == HF_DISKSHM_OUT) {
		for (uint64_t at = b->from; at < b->to; at++)
			engine_free_oldest(e);
		return;
	}
	atomic_store(b->pool == HF_DISKSHM_IN ? &e->words->in_done : &e->words->copy_done, b->to);
	hf_diskshm_notify(&e->shm);
}

/* Adds chunks up to epoch @to (COPY: what stands there), what was applied before it (@after) is only released. */
static int gather(struct hf_engine *e, struct batch *b, uint64_t after, uint64_t to,
		  struct hf_err *err)
{
	uint64_t head = hf_diskshm_head(&e->shm, b->pool);
	struct hf_diskshm_view v;
	int r = 0;

	for (; !r && b->to < head && b->record_bytes < ENGINE_BATCH_BYTES; b->to++) {
		if (!hf_diskshm_look(&e->shm, b->pool, b->to, &v)) {
			hf_err_set(err, "the shared log is damaged");
			return -EBADMSG;
		}
		if (b->pool == HF_DISKSHM_COPY ? !v.used : v.epoch > to)
			break;
		if (b->pool == HF_DISKSHM_COPY || v.epoch > after)
			r = add_chunk(e, &v, b, err);
		if (r)
			break;
	}
	return r;
}

static int apply_pool(struct hf_engine *e, enum hf_diskshm_pool_id pool, uint64_t after,
		      uint64_t to)
{
	struct hf_err err = { "" };
	int r = 0;

	for (;;) {
		struct batch b = { .pool = pool, .from = engine_first(e, pool) };

		b.to = b.from;
		r = gather(e, &b, after, to, &err);
		if (r < 0) {
			clear_batch(e);
			engine_fault(e, ENGINE_FAULT_JOURNAL, 0, r, "the log: %s",
				     err.text[0] ? err.text : strerror(-r));
			return r;
		}
		if (b.from == b.to)
			return 0;
		if (b.record_bytes > 0)
			r = write_batch(e, &b);
		if (r)
			return r;
		release(e, &b);
	}
}

/* ---- settling ---- */

int engine_flush_images(struct hf_engine *e)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < e->n_disks; i++) {
		r = hf_image_flush(e->disk[i].image);
		engine_fault(e, ENGINE_FAULT_FLUSH(i), 0, r, "disk %u: flush: %s", i, strerror(-r));
	}
	return r;
}

/* lock held. When to flush the images; 0: nothing is to be flushed. */
static uint64_t settle_due_ns(const struct hf_engine *e, uint64_t now)
{
	uint64_t soft = (uint64_t)e->shm.soft_chunks[HF_DISKSHM_OUT] * HF_DISKSHM_CHUNK_BYTES;

	if (e->d.settled == e->d.applied)
		return 0;
	if (e->wants_settle || e->wants_reset || e->unsettled_bytes > soft / 2 ||
	    atomic_load(&e->words->state) == HF_DISKSHM_DRAIN ||
	    atomic_load(&e->redo_used_bytes) > e->redo_area_bytes / 4)
		return now;
	return e->apply_ns ? e->apply_ns + SETTLE_NS : now;
}

/* What a flush that failed was for is written again before the next one can be believed. */
static int flush_or_redo(struct hf_engine *e, uint64_t to)
{
	struct hf_err err = { "" };
	int r = 0;

	if (atomic_load(&e->words->must_redo)) {
		r = engine_redo(e, to, &err);
		engine_fault(e, ENGINE_FAULT_JOURNAL, 0, r, "%s", err.text);
	}
	if (!r)
		r = engine_flush_images(e);
	atomic_store(&e->words->must_redo, r < 0);
	return r;
}

static bool settle(struct hf_engine *e)
{
	bool is_clean;
	uint64_t to;
	int r;

	pthread_mutex_lock(&e->lock);
	if (!hf_disk_next_settle(&e->d, &to)) {
		pthread_mutex_unlock(&e->lock);
		return false;
	}
	is_clean = e->unsettled_bytes == 0 && !atomic_load(&e->words->must_redo);
	e->apply_ns = 0;
	e->unsettled_bytes = 0;
	pthread_mutex_unlock(&e->lock);
	r = is_clean ? 0 : flush_or_redo(e, to);
	pthread_mutex_lock(&e->lock);
	hf_disk_settle_done(&e->d, r == 0);
	if (r < 0)
		e->apply_retry_ns = engine_now_ns() + RETRY_NS;
	engine_publish(e);
	pthread_mutex_unlock(&e->lock);
	return r == 0;
}

/* lock held. Is the journal worth emptying? */
static bool is_reset_due(const struct hf_engine *e)
{
	if (!hf_disk_may_reset_journal(&e->d) || !e->redo)
		return false;
	if (e->wants_reset)
		return true;
	return atomic_load(&e->redo_used_bytes) > e->redo_area_bytes / 4 ||
	       (atomic_load(&e->redo_used_bytes) > 0 && e->d.journaled == e->d.captured &&
		atomic_load(&e->words->state) != HF_DISKSHM_DRAIN);
}

/* ---- the thread ---- */

bool engine_has_copy(const struct hf_engine *e)
{
	struct hf_diskshm_view v;
	uint64_t at = engine_first(e, HF_DISKSHM_COPY);

	return at < hf_diskshm_head(&e->shm, HF_DISKSHM_COPY) &&
	       hf_diskshm_look(&e->shm, HF_DISKSHM_COPY, at, &v) && v.used > 0;
}

static bool step_copy(struct hf_engine *e)
{
	int r;

	if (atomic_load(&e->role) != HF_DISKSHM_REPLICA || !engine_has_copy(e))
		return false;
	r = apply_pool(e, HF_DISKSHM_COPY, 0, 0);
	pthread_mutex_lock(&e->lock);
	if (r < 0)
		e->apply_retry_ns = engine_now_ns() + RETRY_NS;
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	return r == 0;
}

static bool step_apply(struct hf_engine *e)
{
	uint64_t from = 0, to = 0;
	bool is_due;
	int r;

	pthread_mutex_lock(&e->lock);
	is_due = engine_may_work(e) && atomic_load(&e->n_direct) == 0 &&
		 hf_disk_next_apply(&e->d, engine_now_ns(), engine_permit_ns(e), &from, &to);
	pthread_mutex_unlock(&e->lock);
	if (!is_due)
		return false;
	r = apply_pool(e, HF_DISKSHM_IN, from, to);
	if (!r)
		r = apply_pool(e, HF_DISKSHM_OUT, from, to);
	pthread_mutex_lock(&e->lock);
	hf_disk_apply_done(&e->d, r == 0);
	if (r < 0)
		e->apply_retry_ns = engine_now_ns() + RETRY_NS;
	engine_publish(e);
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	return r == 0;
}

static bool step_settle(struct hf_engine *e)
{
	uint64_t now = engine_now_ns(), due;

	pthread_mutex_lock(&e->lock);
	due = settle_due_ns(e, now);
	pthread_mutex_unlock(&e->lock);
	return due && due <= now && settle(e);
}

static bool step_reset(struct hf_engine *e)
{
	bool is_due;
	int r;

	pthread_mutex_lock(&e->lock);
	is_due = is_reset_due(e);
	pthread_mutex_unlock(&e->lock);
	if (!is_due)
		return false;
	r = engine_reset_journal(e);
	if (r < 0) {
		pthread_mutex_lock(&e->lock);
		e->apply_retry_ns = engine_now_ns() + RETRY_NS;
		pthread_mutex_unlock(&e->lock);
	}
	return r == 0;
}

/* lock held. Until something is due; without a permission, until it may have been renewed. */
static void await_work(struct hf_engine *e)
{
	uint64_t now = engine_now_ns();
	uint64_t due = settle_due_ns(e, now);

	if (e->apply_retry_ns > now)
		due = e->apply_retry_ns;
	else if (!due || due > now + SETTLE_NS)
		due = now + SETTLE_NS;
	else if (due <= now)
		due = now + 10 * ENGINE_MS_NS;
	engine_wait(&e->changed, &e->lock, due);
}

static bool is_retrying(struct hf_engine *e)
{
	bool is;

	pthread_mutex_lock(&e->lock);
	is = e->apply_retry_ns > engine_now_ns();
	pthread_mutex_unlock(&e->lock);
	return is;
}

static bool step(struct hf_engine *e)
{
	return engine_step_state(e) || step_copy(e) || step_apply(e) || step_settle(e) ||
	       step_reset(e);
}

void *engine_apply_thread(void *arg)
{
	struct hf_engine *e = arg;

	pthread_mutex_lock(&e->lock);
	while (!e->is_stopping) {
		uint64_t n_signals = e->n_signals;
		bool is_busy;

		pthread_mutex_unlock(&e->lock);
		is_busy = !is_retrying(e) && step(e);
		pthread_mutex_lock(&e->lock);
		if (!is_busy && e->n_signals == n_signals && !e->is_stopping)
			await_work(e);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

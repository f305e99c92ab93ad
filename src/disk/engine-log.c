/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log: requests become records in OUT, and the overlay says where their bytes are.
 *
 * Over the soft limit writers wait, and the keeper ends the epoch early. While QEMU is being stopped it
 * waits for its requests, so they must not wait for the epoch: then they take from the reserve. Should that be
 * full too, the request fails with ENOSPC, which QEMU (werror=enospc or stop) keeps and sends again.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "disk/engine-internal.h"

/* What is left of a chunk is worth a piece of a long write from here on. */
#define PIECE_MIN_BYTES 65536u
/* Pieces end where every image can write: its blocks have at most this. */
#define PIECE_ALIGN_BYTES 4096u
#define FULL_MAX_NS (1 * ENGINE_S_NS)

#define INDEX_BITS 17
static_assert(HF_WIRE_DISK_RECORDS_MAX < 1 << INDEX_BITS, "a record's index fits into a serial");

/* IN is older than anything in OUT. */
uint64_t engine_serial(enum hf_diskshm_pool_id pool, uint64_t position, uint32_t index)
{
	uint64_t rank = pool == HF_DISKSHM_OUT;

	return rank << 62 | position << INDEX_BITS | index;
}

uint64_t engine_first(const struct hf_engine *e, enum hf_diskshm_pool_id pool)
{
	uint64_t tail = hf_diskshm_tail(&e->shm, pool);
	uint64_t done = 0;

	if (pool == HF_DISKSHM_IN)
		done = atomic_load(&e->words->in_done);
	else if (pool == HF_DISKSHM_COPY)
		done = atomic_load(&e->words->copy_done);
	return done > tail ? done : tail;
}

int engine_next_record(const struct hf_engine *e, const struct hf_diskshm_view *v,
		       struct hf_wire_disk_cursor *cursor, struct hf_wire_disk_record *ret,
		       struct hf_err *err)
{
	int r = hf_wire_disk_next(v->records, v->used, cursor, ret, err);

	if (r <= 0)
		return r;
	if (ret->disk < e->n_disks && ret->offset_bytes <= e->disk_bytes[ret->disk] &&
	    ret->length_bytes <= e->disk_bytes[ret->disk] - ret->offset_bytes)
		return r;
	hf_err_set(err, "disk record %u is outside of disk %u", cursor->n - 1, ret->disk);
	return -EBADMSG;
}

/* ---- the overlay ---- */

static int add_extent(struct hf_engine *e, const struct hf_wire_disk_record *rec, uint64_t serial)
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
	pthread_rwlock_wrlock(&d->lock);
	r = hf_extents_reserve(d->overlay, 1);
	if (!r)
		hf_extents_set(d->overlay, &x);
	atomic_store(&d->n_overlay, hf_extents_count(d->overlay));
	pthread_rwlock_unlock(&d->lock);
	return r;
}

int engine_overlay_add(struct hf_engine *e, enum hf_diskshm_pool_id pool, uint64_t position,
		       struct hf_err *err)
{
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record rec;
	struct hf_diskshm_view v;
	int r;

	if (!hf_diskshm_look(&e->shm, pool, position, &v)) {
		hf_err_set(err, "the shared log is damaged");
		return -EBADMSG;
	}
	while ((r = engine_next_record(e, &v, &cursor, &rec, err)) > 0) {
		r = add_extent(e, &rec, engine_serial(pool, position, cursor.n - 1));
		if (r < 0)
			break;
	}
	return r;
}

void engine_overlay_drop(struct engine_disk *d, const struct hf_extent *x)
{
	if (atomic_load(&d->n_overlay) == 0)
		return;
	pthread_rwlock_wrlock(&d->lock);
	hf_extents_drop(d->overlay, x->offset_bytes, x->length_bytes, x->serial);
	atomic_store(&d->n_overlay, hf_extents_count(d->overlay));
	pthread_rwlock_unlock(&d->lock);
}

/* Up to the end, or until no more gaps can be told. The copy is made under the lock: behind it the chunk may be
 * used again. */
int engine_overlay_read(struct hf_engine *e, struct engine_disk *d, uint8_t *buf, uint64_t offset,
			uint64_t end, struct engine_gap gaps[ENGINE_GAPS_MAX], uint64_t *ret_end)
{
	uint64_t at = offset;
	struct hf_extent x;
	int n = 0;

	pthread_rwlock_rdlock(&d->lock);
	while (at < end && n < ENGINE_GAPS_MAX) {
		bool is_found = hf_extents_find(d->overlay, at, end, &x);
		uint64_t gap_end = is_found ? x.offset_bytes : end;

		if (gap_end > at)
			gaps[n++] = (struct engine_gap){ at, gap_end - at };
		at = gap_end;
		if (!is_found)
			break;
		if (x.is_zero)
			memset(buf + (at - offset), 0, x.length_bytes);
		else
			memcpy(buf + (at - offset), (const uint8_t *)e->shm.words + x.place,
			       x.length_bytes);
		at += x.length_bytes;
	}
	pthread_rwlock_unlock(&d->lock);
	*ret_end = at;
	return n;
}

/* ---- OUT ---- */

void engine_free_oldest(struct hf_engine *e)
{
	struct hf_diskshm_view v;

	pthread_mutex_lock(&e->log_lock);
	if (hf_diskshm_look(&e->shm, HF_DISKSHM_OUT, hf_diskshm_tail(&e->shm, HF_DISKSHM_OUT),
			    &v)) {
		if (e->open.is_open && e->open.chunk == v.chunk)
			e->open.is_open = false;
		atomic_fetch_sub(&e->words->logged_bytes, v.used);
		hf_diskshm_free_oldest(&e->shm, HF_DISKSHM_OUT);
	}
	if (hf_diskshm_in_use(&e->shm, HF_DISKSHM_OUT) < e->shm.soft_chunks[HF_DISKSHM_OUT])
		atomic_store(&e->words->is_over_soft, 0);
	pthread_cond_broadcast(&e->log_changed);
	pthread_mutex_unlock(&e->log_lock);
}

/* log_lock held. */
static uint64_t look_at_epoch(struct hf_engine *e)
{
	uint64_t epoch = atomic_load(&e->words->open_epoch);

	if (epoch != e->log_epoch) {
		e->log_epoch = epoch;
		atomic_store(&e->words->epoch_bytes, 0);
	}
	return epoch;
}

void engine_look_at_epoch(struct hf_engine *e)
{
	pthread_mutex_lock(&e->log_lock);
	(void)look_at_epoch(e);
	pthread_cond_broadcast(&e->log_changed);
	pthread_mutex_unlock(&e->log_lock);
}

static bool has_room(const struct hf_engine *e, uint64_t epoch, size_t need)
{
	const struct engine_open *o = &e->open;

	return o->is_open && o->epoch == epoch && o->used + need <= HF_DISKSHM_ROOM_BYTES &&
	       o->n < HF_DISKSHM_CHUNK_RECORDS;
}

static bool open_chunk(struct hf_engine *e, uint64_t epoch)
{
	struct engine_open *o = &e->open;
	uint8_t *message;
	uint32_t i;

	message = hf_diskshm_take(&e->shm, HF_DISKSHM_OUT, epoch, &i);
	if (!message)
		return false;
	*o = (struct engine_open){
		.is_open = true,
		.chunk = &e->shm.pool[HF_DISKSHM_OUT]->chunk[i],
		.records = message + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES,
		.position = hf_diskshm_head(&e->shm, HF_DISKSHM_OUT) - 1,
		.epoch = epoch,
	};
	return true;
}

/* Until something changes. The journal and the keeper are told first that somebody waits. */
static void wait_for_room(struct hf_engine *e, uint64_t deadline_ns)
{
	if (atomic_exchange(&e->words->is_over_soft, 1)) {
		engine_wait(&e->log_changed, &e->log_lock, deadline_ns);
		return;
	}
	pthread_mutex_unlock(&e->log_lock);
	hf_diskshm_notify(&e->shm);
	pthread_mutex_lock(&e->lock);
	e->is_pressed = true;
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	pthread_mutex_lock(&e->log_lock);
}

enum { TAKE_AGAIN = 2 };

/* log_lock held. 0: the open chunk has room for a record of @need bytes; TAKE_AGAIN: time has passed, look
 * at everything anew; -ENOSPC. */
static int make_room(struct hf_engine *e, uint64_t epoch, size_t need, uint64_t *full_ns)
{
	bool is_draining = atomic_load(&e->words->is_draining);
	uint64_t now = engine_now_ns();

	if (has_room(e, epoch, need))
		return 0;
	if (is_draining ||
	    hf_diskshm_in_use(&e->shm, HF_DISKSHM_OUT) < e->shm.soft_chunks[HF_DISKSHM_OUT]) {
		if (open_chunk(e, epoch))
			return 0;
	}
	if (!is_draining)
		*full_ns = 0;
	else if (*full_ns == 0)
		*full_ns = now;
	if (*full_ns && now - *full_ns >= FULL_MAX_NS)
		return -ENOSPC;
	wait_for_room(e, is_draining ? now + FULL_MAX_NS / 10 : now + FULL_MAX_NS);
	return TAKE_AGAIN;
}

static uint64_t realtime_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A flush of the guest's, in @epoch. The keeper reads these while QEMU stands still. */
static void note_flush(struct hf_engine *e, uint64_t epoch)
{
	struct hf_diskshm_words *w = e->words;
	uint32_t n = atomic_load(&w->flushed) == epoch ? atomic_load(&w->n_flush_us) : 0;

	if (n < HF_DISKSHM_FLUSHES)
		atomic_store(&w->flush_us[n], realtime_us());
	if (n <= HF_DISKSHM_FLUSHES)
		atomic_store(&w->n_flush_us, n + 1);
	atomic_store(&w->flushed, epoch);
}

/* log_lock held, and room there is. The record stands before the overlay and `fill` know of it. */
static int put_piece(struct hf_engine *e, struct hf_wire_disk_record *rec)
{
	struct engine_open *o = &e->open;
	uint8_t *at = o->records + o->used;
	size_t n = hf_wire_disk_record_bytes(rec->kind, rec->length_bytes);
	int r;

	if (e->disk[rec->disk].map && rec->kind != HF_WIRE_DISK_FLUSH)
		hf_dirtymap_log(e->disk[rec->disk].map, rec->offset_bytes, rec->length_bytes);
	hf_wire_disk_put_record(at, rec);
	if (rec->kind == HF_WIRE_DISK_WRITE) {
		assert(rec->data);
		memcpy(at + HF_WIRE_DISK_RECORD_BYTES, rec->data, rec->length_bytes);
		rec->data = at + HF_WIRE_DISK_RECORD_BYTES;
	}
	r = add_extent(e, rec, engine_serial(HF_DISKSHM_OUT, o->position, o->n));
	if (r < 0)
		return r;
	o->used += (uint32_t)n;
	o->n++;
	hf_diskshm_set_fill(o->chunk, o->used, o->n);
	atomic_fetch_add(&e->words->logged_bytes, n);
	atomic_fetch_add(&e->words->epoch_bytes, n);
	if (rec->kind == HF_WIRE_DISK_FLUSH || (rec->flags & HF_WIRE_DISK_FUA))
		note_flush(e, o->epoch);
	return 0;
}

/* How much of a write goes into the next record: what the open chunk has room for, if that is much. */
static uint64_t piece_bytes(const struct hf_engine *e, const struct engine_request *q,
			    uint64_t done)
{
	uint64_t left = q->length_bytes - done;
	uint64_t room;

	if (q->kind != HF_WIRE_DISK_WRITE)
		return left;
	if (left > HF_WIRE_DISK_DATA_MAX)
		left = HF_WIRE_DISK_DATA_MAX;
	if (!e->open.is_open)
		return left;
	room = HF_DISKSHM_ROOM_BYTES - e->open.used;
	if (room < HF_WIRE_DISK_RECORD_BYTES + PIECE_MIN_BYTES)
		return left;
	room = (room - HF_WIRE_DISK_RECORD_BYTES) / PIECE_ALIGN_BYTES * PIECE_ALIGN_BYTES;
	return left < room ? left : room;
}

/* log_lock held. */
static int log_piece(struct hf_engine *e, const struct engine_request *q, uint64_t *done,
		     uint64_t *full_ns)
{
	uint64_t epoch = look_at_epoch(e);
	struct hf_wire_disk_record rec = {
		.kind = q->kind,
		.disk = q->disk,
		.flags = q->flags,
		.offset_bytes = q->offset_bytes + *done,
		.length_bytes = piece_bytes(e, q, *done),
		.data = q->data ? q->data + *done : NULL,
	};
	int r = -EPROTO; /* the keeper's fault: what is logged would count as committed */

	if (epoch > e->drained_epoch)
		r = make_room(e, epoch, hf_wire_disk_record_bytes(rec.kind, rec.length_bytes),
			      full_ns);
	if (!r) {
		atomic_store(&e->is_holding, true);
		r = put_piece(e, &rec);
	}
	if (!r)
		*done += rec.length_bytes;
	return r;
}

/* Writers wait while the log is drained. */
int engine_log(struct hf_engine *e, const struct engine_request *q)
{
	uint64_t done = 0, full_ns = 0;
	int r = TAKE_AGAIN;

	pthread_mutex_lock(&e->log_lock);
	while (r == TAKE_AGAIN || (r == 0 && done < q->length_bytes)) {
		if (engine_is_direct(e)) {
			r = ENGINE_GO_DIRECT; /* all of it: none of it has been acknowledged */
		} else if (atomic_load(&e->words->mode) != HF_DISKSHM_HOLD ||
			   atomic_load(&e->words->state) == HF_DISKSHM_DRAIN) {
			engine_wait(&e->log_changed, &e->log_lock, engine_now_ns() + ENGINE_S_NS);
			r = TAKE_AGAIN;
		} else {
			r = log_piece(e, q, &done, &full_ns);
		}
	}
	pthread_mutex_unlock(&e->log_lock);
	return r;
}

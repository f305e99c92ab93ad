/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first copy: blocks that the other host's images lack, into SYNC; and what the dirty maps may forget.
 *
 * Only the image is read. While writes go past the log, the map lists a block again whose write was under
 * way when it was read. Once outputs are held, the image changes only by what was committed, and that is
 * listed again, too. What is in the log goes its own way to the other host, after the copy.
 *
 * A map's generation ends (turn) when no block is between list and SYNC. It is forgotten when the other
 * host has settled the epoch that was open at that moment, or any epoch if none was: with its first epoch a copy is
 * whole. While none is open yet, it is enough that the pieces that there were are confirmed.
 */
#include <errno.h>
#include <string.h>

#include "disk/engine-internal.h"

#define RUN_MAX_BYTES ((uint64_t)8 << 20) /* a generation of the map ends between two */
#define READ_MAX_BYTES HF_WIRE_DISK_DATA_MAX
#define LOOK_NS (50 * ENGINE_MS_NS)
#define IDLE_NS (1 * ENGINE_S_NS)
#define RETRY_NS (1 * ENGINE_S_NS)
#define TURN_NS (20 * ENGINE_MS_NS)

/* The piece that is being filled; sync thread only. */
struct piece {
	uint8_t *records; /* NULL: none */
	uint32_t used;
	uint32_t n;
};

static uint64_t left_bytes(const struct hf_engine *e)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < e->n_disks; i++)
		n += e->disk[i].map ? hf_dirtymap_left_bytes(e->disk[i].map) : 0;
	return n;
}

/* ---- orders ---- */

/* What waited for a confirmation is on the list now, like everything that is set. */
void engine_sync_start(struct hf_engine *e, bool is_full, struct hf_id session)
{
	pthread_mutex_lock(&e->sync_lock);
	for (uint32_t i = 0; i < e->n_disks; i++) {
		struct engine_disk *d = &e->disk[i];

		if (!d->map)
			continue;
		hf_dirtymap_send_begin(d->map, is_full, session);
		hf_dirtymap_confirm(d->map);
		d->has_turned = false;
	}
	e->sync_number++;
	e->confirmed_mark = 0;
	/* In this order: with a total, what is left is of this copy. */
	atomic_store(&e->words->sync_left_bytes, left_bytes(e));
	atomic_store(&e->words->sync_total_bytes, left_bytes(e));
	atomic_store(&e->words->is_sync_done, 0);
	atomic_store(&e->is_syncing, true);
	pthread_cond_broadcast(&e->sync_changed);
	pthread_mutex_unlock(&e->sync_lock);
	hf_diskshm_notify(&e->shm);
}

void engine_sync_stop(struct hf_engine *e)
{
	pthread_mutex_lock(&e->sync_lock);
	for (uint32_t i = 0; i < e->n_disks; i++) {
		if (e->disk[i].map)
			hf_dirtymap_send_end(e->disk[i].map);
	}
	e->sync_number++;
	atomic_store(&e->is_syncing, false);
	atomic_store(&e->words->is_sync_done, 0);
	pthread_cond_broadcast(&e->sync_changed);
	pthread_mutex_unlock(&e->sync_lock);
}

void engine_sync_confirmed(struct hf_engine *e, uint64_t mark)
{
	pthread_mutex_lock(&e->sync_lock);
	if (mark > e->confirmed_mark && mark <= hf_diskshm_head(&e->shm, HF_DISKSHM_SYNC))
		e->confirmed_mark = mark;
	pthread_cond_broadcast(&e->sync_changed);
	pthread_mutex_unlock(&e->sync_lock);
}

/* Everything set is listed, taken off the list as if sent, and forgotten as if confirmed. */
void engine_maps_begin(struct hf_engine *e, struct hf_id session)
{
	uint64_t offset, length;

	pthread_mutex_lock(&e->sync_lock);
	for (uint32_t i = 0; i < e->n_disks; i++) {
		struct engine_disk *d = &e->disk[i];
		uint64_t cursor = 0;

		if (!d->map)
			continue;
		hf_dirtymap_send_begin(d->map, false, session);
		while (hf_dirtymap_send_next(d->map, &cursor, UINT64_MAX, &offset, &length))
			;
		hf_dirtymap_send_end(d->map);
		hf_dirtymap_confirm(d->map);
		(void)hf_dirtymap_turn(d->map);
		hf_dirtymap_confirm(d->map);
		d->has_turned = false;
	}
	pthread_mutex_unlock(&e->sync_lock);
}

/* ---- pieces ---- */

/* sync_lock held. False: SYNC is full, wait. */
static bool begin_piece(struct hf_engine *e, struct piece *p)
{
	uint8_t *message = hf_diskshm_prepare(&e->shm, HF_DISKSHM_SYNC);

	if (!message)
		return false;
	p->records = message + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;
	p->used = p->n = 0;
	return true;
}

static void publish_piece(struct hf_engine *e, struct piece *p)
{
	if (p->records && p->n > 0) {
		hf_diskshm_publish(&e->shm, HF_DISKSHM_SYNC, 0, p->used, p->n);
		hf_diskshm_notify(&e->shm);
	}
	p->records = NULL;
	p->n = 0;
}

static bool has_room(const struct piece *p, uint64_t data_bytes)
{
	return p->records && p->n < HF_DISKSHM_CHUNK_RECORDS &&
	       p->used + hf_wire_disk_record_bytes(HF_WIRE_DISK_WRITE, data_bytes) <=
		       HF_DISKSHM_ROOM_BYTES;
}

static bool is_all_zero(const uint8_t *p, size_t n)
{
	return n > 0 && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static void put_record(struct piece *p, uint8_t disk, enum hf_wire_disk_kind kind, uint64_t offset,
		       uint64_t length)
{
	struct hf_wire_disk_record rec = {
		.offset_bytes = offset,
		.length_bytes = length,
		.kind = kind,
		.disk = disk,
		.flags = kind == HF_WIRE_DISK_ZERO ? HF_WIRE_DISK_MAY_TRIM : 0,
	};

	hf_wire_disk_put_record(p->records + p->used, &rec);
	p->used += (uint32_t)hf_wire_disk_record_bytes(kind, length);
	p->n++;
}

/* One record at *at, from the image. */
static int copy_some(struct hf_engine *e, uint8_t disk, struct piece *p, uint64_t *at, uint64_t end)
{
	struct engine_disk *d = &e->disk[disk];
	uint8_t *data = p->records + p->used + HF_WIRE_DISK_RECORD_BYTES;
	enum hf_wire_disk_kind kind = HF_WIRE_DISK_ZERO;
	bool is_hole = false;
	uint64_t len;
	int r = hf_image_extent(d->image, *at, end, &len, &is_hole);

	if (r < 0)
		return r;
	if (!is_hole) {
		len = len < READ_MAX_BYTES ? len : READ_MAX_BYTES;
		while (!has_room(p, len)) /* at least a block: see fill_run() */
			len = len / 2 / d->block_bytes * d->block_bytes;
		r = hf_image_read(d->image, data, len, *at);
		if (!is_all_zero(data, len))
			kind = HF_WIRE_DISK_WRITE;
	}
	if (r < 0)
		return r;
	put_record(p, disk, kind, *at, len);
	*at += len;
	return 0;
}

/* sync_lock held, given up while the image is read. Return: false: the copy was stopped or begun anew, or the
 * engine stops. */
static bool await_piece(struct hf_engine *e, struct piece *p, uint64_t number)
{
	while (e->sync_number == number && !engine_is_stopping(e)) {
		if (has_room(p, HF_DIRTYMAP_BLOCK_BYTES))
			return true;
		publish_piece(e, p);
		if (!begin_piece(e, p))
			engine_wait(&e->sync_changed, &e->sync_lock, engine_now_ns() + LOOK_NS);
	}
	return false;
}

static void fill_run(struct hf_engine *e, uint8_t disk, struct piece *p, uint64_t at, uint64_t end)
{
	uint64_t number = e->sync_number;
	int r;

	while (at < end && await_piece(e, p, number)) {
		pthread_mutex_unlock(&e->sync_lock);
		r = copy_some(e, disk, p, &at, end);
		engine_fault(e, ENGINE_FAULT_READ(disk), at, r,
			     "disk %u: reading at %llu for a copy: %s", disk,
			     (unsigned long long)at, strerror(-r));
		pthread_mutex_lock(&e->sync_lock);
		if (r < 0 && e->sync_number == number) {
			hf_dirtymap_send_again(e->disk[disk].map, at, end - at);
			engine_wait(&e->sync_changed, &e->sync_lock, engine_now_ns() + RETRY_NS);
			return;
		}
	}
	if (e->sync_number != number)
		p->records = NULL; /* of a copy that is none any more */
}

/* sync_lock held. One run of blocks; false: there is none. Round and round from where the last one ended: what the
 * guest writes all the time would keep the copy at the front for ever. */
static bool copy_next(struct hf_engine *e, struct piece *p)
{
	uint64_t offset, length;

	for (uint32_t n = 0; n <= e->n_disks; n++) {
		struct engine_disk *d = &e->disk[e->copy_disk];
		uint32_t i = e->copy_disk;

		if (!d->map || hf_dirtymap_left_bytes(d->map) == 0 ||
		    !hf_dirtymap_send_next(d->map, &e->copy_cursor, RUN_MAX_BYTES, &offset,
					   &length)) {
			e->copy_disk = (i + 1) % e->n_disks;
			e->copy_cursor = 0;
			continue;
		}
		atomic_store(&e->words->is_sync_done, 0);
		fill_run(e, (uint8_t)i, p, offset, offset + length);
		atomic_store(&e->words->sync_left_bytes, left_bytes(e));
		return true;
	}
	return false;
}

/* sync_lock held, and nothing is between list and SYNC. What is committed is in the image by now, or would be
 * listed later. */
static void find_out_whether_done(struct hf_engine *e)
{
	bool is_done;

	if (!atomic_load(&e->is_syncing))
		return;
	pthread_mutex_lock(&e->lock);
	is_done = e->d.applied == e->d.committed && !e->d.applying &&
		  atomic_load(&e->n_direct) == 0 && left_bytes(e) == 0;
	pthread_mutex_unlock(&e->lock);
	atomic_store(&e->words->sync_left_bytes, left_bytes(e));
	if (atomic_exchange(&e->words->is_sync_done, is_done) != is_done)
		hf_diskshm_notify(&e->shm);
}

/* ---- forgetting ---- */

/* sync_lock held. Is there another host whose word about these images can be had? */
static bool may_turn(const struct hf_engine *e)
{
	if (atomic_load(&e->role) == HF_DISKSHM_REPLICA)
		return e->condition == HF_DISK_REPLICATED;
	return atomic_load(&e->is_syncing) || atomic_load(&e->words->state) == HF_DISKSHM_HOLD;
}

static void confirm(struct hf_engine *e)
{
	uint64_t epoch = e->turn_epoch ? e->turn_epoch : atomic_load(&e->hold_epoch);
	/* Journaled here, too: started from this disk alone the VM must not be behind the other's copy unawares. */
	bool has_epoch = epoch > 0 && atomic_load(&e->words->peer_settled) >= epoch &&
			 atomic_load(&e->words->journaled) >= epoch;

	if (!has_epoch && (e->turn_epoch > 0 || e->confirmed_mark < e->turn_mark))
		return;
	for (uint32_t i = 0; i < e->n_disks; i++) {
		if (e->disk[i].has_turned)
			hf_dirtymap_confirm(e->disk[i].map);
		e->disk[i].has_turned = false;
	}
}

/* Under log_lock no write is between its mark in the map and its number. */
static void turn(struct hf_engine *e)
{
	uint64_t captured;

	pthread_mutex_lock(&e->lock);
	captured = e->d.captured;
	pthread_mutex_lock(&e->log_lock);
	e->turn_mark = 0;
	e->turn_epoch = 0;
	if (atomic_load(&e->is_syncing))
		e->turn_mark = hf_diskshm_head(&e->shm, HF_DISKSHM_SYNC);
	if (atomic_load(&e->role) == HF_DISKSHM_REPLICA)
		e->turn_epoch = captured;
	else if (atomic_load(&e->words->state) == HF_DISKSHM_HOLD ||
		 atomic_load(&e->words->mode) == HF_DISKSHM_HOLD)
		e->turn_epoch = atomic_load(&e->words->open_epoch);
	for (uint32_t i = 0; i < e->n_disks; i++) {
		struct engine_disk *d = &e->disk[i];

		if (d->map && hf_dirtymap_dirty_bytes(d->map) > 0)
			d->has_turned = hf_dirtymap_turn(d->map);
	}
	pthread_mutex_unlock(&e->log_lock);
	pthread_mutex_unlock(&e->lock);
	e->turn_ns = engine_now_ns();
}

static bool has_turned(const struct hf_engine *e)
{
	for (uint32_t i = 0; i < e->n_disks; i++) {
		if (e->disk[i].has_turned)
			return true;
	}
	return false;
}

static uint64_t dirty_bytes(const struct hf_engine *e)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < e->n_disks; i++)
		n += e->disk[i].map ? hf_dirtymap_dirty_bytes(e->disk[i].map) : 0;
	return n;
}

static void look_at_maps(struct hf_engine *e, struct piece *p)
{
	atomic_store(&e->words->dirty_bytes, dirty_bytes(e));
	if (has_turned(e))
		confirm(e);
	if (has_turned(e) || !may_turn(e) || engine_now_ns() < e->turn_ns + TURN_NS)
		return;
	publish_piece(e, p);
	turn(e);
}

/* ---- the thread ---- */

void *engine_sync_thread(void *arg)
{
	struct hf_engine *e = arg;
	struct piece p = { .records = NULL };

	pthread_mutex_lock(&e->sync_lock);
	while (!engine_is_stopping(e)) {
		bool is_busy = atomic_load(&e->is_syncing) && copy_next(e, &p);

		if (!is_busy)
			publish_piece(e, &p);
		look_at_maps(e, &p);
		if (is_busy)
			continue;
		find_out_whether_done(e);
		engine_wait(&e->sync_changed, &e->sync_lock,
			    engine_now_ns() + (may_turn(e) ? LOOK_NS : IDLE_NS));
	}
	pthread_mutex_unlock(&e->sync_lock);
	return NULL;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts of the engine (engine*.c) among themselves. Layer: disk.
 *
 * Theory of operation. Requests come in any number of threads and go one of two ways:
 *
 *   past the log   state DIRECT: to the image at once. A counter tells how many are under way, so that
 *                  the change to HOLD can wait for them; nothing else is shared but the dirty map
 *   to the log     state HOLD: under log_lock the record is appended to OUT's open chunk and entered
 *                  into the overlay, the map of what the log holds and the image does not
 *
 * The engine's own threads: control (kicks and orders, never blocks on storage), orders (those that do),
 * journal (epochs to the redo journal), apply (epochs to the images, their flush, and each change of state),
 * sync (first copy, dirty map).
 *
 * A read first looks into the overlay and copies what it finds, then reads the gaps from the image. What
 * is not in the overlay at that moment the image has, for an extent leaves the overlay only after the
 * image got it, and memory of the log is reused only after the extent has left. So a read never misses what
 * was acknowledged before it began.
 *
 * An epoch's boundary is stored by the keeper while QEMU stands still with all its requests answered. Hence
 * a write that is spread over several chunks is in one epoch, whole.
 *
 * Everything that must outlive this process is in the shared memory, the images, the maps and the journal:
 * the overlay and all numbers are made anew from them.
 *
 * Locks, in this order: redo_lock, lock, log_lock, a disk's overlay lock. sync_lock comes before lock.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/disk.h"
#include "disk/dirtymap.h"
#include "disk/diskctl.h"
#include "disk/diskshm.h"
#include "disk/engine.h"
#include "disk/extents.h"
#include "disk/image.h"
#include "disk/redo.h"

#define ENGINE_WRITE_MAX_BYTES ((uint64_t)1 << 20) /* of one write to an image */
#define ENGINE_BATCH_BYTES ((uint64_t)64 << 20)
#define ENGINE_ORDERS_MAX 16
#define ENGINE_MS_NS 1000000ull
#define ENGINE_S_NS 1000000000ull

/* Where a fault is: a disk's index, or this. */
#define ENGINE_FAULT_JOURNAL HF_WIRE_DISKS_MAX
/* A disk that can be flushed or read says nothing of its writes, and so on: each has its own fault. */
#define ENGINE_FAULT_FLUSH(disk) (HF_WIRE_DISKS_MAX + 1 + (disk))
#define ENGINE_FAULT_READ(disk) (2 * HF_WIRE_DISKS_MAX + 1 + (disk))
#define ENGINE_FAULTS (3 * HF_WIRE_DISKS_MAX + 1)

struct engine_disk {
	struct hf_image *image;
	struct hf_dirtymap *map; /* NULL: none */
	uint64_t size_bytes;
	uint32_t block_bytes;
	bool can_trim;
	pthread_rwlock_t lock; /* of the overlay */
	struct hf_extents *overlay; /* place: from the beginning of the shared memory */
	_Atomic uint64_t n_overlay; /* extents in it */
	struct hf_extents *batch; /* apply thread only */
	bool has_turned; /* sync_lock */
	_Atomic int
		lost; /* -errno: a flush that was not the guest's failed; its next one is told */
};

/* OUT's chunk that is being filled. log_lock. */
struct engine_open {
	bool is_open;
	struct hf_diskshm_chunk *chunk;
	uint8_t *records;
	uint64_t position;
	uint64_t epoch;
	uint32_t used;
	uint32_t n;
};

struct engine_fault {
	int error; /* errno, 0: none */
	uint64_t offset_bytes;
};

struct hf_engine {
	char *vm;
	bool is_shared;
	bool has_keeper;
	_Atomic bool is_holding; /* something was logged since the last drain, whatever the state */
	_Atomic bool is_syncing;
	bool needs_claim; /* a standby's copy that an owner was started on: untouched until the VM uses it */
	_Atomic bool is_claimed;
	_Atomic bool is_stopping;
	uint32_t n_disks;
	struct engine_disk disk[HF_WIRE_DISKS_MAX];
	uint64_t disk_bytes[HF_WIRE_DISKS_MAX];
	struct hf_diskshm shm;
	struct hf_diskshm_words *words; /* never NULL: own ones without a keeper */
	int control_fd;
	int stop_fd; /* eventfd: the control thread is to end */
	char *redo_location;
	uint64_t redo_area_bytes;

	_Atomic uint32_t n_direct; /* requests past the log that are under way */

	pthread_mutex_t log_lock; /* OUT, and changes of words->state */
	pthread_cond_t log_changed; /* room, state, epoch, role */
	struct engine_open open;
	uint64_t log_epoch; /* that epoch_bytes counts */
	uint64_t drained_epoch; /* numbers up to this are used up */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct hf_disk d;
	_Atomic uint32_t role; /* as reached, enum hf_diskshm_role */
	_Atomic enum hf_disk_condition condition;
	struct hf_id session; /* of the condition */
	uint64_t n_signals; /* so that none is missed */
	bool is_pressed; /* writers wait for room */
	bool wants_settle; /* at once */
	bool has_emptied; /* the journal, for want of room, and nothing was added since */
	bool wants_reset; /* nothing is journaled before the journal is empty */
	uint64_t capture_ns; /* since when something waits to be journaled, 0: nothing does */
	uint64_t apply_ns; /* since when something waits to be settled, 0: nothing does */
	uint64_t unsettled_bytes;
	uint64_t drain_ns; /* begin of the drain */
	uint64_t journal_retry_ns; /* after a fault: not before; 0: none */
	uint64_t apply_retry_ns;
	struct engine_fault fault[ENGINE_FAULTS];

	pthread_mutex_t redo_lock;
	struct hf_redo *redo; /* NULL: none */
	struct iovec *iov; /* journal thread: one for each chunk of IN and OUT */
	uint64_t journal_at
		[HF_DISKSHM_POOLS]; /* journal thread: first chunk that is not journaled */
	_Atomic uint64_t redo_used_bytes;

	pthread_mutex_t sync_lock;
	uint32_t copy_disk; /* where the next run is looked for; sync thread only */
	uint64_t copy_cursor;
	uint64_t sync_number; /* of the copy */
	uint64_t turn_ns; /* when a generation ended last; what ended it waits for a confirmation */
	uint64_t turn_mark; /* of the pieces before this, */
	uint64_t
		turn_epoch; /* or of this epoch, which is whole over there only with all pieces; 0: none */
	_Atomic uint64_t hold_epoch; /* the first one since outputs are held; 0: they are not */
	uint64_t confirmed_mark;
	pthread_cond_t sync_changed;

	struct hf_diskctl_msg order[ENGINE_ORDERS_MAX]; /* lock */
	uint32_t n_orders;

	pthread_t thread[5];
	uint32_t n_threads;
};

/* ---- engine.c ---- */

uint64_t engine_now_ns(void);

/* No image write begins after it. */
static inline uint64_t engine_permit_ns(const struct hf_engine *e)
{
	uint64_t peer_ns = atomic_load(&e->words->permit_ns);
	uint64_t lease_ns = atomic_load(&e->words->lease_ns);

	return peer_ns < lease_ns ? peer_ns : lease_ns;
}
/* Waits until @deadline_ns (0: for ever) or a signal. */
void engine_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns);
/* Wakes the engine's own threads. The first: lock held; the other takes it. */
void engine_signal(struct hf_engine *e);
void engine_poke(struct hf_engine *e);
static inline bool engine_is_stopping(const struct hf_engine *e)
{
	return atomic_load(&e->is_stopping);
}
static inline bool engine_is_direct(const struct hf_engine *e)
{
	return atomic_load(&e->words->mode) != HF_DISKSHM_HOLD &&
	       atomic_load(&e->words->state) == HF_DISKSHM_DIRECT && !atomic_load(&e->is_holding);
}

/* ---- engine-log.c ---- */

struct engine_request {
	enum hf_wire_disk_kind kind;
	uint8_t disk;
	uint8_t flags;
	uint64_t offset_bytes;
	uint64_t length_bytes;
	const uint8_t *data;
};

enum { ENGINE_GO_DIRECT = 1 };

/* 0: logged; ENGINE_GO_DIRECT: the log takes nothing any more; -errno. May wait. */
int engine_log(struct hf_engine *e, const struct engine_request *q) HF_MUST_CHECK;
/* Copies what the overlay has of the range and tells the gaps; *ret_end: how far it came. */
struct engine_gap {
	uint64_t offset_bytes;
	uint64_t length_bytes;
};
#define ENGINE_GAPS_MAX 64
int engine_overlay_read(struct hf_engine *e, struct engine_disk *d, uint8_t *buf, uint64_t offset,
			uint64_t end, struct engine_gap gaps[ENGINE_GAPS_MAX], uint64_t *ret_end);
/* Records of a chunk into the overlay. -ENOMEM, -EBADMSG with @err. */
int engine_overlay_add(struct hf_engine *e, enum hf_diskshm_pool_id pool, uint64_t position,
		       struct hf_err *err) HF_MUST_CHECK;
void engine_overlay_drop(struct engine_disk *d, const struct hf_extent *x);
/* Where a pool's chunks begin that are needed here. */
uint64_t engine_first(const struct hf_engine *e, enum hf_diskshm_pool_id pool);
uint64_t engine_serial(enum hf_diskshm_pool_id pool, uint64_t position, uint32_t index);
/* The next record of a chunk, checked to lie inside its disk: as hf_wire_disk_next(). */
int engine_next_record(const struct hf_engine *e, const struct hf_diskshm_view *v,
		       struct hf_wire_disk_cursor *cursor, struct hf_wire_disk_record *ret,
		       struct hf_err *err) HF_MUST_CHECK;
/* Frees OUT's oldest chunk. Takes log_lock. */
void engine_free_oldest(struct hf_engine *e);
/* The epoch that the keeper has stored may be a new one. Takes log_lock. */
void engine_look_at_epoch(struct hf_engine *e);

/* ---- engine-journal.c ---- */

void *engine_journal_thread(void *arg);
/* lock held, and redo_lock not. */
bool engine_may_work(const struct hf_engine *e);
/* May the journal be emptied, and is it worth it? Then does it. Return: 0 or -errno. */
int engine_reset_journal(struct hf_engine *e);

/* ---- engine-apply.c ---- */

void *engine_apply_thread(void *arg);
int engine_flush_images(struct hf_engine *e);
/* Records of a first copy that the other host sent: true when there are any. */
bool engine_has_copy(const struct hf_engine *e);

/* ---- engine-state.c: modes and roles, from the apply thread ---- */

/* Carries out what the words order and is possible now. Return: true: something was done. */
bool engine_step_state(struct hf_engine *e);
/* Takes the keeper's numbers over. Takes lock. */
void engine_look_at_words(struct hf_engine *e);
/* Tells the keeper the numbers. lock held. */
void engine_publish(struct hf_engine *e);
/* Everything in the log is to be applied, whatever its epoch. lock and log_lock held. */
void engine_begin_drain(struct hf_engine *e);

/* ---- engine-sync.c ---- */

void *engine_sync_thread(void *arg);
void engine_sync_start(struct hf_engine *e, bool is_full, struct hf_id session);
void engine_sync_stop(struct hf_engine *e);
void engine_sync_confirmed(struct hf_engine *e, uint64_t mark);
/* A standby's copy is whole: from now on the maps say what the other host lacks of @session. */
void engine_maps_begin(struct hf_engine *e, struct hf_id session);

/* ---- engine-control.c ---- */

void *engine_control_thread(void *arg);
void *engine_orders_thread(void *arg);
void engine_say(struct hf_engine *e, const struct hf_diskctl_msg *msg);
/* @error: -errno; 0: it goes again. Tells the keeper when that is news. Takes lock. */
__attribute__((format(printf, 5, 6))) void engine_fault(struct hf_engine *e, uint32_t where,
							uint64_t offset_bytes, int error,
							const char *format, ...);

/* ---- engine-redo.c ---- */

int engine_open_redo(struct hf_engine *e, struct hf_err *err) HF_MUST_CHECK;
/* redo_lock held: that is what the journal says now. */
void engine_note_condition(struct hf_engine *e, enum hf_disk_condition condition,
			   struct hf_id session);
/* Durable on return. Takes redo_lock and lock. */
int engine_set_condition(struct hf_engine *e, enum hf_disk_condition condition,
			 struct hf_id session, struct hf_err *err) HF_MUST_CHECK;
/* The other area, the next generation. */
int engine_take_over(struct hf_engine *e, enum hf_disk_condition condition, struct hf_id session,
		     struct hf_err *err) HF_MUST_CHECK;
/* The journal's entries up to @to_epoch into the images, and those flushed: only the newest content of each byte. */
int engine_redo(struct hf_engine *e, uint64_t to_epoch, struct hf_err *err) HF_MUST_CHECK;

/* ---- engine-start.c ---- */

/* The overlay of what is in the log and not applied. */
int engine_build_overlay(struct hf_engine *e, struct hf_err *err) HF_MUST_CHECK;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory that a keeper shares with the disk process (nbdkit with our plugin) of its VM. Layer: disk.
 *
 * Theory of operation. One anonymous, sealed memory file, made by the keeper and given to each disk
 * process that it starts, so a disk process may die at any moment and its successor goes on with what
 * is here. It holds words that are read and written with atomic operations, and four pools of chunks.
 * A chunk has room for one message of the link (codec/wire-disk.h): records are written where they
 * will be sent from.
 *
 *   OUT   what the guest writes here while outputs are held. Allocated, filled and freed by the disk
 *         process; sent by the keeper
 *   IN    what the other host's guest wrote (standby). Allocated, filled and freed by the keeper; read
 *         by the disk process
 *   SYNC  pieces of a first copy. Allocated and filled by the disk process, sent and freed by the keeper
 *   COPY  pieces of a first copy that the other host sent (standby). Allocated, filled and freed by the
 *         keeper; read by the disk process. Not in IN, for they must not wait for an epoch that is
 *         not whole: it becomes whole only after them
 *
 * A pool is a queue: `order` is a ring of chunk numbers, [tail, head) of it are in use. Only the
 * allocating side moves head. Only the freeing side moves tail, always in order. A chunk's `fill` grows
 * with release order after the record stands, so a reader (or a successor) sees whole records only; it is
 * one word, so that nobody dies between its two halves. What is given back is emptied first, so that a
 * successor finds no records in memory that is gone. Chunks are reused last in, first out: what is in use
 * stays in few pages.
 * Each chunk belongs to one epoch. Neither side ever waits for the other or believes a number of the
 * other side without checking it: the disk process talks to QEMU, which a guest may have taken over.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/wire-disk.h"

#define HF_DISKSHM_MAGIC 0x31534448u /* "HDS1" */
#define HF_DISKSHM_CHUNK_BYTES ((size_t)259 * 4096) /* >= HF_WIRE_MESSAGE_MAX, whole pages */
#define HF_DISKSHM_CHUNKS_MAX 8192 /* in one pool: 8.4 GiB */
#define HF_DISKSHM_SYNC_CHUNKS 16
/* Room for records in one chunk. */
#define HF_DISKSHM_ROOM_BYTES ((size_t)HF_WIRE_PAYLOAD_MAX - HF_WIRE_DISK_HEAD_BYTES)

/* A standby's: the owner keeps no more pieces unconfirmed than this. */
#define HF_DISKSHM_COPY_CHUNKS 256
/* Flushes of an epoch whose time is kept. */
#define HF_DISKSHM_FLUSHES 8
/* Records that the disk process puts into one chunk: what bounds its map of them. */
#define HF_DISKSHM_CHUNK_RECORDS 8192

enum hf_diskshm_pool_id {
	HF_DISKSHM_OUT,
	HF_DISKSHM_IN,
	HF_DISKSHM_SYNC,
	HF_DISKSHM_COPY,
	HF_DISKSHM_POOLS
};

struct hf_diskshm_chunk {
	_Atomic uint64_t fill; /* number of records << 32 | bytes of them: whole records only */
	_Atomic uint64_t epoch; /* that it belongs to; SYNC, COPY: 0 */
};

struct hf_diskshm_pool {
	uint32_t n_chunks;
	uint32_t soft_chunks; /* over this, writers wait unless QEMU is being drained */
	_Atomic uint64_t head; /* chunks ever taken into use */
	_Atomic uint64_t tail; /* chunks ever freed */
	_Atomic uint32_t order[HF_DISKSHM_CHUNKS_MAX];
	struct hf_diskshm_chunk chunk[HF_DISKSHM_CHUNKS_MAX];
};

/* What the disk process does with a write. docs/replication.md has the rules. */
enum hf_diskshm_mode {
	HF_DISKSHM_DIRECT, /* to the image at once; there is no log */
	HF_DISKSHM_HOLD, /* to the log, as part of open_epoch */
	/* ordered: log to the image, all of it (IN as well, after a promotion), then DIRECT. Writers wait
	 * meanwhile. Before the first direct write the condition OWNED is made durable (diskctl.h). */
	HF_DISKSHM_DRAIN,
};

enum hf_diskshm_role {
	HF_DISKSHM_OWNER, /* the VM runs (or may run) here */
	HF_DISKSHM_REPLICA, /* standby with images of its own: applies IN */
	HF_DISKSHM_WATCHER, /* standby on a shared image: never writes, only keeps IN */
};

struct hf_diskshm_words {
	uint32_t magic;
	uint32_t n_disks;
	/* keeper -> disk process; after changing any of them: hf_diskshm_kick() */
	_Atomic uint32_t mode; /* enum hf_diskshm_mode, as ordered */
	_Atomic uint32_t role; /* enum hf_diskshm_role */
	_Atomic uint32_t
		is_draining; /* QEMU is being stopped: writers over the soft limit must not wait */
	_Atomic uint64_t
		open_epoch; /* a write logged now belongs to it; stored while QEMU stands still */
	_Atomic uint64_t captured; /* epochs <= this are complete in the log */
	_Atomic uint64_t committed; /* and these may go to the image. <= captured */
	_Atomic uint64_t
		permit_ns; /* CLOCK_MONOTONIC: no image write begins after it; UINT64_MAX: none */
	_Atomic uint64_t lease_ns; /* the same, by the VM's lease: the earlier of the two counts */
	_Atomic uint64_t peer_settled; /* epochs <= this are durable in the other host's image */
	_Atomic uint64_t
		urgent; /* make the journal durable up to this epoch at once: outputs wait for it */
	/* disk process -> keeper; each change that matters is told with a byte on the notice descriptor */
	_Atomic uint32_t state; /* enum hf_diskshm_mode, as reached */
	_Atomic uint32_t error; /* errno of what fails now, 0: nothing does */
	_Atomic uint64_t
		in_done; /* position in IN: what is before it is applied, the keeper may free it */
	_Atomic uint64_t copy_done; /* the same in COPY */
	_Atomic uint64_t journaled; /* epochs <= this are durable in the redo journal */
	_Atomic uint64_t applied; /* and written to the image */
	_Atomic uint64_t settled; /* and durable there */
	_Atomic uint64_t flushed; /* last epoch in which a flush came; 0: none */
	/* CLOCK_REALTIME of the first flushes in `flushed`, and how many there were; one more than the list
	 * has: even more. QEMU flushes by itself, before the guest runs on and after it has stopped. */
	_Atomic uint64_t flush_us[HF_DISKSHM_FLUSHES];
	_Atomic uint32_t n_flush_us;
	_Atomic uint64_t logged_bytes; /* records in OUT that are not applied */
	_Atomic uint64_t epoch_bytes; /* records of open_epoch */
	_Atomic uint32_t is_over_soft; /* OUT is over its soft limit and somebody waits */
	_Atomic uint64_t sync_left_bytes; /* blocks that the first copy has yet to send */
	_Atomic uint64_t sync_total_bytes; /* at its start */
	_Atomic uint32_t is_sync_done; /* nothing left and nothing under way at the moment */
	_Atomic uint64_t dirty_bytes; /* blocks that the other host's images may lack */
	_Atomic uint64_t direct_writes; /* under way past the log */
	/* counters for status */
	_Atomic uint64_t n_writes, n_reads, n_flushes, written_bytes, read_bytes;
	_Atomic uint64_t journal_bytes, applied_bytes,
		merged_bytes; /* merged: not written as overwritten */
	_Atomic uint64_t redo_ns; /* how long the last DRAIN took */
	/* disk process -> its successor */
	_Atomic uint32_t is_started; /* recovery is done: it goes on with the words above */
	_Atomic uint32_t reached_role; /* enum hf_diskshm_role */
	_Atomic uint32_t
		must_redo; /* a flush of the images has failed: what it was for is to be redone */
};

struct hf_diskshm {
	int fd; /* the memory file */
	size_t size_bytes;
	struct hf_diskshm_words *words;
	struct hf_diskshm_pool *pool[HF_DISKSHM_POOLS];
	uint8_t *chunks[HF_DISKSHM_POOLS];
	/* own copies: what stands in the memory is not believed */
	uint32_t n_chunks[HF_DISKSHM_POOLS];
	uint32_t soft_chunks[HF_DISKSHM_POOLS];
	struct hf_diskshm_free *free[HF_DISKSHM_POOLS]; /* allocating side: chunks not in use */
	int kick_fd; /* eventfd: keeper -> disk process */
	int notice_fd; /* eventfd: disk process -> keeper */
};

#define HF_DISKSHM_NONE ((struct hf_diskshm){ .fd = -1, .kick_fd = -1, .notice_fd = -1 })

/**
 * hf_diskshm_create() - keeper: make it
 * @soft_bytes: of OUT and of IN; @reserve_bytes: beyond it, for what QEMU has under way when it is
 *	stopped and for the epoch after it. Memory is taken as it is used and given back.
 * Return: 0; -ENOMEM, other -errno, with @err.
 */
int hf_diskshm_create(uint32_t n_disks, uint64_t soft_bytes, uint64_t reserve_bytes,
		      struct hf_diskshm *ret, struct hf_err *err) HF_MUST_CHECK;

/* disk process: map what was inherited. Checks every size. Takes the descriptors over on success. */
int hf_diskshm_attach(int fd, int kick_fd, int notice_fd, struct hf_diskshm *ret,
		      struct hf_err *err) HF_MUST_CHECK;

/* Takes HF_DISKSHM_NONE. */
void hf_diskshm_close(struct hf_diskshm *s);

void hf_diskshm_kick(const struct hf_diskshm *s); /* never blocks */
void hf_diskshm_notify(const struct hf_diskshm *s);

/* Allocating side: a free chunk at the head, empty; NULL: the pool is full. Its number is *ret_i. One
 * thread at a time for each pool, as for all that allocates or frees. */
uint8_t *hf_diskshm_take(struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t epoch,
			 uint32_t *ret_i);
/* The same in two steps: what the next chunk will be, to be written to and not yet seen by the other side
 * (NULL: the pool is full); and its appearance. Nothing else may be taken in between. */
uint8_t *hf_diskshm_prepare(struct hf_diskshm *s, enum hf_diskshm_pool_id pool);
struct hf_diskshm_chunk *hf_diskshm_publish(struct hf_diskshm *s, enum hf_diskshm_pool_id pool,
					    uint64_t epoch, uint32_t used_bytes,
					    uint32_t n_records);
/* Allocating side: give back the newest chunk (IN: part of an epoch that never becomes whole). */
void hf_diskshm_untake(struct hf_diskshm *s, enum hf_diskshm_pool_id pool);
/* Freeing side: the oldest chunk. Its memory goes back to the system when the pool is over its soft
 * limit. */
void hf_diskshm_free_oldest(struct hf_diskshm *s, enum hf_diskshm_pool_id pool);

/* Writing side: the chunk's records now are these, the last of which stands by now. */
void hf_diskshm_set_fill(struct hf_diskshm_chunk *chunk, uint32_t used_bytes, uint32_t n_records);

/**
 * hf_diskshm_put() - keeper: records that came from the other host, into IN (or COPY: @epoch 0)
 * @len: > 0, at most HF_DISKSHM_ROOM_BYTES; checked by the caller (hf_wire_disk_check())
 * Several pieces of one epoch share a chunk. No kick.
 * Return: false: the pool is full.
 */
bool hf_diskshm_put(struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t epoch,
		    const uint8_t *records, size_t len, uint32_t n_records) HF_MUST_CHECK;
/* keeper: @epoch never becomes whole: its chunks, the newest of IN, are given back. */
void hf_diskshm_drop_epoch(struct hf_diskshm *s, uint64_t epoch);
/* keeper: frees what the disk process is done with in IN and COPY. A watcher's IN the keeper frees itself. */
void hf_diskshm_reclaim(struct hf_diskshm *s);

/* Chunks in use, by position: tail <= position < head. Checked: false when the position or what stands in
 * the memory makes no sense. */
struct hf_diskshm_view {
	uint8_t *message; /* HF_DISKSHM_CHUNK_BYTES */
	const uint8_t *records;
	struct hf_diskshm_chunk *chunk;
	uint32_t used; /* as read now, inside the room; 0 if and only if n_records is */
	uint32_t n_records;
	uint64_t epoch;
};
bool hf_diskshm_look(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t position,
		     struct hf_diskshm_view *ret);
uint64_t hf_diskshm_head(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool);
uint64_t hf_diskshm_tail(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool);
/* Chunks between them; more than there are when the memory makes no sense. */
uint64_t hf_diskshm_in_use(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool);

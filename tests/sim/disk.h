/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disks of the simulated world.
 *
 * Theory of operation. A disk has a few blocks of two halves. Under it lies a *store*: what reads
 * find now, what is durable for certain, and what was written in between, of which a loss of power
 * leaves any part, also half a block. A write under way is the world's, not its process's: it lands
 * when it lands, also while the process is frozen, or has been killed and is not proven dead yet.
 *
 * A keeper has a *disk path*: the log and the words that are shared memory in reality, and a disk
 * process that does what core/disk.h offers it. The process can die and be started again alone. The
 * real rules are used as they are shipped: struct hf_disk, struct hf_gate,
 * hf_disk_may_copy_delta().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/disk.h"

#define SIM_BLOCKS 5u
#define SIM_ALL_BLOCKS ((1u << SIM_BLOCKS) - 1)
#define SIM_LOG_MAX 256u
#define SIM_LOG_SOFT 24u
#define SIM_REDO_MAX 320u
#define SIM_REDO_FULL 40u /* from here on its entries are settled and it is emptied */
#define SIM_PENDING_MAX 48u
#define SIM_WRITES_MAX 64u
#define SIM_PIECES_MAX 32u
#define SIM_HISTORY 4096u

enum sim_layout { SIM_DISKS_NONE, SIM_DISKS_REPLICATED, SIM_DISKS_SHARED };

struct sim_rec {
	uint64_t epoch;
	uint64_t value;
	unsigned int block;
};

/* ---- what lies on storage ---- */

enum sim_condition {
	SIM_COPY_FRESH,
	SIM_COPY_OWNED,
	SIM_COPY_HELD,
	SIM_COPY_REPLICATED,
	SIM_COPY_PARTIAL
};

/* Records with the same epoch that follow each other are one entry. */
struct sim_redo {
	unsigned int n;
	unsigned int n_synced;
	unsigned int n_valid; /* after a loss of power: the rest is what is left of a torn entry */
	struct sim_rec recs[SIM_REDO_MAX];
};

/* What the copy of `session` lacks. */
struct sim_map {
	struct hf_id session;
	bool is_trusted;
	unsigned int now, before, to_send; /* two generations, and what a copy has yet to send */
	uint64_t turned_epoch; /* `before` may go when the peer has settled this */
	uint64_t turned_mark; /* while a copy runs: when this mark is confirmed */
};

struct sim_pending {
	unsigned int block;
	uint64_t value;
};

struct sim_store {
	uint64_t now[SIM_BLOCKS];
	uint64_t durable[SIM_BLOCKS];
	unsigned int n_pending;
	uint64_t n_gone; /* pending writes that became durable, ever */
	struct sim_pending pending[SIM_PENDING_MAX];
	enum sim_condition condition;
	struct hf_id session;
	unsigned int area; /* the one that counts */
	struct sim_redo redo[2];
	struct sim_map map;
	/* the checkers' own account */
	uint64_t base[SIM_BLOCKS]; /* HELD, REPLICATED: what epochs were put on */
	uint64_t base_serial;
	uint64_t flushed_serial; /* OWNED: writes up to this have to be there */
	uint64_t passed
		[SIM_BLOCKS]; /* when outputs passed last: the end of the epoch that was open */
	uint64_t passed_serial;
};

struct sim_write {
	uint64_t id; /* 0: none */
	int node;
	uint64_t inst, gen; /* whose: keeper, disk process */
	unsigned int block;
	uint64_t value;
	bool is_apply; /* of the log; else the guest's own, or a piece of a copy */
};

/* ---- a keeper's disk path ---- */

enum sim_disk_mode { SIM_DISK_DIRECT, SIM_DISK_HOLD, SIM_DISK_DRAIN };
enum sim_disk_op {
	SIM_OP_JOURNAL,
	SIM_OP_APPLY,
	SIM_OP_SETTLE,
	SIM_OP_BASE, /* flush before HELD or REPLICATED is recorded */
	SIM_OP_FLUSH, /* the guest's, past the log */
	SIM_OP_MARK, /* flush of pieces of a copy */
	SIM_OP_READ, /* a piece of a copy */
	SIM_OP_COUNT
};

struct sim_op {
	bool is_on, is_over;
	uint64_t n_landed; /* a flush covers what had landed when it began */
	unsigned int n; /* JOURNAL: length of the journal then; READ: block */
	uint64_t mark;
};

enum sim_request { SIM_REQ_NONE, SIM_REQ_WRITE, SIM_REQ_FLUSH };

/* The one request that a guest has under way. */
struct sim_req {
	enum sim_request kind;
	bool is_begun; /* past the log */
	bool has_landed, has_failed;
	unsigned int block;
	uint64_t value;
	uint64_t serial; /* WRITE: its number; FLUSH: the last one that it covers */
};

/* A piece of a copy, or a mark between pieces (block SIM_BLOCKS). */
struct sim_piece {
	unsigned int block;
	uint64_t value;
};

struct sim_disk {
	/* words */
	enum sim_disk_mode mode, state;
	bool is_owner;
	bool is_based; /* HELD or REPLICATED is recorded, what is under it is durable */
	bool is_failing; /* the storage under it gives errors */
	uint64_t open_epoch;
	struct hf_id session; /* for which writes are held */
	struct hf_disk d;
	uint64_t permit_ns;
	uint64_t peer_settled; /* in this session */
	uint64_t told_settled;
	bool is_flush_seen; /* by the guest, in what is not captured yet */
	struct hf_gate gate;
	unsigned int n_log;
	struct sim_rec log[SIM_LOG_MAX];
	/* the process */
	uint64_t gen; /* 0: none */
	bool is_frozen, is_dying, is_cut;
	uint64_t frozen_ns;
	struct sim_op op[SIM_OP_COUNT];
	unsigned int n_in_flight; /* writes of the apply under way */
	bool has_failed; /* one of them */
	bool is_piece_landing;
	unsigned int area; /* of the journal: its own, whichever counts */
	bool must_switch; /* shared: it counts as soon as what is to be redone stands in it */
	bool is_late; /* plant: what was acknowledged is not logged yet */
	struct sim_rec late;
	/* a copy: sending, receiving */
	bool wants_copy, is_full_wanted; /* as soon as the log is drained */
	bool is_copying;
	uint64_t n_marks;
	unsigned int n_since_mark;
	unsigned int n_pieces;
	struct sim_piece pieces[SIM_PIECES_MAX];
	bool is_first; /* the session's first epoch has not been acknowledged */
	unsigned int n_in; /* records of the epoch that is coming in */
	struct sim_rec in[SIM_LOG_MAX];
	bool has_end; /* its end has come: it is whole when the copy is durable and there is room */
	uint64_t end_epoch;
	int end_slot;
};

struct sim_world;
struct sim_keeper;
struct sim_event;
struct sim_msg;
struct sim_guest;
struct sim_output;

/* disk-store.c: storage. */
void sim_store_init(struct sim_world *w);
struct sim_store *sim_store_of(struct sim_world *w, int node);
struct sim_redo *sim_store_redo(struct sim_store *s);
uint64_t sim_store_landed(const struct sim_store *s);
void sim_store_flushed(struct sim_store *s, uint64_t n_landed);
bool sim_store_is_busy(const struct sim_world *w, int node); /* writes of it are under way */
void sim_store_write(struct sim_world *w, struct sim_keeper *k, unsigned int block, uint64_t value,
		     bool is_apply);
void sim_store_land(struct sim_world *w, const struct sim_event *ev);
/* A process is proven dead: each of its writes has landed, in whole or in part, or never will. */
void sim_store_settle_dead(struct sim_world *w, int node);
void sim_store_kill_journaling(struct sim_world *w, struct sim_redo *r);
void sim_store_power_loss(struct sim_world *w, int node);
void sim_store_redo_all(struct sim_world *w, int node);
/* What a start of the VM from @s alone would find after a loss of power now. */
void sim_store_recover(struct sim_world *w, int node, uint64_t *ret);

/* disk-path.c: the disk process. */
void sim_disk_start(struct sim_world *w, struct sim_keeper *k);
void sim_disk_kill(struct sim_world *w, struct sim_keeper *k);
void sim_disk_abandon(struct sim_world *w, struct sim_keeper *k); /* its keeper dies */
void sim_disk_dead(struct sim_world *w, struct sim_keeper *k);
void sim_disk_work(struct sim_world *w, struct sim_keeper *k);
void sim_disk_landed(struct sim_world *w, struct sim_keeper *k, const struct sim_write *write);
void sim_disk_op_over(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev);
/* What a read finds: the log, and under it the image. */
uint64_t sim_disk_read(struct sim_world *w, const struct sim_keeper *k, unsigned int block);
void sim_disk_forget_applied(struct sim_disk *disk);
void sim_map_set(struct sim_map *m, unsigned int block, bool is_copying);

/* disk-copy.c: first copies, and the dirty map. */
void sim_copy_begin(struct sim_world *w, struct sim_keeper *k, struct hf_id session, bool is_full);
void sim_copy_repeat(struct sim_disk *disk); /* an order that died with a disk process */
void sim_copy_end(struct sim_world *w, struct sim_keeper *k, bool is_failed);
void sim_copy_stop(struct sim_keeper *k);
bool sim_copy_is_done(struct sim_world *w, const struct sim_keeper *k);
bool sim_copy_is_nearly_done(struct sim_world *w, const struct sim_keeper *k);
void sim_copy_work(struct sim_world *w, struct sim_keeper *k);
void sim_copy_got(struct sim_world *w, struct sim_keeper *k, const struct sim_msg *msg);
void sim_map_work(struct sim_world *w, struct sim_keeper *k);

/* disk-keeper.c: what a keeper does about its disks. */
bool sim_has_disks(const struct sim_world *w);
void sim_disks_init(struct sim_world *w, struct sim_keeper *k, bool is_primary);
void sim_disks_hold(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
bool sim_disks_pass(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_disks_drained(struct sim_world *w, struct sim_keeper *k);
void sim_disks_boundary(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_disks_captured(struct sim_world *w, struct sim_keeper *k, uint64_t epoch, bool is_failed);
void sim_disks_committed(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_disks_journaled(struct sim_world *w, struct sim_keeper *k);
void sim_disks_send(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_disks_cut(struct sim_world *w, struct sim_keeper *k);
void sim_disks_clear(struct sim_world *w, struct sim_keeper *k, struct hf_id session);
void sim_disks_based(struct sim_world *w, struct sim_keeper *k);
void sim_disks_whole(struct sim_world *w, struct sim_keeper *k);
void sim_disks_take(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_disks_live(struct sim_world *w, struct sim_keeper *k);
void sim_disks_settled(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_disks_tick(struct sim_world *w, struct sim_keeper *k);
void sim_disks_renew(struct sim_world *w, struct sim_keeper *k, uint64_t sent_ns);

/* disk-cold.c: the VM is started from its disk, for nothing else is left of it. */
bool sim_cold_is_needed(const struct sim_world *w);
void sim_cold_start(struct sim_world *w);

/* disk-check.c: the checkers of disks. */
/* Outputs pass: what is logged now is the end of the epoch that was open. */
void sim_check_passed(struct sim_store *s, const struct sim_guest *g);
uint64_t sim_check_recovered(struct sim_world *w, int node); /* the last write that is in it */
void sim_check_image_write(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_check_landing(struct sim_world *w, const struct sim_write *write);
void sim_check_read(struct sim_world *w, struct sim_keeper *k, unsigned int block);
void sim_check_view(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_check_power(struct sim_world *w);
void sim_check_told(struct sim_world *w, const struct sim_keeper *k, const struct sim_output *o);

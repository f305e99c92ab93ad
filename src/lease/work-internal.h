/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of the workshop share. Layer: lease.
 *
 * Theory of operation. An operation is a chain of steps in the main loop. Between two of them it
 * waits for one of two things: for a worker, to which it has lent its `io` (hf_work_io()), or for
 * the clock (hf_work_wait()); `then` is the next step. Whatever way it ends, hf_work_end() is its
 * last step, and its callback comes from hf_workshop_dispatch().
 *
 * Workers take what is to be done from one queue in its order, so that one that hangs in the
 * storage keeps nothing but the operation that it works for. The next operation on the same lease
 * begins when the one before it has ended and no write of it is under way any more, or can still
 * land (`settle_ns`): an operation that was cancelled is out of its caller's sight by then.
 */
#pragma once

#include <pthread.h>

#include "codec/leasedisk.h"
#include "lease/index.h"
#include "lease/store.h"
#include "lease/work.h"

#define HF_WORKS_MAX 256 /* operations at a time, waiting ones included */
#define HF_WORKERS_MAX 8
#define HF_WORK_SECTOR_MAX 4096u
/* So long after a write of unknown fate nothing more is written to that lease, by any operation. */
#define HF_WORK_SETTLE_NS (HF_BALLOT_SETTLE_MS * 1000000ull)

struct hf_worker {
	struct hf_workshop *shop;
	pthread_t thread;
	struct hf_store *store; /* NULL: to be opened */
	uint8_t *buf; /* an area's size */
};

typedef int hf_work_run(struct hf_worker *k, struct hf_work *w);
typedef void hf_work_step(struct hf_work *w);

/* One thing that a worker does. Its own while it does, with what of the operation it works on. */
struct hf_work_io {
	struct hf_work *next;
	hf_work_run *run;
	uint64_t offset; /* sector to write */
	uint8_t sector[HF_WORK_SECTOR_MAX];
	bool may_be_late; /* a leader: it may land at any time */
	bool is_guarded; /* write only while the host lease is valid: else -ESHUTDOWN, not written */
	int r; /* 0, HF_STORE_UNSETTLED, -errno */
	uint64_t issued_ns, done_ns;
	struct hf_err err;
};

enum hf_work_kind { HF_WORK_BALLOT, HF_WORK_READ, HF_WORK_CREATE, HF_WORK_REQUEST };

enum hf_work_state {
	HF_WORK_QUEUED, /* behind another one on the same lease */
	HF_WORK_RUNNING,
	HF_WORK_ENDED, /* to be called back */
	HF_WORK_CALLED_BACK, /* kept until its I/O is over */
};

struct hf_work {
	struct hf_workshop *shop;
	struct hf_work *next; /* of all, in the order of their start */
	enum hf_work_kind kind;
	enum hf_work_state state;
	hf_work_done *done;
	void *ctx;
	struct hf_ballot_want asked;
	struct hf_work_result result;
	uint64_t begun_ns;

	hf_work_step *then;
	uint64_t wake_ns; /* UINT64_MAX: does not wait for the clock */
	uint64_t settle_ns;
	uint64_t stuck_ns; /* since when no I/O has succeeded that was wanted */
	struct hf_work_io io;

	/* The lease that is worked on: of `name`, or for a time the index's own. */
	struct hf_lease_ref lease;
	uint64_t generation, tenure; /* ours */
	struct hf_lease_leader leader; /* as read; if is_leader_damaged io.err says why */
	struct hf_lease_block *blocks; /* room for max_hosts */
	uint32_t n_wanted, n_blocks; /* blocks to read, and read */

	/* A ballot. */
	struct hf_ballot ballot;
	struct hf_ballot_want ballot_want;
	struct hf_ballot_action action; /* its last one */
	hf_work_step *ballot_then;
	uint64_t look_owner, look_generation, look_since_ns;
	struct hf_lease_slot slot; /* look_owner's, if is_slot_read */

	/* Looking up and creating. */
	struct hf_index_find find;
	hf_work_step *lookup_then;
	uint64_t index_lver; /* of the index's lease, which we own; 0: not */

	enum hf_lease_life life; /* the last answer to LOOK */
	enum hf_lease_force force;
	unsigned int failures; /* of I/O, in a row */
	unsigned int tries; /* to create */
	int create_r; /* what to report once the index is released */
	struct hf_err create_err;
	struct hf_err trouble;
	char name[HF_LEASE_NAME_BYTES + 1]; /* of the lease that was asked for */
	uint8_t own_sector[HF_WORK_SECTOR_MAX]; /* the own block as it stands there */

	bool is_cancelled;
	bool is_io_out; /* a worker has it */
	bool is_leader_damaged;
	bool is_balloting;
	bool has_bound; /* a value of ours may be on the disk */
	bool is_slot_read;
	bool is_patient; /* I/O errors do not end looking up */
	bool is_made;
};

struct hf_workshop {
	char *path;
	char *space;
	struct hf_member *member;
	struct hf_lease_page *page;
	uint64_t offset; /* of the lockspace */
	uint32_t timeout_ms;
	struct hf_lease_geometry geometry; /* sector_bytes 0: not known yet */
	uint32_t hosts_hint; /* how many blocks the leases here have */
	uint64_t random;

	struct hf_work *works;
	unsigned int n_works;
	uint64_t quiet_ns; /* no ballot before: a daemon that died may have left writes behind */
	bool is_ending; /* nothing new begins */
	bool is_dispatching;

	int event_fd;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t has_work;
	struct hf_work *todo, **todo_tail;
	struct hf_work *back, **back_tail; /* done by the workers */
	bool is_closed; /* workers go home */
	unsigned int n_running; /* of them, still there */
	pthread_cond_t is_gone;

	unsigned int n_workers;
	struct hf_worker worker[HF_WORKERS_MAX];
};

uint64_t hf_work_now_ns(void);

/* ---- work.c: steps ---- */

/* The next step comes when a worker has done @run. */
void hf_work_io(struct hf_work *w, hf_work_run *run, hf_work_step *then);

/* The next step comes at @at_ns. */
void hf_work_wait(struct hf_work *w, uint64_t at_ns, hf_work_step *then);

/* After an I/O: 0 if it was done; else what was wrong is noted (io.r, trouble, settle_ns). */
int hf_work_note_io(struct hf_work *w);

/* Until when to wait before the next try. */
uint64_t hf_work_retry_ns(const struct hf_work *w);

/* The last step. @r and @err (may be NULL) go to the result. */
void hf_work_end(struct hf_work *w, int r, const struct hf_err *err);

/* Is the host lease valid? Then the operation belongs to its generation and tenure. */
bool hf_work_enter_tenure(struct hf_work *w);

/* What anybody knows of the leader's owner. */
enum hf_lease_life hf_work_owner_life(const struct hf_work *w);

/* ---- work-pool.c ---- */

int hf_work_pool_start(struct hf_workshop *s, unsigned int threads) HF_MUST_CHECK;
/* -ETIMEDOUT: one is stuck in the storage, and with it all that it can touch. */
int hf_work_pool_stop(struct hf_workshop *s, uint64_t deadline_ns) HF_MUST_CHECK;
void hf_work_pool_put(struct hf_workshop *s, struct hf_work *w);
struct hf_work *hf_work_pool_take_back(struct hf_workshop *s); /* NULL: no more */

/* For workers: read `lease`'s leader and n_wanted blocks; write io.sector to io.offset. */
hf_work_run hf_work_run_read, hf_work_run_write;
/* A read's result that says: the storage ends before what should be there. */
bool hf_work_is_cut_short(int r);

/* For workers: look_owner's slot. */
hf_work_run hf_work_run_read_slot;

/* For workers, when is_guarded: may it still be written? Else -ESHUTDOWN, with io.err. */
int hf_work_check_guard(struct hf_work *w);

/* ---- work-ballot.c ---- */

/* A ballot on `lease`; @then comes when `ballot` has ended, unless the operation has (-ESHUTDOWN,
 * -ENOMEM). */
void hf_work_ballot(struct hf_work *w, const struct hf_ballot_want *want, hf_work_step *then);
void hf_work_ballot_cancel(struct hf_work *w);
void hf_work_ballot_notice(struct hf_work *w); /* there are new sights */
hf_work_step hf_work_begin_ballot;

/* ---- work-lookup.c ---- */

/* Fills in lease.offset if need be, then @then; ends the operation if there is no such lease.
 * @is_patient: over any number of I/O errors; else one ends it. */
void hf_work_lookup(struct hf_work *w, bool is_patient, hf_work_step *then);
hf_work_run hf_work_run_lookup; /* for workers: `name` to `find` */
hf_work_step hf_work_begin_read, hf_work_begin_request;

/* ---- work-create.c ---- */

hf_work_step hf_work_begin_create;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lease of one VM: who may own it next, decided by a ballot on disk. Layer: core; pure, any
 * thread, no allocation, no clock. docs/lease.md has the diagram, the rules and the proof.
 *
 * One operation at a time on a resource by a host. hf_ballot_begin() says what is wanted; then the
 * driver carries out one action at a time and feeds its end to hf_ballot_step() until DONE. From the
 * moment the host's own block names a value (phase 2) an operation cannot be given up: what was
 * written may be chosen. It goes on until it knows, over any number of errors; CANCEL ends one that
 * has not come so far. Nobody's operation is decided by time.
 *
 * A reader that does not want to change anything reads the leader: that owner, generation and lver
 * were chosen once; a later ballot may have been decided since (docs/lease.md, "What a leader
 * proves").
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/lease.h"

enum hf_ballot_op {
	/* Take it if it is free, the own one, or its owner is dead (OWNER_LIFE is asked for). */
	HF_BALLOT_ACQUIRE,
	/* Ballot at lver + 1 with the own name, whoever owns @lver: its owner has consented, or it is
	 * this host and does not know whether it still does. The vote of a protected pair; claiming
	 * anew after an expiry. */
	HF_BALLOT_CLAIM,
	/* Ballot at lver + 1 with the name of another host; this one owns @lver. */
	HF_BALLOT_TRANSFER,
	/* This one owns @lver and nobody is to from now on. */
	HF_BALLOT_RELEASE,
	/* No ballot: rewrite the own block without the mark of a release, before being given a lease
	 * (else a contender takes it from us: docs/lease.md). */
	HF_BALLOT_PREPARE,
	HF_BALLOT_OP_COUNT
};

/*
 * The tenure of the host lease (hostlease.h) under which an operation was begun is the one in which
 * its result counts: look at it before hf_ballot_begin(). If it is another one at the end, a WON or
 * an awaited transfer has to be verified by a CLAIM.
 */
struct hf_ballot_want {
	enum hf_ballot_op op;
	uint64_t host_id;
	uint64_t generation; /* current, of a host lease that is valid now */
	uint32_t max_hosts; /* by the area's geometry: stride of ballot numbers */
	uint64_t lver; /* CLAIM, TRANSFER, RELEASE; ACQUIRE: 0, or refuse unless it is this */
	uint64_t to; /* TRANSFER */
	uint64_t to_generation;
	uint32_t patience_ms; /* ACQUIRE: report OWNED at once (0), or after so long */
};

enum hf_ballot_event_kind {
	HF_BALLOT_READ, /* leader and n_blocks blocks as read */
	HF_BALLOT_WRITTEN, /* the last write is on the disk */
	HF_BALLOT_IO_FAILED, /* the last action failed; a write may have landed, or may land still
			      * (once; a block within HF_BALLOT_SETTLE_MS) */
	HF_BALLOT_OWNER_LIFE, /* the answer to LOOK: life */
	HF_BALLOT_WAKE, /* the time asked for by WAIT is over */
	HF_BALLOT_CANCEL, /* give up if nothing can have been chosen by our doing */
	HF_BALLOT_EVENT_COUNT
};

/*
 * A write to the own block that failed must not land when the next one has been relied on: after it
 * the machine waits for so long, also before it ends (and is_settled spares the wait: it has landed
 * or never will). A daemon that comes after one that died owes the same to the writes of that.
 * A leader may land as late as it likes.
 */
#define HF_BALLOT_SETTLE_MS 5000

struct hf_ballot_event {
	enum hf_ballot_event_kind kind;
	uint64_t now_ns;
	uint64_t issued_ns; /* READ: when it was issued */
	uint64_t now_s; /* for timestamps on disk; not 0 */
	uint32_t random; /* for backing off */
	bool is_settled; /* IO_FAILED: a write cannot land after this */
	const struct hf_lease_leader *leader; /* READ */
	bool is_leader_damaged; /* READ: wrong magic, checksum, name: nothing is written */
	const struct hf_lease_block *blocks; /* READ: of hosts 1..n_blocks */
	uint32_t n_blocks;
	enum hf_lease_life life;
};

enum hf_ballot_action_kind {
	HF_BALLOT_NOTHING, /* still waiting for what was asked for before (after CANCEL) */
	HF_BALLOT_DO_READ, /* the leader and all blocks, in one read */
	HF_BALLOT_DO_WRITE_BLOCK, /* `block` to the own sector, only after the last write to it ended */
	HF_BALLOT_DO_WRITE_LEADER, /* `leader` */
	HF_BALLOT_DO_LOOK, /* hf_lease_life(owner, generation, since_ns), from a read of the slot
			    * issued after since_ns */
	HF_BALLOT_DO_WAIT, /* until at_ns, then WAKE */
	HF_BALLOT_DONE, /* result; the machine is at rest */
};

enum hf_ballot_result {
	HF_BALLOT_WON, /* ACQUIRE, CLAIM: this host owns `lver` */
	HF_BALLOT_GIVEN, /* TRANSFER: the other host owns `lver` */
	HF_BALLOT_RELEASED, /* RELEASE: nobody does; or another one does already (see owner) */
	HF_BALLOT_PREPARED,
	HF_BALLOT_OWNED, /* ACQUIRE: owner is alive, or not known to be dead */
	HF_BALLOT_LOST, /* another value was chosen: `owner` owns `lver`. TRANSFER: may be this host,
			 * by an operation of its own that was broken off: still ours, at that lver */
	HF_BALLOT_NOT_OWNER, /* TRANSFER, RELEASE: this host does not own the lver named */
	HF_BALLOT_MOVED_ON, /* ACQUIRE with an lver: it is another by now */
	HF_BALLOT_CANCELLED,
	HF_BALLOT_DAMAGED, /* bad_host: 0 the leader, else the host whose block is (our own, too, unless
			    * this operation wrote it: what it had accepted is not known); nothing
			    * was proposed. One that is bound waits for the repair instead. */
	HF_BALLOT_NO_SLOT, /* the host id is above the resource's num_hosts */
	HF_BALLOT_RESULT_COUNT
};

struct hf_ballot_action {
	enum hf_ballot_action_kind kind;
	struct hf_lease_block block;
	struct hf_lease_leader leader;
	uint64_t owner, generation; /* LOOK: of whom; DONE: who owns `lver` */
	uint64_t since_ns; /* LOOK */
	uint64_t at_ns; /* WAIT */
	enum hf_ballot_result result;
	uint64_t lver; /* DONE */
	uint64_t bad_host;
};

struct hf_ballot {
	struct hf_ballot_want want;
	unsigned int stage; /* private, as all the rest */
	uint64_t begun_ns;
	uint64_t next_lver; /* the one a ballot is held for, 0: none yet */
	struct hf_lease_leader leader; /* as read last, or written */
	struct hf_lease_block own; /* as written last */
	bool is_own_known; /* `own` was written by this operation */
	bool is_bound; /* phase 2 was begun: cannot be cancelled */
	bool is_cancelled;
	bool is_settling; /* PAUSE: until a write to the own block cannot land any more */
	bool is_given; /* TRANSFER: done, but for the mark */
	bool is_fresh; /* our value for next_lver was proposed by this very operation */
	bool is_healing; /* the leader is older than next_lver - 1: only brings to an end what others
			  * had begun */
	bool is_owner_gone; /* evidence that belongs to evidence_lver */
	uint64_t evidence_lver;
	uint64_t looked_at; /* LOOK: whose life */
	bool is_look_shared; /* as a holder in shared mode, not as the owner */
	uint64_t shared_gone; /* shared holders up to this host id are dead, at evidence_lver */
	uint64_t marked_lver; /* the owner's mark of a release was seen at this one ... */
	uint64_t marked_ns; /* ... since then */
	uint64_t read_issued_ns;
	unsigned int attempts; /* grows the pauses */
	unsigned int rereads;
	unsigned int damaged; /* reads in a row */
};

/* @ret: the first action. */
void hf_ballot_begin(struct hf_ballot *b, const struct hf_ballot_want *want, uint64_t now_ns,
		     struct hf_ballot_action *ret);
void hf_ballot_step(struct hf_ballot *b, const struct hf_ballot_event *ev,
		    struct hf_ballot_action *ret);

const char *hf_ballot_op_name(enum hf_ballot_op op);
const char *hf_ballot_result_text(enum hf_ballot_result result);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. docs/lease.md has the diagram and the proof.
 *
 * Each lver of a resource is one instance of Disk Paxos: who owns it. A host takes part with its
 * block. Phase 1: its ballot number (mbal) goes into the block, then all blocks are read. Phase 2:
 * the value of the highest ballot accepted by anybody, or the own one if there is none, goes into the
 * block (bal and value), then all are read again. Nobody with a higher number there either time: the
 * value is chosen, for ever, and the leader record says so. Somebody with a higher one: begin again,
 * with one higher still; what the own block has accepted at this lver stays in it.
 *
 * The leader record is a hint that can be late: whoever has a chosen value writes it, and that write
 * may land when later ballots were decided. What then stands there is old, but was true once. Blocks
 * at higher lvers tell; nothing is proposed behind them ("healing": what they have accepted is
 * brought to its end, and the leader with it).
 *
 * Every read shows leader and blocks. After each one in a ballot comes the same look: is the lver
 * decided, are others beyond it, does the own block stand there as written? Only then the next step.
 * After an error anywhere: pause, read, and decide what is to be done from what stands there. All
 * this needs blocks that do not change but by their host's will: so after a write to the own block
 * that failed the pause is long enough for it to land.
 */
#include "core/ballot.h"

#include <assert.h>
#include <string.h>

#define MS_NS 1000000u

/* A write that is decided on a read older than this waits for another read ... */
#define READ_OLD_NS 1000000000u
/* ... but on storage that is as slow as that it has to come to an end. */
#define REREADS_MAX 3u

#define DAMAGED_READS_MAX 5u
#define DAMAGED_PAUSE_MS 200u
#define PATIENT_PAUSE_MS 250u
/* An owner that has marked its block is about to free the leader. */
#define MARK_GRACE_NS 2000000000u
#define BACKOFF_LEAST_MS 10u
#define BACKOFF_DOUBLINGS_MAX 6u
/* Blocks ahead of the leader with nothing accepted: so many looks until OWNED. */
#define AHEAD_LOOKS_MIN 10u

enum stage {
	STAGE_REST,
	STAGE_READ, /* to find out where things stand */
	STAGE_LIFE, /* waits for word of a host */
	STAGE_PAUSE, /* then READ */
	STAGE_PROMISE, /* phase 1: writes the number ... */
	STAGE_PROMISED, /* ... and reads */
	STAGE_ACCEPT, /* phase 2: writes the value ... */
	STAGE_ACCEPTED, /* ... and reads */
	STAGE_COMMIT, /* writes the leader */
	STAGE_MARK, /* TRANSFER, given: marks the own block */
	STAGE_LET_GO, /* RELEASE: marks the own block ... */
	STAGE_LET_GO_READ, /* ... reads again ... */
	STAGE_FREE, /* ... and writes the leader free */
	STAGE_CLEAN, /* PREPARE: writes the own block without the mark */
};

struct step {
	const struct hf_ballot_event *ev;
	struct hf_ballot_action *ret;
	struct hf_lease_block own; /* READ: the newest that is known of the own block */
};

static void decide(struct hf_ballot *b, const struct step *s);

/* ---- actions ---- */

static void act(struct hf_ballot *b, const struct step *s, enum stage stage,
		enum hf_ballot_action_kind kind)
{
	b->stage = stage;
	s->ret->kind = kind;
}

static void finish(struct hf_ballot *b, const struct step *s, enum hf_ballot_result result)
{
	act(b, s, STAGE_REST, HF_BALLOT_DONE);
	s->ret->result = result;
	s->ret->lver = b->leader.lver;
	s->ret->owner = b->leader.owner;
	s->ret->generation = b->leader.generation;
}

static void finish_damaged(struct hf_ballot *b, const struct step *s, uint64_t host)
{
	finish(b, s, HF_BALLOT_DAMAGED);
	s->ret->bad_host = host;
}

static void pause_for(struct hf_ballot *b, const struct step *s, uint64_t ms)
{
	act(b, s, STAGE_PAUSE, HF_BALLOT_DO_WAIT);
	s->ret->at_ns = s->ev->now_ns + ms * MS_NS;
}

/* Two hosts that are in each other's way, or a disk that fails: longer each time, and at random. */
static void back_off(struct hf_ballot *b, const struct step *s)
{
	unsigned int n = b->attempts < BACKOFF_DOUBLINGS_MAX ? b->attempts : BACKOFF_DOUBLINGS_MAX;
	uint64_t ms = (uint64_t)BACKOFF_LEAST_MS << n;

	b->attempts++;
	pause_for(b, s, ms / 2 + s->ev->random % ms);
}

static void read_all(struct hf_ballot *b, const struct step *s, enum stage stage)
{
	act(b, s, stage, HF_BALLOT_DO_READ);
}

static void write_own(struct hf_ballot *b, const struct step *s, enum stage stage,
		      const struct hf_lease_block *block)
{
	b->own = *block;
	b->is_own_known = true;
	act(b, s, stage, HF_BALLOT_DO_WRITE_BLOCK);
	s->ret->block = *block;
}

static void write_leader(struct hf_ballot *b, const struct step *s, enum stage stage,
			 const struct hf_lease_block *value, uint64_t lver, uint64_t timestamp_s)
{
	struct hf_lease_leader *l = &b->leader;

	l->owner = value->owner;
	l->generation = value->generation;
	l->lver = lver;
	l->timestamp_s = timestamp_s;
	/* As if the owner had written it, whoever does: docs/lease.md, "write_id". */
	l->write_id = value->owner;
	l->write_generation = value->generation;
	act(b, s, stage, HF_BALLOT_DO_WRITE_LEADER);
	s->ret->leader = *l;
}

/* ---- what was read ---- */

static bool is_wanted(const struct hf_ballot *b, uint64_t owner, uint64_t generation)
{
	const struct hf_ballot_want *w = &b->want;

	if (w->op == HF_BALLOT_TRANSFER)
		return owner == w->to && generation == w->to_generation;
	return owner == w->host_id && generation == w->generation;
}

/* Ours, in this generation or in one before: then nothing of it runs any more. */
static bool is_own_tenure(const struct hf_ballot *b)
{
	return b->leader.owner == b->want.host_id && b->leader.generation <= b->want.generation;
}

/* The own block counts as the newest that is known of it: what stands there may be an older write
 * that landed late, or a write of ours may yet have to land. */
static struct hf_lease_block newest_own(const struct hf_ballot *b, const struct hf_ballot_event *ev)
{
	const struct hf_lease_block *disk = &ev->blocks[b->want.host_id - 1];
	struct hf_lease_block own = *disk;

	if (b->is_own_known && (disk->is_damaged || disk->lver < b->own.lver ||
				(disk->lver == b->own.lver && disk->bal <= b->own.bal)))
		own = b->own;
	if (b->is_own_known && own.mbal < b->own.mbal)
		own.mbal = b->own.mbal;
	if (!disk->is_damaged) {
		own.is_shared = disk->is_shared;
		own.shared_generation = disk->shared_generation;
	}
	return own;
}

static const struct hf_lease_block *block_of(const struct hf_ballot *b, const struct step *s,
					     uint64_t host)
{
	return host == b->want.host_id ? &s->own : &s->ev->blocks[host - 1];
}

/* Of all blocks at @lver the one with the highest ballot accepted, NULL: none has accepted any. */
static const struct hf_lease_block *accepted_at(const struct hf_ballot *b, const struct step *s,
						uint64_t lver)
{
	const struct hf_lease_block *best = NULL;

	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = block_of(b, s, host);

		if (k->lver == lver && k->bal && (!best || k->bal > best->bal))
			best = k;
	}
	return best;
}

static uint64_t highest_lver(const struct hf_ballot *b, const struct step *s)
{
	uint64_t lver = 0;

	for (uint64_t host = 1; host <= b->leader.num_hosts; host++)
		if (block_of(b, s, host)->lver > lver)
			lver = block_of(b, s, host)->lver;
	return lver;
}

/* 0 with @ret_host: that one's number leaves no room for a higher one. */
static uint64_t next_mbal(const struct hf_ballot *b, const struct step *s, uint64_t *ret_host)
{
	uint64_t mbal = 0, stride = b->want.max_hosts;

	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		if (block_of(b, s, host)->mbal <= mbal)
			continue;
		mbal = block_of(b, s, host)->mbal;
		*ret_host = host;
	}
	if (mbal > UINT64_MAX - 2 * stride)
		return 0;
	return mbal - mbal % stride + stride + b->want.host_id;
}

static bool is_leader_sane(const struct hf_ballot *b, const struct hf_ballot_event *ev)
{
	const struct hf_lease_leader *l = ev->leader;

	return !ev->is_leader_damaged && l->num_hosts && l->num_hosts <= b->want.max_hosts &&
	       l->num_hosts <= ev->n_blocks && l->lver < UINT64_MAX - 1 &&
	       (!l->timestamp_s || (l->owner && l->owner <= b->want.max_hosts));
}

static bool is_damaged(const struct hf_ballot *b, const struct hf_ballot_event *ev,
		       uint64_t *ret_host)
{
	*ret_host = 0;
	if (!is_leader_sane(b, ev))
		return true;
	for (uint64_t host = 1; host <= ev->leader->num_hosts; host++) {
		if (!ev->blocks[host - 1].is_damaged)
			continue;
		*ret_host = host;
		if (host != b->want.host_id || !b->is_own_known)
			return true;
	}
	return false;
}

/* ---- a ballot ---- */

/* Blocks are ahead of the leader and have accepted nothing: their ballot is being held, by hosts that
 * have seen a newer leader than stands there. */
static void wait_for_those_ahead(struct hf_ballot *b, const struct step *s)
{
	uint64_t waited_ns = s->ev->now_ns - b->begun_ns;

	if (b->want.op == HF_BALLOT_ACQUIRE && !b->is_bound && b->attempts >= AHEAD_LOOKS_MIN &&
	    waited_ns >= (uint64_t)b->want.patience_ms * MS_NS)
		finish(b, s, HF_BALLOT_OWNED);
	else
		back_off(b, s);
}

static void hold_ballot(struct hf_ballot *b, const struct step *s, uint64_t lver)
{
	uint64_t ahead = highest_lver(b, s), host = 0, mbal;
	struct hf_lease_block own = s->own;

	b->is_healing = ahead > lver;
	if (b->is_healing && !accepted_at(b, s, ahead)) {
		wait_for_those_ahead(b, s);
		return;
	}
	if (b->is_healing)
		lver = ahead;
	mbal = next_mbal(b, s, &host);
	if (!mbal) {
		finish_damaged(b, s, host);
		return;
	}
	if (lver != b->next_lver)
		b->is_fresh = false;
	b->next_lver = lver;
	if (own.lver != lver) {
		own.lver = lver;
		own.bal = 0;
		own.owner = 0;
		own.generation = 0;
		own.timestamp_s = 0;
	}
	own.mbal = mbal;
	own.is_released = false;
	own.is_damaged = false;
	write_own(b, s, STAGE_PROMISE, &own);
}

static bool is_own_as_written(const struct hf_ballot *b, const struct step *s)
{
	const struct hf_lease_block *k = &s->ev->blocks[b->want.host_id - 1];

	return !k->is_damaged && k->lver == b->own.lver && k->mbal == b->own.mbal &&
	       k->bal == b->own.bal && k->owner == b->own.owner &&
	       k->generation == b->own.generation && k->is_released == b->own.is_released;
}

static bool is_outbid(const struct hf_ballot *b, const struct step *s)
{
	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = block_of(b, s, host);

		if (k->lver == b->next_lver && k->mbal > b->own.mbal)
			return true;
	}
	return false;
}

/* After each read in a ballot. False: it goes another way, and @s has the action. */
static bool is_clear(struct hf_ballot *b, const struct step *s)
{
	if (b->leader.lver >= b->next_lver || highest_lver(b, s) > b->next_lver) {
		decide(b, s);
		return false;
	}
	if (!is_own_as_written(b, s) || is_outbid(b, s)) {
		back_off(b, s);
		return false;
	}
	return true;
}

static void on_promised(struct hf_ballot *b, const struct step *s)
{
	struct hf_lease_block own = b->own;
	const struct hf_lease_block *value;
	bool is_transfer = b->want.op == HF_BALLOT_TRANSFER;

	if (!is_clear(b, s))
		return;
	value = accepted_at(b, s, b->next_lver);
	if (!value && b->is_healing) {
		back_off(b, s);
		return;
	}
	if (value) {
		own.owner = value->owner;
		own.generation = value->generation;
		own.timestamp_s = value->timestamp_s;
	} else {
		own.owner = is_transfer ? b->want.to : b->want.host_id;
		own.generation = is_transfer ? b->want.to_generation : b->want.generation;
		own.timestamp_s = s->ev->now_s;
		b->is_fresh = true;
	}
	own.bal = own.mbal;
	if (is_wanted(b, own.owner, own.generation))
		b->is_bound = true;
	b->rereads = 0;
	write_own(b, s, STAGE_ACCEPT, &own);
}

/* Was the read so long ago that this host may have slept in between? */
static bool is_read_old(struct hf_ballot *b, const struct step *s)
{
	return s->ev->now_ns - s->ev->issued_ns > READ_OLD_NS && b->rereads++ < REREADS_MAX;
}

static void on_accepted(struct hf_ballot *b, const struct step *s)
{
	uint64_t timestamp_s = b->own.timestamp_s ? b->own.timestamp_s : s->ev->now_s;

	if (!is_clear(b, s))
		return;
	if (is_read_old(b, s))
		read_all(b, s, STAGE_ACCEPTED);
	else
		write_leader(b, s, STAGE_COMMIT, &b->own, b->next_lver, timestamp_s);
}

static void mark_given(struct hf_ballot *b, const struct step *s, const struct hf_lease_block *own)
{
	struct hf_lease_block marked = *own;

	marked.is_released = true;
	write_own(b, s, STAGE_MARK, &marked);
}

static void on_committed(struct hf_ballot *b, const struct step *s)
{
	bool is_ours = is_wanted(b, b->leader.owner, b->leader.generation) && !b->is_healing;

	if (is_ours && b->want.op == HF_BALLOT_TRANSFER)
		mark_given(b, s, &b->own);
	else if (is_ours && b->is_fresh)
		finish(b, s, HF_BALLOT_WON);
	else
		read_all(b, s, STAGE_READ);
}

/* ---- what is to be done, from what stands there ---- */

/*
 * The leader has come to the lver of our ballot, or beyond. If it names us, but by a proposal that
 * was there before this operation began, it may have been decided in an earlier tenure, and another
 * host may have found us dead since: one more ballot, as the owner of that lver.
 */
static void settle(struct hf_ballot *b, const struct step *s)
{
	bool is_ours = is_wanted(b, b->leader.owner, b->leader.generation) && b->leader.timestamp_s;
	bool is_next = b->leader.lver == b->next_lver;

	if (b->want.op == HF_BALLOT_TRANSFER) {
		if (is_ours && is_next)
			mark_given(b, s, &s->own);
		else
			finish(b, s, HF_BALLOT_LOST);
	} else if (is_ours && is_next && b->is_fresh) {
		finish(b, s, HF_BALLOT_WON);
	} else if (is_ours) {
		hold_ballot(b, s, b->leader.lver + 1);
	} else {
		finish(b, s, HF_BALLOT_LOST);
	}
}

static void ask_life(struct hf_ballot *b, const struct step *s, uint64_t host, uint64_t generation,
		     bool is_shared)
{
	b->looked_at = host;
	b->is_look_shared = is_shared;
	act(b, s, STAGE_LIFE, HF_BALLOT_DO_LOOK);
	s->ret->owner = host;
	s->ret->generation = generation;
	s->ret->since_ns = s->ev->now_ns;
}

/*
 * sanlock: whoever holds a lease in shared mode has freed the leader again; its mode stands in its
 * block. True: somebody may, and @s has the action.
 */
static bool is_held_shared(struct hf_ballot *b, const struct step *s)
{
	uint64_t host = b->evidence_lver == b->leader.lver ? b->shared_gone + 1 : 1;

	for (; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = &s->ev->blocks[host - 1];

		if (host == b->want.host_id || !k->is_shared)
			continue;
		ask_life(b, s, host, k->shared_generation, true);
		return true;
	}
	return false;
}

enum mark { MARK_NONE, MARK_NEW, MARK_OLD };

/*
 * Has the owner let go without freeing the leader? It marks its block, at the leader's lver or above,
 * before it frees the leader, and does not do the latter if it dies, or (sanlock) if another host had
 * written the leader for it.
 */
static enum mark owners_mark(struct hf_ballot *b, const struct step *s)
{
	const struct hf_lease_leader *l = &b->leader;
	const struct hf_lease_block *k;

	if (l->owner > l->num_hosts)
		return MARK_NONE;
	k = block_of(b, s, l->owner);
	if (!k->is_released || k->lver < l->lver)
		return MARK_NONE;
	if (l->write_id != l->owner || k->lver > l->lver)
		return MARK_OLD;
	if (b->marked_lver == l->lver)
		return s->ev->now_ns - b->marked_ns >= MARK_GRACE_NS ? MARK_OLD : MARK_NEW;
	b->marked_lver = l->lver;
	b->marked_ns = s->ev->now_ns;
	return MARK_NEW;
}

static bool is_patience_over(const struct hf_ballot *b, uint64_t now_ns)
{
	return now_ns - b->begun_ns >= (uint64_t)b->want.patience_ms * MS_NS;
}

static void decide_acquire(struct hf_ballot *b, const struct step *s)
{
	const struct hf_lease_leader *l = &b->leader;
	bool is_evident = b->is_owner_gone && b->evidence_lver == l->lver;
	enum mark mark;

	if (b->next_lver && !b->is_healing && l->lver >= b->next_lver &&
	    is_patience_over(b, s->ev->now_ns)) {
		finish(b, s, HF_BALLOT_LOST);
		return;
	}
	if (b->want.lver && b->want.lver != l->lver) {
		finish(b, s, HF_BALLOT_MOVED_ON);
		return;
	}
	if (is_held_shared(b, s))
		return;
	/* With blocks beyond it the leader is an old one, and nothing of ours is proposed. */
	if (!l->timestamp_s || is_own_tenure(b) || is_evident || highest_lver(b, s) > l->lver + 1) {
		hold_ballot(b, s, l->lver + 1);
		return;
	}
	mark = owners_mark(b, s);
	if (mark == MARK_OLD)
		hold_ballot(b, s, l->lver + 1);
	else if (mark == MARK_NEW)
		pause_for(b, s, MARK_GRACE_NS / MS_NS);
	else
		ask_life(b, s, l->owner, l->generation, false);
}

/* A leader older than an lver that somebody owned is an old one; but that lver shows in a block. */
static void decide_claim(struct hf_ballot *b, const struct step *s)
{
	const struct hf_lease_leader *l = &b->leader;
	uint64_t lver = b->want.lver;

	if (l->lver == lver || (l->lver < lver && highest_lver(b, s) >= lver))
		hold_ballot(b, s, lver + 1);
	else if (l->lver > lver && l->timestamp_s && is_wanted(b, l->owner, l->generation))
		hold_ballot(b, s, l->lver + 1);
	else
		finish(b, s, HF_BALLOT_LOST);
}

static void decide_transfer(struct hf_ballot *b, const struct step *s)
{
	const struct hf_lease_leader *l = &b->leader;
	uint64_t lver = b->want.lver;

	if ((l->lver == lver && is_own_tenure(b) && l->timestamp_s) ||
	    (l->lver < lver && highest_lver(b, s) >= lver))
		hold_ballot(b, s, lver + 1);
	else if (l->lver == lver + 1 && l->timestamp_s && is_wanted(b, l->owner, l->generation))
		mark_given(b, s, &s->own);
	else
		finish(b, s, b->next_lver ? HF_BALLOT_LOST : HF_BALLOT_NOT_OWNER);
}

static void decide_release(struct hf_ballot *b, const struct step *s)
{
	const struct hf_lease_leader *l = &b->leader;
	struct hf_lease_block own = s->own;
	uint64_t lver = b->want.lver;

	if (l->lver > lver) {
		finish(b, s, is_own_tenure(b) ? HF_BALLOT_NOT_OWNER : HF_BALLOT_RELEASED);
		return;
	}
	if ((l->lver == lver && !is_own_tenure(b)) ||
	    (l->lver < lver && highest_lver(b, s) < lver)) {
		finish(b, s, HF_BALLOT_NOT_OWNER);
		return;
	}
	if (l->lver == lver && !l->timestamp_s) {
		finish(b, s, HF_BALLOT_RELEASED);
		return;
	}
	/* A mark counts at the lver it stands at: who was given the lease has it lower. */
	if (own.lver < lver) {
		own.lver = lver;
		own.bal = 0;
		own.owner = 0;
		own.generation = 0;
		own.timestamp_s = 0;
	}
	own.is_released = true;
	own.is_damaged = false;
	b->is_bound = true;
	b->rereads = 0;
	write_own(b, s, STAGE_LET_GO, &own);
}

/* Somebody else's proposal for the next lver may be chosen, with its leader on the way: ours over it
 * would put the clock back. The mark tells that we are gone. */
static bool is_being_taken(const struct hf_ballot *b, const struct step *s)
{
	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = &s->ev->blocks[host - 1];

		if (host != b->want.host_id && k->lver > b->want.lver && k->bal)
			return true;
	}
	return false;
}

static void on_let_go(struct hf_ballot *b, const struct step *s)
{
	const struct hf_lease_leader *l = &b->leader;
	const struct hf_lease_block value = { .owner = b->want.host_id,
					      .generation = l->lver == b->want.lver
								    ? l->generation
								    : b->want.generation };

	if (l->lver > b->want.lver || (l->lver == b->want.lver && !l->timestamp_s) ||
	    (l->lver == b->want.lver && !is_own_tenure(b)) || is_being_taken(b, s))
		finish(b, s, HF_BALLOT_RELEASED);
	else if (is_read_old(b, s))
		read_all(b, s, STAGE_LET_GO_READ);
	else
		write_leader(b, s, STAGE_FREE, &value, b->want.lver, 0);
}

static void decide_prepare(struct hf_ballot *b, const struct step *s)
{
	struct hf_lease_block own = s->own;

	if (!own.is_released) {
		finish(b, s, HF_BALLOT_PREPARED);
		return;
	}
	own.is_released = false;
	write_own(b, s, STAGE_CLEAN, &own);
}

static void decide(struct hf_ballot *b, const struct step *s)
{
	bool is_ballot = b->want.op != HF_BALLOT_RELEASE && b->want.op != HF_BALLOT_PREPARE;

	if (is_ballot && b->is_bound && b->leader.lver >= b->next_lver) {
		settle(b, s);
		return;
	}
	if (is_ballot && b->is_bound) {
		hold_ballot(b, s, b->next_lver);
		return;
	}
	if (b->want.op == HF_BALLOT_ACQUIRE)
		decide_acquire(b, s);
	else if (b->want.op == HF_BALLOT_CLAIM)
		decide_claim(b, s);
	else if (b->want.op == HF_BALLOT_TRANSFER)
		decide_transfer(b, s);
	else if (b->want.op == HF_BALLOT_RELEASE)
		decide_release(b, s);
	else
		decide_prepare(b, s);
}

/* ---- events ---- */

static bool is_slot_missing(const struct hf_ballot *b)
{
	uint64_t n = b->leader.num_hosts;

	return b->want.host_id > n || (b->want.op == HF_BALLOT_TRANSFER && b->want.to > n);
}

static void on_read(struct hf_ballot *b, struct step *s)
{
	uint64_t bad_host = 0;

	b->read_issued_ns = s->ev->issued_ns;
	if (is_damaged(b, s->ev, &bad_host)) {
		if (++b->damaged >= DAMAGED_READS_MAX && !b->is_bound)
			finish_damaged(b, s, bad_host);
		else
			pause_for(b, s, DAMAGED_PAUSE_MS);
		return;
	}
	b->damaged = 0;
	b->leader = *s->ev->leader;
	if (is_slot_missing(b)) {
		finish(b, s, HF_BALLOT_NO_SLOT);
		return;
	}
	s->own = newest_own(b, s->ev);
	if (b->stage == STAGE_PROMISED)
		on_promised(b, s);
	else if (b->stage == STAGE_ACCEPTED)
		on_accepted(b, s);
	else if (b->stage == STAGE_LET_GO_READ)
		on_let_go(b, s);
	else
		decide(b, s);
}

static void on_written(struct hf_ballot *b, const struct step *s)
{
	switch (b->stage) {
	case STAGE_PROMISE:
		read_all(b, s, STAGE_PROMISED);
		return;
	case STAGE_ACCEPT:
		read_all(b, s, STAGE_ACCEPTED);
		return;
	case STAGE_COMMIT:
		on_committed(b, s);
		return;
	case STAGE_MARK:
		finish(b, s, HF_BALLOT_GIVEN);
		return;
	case STAGE_LET_GO:
		read_all(b, s, STAGE_LET_GO_READ);
		return;
	case STAGE_FREE:
		finish(b, s, HF_BALLOT_RELEASED);
		return;
	default:
		assert(b->stage == STAGE_CLEAN);
		finish(b, s, HF_BALLOT_PREPARED);
	}
}

static bool is_block_write(const struct hf_ballot *b)
{
	return b->stage == STAGE_PROMISE || b->stage == STAGE_ACCEPT || b->stage == STAGE_MARK ||
	       b->stage == STAGE_LET_GO || b->stage == STAGE_CLEAN;
}

static void on_failed(struct hf_ballot *b, const struct step *s)
{
	bool is_settling = is_block_write(b) && !s->ev->is_settled;

	/* Given it is; the mark only helps those who find an old leader. */
	b->is_given = b->stage == STAGE_MARK;
	if (is_settling)
		pause_for(b, s, HF_BALLOT_SETTLE_MS);
	else if (b->is_given)
		finish(b, s, HF_BALLOT_GIVEN);
	else if (b->is_cancelled && !b->is_bound)
		finish(b, s, HF_BALLOT_CANCELLED);
	else
		back_off(b, s);
	b->is_settling = is_settling;
}

static void on_wake(struct hf_ballot *b, const struct step *s)
{
	b->is_settling = false;
	if (b->is_given)
		finish(b, s, HF_BALLOT_GIVEN);
	else if (b->is_cancelled && !b->is_bound)
		finish(b, s, HF_BALLOT_CANCELLED);
	else
		read_all(b, s, STAGE_READ);
}

static void on_life(struct hf_ballot *b, const struct step *s)
{
	enum hf_lease_life life = s->ev->life;

	if (life == HF_LEASE_LIFE_DEAD || life == HF_LEASE_LIFE_GONE) {
		if (b->evidence_lver != b->leader.lver) {
			b->evidence_lver = b->leader.lver;
			b->is_owner_gone = false;
			b->shared_gone = 0;
		}
		if (b->is_look_shared)
			b->shared_gone = b->looked_at;
		else
			b->is_owner_gone = true;
		read_all(b, s, STAGE_READ);
		return;
	}
	if (is_patience_over(b, s->ev->now_ns)) {
		finish(b, s, HF_BALLOT_OWNED);
		s->ret->owner = b->looked_at;
		return;
	}
	pause_for(b, s, PATIENT_PAUSE_MS);
}

static void on_cancel(struct hf_ballot *b, const struct step *s)
{
	s->ret->kind = HF_BALLOT_NOTHING;
	if (b->is_bound)
		return;
	b->is_cancelled = true;
	if (b->stage == STAGE_LIFE || (b->stage == STAGE_PAUSE && !b->is_settling))
		finish(b, s, HF_BALLOT_CANCELLED);
}

static bool is_end_of_io(const struct hf_ballot *b, enum hf_ballot_event_kind kind)
{
	bool is_reading = b->stage == STAGE_READ || b->stage == STAGE_PROMISED ||
			  b->stage == STAGE_ACCEPTED || b->stage == STAGE_LET_GO_READ;
	bool is_waiting = b->stage == STAGE_LIFE || b->stage == STAGE_PAUSE;

	if (kind == HF_BALLOT_READ)
		return is_reading;
	if (kind == HF_BALLOT_WRITTEN)
		return !is_reading && !is_waiting;
	return kind == HF_BALLOT_IO_FAILED && !is_waiting;
}

void hf_ballot_step(struct hf_ballot *b, const struct hf_ballot_event *ev,
		    struct hf_ballot_action *ret)
{
	struct step s = { .ev = ev, .ret = ret };

	assert(b->stage != STAGE_REST);
	assert(ev->kind < HF_BALLOT_EVENT_COUNT);
	memset(ret, 0, sizeof(*ret));
	if (ev->kind == HF_BALLOT_CANCEL) {
		on_cancel(b, &s);
		return;
	}
	if (ev->kind == HF_BALLOT_OWNER_LIFE) {
		assert(b->stage == STAGE_LIFE);
		on_life(b, &s);
		return;
	}
	if (ev->kind == HF_BALLOT_WAKE) {
		assert(b->stage == STAGE_PAUSE);
		on_wake(b, &s);
		return;
	}
	assert(is_end_of_io(b, ev->kind));
	if (b->is_cancelled && !b->is_bound && ev->kind != HF_BALLOT_IO_FAILED) {
		finish(b, &s, HF_BALLOT_CANCELLED);
		return;
	}
	if (ev->kind == HF_BALLOT_READ)
		on_read(b, &s);
	else if (ev->kind == HF_BALLOT_WRITTEN)
		on_written(b, &s);
	else
		on_failed(b, &s);
}

void hf_ballot_begin(struct hf_ballot *b, const struct hf_ballot_want *want, uint64_t now_ns,
		     struct hf_ballot_action *ret)
{
	const struct step s = { .ret = ret };

	assert(want->op < HF_BALLOT_OP_COUNT);
	assert(want->max_hosts <= HF_LEASE_HOSTS_MAX);
	assert(want->host_id && want->host_id <= want->max_hosts);
	assert(want->generation);
	assert(want->op != HF_BALLOT_TRANSFER || (want->to && want->to != want->host_id));
	memset(b, 0, sizeof(*b));
	memset(ret, 0, sizeof(*ret));
	b->want = *want;
	b->begun_ns = now_ns;
	read_all(b, &s, STAGE_READ);
}

const char *hf_ballot_op_name(enum hf_ballot_op op)
{
	static const char *const names[HF_BALLOT_OP_COUNT] = { "acquire", "claim", "transfer",
							       "release", "prepare" };

	return op < HF_BALLOT_OP_COUNT ? names[op] : "?";
}

const char *hf_ballot_result_text(enum hf_ballot_result result)
{
	static const char *const texts[HF_BALLOT_RESULT_COUNT] = {
		"this host owns it",
		"the other host owns it",
		"released",
		"prepared",
		"owned by a host that is not known to be dead",
		"another host was chosen",
		"this host does not own it at that version",
		"it has moved on to another version",
		"cancelled",
		"damaged",
		"it has no room for this host id",
	};

	return result < HF_BALLOT_RESULT_COUNT ? texts[result] : "?";
}

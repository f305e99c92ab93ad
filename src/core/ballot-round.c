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
#include "core/ballot-round.h"

#include <assert.h>
#include <string.h>

#define MS_NS 1000000u

/* A write that is decided on a read older than this waits for another read ... */
#define READ_OLD_NS 1000000000u
/* ... but on storage that is as slow as that it has to come to an end. */
#define REREADS_MAX 3u

#define BACKOFF_LEAST_MS 10u
#define BACKOFF_DOUBLINGS_MAX 6u
/* Blocks ahead of the leader with nothing accepted: so many looks until OWNED. */
#define AHEAD_LOOKS_MIN 10u

/* ---- actions ---- */

void hf_round_act(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage,
		  enum hf_ballot_action_kind kind)
{
	b->stage = stage;
	s->ret->kind = kind;
}

void hf_round_finish(struct hf_ballot *b, const struct hf_round *s, enum hf_ballot_result result)
{
	hf_round_act(b, s, HF_ROUND_REST, HF_BALLOT_DONE);
	s->ret->result = result;
	s->ret->lver = b->leader.lver;
	s->ret->owner = b->leader.owner;
	s->ret->generation = b->leader.generation;
}

void hf_round_finish_damaged(struct hf_ballot *b, const struct hf_round *s, uint64_t host)
{
	hf_round_finish(b, s, HF_BALLOT_DAMAGED);
	s->ret->bad_host = host;
}

void hf_round_pause(struct hf_ballot *b, const struct hf_round *s, uint64_t ms)
{
	hf_round_act(b, s, HF_ROUND_PAUSE, HF_BALLOT_DO_WAIT);
	s->ret->at_ns = s->ev->now_ns + ms * MS_NS;
}

/* Two hosts that are in each other's way, or a disk that fails: longer each time, and at random. */
void hf_round_back_off(struct hf_ballot *b, const struct hf_round *s)
{
	unsigned int n = b->attempts < BACKOFF_DOUBLINGS_MAX ? b->attempts : BACKOFF_DOUBLINGS_MAX;
	uint64_t ms = (uint64_t)BACKOFF_LEAST_MS << n;

	b->attempts++;
	hf_round_pause(b, s, ms / 2 + s->ev->random % ms);
}

void hf_round_read(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage)
{
	hf_round_act(b, s, stage, HF_BALLOT_DO_READ);
}

void hf_round_write_own(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage,
			const struct hf_lease_block *block)
{
	b->own = *block;
	b->is_own_known = true;
	hf_round_act(b, s, stage, HF_BALLOT_DO_WRITE_BLOCK);
	s->ret->block = *block;
}

void hf_round_write_leader(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage,
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
	hf_round_act(b, s, stage, HF_BALLOT_DO_WRITE_LEADER);
	s->ret->leader = *l;
}

/* ---- what was read ---- */

bool hf_round_is_wanted(const struct hf_ballot *b, uint64_t owner, uint64_t generation)
{
	const struct hf_ballot_want *w = &b->want;

	if (w->op == HF_BALLOT_TRANSFER)
		return owner == w->to && generation == w->to_generation;
	return owner == w->host_id && generation == w->generation;
}

/* Ours, in this generation or in one before: then nothing of it runs any more. */
bool hf_round_is_own_tenure(const struct hf_ballot *b)
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

const struct hf_lease_block *hf_round_block(const struct hf_ballot *b, const struct hf_round *s,
					    uint64_t host)
{
	return host == b->want.host_id ? &s->own : &s->ev->blocks[host - 1];
}

/* Of all blocks at @lver the one with the highest ballot accepted, NULL: none has accepted any. */
const struct hf_lease_block *hf_round_accepted_at(const struct hf_ballot *b,
						  const struct hf_round *s, uint64_t lver)
{
	const struct hf_lease_block *best = NULL;

	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = hf_round_block(b, s, host);

		if (k->lver == lver && k->bal && (!best || k->bal > best->bal))
			best = k;
	}
	return best;
}

uint64_t hf_round_highest_lver(const struct hf_ballot *b, const struct hf_round *s)
{
	uint64_t lver = 0;

	for (uint64_t host = 1; host <= b->leader.num_hosts; host++)
		if (hf_round_block(b, s, host)->lver > lver)
			lver = hf_round_block(b, s, host)->lver;
	return lver;
}

/* 0 with @ret_host: that one's number leaves no room for a higher one. */
static uint64_t next_mbal(const struct hf_ballot *b, const struct hf_round *s, uint64_t *ret_host)
{
	uint64_t mbal = 0, stride = b->want.max_hosts;

	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		if (hf_round_block(b, s, host)->mbal <= mbal)
			continue;
		mbal = hf_round_block(b, s, host)->mbal;
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

bool hf_round_is_damaged(const struct hf_ballot *b, const struct hf_ballot_event *ev,
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

static void take(struct hf_ballot *b, const struct hf_lease_block *k, uint64_t lver)
{
	struct hf_lease_leader *l = &b->leader;

	l->owner = l->write_id = k->owner;
	l->generation = l->write_generation = k->generation;
	l->timestamp_s = k->timestamp_s;
	l->lver = lver;
}

static bool names_owner(const struct hf_ballot *b, const struct hf_lease_block *k)
{
	return k->owner && k->owner <= b->want.max_hosts;
}

/* A number alone at @lver that notes the leader before, or NULL. */
static const struct hf_lease_block *note_at(const struct hf_ballot *b, const struct hf_round *s,
					    uint64_t lver)
{
	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = hf_round_block(b, s, host);

		if (k->lver == lver && !k->bal && names_owner(b, k))
			return k;
	}
	return NULL;
}

static bool is_known_decided(const struct hf_ballot *b, uint64_t lver)
{
	return b->want.op != HF_BALLOT_ACQUIRE && lver == b->want.lver;
}

/*
 * The leader as it stands there, or a newer one that blocks tell of: two lvers or more ahead of it they
 * have noted what the leader had been; and of an lver that the caller knows to be decided, with
 * nobody beyond it, the value accepted last is the one that was chosen.
 */
void hf_round_take_leader(struct hf_ballot *b, struct hf_round *s)
{
	struct hf_lease_leader *l = &b->leader;
	const struct hf_lease_block *k;
	uint64_t ahead;

	*l = *s->ev->leader;
	if (b->want.host_id > l->num_hosts)
		return;
	s->own = newest_own(b, s->ev);
	ahead = hf_round_highest_lver(b, s);
	k = note_at(b, s, ahead);
	if (k && ahead > l->lver + 1)
		take(b, k, ahead - 1);
	k = hf_round_accepted_at(b, s, ahead);
	if (k && ahead > l->lver && is_known_decided(b, ahead) && names_owner(b, k)) {
		take(b, k, ahead);
		if (!l->timestamp_s) /* that would be free */
			l->timestamp_s = s->ev->now_s;
	}
}

/* ---- a ballot ---- */

/* Blocks are ahead of the leader and have accepted nothing: their ballot is being held, by hosts that
 * have seen a newer leader than stands there. */
static void wait_for_those_ahead(struct hf_ballot *b, const struct hf_round *s)
{
	uint64_t waited_ns = s->ev->now_ns - b->begun_ns;

	if (b->want.op == HF_BALLOT_ACQUIRE && !b->is_bound && b->attempts >= AHEAD_LOOKS_MIN &&
	    waited_ns >= (uint64_t)b->want.patience_ms * MS_NS)
		hf_round_finish(b, s, HF_BALLOT_OWNED);
	else
		hf_round_back_off(b, s);
}

/* To another lver: what was accepted does not count there. */
void hf_round_move(struct hf_lease_block *own, uint64_t lver)
{
	if (own->lver == lver)
		return;
	own->lver = lver;
	own->bal = 0;
	own->owner = 0;
	own->generation = 0;
	own->timestamp_s = 0;
}

/*
 * A block that has accepted nothing has room for what the leader says of the lver before. This block
 * may have been the last one to show whose that was, and the leader may be overwritten by an older
 * one: see hf_round_take_leader().
 */
static void note_last(const struct hf_ballot *b, struct hf_lease_block *own)
{
	if (own->bal || b->leader.lver != own->lver - 1)
		return;
	own->owner = b->leader.owner;
	own->generation = b->leader.generation;
	own->timestamp_s = b->leader.timestamp_s;
}

void hf_round_hold(struct hf_ballot *b, const struct hf_round *s, uint64_t lver)
{
	uint64_t ahead = hf_round_highest_lver(b, s), host = 0, mbal;
	struct hf_lease_block own = s->own;

	b->is_healing = ahead > lver;
	if (b->is_healing && !hf_round_accepted_at(b, s, ahead)) {
		wait_for_those_ahead(b, s);
		return;
	}
	if (b->is_healing)
		lver = ahead;
	mbal = next_mbal(b, s, &host);
	if (!mbal) {
		hf_round_finish_damaged(b, s, host);
		return;
	}
	if (lver != b->next_lver)
		b->is_fresh = false;
	b->next_lver = lver;
	hf_round_move(&own, lver);
	note_last(b, &own);
	own.mbal = mbal;
	own.is_released = false;
	own.is_damaged = false;
	hf_round_write_own(b, s, HF_ROUND_PROMISE, &own);
}

static bool is_own_as_written(const struct hf_ballot *b, const struct hf_round *s)
{
	const struct hf_lease_block *k = &s->ev->blocks[b->want.host_id - 1];

	return !k->is_damaged && k->lver == b->own.lver && k->mbal == b->own.mbal &&
	       k->bal == b->own.bal && k->owner == b->own.owner &&
	       k->generation == b->own.generation && k->is_released == b->own.is_released;
}

static bool is_outbid(const struct hf_ballot *b, const struct hf_round *s)
{
	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = hf_round_block(b, s, host);

		if (k->lver == b->next_lver && k->mbal > b->own.mbal)
			return true;
	}
	return false;
}

enum view { VIEW_CLEAR, VIEW_DECIDE, VIEW_RIVAL };

static enum view view(const struct hf_ballot *b, const struct hf_round *s)
{
	if (b->leader.lver >= b->next_lver || hf_round_highest_lver(b, s) > b->next_lver)
		return VIEW_DECIDE;
	return is_own_as_written(b, s) && !is_outbid(b, s) ? VIEW_CLEAR : VIEW_RIVAL;
}

static void set_own_value(struct hf_ballot *b, const struct hf_round *s, struct hf_lease_block *own)
{
	bool is_transfer = b->want.op == HF_BALLOT_TRANSFER;

	own->owner = is_transfer ? b->want.to : b->want.host_id;
	own->generation = is_transfer ? b->want.to_generation : b->want.generation;
	own->timestamp_s = s->ev->now_s;
	b->is_fresh = true;
}

bool hf_round_promised(struct hf_ballot *b, const struct hf_round *s)
{
	struct hf_lease_block own = b->own;
	const struct hf_lease_block *value;
	enum view v = view(b, s);

	if (v == VIEW_DECIDE)
		return false;
	value = hf_round_accepted_at(b, s, b->next_lver);
	if (v == VIEW_RIVAL || (!value && b->is_healing)) {
		hf_round_back_off(b, s);
		return true;
	}
	if (value) {
		own.owner = value->owner;
		own.generation = value->generation;
		own.timestamp_s = value->timestamp_s;
	} else {
		set_own_value(b, s, &own);
	}
	own.bal = own.mbal;
	if (hf_round_is_wanted(b, own.owner, own.generation))
		b->is_bound = true;
	b->rereads = 0;
	hf_round_write_own(b, s, HF_ROUND_ACCEPT, &own);
	return true;
}

/* Was the read so long ago that this host may have slept in between? */
bool hf_round_is_read_old(struct hf_ballot *b, const struct hf_round *s)
{
	return s->ev->now_ns - s->ev->issued_ns > READ_OLD_NS && b->rereads++ < REREADS_MAX;
}

bool hf_round_accepted(struct hf_ballot *b, const struct hf_round *s)
{
	uint64_t timestamp_s = b->own.timestamp_s ? b->own.timestamp_s : s->ev->now_s;
	enum view v = view(b, s);

	if (v == VIEW_DECIDE)
		return false;
	if (v == VIEW_RIVAL)
		hf_round_back_off(b, s);
	else if (hf_round_is_read_old(b, s))
		hf_round_read(b, s, HF_ROUND_ACCEPTED);
	else
		hf_round_write_leader(b, s, HF_ROUND_COMMIT, &b->own, b->next_lver, timestamp_s);
	return true;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. docs/lease.md has the diagram and the proof.
 *
 * Here is what an operation does with what it reads; ballot-round.c holds the ballots.
 */
#include "core/ballot-round.h"

#include <assert.h>
#include <string.h>

#define MS_NS 1000000u

#define DAMAGED_READS_MAX 5u
#define DAMAGED_PAUSE_MS 200u
#define PATIENT_PAUSE_MS 250u
/* An owner that has marked its block is about to free the leader. */
#define MARK_GRACE_NS 2000000000u

static void mark_given(struct hf_ballot *b, const struct hf_round *s,
		       const struct hf_lease_block *own)
{
	struct hf_lease_block marked = *own;

	marked.is_released = true;
	hf_round_write_own(b, s, HF_ROUND_MARK, &marked);
}

static void on_committed(struct hf_ballot *b, const struct hf_round *s)
{
	bool is_ours = hf_round_is_wanted(b, b->leader.owner, b->leader.generation) &&
		       !b->is_healing;

	if (is_ours && b->want.op == HF_BALLOT_TRANSFER)
		mark_given(b, s, &b->own);
	else if (is_ours && b->is_fresh)
		hf_round_finish(b, s, HF_BALLOT_WON);
	else
		hf_round_read(b, s, HF_ROUND_READ);
}

/* ---- what is to be done, from what stands there ---- */

/*
 * The leader has come to the lver of our ballot, or beyond. If it names us, but by a proposal that
 * was there before this operation began, it may have been decided in an earlier tenure, and another
 * host may have found us dead since: one more ballot, as the owner of that lver.
 */
static void settle(struct hf_ballot *b, const struct hf_round *s)
{
	bool is_ours = hf_round_is_wanted(b, b->leader.owner, b->leader.generation) &&
		       b->leader.timestamp_s;
	bool is_next = b->leader.lver == b->next_lver;

	if (b->want.op == HF_BALLOT_TRANSFER) {
		if (is_ours && is_next)
			mark_given(b, s, &s->own);
		else
			hf_round_finish(b, s, HF_BALLOT_LOST);
	} else if (is_ours && is_next && b->is_fresh) {
		hf_round_finish(b, s, HF_BALLOT_WON);
	} else if (is_ours) {
		hf_round_hold(b, s, b->leader.lver + 1);
	} else {
		hf_round_finish(b, s, HF_BALLOT_LOST);
	}
}

static void ask_life(struct hf_ballot *b, const struct hf_round *s, uint64_t host,
		     uint64_t generation, bool is_shared)
{
	b->looked_at = host;
	b->is_look_shared = is_shared;
	hf_round_act(b, s, HF_ROUND_LIFE, HF_BALLOT_DO_LOOK);
	s->ret->owner = host;
	s->ret->generation = generation;
	s->ret->since_ns = s->ev->now_ns;
}

/*
 * sanlock: whoever holds a lease in shared mode has freed the leader again; its mode stands in its
 * block. True: somebody may, and @s has the action.
 */
static bool is_held_shared(struct hf_ballot *b, const struct hf_round *s)
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
static enum mark owners_mark(struct hf_ballot *b, const struct hf_round *s)
{
	const struct hf_lease_leader *l = &b->leader;
	const struct hf_lease_block *k;

	if (l->owner > l->num_hosts)
		return MARK_NONE;
	k = hf_round_block(b, s, l->owner);
	if (!k->is_released || k->lver < l->lver)
		return MARK_NONE;
	if (l->write_id != l->owner || (k->lver > l->lver && k->bal))
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

static void decide_acquire(struct hf_ballot *b, const struct hf_round *s)
{
	const struct hf_lease_leader *l = &b->leader;
	bool is_evident = b->is_owner_gone && b->evidence_lver == l->lver;
	enum mark mark;

	if (b->next_lver && !b->is_healing && l->lver >= b->next_lver &&
	    !hf_round_is_own_tenure(b) && is_patience_over(b, s->ev->now_ns)) {
		hf_round_finish(b, s, HF_BALLOT_LOST);
		return;
	}
	if (b->want.lver && b->want.lver != l->lver) {
		hf_round_finish(b, s, HF_BALLOT_MOVED_ON);
		return;
	}
	if (is_held_shared(b, s))
		return;
	/* With blocks beyond it the leader is an old one, and nothing of ours is proposed. */
	if (!l->timestamp_s || hf_round_is_own_tenure(b) || is_evident ||
	    hf_round_highest_lver(b, s) > l->lver + 1) {
		hf_round_hold(b, s, l->lver + 1);
		return;
	}
	mark = owners_mark(b, s);
	if (mark == MARK_OLD)
		hf_round_hold(b, s, l->lver + 1);
	else if (mark == MARK_NEW)
		hf_round_pause(b, s, MARK_GRACE_NS / MS_NS);
	else
		ask_life(b, s, l->owner, l->generation, false);
}

/* A leader older than an lver that somebody owned is an old one; but that lver shows in a block. */
static void decide_claim(struct hf_ballot *b, const struct hf_round *s)
{
	const struct hf_lease_leader *l = &b->leader;
	uint64_t lver = b->want.lver;

	if (l->lver == lver || (l->lver < lver && hf_round_highest_lver(b, s) >= lver))
		hf_round_hold(b, s, lver + 1);
	else if (l->lver > lver && l->timestamp_s && hf_round_is_wanted(b, l->owner, l->generation))
		hf_round_hold(b, s, l->lver + 1);
	else
		hf_round_finish(b, s, HF_BALLOT_LOST);
}

static void decide_transfer(struct hf_ballot *b, const struct hf_round *s)
{
	const struct hf_lease_leader *l = &b->leader;
	uint64_t lver = b->want.lver;

	if ((l->lver == lver && hf_round_is_own_tenure(b) && l->timestamp_s) ||
	    (l->lver < lver && hf_round_highest_lver(b, s) >= lver))
		hf_round_hold(b, s, lver + 1);
	else if (l->lver == lver + 1 && l->timestamp_s &&
		 hf_round_is_wanted(b, l->owner, l->generation))
		mark_given(b, s, &s->own);
	else
		hf_round_finish(b, s, b->next_lver ? HF_BALLOT_LOST : HF_BALLOT_NOT_OWNER);
}

static void decide_release(struct hf_ballot *b, const struct hf_round *s)
{
	const struct hf_lease_leader *l = &b->leader;
	struct hf_lease_block own = s->own;
	uint64_t lver = b->want.lver;

	if (l->lver > lver) {
		hf_round_finish(
			b, s, hf_round_is_own_tenure(b) ? HF_BALLOT_NOT_OWNER : HF_BALLOT_RELEASED);
		return;
	}
	if ((l->lver == lver && !hf_round_is_own_tenure(b)) ||
	    (l->lver < lver && hf_round_highest_lver(b, s) < lver)) {
		hf_round_finish(b, s, HF_BALLOT_NOT_OWNER);
		return;
	}
	if (l->lver == lver && !l->timestamp_s) {
		hf_round_finish(b, s, HF_BALLOT_RELEASED);
		return;
	}
	/* A mark counts at the lver it stands at: who was given the lease has it lower. */
	if (own.lver < lver)
		hf_round_move(&own, lver);
	own.is_released = true;
	own.is_damaged = false;
	b->is_bound = true;
	b->rereads = 0;
	hf_round_write_own(b, s, HF_ROUND_LET_GO, &own);
}

/* Somebody else's proposal for the next lver may be chosen, with its leader on the way: ours over it
 * would put the clock back. The mark tells that we are gone. */
static bool is_being_taken(const struct hf_ballot *b, const struct hf_round *s)
{
	for (uint64_t host = 1; host <= b->leader.num_hosts; host++) {
		const struct hf_lease_block *k = &s->ev->blocks[host - 1];

		if (host != b->want.host_id && k->lver > b->want.lver && k->bal)
			return true;
	}
	return false;
}

/*
 * Once the mark stands there, is there anything left to do? Not if another host has written the leader
 * for us: the mark alone frees it then, for sanlock at once, and who took it by that must not find our
 * free leader over his own.
 */
static bool is_let_go(const struct hf_ballot *b, const struct hf_round *s)
{
	const struct hf_lease_leader *l = &b->leader;

	if (l->lver > b->want.lver || is_being_taken(b, s))
		return true;
	return l->lver == b->want.lver &&
	       (!l->timestamp_s || !hf_round_is_own_tenure(b) || l->write_id != b->want.host_id);
}

static void on_let_go(struct hf_ballot *b, const struct hf_round *s)
{
	bool is_old = b->leader.lver < b->want.lver;
	const struct hf_lease_block value = {
		.owner = b->want.host_id,
		.generation = is_old ? b->want.generation : b->leader.generation,
	};

	if (is_let_go(b, s))
		hf_round_finish(b, s, HF_BALLOT_RELEASED);
	else if (hf_round_is_read_old(b, s))
		hf_round_read(b, s, HF_ROUND_LET_GO_READ);
	else
		hf_round_write_leader(b, s, HF_ROUND_FREE, &value, b->want.lver, 0);
}

static void decide_prepare(struct hf_ballot *b, const struct hf_round *s)
{
	struct hf_lease_block own = s->own;

	if (!s->ev->blocks[b->want.host_id - 1].is_released) {
		hf_round_finish(b, s, HF_BALLOT_PREPARED);
		return;
	}
	own.is_released = false;
	hf_round_write_own(b, s, HF_ROUND_CLEAN, &own);
}

static void decide(struct hf_ballot *b, const struct hf_round *s)
{
	bool is_ballot = b->want.op != HF_BALLOT_RELEASE && b->want.op != HF_BALLOT_PREPARE;

	if (is_ballot && b->is_bound && b->leader.lver >= b->next_lver) {
		settle(b, s);
		return;
	}
	if (is_ballot && b->is_bound) {
		hf_round_hold(b, s, b->next_lver);
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

static void on_read(struct hf_ballot *b, struct hf_round *s)
{
	uint64_t bad_host = 0;
	bool is_done = true;

	b->read_issued_ns = s->ev->issued_ns;
	if (hf_round_is_damaged(b, s->ev, &bad_host)) {
		if (++b->damaged >= DAMAGED_READS_MAX && !b->is_bound)
			hf_round_finish_damaged(b, s, bad_host);
		else
			hf_round_pause(b, s, DAMAGED_PAUSE_MS);
		return;
	}
	b->damaged = 0;
	hf_round_take_leader(b, s);
	if (is_slot_missing(b)) {
		hf_round_finish(b, s, HF_BALLOT_NO_SLOT);
		return;
	}
	if (b->stage == HF_ROUND_LET_GO_READ)
		on_let_go(b, s);
	else if (b->stage == HF_ROUND_PROMISED)
		is_done = hf_round_promised(b, s);
	else if (b->stage == HF_ROUND_ACCEPTED)
		is_done = hf_round_accepted(b, s);
	else
		is_done = false;
	if (!is_done)
		decide(b, s);
}

static void on_written(struct hf_ballot *b, const struct hf_round *s)
{
	switch (b->stage) {
	case HF_ROUND_PROMISE:
		hf_round_read(b, s, HF_ROUND_PROMISED);
		return;
	case HF_ROUND_ACCEPT:
		hf_round_read(b, s, HF_ROUND_ACCEPTED);
		return;
	case HF_ROUND_COMMIT:
		on_committed(b, s);
		return;
	case HF_ROUND_MARK:
		hf_round_finish(b, s, HF_BALLOT_GIVEN);
		return;
	case HF_ROUND_LET_GO:
		hf_round_read(b, s, HF_ROUND_LET_GO_READ);
		return;
	case HF_ROUND_FREE:
		hf_round_finish(b, s, HF_BALLOT_RELEASED);
		return;
	default:
		assert(b->stage == HF_ROUND_CLEAN);
		hf_round_finish(b, s, HF_BALLOT_PREPARED);
	}
}

static bool is_block_write(const struct hf_ballot *b)
{
	return b->stage == HF_ROUND_PROMISE || b->stage == HF_ROUND_ACCEPT ||
	       b->stage == HF_ROUND_MARK || b->stage == HF_ROUND_LET_GO ||
	       b->stage == HF_ROUND_CLEAN;
}

static void on_failed(struct hf_ballot *b, const struct hf_round *s)
{
	bool is_settling = is_block_write(b) && !s->ev->is_settled;

	/* Given it is; the mark only helps those who find an old leader. */
	b->is_given = b->stage == HF_ROUND_MARK;
	if (is_settling)
		hf_round_pause(b, s, HF_BALLOT_SETTLE_MS);
	else if (b->is_given)
		hf_round_finish(b, s, HF_BALLOT_GIVEN);
	else if (b->is_cancelled && !b->is_bound)
		hf_round_finish(b, s, HF_BALLOT_CANCELLED);
	else
		hf_round_back_off(b, s);
	b->is_settling = is_settling;
}

static void on_wake(struct hf_ballot *b, const struct hf_round *s)
{
	b->is_settling = false;
	if (b->is_given)
		hf_round_finish(b, s, HF_BALLOT_GIVEN);
	else if (b->is_cancelled && !b->is_bound)
		hf_round_finish(b, s, HF_BALLOT_CANCELLED);
	else
		hf_round_read(b, s, HF_ROUND_READ);
}

static void on_life(struct hf_ballot *b, const struct hf_round *s)
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
		hf_round_read(b, s, HF_ROUND_READ);
		return;
	}
	if (is_patience_over(b, s->ev->now_ns)) {
		hf_round_finish(b, s, HF_BALLOT_OWNED);
		s->ret->owner = b->looked_at;
		return;
	}
	hf_round_pause(b, s, PATIENT_PAUSE_MS);
}

static void on_cancel(struct hf_ballot *b, const struct hf_round *s)
{
	s->ret->kind = HF_BALLOT_NOTHING;
	if (b->is_bound)
		return;
	b->is_cancelled = true;
	if (b->stage == HF_ROUND_LIFE || (b->stage == HF_ROUND_PAUSE && !b->is_settling))
		hf_round_finish(b, s, HF_BALLOT_CANCELLED);
}

static bool is_end_of_io(const struct hf_ballot *b, enum hf_ballot_event_kind kind)
{
	bool is_reading = b->stage == HF_ROUND_READ || b->stage == HF_ROUND_PROMISED ||
			  b->stage == HF_ROUND_ACCEPTED || b->stage == HF_ROUND_LET_GO_READ;
	bool is_waiting = b->stage == HF_ROUND_LIFE || b->stage == HF_ROUND_PAUSE;

	if (kind == HF_BALLOT_READ)
		return is_reading;
	if (kind == HF_BALLOT_WRITTEN)
		return !is_reading && !is_waiting;
	return kind == HF_BALLOT_IO_FAILED && !is_waiting;
}

void hf_ballot_step(struct hf_ballot *b, const struct hf_ballot_event *ev,
		    struct hf_ballot_action *ret)
{
	struct hf_round s = { .ev = ev, .ret = ret };

	assert(b->stage != HF_ROUND_REST);
	assert(ev->kind < HF_BALLOT_EVENT_COUNT);
	memset(ret, 0, sizeof(*ret));
	if (ev->kind == HF_BALLOT_CANCEL) {
		on_cancel(b, &s);
		return;
	}
	if (ev->kind == HF_BALLOT_OWNER_LIFE) {
		assert(b->stage == HF_ROUND_LIFE);
		on_life(b, &s);
		return;
	}
	if (ev->kind == HF_BALLOT_WAKE) {
		assert(b->stage == HF_ROUND_PAUSE);
		on_wake(b, &s);
		return;
	}
	assert(is_end_of_io(b, ev->kind));
	if (b->is_cancelled && !b->is_bound && ev->kind != HF_BALLOT_IO_FAILED) {
		hf_round_finish(b, &s, HF_BALLOT_CANCELLED);
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
	const struct hf_round s = { .ret = ret };

	assert(want->op < HF_BALLOT_OP_COUNT);
	assert(want->max_hosts <= HF_LEASE_HOSTS_MAX);
	assert(want->host_id && want->host_id <= want->max_hosts);
	assert(want->generation);
	assert(want->op != HF_BALLOT_TRANSFER || (want->to && want->to != want->host_id));
	memset(b, 0, sizeof(*b));
	memset(ret, 0, sizeof(*ret));
	b->want = *want;
	b->begun_ns = now_ns;
	hf_round_read(b, &s, HF_ROUND_READ);
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

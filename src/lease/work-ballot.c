/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/ballot.h's actions, carried out one by one. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lease/work-internal.h"

static void perform(struct hf_work *w);

static uint32_t next_random(struct hf_workshop *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return (uint32_t)(s->random >> 32);
}

static void stamp(struct hf_work *w, struct hf_ballot_event *ev)
{
	ev->now_ns = hf_work_now_ns();
	ev->now_s = ev->now_ns / 1000000000u + 1; /* never 0 */
	ev->random = next_random(w->shop);
}

static void feed(struct hf_work *w, struct hf_ballot_event *ev)
{
	stamp(w, ev);
	hf_ballot_step(&w->ballot, ev, &w->action);
	assert(w->action.kind != HF_BALLOT_NOTHING);
	perform(w);
}

/* The machine makes the pauses. */
static void failed(struct hf_work *w)
{
	struct hf_ballot_event ev = { .kind = HF_BALLOT_IO_FAILED };

	ev.is_settled = w->io.r != HF_STORE_UNSETTLED;
	feed(w, &ev);
}

static void step_wake(struct hf_work *w)
{
	struct hf_ballot_event ev = { .kind = HF_BALLOT_WAKE };

	feed(w, &ev);
}

/* ---- reading ---- */

static void after_read(struct hf_work *w)
{
	struct hf_ballot_event ev = { .kind = HF_BALLOT_READ,
				      .leader = &w->leader,
				      .blocks = w->blocks };

	if (hf_work_note_io(w) != 0) {
		failed(w);
		return;
	}
	ev.is_leader_damaged = w->is_leader_damaged;
	ev.issued_ns = w->io.issued_ns;
	if (!w->is_leader_damaged) {
		if (w->leader.num_hosts > w->n_blocks) {
			w->n_wanted = w->leader.num_hosts;
			hf_work_io(w, hf_work_run_read, after_read);
			return;
		}
		ev.n_blocks = w->leader.num_hosts;
		w->shop->hosts_hint = w->leader.num_hosts;
	}
	feed(w, &ev);
}

/* How many blocks there are is known when the leader has been read; most leases of an area have
 * as many as the last one. */
static void read_lease(struct hf_work *w)
{
	w->n_wanted = w->shop->hosts_hint;
	hf_work_io(w, hf_work_run_read, after_read);
}

/* ---- writing ---- */

static void after_write(struct hf_work *w)
{
	struct hf_ballot_event ev = { .kind = HF_BALLOT_WRITTEN };
	int r = hf_work_note_io(w);

	if (r == -ESHUTDOWN) { /* guarded, and not written */
		hf_work_end(w, r, &w->trouble);
		return;
	}
	w->has_bound = w->has_bound || w->ballot.is_bound;
	if (r == 0)
		feed(w, &ev);
	else
		failed(w);
}

/* The step from which on there is no way back is not taken under a host lease that has run out. */
static bool is_first_commitment(const struct hf_work *w)
{
	switch (w->ballot.want.op) {
	case HF_BALLOT_ACQUIRE:
	case HF_BALLOT_CLAIM:
	case HF_BALLOT_TRANSFER:
		return w->ballot.is_bound && !w->has_bound;
	case HF_BALLOT_PREPARE:
		return true;
	case HF_BALLOT_RELEASE:
	case HF_BALLOT_OP_COUNT:
		break;
	}
	return false;
}

static void write_block(struct hf_work *w)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;

	w->io.is_guarded = is_first_commitment(w);
	if (w->io.is_guarded && !hf_work_enter_tenure(w)) {
		hf_err_set(&w->trouble, "the host lease is not valid any more");
		hf_work_end(w, -ESHUTDOWN, &w->trouble);
		return;
	}
	w->io.offset = w->lease.offset + hf_lease_block_at(g, w->ballot.want.host_id);
	memcpy(w->io.sector, w->own_sector, g->sector_bytes);
	hf_lease_block_encode(w->io.sector, &w->action.block);
	hf_work_io(w, hf_work_run_write, after_write);
}

static void write_leader(struct hf_work *w)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;

	w->io.offset = w->lease.offset;
	memset(w->io.sector, 0, g->sector_bytes);
	hf_lease_leader_encode(w->io.sector, g, &w->action.leader, w->shop->space, w->lease.name);
	w->io.may_be_late = true;
	hf_work_io(w, hf_work_run_write, after_write);
}

/* ---- looking whether a host lives ---- */

static void answer(struct hf_work *w, enum hf_lease_life life)
{
	struct hf_ballot_event ev = { .kind = HF_BALLOT_OWNER_LIFE, .life = life };

	w->life = life;
	feed(w, &ev);
}

static enum hf_lease_life life_by(const struct hf_work *w, const struct hf_lease_sight *sight)
{
	return hf_lease_life(sight, w->look_owner, w->look_generation, w->look_since_ns);
}

static void step_look(struct hf_work *w);

/* What the renewals have seen over time, and the slot as it stands there now. */
static void after_slot(struct hf_work *w)
{
	struct hf_lease_sight sight = *hf_member_sight(w->shop->member, w->look_owner);

	if (hf_work_note_io(w) != 0) {
		hf_work_wait(w, hf_work_retry_ns(w), step_look);
		return;
	}
	if (w->is_slot_read)
		hf_lease_sight_update(&sight, &w->slot, w->io.issued_ns, w->io.done_ns);
	answer(w, life_by(w, &sight));
}

static void step_look(struct hf_work *w)
{
	enum hf_lease_life life = life_by(w, hf_member_sight(w->shop->member, w->look_owner));

	if (life != HF_LEASE_LIFE_UNKNOWN)
		answer(w, life);
	else
		hf_work_io(w, hf_work_run_read_slot, after_slot);
}

static void look(struct hf_work *w)
{
	assert(w->action.owner >= 1 && w->action.owner <= w->shop->geometry.max_hosts);
	w->look_owner = w->action.owner;
	w->look_generation = w->action.generation;
	w->look_since_ns = w->action.since_ns;
	step_look(w);
}

void hf_work_ballot_notice(struct hf_work *w)
{
	const struct hf_lease_sight *sight;

	if (!w->is_balloting || w->then != step_look)
		return;
	sight = hf_member_sight(w->shop->member, w->look_owner);
	if (life_by(w, sight) == HF_LEASE_LIFE_UNKNOWN)
		return;
	w->then = NULL;
	w->wake_ns = UINT64_MAX;
	step_look(w);
}

/* ---- beginning and end ---- */

static void finish(struct hf_work *w)
{
	hf_work_step *then = w->ballot_then;

	w->is_balloting = false;
	w->then = NULL;
	w->wake_ns = UINT64_MAX;
	then(w);
}

static void perform(struct hf_work *w)
{
	switch (w->action.kind) {
	case HF_BALLOT_DO_READ:
		read_lease(w);
		break;
	case HF_BALLOT_DO_WRITE_BLOCK:
		write_block(w);
		break;
	case HF_BALLOT_DO_WRITE_LEADER:
		write_leader(w);
		break;
	case HF_BALLOT_DO_LOOK:
		look(w);
		break;
	case HF_BALLOT_DO_WAIT:
		hf_work_wait(w, w->action.at_ns, step_wake);
		break;
	case HF_BALLOT_DONE:
		finish(w);
		break;
	case HF_BALLOT_NOTHING:
		break;
	}
}

static void start_machine(struct hf_work *w)
{
	if (w->shop->quiet_ns > hf_work_now_ns()) {
		hf_work_wait(w, w->shop->quiet_ns, start_machine);
		return;
	}
	/* What was begun under a valid one is let go of in any case. */
	if (!hf_work_enter_tenure(w) &&
	    (w->ballot_want.op != HF_BALLOT_RELEASE || w->generation == 0)) {
		hf_work_end(w, -ESHUTDOWN, NULL);
		return;
	}
	w->ballot_want.host_id = w->asked.host_id;
	w->ballot_want.generation = w->generation;
	w->ballot_want.max_hosts = w->shop->geometry.max_hosts;
	w->is_balloting = true;
	w->has_bound = false;
	hf_ballot_begin(&w->ballot, &w->ballot_want, hf_work_now_ns(), &w->action);
	perform(w);
}

void hf_work_ballot(struct hf_work *w, const struct hf_ballot_want *want, hf_work_step *then)
{
	if (!w->blocks)
		w->blocks = calloc(w->shop->geometry.max_hosts, sizeof(*w->blocks));
	if (!w->blocks) {
		hf_work_end(w, -ENOMEM, NULL);
		return;
	}
	w->ballot_want = *want;
	w->ballot_then = then;
	start_machine(w);
}

/*
 * The machine waits for the end of an I/O before it gives up, which may take for ever. What is
 * under way as long as it is not bound is a read or a ballot number (or another host's value, that
 * others would find, too): its end is of no interest to who cancels, only to the next operation.
 */
void hf_work_ballot_cancel(struct hf_work *w)
{
	struct hf_ballot_event ev = { .kind = HF_BALLOT_CANCEL };
	struct hf_ballot_action action;

	stamp(w, &ev);
	hf_ballot_step(&w->ballot, &ev, &action);
	assert(action.kind == HF_BALLOT_NOTHING || action.kind == HF_BALLOT_DONE);
	if (action.kind == HF_BALLOT_NOTHING && w->ballot.is_bound)
		return;
	if (action.kind == HF_BALLOT_NOTHING)
		action = (struct hf_ballot_action){ .kind = HF_BALLOT_DONE,
						    .result = HF_BALLOT_CANCELLED,
						    .lver = w->ballot.leader.lver };
	w->action = action;
	finish(w);
}

/* ---- an operation that is a ballot ---- */

static void fill_in_owner(struct hf_work *w)
{
	struct hf_work_result *res = &w->result;

	res->lver = w->action.lver;
	if (w->action.result == HF_BALLOT_WON) {
		res->owner = w->ballot.want.host_id;
		res->generation = w->ballot.want.generation;
	} else if (w->action.result == HF_BALLOT_GIVEN) {
		res->owner = w->ballot.want.to;
		res->generation = w->ballot.want.to_generation;
	} else {
		res->owner = w->action.owner;
		res->generation = w->action.generation;
	}
	res->timestamp_s = w->ballot.leader.timestamp_s;
	res->tenure = w->tenure;
	res->life = w->life;
}

static void tell_damage(struct hf_work *w)
{
	struct hf_err err = w->io.err; /* of the leader */

	if (w->action.bad_host != 0)
		hf_err_set(&err,
			   "%s: lease \"%s\" at offset %llu: the block of host %llu is damaged",
			   w->shop->path, w->lease.name, (unsigned long long)w->lease.offset,
			   (unsigned long long)w->action.bad_host);
	hf_work_end(w, -EBADMSG, &err);
}

static void ballot_ended(struct hf_work *w)
{
	w->result.result = w->action.result;
	fill_in_owner(w);
	if (w->action.result == HF_BALLOT_DAMAGED)
		tell_damage(w);
	else if (w->action.result == HF_BALLOT_CANCELLED)
		hf_work_end(w, -ECANCELED, NULL);
	else
		hf_work_end(w, 0, NULL);
}

static void begin_now(struct hf_work *w)
{
	hf_work_ballot(w, &w->asked, ballot_ended);
}

void hf_work_begin_ballot(struct hf_work *w)
{
	hf_work_lookup(w, true, begin_now);
}

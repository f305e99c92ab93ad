/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bugs on purpose: the proof that the checkers can fail. Each one changes what goes into a machine,
 * what comes out of it, or what a driver does (then the file of that driver asks for it by name):
 * the machines that are tested are the ones that are shipped.
 */
#include "leasesim.h"

#include <string.h>

#define RULE(rule) (1u << LS_RULE_##rule)
#define SAFETY (RULE(ONE_OWNER) | RULE(ONE_VALUE) | RULE(TRUE) | RULE(NOT_ROBBED))

/* The rules of which one has to be reported, and what is wrong. */
const struct simkit_plant ls_plants[LS_PLANT_COUNT] = {
	[LS_PLANT_OLD_EVIDENCE] = { "old-evidence", SAFETY,
				    "an owner's death is believed from before the leader was "
				    "read" },
	[LS_PLANT_SEEN_AT_END] = { "seen-at-end", SAFETY, "what a read shows is dated by its end" },
	[LS_PLANT_FIRST_SEEN_AT_ISSUE] = { "first-seen-at-issue", SAFETY,
					   "what a read shows first is dated by its issue" },
	[LS_PLANT_MARGIN_IGNORED] = { "margin-ignored", SAFETY,
				      "clocks are taken to have the same rate" },
	[LS_PLANT_CLAIM_AT_END] = { "claim-at-end", SAFETY,
				    "a renewal counts from its write's end" },
	[LS_PLANT_OWN_VALUE] = { "own-value", SAFETY,
				 "a ballot proposes its own value whatever was accepted" },
	[LS_PLANT_NO_REREAD] = { "no-reread", SAFETY, "phase 2 does not read the blocks again" },
	[LS_PLANT_HIGHER_IGNORED] = { "higher-ignored", SAFETY,
				      "higher ballots of others are not heeded" },
	[LS_PLANT_MBAL_SHARED] = { "mbal-shared", SAFETY,
				   "two hosts may use the same ballot number" },
	[LS_PLANT_BAL_FORGOTTEN] = { "bal-forgotten", SAFETY,
				     "a higher mbal wipes what the block had accepted" },
	[LS_PLANT_RELEASED_KEPT] = { "released-kept", SAFETY,
				     "the mark of an old release stays in the block" },
	[LS_PLANT_TRANSFER_FREE] = { "transfer-free", RULE(NOT_FREE),
				     "a lease that is given is free for a moment" },
	[LS_PLANT_WRITE_ID_GIVER] = { "write-id-giver", SAFETY,
				      "a transfer's leader has the giver's id as write_id, and "
				      "the destination's block keeps its old mark" },
	[LS_PLANT_OLD_GENERATION] = { "old-generation", SAFETY,
				      "a lease is given to the generation before" },
	[LS_PLANT_AWAIT_NOTHING] = { "await-nothing", SAFETY,
				     "a destination runs before it has read itself" },
	[LS_PLANT_RELEASE_BLIND] = { "release-blind", SAFETY,
				     "a release frees the leader whoever it names" },
	[LS_PLANT_RELEASE_RUNNING] = { "release-running", SAFETY,
				       "the lease is released before the VM is dead" },
	[LS_PLANT_FAILURE_ASSUMED] = { "failure-assumed", SAFETY,
				       "what was not confirmed is taken not to have happened" },
	[LS_PLANT_SUCCESS_ASSUMED] = { "success-assumed", SAFETY,
				       "what was not confirmed is taken to have happened" },
	[LS_PLANT_CANCEL_BOUND] = { "cancel-bound", SAFETY,
				    "an operation is called off after phase 2 has begun" },
	[LS_PLANT_WRONG_LVER] = { "wrong-lver", SAFETY,
				  "a claim is held at the present lver, not the one agreed on" },
	[LS_PLANT_PRIMARY_ACTS] = { "primary-acts", SAFETY,
				    "a primary acts while its standby votes" },
	[LS_PLANT_JOIN_UNDER_VMS] = { "join-under-vms", RULE(GENERATION) | SAFETY,
				      "a new daemon takes a new generation under running VMs" },
	[LS_PLANT_RESUME_ANYWAY] = { "resume-anyway", RULE(GENERATION) | SAFETY,
				     "a slot is renewed that is another host's" },
	[LS_PLANT_JOIN_AT_ONCE] = { "join-at-once", RULE(GENERATION) | SAFETY,
				    "a join does not wait for who had the slot" },
	[LS_PLANT_REVIVED] = { "revived", SAFETY,
			       "an expired lease is valid again without a claim" },
	[LS_PLANT_TENURE_KEPT] = { "tenure-kept", SAFETY,
				   "a lease that was not valid for a while has the same tenure" },
	[LS_PLANT_TENURE_AT_END] = { "tenure-at-end", SAFETY,
				     "what an operation has won counts for a later tenure" },
	[LS_PLANT_WAKES_BLIND] = { "wakes-blind", SAFETY,
				   "a VM that stood still acts before it looks at the page" },
	[LS_PLANT_DAMAGE_IGNORED] = { "damage-ignored", RULE(DAMAGE) | SAFETY,
				      "a damaged leader is believed" },
	[LS_PLANT_NOT_SETTLED] = { "not-settled", SAFETY,
				   "after a block that may still land the next one is relied on" },
	[LS_PLANT_LOST_IS_WON] = { "lost-is-won", RULE(TRUE),
				   "a host that comes second takes the lease for its own" },
	[LS_PLANT_FENCED_LATE] = { "fenced-late", SAFETY,
				   "a fencing counts against who joined after it" },
	[LS_PLANT_FENCED_KEPT] = { "fenced-kept", SAFETY,
				   "a fencing still counts when the slot is another life's" },
	[LS_PLANT_FENCED_EARLY] = { "fenced-early", SAFETY,
				    "a host is said to be fenced before it is" },
	[LS_PLANT_GIVES_UP] = { "gives-up", RULE(PROGRESS),
				"an I/O error ends an operation without a word" },
};

/* ---- the host lease ---- */

void ls_plant_host_event(struct ls_world *w, struct ls_machine *m, struct hf_host_event *ev)
{
	struct hf_host *h = &m->host;

	if (w->plant == LS_PLANT_CLAIM_AT_END && ev->kind == HF_HOST_WRITTEN) {
		ev->issued_ns = ev->now_ns;
	} else if (w->plant == LS_PLANT_RESUME_ANYWAY && ev->kind == HF_HOST_READ &&
		   (h->state == HF_HOST_MEMBER || h->state == HF_HOST_EXPIRED || h->is_resuming)) {
		ev->slot.generation = h->generation;
		ev->slot.timestamp_s = ev->now_s;
		ev->slot.extra.is_present = true;
		ev->slot.extra.instance = h->config.instance;
		ev->slot.extra.sequence = h->written.extra.sequence;
		memcpy(ev->slot.host_name, h->config.name, sizeof(ev->slot.host_name));
	} else if (w->plant == LS_PLANT_JOIN_AT_ONCE) {
		h->confirm_ns = 0;
		if (h->state == HF_HOST_WAITING)
			h->seen.first_seen_ns = 0;
	}
}

/* ---- ballots ---- */

void ls_plant_want(struct ls_world *w, struct ls_machine *m, int lease, struct hf_ballot_want *want)
{
	(void)m;
	if (w->plant == LS_PLANT_WRONG_LVER && want->op == HF_BALLOT_CLAIM)
		want->lver = w->disk.areas[lease].leader.leader.lver;
	else if (w->plant == LS_PLANT_OLD_GENERATION && want->op == HF_BALLOT_TRANSFER &&
		 want->to_generation > 1)
		want->to_generation--;
}

static void change_others(struct ls_world *w, const struct ls_machine *m, const struct hf_ballot *b,
			  struct ls_area *area)
{
	for (unsigned int i = 0; i < LS_IDS; i++) {
		struct hf_lease_block *block = &area->blocks[i];

		if (i + 1 == m->id)
			continue;
		if (w->plant == LS_PLANT_OWN_VALUE)
			block->bal = 0;
		else if (block->lver == b->next_lver && b->own.mbal && block->mbal > b->own.mbal)
			block->mbal = b->own.mbal - 1;
	}
}

void ls_plant_ballot_read(struct ls_world *w, struct ls_machine *m, int lease, struct ls_area *area,
			  struct hf_ballot_event *ev)
{
	const struct ls_work *work = &m->works[lease];
	const struct hf_ballot *b = &work->b;

	(void)ev;
	if (w->plant == LS_PLANT_OWN_VALUE || w->plant == LS_PLANT_HIGHER_IGNORED) {
		change_others(w, m, b, area);
	} else if (w->plant == LS_PLANT_NO_REREAD && b->is_bound && work->has_read) {
		*area = work->last;
		area->blocks[m->id - 1] = b->own;
	} else if (w->plant == LS_PLANT_RELEASE_BLIND && b->want.op == HF_BALLOT_RELEASE) {
		area->leader.leader.owner = area->leader.leader.write_id = m->id;
		area->leader.leader.generation = b->want.generation;
		area->leader.leader.write_generation = b->want.generation;
		area->leader.leader.lver = b->want.lver;
		area->leader.leader.timestamp_s = 1;
		for (unsigned int i = 0; i < LS_IDS; i++)
			if (i + 1 != m->id)
				memset(&area->blocks[i], 0, sizeof(area->blocks[i]));
	}
}

static void change_block(struct ls_world *w, const struct ls_machine *m, int lease,
			 struct hf_ballot *b, struct hf_lease_block *block)
{
	if (w->plant == LS_PLANT_MBAL_SHARED) {
		block->mbal -= block->mbal % LS_MAX_HOSTS;
		block->bal -= block->bal % LS_MAX_HOSTS;
	} else if (w->plant == LS_PLANT_BAL_FORGOTTEN && block->bal && block->bal != block->mbal) {
		block->bal = block->owner = block->generation = 0;
	} else if (w->plant == LS_PLANT_RELEASED_KEPT) {
		block->is_released = block->is_released ||
				     w->disk.areas[lease].blocks[m->id - 1].is_released;
	} else if (w->plant == LS_PLANT_WRITE_ID_GIVER && b->want.op == HF_BALLOT_PREPARE) {
		block->is_released = true;
	} else {
		return;
	}
	b->own = *block;
}

void ls_plant_ballot_action(struct ls_world *w, struct ls_machine *m, int lease,
			    struct hf_ballot_action *a)
{
	struct hf_ballot *b = &m->works[lease].b;

	if (a->kind == HF_BALLOT_DO_WRITE_BLOCK)
		change_block(w, m, lease, b, &a->block);
	if (a->kind == HF_BALLOT_DONE && a->result == HF_BALLOT_LOST &&
	    w->plant == LS_PLANT_LOST_IS_WON)
		a->result = HF_BALLOT_WON;
	if (a->kind == HF_BALLOT_DO_WAIT && w->plant == LS_PLANT_NOT_SETTLED)
		a->at_ns = 0;
	if (a->kind == HF_BALLOT_DO_WRITE_LEADER && b->want.op == HF_BALLOT_RELEASE &&
	    w->plant == LS_PLANT_RELEASE_BLIND) {
		a->leader = w->disk.areas[lease].leader.leader;
		a->leader.timestamp_s = 0;
	}
	if (a->kind != HF_BALLOT_DO_WRITE_LEADER || b->want.op != HF_BALLOT_TRANSFER)
		return;
	if (w->plant == LS_PLANT_TRANSFER_FREE)
		a->leader.timestamp_s = 0;
	else if (w->plant == LS_PLANT_WRITE_ID_GIVER)
		a->leader.write_id = m->id;
}

/* ---- evidence ---- */

enum hf_lease_life ls_plant_life(struct ls_world *w, struct ls_machine *m,
				 const struct hf_ballot_action *look)
{
	struct hf_lease_sight s = { 0 };
	uint64_t since_ns = look->since_ns;
	enum hf_lease_life life;

	if (look->owner >= 1 && look->owner <= LS_IDS)
		s = m->sights[look->owner - 1];
	if (w->plant == LS_PLANT_OLD_EVIDENCE)
		since_ns = 0;
	else if (w->plant == LS_PLANT_MARGIN_IGNORED && s.slot.extra.fence_ms > 100)
		s.slot.extra.fence_ms = (s.slot.extra.fence_ms - 100) * 16 / 17;
	life = hf_lease_life(&s, look->owner, look->generation, since_ns);
	s.fenced_ns = 0;
	if (life == HF_LEASE_LIFE_DEAD)
		w->stats->fenced_dead += hf_lease_life(&s, look->owner, look->generation,
						       since_ns) != life;
	return life;
}

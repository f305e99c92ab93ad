/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside of core/ballot.h: the ballots themselves, and what both halves share. Layer: core; for
 * ballot.c only.
 */
#pragma once

#include "core/ballot.h"

/* Of struct hf_ballot. */
enum hf_round_stage {
	HF_ROUND_REST,
	HF_ROUND_READ, /* to find out where things stand */
	HF_ROUND_LIFE, /* waits for word of a host */
	HF_ROUND_PAUSE, /* then READ */
	HF_ROUND_PROMISE, /* phase 1: writes the number ... */
	HF_ROUND_PROMISED, /* ... and reads */
	HF_ROUND_ACCEPT, /* phase 2: writes the value ... */
	HF_ROUND_ACCEPTED, /* ... and reads */
	HF_ROUND_COMMIT, /* writes the leader */
	HF_ROUND_MARK, /* TRANSFER, given: marks the own block */
	HF_ROUND_LET_GO, /* RELEASE: marks the own block ... */
	HF_ROUND_LET_GO_READ, /* ... reads again ... */
	HF_ROUND_FREE, /* ... and writes the leader free */
	HF_ROUND_CLEAN, /* PREPARE: writes the own block without the mark */
};

struct hf_round {
	const struct hf_ballot_event *ev;
	struct hf_ballot_action *ret;
	struct hf_lease_block own; /* READ: the newest that is known of the own block */
};

/* Actions: each is the answer to the event at hand. */
void hf_round_act(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage,
		  enum hf_ballot_action_kind kind);
void hf_round_finish(struct hf_ballot *b, const struct hf_round *s, enum hf_ballot_result result);
void hf_round_finish_damaged(struct hf_ballot *b, const struct hf_round *s, uint64_t host);
void hf_round_pause(struct hf_ballot *b, const struct hf_round *s, uint64_t ms);
void hf_round_back_off(struct hf_ballot *b, const struct hf_round *s);
void hf_round_read(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage);
void hf_round_write_own(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage,
			const struct hf_lease_block *block);
void hf_round_write_leader(struct hf_ballot *b, const struct hf_round *s, enum hf_round_stage stage,
			   const struct hf_lease_block *value, uint64_t lver, uint64_t timestamp_s);

/* Is this what the operation wants to be chosen? */
bool hf_round_is_wanted(const struct hf_ballot *b, uint64_t owner, uint64_t generation);
/* The leader names this host, in this generation or in one before: nothing of that one runs. */
bool hf_round_is_own_tenure(const struct hf_ballot *b);

/* What was read. @ret_host: whose block is damaged, 0: the leader. */
bool hf_round_is_damaged(const struct hf_ballot *b, const struct hf_ballot_event *ev,
			 uint64_t *ret_host);
void hf_round_take_leader(struct hf_ballot *b, struct hf_round *s);
const struct hf_lease_block *hf_round_block(const struct hf_ballot *b, const struct hf_round *s,
					    uint64_t host);
const struct hf_lease_block *hf_round_accepted_at(const struct hf_ballot *b,
						  const struct hf_round *s, uint64_t lver);
uint64_t hf_round_highest_lver(const struct hf_ballot *b, const struct hf_round *s);
/* Was the read so long ago that this host may have slept in between? */
bool hf_round_is_read_old(struct hf_ballot *b, const struct hf_round *s);

/* Begins a ballot for @lver, or for a higher one that others are at already. */
void hf_round_hold(struct hf_ballot *b, const struct hf_round *s, uint64_t lver);
/* After the reads of phase 1 and 2. False: what is to be done has to be decided anew. */
bool hf_round_promised(struct hf_ballot *b, const struct hf_round *s);
bool hf_round_accepted(struct hf_ballot *b, const struct hf_round *s);
void hf_round_move(struct hf_lease_block *own, uint64_t lver);

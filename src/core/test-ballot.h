/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For the tests of ballots: a resource in memory, what is wanted of it, and hosts that do it. */
#pragma once

#include "../../tests/test.h"
#include "core/ballot.h"

#define HOSTS 4
#define S_NS 1000000000ULL

struct disk {
	struct hf_lease_leader leader;
	struct hf_lease_block blocks[HOSTS];
};

static inline void own(struct disk *d, uint64_t owner, uint64_t generation, uint64_t lver)
{
	struct hf_lease_leader *l = &d->leader;

	l->owner = l->write_id = owner;
	l->generation = l->write_generation = generation;
	l->lver = lver;
	l->timestamp_s = 77;
	d->blocks[owner - 1] = (struct hf_lease_block){
		.mbal = 2000 + owner,
		.bal = 2000 + owner,
		.owner = owner,
		.generation = generation,
		.timestamp_s = 77,
		.lver = lver,
	};
}

static inline struct hf_ballot_want want(enum hf_ballot_op op, uint64_t host, uint64_t lver)
{
	return (struct hf_ballot_want){
		.op = op, .host_id = host, .generation = 10 + host, .max_hosts = 2000, .lver = lver
	};
}

static inline struct hf_ballot_want transfer(uint64_t from, uint64_t lver, uint64_t to)
{
	struct hf_ballot_want t = want(HF_BALLOT_TRANSFER, from, lver);

	t.to = to;
	t.to_generation = 10 + to;
	return t;
}

#define MS_NS 1000000ULL

/* ---- one disk, operations run on it one after the other ---- */

struct world {
	struct disk disk;
	uint64_t now_ns;
	enum hf_lease_life life[HOSTS + 1];
	bool is_leader_damaged;
	unsigned int reads, writes, looks;
};

static inline void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->now_ns = 1000 * S_NS;
	w->disk.leader.num_hosts = HOSTS;
}

static inline struct hf_ballot_event event(const struct world *w, enum hf_ballot_event_kind kind)
{
	return (struct hf_ballot_event){ .kind = kind,
					 .now_ns = w->now_ns,
					 .issued_ns = w->now_ns,
					 .now_s = w->now_ns / S_NS,
					 .leader = &w->disk.leader,
					 .is_leader_damaged = w->is_leader_damaged,
					 .blocks = w->disk.blocks,
					 .n_blocks = HOSTS };
}

/* Carries out one action. */
static inline void serve(struct world *w, struct hf_ballot *b, struct hf_ballot_action *a)
{
	struct hf_ballot_event ev;

	w->now_ns += MS_NS;
	if (a->kind == HF_BALLOT_DO_READ) {
		w->reads++;
		ev = event(w, HF_BALLOT_READ);
	} else if (a->kind == HF_BALLOT_DO_WRITE_BLOCK) {
		w->writes++;
		w->disk.blocks[b->want.host_id - 1] = a->block;
		ev = event(w, HF_BALLOT_WRITTEN);
	} else if (a->kind == HF_BALLOT_DO_WRITE_LEADER) {
		w->writes++;
		w->disk.leader = a->leader;
		ev = event(w, HF_BALLOT_WRITTEN);
	} else if (a->kind == HF_BALLOT_DO_LOOK) {
		w->looks++;
		CHECK(a->since_ns <= w->now_ns);
		ev = event(w, HF_BALLOT_OWNER_LIFE);
		ev.life = w->life[a->owner];
	} else {
		CHECK_EQ(a->kind, HF_BALLOT_DO_WAIT);
		CHECK(a->at_ns > w->now_ns - MS_NS);
		w->now_ns = a->at_ns > w->now_ns ? a->at_ns : w->now_ns;
		ev = event(w, HF_BALLOT_WAKE);
	}
	hf_ballot_step(b, &ev, a);
}

static inline struct hf_ballot_action finish(struct world *w, struct hf_ballot *b,
					     struct hf_ballot_action a)
{
	for (int i = 0; a.kind != HF_BALLOT_DONE; i++) {
		CHECK(i < 1000);
		serve(w, b, &a);
	}
	return a;
}

static inline struct hf_ballot_action run(struct world *w, struct hf_ballot_want want)
{
	struct hf_ballot b;
	struct hf_ballot_action a;

	hf_ballot_begin(&b, &want, w->now_ns, &a);
	return finish(w, &b, a);
}

/* Runs until the machine asks for the @nth action of this kind, which is not carried out. */
static inline struct hf_ballot_action run_until(struct world *w, struct hf_ballot *b,
						struct hf_ballot_want want,
						enum hf_ballot_action_kind kind, int nth)
{
	struct hf_ballot_action a;

	hf_ballot_begin(b, &want, w->now_ns, &a);
	while (a.kind != kind || --nth) {
		CHECK(a.kind != HF_BALLOT_DONE);
		serve(w, b, &a);
	}
	return a;
}

static inline void check_leader(const struct world *w, uint64_t owner, uint64_t generation,
				uint64_t lver)
{
	const struct hf_lease_leader *l = &w->disk.leader;

	CHECK_EQ(l->owner, owner);
	CHECK_EQ(l->generation, generation);
	CHECK_EQ(l->lver, lver);
	CHECK(l->timestamp_s != 0);
	CHECK_EQ(l->write_id, owner);
	CHECK_EQ(l->write_generation, generation);
}

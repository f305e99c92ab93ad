/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A resource in memory, and what is wanted of it; for the tests of ballots. */
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VM's lease in the simulated world: sectors that all hosts reach, and a daemon on each host
 * that holds the real ballots (core/ballot.h) on them.
 *
 * Theory of operation. The area is a leader record and a block for each host. A read takes its
 * sectors at different times; a write lands some time after it was issued, and one that is reported
 * as failed, or whose host loses power, may land late or never. What a keeper asks of its daemon is
 * lost with neither: the daemon may die and come back, and then begins the same claim again; the
 * keeper may die, and then the daemon ends what it has begun and releases what nobody has.
 *
 * The host's own lease is what its daemon renews; a keeper runs what needs it only while it is
 * valid, and has the VM's lease verified anew when it had not been.
 *
 * Checkers know the truth: who owns an lver is whose record landed as its leader.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/ballot.h"

#define SIM_LEASE_HOSTS 3
#define SIM_LVERS 1024u
#define SIM_LATE_MAX_NS UINT64_C(38000000) /* a write that failed lands by then, or never */
#define SIM_AREA_WRITES_MAX 32u
#define SIM_RENEW_NS UINT64_C(9000000)
#define SIM_VALID_NS UINT64_C(48000000) /* from when a renewal was issued */

/* A write under way. */
struct sim_area_write {
	uint64_t id; /* 0: none */
	int node;
	bool is_leader;
	bool is_doomed; /* will never land */
	struct hf_lease_leader leader;
	struct hf_lease_block block;
};

struct sim_area {
	struct hf_lease_leader leader;
	struct hf_lease_block blocks[SIM_LEASE_HOSTS];
	struct sim_area_write writes[SIM_AREA_WRITES_MAX];
	uint64_t next_id;
	uint64_t owners[SIM_LVERS]; /* truth: host id by lver, 0: not decided */
	uint64_t best; /* the greatest lver that anybody owns */
	uint64_t freed; /* the greatest that was released */
};

enum sim_lease_job {
	SIM_JOB_NONE,
	SIM_JOB_QUESTION, /* CLAIM for a keeper */
	SIM_JOB_RELEASE,
	SIM_JOB_START, /* ACQUIRE for an operator who starts the VM from its disk */
};

/* One question of a keeper; it stays until it is answered or its keeper is gone. */
struct sim_question {
	uint64_t inst; /* 0: none */
	uint64_t lver;
	uint64_t at_ns; /* a connection that only breaks is made again before */
	bool is_standby;
	bool is_cancelled;
};

struct sim_daemon {
	int node;
	uint64_t process; /* 0: none runs; what was begun for an earlier one is dropped */
	uint64_t generation; /* of the host's lease: +1 after a loss of power */
	uint64_t
		valid_ns; /* the host's lease; its keepers look at this, also when the daemon is dead */
	uint64_t tenure; /* +1 with each renewal after it had run out */
	enum sim_lease_job job;
	uint64_t job_inst; /* QUESTION: for whom it was begun */
	struct hf_ballot ballot;
	uint64_t step; /* the end of this one is waited for */
	uint64_t issued_ns;
	bool is_write_failed; /* told when what it may yet land on cannot be written any more */
	struct hf_ballot_action
		pending; /* a write that waits for an older one to the same sector */
	struct hf_lease_leader leader; /* a read under way */
	struct hf_lease_block blocks[SIM_LEASE_HOSTS];
	unsigned int unread;
	struct sim_question question;
	bool is_start_wanted;
	/* kept over the daemon's death: keepers tell it again */
	uint64_t held_lver;
	uint64_t held_inst;
	uint64_t release_lver; /* nobody here has it any more; 0: none */
};

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What stands on a lease disk, in memory; and who is alive by it. Layer: core; pure, any thread, no
 * allocation, no clock. Format and rules: docs/lease.md; codec/leasedisk.h has the bytes.
 *
 * Words. A *lockspace* is an area with one *slot* for each host: a host's slot, renewed again and
 * again, is the *host lease*. A *resource* is an area with a *leader* record and one *block* for
 * each host: the lease of one VM, decided by ballots (Disk Paxos). `lver` counts a resource's
 * ballots: (owner, generation, lver) names one tenure for ever. `generation` counts how often a host
 * has joined the lockspace.
 *
 * Times. *_ns are of the host's own monotonic clock and never leave it; a host's timestamps on disk
 * are looked at for change only. A read is dated by when it was issued (it shows what stood there
 * then or later), what it shows is first seen when the read is over; a claim is dated by when its
 * write was issued.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HF_LEASE_NAME_BYTES 48 /* of a lockspace, resource, host; not terminated when full */
#define HF_LEASE_HOSTS_MAX 2000

/* What a holdfast host adds to its slot (bytes 200..255, which sanlock does not look at). */
struct hf_lease_extra {
	bool is_present; /* false: a sanlock host, or a slot that was never used */
	uint64_t instance; /* random, new with each generation: tells two hosts of one name apart */
	uint64_t sequence; /* +1 with each renewal; several may happen within one timestamp */
	uint32_t renew_ms; /* how often */
	uint32_t fence_ms; /* all VMs of this host stand still, for good, so long after the last
			    * renewal that succeeded was issued */
};

/* A host's slot. */
struct hf_lease_slot {
	uint64_t owner; /* host id, 1..HF_LEASE_HOSTS_MAX */
	uint64_t generation;
	uint64_t timestamp_s; /* 0: free */
	uint32_t io_timeout_s; /* sanlock's T, 1..255 */
	char host_name[HF_LEASE_NAME_BYTES + 1];
	struct hf_lease_extra extra;
};

/* A resource's leader record. */
struct hf_lease_leader {
	uint64_t owner; /* kept after a release */
	uint64_t generation;
	uint64_t lver;
	uint64_t timestamp_s; /* 0: free */
	uint64_t write_id; /* whose value it is: must be the owner's, see docs/lease.md */
	uint64_t write_generation;
	uint32_t num_hosts; /* blocks that take part */
	bool is_short_hold;
};

/* A host's block in a resource. */
struct hf_lease_block {
	uint64_t mbal; /* takes part in no ballot below */
	uint64_t bal; /* 0: has accepted nothing at this lver */
	/* The value accepted. With bal 0 (ours only, else zero): what the leader said of lver - 1 when
	 * the ballot was begun, which is true whatever the leader says by now. */
	uint64_t owner;
	uint64_t generation;
	uint64_t timestamp_s;
	uint64_t lver;
	bool is_released; /* the owner has let go */
	bool is_shared; /* sanlock's shared mode; kept, never set by us */
	uint64_t shared_generation;
	bool is_damaged; /* the checksum is wrong: nothing of it counts */
};

/* ---- who is alive ---- */

/* sanlock: a host whose slot stands still for 8T+60 s is dead and its watchdog has fired. */
#define HF_LEASE_SANLOCK_DEAD_S(t) (8 * (uint64_t)(t) + 60)

/* A slot as one host has seen it over time. All zero: never seen. */
struct hf_lease_sight {
	struct hf_lease_slot slot;
	bool is_seen;
	uint64_t first_seen_ns; /* the first read that showed it as it is was over then */
	uint64_t joined_ns; /* the same for its generation */
	uint64_t issued_ns; /* the last read that showed it was issued then */
	uint64_t fenced_ns; /* we were told then that whoever wrote it had been fenced; 0: no */
};

enum hf_lease_life {
	HF_LEASE_LIFE_UNKNOWN, /* not seen, or not since the moment asked for */
	HF_LEASE_LIFE_ALIVE, /* may be running VMs */
	HF_LEASE_LIFE_DEAD, /* stood still for as long as its rule asks, or was fenced: runs nothing any
			     * more */
	HF_LEASE_LIFE_GONE, /* the slot is free, another's, or long enough of a later generation */
};

/* The slot as a read from @issued_ns to @done_ns showed it. Reads are reported in the order of their
 * issue; one that was issued before the last one reported is ignored. */
void hf_lease_sight_update(struct hf_lease_sight *s, const struct hf_lease_slot *slot,
			   uint64_t issued_ns, uint64_t done_ns);

enum hf_lease_fencing {
	HF_LEASE_FENCING_TAKEN, /* DEAD with the next read, unless its slot changes after that one */
	HF_LEASE_FENCING_OTHER_NAME, /* the slot is in use by a host of another name */
	HF_LEASE_FENCING_NO_HOST, /* never seen, or its slot is free: there is nothing to take over */
	HF_LEASE_FENCING_TOO_NEW, /* this generation may have joined after the fencing */
	HF_LEASE_FENCING_FOREIGN, /* a sanlock host's: only sanlock's own rule counts for it */
};

/**
 * hf_lease_sight_fenced() - the host of this slot has no power, or had none for a while
 * @name: of the host that was fenced; no two machines have one name
 * @not_before_ns: it was not cut off before this, by our clock, whatever the clocks of those who fenced say
 * @told_ns: now
 * The proof is about the generation that stands in the slot, and only if that was there before @not_before_ns: whoever
 * boots after it joins with a later one. It ends when the slot has changed after a read that was issued after @told_ns:
 * then somebody writes who was said to be dead, and only time counts again.
 */
enum hf_lease_fencing hf_lease_sight_fenced(struct hf_lease_sight *s, const char *name,
					    uint64_t not_before_ns, uint64_t told_ns);
const char *hf_lease_fencing_text(enum hf_lease_fencing fencing);

/* Does such a proof stand against @owner in @generation, if the next read shows the slot as it was? */
bool hf_lease_is_fenced(const struct hf_lease_sight *s, uint64_t owner, uint64_t generation);

/* From what span without a change on is the host that wrote it dead? By its own rule: what it
 * advertises and a margin for clocks of different rates, or sanlock's. */
uint64_t hf_lease_dead_after_ns(const struct hf_lease_slot *slot);

/**
 * hf_lease_life() - what is known of host @owner in generation @generation
 * @since_ns: evidence issued before this does not count (0: all does)
 */
enum hf_lease_life hf_lease_life(const struct hf_lease_sight *s, uint64_t owner,
				 uint64_t generation, uint64_t since_ns);

const char *hf_lease_life_name(enum hf_lease_life life);

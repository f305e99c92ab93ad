/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The host lease: joining a lockspace, renewing, expiring, leaving. Layer: core; pure, any thread, no
 * allocation, no clock: the time is in the events. docs/lease.md has the diagram and the proof.
 *
 * hf_host_step() takes an event and says what to do, in order. The driver carries one I/O at a time
 * (READ or WRITE) and reports its end, however late; it never drops one. A write that failed may
 * have landed or may land at any later time, once: nothing is concluded from it.
 *
 * Validity is published as deadlines: whoever runs VMs under this lease looks at the clock himself,
 * so nothing has to work for a lease to run out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/lease.h"

enum hf_host_state {
	HF_HOST_OUT, /* not a member */
	HF_HOST_LOOKING, /* reads its slot */
	HF_HOST_WAITING, /* the slot was in use: watches whether it still is */
	HF_HOST_CLAIMING, /* writes its name */
	HF_HOST_CONFIRMING, /* waits, then reads that nobody else has */
	HF_HOST_MEMBER, /* renews */
	HF_HOST_EXPIRED, /* the deadline has passed: VMs have been stopped; tries to renew */
	HF_HOST_LEAVING, /* writes the slot free */
	HF_HOST_LOST, /* the slot is another's: final (for this instance) */
	HF_HOST_STATE_COUNT
};

/* Why a host is not, or no longer, a member. */
enum hf_host_why {
	HF_HOST_WHY_NONE,
	HF_HOST_WHY_TAKEN, /* the id is in use by a host of another name, or by a second one of ours */
	HF_HOST_WHY_CHANGED, /* the slot's generation or instance is not ours any more */
	HF_HOST_WHY_NOT_RESUMED, /* the slot is not what a resumed host had left there */
	HF_HOST_WHY_DAMAGED, /* LOOKING, EXPIRED: the slot cannot be read; waits for its repair */
};

struct hf_host_config {
	uint64_t host_id;
	char name[HF_LEASE_NAME_BYTES + 1]; /* stable over restarts */
	uint32_t io_timeout_s; /* T, for sanlock hosts */
	uint32_t renew_ms; /* 100..20000 */
	uint32_t
		fence_ms; /* 3 renewals at least; VMs stand still so long after a renewal's issue */
	uint32_t stop_ms; /* of fence_ms: what stopping them may take; below fence_ms / 2 */
	uint64_t instance; /* random, not 0 */
};

enum hf_host_event_kind {
	HF_HOST_START, /* join; or resume, if resume_generation is not 0 */
	HF_HOST_READ, /* the slot as read: slot, issued_ns; now_ns is its end */
	HF_HOST_READ_FAILED,
	HF_HOST_WRITTEN, /* the last WRITE is on the disk: issued_ns */
	HF_HOST_WRITE_FAILED,
	HF_HOST_WAKE, /* the time asked for by WAKE has come; extra ones do no harm */
	HF_HOST_LEAVE, /* only when no VM runs under the lease */
	HF_HOST_EVENT_COUNT
};

struct hf_host_event {
	enum hf_host_event_kind kind;
	uint64_t now_ns;
	uint64_t issued_ns;
	uint64_t now_s; /* for the timestamp on disk; not 0 */
	struct hf_lease_slot slot; /* READ; all zero if nothing readable stood there */
	bool is_settled; /* WRITE_FAILED: it has landed or never will, but not later */
	bool is_slot_damaged; /* READ: foreign or damaged bytes: nothing may be concluded */
	/* START with a resumed generation: what the shared page (sys/leasepage.h) still says */
	uint64_t resume_generation;
	uint64_t resume_instance; /* alone: join anew; the slot may still have this one, of which
				   * nothing runs any more (else it is watched as another's is) */
	uint64_t resume_tenure;
	uint64_t resume_valid_ns; /* may have passed; 0: resume_fence_ns less stop_ms */
	uint64_t resume_fence_ns; /* its hard deadline; may have passed */
};

enum hf_host_action_kind {
	HF_HOST_DO_READ, /* the whole lockspace area: the same read shows the others */
	HF_HOST_DO_WRITE, /* `slot` to the own sector; the bitmap of requests is the driver's */
	HF_HOST_DO_WAKE, /* at `at_ns`; a later one takes its place */
	HF_HOST_DO_PUBLISH, /* generation, instance, tenure, valid_ns, fence_ns to the page */
	HF_HOST_DO_REPORT, /* the state has changed: log, tell others */
};

struct hf_host_action {
	enum hf_host_action_kind kind;
	struct hf_lease_slot slot;
	uint64_t at_ns;
	uint64_t valid_ns; /* nothing new is begun after it, and stopping begins */
	uint64_t fence_ns; /* all stands still by then */
	enum hf_host_why why;
};

#define HF_HOST_ACTIONS_MAX 4

struct hf_host_actions {
	unsigned int n;
	struct hf_host_action a[HF_HOST_ACTIONS_MAX];
};

/*
 * tenure: +1 each time the lease is valid anew after it had not been: what was verified in an
 * earlier tenure has to be verified again (HF_BALLOT_CLAIM at the own lver).
 */
struct hf_host {
	struct hf_host_config config;
	enum hf_host_state state;
	enum hf_host_why why;
	uint64_t generation; /* 0: none yet */
	uint64_t tenure;
	uint64_t valid_ns, fence_ns;
	struct hf_lease_slot written; /* last, successful or not */
	struct hf_lease_sight seen; /* WAITING: whoever has the slot */
	uint64_t landed; /* sequence of the last one that is known to have */
	bool is_io_out; /* a READ or WRITE is under way */
	bool is_leaving; /* LEAVE came while it was */
	bool is_resuming; /* its first renewal is yet to succeed */
	bool is_unsettled; /* a write failed since the last renewal that counted */
	bool is_written; /* the slot may have our name in it by now */
	uint64_t known; /* instance of a predecessor, see resume_instance */
	unsigned int changes; /* WAITING: of what is watched */
	uint64_t next_ns; /* the next look or renewal */
	uint64_t confirm_ns; /* a renewal counts if its read was issued then or later */
	uint64_t read_issued_ns; /* of the last read */
};

void hf_host_init(struct hf_host *h, const struct hf_host_config *config);

/* @ret: at most HF_HOST_ACTIONS_MAX, to be carried out in their order; at most one of them is I/O,
 * and none while one is under way. */
void hf_host_step(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret);

/* Is the lease valid at @now_ns? */
bool hf_host_is_valid(const struct hf_host *h, uint64_t now_ns);

const char *hf_host_state_name(enum hf_host_state state);
const char *hf_host_why_text(enum hf_host_why why);

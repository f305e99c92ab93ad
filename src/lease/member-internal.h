/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the main loop and the renewal thread share. Layer: lease. Nothing is locked: each member of a
 * struct belongs to one side, is atomic, or travels by a handoff.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lease/member-watchdog.h"
#include "lease/member.h"

/* ---- a handoff: three places, so that neither side ever waits for the other ---- */

#define HF_HANDOFF_PLACES 3
#define HF_HANDOFF_FRESH 4u

struct hf_handoff {
	_Atomic unsigned int middle; /* a place, and whether the reader has not seen it */
	unsigned int writes; /* the writer's place */
	unsigned int reads; /* the reader's */
};

static inline void hf_handoff_init(struct hf_handoff *h)
{
	atomic_init(&h->middle, 1);
	h->writes = 0;
	h->reads = 2;
}

/* The writer's place is ready; it gets another one. What the reader has not taken is dropped. */
static inline void hf_handoff_put(struct hf_handoff *h)
{
	h->writes = atomic_exchange(&h->middle, h->writes | HF_HANDOFF_FRESH) & ~HF_HANDOFF_FRESH;
}

/* True: the reader's place has something new in it. */
static inline bool hf_handoff_take(struct hf_handoff *h)
{
	if (!(atomic_load(&h->middle) & HF_HANDOFF_FRESH))
		return false;
	h->reads = atomic_exchange(&h->middle, h->reads) & ~HF_HANDOFF_FRESH;
	return true;
}

/* ---- the member ---- */

/* The lockspace as one read showed it. */
struct hf_member_sweep {
	uint8_t *bytes;
	uint64_t issued_ns, done_ns; /* CLOCK_MONOTONIC */
};

enum hf_member_order { HF_MEMBER_GO_ON, HF_MEMBER_LEAVE, HF_MEMBER_STOP };

#define HF_MEMBER_REQUEST_WORDS ((HF_LEASE_HOSTS_MAX + 63) / 64)

struct hf_member {
	/* set before the threads start, and not changed while they run */
	struct hf_store *store;
	uint64_t offset;
	uint64_t host_id;
	char space[HF_LEASE_NAME_BYTES + 1];
	struct hf_lease_geometry geometry;
	struct hf_lease_page *page;
	struct hf_watchdog *dog; /* NULL: none */
	int news_fd; /* to the main loop */
	int order_fd; /* to the renewal thread */
	int end_fd; /* from it: it is over */
	int dog_fd; /* to the watchdog's thread */
	pthread_t thread, dog_thread;

	/* between the threads */
	struct hf_handoff sweep_handoff, status_handoff;
	struct hf_member_sweep sweep[HF_HANDOFF_PLACES];
	struct hf_member_status status[HF_HANDOFF_PLACES];
	_Atomic int order;
	_Atomic uint64_t io_since_ns;
	_Atomic uint64_t requests[HF_MEMBER_REQUEST_WORDS]; /* bits to set in the own slot */
	_Atomic bool is_dog_over;
	_Atomic int dog_error;

	/* the renewal thread's */
	struct hf_host host;
	struct hf_host_event start;
	struct hf_lease_state published;
	struct hf_member_status now;
	enum hf_host_state signalled; /* what the main loop was woken for last */
	uint64_t signalled_failures;
	uint8_t *own; /* the own sector, to be written */
	uint64_t asleep_ns; /* as of the last write's issue */
	uint64_t wake_ns; /* UINT64_MAX: the machine wants nothing but orders */

	/* the main loop's */
	enum hf_host_state told; /* the state as of the last dispatch */
	struct hf_lease_sight *sights; /* of host id 0 (unused) to max_hosts */
	uint8_t *last; /* the first 512 bytes of each slot, as seen last */
	bool *is_damaged, *has_asked;
	uint64_t *request_until_ns;
	uint64_t asked_at; /* where hf_member_take_request() goes on */
};

/* The threads. */
void *hf_member_renew(void *member);
void *hf_member_watch(void *member);

/* ---- for both sides ---- */

uint64_t hf_member_now_ns(void); /* CLOCK_MONOTONIC */

/* An eventfd becomes readable; or is emptied. Neither blocks nor fails. */
void hf_member_signal(int fd);
void hf_member_drain(int fd);

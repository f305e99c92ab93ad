/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations on leases, carried out: core/ballot.h with a disk and threads. Layer: lease. All
 * functions and callbacks belong to one thread (the daemon's main loop); I/O is done by a few
 * workers, each with a store of its own, so that a disk that hangs stops nothing else.
 *
 * Operations on one resource run one after the other, in the order of their start; on different
 * ones side by side.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/ballot.h"
#include "lease/member.h"

struct hf_workshop;
struct hf_work;

struct hf_workshop_config {
	const char *path;
	uint64_t offset; /* of the lockspace in it; the index lies behind it */
	const char *space;
	struct hf_member *member; /* borrowed: geometry, who is alive, requests */
	struct hf_lease_page *page; /* borrowed, the member's: is the host lease valid? */
	unsigned int threads; /* 1..8 */
	uint32_t timeout_ms; /* NBD, see lease/store.h; 0: 5000 */
};

/* A lease by name. Where it lies comes from the index (docs/lease-format.md). */
struct hf_lease_ref {
	char name[HF_LEASE_NAME_BYTES + 1];
	uint64_t offset; /* 0: look it up */
};

struct hf_work_result {
	int r; /* 0: `result` counts; -ENOENT: no such lease; -EBADMSG: damaged or foreign, `error`
		* says where; -ENOSPC: the index is full; -EBUSY: another host changes the index;
		* -ECANCELED; -ESHUTDOWN: the host lease is not valid any more, and nothing was
		* decided by this operation; READ, CREATE, REQUEST: other -errno of the storage */
	enum hf_ballot_result result;
	uint64_t owner, generation, lver;
	uint64_t timestamp_s; /* READ, REQUEST: of the leader; 0: it is free */
	/* WON: the host lease was valid without a break from when nobody could have taken the lease
	 * from us, up to now, if its tenure is still this one. */
	uint64_t tenure;
	enum hf_lease_life life; /* of the owner, where it matters */
	uint64_t offset; /* of the lease */
	uint64_t duration_ns;
	struct hf_err error;
};

typedef void hf_work_done(void *ctx, const struct hf_work_result *result);

/* To be made right after hf_member_start(). If the page is another daemon's then (one that has
 * died), no ballot begins in the first HF_BALLOT_SETTLE_MS: what that had under way may land until
 * then. */
int hf_workshop_new(const struct hf_workshop_config *config, struct hf_workshop **ret,
		    struct hf_err *err) HF_MUST_CHECK;
/* Cancels what can be and calls back; what cannot be has @patience_ms to come to its end, and is
 * not called back any more if it does not. -ETIMEDOUT: a worker is stuck in the storage; it keeps
 * all that it may touch, and the process has to end. Callbacks must start nothing. */
int hf_workshop_free(struct hf_workshop *s, uint32_t patience_ms) HF_MUST_CHECK;

int hf_workshop_fd(const struct hf_workshop *s);
void hf_workshop_dispatch(struct hf_workshop *s); /* calls back */
/* After hf_member_dispatch(): who waits for word of a host. */
void hf_workshop_notice_sights(struct hf_workshop *s);
/* When the next operation wants to be woken, UINT64_MAX: none; then hf_workshop_dispatch(). */
uint64_t hf_workshop_next_ns(const struct hf_workshop *s);

/**
 * hf_work_start() - an operation; host id, generation and max_hosts of @want are filled in
 * @done: exactly once, from hf_workshop_dispatch(), unless the workshop goes first.
 * @ret: valid until @done; may be NULL. Return: 0; -ENOMEM; -EBUSY: too many are waiting; -EINVAL:
 * no name, an offset that is none, a TRANSFER to nobody else; -ESHUTDOWN: the host lease is not
 * valid (operations may not even begin then).
 *
 * I/O errors end no ballot: it goes on, with pauses, until it knows or is cancelled.
 */
int hf_work_start(struct hf_workshop *s, const struct hf_lease_ref *lease,
		  const struct hf_ballot_want *want, hf_work_done *done, void *ctx,
		  struct hf_work **ret) HF_MUST_CHECK;

/* Without a ballot: who owns it by its leader? Waits for no other operation on that lease, needs no
 * valid host lease. An I/O error ends it. -ESHUTDOWN: the lockspace was never read yet. */
int hf_work_read(struct hf_workshop *s, const struct hf_lease_ref *lease, hf_work_done *done,
		 void *ctx, struct hf_work **ret) HF_MUST_CHECK;

/* Makes a lease of that name, if there is none: index entry and area, under the index's own lease.
 * Before it has that, an I/O error ends it. `result`: WON if it made it, OWNED if it was there.
 * -EINVAL: no name for a lease. */
int hf_work_create(struct hf_workshop *s, const char *name, hf_work_done *done, void *ctx,
		   struct hf_work **ret) HF_MUST_CHECK;

/* Asks the owner to give it up: request record now, bit with the next renewals. The result says who
 * it is; if nobody owns it (timestamp_s 0) nobody is asked. An I/O error ends it. */
int hf_work_request(struct hf_workshop *s, const struct hf_lease_ref *lease,
		    enum hf_lease_force force, hf_work_done *done, void *ctx,
		    struct hf_work **ret) HF_MUST_CHECK;

/* See HF_BALLOT_CANCEL: @done is called either way, without waiting for I/O under way unless the
 * ballot cannot be given up any more. Later operations on the lease do wait for that. */
void hf_work_cancel(struct hf_work *w);

/* Since when this one waits for the storage, 0: it does not. And the last error, "" when the last
 * I/O was done; valid until the next call of anything here. */
uint64_t hf_work_stuck_since_ns(const struct hf_work *w);
const char *hf_work_trouble(const struct hf_work *w);

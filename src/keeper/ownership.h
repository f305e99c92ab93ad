/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * May this host run the VM? The keeper's side of the VM's lease: what it asks of the host's daemon
 * (holdfastd), and the deadline that it keeps by itself whatever becomes of the daemon. Layer:
 * keeper. Main thread only.
 *
 * Words. The *tenure of the VM's lease* is its lver. The host's lease has a tenure of its own, which
 * the lease page names: it is another one each time that lease is valid anew. What was owned in an
 * earlier one has *lapsed*: it has to be claimed again before the VM may run on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/commit.h"

struct hf_keeper;
struct hf_ownership;
struct json_object;

struct hf_ownership_ops {
	/* The deadline has passed, or the machine has slept: nothing may leave any more. Once for each
	 * time. */
	void (*on_lapsed)(void *ctx);
};

enum hf_claim_end { HF_CLAIM_WON, HF_CLAIM_LOST, HF_CLAIM_CANCELLED };

/* WON: hf_ownership_lver() is the tenure won, the VM may run. */
typedef void hf_claim_done(void *ctx, enum hf_claim_end end);

/**
 * hf_ownership_open() - find the daemon and its lease page, if this VM is to have a lease
 * @ret: NULL when it is to have none (--lease=no, or auto on a host without a daemon)
 * BLOCKS, serving the event loop, until the daemon has answered.
 * Return: 0; -ENOENT: there is no daemon; -errno with @err.
 */
int hf_ownership_open(struct hf_keeper *k, struct hf_ownership **ret,
		      struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_ownership_acquire() - become the owner, before anything of the VM is started
 * BLOCKS, serving the event loop. Return: 0; -EBUSY: another host owns it; -EHOSTUNREACH: the
 * daemon or the lease's storage does not answer; @err says which, and what to do.
 */
int hf_ownership_acquire(struct hf_ownership *o, struct hf_err *err) HF_MUST_CHECK;

/* Stops answering; does not release. Takes NULL. */
void hf_ownership_free(struct hf_ownership *o);

/* If it has lapsed by now, @ops is told so at once, but not from within this call. */
void hf_ownership_set_ops(struct hf_ownership *o, const struct hf_ownership_ops *ops, void *ctx);

/* "" for NULL: without a lease. */
const char *hf_ownership_lockspace(const struct hf_ownership *o);

/* The tenure that this host owns, or owned last; 0: none so far, or NULL. */
uint64_t hf_ownership_lver(const struct hf_ownership *o);

/* Looked up in the page now. Also false when this host has lost the lease, or never had it. */
bool hf_ownership_is_valid(const struct hf_ownership *o);

/* Gives the disk process the deadline that holds now; to be called when there is a new one. */
void hf_ownership_permit_disks(struct hf_ownership *o);

/* The hard deadline of the host's lease: all stands still by then. */
uint64_t hf_ownership_fence_ns(const struct hf_ownership *o);

/* The processes that must be dead before anybody else may be given the lease: the daemon waits for
 * that when the keeper dies. To be called when they are known, and when they have changed. */
void hf_ownership_hold(struct hf_ownership *o);

/* A standby has been told that it may claim the lease: the daemon is not to release it by itself. */
void hf_ownership_pledge(struct hf_ownership *o, bool is_pledged);

/**
 * hf_ownership_claim() - ballot for the tenure after @lver, at once or when the storage answers
 * One at a time; never answers from within the call, and for as long as there is no storage not at
 * all: hf_ownership_trouble() says why. Asked again while it is under way: goes on, with @done.
 */
void hf_ownership_claim(struct hf_ownership *o, uint64_t lver, hf_claim_done *done, void *ctx);

/* The verdict is not wanted any more; what has been decided by then is told all the same. */
void hf_ownership_cancel(struct hf_ownership *o);
bool hf_ownership_is_claiming(const struct hf_ownership *o);

/* The VM has ended and nobody may bring it to life: give the lease back. @done comes when that is so,
 * or is given up (the daemon does it later, when this process has ended). */
void hf_ownership_release(struct hf_ownership *o, void (*done)(void *ctx), void *ctx);

/* Has the daemon said that it did? */
bool hf_ownership_was_released(const struct hf_ownership *o);

/* Why there is no verdict, or no valid lease; "" if all is well. */
const char *hf_ownership_trouble(const struct hf_ownership *o);

/* {"state", "lver", "lockspace", ...} */
struct json_object *hf_ownership_status(const struct hf_ownership *o);

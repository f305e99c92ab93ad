/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * This host's place in the lockspace over time: joined as soon as the storage can be reached, joined
 * anew when it was lost and nothing runs any more, left in order or kept for the next daemon; and
 * word of the other hosts. Layer: daemon. Main thread only.
 */
#pragma once

#include "daemon/daemon.h"

/* Tries at once, without waiting for it; if the storage cannot be opened, again and again. */
void hf_membership_begin(struct hf_daemon *d);

/**
 * hf_membership_end() - for the end of the daemon
 * Leaves the lockspace if nothing is held, else keeps the slot for the next daemon. Blocks for
 * some seconds at most. Return: 0; -ETIMEDOUT: the storage hangs, the process has to end at once.
 */
int hf_membership_end(struct hf_daemon *d) HF_MUST_CHECK;

/* Is the host lease valid now? */
bool hf_membership_is_valid(const struct hf_daemon *d);

/* Why it is not, for people. Returns @buf. */
const char *hf_membership_reason(const struct hf_daemon *d, char *buf, size_t size);

/* Does anything on this host use the lease? */
bool hf_membership_is_used(const struct hf_daemon *d);

/* The name that host @id has or had, "" if it was never seen. */
const char *hf_membership_host_name(const struct hf_daemon *d, uint64_t id);
/* Is host @id alive, or dead, in @generation? */
enum hf_lease_life hf_membership_life(const struct hf_daemon *d, uint64_t id, uint64_t generation);
/* Is it alive, and @generation the one that it has now? One that is still to come counts as alive for
 * an owner, but nobody would know of a lease that is given to it. */
bool hf_membership_is_member(const struct hf_daemon *d, uint64_t id, uint64_t generation);

/**
 * hf_membership_fenced() - the host of this name was fenced
 * @not_before_ns, @told_ns: see core/lease.h. Leases that it owned may be taken over at once, and are.
 * Return: what is made of it; NO_HOST also without a lease area.
 */
enum hf_lease_fencing hf_membership_fenced(struct hf_daemon *d, const char *name,
					   uint64_t not_before_ns, uint64_t told_ns);
/* Was it, in @generation? Then it is as dead, if its slot has not changed when it is read next. */
bool hf_membership_is_fenced(const struct hf_daemon *d, uint64_t id, uint64_t generation);

/* Host id by name, or by number; 0: there is none. */
uint64_t hf_membership_find_host(const struct hf_daemon *d, const char *name);

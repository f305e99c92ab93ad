/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lease page: a host's validity, in memory shared between the daemon that renews the host lease
 * and everybody who runs something under it. Layer: sys. Any thread; reading is lock-free and calls
 * nothing but clock_gettime().
 *
 * A file in the daemon's run directory (tmpfs), written by the daemon's renewal thread only and
 * outliving it: a restarted daemon finds in it what it was. Readers hold a shared flock() on it as
 * long as they run something under the lease; so whoever gets the exclusive one knows that nothing
 * does.
 *
 * Times are CLOCK_MONOTONIC. The page also remembers the distance between CLOCK_BOOTTIME and
 * CLOCK_MONOTONIC: if a reader finds another one, the machine has slept since, and nothing is valid.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define HF_LEASE_PAGE_FILE "lease-page" /* in the daemon's run directory */

/* One consistent copy. */
struct hf_lease_state {
	uint64_t host_id;
	uint64_t generation; /* 0: not a member */
	uint64_t instance;
	uint64_t tenure;
	uint64_t valid_ns; /* 0: not valid */
	uint64_t fence_ns;
	uint64_t asleep_ns; /* CLOCK_BOOTTIME - CLOCK_MONOTONIC */
	int32_t daemon_pid;
	char lockspace[49];
	char host_name[49];
};

struct hf_lease_page;

/* For the daemon: creates it if need be and maps it; what an earlier daemon published is still there.
 * -EBUSY: another daemon has it; -EBADMSG: of another version, and in use. */
int hf_lease_page_create(const char *path, struct hf_lease_page **ret,
			 struct hf_err *err) HF_MUST_CHECK;

/* For everybody else: read-only, with a shared flock(); -ENOENT: no daemon ever ran here; -EBADMSG: of
 * another version, or damaged; -EAGAIN: locked for seconds. May wait that long. */
int hf_lease_page_open(const char *path, struct hf_lease_page **ret,
		       struct hf_err *err) HF_MUST_CHECK;
void hf_lease_page_close(struct hf_lease_page *p);

/* Daemon only. Never blocks, never fails. */
void hf_lease_page_publish(struct hf_lease_page *p, const struct hf_lease_state *s);

/* Daemon only: does anybody run something under the lease? */
bool hf_lease_page_is_used(const struct hf_lease_page *p);

/* CLOCK_BOOTTIME - CLOCK_MONOTONIC, to a small fraction of a millisecond. For `asleep_ns`: to be taken
 * before the write is issued that validity is counted from. */
uint64_t hf_lease_page_asleep_ns(void);

/* False, and all zero, if the writer was caught (or died) in the middle for longer than a moment. */
bool hf_lease_page_read(const struct hf_lease_page *p, struct hf_lease_state *ret);

/* May something be done now that only the owner may do? In this tenure, before valid_ns, and not
 * after a sleep of the machine. Costs two clock readings. */
bool hf_lease_page_is_valid(const struct hf_lease_page *p, uint64_t tenure);

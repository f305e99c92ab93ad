/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * This host's membership of a lockspace: core/hostlease.h with a disk, a thread and the lease page.
 * Layer: lease. All functions from one thread (the daemon's main loop); the renewal has a thread of
 * its own, which allocates nothing, logs nothing, takes no lock that anybody holds over a system
 * call, and is locked in memory.
 *
 * What the renewal reads is handed to the main loop as a copy: who is alive, whose request bit for
 * us is set. If the main loop does not take it in time it gets the next one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/leasedisk.h"
#include "core/hostlease.h"
#include "lease/store.h"
#include "sys/leasepage.h"

struct hf_member;

struct hf_member_config {
	const char *path; /* of the lockspace's storage, see lease/store.h */
	uint64_t offset; /* of the lockspace in it */
	const char *space;
	struct hf_host_config host; /* instance 0: a random one */
	struct hf_lease_page
		*page; /* borrowed; what it says decides between joining and resuming */
	bool may_resume; /* somebody uses the page: resume what it says, never join anew */
	const char *watchdog; /* device, NULL: none; see lease/member-watchdog.h */
};

/* A snapshot for the main loop. Times are CLOCK_MONOTONIC, as on the page. */
struct hf_member_status {
	enum hf_host_state state;
	enum hf_host_why why;
	uint64_t generation, tenure, valid_ns, fence_ns;
	uint64_t renewals, failures; /* I/O errors */
	uint64_t io_since_ns; /* 0, or since when the read or write under way has not come back */
	uint64_t last_io_ns, max_io_ns; /* durations */
	struct hf_err error; /* of the last failed I/O, or of what is damaged; "": all is well */
	bool is_memory_locked, is_realtime; /* false: was refused; a loaded host may renew late */
	uint32_t watchdog_s; /* its time-out, 0: none */
	int watchdog_error; /* 0, or -errno of the last time it was to be petted */
};

/**
 * hf_member_start() - opens the area, and starts to join or resume
 * May wait for the storage: for a file or a device as long as that hangs, for NBD about as long as a
 * renewal may take. It changes nothing there by itself.
 * Return: 0; -EIO, -ETIMEDOUT: the storage does not answer (try again); -EBADMSG: no lockspace there,
 * or another one; -EINVAL: the configuration does not fit (fence, host id, sector size, the page of
 * another host while it is used); other -errno. @err says what and where.
 */
int hf_member_start(const struct hf_member_config *config, struct hf_member **ret,
		    struct hf_err *err) HF_MUST_CHECK;

/* Readable when something has changed: state, or a new sight of the others. */
int hf_member_fd(const struct hf_member *m);

/* After the descriptor became readable: takes in what is new. 0, or 1 if the state has changed. */
int hf_member_dispatch(struct hf_member *m);

/* As of now, not of the last dispatch. */
void hf_member_get_status(struct hf_member *m, struct hf_member_status *ret);
const struct hf_lease_geometry *hf_member_geometry(const struct hf_member *m);

/* Of any host, 1..max_hosts, as of the last dispatch. */
const struct hf_lease_sight *hf_member_sight(const struct hf_member *m, uint64_t host_id);

/* That host was fenced: see hf_lease_sight_fenced(). What follows shows with the next reads. */
enum hf_lease_fencing hf_member_fenced(struct hf_member *m, uint64_t host_id, const char *name,
				       uint64_t not_before_ns, uint64_t told_ns);

/* A host whose bit for us has been seen (it has left a request for a lease that we may own); each once
 * for each of its renewals. False: none any more. */
bool hf_member_take_request(struct hf_member *m, uint64_t *ret_host_id);

/* Sets our bit for another host with the next renewals, for @for_ms (until a dispatch after that). */
void hf_member_set_request(struct hf_member *m, uint64_t host_id, uint32_t for_ms);

/* Leaves the lockspace (nothing may run under the lease), or just stops renewing (the slot stays, for
 * the next daemon to resume; the page runs out by itself). Waits for I/O under way up to @patience_ms;
 * -ETIMEDOUT: it is stuck, and the process has to end without freeing the member (or this is called
 * again). -EBUSY: somebody uses the page: not left, and renewed as before. -EIO: freed, but the
 * slot could not be written free: others will see it as a dead host's. The watchdog is disarmed if
 * nobody uses the page. */
int hf_member_stop(struct hf_member *m, bool is_leaving, uint32_t patience_ms) HF_MUST_CHECK;

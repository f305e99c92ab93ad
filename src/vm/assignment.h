/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a cluster manager has decided about a VM on this host: RUN_DIR/.assigned/NAME, a JSON object. Layer: vm.
 * Any thread; file system calls on what should be a tmpfs.
 *
 * Of a VM whose definition says `manager = pacemaker` the manager alone decides whether it runs, stands by, or is
 * down here; this file is what it decided last. It is written before anything is done about it, by whoever carries
 * out the manager's order (`holdfast ocf`), with or without a daemon: one that hangs, or is started anew, finds
 * it and does nothing against it. A reboot forgets it: a file of another boot counts as none.
 *
 * The lock. Who announces a failure to the manager holds it (shared or not is all the same: exclusive) from the look
 * at `place` until the manager has taken the news; who carries out a stop takes it to write NONE, before the manager is
 * told of the end. So no news of a failure reaches the manager after it has ended the resource here: that
 * would be taken for a second instance, and the manager would stop the one that runs elsewhere.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

#define HF_ASSIGNMENT_DIR ".assigned" /* in RUN_DIR, 0700; no VM can have this name */
#define HF_ASSIGNMENT_TEXT_MAX 255 /* of a resource's, an instance's and a node's name */
#define HF_ASSIGNMENT_FILE_MAX 4096 /* a file that is larger is damaged */

enum hf_place_assigned {
	HF_ASSIGNED_NONE, /* the manager has ended it here, or never began it */
	HF_ASSIGNED_STANDBY, /* Unpromoted: a standby; one that has gone live is left alone */
	HF_ASSIGNED_RUN, /* Promoted, or started as a plain resource */
	HF_ASSIGNED_COUNT
};

struct hf_assignment {
	enum hf_place_assigned place;
	char manager[16]; /* "pacemaker" */
	char resource[HF_ASSIGNMENT_TEXT_MAX + 1]; /* "vm1": of the primitive */
	char instance[HF_ASSIGNMENT_TEXT_MAX + 1]; /* "vm1", or "vm1:0" of a clone */
	char node[HF_ASSIGNMENT_TEXT_MAX + 1]; /* this node, as the manager calls it */
	bool is_promotable;
	uint64_t time_ns; /* CLOCK_REALTIME of the order */
};

/* 0; -ENOENT: none of this boot; -EBADMSG with @err: damaged, counts as none for who starts, and as unknown for
 * who announces; other -errno with @err. */
int hf_assignment_read(const char *run_dir, const char *vm, struct hf_assignment *ret,
		       struct hf_err *err) HF_MUST_CHECK;

/* The text of a file that is read under the boot @boot_id. 0; -ENOENT with @err: written under another one; -EBADMSG with
 * @err: what is wrong with it; -ENOMEM. @ret is touched only on success. */
int hf_assignment_parse(const char *text, size_t len, const char *boot_id,
			struct hf_assignment *ret, struct hf_err *err) HF_MUST_CHECK;

/* Replaced as a whole. Makes the folder (0700) if need be. 0; -errno with @err. */
int hf_assignment_write(const char *run_dir, const char *vm, const struct hf_assignment *a,
			struct hf_err *err) HF_MUST_CHECK;

/* RUN_DIR/.assigned/.lock.NAME. Return: a descriptor, to be closed by the caller, which ends the lock; -ETIMEDOUT after
 * @timeout_ms (0: at once) with @err; other -errno. */
int hf_assignment_lock(const char *run_dir, const char *vm, unsigned int timeout_ms,
		       struct hf_err *err) HF_MUST_CHECK;

const char *hf_place_assigned_name(enum hf_place_assigned place); /* "none", "standby", "run" */

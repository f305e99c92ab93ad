/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Freezing this keeper's VM: the driver of core/freeze.h, and the certificate. Layer: keeper. Main
 * thread only; nothing here waits for QEMU, storage or daemon.
 *
 * The role (the primary's driver) is told first, and goes on with nothing that touches the guest. Once
 * the certificate is durable the role hears of it as of the VM's death, and when the role has nothing
 * left to do this process stays as the guard of what was frozen: frozen-side.h.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "codec/certificate.h"
#include "core/freeze.h"
#include "service/worker.h"
#include "vm/checkpoint.h"

struct hf_keeper;
struct hf_varlink_request;

#define HF_FREEZER_WAITERS_MAX 16

struct hf_freezer_why {
	enum hf_vm_cause cause;
	enum hf_vm_severity severity;
	const char *text;
	const char *topology; /* may be NULL */
	bool is_kill_wanted; /* QEMU is not to be kept */
};

struct hf_freezer;

struct hf_freezer_waiter {
	struct hf_freezer *f;
	struct hf_varlink_request *rq; /* NULL: a free place */
};

struct hf_freezer {
	struct hf_keeper *k;
	struct hf_freeze machine;
	struct hf_certificate certificate; /* its lists are the keeper's */
	uint64_t began_ns; /* monotonic */
	struct hf_timer timer;
	struct hf_timer v1_timer;
	struct hf_worker *sync_worker; /* of what is left of the disks' writes */
	struct hf_worker *worker; /* writes one file after the other */
	struct paper *papers; /* what is still to be written */
	struct hf_checkpoint checkpoint; /* of the device state */
	struct hf_timer state_timer; /* to the next attempt */
	unsigned int state_tries;
	struct hf_watch stream_watch, cgroup_watch;
	struct hf_freezer_waiter waiters[HF_FREEZER_WAITERS_MAX];
	struct hf_freeze_event queue[16];
	unsigned int n_queued;
	bool is_stepping;
	bool is_role_quiet;
	bool is_state_due; /* as soon as the role is quiet */
	bool are_disks_due;
	bool is_kept; /* the role has finished: this process only guards now */
	bool is_told; /* the role */
	bool is_amend_due; /* once the memory is in its file */
	bool is_released;
};

/* Begins; a second time it only waits with the first. 0; -EOPNOTSUPP: this role has nothing to freeze;
 * -ENOMEM. */
int hf_freezer_begin(struct hf_keeper *k, const struct hf_freezer_why *why,
		     struct hf_err *err) HF_MUST_CHECK;

/* NULL is not on. */
bool hf_freezer_is_on(const struct hf_freezer *f);
bool hf_freezer_is_certified(const struct hf_freezer *f);

/* @rq is answered when it is certified; told of each step if it wants more. */
void hf_freezer_wait(struct hf_freezer *f, struct hf_varlink_request *rq);

/* What the others of the keeper see happen. All take NULL. */
void hf_freezer_qmp_event(struct hf_freezer *f, const char *name, struct json_object *data);
void hf_freezer_qemu_gone(struct hf_freezer *f);
void hf_freezer_role_is_quiet(struct hf_freezer *f);
void hf_freezer_disks_moved(struct hf_freezer *f);
void hf_freezer_disks_dead(struct hf_freezer *f);

void hf_freezer_offload_ended(struct hf_freezer *f);

/* The role is through: true if this process has to stay for what is frozen, or is being. */
bool hf_freezer_keeps(struct hf_freezer *f);

/* For status. */
struct json_object *hf_freezer_status(const struct hf_freezer *f);

void hf_freezer_free(struct hf_freezer *f);

/* ---- freezer-certificate.c ---- */

/* All that is known at the beginning. */
void hf_freezer_describe(struct hf_freezer *f, const struct hf_freezer_why *why);
/* Step records, what became of QEMU, RAM and lease, as of now. */
void hf_freezer_update(struct hf_freezer *f);

/* ---- between freezer*.c ---- */

void hf_freezer_feed(struct hf_freezer *f, enum hf_freeze_event_kind kind,
		     enum hf_freeze_step step);
/* For the certificate: how a step went. */
void hf_freezer_set_text(struct hf_freezer *f, enum hf_freeze_step step, const char *text);
/* What was seen after the proof is on record. */
void hf_freezer_amended(struct hf_freezer *f);
/* freezer-storage.c: a file, after those that are still to be written. @state: of STATE, taken over.
 * Ends in DONE or FAILED, but for STATE and an amendment. */
void hf_freezer_write_down(struct hf_freezer *f, enum hf_freeze_step step, bool is_amendment,
			   uint8_t *state, size_t len);
void hf_freezer_drop_papers(struct hf_freezer *f);
/* freezer-wait.c: @progress is taken over; NULL: it is certified. */
void hf_freezer_tell_waiters(struct hf_freezer *f, struct json_object *progress);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What somebody asked for and cannot be answered at once. Layer: daemon. Main thread only.
 *
 * A job is the call's, until it is answered or the caller has gone; then most are given up, but never
 * a ballot that may have been decided. While it waits (for this host's lease to be valid, for another
 * job on the same VM, for its turn to look again) it is parked and run again later. Two jobs that
 * change who owns a VM's lease never run at the same time.
 */
#pragma once

#include "daemon/daemon.h"
#include "service/varlink-server.h"

struct hf_job_ops {
	const char *name;
	void (*run)(struct hf_job *j); /* starts its work, parks, or ends; never when cancelled */
	void (*cancelled)(struct hf_job *j); /* ends; NULL: the answer is an error */
	void (*done)(struct hf_job *j, const struct hf_work_result *result);
	void (*look)(struct hf_job *j); /* each 100 ms while work is under way; may be NULL */
	bool is_owning; /* changes who owns the lease */
	bool is_lasting; /* goes on without its caller */
};

struct hf_job {
	struct hf_job *next;
	struct hf_daemon *d;
	const struct hf_job_ops *ops;
	char vm[HF_LEASE_NAME_BYTES + 1];
	struct hf_varlink_request *rq; /* NULL: nobody waits for the answer */
	struct hf_varlink_conn *conn; /* NULL: it has gone, or there was none */
	pid_t pid; /* of the caller */
	struct hf_work *work; /* under way; NULL: parked */
	uint64_t again_ns;
	uint64_t deadline_ns;
	bool is_cancelled;
	bool is_out_of_time;
	char reason[HF_ERR_MAX]; /* why it waits */
	char told[HF_ERR_MAX];

	/* what is asked for */
	uint64_t lver;
	uint64_t tenure;
	uint64_t to, to_generation;
	bool may_create;
	bool is_creating;
	bool is_holder_asked;
	bool is_patient; /* waits for the present owner, not only for the storage */
	bool is_from_held;
	enum hf_lease_force force;
};

extern const struct hf_job_ops hf_job_acquire, hf_job_claim, hf_job_hold, hf_job_release,
	hf_job_transfer, hf_job_prepare, hf_job_await, hf_job_read, hf_job_create, hf_job_request;

/**
 * hf_job_new() - not yet begun: fill in what is asked for, then hf_job_begin()
 * @rq: NULL: nobody waits. On failure @rq has been answered. NULL: too many jobs, or no memory.
 */
struct hf_job *hf_job_new(struct hf_daemon *d, const struct hf_job_ops *ops, const char *vm,
			  struct hf_varlink_request *rq);
void hf_job_begin(struct hf_job *j); /* may end it */

/* ---- for the jobs ---- */

void hf_job_park(struct hf_job *j, uint64_t for_ns, const char *reason);
void hf_job_end(struct hf_job *j);

/* hf_work_start() with this job's callback. A host lease that is not valid parks it; what cannot be
 * started otherwise ends it with an error. False: it has ended. */
bool hf_job_ballot(struct hf_job *j, const struct hf_ballot_want *want);
bool hf_job_look_up(struct hf_job *j); /* hf_work_read() */
/* @r: what hf_work_*() said; the same. */
bool hf_job_started(struct hf_job *j, int r);
void hf_job_on_done(void *ctx, const struct hf_work_result *result); /* hf_work_done */

/* Answer and end. @parameters is taken over. */
void hf_job_succeed(struct hf_job *j, struct json_object *parameters);
__attribute__((format(printf, 3, 4))) void hf_job_fail(struct hf_job *j, const char *error,
						       const char *format, ...);
/* Owned, by this host itself at @lver. */
__attribute__((format(printf, 3, 4))) void hf_job_fail_self(struct hf_job *j, uint64_t lver,
							    const char *format, ...);
/* Owned, Lost: with who it is. */
void hf_job_fail_owner(struct hf_job *j, const char *error, const struct hf_work_result *result);
/* For results that mean the same everywhere: no such lease, damaged, storage. */
void hf_job_fail_result(struct hf_job *j, const struct hf_work_result *result);

/* Give up what can be; it ends later, by its done(). */
void hf_job_cancel(struct hf_job *j);

/* Another job that is changing the ownership of the same VM now. */
struct hf_job *hf_job_other(const struct hf_job *j);
struct hf_job *hf_job_find(const struct hf_daemon *d, const char *vm, const struct hf_job_ops *ops);

/* This host owns it: held by the caller, or an orphan if that has gone. NULL: too many. */
struct hf_held *hf_job_won(struct hf_job *j, const struct hf_work_result *result);

/* ---- for the others ---- */

void hf_jobs_try_again(struct hf_daemon *d); /* what waits for a valid lease may go on */
void hf_jobs_conn_closed(struct hf_daemon *d, const struct hf_varlink_conn *conn);
void hf_jobs_fini(struct hf_daemon *d); /* after the workshop */

/* hf_held_table.ended: nothing of its holder lives any more. */
void hf_jobs_held_ended(void *ctx, struct hf_held *h);
/* Release it, whatever its holder does. */
void hf_jobs_give_back(struct hf_daemon *d, struct hf_held *h);
/* It turned out to be another's. @h is gone afterwards. */
void hf_jobs_lost(struct hf_daemon *d, struct hf_held *h, const char *why);
/* Somebody asks for leases of this host. */
void hf_jobs_look_for_requests(struct hf_daemon *d);

/* Those of an earlier daemon whose processes have ended since: they are given back. */
void hf_jobs_check_orphans(struct hf_daemon *d);
/* After any change of what is held: for the next daemon. */
void hf_jobs_save(struct hf_daemon *d);

/* {lver, generation, tenure} */
struct json_object *hf_jobs_owned(const struct hf_held *h);

#define HF_HOST_INTERFACE "org.holdfast.Host"

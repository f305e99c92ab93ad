/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs by which a lease leaves this host, or nothing changes: release, transfer, prepare, and looks. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "codec/json.h"
#include "daemon/hostview.h"
#include "daemon/jobs.h"
#include "daemon/membership.h"

#define TURN_NS 100000000ull
#define RETRY_NS 1000000000ull
#define STORAGE_NS 10000000000ull

static struct json_object *about(const struct hf_job *j, uint64_t lver)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(j->vm));
	json_object_object_add(o, "lver", json_object_new_uint64(lver));
	return o;
}

/* ---- release ---- */

static void release_run(struct hf_job *j)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);
	struct hf_ballot_want want = { .op = HF_BALLOT_RELEASE };

	if (!h) { /* lost in the meantime */
		hf_job_succeed(j, NULL);
		return;
	}
	h->is_ending = true;
	if (hf_job_other(j)) {
		hf_job_park(j, TURN_NS, "another operation on it is under way");
		return;
	}
	if (j->d->status.state == HF_HOST_LOST) { /* nothing of this host's is its own any more */
		hf_jobs_lost(j->d, h, "this host has lost its place");
		hf_job_succeed(j, NULL);
		return;
	}
	want.lver = h->lver;
	(void)hf_job_ballot(j, &want);
}

static void release_done(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);
	bool is_free = result->r == 0 && (result->result == HF_BALLOT_RELEASED ||
					  result->result == HF_BALLOT_NOT_OWNER);

	if (result->r == -ESHUTDOWN || result->r == -ECANCELED) {
		hf_job_park(j, TURN_NS, "this host's lease is not valid");
		return;
	}
	if (h && is_free)
		hf_event(&j->d->journal, "lease-released", about(j, h->lver),
			 "this host has released '%s'", j->vm);
	if (h)
		hf_held_remove(h);
	hf_jobs_save(j->d);
	if (is_free)
		hf_job_succeed(j, NULL);
	else
		hf_job_fail_result(j, result);
}

const struct hf_job_ops hf_job_release = { .name = "release",
					   .run = release_run,
					   .done = release_done,
					   .is_owning = true,
					   .is_lasting = true };

/* ---- transfer ---- */

static bool is_receiver_there(struct hf_job *j)
{
	if (j->to == j->d->conf.id)
		hf_job_fail(j, "NotPossible", "host %d is this host", (int)j->to);
	else if (!hf_membership_is_member(j->d, j->to, j->to_generation))
		hf_job_fail(j, "NotPossible",
			    "host %d is not a living member in generation %llu: has `holdfast "
			    "lease await` been started there just now?",
			    (int)j->to, (unsigned long long)j->to_generation);
	else
		return true;
	return false;
}

static void transfer_ballot(struct hf_job *j)
{
	const struct hf_ballot_want want = { .op = HF_BALLOT_TRANSFER,
					     .lver = j->lver,
					     .to = j->to,
					     .to_generation = j->to_generation };

	(void)hf_job_ballot(j, &want);
}

/* It was not ended for somebody who has gone: then it is released, as if nobody had asked. */
static void transfer_given_up(struct hf_job *j)
{
	struct hf_daemon *d = j->d;
	struct hf_held *h = hf_held_find(&d->held, j->vm);
	bool is_to_release = h && h->is_ending && !h->conn && j->is_from_held;
	char vm[HF_LEASE_NAME_BYTES + 1];

	(void)snprintf(vm, sizeof(vm), "%s", j->vm);
	if (j->rq)
		hf_job_fail(j, "NotPossible", "cancelled");
	else
		hf_job_end(j);
	if (!is_to_release)
		return;
	j = hf_job_new(d, &hf_job_release, vm, NULL);
	if (j)
		hf_job_begin(j);
}

static void ask_holder(struct hf_job *j, struct hf_held *h)
{
	if (!j->is_from_held) {
		hf_job_fail(j, "NotPossible",
			    "'%s' is held by process %d: end it first, or let it be asked to "
			    "(--from-held)",
			    j->vm, (int)h->holder);
		return;
	}
	if (!j->is_holder_asked) { /* once */
		struct json_object *o = about(j, h->lver);

		json_object_object_add(o, "to", json_object_new_uint64(j->to));
		hf_event(&j->d->journal, "lease-requested", o,
			 "'%s' is to go to host %d: what holds it is asked to end", j->vm,
			 (int)j->to);
		hf_held_signal(h, SIGTERM, /* is_to_all= */ false);
	}
	j->is_holder_asked = true;
	hf_job_park(j, TURN_NS, "its holder has been asked to end");
}

static void transfer_run(struct hf_job *j)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);

	if (!is_receiver_there(j))
		return;
	if (h && h->conn != j->conn && !(h->is_ending && !h->conn)) {
		ask_holder(j, h);
	} else if (hf_job_other(j)) {
		hf_job_park(j, TURN_NS, "another operation on it is under way");
	} else if (!h) {
		(void)hf_job_look_up(j); /* nobody holds it, but it may be this host's */
	} else if (j->lver && j->lver != h->lver) {
		hf_job_fail(j, "NotPossible", "the tenure of '%s' is %llu", j->vm,
			    (unsigned long long)h->lver);
	} else {
		j->lver = h->lver;
		h->is_ending = true;
		transfer_ballot(j);
	}
}

static void transfer_looked_up(struct hf_job *j, const struct hf_work_result *result)
{
	if (result->r != 0) {
		hf_job_fail_result(j, result);
	} else if (result->timestamp_s == 0) {
		hf_job_fail(j, "NotPossible", "nobody owns '%s': it can be acquired there", j->vm);
	} else if (result->owner != j->d->conf.id ||
		   result->generation != j->d->status.generation) {
		hf_job_fail_owner(j, "Owned", result);
	} else {
		j->lver = result->lver;
		transfer_ballot(j);
	}
}

static void transfer_over(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);
	bool is_given = result->result == HF_BALLOT_GIVEN;
	struct json_object *o = hf_hostview_owner(j->d, result);

	if (h && is_given)
		hf_event(&j->d->journal, "lease-given", about(j, result->lver),
			 "'%s' now belongs to host %s (%d)", j->vm,
			 hf_membership_host_name(j->d, j->to), (int)j->to);
	if (h && is_given)
		hf_held_remove(h);
	else if (h)
		hf_jobs_lost(j->d, h, "it was taken over before it could be given away");
	hf_jobs_save(j->d);
	json_object_object_add(o, "state", json_object_new_string(is_given ? "given" : "lost"));
	hf_job_succeed(j, o);
}

/* What was chosen is an earlier try of this very host to own it. */
static bool is_still_ours(const struct hf_job *j, const struct hf_held *h,
			  const struct hf_work_result *result)
{
	return h && result->r == 0 && result->result == HF_BALLOT_LOST &&
	       result->owner == j->d->conf.id && result->generation == j->d->status.generation;
}

static void transfer_kept(struct hf_job *j, struct hf_held *h, uint64_t lver)
{
	h->lver = lver;
	h->is_ending = false;
	hf_jobs_save(j->d);
	hf_job_fail(j, "NotPossible", "'%s' is still this host's, at tenure %llu: try again", j->vm,
		    (unsigned long long)lver);
}

static void transfer_done(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);

	if (j->lver == 0) {
		transfer_looked_up(j, result);
		return;
	}
	if (is_still_ours(j, h, result) && h->conn) {
		transfer_kept(j, h, result->lver);
		return;
	}
	if (result->r == 0 &&
	    (result->result == HF_BALLOT_GIVEN || result->result == HF_BALLOT_LOST ||
	     result->result == HF_BALLOT_NOT_OWNER)) {
		transfer_over(j, result);
		return;
	}
	if (h && h->conn) /* still its holder's */
		h->is_ending = false;
	if (h && !h->conn) {
		j->is_from_held = true;
		transfer_given_up(j);
	} else {
		hf_job_fail_result(j, result);
	}
}

const struct hf_job_ops hf_job_transfer = { .name = "transfer",
					    .run = transfer_run,
					    .done = transfer_done,
					    .cancelled = transfer_given_up,
					    .is_owning = true };

/* ---- prepare: before being given one ---- */

static void prepare_run(struct hf_job *j)
{
	const struct hf_ballot_want want = { .op = HF_BALLOT_PREPARE };

	if (hf_now_ns() >= j->deadline_ns && !hf_membership_is_valid(j->d))
		hf_job_fail(j, "NotMember", "%s",
			    hf_membership_reason(j->d, j->reason, sizeof(j->reason)));
	else
		(void)hf_job_ballot(j, &want);
}

static void prepare_done(struct hf_job *j, const struct hf_work_result *result)
{
	struct json_object *o;

	if (result->r != 0 || result->result != HF_BALLOT_PREPARED) {
		hf_job_fail_result(j, result);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "host_id", json_object_new_uint64(j->d->conf.id));
	json_object_object_add(o, "generation", json_object_new_uint64(j->d->status.generation));
	json_object_object_add(o, "tenure", json_object_new_uint64(result->tenure));
	hf_job_succeed(j, o);
}

static void give_up_late(struct hf_job *j)
{
	if (hf_now_ns() < j->deadline_ns + STORAGE_NS)
		return;
	(void)snprintf(j->reason, sizeof(j->reason), "%s",
		       hf_work_trouble(j->work)[0] ? hf_work_trouble(j->work)
						   : "the lease storage does not answer");
	j->is_out_of_time = true;
	hf_job_cancel(j);
}

const struct hf_job_ops hf_job_prepare = { .name = "prepare",
					   .run = prepare_run,
					   .done = prepare_done,
					   .look = give_up_late,
					   .is_owning = true };

/* ---- looks, and what changes no owner ---- */

static void read_run(struct hf_job *j)
{
	if (!j->d->workshop)
		hf_job_fail(j, "NoStorage", "%s",
			    hf_membership_reason(j->d, j->reason, sizeof(j->reason)));
	else
		(void)hf_job_look_up(j);
}

static void read_done(struct hf_job *j, const struct hf_work_result *result)
{
	struct json_object *o;

	if (result->r != 0) {
		hf_job_fail_result(j, result);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "lease", hf_hostview_lease(j->d, j->vm, result));
	hf_job_succeed(j, o);
}

const struct hf_job_ops hf_job_read = {
	.name = "read", .run = read_run, .done = read_done, .look = give_up_late
};

static void create_run(struct hf_job *j)
{
	int r = j->d->workshop ? hf_work_create(j->d->workshop, j->vm, hf_job_on_done, j, &j->work)
			       : -ESHUTDOWN;

	if (r == -ESHUTDOWN && hf_now_ns() >= j->deadline_ns)
		hf_job_fail(j, "NotMember", "%s",
			    hf_membership_reason(j->d, j->reason, sizeof(j->reason)));
	else
		(void)hf_job_started(j, r);
}

static void create_done(struct hf_job *j, const struct hf_work_result *result)
{
	if (result->r == 0)
		hf_job_succeed(j, NULL);
	else
		hf_job_fail_result(j, result);
}

const struct hf_job_ops hf_job_create = {
	.name = "create", .run = create_run, .done = create_done, .look = give_up_late
};

static void request_run(struct hf_job *j)
{
	struct hf_lease_ref ref = { .offset = 0 };
	int r = -ESHUTDOWN;

	(void)snprintf(ref.name, sizeof(ref.name), "%s", j->vm);
	if (hf_membership_is_valid(j->d))
		r = hf_work_request(j->d->workshop, &ref, j->force, hf_job_on_done, j, &j->work);
	if (r == -ESHUTDOWN && hf_now_ns() >= j->deadline_ns)
		hf_job_fail(j, "NotMember", "%s",
			    hf_membership_reason(j->d, j->reason, sizeof(j->reason)));
	else
		(void)hf_job_started(j, r);
}

static void request_done(struct hf_job *j, const struct hf_work_result *result)
{
	if (result->r != 0)
		hf_job_fail_result(j, result);
	else if (result->timestamp_s == 0)
		hf_job_fail(j, "NotPossible", "nobody owns '%s'", j->vm);
	else
		hf_job_succeed(j, hf_hostview_owner(j->d, result));
}

const struct hf_job_ops hf_job_request = {
	.name = "request", .run = request_run, .done = request_done, .look = give_up_late
};

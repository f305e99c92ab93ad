/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs by which this host becomes, or stays, the owner: acquire, claim, hold, await. */
#include <errno.h>
#include <string.h>

#include "codec/json.h"
#include "daemon/hostview.h"
#include "daemon/jobs.h"
#include "daemon/membership.h"

#define MS 1000000ull
#define SECOND 1000000000ull
#define TURN_NS (100 * MS)
#define AWAIT_NS (4 * MS) /* it is the downtime of a migration; one sector is read each time */
#define DAMAGED_NS SECOND
/* An operation that needs nothing but the storage: what has not ended by then is told. */
#define STORAGE_NS (10 * SECOND)

static bool is_over(const struct hf_job *j)
{
	return hf_now_ns() >= j->deadline_ns;
}

/* ---- acquire ---- */

static void acquire_out_of_time(struct hf_job *j)
{
	if (hf_membership_is_valid(j->d))
		hf_job_fail(j, "NoStorage", "%s",
			    j->reason[0] ? j->reason : "the lease storage does not answer");
	else
		hf_job_fail(j, "NotMember", "%s", j->reason);
}

/* True: it has been answered, or waits. */
static bool is_held_here(struct hf_job *j, struct hf_held *h)
{
	if (!h || (j->conn && h->conn == j->conn && !h->is_ending))
		return false;
	if (!h->conn && h->is_expected)
		return false;
	if (!is_over(j) && (j->is_patient || h->is_ending)) {
		hf_job_park(j, TURN_NS, "it is held on this host");
		return true;
	}
	if (h->conn)
		hf_job_fail_self(j, h->lver, "'%s' is held on this host, by process %d", j->vm,
				 (int)h->holder);
	else
		hf_job_fail_self(j, h->lver,
				 "'%s' was held on this host by process %d; %u of its processes "
				 "have not ended yet",
				 j->vm, (int)h->holder, hf_held_alive(h));
	return true;
}

static void acquire_ballot(struct hf_job *j)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE, .lver = j->lver };
	uint64_t now_ns = hf_now_ns();

	if (j->is_patient && j->deadline_ns > now_ns)
		want.patience_ms = (uint32_t)((j->deadline_ns - now_ns) / MS);
	(void)hf_job_ballot(j, &want);
}

static void acquire_create(struct hf_job *j)
{
	int r = j->d->workshop && !j->d->is_ending
			? hf_work_create(j->d->workshop, j->vm, hf_job_on_done, j, &j->work)
			: -ESHUTDOWN;

	j->is_creating = true;
	(void)hf_job_started(j, r);
}

static void acquire_run(struct hf_job *j)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);

	if (is_held_here(j, h))
		return;
	if (h) { /* the caller's already, or it was taken over for it */
		hf_held_attach(h, j->conn, j->pid);
		hf_job_succeed(j, hf_jobs_owned(h));
		return;
	}
	if (hf_job_other(j)) {
		hf_job_park(j, TURN_NS, "another operation on it is under way");
		return;
	}
	if (!hf_membership_is_valid(j->d) && is_over(j)) {
		(void)hf_membership_reason(j->d, j->reason, sizeof(j->reason));
		acquire_out_of_time(j);
		return;
	}
	if (j->is_creating)
		acquire_create(j);
	else
		acquire_ballot(j);
}

static void acquire_won(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_job_won(j, result);

	if (!h) {
		hf_job_fail(j, "NotPossible", "too many leases are held");
		return;
	}
	if (!j->rq) { /* nobody was told */
		struct hf_daemon *d = j->d;

		hf_job_end(j);
		hf_jobs_give_back(d, h);
		return;
	}
	hf_job_succeed(j, hf_jobs_owned(h));
}

static void acquire_created(struct hf_job *j, const struct hf_work_result *result)
{
	j->is_creating = false;
	if (result->r == 0)
		acquire_ballot(j);
	else if (result->r == -ESHUTDOWN && !is_over(j))
		hf_job_park(j, TURN_NS, result->error.text);
	else
		hf_job_fail_result(j, result);
}

static void acquire_owned(struct hf_job *j, const struct hf_work_result *result)
{
	if (result->result == HF_BALLOT_LOST && j->is_patient && !is_over(j))
		hf_job_park(j, TURN_NS, "another host was faster");
	else
		hf_job_fail_owner(j, "Owned", result);
}

static void acquire_decided(struct hf_job *j, const struct hf_work_result *result)
{
	switch ((unsigned int)result->result) { /* what cannot come is the default */
	case HF_BALLOT_WON:
		acquire_won(j, result);
		break;
	case HF_BALLOT_OWNED:
	case HF_BALLOT_LOST:
		acquire_owned(j, result);
		break;
	case HF_BALLOT_MOVED_ON:
		hf_job_fail(j, "NotPossible", "'%s' has been owned anew since: its tenure is %llu",
			    j->vm, (unsigned long long)result->lver);
		break;
	default:
		hf_job_fail_result(j, result);
	}
}

static void acquire_done(struct hf_job *j, const struct hf_work_result *result)
{
	if (j->is_creating)
		acquire_created(j, result);
	else if (result->r == -ENOENT && j->may_create)
		acquire_create(j);
	else if (result->r == -ESHUTDOWN && !is_over(j))
		hf_job_park(j, TURN_NS, "this host's lease is not valid");
	else if (result->r != 0)
		hf_job_fail_result(j, result);
	else
		acquire_decided(j, result);
}

/* The owner's death is waited for by the ballot itself; only the storage is given a limit here. */
static void acquire_look(struct hf_job *j)
{
	if (hf_now_ns() < j->deadline_ns + STORAGE_NS)
		return;
	(void)snprintf(j->reason, sizeof(j->reason), "%s",
		       hf_work_trouble(j->work)[0] ? hf_work_trouble(j->work)
						   : "the lease storage does not answer");
	j->is_out_of_time = true;
	hf_job_cancel(j);
}

const struct hf_job_ops hf_job_acquire = { .name = "acquire",
					   .run = acquire_run,
					   .done = acquire_done,
					   .look = acquire_look,
					   .is_owning = true };

/* ---- claim ---- */

static struct json_object *claim_state(const char *state)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "state", json_object_new_string(state));
	return o;
}

static void tell_pending(struct hf_job *j)
{
	struct json_object *o;

	if (!j->rq || strcmp(j->told, j->reason) == 0)
		return;
	(void)snprintf(j->told, sizeof(j->told), "%s", j->reason);
	o = claim_state("pending");
	json_object_object_add(o, "reason", json_object_new_string(j->reason));
	hf_varlink_continue(j->rq, o);
}

static void claim_cancelled(struct hf_job *j)
{
	hf_job_succeed(j, claim_state("cancelled"));
}

/* Nothing of this host's can be claimed again; what was held has to end before it joins anew. */
static void claim_lost_place(struct hf_job *j, struct hf_held *h)
{
	struct json_object *o = claim_state("lost");

	(void)hf_membership_reason(j->d, j->reason, sizeof(j->reason));
	json_object_object_add(o, "reason", json_object_new_string(j->reason));
	hf_jobs_lost(j->d, h, j->reason);
	hf_job_succeed(j, o);
}

static void claim_run(struct hf_job *j)
{
	const struct hf_ballot_want want = { .op = HF_BALLOT_CLAIM, .lver = j->lver };
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);

	if (h && h->conn && h->conn != j->conn) {
		hf_job_fail(j, "NotPossible", "'%s' is held on this host, by process %d", j->vm,
			    (int)h->holder);
		return;
	}
	if (h && j->d->status.state == HF_HOST_LOST) {
		claim_lost_place(j, h);
		return;
	}
	if (hf_job_other(j) || (h && h->is_ending))
		hf_job_park(j, TURN_NS, "another operation on it is under way");
	else if (!hf_job_ballot(j, &want))
		return;
	tell_pending(j);
}

static void claim_won(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_job_won(j, result);
	struct json_object *o;

	if (!h) {
		hf_job_fail(j, "NotPossible", "too many leases are held");
		return;
	}
	o = hf_jobs_owned(h);
	json_object_object_add(o, "state", json_object_new_string("won"));
	if (j->rq) {
		hf_job_succeed(j, o);
		return;
	}
	json_object_put(o);
	hf_job_end(j);
	if (!h->conn)
		hf_held_orphan(h);
}

static void claim_lost(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);
	struct json_object *o = hf_hostview_owner(j->d, result);
	char why[128];

	(void)snprintf(why, sizeof(why), "host %s (%d) has won its lease",
		       hf_membership_host_name(j->d, result->owner), (int)result->owner);
	if (h && h->lver <= result->lver)
		hf_jobs_lost(j->d, h, why);
	json_object_object_add(o, "state", json_object_new_string("lost"));
	hf_job_succeed(j, o);
}

static void claim_waits(struct hf_job *j, uint64_t for_ns, const char *reason)
{
	hf_job_park(j, for_ns, reason);
	tell_pending(j);
}

static void claim_decided(struct hf_job *j, const struct hf_work_result *result)
{
	bool is_own = result->owner == j->d->conf.id &&
		      result->generation == j->d->status.generation;

	switch ((unsigned int)result->result) { /* what cannot come is the default */
	case HF_BALLOT_WON:
		claim_won(j, result);
		break;
	case HF_BALLOT_LOST:
		if (!is_own) {
			claim_lost(j, result);
			break;
		}
		/* Won before, by a claim whose answer was not heard: now for this tenure. */
		j->lver = result->lver;
		hf_job_park(j, 0, "");
		break;
	case HF_BALLOT_CANCELLED:
		claim_cancelled(j);
		break;
	case HF_BALLOT_DAMAGED:
		claim_waits(j, DAMAGED_NS, "the lease is damaged: a checksum is wrong");
		break;
	default:
		hf_job_fail_result(j, result);
	}
}

static void claim_done(struct hf_job *j, const struct hf_work_result *result)
{
	if (result->r == 0)
		claim_decided(j, result);
	else if (result->r == -ECANCELED)
		claim_cancelled(j);
	else if (result->r == -ESHUTDOWN)
		claim_waits(j, TURN_NS, "this host's lease is not valid");
	else if (result->r == -EBADMSG)
		claim_waits(j, DAMAGED_NS, result->error.text);
	else
		hf_job_fail_result(j, result);
}

static void claim_look(struct hf_job *j)
{
	const char *trouble = hf_work_trouble(j->work);
	uint64_t since_ns = hf_work_stuck_since_ns(j->work);

	if (trouble[0])
		(void)snprintf(j->reason, sizeof(j->reason), "%s", trouble);
	else if (since_ns && hf_now_ns() - since_ns > SECOND)
		(void)snprintf(j->reason, sizeof(j->reason), "the lease storage does not answer");
	else
		return;
	tell_pending(j);
}

const struct hf_job_ops hf_job_claim = { .name = "claim",
					 .run = claim_run,
					 .done = claim_done,
					 .look = claim_look,
					 .cancelled = claim_cancelled,
					 .is_owning = true };

/* ---- hold: what we own is not known any more, since we were restarted ---- */

/* In the meantime it stands among what is held, so that other calls of its holder find it. */
static void hold_run(struct hf_job *j)
{
	if (hf_membership_is_valid(j->d))
		(void)hf_job_look_up(j);
	else
		hf_job_park(j, TURN_NS, "this host's lease is not valid");
}

static void hold_done(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);
	char why[128];

	if (!h || h->conn != j->conn) { /* claimed, released or lost since */
		hf_job_fail(j, "NotPossible", "'%s' is not held by this connection any more",
			    j->vm);
		return;
	}
	if (result->r == -ENOENT) {
		hf_held_remove(h);
		hf_jobs_save(j->d);
	}
	if (result->r == -ENOENT || result->r == -ECANCELED) {
		hf_job_fail_result(j, result);
		return;
	}
	if (result->r != 0) {
		hf_job_park(j, SECOND / 2, result->error.text);
		return;
	}
	if (result->owner == j->d->conf.id && result->generation == j->d->status.generation &&
	    result->timestamp_s != 0) {
		h->generation = result->generation;
		h->lver = result->lver > h->lver ? result->lver : h->lver;
		h->is_unverified = false;
		hf_jobs_save(j->d);
		hf_job_succeed(j, hf_jobs_owned(h));
		return;
	}
	(void)snprintf(why, sizeof(why), "host %s (%d) owns its lease",
		       hf_membership_host_name(j->d, result->owner), (int)result->owner);
	hf_jobs_lost(j->d, h, why);
	hf_job_fail_owner(j, "Lost", result);
}

const struct hf_job_ops hf_job_hold = { .name = "hold", .run = hold_run, .done = hold_done };

/* ---- await: until we have been given it ---- */

static void await_run(struct hf_job *j)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);

	if (j->tenure == 0 && hf_membership_is_valid(j->d))
		j->tenure = j->d->status.tenure;
	if (h)
		hf_job_fail(j, "NotPossible", "'%s' is held on this host, by process %d", j->vm,
			    (int)h->holder);
	else if (is_over(j))
		hf_job_fail(j, "TimedOut", "'%s' was not given to this host%s%s", j->vm,
			    j->reason[0] ? ": " : "", j->reason);
	else if (j->tenure == 0)
		hf_job_park(j, AWAIT_NS, "this host's lease is not valid");
	else
		(void)hf_job_look_up(j);
}

static void await_done(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_work_result won = *result;
	bool is_own = result->owner == j->d->conf.id &&
		      result->generation == j->d->status.generation && result->timestamp_s != 0;

	if (result->r == -ENOENT || result->r == -EBADMSG || result->r == -ECANCELED) {
		hf_job_fail_result(j, result);
	} else if (result->r != 0 || hf_held_find(&j->d->held, j->vm)) {
		hf_job_park(j, TURN_NS, result->error.text);
	} else if (is_own && result->lver > j->lver) {
		won.tenure = j->tenure;
		acquire_won(j, &won);
	} else if (j->lver && result->lver > j->lver) {
		hf_job_fail_owner(j, "Lost", result);
	} else {
		hf_job_park(j, AWAIT_NS, "");
	}
}

const struct hf_job_ops hf_job_await = { .name = "await", .run = await_run, .done = await_done };

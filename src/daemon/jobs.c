/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all jobs have in common; what they do is in jobs-own.c and jobs-give.c. */
#include "daemon/jobs.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/heldfile.h"
#include "daemon/hostview.h"
#include "daemon/membership.h"
#include "daemon/survey.h"

#define JOBS_MAX 1024
#define READS_MAX (JOBS_MAX / 2) /* who only looks leaves room */
#define LOOK_NS 100000000ull

static void on_time(void *ctx);

static void arm(struct hf_daemon *d)
{
	uint64_t at_ns = UINT64_MAX;

	for (const struct hf_job *j = d->jobs; j; j = j->next)
		at_ns = j->again_ns < at_ns ? j->again_ns : at_ns;
	hf_timer_set(&d->job_timer, &d->loop, at_ns, on_time, d);
}

static struct hf_job *find_due(const struct hf_daemon *d, uint64_t now_ns)
{
	struct hf_job *j = d->jobs;

	while (j && j->again_ns > now_ns)
		j = j->next;
	return j;
}

static void run(struct hf_job *j)
{
	if (!j->is_cancelled || j->ops->is_lasting)
		j->ops->run(j);
	else if (j->ops->cancelled)
		j->ops->cancelled(j);
	else if (j->rq)
		hf_job_fail(j, "NotPossible", "cancelled");
	else
		hf_job_end(j);
}

/* Each one that is due gets a later time, or ends. */
static void on_time(void *ctx)
{
	struct hf_daemon *d = ctx;
	uint64_t now_ns = hf_now_ns();
	struct hf_job *j;

	while ((j = find_due(d, now_ns))) {
		j->again_ns = now_ns + LOOK_NS;
		if (!j->work)
			run(j);
		else if (j->ops->look)
			j->ops->look(j);
	}
	arm(d);
}

static void on_caller_gone(void *data)
{
	struct hf_job *j = data;

	j->rq = NULL;
	j->conn = NULL;
	if (!j->ops->is_lasting)
		hf_job_cancel(j);
}

struct hf_job *hf_job_new(struct hf_daemon *d, const struct hf_job_ops *ops, const char *vm,
			  struct hf_varlink_request *rq)
{
	unsigned int max = ops == &hf_job_read ? READS_MAX : JOBS_MAX;
	struct hf_job **at = &d->jobs;
	struct hf_job *j = NULL;
	unsigned int n = 0;

	for (; *at; at = &(*at)->next)
		n++;
	if (n < max && !d->is_ending)
		j = calloc(1, sizeof(*j));
	if (!j) {
		if (rq)
			hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NotPossible",
					  d->is_ending ? "holdfastd is ending"
						       : "too much is under way");
		return NULL;
	}
	*j = (struct hf_job){
		.d = d, .ops = ops, .rq = rq, .again_ns = UINT64_MAX, .deadline_ns = UINT64_MAX
	};
	(void)snprintf(j->vm, sizeof(j->vm), "%s", vm);
	if (rq) {
		j->conn = hf_varlink_request_conn(rq);
		j->pid = hf_varlink_conn_pid(j->conn);
		hf_varlink_request_watch(rq, on_caller_gone, j);
	}
	*at = j; /* the oldest first */
	return j;
}

void hf_job_begin(struct hf_job *j)
{
	struct hf_daemon *d = j->d;

	j->again_ns = hf_now_ns() + LOOK_NS;
	run(j);
	arm(d);
}

void hf_job_end(struct hf_job *j)
{
	struct hf_daemon *d = j->d;
	struct hf_job **at = &d->jobs;

	assert(!j->rq && !j->work);
	while (*at != j)
		at = &(*at)->next;
	*at = j->next;
	/* Those that waited for it look again. */
	for (struct hf_job *other = d->jobs; other; other = other->next)
		if (!other->work && strcmp(other->vm, j->vm) == 0)
			other->again_ns = 0;
	free(j);
	arm(d);
}

void hf_job_park(struct hf_job *j, uint64_t for_ns, const char *reason)
{
	assert(!j->work);
	j->again_ns = j->is_cancelled ? 0 : hf_now_ns() + for_ns;
	(void)snprintf(j->reason, sizeof(j->reason), "%s", reason);
	arm(j->d);
}

/* ---- work ---- */

void hf_job_on_done(void *ctx, const struct hf_work_result *result)
{
	struct hf_job *j = ctx;

	j->work = NULL;
	j->again_ns = hf_now_ns() + LOOK_NS;
	j->ops->done(j, result);
}

bool hf_job_started(struct hf_job *j, int r)
{
	char reason[HF_ERR_MAX];

	if (r == 0) {
		j->reason[0] = '\0';
		return true;
	}
	j->work = NULL;
	if (r == -ESHUTDOWN || r == -EBUSY) {
		hf_job_park(j, LOOK_NS,
			    r == -EBUSY ? "too many operations are waiting for the storage"
					: hf_membership_reason(j->d, reason, sizeof(reason)));
		return true;
	}
	hf_job_fail(j, "NotPossible", "cannot look at the lease '%s': %s", j->vm, strerror(-r));
	return false;
}

static int no_workshop(const struct hf_job *j)
{
	return j->d->workshop && !j->d->is_ending ? 0 : -ESHUTDOWN;
}

bool hf_job_ballot(struct hf_job *j, const struct hf_ballot_want *want)
{
	struct hf_lease_ref ref = { .offset = 0 };
	int r = no_workshop(j);

	(void)snprintf(ref.name, sizeof(ref.name), "%s", j->vm);
	if (!r)
		r = hf_work_start(j->d->workshop, &ref, want, hf_job_on_done, j, &j->work);
	return hf_job_started(j, r);
}

bool hf_job_look_up(struct hf_job *j)
{
	struct hf_lease_ref ref = { .offset = 0 };
	int r = no_workshop(j);

	(void)snprintf(ref.name, sizeof(ref.name), "%s", j->vm);
	if (!r)
		r = hf_work_read(j->d->workshop, &ref, hf_job_on_done, j, &j->work);
	return hf_job_started(j, r);
}

void hf_job_cancel(struct hf_job *j)
{
	if (j->is_cancelled)
		return;
	j->is_cancelled = true;
	if (j->work)
		hf_work_cancel(j->work);
	else
		j->again_ns = 0; /* it ends when it is run */
	arm(j->d);
}

struct hf_job *hf_job_find(const struct hf_daemon *d, const char *vm, const struct hf_job_ops *ops)
{
	struct hf_job *j = d->jobs;

	while (j && (j->ops != ops || strcmp(j->vm, vm) != 0))
		j = j->next;
	return j;
}

struct hf_job *hf_job_other(const struct hf_job *j)
{
	for (struct hf_job *o = j->d->jobs; o; o = o->next)
		if (o != j && o->work && o->ops->is_owning && strcmp(o->vm, j->vm) == 0)
			return o;
	return NULL;
}

/* ---- answers ---- */

void hf_job_succeed(struct hf_job *j, struct json_object *parameters)
{
	struct hf_varlink_request *rq = j->rq;

	j->rq = NULL;
	if (rq)
		hf_varlink_done(rq, parameters);
	else
		json_object_put(parameters);
	hf_job_end(j);
}

static void fail_with(struct hf_job *j, const char *error, struct json_object *parameters)
{
	struct hf_varlink_request *rq = j->rq;
	char name[64];

	(void)snprintf(name, sizeof(name), HF_HOST_INTERFACE ".%s", error);
	j->rq = NULL;
	if (rq)
		hf_varlink_error(rq, name, parameters);
	else
		json_object_put(parameters);
	hf_job_end(j);
}

void hf_job_fail(struct hf_job *j, const char *error, const char *format, ...)
{
	struct json_object *o = json_object_new_object();
	char reason[HF_ERR_MAX];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(reason, sizeof(reason), format, ap);
	va_end(ap);
	json_object_object_add(o, "reason", json_object_new_string(reason));
	if (!j->rq)
		hf_log(&j->d->journal, HF_LOG_ERROR, "%s of '%s': %s", j->ops->name, j->vm, reason);
	fail_with(j, error, o);
}

void hf_job_fail_self(struct hf_job *j, uint64_t lver, const char *format, ...)
{
	struct json_object *o = hf_hostview_self(j->d, lver);
	char reason[HF_ERR_MAX];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(reason, sizeof(reason), format, ap);
	va_end(ap);
	json_object_object_add(o, "reason", json_object_new_string(reason));
	fail_with(j, "Owned", o);
}

void hf_job_fail_owner(struct hf_job *j, const char *error, const struct hf_work_result *result)
{
	struct json_object *o = hf_hostview_owner(j->d, result);
	char reason[HF_ERR_MAX];

	(void)snprintf(
		reason, sizeof(reason), "'%s' is owned by host %s (%d), which is %s", j->vm,
		hf_membership_host_name(j->d, result->owner), (int)result->owner,
		hf_lease_life_name(hf_membership_life(j->d, result->owner, result->generation)));
	json_object_object_add(o, "reason", json_object_new_string(reason));
	fail_with(j, error, o);
}

void hf_job_fail_result(struct hf_job *j, const struct hf_work_result *result)
{
	const char *why = result->error.text;
	char reason[HF_ERR_MAX];

	if (result->r == -ENOENT)
		hf_job_fail(j, "NoLease",
			    "there is no lease '%s' in %s ('holdfast lease create' makes one)",
			    j->vm, j->d->conf.area);
	else if (result->r == -EBADMSG || (!result->r && result->result == HF_BALLOT_DAMAGED))
		hf_job_fail(j, "NoLease", "the lease '%s' is damaged: %s", j->vm,
			    why[0] ? why : "a checksum is wrong");
	else if (result->r == -ESHUTDOWN)
		hf_job_fail(j, "NotMember", "%s",
			    hf_membership_reason(j->d, reason, sizeof(reason)));
	else if (result->r == -ECANCELED || (!result->r && result->result == HF_BALLOT_CANCELLED))
		hf_job_fail(j, j->is_out_of_time ? "NoStorage" : "NotPossible", "%s",
			    j->is_out_of_time ? j->reason : "cancelled");
	else if (!result->r && result->result == HF_BALLOT_NO_SLOT)
		hf_job_fail(j, "NotPossible", "the lease '%s' has no room for host id %d", j->vm,
			    (int)j->d->conf.id);
	else if (result->r == -ENOSPC || result->r == -EBUSY || result->r == -EINVAL)
		hf_job_fail(j, "NotPossible", "%s", why[0] ? why : strerror(-result->r));
	else
		hf_job_fail(j, "NoStorage", "%s",
			    why[0]      ? why
			    : result->r ? strerror(-result->r)
					: hf_ballot_result_text(result->result));
}

struct json_object *hf_jobs_owned(const struct hf_held *h)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "lver", json_object_new_uint64(h->lver));
	json_object_object_add(o, "generation", json_object_new_uint64(h->generation));
	json_object_object_add(o, "tenure", json_object_new_uint64(h->tenure));
	return o;
}

/* ---- what is held ---- */

static struct json_object *about_lease(const char *vm, uint64_t lver)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(vm));
	json_object_object_add(o, "lver", json_object_new_uint64(lver));
	return o;
}

void hf_jobs_save(struct hf_daemon *d)
{
	int r = hf_heldfile_save(&d->held, d->rundir.path);

	if (r < 0)
		hf_log(&d->journal, HF_LOG_ERROR, "cannot write down what is held: %s",
		       strerror(-r));
}

struct hf_held *hf_job_won(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_held *h = hf_held_find(&j->d->held, j->vm);

	if (!h)
		h = hf_held_add(&j->d->held, j->vm, j->conn, j->pid);
	else if (j->conn && h->conn != j->conn)
		hf_held_attach(h, j->conn, j->pid);
	if (!h)
		return NULL;
	h->lver = result->lver;
	h->generation = result->generation;
	h->tenure = result->tenure;
	h->is_unverified = false;
	hf_jobs_save(j->d);
	hf_event(&j->d->journal, "lease-acquired", about_lease(j->vm, h->lver),
		 "this host owns '%s' (tenure %llu of its lease)", j->vm,
		 (unsigned long long)h->lver);
	return h;
}

void hf_jobs_lost(struct hf_daemon *d, struct hf_held *h, const char *why)
{
	hf_event(&d->journal, "lease-lost", about_lease(h->vm, h->lver),
		 "this host does not own '%s' any more: %s", h->vm, why);
	hf_held_remove(h);
	hf_jobs_save(d);
}

void hf_jobs_give_back(struct hf_daemon *d, struct hf_held *h)
{
	struct hf_job *j = hf_job_new(d, &hf_job_release, h->vm, NULL);

	h->is_ending = true;
	if (j)
		hf_job_begin(j);
}

/* The last of its holder's processes has ended. A ballot under way on it knows what to do, too: it
 * is waited for by the release. */
void hf_jobs_held_ended(void *ctx, struct hf_held *h)
{
	struct hf_daemon *d = ctx;
	struct hf_job *j;

	if (d->is_ending || h->is_expected)
		return;
	hf_event(&d->journal, "keeper-died", about_lease(h->vm, h->lver),
		 "what held '%s' has ended without releasing it%s", h->vm,
		 h->is_pledged ? "; its standby may claim it" : "");
	if (h->is_pledged) {
		hf_held_remove(h);
		hf_jobs_save(d);
		return;
	}
	j = hf_job_find(d, h->vm, &hf_job_transfer);
	if (!j || !j->is_from_held) {
		hf_jobs_give_back(d, h);
		return;
	}
	h->is_ending = true;
	j->again_ns = 0;
	arm(d);
}

void hf_jobs_try_again(struct hf_daemon *d)
{
	for (struct hf_job *j = d->jobs; j; j = j->next)
		if (!j->work)
			j->again_ns = 0;
	arm(d);
}

void hf_jobs_conn_closed(struct hf_daemon *d, const struct hf_varlink_conn *conn)
{
	struct hf_held *next;

	for (struct hf_held *h = d->held.first; h; h = next) {
		next = h->next;
		if (h->conn == conn)
			hf_held_orphan(h);
	}
}

void hf_jobs_check_orphans(struct hf_daemon *d)
{
	struct hf_held *next;

	for (struct hf_held *h = d->held.first; h; h = next) {
		next = h->next;
		if (!h->conn && !h->is_ending && hf_held_alive(h) == 0)
			hf_held_orphan(h);
	}
}

void hf_jobs_fini(struct hf_daemon *d)
{
	hf_timer_fini(&d->job_timer);
	while (d->jobs) {
		struct hf_job *j = d->jobs;

		d->jobs = j->next;
		free(j);
	}
}

/* ---- requests of others ---- */

static void obey(struct hf_daemon *d, struct hf_held *h, const struct hf_lease_request *request)
{
	struct json_object *o = about_lease(h->vm, h->lver);
	bool is_kill = request->force == HF_LEASE_FORCE_KILL;

	json_object_object_add(o, "force", json_object_new_boolean(is_kill));
	hf_event(&d->journal, "lease-requested", o,
		 "another host asks for '%s': what holds it is %s", h->vm,
		 is_kill ? "killed" : "asked to end");
	hf_held_signal(h, is_kill ? SIGKILL : SIGTERM, is_kill);
}

static void on_scanned(void *ctx, const struct hf_survey_result *result)
{
	struct hf_daemon *d = ctx;

	for (unsigned int i = 0; i < result->n; i++) {
		const struct hf_survey_lease *l = &result->leases[i];
		struct hf_held *h = hf_held_find(&d->held, l->name);

		if (!h || h->is_ending || !l->has_request || l->request.lver <= h->lver ||
		    l->request.lver == h->request_lver || l->request.force == HF_LEASE_FORCE_NONE)
			continue;
		h->request_lver = l->request.lver;
		obey(d, h, &l->request);
	}
}

void hf_jobs_look_for_requests(struct hf_daemon *d)
{
	if (d->survey && hf_survey_start(d->survey, on_scanned, d) == 0)
		d->is_scan_wanted = false;
}

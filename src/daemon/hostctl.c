/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hostctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "codec/json.h"
#include "daemon/fencing.h"
#include "daemon/hostview.h"
#include "daemon/jobs.h"
#include "daemon/membership.h"
#include "daemon/survey.h"
#include "daemon/vms.h"
#include "service/eventfeed.h"
#include "service/varlink-server.h"
#include "service/varlink-texts.h"

#define CLIENTS_MAX 512
#define MS 1000000ull
#define WAIT_MAX_MS (7ull * 24 * 3600 * 1000)
/* Who does not say how long, waits for this host to become a member, as at its start. */
#define JOIN_NS (20000 * MS)

struct hf_hostctl {
	struct hf_daemon *d;
	struct hf_eventfeed *events;
	struct hf_varlink_server *server;
};

/* ---- parameters ---- */

static int take_u64(const struct json_object *p, const char *key, uint64_t *ret, struct hf_err *err)
{
	return hf_json_has(p, key) ? hf_json_u64(p, key, ret, err) : 0;
}

static int take_bool(const struct json_object *p, const char *key, bool *ret, struct hf_err *err)
{
	return hf_json_has(p, key) ? hf_json_bool(p, key, ret, err) : 0;
}

static int take_wait(const struct json_object *p, const char *key, uint64_t *ret_ms,
		     struct hf_err *err)
{
	int r = take_u64(p, key, ret_ms, err);

	if (!r && *ret_ms > WAIT_MAX_MS) {
		hf_err_set(err, "%s is more than a week", key);
		r = -EINVAL;
	}
	return r;
}

static int take_vm(const struct json_object *p, const char **ret, struct hf_err *err)
{
	int r = hf_json_str(p, "vm", ret, err);

	if (!r && (!hf_is_valid_name(*ret) || strlen(*ret) > HF_LEASE_NAME_BYTES)) {
		hf_err_set(err,
			   "vm: '%.80s' is not a name: 1 to %d of letters, digits, '.', '_' "
			   "and '-'",
			   *ret, HF_LEASE_NAME_BYTES);
		r = -EINVAL;
	}
	return r;
}

/* A job for the VM named; NULL: it has been refused. */
static struct hf_job *new_job(struct hf_hostctl *c, const struct hf_job_ops *ops,
			      struct hf_varlink_request *rq, const struct json_object *p)
{
	struct hf_err err;
	const char *vm;

	if (take_vm(p, &vm, &err) == 0)
		return hf_job_new(c->d, ops, vm, rq);
	hf_varlink_invalid(rq, &err);
	return NULL;
}

/* Starts it if its parameters were right (@r), else refuses. */
static void begin(struct hf_job *j, int r, const struct hf_err *err)
{
	struct hf_varlink_request *rq = j->rq;

	if (r == 0) {
		hf_job_begin(j);
		return;
	}
	j->rq = NULL;
	hf_varlink_invalid(rq, err);
	hf_job_end(j);
}

/* ---- looking ---- */

static void do_status(void *ctx, struct hf_varlink_request *rq,
		      struct json_object *p __attribute__((unused)))
{
	struct hf_hostctl *c = ctx;
	struct json_object *o = json_object_new_object();

	if (c->d->member)
		hf_member_get_status(c->d->member, &c->d->status);
	json_object_object_add(o, "host", hf_hostview_status(c->d));
	hf_varlink_done(rq, o);
}

static void do_hosts(void *ctx, struct hf_varlink_request *rq,
		     struct json_object *p __attribute__((unused)))
{
	struct hf_hostctl *c = ctx;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "hosts", hf_hostview_hosts(c->d));
	hf_varlink_done(rq, o);
}

struct listing {
	struct hf_hostctl *control;
	struct hf_varlink_request *rq; /* NULL: has gone */
};

static void on_lister_gone(void *data)
{
	struct listing *l = data;

	l->rq = NULL;
}

static void on_listed(void *ctx, const struct hf_survey_result *result)
{
	struct listing *l = ctx;
	struct json_object *o;

	if (l->rq && result->r < 0) {
		hf_varlink_refuse(l->rq, HF_HOST_INTERFACE ".NoStorage", result->error.text);
	} else if (l->rq) {
		o = json_object_new_object();
		json_object_object_add(o, "leases", hf_hostview_leases(l->control->d, result));
		hf_varlink_done(l->rq, o);
	}
	free(l);
}

static void do_leases(void *ctx, struct hf_varlink_request *rq,
		      struct json_object *p __attribute__((unused)))
{
	struct hf_hostctl *c = ctx;
	struct listing *l = malloc(sizeof(*l));

	if (!c->d->survey) {
		free(l);
		hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NoStorage",
				  "this host has no lease area");
		return;
	}
	if (l)
		*l = (struct listing){ .control = c, .rq = rq };
	if (!l || hf_survey_start(c->d->survey, on_listed, l) < 0) {
		free(l);
		hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NotPossible", "too much is under way");
		return;
	}
	hf_varlink_request_watch(rq, on_lister_gone, l);
}

static void do_read(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_read, rq, p);

	if (!j)
		return;
	j->deadline_ns = hf_now_ns();
	begin(j, 0, NULL);
}

static void do_create(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_create, rq, p);

	if (!j)
		return;
	j->deadline_ns = hf_now_ns();
	begin(j, 0, NULL);
}

static void do_events(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_hostctl *c = ctx;

	hf_eventfeed_follow(c->events, rq, p);
}

static void do_fenced(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	const struct hf_hostctl *c = ctx;

	hf_fencing_do(c->d, rq, p);
}

/* ---- owning ---- */

static void do_acquire(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_acquire, rq, p);
	struct hf_err err = { "" };
	uint64_t wait_ms = 0;
	int r;

	if (!j)
		return;
	r = take_bool(p, "create", &j->may_create, &err);
	if (!r)
		r = take_wait(p, "wait_ms", &wait_ms, &err);
	if (!r)
		r = take_u64(p, "lver", &j->lver, &err);
	j->is_patient = wait_ms > 0;
	j->deadline_ns = hf_now_ns() + (hf_json_has(p, "wait_ms") ? wait_ms * MS : JOIN_NS);
	begin(j, r, &err);
}

static void do_claim(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_claim, rq, p);
	struct hf_err err = { "" };
	int r;

	if (!j)
		return;
	r = hf_json_u64(p, "lver", &j->lver, &err);
	if (!r && j->lver == 0) {
		hf_err_set(&err, "lver is 0");
		r = -EINVAL;
	}
	begin(j, r, &err);
}

/* Of this connection's, if it has one, else of any: an administrator's word. */
static void do_cancel(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_hostctl *c = ctx;
	struct hf_job *j;
	struct hf_err err;
	const char *vm;

	if (take_vm(p, &vm, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	j = hf_job_find(c->d, vm, &hf_job_claim);
	hf_varlink_done(rq, NULL);
	if (j)
		hf_job_cancel(j);
}

static int take_pids(const struct json_object *p, pid_t *pids, unsigned int *n, struct hf_err *err)
{
	struct json_object *list;
	int r = hf_json_array(p, "pids", &list, err);

	if (r < 0)
		return r;
	if (json_object_array_length(list) >= HF_HELD_PIDS_MAX) {
		hf_err_set(err, "pids: more than %d", HF_HELD_PIDS_MAX - 1);
		return -EINVAL;
	}
	for (*n = 0; *n < json_object_array_length(list); (*n)++) {
		struct json_object *one = json_object_array_get_idx(list, *n);
		int64_t pid = json_object_is_type(one, json_type_int) ? json_object_get_int64(one)
								      : 0;

		if (pid < 1 || pid > INT32_MAX) {
			hf_err_set(err, "pids: number %u is no process id", *n);
			return -EINVAL;
		}
		pids[*n] = (pid_t)pid;
	}
	return 0;
}

static bool is_of_holder(const struct hf_held *h, pid_t pid)
{
	for (unsigned int i = 0; i < h->n_pids; i++)
		if (h->pids[i].pid == pid)
			return true;
	return h->holder == pid || h->is_expected;
}

/* The lease that @rq's connection may say something about. A holder may come back: after the end of
 * its connection, or on a new one before the end of the old one was seen. NULL with @err: it is
 * another's. */
static struct hf_held *find_own(struct hf_hostctl *c, struct hf_varlink_request *rq, const char *vm,
				struct hf_err *err)
{
	struct hf_held *h = hf_held_find(&c->d->held, vm);
	struct hf_varlink_conn *conn = hf_varlink_request_conn(rq);

	if (!h || h->is_ending) {
		hf_err_set(err, "'%s' is not held on this host", vm);
		return NULL;
	}
	if (h->conn != conn && is_of_holder(h, hf_varlink_conn_pid(conn)))
		hf_held_attach(h, conn, hf_varlink_conn_pid(conn));
	if (h->conn == conn)
		return h;
	hf_err_set(err, "'%s' is held by process %d", vm, (int)h->holder);
	return NULL;
}

/* What was owned before our start is checked on the disk; until then it stands among what is held. */
static void hold_unverified(struct hf_hostctl *c, struct hf_varlink_request *rq, struct hf_held *h,
			    const struct json_object *p, const pid_t *pids, unsigned int n)
{
	struct hf_err err = { "" };
	struct hf_job *j;
	int r = hf_held_set_pids(h, pids, n, &err);

	if (!r)
		r = take_u64(p, "tenure", &h->tenure, &err);
	h->is_unverified = true;
	j = hf_job_new(c->d, &hf_job_hold, h->vm, rq);
	hf_jobs_save(c->d);
	if (j)
		begin(j, r, &err);
}

static void hold_known(struct hf_hostctl *c, struct hf_varlink_request *rq, struct hf_held *h,
		       const pid_t *pids, unsigned int n)
{
	struct hf_err err = { "" };
	int r = hf_held_set_pids(h, pids, n, &err);

	hf_jobs_save(c->d);
	if (r < 0)
		hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NotPossible", err.text);
	else
		hf_varlink_done(rq, hf_jobs_owned(h));
}

static struct hf_held *new_held(struct hf_hostctl *c, struct hf_varlink_request *rq, const char *vm,
				uint64_t lver, struct hf_err *err)
{
	struct hf_varlink_conn *conn = hf_varlink_request_conn(rq);
	struct hf_held *h = hf_held_add(&c->d->held, vm, conn, hf_varlink_conn_pid(conn));

	if (!h) {
		hf_err_set(err, "too many leases are held");
		return NULL;
	}
	h->lver = lver;
	h->generation = c->d->status.generation;
	h->is_unverified = true;
	return h;
}

static void do_hold(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_hostctl *c = ctx;
	pid_t pids[HF_HELD_PIDS_MAX];
	struct hf_err err = { "" };
	unsigned int n = 0;
	uint64_t lver = 0;
	uint64_t tenure = 0;
	struct hf_held *h;
	const char *vm;

	if (take_vm(p, &vm, &err) < 0 || take_u64(p, "lver", &lver, &err) < 0 ||
	    take_u64(p, "tenure", &tenure, &err) < 0 ||
	    (hf_json_has(p, "pids") && take_pids(p, pids, &n, &err) < 0)) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	if (hf_held_find(&c->d->held, vm))
		h = find_own(c, rq, vm, &err);
	else
		h = new_held(c, rq, vm, lver, &err);
	if (!h)
		hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NotPossible", err.text);
	else if (h->is_unverified)
		hold_unverified(c, rq, h, p, pids, n);
	else
		hold_known(c, rq, h, pids, n);
}

static void do_pledge(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_hostctl *c = ctx;
	struct hf_err err = { "" };
	bool is_pledged;
	struct hf_held *h;
	const char *vm;

	if (take_vm(p, &vm, &err) < 0 || hf_json_bool(p, "is_pledged", &is_pledged, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	h = find_own(c, rq, vm, &err);
	if (!h) {
		hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NotPossible", err.text);
		return;
	}
	h->is_pledged = is_pledged;
	hf_jobs_save(c->d);
	hf_varlink_done(rq, NULL);
}

/* ---- giving ---- */

static void do_release(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_hostctl *c = ctx;
	struct hf_err err = { "" };
	struct hf_held *h;
	struct hf_job *j;
	const char *vm;

	if (take_vm(p, &vm, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	h = find_own(c, rq, vm, &err);
	if (!h) {
		hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NotPossible", err.text);
		return;
	}
	/* Its own end is what a transfer from it waits for. */
	j = hf_job_find(c->d, vm, &hf_job_transfer);
	if (j && j->is_from_held) {
		hf_varlink_done(rq, NULL);
		h->is_ending = true;
		h->conn = NULL;
		hf_job_begin(j);
		return;
	}
	j = hf_job_new(c->d, &hf_job_release, vm, rq);
	if (j)
		hf_job_begin(j);
}

static void do_prepare(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_prepare, rq, p);

	if (!j)
		return;
	j->deadline_ns = hf_now_ns() + JOIN_NS;
	begin(j, 0, NULL);
}

static int take_receiver(struct hf_hostctl *c, const struct json_object *p, struct hf_job *j,
			 struct hf_err *err)
{
	const char *name;
	int r = hf_json_u64(p, "to_generation", &j->to_generation, err);

	if (r < 0)
		return r;
	if (hf_json_u64(p, "to", &j->to, err) == 0)
		return 0;
	r = hf_json_str(p, "to", &name, err);
	if (r < 0)
		return r;
	j->to = hf_membership_find_host(c->d, name);
	if (j->to)
		return 0;
	hf_err_set(err, "to: no host '%.80s' is known in this lockspace", name);
	return -EINVAL;
}

static void do_transfer(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_transfer, rq, p);
	struct hf_err err = { "" };
	int r;

	if (!j)
		return;
	r = take_receiver(ctx, p, j, &err);
	if (!r)
		r = take_u64(p, "lver", &j->lver, &err);
	if (!r)
		r = take_bool(p, "from_held", &j->is_from_held, &err);
	begin(j, r, &err);
}

static void do_await(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_await, rq, p);
	struct hf_err err = { "" };
	uint64_t wait_ms = WAIT_MAX_MS;
	int r;

	if (!j)
		return;
	r = take_u64(p, "lver", &j->lver, &err);
	if (!r)
		r = take_u64(p, "tenure", &j->tenure, &err);
	if (!r)
		r = take_wait(p, "timeout_ms", &wait_ms, &err);
	j->deadline_ns = hf_now_ns() + wait_ms * MS;
	begin(j, r, &err);
}

static void do_request(void *ctx, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_job *j = new_job(ctx, &hf_job_request, rq, p);
	struct hf_err err = { "" };
	bool is_forced = false;
	int r;

	if (!j)
		return;
	r = take_bool(p, "force", &is_forced, &err);
	j->force = is_forced ? HF_LEASE_FORCE_KILL : HF_LEASE_FORCE_GRACEFUL;
	j->deadline_ns = hf_now_ns();
	begin(j, r, &err);
}

/* ---- the service ---- */

#define VMS_METHOD(verb)                                                                           \
	static void do_##verb(void *ctx, struct hf_varlink_request *rq, struct json_object *p)     \
	{                                                                                          \
		const struct hf_hostctl *c = ctx;                                                  \
                                                                                                   \
		hf_vms_do_##verb(c->d, rq, p);                                                     \
	}
VMS_METHOD(vms)
VMS_METHOD(vm)
VMS_METHOD(start)
VMS_METHOD(stop)
VMS_METHOD(clear)
VMS_METHOD(reload)

static const struct hf_varlink_entry methods[] = {
	{ .name = HF_HOST_INTERFACE ".Status", .call = do_status, .is_looking = true },
	{ .name = HF_HOST_INTERFACE ".Vms", .call = do_vms, .is_looking = true },
	{ .name = HF_HOST_INTERFACE ".Vm", .call = do_vm, .is_looking = true },
	{ .name = HF_HOST_INTERFACE ".Start", .call = do_start },
	{ .name = HF_HOST_INTERFACE ".Stop", .call = do_stop },
	{ .name = HF_HOST_INTERFACE ".Clear", .call = do_clear },
	{ .name = HF_HOST_INTERFACE ".Reload", .call = do_reload },
	{ .name = HF_HOST_INTERFACE ".Fenced", .call = do_fenced },
	{ .name = HF_HOST_INTERFACE ".Hosts", .call = do_hosts, .is_looking = true },
	{ .name = HF_HOST_INTERFACE ".Leases", .call = do_leases, .is_looking = true },
	{ .name = HF_HOST_INTERFACE ".Read", .call = do_read, .is_looking = true },
	{ .name = HF_HOST_INTERFACE ".Create", .call = do_create },
	{ .name = HF_HOST_INTERFACE ".Acquire", .call = do_acquire },
	{ .name = HF_HOST_INTERFACE ".Hold", .call = do_hold },
	{ .name = HF_HOST_INTERFACE ".Pledge", .call = do_pledge },
	{ .name = HF_HOST_INTERFACE ".Release", .call = do_release },
	{ .name = HF_HOST_INTERFACE ".Claim", .call = do_claim, .needs_more = true },
	{ .name = HF_HOST_INTERFACE ".Cancel", .call = do_cancel },
	{ .name = HF_HOST_INTERFACE ".Prepare", .call = do_prepare },
	{ .name = HF_HOST_INTERFACE ".Transfer", .call = do_transfer },
	{ .name = HF_HOST_INTERFACE ".Await", .call = do_await },
	{ .name = HF_HOST_INTERFACE ".Request", .call = do_request },
	{ .name = HF_HOST_INTERFACE ".Events",
	  .call = do_events,
	  .needs_more = true,
	  .is_looking = true },
};

static const struct hf_varlink_interface interfaces[] = {
	{ "org.varlink.service", hf_varlink_text_service },
	{ HF_HOST_INTERFACE, hf_varlink_text_host },
};

static void on_closed(void *ctx, struct hf_varlink_conn *conn)
{
	struct hf_hostctl *c = ctx;

	hf_jobs_conn_closed(c->d, conn);
}

static const struct hf_varlink_service service = {
	.methods = methods,
	.n_methods = sizeof(methods) / sizeof(methods[0]),
	.clients_max = CLIENTS_MAX,
	.interfaces = interfaces,
	.n_interfaces = sizeof(interfaces) / sizeof(interfaces[0]),
	.closed = on_closed,
};

int hf_hostctl_new(struct hf_daemon *d, struct hf_hostctl **ret)
{
	struct hf_hostctl *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->d = d;
	r = hf_eventfeed_new(&d->journal, &c->events);
	if (!r)
		r = hf_varlink_server_new(&d->loop, d->rundir.listen_fd, &d->journal, &service, c,
					  &c->server);
	if (r < 0) {
		hf_hostctl_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void hf_hostctl_free(struct hf_hostctl *c)
{
	if (!c)
		return;
	hf_varlink_server_free(c->server);
	hf_eventfeed_free(c->events);
	free(c);
}

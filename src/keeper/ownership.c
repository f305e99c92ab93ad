/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. One connection to the daemon; what it owns for us is bound to it. When it
 * breaks, the daemon has died or is being restarted: that alone changes nothing, since the page
 * tells how long the lease is good for. The connection is made again, and the daemon is told what we
 * hold; a claim that had no answer is sent again, with the same lver, which makes it the same claim.
 *
 * The deadline is looked at well before it comes. As long as it moves on, the disk process's is moved
 * on, too. Once it has passed, nothing but a claim that was won makes this host the owner again.
 */
#include "keeper/ownership.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "codec/json.h"
#include "keeper/keeper.h"
#include "service/varlink-client.h"
#include "sys/leasepage.h"

#define INTERFACE "org.holdfast.Host."
#define HOST_DIR ".host"
#define RETRY_FIRST_NS 10000000ull
#define RETRY_MAX_NS 500000000ull
#define LOOK_MIN_NS 20000000ull
#define ANSWER_MAX_NS 30000000000ull /* while starting: a storage that hangs is an error by then */
#define RELEASE_MAX_NS 3000000000ull

struct hf_ownership {
	struct hf_keeper *k;
	struct hf_lease_page *page;
	struct hf_varlink_client *client; /* NULL: not connected now */
	char socket_path[108];
	char lockspace[49];
	struct hf_timer retry_timer;
	uint64_t retry_ns;

	bool is_owner; /* as far as is known: owned `lver`, and has not lost it since */
	bool is_lapsed;
	bool is_pledged;
	uint64_t lver;
	uint64_t generation;
	uint64_t tenure; /* of the host's lease in which `lver` was verified */
	struct hf_timer look_timer;
	const struct hf_ownership_ops *ops;
	void *ctx;

	bool is_claiming;
	uint64_t claim_lver;
	hf_claim_done *claimed;
	void *claim_ctx;
	bool is_claim_sent; /* the daemon may have heard of it */
	bool is_cancel_wanted;
	struct hf_timer cancel_timer;

	bool was_released;
	bool is_release_due; /* holdfastd has not heard of it yet, or not answered */
	void (*released)(void *ctx);
	void *release_ctx;
	struct hf_timer release_timer;

	/* Waited for while starting. */
	bool is_answered;
	int result;
	struct hf_err answer;
	char trouble[160];
};

/* ---- words ---- */

static void set_trouble(struct hf_ownership *o, const char *text)
{
	if (strncmp(o->trouble, text, sizeof(o->trouble) - 1) == 0)
		return;
	(void)snprintf(o->trouble, sizeof(o->trouble), "%s", text);
	if (text[0])
		hf_event(&o->k->journal, "lease-trouble", NULL, "the VM's lease: %s", text);
}

static const char *reason_of(const struct hf_varlink_reply *reply)
{
	const char *text;

	if (reply->parameters && hf_json_str(reply->parameters, "reason", &text, NULL) == 0)
		return text;
	return reply->error ? reply->error : "";
}

/* A call's parameters. */
static void with(struct json_object *p, const char *key, struct json_object *value)
{
	json_object_object_add(p, key, value);
}

static struct json_object *about_vm(const struct hf_ownership *o)
{
	struct json_object *p = json_object_new_object();

	with(p, "vm", json_object_new_string(o->k->name));
	return p;
}

static bool is_error(const struct hf_varlink_reply *reply, const char *name)
{
	return reply->error && strncmp(reply->error, INTERFACE, strlen(INTERFACE)) == 0 &&
	       strcmp(reply->error + strlen(INTERFACE), name) == 0;
}

static int call(struct hf_ownership *o, const char *method, struct json_object *parameters,
		hf_varlink_answer *answer)
{
	char name[64];

	(void)snprintf(name, sizeof(name), INTERFACE "%s", method);
	if (!o->client) {
		json_object_put(parameters);
		return -ENOTCONN;
	}
	return hf_varlink_client_call(o->client, name, parameters, strcmp(method, "Claim") == 0,
				      answer, o);
}

/* ---- the deadline ---- */

static void look(void *ctx);

static void look_at(struct hf_ownership *o, uint64_t at_ns)
{
	hf_timer_set(&o->look_timer, &o->k->loop, at_ns, look, o);
}

/* The disk process heeds the deadline by itself, also when this process is stopped. */
void hf_ownership_permit_disks(struct hf_ownership *o)
{
	const struct hf_keeper *k = o->k;
	struct hf_lease_state now;

	/* Images of a host's own can be written by nobody else. */
	if (!o->is_owner || !k->disks || (!k->disks->is_shared && k->set->peer.is_set))
		return;
	if (hf_ownership_is_valid(o) && hf_lease_page_read(o->page, &now))
		hf_disks_lease(k->disks, now.valid_ns);
	else
		hf_disks_lease(k->disks, 0);
}

static void tell_lapsed(void *ctx)
{
	struct hf_ownership *o = ctx;

	if (o->is_lapsed && o->ops)
		o->ops->on_lapsed(o->ctx);
}

static void lapse(struct hf_ownership *o)
{
	o->is_lapsed = true;
	hf_event(&o->k->journal, "lease-lapsed", NULL,
		 "this host's lease was not renewed in time: the VM may be started elsewhere");
	tell_lapsed(o);
}

static void look(void *ctx)
{
	struct hf_ownership *o = ctx;
	struct hf_lease_state now;
	uint64_t now_ns = hf_now_ns();

	if (!o->is_owner || o->is_lapsed)
		return;
	if (!hf_lease_page_is_valid(o->page, o->tenure) || !hf_lease_page_read(o->page, &now) ||
	    now.valid_ns <= now_ns) {
		lapse(o);
		return;
	}
	hf_ownership_permit_disks(o);
	look_at(o, now_ns + ((now.valid_ns - now_ns) / 2 > LOOK_MIN_NS ? (now.valid_ns - now_ns) / 2
								       : now.valid_ns - now_ns));
}

bool hf_ownership_is_valid(const struct hf_ownership *o)
{
	return o->is_owner && !o->is_lapsed && hf_lease_page_is_valid(o->page, o->tenure);
}

uint64_t hf_ownership_fence_ns(const struct hf_ownership *o)
{
	struct hf_lease_state now;

	return hf_lease_page_read(o->page, &now) ? now.fence_ns : 0;
}

static void own(struct hf_ownership *o, uint64_t lver, uint64_t generation, uint64_t tenure)
{
	o->is_owner = true;
	o->is_lapsed = false;
	o->lver = lver;
	o->generation = generation;
	o->tenure = tenure;
	set_trouble(o, "");
	hf_ownership_permit_disks(o);
	look_at(o, hf_now_ns());
}

/* The three numbers of an answer that says that we own it. */
static int read_owned(struct hf_ownership *o, const struct hf_varlink_reply *reply)
{
	struct hf_err err;
	uint64_t lver;
	uint64_t generation;
	uint64_t tenure;

	if (!reply->parameters || hf_json_u64(reply->parameters, "lver", &lver, &err) < 0 ||
	    hf_json_u64(reply->parameters, "generation", &generation, &err) < 0 ||
	    hf_json_u64(reply->parameters, "tenure", &tenure, &err) < 0)
		return -EBADMSG;
	own(o, lver, generation, tenure);
	return 0;
}

/* ---- claiming ---- */

static void claim_over(struct hf_ownership *o, enum hf_claim_end end)
{
	hf_claim_done *done = o->claimed;

	o->is_claiming = false;
	if (end == HF_CLAIM_LOST)
		o->is_owner = false;
	if (end == HF_CLAIM_WON)
		hf_ownership_hold(o);
	if (done)
		done(o->claim_ctx, end);
}

static void lost_to(struct hf_ownership *o, const struct hf_varlink_reply *reply)
{
	const char *owner = "another host";
	char text[128];

	(void)!hf_json_str(reply->parameters, "owner", &owner, NULL);
	(void)snprintf(text, sizeof(text), "it is owned by %s", owner);
	set_trouble(o, text);
}

static void retry_later(struct hf_ownership *o);

static void on_claim(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_ownership *o = ctx;
	const char *state = "";

	if (!o->is_claiming)
		return;
	if (reply->error) { /* it may be able to later: a daemon that is not a member yet, ... */
		set_trouble(o, reason_of(reply));
		retry_later(o);
		return;
	}
	if (reply->parameters)
		(void)!hf_json_str(reply->parameters, "state", &state, NULL);
	if (strcmp(state, "pending") == 0) {
		set_trouble(o, reason_of(reply));
	} else if (strcmp(state, "won") == 0 && read_owned(o, reply) == 0) {
		claim_over(o, HF_CLAIM_WON);
	} else if (strcmp(state, "lost") == 0) {
		lost_to(o, reply);
		claim_over(o, HF_CLAIM_LOST);
	} else if (strcmp(state, "cancelled") == 0) {
		claim_over(o, HF_CLAIM_CANCELLED);
	} else {
		set_trouble(o, "the daemon's answer to a claim makes no sense");
		retry_later(o);
	}
}

static void send_claim(struct hf_ownership *o)
{
	struct json_object *p = about_vm(o);

	with(p, "lver", json_object_new_uint64(o->claim_lver));
	if (call(o, "Claim", p, on_claim) == 0)
		o->is_claim_sent = true;
}

void hf_ownership_claim(struct hf_ownership *o, uint64_t lver, hf_claim_done *done, void *ctx)
{
	o->claimed = done;
	o->claim_ctx = ctx;
	o->is_cancel_wanted = false;
	if (o->is_claiming && o->claim_lver == lver)
		return;
	o->is_claiming = true;
	o->is_claim_sent = false;
	o->claim_lver = lver;
	if (!o->client)
		set_trouble(o, "this host's holdfastd does not answer");
	send_claim(o);
}

static void on_nothing_claimed(void *ctx)
{
	struct hf_ownership *o = ctx;

	if (o->is_claiming && o->is_cancel_wanted && !o->is_claim_sent)
		claim_over(o, HF_CLAIM_CANCELLED);
}

/* What the daemon has heard of it decides; if the connection has broken since, it is asked again. */
void hf_ownership_cancel(struct hf_ownership *o)
{
	if (!o->is_claiming)
		return;
	o->is_cancel_wanted = true;
	if (o->is_claim_sent)
		(void)!call(o, "Cancel", about_vm(o), NULL);
	else
		hf_timer_set(&o->cancel_timer, &o->k->loop, 0, on_nothing_claimed, o);
}

bool hf_ownership_is_claiming(const struct hf_ownership *o)
{
	return o && o->is_claiming;
}

/* ---- holding ---- */

static void on_hold(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_ownership *o = ctx;

	if (!reply->error)
		return;
	set_trouble(o, reason_of(reply));
	/* To be claimed anew: that decides, and says who has it. */
	if (is_error(reply, "Lost") && o->is_owner && !o->is_lapsed)
		lapse(o);
}

static void add_pid(struct json_object *pids, pid_t pid)
{
	if (pid > 0)
		json_object_array_add(pids, json_object_new_int64(pid));
}

void hf_ownership_hold(struct hf_ownership *o)
{
	struct json_object *p;
	struct json_object *pids;

	if (!o->is_owner || !o->client)
		return;
	p = about_vm(o);
	pids = json_object_new_array();
	add_pid(pids, getpid());
	if (o->k->guest)
		add_pid(pids, hf_guest_process(o->k->guest)->pid);
	if (o->k->disks)
		add_pid(pids, o->k->disks->process.pid);
	with(p, "lver", json_object_new_uint64(o->lver));
	with(p, "tenure", json_object_new_uint64(o->tenure));
	with(p, "pids", pids);
	(void)!call(o, "Hold", p, on_hold);
	hf_ownership_pledge(o, o->is_pledged);
}

void hf_ownership_pledge(struct hf_ownership *o, bool is_pledged)
{
	struct json_object *p;

	o->is_pledged = is_pledged;
	if (!o->is_owner || !o->client)
		return;
	p = about_vm(o);
	with(p, "is_pledged", json_object_new_boolean(is_pledged));
	(void)!call(o, "Pledge", p, NULL);
}

static void released(struct hf_ownership *o)
{
	void (*done)(void *ctx) = o->released;

	o->released = NULL;
	hf_timer_fini(&o->release_timer);
	if (done)
		done(o->release_ctx);
}

static void on_release(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_ownership *o = ctx;

	if (reply->error)
		hf_log(&o->k->journal, HF_LOG_ERROR, "the lease was not released: %s",
		       reason_of(reply));
	else if (!o->released)
		hf_log(&o->k->journal, HF_LOG_INFO,
		       "the lease has been released, now that holdfastd is there");
	o->was_released = !reply->error;
	o->is_release_due = false;
	released(o);
}

bool hf_ownership_was_released(const struct hf_ownership *o)
{
	return o->was_released;
}

static void on_release_timer(void *ctx)
{
	struct hf_ownership *o = ctx;

	hf_log(&o->k->journal, HF_LOG_ERROR,
	       "the lease could not be released yet; holdfastd does it when it can");
	released(o);
}

static void on_nothing_to_release(void *ctx)
{
	released(ctx);
}

void hf_ownership_release(struct hf_ownership *o, void (*done)(void *ctx), void *ctx)
{
	o->released = done;
	o->release_ctx = ctx;
	hf_timer_set(&o->release_timer, &o->k->loop, hf_now_ns() + RELEASE_MAX_NS, on_release_timer,
		     o);
	if (!o->is_owner) /* any more: a freeze has released it before the role's end */
		hf_timer_set(&o->release_timer, &o->k->loop, 0, on_nothing_to_release, o);
	else if (call(o, "Release", about_vm(o), on_release) < 0)
		hf_timer_set(&o->release_timer, &o->k->loop, 0, on_release_timer, o);
	o->is_release_due |= o->is_owner;
	o->is_owner = false;
}

/* ---- the connection ---- */

static void connect_now(struct hf_ownership *o);

static void on_retry(void *ctx)
{
	struct hf_ownership *o = ctx;

	if (!o->client)
		connect_now(o);
	else if (o->is_claiming)
		send_claim(o);
}

static void retry_later(struct hf_ownership *o)
{
	hf_timer_set(&o->retry_timer, &o->k->loop, hf_now_ns() + o->retry_ns, on_retry, o);
	o->retry_ns = o->retry_ns * 2 < RETRY_MAX_NS ? o->retry_ns * 2 : RETRY_MAX_NS;
}

static void on_ended(void *ctx, int error __attribute__((unused)), const char *why)
{
	struct hf_ownership *o = ctx;

	hf_log(&o->k->journal, HF_LOG_INFO, "holdfastd does not answer any more (%s)", why);
	hf_varlink_client_close(o->client);
	o->client = NULL;
	if (o->is_claiming)
		set_trouble(o, "this host's holdfastd does not answer");
	if (o->released)
		hf_timer_set(&o->release_timer, &o->k->loop, 0, on_release_timer, o);
	if (!o->is_answered) {
		o->is_answered = true;
		o->result = -EHOSTUNREACH;
		hf_err_set(&o->answer, "holdfastd does not answer: %s", why);
	}
	o->retry_ns = RETRY_FIRST_NS;
	retry_later(o);
}

static void connect_now(struct hf_ownership *o)
{
	struct hf_err err;

	if (hf_varlink_client_open(&o->k->loop, o->socket_path, on_ended, o, &o->client, &err) <
	    0) {
		o->client = NULL;
		retry_later(o);
		return;
	}
	o->retry_ns = RETRY_FIRST_NS;
	/* Who guards a frozen instance lives on: no end of a process tells the daemon. */
	if (o->is_release_due)
		(void)!call(o, "Release", about_vm(o), on_release);
	hf_ownership_hold(o);
	if (!o->is_claiming)
		return;
	send_claim(o);
	if (o->is_cancel_wanted)
		hf_ownership_cancel(o);
}

/* ---- starting ---- */

static void on_start_timer(void *ctx)
{
	struct hf_ownership *o = ctx;

	o->is_answered = true;
	o->result = -EHOSTUNREACH;
	hf_err_set(&o->answer, "holdfastd has not answered: %s",
		   o->trouble[0] ? o->trouble : "is the lease's storage there? (holdfast hosts)");
}

static int await_answer(struct hf_ownership *o, struct hf_err *err)
{
	struct hf_timer timer = { 0 };
	int r = 0;

	hf_timer_set(&timer, &o->k->loop, hf_now_ns() + ANSWER_MAX_NS, on_start_timer, o);
	while (r >= 0 && !o->is_answered)
		r = sd_event_run(o->k->loop.event, UINT64_MAX);
	hf_timer_fini(&timer);
	if (r >= 0 && o->result < 0)
		hf_err_set(err, "%s", o->answer.text);
	return r < 0 ? r : o->result;
}

static void answered(struct hf_ownership *o, int result, const char *text)
{
	o->is_answered = true;
	o->result = result;
	hf_err_set(&o->answer, "%s", text);
}

static void on_host_status(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_ownership *o = ctx;
	struct json_object *host;
	const char *space;
	struct hf_err err = { "" };

	if (reply->error || !reply->parameters ||
	    hf_json_obj(reply->parameters, "host", &host, &err) < 0 ||
	    hf_json_str(host, "lockspace", &space, &err) < 0) {
		answered(o, -EBADMSG, reply->error ? reason_of(reply) : err.text);
		return;
	}
	(void)snprintf(o->lockspace, sizeof(o->lockspace), "%.48s", space);
	answered(o, 0, "");
}

static int find_daemon(struct hf_ownership *o, struct hf_err *err)
{
	char path[108];
	int r;

	(void)snprintf(path, sizeof(path), "%.64s/" HOST_DIR "/" HF_LEASE_PAGE_FILE,
		       o->k->set->run_dir);
	r = hf_lease_page_open(path, &o->page, err);
	if (r < 0)
		return r;
	(void)snprintf(o->socket_path, sizeof(o->socket_path), "%.64s/" HOST_DIR "/control",
		       o->k->set->run_dir);
	r = hf_varlink_client_open(&o->k->loop, o->socket_path, on_ended, o, &o->client, err);
	if (r < 0)
		return r;
	(void)!call(o, "Status", NULL, on_host_status);
	return await_answer(o, err);
}

int hf_ownership_open(struct hf_keeper *k, struct hf_ownership **ret, struct hf_err *err)
{
	struct hf_ownership *o;
	struct hf_err why = { "" };
	int r;

	*ret = NULL;
	if (k->set->lease == HF_LEASE_USE_NO)
		return 0;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->k = k;
	o->retry_ns = RETRY_FIRST_NS;
	r = find_daemon(o, &why);
	if (!r) {
		*ret = o;
		return 0;
	}
	hf_ownership_free(o);
	if (r == -ENOENT && k->set->lease == HF_LEASE_USE_AUTO)
		return 0;
	hf_err_set(err, "the VM's lease: %s; start holdfastd, or run without a lease (--lease=no)",
		   why.text);
	return r;
}

static void on_acquire(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_ownership *o = ctx;
	int r;

	if (reply->error) {
		answered(o, is_error(reply, "Owned") ? -EBUSY : -EHOSTUNREACH, reason_of(reply));
		return;
	}
	r = read_owned(o, reply);
	answered(o, r, r < 0 ? "holdfastd's answer makes no sense" : "");
}

int hf_ownership_acquire(struct hf_ownership *o, struct hf_err *err)
{
	struct json_object *p = about_vm(o);
	struct hf_err why = { "" };
	int r;

	with(p, "create", json_object_new_boolean(true));
	o->is_answered = false;
	r = call(o, "Acquire", p, on_acquire);
	if (!r)
		r = await_answer(o, &why);
	if (r < 0)
		hf_err_set(err, "the VM's lease: %s", why.text[0] ? why.text : strerror(-r));
	return r;
}

void hf_ownership_free(struct hf_ownership *o)
{
	if (!o)
		return;
	hf_varlink_client_close(o->client);
	hf_timer_fini(&o->retry_timer);
	hf_timer_fini(&o->look_timer);
	hf_timer_fini(&o->cancel_timer);
	hf_timer_fini(&o->release_timer);
	hf_lease_page_close(o->page);
	free(o);
}

void hf_ownership_set_ops(struct hf_ownership *o, const struct hf_ownership_ops *ops, void *ctx)
{
	o->ops = ops;
	o->ctx = ctx;
	/* Nobody was there to be told when it happened: told now, not from within this call. */
	if (o->is_lapsed)
		hf_timer_set(&o->look_timer, &o->k->loop, 0, tell_lapsed, o);
}

/* ---- for others to see ---- */

const char *hf_ownership_lockspace(const struct hf_ownership *o)
{
	return o ? o->lockspace : "";
}

uint64_t hf_ownership_lver(const struct hf_ownership *o)
{
	return o ? o->lver : 0;
}

const char *hf_ownership_trouble(const struct hf_ownership *o)
{
	return o ? o->trouble : "";
}

struct json_object *hf_ownership_status(const struct hf_ownership *o)
{
	struct json_object *s = json_object_new_object();
	const char *state = o->is_claiming             ? "claiming"
			    : !o->is_owner             ? "none"
			    : hf_ownership_is_valid(o) ? "owned"
						       : "lapsed";

	json_object_object_add(s, "state", json_object_new_string(state));
	json_object_object_add(s, "lockspace", json_object_new_string(o->lockspace));
	json_object_object_add(s, "lver", json_object_new_uint64(o->lver));
	json_object_object_add(s, "connected", json_object_new_boolean(o->client != NULL));
	json_object_object_add(s, "trouble", json_object_new_string(o->trouble));
	return s;
}

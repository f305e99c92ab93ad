/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. One connection follows Events from now on, the other one asks: first Vms(), then Vm() for each event
 * that names a VM, and Vms() now and then, for what no event tells of. Events are asked for first, so nothing falls in
 * between. VMs of which something happens while they are being asked for are asked for again.
 */
#include "pacemaker/hostlink.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "codec/json.h"
#include "service/varlink-client.h"
#include "sys/rundir.h"

#define INTERFACE "org.holdfast.Host"
#define RETRY_NS 500000000ull
#define LOOK_NS 5000000000ull
#define ASKED_MAX 32u /* more at once: all are asked for */

struct asked {
	struct hf_hostlink *link;
	char vm[HF_NAME_MAX + 1]; /* "": free */
	uint64_t event_ns;
	bool is_again;
};

struct hf_hostlink {
	struct hf_loop *loop;
	struct hf_journal *journal;
	const struct hf_hostlink_ops *ops;
	void *ctx;
	char path[PATH_MAX];
	struct hf_varlink_client *calls, *events; /* NULL: not connected */
	struct hf_timer timer;
	struct asked asked[ASKED_MAX];
	bool is_asking_all, is_all_again, is_silent;
};

static void ask(struct hf_hostlink *l, const char *vm, uint64_t event_ns);
static void ask_all(struct hf_hostlink *l);
static void on_timer(void *ctx);

static void arm(struct hf_hostlink *l, uint64_t in_ns)
{
	hf_timer_set(&l->timer, l->loop, hf_now_ns() + in_ns, on_timer, l);
}

static void disconnect(struct hf_hostlink *l)
{
	hf_varlink_client_close(l->calls);
	hf_varlink_client_close(l->events);
	l->calls = l->events = NULL;
	memset(l->asked, 0, sizeof(l->asked));
	l->is_asking_all = l->is_all_again = false;
}

static void lose(struct hf_hostlink *l, const char *why)
{
	if (!l->is_silent)
		hf_log(l->journal, HF_LOG_INFO, "the host's daemon: %s", why);
	l->is_silent = true;
	disconnect(l);
	arm(l, RETRY_NS);
}

static void on_ended(void *ctx, int error __attribute__((unused)), const char *why)
{
	lose(ctx, why);
}

/* ---- asking ---- */

static void on_vm(void *ctx, const struct hf_varlink_reply *reply)
{
	struct asked *a = ctx;
	struct hf_hostlink *l = a->link;
	struct json_object *vm;
	char name[HF_NAME_MAX + 1];
	uint64_t event_ns = a->event_ns;
	bool is_again = a->is_again;

	(void)snprintf(name, sizeof(name), "%s", a->vm);
	a->vm[0] = '\0';
	if (!reply->error && hf_json_obj(reply->parameters, "vm", &vm, NULL) == 0)
		l->ops->vm(l->ctx, vm, event_ns);
	else if (reply->error && strcmp(reply->error, INTERFACE ".NoVm") == 0)
		l->ops->gone(l->ctx, name);
	if (is_again && l->calls)
		ask(l, name, event_ns);
}

static void on_vms(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_hostlink *l = ctx;
	struct json_object *vms;

	l->is_asking_all = false;
	if (!reply->error && hf_json_array(reply->parameters, "vms", &vms, NULL) == 0)
		l->ops->all(l->ctx, vms);
	if (l->is_all_again && l->calls)
		ask_all(l);
}

static void ask_all(struct hf_hostlink *l)
{
	l->is_all_again = l->is_asking_all;
	if (!l->is_asking_all)
		l->is_asking_all = hf_varlink_client_call(l->calls, INTERFACE ".Vms", NULL, false,
							  on_vms, l) == 0;
}

static struct asked *find_asked(struct hf_hostlink *l, const char *vm)
{
	for (unsigned int i = 0; i < ASKED_MAX; i++)
		if (strcmp(l->asked[i].vm, vm) == 0)
			return &l->asked[i];
	return NULL;
}

static void ask(struct hf_hostlink *l, const char *vm, uint64_t event_ns)
{
	struct asked *a = find_asked(l, vm);
	struct json_object *p;

	if (a) {
		a->is_again = true;
		a->event_ns = event_ns;
		return;
	}
	a = find_asked(l, "");
	if (!a) {
		ask_all(l);
		return;
	}
	*a = (struct asked){ .link = l, .event_ns = event_ns };
	(void)snprintf(a->vm, sizeof(a->vm), "%s", vm);
	p = json_object_new_object();
	hf_json_add_str(p, "vm", vm);
	if (hf_varlink_client_call(l->calls, INTERFACE ".Vm", p, false, on_vm, a) < 0)
		a->vm[0] = '\0'; /* Vms() will tell */
}

static void on_event(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_hostlink *l = ctx;
	struct json_object *event;
	uint64_t time_ns = 0;
	const char *vm;

	if (reply->error) {
		hf_log(l->journal, HF_LOG_ERROR, "the host's daemon tells no events: %s",
		       reply->error);
		return;
	}
	if (hf_json_obj(reply->parameters, "event", &event, NULL) < 0 ||
	    hf_json_str(event, "vm", &vm, NULL) < 0 || !hf_is_valid_name(vm))
		return;
	(void)!hf_json_u64(event, "time_ns", &time_ns, NULL);
	ask(l, vm, time_ns);
}

/* ---- the connection ---- */

static void follow(struct hf_hostlink *l)
{
	struct json_object *p = json_object_new_object();

	hf_json_add_i64(p, "after", INT64_MAX);
	if (hf_varlink_client_call(l->events, INTERFACE ".Events", p, true, on_event, l) < 0) {
		lose(l, "cannot be asked");
		return;
	}
	if (l->is_silent)
		hf_log(l->journal, HF_LOG_INFO, "the host's daemon is there again");
	l->is_silent = false;
	ask_all(l);
	l->ops->up(l->ctx);
}

static void on_timer(void *ctx)
{
	struct hf_hostlink *l = ctx;
	struct hf_err err = { "" };
	int r;

	if (l->calls) {
		arm(l, LOOK_NS);
		ask_all(l);
		return;
	}
	r = hf_varlink_client_open(l->loop, l->path, on_ended, l, &l->calls, &err);
	if (!r)
		r = hf_varlink_client_open(l->loop, l->path, on_ended, l, &l->events, &err);
	if (r < 0) {
		lose(l, err.text[0] ? err.text : strerror(-r));
		return;
	}
	arm(l, LOOK_NS);
	follow(l);
}

int hf_hostlink_new(struct hf_loop *loop, struct hf_journal *journal, const char *run_dir,
		    const struct hf_hostlink_ops *ops, void *ctx, struct hf_hostlink **ret)
{
	struct hf_hostlink *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->loop = loop;
	l->journal = journal;
	l->ops = ops;
	l->ctx = ctx;
	(void)snprintf(l->path, sizeof(l->path), "%s/" HF_RUNDIR_HOST "/" HF_RUNDIR_SOCKET,
		       run_dir);
	arm(l, 0);
	*ret = l;
	return 0;
}

void hf_hostlink_free(struct hf_hostlink *l)
{
	if (!l)
		return;
	disconnect(l);
	hf_timer_fini(&l->timer);
	free(l);
}

/* ---- Host.Fenced ---- */

static void on_fenced(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_hostlink *l = ctx;
	const char *reason = reply->error;

	if (!reply->error)
		return;
	(void)!hf_json_str(reply->parameters, "reason", &reason, NULL);
	hf_log(l->journal, HF_LOG_INFO, "the host's daemon, of a node that was fenced: %s", reason);
}

int hf_hostlink_fenced(struct hf_hostlink *l, const struct hf_fencelink_fact *fact)
{
	struct json_object *p;

	if (!l->calls)
		return -ENOTCONN;
	p = json_object_new_object();
	hf_json_add_str(p, "host", fact->node);
	hf_json_add_u64(p, "time_ns", fact->time_ns);
	hf_json_add_u64(p, "begun_ns", fact->begun_ns);
	hf_json_add_str(p, "text", fact->text);
	return hf_varlink_client_call(l->calls, INTERFACE ".Fenced", p, false, on_fenced, l);
}

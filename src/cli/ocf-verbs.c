/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which action, and how its answer is told; and what all actions need. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/look-verbs.h"
#include "cli/ocf-call.h"
#include "cli/rows.h"
#include "codec/json.h"
#include "sys/fd.h"
#include "sys/rundir.h"

/* Who announces failures holds the lock for 5 s at most. */
#define LOCK_NS (6000 * HF_OCF_MS)

struct action {
	const char *name;
	enum hf_ocf (*run)(struct hf_ocf_call *c);
	bool is_for_orphans;
	bool is_for_clones; /* without roles there is no such thing */
};

static enum hf_ocf do_notify(struct hf_ocf_call *c)
{
	return hf_ocf_say(c, HF_OCF_SUCCESS, "%s", "");
}

static const struct action actions[] = {
	{ .name = "monitor", .run = hf_ocf_do_monitor, .is_for_orphans = true },
	{ .name = "start", .run = hf_ocf_do_start },
	{ .name = "stop", .run = hf_ocf_do_stop, .is_for_orphans = true },
	{ .name = "promote", .run = hf_ocf_do_promote, .is_for_clones = true },
	{ .name = "demote",
	  .run = hf_ocf_do_demote,
	  .is_for_orphans = true,
	  .is_for_clones = true },
	{ .name = "notify", .run = do_notify, .is_for_orphans = true },
	{ .name = "score", .run = hf_ocf_do_score },
	{ .name = "validate", .run = hf_ocf_do_validate },
};

/* ---- for the actions ---- */

enum hf_ocf hf_ocf_say(struct hf_ocf_call *c, enum hf_ocf rc, const char *format, ...)
{
	char text[sizeof(c->reason)];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	memcpy(c->reason, text, sizeof(text));
	return rc;
}

uint64_t hf_ocf_soon(const struct hf_ocf_call *c, uint64_t ns)
{
	uint64_t then_ns = hf_client_now_ns() + ns;

	return then_ns < c->deadline_ns ? then_ns : c->deadline_ns;
}

bool hf_ocf_is_late(const struct hf_ocf_call *c)
{
	return hf_client_now_ns() >= c->deadline_ns;
}

void hf_ocf_rest(const struct hf_ocf_call *c, unsigned int ms)
{
	uint64_t until_ns = hf_ocf_soon(c, ms * HF_OCF_MS), now_ns = hf_client_now_ns();

	if (until_ns > now_ns)
		(void)poll(NULL, 0, (int)((until_ns - now_ns + HF_OCF_MS - 1) / HF_OCF_MS));
}

static uint64_t real_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int hf_ocf_assign(struct hf_ocf_call *c, enum hf_place_assigned place)
{
	struct hf_assignment a = { .place = place,
				   .manager = HF_OCF_MANAGER,
				   .is_promotable = c->is_promotable,
				   .time_ns = real_ns() };
	uint64_t now_ns = hf_client_now_ns(), until_ns = hf_ocf_soon(c, LOCK_NS);
	struct hf_err err = { "" };
	int r, lock;

	(void)snprintf(a.resource, sizeof(a.resource), "%s", c->resource);
	(void)snprintf(a.instance, sizeof(a.instance), "%s", c->instance);
	(void)snprintf(a.node, sizeof(a.node), "%s", c->node);
	lock = hf_assignment_lock(
		c->run_dir, c->vm,
		(unsigned int)(until_ns > now_ns ? (until_ns - now_ns) / HF_OCF_MS : 0), &err);
	/* A lock that is held for longer than its holder may must not keep a VM from being ended. */
	r = hf_assignment_write(c->run_dir, c->vm, &a, &err);
	if (lock >= 0)
		hf_fd_close(&lock);
	if (r < 0)
		(void)hf_ocf_say(c, HF_OCF_ERR_GENERIC, "%s", err.text);
	return r;
}

/* ---- orders ---- */

/* Texts of one who is at it are the best reason there is, should he not come to an end. */
static int await_reply(struct hf_ocf_call *c, struct hf_client *client)
{
	struct json_object *reply = NULL;
	struct hf_err err = { "" };
	int r;

	while ((r = hf_client_reply(client, &reply, &err)) == 0 && client->is_continued) {
		if (*hf_rows_text(reply, "text"))
			(void)hf_ocf_say(c, HF_OCF_ERR_GENERIC, "%s", hf_rows_text(reply, "text"));
		json_object_put(reply);
		reply = NULL;
	}
	json_object_put(reply);
	if (r < 0 && (r != -ETIMEDOUT || !c->reason[0]))
		(void)hf_ocf_say(c, HF_OCF_ERR_GENERIC, "%s", err.text);
	return r;
}

static int order(struct hf_ocf_call *c, const char *to, const char *method, struct json_object *p,
		 bool is_more, uint64_t until_ns)
{
	struct hf_err err = { "" };
	struct hf_client client;
	int r;

	c->reason[0] = '\0';
	r = hf_client_open_by(c->run_dir, to, until_ns, &client, &err);
	if (r < 0) {
		json_object_put(p);
		(void)hf_ocf_say(c, HF_OCF_ERR_GENERIC, "%s", err.text);
		return r;
	}
	r = hf_client_call(&client, method, p, is_more, &err);
	json_object_put(p);
	if (r < 0)
		(void)hf_ocf_say(c, HF_OCF_ERR_GENERIC, "%s", err.text);
	else
		r = await_reply(c, &client);
	hf_client_close(&client);
	return r;
}

int hf_ocf_order_keeper(struct hf_ocf_call *c, const char *method, struct json_object *p,
			bool is_more, uint64_t until_ns)
{
	return order(c, c->vm, method, p, is_more, until_ns);
}

int hf_ocf_order_daemon(struct hf_ocf_call *c, const char *method, bool is_fresh, bool is_forced,
			uint64_t until_ns)
{
	struct json_object *p = json_object_new_object();

	hf_json_add_str(p, "vm", c->vm);
	hf_json_add_str(p, "manager", HF_OCF_MANAGER);
	if (is_fresh)
		hf_json_add_bool(p, "fresh", true);
	if (is_forced)
		hf_json_add_bool(p, "force", true);
	return order(c, HF_RUNDIR_HOST, method, p, /* is_more= */ true, until_ns);
}

/* ---- the answer ---- */

static void print_json(const struct hf_ocf_call *c, enum hf_ocf rc)
{
	struct json_object *o = json_object_new_object();
	const struct hf_ocf_view *v = &c->view;
	struct json_object *from = v->status ? v->status : v->vm;

	hf_json_add_str(o, "action", c->action);
	hf_json_add_str(o, "vm", c->vm);
	hf_json_add_i64(o, "code", rc);
	hf_json_add_str(o, "name", hf_ocf_name(rc));
	hf_json_add_str(o, "reason", c->reason);
	if (v->asked_ns) {
		hf_json_add_str(o, "state", hf_vm_state_name(v->facts.state));
		hf_json_add_str(o, "cause", from ? hf_rows_text(from, "cause") : "");
		hf_json_add_str(o, "severity", from ? hf_rows_text(from, "severity") : "");
		hf_json_add_str(o, "assigned", hf_place_assigned_name(v->assignment.place));
		hf_json_add_str(o, "frozen_id", v->frozen_id);
	}
	if (c->score >= 0)
		hf_json_add_i64(o, "score", c->score);
	hf_json_add_i64(o, "ms", (int64_t)((hf_client_now_ns() - c->begun_ns) / HF_OCF_MS));
	hf_look_print_json(o);
	json_object_put(o);
}

static void tell(const struct hf_ocf_call *c, enum hf_ocf rc)
{
	if (c->reason[0])
		(void)fprintf(stderr, "%s: %s\n", *c->vm ? c->vm : "holdfast ocf", c->reason);
	if (c->is_json)
		print_json(c, rc);
}

static const struct action *find(const char *name)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

static enum hf_ocf say_unassigned(struct hf_ocf_call *c)
{
	bool is_monitor = strcmp(c->action, "monitor") == 0;

	return hf_ocf_say(c, is_monitor ? HF_OCF_NOT_RUNNING : HF_OCF_SUCCESS,
			  "no VM of resource '%s' is assigned to this host", c->resource);
}

int hf_ocf_run(int argc, char **argv)
{
	const struct action *a;
	struct hf_ocf_call c;
	enum hf_ocf rc;
	int r = hf_ocf_parse(argc, argv, &c);

	if (r > 0)
		return -1;
	if (r < 0)
		return r == -ERANGE ? HF_OCF_ERR_CONFIGURED : HF_EXIT_USAGE;
	if (strcmp(c.action, "table") == 0)
		return hf_ocf_print_table();
	a = find(c.action);
	if (!a || (a->is_for_clones && !c.is_promotable && !c.is_orphan)) {
		(void)fprintf(stderr, "holdfast ocf: %s: %s\n", c.action,
			      a ? "for a promotable clone alone" : "no such action");
		return HF_OCF_ERR_UNIMPLEMENTED;
	}
	if (c.is_orphan && !a->is_for_orphans) {
		(void)fprintf(stderr, "holdfast ocf: %s: the name of a VM is wanted\n", c.action);
		return HF_EXIT_USAGE;
	}
	if (geteuid() != 0) {
		(void)fprintf(stderr, "holdfast ocf: only root may do this\n");
		return HF_OCF_ERR_PERM;
	}
	if (c.is_orphan)
		hf_ocf_find_orphan(&c);
	rc = *c.vm ? a->run(&c) : say_unassigned(&c);
	tell(&c, rc);
	hf_ocf_view_fini(&c.view);
	return (int)rc;
}

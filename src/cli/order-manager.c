/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Orders that a keeper would take from anybody, and that are a cluster manager's to give. */
#include <stdio.h>
#include <string.h>

#include "cli/order-verbs.h"
#include "cli/rows.h"
#include "codec/json.h"
#include "sys/rundir.h"
#include "vm/assignment.h"

struct manager {
	char name[16];
	char resource[HF_ASSIGNMENT_TEXT_MAX + 1];
};

static void take(struct json_object *reply, struct manager *ret)
{
	struct json_object *vm;

	if (hf_json_obj(reply, "vm", &vm, NULL) < 0)
		return;
	(void)snprintf(ret->name, sizeof(ret->name), "%s", hf_rows_text(vm, "manager"));
	(void)snprintf(ret->resource, sizeof(ret->resource), "%s", hf_rows_text(vm, "resource"));
}

/* False: holdfastd cannot be asked. */
static bool ask_daemon(const char *run_dir, const char *vm, struct manager *ret)
{
	struct json_object *reply = NULL, *p;
	struct hf_client c;
	int r;

	if (hf_client_open_by(run_dir, HF_RUNDIR_HOST, hf_client_now_ns() + HF_VERB_SECOND, &c,
			      NULL) < 0)
		return false;
	p = json_object_new_object();
	hf_json_add_str(p, "vm", vm);
	r = hf_client_call(&c, "Vm", p, false, NULL);
	if (!r)
		r = hf_client_reply(&c, &reply, NULL);
	if (!r)
		take(reply, ret);
	json_object_put(p);
	json_object_put(reply);
	hf_client_close(&c);
	return r == 0;
}

/* What was assigned here since this host was booted has a manager. */
static void look_at_file(const char *run_dir, const char *vm, struct manager *ret)
{
	struct hf_assignment a;

	if (hf_assignment_read(run_dir, vm, &a, NULL) < 0)
		return;
	(void)snprintf(ret->name, sizeof(ret->name), "%s", a.manager);
	(void)snprintf(ret->resource, sizeof(ret->resource), "%s", a.resource);
}

int hf_order_check_manager(const char *verb, const char *run_dir, const char *vm,
			   const char *manager)
{
	struct manager m = { .name = "" };
	struct hf_err err;

	if (manager)
		return HF_EXIT_DONE;
	if (!ask_daemon(run_dir, vm, &m))
		look_at_file(run_dir, vm, &m);
	if (!m.name[0])
		return HF_EXIT_DONE;
	hf_err_set(&err, "'%s' is managed by %s%s%s%s: use crm or pcs, or --manager %s", vm, m.name,
		   m.resource[0] ? " (resource " : "", m.resource, m.resource[0] ? ")" : "",
		   m.name);
	return hf_exit_complain(verb, HF_EXIT_REFUSED, &err);
}

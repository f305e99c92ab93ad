/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VMs that a cluster manager decides about. What it has decided for this host is in a file (vm/assignment.h)
 * that is written past this daemon, so it is read anew before anything follows from it: a daemon that
 * was stopped, and wakes up, does not do what was wanted before.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "daemon/jobs.h"
#include "daemon/vms.h"

bool hf_vms_is_managed(const struct hf_vms_vm *vm)
{
	return vm->has_file && vm->file.is_managed;
}

/* ---- what is assigned ---- */

static bool is_same(const struct hf_assignment *a, const struct hf_assignment *b)
{
	return a->place == b->place && a->time_ns == b->time_ns &&
	       a->is_promotable == b->is_promotable && strcmp(a->manager, b->manager) == 0 &&
	       strcmp(a->resource, b->resource) == 0 && strcmp(a->instance, b->instance) == 0 &&
	       strcmp(a->node, b->node) == 0;
}

static void say_trouble(struct hf_vms_vm *vm, const char *trouble)
{
	if (trouble[0] && strcmp(vm->assignment_trouble, trouble) != 0)
		hf_log(&vm->d->journal, HF_LOG_ERROR, "%s: nothing is started of '%s'", trouble,
		       vm->name);
	(void)snprintf(vm->assignment_trouble, sizeof(vm->assignment_trouble), "%s", trouble);
}

static void tell_assigned(struct hf_vms_vm *vm)
{
	const struct hf_assignment *a = &vm->assignment;
	struct json_object *o = json_object_new_object();
	const char *what = vm->has_assignment ? hf_place_assigned_name(a->place) : "";

	hf_json_add_str(o, "vm", vm->name);
	hf_json_add_str(o, "assigned", what);
	hf_json_add_str(o, "manager", a->manager);
	hf_json_add_str(o, "resource", a->resource);
	hf_event(&vm->d->journal, "assigned", o, "'%s': %s has assigned %s to this host", vm->name,
		 a->manager[0] ? a->manager : "the cluster manager", what[0] ? what : "nothing");
}

static void take_assignment(struct hf_vms_vm *vm, const struct hf_assignment *a, bool is_there)
{
	static const enum hf_supervise_assigned places[HF_ASSIGNED_COUNT] = {
		[HF_ASSIGNED_NONE] = HF_SUPERVISE_ASSIGNED_NONE,
		[HF_ASSIGNED_STANDBY] = HF_SUPERVISE_ASSIGNED_STANDBY,
		[HF_ASSIGNED_RUN] = HF_SUPERVISE_ASSIGNED_RUN,
	};
	bool is_told = vm->has_assignment != is_there || vm->assignment.place != a->place;

	if (vm->has_assignment == is_there && is_same(&vm->assignment, a))
		return;
	vm->assignment = *a;
	vm->has_assignment = is_there;
	if (is_told && vm->d->vms->is_begun)
		tell_assigned(vm);
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_ASSIGNED,
							   .assigned = places[a->place] });
}

void hf_vms_read_assignment(struct hf_vms_vm *vm)
{
	struct hf_assignment a = { .place = HF_ASSIGNED_NONE };
	struct hf_err err = { "" };
	int r;

	if (!hf_vms_is_managed(vm))
		return;
	r = hf_assignment_read(vm->d->conf.run_dir, vm->name, &a, &err);
	say_trouble(vm, r < 0 && r != -ENOENT ? err.text : "");
	take_assignment(vm, &a, r == 0);
}

void hf_vms_read_assignments(struct hf_daemon *d)
{
	for (struct hf_vms_vm *vm = d->vms->first; vm; vm = vm->next)
		hf_vms_read_assignment(vm);
}

/* ---- who may order what ---- */

const char *hf_vms_manager(const struct hf_vms_vm *vm)
{
	return vm->assignment.manager[0] ? vm->assignment.manager : "pacemaker";
}

void hf_vms_explain_managed(const struct hf_vms_vm *vm, struct hf_err *err)
{
	const char *resource = vm->assignment.resource;

	hf_err_set(err, "'%s' is managed by %s%s%s%s: use crm or pcs, or --manager %s", vm->name,
		   hf_vms_manager(vm), resource[0] ? " (resource " : "", resource,
		   resource[0] ? ")" : "", hf_vms_manager(vm));
}

/* "": nobody's. A stop is taken of one whose definition is gone, or says nothing of a manager any more:
 * what it was told to run it may end. */
static int check_manager(const struct hf_vms_vm *vm, const char *manager, bool is_stop,
			 struct hf_err *err)
{
	if (!manager[0] && hf_vms_is_managed(vm)) {
		hf_vms_explain_managed(vm, err);
		return -EPERM;
	}
	if (!manager[0] || hf_vms_is_managed(vm) || is_stop)
		return 0;
	if (!vm->has_file)
		hf_err_set(err, "'%s': %s", vm->name,
			   vm->file_error[0] ? vm->file_error
					     : "there is no definition of it on this host");
	else
		hf_err_set(err,
			   "'%s' is not managed by %s: its definition on this host lacks "
			   "manager = %s",
			   vm->name, manager, manager);
	return -EPERM;
}

int hf_vms_take_manager(struct hf_vms_vm *vm, const struct json_object *p, bool is_stop,
			bool *ret_is_manager, struct hf_err *err)
{
	const char *manager = "";
	int r = hf_json_has(p, "manager") ? hf_json_str(p, "manager", &manager, err) : 0;

	if (r < 0)
		return r;
	if (hf_json_has(p, "manager") && strcmp(manager, "pacemaker") != 0) {
		hf_err_set(err, "manager: '%.40s' is none that is known: there is pacemaker",
			   manager);
		return -EINVAL;
	}
	*ret_is_manager = manager[0];
	return check_manager(vm, manager, is_stop, err);
}

/* ---- its orders ---- */

static int explain_managed_refusal(const struct hf_vms_vm *vm, struct hf_err *err)
{
	const struct hf_supervise *s = &vm->sup;

	if (s->assigned == HF_SUPERVISE_ASSIGNED_NONE)
		hf_err_set(err, "%s has assigned nothing of '%s' to this host%s%s",
			   hf_vms_manager(vm), vm->name, vm->assignment_trouble[0] ? ": " : "",
			   vm->assignment_trouble);
	else if (s->place == HF_SUPERVISE_PLACE_NOTHING && !s->definition.has_two_hosts)
		hf_err_set(err, "'%s' is not started here: %s", vm->name, vm->place_text);
	else
		hf_err_set(err,
			   "'%s' is frozen here (%s): release that (`holdfast release %s@%s`), or "
			   "have a fresh copy started beside it",
			   vm->name, vm->frozen[0], vm->name, vm->frozen[0]);
	return -EPERM;
}

int hf_vms_start_assigned(struct hf_vms_vm *vm, bool is_fresh, struct hf_err *err)
{
	const struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_START,
					       .is_fresh = is_fresh };

	hf_vms_read_assignment(vm);
	hf_vms_look_for_frozen(vm);
	vm->is_stop_forced = false;
	if (hf_vms_feed(vm, ev) != HF_SUPERVISE_DO_REFUSE)
		return 0;
	return explain_managed_refusal(vm, err);
}

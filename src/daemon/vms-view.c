/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One VM as Vms() and Vm() show it; data/varlink/org.holdfast.Host.varlink has the types. */
#include <string.h>

#include "codec/json.h"
#include "daemon/vmlink.h"
#include "daemon/vms.h"

#define MS 1000000ull

/* What kept it from being what is wanted, for people. */
static void add_reason(struct json_object *o, const struct hf_vms_vm *vm)
{
	const struct hf_supervise *s = &vm->sup;
	char text[HF_ERR_MAX + 256] = "";

	if (vm->assignment_trouble[0])
		(void)snprintf(text, sizeof(text), "%s", vm->assignment_trouble);
	else if (s->why == HF_SUPERVISE_NOT_YET && vm->place_text[0])
		(void)snprintf(text, sizeof(text), "%s", vm->place_text);
	else if (s->why)
		(void)snprintf(text, sizeof(text), "%s%s%s", hf_supervise_why_text(s->why),
			       vm->trouble[0] ? ": " : "", vm->trouble);
	else if (s->state == HF_SUPERVISE_WAITING)
		(void)snprintf(text, sizeof(text), "is tried again soon%s%s",
			       vm->trouble[0] ? ": " : "", vm->trouble);
	hf_json_add_str(o, "reason", text);
}

/* Of one that is managed: also if it has died, and waits for the manager's next word. */
static bool is_desired(const struct hf_vms_vm *vm)
{
	return hf_vms_is_managed(vm) ? vm->sup.assigned != HF_SUPERVISE_ASSIGNED_NONE
				     : vm->sup.is_wanted;
}

static void add_frozen(struct json_object *o, const struct hf_vms_vm *vm)
{
	struct json_object *ids = json_object_new_array();

	for (unsigned int i = 0; i < vm->n_frozen; i++)
		json_object_array_add(ids, json_object_new_string(vm->frozen[i]));
	json_object_object_add(o, "frozen", ids);
}

static void add_keeper(struct json_object *o, const struct hf_vms_vm *vm)
{
	const struct hf_vmlink *l = vm->keeper;
	uint64_t silent_ns = l ? hf_vmlink_silent_ns(l) : 0;

	hf_json_add_i64(o, "keeper_pid", l ? l->pid : 0);
	hf_json_add_i64(o, "qemu_pid", l ? vm->qemu_pid : 0);
	hf_json_add_i64(o, "silent_ms", silent_ns ? (int64_t)((hf_now_ns() - silent_ns) / MS) : 0);
}

static void add_manager(struct json_object *o, const struct hf_vms_vm *vm)
{
	const struct hf_assignment *a = &vm->assignment;
	bool is_managed = hf_vms_is_managed(vm);
	bool has = is_managed && vm->has_assignment;

	hf_json_add_str(o, "manager", is_managed ? hf_vms_manager(vm) : "");
	hf_json_add_str(o, "resource", has ? a->resource : "");
	hf_json_add_str(o, "assigned", has ? hf_place_assigned_name(a->place) : "");
}

static void add_definition(struct json_object *o, const struct hf_vms_vm *vm)
{
	struct json_object *hosts = json_object_new_array();

	for (unsigned int i = 0; vm->has_file && i < vm->file.n_hosts; i++)
		json_object_array_add(hosts, json_object_new_string(vm->file.hosts[i].name));
	hf_json_add_bool(o, "defined", vm->has_file);
	hf_json_add_str(o, "definition_error", vm->file_error);
	json_object_object_add(o, "hosts", hosts);
	hf_json_add_bool(o, "autostart", vm->has_file && vm->file.is_autostarted);
	add_manager(o, vm);
}

struct json_object *hf_vms_view(const struct hf_vms_vm *vm)
{
	const struct hf_vms_hooks *hooks = &vm->d->vms->hooks;
	bool is_here = vm->sup.state == HF_SUPERVISE_UP || vm->sup.state == HF_SUPERVISE_STOPPING;
	bool is_run = is_here && vm->sup.role == HF_SUPERVISE_RUN;
	struct json_object *o = json_object_new_object();

	hf_json_add_str(o, "vm", vm->name);
	hf_json_add_str(o, "life", hf_vms_life_name(vm));
	hf_json_add_str(o, "role", vm->role);
	hf_json_add_str(o, "state", vm->state);
	hf_json_add_str(o, "cause", vm->cause);
	hf_json_add_str(o, "severity", vm->severity);
	hf_json_add_str(o, "cause_text", vm->cause_text);
	hf_json_add_str(o, "topology", vm->topology);
	hf_json_add_str(o, "pause", vm->pause);
	hf_json_add_bool(o, "protected", vm->is_protected);
	hf_json_add_str(o, "protection", is_here ? vm->protection : "");
	hf_json_add_bool(o, "connected", is_here && vm->is_connected);
	hf_json_add_bool(o, "has_epoch", is_here && vm->has_epoch);
	hf_json_add_bool(o, "has_run_last", vm->sup.ran_here && !vm->sup.is_elsewhere);
	hf_json_add_str(o, "host", is_run ? vm->d->conf.name : "");
	hf_json_add_str(o, "peer", is_here ? vm->peer : "");
	hf_json_add_str(o, "desired", is_desired(vm) ? "started" : "stopped");
	hf_json_add_str(o, "supervision", hf_supervise_state_name(vm->sup.state));
	add_reason(o, vm);
	hf_json_add_i64(o, "restarts", vm->sup.restarts);
	add_definition(o, vm);
	add_frozen(o, vm);
	add_keeper(o, vm);
	if (hooks->view)
		hooks->view(vm, o);
	return o;
}

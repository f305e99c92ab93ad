/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One VM as Vms() and Vm() show it; data/varlink/org.holdfast.Host.varlink has the types. */
#include <string.h>

#include "daemon/vmlink.h"
#include "daemon/vms.h"

#define MS 1000000ull

static void add_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static void add_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

static void add_int(struct json_object *o, const char *key, int64_t value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

/* What kept it from being what is wanted, for people. */
static void add_reason(struct json_object *o, const struct hf_vms_vm *vm)
{
	const struct hf_supervise *s = &vm->sup;
	char text[HF_ERR_MAX + 256] = "";

	if (s->why == HF_SUPERVISE_NOT_YET && vm->place_text[0])
		(void)snprintf(text, sizeof(text), "%s", vm->place_text);
	else if (s->why)
		(void)snprintf(text, sizeof(text), "%s%s%s", hf_supervise_why_text(s->why),
			       vm->trouble[0] ? ": " : "", vm->trouble);
	else if (s->state == HF_SUPERVISE_WAITING)
		(void)snprintf(text, sizeof(text), "is tried again soon%s%s",
			       vm->trouble[0] ? ": " : "", vm->trouble);
	add_text(o, "reason", text);
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

	add_int(o, "keeper_pid", l ? l->pid : 0);
	add_int(o, "qemu_pid", l ? vm->qemu_pid : 0);
	add_int(o, "silent_ms", silent_ns ? (int64_t)((hf_now_ns() - silent_ns) / MS) : 0);
}

static void add_definition(struct json_object *o, const struct hf_vms_vm *vm)
{
	struct json_object *hosts = json_object_new_array();

	for (unsigned int i = 0; vm->has_file && i < vm->file.n_hosts; i++)
		json_object_array_add(hosts, json_object_new_string(vm->file.hosts[i].name));
	add_bool(o, "defined", vm->has_file);
	add_text(o, "definition_error", vm->file_error);
	json_object_object_add(o, "hosts", hosts);
	add_bool(o, "autostart", vm->has_file && vm->file.is_autostarted);
}

struct json_object *hf_vms_view(const struct hf_vms_vm *vm)
{
	const struct hf_vms_hooks *hooks = &vm->d->vms->hooks;
	bool is_here = vm->sup.state == HF_SUPERVISE_UP || vm->sup.state == HF_SUPERVISE_STOPPING;
	bool is_run = is_here && vm->sup.role == HF_SUPERVISE_RUN;
	struct json_object *o = json_object_new_object();

	add_text(o, "vm", vm->name);
	add_text(o, "life", hf_vms_life_name(vm));
	add_text(o, "role", vm->role);
	add_text(o, "state", vm->state);
	add_text(o, "cause", vm->cause);
	add_text(o, "severity", vm->severity);
	add_text(o, "cause_text", vm->cause_text);
	add_text(o, "pause", vm->pause);
	add_bool(o, "protected", vm->is_protected);
	add_text(o, "protection", is_here ? vm->protection : "");
	add_text(o, "host", is_run ? vm->d->conf.name : "");
	add_text(o, "peer", is_here ? vm->peer : "");
	add_text(o, "desired", vm->sup.is_wanted ? "started" : "stopped");
	add_text(o, "supervision", hf_supervise_state_name(vm->sup.state));
	add_reason(o, vm);
	add_int(o, "restarts", vm->sup.restarts);
	add_definition(o, vm);
	add_frozen(o, vm);
	add_keeper(o, vm);
	if (hooks->view)
		hooks->view(vm, o);
	return o;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A VM's keepers: started, found again, listened to. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "daemon/eventstore.h"
#include "daemon/spawn.h"
#include "daemon/vmlink.h"
#include "daemon/vms.h"

static struct json_object *about(const struct hf_vms_vm *vm, pid_t pid)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(vm->name));
	json_object_object_add(o, "keeper_pid", json_object_new_int64(pid));
	return o;
}

/* ---- what it says of itself ---- */

static void take_text(const struct json_object *o, const char *key, char *buf, size_t size)
{
	const char *text = "";

	if (hf_json_has(o, key) && hf_json_str(o, key, &text, NULL) < 0)
		text = "";
	(void)snprintf(buf, size, "%s", text);
}

static bool take_bool(const struct json_object *o, const char *key)
{
	bool is_set = false;

	return hf_json_has(o, key) && hf_json_bool(o, key, &is_set, NULL) == 0 && is_set;
}

static bool has_epoch(const struct json_object *status)
{
	struct json_object *epochs;
	uint64_t n = 0;

	return hf_json_has(status, "epochs") && hf_json_obj(status, "epochs", &epochs, NULL) == 0 &&
	       hf_json_u64(epochs, "committed", &n, NULL) == 0 && n > 0;
}

/* A keeper that does not say its life yet runs, or stands by. */
static void take_life(struct hf_vms_vm *vm, const struct json_object *status)
{
	char guest[16];

	take_text(status, "life", vm->life, sizeof(vm->life));
	take_text(status, "guest", guest, sizeof(guest));
	if (!vm->life[0])
		(void)snprintf(vm->life, sizeof(vm->life), "%s",
			       strcmp(vm->role, "standby") == 0 ? "standby"
			       : strcmp(guest, "running") == 0  ? "running"
								: "paused");
	take_text(status, "cause", vm->cause, sizeof(vm->cause));
	take_text(status, "severity", vm->severity, sizeof(vm->severity));
	take_text(status, "cause_text", vm->cause_text, sizeof(vm->cause_text));
	take_text(status, "topology", vm->topology, sizeof(vm->topology));
	take_text(status, "pause", vm->pause, sizeof(vm->pause));
}

/* Of a frozen instance that this daemon did not see freeze: why it has. */
static void take_guards_word(struct hf_vms_vm *vm, const struct json_object *status)
{
	if (vm->keeper || vm->cause[0])
		return;
	take_text(status, "cause", vm->cause, sizeof(vm->cause));
	take_text(status, "severity", vm->severity, sizeof(vm->severity));
	take_text(status, "cause_text", vm->cause_text, sizeof(vm->cause_text));
	take_text(status, "topology", vm->topology, sizeof(vm->topology));
	hf_vms_changed(vm);
}

static void on_status(void *ctx, struct hf_vmlink *l, const struct json_object *status)
{
	struct hf_vms_vm *vm = ctx;
	struct hf_supervise_event up = { .kind = HF_SUPERVISE_EV_KEEPER_UP };
	int64_t qemu_pid = 0;

	if (l != vm->keeper) {
		take_guards_word(vm, status);
		return;
	}
	take_text(status, "role", vm->role, sizeof(vm->role));
	take_text(status, "state", vm->state, sizeof(vm->state));
	take_text(status, "protection", vm->protection, sizeof(vm->protection));
	take_text(status, "peer", vm->peer, sizeof(vm->peer));
	take_life(vm, status);
	vm->is_protected = take_bool(status, "protected");
	vm->has_epoch = strcmp(vm->role, "standby") == 0 && has_epoch(status);
	vm->is_connected = take_bool(status, "connected");
	if (hf_vms_is_managed(vm) && vm->has_epoch) /* of the other host's run */
		vm->sup.ran_here = false;
	if (hf_json_has(status, "qemu_pid") && hf_json_i64(status, "qemu_pid", &qemu_pid, NULL) < 0)
		qemu_pid = 0;
	vm->qemu_pid = (pid_t)qemu_pid;
	up.role = strcmp(vm->role, "standby") == 0 ? HF_SUPERVISE_STANDBY : HF_SUPERVISE_RUN;
	if (vm->sup.role != up.role || vm->sup.state == HF_SUPERVISE_STARTING)
		(void)hf_vms_feed(vm, up);
	else
		hf_vms_changed(vm);
}

/* ---- what happens ---- */

static bool is_given(struct hf_vms_vm *vm)
{
	const struct hf_vms_hooks *hooks = &vm->d->vms->hooks;
	int cause = hf_vm_cause_find(vm->cause);

	return vm->file.n_hosts == 0 && hooks->given &&
	       hooks->given(vm, cause < 0 ? HF_VM_CAUSE_NONE : (enum hf_vm_cause)cause);
}

/* The proof is written: the process that guards it has a folder of another name by now, or in a moment. */
static void on_frozen(struct hf_vms_vm *vm, struct hf_vmlink *l, const struct json_object *event)
{
	struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
					 .end = { .is_frozen = true } };
	char id[HF_VMLINK_ID + 1];

	take_text(event, "id", id, sizeof(id));
	if (!id[0] || l != vm->keeper)
		return;
	vm->keeper = NULL;
	hf_vmlink_rename(l, vm->d->conf.run_dir, vm->name, id);
	l->next = vm->guards;
	vm->guards = l;
	vm->life[0] = '\0';
	vm->pause[0] = '\0';
	vm->qemu_pid = 0;
	vm->is_protected = vm->is_connected = false;
	(void)snprintf(vm->last_state, sizeof(vm->last_state), "frozen");
	hf_vms_watch_vm(vm);
	hf_vms_look_for_frozen(vm);
	ev.end.is_given = is_given(vm);
	(void)hf_vms_feed(vm, ev);
}

/* Steps of a freeze and of disks come in numbers, and change nothing that is shown. */
static bool is_news(const char *name)
{
	return strcmp(name, "freeze-step") != 0 && strcmp(name, "disk-sync") != 0;
}

/* Before a status could tell of it: it may not live to be asked. */
static void take_cause(struct hf_vms_vm *vm, const char *name, const struct json_object *event)
{
	bool is_life = strncmp(name, "vm-", 3) == 0, is_fault = strcmp(name, "vm-fault") == 0;
	char cause[sizeof(vm->cause)], text[sizeof(vm->cause_text)];
	const char *why;

	if (!is_life && strcmp(name, "freezing") != 0 && strcmp(name, "frozen") != 0)
		return;
	take_text(event, "cause", cause, sizeof(cause));
	if (!cause[0] || strcmp(cause, "none") == 0)
		return;
	memcpy(vm->cause, cause, sizeof(cause));
	take_text(event, "severity", vm->severity, sizeof(vm->severity));
	take_text(event, "topology", vm->topology, sizeof(vm->topology));
	take_text(event, "text", text, sizeof(text));
	why = is_fault ? text : strstr(text, ": "); /* "crashed: QEMU..." */
	if (is_life && why)
		(void)snprintf(vm->cause_text, sizeof(vm->cause_text), "%s",
			       is_fault ? why : why + 2);
}

static void on_event(void *ctx, struct hf_vmlink *l, struct json_object *event)
{
	struct hf_vms_vm *vm = ctx;
	char name[64];

	take_text(event, "event", name, sizeof(name));
	if (l == vm->keeper)
		take_cause(vm, name, event);
	hf_event_forward(&vm->d->journal, event, l->pid);
	if (strcmp(name, "frozen") == 0) {
		on_frozen(vm, l, event);
		return;
	}
	if (strcmp(name, "ended") == 0 && l == vm->keeper) {
		take_text(event, "cause", vm->cause, sizeof(vm->cause));
		take_text(event, "state", vm->last_state, sizeof(vm->last_state));
	}
	if (strcmp(name, "released") == 0)
		hf_vms_look_for_frozen(vm);
	if (l == vm->keeper && is_news(name))
		hf_vmlink_refresh(l);
}

static void on_refused(void *ctx, struct hf_vmlink *l, const char *reason)
{
	struct hf_vms_vm *vm = ctx;

	if (l != vm->keeper)
		return;
	hf_vms_orders_refused(vm, reason);
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_STOP_REFUSED });
}

/* ---- the end ---- */

static void guard_ended(struct hf_vms_vm *vm, struct hf_vmlink *l)
{
	struct hf_vmlink **at = &vm->guards;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	hf_vmlink_free(l);
	hf_vms_look_for_frozen(vm);
	hf_vms_finish_frozen(vm);
	hf_vms_changed(vm);
}

static bool is_left(const struct hf_vms_vm *vm)
{
	int cause = hf_vm_cause_find(vm->cause);

	return vm->has_file && cause > 0 && vm->file.on[cause] == HF_VM_LEAVE;
}

static void tell_end(struct hf_vms_vm *vm, const struct hf_vmlink *l)
{
	struct json_object *o = about(vm, l->pid);
	int code = l->end.code;

	json_object_object_add(o, "code", json_object_new_int(code));
	if (code == HF_SUPERVISE_KILLED)
		hf_event(&vm->d->journal, "keeper-ended", o,
			 "the keeper of '%s' (process %d) is dead", vm->name, (int)l->pid);
	else
		hf_event(&vm->d->journal, "keeper-ended", o,
			 "the keeper of '%s' (process %d) has ended with status %d%s%s", vm->name,
			 (int)l->pid, code, vm->trouble[0] ? ": " : "", vm->trouble);
}

/* Ours found the place taken: it goes on with the one that has it. */
static bool is_succeeded(struct hf_vms_vm *vm)
{
	hf_vms_look_for_keeper(vm);
	if (!vm->keeper)
		return false;
	if (vm->sup.state == HF_SUPERVISE_STOPPING)
		hf_vmlink_stop(vm->keeper, vm->is_stop_forced);
	hf_vms_changed(vm);
	return true;
}

static void on_ended(void *ctx, struct hf_vmlink *l)
{
	struct hf_vms_vm *vm = ctx;
	struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_KEEPER_ENDED, .end = l->end };

	if (l != vm->keeper) {
		guard_ended(vm, l);
		return;
	}
	if (!l->has_served)
		(void)hf_spawn_read_why(l->why_fd, vm->trouble, sizeof(vm->trouble));
	tell_end(vm, l);
	vm->keeper = NULL;
	hf_vmlink_free(l);
	vm->life[0] = '\0';
	vm->role[0] = vm->state[0] = vm->pause[0] = '\0';
	vm->qemu_pid = 0;
	vm->is_protected = vm->has_epoch = vm->is_connected = false;
	hf_vms_look_for_frozen(vm);
	hf_vms_finish_frozen(vm);
	if (is_succeeded(vm))
		return;
	ev.end.is_left = is_left(vm);
	if (ev.end.code == HF_SUPERVISE_VM_DIED && !ev.end.is_left)
		ev.end.is_given = is_given(vm);
	(void)hf_vms_feed(vm, ev);
}

static const struct hf_vmlink_ops link_ops = {
	.status = on_status,
	.event = on_event,
	.refused = on_refused,
	.ended = on_ended,
};

/* ---- beginnings ---- */

static int follow(struct hf_vms_vm *vm, const char *folder, pid_t pid, int why_fd,
		  struct hf_vmlink **ret)
{
	int r = hf_vmlink_new(&vm->d->loop, &link_ops, vm, vm->d->conf.run_dir, folder, pid, why_fd,
			      ret);

	if (!r)
		(*ret)->seq = hf_eventstore_seen(vm->d->eventstore, vm->name, pid);
	return r;
}

int hf_vms_spawn(struct hf_vms_vm *vm, bool is_standby, struct hf_err *err)
{
	const char *assigned = hf_vms_is_managed(vm) ? hf_place_assigned_name(vm->assignment.place)
						     : NULL;
	const struct hf_spawn what = { .vm = vm->name,
				       .is_standby = is_standby,
				       .is_fresh = vm->sup.is_fresh,
				       .has_two_hosts = vm->file.n_hosts == 2,
				       .assigned = assigned };
	int why_fd;
	pid_t pid;
	int r = hf_spawn_keeper(&vm->d->conf, &what, &pid, &why_fd, err);

	if (r < 0)
		return r;
	r = follow(vm, vm->name, pid, why_fd, &vm->keeper);
	if (r < 0) {
		hf_err_set(err, "process %d cannot be watched: %s", (int)pid, strerror(-r));
		return r;
	}
	vm->last_state[0] = vm->cause[0] = vm->severity[0] = '\0';
	vm->cause_text[0] = vm->topology[0] = '\0';
	hf_event(&vm->d->journal, "keeper-started", about(vm, pid), "'%s': %s, process %d",
		 vm->name, is_standby ? "a standby is started" : "started", (int)pid);
	return 0;
}

/* Also the keeper itself: its folder has its new name before the event says so. */
static bool is_followed(const struct hf_vms_vm *vm, pid_t pid)
{
	for (const struct hf_vmlink *l = vm->guards; l; l = l->next)
		if (l->pid == pid)
			return true;
	return vm->keeper && vm->keeper->pid == pid;
}

static void found_guard(struct hf_vms_vm *vm, const char *id, pid_t pid)
{
	char folder[HF_NAME_MAX + HF_VMLINK_ID + 2];
	struct hf_vmlink *l;

	(void)snprintf(folder, sizeof(folder), "%s@%s", vm->name, id);
	if (is_followed(vm, pid) || follow(vm, folder, pid, -1, &l) < 0)
		return;
	(void)snprintf(l->id, sizeof(l->id), "%s", id);
	l->next = vm->guards;
	vm->guards = l;
	hf_vmlink_try(l);
}

void hf_vms_found(struct hf_vms_vm *vm, const char *id, pid_t pid)
{
	if (id[0]) {
		found_guard(vm, id, pid);
		return;
	}
	if (vm->keeper) {
		hf_vmlink_try(vm->keeper);
		return;
	}
	if (follow(vm, vm->name, pid, -1, &vm->keeper) < 0)
		return;
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_FOUND });
	hf_vmlink_try(vm->keeper);
}

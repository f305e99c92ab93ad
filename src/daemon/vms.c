/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/vms.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/vmlink.h"

#define RESTART_WINDOW_NS 600000000000ull

/* ---- the table ---- */

struct hf_vms_vm *hf_vms_find(const struct hf_daemon *d, const char *name)
{
	struct hf_vms_vm *vm = d->vms ? d->vms->first : NULL;

	while (vm && strcmp(vm->name, name) != 0)
		vm = vm->next;
	return vm;
}

struct hf_vms_vm *hf_vms_next(const struct hf_daemon *d, const struct hf_vms_vm *after)
{
	if (after)
		return after->next;
	return d->vms ? d->vms->first : NULL;
}

struct hf_vms_vm *hf_vms_get(struct hf_daemon *d, const char *name)
{
	struct hf_vms_vm *vm = hf_vms_find(d, name);

	if (vm)
		return vm;
	vm = d->vms->n < HF_VMS_MAX ? calloc(1, sizeof(*vm)) : NULL;
	if (!vm) {
		hf_log(&d->journal, HF_LOG_ERROR, "'%s' is one VM too many", name);
		return NULL;
	}
	vm->d = d;
	vm->run_wd = vm->frozen_wd = -1;
	(void)snprintf(vm->name, sizeof(vm->name), "%s", name);
	hf_supervise_init(&vm->sup);
	vm->next = d->vms->first;
	d->vms->first = vm;
	d->vms->n++;
	return vm;
}

static void vm_free(struct hf_vms_vm *vm)
{
	struct hf_vmlink *l;

	hf_timer_fini(&vm->timer);
	hf_vms_orders_free(vm);
	hf_vms_finish_abandon(vm);
	hf_vmlink_free(vm->keeper);
	while ((l = vm->guards)) {
		vm->guards = l->next;
		hf_vmlink_free(l);
	}
	free(vm);
}

void hf_vms_set_hooks(struct hf_daemon *d, const struct hf_vms_hooks *hooks)
{
	d->vms->hooks = *hooks;
}

/* ---- what is wanted ---- */

/* The machine has changed its mind (an order, an orderly end, a keeper that was started by hand): that is
 * an order, which other hosts hear of. */
static void sync_wanted(struct hf_vms_vm *vm)
{
	const char *own = vm->d->conf.name;

	/* Also of one whose definition is gone for now. */
	if (!vm->d->vms->is_begun || vm->sup.definition.is_managed ||
	    vm->sup.is_wanted == vm->wanted.is_started)
		return;
	hf_wanted_order(&vm->wanted, vm->sup.is_wanted,
			vm->sup.is_wanted && vm->file.n_hosts ? own : vm->wanted.host, own);
	vm->wanted.is_forced = !vm->sup.is_wanted && vm->is_stop_forced;
	hf_vms_save_later(vm->d);
}

/* ---- the machine ---- */

static void on_time(void *ctx)
{
	(void)hf_vms_feed(ctx, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_TIME });
}

static struct json_object *about(const struct hf_vms_vm *vm)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(vm->name));
	return o;
}

static void start(struct hf_vms_vm *vm, bool is_standby)
{
	const struct hf_supervise_event failed = { .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
						   .end = { .code = HF_SUPERVISE_CANNOT } };
	struct hf_err err = { "" };

	vm->trouble[0] = '\0';
	if (hf_vms_spawn(vm, is_standby, &err) == 0)
		return;
	(void)snprintf(vm->trouble, sizeof(vm->trouble), "%s", err.text);
	hf_log(&vm->d->journal, HF_LOG_ERROR, "'%s': %s", vm->name, err.text);
	(void)hf_vms_feed(vm, failed);
}

static void act(struct hf_vms_vm *vm, enum hf_supervise_action action)
{
	switch (action) {
	case HF_SUPERVISE_DO_START:
	case HF_SUPERVISE_DO_START_STANDBY:
		start(vm, action == HF_SUPERVISE_DO_START_STANDBY);
		break;
	case HF_SUPERVISE_DO_STOP:
		if (vm->keeper)
			hf_vmlink_stop(vm->keeper, vm->is_stop_forced);
		break;
	case HF_SUPERVISE_DO_NOTHING:
	case HF_SUPERVISE_DO_REFUSE:
		break;
	}
}

static void tell_failed(struct hf_vms_vm *vm)
{
	struct json_object *o = about(vm);
	const char *why = hf_supervise_why_text(vm->sup.why);

	json_object_object_add(o, "reason", json_object_new_string(why));
	hf_event(&vm->d->journal, "vm-failed", o, "'%s' has failed: %s%s%s", vm->name, why,
		 vm->trouble[0] ? ": " : "", vm->trouble);
}

enum hf_supervise_action hf_vms_feed(struct hf_vms_vm *vm, struct hf_supervise_event ev)
{
	enum hf_supervise_state was;
	enum hf_supervise_action action;

	if (ev.kind != HF_SUPERVISE_EV_ASSIGNED)
		hf_vms_read_assignment(vm);
	was = vm->sup.state;
	ev.now_ns = hf_now_ns();
	action = hf_supervise_step(&vm->sup, &ev);
	if (vm->sup.state == HF_SUPERVISE_FAILED && was != HF_SUPERVISE_FAILED)
		tell_failed(vm);
	sync_wanted(vm);
	act(vm, action);
	hf_timer_set(&vm->timer, &vm->d->loop, hf_supervise_deadline_ns(&vm->sup), on_time, vm);
	hf_vms_changed(vm);
	return action;
}

void hf_vms_changed(struct hf_vms_vm *vm)
{
	const struct hf_vms_hooks *hooks = &vm->d->vms->hooks;

	if (!vm->d->vms->is_begun)
		return;
	hf_vms_orders_look(vm);
	if (hooks->changed)
		hooks->changed(vm);
}

/* ---- definitions ---- */

/* What was wanted of it before is over: not to come back when it is managed no more. That is nobody's order, so the
 * word of another host, where it is not managed, counts more. */
static void forget_wanted(struct hf_vms_vm *vm)
{
	if (!vm->wanted.is_started)
		return;
	vm->wanted.is_started = false;
	vm->wanted.by[0] = '\0';
	hf_vms_save_later(vm->d);
}

static void take_file(struct hf_vms_vm *vm, const struct hf_vmfile *file)
{
	const struct hf_supervise_definition definition = {
		.has_two_hosts = file->n_hosts == 2,
		.is_first = file->own == 0,
		.is_managed = file->is_managed,
		.may_run_beside_frozen = file->may_run_beside_frozen,
		.restarts_max = file->restarts_max,
		.restart_window_ns = RESTART_WINDOW_NS,
	};

	if (vm->has_file && vm->file.crc == file->crc)
		return;
	if (vm->has_file)
		hf_event(&vm->d->journal, "definition-changed", about(vm),
			 "the definition of '%s' has changed%s", vm->name,
			 vm->keeper ? "; what runs goes on with the old one" : "");
	/* Whoever decides where it is to be has not seen it yet. */
	if (!vm->has_file && file->n_hosts == 2 && vm->d->vms->hooks.changed)
		vm->sup.place = HF_SUPERVISE_PLACE_WAIT;
	vm->file = *file;
	vm->has_file = true;
	if (file->is_managed)
		forget_wanted(vm);
	hf_vms_watch_vm(vm);
	hf_vms_look_for_frozen(vm);
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_DEFINED,
							   .definition = &definition });
}

void hf_vms_take_definition(struct hf_vms_vm *vm, int r, const struct hf_vmfile *file,
			    const struct hf_err *err)
{
	if (r == 0) {
		vm->file_error[0] = '\0';
		take_file(vm, file);
		return;
	}
	if (r != -ENOENT) { /* the old one stays in force */
		if (strcmp(vm->file_error, err->text) != 0)
			hf_event(&vm->d->journal, "definition-error", about(vm), "%s%s", err->text,
				 vm->has_file ? "; the old definition stays in force" : "");
		(void)snprintf(vm->file_error, sizeof(vm->file_error), "%s", err->text);
		return;
	}
	vm->file_error[0] = '\0';
	if (!vm->has_file)
		return;
	vm->has_file = false;
	hf_event(&vm->d->journal, "definition-removed", about(vm),
		 "the definition of '%s' is gone%s", vm->name,
		 vm->keeper ? "; what runs goes on" : "");
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_UNDEFINED });
}

/* ---- orders ---- */

static int explain_refusal(const struct hf_vms_vm *vm, struct hf_err *err)
{
	const struct hf_supervise *s = &vm->sup;

	if (hf_supervise_has_keeper(s)) {
		hf_err_set(err, "'%s' is %s here already%s", vm->name, hf_vms_life_name(vm),
			   s->role == HF_SUPERVISE_STANDBY
				   ? ": the other host runs it; `holdfast promote` moves it here"
				   : "");
		return -EALREADY;
	}
	if (!s->is_defined)
		hf_err_set(err, "'%s': %s", vm->name,
			   vm->file_error[0] ? vm->file_error
					     : "there is no definition of it on this host");
	else if (s->state == HF_SUPERVISE_FAILED)
		hf_err_set(err, "'%s' has failed here: %s; `holdfast clear` lets it be tried again",
			   vm->name, hf_supervise_why_text(s->why));
	else if (vm->file.n_hosts == 0 && s->place == HF_SUPERVISE_PLACE_NOTHING)
		hf_err_set(err, "'%s' is not started here: %s", vm->name, vm->place_text);
	else
		hf_err_set(err,
			   "'%s' is frozen here (%s): release that, or start a fresh copy with "
			   "--fresh",
			   vm->name, vm->frozen[0]);
	return -EPERM;
}

int hf_vms_start(struct hf_vms_vm *vm, bool is_fresh, struct hf_err *err)
{
	const struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_START,
					       .is_fresh = is_fresh };

	if (hf_vms_is_managed(vm)) {
		hf_vms_explain_managed(vm, err);
		return -EPERM;
	}
	hf_vms_look_for_frozen(vm);
	vm->was_stopped_by_order = false;
	vm->is_stop_forced = false;
	return hf_vms_feed(vm, ev) == HF_SUPERVISE_DO_REFUSE ? explain_refusal(vm, err) : 0;
}

int hf_vms_recover(struct hf_vms_vm *vm, const char *why, struct hf_err *err)
{
	const struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_RECOVER };

	if (hf_vms_is_managed(vm)) {
		hf_vms_explain_managed(vm, err);
		return -EPERM;
	}
	hf_vms_look_for_frozen(vm);
	if (hf_vms_feed(vm, ev) == HF_SUPERVISE_DO_REFUSE || vm->sup.why == HF_SUPERVISE_FROZEN)
		return explain_refusal(vm, err);
	hf_event(&vm->d->journal, "recovering", about(vm), "'%s' is started here: %s", vm->name,
		 why);
	return 0;
}

/* Stopped already, but not by force: also where it is still asked to shut down. */
static void force_elsewhere(struct hf_vms_vm *vm)
{
	if (!vm->is_stop_forced || vm->wanted.is_started || vm->wanted.is_forced ||
	    hf_vms_is_managed(vm))
		return;
	hf_wanted_order(&vm->wanted, false, vm->wanted.host, vm->d->conf.name);
	vm->wanted.is_forced = true;
	hf_vms_changed(vm);
}

void hf_vms_stop(struct hf_vms_vm *vm, bool is_forced)
{
	vm->is_stop_forced = is_forced;
	vm->was_stopped_by_order |= !hf_vms_is_managed(vm);
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_STOP });
	force_elsewhere(vm);
	hf_vms_save_later(vm->d);
}

bool hf_vms_take_wanted(struct hf_vms_vm *vm, const struct hf_wanted *theirs)
{
	if (hf_vms_is_managed(vm) || !hf_wanted_take(&vm->wanted, theirs))
		return false;
	vm->was_stopped_by_order = !vm->wanted.is_started;
	hf_vms_save_later(vm->d);
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_WANTED,
							   .is_wanted = vm->wanted.is_started });
	vm->is_stop_forced = !vm->wanted.is_started && vm->wanted.is_forced;
	if (vm->is_stop_forced)
		(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_STOP });
	return true;
}

void hf_vms_set_place(struct hf_vms_vm *vm, enum hf_place place, const char *why)
{
	static const enum hf_supervise_place places[] = {
		[HF_PLACE_NOTHING] = HF_SUPERVISE_PLACE_NOTHING,
		[HF_PLACE_RUN] = HF_SUPERVISE_PLACE_RUN,
		[HF_PLACE_STANDBY] = HF_SUPERVISE_PLACE_STANDBY,
		[HF_PLACE_WAIT] = HF_SUPERVISE_PLACE_WAIT,
		[HF_PLACE_END] = HF_SUPERVISE_PLACE_END,
	};

	if (strcmp(vm->place_text, why) == 0 && vm->sup.place == places[place])
		return; /* nothing has changed: who decides is told of changes, and may decide anew */
	(void)snprintf(vm->place_text, sizeof(vm->place_text), "%s", why);
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_PLACE,
							   .place = places[place] });
}

/* ---- what is here ---- */

enum hf_place_have hf_vms_have(const struct hf_vms_vm *vm)
{
	if (!hf_supervise_has_keeper(&vm->sup))
		return HF_HAVE_NOTHING;
	if (vm->sup.role == HF_SUPERVISE_STANDBY)
		return vm->has_epoch ? HF_HAVE_STANDBY : HF_HAVE_EMPTY_STANDBY;
	return HF_HAVE_RUNNING;
}

pid_t hf_vms_keeper_pid(const struct hf_vms_vm *vm)
{
	return vm->keeper ? vm->keeper->pid : 0;
}

static const char *life_without_keeper(const struct hf_vms_vm *vm)
{
	if (vm->sup.state == HF_SUPERVISE_FAILED)
		return vm->sup.why == HF_SUPERVISE_CRASHED ? "crashed" : "failed";
	if (vm->n_frozen)
		return "frozen";
	return strcmp(vm->last_state, "saved") == 0 ? "saved" : "shut-off";
}

const char *hf_vms_life_name(const struct hf_vms_vm *vm)
{
	if (!hf_supervise_has_keeper(&vm->sup))
		return life_without_keeper(vm);
	return vm->life[0] ? vm->life : "starting";
}

/* ---- beginning and end ---- */

/* What autostart asks for, unless somebody has stopped it by an order. What two hosts share is left as
 * it is: the other one may be running it. */
static void boot(struct hf_vms_vm *vm)
{
	bool is_wanted = vm->file.is_autostarted && !vm->was_stopped_by_order;

	if (vm->file.n_hosts && vm->wanted.is_started)
		is_wanted = true;
	else if (vm->file.n_hosts &&
		 is_wanted) /* on the first of them: both boot, perhaps at once */
		hf_wanted_order(&vm->wanted, true, "", vm->d->conf.name);
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_WANTED,
							   .is_wanted = is_wanted });
}

int hf_vms_new(struct hf_daemon *d, struct hf_err *err)
{
	d->vms = calloc(1, sizeof(*d->vms));
	if (!d->vms)
		return -ENOMEM;
	d->vms->inotify_fd = -1;
	hf_vms_load_wanted(d);
	return hf_vms_watch_open(d, err);
}

/* First all that runs is found, then the definitions are read: so nothing is started twice. */
void hf_vms_begin(struct hf_daemon *d)
{
	bool is_boot = d->vms->is_boot;

	hf_vms_look_for_keepers(d);
	hf_vms_reload(d);
	d->vms->is_begun = true;
	for (struct hf_vms_vm *vm = d->vms->first; vm && is_boot; vm = vm->next)
		if (vm->has_file && !vm->file.is_managed)
			boot(vm);
	d->vms->is_boot = false;
	for (struct hf_vms_vm *vm = d->vms->first; vm; vm = vm->next)
		hf_vms_finish_frozen(vm);
	hf_vms_save_later(d);
}

void hf_vms_free(struct hf_daemon *d)
{
	struct hf_vms_vm *vm;

	if (!d->vms)
		return;
	if (d->vms->is_begun)
		hf_vms_save_at_end(d);
	hf_vms_watch_close(d);
	hf_timer_fini(&d->vms->save_timer);
	while ((vm = d->vms->first)) {
		d->vms->first = vm->next;
		vm_free(vm);
	}
	free(d->vms);
	d->vms = NULL;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/life.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "keeper/freezer.h"
#include "keeper/keeper.h"

#define RESTART_WINDOW_NS (600ull * 1000000000)
#define SET_ACTION_MS 10000
#define PANIC_TEXT "the guest's kernel has panicked"

/* ---- what is done ---- */

static void say_state(struct hf_keeper *k, enum hf_vm_state before)
{
	const struct hf_life *l = &k->life;
	struct json_object *o;
	char name[32];

	if (l->vm.state == before)
		return;
	o = json_object_new_object();
	(void)snprintf(name, sizeof(name), "vm-%s", hf_vm_state_name(l->vm.state));
	json_object_object_add(o, "state", json_object_new_string(hf_vm_state_name(l->vm.state)));
	json_object_object_add(o, "before", json_object_new_string(hf_vm_state_name(before)));
	json_object_object_add(o, "cause", json_object_new_string(hf_vm_cause_name(l->vm.cause)));
	json_object_object_add(o, "severity",
			       json_object_new_string(hf_vm_severity_name(l->vm.severity)));
	if (l->vm.state == HF_VM_PAUSED)
		json_object_object_add(o, "pause",
				       json_object_new_string(hf_vm_pause_name(l->vm.pause)));
	if (l->topology[0])
		json_object_object_add(o, "topology", json_object_new_string(l->topology));
	hf_event(&k->journal, name, o, "%s%s%s", hf_vm_state_name(l->vm.state),
		 l->cause_text[0] && l->vm.cause ? ": " : "", l->vm.cause ? l->cause_text : "");
}

static void freeze(struct hf_keeper *k)
{
	const struct hf_life *l = &k->life;
	struct hf_freezer_why why = { .cause = l->vm.cause,
				      .severity = l->vm.severity,
				      .text = l->cause_text,
				      .topology = l->topology,
				      .is_kill_wanted = l->is_kill_wanted };
	struct hf_err err = { "" };

	if (hf_freezer_begin(k, &why, &err) < 0) {
		hf_log(&k->journal, HF_LOG_ERROR, "cannot freeze: %s; QEMU is killed",
		       err.text[0] ? err.text : "no memory");
		(void)!hf_guest_kill(k->guest);
	}
}

static void reset(struct hf_keeper *k)
{
	hf_event(&k->journal, "vm-reset", NULL, "the guest is booted anew: %s", k->life.cause_text);
	hf_keeper_qmp(k, "system_reset");
	hf_keeper_qmp(k, "cont");
}

static void act(struct hf_keeper *k, enum hf_vm_action action)
{
	switch (action) {
	case HF_VM_DO_FREEZE:
		freeze(k);
		break;
	case HF_VM_DO_RESET:
		reset(k);
		break;
	case HF_VM_DO_RESTART:
		k->life.is_restart_wanted = true;
		break;
	case HF_VM_DO_END:
		hf_event(&k->journal, "vm-ending", NULL, "QEMU is ended here: %s",
			 k->life.cause_text);
		(void)!hf_guest_kill(k->guest);
		break;
	case HF_VM_DO_NOTHING:
	case HF_VM_DO_START: /* it was started by who runs this */
	case HF_VM_DO_FAIL_OVER: /* the primary's machine hears of the death, and tells */
	case HF_VM_DO_SAVE:
	case HF_VM_DO_REFUSE:
	case HF_VM_ACTION_COUNT:
		break;
	}
}

static enum hf_vm_action feed(struct hf_keeper *k, struct hf_vm_event *ev)
{
	enum hf_vm_state before = k->life.vm.state;
	enum hf_vm_action action;

	ev->now_ns = hf_now_ns();
	ev->has_standby = k->ops && k->ops->has_standby && k->ops->has_standby(k->role);
	action = hf_vm_step(&k->life.vm, ev);
	say_state(k, before);
	act(k, action);
	return action;
}

void hf_life_note(struct hf_keeper *k, enum hf_vm_event_kind kind)
{
	struct hf_vm_event ev = { .kind = kind };

	(void)feed(k, &ev);
}

/* ---- faults ---- */

static void tell_fault(struct hf_keeper *k, const struct hf_vm_event *ev)
{
	struct json_object *o = json_object_new_object();
	enum hf_vm_policy_word word = k->life.vm.policy.on[ev->cause];

	json_object_object_add(o, "cause", json_object_new_string(hf_vm_cause_name(ev->cause)));
	json_object_object_add(o, "severity",
			       json_object_new_string(hf_vm_severity_name(ev->severity)));
	json_object_object_add(o, "policy", json_object_new_string(hf_vm_policy_name(word)));
	if (k->life.topology[0])
		json_object_object_add(o, "topology", json_object_new_string(k->life.topology));
	hf_event(&k->journal, "vm-fault", o, "%s", k->life.cause_text);
}

void hf_life_fault(struct hf_keeper *k, enum hf_vm_cause cause, enum hf_vm_severity severity,
		   const char *topology, const char *format, ...)
{
	struct hf_vm_event ev = { .kind = HF_VM_EV_FAULT,
				  .cause = cause,
				  .severity = severity,
				  .pause = HF_VM_PAUSE_FAULT };
	struct hf_life *l = &k->life;
	va_list ap;

	if (k->freezer || l->is_reset_due)
		return;
	va_start(ap, format);
	(void)vsnprintf(l->cause_text, sizeof(l->cause_text), format, ap);
	va_end(ap);
	(void)snprintf(l->topology, sizeof(l->topology), "%s", topology ? topology : "");
	tell_fault(k, &ev);
	(void)feed(k, &ev);
}

static const char *text_of(struct json_object *o, const char *key)
{
	const char *v;

	return o && hf_json_str(o, key, &v, NULL) == 0 ? v : "";
}

static void on_panic(struct hf_keeper *k, struct json_object *data __attribute__((unused)))
{
	hf_life_fault(k, HF_VM_CAUSE_PANIC, HF_VM_FATAL, NULL, PANIC_TEXT);
}

/* With `leave` QEMU has done what its line says, which may be a reset. */
static void on_watchdog(struct hf_keeper *k, struct json_object *data)
{
	hf_life_fault(k, HF_VM_CAUSE_WATCHDOG, HF_VM_FATAL, NULL,
		      "the guest's watchdog has run out (QEMU's action: %s)",
		      text_of(data, "action"));
}

static void on_io_error(struct hf_keeper *k, struct json_object *data)
{
	const char *id = text_of(data, "device");

	if (strcmp(text_of(data, "action"), "stop") != 0)
		return;
	if (!id[0])
		id = text_of(data, "node-name");
	hf_life_fault(k, HF_VM_CAUSE_IO_ERROR, HF_VM_RECOVERABLE, id, "disk %s, %s: %s", id,
		      text_of(data, "operation"), text_of(data, "reason"));
}

/* ---- standing still ---- */

/* Of most faults an event of their own has said more, unless it came before anybody listened. */
static void tell_fault_of_status(struct hf_keeper *k, const char *status)
{
	bool is_known = k->life.vm.cause != HF_VM_CAUSE_NONE;

	if (strcmp(status, "internal-error") == 0)
		hf_life_fault(k, HF_VM_CAUSE_INTERNAL, HF_VM_FATAL, NULL,
			      "QEMU or KVM cannot go on with the guest (internal-error)");
	else if (strcmp(status, "guest-panicked") == 0 && !is_known)
		hf_life_fault(k, HF_VM_CAUSE_PANIC, HF_VM_FATAL, NULL, PANIC_TEXT);
	else if (strcmp(status, "watchdog") == 0 && !is_known)
		hf_life_fault(k, HF_VM_CAUSE_WATCHDOG, HF_VM_FATAL, NULL,
			      "the guest's watchdog has run out");
	else if (strcmp(status, "io-error") == 0 && !is_known)
		hf_life_fault(k, HF_VM_CAUSE_IO_ERROR, HF_VM_RECOVERABLE, NULL, "a disk fails");
}

static bool is_standing_for_lease(const struct hf_keeper *k)
{
	return k->ops->is_standing_for_lease && k->ops->is_standing_for_lease(k->role);
}

static void on_status(void *ctx, struct json_object *ret, const char *error_class,
		      const char *error_desc __attribute__((unused)))
{
	struct hf_keeper *k = ctx;
	const char *status = error_class ? "" : text_of(ret, "status");
	struct hf_vm_event ev = { .kind = HF_VM_EV_STOPPED };

	k->life.is_asked = false;
	if (k->freezer || k->is_guest_running)
		return;
	tell_fault_of_status(k, status);
	if (k->freezer || k->life.vm.is_ending)
		return;
	if (strcmp(status, "suspended") == 0)
		ev.pause = HF_VM_PAUSE_GUEST;
	if (is_standing_for_lease(k))
		ev.pause = HF_VM_PAUSE_LEASE;
	(void)feed(k, &ev);
}

/* Why is asked, but not for the lease: QEMU waits then for writes that the disk process holds back, and would not
 * answer before there is one again. */
static void on_stop(struct hf_keeper *k)
{
	struct hf_vm_event ev = { .kind = HF_VM_EV_STOPPED, .pause = HF_VM_PAUSE_LEASE };

	if (k->life.is_asked || k->freezer || k->life.is_reset_due ||
	    (k->ops->is_own_standstill && k->ops->is_own_standstill(k->role)))
		return;
	if (is_standing_for_lease(k)) {
		(void)feed(k, &ev);
		return;
	}
	k->life.is_asked = hf_qmp_call(hf_guest_qmp(k->guest), "query-status", NULL, on_status,
				       k) == 0;
}

static void on_resume(struct hf_keeper *k)
{
	struct hf_vm_event ev = { .kind = HF_VM_EV_RESUMED, .is_running = true };

	if (k->life.vm.state == HF_VM_PAUSED)
		(void)feed(k, &ev);
}

static void on_reset(struct hf_keeper *k)
{
	k->life.is_reset_due = false;
	if (k->ops && k->life.vm.state == HF_VM_RUNNING)
		hf_event(&k->journal, "vm-rebooted", NULL, "the guest was reset");
}

void hf_life_qmp_event(struct hf_keeper *k, const char *name, struct json_object *data)
{
	if (strcmp(name, "RESET") == 0)
		on_reset(k);
	if (!k->ops || k->freezer)
		return;
	if (strcmp(name, "GUEST_PANICKED") == 0)
		on_panic(k, data);
	else if (strcmp(name, "WATCHDOG") == 0)
		on_watchdog(k, data);
	else if (strcmp(name, "BLOCK_IO_ERROR") == 0)
		on_io_error(k, data);
	else if (strcmp(name, "STOP") == 0)
		on_stop(k);
	else if (strcmp(name, "RESUME") == 0)
		on_resume(k);
}

/* ---- silence ---- */

static void on_probe(void *ctx);

static void probe_later(struct hf_keeper *k)
{
	uint64_t wait_ns = k->set->hang_timeout_ns / 2;

	hf_timer_set(&k->life.probe_timer, &k->loop, hf_now_ns() + wait_ns, on_probe, k);
}

static void on_probe_reply(void *ctx, struct json_object *ret __attribute__((unused)),
			   const char *error_class __attribute__((unused)),
			   const char *error_desc __attribute__((unused)))
{
	struct hf_keeper *k = ctx;

	k->life.probe_ns = 0;
}

/* A question that nobody answered for all of hang-timeout. A keeper that was itself stopped for so long has
 * to listen first: the answer may be there. */
static void on_probe(void *ctx)
{
	struct hf_keeper *k = ctx;
	struct hf_life *l = &k->life;
	uint64_t now_ns = hf_now_ns();
	uint64_t age_ns = l->probe_ns ? now_ns - l->probe_ns : 0;

	if (k->freezer || hf_guest_process(k->guest)->pid < 0)
		return;
	probe_later(k);
	if (k->guest_end != HF_GUEST_END_UNKNOWN)
		return; /* QEMU is ending, which may take as long as its storage does */
	if (is_standing_for_lease(k)) {
		/* As long as the lease takes; one that does not stop is killed for that. */
		l->probe_ns = l->probe_ns ? now_ns : 0;
		return;
	}
	if (!l->probe_ns) {
		l->probe_ns = now_ns;
		if (hf_qmp_call(hf_guest_qmp(k->guest), "query-status", NULL, on_probe_reply, k) <
		    0)
			l->probe_ns = 0;
	} else if (age_ns >= k->set->hang_timeout_ns && age_ns < 4 * k->set->hang_timeout_ns) {
		hf_life_fault(k, HF_VM_CAUSE_HANG, HF_VM_FATAL, NULL,
			      "QEMU has not answered for %.1f s", (double)age_ns / 1e9);
	} else if (age_ns >= k->set->hang_timeout_ns) {
		l->probe_ns = now_ns;
	}
}

/* ---- the end ---- */

static enum hf_vm_cause cause_of_end(const struct hf_keeper *k, const struct hf_process_exit *how)
{
	if (k->guest_end == HF_GUEST_END_SHUTDOWN)
		return HF_VM_CAUSE_SHUTDOWN;
	if (k->guest_end == HF_GUEST_END_OPERATOR)
		return HF_VM_CAUSE_ORDER;
	if (k->guest_end == HF_GUEST_END_PANIC)
		return HF_VM_CAUSE_PANIC;
	if (how->is_signal && (how->code == SIGKILL || how->code == SIGTERM ||
			       how->code == SIGINT || how->code == SIGHUP))
		return HF_VM_CAUSE_KILLED;
	return HF_VM_CAUSE_ABORTED;
}

bool hf_life_ended(struct hf_keeper *k, const struct hf_process_exit *how)
{
	struct hf_vm_event ev = { .kind = HF_VM_EV_ENDED, .cause = cause_of_end(k, how) };
	struct hf_life *l = &k->life;
	char text[HF_PROCESS_EXIT_TEXT];
	bool is_fault = ev.cause >= HF_VM_CAUSE_PANIC;

	hf_timer_fini(&l->probe_timer);
	if (is_fault && !l->vm.is_ending)
		(void)snprintf(l->cause_text, sizeof(l->cause_text), "QEMU %s",
			       hf_process_exit_format(how, text, sizeof(text)));
	if (is_fault)
		ev.severity = HF_VM_FATAL;
	return feed(k, &ev) == HF_VM_DO_FREEZE;
}

/* ---- beginning ---- */

void hf_life_init(struct hf_keeper *k)
{
	struct hf_vm_policy policy = { .restarts_max = k->set->restarts_max,
				       .restart_window_ns = RESTART_WINDOW_NS };
	struct hf_vm_event ev = { .kind = k->set->role == HF_ROLE_STANDBY ? HF_VM_EV_START_STANDBY
									  : HF_VM_EV_START };

	for (int i = 0; i < HF_VM_CAUSE_COUNT; i++)
		policy.on[i] = (uint8_t)k->set->on[i];
	hf_vm_init(&k->life.vm, &policy);
	(void)feed(k, &ev);
}

/* QEMU's words for it exist since 6.0. */
int hf_life_prepare(struct hf_keeper *k, struct hf_err *err)
{
	bool has_panic = k->set->on[HF_VM_CAUSE_PANIC] != HF_VM_LEAVE;
	bool has_watchdog = k->set->on[HF_VM_CAUSE_WATCHDOG] != HF_VM_LEAVE;
	struct hf_qmp_command c = { .name = "set-action" };

	c.arguments_text = has_panic && has_watchdog
				   ? "{\"panic\":\"pause\",\"watchdog\":\"pause\"}"
			   : has_panic ? "{\"panic\":\"pause\"}"
				       : "{\"watchdog\":\"pause\"}";
	if (!has_panic && !has_watchdog)
		return 0;
	return hf_qmp_wait(hf_guest_qmp(k->guest), &c, SET_ACTION_MS, NULL, err);
}

void hf_life_begin(struct hf_keeper *k, bool is_promoted)
{
	struct hf_vm_event ev = { .kind = is_promoted ? HF_VM_EV_PROMOTED : HF_VM_EV_STARTED,
				  .is_running = k->is_guest_running };

	(void)feed(k, &ev);
	if (!k->is_guest_running)
		on_stop(k); /* why? */
	probe_later(k);
}

void hf_life_stays(struct hf_keeper *k, bool is_running)
{
	struct hf_vm_event ev = { .kind = HF_VM_EV_STARTED, .is_running = is_running };

	if (k->life.vm.state == HF_VM_MIGRATING)
		(void)feed(k, &ev);
}

/* ---- orders ---- */

int hf_life_order_freeze(struct hf_keeper *k, enum hf_vm_cause cause, enum hf_vm_severity severity,
			 const char *text, const char *topology, bool is_kill_wanted,
			 struct hf_err *err)
{
	struct hf_vm_event ev = { .kind = HF_VM_EV_ORDER_FREEZE,
				  .cause = cause,
				  .severity = severity };
	struct hf_life *l = &k->life;

	if (k->freezer)
		return 0;
	(void)snprintf(l->cause_text, sizeof(l->cause_text), "%s", text);
	(void)snprintf(l->topology, sizeof(l->topology), "%s", topology ? topology : "");
	l->is_kill_wanted = is_kill_wanted;
	if (feed(k, &ev) != HF_VM_DO_REFUSE)
		return 0;
	hf_err_set(err, "a VM that is %s cannot be frozen here", hf_vm_state_name(l->vm.state));
	return -EPERM;
}

int hf_life_order_pause(struct hf_keeper *k, struct hf_err *err)
{
	if (k->life.vm.state != HF_VM_RUNNING) {
		hf_err_set(err, "the VM does not run: it is %s",
			   hf_vm_state_name(k->life.vm.state));
		return -EPERM;
	}
	return k->ops->pause(k->role, err);
}

int hf_life_order_save(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_vm_event ev = { .kind = HF_VM_EV_ORDER_SAVE, .cause = HF_VM_CAUSE_ORDER };

	if (feed(k, &ev) == HF_VM_DO_SAVE)
		return 0;
	hf_err_set(err, "a VM that is %s cannot be saved", hf_vm_state_name(k->life.vm.state));
	return -EPERM;
}

void hf_life_add_status(const struct hf_keeper *k, struct json_object *status)
{
	const struct hf_life *l = &k->life;

	json_object_object_add(status, "life",
			       json_object_new_string(hf_vm_state_name(l->vm.state)));
	json_object_object_add(status, "cause",
			       json_object_new_string(hf_vm_cause_name(l->vm.cause)));
	json_object_object_add(status, "severity",
			       json_object_new_string(hf_vm_severity_name(l->vm.severity)));
	if (l->vm.cause)
		json_object_object_add(status, "cause_text", json_object_new_string(l->cause_text));
	if (l->vm.cause && l->topology[0])
		json_object_object_add(status, "topology", json_object_new_string(l->topology));
	if (l->vm.state == HF_VM_PAUSED)
		json_object_object_add(status, "pause",
				       json_object_new_string(hf_vm_pause_name(l->vm.pause)));
	if (k->freezer)
		json_object_object_add(status, "frozen", hf_freezer_status(k->freezer));
}

void hf_life_fini(struct hf_life *l)
{
	hf_timer_fini(&l->probe_timer);
}

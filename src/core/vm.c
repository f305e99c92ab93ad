/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * docs/life-cycle.md has the diagram and the tables. Events fall into orders, news from QEMU, faults,
 * and the end of QEMU; each kind has a function, each function says in which states it counts.
 *
 * What a policy word becomes depends on what is left: as long as there is a QEMU, FREEZE begins with it,
 * RESTART may be a reset in it, and FAIL_OVER has to end it first. The same word after its end (`ended`)
 * needs no more than telling.
 */
#include "core/vm.h"

#include <assert.h>
#include <string.h>

#define S_NS UINT64_C(1000000000)

void hf_vm_policy_default(struct hf_vm_policy *ret)
{
	*ret = (struct hf_vm_policy){
		.on = { [HF_VM_CAUSE_PANIC] = HF_VM_FREEZE,
			[HF_VM_CAUSE_INTERNAL] = HF_VM_FREEZE,
			[HF_VM_CAUSE_IO_ERROR] = HF_VM_AUTO,
			[HF_VM_CAUSE_WATCHDOG] = HF_VM_FREEZE,
			[HF_VM_CAUSE_HANG] = HF_VM_FREEZE,
			[HF_VM_CAUSE_KILLED] = HF_VM_FAIL_OVER,
			[HF_VM_CAUSE_ABORTED] = HF_VM_FREEZE,
			[HF_VM_CAUSE_HARDWARE] = HF_VM_FREEZE,
			[HF_VM_CAUSE_LEASE] = HF_VM_FAIL_OVER },
		.restarts_max = 3,
		.restart_window_ns = 600 * S_NS,
	};
}

void hf_vm_init(struct hf_vm *vm, const struct hf_vm_policy *policy)
{
	memset(vm, 0, sizeof(*vm));
	vm->policy = *policy;
}

static bool is_fault(enum hf_vm_cause cause)
{
	return cause >= HF_VM_CAUSE_PANIC && cause < HF_VM_CAUSE_COUNT;
}

/* QEMU is here, with a guest that is or was this host's to run. */
static bool is_live(const struct hf_vm *vm)
{
	return vm->state == HF_VM_RUNNING || vm->state == HF_VM_PAUSED ||
	       vm->state == HF_VM_MIGRATING;
}

static bool is_at_rest(const struct hf_vm *vm)
{
	return vm->state == HF_VM_SHUT_OFF || vm->state == HF_VM_CRASHED;
}

static void enter(struct hf_vm *vm, enum hf_vm_state state, const struct hf_vm_event *ev)
{
	if (state != vm->state)
		vm->since_ns = ev->now_ns;
	vm->state = state;
	vm->is_saving = false;
	if (state != HF_VM_PAUSED)
		vm->pause = HF_VM_PAUSE_NONE;
}

/* In order: nothing befell it but what @cause says. */
static void enter_in_order(struct hf_vm *vm, enum hf_vm_state state, enum hf_vm_cause cause,
			   const struct hf_vm_event *ev)
{
	enter(vm, state, ev);
	vm->cause = cause;
	vm->severity = HF_VM_INFO;
	vm->is_failing_over = vm->is_ending = vm->is_restarting = false;
}

static void enter_running(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	enter_in_order(vm, ev->is_running ? HF_VM_RUNNING : HF_VM_PAUSED, HF_VM_CAUSE_NONE, ev);
	if (!ev->is_running)
		vm->pause = ev->pause ? ev->pause : HF_VM_PAUSE_USER;
}

static void befall(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	vm->cause = ev->cause;
	vm->severity = ev->severity;
	if (ev->severity == HF_VM_INFO && is_fault(ev->cause))
		vm->severity = ev->cause == HF_VM_CAUSE_IO_ERROR ? HF_VM_RECOVERABLE : HF_VM_FATAL;
}

/* One more restart: may it be? */
static bool take_restart(struct hf_vm *vm, uint64_t now_ns)
{
	if (!vm->restarts || now_ns - vm->window_began_ns > vm->policy.restart_window_ns) {
		vm->restarts = 0;
		vm->window_began_ns = now_ns;
	}
	if (vm->restarts >= vm->policy.restarts_max)
		return false;
	vm->restarts++;
	return true;
}

static enum hf_vm_policy_word word_for(const struct hf_vm *vm, const struct hf_vm_event *ev)
{
	enum hf_vm_policy_word word = vm->policy.on[ev->cause];

	if (word == HF_VM_AUTO)
		return ev->has_standby ? HF_VM_FREEZE : HF_VM_LEAVE;
	/* Another host owns it, or is about to run it: it is not for this one to boot it. */
	if (word == HF_VM_RESTART &&
	    (ev->cause == HF_VM_CAUSE_LEASE || vm->state == HF_VM_MIGRATING))
		return HF_VM_FAIL_OVER;
	return word;
}

/* ---- orders ---- */

static enum hf_vm_action start(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	/* What has failed or crashed is not started again before somebody has seen it (CLEARED). To be a
	 * copy of another host's VM harms nobody. */
	if (ev->kind == HF_VM_EV_START && vm->state == HF_VM_SHUT_OFF)
		enter_in_order(vm, HF_VM_STARTING, HF_VM_CAUSE_NONE, ev);
	else if (ev->kind == HF_VM_EV_START_STANDBY && is_at_rest(vm))
		enter_in_order(vm, HF_VM_STANDBY, HF_VM_CAUSE_NONE, ev);
	else if (ev->kind == HF_VM_EV_START_SAVED &&
		 (vm->state == HF_VM_SAVED || vm->state == HF_VM_SHUT_OFF))
		enter_in_order(vm, HF_VM_INCOMING, HF_VM_CAUSE_NONE, ev);
	else
		return HF_VM_DO_REFUSE;
	return HF_VM_DO_START;
}

static enum hf_vm_action begin_freezing(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	befall(vm, ev);
	enter(vm, HF_VM_FREEZING, ev);
	vm->is_ending = vm->is_restarting = false;
	vm->is_failing_over = true;
	return HF_VM_DO_FREEZE;
}

static enum hf_vm_action order_freeze(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	struct hf_vm_event order = *ev;

	if (vm->state == HF_VM_FREEZING || vm->state == HF_VM_FROZEN)
		return HF_VM_DO_NOTHING; /* as was asked for */
	if (!is_live(vm))
		return HF_VM_DO_REFUSE;
	if (order.cause == HF_VM_CAUSE_NONE)
		order.cause = HF_VM_CAUSE_ORDER;
	return begin_freezing(vm, &order);
}

static enum hf_vm_action order_save(struct hf_vm *vm)
{
	if ((vm->state != HF_VM_RUNNING && vm->state != HF_VM_PAUSED) || vm->is_saving ||
	    vm->is_ending)
		return HF_VM_DO_REFUSE;
	vm->is_saving = true;
	return HF_VM_DO_SAVE;
}

static enum hf_vm_action clear(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (vm->state != HF_VM_FAILED && vm->state != HF_VM_CRASHED)
		return HF_VM_DO_REFUSE;
	enter_in_order(vm, HF_VM_SHUT_OFF, HF_VM_CAUSE_NONE, ev);
	vm->restarts = 0;
	return HF_VM_DO_NOTHING;
}

/* ---- news ---- */

static enum hf_vm_action started(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	/* DO_END may be on its way: then only the end counts. */
	if (!vm->is_ending && (vm->state == HF_VM_STARTING || vm->state == HF_VM_INCOMING ||
			       vm->state == HF_VM_MIGRATING))
		enter_running(vm, ev);
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action start_failed(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (vm->state == HF_VM_INCOMING)
		enter_in_order(vm, HF_VM_SAVED, ev->cause, ev); /* its file is still there */
	else if (vm->state == HF_VM_STARTING || vm->state == HF_VM_STANDBY)
		enter_in_order(vm, HF_VM_FAILED, ev->cause, ev);
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action resumed(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (vm->is_ending)
		return HF_VM_DO_NOTHING;
	if (vm->state == HF_VM_PAUSED || vm->state == HF_VM_MIGRATING)
		enter_in_order(vm, HF_VM_RUNNING, HF_VM_CAUSE_NONE, ev);
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action stopped(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	bool is_saving = vm->is_saving;
	enum hf_vm_pause pause = ev->pause;

	if (vm->state != HF_VM_RUNNING && vm->state != HF_VM_PAUSED)
		return HF_VM_DO_NOTHING;
	if (is_fault(ev->cause) && vm->cause != ev->cause)
		befall(vm, ev);
	if (!pause)
		pause = is_fault(vm->cause) ? HF_VM_PAUSE_FAULT : HF_VM_PAUSE_USER;
	/* The newest reason counts, but none hides a fault. */
	if (vm->state == HF_VM_RUNNING || vm->pause != HF_VM_PAUSE_FAULT)
		vm->pause = pause;
	enter(vm, HF_VM_PAUSED, ev);
	vm->is_saving = is_saving;
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action promoted(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (vm->state == HF_VM_STANDBY && !vm->is_ending)
		enter_running(vm, ev);
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action hand_over(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (vm->is_ending || !is_live(vm))
		return HF_VM_DO_NOTHING;
	if (ev->kind == HF_VM_EV_HANDED_OVER)
		enter_in_order(vm, HF_VM_SHUT_OFF, HF_VM_CAUSE_ORDER, ev);
	else if (vm->state != HF_VM_MIGRATING)
		enter_in_order(vm, HF_VM_MIGRATING, HF_VM_CAUSE_ORDER, ev);
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action saved(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (!vm->is_saving)
		return HF_VM_DO_NOTHING;
	vm->is_saving = false;
	if (ev->kind == HF_VM_EV_SAVED && !vm->is_ending)
		enter_in_order(vm, HF_VM_SAVED, HF_VM_CAUSE_ORDER, ev);
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action frozen(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (vm->state == HF_VM_FREEZING)
		enter(vm, HF_VM_FROZEN, ev);
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action released(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (vm->state != HF_VM_FROZEN && vm->state != HF_VM_FREEZING && vm->state != HF_VM_SAVED)
		return HF_VM_DO_REFUSE;
	enter_in_order(vm, HF_VM_SHUT_OFF, HF_VM_CAUSE_ORDER, ev);
	return HF_VM_DO_NOTHING;
}

/* ---- faults ---- */

static enum hf_vm_action end_for(struct hf_vm *vm, bool is_failing_over, bool is_restarting)
{
	vm->is_ending = true;
	vm->is_saving = false;
	vm->is_failing_over = is_failing_over;
	vm->is_restarting = is_restarting;
	return HF_VM_DO_END;
}

/* Is what is wrong in the guest, so that a reset is a new beginning? */
static bool is_guests_own(enum hf_vm_cause cause)
{
	return cause == HF_VM_CAUSE_PANIC || cause == HF_VM_CAUSE_WATCHDOG ||
	       cause == HF_VM_CAUSE_IO_ERROR;
}

static enum hf_vm_action restart_live(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (!take_restart(vm, ev->now_ns))
		return end_for(vm, false, false);
	if (!is_guests_own(ev->cause))
		return end_for(vm, false, true);
	enter(vm, HF_VM_RUNNING, ev);
	return HF_VM_DO_RESET;
}

static enum hf_vm_action fault_live(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	switch (word_for(vm, ev)) {
	case HF_VM_FREEZE:
		return begin_freezing(vm, ev);
	case HF_VM_FAIL_OVER:
		befall(vm, ev);
		return end_for(vm, true, false);
	case HF_VM_RESTART:
		befall(vm, ev);
		return restart_live(vm, ev);
	case HF_VM_LEAVE:
	case HF_VM_AUTO:
	case HF_VM_POLICY_COUNT:
		break;
	}
	befall(vm, ev);
	if (vm->pause == HF_VM_PAUSE_USER && ev->pause == HF_VM_PAUSE_FAULT)
		vm->pause = HF_VM_PAUSE_FAULT; /* its STOP came first, and did not say why */
	return HF_VM_DO_NOTHING;
}

/* There is nothing yet, or only a copy, that would be worth keeping. */
static enum hf_vm_action fault_unborn(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (word_for(vm, ev) == HF_VM_LEAVE)
		return HF_VM_DO_NOTHING;
	befall(vm, ev);
	return end_for(vm, false, false);
}

static bool harms_a_standby(enum hf_vm_cause cause)
{
	return cause == HF_VM_CAUSE_HANG || cause == HF_VM_CAUSE_INTERNAL ||
	       cause == HF_VM_CAUSE_HARDWARE;
}

static enum hf_vm_action fault(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	if (!is_fault(ev->cause) || vm->is_ending)
		return HF_VM_DO_NOTHING;
	/* Hardware speaks of what it has mended, too. */
	if (ev->cause == HF_VM_CAUSE_HARDWARE && ev->severity < HF_VM_RECOVERABLE)
		return HF_VM_DO_NOTHING;
	if (is_live(vm))
		return fault_live(vm, ev);
	if (vm->state == HF_VM_STARTING || vm->state == HF_VM_INCOMING ||
	    (vm->state == HF_VM_STANDBY && harms_a_standby(ev->cause)))
		return fault_unborn(vm, ev);
	return HF_VM_DO_NOTHING;
}

/* ---- the end of QEMU ---- */

/* After DO_END: the cause is the fault's that it was said for. */
static enum hf_vm_action ended_as_told(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	bool is_unborn = vm->state == HF_VM_STARTING, is_standby = vm->state == HF_VM_STANDBY;

	vm->is_ending = false;
	if (vm->state == HF_VM_INCOMING) {
		enter(vm, HF_VM_SAVED, ev);
	} else if (vm->is_restarting) {
		vm->is_restarting = false;
		enter(vm, HF_VM_STARTING, ev);
		return HF_VM_DO_RESTART;
	} else if (vm->is_failing_over) {
		enter(vm, HF_VM_CRASHED, ev);
		return HF_VM_DO_FAIL_OVER;
	} else if (is_standby) {
		enter(vm, HF_VM_CRASHED, ev);
	} else {
		assert(is_unborn || is_live(vm));
		enter(vm, HF_VM_FAILED, ev);
	}
	return HF_VM_DO_NOTHING;
}

static enum hf_vm_action ended_by_fault(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	enum hf_vm_policy_word word = word_for(vm, ev);

	if (word == HF_VM_FREEZE)
		return begin_freezing(vm, ev);
	befall(vm, ev);
	if (word == HF_VM_RESTART) {
		bool may_restart = take_restart(vm, ev->now_ns);

		enter(vm, may_restart ? HF_VM_STARTING : HF_VM_FAILED, ev);
		return may_restart ? HF_VM_DO_RESTART : HF_VM_DO_NOTHING;
	}
	enter(vm, HF_VM_CRASHED, ev);
	vm->is_failing_over = word == HF_VM_FAIL_OVER;
	return vm->is_failing_over ? HF_VM_DO_FAIL_OVER : HF_VM_DO_NOTHING;
}

static enum hf_vm_action ended(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	bool is_unborn = vm->state == HF_VM_STARTING || vm->state == HF_VM_INCOMING;

	if (!is_live(vm) && !is_unborn && vm->state != HF_VM_STANDBY)
		return HF_VM_DO_NOTHING;
	/* The guest's own wish counts, also if it crosses with ours. */
	if (ev->cause == HF_VM_CAUSE_SHUTDOWN || ev->cause == HF_VM_CAUSE_REBOOT) {
		enter_in_order(vm, HF_VM_SHUT_OFF, ev->cause, ev);
		return HF_VM_DO_NOTHING;
	}
	if (vm->is_ending)
		return ended_as_told(vm, ev);
	if (vm->state == HF_VM_INCOMING)
		enter_in_order(vm, HF_VM_SAVED, ev->cause, ev);
	else if (!is_fault(ev->cause))
		enter_in_order(vm, HF_VM_SHUT_OFF, HF_VM_CAUSE_ORDER, ev);
	else if (is_live(vm))
		return ended_by_fault(vm, ev);
	else {
		befall(vm, ev);
		enter(vm, is_unborn ? HF_VM_FAILED : HF_VM_CRASHED, ev);
	}
	return HF_VM_DO_NOTHING;
}

enum hf_vm_action hf_vm_step(struct hf_vm *vm, const struct hf_vm_event *ev)
{
	assert(ev->cause < HF_VM_CAUSE_COUNT);
	assert(ev->severity < HF_VM_SEVERITY_COUNT);
	assert(ev->pause < HF_VM_PAUSE_COUNT);
	switch (ev->kind) {
	case HF_VM_EV_START:
	case HF_VM_EV_START_STANDBY:
	case HF_VM_EV_START_SAVED:
		return start(vm, ev);
	case HF_VM_EV_STARTED:
		return started(vm, ev);
	case HF_VM_EV_START_FAILED:
		return start_failed(vm, ev);
	case HF_VM_EV_RESUMED:
		return resumed(vm, ev);
	case HF_VM_EV_STOPPED:
		return stopped(vm, ev);
	case HF_VM_EV_FAULT:
		return fault(vm, ev);
	case HF_VM_EV_ENDED:
		return ended(vm, ev);
	case HF_VM_EV_PROMOTED:
		return promoted(vm, ev);
	case HF_VM_EV_HANDING_OVER:
	case HF_VM_EV_HANDED_OVER:
		return hand_over(vm, ev);
	case HF_VM_EV_ORDER_FREEZE:
		return order_freeze(vm, ev);
	case HF_VM_EV_ORDER_SAVE:
		return order_save(vm);
	case HF_VM_EV_FROZEN:
		return frozen(vm, ev);
	case HF_VM_EV_SAVED:
	case HF_VM_EV_SAVE_FAILED:
		return saved(vm, ev);
	case HF_VM_EV_RELEASED:
		return released(vm, ev);
	case HF_VM_EV_CLEARED:
		return clear(vm, ev);
	case HF_VM_EVENT_COUNT:
		break;
	}
	assert(false);
	return HF_VM_DO_NOTHING;
}

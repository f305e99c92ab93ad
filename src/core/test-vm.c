/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/vm.h"

static uint64_t now_ns;

static void init(struct hf_vm *vm)
{
	struct hf_vm_policy policy;

	hf_vm_policy_default(&policy);
	hf_vm_init(vm, &policy);
}

static enum hf_vm_action feed(struct hf_vm *vm, struct hf_vm_event ev)
{
	ev.now_ns = now_ns += 1000000;
	return hf_vm_step(vm, &ev);
}

static enum hf_vm_action say(struct hf_vm *vm, enum hf_vm_event_kind kind, enum hf_vm_cause cause)
{
	return feed(vm, (struct hf_vm_event){ .kind = kind, .cause = cause });
}

static void init_running(struct hf_vm *vm)
{
	init(vm);
	CHECK_EQ(say(vm, HF_VM_EV_START, 0), HF_VM_DO_START);
	CHECK_EQ(vm->state, HF_VM_STARTING);
	CHECK_EQ(feed(vm, (struct hf_vm_event){ .kind = HF_VM_EV_STARTED, .is_running = true }),
		 HF_VM_DO_NOTHING);
	CHECK_EQ(vm->state, HF_VM_RUNNING);
}

TEST(a_panic_freezes)
{
	struct hf_vm vm;

	init_running(&vm);
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_FREEZE);
	CHECK_EQ(vm.state, HF_VM_FREEZING);
	CHECK_EQ(vm.severity, HF_VM_FATAL);
	CHECK_EQ(say(&vm, HF_VM_EV_STOPPED, HF_VM_CAUSE_PANIC), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_FREEZING);
	CHECK_EQ(say(&vm, HF_VM_EV_FROZEN, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_FROZEN);
	CHECK_EQ(vm.cause, HF_VM_CAUSE_PANIC);
	CHECK_EQ(say(&vm, HF_VM_EV_START, 0), HF_VM_DO_REFUSE);
	CHECK_EQ(say(&vm, HF_VM_EV_RELEASED, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_SHUT_OFF);
}

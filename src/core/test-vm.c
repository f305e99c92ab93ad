/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/vm.h"

#define S_NS 1000000000ULL

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
	CHECK_EQ(vm->cause, HF_VM_CAUSE_NONE);
}

TEST(a_panic_freezes_and_what_comes_late_changes_nothing)
{
	struct hf_vm vm;

	init_running(&vm);
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_FREEZE);
	CHECK_EQ(vm.state, HF_VM_FREEZING);
	CHECK_EQ(vm.severity, HF_VM_FATAL);
	CHECK_EQ(say(&vm, HF_VM_EV_STOPPED, HF_VM_CAUSE_PANIC), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_RESUMED, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_HANG), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_ORDER_FREEZE, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_FREEZING);
	CHECK_EQ(say(&vm, HF_VM_EV_FROZEN, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_FROZEN);
	CHECK_EQ(vm.cause, HF_VM_CAUSE_PANIC);
	CHECK_EQ(say(&vm, HF_VM_EV_START, 0), HF_VM_DO_REFUSE);
	CHECK_EQ(say(&vm, HF_VM_EV_CLEARED, 0), HF_VM_DO_REFUSE);
	CHECK_EQ(say(&vm, HF_VM_EV_RELEASED, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_SHUT_OFF);
}

/* What a fault leads to under each policy: the action at once, and after DO_END that of the end. */
TEST(each_policy_for_each_kind_of_fault)
{
	static const struct {
		enum hf_vm_cause cause;
		enum hf_vm_policy_word word;
		bool has_standby;
		enum hf_vm_action now, then;
		enum hf_vm_state state;
	} cases[] = {
		{ HF_VM_CAUSE_PANIC, HF_VM_LEAVE, 0, HF_VM_DO_NOTHING, 0, HF_VM_RUNNING },
		{ HF_VM_CAUSE_PANIC, HF_VM_RESTART, 0, HF_VM_DO_RESET, 0, HF_VM_RUNNING },
		{ HF_VM_CAUSE_WATCHDOG, HF_VM_RESTART, 0, HF_VM_DO_RESET, 0, HF_VM_RUNNING },
		{ HF_VM_CAUSE_IO_ERROR, HF_VM_RESTART, 0, HF_VM_DO_RESET, 0, HF_VM_RUNNING },
		{ HF_VM_CAUSE_INTERNAL, HF_VM_RESTART, 0, HF_VM_DO_END, HF_VM_DO_RESTART,
		  HF_VM_STARTING },
		{ HF_VM_CAUSE_HANG, HF_VM_RESTART, 0, HF_VM_DO_END, HF_VM_DO_RESTART,
		  HF_VM_STARTING },
		{ HF_VM_CAUSE_HARDWARE, HF_VM_RESTART, 0, HF_VM_DO_END, HF_VM_DO_RESTART,
		  HF_VM_STARTING },
		{ HF_VM_CAUSE_LEASE, HF_VM_RESTART, 0, HF_VM_DO_END, HF_VM_DO_FAIL_OVER,
		  HF_VM_CRASHED },
		{ HF_VM_CAUSE_HANG, HF_VM_FAIL_OVER, 0, HF_VM_DO_END, HF_VM_DO_FAIL_OVER,
		  HF_VM_CRASHED },
		{ HF_VM_CAUSE_PANIC, HF_VM_FAIL_OVER, 1, HF_VM_DO_END, HF_VM_DO_FAIL_OVER,
		  HF_VM_CRASHED },
		{ HF_VM_CAUSE_HANG, HF_VM_FREEZE, 0, HF_VM_DO_FREEZE, 0, HF_VM_FREEZING },
		{ HF_VM_CAUSE_IO_ERROR, HF_VM_AUTO, 1, HF_VM_DO_FREEZE, 0, HF_VM_FREEZING },
		{ HF_VM_CAUSE_IO_ERROR, HF_VM_AUTO, 0, HF_VM_DO_NOTHING, 0, HF_VM_RUNNING },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hf_vm vm;

		printf("# %s, %s\n", hf_vm_cause_name(cases[i].cause),
		       hf_vm_policy_name(cases[i].word));
		init_running(&vm);
		vm.policy.on[cases[i].cause] = (uint8_t)cases[i].word;
		CHECK_EQ(feed(&vm, (struct hf_vm_event){ .kind = HF_VM_EV_FAULT,
							 .cause = cases[i].cause,
							 .severity = HF_VM_FATAL,
							 .has_standby = cases[i].has_standby }),
			 cases[i].now);
		if (cases[i].now == HF_VM_DO_END)
			CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), cases[i].then);
		CHECK_EQ(vm.state, cases[i].state);
		CHECK_EQ(vm.cause, cases[i].cause);
	}
}

TEST(what_the_end_of_qemu_leads_to)
{
	static const struct {
		enum hf_vm_cause cause;
		enum hf_vm_policy_word word;
		enum hf_vm_action action;
		enum hf_vm_state state;
	} cases[] = {
		{ HF_VM_CAUSE_SHUTDOWN, HF_VM_FREEZE, HF_VM_DO_NOTHING, HF_VM_SHUT_OFF },
		{ HF_VM_CAUSE_REBOOT, HF_VM_FREEZE, HF_VM_DO_NOTHING, HF_VM_SHUT_OFF },
		{ HF_VM_CAUSE_ORDER, HF_VM_FREEZE, HF_VM_DO_NOTHING, HF_VM_SHUT_OFF },
		{ HF_VM_CAUSE_KILLED, HF_VM_FREEZE, HF_VM_DO_FREEZE, HF_VM_FREEZING },
		{ HF_VM_CAUSE_KILLED, HF_VM_FAIL_OVER, HF_VM_DO_FAIL_OVER, HF_VM_CRASHED },
		{ HF_VM_CAUSE_KILLED, HF_VM_RESTART, HF_VM_DO_RESTART, HF_VM_STARTING },
		{ HF_VM_CAUSE_KILLED, HF_VM_LEAVE, HF_VM_DO_NOTHING, HF_VM_CRASHED },
		{ HF_VM_CAUSE_KILLED, HF_VM_AUTO, HF_VM_DO_NOTHING, HF_VM_CRASHED },
		{ HF_VM_CAUSE_ABORTED, HF_VM_FREEZE, HF_VM_DO_FREEZE, HF_VM_FREEZING },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hf_vm vm;

		init_running(&vm);
		vm.policy.on[cases[i].cause] = (uint8_t)cases[i].word;
		CHECK_EQ(say(&vm, HF_VM_EV_ENDED, cases[i].cause), cases[i].action);
		CHECK_EQ(vm.state, cases[i].state);
		CHECK_EQ(vm.cause, cases[i].cause);
	}
}

TEST(too_many_restarts_are_a_failure_until_somebody_clears_it)
{
	struct hf_vm vm;

	init_running(&vm);
	vm.policy.on[HF_VM_CAUSE_PANIC] = vm.policy.on[HF_VM_CAUSE_KILLED] = HF_VM_RESTART;
	for (int i = 0; i < 2; i++)
		CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_RESET);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_RESTART);
	(void)feed(&vm, (struct hf_vm_event){ .kind = HF_VM_EV_STARTED, .is_running = true });
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_END);
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_HANG), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_FAILED);
	CHECK_EQ(vm.cause, HF_VM_CAUSE_PANIC);
	CHECK_EQ(say(&vm, HF_VM_EV_START, 0), HF_VM_DO_REFUSE);
	CHECK_EQ(say(&vm, HF_VM_EV_START_STANDBY, 0), HF_VM_DO_REFUSE);
	CHECK_EQ(say(&vm, HF_VM_EV_CLEARED, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_START, 0), HF_VM_DO_START);
}

TEST(restarts_are_forgiven_after_the_window)
{
	struct hf_vm vm;

	init_running(&vm);
	vm.policy.on[HF_VM_CAUSE_PANIC] = HF_VM_RESTART;
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_RESET);
		now_ns += 250 * S_NS; /* the fourth comes after more than ten minutes */
	}
	vm.policy.restarts_max = 0;
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_END);
}

TEST(a_crashed_vm_waits_for_a_look_but_may_be_a_standby)
{
	struct hf_vm vm;

	init_running(&vm);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_FAIL_OVER);
	CHECK(vm.is_failing_over);
	CHECK_EQ(say(&vm, HF_VM_EV_START, 0), HF_VM_DO_REFUSE);
	CHECK_EQ(say(&vm, HF_VM_EV_START_STANDBY, 0), HF_VM_DO_START);
	CHECK_EQ(vm.state, HF_VM_STANDBY);
	CHECK(!vm.is_failing_over);
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_NOTHING);
	(void)feed(&vm, (struct hf_vm_event){ .kind = HF_VM_EV_PROMOTED, .is_running = true });
	CHECK_EQ(vm.state, HF_VM_RUNNING);
}

TEST(pauses_say_why_and_none_hides_a_fault)
{
	struct hf_vm vm;

	init_running(&vm);
	CHECK_EQ(say(&vm, HF_VM_EV_STOPPED, 0), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.pause, HF_VM_PAUSE_USER);
	(void)say(&vm, HF_VM_EV_RESUMED, 0);
	CHECK_EQ(vm.state, HF_VM_RUNNING);
	CHECK_EQ(vm.pause, HF_VM_PAUSE_NONE);
	(void)feed(&vm,
		   (struct hf_vm_event){ .kind = HF_VM_EV_STOPPED, .pause = HF_VM_PAUSE_LEASE });
	CHECK_EQ(vm.pause, HF_VM_PAUSE_LEASE);
	(void)feed(&vm,
		   (struct hf_vm_event){ .kind = HF_VM_EV_STOPPED, .pause = HF_VM_PAUSE_USER });
	CHECK_EQ(vm.pause, HF_VM_PAUSE_USER);
	(void)say(&vm, HF_VM_EV_RESUMED, 0);
	/* left as QEMU leaves it: it stops, and says so a little later */
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_IO_ERROR), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.severity, HF_VM_RECOVERABLE);
	(void)say(&vm, HF_VM_EV_STOPPED, 0);
	CHECK_EQ(vm.pause, HF_VM_PAUSE_FAULT);
	(void)feed(&vm,
		   (struct hf_vm_event){ .kind = HF_VM_EV_STOPPED, .pause = HF_VM_PAUSE_USER });
	CHECK_EQ(vm.pause, HF_VM_PAUSE_FAULT);
	CHECK_EQ(vm.cause, HF_VM_CAUSE_IO_ERROR);
	(void)say(&vm, HF_VM_EV_RESUMED, 0);
	CHECK_EQ(vm.cause, HF_VM_CAUSE_NONE);
}

TEST(what_hardware_has_mended_is_no_fault)
{
	struct hf_vm vm;

	init_running(&vm);
	for (unsigned int severity = HF_VM_INFO; severity <= HF_VM_CORRECTED; severity++)
		CHECK_EQ(feed(&vm, (struct hf_vm_event){ .kind = HF_VM_EV_FAULT,
							 .cause = HF_VM_CAUSE_HARDWARE,
							 .severity = severity }),
			 HF_VM_DO_NOTHING);
	CHECK_EQ(vm.cause, HF_VM_CAUSE_NONE);
	CHECK_EQ(feed(&vm, (struct hf_vm_event){ .kind = HF_VM_EV_FAULT,
						 .cause = HF_VM_CAUSE_HARDWARE,
						 .severity = HF_VM_RECOVERABLE }),
		 HF_VM_DO_FREEZE);
	CHECK_EQ(vm.severity, HF_VM_RECOVERABLE);
}

TEST(saving_and_coming_back)
{
	struct hf_vm vm;

	init_running(&vm);
	CHECK_EQ(say(&vm, HF_VM_EV_ORDER_SAVE, 0), HF_VM_DO_SAVE);
	CHECK_EQ(say(&vm, HF_VM_EV_ORDER_SAVE, 0), HF_VM_DO_REFUSE);
	(void)say(&vm, HF_VM_EV_STOPPED, 0);
	(void)say(&vm, HF_VM_EV_SAVE_FAILED, 0);
	CHECK_EQ(vm.state, HF_VM_PAUSED);
	(void)say(&vm, HF_VM_EV_SAVED, 0); /* of nothing that was asked for */
	CHECK_EQ(vm.state, HF_VM_PAUSED);
	CHECK_EQ(say(&vm, HF_VM_EV_ORDER_SAVE, 0), HF_VM_DO_SAVE);
	(void)say(&vm, HF_VM_EV_SAVED, 0);
	CHECK_EQ(vm.state, HF_VM_SAVED);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_ORDER), HF_VM_DO_NOTHING);
	CHECK_EQ(say(&vm, HF_VM_EV_START, 0), HF_VM_DO_REFUSE);
	CHECK_EQ(say(&vm, HF_VM_EV_START_SAVED, 0), HF_VM_DO_START);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_ABORTED), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_SAVED); /* its file is still there */
}

TEST(a_fault_is_stronger_than_saving)
{
	struct hf_vm vm;

	init_running(&vm);
	CHECK_EQ(say(&vm, HF_VM_EV_ORDER_SAVE, 0), HF_VM_DO_SAVE);
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_FREEZE);
	(void)say(&vm, HF_VM_EV_SAVED, 0);
	CHECK_EQ(vm.state, HF_VM_FREEZING);
}

TEST(a_fault_before_it_runs_is_a_failure_to_start)
{
	struct hf_vm vm;

	init(&vm);
	(void)say(&vm, HF_VM_EV_START, 0);
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_LEASE), HF_VM_DO_END);
	(void)feed(&vm, (struct hf_vm_event){ .kind = HF_VM_EV_STARTED, .is_running = true });
	CHECK_EQ(vm.state, HF_VM_STARTING);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_NOTHING);
	CHECK_EQ(vm.state, HF_VM_FAILED);
	CHECK_EQ(vm.cause, HF_VM_CAUSE_LEASE);
}

TEST(a_hand_over)
{
	struct hf_vm vm;

	init_running(&vm);
	(void)say(&vm, HF_VM_EV_HANDING_OVER, 0);
	CHECK_EQ(vm.state, HF_VM_MIGRATING);
	(void)feed(&vm, (struct hf_vm_event){ .kind = HF_VM_EV_STARTED }); /* called off, paused */
	CHECK_EQ(vm.state, HF_VM_PAUSED);
	(void)say(&vm, HF_VM_EV_HANDING_OVER, 0);
	vm.policy.on[HF_VM_CAUSE_PANIC] = HF_VM_RESTART; /* maybe it runs there already */
	CHECK_EQ(say(&vm, HF_VM_EV_FAULT, HF_VM_CAUSE_PANIC), HF_VM_DO_END);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_FAIL_OVER);
	init_running(&vm);
	(void)say(&vm, HF_VM_EV_HANDING_OVER, 0);
	(void)say(&vm, HF_VM_EV_HANDED_OVER, 0);
	CHECK_EQ(vm.state, HF_VM_SHUT_OFF);
	CHECK_EQ(say(&vm, HF_VM_EV_ENDED, HF_VM_CAUSE_KILLED), HF_VM_DO_NOTHING);
}

TEST(names_there_and_back)
{
	for (unsigned int i = 0; i < HF_VM_STATE_COUNT; i++)
		CHECK_EQ(hf_vm_state_find(hf_vm_state_name(i)), i);
	for (unsigned int i = 0; i < HF_VM_CAUSE_COUNT; i++)
		CHECK_EQ(hf_vm_cause_find(hf_vm_cause_name(i)), i);
	for (unsigned int i = 0; i < HF_VM_SEVERITY_COUNT; i++)
		CHECK_EQ(hf_vm_severity_find(hf_vm_severity_name(i)), i);
	for (unsigned int i = 0; i < HF_VM_POLICY_COUNT; i++)
		CHECK_EQ(hf_vm_policy_find(hf_vm_policy_name(i)), i);
	for (unsigned int i = 0; i < HF_VM_PAUSE_COUNT; i++)
		CHECK(hf_vm_pause_name(i));
	for (unsigned int i = 0; i < HF_VM_ACTION_COUNT; i++)
		CHECK(hf_vm_action_name(i));
	CHECK_EQ(hf_vm_cause_find("guest-pani"), -1);
	CHECK_EQ(hf_vm_cause_find("guest-panicked"), -1);
	CHECK_EQ(hf_vm_state_find(""), -1);
}

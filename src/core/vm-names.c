/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>

#include "base/text.h"
#include "core/vm.h"

static const char *const state_names[HF_VM_STATE_COUNT] = {
	[HF_VM_SHUT_OFF] = "shut-off",   [HF_VM_STARTING] = "starting", [HF_VM_RUNNING] = "running",
	[HF_VM_PAUSED] = "paused",       [HF_VM_INCOMING] = "incoming", [HF_VM_STANDBY] = "standby",
	[HF_VM_MIGRATING] = "migrating", [HF_VM_FREEZING] = "freezing", [HF_VM_FROZEN] = "frozen",
	[HF_VM_SAVED] = "saved",         [HF_VM_CRASHED] = "crashed",   [HF_VM_FAILED] = "failed",
};

static const char *const cause_names[HF_VM_CAUSE_COUNT] = {
	[HF_VM_CAUSE_NONE] = "none",
	[HF_VM_CAUSE_ORDER] = "order",
	[HF_VM_CAUSE_SHUTDOWN] = "guest-shutdown",
	[HF_VM_CAUSE_REBOOT] = "guest-reboot",
	[HF_VM_CAUSE_PANIC] = "guest-panic",
	[HF_VM_CAUSE_INTERNAL] = "internal-error",
	[HF_VM_CAUSE_IO_ERROR] = "io-error",
	[HF_VM_CAUSE_WATCHDOG] = "watchdog",
	[HF_VM_CAUSE_HANG] = "hang",
	[HF_VM_CAUSE_KILLED] = "qemu-killed",
	[HF_VM_CAUSE_ABORTED] = "qemu-aborted",
	[HF_VM_CAUSE_HARDWARE] = "hardware-error",
	[HF_VM_CAUSE_LEASE] = "lease-lost",
};

static const char *const severity_names[HF_VM_SEVERITY_COUNT] = {
	[HF_VM_INFO] = "info",
	[HF_VM_CORRECTED] = "corrected",
	[HF_VM_RECOVERABLE] = "recoverable",
	[HF_VM_FATAL] = "fatal",
};

static const char *const pause_names[HF_VM_PAUSE_COUNT] = {
	[HF_VM_PAUSE_NONE] = "none",   [HF_VM_PAUSE_USER] = "user",   [HF_VM_PAUSE_FAULT] = "fault",
	[HF_VM_PAUSE_LEASE] = "lease", [HF_VM_PAUSE_GUEST] = "guest",
};

static const char *const policy_names[HF_VM_POLICY_COUNT] = {
	[HF_VM_LEAVE] = "leave",   [HF_VM_RESTART] = "restart", [HF_VM_FAIL_OVER] = "failover",
	[HF_VM_FREEZE] = "freeze", [HF_VM_AUTO] = "auto",
};

static const char *const action_names[HF_VM_ACTION_COUNT] = {
	[HF_VM_DO_NOTHING] = "nothing",     [HF_VM_DO_START] = "start",
	[HF_VM_DO_FREEZE] = "freeze",       [HF_VM_DO_RESET] = "reset",
	[HF_VM_DO_RESTART] = "restart",     [HF_VM_DO_END] = "end",
	[HF_VM_DO_FAIL_OVER] = "fail-over", [HF_VM_DO_SAVE] = "save",
	[HF_VM_DO_REFUSE] = "refuse",
};

const char *hf_vm_state_name(enum hf_vm_state state)
{
	assert(state < HF_VM_STATE_COUNT);
	return state_names[state];
}

const char *hf_vm_cause_name(enum hf_vm_cause cause)
{
	assert(cause < HF_VM_CAUSE_COUNT);
	return cause_names[cause];
}

const char *hf_vm_severity_name(enum hf_vm_severity severity)
{
	assert(severity < HF_VM_SEVERITY_COUNT);
	return severity_names[severity];
}

const char *hf_vm_pause_name(enum hf_vm_pause pause)
{
	assert(pause < HF_VM_PAUSE_COUNT);
	return pause_names[pause];
}

const char *hf_vm_policy_name(enum hf_vm_policy_word word)
{
	assert(word < HF_VM_POLICY_COUNT);
	return policy_names[word];
}

const char *hf_vm_action_name(enum hf_vm_action action)
{
	assert(action < HF_VM_ACTION_COUNT);
	return action_names[action];
}

int hf_vm_state_find(const char *name)
{
	return hf_name_find(state_names, HF_VM_STATE_COUNT, name);
}

int hf_vm_cause_find(const char *name)
{
	return hf_name_find(cause_names, HF_VM_CAUSE_COUNT, name);
}

int hf_vm_severity_find(const char *name)
{
	return hf_name_find(severity_names, HF_VM_SEVERITY_COUNT, name);
}

int hf_vm_policy_find(const char *name)
{
	return hf_name_find(policy_names, HF_VM_POLICY_COUNT, name);
}

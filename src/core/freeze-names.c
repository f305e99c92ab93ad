/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>

#include "base/text.h"
#include "core/freeze.h"

static const char *const step_names[HF_FREEZE_STEP_COUNT] = {
	[HF_FREEZE_LATCH] = "latch",   [HF_FREEZE_STOP] = "stop",   [HF_FREEZE_NETS] = "nets",
	[HF_FREEZE_STATE] = "state",   [HF_FREEZE_DISKS] = "disks", [HF_FREEZE_CGROUP] = "cgroup",
	[HF_FREEZE_VERIFY] = "verify", [HF_FREEZE_LEASE] = "lease", [HF_FREEZE_CERTIFY] = "certify",
};

static const char *const result_names[HF_FREEZE_RESULT_COUNT] = {
	[HF_FREEZE_NOT_YET] = "not-yet", [HF_FREEZE_BEGUN] = "begun",
	[HF_FREEZE_DONE] = "done",       [HF_FREEZE_FELL_BACK] = "fell-back",
	[HF_FREEZE_SKIPPED] = "skipped", [HF_FREEZE_FAILED] = "failed",
};

static const char *const state_names[HF_FREEZE_STATE_COUNT] = {
	[HF_FREEZE_IDLE] = "idle",
	[HF_FREEZE_WORKING] = "working",
	[HF_FREEZE_STUCK] = "stuck",
	[HF_FREEZE_CERTIFIED] = "certified",
};

static const char *const action_names[HF_FREEZE_ACTION_COUNT] = {
	[HF_FREEZE_DO_LATCH] = "latch",
	[HF_FREEZE_DO_STOP] = "stop",
	[HF_FREEZE_DO_NETS] = "nets",
	[HF_FREEZE_DO_STATE] = "state",
	[HF_FREEZE_DO_DROP_STATE] = "drop-state",
	[HF_FREEZE_DO_DISKS] = "disks",
	[HF_FREEZE_DO_KILL_DISKS] = "kill-disks",
	[HF_FREEZE_DO_CGROUP] = "cgroup",
	[HF_FREEZE_DO_KILL_QEMU] = "kill-qemu",
	[HF_FREEZE_DO_LEASE] = "lease",
	[HF_FREEZE_DO_VERIFY] = "verify",
	[HF_FREEZE_DO_CERTIFY] = "certify",
	[HF_FREEZE_DO_TELL] = "tell",
	[HF_FREEZE_DO_TELL_STUCK] = "tell-stuck",
	[HF_FREEZE_DO_AMEND] = "amend",
};

const char *hf_freeze_step_name(enum hf_freeze_step step)
{
	assert(step < HF_FREEZE_STEP_COUNT);
	return step_names[step];
}

const char *hf_freeze_result_name(enum hf_freeze_result result)
{
	assert(result < HF_FREEZE_RESULT_COUNT);
	return result_names[result];
}

const char *hf_freeze_state_name(enum hf_freeze_state state)
{
	assert(state < HF_FREEZE_STATE_COUNT);
	return state_names[state];
}

const char *hf_freeze_action_name(enum hf_freeze_action action)
{
	assert(action < HF_FREEZE_ACTION_COUNT);
	return action_names[action];
}

int hf_freeze_step_find(const char *name)
{
	return hf_name_find(step_names, HF_FREEZE_STEP_COUNT, name);
}

int hf_freeze_result_find(const char *name)
{
	return hf_name_find(result_names, HF_FREEZE_RESULT_COUNT, name);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/ocf.h"

#include <assert.h>
#include <stddef.h>

/* Live: its vCPUs run here, or would if nothing held them. */
static bool is_live(const struct hf_ocf_facts *f)
{
	bool is_on_its_way = f->state == HF_VM_STARTING || f->state == HF_VM_INCOMING ||
			     f->state == HF_VM_FREEZING;

	return f->state == HF_VM_RUNNING || f->state == HF_VM_PAUSED ||
	       f->state == HF_VM_MIGRATING || (is_on_its_way && f->is_primary);
}

static bool is_over(const struct hf_ocf_facts *f)
{
	return f->state == HF_VM_SHUT_OFF || f->state == HF_VM_SAVED || f->state == HF_VM_CRASHED ||
	       f->state == HF_VM_FAILED || f->state == HF_VM_FROZEN;
}

/* ---- what is wrong ---- */

static const char *fault_of_pause(const struct hf_ocf_facts *f)
{
	if (f->is_pause_by_user)
		return f->is_paused_failure ? "it is paused, which counts as failed" : NULL;
	return f->is_pause_fault ? "it is paused by a fault"
				 : "it is paused: its lease has run out";
}

/* NULL: nothing. Only what is proven to be over is not running, so doubt comes first. */
static const char *fault_of(const struct hf_ocf_facts *f)
{
	if (!f->is_known)
		return "its state cannot be told, and it may be running";
	if (is_over(f) && f->is_alive)
		return "it has ended, but a process of it is still there";
	if (f->state == HF_VM_FROZEN)
		return NULL; /* who guards it may be as silent as he likes */
	if (f->is_hung)
		return "it does not answer";
	if (f->state == HF_VM_FREEZING)
		return "it is being frozen";
	if (f->state == HF_VM_STANDBY && !f->is_promotable)
		return "a standby is here, but the resource is no promotable clone";
	return f->state == HF_VM_PAUSED ? fault_of_pause(f) : NULL;
}

/* The role belongs to the answer: a probe that finds a failed Promoted instance has it demoted, then stopped. */
static enum hf_ocf code_of_fault(const struct hf_ocf_facts *f)
{
	bool is_promoted = f->is_promotable && (f->is_primary || is_live(f));

	return is_promoted ? HF_OCF_FAILED_PROMOTED : HF_OCF_ERR_GENERIC;
}

/* ---- what is in order ---- */

static const char *end_of(enum hf_vm_state state)
{
	static const char *const ends[HF_VM_STATE_COUNT] = {
		[HF_VM_SHUT_OFF] = "it is shut off",
		[HF_VM_FROZEN] = "it is frozen, and never runs again here",
		[HF_VM_SAVED] = "its state is saved",
		[HF_VM_CRASHED] = "it was ended by a fault",
		[HF_VM_FAILED] = "it could not be started, or not be kept running",
	};

	return ends[state];
}

/* Going live by the vote is no failure: were it called one, what the cluster should follow would be demoted. */
static bool is_ahead_of_cluster(const struct hf_ocf_facts *f)
{
	return f->is_promotable && is_live(f) && f->is_assigned_standby && !f->is_probe;
}

static enum hf_ocf code_in_order(const struct hf_ocf_facts *f)
{
	if (is_over(f))
		return HF_OCF_NOT_RUNNING;
	if (f->is_promotable && is_live(f) && !is_ahead_of_cluster(f))
		return HF_OCF_RUNNING_PROMOTED;
	return HF_OCF_SUCCESS;
}

static const char *reason_in_order(const struct hf_ocf_facts *f)
{
	if (is_over(f))
		return end_of(f->state);
	if (is_ahead_of_cluster(f))
		return "it runs here, which the cluster does not know yet";
	return f->state == HF_VM_PAUSED ? "it is paused by order, or sleeps" : "";
}

/* ---- scores ---- */

/* A standby whose primary runs on out of touch has been left behind: the vote would not let it go live. */
static int score_of_standby(const struct hf_ocf_facts *f)
{
	if (f->has_epoch && f->is_in_touch)
		return HF_OCF_SCORE_SYNCHRONISED;
	if (f->is_peer_running || f->is_in_touch)
		return 0;
	if (f->has_epoch)
		return HF_OCF_SCORE_OUT_OF_TOUCH;
	return f->has_run_last ? HF_OCF_SCORE_RAN_LAST : HF_OCF_SCORE_COLD;
}

static int score_in_order(const struct hf_ocf_facts *f)
{
	if (!f->is_promotable || is_over(f))
		return 0;
	if (is_live(f))
		return HF_OCF_SCORE_LIVE;
	return f->state == HF_VM_STANDBY ? score_of_standby(f) : 0;
}

/* ---- all in all ---- */

void hf_ocf_monitor(const struct hf_ocf_facts *f, struct hf_ocf_verdict *ret)
{
	const char *fault = fault_of(f);

	if (fault)
		*ret = (struct hf_ocf_verdict){ code_of_fault(f), fault, 0 };
	else
		*ret = (struct hf_ocf_verdict){ code_in_order(f), reason_in_order(f),
						score_in_order(f) };
	assert(ret->rc != HF_OCF_NOT_RUNNING || (f->is_known && !f->is_alive));
}

const char *hf_ocf_name(enum hf_ocf rc)
{
	static const char *const names[] = {
		"OCF_SUCCESS",           "OCF_ERR_GENERIC", "OCF_ERR_ARGS",
		"OCF_ERR_UNIMPLEMENTED", "OCF_ERR_PERM",    "OCF_ERR_INSTALLED",
		"OCF_ERR_CONFIGURED",    "OCF_NOT_RUNNING", "OCF_RUNNING_PROMOTED",
		"OCF_FAILED_PROMOTED",
	};

	return (size_t)rc < sizeof(names) / sizeof(names[0]) ? names[rc] : "?";
}

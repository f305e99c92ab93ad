/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a resource agent answers: OCF return codes and promotion scores for every state of a VM. Layer: core; pure, any
 * thread. The one table behind ocf:holdfast:vm; ocf_holdfast_vm(7) prints it, and a test compares the two. Codes:
 * Open Cluster Framework Resource Agent API 1.1; scores: Pacemaker Explained, "promotable clones".
 */
#pragma once

#include <stdbool.h>

#include "core/vm.h"

enum hf_ocf {
	HF_OCF_SUCCESS = 0,
	HF_OCF_ERR_GENERIC = 1,
	HF_OCF_ERR_ARGS = 2,
	HF_OCF_ERR_UNIMPLEMENTED = 3,
	HF_OCF_ERR_PERM = 4,
	HF_OCF_ERR_INSTALLED = 5, /* hard: not tried again on this node until a cleanup */
	HF_OCF_ERR_CONFIGURED = 6, /* fatal: not tried on any node */
	HF_OCF_NOT_RUNNING = 7,
	HF_OCF_RUNNING_PROMOTED = 8,
	HF_OCF_FAILED_PROMOTED = 9,
};

/* What is known of a VM on this host. */
struct hf_ocf_facts {
	enum hf_vm_state state; /* as its keeper, its daemon or its files say */
	bool is_known; /* false: nobody could say, and something may be alive */
	bool is_alive; /* a process of it (keeper, QEMU, disk process) that is not proven still is there */
	bool is_pause_by_user; /* PAUSED: by an order, or by the guest itself; else by a fault or the lease */
	bool is_pause_fault; /* PAUSED: left so by a fault's policy */
	bool is_hung; /* QEMU or keeper does not answer */
	bool is_primary; /* live here, or on its way to be: not a standby */
	bool has_epoch; /* as a standby: can go live */
	bool is_in_touch; /* as a standby: with its primary */
	bool has_run_last; /* this host was the last owner, as far as it knows */
	bool is_peer_running; /* the other host says that it runs there */
	bool is_promotable; /* the resource is a promotable clone */
	bool is_probe; /* monitor with interval 0: the truth, whatever the cluster believes */
	bool is_assigned_standby; /* the cluster believes: Unpromoted */
	bool is_paused_failure; /* parameter paused=failed: a VM paused by its user counts as failed */
};

/* Promotion scores. Far apart, so that an administrator's preferences (some hundreds) come in between them or not,
 * as is wanted. */
enum hf_ocf_score {
	HF_OCF_SCORE_COLD = 5, /* nothing here, and it runs nowhere: can be booted here */
	HF_OCF_SCORE_RAN_LAST = 100, /* the same, and it ran here last */
	HF_OCF_SCORE_OUT_OF_TOUCH = 500, /* a standby that can go live, if the vote lets it */
	HF_OCF_SCORE_SYNCHRONISED = 1000, /* a standby that can go live */
	HF_OCF_SCORE_LIVE = 10000, /* runs here, in order */
};

struct hf_ocf_verdict {
	enum hf_ocf rc;
	const char *reason; /* a sentence's end for people, static; "" when all is in order */
	int score; /* promotion score; 0: none, the attribute is to be deleted */
};

/**
 * hf_ocf_monitor() - what the action monitor answers, and the score that belongs to it
 * NOT_RUNNING is said only of what is known, and has no process that lives. FROZEN is NOT_RUNNING, whoever is silent.
 * What has failed in a promotable clone while live is FAILED_PROMOTED, else ERR_GENERIC; its score is 0.
 */
void hf_ocf_monitor(const struct hf_ocf_facts *f, struct hf_ocf_verdict *ret);

/* "OCF_NOT_RUNNING", ...; "?" */
const char *hf_ocf_name(enum hf_ocf rc);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Freezing: from "this VM is not to run on" to the proof that it never will. Layer: core; pure, any
 * thread, no allocation, no clock. docs/life-cycle.md has the diagram, the proof and the table of
 * fallbacks.
 *
 * Every step has a time limit and a harder fallback; the hardest is the death of QEMU, which keeps guest
 * RAM (its file is the keeper's) and loses the device state if that was not saved yet. What cannot be
 * proven (a process that does not die) is never certified: the machine stays STUCK, says on what, and goes
 * on when that changes.
 *
 * CERTIFY is given only if each of these is proven:
 *   P1  the guest cannot run: QEMU is dead, or its vCPUs were stopped or its threads are frozen, and
 *       its cgroup is frozen
 *   P2  no disk can change: the disk process is dead, and QEMU has nothing of its own open for writing
 *       or QEMU is dead
 *   P3  no frame can leave: the taps are closed here, and QEMU has no network of its own or is frozen or dead
 *   P4  it is not forgotten: the latch is durable, or QEMU is dead (then nothing is left that could run)
 * A thaw, a RESUME, a dead keeper after that are met by the death of QEMU.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* In the order in which they are begun. LATCH and STOP run side by side; so do DISKS and CGROUP, after
 * STATE. LEASE comes after VERIFY: to let go of the lease lets another host start the VM, which nothing
 * less than the proof may do. */
enum hf_freeze_step {
	HF_FREEZE_LATCH, /* "freezing" is written and durable: a crash from here on ends as frozen */
	HF_FREEZE_STOP, /* vCPUs stop: QMP `stop`; fallback: the cgroup */
	HF_FREEZE_NETS, /* what may leave has left; taps closed */
	HF_FREEZE_STATE, /* device state saved; fallback: none is kept */
	HF_FREEZE_DISKS, /* what was promised is flushed, the disk process ends; fallback: SIGKILL */
	HF_FREEZE_CGROUP, /* QEMU's threads frozen; fallback: SIGKILL to QEMU */
	HF_FREEZE_VERIFY, /* P1 to P3 looked at from outside, in /proc and /sys */
	HF_FREEZE_LEASE, /* let go, or left to the standby's claim; fallback: told that it is still held */
	HF_FREEZE_CERTIFY, /* the certificate is durable */
	HF_FREEZE_STEP_COUNT
};

enum hf_freeze_result {
	HF_FREEZE_NOT_YET,
	HF_FREEZE_BEGUN,
	HF_FREEZE_DONE,
	HF_FREEZE_FELL_BACK, /* done the harder way */
	HF_FREEZE_SKIPPED, /* there was nothing to do: no disks, no lease, QEMU is dead... */
	HF_FREEZE_FAILED, /* not done, and not needed for the proof */
	HF_FREEZE_RESULT_COUNT
};

enum hf_freeze_state {
	HF_FREEZE_IDLE,
	HF_FREEZE_WORKING,
	HF_FREEZE_STUCK, /* something that must die does not: stuck_on says what */
	HF_FREEZE_CERTIFIED,
	HF_FREEZE_STATE_COUNT
};

/* What there is to freeze, as of BEGIN. */
struct hf_freeze_given {
	bool is_qemu_alive;
	bool is_qmp_silent; /* it does not answer: no orderly stop, no device state */
	bool is_guest_stopped; /* QEMU has said STOP already */
	bool has_nets;
	bool has_disks; /* a disk process of ours */
	bool has_own_files; /* QEMU itself has something open for writing: it must die */
	bool has_cgroup;
	bool has_lease;
	bool is_pledged; /* the standby claims the lease by itself */
	bool is_kill_wanted; /* QEMU is not to be kept: memory alone */
};

struct hf_freeze_limits { /* ns; 0: the default */
	uint64_t latch_ns, stop_ns, state_ns, disks_ns, cgroup_ns, lease_ns, kill_ns;
};
#define HF_FREEZE_LATCH_NS 2000000000ull
#define HF_FREEZE_STOP_NS 1000000000ull
#define HF_FREEZE_STATE_NS 5000000000ull
#define HF_FREEZE_DISKS_NS 5000000000ull
#define HF_FREEZE_CGROUP_NS 1000000000ull
#define HF_FREEZE_LEASE_NS 3000000000ull
#define HF_FREEZE_KILL_NS 2000000000ull /* after a SIGKILL: then STUCK is told */
#define HF_FREEZE_VERIFY_NS                                                                        \
	2000000000ull /* no answer, or none that pleases: QEMU is killed, STUCK told */
#define HF_FREEZE_CERTIFY_NS 2000000000ull /* STUCK is told; tried on */
#define HF_FREEZE_RETRY_NS                                                                         \
	100000000ull /* to another attempt to VERIFY or CERTIFY; twice as long each */
#define HF_FREEZE_RETRY_DOUBLINGS 6u

enum hf_freeze_event_kind {
	HF_FREEZE_EV_BEGIN, /* given, limits */
	/* step: as it was ordered. Of DISKS: all is flushed, so that SIGKILL is an orderly end (a server may
	 * wait for its client, a QEMU that is frozen, for ever); DISKS_DEAD ends the step. Of STATE: QEMU
	 * has given it all, and its file is written, in the order of the actions, until CERTIFY. */
	HF_FREEZE_EV_DONE,
	HF_FREEZE_EV_FAILED, /* step: it cannot be done that way; of DISKS: kill it. CERTIFY: tried again */
	HF_FREEZE_EV_QEMU_DEAD, /* reaped, or known by pidfd */
	HF_FREEZE_EV_DISKS_DEAD,
	HF_FREEZE_EV_VERIFIED, /* P1 to P3 hold */
	HF_FREEZE_EV_REFUTED, /* one does not: `refuted` says which (bit 0 is P1) */
	HF_FREEZE_EV_WOKEN, /* the cgroup thawed, or QEMU said RESUME: after STOP/CGROUP, or CERTIFIED */
	HF_FREEZE_EV_TIME,
	HF_FREEZE_EVENT_COUNT
};

struct hf_freeze_event {
	enum hf_freeze_event_kind kind;
	enum hf_freeze_step step;
	uint32_t refuted;
	const struct hf_freeze_given *given;
	const struct hf_freeze_limits *limits; /* may be NULL */
	uint64_t now_ns;
};

enum hf_freeze_action {
	/* Files (LATCH, STATE's, CERTIFY, AMEND) are written one after the other, in the order of the actions,
	 * however late: a latch must never land over the certificate. */
	HF_FREEZE_DO_LATCH,
	HF_FREEZE_DO_STOP,
	HF_FREEZE_DO_NETS, /* synchronous: report DONE at once */
	HF_FREEZE_DO_STATE,
	HF_FREEZE_DO_DROP_STATE, /* give up on it; QEMU may be in the middle */
	HF_FREEZE_DO_DISKS,
	HF_FREEZE_DO_KILL_DISKS,
	HF_FREEZE_DO_CGROUP,
	HF_FREEZE_DO_KILL_QEMU,
	HF_FREEZE_DO_LEASE,
	HF_FREEZE_DO_VERIFY,
	HF_FREEZE_DO_CERTIFY,
	HF_FREEZE_DO_TELL, /* only now: the event, the peer, the daemon */
	HF_FREEZE_DO_TELL_STUCK,
	HF_FREEZE_DO_AMEND, /* QEMU has died after the proof (woken, or not): on record */
	HF_FREEZE_ACTION_COUNT
};
#define HF_FREEZE_ACTIONS_MAX 8

struct hf_freeze_actions {
	enum hf_freeze_action a[HF_FREEZE_ACTIONS_MAX];
	unsigned int n;
};

struct hf_freeze_record {
	enum hf_freeze_result result;
	uint64_t began_ns, ended_ns; /* 0: not */
};

struct hf_freeze {
	enum hf_freeze_state state;
	struct hf_freeze_given given;
	struct hf_freeze_limits limits;
	struct hf_freeze_record step[HF_FREEZE_STEP_COUNT];
	bool is_qemu_dead, is_qemu_killed; /* killed: ordered */
	bool are_disks_dead, are_disks_flushed, are_disks_killed;
	enum hf_freeze_step stuck_on; /* DISKS; CGROUP: QEMU does not die; VERIFY; CERTIFY */
	uint32_t overdue; /* bit per step: told as stuck, and not over yet */
	bool is_stale; /* VERIFY or CERTIFY is under way with facts that have changed */
	uint64_t killed_qemu_ns, killed_disks_ns;
	uint64_t retry_verify_ns, retry_certify_ns; /* 0: no attempt is due */
	unsigned int retries; /* in a row */
	uint32_t refuted; /* by the last verification */
	unsigned int verifications;
	unsigned int awakenings; /* after the proof */
};

void hf_freeze_init(struct hf_freeze *f);

/**
 * hf_freeze_step() - take an event, say what to do
 * @ret: actions in the order in which they are to be carried out; none may block the caller's loop but
 * those that are called synchronous
 * A report about a step that is not under way (late, double, of one that fell back) changes nothing.
 */
void hf_freeze_step(struct hf_freeze *f, const struct hf_freeze_event *ev,
		    struct hf_freeze_actions *ret);

/* When a TIME event is wanted, UINT64_MAX: never. Early or extra ones do no harm. */
uint64_t hf_freeze_deadline_ns(const struct hf_freeze *f);

/* "latch", "stop", ...; "done", "fell-back", "skipped", ... */
const char *hf_freeze_step_name(enum hf_freeze_step step);
const char *hf_freeze_result_name(enum hf_freeze_result result);
const char *hf_freeze_state_name(enum hf_freeze_state state);
const char *hf_freeze_action_name(enum hf_freeze_action action);
/* -1: no such name */
int hf_freeze_step_find(const char *name);
int hf_freeze_result_find(const char *name);

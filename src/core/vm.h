/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of one VM on one host: its states, what can befall it, and what is done about it. Layer:
 * core; pure, any thread, no allocation, no clock: the time is in the events. docs/life-cycle.md has the
 * diagram and the table of causes.
 *
 * The machine decides; a driver (the keeper while there is a QEMU, the daemon while there is none)
 * reports what happened and carries out the actions, in order. How a VM is frozen is core/freeze.h's;
 * epochs and failover are core/commit.h's, and what this machine calls FAIL_OVER is an event to that one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum hf_vm_state {
	HF_VM_SHUT_OFF, /* not here, and in order */
	HF_VM_STARTING, /* QEMU is being started */
	HF_VM_RUNNING, /* vCPUs run */
	HF_VM_PAUSED, /* stand still, and may be resumed: by whom and why is in hf_vm.pause */
	HF_VM_INCOMING, /* QEMU takes a state in: a saved one, a migration */
	HF_VM_STANDBY, /* a copy for another host's VM */
	HF_VM_MIGRATING, /* being handed to another host */
	HF_VM_FREEZING, /* on its way to FROZEN: nothing turns this back */
	HF_VM_FROZEN, /* proven never to run again here; kept for examination */
	HF_VM_SAVED, /* its state is in a file, from which it can be resumed */
	HF_VM_CRASHED, /* ended by a fault, nothing was kept */
	HF_VM_FAILED, /* could not be started, or too often not kept running: waits for an operator */
	HF_VM_STATE_COUNT
};

/* What befell the VM. */
enum hf_vm_cause {
	HF_VM_CAUSE_NONE,
	HF_VM_CAUSE_ORDER, /* an operator's, or the HA stack's */
	HF_VM_CAUSE_SHUTDOWN, /* by the guest */
	HF_VM_CAUSE_REBOOT, /* by the guest; never a fault */
	HF_VM_CAUSE_PANIC, /* the guest's kernel says so: pvpanic */
	HF_VM_CAUSE_INTERNAL, /* KVM internal error, failed emulation: QEMU's state internal-error */
	HF_VM_CAUSE_IO_ERROR, /* a disk failed and QEMU stopped the VM for it (werror=stop) */
	HF_VM_CAUSE_WATCHDOG, /* the guest's watchdog device ran out: the guest hangs */
	HF_VM_CAUSE_HANG, /* QEMU does not answer */
	HF_VM_CAUSE_KILLED, /* QEMU was ended by a signal from outside (SIGKILL, SIGTERM...) */
	HF_VM_CAUSE_ABORTED, /* QEMU ended by its own fault: SIGABRT, SIGSEGV, an exit code */
	HF_VM_CAUSE_HARDWARE, /* of the host, mapped to this VM */
	HF_VM_CAUSE_LEASE, /* the lease is lost to another host */
	HF_VM_CAUSE_COUNT
};

enum hf_vm_severity {
	HF_VM_INFO,
	HF_VM_CORRECTED,
	HF_VM_RECOVERABLE,
	HF_VM_FATAL,
	HF_VM_SEVERITY_COUNT
};

/* What is done about a cause. */
enum hf_vm_policy_word {
	HF_VM_LEAVE, /* nothing: it stays as QEMU left it */
	HF_VM_RESTART, /* booted anew on this host */
	HF_VM_FAIL_OVER, /* ended here, goes on elsewhere */
	HF_VM_FREEZE, /* frozen here, goes on elsewhere */
	HF_VM_AUTO, /* FREEZE if a standby can go on, else LEAVE */
	HF_VM_POLICY_COUNT
};

/* Why a PAUSED VM stands still. */
enum hf_vm_pause {
	HF_VM_PAUSE_NONE,
	HF_VM_PAUSE_USER, /* an order, or somebody at QEMU's own monitor, or -S */
	HF_VM_PAUSE_FAULT, /* hf_vm.cause says which; policy LEAVE */
	HF_VM_PAUSE_LEASE, /* the host's lease has run out: goes on when it is valid */
	HF_VM_PAUSE_GUEST, /* the guest sleeps: S3 */
	HF_VM_PAUSE_COUNT
};

struct hf_vm_policy {
	uint8_t on[HF_VM_CAUSE_COUNT]; /* enum hf_vm_policy_word, of the causes that have one */
	uint32_t restarts_max; /* within restart_window_ns: more make it FAILED. 0: none */
	uint64_t restart_window_ns;
};

/* PANIC, INTERNAL, HANG, HARDWARE, WATCHDOG, ABORTED: FREEZE. IO_ERROR: AUTO. KILLED, LEASE: FAIL_OVER (to
 * keep the memory of a QEMU that was killed for want of memory would be the worst answer).
 * restarts_max 3 in 10 minutes. */
void hf_vm_policy_default(struct hf_vm_policy *ret);

enum hf_vm_event_kind {
	HF_VM_EV_START, /* order: start it here */
	HF_VM_EV_START_STANDBY,
	HF_VM_EV_START_SAVED, /* order: resume it from its file */
	HF_VM_EV_STARTED, /* QEMU is there (after HANDING_OVER: is called off); is_running, pause */
	HF_VM_EV_START_FAILED,
	HF_VM_EV_RESUMED, /* QEMU's RESUME that no checkpoint asked for */
	/* QEMU's STOP that no checkpoint asked for; cause, pause. It only pauses: what is done about a
	 * fault is decided when FAULT tells of it, before or after. */
	HF_VM_EV_STOPPED,
	HF_VM_EV_FAULT, /* cause; severity: INFO stands for the usual one, but of HARDWARE */
	HF_VM_EV_ENDED, /* QEMU has ended; cause: SHUTDOWN, REBOOT, ORDER, KILLED, ABORTED */
	HF_VM_EV_PROMOTED, /* the standby has gone live; is_running */
	HF_VM_EV_HANDING_OVER,
	HF_VM_EV_HANDED_OVER, /* it runs elsewhere now */
	HF_VM_EV_ORDER_FREEZE, /* cause: NONE stands for ORDER; severity */
	HF_VM_EV_ORDER_SAVE,
	HF_VM_EV_FROZEN, /* core/freeze.h says CERTIFIED */
	HF_VM_EV_SAVED,
	HF_VM_EV_SAVE_FAILED,
	HF_VM_EV_RELEASED, /* what was kept has been discarded */
	HF_VM_EV_CLEARED, /* an operator cleared FAILED or CRASHED */
	HF_VM_EVENT_COUNT
};

struct hf_vm_event {
	enum hf_vm_event_kind kind;
	enum hf_vm_cause cause;
	enum hf_vm_severity severity;
	enum hf_vm_pause pause;
	bool is_running;
	bool has_standby; /* somebody else can go on from an epoch: for AUTO */
	uint64_t now_ns; /* monotonic */
};

enum hf_vm_action {
	HF_VM_DO_NOTHING,
	HF_VM_DO_START,
	HF_VM_DO_FREEZE, /* begin core/freeze.h's machine; the end is failed over by it */
	HF_VM_DO_RESET, /* boot anew in the same QEMU: reset, run */
	HF_VM_DO_RESTART, /* QEMU is gone: the whole VM is to be started again here */
	HF_VM_DO_END, /* kill QEMU, and report ENDED: what then follows is that one's action */
	HF_VM_DO_FAIL_OVER, /* tell whoever can go on: the standby, the host's daemon */
	HF_VM_DO_SAVE,
	HF_VM_DO_REFUSE, /* the order cannot be obeyed in this state */
	HF_VM_ACTION_COUNT
};

struct hf_vm {
	struct hf_vm_policy policy;
	enum hf_vm_state state;
	enum hf_vm_cause cause; /* why it is in this state; NONE: in order */
	enum hf_vm_severity severity;
	enum hf_vm_pause pause;
	bool is_failing_over; /* it goes on elsewhere, as far as this host is concerned */
	bool is_ending; /* DO_END was said */
	bool is_restarting; /* ... and DO_RESTART is to follow */
	bool is_saving;
	uint32_t
		restarts; /* within the window, which begins with the first one after a quiet one */
	uint64_t window_began_ns;
	uint64_t since_ns;
};

void hf_vm_init(struct hf_vm *vm, const struct hf_vm_policy *policy);

/**
 * hf_vm_step() - take an event, say what to do
 * One action at most follows from one event. An event that makes no sense in a state (a late STOP after
 * FREEZING) changes nothing. FREEZING and FROZEN are left by RELEASED alone.
 */
enum hf_vm_action hf_vm_step(struct hf_vm *vm, const struct hf_vm_event *ev);

/* "shut-off", "running", "frozen"... ; "guest-panic", "qemu-killed"...; "restart", "freeze"... */
const char *hf_vm_state_name(enum hf_vm_state state);
const char *hf_vm_cause_name(enum hf_vm_cause cause);
const char *hf_vm_severity_name(enum hf_vm_severity severity);
const char *hf_vm_pause_name(enum hf_vm_pause pause);
const char *hf_vm_policy_name(enum hf_vm_policy_word word);
const char *hf_vm_action_name(enum hf_vm_action action);
/* -1: no such name */
int hf_vm_state_find(const char *name);
int hf_vm_cause_find(const char *name);
int hf_vm_severity_find(const char *name);
int hf_vm_policy_find(const char *name);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What befalls the VM, as QEMU tells it, and what is done about it: the driver of core/vm.h. Layer:
 * keeper. Main thread only.
 *
 * QEMU is told to pause on a panic and when the watchdog runs out (set-action), so that nothing goes on
 * before it is decided; with the policy `leave` it does what its own command line says.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/vm.h"
#include "service/loop.h"

struct hf_keeper;
struct hf_process_exit;

struct hf_life {
	struct hf_vm vm;
	char cause_text[256];
	char topology[128];
	struct hf_timer probe_timer;
	uint64_t probe_ns; /* when the one that is out was sent; 0: none is */
	bool is_reset_due; /* a promoted guest boots anew: what it says until then does not count */
	bool is_restart_wanted; /* the keeper is to be started again for this VM */
	bool is_asked; /* why it stands still */
	bool is_kill_wanted; /* by who ordered the freeze */
};

/* Before anything is started. */
void hf_life_init(struct hf_keeper *k);
/* QEMU is there, and has its orders for panics; the guest does not run yet. 0 or -errno. BLOCKS. */
int hf_life_prepare(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;
/* The primary's side begins: at its start, or after a failover (is_promoted). */
void hf_life_begin(struct hf_keeper *k, bool is_promoted);

void hf_life_qmp_event(struct hf_keeper *k, const char *name, struct json_object *data);
/* QEMU has ended. Return: whether the VM is to be frozen: then that has begun. */
bool hf_life_ended(struct hf_keeper *k, const struct hf_process_exit *how);

/* Something befell it that QEMU does not tell. */
void hf_life_fault(struct hf_keeper *k, enum hf_vm_cause cause, enum hf_vm_severity severity,
		   const char *topology, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* Orders; -EPERM with @err: not in this state. */
int hf_life_order_freeze(struct hf_keeper *k, enum hf_vm_cause cause, enum hf_vm_severity severity,
			 const char *text, const char *topology, bool is_kill_wanted,
			 struct hf_err *err) HF_MUST_CHECK;
int hf_life_order_pause(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;
/* 0: save it now; -EPERM with @err */
int hf_life_order_save(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

/* One of the events without more to tell: FROZEN, SAVED, RELEASED, HANDING_OVER... */
void hf_life_note(struct hf_keeper *k, enum hf_vm_event_kind kind);

/* A hand-over was called off. Nothing in any other state. */
void hf_life_stays(struct hf_keeper *k, bool is_running);

/* {"life", "cause", ...} into @status */
void hf_life_add_status(const struct hf_keeper *k, struct json_object *status);

void hf_life_fini(struct hf_life *l);

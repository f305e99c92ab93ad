/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the host's daemon says of a VM, and what a cluster is told of it. Layer: pacemaker. Any thread; pure.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "core/announce.h"
#include "vm/assignment.h"

#define HF_VMFACTS_REASON_MAX 255 /* of an attribute's text */

/* A Vm of data/varlink/org.holdfast.Host.varlink, the part of it that matters here. */
struct hf_vmfacts {
	char vm[HF_NAME_MAX + 1];
	enum hf_vm_state state;
	enum hf_vm_pause pause;
	enum hf_vm_cause cause;
	enum hf_vm_severity severity;
	bool is_silent; /* its keeper */
	bool is_standby;
	bool has_epoch, is_in_touch, has_run_last, is_peer_running;
	uint64_t since_ns; /* CLOCK_REALTIME: in trouble; 0: not known; the reader's to fill in */
	char topology[128];
	char text[256];
	char id[16]; /* of the newest frozen instance; "": none */
	/* The reason that was given while that was all there was here, "": not known; the reader's to fill in. */
	char kept[HF_VMFACTS_REASON_MAX + 1];
};

/* Members that this program could do without may be missing. 0; -EINVAL with @err: what is wrong; @ret is touched only
 * on success. */
int hf_vmfacts_read(const struct json_object *vm, struct hf_vmfacts *ret,
		    struct hf_err *err) HF_MUST_CHECK;

enum hf_trouble hf_vmfacts_trouble(const struct hf_vmfacts *v);

/* "guest-panic severity=fatal topology=... id=ab12cd34 at 2026-01-31T12:00:00Z: TEXT": printable ASCII, cut at
 * HF_VMFACTS_REASON_MAX; without trouble that of the frozen instance that
 * is kept here; "" if there is none. Returns @buf. */
const char *hf_vmfacts_reason(const struct hf_vmfacts *v, char *buf, size_t size);

/* By core/ocf.h's table. */
int hf_vmfacts_score(const struct hf_vmfacts *v, const struct hf_assignment *a);

/* All in all. @assignment_rc: what reading @a gave; @v NULL: there is no such VM any more. */
void hf_vmfacts_announce(const struct hf_vmfacts *v, const struct hf_assignment *a,
			 int assignment_rc, struct hf_announce_facts *ret);

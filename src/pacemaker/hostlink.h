/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A client of the host's daemon: each VM's state, now and after each event that names it. Layer: pacemaker. Main thread
 * only. Nothing waits: a daemon that hangs is one that has nothing to say.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "pacemaker/fencelink.h"
#include "service/journal.h"
#include "service/loop.h"

struct hf_hostlink;

struct hf_hostlink_ops {
	/* A Vm, as it is now, and when (CLOCK_REALTIME) the event was for which it was asked for. */
	void (*vm)(void *ctx, const struct json_object *vm, uint64_t event_ns);
	void (*gone)(void *ctx, const char *vm); /* there is no such VM */
	void (*all)(void *ctx, struct json_object *vms); /* these, and no others */
	void (*up)(void *ctx);
};

/* RUN_DIR/.host/control; connects, again and again. 0 or -ENOMEM. */
int hf_hostlink_new(struct hf_loop *loop, struct hf_journal *journal, const char *run_dir,
		    const struct hf_hostlink_ops *ops, void *ctx,
		    struct hf_hostlink **ret) HF_MUST_CHECK;
/* Takes NULL. */
void hf_hostlink_free(struct hf_hostlink *l);

/* Host.Fenced(). 0: the daemon has been told, what it says of it is logged; -ENOTCONN, -EBUSY, -ENOMEM: not. */
int hf_hostlink_fenced(struct hf_hostlink *l, const struct hf_fencelink_fact *fact) HF_MUST_CHECK;

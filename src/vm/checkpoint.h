/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One checkpoint of a running QEMU over QMP: stop, device state as a byte stream, run on. Layer: vm.
 * Main thread; knows no event loop.
 *
 * A `migrate` with the capability x-ignore-shared carries no RAM, so QEMU stops the vCPUs at once,
 * drains its block layer and writes the device state to a socket that we hand it. From its event
 * "completed" on nothing in QEMU writes to guest RAM until `cont`. That is when the caller reads the
 * written pages and marks the boundary between the epochs' outputs.
 *
 *   begin -> [stream bytes] -> on_standstill -> hf_checkpoint_resume() -> on_running
 *         \-> on_failed                      \-> stream's end -> on_stream_end
 *
 * The stream's end comes after "completed", in no fixed order with the answer to `cont`.
 * Source: QEMU's migration/migration.c and qapi/migration.json, 7.2 and 10.0.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "vm/qmp-session.h"

/* More than this is refused: a display adapter's memory is in it (16 MiB each as a rule). */
#define HF_CHECKPOINT_STATE_MAX_BYTES (64u << 20)

struct hf_checkpoint_ops {
	/* The VM stands still: take the pages, mark the boundary, then resume (or not). */
	void (*on_standstill)(void *ctx);
	/* `cont` was answered: the VM runs. */
	void (*on_running)(void *ctx);
	/* All of the device state is in the buffer. */
	void (*on_stream_end)(void *ctx);
	/* Nothing came of it. If the VM was stopped for it, it has been told to run on. */
	void (*on_failed)(void *ctx, const char *why);
	/* The stream's descriptor is about to be closed: take it out of the loop. May be NULL. */
	void (*on_stream_close)(void *ctx);
};

enum hf_checkpoint_step {
	HF_CHECKPOINT_IDLE,
	HF_CHECKPOINT_SAVING, /* `migrate` is under way */
	HF_CHECKPOINT_STANDSTILL, /* completed; the caller works */
	HF_CHECKPOINT_RESUMING, /* `cont` is under way */
	HF_CHECKPOINT_FINISHING, /* only the stream's end is missing */
};

struct hf_checkpoint {
	struct hf_qmp *qmp;
	const struct hf_checkpoint_ops *ops;
	void *ctx;
	enum hf_checkpoint_step step;
	int stream_fd; /* -1 when none */
	bool is_stream_ended;
	bool was_running; /* before: else it is not resumed after a failure */
	bool is_held; /* the VM is not to run again: no `cont` any more */
	unsigned int cont_tries;
	uint8_t *state;
	size_t state_len;
	size_t state_cap;
};

void hf_checkpoint_init(struct hf_checkpoint *c, struct hf_qmp *qmp,
			const struct hf_checkpoint_ops *ops, void *ctx);
void hf_checkpoint_fini(struct hf_checkpoint *c);

/**
 * hf_checkpoint_begin() - start one; step must be IDLE
 * @was_running: whether the VM runs now
 * Return: 0: callbacks follow; -errno with @err: nothing was started.
 */
int hf_checkpoint_begin(struct hf_checkpoint *c, bool was_running,
			struct hf_err *err) HF_MUST_CHECK;

/* To be given each QMP event. */
void hf_checkpoint_event(struct hf_checkpoint *c, const char *name, struct json_object *data);

/* Readable while stream_fd >= 0. */
void hf_checkpoint_dispatch(struct hf_checkpoint *c);

/* In STANDSTILL: run on, then finish. */
void hf_checkpoint_resume(struct hf_checkpoint *c);

/* In STANDSTILL: finish, and leave the VM stopped. */
void hf_checkpoint_stay(struct hf_checkpoint *c);

/* From now on the VM is never told to run on: what is under way ends with the VM stopped. */
void hf_checkpoint_hold(struct hf_checkpoint *c);

/* QEMU is gone: no callback comes any more. */
void hf_checkpoint_abort(struct hf_checkpoint *c);

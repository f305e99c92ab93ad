/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "codec/json.h"
#include "sys/fd.h"

#define FD_NAME "holdfast-out"
/* Large enough that QEMU never waits for us while the guest stands still. */
#define STREAM_BUFFER_BYTES (2 << 20)
#define STATE_FIRST_BYTES (1u << 20)
/* `cont` is refused while QEMU still cleans up after "completed": tens of microseconds. */
#define CONT_TRIES_MAX 2000

static void close_stream(struct hf_checkpoint *c)
{
	if (c->stream_fd >= 0 && c->ops->on_stream_close)
		c->ops->on_stream_close(c->ctx);
	hf_fd_close(&c->stream_fd);
}

void hf_checkpoint_init(struct hf_checkpoint *c, struct hf_qmp *qmp,
			const struct hf_checkpoint_ops *ops, void *ctx)
{
	memset(c, 0, sizeof(*c));
	c->qmp = qmp;
	c->ops = ops;
	c->ctx = ctx;
	c->stream_fd = -1;
}

void hf_checkpoint_fini(struct hf_checkpoint *c)
{
	close_stream(c);
	free(c->state);
	c->state = NULL;
}

static void on_cont_after_failure(void *ctx __attribute__((unused)),
				  struct json_object *ret __attribute__((unused)),
				  const char *error_class __attribute__((unused)),
				  const char *error_desc __attribute__((unused)))
{
}

static void fail(struct hf_checkpoint *c, const char *why)
{
	c->step = HF_CHECKPOINT_IDLE;
	close_stream(c);
	/* QEMU runs on by itself after most failures; `cont` of a running VM does no harm. */
	if (c->was_running && !c->is_held)
		(void)!hf_qmp_call(c->qmp, "cont", NULL, on_cont_after_failure, NULL);
	c->ops->on_failed(c->ctx, why);
}

static void on_migrate_reply(void *ctx, struct json_object *ret __attribute__((unused)),
			     const char *error_class, const char *error_desc)
{
	struct hf_checkpoint *c = ctx;

	if (error_class && c->step == HF_CHECKPOINT_SAVING)
		fail(c, error_desc);
}

static int give_stream(struct hf_checkpoint *c)
{
	struct hf_qmp_command getfd = {
		.name = "getfd",
		.arguments_text = "{\"fdname\":\"" FD_NAME "\"}",
		.has_fd = true,
		.on_reply = on_migrate_reply,
		.ctx = c,
	};
	struct hf_qmp_command migrate = {
		.name = "migrate",
		.arguments_text = "{\"uri\":\"fd:" FD_NAME "\"}",
		.on_reply = on_migrate_reply,
		.ctx = c,
	};
	int size = STREAM_BUFFER_BYTES;
	int pair[2];
	int r = hf_fd_pair(SOCK_STREAM, pair);

	if (r < 0)
		return r;
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	getfd.fd = pair[1];
	r = hf_qmp_submit(c->qmp, &getfd);
	if (!r)
		r = hf_qmp_submit(c->qmp, &migrate);
	hf_fd_close(&pair[1]);
	if (r < 0)
		hf_fd_close(&pair[0]);
	else
		c->stream_fd = pair[0];
	return r;
}

int hf_checkpoint_begin(struct hf_checkpoint *c, bool was_running, struct hf_err *err)
{
	int r;

	assert(c->step == HF_CHECKPOINT_IDLE);
	assert(c->stream_fd < 0);
	c->was_running = was_running;
	c->is_stream_ended = false;
	c->state_len = 0;
	c->cont_tries = 0;
	c->step = HF_CHECKPOINT_SAVING;
	r = give_stream(c);
	if (r < 0) {
		c->step = HF_CHECKPOINT_IDLE;
		hf_err_set(err, "cannot ask QEMU for a checkpoint: %s", strerror(-r));
	}
	return r;
}

void hf_checkpoint_event(struct hf_checkpoint *c, const char *name, struct json_object *data)
{
	const char *status;

	if (c->step != HF_CHECKPOINT_SAVING || strcmp(name, "MIGRATION") != 0 ||
	    hf_json_str(data, "status", &status, NULL) < 0)
		return;
	if (strcmp(status, "completed") == 0) {
		c->step = HF_CHECKPOINT_STANDSTILL;
		c->ops->on_standstill(c->ctx);
	} else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0) {
		fail(c, "QEMU could not save the device state (its own message is on its stderr)");
	}
}

static int make_room(struct hf_checkpoint *c)
{
	size_t cap = c->state_cap ? c->state_cap * 2 : STATE_FIRST_BYTES;
	uint8_t *grown;

	if (c->state_len < c->state_cap)
		return 0;
	if (c->state_cap >= HF_CHECKPOINT_STATE_MAX_BYTES)
		return -EFBIG;
	grown = realloc(c->state, cap);
	if (!grown)
		return -ENOMEM;
	c->state = grown;
	c->state_cap = cap;
	return 0;
}

static void finish_if_over(struct hf_checkpoint *c)
{
	if (c->step == HF_CHECKPOINT_FINISHING && c->is_stream_ended) {
		c->step = HF_CHECKPOINT_IDLE;
		c->ops->on_stream_end(c->ctx);
	}
}

/* The socket is of no use any more; QEMU notices when it writes, and reports the migration failed. */
static void stop_reading(struct hf_checkpoint *c)
{
	close_stream(c);
	if (c->step == HF_CHECKPOINT_SAVING)
		fail(c, "the device state is larger than 64 MiB, or could not be read");
}

void hf_checkpoint_dispatch(struct hf_checkpoint *c)
{
	size_t n;
	int r;

	while (c->stream_fd >= 0) {
		r = make_room(c);
		if (r < 0) {
			stop_reading(c);
			return;
		}
		r = hf_fd_read(c->stream_fd, c->state + c->state_len, c->state_cap - c->state_len,
			       &n);
		if (r == HF_FD_AGAIN)
			return;
		if (r < 0) {
			stop_reading(c);
			return;
		}
		if (r == HF_FD_EOF) {
			close_stream(c);
			c->is_stream_ended = true;
			finish_if_over(c);
			return;
		}
		c->state_len += n;
	}
}

static void try_cont(struct hf_checkpoint *c);

static void on_cont_reply(void *ctx, struct json_object *ret __attribute__((unused)),
			  const char *error_class, const char *error_desc)
{
	struct hf_checkpoint *c = ctx;

	if (c->step != HF_CHECKPOINT_RESUMING)
		return;
	if (error_class && strcmp(error_class, HF_QMP_CLASS_LOST) == 0)
		return; /* QEMU is dead; its end is reported elsewhere */
	if (error_class && !c->is_held && ++c->cont_tries < CONT_TRIES_MAX) {
		try_cont(c);
		return;
	}
	if (error_class) {
		fail(c, error_desc);
		return;
	}
	c->step = HF_CHECKPOINT_FINISHING;
	c->ops->on_running(c->ctx);
	finish_if_over(c);
}

static void try_cont(struct hf_checkpoint *c)
{
	if (hf_qmp_call(c->qmp, "cont", NULL, on_cont_reply, c) < 0)
		fail(c, "QEMU does not take commands");
}

void hf_checkpoint_resume(struct hf_checkpoint *c)
{
	assert(c->step == HF_CHECKPOINT_STANDSTILL);
	if (c->is_held) {
		hf_checkpoint_stay(c);
		return;
	}
	c->step = HF_CHECKPOINT_RESUMING;
	try_cont(c);
}

void hf_checkpoint_stay(struct hf_checkpoint *c)
{
	assert(c->step == HF_CHECKPOINT_STANDSTILL);
	c->step = HF_CHECKPOINT_FINISHING;
	finish_if_over(c);
}

void hf_checkpoint_hold(struct hf_checkpoint *c)
{
	c->is_held = true;
}

void hf_checkpoint_abort(struct hf_checkpoint *c)
{
	c->step = HF_CHECKPOINT_IDLE;
	close_stream(c);
}

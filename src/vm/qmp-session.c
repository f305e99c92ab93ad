/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. Commands are encoded into one linear buffer and leave it in order. A
 * descriptor has to travel with the bytes of its own command, because QEMU's getfd takes what came
 * last; so the buffer is cut at the first byte of such a command, and that byte's sendmsg() carries
 * the descriptor. QEMU reads no further command before it has run the one it has (it suspends its
 * monitor), hence two such commands may follow each other at once.
 *
 * hf_qmp_submit() writes by itself when the buffer was empty: `cont` ends the guest's pause and
 * must not wait for a turn of the event loop.
 *
 * Answers carry the id of their command. An answer without one, or with one that nobody waits for,
 * means that both sides no longer agree on what was said; the session then ends.
 */
#include "vm/qmp-session.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "codec/qmp.h"
#include "sys/fd.h"

/* One more for qmp_capabilities, which is the session's own. */
#define PENDING_MAX (HF_QMP_OUTSTANDING_MAX + 1)
/* Reads in one dispatch: with more to come, the descriptor is still readable. */
#define READS_MAX 64

struct pending {
	uint64_t id; /* 0: free */
	hf_qmp_reply *on_reply;
	void *ctx;
};

/* A descriptor that leaves with the byte at that position of the output stream. */
struct passenger {
	uint64_t at;
	int fd;
};

struct hf_qmp {
	int fd;
	struct hf_qmp_parser parser;
	hf_qmp_event *on_event;
	void *event_ctx;
	char version[40];
	uint64_t last_id;
	struct pending pending[PENDING_MAX];
	unsigned int n_pending;
	char *out; /* HF_QMP_QUEUE_MAX_BYTES; waiting: [out_start, out_end) */
	size_t out_start, out_end;
	uint64_t out_position; /* of out[out_start] in the stream */
	struct passenger passengers[PENDING_MAX];
	unsigned int n_passengers;
	int write_error; /* -errno: nothing is written any more; the reader will find out why */
	bool is_over;
	unsigned int depth; /* of callbacks */
	struct hf_err capabilities_error;
};

static void on_capabilities(void *ctx, struct json_object *ret, const char *error_class,
			    const char *error_desc)
{
	struct hf_qmp *q = ctx;

	(void)ret;
	if (error_class && !q->is_over)
		hf_err_set(&q->capabilities_error, "QEMU refuses to negotiate QMP: %.300s (%s)",
			   error_desc, error_class);
}

int hf_qmp_open(int fd, hf_qmp_event *on_event, void *ctx, struct hf_qmp **ret)
{
	struct hf_qmp *q = calloc(1, sizeof(*q));
	int r = -ENOMEM;

	if (!q)
		return r;
	q->fd = -1;
	q->on_event = on_event;
	q->event_ctx = ctx;
	hf_qmp_parser_init(&q->parser);
	q->out = malloc(HF_QMP_QUEUE_MAX_BYTES);
	if (q->out) {
		q->fd = fd;
		r = hf_qmp_call(q, "qmp_capabilities", NULL, on_capabilities, q);
	}
	if (r < 0) {
		q->fd = -1; /* stays the caller's */
		hf_qmp_close(q);
		return r;
	}
	*ret = q;
	return 0;
}

static void drop_passengers(struct hf_qmp *q)
{
	for (unsigned int i = 0; i < q->n_passengers; i++)
		hf_fd_close(&q->passengers[i].fd);
	q->n_passengers = 0;
}

void hf_qmp_close(struct hf_qmp *q)
{
	if (!q)
		return;
	assert(q->depth == 0);
	drop_passengers(q);
	hf_qmp_parser_fini(&q->parser);
	hf_fd_close(&q->fd);
	free(q->out);
	free(q);
}

int hf_qmp_fd(const struct hf_qmp *q)
{
	return q->fd;
}

uint32_t hf_qmp_events(const struct hf_qmp *q)
{
	if (q->is_over)
		return 0;
	return EPOLLIN | (q->out_start < q->out_end && !q->write_error ? (uint32_t)EPOLLOUT : 0);
}

const char *hf_qmp_version(const struct hf_qmp *q)
{
	return q->version;
}

/* Sends up to the next descriptor's place, or with it when that place is here. */
static int send_some(struct hf_qmp *q, size_t *ret_n)
{
	const char *from = q->out + q->out_start;
	size_t len = q->out_end - q->out_start;
	unsigned int next = 0;
	bool has_fd = q->n_passengers > 0 && q->passengers[0].at == q->out_position;

	if (has_fd)
		next = 1;
	if (q->n_passengers > next && q->passengers[next].at - q->out_position < len)
		len = (size_t)(q->passengers[next].at - q->out_position);
	if (has_fd)
		return hf_fd_pass(q->fd, from, len, q->passengers[0].fd, ret_n);
	return hf_fd_send(q->fd, from, len, ret_n);
}

static void remove_passenger(struct hf_qmp *q)
{
	hf_fd_close(&q->passengers[0].fd);
	q->n_passengers--;
	memmove(q->passengers, q->passengers + 1, q->n_passengers * sizeof(q->passengers[0]));
}

static void flush(struct hf_qmp *q)
{
	while (q->out_start < q->out_end && !q->write_error) {
		size_t n;
		int r = send_some(q, &n);

		if (r == HF_FD_AGAIN)
			return;
		if (r != 0) {
			q->write_error = r < 0 ? r : -EPIPE;
			return;
		}
		if (q->n_passengers > 0 && q->passengers[0].at == q->out_position)
			remove_passenger(q);
		q->out_start += n;
		q->out_position += n;
	}
	if (q->out_start == q->out_end)
		q->out_start = q->out_end = 0;
}

static int encode(struct hf_qmp *q, const struct hf_qmp_command *c, uint64_t id, size_t *ret_len)
{
	char *to;
	size_t room;

	if (q->out_start > 0) {
		memmove(q->out, q->out + q->out_start, q->out_end - q->out_start);
		q->out_end -= q->out_start;
		q->out_start = 0;
	}
	to = q->out + q->out_end;
	room = HF_QMP_QUEUE_MAX_BYTES - q->out_end;
	if (c->arguments)
		return hf_qmp_encode(to, room, c->name, c->arguments, id, ret_len);
	return hf_qmp_encode_text(to, room, c->name, c->arguments_text, id, ret_len);
}

static struct pending *find_pending(struct hf_qmp *q, uint64_t id)
{
	for (unsigned int i = 0; i < PENDING_MAX; i++) {
		if (q->pending[i].id == id)
			return &q->pending[i];
	}
	return NULL;
}

static int add_passenger(struct hf_qmp *q, int fd, uint64_t at)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return -errno;
	assert(q->n_passengers < PENDING_MAX);
	q->passengers[q->n_passengers++] = (struct passenger){ .at = at, .fd = copy };
	return 0;
}

int hf_qmp_submit(struct hf_qmp *q, const struct hf_qmp_command *c)
{
	bool was_empty = q->out_start == q->out_end;
	struct pending *p;
	size_t len;
	int r;

	if (q->is_over || q->write_error)
		return -EPIPE;
	/* While the capabilities are pending their place is not the callers' to use. */
	if (q->n_pending >= HF_QMP_OUTSTANDING_MAX + (q->pending[0].on_reply == on_capabilities))
		return -ENOBUFS;
	p = find_pending(q, 0);
	assert(p);
	r = encode(q, c, q->last_id + 1, &len);
	if (r == 0 && c->has_fd)
		r = add_passenger(q, c->fd, q->out_position + (q->out_end - q->out_start));
	if (r < 0)
		return r;
	q->out_end += len;
	*p = (struct pending){ .id = ++q->last_id, .on_reply = c->on_reply, .ctx = c->ctx };
	q->n_pending++;
	if (was_empty)
		flush(q);
	return 0;
}

int hf_qmp_call(struct hf_qmp *q, const char *name, struct json_object *arguments,
		hf_qmp_reply *on_reply, void *ctx)
{
	struct hf_qmp_command c = {
		.name = name, .arguments = arguments, .on_reply = on_reply, .ctx = ctx
	};

	return hf_qmp_submit(q, &c);
}

static void answer(struct hf_qmp *q, struct pending *p, struct json_object *ret, const char *class,
		   const char *desc)
{
	struct pending done = *p;

	*p = (struct pending){ .id = 0 };
	q->n_pending--;
	if (!done.on_reply)
		return;
	q->depth++;
	done.on_reply(done.ctx, ret, class, desc);
	q->depth--;
}

static int handle_answer(struct hf_qmp *q, const struct hf_qmp_msg *msg, struct hf_err *err)
{
	const char *class = NULL, *desc = NULL;
	struct pending *p = msg->has_id && msg->id ? find_pending(q, msg->id) : NULL;

	if (msg->kind == HF_QMP_ERROR) {
		class = msg->error.class;
		desc = msg->error.desc;
	}
	if (!p) {
		hf_err_set(err, "QEMU answered a QMP command that was not sent: %.300s",
			   desc ? desc : "a return value");
		return -EBADMSG;
	}
	answer(q, p, class ? NULL : msg->value, class, desc);
	if (q->capabilities_error.text[0]) {
		hf_err_set(err, "%s", q->capabilities_error.text);
		return -EBADMSG;
	}
	return 0;
}

static int handle(struct hf_qmp *q, const struct hf_qmp_msg *msg, struct hf_err *err)
{
	switch (msg->kind) {
	case HF_QMP_GREETING:
		(void)snprintf(q->version, sizeof(q->version), "%u.%u.%u", msg->greeting.major,
			       msg->greeting.minor, msg->greeting.micro);
		return 0;
	case HF_QMP_EVENT:
		if (!q->on_event)
			return 0;
		q->depth++;
		q->on_event(q->event_ctx, msg->event.name, msg->event.data,
			    msg->event.timestamp_us);
		q->depth--;
		return 0;
	case HF_QMP_RETURN:
	case HF_QMP_ERROR:
	default:
		return handle_answer(q, msg, err);
	}
}

static int handle_all(struct hf_qmp *q, struct hf_err *err)
{
	for (;;) {
		struct hf_qmp_msg msg;
		int r = hf_qmp_parser_next(&q->parser, &msg, err);

		if (r <= 0)
			return r;
		r = handle(q, &msg, err);
		hf_qmp_msg_fini(&msg);
		if (r < 0)
			return r;
	}
}

/* 0: went on; HF_FD_AGAIN: nothing more for now; -errno with @err. */
static int read_some(struct hf_qmp *q, struct hf_err *err)
{
	size_t room, n;
	char *to;
	int r = hf_qmp_parser_space(&q->parser, &to, &room);

	if (r < 0)
		return r;
	r = hf_fd_read(q->fd, to, room, &n);
	/* A reset is an end too: the peer of a unix socket died with bytes of ours unread. */
	if (r == HF_FD_EOF || r == -ECONNRESET) {
		hf_err_set(err, "QEMU closed its QMP connection");
		return -EPIPE;
	}
	if (r != 0) {
		if (r < 0)
			hf_err_set(err, "the QMP connection failed: %s", strerror(-r));
		return r;
	}
	hf_qmp_parser_commit(&q->parser, n);
	return handle_all(q, err);
}

/* Everybody who waits is told once; who asks again meanwhile is refused at once. */
static void end_session(struct hf_qmp *q, const char *why)
{
	q->is_over = true;
	drop_passengers(q);
	for (unsigned int i = 0; i < PENDING_MAX; i++) {
		if (q->pending[i].id)
			answer(q, &q->pending[i], NULL, HF_QMP_CLASS_LOST, why);
	}
	assert(q->n_pending == 0);
}

int hf_qmp_dispatch(struct hf_qmp *q, struct hf_err *err)
{
	struct hf_err own = { "" };
	int r = 0;

	assert(q->depth == 0);
	if (q->is_over)
		return -EPIPE;
	flush(q);
	for (int i = 0; i < READS_MAX && r == 0; i++)
		r = read_some(q, &own);
	if (r == HF_FD_AGAIN)
		r = q->write_error;
	if (r >= 0)
		return 0;
	if (own.text[0] == '\0')
		hf_err_set(&own, "the QMP connection failed: %s", strerror(-r));
	end_session(q, own.text);
	hf_err_set(err, "%s", own.text);
	return r;
}

struct waiter {
	bool is_done, is_error;
	struct json_object *ret;
	struct hf_err error;
};

static void on_awaited(void *ctx, struct json_object *ret, const char *error_class,
		       const char *error_desc)
{
	struct waiter *w = ctx;

	w->is_done = true;
	w->is_error = error_class != NULL;
	w->ret = json_object_get(ret);
	if (error_class)
		hf_err_set(&w->error, "%s", error_desc);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int poll_once(struct hf_qmp *q, int64_t deadline_ms, struct hf_err *err)
{
	uint32_t wanted = hf_qmp_events(q);
	struct pollfd pfd = { .fd = q->fd,
			      .events = (short)(POLLIN | (wanted & EPOLLOUT ? POLLOUT : 0)) };
	int64_t left = deadline_ms - now_ms();

	if (left <= 0)
		return -ETIMEDOUT;
	if (poll(&pfd, 1, (int)left) < 0 && errno != EINTR)
		return -errno;
	return hf_qmp_dispatch(q, err);
}

static void forget_waiter(struct hf_qmp *q, const struct waiter *w)
{
	for (unsigned int i = 0; i < PENDING_MAX; i++) {
		if (q->pending[i].id && q->pending[i].ctx == w)
			q->pending[i].on_reply = NULL;
	}
}

int hf_qmp_wait(struct hf_qmp *q, const struct hf_qmp_command *command, int timeout_ms,
		struct json_object **ret, struct hf_err *err)
{
	struct hf_qmp_command c = *command;
	struct waiter w = { .ret = NULL };
	int64_t deadline = now_ms() + timeout_ms;
	int r;

	c.on_reply = on_awaited;
	c.ctx = &w;
	r = hf_qmp_submit(q, &c);
	if (r < 0)
		hf_err_set(err, "cannot send '%s' to QEMU: %s", c.name, strerror(-r));
	while (r == 0 && !w.is_done)
		r = poll_once(q, deadline, err);
	if (r == -ETIMEDOUT)
		hf_err_set(err, "QEMU did not answer '%s' within %d ms", c.name, timeout_ms);
	forget_waiter(q, &w);
	if (r == 0 && w.is_error) {
		hf_err_set(err, "QEMU refused '%s': %s", c.name, w.error.text);
		r = -EREMOTEIO;
	}
	if (r == 0 && ret)
		*ret = w.ret;
	else
		json_object_put(w.ret);
	return r;
}

int hf_qmp_call_wait(struct hf_qmp *q, const char *name, struct json_object *arguments,
		     int timeout_ms, struct json_object **ret, struct hf_err *err)
{
	struct hf_qmp_command c = { .name = name, .arguments = arguments };

	return hf_qmp_wait(q, &c, timeout_ms, ret, err);
}

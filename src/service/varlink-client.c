/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/varlink-client.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sys/fd.h"
#include "sys/stream.h"

struct call {
	hf_varlink_answer *answer;
	void *ctx;
};

struct hf_varlink_client {
	struct hf_watch watch;
	struct hf_stream *stream;
	struct hf_varlink_parser parser;
	hf_varlink_ended *ended;
	void *ctx;
	char *out; /* queued bytes */
	size_t n_out;
	struct call calls[HF_VARLINK_CLIENT_CALLS_MAX]; /* in the order of their replies */
	unsigned int first, n_calls;
	bool is_over; /* nothing is sent or received any more */
	bool is_inside; /* of its own watch, which then frees it */
	bool is_closed;
};

static int connect_unix(const char *path, int *ret_fd)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		int e = errno;

		hf_fd_close(&fd);
		return -e;
	}
	*ret_fd = fd;
	return 0;
}

static void client_free(struct hf_varlink_client *c)
{
	hf_watch_remove(&c->watch);
	hf_varlink_parser_fini(&c->parser);
	hf_stream_free(c->stream);
	free(c->out);
	free(c);
}

/* Also what the stream itself has not sent yet. */
static int flush(struct hf_varlink_client *c)
{
	size_t n;
	int r;

	do {
		const struct iovec iov = { .iov_base = c->out, .iov_len = c->n_out };

		n = 0;
		r = hf_stream_writev(c->stream, &iov, c->n_out ? 1 : 0, &n);
		if (r == HF_FD_AGAIN)
			return 0;
		/* What the service said before it closed is still to be read. */
		if (r == -EPIPE || r == -ECONNRESET) {
			c->n_out = 0;
			return 0;
		}
		if (r < 0)
			return r;
		memmove(c->out, c->out + n, c->n_out - n);
		c->n_out -= n;
	} while (c->n_out);
	return 0;
}

static int take_reply(struct hf_varlink_client *c, const struct hf_varlink_reply *reply,
		      struct hf_err *err)
{
	struct call call = c->calls[c->first];

	if (!c->n_calls) {
		hf_err_set(err, "a reply came that nothing had been asked for");
		return -EBADMSG;
	}
	if (!reply->is_continues) {
		c->first = (c->first + 1) % HF_VARLINK_CLIENT_CALLS_MAX;
		c->n_calls--;
	}
	if (call.answer)
		call.answer(call.ctx, reply);
	return 0;
}

static int take_replies(struct hf_varlink_client *c, struct hf_err *err)
{
	struct hf_varlink_reply reply;
	int r;

	while ((r = hf_varlink_parser_next_reply(&c->parser, &reply, err)) == 1) {
		r = take_reply(c, &reply, err);
		hf_varlink_reply_fini(&reply);
		if (r < 0 || c->is_closed)
			return r;
	}
	return r;
}

static void say_end(const struct hf_varlink_client *c, int error, struct hf_err *err)
{
	const char *why = hf_stream_error(c->stream);

	hf_err_set(err, "the connection has ended: %s",
		   why[0]                 ? why
		   : error == -ECONNRESET ? "the other side has closed it"
					  : strerror(-error));
}

static int receive(struct hf_varlink_client *c, struct hf_err *err)
{
	size_t n;
	char *at;
	int r;

	do {
		r = hf_varlink_parser_space(&c->parser, &at, &n);
		if (!r)
			r = hf_stream_read(c->stream, at, n, &n);
		if (r == HF_FD_AGAIN)
			return 0;
		if (r) {
			r = r == HF_FD_EOF ? -ECONNRESET : r;
			say_end(c, r, err);
			return r;
		}
		hf_varlink_parser_commit(&c->parser, n);
		r = take_replies(c, err);
	} while (!r && !c->is_closed && hf_stream_has_input(c->stream));
	return r;
}

static uint32_t wanted(void *ctx)
{
	const struct hf_varlink_client *c = ctx;

	if (c->is_over)
		return 0;
	return hf_stream_events(c->stream, /* wants_read= */ true, c->n_out > 0);
}

static void ready(void *ctx, uint32_t revents)
{
	struct hf_varlink_client *c = ctx;
	struct hf_err err = { "" };
	int r = 0;

	c->is_inside = true;
	/* TLS may wait for either to do the other. */
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR) || !hf_stream_is_ready(c->stream))
		r = receive(c, &err);
	if (!r && !c->is_closed && hf_stream_is_ready(c->stream))
		r = flush(c);
	if (r < 0 && !c->is_closed) {
		c->is_over = true;
		c->ended(c->ctx, r, err.text[0] ? err.text : strerror(-r));
	}
	c->is_inside = false;
	if (c->is_closed)
		client_free(c);
}

int hf_varlink_client_adopt(struct hf_loop *loop, struct hf_stream *stream, hf_varlink_ended *ended,
			    void *ctx, struct hf_varlink_client **ret)
{
	struct hf_varlink_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->ended = ended;
	c->ctx = ctx;
	c->stream = stream;
	hf_varlink_parser_init(&c->parser, HF_VARLINK_REPLY_MAX);
	r = hf_watch_add(&c->watch, loop, hf_stream_fd(stream), HF_PRIORITY_LINK, wanted, ready, c);
	if (r < 0) {
		c->stream = NULL;
		client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

int hf_varlink_client_open(struct hf_loop *loop, const char *path, hf_varlink_ended *ended,
			   void *ctx, struct hf_varlink_client **ret, struct hf_err *err)
{
	struct hf_stream *stream = NULL;
	int fd = -1;
	int r = connect_unix(path, &fd);

	if (r < 0) {
		hf_err_set(err, "cannot connect to %.300s: %s", path, strerror(-r));
		return r;
	}
	r = hf_stream_new_plain(fd, &stream);
	if (r < 0) {
		hf_fd_close(&fd);
		return r;
	}
	r = hf_varlink_client_adopt(loop, stream, ended, ctx, ret);
	if (r < 0)
		hf_stream_free(stream);
	return r;
}

const struct hf_stream *hf_varlink_client_stream(const struct hf_varlink_client *c)
{
	return c->stream;
}

void hf_varlink_client_close(struct hf_varlink_client *c)
{
	if (!c)
		return;
	c->is_closed = true;
	c->is_over = true;
	if (!c->is_inside)
		client_free(c);
}

static int queue(struct hf_varlink_client *c, const struct hf_varlink_call *call)
{
	char *text;
	char *grown;
	size_t n;
	int r = hf_varlink_encode_call(call, &text, &n);

	if (r < 0)
		return r;
	if (c->n_out + n > HF_VARLINK_CLIENT_QUEUE_MAX_BYTES) {
		free(text);
		return -EBUSY;
	}
	grown = realloc(c->out, c->n_out + n);
	if (grown) {
		memcpy(grown + c->n_out, text, n);
		c->out = grown;
		c->n_out += n;
	}
	free(text);
	return grown ? 0 : -ENOMEM;
}

int hf_varlink_client_call(struct hf_varlink_client *c, const char *method,
			   struct json_object *parameters, bool is_more, hf_varlink_answer *answer,
			   void *ctx)
{
	struct hf_varlink_call call = { .method = method,
					.parameters = parameters,
					.is_more = is_more };
	int r = -ENOTCONN;

	if (!c->is_over)
		r = c->n_calls == HF_VARLINK_CLIENT_CALLS_MAX ? -EBUSY : queue(c, &call);
	json_object_put(parameters);
	if (r < 0)
		return r;
	c->calls[(c->first + c->n_calls++) % HF_VARLINK_CLIENT_CALLS_MAX] =
		(struct call){ .answer = answer, .ctx = ctx };
	/* At once: nothing else may wake the loop. An error is met again in ready(). */
	if (hf_stream_is_ready(c->stream))
		(void)flush(c);
	return 0;
}

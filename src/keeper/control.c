/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/control.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "codec/json.h"
#include "codec/varlink.h"
#include "sys/fd.h"
#include "sys/sock.h"

#define INTERFACE "org.holdfast.Keeper"

struct client {
	struct hf_control *control;
	struct hf_watch watch;
	int fd;
	struct hf_varlink_parser parser;
	char *out; /* queued bytes */
	size_t n_out;
	bool is_following; /* an Events call is open */
	bool is_closing; /* once out is empty */
};

struct hf_control {
	struct hf_loop *loop;
	struct hf_journal *journal;
	const struct hf_control_ops *ops;
	void *ctx;
	int listen_fd;
	struct hf_watch watch;
	struct client *clients[HF_CONTROL_CLIENTS_MAX];
	unsigned int n_clients;
};

static void client_free(struct client *c)
{
	struct hf_control *control = c->control;

	for (unsigned int i = 0; i < control->n_clients; i++) {
		if (control->clients[i] != c)
			continue;
		control->clients[i] = control->clients[--control->n_clients];
		break;
	}
	hf_watch_remove(&c->watch);
	hf_varlink_parser_fini(&c->parser);
	hf_fd_close(&c->fd);
	free(c->out);
	free(c);
}

/* Returns -errno when the client is of no use any more. */
static int flush(struct client *c)
{
	size_t n;
	int r;

	while (c->n_out) {
		r = hf_fd_send(c->fd, c->out, c->n_out, &n);
		if (r == HF_FD_AGAIN)
			return 0;
		if (r < 0)
			return r;
		memmove(c->out, c->out + n, c->n_out - n);
		c->n_out -= n;
	}
	return c->is_closing ? -ESHUTDOWN : 0;
}

static int queue(struct client *c, const struct hf_varlink_reply *reply)
{
	char *text;
	char *grown;
	size_t n;
	int r = hf_varlink_encode_reply(reply, &text, &n);

	if (r < 0)
		return r;
	if (c->n_out + n > HF_CONTROL_QUEUE_MAX_BYTES)
		r = -EMSGSIZE;
	grown = r < 0 ? NULL : realloc(c->out, c->n_out + n);
	if (!grown) {
		free(text);
		return r < 0 ? r : -ENOMEM;
	}
	memcpy(grown + c->n_out, text, n);
	c->out = grown;
	c->n_out += n;
	free(text);
	return 0;
}

/* Takes @parameters over. */
static int reply(struct client *c, const char *error, struct json_object *parameters,
		 bool is_continues)
{
	struct hf_varlink_reply answer = {
		.error = error,
		.parameters = parameters,
		.is_continues = is_continues,
	};
	int r = queue(c, &answer);

	json_object_put(parameters);
	return r;
}

static struct json_object *with_string(const char *key, const char *value)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, key, json_object_new_string(value));
	return o;
}

static int send_event(struct client *c, struct json_object *event)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "event", json_object_get(event));
	return reply(c, NULL, o, /* is_continues= */ true);
}

static void on_event(void *ctx, struct json_object *event)
{
	struct hf_control *control = ctx;

	for (unsigned int i = control->n_clients; i-- > 0;) {
		struct client *c = control->clients[i];

		if (!c->is_following)
			continue;
		if (send_event(c, event) < 0) {
			c->is_closing = true; /* freed from its own watch, never from here */
			c->n_out = 0;
		}
	}
}

static int do_status(struct client *c, const struct hf_varlink_call *call __attribute__((unused)))
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "status", c->control->ops->status(c->control->ctx));
	return reply(c, NULL, o, false);
}

static int bad_parameter(struct client *c, const struct hf_err *err)
{
	return reply(c, "org.varlink.service.InvalidParameter", with_string("parameter", err->text),
		     false);
}

static int do_events(struct client *c, const struct hf_varlink_call *call)
{
	struct json_object *event;
	struct hf_err err;
	uint64_t seq = 0;
	int r = 0;

	if (hf_json_has(call->parameters, "after") &&
	    hf_json_u64(call->parameters, "after", &seq, &err) < 0)
		return bad_parameter(c, &err);
	if (!call->is_more)
		return reply(c, "org.varlink.service.ExpectedMore", NULL, false);
	while (!r && (event = hf_journal_next(c->control->journal, seq, &seq)))
		r = send_event(c, event);
	c->is_following = true;
	return r;
}

static int not_possible(struct client *c, const struct hf_err *err)
{
	return reply(c, INTERFACE ".NotPossible", with_string("reason", err->text), false);
}

static int do_order(struct client *c, const struct hf_varlink_call *call,
		    int (*order)(void *ctx, bool is_forced, struct hf_err *err))
{
	struct hf_err err = { "" };
	bool is_forced = false;

	if (hf_json_has(call->parameters, "force") &&
	    hf_json_bool(call->parameters, "force", &is_forced, &err) < 0)
		return bad_parameter(c, &err);
	if (order(c->control->ctx, is_forced, &err) < 0)
		return not_possible(c, &err);
	return reply(c, NULL, NULL, false);
}

static int do_promote(struct client *c, const struct hf_varlink_call *call)
{
	return do_order(c, call, c->control->ops->promote);
}

static int do_stop(struct client *c, const struct hf_varlink_call *call)
{
	return do_order(c, call, c->control->ops->stop);
}

static int do_resume(struct client *c, const struct hf_varlink_call *call __attribute__((unused)))
{
	struct hf_err err = { "" };

	if (c->control->ops->resume(c->control->ctx, &err) < 0)
		return not_possible(c, &err);
	return reply(c, NULL, NULL, false);
}

static int dispatch(struct client *c, const struct hf_varlink_call *call)
{
	static const struct {
		const char *name;
		int (*handle)(struct client *c, const struct hf_varlink_call *call);
	} methods[] = {
		{ INTERFACE ".Status", do_status },   { INTERFACE ".Events", do_events },
		{ INTERFACE ".Promote", do_promote }, { INTERFACE ".Stop", do_stop },
		{ INTERFACE ".Resume", do_resume },
	};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(methods[i].name, call->method) == 0)
			return methods[i].handle(c, call);
	return reply(c, "org.varlink.service.MethodNotFound", with_string("method", call->method),
		     false);
}

static int receive(struct client *c)
{
	struct hf_varlink_call call;
	struct hf_err err;
	size_t n;
	char *at;
	int r;

	r = hf_varlink_parser_space(&c->parser, &at, &n);
	if (!r)
		r = hf_fd_read(c->fd, at, n, &n);
	if (r == HF_FD_AGAIN)
		return 0;
	if (r)
		return r == HF_FD_EOF ? -ESHUTDOWN : r;
	hf_varlink_parser_commit(&c->parser, n);
	while ((r = hf_varlink_parser_next_call(&c->parser, &call, &err)) == 1) {
		r = dispatch(c, &call);
		hf_varlink_call_fini(&call);
		if (r < 0)
			break;
	}
	if (r == -EMSGSIZE || r == -EBADMSG)
		hf_log(c->control->journal, HF_LOG_INFO, "control socket: %s", err.text);
	return r;
}

static uint32_t client_wanted(void *ctx)
{
	const struct client *c = ctx;

	return EPOLLIN | (c->n_out || c->is_closing ? EPOLLOUT : 0u);
}

static void client_ready(void *ctx, uint32_t revents)
{
	struct client *c = ctx;
	int r = 0;

	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		r = receive(c);
	if (!r)
		r = flush(c);
	if (r < 0)
		client_free(c);
}

static void accept_one(struct hf_control *control, int fd)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c || control->n_clients == HF_CONTROL_CLIENTS_MAX) {
		hf_log(control->journal, HF_LOG_INFO,
		       "control socket: too many clients, one was refused");
		free(c);
		hf_fd_close(&fd);
		return;
	}
	c->control = control;
	c->fd = fd;
	hf_varlink_parser_init(&c->parser, HF_VARLINK_CALL_MAX);
	control->clients[control->n_clients++] = c;
	if (hf_watch_add(&c->watch, control->loop, fd, HF_PRIORITY_CONTROL, client_wanted,
			 client_ready, c) < 0)
		client_free(c);
}

static uint32_t listener_wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void listener_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_control *control = ctx;
	int fd;

	if (hf_sock_accept(control->listen_fd, &fd, NULL) == 0)
		accept_one(control, fd);
}

int hf_control_new(struct hf_loop *loop, int listen_fd, struct hf_journal *journal,
		   const struct hf_control_ops *ops, void *ctx, struct hf_control **ret)
{
	struct hf_control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct hf_control){
		.loop = loop,
		.journal = journal,
		.ops = ops,
		.ctx = ctx,
		.listen_fd = listen_fd,
	};
	r = hf_watch_add(&c->watch, loop, listen_fd, HF_PRIORITY_CONTROL, listener_wanted,
			 listener_ready, c);
	if (r < 0) {
		free(c);
		return r;
	}
	journal->listener = on_event;
	journal->listener_ctx = c;
	*ret = c;
	return 0;
}

void hf_control_free(struct hf_control *c)
{
	if (!c)
		return;
	c->journal->listener = NULL;
	hf_watch_remove(&c->watch);
	for (unsigned int i = c->n_clients; i-- > 0;) { /* each takes itself out, as the last */
		(void)flush(c->clients[i]);
		client_free(c->clients[i]);
	}
	free(c);
}

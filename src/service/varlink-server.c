/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. A connection has its open requests in a list, oldest first. Only the oldest
 * writes into the connection's queue of bytes; each of the others has a queue of its own that is
 * appended when its turn comes. A request that is answered, but not the oldest, stays as a carrier
 * of its bytes. All queues of a connection together have one limit.
 *
 * Nobody but a connection's own watch, and the server's end, frees it: whatever goes wrong elsewhere
 * marks it is_broken, for which it asks to be writable, and its watch sees the mark.
 */
#include "service/varlink-server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "codec/json.h"
#include "sys/fd.h"
#include "sys/sock.h"
#include "sys/stream.h"

#define REFUSED_MAX 64
#define CALLS_AT_ONCE 16 /* then it is the others' turn */

struct bytes {
	char *at;
	size_t n;
};

struct hf_varlink_request {
	struct hf_varlink_conn *conn;
	struct hf_varlink_request *next; /* newer */
	struct bytes held; /* while it is not the oldest */
	bool is_oneway;
	bool has_more;
	bool is_answered;
	void (*gone)(void *data);
	void *gone_data;
	void (*room)(void *data);
	void *room_data;
};

struct hf_varlink_conn {
	struct hf_varlink_server *server;
	struct hf_watch watch;
	struct hf_stream *stream;
	int pid;
	unsigned int uid;
	bool may_all, may_look;
	struct hf_varlink_parser parser;
	struct hf_varlink_request *oldest;
	unsigned int n_requests;
	struct bytes out;
	size_t n_bytes; /* of all queues */
	bool is_behind; /* calls of it have come that have had no turn yet */
	bool is_broken;
	void *data;
};

struct hf_varlink_server {
	struct hf_loop *loop;
	struct hf_journal *journal;
	const struct hf_varlink_service *service;
	void *ctx;
	int listen_fd;
	unsigned int group; /* may look; 0: none */
	unsigned int refused[REFUSED_MAX]; /* users, of whom it was logged */
	unsigned int n_refused;
	struct hf_watch watch;
	struct hf_varlink_conn *conns[HF_VARLINK_SERVER_CLIENTS_MAX];
	unsigned int n_conns;
};

static int append(struct bytes *to, const char *text, size_t n)
{
	char *grown = realloc(to->at, to->n + n);

	if (!grown)
		return -ENOMEM;
	memcpy(grown + to->n, text, n);
	to->at = grown;
	to->n += n;
	return 0;
}

static void request_free(struct hf_varlink_request *rq)
{
	free(rq->held.at);
	free(rq);
}

static void conn_free(struct hf_varlink_conn *c)
{
	struct hf_varlink_server *s = c->server;
	struct hf_varlink_request *rq;

	for (unsigned int i = 0; i < s->n_conns; i++) {
		if (s->conns[i] != c)
			continue;
		s->conns[i] = s->conns[--s->n_conns];
		break;
	}
	hf_watch_remove(&c->watch);
	c->is_broken = true; /* what gone() and closed() may still say goes nowhere */
	for (rq = c->oldest; rq; rq = rq->next)
		if (rq->gone && !rq->is_answered)
			rq->gone(rq->gone_data);
	while ((rq = c->oldest)) {
		c->oldest = rq->next;
		request_free(rq);
	}
	if (s->service->closed)
		s->service->closed(s->ctx, c);
	hf_varlink_parser_fini(&c->parser);
	hf_stream_free(c->stream);
	free(c->out.at);
	free(c);
}

static void break_off(struct hf_varlink_conn *c)
{
	c->is_broken = true;
	c->out.n = 0;
}

/* Also what the stream itself has not sent yet. Returns -errno when the connection is of no use any
 * more. */
static int flush(struct hf_varlink_conn *c)
{
	size_t n;
	int r;

	while (!c->is_broken && hf_stream_is_ready(c->stream)) {
		const struct iovec iov = { .iov_base = c->out.at, .iov_len = c->out.n };

		n = 0;
		r = hf_stream_writev(c->stream, &iov, c->out.n ? 1 : 0, &n);
		if (r == HF_FD_AGAIN)
			return 0;
		if (r < 0)
			return r;
		memmove(c->out.at, c->out.at + n, c->out.n - n);
		c->out.n -= n;
		c->n_bytes -= n;
		if (!c->out.n)
			break;
	}
	return c->is_broken ? -ESHUTDOWN : 0;
}

/* The oldest are done: those behind them may speak. */
static void advance(struct hf_varlink_conn *c)
{
	struct hf_varlink_request *rq;

	while ((rq = c->oldest) && rq->is_answered) {
		c->oldest = rq->next;
		c->n_requests--;
		request_free(rq);
		rq = c->oldest;
		if (!rq || !rq->held.n)
			continue;
		if (append(&c->out, rq->held.at, rq->held.n) < 0)
			break_off(c);
		rq->held.n = 0;
	}
}

static int queue(struct hf_varlink_request *rq, const struct hf_varlink_reply *reply)
{
	struct hf_varlink_conn *c = rq->conn;
	char *text;
	size_t n;
	int r = hf_varlink_encode_reply(reply, &text, &n);

	if (r < 0)
		return r;
	if (c->n_bytes + n > HF_VARLINK_SERVER_QUEUE_MAX_BYTES)
		r = -EMSGSIZE;
	else
		r = append(c->oldest == rq ? &c->out : &rq->held, text, n);
	if (!r)
		c->n_bytes += n;
	free(text);
	return r;
}

/* Takes @parameters over. */
static void answer(struct hf_varlink_request *rq, const char *error, struct json_object *parameters,
		   bool is_continues)
{
	struct hf_varlink_conn *c = rq->conn;
	struct hf_varlink_reply reply = {
		.error = error,
		.parameters = parameters,
		.is_continues = is_continues,
	};

	assert(!rq->is_answered);
	if (!c->is_broken && !rq->is_oneway && queue(rq, &reply) < 0)
		break_off(c);
	json_object_put(parameters);
	if (is_continues)
		return;
	rq->is_answered = true;
	if (!c->watch.source) /* being freed: that walks the list */
		return;
	advance(c);
}

void hf_varlink_done(struct hf_varlink_request *rq, struct json_object *parameters)
{
	answer(rq, NULL, parameters, false);
}

void hf_varlink_error(struct hf_varlink_request *rq, const char *error,
		      struct json_object *parameters)
{
	answer(rq, error, parameters, false);
}

void hf_varlink_continue(struct hf_varlink_request *rq, struct json_object *parameters)
{
	if (rq->has_more)
		answer(rq, NULL, parameters, true);
	else
		json_object_put(parameters);
}

static struct json_object *with_string(const char *key, const char *value)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, key, json_object_new_string(value));
	return o;
}

void hf_varlink_invalid(struct hf_varlink_request *rq, const struct hf_err *err)
{
	hf_varlink_error(rq, "org.varlink.service.InvalidParameter",
			 with_string("parameter", err->text));
}

void hf_varlink_refuse(struct hf_varlink_request *rq, const char *error, const char *reason)
{
	hf_varlink_error(rq, error, with_string("reason", reason));
}

struct hf_varlink_conn *hf_varlink_request_conn(const struct hf_varlink_request *rq)
{
	return rq->conn;
}

bool hf_varlink_request_has_more(const struct hf_varlink_request *rq)
{
	return rq->has_more;
}

void hf_varlink_request_watch(struct hf_varlink_request *rq, void (*gone)(void *data), void *data)
{
	rq->gone = gone;
	rq->gone_data = data;
}

void hf_varlink_conn_set_data(struct hf_varlink_conn *conn, void *data)
{
	conn->data = data;
}

void *hf_varlink_conn_data(const struct hf_varlink_conn *conn)
{
	return conn->data;
}

int hf_varlink_conn_pid(const struct hf_varlink_conn *conn)
{
	return conn->pid;
}

size_t hf_varlink_request_queued_bytes(const struct hf_varlink_request *rq)
{
	return rq->conn->n_bytes;
}

void hf_varlink_request_on_room(struct hf_varlink_request *rq, void (*room)(void *data), void *data)
{
	rq->room = room;
	rq->room_data = data;
}

/* Something was sent: who has more to say, and was told to wait, may go on. */
static void give_room(const struct hf_varlink_conn *c)
{
	struct hf_varlink_request *next;

	for (struct hf_varlink_request *rq = c->oldest; rq && !c->is_broken; rq = next) {
		next = rq->next;
		if (rq->room && !rq->is_answered)
			rq->room(rq->room_data);
	}
}

/* ---- org.varlink.service ---- */

static void get_info(struct hf_varlink_request *rq)
{
	const struct hf_varlink_service *service = rq->conn->server->service;
	struct json_object *o = json_object_new_object();
	struct json_object *names = json_object_new_array();

	for (size_t i = 0; i < service->n_interfaces; i++)
		json_object_array_add(names, json_object_new_string(service->interfaces[i].name));
	json_object_object_add(o, "vendor", json_object_new_string("holdfast"));
	json_object_object_add(o, "product",
			       json_object_new_string(rq->conn->server->journal->program));
	json_object_object_add(o, "version", json_object_new_string(HF_VERSION));
	json_object_object_add(o, "url", json_object_new_string(""));
	json_object_object_add(o, "interfaces", names);
	hf_varlink_done(rq, o);
}

static void get_description(struct hf_varlink_request *rq, const struct json_object *parameters)
{
	const struct hf_varlink_service *service = rq->conn->server->service;
	struct hf_err err;
	const char *name;

	if (hf_json_str(parameters, "interface", &name, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	for (size_t i = 0; i < service->n_interfaces; i++) {
		if (strcmp(service->interfaces[i].name, name) != 0)
			continue;
		hf_varlink_done(rq, with_string("description", service->interfaces[i].text));
		return;
	}
	hf_varlink_error(rq, "org.varlink.service.InterfaceNotFound",
			 with_string("interface", name));
}

static bool answer_itself(struct hf_varlink_request *rq, const struct hf_varlink_call *call)
{
	if (!rq->conn->server->service->n_interfaces)
		return false;
	if (strcmp(call->method, "org.varlink.service.GetInfo") == 0)
		get_info(rq);
	else if (strcmp(call->method, "org.varlink.service.GetInterfaceDescription") == 0)
		get_description(rq, call->parameters);
	else
		return false;
	return true;
}

/* ---- permissions ---- */

static void log_refusal(struct hf_varlink_server *s, const struct hf_varlink_conn *c,
			const char *what)
{
	for (unsigned int i = 0; i < s->n_refused; i++)
		if (s->refused[i] == c->uid)
			return;
	if (s->n_refused == REFUSED_MAX)
		return;
	s->refused[s->n_refused++] = c->uid;
	hf_log(s->journal, HF_LOG_ERROR, "control socket: user %u (process %d) was refused: %s",
	       c->uid, c->pid, what);
}

static void refuse_call(struct hf_varlink_request *rq, const struct hf_varlink_entry *m)
{
	char error[HF_VARLINK_NAME_MAX + 32];
	const char *dot = strrchr(m->name, '.');

	log_refusal(rq->conn->server, rq->conn, m->name);
	(void)snprintf(error, sizeof(error), "%.*s.PermissionDenied", (int)(dot - m->name),
		       m->name);
	hf_varlink_refuse(rq, error, "only root may do this; you may look");
}

/* TCP has users of another kind: whoever adopts such a connection sees to them. */
static void identify(struct hf_varlink_conn *c)
{
	int fd = hf_stream_fd(c->stream);
	struct hf_peer peer = { .pid = 0 };

	if (!hf_sock_is_unix(fd)) {
		c->may_all = true;
		return;
	}
	if (hf_sock_peer(fd, &peer) < 0)
		return;
	c->pid = peer.pid;
	c->uid = peer.uid;
	c->may_all = peer.uid == 0 || peer.uid == geteuid();
	c->may_look = c->server->group && hf_sock_peer_is_in_group(fd, c->server->group);
}

/* Those who only look leave room for those who do something, however many they are. */
static bool is_welcome(const struct hf_varlink_server *s, const struct hf_varlink_conn *c)
{
	unsigned int n_all = 0, n_own = 0;

	for (unsigned int i = 0; i < s->n_conns; i++) {
		n_all += !s->conns[i]->may_all;
		n_own += !s->conns[i]->may_all && s->conns[i]->uid == c->uid;
	}
	return c->may_all || (c->may_look && n_own < HF_VARLINK_SERVER_USER_MAX &&
			      n_all < s->service->clients_max / 2);
}

static void dispatch(struct hf_varlink_request *rq, const struct hf_varlink_call *call)
{
	const struct hf_varlink_server *s = rq->conn->server;

	for (size_t i = 0; i < s->service->n_methods; i++) {
		const struct hf_varlink_entry *m = &s->service->methods[i];

		if (strcmp(m->name, call->method) != 0)
			continue;
		if (!rq->conn->may_all && !m->is_looking)
			refuse_call(rq, m);
		else if (m->needs_more && !call->is_more)
			hf_varlink_error(rq, "org.varlink.service.ExpectedMore", NULL);
		else
			m->call(s->ctx, rq, call->parameters);
		return;
	}
	if (!answer_itself(rq, call))
		hf_varlink_error(rq, "org.varlink.service.MethodNotFound",
				 with_string("method", call->method));
}

static int begin(struct hf_varlink_conn *c, const struct hf_varlink_call *call, struct hf_err *err)
{
	struct hf_varlink_request **at = &c->oldest;
	struct hf_varlink_request *rq;

	if (c->n_requests == HF_VARLINK_SERVER_REQUESTS_MAX) {
		hf_err_set(err, "a client has more than %d calls open",
			   HF_VARLINK_SERVER_REQUESTS_MAX);
		return -EMSGSIZE;
	}
	rq = calloc(1, sizeof(*rq));
	if (!rq)
		return -ENOMEM;
	rq->conn = c;
	rq->is_oneway = call->is_oneway;
	rq->has_more = call->is_more;
	while (*at)
		at = &(*at)->next;
	*at = rq;
	c->n_requests++;
	dispatch(rq, call);
	return c->is_broken ? -ESHUTDOWN : 0;
}

static int take_calls(struct hf_varlink_conn *c)
{
	struct hf_varlink_call call;
	struct hf_err err;
	unsigned int n = 0;
	int r;

	c->is_behind = false;
	while ((r = hf_varlink_parser_next_call(&c->parser, &call, &err)) == 1) {
		r = begin(c, &call, &err);
		hf_varlink_call_fini(&call);
		if (r < 0)
			break;
		if (++n == CALLS_AT_ONCE) {
			c->is_behind = true;
			break;
		}
	}
	if (r == -EMSGSIZE || r == -EBADMSG)
		hf_log(c->server->journal, HF_LOG_INFO, "control socket: %s", err.text);
	return r;
}

static int receive(struct hf_varlink_conn *c)
{
	size_t n;
	char *at;
	int r = c->is_behind ? take_calls(c) : 0;

	while (!r && !c->is_behind) {
		r = hf_varlink_parser_space(&c->parser, &at, &n);
		if (!r)
			r = hf_stream_read(c->stream, at, n, &n);
		if (r == HF_FD_AGAIN)
			return 0;
		if (r)
			return r == HF_FD_EOF ? -ESHUTDOWN : r;
		hf_varlink_parser_commit(&c->parser, n);
		r = take_calls(c);
		if (!hf_stream_has_input(c->stream))
			break;
	}
	return r;
}

static uint32_t conn_wanted(void *ctx)
{
	const struct hf_varlink_conn *c = ctx;

	if (c->is_broken) /* its watch is to see that */
		return EPOLLIN | EPOLLOUT;
	return hf_stream_events(c->stream, /* wants_read= */ true, c->out.n > 0 || c->is_behind);
}

static void conn_ready(void *ctx, uint32_t revents)
{
	struct hf_varlink_conn *c = ctx;
	int r = 0;

	if (!c->is_broken && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR) || c->is_behind ||
			      !hf_stream_is_ready(c->stream)))
		r = receive(c);
	if (!r)
		r = flush(c);
	if (!r && revents & EPOLLOUT)
		give_room(c);
	if (r < 0)
		conn_free(c);
}

int hf_varlink_server_adopt(struct hf_varlink_server *s, struct hf_stream *stream,
			    struct hf_varlink_conn **ret)
{
	struct hf_varlink_conn *c;
	int fd = hf_stream_fd(stream);
	int r;

	if (s->n_conns == s->service->clients_max)
		return -EBUSY;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->server = s;
	c->stream = stream;
	identify(c);
	if (!is_welcome(s, c)) {
		log_refusal(s, c, c->may_look ? "too many connections" : "not of the group");
		free(c);
		return -EACCES;
	}
	hf_varlink_parser_init(&c->parser, HF_VARLINK_CALL_MAX);
	r = hf_watch_add(&c->watch, s->loop, fd, HF_PRIORITY_CONTROL, conn_wanted, conn_ready, c);
	if (r < 0) {
		hf_varlink_parser_fini(&c->parser);
		free(c);
		return r;
	}
	s->conns[s->n_conns++] = c;
	if (ret)
		*ret = c;
	return 0;
}

void hf_varlink_conn_close(struct hf_varlink_conn *c)
{
	(void)flush(c);
	break_off(c);
}

const struct hf_stream *hf_varlink_conn_stream(const struct hf_varlink_conn *c)
{
	return c->stream;
}

static void accept_one(struct hf_varlink_server *s, int fd)
{
	struct hf_stream *stream = NULL;
	int r = hf_stream_new_plain(fd, &stream);

	if (r < 0)
		hf_fd_close(&fd);
	else
		r = hf_varlink_server_adopt(s, stream, NULL);
	if (r == -EBUSY)
		hf_log(s->journal, HF_LOG_INFO,
		       "control socket: too many clients, one was refused");
	if (r < 0)
		hf_stream_free(stream);
}

static uint32_t listener_wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void listener_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_varlink_server *s = ctx;
	int fd;

	if (hf_sock_accept(s->listen_fd, &fd, NULL) == 0)
		accept_one(s, fd);
}

int hf_varlink_server_new(struct hf_loop *loop, int listen_fd, struct hf_journal *journal,
			  const struct hf_varlink_service *service, void *ctx,
			  struct hf_varlink_server **ret)
{
	struct hf_varlink_server *s = calloc(1, sizeof(*s));
	int r;

	assert(service->clients_max <= HF_VARLINK_SERVER_CLIENTS_MAX);
	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->journal = journal;
	s->service = service;
	s->ctx = ctx;
	s->listen_fd = listen_fd;
	s->group = listen_fd >= 0 ? hf_sock_group(listen_fd) : 0;
	r = listen_fd < 0 ? 0
			  : hf_watch_add(&s->watch, loop, listen_fd, HF_PRIORITY_CONTROL,
					 listener_wanted, listener_ready, s);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void hf_varlink_server_free(struct hf_varlink_server *s)
{
	if (!s)
		return;
	hf_watch_remove(&s->watch);
	for (unsigned int i = s->n_conns; i-- > 0;) { /* each takes itself out, as the last */
		(void)flush(s->conns[i]);
		conn_free(s->conns[i]);
	}
	free(s);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connections from peers. Who connects has to show a certificate of one of the peers, then to say
 * Hello with that name and ours; until then it may do nothing, and has ten seconds. From then on it
 * may speak of what its host shares with this one. Whoever is turned away is told of in the log once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "daemon/peers-internal.h"
#include "sys/fd.h"

#define STRANGERS_MAX 16
#define CLIENTS_MAX (2 * HF_PEERS_MAX + STRANGERS_MAX)

struct hf_peer_guest {
	struct hf_peer_guest *next;
	struct hf_peers *peers;
	struct hf_varlink_conn *conn;
	struct hf_peer_host
		*peer; /* once it has said Hello; NULL: also if another one has followed it */
	bool is_greeted;
	uint64_t until_ns;
	char from[HF_ADDR_TEXT];
};

/* ---- what a peer said ---- */

void hf_peer_forget_vms(struct hf_peer_host *p)
{
	struct hf_peer_vm *next;

	for (struct hf_peer_vm *v = p->vms; v; v = next) {
		next = v->next;
		free(v);
	}
	p->vms = NULL;
	p->n_vms = 0;
}

static void drop_stale(struct hf_peer_host *p)
{
	struct hf_peer_vm **at = &p->vms;
	struct hf_peer_vm *v;

	while ((v = *at)) {
		if (!v->is_stale) {
			at = &v->next;
			continue;
		}
		*at = v->next;
		p->n_vms--;
		hf_peers_touch(p->peers, v->said.vm);
		free(v);
	}
}

/* What is no news changes nothing here, and is not answered: else two that tell each other of a VM would
 * never come to an end. */
static void keep_said(struct hf_peer_host *p, const struct hf_peermsg_vm *said)
{
	struct hf_peer_vm *v = p->vms;
	bool is_news;

	while (v && strcmp(v->said.vm, said->vm) != 0)
		v = v->next;
	if (!v) {
		v = p->n_vms < HF_VMS_MAX ? calloc(1, sizeof(*v)) : NULL;
		if (!v)
			return;
		v->next = p->vms;
		p->vms = v;
		p->n_vms++;
	}
	is_news = !hf_peermsg_vm_is_same(&v->said, said);
	v->said = *said;
	v->is_stale = false;
	if (is_news)
		hf_peers_touch(p->peers, said->vm);
}

static void turn_away(struct hf_peers *ps, const char *who, const char *why)
{
	(void)hf_doorlog_tell(&ps->door, &ps->d->journal, hf_now_ns(), who, why);
}

/* ---- methods ---- */

static struct hf_peer_guest *guest_of(const struct hf_varlink_request *rq)
{
	return hf_varlink_conn_data(hf_varlink_request_conn(rq));
}

/* NULL: it has been refused. */
static struct hf_peer_host *speaker(struct hf_varlink_request *rq)
{
	struct hf_peer_guest *g = guest_of(rq);

	if (g->peer)
		return g->peer;
	hf_varlink_refuse(rq, HF_PEER_INTERFACE ".Unknown", "say Hello first");
	return NULL;
}

static void refuse_hello(struct hf_peer_guest *g, struct hf_varlink_request *rq, const char *error,
			 const struct hf_err *why)
{
	turn_away(g->peers, g->from, why->text);
	hf_varlink_refuse(rq, error, why->text);
	hf_varlink_conn_close(g->conn);
}

static bool is_whom_it_says(const struct hf_peer_guest *g, const char *host)
{
	const struct hf_stream *stream = hf_varlink_conn_stream(g->conn);

	return g->peers->d->conf.is_plain || hf_stream_peer_has_name(stream, host);
}

static struct hf_peer_host *check_hello(struct hf_peer_guest *g, const struct hf_peermsg_hello *m,
					struct hf_err *err)
{
	struct hf_peer_host *p = hf_peer_find(g->peers, m->host);

	if (strcmp(m->to, g->peers->d->conf.name) != 0)
		hf_err_set(err, "'%s' is meant, and this is '%s'", m->to, g->peers->d->conf.name);
	else if (!is_whom_it_says(g, m->host))
		hf_err_set(err, "it says to be '%s', and its certificate is not that one's",
			   m->host);
	else if (!p)
		hf_err_set(err, "no VM is shared with '%s' here", m->host);
	else
		return p;
	return NULL;
}

/* The newer connection counts: the older one may be what a dead host has left behind. */
static void attach(struct hf_peer_guest *g, struct hf_peer_host *p)
{
	hf_peer_drop_conn(p);
	g->peer = p;
	p->conn = g->conn;
	p->is_synced = false;
}

static void do_hello(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_peers *ps = ctx;
	struct hf_peer_guest *g = guest_of(rq);
	struct hf_peermsg_hello m;
	struct hf_err err = { "" };
	struct hf_peer_host *p;

	if (g->is_greeted || hf_peermsg_hello_decode(parameters, &m, &err) < 0) {
		if (g->is_greeted)
			hf_err_set(&err, "a second Hello");
		refuse_hello(g, rq, HF_PEER_INTERFACE ".NotUnderstood", &err);
		return;
	}
	p = check_hello(g, &m, &err);
	if (!p) {
		refuse_hello(g, rq, HF_PEER_INTERFACE ".NotShared", &err);
		return;
	}
	g->is_greeted = true;
	ps->n_guests--;
	attach(g, p);
	if (p->instance != m.instance)
		p->seq = 0;
	p->instance = m.instance;
	m = (struct hf_peermsg_hello){ .version = HF_PEERMSG_VERSION,
				       .instance = ps->instance,
				       .after = p->seq };
	(void)snprintf(m.host, sizeof(m.host), "%s", ps->d->conf.name);
	(void)snprintf(m.to, sizeof(m.to), "%s", p->name);
	hf_varlink_done(rq, hf_peermsg_hello_encode(&m));
	hf_peer_dial(p); /* it lives: no need to wait for the next try */
}

static void do_ping(void *ctx __attribute__((unused)), struct hf_varlink_request *rq,
		    struct json_object *parameters __attribute__((unused)))
{
	if (speaker(rq))
		hf_varlink_done(rq, NULL);
}

static void take_tell(struct hf_peer_host *p, const struct hf_peermsg_tell *m)
{
	struct hf_peers *ps = p->peers;

	if (m->is_first)
		for (struct hf_peer_vm *v = p->vms; v; v = v->next)
			v->is_stale = true;
	for (unsigned int i = 0; i < m->n; i++) {
		const struct hf_vms_vm *vm = hf_vms_find(ps->d, m->vms[i].vm);
		struct hf_err why;

		keep_said(p, &m->vms[i]);
		if (!m->vms[i].is_defined || (vm && hf_peer_shares(ps, vm, p->name)))
			continue;
		hf_err_set(&why,
			   "it speaks of the VM '%s', which no definition here shares with it",
			   m->vms[i].vm);
		turn_away(ps, p->name, why.text);
	}
	if (!m->is_last)
		return;
	drop_stale(p);
	p->is_synced = true;
	hf_peer_settle(p, "");
}

static void do_tell(void *ctx __attribute__((unused)), struct hf_varlink_request *rq,
		    struct json_object *parameters)
{
	struct hf_peer_host *p = speaker(rq);
	struct hf_peermsg_tell *m;
	struct hf_err err = { "" };

	if (!p)
		return;
	m = calloc(1, sizeof(*m));
	if (!m || hf_peermsg_tell_decode(parameters, m, &err) < 0) {
		turn_away(p->peers, p->name, err.text);
		hf_varlink_invalid(rq, &err);
	} else {
		take_tell(p, m);
		hf_varlink_done(rq, NULL);
	}
	free(m);
}

static void put_str(struct json_object *o, const char *key, const char *value)
{
	if (value[0])
		json_object_object_add(o, key, json_object_new_string(value));
}

static bool is_same(const struct hf_peermsg_event *a, const struct hf_peermsg_event *b)
{
	return a->time_ns == b->time_ns && strcmp(a->event, b->event) == 0 &&
	       strcmp(a->vm, b->vm) == 0 && strcmp(a->id, b->id) == 0;
}

static void take_event(struct hf_peer_host *p, const struct hf_peermsg_event *e)
{
	const struct hf_vms_vm *vm = hf_vms_find(p->peers->d, e->vm);
	struct json_object *o;
	char name[64];

	if (e->seq <= p->seq)
		return;
	p->seq = e->seq;
	if (!vm || !hf_peer_shares(p->peers, vm, p->name))
		return;
	if (e->id[0] && is_same(&p->last_event, e)) /* two parts of it told it */
		return;
	p->last_event = *e;
	o = json_object_new_object();
	put_str(o, "vm", e->vm);
	put_str(o, "peer", p->name);
	put_str(o, "id", e->id);
	put_str(o, "cause", e->cause);
	json_object_object_add(o, "peer_time_ns", json_object_new_uint64(e->time_ns));
	(void)snprintf(name, sizeof(name), "peer-%s", e->event);
	hf_event(&p->peers->d->journal, name, o, "%s: '%s': %s", p->name, e->vm, e->text);
}

static void do_notice(void *ctx __attribute__((unused)), struct hf_varlink_request *rq,
		      struct json_object *parameters)
{
	struct hf_peer_host *p = speaker(rq);
	struct hf_peermsg_notice *m;
	struct hf_err err = { "" };

	if (!p)
		return;
	m = calloc(1, sizeof(*m));
	if (!m || hf_peermsg_notice_decode(parameters, m, &err) < 0) {
		turn_away(p->peers, p->name, err.text);
		hf_varlink_invalid(rq, &err);
	} else {
		for (unsigned int i = 0; i < m->n; i++)
			take_event(p, &m->events[i]);
		hf_varlink_done(rq, NULL);
	}
	free(m);
}

/* The VM of an order; NULL: it has been refused. */
static struct hf_vms_vm *take_order(struct hf_varlink_request *rq, struct json_object *parameters,
				    struct hf_peermsg_order *m, struct hf_peer_host **ret)
{
	struct hf_peer_host *p = speaker(rq);
	struct hf_err err = { "" };
	struct hf_vms_vm *vm;

	if (!p)
		return NULL;
	if (hf_peermsg_order_decode(parameters, m, &err) < 0) {
		turn_away(p->peers, p->name, err.text);
		hf_varlink_invalid(rq, &err);
		return NULL;
	}
	*ret = p;
	vm = hf_vms_find(p->peers->d, m->vm);
	if (vm && hf_peer_shares(p->peers, vm, p->name))
		return vm;
	hf_err_set(&err, "the VM '%s' is not shared with it", m->vm);
	turn_away(p->peers, p->name, err.text);
	hf_varlink_refuse(rq, HF_PEER_INTERFACE ".NotShared", err.text);
	return NULL;
}

static void do_start(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_peermsg_order m;
	struct hf_err err = { "" };
	struct hf_peer_host *p;
	struct hf_vms_vm *vm = take_order(rq, parameters, &m, &p);

	if (!vm)
		return;
	hf_log(&p->peers->d->journal, HF_LOG_INFO, "'%s' is to be started here, %s says", vm->name,
	       p->name);
	if (hf_vms_start(vm, m.is_fresh, &err) < 0)
		hf_varlink_refuse(rq, HF_PEER_INTERFACE ".Refused", err.text);
	else
		hf_peers_await(ctx, vm, rq);
}

/* It says so itself, if not in so many words: its telling comes behind. */
static void forget_running(struct hf_peer_host *p, struct hf_vms_vm *vm)
{
	for (struct hf_peer_vm *v = p->vms; v; v = v->next)
		if (strcmp(v->said.vm, vm->name) == 0)
			v->said.have = HF_HAVE_NOTHING;
	hf_peers_look(p->peers, vm);
}

static void do_recover(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_peermsg_order m;
	struct hf_err err = { "" };
	char why[160];
	struct hf_peer_host *p;
	struct hf_vms_vm *vm = take_order(rq, parameters, &m, &p);
	int r;

	if (!vm)
		return;
	forget_running(p, vm);
	(void)snprintf(why, sizeof(why), "%s has %s it (%s)", p->name, m.id[0] ? "frozen" : "lost",
		       m.cause[0] ? m.cause : "no cause is known");
	r = hf_vms_recover(vm, why, &err);
	if (r < 0 && hf_vms_have(vm) != HF_HAVE_RUNNING)
		hf_varlink_refuse(rq, HF_PEER_INTERFACE ".Refused", err.text);
	else
		hf_peers_await(ctx, vm, rq);
}

static const struct hf_varlink_entry methods[] = {
	{ .name = HF_PEER_INTERFACE ".Hello", .call = do_hello },
	{ .name = HF_PEER_INTERFACE ".Ping", .call = do_ping },
	{ .name = HF_PEER_INTERFACE ".Tell", .call = do_tell },
	{ .name = HF_PEER_INTERFACE ".Notice", .call = do_notice },
	{ .name = HF_PEER_INTERFACE ".Start", .call = do_start },
	{ .name = HF_PEER_INTERFACE ".Recover", .call = do_recover },
};

/* ---- connections ---- */

void hf_peer_drop_conn(struct hf_peer_host *p)
{
	struct hf_varlink_conn *conn = p->conn;
	struct hf_peer_guest *g = conn ? hf_varlink_conn_data(conn) : NULL;

	p->conn = NULL;
	p->is_synced = false;
	if (!g)
		return;
	g->peer = NULL;
	hf_varlink_conn_close(conn);
}

static void on_closed(void *ctx, struct hf_varlink_conn *conn)
{
	struct hf_peers *ps = ctx;
	struct hf_peer_guest *g = hf_varlink_conn_data(conn);
	const char *why = hf_stream_error(hf_varlink_conn_stream(conn));
	struct hf_peer_guest **at = &ps->guests;

	if (!g)
		return;
	if (why[0])
		turn_away(ps, g->from, why);
	if (!g->is_greeted)
		ps->n_guests--;
	if (g->peer) {
		g->peer->conn = NULL;
		g->peer->is_synced = false;
		hf_peer_settle(g->peer, "it has closed its connection");
	}
	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	free(g);
}

static void on_greeting_time(void *ctx)
{
	struct hf_peers *ps = ctx;
	uint64_t now_ns = hf_now_ns();
	uint64_t next_ns = UINT64_MAX;

	for (struct hf_peer_guest *g = ps->guests; g; g = g->next) {
		if (g->is_greeted || g->until_ns == UINT64_MAX)
			continue;
		if (g->until_ns <= now_ns) {
			turn_away(ps, g->from, "it has connected, and says nothing");
			g->until_ns = UINT64_MAX;
			hf_varlink_conn_close(g->conn);
		} else if (g->until_ns < next_ns) {
			next_ns = g->until_ns;
		}
	}
	hf_timer_set(&ps->greeting_timer, &ps->d->loop, next_ns, on_greeting_time, ps);
}

static int make_stream(struct hf_peers *ps, int fd, struct hf_stream **ret, struct hf_err *err)
{
	const char *names[HF_PEERS_MAX + 1] = { NULL };
	struct hf_tls *tls;
	unsigned int n = 0;

	for (const struct hf_peer_host *p = ps->first; p; p = p->next)
		names[n++] = p->name;
	if (!hf_peers_get_tls(ps, &tls, err))
		return -EPROTO;
	if (!tls)
		return hf_stream_new_plain(fd, ret);
	return hf_stream_new_tls(fd, tls, HF_STREAM_ACCEPTED, names, ret, err);
}

static int welcome(struct hf_peers *ps, int fd, struct hf_peer_guest *g, struct hf_err *err)
{
	struct hf_stream *stream = NULL;
	int r = make_stream(ps, fd, &stream, err);

	if (r < 0) {
		hf_fd_close(&fd);
		return r;
	}
	r = hf_varlink_server_adopt(ps->server, stream, &g->conn);
	if (r < 0)
		hf_stream_free(stream);
	return r;
}

/* Without the port, so that one who tries again is known. */
static void name_origin(struct hf_peer_guest *g, const struct hf_sockaddr *from)
{
	char *colon;

	(void)hf_sockaddr_format(from, g->from, sizeof(g->from));
	colon = strrchr(g->from, ':');
	if (colon)
		*colon = '\0';
}

static void accept_guest(struct hf_peers *ps, int fd, const struct hf_sockaddr *from)
{
	struct hf_peer_guest *g = calloc(1, sizeof(*g));
	struct hf_err err = { "" };

	if (!g || ps->n_guests == STRANGERS_MAX) {
		hf_fd_close(&fd);
		free(g);
		return;
	}
	name_origin(g, from);
	if (welcome(ps, fd, g, &err) < 0) {
		turn_away(ps, g->from, err.text[0] ? err.text : "too many connections");
		free(g);
		return;
	}
	g->peers = ps;
	g->until_ns = hf_now_ns() + HF_PEER_GREETING_NS;
	g->next = ps->guests;
	ps->guests = g;
	ps->n_guests++;
	hf_varlink_conn_set_data(g->conn, g);
	on_greeting_time(ps);
}

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_peers *ps = ctx;
	struct hf_sockaddr from;
	int fd;

	if (hf_sock_accept(ps->listen_fd, &fd, &from) == 0)
		accept_guest(ps, fd, &from);
}

/* ---- the service ---- */

static int open_socket(struct hf_peers *ps, struct hf_err *err)
{
	static const struct hf_sock_options options = { .keepalive_idle_s = 10,
							.keepalive_interval_s = 5,
							.keepalive_count = 3,
							.user_timeout_ms = 20000 };
	struct hf_sockaddr at;
	int r = hf_addr_resolve(&ps->d->conf.peers_listen, /* is_listening= */ true, &at, err);

	if (!r)
		r = hf_sock_listen(&at, &options, &ps->listen_fd, err);
	return r;
}

static int begin_to_serve(struct hf_peers *ps, struct hf_err *err)
{
	static const struct hf_varlink_service service = {
		.methods = methods,
		.n_methods = sizeof(methods) / sizeof(methods[0]),
		.clients_max = CLIENTS_MAX,
		.closed = on_closed,
	};
	int r = open_socket(ps, err);

	if (!r)
		r = hf_varlink_server_new(&ps->d->loop, -1, &ps->d->journal, &service, ps,
					  &ps->server);
	if (!r)
		r = hf_watch_add(&ps->watch, &ps->d->loop, ps->listen_fd, HF_PRIORITY_CONTROL,
				 wanted, ready, ps);
	if (r < 0)
		hf_peers_serve_free(ps);
	return r;
}

void hf_peers_listen(struct hf_peers *ps)
{
	struct hf_err err = { "" };

	if (!ps->first)
		hf_peers_serve_free(ps);
	else if (!ps->server && begin_to_serve(ps, &err) < 0)
		hf_log(&ps->d->journal, HF_LOG_ERROR, "no other host's daemon can connect: %s",
		       err.text);
}

void hf_peers_serve_free(struct hf_peers *ps)
{
	hf_watch_remove(&ps->watch);
	hf_varlink_server_free(ps->server);
	ps->server = NULL;
	hf_fd_close(&ps->listen_fd);
	hf_timer_fini(&ps->greeting_timer);
}

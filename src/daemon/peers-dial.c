/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection to a peer: its name is resolved by a thread, as that may block; then connected, TLS,
 * Hello. Whatever fails is tried again, less and less often, and told once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "codec/json.h"
#include "daemon/peers-internal.h"
#include "sys/fd.h"

#define BACKOFF_MIN_NS 200000000ull
#define BACKOFF_MAX_NS (10 * HF_PEER_SECOND)

static void on_time(void *ctx);

static void arm(struct hf_peer_host *p, uint64_t for_ns)
{
	hf_timer_set(&p->timer, &p->peers->d->loop, hf_now_ns() + for_ns, on_time, p);
}

/* ---- the end of one ---- */

static void let_go(struct hf_peer_host *p)
{
	hf_worker_abandon(p->resolver);
	p->resolver = NULL;
	hf_watch_remove(&p->watch);
	hf_fd_close(&p->fd);
	hf_varlink_client_close(p->client);
	p->client = NULL;
	p->dial = HF_PEER_IDLE;
	p->is_pinging = false;
	hf_peer_forget_telling(p);
	hf_peer_orders_drop(p);
}

void hf_peer_hang_up(struct hf_peer_host *p, const char *why)
{
	let_go(p);
	if (strcmp(p->trouble, why) != 0 && !p->is_up)
		hf_log(&p->peers->d->journal, HF_LOG_INFO, "%s: %s", p->name, why);
	(void)snprintf(p->trouble, sizeof(p->trouble), "%s", why);
	hf_peer_settle(p, why);
	arm(p, p->backoff_ns);
	p->backoff_ns = p->backoff_ns * 2 < BACKOFF_MAX_NS ? p->backoff_ns * 2 : BACKOFF_MAX_NS;
}

void hf_peer_dial_free(struct hf_peer_host *p)
{
	let_go(p);
	hf_timer_fini(&p->timer);
}

/* ---- talking ---- */

void hf_peer_heard(struct hf_peer_host *p)
{
	p->heard_ns = hf_now_ns();
	p->is_fenced = false;
}

static void on_ended(void *ctx, int error __attribute__((unused)), const char *why)
{
	hf_peer_hang_up(ctx, why);
}

static void on_pong(void *ctx, const struct hf_varlink_reply *reply __attribute__((unused)))
{
	struct hf_peer_host *p = ctx;

	p->is_pinging = false;
	hf_peer_heard(p);
	arm(p, HF_PEER_SILENCE_NS);
}

/* Silence is asked about; events that came without a change of state are sent along. */
static void on_silence(struct hf_peer_host *p)
{
	uint64_t silent_ns = hf_now_ns() - p->heard_ns;

	if (p->is_pinging) {
		hf_peer_hang_up(p, "it does not answer any more");
		return;
	}
	hf_peer_tell(p);
	if (silent_ns < HF_PEER_SILENCE_NS) {
		arm(p, HF_PEER_SILENCE_NS - silent_ns);
		return;
	}
	p->is_pinging = true;
	arm(p, HF_PEER_DEAD_NS);
	if (hf_varlink_client_call(p->client, HF_PEER_INTERFACE ".Ping", NULL, false, on_pong, p) <
	    0)
		hf_peer_hang_up(p, "it takes no more calls");
}

static void refused(struct hf_peer_host *p, const struct hf_varlink_reply *reply)
{
	struct hf_err err = { "" };
	const char *reason;
	char why[HF_ERR_MAX];

	if (hf_json_str(reply->parameters, "reason", &reason, &err) < 0 &&
	    hf_json_str(reply->parameters, "parameter", &reason, &err) < 0)
		reason = "";
	(void)snprintf(why, sizeof(why), "it does not want to talk: %.100s %.300s", reply->error,
		       reason);
	for (char *c = why; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	p->backoff_ns = BACKOFF_MAX_NS;
	hf_peer_hang_up(p, why);
}

static void on_hello(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_peer_host *p = ctx;
	struct hf_peermsg_hello m;
	struct hf_err err = { "" };

	hf_peer_heard(p);
	if (reply->error) {
		refused(p, reply);
		return;
	}
	if (hf_peermsg_hello_decode(reply->parameters, &m, &err) < 0) {
		hf_err_prefix(&err, "its Hello is no good: ");
		hf_peer_hang_up(p, err.text);
		return;
	}
	if (strcmp(m.host, p->name) != 0) {
		hf_err_set(&err, "at its address answers '%s'", m.host);
		hf_peer_hang_up(p, err.text);
		return;
	}
	p->dial = HF_PEER_LISTENS;
	p->backoff_ns = BACKOFF_MIN_NS;
	p->trouble[0] = '\0';
	p->noticed_seq = m.after;
	arm(p, HF_PEER_SILENCE_NS);
	hf_peer_settle(p, "");
	hf_peer_tell_all(p);
	hf_peer_tell(p);
}

static int greet(struct hf_peer_host *p)
{
	struct hf_peermsg_hello m = { .version = HF_PEERMSG_VERSION,
				      .instance = p->peers->instance,
				      .after = p->seq };

	(void)snprintf(m.host, sizeof(m.host), "%s", p->peers->d->conf.name);
	(void)snprintf(m.to, sizeof(m.to), "%s", p->name);
	p->dial = HF_PEER_GREETING;
	arm(p, HF_PEER_GREETING_NS);
	return hf_varlink_client_call(p->client, HF_PEER_INTERFACE ".Hello",
				      hf_peermsg_hello_encode(&m), false, on_hello, p);
}

/* ---- connecting ---- */

static int make_stream(struct hf_peer_host *p, struct hf_stream **ret, struct hf_err *err)
{
	const char *const names[] = { p->name, NULL };
	struct hf_tls *tls;

	if (!hf_peers_get_tls(p->peers, &tls, err))
		return -EPROTO;
	if (!tls)
		return hf_stream_new_plain(p->fd, ret);
	return hf_stream_new_tls(p->fd, tls, HF_STREAM_DIALLED, names, ret, err);
}

static void connected(struct hf_peer_host *p)
{
	struct hf_err err = { "" };
	struct hf_stream *stream = NULL;
	int r;

	hf_watch_remove(&p->watch);
	r = make_stream(p, &stream, &err);
	if (!r) {
		p->fd = -1;
		r = hf_varlink_client_adopt(&p->peers->d->loop, stream, on_ended, p, &p->client);
		if (r < 0)
			hf_stream_free(stream);
	}
	if (!r)
		r = greet(p);
	if (r < 0)
		hf_peer_hang_up(p, err.text[0] ? err.text : strerror(-r));
}

static void not_connected(struct hf_peer_host *p, int r)
{
	struct hf_err err;
	char text[HF_ADDR_TEXT];

	hf_err_set(&err, "cannot connect to %s: %s", hf_addr_format(&p->addr, text, sizeof(text)),
		   strerror(-r));
	hf_peer_hang_up(p, err.text);
}

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLOUT;
}

static void ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_peer_host *p = ctx;
	int r = hf_sock_connect_result(p->fd);

	if (r < 0)
		not_connected(p, r);
	else if (r == 0)
		connected(p);
}

static void begin_to_connect(struct hf_peer_host *p, const struct hf_sockaddr *to)
{
	static const struct hf_sock_options options = { .keepalive_idle_s = 10,
							.keepalive_interval_s = 5,
							.keepalive_count = 3,
							.user_timeout_ms = 20000 };
	int r = hf_sock_connect(to, &options, &p->fd);

	p->dial = HF_PEER_CONNECTING;
	arm(p, HF_PEER_GREETING_NS);
	if (r == HF_SOCK_PENDING)
		r = hf_watch_add(&p->watch, &p->peers->d->loop, p->fd, HF_PRIORITY_CONTROL, wanted,
				 ready, p);
	else if (r == 0)
		connected(p);
	if (r < 0)
		not_connected(p, r);
}

/* ---- resolving ---- */

struct question {
	struct hf_peer_host *peer; /* of no use to the thread */
	struct hf_addr addr;
	struct hf_sockaddr result;
	struct hf_err err;
};

static int run_question(void *ctx)
{
	struct question *q = ctx;

	return hf_addr_resolve(&q->addr, /* is_listening= */ false, &q->result, &q->err);
}

static void on_resolved(void *ctx, int r)
{
	struct question *q = ctx;
	struct hf_peer_host *p = q->peer;

	p->resolver = NULL;
	if (r < 0)
		hf_peer_hang_up(p, q->err.text);
	else
		begin_to_connect(p, &q->result);
	free(q);
}

static void resolve(struct hf_peer_host *p)
{
	struct question *q = calloc(1, sizeof(*q));
	int r = -ENOMEM;

	if (q) {
		q->peer = p;
		q->addr = p->addr;
		p->dial = HF_PEER_RESOLVING;
		r = hf_worker_start(&p->peers->d->loop, run_question, on_resolved, free, q,
				    &p->resolver);
	}
	if (!r) {
		arm(p, HF_PEER_GREETING_NS);
		return;
	}
	free(q);
	hf_peer_hang_up(p, strerror(-r));
}

void hf_peer_dial(struct hf_peer_host *p)
{
	if (p->dial != HF_PEER_IDLE || !p->addr.host[0])
		return;
	if (p->backoff_ns < BACKOFF_MIN_NS)
		p->backoff_ns = BACKOFF_MIN_NS;
	resolve(p);
}

static void on_time(void *ctx)
{
	struct hf_peer_host *p = ctx;

	switch (p->dial) {
	case HF_PEER_IDLE:
		hf_peer_dial(p);
		break;
	case HF_PEER_RESOLVING:
		hf_peer_hang_up(p, "its name cannot be resolved in time");
		break;
	case HF_PEER_CONNECTING:
		hf_peer_hang_up(p, "no connection in time");
		break;
	case HF_PEER_GREETING:
		hf_peer_hang_up(p, "no answer in time");
		break;
	case HF_PEER_LISTENS:
		on_silence(p);
		break;
	}
}

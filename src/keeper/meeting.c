/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/meeting.h"

#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "cluster/hello.h"
#include "service/doorlog.h"
#include "sys/fd.h"
#include "sys/sock.h"

enum step {
	STEP_CONNECTING,
	STEP_GREETING, /* the other's HELLO is awaited */
	STEP_LINGER, /* all is said; the other is to close, or to say PROMOTED */
};

/* One connection on its way to be taken over. */
struct meeting {
	struct hf_meetings *all;
	enum step step;
	bool we_dialled;
	bool is_inquiry; /* ours */
	int fd; /* while connecting */
	struct hf_link *link;
	struct hf_watch watch;
	struct hf_timer patience;
	bool is_over; /* to be freed once the dispatch is done */
	bool has_met; /* the role is to be asked once the dispatch is done */
	bool is_taken;
	char from[HF_ADDR_TEXT]; /* a guest's address, without its port */
	struct hf_wire_hello theirs; /* numbers only */
};

struct hf_meetings {
	struct hf_loop *loop;
	struct hf_journal *journal;
	const struct hf_meeting_ops *ops;
	void *ctx;
	int listen_fd;
	struct hf_watch watch;
	struct hf_sockaddr peer;
	bool has_peer;
	char peer_text[HF_ADDR_TEXT];
	char peer_host[HF_ADDR_TEXT]; /* as struct meeting's from */
	struct hf_tls *tls; /* NULL: plain connections */
	char peer_name[256]; /* that its certificate must carry */
	struct meeting *dial; /* the one that we dialled, or NULL; not among the guests */
	struct meeting *guests[HF_MEETING_GUESTS_MAX]; /* the oldest first */
	unsigned int n_guests;
	struct hf_doorlog doorlog;
};

static const struct hf_sock_options options = {
	.keepalive_idle_s = 10,
	.keepalive_interval_s = 5,
	.keepalive_count = 6,
};

static void meeting_free(struct meeting *g)
{
	struct hf_meetings *m = g->all;

	if (m->dial == g)
		m->dial = NULL;
	for (unsigned int i = 0; i < m->n_guests; i++) {
		if (m->guests[i] != g)
			continue;
		m->n_guests--;
		for (; i < m->n_guests; i++) /* in the order in which they came */
			m->guests[i] = m->guests[i + 1];
		break;
	}
	hf_watch_remove(&g->watch);
	hf_timer_fini(&g->patience);
	hf_fd_close(&g->fd);
	if (!g->is_taken)
		hf_link_free(g->link);
	free(g);
}

static void turn_away(struct meeting *g, const char *text)
{
	struct hf_meetings *m = g->all;

	(void)hf_doorlog_tell(&m->doorlog, m->journal, hf_now_ns(), g->from, text);
}

/* The dial is over before the callback runs, so that it may dial again at once. */
static void miss(struct meeting *g, enum hf_meeting_miss why, const char *text)
{
	struct hf_meetings *m = g->all;
	struct hf_err copy;

	hf_err_set(&copy, "%s", text);
	g->is_over = true;
	if (!g->we_dialled && g->step == STEP_GREETING)
		turn_away(g, copy.text);
	if (!g->we_dialled || g->step == STEP_LINGER)
		return;
	if (m->dial == g)
		m->dial = NULL;
	m->ops->missed(m->ctx, why, copy.text);
}

static void refuse(struct meeting *g, enum hf_wire_refusal code, const char *text)
{
	struct hf_wire_msg msg = {
		.type = HF_WIRE_REFUSE,
		.reason = { .code = code, .text = text },
	};
	struct hf_err cut;

	if (strlen(text) > HF_WIRE_REASON_TEXT_MAX) {
		hf_err_set(&cut, "%.*s", HF_WIRE_REASON_TEXT_MAX, text);
		msg.reason.text = cut.text;
	}
	(void)!hf_link_send(g->link, &msg, NULL);
}

static int send_hello(struct meeting *g)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_HELLO };
	struct hf_meetings *m = g->all;

	m->ops->describe(m->ctx, &msg.hello);
	if (g->is_inquiry)
		msg.hello.role = HF_WIRE_ROLE_INQUIRER;
	return hf_link_send(g->link, &msg, NULL);
}

/* Both greetings fit. The role is asked after the dispatch, when it may do as it likes with the link. */
static void introduce(struct meeting *g, const struct hf_wire_hello *theirs)
{
	struct hf_meetings *m = g->all;

	g->step = STEP_LINGER;
	if (m->dial == g)
		m->dial = NULL;
	if (g->is_inquiry) {
		g->is_over = true;
		m->ops->learnt(m->ctx, theirs);
		return;
	}
	if (theirs->role == HF_WIRE_ROLE_INQUIRER)
		return;
	g->theirs = *theirs;
	g->theirs.holdfast = g->theirs.vm = g->theirs.machine = g->theirs.qemu = NULL;
	g->theirs.lockspace = NULL;
	g->theirs.devices.n = g->theirs.netdevs.n = 0;
	g->has_met = true;
}

static void on_hello(struct meeting *g, const struct hf_wire_hello *theirs)
{
	struct hf_meetings *m = g->all;
	struct hf_wire_hello mine = { 0 };
	enum hf_wire_refusal code;
	struct hf_err err;

	m->ops->describe(m->ctx, &mine);
	if (g->is_inquiry)
		mine.role = HF_WIRE_ROLE_INQUIRER;
	if (hf_hello_check(&mine, theirs, &code, &err) != 0) {
		refuse(g, code, err.text);
		if (g->we_dialled)
			miss(g, HF_MEETING_TURNED_AWAY, err.text);
		else
			turn_away(g, err.text);
		g->step = STEP_LINGER;
		return;
	}
	if (!g->we_dialled && send_hello(g) < 0) {
		g->is_over = true;
		return;
	}
	introduce(g, theirs);
}

static void on_greeting(struct meeting *g, const struct hf_wire_view *view)
{
	struct hf_wire_msg msg;
	unsigned int version;
	unsigned int min;
	unsigned int max;
	struct hf_err err;

	if (view->type == HF_WIRE_HELLO && hf_wire_hello_versions(view, &min, &max, &err) == 0 &&
	    hf_wire_negotiate(min, max, &version) != 0) {
		hf_err_set(&err,
			   "it speaks versions %u to %u of the protocol, this keeper %d to %d", min,
			   max, HF_WIRE_VERSION_MIN, HF_WIRE_VERSION_MAX);
		refuse(g, HF_WIRE_REFUSE_VERSION, err.text);
		miss(g, HF_MEETING_TURNED_AWAY, err.text);
		return;
	}
	if (!hf_wire_is_control(view->type) || hf_wire_decode(view, &msg, &err) < 0) {
		miss(g, HF_MEETING_TURNED_AWAY, "it does not speak the protocol");
		return;
	}
	if (msg.type == HF_WIRE_HELLO)
		on_hello(g, &msg.hello);
	else if (msg.type == HF_WIRE_REFUSE)
		miss(g, HF_MEETING_TURNED_AWAY, msg.reason.text);
	else
		miss(g, HF_MEETING_TURNED_AWAY, "it did not greet");
}

static void on_late_word(struct meeting *g, const struct hf_wire_view *view)
{
	struct hf_meetings *m = g->all;
	struct hf_wire_msg msg;

	if (hf_wire_is_control(view->type) && hf_wire_decode(view, &msg, NULL) == 0 &&
	    (msg.type == HF_WIRE_PROMOTED || msg.type == HF_WIRE_ABANDON))
		m->ops->told(m->ctx, msg.type, &msg.mark);
}

static bool on_message(void *ctx, const struct hf_wire_view *view)
{
	struct meeting *g = ctx;

	if (g->step == STEP_GREETING)
		on_greeting(g, view);
	else
		on_late_word(g, view);
	return !g->is_over && !g->has_met;
}

/* From a connected socket to a link; without TLS that is all there is to it. */
static int open_link(struct meeting *g)
{
	struct hf_meetings *m = g->all;
	const char *const names[] = { m->peer_name, NULL };
	struct hf_stream *stream;
	struct hf_err err = { "" };
	int r;

	if (m->tls)
		r = hf_stream_new_tls(g->fd, m->tls,
				      g->we_dialled ? HF_STREAM_DIALLED : HF_STREAM_ACCEPTED, names,
				      &stream, &err);
	else
		r = hf_stream_new_plain(g->fd, &stream);
	if (r < 0)
		return r;
	g->fd = -1;
	r = hf_link_new(stream, &g->link);
	if (r < 0)
		hf_stream_free(stream);
	else
		g->step = STEP_GREETING;
	return r;
}

static void on_connected(struct meeting *g)
{
	int r = hf_sock_connect_result(g->fd);
	bool is_refused = r < 0 && hf_conn_end_of(r) == HF_CONN_REFUSED;

	if (r == HF_SOCK_PENDING)
		return;
	if (!r) {
		hf_watch_remove(&g->watch);
		r = open_link(g);
	}
	if (!r)
		r = send_hello(g);
	if (r < 0)
		miss(g, is_refused ? HF_MEETING_REFUSED_PORT : HF_MEETING_NO_ANSWER,
		     hf_conn_end_text(hf_conn_end_of(r)));
}

static uint32_t wanted(void *ctx)
{
	const struct meeting *g = ctx;

	return g->step == STEP_CONNECTING ? EPOLLOUT : hf_link_events(g->link);
}

static void ready(void *ctx, uint32_t revents);

static void watch_link(struct meeting *g)
{
	if (!g->link || g->watch.source || g->is_over)
		return;
	if (hf_watch_add(&g->watch, g->all->loop, hf_link_fd(g->link), HF_PRIORITY_LINK, wanted,
			 ready, g) < 0)
		miss(g, HF_MEETING_NO_ANSWER, "too many connections");
}

static const char *why_not(const struct meeting *g, int result, struct hf_err *err)
{
	if (*hf_link_error(g->link))
		return hf_link_error(g->link);
	if (result != HF_LINK_BAD)
		return "it closed the connection";
	if (!g->all->tls)
		hf_err_prefix(err, "it does not speak the plain protocol; is its encryption=tls?");
	return err->text;
}

/* Returns false when the meeting is over. */
static bool dispatch(struct meeting *g, uint32_t revents)
{
	struct hf_err err = { "" };
	int r = hf_link_dispatch(g->link, revents, on_message, g, &err);

	if (r && !g->is_over && !g->has_met)
		miss(g, *hf_link_error(g->link) ? HF_MEETING_TURNED_AWAY : HF_MEETING_NO_ANSWER,
		     why_not(g, r, &err));
	return !g->is_over;
}

static void ready(void *ctx, uint32_t revents)
{
	struct meeting *g = ctx;
	struct hf_meetings *m = g->all;

	if (g->step == STEP_CONNECTING)
		on_connected(g);
	else
		(void)dispatch(g, revents);
	if (g->has_met && !g->is_over) {
		hf_watch_remove(&g->watch);
		g->has_met = false;
		g->is_taken = m->ops->met(m->ctx, g->link, &g->theirs, g->we_dialled);
		g->is_over = g->is_taken || !dispatch(g, EPOLLIN);
	}
	if (g->is_over)
		meeting_free(g);
	else
		watch_link(g);
}

static void on_impatience(void *ctx)
{
	struct meeting *g = ctx;

	miss(g, HF_MEETING_NO_ANSWER,
	     g->link && !hf_link_is_ready(g->link) ? "it stopped in the middle of the TLS handshake"
						   : "no answer");
	meeting_free(g);
}

static struct meeting *meeting_new(struct hf_meetings *m, bool we_dialled)
{
	struct meeting *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->all = m;
	g->fd = -1;
	g->we_dialled = we_dialled;
	hf_timer_set(&g->patience, m->loop,
		     hf_now_ns() + (we_dialled ? HF_MEETING_DIAL_NS : HF_MEETING_PATIENCE_NS),
		     on_impatience, g);
	return g;
}

static void dial(struct hf_meetings *m, bool is_inquiry)
{
	struct meeting *g;
	int r;

	if (m->dial || !m->has_peer)
		return;
	g = meeting_new(m, /* we_dialled= */ true);
	if (!g)
		return;
	g->is_inquiry = is_inquiry;
	m->dial = g;
	r = hf_sock_connect(&m->peer, &options, &g->fd);
	if (r < 0) {
		miss(g,
		     hf_conn_end_of(r) == HF_CONN_REFUSED ? HF_MEETING_REFUSED_PORT
							  : HF_MEETING_NO_ANSWER,
		     hf_conn_end_text(hf_conn_end_of(r)));
		meeting_free(g);
		return;
	}
	/* Also when it is connected already: then the socket is writable at once. */
	if (hf_watch_add(&g->watch, m->loop, g->fd, HF_PRIORITY_LINK, wanted, ready, g) < 0) {
		miss(g, HF_MEETING_NO_ANSWER, "too many connections");
		meeting_free(g);
	}
}

void hf_meetings_dial(struct hf_meetings *m)
{
	dial(m, /* is_inquiry= */ false);
}

void hf_meetings_inquire(struct hf_meetings *m)
{
	dial(m, /* is_inquiry= */ true);
}

int hf_meetings_listen_fd(const struct hf_meetings *m)
{
	return m->listen_fd;
}

bool hf_meetings_is_dialling(const struct hf_meetings *m)
{
	return m->dial != NULL;
}

const char *hf_meetings_peer_text(const struct hf_meetings *m)
{
	return m->has_peer ? m->peer_text : "-";
}

static uint32_t door_wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

/* The address without its port, IPv4 as such also where it came through an IPv6 socket. */
static void format_host(const struct hf_sockaddr *sa, char ret[HF_ADDR_TEXT])
{
	static const char mapped[] = "[::ffff:";
	char text[HF_ADDR_TEXT];
	char *port, *start = text;

	(void)hf_sockaddr_format(sa, text, sizeof(text));
	port = strrchr(text, ':');
	if (port)
		*port = '\0';
	if (strncmp(text, mapped, strlen(mapped)) == 0 && strchr(text, '.')) {
		start = text + strlen(mapped);
		start[strcspn(start, "]")] = '\0';
	}
	(void)snprintf(ret, HF_ADDR_TEXT, "%s", start);
}

/* How much there is to a guest: a flood of strangers must not keep the peer out. */
static int rank(const struct meeting *g)
{
	const struct hf_meetings *m = g->all;

	if (m->tls && hf_link_is_ready(g->link))
		return 2;
	return m->has_peer && strcmp(g->from, m->peer_host) == 0;
}

/* When too many stand in the door, of the least the one who has waited longest makes room. */
static void make_room(struct hf_meetings *m)
{
	unsigned int least = 0;

	if (m->n_guests < HF_MEETING_GUESTS_MAX)
		return;
	for (unsigned int i = 1; i < m->n_guests; i++)
		if (rank(m->guests[i]) < rank(m->guests[least]))
			least = i;
	meeting_free(m->guests[least]);
}

static void door_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_meetings *m = ctx;
	struct hf_sockaddr from;
	struct meeting *g;
	int fd;

	if (hf_sock_accept(m->listen_fd, &fd, &from) != 0)
		return;
	make_room(m);
	g = meeting_new(m, /* we_dialled= */ false);
	if (!g) {
		hf_fd_close(&fd);
		return;
	}
	g->fd = fd;
	format_host(&from, g->from);
	if (open_link(g) < 0) {
		meeting_free(g);
		return;
	}
	m->guests[m->n_guests++] = g;
	watch_link(g);
	if (g->is_over)
		meeting_free(g);
}

static int start_listening(struct hf_meetings *m, const struct hf_addr *own, struct hf_err *err)
{
	struct hf_sockaddr at;
	int r = hf_addr_resolve(own, /* is_listening= */ true, &at, err);

	if (!r)
		r = hf_sock_listen(&at, &options, &m->listen_fd, err);
	if (r < 0)
		return r;
	r = hf_watch_add(&m->watch, m->loop, m->listen_fd, HF_PRIORITY_LINK, door_wanted,
			 door_ready, m);
	if (r < 0)
		hf_err_set(err, "cannot wait for connections: %s", strerror(-r));
	return r;
}

/* Without a definition that names the hosts, what leads to the peer is its name. */
static int read_certificates(struct hf_meetings *m, const struct hf_settings *set,
			     struct hf_err *err)
{
	const char *name = set->peer_name     ? set->peer_name
			   : set->peer.is_set ? set->peer.addr.host
					      : "";
	struct hf_err note;
	int r;

	if (set->encryption == HF_ENCRYPTION_PLAIN)
		return 0;
	if (!*name || strlen(name) >= sizeof(m->peer_name)) {
		hf_err_set(err,
			   "whose certificate is to be accepted? Give --peer-name, the name of "
			   "the other host");
		return -EINVAL;
	}
	(void)snprintf(m->peer_name, sizeof(m->peer_name), "%s", name);
	r = hf_tls_new(set->pki_dir, &m->tls, err);
	if (r == 0 && hf_tls_note(m->tls, &note))
		hf_log(m->journal, HF_LOG_INFO, "%s", note.text);
	if (r == -ENOENT)
		hf_err_prefix(err, "no certificates for talking to the other host (see "
				   "holdfast-pki(1), or --encryption plain)");
	return r;
}

int hf_meetings_new(struct hf_loop *loop, struct hf_journal *journal, const struct hf_settings *set,
		    const struct hf_meeting_ops *ops, void *ctx, struct hf_meetings **ret,
		    struct hf_err *err)
{
	struct hf_meetings *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	*m = (struct hf_meetings){
		.loop = loop, .journal = journal, .ops = ops, .ctx = ctx, .listen_fd = -1
	};
	r = read_certificates(m, set, err);
	if (!r && set->peer.is_set) {
		r = hf_addr_resolve(&set->peer.addr, /* is_listening= */ false, &m->peer, err);
		m->has_peer = !r;
		(void)hf_addr_format(&set->peer.addr, m->peer_text, sizeof(m->peer_text));
		if (m->has_peer)
			format_host(&m->peer, m->peer_host);
	}
	if (!r)
		r = start_listening(m, &set->listen.addr, err);
	if (r < 0) {
		hf_meetings_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void hf_meetings_add_status(struct hf_meetings *m, struct json_object *status,
			    struct json_object *notes)
{
	const char *encryption = !m ? "-" : m->tls ? "tls" : "plain";
	struct json_object *all = json_object_new_array();
	struct hf_err note;

	for (size_t i = 0; i < json_object_array_length(notes); i++)
		json_object_array_add(all, json_object_get(json_object_array_get_idx(notes, i)));
	if (m && m->tls && hf_tls_note(m->tls, &note))
		json_object_array_add(all, json_object_new_string(note.text));
	json_object_object_add(status, "peer",
			       json_object_new_string(m ? hf_meetings_peer_text(m) : "-"));
	json_object_object_add(status, "encryption", json_object_new_string(encryption));
	json_object_object_add(status, "notes", all);
}

void hf_meetings_free(struct hf_meetings *m)
{
	if (!m)
		return;
	if (m->dial)
		meeting_free(m->dial);
	for (unsigned int i = m->n_guests; i-- > 0;) /* each takes itself out, as the last */
		meeting_free(m->guests[i]);
	hf_watch_remove(&m->watch);
	hf_fd_close(&m->listen_fd);
	hf_tls_free(m->tls);
	free(m);
}

void hf_meetings_set_ops(struct hf_meetings *m, const struct hf_meeting_ops *ops, void *ctx)
{
	m->ops = ops;
	m->ctx = ctx;
}

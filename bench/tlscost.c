/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What TLS costs between two hosts: a keeper's link over TCP on the loopback, to another process that
 * answers each PING. usage: tlscost DIR_A DIR_B ROUNDS
 * Prints "NAME tls|plain MILLISECONDS" for each single measurement, tls and plain in turns:
 *   epoch       1000 pages in four messages and a PING, until the answer
 *   round-trip  a PING alone
 *   mib         a mebibyte of pages, of 256 that are sent without a pause
 *   handshake   from the connected socket until both have proven who they are (tls)
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cluster/link.h"
#include "codec/wire-bulk.h"

#define PAGES_PER_MESSAGE 250u
#define EPOCH_MESSAGES 4
#define STREAM_MESSAGES 262 /* 255.9 MiB of pages */
#define EPOCHS_PER_ROUND 20
#define PINGS_PER_ROUND 200

struct end {
	struct hf_link *link;
	unsigned int n_pongs;
	bool is_over;
};

static uint8_t *pages[EPOCH_MESSAGES];
static size_t pages_len;

static void die(const char *what)
{
	(void)fprintf(stderr, "tlscost: %s\n", what);
	exit(1);
}

static double now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool on_message(void *ctx, const struct hf_wire_view *view)
{
	struct end *e = ctx;
	struct hf_wire_msg msg;

	if (view->type == HF_WIRE_PONG)
		e->n_pongs++;
	if (view->type != HF_WIRE_PING)
		return true;
	if (hf_wire_decode(view, &msg, NULL) < 0)
		die("a PING that is none");
	msg.type = HF_WIRE_PONG;
	if (hf_link_send(e->link, &msg, NULL) < 0)
		die("no PONG can be sent");
	return true;
}

static void turn(struct end *e)
{
	struct pollfd p = { .fd = hf_link_fd(e->link), .events = (short)hf_link_events(e->link) };
	struct hf_err err;

	if (poll(&p, 1, 60000) != 1)
		die("nothing moves");
	if (hf_link_dispatch(e->link, (uint32_t)p.revents, on_message, e, &err) != 0)
		e->is_over = true;
}

/* ---- the two ends ---- */

static struct hf_tls *read_folder(const char *dir)
{
	struct hf_err err = { "out of memory" };
	struct hf_tls *tls;

	if (hf_tls_new(dir, &tls, &err) < 0)
		die(err.text);
	return tls;
}

/* @tls: NULL: plain */
static struct hf_link *open_link(int fd, struct hf_tls *tls, bool is_dialled)
{
	const char *const names[] = { is_dialled ? "hostb" : "hosta", NULL };
	struct hf_stream *stream;
	struct hf_link *link = NULL;
	struct hf_err err = { "out of memory" };
	int r;

	if (!tls)
		r = hf_stream_new_plain(fd, &stream);
	else
		r = hf_stream_new_tls(fd, tls, is_dialled ? HF_STREAM_DIALLED : HF_STREAM_ACCEPTED,
				      names, &stream, &err);
	if (r < 0 || hf_link_new(stream, &link) < 0)
		die(err.text);
	return link;
}

static void tcp_pair(int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) < 0)
		die("cannot listen");
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fds[0], (struct sockaddr *)&at, len) < 0)
		die("cannot connect");
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	for (int i = 0; i < 2; i++)
		(void)setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(listener);
}

static void answer(int fd, struct hf_tls *tls)
{
	struct end e = { .link = open_link(fd, tls, /* is_dialled= */ false) };

	while (!e.is_over)
		turn(&e);
	hf_link_free(e.link);
}

/* ---- what is measured ---- */

static void ping_and_wait(struct end *e)
{
	struct hf_wire_msg ping = { .type = HF_WIRE_PING };
	unsigned int before = e->n_pongs;

	if (hf_link_send(e->link, &ping, NULL) < 0)
		die("no PING can be sent");
	while (e->n_pongs == before && !e->is_over)
		turn(e);
	if (e->is_over)
		die("the link has ended");
}

static double timed(struct end *e, unsigned int n_messages)
{
	double start_ms = now_ms();

	for (unsigned int i = 0; i < n_messages; i++)
		if (hf_link_send_bulk(e->link, pages[i % EPOCH_MESSAGES], pages_len) < 0)
			die("no pages can be sent");
	hf_link_flush(e->link);
	ping_and_wait(e);
	return now_ms() - start_ms;
}

static void tell(const char *name, bool is_tls, double ms)
{
	printf("%s %s %.6f\n", name, is_tls ? "tls" : "plain", ms);
}

static void measure(struct hf_tls *a, struct hf_tls *b, bool is_tls)
{
	struct end e = { .is_over = false };
	double start_ms;
	pid_t pid;
	int fds[2];

	tcp_pair(fds);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		answer(fds[1], is_tls ? b : NULL);
		_exit(0);
	}
	close(fds[1]);
	start_ms = now_ms();
	e.link = open_link(fds[0], is_tls ? a : NULL, /* is_dialled= */ true);
	ping_and_wait(&e);
	if (is_tls)
		tell("handshake", is_tls, now_ms() - start_ms);
	(void)timed(&e, EPOCH_MESSAGES); /* buffers are there */
	for (int i = 0; i < EPOCHS_PER_ROUND; i++)
		tell("epoch", is_tls, timed(&e, EPOCH_MESSAGES));
	for (int i = 0; i < PINGS_PER_ROUND; i++)
		tell("round-trip", is_tls, timed(&e, 0));
	tell("mib", is_tls,
	     timed(&e, STREAM_MESSAGES) / (STREAM_MESSAGES * PAGES_PER_MESSAGE / 256.0));
	hf_link_free(e.link);
	(void)waitpid(pid, NULL, 0);
}

static void make_pages(void)
{
	for (uint64_t i = 0; i < EPOCH_MESSAGES; i++) {
		struct hf_wire_pages_builder b;
		uint32_t taken;
		uint8_t *data;

		pages[i] = malloc(HF_WIRE_MESSAGE_MAX);
		if (!pages[i])
			die("out of memory");
		hf_wire_pages_begin(&b, pages[i]);
		data = hf_wire_pages_add_data(&b, i * PAGES_PER_MESSAGE, PAGES_PER_MESSAGE, &taken);
		if (taken != PAGES_PER_MESSAGE)
			die("the pages do not fit");
		for (size_t k = 0; k < (size_t)PAGES_PER_MESSAGE * HF_WIRE_PAGE_BYTES; k++)
			data[k] = (uint8_t)(k * 2654435761u >> 11);
		pages_len = hf_wire_pages_finish(&b);
	}
}

int main(int argc, char **argv)
{
	int rounds = argc == 4 ? (int)strtol(argv[3], NULL, 10) : 0;
	struct hf_tls *a, *b;

	if (rounds < 1)
		die("usage: tlscost DIR_A DIR_B ROUNDS");
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	make_pages();
	a = read_folder(argv[1]);
	b = read_folder(argv[2]);
	for (int i = 0; i < 2 * rounds; i++)
		measure(a, b, /* is_tls= */ i % 2);
	hf_tls_free(a);
	hf_tls_free(b);
	return 0;
}

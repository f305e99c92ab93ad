/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TCP 7000 and 7001. Connections live in fixed slots, so an event that the kernel reported before a
 * slot was closed, or even reused, does no harm: all sockets are non-blocking and every state is
 * looked at afresh. No connection may hold the loop for more than SLICE_BYTES at a time.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define CONNS_MAX 64
#define BUF_BYTES ((size_t)64 * 1024)
#define SLICE_BYTES ((size_t)256 * 1024)
#define STREAM_HEADER_BYTES 12
#define ECHO_HEADER_BYTES 8
#define PACE_NS 2000000

struct conn {
	struct guest_source source;
	bool is_echo;
	bool is_failing;
	uint8_t header[STREAM_HEADER_BYTES];
	size_t header_len;
	uint64_t seed;
	uint64_t offset;
	uint32_t limit_bytes_per_s;
	uint64_t started_ns;
	uint64_t sent_total;
	uint8_t buf[BUF_BYTES];
	size_t len;
	size_t sent;
};

static struct conn conns[CONNS_MAX];
static struct guest_source listeners[2];
static struct guest_source pace = { -1, NULL };

static void conn_close(struct conn *c)
{
	(void)close(c->source.fd);
	c->source.fd = -1;
}

static bool is_paced(const struct conn *c)
{
	return c->source.fd >= 0 && !c->is_echo && c->limit_bytes_per_s != 0;
}

static size_t header_bytes(const struct conn *c)
{
	return c->is_echo ? ECHO_HEADER_BYTES : STREAM_HEADER_BYTES;
}

static void set_pace(bool is_on)
{
	struct itimerspec t = { 0 };

	if (is_on) {
		t.it_interval.tv_nsec = PACE_NS;
		t.it_value.tv_nsec = PACE_NS;
	}
	(void)timerfd_settime(pace.fd, 0, &t, NULL);
}

/* False when there is no header yet, or no connection any more. */
static bool read_header(struct conn *c)
{
	size_t want = header_bytes(c) - c->header_len;
	ssize_t n;

	if (want == 0)
		return true;
	n = read(c->source.fd, c->header + c->header_len, want);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		conn_close(c);
		return false;
	}
	if (n < 0 || (c->header_len += (size_t)n) < header_bytes(c))
		return false;
	c->seed = hf_le64_get(c->header);
	c->limit_bytes_per_s = c->is_echo ? 0 : hf_le32_get(c->header + 8);
	c->started_ns = guest_now_ns();
	if (!c->is_echo)
		guest_rewatch(&c->source, is_paced(c) ? EPOLLIN : EPOLLIN | EPOLLOUT);
	if (is_paced(c))
		set_pace(true);
	return true;
}

/* How many bytes may be sent now. */
static uint64_t allowance(const struct conn *c)
{
	uint64_t elapsed_us = (guest_now_ns() - c->started_ns) / 1000;
	uint64_t earned;

	if (!is_paced(c))
		return SLICE_BYTES;
	earned = (uint64_t)((unsigned __int128)elapsed_us * c->limit_bytes_per_s / 1000000);
	return earned > c->sent_total ? earned - c->sent_total : 0;
}

/* Bytes written, 0 when the socket is full; the connection is closed when it is broken. */
static size_t conn_write(struct conn *c, const uint8_t *data, size_t len)
{
	ssize_t n = send(c->source.fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n >= 0)
		return (size_t)n;
	if (errno != EAGAIN)
		conn_close(c);
	return 0;
}

static void stream_some(struct conn *c)
{
	uint64_t left = allowance(c);

	if (left > SLICE_BYTES)
		left = SLICE_BYTES;
	while (left > 0) {
		size_t want = left < BUF_BYTES ? (size_t)left : BUF_BYTES, n;

		if (c->sent == c->len) {
			hf_pattern_fill(c->buf, want, c->seed, c->offset);
			c->offset += want;
			c->len = want;
			c->sent = 0;
		}
		n = conn_write(c, c->buf + c->sent, c->len - c->sent);
		if (n == 0)
			return;
		c->sent += n;
		c->sent_total += n;
		guest_stats.streamed_bytes += n;
		left -= n < left ? n : left;
	}
}

/* A stream's client has nothing more to say: whatever comes after the header is its end. */
static void stream_ready(struct conn *c, uint32_t events)
{
	uint8_t waste[64];

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = recv(c->source.fd, waste, sizeof(waste), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			conn_close(c);
			return;
		}
	}
	if (!is_paced(c))
		stream_some(c);
}

static void echo_check(struct conn *c)
{
	size_t good = hf_pattern_match(c->buf, c->len, c->seed, c->offset);
	int n;

	if (good == c->len) {
		c->offset += good;
		return;
	}
	guest_stats.mismatches++;
	n = snprintf((char *)c->buf, BUF_BYTES, "\nMISMATCH at byte %llu\n",
		     (unsigned long long)(c->offset + good));
	printf("guest: echo: wrong byte at %llu\n", (unsigned long long)(c->offset + good));
	c->len = (size_t)n;
	c->is_failing = true;
}

/* True when there are bytes to write. */
static bool echo_read(struct conn *c)
{
	ssize_t n = read(c->source.fd, c->buf, BUF_BYTES);

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		conn_close(c);
		return false;
	}
	if (n < 0)
		return false;
	c->len = (size_t)n;
	c->sent = 0;
	echo_check(c);
	return true;
}

/* Reading waits while the client does not take what it sent before: nothing grows. */
static void echo_ready(struct conn *c)
{
	if (c->sent == c->len && !echo_read(c))
		return;
	c->sent += conn_write(c, c->buf + c->sent, c->len - c->sent);
	if (c->source.fd < 0)
		return;
	if (c->sent < c->len) {
		guest_rewatch(&c->source, EPOLLOUT);
		return;
	}
	guest_stats.echoed_bytes += c->len;
	if (c->is_failing)
		conn_close(c);
	else
		guest_rewatch(&c->source, EPOLLIN);
}

static void conn_ready(struct guest_source *source, uint32_t events)
{
	struct conn *c = (struct conn *)source;

	if (source->fd < 0)
		return;
	if (c->header_len < header_bytes(c) && !read_header(c))
		return;
	if (c->is_echo)
		echo_ready(c);
	else
		stream_ready(c, events);
}

static void pace_ready(struct guest_source *source, uint32_t events)
{
	bool is_any = false;
	uint64_t expired;

	(void)events;
	(void)!read(source->fd, &expired, sizeof(expired));
	for (struct conn *c = conns; c < conns + CONNS_MAX; c++) {
		if (is_paced(c))
			stream_some(c);
		is_any = is_any || is_paced(c);
	}
	if (!is_any)
		set_pace(false);
}

static struct conn *free_slot(void)
{
	for (struct conn *c = conns; c < conns + CONNS_MAX; c++)
		if (c->source.fd < 0)
			return c;
	return NULL;
}

static void accept_ready(struct guest_source *source, uint32_t events)
{
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
	struct conn *c = free_slot();

	(void)events;
	if (fd < 0)
		return;
	if (!c) {
		printf("guest: more than %d connections\n", CONNS_MAX);
		(void)close(fd);
		return;
	}
	memset(c, 0, offsetof(struct conn, buf));
	c->len = 0;
	c->sent = 0;
	c->source = (struct guest_source){ fd, conn_ready };
	c->is_echo = source == &listeners[1];
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	guest_watch(&c->source, EPOLLIN);
}

static int listen_on(struct guest_source *source, uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, CONNS_MAX) < 0) {
		int r = -errno;

		(void)close(fd);
		return r;
	}
	*source = (struct guest_source){ fd, accept_ready };
	guest_watch(source, EPOLLIN);
	return 0;
}

int guest_stream_open(void)
{
	int r;

	for (struct conn *c = conns; c < conns + CONNS_MAX; c++)
		c->source.fd = -1;
	pace = (struct guest_source){ timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
				      pace_ready };
	if (pace.fd < 0)
		return -errno;
	guest_watch(&pace, EPOLLIN);
	r = listen_on(&listeners[0], GUEST_PORT_STREAM);
	return r < 0 ? r : listen_on(&listeners[1], GUEST_PORT_ECHO);
}

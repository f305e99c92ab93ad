/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The clients of the guest's TCP services: every byte is checked as it comes. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../guest/pattern.h"
#include "client.h"

#define BUF_BYTES ((size_t)256 * 1024)
/* What an echo client lets be under way: enough to keep the guest busy, little enough that its
 * latency stays that of the network. */
#define WINDOW_BYTES ((size_t)256 * 1024)

struct flow {
	struct client *c;
	int fd;
	uint64_t sent;
	uint64_t received;
	bool is_broken;
};

static uint8_t buf[BUF_BYTES];

static bool send_header(struct flow *f, size_t len)
{
	uint8_t header[12];

	hf_le64_put(header, f->c->seed);
	hf_le32_put(header + 8, (uint32_t)f->c->limit_bytes_per_s);
	/* The socket is empty, so it takes these few bytes at once. */
	return send(f->fd, header, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void receive(struct flow *f)
{
	ssize_t n = recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT);
	size_t good;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_wrong(f->c, "connection lost at byte %" PRIu64 ": %s", f->received,
			     n == 0 ? "closed by the guest" : strerror(errno));
		f->is_broken = true;
		return;
	}
	client_progress(f->c);
	good = hf_pattern_match(buf, (size_t)n, f->c->seed, f->received);
	f->received += good;
	if (good < (size_t)n) {
		client_wrong(f->c, "wrong byte at %" PRIu64 ": 0x%02x, want 0x%02x", f->received,
			     buf[good], hf_pattern_byte(f->c->seed, f->received));
		f->is_broken = true;
	}
}

/* How many bytes an echo client may send by now. */
static uint64_t echo_allowance(const struct flow *f)
{
	const struct client *c = f->c;
	uint64_t allowed = f->received + WINDOW_BYTES;

	if (c->limit_bytes_per_s) {
		uint64_t us = (client_now_ns() - c->started_ns) / 1000;
		uint64_t earned =
			(uint64_t)((unsigned __int128)us * c->limit_bytes_per_s / 1000000);

		allowed = earned < allowed ? earned : allowed;
	}
	if (c->bytes_max && c->bytes_max < allowed)
		allowed = c->bytes_max;
	return allowed > f->sent ? allowed - f->sent : 0;
}

static void echo_send(struct flow *f)
{
	uint64_t want = echo_allowance(f);
	ssize_t n;

	if (want == 0)
		return;
	if (want > sizeof(buf))
		want = sizeof(buf);
	hf_pattern_fill(buf, (size_t)want, f->c->seed, f->sent);
	n = send(f->fd, buf, (size_t)want, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		f->sent += (uint64_t)n;
	/* What broke the connection is told by the next receive. */
}

static void report(struct flow *f)
{
	client_print_head(f->c, "progress");
	printf(",\"bytes\":%" PRIu64 "}\n", f->received);
	(void)fflush(stdout);
}

static bool is_done(const struct flow *f)
{
	return f->is_broken || (f->c->bytes_max && f->received >= f->c->bytes_max);
}

static void loop(struct flow *f, bool is_echo)
{
	int woke = 0;

	while (!is_done(f) && !(woke & CLIENT_STOP)) {
		bool may_send = is_echo && echo_allowance(f) > 0;
		bool is_paced = is_echo && f->c->limit_bytes_per_s;

		woke = client_wait(f->c, f->fd, may_send ? POLLIN | POLLOUT : POLLIN,
				   is_paced ? client_now_ns() + MS_NS : UINT64_MAX);
		if (woke & CLIENT_READABLE)
			receive(f);
		if (may_send && (woke & CLIENT_WRITABLE))
			echo_send(f);
		if (woke & CLIENT_REPORT)
			report(f);
	}
}

static bool run(struct client *c, bool is_echo)
{
	struct flow f = { .c = c, .fd = client_connect_tcp(c) };
	bool is_ok = false;

	if (f.fd >= 0 && send_header(&f, is_echo ? 8 : 12)) {
		loop(&f, is_echo);
		is_ok = !f.is_broken;
	}
	client_print_result(c, is_ok);
	printf(",\"bytes\":%" PRIu64 "}\n", f.received);
	if (f.fd >= 0)
		(void)close(f.fd);
	return is_ok;
}

bool client_run_stream(struct client *c)
{
	return run(c, /* is_echo= */ false);
}

bool client_run_echo(struct client *c)
{
	return run(c, /* is_echo= */ true);
}

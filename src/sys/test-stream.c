/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes through streams, and how streams end. Who is let in: test-tls.c. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "sys/stream-internal.h"
#include "sys/test-tls-world.h"

#define MIB ((size_t)1024 * 1024)

static struct pair plain_pair(void)
{
	struct pair p;
	int fds[2];

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	CHECK_EQ(hf_stream_new_plain(fds[0], &p.a), 0);
	CHECK_EQ(hf_stream_new_plain(fds[1], &p.b), 0);
	return p;
}

static void tcp_fds(int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_EQ(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	CHECK_EQ(listen(listener, 1), 0);
	CHECK_EQ(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(fds[0], (struct sockaddr *)&at, sizeof(at)), 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(fds[1] >= 0);
	for (int i = 0; i < 2; i++) /* or a reset would overtake what waits for an answer */
		CHECK_EQ(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	close(listener);
}

static void wait_for(struct hf_stream *s, short events)
{
	struct pollfd p = { .fd = hf_stream_fd(s), .events = events };

	CHECK_EQ(poll(&p, 1, 20000), 1);
}

/* Over TCP what is sent takes its time. */
static struct pair tcp_pair(bool is_tls)
{
	struct pair p;
	int fds[2];

	tcp_fds(fds);
	if (!is_tls) {
		CHECK_EQ(hf_stream_new_plain(fds[0], &p.a), 0);
		CHECK_EQ(hf_stream_new_plain(fds[1], &p.b), 0);
		return p;
	}
	make_hosts();
	p = pair_of(fds, "a", "b");
	while (!hf_stream_is_ready(p.b) || !hf_stream_is_ready(p.a)) {
		int a, b;

		shake(p, &a, &b);
		CHECK_EQ(a, HF_FD_AGAIN);
		CHECK_EQ(b, HF_FD_AGAIN);
	}
	return p;
}

/* ---- bytes ---- */

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

static uint32_t rand_state = 1;

static size_t below(size_t n)
{
	rand_state = rand_state * 1664525u + 1013904223u;
	return (rand_state >> 8) % n;
}

/* A few pieces of what is left, of very different sizes, some empty. */
static int cut_up(uint8_t *data, size_t left, struct iovec iov[16])
{
	int n = 0;

	while (n < 16 && left > 0) {
		size_t most = below(3) ? 300 : 200000;
		size_t len = below(most < left ? most : left + 1);

		iov[n++] = (struct iovec){ .iov_base = data, .iov_len = len };
		data += len;
		left -= len;
	}
	return n;
}

static size_t receive(struct hf_stream *s, size_t at, size_t most)
{
	static uint8_t buf[300000];
	size_t total = 0, n;

	while (total < most) {
		size_t size = 1 + below(below(2) ? 100 : sizeof(buf));
		int r = hf_stream_read(s, buf, size, &n);

		if (r == HF_FD_AGAIN)
			return total;
		CHECK_EQ(r, 0);
		CHECK(n >= 1 && n <= size);
		for (size_t i = 0; i < n; i++)
			CHECK_EQ(buf[i], pattern(at + total + i));
		total += n;
	}
	return total;
}

/* What was taken is the caller's again at once. */
static void transfer(struct hf_stream *from, struct hf_stream *to, size_t all)
{
	size_t sent = 0, received = 0, n;
	uint8_t *data = malloc(all);

	CHECK(data);
	for (size_t i = 0; i < all; i++)
		data[i] = pattern(i);
	for (unsigned int turn = 0; received < all; turn++) {
		struct iovec iov[16];
		int r, count = cut_up(data + sent, all - sent, iov);

		CHECK(turn < 1000000);
		r = hf_stream_writev(from, iov, count, &n);
		CHECK(r == 0 || r == HF_FD_AGAIN);
		if (r == 0) {
			memset(data + sent, 0xee, n);
			sent += n;
		}
		if (below(3) == 0)
			received += receive(to, received, below(400000));
	}
	CHECK_EQ(sent, all);
	CHECK_EQ(hf_stream_unsent_bytes(from), 0);
	free(data);
}

static void both_ways(struct pair p)
{
	int size = 4096;

	transfer(p.a, p.b, 3 * MIB);
	CHECK_EQ(setsockopt(hf_stream_fd(p.b), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	transfer(p.b, p.a, 2 * MIB);
	CHECK_EQ(hf_stream_events(p.a, true, false), EPOLLIN);
	CHECK_EQ(hf_stream_events(p.a, false, true), EPOLLOUT);
	CHECK_EQ(hf_stream_events(p.a, false, false), 0);
	CHECK_STR(hf_stream_error(p.a), "");
	free_pair(p);
}

TEST(plain_bytes_go_both_ways)
{
	struct pair p = plain_pair();

	CHECK(hf_stream_is_ready(p.a));
	CHECK(!hf_stream_is_tls(p.a));
	CHECK(!hf_stream_peer_name(p.a));
	CHECK(!hf_stream_peer_has_name(p.a, "hostb"));
	both_ways(p);
	hf_stream_free(NULL);
}

TEST(tls_bytes_go_both_ways)
{
	struct pair p = ready_pair();

	CHECK(hf_stream_is_tls(p.a));
	CHECK_STR(hf_stream_peer_name(p.a), "hostb");
	CHECK_STR(hf_stream_peer_name(p.b), "hosta");
	both_ways(p);
}

/* New keys in the middle, from both sides at once. */
TEST(keys_are_made_anew)
{
	struct pair p = ready_pair();

	hf_stream_rekey_after(p.a, 50000);
	hf_stream_rekey_after(p.b, 1);
	for (int i = 0; i < 3; i++) {
		transfer(p.a, p.b, MIB);
		transfer(p.b, p.a, MIB / 4);
	}
	free_pair(p);
}

/* A reader that takes little at a time is told by no event that there is more. */
TEST(what_is_kept_makes_no_event)
{
	static uint8_t data[100000];
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct pair p = ready_pair();
	size_t total, n;
	uint8_t buf[1000];
	int r;

	CHECK_EQ(hf_stream_writev(p.a, &iov, 1, &n), 0);
	CHECK_EQ(n, sizeof(data));
	CHECK(!hf_stream_has_input(p.b));
	CHECK_EQ(hf_stream_read(p.b, buf, sizeof(buf), &total), 0);
	CHECK(hf_stream_has_input(p.b));
	while ((r = hf_stream_read_kept(p.b, buf, sizeof(buf), &n)) == 0)
		total += n;
	CHECK_EQ(r, HF_FD_AGAIN);
	CHECK(!hf_stream_has_input(p.b));
	CHECK(total > sizeof(buf));
	/* The rest is the kernel's to tell of. */
	while (total < sizeof(data)) {
		wait_for(p.b, POLLIN);
		CHECK_EQ(hf_stream_read(p.b, buf, sizeof(buf), &n), 0);
		total += n;
	}
	CHECK_EQ(total, sizeof(data));
	free_pair(p);
}

TEST(reading_what_is_kept_ends)
{
	static uint8_t data[4096], buf[65536];
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct pair p = ready_pair();
	size_t kept = 0, n;

	/* A sender that never pauses: what is kept must run dry all the same. */
	CHECK_EQ(hf_stream_writev(p.a, &iov, 1, &n), 0);
	CHECK_EQ(hf_stream_read(p.b, buf, 10, &n), 0);
	for (int turn = 0; hf_stream_has_input(p.b); turn++) {
		CHECK(turn < 100);
		(void)!hf_stream_writev(p.a, &iov, 1, &n);
		if (hf_stream_read_kept(p.b, buf, sizeof(buf), &n) == 0)
			kept += n;
	}
	CHECK(kept <= 256 * 1024);
	free_pair(p);
}

TEST(a_full_socket_takes_no_more)
{
	static uint8_t data[MIB];
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct pair p = ready_pair();
	int size = 4096, turns = 0;
	size_t total = 0, n;

	CHECK_EQ(setsockopt(hf_stream_fd(p.a), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	while (hf_stream_writev(p.a, &iov, 1, &n) == 0) {
		total += n;
		CHECK(++turns < 100);
	}
	CHECK(total < MIB);
	CHECK(hf_stream_unsent_bytes(p.a) > 0);
	CHECK(hf_stream_unsent_bytes(p.a) < MIB / 2);
	CHECK_EQ(hf_stream_events(p.a, true, false), EPOLLIN | EPOLLOUT);
	while (hf_stream_unsent_bytes(p.a) > 0) {
		while (hf_stream_read(p.b, data, sizeof(data), &n) == 0)
			;
		(void)!hf_stream_writev(p.a, NULL, 0, &n);
	}
	CHECK_EQ(hf_stream_events(p.a, true, false), EPOLLIN);
	free_pair(p);
}

/* ---- ends ---- */

static void put(struct hf_stream *s, const char *text)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	size_t n;

	CHECK_EQ(hf_stream_writev(s, &iov, 1, &n), 0);
	CHECK_EQ(n, strlen(text));
}

/* All up to the end; what it was. */
static int read_on(struct hf_stream *s, char *buf, size_t size)
{
	size_t at = 0, n;
	int r;

	memset(buf, 0, size);
	for (;;) {
		r = hf_stream_read(s, buf + at, size - 1 - at, &n);
		if (r == HF_FD_AGAIN)
			wait_for(s, POLLIN);
		else if (r != 0)
			return r;
		else
			at += n;
	}
}

/* As the kernel does when a process is killed: nothing more is said. */
static void kill_end(struct hf_stream *s, bool is_reset)
{
	struct linger linger = { .l_onoff = is_reset, .l_linger = 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK_EQ(setsockopt(hf_stream_fd(s), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	CHECK(dup2(null, hf_stream_fd(s)) >= 0);
	close(null);
}

TEST(an_orderly_end_and_a_killed_one_look_the_same)
{
	for (int is_tls = 0; is_tls < 2; is_tls++) {
		for (int is_killed = 0; is_killed < 2; is_killed++) {
			struct pair p = tcp_pair(is_tls);
			char buf[64];
			size_t n;

			put(p.a, "last words");
			if (is_killed)
				kill_end(p.a, /* is_reset= */ false);
			hf_stream_free(p.a);
			CHECK_EQ(read_on(p.b, buf, sizeof(buf)), HF_FD_EOF);
			CHECK_STR(buf, "last words");
			CHECK_EQ(hf_stream_read(p.b, buf, 1, &n), HF_FD_EOF);
			CHECK_STR(hf_stream_error(p.b), "");
			hf_stream_free(p.b);
		}
	}
}

TEST(a_reset_is_a_reset)
{
	for (int is_tls = 0; is_tls < 2; is_tls++) {
		struct pair p = tcp_pair(is_tls);
		char buf[64];

		kill_end(p.a, /* is_reset= */ true);
		CHECK_EQ(read_on(p.b, buf, sizeof(buf)), -ECONNRESET);
		hf_stream_free(p.a);
		hf_stream_free(p.b);
	}
}

/* What the peer said before its end is read although writing has failed; and the error that only the
 * write was told of is not forgotten. */
TEST(last_words_behind_a_failed_write)
{
	struct pair p = tcp_pair(/* is_tls= */ true);
	struct iovec iov = { .iov_base = (void *)(uintptr_t) "x", .iov_len = 1 };
	char buf[64];
	size_t n;

	put(p.a, "dead");
	kill_end(p.a, /* is_reset= */ true);
	wait_for(p.b, POLLHUP);
	(void)!hf_stream_writev(p.b, &iov, 1, &n);
	CHECK_EQ(hf_stream_writev(p.b, &iov, 1, &n), -ECONNRESET);
	CHECK(hf_stream_events(p.b, true, false) & EPOLLOUT);
	CHECK_EQ(read_on(p.b, buf, sizeof(buf)), -ECONNRESET);
	CHECK_STR(buf, "dead");
	free_pair(p);
}

/* Writing has failed for good and nothing is there to be read: that is the end, too. */
TEST(a_failed_write_is_an_end)
{
	struct pair p = ready_pair();
	struct iovec iov = { .iov_base = (void *)(uintptr_t) "x", .iov_len = 1 };
	uint8_t byte;
	size_t n;

	CHECK_EQ(shutdown(hf_stream_fd(p.b), SHUT_RD), 0);
	(void)!hf_stream_writev(p.a, &iov, 1, &n);
	CHECK_EQ(hf_stream_writev(p.a, &iov, 1, &n), -EPIPE);
	CHECK_EQ(hf_stream_read(p.a, &byte, 1, &n), -EPIPE);
	free_pair(p);
}

/* ---- a network that changes bytes ---- */

/* Moves what is there from one socket to another; @damage: the number of the byte to change, of those
 * that have passed; -1: none. */
static void relay(int from, int to, ssize_t damage)
{
	static uint8_t buf[65536];
	ssize_t n = recv(from, buf, sizeof(buf), MSG_DONTWAIT);

	if (n <= 0)
		return;
	if (damage >= 0 && damage < n)
		buf[damage] ^= 1;
	CHECK_EQ(write(to, buf, (size_t)n), n);
}

TEST(a_changed_byte_is_found)
{
	for (ssize_t damage = 0; damage < 40; damage++) {
		int left[2], right[2], r = HF_FD_AGAIN;
		uint8_t byte;
		struct pair p;
		size_t n;

		make_hosts();
		CHECK_EQ(hf_fd_pair(SOCK_STREAM, left), 0);
		CHECK_EQ(hf_fd_pair(SOCK_STREAM, right), 0);
		p = pair_of((int[]){ left[0], right[1] }, "a", "b");
		while (!hf_stream_is_ready(p.b)) {
			relay(left[1], right[0], -1);
			(void)!hf_stream_read(p.b, &byte, 1, &n);
			relay(right[0], left[1], -1);
			(void)!hf_stream_read(p.a, &byte, 1, &n);
		}
		put(p.a, "0123456789012345678");
		relay(left[1], right[0], damage);
		/* A length that has become larger: the rest is waited for, until there is more. */
		for (int i = 0; i < 70 && r == HF_FD_AGAIN; i++) {
			r = hf_stream_read(p.b, &byte, 1, &n);
			put(p.a, "this would be the rest of a longer record, if it were one");
			for (int k = 0; k < 20; k++)
				put(p.a, "and a lot more of it, until the longest one is over");
			relay(left[1], right[0], -1);
		}
		CHECK_EQ(r, -EPROTO);
		CHECK_CONTAINS(hf_stream_error(p.b), "TLS");
		CHECK_EQ(hf_stream_read(p.b, &byte, 1, &n), -EPROTO);
		CHECK_EQ(hf_stream_writev(p.b, NULL, 0, &n), -EPROTO);
		free_pair(p);
		close(left[1]);
		close(right[0]);
	}
}

/* Not a byte of a record that did not come whole, wherever it is cut. */
TEST(a_cut_record_gives_nothing)
{
	for (size_t keep = 0; keep < 41; keep += 8) {
		struct pair p = ready_pair();
		uint8_t record[64];
		char buf[64];
		int fds[2];
		ssize_t n;

		CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
		put(p.a, "0123456789012345678"); /* 41 bytes of a record */
		n = recv(hf_stream_fd(p.b), record, sizeof(record), MSG_DONTWAIT);
		CHECK_EQ(n, 41);
		CHECK_EQ(write(fds[1], record, keep), keep);
		CHECK(dup2(fds[0], hf_stream_fd(p.b)) >= 0);
		close(fds[0]);
		close(fds[1]);
		CHECK_EQ(read_on(p.b, buf, sizeof(buf)), HF_FD_EOF);
		CHECK_STR(buf, "");
		free_pair(p);
	}
}

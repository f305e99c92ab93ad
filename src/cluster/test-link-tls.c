/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A link over TLS: what is different from test-link.c, which tests the rest over plain sockets. */
#include "cluster/test-link-world.h"
#include "sys/test-tls-world.h"

static struct hf_link *link_of(struct hf_stream *stream)
{
	struct hf_link *link = NULL;

	CHECK_EQ(hf_link_new(stream, &link), 0);
	return link;
}

/* As the loop does: only when there is an event. False: nothing more moves. */
static bool turn(struct hf_link *link, struct log *log, int *ret)
{
	struct pollfd p = { .fd = hf_link_fd(link), .events = (short)hf_link_events(link) };
	struct hf_err err;

	*ret = 0;
	if (p.events == 0 || poll(&p, 1, 0) == 0)
		return false;
	*ret = hf_link_dispatch(link, (uint32_t)p.revents, on_message, log, &err);
	return true;
}

static void run(struct hf_link *a, struct log *at_a, struct hf_link *b, struct log *at_b)
{
	int ra, rb;
	bool has_moved = true;

	for (unsigned int i = 0; has_moved; i++) {
		CHECK(i < 1000000);
		has_moved = turn(a, at_a, &ra);
		has_moved = turn(b, at_b, &rb) || has_moved;
		CHECK_EQ(ra, 0);
		CHECK_EQ(rb, 0);
	}
}

static struct pair fresh_pair(void)
{
	int fds[2];

	make_hosts();
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	return pair_of(fds, "a", "b");
}

/* What is sent before the handshake is done waits, and no side spins meanwhile. */
TEST(the_handshake_is_the_link_s_own)
{
	static struct log at_a, at_b;
	struct pair p = fresh_pair();
	struct hf_link *a = link_of(p.a), *b = link_of(p.b);

	send_ping(a, 5);
	send_ping(b, 6);
	CHECK_EQ(hf_link_events(a), EPOLLIN);
	CHECK(!hf_link_is_ready(a));
	run(a, &at_a, b, &at_b);
	CHECK(hf_link_is_ready(a) && hf_link_is_ready(b));
	CHECK_EQ(at_b.n, 1);
	CHECK_EQ(at_b.what[0], 5);
	CHECK_EQ(at_a.n, 1);
	CHECK_EQ(at_a.what[0], 6);
	CHECK_EQ(hf_link_events(a), EPOLLIN);
	CHECK_EQ(hf_link_sent_bytes(a), hf_link_received_bytes(b));
	hf_link_free(a);
	hf_link_free(b);
}

/* Driven by events alone: what TLS keeps to itself must not be forgotten. */
TEST(bulk_and_control_in_order)
{
	enum { N = 60 };
	static uint8_t *bulk[N];
	static struct log at_a, at_b;
	struct pair p = fresh_pair();
	struct hf_link *a = link_of(p.a), *b = link_of(p.b);
	size_t len, n_sent = 0;
	uint64_t want[2 * N];

	for (uint64_t i = 0; i < N; i++) {
		bulk[i] = pages_message(i, (uint32_t)(1 + i * 13 % 255), &len);
		CHECK_EQ(hf_link_send_bulk(a, bulk[i], len), 0);
		want[n_sent++] = 1000 + i;
		if (i % 3 == 0) {
			want[n_sent++] = i;
			send_ping(a, i);
		}
	}
	run(a, &at_a, b, &at_b);
	CHECK_EQ(hf_link_bulk_pending(a), 0);
	CHECK_EQ(hf_link_bulk_done(a), N);
	CHECK_EQ(at_b.n, n_sent);
	for (size_t i = 0; i < n_sent; i++)
		CHECK_EQ(at_b.what[i], want[i]);
	for (int i = 0; i < N; i++)
		free(bulk[i]);
	hf_link_free(a);
	hf_link_free(b);
}

/* A taken message is the caller's at once, although the socket has not got it all. */
TEST(borrowed_memory_is_given_back)
{
	static struct log at_a, at_b;
	struct pair p = fresh_pair();
	struct hf_link *a = link_of(p.a), *b = link_of(p.b);
	int size = 4096;
	size_t len;
	uint8_t *bulk = pages_message(3, 20, &len);

	run(a, &at_a, b, &at_b);
	CHECK_EQ(setsockopt(hf_link_fd(a), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	CHECK_EQ(hf_link_send_bulk(a, bulk, len), 0);
	hf_link_flush(a);
	CHECK_EQ(hf_link_bulk_pending(a), 0);
	memset(bulk, 0xff, len);
	free(bulk);
	CHECK_EQ(hf_link_events(a), EPOLLIN | EPOLLOUT); /* the rest is to be sent all the same */
	run(a, &at_a, b, &at_b);
	CHECK_EQ(at_b.n, 1);
	CHECK_EQ(at_b.what[0], 1003);
	hf_link_free(a);
	hf_link_free(b);
}

TEST(stopping_keeps_the_rest)
{
	static struct log at_a, at_b = { .stop_after = 12 };
	struct pair p = fresh_pair();
	struct hf_link *a = link_of(p.a), *b = link_of(p.b);
	struct hf_err err;

	run(a, &at_a, b, &at_b);
	for (uint64_t i = 0; i < 1000; i++)
		send_ping(a, i);
	CHECK_EQ(hf_link_dispatch(b, EPOLLIN, on_message, &at_b, &err), 0);
	CHECK_EQ(at_b.n, 12);
	CHECK_EQ(hf_link_dispatch(b, 0, on_message, &at_b, &err), 0);
	run(a, &at_a, b, &at_b);
	CHECK_EQ(at_b.n, 1000);
	hf_link_free(a);
	hf_link_free(b);
}

TEST(one_turn_is_bounded)
{
	enum { N = 24 };
	static uint8_t *bulk[N];
	static struct log at_a, at_b;
	struct pair p = fresh_pair();
	struct hf_link *a = link_of(p.a), *b = link_of(p.b);
	int size = 64 << 20;
	struct hf_err err;
	uint64_t before;
	size_t len;

	run(a, &at_a, b, &at_b);
	CHECK_EQ(setsockopt(hf_link_fd(a), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), 0);
	for (uint64_t i = 0; i < N; i++) {
		bulk[i] = pages_message(i, 255, &len);
		CHECK_EQ(hf_link_send_bulk(a, bulk[i], len), 0);
	}
	while (hf_link_bulk_pending(a) > 0)
		hf_link_flush(a);
	before = hf_link_received_bytes(b);
	CHECK_EQ(hf_link_dispatch(b, EPOLLIN, on_message, &at_b, &err), 0);
	CHECK(hf_link_received_bytes(b) - before >= HF_LINK_TURN_BYTES);
	CHECK(hf_link_received_bytes(b) - before <= HF_LINK_TURN_BYTES + 2 * HF_WIRE_MESSAGE_MAX);
	run(a, &at_a, b, &at_b);
	CHECK_EQ(at_b.n, N);
	for (int i = 0; i < N; i++)
		free(bulk[i]);
	hf_link_free(a);
	hf_link_free(b);
}

/* A stranger's end says why. */
TEST(who_is_refused_is_told)
{
	static struct log log;
	struct pair p;
	struct hf_link *a, *b;
	struct hf_err err = { "" };
	int fds[2], r = 0;

	make_hosts();
	make_host("flawed", (const char *const[]){ "hostx", NULL }, (struct flaws){ 0 });
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	p = pair_of(fds, "flawed", "b");
	a = link_of(p.a);
	b = link_of(p.b);
	send_ping(a, 1);
	for (int i = 0; i < 10 && r == 0; i++) {
		(void)!hf_link_dispatch(a, EPOLLIN | EPOLLOUT, on_message, &log, &err);
		r = hf_link_dispatch(b, EPOLLIN, on_message, &log, &err);
	}
	CHECK_EQ(r, -EPROTO);
	CHECK_CONTAINS(err.text, "it shows a certificate of hostx, not of hosta");
	CHECK_CONTAINS(hf_link_error(b), "hostx");
	CHECK_EQ(hf_link_dispatch(a, EPOLLIN, on_message, &log, &err), -EPROTO);
	CHECK_CONTAINS(hf_link_error(a), "refuses this host's certificate");
	CHECK_EQ(log.n, 0);
	hf_link_free(a);
	hf_link_free(b);
}

/* With the socket closed under it, as by the death of its process. */
TEST(last_words_of_a_killed_peer)
{
	static struct log at_a, at_b;
	struct pair p = fresh_pair();
	struct hf_link *a = link_of(p.a), *b = link_of(p.b);
	struct hf_err err;
	int r = 0;

	run(a, &at_a, b, &at_b);
	send_ping(a, 9);
	CHECK_EQ(shutdown(hf_link_fd(a), SHUT_RDWR), 0);
	for (int i = 0; i < 10 && r == 0; i++)
		r = hf_link_dispatch(b, EPOLLIN | EPOLLHUP, on_message, &at_b, &err);
	CHECK_EQ(r, HF_LINK_ENDED);
	CHECK_EQ(hf_link_end(b), HF_CONN_EOF);
	CHECK_CONTAINS(err.text, "closed by the peer");
	CHECK_EQ(at_b.n, 1);
	CHECK_EQ(at_b.what[0], 9);
	hf_link_free(a);
	hf_link_free(b);
}

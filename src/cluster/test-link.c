/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/test-link-world.h"
#include "sys/fd.h"

/* ---- sockets ---- */

static void tcp_pair(int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_EQ(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	CHECK_EQ(listen(listener, 1), 0);
	CHECK_EQ(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(fds[0], (struct sockaddr *)&at, sizeof(at)), 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(fds[1] >= 0);
	close(listener);
}

static void close_with_reset(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	close(fd);
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	CHECK_EQ(poll(&p, 1, 20000), 1);
}

static struct hf_link *link_of(int fd)
{
	struct hf_stream *stream = NULL;
	struct hf_link *link = NULL;

	CHECK_EQ(hf_stream_new_plain(fd, &stream), 0);
	CHECK_EQ(hf_link_new(stream, &link), 0);
	CHECK_EQ(hf_link_fd(link), fd);
	return link;
}

/* One end as a link, the other as a plain socket. */
static struct hf_link *link_and_peer(int *ret_peer)
{
	int fds[2];

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	*ret_peer = fds[1];
	return link_of(fds[0]);
}

/* ---- messages ---- */

static size_t ping_bytes(uint64_t token, uint8_t buf[HF_WIRE_CONTROL_BUFFER])
{
	struct hf_wire_msg msg = ping(token);
	size_t len;

	CHECK_EQ(hf_wire_encode(&msg, buf, HF_WIRE_CONTROL_BUFFER, &len, NULL), 0);
	return len;
}

static int dispatch(struct hf_link *link, uint32_t events, struct log *log)
{
	struct hf_err err;

	return hf_link_dispatch(link, events, on_message, log, &err);
}

/* ---- tests ---- */

TEST(a_message_is_sent_at_once_and_arrives)
{
	struct log log = { 0 };
	int peer;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);

	CHECK_EQ(hf_link_events(a), EPOLLIN);
	send_ping(a, 5);
	CHECK_EQ(hf_link_events(a), EPOLLIN); /* nothing is left to wait for */
	CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
	CHECK_EQ(log.n, 1);
	CHECK_EQ(log.what[0], 5);
	CHECK_EQ(hf_link_sent_bytes(a), hf_link_received_bytes(b));
	CHECK(hf_link_sent_bytes(a) > HF_WIRE_HEADER_BYTES);
	CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
	CHECK_EQ(log.n, 1);
	hf_link_free(a);
	hf_link_free(b);
	hf_link_free(NULL);
}

TEST(answers_from_inside)
{
	struct log at_b = { 0 }, at_a = { 0 };
	int peer;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);

	at_b.answer = b;
	for (uint64_t i = 1; i <= 3; i++)
		send_ping(a, i);
	CHECK_EQ(dispatch(b, EPOLLIN, &at_b), 0);
	CHECK_EQ(at_b.n, 3);
	CHECK_EQ(dispatch(a, EPOLLIN, &at_a), 0);
	CHECK_EQ(at_a.n, 3);
	hf_link_free(a);
	hf_link_free(b);
}

/* The socket takes a few KiB at a time; bulk and control messages alternate in no regular way. */
TEST(order_and_content_with_a_slow_reader)
{
	enum { N = 40 };
	static uint8_t *bulk[N];
	struct log log = { 0 };
	int peer, size = 4096;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);
	size_t len[N], n_sent = 0;
	uint64_t want[2 * N];

	CHECK_EQ(setsockopt(hf_link_fd(a), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	for (uint64_t i = 0; i < N; i++) {
		bulk[i] = pages_message(i, (uint32_t)(1 + i * 13 % 200), &len[i]);
		CHECK_EQ(hf_link_send_bulk(a, bulk[i], len[i]), 0);
		want[n_sent++] = 1000 + i;
		for (uint64_t k = 0; i > 0 && k < i % 3 && n_sent < 2 * N; k++) {
			want[n_sent++] = i * 10 + k;
			send_ping(a, i * 10 + k);
		}
	}
	CHECK_EQ(hf_link_sent_bytes(a), 0);
	CHECK_EQ(hf_link_bulk_pending(a), N);
	hf_link_flush(a);
	/* What is far from its turn has no checksum yet. */
	for (int i = 0; i < 4; i++)
		CHECK_EQ(bulk[N - 1][28 + i], 0);
	CHECK(hf_link_events(a) & EPOLLOUT);
	for (unsigned int turn = 0; log.n < n_sent; turn++) {
		size_t pending = hf_link_bulk_pending(a);

		CHECK(turn < 1000000);
		CHECK_EQ(hf_link_bulk_done(a) + pending, N);
		CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
		CHECK_EQ(dispatch(a, EPOLLOUT, &log), 0);
	}
	CHECK_EQ(log.n, n_sent);
	for (size_t i = 0; i < n_sent; i++)
		CHECK_EQ(log.what[i], want[i]);
	CHECK_EQ(hf_link_bulk_pending(a), 0);
	CHECK_EQ(hf_link_bulk_done(a), N);
	CHECK_EQ(hf_link_events(a), EPOLLIN);
	CHECK_EQ(hf_link_sent_bytes(a), hf_link_received_bytes(b));
	for (int i = 0; i < N; i++)
		free(bulk[i]);
	hf_link_free(a);
	hf_link_free(b);
}

/* Sends until the queue is full, then reads until it is nearly empty, so that it never starts anew.
 * */
TEST(control_queue_wraps)
{
	static struct log log;
	int peer, size = 4096;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);
	uint64_t sent = 0, seen = 0;

	CHECK_EQ(setsockopt(hf_link_fd(a), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	for (int round = 0; round < 8; round++) {
		struct hf_wire_msg msg = ping(sent + 1);

		while (hf_link_send(a, &msg, NULL) == 0)
			msg = ping(++sent + 1);
		while (sent - seen > 2000) {
			log.n = 0;
			CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
			for (unsigned int i = 0; i < log.n; i++)
				CHECK_EQ(log.what[i], ++seen);
			CHECK_EQ(dispatch(a, EPOLLOUT, &log), 0);
			CHECK(hf_link_events(a) & EPOLLOUT);
		}
	}
	CHECK(hf_link_sent_bytes(a) > 4 * HF_LINK_CONTROL_MAX);
	hf_link_free(a);
	hf_link_free(b);
}

/* The queue's ring is enlarged when its first segment does not lie at its start. */
TEST(queue_grows_in_the_middle)
{
	enum { FIRST = 60, ALL = 300 };
	static uint8_t *bulk[ALL];
	static struct log log;
	int peer, size = 4096;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);
	size_t len;

	log.n = 0;
	CHECK_EQ(setsockopt(hf_link_fd(a), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	for (uint64_t i = 0; i < ALL; i++) {
		bulk[i] = pages_message(i, 1, &len);
		CHECK_EQ(hf_link_send_bulk(a, bulk[i], len), 0);
		while (i == FIRST && hf_link_bulk_done(a) < FIRST / 2) {
			CHECK_EQ(dispatch(a, EPOLLOUT, &log), 0);
			CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
		}
	}
	while (log.n < ALL) {
		CHECK_EQ(dispatch(a, EPOLLOUT, &log), 0);
		CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
	}
	for (uint64_t i = 0; i < ALL; i++) {
		CHECK_EQ(log.what[i], 1000 + i);
		free(bulk[i]);
	}
	hf_link_free(a);
	hf_link_free(b);
}

TEST(control_queue_is_bounded)
{
	int peer;
	struct hf_link *link = link_and_peer(&peer);
	struct hf_wire_msg msg = ping(1);
	struct hf_err err;
	unsigned int n = 0;
	int r;

	while ((r = hf_link_send(link, &msg, &err)) == 0)
		CHECK(++n < 1000000);
	CHECK_EQ(r, -ENOBUFS);
	CHECK_CONTAINS(err.text, "does not read");
	CHECK(n > HF_LINK_CONTROL_MAX / 64);
	hf_link_free(link);
	close(peer);
}

TEST(segment_queue_is_bounded)
{
	int peer;
	struct hf_link *link = link_and_peer(&peer);
	size_t len;
	uint8_t *bulk = pages_message(1, 1, &len);

	for (size_t i = 0; i < HF_LINK_SEGMENTS_MAX; i++)
		CHECK_EQ(hf_link_send_bulk(link, bulk, len), 0);
	CHECK_EQ(hf_link_send_bulk(link, bulk, len), -ENOBUFS);
	CHECK_EQ(hf_link_bulk_pending(link), HF_LINK_SEGMENTS_MAX);
	hf_link_free(link);
	free(bulk);
	close(peer);
}

/* Disk records lie in memory that another process writes to: the header is written again when its turn
 * comes, by what was queued, and a payload that changes afterwards is for the checksum to find. */
TEST(a_header_that_changes_does_no_harm)
{
	struct log log = { 0 };
	int peer;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);
	size_t len;
	uint8_t *bulk = pages_message(7, 3, &len);

	CHECK_EQ(hf_link_send_bulk(a, bulk, len), 0);
	memset(bulk, 0xff, HF_WIRE_HEADER_BYTES);
	hf_link_flush(a);
	CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
	CHECK_EQ(log.n, 1);
	CHECK_EQ(log.what[0], 1007);
	bulk[4] = HF_WIRE_ACK; /* too long for it */
	CHECK_EQ(hf_link_send_bulk(a, bulk, len), -EINVAL);
	bulk[4] = 0;
	CHECK_EQ(hf_link_send_bulk(a, bulk, HF_WIRE_HEADER_BYTES + 1), -EINVAL);
	bulk[5] = 0xff;
	CHECK_EQ(hf_link_send_bulk(a, bulk, HF_WIRE_HEADER_BYTES + 1), -EINVAL);
	hf_link_free(a);
	hf_link_free(b);
	free(bulk);
}

TEST(what_cannot_be_encoded_is_not_sent)
{
	int peer;
	struct hf_link *link = link_and_peer(&peer);
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_BEGIN };
	struct hf_err err = { "" };

	CHECK_EQ(hf_link_send(link, &msg, &err), -EINVAL);
	CHECK(err.text[0]);
	CHECK_EQ(hf_link_sent_bytes(link), 0);
	CHECK_EQ(hf_link_events(link), EPOLLIN);
	hf_link_free(link);
	close(peer);
}

TEST(cut_in_the_middle_of_a_message)
{
	uint8_t buf[2 * HF_WIRE_CONTROL_BUFFER];
	size_t first = ping_bytes(1, buf), all = first + ping_bytes(2, buf + first);

	for (size_t cut = 0; cut <= all; cut++) {
		struct log log = { 0 };
		int peer;
		struct hf_link *link = link_and_peer(&peer);

		CHECK_EQ(write(peer, buf, cut), cut);
		close(peer);
		while (hf_link_received_bytes(link) < cut)
			CHECK_EQ(dispatch(link, EPOLLIN, &log), 0);
		CHECK_EQ(dispatch(link, EPOLLIN, &log), HF_LINK_ENDED);
		CHECK_EQ(hf_link_end(link), HF_CONN_EOF);
		CHECK_EQ(dispatch(link, EPOLLIN, &log), HF_LINK_ENDED);
		CHECK_EQ(log.n, (cut >= first) + (cut >= all));
		hf_link_free(link);
	}
}

TEST(garbage_after_a_good_message)
{
	uint8_t buf[2 * HF_WIRE_CONTROL_BUFFER];
	size_t len = ping_bytes(1, buf);
	struct log log = { 0 };
	struct hf_err err = { "" };
	int peer;
	struct hf_link *link = link_and_peer(&peer);

	memcpy(buf + len, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", 37);
	CHECK_EQ(write(peer, buf, len + 37), len + 37);
	CHECK_EQ(hf_link_dispatch(link, EPOLLIN, on_message, &log, &err), HF_LINK_BAD);
	CHECK_CONTAINS(err.text, "something else");
	CHECK_EQ(log.n, 1);
	CHECK_EQ(dispatch(link, EPOLLIN, &log), HF_LINK_BAD);
	/* The peer can still be told why. */
	send_ping(link, 3);
	CHECK(read(peer, buf, sizeof(buf)) > HF_WIRE_HEADER_BYTES);
	hf_link_free(link);
	close(peer);
}

TEST(each_damaged_byte_is_found)
{
	uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	size_t len = ping_bytes(1, buf);

	for (size_t i = 0; i < len; i++) {
		struct log log = { 0 };
		int peer;
		struct hf_link *link = link_and_peer(&peer);

		buf[i] ^= 0x10;
		CHECK_EQ(write(peer, buf, len), len);
		CHECK_EQ(dispatch(link, EPOLLIN, &log), HF_LINK_BAD);
		CHECK_EQ(log.n, 0);
		buf[i] ^= 0x10;
		hf_link_free(link);
		close(peer);
	}
}

TEST(stopping_keeps_the_rest)
{
	struct log log = { .stop_after = 2 };
	int peer;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);

	for (uint64_t i = 1; i <= 5; i++)
		send_ping(a, i);
	hf_link_free(a);
	CHECK_EQ(dispatch(b, EPOLLIN | EPOLLHUP, &log), 0);
	CHECK_EQ(log.n, 2);
	CHECK_EQ(dispatch(b, 0, &log), 0);
	CHECK_EQ(log.n, 5);
	CHECK_EQ(dispatch(b, EPOLLIN | EPOLLHUP, &log), HF_LINK_ENDED);
	for (uint64_t i = 0; i < 5; i++)
		CHECK_EQ(log.what[i], i + 1);
	hf_link_free(b);
}

TEST(paused_link_tells_nothing)
{
	struct log log = { 0 };
	int peer;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);

	log.pause = b;
	send_ping(a, 1);
	send_ping(a, 2);
	hf_link_free(a);
	CHECK_EQ(dispatch(b, EPOLLIN | EPOLLHUP, &log), 0);
	CHECK_EQ(log.n, 1);
	CHECK_EQ(hf_link_events(b), 0);
	CHECK_EQ(dispatch(b, EPOLLIN | EPOLLHUP, &log), 0);
	send_ping(b, 3); /* fails, as the peer has closed: still nothing to tell */
	CHECK_EQ(hf_link_events(b), 0);
	CHECK_EQ(dispatch(b, EPOLLIN | EPOLLHUP, &log), 0);
	CHECK_EQ(log.n, 1);
	log.pause = NULL;
	hf_link_pause(b, /* is_paused= */ false);
	CHECK_EQ(hf_link_events(b) & EPOLLIN, EPOLLIN);
	CHECK_EQ(dispatch(b, EPOLLIN, &log), HF_LINK_ENDED);
	CHECK_EQ(log.n, 2);
	hf_link_free(b);
}

TEST(one_turn_is_bounded)
{
	enum { N = 12 };
	static uint8_t *bulk[N];
	struct log log = { 0 };
	int peer, size = 64 << 20;
	struct hf_link *a = link_and_peer(&peer), *b = link_of(peer);
	size_t len;

	CHECK_EQ(setsockopt(hf_link_fd(a), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), 0);
	for (uint64_t i = 0; i < N; i++) {
		bulk[i] = pages_message(i, 255, &len);
		CHECK_EQ(hf_link_send_bulk(a, bulk[i], len), 0);
	}
	hf_link_flush(a);
	CHECK(hf_link_sent_bytes(a) >= HF_LINK_TURN_BYTES);
	CHECK(hf_link_sent_bytes(a) <= HF_LINK_TURN_BYTES + 2 * HF_WIRE_MESSAGE_MAX);
	while (hf_link_bulk_pending(a) > 0)
		hf_link_flush(a);
	CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
	CHECK(hf_link_received_bytes(b) <= HF_LINK_TURN_BYTES + HF_WIRE_MESSAGE_MAX);
	while (log.n < N)
		CHECK_EQ(dispatch(b, EPOLLIN, &log), 0);
	for (uint64_t i = 0; i < N; i++) {
		CHECK_EQ(log.what[i], 1000 + i);
		free(bulk[i]);
	}
	hf_link_free(a);
	hf_link_free(b);
}

TEST(dropped_bulk_is_not_touched_any_more)
{
	struct log log = { 0 };
	int peer, size = 4096;
	struct hf_link *link = link_and_peer(&peer);
	size_t len;
	uint8_t *bulk = pages_message(1, 255, &len);
	uint64_t sent;

	CHECK_EQ(setsockopt(hf_link_fd(link), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	CHECK_EQ(hf_link_send_bulk(link, bulk, len), 0);
	hf_link_flush(link);
	sent = hf_link_sent_bytes(link);
	CHECK(sent > 0 && sent < len);
	hf_link_drop_bulk(link);
	free(bulk);
	CHECK_EQ(hf_link_bulk_pending(link), 0);
	send_ping(link, 1); /* would stand in the middle of a message */
	hf_link_flush(link);
	/* Still connected: that sending was given up must not look like the peer's end. */
	CHECK_EQ(dispatch(link, EPOLLIN | EPOLLOUT, &log), 0);
	CHECK_EQ(hf_link_sent_bytes(link), sent);
	hf_link_free(link);
	close(peer);
}

TEST(tcp_end_of_file)
{
	uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	size_t len = ping_bytes(4, buf);
	struct log log = { 0 };
	struct hf_err err;
	int fds[2];
	struct hf_link *link;

	tcp_pair(fds);
	link = link_of(fds[0]);
	CHECK_EQ(write(fds[1], buf, len), len);
	close(fds[1]);
	do
		wait_for(fds[0], POLLIN);
	while (hf_link_dispatch(link, EPOLLIN, on_message, &log, &err) == 0);
	CHECK_EQ(hf_link_end(link), HF_CONN_EOF);
	CHECK_CONTAINS(err.text, "closed by the peer");
	CHECK_EQ(log.n, 1);
	hf_link_free(link);
}

TEST(tcp_reset)
{
	struct log log = { 0 };
	struct hf_err err;
	int fds[2];
	struct hf_link *link;

	tcp_pair(fds);
	link = link_of(fds[0]);
	close_with_reset(fds[1]);
	wait_for(fds[0], POLLIN);
	CHECK_EQ(hf_link_dispatch(link, EPOLLIN, on_message, &log, &err), HF_LINK_ENDED);
	CHECK_EQ(hf_link_end(link), HF_CONN_RESET);
	CHECK_CONTAINS(err.text, "reset");
	hf_link_free(link);
}

/* The kernel tells the reset to the write; the read after it finds a plain end of file. */
TEST(reset_that_a_write_has_found)
{
	uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	size_t len = ping_bytes(4, buf), bulk_len;
	uint8_t *bulk = pages_message(1, 1, &bulk_len);
	struct log log = { 0 };
	int fds[2];
	struct hf_link *link;

	tcp_pair(fds);
	link = link_of(fds[0]);
	CHECK_EQ(write(fds[1], buf, len), len);
	close_with_reset(fds[1]);
	wait_for(fds[0], POLLHUP);
	CHECK_EQ(hf_link_send_bulk(link, bulk, bulk_len), 0);
	send_ping(link, 1);
	hf_link_flush(link);
	CHECK_EQ(hf_link_bulk_pending(link), 0);
	CHECK_EQ(hf_link_sent_bytes(link), 0);
	free(bulk);
	CHECK_EQ(dispatch(link, EPOLLIN | EPOLLHUP | EPOLLERR, &log), HF_LINK_ENDED);
	CHECK_EQ(hf_link_end(link), HF_CONN_RESET);
	CHECK_EQ(log.n, 1); /* its last word has been heard */
	hf_link_free(link);
}

TEST(peer_that_closes_its_receiving_side)
{
	uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	size_t len = ping_bytes(4, buf);
	struct log log = { 0 };
	int peer;
	struct hf_link *link = link_and_peer(&peer);

	CHECK_EQ(write(peer, buf, len), len);
	CHECK_EQ(shutdown(peer, SHUT_RD), 0);
	send_ping(link, 1);
	CHECK(hf_link_events(link) & EPOLLOUT); /* or nothing would ever wake the loop */
	CHECK_EQ(dispatch(link, EPOLLOUT, &log), HF_LINK_ENDED);
	CHECK_EQ(hf_link_end(link), HF_CONN_RESET);
	CHECK_EQ(log.n, 1);
	hf_link_free(link);
	close(peer);
}

static void set_loopback(bool is_up)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = (short)(is_up ? IFF_UP : 0) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK_EQ(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

/* A dead network must not look like a peer that has closed: that would be taken for a proof. In a
 * network namespace of its own, whose loopback is taken down under the connection. */
TEST(time_out_that_a_write_has_found)
{
	struct log log = { 0 };
	int fds[2], timeout_ms = 200;
	struct hf_link *link;
	enum hf_conn_end end;
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (unshare(CLONE_NEWNET) < 0) {
		printf("# not permitted to make a network namespace: skipped\n");
		close(home);
		return;
	}
	set_loopback(/* is_up= */ true);
	tcp_pair(fds);
	CHECK_EQ(setsockopt(fds[0], IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms)),
		 0);
	link = link_of(fds[0]);
	set_loopback(/* is_up= */ false);
	send_ping(link, 1);
	wait_for(fds[0], POLLERR);
	send_ping(link, 2);
	CHECK_EQ(dispatch(link, EPOLLIN | EPOLLERR | EPOLLHUP, &log), HF_LINK_ENDED);
	end = hf_link_end(link);
	CHECK(end == HF_CONN_TIMEOUT || end == HF_CONN_UNREACHABLE);
	hf_link_free(link);
	close(fds[1]);
	CHECK_EQ(setns(home, CLONE_NEWNET), 0);
	close(home);
}

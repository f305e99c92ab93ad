/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/sock.h"

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	CHECK_EQ(poll(&p, 1, 5000), 1);
}

/* An address of this host with port 0: the kernel chooses. */
static struct hf_sockaddr loopback(const char *host)
{
	struct hf_addr addr = { .port = 0 };
	struct hf_sockaddr sa;

	(void)snprintf(addr.host, sizeof(addr.host), "%s", host);
	CHECK_EQ(hf_addr_resolve(&addr, true, &sa, NULL), 0);
	return sa;
}

static int option_of(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	CHECK_EQ(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

TEST(closing_and_taking)
{
	int fds[2], fd;

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	CHECK(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
	fd = hf_fd_take(&fds[0]);
	CHECK_EQ(fds[0], -1);
	hf_fd_close(&fds[0]);
	CHECK(fcntl(fd, F_GETFD) >= 0);
	errno = E2BIG;
	hf_fd_close(&fd);
	CHECK_EQ(errno, E2BIG);
	CHECK_EQ(fd, -1);
	hf_fd_close(&fds[1]);
}

TEST(a_descriptor_travels_with_its_bytes)
{
	struct stat a, b;
	int fds[2], got = -1, file = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char buf[16];
	size_t n;

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	CHECK_EQ(hf_fd_receive(fds[1], buf, sizeof(buf), &n, &got), HF_FD_AGAIN);
	CHECK_EQ(hf_fd_send(fds[0], "ab", 2, &n), 0);
	CHECK_EQ(n, 2);
	CHECK_EQ(hf_fd_pass(fds[0], "cde", 3, file, &n), 0);
	CHECK_EQ(n, 3);
	CHECK_EQ(hf_fd_read(fds[1], buf, 2, &n), 0);
	CHECK_EQ(hf_fd_receive(fds[1], buf, sizeof(buf), &n, &got), 0);
	CHECK_EQ(n, 3);
	CHECK(memcmp(buf, "cde", 3) == 0);
	CHECK(got >= 0);
	CHECK(fcntl(got, F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(fstat(got, &a), 0);
	CHECK_EQ(fstat(file, &b), 0);
	CHECK_EQ(a.st_rdev, b.st_rdev);
	CHECK_EQ(hf_fd_send(fds[0], "f", 1, &n), 0);
	CHECK_EQ(hf_fd_receive(fds[1], buf, sizeof(buf), &n, &file), 0);
	CHECK_EQ(file, -1);
	hf_fd_close(&fds[1]);
	CHECK_EQ(hf_fd_send(fds[0], "g", 1, &n), -EPIPE);
	CHECK_EQ(hf_fd_receive(fds[0], buf, sizeof(buf), &n, &got), HF_FD_EOF);
	hf_fd_close(&fds[0]);
	hf_fd_close(&got);
}

TEST(a_connection_from_end_to_end)
{
	struct hf_sock_options options = { .send_buffer_bytes = 65536,
					   .receive_buffer_bytes = 32768,
					   .keepalive_idle_s = 7,
					   .keepalive_interval_s = 3,
					   .keepalive_count = 4,
					   .user_timeout_ms = 9000 };
	struct hf_sockaddr at = loopback("127.0.0.1"), peer;
	int lfd = -1, cfd = -1, afd = -1, r;
	char buf[4];
	size_t n;

	CHECK_EQ(hf_sock_listen(&at, NULL, &lfd, NULL), 0);
	CHECK_EQ(hf_sock_accept(lfd, &afd, NULL), HF_SOCK_PENDING);
	CHECK_EQ(hf_sock_local(lfd, &at), 0);
	r = hf_sock_connect(&at, &options, &cfd);
	CHECK(r == 0 || r == HF_SOCK_PENDING);
	wait_for(cfd, POLLOUT);
	CHECK_EQ(hf_sock_connect_result(cfd), 0);
	wait_for(lfd, POLLIN);
	CHECK_EQ(hf_sock_accept(lfd, &afd, &peer), 0);
	CHECK_EQ(peer.storage.ss_family, AF_INET);
	CHECK_EQ(option_of(afd, IPPROTO_TCP, TCP_NODELAY), 1);
	CHECK_EQ(option_of(cfd, IPPROTO_TCP, TCP_NODELAY), 1);
	CHECK_EQ(option_of(cfd, IPPROTO_TCP, TCP_KEEPIDLE), 7);
	CHECK_EQ(option_of(cfd, IPPROTO_TCP, TCP_KEEPINTVL), 3);
	CHECK_EQ(option_of(cfd, IPPROTO_TCP, TCP_KEEPCNT), 4);
	CHECK_EQ(option_of(cfd, IPPROTO_TCP, TCP_USER_TIMEOUT), 9000);
	CHECK_EQ(option_of(cfd, SOL_SOCKET, SO_SNDBUF), 2 * 65536);
	CHECK_EQ(option_of(cfd, SOL_SOCKET, SO_RCVBUF), 2 * 32768);
	hf_fd_close(&afd);
	wait_for(cfd, POLLIN);
	CHECK_EQ(hf_fd_read(cfd, buf, sizeof(buf), &n), HF_FD_EOF);
	hf_fd_close(&cfd);
	hf_fd_close(&lfd);
}

TEST(a_reset_is_told_from_an_end)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	struct hf_sockaddr at = loopback("127.0.0.1");
	int lfd = -1, cfd = -1, afd = -1;
	char buf[4];
	size_t n;

	CHECK_EQ(hf_sock_listen(&at, NULL, &lfd, NULL), 0);
	CHECK_EQ(hf_sock_local(lfd, &at), 0);
	CHECK(hf_sock_connect(&at, NULL, &cfd) >= 0);
	wait_for(lfd, POLLIN);
	CHECK_EQ(hf_sock_accept(lfd, &afd, NULL), 0);
	CHECK_EQ(setsockopt(afd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	hf_fd_close(&afd);
	wait_for(cfd, POLLIN);
	CHECK_EQ(hf_conn_end_of(hf_fd_read(cfd, buf, sizeof(buf), &n)), HF_CONN_RESET);
	hf_fd_close(&cfd);
	hf_fd_close(&lfd);
}

TEST(a_refused_connection)
{
	struct hf_sockaddr at = loopback("127.0.0.1");
	int lfd = -1, cfd = -1, r;

	/* The port is free again once its listener is closed. */
	CHECK_EQ(hf_sock_listen(&at, NULL, &lfd, NULL), 0);
	CHECK_EQ(hf_sock_local(lfd, &at), 0);
	hf_fd_close(&lfd);
	r = hf_sock_connect(&at, NULL, &cfd);
	if (r == HF_SOCK_PENDING) {
		wait_for(cfd, POLLOUT);
		r = hf_sock_connect_result(cfd);
	}
	CHECK_EQ(hf_conn_end_of(r), HF_CONN_REFUSED);
	hf_fd_close(&cfd);
}

TEST(the_wildcard_takes_both_families)
{
	struct hf_sockaddr any = loopback(""), to = loopback("127.0.0.1");
	int lfd = -1, cfd = -1, afd = -1;

	CHECK_EQ(hf_sock_listen(&any, NULL, &lfd, NULL), 0);
	CHECK_EQ(hf_sock_local(lfd, &any), 0);
	((struct sockaddr_in *)&to.storage)->sin_port =
		((struct sockaddr_in6 *)&any.storage)->sin6_port;
	CHECK(hf_sock_connect(&to, NULL, &cfd) >= 0);
	wait_for(lfd, POLLIN);
	CHECK_EQ(hf_sock_accept(lfd, &afd, NULL), 0);
	hf_fd_close(&afd);
	hf_fd_close(&cfd);
	hf_fd_close(&lfd);
}

TEST(a_port_that_is_taken_is_named)
{
	struct hf_sockaddr at = loopback("127.0.0.1");
	char text[HF_ADDR_TEXT];
	struct hf_err err;
	int a = -1, b = -1;

	CHECK_EQ(hf_sock_listen(&at, NULL, &a, NULL), 0);
	CHECK_EQ(hf_sock_local(a, &at), 0);
	CHECK_EQ(hf_sock_listen(&at, NULL, &b, &err), -EADDRINUSE);
	CHECK_CONTAINS(err.text, hf_sockaddr_format(&at, text, sizeof(text)));
	CHECK_EQ(b, -1);
	hf_fd_close(&a);
}

TEST(peer_credentials)
{
	struct hf_peer peer;
	int fds[2];

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	CHECK_EQ(hf_sock_peer(fds[0], &peer), 0);
	CHECK_EQ(peer.pid, getpid());
	CHECK_EQ(peer.uid, geteuid());
	hf_fd_close(&fds[0]);
	hf_fd_close(&fds[1]);
}

TEST(ends_are_classified)
{
	CHECK_EQ(hf_conn_end_of(0), HF_CONN_EOF);
	CHECK_EQ(hf_conn_end_of(-EPIPE), HF_CONN_RESET);
	CHECK_EQ(hf_conn_end_of(ETIMEDOUT), HF_CONN_TIMEOUT);
	CHECK_EQ(hf_conn_end_of(-EHOSTUNREACH), HF_CONN_UNREACHABLE);
	CHECK_EQ(hf_conn_end_of(-ENETUNREACH), HF_CONN_UNREACHABLE);
	CHECK_EQ(hf_conn_end_of(EIO), HF_CONN_OTHER);
	CHECK_STR(hf_conn_end_text(HF_CONN_EOF), "closed by the peer");
	for (int end = 0; end < HF_CONN_END_COUNT; end++)
		CHECK(hf_conn_end_text((enum hf_conn_end)end) != NULL);
}

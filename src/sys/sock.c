/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/sock.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sys/fd.h"

#define BACKLOG 16

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_if(int fd, int level, int name, int value)
{
	return value > 0 ? set_int(fd, level, name, value) : 0;
}

static int set_options(int fd, const struct hf_sock_options *o)
{
	int r = set_if(fd, SOL_SOCKET, SO_SNDBUF, o->send_buffer_bytes);

	if (r == 0)
		r = set_if(fd, SOL_SOCKET, SO_RCVBUF, o->receive_buffer_bytes);
	if (r == 0 && o->keepalive_idle_s > 0)
		r = set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (r == 0)
		r = set_if(fd, IPPROTO_TCP, TCP_KEEPIDLE, o->keepalive_idle_s);
	if (r == 0)
		r = set_if(fd, IPPROTO_TCP, TCP_KEEPINTVL, o->keepalive_interval_s);
	if (r == 0)
		r = set_if(fd, IPPROTO_TCP, TCP_KEEPCNT, o->keepalive_count);
	if (r == 0)
		r = set_if(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, o->user_timeout_ms);
	return r;
}

static int open_socket(int family, const struct hf_sock_options *options, int *ret_fd)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (family != AF_UNIX && options)
		r = set_options(fd, options);
	if (r == 0 && family != AF_UNIX)
		r = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (r < 0) {
		hf_fd_close(&fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int bind_and_listen(int fd, const struct hf_sockaddr *at)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&at->storage;
	int r = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);

	if (r == 0 && at->storage.ss_family == AF_INET6)
		r = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY,
			    !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr));
	if (r < 0)
		return r;
	if (bind(fd, (const struct sockaddr *)&at->storage, at->len) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

int hf_sock_listen(const struct hf_sockaddr *at, const struct hf_sock_options *options, int *ret_fd,
		   struct hf_err *err)
{
	char text[HF_ADDR_TEXT];
	int fd = -1, r;

	r = open_socket(at->storage.ss_family, options, &fd);
	if (r == 0)
		r = bind_and_listen(fd, at);
	if (r < 0) {
		hf_err_set(err, "cannot listen on %s: %s%s",
			   hf_sockaddr_format(at, text, sizeof(text)), strerror(-r),
			   r == -EADDRNOTAVAIL ? " (no interface of this host has this address)"
					       : "");
		hf_fd_close(&fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* accept(2): errors of the connection itself, to be treated as if it had never been there. */
static int is_accept_transient(int error)
{
	return error == EAGAIN || error == ECONNABORTED || error == EINTR || error == ENETDOWN ||
	       error == EPROTO || error == EHOSTDOWN || error == EHOSTUNREACH ||
	       error == ENETUNREACH || error == ENONET || error == ENOPROTOOPT ||
	       error == EOPNOTSUPP;
}

int hf_sock_accept(int listen_fd, int *ret_fd, struct hf_sockaddr *ret_peer)
{
	struct hf_sockaddr peer = { .len = sizeof(peer.storage) };
	int fd, r = 0;

	fd = accept4(listen_fd, (struct sockaddr *)&peer.storage, &peer.len,
		     SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return is_accept_transient(errno) ? HF_SOCK_PENDING : -errno;
	if (peer.storage.ss_family != AF_UNIX)
		r = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (r < 0) {
		hf_fd_close(&fd);
		return r;
	}
	if (ret_peer)
		*ret_peer = peer;
	*ret_fd = fd;
	return 0;
}

int hf_sock_connect(const struct hf_sockaddr *to, const struct hf_sock_options *options,
		    int *ret_fd)
{
	int fd = -1, r;

	r = open_socket(to->storage.ss_family, options, &fd);
	if (r < 0)
		return r;
	if (connect(fd, (const struct sockaddr *)&to->storage, to->len) < 0) {
		if (errno != EINPROGRESS && errno != EINTR) {
			r = -errno;
			hf_fd_close(&fd);
			return r;
		}
		r = HF_SOCK_PENDING;
	}
	*ret_fd = fd;
	return r;
}

int hf_sock_connect_result(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	if (error != 0)
		return -error;
	len = sizeof(peer);
	if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
		return 0;
	return errno == ENOTCONN ? HF_SOCK_PENDING : -errno;
}

int hf_sock_local(int fd, struct hf_sockaddr *ret)
{
	struct hf_sockaddr sa = { .len = sizeof(sa.storage) };

	if (getsockname(fd, (struct sockaddr *)&sa.storage, &sa.len) < 0)
		return -errno;
	*ret = sa;
	return 0;
}

int hf_sock_peer(int fd, struct hf_peer *ret)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	*ret = (struct hf_peer){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
	return 0;
}

enum hf_conn_end hf_conn_end_of(int error)
{
	switch (error < 0 ? -error : error) {
	case 0:
		return HF_CONN_EOF;
	case ECONNRESET:
	case EPIPE:
	case ECONNABORTED:
		return HF_CONN_RESET;
	case ECONNREFUSED:
		return HF_CONN_REFUSED;
	case ETIMEDOUT:
		return HF_CONN_TIMEOUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
		return HF_CONN_UNREACHABLE;
	default:
		return HF_CONN_OTHER;
	}
}

const char *hf_conn_end_text(enum hf_conn_end end)
{
	static const char *const text[HF_CONN_END_COUNT] = {
		[HF_CONN_EOF] = "closed by the peer",
		[HF_CONN_RESET] = "reset by the peer",
		[HF_CONN_REFUSED] = "refused: nothing listens there",
		[HF_CONN_TIMEOUT] = "timed out: no answer from the peer",
		[HF_CONN_UNREACHABLE] = "no route to the peer",
		[HF_CONN_OTHER] = "failed",
	};

	assert(end < HF_CONN_END_COUNT);
	return text[end];
}

bool hf_sock_is_unix(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && sa.ss_family == AF_UNIX;
}

bool hf_sock_peer_is_in_group(int fd, unsigned int gid)
{
	gid_t groups[256];
	socklen_t len = sizeof(groups);
	struct hf_peer peer;

	if (hf_sock_peer(fd, &peer) < 0)
		return false;
	if (peer.gid == gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0) /* also: too many */
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

unsigned int hf_sock_group(int listen_fd)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sun) - 1;
	struct stat st;

	if (getsockname(listen_fd, (struct sockaddr *)&sun, &len) < 0 ||
	    sun.sun_family != AF_UNIX || !sun.sun_path[0] || stat(sun.sun_path, &st) < 0)
		return 0;
	return st.st_mode & S_IWGRP ? st.st_gid : 0;
}

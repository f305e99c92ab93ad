/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/stream.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "sys/stream-internal.h"

struct hf_stream {
	int fd;
	struct hf_tlsio *tls; /* NULL: plain */
};

static int new_stream(int fd, struct hf_stream **ret)
{
	struct hf_stream *s;
	int r = hf_fd_set_nonblocking(fd);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->fd = fd;
	*ret = s;
	return 0;
}

int hf_stream_new_plain(int fd, struct hf_stream **ret)
{
	return new_stream(fd, ret);
}

int hf_stream_new_tls(int fd, struct hf_tls *tls, enum hf_stream_side side,
		      const char *const *names, struct hf_stream **ret, struct hf_err *err)
{
	struct hf_stream *s;
	int r = new_stream(fd, &s);

	if (r < 0) {
		hf_err_set(err, "no TLS on this connection: out of memory or no socket");
		return r;
	}
	r = hf_tlsio_new(fd, tls, side, names, &s->tls, err);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void hf_stream_free(struct hf_stream *s)
{
	if (!s)
		return;
	hf_tlsio_free(s->tls);
	hf_fd_close(&s->fd);
	free(s);
}

int hf_stream_fd(const struct hf_stream *s)
{
	return s->fd;
}

uint32_t hf_stream_events(const struct hf_stream *s, bool wants_read, bool wants_write)
{
	if (s->tls)
		return hf_tlsio_events(s->tls, wants_read, wants_write);
	return (wants_read ? EPOLLIN : 0u) | (wants_write ? EPOLLOUT : 0u);
}

bool hf_stream_has_input(const struct hf_stream *s)
{
	return s->tls && hf_tlsio_has_input(s->tls);
}

int hf_stream_read(struct hf_stream *s, void *buf, size_t size, size_t *ret_n)
{
	return s->tls ? hf_tlsio_read(s->tls, buf, size, ret_n)
		      : hf_fd_read(s->fd, buf, size, ret_n);
}

int hf_stream_read_kept(struct hf_stream *s, void *buf, size_t size, size_t *ret_n)
{
	return s->tls ? hf_tlsio_read_kept(s->tls, buf, size, ret_n) : HF_FD_AGAIN;
}

static int write_plain(int fd, const struct iovec *iov, int n, size_t *ret_n)
{
	struct msghdr msg = { .msg_iovlen = (size_t)(n < IOV_MAX ? n : IOV_MAX) };
	ssize_t sent;

	msg.msg_iov = (struct iovec *)(uintptr_t)iov; /* only read, but declared for both ways */
	if (n == 0) {
		*ret_n = 0;
		return 0;
	}
	do
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? HF_FD_AGAIN : -errno;
	*ret_n = (size_t)sent;
	return 0;
}

int hf_stream_writev(struct hf_stream *s, const struct iovec *iov, int n, size_t *ret_n)
{
	return s->tls ? hf_tlsio_writev(s->tls, iov, n, ret_n) : write_plain(s->fd, iov, n, ret_n);
}

size_t hf_stream_unsent_bytes(const struct hf_stream *s)
{
	return s->tls ? hf_tlsio_unsent_bytes(s->tls) : 0;
}

bool hf_stream_is_ready(const struct hf_stream *s)
{
	return !s->tls || hf_tlsio_is_ready(s->tls);
}

bool hf_stream_is_tls(const struct hf_stream *s)
{
	return s->tls != NULL;
}

const char *hf_stream_peer_name(const struct hf_stream *s)
{
	return s->tls ? hf_tlsio_peer_name(s->tls) : NULL;
}

bool hf_stream_peer_has_name(const struct hf_stream *s, const char *name)
{
	return s->tls && hf_tlsio_peer_has_name(s->tls, name);
}

const char *hf_stream_error(const struct hf_stream *s)
{
	return s->tls ? hf_tlsio_error(s->tls) : "";
}

void hf_stream_rekey_after(struct hf_stream *s, uint64_t bytes)
{
	if (s->tls)
		hf_tlsio_rekey_after(s->tls, bytes);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* More than anyone sends to us with one message; the kernel closes what does not fit. */
#define RECEIVE_FDS_MAX 8

void hf_fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

int hf_fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

int hf_fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int hf_fd_pair(int type, int ret_fds[2])
{
	int fds[2];

	if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

static int io_result(ssize_t n, size_t *ret_n)
{
	if (n < 0)
		return errno == EAGAIN ? HF_FD_AGAIN : -errno;
	if (n == 0)
		return HF_FD_EOF;
	*ret_n = (size_t)n;
	return 0;
}

int hf_fd_read(int fd, void *buf, size_t size, size_t *ret_n)
{
	ssize_t n;

	do
		n = read(fd, buf, size);
	while (n < 0 && errno == EINTR);
	return io_result(n, ret_n);
}

static int send_message(int sock, const struct msghdr *msg, size_t *ret_n)
{
	ssize_t n;

	do
		n = sendmsg(sock, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return io_result(n, ret_n);
}

int hf_fd_send(int sock, const void *data, size_t len, size_t *ret_n)
{
	ssize_t n;

	do
		n = send(sock, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return io_result(n, ret_n);
}

/* The control buffer as the kernel's header wants it aligned. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(RECEIVE_FDS_MAX * sizeof(int))];
};

int hf_fd_pass(int sock, const void *data, size_t len, int fd, size_t *ret_n)
{
	union control control = { .bytes = { 0 } };
	union {
		const void *in;
		void *out;
	} base = { .in = data }; /* iov_base is shared with readers and so lacks the const */
	struct iovec iov = { .iov_base = base.out, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(sizeof(int)),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return send_message(sock, &msg, ret_n);
}

/* Keeps the first descriptor of the message in *kept, if there is none yet, and closes the rest. */
static void collect_fds(struct msghdr *msg, int *kept)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*kept < 0)
				*kept = fd;
			else
				hf_fd_close(&fd);
		}
	}
}

int hf_fd_receive(int sock, void *buf, size_t size, size_t *ret_n, int *ret_fd)
{
	union control control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int kept = -1, r;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	r = io_result(n, ret_n);
	if (n >= 0)
		collect_fds(&msg, &kept);
	if (r == 0)
		*ret_fd = hf_fd_take(&kept);
	hf_fd_close(&kept);
	return r;
}

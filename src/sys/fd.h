/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File descriptors: closing, flags, and handing one to another process. Layer: sys. Any thread.
 * Nothing here allocates.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Closes *fd unless it is negative, and sets it to -1. Leaves errno alone. */
void hf_fd_close(int *fd);

/* Hands over ownership: returns *fd and sets it to -1. */
int hf_fd_take(int *fd);

/* 0 or -errno. */
int hf_fd_set_nonblocking(int fd) HF_MUST_CHECK;

/* A connected pair of non-blocking, close-on-exec unix sockets; @type is SOCK_STREAM, SOCK_DGRAM or
 * SOCK_SEQPACKET. The caller owns both. Return: 0 or -errno. */
int hf_fd_pair(int type, int ret_fds[2]) HF_MUST_CHECK;

enum hf_fd_io {
	HF_FD_AGAIN = 1, /* nothing could be moved now: wait for the descriptor's event */
	HF_FD_EOF = 2, /* the other end has closed (readers only) */
};

/**
 * hf_fd_read() - one read from a non-blocking descriptor, repeated if a signal interrupts it
 * Return: 0 with *ret_n >= 1; HF_FD_AGAIN; HF_FD_EOF; -errno. @size must not be 0.
 */
int hf_fd_read(int fd, void *buf, size_t size, size_t *ret_n) HF_MUST_CHECK;

/**
 * hf_fd_send() - one send to a non-blocking stream socket; no SIGPIPE
 * Return: 0 with 1 <= *ret_n <= @len; HF_FD_AGAIN; -errno (-EPIPE: the other end has closed).
 */
int hf_fd_send(int sock, const void *data, size_t len, size_t *ret_n) HF_MUST_CHECK;

/**
 * hf_fd_pass() - as hf_fd_send(), and a descriptor travels with the first of the bytes
 * @fd: stays the caller's; the receiver gets its own. It has been passed if and only if 0 is
 *	returned, however few of the bytes were taken.
 */
int hf_fd_pass(int sock, const void *data, size_t len, int fd, size_t *ret_n) HF_MUST_CHECK;

/**
 * hf_fd_receive() - as hf_fd_read(), from a unix socket, with the descriptor that came along
 * @ret_fd: -1 when none came, else close-on-exec and the caller's. Of several, the first is kept
 *	and the others are closed.
 */
int hf_fd_receive(int sock, void *buf, size_t size, size_t *ret_n, int *ret_fd) HF_MUST_CHECK;

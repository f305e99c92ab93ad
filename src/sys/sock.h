/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stream sockets: listening, connecting without blocking, their options, and how a connection came
 * to its end. Layer: sys. Any thread. Nothing here blocks or allocates.
 * (The file cannot be called socket.h: that would hide the C library's <sys/socket.h>.)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "sys/addr.h"

/* Options of TCP connections; 0 leaves the kernel's default. */
struct hf_sock_options {
	int send_buffer_bytes; /* the kernel doubles it, and caps it at net.core.wmem_max */
	int receive_buffer_bytes; /* the same, net.core.rmem_max; must be set before connecting */
	int keepalive_idle_s; /* silence after which the kernel starts to ask; 0: never */
	int keepalive_interval_s;
	int keepalive_count;
	int user_timeout_ms; /* sent data unacknowledged for so long ends the connection */
};

/**
 * hf_sock_listen() - a non-blocking listening socket; the IPv6 wildcard takes IPv4 too
 * @options: inherited by the accepted connections; NULL for the kernel's defaults
 * @ret_fd: the caller's
 * Return: 0, or -errno with @err naming the address (-EADDRINUSE: another program has it;
 * -EADDRNOTAVAIL: it is not this host's).
 */
int hf_sock_listen(const struct hf_sockaddr *at, const struct hf_sock_options *options, int *ret_fd,
		   struct hf_err *err) HF_MUST_CHECK;

enum hf_sock_state {
	HF_SOCK_PENDING = 1, /* wait: connect for writability, accept for readability */
};

/**
 * hf_sock_accept() - take one waiting connection; non-blocking, TCP_NODELAY where it is TCP
 * @ret_peer: may be NULL
 * Return: 0; HF_SOCK_PENDING: none is waiting, or it is gone again; -errno (-EMFILE and
 * -ENFILE: the connection still waits, so the listener stays readable; back off).
 */
int hf_sock_accept(int listen_fd, int *ret_fd, struct hf_sockaddr *ret_peer) HF_MUST_CHECK;

/**
 * hf_sock_connect() - begin to connect; TCP_NODELAY
 * @ret_fd: the caller's, for 0 and for HF_SOCK_PENDING
 * Return: 0: connected; HF_SOCK_PENDING: under way, ask hf_sock_connect_result() once it is
 * writable; -errno: hopeless at once, classify with hf_conn_end_of().
 */
int hf_sock_connect(const struct hf_sockaddr *to, const struct hf_sock_options *options,
		    int *ret_fd) HF_MUST_CHECK;

/* What became of it: 0 connected, HF_SOCK_PENDING not yet known, -errno failed. */
int hf_sock_connect_result(int fd) HF_MUST_CHECK;

/* The address that a socket is bound to; tells the port when 0 was asked for. 0 or -errno. */
int hf_sock_local(int fd, struct hf_sockaddr *ret) HF_MUST_CHECK;

/* Who is at the other end of a unix socket, as of its connect(): SO_PEERCRED. 0 or -errno. */
struct hf_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};
int hf_sock_peer(int fd, struct hf_peer *ret) HF_MUST_CHECK;
/* Is it of that group, its own or a further one, as of its connect()? SO_PEERGROUPS. */
bool hf_sock_peer_is_in_group(int fd, unsigned int gid);
bool hf_sock_is_unix(int fd);
/* The group that may connect to this listening unix socket, by the file; 0: none, or root's. */
unsigned int hf_sock_group(int listen_fd);

/*
 * How a connection ended. Only REFUSED, RESET and EOF come from the peer's host and say that it is
 * alive; TIMEOUT and UNREACHABLE say nothing about whether the peer still runs.
 */
enum hf_conn_end {
	HF_CONN_EOF,
	HF_CONN_RESET,
	HF_CONN_REFUSED,
	HF_CONN_TIMEOUT,
	HF_CONN_UNREACHABLE,
	HF_CONN_OTHER,
	HF_CONN_END_COUNT
};

/* @error: an errno, positive or negative; 0 is the peer's orderly end. */
enum hf_conn_end hf_conn_end_of(int error);

/* "closed by the peer", "refused: nothing listens there", ... A constant string. */
const char *hf_conn_end_text(enum hf_conn_end end);

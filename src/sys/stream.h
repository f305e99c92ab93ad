/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A non-blocking stream of bytes over a connected socket, plain or TLS 1.3. Layer: sys. One thread,
 * that of the caller's event loop: it waits on hf_stream_fd() for hf_stream_events() and then reads
 * and writes. Nothing blocks, and after hf_stream_new_*() nothing allocates but OpenSSL.
 *
 * A TLS stream does its handshake by itself while the caller reads: until it is done reads and writes
 * return HF_FD_AGAIN. Whoever makes streams bounds the time (HF_STREAM_HANDSHAKE_NS) and the number of
 * those that are not ready.
 *
 * The end looks the same over both: what a killed process leaves behind is HF_FD_EOF or -ECONNRESET
 * also over TLS, whether it has said good-bye (close_notify) or not. Nothing is concluded from such an
 * end but to ask that host again.
 *
 * A failed write says nothing about what lies unread: go on reading until that ends, too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "sys/fd.h"
#include "sys/tls.h"

/* How long a TLS handshake may take. */
#define HF_STREAM_HANDSHAKE_NS 5000000000ull
/* Names that hf_stream_new_tls() takes. */
#define HF_STREAM_NAMES_MAX 64

struct hf_stream;

/**
 * hf_stream_new_plain() - the bytes as they are
 * @fd: made non-blocking; the stream's on success, still the caller's on failure. A socket.
 * Return: 0 or -errno.
 */
int hf_stream_new_plain(int fd, struct hf_stream **ret) HF_MUST_CHECK;

enum hf_stream_side {
	HF_STREAM_ACCEPTED, /* the peer has connected to us */
	HF_STREAM_DIALLED, /* we have connected to the peer */
};

/**
 * hf_stream_new_tls() - TLS 1.3 with certificates on both sides
 * @fd: as above. Connected already.
 * @tls: borrowed for the call; its files are looked at again
 * @names: NULL-terminated, copied: the peer's certificate must carry one of them. Text of an IP address
 *	means an address in the certificate, all else a DNS name.
 * Says the first word at once if we have dialled. Blocks for reading files that have changed.
 * Return: 0; -errno with @err.
 */
int hf_stream_new_tls(int fd, struct hf_tls *tls, enum hf_stream_side side,
		      const char *const *names, struct hf_stream **ret,
		      struct hf_err *err) HF_MUST_CHECK;

/* Closes the socket; first tries, without waiting, to send what waits and to say good-bye. Takes
 * NULL. */
void hf_stream_free(struct hf_stream *s);

/* Stays the stream's. */
int hf_stream_fd(const struct hf_stream *s);

/**
 * hf_stream_events() - what to wait for, as epoll's bits
 * @wants_read, @wants_write: what the caller would do next. TLS may want something else first.
 * To be asked again after each other call here. Note hf_stream_has_input(), of which no event tells.
 */
uint32_t hf_stream_events(const struct hf_stream *s, bool wants_read, bool wants_write);

/* Something can be read that the kernel knows nothing of: read until HF_FD_AGAIN, or come back by
 * yourself. Always false after HF_FD_AGAIN, and for a plain stream. */
bool hf_stream_has_input(const struct hf_stream *s);

/**
 * hf_stream_read() - as hf_fd_read()
 * Return: 0 with 1 <= *ret_n <= @size; with less than @size there is nothing more at the moment
 * (unless hf_stream_has_input()). HF_FD_AGAIN. HF_FD_EOF: the peer's end. -errno: -EPROTO, also for
 * each later call: the two do not come together, or the bytes were not what the peer sent; otherwise
 * the socket's error. hf_stream_error() has more. @size must not be 0.
 */
int hf_stream_read(struct hf_stream *s, void *buf, size_t size, size_t *ret_n) HF_MUST_CHECK;

/**
 * hf_stream_read_kept() - as hf_stream_read(), but asks the socket for nothing
 * For those who bound what they read at a time: call it after that until HF_FD_AGAIN, which comes after
 * at most 128 KiB. Whatever there is then makes an event.
 */
int hf_stream_read_kept(struct hf_stream *s, void *buf, size_t size, size_t *ret_n) HF_MUST_CHECK;

/**
 * hf_stream_writev() - take as much of @iov as goes now
 * What is taken is copied: the caller may change it. TLS may keep up to 256 KiB that the socket did not
 * take, and sends them with the next call, or when written to with @n == 0 (which hf_stream_events()
 * asks for by EPOLLOUT).
 * Return: 0 with *ret_n bytes taken, less than all: come back at EPOLLOUT. HF_FD_AGAIN: none. -errno
 * (-EPIPE, -ECONNRESET, ...; -EPROTO as above).
 */
int hf_stream_writev(struct hf_stream *s, const struct iovec *iov, int n,
		     size_t *ret_n) HF_MUST_CHECK;

/* Taken, and not yet in the kernel's hands. */
size_t hf_stream_unsent_bytes(const struct hf_stream *s);

/* Bytes can go both ways. Plain: from the start. TLS: the peer has proven who it is. */
bool hf_stream_is_ready(const struct hf_stream *s);

/* The one of @names that the peer's certificate carries; NULL while it is not ready, and for a plain
 * stream. The stream's. */
const char *hf_stream_peer_name(const struct hf_stream *s);

/* Does the peer's certificate carry @name too? False while it is not ready, and for a plain stream. */
bool hf_stream_peer_has_name(const struct hf_stream *s, const char *name);

bool hf_stream_is_tls(const struct hf_stream *s);

/*
 * Why TLS came to nothing: "it shows a certificate of hostb, hostb.example, not of hosta", "its
 * certificate has expired: on 2026-01-31", "it does not speak TLS: ...", "it refuses this host's
 * certificate: expired". A sentence to follow the peer's address, of printable ASCII only. "" if
 * nothing failed but the connection. The stream's.
 */
const char *hf_stream_error(const struct hf_stream *s);

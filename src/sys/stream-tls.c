/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * OpenSSL sees no socket but a BIO of ours, so that the socket's errors are known for what they are,
 * each way for itself; link.c decides by them what has become of the other host.
 *
 * Reading: OpenSSL reads ahead from the socket into its own buffer, many records with one call. What
 * it has there makes no event any more: may_have_input.
 *
 * Writing: records go into a buffer, and from there to the socket, many with one call. A record that
 * was made has to be sent: what is taken from the caller is therefore kept here until the socket takes
 * it, and nothing more is taken meanwhile. Small pieces are put together: each record costs 22 bytes
 * and a start of the cipher.
 *
 * The end: what reading has come to stays (end), a failed write too (write_error). While only writing
 * has failed, what OpenSSL itself wants to say goes nowhere, and reading goes on.
 *
 * One key of AES-GCM is good for 2^24.5 full records (RFC 8446, 5.5), 360 GiB: new ones are made long
 * before, by each side for what it sends.
 */
#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "sys/stream-internal.h"
#include "sys/tls-internal.h"
#include "sys/x509.h"

#define RECORD_BYTES ((size_t)16 * 1024)
#define RECORD_OVERHEAD ((size_t)256)
/* A full one, one record more, and what OpenSSL may say in between. */
#define OUT_FULL ((size_t)256 * 1024)
#define OUT_BYTES (OUT_FULL + RECORD_BYTES + RECORD_OVERHEAD + (size_t)32 * 1024)
#define REKEY_BYTES (1ull << 36)

struct hf_tlsio {
	int fd;
	SSL *ssl;
	struct hf_tls_peer peer;
	bool is_ready, may_have_input;
	bool is_apart; /* from the socket: reads get what OpenSSL has */
	int end; /* HF_FD_EOF or -errno: what reading has come to; 0: goes on */
	int socket_end; /* the same, of the socket below */
	int write_error; /* -errno that ended writing */

	uint8_t *out; /* records for the socket, from out_at on */
	size_t out_at, out_len;
	uint8_t piece[16 * 1024]; /* small pieces on their way into one record */
	uint64_t sent_with_key, rekey_bytes;
};

/* ---- the BIO ---- */

static int on_bio_read(BIO *bio, char *buf, size_t size, size_t *ret_n)
{
	struct hf_tlsio *t = BIO_get_data(bio);
	int r = t->socket_end;

	if (r == 0)
		r = t->is_apart ? HF_FD_AGAIN : hf_fd_read(t->fd, buf, size, ret_n);
	BIO_clear_retry_flags(bio);
	if (r == 0)
		return 1;
	if (r == HF_FD_AGAIN)
		BIO_set_retry_read(bio);
	else
		t->socket_end = r;
	*ret_n = 0;
	return 0;
}

static int on_bio_write(BIO *bio, const char *data, size_t len, size_t *ret_n)
{
	struct hf_tlsio *t = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	*ret_n = len;
	if (t->write_error)
		return 1;
	if (t->out_at > 0 && t->out_at + t->out_len + len > OUT_BYTES) {
		memmove(t->out, t->out + t->out_at, t->out_len);
		t->out_at = 0;
	}
	if (t->out_at + t->out_len + len > OUT_BYTES)
		return 0; /* a peer that asks for answers and takes none */
	memcpy(t->out + t->out_at + t->out_len, data, len);
	t->out_len += len;
	return 1;
}

static long on_bio_ctrl(BIO *bio, int what, long value __attribute__((unused)),
			void *p __attribute__((unused)))
{
	struct hf_tlsio *t = BIO_get_data(bio);

	if (what == BIO_CTRL_EOF)
		return t->socket_end == HF_FD_EOF;
	return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *method; /* as long as the process */

	if (method)
		return method;
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "holdfast");
	if (method && (BIO_meth_set_read_ex(method, on_bio_read) != 1 ||
		       BIO_meth_set_write_ex(method, on_bio_write) != 1 ||
		       BIO_meth_set_ctrl(method, on_bio_ctrl) != 1)) {
		BIO_meth_free(method);
		method = NULL;
	}
	return method;
}

static int attach_bio(struct hf_tlsio *t)
{
	BIO *bio = bio_method() ? BIO_new(bio_method()) : NULL;

	if (!bio)
		return -ENOMEM;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio); /* one reference serves both ways */
	return 0;
}

/* ---- to the socket ---- */

static void flush(struct hf_tlsio *t)
{
	while (t->out_len > 0) {
		size_t n;
		int r = hf_fd_send(t->fd, t->out + t->out_at, t->out_len, &n);

		if (r == HF_FD_AGAIN)
			return;
		if (r < 0) {
			t->write_error = r;
			n = t->out_len;
		}
		t->out_at += n;
		t->out_len -= n;
	}
	t->out_at = 0;
}

/* ---- what has become of it ---- */

/* The kernel tells an error of the connection to one call only: if a write has got it, a read finds
 * what looks like the peer's orderly end. See link.c. */
static int end_of_socket(const struct hf_tlsio *t)
{
	if (t->socket_end == HF_FD_EOF && t->write_error && t->write_error != -EPIPE)
		return t->write_error;
	return t->socket_end;
}

static void explain_cut(struct hf_tlsio *t)
{
	if (t->is_ready || t->peer.error.text[0])
		return;
	if (t->end == HF_FD_EOF || t->end == -ECONNRESET || t->end == -EPIPE)
		hf_err_set(&t->peer.error,
			   "it closed the connection in the middle of the TLS handshake, as one "
			   "with encryption=plain would");
}

/* @result: of an SSL_*() call that has not done its work. 0 is never returned. */
static int judge(struct hf_tlsio *t, int result)
{
	int error = SSL_get_error(t->ssl, result);

	if (error == SSL_ERROR_ZERO_RETURN) {
		t->end = HF_FD_EOF;
	} else if (t->socket_end && error != SSL_ERROR_WANT_READ && !t->peer.error.text[0]) {
		t->end = end_of_socket(t);
	} else if (error == SSL_ERROR_WANT_READ) {
		t->end = t->is_apart ? 0 : t->write_error; /* then nothing more will come */
	} else {
		hf_tls_explain(&t->peer);
		t->end = -EPROTO;
	}
	ERR_clear_error();
	explain_cut(t);
	return t->end ? t->end : HF_FD_AGAIN;
}

static int shake_hands(struct hf_tlsio *t)
{
	int result;

	if (t->is_ready)
		return 0;
	ERR_clear_error();
	result = SSL_do_handshake(t->ssl);
	if (result != 1)
		return judge(t, result);
	if (!t->peer.name) { /* cannot be: its certificate has been verified */
		hf_err_set(&t->peer.error, "its certificate was not verified");
		t->end = -EPROTO;
		return t->end;
	}
	t->is_ready = true;
	return 0;
}

/* ---- for stream.c ---- */

int hf_tlsio_new(int fd, struct hf_tls *tls, enum hf_stream_side side, const char *const *names,
		 struct hf_tlsio **ret, struct hf_err *err)
{
	struct hf_tlsio *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->fd = fd;
	t->rekey_bytes = REKEY_BYTES;
	t->out = malloc(OUT_BYTES);
	r = hf_tls_peer_init(&t->peer, names);
	if (r == 0 && !t->out)
		r = -ENOMEM;
	if (r < 0)
		hf_err_set(err, "TLS: %s",
			   r == -ENOMEM ? "out of memory" : "no name, or too many, for the peer");
	if (r == 0)
		r = hf_tls_connection(tls, side, &t->peer, &t->ssl, err);
	if (r == 0)
		r = attach_bio(t);
	if (r < 0) {
		SSL_free(t->ssl);
		t->ssl = NULL;
		hf_tlsio_free(t);
		return r;
	}
	if (side == HF_STREAM_DIALLED) {
		(void)!shake_hands(t);
		flush(t);
	}
	*ret = t;
	return 0;
}

void hf_tlsio_free(struct hf_tlsio *t)
{
	if (!t)
		return;
	if (t->ssl) {
		if (t->is_ready && t->end >= 0)
			(void)SSL_shutdown(t->ssl);
		flush(t);
		SSL_free(t->ssl);
		ERR_clear_error();
	}
	hf_tls_peer_fini(&t->peer);
	free(t->out);
	free(t);
}

/* With a write error EPOLLOUT comes at once, so that the end is found even if nothing else tells. */
uint32_t hf_tlsio_events(const struct hf_tlsio *t, bool wants_read, bool wants_write)
{
	uint32_t events = wants_read ? EPOLLIN : 0u;

	if (t->out_len > 0 || (wants_write && t->is_ready) || (t->write_error && wants_read))
		events |= EPOLLOUT;
	return events;
}

bool hf_tlsio_has_input(const struct hf_tlsio *t)
{
	return t->may_have_input;
}

static int read_records(struct hf_tlsio *t, uint8_t *buf, size_t size, size_t *total)
{
	while (*total < size) {
		size_t n;
		int result;

		ERR_clear_error();
		result = SSL_read_ex(t->ssl, buf + *total, size - *total, &n);
		if (result != 1)
			return judge(t, result);
		*total += n;
	}
	return 0;
}

int hf_tlsio_read(struct hf_tlsio *t, void *buf, size_t size, size_t *ret_n)
{
	size_t total = 0;
	int r = t->end;

	assert(size > 0);
	if (r == 0)
		r = shake_hands(t);
	if (r == 0)
		r = read_records(t, buf, size, &total);
	flush(t); /* the handshake's answer, or the word that refuses it */
	t->may_have_input = total > 0 && r != HF_FD_AGAIN;
	if (total == 0)
		return r;
	*ret_n = total;
	return 0;
}

int hf_tlsio_read_kept(struct hf_tlsio *t, void *buf, size_t size, size_t *ret_n)
{
	int r;

	t->is_apart = true;
	r = hf_tlsio_read(t, buf, size, ret_n);
	t->is_apart = false;
	return r;
}

/* ---- writing ---- */

/* Where the caller's bytes are taken from next. */
struct source {
	const struct iovec *iov;
	int n, i;
	size_t at; /* in iov[i] */
};

static void skip(struct source *src, size_t n)
{
	src->at += n;
	while (src->i < src->n && src->at == src->iov[src->i].iov_len) {
		src->i++;
		src->at = 0;
	}
}

/* The bytes of one record: where they lie if there are enough in one place, else put together. */
static const uint8_t *next_piece(struct hf_tlsio *t, struct source *src, size_t *ret_len)
{
	const uint8_t *at = (const uint8_t *)src->iov[src->i].iov_base + src->at;
	size_t len = src->iov[src->i].iov_len - src->at;
	size_t total = 0;

	if (len >= RECORD_BYTES || src->i + 1 == src->n) {
		*ret_len = len < RECORD_BYTES ? len : RECORD_BYTES;
		skip(src, *ret_len);
		return at;
	}
	while (src->i < src->n && total < RECORD_BYTES) {
		at = (const uint8_t *)src->iov[src->i].iov_base + src->at;
		len = src->iov[src->i].iov_len - src->at;
		if (len > RECORD_BYTES - total)
			len = RECORD_BYTES - total;
		memcpy(t->piece + total, at, len);
		total += len;
		skip(src, len);
	}
	*ret_len = total;
	return t->piece;
}

static int write_record(struct hf_tlsio *t, const uint8_t *data, size_t len)
{
	size_t n;
	int result;

	ERR_clear_error();
	if (t->sent_with_key >= t->rekey_bytes) {
		t->sent_with_key = 0;
		if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
			return judge(t, 0);
	}
	result = SSL_write_ex(t->ssl, data, len, &n);
	if (result != 1)
		return judge(t, result);
	assert(n == len); /* the BIO has taken it all */
	t->sent_with_key += len;
	return 0;
}

static int write_all(struct hf_tlsio *t, struct source *src, size_t *total)
{
	skip(src, 0); /* over empty pieces */
	while (src->i < src->n && t->out_len == 0 && !t->write_error) {
		while (src->i < src->n && t->out_len < OUT_FULL) {
			size_t len;
			const uint8_t *piece = next_piece(t, src, &len);
			int r = write_record(t, piece, len);

			if (r != 0)
				return r < 0 ? r : -EPIPE;
			*total += len;
		}
		flush(t);
	}
	return 0;
}

int hf_tlsio_writev(struct hf_tlsio *t, const struct iovec *iov, int n, size_t *ret_n)
{
	struct source src = { .iov = iov, .n = n };
	int r = 0;

	flush(t);
	*ret_n = 0;
	if (t->write_error)
		return t->write_error;
	if (t->end < 0)
		return t->end;
	if (!t->is_ready || t->out_len > 0)
		return HF_FD_AGAIN;
	r = write_all(t, &src, ret_n);
	if (*ret_n > 0 || n == 0)
		return 0;
	return r ? r : t->write_error ? t->write_error : HF_FD_AGAIN;
}

size_t hf_tlsio_unsent_bytes(const struct hf_tlsio *t)
{
	return t->out_len;
}

bool hf_tlsio_is_ready(const struct hf_tlsio *t)
{
	return t->is_ready;
}

const char *hf_tlsio_peer_name(const struct hf_tlsio *t)
{
	return t->is_ready ? t->peer.name : NULL;
}

bool hf_tlsio_peer_has_name(const struct hf_tlsio *t, const char *name)
{
	X509 *cert = t->is_ready ? SSL_get0_peer_certificate(t->ssl) : NULL;

	return cert && hf_x509_has_name(cert, name);
}

const char *hf_tlsio_error(const struct hf_tlsio *t)
{
	return t->peer.error.text;
}

void hf_tlsio_rekey_after(struct hf_tlsio *t, uint64_t bytes)
{
	t->rekey_bytes = bytes;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The folder becomes two SSL_CTX, one for each side. They are made anew when a file's identity has
 * changed (device, inode, size, times); connections keep the one that they began with. What cannot be
 * read takes nothing out of force: a renewal that is half copied must not cut hosts from each other.
 */
#include "sys/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sys/tls-internal.h"
#include "sys/x509.h"

#define CHAIN_DEPTH_MAX 4
#define PEER_CHAIN_BYTES_MAX ((size_t)64 * 1024)
#define READ_BUFFER_BYTES ((size_t)128 * 1024)

enum file { CA_CERT, CA_CRL, SERVER_CERT, SERVER_KEY, CLIENT_CERT, CLIENT_KEY, FILE_COUNT };

static const char *const file_names[FILE_COUNT] = {
	[CA_CERT] = "ca-cert.pem",         [CA_CRL] = "ca-crl.pem",
	[SERVER_CERT] = "server-cert.pem", [SERVER_KEY] = "server-key.pem",
	[CLIENT_CERT] = "client-cert.pem", [CLIENT_KEY] = "client-key.pem",
};

/* What says that a file is still the one that was read. */
struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec written, changed;
};

/* What is in force together. */
struct identity {
	SSL_CTX *ctx[2]; /* by enum hf_stream_side */
	int64_t until_s; /* the first end of all that is in the files */
	enum file first_to_end;
};

struct hf_tls {
	char dir[HF_ERR_MAX / 2 - 32];
	struct stamp stamps[FILE_COUNT]; /* of what was tried last */
	struct identity now;
	struct hf_err trouble; /* why what was tried last is not in force; "": it is */
};

static const char *path_of(const struct hf_tls *tls, enum file file, char buf[HF_ERR_MAX / 2])
{
	(void)snprintf(buf, HF_ERR_MAX / 2, "%s/%s", tls->dir, file_names[file]);
	return buf;
}

/* ---- one side ---- */

/* With AES in hardware nothing is faster, and nothing here needs keys for longer than the link lives. */
static const char *suites(void)
{
	bool has_aes = false;

#if defined(__x86_64__) || defined(__i386__)
	has_aes = __builtin_cpu_supports("aes");
#endif
	return has_aes ? "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
			 "TLS_CHACHA20_POLY1305_SHA256"
		       : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:"
			 "TLS_AES_256_GCM_SHA384";
}

static int make_ctx(enum hf_stream_side side, SSL_CTX **ret)
{
	SSL_CTX *ctx = SSL_CTX_new(side == HF_STREAM_ACCEPTED ? TLS_server_method()
							      : TLS_client_method());

	if (!ctx)
		return -ENOMEM;
	*ret = ctx;
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, suites()) != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1)
		return -ENOTSUP;
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
					       SSL_OP_NO_RENEGOTIATION);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_max_cert_list(ctx, PEER_CHAIN_BYTES_MAX);
	SSL_CTX_set_verify_depth(ctx, CHAIN_DEPTH_MAX);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_BYTES);
	hf_tls_verify_by_peer(ctx);
	return 0;
}

static int load_own(struct hf_tls *tls, SSL_CTX *ctx, enum file cert_file, enum file key_file,
		    struct hf_err *err)
{
	char cert_path[HF_ERR_MAX / 2], key_path[HF_ERR_MAX / 2];
	STACK_OF(X509) * chain;
	EVP_PKEY *key = NULL;
	X509 *cert;
	int r = hf_x509_read_all(path_of(tls, cert_file, cert_path), &chain, err);

	if (r < 0)
		return r;
	cert = sk_X509_shift(chain);
	r = hf_x509_read_key(path_of(tls, key_file, key_path), &key, err);
	if (r == 0 && X509_check_private_key(cert, key) != 1) {
		hf_err_set(err, "%s: this key does not belong to %s", key_path,
			   file_names[cert_file]);
		r = -EINVAL;
	} else if (r == 0 && SSL_CTX_use_cert_and_key(ctx, cert, key, chain, 1) != 1) {
		hf_err_set(err, "%s: cannot be used: %s", cert_path, hf_x509_reason());
		r = -EINVAL;
	}
	ERR_clear_error();
	X509_free(cert);
	EVP_PKEY_free(key);
	sk_X509_pop_free(chain, X509_free);
	return r;
}

/* ---- whom we trust ---- */

static void note_end(struct identity *id, int64_t until_s, enum file file)
{
	if (id->until_s != 0 && id->until_s <= until_s)
		return;
	id->until_s = until_s;
	id->first_to_end = file;
}

static int trust(struct hf_tls *tls, SSL_CTX *ctx, struct hf_err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	char path[HF_ERR_MAX / 2];
	STACK_OF(X509) * all;
	int r = hf_x509_read_all(path_of(tls, CA_CERT, path), &all, err);

	if (r < 0)
		return r;
	for (int i = 0; i < sk_X509_num(all) && r == 0; i++) {
		X509 *ca = sk_X509_value(all, i);

		if (X509_check_ca(ca) == 0) {
			hf_err_set(err, "%s: certificate number %d is not that of an authority",
				   path, i + 1);
			r = -EINVAL;
		} else if (X509_STORE_add_cert(store, ca) != 1 ||
			   SSL_CTX_add_client_CA(ctx, ca) != 1) {
			r = -ENOMEM;
		}
	}
	sk_X509_pop_free(all, X509_free);
	return r;
}

static int trust_not(struct hf_tls *tls, SSL_CTX *ctx, struct identity *id, struct hf_err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	char path[HF_ERR_MAX / 2];
	STACK_OF(X509_CRL) * all;
	int r;

	if (tls->stamps[CA_CRL].ino == 0)
		return 0;
	r = hf_x509_read_crls(path_of(tls, CA_CRL, path), &all, err);
	if (r < 0)
		return r;
	for (int i = 0; i < sk_X509_CRL_num(all) && r == 0; i++) {
		X509_CRL *crl = sk_X509_CRL_value(all, i);

		if (hf_x509_crl_until_s(crl) != 0)
			note_end(id, hf_x509_crl_until_s(crl), CA_CRL);
		if (X509_STORE_add_crl(store, crl) != 1)
			r = -ENOMEM;
	}
	sk_X509_CRL_pop_free(all, X509_CRL_free);
	if (r == 0 && X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) != 1)
		r = -ENOMEM;
	return r;
}

/* A certificate that our own authority would not accept is a mistake that is better found here than
 * by the peer. That time has passed over it is not: see hf_tls_note(). */
static int check_own(struct hf_tls *tls, SSL_CTX *ctx, enum file cert_file, struct hf_err *err)
{
	X509_STORE_CTX *check = X509_STORE_CTX_new();
	STACK_OF(X509) *chain = NULL;
	char path[HF_ERR_MAX / 2];
	int r = 0;

	(void)SSL_CTX_get0_chain_certs(ctx, &chain);
	if (!check || X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(ctx),
					  SSL_CTX_get0_certificate(ctx), chain) != 1) {
		r = -ENOMEM;
	} else {
		X509_STORE_CTX_set_flags(check, X509_V_FLAG_NO_CHECK_TIME);
		(void)X509_STORE_CTX_set_purpose(check, cert_file == SERVER_CERT
								? X509_PURPOSE_SSL_SERVER
								: X509_PURPOSE_SSL_CLIENT);
		if (X509_verify_cert(check) != 1) {
			hf_err_set(err, "%s: does not fit %s: %s", path_of(tls, cert_file, path),
				   file_names[CA_CERT],
				   X509_verify_cert_error_string(X509_STORE_CTX_get_error(check)));
			r = -EINVAL;
		}
	}
	X509_STORE_CTX_free(check);
	ERR_clear_error();
	return r;
}

/* ---- all of it ---- */

static void identity_fini(struct identity *id)
{
	for (int i = 0; i < 2; i++) {
		SSL_CTX_free(id->ctx[i]);
		id->ctx[i] = NULL;
	}
}

static int read_side(struct hf_tls *tls, struct identity *id, enum hf_stream_side side,
		     struct hf_err *err)
{
	enum file cert_file = side == HF_STREAM_ACCEPTED ? SERVER_CERT : CLIENT_CERT;
	enum file key_file = side == HF_STREAM_ACCEPTED ? SERVER_KEY : CLIENT_KEY;
	SSL_CTX *ctx;
	int r = make_ctx(side, &id->ctx[side]);

	ctx = id->ctx[side];
	if (r == 0)
		r = trust(tls, ctx, err);
	if (r == 0)
		r = load_own(tls, ctx, cert_file, key_file, err);
	if (r == 0)
		r = trust_not(tls, ctx, id, err);
	if (r == 0)
		r = check_own(tls, ctx, cert_file, err);
	if (r == 0)
		note_end(id, hf_x509_until_s(SSL_CTX_get0_certificate(ctx)), cert_file);
	return r;
}

static int note_authorities(struct hf_tls *tls, struct identity *id, struct hf_err *err)
{
	char path[HF_ERR_MAX / 2];
	STACK_OF(X509) * all;
	int r = hf_x509_read_all(path_of(tls, CA_CERT, path), &all, err);

	if (r < 0)
		return r;
	for (int i = 0; i < sk_X509_num(all); i++)
		note_end(id, hf_x509_until_s(sk_X509_value(all, i)), CA_CERT);
	sk_X509_pop_free(all, X509_free);
	return 0;
}

static int read_identity(struct hf_tls *tls, struct identity *ret, struct hf_err *err)
{
	struct identity id = { .until_s = 0 };
	int r = note_authorities(tls, &id, err);

	if (r == 0)
		r = read_side(tls, &id, HF_STREAM_ACCEPTED, err);
	if (r == 0)
		r = read_side(tls, &id, HF_STREAM_DIALLED, err);
	if (r < 0) {
		if (!err->text[0])
			hf_err_set(err, "%s: cannot be used for TLS: %s", tls->dir, strerror(-r));
		identity_fini(&id);
		return r;
	}
	*ret = id;
	return 0;
}

/* Has any file become another one? */
static bool has_changed(struct hf_tls *tls)
{
	bool is_changed = false;

	for (unsigned int i = 0; i < FILE_COUNT; i++) {
		char path[HF_ERR_MAX / 2];
		struct stamp now;
		struct stat st;

		memset(&now, 0, sizeof(now));
		if (stat(path_of(tls, (enum file)i, path), &st) == 0) {
			now.dev = st.st_dev;
			now.ino = st.st_ino;
			now.size = st.st_size;
			now.written = st.st_mtim;
			now.changed = st.st_ctim;
		}
		if (memcmp(&now, &tls->stamps[i], sizeof(now)) == 0)
			continue;
		tls->stamps[i] = now;
		is_changed = true;
	}
	return is_changed;
}

static int look_again(struct hf_tls *tls)
{
	struct identity fresh;
	int r;

	if (!has_changed(tls))
		return 0;
	tls->trouble.text[0] = '\0';
	r = read_identity(tls, &fresh, &tls->trouble);
	if (r < 0)
		return r;
	identity_fini(&tls->now);
	tls->now = fresh;
	return 0;
}

int hf_tls_new(const char *dir, struct hf_tls **ret, struct hf_err *err)
{
	struct hf_tls *tls;
	int r;

	if (strlen(dir) >= sizeof(tls->dir)) {
		hf_err_set(err, "the folder's name is too long for certificates: %.60s...", dir);
		return -ENAMETOOLONG;
	}
	tls = calloc(1, sizeof(*tls));
	if (!tls)
		return -ENOMEM;
	(void)snprintf(tls->dir, sizeof(tls->dir), "%s", dir);
	(void)has_changed(tls);
	r = read_identity(tls, &tls->now, &tls->trouble);
	if (r < 0) {
		hf_err_set(err, "%s", tls->trouble.text);
		free(tls);
		return r;
	}
	*ret = tls;
	return 0;
}

void hf_tls_free(struct hf_tls *tls)
{
	if (!tls)
		return;
	identity_fini(&tls->now);
	free(tls);
}

const char *hf_tls_folder(const struct hf_tls *tls)
{
	return tls->dir;
}

int hf_tls_days_left(const struct hf_tls *tls)
{
	return hf_x509_days_until(tls->now.until_s);
}

bool hf_tls_note(struct hf_tls *tls, struct hf_err *ret)
{
	char path[HF_ERR_MAX / 2];
	int days;

	if (look_again(tls) < 0 || tls->trouble.text[0]) {
		hf_err_set(ret, "%s; what was read before stays in force", tls->trouble.text);
		return true;
	}
	days = hf_tls_days_left(tls);
	if (days >= HF_TLS_WARN_DAYS)
		return false;
	(void)path_of(tls, tls->now.first_to_end, path);
	if (days < 0)
		hf_err_set(ret, "%s expired %d days ago: no new connection comes about with it",
			   path, -days);
	else
		hf_err_set(ret, "%s expires in %d days", path, days);
	return true;
}

int hf_tls_connection(struct hf_tls *tls, enum hf_stream_side side, struct hf_tls_peer *peer,
		      SSL **ret, struct hf_err *err)
{
	SSL *ssl;

	(void)!look_again(tls);
	assert(tls->now.ctx[side]);
	(void)path_of(tls, side == HF_STREAM_ACCEPTED ? SERVER_CERT : CLIENT_CERT, peer->own_file);
	ssl = SSL_new(tls->now.ctx[side]);
	if (!ssl) {
		hf_err_set(err, "no memory for TLS");
		return -ENOMEM;
	}
	hf_tls_set_peer(ssl, peer);
	if (side == HF_STREAM_ACCEPTED)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	*ret = ssl;
	return 0;
}

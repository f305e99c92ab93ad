/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between tls.c (the folder), tls-verify.c (is it the peer?) and stream-tls.c (bytes). Layer: sys. */
#pragma once

#include <openssl/ssl.h>

#include "base/error.h"
#include "sys/stream.h"
#include "sys/tls.h"

/* Whom we expect at the other end, and what became of that. One for each connection. */
struct hf_tls_peer {
	char *names[HF_STREAM_NAMES_MAX];
	unsigned int n_names;
	const char *name; /* of names: the peer has proven to be it */
	char own_file[HF_ERR_MAX / 2]; /* the certificate that we show */
	struct hf_err error; /* why it is not; "": nothing is wrong so far */
};

/* -E2BIG: more than HF_STREAM_NAMES_MAX; -EINVAL: none; -ENOMEM. Release in each case. */
int hf_tls_peer_init(struct hf_tls_peer *peer, const char *const *names) HF_MUST_CHECK;
void hf_tls_peer_fini(struct hf_tls_peer *peer);

/* A new connection with what the folder holds now. @peer: borrowed as long as the SSL lives. */
int hf_tls_connection(struct hf_tls *tls, enum hf_stream_side side, struct hf_tls_peer *peer,
		      SSL **ret, struct hf_err *err) HF_MUST_CHECK;

/* Makes connections of @ctx verify by their struct hf_tls_peer. */
void hf_tls_verify_by_peer(SSL_CTX *ctx);
void hf_tls_set_peer(SSL *ssl, struct hf_tls_peer *peer);

/* Says in peer->error what OpenSSL's error queue holds, unless it is said already. */
void hf_tls_explain(struct hf_tls_peer *peer);

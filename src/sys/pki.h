/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small authority: keys, certificates and revocation lists made and written. Layer: sys. Any thread.
 * Allocates; blocks for reading and writing files. For people: `holdfast pki`, docs/tls.md.
 * Keys are EC P-256; signatures SHA-256.
 */
#pragma once

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum hf_pki_kind {
	HF_PKI_AUTHORITY, /* signs certificates and revocation lists */
	HF_PKI_SERVER, /* for server-cert.pem */
	HF_PKI_CLIENT, /* for client-cert.pem */
	HF_PKI_BOTH,
};

/* What is to stand in a certificate. */
struct hf_pki_request {
	enum hf_pki_kind kind;
	const char *common_name; /* for people; at most 64 bytes */
	const char *const *names; /* NULL-terminated DNS names and addresses as text; NULL: none */
	int64_t from_s, until_s; /* since 1970, UTC */
};

/* EVP_PKEY_free() it. 0; -ENOMEM; -EIO with @err. */
int hf_pki_new_key(EVP_PKEY **ret, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_pki_sign() - a certificate over @key's public half
 * @ca, @ca_key: who signs; @ca NULL: it signs itself
 * Return: 0; -EINVAL with @err: a name that is neither a DNS name nor an address; -EIO with @err.
 */
int hf_pki_sign(const struct hf_pki_request *rq, EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key,
		X509 **ret, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_pki_revoke() - a revocation list with all of @old and the serial number of @cert
 * @old: NULL: there is none yet
 * @cert: NULL: nothing is added
 * It counts until @ca ends. Return: 0; -EEXIST with @err: revoked already; -EIO with @err.
 */
int hf_pki_revoke(X509 *ca, EVP_PKEY *ca_key, X509_CRL *old, X509 *cert, X509_CRL **ret,
		  struct hf_err *err) HF_MUST_CHECK;

/* Is this a name that hf_pki_sign() takes? */
bool hf_pki_is_name(const char *name);

/*
 * Writing: into a file beside it, then renamed, so that a reader finds the old or the new one, whole.
 * Without @is_forced a file that exists is left alone: -EEXIST with @err. Keys get mode 0600, the
 * others 0644. 0 or -errno with @err.
 */
int hf_pki_write_key(const char *path, EVP_PKEY *key, bool is_forced,
		     struct hf_err *err) HF_MUST_CHECK;
int hf_pki_write_certificate(const char *path, X509 *cert, bool is_forced,
			     struct hf_err *err) HF_MUST_CHECK;
int hf_pki_write_crl(const char *path, X509_CRL *crl, bool is_forced,
		     struct hf_err *err) HF_MUST_CHECK;

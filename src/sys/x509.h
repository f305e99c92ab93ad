/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * X.509 certificates, keys and revocation lists in PEM files: reading them with errors that name the
 * file, and what stands in them. Layer: sys. Any thread. Blocks for reading; allocates.
 */
#pragma once

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"

/* Largest file that is read. */
#define HF_X509_FILE_MAX ((size_t)1024 * 1024)
/* Room for hf_x509_names(). */
#define HF_X509_NAMES_TEXT 200
/* Room for hf_x509_date(): "2026-01-31". */
#define HF_X509_DATE_TEXT 16

/* Certificates in the order of the file, at least one; release with sk_X509_pop_free(x, X509_free).
 * 0; -ENOENT and other -errno with @err. */
int hf_x509_read_all(const char *path, STACK_OF(X509) * *ret, struct hf_err *err) HF_MUST_CHECK;

/* The first one of the file. */
int hf_x509_read(const char *path, X509 **ret, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_x509_read_key() - a private key without a passphrase
 * Return: 0; -EACCES: the file is not ours or root's, or others may read or write it, or its group may
 * write it; other -errno; with @err.
 */
int hf_x509_read_key(const char *path, EVP_PKEY **ret, struct hf_err *err) HF_MUST_CHECK;

/* Revocation lists, at least one; sk_X509_CRL_pop_free(x, X509_CRL_free). */
int hf_x509_read_crls(const char *path, STACK_OF(X509_CRL) * *ret,
		      struct hf_err *err) HF_MUST_CHECK;

/* Does it name @name in subjectAltName? IP addresses as text are compared with addresses, all else
 * with DNS names; neither the subject nor wildcards count. */
bool hf_x509_has_name(X509 *cert, const char *name);

/* "hosta, hosta.example, 10.0.0.1" from subjectAltName, cut to fit; "no name" if there is none. Of
 * printable ASCII. Returns @buf. */
const char *hf_x509_names(X509 *cert, char *buf, size_t size);

/* Seconds since 1970. */
int64_t hf_x509_from_s(const X509 *cert);
int64_t hf_x509_until_s(const X509 *cert);
/* Until when a revocation list counts; 0: for ever. */
int64_t hf_x509_crl_until_s(const X509_CRL *crl);

/* The day of @time_s, UTC. Returns @buf. */
const char *hf_x509_date(int64_t time_s, char buf[HF_X509_DATE_TEXT]);

/* Whole days from now until @time_s; negative when that is over. */
int hf_x509_days_until(int64_t time_s);

/* What OpenSSL last complained of in this thread, as words; forgets it. */
const char *hf_x509_reason(void);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/pki.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/x509.h"

#define SERIAL_BITS 127
#define DNS_NAME_MAX 253
#define DNS_LABEL_MAX 63
#define NAMES_TEXT_MAX 4096

static int failed(const char *what, struct hf_err *err)
{
	hf_err_set(err, "%s: %s", what, hf_x509_reason());
	return -EIO;
}

int hf_pki_new_key(EVP_PKEY **ret, struct hf_err *err)
{
	ERR_clear_error();
	*ret = EVP_EC_gen("P-256");
	return *ret ? 0 : failed("no key can be made", err);
}

/* ---- names ---- */

static bool is_address(const char *name)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static bool is_label_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_';
}

bool hf_pki_is_name(const char *name)
{
	size_t label = 0, len = strlen(name);

	if (is_address(name))
		return true;
	if (len == 0 || len > DNS_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (name[i] == '.' && label == 0)
			return false;
		if (name[i] != '.' && !is_label_char(name[i]))
			return false;
		label = name[i] == '.' ? 0 : label + 1;
		if (label > DNS_LABEL_MAX)
			return false;
	}
	return label > 0;
}

/* "DNS:a,IP:10.0.0.1". Names hold neither ',' nor ':' but for addresses, which X509V3 takes. */
static int format_names(const char *const *names, char buf[NAMES_TEXT_MAX], struct hf_err *err)
{
	size_t at = 0;

	for (size_t i = 0; names[i]; i++) {
		int n;

		if (!hf_pki_is_name(names[i])) {
			hf_err_set(err, "'%.64s' is neither a host's name nor an IP address",
				   names[i]);
			return -EINVAL;
		}
		n = snprintf(buf + at, NAMES_TEXT_MAX - at, "%s%s:%s", i ? "," : "",
			     is_address(names[i]) ? "IP" : "DNS", names[i]);
		if (n < 0 || (size_t)n >= NAMES_TEXT_MAX - at) {
			hf_err_set(err, "too many names for one certificate");
			return -EINVAL;
		}
		at += (size_t)n;
	}
	return 0;
}

/* ---- certificates ---- */

static bool add_extension(X509 *cert, X509 *ca, int nid, const char *value)
{
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	bool is_added;

	X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	is_added = ext && X509_add_ext(cert, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return is_added;
}

static bool add_purpose(X509 *cert, X509 *ca, enum hf_pki_kind kind)
{
	static const char *const purpose[] = {
		[HF_PKI_SERVER] = "serverAuth",
		[HF_PKI_CLIENT] = "clientAuth",
		[HF_PKI_BOTH] = "serverAuth,clientAuth",
	};

	if (kind == HF_PKI_AUTHORITY)
		return add_extension(cert, ca, NID_basic_constraints, "critical,CA:TRUE") &&
		       add_extension(cert, ca, NID_key_usage, "critical,keyCertSign,cRLSign");
	return add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") &&
	       add_extension(cert, ca, NID_ext_key_usage, purpose[kind]);
}

static bool add_extensions(X509 *cert, X509 *ca, const struct hf_pki_request *rq, const char *names)
{
	return add_purpose(cert, ca, rq->kind) &&
	       add_extension(cert, ca, NID_subject_key_identifier, "hash") &&
	       add_extension(cert, ca, NID_authority_key_identifier, "keyid:always") &&
	       (!*names || add_extension(cert, ca, NID_subject_alt_name, names));
}

/* Random, so that no counter has to be kept. */
static bool set_serial(X509 *cert)
{
	BIGNUM *bn = BN_new();
	bool is_set = bn && BN_rand(bn, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
		      BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert));

	BN_free(bn);
	return is_set;
}

static bool set_times(X509 *cert, int64_t from_s, int64_t until_s)
{
	return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from_s) &&
	       ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)until_s);
}

static bool set_subject(X509 *cert, const char *common_name)
{
	return X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
					  (const unsigned char *)common_name, -1, -1, 0) == 1;
}

int hf_pki_sign(const struct hf_pki_request *rq, EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key,
		X509 **ret, struct hf_err *err)
{
	char names[NAMES_TEXT_MAX] = "";
	X509 *cert, *issuer;
	int r = rq->names ? format_names(rq->names, names, err) : 0;

	if (r < 0)
		return r;
	ERR_clear_error();
	cert = X509_new();
	issuer = ca ? ca : cert;
	if (cert && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
	    set_times(cert, rq->from_s, rq->until_s) && set_subject(cert, rq->common_name) &&
	    X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1 &&
	    X509_set_pubkey(cert, key) == 1 && add_extensions(cert, issuer, rq, names) &&
	    X509_sign(cert, ca ? ca_key : key, EVP_sha256()) > 0) {
		*ret = cert;
		return 0;
	}
	X509_free(cert);
	return failed("no certificate can be made", err);
}

/* ---- revocation ---- */

static bool add_revoked(X509_CRL *crl, X509 *cert)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_TIME *now = ASN1_TIME_set(NULL, time(NULL));
	bool is_added = entry && now &&
			X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(cert)) == 1 &&
			X509_REVOKED_set_revocationDate(entry, now) == 1 &&
			X509_CRL_add0_revoked(crl, entry) == 1;

	if (!is_added)
		X509_REVOKED_free(entry);
	ASN1_TIME_free(now);
	return is_added;
}

static bool copy_revoked(X509_CRL *crl, X509_CRL *old)
{
	STACK_OF(X509_REVOKED) *all = old ? X509_CRL_get_REVOKED(old) : NULL;

	for (int i = 0; i < sk_X509_REVOKED_num(all); i++) {
		X509_REVOKED *entry = X509_REVOKED_dup(sk_X509_REVOKED_value(all, i));

		if (!entry || X509_CRL_add0_revoked(crl, entry) != 1) {
			X509_REVOKED_free(entry);
			return false;
		}
	}
	return true;
}

static bool sign_crl(X509_CRL *crl, X509 *ca, EVP_PKEY *ca_key)
{
	ASN1_TIME *now = ASN1_TIME_set(NULL, time(NULL));
	bool is_signed = now && X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1 &&
			 X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca)) == 1 &&
			 X509_CRL_set1_lastUpdate(crl, now) == 1 &&
			 X509_CRL_set1_nextUpdate(crl, X509_get0_notAfter(ca)) == 1 &&
			 X509_CRL_sort(crl) == 1 && X509_CRL_sign(crl, ca_key, EVP_sha256()) > 0;

	ASN1_TIME_free(now);
	return is_signed;
}

int hf_pki_revoke(X509 *ca, EVP_PKEY *ca_key, X509_CRL *old, X509 *cert, X509_CRL **ret,
		  struct hf_err *err)
{
	X509_REVOKED *found;
	X509_CRL *crl;

	ERR_clear_error();
	if (old && cert && X509_CRL_get0_by_cert(old, &found, cert) == 1) {
		hf_err_set(err, "it has been revoked already");
		return -EEXIST;
	}
	crl = X509_CRL_new();
	if (crl && copy_revoked(crl, old) && (!cert || add_revoked(crl, cert)) &&
	    sign_crl(crl, ca, ca_key)) {
		*ret = crl;
		return 0;
	}
	X509_CRL_free(crl);
	return failed("no revocation list can be made", err);
}

/* ---- files ---- */

static int write_whole(int fd, BIO *text)
{
	char *data;
	long len = BIO_get_mem_data(text, &data);

	while (len > 0) {
		ssize_t n = write(fd, data, (size_t)len);

		if (n < 0 && errno != EINTR)
			return -errno;
		data += n > 0 ? n : 0;
		len -= n > 0 ? n : 0;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int put_in_place(const char *temporary, const char *path, bool is_forced)
{
	if (is_forced)
		return rename(temporary, path) < 0 ? -errno : 0;
	return link(temporary, path) < 0 ? -errno : 0; /* unlike rename() it replaces nothing */
}

static int write_file(const char *path, BIO *text, mode_t mode, bool is_forced, struct hf_err *err)
{
	char temporary[4096];
	int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
	int fd = n > 0 && (size_t)n < sizeof(temporary) ? mkostemp(temporary, O_CLOEXEC) : -1;
	int r = fd < 0 ? -errno : 0;

	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0)
		r = write_whole(fd, text);
	if (r == 0)
		r = put_in_place(temporary, path, is_forced);
	if (fd >= 0 && (r < 0 || !is_forced))
		(void)unlink(temporary);
	hf_fd_close(&fd);
	if (r == -EEXIST)
		hf_err_set(err, "%s: exists already and is left as it is", path);
	else if (r < 0)
		hf_err_set(err, "%s: cannot be written: %s", path, strerror(-r));
	return r;
}

/* Takes @text; @is_written: it could be made. */
static int put_out(const char *path, BIO *text, bool is_written, mode_t mode, bool is_forced,
		   struct hf_err *err)
{
	int r = is_written ? write_file(path, text, mode, is_forced, err) : failed(path, err);

	BIO_free(text);
	return r;
}

int hf_pki_write_key(const char *path, EVP_PKEY *key, bool is_forced, struct hf_err *err)
{
	BIO *text = BIO_new(BIO_s_secmem());
	bool is_written = text &&
			  PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) == 1;

	return put_out(path, text, is_written, 0600, is_forced, err);
}

int hf_pki_write_certificate(const char *path, X509 *cert, bool is_forced, struct hf_err *err)
{
	BIO *text = BIO_new(BIO_s_mem());
	bool is_written = text && PEM_write_bio_X509(text, cert) == 1;

	return put_out(path, text, is_written, 0644, is_forced, err);
}

int hf_pki_write_crl(const char *path, X509_CRL *crl, bool is_forced, struct hf_err *err)
{
	BIO *text = BIO_new(BIO_s_mem());
	bool is_written = text && PEM_write_bio_X509_CRL(text, crl) == 1;

	return put_out(path, text, is_written, 0644, is_forced, err);
}

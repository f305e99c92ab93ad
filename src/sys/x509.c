/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/x509.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sys/fd.h"

#define DAY_S 86400

const char *hf_x509_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return reason ? reason : "unknown";
}

/* ---- files ---- */

static int check_owner(const char *path, const struct stat *st, struct hf_err *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		hf_err_set(err, "%s: a private key must belong to root or to uid %u, not to uid %u",
			   path, (unsigned int)geteuid(), (unsigned int)st->st_uid);
		return -EACCES;
	}
	if (st->st_mode & (S_IRWXO | S_IWGRP | S_IXGRP)) {
		hf_err_set(err,
			   "%s: others can read or change this private key (mode %04o); it is to "
			   "be 0600, and the key is to be made anew",
			   path, (unsigned int)st->st_mode & 07777);
		return -EACCES;
	}
	return 0;
}

static int read_fd(int fd, BIO *into)
{
	char buf[16384];
	size_t total = 0;

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		total += (size_t)n;
		if (total > HF_X509_FILE_MAX)
			return -EFBIG;
		if (BIO_write(into, buf, (int)n) != n)
			return -ENOMEM;
	}
}

static int load(const char *path, bool is_secret, BIO **ret, struct hf_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	BIO *bio = NULL;
	struct stat st = { .st_size = 0 };
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EINVAL;
	if (r == 0 && is_secret) {
		r = check_owner(path, &st, err);
		if (r < 0) {
			hf_fd_close(&fd);
			return r;
		}
	}
	if (r == 0) {
		bio = BIO_new(is_secret ? BIO_s_secmem() : BIO_s_mem());
		r = bio ? read_fd(fd, bio) : -ENOMEM;
	}
	hf_fd_close(&fd);
	if (r < 0) {
		BIO_free(bio);
		hf_err_set(err, "%s: %s", path, r == -EINVAL ? "is no file" : strerror(-r));
		return r;
	}
	*ret = bio;
	return 0;
}

/* Without it OpenSSL would ask on the terminal. */
static int no_passphrase(char *buf __attribute__((unused)), int size __attribute__((unused)),
			 int is_writing __attribute__((unused)), void *ctx __attribute__((unused)))
{
	return -1;
}

/* After the last object of a file the parser finds no further start: that alone is no error. */
static bool is_end_of_pem(void)
{
	unsigned long e = ERR_peek_last_error();

	if (ERR_GET_LIB(e) != ERR_LIB_PEM || ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
		return false;
	ERR_clear_error();
	return true;
}

static int complain(const char *path, int n, const char *what, struct hf_err *err)
{
	if (n == 0)
		hf_err_set(err, "%s: holds no %s in PEM format", path, what);
	else
		hf_err_set(err, "%s: %s number %d is damaged: %s", path, what, n, hf_x509_reason());
	return -EINVAL;
}

/* Takes what @bio has next, of one kind, onto the stack @to. False: it has none, or none that can be read. */
typedef bool take_next(BIO *bio, void *to);

static int read_pem(const char *path, const char *what, take_next *take, void *to,
		    struct hf_err *err)
{
	BIO *bio;
	int n = 0, r = to ? load(path, /* is_secret= */ false, &bio, err) : -ENOMEM;

	if (r < 0)
		return r;
	ERR_clear_error();
	while (take(bio, to))
		n++;
	BIO_free(bio);
	if (!is_end_of_pem())
		return complain(path, n + 1, what, err);
	return n > 0 ? 0 : complain(path, 0, what, err);
}

static bool take_certificate(BIO *bio, void *to)
{
	X509 *x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);

	return x && sk_X509_push(to, x) > 0;
}

static bool take_crl(BIO *bio, void *to)
{
	X509_CRL *x = PEM_read_bio_X509_CRL(bio, NULL, no_passphrase, NULL);

	return x && sk_X509_CRL_push(to, x) > 0;
}

int hf_x509_read_all(const char *path, STACK_OF(X509) * *ret, struct hf_err *err)
{
	STACK_OF(X509) *all = sk_X509_new_null();
	int r = read_pem(path, "certificate", take_certificate, all, err);

	if (r < 0)
		sk_X509_pop_free(all, X509_free);
	else
		*ret = all;
	return r;
}

int hf_x509_read(const char *path, X509 **ret, struct hf_err *err)
{
	STACK_OF(X509) * all;
	int r = hf_x509_read_all(path, &all, err);

	if (r < 0)
		return r;
	*ret = sk_X509_shift(all);
	sk_X509_pop_free(all, X509_free);
	return 0;
}

int hf_x509_read_crls(const char *path, STACK_OF(X509_CRL) * *ret, struct hf_err *err)
{
	STACK_OF(X509_CRL) *all = sk_X509_CRL_new_null();
	int r = read_pem(path, "revocation list", take_crl, all, err);

	if (r < 0)
		sk_X509_CRL_pop_free(all, X509_CRL_free);
	else
		*ret = all;
	return r;
}

int hf_x509_read_key(const char *path, EVP_PKEY **ret, struct hf_err *err)
{
	EVP_PKEY *key;
	BIO *bio;
	int r = load(path, /* is_secret= */ true, &bio, err);

	if (r < 0)
		return r;
	ERR_clear_error();
	key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	if (key) {
		*ret = key;
		return 0;
	}
	hf_err_set(err,
		   "%s: no private key can be read: it is not in PEM format, is damaged, or has a "
		   "passphrase",
		   path);
	ERR_clear_error();
	return -EINVAL;
}

/* ---- names ---- */

static bool is_ip(const char *name)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

bool hf_x509_has_name(X509 *cert, const char *name)
{
	unsigned int flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS;

	if (!*name)
		return false;
	if (is_ip(name))
		return X509_check_ip_asc(cert, name, flags) == 1;
	return X509_check_host(cert, name, strlen(name), flags, NULL) == 1;
}

/* Of foreign bytes only what can do no harm in a log. */
static void add_text(char *buf, size_t size, const unsigned char *text, size_t len)
{
	size_t at = strlen(buf);

	if (at > 0 && at + 3 >= size)
		return;
	if (at > 0) {
		buf[at++] = ',';
		buf[at++] = ' ';
	}
	for (size_t i = 0; i < len && at + 1 < size; i++)
		buf[at++] = (char)(text[i] > ' ' && text[i] < 0x7f ? text[i] : '?');
	buf[at] = '\0';
}

static void add_name(char *buf, size_t size, const GENERAL_NAME *name)
{
	char ip[INET6_ADDRSTRLEN];
	int type;
	const ASN1_STRING *s = GENERAL_NAME_get0_value(name, &type);
	const unsigned char *bytes;
	int len;

	if (type != GEN_DNS && type != GEN_IPADD)
		return;
	bytes = ASN1_STRING_get0_data(s);
	len = ASN1_STRING_length(s);
	if (type == GEN_DNS)
		add_text(buf, size, bytes, (size_t)len);
	else if ((len == 4 || len == 16) &&
		 inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, ip, sizeof(ip)))
		add_text(buf, size, (const unsigned char *)ip, strlen(ip));
}

const char *hf_x509_names(X509 *cert, char *buf, size_t size)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

	buf[0] = '\0';
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
		add_name(buf, size, sk_GENERAL_NAME_value(names, i));
	GENERAL_NAMES_free(names);
	if (!buf[0])
		(void)snprintf(buf, size, "no name");
	return buf;
}

/* ---- times ---- */

static int64_t seconds_of(const ASN1_TIME *time)
{
	struct tm tm;

	return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int64_t hf_x509_from_s(const X509 *cert)
{
	return seconds_of(X509_get0_notBefore(cert));
}

int64_t hf_x509_until_s(const X509 *cert)
{
	return seconds_of(X509_get0_notAfter(cert));
}

int64_t hf_x509_crl_until_s(const X509_CRL *crl)
{
	const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);

	return next ? seconds_of(next) : 0;
}

const char *hf_x509_date(int64_t time_s, char buf[HF_X509_DATE_TEXT])
{
	time_t t = (time_t)time_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(buf, HF_X509_DATE_TEXT, "%Y-%m-%d", &tm) == 0)
		(void)snprintf(buf, HF_X509_DATE_TEXT, "?");
	return buf;
}

int hf_x509_days_until(int64_t time_s)
{
	int64_t left_s = time_s - (int64_t)time(NULL);
	int64_t days = left_s >= 0 ? left_s / DAY_S : -((-left_s + DAY_S - 1) / DAY_S);

	return days > INT32_MAX ? INT32_MAX : days < INT32_MIN ? INT32_MIN : (int)days;
}

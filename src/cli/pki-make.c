/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast pki init, host, revoke. What is there already is left alone without --force: it is looked
 * for before anything is written, and each write refuses it again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/pki-verbs.h"
#include "sys/pki.h"

#define DAY_S 86400
/* Clocks of hosts differ a little. */
#define BACKDATED_S 3600
#define COMMON_NAME_MAX 64

struct authority {
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509_CRL) * crls; /* NULL: none */
	char crl_path[PATH_MAX];
};

static void authority_fini(struct authority *a)
{
	X509_free(a->cert);
	EVP_PKEY_free(a->key);
	sk_X509_CRL_pop_free(a->crls, X509_CRL_free);
}

static int authority_open(const char *dir, struct authority *a, struct hf_err *err)
{
	char path[PATH_MAX];
	int r = hf_pki_path(path, dir, "ca-cert.pem", err);

	*a = (struct authority){ .cert = NULL };
	if (r == 0)
		r = hf_x509_read(path, &a->cert, err);
	if (r == -ENOENT)
		hf_err_prefix(err, "no authority, see `holdfast pki init`");
	if (r == 0)
		r = hf_pki_path(path, dir, "ca-key.pem", err);
	if (r == 0)
		r = hf_x509_read_key(path, &a->key, err);
	if (r == 0 && X509_check_private_key(a->cert, a->key) != 1) {
		hf_err_set(err, "%s: does not belong to ca-cert.pem", path);
		r = -EINVAL;
	}
	if (r == 0)
		r = hf_pki_path(a->crl_path, dir, "ca-crl.pem", err);
	if (r == 0 && access(a->crl_path, F_OK) == 0)
		r = hf_x509_read_crls(a->crl_path, &a->crls, err);
	return r;
}

static int make_folder(const char *path, mode_t mode, struct hf_err *err)
{
	char parent[PATH_MAX];
	char *slash;

	if (mkdir(path, mode) == 0 || errno == EEXIST)
		return 0;
	(void)snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (errno == ENOENT && slash && slash != parent) {
		*slash = '\0'; /* one level above, /etc/pki as a rule */
		if ((mkdir(parent, 0755) == 0 || errno == EEXIST) && mkdir(path, mode) == 0)
			return 0;
	}
	hf_err_set(err, "the folder %s cannot be made: %s", path, strerror(errno));
	return -errno;
}

static int check_absent(const struct hf_pki_options *o, const char *path, struct hf_err *err)
{
	if (o->is_forced || access(path, F_OK) < 0)
		return 0;
	hf_err_set(err, "%s: exists already; --force makes a new one", path);
	return -EEXIST;
}

static void set_times(const struct hf_pki_options *o, uint64_t days, struct hf_pki_request *rq)
{
	rq->from_s = o->from_s ? o->from_s : (int64_t)time(NULL) - BACKDATED_S;
	rq->until_s = rq->from_s + (int64_t)(o->days ? o->days : days) * DAY_S;
}

/* ---- init ---- */

static int init(const struct hf_pki_options *o, struct hf_err *err)
{
	struct hf_pki_request rq = { .kind = HF_PKI_AUTHORITY,
				     .common_name = o->name ? o->name : "holdfast" };
	char cert_path[PATH_MAX], key_path[PATH_MAX];
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	int r = hf_pki_path(cert_path, o->word, "ca-cert.pem", err);

	if (strlen(rq.common_name) > COMMON_NAME_MAX || !*rq.common_name) {
		hf_err_set(err, "--name: from 1 to %d bytes", COMMON_NAME_MAX);
		return -EINVAL;
	}
	if (r == 0)
		r = hf_pki_path(key_path, o->word, "ca-key.pem", err);
	if (r == 0)
		r = check_absent(o, cert_path, err);
	if (r == 0)
		r = check_absent(o, key_path, err);
	if (r == 0)
		r = make_folder(o->word, 0700, err);
	set_times(o, HF_PKI_AUTHORITY_DAYS, &rq);
	if (r == 0)
		r = hf_pki_new_key(&key, err);
	if (r == 0)
		r = hf_pki_sign(&rq, key, NULL, NULL, &cert, err);
	if (r == 0)
		r = hf_pki_write_key(key_path, key, o->is_forced, err);
	if (r == 0)
		r = hf_pki_write_certificate(cert_path, cert, o->is_forced, err);
	EVP_PKEY_free(key);
	X509_free(cert);
	return r;
}

int hf_pki_init_run(const struct hf_pki_options *o)
{
	struct hf_err err = { "" };

	if (init(o, &err) < 0)
		return hf_pki_complain(o, &err);
	printf("%s is the authority now. Keep ca-key.pem secret and off the hosts.\n"
	       "Next: holdfast pki host NAME --address ADDRESS --dir %s\n",
	       o->word, o->word);
	return HF_PKI_EXIT_DONE;
}

/* ---- host ---- */

struct host {
	char folder[PATH_MAX];
	const char *names[HF_PKI_ADDRESSES_MAX + 2];
	struct authority ca;
};

/* Also the name of a folder, so no '/' and no "..". */
static int check_name(const char *name, struct hf_err *err)
{
	if (hf_pki_is_name(name) && strlen(name) <= COMMON_NAME_MAX)
		return 0;
	hf_err_set(err, "'%.64s' is no host's name: letters, digits, '-', '_' and '.', up to %d",
		   name, COMMON_NAME_MAX);
	return -EINVAL;
}

static int host_open(const struct hf_pki_options *o, struct host *h, struct hf_err *err)
{
	int r = check_name(o->word, err);

	*h = (struct host){ .names = { o->word } };
	for (size_t i = 0; i < o->n_addresses; i++)
		h->names[i + 1] = o->addresses[i];
	if (r == 0)
		r = o->into ? hf_pki_path(h->folder, o->into, ".", err)
			    : hf_pki_path(h->folder, o->dir, o->word, err);
	if (r == 0 && o->into)
		h->folder[strlen(o->into)] = '\0';
	if (r == 0)
		r = authority_open(o->dir, &h->ca, err);
	return r;
}

static int make_pair(const struct hf_pki_options *o, struct host *h, enum hf_pki_kind kind,
		     struct hf_err *err)
{
	bool is_server = kind == HF_PKI_SERVER;
	struct hf_pki_request rq = { .kind = kind, .common_name = o->word, .names = h->names };
	char cert_path[PATH_MAX], key_path[PATH_MAX];
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	int r = hf_pki_path(cert_path, h->folder, is_server ? "server-cert.pem" : "client-cert.pem",
			    err);

	if (r == 0)
		r = hf_pki_path(key_path, h->folder,
				is_server ? "server-key.pem" : "client-key.pem", err);
	if (r == 0)
		r = check_absent(o, key_path, err);
	set_times(o, HF_PKI_HOST_DAYS, &rq);
	if (r == 0)
		r = hf_pki_new_key(&key, err);
	if (r == 0)
		r = hf_pki_sign(&rq, key, h->ca.cert, h->ca.key, &cert, err);
	if (r == 0)
		r = hf_pki_write_key(key_path, key, o->is_forced, err);
	if (r == 0)
		r = hf_pki_write_certificate(cert_path, cert, o->is_forced, err);
	EVP_PKEY_free(key);
	X509_free(cert);
	return r;
}

/* What is public, so it is written again without being asked. */
static int copy_authority(const struct authority *ca, const char *folder, struct hf_err *err)
{
	char path[PATH_MAX];
	int r = hf_pki_path(path, folder, "ca-cert.pem", err);

	if (r == 0)
		r = hf_pki_write_certificate(path, ca->cert, /* is_forced= */ true, err);
	if (r == 0 && ca->crls)
		r = hf_pki_path(path, folder, "ca-crl.pem", err);
	if (r == 0 && ca->crls)
		r = hf_pki_write_crl(path, sk_X509_CRL_value(ca->crls, 0), /* is_forced= */ true,
				     err);
	return r;
}

int hf_pki_host_run(const struct hf_pki_options *o)
{
	struct hf_err err = { "" };
	struct host h;
	int r = host_open(o, &h, &err);

	if (r == 0)
		r = make_folder(h.folder, 0700, &err);
	if (r == 0)
		r = make_pair(o, &h, HF_PKI_SERVER, &err);
	if (r == 0)
		r = make_pair(o, &h, HF_PKI_CLIENT, &err);
	if (r == 0)
		r = copy_authority(&h.ca, h.folder, &err);
	authority_fini(&h.ca);
	if (r < 0)
		return hf_pki_complain(o, &err);
	printf("%s holds all that %s needs: copy it there as %s, readable for root only.\n",
	       h.folder, o->word, "/etc/pki/holdfast");
	return HF_PKI_EXIT_DONE;
}

/* ---- revoke ---- */

/* Takes one certificate into the list. -EEXIST is none: it is there already. */
static int revoke_one(struct authority *ca, const char *folder, const char *file, X509_CRL **list,
		      struct hf_err *err)
{
	char path[PATH_MAX];
	X509_CRL *longer = NULL;
	X509 *cert = NULL;
	int r = hf_pki_path(path, folder, file, err);

	if (r == 0)
		r = hf_x509_read(path, &cert, err);
	if (r == 0)
		r = hf_pki_revoke(ca->cert, ca->key, *list, cert, &longer, err);
	if (r == 0) {
		X509_CRL_free(*list);
		*list = longer;
	}
	X509_free(cert);
	return r == -EEXIST ? 0 : r;
}

int hf_pki_revoke_run(const struct hf_pki_options *o)
{
	struct hf_err err = { "" };
	X509_CRL *list;
	struct host h;
	int r = host_open(o, &h, &err);

	list = h.ca.crls ? sk_X509_CRL_shift(h.ca.crls) : NULL;
	if (r == 0)
		r = revoke_one(&h.ca, h.folder, "server-cert.pem", &list, &err);
	if (r == 0)
		r = revoke_one(&h.ca, h.folder, "client-cert.pem", &list, &err);
	if (r == 0)
		r = hf_pki_write_crl(h.ca.crl_path, list, /* is_forced= */ true, &err);
	X509_CRL_free(list);
	if (r == 0)
		printf("The certificates of %s are revoked in %s.\n"
		       "Copy that file into /etc/pki/holdfast of every host: it counts from the "
		       "next "
		       "connection on.\n",
		       o->word, h.ca.crl_path);
	authority_fini(&h.ca);
	return r < 0 ? hf_pki_complain(o, &err) : HF_PKI_EXIT_DONE;
}

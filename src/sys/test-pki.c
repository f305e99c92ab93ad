/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <openssl/x509v3.h>

#include "sys/test-tls-world.h"

TEST(names)
{
	static const char *const good[] = { "a",        "host-1", "host_1.example.org",
					    "10.0.0.1", "::1",    "fd00::1" };
	static const char *const bad[] = { "",    ".",     "..",       "a..b",     ".a",
					   "a.",  "*",     "a/b",      "a b",      "a,b",
					   "a:b", "DNS:x", "\xc3\xa4", "*.example" };
	char label[80] = "";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(hf_pki_is_name(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!hf_pki_is_name(bad[i]));
	memset(label, 'x', 63);
	CHECK(hf_pki_is_name(label));
	label[63] = 'x';
	CHECK(!hf_pki_is_name(label));
}

static X509 *cert_of(const char *const *names)
{
	struct hf_pki_request rq = { .kind = HF_PKI_BOTH,
				     .common_name = "x",
				     .names = names,
				     .from_s = 1000000000,
				     .until_s = 4102444800 };
	EVP_PKEY *key;
	X509 *cert;

	CHECK_EQ(hf_pki_new_key(&key, NULL), 0);
	CHECK_EQ(hf_pki_sign(&rq, key, authority(0)->cert, authority(0)->key, &cert, NULL), 0);
	EVP_PKEY_free(key);
	return cert;
}

TEST(what_stands_in_a_certificate)
{
	const char *const names[] = { "hosta", "10.0.0.1", "fd00::1", NULL };
	X509 *cert = cert_of(names), *bare = cert_of(NULL);
	char text[HF_X509_NAMES_TEXT], date[HF_X509_DATE_TEXT], small[8];

	CHECK_STR(hf_x509_names(cert, text, sizeof(text)), "hosta, 10.0.0.1, fd00::1");
	CHECK_STR(hf_x509_names(cert, small, sizeof(small)), "hosta");
	CHECK_STR(hf_x509_names(bare, text, sizeof(text)), "no name");
	for (int i = 0; names[i]; i++)
		CHECK(hf_x509_has_name(cert, names[i]));
	CHECK(hf_x509_has_name(cert, "fd00:0::1"));
	CHECK(!hf_x509_has_name(cert, "x")); /* the common name */
	CHECK(!hf_x509_has_name(bare, "x"));
	CHECK(!hf_x509_has_name(cert, "10.0.0.11"));
	CHECK_EQ(hf_x509_from_s(cert), 1000000000);
	CHECK_EQ(hf_x509_until_s(cert), 4102444800);
	CHECK_STR(hf_x509_date(hf_x509_until_s(cert), date), "2100-01-01");
	CHECK_EQ(X509_verify(cert, authority(0)->key), 1);
	CHECK(ASN1_INTEGER_cmp(X509_get_serialNumber(cert), X509_get_serialNumber(bare)) != 0);
	X509_free(cert);
	X509_free(bare);
}

/* Our authority makes none; others do. */
TEST(a_wildcard_is_no_name)
{
	X509 *cert = cert_of(NULL);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name,
						  "DNS:*.example,DNS:*,DNS:h*.example");

	CHECK(ext && X509_add_ext(cert, ext, -1) == 1);
	CHECK(!hf_x509_has_name(cert, "hosta.example"));
	CHECK(!hf_x509_has_name(cert, "hosta"));
	X509_EXTENSION_free(ext);
	X509_free(cert);
}

TEST(a_name_that_is_none)
{
	const char *const names[] = { "hosta", "DNS:hostb", NULL };
	struct hf_pki_request rq = { .kind = HF_PKI_BOTH, .common_name = "x", .names = names };
	const struct authority *ca = authority(0);
	struct hf_err err;
	X509 *cert;

	CHECK_EQ(hf_pki_sign(&rq, ca->key, ca->cert, ca->key, &cert, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "'DNS:hostb'");
}

TEST(revoking)
{
	const struct authority *ca = authority(0);
	X509 *one = cert_of(NULL), *two = cert_of(NULL);
	X509_CRL *list, *longer, *same;
	X509_REVOKED *entry;
	struct hf_err err;

	CHECK_EQ(hf_pki_revoke(ca->cert, ca->key, NULL, one, &list, &err), 0);
	CHECK_EQ(hf_pki_revoke(ca->cert, ca->key, list, one, &same, &err), -EEXIST);
	CHECK_CONTAINS(err.text, "already");
	CHECK_EQ(hf_pki_revoke(ca->cert, ca->key, list, two, &longer, &err), 0);
	CHECK_EQ(X509_CRL_get0_by_cert(list, &entry, two), 0);
	CHECK_EQ(X509_CRL_get0_by_cert(longer, &entry, one), 1);
	CHECK_EQ(X509_CRL_get0_by_cert(longer, &entry, two), 1);
	CHECK_EQ(X509_CRL_verify(longer, ca->key), 1);
	CHECK_EQ(hf_x509_crl_until_s(longer), hf_x509_until_s(ca->cert));
	X509_CRL_free(list);
	X509_CRL_free(longer);
	X509_free(one);
	X509_free(two);
}

TEST(files_are_not_replaced)
{
	const struct authority *ca = authority(0);
	char command[300];
	struct hf_err err;
	struct stat st;
	EVP_PKEY *key;

	CHECK_EQ(hf_pki_write_key(path_in(".", "key.pem"), ca->key, false, &err), 0);
	CHECK_EQ(stat(path_in(".", "key.pem"), &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0600);
	CHECK_EQ(hf_pki_write_key(path_in(".", "key.pem"), authority(1)->key, false, &err),
		 -EEXIST);
	CHECK_CONTAINS(err.text, "exists already");
	CHECK_EQ(hf_x509_read_key(path_in(".", "key.pem"), &key, &err), 0);
	CHECK_EQ(EVP_PKEY_eq(key, ca->key), 1);
	EVP_PKEY_free(key);
	CHECK_EQ(hf_pki_write_key(path_in(".", "key.pem"), authority(1)->key, true, &err), 0);
	CHECK_EQ(hf_x509_read_key(path_in(".", "key.pem"), &key, &err), 0);
	CHECK_EQ(EVP_PKEY_eq(key, ca->key), 0);
	EVP_PKEY_free(key);
	CHECK_EQ(hf_pki_write_key(path_in("nowhere", "key.pem"), ca->key, true, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "cannot be written");
	/* Nothing half-written stays behind. */
	(void)snprintf(command, sizeof(command), "test $(ls %s | wc -l) = 1", world());
	CHECK_EQ(system(command), 0);
}

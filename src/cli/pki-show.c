/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* holdfast pki show: what stands in a folder of certificates, for people and as JSON. */
#include <errno.h>
#include <json-c/json.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/pki-verbs.h"
#include "codec/json.h"
#include "sys/tls.h"

static const char *const cert_files[] = { "ca-cert.pem", "server-cert.pem", "client-cert.pem" };
static const char *const key_files[] = { "ca-key.pem", "server-key.pem", "client-key.pem" };

static void add_problem(struct json_object *problems, const char *text)
{
	for (size_t i = 0; i < json_object_array_length(problems); i++)
		if (strcmp(json_object_get_string(json_object_array_get_idx(problems, i)), text) ==
		    0)
			return;
	json_object_array_add(problems, json_object_new_string(text));
}

static void add_fingerprint(struct json_object *o, X509 *cert)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE + 1] = "";
	unsigned int len = 0;

	if (X509_digest(cert, EVP_sha256(), digest, &len) != 1)
		return;
	for (unsigned int i = 0; i < len; i++)
		(void)snprintf(text + (size_t)2 * i, 3, "%02x", digest[i]);
	hf_json_add_str(o, "sha256", text);
}

static void add_times(struct json_object *o, const char *path, const X509 *cert,
		      struct json_object *problems)
{
	int days = hf_x509_days_until(hf_x509_until_s(cert));
	char date[HF_X509_DATE_TEXT];
	struct hf_err problem;

	hf_json_add_str(o, "from", hf_x509_date(hf_x509_from_s(cert), date));
	hf_json_add_str(o, "until", hf_x509_date(hf_x509_until_s(cert), date));
	json_object_object_add(o, "days_left", json_object_new_int(days));
	if (hf_x509_days_until(hf_x509_from_s(cert)) >= 0)
		hf_err_set(&problem, "%s is not valid yet: from %s on", path,
			   hf_x509_date(hf_x509_from_s(cert), date));
	else if (days < 0)
		hf_err_set(&problem, "%s expired on %s", path,
			   hf_x509_date(hf_x509_until_s(cert), date));
	else if (days < HF_TLS_WARN_DAYS)
		hf_err_set(&problem, "%s expires in %d days", path, days);
	else
		return;
	add_problem(problems, problem.text);
}

static struct json_object *describe(const char *path, const char *file, X509 *cert,
				    struct json_object *problems)
{
	struct json_object *o = json_object_new_object();
	char names[HF_X509_NAMES_TEXT];
	bool is_authority = X509_check_ca(cert) > 0;

	hf_json_add_str(o, "file", file);
	hf_json_add_str(o, "kind", is_authority ? "authority" : "host");
	hf_json_add_str(o, "names", hf_x509_names(cert, names, sizeof(names)));
	add_times(o, path, cert, problems);
	add_fingerprint(o, cert);
	return o;
}

/* A folder of an authority has no server-cert.pem, and one of a host no ca-key.pem. */
static bool show_file(const char *dir, const char *file, struct json_object *certs,
		      struct json_object *problems)
{
	STACK_OF(X509) *all = NULL;
	struct hf_err err = { "" };
	char path[PATH_MAX];
	int r = hf_pki_path(path, dir, file, &err);

	if (r == 0)
		r = hf_x509_read_all(path, &all, &err);
	if (r == -ENOENT)
		return false;
	if (r < 0)
		add_problem(problems, err.text);
	for (int i = 0; i < sk_X509_num(all); i++)
		json_object_array_add(certs, describe(path, file, sk_X509_value(all, i), problems));
	sk_X509_pop_free(all, X509_free);
	return true;
}

static void check_keys(const char *dir, struct json_object *problems)
{
	for (size_t i = 0; i < sizeof(key_files) / sizeof(key_files[0]); i++) {
		struct hf_err err = { "" };
		char path[PATH_MAX];
		EVP_PKEY *key = NULL;

		if (hf_pki_path(path, dir, key_files[i], &err) < 0 || access(path, F_OK) < 0)
			continue;
		if (hf_x509_read_key(path, &key, &err) < 0)
			add_problem(problems, err.text);
		EVP_PKEY_free(key);
	}
}

/* As the services would read it. */
static void check_as_host(const char *dir, struct json_object *problems)
{
	struct hf_err err = { "" };
	struct hf_tls *tls = NULL;

	if (hf_tls_new(dir, &tls, &err) < 0)
		add_problem(problems, err.text);
	hf_tls_free(tls);
}

static struct json_object *look_at(const char *dir)
{
	struct json_object *o = json_object_new_object();
	struct json_object *certs = json_object_new_array(), *problems = json_object_new_array();
	bool has_file[3], is_authority;
	char path[PATH_MAX];
	struct hf_err err;

	hf_json_add_str(o, "dir", dir);
	for (int i = 0; i < 3; i++)
		has_file[i] = show_file(dir, cert_files[i], certs, problems);
	is_authority = hf_pki_path(path, dir, "ca-key.pem", &err) == 0 && access(path, F_OK) == 0;
	hf_json_add_str(o, "kind", is_authority ? "authority" : "host");
	check_keys(dir, problems);
	if (has_file[1] || has_file[2] || !is_authority)
		check_as_host(dir, problems);
	else if (!has_file[0])
		add_problem(problems, "ca-cert.pem is missing");
	json_object_object_add(o, "certificates", certs);
	json_object_object_add(o, "problems", problems);
	return o;
}

static const char *text_of(struct json_object *o, const char *key)
{
	const char *text = json_object_get_string(json_object_object_get(o, key));

	return text ? text : "";
}

static void print(struct json_object *o)
{
	struct json_object *certs = json_object_object_get(o, "certificates");
	struct json_object *problems = json_object_object_get(o, "problems");

	for (size_t i = 0; i < json_object_array_length(certs); i++) {
		struct json_object *c = json_object_array_get_idx(certs, i);

		printf("%-16s %-10s %s to %s (%d days)  %s\n%-16s sha256 %s\n", text_of(c, "file"),
		       text_of(c, "kind"), text_of(c, "from"), text_of(c, "until"),
		       json_object_get_int(json_object_object_get(c, "days_left")),
		       text_of(c, "names"), "", text_of(c, "sha256"));
	}
	for (size_t i = 0; i < json_object_array_length(problems); i++)
		printf("problem: %s\n",
		       json_object_get_string(json_object_array_get_idx(problems, i)));
}

int hf_pki_show_run(const struct hf_pki_options *o)
{
	struct json_object *seen = look_at(o->word);
	bool is_good = json_object_array_length(json_object_object_get(seen, "problems")) == 0;

	if (o->is_json)
		puts(json_object_to_json_string_ext(seen, JSON_C_TO_STRING_PLAIN |
								  JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		print(seen);
	json_object_put(seen);
	return is_good ? HF_PKI_EXIT_DONE : HF_PKI_EXIT_FAILED;
}

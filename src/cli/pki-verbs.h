/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `holdfast pki ...`: a small authority for those who have none, and a look at certificates. Layer:
 * cli. They block and print; what they return is the program's exit status. docs/tls.md;
 * holdfast-pki(1).
 *
 * The authority is a folder: ca-cert.pem, ca-key.pem, ca-crl.pem once something is revoked, and a
 * folder for each host with what that host needs.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "sys/x509.h"

#define HF_PKI_AUTHORITY_FOLDER "/etc/pki/holdfast-ca"
#define HF_PKI_AUTHORITY_DAYS 3650u
#define HF_PKI_HOST_DAYS 730u
#define HF_PKI_DAYS_MAX 36500u
#define HF_PKI_ADDRESSES_MAX 32

/* holdfast-pki(1) promises these. */
enum hf_pki_exit {
	HF_PKI_EXIT_DONE = 0,
	HF_PKI_EXIT_FAILED = 1, /* not done; show: there are problems */
	HF_PKI_EXIT_USAGE = 2,
};

/* All options of all verbs; each verb takes some. */
struct hf_pki_options {
	const char *verb;
	const char *word; /* what stands without an option; NULL */
	const char *dir; /* the authority */
	const char *into; /* NULL: not given */
	const char *name;
	const char *addresses[HF_PKI_ADDRESSES_MAX];
	size_t n_addresses;
	uint64_t days; /* 0: not given */
	int64_t from_s; /* 0: not given */
	bool is_forced, is_json;
};

/* argv[0]: "pki". */
int hf_pki_command(int argc, char **argv);

int hf_pki_init_run(const struct hf_pki_options *o);
int hf_pki_host_run(const struct hf_pki_options *o);
int hf_pki_revoke_run(const struct hf_pki_options *o);
int hf_pki_show_run(const struct hf_pki_options *o);

/* "holdfast pki VERB: TEXT" to stderr; returns HF_PKI_EXIT_FAILED. */
int hf_pki_complain(const struct hf_pki_options *o, const struct hf_err *err);

/* DIR/FILE. -ENAMETOOLONG with @err. */
int hf_pki_path(char ret[PATH_MAX], const char *dir, const char *file,
		struct hf_err *err) HF_MUST_CHECK;

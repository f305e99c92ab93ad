/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/pki-verbs.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sys/tls.h"

struct verb {
	const char *name;
	const char *arguments;
	const char *options; /* letters of the table below that it takes */
	const char *help;
	const char *default_word;
	bool needs_word;
	int (*run)(const struct hf_pki_options *o);
};

static const struct verb verbs[] = {
	{ .name = "init",
	  .arguments = "[DIR] [--name TEXT] [--days N] [--force]",
	  .options = "nyfs",
	  .help = "make an authority, which signs the certificates of all hosts",
	  .default_word = HF_PKI_AUTHORITY_FOLDER,
	  .run = hf_pki_init_run },
	{ .name = "host",
	  .arguments =
		  "NAME [--address NAME|IP]... [--dir DIR] [--into FOLDER] [--days N] [--force]",
	  .options = "adiyfs",
	  .help = "make what a host needs: a folder to be copied there as " HF_TLS_FOLDER,
	  .needs_word = true,
	  .run = hf_pki_host_run },
	{ .name = "revoke",
	  .arguments = "NAME [--dir DIR]",
	  .options = "d",
	  .help = "take a host's certificates out of force: a list to be copied to all hosts",
	  .needs_word = true,
	  .run = hf_pki_revoke_run },
	{ .name = "show",
	  .arguments = "[DIR] [--json]",
	  .options = "j",
	  .help = "what a folder holds, until when, and what is wrong with it",
	  .default_word = HF_TLS_FOLDER,
	  .run = hf_pki_show_run },
};

#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const struct option long_options[] = {
	{ "name", required_argument, NULL, 'n' }, { "address", required_argument, NULL, 'a' },
	{ "dir", required_argument, NULL, 'd' },  { "into", required_argument, NULL, 'i' },
	{ "days", required_argument, NULL, 'y' }, { "valid-from", required_argument, NULL, 's' },
	{ "force", no_argument, NULL, 'f' },      { "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },       { 0 },
};

/* ---- the command line ---- */

static int parse_days(const char *text, uint64_t *ret, struct hf_err *err)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < 1 || n > HF_PKI_DAYS_MAX) {
		hf_err_set(err, "--days %s: a number from 1 to %u", text, HF_PKI_DAYS_MAX);
		return -EINVAL;
	}
	*ret = n;
	return 0;
}

static int parse_date(const char *text, int64_t *ret, struct hf_err *err)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%d", &tm);

	if (!end || *end || tm.tm_year < 70) {
		hf_err_set(err, "--valid-from %s: a day as 2026-01-31", text);
		return -EINVAL;
	}
	*ret = (int64_t)timegm(&tm);
	return 0;
}

static int take_address(struct hf_pki_options *o, const char *text, struct hf_err *err)
{
	if (o->n_addresses == HF_PKI_ADDRESSES_MAX) {
		hf_err_set(err, "more than %d addresses", HF_PKI_ADDRESSES_MAX);
		return -EINVAL;
	}
	o->addresses[o->n_addresses++] = text;
	return 0;
}

static int parse_option(struct hf_pki_options *o, int option, const char *value, struct hf_err *err)
{
	switch (option) {
	case 'n':
		o->name = value;
		return 0;
	case 'a':
		return take_address(o, value, err);
	case 'd':
		o->dir = value;
		return 0;
	case 'i':
		o->into = value;
		return 0;
	case 'y':
		return parse_days(value, &o->days, err);
	case 's':
		return parse_date(value, &o->from_s, err);
	case 'f':
		o->is_forced = true;
		return 0;
	default:
		o->is_json = true;
		return 0;
	}
}

static int parse_word(const struct verb *v, int argc, char **argv, struct hf_pki_options *o,
		      struct hf_err *err)
{
	o->word = optind < argc ? argv[optind] : v->default_word;
	if (v->needs_word && !o->word) {
		hf_err_set(err, "the host's name is missing");
		return -EINVAL;
	}
	if (argc - optind > 1) {
		hf_err_set(err, "one argument too many: '%s'", argv[optind + 1]);
		return -EINVAL;
	}
	return 0;
}

/* 0; 1: help is wanted; -EINVAL with @err ("": getopt has said it). */
static int parse(const struct verb *v, int argc, char **argv, struct hf_pki_options *o,
		 struct hf_err *err)
{
	int option, r = 0;

	optind = 0;
	while (r == 0 && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == 'h')
			return 1;
		if (option == '?')
			return -EINVAL;
		if (!strchr(v->options, option)) {
			hf_err_set(err, "this verb does not take '%s'", argv[optind - 1]);
			return -EINVAL;
		}
		r = parse_option(o, option, optarg, err);
	}
	return r ? r : parse_word(v, argc, argv, o, err);
}

/* ---- the verbs ---- */

static void usage(FILE *to)
{
	for (size_t i = 0; i < N_VERBS; i++)
		(void)fprintf(to, "%s holdfast pki %s %s\n", i ? "      " : "usage:", verbs[i].name,
			      verbs[i].arguments);
	(void)fputc('\n', to);
	for (size_t i = 0; i < N_VERBS; i++)
		(void)fprintf(to, "  %-7s %s\n", verbs[i].name, verbs[i].help);
	(void)fputs("\nSee holdfast-pki(1).\n", to);
}

int hf_pki_complain(const struct hf_pki_options *o, const struct hf_err *err)
{
	(void)fprintf(stderr, "holdfast pki %s: %s\n", o->verb, err->text);
	return HF_PKI_EXIT_FAILED;
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	struct hf_pki_options o = { .verb = v->name, .dir = HF_PKI_AUTHORITY_FOLDER };
	struct hf_err err = { "" };
	int r = parse(v, argc, argv, &o, &err);

	if (r == 0)
		return v->run(&o);
	if (r > 0) {
		printf("usage: holdfast pki %s %s\n%s\n", v->name, v->arguments, v->help);
		return HF_PKI_EXIT_DONE;
	}
	if (err.text[0])
		(void)hf_pki_complain(&o, &err);
	(void)fprintf(stderr, "usage: holdfast pki %s %s\n", v->name, v->arguments);
	return HF_PKI_EXIT_USAGE;
}

int hf_pki_command(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return run_verb(&verbs[i], argc - 1, argv + 1);
	if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		usage(stdout);
		return HF_PKI_EXIT_DONE;
	}
	if (*name)
		(void)fprintf(stderr, "holdfast pki: no such command '%s'\n\n", name);
	usage(stderr);
	return HF_PKI_EXIT_USAGE;
}

int hf_pki_path(char ret[PATH_MAX], const char *dir, const char *file, struct hf_err *err)
{
	int n = snprintf(ret, PATH_MAX, "%s/%s", dir, file);

	if (n >= 0 && n < PATH_MAX)
		return 0;
	hf_err_set(err, "the folder's name is too long: %.60s...", dir);
	return -ENAMETOOLONG;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/lease-verbs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/host-call.h"

static const struct hf_lease_verb verbs[] = {
	{ .name = "init",
	  .arguments = "--lockspace NAME [--hosts N] [--sector 512|4096] [--align 1M|2M|4M|8M]\n"
		       "           [--io-timeout TIME] [--leases N] [--force] AREA",
	  .help = "make a lease area of a file, block device or NBD export",
	  .run = hf_lease_init_run },
	{ .name = "dump",
	  .arguments = "[--json] AREA",
	  .help = "print what stands in a lease area",
	  .run = hf_lease_dump_run },
	{ .name = "check",
	  .arguments = "[--json] AREA",
	  .help = "verify all of a lease area; writes nothing",
	  .run = hf_lease_check_run },
	{ .name = "list",
	  .arguments = "[--json] [--run-dir DIR]",
	  .help = "all leases, who owns them, and what holds them here",
	  .run = hf_host_list_run },
	{ .name = "show",
	  .arguments = "VM [--json] [--run-dir DIR]",
	  .help = "the lease of one VM",
	  .run = hf_host_show_run },
	{ .name = "create",
	  .arguments = "VM [--run-dir DIR]",
	  .help = "make a lease, if there is none of that name",
	  .run = hf_host_create_run },
	{ .name = "acquire",
	  .arguments = "VM [--wait TIME] [--create] [--run-dir DIR] -- COMMAND [ARG...]",
	  .help = "run a command while this host owns the lease",
	  .run = hf_host_acquire_run },
	{ .name = "await",
	  .arguments = "VM [--timeout TIME] [--json] [--run-dir DIR] -- COMMAND [ARG...]",
	  .help = "wait to be given the lease by another host, then run a command as with acquire",
	  .run = hf_host_await_run },
	{ .name = "transfer",
	  .arguments = "VM --to HOST --generation G [--from-held] [--json] [--run-dir DIR]",
	  .help = "give a lease of this host to another one, which awaits it",
	  .run = hf_host_transfer_run },
	{ .name = "request",
	  .arguments = "VM [--force] [--run-dir DIR]",
	  .help = "ask the owner of a lease to end what holds it; --force: to kill it",
	  .run = hf_host_request_run },
};

#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static void usage(FILE *to)
{
	for (size_t i = 0; i < N_VERBS; i++)
		(void)fprintf(to, "%s holdfast lease %s %s\n",
			      i ? "      " : "usage:", verbs[i].name, verbs[i].arguments);
	(void)fputc('\n', to);
	for (size_t i = 0; i < N_VERBS; i++)
		(void)fprintf(to, "  %-9s %s\n", verbs[i].name, verbs[i].help);
	(void)fputs("\nSee holdfast(1).\n", to);
}

static int run_verb(const struct hf_lease_verb *v, int argc, char **argv)
{
	int code = v->run(argc, argv);

	if (code < 0) {
		printf("usage: holdfast lease %s %s\n%s\n", v->name, v->arguments, v->help);
		return HF_LEASE_EXIT_DONE;
	}
	if (code == HF_LEASE_EXIT_USAGE)
		(void)fprintf(stderr, "usage: holdfast lease %s %s\n", v->name, v->arguments);
	return code;
}

int hf_lease_command(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return run_verb(&verbs[i], argc - 1, argv + 1);
	if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		usage(stdout);
		return HF_LEASE_EXIT_DONE;
	}
	if (*name)
		(void)fprintf(stderr, "holdfast lease: no such command '%s'\n\n", name);
	usage(stderr);
	return HF_LEASE_EXIT_USAGE;
}

int hf_lease_complain(const char *verb, int code, const struct hf_err *err)
{
	(void)fprintf(stderr, "holdfast lease %s: %s\n", verb, err->text);
	return code;
}

int hf_lease_area_path(const char *area, char *ret, size_t size, struct hf_err *err)
{
	char folder[4096];
	int n;

	if (*area == '/' || strstr(area, "://")) {
		n = snprintf(ret, size, "%s", area);
	} else {
		if (!getcwd(folder, sizeof(folder))) {
			hf_err_set(err, "the current folder cannot be named: %s", strerror(errno));
			return -errno;
		}
		n = snprintf(ret, size, "%s/%s", folder, area);
	}
	if (n >= 0 && (size_t)n < size && *area)
		return 0;
	hf_err_set(err, "AREA is %s", *area ? "too long" : "empty");
	return -ENAMETOOLONG;
}

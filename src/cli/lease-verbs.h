/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `holdfast lease ...`: one program for each verb. Layer: cli. They block and print; what they
 * return is the program's exit status.
 */
#pragma once

#include "base/error.h"

/* holdfast(1) promises these. */
enum hf_lease_exit {
	HF_LEASE_EXIT_DONE = 0,
	HF_LEASE_EXIT_FAILED = 1, /* not done; check: there are problems */
	HF_LEASE_EXIT_USAGE = 2,
	HF_LEASE_EXIT_STORAGE = 4, /* the storage cannot be opened, read or written */
};

struct hf_lease_verb {
	const char *name;
	const char *arguments; /* for the usage */
	const char *help;
	/* argv[0]: the verb. Return: an exit status; HF_LEASE_EXIT_USAGE once it has said what is
	 * wrong (the usage is printed then); negative: print the usage as help. */
	int (*run)(int argc, char **argv);
};

/* argv[0]: "lease". */
int hf_lease_command(int argc, char **argv);

int hf_lease_init_run(int argc, char **argv);
int hf_lease_dump_run(int argc, char **argv);
int hf_lease_check_run(int argc, char **argv);

/* "holdfast lease VERB: TEXT" to stderr; returns @code. */
int hf_lease_complain(const char *verb, int code, const struct hf_err *err);

/* AREA of a command line: a relative path becomes an absolute one, a URI stays. @ret: of @size
 * bytes. */
int hf_lease_area_path(const char *area, char *ret, size_t size, struct hf_err *err) HF_MUST_CHECK;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast: the command line. `run` and `standby` become the keeper; for the others see verb.h.
 */
#include <stdio.h>
#include <string.h>

#include "cli/programs.h"
#include "cli/verb.h"

static void usage(FILE *to)
{
	const struct hf_verb *v;

	(void)fputs("usage: holdfast run NAME [OPTION...] [-- qemu-system-x86_64 ...]\n"
		    "       holdfast standby NAME [OPTION...] [-- qemu-system-x86_64 ...]\n"
		    "       holdfast COMMAND [NAME | NAME@ID] [OPTION...]\n\n"
		    "  run            run a VM here, protected by a standby on another host\n"
		    "  standby        stand by for a VM that runs on another host\n",
		    to);
	for (size_t i = 0; (v = hf_verb_at(i)); i++)
		if (!v->is_hidden)
			(void)fprintf(to, "  %-14s %s\n", v->name, v->help);
	(void)fputs("  version        of this program\n"
		    "  help           this text; `holdfast help COMMAND` for one of them\n\n"
		    "See holdfast(1), holdfast-keeper(8), holdfastd(8) and holdfast.conf(5).\n",
		    to);
}

static void print_help(const struct hf_verb *v)
{
	hf_verb_print_usage(stdout, v);
	puts(v->help);
	if (v->more)
		puts(v->more);
}

static int run_raw(const struct hf_verb *v, int argc, char **argv)
{
	int code = v->run_raw(argc, argv);

	if (code < 0) {
		print_help(v);
		return HF_EXIT_DONE;
	}
	/* `lease` and the like have told how to use the very verb. */
	if (code == HF_EXIT_USAGE && !v->subverbs)
		hf_verb_print_usage(stderr, v);
	return code;
}

static int run_verb(const struct hf_verb *v, int argc, char **argv)
{
	struct hf_verb_options o;
	int r;

	if (v->run_raw)
		return run_raw(v, argc, argv);
	r = hf_verb_parse(v, argc, argv, &o);
	if (r > 0) {
		print_help(v);
		return HF_EXIT_DONE;
	}
	if (r < 0) {
		hf_verb_print_usage(stderr, v);
		return HF_EXIT_USAGE;
	}
	return v->run(&o);
}

static bool is_keepers(const char *name)
{
	return strcmp(name, "run") == 0 || strcmp(name, "standby") == 0;
}

static int complain_no_verb(const char *name)
{
	if (*name)
		(void)fprintf(stderr, "holdfast: no such command '%s'\n\n", name);
	usage(stderr);
	return HF_EXIT_USAGE;
}

static int print_version(void)
{
	puts("holdfast " HF_VERSION);
	return HF_EXIT_DONE;
}

static int help_on(const char *name)
{
	char self[] = "", run[] = "run", help[] = "--help";
	const struct hf_verb *v = hf_verb_find(name);

	if (is_keepers(name))
		return hf_program_become_keeper((char *[]){ self, run, help, NULL });
	if (strcmp(name, "help") == 0 || strcmp(name, "version") == 0) {
		usage(stdout);
		return HF_EXIT_DONE;
	}
	if (!v)
		return complain_no_verb(name);
	return run_verb(v, 2, (char *[]){ self, help, NULL });
}

static bool is_any(const char *name, const char *a, const char *b, const char *c)
{
	return strcmp(name, a) == 0 || strcmp(name, b) == 0 || strcmp(name, c) == 0;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	const struct hf_verb *v = hf_verb_find(name);

	if (v)
		return run_verb(v, argc - 1, argv + 1);
	if (is_keepers(name))
		return hf_program_become_keeper(argv);
	if (is_any(name, "version", "--version", "-V"))
		return print_version();
	if (strcmp(name, "help") == 0 && argc > 2)
		return help_on(argv[2]);
	if (is_any(name, "help", "--help", "-h")) {
		usage(stdout);
		return HF_EXIT_DONE;
	}
	return complain_no_verb(name);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For test-cmdline.py: rewrites a command line and prints it, each word ended by a NUL.
 * usage: render-cmdline run|standby QMP_FD RAM_FD HOLD=FD[,HOLD=FD...]|- UNPROTECTED[,...]|- DISK_SOCKET
 *	-- QEMU ARG...
 * RAM_FD is grown to the size of the RAM. On stderr a line for each protected disk, "disk ID FORMAT
 * direct|cached LOCATION". Exit code 3: refused, with the reasons on stderr.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/words.h"
#include "vm/cmdline.h"

#define NETS_MAX 8

__attribute__((noreturn)) static void die(const char *why)
{
	(void)fprintf(stderr, "render-cmdline: %s\n", why);
	exit(2);
}

static char **read_list(char *text)
{
	char **list = NULL;

	if (strcmp(text, "-") == 0)
		return NULL;
	for (char *id = strtok(text, ","); id; id = strtok(NULL, ","))
		if (hf_words_append(&list, id) < 0)
			die("out of memory");
	return list;
}

/* Cuts the "=FD" off each id. */
static void read_fds(char **list, int *fds)
{
	for (size_t i = 0; list && list[i]; i++) {
		char *equals = strchr(list[i], '=');

		if (!equals || i == NETS_MAX)
			die("HOLD=FD is expected");
		*equals = '\0';
		fds[i] = atoi(equals + 1);
	}
}

/* The order of the line, not of the list. */
static int fd_of(char *const *hold, const int *fds, const char *id)
{
	for (size_t i = 0; hold[i]; i++)
		if (strcmp(hold[i], id) == 0)
			return fds[i];
	die("a netdev is held that nobody asked for");
}

static void render(const struct hf_cmdline *cmd, const struct hf_cmdline_fds *fds)
{
	struct hf_err err = { "" };
	char **words = NULL;

	if (ftruncate(fds->ram, (off_t)cmd->ram_bytes) < 0)
		die("cannot grow the RAM file");
	if (hf_cmdline_render(cmd, fds, &words, &err) < 0)
		die(err.text);
	for (size_t i = 0; words[i]; i++)
		(void)fwrite(words[i], 1, strlen(words[i]) + 1, stdout);
	hf_words_free(words);
}

int main(int argc, char **argv)
{
	struct hf_cmdline_want want = { 0 };
	struct hf_cmdline *cmd = NULL;
	struct hf_err err = { "" };
	int given[NETS_MAX] = { 0 }, nets[NETS_MAX] = { 0 };
	char **hold, **unprotected;
	char *refusal = NULL;

	if (argc < 9 || strcmp(argv[7], "--") != 0)
		die("see its source for the usage");
	hold = read_list(argv[4]);
	unprotected = read_list(argv[5]);
	read_fds(hold, given);
	want.is_standby = strcmp(argv[1], "standby") == 0;
	want.hold_net = hold;
	want.unprotected = unprotected;
	if (hf_cmdline_parse(argv + 8, &want, &cmd, &err) < 0)
		die(err.text);
	if (hf_cmdline_refusal(cmd, &refusal) < 0)
		die("out of memory");
	(void)fputs(refusal, stderr);
	if (cmd->refused_count > 0)
		return 3;
	for (size_t i = 0; i < cmd->net_count; i++)
		nets[i] = fd_of(hold, given, cmd->net[i].id);
	for (size_t i = 0; i < cmd->disk_count; i++)
		(void)fprintf(stderr, "disk %s %s %s %s\n", cmd->disk[i].id, cmd->disk[i].format,
			      cmd->disk[i].is_direct ? "direct" : "cached", cmd->disk[i].location);
	render(cmd, &(struct hf_cmdline_fds){ atoi(argv[2]), atoi(argv[3]), nets, argv[6] });
	free(refusal);
	hf_cmdline_free(cmd);
	hf_words_free(hold);
	hf_words_free(unprotected);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Scenario files with the narration that is expected of them.
 */
#include "scenario.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct sim_world world;

static void narrate_to(void *arg, const char *line)
{
	(void)fprintf(arg, "%s\n", line);
}

/* All of @f from here on, malloc'ed. */
static char *read_rest(FILE *f)
{
	char *text = NULL, buf[4096];
	size_t size = 0, n;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		(void)fwrite(buf, 1, n, out);
	return fclose(out) == 0 ? text : NULL;
}

/* What became of the VM, as far as it is not simply well. */
static const char *outcome(const struct sim_stats *before, const struct sim_stats *after)
{
	if (world.has_failed)
		return world.failure;
	if (after->forks != before->forks)
		return "all checks held until two histories began";
	if (after->vms_lost != before->vms_lost)
		return "all checks held; the VM is lost";
	if (after->vms_ended != before->vms_ended)
		return "all checks held; the VM has ended";
	return "all checks held";
}

static char *narrate(const struct sim_plan *plan, bool is_verbose, struct sim_stats *stats)
{
	static struct sim_stats before;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	before = *stats;
	world.narrate = narrate_to;
	world.narrate_arg = out;
	world.is_verbose = is_verbose;
	sim_run(&world, plan, stats);
	(void)fprintf(out, "end: %llu outputs seen, %llu twice, %llu never; %s\n",
		      (unsigned long long)(stats->outputs - before.outputs),
		      (unsigned long long)(stats->duplicates - before.duplicates),
		      (unsigned long long)(stats->lost - before.lost), outcome(&before, stats));
	return fclose(out) == 0 ? text : NULL;
}

static size_t line_length(const char *text)
{
	return strcspn(text, "\n");
}

/* The first line that differs says most; what follows differs for its sake. */
static void print_difference(const char *path, const char *want, const char *got)
{
	unsigned int line = 1;

	while (*want && *got && line_length(want) == line_length(got) &&
	       strncmp(want, got, line_length(want)) == 0) {
		want += line_length(want) + (want[line_length(want)] == '\n');
		got += line_length(got) + (got[line_length(got)] == '\n');
		line++;
	}
	(void)printf("# %s: line %u of the narration\n#   expected: %.*s\n#   got:      %.*s\n",
		     path, line, (int)line_length(want), want, (int)line_length(got), got);
}

/* The file up to and with "expect", and then @text. */
static int bless(const char *path, const char *text)
{
	char *head, *end;
	FILE *f = fopen(path, "re");

	if (!f)
		return -errno;
	head = read_rest(f);
	(void)fclose(f);
	if (!head)
		return -ENOMEM;
	end = strncmp(head, "expect\n", 7) == 0 ? head : strstr(head, "\nexpect\n");
	if (end)
		end[end == head ? 0 : 1] = '\0';
	f = fopen(path, "we");
	if (f) {
		(void)fprintf(f, "%sexpect\n%s", head, text);
		(void)fclose(f);
	}
	free(head);
	return f ? 0 : -errno;
}

static int judge(const char *path, bool does_bless, const char *want, const char *got,
		 struct hf_err *err)
{
	int r;

	if (!want || !got)
		return -ENOMEM;
	if (world.has_failed) { /* never what is expected */
		(void)printf("# %s\n", world.failure);
		return 1;
	}
	if (does_bless) {
		r = bless(path, got);
		if (r < 0)
			hf_err_set(err, "%s: cannot write: %s", path, strerror(-r));
		return r;
	}
	if (strcmp(want, got) == 0)
		return 0;
	print_difference(path, want, got);
	return 1;
}

int sim_scenario_run(const char *path, bool does_bless, bool is_verbose, struct sim_stats *stats,
		     struct hf_err *err)
{
	FILE *f = fopen(path, "re");
	struct sim_plan plan;
	char *want, *got;
	int r;

	if (!f) {
		r = -errno;
		hf_err_set(err, "%s: %s", path, strerror(errno));
		return r;
	}
	r = sim_scenario_parse(f, path, &plan, err);
	if (r == 0) {
		want = read_rest(f);
		got = narrate(&plan, is_verbose, stats);
		if (is_verbose && got)
			(void)fputs(got, stdout);
		else
			r = judge(path, does_bless, want, got, err);
		free(want);
		free(got);
	}
	(void)fclose(f);
	return r;
}

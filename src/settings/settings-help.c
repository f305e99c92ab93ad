/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --help, from the table. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings/settings-table.h"
#include "settings/settings.h"

#define COLUMNS 79
#define TEXT_COLUMN 28

static const char *const group_titles[HF_GROUP_COUNT] = {
	[HF_GROUP_HOSTS] = "The two hosts",
	[HF_GROUP_GUEST] = "The guest",
	[HF_GROUP_FAULTS] = "When something fails",
	[HF_GROUP_EPOCHS] = "Epochs",
	[HF_GROUP_DISKS] = "Disks",
	[HF_GROUP_KEEPER] = "The keeper",
	[HF_GROUP_FILE] = "Only in the definition file",
};

/* Breaks at blanks; @column is where the pen stands. */
static void put_wrapped(FILE *out, const char *text, size_t column)
{
	size_t n;

	while (*text) {
		n = strcspn(text, " ");
		if (column > TEXT_COLUMN && column + 1 + n > COLUMNS) {
			(void)fprintf(out, "\n%*s", TEXT_COLUMN, "");
			column = TEXT_COLUMN;
		}
		if (column > TEXT_COLUMN) {
			(void)fputc(' ', out);
			column++;
		}
		(void)fprintf(out, "%.*s", (int)n, text);
		column += n;
		text += n + (text[n] == ' ');
	}
	(void)fputc('\n', out);
}

static void put_row(FILE *out, const struct hf_setting *row)
{
	char text[512];
	char head[128];
	size_t n;

	if (row->group == HF_GROUP_FILE)
		n = (size_t)snprintf(head, sizeof(head), "  %s = %s", row->name, row->metavar);
	else
		n = (size_t)snprintf(head, sizeof(head), "  --%s%s%s", row->name,
				     row->metavar ? " " : "", row->metavar ? row->metavar : "");
	(void)fputs(head, out);
	if (n + 2 > TEXT_COLUMN) {
		(void)fputc('\n', out);
		n = 0;
	}
	(void)fprintf(out, "%*s", (int)(TEXT_COLUMN - n), "");
	(void)snprintf(text, sizeof(text), "%s%s%s%s%s", row->help, row->def ? " (default: " : "",
		       row->def ? row->def : "", row->def ? ")" : "",
		       row->is_repeatable ? " (repeatable)" : "");
	put_wrapped(out, text, TEXT_COLUMN);
}

static void put_all(FILE *out, const char *program)
{
	enum hf_setting_group group = HF_GROUP_COUNT;

	(void)fprintf(
		out,
		"Usage: %s run NAME [OPTION...] [-- QEMU ARG...]\n"
		"       %s standby NAME [OPTION...] [-- QEMU ARG...]\n\n"
		"Guards one VM: 'run' starts it and protects it, 'standby' waits on the other\n"
		"host to go on with it. Without a QEMU command line the VM's definition file is\n"
		"read. An option counts more than the file.\n",
		program, program);
	for (size_t i = 0; i < hf_setting_count(); i++) {
		const struct hf_setting *row = hf_setting_at(i);

		if (row->group != group) {
			group = row->group;
			(void)fprintf(out, "\n%s:\n", group_titles[group]);
		}
		put_row(out, row);
	}
	(void)fprintf(out, "\nOther:\n");
	(void)fprintf(out, "  --help%*sthis text\n", TEXT_COLUMN - 8, "");
	(void)fprintf(out, "  --version%*sthe version\n", TEXT_COLUMN - 11, "");
	(void)fprintf(out,
		      "\nTimes: 500us 20ms 2s 1min. Sizes: 64K 256M 2G. File: holdfast.conf(5).\n");
}

int hf_settings_format_help(const char *program, char **ret)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return -ENOMEM;
	put_all(out, program);
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret = text;
	return 0;
}

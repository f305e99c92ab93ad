/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/table.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct hf_table {
	const char *const *headings;
	size_t n_columns;
	size_t width[HF_TABLE_COLUMNS_MAX];
	char **cells; /* n_rows * n_columns */
	size_t n_rows, room;
};

static void *need(void *p)
{
	if (p)
		return p;
	(void)fputs("holdfast: out of memory\n", stderr);
	exit(1);
}

/* In characters, as far as UTF-8 tells them: continuation bytes do not count. */
static size_t width_of(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

struct hf_table *hf_table_new(const char *const *headings)
{
	struct hf_table *t = need(calloc(1, sizeof(*t)));

	t->headings = headings;
	while (headings[t->n_columns] && t->n_columns < HF_TABLE_COLUMNS_MAX) {
		t->width[t->n_columns] = width_of(headings[t->n_columns]);
		t->n_columns++;
	}
	return t;
}

static char *copy_cell(const char *text)
{
	char *copy = need(strdup(text && *text ? text : "-"));

	for (char *at = copy; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = ' ';
	return copy;
}

void hf_table_add(struct hf_table *t, const char *const *cells)
{
	size_t n = t->n_rows * t->n_columns;

	if (t->n_rows == t->room) {
		t->room = t->room ? 2 * t->room : 16;
		t->cells = need(reallocarray(t->cells, t->room * t->n_columns, sizeof(*t->cells)));
	}
	for (size_t i = 0; i < t->n_columns; i++) {
		t->cells[n + i] = copy_cell(cells[i]);
		if (width_of(cells[i] ? cells[i] : "") > t->width[i])
			t->width[i] = width_of(cells[i]);
	}
	t->n_rows++;
}

/* SIZE_MAX: no terminal, nothing is cut. */
static size_t columns_of_terminal(void)
{
	struct winsize w;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_col)
		return SIZE_MAX;
	return w.ws_col;
}

/* At most @room characters. */
static void put_cut(const char *text, size_t room)
{
	size_t n = 0;

	if (width_of(text) <= room) {
		(void)fputs(text, stdout);
		return;
	}
	while (n < strlen(text) && room > 0) {
		n++;
		while (((unsigned char)text[n] & 0xc0) == 0x80)
			n++;
		room--;
	}
	(void)fwrite(text, 1, n, stdout);
}

static void put_row(const struct hf_table *t, const char *const *cells, const char *indent)
{
	size_t columns = columns_of_terminal();
	size_t at = strlen(indent);

	(void)fputs(indent, stdout);
	for (size_t i = 0; i + 1 < t->n_columns; i++) {
		printf("%s%*s", cells[i], (int)(t->width[i] - width_of(cells[i]) + 2), "");
		at += t->width[i] + 2;
	}
	put_cut(cells[t->n_columns - 1], columns > at + 8 ? columns - at : 8);
	(void)fputc('\n', stdout);
}

void hf_table_print(const struct hf_table *t, const char *indent, bool has_headings)
{
	if (has_headings)
		put_row(t, t->headings, indent);
	for (size_t i = 0; i < t->n_rows; i++)
		put_row(t, (const char *const *)t->cells + i * t->n_columns, indent);
}

void hf_table_free(struct hf_table *t)
{
	for (size_t i = 0; i < t->n_rows * t->n_columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

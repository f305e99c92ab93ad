/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/conf.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 63

struct parser {
	const char *file;
	hf_conf_fn fn;
	void *data;
	struct hf_err *err;
	unsigned int line;
	char kind[NAME_MAX_BYTES + 1]; /* "" before the first section */
	char name[NAME_MAX_BYTES + 1];
	/* The item that is not finished yet: continuation lines may follow. */
	char key[NAME_MAX_BYTES + 1]; /* "" when there is none */
	char *value; /* as large as the text: it holds any value */
	size_t value_len;
	size_t skipped; /* comment lines since the last line of the value */
	unsigned int key_line;
	unsigned int value_column;
};

__attribute__((format(printf, 3, 4))) static int fail(struct parser *p, size_t column,
						      const char *format, ...)
{
	char what[HF_ERR_MAX / 2];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	hf_err_set(p->err, "%s:%u:%zu: %s", p->file, p->line, column + 1, what);
	return -EINVAL;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static size_t skip_blanks(const char *line, size_t from, size_t len)
{
	while (from < len && is_blank(line[from]))
		from++;
	return from;
}

static size_t trim_end(const char *line, size_t from, size_t len)
{
	while (len > from && is_blank(line[len - 1]))
		len--;
	return len;
}

/* Hands over the item that was being collected, if any. */
static int finish_item(struct parser *p)
{
	struct hf_conf_item item = {
		.kind = p->kind,
		.name = p->name,
		.key = p->key,
		.value = p->value,
		.line = p->key_line,
		.value_column = p->value_column,
	};
	int r;

	if (p->key[0] == '\0')
		return 0;
	p->value[p->value_len] = '\0';
	p->skipped = 0;
	r = p->fn(p->data, &item, p->err);
	p->key[0] = '\0';
	return r;
}

/* Copies a run of name characters; returns its end, or @from when there is none or it is too long. */
static size_t take_name(const char *line, size_t from, size_t len, const char *extra, char *ret)
{
	size_t at = from;

	while (at < len && (isalnum((unsigned char)line[at]) || strchr(extra, line[at])))
		at++;
	if (at - from > NAME_MAX_BYTES)
		return from;
	memcpy(ret, line + from, at - from);
	ret[at - from] = '\0';
	return at;
}

static int open_section(struct parser *p, const char *line, size_t len)
{
	struct hf_conf_item item = { .kind = p->kind, .name = p->name, .line = p->line };
	size_t kind_at = skip_blanks(line, 1, len);
	size_t at = take_name(line, kind_at, len, "-", p->kind);
	size_t name_at;

	if (at == kind_at)
		return fail(p, kind_at,
			    "a section is written [kind] or [kind name], with at most %d "
			    "letters, digits and '-'",
			    NAME_MAX_BYTES);
	name_at = skip_blanks(line, at, len);
	at = take_name(line, name_at, len, "-._", p->name);
	at = skip_blanks(line, at, len);
	if (at == len || line[at] != ']')
		return fail(p, at,
			    "']' is missing here: a section is written [kind] or [kind name]");
	at = skip_blanks(line, at + 1, len);
	if (at != len)
		return fail(
			p, at,
			"nothing may follow a section's ']' (a comment goes on a line of its own)");
	item.value = "";
	return p->fn(p->data, &item, p->err);
}

static int start_item(struct parser *p, const char *line, size_t len)
{
	size_t at = take_name(line, 0, len, "-", p->key);
	size_t equals = skip_blanks(line, at, len);
	size_t value;

	if (at == 0 || equals == len || line[equals] != '=') {
		p->key[0] = '\0';
		return fail(p, at ? equals : 0,
			    at ? "'=' is missing here: a setting is written key = value"
			       : "neither a [section] nor key = value nor a comment");
	}
	if (p->kind[0] == '\0') {
		p->key[0] = '\0';
		return fail(p, 0, "a [section] must come before the first setting");
	}
	value = skip_blanks(line, equals + 1, len);
	p->key_line = p->line;
	p->value_column = (unsigned int)value + 1;
	p->value_len = trim_end(line, value, len) - value;
	memcpy(p->value, line + value, p->value_len);
	return 0;
}

static int continue_item(struct parser *p, const char *line, size_t len)
{
	if (p->key[0] == '\0')
		return fail(p, 0,
			    "an indented line goes on with the value above it, and there is none");
	for (; p->skipped > 0; p->skipped--)
		p->value[p->value_len++] = '\n';
	p->value[p->value_len++] = '\n';
	len = trim_end(line, 0, len);
	memcpy(p->value + p->value_len, line, len);
	p->value_len += len;
	return 0;
}

static int check_bytes(struct parser *p, const char *line, size_t len)
{
	if (len > HF_CONF_LINE_MAX)
		return fail(p, HF_CONF_LINE_MAX,
			    "the line is longer than %d bytes (go on with the value on "
			    "an indented line)",
			    HF_CONF_LINE_MAX);
	for (size_t i = 0; i < len; i++) {
		if (line[i] == '\r')
			return fail(p, i, "a carriage return: save the file with plain line ends");
		if ((unsigned char)line[i] == 0x7f ||
		    ((unsigned char)line[i] < ' ' && line[i] != '\t'))
			return fail(p, i, "a control character (byte 0x%02x)",
				    (unsigned char)line[i]);
	}
	return 0;
}

static int take_line(struct parser *p, const char *line, size_t len)
{
	size_t first = skip_blanks(line, 0, len);
	int r = check_bytes(p, line, len);

	if (r < 0)
		return r;
	if (first < len && (line[first] == '#' || line[first] == ';')) {
		p->skipped++;
		return 0;
	}
	if (first < len && first > 0)
		return continue_item(p, line, len);
	r = finish_item(p);
	if (r < 0 || first == len)
		return r;
	p->skipped = 0;
	return line[0] == '[' ? open_section(p, line, len) : start_item(p, line, len);
}

static int take_lines(struct parser *p, const char *text, size_t len)
{
	const char *end = text + len;
	int r = 0;

	while (!r && text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline ? newline : end;

		p->line++;
		r = take_line(p, text, (size_t)(stop - text));
		text = newline ? newline + 1 : end;
	}
	return r ? r : finish_item(p);
}

int hf_conf_parse(const char *file, const char *text, size_t len, hf_conf_fn fn, void *data,
		  struct hf_err *err)
{
	struct parser p = { .file = file, .fn = fn, .data = data, .err = err };
	int r;

	if (len > HF_CONF_FILE_MAX) {
		hf_err_set(err, "%s: larger than %u bytes", file, HF_CONF_FILE_MAX);
		return -EINVAL;
	}
	p.value = malloc(len + 1);
	if (!p.value)
		return -ENOMEM;
	r = take_lines(&p, text, len);
	free(p.value);
	return r;
}

void hf_conf_place(const struct hf_conf_item *item, size_t offset, unsigned int *ret_line,
		   unsigned int *ret_column)
{
	*ret_line = item->line;
	*ret_column = item->value_column;
	for (size_t i = 0; i < offset && item->value[i]; i++) {
		++*ret_column;
		if (item->value[i] == '\n') {
			++*ret_line;
			*ret_column = 1;
		}
	}
}

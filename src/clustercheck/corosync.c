/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clustercheck/corosync.h"

#include <string.h>

#define DEPTH_MAX 8
#define LINE_MAX_BYTES 512
#define NAME_BYTES 32

struct reader {
	struct hf_corosync *c;
	char sections[DEPTH_MAX][NAME_BYTES];
	unsigned int depth; /* may be more than DEPTH_MAX: then nothing counts */
};

static bool is_in(const struct reader *r, const char *outer, const char *inner)
{
	return r->depth == (inner ? 2 : 1) && strcmp(r->sections[0], outer) == 0 &&
	       (!inner || strcmp(r->sections[1], inner) == 0);
}

static void open_section(struct reader *r, const char *name)
{
	if (r->depth < DEPTH_MAX) {
		size_t n = strcspn(name, " \t{");

		n = n < NAME_BYTES ? n : NAME_BYTES - 1;
		memcpy(r->sections[r->depth], name, n);
		r->sections[r->depth][n] = '\0';
	}
	r->depth++;
	r->c->n_nodes += is_in(r, "nodelist", "node");
	r->c->has_qdevice |= is_in(r, "quorum", "device");
}

static void take_value(struct reader *r, const char *key, const char *value)
{
	bool is_set = strcmp(value, "1") == 0 || strcmp(value, "yes") == 0;

	if (!is_in(r, "quorum", NULL))
		return;
	if (strcmp(key, "provider") == 0)
		r->c->has_quorum_provider = strcmp(value, "corosync_votequorum") == 0;
	if (strcmp(key, "two_node") == 0)
		r->c->is_two_node = is_set;
	if (strcmp(key, "wait_for_all") == 0) {
		r->c->has_wait_for_all = true;
		r->c->is_wait_for_all = is_set;
	}
}

static char *trimmed(char *text)
{
	size_t n;

	text += strspn(text, " \t\r");
	n = strlen(text);
	while (n && strchr(" \t\r", text[n - 1]))
		text[--n] = '\0';
	return text;
}

static void take_line(struct reader *r, char *line)
{
	char *colon;

	line = trimmed(line);
	if (line[0] == '#' || line[0] == '\0')
		return;
	if (line[strlen(line) - 1] == '{') {
		open_section(r, line);
		return;
	}
	if (line[0] == '}') {
		r->depth -= r->depth > 0;
		return;
	}
	colon = strchr(line, ':');
	if (!colon)
		return;
	*colon = '\0';
	take_value(r, trimmed(line), trimmed(colon + 1));
}

void hf_corosync_parse(const char *text, size_t len, struct hf_corosync *ret)
{
	struct reader r = { .c = ret };
	char line[LINE_MAX_BYTES];
	const char *end = text + len, *newline;
	size_t n;

	*ret = (struct hf_corosync){ 0 };
	for (; text < end; text = newline + 1) {
		newline = memchr(text, '\n', (size_t)(end - text));
		newline = newline ? newline : end;
		n = (size_t)(newline - text);
		n = n < sizeof(line) ? n : sizeof(line) - 1;
		memcpy(line, text, n);
		line[n] = '\0';
		take_line(&r, line);
	}
}

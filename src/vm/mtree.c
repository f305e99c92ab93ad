/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The part between the line "address-space: memory" and the next empty one is what the processors see. In
 * it
 *
 *	    START-END (prio N, ram): alias NAME @ID FROM-TO
 *	    START-END (prio N, ram): ID
 *
 * is a window on the RAM, or all of it. All numbers are 16 hexadecimal digits, the last ones included. ID
 * may be the path of the object, "/objects/ID". What stands behind it ("[disabled]") makes it none.
 */
#include "vm/mtree.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WINDOWS_MAX 64
#define DIGITS 16

struct window {
	uint64_t address, bytes, offset;
};

struct parser {
	const char *ram_id;
	uint64_t ram_bytes;
	struct window window[WINDOWS_MAX];
	size_t n;
	unsigned int line;
	struct hf_err *err;
};

/* A stretch of the text; never NUL-terminated. */
struct span {
	const char *at, *end;
};

static bool take(struct span *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
		return false;
	s->at += n;
	return true;
}

static bool take_hex(struct span *s, uint64_t *ret)
{
	uint64_t n = 0;

	if (s->end - s->at < DIGITS)
		return false;
	for (int i = 0; i < DIGITS; i++, s->at++) {
		char c = *s->at;

		if (c >= '0' && c <= '9')
			n = n << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret = n;
	return true;
}

/* START-END, the end included; what has no size, or all there is, is no RAM. */
static bool take_range(struct span *s, uint64_t *ret_start, uint64_t *ret_bytes)
{
	uint64_t end;

	if (!take_hex(s, ret_start) || !take(s, "-") || !take_hex(s, &end) || end < *ret_start ||
	    end - *ret_start == UINT64_MAX)
		return false;
	*ret_bytes = end - *ret_start + 1;
	return true;
}

/* Up to the first @mark, which is taken, too. */
static bool skip_past(struct span *s, const char *mark)
{
	const char *found = memmem(s->at, (size_t)(s->end - s->at), mark, strlen(mark));

	if (!found)
		return false;
	s->at = found + strlen(mark);
	return true;
}

static bool take_id(struct span *s, const char *id)
{
	struct span here = *s;

	(void)take(&here, "/objects/");
	if (!take(&here, id) || (here.at < here.end && *here.at != ' '))
		return false;
	*s = here;
	return true;
}

/* Behind "): ". False: not about the RAM. */
static bool is_about_ram(struct span *s, const struct parser *p, bool *ret_is_alias)
{
	struct span here = *s;

	*ret_is_alias = take(&here, "alias ") && skip_past(&here, " @");
	if (!*ret_is_alias)
		here = *s;
	if (!take_id(&here, p->ram_id))
		return false;
	*s = here;
	return true;
}

static int fail(const struct parser *p, int r, const char *what)
{
	hf_err_set(p->err, "QEMU's map of the guest's memory, line %u: %s", p->line, what);
	return r;
}

static int add_window(struct parser *p, const struct window *w)
{
	if (w->bytes > p->ram_bytes || w->offset > p->ram_bytes - w->bytes)
		return fail(p, -EPROTO, "it is beyond the end of the RAM");
	if (p->n == WINDOWS_MAX)
		return fail(p, -E2BIG, "there are too many windows on the RAM");
	p->window[p->n++] = *w;
	return 0;
}

static int parse_line(struct parser *p, struct span s)
{
	struct window w = { 0 };
	struct span all;
	uint64_t bytes;
	bool is_alias, is_ok;

	while (take(&s, " "))
		continue;
	all = s;
	if (!skip_past(&s, "): ") || !is_about_ram(&s, p, &is_alias))
		return 0;
	is_ok = take_range(&all, &w.address, &w.bytes) && take(&all, " (prio ");
	if (is_ok && is_alias)
		is_ok = take(&s, " ") && take_range(&s, &w.offset, &bytes) && bytes == w.bytes;
	if (!is_ok)
		return fail(p, -EPROTO, "what it says about the RAM cannot be understood");
	/* "[disabled]", or the KVM flags of later versions: not what the processors see now. */
	return s.at == s.end ? add_window(p, &w) : 0;
}

static int by_size(const void *a, const void *b)
{
	const struct window *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

static int by_address(const void *a, const void *b)
{
	const struct hf_ram_part *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static bool is_taken(const struct hf_ram_part *part, size_t n, const struct window *w)
{
	for (size_t i = 0; i < n; i++)
		if (w->offset < part[i].offset + part[i].bytes &&
		    part[i].offset < w->offset + w->bytes)
			return true;
	return false;
}

static int choose(struct parser *p, struct hf_ram_part *ret, size_t max, size_t *ret_n)
{
	struct hf_ram_part part[WINDOWS_MAX];
	uint64_t sum = 0;
	size_t n = 0;

	qsort(p->window, p->n, sizeof(p->window[0]), by_size);
	for (size_t i = 0; i < p->n; i++) {
		const struct window *w = &p->window[i];

		if (is_taken(part, n, w))
			continue;
		part[n++] = (struct hf_ram_part){ w->address, w->bytes, w->offset };
		sum += w->bytes;
	}
	if (n == 0 || sum != p->ram_bytes)
		return fail(p, -EPROTO, "it does not show all of the RAM");
	if (n > max)
		return fail(p, -E2BIG, "the RAM is in too many parts");
	qsort(part, n, sizeof(part[0]), by_address);
	memcpy(ret, part, n * sizeof(part[0]));
	*ret_n = n;
	return 0;
}

/* The next line, without its end. */
static bool next_line(struct span *text, struct span *ret)
{
	const char *end;

	if (text->at == text->end)
		return false;
	end = memchr(text->at, '\n', (size_t)(text->end - text->at));
	*ret = (struct span){ text->at, end ? end : text->end };
	text->at = end ? end + 1 : text->end;
	if (ret->end > ret->at && ret->end[-1] == '\r')
		ret->end--;
	return true;
}

static bool is_line(const struct span *s, const char *word)
{
	return (size_t)(s->end - s->at) == strlen(word) && memcmp(s->at, word, strlen(word)) == 0;
}

int hf_mtree_parse(const char *text, size_t len, const char *ram_id, uint64_t ram_bytes,
		   struct hf_ram_part *ret, size_t max, size_t *ret_n, struct hf_err *err)
{
	struct parser p = { .ram_id = ram_id, .ram_bytes = ram_bytes, .err = err };
	struct span rest = { text, text + len }, line;
	bool is_inside = false;
	int r = 0;

	if (len > HF_MTREE_TEXT_MAX)
		return fail(&p, -E2BIG, "it is too long");
	while (r == 0 && next_line(&rest, &line)) {
		p.line++;
		if (is_line(&line, "address-space: memory"))
			is_inside = true;
		else if (is_inside && is_line(&line, ""))
			break;
		else if (is_inside)
			r = parse_line(&p, line);
	}
	return r < 0 ? r : choose(&p, ret, max, ret_n);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/delim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES ((size_t)4096)

void hf_delim_init(struct hf_delim *d, char delimiter, size_t limit_bytes)
{
	*d = (struct hf_delim){ .delimiter = delimiter, .limit_bytes = limit_bytes };
}

void hf_delim_fini(struct hf_delim *d)
{
	if (!d)
		return;
	free(d->buf);
	d->buf = NULL;
	d->cap = d->start = d->end = d->scanned = 0;
}

static void move_to_front(struct hf_delim *d)
{
	if (d->start == 0)
		return;
	memmove(d->buf, d->buf + d->start, d->end - d->start);
	d->end -= d->start;
	d->scanned -= d->start;
	d->start = 0;
}

/* Doubling, so that a long message costs as many copies as it has powers of two. */
static int grow(struct hf_delim *d)
{
	size_t cap = d->cap ? d->cap * 2 : 2 * READ_BYTES;
	char *buf;

	if (cap > d->limit_bytes + 2 * READ_BYTES)
		cap = d->limit_bytes + 2 * READ_BYTES;
	assert(cap > d->cap);
	buf = realloc(d->buf, cap);
	if (!buf)
		return -ENOMEM;
	d->buf = buf;
	d->cap = cap;
	return 0;
}

int hf_delim_space(struct hf_delim *d, char **ret, size_t *ret_n)
{
	assert(d->end - d->start <= d->limit_bytes);
	assert(d->scanned == d->end);
	move_to_front(d);
	if (d->cap - d->end < READ_BYTES) {
		int r = grow(d);

		if (r < 0)
			return r;
	}
	*ret = d->buf + d->end;
	*ret_n = d->cap - d->end;
	return 0;
}

void hf_delim_commit(struct hf_delim *d, size_t n)
{
	assert(n <= d->cap - d->end);
	d->end += n;
}

int hf_delim_next(struct hf_delim *d, char **ret, size_t *ret_len)
{
	size_t len;
	char *found = NULL;

	if (d->end > d->scanned)
		found = memchr(d->buf + d->scanned, d->delimiter, d->end - d->scanned);
	d->scanned = found ? (size_t)(found - d->buf) : d->end;
	len = d->scanned - d->start;
	if (len > d->limit_bytes)
		return -EMSGSIZE;
	if (!found)
		return 0;
	*found = '\0';
	*ret = d->buf + d->start;
	*ret_len = len;
	d->start = ++d->scanned;
	return 1;
}

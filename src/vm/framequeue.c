/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/framequeue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "codec/netframe.h"

#define HEADER HF_NETFRAME_HEADER_BYTES

static uint8_t *at(const struct hf_framequeue *q, uint64_t position)
{
	return q->ring.base + position % q->ring.size_bytes;
}

static uint64_t frame_bytes(const struct hf_framequeue *q, uint64_t position)
{
	return HEADER + (uint64_t)hf_be32_get(at(q, position));
}

static struct hf_framequeue_mark *open_mark(struct hf_framequeue *q)
{
	return &q->mark[q->n_marks];
}

static void check(const struct hf_framequeue *q)
{
	assert(q->head <= q->released);
	assert(q->released <= q->complete);
	assert(q->complete <= q->tail);
	assert(q->tail - q->head <= q->ring.size_bytes);
}

int hf_framequeue_init(struct hf_framequeue *q, size_t capacity_bytes)
{
	struct hf_mirror ring;
	int r = hf_mirror_open(capacity_bytes, &ring);

	if (r < 0)
		return r;
	*q = (struct hf_framequeue){ .ring = ring };
	return 0;
}

void hf_framequeue_fini(struct hf_framequeue *q)
{
	hf_mirror_close(&q->ring);
}

/* An empty ring begins again at its start, so that light traffic stays in the same few pages. */
static void rewind_if_empty(struct hf_framequeue *q)
{
	if (q->head == q->tail && q->n_marks == 0)
		q->head = q->released = q->complete = q->tail = 0;
}

uint8_t *hf_framequeue_space(struct hf_framequeue *q, size_t *ret_n)
{
	rewind_if_empty(q);
	*ret_n = q->ring.size_bytes - (size_t)(q->tail - q->head);
	return at(q, q->tail);
}

int hf_framequeue_commit(struct hf_framequeue *q, size_t n, uint64_t now_ns, struct hf_err *err)
{
	struct hf_netframe_parser parser;
	struct hf_framequeue_mark *open = open_mark(q);
	const uint8_t *frame;
	size_t len;
	int r;

	assert(n <= q->ring.size_bytes - (size_t)(q->tail - q->head));
	q->tail += n;
	/* The parser only reads here: the ring is its buffer. */
	hf_netframe_parser_init(&parser, at(q, q->complete), q->ring.size_bytes);
	hf_netframe_parser_commit(&parser, (size_t)(q->tail - q->complete));
	while ((r = hf_netframe_parser_next(&parser, &frame, &len, err)) > 0) {
		if (open->frames++ == 0)
			open->first_ns = now_ns;
		q->complete += HEADER + len;
	}
	open->end = q->complete;
	check(q);
	return r;
}

uint64_t hf_framequeue_used_bytes(const struct hf_framequeue *q)
{
	return q->tail - q->head;
}

uint64_t hf_framequeue_held_frames(const struct hf_framequeue *q)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i <= q->n_marks; i++)
		n += q->mark[i].frames;
	return n;
}

uint64_t hf_framequeue_held_bytes(const struct hf_framequeue *q)
{
	return q->complete - q->released - HEADER * hf_framequeue_held_frames(q);
}

bool hf_framequeue_has_open(const struct hf_framequeue *q)
{
	return q->mark[q->n_marks].frames > 0;
}

int hf_framequeue_mark(struct hf_framequeue *q, uint64_t epoch)
{
	assert(q->n_marks == 0 || q->mark[q->n_marks - 1].epoch < epoch);
	if (!hf_framequeue_has_open(q))
		return 0;
	if (q->n_marks == HF_FRAMEQUEUE_EPOCHS_MAX)
		return -ENOBUFS;
	open_mark(q)->epoch = epoch;
	q->n_marks++;
	*open_mark(q) = (struct hf_framequeue_mark){ .end = q->complete };
	return 0;
}

/* The frames of one mark, the oldest that is held, join those that may leave. */
static void release_mark(struct hf_framequeue *q, const struct hf_framequeue_mark *m,
			 uint64_t now_ns)
{
	if (m->frames == 0)
		return;
	assert(m->end > q->released);
	q->released = m->end;
	q->released_frames += m->frames;
	if (now_ns > m->first_ns && now_ns - m->first_ns > q->longest_hold_ns)
		q->longest_hold_ns = now_ns - m->first_ns;
}

void hf_framequeue_release(struct hf_framequeue *q, uint64_t epoch, uint64_t now_ns)
{
	unsigned int n = 0;

	while (n < q->n_marks && q->mark[n].epoch <= epoch)
		release_mark(q, &q->mark[n++], now_ns);
	q->n_marks -= n;
	memmove(q->mark, q->mark + n, (q->n_marks + 1) * sizeof(q->mark[0]));
	check(q);
}

void hf_framequeue_release_all(struct hf_framequeue *q, uint64_t now_ns)
{
	for (unsigned int i = 0; i <= q->n_marks; i++)
		release_mark(q, &q->mark[i], now_ns);
	q->n_marks = 0;
	*open_mark(q) = (struct hf_framequeue_mark){ .end = q->complete };
	assert(q->released == q->complete);
	check(q);
}

uint64_t hf_framequeue_discard(struct hf_framequeue *q)
{
	uint64_t frames = hf_framequeue_held_frames(q);
	uint64_t partial = q->tail - q->complete;

	/* Not memmove(): through the mirror the two stretches may share memory at addresses that
	 * are far apart. From the front, since the bytes move down. */
	for (uint64_t i = 0; i < partial; i++)
		*at(q, q->released + i) = *at(q, q->complete + i);
	q->complete = q->released;
	q->tail = q->complete + partial;
	q->n_marks = 0;
	*open_mark(q) = (struct hf_framequeue_mark){ .end = q->complete };
	check(q);
	return frames;
}

bool hf_framequeue_peek(const struct hf_framequeue *q, const uint8_t **ret, size_t *ret_len)
{
	if (q->head == q->released)
		return false;
	*ret = at(q, q->head) + HEADER;
	*ret_len = (size_t)(frame_bytes(q, q->head) - HEADER);
	return true;
}

void hf_framequeue_pop(struct hf_framequeue *q)
{
	assert(q->head < q->released);
	q->head += frame_bytes(q, q->head);
	q->released_frames--;
	check(q);
}

int hf_framequeue_insert(struct hf_framequeue *q, const uint8_t *frame, size_t len)
{
	uint64_t shift = HEADER + len;

	assert(len > 0);
	assert(len <= HF_NETFRAME_MAX);
	if (q->tail - q->head + shift > q->ring.size_bytes)
		return -ENOBUFS;
	for (uint64_t p = q->tail; p > q->released; p--) /* from the back */
		*at(q, p - 1 + shift) = *at(q, p - 1);
	hf_netframe_encode_header(at(q, q->released), len);
	memcpy(at(q, q->released) + HEADER, frame, len);
	for (unsigned int i = 0; i <= q->n_marks; i++)
		q->mark[i].end += shift;
	q->released += shift;
	q->complete += shift;
	q->tail += shift;
	q->released_frames++;
	check(q);
	return 0;
}

const uint8_t *hf_framequeue_epoch(const struct hf_framequeue *q, uint64_t epoch, size_t *ret_len,
				   uint64_t *ret_frames)
{
	uint64_t start = q->released;

	*ret_len = 0;
	*ret_frames = 0;
	for (unsigned int i = 0; i < q->n_marks && q->mark[i].epoch <= epoch; i++) {
		if (q->mark[i].epoch == epoch) {
			*ret_len = (size_t)(q->mark[i].end - start);
			*ret_frames = q->mark[i].frames;
			return at(q, start);
		}
		start = q->mark[i].end;
	}
	return at(q, start);
}

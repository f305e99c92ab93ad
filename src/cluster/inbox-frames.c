/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/inbox-internal.h"

struct hf_frames_node {
	struct hf_frames_node *next;
	uint64_t epoch;
	uint16_t n;
	size_t len;
	uint8_t payload[]; /* of a FRAMES message */
};

/* With what the allocator needs: a peer may send each tiny frame in a message of its own. */
static size_t node_bytes(const struct hf_frames_node *node)
{
	return sizeof(*node) + node->len + 2 * sizeof(size_t);
}

void hf_frames_init(struct hf_frames *f)
{
	*f = (struct hf_frames){ .first = NULL };
	f->last_next = &f->first;
}

static void drop_first(struct hf_frames *f)
{
	struct hf_frames_node *node = f->first;

	f->first = node->next;
	if (!f->first)
		f->last_next = &f->first;
	f->n -= node->n;
	f->bytes -= node_bytes(node);
	free(node);
}

void hf_frames_clear(struct hf_frames *f)
{
	while (f->first)
		drop_first(f);
	assert(f->n == 0);
	assert(f->bytes == 0);
}

int hf_frames_add(struct hf_frames *f, uint64_t epoch, const struct hf_wire_view *view,
		  const struct hf_wire_frames *frames)
{
	struct hf_frames_node *node = malloc(sizeof(*node) + view->len);

	if (!node)
		return -ENOMEM;
	*node = (struct hf_frames_node){ .epoch = epoch, .n = frames->n, .len = view->len };
	memcpy(node->payload, view->payload, view->len);
	*f->last_next = node;
	f->last_next = &node->next;
	f->n += node->n;
	f->bytes += node_bytes(node);
	return 0;
}

void hf_frames_move(struct hf_frames *to, struct hf_frames *from)
{
	if (!from->first)
		return;
	*to->last_next = from->first;
	to->last_next = from->last_next;
	to->n += from->n;
	to->bytes += from->bytes;
	hf_frames_init(from);
}

void hf_frames_drop_released(struct hf_frames *f, uint64_t released)
{
	while (f->first && f->first->epoch <= released)
		drop_first(f);
}

uint64_t hf_frames_limit(struct hf_frames *f, uint64_t max_bytes)
{
	uint64_t before = f->n;

	while (f->bytes > max_bytes)
		drop_first(f);
	return before - f->n;
}

void hf_frames_each(const struct hf_frames *f,
		    void (*fn)(void *ctx, unsigned int netdev, const uint8_t *frame, size_t len),
		    void *ctx)
{
	for (const struct hf_frames_node *node = f->first; node; node = node->next) {
		struct hf_wire_view view = { .type = HF_WIRE_FRAMES,
					     .payload = node->payload,
					     .len = node->len };
		struct hf_wire_frames frames;
		struct hf_wire_frames_cursor cursor = { 0 };
		const uint8_t *frame;
		size_t len;
		int r = hf_wire_frames_decode(&view, &frames, NULL);

		assert(r == 0); /* it was decoded before it was kept */
		while (hf_wire_frames_next(&frames, &cursor, &frame, &len))
			fn(ctx, frames.netdev, frame, len);
	}
}

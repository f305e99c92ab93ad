/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/outbox.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "codec/delta.h"

void hf_outbox_fini(struct hf_outbox *o)
{
	free(o->base);
	free(o->patch);
	for (unsigned int i = 0; i < o->n_buffers; i++)
		free(o->buffers[i]);
	memset(o, 0, sizeof(*o));
}

void hf_outbox_reset(struct hf_outbox *o)
{
	o->base_len = 0;
}

static int reserve(uint8_t **buf, size_t *cap, size_t len)
{
	uint8_t *grown;

	if (len <= *cap)
		return 0;
	grown = realloc(*buf, len);
	if (!grown)
		return -ENOMEM;
	*buf = grown;
	*cap = len;
	return 0;
}

static uint8_t *take_buffer(struct hf_outbox *o)
{
	if (o->n_used == o->n_buffers) {
		if (o->n_buffers == HF_OUTBOX_BUFFERS_MAX)
			return NULL;
		o->buffers[o->n_buffers] = malloc(HF_WIRE_MESSAGE_MAX);
		if (!o->buffers[o->n_buffers])
			return NULL;
		o->n_buffers++;
	}
	return o->buffers[o->n_used++];
}

int hf_outbox_begin(struct hf_outbox *o, struct hf_link *link,
		    const struct hf_wire_epoch_begin *begin)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_BEGIN, .epoch_begin = *begin };

	assert(!hf_link_bulk_pending(link));
	o->n_used = 0;
	o->is_frames_open = false;
	o->end = (struct hf_wire_epoch_end){ .epoch = begin->epoch };
	return hf_link_send(link, &msg, NULL);
}

int hf_outbox_pages(struct hf_outbox *o, struct hf_link *link, uint8_t *message, size_t len)
{
	o->end.pages_messages++;
	return hf_link_send_bulk(link, message, len);
}

int hf_outbox_disk(struct hf_outbox *o, struct hf_link *link, uint8_t *message, size_t len,
		   uint32_t n_records)
{
	o->end.disk_messages++;
	o->end.disk_records += n_records;
	return hf_link_send_bulk(link, message, len);
}

static int send_pieces(struct hf_outbox *o, struct hf_link *link, enum hf_wire_state_mode mode,
		       const uint8_t *bytes, size_t len)
{
	struct hf_wire_state piece = { .total_bytes = len, .mode = (uint8_t)mode };
	int r = 0;

	do {
		uint8_t *buf = take_buffer(o);

		if (!buf)
			return -ENOMEM;
		piece.data = bytes + piece.offset_bytes;
		piece.len = len - piece.offset_bytes;
		if (piece.len > HF_WIRE_STATE_PIECE_MAX)
			piece.len = HF_WIRE_STATE_PIECE_MAX;
		r = hf_link_send_bulk(link, buf, hf_wire_state_encode(&piece, buf, NULL));
		piece.offset_bytes += piece.len;
	} while (!r && piece.offset_bytes < len);
	return r;
}

int hf_outbox_state(struct hf_outbox *o, struct hf_link *link, const uint8_t *state, size_t len)
{
	size_t patch_len = 0;
	int r;

	o->end.state_bytes = len;
	o->end.state_crc32c = hf_crc32c(0, state, len);
	if (!o->base_len)
		return send_pieces(o, link, HF_WIRE_STATE_WHOLE, state, len);
	r = reserve(&o->patch, &o->patch_cap, len);
	if (r < 0)
		return r;
	if (hf_delta_encode(o->base, o->base_len, state, len, o->patch, len, &patch_len) ==
	    HF_DELTA_TOO_LONG)
		return send_pieces(o, link, HF_WIRE_STATE_WHOLE, state, len);
	return send_pieces(o, link, HF_WIRE_STATE_DELTA, o->patch, patch_len);
}

static int close_frames(struct hf_outbox *o, struct hf_link *link)
{
	if (!o->is_frames_open)
		return 0;
	o->is_frames_open = false;
	return hf_link_send_bulk(link, o->frames.buf, hf_wire_frames_finish(&o->frames));
}

int hf_outbox_frame(struct hf_outbox *o, struct hf_link *link, uint8_t netdev, const uint8_t *frame,
		    size_t len)
{
	uint8_t *buf;
	int r;

	o->end.frames++;
	if (o->is_frames_open && o->frames.netdev == netdev &&
	    hf_wire_frames_add(&o->frames, frame, len))
		return 0;
	r = close_frames(o, link);
	if (r < 0)
		return r;
	buf = take_buffer(o);
	if (!buf)
		return -ENOMEM;
	hf_wire_frames_begin(&o->frames, buf, netdev);
	o->is_frames_open = true;
	return hf_wire_frames_add(&o->frames, frame, len) ? 0 : -EMSGSIZE;
}

int hf_outbox_end(struct hf_outbox *o, struct hf_link *link, uint64_t data_pages,
		  uint64_t zero_pages, uint64_t released)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_END };
	int r = close_frames(o, link);

	if (r < 0)
		return r;
	o->end.data_pages = data_pages;
	o->end.zero_pages = zero_pages;
	o->end.released = released;
	msg.epoch_end = o->end;
	return hf_link_send(link, &msg, NULL);
}

int hf_outbox_committed(struct hf_outbox *o, const uint8_t *state, size_t len)
{
	int r = reserve(&o->base, &o->base_cap, len);

	if (r < 0)
		return r;
	memcpy(o->base, state, len);
	o->base_len = len;
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts that an inbox is made of. Layer: cluster; for inbox*.c only.
 */
#pragma once

#include "cluster/inbox.h"
#include "codec/wire-bulk.h"

/* ---- memory that grows in place (inbox-area.c) ---- */

#define HF_AREA_WINDOW 64

/* Reserved address space of which the first bytes are used. */
struct hf_area {
	uint8_t *base; /* NULL: none */
	size_t size, used;
	size_t touched; /* what may hold memory: the largest used since it was trimmed */
	size_t window[HF_AREA_WINDOW]; /* used, of the last epochs */
	unsigned int window_at;
};

/* 0 or -errno. */
int hf_area_open(struct hf_area *a, size_t size) HF_MUST_CHECK;
void hf_area_close(struct hf_area *a);

/* Room for @n bytes more behind what is used, or NULL: beyond its size. */
uint8_t *hf_area_add(struct hf_area *a, size_t n);

/* Empties it and gives back what is beyond the largest of the window and the last time. */
void hf_area_recycle(struct hf_area *a);

/* Empties it and gives all memory back. */
void hf_area_release(struct hf_area *a);

/* Empties it without noting how much it held. */
static inline void hf_area_reset(struct hf_area *a)
{
	a->used = 0;
}

/* ---- an epoch's pages in an area, as the messages that they came in (inbox-pages.c) ---- */

/* Bytes that a message takes there. */
size_t hf_inbox_pages_room(const struct hf_wire_view *view);

/* Return: false: no room. */
bool hf_inbox_pages_keep(struct hf_area *a, const struct hf_wire_view *view);

/* Writes one decoded and checked message to RAM. */
void hf_inbox_pages_write(struct hf_ram *ram, const struct hf_wire_pages *pages);

/* Writes all that was kept, in order of arrival, so that the later of two copies of a page wins. */
void hf_inbox_pages_write_kept(struct hf_ram *ram, const struct hf_area *a);

/* ---- frames, in the messages that they came in (inbox-frames.c) ---- */

struct hf_frames_node;

struct hf_frames {
	struct hf_frames_node *first, **last_next;
	uint64_t n, bytes; /* of frames, and of the memory that holds them */
};

void hf_frames_init(struct hf_frames *f);
void hf_frames_clear(struct hf_frames *f);

/* 0 or -ENOMEM. @frames: @view decoded. */
int hf_frames_add(struct hf_frames *f, uint64_t epoch, const struct hf_wire_view *view,
		  const struct hf_wire_frames *frames) HF_MUST_CHECK;

/* Appends all of @from, which is empty afterwards. */
void hf_frames_move(struct hf_frames *to, struct hf_frames *from);

void hf_frames_drop_released(struct hf_frames *f, uint64_t released);

/* Return: how many frames had to go. */
uint64_t hf_frames_limit(struct hf_frames *f, uint64_t max_bytes);

void hf_frames_each(const struct hf_frames *f,
		    void (*fn)(void *ctx, unsigned int netdev, const uint8_t *frame, size_t len),
		    void *ctx);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The messages that carry guest data: PAGES, STATE, FRAMES. They are built in place: the data is
 * written where it will be sent from, and read from where it was received. Layer: codec. One thread
 * for each builder; everything else any thread. Nothing allocates or blocks.
 * Byte tables: docs/wire-format.md.
 *
 * Builders leave the checksums to hf_wire_seal(), which another thread may do.
 */
#pragma once

#include "codec/netframe.h"
#include "codec/wire-msg.h"

/* ---- PAGES: guest RAM in pages of HF_WIRE_PAGE_BYTES ---- */

#define HF_WIRE_DATA_PAGES_MAX 255
#define HF_WIRE_RUNS_MAX 512

/* A range of guest RAM: data pages, or pages that are all zero and have no data. */
struct hf_wire_run {
	uint64_t first_page;
	uint32_t n_pages;
	bool is_zero;
	const uint8_t *data; /* n_pages * HF_WIRE_PAGE_BYTES, NULL if is_zero */
};

struct hf_wire_pages_builder {
	uint8_t *buf;
	uint32_t n_runs;
	uint32_t n_data_pages;
	uint64_t next_page; /* the next run must not begin before it */
};

/* @buf: HF_WIRE_MESSAGE_MAX bytes. At 4096 * n + 4032 the page data is page-aligned. */
void hf_wire_pages_begin(struct hf_wire_pages_builder *b, uint8_t *buf);

/**
 * hf_wire_pages_add_data() - pages whose content follows
 * @first_page: at or after the end of what was added before: pages ascend within a message
 * @ret_taken: how many of @n_pages (> 0) found room
 * Return: where to put the content of the pages taken, at once or later, before hf_wire_seal();
 * NULL when the message is full: finish it and begin the next.
 */
uint8_t *hf_wire_pages_add_data(struct hf_wire_pages_builder *b, uint64_t first_page,
				uint32_t n_pages, uint32_t *ret_taken);

/* Pages that are all zero. Order as above. Return: false when the message is full. */
bool hf_wire_pages_add_zero(struct hf_wire_pages_builder *b, uint64_t first_page, uint32_t n_pages);

static inline bool hf_wire_pages_is_empty(const struct hf_wire_pages_builder *b)
{
	return b->n_runs == 0;
}

/**
 * hf_wire_pages_finish() - close the table and lay out the header; not allowed when empty
 * Copies at most 8 KiB (nothing when all data pages are used). The page content may still be
 * written after it.
 * Return: length of the whole message.
 */
size_t hf_wire_pages_finish(struct hf_wire_pages_builder *b);

struct hf_wire_pages {
	uint32_t n_runs;
	uint32_t n_data_pages;
	uint64_t n_zero_pages;
	uint64_t end_page; /* one behind the last page named: to be held against the RAM's size */
	const uint8_t *data;
	const uint8_t *runs;
};

/**
 * hf_wire_pages_decode() - check a PAGES message whole
 * Exact length, counts in their limits, kinds known, runs ascending without overlap or overflow.
 * Return: 0, or -EBADMSG with @err.
 */
int hf_wire_pages_decode(const struct hf_wire_view *view, struct hf_wire_pages *ret,
			 struct hf_err *err) HF_MUST_CHECK;

/* Is every page inside a RAM of @ram_pages? 0, or -EBADMSG with @err. To be asked before the first
 * run is applied. */
int hf_wire_pages_check(const struct hf_wire_pages *pages, uint64_t ram_pages,
			struct hf_err *err) HF_MUST_CHECK;

/* Walks the runs in order: start from a zeroed cursor; false at the end. */
struct hf_wire_pages_cursor {
	uint32_t run;
	uint32_t data_page;
};
bool hf_wire_pages_next(const struct hf_wire_pages *pages, struct hf_wire_pages_cursor *cursor,
			struct hf_wire_run *ret);

/* ---- STATE: a piece of an epoch's device state ---- */

#define HF_WIRE_STATE_PIECE_MAX 1048576

enum hf_wire_state_mode {
	HF_WIRE_STATE_WHOLE = 0, /* the bytes are the device state itself */
	HF_WIRE_STATE_DELTA = 1, /* they are a codec/delta.h patch against the previous epoch's */
};

/* The pieces of an epoch come in order, without gaps; all name the same total and mode. */
struct hf_wire_state {
	uint64_t total_bytes; /* of all pieces together */
	uint64_t offset_bytes;
	uint8_t mode; /* enum hf_wire_state_mode */
	const uint8_t *data;
	size_t len;
};

/**
 * hf_wire_state_encode() - a whole STATE message, not yet sealed
 * @state: data may be NULL: then the caller writes it to *@ret_data
 * @buf: HF_WIRE_MESSAGE_MAX bytes
 * Return: length of the whole message.
 */
size_t hf_wire_state_encode(const struct hf_wire_state *state, uint8_t *buf, uint8_t **ret_data);

/* Return: 0, or -EBADMSG with @err. */
int hf_wire_state_decode(const struct hf_wire_view *view, struct hf_wire_state *ret,
			 struct hf_err *err) HF_MUST_CHECK;

/* ---- FRAMES: what the guest has sent in the epoch ---- */

#define HF_WIRE_FRAMES_COUNT_MAX 8192

struct hf_wire_frames_builder {
	uint8_t *buf;
	size_t used; /* of the payload */
	uint16_t n;
	uint8_t netdev;
};

/* @netdev: index into HELLO's netdevs. @buf: HF_WIRE_MESSAGE_MAX bytes. */
void hf_wire_frames_begin(struct hf_wire_frames_builder *b, uint8_t *buf, uint8_t netdev);

/* @len: 1 to HF_NETFRAME_MAX. Copies. Return: false when the message is full. */
bool hf_wire_frames_add(struct hf_wire_frames_builder *b, const uint8_t *frame, size_t len);

/* Not allowed when empty. Return: length of the whole message, not yet sealed. */
size_t hf_wire_frames_finish(struct hf_wire_frames_builder *b);

struct hf_wire_frames {
	uint8_t netdev;
	uint16_t n;
	const uint8_t *data;
};

/* Return: 0, or -EBADMSG with @err. Whether the netdev exists is the caller's to check. */
int hf_wire_frames_decode(const struct hf_wire_view *view, struct hf_wire_frames *ret,
			  struct hf_err *err) HF_MUST_CHECK;

/* Walks the frames in order: start from a zeroed cursor; false at the end. */
struct hf_wire_frames_cursor {
	uint16_t frame;
	size_t offset;
};
bool hf_wire_frames_next(const struct hf_wire_frames *frames, struct hf_wire_frames_cursor *cursor,
			 const uint8_t **ret, size_t *ret_len);

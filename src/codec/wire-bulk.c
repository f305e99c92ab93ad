/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * PAGES: 32 bytes of counts, then the data pages, then the table of runs. The table comes last
 * because how long it gets is known last, while the place of a page's content has to be known
 * first: page i of the message always lies at the same place, so copying may begin before the
 * message is complete. Until it is, the builder keeps the table behind the place of the 255th page;
 * in a full message that is where it belongs.
 */
#include "codec/wire-bulk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

enum {
	PAGES_FIXED_BYTES = 32,
	RUN_BYTES = 16,
	STATE_FIXED_BYTES = 24,
	FRAMES_FIXED_BYTES = 8,
	FRAME_LENGTH_BYTES = 4,
};

#define PAGE_BYTES ((size_t)HF_WIRE_PAGE_BYTES)
#define RUN_KIND_DATA 0
#define RUN_KIND_ZERO 1
/* Also keeps every sum of pages far from overflow. */
#define END_PAGE_MAX (HF_WIRE_RAM_BYTES_MAX / HF_WIRE_PAGE_BYTES)

static_assert(PAGES_FIXED_BYTES + HF_WIRE_DATA_PAGES_MAX * HF_WIRE_PAGE_BYTES +
			      HF_WIRE_RUNS_MAX * RUN_BYTES <=
		      HF_WIRE_PAYLOAD_MAX,
	      "a full PAGES message fits");
static_assert(STATE_FIXED_BYTES + HF_WIRE_STATE_PIECE_MAX <= HF_WIRE_PAYLOAD_MAX,
	      "a full STATE message fits");
static_assert(FRAMES_FIXED_BYTES + FRAME_LENGTH_BYTES + HF_NETFRAME_MAX <= HF_WIRE_PAYLOAD_MAX,
	      "the longest frame fits");

static int bad(const struct hf_wire_view *view, struct hf_err *err)
{
	hf_err_prefix(err, "replication link: a bad %s: ", hf_wire_type_name(view->type));
	return -EBADMSG;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* ---- PAGES ---- */

void hf_wire_pages_begin(struct hf_wire_pages_builder *b, uint8_t *buf)
{
	*b = (struct hf_wire_pages_builder){ .buf = buf };
}

static uint8_t *builder_data(const struct hf_wire_pages_builder *b, uint32_t page)
{
	return b->buf + HF_WIRE_HEADER_BYTES + PAGES_FIXED_BYTES + page * PAGE_BYTES;
}

static uint8_t *builder_run(const struct hf_wire_pages_builder *b, uint32_t run)
{
	return builder_data(b, HF_WIRE_DATA_PAGES_MAX) + (size_t)run * RUN_BYTES;
}

/* Lengthens the last run if the new one continues it. */
static bool add_run(struct hf_wire_pages_builder *b, uint64_t first, uint32_t n, uint32_t kind)
{
	uint8_t *last = b->n_runs > 0 ? builder_run(b, b->n_runs - 1) : NULL;
	uint8_t *run;

	if (last && b->next_page == first && hf_le32_get(last + 12) == kind &&
	    hf_le32_get(last + 8) <= UINT32_MAX - n) {
		hf_le32_put(last + 8, hf_le32_get(last + 8) + n);
	} else {
		if (b->n_runs == HF_WIRE_RUNS_MAX)
			return false;
		run = builder_run(b, b->n_runs++);
		hf_le64_put(run, first);
		hf_le32_put(run + 8, n);
		hf_le32_put(run + 12, kind);
	}
	b->next_page = first + n;
	return true;
}

static void check_order(const struct hf_wire_pages_builder *b, uint64_t first, uint32_t n)
{
	assert(n > 0);
	assert(first >= b->next_page);
	assert(first <= END_PAGE_MAX && n <= END_PAGE_MAX - first);
}

uint8_t *hf_wire_pages_add_data(struct hf_wire_pages_builder *b, uint64_t first_page,
				uint32_t n_pages, uint32_t *ret_taken)
{
	uint32_t room = HF_WIRE_DATA_PAGES_MAX - b->n_data_pages;
	uint32_t taken = n_pages < room ? n_pages : room;
	uint8_t *data = builder_data(b, b->n_data_pages);

	check_order(b, first_page, n_pages);
	if (taken == 0 || !add_run(b, first_page, taken, RUN_KIND_DATA))
		return NULL;
	b->n_data_pages += taken;
	*ret_taken = taken;
	return data;
}

bool hf_wire_pages_add_zero(struct hf_wire_pages_builder *b, uint64_t first_page, uint32_t n_pages)
{
	check_order(b, first_page, n_pages);
	return add_run(b, first_page, n_pages, RUN_KIND_ZERO);
}

size_t hf_wire_pages_finish(struct hf_wire_pages_builder *b)
{
	uint8_t *fixed = b->buf + HF_WIRE_HEADER_BYTES;
	uint8_t *table = builder_data(b, b->n_data_pages);
	size_t table_bytes = (size_t)b->n_runs * RUN_BYTES;

	assert(b->n_runs > 0);
	memset(fixed, 0, PAGES_FIXED_BYTES);
	hf_le32_put(fixed, b->n_runs);
	hf_le32_put(fixed + 4, b->n_data_pages);
	memmove(table, builder_run(b, 0), table_bytes);
	hf_wire_put_header(b->buf, HF_WIRE_PAGES, (size_t)(table - fixed) + table_bytes);
	return (size_t)(table - b->buf) + table_bytes;
}

static int decode_run(const uint8_t *p, uint32_t i, struct hf_wire_pages *pages,
		      uint64_t *data_pages, struct hf_err *err)
{
	uint64_t first = hf_le64_get(p);
	uint32_t n = hf_le32_get(p + 8), kind = hf_le32_get(p + 12);

	if (kind != RUN_KIND_DATA && kind != RUN_KIND_ZERO)
		hf_err_set(err, "run %u is of the unknown kind %u", i, kind);
	else if (n == 0)
		hf_err_set(err, "run %u is empty", i);
	else if (first < pages->end_page)
		hf_err_set(err, "run %u begins at page %" PRIu64 ", before the end of the last one",
			   i, first);
	else if (first > END_PAGE_MAX || n > END_PAGE_MAX - first)
		hf_err_set(err, "run %u of %u pages at page %" PRIu64 " is beyond any RAM", i, n,
			   first);
	else {
		*(kind == RUN_KIND_DATA ? data_pages : &pages->n_zero_pages) += n;
		pages->end_page = first + n;
		return 0;
	}
	return -EINVAL;
}

static int decode_runs(struct hf_wire_pages *pages, struct hf_err *err)
{
	uint64_t data_pages = 0;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < pages->n_runs; i++)
		r = decode_run(pages->runs + (size_t)i * RUN_BYTES, i, pages, &data_pages, err);
	if (r == 0 && data_pages != pages->n_data_pages) {
		hf_err_set(err, "its runs have %" PRIu64 " data pages, it announces %u", data_pages,
			   pages->n_data_pages);
		r = -EINVAL;
	}
	return r;
}

static int decode_pages_fixed(const struct hf_wire_view *view, struct hf_wire_pages *pages,
			      struct hf_err *err)
{
	const uint8_t *p = view->payload;

	if (view->len < PAGES_FIXED_BYTES) {
		hf_err_set(err, "it ends inside its counts");
		return -EINVAL;
	}
	pages->n_runs = hf_le32_get(p);
	pages->n_data_pages = hf_le32_get(p + 4);
	if (pages->n_runs == 0 || pages->n_runs > HF_WIRE_RUNS_MAX)
		hf_err_set(err, "%u runs, possible is 1 to %d", pages->n_runs, HF_WIRE_RUNS_MAX);
	else if (pages->n_data_pages > HF_WIRE_DATA_PAGES_MAX)
		hf_err_set(err, "%u data pages, at most %d are possible", pages->n_data_pages,
			   HF_WIRE_DATA_PAGES_MAX);
	else if (!is_zero(p + 8, PAGES_FIXED_BYTES - 8))
		hf_err_set(err, "a reserved field is not zero");
	else
		return 0;
	return -EINVAL;
}

static int decode_pages(const struct hf_wire_view *view, struct hf_wire_pages *pages,
			struct hf_err *err)
{
	size_t len;
	int r = decode_pages_fixed(view, pages, err);

	if (r < 0)
		return r;
	pages->data = view->payload + PAGES_FIXED_BYTES;
	pages->runs = pages->data + pages->n_data_pages * PAGE_BYTES;
	len = (size_t)(pages->runs - view->payload) + (size_t)pages->n_runs * RUN_BYTES;
	if (view->len != len) {
		hf_err_set(err, "it has %zu bytes where %zu are announced", view->len, len);
		return -EINVAL;
	}
	return decode_runs(pages, err);
}

int hf_wire_pages_decode(const struct hf_wire_view *view, struct hf_wire_pages *ret,
			 struct hf_err *err)
{
	struct hf_wire_pages pages = { .n_runs = 0 };

	assert(view->type == HF_WIRE_PAGES);
	if (decode_pages(view, &pages, err) < 0)
		return bad(view, err);
	*ret = pages;
	return 0;
}

int hf_wire_pages_check(const struct hf_wire_pages *pages, uint64_t ram_pages, struct hf_err *err)
{
	if (pages->end_page <= ram_pages)
		return 0;
	hf_err_set(err,
		   "replication link: PAGES reach page %" PRIu64 " of a RAM of %" PRIu64 " pages",
		   pages->end_page - 1, ram_pages);
	return -EBADMSG;
}

bool hf_wire_pages_next(const struct hf_wire_pages *pages, struct hf_wire_pages_cursor *cursor,
			struct hf_wire_run *ret)
{
	const uint8_t *p;

	if (cursor->run == pages->n_runs)
		return false;
	p = pages->runs + (size_t)cursor->run++ * RUN_BYTES;
	ret->first_page = hf_le64_get(p);
	ret->n_pages = hf_le32_get(p + 8);
	ret->is_zero = hf_le32_get(p + 12) == RUN_KIND_ZERO;
	ret->data = NULL;
	if (ret->is_zero)
		return true;
	ret->data = pages->data + cursor->data_page * PAGE_BYTES;
	cursor->data_page += ret->n_pages;
	return true;
}

/* ---- STATE ---- */

static bool is_piece_valid(const struct hf_wire_state *s)
{
	return s->len > 0 && s->len <= HF_WIRE_STATE_PIECE_MAX &&
	       s->total_bytes <= HF_WIRE_STATE_BYTES_MAX && s->offset_bytes <= s->total_bytes &&
	       s->len <= s->total_bytes - s->offset_bytes;
}

size_t hf_wire_state_encode(const struct hf_wire_state *state, uint8_t *buf, uint8_t **ret_data)
{
	uint8_t *p = buf + HF_WIRE_HEADER_BYTES;

	assert(is_piece_valid(state));
	assert(state->mode <= HF_WIRE_STATE_DELTA);
	memset(p, 0, STATE_FIXED_BYTES);
	hf_le64_put(p, state->total_bytes);
	hf_le64_put(p + 8, state->offset_bytes);
	p[16] = state->mode;
	if (state->data)
		memcpy(p + STATE_FIXED_BYTES, state->data, state->len);
	else
		*ret_data = p + STATE_FIXED_BYTES;
	hf_wire_put_header(buf, HF_WIRE_STATE, STATE_FIXED_BYTES + state->len);
	return HF_WIRE_HEADER_BYTES + STATE_FIXED_BYTES + state->len;
}

static int decode_state(const struct hf_wire_view *view, struct hf_wire_state *state,
			struct hf_err *err)
{
	const uint8_t *p = view->payload;

	if (view->len < STATE_FIXED_BYTES) {
		hf_err_set(err, "it ends inside its fixed part");
		return -EINVAL;
	}
	state->total_bytes = hf_le64_get(p);
	state->offset_bytes = hf_le64_get(p + 8);
	state->mode = p[16];
	state->data = p + STATE_FIXED_BYTES;
	state->len = view->len - STATE_FIXED_BYTES;
	if (state->mode > HF_WIRE_STATE_DELTA)
		hf_err_set(err, "the mode %u is unknown", state->mode);
	else if (!is_zero(p + 17, STATE_FIXED_BYTES - 17))
		hf_err_set(err, "a reserved field is not zero");
	else if (!is_piece_valid(state))
		hf_err_set(err, "a piece of %zu bytes at %" PRIu64 " of %" PRIu64 " makes no sense",
			   state->len, state->offset_bytes, state->total_bytes);
	else
		return 0;
	return -EINVAL;
}

int hf_wire_state_decode(const struct hf_wire_view *view, struct hf_wire_state *ret,
			 struct hf_err *err)
{
	struct hf_wire_state state = { .mode = 0 };

	assert(view->type == HF_WIRE_STATE);
	if (decode_state(view, &state, err) < 0)
		return bad(view, err);
	*ret = state;
	return 0;
}

/* ---- FRAMES ---- */

void hf_wire_frames_begin(struct hf_wire_frames_builder *b, uint8_t *buf, uint8_t netdev)
{
	assert(netdev < HF_WIRE_NETDEVS_MAX);
	*b = (struct hf_wire_frames_builder){ .buf = buf,
					      .netdev = netdev,
					      .used = FRAMES_FIXED_BYTES };
}

bool hf_wire_frames_add(struct hf_wire_frames_builder *b, const uint8_t *frame, size_t len)
{
	uint8_t *p = b->buf + HF_WIRE_HEADER_BYTES + b->used;

	assert(len > 0);
	assert(len <= HF_NETFRAME_MAX);
	if (b->n == HF_WIRE_FRAMES_COUNT_MAX)
		return false;
	if (HF_WIRE_PAYLOAD_MAX - b->used < FRAME_LENGTH_BYTES + len)
		return false;
	hf_le32_put(p, (uint32_t)len);
	memcpy(p + FRAME_LENGTH_BYTES, frame, len);
	b->used += FRAME_LENGTH_BYTES + len;
	b->n++;
	return true;
}

size_t hf_wire_frames_finish(struct hf_wire_frames_builder *b)
{
	uint8_t *p = b->buf + HF_WIRE_HEADER_BYTES;

	assert(b->n > 0);
	memset(p, 0, FRAMES_FIXED_BYTES);
	p[0] = b->netdev;
	hf_le16_put(p + 2, b->n);
	hf_wire_put_header(b->buf, HF_WIRE_FRAMES, b->used);
	return HF_WIRE_HEADER_BYTES + b->used;
}

static int check_frames(const struct hf_wire_view *view, unsigned int n, struct hf_err *err)
{
	const uint8_t *p = view->payload + FRAMES_FIXED_BYTES, *end = view->payload + view->len;

	for (unsigned int i = 0; i < n; i++) {
		uint32_t len = end - p < FRAME_LENGTH_BYTES ? 0 : hf_le32_get(p);

		if (len == 0 || len > HF_NETFRAME_MAX ||
		    (size_t)(end - p) - FRAME_LENGTH_BYTES < len) {
			hf_err_set(err, "frame %u of %u is empty, too long or cut", i, n);
			return -EINVAL;
		}
		p += FRAME_LENGTH_BYTES + len;
	}
	if (p == end)
		return 0;
	hf_err_set(err, "%zu bytes follow its last frame", (size_t)(end - p));
	return -EINVAL;
}

static int decode_frames(const struct hf_wire_view *view, struct hf_wire_frames *frames,
			 struct hf_err *err)
{
	const uint8_t *p = view->payload;

	if (view->len < FRAMES_FIXED_BYTES) {
		hf_err_set(err, "it ends inside its fixed part");
		return -EINVAL;
	}
	frames->netdev = p[0];
	frames->n = hf_le16_get(p + 2);
	frames->data = p + FRAMES_FIXED_BYTES;
	if (frames->netdev >= HF_WIRE_NETDEVS_MAX)
		hf_err_set(err, "netdev %u, at most %d are possible", frames->netdev,
			   HF_WIRE_NETDEVS_MAX);
	else if (p[1] != 0 || !is_zero(p + 4, FRAMES_FIXED_BYTES - 4))
		hf_err_set(err, "a reserved field is not zero");
	else if (frames->n == 0 || frames->n > HF_WIRE_FRAMES_COUNT_MAX)
		hf_err_set(err, "%u frames, possible is 1 to %d", frames->n,
			   HF_WIRE_FRAMES_COUNT_MAX);
	else
		return check_frames(view, frames->n, err);
	return -EINVAL;
}

int hf_wire_frames_decode(const struct hf_wire_view *view, struct hf_wire_frames *ret,
			  struct hf_err *err)
{
	struct hf_wire_frames frames = { .n = 0 };

	assert(view->type == HF_WIRE_FRAMES);
	if (decode_frames(view, &frames, err) < 0)
		return bad(view, err);
	*ret = frames;
	return 0;
}

bool hf_wire_frames_next(const struct hf_wire_frames *frames, struct hf_wire_frames_cursor *cursor,
			 const uint8_t **ret, size_t *ret_len)
{
	const uint8_t *p = frames->data + cursor->offset;

	if (cursor->frame == frames->n)
		return false;
	cursor->frame++;
	*ret_len = hf_le32_get(p);
	*ret = p + FRAME_LENGTH_BYTES;
	cursor->offset += FRAME_LENGTH_BYTES + *ret_len;
	return true;
}

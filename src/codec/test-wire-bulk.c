/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bytes.h"
#include "codec/wire-bulk.h"

static uint8_t message[HF_WIRE_MESSAGE_MAX];

static void fill(uint8_t *page, uint64_t number)
{
	for (size_t i = 0; i < HF_WIRE_PAGE_BYTES; i += 8)
		hf_le64_put(page + i, number * 0x9e3779b97f4a7c15 + i);
}

static void check_page(const uint8_t *page, uint64_t number)
{
	uint8_t want[HF_WIRE_PAGE_BYTES];

	fill(want, number);
	CHECK(memcmp(page, want, sizeof(want)) == 0);
}

static void add_page(struct hf_wire_pages_builder *b, uint64_t number)
{
	uint32_t taken = 0;
	uint8_t *p = hf_wire_pages_add_data(b, number, 1, &taken);

	CHECK(p);
	CHECK_EQ(taken, 1);
	fill(p, number);
}

/* Seals, runs it through a reader, so framing and checksums are part of the test. */
static struct hf_wire_view through_reader(size_t len)
{
	static uint8_t buf[HF_WIRE_MESSAGE_MAX];
	struct hf_wire_reader r;
	struct hf_wire_view view = { .len = 0 };
	size_t n, at = 0;
	uint8_t *space;

	CHECK_EQ(hf_wire_seal(message), len);
	hf_wire_reader_init(&r, buf, sizeof(buf));
	while (at < len) {
		CHECK_EQ(hf_wire_reader_next(&r, &view, NULL), HF_WIRE_NEED_MORE);
		hf_wire_reader_space(&r, &space, &n);
		n = n < len - at ? n : len - at;
		memcpy(space, message + at, n);
		hf_wire_reader_commit(&r, n);
		at += n;
	}
	CHECK_EQ(hf_wire_reader_next(&r, &view, NULL), HF_WIRE_MESSAGE);
	return view;
}

static void expect_run(const struct hf_wire_pages *pages, struct hf_wire_pages_cursor *cursor,
		       uint64_t first, uint32_t n, bool is_zero)
{
	struct hf_wire_run run;

	CHECK(hf_wire_pages_next(pages, cursor, &run));
	CHECK_EQ(run.first_page, first);
	CHECK_EQ(run.n_pages, n);
	CHECK_EQ(run.is_zero, is_zero);
	CHECK_EQ(run.data == NULL, is_zero);
	for (uint32_t i = 0; !is_zero && i < n; i++)
		check_page(run.data + (size_t)i * HF_WIRE_PAGE_BYTES, first + i);
}

TEST(pages_come_back)
{
	struct hf_wire_pages_builder b;
	struct hf_wire_pages_cursor cursor = { 0 };
	struct hf_wire_pages pages;
	struct hf_wire_view view;
	struct hf_wire_run run;

	hf_wire_pages_begin(&b, message);
	CHECK(hf_wire_pages_is_empty(&b));
	add_page(&b, 3);
	add_page(&b, 4);
	CHECK(hf_wire_pages_add_zero(&b, 5, 1000000));
	CHECK(hf_wire_pages_add_zero(&b, 1000005, 5));
	add_page(&b, 2000000);
	add_page(&b, 2000002);
	view = through_reader(hf_wire_pages_finish(&b));
	CHECK_EQ(view.type, HF_WIRE_PAGES);
	CHECK_EQ(view.len, 32 + 4 * 4096 + 4 * 16);
	CHECK_EQ(hf_wire_pages_decode(&view, &pages, NULL), 0);
	CHECK_EQ(pages.n_data_pages, 4);
	CHECK_EQ(pages.n_zero_pages, 1000005);
	CHECK_EQ(pages.end_page, 2000003);
	expect_run(&pages, &cursor, 3, 2, false);
	expect_run(&pages, &cursor, 5, 1000005, true);
	expect_run(&pages, &cursor, 2000000, 1, false);
	expect_run(&pages, &cursor, 2000002, 1, false);
	CHECK(!hf_wire_pages_next(&pages, &cursor, &run));
}

/* The content is written after finish(), as a copying thread does. */
TEST(a_full_message_is_filled_late)
{
	struct hf_wire_pages_cursor cursor = { 0 };
	struct hf_wire_pages_builder b;
	struct hf_wire_pages pages;
	struct hf_wire_view view;
	uint32_t taken;
	uint8_t *data;
	size_t len;

	hf_wire_pages_begin(&b, message);
	data = hf_wire_pages_add_data(&b, 10, 1000, &taken);
	CHECK(data == message + 64);
	CHECK_EQ(taken, HF_WIRE_DATA_PAGES_MAX);
	CHECK(!hf_wire_pages_add_data(&b, 10 + taken, 1, &taken));
	len = hf_wire_pages_finish(&b);
	for (uint32_t i = 0; i < HF_WIRE_DATA_PAGES_MAX; i++)
		fill(data + (size_t)i * HF_WIRE_PAGE_BYTES, 10 + i);
	view = through_reader(len);
	CHECK_EQ(hf_wire_pages_decode(&view, &pages, NULL), 0);
	expect_run(&pages, &cursor, 10, HF_WIRE_DATA_PAGES_MAX, false);
}

TEST(runs_are_limited)
{
	struct hf_wire_pages_builder b;
	struct hf_wire_pages pages;
	struct hf_wire_view view;
	uint32_t taken;

	hf_wire_pages_begin(&b, message);
	for (uint64_t i = 0; i < HF_WIRE_RUNS_MAX / 2; i++) {
		if (i < HF_WIRE_DATA_PAGES_MAX)
			add_page(&b, 4 * i);
		else
			CHECK(hf_wire_pages_add_zero(&b, 4 * i, 1));
		CHECK(hf_wire_pages_add_zero(&b, 4 * i + 2, 1));
	}
	CHECK(!hf_wire_pages_add_zero(&b, 5000, 1));
	CHECK(!hf_wire_pages_add_data(&b, 5000, 1, &taken));
	view = through_reader(hf_wire_pages_finish(&b));
	CHECK_EQ(hf_wire_pages_decode(&view, &pages, NULL), 0);
	CHECK_EQ(pages.n_runs, HF_WIRE_RUNS_MAX);
	CHECK_EQ(pages.n_data_pages, 255);
	CHECK_EQ(pages.n_zero_pages, 257);
}

TEST(pages_outside_ram_are_refused)
{
	struct hf_wire_pages pages = { .end_page = 65536 };
	struct hf_err err;

	CHECK_EQ(hf_wire_pages_check(&pages, 65536, &err), 0);
	CHECK_EQ(hf_wire_pages_check(&pages, 65535, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "page 65535 of a RAM of 65535 pages");
}

/* Data pages 8 and 9, zero pages 20 to 29; the table of runs stands at 32 + 2 * 4096 = 8224. */
static struct hf_wire_view small_pages(void)
{
	struct hf_wire_pages_builder b;
	size_t len;

	hf_wire_pages_begin(&b, message);
	add_page(&b, 8);
	add_page(&b, 9);
	CHECK(hf_wire_pages_add_zero(&b, 20, 10));
	len = hf_wire_pages_finish(&b);
	return (struct hf_wire_view){ HF_WIRE_PAGES, message + HF_WIRE_HEADER_BYTES,
				      len - HF_WIRE_HEADER_BYTES };
}

struct patch {
	unsigned int at;
	unsigned int bytes;
	uint64_t value;
	const char *says;
};

static const struct patch pages_patches[] = {
	{ 0, 4, 0, "0 runs, possible is 1 to 512" },
	{ 0, 4, 513, "513 runs" },
	{ 0, 4, UINT32_MAX, "4294967295 runs" },
	{ 0, 4, 1, "it has 8256 bytes where 8240 are announced" },
	{ 0, 4, 3, "are announced" },
	{ 4, 4, 256, "256 data pages, at most 255" },
	{ 4, 4, UINT32_MAX, "data pages, at most" },
	{ 4, 4, 1, "are announced" },
	{ 8, 1, 1, "a reserved field" },
	{ 31, 1, 1, "a reserved field" },
	{ 8224, 8, UINT64_MAX, "run 0 of 2 pages at page 18446744073709551615 is beyond any RAM" },
	{ 8224, 8, ((uint64_t)1 << 34) - 1, "is beyond any RAM" },
	{ 8224, 8, 19, "run 1 begins at page 20, before the end" },
	{ 8232, 4, 0, "run 0 is empty" },
	{ 8232, 4, 1, "its runs have 1 data pages, it announces 2" },
	{ 8232, 4, 3, "its runs have 3 data pages, it announces 2" },
	{ 8232, 4, UINT32_MAX, "run 1 begins at page 20" },
	{ 8236, 4, 2, "run 0 is of the unknown kind 2" },
	{ 8236, 4, 1, "its runs have 0 data pages" },
	{ 8240, 8, 9, "run 1 begins at page 9, before the end" },
	{ 8240, 8, 0, "run 1 begins at page 0, before the end" },
	{ 8252, 4, 0, "its runs have 12 data pages" },
};

TEST(bad_pages_are_refused)
{
	for (size_t i = 0; i < sizeof(pages_patches) / sizeof(*pages_patches); i++) {
		const struct patch *p = &pages_patches[i];
		struct hf_wire_view view = small_pages();
		struct hf_wire_pages pages;
		struct hf_err err = { "accepted" };
		uint8_t le[8];

		CHECK_EQ(hf_wire_pages_decode(&view, &pages, NULL), 0);
		hf_le64_put(le, p->value);
		memcpy(message + HF_WIRE_HEADER_BYTES + p->at, le, p->bytes);
		CHECK_EQ(hf_wire_pages_decode(&view, &pages, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, p->says);
		CHECK_CONTAINS(err.text, "a bad PAGES: ");
	}
}

TEST(every_truncation_of_pages_is_refused)
{
	struct hf_wire_view view = small_pages();
	struct hf_wire_pages pages;
	size_t full = view.len;

	for (size_t len = 0; len < full; len++) {
		uint8_t *exact = malloc(len + !len);

		CHECK(exact);
		memcpy(exact, view.payload, len);
		CHECK_EQ(hf_wire_pages_decode(&(struct hf_wire_view){ HF_WIRE_PAGES, exact, len },
					      &pages, NULL),
			 -EBADMSG);
		free(exact);
	}
	view.len = full + 1;
	CHECK_EQ(hf_wire_pages_decode(&view, &pages, NULL), -EBADMSG);
}

TEST(state_comes_back)
{
	static const uint8_t bytes[] = "device state";
	struct hf_wire_state out, in = { .total_bytes = 1000,
					 .offset_bytes = 1000 - sizeof(bytes),
					 .mode = HF_WIRE_STATE_DELTA,
					 .data = bytes,
					 .len = sizeof(bytes) };
	struct hf_wire_view view = through_reader(hf_wire_state_encode(&in, message, NULL));

	CHECK_EQ(hf_wire_state_decode(&view, &out, NULL), 0);
	CHECK_EQ(out.total_bytes, 1000);
	CHECK_EQ(out.offset_bytes, in.offset_bytes);
	CHECK_EQ(out.mode, HF_WIRE_STATE_DELTA);
	CHECK_EQ(out.len, sizeof(bytes));
	CHECK(memcmp(out.data, bytes, sizeof(bytes)) == 0);
}

TEST(a_full_state_piece_is_filled_in_place)
{
	struct hf_wire_state out,
		in = { .total_bytes = HF_WIRE_STATE_BYTES_MAX, .len = HF_WIRE_STATE_PIECE_MAX };
	struct hf_wire_view view;
	uint8_t *data = NULL;
	size_t len = hf_wire_state_encode(&in, message, &data);

	CHECK(data == message + 32 + 24);
	memset(data, 0x5a, HF_WIRE_STATE_PIECE_MAX);
	view = through_reader(len);
	CHECK_EQ(hf_wire_state_decode(&view, &out, NULL), 0);
	CHECK_EQ(out.len, HF_WIRE_STATE_PIECE_MAX);
	CHECK_EQ(out.data[HF_WIRE_STATE_PIECE_MAX - 1], 0x5a);
}

static const struct patch state_patches[] = {
	{ 0, 8, 0, "a piece of 8 bytes at 100 of 0 makes no sense" },
	{ 0, 8, 107, "a piece of 8 bytes at 100 of 107" },
	{ 0, 8, HF_WIRE_STATE_BYTES_MAX + 1, "makes no sense" },
	{ 0, 8, UINT64_MAX, "makes no sense" },
	{ 8, 8, UINT64_MAX, "makes no sense" },
	{ 8, 8, UINT64_MAX - 7, "makes no sense" },
	{ 8, 8, 993, "makes no sense" },
	{ 16, 1, 2, "the mode 2 is unknown" },
	{ 17, 1, 1, "a reserved field" },
	{ 23, 1, 1, "a reserved field" },
};

TEST(bad_states_are_refused)
{
	struct hf_wire_state out, in = { .total_bytes = 1000,
					 .offset_bytes = 100,
					 .len = 8,
					 .data = (const uint8_t *)"12345678" };

	for (size_t i = 0; i < sizeof(state_patches) / sizeof(*state_patches); i++) {
		const struct patch *p = &state_patches[i];
		size_t len = hf_wire_state_encode(&in, message, NULL);
		struct hf_wire_view view = { HF_WIRE_STATE, message + 32, len - 32 };
		struct hf_err err = { "accepted" };
		uint8_t le[8];

		CHECK_EQ(hf_wire_state_decode(&view, &out, NULL), 0);
		hf_le64_put(le, p->value);
		memcpy(message + 32 + p->at, le, p->bytes);
		CHECK_EQ(hf_wire_state_decode(&view, &out, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, p->says);
	}
	for (size_t len = 0; len <= 24; len++) {
		struct hf_wire_view view = { HF_WIRE_STATE, message + 32, len };

		(void)hf_wire_state_encode(&in, message, NULL);
		CHECK_EQ(hf_wire_state_decode(&view, &out, NULL), -EBADMSG);
	}
}

TEST(frames_come_back)
{
	static uint8_t big[HF_NETFRAME_MAX];
	struct hf_wire_frames_cursor cursor = { 0 };
	struct hf_wire_frames_builder b;
	struct hf_wire_frames frames;
	struct hf_wire_view view;
	const uint8_t *frame;
	size_t len;

	memset(big, 0xab, sizeof(big));
	hf_wire_frames_begin(&b, message, 3);
	CHECK(hf_wire_frames_add(&b, (const uint8_t *)"a", 1));
	CHECK(hf_wire_frames_add(&b, big, sizeof(big)));
	CHECK(hf_wire_frames_add(&b, (const uint8_t *)"bcd", 3));
	view = through_reader(hf_wire_frames_finish(&b));
	CHECK_EQ(hf_wire_frames_decode(&view, &frames, NULL), 0);
	CHECK_EQ(frames.netdev, 3);
	CHECK_EQ(frames.n, 3);
	CHECK(hf_wire_frames_next(&frames, &cursor, &frame, &len));
	CHECK_EQ(len, 1);
	CHECK_EQ(frame[0], 'a');
	CHECK(hf_wire_frames_next(&frames, &cursor, &frame, &len));
	CHECK_EQ(len, sizeof(big));
	CHECK(memcmp(frame, big, len) == 0);
	CHECK(hf_wire_frames_next(&frames, &cursor, &frame, &len));
	CHECK_EQ(len, 3);
	CHECK(memcmp(frame, "bcd", 3) == 0);
	CHECK(!hf_wire_frames_next(&frames, &cursor, &frame, &len));
}

TEST(frames_are_limited_by_room_and_number)
{
	static const uint8_t frame[HF_NETFRAME_MAX];
	struct hf_wire_frames_builder b;
	struct hf_wire_frames frames;
	struct hf_wire_view view;
	size_t n = 0;

	hf_wire_frames_begin(&b, message, 0);
	while (hf_wire_frames_add(&b, frame, HF_NETFRAME_MAX))
		n++;
	CHECK_EQ(n, 15);
	view = through_reader(hf_wire_frames_finish(&b));
	CHECK_EQ(hf_wire_frames_decode(&view, &frames, NULL), 0);
	CHECK_EQ(frames.n, 15);
	hf_wire_frames_begin(&b, message, 0);
	for (n = 0; hf_wire_frames_add(&b, frame, 1);)
		n++;
	CHECK_EQ(n, HF_WIRE_FRAMES_COUNT_MAX);
	view = through_reader(hf_wire_frames_finish(&b));
	CHECK_EQ(hf_wire_frames_decode(&view, &frames, NULL), 0);
}

static const struct patch frames_patches[] = {
	{ 0, 1, 16, "netdev 16" },
	{ 1, 1, 1, "a reserved field" },
	{ 4, 1, 1, "a reserved field" },
	{ 7, 1, 1, "a reserved field" },
	{ 2, 2, 0, "0 frames, possible is 1 to 8192" },
	{ 2, 2, 8193, "8193 frames" },
	{ 2, 2, 1, "7 bytes follow its last frame" },
	{ 2, 2, 3, "frame 2 of 3 is empty, too long or cut" },
	{ 8, 4, 0, "frame 0 of 2 is empty" },
	{ 8, 4, HF_NETFRAME_MAX + 1, "frame 0 of 2" },
	{ 8, 4, UINT32_MAX, "frame 0 of 2" },
	{ 14, 4, 2, "1 bytes follow its last frame" },
	{ 14, 4, 4, "frame 1 of 2" },
};

static struct hf_wire_view small_frames(void)
{
	struct hf_wire_frames_builder b;
	size_t len;

	hf_wire_frames_begin(&b, message, 0);
	CHECK(hf_wire_frames_add(&b, (const uint8_t *)"ab", 2));
	CHECK(hf_wire_frames_add(&b, (const uint8_t *)"cde", 3));
	len = hf_wire_frames_finish(&b);
	return (struct hf_wire_view){ HF_WIRE_FRAMES, message + 32, len - 32 };
}

TEST(bad_frames_are_refused)
{
	struct hf_wire_frames frames;

	for (size_t i = 0; i < sizeof(frames_patches) / sizeof(*frames_patches); i++) {
		const struct patch *p = &frames_patches[i];
		struct hf_wire_view view = small_frames();
		struct hf_err err = { "accepted" };
		uint8_t le[8];

		CHECK_EQ(hf_wire_frames_decode(&view, &frames, NULL), 0);
		hf_le64_put(le, p->value);
		memcpy(message + 32 + p->at, le, p->bytes);
		CHECK_EQ(hf_wire_frames_decode(&view, &frames, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, p->says);
	}
	for (size_t len = 0; len < 21; len++) {
		uint8_t *exact = malloc(len + !len);

		CHECK(exact);
		memcpy(exact, small_frames().payload, len);
		CHECK_EQ(hf_wire_frames_decode(&(struct hf_wire_view){ HF_WIRE_FRAMES, exact, len },
					       &frames, NULL),
			 -EBADMSG);
		free(exact);
	}
}

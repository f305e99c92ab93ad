/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * First byte 0 to 127: a stream for the reader, in pieces of that many 32 bytes; checksums stop
 * nearly everything early. 128 and more: the rest is the payload of a message of type (byte - 128),
 * to which a right header is made; what the decoder accepts must come back the same from the
 * encoder.
 */
#include "fuzz.h"

#include <string.h>

#include "codec/wire-bulk.h"
#include "codec/wire-disk.h"

static uint8_t reader_buf[HF_WIRE_MESSAGE_MAX + 65536];
static uint8_t out[HF_WIRE_MESSAGE_MAX];

static void check_control(const struct hf_wire_view *view)
{
	struct hf_err err = { "" };
	unsigned int min, max;
	struct hf_wire_msg msg;
	size_t len;

	if (hf_wire_decode(view, &msg, &err) != 0) {
		FUZZ_CHECK(err.text[0] != '\0');
		return;
	}
	if (view->type == HF_WIRE_HELLO) {
		FUZZ_CHECK(hf_wire_hello_versions(view, &min, &max, NULL) == 0);
		FUZZ_CHECK(min == msg.hello.version_min && max == msg.hello.version_max);
	}
	FUZZ_CHECK(hf_wire_encode(&msg, out, sizeof(out), &len, NULL) == 0);
	FUZZ_CHECK(len == HF_WIRE_HEADER_BYTES + view->len);
	FUZZ_CHECK(memcmp(out + HF_WIRE_HEADER_BYTES, view->payload, view->len) == 0);
}

static void rebuild_pages(const struct hf_wire_pages *pages, struct hf_wire_pages_builder *b)
{
	struct hf_wire_pages_cursor cursor = { 0 };
	struct hf_wire_run run;
	uint32_t taken;

	hf_wire_pages_begin(b, out);
	while (hf_wire_pages_next(pages, &cursor, &run)) {
		uint8_t *data;

		if (run.is_zero) {
			FUZZ_CHECK(hf_wire_pages_add_zero(b, run.first_page, run.n_pages));
			continue;
		}
		data = hf_wire_pages_add_data(b, run.first_page, run.n_pages, &taken);
		FUZZ_CHECK(data && taken == run.n_pages);
		memcpy(data, run.data, (size_t)taken * HF_WIRE_PAGE_BYTES);
	}
}

static void check_pages(const struct hf_wire_view *view)
{
	struct hf_wire_pages pages, again;
	struct hf_wire_pages_builder b;
	struct hf_wire_view back = { .type = HF_WIRE_PAGES };

	if (hf_wire_pages_decode(view, &pages, NULL) != 0)
		return;
	FUZZ_CHECK(hf_wire_pages_check(&pages, pages.end_page, NULL) == 0);
	FUZZ_CHECK(hf_wire_pages_check(&pages, pages.end_page - 1, NULL) != 0);
	rebuild_pages(&pages, &b);
	back.len = hf_wire_pages_finish(&b) - HF_WIRE_HEADER_BYTES;
	back.payload = out + HF_WIRE_HEADER_BYTES;
	FUZZ_CHECK(hf_wire_pages_decode(&back, &again, NULL) == 0);
	/* Neighbouring runs may have become one. */
	FUZZ_CHECK(again.n_runs <= pages.n_runs);
	FUZZ_CHECK(again.n_data_pages == pages.n_data_pages);
	FUZZ_CHECK(again.n_zero_pages == pages.n_zero_pages);
	FUZZ_CHECK(again.end_page == pages.end_page);
	FUZZ_CHECK(memcmp(again.data, pages.data,
			  (size_t)pages.n_data_pages * HF_WIRE_PAGE_BYTES) == 0);
}

static void check_state(const struct hf_wire_view *view)
{
	struct hf_wire_state state;

	if (hf_wire_state_decode(view, &state, NULL) != 0)
		return;
	FUZZ_CHECK(hf_wire_state_encode(&state, out, NULL) == HF_WIRE_HEADER_BYTES + view->len);
	FUZZ_CHECK(memcmp(out + HF_WIRE_HEADER_BYTES, view->payload, view->len) == 0);
}

static void check_frames(const struct hf_wire_view *view)
{
	struct hf_wire_frames_cursor cursor = { 0 };
	struct hf_wire_frames_builder b;
	struct hf_wire_frames frames;
	const uint8_t *frame;
	size_t len;

	if (hf_wire_frames_decode(view, &frames, NULL) != 0)
		return;
	hf_wire_frames_begin(&b, out, frames.netdev);
	while (hf_wire_frames_next(&frames, &cursor, &frame, &len))
		FUZZ_CHECK(hf_wire_frames_add(&b, frame, len));
	FUZZ_CHECK(hf_wire_frames_finish(&b) == HF_WIRE_HEADER_BYTES + view->len);
	FUZZ_CHECK(memcmp(out + HF_WIRE_HEADER_BYTES, view->payload, view->len) == 0);
}

static void check_disk(const struct hf_wire_view *view)
{
	static const uint64_t disk_bytes[] = { 1u << 20, HF_WIRE_DISK_BYTES_MAX };
	const uint8_t *records = view->payload + HF_WIRE_DISK_HEAD_BYTES;
	size_t len = view->len - HF_WIRE_DISK_HEAD_BYTES;
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record r;
	struct hf_err err = { "" };
	uint32_t n = 0;
	uint8_t *at = out + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;

	if (hf_wire_disk_check(view->payload, view->len, disk_bytes, 2, &n, &err) != 0) {
		FUZZ_CHECK(err.text[0] != '\0');
		return;
	}
	while (hf_wire_disk_next(records, len, &cursor, &r, NULL) == HF_WIRE_DISK_RECORD) {
		FUZZ_CHECK(r.disk < 2 && r.offset_bytes <= disk_bytes[r.disk]);
		FUZZ_CHECK(r.length_bytes <= disk_bytes[r.disk] - r.offset_bytes);
		if (r.data)
			memcpy(at + HF_WIRE_DISK_RECORD_BYTES, r.data, (size_t)r.length_bytes);
		hf_wire_disk_put_record(at, &r);
		at += hf_wire_disk_record_bytes(r.kind, r.length_bytes);
	}
	FUZZ_CHECK(cursor.offset == len && cursor.n == n);
	FUZZ_CHECK(hf_wire_disk_finish(out, view->type, n, len) ==
		   HF_WIRE_HEADER_BYTES + view->len);
	FUZZ_CHECK(memcmp(out + HF_WIRE_HEADER_BYTES, view->payload, view->len) == 0);
}

static void check_message(const struct hf_wire_view *view)
{
	FUZZ_CHECK(view->len <= hf_wire_payload_max(view->type));
	if (view->type == HF_WIRE_PAGES)
		check_pages(view);
	else if (view->type == HF_WIRE_STATE)
		check_state(view);
	else if (view->type == HF_WIRE_FRAMES)
		check_frames(view);
	else if (view->type == HF_WIRE_DISK || view->type == HF_WIRE_DISK_SYNC)
		check_disk(view);
	else
		check_control(view);
}

/* Returns the number of messages. */
static unsigned int read_stream(const uint8_t *data, size_t size, size_t chunk, int *ret_error)
{
	struct hf_wire_reader r;
	struct hf_wire_view view;
	unsigned int messages = 0;
	int result = HF_WIRE_NEED_MORE;

	hf_wire_reader_init(&r, reader_buf, sizeof(reader_buf));
	while (size > 0 && result == HF_WIRE_NEED_MORE) {
		uint8_t *space;
		size_t n;

		hf_wire_reader_space(&r, &space, &n);
		n = n < chunk ? n : chunk;
		n = n < size ? n : size;
		memcpy(space, data, n);
		hf_wire_reader_commit(&r, n);
		data += n;
		size -= n;
		while ((result = hf_wire_reader_next(&r, &view, NULL)) == HF_WIRE_MESSAGE) {
			check_message(&view);
			messages++;
		}
	}
	*ret_error = result;
	return messages;
}

static void one_message(unsigned int type, const uint8_t *payload, size_t size)
{
	uint8_t *message;
	size_t len;
	int error;

	if (type == 0 || type >= HF_WIRE_TYPE_COUNT || size > hf_wire_payload_max(type))
		return;
	message = malloc(HF_WIRE_HEADER_BYTES + size);
	FUZZ_CHECK(message);
	memcpy(message + HF_WIRE_HEADER_BYTES, payload, size);
	hf_wire_put_header(message, (enum hf_wire_type)type, size);
	len = hf_wire_seal(message);
	FUZZ_CHECK(read_stream(message, len, SIZE_MAX, &error) == 1);
	FUZZ_CHECK(error == HF_WIRE_NEED_MORE);
	free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int whole_error, pieces_error;

	if (size == 0)
		return 0;
	if (data[0] >= 128) {
		one_message(data[0] - 128u, data + 1, size - 1);
		return 0;
	}
	FUZZ_CHECK(read_stream(data + 1, size - 1, SIZE_MAX, &whole_error) ==
		   read_stream(data + 1, size - 1, 32u * data[0] + 1, &pieces_error));
	FUZZ_CHECK(whole_error == pieces_error);
	return 0;
}

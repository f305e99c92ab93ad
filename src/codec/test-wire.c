/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "codec/wire-msg.h"

/* A PING by the byte table of docs/wire-format.md, without the encoder. */
static size_t make_ping(uint8_t *buf, uint64_t token)
{
	memset(buf, 0, 48);
	memcpy(buf, "HFR1", 4);
	buf[4] = 10;
	buf[8] = 16;
	hf_le64_put(buf + 32, token);
	hf_le32_put(buf + 12, hf_crc32c(0, buf + 32, 16));
	hf_le32_put(buf + 28, hf_crc32c(0, buf, 28));
	return 48;
}

static void repair_header(uint8_t *buf)
{
	hf_le32_put(buf + 28, hf_crc32c(0, buf, 28));
}

static void feed(struct hf_wire_reader *r, const uint8_t *bytes, size_t len)
{
	uint8_t *space;
	size_t n;

	hf_wire_reader_space(r, &space, &n);
	CHECK(n >= len);
	memcpy(space, bytes, len);
	hf_wire_reader_commit(r, len);
}

static int read_bytes(const uint8_t *bytes, size_t len, struct hf_wire_view *view,
		      struct hf_err *err)
{
	static uint8_t buf[HF_WIRE_MESSAGE_MAX];
	struct hf_wire_reader r;
	int result;

	hf_wire_reader_init(&r, buf, sizeof(buf));
	feed(&r, bytes, len);
	result = hf_wire_reader_next(&r, view, err);
	if (result > HF_WIRE_MESSAGE)
		CHECK_EQ(hf_wire_reader_next(&r, view, NULL), result);
	return result;
}

TEST(the_encoder_follows_the_byte_table)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_PING, .ping = { .token = 5 } };
	uint8_t want[48], got[48];
	size_t len;

	make_ping(want, 5);
	CHECK_EQ(hf_wire_encode(&msg, got, sizeof(got), &len, NULL), 0);
	CHECK_EQ(len, 48);
	CHECK(memcmp(got, want, 48) == 0);
}

TEST(every_prefix_needs_more)
{
	struct hf_wire_view view;
	uint8_t ping[48];

	make_ping(ping, 1);
	for (size_t len = 0; len < 48; len++)
		CHECK_EQ(read_bytes(ping, len, &view, NULL), HF_WIRE_NEED_MORE);
	CHECK_EQ(read_bytes(ping, 48, &view, NULL), HF_WIRE_MESSAGE);
	CHECK_EQ(view.type, HF_WIRE_PING);
	CHECK_EQ(view.len, 16);
}

TEST(every_flipped_bit_is_detected)
{
	for (unsigned int bit = 0; bit < 48 * 8; bit++) {
		struct hf_wire_view view;
		struct hf_err err = { "" };
		uint8_t ping[48];
		int r;

		make_ping(ping, 0x0123456789abcdef);
		ping[bit / 8] ^= (uint8_t)(1u << bit % 8);
		r = read_bytes(ping, 48, &view, &err);
		if (bit < 4 * 8)
			CHECK_EQ(r, HF_WIRE_E_MAGIC);
		else if (bit < 32 * 8)
			CHECK_EQ(r, HF_WIRE_E_HEADER_CHECKSUM);
		else
			CHECK_EQ(r, HF_WIRE_E_PAYLOAD_CHECKSUM);
		CHECK_CONTAINS(err.text, "replication link: ");
	}
}

struct tampered {
	unsigned int at;
	uint8_t value;
	int want;
	const char *says;
};

/* With a right checksum: what only a peer of another mind would send. */
static const struct tampered headers[] = {
	{ 4, 0, HF_WIRE_E_TYPE, "unknown message type 0" },
	{ 4, HF_WIRE_TYPE_COUNT, HF_WIRE_E_TYPE, "unknown message type 26" },
	{ 5, 1, HF_WIRE_E_TYPE, "unknown message type 266" },
	{ 6, 1, HF_WIRE_E_HEADER_RESERVED, "has to be zero" },
	{ 7, 0x80, HF_WIRE_E_HEADER_RESERVED, "has to be zero" },
	{ 16, 1, HF_WIRE_E_HEADER_RESERVED, "has to be zero" },
	{ 23, 1, HF_WIRE_E_HEADER_RESERVED, "has to be zero" },
	{ 24, 1, HF_WIRE_E_HEADER_RESERVED, "has to be zero" },
	{ 27, 1, HF_WIRE_E_HEADER_RESERVED, "has to be zero" },
	{ 9, 2, HF_WIRE_E_TOO_LONG, "PING of 528 bytes" },
	{ 11, 0x80, HF_WIRE_E_TOO_LONG, "at most 512 are allowed" },
};

TEST(wrong_headers_are_refused_at_once)
{
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
		struct hf_wire_view view;
		struct hf_err err = { "" };
		uint8_t ping[48];

		make_ping(ping, 1);
		ping[headers[i].at] = headers[i].value;
		repair_header(ping);
		CHECK_EQ(read_bytes(ping, 32, &view, &err), headers[i].want);
		CHECK_CONTAINS(err.text, headers[i].says);
	}
}

/* A message of any length, its content a function of the seed. */
static size_t make_state(uint8_t *buf, size_t payload, uint32_t seed)
{
	for (size_t i = 0; i < payload; i++)
		buf[HF_WIRE_HEADER_BYTES + i] = (uint8_t)(seed = seed * 1664525 + 1013904223);
	hf_wire_put_header(buf, HF_WIRE_STATE, payload);
	return hf_wire_seal(buf);
}

static const size_t payloads[] = { 0,
				   1,
				   HF_WIRE_PAYLOAD_MAX,
				   5,
				   70000,
				   16,
				   HF_WIRE_PAYLOAD_MAX,
				   HF_WIRE_PAYLOAD_MAX,
				   300,
				   0,
				   1000000,
				   65504,
				   65505,
				   33,
				   31,
				   HF_WIRE_PAYLOAD_MAX };
#define PAYLOADS (sizeof(payloads) / sizeof(*payloads))

static uint8_t *make_stream(size_t *ret_len)
{
	uint8_t *stream, *p;
	size_t total = 0;

	for (size_t i = 0; i < PAYLOADS; i++)
		total += HF_WIRE_HEADER_BYTES + payloads[i];
	stream = p = malloc(total);
	CHECK(stream);
	for (uint32_t i = 0; i < PAYLOADS; i++)
		p += make_state(p, payloads[i], i);
	*ret_len = total;
	return stream;
}

static size_t take_messages(struct hf_wire_reader *r, const uint8_t **expect, size_t seen)
{
	struct hf_wire_view view;
	struct hf_err err = { "" };

	while (hf_wire_reader_next(r, &view, &err) == HF_WIRE_MESSAGE) {
		CHECK_EQ(view.len, payloads[seen]);
		CHECK(memcmp(view.payload, *expect + HF_WIRE_HEADER_BYTES, view.len) == 0);
		*expect += HF_WIRE_HEADER_BYTES + view.len;
		seen++;
	}
	CHECK_STR(err.text, "");
	return seen;
}

/* read()s of at most @chunk bytes each. */
static void run_stream(const uint8_t *stream, size_t total, size_t chunk, size_t buf_size)
{
	uint8_t *buf = malloc(buf_size), *space;
	const uint8_t *expect = stream;
	struct hf_wire_reader r;
	size_t n, fed = 0, seen = 0;

	CHECK(buf);
	hf_wire_reader_init(&r, buf, buf_size);
	while (fed < total) {
		hf_wire_reader_space(&r, &space, &n);
		CHECK(n > 0);
		CHECK(space >= buf && space + n <= buf + buf_size);
		n = n < chunk ? n : chunk;
		n = n < total - fed ? n : total - fed;
		memcpy(space, stream + fed, n);
		hf_wire_reader_commit(&r, n);
		fed += n;
		seen = take_messages(&r, &expect, seen);
	}
	CHECK_EQ(seen, PAYLOADS);
	CHECK_EQ(r.offset, total);
	free(buf);
}

TEST(any_chunking_gives_the_same_messages)
{
	static const size_t chunks[] = { 31, 33, 1448, 65536, 100001, SIZE_MAX };
	static const size_t sizes[] = { HF_WIRE_MESSAGE_MAX, HF_WIRE_MESSAGE_MAX + 65536,
					4 * HF_WIRE_MESSAGE_MAX };
	size_t total;
	uint8_t *stream = make_stream(&total);

	for (size_t i = 0; i < sizeof(chunks) / sizeof(*chunks); i++)
		for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++)
			run_stream(stream, total, chunks[i], sizes[k]);
	free(stream);
}

/* What keeps the common case cheap: after a long message at most a header has to be moved. */
TEST(a_long_message_is_not_read_beyond_its_end)
{
	static uint8_t message[HF_WIRE_MESSAGE_MAX], buf[HF_WIRE_MESSAGE_MAX + 65536];
	size_t len = make_state(message, HF_WIRE_PAYLOAD_MAX, 1), n;
	struct hf_wire_reader r;
	struct hf_wire_view view;
	uint8_t *space;

	hf_wire_reader_init(&r, buf, sizeof(buf));
	hf_wire_reader_space(&r, &space, &n);
	CHECK_EQ(n, 65536);
	feed(&r, message, 65536);
	CHECK_EQ(hf_wire_reader_next(&r, &view, NULL), HF_WIRE_NEED_MORE);
	hf_wire_reader_space(&r, &space, &n);
	CHECK(space == buf + 65536);
	CHECK_EQ(n, len - 65536 + HF_WIRE_HEADER_BYTES);
}

TEST(an_error_tells_where)
{
	static uint8_t buf[HF_WIRE_MESSAGE_MAX];
	uint8_t ping[48];
	struct hf_wire_reader r;
	struct hf_wire_view view;
	struct hf_err err;

	hf_wire_reader_init(&r, buf, sizeof(buf));
	make_ping(ping, 1);
	feed(&r, ping, 48);
	CHECK_EQ(hf_wire_reader_next(&r, &view, &err), HF_WIRE_MESSAGE);
	ping[40] ^= 1;
	feed(&r, ping, 48);
	CHECK_EQ(hf_wire_reader_next(&r, &view, &err), HF_WIRE_E_PAYLOAD_CHECKSUM);
	CHECK_STR(err.text, "replication link: wrong checksum of a PING at byte 48 of the stream");
}

TEST(versions)
{
	static const struct {
		unsigned int min, max;
		int want;
		unsigned int version;
	} cases[] = {
		{ 1, 1, 0, 1 },
		{ 1, 9, 0, 1 },
		{ 2, 9, HF_WIRE_NO_COMMON_VERSION, 0 },
		{ 1, 65535, 0, 1 },
		{ 65535, 65535, HF_WIRE_NO_COMMON_VERSION, 0 },
		{ 0, 0, HF_WIRE_NO_COMMON_VERSION, 0 },
		{ 3, 1, HF_WIRE_NO_COMMON_VERSION, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		unsigned int version = 0;

		CHECK_EQ(hf_wire_negotiate(cases[i].min, cases[i].max, &version), cases[i].want);
		CHECK_EQ(version, cases[i].version);
	}
}

TEST(names_and_limits_of_types)
{
	CHECK_STR(hf_wire_type_name(HF_WIRE_PAGES), "PAGES");
	CHECK_STR(hf_wire_type_name(HF_WIRE_ERROR), "ERROR");
	CHECK_STR(hf_wire_type_name(0), "?");
	CHECK_STR(hf_wire_type_name(99999), "?");
	CHECK_EQ(hf_wire_payload_max(HF_WIRE_PAGES), HF_WIRE_PAYLOAD_MAX);
	CHECK_EQ(hf_wire_payload_max(HF_WIRE_DISK), HF_WIRE_PAYLOAD_MAX);
	CHECK_EQ(hf_wire_payload_max(HF_WIRE_DISK_SYNC), HF_WIRE_PAYLOAD_MAX);
	CHECK_EQ(hf_wire_payload_max(HF_WIRE_ACK), HF_WIRE_CONTROL_MAX);
	CHECK_EQ(hf_wire_payload_max(0), 0);
	for (unsigned int type = 1; type < HF_WIRE_TYPE_COUNT; type++)
		CHECK(hf_wire_payload_max(type) > 0);
}

/* docs/wire-format.md's table, row by row: "PSI" are those who may. */
TEST(who_may_send_what)
{
	static const char *const senders[HF_WIRE_TYPE_COUNT] = {
		"",   "PSI", "PS", "P", "P", "P", "P",   "P", "P", "S", "PS", "PS", "PS",
		"PS", "PS",  "S",  "P", "P", "S", "PSI", "P", "P", "P", "S",  "PS", "P",
	};

	for (unsigned int type = 1; type < HF_WIRE_TYPE_COUNT; type++)
		for (unsigned int role = 1; role < HF_WIRE_ROLE_COUNT; role++)
			CHECK_EQ(hf_wire_may_send((enum hf_wire_role)role, (enum hf_wire_type)type),
				 strchr(senders[type], " PSI"[role]) != NULL);
}

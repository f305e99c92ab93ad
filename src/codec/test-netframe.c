/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "codec/netframe.h"

static const size_t lengths[] = { 1, 60, 64, 1514, 9014, 65549, HF_NETFRAME_MAX };
#define LENGTHS (sizeof(lengths) / sizeof(*lengths))

static uint8_t pattern(size_t frame, size_t i)
{
	return (uint8_t)(frame * 31 + i * 7 + i / 251);
}

static uint8_t *make_stream(size_t *ret_len)
{
	size_t total = 0;
	uint8_t *stream, *p;

	for (size_t f = 0; f < LENGTHS; f++)
		total += HF_NETFRAME_HEADER_BYTES + lengths[f];
	stream = p = malloc(total);
	CHECK(stream);
	for (size_t f = 0; f < LENGTHS; f++) {
		hf_netframe_encode_header(p, lengths[f]);
		p += HF_NETFRAME_HEADER_BYTES;
		for (size_t i = 0; i < lengths[f]; i++)
			*p++ = pattern(f, i);
	}
	*ret_len = total;
	return stream;
}

static size_t take_frames(struct hf_netframe_parser *p, size_t seen)
{
	const uint8_t *frame;
	size_t len;

	while (hf_netframe_parser_next(p, &frame, &len, NULL) == 1) {
		CHECK(seen < LENGTHS);
		CHECK_EQ(len, lengths[seen]);
		for (size_t i = 0; i < len; i++)
			CHECK_EQ(frame[i], pattern(seen, i));
		seen++;
	}
	return seen;
}

/* Feeds the stream in pieces of @chunk bytes and checks that every frame comes out. */
static void run_stream(const uint8_t *stream, size_t total, size_t chunk, size_t buf_size)
{
	uint8_t *buf = malloc(buf_size), *space;
	struct hf_netframe_parser p;
	size_t n, fed = 0, seen = 0;

	CHECK(buf);
	hf_netframe_parser_init(&p, buf, buf_size);
	while (fed < total) {
		hf_netframe_parser_space(&p, &space, &n);
		CHECK(n > 0);
		n = n < chunk ? n : chunk;
		n = n < total - fed ? n : total - fed;
		memcpy(space, stream + fed, n);
		hf_netframe_parser_commit(&p, n);
		fed += n;
		seen = take_frames(&p, seen);
	}
	CHECK_EQ(seen, LENGTHS);
	free(buf);
}

TEST(any_chunking_gives_the_same_frames)
{
	static const size_t chunks[] = { 7, 63, 1000, 4096, 65536, SIZE_MAX };
	size_t total;
	uint8_t *stream = make_stream(&total);

	for (size_t i = 0; i < sizeof(chunks) / sizeof(*chunks); i++) {
		run_stream(stream, total, chunks[i], HF_NETFRAME_BUFFER_MIN);
		run_stream(stream, total, chunks[i], 4 * HF_NETFRAME_BUFFER_MIN);
	}
	free(stream);
}

TEST(split_at_each_byte)
{
	static const uint8_t stream[] = { 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 1, 'd' };
	static uint8_t buf[HF_NETFRAME_BUFFER_MIN];

	for (size_t split = 0; split <= sizeof(stream); split++) {
		struct hf_netframe_parser p;
		const uint8_t *frame;
		uint8_t *space;
		size_t n, len, frames = 0;

		hf_netframe_parser_init(&p, buf, sizeof(buf));
		hf_netframe_parser_space(&p, &space, &n);
		memcpy(space, stream, split);
		hf_netframe_parser_commit(&p, split);
		while (hf_netframe_parser_next(&p, &frame, &len, NULL) == 1)
			frames++;
		CHECK_EQ(frames, split < 7 ? 0 : split < 12 ? 1 : 2);
		hf_netframe_parser_space(&p, &space, &n);
		memcpy(space, stream + split, sizeof(stream) - split);
		hf_netframe_parser_commit(&p, sizeof(stream) - split);
		while (hf_netframe_parser_next(&p, &frame, &len, NULL) == 1)
			frames++;
		CHECK_EQ(frames, 2);
		if (split < 12)
			CHECK_EQ(frame[0], 'd');
	}
}

static int parse_length(uint32_t announced, struct hf_err *err)
{
	static uint8_t buf[HF_NETFRAME_BUFFER_MIN];
	const uint8_t *frame = NULL;
	struct hf_netframe_parser p;
	uint8_t *space;
	size_t n, len = 0;
	int r;

	hf_netframe_parser_init(&p, buf, sizeof(buf));
	hf_netframe_parser_space(&p, &space, &n);
	space[0] = (uint8_t)(announced >> 24);
	space[1] = (uint8_t)(announced >> 16);
	space[2] = (uint8_t)(announced >> 8);
	space[3] = (uint8_t)announced;
	hf_netframe_parser_commit(&p, 4);
	r = hf_netframe_parser_next(&p, &frame, &len, err);
	if (r < 0)
		CHECK_EQ(hf_netframe_parser_next(&p, &frame, &len, err), r);
	CHECK(!frame);
	return r;
}

TEST(wrong_lengths_are_errors)
{
	static const uint32_t wrong[] = { 0, HF_NETFRAME_MAX + 1, 0x80000000, 0xffffffff };
	struct hf_err err;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		CHECK_EQ(parse_length(wrong[i], &err), -EBADMSG);
		CHECK_CONTAINS(err.text, "the guest's network stream is out of step");
	}
	CHECK_EQ(parse_length(1, &err), 0);
	CHECK_EQ(parse_length(HF_NETFRAME_MAX, &err), 0);
}

TEST(header_is_big_endian)
{
	uint8_t h[HF_NETFRAME_HEADER_BYTES];

	hf_netframe_encode_header(h, 0x10203);
	CHECK(memcmp(h, "\0\1\2\3", 4) == 0);
}

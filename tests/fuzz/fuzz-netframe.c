/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes from a guest's network device, in any pieces: the pieces make no difference. */
#include "fuzz.h"

#include <string.h>

#include "base/crc32c.h"
#include "codec/netframe.h"

static uint8_t buf[HF_NETFRAME_BUFFER_MIN];

struct outcome {
	uint64_t bytes;
	uint32_t crc;
	int error;
};

static void take(struct hf_netframe_parser *p, struct outcome *o)
{
	struct hf_err err = { "" };
	uint8_t header[HF_NETFRAME_HEADER_BYTES];
	const uint8_t *frame;
	size_t len;

	while ((o->error = hf_netframe_parser_next(p, &frame, &len, &err)) == 1) {
		hf_netframe_encode_header(header, len);
		FUZZ_CHECK(memcmp(header, frame - sizeof(header), sizeof(header)) == 0);
		o->bytes += sizeof(header) + len;
		o->crc = hf_crc32c(o->crc, frame, len);
	}
	FUZZ_CHECK(o->error == 0 || err.text[0] != '\0');
}

static struct outcome run(const uint8_t *data, size_t size, size_t chunk)
{
	struct hf_netframe_parser p;
	struct outcome o = { 0 };

	hf_netframe_parser_init(&p, buf, sizeof(buf));
	while (size > 0 && o.error == 0) {
		uint8_t *space;
		size_t n;

		hf_netframe_parser_space(&p, &space, &n);
		n = n < chunk ? n : chunk;
		n = n < size ? n : size;
		memcpy(space, data, n);
		hf_netframe_parser_commit(&p, n);
		data += n;
		size -= n;
		take(&p, &o);
	}
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, pieces;

	if (size == 0)
		return 0;
	whole = run(data + 1, size - 1, SIZE_MAX);
	pieces = run(data + 1, size - 1, (size_t)data[0] + 1);
	FUZZ_CHECK(whole.bytes == pieces.bytes);
	FUZZ_CHECK(whole.crc == pieces.crc);
	FUZZ_CHECK(whole.error == pieces.error);
	return 0;
}

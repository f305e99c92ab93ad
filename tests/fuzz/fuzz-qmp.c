/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes from QEMU, in any pieces: the pieces make no difference. First byte: their size. */
#include "fuzz.h"

#include <string.h>

#include "codec/qmp.h"

struct outcome {
	unsigned int messages;
	uint64_t ids;
	int error;
};

static void take(struct hf_qmp_parser *p, struct outcome *o)
{
	struct hf_err err = { "" };
	struct hf_qmp_msg msg;
	int r;

	while ((r = hf_qmp_parser_next(p, &msg, &err)) == 1) {
		o->messages++;
		o->ids = o->ids * 31 + msg.id + (uint64_t)msg.kind;
		hf_qmp_msg_fini(&msg);
	}
	FUZZ_CHECK(r == 0 || err.text[0] != '\0');
	o->error = r;
}

static struct outcome run(const uint8_t *data, size_t size, size_t chunk)
{
	struct outcome o = { 0 };
	struct hf_qmp_parser p;

	hf_qmp_parser_init(&p);
	while (size > 0 && o.error == 0) {
		char *space;
		size_t n;

		FUZZ_CHECK(hf_qmp_parser_space(&p, &space, &n) == 0);
		FUZZ_CHECK(n > 0);
		n = n < chunk ? n : chunk;
		n = n < size ? n : size;
		memcpy(space, data, n);
		hf_qmp_parser_commit(&p, n);
		data += n;
		size -= n;
		take(&p, &o);
	}
	hf_qmp_parser_fini(&p);
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, pieces;

	if (size == 0)
		return 0;
	whole = run(data + 1, size - 1, SIZE_MAX);
	pieces = run(data + 1, size - 1, (size_t)data[0] + 1);
	FUZZ_CHECK(whole.messages == pieces.messages);
	FUZZ_CHECK(whole.ids == pieces.ids);
	FUZZ_CHECK(whole.error == pieces.error);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes on the control socket, in any pieces; what is accepted comes back the same after being
 * encoded. First byte: bit 7 replies instead of calls, the rest the size of the pieces.
 */
#include "fuzz.h"

#include <string.h>

#include "codec/varlink.h"

static void check_call(const struct hf_varlink_call *call)
{
	struct hf_varlink_call back;
	char *text;
	size_t len;

	/* json-c may escape what came raw, so that a long call can get too long. */
	if (hf_varlink_encode_call(call, &text, &len) != 0)
		return;
	FUZZ_CHECK(hf_varlink_decode_call(text, len - 1, &back, NULL) == 0);
	FUZZ_CHECK(strcmp(back.method, call->method) == 0);
	FUZZ_CHECK(json_object_equal(back.parameters, call->parameters));
	FUZZ_CHECK(back.is_more == call->is_more);
	FUZZ_CHECK(back.is_oneway == call->is_oneway);
	FUZZ_CHECK(back.is_upgrade == call->is_upgrade);
	hf_varlink_call_fini(&back);
	free(text);
}

static void check_reply(const struct hf_varlink_reply *reply)
{
	struct hf_varlink_reply back;
	char *text;
	size_t len;

	if (hf_varlink_encode_reply(reply, &text, &len) != 0)
		return;
	FUZZ_CHECK(hf_varlink_decode_reply(text, len - 1, &back, NULL) == 0);
	FUZZ_CHECK(!back.error == !reply->error);
	FUZZ_CHECK(json_object_equal(back.parameters, reply->parameters));
	FUZZ_CHECK(back.is_continues == reply->is_continues);
	hf_varlink_reply_fini(&back);
	free(text);
}

static int next(struct hf_varlink_parser *p, int is_reply, struct hf_err *err)
{
	struct hf_varlink_reply reply;
	struct hf_varlink_call call;
	int r;

	if (is_reply) {
		r = hf_varlink_parser_next_reply(p, &reply, err);
		if (r == 1) {
			check_reply(&reply);
			hf_varlink_reply_fini(&reply);
		}
		return r;
	}
	r = hf_varlink_parser_next_call(p, &call, err);
	if (r == 1) {
		check_call(&call);
		hf_varlink_call_fini(&call);
	}
	return r;
}

/* Returns the number of messages, with the error in the high half. */
static uint64_t run(const uint8_t *data, size_t size, size_t chunk, int is_reply)
{
	struct hf_err err = { "" };
	struct hf_varlink_parser p;
	uint32_t messages = 0;
	int r = 0;

	hf_varlink_parser_init(&p, is_reply ? HF_VARLINK_REPLY_MAX : HF_VARLINK_CALL_MAX);
	while (size > 0 && r == 0) {
		char *space;
		size_t n;

		FUZZ_CHECK(hf_varlink_parser_space(&p, &space, &n) == 0);
		n = n < chunk ? n : chunk;
		n = n < size ? n : size;
		memcpy(space, data, n);
		hf_varlink_parser_commit(&p, n);
		data += n;
		size -= n;
		while ((r = next(&p, is_reply, &err)) == 1)
			messages++;
		FUZZ_CHECK(r == 0 || err.text[0] != '\0');
	}
	hf_varlink_parser_fini(&p);
	return (uint64_t)(uint32_t)-r << 32 | messages;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int is_reply;

	if (size == 0)
		return 0;
	is_reply = data[0] >> 7;
	FUZZ_CHECK(run(data + 1, size - 1, SIZE_MAX, is_reply) ==
		   run(data + 1, size - 1, (size_t)(data[0] & 0x7f) + 1, is_reply));
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two HELLO payloads, the length of the first before them (u16, little-endian). Whatever two keepers
 * say of themselves, both sides come to the same answer, and it can be sent.
 */
#include "fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "cluster/hello.h"

static bool decode(const uint8_t *payload, size_t len, struct hf_wire_msg *ret)
{
	struct hf_wire_view view = { .type = HF_WIRE_HELLO, .payload = payload, .len = len };

	return hf_wire_decode(&view, ret, NULL) == 0;
}

static void check_sendable(enum hf_wire_refusal code, const struct hf_err *err)
{
	static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	struct hf_wire_msg msg = { .type = HF_WIRE_REFUSE,
				   .reason = { (uint32_t)code, err->text } };
	size_t len;

	FUZZ_CHECK(err->text[0] != '\0');
	FUZZ_CHECK(hf_wire_encode(&msg, buf, sizeof(buf), &len, NULL) == 0);
}

static void compare(const struct hf_wire_hello *a, const struct hf_wire_hello *b)
{
	static struct hf_hello_own own;
	enum hf_wire_refusal one = 0, other = 0, copied = 0;
	struct hf_err err = { "" };
	int r = hf_hello_check(a, b, &one, &err);

	if (r != 0)
		check_sendable(one, &err);
	err.text[0] = '\0';
	FUZZ_CHECK(hf_hello_check(b, a, &other, &err) == r);
	if (r != 0)
		check_sendable(other, &err);
	FUZZ_CHECK(hf_hello_copy(b, &own) == 0);
	FUZZ_CHECK(hf_hello_check(a, &own.hello, &copied, &err) == r);
	FUZZ_CHECK(one == other && one == copied);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_wire_msg a, b;
	size_t first;

	if (size < 2)
		return 0;
	first = hf_le16_get(data);
	data += 2;
	size -= 2;
	if (first > size || !decode(data, first, &a) || !decode(data + first, size - first, &b))
		return 0;
	compare(&a.hello, &b.hello);
	return 0;
}

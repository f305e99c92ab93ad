/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What another host's daemon says: the first byte chooses the method, the rest is the text of its
 * parameters. Whatever is taken has only names, printable texts and numbers in range, and comes back
 * the same when it is said again.
 */
#include "fuzz.h"

#include <string.h>

#include "codec/json.h"
#include "codec/peermsg.h"

static struct hf_err err;

static void hello(const struct json_object *o)
{
	struct hf_peermsg_hello m, back;
	struct json_object *again;

	if (hf_peermsg_hello_decode(o, &m, &err) < 0)
		return;
	FUZZ_CHECK(hf_is_valid_name(m.host) && hf_is_valid_name(m.to));
	again = hf_peermsg_hello_encode(&m);
	FUZZ_CHECK(hf_peermsg_hello_decode(again, &back, &err) == 0);
	FUZZ_CHECK(memcmp(&m, &back, sizeof(m)) == 0);
	json_object_put(again);
}

static void tell(const struct json_object *o)
{
	static struct hf_peermsg_tell m, back;
	struct json_object *again;

	if (hf_peermsg_tell_decode(o, &m, &err) < 0)
		return;
	FUZZ_CHECK(m.n <= HF_PEERMSG_VMS_MAX);
	for (unsigned int i = 0; i < m.n; i++) {
		FUZZ_CHECK(hf_is_valid_name(m.vms[i].vm));
		FUZZ_CHECK(m.vms[i].have < HF_HAVE_COUNT);
		FUZZ_CHECK(m.vms[i].wanted.version <= HF_WANTED_VERSION_MAX);
	}
	again = hf_peermsg_tell_encode(&m);
	FUZZ_CHECK(hf_peermsg_tell_decode(again, &back, &err) == 0);
	FUZZ_CHECK(memcmp(&m, &back, sizeof(m)) == 0);
	json_object_put(again);
}

static void notice(const struct json_object *o)
{
	static struct hf_peermsg_notice m, back;
	struct json_object *again;

	if (hf_peermsg_notice_decode(o, &m, &err) < 0)
		return;
	FUZZ_CHECK(m.n <= HF_PEERMSG_EVENTS_MAX);
	again = hf_peermsg_notice_encode(&m);
	FUZZ_CHECK(hf_peermsg_notice_decode(again, &back, &err) == 0);
	FUZZ_CHECK(memcmp(&m, &back, sizeof(m)) == 0);
	json_object_put(again);
}

static void order(const struct json_object *o)
{
	struct hf_peermsg_order m, back;
	struct json_object *again;

	if (hf_peermsg_order_decode(o, &m, &err) < 0)
		return;
	FUZZ_CHECK(hf_is_valid_name(m.vm));
	again = hf_peermsg_order_encode(&m);
	FUZZ_CHECK(hf_peermsg_order_decode(again, &back, &err) == 0);
	FUZZ_CHECK(strcmp(m.vm, back.vm) == 0 && m.lver == back.lver);
	json_object_put(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const methods[])(const struct json_object *o) = { hello, tell, notice,
									order };
	struct json_object *o;

	if (size < 2 || hf_json_parse((const char *)data + 1, size - 1, &o, &err) < 0)
		return 0;
	err.text[0] = '\0';
	methods[data[0] % 4](o);
	json_object_put(o);
	return 0;
}

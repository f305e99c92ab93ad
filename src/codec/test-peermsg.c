/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "codec/json.h"
#include "codec/peermsg.h"

static struct json_object *parse(const char *text)
{
	struct hf_err err = { "" };
	struct json_object *o = NULL;

	CHECK_EQ(hf_json_parse(text, strlen(text), &o, &err), 0);
	return o;
}

static struct hf_peermsg_vm a_vm(void)
{
	return (struct hf_peermsg_vm){
		.vm = "web",
		.definition_crc = 0xfedcba98,
		.is_defined = true,
		.may_run = true,
		.have = HF_HAVE_EMPTY_STANDBY,
		.wanted = { .is_started = true, .host = "hostA", .version = 7, .by = "hostB" },
		.life = "standby",
		.cause = "guest-panic",
		.text = "a \"frozen\" instance is here",
		.frozen_count = 2,
		.frozen = { "0123abcd", "ffffffff" },
	};
}

TEST(a_hello_comes_back_as_it_was)
{
	const struct hf_peermsg_hello m = { .version = HF_PEERMSG_VERSION,
					    .host = "hostA",
					    .to = "hostB",
					    .instance = UINT64_MAX,
					    .after = 9 };
	struct json_object *o = hf_peermsg_hello_encode(&m);
	struct hf_peermsg_hello back;
	struct hf_err err;

	CHECK_EQ(hf_peermsg_hello_decode(o, &back, &err), 0);
	CHECK_STR(back.host, "hostA");
	CHECK_STR(back.to, "hostB");
	CHECK(back.instance == UINT64_MAX && back.after == 9);
	json_object_put(o);
}

TEST(vms_come_back_as_they_were)
{
	static struct hf_peermsg_tell m = { .is_first = true, .n = 2 };
	static struct hf_peermsg_tell back;
	struct json_object *o;
	struct hf_err err;

	m.vms[0] = a_vm();
	m.vms[1] = (struct hf_peermsg_vm){ .vm = "db", .life = "shut-off" };
	o = hf_peermsg_tell_encode(&m);
	CHECK_EQ(hf_peermsg_tell_decode(o, &back, &err), 0);
	json_object_put(o);
	CHECK(back.is_first && !back.is_last);
	CHECK_EQ(back.n, 2);
	CHECK_STR(back.vms[0].vm, "web");
	CHECK(back.vms[0].definition_crc == 0xfedcba98);
	CHECK_EQ(back.vms[0].have, HF_HAVE_EMPTY_STANDBY);
	CHECK(back.vms[0].may_run && back.vms[0].is_defined && !back.vms[0].has_run_last);
	CHECK_STR(back.vms[0].wanted.by, "hostB");
	CHECK_EQ(back.vms[0].wanted.version, 7);
	CHECK_STR(back.vms[0].cause, "guest-panic");
	CHECK_EQ(back.vms[0].frozen_count, 2);
	CHECK_STR(back.vms[0].frozen[1], "ffffffff");
	CHECK_STR(back.vms[1].life, "shut-off");
	CHECK(!back.vms[1].is_defined);
	CHECK(hf_peermsg_vm_is_same(&m.vms[0], &back.vms[0]));
	CHECK(!hf_peermsg_vm_is_same(&m.vms[0], &back.vms[1]));
	back.vms[0].frozen[1][7] = 'e';
	CHECK(!hf_peermsg_vm_is_same(&m.vms[0], &back.vms[0]));
	m.vms[1].wanted.is_forced = true;
	CHECK(!hf_peermsg_vm_is_same(&m.vms[1], &back.vms[1]));
}

/* The largest that is sent fits into what a service takes. */
TEST(the_largest_tell_is_a_call)
{
	static struct hf_peermsg_tell m = { .n = HF_PEERMSG_VMS_MAX };
	struct json_object *o;

	for (unsigned int i = 0; i < m.n; i++) {
		struct hf_peermsg_vm *vm = &m.vms[i];

		*vm = a_vm();
		memset(vm->vm, 'v', HF_NAME_MAX);
		memset(vm->wanted.host, 'h', HF_NAME_MAX);
		memset(vm->wanted.by, 'b', HF_NAME_MAX);
		vm->wanted.version = HF_WANTED_VERSION_MAX;
		memset(vm->text, '"', sizeof(vm->text) - 1); /* two bytes each */
		vm->frozen_count = HF_PEERMSG_FROZEN_MAX;
		for (unsigned int j = 0; j < HF_PEERMSG_FROZEN_MAX; j++)
			memset(vm->frozen[j], 'f', HF_PEERMSG_ID_MAX);
	}
	o = hf_peermsg_tell_encode(&m);
	CHECK(strlen(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN)) < 65000);
	json_object_put(o);
}

TEST(events_and_orders_come_back)
{
	static struct hf_peermsg_notice n = {
		.n = 1,
		.events = { { .seq = 5,
			      .time_ns = 6,
			      .event = "frozen",
			      .vm = "web",
			      .id = "0123abcd",
			      .cause = "guest-panic",
			      .text = "it is frozen" } },
	};
	static struct hf_peermsg_notice back;
	const struct hf_peermsg_order order = { .vm = "web", .lver = 12, .cause = "hang" };
	struct hf_peermsg_order again;
	struct json_object *o = hf_peermsg_notice_encode(&n);
	struct hf_err err;

	CHECK_EQ(hf_peermsg_notice_decode(o, &back, &err), 0);
	json_object_put(o);
	CHECK_STR(back.events[0].id, "0123abcd");
	CHECK_STR(back.events[0].text, "it is frozen");
	o = hf_peermsg_order_encode(&order);
	CHECK_EQ(hf_peermsg_order_decode(o, &again, &err), 0);
	json_object_put(o);
	CHECK_EQ(again.lver, 12);
	CHECK_STR(again.cause, "hang");
}

/* Each names what is wrong. */
TEST(what_is_wrong_is_refused)
{
	static const struct {
		const char *text;
		const char *why;
	} bad[] = {
		{ "{}", "version" },
		{ "{\"version\":2,\"host\":\"a\",\"to\":\"b\",\"instance\":1,\"after\":0}",
		  "version 2" },
		{ "{\"version\":1,\"host\":\"../x\",\"to\":\"b\",\"instance\":1,\"after\":0}",
		  "host" },
		{ "{\"version\":1,\"host\":\"a\",\"to\":\"\",\"instance\":1,\"after\":0}", "to" },
		{ "{\"version\":1,\"host\":\"a\",\"to\":\"b\",\"instance\":-1,\"after\":0}",
		  "instance" },
		{ "{\"version\":4294967297,\"host\":\"a\"}", "version" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct json_object *o = parse(bad[i].text);
		struct hf_peermsg_hello m;
		struct hf_err err = { "" };

		CHECK(hf_peermsg_hello_decode(o, &m, &err) < 0);
		CHECK_CONTAINS(err.text, bad[i].why);
		json_object_put(o);
	}
}

/* One member of a good message at a time is replaced by something else. */
TEST(each_member_of_a_vm_counts)
{
	static const struct {
		const char *key;
		const char *value;
	} bad[] = {
		{ "vm", "\"\"" },
		{ "vm", "7" },
		{ "is_defined", "1" },
		{ "definition_crc", "4294967296" },
		{ "may_run", "\"yes\"" },
		{ "have", "\"everything\"" },
		{ "wanted", "{}" },
		{ "wanted", "{\"is_started\":true,\"host\":\"a b\",\"version\":1,\"by\":\"x\"}" },
		{ "wanted", "{\"is_started\":true,\"host\":\"a\",\"version\":9007199254740993,"
			    "\"by\":\"x\"}" },
		{ "life", "\"a-life-that-is-much-too-long-for-a-name\"" },
		{ "cause", "\"/\"" },
		{ "text", "\"two\\nlines\"" },
		{ "frozen", "[\"0123abcd\"]" },
		{ "frozen", "[\"0123abcd\",\"../../..\"]" },
		{ "frozen", "[1,2]" },
	};
	static struct hf_peermsg_tell m = { .n = 1 };
	static struct hf_peermsg_tell back;

	m.vms[0] = a_vm();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct json_object *o = hf_peermsg_tell_encode(&m);
		struct json_object *list;
		struct hf_err err = { "" };

		CHECK_EQ(hf_json_array(o, "vms", &list, &err), 0);
		json_object_object_add(json_object_array_get_idx(list, 0), bad[i].key,
				       parse(bad[i].value));
		CHECK(hf_peermsg_tell_decode(o, &back, &err) < 0);
		CHECK_CONTAINS(err.text, bad[i].key);
		CHECK_CONTAINS(err.text, "vms[0]");
		json_object_put(o);
	}
}

TEST(lists_have_limits)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();
	static struct hf_peermsg_notice n;
	struct hf_err err = { "" };

	for (int i = 0; i <= HF_PEERMSG_EVENTS_MAX; i++)
		json_object_array_add(list, json_object_new_object());
	json_object_object_add(o, "events", list);
	CHECK(hf_peermsg_notice_decode(o, &n, &err) < 0);
	CHECK_CONTAINS(err.text, "more than 16");
	json_object_put(o);
	CHECK(hf_peermsg_notice_decode(NULL, &n, &err) < 0);
}

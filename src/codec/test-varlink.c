/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "codec/json.h"
#include "codec/varlink.h"

static void feed(struct hf_varlink_parser *p, const char *text, size_t len)
{
	while (len > 0) {
		char *space;
		size_t n;

		CHECK_EQ(hf_varlink_parser_space(p, &space, &n), 0);
		n = n < len ? n : len;
		memcpy(space, text, n);
		hf_varlink_parser_commit(p, n);
		text += n;
		len -= n;
	}
}

TEST(calls_split_at_each_byte)
{
	static const char stream[] =
		"{\"method\":\"org.example.vm.GetStatus\"}\0"
		"{\"method\":\"a.b.C\",\"parameters\":{\"x\":1},\"more\":true}";

	for (size_t split = 0; split <= sizeof(stream); split++) {
		struct hf_varlink_parser p;
		struct hf_varlink_call call;
		unsigned int seen = 0;

		hf_varlink_parser_init(&p, HF_VARLINK_CALL_MAX);
		feed(&p, stream, split);
		for (int half = 0; half < 2; half++) {
			while (hf_varlink_parser_next_call(&p, &call, NULL) == 1) {
				CHECK_STR(call.method,
					  seen == 0 ? "org.example.vm.GetStatus" : "a.b.C");
				CHECK_EQ(call.is_more, seen);
				CHECK_EQ(call.parameters != NULL, seen);
				hf_varlink_call_fini(&call);
				seen++;
			}
			if (half == 0)
				feed(&p, stream + split, sizeof(stream) - split);
		}
		CHECK_EQ(seen, 2);
		hf_varlink_parser_fini(&p);
	}
}

struct bad {
	const char *text;
	const char *says;
};

static const struct bad bad_calls[] = {
	{ "", "ends too early" },
	{ "1", "a JSON object is expected" },
	{ "{}", "\"method\" is missing" },
	{ "{\"method\":1}", "\"method\" must be of type string" },
	{ "{\"method\":\"Status\"}", "must be like" },
	{ "{\"method\":\"org.Status\"}", "must be like" },
	{ "{\"method\":\"org.example.status\"}", "must be like" },
	{ "{\"method\":\"org..Status\"}", "must be like" },
	{ "{\"method\":\"org.example.\"}", "must be like" },
	{ "{\"method\":\".org.Status\"}", "must be like" },
	{ "{\"method\":\"1org.example.Status\"}", "must be like" },
	{ "{\"method\":\"org.-x.Status\"}", "must be like" },
	{ "{\"method\":\"org.x-.Status\"}", "must be like" },
	{ "{\"method\":\"org.example.Sta-tus\"}", "must be like" },
	{ "{\"method\":\"a.b.C\",\"parameters\":[]}", "\"parameters\" must be of type object" },
	{ "{\"method\":\"a.b.C\",\"more\":1}", "\"more\" must be of type boolean" },
	{ "{\"method\":\"a.b.C\",\"more\":true,\"oneway\":true}", "only one of" },
	{ "{\"method\":\"a.b.C\",\"upgrade\":true,\"oneway\":true}", "only one of" },
	{ "{\"method\":\"a.b.C\",\"mroe\":true}", "the key \"mroe\" is unknown" },
	{ "{\"method\":\"a.b.C\",\"method\":\"a.b.D\"}", "a second time" },
};

TEST(bad_calls_are_refused_with_a_reason)
{
	for (size_t i = 0; i < sizeof(bad_calls) / sizeof(*bad_calls); i++) {
		struct hf_varlink_call call;
		struct hf_err err = { "" };

		CHECK_EQ(hf_varlink_decode_call(bad_calls[i].text, strlen(bad_calls[i].text), &call,
						&err),
			 -EBADMSG);
		CHECK_CONTAINS(err.text, bad_calls[i].says);
	}
}

static const struct bad bad_replies[] = {
	{ "[]", "a JSON object is expected" },
	{ "{\"parameters\":1}", "\"parameters\" must be of type object" },
	{ "{\"error\":\"oops\"}", "must be like" },
	{ "{\"error\":\"a.b.Oops\",\"continues\":true}", "cannot have \"continues\"" },
	{ "{\"method\":\"a.b.C\"}", "the key \"method\" is unknown" },
};

TEST(bad_replies_are_refused_with_a_reason)
{
	for (size_t i = 0; i < sizeof(bad_replies) / sizeof(*bad_replies); i++) {
		struct hf_varlink_reply reply;
		struct hf_err err = { "" };

		CHECK_EQ(hf_varlink_decode_reply(bad_replies[i].text, strlen(bad_replies[i].text),
						 &reply, &err),
			 -EBADMSG);
		CHECK_CONTAINS(err.text, bad_replies[i].says);
	}
}

TEST(member_names)
{
	char name[HF_VARLINK_NAME_MAX + 2];

	CHECK(hf_varlink_is_valid_member("org.varlink.service.GetInfo"));
	CHECK(hf_varlink_is_valid_member("xn--lgbbat1ad8j.example.algeria.A"));
	CHECK(hf_varlink_is_valid_member("a.21.B"));
	memset(name, 'x', sizeof(name));
	memcpy(name, "a.b.C", 5);
	name[HF_VARLINK_NAME_MAX] = '\0';
	CHECK(hf_varlink_is_valid_member(name));
	name[HF_VARLINK_NAME_MAX] = 'x';
	name[HF_VARLINK_NAME_MAX + 1] = '\0';
	CHECK(!hf_varlink_is_valid_member(name));
}

TEST(call_round_trip)
{
	struct json_object *parameters = json_object_new_object();
	struct hf_varlink_call out = { .method = "a.b.C", .parameters = parameters }, in;
	char *text;
	size_t len;

	json_object_object_add(parameters, "name", json_object_new_string("v\xc3\xa9\n"));
	for (int flag = 0; flag < 4; flag++) {
		out.is_oneway = flag == 1;
		out.is_more = flag == 2;
		out.is_upgrade = flag == 3;
		CHECK_EQ(hf_varlink_encode_call(&out, &text, &len), 0);
		CHECK_EQ(text[len - 1], '\0');
		CHECK_EQ(strlen(text), len - 1);
		CHECK_EQ(hf_varlink_decode_call(text, len - 1, &in, NULL), 0);
		CHECK_STR(in.method, "a.b.C");
		CHECK(json_object_equal(in.parameters, parameters));
		CHECK_EQ(in.is_oneway, out.is_oneway);
		CHECK_EQ(in.is_more, out.is_more);
		CHECK_EQ(in.is_upgrade, out.is_upgrade);
		hf_varlink_call_fini(&in);
		free(text);
	}
	json_object_put(parameters);
}

TEST(reply_round_trip)
{
	struct hf_varlink_reply out = { .is_continues = true }, in;
	char *text;
	size_t len;

	CHECK_EQ(hf_varlink_encode_reply(&out, &text, &len), 0);
	CHECK_STR(text, "{\"continues\":true}");
	free(text);
	out = (struct hf_varlink_reply){ .error = "org.varlink.service.MethodNotFound" };
	CHECK_EQ(hf_varlink_encode_reply(&out, &text, &len), 0);
	CHECK_EQ(hf_varlink_decode_reply(text, len - 1, &in, NULL), 0);
	CHECK_STR(in.error, out.error);
	CHECK(!in.is_continues);
	CHECK(!in.parameters);
	hf_varlink_reply_fini(&in);
	free(text);
	CHECK_EQ(hf_varlink_decode_reply("{}", 2, &in, NULL), 0);
	CHECK(!in.error);
	hf_varlink_reply_fini(&in);
}

/* A call of exactly @len bytes, without its NUL, through the parser. */
static int parse_long_call(size_t len, struct hf_err *err)
{
	static const char head[] = "{\"method\":\"a.b.C\",\"parameters\":{\"x\":\"",
			  tail[] = "\"}}";
	char *text = malloc(len + 1);
	struct hf_varlink_parser p;
	struct hf_varlink_call call;
	int r = 0;

	CHECK(text);
	memset(text, 'x', len);
	memcpy(text, head, sizeof(head) - 1);
	memcpy(text + len - (sizeof(tail) - 1), tail, sizeof(tail));
	hf_varlink_parser_init(&p, HF_VARLINK_CALL_MAX);
	for (size_t at = 0; r == 0 && at <= len; at += 1000) {
		feed(&p, text + at, len + 1 - at < 1000 ? len + 1 - at : 1000);
		r = hf_varlink_parser_next_call(&p, &call, err);
	}
	if (r == 1)
		hf_varlink_call_fini(&call);
	hf_varlink_parser_fini(&p);
	free(text);
	return r;
}

TEST(length_is_limited)
{
	struct json_object *big = json_object_new_object();
	struct hf_varlink_call call = { .method = "a.b.C", .parameters = big };
	struct hf_err err = { "" };
	char text[HF_VARLINK_CALL_MAX + 1], *out = NULL;
	size_t len;

	CHECK_EQ(parse_long_call(HF_VARLINK_CALL_MAX, &err), 1);
	CHECK_EQ(parse_long_call(HF_VARLINK_CALL_MAX + 1, &err), -EMSGSIZE);
	CHECK_CONTAINS(err.text, "longer than 65536 bytes");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	json_object_object_add(big, "x", json_object_new_string(text));
	CHECK_EQ(hf_varlink_encode_call(&call, &out, &len), -EMSGSIZE);
	CHECK(!out);
	json_object_put(big);
}

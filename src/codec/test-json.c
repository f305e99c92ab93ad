/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json_tokener.h>

#include "../../tests/test.h"
#include "codec/json.h"
#include "codec/utf8.h"

static struct json_object *parsed(const char *text)
{
	struct json_object *value = NULL;
	struct hf_err err = { "" };

	if (hf_json_parse(text, strlen(text), &value, &err) != 0)
		hf_test_fail(__FILE__, __LINE__, "%s: %s", text, err.text);
	return value;
}

TEST(valid_texts_equal_json_c)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		" [ 1 , -2 ] ",
		"\"\"",
		"0",
		"-0",
		"1.5",
		"-1.25e-3",
		"1E2",
		"true",
		"false",
		"9223372036854775807",
		"-9223372036854775808",
		"18446744073709551615",
		"{\"a\":{\"b\":[null,true,{\"c\":\"d\"}]},\"\":1}",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
		"\"\\u00e9\\u20AC\\ud83d\\ude00\"",
		"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
		"\r\n\t[[],[[]],{}]\r\n",
		"{\"a\":\"b\",\"A\":\"b\"}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct json_object *ours = parsed(texts[i]);
		struct json_object *theirs = json_tokener_parse(texts[i]);

		if (!json_object_equal(ours, theirs))
			hf_test_fail(__FILE__, __LINE__, "%s differs: %s", texts[i],
				     json_object_to_json_string(ours));
		json_object_put(ours);
		json_object_put(theirs);
	}
}

TEST(surrogate_pairs)
{
	struct json_object *value =
		parsed("[\"\\ud837\\ude00\",\"\\uD800\\uDC00\",\"\\uDBFF\\uDFFF\"]");

	CHECK_STR(json_object_get_string(json_object_array_get_idx(value, 0)), "\xf0\x9d\xb8\x80");
	CHECK_STR(json_object_get_string(json_object_array_get_idx(value, 1)), "\xf0\x90\x80\x80");
	CHECK_STR(json_object_get_string(json_object_array_get_idx(value, 2)), "\xf4\x8f\xbf\xbf");
	json_object_put(value);
}

struct bad {
	const char *text;
	const char *says;
};

static const struct bad bad_texts[] = {
	{ "", "ends too early" },
	{ "   ", "ends too early" },
	{ "{", "ends too early" },
	{ "[1,", "ends too early" },
	{ "\"abc", "ends too early" },
	{ "\"\\", "ends too early" },
	{ "\"\\u12", "ends too early" },
	{ "-", "ends too early" },
	{ "1.", "ends too early" },
	{ "1e+", "ends too early" },
	{ "tru", "a value is expected at byte 0" },
	{ "nul", "a value is expected" },
	{ "nullx", "something follows" },
	{ "{} x", "something follows the value at byte 3" },
	{ "1 2", "something follows" },
	{ "01", "something follows the value at byte 1" },
	{ "+1", "a value is expected" },
	{ ".5", "a value is expected" },
	{ "NaN", "a value is expected" },
	{ "Infinity", "a value is expected" },
	{ "0x10", "something follows" },
	{ "'a'", "a value is expected" },
	{ "{'a':1}", "double quotes is expected at byte 1" },
	{ "{a:1}", "double quotes is expected" },
	{ "{\"a\" 1}", "':' is expected" },
	{ "{\"a\":1,}", "double quotes is expected at byte 7" },
	{ "[1,]", "a value is expected at byte 3" },
	{ "[1 2]", "',' or ']' is expected at byte 3" },
	{ "{\"a\":1]", "',' or '}' is expected" },
	{ "[/* no */1]", "a value is expected" },
	{ "// no\n1", "a value is expected" },
	{ "{\"a\":1,\"b\":2,\"a\":3}", "\"a\" comes a second time at byte 13" },
	{ "{\"a\":1,\"\\u0061\":3}", "\"a\" comes a second time" },
	{ "{\"a\":null,\"a\":3}", "\"a\" comes a second time" },
	{ "\"\\u0000\"", "a NUL character" },
	{ "\"\\x41\"", "an unknown escape" },
	{ "\"\\u12g4\"", "four hexadecimal digits" },
	{ "\"\\ud800\"", "half a surrogate pair" },
	{ "\"\\ud800\\u0041\"", "half a surrogate pair" },
	{ "\"\\udc00\"", "half a surrogate pair" },
	{ "\"a\nb\"", "a control character inside a string at byte 2" },
	{ "\"\xff\"", "invalid UTF-8 at byte 1" },
	{ "\"\xc0\x80\"", "invalid UTF-8" },
	{ "\"\xe0\x80\xaf\"", "invalid UTF-8" },
	{ "\"\xed\xa0\x80\"", "invalid UTF-8" },
	{ "\"\xf4\x90\x80\x80\"", "invalid UTF-8" },
	{ "\"\xe2\x82\"", "invalid UTF-8" },
	{ "18446744073709551616", "does not fit 64 bits" },
	{ "-9223372036854775809", "does not fit 64 bits" },
	{ "[1e999]", "too large at byte 1" },
};

TEST(bad_texts_are_refused_with_a_reason)
{
	for (size_t i = 0; i < sizeof(bad_texts) / sizeof(*bad_texts); i++) {
		struct json_object *value = NULL;
		struct hf_err err = { "" };
		const char *text = bad_texts[i].text;

		CHECK_EQ(hf_json_parse(text, strlen(text), &value, &err), -EINVAL);
		CHECK(!value);
		CHECK_CONTAINS(err.text, bad_texts[i].says);
	}
}

TEST(nul_byte_in_the_text_is_refused)
{
	struct json_object *value = NULL;
	struct hf_err err;

	CHECK_EQ(hf_json_parse("\"a\0b\"", 5, &value, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "control character");
	CHECK_EQ(hf_json_parse("1\0", 2, &value, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "something follows");
}

/* The length decides, not a terminator: a text cut anywhere must not be read beyond its end. */
TEST(every_prefix_is_refused)
{
	static const char text[] = "{\"a\":[1.5e3,\"\\ud83d\\ude00\xc3\xa9\",{\"b\":null}]}";

	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		struct json_object *value = NULL;
		char *exact = malloc(len + 1);

		CHECK(exact);
		memcpy(exact, text, len);
		CHECK_EQ(hf_json_parse(exact, len, &value, NULL), -EINVAL);
		free(exact);
	}
	json_object_put(parsed(text));
}

static int parse_nested(int depth)
{
	char text[128] = "";
	struct json_object *value = NULL;
	struct hf_err err;
	int r;

	for (int i = 0; i < depth; i++) {
		text[i] = '[';
		text[2 * depth - 1 - i] = ']';
	}
	r = hf_json_parse(text, strlen(text), &value, &err);
	json_object_put(value);
	if (r < 0)
		CHECK_CONTAINS(err.text, "nesting is too deep");
	return r;
}

TEST(depth_is_limited)
{
	CHECK_EQ(parse_nested(HF_JSON_DEPTH_MAX), 0);
	CHECK_EQ(parse_nested(HF_JSON_DEPTH_MAX + 1), -EINVAL);
}

static int parse_many(unsigned int values)
{
	char *text = malloc(2 * (size_t)values);
	struct json_object *value = NULL;
	int r;

	CHECK(text);
	text[0] = '[';
	for (unsigned int i = 1; i < values; i++) {
		text[2 * i - 1] = '0';
		text[2 * i] = ',';
	}
	text[2 * (size_t)values - 2] = ']';
	r = hf_json_parse(text, 2 * (size_t)values - 1, &value, NULL);
	json_object_put(value);
	free(text);
	return r;
}

TEST(number_of_values_is_limited)
{
	CHECK_EQ(parse_many(HF_JSON_VALUES_MAX), 0);
	CHECK_EQ(parse_many(HF_JSON_VALUES_MAX + 1), -EINVAL);
}

TEST(getters_give_values)
{
	struct json_object *o = parsed("{\"s\":\"x\",\"i\":-5,\"u\":18446744073709551615,"
				       "\"b\":true,\"o\":{},\"a\":[1],\"n\":null}");
	struct json_object *sub;
	const char *s;
	int64_t i;
	uint64_t u;
	bool b = false;

	CHECK_EQ(hf_json_str(o, "s", &s, NULL), 0);
	CHECK_STR(s, "x");
	CHECK_EQ(hf_json_i64(o, "i", &i, NULL), 0);
	CHECK_EQ(i, -5);
	CHECK_EQ(hf_json_u64(o, "u", &u, NULL), 0);
	CHECK(u == UINT64_MAX);
	CHECK_EQ(hf_json_bool(o, "b", &b, NULL), 0);
	CHECK(b);
	CHECK_EQ(hf_json_obj(o, "o", &sub, NULL), 0);
	CHECK_EQ(hf_json_array(o, "a", &sub, NULL), 0);
	CHECK(hf_json_has(o, "a"));
	CHECK(!hf_json_has(o, "n"));
	CHECK(!hf_json_has(NULL, "n"));
	json_object_put(o);
}

TEST(a_text_is_copied_if_it_fits)
{
	struct json_object *o = json_object_new_object();
	char text[5] = "????";
	struct hf_err err;

	hf_json_add_str(o, "s", "abcd");
	hf_json_add_str(o, "short", "a");
	CHECK_EQ(hf_json_copy_str(o, "s", text, 4, &err), -EINVAL);
	CHECK_STR(err.text, "\"s\" has more than 3 bytes");
	CHECK_EQ(hf_json_copy_str(o, "none", text, 5, &err), -EINVAL);
	CHECK_STR(text, "????");
	CHECK_EQ(hf_json_copy_str(o, "s", text, 5, &err), 0);
	CHECK_STR(text, "abcd");
	CHECK_EQ(hf_json_copy_str(o, "short", text, 5, &err), 0);
	CHECK_EQ(memcmp(text, "a\0\0\0", 5), 0);
	json_object_put(o);
}

TEST(members_are_added)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "u", UINT64_MAX);
	hf_json_add_i64(o, "i", INT64_MIN);
	hf_json_add_bool(o, "b", true);
	CHECK_STR(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
		  "{\"u\":18446744073709551615,\"i\":-9223372036854775808,\"b\":true}");
	json_object_put(o);
}

TEST(getters_name_the_key)
{
	struct json_object *o = parsed("{\"s\":1,\"i\":\"x\",\"u\":-1,\"big\":9223372036854775808,"
				       "\"n\":null}");
	struct json_object *sub = NULL;
	const char *s = "untouched";
	int64_t i = 7;
	uint64_t u = 7;
	bool b = true;
	struct hf_err err;

	CHECK_EQ(hf_json_str(o, "s", &s, &err), -EINVAL);
	CHECK_STR(err.text, "\"s\" must be of type string, not int");
	CHECK_EQ(hf_json_str(o, "none", &s, &err), -EINVAL);
	CHECK_STR(err.text, "\"none\" is missing");
	CHECK_EQ(hf_json_str(o, "n", &s, &err), -EINVAL);
	CHECK_STR(err.text, "\"n\" is missing");
	CHECK_STR(s, "untouched");
	CHECK_EQ(hf_json_u64(o, "u", &u, &err), -EINVAL);
	CHECK_STR(err.text, "\"u\" must not be negative");
	CHECK_EQ(hf_json_i64(o, "big", &i, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "\"big\" is larger than");
	CHECK_EQ(hf_json_i64(o, "i", &i, &err), -EINVAL);
	CHECK_EQ(hf_json_bool(o, "s", &b, &err), -EINVAL);
	CHECK_EQ(hf_json_obj(o, "s", &sub, &err), -EINVAL);
	CHECK_EQ(hf_json_array(o, "s", &sub, &err), -EINVAL);
	CHECK_EQ(hf_json_str(NULL, "s", &s, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "an object with \"s\" is expected, not null");
	CHECK_EQ(i, 7);
	CHECK_EQ(u, 7);
	json_object_put(o);
}

TEST(utf8_printable)
{
	CHECK(hf_utf8_is_printable("", 0));
	CHECK(hf_utf8_is_printable("VM \xc3\xa9", 5));
	CHECK(!hf_utf8_is_printable("a\x1b[2J", 5));
	CHECK(!hf_utf8_is_printable("a\nb", 3));
	CHECK(!hf_utf8_is_printable("\x7f", 1));
	CHECK(!hf_utf8_is_printable("\xc2\x9b", 2));
	CHECK(hf_utf8_is_printable("\xc2\xa0", 2));
	CHECK(!hf_utf8_is_printable("\0", 1));
}

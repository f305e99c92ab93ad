/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The transcripts are what QEMU 7.2 wrote, byte for byte. */
#include <errno.h>

#include "../../tests/test.h"
#include "codec/json.h"
#include "codec/qmp.h"

static const char transcript[] =
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "
	"\"package\": "
	"\"Debian 1:7.2+dfsg-7+deb12u18+b3\"}, \"capabilities\": [\"oob\"]}}\r\n"
	"{\"return\": {}, \"id\": 1}\r\n"
	"{\"return\": {\"status\": \"prelaunch\", \"singlestep\": false, \"running\": false}, "
	"\"id\": "
	"18446744073709551615}\r\n"
	"{\"id\": 3, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command nope has "
	"not "
	"been found\"}}\r\n"
	"{\"timestamp\": {\"seconds\": 1795262531, \"microseconds\": 562845}, \"event\": "
	"\"RESUME\"}"
	"\r\n"
	"{\"return\": {}, \"id\": 4}\r\n"
	"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, expecting "
	"value\"}}"
	"\r\n"
	"{\"timestamp\": {\"seconds\": 1795262533, \"microseconds\": 677899}, \"event\": "
	"\"MIGRATION\", \"data\": {\"status\": \"completed\"}}\r\n"
	"{\"return\": {\"status\": \"completed\", \"setup-time\": 1, \"downtime\": 1, "
	"\"total-time\": "
	"11, \"ram\": {\"total\": 67641344, \"postcopy-requests\": 0, \"dirty-sync-count\": 2, "
	"\"multifd-bytes\": 0, \"pages-per-second\": 0, \"downtime-bytes\": 0, \"page-size\": "
	"4096, "
	"\"remaining\": 0, \"postcopy-bytes\": 0, \"mbps\": 570.00240000000008, \"transferred\": "
	"636023, \"dirty-sync-missed-zero-copy\": 0, \"precopy-bytes\": 636023, \"duplicate\": "
	"16395, "
	"\"dirty-pages-rate\": 0, \"skipped\": 0, \"normal-bytes\": 487424, \"normal\": 119}}, "
	"\"id\": "
	"7}\r\n"
	"{\"timestamp\": {\"seconds\": 1795262536, \"microseconds\": 537226}, \"event\": "
	"\"SHUTDOWN\", "
	"\"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}\r\n";

#define TRANSCRIPT_MESSAGES 10

static void feed(struct hf_qmp_parser *p, const char *text, size_t len)
{
	while (len > 0) {
		char *space;
		size_t n;

		CHECK_EQ(hf_qmp_parser_space(p, &space, &n), 0);
		n = n < len ? n : len;
		memcpy(space, text, n);
		hf_qmp_parser_commit(p, n);
		text += n;
		len -= n;
	}
}

static void check_first_half(unsigned int i, const struct hf_qmp_msg *m)
{
	const char *status;

	switch (i) {
	case 0:
		CHECK_EQ(m->kind, HF_QMP_GREETING);
		CHECK_EQ(m->greeting.major, 7);
		CHECK_EQ(m->greeting.minor, 2);
		CHECK_EQ(m->greeting.micro, 22);
		CHECK_STR(m->greeting.package, "Debian 1:7.2+dfsg-7+deb12u18+b3");
		break;
	case 1:
		CHECK_EQ(m->kind, HF_QMP_RETURN);
		CHECK(m->has_id);
		CHECK_EQ(m->id, 1);
		break;
	case 2:
		CHECK_EQ(m->kind, HF_QMP_RETURN);
		CHECK(m->id == UINT64_MAX);
		CHECK_EQ(hf_json_str(m->value, "status", &status, NULL), 0);
		CHECK_STR(status, "prelaunch");
		break;
	case 3:
		CHECK_EQ(m->kind, HF_QMP_ERROR);
		CHECK_EQ(m->id, 3);
		CHECK_STR(m->error.class, "CommandNotFound");
		CHECK_STR(m->error.desc, "The command nope has not been found");
		break;
	default:
		CHECK_EQ(m->kind, HF_QMP_EVENT);
		CHECK_STR(m->event.name, "RESUME");
		CHECK(!m->event.data);
		CHECK_EQ(m->event.timestamp_us, 1795262531562845);
		break;
	}
}

static void check_second_half(unsigned int i, const struct hf_qmp_msg *m)
{
	struct json_object *ram;
	const char *status;
	uint64_t n;

	switch (i) {
	case 5:
		CHECK_EQ(m->kind, HF_QMP_RETURN);
		CHECK_EQ(m->id, 4);
		break;
	case 6:
		CHECK_EQ(m->kind, HF_QMP_ERROR);
		CHECK(!m->has_id);
		CHECK_STR(m->error.class, "GenericError");
		break;
	case 7:
		CHECK_EQ(m->kind, HF_QMP_EVENT);
		CHECK_STR(m->event.name, "MIGRATION");
		CHECK_EQ(hf_json_str(m->event.data, "status", &status, NULL), 0);
		CHECK_STR(status, "completed");
		break;
	case 8:
		CHECK_EQ(m->kind, HF_QMP_RETURN);
		CHECK_EQ(hf_json_obj(m->value, "ram", &ram, NULL), 0);
		CHECK_EQ(hf_json_u64(ram, "transferred", &n, NULL), 0);
		CHECK_EQ(n, 636023);
		break;
	default:
		CHECK_EQ(i, 9);
		CHECK_STR(m->event.name, "SHUTDOWN");
		break;
	}
}

static unsigned int take_messages(struct hf_qmp_parser *p, unsigned int seen)
{
	struct hf_qmp_msg msg;
	struct hf_err err = { "" };
	int r;

	while ((r = hf_qmp_parser_next(p, &msg, &err)) == 1) {
		if (seen < 5)
			check_first_half(seen, &msg);
		else
			check_second_half(seen, &msg);
		hf_qmp_msg_fini(&msg);
		seen++;
	}
	CHECK_STR(err.text, "");
	CHECK_EQ(r, 0);
	return seen;
}

TEST(transcript_split_at_each_byte)
{
	for (size_t split = 0; split < sizeof(transcript); split++) {
		struct hf_qmp_parser p;
		unsigned int seen;

		hf_qmp_parser_init(&p);
		feed(&p, transcript, split);
		seen = take_messages(&p, 0);
		feed(&p, transcript + split, sizeof(transcript) - 1 - split);
		CHECK_EQ(take_messages(&p, seen), TRANSCRIPT_MESSAGES);
		hf_qmp_parser_fini(&p);
	}
}

TEST(transcript_byte_by_byte)
{
	struct hf_qmp_parser p;
	unsigned int seen = 0;

	hf_qmp_parser_init(&p);
	for (size_t i = 0; i < sizeof(transcript) - 1; i++) {
		feed(&p, transcript + i, 1);
		seen = take_messages(&p, seen);
	}
	CHECK_EQ(seen, TRANSCRIPT_MESSAGES);
	hf_qmp_parser_fini(&p);
}

struct bad {
	const char *line;
	const char *says;
};

static const struct bad bad_lines[] = {
	{ "", "ends too early" },
	{ "[]", "neither greeting, return, error nor event" },
	{ "{}", "neither greeting" },
	{ "null", "neither greeting" },
	{ "{\"return\": {}, \"id\": \"x\"}", "\"id\" must be of type int" },
	{ "{\"return\": {}, \"id\": -1}", "\"id\" must not be negative" },
	{ "{\"return\": {}, \"id\": 1.5}", "\"id\" must be of type int" },
	{ "{\"error\": {\"desc\": \"x\"}}", "\"class\" is missing" },
	{ "{\"error\": {\"class\": \"x\"}}", "\"desc\" is missing" },
	{ "{\"error\": \"x\"}", "\"error\" must be of type object" },
	{ "{\"event\": \"X\"}", "\"timestamp\" is missing" },
	{ "{\"event\": 1, \"timestamp\": {}}", "\"event\" must be of type string" },
	{ "{\"event\": \"X\", \"data\": [], \"timestamp\": {}}",
	  "\"data\" must be of type object" },
	{ "{\"event\": \"X\", \"timestamp\": {\"seconds\": 1}}", "\"microseconds\" is missing" },
	{ "{\"QMP\": {}}", "\"version\" is missing" },
	{ "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2}, \"package\": \"\"}}}",
	  "\"micro\" is missing" },
	{ "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 70000, \"minor\": 2, \"micro\": 1}, "
	  "\"package\": \"\"}}}",
	  "\"major\" is no part of a version" },
	{ "{\"return\": {}} {}", "something follows" },
};

TEST(bad_lines_are_refused_with_a_reason)
{
	for (size_t i = 0; i < sizeof(bad_lines) / sizeof(*bad_lines); i++) {
		struct hf_qmp_msg msg;
		struct hf_err err = { "" };

		CHECK_EQ(hf_qmp_decode(bad_lines[i].line, strlen(bad_lines[i].line), &msg, &err),
			 -EBADMSG);
		CHECK_CONTAINS(err.text, bad_lines[i].says);
		CHECK_CONTAINS(err.text, "QEMU sent what is no QMP message: ");
	}
}

TEST(unknown_clock_is_zero)
{
	static const char line[] =
		"{\"event\":\"X\",\"timestamp\":{\"seconds\":-1,\"microseconds\":-1}}";
	struct hf_qmp_msg msg;

	CHECK_EQ(hf_qmp_decode(line, sizeof(line) - 1, &msg, NULL), 0);
	CHECK_EQ(msg.event.timestamp_us, 0);
	hf_qmp_msg_fini(&msg);
	hf_qmp_msg_fini(NULL);
}

TEST(return_of_any_value)
{
	struct hf_qmp_msg msg;

	CHECK_EQ(hf_qmp_decode("{\"return\":null,\"id\":1}", 22, &msg, NULL), 0);
	CHECK_EQ(msg.kind, HF_QMP_RETURN);
	CHECK(!msg.value);
	hf_qmp_msg_fini(&msg);
	CHECK_EQ(hf_qmp_decode("{\"return\":[5]}", 14, &msg, NULL), 0);
	CHECK(json_object_is_type(msg.value, json_type_array));
	CHECK(!msg.has_id);
	hf_qmp_msg_fini(&msg);
}

/* A return whose text is @len bytes long with its line end. */
static int parse_long_line(size_t len, struct hf_err *err)
{
	static const char head[] = "{\"return\":\"", tail[] = "\"}\n";
	struct hf_qmp_parser p;
	struct hf_qmp_msg msg;
	char *line = malloc(len);
	int r = 0;

	CHECK(line);
	memset(line, 'x', len);
	memcpy(line, head, sizeof(head) - 1);
	memcpy(line + len - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
	hf_qmp_parser_init(&p);
	for (size_t at = 0; r == 0 && at < len; at += 4096) {
		feed(&p, line + at, len - at < 4096 ? len - at : 4096);
		r = hf_qmp_parser_next(&p, &msg, err);
	}
	if (r == 1)
		hf_qmp_msg_fini(&msg);
	hf_qmp_parser_fini(&p);
	free(line);
	return r;
}

TEST(line_length_is_limited)
{
	struct hf_err err = { "" };

	CHECK_EQ(parse_long_line(HF_QMP_LINE_MAX + 1, &err), 1);
	CHECK_EQ(parse_long_line(HF_QMP_LINE_MAX + 2, &err), -EMSGSIZE);
	CHECK_CONTAINS(err.text, "more than 1048576 bytes");
	CHECK_EQ(parse_long_line(3 * HF_QMP_LINE_MAX, &err), -EMSGSIZE);
}

TEST(commands)
{
	struct json_object *arguments = json_object_new_object();
	char buf[128];
	size_t len;

	CHECK_EQ(hf_qmp_encode(buf, sizeof(buf), "query-status", NULL, UINT64_MAX, &len), 0);
	CHECK_STR(buf, "{\"execute\":\"query-status\",\"id\":18446744073709551615}\r\n");
	CHECK_EQ(len, strlen(buf));
	json_object_object_add(arguments, "uri", json_object_new_string("a\"b"));
	CHECK_EQ(hf_qmp_encode(buf, sizeof(buf), "migrate", arguments, 7, &len), 0);
	CHECK_STR(buf, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"a\\\"b\"},\"id\":7}\r\n");
	json_object_put(arguments);
	CHECK_EQ(hf_qmp_encode_text(buf, sizeof(buf), "cont", "{}", 0, &len), 0);
	CHECK_STR(buf, "{\"execute\":\"cont\",\"arguments\":{},\"id\":0}\r\n");
}

TEST(command_into_a_short_buffer)
{
	char buf[64];
	size_t len = 99, full;

	CHECK_EQ(hf_qmp_encode_text(buf, sizeof(buf), "stop", NULL, 12, &full), 0);
	for (size_t size = 0; size <= full; size++)
		CHECK_EQ(hf_qmp_encode_text(buf, size, "stop", NULL, 12, &len), -ENOBUFS);
	CHECK_EQ(len, 99);
	CHECK_EQ(hf_qmp_encode_text(buf, full + 1, "stop", NULL, 12, &len), 0);
}

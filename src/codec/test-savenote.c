/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/savenote.h"

#include "../../tests/test.h"

#include <errno.h>

static const struct hf_savenote sample = {
	.vm = "web",
	.host = "alpha",
	.saved_time_ns = 1763769600123456789,
	.qemu_version = "7.2.22",
	.machine = "pc-q35-7.2",
	.ram_bytes = (uint64_t)4 << 30,
	.device_state_bytes = 245234,
	.device_state_crc = 0xfedcba98,
	.was_running = true,
	.lver = 7,
	.is_settled = true,
	.image = { { .location = "/srv/web.qcow2",
		     .is_file = true,
		     .bytes = 12345678,
		     .inode = UINT64_MAX,
		     .mtime_ns = -1 },
		   { .location = "nbd://san/web" } },
	.n_images = 2,
};

static char *text_of(const struct hf_savenote *n)
{
	struct json_object *o = hf_savenote_encode(n);
	char *text = strdup(json_object_to_json_string(o));

	CHECK(text);
	json_object_put(o);
	return text;
}

TEST(what_was_written_is_read)
{
	struct hf_savenote n = { 0 };
	struct hf_err err = { "" };
	char *text = text_of(&sample);

	CHECK_EQ(hf_savenote_decode("save.json", text, strlen(text), &n, &err), 0);
	CHECK_STR(n.vm, "web");
	CHECK_STR(n.host, "alpha");
	CHECK_EQ(n.saved_time_ns, sample.saved_time_ns);
	CHECK_STR(n.machine, "pc-q35-7.2");
	CHECK_STR(n.qemu_version, "7.2.22");
	CHECK_EQ(n.ram_bytes, sample.ram_bytes);
	CHECK_EQ(n.device_state_bytes, 245234);
	CHECK_EQ(n.device_state_crc, 0xfedcba98);
	CHECK(n.was_running && n.is_settled);
	CHECK_EQ(n.lver, 7);
	CHECK_EQ(n.n_images, 2);
	CHECK_STR(n.image[0].location, "/srv/web.qcow2");
	CHECK(n.image[0].is_file && !n.image[1].is_file);
	CHECK(n.image[0].inode == UINT64_MAX);
	CHECK_EQ(n.image[0].mtime_ns, -1);
	CHECK_STR(n.image[1].location, "nbd://san/web");
	free(text);
}

/* One word of a good text exchanged. */
static int decode_with(const char *old, const char *new, struct hf_err *err)
{
	static struct hf_savenote n;
	char *text = text_of(&sample), *at = strstr(text, old), *changed = NULL;
	int r;

	CHECK(at);
	CHECK(asprintf(&changed, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old)) > 0);
	memset(&n, 0x55, sizeof(n));
	r = hf_savenote_decode("save.json", changed, strlen(changed), &n, err);
	if (r < 0)
		CHECK_EQ(n.n_images, 0x55555555); /* not touched */
	free(changed);
	free(text);
	return r;
}

TEST(what_is_wrong_is_said)
{
	static const struct {
		const char *old, *new, *what;
	} bad[] = {
		{ "\"vm\": \"web\"", "\"vm\": \"../web\"", "vm" },
		{ "\"vm\": \"web\"", "\"vm\": 5", "vm" },
		{ "\"lver\"", "\"liver\"", "lver" },
		{ "\"was_running\": true", "\"was_running\": 1", "was_running" },
		{ "\"is_settled\": true", "\"is_settled\": null", "is_settled" },
		{ "\"ram_bytes\": 4294967296", "\"ram_bytes\": 0", "ram_bytes" },
		{ "\"ram_bytes\": 4294967296", "\"ram_bytes\": -1", "ram_bytes" },
		{ "\"device_state_crc\": 4275878552", "\"device_state_crc\": 4294967296", "crc" },
		{ "\"version\": 1", "\"version\": 0", "version" },
		{ "\"is_file\": true", "\"is_file\": 1", "image 0" },
		{ "\"location\": \"nbd:", "\"place\": \"nbd:", "image 1" },
		{ "\"mtime_ns\": -1", "\"mtime_ns\": 0.5", "mtime_ns" },
		{ "{ \"version\"", "{ \"vm\": \"a\", \"version\"", "vm" },
		{ "]", "", "save.json" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct hf_err err = { "" };

		CHECK(decode_with(bad[i].old, bad[i].new, &err) < 0);
		CHECK_CONTAINS(err.text, "save.json");
		CHECK_CONTAINS(err.text, bad[i].what);
	}
}

TEST(a_later_versions_member_is_passed_over)
{
	struct hf_err err = { "" };

	CHECK_EQ(decode_with("{ \"version\": 1", "{ \"color\": [ 1 ], \"version\": 2", &err), 0);
}

TEST(there_are_limits)
{
	struct hf_savenote many = sample;
	struct hf_err err = { "" };
	char long_text[6000];

	many.n_images = HF_SAVENOTE_IMAGES_MAX;
	for (unsigned int i = 0; i < many.n_images; i++)
		(void)snprintf(many.image[i].location, PATH_MAX, "/i%u", i);
	char *text = text_of(&many);

	CHECK_EQ(hf_savenote_decode("x", text, strlen(text), &many, &err), 0);
	free(text);
	CHECK_EQ(hf_savenote_decode("x", "{}", HF_SAVENOTE_MAX_BYTES + 1, &many, &err), -E2BIG);
	memset(long_text, 'a', sizeof(long_text));
	memcpy(long_text, "\"location\": \"", 13);
	long_text[sizeof(long_text) - 1] = '\0';
	CHECK(decode_with("\"location\": \"", long_text, &err) < 0);
	CHECK_CONTAINS(err.text, "location");
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <stdbool.h>

#include "codec/certificate.h"
#include "codec/json.h"
#include "codec/words.h"

static char qemu[] = "qemu-system-x86_64", minus_m[] = "-m", size[] = "256", net0[] = "net0";
static char *argv[] = { qemu, minus_m, size, NULL }, *hold_net[] = { net0, NULL },
	    *empty[] = { NULL };

static void fill(struct hf_certificate *c)
{
	*c = (struct hf_certificate){
		.is_certified = true,
		.vm = "web.1",
		.id = "0123abcd",
		.host = "north",
		.instance = { 0x0123abcd00000000, 0xfeed },
		.boot_id = "5b3a8a6c-7b1e-4f0e-a0b5-6a7a3b7f3c11",
		.cause = HF_VM_CAUSE_PANIC,
		.severity = HF_VM_FATAL,
		.cause_text = "the guest's kernel panicked: \"no init\"",
		.topology = "DIMM_A1",
		.cause_time_ns = 1700000000000000001,
		.frozen_time_ns = 1700000000007000001,
		.n_checks = 1,
		.check[0] = { "disk-process-dead", true, 1700000000006000000, "it has ended" },
		.awakenings = 3,
		.keeper = { 100, 5000 },
		.qemu = { 101, 5001 },
		.qemu_fate = HF_REMAINS_PROCESS,
		.cgroup = "/sys/fs/cgroup/x/holdfast-web.1",
		.net = { "tap0", "tap1" },
		.n_nets = 2,
		.cgroup_id = 4711,
		.lease_fate = "pledged",
		.lver = 7,
		.ram = HF_REMAINS_PROCESS,
		.ram_holder = { 102, 5002 },
		.ram_fd = 3,
		.ram_bytes = UINT64_C(6) << 30,
		.page_bytes = 2 << 20,
		.n_ram_parts = 2,
		.ram_part = { { 0, UINT64_C(2) << 30, 0 },
			      { UINT64_C(4) << 30, UINT64_C(4) << 30, UINT64_C(2) << 30 } },
		.device_state = HF_REMAINS_FILE,
		.device_state_bytes = 300000,
		.qemu_version = "7.2.22",
		.machine = "pc-q35-7.2",
		.cwd = "/root",
		.argv = argv,
		.hold_net = hold_net,
		.unprotected = empty,
	};
	for (int i = 0; i < HF_FREEZE_STEP_COUNT; i++)
		c->step[i] = (struct hf_certificate_step){ HF_FREEZE_DONE, (uint64_t)i * 10,
							   (uint64_t)i * 10 + 5, "as ordered" };
}

static const char *text_of(const struct hf_certificate *c)
{
	static char *text;
	struct json_object *o = hf_certificate_encode(c);

	CHECK(o);
	free(text);
	text = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE));
	CHECK(text);
	json_object_put(o);
	return text;
}

static int decode(const char *text, struct hf_certificate *ret, struct hf_err *err)
{
	return hf_certificate_decode("cert", text, strlen(text), ret, err);
}

static void check_lists(const struct hf_certificate *got, const struct hf_certificate *want)
{
	CHECK_EQ(hf_words_count(got->argv), hf_words_count(want->argv));
	for (size_t i = 0; want->argv && want->argv[i]; i++)
		CHECK_STR(got->argv[i], want->argv[i]);
	CHECK_EQ(!got->hold_net, !want->hold_net);
	CHECK_EQ(hf_words_count(got->hold_net), hf_words_count(want->hold_net));
	CHECK_EQ(!got->unprotected, !want->unprotected);
	CHECK_EQ(hf_words_count(got->unprotected), hf_words_count(want->unprotected));
}

/* All of it, and then no byte is different but the pointers. */
static void check_round_trip(const struct hf_certificate *want)
{
	struct hf_certificate *got = calloc(1, sizeof(*got));
	struct hf_err err = { "" };

	CHECK(got);
	if (decode(text_of(want), got, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	check_lists(got, want);
	CHECK_EQ(got->cause, want->cause);
	CHECK_STR(got->cause_text, want->cause_text);
	CHECK_EQ(got->instance.hi, want->instance.hi);
	CHECK_EQ(got->instance.lo, want->instance.lo);
	CHECK_STR(got->boot_id, want->boot_id);
	CHECK_EQ(got->ram_part[1].address, want->ram_part[1].address);
	CHECK_EQ(got->step[HF_FREEZE_CERTIFY].ended_us, want->step[HF_FREEZE_CERTIFY].ended_us);
	CHECK_STR(got->net[1], want->net[1]);
	CHECK_EQ(got->ram_holder.start_ticks, want->ram_holder.start_ticks);
	hf_certificate_fini(got);
	got->argv = want->argv;
	got->hold_net = want->hold_net;
	got->unprotected = want->unprotected;
	CHECK_EQ(memcmp((const char *)got, (const char *)want, sizeof(*got)), 0);
	free(got);
}

TEST(round_trip)
{
	struct hf_certificate c;

	memset(&c, 0, sizeof(c)); /* the padding, too, for memcmp() */
	fill(&c);
	check_round_trip(&c);
}

TEST(round_trip_of_a_latch)
{
	struct hf_certificate c;

	memset(&c, 0, sizeof(c));
	memcpy(c.vm, "a", 2);
	memcpy(c.id, "00000000", 9);
	c.instance.lo = 1;
	c.cause = HF_VM_CAUSE_ORDER;
	check_round_trip(&c);
}

/* Texts of other processes: what is not UTF-8 does not make it unreadable. */
TEST(foreign_texts)
{
	struct hf_certificate c, got;

	fill(&c);
	memcpy(c.cause_text, "disk \xff\xc3 \x01\"\\", 12);
	CHECK_EQ(decode(text_of(&c), &got, NULL), 0);
	CHECK_STR(got.cause_text, "disk ?? \x01\"\\");
	hf_certificate_fini(&got);
}

/* The text of a good one with @from replaced by @to. */
static const char *replaced(const char *from, const char *to)
{
	static char text[65536];
	struct hf_certificate c;
	const char *good, *at;

	fill(&c);
	good = text_of(&c);
	at = strstr(good, from);
	if (!at)
		hf_test_fail(__FILE__, __LINE__, "there is no %s in %s", from, good);
	if (snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, to,
		     at + strlen(from)) >= (int)sizeof(text))
		hf_test_fail(__FILE__, __LINE__, "too long");
	return text;
}

static const struct bad {
	const char *from, *to, *why;
} bads[] = {
	{ "\"version\":1", "\"version\":2", "it has version 2, which this holdfast does not know" },
	{ "\"frozen\"", "\"thawed\"", "\"state\" has the unknown value \"thawed\"" },
	{ "\"host\":\"north\",", "", "\"host\" is missing" },
	{ "\"host\":", "\"vm\":\"x\",\"host\":", "the key \"vm\" comes a second time" },
	{ "\"north\"", "\"a/b\"", "\"host\" is not a name" },
	{ "\"web.1\"", "\"../x\"", "\"vm\" is not a name" },
	{ "\"web.1\"", "\"\"", "\"vm\" is empty" },
	{ "\"0123abcd\"", "\"0123ABCD\"", "\"id\" is not 8 hexadecimal digits" },
	{ "\"0123abcd\"", "\"0123abc\"", "\"id\" is not 8 hexadecimal digits" },
	{ "\"0123abcd\"", "\"0123abce\"", "\"id\" is not the beginning of \"instance\"" },
	{ "\"0123abcd\"", "\"0123abcd0\"", "\"id\" has more than 8 bytes" },
	{ "00feed\"", "00feedx\"", "\"instance\" is not 32 hexadecimal digits" },
	{ "guest-panic", "boredom", "\"cause\" has the unknown value \"boredom\"" },
	{ "\"awakenings\":3", "\"awakenings\":4294967296", "\"awakenings\" is larger than" },
	{ "\"awakenings\":3", "\"awakenings\":-1", "\"awakenings\" must not be negative" },
	{ "\"pid\":101", "\"pid\":2147483648", "qemu: \"pid\" is larger than 2147483647" },
	{ "\"pid\":101", "\"pid\":0", "there is no \"qemu\"" },
	{ "\"pid\":102", "\"pid\":0", "there is no \"ram_holder\"" },
	{ "\"keeper\":{", "\"keeper\":[{}],\"x\":{", "\"keeper\" must be of type object" },
	{ "\"/sys/fs", "\"sys/fs", "\"cgroup\" is not an absolute path" },
	{ "\"/root\"", "\"root\"", "\"cwd\" is not an absolute path" },
	{ "\"frozen_time_ns\":1700000000007000001", "\"frozen_time_ns\":0", "is 0" },
	{ "\"qemu_fate\":\"process\"", "\"qemu_fate\":\"file\"", "\"qemu_fate\" cannot be" },
	{ "\"device_state\":\"file\"", "\"device_state\":\"process\"", "\"device_state\" cannot" },
	{ "\"step\":\"stop\"", "\"step\":\"latch\"", "steps[1]: \"step\" must be \"stop\"" },
	{ "\"ok\":true", "\"ok\":1", "checks[0]: \"ok\" must be of type boolean" },
	{ "\"checks\":[", "\"checks\":[1,", "checks[0]: " },
	{ "\"address\":4294967296", "\"address\":18446744073709551000",
	  "beyond the address space" },
	{ "\"offset\":2147483648", "\"offset\":2147483649", "is not within the RAM" },
	{ "\"bytes\":4294967296", "\"bytes\":0", "is not within the RAM" },
	{ "\"tap1\"", "\"a-name-too-long-for-it\"", "nets[1] is not the name of an interface" },
	{ "\"tap1\"", "7", "nets[1] is not the name of an interface" },
	{ "\"-m\"", "7", "\"argv\" must be a list of strings" },
	{ "\"hold_net\":[\"net0\"]", "\"hold_net\":\"net0\"",
	  "\"hold_net\" must be of type array" },
	{ "\"hold_net\":[\"net0\"],", "", "\"hold_net\" is missing" },
};

TEST(bad_ones)
{
	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		const char *text = replaced(bads[i].from, bads[i].to);
		struct hf_certificate c = { .awakenings = 77 };
		struct hf_err err = { "" };
		int r = decode(text, &c, &err);

		if (r != -EINVAL)
			hf_test_fail(__FILE__, __LINE__, "%s: %d", bads[i].to, r);
		CHECK_CONTAINS(err.text, bads[i].why);
		CHECK_CONTAINS(err.text, "cert: ");
		CHECK_EQ(c.awakenings, 77); /* untouched */
	}
}

TEST(a_later_version_may_have_more)
{
	struct hf_certificate c;

	CHECK_EQ(decode(replaced("\"host\"", "\"colour\":{\"of\":[1]},\"host\""), &c, NULL), 0);
	hf_certificate_fini(&c);
}

static const char *many(const char *key, const char *one, int n)
{
	static char list[65536], from[64];
	size_t used = (size_t)snprintf(list, sizeof(list), "\"%s\":[%s", key, one);

	for (int i = 1; i < n; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, ",%s", one);
	(void)snprintf(list + used, sizeof(list) - used, "],\"x\":[");
	(void)snprintf(from, sizeof(from), "\"%s\":[", key);
	return replaced(from, list);
}

TEST(limits)
{
	struct hf_certificate c;
	struct hf_err err = { "" };

	CHECK_EQ(decode(many("nets", "\"tap0\"", HF_CERTIFICATE_NETS_MAX), &c, &err), 0);
	CHECK_EQ(c.n_nets, HF_CERTIFICATE_NETS_MAX);
	hf_certificate_fini(&c);
	CHECK_EQ(decode(many("nets", "\"tap0\"", HF_CERTIFICATE_NETS_MAX + 1), &c, &err), -E2BIG);
	CHECK_CONTAINS(err.text, "\"nets\" has more than 32 entries");
	CHECK_EQ(decode(many("ram_parts", "{\"address\":0,\"bytes\":1,\"offset\":0}", 9), &c, &err),
		 -E2BIG);
	CHECK_CONTAINS(err.text, "\"ram_parts\" has 9 entries: at most 8 are expected");
	CHECK_EQ(decode(many("argv", "\"x\"", 4096), &c, &err), 0);
	CHECK_EQ(hf_words_count(c.argv), 4096);
	hf_certificate_fini(&c);
	CHECK_EQ(decode(many("argv", "\"x\"", 4097), &c, &err), -E2BIG);
	CHECK_CONTAINS(err.text, "\"argv\" has more than 4096 words");
	CHECK_EQ(hf_certificate_decode("cert", "", HF_CERTIFICATE_MAX_BYTES + 1, &c, &err), -E2BIG);
	CHECK_EQ(decode("[1,2]", &c, &err), -EINVAL);
	CHECK_EQ(decode("{", &c, &err), -EINVAL);
	CHECK_EQ(decode("", &c, &err), -EINVAL);
}

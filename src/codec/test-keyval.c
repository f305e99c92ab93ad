/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "codec/keyval.h"

static void check_parse(const char *text, const char *implied, const char *want)
{
	struct hf_keyval kv = { 0 };
	char got[512] = "";
	size_t n = 0;

	CHECK_EQ(hf_keyval_parse(text, implied, &kv, NULL), 0);
	for (size_t i = 0; i < kv.count; i++)
		n += (size_t)snprintf(got + n, sizeof(got) - n, "%s=%s;", kv.pairs[i].key,
				      kv.pairs[i].value);
	CHECK_STR(got, want);
	hf_keyval_fini(&kv);
	CHECK_EQ(kv.count, 0);
}

static void check_refused(const char *text, const char *why)
{
	struct hf_keyval kv = { 0 };
	struct hf_err err = { "" };

	CHECK_EQ(hf_keyval_parse(text, "type", &kv, &err), -EINVAL);
	CHECK_CONTAINS(err.text, why);
	CHECK(kv.pairs == NULL);
}

TEST(pairs)
{
	check_parse("", "type", "");
	check_parse("tap,id=net0,ifname=tap0", "type", "type=tap;id=net0;ifname=tap0;");
	check_parse("type=tap,id=net0", "type", "type=tap;id=net0;");
	check_parse("2G,slots=4", "size", "size=2G;slots=4;");
	check_parse("id=m,share", NULL, "id=m;share=on;");
	check_parse("q35,", "type", "type=q35;");
	check_parse("a=1,a=2", NULL, "a=1;a=2;");
	check_parse("a=b=c", NULL, "a=b=c;");
}

TEST(doubled_commas)
{
	check_parse("file=/a,,b,if=none", NULL, "file=/a,b;if=none;");
	check_parse("x,,y,a=b", "type", "type=x,y;a=b;");
	check_parse("a=,,,,", NULL, "a=,,;");
	check_parse("a=1,,,b=2", NULL, "a=1,;b=2;");
}

TEST(json)
{
	check_parse("{\"qom-type\":\"memory-backend-ram\",\"id\":\"m\",\"size\":2147483648,"
		    "\"share\":true,\"host-nodes\":[0,1]}",
		    NULL,
		    "qom-type=memory-backend-ram;id=m;size=2147483648;share=on;host-nodes.0=0;"
		    "host-nodes.1=1;");
	check_parse("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"/a,b\"},"
		    "\"backing\":null}",
		    NULL, "driver=qcow2;file.driver=file;file.filename=/a,b;");
}

TEST(mistakes)
{
	check_refused("tap,,=x,=y", "not a key");
	check_refused("tap,a b=c", "'a b' is not a key");
	check_refused("tap,,,=1", "not a key");
	check_refused("{'a':1}", "");
	check_refused("{\"a\":1,\"a\":2}", "");
	check_refused("{\"a,b\":1}", "'a,b' is not a key");
	check_refused("{\"a\":1} x", "");
	/* 64 + 64 letters: the dotted whole is over the limit. */
	check_refused("{\"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl\":"
		      "{\"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl\":1}}",
		      "too long for a key");
}

TEST(too_many_pairs)
{
	struct hf_keyval kv = { 0 };
	char text[2 * (HF_KEYVAL_PAIRS_MAX + 2)];
	struct hf_err err = { "" };

	for (size_t i = 0; i + 1 < sizeof(text); i += 2)
		memcpy(text + i, "a,", 2);
	text[2 * HF_KEYVAL_PAIRS_MAX + 1] = '\0';
	CHECK_EQ(hf_keyval_parse(text, NULL, &kv, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "more than 1024");
	text[2 * HF_KEYVAL_PAIRS_MAX] = '\0';
	CHECK_EQ(hf_keyval_parse(text, NULL, &kv, &err), 0);
	CHECK_EQ(kv.count, HF_KEYVAL_PAIRS_MAX);
	CHECK_EQ(hf_keyval_add(&kv, "b", "c"), -E2BIG);
	hf_keyval_fini(&kv);
}

TEST(change)
{
	struct hf_keyval kv = { 0 };
	char *text = NULL;

	CHECK_EQ(hf_keyval_parse("memory-backend-memfd,id=m,size=1G,size=2G,hugetlb=on,prealloc=on",
				 "qom-type", &kv, NULL),
		 0);
	CHECK_STR(hf_keyval_get(&kv, "size"), "2G");
	CHECK(hf_keyval_get(&kv, "siz") == NULL);
	CHECK(hf_keyval_is_on(&kv, "hugetlb", false));
	CHECK(!hf_keyval_is_on(&kv, "share", false));
	CHECK(hf_keyval_is_on(&kv, "share", true));
	CHECK_EQ(hf_keyval_remove(&kv, "size"), 2);
	CHECK_EQ(hf_keyval_remove(&kv, "size"), 0);
	CHECK_EQ(hf_keyval_add(&kv, "mem-path", "/dev/shm/a,b"), 0);
	CHECK_EQ(hf_keyval_add(&kv, "size", "7"), 0);
	CHECK_EQ(hf_keyval_format(&kv, "qom-type", &text), 0);
	CHECK_STR(text, "memory-backend-memfd,id=m,hugetlb=on,prealloc=on,"
			"mem-path=/dev/shm/a,,b,size=7");
	free(text);
	hf_keyval_fini(&kv);
}

/* What is written must read back the same, whatever the values hold. */
TEST(round_trip_of_odd_values)
{
	static const char *const odd[] = { "", ",", ",,", "a=b", "=", "{", "a,b=c", "x,", "{}" };
	struct hf_keyval kv = { 0 };
	struct hf_keyval back = { 0 };
	char *text = NULL;

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		CHECK_EQ(hf_keyval_add(&kv, "type", odd[i]), 0);
		CHECK_EQ(hf_keyval_add(&kv, "b", odd[i]), 0);
		CHECK_EQ(hf_keyval_format(&kv, "type", &text), 0);
		CHECK_EQ(hf_keyval_parse(text, "type", &back, NULL), 0);
		CHECK_EQ(back.count, 2);
		CHECK_STR(back.pairs[0].key, "type");
		CHECK_STR(back.pairs[0].value, odd[i]);
		CHECK_STR(back.pairs[1].value, odd[i]);
		free(text);
		hf_keyval_fini(&back);
		hf_keyval_fini(&kv);
	}
}

TEST(sizes)
{
	const uint64_t m = 1 << 20;
	static const char *const bad[] = { "",  "-1",    "2GiB", "512MB", "1e9",
					   "G", "0x10M", "0.5",  "1.5X",  "1 G" };
	uint64_t n = 0;

	CHECK_EQ(hf_keyval_parse_size("512", m, &n, NULL), 0);
	CHECK_EQ(n, 512 * m);
	CHECK_EQ(hf_keyval_parse_size("1.5G", m, &n, NULL), 0);
	CHECK_EQ(n, 1536 * m);
	CHECK_EQ(hf_keyval_parse_size("2g", 1, &n, NULL), 0);
	CHECK_EQ(n, 2048 * m);
	CHECK_EQ(hf_keyval_parse_size("0.5", m, &n, NULL), 0);
	CHECK_EQ(n, m / 2);
	CHECK_EQ(hf_keyval_parse_size("4096b", m, &n, NULL), 0);
	CHECK_EQ(n, 4096);
	CHECK_EQ(hf_keyval_parse_size("0x1000", 1, &n, NULL), 0);
	CHECK_EQ(n, 4096);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(hf_keyval_parse_size(bad[i], 1, &n, NULL), -EINVAL);
	CHECK_EQ(hf_keyval_parse_size("99999999999T", 1, &n, NULL), -ERANGE);
	CHECK_EQ(n, 4096);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "base/text.h"

TEST(durations)
{
	struct hf_err err;
	uint64_t ns = 7;

	CHECK_EQ(hf_parse_duration_ns("20ms", &ns, &err), 0);
	CHECK_EQ(ns, 20000000);
	CHECK_EQ(hf_parse_duration_ns("0", &ns, &err), 0);
	CHECK_EQ(ns, 0);
	CHECK_EQ(hf_parse_duration_ns("20", &ns, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "'20'");
	CHECK_EQ(hf_parse_duration_ns("-1s", &ns, &err), -EINVAL);
	CHECK_EQ(hf_parse_duration_ns("99999999999999999min", &ns, &err), -ERANGE);
	CHECK_EQ(ns, 0);
}

TEST(sizes)
{
	uint64_t n = 0;

	CHECK_EQ(hf_parse_size_bytes("256M", &n, NULL), 0);
	CHECK_EQ(n, 256 << 20);
	CHECK_EQ(hf_parse_size_bytes("4096", &n, NULL), 0);
	CHECK_EQ(n, 4096);
	CHECK_EQ(hf_parse_size_bytes("1X", &n, NULL), -EINVAL);
	CHECK_EQ(hf_parse_size_bytes("", &n, NULL), -EINVAL);
	CHECK_EQ(hf_parse_size_bytes("99999999999T", &n, NULL), -ERANGE);
}

TEST(percents_and_bools)
{
	unsigned int p = 0;
	bool b = false;

	CHECK_EQ(hf_parse_percent("33%", &p, NULL), 0);
	CHECK_EQ(p, 33);
	CHECK_EQ(hf_parse_percent("101%", &p, NULL), -ERANGE);
	CHECK_EQ(hf_parse_bool("on", &b, NULL), 0);
	CHECK(b);
	CHECK_EQ(hf_parse_bool("maybe", &b, NULL), -EINVAL);
}

TEST(formats)
{
	char buf[HF_TEXT_QUANTITY];

	CHECK_STR(hf_format_duration(12345, buf, sizeof(buf)), "12 us");
	CHECK_STR(hf_format_duration(1540000, buf, sizeof(buf)), "1.5 ms");
	CHECK_STR(hf_format_size(512, buf, sizeof(buf)), "512 B");
	CHECK_STR(hf_format_size(3 << 20, buf, sizeof(buf)), "3.0 MiB");
}

TEST(names)
{
	CHECK(hf_is_valid_name("web-1.example_x"));
	CHECK(!hf_is_valid_name(""));
	CHECK(!hf_is_valid_name("../etc"));
	CHECK(!hf_is_valid_name("-x"));
	CHECK(!hf_is_valid_name("a b"));
	CHECK(!hf_is_valid_name(
		"0123456789012345678901234567890123456789012345678901234567890123"));
}

TEST(a_name_is_found_where_it_stands)
{
	static const char *const names[] = { "none", "elf", "elf-2" };

	CHECK_EQ(hf_name_find(names, 3, "none"), 0);
	CHECK_EQ(hf_name_find(names, 3, "elf-2"), 2);
	CHECK_EQ(hf_name_find(names, 2, "elf-2"), -1);
	CHECK_EQ(hf_name_find(names, 3, "el"), -1);
	CHECK_EQ(hf_name_find(names, 3, ""), -1);
	CHECK_EQ(hf_name_find(names, 0, "none"), -1);
}

TEST(errors_keep_their_place)
{
	struct hf_err err;

	hf_err_set(&err, "no such key '%s'", "x");
	hf_err_prefix(&err, "%s:%d: ", "vm.conf", 3);
	CHECK_STR(err.text, "vm.conf:3: no such key 'x'");
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "daemon/vmfile.h"

static int parse(const char *text, struct hf_vmfile *f, struct hf_err *err)
{
	return hf_vmfile_parse("web.conf", text, strlen(text), f, err);
}

TEST(who_takes_it_over)
{
	struct hf_vmfile f;
	struct hf_err err;

	CHECK_EQ(parse("[vm]\nargs = -m 1G\ntakeover = yes\nprefer = b, a,c\n", &f, &err), 0);
	CHECK(f.is_taken_over);
	CHECK_EQ(f.n_prefer, 3);
	CHECK_EQ(hf_vmfile_position(&f, "b"), 0);
	CHECK_EQ(hf_vmfile_position(&f, "a"), 1);
	CHECK_EQ(hf_vmfile_position(&f, "c"), 2);
	CHECK_EQ(hf_vmfile_position(&f, "d"), -1);
	CHECK_EQ(hf_vmfile_position(&f, ""), -1);
}

TEST(nobody_unless_it_says_so)
{
	struct hf_vmfile f;
	struct hf_err err;

	CHECK_EQ(parse("[vm]\nargs = x\nprefer = a\n", &f, &err), 0);
	CHECK(!f.is_taken_over);
	CHECK_EQ(parse("[vm]\ntakeover = no\n", &f, &err), 0);
	CHECK(!f.is_taken_over);
	CHECK_EQ(parse("[vm]\ntakeover = yes\n", &f, &err), 0);
	CHECK_EQ(hf_vmfile_position(&f, "a"), -1);
}

/* Its standby's vote decides about a protected one. */
TEST(not_one_with_two_hosts)
{
	struct hf_vmfile f;
	struct hf_err err;

	CHECK_EQ(parse("[host a]\naddress = 1\n[host b]\naddress = 2\n[vm]\ntakeover = yes\n"
		       "prefer = a\n",
		       &f, &err),
		 0);
	CHECK(!f.is_taken_over);
}

TEST(what_is_wrong_is_said)
{
	struct hf_vmfile f;
	struct hf_err err;
	static const char many[] = "[vm]\nprefer = a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\n";

	CHECK_EQ(parse("[vm]\ntakeover = perhaps\n", &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "web.conf:2:12: takeover: ");
	CHECK_EQ(parse("[vm]\nprefer = a, -b\n", &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "web.conf:2:10: prefer: '-b' cannot be the name");
	CHECK_EQ(parse(many, &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "more than 16 hosts");
	CHECK_EQ(hf_vmfile_read("/nonexistent", "web", &f, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "/nonexistent/web.conf");
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "daemon/vmfile.h"

static int parse(const char *text, struct hf_vmfile *f, struct hf_err *err)
{
	return hf_vmfile_parse("web.conf", "web", "a", text, strlen(text), f, err);
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
	CHECK_EQ(parse("[vm]\nargs = x\ntakeover = no\n", &f, &err), 0);
	CHECK(!f.is_taken_over);
	CHECK_EQ(parse("[vm]\nargs = x\ntakeover = yes\n", &f, &err), 0);
	CHECK_EQ(hf_vmfile_position(&f, "a"), -1);
}

/* Its standby's vote decides about a protected one. */
TEST(not_one_with_two_hosts)
{
	struct hf_vmfile f;
	struct hf_err err;

	CHECK_EQ(parse("[host b]\naddress = 10.0.0.2\n[host a]\naddress = 10.0.0.1\n"
		       "[vm]\nargs = x\ntakeover = yes\nprefer = a\n",
		       &f, &err),
		 0);
	CHECK(!f.is_taken_over);
	CHECK_EQ(f.n_hosts, 2);
	CHECK_STR(f.hosts[0].name, "b");
	CHECK_EQ(f.own, 1);
	CHECK_STR(f.hosts[0].addr.host, "10.0.0.2");
}

TEST(what_the_supervision_needs)
{
	struct hf_vmfile f;
	struct hf_err err;
	uint32_t crc;

	CHECK_EQ(parse("[vm]\nargs = x\n", &f, &err), 0);
	CHECK(!f.is_autostarted && !f.may_run_beside_frozen && !f.is_managed);
	CHECK_EQ(f.restarts_max, 3);
	CHECK_EQ(f.own, -1);
	CHECK_STR(f.state_dir, "/var/lib/holdfast");
	CHECK_STR(f.name, "web");
	crc = f.crc;
	CHECK_EQ(parse("[vm]\nargs = x\nautostart = yes\nwhen-frozen = fresh\nrestarts = 7\n"
		       "on-killed = leave\nstate-dir = /s\n",
		       &f, &err),
		 0);
	CHECK(f.is_autostarted && f.may_run_beside_frozen);
	CHECK_EQ(f.restarts_max, 7);
	CHECK_EQ(f.on[HF_VM_CAUSE_KILLED], HF_VM_LEAVE);
	CHECK_STR(f.state_dir, "/s");
	CHECK(f.crc != crc);
	CHECK_EQ(parse("[vm]\nargs = x\nmanager = pacemaker\n", &f, &err), 0);
	CHECK(f.is_managed && !f.is_taken_over);
}

TEST(what_is_wrong_is_said)
{
	struct hf_vmfile f;
	struct hf_err err;
	static const char many[] = "[vm]\nargs = x\nprefer = a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\n";

	CHECK_EQ(parse("[vm]\ntakeover = perhaps\n", &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "web.conf:2:12: takeover: ");
	CHECK_EQ(parse("[vm]\nargs = x\nprefer = a, -b\n", &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "web.conf:3:10: prefer: '-b' cannot be the name");
	CHECK_EQ(parse(many, &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "more than 16 hosts");
	CHECK_EQ(parse("[vm]\nargs = x\nturbo = yes\n", &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "web.conf:3:1: no setting is called 'turbo'");
	CHECK_EQ(parse("[vm]\nname = www\nargs = x\n", &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "defines the VM 'www', not 'web'");
	CHECK_EQ(parse("[vm]\nargs = x\nautostart = yes\nmanager = pacemaker\n", &f, &err),
		 -EINVAL);
	CHECK_CONTAINS(err.text, "web.conf:3:13: autostart: with manager = pacemaker");
	CHECK_EQ(parse("[vm]\n", &f, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "no args");
	CHECK_EQ(hf_vmfile_read("/nonexistent", "web", "a", &f, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "/nonexistent/web.conf");
}

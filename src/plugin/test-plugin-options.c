/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <unistd.h>

#include "plugin/plugin-options.h"

static struct hf_plugin_options o;

static void give(const char *key, const char *value)
{
	struct hf_err err = { "" };

	if (hf_plugin_options_set(&o, key, value, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s=%s: %s", key, value, err.text);
}

static void give_descriptors(void)
{
	char text[16];

	/* The parameters only have to be open descriptors. */
	(void)snprintf(text, sizeof(text), "%d", dup(0));
	give("shm-fd", text);
	give("kick-fd", text);
	give("notice-fd", text);
	give("control-fd", text);
}

static void check_refused(const char *key, const char *value, const char *why)
{
	struct hf_err err = { "" };

	CHECK_EQ(hf_plugin_options_set(&o, key, value, &err), -EINVAL);
	CHECK_CONTAINS(err.text, why);
}

static void check_incomplete(const char *why)
{
	struct hf_err err = { "" };

	CHECK_EQ(hf_plugin_options_complete(&o, &err), -EINVAL);
	CHECK_CONTAINS(err.text, why);
	hf_plugin_options_fini(&o);
}

TEST(without_keeper)
{
	char cwd[4096];

	hf_plugin_options_init(&o);
	give("disk", "a.raw");
	give("size", "2M");
	give("disk", "/b");
	give("size", "0"); /* as if it were not said */
	give("cache", "direct");
	give("disk", "nbd+unix:///c?socket=/d");
	give("map", "m");
	CHECK_EQ(hf_plugin_options_complete(&o, NULL), 0);
	CHECK_EQ(o.n_disks, 3);
	CHECK(getcwd(cwd, sizeof(cwd)));
	CHECK(strncmp(o.disk[0].location, cwd, strlen(cwd)) == 0);
	CHECK_STR(o.disk[0].location + strlen(cwd), "/a.raw");
	CHECK(!o.disk[0].is_direct);
	CHECK_STR(o.disk[1].location, "/b");
	CHECK(o.disk[1].is_direct);
	CHECK_EQ(o.disk[1].size_bytes, 0);
	CHECK_EQ(o.disk[0].size_bytes, 2 << 20);
	CHECK_STR(o.disk[2].location, "nbd+unix:///c?socket=/d");
	CHECK_STR(o.disk[2].map + strlen(cwd), "/m");
	CHECK_EQ(o.shm_fd, -1);
	hf_plugin_options_fini(&o);
}

TEST(with_keeper)
{
	hf_plugin_options_init(&o);
	give_descriptors();
	give("vm", "web1");
	give("redo", "/r");
	give("redo-area", "64M");
	give("standby", "yes");
	give("disk", "/a");
	give("map", "/m");
	CHECK_EQ(hf_plugin_options_complete(&o, NULL), 0);
	CHECK_EQ(o.redo_bytes, 64 << 20);
	CHECK(o.is_standby);
	CHECK(!o.is_shared);
	CHECK(o.shm_fd > 2);
	CHECK_STR(o.vm, "web1");
	hf_plugin_options_fini(&o);
}

TEST(refused)
{
	hf_plugin_options_init(&o);
	check_refused("dsik", "/a", "there is no parameter 'dsik'");
	check_refused("disk", "", "needs a path");
	check_refused("size", "1M", "disk= comes first");
	give("disk", "/a");
	check_refused("size", "4194305T", "out of range");
	check_refused("size", "1X", "size: ");
	check_refused("size", "8388608T", "size: ");
	check_refused("cache", "none", "is 'direct' or 'writeback', not 'none'");
	give("map", "/m");
	check_refused("map", "/m", "given twice");
	give("vm", "a");
	check_refused("vm", "b", "given twice");
	check_refused("shared", "maybe", "shared: ");
	check_refused("shm-fd", "x", "no number of a descriptor");
	check_refused("shm-fd", "", "no number of a descriptor");
	check_refused("shm-fd", "-1", "no number of a descriptor");
	check_refused("shm-fd", "2", "no number of a descriptor");
	check_refused("shm-fd", "65000", "there is no descriptor 65000");
	for (int i = 1; i < HF_WIRE_DISKS_MAX; i++)
		give("disk", "/b");
	check_refused("disk", "/c", "at most 16 disks");
	hf_plugin_options_fini(&o);
	check_refused("vm", "../a", "no name of a VM");
}

TEST(what_does_not_go_together)
{
	char text[16];

	hf_plugin_options_init(&o);
	check_incomplete("name the image");
	give("disk", "/a");
	give("standby", "yes");
	check_incomplete("need shm-fd=");
	give("disk", "/a");
	(void)snprintf(text, sizeof(text), "%d", dup(0));
	give("kick-fd", text);
	check_incomplete("go together");
	give("disk", "/a");
	give_descriptors();
	check_incomplete("needs redo=");
	give("disk", "/a");
	give("redo", "/r");
	give_descriptors();
	check_incomplete("disk0: a replicated disk needs map=");
	give("disk", "/a");
	give("map", "/m");
	give("redo", "/r");
	give("shared", "yes");
	give_descriptors();
	check_incomplete("disk0: a replicated disk needs map=");
	give("disk", "/a");
	give("map", "/m");
	give("redo", "/r");
	give("redo-area", "4096");
	give_descriptors();
	check_incomplete("1M or more");
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "daemon/hostconf.h"

#define WHOLE                                                                                      \
	"[host]\nname = a\nid = 7\n[lease]\narea = /dev/x\nlockspace = ls\n"                       \
	"io-timeout = 20s\nrenew = 1s\nfence = 5s\nstop = 2s\nwatchdog = /dev/watchdog\n"          \
	"[paths]\nrun-dir = /tmp/r\nvms = /tmp/v\n"

static int load_words(char **words, const char *nodename, struct hf_hostconf *c, struct hf_err *err)
{
	int n = 0;

	while (words[n])
		n++;
	return hf_hostconf_load(n, words, nodename, c, err);
}

#define LOAD(c, err, ...)                                                                          \
	load_words((char *[]){ (char[]){ "holdfastd" }, __VA_ARGS__, NULL }, "node", c, err)
#define W(text) ((char[]){ text })

static char path[] = "/tmp/test-hostconf-XXXXXX";

static void remove_file(void)
{
	(void)unlink(path);
}

/* The one file of this test, with @text. */
static char *file_of(const char *text)
{
	static int fd = -1;

	if (fd < 0) {
		fd = mkstemp(path);
		CHECK(fd >= 0);
		CHECK_EQ(atexit(remove_file), 0);
	}
	CHECK_EQ(ftruncate(fd, 0), 0);
	CHECK_EQ(pwrite(fd, text, strlen(text), 0), strlen(text));
	return path;
}

TEST(a_whole_file)
{
	struct hf_hostconf c;
	struct hf_err err;

	CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(WHOLE)), HF_HOSTCONF_RUN);
	CHECK_STR(c.name, "a");
	CHECK_EQ(c.id, 7);
	CHECK_STR(c.area, "/dev/x");
	CHECK_STR(c.lockspace, "ls");
	CHECK_EQ(c.io_timeout_ns, 20000000000);
	CHECK_EQ(c.renew_ns, 1000000000);
	CHECK_EQ(c.fence_ns, 5000000000);
	CHECK_EQ(c.stop_ns, 2000000000);
	CHECK_STR(c.watchdog, "/dev/watchdog");
	CHECK_STR(c.run_dir, "/tmp/r");
	CHECK_STR(c.vms, "/tmp/v");
	hf_hostconf_fini(&c);
}

TEST(peers)
{
	struct hf_hostconf c;
	struct hf_err err;

	CHECK_EQ(LOAD(&c, &err, W("--config"),
		      file_of(WHOLE "[peers]\nlisten = 192.0.2.1\nencryption = plain\n"
				    "pki-dir = /etc/x\n[peer b]\naddress = [2001:db8::1]:99\n"
				    "[peer c]\naddress = c.example\n")),
		 HF_HOSTCONF_RUN);
	CHECK_STR(c.peers_listen.host, "192.0.2.1");
	CHECK_EQ(c.peers_listen.port, HF_HOSTCONF_PEER_PORT);
	CHECK(c.is_plain);
	CHECK_STR(c.pki_dir, "/etc/x");
	CHECK_EQ(c.n_peers, 2);
	CHECK_EQ(hf_hostconf_find_peer(&c, "b")->addr.port, 99);
	CHECK_STR(hf_hostconf_find_peer(&c, "c")->addr.host, "c.example");
	CHECK(!hf_hostconf_find_peer(&c, "d"));
	hf_hostconf_fini(&c);
	CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(WHOLE)), HF_HOSTCONF_RUN);
	CHECK(!c.is_plain && c.n_peers == 0 && c.peers_listen.port == HF_HOSTCONF_PEER_PORT);
	CHECK_STR(c.peers_listen.host, "");
	hf_hostconf_fini(&c);
}

TEST(bad_peers)
{
	static const char *const bad[][2] = {
		{ "[peer]\n", "15:1: a peer is written" },
		{ "[peer a b]\n", "15:" },
		{ "[peer b]\n[peer b]\n", "16:1: [peer b] again" },
		{ "[peer b]\nport = 7\n", "16:1: [peer b] takes only 'address'" },
		{ "[peer b]\naddress = :7\n", "16:11: address: a host" },
		{ "[peer b]\naddress = ::1:7\n", "16:11: address:" },
		{ "[peer b]\naddress = x\naddress = y\n", "17:1: 'address' again" },
		{ "[peers]\nencryption = none\n", "one of tls, plain" },
		{ "[peers]\naddress = x\n", "16:1: no setting" },
	};
	struct hf_hostconf c;
	struct hf_err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[512];

		(void)snprintf(text, sizeof(text), "%s%s", WHOLE, bad[i][0]);
		CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(text)), -EINVAL);
		CHECK_CONTAINS(err.text, bad[i][1]);
		hf_hostconf_fini(&c);
	}
}

TEST(the_bridge)
{
	static const char *const bad[][2] = {
		{ "[pacemaker]\nenabled = perhaps\n", "16:11: enabled: 'perhaps' is given" },
		{ "[pacemaker]\nfencing = off\n", "one of proof, ignore" },
		{ "[peers]\nfencing = proof\n", "'fencing' belongs into [pacemaker]" },
	};
	struct hf_hostconf c;
	struct hf_err err;
	char text[512];

	CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(WHOLE)), HF_HOSTCONF_RUN);
	CHECK_EQ(c.bridge, HF_HOSTCONF_AUTO);
	CHECK(!c.is_fencing_ignored);
	hf_hostconf_fini(&c);
	CHECK_EQ(LOAD(&c, &err, W("--config"),
		      file_of(WHOLE "[pacemaker]\nenabled = no\nfencing = ignore\n")),
		 HF_HOSTCONF_RUN);
	CHECK_EQ(c.bridge, HF_HOSTCONF_NO);
	CHECK(c.is_fencing_ignored);
	hf_hostconf_fini(&c);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(text, sizeof(text), "%s%s", WHOLE, bad[i][0]);
		CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(text)), -EINVAL);
		CHECK_CONTAINS(err.text, bad[i][1]);
		hf_hostconf_fini(&c);
	}
}

TEST(defaults)
{
	struct hf_hostconf c;
	struct hf_err err;

	CHECK_EQ(LOAD(&c, &err, W("--config=/dev/null/none")), -ENOTDIR);
	hf_hostconf_fini(&c);
	CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(""), W("--host-id=2000"), W("--area"),
		      W("nbd://h/x"), W("--lockspace"), W("ls")),
		 HF_HOSTCONF_RUN);
	CHECK_STR(c.name, "node");
	CHECK_EQ(c.id, 2000);
	CHECK_EQ(c.io_timeout_ns, 10000000000);
	CHECK_EQ(c.renew_ns, 500000000);
	CHECK_EQ(c.fence_ns, 3000000000);
	CHECK_EQ(c.stop_ns, 600000000);
	CHECK(!c.watchdog);
	CHECK_STR(c.run_dir, "/run/holdfast");
	CHECK_STR(c.vms, "/etc/holdfast/vms");
	CHECK_EQ(c.log_level, HF_LOG_INFO);
	hf_hostconf_fini(&c);
}

TEST(options_count_more_than_the_file)
{
	struct hf_hostconf c;
	struct hf_err err;

	CHECK_EQ(LOAD(&c, &err, W("--host-name"), W("b"), W("--config"), file_of(WHOLE),
		      W("--fence=4500ms"), W("--check-config"), W("--log-level"), W("debug")),
		 HF_HOSTCONF_CHECK);
	CHECK_STR(c.name, "b");
	CHECK_EQ(c.fence_ns, 4500000000);
	CHECK_EQ(c.id, 7);
	CHECK_EQ(c.log_level, HF_LOG_DEBUG);
	hf_hostconf_fini(&c);
}

TEST(help_and_version_need_nothing)
{
	struct hf_hostconf c;
	struct hf_err err;

	CHECK_EQ(LOAD(&c, &err, W("--help")), HF_HOSTCONF_HELP);
	CHECK_EQ(LOAD(&c, &err, W("--version")), HF_HOSTCONF_VERSION);
}

static const struct {
	const char *text;
	const char *said; /* behind the file's name */
} bad_files[] = {
	{ "[host]\nid = 0\n", ":2:6: id: '0' is given, but a number from 1 to 2000" },
	{ "[host]\nid = 2001\n", ":2:6: id: '2001'" },
	{ "[host]\nid = 1x\n", ":2:6: id: '1x'" },
	{ "[host]\nid = -1\n", ":2:6: id: '-1'" },
	{ "[host]\nid =\n", ":2:5: id: ''" },
	{ "[host]\nid = 99999999999999999999\n", ":2:6: id: '9999" },
	{ "[host]\nid = 1\nid = 2\n", ":3:1: 'id' again: it is already in line 2" },
	{ "[host]\n[host]\n", ":2:1: [host] again: it is already in line 1" },
	{ "[host a]\n", ":1:1: [host] has no name of its own, so not 'a'" },
	{ "[vm]\n", ":1:1: no section is called [vm]: there are [host], [lease], [paths]" },
	{ "[host]\narea = /x\n", ":2:1: 'area' belongs into [lease], not into [host]" },
	{ "[host]\ncolour = red\n", ":2:1: no setting is called 'colour'" },
	{ "[host]\nname = a b\n", ":2:8: name: 'a b' is not a name" },
	{ "[host]\nname = 1234567890123456789012345678901234567890123456789\n",
	  ":2:8: name: '12345678901234567890123456789012345678901234567" },
	{ "[host]\nname = a\n b\n", ":3:1: 'name' takes one line" },
	{ "[lease]\narea = x\n", ":2:8: area: 'x' is given, but an absolute path, nbd://HOST" },
	{ "[lease]\nwatchdog = nbd://h/x\n",
	  ":2:12: watchdog: 'nbd://h/x' is given, but an absolute "
	  "path is needed" },
	{ "[lease]\nrenew = 500\n", ":2:9: renew: " },
	{ "[lease]\nrenew = 50ms\n", ":2:9: renew: '50ms' is given, but it has to be from 100" },
	{ "[lease]\nio-timeout = 256s\n", ":2:14: io-timeout: '256s'" },
	{ "[host]\nlog-level = loud\n", ":2:13: log-level: 'loud' is given, but it is one of" },
	{ "id = 1\n", ":1:1: " },
};

TEST(bad_files)
{
	struct hf_hostconf c;
	struct hf_err err;

	for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
		CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(bad_files[i].text)), -EINVAL);
		CHECK(strncmp(err.text, path, strlen(path)) == 0);
		CHECK_CONTAINS(err.text, bad_files[i].said);
		hf_hostconf_fini(&c);
	}
}

static const struct {
	const char *option;
	const char *value;
	const char *said;
} bad_options[] = {
	{ "--host-id", "zero", "--host-id: 'zero' is given" },
	{ "--colour", "red", "--colour: no such option" },
	{ "--host-idx=1", NULL, "--host-idx=1: no such option" },
	{ "--area", NULL, "--area needs a value" },
	{ "web", NULL, "'web': only options are taken" },
	{ "--fence", "1s", "fence has to be three times renew" },
	{ "--stop", "2500ms", "stop has to be less than half of fence" },
	{ "--io-timeout", "1500ms", "io-timeout has to be whole seconds" },
	{ "--fence", "200s", "fence has to be less than 8 times io-timeout" },
};

TEST(bad_options)
{
	struct hf_hostconf c;
	struct hf_err err;

	for (size_t i = 0; i < sizeof(bad_options) / sizeof(bad_options[0]); i++) {
		char option[32], value[32];

		(void)snprintf(option, sizeof(option), "%s", bad_options[i].option);
		(void)snprintf(value, sizeof(value), "%s",
			       bad_options[i].value ? bad_options[i].value : "");
		CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(WHOLE), option,
			      bad_options[i].value ? value : NULL),
			 -EINVAL);
		CHECK_CONTAINS(err.text, bad_options[i].said);
		hf_hostconf_fini(&c);
	}
}

TEST(what_is_missing_is_said)
{
	static const char *const words[] = { "host-id", "area", "lockspace" };
	static const char *const texts[] = { "[lease]\narea = /x\nlockspace = l\n",
					     "[host]\nid = 1\n[lease]\nlockspace = l\n",
					     "[host]\nid = 1\n[lease]\narea = /x\n" };
	struct hf_hostconf c;
	struct hf_err err;

	for (size_t i = 0; i < 3; i++) {
		CHECK_EQ(LOAD(&c, &err, W("--config"), file_of(texts[i])), -EINVAL);
		CHECK_CONTAINS(err.text, words[i]);
		hf_hostconf_fini(&c);
	}
}

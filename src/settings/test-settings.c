/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/words.h"
#include "core/disk.h"
#include "settings/settings-table.h"
#include "settings/settings.h"
#include "vm/tracker.h"

#define MS UINT64_C(1000000)

static char path[] = "/tmp/hf-test-settings-XXXXXX";

static void write_file(const char *text, size_t len)
{
	static int fd = -1;

	if (fd < 0)
		fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, 0), 0);
	CHECK_EQ(pwrite(fd, text, len, 0), len);
}

__attribute__((destructor)) static void remove_file(void)
{
	(void)unlink(path);
}

static int parse_as(const char *nodename, const char *line, struct hf_settings *s,
		    struct hf_err *err)
{
	char **argv = NULL;
	size_t offset;
	int r;

	err->text[0] = '\0';
	CHECK_EQ(hf_words_split(line, &argv, &offset, NULL), 0);
	r = hf_settings_parse(argv, nodename, s, err);
	hf_words_free(argv);
	return r;
}

static int parse(const char *line, struct hf_settings *s, struct hf_err *err)
{
	return parse_as("alpha.example", line, s, err);
}

static int parse_file_as(const char *nodename, const char *text, const char *options,
			 struct hf_settings *s, struct hf_err *err)
{
	char line[512];

	write_file(text, strlen(text));
	(void)snprintf(line, sizeof(line), "keeper run web --config %s %s", path, options);
	return parse_as(nodename, line, s, err);
}

static void check_option(const char *options, const char *what)
{
	struct hf_settings s = { 0 };
	struct hf_err err;
	char line[512];

	(void)snprintf(line, sizeof(line), "keeper %s", options);
	CHECK_EQ(parse(line, &s, &err), -EINVAL);
	CHECK_CONTAINS(err.text, what);
	CHECK(s.name == NULL);
}

/* As `holdfast status` and its like do. */
TEST(run_dir_of_the_environment)
{
	char run[] = "run", name[] = "v", end[] = "--", dir[] = "--run-dir=/c";
	char *const plain[] = { run, run, name, end, name, NULL };
	char *const option[] = { run, run, name, dir, end, name, NULL };
	struct hf_settings s;
	struct hf_err err;

	CHECK_EQ(setenv("HOLDFAST_RUN_DIR", "/a/b", 1), 0);
	CHECK_EQ(hf_settings_parse(plain, "host", &s, &err), 0);
	CHECK_STR(s.run_dir, "/a/b");
	hf_settings_fini(&s);
	CHECK_EQ(hf_settings_parse(option, "host", &s, &err), 0);
	CHECK_STR(s.run_dir, "/c");
	hf_settings_fini(&s);
	CHECK_EQ(setenv("HOLDFAST_RUN_DIR", "b", 1), 0);
	CHECK_EQ(hf_settings_parse(plain, "host", &s, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "HOLDFAST_RUN_DIR: 'b'");
	CHECK_EQ(unsetenv("HOLDFAST_RUN_DIR"), 0);
}

TEST(defaults)
{
	struct hf_settings s = { 0 };
	struct hf_err err;

	CHECK_EQ(parse("keeper run web -- qemu -m 1G", &s, &err), 0);
	CHECK_EQ(s.role, HF_ROLE_RUN);
	CHECK_STR(s.name, "web");
	CHECK_STR(s.argv[0], "qemu");
	CHECK_STR(s.argv[2], "1G");
	CHECK_EQ(hf_words_count(s.argv), 3);
	CHECK(!s.listen.is_set && !s.peer.is_set && !s.config && !s.host && !s.preload);
	CHECK(!s.hold_net && !s.unprotected);
	CHECK_EQ(s.lease, HF_LEASE_USE_AUTO);
	CHECK_EQ(s.peer_timeout_ns, 1000 * MS);
	CHECK(s.may_resend);
	CHECK_EQ(s.epoch_interval_ns, 500 * MS);
	CHECK_EQ(s.stop_share_percent, 33);
	CHECK_EQ(s.epoch_memory_bytes, 256 << 20);
	CHECK_EQ(s.tracking, HF_TRACKER_AUTO);
	CHECK_EQ(s.thread_count, 0);
	CHECK_EQ(s.hugepage_bytes, 0);
	CHECK_EQ(s.disk_layout, HF_DISK_LAYOUT_REPLICATED);
	CHECK_EQ(s.durability, HF_DURABILITY_DISK);
	CHECK_EQ(s.disk_buffer_bytes, 64 << 20);
	CHECK_STR(s.state_dir, "/var/lib/holdfast");
	CHECK(!s.redo_journal && !s.disk_plugin);
	CHECK_STR(s.nbdkit, "nbdkit");
	CHECK_STR(s.run_dir, "/run/holdfast");
	CHECK(!s.is_detached && !s.is_forced);
	CHECK_EQ(s.log_level, HF_LOG_INFO);
	hf_settings_fini(&s);
	hf_settings_fini(&s);
}

TEST(every_option)
{
	struct hf_settings s = { 0 };
	struct hf_err err;

	CHECK_EQ(parse("keeper --listen [::1]:7000 standby --peer=beta web --lease yes "
		       "--peer-timeout 200ms --hold-net a --hold-net=b --unprotected c --resend no "
		       "--epoch-interval=20ms --stop-share 10% --epoch-memory 64M --tracking "
		       "soft-dirty "
		       "--threads 3 --hugepages 2M --run-dir /run/x --detach --force --preload "
		       "/x.so "
		       "--log-level debug -- /bin/qemu --help",
		       &s, &err),
		 0);
	CHECK_EQ(s.role, HF_ROLE_STANDBY);
	CHECK_STR(s.listen.addr.host, "::1");
	CHECK_EQ(s.listen.addr.port, 7000);
	CHECK_STR(s.peer.addr.host, "beta");
	CHECK_EQ(s.peer.addr.port, HF_SETTINGS_PORT);
	CHECK_EQ(s.lease, HF_LEASE_USE_YES);
	CHECK_EQ(s.peer_timeout_ns, 200 * MS);
	CHECK_EQ(hf_words_count(s.hold_net), 2);
	CHECK_STR(s.hold_net[1], "b");
	CHECK_STR(s.unprotected[0], "c");
	CHECK(!s.may_resend);
	CHECK_EQ(s.epoch_interval_ns, 20 * MS);
	CHECK_EQ(s.stop_share_percent, 10);
	CHECK_EQ(s.epoch_memory_bytes, 64 << 20);
	CHECK_EQ(s.tracking, HF_TRACKER_SOFT_DIRTY);
	CHECK_EQ(s.thread_count, 3);
	CHECK_EQ(s.hugepage_bytes, 2 << 20);
	CHECK_STR(s.run_dir, "/run/x");
	CHECK_STR(s.preload, "/x.so");
	CHECK(s.is_detached && s.is_forced);
	CHECK_EQ(s.log_level, HF_LOG_DEBUG);
	CHECK_STR(s.argv[1], "--help");
	hf_settings_fini(&s);
}

TEST(options_about_disks)
{
	struct hf_settings s = { 0 };
	struct hf_err err;

	CHECK_EQ(parse("keeper run web --disk-layout shared --durability=memory --disk-buffer 1G "
		       "--redo-journal /san/web.redo --state-dir /var/x --disk-plugin /p.so "
		       "--nbdkit "
		       "/opt/nbdkit -- qemu",
		       &s, &err),
		 0);
	CHECK_EQ(s.disk_layout, HF_DISK_LAYOUT_SHARED);
	CHECK_EQ(s.durability, HF_DURABILITY_MEMORY);
	CHECK_EQ(s.disk_buffer_bytes, 1 << 30);
	CHECK_STR(s.redo_journal, "/san/web.redo");
	CHECK_STR(s.state_dir, "/var/x");
	CHECK_STR(s.disk_plugin, "/p.so");
	CHECK_STR(s.nbdkit, "/opt/nbdkit");
	hf_settings_fini(&s);
	CHECK_EQ(parse("keeper run web --redo-journal nbd+unix:///r?socket=/s -- qemu", &s, &err),
		 0);
	CHECK_STR(s.redo_journal, "nbd+unix:///r?socket=/s");
	hf_settings_fini(&s);
}

TEST(words_instead_of_work)
{
	struct hf_settings s = { 0 };
	struct hf_err err;

	CHECK_EQ(parse("keeper --help", &s, &err), HF_SETTINGS_E_HELP);
	CHECK_EQ(parse("keeper run web -h", &s, &err), HF_SETTINGS_E_HELP);
	CHECK_EQ(parse("keeper --version", &s, &err), HF_SETTINGS_E_VERSION);
}

TEST(option_mistakes)
{
	check_option("", "'run' or 'standby' is missing (see --help)");
	check_option("walk web", "walk is neither run nor standby");
	check_option("run", "run needs the name");
	check_option("run .web -- qemu", ".web cannot be the name");
	check_option("run web db -- qemu", "db is one word too many");
	check_option("run web --colour red -- qemu", "--colour is no option (see --help)");
	check_option("run web --args x -- qemu", "--args is no option");
	check_option("run web -m 1G", "-m is no option; options begin with two dashes");
	check_option("run web --listen", "--listen needs a value");
	check_option("run web --listen -- qemu", "--listen needs a value");
	check_option("run web --force=yes -- qemu", "takes none");
	check_option("run web --threads 1 --threads=2 -- qemu", "--threads=2 is given twice");
	check_option("run web --", "must be followed by QEMU");
	check_option("run web --host a -- qemu", "add --config");
	check_option("standby web -- qemu", "standby needs --listen");
	check_option("run web --peer :7400 -- qemu", "needs a host");
	check_option("run web --disk-layout shared -- qemu",
		     "disk-layout=shared needs redo-journal, the same for both hosts");
}

static const char *const bad_values[][2] = {
	{ "--epoch-interval 500",
	  "--epoch-interval: '500' is not a duration (write it with its unit" },
	{ "--epoch-interval 5ms",
	  "--epoch-interval: 5ms is out of range: it goes from 10ms to 10s" },
	{ "--epoch-interval 11s", "out of range" },
	{ "--stop-share 0%", "it goes from 1% to 90%" },
	{ "--stop-share 91%", "it goes from 1% to 90%" },
	{ "--stop-share 200%", "is not a share" },
	{ "--epoch-memory 3M", "it goes from 4M to 64G" },
	{ "--epoch-memory 1X", "is not a size" },
	{ "--threads 65", "it goes from 0 to 64" },
	{ "--threads -1", "'-1' is not a number" },
	{ "--threads 99999999999999999999", "is not a number" },
	{ "--tracking magic", "--tracking: 'magic' is none of auto|pagemap-scan|soft-dirty" },
	{ "--hugepages 4M", "is none of no, 2M and 1G" },
	{ "--resend maybe", "is neither yes nor no" },
	{ "--run-dir run", "--run-dir: 'run' is given, but an absolute path" },
	{ "--hold-net=", "--hold-net: an id cannot be empty" },
	{ "--host=a/b", "but a name" },
	{ "--listen 10.0.0.1:99999", "--listen: " },
	{ "--peer ::1", "--peer: " },
	{ "--config=", "something" },
	{ "--disk-layout both", "--disk-layout: 'both' is none of replicated|shared" },
	{ "--durability none", "--durability: 'none' is none of disk|memory" },
	{ "--disk-buffer 4M", "--disk-buffer: 4M is out of range: it goes from 8M to 4G" },
	{ "--disk-buffer 5G", "it goes from 8M to 4G" },
	{ "--state-dir x", "--state-dir: 'x' is given, but an absolute path" },
	{ "--redo-journal x", "--redo-journal: 'x' is given, but an absolute path, nbd://HOST" },
	{ "--redo-journal nbds://h/x", "but an absolute path, nbd://HOST" },
	{ "--disk-plugin p.so", "an absolute path" },
	{ "--nbdkit=", "something" },
};

TEST(bad_values)
{
	char line[256];

	for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
		(void)snprintf(line, sizeof(line), "run web %s -- qemu", bad_values[i][0]);
		check_option(line, bad_values[i][1]);
	}
}

static const char pair[] = "# one file, the same on both hosts\n"
			   "[vm]\n"
			   "name = web\n"
			   "qemu = /usr/bin/qemu-system-x86_64\n"
			   "args = -machine q35 -m 2G\n"
			   "    -append 'console=ttyS0 quiet'\n"
			   "args = -nographic\n"
			   "hold-net = net0 net1\n"
			   "unprotected = disk0\n"
			   "redo-journal = nbd://san/redo\n"
			   "lease = yes\n"
			   "takeover = yes\n"
			   "prefer = alpha, gamma\n"
			   "log-level = error\n"
			   "\n"
			   "[host alpha]\n"
			   "address = 10.0.0.1\n"
			   "args = -name on-alpha\n"
			   "log-level = debug\n"
			   "state-dir = /srv/state\n"
			   "\n"
			   "[host beta]\n"
			   "address = [fd00::2]:7500\n"
			   "\n"
			   "[protection]\n"
			   "epoch-interval = 50ms\n"
			   "disk-layout = shared\n"
			   "durability = memory\n";

TEST(one_file_for_both_hosts)
{
	struct hf_settings s = { 0 };
	struct hf_err err;

	CHECK_EQ(parse_file_as("alpha.example.org", pair, "", &s, &err), 0);
	CHECK_STR(s.host, "alpha");
	CHECK_STR(s.listen.addr.host, "10.0.0.1");
	CHECK_EQ(s.listen.addr.port, 7400);
	CHECK_STR(s.peer.addr.host, "fd00::2");
	CHECK_EQ(s.peer.addr.port, 7500);
	CHECK_EQ(hf_words_count(s.argv), 10);
	CHECK_STR(s.argv[0], "/usr/bin/qemu-system-x86_64");
	CHECK_STR(s.argv[6], "console=ttyS0 quiet");
	CHECK_STR(s.argv[7], "-nographic");
	CHECK_STR(s.argv[9], "on-alpha");
	CHECK_EQ(hf_words_count(s.hold_net), 2);
	CHECK_EQ(s.log_level, HF_LOG_DEBUG);
	CHECK_EQ(s.epoch_interval_ns, 50 * MS);
	CHECK_EQ(s.lease, HF_LEASE_USE_YES);
	CHECK(s.is_taken_over);
	CHECK_STR(s.prefer, "alpha, gamma");
	CHECK_EQ(s.disk_layout, HF_DISK_LAYOUT_SHARED);
	CHECK_EQ(s.durability, HF_DURABILITY_MEMORY);
	CHECK_STR(s.redo_journal, "nbd://san/redo");
	CHECK_STR(s.state_dir, "/srv/state");
	hf_settings_fini(&s);

	CHECK_EQ(parse_file_as("beta", pair, "", &s, &err), 0);
	CHECK_STR(s.listen.addr.host, "fd00::2");
	CHECK_STR(s.peer.addr.host, "10.0.0.1");
	CHECK_EQ(hf_words_count(s.argv), 8);
	CHECK_EQ(s.log_level, HF_LOG_ERROR);
	CHECK_STR(s.state_dir, "/var/lib/holdfast");
	hf_settings_fini(&s);
}

TEST(options_override_the_file)
{
	struct hf_settings s = { 0 };
	struct hf_err err;

	CHECK_EQ(parse_file_as("gamma", pair,
			       "--host beta --epoch-interval 1s --hold-net other "
			       "--listen :7600 -- other-qemu -m 1G",
			       &s, &err),
		 0);
	CHECK_STR(s.host, "beta");
	CHECK_EQ(s.epoch_interval_ns, 1000 * MS);
	CHECK_EQ(hf_words_count(s.hold_net), 1);
	CHECK_STR(s.hold_net[0], "other");
	CHECK_STR(s.unprotected[0], "disk0");
	CHECK_EQ(s.listen.addr.port, 7600);
	CHECK_STR(s.peer.addr.host, "10.0.0.1");
	CHECK_STR(s.argv[0], "other-qemu");
	CHECK_EQ(hf_words_count(s.argv), 3);
	hf_settings_fini(&s);
}

#define HOSTS "[host alpha]\naddress = a\n[host beta]\naddress = b\n"

static const struct {
	const char *text;
	const char *what; /* after "FILE" */
} bad_files[] = {
	{ "[vm]\nargs = -m 1G\ncolour = red\n", ":3:1: no setting is called 'colour'" },
	{ "[vm]\nargs = x\nargs = y\nname = web\nname = web\n",
	  ":5:1: 'name' again: it is already in line 4" },
	{ "[vm]\nepoch-interval = 1s\n",
	  ":2:1: 'epoch-interval' belongs into [protection], not into [vm]" },
	{ "[protection]\nargs = x\n", ":2:1: 'args' belongs into [vm], not into [protection]" },
	{ "[vm]\naddress = x\n", ":2:1: 'address' belongs into [host NAME]" },
	{ "[vm]\nlisten = x\n", ":2:1: 'listen' can only be given on the command line" },
	{ "[vm]\n[vm]\n", ":2:1: [vm] again: it is already in line 1" },
	{ "[vm x]\n", ":1:1: [vm] has no name of its own" },
	{ "[guest]\n", ":1:1: no section is called [guest]" },
	{ "[host]\n", ":1:1: a host is written [host NAME]" },
	{ "[host a]\n[host a]\n", ":2:1: [host a] again: it is already in line 1" },
	{ "[host a]\n[host b]\n[host c]\n", ":3:1: a third host" },
	{ "[protection]\nepoch-interval = 50\n", ":2:18: epoch-interval: '50' is not a duration" },
	{ "[protection]\nstop-share = 50%\n  more\n", ":3:1: 'stop-share' takes one line" },
	{ "[vm]\nargs = -m 1G\n  -append 'x y\n", ":3:11: args: this quote is not closed" },
	{ "[vm]\nargs = -m 1G\nname = db\n", " defines the VM 'db', not 'web'" },
	{ "[vm]\nname = web\n", " has no args = for QEMU" },
	{ "[vm]\nargs = x\n[host alpha]\naddress = a\n", ": it has 1 [host NAME] sections" },
	{ "[vm]\nargs = x\n[host alpha]\n[host beta]\naddress = b\n",
	  ":3:1: [host alpha] lacks its address" },
	{ "[vm]\nargs = x\n[host alpha]\naddress = a\n[host beta]\n",
	  ":5:1: [host beta] lacks its address" },
	{ "[vm]\nargs = x\n[host alpha]\naddress = a\n[host beta]\naddress = :7\n",
	  ":5:1: the address of [host beta] needs a host" },
	/* What is meant for the other host is refused here as well. */
	{ "[vm]\nargs = x\n" HOSTS "run-dir = here\n", ":7:11: run-dir: 'here' is given" },
	{ "[vm]\nargs = x\n[host gamma]\naddress = a\n[host beta]\naddress = b\n",
	  ": this machine is called 'alpha', and the file's hosts are 'gamma' and 'beta'" },
	{ "[vm]\nargs = x\ndisk-layout = shared\n",
	  ":3:1: 'disk-layout' belongs into [protection]" },
	{ "args = x\n", ":1:1: a [section] must come" },
	{ "[vm]\nargs = x\nmanager = chef\n", ":3:11: manager: " },
	{ "[vm]\nautostart = yes\nargs = x\nmanager = pacemaker\n",
	  ":2:13: autostart: with manager = pacemaker, Pacemaker alone decides" },
	{ "[vm]\nargs = x\nmanager = pacemaker\ntakeover = yes\nprefer = a\n",
	  ":4:12: takeover: with manager = pacemaker" },
};

TEST(bad_files)
{
	char want[256];
	struct hf_settings s = { 0 };
	struct hf_err err;

	for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
		CHECK_EQ(parse_file_as("alpha", bad_files[i].text, "", &s, &err), -EINVAL);
		(void)snprintf(want, sizeof(want), "%s%s", path, bad_files[i].what);
		CHECK_CONTAINS(err.text, want);
		CHECK(s.name == NULL);
	}
	CHECK_EQ(parse_file_as("alpha", "[vm]\nargs = x\n" HOSTS, "--host delta", &s, &err),
		 -EINVAL);
	CHECK_CONTAINS(err.text, "the host asked for is 'delta'");
	CHECK_EQ(parse_file_as("alpha", "[vm]\nargs = x\n", "--host alpha", &s, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "two are needed for --host");
}

TEST(a_cluster_manager_decides_alone)
{
	struct hf_settings s = { 0 };
	struct hf_err err;

	CHECK_EQ(parse_file_as("alpha", "[vm]\nargs = x\n", "", &s, &err), 0);
	CHECK_EQ(s.manager, HF_MANAGER_NONE);
	hf_settings_fini(&s);
	CHECK_EQ(parse_file_as("alpha",
			       "[vm]\nargs = x\nautostart = no\nmanager = pacemaker\n"
			       "takeover = no\n",
			       "", &s, &err),
		 0);
	CHECK_EQ(s.manager, HF_MANAGER_PACEMAKER);
	hf_settings_fini(&s);
	CHECK_EQ(parse_file_as("alpha", "[vm]\nargs = x\nmanager = pacemaker\n",
			       "--manager pacemaker", &s, &err),
		 0);
	CHECK(s.is_managers_order);
	hf_settings_fini(&s);
	CHECK_EQ(parse_file_as("alpha", "[vm]\nargs = x\nmanager = pacemaker\n", "--manager none",
			       &s, &err),
		 -EINVAL);
	CHECK(strstr(err.text, "--manager can only be pacemaker"));
	/* By themselves they are no mistake. */
	CHECK_EQ(parse_file_as("alpha", "[vm]\nargs = x\nautostart = yes\nmanager = none\n", "", &s,
			       &err),
		 0);
	CHECK(s.is_autostarted);
	hf_settings_fini(&s);
}

TEST(files_that_cannot_be_read)
{
	struct hf_settings s = { 0 };
	struct hf_err err;
	char *big = calloc(1, (1 << 20) + 1);
	char line[128];

	CHECK(big);
	CHECK_EQ(parse("keeper run web --config /nowhere/at/all.conf", &s, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "/nowhere/at/all.conf: No such file");
	CHECK_EQ(parse("keeper run no-such-vm-here", &s, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "/etc/holdfast/vms/no-such-vm-here.conf");
	CHECK_EQ(parse("keeper run web --config /dev/null", &s, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "no regular file");
	memset(big, '\n', (1 << 20) + 1);
	write_file(big, (1 << 20) + 1);
	(void)snprintf(line, sizeof(line), "keeper run web --config %s", path);
	CHECK_EQ(parse(line, &s, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "larger than");
	free(big);
}

/* Wide lines would be broken by the terminal; missing rows would be missed by the user. */
TEST(help)
{
	char *text = NULL;
	char name[64];
	size_t rows = 0;

	CHECK_EQ(hf_settings_format_help("holdfast-keeper", &text), 0);
	for (const char *p = text; *p; p += strcspn(p, "\n") + 1) {
		CHECK(strcspn(p, "\n") <= 80);
		rows++;
	}
	CHECK(rows > hf_setting_count());
	for (size_t i = 0; i < hf_setting_count(); i++) {
		bool is_option = hf_setting_at(i)->places & HF_IN_OPTIONS;

		(void)snprintf(name, sizeof(name),
			       is_option ? "  --%s" : "  %s = ", hf_setting_at(i)->name);
		CHECK_CONTAINS(text, name);
	}
	CHECK_CONTAINS(text, "(default: 500ms)");
	free(text);
}

TEST(table_is_consistent)
{
	for (size_t i = 0; i < hf_setting_count(); i++) {
		const struct hf_setting *row = hf_setting_at(i);

		CHECK_EQ(hf_setting_find(row->name, strlen(row->name)), i);
		CHECK(row->help && row->places);
		CHECK(!row->min == !row->max);
		CHECK((row->type == HF_SETTING_WORD) == (row->words != NULL));
		CHECK((row->group == HF_GROUP_FILE) == !(row->places & HF_IN_OPTIONS));
		CHECK(i == 0 || row->group >= hf_setting_at(i - 1)->group);
	}
	CHECK_EQ(hf_setting_find("stop-shar", 9), -1);
	CHECK_EQ(hf_setting_find("", 0), -1);
}

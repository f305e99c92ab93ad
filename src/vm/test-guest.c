/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest object with the real QEMU. QEMU='program and first arguments' chooses another one;
 * HOLDFAST_TEST_PRELOAD names the library to preload.
 */
#include "vm/guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "codec/json.h"
#include "codec/words.h"
#include "sys/fd.h"
#include "vm/guest-internal.h"
#include "vm/test-firmware.h"

#define RAM_BYTES (UINT64_C(64) << 20)
#define STATE_MAX_BYTES (64u << 20)
#define PATIENCE_MS 30000

struct line {
	char **argv;
	struct hf_cmdline *cmd;
	bool is_standby;
	const char *preload_path;
};

/* The tested QEMU and options, the last NULL, as a parsed line. */
__attribute__((sentinel)) static struct line make_line(bool is_standby, char *const *hold, ...)
{
	const char *qemu = getenv("QEMU"), *word;
	struct hf_cmdline_want want = { .is_standby = is_standby, .hold_net = hold };
	struct line line = { .is_standby = is_standby };
	struct hf_err err = { "" };
	size_t offset;
	va_list ap;

	write_firmware();
	CHECK_EQ(hf_words_split(qemu ? qemu : "qemu-system-x86_64", &line.argv, &offset, &err), 0);
	va_start(ap, hold);
	while ((word = va_arg(ap, const char *)))
		CHECK_EQ(hf_words_append(&line.argv, word), 0);
	va_end(ap);
	static const char *const common[] = { "-accel", "tcg",         "-m",    "64", "-display",
					      "none",   "-nodefaults", "-bios", NULL };
	for (const char *const *w = common; *w; w++)
		CHECK_EQ(hf_words_append(&line.argv, *w), 0);
	CHECK_EQ(hf_words_append(&line.argv, firmware), 0);
	if (hf_cmdline_parse(line.argv, &want, &line.cmd, &err) != 0)
		hf_test_fail(__FILE__, __LINE__, "cannot parse: %s", err.text);
	line.preload_path = getenv("HOLDFAST_TEST_PRELOAD");
	return line;
}

static void free_line(struct line *line)
{
	hf_cmdline_free(line->cmd);
	hf_words_free(line->argv);
}

/* The last MIGRATION status that was heard of, for all guests. */
static char migration[32];

static void on_event(void *ctx, const char *name, struct json_object *data, uint64_t timestamp_us)
{
	const char *status;
	struct hf_err err;

	(void)timestamp_us;
	if (strcmp(name, "MIGRATION") == 0 && hf_json_str(data, "status", &status, &err) == 0)
		(void)snprintf(migration, sizeof(migration), "%s", status);
	if (ctx)
		++*(int *)ctx;
}

static int try_start(const struct line *line, struct hf_guest **ret, struct hf_err *err)
{
	struct hf_guest_config config = {
		.cmdline = line->cmd,
		.preload_path = line->preload_path,
		.name = "vm1",
		.is_standby = line->is_standby,
		.on_event = on_event,
	};

	return hf_guest_start(&config, ret, err);
}

static struct hf_guest *start(const struct line *line)
{
	struct hf_guest *g = NULL;
	struct hf_err err = { "" };

	if (try_start(line, &g, &err) != 0)
		hf_test_fail(__FILE__, __LINE__, "cannot start: %s", err.text);
	return g;
}

static bool has_qemu(void)
{
	struct line line = make_line(false, NULL, "-machine", "pc", NULL);
	struct hf_guest *g = NULL;
	struct hf_err err = { "" };
	int r = try_start(&line, &g, &err);

	if (r == -ENOENT)
		printf("# skipped: %s\n", err.text);
	hf_guest_free(g);
	free_line(&line);
	return r != -ENOENT;
}

static struct json_object *ask(struct hf_guest *g, const char *command, const char *arguments)
{
	struct hf_qmp_command c = { .name = command, .arguments_text = arguments };
	struct json_object *answer = NULL;
	struct hf_err err = { "" };

	if (hf_qmp_wait(hf_guest_qmp(g), &c, PATIENCE_MS, &answer, &err) != 0)
		hf_test_fail(__FILE__, __LINE__, "%s: %s", command, err.text);
	return answer;
}

static bool has_status(struct hf_guest *g, const char *want)
{
	struct json_object *answer = ask(g, "query-status", NULL);
	const char *status = "";
	struct hf_err err;
	bool is_it;

	CHECK_EQ(hf_json_str(answer, "status", &status, &err), 0);
	is_it = strcmp(status, want) == 0;
	if (!is_it)
		printf("# status is %s, not %s\n", status, want);
	json_object_put(answer);
	return is_it;
}

static void check_no_child(void)
{
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
	CHECK_EQ(errno, ECHILD);
}

static unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	CHECK(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint32_t counter(struct hf_guest *g)
{
	return *(volatile uint32_t *)(void *)(hf_guest_ram(g)->base + COUNTER);
}

/* No event tells that a guest counts. */
static void await_counting(struct hf_guest *g)
{
	uint32_t from = counter(g);
	int64_t deadline = now_ms() + PATIENCE_MS;

	while (counter(g) - from < 1000) {
		CHECK(now_ms() < deadline);
		(void)usleep(1000);
	}
}

/* Waits for QMP events until the migration has come to that status. */
static void await_migration(struct hf_guest *g, const char *status)
{
	int64_t deadline = now_ms() + PATIENCE_MS;
	struct hf_err err = { "" };

	while (strcmp(migration, status) != 0) {
		struct pollfd pfd = { .fd = hf_qmp_fd(hf_guest_qmp(g)), .events = POLLIN };

		CHECK(strcmp(migration, "failed") != 0);
		CHECK(now_ms() < deadline);
		(void)poll(&pfd, 1, 100);
		if (hf_qmp_dispatch(hf_guest_qmp(g), &err) != 0)
			hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	}
}

/* The device state of a guest, which stands still afterwards. */
static uint8_t *save_state(struct hf_guest *g, size_t *ret_len)
{
	struct hf_qmp_command getfd = { .name = "getfd",
					.arguments_text = "{\"fdname\":\"out\"}",
					.has_fd = true };
	uint8_t *state = malloc(STATE_MAX_BYTES);
	size_t len = 0;
	ssize_t n;
	int pair[2];

	CHECK(state);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	getfd.fd = pair[1];
	CHECK_EQ(hf_qmp_submit(hf_guest_qmp(g), &getfd), 0);
	(void)close(pair[1]);
	migration[0] = '\0';
	json_object_put(ask(g, "migrate", "{\"uri\":\"fd:out\"}"));
	while ((n = read(pair[0], state + len, STATE_MAX_BYTES - len)) > 0)
		len += (size_t)n;
	CHECK_EQ(n, 0);
	(void)close(pair[0]);
	await_migration(g, "completed");
	CHECK(len > 10000);
	CHECK(len < STATE_MAX_BYTES);
	*ret_len = len;
	return state;
}

static void write_all(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };
		size_t n = 0;
		int r = hf_fd_send(fd, data, len, &n);

		CHECK(r >= 0);
		if (r == HF_FD_AGAIN)
			CHECK_EQ(poll(&pfd, 1, PATIENCE_MS), 1);
		data += n;
		len -= n;
	}
}

/* One failover: RAM and device state go over, and the guest counts on where it stood. */
static void hand_over(struct hf_guest *from, struct hf_guest *to)
{
	uint32_t stood_at;
	uint8_t *state;
	size_t len;
	int fd;

	await_counting(from);
	state = save_state(from, &len);
	stood_at = counter(from);
	CHECK_EQ(hf_guest_ram(from)->size_bytes, hf_guest_ram(to)->size_bytes);
	memcpy(hf_guest_ram(to)->base, hf_guest_ram(from)->base, hf_guest_ram(to)->size_bytes);
	CHECK_EQ(hf_guest_kill(from), 0);
	migration[0] = '\0';
	fd = hf_guest_take_incoming_fd(to);
	CHECK_EQ(hf_guest_incoming_fd(to), -1);
	write_all(fd, state, len);
	await_migration(to, "completed");
	(void)close(fd);
	free(state);
	if (hf_guest_is_paused_by_user(to)) {
		CHECK_EQ(counter(to), stood_at);
		CHECK(has_status(to, "paused"));
		json_object_put(ask(to, "cont", NULL));
	}
	CHECK(has_status(to, "running"));
	await_counting(to);
	CHECK(counter(to) - stood_at < UINT32_MAX / 2);
}

static void check_failovers(const char *machine)
{
	struct line first = make_line(false, NULL, "-machine", machine, "-vga", "std", NULL);
	struct line then = make_line(true, NULL, "-machine", machine, "-vga", "std", NULL);
	struct line paused = make_line(true, NULL, "-machine", machine, "-vga", "std", "-S", NULL);
	struct hf_guest *a = start(&first), *b = start(&then), *c = start(&paused);

	CHECK(has_status(b, "inmigrate"));
	CHECK(hf_guest_incoming_fd(b) >= 0);
	CHECK_EQ(counter(a), 0); /* it waits for us */
	CHECK(has_status(a, "prelaunch"));
	json_object_put(ask(a, "cont", NULL));
	hand_over(a, b);
	/* A promoted guest is a primary like any other. */
	hand_over(b, c);
	hf_guest_free(a);
	hf_guest_free(b);
	hf_guest_free(c);
	free_line(&first);
	free_line(&then);
	free_line(&paused);
	check_no_child();
}

TEST(two_failovers_in_a_row)
{
	if (!has_qemu())
		return;
	check_failovers("pc");
	check_failovers("q35");
}

TEST(identity)
{
	const struct hf_guest_identity *id;
	struct line line;
	struct hf_guest *g;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "q35", "-smp", "2", "-device",
			 "virtio-rng-pci,id=zrng", "-device", "virtio-balloon-pci", "-device",
			 "virtio-rng-pci,id=arng", NULL);
	g = start(&line);
	id = hf_guest_identity(g);
	CHECK(strncmp(id->machine, "pc-q35-", 7) == 0);
	CHECK(!strstr(id->machine, "-machine"));
	CHECK(strchr(id->qemu_version, '.'));
	CHECK_STR(id->qemu_version, hf_qmp_version(hf_guest_qmp(g)));
	CHECK_EQ(id->vcpus, 2);
	CHECK_EQ(id->ram_bytes, RAM_BYTES);
	CHECK_EQ(id->device_count, 3);
	CHECK_STR(id->devices[0], "arng virtio-rng-pci");
	CHECK_STR(id->devices[1], "device[0] virtio-balloon-pci");
	CHECK_STR(id->devices[2], "zrng virtio-rng-pci");
	CHECK(!id->devices[3]);
	CHECK(!hf_guest_has_disks(g));
	CHECK(!hf_guest_is_paused_by_user(g));
	CHECK_EQ(hf_guest_incoming_fd(g), -1);
	CHECK_EQ(hf_guest_net_count(g), 0);
	CHECK(has_status(g, "prelaunch"));
	hf_guest_free(g);
	free_line(&line);
}

TEST(disks)
{
	struct line line;
	struct hf_guest *g;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "pc", "-S", "-blockdev",
			 "null-co,node-name=n0,read-zeroes=on,read-only=on", "-device",
			 "virtio-blk-pci,drive=n0", NULL);
	g = start(&line);
	CHECK(!hf_guest_has_disks(g));
	CHECK(hf_guest_is_paused_by_user(g));
	hf_guest_free(g);
	free_line(&line);

	line = make_line(false, NULL, "-machine", "pc", "-blockdev",
			 "null-co,node-name=n0,read-zeroes=on", "-device",
			 "virtio-blk-pci,drive=n0", NULL);
	g = start(&line);
	CHECK(hf_guest_has_disks(g));
	hf_guest_free(g);
	free_line(&line);
}

TEST(cannot_migrate)
{
	struct hf_guest *g = NULL;
	unsigned int n_fds;
	struct hf_err err = { "" };
	struct line line;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "q35", "-blockdev",
			 "null-co,node-name=n0,read-zeroes=on,read-only=on", "-device",
			 "nvme,serial=1,drive=n0", NULL);
	n_fds = count_fds();
	CHECK_EQ(try_start(&line, &g, &err), -EPERM);
	CHECK(!g);
	CHECK_EQ(count_fds(), n_fds);
	CHECK_CONTAINS(err.text, "cannot be protected");
	CHECK_CONTAINS(err.text, "nvme");
	check_no_child();
	free_line(&line);
}

TEST(early_end)
{
	struct hf_guest *g = NULL;
	struct hf_err err = { "" };
	int64_t began;
	struct line line;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "pc", "-device", "no-such-device", NULL);
	began = now_ms();
	CHECK_EQ(try_start(&line, &g, &err), -ECHILD);
	CHECK(now_ms() - began < HF_GUEST_START_MAX_MS / 2);
	CHECK_CONTAINS(err.text, "exited with status 1");
	CHECK(!g);
	check_no_child();
	free_line(&line);
}

TEST(no_such_program)
{
	static char program[] = "/nonexistent/qemu", nodefaults[] = "-nodefaults";
	char *const argv[] = { program, nodefaults, NULL };
	struct hf_cmdline_want want = { .is_standby = false };
	struct line line = { .argv = NULL };
	struct hf_guest *g = NULL;
	struct hf_err err = { "" };

	CHECK_EQ(hf_cmdline_parse(argv, &want, &line.cmd, &err), 0);
	CHECK_EQ(try_start(&line, &g, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "/nonexistent/qemu");
	CHECK(!g);
	check_no_child();
	free_line(&line);
}

TEST(kill)
{
	struct hf_process_exit end = { .code = 0 };
	struct pollfd pfd = { .events = POLLIN };
	struct line line;
	struct hf_guest *g;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "pc", NULL);
	g = start(&line);
	pfd.fd = hf_guest_process(g)->pidfd;
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHECK_EQ(hf_guest_kill(g), 0);
	CHECK_EQ(poll(&pfd, 1, PATIENCE_MS), 1);
	CHECK_EQ(hf_process_reap(hf_guest_process(g), &end), 0);
	CHECK(end.is_signal);
	CHECK_EQ(end.code, SIGKILL);
	CHECK_EQ(hf_guest_kill(g), 0); /* again is no error */
	hf_guest_free(g);
	free_line(&line);
	check_no_child();
}

static bool is_in_file_of(pid_t pid, const char *file, const char *part, size_t part_len)
{
	char path[64], *text = malloc(1 << 20);
	size_t n;
	FILE *in;
	bool is_in;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	in = fopen(path, "re");
	CHECK(in && text);
	n = fread(text, 1, 1 << 20, in);
	is_in = memmem(text, n, part, part_len) != NULL;
	(void)fclose(in);
	free(text);
	return is_in;
}

/* Is that where QEMU has the RAM file? Its name in the map is that of the memfd. */
static void check_mapping(struct hf_guest *g)
{
	const struct hf_report *report = hf_guest_report(g);
	char range[64];

	CHECK_EQ(report->pid, hf_guest_process(g)->pid);
	CHECK_EQ(report->length_bytes, RAM_BYTES);
	CHECK_EQ(report->file_offset_bytes, 0);
	(void)snprintf(range, sizeof(range), "%" PRIx64 "-%" PRIx64 " rw-s 00000000",
		       report->address, report->address + report->length_bytes);
	CHECK(is_in_file_of(hf_guest_process(g)->pid, "maps", range, strlen(range)));
	CHECK(is_in_file_of(hf_guest_process(g)->pid, "maps", "memfd:holdfast-vm1", 18));
}

TEST(report)
{
	struct line line;
	struct hf_guest *g;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "q35", NULL);
	if (!line.preload_path) {
		printf("# skipped: HOLDFAST_TEST_PRELOAD is not set\n");
		free_line(&line);
		return;
	}
	CHECK_EQ(access(line.preload_path, R_OK), 0);
	g = start(&line);
	check_mapping(g);
	printf("# tracking errno %u\n", hf_guest_report(g)->tracking_errno);
	CHECK(hf_guest_report(g)->tracking_errno != ENOSYS);
	hf_guest_free(g);
	free_line(&line);
}

/* Reports that do not add up to one mapping of all RAM, as a broken QEMU or library could send. */
static int read_reports(const struct hf_report *reports, size_t n, struct hf_report *ret,
			struct hf_err *err)
{
	struct hf_guest g = { .process = { .pid = 77, .pidfd = -1 },
			      .ram = { .fd = -1, .size_bytes = RAM_BYTES } };
	int pair[2], r;

	CHECK_EQ(hf_fd_pair(SOCK_SEQPACKET, pair), 0);
	for (size_t i = 0; i < n; i++) {
		uint8_t buf[HF_REPORT_BYTES];

		hf_report_encode(&reports[i], buf);
		CHECK_EQ(send(pair[1], buf, sizeof(buf), 0), sizeof(buf));
	}
	g.report_fd = pair[0];
	err->text[0] = '\0';
	r = hf_guest_read_report(&g, err);
	*ret = g.report;
	(void)close(pair[0]);
	(void)close(pair[1]);
	return r;
}

TEST(reports_that_do_not_add_up)
{
	const struct hf_report good = { .pid = 77,
					.address = 0x7f0000000000,
					.length_bytes = RAM_BYTES,
					.tracking_errno = EPERM };
	struct hf_report bad[2] = { good, good }, ret;
	struct hf_err err;

	CHECK_EQ(read_reports(bad, 0, &ret, &err), -EBADF); /* looked for, but there is no file */
	CHECK_EQ(read_reports(bad, 1, &ret, &err), 0);
	CHECK_EQ(ret.address, good.address);
	CHECK_EQ(ret.tracking_errno, EPERM);
	CHECK_EQ(read_reports(bad, 2, &ret, &err), -EPROTO);
	CHECK_CONTAINS(err.text, "more than once");
	bad[0].length_bytes -= 4096;
	CHECK_EQ(read_reports(bad, 1, &ret, &err), -EPROTO);
	CHECK_CONTAINS(err.text, "67104768 bytes of guest memory from byte 0");
	bad[0] = good;
	bad[0].file_offset_bytes = 4096;
	CHECK_EQ(read_reports(bad, 1, &ret, &err), -EPROTO);
	bad[0] = good;
	bad[0].pid = 78;
	CHECK_EQ(read_reports(bad, 1, &ret, &err), -EPROTO);
	CHECK_CONTAINS(err.text, "process 78");
	bad[0] = good;
	bad[0].address = 1; /* not even a report */
	CHECK_EQ(read_reports(bad, 1, &ret, &err), -EPROTO);
}

TEST(no_answer)
{
	struct hf_err err = { "" };
	struct line line;
	struct hf_guest *g;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "pc", NULL);
	g = start(&line);
	CHECK_EQ(hf_process_kill(hf_guest_process(g), SIGSTOP), 0);
	g->deadline_ms = now_ms() + 300;
	CHECK_EQ(hf_guest_ask(g, "query-status", NULL, NULL, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.text, "query-status");
	CHECK(hf_guest_process(g)->pid > 0);
	hf_guest_free(g); /* also one that stands still */
	check_no_child();
	free_line(&line);
}

TEST(no_library)
{
	static const char *const paths[] = { NULL, "/nonexistent/library.so" };
	struct line line;

	if (!has_qemu())
		return;
	line = make_line(false, NULL, "-machine", "pc", NULL);
	for (size_t i = 0; i < 2; i++) {
		struct hf_guest *g;

		line.preload_path = paths[i];
		g = start(&line);
		CHECK_EQ(hf_guest_report(g)->tracking_errno, ENOSYS);
		check_mapping(g);
		hf_guest_free(g);
	}
	free_line(&line);
}

TEST(library_path_that_cannot_be_written)
{
	static const char *const paths[] = { "library.so", "/a b/library.so", "/a:b/library.so" };
	struct line line = make_line(false, NULL, "-machine", "pc", NULL);
	struct hf_guest *g = NULL;

	for (size_t i = 0; i < 3; i++) {
		struct hf_err err = { "" };

		line.preload_path = paths[i];
		CHECK_EQ(try_start(&line, &g, &err), -EINVAL);
		CHECK_CONTAINS(err.text, paths[i]);
		CHECK(!g);
	}
	free_line(&line);
}

TEST(the_users_own_preload)
{
	static const char want[] = "LD_PRELOAD=libm.so.6:/nonexistent/library.so";
	static const char kept[] = "HOLDFAST_LD_PRELOAD=libm.so.6";
	const char *former = getenv("LD_PRELOAD");
	struct line line;
	struct hf_guest *g;

	if (!has_qemu() || former) {
		printf("# skipped: %s\n", former ? "LD_PRELOAD is set" : "no QEMU");
		return;
	}
	line = make_line(false, NULL, "-machine", "pc", NULL);
	line.preload_path = "/nonexistent/library.so";
	CHECK_EQ(setenv("LD_PRELOAD", "libm.so.6", 1), 0);
	g = start(&line);
	CHECK_EQ(unsetenv("LD_PRELOAD"), 0);
	CHECK(is_in_file_of(hf_guest_process(g)->pid, "environ", want, sizeof(want)));
	CHECK(is_in_file_of(hf_guest_process(g)->pid, "environ", kept, sizeof(kept)));
	hf_guest_free(g);
	free_line(&line);
}

/* A script that leaves word of having been run. */
static void write_script(const char *path, const char *word)
{
	FILE *out = fopen(path, "we");

	CHECK(out);
	CHECK(fprintf(out, "#!/bin/sh\necho %s $1 >> %s/log\n", word, folder) > 0);
	CHECK_EQ(fchmod(fileno(out), 0700), 0);
	CHECK_EQ(fclose(out), 0);
}

static void check_log(const char *want)
{
	char path[64], text[256] = "";
	FILE *in;

	(void)snprintf(path, sizeof(path), "%s/log", folder);
	in = fopen(path, "re");
	CHECK(in);
	(void)!fread(text, 1, sizeof(text) - 1, in);
	(void)fclose(in);
	(void)unlink(path);
	CHECK_STR(text, want);
}

static bool may_make_taps(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0 || geteuid() != 0) {
		printf("# skipped: no right to make TAP interfaces\n");
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	(void)close(fd);
	return true;
}

TEST(nets)
{
	static char n0[] = "n0", n1[] = "n1";
	char *const hold[] = { n0, n1, NULL };
	char up[48], down[48], first[160], free_name[IFNAMSIZ];
	struct line line;
	struct hf_guest *g;

	if (!has_qemu() || !may_make_taps())
		return;
	(void)snprintf(up, sizeof(up), "%s/up", folder);
	(void)snprintf(down, sizeof(down), "%s/down", folder);
	write_script(up, "up");
	write_script(down, "down");
	(void)snprintf(first, sizeof(first), "tap,id=n0,ifname=hftest0,script=%s,downscript=%s", up,
		       down);
	line = make_line(false, hold, "-machine", "pc", "-netdev", first, "-device",
			 "virtio-net-pci,netdev=n0", "-netdev", "tap,id=n1,script=no,downscript=no",
			 "-device", "e1000,netdev=n1", NULL);
	g = start(&line);
	CHECK_EQ(hf_guest_net_count(g), 2);
	CHECK_STR(hf_guest_net_id(g, 0), "n0");
	CHECK_STR(hf_guest_net_id(g, 1), "n1");
	CHECK_STR(hf_guest_net_ifname(g, 0), "hftest0");
	(void)snprintf(free_name, sizeof(free_name), "%s", hf_guest_net_ifname(g, 1));
	CHECK(strncmp(free_name, "tap", 3) == 0);
	CHECK(if_nametoindex("hftest0") != 0);
	CHECK(if_nametoindex(free_name) != 0);
	CHECK(hf_nettap_tap_fd(hf_guest_net(g, 0)) >= 0);
	CHECK(hf_nettap_qemu_fd(hf_guest_net(g, 1)) >= 0);
	check_log("up hftest0\n");
	hf_guest_free(g);
	check_log("down hftest0\n");
	CHECK_EQ(if_nametoindex("hftest0"), 0);
	CHECK_EQ(if_nametoindex(free_name), 0);
	(void)unlink(up);
	(void)unlink(down);
	free_line(&line);
	check_no_child();
}

/* What came up before the failure has to go down again. */
TEST(net_failure_undoes_the_first)
{
	static char n0[] = "n0", n1[] = "n1";
	char *const hold[] = { n0, n1, NULL };
	char down[48], first[160];
	struct hf_guest *g = NULL;
	unsigned int n_fds;
	struct hf_err err = { "" };
	struct line line;

	if (!has_qemu() || !may_make_taps())
		return;
	(void)snprintf(down, sizeof(down), "%s/down", folder);
	write_script(down, "down");
	(void)snprintf(first, sizeof(first), "tap,id=n0,ifname=hftest1,script=no,downscript=%s",
		       down);
	line = make_line(false, hold, "-machine", "pc", "-netdev", first, "-netdev",
			 "bridge,id=n1,br=hfnobridge", NULL);
	n_fds = count_fds();
	CHECK(try_start(&line, &g, &err) < 0);
	CHECK(!g);
	CHECK_EQ(count_fds(), n_fds);
	CHECK_CONTAINS(err.text, "netdev 'n1'");
	CHECK_CONTAINS(err.text, "hfnobridge");
	check_log("down hftest1\n");
	CHECK_EQ(if_nametoindex("hftest1"), 0);
	check_no_child();
	(void)unlink(down);
	free_line(&line);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tracker against a real child process that maps RAM and writes to it on command.
 *
 * HOLDFAST_TEST_CHILD    path of test-tracker-child
 * HOLDFAST_TEST_PRELOAD  path of libholdfast-qemu.so; absent: the child runs without it
 * HOLDFAST_TEST_MODE     the mode that must come out of HF_TRACKER_AUTO here; absent: pagemap-scan
 *
 * As process 1 (tests/integration/test-softdirty.py) it mounts what it needs, runs itself as a
 * child, and ends the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "preload/report.h"
#include "vm/test-tracker-child.h"
#include "vm/tracker.h"

#define PAGE HF_TRACKER_PAGE_BYTES
#define PAGES 24576u /* 96 MiB: three slices */
#define OFFSET_PAGES 577u /* the mapping starts inside the RAM file: the bitmap must be shifted */
#define HUGE_BYTES (2u << 20)

__attribute__((constructor)) static void be_init(void)
{
	pid_t pid;
	int status = -1;

	alarm(240);
	if (getpid() != 1)
		return;
	alarm(0);
	(void)mkdir("/proc", 0755);
	(void)mkdir("/sys", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) < 0 ||
	    mount("sys", "/sys", "sysfs", 0, NULL) < 0)
		printf("# mount failed: %s\n", strerror(errno));
	pid = fork();
	if (pid == 0)
		return;
	(void)waitpid(pid, &status, 0);
	printf("# init: tests ended with status %d\n", status);
	(void)fflush(stdout);
	(void)reboot(RB_AUTOBOOT);
}

enum { AS_NOBODY = 1, HUGE = 2, NO_LIBRARY = 4, ON_FULL_SOCKET = 8 };

struct guest {
	pid_t pid;
	int sock;
	int report_sock;
	int ram_fd;
	uint8_t *ram; /* the keeper's own mapping, from page 0 of the file */
	uint64_t n_pages; /* mapped by the child */
	uint64_t offset_pages;
	bool has_report;
	struct hf_report report;
	struct hf_tracker *tracker;
	struct hf_bitmap bitmap;
};

static bool is_expecting_scan(void)
{
	const char *mode = getenv("HOLDFAST_TEST_MODE");

	return !mode || strcmp(mode, "pagemap-scan") == 0;
}

static bool skip_unless_scan(void)
{
	if (!is_expecting_scan())
		printf("# skipped: only for pagemap-scan\n");
	return !is_expecting_scan();
}

static int64_t command(struct guest *g, struct child_command c)
{
	int64_t answer;

	if (!c.threads)
		c.threads = 1;
	if (!c.stride)
		c.stride = 1;
	CHECK_EQ(send(g->sock, &c, sizeof(c), MSG_NOSIGNAL), sizeof(c));
	CHECK_EQ(recv(g->sock, &answer, sizeof(answer), 0), sizeof(answer));
	return answer;
}

#define COMMAND(g, ...) command(g, (struct child_command){ __VA_ARGS__ })

static void set_library_environment(const struct guest *g, int report_fd)
{
	char text[64];
	struct stat st;

	if (fstat(g->ram_fd, &st) < 0 || fcntl(report_fd, F_SETFD, 0) < 0)
		_exit(126);
	(void)snprintf(text, sizeof(text), "%llx:%llx", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
	(void)setenv(HF_REPORT_ENV_RAM, text, 1);
	(void)snprintf(text, sizeof(text), "%d", report_fd);
	(void)setenv(HF_REPORT_ENV_FD, text, 1);
	(void)setenv("LD_PRELOAD", getenv("HOLDFAST_TEST_PRELOAD"), 1);
}

static void be_child(struct guest *g, int sock, int report_fd, int flags)
{
	char args[4][32];
	const char *path = getenv("HOLDFAST_TEST_CHILD");

	if (report_fd >= 0)
		set_library_environment(g, report_fd);
	if (fcntl(sock, F_SETFD, 0) < 0 || fcntl(g->ram_fd, F_SETFD, 0) < 0)
		_exit(126);
	if ((flags & AS_NOBODY) && (setgid(65534) < 0 || setuid(65534) < 0))
		_exit(126);
	(void)snprintf(args[0], sizeof(args[0]), "%d", sock);
	(void)snprintf(args[1], sizeof(args[1]), "%d", g->ram_fd);
	(void)snprintf(args[2], sizeof(args[2]), "%llu", (unsigned long long)g->n_pages * PAGE);
	(void)snprintf(args[3], sizeof(args[3]), "%llu",
		       (unsigned long long)g->offset_pages * PAGE);
	(void)execl(path, path, args[0], args[1], args[2], args[3], (char *)NULL);
	_exit(127);
}

static void make_ram(struct guest *g, int flags)
{
	uint64_t bytes = (g->n_pages + g->offset_pages) * PAGE;

	g->ram_fd = memfd_create("ram", MFD_CLOEXEC | (flags & HUGE ? MFD_HUGETLB : 0));
	CHECK(g->ram_fd >= 0);
	CHECK_EQ(ftruncate(g->ram_fd, (off_t)bytes), 0);
	CHECK_EQ(fchmod(g->ram_fd, 0666), 0);
	g->ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->ram_fd, 0);
	CHECK(g->ram != MAP_FAILED);
	CHECK_EQ(hf_bitmap_init(&g->bitmap, bytes / PAGE), 0);
}

/* Without the library the child itself says where it has mapped RAM. */
static void receive_report(struct guest *g)
{
	uint8_t buf[HF_REPORT_BYTES + 8];
	ssize_t n;

	g->report = (struct hf_report){
		.pid = (uint32_t)g->pid,
		.tracking_errno = ENOSYS,
		.address = (uint64_t)COMMAND(g, .op = OP_ADDRESS),
		.length_bytes = g->n_pages * PAGE,
		.file_offset_bytes = g->offset_pages * PAGE,
	};
	n = recv(g->report_sock, buf, sizeof(buf), MSG_DONTWAIT);
	g->has_report = n > 0;
	if (!g->has_report)
		return;
	CHECK_EQ(n, HF_REPORT_BYTES);
	CHECK(hf_report_decode(buf, (size_t)n, &g->report));
	CHECK_EQ(g->report.pid, g->pid);
	CHECK_EQ(g->report.address, COMMAND(g, .op = OP_ADDRESS));
	CHECK_EQ(g->report.length_bytes, g->n_pages * PAGE);
	CHECK_EQ(g->report.file_offset_bytes, g->offset_pages * PAGE);
}

static void fill_socket(int sock)
{
	while (send(sock, "x", 1, MSG_DONTWAIT) == 1)
		;
}

static void guest_start(struct guest *g, int flags)
{
	int pair[2], reports[2];
	bool has_library = getenv("HOLDFAST_TEST_PRELOAD") && !(flags & NO_LIBRARY);

	*g = (struct guest){
		.n_pages = PAGES,
		.offset_pages = flags & HUGE ? HUGE_BYTES / PAGE : OFFSET_PAGES,
	};
	if (flags & HUGE)
		g->n_pages = 4 * HUGE_BYTES / PAGE;
	make_ram(g, flags);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reports), 0);
	if (flags & ON_FULL_SOCKET)
		fill_socket(reports[1]);
	g->pid = fork();
	if (g->pid == 0)
		be_child(g, pair[1], has_library ? reports[1] : -1, flags);
	CHECK(g->pid > 0);
	close(pair[1]);
	close(reports[1]);
	g->sock = pair[0];
	g->report_sock = reports[0];
	if (!(flags & ON_FULL_SOCKET))
		receive_report(g);
}

static void guest_kill(struct guest *g)
{
	CHECK_EQ(kill(g->pid, SIGKILL), 0);
	CHECK_EQ(waitpid(g->pid, NULL, 0), g->pid);
	g->pid = -1;
}

static void guest_end(struct guest *g)
{
	hf_tracker_close(g->tracker);
	if (g->pid > 0)
		guest_kill(g);
	close(g->sock);
	close(g->report_sock);
	close(g->ram_fd);
	munmap(g->ram, (g->n_pages + g->offset_pages) * PAGE);
	hf_bitmap_fini(&g->bitmap);
}

static struct hf_tracker_config config_of(const struct guest *g)
{
	return (struct hf_tracker_config){
		.pid = (pid_t)g->report.pid,
		.address = g->report.address,
		.length_bytes = g->report.length_bytes,
		.file_offset_bytes = g->report.file_offset_bytes,
		.tracking_errno = g->report.tracking_errno,
		.n_threads = 2,
	};
}

static void tracker_start(struct guest *g)
{
	struct hf_tracker_config config = config_of(g);
	struct hf_err err = { "" };
	int r = hf_tracker_open(&config, &g->tracker, &err);

	if (r < 0)
		printf("# %s\n", err.text);
	CHECK_EQ(r, 0);
	CHECK_STR(hf_tracker_mode_name(g->tracker),
		  is_expecting_scan() ? "pagemap-scan" : "soft-dirty");
}

static uint64_t collect(struct guest *g)
{
	uint64_t n = 0;

	hf_bitmap_clear_all(&g->bitmap);
	CHECK_EQ(hf_tracker_collect(g->tracker, HF_TRACKER_STOPPED, &g->bitmap, &n), 0);
	return n;
}

/* All pages written, and the record of it thrown away: from here on a collect is exact. */
static void guest_start_populated(struct guest *g, int flags)
{
	guest_start(g, flags);
	tracker_start(g);
	CHECK_EQ(COMMAND(g, .op = OP_WRITE, .n = g->n_pages, .value = 1), 0);
	CHECK(collect(g) >= g->n_pages);
	CHECK_EQ(hf_bitmap_count(&g->bitmap), g->n_pages);
	CHECK_EQ(collect(g), 0);
}

static bool has_page(const struct guest *g, uint64_t page)
{
	return hf_bitmap_test(&g->bitmap, g->offset_pages + page);
}

TEST(finds_exactly_the_pages_written)
{
	static const struct child_command commands[] = {
		{ .op = OP_WRITE, .first = 0, .n = 1, .value = 2 },
		{ .op = OP_WRITE, .first = PAGES - 1, .n = 1, .value = 3 },
		{ .op = OP_WRITE, .first = 500, .n = 100, .value = 4, .threads = 4 },
		{ .op = OP_WRITE, .first = 3, .n = 2400, .stride = 10, .value = 5, .threads = 3 },
		{ .op = OP_WRITE, .first = 0, .n = PAGES, .value = 6, .threads = 4 },
		{ .op = OP_WRITE, .first = 1, .n = PAGES / 2, .stride = 2, .value = 7 },
		{ .op = OP_READ_INTO, .first = 4711, .n = 1, .value = 8 },
	};
	struct guest g;

	guest_start_populated(&g, 0);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct child_command *c = &commands[i];
		uint64_t stride = c->stride ? c->stride : 1, peek = 0;

		CHECK_EQ(command(&g, *c), 0);
		CHECK_EQ(hf_tracker_peek_count(g.tracker, UINT64_MAX, &peek), 0);
		CHECK_EQ(peek, c->n);
		CHECK_EQ(collect(&g), c->n);
		CHECK_EQ(hf_bitmap_count(&g.bitmap), c->n);
		for (uint64_t k = 0; k < c->n; k++)
			CHECK(has_page(&g, c->first + k * stride));
		CHECK_EQ(collect(&g), 0);
	}
	guest_end(&g);
}

TEST(finds_pages_of_many_threads_at_random)
{
	static uint8_t oracle[PAGES];
	uint64_t seed = 12345;
	struct guest g;

	guest_start_populated(&g, 0);
	for (int round = 0; round < 20; round++) {
		uint64_t want = 0;

		memset(oracle, 0, sizeof(oracle));
		for (int i = 0; i < 20; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			uint64_t first = (seed >> 33) % PAGES, stride = 1 + (seed >> 20) % 7;
			uint64_t n = 1 + (seed >> 50) % 64;

			if (first + n * stride > PAGES)
				continue;
			CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = first, .n = n,
					 .stride = stride, .value = seed, .threads = 2),
				 0);
			for (uint64_t k = 0; k < n; k++)
				oracle[first + k * stride] = 1;
		}
		for (uint64_t i = 0; i < PAGES; i++)
			want += oracle[i];
		CHECK_EQ(collect(&g), want);
		for (uint64_t i = 0; i < PAGES; i++)
			CHECK_EQ(has_page(&g, i), oracle[i]);
	}
	guest_end(&g);
}

TEST(adds_to_the_bitmap_and_counts_only_its_own)
{
	struct guest g;
	uint64_t n = 0;

	guest_start_populated(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 10, .n = 3, .value = 2), 0);
	CHECK_EQ(collect(&g), 3);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 12, .n = 2, .value = 3), 0);
	CHECK_EQ(hf_tracker_collect(g.tracker, HF_TRACKER_STOPPED, &g.bitmap, &n), 0);
	CHECK_EQ(n, 2);
	CHECK_EQ(hf_bitmap_count(&g.bitmap), 4);
	guest_end(&g);
}

TEST(never_misses_a_first_touch)
{
	static const uint64_t pages[] = { 0, 5, 511, 512, 9000, 16384, PAGES - 1 };
	struct guest g;

	guest_start(&g, 0);
	tracker_start(&g);
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = pages[i], .n = 1, .value = 9), 0);
		(void)collect(&g);
		CHECK(has_page(&g, pages[i]));
	}
	/* Reading pages in first is no excuse either. */
	CHECK_EQ(COMMAND(&g, .op = OP_TOUCH, .first = 2000, .n = 600), 0);
	(void)collect(&g);
	CHECK_EQ(collect(&g), 0);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 2300, .n = 1, .value = 9), 0);
	CHECK(collect(&g) >= 1);
	CHECK(has_page(&g, 2300));
	guest_end(&g);
}

/* Pages written before the tracker was opened, the first of which the opening itself tries out. */
TEST(keeps_what_was_written_before)
{
	struct guest g;

	guest_start(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .n = 2, .value = 2), 0);
	tracker_start(&g);
	CHECK(collect(&g) >= 2);
	CHECK(has_page(&g, 0));
	CHECK(has_page(&g, 1));
	guest_end(&g);
}

TEST(counts_without_resetting)
{
	struct guest g;
	uint64_t n = 0;

	guest_start_populated(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 7, .n = 5000, .stride = 3, .value = 2), 0);
	CHECK_EQ(hf_tracker_peek_count(g.tracker, 0, &n), 0);
	CHECK_EQ(n, 0);
	CHECK_EQ(hf_tracker_peek_count(g.tracker, 100, &n), 0);
	CHECK_EQ(n, 100);
	CHECK_EQ(hf_tracker_peek_count(g.tracker, 5000, &n), 0);
	CHECK_EQ(n, 5000);
	CHECK_EQ(hf_tracker_peek_count(g.tracker, 100000, &n), 0);
	CHECK_EQ(n, 5000);
	CHECK_EQ(collect(&g), 5000);
	guest_end(&g);
}

/* A written page whose entry the kernel takes away (as reclaim does) must still be reported. */
TEST(remembers_pages_whose_entries_went_away)
{
	struct guest g;

	if (skip_unless_scan())
		return;
	guest_start_populated(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 1000, .n = 100, .value = 2), 0);
	CHECK_EQ(COMMAND(&g, .op = OP_DISCARD, .first = 1010, .n = 50), 0);
	CHECK(collect(&g) >= 100);
	for (uint64_t i = 1000; i < 1100; i++)
		CHECK(has_page(&g, i));
	guest_end(&g);
}

static void copy_pages(const struct guest *g, uint8_t *copy)
{
	uint64_t at = 0, first, n;

	for (; hf_bitmap_next_set_run(&g->bitmap, at, &first, &n); at = first + n)
		memcpy(copy + first * PAGE, g->ram + first * PAGE, n * PAGE);
}

/* One round of "collect, then copy what was reported", while the writers run, or stand still for
 * the collect alone. Returns whether they were through (known only if they were stopped). */
static bool race_round(struct guest *g, uint8_t *copy, bool is_stopping)
{
	enum hf_tracker_guest state = is_stopping ? HF_TRACKER_STOPPED : HF_TRACKER_RUNNING;
	int64_t is_through = 0;

	hf_bitmap_clear_all(&g->bitmap);
	if (is_stopping)
		is_through = COMMAND(g, .op = OP_RACE_PAUSE);
	CHECK_EQ(hf_tracker_collect(g->tracker, state, &g->bitmap, NULL), 0);
	if (is_stopping)
		CHECK_EQ(COMMAND(g, .op = OP_RACE_RESUME), 0);
	copy_pages(g, copy);
	return is_through;
}

static void race_once(struct guest *g, uint8_t *copy, uint64_t value, bool is_stopping)
{
	int n_rounds = 0;

	CHECK_EQ(COMMAND(g, .op = OP_RACE_START, .threads = 2, .value = value), 0);
	while (n_rounds++ < 20)
		if (race_round(g, copy, is_stopping))
			break;
	CHECK_EQ(COMMAND(g, .op = OP_RACE_END), 0);
	hf_bitmap_clear_all(&g->bitmap);
	CHECK_EQ(hf_tracker_collect(g->tracker, HF_TRACKER_STOPPED, &g->bitmap, NULL), 0);
	copy_pages(g, copy);
	for (uint64_t i = OFFSET_PAGES; i < PAGES + OFFSET_PAGES; i++)
		if (memcmp(copy + i * PAGE, g->ram + i * PAGE, PAGE) != 0)
			hf_test_fail(__FILE__, __LINE__, "race %llu: page %llu was lost",
				     (unsigned long long)value, (unsigned long long)i);
}

static void check_race(bool is_stopping)
{
	uint64_t bytes = (PAGES + OFFSET_PAGES) * (uint64_t)PAGE;
	uint64_t n_races = is_expecting_scan() ? 40 : 6; /* an emulated guest is slow */
	uint8_t *copy = calloc(1, bytes);
	struct guest g;

	CHECK(copy);
	guest_start(&g, 0);
	tracker_start(&g);
	for (uint64_t value = 1; value <= n_races; value++)
		race_once(&g, copy, value, is_stopping);
	CHECK_EQ(collect(&g), 0);
	guest_end(&g);
	free(copy);
}

TEST(loses_no_write_of_a_running_guest)
{
	check_race(/* is_stopping= */ false);
}

TEST(loses_no_write_between_stopped_collects)
{
	check_race(/* is_stopping= */ true);
}

TEST(says_whether_running_collects_reset)
{
	struct guest g;

	guest_start_populated(&g, 0);
	CHECK_EQ(hf_tracker_may_reset_running(g.tracker), is_expecting_scan());
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 5, .n = 4, .value = 2), 0);
	hf_bitmap_clear_all(&g.bitmap);
	CHECK_EQ(hf_tracker_collect(g.tracker, HF_TRACKER_RUNNING, &g.bitmap, NULL), 0);
	CHECK_EQ(hf_bitmap_count(&g.bitmap), 4);
	CHECK_EQ(collect(&g), is_expecting_scan() ? 0 : 4);
	CHECK_EQ(collect(&g), 0);
	guest_end(&g);
}

/* The worst moment for QEMU to die: an empty scan must never pass for "nothing was written". */
TEST(a_dead_process_is_an_error)
{
	struct guest g;
	uint64_t n = 77;

	guest_start_populated(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 5, .n = 400, .value = 2), 0);
	guest_kill(&g);
	hf_bitmap_clear_all(&g.bitmap);
	CHECK_EQ(hf_tracker_collect(g.tracker, HF_TRACKER_STOPPED, &g.bitmap, &n), -ESRCH);
	CHECK_EQ(hf_tracker_peek_count(g.tracker, 10, &n), -ESRCH);
	CHECK_EQ(n, 77);
	guest_end(&g);
}

/* Killed while collects run: each either fails or has all that was written. */
TEST(a_dying_process_is_an_error_or_complete)
{
	for (int i = 0; i < 30; i++) {
		struct guest g;
		int r;

		guest_start_populated(&g, 0);
		CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .n = PAGES / 4, .stride = 4, .value = 2), 0);
		CHECK_EQ(kill(g.pid, SIGKILL), 0);
		hf_bitmap_clear_all(&g.bitmap);
		for (int k = 0; k < i % 8; k++) {
			uint64_t n;

			r = hf_tracker_peek_count(g.tracker, UINT64_MAX, &n);
		}
		r = hf_tracker_collect(g.tracker, HF_TRACKER_STOPPED, &g.bitmap, NULL);
		for (uint64_t k = 0; r == 0 && k < PAGES; k += 4)
			CHECK(has_page(&g, k));
		guest_end(&g);
	}
}

TEST(memory_that_is_unmapped_is_an_error)
{
	struct guest g;

	if (skip_unless_scan())
		return;
	guest_start_populated(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_UNMAP), 0);
	CHECK_EQ(hf_tracker_collect(g.tracker, HF_TRACKER_STOPPED, &g.bitmap, NULL), -ESRCH);
	guest_end(&g);
}

TEST(a_closed_userfaultfd_is_an_error)
{
	struct guest g;
	uint64_t n;

	if (skip_unless_scan())
		return;
	guest_start_populated(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_CLOSE_FDS), 0);
	CHECK_EQ(hf_tracker_collect(g.tracker, HF_TRACKER_STOPPED, &g.bitmap, NULL), -EPERM);
	CHECK_EQ(hf_tracker_peek_count(g.tracker, 10, &n), -EPERM);
	guest_end(&g);
}

TEST(the_library_cleans_up_behind_itself)
{
	struct guest g;

	if (skip_unless_scan())
		return;
	guest_start(&g, 0);
	CHECK(g.has_report);
	CHECK_EQ(g.report.tracking_errno, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_ENVIRONMENT), 0);
	guest_end(&g);
	setenv(HF_REPORT_ENV_PRELOAD, "libm.so.6", 1);
	guest_start(&g, 0);
	unsetenv(HF_REPORT_ENV_PRELOAD);
	CHECK_EQ(COMMAND(&g, .op = OP_ENVIRONMENT), 2);
	guest_end(&g);
}

/* A forked child inherits a userfaultfd that is not about its own memory. */
TEST(the_library_ignores_forked_children)
{
	uint8_t buf[HF_REPORT_BYTES];
	struct guest g;

	if (skip_unless_scan())
		return;
	guest_start_populated(&g, 0);
	CHECK_EQ(COMMAND(&g, .op = OP_FORK_MAP), 0);
	CHECK_EQ(recv(g.report_sock, buf, sizeof(buf), MSG_DONTWAIT), -1);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 99, .n = 1, .value = 2), 0);
	CHECK(collect(&g) >= 1);
	CHECK(has_page(&g, 99));
	guest_end(&g);
}

TEST(the_library_needs_no_privilege)
{
	struct guest g;

	if (skip_unless_scan())
		return;
	if (getuid() != 0) {
		printf("# skipped: needs root to become somebody else\n");
		return;
	}
	guest_start_populated(&g, AS_NOBODY);
	/* The kernel's own writes, which a user-mode userfaultfd would not hand out. */
	CHECK_EQ(COMMAND(&g, .op = OP_READ_INTO, .first = 8, .value = 2), 0);
	CHECK_EQ(collect(&g), 1);
	CHECK(has_page(&g, 8));
	guest_end(&g);
}

TEST(the_library_survives_a_keeper_that_does_not_read)
{
	struct guest g;

	if (skip_unless_scan())
		return;
	guest_start(&g, ON_FULL_SOCKET);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 1, .n = 10, .value = 2), 0);
	guest_end(&g);
}

static void expect_refusal(const struct hf_tracker_config *config, int want, const char *reason)
{
	struct hf_tracker *t = NULL;
	struct hf_err err = { "" };

	CHECK_EQ(hf_tracker_open(config, &t, &err), want);
	CHECK(!t);
	CHECK_CONTAINS(err.text, reason);
}

TEST(says_why_tracking_is_impossible)
{
	struct hf_tracker_config config;
	struct guest g;

	if (skip_unless_scan())
		return;
	/* Registered by nobody, but somebody claims so: the trial finds out. */
	guest_start(&g, NO_LIBRARY);
	CHECK(!g.has_report);
	config = config_of(&g);
	config.mode = HF_TRACKER_PAGEMAP_SCAN;
	config.tracking_errno = 0;
	expect_refusal(&config, -EPERM, "not registered");
	config.tracking_errno = EINVAL;
	expect_refusal(&config, -EOPNOTSUPP, "Linux 6.7");
	/* The same by itself, if there is no soft-dirty here to fall back to. */
	config.mode = HF_TRACKER_AUTO;
	if (hf_tracker_open(&config, &g.tracker, NULL) < 0)
		expect_refusal(&config, -EOPNOTSUPP, "soft-dirty: ");
	guest_end(&g);
}

TEST(refuses_nonsense)
{
	struct hf_tracker_config good, config;
	struct guest g;

	guest_start(&g, 0);
	good = config_of(&g);
	config = good;
	config.address += 1;
	expect_refusal(&config, -EINVAL, "no sound mapping");
	config = good;
	config.length_bytes = 0;
	expect_refusal(&config, -EINVAL, "no sound mapping");
	config = good;
	config.length_bytes = UINT64_MAX - 4095;
	expect_refusal(&config, -EINVAL, "no sound mapping");
	config = good;
	config.pid = 0;
	expect_refusal(&config, -EINVAL, "no sound mapping");
	config = good;
	config.n_threads = 1000;
	expect_refusal(&config, -EINVAL, "too many");
	config = good;
	config.address = 4096;
	expect_refusal(&config, -ESRCH, "no memory of process");
	guest_kill(&g);
	expect_refusal(&good, -ESRCH, "no memory of process");
	guest_end(&g);
	hf_tracker_close(NULL);
}

static unsigned long read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long n = 0;

	if (file && fscanf(file, "%lu", &n) != 1)
		n = 0;
	if (file)
		(void)fclose(file);
	return n;
}

static void write_number(const char *path, unsigned long n)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return;
	(void)fprintf(file, "%lu\n", n);
	(void)fclose(file);
}

static void check_huge_pages(void)
{
	uint64_t per_huge = HUGE_BYTES / PAGE;
	struct guest g;

	guest_start_populated(&g, HUGE);
	CHECK_EQ(hf_tracker_mapping_page_bytes(g.tracker), HUGE_BYTES);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = per_huge + 3, .n = 1, .value = 2), 0);
	CHECK_EQ(collect(&g), per_huge);
	for (uint64_t i = 0; i < g.n_pages; i++)
		CHECK_EQ(has_page(&g, i), i / per_huge == 1);
	CHECK_EQ(COMMAND(&g, .op = OP_READ_INTO, .first = 3 * per_huge, .value = 3), 0);
	CHECK_EQ(collect(&g), per_huge);
	CHECK(has_page(&g, 4 * per_huge - 1));
	CHECK_EQ(collect(&g), 0);
	guest_end(&g);
}

/* A first write to a huge page that nothing has touched before. */
static void check_huge_first_touch(void)
{
	uint64_t per_huge = HUGE_BYTES / PAGE;
	struct guest g;

	guest_start(&g, HUGE);
	tracker_start(&g);
	(void)collect(&g);
	CHECK_EQ(COMMAND(&g, .op = OP_WRITE, .first = 2 * per_huge + 9, .n = 1, .value = 2), 0);
	CHECK(collect(&g) >= per_huge);
	CHECK(has_page(&g, 2 * per_huge + 9));
	guest_end(&g);
}

TEST(reports_huge_pages_as_their_small_ones)
{
	const char *pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
	unsigned long before = read_number(pool), now;

	if (skip_unless_scan())
		return;
	write_number(pool, before + 5);
	now = read_number(pool);
	if (now == before + 5) {
		check_huge_pages();
		check_huge_first_touch();
	} else {
		printf("# skipped: no huge pages to be had here (needs root, and free memory)\n");
	}
	write_number(pool, before);
}

/* An old kernel does not know PAGEMAP_SCAN, even if RAM is said to be registered. */
TEST(falls_back_when_a_promised_mode_fails)
{
	struct hf_tracker_config config;
	struct guest g;

	if (is_expecting_scan()) {
		printf("# skipped: only for kernels before 6.7\n");
		return;
	}
	guest_start(&g, 0);
	config = config_of(&g);
	config.tracking_errno = 0;
	config.mode = HF_TRACKER_PAGEMAP_SCAN;
	expect_refusal(&config, -ENOTTY, "Linux 6.7");
	config.mode = HF_TRACKER_AUTO;
	CHECK_EQ(hf_tracker_open(&config, &g.tracker, NULL), 0);
	CHECK_STR(hf_tracker_mode_name(g.tracker), "soft-dirty");
	guest_end(&g);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long hf_tracker_collect takes for one GiB of populated guest RAM, with one and two threads,
 * idle and with 1k and 10k pages written since the last time. The pages lie evenly spread, which is
 * the worst case for a list of runs.
 *
 * usage: bench-scan --library libholdfast-qemu.so --child test-tracker-child [--runs N]
 *        [--json FILE]
 *
 * --json appends one object per line: name, value (median), unit, p99, n, reference, ratio. The
 * reference is the same with one thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/histogram.h"
#include "preload/report.h"
#include "vm/test-tracker-child.h"
#include "vm/tracker.h"

#define RAM_BYTES (1ull << 30)
#define RAM_PAGES (RAM_BYTES / HF_TRACKER_PAGE_BYTES)
#define RUNS_DEFAULT 300

struct options {
	const char *library;
	const char *child;
	const char *json;
	unsigned int runs;
};

struct subject {
	pid_t pid;
	int sock;
	struct hf_report report;
};

struct result {
	const char *name;
	uint64_t n_dirty;
	unsigned int n_threads;
	double median_ms;
	double p99_ms;
	double reference_ms; /* 0: its own median */
	unsigned int n;
};

static void fail(const char *what)
{
	(void)fprintf(stderr, "bench-scan: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	errno = -r;
	fail(what);
}

static void command(const struct subject *s, struct child_command c)
{
	int64_t answer;

	if (send(s->sock, &c, sizeof(c), MSG_NOSIGNAL) < 0 ||
	    recv(s->sock, &answer, sizeof(answer), 0) != (ssize_t)sizeof(answer))
		fail("the child does not answer");
}

static void exec_child(const struct options *options, int ram_fd, int sock, int report_fd)
{
	char args[3][32], text[64];
	struct stat st;

	if (fstat(ram_fd, &st) < 0)
		_exit(126);
	(void)snprintf(text, sizeof(text), "%llx:%llx", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
	(void)setenv(HF_REPORT_ENV_RAM, text, 1);
	(void)snprintf(text, sizeof(text), "%d", report_fd);
	(void)setenv(HF_REPORT_ENV_FD, text, 1);
	(void)setenv("LD_PRELOAD", options->library, 1);
	(void)snprintf(args[0], sizeof(args[0]), "%d", sock);
	(void)snprintf(args[1], sizeof(args[1]), "%d", ram_fd);
	(void)snprintf(args[2], sizeof(args[2]), "%llu", RAM_BYTES);
	if (fcntl(sock, F_SETFD, 0) < 0 || fcntl(ram_fd, F_SETFD, 0) < 0 ||
	    fcntl(report_fd, F_SETFD, 0) < 0)
		_exit(126);
	(void)execl(options->child, options->child, args[0], args[1], args[2], "0", (char *)NULL);
	_exit(127);
}

static void start(const struct options *options, struct subject *s)
{
	int pair[2], reports[2], ram_fd;
	uint8_t buf[HF_REPORT_BYTES];
	ssize_t n;

	ram_fd = memfd_create("ram", MFD_CLOEXEC);
	if (ram_fd < 0 || ftruncate(ram_fd, (off_t)RAM_BYTES) < 0)
		fail("cannot make a RAM file");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reports) < 0)
		fail("socketpair");
	s->pid = fork();
	if (s->pid < 0)
		fail("fork");
	if (s->pid == 0)
		exec_child(options, ram_fd, pair[1], reports[1]);
	(void)close(pair[1]);
	(void)close(reports[1]);
	(void)close(ram_fd);
	s->sock = pair[0];
	n = recv(reports[0], buf, sizeof(buf), 0);
	if (n < 0 || !hf_report_decode(buf, (size_t)n, &s->report)) {
		errno = ENODATA;
		fail("no report from the library (are --library and --child right?)");
	}
	(void)close(reports[0]);
	command(s, (struct child_command){
			   .op = OP_WRITE, .threads = 1, .n = RAM_PAGES, .stride = 1, .value = 1 });
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static struct hf_tracker *open_tracker(const struct subject *s, unsigned int n_threads)
{
	struct hf_tracker_config config = {
		.pid = s->pid,
		.address = s->report.address,
		.length_bytes = s->report.length_bytes,
		.tracking_errno = s->report.tracking_errno,
		.n_threads = n_threads,
	};
	struct hf_tracker *t;
	struct hf_err err;

	if (hf_tracker_open(&config, &t, &err) < 0) {
		(void)fprintf(stderr, "bench-scan: %s\n", err.text);
		exit(1);
	}
	return t;
}

static void measure(const struct subject *s, unsigned int runs, struct result *result)
{
	static struct hf_histogram times_ns;
	struct hf_tracker *t = open_tracker(s, result->n_threads);
	struct hf_bitmap bitmap;
	uint64_t n_found, start_ns;

	memset(&times_ns, 0, sizeof(times_ns));
	must(hf_bitmap_init(&bitmap, RAM_PAGES), "bitmap");
	must(hf_tracker_collect(t, HF_TRACKER_STOPPED, &bitmap, NULL), "collect");
	for (uint64_t run = 0; run < runs; run++) {
		if (result->n_dirty)
			command(s, (struct child_command){ .op = OP_WRITE,
							   .threads = 1,
							   .n = result->n_dirty,
							   .value = run,
							   .stride = RAM_PAGES / result->n_dirty });
		hf_bitmap_clear_all(&bitmap);
		start_ns = now_ns();
		must(hf_tracker_collect(t, HF_TRACKER_STOPPED, &bitmap, &n_found), "collect");
		hf_histogram_add(&times_ns, now_ns() - start_ns);
		errno = EPROTO;
		if (n_found != result->n_dirty)
			fail("a collect did not find what was written");
	}
	result->median_ms = (double)hf_histogram_quantile(&times_ns, 500) / 1e6;
	result->p99_ms = (double)hf_histogram_quantile(&times_ns, 990) / 1e6;
	result->n = runs;
	if (!result->reference_ms)
		result->reference_ms = result->median_ms;
	hf_bitmap_fini(&bitmap);
	hf_tracker_close(t);
}

static void print_json(FILE *file, const struct result *r)
{
	(void)fprintf(file,
		      "{\"name\": \"%s\", \"value\": %.4f, \"unit\": \"ms\", \"p99\": %.4f, "
		      "\"n\": %u, \"reference\": %.4f, \"ratio\": %.4f}\n",
		      r->name, r->median_ms, r->p99_ms, r->n, r->reference_ms,
		      r->median_ms / r->reference_ms);
}

static struct options parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "library", required_argument, NULL, 'l' },
		{ "child", required_argument, NULL, 'c' },
		{ "json", required_argument, NULL, 'j' },
		{ "runs", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	struct options options = { .runs = RUNS_DEFAULT };
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 'l')
			options.library = optarg;
		else if (c == 'c')
			options.child = optarg;
		else if (c == 'j')
			options.json = optarg;
		else if (c == 'r')
			options.runs = (unsigned int)strtoul(optarg, NULL, 10);
		else
			exit(2);
	}
	if (!options.library || !options.child || !options.runs || optind != argc) {
		(void)fprintf(
			stderr,
			"usage: %s --library LIBRARY --child PROGRAM [--runs N] [--json FILE]\n",
			argv[0]);
		exit(2);
	}
	return options;
}

/* One thread first: the reference of the two. */
static struct result results[] = {
	{ .name = "scan_per_gib", .n_threads = 1 },
	{ .name = "scan_per_gib_2_threads", .n_threads = 2 },
	{ .name = "scan_per_gib_1k", .n_dirty = 1000, .n_threads = 1 },
	{ .name = "scan_per_gib_1k_2_threads", .n_dirty = 1000, .n_threads = 2 },
	{ .name = "scan_per_gib_10k", .n_dirty = 10000, .n_threads = 1 },
	{ .name = "scan_per_gib_10k_2_threads", .n_dirty = 10000, .n_threads = 2 },
};

int main(int argc, char **argv)
{
	struct options options = parse_options(argc, argv);
	struct subject s;
	FILE *json = NULL;

	if (options.json && !(json = fopen(options.json, "ae")))
		fail(options.json);
	start(&options, &s);
	printf("dirty scan of 1 GiB, %u runs each\n", options.runs);
	printf("%-8s %-8s %10s %10s %8s\n", "pages", "threads", "median ms", "p99 ms", "ratio");
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		struct result *r = &results[i];

		if (r->n_threads > 1)
			r->reference_ms = results[i - 1].median_ms;
		measure(&s, options.runs, r);
		printf("%-8llu %-8u %10.3f %10.3f %8.2f\n", (unsigned long long)r->n_dirty,
		       r->n_threads, r->median_ms, r->p99_ms, r->median_ms / r->reference_ms);
		if (json)
			print_json(json, r);
	}
	if (json && fclose(json) != 0)
		fail(options.json);
	(void)kill(s.pid, SIGKILL);
	(void)waitpid(s.pid, NULL, 0);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_NS (10000 * MS_NS)

static const char usage[] =
	"usage: lab-client stream|echo|counter|ping ADDR[:PORT] [options]\n"
	"  --seed N       of the byte stream (default: 1)\n"
	"  --limit BPS    bytes per second (stream: asked of the guest; default: none)\n"
	"  --bytes N      stop after so many bytes\n"
	"  --time MS      stop after so many milliseconds\n"
	"  --report MS    a progress line that often (default: none)\n"
	"  --gap MS       an event for each longer silence (default: none)\n"
	"  --interval US  between requests of counter and ping (default: 10000)\n"
	"  --retry MS     ask again for an answer that did not come (counter; default: 200)\n"
	"  --size BYTES   of a ping's datagram (default: 64)\n"
	"  --may-reboot   the guest may start anew and forget its counter\n"
	"Stops at SIGTERM, SIGINT, and the end of stdin when that is a pipe. Exit status: 0 all\n"
	"promises kept, 1 not, 2 wrong usage.\n";

uint64_t client_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t end_ns(const struct client *c)
{
	return c->time_ns ? c->started_ns + c->time_ns : UINT64_MAX;
}

static bool is_stdin_ended(void)
{
	char waste[256];
	ssize_t n = read(STDIN_FILENO, waste, sizeof(waste));

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static bool is_report_due(struct client *c, uint64_t now)
{
	if (now < c->next_report_ns)
		return false;
	/* A client that was held up does not make up for the lines it missed. */
	c->next_report_ns = now + c->report_ns;
	return true;
}

int client_wait(struct client *c, int fd, short events, uint64_t until_ns)
{
	struct pollfd p[3] = {
		{ .fd = fd, .events = events },
		{ .fd = c->signal_fd, .events = POLLIN },
		{ .fd = c->is_stdin_watched ? STDIN_FILENO : -1, .events = POLLIN },
	};
	uint64_t now = client_now_ns();
	uint64_t wake = min_u64(min_u64(until_ns, end_ns(c)), c->next_report_ns);
	uint64_t left = wake > now ? wake - now : 0;
	struct timespec ts = { (time_t)(left / 1000000000), (long)(left % 1000000000) };
	int woke = 0;

	if (ppoll(p, 3, wake == UINT64_MAX ? NULL : &ts, NULL) < 0)
		return errno == EINTR ? 0 : CLIENT_STOP;
	now = client_now_ns();
	if (p[1].revents || (p[2].revents && is_stdin_ended()) || now >= end_ns(c))
		woke |= CLIENT_STOP;
	if (p[0].revents & (POLLIN | POLLERR | POLLHUP))
		woke |= CLIENT_READABLE;
	if (p[0].revents & POLLOUT)
		woke |= CLIENT_WRITABLE;
	if (is_report_due(c, now))
		woke |= CLIENT_REPORT;
	return woke;
}

void client_wrong(struct client *c, const char *format, ...)
{
	va_list ap;

	client_print_head(c, "wrong");
	printf(",\"text\":\"");
	va_start(ap, format);
	(void)vprintf(format, ap);
	va_end(ap);
	printf("\"}\n");
	(void)fflush(stdout);
}

void client_print_head(struct client *c, const char *event)
{
	printf("{\"event\":\"%s\",\"client\":\"%s\",\"mono_ns\":%" PRIu64, event, c->mode,
	       client_now_ns());
}

static void close_gap(struct client *c, uint64_t now)
{
	uint64_t gap = now - c->last_ns;

	if (gap > c->longest_gap_ns) {
		c->longest_gap_ns = gap;
		c->longest_gap_start_ns = c->last_ns;
	}
	if (c->gap_ns && gap > c->gap_ns) {
		client_print_head(c, "gap");
		printf(",\"gap_ns\":%" PRIu64 ",\"start_ns\":%" PRIu64 "}\n", gap, c->last_ns);
		(void)fflush(stdout);
	}
}

void client_progress(struct client *c)
{
	uint64_t now = client_now_ns();

	if (c->last_ns)
		close_gap(c, now);
	c->last_ns = now;
}

/* Silence up to the end counts: a guest that died must not look well. */
void client_print_result(struct client *c, bool is_ok)
{
	uint64_t now = client_now_ns();

	if (c->last_ns)
		close_gap(c, now);
	client_print_head(c, "result");
	printf(",\"ok\":%s,\"elapsed_ns\":%" PRIu64 ",\"longest_gap_ns\":%" PRIu64
	       ",\"longest_gap_start_ns\":%" PRIu64,
	       is_ok ? "true" : "false", now - c->started_ns, c->longest_gap_ns,
	       c->longest_gap_start_ns);
}

void client_print_latency(const struct hf_histogram *h)
{
	printf(",\"latency_p50_ns\":%" PRIu64 ",\"latency_p99_ns\":%" PRIu64
	       ",\"latency_max_ns\":%" PRIu64 ",\"latency_mean_ns\":%" PRIu64,
	       hf_histogram_quantile(h, 500), hf_histogram_quantile(h, 990), h->max,
	       h->count ? h->sum / h->count : 0);
}

static int open_socket(struct client *c, int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		client_wrong(c, "socket: %s", strerror(errno));
	return fd;
}

static int finish_connect(struct client *c, int fd)
{
	socklen_t len = sizeof(int);
	int error = 0, woke;
	uint64_t until = client_now_ns() + CONNECT_TIMEOUT_NS;

	do {
		woke = client_wait(c, fd, POLLOUT, until);
	} while (!(woke & (CLIENT_STOP | CLIENT_WRITABLE)) && client_now_ns() < until);
	if (!(woke & CLIENT_WRITABLE))
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

int client_connect_tcp(struct client *c)
{
	int fd = open_socket(c, SOCK_STREAM), one = 1, r = 0;

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&c->peer, sizeof(c->peer)) < 0)
		r = errno == EINPROGRESS ? finish_connect(c, fd) : -errno;
	if (r < 0) {
		client_wrong(c, "connect: %s", strerror(-r));
		(void)close(fd);
		return -1;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	client_print_head(c, "connected");
	printf("}\n");
	(void)fflush(stdout);
	return fd;
}

int client_connect_udp(struct client *c)
{
	int fd = open_socket(c, SOCK_DGRAM);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&c->peer, sizeof(c->peer)) < 0) {
		client_wrong(c, "connect: %s", strerror(errno));
		(void)close(fd);
		return -1;
	}
	return fd;
}

static _Noreturn void die_usage(const char *what)
{
	(void)fprintf(stderr, "lab-client: %s\n%s", what, usage);
	exit(2);
}

static uint64_t to_u64(const char *text)
{
	char *end = NULL;
	uint64_t v;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-')
		die_usage("not a number");
	return v;
}

static void parse_peer(struct client *c, char *text, uint16_t port)
{
	char *colon = strchr(text, ':');

	if (colon) {
		uint64_t v = to_u64(colon + 1);

		if (v == 0 || v > UINT16_MAX)
			die_usage("the port must be 1 to 65535");
		port = (uint16_t)v;
		*colon = '\0';
	}
	c->peer.sin_family = AF_INET;
	c->peer.sin_port = htons(port);
	if (inet_pton(AF_INET, text, &c->peer.sin_addr) != 1)
		die_usage("the address must be a dotted IPv4 one");
}

static void parse_options(struct client *c, int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },
		{ "limit", 1, NULL, 'l' },
		{ "bytes", 1, NULL, 'b' },
		{ "time", 1, NULL, 't' },
		{ "report", 1, NULL, 'r' },
		{ "gap", 1, NULL, 'g' },
		{ "retry", 1, NULL, 'y' },
		{ "interval", 1, NULL, 'i' },
		{ "size", 1, NULL, 'z' },
		{ "may-reboot", 0, NULL, 'm' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			c->seed = to_u64(optarg);
			break;
		case 'l':
			c->limit_bytes_per_s = to_u64(optarg);
			break;
		case 'b':
			c->bytes_max = to_u64(optarg);
			break;
		case 't':
			c->time_ns = to_u64(optarg) * MS_NS;
			break;
		case 'r':
			c->report_ns = to_u64(optarg) * MS_NS;
			break;
		case 'g':
			c->gap_ns = to_u64(optarg) * MS_NS;
			break;
		case 'y':
			c->retry_ns = to_u64(optarg) * MS_NS;
			break;
		case 'i':
			c->interval_ns = to_u64(optarg) * 1000;
			break;
		case 'z':
			c->size_bytes = to_u64(optarg);
			break;
		case 'm':
			c->may_reboot = true;
			break;
		default:
			die_usage("unknown option");
		}
	}
	if (c->limit_bytes_per_s > UINT32_MAX)
		die_usage("--limit must be below 2^32");
	if (c->interval_ns == 0 || c->retry_ns == 0)
		die_usage("--interval and --retry must be more than 0");
}

static void watch_end(struct client *c)
{
	struct stat st;
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	c->is_stdin_watched = fstat(STDIN_FILENO, &st) == 0 && S_ISFIFO(st.st_mode);
	c->started_ns = client_now_ns();
	c->next_report_ns = c->report_ns ? c->started_ns + c->report_ns : UINT64_MAX;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		uint16_t port;
		bool (*run)(struct client *c);
	} modes[] = {
		{ "stream", 7000, client_run_stream },
		{ "echo", 7001, client_run_echo },
		{ "counter", 7002, client_run_counter },
		{ "ping", 7004, client_run_ping },
	};
	struct client c = {
		.seed = 1,
		.interval_ns = 10 * MS_NS,
		.retry_ns = 200 * MS_NS,
		.size_bytes = 64,
		.signal_fd = -1,
	};

	if (argc < 3)
		die_usage("want a kind of client and an address");
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		if (strcmp(argv[1], modes[i].name) != 0)
			continue;
		c.mode = modes[i].name;
		parse_peer(&c, argv[2], modes[i].port);
		parse_options(&c, argc - 2, argv + 2);
		watch_end(&c);
		return modes[i].run(&c) ? 0 : 1;
	}
	die_usage("no such kind of client");
}

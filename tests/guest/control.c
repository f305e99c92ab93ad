/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * UDP 7003: "TOKEN command [argument...]" -> "TOKEN ok ..." or "TOKEN error why". The token is the
 * client's, so that it can ask again when a datagram was lost and tell late answers from new ones.
 *
 *   stat                  what this boot has done so far, as key=value
 *   dirty N | max MIB     write N distinct pages per millisecond, or MIB over and over; 0 stops
 *   spin N                N threads that only compute; 0 stops
 *   mem MIB               a buffer of that size with a known content (dirty works on it, too)
 *   memcheck              verify every page of the buffer
 *   mount DEVICE [OPTIONS] | umount | trim     an ext4 file system; the whole of it is trimmed
 *   put NAME WORD | get NAME    a small file: durable when answered; read past the caches
 *   files WRITERS FILES KIB RATE               write files and make them durable; see files.c
 *   filecheck             stop writing, read all files from the disk and verify them
 *   raw DEVICE MIB BATCH RATE                  write blocks of a device; see raw.c
 *   rawcheck DEVICE MIB TOLD                   stop writing, read the blocks and verify them
 *   burst COUNT BYTES     COUNT numbered datagrams to the sender (u64 number first), then the reply
 *   marker WORD           HOLDFAST-MARKER:WORD is in memory once, for dumps
 *   watchdog MS           start the i6300esb and feed it; 0 feeds it no more
 *   hang                  all processors are taken, for good
 *   reboot | poweroff | panic
 *
 * What takes long runs on a thread of its own, one at a time, so that the services stay quick.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"

#define TOKEN_MAX 32
#define BURST_COUNT_MAX 1000000
#define BURST_BYTES_MAX 1472
#define END_GRACE_NS 100000000
#define ARGS_MAX 4

struct request {
	char token[TOKEN_MAX];
	char command[16];
	char arg[ARGS_MAX][24];
	struct sockaddr_in peer;
};

static struct guest_source control = { -1, NULL };

static struct {
	pthread_mutex_t lock;
	pthread_cond_t is_there;
	bool is_busy;
	struct request request;
	char reply[GUEST_TEXT_MAX];
} job = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, { .token = "" } };

static void answer(const struct request *req, const char *text)
{
	char line[GUEST_TEXT_MAX + TOKEN_MAX + 2];
	int n = snprintf(line, sizeof(line), "%s %s", req->token, text);

	(void)sendto(control.fd, line, (size_t)n, 0, (const struct sockaddr *)&req->peer,
		     sizeof(req->peer));
}

/* The whole of @text as a number; 0 and an error text otherwise. */
static bool to_number(const char *text, uint64_t *ret, char *reply)
{
	char *end = NULL;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-') {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error \"%s\" is not a number", text);
		return false;
	}
	*ret = v;
	return true;
}

static void do_stat(char *reply)
{
	uint64_t dirtied, spun, pages;

	guest_work_counts(&dirtied, &spun, &pages);
	(void)snprintf(
		reply, GUEST_TEXT_MAX,
		"ok boot=%u uptime_ns=%llu counter=%llu violated=%d streamed=%llu "
		"echoed=%llu mismatches=%llu pings=%llu dirtied=%llu spun=%llu pages=%llu "
		"io_errors=%llu io_errno=%d files=%llu raw=%llu",
		guest_boot_id(), (unsigned long long)guest_now_ns(),
		(unsigned long long)guest_stats.counter, guest_stats.is_violated,
		(unsigned long long)guest_stats.streamed_bytes,
		(unsigned long long)guest_stats.echoed_bytes,
		(unsigned long long)guest_stats.mismatches, (unsigned long long)guest_stats.pings,
		(unsigned long long)dirtied, (unsigned long long)spun, (unsigned long long)pages,
		(unsigned long long)guest_stats.io_errors, guest_stats.io_errno,
		(unsigned long long)guest_files_count(), (unsigned long long)guest_raw_count());
}

static void do_dirty(const struct request *req, char *reply)
{
	uint64_t n;

	if (strcmp(req->arg[0], "max") == 0) {
		if (to_number(req->arg[1], &n, reply))
			guest_work_dirty_max(n, reply);
	} else if (to_number(req->arg[0], &n, reply)) {
		guest_work_dirty(n, reply);
	}
}

static void wait_writable(void)
{
	struct pollfd p = { .fd = control.fd, .events = POLLOUT };

	(void)poll(&p, 1, -1);
}

static void do_burst(const struct request *req, char *reply)
{
	uint8_t buf[BURST_BYTES_MAX] = { 0 };
	uint64_t count, bytes;

	if (!to_number(req->arg[0], &count, reply) || !to_number(req->arg[1], &bytes, reply))
		return;
	if (count > BURST_COUNT_MAX || bytes < 8 || bytes > BURST_BYTES_MAX) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error want at most %d of 8..%d bytes",
			       BURST_COUNT_MAX, BURST_BYTES_MAX);
		return;
	}
	for (uint64_t i = 0; i < count; i++) {
		hf_le64_put(buf, i);
		while (sendto(control.fd, buf, bytes, 0, (const struct sockaddr *)&req->peer,
			      sizeof(req->peer)) < 0 &&
		       (errno == EAGAIN || errno == ENOBUFS))
			wait_writable();
	}
	(void)snprintf(reply, GUEST_TEXT_MAX, "ok sent=%llu", (unsigned long long)count);
}

/* The arguments from @first on, which may be left out at the end and are 0 then. */
static bool to_numbers(const struct request *req, unsigned int first, uint64_t *ret, char *reply)
{
	for (unsigned int i = first; i < ARGS_MAX; i++) {
		ret[i] = 0;
		if (req->arg[i][0] && !to_number(req->arg[i], &ret[i], reply))
			return false;
	}
	return true;
}

/* Was it one of these? */
static bool run_disk_job(const struct request *req, char *reply)
{
	uint64_t n[ARGS_MAX];

	if (strcmp(req->command, "mount") == 0) {
		guest_disk_mount(req->arg[0], req->arg[1], reply);
	} else if (strcmp(req->command, "umount") == 0) {
		guest_disk_unmount(reply);
	} else if (strcmp(req->command, "trim") == 0) {
		guest_disk_trim(reply);
	} else if (strcmp(req->command, "put") == 0) {
		guest_disk_put(req->arg[0], req->arg[1], reply);
	} else if (strcmp(req->command, "get") == 0) {
		guest_disk_get(req->arg[0], reply);
	} else if (strcmp(req->command, "filecheck") == 0) {
		guest_files_check(reply);
	} else if (strcmp(req->command, "files") == 0) {
		if (to_numbers(req, 0, n, reply))
			guest_files_start(n[0], n[1], n[2], n[3], reply);
	} else if (strcmp(req->command, "raw") == 0) {
		if (to_numbers(req, 1, n, reply))
			guest_raw_start(req->arg[0], n[1], n[2], n[3], reply);
	} else if (strcmp(req->command, "rawcheck") == 0) {
		if (to_numbers(req, 1, n, reply))
			guest_raw_check(req->arg[0], n[1], n[2], reply);
	} else {
		return false;
	}
	return true;
}

static void run_job(const struct request *req, char *reply)
{
	uint64_t n;

	(void)snprintf(reply, GUEST_TEXT_MAX, "error internal");
	if (run_disk_job(req, reply))
		return;
	if (strcmp(req->command, "memcheck") == 0)
		guest_work_memcheck(reply);
	else if (strcmp(req->command, "burst") == 0)
		do_burst(req, reply);
	else if (strcmp(req->command, "dirty") == 0)
		do_dirty(req, reply);
	else if (to_number(req->arg[0], &n, reply))
		guest_work_mem(n, reply);
}

/* The job is over before its answer leaves: the next request may come at once. */
static void finish_job(const struct request *req, const char *reply)
{
	(void)pthread_mutex_lock(&job.lock);
	job.is_busy = false;
	(void)snprintf(job.reply, sizeof(job.reply), "%s", reply);
	(void)pthread_mutex_unlock(&job.lock);
	answer(req, reply);
}

static void *job_thread(void *unused)
{
	(void)unused;
	for (;;) {
		char reply[GUEST_TEXT_MAX];
		struct request req;

		(void)pthread_mutex_lock(&job.lock);
		while (!job.is_busy)
			(void)pthread_cond_wait(&job.is_there, &job.lock);
		req = job.request;
		(void)pthread_mutex_unlock(&job.lock);
		run_job(&req, reply);
		finish_job(&req, reply);
	}
	return NULL;
}

/* Asking again for what is being done is answered by the one reply that comes, and for what was
 * done last by the same reply: a retry that was under way must not do it twice. */
static void start_job(const struct request *req)
{
	char reply[GUEST_TEXT_MAX] = "";

	(void)pthread_mutex_lock(&job.lock);
	if (strcmp(job.request.token, req->token) == 0) {
		if (!job.is_busy)
			memcpy(reply, job.reply, sizeof(reply));
	} else if (job.is_busy) {
		(void)snprintf(reply, sizeof(reply), "error busy");
	} else {
		job.request = *req;
		job.is_busy = true;
		(void)pthread_cond_signal(&job.is_there);
	}
	(void)pthread_mutex_unlock(&job.lock);
	if (reply[0])
		answer(req, reply);
}

static void panic_now(void)
{
	int fd = open("/proc/sys/kernel/sysrq", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "1", 1);
	fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, "c", 1);
}

static char ending[16];

static void end_ready(struct guest_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	sync();
	if (strcmp(ending, "panic") == 0)
		panic_now();
	else
		(void)reboot(strcmp(ending, "reboot") == 0 ? RB_AUTOBOOT : RB_POWER_OFF);
}

/* Not at once: the machine must not be gone before its answer has left it. */
static void stop_guest(const struct request *req)
{
	static struct guest_source timer = { -1, end_ready };
	struct itimerspec grace = { .it_value.tv_nsec = END_GRACE_NS };

	answer(req, "ok");
	if (timer.fd >= 0)
		return;
	printf("GUEST %s\n", req->command);
	(void)snprintf(ending, sizeof(ending), "%s", req->command);
	timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (timer.fd < 0 || timerfd_settime(timer.fd, 0, &grace, NULL) < 0)
		end_ready(&timer, 0);
	else
		guest_watch(&timer, EPOLLIN);
}

/* Was it one of these? */
static bool do_fault(const struct request *req, char *reply)
{
	uint64_t n;

	if (strcmp(req->command, "marker") == 0)
		guest_fault_marker(req->arg[0], reply);
	else if (strcmp(req->command, "hang") == 0)
		guest_fault_hang(reply);
	else if (strcmp(req->command, "watchdog") != 0)
		return false;
	else if (to_number(req->arg[0], &n, reply))
		guest_fault_watchdog(n, reply);
	return true;
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

static void dispatch(const struct request *req)
{
	static const char *const jobs[] = { "mem",    "memcheck", "burst",    "dirty", "mount",
					    "umount", "trim",     "put",      "get",   "filecheck",
					    "files",  "raw",      "rawcheck", NULL };
	static const char *const ends[] = { "reboot", "poweroff", "panic", NULL };
	char reply[GUEST_TEXT_MAX] = "error unknown command";
	uint64_t n;

	if (is_one_of(req->command, jobs)) {
		start_job(req);
		return;
	}
	if (is_one_of(req->command, ends)) {
		stop_guest(req);
		return;
	}
	if (strcmp(req->command, "stat") == 0)
		do_stat(reply);
	else if (strcmp(req->command, "spin") == 0 && to_number(req->arg[0], &n, reply))
		guest_work_spin(n, reply);
	else
		(void)do_fault(req, reply);
	answer(req, reply);
}

static void control_ready(struct guest_source *source, uint32_t events)
{
	struct request req = { .token = "" };
	socklen_t len = sizeof(req.peer);
	char line[256];
	ssize_t n = recvfrom(source->fd, line, sizeof(line) - 1, 0, (struct sockaddr *)&req.peer,
			     &len);

	(void)events;
	if (n <= 0)
		return;
	line[n] = '\0';
	if (sscanf(line, "%31s %15s %23s %23s %23s %23s", req.token, req.command, req.arg[0],
		   req.arg[1], req.arg[2], req.arg[3]) < 2)
		answer(&req, "error want \"TOKEN command\"");
	else
		dispatch(&req);
}

int guest_control_open(void)
{
	pthread_t thread;
	int r;

	control = (struct guest_source){ guest_udp_bind(GUEST_PORT_CONTROL), control_ready };
	if (control.fd < 0)
		return control.fd;
	r = pthread_create(&thread, NULL, job_thread, NULL);
	if (r != 0)
		return -r;
	guest_watch(&control, EPOLLIN);
	return 0;
}

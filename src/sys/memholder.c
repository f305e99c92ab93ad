/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. The holder is a fork that executes nothing: no file has to be read for it, which
 * counts when storage hangs. A child of a child, so that it is nobody's to reap; the first child is made
 * without a signal at its end. From the fork on only system calls are made, because other threads of the
 * parent may have held any lock.
 *
 * Shared mappings would keep alive what belongs to the keeper (the rings of its streams), the heap and
 * other large private ones would cost a copy of each page that the keeper writes to from now on: so both
 * are unmapped. What the running code needs stays: programs, libraries and the small private mappings
 * beside them, the stack, and the thread's own block. A sanitizer has its tables where it wants them:
 * with one, only what is shared goes.
 */
#include "sys/memholder.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/procstat.h"

#define COMM "holdfast-memory" /* 15 letters: as long as the kernel keeps them */
#define REPORT_FD (HF_MEMHOLDER_FD + 1)
#define DROPS_MAX 1024
#define LARGE_BYTES (UINT64_C(1) << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER true
#else
#define HAS_SANITIZER false
#endif

struct plan {
	int memory_fd, report_fd;
	const char *vm;
	char *title; /* where this process's arguments lie; NULL: not known */
	size_t title_size;
};

/* ---- in the holder: system calls only ---- */

/* The next number in base 16, and the character behind it. */
static uint64_t take_hex(const char **at)
{
	uint64_t n = 0;

	for (;; (*at)++) {
		char c = **at;

		if (c >= '0' && c <= '9')
			n = n << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uint64_t)(c - 'a' + 10);
		else
			break;
	}
	(*at)++;
	return n;
}

/* What is to be unmapped: first all of it is found, then nothing is called but syscall(), for the dynamic
 * linker's own tables are in a mapping like others. */
struct drop {
	struct {
		uint64_t start, bytes;
	} range[DROPS_MAX];
	unsigned int n;
};

static bool is_within(const void *p, uint64_t start, uint64_t end)
{
	return (uintptr_t)p >= start && (uintptr_t)p < end;
}

/* A line of /proc/self/maps: start-end rwxs offset major:minor inode path. */
static void consider_mapping(struct drop *drop, const char *line)
{
	uint64_t start = take_hex(&line), end = take_hex(&line);
	bool is_shared = strlen(line) > 4 && line[3] == 's', is_big;

	for (int field = 0; *line && field < 4; line++)
		field += *line == ' ';
	while (*line == ' ')
		line++;
	is_big = (*line == '\0' && end - start >= LARGE_BYTES) || strcmp(line, "[heap]") == 0;
	if (is_within(drop, start, end) || is_within(__builtin_thread_pointer(), start, end) ||
	    drop->n == DROPS_MAX)
		return;
	if (is_shared || (is_big && !HAS_SANITIZER)) {
		drop->range[drop->n].start = start;
		drop->range[drop->n++].bytes = end - start;
	}
}

static void consider_mappings(struct drop *drop)
{
	char buf[8192];
	size_t have = 0;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
	long n;

	while (fd >= 0 && (n = syscall(SYS_read, fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		char *line = buf, *end;

		have += (size_t)n;
		buf[have] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			consider_mapping(drop, line);
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
	}
	if (fd >= 0)
		(void)syscall(SYS_close, fd);
}

/* What ps shows: its name and the VM's. */
static void set_title(const struct plan *plan)
{
	static const char name[] = COMM " ";
	size_t n = sizeof(name) - 1, vm = strlen(plan->vm);

	(void)prctl(PR_SET_NAME, COMM);
	if (plan->title_size < n + 2)
		return;
	if (vm > plan->title_size - n - 1)
		vm = plan->title_size - n - 1;
	memset(plan->title, 0, plan->title_size);
	memcpy(plan->title, name, n);
	memcpy(plan->title + n, plan->vm, vm);
}

/* It has next to no memory of its own, so killing it is never the answer to a shortage. */
static void be_no_victim(void)
{
	static const char least[] = "-1000";
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, least, sizeof(least) - 1);
	(void)syscall(SYS_close, fd);
}

/* With its two descriptors at their places, all others closed. */
static int keep_fds(const struct plan *plan)
{
	int memory = fcntl(plan->memory_fd, F_DUPFD, REPORT_FD + 1);
	int report = fcntl(plan->report_fd, F_DUPFD, REPORT_FD + 1);

	if (memory < 0 || report < 0 || dup2(memory, HF_MEMHOLDER_FD) < 0 ||
	    dup2(report, REPORT_FD) < 0 ||
	    syscall(SYS_close_range, 0U, HF_MEMHOLDER_FD - 1U, 0) < 0)
		return -1;
	return (int)syscall(SYS_close_range, REPORT_FD + 1U, ~0U, 0);
}

static void ignore_all_but_term(void)
{
	/* All zeroes, whatever the layout, is SIG_DFL; past libc, as in process.c. */
	static const unsigned long dfl[16];
	uint64_t mask = ~(UINT64_C(1) << (SIGTERM - 1));

	for (int sig = 1; sig < _NSIG; sig++)
		(void)syscall(SYS_rt_sigaction, sig, dfl, NULL, sizeof(mask));
	(void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

__attribute__((noreturn)) static void hold(const struct plan *plan)
{
	pid_t self = (pid_t)syscall(SYS_getpid);
	struct drop drop;

	drop.n = 0;
	set_title(plan);
	be_no_victim();
	if (keep_fds(plan) < 0)
		_exit(1);
	ignore_all_but_term();
	consider_mappings(&drop);
	for (unsigned int i = 0; i < drop.n; i++)
		(void)syscall(SYS_munmap, drop.range[i].start, drop.range[i].bytes);
	(void)syscall(SYS_write, REPORT_FD, &self, sizeof(self));
	(void)syscall(SYS_close, REPORT_FD);
	for (;;)
		(void)syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0); /* for ever */
}

__attribute__((noreturn)) static void run_child(const struct plan *plan)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	long pid;

	(void)setsid();
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		hold(plan);
	_exit(pid < 0);
}

/* ---- in the parent ---- */

/* Best effort: it is for people's eyes. */
static void find_title(struct plan *plan)
{
	struct hf_procstat s;

	if (hf_procstat_read(getpid(), 0, &s) < 0 || !s.args_start || s.args_end <= s.args_start)
		return;
	plan->title = (char *)(uintptr_t)s.args_start; /* NOLINT(performance-no-int-to-ptr) */
	plan->title_size = (size_t)(s.args_end - s.args_start);
}

/* 0, or the negative error of a child that could not be made or did not get there. */
static int fork_twice(struct plan *plan, int read_fd, pid_t *ret_pid)
{
	struct clone_args args = { .exit_signal = 0 };
	sigset_t all, before;
	ssize_t n;
	pid_t holder;
	long pid;
	int r = 0;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		run_child(plan);
	if (pid < 0)
		r = -errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	hf_fd_close(&plan->report_fd);
	if (r < 0)
		return r;
	do
		n = read(read_fd, &holder, sizeof(holder));
	while (n < 0 && errno == EINTR);
	while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR)
		continue;
	if (n != sizeof(holder))
		return -EAGAIN;
	*ret_pid = holder;
	return 0;
}

int hf_memholder_start(int memory_fd, const char *vm, pid_t *ret_pid, struct hf_err *err)
{
	struct plan plan = { .memory_fd = memory_fd, .report_fd = -1, .vm = vm };
	int pipe_fds[2] = { -1, -1 }, r;

	assert(gettid() == getpid());
	find_title(&plan);
	r = pipe2(pipe_fds, O_CLOEXEC) < 0 ? -errno : 0;
	plan.report_fd = pipe_fds[1];
	if (r == 0)
		r = fork_twice(&plan, pipe_fds[0], ret_pid);
	hf_fd_close(&pipe_fds[0]);
	if (r < 0)
		hf_err_set(err, "cannot make the process that keeps the memory of '%.64s': %s", vm,
			   strerror(-r));
	return r;
}

int hf_memholder_end(pid_t pid, unsigned long long start_ticks)
{
	int fd = hf_procstat_open(pid, start_ticks), r;

	if (fd < 0)
		return fd;
	r = pidfd_send_signal(fd, SIGTERM, NULL, 0) < 0 ? -errno : 0;
	hf_fd_close(&fd);
	return r;
}

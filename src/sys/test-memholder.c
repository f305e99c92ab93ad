/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The maker of the memory is a child that is killed; the memory is read afterwards. */
#include "../../tests/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/memfd.h"
#include "sys/memholder.h"
#include "sys/procstat.h"

#define RAM_BYTES (UINT64_C(8) << 20)
#define OTHER_BYTES ((size_t)32 << 20)
#define DEADLINE_MS 20000

static pid_t last_holder; /* a check that fails must not leave it behind */

static void clean_up(void)
{
	if (last_holder > 0)
		(void)kill(last_holder, SIGTERM);
}

static char *read_proc(pid_t pid, const char *name)
{
	static char text[65536];
	char path[64];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	CHECK(n >= 0);
	text[n] = '\0';
	hf_fd_close(&fd);
	return text;
}

static int count_fds(pid_t pid)
{
	struct dirent *e;
	char path[64];
	int n = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	CHECK(dir);
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.';
	(void)closedir(dir);
	return n;
}

/* In the child: memory with a mark, other memory, a holder; then it waits to be killed. */
static void make(int report_fd)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_mirror ring;
	char *heap = malloc(OTHER_BYTES);
	pid_t holder = -1;

	if (heap && hf_ram_open("held", HF_RAM_PAGES_DEFAULT, RAM_BYTES, &ram, NULL) == 0 &&
	    hf_mirror_open(OTHER_BYTES, &ring) == 0) {
		memset(heap, 1, OTHER_BYTES);
		memset(ring.base, 2, OTHER_BYTES);
		memcpy(ram.base + 4096, "the guest's", 12);
		if (hf_memholder_start(ram.fd, "web.1", &holder, NULL) < 0)
			holder = -1;
		memcpy(ram.base + 8192, "and later", 10);
	}
	(void)!write(report_fd, &holder, sizeof(holder));
	for (;;)
		(void)pause();
}

static pid_t make_and_kill(void)
{
	int fds[2];
	pid_t maker, holder;

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	maker = fork();
	CHECK(maker >= 0);
	if (maker == 0)
		make(fds[1]);
	CHECK_EQ(read(fds[0], &holder, sizeof(holder)), sizeof(holder));
	CHECK(holder > 0);
	if (!last_holder)
		(void)atexit(clean_up);
	last_holder = holder;
	CHECK_EQ(kill(maker, SIGKILL), 0);
	CHECK_EQ(waitpid(maker, NULL, 0), maker);
	hf_fd_close(&fds[0]);
	hf_fd_close(&fds[1]);
	return holder;
}

static void check_memory(pid_t holder)
{
	char path[64], text[16];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)holder, HF_MEMHOLDER_FD);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(lseek(fd, 0, SEEK_END), RAM_BYTES);
	CHECK_EQ(pread(fd, text, 12, 4096), 12);
	CHECK_STR(text, "the guest's");
	CHECK_EQ(pread(fd, text, 10, 8192), 10);
	CHECK_STR(text, "and later");
	hf_fd_close(&fd);
}

static void await_end(pid_t pid, uint64_t start_ticks)
{
	struct timespec ts = { .tv_nsec = 10000000 };

	for (int left = DEADLINE_MS; hf_procstat_is_alive(pid, start_ticks); left -= 10) {
		CHECK(left > 0);
		(void)nanosleep(&ts, NULL);
	}
	if (pid == last_holder)
		last_holder = -1;
}

TEST(memory_outlives_its_maker)
{
	pid_t holder = make_and_kill();
	struct hf_procstat s;

	CHECK_EQ(hf_procstat_read(holder, 0, &s), 0);
	CHECK(hf_procstat_is_alive(holder, s.start_ticks));
	CHECK(!hf_procstat_is_alive(holder, s.start_ticks + 1));
	check_memory(holder);
	CHECK_EQ(count_fds(holder), 1);
	CHECK_STR(read_proc(holder, "comm"), "holdfast-memory\n");
	CHECK_EQ(getsid(holder) == getsid(0), 0);

	/* Not ended by anything but SIGTERM (and SIGKILL). */
	CHECK_EQ(kill(holder, SIGHUP), 0);
	CHECK_EQ(kill(holder, SIGINT), 0);
	CHECK_EQ(hf_memholder_end(holder, s.start_ticks + 1), -ESRCH);
	CHECK(hf_procstat_is_alive(holder, s.start_ticks));
	CHECK_EQ(hf_memholder_end(holder, s.start_ticks), 0);
	await_end(holder, s.start_ticks);
	CHECK_EQ(hf_memholder_end(holder, s.start_ticks), -ESRCH);
}

/* Nothing of the keeper's but this memory is kept alive. */
TEST(holder_has_nothing_else)
{
	pid_t holder = make_and_kill();
	struct hf_procstat s;
	unsigned long size_kib;
	const char *at, *maps;

	CHECK_EQ(hf_procstat_read(holder, 0, &s), 0);
	maps = read_proc(holder, "maps");
	CHECK(!strstr(maps, "/memfd:"));
	at = strstr(read_proc(holder, "status"), "VmRSS:");
	CHECK(at);
	size_kib = strtoul(at + strlen("VmRSS:"), NULL, 10);
	printf("# the holder's own memory: %lu KiB\n", size_kib);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CHECK(size_kib < 8192);
	CHECK(strstr(read_proc(holder, "cmdline"), "holdfast-memory web.1") ||
	      strlen(read_proc(holder, "cmdline")) < strlen("holdfast-memory web.1"));
#endif
	CHECK_EQ(hf_memholder_end(holder, s.start_ticks), 0);
	await_end(holder, s.start_ticks);
}

TEST(bad_descriptor)
{
	struct hf_err err = { "" };
	pid_t pid = 7;

	CHECK_EQ(hf_memholder_start(-1, "web", &pid, &err), -EAGAIN);
	CHECK_CONTAINS(err.text, "that keeps the memory of 'web'");
	CHECK_EQ(pid, 7);
}

TEST(own_threads_and_the_dead)
{
	struct hf_procstat s;
	pid_t child = fork();
	int fd;

	if (child == 0)
		_exit(0);
	CHECK_EQ(hf_procstat_read(getpid(), gettid(), &s), 0);
	CHECK_EQ(s.state, 'R');
	CHECK_EQ(s.ppid, getppid());
	CHECK_EQ(hf_procstat_read(getpid(), child, &s), -ESRCH);
	CHECK_EQ(hf_procstat_read(child, 0, &s), 0);
	await_end(child, s.start_ticks); /* a zombie is dead */
	CHECK_EQ(hf_procstat_open(child, s.start_ticks), -ESRCH);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK_EQ(hf_procstat_read(child, 0, &s), -ESRCH);
	CHECK_EQ(hf_procstat_read(getpid(), 0, &s), 0);
	fd = hf_procstat_open(getpid(), s.start_ticks);
	CHECK(fd >= 0);
	hf_fd_close(&fd);
}

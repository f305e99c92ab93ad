/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into a disk process: kills it at a step that is asked for, and writes down what it does to
 * files. A step is a call that others can see: half of a write to a file, the whole of it, a sync, an
 * answer to the client, a word to the keeper. HF_CRASH_AT=N: the process dies just before its Nth step.
 * HF_CRASH_TRACE=FILE: gets a record of each change of a file below HF_CRASH_DIR, once it is done:
 *
 *   u32 kind, u32 length of the file's name, u64 offset, u64 length, u64 number; name; a write's data
 *
 * number: for a sync, how many records there were when it began: these are durable now. Of other kinds it
 * is this record's own. All little-endian.
 */
#include <fcntl.h> /* with the declarations of what is defined here */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define SECTOR_BYTES 512u

enum kind { KIND_WRITE = 1, KIND_SYNC, KIND_PUNCH, KIND_ZERO, KIND_ALLOCATE, KIND_TRUNCATE };

struct record {
	uint32_t kind;
	uint32_t name_bytes;
	uint64_t offset;
	uint64_t length;
	uint64_t number;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t steps, records, crash_at;
static int trace_fd = -1;
static char folder[PATH_MAX];

__attribute__((constructor)) static void start(void)
{
	const char *at = getenv("HF_CRASH_AT"), *trace = getenv("HF_CRASH_TRACE");
	const char *dir = getenv("HF_CRASH_DIR");

	crash_at = at ? strtoull(at, NULL, 10) : 0;
	(void)snprintf(folder, sizeof(folder), "%s/", dir ? dir : "/nowhere");
	if (trace)
		trace_fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	(void)unsetenv("LD_PRELOAD");
}

/* With the lock held: nobody else gets a step further. */
static void step(void)
{
	if (++steps == crash_at)
		(void)syscall(SYS_kill, getpid(), SIGKILL);
}

/* The name of a file that counts, without its folder. */
static bool find_name(int fd, char name[PATH_MAX])
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return false;
	path[n] = '\0';
	if (strncmp(path, folder, strlen(folder)) != 0)
		return false;
	(void)snprintf(name, PATH_MAX, "%s", path + strlen(folder));
	return true;
}

static void put(enum kind kind, const char *name, uint64_t offset, uint64_t length, uint64_t number,
		const struct iovec *data, int n_data)
{
	struct record r = { (uint32_t)kind, (uint32_t)strlen(name), offset, length, number };
	struct iovec iov[2] = { { &r, sizeof(r) }, { NULL, r.name_bytes } };

	if (trace_fd < 0)
		return;
	memcpy(&iov[1].iov_base, &name, sizeof(name));
	(void)!writev(trace_fd, iov, 2);
	for (uint64_t left = length; n_data > 0 && left > 0; data++, n_data--) {
		uint64_t n = data->iov_len < left ? data->iov_len : left;

		(void)!syscall(SYS_write, trace_fd, data->iov_base, n);
		left -= n;
	}
	records++;
}

static ssize_t raw_pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return syscall(SYS_pwritev, fd, iov, n, offset, 0);
}

/* The first half of what @iov holds, in whole sectors. */
static void write_half(int fd, const struct iovec *iov, int n, off_t offset, size_t total)
{
	size_t half = total / 2 / SECTOR_BYTES * SECTOR_BYTES;

	for (; n > 0 && half > 0; iov++, n--) {
		size_t part = iov->iov_len < half ? iov->iov_len : half;

		(void)!syscall(SYS_pwrite64, fd, iov->iov_base, part, offset);
		offset += (off_t)part;
		half -= part;
	}
}

static ssize_t do_write(int fd, const struct iovec *iov, int n, off_t offset)
{
	char name[PATH_MAX];
	size_t total = 0;
	ssize_t done;

	if (!find_name(fd, name))
		return raw_pwritev(fd, iov, n, offset);
	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	(void)pthread_mutex_lock(&lock);
	step();
	if (crash_at && steps + 1 == crash_at)
		write_half(fd, iov, n, offset, total);
	step();
	done = raw_pwritev(fd, iov, n, offset);
	if (done > 0)
		put(KIND_WRITE, name, (uint64_t)offset, (uint64_t)done, records, iov, n);
	(void)pthread_mutex_unlock(&lock);
	return done;
}

PUBLIC ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return do_write(fd, iov, n, offset);
}

PUBLIC ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t offset)
{
	return do_write(fd, iov, n, offset);
}

PUBLIC ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	(void)flags; /* hints, for those who use it here */
	return do_write(fd, iov, n, offset);
}

PUBLIC ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	struct iovec iov = { .iov_len = len };

	memcpy(&iov.iov_base, &buf, sizeof(buf));
	return do_write(fd, &iov, 1, offset);
}

PUBLIC ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	return pwrite(fd, buf, len, offset);
}

static int do_sync(int fd, long call)
{
	char name[PATH_MAX];
	uint64_t before;
	int r;

	if (!find_name(fd, name))
		return (int)syscall(call, fd);
	(void)pthread_mutex_lock(&lock);
	step();
	before = records;
	(void)pthread_mutex_unlock(&lock);
	r = (int)syscall(call, fd);
	(void)pthread_mutex_lock(&lock);
	if (r == 0)
		put(KIND_SYNC, name, 0, 0, before, NULL, 0);
	(void)pthread_mutex_unlock(&lock);
	return r;
}

PUBLIC int fdatasync(int fd)
{
	return do_sync(fd, SYS_fdatasync);
}

PUBLIC int fsync(int fd)
{
	return do_sync(fd, SYS_fsync);
}

static enum kind kind_of(int mode)
{
	if (mode & FALLOC_FL_PUNCH_HOLE)
		return KIND_PUNCH;
	return mode & FALLOC_FL_ZERO_RANGE ? KIND_ZERO : KIND_ALLOCATE;
}

PUBLIC int fallocate(int fd, int mode, off_t offset, off_t len)
{
	char name[PATH_MAX];
	int r;

	if (!find_name(fd, name))
		return (int)syscall(SYS_fallocate, fd, mode, offset, len);
	(void)pthread_mutex_lock(&lock);
	step();
	r = (int)syscall(SYS_fallocate, fd, mode, offset, len);
	if (r == 0)
		put(kind_of(mode), name, (uint64_t)offset, (uint64_t)len, records, NULL, 0);
	(void)pthread_mutex_unlock(&lock);
	return r;
}

PUBLIC int fallocate64(int fd, int mode, off_t offset, off_t len)
{
	return fallocate(fd, mode, offset, len);
}

PUBLIC int ftruncate(int fd, off_t len)
{
	char name[PATH_MAX];
	int r;

	if (!find_name(fd, name))
		return (int)syscall(SYS_ftruncate, fd, len);
	(void)pthread_mutex_lock(&lock);
	step();
	r = (int)syscall(SYS_ftruncate, fd, len);
	if (r == 0)
		put(KIND_TRUNCATE, name, 0, (uint64_t)len, records, NULL, 0);
	(void)pthread_mutex_unlock(&lock);
	return r;
}

PUBLIC int ftruncate64(int fd, off_t len)
{
	return ftruncate(fd, len);
}

static void step_alone(void)
{
	(void)pthread_mutex_lock(&lock);
	step();
	(void)pthread_mutex_unlock(&lock);
}

/* An answer to a client. */
PUBLIC ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	step_alone();
	return syscall(SYS_sendto, fd, buf, len, flags, NULL, 0);
}

/* A word to the keeper, or an eventfd of its own: eight bytes. */
PUBLIC ssize_t write(int fd, const void *buf, size_t len)
{
	if (len == sizeof(uint64_t))
		step_alone();
	return syscall(SYS_write, fd, buf, len);
}

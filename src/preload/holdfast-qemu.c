/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into QEMU: makes the kernel note which pages of guest RAM are written.
 *
 * Theory of operation
 *
 * A process's writes can be tracked from outside (PAGEMAP_SCAN) only where a userfaultfd of its own
 * has registered the mapping, and stock QEMU registers none. So this library stands in front of
 * mmap, recognises the RAM file by device and inode, registers each writable shared mapping of it
 * for asynchronous write-protection, and tells the keeper where it is (report.h). No fault ever
 * reaches user space: in asynchronous mode the kernel resolves them itself and merely leaves the
 * page marked as written. The userfaultfd is never read and stays open as long as the process
 * lives, because closing it would end the tracking.
 *
 * The rules of a guest in another program's address space: no dependency but libc, nothing printed,
 * no abort, no lock, no allocation after the start, errno left as mmap leaves it. Whatever fails
 * here is reported and QEMU runs on, untracked; the keeper then falls back or refuses.
 *
 * mmap is made by system call: looking up libc's with dlsym could allocate and so come back here.
 * libc itself and the dynamic linker map memory through internal names and never pass through.
 *
 * Two things are bound to the process that the keeper started. A child that QEMU forks inherits the
 * userfaultfd, but that still means its parent's memory, so children register nothing (@owner). And
 * programs that QEMU runs must not find us in their environment, so the constructor cleans it.
 *
 * Huge pages of tmpfs are switched off for the process: when the kernel splits one it drops the
 * mapping of all 512 pages, and with it the knowledge that they were written.
 */

/* With this macro, set by the build system, the headers make mmap another name for mmap64. */
#undef _FILE_OFFSET_BITS

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/report.h"

#ifndef __LP64__
#error "only for 64-bit machines: on others the system call takes its offset in pages"
#endif

/* linux/userfaultfd.h of Linux 6.7; older headers lack them. */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define TRACKED_PAGE_BYTES 4096u

#define EXPORT __attribute__((visibility("default")))

/* Written by the constructor, before there is a second thread; only read afterwards. */
static pid_t owner; /* 0: not active */
static uint64_t ram_dev;
static uint64_t ram_ino;
static int report_fd = -1;

static atomic_int uffd = -1;

static int open_uffd(void)
{
	int fd, dev;

	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	/* Without privilege: enough, since no fault is ever handed to user space. */
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd >= 0)
		return fd;
	fd = -errno;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return fd;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		fd = -errno;
	(void)close(dev);
	return fd;
}

static int open_tracking_uffd(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
			    UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC,
	};
	int fd = open_uffd(), r;

	if (fd < 0)
		return fd;
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	return fd;
}

/* The process's one userfaultfd. Two threads that come first at once both make one; one is kept. */
static int get_uffd(void)
{
	int none = -1, fd = atomic_load(&uffd);

	if (fd >= 0)
		return fd;
	fd = open_tracking_uffd();
	if (fd < 0)
		return fd;
	if (atomic_compare_exchange_strong(&uffd, &none, fd))
		return fd;
	(void)close(fd);
	return none;
}

/* Returns 0 or the errno for which writes to the range are not tracked. */
static int track(uint64_t address, uint64_t length_bytes)
{
	struct uffdio_register range = {
		.range = { .start = address, .len = length_bytes },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = get_uffd();

	if (fd < 0)
		return -fd;
	if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
		return errno;
	return range.ioctls & (UINT64_C(1) << _UFFDIO_WRITEPROTECT) ? 0 : EOPNOTSUPP;
}

static bool is_guest_ram(int prot, int flags, int fd)
{
	struct stat st;
	int type = flags & MAP_TYPE;

	return owner != 0 && fd >= 0 && (prot & PROT_WRITE) &&
	       (type == MAP_SHARED || type == MAP_SHARED_VALIDATE) && fstat(fd, &st) == 0 &&
	       (uint64_t)st.st_dev == ram_dev && (uint64_t)st.st_ino == ram_ino &&
	       getpid() == owner;
}

static void report_mapping(void *address, size_t length_bytes, off_t offset_bytes)
{
	struct hf_report report = {
		.pid = (uint32_t)owner,
		.address = (uintptr_t)address,
		.length_bytes = ((uint64_t)length_bytes + TRACKED_PAGE_BYTES - 1) &
				~(uint64_t)(TRACKED_PAGE_BYTES - 1),
		.file_offset_bytes = (uint64_t)offset_bytes,
	};
	uint8_t buf[HF_REPORT_BYTES];

	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	report.tracking_errno = (uint32_t)track(report.address, report.length_bytes);
	hf_report_encode(&report, buf);
	/* A keeper that is gone or does not read must not stop or kill QEMU. */
	(void)send(report_fd, buf, sizeof(buf), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void *map(void *address, size_t length_bytes, int prot, int flags, int fd, off_t offset)
{
	long r = syscall(SYS_mmap, address, length_bytes, prot, flags, fd, offset);
	int saved_errno = errno;
	void *mapping = (void *)r; /* -1 is MAP_FAILED */

	if (mapping != MAP_FAILED && is_guest_ram(prot, flags, fd))
		report_mapping(mapping, length_bytes, offset);
	errno = saved_errno;
	return mapping;
}

/* libc's parameter names are reserved ones. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return map(address, length, prot, flags, fd, offset);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return map(address, length, prot, flags, fd, offset);
}

/* A number that ends in @end; the result is touched only when it does. */
static const char *parse_number(const char *text, int base, char end, uint64_t *ret)
{
	char *stop;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &stop, base);
	if (errno || stop == text || *stop != end)
		return NULL;
	*ret = n;
	return stop + 1;
}

static bool parse_environment(void)
{
	const char *ram = getenv(HF_REPORT_ENV_RAM), *fd = getenv(HF_REPORT_ENV_FD);
	uint64_t n;

	if (!ram || !fd)
		return false;
	ram = parse_number(ram, 16, ':', &ram_dev);
	if (!ram || !parse_number(ram, 16, '\0', &ram_ino))
		return false;
	if (!parse_number(fd, 10, '\0', &n) || n > INT32_MAX)
		return false;
	report_fd = (int)n;
	return fcntl(report_fd, F_SETFD, FD_CLOEXEC) == 0;
}

static void clean_environment(void)
{
	const char *former = getenv(HF_REPORT_ENV_PRELOAD);

	if (former && *former)
		(void)setenv("LD_PRELOAD", former, 1);
	else
		(void)unsetenv("LD_PRELOAD");
	(void)unsetenv(HF_REPORT_ENV_PRELOAD);
	(void)unsetenv(HF_REPORT_ENV_RAM);
	(void)unsetenv(HF_REPORT_ENV_FD);
}

__attribute__((constructor)) static void start(void)
{
	bool is_asked = parse_environment();
	int saved_errno = errno;

	/* Loaded by hand, without the keeper: then the environment is not ours to change. */
	if (getenv(HF_REPORT_ENV_RAM))
		clean_environment();
	if (is_asked)
		owner = getpid();
	errno = saved_errno;
}

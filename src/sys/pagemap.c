/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/pagemap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* From include/uapi/linux/fs.h of Linux 6.7, under our own names: older headers have none of it and
 * newer ones have all of it. */
#define SCAN_WP_MATCHING (UINT64_C(1) << 0)
#define SCAN_CHECK_WPASYNC (UINT64_C(1) << 1)
#define CATEGORY_WPALLOWED (UINT64_C(1) << 0)
#define CATEGORY_WRITTEN (UINT64_C(1) << 1)

struct scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

_Static_assert(sizeof(struct scan_arg) == 96, "struct pm_scan_arg as of Linux 6.7");
_Static_assert(sizeof(struct hf_page_region) == 24, "struct page_region");

#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct scan_arg)

static int open_proc(pid_t pid, const char *name, int flags, int *ret_fd)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int hf_pagemap_open(pid_t pid, int *ret_fd)
{
	return open_proc(pid, "pagemap", O_RDONLY, ret_fd);
}

int hf_pagemap_scan_written(int fd, struct hf_pagemap_scan *scan)
{
	struct scan_arg arg = {
		.size = sizeof(arg),
		.flags = SCAN_CHECK_WPASYNC | (scan->is_resetting ? SCAN_WP_MATCHING : 0),
		.start = scan->start,
		.end = scan->end,
		.vec = (uintptr_t)scan->regions,
		.vec_len = scan->max_regions,
		.max_pages = scan->max_pages,
		/* Exactly these: with others, kernels differ in whether an empty entry counts. */
		.category_mask = CATEGORY_WRITTEN,
		.return_mask = CATEGORY_WRITTEN,
	};
	int r;

	assert(scan->max_regions > 0);
	assert(scan->start <= scan->end);
	r = ioctl(fd, PAGEMAP_SCAN_REQUEST, &arg);
	if (r < 0)
		return -errno;
	assert((size_t)r <= scan->max_regions);
	assert(arg.walk_end <= scan->end);
	scan->n_regions = (size_t)r;
	scan->start = arg.walk_end;
	return 0;
}

int hf_pagemap_is_tracked(int fd, uint64_t address, uint64_t page_bytes, bool *ret)
{
	struct hf_page_region region;
	struct scan_arg arg = {
		.size = sizeof(arg),
		.flags = SCAN_CHECK_WPASYNC,
		.start = address,
		.end = address + page_bytes,
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_mask = CATEGORY_WPALLOWED,
		.return_mask = CATEGORY_WPALLOWED,
	};
	int r = ioctl(fd, PAGEMAP_SCAN_REQUEST, &arg);

	if (r < 0)
		return -errno;
	*ret = r == 1;
	return 0;
}

int hf_pagemap_read(int fd, uint64_t address, uint64_t *ret_entries, size_t n)
{
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	off_t at = (off_t)(address / page_bytes * sizeof(uint64_t));
	size_t want = n * sizeof(uint64_t), have = 0;

	while (have < want) {
		ssize_t r = pread(fd, (char *)ret_entries + have, want - have, at + (off_t)have);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return -ESRCH;
		have += (size_t)r;
	}
	return 0;
}

int hf_clear_refs_open(pid_t pid, int *ret_fd)
{
	return open_proc(pid, "clear_refs", O_WRONLY, ret_fd);
}

int hf_clear_refs_soft_dirty(int fd)
{
	ssize_t r;

	do
		r = pwrite(fd, "4", 1, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return r == 1 ? 0 : -EIO;
}

static int read_own_entry(const void *page, uint64_t *ret_entry)
{
	int fd = -1, r;

	r = open_proc(getpid(), "pagemap", O_RDONLY, &fd);
	if (r < 0)
		return r;
	r = hf_pagemap_read(fd, (uintptr_t)page, ret_entry, 1);
	(void)close(fd);
	return r;
}

int hf_soft_dirty_probe(bool *ret)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	uint64_t entry = 0;
	char *page;
	int r;

	page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -errno;
	*(volatile char *)page = 1;
	r = read_own_entry(page, &entry);
	(void)munmap(page, page_bytes);
	if (r < 0)
		return r;
	if (!(entry & HF_PAGEMAP_PRESENT))
		return -EIO;
	*ret = (entry & HF_PAGEMAP_SOFT_DIRTY) != 0;
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/memfd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/text.h"
#include "sys/fd.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* Linux 6.3 */
#endif

static uint64_t page_bytes_of(enum hf_ram_pages pages)
{
	switch (pages) {
	case HF_RAM_PAGES_2M:
		return UINT64_C(1) << 21;
	case HF_RAM_PAGES_1G:
		return UINT64_C(1) << 30;
	case HF_RAM_PAGES_DEFAULT:
	default:
		return (uint64_t)sysconf(_SC_PAGESIZE);
	}
}

static unsigned int huge_flags(enum hf_ram_pages pages)
{
	if (pages == HF_RAM_PAGES_2M)
		return MFD_HUGETLB | MFD_HUGE_2MB;
	return pages == HF_RAM_PAGES_1G ? MFD_HUGETLB | MFD_HUGE_1GB : 0;
}

/* Hosts that forbid executable memory files (vm.memfd_noexec=2) want to hear that ours is none;
 * kernels before 6.3 do not know the flag. */
static int create(const char *name, unsigned int flags)
{
	int fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

static int size_and_seal(int fd, uint64_t size_bytes)
{
	if (ftruncate(fd, (off_t)size_bytes) < 0)
		return -errno;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ? -errno : 0;
}

/* Without MAP_NORESERVE for huge pages: the reservation is what makes a shortage visible here. */
static int map_ram(struct hf_ram *ram, enum hf_ram_pages pages)
{
	int flags = MAP_SHARED | (pages == HF_RAM_PAGES_DEFAULT ? MAP_NORESERVE : 0);
	void *p = mmap(NULL, ram->size_bytes, PROT_READ | PROT_WRITE, flags, ram->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	ram->base = p;
	return madvise(p, ram->size_bytes, MADV_DONTDUMP) < 0 ? -errno : 0;
}

static void explain(int r, enum hf_ram_pages pages, const struct hf_ram *ram, struct hf_err *err)
{
	char size[HF_TEXT_QUANTITY], page[HF_TEXT_QUANTITY];

	(void)hf_format_size(ram->size_bytes, size, sizeof(size));
	(void)hf_format_size(ram->page_bytes, page, sizeof(page));
	if (pages == HF_RAM_PAGES_DEFAULT)
		hf_err_set(err, "cannot make %s of guest RAM: %s", size, strerror(-r));
	else
		hf_err_set(err,
			   "cannot make %s of guest RAM in pages of %s: %s; %llu free pages are "
			   "needed, "
			   "see /sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
			   size, page, strerror(-r),
			   (unsigned long long)(ram->size_bytes / ram->page_bytes),
			   (unsigned long long)(ram->page_bytes / 1024));
}

static int check_size(const struct hf_ram *ram, struct hf_err *err)
{
	char page[HF_TEXT_QUANTITY];

	if (ram->size_bytes > 0 && ram->size_bytes % ram->page_bytes == 0 &&
	    ram->size_bytes <= (uint64_t)INT64_MAX)
		return 0;
	hf_err_set(err, "guest RAM of %llu bytes is not possible: a multiple of %s is needed",
		   (unsigned long long)ram->size_bytes,
		   hf_format_size(ram->page_bytes, page, sizeof(page)));
	return -EINVAL;
}

int hf_ram_open(const char *name, enum hf_ram_pages pages, uint64_t size_bytes, struct hf_ram *ret,
		struct hf_err *err)
{
	struct hf_ram ram = { .fd = -1,
			      .size_bytes = size_bytes,
			      .page_bytes = page_bytes_of(pages) };
	int r = check_size(&ram, err);

	if (r < 0)
		return r;
	r = create(name, huge_flags(pages));
	if (r >= 0) {
		ram.fd = r;
		r = size_and_seal(ram.fd, size_bytes);
	}
	if (r == 0)
		r = map_ram(&ram, pages);
	if (r < 0) {
		explain(r, pages, &ram, err);
		hf_ram_close(&ram);
		return r;
	}
	*ret = ram;
	return 0;
}

void hf_ram_close(struct hf_ram *ram)
{
	if (ram->base)
		(void)munmap(ram->base, ram->size_bytes);
	ram->base = NULL;
	hf_fd_close(&ram->fd);
}

/* Moves the file's position, which nobody uses: both processes map the file. */
int hf_ram_next_data(const struct hf_ram *ram, uint64_t from, uint64_t *ret_start,
		     uint64_t *ret_end)
{
	off_t start, end;

	assert(from <= ram->size_bytes);
	start = lseek(ram->fd, (off_t)from, SEEK_DATA);
	if (start < 0)
		return errno == ENXIO ? HF_RAM_NO_MORE_DATA : -errno;
	end = lseek(ram->fd, start, SEEK_HOLE);
	if (end < 0) {
		if (errno != ENXIO) /* freed by the other process in between: nothing there now */
			return -errno;
		return HF_RAM_NO_MORE_DATA;
	}
	if (end == start)
		end = start + (off_t)ram->page_bytes;
	*ret_start = (uint64_t)start;
	*ret_end = (uint64_t)end < ram->size_bytes ? (uint64_t)end : ram->size_bytes;
	return 0;
}

void hf_ram_zero(struct hf_ram *ram, uint64_t offset, uint64_t len_bytes)
{
	uint64_t mask = ram->page_bytes - 1;
	uint64_t end = offset + len_bytes;
	uint64_t first = (offset + mask) & ~mask, last = end & ~mask;

	assert(offset <= ram->size_bytes);
	assert(len_bytes <= ram->size_bytes - offset);
	if (first >= last) {
		memset(ram->base + offset, 0, len_bytes);
		return;
	}
	memset(ram->base + offset, 0, first - offset);
	memset(ram->base + last, 0, end - last);
	if (fallocate(ram->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)first,
		      (off_t)(last - first)) < 0)
		memset(ram->base + first, 0, last - first);
}

static int map_twice(int fd, size_t size, uint8_t **ret_base)
{
	uint8_t *base = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r = 0;

	if (base == MAP_FAILED)
		return -errno;
	for (int i = 0; i < 2 && r == 0; i++) {
		if (mmap(base + (size_t)i * size, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
			r = -errno;
	}
	if (r < 0) {
		(void)munmap(base, 2 * size);
		return r;
	}
	*ret_base = base;
	return 0;
}

int hf_mirror_open(size_t min_bytes, struct hf_mirror *ret)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size = (min_bytes + page - 1) / page * page;
	uint8_t *base;
	int fd, r;

	assert(min_bytes > 0);
	assert(min_bytes < SIZE_MAX / 4);
	fd = create("holdfast-ring", 0);
	if (fd < 0)
		return fd;
	r = size_and_seal(fd, size);
	if (r == 0)
		r = map_twice(fd, size, &base);
	hf_fd_close(&fd);
	if (r == 0)
		*ret = (struct hf_mirror){ .base = base, .size_bytes = size };
	return r;
}

void hf_mirror_close(struct hf_mirror *m)
{
	if (m->base)
		(void)munmap(m->base, 2 * m->size_bytes);
	m->base = NULL;
}

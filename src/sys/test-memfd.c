/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/memfd.h"

#define SIZE (UINT64_C(64) << 20)

static uint64_t allocated_bytes(const struct hf_ram *ram)
{
	struct stat st;

	CHECK_EQ(fstat(ram->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

TEST(ram_is_shared_sealed_and_empty)
{
	struct hf_ram ram = HF_RAM_NONE;
	uint64_t start, end;
	uint8_t *other;

	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, SIZE, &ram, NULL), 0);
	CHECK_EQ(allocated_bytes(&ram), 0);
	CHECK_EQ(hf_ram_next_data(&ram, 0, &start, &end), HF_RAM_NO_MORE_DATA);
	other = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, ram.fd, 0);
	CHECK(other != MAP_FAILED);
	ram.base[SIZE - 1] = 42;
	CHECK_EQ(other[SIZE - 1], 42);
	CHECK_EQ(ftruncate(ram.fd, 4096), -1);
	CHECK_EQ(errno, EPERM);
	CHECK_EQ(ftruncate(ram.fd, 2 * (off_t)SIZE), -1);
	CHECK_EQ(munmap(other, SIZE), 0);
	hf_ram_close(&ram);
	hf_ram_close(&ram);
	CHECK_EQ(ram.fd, -1);
}

TEST(holes_are_skipped_and_not_allocated)
{
	struct hf_ram ram = HF_RAM_NONE;
	uint64_t start, end, page, before;

	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, SIZE, &ram, NULL), 0);
	page = ram.page_bytes;
	ram.base[10 * page + 7] = 1;
	ram.base[11 * page] = 1;
	ram.base[SIZE - 1] = 1;
	before = allocated_bytes(&ram);
	CHECK_EQ(hf_ram_next_data(&ram, 0, &start, &end), 0);
	/* Transparent huge pages may make it larger, never smaller. */
	CHECK(start <= 10 * page);
	CHECK(end >= 12 * page);
	CHECK_EQ(hf_ram_next_data(&ram, end, &start, &end), 0);
	CHECK(start < SIZE);
	CHECK_EQ(end, SIZE);
	CHECK_EQ(hf_ram_next_data(&ram, SIZE, &start, &end), HF_RAM_NO_MORE_DATA);
	CHECK_EQ(allocated_bytes(&ram), before);
	hf_ram_close(&ram);
}

TEST(zeroing_frees_whole_pages_and_keeps_the_neighbours)
{
	struct hf_ram ram = HF_RAM_NONE;
	uint64_t page, before;

	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, SIZE, &ram, NULL), 0);
	page = ram.page_bytes;
	memset(ram.base, 0xee, SIZE);
	before = allocated_bytes(&ram);
	CHECK_EQ(before, SIZE);
	hf_ram_zero(&ram, page + 100, SIZE / 2);
	/* Before anything is read: reading a hole through a shared mapping allocates it. */
	CHECK_EQ(allocated_bytes(&ram), SIZE / 2 + page);
	CHECK_EQ(ram.base[page + 99], 0xee);
	CHECK_EQ(ram.base[page + 100], 0);
	CHECK_EQ(ram.base[page + 100 + SIZE / 2 - 1], 0);
	CHECK_EQ(ram.base[page + 100 + SIZE / 2], 0xee);
	for (uint64_t i = page + 100; i < page + 100 + SIZE / 2; i += 64)
		CHECK_EQ(ram.base[i], 0);
	hf_ram_zero(&ram, 10, 20); /* less than a page */
	CHECK_EQ(ram.base[9], 0xee);
	CHECK_EQ(ram.base[10], 0);
	CHECK_EQ(ram.base[29], 0);
	CHECK_EQ(ram.base[30], 0xee);
	hf_ram_zero(&ram, 0, SIZE);
	CHECK_EQ(allocated_bytes(&ram), 0);
	hf_ram_zero(&ram, SIZE, 0);
	hf_ram_close(&ram);
}

TEST(sizes_that_cannot_be)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_err err;

	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, 0, &ram, &err), -EINVAL);
	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, 5000, &ram, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "5000 bytes");
	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_2M, 4096, &ram, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "2.0 MiB");
	CHECK_EQ(ram.fd, -1);
}

/* More than any test machine keeps free: the shortage must be told now, with what to do. */
TEST(a_lack_of_huge_pages_is_an_error_now)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_err err = { "" };

	CHECK(hf_ram_open("test", HF_RAM_PAGES_2M, UINT64_C(1) << 44, &ram, &err) < 0);
	CHECK_CONTAINS(err.text, "hugepages-2048kB/nr_hugepages");
	CHECK_CONTAINS(err.text, "16.0 TiB");
	CHECK_EQ(ram.fd, -1);
}

TEST(the_mirror)
{
	struct hf_mirror m = { 0 };

	CHECK_EQ(hf_mirror_open(5000, &m), 0);
	CHECK(m.size_bytes >= 5000);
	memcpy(m.base + m.size_bytes - 3, "abcdef", 6);
	CHECK(memcmp(m.base, "def", 3) == 0);
	m.base[1] = 'E';
	CHECK_EQ(m.base[m.size_bytes + 1], 'E');
	hf_mirror_close(&m);
	hf_mirror_close(&m);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/memfd.h"
#include "vm/offload.h"

#define RAM_BYTES (UINT64_C(256) << 20)
#define PAGE 4096

static char folder[64], path[80];

static void clean_up(void)
{
	char name[96];

	(void)unlink(path);
	(void)snprintf(name, sizeof(name), "%s.new", path);
	(void)unlink(name);
	(void)rmdir(folder);
}

static void make_folder(void)
{
	if (*folder)
		return;
	(void)snprintf(folder, sizeof(folder), "/tmp/holdfast-offload-XXXXXX");
	CHECK(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/ram", folder);
	CHECK_EQ(atexit(clean_up), 0);
}

/* Data at both ends and in the middle; a page written with zeros; a stretch with a page of zeros in it. */
static void fill(struct hf_ram *ram)
{
	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, RAM_BYTES, ram, NULL), 0);
	ram->base[0] = 1;
	memset(ram->base + (10 << 20), 0, PAGE);
	memset(ram->base + (20 << 20), 7, 9 << 20);
	memset(ram->base + (21 << 20), 0, (size_t)3 * PAGE);
	ram->base[RAM_BYTES - 1] = 9;
}

static uint64_t copy(struct hf_offload *o)
{
	struct hf_err err = { "" };
	unsigned int steps = 0;
	uint64_t before = 0;
	int r;

	while ((r = hf_offload_step(o, &err)) == HF_OFFLOAD_MORE) {
		CHECK(hf_offload_done_bytes(o) > before);
		before = hf_offload_done_bytes(o);
		CHECK(++steps < 1000);
	}
	if (r < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	CHECK_EQ(hf_offload_done_bytes(o), RAM_BYTES);
	CHECK(steps >= 5); /* 4 MiB at once, no more */
	return hf_offload_written_bytes(o);
}

static void compare(const struct hf_ram *ram)
{
	static uint8_t buf[1 << 20];
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, RAM_BYTES);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK(st.st_blocks * 512 < 12 << 20); /* sparse */
	for (uint64_t at = 0; at < RAM_BYTES; at += sizeof(buf)) {
		CHECK_EQ(pread(fd, buf, sizeof(buf), (off_t)at), sizeof(buf));
		CHECK_EQ(memcmp(buf, ram->base + at, sizeof(buf)), 0);
	}
	hf_fd_close(&fd);
}

TEST(a_sparse_copy)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_offload *o = NULL;
	uint64_t written;

	make_folder();
	fill(&ram);
	CHECK_EQ(hf_offload_open(ram.fd, RAM_BYTES, path, 0, &o, NULL), 0);
	CHECK_EQ(access(path, F_OK), -1); /* not before it is whole */
	written = copy(o);
	CHECK_EQ(written, (9 << 20) - 3 * PAGE + 2 * PAGE);
	CHECK_EQ(access(path, F_OK), -1);
	CHECK_EQ(hf_offload_finish(o, NULL), 0);
	hf_offload_free(o);
	compare(&ram);
	CHECK_EQ(unlink(path), 0);
	hf_ram_close(&ram);
}

TEST(empty_memory)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_offload *o = NULL;

	make_folder();
	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, RAM_BYTES, &ram, NULL), 0);
	CHECK_EQ(hf_offload_open(ram.fd, RAM_BYTES, path, 0, &o, NULL), 0);
	CHECK_EQ(hf_offload_step(o, NULL), 0);
	CHECK_EQ(hf_offload_finish(o, NULL), 0);
	CHECK_EQ(hf_offload_written_bytes(o), 0);
	hf_offload_free(o);
	compare(&ram);
	CHECK_EQ(unlink(path), 0);
	hf_ram_close(&ram);
}

TEST(space_that_is_not_there)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_offload *o = NULL;
	struct hf_err err = { "" };
	char name[96];

	make_folder();
	fill(&ram);
	CHECK_EQ(hf_offload_open(ram.fd, RAM_BYTES, path, 8 << 20, &o, &err), -ENOSPC);
	CHECK_CONTAINS(err.text,
		       "9.0 MiB of memory do not fit: 8.0 MiB are allowed (frozen-space)");
	CHECK_EQ(hf_offload_open(ram.fd, RAM_BYTES, "/nonexistent/ram", 0, &o, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "cannot make /nonexistent/ram.new");
	(void)snprintf(name, sizeof(name), "%s.new", path);
	CHECK_EQ(access(name, F_OK), -1); /* nothing is left behind */
	hf_ram_close(&ram);
}

TEST(given_up)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_offload *o = NULL;
	char name[96];

	make_folder();
	fill(&ram);
	CHECK_EQ(hf_offload_open(ram.fd, RAM_BYTES, path, 0, &o, NULL), 0);
	CHECK_EQ(hf_offload_step(o, NULL), HF_OFFLOAD_MORE);
	hf_offload_free(o);
	(void)snprintf(name, sizeof(name), "%s.new", path);
	CHECK_EQ(access(name, F_OK), -1);
	CHECK_EQ(access(path, F_OK), -1);
	hf_offload_free(NULL);
	hf_ram_close(&ram);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Read back with a parser of its own, and by readelf's structures of <elf.h>. */
#include "vm/elfcore.h"

#include "../../tests/test.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static int memory(uint64_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void put(int fd, uint64_t at, const char *text)
{
	CHECK_EQ(pwrite(fd, text, strlen(text), (off_t)at), (ssize_t)strlen(text));
}

static void get(int fd, uint64_t at, void *to, size_t n)
{
	CHECK_EQ(pread(fd, to, n, (off_t)at), (ssize_t)n);
}

/* What a debugger does: the byte at a physical address. */
static bool find_physical(int fd, uint64_t address, char *to, size_t n)
{
	Elf64_Ehdr e;
	Elf64_Phdr p;

	get(fd, 0, &e, sizeof(e));
	for (unsigned int i = 0; i < e.e_phnum; i++) {
		get(fd, e.e_phoff + i * e.e_phentsize, &p, sizeof(p));
		if (p.p_type != PT_LOAD || address < p.p_paddr ||
		    address + n > p.p_paddr + p.p_filesz)
			continue;
		get(fd, p.p_offset + (address - p.p_paddr), to, n);
		return true;
	}
	return false;
}

static const struct hf_ram_part parts[] = {
	{ .address = 0, .bytes = 3 * MIB, .offset = 0 },
	{ .address = (uint64_t)4 << 30, .bytes = MIB, .offset = 3 * MIB },
};

TEST(memory_is_found_at_its_physical_address)
{
	int ram = memory(4 * MIB), out = memory(0);
	struct hf_elfcore e = { .ram_fd = ram,
				.part = parts,
				.n_parts = 2,
				.machine = EM_X86_64,
				.note = "VM one, frozen" };
	char text[6] = "";

	put(ram, 0x7c00, "boot!");
	put(ram, 3 * MIB - 5, "below");
	put(ram, 3 * MIB, "above");
	put(ram, 4 * MIB - 5, "last.");
	CHECK_EQ(hf_elfcore_write(&e, out, NULL, NULL), 0);
	CHECK(find_physical(out, 0x7c00, text, 5));
	CHECK_STR(text, "boot!");
	CHECK(find_physical(out, 3 * MIB - 5, text, 5));
	CHECK_STR(text, "below");
	CHECK(find_physical(out, (uint64_t)4 << 30, text, 5));
	CHECK_STR(text, "above");
	CHECK(find_physical(out, ((uint64_t)4 << 30) + MIB - 5, text, 5));
	CHECK_STR(text, "last.");
	CHECK(!find_physical(out, 3 * MIB, text, 1)); /* the hole below 4 GiB */
	close(ram);
	close(out);
}

TEST(it_is_a_core_that_says_where_it_is_from)
{
	int ram = memory(4 * MIB), out = memory(0);
	struct hf_elfcore e = { .ram_fd = ram,
				.part = parts,
				.n_parts = 2,
				.machine = EM_AARCH64,
				.note = "VM one, frozen" };
	Elf64_Ehdr h;
	Elf64_Phdr p;
	Elf64_Nhdr n;
	char text[32] = "";

	CHECK_EQ(hf_elfcore_write(&e, out, NULL, NULL), 0);
	get(out, 0, &h, sizeof(h));
	CHECK_EQ(memcmp(h.e_ident, ELFMAG, SELFMAG), 0);
	CHECK_EQ(h.e_ident[EI_CLASS], ELFCLASS64);
	CHECK_EQ(h.e_type, ET_CORE);
	CHECK_EQ(h.e_machine, EM_AARCH64);
	CHECK_EQ(h.e_phnum, 3);
	get(out, h.e_phoff, &p, sizeof(p));
	CHECK_EQ(p.p_type, PT_NOTE);
	get(out, p.p_offset, &n, sizeof(n));
	CHECK_EQ(n.n_namesz, 9);
	CHECK_EQ(p.p_filesz, sizeof(n) + 12 + ((n.n_descsz + 3) & ~3u));
	get(out, p.p_offset + sizeof(n), text, 9);
	CHECK_STR(text, "holdfast");
	get(out, p.p_offset + sizeof(n) + 12, text, n.n_descsz);
	CHECK_STR(text, "VM one, frozen");
	close(ram);
	close(out);
}

TEST(what_was_never_written_takes_no_room)
{
	int ram = memory(64 * MIB), out = memory(0);
	struct hf_ram_part one = { .bytes = 64 * MIB };
	struct hf_elfcore e = {
		.ram_fd = ram, .part = &one, .n_parts = 1, .machine = EM_X86_64, .note = ""
	};
	char zeros[8192] = { 0 };
	struct stat st;

	put(ram, 40 * MIB, "here");
	CHECK_EQ(pwrite(ram, zeros, sizeof(zeros), (off_t)(10 * MIB)), (ssize_t)sizeof(zeros));
	CHECK_EQ(hf_elfcore_write(&e, out, NULL, NULL), 0);
	CHECK_EQ(fstat(out, &st), 0);
	CHECK(st.st_size >= (off_t)(64 * MIB));
	CHECK(st.st_blocks * 512 <= 16384); /* head, one block */
	close(ram);
	close(out);
}

static bool stop_at_half(void *ctx, uint64_t done_bytes)
{
	uint64_t *last = ctx;

	CHECK(done_bytes >= *last);
	*last = done_bytes;
	return done_bytes < 32 * MIB;
}

TEST(it_can_be_called_off_and_bad_wishes_are_refused)
{
	int ram = memory(64 * MIB), out = memory(0);
	struct hf_ram_part one = { .bytes = 64 * MIB };
	struct hf_elfcore e = { .ram_fd = ram, .part = &one, .n_parts = 1, .note = "" };
	uint64_t last = 0;

	for (uint64_t at = 0; at < 64 * MIB; at += MIB / 2)
		put(ram, at, "x");
	CHECK_EQ(hf_elfcore_write(&e, out, stop_at_half, &last), -ECANCELED);
	CHECK(last >= 32 * MIB && last < 64 * MIB);
	one.bytes = 65 * MIB;
	one.offset = MIB / 2;
	put(ram, 64 * MIB - 1, "x");
	CHECK_EQ(hf_elfcore_write(&(struct hf_elfcore){ .note = "" }, out, NULL, NULL), -EINVAL);
	e.n_parts = HF_CERTIFICATE_RAM_PARTS_MAX + 1;
	CHECK_EQ(hf_elfcore_write(&e, out, NULL, NULL), -EINVAL);
	close(ram);
	close(out);
}

TEST(machines_go_by_the_programs_name)
{
	CHECK_EQ(hf_elfcore_machine("/usr/bin/qemu-system-x86_64"), EM_X86_64);
	CHECK_EQ(hf_elfcore_machine("qemu-system-aarch64"), EM_AARCH64);
	CHECK_EQ(hf_elfcore_machine("kvm"), EM_NONE);
}

TEST(room_is_looked_at)
{
	struct hf_err err = { "" };

	CHECK_EQ(hf_sparse_check_space("/", 1, &err), 0);
	CHECK_EQ(hf_sparse_check_space("/", UINT64_C(1) << 62, &err), -ENOSPC);
	CHECK_CONTAINS(err.text, "are needed");
	CHECK(hf_sparse_check_space("/nowhere", 1, &err) < 0);
}

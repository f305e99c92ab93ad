/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory in an anonymous file: guest RAM that QEMU and the keeper share, and a ring that is mapped
 * twice. Layer: sys. Any thread, one at a time for one object.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum hf_ram_pages {
	HF_RAM_PAGES_DEFAULT, /* the system's, with transparent huge pages as it is configured */
	HF_RAM_PAGES_2M,
	HF_RAM_PAGES_1G,
};

/* Guest RAM. HF_RAM_NONE when there is none. */
struct hf_ram {
	int fd; /* give it to QEMU as memory-backend-file,share=on,mem-path=/proc/self/fd/N */
	uint8_t *base; /* shared mapping of all of it; not in core dumps */
	uint64_t size_bytes;
	uint64_t page_bytes; /* smallest unit that the file allocates and frees */
};

#define HF_RAM_NONE ((struct hf_ram){ .fd = -1 })

/**
 * hf_ram_open() - make guest RAM, all zero
 * @name: what /proc/PID/maps shows, up to 200 characters
 * @size_bytes: more than 0, a multiple of the page size
 * The size is sealed: neither process can shrink the file under the other (SIGBUS). Huge pages are
 * reserved here, so that a shortage is an error now and not a SIGBUS later; other memory is taken
 * when it is first written.
 * Return: 0; -EINVAL: the size; -ENOMEM: not enough (huge) pages; other -errno. @err says the size
 * and what to do.
 */
int hf_ram_open(const char *name, enum hf_ram_pages pages, uint64_t size_bytes, struct hf_ram *ret,
		struct hf_err *err) HF_MUST_CHECK;

/* Unmaps and closes; the memory lives on as long as QEMU has it. Takes HF_RAM_NONE. */
void hf_ram_close(struct hf_ram *ram);

enum hf_ram_data {
	HF_RAM_NO_MORE_DATA = 1,
};

/**
 * hf_ram_next_data() - the next range that may hold anything but zeros
 * @from: byte to begin at, <= size
 * Skips what was never written, without allocating it. Huge pages count as data everywhere: that
 * file system does not tell (linux/fs/hugetlbfs/inode.c has no SEEK_DATA).
 * Return: 0 with *ret_start < *ret_end; HF_RAM_NO_MORE_DATA; -errno.
 */
int hf_ram_next_data(const struct hf_ram *ram, uint64_t from, uint64_t *ret_start,
		     uint64_t *ret_end) HF_MUST_CHECK;

/**
 * hf_ram_zero() - make a range read as zeros, and give back the memory of its whole pages
 * @offset, @len_bytes: inside the RAM; any alignment
 * Cannot fail: what the kernel refuses to free is overwritten.
 */
void hf_ram_zero(struct hf_ram *ram, uint64_t offset, uint64_t len_bytes);

/*
 * A ring buffer mapped twice in a row: base[i] and base[i + size_bytes] are the same byte, so each
 * stretch of up to size_bytes is contiguous wherever it begins.
 */
struct hf_mirror {
	uint8_t *base; /* NULL when there is none */
	size_t size_bytes;
};

/* @min_bytes is rounded up to whole pages. Memory is taken as it is written. 0 or -errno. */
int hf_mirror_open(size_t min_bytes, struct hf_mirror *ret) HF_MUST_CHECK;
void hf_mirror_close(struct hf_mirror *m);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's records of which pages a process has written: PAGEMAP_SCAN (Linux 6.7) and the
 * soft-dirty bit (Linux 3.11 with CONFIG_MEM_SOFT_DIRTY). Layer: sys. Any thread; one descriptor
 * may be used by several threads at once. Nothing allocates. Calls block as long as walking the
 * page tables of the range takes, and on the process's mmap lock.
 *
 * Sources: Documentation/admin-guide/mm/pagemap.rst and soft-dirty.rst, include/uapi/linux/fs.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* A run of pages: addresses, page-aligned, @end not included. Laid out like struct page_region. */
struct hf_page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories; /* as the kernel gave them; of no use to callers */
};

/* One scan. The first block is the caller's, the second the result. */
struct hf_pagemap_scan {
	uint64_t start; /* page-aligned; moved forward to where a next call has to go on */
	uint64_t end; /* the scan is complete when start == end */
	bool is_resetting; /* also make the reported pages count as not written */
	uint64_t max_pages; /* stop once so many are found; 0: no limit */
	struct hf_page_region *regions;
	size_t max_regions; /* at least 1 */

	size_t n_regions; /* filled by the last call */
};

/**
 * hf_pagemap_open() - the page map of process @pid as it is now
 * It belongs to the memory the process has at this moment: after an execve it shows the old one,
 * which is empty. Needs the right to trace the process. The caller closes @ret_fd.
 * Return: 0; -ENOENT, -ESRCH: no such process; -EACCES, -EPERM: not allowed.
 */
int hf_pagemap_open(pid_t pid, int *ret_fd) HF_MUST_CHECK;

/**
 * hf_pagemap_scan_written() - find the pages written since the last reset, and perhaps reset them
 *
 * Call again while scan->start < scan->end: one call stops when regions or max_pages are reached.
 *
 * Each page is read and reset in one step under its page table's lock, and the call
 * returns only after the processors have forgotten the old write permission (TLB and, for KVM, the
 * second-level tables). So a write either is in memory and reported when the call returns, or will
 * be reported by a later call. A page table entry that was never filled or was taken away counts as
 * written if its neighbours (in the same 2 MiB) are in use; newer kernels report wholly unused
 * ranges too, once. So more may be reported than was written, never less.
 *
 * A range of huge pages must consist of whole ones when resetting. A process that is gone has no
 * pages, which is no error here: see hf_pagemap_is_tracked().
 * Return: 0; -ENOTTY: kernel before 6.7; -EPERM: a mapping in the range is not registered for
 * asynchronous write-protection; -EINVAL: misaligned; -EINTR: killed.
 */
int hf_pagemap_scan_written(int fd, struct hf_pagemap_scan *scan) HF_MUST_CHECK;

/**
 * hf_pagemap_is_tracked() - whether the page at @address is still part of a registered mapping
 * @page_bytes: size of a page there
 * The proof that a scan that found nothing looked at something: page table entries vanish before
 * the mapping does when a process dies, and count as written until then.
 * Return: 0 and *ret; or as hf_pagemap_scan_written(), except that a missing mapping is *ret false.
 */
int hf_pagemap_is_tracked(int fd, uint64_t address, uint64_t page_bytes, bool *ret) HF_MUST_CHECK;

#define HF_PAGEMAP_SOFT_DIRTY (UINT64_C(1) << 55)
#define HF_PAGEMAP_PRESENT (UINT64_C(1) << 63)

/**
 * hf_pagemap_read() - the raw entries of @n pages of the kernel's page size from @address on
 * Return: 0; -ESRCH: the process is gone; -errno of read.
 */
int hf_pagemap_read(int fd, uint64_t address, uint64_t *ret_entries, size_t n) HF_MUST_CHECK;

/**
 * hf_clear_refs_open() - the file that resets the soft-dirty bits of process @pid
 * The caller closes @ret_fd. Return: as hf_pagemap_open().
 */
int hf_clear_refs_open(pid_t pid, int *ret_fd) HF_MUST_CHECK;

/**
 * hf_clear_refs_soft_dirty() - reset the soft-dirty bits of the whole process
 * Returns after the TLBs are flushed: a later write is seen by a later hf_pagemap_read(). What was
 * written between an earlier read and this call is lost: nothing may write meanwhile.
 * Return: 0; -ESRCH: the process is gone; -errno of write.
 */
int hf_clear_refs_soft_dirty(int fd) HF_MUST_CHECK;

/* Whether this kernel keeps soft-dirty bits, tried on a page of our own. Return: 0 or -errno. */
int hf_soft_dirty_probe(bool *ret) HF_MUST_CHECK;

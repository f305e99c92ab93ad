/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tracking by the soft-dirty bit of page table entries.
 *
 * Theory of operation
 *
 * Writing 4 to /proc/PID/clear_refs makes every page of the process read-only for a moment's sake:
 * the next write faults, and the kernel sets bit 55 of the page's entry in /proc/PID/pagemap.
 * Reading all entries and clearing all bits are two steps, so a collect that resets is right only
 * while nothing writes (tracker.h). clear_refs returns after the TLBs are flushed and, for KVM, the
 * MMU notifiers have run, so whatever is written after cont sets its bit again.
 *
 * The bit lives in the entry alone and goes with it:
 *  - tmpfs pages that are swapped out lose their entry. So guest RAM must be locked, or the machine
 *    be without swap; otherwise this mode is refused.
 *  - Huge pages of tmpfs lose 512 entries when they are split: refused, see tracker-scan.c.
 *  - Pages of hugetlbfs have no soft-dirty bit at all: refused.
 *
 * A mapping made since the last clear counts as written as a whole. Clearing concerns the whole
 * process, so two trackers on one process would take each other's pages: one mapping per QEMU.
 */
#include <errno.h>
#include <string.h>

#include "sys/pagemap.h"
#include "vm/tracker-internal.h"

/* 8 KiB of stack: 4 MiB of guest per system call. */
#define ENTRIES 1024

static void add_written(const struct hf_tracker *t, struct hf_tracker_slice *slice, uint64_t start,
			const uint64_t *entries, size_t n)
{
	uint64_t page_bytes = t->mapping.page_bytes;

	for (size_t i = 0, run; i < n; i += run + 1) {
		for (run = 0; i + run < n && (entries[i + run] & HF_PAGEMAP_SOFT_DIRTY);)
			run++;
		if (run)
			hf_tracker_slice_add(t, slice, start + i * page_bytes,
					     start + (i + run) * page_bytes);
	}
}

static int softdirty_read(const struct hf_tracker *t, struct hf_tracker_slice *slice)
{
	uint64_t entries[ENTRIES];

	for (uint64_t at = slice->start; at < slice->end;) {
		uint64_t n = (slice->end - at) / t->mapping.page_bytes;
		int r;

		if (slice->max_pages && slice->n_pages >= slice->max_pages)
			return 0;
		n = n < ENTRIES ? n : ENTRIES;
		r = hf_pagemap_read(t->pagemap_fd, at, entries, n);
		if (r < 0)
			return r;
		add_written(t, slice, at, entries, n);
		at += n * t->mapping.page_bytes;
	}
	return 0;
}

static int softdirty_finish(struct hf_tracker *t, bool is_resetting)
{
	return is_resetting ? hf_clear_refs_soft_dirty(t->clear_refs_fd) : 0;
}

/* Whether the bits, where the kernel has them, could get lost here. */
static int check_kept(const struct hf_tracker *t, struct hf_err *err)
{
	if (t->mapping.page_bytes > HF_TRACKER_PAGE_BYTES) {
		hf_err_set(err, "soft-dirty does not see writes to huge pages");
		return -EOPNOTSUPP;
	}
	if (!t->mapping.is_locked && !t->config.is_ram_locked && hf_tracker_has_swap()) {
		hf_err_set(err, "soft-dirty forgets pages that are swapped out: lock guest RAM "
				"(QEMU's -overcommit mem-lock=on) or turn swap off");
		return -EOPNOTSUPP;
	}
	return 0;
}

static int open_files(struct hf_tracker *t, struct hf_err *err)
{
	int r = 0;

	if (t->pagemap_fd < 0)
		r = hf_pagemap_open(t->config.pid, &t->pagemap_fd);
	if (r == 0 && t->clear_refs_fd < 0)
		r = hf_clear_refs_open(t->config.pid, &t->clear_refs_fd);
	if (r < 0)
		hf_err_set(err, "cannot open pagemap and clear_refs of process %ld: %s",
			   (long)t->config.pid, strerror(-r));
	return r;
}

static int softdirty_probe(struct hf_tracker *t, struct hf_err *err)
{
	bool has_bit;
	int r;

	r = hf_soft_dirty_probe(&has_bit);
	if (r < 0) {
		hf_err_set(err, "cannot find out about soft-dirty: %s", strerror(-r));
		return r;
	}
	if (!has_bit) {
		hf_err_set(err, "this kernel keeps no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)");
		return -EOPNOTSUPP;
	}
	r = check_kept(t, err);
	return r < 0 ? r : open_files(t, err);
}

const struct hf_tracker_ops hf_tracker_softdirty_ops = {
	.name = "soft-dirty",
	.may_reset_running = false,
	.probe = softdirty_probe,
	.read = softdirty_read,
	.finish = softdirty_finish,
};

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tracking by PAGEMAP_SCAN over a mapping that the preloaded library has registered with
 * userfaultfd.
 *
 * Theory of operation
 *
 * In a mapping registered for asynchronous write-protection a page is writable only while its
 * entry's write-protect mark is off, and "written" is simply the absence of the mark. A write to a
 * marked page faults; the kernel takes the mark off and lets it pass. So no page can be written and
 * count as not written, whatever runs at the same time: that is the whole argument, and these are
 * its cases.
 *
 *  - A write races with the reset of its page. The kernel reports, marks and flushes the TLB under
 *    the lock of the page table, and ends KVM's use of the old entry by MMU notifiers around the
 *    walk. The write either lands before the flush, so it is in memory when the scan returns, and
 *    the page is in the report; or it faults, after the lock is free, and takes the mark off.
 *  - An empty entry, because the page was never touched or was taken away by reclaim: an entry that
 *    was marked leaves a marker behind. One that was not leaves nothing, and counts as written.
 *  - A whole page table (2 MiB) that was never filled: newer kernels report it once as written and
 *    mark it. Older ones skip it; then the first write fills one entry without a mark, and its 511
 *    empty neighbours count as written once.
 *  - A whole page table taken away: those older kernels forget its unmarked entries. The kernel
 *    does it where it collapses or splits huge pages of tmpfs (hence they are switched off for
 *    QEMU, and a machine that has them on for a process that has not is refused), and since Linux
 *    6.14 where all of it is discarded. QEMU discards only after punching a hole: see tracker.h.
 *  - QEMU dies. Its entries vanish first, and empty entries count as written; then its mappings
 *    vanish, and a scan would find nothing and be content. So each collect ends by asking whether
 *    the first and the last page are still there: the mapping cannot have gone before and be back
 *    now.
 */
#include <errno.h>
#include <string.h>

#include "sys/pagemap.h"
#include "vm/tracker-internal.h"

/* 12 KiB of stack. The kernel hands regions over in portions of this size anyway. */
#define REGIONS 512

static int scan_read(const struct hf_tracker *t, struct hf_tracker_slice *slice)
{
	struct hf_page_region regions[REGIONS];
	struct hf_pagemap_scan scan = {
		.start = slice->start,
		.end = slice->end,
		.is_resetting = slice->is_resetting,
		.regions = regions,
		.max_regions = REGIONS,
	};
	int r;

	while (scan.start < scan.end) {
		if (slice->max_pages) {
			if (slice->n_pages >= slice->max_pages)
				return 0;
			scan.max_pages = slice->max_pages - slice->n_pages;
		}
		r = hf_pagemap_scan_written(t->pagemap_fd, &scan);
		if (r < 0)
			return r;
		for (size_t i = 0; i < scan.n_regions; i++)
			hf_tracker_slice_add(t, slice, regions[i].start, regions[i].end);
	}
	return 0;
}

static int check_page(const struct hf_tracker *t, uint64_t address)
{
	bool is_tracked;
	int r = hf_pagemap_is_tracked(t->pagemap_fd, address, t->mapping.page_bytes, &is_tracked);

	if (r < 0)
		return r;
	return is_tracked ? 0 : -ESRCH;
}

static int scan_finish(struct hf_tracker *t, bool is_resetting)
{
	uint64_t end = t->config.address + t->config.length_bytes;
	int r;

	(void)is_resetting;
	r = check_page(t, t->config.address);
	return r < 0 ? r : check_page(t, end - t->mapping.page_bytes);
}

static int explain_scan_error(int r, struct hf_err *err)
{
	if (r == -ENOTTY)
		hf_err_set(err, "this kernel has no PAGEMAP_SCAN (Linux 6.7 or later is needed)");
	else if (r == -EPERM)
		hf_err_set(err, "guest RAM is not registered for write tracking in QEMU");
	else if (r == -ESRCH)
		hf_err_set(err, "guest RAM is not mapped where the library reported it");
	else
		hf_err_set(err, "scanning the page map failed: %s", strerror(-r));
	return r;
}

/* All that a collect does, on the first page. What it resets there goes into the first collect. */
static int try_reset(struct hf_tracker *t, struct hf_err *err)
{
	struct hf_tracker_slice slice = {
		.start = t->config.address,
		.end = t->config.address + t->mapping.page_bytes,
		.is_resetting = true,
	};
	int r = scan_read(t, &slice);

	if (r == 0)
		r = scan_finish(t, /* is_resetting= */ true);
	if (r < 0)
		return explain_scan_error(r, err);
	t->probed_bytes = slice.n_pages ? t->mapping.page_bytes : 0;
	return 0;
}

static int scan_probe(struct hf_tracker *t, struct hf_err *err)
{
	int r;

	if (t->config.tracking_errno) {
		hf_err_set(err, "the library in QEMU could not register guest RAM: %s%s",
			   strerror((int)t->config.tracking_errno),
			   t->config.tracking_errno == EINVAL ? " (Linux 6.7 or later is needed)"
							      : "");
		return -EOPNOTSUPP;
	}
	if (t->pagemap_fd < 0) {
		r = hf_pagemap_open(t->config.pid, &t->pagemap_fd);
		if (r < 0) {
			hf_err_set(err, "cannot open /proc/%ld/pagemap: %s", (long)t->config.pid,
				   strerror(-r));
			return r;
		}
	}
	return try_reset(t, err);
}

const struct hf_tracker_ops hf_tracker_scan_ops = {
	.name = "pagemap-scan",
	.may_reset_running = true,
	.probe = scan_probe,
	.read = scan_read,
	.finish = scan_finish,
};

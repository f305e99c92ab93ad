/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which pages of guest RAM QEMU has written since the last time it was asked. Layer: vm. One thread
 * owns a tracker; scanning in parallel happens inside the calls.
 *
 * The promise of both modes: each page written through the tracked mapping is in the bitmap of the
 * first collect after the write or, if the write is still going on meanwhile, of a later one. More
 * may be reported than was written (neighbours of a page touched for the first time, pages only
 * read for the first time), never less. Written means by a processor, the guest's or QEMU's, or by
 * the kernel copying into QEMU's memory (read, recv, vhost). Not seen, in either mode:
 *
 *  - What was in RAM before: the first collect reports what was written since the mapping was made.
 *    A first synchronisation sends all of RAM once, and collects only to learn what to send again.
 *  - Writes by others through their own mapping of the RAM file (vhost-user, virtiofsd, the
 *    keeper).
 *  - Holes punched into the RAM file (balloon, free page reporting, virtio-mem): the page turns to
 *    zeros without a write. The guest has given such pages away and may not rely on what they hold.
 *  - Devices that write to pages they have pinned: an O_DIRECT or io_uring read in flight, vfio.
 *    Such a page counts as written when it is pinned, not when the data arrive. A stopped VM has no
 *    I/O in flight, so a collect while it stands still is right; one while it runs may take the
 *    mark off a page whose data are still to come. Hence the next paragraph.
 *
 * How to synchronise while the guest runs: in short rounds "stop, collect, cont, then copy".
 * Nothing is copied during the stop, so it is no longer than that of an epoch; pages that the guest
 * writes while they are copied are torn, and reported by the next round. The last round is an
 * epoch, which copies before cont. This is right in both modes and for every kind of disk back end.
 * Collecting while the guest runs (HF_TRACKER_RUNNING) saves the stops, and is right in
 * pagemap-scan mode as long as no back end pins guest memory; in soft-dirty mode it is right but
 * resets nothing, so it does not make the rest any smaller: see enum hf_tracker_guest.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bitmap.h"
#include "base/error.h"

/* The unit of the bitmap, whatever the size of the pages behind the mapping. */
#define HF_TRACKER_PAGE_BYTES 4096u

enum hf_tracker_mode {
	HF_TRACKER_AUTO, /* pagemap-scan if it works, else soft-dirty */
	HF_TRACKER_PAGEMAP_SCAN, /* Linux >= 6.7 and the preloaded library */
	HF_TRACKER_SOFT_DIRTY, /* CONFIG_MEM_SOFT_DIRTY; no huge pages, nothing swapped */
};

struct hf_tracker_config {
	pid_t pid; /* QEMU */
	uint64_t address; /* in QEMU. This, the next two and the errno come from the report */
	uint64_t length_bytes;
	uint64_t file_offset_bytes; /* where it starts in the RAM file, hence in the bitmap */
	uint32_t tracking_errno; /* 0: registered. Without a library or report: ENOSYS */
	enum hf_tracker_mode mode;
	bool is_ram_locked; /* the caller has locked the RAM file's pages (mlock) */
	unsigned int n_threads; /* 0: one up to 4 GiB, else one per processor up to 4; at most 64 */
};

/* Whether QEMU may write to its memory during a collect. */
enum hf_tracker_guest {
	/* The vCPUs stand still, I/O is drained: after QMP stop or a migration's "completed". */
	HF_TRACKER_STOPPED,
	/*
	 * The guest runs. pagemap-scan reads and resets each page in one step, so nothing is lost.
	 * soft-dirty has two steps, read all and clear all: a write between them would be lost, and
	 * no order of the two avoids it. Stopping the process by a signal for that time would not
	 * stop the kernel's own writers (vhost, io_uring workers). So soft-dirty then reads and
	 * resets nothing; the pages are reported again by the next collect.
	 */
	HF_TRACKER_RUNNING,
};

struct hf_tracker;

/**
 * hf_tracker_open() - begin to use the tracking of one mapping of guest RAM
 * @ret: the caller's, to be closed with hf_tracker_close(); touched only on success
 * Finds out by trying which mode works. Reads files in /proc; starts the threads. Allocates, and
 * may block for milliseconds. To be called after the report, so after QEMU's execve.
 * Return: 0; -EOPNOTSUPP: no mode works here, @err says which kernel, option or setting is missing;
 * -EINVAL: nonsense in @config; -ESRCH: no such process or mapping; -errno. @err is set for each.
 */
int hf_tracker_open(const struct hf_tracker_config *config, struct hf_tracker **ret,
		    struct hf_err *err) HF_MUST_CHECK;

/* Ends the threads; the mapping stays registered as long as QEMU lives. Takes NULL. */
void hf_tracker_close(struct hf_tracker *t);

/**
 * hf_tracker_collect() - take the set of written pages, and start a new one
 * @guest: see enum hf_tracker_guest; to say HF_TRACKER_STOPPED of a running guest loses writes
 * @bitmap: pages of the RAM file are added to it, nothing is removed. It must reach to the end of
 *          the mapping (asserted) and be used by no other thread meanwhile
 * @ret_pages: how many pages this call reported (also those that @bitmap had already); may be NULL
 * Blocks for the scan, about half a millisecond per GiB and thread; does not allocate. A page's
 * content may be copied as soon as this has returned: it is at least as new as the report.
 * Return: 0; -ESRCH: QEMU is gone or has unmapped its RAM; -EPERM: QEMU has closed its userfaultfd;
 * -errno. After an error some pages may have been reset without being reported: the replica is only
 * right again after a synchronisation from the start.
 */
int hf_tracker_collect(struct hf_tracker *t, enum hf_tracker_guest guest, struct hf_bitmap *bitmap,
		       uint64_t *ret_pages) HF_MUST_CHECK;

/**
 * hf_tracker_peek_count() - about how many pages a collect would report now
 * @max: stop counting there
 * @ret: min(count, @max)
 * Resets nothing, so the guest may run. Costs at most a collect on one thread, less when @max pages
 * are found early; soft-dirty costs several milliseconds per GiB. Does not allocate.
 * Return: 0, or an error as hf_tracker_collect(), after which the tracker is as good as before.
 */
int hf_tracker_peek_count(struct hf_tracker *t, uint64_t max, uint64_t *ret) HF_MUST_CHECK;

/* Whether a collect of a running guest resets what it reports. */
bool hf_tracker_may_reset_running(const struct hf_tracker *t);

/* The mode in use: "pagemap-scan" or "soft-dirty". */
const char *hf_tracker_mode_name(const struct hf_tracker *t);

/* The size of the pages behind the mapping: 4096, or that of its huge pages. */
uint64_t hf_tracker_mapping_page_bytes(const struct hf_tracker *t);

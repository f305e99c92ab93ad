/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between tracker.c and the two ways of tracking. Layer: vm, private to the tracker.
 */
#pragma once

#include "sys/pool.h"
#include "vm/tracker.h"

struct hf_tracker_mapping {
	uint64_t page_bytes;
	bool is_locked;
	bool is_thp_disabled; /* for the process */
};

struct hf_tracker {
	const struct hf_tracker_ops *ops;
	struct hf_tracker_config config;
	struct hf_tracker_mapping mapping;
	int pagemap_fd;
	int clear_refs_fd; /* soft-dirty only */
	struct hf_pool *pool;
	uint64_t slice_bytes; /* multiple of the mapping's pages and of 64 bits in the bitmap */
	uint64_t probed_bytes; /* found written, and reset, when pagemap-scan was tried */
};

/* One part of one collect or count: addresses @start .. @end - 1. */
struct hf_tracker_slice {
	uint64_t start;
	uint64_t end;
	bool is_resetting;
	struct hf_bitmap *bitmap; /* NULL: only count */
	uint64_t max_pages; /* stop when so many are found; 0: no limit */
	uint64_t n_pages; /* result, in units of HF_TRACKER_PAGE_BYTES */
};

struct hf_tracker_ops {
	const char *name;
	bool may_reset_running;
	/* Whether this way works here: 0, or -errno with the reason in @err. */
	int (*probe)(struct hf_tracker *t, struct hf_err *err);
	/* May run on several threads at once, for different slices. */
	int (*read)(const struct hf_tracker *t, struct hf_tracker_slice *slice);
	/* After all slices, on the owner's thread. */
	int (*finish)(struct hf_tracker *t, bool is_resetting);
};

extern const struct hf_tracker_ops hf_tracker_scan_ops;
extern const struct hf_tracker_ops hf_tracker_softdirty_ops;

/* Notes addresses @start .. @end - 1 as written in @slice. */
void hf_tracker_slice_add(const struct hf_tracker *t, struct hf_tracker_slice *slice,
			  uint64_t start, uint64_t end);

/* What /proc/PID says of the mapping. 0, -ESRCH when @address is not mapped, -errno. */
int hf_tracker_mapping_read(pid_t pid, uint64_t address, struct hf_tracker_mapping *ret);

/* Whether memory may be swapped out on this machine now. When that cannot be read: yes. */
bool hf_tracker_has_swap(void);

/* Whether the kernel may back a memfd by huge pages without being asked by MFD_HUGETLB. */
bool hf_tracker_has_shmem_thp(void);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk path of a VM: requests in, images and journal out, by the rules of core/disk.h and the words of
 * diskshm.h. Layer: disk. Requests may come from any number of threads and BLOCK; the engine has threads of
 * its own for journal, images, first copy and control. Knows nothing of NBD.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "disk/diskctl.h"
#include "disk/diskshm.h"
#include "disk/image.h"

struct hf_engine_config {
	const char *vm;
	uint32_t n_disks;
	struct hf_image_config image[HF_WIRE_DISKS_MAX];
	const char *
		map_path[HF_WIRE_DISKS_MAX]; /* dirty maps; NULL: none (shared layout, no keeper) */
	const char *redo_location; /* NULL: no keeper, DIRECT for ever */
	uint64_t redo_area_bytes;
	bool is_shared;
	bool is_standby; /* at the start: nothing is redone, the journal is left as it is */
	struct hf_diskshm shm; /* taken over on success; HF_DISKSHM_NONE: no keeper */
	int control_fd; /* SEQPACKET, the same; -1: no keeper */
};

struct hf_engine;

/* Opens everything and, as an owner, redoes the journal; then READY is sent. Blocks. */
int hf_engine_start(const struct hf_engine_config *config, struct hf_engine **ret,
		    struct hf_err *err) HF_MUST_CHECK;
/* Stops the threads (requests must have ended). What is logged stays in the shared memory. */
void hf_engine_stop(struct hf_engine *e);

/* Geometry as exported. */
void hf_engine_geometry(const struct hf_engine *e, uint32_t disk, struct hf_diskctl_geometry *ret);

/* 0 or -errno. In HOLD all but reads return when they are logged. */
int hf_engine_read(struct hf_engine *e, uint32_t disk, void *buf, uint32_t len,
		   uint64_t offset) HF_MUST_CHECK;
int hf_engine_write(struct hf_engine *e, uint32_t disk, const void *buf, uint32_t len,
		    uint64_t offset, bool is_fua) HF_MUST_CHECK;
int hf_engine_zero(struct hf_engine *e, uint32_t disk, uint64_t len, uint64_t offset, bool may_trim,
		   bool is_fua) HF_MUST_CHECK;
int hf_engine_trim(struct hf_engine *e, uint32_t disk, uint64_t len, uint64_t offset,
		   bool is_fua) HF_MUST_CHECK;
int hf_engine_flush(struct hf_engine *e, uint32_t disk) HF_MUST_CHECK;
/* For NBD's block status: data, or reads as zeros. */
int hf_engine_extent(struct hf_engine *e, uint32_t disk, uint64_t offset, uint64_t end,
		     uint64_t *ret_len, bool *ret_is_hole) HF_MUST_CHECK;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copying memory files: what was never written takes no room in the copy, nor does what is zero. Layer:
 * sys. Any thread. Blocks as long as the storage does.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Called now and then with what has been looked at; false: give up. */
typedef bool hf_sparse_progress(void *ctx, uint64_t done_bytes);

/**
 * hf_sparse_copy() - [from_offset, + bytes) of one file to to_offset of another
 * @to_fd: there are zeros where it is not written to: a new file
 * @progress: may be NULL
 * Blocks of 4096 bytes that are zero are left out; the file's size is not made to reach the end of what is
 * left out. Return: 0; -ECANCELED; -ENODATA: the source is shorter than that; -errno.
 */
int hf_sparse_copy(int from_fd, uint64_t from_offset, uint64_t bytes, int to_fd, uint64_t to_offset,
		   hf_sparse_progress *progress, void *ctx) HF_MUST_CHECK;

/* How much of a file is written: what a copy takes at most. 0 or -errno. */
int hf_sparse_data_bytes(int fd, uint64_t size_bytes, uint64_t *ret_bytes) HF_MUST_CHECK;

/* Is there room for so much in the file system of this folder or file? 0; -ENOSPC with @err, which says how
 * much is there and how much it takes; other -errno. */
int hf_sparse_check_space(const char *path, uint64_t bytes, struct hf_err *err) HF_MUST_CHECK;

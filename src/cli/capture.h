/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text of a file, or what another program prints: at most so much, and not for ever. Layer: cli. One thread. Blocks. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* @path "-": the standard input. *ret: *ret_len bytes and a NUL, for free(). 0; -EFBIG, -ETIMEDOUT, other -errno; @err. */
int hf_capture_file(const char *path, size_t max_bytes, uint64_t deadline_ns, char **ret,
		    size_t *ret_len, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_capture_program() - run one to its end, which is its death if it takes too long or prints too much
 * @argv: [0] is looked for in PATH
 * Return: 0; -EREMOTE: it ended otherwise than with 0, @err quotes what it said; -ENOENT: there is none; as above.
 */
int hf_capture_program(char *const *argv, size_t max_bytes, uint64_t deadline_ns, char **ret,
		       size_t *ret_len, struct hf_err *err) HF_MUST_CHECK;

/* Starts a program with nothing to read; descriptors stay the caller's. The child is the caller's to wait for. 0; -errno. */
int hf_capture_spawn(char *const *argv, int out, int complaints, pid_t *ret) HF_MUST_CHECK;

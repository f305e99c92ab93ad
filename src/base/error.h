/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Error convention of the whole tree. Layer: base. Any thread.
 *
 * A function that can fail returns int:
 *   0        done;
 *   -errno   unexpected: passed up untouched, never matched against;
 *   positive an enum in that function's header: the caller must handle it, it is never passed up.
 * Where a person has to be told what was wrong with something they wrote or sent, the function also
 * takes a struct hf_err and fills in one sentence: what, where, and if possible what to do.
 * Library code never logs; the programs in src/keeper and src/cli do.
 */
#pragma once

#include <stddef.h>

#define HF_ERR_MAX 512

/* One sentence for a person. Caller's memory; text is always NUL-terminated, "" when nothing failed. */
struct hf_err {
	char text[HF_ERR_MAX];
};

/**
 * hf_err_set() - say what went wrong
 * @err: may be NULL: then nothing is written
 * Cuts a sentence that is too long; never fails. Does not allocate. Leaves errno alone.
 */
void hf_err_set(struct hf_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/**
 * hf_err_prefix() - put "where: " in front of what is already there
 */
void hf_err_prefix(struct hf_err *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define HF_MUST_CHECK __attribute__((warn_unused_result))

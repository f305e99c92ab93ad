/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Quantities and names as people write them. Layer: base. Any thread. Nothing allocates.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Parsers take the whole of @text and touch the result only on success. Return 0 or -EINVAL/-ERANGE
 * with @err saying what form is expected. */

/* "500us", "20ms", "2s", "1min"; a bare number has no unit and is refused, except 0. */
int hf_parse_duration_ns(const char *text, uint64_t *ret_ns, struct hf_err *err) HF_MUST_CHECK;

/* "4096", "64K", "256M", "2G", "1T": binary multiples; a bare number is bytes. */
int hf_parse_size_bytes(const char *text, uint64_t *ret_bytes, struct hf_err *err) HF_MUST_CHECK;

/* "33%" or "33": 0..100. */
int hf_parse_percent(const char *text, unsigned int *ret_percent, struct hf_err *err) HF_MUST_CHECK;

/* yes/no, on/off, true/false, 1/0. */
int hf_parse_bool(const char *text, bool *ret, struct hf_err *err) HF_MUST_CHECK;

/* "1.5 ms", "12 us", "3.0 s" and "4.0 KiB", "1.2 GiB". @buf of at least HF_TEXT_QUANTITY bytes. */
#define HF_TEXT_QUANTITY 32
const char *hf_format_duration(uint64_t ns, char *buf, size_t size);
const char *hf_format_size(uint64_t bytes, char *buf, size_t size);

/* A name that may become a file name and travel to a peer: 1..63 of [A-Za-z0-9._-], not starting
 * with '.' or '-'. */
#define HF_NAME_MAX 63
bool hf_is_valid_name(const char *name);

/* Where @name stands among the @n @names, none of which is NULL; -1: nowhere. */
int hf_name_find(const char *const *names, size_t n, const char *name);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A byte stream cut into messages that end with one certain byte: QMP's lines, Varlink's NUL.
 * Layer: codec. One thread for each splitter. Grows its own buffer, up to the limit; never blocks.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

struct hf_delim {
	char *buf;
	size_t cap, start, end; /* what is not yet consumed: buf[start..end) */
	size_t scanned; /* no delimiter in buf[start..scanned): each byte is searched once */
	size_t limit_bytes;
	char delimiter;
};

/* @limit_bytes: longest message, without its delimiter. Does not allocate. */
void hf_delim_init(struct hf_delim *d, char delimiter, size_t limit_bytes);
void hf_delim_fini(struct hf_delim *d);

/**
 * hf_delim_space() - where to read() to
 * To be called when hf_delim_next() has returned 0, so that what is buffered stays below the limit.
 * Invalidates the messages given out. @ret_n is at least 1.
 * Return: 0 or -ENOMEM.
 */
int hf_delim_space(struct hf_delim *d, char **ret, size_t *ret_n) HF_MUST_CHECK;

/* @n bytes, at most what hf_delim_space() offered, have arrived there. */
void hf_delim_commit(struct hf_delim *d, size_t n);

/**
 * hf_delim_next() - the next whole message
 * @ret: into the buffer, without the delimiter (which is replaced by NUL), valid until
 *       hf_delim_space() or hf_delim_fini()
 * Return: 1 a message; 0 more bytes are needed; -EMSGSIZE the message is longer than the limit: the
 * stream cannot be used any further.
 */
int hf_delim_next(struct hf_delim *d, char **ret, size_t *ret_len) HF_MUST_CHECK;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU's option arguments: "tap,id=net0,ifname=tap0" or '{"driver":"file",...}' as a list of keys
 * and values, and back. Layer: codec. Any thread. Allocates; does not block.
 *
 * Format: QEMU, util/keyval.c and util/qemu-option.c. Pairs are separated by a comma; a comma in a
 * value is doubled; a first word without '=' is the value of a key that the option implies; a later
 * word without '=' is a flag, "on". In JSON, members of objects and arrays are named by dotted keys
 * ("file.driver", "host-nodes.0"), which is how QEMU itself maps the two onto each other, so that
 * both forms are read alike here and may be written in either.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HF_KEYVAL_PAIRS_MAX 1024
#define HF_KEYVAL_TEXT_MAX (128u << 10) /* what Linux allows for one word of a command line */

struct hf_keyval_pair {
	char *key;
	char *value;
};

/* All zero is a valid empty list. Pairs are in the order written; keys may repeat. */
struct hf_keyval {
	struct hf_keyval_pair *pairs;
	size_t count;
};

/**
 * hf_keyval_parse() - read one option argument, in either form
 * @implied: key of a first word without '='; NULL: such a word is a flag
 * @ret: to be released with hf_keyval_fini()
 * Return: 0; -EINVAL with @err naming the place; -ENOMEM.
 */
int hf_keyval_parse(const char *text, const char *implied, struct hf_keyval *ret,
		    struct hf_err *err) HF_MUST_CHECK;

/* Releases the pairs and leaves an empty list. Takes NULL. */
void hf_keyval_fini(struct hf_keyval *kv);

/* The last value of @key (as in QEMU, the last one counts), owned by @kv; NULL when absent. */
const char *hf_keyval_get(const struct hf_keyval *kv, const char *key);

/* on, yes, true and y count as true; an absent key as @def. */
bool hf_keyval_is_on(const struct hf_keyval *kv, const char *key, bool def);

/* Add a pair at the end; copies both. 0, -ENOMEM, -E2BIG. */
int hf_keyval_add(struct hf_keyval *kv, const char *key, const char *value) HF_MUST_CHECK;

/* Remove all pairs of @key; returns how many there were. */
size_t hf_keyval_remove(struct hf_keyval *kv, const char *key);

/**
 * hf_keyval_format() - write it as QEMU reads it
 * @implied: when the first pair has this key, only its value is written
 * @ret: text to be freed by the caller
 * Return: 0; -ENOMEM.
 */
int hf_keyval_format(const struct hf_keyval *kv, const char *implied, char **ret) HF_MUST_CHECK;

/**
 * hf_keyval_parse_size() - a size as QEMU writes them: "512", "1.5G", "2g", "0x1000"
 * @default_unit: factor of a number that has no suffix
 * Format: QEMU, util/cutils.c, do_strtosz(): suffixes b k m g t p e in either case, a fraction only
 * with a suffix (or a unit) and no exponent. Return: 0; -EINVAL; -ERANGE.
 */
int hf_keyval_parse_size(const char *text, uint64_t default_unit, uint64_t *ret_bytes,
			 struct hf_err *err) HF_MUST_CHECK;

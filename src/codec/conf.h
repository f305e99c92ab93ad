/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Configuration files: sections of keys and values, strictly read. Layer: codec. Any thread.
 * Allocates; does not block; reads no file itself.
 *
 * Format. Lines end in a newline and have at most HF_CONF_LINE_MAX bytes. "[kind]" or "[kind name]"
 * opens a section; "key = value" belongs to it; a line that starts with a blank goes on with the
 * value above it, until an empty line. A line whose first character other than blanks is # or ; is a
 * comment, also in the middle of a value. There are no comments behind a value, no quotes (but see
 * hf_words_split()), no includes, no variables. Control characters are refused, so no carriage
 * return or NUL can hide in a value.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

#define HF_CONF_LINE_MAX 4096
#define HF_CONF_FILE_MAX (1u << 20)

/**
 * struct hf_conf_item - one "key = value", or the opening of a section
 * @kind: of the section, "vm"
 * @name: of the section, "" when it has none
 * @key: NULL for the opening of a section
 * @value: without blanks at both ends; lines of a long value are kept apart by '\n' and keep their
 *	indent, a comment between them leaves an empty line, so that places in it can be told
 * @line: where the key, or the '[', stands; from 1
 * @value_column: where the value starts in that line; from 1
 */
struct hf_conf_item {
	const char *kind;
	const char *name;
	const char *key;
	const char *value;
	unsigned int line;
	unsigned int value_column;
};

/* Called for each item in the order of the file; the item is valid only during the call. A negative
 * result ends the parse and is returned; the callback has then filled in @err. */
typedef int (*hf_conf_fn)(void *data, const struct hf_conf_item *item, struct hf_err *err);

/**
 * hf_conf_parse() - read one file's text
 * @file: its name, for messages
 * @text: @len bytes, need not be NUL-terminated
 * Return: 0; -EINVAL with @err = "FILE:LINE:COLUMN: what"; what @fn returned; -ENOMEM.
 */
int hf_conf_parse(const char *file, const char *text, size_t len, hf_conf_fn fn, void *data,
		  struct hf_err *err) HF_MUST_CHECK;

/* Line and column in the file of the byte @offset of the item's value. */
void hf_conf_place(const struct hf_conf_item *item, size_t offset, unsigned int *ret_line,
		   unsigned int *ret_column);

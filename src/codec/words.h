/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Words: NULL-terminated lists of strings, and splitting a text into them the way a shell would.
 * Layer: codec. Any thread. Allocates; does not block.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* Bounds of one split: more words, or a longer text, is refused. */
#define HF_WORDS_MAX 4096
#define HF_WORDS_TEXT_MAX (1u << 20)

/* Number of words; 0 for NULL. */
size_t hf_words_count(char *const *words);

/**
 * hf_words_append() - add a copy of one word
 * @words: the list, or a pointer to NULL for a new one; replaced when it moves
 * Linear in the length of the list. Return: 0; -ENOMEM and the list as it was; -E2BIG at
 * HF_WORDS_MAX words.
 */
int hf_words_append(char ***words, const char *word) HF_MUST_CHECK;

/* Releases the list and its words. Takes NULL. */
void hf_words_free(char **words);

/**
 * hf_words_split() - split by a shell's rules of quoting, and none of its others
 * @text: blanks, tabs and ends of line separate words
 * @ret: the words, to be released with hf_words_free(); an empty list is a list with only its NULL
 * @ret_offset: set only on -EINVAL: the byte of @text at which the mistake begins
 *
 * 'single quotes' take everything as it stands; in "double quotes" a backslash protects ", \, $ and
 * `; outside, a backslash protects the next character, and one at the end of a line joins the
 * lines. Nothing is expanded: $, `, *, ~ and # are letters like others. A quote must close on the
 * line it opens on: so a forgotten one is found where it is, and not at the end of the text.
 * Return: 0; -EINVAL with @err naming the mistake; -E2BIG; -ENOMEM.
 */
int hf_words_split(const char *text, char ***ret, size_t *ret_offset,
		   struct hf_err *err) HF_MUST_CHECK;

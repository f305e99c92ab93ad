/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tables for people: columns as wide as what stands in them, two blanks between, no line wrapped: on a
 * terminal the last column is cut at its edge. Layer: cli. One thread; allocates; does not block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define HF_TABLE_COLUMNS_MAX 10

struct hf_table;

/* @headings: NULL-terminated, borrowed. Ends the program when there is no memory. */
struct hf_table *hf_table_new(const char *const *headings);

/* As many cells as headings; NULL or "" becomes "-". Copied; what would break a line becomes a blank. */
void hf_table_add(struct hf_table *t, const char *const *cells);

/* To stdout, each line behind @indent. */
void hf_table_print(const struct hf_table *t, const char *indent, bool has_headings);
void hf_table_free(struct hf_table *t);

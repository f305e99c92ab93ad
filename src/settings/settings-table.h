/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of settings, for what is made from it. Layer: settings. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "settings/settings.h"

enum hf_setting_type {
	HF_SETTING_FLAG, /* bool; on the command line without a value */
	HF_SETTING_BOOL, /* bool */
	HF_SETTING_WORD, /* unsigned int: index of one of the words */
	HF_SETTING_DURATION, /* uint64_t, ns */
	HF_SETTING_SIZE, /* uint64_t, bytes */
	HF_SETTING_PAGES, /* uint64_t, bytes: no, 2M, 1G */
	HF_SETTING_PERCENT, /* unsigned int */
	HF_SETTING_COUNT, /* unsigned int */
	HF_SETTING_ADDR, /* struct hf_settings_addr */
	HF_SETTING_NAME, /* char *, hf_is_valid_name() */
	HF_SETTING_TEXT, /* char *, not empty */
	HF_SETTING_PATH, /* char *, absolute */
	HF_SETTING_IMAGE, /* char *, absolute path or NBD URI */
	HF_SETTING_IDS, /* char **; in the file several words */
	HF_SETTING_ARGS, /* char **; in the file several words */
};

/* Where a setting may stand. */
enum {
	HF_IN_OPTIONS = 1,
	HF_IN_VM = 2,
	HF_IN_PROTECTION = 4,
	HF_IN_HOST = 8,
};

enum hf_setting_group {
	HF_GROUP_HOSTS,
	HF_GROUP_GUEST,
	HF_GROUP_FAULTS,
	HF_GROUP_EPOCHS,
	HF_GROUP_DISKS,
	HF_GROUP_KEEPER,
	HF_GROUP_FILE, /* only in the file */
	HF_GROUP_COUNT,
};

/**
 * struct hf_setting - one row
 * @name: long option without dashes, and key in the file
 * @offset: of its field in struct hf_settings
 * @def: the default as it would be written; NULL: not set
 * @min, @max: the range, as it would be written; NULL: none
 * @words: of HF_SETTING_WORD, NULL-terminated
 * @places: HF_IN_*
 * @is_repeatable: adds to what is there; others may be given once
 */
struct hf_setting {
	const char *name;
	size_t offset;
	const char *def;
	const char *metavar;
	const char *help;
	const char *min;
	const char *max;
	const char *const *words;
	enum hf_setting_type type;
	enum hf_setting_group group;
	unsigned int places;
	bool is_repeatable;
};

/* settings-rows.c */
extern const struct hf_setting hf_setting_rows[];
extern const size_t hf_setting_row_count;

size_t hf_setting_count(void);

/* Row @i < hf_setting_count(). The rows of a group stand together. */
const struct hf_setting *hf_setting_at(size_t i);

/* Number of the row called @name[0..@len), or -1. */
int hf_setting_find(const char *name, size_t len);

/**
 * hf_setting_apply() - read a value into its field, which it replaces or, if repeatable, adds to
 * @is_file: lists are then several words, quoted as in a shell
 * @ret_offset: on -EINVAL the place in @text, so far as it is known, else 0
 * Return: 0; -EINVAL with @err saying what is expected; -ENOMEM.
 */
int hf_setting_apply(const struct hf_setting *row, struct hf_settings *s, const char *text,
		     bool is_file, size_t *ret_offset, struct hf_err *err) HF_MUST_CHECK;

/* Back to nothing: releases what the field holds. */
void hf_setting_clear(const struct hf_setting *row, struct hf_settings *s);

/* All fields to their defaults. @s must be all zero. 0 or -ENOMEM. */
int hf_setting_apply_defaults(struct hf_settings *s) HF_MUST_CHECK;

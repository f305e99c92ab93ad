/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "settings/settings-table.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "codec/words.h"
#include "core/disk.h"
#include "vm/tracker.h"

size_t hf_setting_count(void)
{
	return hf_setting_row_count;
}

const struct hf_setting *hf_setting_at(size_t i)
{
	assert(i < hf_setting_count());
	return &hf_setting_rows[i];
}

int hf_setting_find(const char *name, size_t len)
{
	for (size_t i = 0; i < hf_setting_count(); i++)
		if (strncmp(hf_setting_rows[i].name, name, len) == 0 &&
		    hf_setting_rows[i].name[len] == '\0')
			return (int)i;
	return -1;
}

static int parse_count(const char *text, unsigned int *ret, struct hf_err *err)
{
	unsigned long long n = 0;
	char *end = NULL;

	errno = 0;
	if (isdigit((unsigned char)text[0]))
		n = strtoull(text, &end, 10);
	if (!end || *end || errno || n > UINT_MAX) {
		hf_err_set(err, "'%s' is not a number", text);
		return -EINVAL;
	}
	*ret = (unsigned int)n;
	return 0;
}

/* Anything with a range, as one number. */
static int parse_number(const struct hf_setting *row, const char *text, uint64_t *ret,
			struct hf_err *err)
{
	unsigned int n = 0;
	int r;

	if (row->type == HF_SETTING_DURATION)
		return hf_parse_duration_ns(text, ret, err);
	if (row->type == HF_SETTING_SIZE)
		return hf_parse_size_bytes(text, ret, err);
	r = row->type == HF_SETTING_PERCENT ? hf_parse_percent(text, &n, err)
					    : parse_count(text, &n, err);
	if (!r)
		*ret = n;
	return r;
}

static int parse_in_range(const struct hf_setting *row, const char *text, uint64_t *ret,
			  struct hf_err *err)
{
	uint64_t n = 0;
	uint64_t min = 0;
	uint64_t max = 0;
	int r = parse_number(row, text, &n, err);

	if (r < 0)
		return r;
	r = parse_number(row, row->min, &min, NULL);
	assert(r == 0);
	r = parse_number(row, row->max, &max, NULL);
	assert(r == 0);
	if (n < min || n > max) {
		hf_err_set(err, "%s is out of range: it goes from %s to %s", text, row->min,
			   row->max);
		return -EINVAL;
	}
	*ret = n;
	return 0;
}

static int parse_word(const struct hf_setting *row, const char *text, unsigned int *ret,
		      struct hf_err *err)
{
	for (unsigned int i = 0; row->words[i]; i++) {
		if (strcmp(row->words[i], text) != 0)
			continue;
		*ret = i;
		return 0;
	}
	hf_err_set(err, "'%s' is none of %s", text, row->metavar);
	return -EINVAL;
}

static int parse_pages(const char *text, uint64_t *ret, struct hf_err *err)
{
	if (strcmp(text, "no") == 0)
		*ret = 0;
	else if (strcmp(text, "2M") == 0)
		*ret = UINT64_C(2) << 20;
	else if (strcmp(text, "1G") == 0)
		*ret = UINT64_C(1) << 30;
	else {
		hf_err_set(err, "'%s' is none of no, 2M and 1G", text);
		return -EINVAL;
	}
	return 0;
}

static int check_text(enum hf_setting_type type, const char *text, struct hf_err *err)
{
	const char *expected = NULL;

	if (type == HF_SETTING_NAME && !hf_is_valid_name(text))
		expected = "a name (up to 63 letters, digits and ._-, not first a . or -)";
	else if (type == HF_SETTING_PATH && text[0] != '/')
		expected = "an absolute path";
	else if (type == HF_SETTING_IMAGE && text[0] != '/' && strncmp(text, "nbd://", 6) != 0 &&
		 strncmp(text, "nbd+unix://", 11) != 0)
		expected = "an absolute path, nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH";
	else if (text[0] == '\0')
		expected = "something";
	if (!expected)
		return 0;
	hf_err_set(err, "'%s' is given, but %s is expected", text, expected);
	return -EINVAL;
}

static int set_text(enum hf_setting_type type, char **field, const char *text, struct hf_err *err)
{
	char *copy;
	int r = check_text(type, text, err);

	if (r < 0)
		return r;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int add_words(enum hf_setting_type type, char ***field, char *const *words,
		     struct hf_err *err)
{
	int r = 0;

	for (; !r && *words; words++) {
		/* An option of QEMU's may well be empty, an id not. */
		if (type == HF_SETTING_IDS && **words == '\0') {
			hf_err_set(err, "an id cannot be empty");
			return -EINVAL;
		}
		r = hf_words_append(field, *words);
	}
	if (r == -E2BIG)
		hf_err_set(err, "more than %d words", HF_WORDS_MAX);
	return r == -E2BIG ? -EINVAL : r;
}

static int set_list(enum hf_setting_type type, char ***field, const char *text, bool is_file,
		    size_t *ret_offset, struct hf_err *err)
{
	char *copy[] = { NULL, NULL };
	char **words = NULL;
	int r;

	if (is_file) {
		r = hf_words_split(text, &words, ret_offset, err);
		if (!r)
			r = add_words(type, field, words, err);
		hf_words_free(words);
		return r == -E2BIG ? -EINVAL : r;
	}
	copy[0] = strdup(text);
	r = copy[0] ? add_words(type, field, copy, err) : -ENOMEM;
	free(copy[0]);
	return r;
}

static int set_addr(struct hf_settings_addr *field, const char *text, struct hf_err *err)
{
	int r = hf_addr_parse(text, HF_SETTINGS_PORT, &field->addr, err);

	if (!r)
		field->is_set = true;
	return r;
}

static int set_number(const struct hf_setting *row, void *field, const char *text,
		      struct hf_err *err)
{
	bool is_wide = row->type == HF_SETTING_DURATION || row->type == HF_SETTING_SIZE;
	uint64_t n = 0;
	int r = parse_in_range(row, text, &n, err);

	if (r < 0)
		return -EINVAL;
	if (is_wide)
		*(uint64_t *)field = n;
	else
		*(unsigned int *)field = (unsigned int)n;
	return 0;
}

int hf_setting_apply(const struct hf_setting *row, struct hf_settings *s, const char *text,
		     bool is_file, size_t *ret_offset, struct hf_err *err)
{
	void *field = (char *)s + row->offset;

	*ret_offset = 0;
	switch (row->type) {
	case HF_SETTING_FLAG:
		*(bool *)field = true;
		return 0;
	case HF_SETTING_BOOL:
		return hf_parse_bool(text, field, err);
	case HF_SETTING_WORD:
		return parse_word(row, text, field, err);
	case HF_SETTING_PAGES:
		return parse_pages(text, field, err);
	case HF_SETTING_DURATION:
	case HF_SETTING_SIZE:
	case HF_SETTING_PERCENT:
	case HF_SETTING_COUNT:
		return set_number(row, field, text, err);
	case HF_SETTING_ADDR:
		return set_addr(field, text, err);
	case HF_SETTING_NAME:
	case HF_SETTING_TEXT:
	case HF_SETTING_PATH:
	case HF_SETTING_IMAGE:
		return set_text(row->type, field, text, err);
	case HF_SETTING_IDS:
	case HF_SETTING_ARGS:
		return set_list(row->type, field, text, is_file, ret_offset, err);
	}
	return -EINVAL;
}

static bool is_text(enum hf_setting_type type)
{
	return type == HF_SETTING_NAME || type == HF_SETTING_TEXT || type == HF_SETTING_PATH ||
	       type == HF_SETTING_IMAGE;
}

static bool is_list(enum hf_setting_type type)
{
	return type == HF_SETTING_IDS || type == HF_SETTING_ARGS;
}

void hf_setting_clear(const struct hf_setting *row, struct hf_settings *s)
{
	void *field = (char *)s + row->offset;

	if (is_text(row->type)) {
		free(*(char **)field);
		*(char **)field = NULL;
	} else if (is_list(row->type)) {
		hf_words_free(*(char ***)field);
		*(char ***)field = NULL;
	}
}

int hf_setting_apply_defaults(struct hf_settings *s)
{
	size_t offset;
	int r = 0;

	for (size_t i = 0; !r && i < hf_setting_count(); i++)
		if (hf_setting_rows[i].def)
			r = hf_setting_apply(&hf_setting_rows[i], s, hf_setting_rows[i].def,
					     /* is_file= */ false, &offset, NULL);
	assert(r == 0 || r == -ENOMEM);
	return r;
}

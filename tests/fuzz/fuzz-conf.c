/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A configuration file. Whatever comes out of it is clean, lies where it says, and splits into words
 * or is refused at a place inside the value.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "codec/conf.h"
#include "codec/words.h"

struct input {
	const char *text;
	size_t len;
};

/* The start of that line, or NULL. */
static const char *find_line(const struct input *in, unsigned int line)
{
	const char *p = in->text;
	const char *end = in->text + in->len;

	while (--line > 0) {
		p = memchr(p, '\n', (size_t)(end - p));
		if (!p)
			return NULL;
		p++;
	}
	return p;
}

static void check_words(const struct input *in, const struct hf_conf_item *item)
{
	char **words = NULL;
	struct hf_err err = { "" };
	size_t offset = 0;
	unsigned int line, column;
	const char *at;
	int r = hf_words_split(item->value, &words, &offset, &err);

	if (r == 0) {
		FUZZ_CHECK(hf_words_count(words) <= HF_WORDS_MAX);
		hf_words_free(words);
		return;
	}
	FUZZ_CHECK(err.text[0]);
	if (r != -EINVAL)
		return;
	FUZZ_CHECK(offset < strlen(item->value));
	hf_conf_place(item, offset, &line, &column);
	at = find_line(in, line);
	FUZZ_CHECK(at);
	FUZZ_CHECK(at[column - 1] == item->value[offset]);
}

static int take(void *data, const struct hf_conf_item *item, struct hf_err *err)
{
	const struct input *in = data;
	const char *line = find_line(in, item->line);

	(void)err;
	FUZZ_CHECK(line);
	FUZZ_CHECK(item->kind[0]);
	if (!item->key) {
		FUZZ_CHECK(line[0] == '[');
		return 0;
	}
	FUZZ_CHECK(strncmp(line, item->key, strlen(item->key)) == 0);
	FUZZ_CHECK(item->value_column >= 2);
	for (const char *p = item->value; *p; p++)
		FUZZ_CHECK((unsigned char)*p >= ' ' || *p == '\t' || *p == '\n');
	check_words(in, item);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of just that size, so that a read past the end is seen. */
	char *text = malloc(size + !size);
	struct input in = { text, size };
	struct hf_err err = { "" };
	int r;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	r = hf_conf_parse("fuzz", text, size, take, &in, &err);
	FUZZ_CHECK(r == 0 || r == -EINVAL);
	FUZZ_CHECK((r == 0) == (err.text[0] == '\0'));
	FUZZ_CHECK(r == 0 || strncmp(err.text, "fuzz:", 5) == 0);
	free(text);
	return 0;
}

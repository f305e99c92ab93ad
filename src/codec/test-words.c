/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "codec/words.h"

static void check_split(const char *text, const char *joined)
{
	char **words = NULL;
	char got[512] = "";
	size_t offset = 0;

	CHECK_EQ(hf_words_split(text, &words, &offset, NULL), 0);
	for (size_t i = 0; words[i]; i++) {
		strcat(got, words[i]);
		strcat(got, "|");
	}
	CHECK_STR(got, joined);
	hf_words_free(words);
}

static void check_refused(const char *text, size_t at, const char *why)
{
	char **words = NULL;
	size_t offset = 99;
	struct hf_err err;

	CHECK_EQ(hf_words_split(text, &words, &offset, &err), -EINVAL);
	CHECK_EQ(offset, at);
	CHECK_CONTAINS(err.text, why);
	CHECK(words == NULL);
}

TEST(plain_words)
{
	check_split("", "");
	check_split(" \t\n", "");
	check_split("-m 2G\n  -smp\t2 ", "-m|2G|-smp|2|");
	check_split("$HOME *.img ~ `x` #y", "$HOME|*.img|~|`x`|#y|");
}

TEST(quotes)
{
	check_split("'a b' \"c d\"", "a b|c d|");
	check_split("-append 'console=ttyS0 quiet'", "-append|console=ttyS0 quiet|");
	check_split("'{\"driver\":\"file\"}'", "{\"driver\":\"file\"}|");
	check_split("a'b'\"c\"d", "abcd|");
	check_split("'' \"\"", "||");
	check_split("\"a\\\"b\\\\c\\$d\\e\"", "a\"b\\c$d\\e|");
	check_split("'a\\b'", "a\\b|");
}

TEST(backslashes)
{
	check_split("a\\ b \\' \\\\", "a b|'|\\|");
	check_split("-m 2G \\\n  -smp 2", "-m|2G|-smp|2|");
	check_split("ab\\\ncd", "abcd|");
	check_split("\\\n", "");
	check_split("''\\\n", "|");
}

TEST(mistakes)
{
	check_refused("-append 'a b", 8, "not closed");
	check_refused("x \"a\nb\"", 2, "not closed");
	check_refused("x\\", 1, "backslash");
}

TEST(too_many_words)
{
	size_t size = 2 * (HF_WORDS_MAX + 1);
	char *text = malloc(size + 1);
	char **words = NULL;
	size_t offset;

	CHECK(text);
	for (size_t i = 0; i < size; i += 2)
		memcpy(text + i, "a ", 2);
	text[size] = '\0';
	CHECK_EQ(hf_words_split(text, &words, &offset, NULL), -E2BIG);
	text[size - 2] = '\0';
	CHECK_EQ(hf_words_split(text, &words, &offset, NULL), 0);
	CHECK_EQ(hf_words_count(words), HF_WORDS_MAX);
	CHECK_EQ(hf_words_append(&words, "more"), -E2BIG);
	hf_words_free(words);
	free(text);
}

TEST(append)
{
	char **words = NULL;

	CHECK_EQ(hf_words_count(words), 0);
	CHECK_EQ(hf_words_append(&words, "a"), 0);
	CHECK_EQ(hf_words_append(&words, "b"), 0);
	CHECK_EQ(hf_words_count(words), 2);
	CHECK_STR(words[1], "b");
	CHECK(!words[2]);
	hf_words_free(words);
	hf_words_free(NULL);
}

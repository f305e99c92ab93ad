/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

size_t hf_words_count(char *const *words)
{
	size_t n = 0;

	while (words && words[n])
		n++;
	return n;
}

int hf_words_append(char ***words, const char *word)
{
	size_t n = hf_words_count(*words);
	char **grown;
	char *copy;

	if (n >= HF_WORDS_MAX)
		return -E2BIG;
	copy = strdup(word);
	grown = copy ? realloc(*words, (n + 2) * sizeof(*grown)) : NULL;
	if (!grown) {
		free(copy);
		return -ENOMEM;
	}
	grown[n] = copy;
	grown[n + 1] = NULL;
	*words = grown;
	return 0;
}

void hf_words_free(char **words)
{
	for (size_t i = 0; words && words[i]; i++)
		free(words[i]);
	free(words);
}

struct splitter {
	const char *text;
	const char *p;
	char *word; /* as long as the text: a word is never longer than what it is written as */
	size_t len;
	size_t *ret_offset;
	struct hf_err *err;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

static int fail(struct splitter *s, const char *at, const char *what)
{
	*s->ret_offset = (size_t)(at - s->text);
	hf_err_set(s->err, "%s", what);
	return -EINVAL;
}

static int take_backslash(struct splitter *s)
{
	char next = s->p[1];

	if (next == '\0')
		return fail(s, s->p, "nothing follows the backslash (write \\\\ for one)");
	if (next != '\n')
		s->word[s->len++] = next;
	s->p += 2;
	return 0;
}

static int take_quoted(struct splitter *s)
{
	const char *open = s->p++;
	char quote = *open;

	for (; *s->p != quote; s->p++) {
		if (*s->p == '\0' || *s->p == '\n')
			return fail(s, open, "this quote is not closed on its line");
		if (quote == '"' && *s->p == '\\' && s->p[1] && strchr("\"\\$`", s->p[1]))
			s->p++;
		s->word[s->len++] = *s->p;
	}
	s->p++;
	return 0;
}

static int take_word(struct splitter *s)
{
	int r;

	s->len = 0;
	while (*s->p && !is_space(*s->p)) {
		r = 0;
		if (*s->p == '\\')
			r = take_backslash(s);
		else if (*s->p == '\'' || *s->p == '"')
			r = take_quoted(s);
		else
			s->word[s->len++] = *s->p++;
		if (r < 0)
			return r;
	}
	s->word[s->len] = '\0';
	return 0;
}

/* A word consisting of nothing but joined lines is no word. */
static bool is_only_joins(const char *from, const char *to)
{
	for (; from < to; from += 2)
		if (from[0] != '\\' || from[1] != '\n')
			return false;
	return true;
}

static int split_all(struct splitter *s, char ***words)
{
	const char *start;
	size_t n = 0;
	int r;

	for (;;) {
		while (is_space(*s->p))
			s->p++;
		if (!*s->p)
			return 0;
		start = s->p;
		r = take_word(s);
		if (r < 0)
			return r;
		if (is_only_joins(start, s->p))
			continue;
		if (n == HF_WORDS_MAX) {
			hf_err_set(s->err, "more than %d words", HF_WORDS_MAX);
			return -E2BIG;
		}
		(*words)[n] = strdup(s->word);
		if (!(*words)[n])
			return -ENOMEM;
		(*words)[++n] = NULL;
	}
}

int hf_words_split(const char *text, char ***ret, size_t *ret_offset, struct hf_err *err)
{
	struct splitter s = { .text = text, .p = text, .ret_offset = ret_offset, .err = err };
	size_t n = strnlen(text, HF_WORDS_TEXT_MAX + 1);
	char **words;
	int r = -ENOMEM;

	if (n > HF_WORDS_TEXT_MAX) {
		hf_err_set(err, "longer than %u bytes", HF_WORDS_TEXT_MAX);
		return -E2BIG;
	}
	s.word = malloc(n + 1);
	words = calloc(HF_WORDS_MAX + 1, sizeof(*words));
	if (s.word && words)
		r = split_all(&s, &words);
	free(s.word);
	if (r < 0)
		hf_words_free(words);
	else
		*ret = words;
	return r;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/completion.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/gather.h"
#include "cli/programs.h"
#include "cli/rows.h"
#include "codec/json.h"

#define LOOK_NS (HF_VERB_SECOND / 2)
#define FILES "\001files"

static void offer(const char *candidate, const char *typed)
{
	if (strncmp(candidate, typed, strlen(typed)) == 0)
		puts(candidate);
}

static void offer_words(const char *words, const char *typed)
{
	char word[64];
	size_t n;

	while (words && *words) {
		n = strcspn(words, " ");
		(void)snprintf(word, sizeof(word), "%.*s", (int)n, words);
		offer(word, typed);
		words += n + strspn(words + n, " ");
	}
}

static void offer_verbs(const char *typed)
{
	offer_words("run standby help version", typed);
	for (size_t i = 0; hf_verb_at(i); i++)
		if (!hf_verb_at(i)->is_hidden)
			offer(hf_verb_at(i)->name, typed);
}

static void offer_options(const struct hf_verb *v, const char *typed)
{
	const struct hf_verb_option *o;
	char word[64];

	for (size_t i = 0; (o = hf_verb_option_at(v, i)); i++) {
		(void)snprintf(word, sizeof(word), "--%s", o->name);
		offer(word, typed);
	}
	offer_words(v->raw_options, typed);
	offer("--help", typed);
}

static void offer_vms(const struct hf_verb *v, const char *typed)
{
	struct hf_verb_options o;
	struct hf_gather g;

	hf_verb_defaults(&o);
	o.timeout_ns = LOOK_NS;
	o.deadline_ns = hf_client_now_ns() + LOOK_NS;
	hf_gather_all(&o, NULL, /* is_whole= */ false, &g);
	for (size_t i = 0; i < json_object_array_length(g.rows); i++) {
		struct json_object *row = json_object_array_get_idx(g.rows, i);

		if (v->words != HF_VERB_FROZEN || hf_json_has(row, "id"))
			offer(hf_rows_text(row, "name"), typed);
	}
	hf_gather_fini(&g);
}

/* The keeper's own help knows its options: a line for each, "  --lease auto|yes|no". */
static void offer_keepers_options(const char *typed)
{
	char path[4096];
	char *text = NULL, *line, *rest;
	int r;

	(void)hf_program_path(HF_PROGRAM_KEEPER, path, sizeof(path));
	r = hf_program_run((char *[]){ path, (char[]){ "--help" }, NULL },
			   hf_client_now_ns() + LOOK_NS, &text);
	for (line = r == 0 ? strtok_r(text, "\n", &rest) : NULL; line;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (strncmp(line, "  --", 4) != 0)
			continue;
		line[2 + strcspn(line + 2, " ")] = '\0';
		offer(line + 2, typed);
	}
	if (r >= 0)
		free(text);
}

/* `run` and `standby`. */
static void offer_for_keeper(const char *typed)
{
	static const struct hf_verb keepers = { .words = HF_VERB_VM };

	if (*typed == '-')
		offer_keepers_options(typed);
	else
		offer_vms(&keepers, typed);
}

/* Does the word before want a value, and which? */
static bool offer_value(const struct hf_verb *v, const char *before, const char *typed)
{
	const struct hf_verb_option *o;

	for (size_t i = 0; (o = hf_verb_option_at(v, i)); i++) {
		if (!o->metavar || strncmp(before, "--", 2) != 0 ||
		    strcmp(before + 2, o->name) != 0)
			continue;
		if (strcmp(o->metavar, "DIR") == 0)
			puts(FILES);
		else if (o->letter == 'S')
			offer_words("info corrected recoverable fatal", typed);
		else if (o->letter == 'A')
			offer("now", typed);
		else if (o->letter == 'M')
			offer("pacemaker", typed);
		return true;
	}
	return false;
}

static bool has_subverb(const struct hf_verb *v, int n, char **words)
{
	return v->subverbs && n > 2 && words[2][0] != '-';
}

static void offer_for(const struct hf_verb *v, int at, char **words)
{
	const char *typed = words[at];

	if (offer_value(v, words[at - 1], typed))
		return;
	if (*typed == '-') {
		offer_options(v, typed);
		return;
	}
	if (v->subverbs && !has_subverb(v, at, words)) {
		offer_words(v->subverbs, typed);
		return;
	}
	if (v->words == HF_VERB_FILES)
		puts(FILES);
	else if (v->words != HF_VERB_NO_WORDS)
		offer_vms(v, typed);
}

int hf_completion_run(int argc, char **argv)
{
	int at = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0;
	int n = argc - 2;
	char **words = argv + 2;
	static char nothing[] = "";
	char *all[64];

	if (argc < 3 || at < 1 || at > n || at >= 63)
		return argc == 1 || strcmp(argv[1], "--help") == 0 ? -1 : HF_EXIT_USAGE;
	/* The word that is being typed may be missing when it is empty. */
	for (int i = 0; i <= at; i++)
		all[i] = i < n ? words[i] : nothing;
	if (at == 1 || (at == 2 && strcmp(all[1], "help") == 0))
		offer_verbs(all[at]);
	else if (strcmp(all[1], "run") == 0 || strcmp(all[1], "standby") == 0)
		offer_for_keeper(all[at]);
	else if (hf_verb_find(all[1]))
		offer_for(hf_verb_find(all[1]), at, all);
	return HF_EXIT_DONE;
}

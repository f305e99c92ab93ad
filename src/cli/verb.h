/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The commands of holdfast(1): one table, from which usage, parsing and completion follow. Layer: cli.
 * One thread; what runs a verb blocks until its deadline at most, prints, and returns the exit status.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/exit.h"

#define HF_VERB_RUN_DIR "/run/holdfast"
#define HF_VERB_STATE_DIR "/var/lib/holdfast"
#define HF_VERB_VMS_DIR "/etc/holdfast/vms"
#define HF_VERB_SECOND 1000000000ull

struct hf_verb_options {
	const char *verb; /* its name, for messages */
	const char *run_dir;
	const char *state_dir;
	const char *vms_dir; /* of definitions */
	char **words; /* behind the options, NULL-terminated */
	int n_words;
	bool is_json;
	bool is_forced;
	bool is_quiet;
	bool has_no_legend;
	bool is_kill;
	bool is_fresh;
	bool is_no_wait;
	const char *reason, *cause, *severity, *topology, *host; /* NULL: not given */
	const char *manager; /* NULL: not given */
	const char *after; /* a number, or "now" */
	uint64_t timeout_ns; /* given, or the verb's */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
};

/* What the words are: for completion. */
enum hf_verb_words {
	HF_VERB_NO_WORDS,
	HF_VERB_VM, /* any that is known here */
	HF_VERB_FROZEN, /* NAME@ID */
	HF_VERB_FILES,
};

struct hf_verb {
	const char *name;
	const char *arguments; /* its words, for the usage; "" */
	const char *help; /* one line */
	/* What it can be asked with --help: what a line cannot say. May be NULL. */
	const char *more;
	const char *options; /* letters of enum below's table; --run-dir and --help: always */
	enum hf_verb_words words;
	int words_min, words_max; /* max < 0: any number */
	bool is_hidden; /* not in the summary */
	uint64_t timeout_ns; /* unless given; 0: none */
	int (*run)(const struct hf_verb_options *o);
	/* Instead of all from `options` on: it reads its options itself. argv[0]: the verb. Return: an
	 * exit status; HF_EXIT_USAGE once it has said what is wrong (the usage is printed then);
	 * negative: print the usage as help. */
	int (*run_raw)(int argc, char **argv);
	const char *subverbs; /* of a raw one, separated by blanks, for completion */
	const char *raw_options; /* "--json --force" of a raw one, for completion */
};

/* An option of the table: j --json, f --force... */
struct hf_verb_option {
	char letter;
	const char *name;
	const char *metavar; /* NULL: takes no value */
};

const struct hf_verb *hf_verb_at(size_t i); /* NULL behind the last one */
const struct hf_verb *hf_verb_find(const char *name);

/* @i: counts those that @v takes; NULL behind the last one. */
const struct hf_verb_option *hf_verb_option_at(const struct hf_verb *v, size_t i);

/**
 * hf_verb_parse() - the command line of a verb
 * @argv: [0] is the verb; is permuted, @ret points into it
 * Return: 0; 1: help is wanted; -EINVAL: has said what is wrong.
 */
int hf_verb_parse(const struct hf_verb *v, int argc, char **argv, struct hf_verb_options *ret);

/* "usage: holdfast stop NAME [--force]...", wrapped. */
void hf_verb_print_usage(FILE *to, const struct hf_verb *v);

/* The defaults: environment, then the built-in ones. */
void hf_verb_defaults(struct hf_verb_options *ret);

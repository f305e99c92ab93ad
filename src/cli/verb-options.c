/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of the verbs, and the usage that follows from them. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/exit.h"
#include "cli/verb.h"
#include "core/vm.h"

#define COLUMNS 80
#define INDENT 7
#define TIMEOUT_MAX_NS (7ull * 24 * 3600 * HF_VERB_SECOND)

static const struct hf_verb_option options[] = {
	{ 'j', "json", NULL },           { 'f', "force", NULL },      { 'q', "quiet", NULL },
	{ 'L', "no-legend", NULL },      { 'R', "reason", "TEXT" },   { 'C', "cause", "CAUSE" },
	{ 'S', "severity", "SEVERITY" }, { 'P', "topology", "TEXT" }, { 'k', "kill", NULL },
	{ 'A', "after", "SEQ|now" },     { 'H', "host", "HOST" },     { 'F', "fresh", NULL },
	{ 'W', "no-wait", NULL },        { 't', "timeout", "TIME" },  { 'V', "vms", "DIR" },
	{ 'M', "manager", "NAME" },      { 's', "state-dir", "DIR" }, { 'r', "run-dir", "DIR" },
};

#define N_OPTIONS (sizeof(options) / sizeof(options[0]))

static bool is_taken(const struct hf_verb *v, char letter)
{
	return letter == 'r' || (v->options && strchr(v->options, letter));
}

const struct hf_verb_option *hf_verb_option_at(const struct hf_verb *v, size_t i)
{
	for (size_t k = 0; !v->run_raw && k < N_OPTIONS; k++)
		if (is_taken(v, options[k].letter) && i-- == 0)
			return &options[k];
	return NULL;
}

/* ---- usage ---- */

static void put_word(FILE *to, const char *word, size_t *column)
{
	if (*column + 1 + strlen(word) > COLUMNS) {
		(void)fprintf(to, "\n%*s", INDENT, "");
		*column = INDENT;
	}
	(void)fprintf(to, " %s", word);
	*column += 1 + strlen(word);
}

void hf_verb_print_usage(FILE *to, const struct hf_verb *v)
{
	const struct hf_verb_option *o;
	char word[64];
	size_t column;

	column = (size_t)fprintf(to, "usage: holdfast %s%s%s", v->name, v->arguments[0] ? " " : "",
				 v->arguments);
	for (size_t i = 0; (o = hf_verb_option_at(v, i)); i++) {
		(void)snprintf(word, sizeof(word), "[--%s%s%s]", o->name, o->metavar ? " " : "",
			       o->metavar ? o->metavar : "");
		put_word(to, word, &column);
	}
	(void)fputc('\n', to);
}

/* ---- parsing ---- */

void hf_verb_defaults(struct hf_verb_options *ret)
{
	const char *run_dir = getenv("HOLDFAST_RUN_DIR");
	const char *state_dir = getenv("HOLDFAST_STATE_DIR");
	const char *vms_dir = getenv("HOLDFAST_VMS_DIR");

	*ret = (struct hf_verb_options){
		.run_dir = run_dir ? run_dir : HF_VERB_RUN_DIR,
		.state_dir = state_dir ? state_dir : HF_VERB_STATE_DIR,
		.vms_dir = vms_dir ? vms_dir : HF_VERB_VMS_DIR,
	};
}

/* A bare number is seconds here. */
static int take_timeout(const char *text, uint64_t *ret_ns, struct hf_err *err)
{
	char seconds[32];
	int r;

	if (text[0] && strspn(text, "0123456789") == strlen(text) && strlen(text) < 16) {
		(void)snprintf(seconds, sizeof(seconds), "%ss", text);
		text = seconds;
	}
	r = hf_parse_duration_ns(text, ret_ns, err);
	if (!r && (*ret_ns == 0 || *ret_ns > TIMEOUT_MAX_NS)) {
		hf_err_set(err, "more than nothing is needed, and at most a week");
		r = -EINVAL;
	}
	hf_err_prefix(err, "--timeout: ");
	return r;
}

static int take_after(const char *text, struct hf_err *err)
{
	size_t n = strlen(text);

	if (strcmp(text, "now") == 0 || (n > 0 && n < 19 && strspn(text, "0123456789") == n))
		return 0;
	hf_err_set(err, "--after: '%.40s' is neither the number of an event nor \"now\"", text);
	return -EINVAL;
}

static int take_severity(const char *text, struct hf_err *err)
{
	static const char *const known[] = { "info", "corrected", "recoverable", "fatal" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(text, known[i]) == 0)
			return 0;
	hf_err_set(err, "--severity: '%.40s' is none of info, corrected, recoverable, fatal", text);
	return -EINVAL;
}

static int take_cause(const char *text, struct hf_err *err)
{
	if (hf_vm_cause_find(text) > HF_VM_CAUSE_NONE)
		return 0;
	hf_err_set(err, "--cause: '%.40s' is none: holdfast(1) lists them", text);
	return -EINVAL;
}

static int take_manager(const char *text, struct hf_err *err)
{
	if (strcmp(text, "pacemaker") == 0)
		return 0;
	hf_err_set(err, "--manager: '%.40s' is none that is known: there is pacemaker", text);
	return -EINVAL;
}

static void take_flag(char letter, struct hf_verb_options *o)
{
	o->is_json |= letter == 'j';
	o->is_forced |= letter == 'f';
	o->is_quiet |= letter == 'q';
	o->has_no_legend |= letter == 'L';
	o->is_kill |= letter == 'k';
	o->is_fresh |= letter == 'F';
	o->is_no_wait |= letter == 'W';
}

static int take(char letter, struct hf_verb_options *o, struct hf_err *err)
{
	switch (letter) {
	case 't':
		return take_timeout(optarg, &o->timeout_ns, err);
	case 'A':
		o->after = optarg;
		return take_after(optarg, err);
	case 'S':
		o->severity = optarg;
		return take_severity(optarg, err);
	case 'C':
		o->cause = optarg;
		return take_cause(optarg, err);
	case 'R':
		o->reason = optarg;
		return 0;
	case 'P':
		o->topology = optarg;
		return 0;
	case 'H':
		o->host = optarg;
		return 0;
	case 'M':
		o->manager = optarg;
		return take_manager(optarg, err);
	case 'V':
		o->vms_dir = optarg;
		return 0;
	case 's':
		o->state_dir = optarg;
		return 0;
	case 'r':
		o->run_dir = optarg;
		return 0;
	default:
		take_flag(letter, o);
		return 0;
	}
}

static void make_table(struct option table[N_OPTIONS + 2])
{
	for (size_t i = 0; i < N_OPTIONS; i++)
		table[i] = (struct option){ options[i].name,
					    options[i].metavar ? required_argument : no_argument,
					    NULL, options[i].letter };
	table[N_OPTIONS] = (struct option){ "help", no_argument, NULL, 'h' };
	table[N_OPTIONS + 1] = (struct option){ NULL, 0, NULL, 0 };
}

static int check_words(const struct hf_verb *v, const struct hf_verb_options *o)
{
	if (o->n_words < v->words_min)
		(void)fprintf(stderr, "holdfast %s: %s is missing\n", v->name, v->arguments);
	else if (v->words_max >= 0 && o->n_words > v->words_max)
		(void)fprintf(stderr, "holdfast %s: '%s' is too much\n", v->name,
			      o->words[v->words_max]);
	else
		return 0;
	return -EINVAL;
}

int hf_verb_parse(const struct hf_verb *v, int argc, char **argv, struct hf_verb_options *ret)
{
	struct option table[N_OPTIONS + 2];
	struct hf_err err = { "" };
	int c;

	make_table(table);
	hf_verb_defaults(ret);
	ret->verb = v->name;
	ret->timeout_ns = v->timeout_ns;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (c == 'h')
			return 1;
		if (c == ':' || c == '?' || !is_taken(v, (char)c)) {
			(void)hf_exit_refuse_option(v->name, argv[optind - 1], c);
			return -EINVAL;
		}
		if (take((char)c, ret, &err) < 0) {
			(void)fprintf(stderr, "holdfast %s: %s\n", v->name, err.text);
			return -EINVAL;
		}
	}
	ret->words = argv + optind;
	ret->n_words = argc - optind;
	ret->deadline_ns = ret->timeout_ns ? hf_client_now_ns() + ret->timeout_ns : 0;
	return check_words(v, ret);
}

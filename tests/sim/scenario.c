/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "scenario.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define LINE_MAX_CHARS 400
#define WORDS_MAX 14
#define NTH_MAX 100000u

static const char *const layout_names[] = { "none", "replicated", "shared" };
static const char *const hosts_names[] = { "2", "3" };
static const char *const delays_names[] = { "fixed", "uniform", "edge" };

static bool parse_node(const char *word, int *ret)
{
	if (!word || word[0] < 'A' || word[0] >= 'A' + SIM_NODES || word[1])
		return false;
	*ret = word[0] - 'A';
	return true;
}

static bool parse_number(const char *word, uint64_t max, uint64_t *ret)
{
	unsigned long long n;
	char *end;

	if (!word || word[0] < '0' || word[0] > '9')
		return false;
	errno = 0;
	n = strtoull(word, &end, 10);
	if (*end || errno || n > max)
		return false;
	*ret = n;
	return true;
}

static bool find_name(const char *const *names, unsigned int n, const char *word, unsigned int *ret)
{
	for (unsigned int i = 0; word && i < n; i++) {
		if (strcmp(names[i], word) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static bool parse_time(const char *word, uint64_t *ret)
{
	return word && hf_parse_duration_ns(word, ret, NULL) == 0;
}

static bool needs_peer(enum sim_fault_kind kind)
{
	return kind == SIM_FAULT_CUT || kind == SIM_FAULT_SPLIT || kind == SIM_FAULT_RESET ||
	       kind == SIM_FAULT_DAMAGE;
}

/* FAULT NODE [NODE] [N] [for TIME] */
static bool parse_fault(char **word, struct sim_fault *f)
{
	unsigned int kind;
	uint64_t n = 1;

	if (!find_name(sim_fault_names, SIM_FAULT_COUNT, *word, &kind) ||
	    !parse_node(*++word, &f->a))
		return false;
	word++;
	f->kind = kind;
	if (needs_peer(f->kind) && (!parse_node(*word++, &f->b) || f->b == f->a))
		return false;
	if (*word && parse_number(*word, 1000, &n))
		word++;
	f->n = (unsigned int)n;
	if (*word && strcmp(*word, "for") == 0) {
		if (!parse_time(word[1], &f->for_ns))
			return false;
		word += 2;
	}
	return !*word;
}

/* NODE primary|standby|got NAME N [after TIME] FAULT */
static bool parse_when(char **word, struct sim_fault *f)
{
	static const char *const whens[] = { "primary", "standby", "got" };
	const char *const *names[] = { sim_primary_action_names, sim_standby_action_names,
				       sim_msg_names };
	const unsigned int counts[] = { HF_PRIMARY_ACTION_COUNT, HF_STANDBY_ACTION_COUNT,
					SIM_MSG_COUNT };
	unsigned int which;
	uint64_t nth;

	if (!parse_node(word[0], &f->point_node) || !find_name(whens, 3, word[1], &which) ||
	    !find_name(names[which], counts[which], word[2], &f->point) ||
	    !parse_number(word[3], NTH_MAX, &nth) || !nth)
		return false;
	f->when = SIM_WHEN_PRIMARY + which;
	f->nth = (unsigned int)nth;
	word += 4;
	if (*word && strcmp(*word, "after") == 0) {
		if (!parse_time(word[1], &f->at_ns))
			return false;
		word += 2;
	}
	return parse_fault(word, f);
}

static bool parse_arbiter(char **word, struct sim_plan *plan)
{
	if (strcmp(word[0], "wait") == 0)
		plan->arbiter = SIM_ARBITER_WAIT;
	else if (strcmp(word[0], "vote") == 0)
		plan->arbiter = SIM_ARBITER_VOTE;
	else
		return false;
	return true;
}

static bool parse_setting(char **word, struct sim_plan *plan)
{
	unsigned int n;

	if (!word[1])
		return false;
	if (strcmp(word[0], "seed") == 0)
		return parse_number(word[1], UINT64_MAX, &plan->seed);
	if (strcmp(word[0], "safety") == 0)
		return parse_time(word[1], &plan->safety_ns);
	if (strcmp(word[0], "calm") == 0)
		return parse_time(word[1], &plan->calm_ns);
	if (strcmp(word[0], "resend") == 0)
		return hf_parse_bool(word[1], &plan->does_resend, NULL) == 0;
	if (strcmp(word[0], "slow") == 0)
		return hf_parse_bool(word[1], &plan->is_slow, NULL) == 0;
	if (strcmp(word[0], "hosts") == 0 && find_name(hosts_names, 2, word[1], &n)) {
		plan->n_hosts = (int)n + 2;
		return true;
	}
	if (strcmp(word[0], "disks") == 0 && find_name(layout_names, 3, word[1], &n)) {
		plan->layout = n;
		return true;
	}
	if (strcmp(word[0], "durability") == 0) {
		plan->is_memory_enough = strcmp(word[1], "memory") == 0;
		return plan->is_memory_enough || strcmp(word[1], "disk") == 0;
	}
	if (strcmp(word[0], "gives-up") == 0)
		return hf_parse_bool(word[1], &plan->does_give_up, NULL) == 0;
	if (strcmp(word[0], "arbiter") == 0)
		return parse_arbiter(word + 1, plan);
	if (strcmp(word[0], "storage") == 0) {
		plan->is_storage_flaky = strcmp(word[1], "flaky") == 0;
		return plan->is_storage_flaky || strcmp(word[1], "good") == 0;
	}
	if (strcmp(word[0], "operator") == 0) {
		plan->is_operator_wrong = strcmp(word[1], "wrong") == 0;
		return plan->is_operator_wrong || strcmp(word[1], "honest") == 0;
	}
	if (strcmp(word[0], "delays") == 0 && find_name(delays_names, 3, word[1], &n)) {
		plan->delays = n;
		return true;
	}
	return false;
}

static bool parse_line(char **word, struct sim_plan *plan)
{
	struct sim_fault f = { .n = 1 };
	bool is_fault = strcmp(word[0], "at") == 0 || strcmp(word[0], "when") == 0;

	if (!is_fault)
		return parse_setting(word, plan);
	if (plan->n_faults == SIM_FAULTS)
		return false;
	if (word[0][0] == 'a') {
		if (!word[1] || !parse_time(word[1], &f.at_ns) || !parse_fault(word + 2, &f))
			return false;
	} else if (!parse_when(word + 1, &f)) {
		return false;
	}
	plan->faults[plan->n_faults++] = f;
	return true;
}

static void split(char *line, char **words)
{
	unsigned int n = 0;
	char *save = NULL;

	for (char *word = strtok_r(line, " \t\n", &save); word && n < WORDS_MAX;
	     word = strtok_r(NULL, " \t\n", &save))
		words[n++] = word;
	words[n] = NULL;
}

int sim_scenario_parse(FILE *f, const char *name, struct sim_plan *ret, struct hf_err *err)
{
	struct sim_plan plan = { .seed = 1,
				 .n_hosts = 2,
				 .delays = SIM_DELAYS_FIXED,
				 .does_resend = true,
				 .safety_ns = 400 * SIM_MS,
				 .calm_ns = 700 * SIM_MS };
	char line[LINE_MAX_CHARS], copy[LINE_MAX_CHARS];
	char *words[WORDS_MAX + 1 + 8] = { NULL };

	for (unsigned int n = 1; fgets(line, sizeof(line), f); n++) {
		memcpy(copy, line, sizeof(copy));
		copy[strcspn(copy, "\n")] = '\0';
		memset(words, 0, sizeof(words));
		split(line, words);
		if (!words[0] || words[0][0] == '#')
			continue;
		if (strcmp(words[0], "expect") == 0)
			break;
		if (!parse_line(words, &plan)) {
			hf_err_set(err,
				   "%s:%u: \"%s\" is neither a setting nor a fault; "
				   "see tests/scenario/README.md",
				   name, n, copy);
			return -EINVAL;
		}
	}
	*ret = plan;
	return 0;
}

static void format_fault(FILE *f, const struct sim_fault *fault)
{
	static const char *const whens[] = { "at", "primary", "standby", "got" };
	const char *const *names[] = { NULL, sim_primary_action_names, sim_standby_action_names,
				       sim_msg_names };

	if (fault->when == SIM_WHEN_AT) {
		(void)fprintf(f, "at %lluus", (unsigned long long)(fault->at_ns / SIM_US));
	} else {
		(void)fprintf(f, "when %c %s %s %u", sim_letter(fault->point_node),
			      whens[fault->when], names[fault->when][fault->point], fault->nth);
		if (fault->at_ns)
			(void)fprintf(f, " after %lluus",
				      (unsigned long long)(fault->at_ns / SIM_US));
	}
	(void)fprintf(f, " %s %c", sim_fault_names[fault->kind], sim_letter(fault->a));
	if (needs_peer(fault->kind))
		(void)fprintf(f, " %c", sim_letter(fault->b));
	if (fault->kind == SIM_FAULT_FAIL_CAPTURE || fault->kind == SIM_FAULT_FENCE)
		(void)fprintf(f, " %u", fault->n);
	if (fault->for_ns)
		(void)fprintf(f, " for %lluus", (unsigned long long)(fault->for_ns / SIM_US));
	(void)fputc('\n', f);
}

void sim_scenario_format(FILE *f, const struct sim_plan *plan)
{
	(void)fprintf(f, "seed %llu\n", (unsigned long long)plan->seed);
	(void)fprintf(f, "arbiter %s\n", plan->arbiter == SIM_ARBITER_VOTE ? "vote" : "wait");
	if (plan->is_storage_flaky)
		(void)fputs("storage flaky\n", f);
	if (plan->is_operator_wrong)
		(void)fputs("operator wrong\n", f);
	if (plan->is_slow)
		(void)fputs("slow yes\n", f);
	if (plan->n_hosts != 2)
		(void)fprintf(f, "hosts %d\n", plan->n_hosts);
	if (plan->layout != SIM_DISKS_NONE)
		(void)fprintf(f, "disks %s\ndurability %s\n", layout_names[plan->layout],
			      plan->is_memory_enough ? "memory" : "disk");
	if (plan->does_give_up)
		(void)fputs("gives-up yes\n", f);
	(void)fprintf(f, "delays %s\nresend %s\nsafety %lluus\ncalm %lluus\n",
		      delays_names[plan->delays], plan->does_resend ? "yes" : "no",
		      (unsigned long long)(plan->safety_ns / SIM_US),
		      (unsigned long long)(plan->calm_ns / SIM_US));
	for (unsigned int i = 0; i < plan->n_faults; i++)
		format_fault(f, &plan->faults[i]);
}

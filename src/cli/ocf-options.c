/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The options of `holdfast ocf`. A value that is wrong is the resource's configuration: no node would take it. What
 * begins nothing goes on with the default.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/exit.h"
#include "cli/ocf-call.h"
#include "cli/verb.h"

#define TIMEOUT_NS (20 * HF_VERB_SECOND)
#define TIMEOUT_MAX_NS (7ull * 24 * 3600 * HF_VERB_SECOND)

enum {
	OPT_RESOURCE = 256,
	OPT_INSTANCE,
	OPT_NODE,
	OPT_PROMOTABLE,
	OPT_TIMEOUT,
	OPT_ROLE,
	OPT_PROBE,
	OPT_PAUSED,
	OPT_WHEN_FROZEN,
	OPT_STOP_FAILED,
	OPT_SHUTDOWN_TIMEOUT,
	OPT_PROMOTE_TO,
	OPT_STOP_ON,
	OPT_JSON,
	OPT_RUN_DIR,
	OPT_STATE_DIR,
	OPT_VMS_DIR,
	OPT_HELP,
};

static const struct option options[] = {
	{ "resource", required_argument, NULL, OPT_RESOURCE },
	{ "instance", required_argument, NULL, OPT_INSTANCE },
	{ "node", required_argument, NULL, OPT_NODE },
	{ "promotable", no_argument, NULL, OPT_PROMOTABLE },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "role", required_argument, NULL, OPT_ROLE },
	{ "probe", no_argument, NULL, OPT_PROBE },
	{ "paused", required_argument, NULL, OPT_PAUSED },
	{ "when-frozen", required_argument, NULL, OPT_WHEN_FROZEN },
	{ "stop-failed", required_argument, NULL, OPT_STOP_FAILED },
	{ "shutdown-timeout", required_argument, NULL, OPT_SHUTDOWN_TIMEOUT },
	{ "promote-to", required_argument, NULL, OPT_PROMOTE_TO },
	{ "stop-on", required_argument, NULL, OPT_STOP_ON },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "run-dir", required_argument, NULL, OPT_RUN_DIR },
	{ "state-dir", required_argument, NULL, OPT_STATE_DIR },
	{ "vms", required_argument, NULL, OPT_VMS_DIR },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static int take_word(const char *option, const char *text, const char *const *words, size_t n)
{
	int i = hf_name_find(words, n, text);

	if (i < 0)
		(void)fprintf(stderr, "holdfast ocf: --%s: '%.40s' is no value of it\n", option,
			      text);
	return i < 0 ? -ERANGE : i;
}

static int take_time(const char *option, const char *text, uint64_t *ret_ns)
{
	struct hf_err err = { "" };
	int r = hf_parse_duration_ns(text, ret_ns, &err);

	if (!r && (*ret_ns == 0 || *ret_ns > TIMEOUT_MAX_NS)) {
		hf_err_set(&err, "more than nothing is needed, and at most a week");
		r = -EINVAL;
	}
	if (r == 0)
		return 0;
	(void)fprintf(stderr, "holdfast ocf: --%s: %s\n", option, err.text);
	*ret_ns = 0;
	return -ERANGE;
}

/* Names go into files and messages of others. */
static int take_name(const char *option, const char *text, const char **ret)
{
	for (const char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 127) {
			(void)fprintf(stderr, "holdfast ocf: --%s: no name has such letters\n",
				      option);
			return -ERANGE;
		}
	if (strlen(text) > HF_ASSIGNMENT_TEXT_MAX) {
		(void)fprintf(stderr, "holdfast ocf: --%s: longer than %d bytes\n", option,
			      HF_ASSIGNMENT_TEXT_MAX);
		return -ERANGE;
	}
	*ret = text;
	return 0;
}

static int take_choice(int c, struct hf_ocf_call *ret)
{
	static const char *const paused[] = { "running", "failed" };
	static const char *const frozen[] = { "definition", "refuse", "fresh" };
	static const char *const failed[] = { "freeze", "kill" };
	static const char *const roles[] = { "Promoted", "Master", "Unpromoted", "Slave", "Started",
					     "Stopped",  "" };
	int r;

	if (c == OPT_PAUSED) {
		r = take_word("paused", optarg, paused, 2);
		ret->is_paused_failure = r == 1;
	} else if (c == OPT_WHEN_FROZEN) {
		r = take_word("when-frozen", optarg, frozen, 3);
		ret->when_frozen = r < 0 ? HF_OCF_REFUSE : (enum hf_ocf_when_frozen)r;
	} else if (c == OPT_STOP_FAILED) {
		r = take_word("stop-failed", optarg, failed, 2);
		ret->is_kill_preferred = r == 1;
	} else {
		r = take_word("role", optarg, roles, sizeof(roles) / sizeof(roles[0]));
		ret->is_believed_promoted = r == 0 || r == 1;
	}
	return r < 0 ? r : 0;
}

static int take_text(int c, struct hf_ocf_call *ret)
{
	switch (c) {
	case OPT_RESOURCE:
		return take_name("resource", optarg, &ret->resource);
	case OPT_INSTANCE:
		return take_name("instance", optarg, &ret->instance);
	case OPT_NODE:
		return take_name("node", optarg, &ret->node);
	case OPT_PROMOTE_TO:
		ret->promote_to = optarg;
		return 0;
	case OPT_STOP_ON:
		ret->stop_on = optarg;
		return 0;
	case OPT_RUN_DIR:
		ret->run_dir = optarg;
		return 0;
	case OPT_STATE_DIR:
		ret->state_dir = optarg;
		return 0;
	case OPT_VMS_DIR:
		ret->vms_dir = optarg;
		return 0;
	default:
		return take_choice(c, ret);
	}
}

static int take(int c, struct hf_ocf_call *ret)
{
	ret->is_promotable |= c == OPT_PROMOTABLE;
	ret->is_probe |= c == OPT_PROBE;
	ret->is_json |= c == OPT_JSON;
	if (c == OPT_PROMOTABLE || c == OPT_PROBE || c == OPT_JSON)
		return 0;
	if (c == OPT_TIMEOUT)
		return take_time("timeout", optarg, &ret->timeout_ns);
	if (c == OPT_SHUTDOWN_TIMEOUT)
		return take_time("shutdown-timeout", optarg, &ret->shutdown_ns);
	return take_text(c, ret);
}

static int take_words(int argc, char **argv, struct hf_ocf_call *ret)
{
	int n = argc - optind;
	bool is_table = n == 1 && strcmp(argv[optind], "table") == 0;

	ret->is_orphan = n == 1 && !is_table && *ret->resource;
	if (n != 2 && !is_table && !ret->is_orphan) {
		(void)fprintf(stderr, "holdfast ocf: an action and the name of a VM are wanted\n");
		return -EINVAL;
	}
	ret->action = argv[optind];
	ret->vm = n == 1 ? "" : argv[optind + 1];
	if (n == 1 || hf_is_valid_name(ret->vm))
		return 0;
	(void)fprintf(
		stderr,
		"holdfast ocf: '%.64s' cannot be the name of a VM: 1 to %d of letters, digits, "
		"'.', '_' and '-'\n",
		ret->vm, HF_NAME_MAX);
	return -ERANGE;
}

/* A typo in these must not end what runs, nor keep it from being ended: they have a default. */
static bool has_default(int c)
{
	return c == OPT_PAUSED || c == OPT_WHEN_FROZEN || c == OPT_STOP_FAILED ||
	       c == OPT_SHUTDOWN_TIMEOUT;
}

static bool begins_something(const char *action)
{
	return strcmp(action, "start") == 0 || strcmp(action, "promote") == 0 ||
	       strcmp(action, "validate") == 0;
}

int hf_ocf_parse(int argc, char **argv, struct hf_ocf_call *ret)
{
	struct hf_verb_options dirs;
	bool is_value_wrong = false;
	int c, r = 0;

	hf_verb_defaults(&dirs);
	*ret = (struct hf_ocf_call){ .run_dir = dirs.run_dir,
				     .state_dir = dirs.state_dir,
				     .vms_dir = dirs.vms_dir,
				     .resource = "",
				     .instance = "",
				     .node = "",
				     .promote_to = "",
				     .stop_on = "",
				     .score = -1,
				     .timeout_ns = TIMEOUT_NS,
				     .begun_ns = hf_client_now_ns() };
	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == OPT_HELP)
			return 1;
		if (c == ':' || c == '?') {
			(void)hf_exit_refuse_option("ocf", argv[optind - 1], c);
			return -EINVAL;
		}
		r = take(c, ret);
		if (r == -ERANGE && has_default(c)) {
			is_value_wrong = true;
			r = 0;
		}
	}
	ret->deadline_ns = ret->begun_ns + ret->timeout_ns;
	if (r == 0)
		r = take_words(argc, argv, ret);
	return r == 0 && is_value_wrong && begins_something(ret->action) ? -ERANGE : r;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/host-call.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/exit.h"
#include "codec/json.h"
#include "sys/rundir.h"

#define DEFAULT_RUN_DIR "/run/holdfast"
#define ANSWER_NS 30000000000ull /* a daemon that is stopped, or waits for storage */
#define WAIT_MAX_NS (7ull * 24 * 3600 * 1000000000)

/* ---- options ---- */

static int take_wait(const char *text, uint64_t *ret_ms, struct hf_err *err)
{
	char seconds[32];
	uint64_t ns;
	int r;

	/* A bare number is seconds here. */
	if (text[0] && strspn(text, "0123456789") == strlen(text) && strlen(text) < 16) {
		(void)snprintf(seconds, sizeof(seconds), "%ss", text);
		text = seconds;
	}
	r = hf_parse_duration_ns(text, &ns, err);
	if (!r && ns > WAIT_MAX_NS) {
		hf_err_set(err, "more than a week");
		r = -EINVAL;
	}
	if (!r)
		*ret_ms = ns / 1000000;
	return r;
}

static int take_generation(const char *text, uint64_t *ret, struct hf_err *err)
{
	char *end;

	errno = 0;
	*ret = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
	if (*ret && !errno && !*end)
		return 0;
	hf_err_set(err, "'%.80s' is given, but a number from 1 on is needed", text);
	return -EINVAL;
}

static int take(struct hf_host_options *o, int c, struct hf_err *err)
{
	switch (c) {
	case 'j':
		o->is_json = true;
		return 0;
	case 'f':
		o->is_forced = true;
		return 0;
	case 'h':
		o->is_from_held = true;
		return 0;
	case 'c':
		o->is_creating = true;
		return 0;
	case 'e':
		o->is_following = true;
		return 0;
	case 'w':
	case 't':
		return take_wait(optarg, &o->wait_ms, err);
	case 'T':
		o->to = optarg;
		return 0;
	case 'g':
		return take_generation(optarg, &o->generation, err);
	default:
		o->run_dir = optarg;
		return 0;
	}
}

static int usage_error(const char *verb, const char *text)
{
	(void)fprintf(stderr, "holdfast %s: %s\n", verb, text);
	return -EINVAL;
}

static int take_words(const char *verb, int argc, char **argv, bool wants_vm, bool wants_command,
		      struct hf_host_options *ret)
{
	int wanted = wants_vm ? 1 : 0;

	if (argc < wanted)
		return usage_error(verb, "the name of a VM is needed");
	if (wants_vm && !hf_is_valid_name(argv[0]))
		return usage_error(verb, "a VM's name has up to 63 letters, digits and ._-, and "
					 "does not begin with . or -");
	if (wants_command && argc == wanted)
		return usage_error(verb, "a command to run is needed, behind --");
	if (!wants_command && argc > wanted)
		return usage_error(verb, "too many words");
	ret->vm = wants_vm ? argv[0] : NULL;
	ret->command = wants_command ? argv + 1 : NULL;
	return 0;
}

int hf_host_parse(const char *verb, int argc, char **argv, const char *allowed, bool wants_vm,
		  bool wants_command, struct hf_host_options *ret)
{
	static const struct option table[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "force", no_argument, NULL, 'f' },
		{ "from-held", no_argument, NULL, 'h' },
		{ "create", no_argument, NULL, 'c' },
		{ "events", no_argument, NULL, 'e' },
		{ "wait", required_argument, NULL, 'w' },
		{ "timeout", required_argument, NULL, 't' },
		{ "to", required_argument, NULL, 'T' },
		{ "generation", required_argument, NULL, 'g' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'H' },
		{ NULL, 0, NULL, 0 },
	};
	const char *run_dir = getenv("HOLDFAST_RUN_DIR");
	struct hf_err err;
	int c;

	*ret = (struct hf_host_options){ .run_dir = run_dir ? run_dir : DEFAULT_RUN_DIR,
					 .wait_ms = UINT64_MAX };
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		if (c == 'H')
			return 1;
		if (c == ':' || c == '?' || (c != 'r' && !strchr(allowed, c))) {
			(void)hf_exit_refuse_option(verb, argv[optind - 1], c);
			return -EINVAL;
		}
		if (take(ret, c, &err) < 0) {
			(void)fprintf(stderr, "holdfast %s: %s\n", verb, err.text);
			return -EINVAL;
		}
	}
	return take_words(verb, argc - optind, argv + optind, wants_vm, wants_command, ret);
}

/* ---- calls ---- */

int hf_host_complain(const char *verb, const struct hf_client *c, int r, const struct hf_err *err)
{
	(void)fprintf(stderr, "holdfast %s: %s\n", verb, err->text);
	if (r == -ESRCH || r == -ECONNRESET)
		return HF_HOST_EXIT_NO_DAEMON;
	if (r != -EREMOTE)
		return hf_exit_of(r, NULL);
	if (strcmp(c->error, "Owned") == 0 || strcmp(c->error, "Lost") == 0)
		return HF_HOST_EXIT_OWNED;
	if (strcmp(c->error, "NoStorage") == 0 || strcmp(c->error, "NotMember") == 0)
		return HF_LEASE_EXIT_STORAGE;
	return HF_LEASE_EXIT_FAILED;
}

int hf_host_ask(const char *verb, const struct hf_host_options *o, const char *method,
		struct json_object *parameters, struct json_object **ret)
{
	struct json_object *reply = NULL;
	struct hf_err err = { "" };
	struct hf_client c;
	int code = HF_LEASE_EXIT_DONE;
	/* What waits for other hosts has no limit here: its own options, or Ctrl-C, end it. */
	uint64_t limit_ns = strcmp(method, "Transfer") == 0 ? 0 : hf_client_now_ns() + ANSWER_NS;
	int r = hf_client_open_by(o->run_dir, HF_RUNDIR_HOST, limit_ns, &c, &err);

	if (r < 0) {
		json_object_put(parameters);
		return hf_host_complain(verb, &c, r, &err);
	}
	r = hf_client_call(&c, method, parameters, /* is_more= */ false, &err);
	json_object_put(parameters);
	if (!r)
		r = hf_client_reply(&c, &reply, &err);
	if (r < 0)
		code = hf_host_complain(verb, &c, r, &err);
	hf_client_close(&c);
	if (ret && code == HF_LEASE_EXIT_DONE)
		*ret = reply;
	else
		json_object_put(reply);
	return code;
}

struct json_object *hf_host_about(const struct hf_host_options *o)
{
	struct json_object *p = json_object_new_object();

	json_object_object_add(p, "vm", json_object_new_string(o->vm));
	return p;
}

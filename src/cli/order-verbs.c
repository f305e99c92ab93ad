/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/order-verbs.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/look-verbs.h"
#include "cli/rows.h"
#include "codec/json.h"
#include "sys/rundir.h"

#define MS 1000000ull
#define PROBE_NS HF_VERB_SECOND /* a daemon that does not answer within it is done without */
#define LOOK_AGAIN_MS 20

static void put_text(struct json_object *p, const char *key, const char *value)
{
	if (value)
		json_object_object_add(p, key, json_object_new_string(value));
}

static void put_flag(struct json_object *p, const char *key, bool is_set)
{
	if (is_set)
		json_object_object_add(p, key, json_object_new_boolean(true));
}

/* One call that is answered at once. */
static int order(const struct hf_verb_options *o, const char *method, struct json_object *p)
{
	struct hf_instance at;
	struct hf_client c;
	int code = hf_order_open(o, &c, &at, NULL);

	if (code != HF_EXIT_DONE) {
		json_object_put(p);
		return code;
	}
	code = hf_order_call(o, &c, method, p, false, NULL);
	hf_client_close(&c);
	return code;
}

int hf_order_pause(const struct hf_verb_options *o)
{
	return order(o, "Pause", NULL);
}

/* ---- resume ---- */

static struct json_object *about(const struct hf_verb_options *o)
{
	struct json_object *p = json_object_new_object();

	put_text(p, "vm", o->words[0]);
	return p;
}

int hf_order_resume(const struct hf_verb_options *o)
{
	struct json_object *row;
	struct hf_instance at;
	struct hf_client c;
	bool is_saved;
	int code = hf_order_open(o, &c, &at, &row);

	if (code == HF_EXIT_DONE) {
		code = hf_order_call(o, &c, "Resume", NULL, false, NULL);
		hf_client_close(&c);
		return code;
	}
	if (!row)
		return code;
	is_saved = strcmp(hf_rows_text(row, "life"), "saved") == 0;
	if (!is_saved)
		(void)fprintf(stderr,
			      "holdfast resume: '%s' is %s: there is nothing to go on with here\n",
			      hf_rows_text(row, "name"), hf_rows_text(row, "life"));
	json_object_put(row);
	return is_saved ? hf_order_ask_daemon(o, "Start", about(o), true, NULL) : code;
}

/* ---- promote ---- */

static int status_of(const struct hf_verb_options *o, struct hf_client *c,
		     struct json_object **ret_reply, struct json_object **ret)
{
	struct hf_err err;
	int code;

	*ret_reply = NULL;
	code = hf_order_call(o, c, "Status", NULL, false, ret_reply);
	if (code == HF_EXIT_DONE && hf_json_obj(*ret_reply, "status", ret, &err) < 0)
		code = hf_exit_complain(o->verb, HF_EXIT_FAILED, &err);
	return code;
}

/* The keeper stays the same: the standby becomes the primary. DONE: it has; -1: not yet. */
static int promoted(const struct hf_verb_options *o, struct hf_client *c)
{
	struct json_object *reply;
	struct json_object *s;
	int code = status_of(o, c, &reply, &s);

	if (code == HF_EXIT_DONE && strcmp(hf_rows_text(s, "role"), "primary") != 0) {
		const char *state = hf_rows_text(s, "state");
		bool has_failed = strcmp(state, "failed") == 0 || strcmp(state, "denied") == 0;

		if (has_failed)
			(void)fprintf(stderr, "holdfast promote: %s: see `holdfast events %s`\n",
				      state, o->words[0]);
		code = has_failed ? HF_EXIT_FAILED : -1;
	}
	json_object_put(reply);
	return code;
}

static int wait_promoted(const struct hf_verb_options *o, struct hf_client *c)
{
	struct hf_progress p;
	int code;

	hf_progress_begin(&p, o->verb);
	while ((code = promoted(o, c)) < 0) {
		if (hf_client_now_ns() >= o->deadline_ns) {
			hf_progress_end(&p);
			(void)fprintf(stderr,
				      "holdfast promote: the order is given, but it does not run "
				      "here yet: see `holdfast status %s`\n",
				      o->words[0]);
			return HF_EXIT_TIMED_OUT;
		}
		hf_progress_text(&p, "waiting for it to run here");
		(void)poll(NULL, 0, LOOK_AGAIN_MS);
	}
	hf_progress_end(&p);
	return code;
}

int hf_order_promote(const struct hf_verb_options *o)
{
	struct json_object *p = json_object_new_object();
	struct hf_instance at;
	struct hf_client c;
	int code = hf_order_open(o, &c, &at, NULL);
	bool is_open = code == HF_EXIT_DONE;

	put_flag(p, "force", o->is_forced);
	if (is_open)
		code = hf_order_check_manager(o->verb, o->run_dir, at.vm, o->manager);
	if (code != HF_EXIT_DONE) {
		json_object_put(p);
		if (is_open)
			hf_client_close(&c);
		return code;
	}
	code = hf_order_call(o, &c, "Promote", p, false, NULL);
	if (code == HF_EXIT_DONE && !o->is_no_wait)
		code = wait_promoted(o, &c);
	hf_client_close(&c);
	return code;
}

/* ---- stop ---- */

/* Does holdfastd answer, and know the VM? */
static bool is_daemons(const struct hf_verb_options *o)
{
	struct json_object *reply = NULL, *p;
	struct hf_client c;
	bool is_known;

	if (hf_client_open_by(o->run_dir, HF_RUNDIR_HOST, hf_client_now_ns() + PROBE_NS, &c, NULL))
		return false;
	p = about(o);
	is_known = hf_client_call(&c, "Vm", p, false, NULL) == 0 &&
		   hf_client_reply(&c, &reply, NULL) == 0;
	json_object_put(p);
	json_object_put(reply);
	hf_client_close(&c);
	return is_known;
}

int hf_order_wait_end(const struct hf_verb_options *o, struct hf_client *c)
{
	struct pollfd fd = { .fd = c->fd, .events = POLLIN };
	struct json_object *nothing = NULL;
	struct hf_progress p;
	int r = 0;

	hf_progress_begin(&p, o->verb);
	while (r >= 0 && hf_client_now_ns() < o->deadline_ns) {
		hf_progress_text(&p, "waiting for its end");
		if (poll(&fd, 1, 200) == 0)
			continue;
		r = hf_client_poll(c, &nothing, NULL);
		json_object_put(nothing);
		nothing = NULL;
	}
	hf_progress_end(&p);
	return r == -ECONNRESET ? 0 : r < 0 ? r : -ETIMEDOUT;
}

static int tell_not_ended(const struct hf_verb_options *o)
{
	(void)fprintf(stderr,
		      "holdfast stop: '%s' was asked to end, and has not done so in time: look at "
		      "its console%s\n",
		      o->words[0],
		      o->is_forced ? " and at `holdfast events`"
				   : ", or end it at once with --force");
	return HF_EXIT_TIMED_OUT;
}

static int stop_by_keeper(const struct hf_verb_options *o)
{
	struct json_object *p = json_object_new_object();
	struct hf_instance at;
	struct hf_client c;
	int code = hf_order_open(o, &c, &at, NULL);

	if (code == HF_EXIT_DONE && at.id[0]) {
		(void)fprintf(stderr,
			      "holdfast stop: '%s@%s' is frozen, so it does not run: `holdfast "
			      "release` discards it\n",
			      at.vm, at.id);
		hf_client_close(&c);
		code = HF_EXIT_REFUSED;
	}
	if (code != HF_EXIT_DONE) {
		json_object_put(p);
		return code;
	}
	json_object_object_add(p, "force", json_object_new_boolean(o->is_forced));
	code = hf_order_call(o, &c, "Stop", p, false, NULL);
	if (code == HF_EXIT_DONE && !o->is_no_wait && hf_order_wait_end(o, &c) == -ETIMEDOUT)
		code = tell_not_ended(o);
	hf_client_close(&c);
	return code;
}

int hf_order_stop(const struct hf_verb_options *o)
{
	struct json_object *p;
	struct hf_instance at;
	struct hf_err err = { "" };
	int code;

	if (hf_instance_parse(o->words[0], &at, &err) < 0)
		return hf_exit_complain(o->verb, HF_EXIT_USAGE, &err);
	if (at.id[0])
		return stop_by_keeper(o);
	if (!is_daemons(o)) {
		code = hf_order_check_manager(o->verb, o->run_dir, at.vm, o->manager);
		return code == HF_EXIT_DONE ? stop_by_keeper(o) : code;
	}
	p = about(o);
	put_flag(p, "force", o->is_forced);
	put_text(p, "manager", o->manager);
	code = hf_order_ask_daemon(o, "Stop", p, !o->is_no_wait, NULL);
	return code == HF_EXIT_TIMED_OUT ? tell_not_ended(o) : code;
}

/* ---- freeze, offload ---- */

int hf_order_freeze(const struct hf_verb_options *o)
{
	struct json_object *p = json_object_new_object();
	struct json_object *reply = NULL;
	struct hf_instance at;
	struct hf_client c;
	int code = hf_order_open(o, &c, &at, NULL);

	put_text(p, "reason", o->reason);
	put_text(p, "cause", o->cause);
	put_text(p, "severity", o->severity);
	put_text(p, "topology", o->topology);
	put_flag(p, "kill", o->is_kill);
	if (code != HF_EXIT_DONE) {
		json_object_put(p);
		return code;
	}
	code = hf_order_call(o, &c, "Freeze", p, /* is_more= */ true, &reply);
	hf_client_close(&c);
	if (code == HF_EXIT_DONE && o->is_json)
		hf_look_print_json(reply);
	else if (code == HF_EXIT_DONE && *hf_rows_text(reply, "id"))
		printf("%s@%s\n", at.vm, hf_rows_text(reply, "id"));
	json_object_put(reply);
	return code;
}

int hf_order_offload(const struct hf_verb_options *o)
{
	struct hf_instance at;
	struct hf_client c;
	struct json_object *row;
	int code = hf_order_open(o, &c, &at, &row);

	if (code == HF_EXIT_DONE) {
		code = hf_order_call(o, &c, "Offload", NULL, /* is_more= */ true, NULL);
		hf_client_close(&c);
	} else if (row) {
		(void)fprintf(stderr,
			      "holdfast offload: '%s' has no keeper, so its memory is in a file "
			      "already, or lost: see `holdfast status %s`\n",
			      hf_rows_text(row, "name"), hf_rows_text(row, "name"));
		json_object_put(row);
	}
	return code;
}

/* ---- holdfastd's ---- */

int hf_order_start(const struct hf_verb_options *o)
{
	struct json_object *p;
	struct hf_instance at;
	struct hf_err err = { "" };

	if (hf_instance_parse(o->words[0], &at, &err) < 0)
		return hf_exit_complain(o->verb, HF_EXIT_USAGE, &err);
	if (at.id[0]) {
		(void)fprintf(
			stderr,
			"holdfast start: '%s' is frozen and never runs again: `holdfast start "
			"%s --fresh` boots the VM anew beside it, `holdfast inspect` brings "
			"it to life in isolation\n",
			o->words[0], at.vm);
		return HF_EXIT_REFUSED;
	}
	p = about(o);
	put_flag(p, "fresh", o->is_fresh);
	put_text(p, "host", o->host);
	put_text(p, "manager", o->manager);
	return hf_order_ask_daemon(o, "Start", p, !o->is_no_wait, NULL);
}

int hf_order_clear(const struct hf_verb_options *o)
{
	struct hf_instance at;
	struct hf_err err = { "" };

	if (hf_instance_parse(o->words[0], &at, &err) < 0)
		return hf_exit_complain(o->verb, HF_EXIT_USAGE, &err);
	return hf_order_ask_daemon(o, "Clear", about(o), false, NULL);
}

/* A file that is wrong does no harm to what is in force; but it is an error. */
static int tell_errors(struct json_object *reply)
{
	struct json_object *errors;
	size_t n = 0;

	if (hf_json_array(reply, "errors", &errors, NULL) == 0)
		n = json_object_array_length(errors);
	for (size_t i = 0; i < n; i++)
		(void)fprintf(stderr, "holdfast reload: %s\n",
			      json_object_get_string(json_object_array_get_idx(errors, i)));
	return n ? HF_EXIT_FAILED : HF_EXIT_DONE;
}

int hf_order_reload(const struct hf_verb_options *o)
{
	struct json_object *reply = NULL;
	int code = hf_order_ask_daemon(o, "Reload", NULL, false, &reply);

	if (code == HF_EXIT_DONE && o->is_json && reply)
		hf_look_print_json(reply);
	if (code == HF_EXIT_DONE)
		code = tell_errors(reply);
	json_object_put(reply);
	return code;
}

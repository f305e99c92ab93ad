/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whom an order goes to, and what it answers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/gather.h"
#include "cli/order-verbs.h"
#include "cli/peek.h"
#include "cli/rows.h"
#include "codec/json.h"
#include "sys/rundir.h"

#define LOOK_NS (2 * HF_VERB_SECOND)

/* ---- whom ---- */

/* The row of what is there; looks no longer than `status` would. */
static int look(const struct hf_verb_options *o, const struct hf_instance *which,
		struct json_object **ret, struct hf_err *err)
{
	struct hf_verb_options brief = *o;
	struct hf_gather g;
	int r;

	if (!brief.timeout_ns || brief.timeout_ns > LOOK_NS) {
		brief.timeout_ns = LOOK_NS;
		brief.deadline_ns = hf_client_now_ns() + LOOK_NS;
	}
	hf_gather_all(&brief, which, /* is_whole= */ false, &g);
	*ret = NULL;
	r = hf_gather_choose(&g, which, ret, err);
	json_object_get(*ret);
	hf_gather_fini(&g);
	return r;
}

static int tell_no_keeper(const struct hf_verb_options *o, struct json_object *row)
{
	const char *life = hf_rows_text(row, "life");
	const char *name = hf_rows_text(row, "name");
	const char *hint = hf_json_has(row, "id")          ? "nothing of it runs any more"
			   : strcmp(life, "saved") == 0    ? "`holdfast resume` brings it back"
			   : strcmp(life, "shut-off") == 0 ? "`holdfast start` starts it"
							   : "there is nothing to be ordered";

	(void)fprintf(stderr,
		      "holdfast %s: no keeper for '%s' is running on this host: it is %s; %s\n",
		      o->verb, name, life, hint);
	return HF_EXIT_NOT_THERE;
}

/* Nobody answers to the name as it was given: it may be short, or of what has no keeper. */
static int open_found(const struct hf_verb_options *o, struct hf_client *c, struct hf_instance *at,
		      struct json_object **ret_row)
{
	struct json_object *row = NULL;
	struct hf_err err = { "" };
	char name[HF_INSTANCE_TEXT];
	int r = look(o, at, &row, &err);

	if (r < 0)
		return hf_exit_complain(o->verb, r == -EEXIST ? HF_EXIT_USAGE : HF_EXIT_NOT_THERE,
					&err);
	(void)snprintf(at->id, sizeof(at->id), "%s", hf_rows_text(row, "id"));
	r = hf_client_open_by(o->run_dir, hf_instance_format(at, name), o->deadline_ns, c, &err);
	if (!r) {
		json_object_put(row);
		return HF_EXIT_DONE;
	}
	if (r != -ESRCH) {
		json_object_put(row);
		return hf_exit_complain(o->verb, hf_exit_of(r, NULL), &err);
	}
	if (ret_row) {
		*ret_row = row;
		return HF_EXIT_NOT_THERE;
	}
	(void)tell_no_keeper(o, row);
	json_object_put(row);
	return HF_EXIT_NOT_THERE;
}

int hf_order_open(const struct hf_verb_options *o, struct hf_client *c, struct hf_instance *ret_at,
		  struct json_object **ret_row)
{
	struct hf_err err = { "" };
	char name[HF_INSTANCE_TEXT];
	int r;

	if (ret_row)
		*ret_row = NULL;
	if (hf_instance_parse(o->words[0], ret_at, &err) < 0)
		return hf_exit_complain(o->verb, HF_EXIT_USAGE, &err);
	r = hf_client_open_by(o->run_dir, hf_instance_format(ret_at, name), o->deadline_ns, c,
			      &err);
	if (r == -ESRCH)
		return open_found(o, c, ret_at, ret_row);
	return r < 0 ? hf_exit_complain(o->verb, hf_exit_of(r, NULL), &err) : HF_EXIT_DONE;
}

/* ---- what it answers ---- */

static void show_progress(struct hf_progress *p, struct json_object *reply)
{
	const char *step = hf_rows_text(reply, "step");
	char text[320];

	if (hf_json_has(reply, "total_bytes")) {
		hf_progress_bytes(p, (uint64_t)hf_rows_number(reply, "done_bytes"),
				  (uint64_t)hf_rows_number(reply, "total_bytes"));
		return;
	}
	(void)snprintf(text, sizeof(text), "%s%s%s%s%s", step, *step ? " " : "",
		       hf_rows_text(reply, "result"), *step ? ": " : "",
		       hf_rows_text(reply, "text"));
	hf_progress_text(p, text);
}

/* Why there is no answer, as far as that can be seen. */
static void explain_silence(const struct hf_verb_options *o, const struct hf_client *c)
{
	struct hf_peek p;

	if (strcmp(c->who, "holdfastd") == 0 || !o->n_words)
		hf_peek_at(o->run_dir, HF_RUNDIR_HOST, &p);
	else
		hf_peek_at(o->run_dir, o->words[0], &p);
	if (p.pid)
		(void)fprintf(stderr, "holdfast %s: %s\n", o->verb, p.text);
}

/* A reply that is not the last one is progress. An older keeper does not mark its last one. */
static int receive(const struct hf_verb_options *o, struct hf_client *c, bool is_more,
		   struct json_object **ret, struct hf_err *err)
{
	struct hf_progress p;
	char last[160] = "";
	bool has_progressed = false;
	int r;

	hf_progress_begin(&p, o->verb);
	while ((r = hf_client_reply(c, ret, err)) == 0 && is_more && c->is_continued) {
		show_progress(&p, *ret);
		(void)snprintf(last, sizeof(last), "%s", hf_rows_text(*ret, "text"));
		has_progressed = true;
		json_object_put(*ret);
		*ret = NULL;
	}
	hf_progress_end(&p);
	if (r != -ETIMEDOUT || !has_progressed)
		return r;
	hf_err_set(err, "it is not done yet, and goes on%s%s", last[0] ? ": " : "", last);
	return -EINPROGRESS;
}

int hf_order_call(const struct hf_verb_options *o, struct hf_client *c, const char *method,
		  struct json_object *p, bool is_more, struct json_object **ret)
{
	struct json_object *reply = NULL;
	struct hf_err err = { "" };
	int r = hf_client_call(c, method, p, is_more, &err);

	json_object_put(p);
	if (!r)
		r = receive(o, c, is_more, &reply, &err);
	if (r < 0) {
		(void)hf_exit_complain(o->verb, 0, &err);
		if (r == -ETIMEDOUT)
			explain_silence(o, c);
		return hf_exit_of(r, c);
	}
	if (ret)
		*ret = reply;
	else
		json_object_put(reply);
	return HF_EXIT_DONE;
}

int hf_order_ask_daemon(const struct hf_verb_options *o, const char *method, struct json_object *p,
			bool is_more, struct json_object **ret)
{
	struct hf_err err = { "" };
	struct hf_client c;
	int code;
	int r = hf_client_open_by(o->run_dir, HF_RUNDIR_HOST, o->deadline_ns, &c, &err);

	if (r < 0) {
		json_object_put(p);
		(void)hf_exit_complain(o->verb, 0, &err);
		if (r == -ESRCH)
			(void)fprintf(
				stderr,
				"holdfast %s: start it (systemctl start holdfastd), or see to "
				"the VM by hand: `holdfast run`\n",
				o->verb);
		return hf_exit_of(r, NULL);
	}
	code = hf_order_call(o, &c, method, p, is_more, ret);
	hf_client_close(&c);
	return code;
}

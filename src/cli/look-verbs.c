/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/look-verbs.h"

#include <errno.h>
#include <json-c/json_object_iterator.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/rows.h"
#include "cli/show-frozen.h"
#include "cli/show.h"
#include "codec/json.h"
#include "sys/rundir.h"

void hf_look_print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* ---- list ---- */

static void warn(const struct hf_verb_options *o, const struct hf_gather *g)
{
	if (g->daemon == HF_GATHER_SILENT || g->daemon == HF_GATHER_DEAD ||
	    g->daemon == HF_GATHER_FORBIDDEN)
		(void)fprintf(stderr, "holdfast %s: %s\n", o->verb, g->daemon_text);
	for (size_t i = 0; i < json_object_array_length(g->troubles); i++)
		(void)fprintf(stderr, "holdfast %s: %s\n", o->verb,
			      json_object_get_string(json_object_array_get_idx(g->troubles, i)));
}

/* What only `status NAME` shows. */
static void strip(struct json_object *rows)
{
	static const char *const keys[] = { "status", "certificate" };

	for (size_t i = 0; i < json_object_array_length(rows); i++)
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			json_object_object_del(json_object_array_get_idx(rows, i), keys[k]);
}

int hf_look_list(const struct hf_verb_options *o)
{
	struct hf_gather g;
	int code;

	hf_gather_all(o, NULL, /* is_whole= */ false, &g);
	strip(g.rows);
	if (o->is_json)
		hf_look_print_json(g.rows);
	else
		hf_show_rows(g.rows, "", !o->has_no_legend);
	warn(o, &g);
	code = g.is_late ? HF_EXIT_TIMED_OUT : HF_EXIT_DONE;
	hf_gather_fini(&g);
	return code;
}

/* ---- status ---- */

static void add(struct json_object *to, const char *key, struct json_object *value)
{
	if (value)
		json_object_object_add(to, key, json_object_get(value));
}

static void print_all_json(const struct hf_gather *g, struct json_object *troubles)
{
	struct json_object *all = json_object_new_object();
	struct json_object *daemon = json_object_new_object();

	json_object_object_add(daemon, "state",
			       json_object_new_string(hf_gather_daemon_name(g->daemon)));
	json_object_object_add(daemon, "text", json_object_new_string(g->daemon_text));
	json_object_object_add(all, "name", json_object_new_string(g->host_name));
	json_object_object_add(all, "daemon", daemon);
	add(all, "host", g->host);
	add(all, "hosts", g->hosts);
	add(all, "leases", g->leases);
	add(all, "vms", g->rows);
	add(all, "troubles", troubles);
	hf_look_print_json(all);
	json_object_put(all);
}

static int status_of_all(const struct hf_verb_options *o)
{
	struct json_object *troubles;
	struct hf_gather g;
	int code;

	hf_gather_all(o, NULL, /* is_whole= */ true, &g);
	strip(g.rows);
	troubles = hf_show_troubles(&g);
	if (o->is_json)
		print_all_json(&g, troubles);
	else if (!o->is_quiet)
		hf_show_all(&g);
	code = g.is_late ? HF_EXIT_TIMED_OUT : HF_EXIT_DONE;
	json_object_put(troubles);
	hf_gather_fini(&g);
	return code;
}

static void copy_all(struct json_object *to, struct json_object *from)
{
	struct json_object_iterator at = json_object_iter_begin(from);
	struct json_object_iterator end = json_object_iter_end(from);

	for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at))
		json_object_object_add(to, json_object_iter_peek_name(&at),
				       json_object_get(json_object_iter_peek_value(&at)));
}

/* The keeper's own members count more than what the row has made of them. */
static void print_json(struct json_object *row)
{
	struct json_object *status = NULL;

	if (hf_json_obj(row, "status", &status, NULL) == 0) {
		json_object_get(status);
		json_object_object_del(row, "status");
		copy_all(row, status);
		json_object_put(status);
	}
	hf_look_print_json(row);
}

static void show_others(struct json_object *row)
{
	struct json_object *ids;

	if (hf_json_array(row, "frozen", &ids, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(ids); i++)
		printf("  note: a frozen instance is kept, see `holdfast status %s@%s`\n",
		       hf_rows_text(row, "vm"),
		       json_object_get_string(json_object_array_get_idx(ids, i)));
}

static void show_line(const char *label, const char *text)
{
	if (*text)
		printf("  %-18s %s\n", label, text);
}

static void show_manager(struct json_object *row)
{
	const char *assigned = hf_rows_text(row, "assigned");
	char text[HF_ROWS_MANAGER];

	if (!*hf_rows_manager(row, text, sizeof(text)))
		return;
	printf("  %-18s %s; assigned to this host: %s\n", "decides", text,
	       *assigned ? assigned : "nothing yet");
}

static void show_way_out(struct json_object *row)
{
	const char *life = hf_rows_text(row, "life");
	const char *vm = hf_rows_text(row, "vm");
	bool is_broken = strcmp(life, "failed") == 0 || strcmp(life, "crashed") == 0;

	if (strcmp(life, "saved") == 0)
		printf("  %-18s holdfast resume %s\n", "to go on", vm);
	else if (is_broken && *hf_rows_text(row, "manager"))
		printf("  %-18s %s starts it again, or `holdfast clear %s` forgets it\n",
		       "to go on", hf_rows_text(row, "manager"), vm);
	else if (is_broken)
		printf("  %-18s holdfast clear %s, then holdfast start %s\n", "to go on", vm, vm);
}

/* Without a keeper that answers. */
static void show_plain(struct json_object *row)
{
	printf("%s: %s\n", hf_rows_text(row, "name"), hf_rows_text(row, "life"));
	show_line("why", hf_rows_text(row, "reason"));
	show_line("wanted", hf_rows_text(row, "desired"));
	show_line("host", hf_rows_text(row, "host"));
	show_line("peer", hf_rows_text(row, "peer"));
	show_way_out(row);
}

static void show_one(const struct hf_verb_options *o, struct json_object *row)
{
	struct json_object *status;

	if (o->is_quiet)
		return;
	if (o->is_json)
		print_json(row);
	else if (hf_json_has(row, "certificate") || hf_json_has(row, "id"))
		hf_show_frozen(row);
	else if (hf_json_obj(row, "status", &status, NULL) == 0)
		hf_show_status(status);
	else
		show_plain(row);
	if (o->is_json || hf_json_has(row, "id"))
		return;
	show_manager(row);
	show_others(row);
}

/* That there is none is only known if all have answered who could know of it. */
static int tell_none(const struct hf_verb_options *o, const struct hf_gather *g, int r,
		     const struct hf_err *err)
{
	if (!o->is_quiet) {
		warn(o, g);
		(void)fprintf(stderr, "holdfast %s: %s\n", o->verb, err->text);
	}
	return r == -EEXIST      ? HF_EXIT_IS_FROZEN
	       : g->is_late      ? HF_EXIT_TIMED_OUT
	       : g->is_forbidden ? HF_EXIT_NO_PERMISSION
				 : HF_EXIT_NOT_THERE;
}

static int status_of_one(const struct hf_verb_options *o, const struct hf_instance *which)
{
	struct json_object *row = NULL;
	struct hf_gather g;
	struct hf_err err = { "" };
	int r, code;

	hf_gather_all(o, which, /* is_whole= */ false, &g);
	r = hf_gather_choose(&g, which, &row, &err);
	if (r < 0) {
		code = tell_none(o, &g, r, &err);
	} else {
		code = hf_exit_of_state(hf_rows_text(row, "life"));
		if (!o->is_quiet)
			warn(o, &g);
		show_one(o, row);
	}
	hf_gather_fini(&g);
	return code;
}

int hf_look_status(const struct hf_verb_options *o)
{
	struct hf_instance which;
	struct hf_err err;

	if (!o->n_words)
		return status_of_all(o);
	if (hf_instance_parse(o->words[0], &which, &err) < 0)
		return hf_exit_complain(o->verb, HF_EXIT_USAGE, &err);
	return status_of_one(o, &which);
}

/* ---- events ---- */

static struct json_object *events_parameters(const struct hf_verb_options *o)
{
	struct json_object *p = json_object_new_object();
	bool is_now = o->after && strcmp(o->after, "now") == 0;

	if (o->after)
		json_object_object_add(
			p, "after",
			json_object_new_int64(is_now ? INT64_MAX : strtoll(o->after, NULL, 10)));
	return p;
}

static int print_event(struct json_object *reply)
{
	struct json_object *event;

	if (hf_json_obj(reply, "event", &event, NULL) == 0)
		puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN |
								   JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(reply);
	return fflush(stdout) ? -EPIPE : 0;
}

static int follow(struct hf_client *c, const struct hf_verb_options *o, struct hf_err *err)
{
	struct json_object *p = events_parameters(o);
	struct json_object *reply = NULL;
	int r = hf_client_call(c, "Events", p, /* is_more= */ true, err);

	json_object_put(p);
	while (!r && (r = hf_client_reply(c, &reply, err)) == 0)
		r = print_event(reply);
	/* Following ends when the keeper does, and that is the end of the story, not a fault. */
	return r == -ECONNRESET || r == -EPIPE ? 0 : r;
}

int hf_look_events(const struct hf_verb_options *o)
{
	struct hf_instance at;
	struct hf_err err = { "" };
	struct hf_client c;
	const char *name = o->n_words ? o->words[0] : HF_RUNDIR_HOST;
	int r;

	if (o->n_words && hf_instance_parse(name, &at, &err) < 0)
		return hf_exit_complain(o->verb, HF_EXIT_USAGE, &err);
	r = hf_client_open_by(o->run_dir, name, hf_client_now_ns() + 10 * HF_VERB_SECOND, &c, &err);
	if (r < 0)
		return hf_exit_complain(o->verb, hf_exit_of(r, NULL), &err);
	c.deadline_ns = o->deadline_ns; /* none, unless given: then that is when to stop */
	r = follow(&c, o, &err);
	hf_client_close(&c);
	if (r == -ETIMEDOUT && o->deadline_ns)
		return HF_EXIT_DONE;
	return r < 0 ? hf_exit_complain(o->verb, hf_exit_of(r, &c), &err) : HF_EXIT_DONE;
}

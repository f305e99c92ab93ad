/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/rows.h"

#include <stdio.h>
#include <string.h>

#include "codec/json.h"

const char *hf_rows_text(struct json_object *o, const char *key)
{
	const char *value = "";

	(void)!hf_json_str(o, key, &value, NULL);
	return value;
}

int64_t hf_rows_number(struct json_object *o, const char *key)
{
	int64_t value = 0;

	(void)!hf_json_i64(o, key, &value, NULL);
	return value;
}

bool hf_rows_is_set(struct json_object *o, const char *key)
{
	bool value = false;

	(void)!hf_json_bool(o, key, &value, NULL);
	return value;
}

static void set(struct json_object *row, const char *key, const char *value)
{
	json_object_object_add(row, key, json_object_new_string(value));
}

static void set_if_missing(struct json_object *row, const char *key, const char *value)
{
	if (*value && !*hf_rows_text(row, key))
		set(row, key, value);
}

/* As it stands, whatever it is. */
static void copy(struct json_object *row, struct json_object *from, const char *key)
{
	struct json_object *value;

	if (hf_json_has(from, key) && !hf_json_has(row, key) &&
	    json_object_object_get_ex(from, key, &value))
		json_object_object_add(row, key, json_object_get(value));
}

struct json_object *hf_rows_find(struct json_object *rows, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);

		if (strcmp(hf_rows_text(row, "name"), name) == 0)
			return row;
	}
	return NULL;
}

static struct json_object *new_row(struct json_object *rows, const struct hf_instance *at)
{
	struct json_object *row = json_object_new_object();
	char name[HF_INSTANCE_TEXT];

	set(row, "name", hf_instance_format(at, name));
	set(row, "vm", at->vm);
	if (at->id[0])
		set(row, "id", at->id);
	json_object_array_add(rows, row);
	return row;
}

static struct json_object *row_of_vm(struct json_object *rows, const char *vm)
{
	struct hf_instance at = { .id = "" };
	struct json_object *row = hf_rows_find(rows, vm);

	if (row)
		return row;
	(void)snprintf(at.vm, sizeof(at.vm), "%s", vm);
	return new_row(rows, &at);
}

/* Of a keeper that does not tell its life: what its role and its guest amount to. */
static const char *life_of(struct json_object *status)
{
	if (*hf_rows_text(status, "life"))
		return hf_rows_text(status, "life");
	if (strcmp(hf_rows_text(status, "role"), "standby") == 0)
		return "standby";
	return strcmp(hf_rows_text(status, "guest"), "stopped") == 0 ? "paused" : "running";
}

void hf_rows_add_keeper(struct json_object *rows, const struct hf_instance *at,
			struct json_object *status)
{
	static const char *const keys[] = { "role",       "protected", "protection",
					    "peer",       "cause",     "severity",
					    "cause_text", "pause",     "qemu_pid" };
	struct json_object *row = new_row(rows, at);

	set(row, "life", life_of(status));
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		copy(row, status, keys[i]);
	json_object_object_add(row, "keeper_pid",
			       json_object_new_int64(hf_rows_number(status, "pid")));
	json_object_object_add(row, "answers", json_object_new_boolean(true));
	json_object_object_add(row, "status", json_object_get(status));
}

void hf_rows_add_silent(struct json_object *rows, const struct hf_instance *at, const char *text,
			int keeper_pid, int qemu_pid)
{
	struct json_object *row = new_row(rows, at);
	char reason[256];

	(void)snprintf(reason, sizeof(reason), "the keeper does not answer: %s", text);
	set(row, "life", at->id[0] ? "frozen" : "unknown");
	set(row, "reason", reason);
	if (keeper_pid)
		json_object_object_add(row, "keeper_pid", json_object_new_int64(keeper_pid));
	if (qemu_pid)
		json_object_object_add(row, "qemu_pid", json_object_new_int64(qemu_pid));
	json_object_object_add(row, "answers", json_object_new_boolean(false));
}

/* Its keeper is just freezing it, and has its plain name still. */
static bool is_same(struct json_object *row, const char *id)
{
	struct json_object *status;
	struct json_object *frozen;

	return hf_json_obj(row, "status", &status, NULL) == 0 &&
	       hf_json_obj(status, "frozen", &frozen, NULL) == 0 &&
	       strcmp(hf_rows_text(frozen, "id"), id) == 0;
}

static struct json_object *row_of_frozen(struct json_object *rows, const struct hf_instance *at)
{
	char name[HF_INSTANCE_TEXT];
	struct json_object *row = hf_rows_find(rows, hf_instance_format(at, name));
	struct json_object *plain = hf_rows_find(rows, at->vm);

	if (row)
		return row;
	if (plain && is_same(plain, at->id))
		return plain;
	row = new_row(rows, at);
	json_object_object_add(row, "answers", json_object_new_boolean(false));
	return row;
}

void hf_rows_add_frozen(struct json_object *rows, struct json_object *frozen)
{
	struct json_object *certificate = NULL;
	struct json_object *row;
	struct hf_instance at = { .id = "" };

	(void)snprintf(at.vm, sizeof(at.vm), "%s", hf_rows_text(frozen, "vm"));
	(void)snprintf(at.id, sizeof(at.id), "%s", hf_rows_text(frozen, "id"));
	row = row_of_frozen(rows, &at);
	/* A latch alone: it was being frozen as its keeper died. It runs nowhere, and never will here. */
	set_if_missing(row, "life", "frozen");
	copy(row, frozen, "path");
	copy(row, frozen, "trouble");
	if (hf_json_obj(frozen, "certificate", &certificate, NULL) < 0) {
		set_if_missing(row, "reason", hf_rows_text(frozen, "trouble"));
		return;
	}
	set_if_missing(row, "cause", hf_rows_text(certificate, "cause"));
	set_if_missing(row, "severity", hf_rows_text(certificate, "severity"));
	set_if_missing(row, "cause_text", hf_rows_text(certificate, "cause_text"));
	copy(row, frozen, "certificate");
}

/* Of a VM that is only remembered there is nothing to show but its frozen instances, in rows of their own. */
static bool is_shown(struct json_object *rows, struct json_object *vm, const char *name)
{
	return hf_rows_is_set(vm, "defined") || *hf_rows_text(vm, "definition_error") ||
	       hf_rows_number(vm, "keeper_pid") > 0 || hf_rows_find(rows, name);
}

void hf_rows_add_daemons(struct json_object *rows, struct json_object *vm)
{
	static const char *const keys[] = { "role",     "protected",   "protection",
					    "cause",    "severity",    "cause_text",
					    "desired",  "supervision", "definition_error",
					    "hosts",    "keeper_pid",  "qemu_pid",
					    "autostart" };
	static const char *const managed[] = { "manager", "resource", "assigned" };
	const char *name = hf_rows_text(vm, "vm");
	bool is_silent;
	struct json_object *row;

	if (!hf_is_valid_name(name) || !is_shown(rows, vm, name))
		return;
	row = row_of_vm(rows, name);
	is_silent = hf_json_has(row, "answers") && !hf_rows_is_set(row, "answers");
	/* What it knows of one that does not answer it knows from before. */
	if (is_silent)
		set(row, "last_life", hf_rows_text(vm, "life"));
	set_if_missing(row, "life", hf_rows_text(vm, "life"));
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!is_silent || strcmp(keys[i], "protected") != 0)
			copy(row, vm, keys[i]);
	for (size_t i = 0; *hf_rows_text(vm, "manager") && i < 3; i++)
		copy(row, vm, managed[i]);
	set_if_missing(row, "host", hf_rows_text(vm, "host"));
	set_if_missing(row, "peer", hf_rows_text(vm, "peer"));
	set_if_missing(row, "reason", hf_rows_text(vm, "reason"));
	json_object_object_add(row, "defined",
			       json_object_new_boolean(hf_rows_is_set(vm, "defined")));
}

void hf_rows_add_saved(struct json_object *rows, const char *vm)
{
	struct json_object *row = row_of_vm(rows, vm);

	if (!*hf_rows_text(row, "life") || strcmp(hf_rows_text(row, "life"), "shut-off") == 0)
		set(row, "life", "saved");
	json_object_object_add(row, "saved", json_object_new_boolean(true));
}

void hf_rows_add_defined(struct json_object *rows, const char *vm)
{
	struct json_object *row = row_of_vm(rows, vm);

	set_if_missing(row, "life", "shut-off");
	json_object_object_add(row, "defined", json_object_new_boolean(true));
}

const char *hf_rows_manager(struct json_object *row, char *buf, size_t size)
{
	const char *manager = hf_rows_text(row, "manager");
	const char *resource = hf_rows_text(row, "resource");

	if (!*manager)
		return "";
	(void)snprintf(buf, size, "managed by %s%s%s%s", manager, *resource ? " (" : "", resource,
		       *resource ? ")" : "");
	return buf;
}

/* ---- the end ---- */

static const char *unprotected_why(struct json_object *row)
{
	const char *text = hf_rows_text(row, "protection");

	/* One that was never to be protected is as it should be. */
	if (strcmp(hf_rows_text(row, "peer"), "-") == 0)
		return "";
	return strncmp(text, "no: ", 4) == 0 ? text + 4 : "";
}

static void set_reason(struct json_object *row)
{
	const char *cause = hf_rows_text(row, "cause");

	/* That somebody wants it so needs no telling, but of one that is frozen it is why. */
	if (strcmp(cause, "none") == 0 || (strcmp(cause, "order") == 0 && !hf_json_has(row, "id")))
		cause = "";
	set_if_missing(row, "reason", hf_rows_text(row, "definition_error"));
	if (*cause)
		set_if_missing(row, "reason", hf_rows_text(row, "cause_text"));
	set_if_missing(row, "reason", cause);
	set_if_missing(row, "reason", unprotected_why(row));
	if (!hf_json_has(row, "reason"))
		set(row, "reason", "");
}

/* Ids of the frozen instances beside the one that has the name. */
static void note_frozen(struct json_object *rows, struct json_object *row)
{
	struct json_object *ids = json_object_new_array();

	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *other = json_object_array_get_idx(rows, i);

		if (hf_json_has(other, "id") &&
		    strcmp(hf_rows_text(other, "vm"), hf_rows_text(row, "vm")) == 0)
			json_object_array_add(ids,
					      json_object_new_string(hf_rows_text(other, "id")));
	}
	json_object_object_add(row, "frozen", ids);
}

/* What holdfastd remembers of a VM whose keeper has ended is no more than that. */
static void forget_past(struct json_object *row)
{
	static const char *const past[] = { "role", "protected", "protection",
					    "peer", "qemu_pid",  "keeper_pid" };
	const char *life = hf_rows_text(row, "life");

	for (size_t i = 0; i < sizeof(past) / sizeof(past[0]); i++)
		json_object_object_del(row, past[i]);
	/* Its frozen instances have rows of their own. */
	if (strcmp(life, "frozen") == 0 || strcmp(life, "freezing") == 0)
		set(row, "life", "shut-off");
}

static bool is_here(struct json_object *row)
{
	return hf_json_has(row, "id") || hf_rows_number(row, "keeper_pid") > 0 ||
	       hf_rows_is_set(row, "saved") || hf_json_has(row, "answers");
}

static int compare(const void *a, const void *b)
{
	return strcmp(hf_rows_text(*(struct json_object *const *)a, "name"),
		      hf_rows_text(*(struct json_object *const *)b, "name"));
}

void hf_rows_finish(struct json_object *rows, const char *host_name)
{
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);

		set_if_missing(row, "life", "unknown");
		if (is_here(row))
			set_if_missing(row, "host", host_name);
		set_reason(row);
		if (!is_here(row))
			forget_past(row);
		if (!hf_json_has(row, "id"))
			note_frozen(rows, row);
	}
	json_object_array_sort(rows, compare);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `holdfast hosts`, `lease list|show|create|request|transfer`: one question each. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/host-call.h"
#include "cli/lease-show.h"
#include "codec/json.h"
#include "sys/rundir.h"

#define FAILED HF_LEASE_EXIT_FAILED
#define USAGE HF_LEASE_EXIT_USAGE

static const char *text(struct json_object *o, const char *key)
{
	const char *value = "";

	(void)!hf_json_str(o, key, &value, NULL);
	return value;
}

static int64_t number(struct json_object *o, const char *key)
{
	int64_t value = 0;

	(void)!hf_json_i64(o, key, &value, NULL);
	return value;
}

static bool is_set(struct json_object *o, const char *key)
{
	bool value = false;

	(void)!hf_json_bool(o, key, &value, NULL);
	return value;
}

/* -1: print the help; else the exit status. */
static int not_parsed(int r)
{
	return r > 0 ? -1 : USAGE;
}

static int bad_answer(const char *verb, struct json_object *reply, const struct hf_err *err)
{
	(void)fprintf(stderr, "holdfast %s: holdfastd's answer makes no sense: %s\n", verb,
		      err->text);
	json_object_put(reply);
	return FAILED;
}

/* ---- hosts ---- */

static void show_host(struct json_object *h)
{
	char age[HF_TEXT_QUANTITY], limit[HF_TEXT_QUANTITY];

	(void)hf_format_duration((uint64_t)number(h, "age_ms") * 1000000, age, sizeof(age));
	(void)hf_format_duration((uint64_t)number(h, "dead_after_ms") * 1000000, limit,
				 sizeof(limit));
	printf("%-6" PRId64 " %-20s %-8s %-10" PRId64 " %-10s %-10s %s%s\n", number(h, "host_id"),
	       text(h, "host"), text(h, "life"), number(h, "generation"), age, limit,
	       text(h, "kind"), is_set(h, "self") ? " (this host)" : "");
}

static void show_self(struct json_object *h)
{
	printf("host         %s, id %" PRId64 " in lockspace %s on %s\n", text(h, "host"),
	       number(h, "host_id"), text(h, "lockspace"), text(h, "area"));
	printf("state        %s%s%s\n", text(h, "state"), text(h, "why")[0] ? ": " : "",
	       text(h, "why"));
	if (is_set(h, "valid"))
		printf("lease        generation %" PRId64 ", tenure %" PRId64 ", valid for %" PRId64
		       " ms\n",
		       number(h, "generation"), number(h, "tenure"), number(h, "valid_ms"));
	printf("storage      %s; %" PRId64 " renewals, %" PRId64 " errors%s%s\n",
	       text(h, "storage"), number(h, "renewals"), number(h, "io_errors"),
	       text(h, "error")[0] ? ": " : "", text(h, "error"));
	printf("leases held  %" PRId64 "\n\n", number(h, "held"));
	printf("%-6s %-20s %-8s %-10s %-10s %-10s %s\n", "ID", "HOST", "LIFE", "GENERATION",
	       "RENEWED", "DEAD AFTER", "KIND");
}

static int show_hosts(const struct hf_host_options *o, struct json_object *status,
		      struct json_object *reply)
{
	struct json_object *self;
	struct json_object *list;
	struct hf_err err;

	if (hf_json_obj(status, "host", &self, &err) < 0 ||
	    hf_json_array(reply, "hosts", &list, &err) < 0) {
		json_object_put(status);
		return bad_answer("hosts", reply, &err);
	}
	if (o->is_json) {
		json_object_object_add(status, "hosts", json_object_get(list));
		hf_lease_print_json(status);
	} else {
		show_self(self);
		for (size_t i = 0; i < json_object_array_length(list); i++)
			show_host(json_object_array_get_idx(list, i));
	}
	json_object_put(status);
	json_object_put(reply);
	return HF_LEASE_EXIT_DONE;
}

static int follow_events(const struct hf_host_options *o)
{
	struct hf_err err = { "" };
	struct json_object *reply;
	struct json_object *event;
	struct hf_client c;
	int r = hf_client_open(o->run_dir, HF_RUNDIR_HOST, &c, &err);

	if (r < 0)
		return hf_host_complain("hosts", &c, r, &err);
	r = hf_client_call(&c, "Events", NULL, /* is_more= */ true, &err);
	while (!r && (r = hf_client_reply(&c, &reply, &err)) == 0) {
		if (hf_json_obj(reply, "event", &event, &err) == 0)
			puts(json_object_to_json_string_ext(
				event, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(reply);
		if (fflush(stdout))
			break;
	}
	hf_client_close(&c);
	/* The end of the daemon is the end of the story, not a fault. */
	return r == -ECONNRESET || !r ? HF_LEASE_EXIT_DONE : hf_host_complain("hosts", &c, r, &err);
}

int hf_host_hosts_run(int argc, char **argv)
{
	struct hf_host_options o;
	struct json_object *status = NULL;
	struct json_object *hosts = NULL;
	int r = hf_host_parse("hosts", argc, argv, "je", false, false, &o);

	if (r)
		return not_parsed(r);
	if (o.is_following)
		return follow_events(&o);
	r = hf_host_ask("hosts", &o, "Status", NULL, &status);
	if (r)
		return r;
	r = hf_host_ask("hosts", &o, "Hosts", NULL, &hosts);
	if (r) {
		json_object_put(status);
		return r;
	}
	return show_hosts(&o, status, hosts);
}

/* ---- leases ---- */

static void show_holders(struct json_object *lease)
{
	struct json_object *pids;

	if (!is_set(lease, "held") || hf_json_array(lease, "pids", &pids, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(pids); i++)
		printf("%s%" PRId64, i ? "," : "",
		       json_object_get_int64(json_object_array_get_idx(pids, i)));
	if (is_set(lease, "pledged"))
		fputs(" pledged", stdout);
}

static void show_row(struct json_object *lease)
{
	char owner[80];

	if (text(lease, "error")[0]) {
		printf("%-20s %s\n", text(lease, "vm"), text(lease, "error"));
		return;
	}
	(void)snprintf(owner, sizeof(owner), "%s (%" PRId64 ")", text(lease, "owner"),
		       number(lease, "owner_id"));
	printf("%-20s %-8" PRId64 " %-24s %-8s ", text(lease, "vm"), number(lease, "lver"),
	       number(lease, "owner_id") ? owner : "-",
	       is_set(lease, "free") ? "free" : text(lease, "owner_life"));
	show_holders(lease);
	putchar('\n');
}

static void show_heading(void)
{
	printf("%-20s %-8s %-24s %-8s %s\n", "VM", "TENURE", "OWNER", "STATE", "HELD HERE BY");
}

int hf_host_list_run(int argc, char **argv)
{
	struct hf_host_options o;
	struct json_object *reply = NULL;
	struct json_object *list;
	struct hf_err err;
	int r = hf_host_parse("lease list", argc, argv, "j", false, false, &o);

	if (r)
		return not_parsed(r);
	r = hf_host_ask("lease list", &o, "Leases", NULL, &reply);
	if (r)
		return r;
	if (hf_json_array(reply, "leases", &list, &err) < 0)
		return bad_answer("lease list", reply, &err);
	if (o.is_json) {
		hf_lease_print_json(list);
	} else {
		show_heading();
		for (size_t i = 0; i < json_object_array_length(list); i++)
			show_row(json_object_array_get_idx(list, i));
	}
	json_object_put(reply);
	return HF_LEASE_EXIT_DONE;
}

int hf_host_show_run(int argc, char **argv)
{
	struct hf_host_options o;
	struct json_object *reply = NULL;
	struct json_object *lease;
	struct hf_err err;
	int r = hf_host_parse("lease show", argc, argv, "j", true, false, &o);

	if (r)
		return not_parsed(r);
	r = hf_host_ask("lease show", &o, "Read", hf_host_about(&o), &reply);
	if (r)
		return r;
	if (hf_json_obj(reply, "lease", &lease, &err) < 0)
		return bad_answer("lease show", reply, &err);
	if (o.is_json) {
		hf_lease_print_json(lease);
	} else {
		show_heading();
		show_row(lease);
	}
	json_object_put(reply);
	return HF_LEASE_EXIT_DONE;
}

/* ---- orders ---- */

int hf_host_create_run(int argc, char **argv)
{
	struct hf_host_options o;
	int r = hf_host_parse("lease create", argc, argv, "", true, false, &o);

	if (r)
		return not_parsed(r);
	return hf_host_ask("lease create", &o, "Create", hf_host_about(&o), NULL);
}

int hf_host_request_run(int argc, char **argv)
{
	struct hf_host_options o;
	struct json_object *p;
	int r = hf_host_parse("lease request", argc, argv, "f", true, false, &o);

	if (r)
		return not_parsed(r);
	p = hf_host_about(&o);
	json_object_object_add(p, "force", json_object_new_boolean(o.is_forced));
	return hf_host_ask("lease request", &o, "Request", p, NULL);
}

static struct json_object *receiver(const struct hf_host_options *o)
{
	struct json_object *p = hf_host_about(o);
	bool is_id = strspn(o->to, "0123456789") == strlen(o->to) && strlen(o->to) < 6;

	if (is_id)
		json_object_object_add(p, "to", json_object_new_int64(strtol(o->to, NULL, 10)));
	else
		json_object_object_add(p, "to", json_object_new_string(o->to));
	json_object_object_add(p, "to_generation", json_object_new_uint64(o->generation));
	json_object_object_add(p, "from_held", json_object_new_boolean(o->is_from_held));
	return p;
}

int hf_host_transfer_run(int argc, char **argv)
{
	struct hf_host_options o;
	struct json_object *reply = NULL;
	int r = hf_host_parse("lease transfer", argc, argv, "jThg", true, false, &o);

	if (r)
		return not_parsed(r);
	if (!o.to || !*o.to || !o.generation) {
		(void)fputs("holdfast lease transfer: --to and --generation are needed, as "
			    "`holdfast lease await` prints them on the other host\n",
			    stderr);
		return USAGE;
	}
	r = hf_host_ask("lease transfer", &o, "Transfer", receiver(&o), &reply);
	if (r)
		return r;
	if (o.is_json)
		hf_lease_print_json(reply);
	if (strcmp(text(reply, "state"), "given") != 0) {
		(void)fprintf(stderr,
			      "holdfast lease transfer: '%s' is owned by host %s (%" PRId64
			      ") by now\n",
			      o.vm, text(reply, "owner"), number(reply, "owner_id"));
		r = HF_HOST_EXIT_OWNED;
	}
	json_object_put(reply);
	return r;
}

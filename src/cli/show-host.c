/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables of VMs, hosts and leases, and what there is to see to. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/look-verbs.h"
#include "cli/rows.h"
#include "cli/table.h"
#include "codec/json.h"

#define TROUBLE_TEXT 640

static const char *protection_of(struct json_object *row)
{
	if (!hf_json_has(row, "protected"))
		return "-";
	return hf_rows_is_set(row, "protected") ? "yes" : "no";
}

void hf_show_rows(struct json_object *rows, const char *indent, bool has_headings)
{
	static const char *const headings[] = { "NAME", "STATE", "ROLE",   "PROTECTED",
						"HOST", "PEER",  "REASON", NULL };
	struct hf_table *t = hf_table_new(headings);

	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		const char *reason = hf_rows_text(row, "reason");
		char manager[HF_ROWS_MANAGER];

		if (!*reason)
			reason = hf_rows_manager(row, manager, sizeof(manager));
		hf_table_add(t,
			     (const char *[]){ hf_rows_text(row, "name"), hf_rows_text(row, "life"),
					       hf_rows_text(row, "role"), protection_of(row),
					       hf_rows_text(row, "host"), hf_rows_text(row, "peer"),
					       reason });
	}
	hf_table_print(t, indent, has_headings);
	hf_table_free(t);
}

static void show_self(const struct hf_gather *g)
{
	printf("Host %s\n", g->host_name);
	if (g->daemon == HF_GATHER_ANSWERS)
		printf("  holdfastd   running, version %s, pid %" PRId64 "\n",
		       hf_rows_text(g->host, "version"), hf_rows_number(g->host, "pid"));
	else
		printf("  holdfastd   %s\n", g->daemon_text);
	if (!*hf_rows_text(g->host, "lockspace"))
		return;
	printf("  lockspace   %s, host id %" PRId64 ", %s%s%s\n",
	       hf_rows_text(g->host, "lockspace"), hf_rows_number(g->host, "host_id"),
	       hf_rows_text(g->host, "state"), *hf_rows_text(g->host, "why") ? ": " : "",
	       hf_rows_text(g->host, "why"));
	printf("  storage     %s%s%s\n", hf_rows_text(g->host, "storage"),
	       *hf_rows_text(g->host, "error") ? ": " : "", hf_rows_text(g->host, "error"));
}

static void show_hosts(struct json_object *hosts)
{
	static const char *const headings[] = { "HOST", "ID", "STATE", "SEEN", NULL };
	struct hf_table *t = hf_table_new(headings);
	char id[32], age[HF_TEXT_QUANTITY], seen[HF_TEXT_QUANTITY + 8];

	for (size_t i = 0; i < json_object_array_length(hosts); i++) {
		struct json_object *h = json_object_array_get_idx(hosts, i);
		int64_t ms = hf_rows_number(h, "age_ms");

		(void)snprintf(id, sizeof(id), "%" PRId64, hf_rows_number(h, "host_id"));
		(void)hf_format_duration((uint64_t)(ms > 0 ? ms : 0) * 1000000, age, sizeof(age));
		(void)snprintf(seen, sizeof(seen), "%s ago", age);
		hf_table_add(t,
			     (const char *[]){ hf_rows_text(h, "host"), id, hf_rows_text(h, "life"),
					       hf_rows_is_set(h, "self") ? "this host" : seen });
	}
	puts("\nHosts");
	hf_table_print(t, "  ", true);
	hf_table_free(t);
}

static void show_leases(struct json_object *leases)
{
	static const char *const headings[] = { "LEASE", "OWNER", "TENURE", "STATE", NULL };
	struct hf_table *t = hf_table_new(headings);
	char tenure[32];

	for (size_t i = 0; i < json_object_array_length(leases); i++) {
		struct json_object *l = json_object_array_get_idx(leases, i);
		const char *error = hf_rows_text(l, "error");

		(void)snprintf(tenure, sizeof(tenure), "%" PRId64, hf_rows_number(l, "lver"));
		hf_table_add(t, (const char *[]){ hf_rows_text(l, "vm"), hf_rows_text(l, "owner"),
						  tenure,
						  *error ? error
						  : hf_rows_is_set(l, "free")
							  ? "free"
							  : hf_rows_text(l, "owner_life") });
	}
	puts("\nLeases");
	hf_table_print(t, "  ", true);
	hf_table_free(t);
}

/* ---- troubles ---- */

static void add(struct json_object *list, const char *text)
{
	json_object_array_add(list, json_object_new_string(text));
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

static void add_of_vm(struct json_object *list, struct json_object *row)
{
	static const char *const bad[] = { "crashed", "failed", "freezing", "frozen",
					   "unknown", "paused", NULL };
	const char *life = hf_rows_text(row, "life");
	bool is_unprotected = strcmp(life, "running") == 0 &&
			      strlen(hf_rows_text(row, "peer")) > 1 &&
			      !hf_rows_is_set(row, "protected") && hf_json_has(row, "protected");
	const char *reason = hf_rows_text(row, "reason");
	const char *broken = hf_rows_text(row, "definition_error");
	char text[TROUBLE_TEXT];

	if (is_one_of(life, bad) || is_unprotected) {
		(void)snprintf(text, sizeof(text), "%s is %s%s%s", hf_rows_text(row, "name"),
			       is_unprotected ? "not protected" : life, *reason ? ": " : "",
			       reason);
		add(list, text);
	}
	if (*broken && strcmp(broken, reason) != 0) {
		(void)snprintf(text, sizeof(text), "%s: its definition is not in force: %s",
			       hf_rows_text(row, "name"), broken);
		add(list, text);
	}
}

static void add_of_hosts(struct json_object *list, struct json_object *hosts)
{
	char text[TROUBLE_TEXT];

	for (size_t i = 0; hosts && i < json_object_array_length(hosts); i++) {
		struct json_object *h = json_object_array_get_idx(hosts, i);

		if (strcmp(hf_rows_text(h, "life"), "dead") != 0)
			continue;
		(void)snprintf(text, sizeof(text), "host %s is dead", hf_rows_text(h, "host"));
		add(list, text);
	}
}

struct json_object *hf_show_troubles(const struct hf_gather *g)
{
	struct json_object *list = json_object_new_array();
	const char *storage = hf_rows_text(g->host, "storage");
	char text[TROUBLE_TEXT];

	if (g->daemon != HF_GATHER_ANSWERS && g->daemon != HF_GATHER_ABSENT)
		add(list, g->daemon_text);
	if (g->daemon == HF_GATHER_ANSWERS && !g->host)
		add(list, "holdfastd does not tell about this host in time");
	if (*hf_rows_text(g->host, "lockspace") && !hf_rows_is_set(g->host, "valid")) {
		(void)snprintf(text, sizeof(text), "this host's lease is not valid: %s",
			       hf_rows_text(g->host, "why"));
		add(list, text);
	}
	if (*storage && strcmp(storage, "ok") != 0 && strcmp(storage, "none") != 0) {
		(void)snprintf(text, sizeof(text), "the storage of the leases is %s", storage);
		add(list, text);
	}
	for (size_t i = 0; i < json_object_array_length(g->troubles); i++)
		add(list, json_object_get_string(json_object_array_get_idx(g->troubles, i)));
	add_of_hosts(list, g->hosts);
	for (size_t i = 0; i < json_object_array_length(g->rows); i++)
		add_of_vm(list, json_object_array_get_idx(g->rows, i));
	return list;
}

void hf_show_all(const struct hf_gather *g)
{
	struct json_object *troubles = hf_show_troubles(g);

	show_self(g);
	if (g->hosts && json_object_array_length(g->hosts))
		show_hosts(g->hosts);
	puts("\nVMs");
	if (json_object_array_length(g->rows))
		hf_show_rows(g->rows, "  ", true);
	else
		puts("  none");
	if (g->leases && json_object_array_length(g->leases))
		show_leases(g->leases);
	puts("\nTo be seen to");
	for (size_t i = 0; i < json_object_array_length(troubles); i++)
		printf("  %s\n", json_object_get_string(json_object_array_get_idx(troubles, i)));
	if (!json_object_array_length(troubles))
		puts("  nothing");
	json_object_put(troubles);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/lease-show.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	(void)json_object_object_get_ex(o, key, &value);
	return value;
}

static uint64_t number(struct json_object *o, const char *key)
{
	return json_object_get_uint64(member(o, key));
}

static const char *text(struct json_object *o, const char *key)
{
	const char *value = json_object_get_string(member(o, key));

	return value ? value : "";
}

static bool is_true(struct json_object *o, const char *key)
{
	return json_object_get_boolean(member(o, key));
}

/* Calls @show for each member of the array @key, if there is one. */
static size_t for_each(struct json_object *o, const char *key, void (*show)(struct json_object *))
{
	struct json_object *array = member(o, key);
	size_t n = array ? json_object_array_length(array) : 0;

	for (size_t i = 0; show && i < n; i++)
		show(json_object_array_get_idx(array, i));
	return n;
}

static void show_slot(struct json_object *o)
{
	printf("  host %-4" PRIu64 " %-20s generation %-4" PRIu64 " ", number(o, "host_id"),
	       text(o, "host"), number(o, "generation"));
	if (is_true(o, "free"))
		printf("free");
	else
		printf("at %" PRIu64 " s of its clock", number(o, "timestamp_s"));
	printf(", io-timeout %" PRIu64 " s", number(o, "io_timeout_s"));
	if (member(o, "instance"))
		printf(", holdfast: renewal %" PRIu64 ", every %" PRIu64
		       " ms, fenced after %" PRIu64 " ms",
		       number(o, "sequence"), number(o, "renew_ms"), number(o, "fence_ms"));
	if (for_each(o, "requests_to", NULL))
		printf(", requests for %s", text(o, "requests_to"));
	putchar('\n');
}

static void show_lockspace(struct json_object *o)
{
	printf("lockspace \"%s\" at %" PRIu64 ": sectors of %" PRIu64 " bytes, areas of %" PRIu64
	       " MiB, up to %" PRIu64 " hosts\n",
	       text(o, "name"), number(o, "offset"), number(o, "sector_bytes"),
	       number(o, "align_bytes") >> 20, number(o, "max_hosts"));
	if (for_each(o, "slots", show_slot) == 0)
		puts("  no host has ever joined");
}

static void show_entry(struct json_object *o)
{
	printf("  %-20s at %" PRIu64 "\n", text(o, "name"), number(o, "offset"));
}

static void show_index(struct json_object *o)
{
	printf("index of lockspace \"%s\" at %" PRIu64 ": %zu of %" PRIu64 " entries in use\n",
	       text(o, "lockspace"), number(o, "offset"), for_each(o, "entries", NULL),
	       number(o, "max_resources"));
	(void)for_each(o, "entries", show_entry);
}

static void show_block(struct json_object *o)
{
	printf("  block of host %-4" PRIu64 " lver %" PRIu64 " mbal %" PRIu64 " bal %" PRIu64
	       " value host %" PRIu64 " generation %" PRIu64,
	       number(o, "host_id"), number(o, "lver"), number(o, "mbal"), number(o, "bal"),
	       number(o, "owner_id"), number(o, "generation"));
	if (is_true(o, "released"))
		printf(" released");
	if (member(o, "shared_generation"))
		printf(" shared (generation %" PRIu64 ")", number(o, "shared_generation"));
	putchar('\n');
}

static void show_owner(struct json_object *o)
{
	if (!member(o, "lver"))
		printf("its leader is damaged");
	else if (is_true(o, "free") && number(o, "owner_id") == 0)
		printf("free, lver %" PRIu64, number(o, "lver"));
	else
		printf("%s host %" PRIu64 " generation %" PRIu64 ", lver %" PRIu64,
		       is_true(o, "free") ? "free, last of" : "owned by", number(o, "owner_id"),
		       number(o, "generation"), number(o, "lver"));
	if (member(o, "lver") && number(o, "write_id") != number(o, "owner_id"))
		printf(", written by host %" PRIu64 " generation %" PRIu64, number(o, "write_id"),
		       number(o, "write_generation"));
}

static void show_lease(struct json_object *o)
{
	struct json_object *request = member(o, "request");

	printf("lease \"%s\" of lockspace \"%s\" at %" PRIu64 ": ", text(o, "name"),
	       text(o, "lockspace"), number(o, "offset"));
	show_owner(o);
	if (member(o, "num_hosts"))
		printf(", for hosts 1 to %" PRIu64, number(o, "num_hosts"));
	puts(is_true(o, "short_hold") ? ", short hold" : "");
	if (request)
		printf("  request for lver %" PRIu64 ", force %" PRIu64 "\n",
		       number(request, "lver"), number(request, "force"));
	(void)for_each(o, "blocks", show_block);
}

static void show_damage(struct json_object *o)
{
	printf("damaged: %s at %" PRIu64 ": %s\n", text(o, "what"), number(o, "offset"),
	       text(o, "error"));
}

void hf_show_leases(struct json_object *dump)
{
	(void)for_each(dump, "lockspaces", show_lockspace);
	(void)for_each(dump, "indexes", show_index);
	(void)for_each(dump, "leases", show_lease);
	(void)for_each(dump, "damaged", show_damage);
}

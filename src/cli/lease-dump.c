/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast lease dump: what stands in a lease area, as an object; and that as text. What cannot be
 * decoded is shown as damaged, with the reason; the rest goes on.
 */
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/lease-scan.h"
#include "cli/lease-show.h"
#include "cli/lease-verbs.h"
#include "codec/json.h"

static void add_array(struct json_object *o, const char *key)
{
	json_object_object_add(o, key, json_object_new_array());
}

static void append(struct json_object *o, const char *key, struct json_object *member)
{
	json_object_array_add(json_object_object_get(o, key), member);
}

static void add_damage(struct json_object *all, uint64_t offset, const char *what,
		       const struct hf_err *err)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "offset", offset);
	hf_json_add_str(o, "what", what);
	hf_json_add_str(o, "error", err->text);
	append(all, "damaged", o);
}

static void add_geometry(struct json_object *o, const struct hf_lease_geometry *g)
{
	hf_json_add_u64(o, "sector_bytes", g->sector_bytes);
	hf_json_add_u64(o, "align_bytes", g->align_bytes);
	hf_json_add_u64(o, "max_hosts", g->max_hosts);
}

/* ---- lockspaces ---- */

static void add_extra(struct json_object *o, const struct hf_lease_extra *x)
{
	hf_json_add_str(o, "kind", x->is_present ? "holdfast" : "sanlock");
	if (!x->is_present)
		return;
	hf_json_add_u64(o, "instance", x->instance);
	hf_json_add_u64(o, "sequence", x->sequence);
	hf_json_add_u64(o, "renew_ms", x->renew_ms);
	hf_json_add_u64(o, "fence_ms", x->fence_ms);
}

static void add_requests(struct json_object *o, const uint8_t *sector, uint32_t max_hosts)
{
	add_array(o, "requests_to");
	for (uint64_t id = 1; id <= max_hosts; id++)
		if (hf_lease_bitmap_has(sector, id))
			append(o, "requests_to", json_object_new_uint64(id));
}

static struct json_object *slot_object(struct hf_lease_slot *slot, const uint8_t *sector,
				       uint32_t max_hosts)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "host_id", slot->owner);
	hf_json_add_str(o, "host", hf_scan_printable(slot->host_name));
	hf_json_add_u64(o, "generation", slot->generation);
	hf_json_add_u64(o, "timestamp_s", slot->timestamp_s);
	hf_json_add_bool(o, "free", slot->timestamp_s == 0);
	hf_json_add_u64(o, "io_timeout_s", slot->io_timeout_s);
	add_extra(o, &slot->extra);
	add_requests(o, sector, max_hosts);
	return o;
}

static void dump_slot(struct json_object *all, struct json_object *space,
		      const struct hf_scan_area *a, uint64_t id, const char *name)
{
	const uint64_t at = hf_lease_slot_at(&a->geometry, id);
	struct hf_lease_slot slot;
	struct hf_err err = { "" };
	char what[64];

	if (hf_lease_slot_decode(a->bytes + at, &a->geometry, id, name, &slot, &err) < 0) {
		(void)snprintf(what, sizeof(what), "slot of host %" PRIu64, id);
		add_damage(all, a->offset + at, what, &err);
	} else if (slot.owner) {
		append(space, "slots", slot_object(&slot, a->bytes + at, a->geometry.max_hosts));
	}
}

static void dump_lockspace(struct json_object *all, const struct hf_scan_area *a)
{
	struct json_object *o = json_object_new_object();
	char name[HF_LEASE_NAME_BYTES + 1], host[HF_LEASE_NAME_BYTES + 1];
	char shown[HF_LEASE_NAME_BYTES + 1];

	hf_lease_names(a->bytes, name, host);
	memcpy(shown, name, sizeof(shown));
	hf_json_add_str(o, "name", hf_scan_printable(shown));
	hf_json_add_u64(o, "offset", a->offset);
	add_geometry(o, &a->geometry);
	add_array(o, "slots");
	append(all, "lockspaces", o);
	for (uint64_t id = 1; id <= a->geometry.max_hosts; id++)
		dump_slot(all, o, a, id, name);
}

/* ---- leases ---- */

static void dump_request(struct json_object *all, struct json_object *lease,
			 const struct hf_scan_area *a)
{
	const uint64_t at = hf_lease_request_at(&a->geometry);
	struct json_object *o;
	struct hf_lease_request request;
	struct hf_err err = { "" };

	if (hf_lease_request_decode(a->bytes + at, &request, &err) < 0) {
		add_damage(all, a->offset + at, "request", &err);
		return;
	}
	if (request.lver == 0 && request.force == 0)
		return;
	o = json_object_new_object();
	hf_json_add_u64(o, "lver", request.lver);
	hf_json_add_u64(o, "force", request.force);
	json_object_object_add(lease, "request", o);
}

static struct json_object *block_object(uint64_t id, const struct hf_lease_block *b)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "host_id", id);
	hf_json_add_u64(o, "mbal", b->mbal);
	hf_json_add_u64(o, "bal", b->bal);
	hf_json_add_u64(o, "lver", b->lver);
	hf_json_add_u64(o, "owner_id", b->owner);
	hf_json_add_u64(o, "generation", b->generation);
	hf_json_add_u64(o, "timestamp_s", b->timestamp_s);
	hf_json_add_bool(o, "released", b->is_released);
	if (b->is_shared)
		hf_json_add_u64(o, "shared_generation", b->shared_generation);
	return o;
}

static void dump_blocks(struct json_object *all, struct json_object *lease,
			const struct hf_scan_area *a)
{
	static const struct hf_err damage = { "the checksum is wrong" };
	struct hf_lease_block block;
	char what[64];

	for (uint64_t id = 1; id <= a->geometry.max_hosts; id++) {
		const uint64_t at = hf_lease_block_at(&a->geometry, id);

		hf_lease_block_decode(a->bytes + at, &block);
		(void)snprintf(what, sizeof(what), "block of host %" PRIu64, id);
		if (block.is_damaged)
			add_damage(all, a->offset + at, what, &damage);
		else if (block.mbal || block.lver || block.is_released || block.is_shared)
			append(lease, "blocks", block_object(id, &block));
	}
}

static void add_leader(struct json_object *o, const struct hf_lease_leader *leader)
{
	hf_json_add_u64(o, "lver", leader->lver);
	hf_json_add_bool(o, "free", leader->timestamp_s == 0);
	hf_json_add_u64(o, "owner_id", leader->owner);
	hf_json_add_u64(o, "generation", leader->generation);
	hf_json_add_u64(o, "timestamp_s", leader->timestamp_s);
	hf_json_add_u64(o, "write_id", leader->write_id);
	hf_json_add_u64(o, "write_generation", leader->write_generation);
	hf_json_add_u64(o, "num_hosts", leader->num_hosts);
	hf_json_add_bool(o, "short_hold", leader->is_short_hold);
}

static void dump_lease(struct json_object *all, const struct hf_scan_area *a)
{
	struct json_object *o = json_object_new_object();
	char space[HF_LEASE_NAME_BYTES + 1], name[HF_LEASE_NAME_BYTES + 1];
	struct hf_lease_leader leader;
	struct hf_err err = { "" };

	hf_lease_names(a->bytes, space, name);
	hf_json_add_str(o, "name", hf_scan_printable(name));
	hf_json_add_str(o, "lockspace", hf_scan_printable(space));
	hf_json_add_u64(o, "offset", a->offset);
	add_array(o, "blocks");
	append(all, "leases", o);
	if (hf_lease_leader_decode(a->bytes, &a->geometry, NULL, NULL, &leader, &err) < 0)
		add_damage(all, a->offset, "leader", &err);
	else
		add_leader(o, &leader);
	dump_request(all, o, a);
	dump_blocks(all, o, a);
}

/* ---- the index ---- */

static void dump_entry(struct json_object *all, struct json_object *o, const struct hf_scan_area *a,
		       const struct hf_lease_index *index, uint32_t i)
{
	const uint64_t at = hf_lease_index_entry_at(index, i);
	struct hf_lease_index_entry entry;
	struct json_object *member;
	struct hf_err err = { "" };

	if (hf_lease_index_entry_decode(a->bytes + at, index, i, &entry, &err) < 0) {
		add_damage(all, a->offset + at, "index", &err);
	} else if (entry.offset) {
		member = json_object_new_object();
		hf_json_add_str(member, "name", hf_scan_printable(entry.name));
		hf_json_add_u64(member, "offset", entry.offset);
		append(o, "entries", member);
	}
}

static void dump_index(struct json_object *all, const struct hf_scan_area *a)
{
	struct json_object *o;
	struct hf_lease_index index;
	struct hf_err err = { "" };

	if (hf_lease_index_decode(a->bytes, &index, &err) < 0) {
		add_damage(all, a->offset, "index", &err);
		return;
	}
	o = json_object_new_object();
	hf_json_add_str(o, "lockspace", hf_scan_printable(index.space));
	hf_json_add_u64(o, "offset", a->offset);
	hf_json_add_u64(o, "max_resources", index.max_resources);
	add_array(o, "entries");
	append(all, "indexes", o);
	for (uint32_t i = 0; i < index.max_resources; i++)
		dump_entry(all, o, a, &index, i);
}

/* ---- all of it ---- */

static void dump_area(struct json_object *all, const struct hf_scan_area *a)
{
	struct hf_err err = { "nothing that belongs into a lease area" };

	if (a->kind == HF_LEASE_KIND_FOREIGN) {
		add_damage(all, a->offset, hf_lease_kind_name(a->kind), &err);
	} else if (!a->bytes) {
		hf_err_set(&err, a->geometry.align_bytes
					 ? "the storage ends within it"
					 : "its sector and area sizes are impossible");
		add_damage(all, a->offset, hf_lease_kind_name(a->kind), &err);
	} else if (a->kind == HF_LEASE_KIND_LOCKSPACE) {
		dump_lockspace(all, a);
	} else if (a->kind == HF_LEASE_KIND_INDEX) {
		dump_index(all, a);
	} else if (a->kind == HF_LEASE_KIND_RESOURCE) {
		dump_lease(all, a);
	}
}

static int dump(struct json_object *all, const char *path, struct hf_err *err)
{
	struct hf_scan scan;
	struct hf_scan_area area;
	int r = hf_scan_open(&scan, path, err);

	if (r < 0)
		return HF_LEASE_EXIT_STORAGE;
	hf_json_add_str(all, "area", path);
	hf_json_add_u64(all, "size_bytes", scan.size_bytes);
	add_array(all, "lockspaces");
	add_array(all, "indexes");
	add_array(all, "leases");
	add_array(all, "damaged");
	while ((r = hf_scan_next(&scan, &area, err)) > 0)
		dump_area(all, &area);
	if (r == 0 && scan.geometry.align_bytes == 0) {
		hf_err_set(err, "%s: there is no lease area", path);
		r = 1;
	}
	hf_scan_close(&scan);
	return r == 0 ? HF_LEASE_EXIT_DONE : r > 0 ? HF_LEASE_EXIT_FAILED : HF_LEASE_EXIT_STORAGE;
}

int hf_lease_read_options(int argc, char **argv, bool *ret_json, char *ret_path, size_t size,
			  struct hf_err *err)
{
	static const struct option table[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*ret_json = false;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (c == 'h')
			return 1;
		if (c != 'j') {
			hf_err_set(err, "%s: no such option", argv[optind - 1]);
			return -1;
		}
		*ret_json = true;
	}
	if (argc - optind == 1)
		return hf_lease_area_path(argv[optind], ret_path, size, err);
	hf_err_set(err, "one AREA has to be given");
	return -1;
}

void hf_lease_print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
}

int hf_lease_dump_run(int argc, char **argv)
{
	struct json_object *all;
	char path[PATH_MAX];
	struct hf_err err = { "" };
	bool is_json;
	int code, r = hf_lease_read_options(argc, argv, &is_json, path, sizeof(path), &err);

	if (r > 0)
		return -1;
	if (r < 0)
		return hf_lease_complain("dump", HF_LEASE_EXIT_USAGE, &err);
	all = json_object_new_object();
	code = dump(all, path, &err);
	if (code == HF_LEASE_EXIT_DONE && is_json)
		hf_lease_print_json(all);
	else if (code == HF_LEASE_EXIT_DONE)
		hf_show_leases(all);
	else
		(void)hf_lease_complain("dump", code, &err);
	json_object_put(all);
	return code;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an area must fulfil by itself. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/lease-check.h"

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* ---- lockspaces ---- */

/* Bytes 200..255 of a slot are holdfast's; sanlock leaves zeros there. */
static void check_slot(struct hf_check *c, const struct hf_scan_area *a, uint64_t id,
		       const char *space)
{
	const uint64_t at = hf_lease_slot_at(&a->geometry, id);
	struct hf_lease_slot slot;
	struct hf_err err;

	if (hf_lease_slot_decode(a->bytes + at, &a->geometry, id, space, &slot, &err) < 0)
		hf_check_problem(c, a->offset + at, "slot of host %" PRIu64 ": %s", id, err.text);
	else if (!slot.extra.is_present && !is_zero(a->bytes + at + 200, 56))
		hf_check_problem(c, a->offset + at + 200,
				 "slot of host %" PRIu64 ": what holdfast adds is damaged, of "
				 "another version or senseless: the host counts as sanlock's",
				 id);
	else if (slot.timestamp_s && !slot.host_name[0])
		hf_check_problem(c, a->offset + at, "slot of host %" PRIu64 ": held by no name",
				 id);
}

static void check_lockspace(struct hf_check *c, const struct hf_scan_area *a)
{
	const uint64_t end = hf_lease_slot_at(&a->geometry, a->geometry.max_hosts + 1);
	struct hf_check_found found = { .kind = a->kind, .offset = a->offset };

	hf_lease_names(a->bytes, found.space, found.name);
	memset(found.name, 0, sizeof(found.name)); /* a host's */
	for (uint64_t id = 1; id <= a->geometry.max_hosts; id++)
		check_slot(c, a, id, found.space);
	if (!is_zero(a->bytes + end, a->geometry.align_bytes - end))
		hf_check_problem(c, a->offset + end, "there is something behind the slots");
	hf_check_note_found(c, &found);
}

/* ---- leases ---- */

static void check_block(struct hf_check *c, const struct hf_scan_area *a, uint64_t id,
			const struct hf_lease_leader *leader)
{
	const uint64_t at = hf_lease_block_at(&a->geometry, id);
	const uint64_t offset = a->offset + at;
	struct hf_lease_block b;

	hf_lease_block_decode(a->bytes + at, &b);
	if (leader && id > leader->num_hosts && (b.mbal || b.is_shared || b.is_damaged))
		hf_check_problem(c, offset,
				 "block of host %" PRIu64 ": in use, but only hosts 1 to %" PRIu32
				 " take part",
				 id, leader->num_hosts);
	else if (b.is_damaged)
		hf_check_problem(c, offset,
				 "block of host %" PRIu64 ": its checksum is wrong, or no ballot "
				 "writes this: nobody can acquire the lease",
				 id);
	else if (!leader)
		return;
	else if (b.bal && b.owner > leader->num_hosts)
		hf_check_problem(c, offset,
				 "block of host %" PRIu64 ": names host %" PRIu64 " of %" PRIu32,
				 id, b.owner, leader->num_hosts);
	else if (b.lver > leader->lver + 1)
		hf_check_problem(c, offset,
				 "block of host %" PRIu64 ": a ballot for lver %" PRIu64
				 ", but the leader is at %" PRIu64 ": an old copy?",
				 id, b.lver, leader->lver);
}

/* A leader that another host wrote for its owner, and the owner's block says released: sanlock
 * takes the lease for free. */
static void check_trap(struct hf_check *c, const struct hf_scan_area *a,
		       const struct hf_lease_leader *leader)
{
	struct hf_lease_block b;

	if (leader->timestamp_s == 0 || leader->write_id == leader->owner)
		return;
	hf_lease_block_decode(a->bytes + hf_lease_block_at(&a->geometry, leader->owner), &b);
	if (b.is_released)
		hf_check_problem(c, a->offset,
				 "leader: owned by host %" PRIu64 ", but written by host %" PRIu64
				 " and marked as released in the owner's block: any host can take "
				 "it from a live owner",
				 leader->owner, leader->write_id);
}

static void check_lease(struct hf_check *c, const struct hf_scan_area *a)
{
	const uint64_t request_at = hf_lease_request_at(&a->geometry);
	struct hf_check_found found = { .kind = a->kind, .offset = a->offset };
	struct hf_lease_leader leader;
	struct hf_lease_request request;
	struct hf_err err;
	bool has_leader;

	hf_lease_names(a->bytes, found.space, found.name);
	has_leader = hf_lease_leader_decode(a->bytes, &a->geometry, NULL, NULL, &leader, &err) == 0;
	if (!has_leader)
		hf_check_problem(c, a->offset, "leader: %s", err.text);
	else if (!found.name[0])
		hf_check_problem(c, a->offset, "leader: the lease has no name");
	if (hf_lease_request_decode(a->bytes + request_at, &request, &err) < 0)
		hf_check_problem(c, a->offset + request_at, "request: %s", err.text);
	for (uint64_t id = 1; id <= a->geometry.max_hosts; id++)
		check_block(c, a, id, has_leader ? &leader : NULL);
	if (has_leader)
		check_trap(c, a, &leader);
	hf_check_note_found(c, &found);
}

/* ---- the index ---- */

static void check_index(struct hf_check *c, const struct hf_scan_area *a)
{
	struct hf_lease_index index;
	struct hf_err err;

	if (hf_lease_index_decode(a->bytes, &index, &err) < 0) {
		hf_check_problem(c, a->offset, "index: %s", err.text);
		return;
	}
	if (index.offset != a->offset) {
		hf_check_problem(c, a->offset, "index: it says that it is at %" PRIu64,
				 index.offset);
		return;
	}
	if (c->index_bytes && c->index.offset != a->offset) {
		hf_check_problem(c, a->offset, "index: a second one, the first is at %" PRIu64,
				 c->index.offset);
		return;
	}
	free(c->index_bytes);
	c->index_bytes = malloc(index.geometry.align_bytes);
	if (!c->index_bytes)
		hf_check_no_memory();
	c->index = index;
	memcpy(c->index_bytes, a->bytes, index.geometry.align_bytes);
}

/* ---- where it stands ---- */

static bool begins_something(enum hf_lease_kind kind)
{
	return kind != HF_LEASE_KIND_NONE && kind != HF_LEASE_KIND_FOREIGN;
}

/* Within a lockspace there are slots, which begin like lockspaces. */
static bool is_own_slot(const struct hf_scan_area *a, uint64_t at)
{
	char space[HF_LEASE_NAME_BYTES + 1], inner[HF_LEASE_NAME_BYTES + 1];
	char host[HF_LEASE_NAME_BYTES + 1];
	struct hf_lease_geometry g;

	if (a->kind != HF_LEASE_KIND_LOCKSPACE ||
	    hf_lease_identify(a->bytes + at, HF_SCAN_HEAD_BYTES, &g) != HF_LEASE_KIND_LOCKSPACE)
		return false;
	hf_lease_names(a->bytes, space, host);
	hf_lease_names(a->bytes + at, inner, host);
	return g.sector_bytes == a->geometry.sector_bytes &&
	       g.align_bytes == a->geometry.align_bytes && strcmp(space, inner) == 0;
}

static void check_inside(struct hf_check *c, const struct hf_scan_area *a)
{
	struct hf_lease_geometry g;

	for (uint64_t at = HF_SCAN_STEP_BYTES; at < a->geometry.align_bytes;
	     at += HF_SCAN_STEP_BYTES) {
		enum hf_lease_kind kind = hf_lease_identify(a->bytes + at, HF_SCAN_HEAD_BYTES, &g);
		char space[HF_LEASE_NAME_BYTES + 1] = "", name[HF_LEASE_NAME_BYTES + 1];

		if (!begins_something(kind) || is_own_slot(a, at))
			continue;
		if (kind != HF_LEASE_KIND_INDEX)
			hf_lease_names(a->bytes + at, space, name);
		hf_check_problem(c, a->offset + at,
				 "a %s (lockspace \"%s\") overlaps with the %s at %" PRIu64
				 ", which reaches to %" PRIu64,
				 hf_lease_kind_name(kind), hf_scan_printable(space),
				 hf_lease_kind_name(a->kind), a->offset,
				 a->offset + a->geometry.align_bytes);
	}
}

/* Return: may its contents be looked at? */
static bool check_place(struct hf_check *c, const struct hf_scan_area *a)
{
	const struct hf_lease_geometry *g = &a->geometry;
	const char *kind = hf_lease_kind_name(a->kind);

	if (a->kind == HF_LEASE_KIND_FOREIGN) {
		hf_check_problem(c, a->offset, "bytes that belong to no lease area");
	} else if (g->align_bytes == 0) {
		hf_check_problem(c, a->offset, "%s: its sector and area sizes are impossible",
				 kind);
	} else if (!a->bytes) {
		hf_check_problem(c, a->offset,
				 "%s: the storage ends at %" PRIu64 ", within it: it needs %" PRIu32
				 " bytes",
				 kind, c->size_bytes, g->align_bytes);
	} else if (g->sector_bytes != c->geometry.sector_bytes ||
		   g->align_bytes != c->geometry.align_bytes) {
		hf_check_problem(c, a->offset,
				 "%s: with sectors of %" PRIu32 " and areas of %" PRIu32
				 " bytes, but what stands first has %" PRIu32 " and %" PRIu32
				 ": one overlaps the other",
				 kind, g->sector_bytes, g->align_bytes, c->geometry.sector_bytes,
				 c->geometry.align_bytes);
	} else if (a->offset % g->align_bytes) {
		hf_check_problem(c, a->offset, "%s: its offset is no multiple of %" PRIu32, kind,
				 g->align_bytes);
	} else {
		return true;
	}
	return false;
}

void hf_check_area(struct hf_check *c, const struct hf_scan_area *a)
{
	if (!check_place(c, a))
		return;
	check_inside(c, a);
	if (a->kind == HF_LEASE_KIND_LOCKSPACE)
		check_lockspace(c, a);
	else if (a->kind == HF_LEASE_KIND_RESOURCE)
		check_lease(c, a);
	else if (a->kind == HF_LEASE_KIND_INDEX)
		check_index(c, a);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the areas must fulfil together: names, the index. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/lease-check.h"

static struct hf_check_found *find_at(struct hf_check *c, uint64_t offset)
{
	for (size_t i = 0; i < c->n_found; i++)
		if (c->found[i].offset == offset)
			return &c->found[i];
	return NULL;
}

static bool has_lockspace(const struct hf_check *c, const char *space)
{
	bool has_any = false;

	for (size_t i = 0; i < c->n_found; i++) {
		if (c->found[i].kind != HF_LEASE_KIND_LOCKSPACE)
			continue;
		has_any = true;
		if (!space || strcmp(c->found[i].space, space) == 0)
			return true;
	}
	return space && !has_any; /* a lockspace may lie elsewhere, as sanlock's users have it */
}

/* ---- names ---- */

static int by_name(const void *x, const void *y)
{
	const struct hf_check_found *a = x, *b = y;
	int r = strcmp(a->space, b->space);

	if (r == 0)
		r = strcmp(a->name, b->name);
	if (r == 0)
		r = a->offset < b->offset ? -1 : a->offset > b->offset;
	return r;
}

static void check_names(struct hf_check *c)
{
	if (c->n_found)
		qsort(c->found, c->n_found, sizeof(*c->found), by_name);
	for (size_t i = 0; i < c->n_found; i++) {
		const struct hf_check_found *f = &c->found[i];
		char name[HF_LEASE_NAME_BYTES + 1];

		memcpy(name, *f->name ? f->name : f->space, sizeof(name));
		if (i && strcmp(f->space, f[-1].space) == 0 && strcmp(f->name, f[-1].name) == 0)
			hf_check_problem(c, f->offset,
					 "%s \"%s\": a second one of that name, the first is at "
					 "%" PRIu64,
					 hf_lease_kind_name(f->kind), hf_scan_printable(name),
					 f[-1].offset);
		if (!has_lockspace(c, f->space))
			hf_check_problem(c, f->offset,
					 "lease \"%s\": of a lockspace that is not here",
					 hf_scan_printable(name));
	}
}

/* ---- the index ---- */

static const uint8_t *entry_bytes(const struct hf_check *c, uint32_t i)
{
	return c->index_bytes + hf_lease_index_entry_at(&c->index, i);
}

static void check_entry_target(struct hf_check *c, uint64_t at, struct hf_lease_index_entry *entry)
{
	struct hf_check_found *f = find_at(c, entry->offset);
	char name[HF_LEASE_NAME_BYTES + 1];
	bool is_it = f && f->kind == HF_LEASE_KIND_RESOURCE && strcmp(f->name, entry->name) == 0;

	if (is_it) {
		f->is_in_index = true;
		return;
	}
	memcpy(name, entry->name, sizeof(name));
	if (entry->offset + c->index.geometry.align_bytes > c->size_bytes)
		hf_check_problem(c, at,
				 "index: lease \"%s\" would be at %" PRIu64
				 ", but the storage ends at %" PRIu64,
				 hf_scan_printable(name), entry->offset, c->size_bytes);
	else
		hf_check_problem(c, at, "index: lease \"%s\" is not at %" PRIu64,
				 hf_scan_printable(name), entry->offset);
}

struct named {
	char name[HF_LEASE_NAME_BYTES + 1];
	uint64_t at;
};

static int by_entry_name(const void *x, const void *y)
{
	return strcmp(((const struct named *)x)->name, ((const struct named *)y)->name);
}

static void check_duplicates(struct hf_check *c, struct named *used, size_t n)
{
	if (n == 0)
		return;
	qsort(used, n, sizeof(*used), by_entry_name);
	for (size_t i = 1; i < n; i++)
		if (strcmp(used[i].name, used[i - 1].name) == 0)
			hf_check_problem(c, used[i].at,
					 "index: lease \"%s\" has two entries, the other one at "
					 "%" PRIu64,
					 hf_scan_printable(used[i].name), used[i - 1].at);
}

static void check_entries(struct hf_check *c)
{
	struct named *used = calloc(c->index.max_resources, sizeof(*used));
	struct hf_lease_index_entry entry;
	struct hf_err err;
	size_t n = 0;

	if (!used)
		hf_check_no_memory();
	for (uint32_t i = 0; i < c->index.max_resources; i++) {
		const uint64_t at = c->index.offset + hf_lease_index_entry_at(&c->index, i);

		if (hf_lease_index_entry_decode(entry_bytes(c, i), &c->index, i, &entry, &err) <
		    0) {
			hf_check_problem(c, at, "index: %s", err.text);
			continue;
		}
		if (entry.offset == 0)
			continue;
		check_entry_target(c, at, &entry);
		memcpy(used[n].name, entry.name, sizeof(entry.name));
		used[n++].at = at;
	}
	check_duplicates(c, used, n);
	free(used);
}

static bool is_in_reach(const struct hf_check *c, uint64_t offset)
{
	return offset >= hf_lease_index_resource_at(&c->index, 0) &&
	       offset < hf_lease_index_resource_at(&c->index, c->index.max_resources);
}

static void check_index_lease(struct hf_check *c)
{
	const uint64_t at = hf_lease_index_lease_at(&c->index);
	struct hf_check_found *lease = find_at(c, at);

	if (!lease || lease->kind != HF_LEASE_KIND_RESOURCE ||
	    strcmp(lease->name, HF_LEASE_INDEX_LEASE_NAME) != 0 ||
	    strcmp(lease->space, c->index.space) != 0)
		hf_check_problem(c, at, "index: the lease that guards it (\"%s\") is not here",
				 HF_LEASE_INDEX_LEASE_NAME);
}

static void check_index(struct hf_check *c)
{
	char name[HF_LEASE_NAME_BYTES + 1];

	if (!has_lockspace(c, c->index.space))
		hf_check_problem(c, c->index.offset, "index: of a lockspace that is not here");
	check_index_lease(c);
	check_entries(c);
	for (size_t i = 0; i < c->n_found; i++) {
		const struct hf_check_found *f = &c->found[i];

		memcpy(name, f->kind == HF_LEASE_KIND_RESOURCE ? f->name : f->space, sizeof(name));
		if (!f->is_in_index && is_in_reach(c, f->offset))
			hf_check_problem(c, f->offset, "%s \"%s\": it is not in the index",
					 hf_lease_kind_name(f->kind), hf_scan_printable(name));
	}
}

void hf_check_together(struct hf_check *c)
{
	if (c->n_found == 0 && !c->index_bytes && c->n_problems == 0)
		hf_check_problem(c, 0, "there is no lease area");
	else if (!has_lockspace(c, NULL) && c->index_bytes)
		hf_check_problem(c, 0, "there is an index, but no lockspace");
	check_names(c);
	if (c->index_bytes)
		check_index(c);
}

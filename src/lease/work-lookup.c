/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a lease lies, what its leader says, and asking its owner for it. */
#include <errno.h>
#include <string.h>

#include "lease/work-internal.h"

/* ---- the index ---- */

/* Of an index of the usual size, not the whole area. */
static size_t usual_bytes(const struct hf_lease_geometry *g)
{
	size_t bytes = g->sector_bytes + HF_LEASE_INDEX_RESOURCES * HF_LEASE_INDEX_ENTRY_BYTES;

	return bytes < g->align_bytes ? bytes : g->align_bytes;
}

static int read_index(struct hf_worker *k, struct hf_work *w, uint64_t at)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;
	struct hf_lease_index index;
	size_t bytes = usual_bytes(g);
	int r = hf_store_read(k->store, k->buf, bytes, at, &w->io.err);

	if (r == 0 && hf_lease_index_decode(k->buf, &index, NULL) == 0 &&
	    hf_lease_index_entry_at(&index, index.max_resources) > bytes)
		r = hf_store_read(k->store, k->buf, g->align_bytes, at, &w->io.err);
	return hf_work_is_cut_short(r) ? -EBADMSG : r;
}

int hf_work_run_lookup(struct hf_worker *k, struct hf_work *w)
{
	struct hf_index_query query = { .geometry = &w->shop->geometry,
					.space = w->shop->space,
					.name = w->name };
	int r;

	query.offset = hf_index_at(&w->shop->geometry, w->shop->offset);
	r = read_index(k, w, query.offset);
	if (r < 0)
		return r;
	query.store_bytes = hf_store_size_bytes(k->store);
	r = hf_index_search(&query, k->buf, &w->find, &w->io.err);
	if (r < 0)
		hf_err_prefix(&w->io.err, "%s: ", w->shop->path);
	return r;
}

static void look_up(struct hf_work *w);

static void after_lookup(struct hf_work *w)
{
	int r = hf_work_note_io(w);

	if (r == -EBADMSG || (r != 0 && !w->is_patient)) {
		hf_work_end(w, r, &w->trouble);
	} else if (r != 0) {
		hf_work_wait(w, hf_work_retry_ns(w), look_up);
	} else if (w->find.offset == 0) {
		hf_err_set(&w->trouble, "%s: there is no lease \"%s\"", w->shop->path, w->name);
		hf_work_end(w, -ENOENT, &w->trouble);
	} else {
		w->lease.offset = w->find.offset;
		w->lookup_then(w);
	}
}

static void look_up(struct hf_work *w)
{
	hf_work_io(w, hf_work_run_lookup, after_lookup);
}

void hf_work_lookup(struct hf_work *w, bool is_patient, hf_work_step *then)
{
	w->is_patient = is_patient;
	w->lookup_then = then;
	if (w->lease.offset != 0)
		then(w);
	else
		look_up(w);
}

/* ---- reading a leader ---- */

/* 0: `leader` is there. Else the operation has ended. */
static int take_leader(struct hf_work *w)
{
	int r = hf_work_note_io(w);

	if (r == 0 && w->is_leader_damaged) {
		hf_work_end(w, -EBADMSG, &w->io.err);
		return -EBADMSG;
	}
	if (r != 0) {
		hf_work_end(w, r, &w->trouble);
		return r;
	}
	w->result.owner = w->leader.owner;
	w->result.generation = w->leader.generation;
	w->result.lver = w->leader.lver;
	w->result.timestamp_s = w->leader.timestamp_s;
	w->result.life = hf_work_owner_life(w);
	return 0;
}

static void after_leader(struct hf_work *w)
{
	if (take_leader(w) == 0)
		hf_work_end(w, 0, NULL);
}

static void read_leader(struct hf_work *w)
{
	hf_work_io(w, hf_work_run_read, after_leader);
}

void hf_work_begin_read(struct hf_work *w)
{
	hf_work_lookup(w, false, read_leader);
}

/* ---- asking for it ---- */

#define ASK_MIN_MS 10000u

/* A sanlock host looks once in 2T s; ours more often. */
static uint32_t ask_for_ms(const struct hf_work *w)
{
	const struct hf_lease_sight *sight = hf_member_sight(w->shop->member, w->leader.owner);
	uint32_t ms = sight->slot.io_timeout_s * 6000;

	return ms > ASK_MIN_MS ? ms : ASK_MIN_MS;
}

static void after_request(struct hf_work *w)
{
	int r = hf_work_note_io(w);

	if (r == 0 && w->leader.owner != w->asked.host_id)
		hf_member_set_request(w->shop->member, w->leader.owner, ask_for_ms(w));
	hf_work_end(w, r < 0 ? r : r > 0 ? -EIO : 0, &w->trouble);
}

static void ask(struct hf_work *w)
{
	struct hf_lease_request request = { .lver = w->leader.lver + 1,
					    .force = (uint32_t)w->force };
	const struct hf_lease_geometry *g = &w->shop->geometry;

	if (take_leader(w) != 0)
		return;
	if (w->leader.timestamp_s == 0 || w->leader.owner == 0) {
		hf_work_end(w, 0, NULL);
		return;
	}
	request.lver = w->leader.lver + 1;
	w->io.offset = w->lease.offset + hf_lease_request_at(g);
	memset(w->io.sector, 0, g->sector_bytes);
	hf_lease_request_encode(w->io.sector, &request);
	hf_work_io(w, hf_work_run_write, after_request);
}

static void read_owner(struct hf_work *w)
{
	hf_work_io(w, hf_work_run_read, ask);
}

void hf_work_begin_request(struct hf_work *w)
{
	if (hf_work_enter_tenure(w))
		hf_work_lookup(w, false, read_owner);
	else
		hf_work_end(w, -ESHUTDOWN, NULL);
}

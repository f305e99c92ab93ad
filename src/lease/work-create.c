/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A new lease.
 *
 * Theory of operation. The index is changed only by the owner of its own lease: look whether the
 * name is there, ACQUIRE the index's lease, look again, write the area, write the entry, RELEASE.
 * With the entry the lease exists; whoever crashes before leaves an area that nobody knows of, and
 * an index lease that the next one takes over when this host is dead.
 *
 * An index that was taken over from us while we stood still must not be written to: the last look
 * at the host lease's deadline comes right before each write, and others wait longer than that
 * (docs/lease.md). A write of unknown fate is given its time to settle, then everything begins
 * again with looking.
 */
#include <errno.h>
#include <string.h>

#include "lease/work-internal.h"

#define INDEX_PATIENCE_MS 10000u /* another host is making one: a few I/Os */
#define TRIES_MAX 6u

static void report(struct hf_work *w)
{
	memcpy(w->lease.name, w->name, sizeof(w->name));
	w->lease.offset = w->create_r == 0 ? w->find.offset : 0;
	w->result.result = w->is_made ? HF_BALLOT_WON : HF_BALLOT_OWNED;
	hf_work_end(w, w->create_r, &w->create_err);
}

/* ---- letting go of the index ---- */

static void after_release(struct hf_work *w)
{
	w->index_lver = 0;
	report(w);
}

static void step_release(struct hf_work *w)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_RELEASE, .lver = w->index_lver };

	hf_work_ballot(w, &want, after_release);
}

static void release(struct hf_work *w, int r, const struct hf_err *err)
{
	w->create_r = r;
	if (err)
		w->create_err = *err;
	if (w->settle_ns > hf_work_now_ns())
		hf_work_wait(w, w->settle_ns, step_release);
	else
		step_release(w);
}

/* ---- while it is ours ---- */

static void look_again(struct hf_work *w);

/* Also one whose write has failed may be there. */
static void again_or_release(struct hf_work *w)
{
	int r = w->io.r == HF_STORE_UNSETTLED ? -EIO : w->io.r;

	if (r == -ESHUTDOWN || r == -EBADMSG || ++w->tries >= TRIES_MAX)
		release(w, r, &w->trouble);
	else
		hf_work_wait(w, hf_work_retry_ns(w), look_again);
}

static int write_guarded(struct hf_worker *k, struct hf_work *w, uint8_t *buf, size_t bytes,
			 uint64_t offset)
{
	int r = hf_work_check_guard(w);

	return r < 0 ? r : hf_store_write(k->store, buf, bytes, offset, &w->io.err);
}

/* For workers: the entry's sector with the entry in it, if it is still without one. */
static int run_write_entry(struct hf_worker *k, struct hf_work *w)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;
	uint64_t at = w->find.free_entry_at % g->sector_bytes;
	uint64_t sector_at = hf_index_at(g, w->shop->offset) + w->find.free_entry_at - at;
	struct hf_lease_index_entry entry = { .offset = w->find.free_offset };
	int r = hf_store_read(k->store, k->buf, g->sector_bytes, sector_at, &w->io.err);

	if (r < 0)
		return r;
	memcpy(entry.name, w->name, sizeof(entry.name));
	hf_lease_index_entry_encode(k->buf + at, &entry);
	return write_guarded(k, w, k->buf, g->sector_bytes, sector_at);
}

static void after_entry(struct hf_work *w)
{
	if (hf_work_note_io(w) != 0) {
		again_or_release(w);
		return;
	}
	w->find.offset = w->find.free_offset;
	w->is_made = true;
	release(w, 0, NULL);
}

/* An index that was lost must not cost a lease that somebody owns. */
static int check_unused(struct hf_worker *k, struct hf_work *w)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;
	char space[HF_LEASE_NAME_BYTES + 1], name[HF_LEASE_NAME_BYTES + 1];
	struct hf_lease_leader leader;
	int r = hf_store_read(k->store, k->buf, g->sector_bytes, w->find.free_offset, &w->io.err);

	if (r < 0 || hf_lease_leader_decode(k->buf, g, NULL, NULL, &leader, NULL) < 0 ||
	    leader.timestamp_s == 0)
		return r;
	hf_lease_names(k->buf, space, name);
	hf_err_set(&w->io.err,
		   "%s: at offset %llu, free by the index, is lease \"%s\", owned by host %llu",
		   w->shop->path, (unsigned long long)w->find.free_offset, name,
		   (unsigned long long)leader.owner);
	return -EBADMSG;
}

/* For workers: the area; its first sector, which makes it a lease, comes last. */
static int run_write_area(struct hf_worker *k, struct hf_work *w)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;
	uint64_t offset = w->find.free_offset;
	int r = check_unused(k, w);

	if (r < 0)
		return r;
	hf_lease_resource_format(k->buf, g, w->leader.num_hosts, w->shop->space, w->name);
	r = write_guarded(k, w, k->buf + g->sector_bytes, g->align_bytes - g->sector_bytes,
			  offset + g->sector_bytes);
	return r == 0 ? write_guarded(k, w, k->buf, g->sector_bytes, offset) : r;
}

static void after_area(struct hf_work *w)
{
	if (hf_work_note_io(w) != 0) {
		again_or_release(w);
		return;
	}
	w->io.is_guarded = true;
	hf_work_io(w, run_write_entry, after_entry);
}

static void tell_full(const struct hf_work *w, struct hf_err *ret)
{
	hf_err_set(ret, "%s: there is no room for another lease", w->shop->path);
}

static void after_second_look(struct hf_work *w)
{
	struct hf_err full;

	if (hf_work_note_io(w) != 0) {
		again_or_release(w);
	} else if (w->find.offset != 0) {
		release(w, 0, NULL);
	} else if (w->is_cancelled) {
		release(w, -ECANCELED, NULL);
	} else if (w->find.free_offset == 0) {
		tell_full(w, &full);
		release(w, -ENOSPC, &full);
	} else {
		w->io.is_guarded = true;
		hf_work_io(w, run_write_area, after_area);
	}
}

static void look_again(struct hf_work *w)
{
	hf_work_io(w, hf_work_run_lookup, after_second_look);
}

/* ---- getting the index ---- */

static void acquire_index(struct hf_work *w);

static void fail(struct hf_work *w, int r, const char *what)
{
	w->create_r = r;
	if (w->action.result == HF_BALLOT_DAMAGED && w->action.bad_host == 0)
		w->create_err = w->io.err;
	else
		hf_err_set(&w->create_err, "%s: the lease of the index: %s (host %llu)",
			   w->shop->path, what, (unsigned long long)w->action.owner);
	report(w);
}

/* LOST: there was another one at the same time. */
static void index_decided(struct hf_work *w)
{
	enum hf_ballot_result result = w->action.result;

	if (result == HF_BALLOT_WON) {
		w->index_lver = w->action.lver;
		look_again(w);
	} else if (result == HF_BALLOT_LOST && ++w->tries < TRIES_MAX && !w->is_cancelled) {
		acquire_index(w);
	} else if (result == HF_BALLOT_CANCELLED) {
		fail(w, -ECANCELED, hf_ballot_result_text(result));
	} else {
		fail(w, result == HF_BALLOT_DAMAGED ? -EBADMSG : -EBUSY,
		     hf_ballot_result_text(result));
	}
}

static void acquire_index(struct hf_work *w)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE, .patience_ms = INDEX_PATIENCE_MS };

	memcpy(w->lease.name, HF_LEASE_INDEX_LEASE_NAME, sizeof(HF_LEASE_INDEX_LEASE_NAME));
	w->lease.offset = hf_index_at(&w->shop->geometry, w->shop->offset) +
			  w->shop->geometry.align_bytes;
	hf_work_ballot(w, &want, index_decided);
}

static void after_first_look(struct hf_work *w)
{
	struct hf_err full;
	int r = hf_work_note_io(w);

	if (r < 0) {
		hf_work_end(w, r, &w->trouble);
	} else if (w->find.offset != 0) {
		report(w);
	} else if (w->find.free_offset == 0) {
		tell_full(w, &full);
		hf_work_end(w, -ENOSPC, &full);
	} else {
		acquire_index(w);
	}
}

void hf_work_begin_create(struct hf_work *w)
{
	if (hf_work_enter_tenure(w))
		hf_work_io(w, hf_work_run_lookup, after_first_look);
	else
		hf_work_end(w, -ESHUTDOWN, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading a redo journal. Nothing in it is believed: it may be torn, damaged, of another VM or no
 * journal at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "disk/redo-internal.h"

/* ---- headers ---- */

struct slots {
	enum hf_redo_slot state[HF_REDO_AREAS][HF_REDO_SLOTS];
	struct hf_redo_header header[HF_REDO_AREAS][HF_REDO_SLOTS];
	int best[HF_REDO_AREAS]; /* slot that counts, or -1 */
};

static unsigned int count_slots(const struct slots *s, enum hf_redo_slot state)
{
	unsigned int n = 0;

	for (unsigned int a = 0; a < HF_REDO_AREAS; a++)
		for (unsigned int k = 0; k < HF_REDO_SLOTS; k++)
			n += s->state[a][k] == state;
	return n;
}

static int best_of(const struct slots *s, unsigned int area)
{
	int best = -1;

	for (int k = 0; k < (int)HF_REDO_SLOTS; k++)
		if (s->state[area][k] == HF_REDO_SLOT_GOOD &&
		    (best < 0 || s->header[area][k].serial > s->header[area][best].serial))
			best = k;
	return best;
}

static int read_slots(struct hf_redo *r, struct slots *ret, struct hf_err *err)
{
	int e = hf_image_read(r->image, r->window, HF_REDO_HEADERS_BYTES, 0);

	if (e < 0) {
		hf_err_set(err, "%s: its headers cannot be read: %s", r->location, strerror(-e));
		return e;
	}
	for (unsigned int a = 0; a < HF_REDO_AREAS; a++)
		for (unsigned int k = 0; k < HF_REDO_SLOTS; k++) {
			const uint8_t *block = r->window + (size_t)(a * HF_REDO_SLOTS + k) *
								   HF_REDO_BLOCK_BYTES;

			ret->state[a][k] = hf_redo_get_header(block, &ret->header[a][k]);
		}
	for (unsigned int a = 0; a < HF_REDO_AREAS; a++)
		ret->best[a] = best_of(ret, a);
	return 0;
}

static int refuse_slots(const struct hf_redo *r, const struct slots *s, struct hf_err *err)
{
	if (count_slots(s, HF_REDO_SLOT_VERSION) > 0)
		hf_err_set(err, "%s: this redo journal was written by another version of holdfast",
			   r->location);
	else if (count_slots(s, HF_REDO_SLOT_GOOD) == 0 && count_slots(s, HF_REDO_SLOT_BAD) == 0)
		hf_err_set(
			err,
			"%s: this is no redo journal of holdfast; to make it one, zero its first "
			"%zu bytes",
			r->location, HF_REDO_HEADERS_BYTES);
	else
		hf_err_set(
			err,
			"%s: both copies of a header are damaged, so it is not known what is to be "
			"redone",
			r->location);
	return -EBADMSG;
}

/*
 * Both copies of a header are written before anything relies on them. So an area with one torn copy
 * and one that was never written was about to be taken over for the first time, and does not count;
 * one with two bad copies did once, and may have been the newest.
 */
static bool is_area_lost(const struct slots *s, unsigned int area)
{
	return s->best[area] < 0 && s->state[area][0] != HF_REDO_SLOT_EMPTY &&
	       s->state[area][1] != HF_REDO_SLOT_EMPTY;
}

/* Nothing was ever written, or not even the first header was ever complete in both copies. */
static bool is_fresh(const struct slots *s)
{
	return count_slots(s, HF_REDO_SLOT_EMPTY) == HF_REDO_AREAS * HF_REDO_SLOTS ||
	       (count_slots(s, HF_REDO_SLOT_GOOD) == 0 &&
		count_slots(s, HF_REDO_SLOT_VERSION) == 0 && count_slots(s, HF_REDO_SLOT_BAD) > 0 &&
		!is_area_lost(s, 0) && !is_area_lost(s, 1));
}

static int pick_area(const struct hf_redo *r, const struct slots *s, unsigned int *ret,
		     struct hf_err *err)
{
	uint64_t generation[HF_REDO_AREAS] = { 0 };

	if (count_slots(s, HF_REDO_SLOT_VERSION) > 0 || is_area_lost(s, 0) || is_area_lost(s, 1) ||
	    (s->best[0] < 0 && s->best[1] < 0))
		return refuse_slots(r, s, err);
	for (unsigned int a = 0; a < HF_REDO_AREAS; a++)
		if (s->best[a] >= 0)
			generation[a] = s->header[a][s->best[a]].generation;
	if (generation[0] == generation[1]) {
		hf_err_set(err, "%s: both of its areas are of generation %llu: two owners used it",
			   r->location, (unsigned long long)generation[0]);
		return -EBADMSG;
	}
	*ret = generation[1] > generation[0];
	/* A promoted standby that had not yet got all it was given to the image: what it found counts. */
	if (r->is_shared && generation[!*ret] > 0 &&
	    s->header[*ret][s->best[*ret]].condition == HF_DISK_PARTIAL)
		*ret = !*ret;
	return 0;
}

/* Never the good copy: while the other one is torn, it says what counts. An area's first one is
 * 0. */
static unsigned int next_slot(const struct slots *s, unsigned int area)
{
	return s->best[area] >= 0 ? !s->best[area] : 0;
}

static int check_header(const struct hf_redo *r, const struct hf_redo_header *h, struct hf_err *err)
{
	uint64_t end = h->start_bytes + h->area_bytes;

	if (strcmp(h->vm, r->header.vm) != 0) {
		hf_err_set(err, "%s: this is the redo journal of VM %s", r->location, h->vm);
		return -EBADMSG;
	}
	if (end > hf_image_size_bytes(r->image)) {
		hf_err_set(err, "%s: it has %llu bytes, and should have at least %llu", r->location,
			   (unsigned long long)hf_image_size_bytes(r->image),
			   (unsigned long long)end);
		return -EBADMSG;
	}
	return 0;
}

int hf_redo_find_header(struct hf_redo *r, struct hf_redo_found *ret, struct hf_err *err)
{
	struct hf_redo_found found = { 0 };
	struct slots s;
	int e = read_slots(r, &s, err);

	if (e < 0)
		return e;
	for (unsigned int a = 0; a < HF_REDO_AREAS; a++) {
		found.next_slot[a] = next_slot(&s, a);
		found.last_serial[a] = s.best[a] < 0 ? 0 : s.header[a][s.best[a]].serial;
	}
	if (is_fresh(&s)) {
		found.is_fresh = true;
		*ret = found;
		return 0;
	}
	e = pick_area(r, &s, &found.area, err);
	if (e < 0)
		return e;
	found.header = s.header[found.area][s.best[found.area]];
	e = check_header(r, &found.header, err);
	if (e == 0)
		*ret = found;
	return e;
}

/* ---- entries ---- */

void hf_redo_chain_begin(const struct hf_redo_header *header, struct hf_redo_chain *ret)
{
	*ret = (struct hf_redo_chain){ .next_seq = header->first_seq, .tip = header->root };
}

static bool is_next(const struct hf_redo *r, const struct hf_redo_chain *c,
		    const struct hf_redo_entry *e)
{
	return e->generation == r->header.generation && e->seq == c->next_seq &&
	       e->prev == c->tip && e->epoch > c->epoch &&
	       hf_redo_entry_bytes(e->payload_bytes) <= r->header.area_bytes - c->end_bytes;
}

/* Reads the entry at the chain's end piece by piece, its head first. The payload's checksum so
 * far. */
static int sum_entry(struct hf_redo *r, const struct hf_redo_chain *c,
		     const struct hf_redo_entry *e, uint32_t *ret)
{
	uint64_t from = r->header.start_bytes + c->end_bytes;
	uint64_t left = HF_REDO_ENTRY_HEAD_BYTES + e->payload_bytes;
	size_t skip = HF_REDO_ENTRY_HEAD_BYTES;
	uint32_t crc = 0;
	int error;

	for (size_t n; left > 0; left -= n, from += n, skip = 0) {
		n = left < HF_REDO_WINDOW_BYTES ? (size_t)left : HF_REDO_WINDOW_BYTES;
		error = hf_image_read(
			r->image, r->window,
			(n + HF_REDO_BLOCK_BYTES - 1) & ~(size_t)(HF_REDO_BLOCK_BYTES - 1), from);
		if (error < 0)
			return error;
		crc = hf_crc32c(crc, r->window + skip, n - skip);
	}
	*ret = crc;
	return 0;
}

enum { ENTRY_NONE = 0, ENTRY_VALID = 1 };

static int look_at_entry(struct hf_redo *r, const struct hf_redo_chain *c,
			 struct hf_redo_entry *ret)
{
	struct hf_redo_entry e;
	uint32_t crc;
	int error;

	if (r->header.area_bytes - c->end_bytes < HF_REDO_BLOCK_BYTES)
		return ENTRY_NONE;
	error = hf_image_read(r->image, r->window, HF_REDO_BLOCK_BYTES,
			      r->header.start_bytes + c->end_bytes);
	if (error < 0)
		return error;
	if (!hf_redo_get_entry(r->window, &e) || !is_next(r, c, &e))
		return ENTRY_NONE;
	error = sum_entry(r, c, &e, &crc);
	if (error < 0)
		return error;
	if (crc != e.payload_crc32c)
		return ENTRY_NONE;
	*ret = e;
	return ENTRY_VALID;
}

void hf_redo_chain_add(struct hf_redo_chain *c, const struct hf_redo_entry *e)
{
	c->end_bytes += hf_redo_entry_bytes(e->payload_bytes);
	c->next_seq++;
	c->tip = e->id;
	c->epoch = e->epoch;
	c->entries++;
}

int hf_redo_scan(struct hf_redo *r, struct hf_redo_chain *ret, struct hf_err *err)
{
	struct hf_redo_chain c;
	struct hf_redo_entry e;
	int valid;

	hf_redo_chain_begin(&r->header, &c);
	while ((valid = look_at_entry(r, &c, &e)) == ENTRY_VALID)
		hf_redo_chain_add(&c, &e);
	if (valid < 0) {
		hf_err_set(err, "%s: it cannot be read at byte %llu: %s", r->location,
			   hf_redo_byte_of(r, &c), strerror(-valid));
		return valid;
	}
	*ret = c;
	return 0;
}

/* ---- replay ---- */

static int check_records(const struct hf_redo *r, const uint8_t *records, size_t len,
			 struct hf_err *err)
{
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record record;
	int n;

	while ((n = hf_wire_disk_next(records, len, &cursor, &record, err)) ==
	       HF_WIRE_DISK_RECORD) {
		uint64_t size;

		if (record.disk >= r->header.n_disks) {
			hf_err_set(err, "a record for disk %u of %u", record.disk,
				   r->header.n_disks);
			return -EBADMSG;
		}
		size = r->header.disk_bytes[record.disk];
		if (record.offset_bytes > size ||
		    record.length_bytes > size - record.offset_bytes) {
			hf_err_set(err, "a record beyond the end of disk %u", record.disk);
			return -EBADMSG;
		}
	}
	return n;
}

static int read_payload(struct hf_redo *r, const struct hf_redo_chain *c,
			const struct hf_redo_entry *e, uint8_t **ret)
{
	uint64_t size = hf_redo_entry_bytes(e->payload_bytes);
	void *p;
	int error;

	if (posix_memalign(&p, HF_REDO_BLOCK_BYTES, size) != 0)
		return -ENOMEM;
	error = hf_image_read(r->image, p, size, r->header.start_bytes + c->end_bytes);
	if (error < 0)
		free(p);
	else
		*ret = p;
	return error;
}

typedef int replay_fn(void *ctx, uint64_t epoch, const uint8_t *records, size_t len);

static int replay_entry(struct hf_redo *r, const struct hf_redo_chain *c,
			const struct hf_redo_entry *e, replay_fn *fn, void *ctx, struct hf_err *err)
{
	const uint8_t *records;
	uint8_t *entry;
	int error = read_payload(r, c, e, &entry);

	if (error < 0) {
		hf_err_set(err, "%s", strerror(-error));
		return error;
	}
	records = entry + HF_REDO_ENTRY_HEAD_BYTES;
	if (hf_crc32c(0, records, e->payload_bytes) != e->payload_crc32c) {
		hf_err_set(err, "it is not what it was a moment ago");
		error = -EBADMSG;
	} else {
		error = check_records(r, records, e->payload_bytes, err);
	}
	if (error == 0)
		error = fn(ctx, e->epoch, records, e->payload_bytes);
	free(entry);
	return error < 0 ? error : 0;
}

int hf_redo_replay(struct hf_redo *r,
		   int (*fn)(void *ctx, uint64_t epoch, const uint8_t *records, size_t len),
		   void *ctx, struct hf_err *err)
{
	struct hf_redo_entry e = { 0 };
	struct hf_redo_chain c;
	int error = 0;

	hf_redo_chain_begin(&r->header, &c);
	while (error == 0 && c.entries < r->chain.entries) {
		hf_err_set(err, "the records are refused");
		error = look_at_entry(r, &c, &e);
		if (error == ENTRY_NONE) {
			hf_err_set(err, "the entry is not there any more");
			error = -EBADMSG;
		}
		if (error == ENTRY_VALID)
			error = replay_entry(r, &c, &e, fn, ctx, err);
		if (error == 0)
			hf_redo_chain_add(&c, &e);
	}
	if (error < 0)
		hf_err_prefix(err, "%s: entry at byte %llu: ", r->location, hf_redo_byte_of(r, &c));
	else
		hf_err_set(err, "%s", "");
	return error;
}

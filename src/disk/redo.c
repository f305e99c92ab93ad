/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/redo.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/crc32c.h"
#include "disk/redo-internal.h"

/* Not 0, so that a zeroed field is no id. */
static int new_id(uint64_t *ret)
{
	do {
		if (getrandom(ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
			return -EIO;
	} while (*ret == 0);
	return 0;
}

/* ---- durable, or lost ---- */

/* Nobody can tell afterwards how much of what was written before a failed flush is durable. */
static int flush(struct hf_redo *r)
{
	int e = hf_image_flush(r->image);

	if (e == 0) {
		r->synced = r->chain;
	} else if (r->chain.entries > r->synced.entries) {
		r->chain = r->synced;
		r->lost = r->first_unsynced;
	}
	r->first_unsynced = 0;
	return e;
}

static void forget_entries(struct hf_redo *r)
{
	hf_redo_chain_begin(&r->header, &r->chain);
	r->synced = r->chain;
	r->first_unsynced = r->lost = 0;
}

static int write_slot(struct hf_redo *r, unsigned int area, unsigned int slot,
		      const struct hf_redo_header *h)
{
	uint64_t at = (uint64_t)(area * HF_REDO_SLOTS + slot) * HF_REDO_BLOCK_BYTES;
	int e;

	hf_redo_put_header(r->window, h);
	e = hf_image_write(r->image, r->window, HF_REDO_BLOCK_BYTES, at);
	return e < 0 ? e : flush(r);
}

/*
 * Both copies of an area's header, first the one that may be torn. After a failure any of the
 * attempts may be what counts on the disk. They differ in what they say about entries, so none may
 * be added before a header has been written that is known.
 */
static int write_copies(struct hf_redo *r, unsigned int area, unsigned int *slot,
			struct hf_redo_header *h, struct hf_err *err)
{
	int e = 0;

	for (unsigned int n = 0; e == 0 && n < HF_REDO_SLOTS; n++) {
		h->serial++;
		e = write_slot(r, area, *slot, h);
		if (e == 0)
			*slot = !*slot;
	}
	if (e < 0)
		hf_err_set(err, "%s: its header cannot be written: %s", r->location, strerror(-e));
	return e;
}

/* In place. A serial is used once, also if it is not known whether it was. */
static int write_header(struct hf_redo *r, const struct hf_redo_header *h, struct hf_err *err)
{
	struct hf_redo_header new = *h;
	int e;

	new.serial = r->header.serial;
	r->is_in_doubt = true;
	e = write_copies(r, r->area, &r->next_slot, &new, err);
	r->header.serial = new.serial;
	if (e < 0)
		return e;
	r->header = new;
	r->is_in_doubt = false;
	return 0;
}

static int check_is_usable(const struct hf_redo *r, struct hf_err *err)
{
	if (!r->is_between)
		return 0;
	hf_err_set(err, "%s: taking it over has failed", r->location);
	return -EIO;
}

/* ---- the record ---- */

/*
 * Where the next owner's entries go: nowhere that the one before can still write to. Before its
 * area or behind it, as large as wanted; where neither has the room (a device, and another size is
 * wanted than before) what there is, and the one after finds more.
 */
static int place_area(const struct hf_redo *r, const struct hf_redo_found *found,
		      struct hf_redo_header *h, struct hf_err *err)
{
	uint64_t end = hf_image_size_bytes(r->image) & ~(uint64_t)(HF_REDO_BLOCK_BYTES - 1);
	uint64_t old_start = found->is_fresh ? end : found->header.start_bytes;
	uint64_t old_end = found->is_fresh ? end : old_start + found->header.area_bytes;
	uint64_t before = old_start - HF_REDO_HEADERS_BYTES, behind = end - old_end;
	bool is_before = before >= r->wanted_area_bytes ||
			 (behind < r->wanted_area_bytes && before >= behind);
	uint64_t room = is_before ? before : behind;

	h->start_bytes = is_before ? HF_REDO_HEADERS_BYTES : old_end;
	h->area_bytes = room < r->wanted_area_bytes ? room : r->wanted_area_bytes;
	if (h->area_bytes >= HF_REDO_AREA_MIN_BYTES)
		return 0;
	hf_err_set(err, "%s: there is no room for a second area beside the one in use",
		   r->location);
	return -ENOSPC;
}

int hf_redo_take_over(struct hf_redo *r, enum hf_disk_condition condition, struct hf_id session,
		      struct hf_err *err)
{
	struct hf_redo_header h = r->header;
	struct hf_redo_found found;
	unsigned int area;
	int e = hf_redo_find_header(r, &found, err);

	if (e == 0)
		e = place_area(r, &found, &h, err);
	if (e == 0)
		e = new_id(&h.root);
	if (e < 0)
		return e;
	area = found.is_fresh ? 0 : !found.area;
	h.generation = found.header.generation + 1;
	h.serial = found.last_serial[area];
	h.first_seq = 1;
	h.condition = condition;
	h.session = session;
	r->is_between = true;
	e = write_copies(r, area, &found.next_slot[area], &h, err);
	if (e < 0)
		return e;
	r->header = h;
	r->area = area;
	r->next_slot = found.next_slot[area];
	r->is_between = r->is_in_doubt = false;
	forget_entries(r);
	return 0;
}

int hf_redo_set_state(struct hf_redo *r, enum hf_disk_condition condition, struct hf_id session,
		      struct hf_err *err)
{
	struct hf_redo_header h = r->header;
	int e = check_is_usable(r, err);

	if (e < 0)
		return e;
	if (h.generation == 0)
		return hf_redo_take_over(r, condition, session, err);
	h.condition = condition;
	h.session = session;
	return write_header(r, &h, err);
}

int hf_redo_reset(struct hf_redo *r, struct hf_err *err)
{
	struct hf_redo_header h = r->header;
	int e = check_is_usable(r, err);

	if (e == 0)
		e = new_id(&h.root);
	if (e < 0 || h.generation == 0)
		return e;
	h.first_seq = r->chain.next_seq;
	e = write_header(r, &h, err);
	if (e == 0)
		forget_entries(r);
	return e;
}

/* ---- entries ---- */

/* Takes bytes off a vector, from its beginning to its end. */
struct walk {
	const struct iovec *iov;
	int n;
	size_t at; /* in iov[0] */
};

static size_t walk_copy(struct walk *w, uint8_t *to, size_t room)
{
	size_t done = 0;

	while (w->n > 0 && done < room) {
		size_t n = w->iov->iov_len - w->at;

		n = n < room - done ? n : room - done;
		memcpy(to + done, (const uint8_t *)w->iov->iov_base + w->at, n);
		done += n;
		w->at += n;
		if (w->at == w->iov->iov_len) {
			w->iov++;
			w->n--;
			w->at = 0;
		}
	}
	return done;
}

static int make_entry(const struct hf_redo *r, uint64_t epoch, const struct iovec *iov, int n,
		      struct hf_redo_entry *ret)
{
	struct hf_redo_entry e = { .generation = r->header.generation,
				   .seq = r->chain.next_seq,
				   .epoch = epoch,
				   .prev = r->chain.tip };

	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len > HF_REDO_AREA_MAX_BYTES - e.payload_bytes)
			return -ENOSPC;
		e.payload_bytes += iov[i].iov_len;
		e.payload_crc32c = hf_crc32c(e.payload_crc32c, iov[i].iov_base, iov[i].iov_len);
	}
	*ret = e;
	return new_id(&ret->id);
}

static int write_entry(struct hf_redo *r, const struct hf_redo_entry *entry,
		       const struct iovec *iov, int n_iov)
{
	uint64_t from = r->header.start_bytes + r->chain.end_bytes;
	uint64_t end = from + hf_redo_entry_bytes(entry->payload_bytes);
	struct walk w = { iov, n_iov, 0 };
	size_t used = HF_REDO_ENTRY_HEAD_BYTES, n;
	int e = 0;

	hf_redo_put_entry(r->window, entry);
	for (; e == 0 && from < end; from += n, used = 0) {
		n = end - from < HF_REDO_WINDOW_BYTES ? (size_t)(end - from) : HF_REDO_WINDOW_BYTES;
		used += walk_copy(&w, r->window + used, n - used);
		memset(r->window + used, 0, n - used);
		e = hf_image_write(r->image, r->window, n, from);
	}
	return e;
}

/* Is it to be appended at all, and may it be? 1: it is there. */
static int check_epoch(const struct hf_redo *r, uint64_t epoch, struct hf_err *err)
{
	if (epoch <= r->synced.epoch) {
		hf_err_set(err, "%s: epoch %llu comes after epoch %llu", r->location,
			   (unsigned long long)epoch, (unsigned long long)r->synced.epoch);
		return -EINVAL;
	}
	if (r->lost > 0 && epoch > r->lost) {
		hf_err_set(err, "%s: epoch %llu comes first again: it was lost", r->location,
			   (unsigned long long)r->lost);
		return -EIO;
	}
	return epoch <= r->chain.epoch;
}

/* A header that says where entries begin, beyond doubt. */
static int need_header(struct hf_redo *r, struct hf_err *err)
{
	int e = check_is_usable(r, err);

	if (e < 0)
		return e;
	if (r->header.generation == 0)
		return hf_redo_take_over(r, r->header.condition, r->header.session, err);
	return r->is_in_doubt ? write_header(r, &r->header, err) : 0;
}

static int check_room(const struct hf_redo *r, uint64_t payload_bytes, struct hf_err *err)
{
	uint64_t room = r->header.area_bytes - r->chain.end_bytes;

	if (hf_redo_entry_bytes(payload_bytes) <= room)
		return 0;
	hf_err_set(err,
		   "%s: an epoch of %llu bytes does not fit into the %llu that are left of %llu",
		   r->location, (unsigned long long)payload_bytes, (unsigned long long)room,
		   (unsigned long long)r->header.area_bytes);
	return -ENOSPC;
}

int hf_redo_append(struct hf_redo *r, uint64_t epoch, const struct iovec *records, int n,
		   struct hf_err *err)
{
	struct hf_redo_entry entry;
	int e = need_header(r, err);

	if (e == 0)
		e = check_epoch(r, epoch, err);
	if (e != 0)
		return e < 0 ? e : 0;
	e = make_entry(r, epoch, records, n, &entry);
	if (e == 0)
		e = check_room(r, entry.payload_bytes, err);
	if (e < 0)
		return e;
	e = write_entry(r, &entry, records, n);
	if (e < 0) {
		hf_err_set(err, "%s: epoch %llu cannot be written at byte %llu: %s", r->location,
			   (unsigned long long)epoch, hf_redo_byte_of(r, &r->chain), strerror(-e));
		return e;
	}
	r->first_unsynced = r->first_unsynced > 0 ? r->first_unsynced : epoch;
	r->lost = 0;
	hf_redo_chain_add(&r->chain, &entry);
	return 0;
}

int hf_redo_sync(struct hf_redo *r, struct hf_err *err)
{
	int e = 0;

	if (r->lost > 0) {
		hf_err_set(err, "%s: epoch %llu and later ones were lost by an earlier failure",
			   r->location, (unsigned long long)r->lost);
		return -EIO;
	}
	if (r->chain.entries > r->synced.entries)
		e = flush(r);
	if (e < 0)
		hf_err_set(err, "%s: it cannot be made durable: %s", r->location, strerror(-e));
	return e;
}

uint64_t hf_redo_used_bytes(const struct hf_redo *r)
{
	return r->chain.end_bytes;
}

uint64_t hf_redo_area_bytes(const struct hf_redo *r)
{
	return r->header.generation > 0 ? r->header.area_bytes : r->wanted_area_bytes;
}

void hf_redo_get_state(const struct hf_redo *r, struct hf_redo_state *ret)
{
	*ret = (struct hf_redo_state){ .condition = r->header.condition,
				       .session = r->header.session,
				       .generation = r->header.generation,
				       .epoch = r->chain.epoch,
				       .entries = r->chain.entries };
}

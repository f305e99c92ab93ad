/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal's other uses: the record of what the images are, and writing its entries to the images once
 * more, after a crash or when a flush of the images has failed.
 *
 * After a failed flush nobody knows what of the writes before it got to the disk, and the system says that the
 * next flush succeeded (it has forgotten them). So all that is not settled is written again. Readers are at
 * the images meanwhile and must not see them go back: a first pass finds the newest content of each byte, a
 * second one writes only that.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "disk/engine-internal.h"

int engine_open_redo(struct hf_engine *e, struct hf_err *err)
{
	struct hf_redo_config config = {
		.location = e->redo_location,
		.vm = e->vm,
		.area_bytes = e->redo_area_bytes,
		.is_shared = e->is_shared,
		.n_disks = e->n_disks,
		.disk_bytes = e->disk_bytes,
	};
	struct hf_redo_state state;
	int r = hf_redo_open(&config, &e->redo, err);

	if (r < 0)
		return r;
	hf_redo_get_state(e->redo, &state);
	e->condition = state.condition;
	e->session = state.session;
	e->redo_area_bytes = hf_redo_area_bytes(e->redo);
	atomic_store(&e->redo_used_bytes, hf_redo_used_bytes(e->redo));
	return 0;
}

void engine_note_condition(struct hf_engine *e, enum hf_disk_condition condition,
			   struct hf_id session)
{
	pthread_mutex_lock(&e->lock);
	e->condition = condition;
	e->session = session;
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
}

int engine_set_condition(struct hf_engine *e, enum hf_disk_condition condition,
			 struct hf_id session, struct hf_err *err)
{
	int r;

	pthread_mutex_lock(&e->redo_lock);
	r = hf_redo_set_state(e->redo, condition, session, err);
	if (!r)
		engine_note_condition(e, condition, session);
	pthread_mutex_unlock(&e->redo_lock);
	return r;
}

int engine_take_over(struct hf_engine *e, enum hf_disk_condition condition, struct hf_id session,
		     struct hf_err *err)
{
	int r;

	pthread_mutex_lock(&e->redo_lock);
	r = hf_redo_take_over(e->redo, condition, session, err);
	if (!r)
		engine_note_condition(e, condition, session);
	atomic_store(&e->redo_used_bytes, hf_redo_used_bytes(e->redo));
	pthread_mutex_unlock(&e->redo_lock);
	return r;
}

/* ---- entries to images ---- */

struct pass {
	struct hf_engine *e;
	uint64_t to_epoch;
	bool is_writing; /* else the newest are found */
	struct hf_extents *newest[HF_WIRE_DISKS_MAX];
	uint64_t serial;
	struct hf_err *err;
};

static int note_record(struct pass *p, const struct hf_wire_disk_record *rec)
{
	struct hf_extent x = {
		.offset_bytes = rec->offset_bytes,
		.length_bytes = rec->length_bytes,
		.is_zero = true,
		.serial = p->serial,
	};
	int r = hf_extents_reserve(p->newest[rec->disk], 1);

	if (!r)
		hf_extents_set(p->newest[rec->disk], &x);
	return r;
}

static int write_part(struct pass *p, const struct hf_wire_disk_record *rec,
		      const struct hf_extent *x)
{
	struct engine_disk *d = &p->e->disk[rec->disk];
	int r;

	if (!hf_disk_may_write(engine_now_ns(), engine_permit_ns(p->e)))
		return -EAGAIN;
	if (d->map)
		hf_dirtymap_set(d->map, x->offset_bytes, x->length_bytes);
	if (rec->kind == HF_WIRE_DISK_WRITE)
		r = hf_image_write(d->image, rec->data + (x->offset_bytes - rec->offset_bytes),
				   x->length_bytes, x->offset_bytes);
	else if (rec->kind == HF_WIRE_DISK_TRIM)
		r = hf_image_trim(d->image, x->length_bytes, x->offset_bytes);
	else
		r = hf_image_zero(d->image, x->length_bytes, x->offset_bytes,
				  rec->flags & HF_WIRE_DISK_MAY_TRIM);
	if (r < 0)
		hf_err_set(p->err, "disk %u: writing at %llu: %s", rec->disk,
			   (unsigned long long)x->offset_bytes, strerror(-r));
	return r;
}

static int write_record(struct pass *p, const struct hf_wire_disk_record *rec)
{
	uint64_t at = rec->offset_bytes, end = at + rec->length_bytes;
	struct hf_extent x;
	int r = 0;

	while (!r && hf_extents_find(p->newest[rec->disk], at, end, &x)) {
		at = x.offset_bytes + x.length_bytes;
		if (x.serial == p->serial)
			r = write_part(p, rec, &x);
	}
	return r;
}

static int redo_entry(void *ctx, uint64_t epoch, const uint8_t *records, size_t len)
{
	struct pass *p = ctx;
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record rec;
	int r;

	if (epoch > p->to_epoch)
		return 0;
	while ((r = hf_wire_disk_next(records, len, &cursor, &rec, p->err)) > 0) {
		p->serial++;
		if (rec.kind == HF_WIRE_DISK_FLUSH)
			continue;
		r = p->is_writing ? write_record(p, &rec) : note_record(p, &rec);
		if (r < 0)
			break;
	}
	return r;
}

static int run_passes(struct pass *p)
{
	int r = hf_redo_replay(p->e->redo, redo_entry, p, p->err);

	p->is_writing = true;
	p->serial = 0;
	if (!r)
		r = hf_redo_replay(p->e->redo, redo_entry, p, p->err);
	return r;
}

int engine_redo(struct hf_engine *e, uint64_t to_epoch, struct hf_err *err)
{
	struct pass p = { .e = e, .to_epoch = to_epoch, .err = err };
	int r = 0;

	for (uint32_t i = 0; !r && i < e->n_disks; i++)
		r = hf_extents_new(&p.newest[i]);
	pthread_mutex_lock(&e->redo_lock);
	if (!r)
		r = run_passes(&p);
	pthread_mutex_unlock(&e->redo_lock);
	for (uint32_t i = 0; i < e->n_disks; i++)
		hf_extents_free(p.newest[i]);
	for (uint32_t i = 0; !r && i < e->n_disks; i++) {
		r = hf_image_flush(e->disk[i].image);
		if (r < 0)
			hf_err_set(err, "disk %u: flush: %s", i, strerror(-r));
	}
	if (r < 0 && !err->text[0])
		hf_err_set(err, "redoing the journal: %s", strerror(-r));
	return r;
}

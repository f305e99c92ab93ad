/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The owner's disks: which epoch a write belongs to, what is sent, what may reach the images; and the first
 * copy. The decisions are core's (commit.h, disk.h); this writes the words that the disk process obeys.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "keeper/disks.h"
#include "keeper/keeper.h"

/* Pieces of a first copy, of 1 MiB each, between two confirmations: they cost the standby a flush, and what is
 * not confirmed is sent again after an interruption. */
#define MARK_PIECES 16
/* The standby has no room for more that is not confirmed. */
#define PIECES_AHEAD_MAX (HF_DISKSHM_COPY_CHUNKS - MARK_PIECES)

static void put(struct hf_disks *d, _Atomic uint64_t *word, uint64_t value)
{
	atomic_store(word, value);
	hf_diskshm_kick(&d->shm);
}

/* ---- modes ---- */

void hf_disks_hold(struct hf_disks *d, uint64_t epoch)
{
	struct hf_diskshm_words *w = d->shm.words;

	d->out_sent = d->out_kept = hf_diskshm_head(&d->shm, HF_DISKSHM_OUT);
	d->marked = epoch - 1;
	atomic_store(&w->open_epoch, epoch);
	atomic_store(&w->mode, HF_DISKSHM_HOLD);
	hf_diskshm_kick(&d->shm);
}

void hf_disks_pass(struct hf_disks *d)
{
	struct hf_diskshm_words *w = d->shm.words;

	atomic_store(&w->permit_ns, UINT64_MAX);
	/* The disk process records it by itself, before its first write past the log. */
	d->condition = HF_DISK_OWNED;
	d->is_pass_wanted = atomic_load(&w->mode) == HF_DISKSHM_HOLD;
	hf_disks_follow(d);
	hf_diskshm_kick(&d->shm);
}

/* One order after the other: a state that was never reached cannot be left. */
void hf_disks_follow(struct hf_disks *d)
{
	struct hf_diskshm_words *w = d->shm.words;

	if (!d->is_pass_wanted || atomic_load(&w->state) != HF_DISKSHM_HOLD)
		return;
	d->is_pass_wanted = false;
	atomic_store(&w->mode, HF_DISKSHM_DRAIN);
	hf_diskshm_kick(&d->shm);
}

bool hf_disks_is_direct(const struct hf_disks *d)
{
	const struct hf_diskshm_words *w = d->shm.words;

	/* In this order: a role is reached after the state that it begins with. */
	return !d->is_pass_wanted && atomic_load(&w->mode) != HF_DISKSHM_HOLD &&
	       atomic_load(&w->reached_role) == HF_DISKSHM_OWNER &&
	       atomic_load(&w->state) == HF_DISKSHM_DIRECT &&
	       !hf_diskshm_in_use(&d->shm, HF_DISKSHM_OUT);
}

void hf_disks_draining(struct hf_disks *d, bool is_draining)
{
	atomic_store(&d->shm.words->is_draining, is_draining);
	hf_diskshm_kick(&d->shm);
}

/* ---- epochs ---- */

/* Of the flushes of this epoch: did one come while the guest ran? Only that one it may have seen done. Without
 * a word about when it ran, or with more flushes than were noted: as if. */
static bool is_flush_seen(const struct hf_diskshm_words *w, uint64_t resume_us, uint64_t stop_us)
{
	uint32_t n = atomic_load(&w->n_flush_us);

	if (!stop_us || n > HF_DISKSHM_FLUSHES)
		return true;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at_us = atomic_load(&w->flush_us[i]);

		if (at_us >= resume_us && at_us <= stop_us)
			return true;
	}
	return false;
}

void hf_disks_mark(struct hf_disks *d, uint64_t epoch, uint64_t resume_us, uint64_t stop_us,
		   struct hf_gate *gate)
{
	struct hf_diskshm_words *w = d->shm.words;
	bool has_flush = atomic_load(&w->flushed) > d->marked;

	hf_gate_captured(gate, epoch, has_flush, has_flush && is_flush_seen(w, resume_us, stop_us));
	d->marked = epoch;
	atomic_store(&w->open_epoch, epoch + 1);
	atomic_store(&w->is_draining, 0);
	hf_diskshm_kick(&d->shm);
}

void hf_disks_captured(struct hf_disks *d, uint64_t epoch)
{
	put(d, &d->shm.words->captured, epoch);
}

int hf_disks_send(struct hf_disks *d, uint64_t epoch, struct hf_outbox *outbox,
		  struct hf_link *link)
{
	uint64_t head = hf_diskshm_head(&d->shm, HF_DISKSHM_OUT);
	struct hf_diskshm_view v;
	size_t len;
	int r = 0;

	for (; !r && d->out_sent < head; d->out_sent++) {
		if (!hf_diskshm_look(&d->shm, HF_DISKSHM_OUT, d->out_sent, &v))
			return -EBADMSG;
		if (v.epoch > epoch)
			break;
		if (!v.n_records)
			continue;
		len = hf_wire_disk_finish(v.message, HF_WIRE_DISK, v.n_records, v.used);
		r = hf_outbox_disk(outbox, link, v.message, len, v.n_records);
	}
	return r;
}

void hf_disks_committed(struct hf_disks *d, uint64_t epoch)
{
	uint64_t head = hf_diskshm_head(&d->shm, HF_DISKSHM_OUT);
	struct hf_diskshm_view v;

	/* Not up to out_sent: the other host may turn out to have what was dropped when the link
	 * broke. From now on the disk process frees them. */
	while (d->out_kept < head && hf_diskshm_look(&d->shm, HF_DISKSHM_OUT, d->out_kept, &v) &&
	       v.epoch <= epoch)
		d->out_kept++;
	if (d->out_sent < d->out_kept)
		d->out_sent = d->out_kept;
	put(d, &d->shm.words->committed, epoch);
}

void hf_disks_dropped(struct hf_disks *d)
{
	d->out_sent = d->out_kept;
}

void hf_disks_permit(struct hf_disks *d, uint64_t until_ns)
{
	struct hf_diskshm_words *w = d->shm.words;

	if (d->is_shared && !d->is_cut && atomic_load(&w->mode) == HF_DISKSHM_HOLD)
		put(d, &w->permit_ns, until_ns);
}

void hf_disks_lease(struct hf_disks *d, uint64_t until_ns)
{
	put(d, &d->shm.words->lease_ns, until_ns);
}

bool hf_disks_wants_epoch(const struct hf_disks *d)
{
	const struct hf_diskshm_words *w = d->shm.words;

	return atomic_load(&w->is_over_soft) ||
	       atomic_load(&w->epoch_bytes) > d->k->set->disk_buffer_bytes / 2;
}

/* Each epoch lets requests into the reserve that QEMU waits for, and takes a chunk at least: storage that does not
 * keep up would fill it. Without another epoch the guest's writes wait at the soft limit. */
bool hf_disks_is_behind(const struct hf_disks *d)
{
	const struct hf_diskshm_words *w = d->shm.words;
	uint64_t soft = d->shm.soft_chunks[HF_DISKSHM_OUT];
	uint64_t limit = soft + (d->shm.n_chunks[HF_DISKSHM_OUT] - soft) / 4;

	return hf_diskshm_in_use(&d->shm, HF_DISKSHM_OUT) > limit &&
	       atomic_load(&w->applied) < atomic_load(&w->committed);
}

void hf_disks_feed_gate(struct hf_disks *d, struct hf_gate *gate)
{
	struct hf_diskshm_words *w = d->shm.words;
	uint64_t wanted;

	hf_disks_follow(d);
	hf_gate_journaled(gate, atomic_load(&w->journaled));
	if (hf_disks_is_direct(d))
		hf_gate_drained(gate);
	wanted = hf_gate_wants(gate);
	if (wanted > atomic_load(&w->urgent))
		put(d, &w->urgent, wanted);
}

/* ---- the first copy ---- */

static void start_copy(struct hf_disks *d, bool is_full)
{
	struct hf_diskctl_msg msg = {
		.type = HF_DISKCTL_SYNC_START,
		.sync_start = { .is_full = is_full, .session = d->map_session },
	};

	/* Pieces of a copy that was broken off: their blocks are still on the list. */
	while (hf_diskshm_tail(&d->shm, HF_DISKSHM_SYNC) <
	       hf_diskshm_head(&d->shm, HF_DISKSHM_SYNC))
		hf_diskshm_free_oldest(&d->shm, HF_DISKSHM_SYNC);
	d->sync_sent = hf_diskshm_tail(&d->shm, HF_DISKSHM_SYNC);
	d->sync_mark = 0;
	d->sync_marked = d->sync_confirmed = d->sync_sent;
	/* What these say is of the last copy, until the disk process has heard of this one. */
	atomic_store(&d->shm.words->is_sync_done, 0);
	atomic_store(&d->shm.words->sync_total_bytes, 0);
	atomic_store(&d->shm.words->sync_left_bytes, 0);
	hf_disks_say(d, &msg);
}

void hf_disks_copy_begin(struct hf_disks *d, bool is_delta, struct hf_id session)
{
	d->is_copying = true;
	d->is_delta = is_delta;
	d->map_session = session;
	d->is_map_trusted = true;
	d->sync_bytes = 0;
	d->sync_started_ns = hf_now_ns();
	start_copy(d, !is_delta);
}

void hf_disks_copy_again(struct hf_disks *d)
{
	/* Since there is a total, the map has all that is to be sent. Before, it may not have been told. */
	bool has_begun = atomic_load(&d->shm.words->sync_total_bytes) > 0;

	if (d->is_copying)
		start_copy(d, !d->is_delta && !has_begun);
}

void hf_disks_copy_end(struct hf_disks *d)
{
	struct hf_diskctl_msg msg = { .type = HF_DISKCTL_SYNC_STOP };

	if (!d->is_copying)
		return;
	d->is_copying = false;
	d->sync_ended_ns = hf_now_ns();
	hf_disks_say(d, &msg);
}

/* What the link has taken whole is free for the next piece. */
static void free_gone(struct hf_disks *d, uint64_t done)
{
	uint64_t tail = hf_diskshm_tail(&d->shm, HF_DISKSHM_SYNC);
	uint64_t before = tail;

	for (; tail < d->sync_sent && d->sync_bulk[tail % HF_DISKSHM_SYNC_CHUNKS] <= done; tail++)
		hf_diskshm_free_oldest(&d->shm, HF_DISKSHM_SYNC);
	if (tail != before)
		hf_diskshm_kick(&d->shm);
}

static int send_piece(struct hf_disks *d, struct hf_link *link)
{
	struct hf_diskshm_view v;
	size_t len;
	int r = 0;

	if (!hf_diskshm_look(&d->shm, HF_DISKSHM_SYNC, d->sync_sent, &v))
		return -EBADMSG;
	if (v.n_records) {
		len = hf_wire_disk_finish(v.message, HF_WIRE_DISK_SYNC, v.n_records, v.used);
		r = hf_link_send_bulk(link, v.message, len);
		d->sync_bytes += v.used;
	}
	d->sync_bulk[d->sync_sent % HF_DISKSHM_SYNC_CHUNKS] = hf_link_bulk_done(link) +
							      hf_link_bulk_pending(link);
	d->sync_sent++;
	return r;
}

static int send_mark(struct hf_disks *d, struct hf_link *link)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_SYNC_MARK,
				   .mark = { .sync_mark = d->sync_sent } };
	bool is_last = atomic_load(&d->shm.words->is_sync_done);

	if (d->sync_mark || d->sync_sent == d->sync_marked ||
	    (!is_last && d->sync_sent - d->sync_marked < MARK_PIECES))
		return 0;
	d->sync_mark = d->sync_marked = d->sync_sent;
	return hf_link_send(link, &msg, NULL);
}

int hf_disks_copy_pump(struct hf_disks *d, struct hf_link *link, unsigned int max_pieces)
{
	int r = 0;

	if (!d->is_copying)
		return 0;
	free_gone(d, hf_link_bulk_done(link));
	for (; !r && max_pieces && d->sync_sent < hf_diskshm_head(&d->shm, HF_DISKSHM_SYNC) &&
	       d->sync_sent - d->sync_confirmed < PIECES_AHEAD_MAX;
	     max_pieces--)
		r = send_piece(d, link);
	if (!r)
		r = send_mark(d, link);
	if (!r)
		hf_link_flush(link);
	/* What has gone at once makes no event later. */
	free_gone(d, hf_link_bulk_done(link));
	return r;
}

void hf_disks_copy_confirmed(struct hf_disks *d, uint64_t mark)
{
	struct hf_diskctl_msg msg = { .type = HF_DISKCTL_SYNC_CONFIRMED, .mark = mark };

	if (!d->sync_mark || mark != d->sync_mark)
		return;
	d->sync_mark = 0;
	d->sync_confirmed = mark;
	hf_disks_say(d, &msg);
}

void hf_disks_copy_link_lost(struct hf_disks *d)
{
	d->sync_mark = 0;
	free_gone(d, UINT64_MAX);
	d->out_sent = d->out_kept;
}

bool hf_disks_is_copied(const struct hf_disks *d)
{
	const struct hf_diskshm_words *w = d->shm.words;

	if (!d->is_copying)
		return true;
	/* While outputs are held it counts only after the last write past the log. */
	if (atomic_load(&w->mode) == HF_DISKSHM_HOLD && atomic_load(&w->state) != HF_DISKSHM_HOLD)
		return false;
	return atomic_load(&w->is_sync_done) &&
	       d->sync_sent == hf_diskshm_head(&d->shm, HF_DISKSHM_SYNC);
}

uint64_t hf_disks_copy_left_bytes(const struct hf_disks *d)
{
	return atomic_load(&d->shm.words->sync_left_bytes);
}

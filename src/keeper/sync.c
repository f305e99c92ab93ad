/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first copy of a session, while the guest runs.
 *
 * Theory of operation. Rounds: the VM is stopped for the time of one scan (shorter than an epoch's
 * pause: nothing is copied meanwhile), which starts a new set of written pages; then, while it runs,
 * the pages of the round are copied into the buffer and sent. Pages that the guest writes during the
 * copy are torn, and are in the next round's set. The first round is all of RAM, each later one what
 * was written during the one before. When what is left fits into an epoch, or does not get less any
 * more, the rest goes with the session's first epoch.
 *
 * The scan needs the stop because block I/O that is in flight may write to guest memory after its
 * page's mark was taken (vm/tracker.h).
 */
#include <errno.h>
#include <string.h>

#include "keeper/primary-side.h"

/* A guest that writes faster than the link takes never gets less: after so many rounds its working
 * set is what is left, and that is an epoch like all that follow. */
#define ROUNDS_MAX 10

/* RAM follows when so much of the disks is left, or when more than all was sent and it does not get less:
 * then the log's limit slows the guest down, once outputs are held. */
#define DISKS_NEAR_BYTES ((uint64_t)16 << 20)
#define DISKS_SENT_FACTOR 3
#define DISK_PIECES_IN_TURN 4

static void start_round(struct hf_primary_side *s);

static bool is_near_enough(const struct hf_primary_side *s, uint64_t pages)
{
	uint64_t bound = s->pace.set.epoch_bytes / 2 / HF_TRACKER_PAGE_BYTES;

	if (s->sync.round >= ROUNDS_MAX)
		return true;
	/* The second round of a quiet guest is small at once; a busy one stops getting better. */
	return pages <= 256 || (pages <= bound && pages > s->sync.last_pages / 2);
}

/* What is left of the disks goes in turns with RAM: neither may keep the other from the link. */
static bool is_given_to_disks(struct hf_primary_side *s)
{
	struct hf_disks *d = s->k->disks;

	s->sync.is_disks_turn = !s->sync.is_disks_turn;
	if (!d || !d->is_copying || !s->sync.is_disks_turn)
		return false;
	if (hf_disks_copy_pump(d, s->link, DISK_PIECES_IN_TURN) < 0)
		hf_primary_drop_link(s, "cannot send the disks");
	return !s->link || hf_link_bulk_pending(s->link);
}

static void copy_more(struct hf_primary_side *s)
{
	struct hf_sync *y = &s->sync;
	uint64_t taken;
	size_t len;
	int r = 0;

	if (hf_link_bulk_pending(s->link) || is_given_to_disks(s) || !s->link)
		return;
	hf_pages_reset(s->sync_pages);
	if (y->cursor == s->todo.n_bits) {
		start_round(s);
		return;
	}
	taken = hf_pages_fill(s->sync_pages, &s->todo, &y->cursor,
			      /* may_have_holes= */ y->round == 1);
	y->done_bytes += taken * HF_TRACKER_PAGE_BYTES;
	y->left_pages -= taken;
	for (size_t i = 0; !r && i < hf_pages_count(s->sync_pages); i++) {
		uint8_t *message = hf_pages_message(s->sync_pages, i, &len);

		r = hf_link_send_bulk(s->link, message, len);
	}
	if (r < 0)
		hf_primary_drop_link(s, strerror(-r));
	else
		hf_link_flush(s->link);
}

static void on_scanned(struct hf_primary_side *s, uint64_t pages)
{
	struct hf_sync *y = &s->sync;

	if (!s->link)
		return;
	y->step = HF_SYNC_COPYING;
	y->round++;
	y->cursor = 0;
	if (y->round == 1) {
		/* What the tracker said only served to start it: all of RAM is to go. */
		hf_bitmap_set_range(&s->todo, 0, s->todo.n_bits);
		y->left_pages = y->last_pages = s->todo.n_bits;
	} else {
		y->left_pages = hf_bitmap_count(&s->todo);
		if (is_near_enough(s, pages)) {
			y->step = HF_SYNC_OFF;
			hf_primary_feed(s, HF_PRIMARY_SYNCED, 0);
			return;
		}
		y->last_pages = y->left_pages;
	}
	copy_more(s);
}

/* With the answer QEMU's RESUME has come too, so the round begins with a guest known to run. */
static void on_continued(void *ctx, struct json_object *ret __attribute__((unused)),
			 const char *error_class, const char *error_desc)
{
	struct hf_primary_side *s = ctx;

	if (error_class && s->sync.step != HF_SYNC_OFF)
		hf_primary_drop_link(s, error_desc);
	else if (s->sync.step == HF_SYNC_STOPPING)
		on_scanned(s, s->sync.scanned_pages);
}

/* The guest must run again, whatever has become of the synchronisation meanwhile. */
static void let_run(struct hf_primary_side *s)
{
	if (s->is_freezing)
		return;
	if (hf_qmp_call(hf_guest_qmp(s->k->guest), "cont", NULL, on_continued, s) < 0)
		hf_primary_drop_link(s, "QEMU does not take commands");
}

static void scan(struct hf_primary_side *s)
{
	int r;

	hf_bitmap_clear_all(&s->todo);
	r = hf_tracker_collect(s->tracker, HF_TRACKER_STOPPED, &s->todo, &s->sync.scanned_pages);
	if (s->sync.was_running)
		let_run(s);
	if (r < 0)
		hf_primary_drop_link(s, strerror(-r));
	else if (!s->sync.was_running)
		on_scanned(s, s->sync.scanned_pages);
}

static void on_stopped(void *ctx, struct json_object *ret __attribute__((unused)),
		       const char *error_class, const char *error_desc)
{
	struct hf_primary_side *s = ctx;

	if (error_class) {
		if (s->sync.step != HF_SYNC_OFF)
			hf_primary_drop_link(s, error_desc);
	} else if (s->sync.step == HF_SYNC_STOPPING) {
		scan(s);
	} else {
		let_run(s);
	}
}

static void start_round(struct hf_primary_side *s)
{
	s->sync.step = HF_SYNC_STOPPING;
	s->sync.was_running = s->k->is_guest_running;
	if (!s->sync.was_running)
		scan(s);
	else if (hf_qmp_call(hf_guest_qmp(s->k->guest), "stop", NULL, on_stopped, s) < 0)
		hf_primary_drop_link(s, "QEMU does not take commands");
}

static bool are_disks_near_enough(const struct hf_disks *d)
{
	uint64_t total = atomic_load(&d->shm.words->sync_total_bytes);

	if (hf_disks_is_copied(d) && !d->sync_mark)
		return true;
	return total && (hf_disks_copy_left_bytes(d) <= DISKS_NEAR_BYTES ||
			 d->sync_bytes > DISKS_SENT_FACTOR * total + DISKS_NEAR_BYTES);
}

static void begin_disks(struct hf_primary_side *s)
{
	uint8_t kind = s->sync.disks;

	s->sync.step = HF_SYNC_DISKS;
	hf_event(&s->k->journal, "disk-sync", NULL, "%s",
		 kind == HF_WIRE_SYNC_DISKS_DELTA
			 ? "copying to the standby what its disks lack since it was last in step"
			 : "copying all that is allocated on the disks to the standby");
	hf_disks_copy_begin(s->k->disks, kind == HF_WIRE_SYNC_DISKS_DELTA, s->sync.session);
}

static void tell_disks_copied(struct hf_primary_side *s)
{
	const struct hf_disks *d = s->k->disks;
	struct json_object *details = json_object_new_object();

	json_object_object_add(details, "sent_bytes", json_object_new_uint64(d->sync_bytes));
	json_object_object_add(details, "mode",
			       json_object_new_string(d->is_delta ? "changes" : "full"));
	hf_event(&s->k->journal, "disks-synced", details,
		 "the disks are copied, %" PRIu64 " MiB were sent; what changes follows",
		 d->sync_bytes >> 20);
}

/* The disk process has a piece, or the link has taken one, or the log is written out. */
void hf_sync_disks_moved(struct hf_primary_side *s)
{
	struct hf_disks *d = s->k->disks;
	int r;

	if (!d || !s->link)
		return;
	if (s->sync.step == HF_SYNC_DRAINING && hf_disks_is_direct(d)) {
		if (s->sync.disks == HF_WIRE_SYNC_DISKS_NONE)
			start_round(s);
		else
			begin_disks(s);
	}
	if (s->sync.step != HF_SYNC_DISKS)
		return;
	r = hf_disks_copy_pump(d, s->link, HF_DISKSHM_SYNC_CHUNKS);
	if (r < 0) {
		hf_primary_drop_link(s, strerror(-r));
	} else if (are_disks_near_enough(d)) {
		tell_disks_copied(s);
		start_round(s);
	}
}

void hf_sync_begin(struct hf_primary_side *s, struct hf_id session)
{
	uint8_t disks = hf_primary_copy_kind(s);

	s->sync = (struct hf_sync){
		.total_bytes = hf_guest_ram(s->k->guest)->size_bytes,
		.started_ns = hf_now_ns(),
		.started_bytes = s->link ? hf_link_sent_bytes(s->link) : 0,
		.session = session,
		.disks = disks,
	};
	hf_bitmap_clear_all(&s->flight);
	if (!s->link)
		return;
	if (!s->k->disks) {
		start_round(s);
		return;
	}
	/* Nothing may be held any more that is not on the images: a first copy is read from there. */
	s->sync.step = HF_SYNC_DRAINING;
	hf_sync_disks_moved(s);
}

/* If the VM stands still for us at this moment, on_stopped() lets it run. */
void hf_sync_stop(struct hf_primary_side *s)
{
	s->sync.step = HF_SYNC_OFF;
	if (s->k->disks)
		hf_disks_copy_end(s->k->disks);
}

void hf_sync_link_moved(struct hf_primary_side *s)
{
	if (s->sync.step == HF_SYNC_COPYING && s->link)
		copy_more(s);
	else
		hf_sync_disks_moved(s);
}

void hf_sync_add_status(const struct hf_primary_side *s, struct json_object *status)
{
	uint64_t spent_ns = hf_now_ns() - s->sync.started_ns;
	struct json_object *y;
	uint64_t rate;

	if (s->machine.state != HF_PRIMARY_SYNCING)
		return;
	y = json_object_new_object();
	rate = spent_ns ? (uint64_t)((double)s->sync.done_bytes * 1e9 / (double)spent_ns) : 0;
	json_object_object_add(y, "round", json_object_new_uint64(s->sync.round));
	json_object_object_add(y, "total_bytes", json_object_new_uint64(s->sync.total_bytes));
	json_object_object_add(y, "done_bytes", json_object_new_uint64(s->sync.done_bytes));
	json_object_object_add(y, "left_bytes",
			       json_object_new_uint64(s->sync.left_pages * HF_TRACKER_PAGE_BYTES));
	json_object_object_add(y, "rate_bytes_per_s", json_object_new_uint64(rate));
	json_object_object_add(
		y, "remaining_ns",
		json_object_new_uint64(
			rate ? (uint64_t)((double)(s->sync.left_pages * HF_TRACKER_PAGE_BYTES) *
					  1e9 / (double)rate)
			     : 0));
	json_object_object_add(status, "sync", y);
}

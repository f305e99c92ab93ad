/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One checkpoint after the other.
 *
 * Theory of operation. `todo` is the set of pages that the standby lacks. At each standstill the
 * tracker's set is added to it, the pages are copied into the buffer of hf_pages, and the set moves
 * to `flight`. A commit clears `flight`; a lost epoch moves it back to `todo`. So each page that was
 * ever written is in one of the two, or the standby has it.
 *
 * When more was written than the buffer holds, the VM stays stopped while the buffer is sent and
 * filled again: memory stays bounded, the pause does not. The pacing tries to avoid it by looking at
 * the size of fast-growing epochs early.
 *
 * The order at a standstill is what correctness hangs on: drain the taps (all that the guest sent is
 * ours), read the written pages, copy them, mark the boundary in the taps, and only then `cont`.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "codec/json.h"
#include "keeper/primary-side.h"

/* Collecting pages early only pays while they fit beside those that come after it. */
static bool may_prescan(struct hf_primary_side *s)
{
	return hf_tracker_may_reset_running(s->tracker) && !hf_guest_has_disks(s->k->guest) &&
	       s->k->is_guest_running && hf_pace_wants_prescan(&s->pace);
}

static void take_counts(struct hf_primary_side *s)
{
	struct hf_epoch_work *w = &s->work;

	w->data_pages += hf_pages_stats(s->pages).data_pages;
	w->zero_pages += hf_pages_stats(s->pages).zero_pages;
}

static void move_to_flight(struct hf_primary_side *s)
{
	hf_bitmap_or_into(&s->flight, &s->todo);
	hf_bitmap_clear_all(&s->todo);
}

static void prescan(struct hf_primary_side *s)
{
	uint64_t cursor = 0;

	if (hf_tracker_collect(s->tracker, HF_TRACKER_RUNNING, &s->todo, NULL) < 0)
		return; /* the collect at the standstill will say so */
	s->work.early_pages = hf_pages_fill(s->pages, &s->todo, &cursor,
					    /* may_have_holes= */ false);
	if (cursor == s->todo.n_bits) {
		move_to_flight(s);
		return;
	}
	/* More than the buffer holds: all of it is copied while the guest stands still. */
	s->work.early_pages = 0;
	hf_pages_reset(s->pages);
}

static uint32_t stream_wanted(void *ctx)
{
	const struct hf_primary_side *s = ctx;

	return s->checkpoint.stream_fd >= 0 ? EPOLLIN : 0;
}

static void stream_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_primary_side *s = ctx;

	hf_checkpoint_dispatch(&s->checkpoint);
}

/* Before it is closed: the kernel would still report a descriptor that somebody else has, too. */
static void on_stream_close(void *ctx)
{
	struct hf_primary_side *s = ctx;

	hf_watch_remove(&s->stream_watch);
}

static int begin_checkpoint(struct hf_primary_side *s, struct hf_err *err)
{
	int r = hf_checkpoint_begin(&s->checkpoint, s->k->is_guest_running, err);

	if (r < 0)
		return r;
	/* Without this watch the checkpoint would never end; it only fails for lack of memory. */
	r = hf_watch_add(&s->stream_watch, &s->k->loop, s->checkpoint.stream_fd, HF_PRIORITY_VM,
			 stream_wanted, stream_ready, s);
	if (r < 0) {
		hf_err_set(err, "cannot wait for the device state: %s", strerror(-r));
		hf_checkpoint_abort(&s->checkpoint);
	}
	return r;
}

void hf_epoch_capture(struct hf_primary_side *s, uint64_t epoch, bool may_resume)
{
	struct hf_err err = { "" };

	if (s->is_freezing)
		return;
	hf_pace_epoch_ends(&s->pace);
	s->work = (struct hf_epoch_work){
		.epoch = epoch,
		.may_resume = may_resume,
		.is_first = !s->machine.committed,
		.is_guest_running = s->k->is_guest_running,
	};
	hf_pages_reset(s->pages);
	s->stop_us = 0;
	if (may_prescan(s))
		prescan(s);
	if (s->k->disks)
		hf_disks_draining(s->k->disks, true);
	s->work.begun_ns = hf_now_ns(); /* of the pause, too: QEMU stops at once */
	if (begin_checkpoint(s, &err) < 0) {
		if (s->k->disks)
			hf_disks_draining(s->k->disks, false);
		hf_log(&s->k->journal, HF_LOG_ERROR, "epoch %" PRIu64 ": %s", epoch, err.text);
		hf_primary_feed(s, HF_PRIMARY_CAPTURE_FAILED, epoch);
	}
}

static void drain_nets(struct hf_primary_side *s)
{
	struct hf_err err;

	for (size_t i = 0; i < hf_guest_net_count(s->k->guest); i++)
		if (hf_nettap_drain(hf_guest_net(s->k->guest, i), &err) < 0)
			hf_log(&s->k->journal, HF_LOG_ERROR, "netdev %s: %s",
			       hf_guest_net_id(s->k->guest, i), err.text);
	hf_keeper_prune_nets(s->k);
}

static void mark_nets(struct hf_primary_side *s)
{
	/* -ENOBUFS: those frames then belong to the next epoch, which is late but never wrong. */
	for (size_t i = 0; i < hf_guest_net_count(s->k->guest); i++)
		(void)!hf_nettap_mark(hf_guest_net(s->k->guest, i), s->work.epoch);
}

static uint64_t dirty_bytes(const struct hf_epoch_work *w)
{
	return (w->data_pages + w->zero_pages) * HF_TRACKER_PAGE_BYTES;
}

/* All pages are in the buffer (or have left it): end the standstill. */
static void end_standstill(struct hf_primary_side *s)
{
	struct hf_epoch_work *w = &s->work;
	uint64_t now_ns = hf_now_ns();

	take_counts(s);
	w->is_overflowing = false;
	if (!w->is_broken)
		mark_nets(s);
	if (w->early_pages)
		hf_pace_prescanned(&s->pace, w->early_pages,
				   w->data_pages + w->zero_pages - w->early_pages);
	hf_pace_epoch_begins(&s->pace, now_ns, now_ns - w->standstill_ns, dirty_bytes(w));
	if ((w->may_resume || w->is_broken) && w->is_guest_running)
		hf_checkpoint_resume(&s->checkpoint);
	else
		hf_checkpoint_stay(&s->checkpoint);
	/* The guest runs while this is done. */
	move_to_flight(s);
	s->dirty_pages = w->data_pages + w->zero_pages;
}

/* It stands still for something of this host: its disk fails, its lease has run out. */
static bool would_run_elsewhere(const struct hf_primary_side *s)
{
	return (s->is_stop_wanted && s->was_running_before_fault) ||
	       (s->is_fenced && s->was_running_before_fence);
}

static int begin_on_link(struct hf_primary_side *s)
{
	struct hf_wire_epoch_begin begin = {
		.epoch = s->work.epoch,
		.is_vm_running = s->work.is_guest_running || would_run_elsewhere(s),
		.is_first = s->work.is_first,
		.time_ns = s->work.begun_ns,
	};

	if (s->work.has_begun)
		return 0;
	s->work.has_begun = true;
	return hf_outbox_begin(&s->outbox, s->link, &begin);
}

static int send_pages(struct hf_primary_side *s)
{
	size_t n = hf_pages_count(s->pages);
	size_t len;
	int r = begin_on_link(s);

	for (; !r && s->work.sent_pages < n; s->work.sent_pages++) {
		uint8_t *message = hf_pages_message(s->pages, s->work.sent_pages, &len);

		r = hf_outbox_pages(&s->outbox, s->link, message, len);
	}
	return r;
}

/* The buffer is full and the VM stands still: make room by sending. */
static void overflow(struct hf_primary_side *s)
{
	s->work.is_overflowing = true;
	if (!s->work.has_overflowed)
		s->early_commits++;
	s->work.has_overflowed = true;
	/* Pieces of the disks' first copy come before the first epoch's beginning. */
	s->work.is_begin_due = s->link && !s->work.has_begun && hf_link_bulk_pending(s->link);
	if (s->work.is_begin_due)
		return;
	if (!s->link || s->machine.state == HF_PRIMARY_HOLDING || send_pages(s) < 0) {
		s->work.is_broken = true;
		end_standstill(s);
		return;
	}
	hf_link_flush(s->link);
}

static void fill(struct hf_primary_side *s)
{
	struct hf_epoch_work *w = &s->work;

	(void)hf_pages_fill(s->pages, &s->todo, &w->cursor, /* may_have_holes= */ false);
	if (w->cursor == s->todo.n_bits)
		end_standstill(s);
	else
		overflow(s);
}

static void mark_disks(struct hf_primary_side *s)
{
	if (s->k->disks)
		hf_disks_mark(s->k->disks, s->work.epoch, s->resume_us, s->stop_us, &s->gate);
	else
		hf_gate_captured(&s->gate, s->work.epoch, false, false);
	s->resume_us = 0;
}

static void on_standstill(void *ctx)
{
	struct hf_primary_side *s = ctx;
	int r;

	s->work.standstill_ns = hf_now_ns();
	mark_disks(s);
	drain_nets(s);
	r = hf_tracker_collect(s->tracker, HF_TRACKER_STOPPED, &s->todo, NULL);
	if (r < 0) {
		/* Without the set of written pages the standby's copy is worth nothing. */
		hf_log(&s->k->journal, HF_LOG_ERROR, "cannot read which pages were written: %s",
		       strerror(-r));
		s->work.is_broken = true;
		end_standstill(s);
		return;
	}
	fill(s);
}

/* Output has moved on the link. */
void hf_epoch_link_moved(struct hf_primary_side *s)
{
	if (!s->work.is_overflowing)
		return;
	if (!s->link) {
		s->work.is_broken = true;
		end_standstill(s);
	} else if (!hf_link_bulk_pending(s->link) && s->work.is_begin_due) {
		overflow(s);
	} else if (!hf_link_bulk_pending(s->link)) {
		take_counts(s);
		hf_pages_reset(s->pages);
		s->work.sent_pages = 0;
		fill(s);
	}
}

static void on_running(void *ctx)
{
	hf_epoch_reschedule(ctx);
}

static void captured(struct hf_primary_side *s)
{
	if (s->k->disks) {
		hf_disks_captured(s->k->disks, s->work.epoch);
		/* What the outputs of this epoch wait for becomes durable while it travels. */
		hf_disks_feed_gate(s->k->disks, &s->gate);
	}
	hf_primary_feed(s, HF_PRIMARY_CAPTURED, s->work.epoch);
}

/* The first epoch is complete when the disks' first copy is: what it lacks does not change any more, as
 * nothing is written to the images before this epoch is committed. */
void hf_epoch_copy_moved(struct hf_primary_side *s)
{
	struct hf_disks *d = s->k->disks;
	int r;

	if (!s->work.is_awaiting_copy)
		return;
	if (!s->link) {
		s->work.is_awaiting_copy = false;
		hf_primary_feed(s, HF_PRIMARY_CAPTURE_FAILED, s->work.epoch);
		return;
	}
	r = hf_disks_copy_pump(d, s->link, HF_DISKSHM_SYNC_CHUNKS);
	if (r < 0) {
		hf_primary_drop_link(s, strerror(-r));
	} else if (hf_disks_is_copied(d) && !hf_link_bulk_pending(s->link)) {
		s->work.is_awaiting_copy = false;
		captured(s);
	}
}

static void on_stream_end(void *ctx)
{
	struct hf_primary_side *s = ctx;

	if (s->work.is_broken) {
		hf_primary_feed(s, HF_PRIMARY_CAPTURE_FAILED, s->work.epoch);
	} else if (s->work.is_first && s->k->disks && s->k->disks->is_copying) {
		s->work.is_awaiting_copy = true;
		hf_epoch_copy_moved(s);
	} else {
		captured(s);
	}
	hf_primary_stop_for_fault(s);
	hf_freezer_role_is_quiet(s->k->freezer);
}

static void on_failed(void *ctx, const char *why)
{
	struct hf_primary_side *s = ctx;

	hf_log(&s->k->journal, HF_LOG_ERROR, "epoch %" PRIu64 ": %s", s->work.epoch, why);
	if (s->k->disks)
		hf_disks_draining(s->k->disks, false);
	s->work.is_overflowing = false;
	/* Not at once again: the pacing starts from here. */
	hf_pace_epoch_begins(&s->pace, hf_now_ns(), 0, 0);
	hf_primary_feed(s, HF_PRIMARY_CAPTURE_FAILED, s->work.epoch);
	hf_freezer_role_is_quiet(s->k->freezer);
}

static const struct hf_checkpoint_ops checkpoint_ops = {
	.on_standstill = on_standstill,
	.on_running = on_running,
	.on_stream_end = on_stream_end,
	.on_failed = on_failed,
	.on_stream_close = on_stream_close,
};

/* The standby forgets the frames of the epochs up to s->released. Those that the TAP has not taken
 * yet would be lost with this host, so they do not count. */
static void note_released(struct hf_primary_side *s)
{
	if (s->let_out > s->released && hf_keeper_has_flushed_nets(s->k))
		s->released = s->let_out;
}

static int send_frames(struct hf_primary_side *s)
{
	const uint8_t *bytes;
	const uint8_t *frame;
	struct hf_err err;
	uint64_t n;
	size_t flen;
	size_t len;
	int r = 0;

	for (size_t i = 0; !r && i < hf_guest_net_count(s->k->guest); i++) {
		size_t pos = 0;

		bytes = hf_nettap_epoch(hf_guest_net(s->k->guest, i), s->work.epoch, &len, &n);
		while (!r && (r = hf_nettap_next_frame(bytes, len, &pos, &frame, &flen, &err)) == 1)
			r = hf_outbox_frame(&s->outbox, s->link, (uint8_t)i, frame, flen);
	}
	return r;
}

void hf_epoch_send(struct hf_primary_side *s)
{
	int r = send_pages(s);

	if (!r && s->k->disks)
		r = hf_disks_send(s->k->disks, s->work.epoch, &s->outbox, s->link);
	/* An epoch is long enough for the last one's frames; else they would be kept for ever longer. */
	hf_keeper_flush_nets(s->k);
	note_released(s);
	if (!r)
		r = hf_outbox_state(&s->outbox, s->link, s->checkpoint.state,
				    s->checkpoint.state_len);
	if (!r)
		r = send_frames(s);
	if (!r)
		r = hf_outbox_end(&s->outbox, s->link, s->work.data_pages, s->work.zero_pages,
				  s->released);
	if (r < 0)
		hf_primary_drop_link(s, strerror(-r));
	else
		hf_link_flush(s->link);
	s->said_ns = hf_now_ns();
}

void hf_epoch_drop(struct hf_primary_side *s)
{
	hf_bitmap_or_into(&s->todo, &s->flight);
	hf_bitmap_clear_all(&s->flight);
	if (s->k->disks)
		hf_disks_dropped(s->k->disks);
	/* A part of an epoch that will never be ended is on the link: only a new one is in step again. */
	if (s->work.has_begun && s->link)
		hf_primary_drop_link(s, "an epoch was broken off");
}

static void disks_committed(struct hf_primary_side *s, uint64_t epoch)
{
	struct hf_disks *d = s->k->disks;

	hf_disks_committed(d, epoch);
	hf_disks_copy_end(d); /* with the first epoch, and nothing else with later ones */
	hf_disks_permit(d, s->work.begun_ns + s->k->set->peer_timeout_ns);
	hf_primary_tell_settled(s);
}

void hf_epoch_committed(struct hf_primary_side *s, uint64_t epoch)
{
	uint64_t now_ns = hf_now_ns();

	if (s->k->disks)
		disks_committed(s, epoch);
	hf_bitmap_clear_all(&s->flight);
	note_released(s);
	s->committed_ns = now_ns;
	hf_histogram_add(&s->commit, now_ns - s->work.begun_ns);
	if (hf_outbox_committed(&s->outbox, s->checkpoint.state, s->checkpoint.state_len) < 0)
		hf_outbox_reset(&s->outbox); /* the next state is sent whole */
}

void hf_epoch_qmp_event(struct hf_primary_side *s, const char *name, struct json_object *data,
			uint64_t timestamp_us)
{
	if (strcmp(name, "STOP") == 0) {
		s->stop_us = timestamp_us;
	} else if (strcmp(name, "RESUME") == 0 && s->stop_us) {
		if (s->checkpoint.step != HF_CHECKPOINT_IDLE && timestamp_us >= s->stop_us)
			hf_histogram_add(&s->pause, (timestamp_us - s->stop_us) * 1000);
		s->stop_us = 0;
	}
	if (strcmp(name, "RESUME") == 0 && !s->resume_us)
		s->resume_us = timestamp_us; /* the first of this epoch */
	hf_checkpoint_event(&s->checkpoint, name, data);
}

static void look_at_size(struct hf_primary_side *s)
{
	uint64_t half = s->pace.set.epoch_bytes / 2 / HF_TRACKER_PAGE_BYTES;
	uint64_t n = 0;

	if (hf_tracker_peek_count(s->tracker, half, &n) == 0 && n >= half) {
		s->early_commits++;
		hf_pace_over_bound(&s->pace);
	}
}

static void on_pace_timer(void *ctx)
{
	struct hf_primary_side *s = ctx;

	if (hf_primary_may_capture(&s->machine) && hf_now_ns() < hf_pace_deadline_ns(&s->pace))
		look_at_size(s);
	hf_epoch_reschedule(s);
}

/* A guest that stands still writes nothing and says nothing: one epoch after it stopped is enough. */
static bool is_idle_for_good(const struct hf_primary_side *s)
{
	return !s->k->is_guest_running && !s->work.is_guest_running && !s->pace.is_output_held &&
	       s->machine.committed;
}

void hf_epoch_reschedule(struct hf_primary_side *s)
{
	uint64_t now_ns = hf_now_ns();
	uint64_t due_ns = hf_pace_deadline_ns(&s->pace);
	uint64_t peek_ns = hf_pace_peek_ns(&s->pace, now_ns);

	if (s->is_freezing || s->is_held || !hf_primary_may_capture(&s->machine) ||
	    s->checkpoint.step != HF_CHECKPOINT_IDLE || is_idle_for_good(s) ||
	    (s->k->disks && hf_disks_is_behind(s->k->disks)))
		due_ns = peek_ns = UINT64_MAX;
	if (due_ns <= now_ns) {
		hf_timer_set(&s->pace_timer, &s->k->loop, UINT64_MAX, on_pace_timer, s);
		hf_primary_feed(s, HF_PRIMARY_EPOCH_DUE, 0);
		return;
	}
	hf_timer_set(&s->pace_timer, &s->k->loop, due_ns < peek_ns ? due_ns : peek_ns,
		     on_pace_timer, s);
}

int hf_epoch_init(struct hf_primary_side *s, struct hf_err *err)
{
	struct hf_pace_settings pace = {
		.interval_ns = s->k->set->epoch_interval_ns,
		.stop_share = s->k->set->stop_share_percent,
		.epoch_bytes = s->k->set->epoch_memory_bytes,
	};
	uint64_t pages = hf_guest_ram(s->k->guest)->size_bytes / HF_TRACKER_PAGE_BYTES;
	int r;

	hf_pace_init(&s->pace, &pace);
	hf_checkpoint_init(&s->checkpoint, hf_guest_qmp(s->k->guest), &checkpoint_ops, s);
	r = hf_bitmap_init(&s->todo, pages);
	if (!r)
		r = hf_bitmap_init(&s->flight, pages);
	if (r < 0)
		hf_err_set(err, "no memory for the sets of pages");
	return r;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby and its disks: what an acknowledgement waits for, when the link is not read, and what becomes of
 * a standby whose disks fail.
 */
#include <errno.h>
#include <inttypes.h>

#include "keeper/standby-side.h"

static const struct hf_id none;

static bool has_own_images(const struct hf_standby_side *s)
{
	return s->k->disks && !s->k->disks->is_shared;
}

static void pause_link(struct hf_standby_side *s)
{
	if (s->is_paused || !s->link)
		return;
	s->is_paused = true;
	hf_link_pause(s->link, true);
}

/* Before the first piece is written: whoever finds the images must know that they are of no time. */
void hf_standby_begin_copy(struct hf_standby_side *s, struct hf_id session)
{
	s->is_copy_durable = false;
	s->told_settled = 0;
	if (s->k->disks && s->k->disks->is_shared)
		hf_disks_begin_session(s->k->disks);
	if (!has_own_images(s))
		return;
	s->begin_order = hf_disks_set_state(s->k->disks, HF_DISK_PARTIAL, session);
	pause_link(s);
}

/* The acknowledgement is the last thing that the primary waits for, so it is what holds it back. */
static void ack_if_due(struct hf_standby_side *s)
{
	uint64_t epoch = s->ack_epoch;

	if (!epoch || s->ack_order || !hf_disks_has_room(s->k->disks))
		return;
	s->ack_epoch = 0;
	hf_standby_send(s, HF_WIRE_ACK, epoch, none);
}

void hf_standby_ack(struct hf_standby_side *s, uint64_t epoch)
{
	struct hf_disks *d = s->k->disks;

	if (!d) {
		hf_standby_send(s, HF_WIRE_ACK, epoch, none);
		return;
	}
	hf_disks_whole(d, epoch);
	s->ack_epoch = epoch;
	if (has_own_images(s) && !s->is_copy_durable)
		s->ack_order = hf_disks_flush_copy(d);
	ack_if_due(s);
}

void hf_standby_on_mark(struct hf_standby_side *s, uint64_t mark)
{
	s->mark = mark;
	s->mark_order = hf_disks_flush_copy(s->k->disks);
}

void hf_standby_forget_waits(struct hf_standby_side *s)
{
	s->ack_epoch = 0;
	s->ack_order = s->begin_order = s->mark_order = 0;
	s->is_paused = false;
}

static void tell_settled(struct hf_standby_side *s)
{
	struct hf_disks *d = s->k->disks;
	uint64_t settled = atomic_load(&d->shm.words->settled);

	if (!has_own_images(s) || settled <= s->told_settled || settled > s->machine.epoch ||
	    !s->is_copy_durable)
		return;
	s->told_settled = settled;
	hf_standby_send(s, HF_WIRE_SETTLED, settled, none);
}

static void on_notice(void *ctx)
{
	struct hf_standby_side *s = ctx;

	hf_disks_reclaim(s->k->disks);
	ack_if_due(s);
	if (s->link)
		tell_settled(s);
}

/* Of no use as a standby any more; the closed port lets the primary go on alone. Unless this may be the only
 * copy of the VM's state. */
static void give_up(struct hf_standby_side *s, const char *why)
{
	if (s->machine.state == HF_STANDBY_LOST || s->machine.state == HF_STANDBY_PROMOTING) {
		hf_log(&s->k->journal, HF_LOG_ERROR,
		       "the disks fail (%s), but this may be the only copy of the VM's state: it "
		       "is "
		       "kept",
		       why);
		return;
	}
	hf_event(&s->k->journal, "standby-unfit", NULL, "a standby without disks is none: %s", why);
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_FAILED);
}

static void on_copy_durable(struct hf_standby_side *s)
{
	struct hf_disks *d = s->k->disks;

	if (d->condition != HF_DISK_REPLICATED) {
		s->ack_order = hf_disks_set_state(d, HF_DISK_REPLICATED, s->machine.session);
		return;
	}
	d->map_session = s->machine.session;
	d->is_map_trusted = true;
	s->is_copy_durable = true;
	s->ack_order = 0;
	ack_if_due(s);
}

static void on_done(void *ctx, uint32_t number, int error, const char *text)
{
	struct hf_standby_side *s = ctx;
	struct hf_wire_msg done = { .type = HF_WIRE_SYNC_DONE, .mark = { .sync_mark = s->mark } };

	if (error) {
		give_up(s, text);
	} else if (number == s->begin_order) {
		s->begin_order = 0;
		hf_disks_begin_session(s->k->disks);
		hf_standby_read_on(s);
	} else if (number == s->mark_order) {
		s->mark_order = 0;
		hf_standby_say(s, &done);
	} else if (number == s->ack_order) {
		on_copy_durable(s);
	}
}

static void on_fault(void *ctx, bool is_well, const char *text)
{
	if (!is_well)
		give_up(ctx, text);
}

static void on_lost(void *ctx, const char *why)
{
	give_up(ctx, why);
}

static void on_restarted(void *ctx)
{
	struct hf_standby_side *s = ctx;

	if (s->begin_order || s->mark_order || s->ack_order)
		hf_standby_drop_link(s, "the disk process died with an order that was waited for");
}

static const struct hf_disks_ops disks_ops = {
	.on_notice = on_notice,
	.on_done = on_done,
	.on_fault = on_fault,
	.on_lost = on_lost,
	.on_restarted = on_restarted,
};

void hf_standby_watch_disks(struct hf_standby_side *s)
{
	struct hf_disks *d = s->k->disks;

	if (!d)
		return;
	s->machine.is_storage_shared = d->is_shared;
	hf_disks_set_ops(d, &disks_ops, s);
}

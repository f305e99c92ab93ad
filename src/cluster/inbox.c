/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 *              EPOCH_BEGIN                EPOCH_END, all matches
 *   between -----------------> arriving -------------------------> whole
 *      ^  ^                        |                                 |
 *      |  +-------- drop ----------+------------- drop --------------+
 *      +------------------------------------------------ apply ------+
 *
 * What arrives is kept beside what is committed and replaces it in one step that cannot fail: pages
 * in an area of memory in the form in which they came, the device state in the second of two
 * buffers, frames in a list. All checks are made before the epoch is called whole, because after
 * that the primary is told that it may let outputs leave.
 *
 * Disk records are handed on as they come: where they go they wait for their epoch to be committed.
 *
 * Only the pages of the first copy go to RAM at once. A session whose first epoch never becomes
 * whole leaves a RAM that is of no use, but then it also left nothing to promote.
 */
#include "cluster/inbox.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "cluster/inbox-internal.h"
#include "codec/delta.h"
#include "codec/wire-disk.h"

/* The epoch that is arriving. */
struct partial {
	struct hf_wire_epoch_begin begin;
	uint64_t pages_messages, data_pages, zero_pages, frames, lost_frames;
	uint64_t pages_bytes;
	uint64_t disk_messages, disk_records, disk_bytes;
	uint64_t state_total, state_received; /* as sent: of a delta, or of the state itself */
	uint8_t state_mode;
	size_t state_len; /* of the device state, once it is whole */
	uint64_t released;
};

enum phase { PHASE_BETWEEN, PHASE_ARRIVING, PHASE_WHOLE };

struct hf_inbox {
	struct hf_inbox_config config;
	uint64_t ram_pages;
	enum phase phase;
	bool is_first_copy; /* no epoch has begun in this session */
	bool is_broken; /* something was bad: nothing counts until it has been dropped */
	struct partial partial;
	struct hf_area pages, patch;
	struct hf_area state[2]; /* of the committed epoch, and of the one arriving */
	unsigned int committed; /* which of them */
	size_t committed_len;
	uint64_t epoch;
	bool is_vm_running;
	struct hf_frames arriving, kept;
	struct hf_inbox_stats stats;
};

static struct hf_area *next_state(struct hf_inbox *in)
{
	return &in->state[!in->committed];
}

static int open_areas(struct hf_inbox *in)
{
	size_t state_max = (size_t)in->config.state_max_bytes;
	int r = hf_area_open(&in->pages, (size_t)in->config.epoch_max_bytes);

	if (r == 0)
		r = hf_area_open(&in->patch, state_max);
	for (int i = 0; i < 2 && r == 0; i++)
		r = hf_area_open(&in->state[i], state_max);
	return r;
}

int hf_inbox_new(const struct hf_inbox_config *config, struct hf_inbox **ret, struct hf_err *err)
{
	struct hf_inbox *in = calloc(1, sizeof(*in));
	int r = -ENOMEM;

	assert(config->ram->size_bytes % HF_WIRE_PAGE_BYTES == 0);
	assert(config->state_max_bytes <= HF_WIRE_STATE_BYTES_MAX);
	assert(config->n_netdevs <= HF_WIRE_NETDEVS_MAX);
	assert(config->disks.n_disks <= HF_WIRE_DISKS_MAX);
	assert(config->disks.n_disks == 0 || (config->disks.disk_bytes && config->disks.take));
	if (in) {
		in->config = *config;
		if (in->config.state_max_bytes == 0)
			in->config.state_max_bytes = HF_WIRE_STATE_BYTES_MAX;
		if (in->config.frames_max_bytes == 0)
			in->config.frames_max_bytes = HF_INBOX_FRAMES_MAX_BYTES;
		in->ram_pages = config->ram->size_bytes / HF_WIRE_PAGE_BYTES;
		in->is_first_copy = true;
		hf_frames_init(&in->arriving);
		hf_frames_init(&in->kept);
		r = open_areas(in);
	}
	if (r < 0) {
		hf_err_set(err, "no room for an epoch of up to %" PRIu64 " bytes: %s",
			   config->epoch_max_bytes, strerror(-r));
		hf_inbox_free(in);
		return r;
	}
	*ret = in;
	return 0;
}

void hf_inbox_free(struct hf_inbox *in)
{
	if (!in)
		return;
	hf_frames_clear(&in->arriving);
	hf_frames_clear(&in->kept);
	hf_area_close(&in->pages);
	hf_area_close(&in->patch);
	hf_area_close(&in->state[0]);
	hf_area_close(&in->state[1]);
	free(in);
}

void hf_inbox_drop_partial(struct hf_inbox *in)
{
	const struct hf_inbox_disks *d = &in->config.disks;

	if (in->phase != PHASE_BETWEEN) {
		in->stats.dropped_epochs++;
		if (d->n_disks > 0 && d->drop_partial)
			d->drop_partial(d->ctx, in->partial.begin.epoch);
	}
	in->phase = PHASE_BETWEEN;
	in->is_broken = false;
	in->partial = (struct partial){ 0 };
	hf_area_reset(&in->pages);
	hf_frames_clear(&in->arriving);
}

void hf_inbox_clear(struct hf_inbox *in)
{
	hf_inbox_drop_partial(in);
	in->is_first_copy = true;
	in->epoch = 0;
	in->is_vm_running = false;
	in->committed_len = 0;
	hf_frames_clear(&in->kept);
	hf_area_release(&in->pages);
	hf_area_release(&in->patch);
	hf_area_release(&in->state[0]);
	hf_area_release(&in->state[1]);
	in->stats = (struct hf_inbox_stats){ 0 };
}

/* ---- taking messages: 0, HF_INBOX_WHOLE, -errno; -EBADMSG stands for HF_INBOX_BAD ---- */

static int out_of_order(const struct hf_inbox *in, const struct hf_wire_view *view,
			struct hf_err *err)
{
	if (in->phase == PHASE_ARRIVING)
		hf_err_set(err, "replication link: %s inside epoch %" PRIu64,
			   hf_wire_type_name(view->type), in->partial.begin.epoch);
	else
		hf_err_set(err, "replication link: %s outside of an epoch, the last is %" PRIu64,
			   hf_wire_type_name(view->type), in->epoch);
	return -EBADMSG;
}

static int too_large(const struct hf_inbox *in, const char *what, uint64_t bytes, uint64_t max,
		     struct hf_err *err)
{
	hf_err_set(err,
		   "replication link: %s of epoch %" PRIu64 " has %" PRIu64
		   " bytes or more, the limit here is %" PRIu64,
		   what, in->partial.begin.epoch, bytes, max);
	return -EBADMSG;
}

static int take_epoch_pages(struct hf_inbox *in, const struct hf_wire_view *view,
			    const struct hf_wire_pages *pages, struct hf_err *err)
{
	struct partial *p = &in->partial;

	if (!hf_inbox_pages_keep(&in->pages, view))
		return too_large(in, "the RAM", in->pages.used + hf_inbox_pages_room(view),
				 in->config.epoch_max_bytes, err);
	p->pages_messages++;
	p->pages_bytes += view->len;
	p->data_pages += pages->n_data_pages;
	p->zero_pages += pages->n_zero_pages;
	return 0;
}

static int take_pages(struct hf_inbox *in, const struct hf_wire_view *view, struct hf_err *err)
{
	struct hf_wire_pages pages;
	int r;

	if (in->phase == PHASE_BETWEEN && !in->is_first_copy)
		return out_of_order(in, view, err);
	r = hf_wire_pages_decode(view, &pages, err);
	if (r == 0)
		r = hf_wire_pages_check(&pages, in->ram_pages, err);
	if (r < 0)
		return r;
	if (in->phase == PHASE_ARRIVING)
		return take_epoch_pages(in, view, &pages, err);
	hf_inbox_pages_write(in->config.ram, &pages);
	in->stats.sync_messages++;
	in->stats.sync_data_pages += pages.n_data_pages;
	in->stats.sync_zero_pages += pages.n_zero_pages;
	return 0;
}

static int take_begin(struct hf_inbox *in, const struct hf_wire_view *view, struct hf_err *err)
{
	struct hf_wire_msg msg;
	const struct hf_wire_epoch_begin *b = &msg.epoch_begin;
	int r;

	if (in->phase == PHASE_ARRIVING)
		return out_of_order(in, view, err);
	r = hf_wire_decode(view, &msg, err);
	if (r < 0)
		return r;
	if (b->epoch <= in->epoch) {
		hf_err_set(err, "replication link: epoch %" PRIu64 " begins after epoch %" PRIu64,
			   b->epoch, in->epoch);
		return -EBADMSG;
	}
	if (!b->is_first != (in->epoch > 0)) {
		hf_err_set(err, "replication link: epoch %" PRIu64 " is %s its session's first",
			   b->epoch, b->is_first ? "not" : "not announced as");
		return -EBADMSG;
	}
	in->phase = PHASE_ARRIVING;
	in->is_first_copy = false;
	in->partial = (struct partial){ .begin = *b };
	return 0;
}

static int check_piece(const struct hf_inbox *in, const struct hf_wire_state *s, struct hf_err *err)
{
	const struct partial *p = &in->partial;

	if (s->total_bytes > in->config.state_max_bytes)
		return too_large(in, "the device state", s->total_bytes, in->config.state_max_bytes,
				 err);
	if (s->offset_bytes == p->state_received &&
	    (p->state_received == 0 ||
	     (s->total_bytes == p->state_total && s->mode == p->state_mode)))
		return 0;
	hf_err_set(
		err,
		"replication link: a piece of epoch %" PRIu64 "'s device state at %" PRIu64
		" of %" PRIu64 " does not continue the %" PRIu64 " of %" PRIu64 " bytes before it",
		p->begin.epoch, s->offset_bytes, s->total_bytes, p->state_received, p->state_total);
	return -EBADMSG;
}

static int take_state(struct hf_inbox *in, const struct hf_wire_view *view, struct hf_err *err)
{
	struct partial *p = &in->partial;
	struct hf_wire_state s;
	struct hf_area *to;
	uint8_t *at;
	int r;

	if (in->phase == PHASE_BETWEEN)
		return out_of_order(in, view, err);
	r = hf_wire_state_decode(view, &s, err);
	if (r == 0)
		r = check_piece(in, &s, err);
	if (r < 0)
		return r;
	to = s.mode == HF_WIRE_STATE_DELTA ? &in->patch : next_state(in);
	if (p->state_received == 0)
		hf_area_reset(to);
	at = hf_area_add(to, s.len);
	assert(at); /* the total has been held against the area's size */
	memcpy(at, s.data, s.len);
	p->state_received += s.len;
	p->state_total = s.total_bytes;
	p->state_mode = s.mode;
	return 0;
}

static int take_frames(struct hf_inbox *in, const struct hf_wire_view *view, struct hf_err *err)
{
	struct hf_wire_frames frames;
	int r;

	if (in->phase == PHASE_BETWEEN)
		return out_of_order(in, view, err);
	r = hf_wire_frames_decode(view, &frames, err);
	if (r < 0)
		return r;
	if (frames.netdev >= in->config.n_netdevs) {
		hf_err_set(err, "replication link: frames of netdev %u, there are %zu here",
			   frames.netdev, in->config.n_netdevs);
		return -EBADMSG;
	}
	r = hf_frames_add(&in->arriving, in->partial.begin.epoch, view, &frames);
	if (r < 0) {
		hf_err_set(err, "no memory for frames of epoch %" PRIu64, in->partial.begin.epoch);
		return r;
	}
	in->partial.frames += frames.n;
	in->partial.lost_frames += hf_frames_limit(&in->arriving, in->config.frames_max_bytes);
	return 0;
}

/* Is there anything that it could belong to? */
static int check_disk_place(const struct hf_inbox *in, const struct hf_wire_view *view,
			    struct hf_err *err)
{
	bool is_sync = view->type == HF_WIRE_DISK_SYNC;

	if (in->config.disks.n_disks == 0)
		hf_err_set(err, "replication link: %s, but this VM has no protected disks",
			   hf_wire_type_name(view->type));
	else if (is_sync && in->config.disks.is_shared)
		hf_err_set(err, "replication link: DISK_SYNC of disks that both hosts share");
	else if (is_sync ? in->epoch > 0 : in->phase != PHASE_ARRIVING)
		return out_of_order(in, view, err);
	else
		return 0;
	return -EBADMSG;
}

static int hand_on_records(struct hf_inbox *in, const struct hf_wire_view *view, uint32_t n,
			   struct hf_err *err)
{
	const struct hf_inbox_disks *d = &in->config.disks;
	bool is_sync = view->type == HF_WIRE_DISK_SYNC;
	uint64_t epoch = is_sync ? 0 : in->partial.begin.epoch;
	int r = d->take(d->ctx, epoch, is_sync, view->payload + HF_WIRE_DISK_HEAD_BYTES,
			view->len - HF_WIRE_DISK_HEAD_BYTES, n);

	if (r == 0)
		return 0;
	if (is_sync)
		hf_err_set(err, "the copy of the disks finds no room: %s", strerror(-r));
	else
		hf_err_set(err, "the disk writes of epoch %" PRIu64 " find no room: %s", epoch,
			   strerror(-r));
	return r == -ENOBUFS ? -EBADMSG : r;
}

static int take_disk(struct hf_inbox *in, const struct hf_wire_view *view, struct hf_err *err)
{
	const struct hf_inbox_disks *d = &in->config.disks;
	struct partial *p = &in->partial;
	uint32_t n = 0;
	int r = check_disk_place(in, view, err);

	if (r < 0)
		return r;
	r = hf_wire_disk_check(view->payload, view->len, d->disk_bytes, d->n_disks, &n, err);
	if (r < 0) {
		hf_err_prefix(err, "replication link: a bad %s: ", hf_wire_type_name(view->type));
		return r;
	}
	if (view->type == HF_WIRE_DISK_SYNC) {
		in->stats.sync_disk_messages++;
		in->stats.sync_disk_records += n;
		in->stats.sync_disk_bytes += view->len;
		return hand_on_records(in, view, n, err);
	}
	p->disk_messages++;
	p->disk_records += n;
	p->disk_bytes += view->len;
	if (d->epoch_max_bytes > 0 && p->disk_bytes > d->epoch_max_bytes)
		return too_large(in, "the disk", p->disk_bytes, d->epoch_max_bytes, err);
	return hand_on_records(in, view, n, err);
}

/* ---- is it whole? ---- */

static int differs(const struct hf_inbox *in, const char *what, uint64_t sent, uint64_t arrived,
		   struct hf_err *err)
{
	if (sent == arrived)
		return 0;
	hf_err_set(err,
		   "replication link: epoch %" PRIu64 " ends with %" PRIu64 " %s, but %" PRIu64
		   " have arrived",
		   in->partial.begin.epoch, sent, what, arrived);
	return -EBADMSG;
}

static int check_counts(const struct hf_inbox *in, const struct hf_wire_epoch_end *end,
			struct hf_err *err)
{
	const struct partial *p = &in->partial;
	int r = differs(in, "PAGES messages", end->pages_messages, p->pages_messages, err);

	if (r == 0)
		r = differs(in, "data pages", end->data_pages, p->data_pages, err);
	if (r == 0)
		r = differs(in, "zero pages", end->zero_pages, p->zero_pages, err);
	if (r == 0)
		r = differs(in, "frames", end->frames, p->frames, err);
	if (r == 0)
		r = differs(in, "DISK messages", end->disk_messages, p->disk_messages, err);
	return r == 0 ? differs(in, "disk records", end->disk_records, p->disk_records, err) : r;
}

static int check_end(const struct hf_inbox *in, const struct hf_wire_epoch_end *end,
		     struct hf_err *err)
{
	uint64_t epoch = in->partial.begin.epoch;

	if (end->epoch != epoch)
		hf_err_set(err, "replication link: the end of epoch %" PRIu64 " in epoch %" PRIu64,
			   end->epoch, epoch);
	else if (end->released >= epoch)
		hf_err_set(err,
			   "replication link: frames of epoch %" PRIu64
			   " are said to have left before the end of epoch %" PRIu64,
			   end->released, epoch);
	else
		return check_counts(in, end, err);
	return -EBADMSG;
}

/* The delta is against the committed state; before the first epoch that is empty. */
static int build_state(struct hf_inbox *in, struct hf_err *err)
{
	struct partial *p = &in->partial;
	int r;

	if (p->state_received == 0 || p->state_received < p->state_total) {
		hf_err_set(err,
			   "replication link: epoch %" PRIu64 " ends after %" PRIu64 " of %" PRIu64
			   " bytes of device state",
			   p->begin.epoch, p->state_received, p->state_total);
		return -EBADMSG;
	}
	p->state_len = p->state_total;
	if (p->state_mode == HF_WIRE_STATE_WHOLE)
		return 0;
	hf_area_reset(next_state(in));
	r = hf_delta_apply(in->state[in->committed].base, in->committed_len, in->patch.base,
			   p->state_total, next_state(in)->base, (size_t)in->config.state_max_bytes,
			   &p->state_len, err);
	if (r == 0)
		(void)hf_area_add(next_state(in), p->state_len);
	else
		hf_err_prefix(err, "replication link: epoch %" PRIu64 ": ", p->begin.epoch);
	return r;
}

static int check_state(const struct hf_inbox *in, const struct hf_wire_epoch_end *end,
		       struct hf_err *err)
{
	const struct partial *p = &in->partial;
	int r = differs(in, "bytes of device state", end->state_bytes, p->state_len, err);
	uint32_t crc;

	if (r < 0)
		return r;
	crc = hf_crc32c(0, in->state[!in->committed].base, p->state_len);
	if (p->state_len > 0 && crc == end->state_crc32c)
		return 0;
	hf_err_set(err,
		   "replication link: the device state of epoch %" PRIu64 " (%zu bytes) has the "
		   "checksum %08" PRIx32 ", expected is %08" PRIx32,
		   p->begin.epoch, p->state_len, crc, end->state_crc32c);
	return -EBADMSG;
}

static int take_end(struct hf_inbox *in, const struct hf_wire_view *view, uint64_t *ret_epoch,
		    struct hf_err *err)
{
	struct hf_wire_msg msg;
	int r;

	if (in->phase == PHASE_BETWEEN)
		return out_of_order(in, view, err);
	r = hf_wire_decode(view, &msg, err);
	if (r == 0)
		r = check_end(in, &msg.epoch_end, err);
	if (r == 0)
		r = build_state(in, err);
	if (r == 0)
		r = check_state(in, &msg.epoch_end, err);
	if (r < 0)
		return r;
	in->partial.released = msg.epoch_end.released;
	in->phase = PHASE_WHOLE;
	*ret_epoch = in->partial.begin.epoch;
	return HF_INBOX_WHOLE;
}

bool hf_inbox_wants(enum hf_wire_type type)
{
	return type == HF_WIRE_PAGES || type == HF_WIRE_EPOCH_BEGIN || type == HF_WIRE_STATE ||
	       type == HF_WIRE_FRAMES || type == HF_WIRE_DISK || type == HF_WIRE_DISK_SYNC ||
	       type == HF_WIRE_EPOCH_END;
}

static int take(struct hf_inbox *in, const struct hf_wire_view *view, uint64_t *ret_epoch,
		struct hf_err *err)
{
	if (view->type == HF_WIRE_PAGES)
		return take_pages(in, view, err);
	if (view->type == HF_WIRE_STATE)
		return take_state(in, view, err);
	if (view->type == HF_WIRE_FRAMES)
		return take_frames(in, view, err);
	if (view->type == HF_WIRE_DISK || view->type == HF_WIRE_DISK_SYNC)
		return take_disk(in, view, err);
	if (view->type == HF_WIRE_EPOCH_BEGIN)
		return take_begin(in, view, err);
	return take_end(in, view, ret_epoch, err);
}

int hf_inbox_take(struct hf_inbox *in, const struct hf_wire_view *view, uint64_t *ret_epoch,
		  struct hf_err *err)
{
	int r;

	assert(hf_inbox_wants(view->type));
	assert(in->phase != PHASE_WHOLE);
	if (in->is_broken) {
		hf_err_set(err, "replication link: %s after a message that was not accepted",
			   hf_wire_type_name(view->type));
		return HF_INBOX_BAD;
	}
	r = take(in, view, ret_epoch, err);
	in->is_broken = r < 0;
	return r == -EBADMSG ? HF_INBOX_BAD : r;
}

/* ---- applying ---- */

static void note_applied(struct hf_inbox *in)
{
	struct hf_inbox_stats *s = &in->stats;
	const struct partial *p = &in->partial;

	s->epochs++;
	s->data_pages += p->data_pages;
	s->zero_pages += p->zero_pages;
	s->lost_frames += p->lost_frames;
	s->disk_records += p->disk_records;
	s->disk_bytes += p->disk_bytes;
	s->last.epoch = p->begin.epoch;
	s->last.sent_ns = p->begin.time_ns;
	s->last.data_pages = p->data_pages;
	s->last.zero_pages = p->zero_pages;
	s->last.frames = p->frames;
	s->last.pages_bytes = p->pages_bytes;
	s->last.disk_messages = p->disk_messages;
	s->last.disk_records = p->disk_records;
	s->last.disk_bytes = p->disk_bytes;
	s->last.state_bytes = p->state_len;
	s->last.state_received_bytes = p->state_received;
}

static void commit_frames(struct hf_inbox *in)
{
	hf_frames_move(&in->kept, &in->arriving);
	hf_frames_drop_released(&in->kept, in->partial.released);
	in->stats.lost_frames += hf_frames_limit(&in->kept, in->config.frames_max_bytes);
}

void hf_inbox_apply(struct hf_inbox *in)
{
	assert(in->phase == PHASE_WHOLE);
	hf_inbox_pages_write_kept(in->config.ram, &in->pages);
	hf_area_recycle(&in->pages);
	in->committed = !in->committed;
	in->committed_len = in->partial.state_len;
	in->epoch = in->partial.begin.epoch;
	in->is_vm_running = in->partial.begin.is_vm_running;
	commit_frames(in);
	note_applied(in);
	in->partial = (struct partial){ 0 };
	in->phase = PHASE_BETWEEN;
}

/* ---- what is committed ---- */

uint64_t hf_inbox_epoch(const struct hf_inbox *in)
{
	return in->epoch;
}

const uint8_t *hf_inbox_state(const struct hf_inbox *in, size_t *ret_len)
{
	*ret_len = in->committed_len;
	return in->state[in->committed].base;
}

bool hf_inbox_is_vm_running(const struct hf_inbox *in)
{
	return in->is_vm_running;
}

void hf_inbox_each_frame(const struct hf_inbox *in,
			 void (*fn)(void *ctx, unsigned int netdev, const uint8_t *frame,
				    size_t len),
			 void *ctx)
{
	hf_frames_each(&in->kept, fn, ctx);
}

void hf_inbox_get_stats(const struct hf_inbox *in, struct hf_inbox_stats *ret)
{
	struct hf_inbox_stats stats = in->stats;

	stats.partial_epoch = in->partial.begin.epoch;
	stats.partial_bytes = in->partial.pages_bytes;
	stats.partial_disk_bytes = in->partial.disk_bytes;
	stats.kept_frames = in->kept.n;
	stats.kept_frame_bytes = in->kept.bytes;
	stats.held_bytes = in->pages.touched;
	*ret = stats;
}

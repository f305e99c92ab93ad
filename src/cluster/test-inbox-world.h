/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the inbox share.
 *
 * Epochs are made at random twice: as messages for the inbox, and as their effect on a model, which
 * is plain memory. Whatever happens to an epoch on its way, the inbox has to equal either the model
 * before it or the model after it.
 */
#pragma once

#include <stdbool.h>

#include "../../tests/test.h"
#include "base/crc32c.h"
#include "cluster/inbox-internal.h"
#include "cluster/inbox.h"
#include "codec/delta.h"
#include "codec/wire-disk.h"

enum {
	PAGE = HF_WIRE_PAGE_BYTES,
	N_PAGES = 96,
	STATE_MAX = 40000,
	N_MESSAGES = 64,
	N_FRAMES = 400,
	N_NETDEVS = 3,
	N_DISKS = 2,
};

static const uint64_t disk_bytes[N_DISKS] = { 1 << 20, UINT64_C(3) << 40 };

static uint64_t seed = 1;

static inline uint32_t random_below(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((seed >> 33) % n);
}

struct frame {
	uint64_t epoch;
	uint8_t netdev, fill;
	size_t len;
};

struct model {
	uint8_t ram[N_PAGES * PAGE];
	uint8_t state[STATE_MAX];
	size_t state_len;
	uint64_t epoch;
	bool is_running;
	unsigned int n_frames; /* not released */
	struct frame frame[N_FRAMES];
	uint32_t disk_crc; /* of all records of whole epochs, in order */
	uint64_t disk_records;
};

/* Where the inbox hands disk records on to. */
struct sink {
	uint32_t crc, partial_crc, sync_crc;
	uint64_t records, partial_records, sync_records;
	uint64_t partial_epoch; /* 0: nothing is there */
	uint64_t dropped_epoch;
	unsigned int n_drops;
	int result; /* what take() returns instead of taking */
};

/* One epoch on its way. */
struct script {
	unsigned int n;
	struct {
		uint8_t *bytes;
		size_t len;
	} message[N_MESSAGES];
	struct hf_wire_epoch_end end;
};

struct world {
	struct hf_ram ram;
	struct hf_inbox *in;
	struct sink sink;
	struct model model;
	struct script script;
	struct model after; /* what the script makes of the model */
};

/* ---- making epochs ---- */

static inline uint8_t *new_message(void)
{
	uint8_t *p = malloc(HF_WIRE_MESSAGE_MAX);

	CHECK(p);
	return p;
}

/* Takes over @bytes. */
static inline void add(struct script *s, uint8_t *bytes, size_t len)
{
	CHECK(s->n < N_MESSAGES);
	s->message[s->n].bytes = realloc(bytes, len);
	s->message[s->n++].len = len;
}

static inline void add_control(struct script *s, const struct hf_wire_msg *msg)
{
	uint8_t *buf = new_message();
	size_t len;

	CHECK_EQ(hf_wire_encode(msg, buf, HF_WIRE_CONTROL_BUFFER, &len, NULL), 0);
	add(s, buf, len);
}

static inline void clear_script(struct script *s)
{
	for (unsigned int i = 0; i < s->n; i++)
		free(s->message[i].bytes);
	*s = (struct script){ 0 };
}

static inline void fill_data(struct model *m, uint64_t first, uint32_t n, uint8_t *data)
{
	for (size_t i = 0; i < (size_t)n * PAGE; i++)
		data[i] = random_below(8) ? 0 : (uint8_t)random_below(256);
	memcpy(m->ram + first * PAGE, data, (size_t)n * PAGE);
}

/* Ascending runs with gaps, of data and of zeros; at least one. */
static inline void add_pages(struct world *w, uint32_t step_max, bool has_gaps)
{
	struct hf_wire_pages_builder b;
	uint8_t *buf = new_message();
	uint32_t at = has_gaps ? random_below(N_PAGES) : 0, n, taken;

	hf_wire_pages_begin(&b, buf);
	while (at < N_PAGES) {
		n = 1 + random_below(step_max < N_PAGES - at ? step_max : N_PAGES - at);
		if (random_below(2)) {
			CHECK(hf_wire_pages_add_zero(&b, at, n));
			memset(w->after.ram + (size_t)at * PAGE, 0, (size_t)n * PAGE);
			w->script.end.zero_pages += n;
		} else {
			fill_data(&w->after, at, n, hf_wire_pages_add_data(&b, at, n, &taken));
			CHECK_EQ(taken, n);
			w->script.end.data_pages += n;
		}
		at += n + (has_gaps ? random_below(20) : 0);
	}
	add(&w->script, buf, hf_wire_pages_finish(&b));
	w->script.end.pages_messages++;
}

/* Records for @disk up to its very end, of all kinds. */
static inline struct hf_wire_disk_record random_record(void)
{
	struct hf_wire_disk_record r = { .kind = (enum hf_wire_disk_kind)(1 + random_below(4)),
					 .disk = (uint8_t)random_below(N_DISKS) };

	if (r.kind == HF_WIRE_DISK_FLUSH)
		return r;
	r.length_bytes = 1 + random_below(9000);
	r.offset_bytes = disk_bytes[r.disk] - r.length_bytes - random_below(2) * random_below(500);
	r.flags = random_below(2) ? HF_WIRE_DISK_FUA : 0;
	return r;
}

static inline size_t fill_records(uint8_t *records, uint32_t n)
{
	size_t used = 0;

	while (n-- > 0) {
		struct hf_wire_disk_record r = random_record();

		if (r.kind == HF_WIRE_DISK_WRITE)
			memset(records + used + HF_WIRE_DISK_RECORD_BYTES, (int)random_below(256),
			       (size_t)r.length_bytes);
		hf_wire_disk_put_record(records + used, &r);
		used += hf_wire_disk_record_bytes(r.kind, r.length_bytes);
	}
	return used;
}

/* DISK counts for the epoch, DISK_SYNC nowhere. */
static inline void add_disk(struct world *w, enum hf_wire_type type)
{
	uint8_t *buf = new_message(), *records;
	uint32_t n = 1 + random_below(20);
	size_t used;

	records = buf + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;
	used = fill_records(records, n);
	if (type == HF_WIRE_DISK) {
		w->after.disk_crc = hf_crc32c(w->after.disk_crc, records, used);
		w->after.disk_records += n;
		w->script.end.disk_messages++;
		w->script.end.disk_records += n;
	}
	add(&w->script, buf, hf_wire_disk_finish(buf, type, n, used));
}

static inline void mutate_state(struct model *m)
{
	if (random_below(4) == 0 || m->state_len == 0) {
		size_t len = 1 + random_below(STATE_MAX);

		for (size_t i = m->state_len; i < len; i++)
			m->state[i] = (uint8_t)random_below(256);
		m->state_len = len;
	}
	for (int i = 0; i < 5; i++)
		m->state[random_below((uint32_t)m->state_len)] ^= (uint8_t)random_below(256);
}

static inline void add_state_pieces(struct world *w, uint8_t mode, const uint8_t *bytes,
				    size_t total)
{
	size_t at = 0;

	while (at < total) {
		size_t len = 1 + random_below((uint32_t)(total - at));
		struct hf_wire_state s = {
			.total_bytes = total, .offset_bytes = at, .mode = mode, .data = bytes + at
		};
		uint8_t *buf = new_message(), *unused;

		s.len = w->script.n > N_MESSAGES / 2 ? total - at : len;
		add(&w->script, buf, hf_wire_state_encode(&s, buf, &unused));
		at += s.len;
	}
}

static inline void add_state(struct world *w)
{
	static uint8_t patch[2 * STATE_MAX];
	size_t len;

	mutate_state(&w->after);
	if (random_below(3) > 0 &&
	    hf_delta_encode(w->model.state, w->model.state_len, w->after.state, w->after.state_len,
			    patch, STATE_MAX, &len) == 0)
		add_state_pieces(w, HF_WIRE_STATE_DELTA, patch, len);
	else
		add_state_pieces(w, HF_WIRE_STATE_WHOLE, w->after.state, w->after.state_len);
	w->script.end.state_bytes = w->after.state_len;
	w->script.end.state_crc32c = hf_crc32c(0, w->after.state, w->after.state_len);
}

static inline void add_frames(struct world *w, uint64_t epoch)
{
	struct hf_wire_frames_builder b;
	uint8_t *buf = new_message(), frame[300];
	uint8_t netdev = (uint8_t)random_below(N_NETDEVS);
	uint32_t n = 1 + random_below(6);

	hf_wire_frames_begin(&b, buf, netdev);
	for (uint32_t i = 0; i < n; i++) {
		struct frame *f = &w->after.frame[w->after.n_frames++];

		CHECK(w->after.n_frames < N_FRAMES);
		*f = (struct frame){ .epoch = epoch,
				     .netdev = netdev,
				     .fill = (uint8_t)random_below(256),
				     .len = 1 + random_below(sizeof(frame)) };
		memset(frame, f->fill, f->len);
		CHECK(hf_wire_frames_add(&b, frame, f->len));
	}
	w->script.end.frames += n;
	add(&w->script, buf, hf_wire_frames_finish(&b));
}

static inline void release(struct model *m, uint64_t released)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < m->n_frames; i++)
		if (m->frame[i].epoch > released)
			m->frame[n++] = m->frame[i];
	m->n_frames = n;
}

static inline void add_begin(struct world *w, uint64_t epoch)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_BEGIN };

	msg.epoch_begin.epoch = epoch;
	msg.epoch_begin.is_first = w->model.epoch == 0;
	msg.epoch_begin.is_vm_running = random_below(4) > 0;
	msg.epoch_begin.time_ns = epoch * 1000;
	w->after.is_running = msg.epoch_begin.is_vm_running;
	w->after.epoch = epoch;
	add_control(&w->script, &msg);
}

static inline void add_end(struct world *w)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_END, .epoch_end = w->script.end };

	add_control(&w->script, &msg);
}

static inline void make_epoch(struct world *w)
{
	uint64_t epoch = w->model.epoch + 1 + (random_below(5) == 0);

	clear_script(&w->script);
	w->after = w->model;
	w->script.end.epoch = epoch;
	add_begin(w, epoch);
	for (uint32_t n = random_below(4); n > 0; n--)
		add_pages(w, 1 + random_below(30), /* has_gaps= */ true);
	for (uint32_t n = random_below(3); n > 0; n--)
		add_frames(w, epoch);
	for (uint32_t n = random_below(3); n > 0; n--)
		add_disk(w, HF_WIRE_DISK);
	add_state(w);
	if (random_below(3) == 0)
		add_disk(w, HF_WIRE_DISK);
	for (uint32_t n = random_below(3); n > 0; n--)
		add_pages(w, 4, /* has_gaps= */ true);
	w->script.end.released = epoch > 3 ? epoch - 1 - random_below(3) : 0;
	release(&w->after, w->script.end.released);
	add_end(w);
}

/* ---- taking disk records ---- */

static inline int sink_take(void *ctx, uint64_t epoch, bool is_sync, const uint8_t *records,
			    size_t len, uint32_t n_records)
{
	struct sink *k = ctx;

	CHECK_EQ(epoch == 0, is_sync);
	if (k->result)
		return k->result;
	if (is_sync) {
		k->sync_crc = hf_crc32c(k->sync_crc, records, len);
		k->sync_records += n_records;
		return 0;
	}
	if (k->partial_epoch == 0)
		k->partial_crc = k->crc;
	else
		CHECK_EQ(k->partial_epoch, epoch);
	k->partial_epoch = epoch;
	k->partial_crc = hf_crc32c(k->partial_crc, records, len);
	k->partial_records += n_records;
	return 0;
}

static inline void sink_drop(void *ctx, uint64_t epoch)
{
	struct sink *k = ctx;

	CHECK(k->partial_epoch == 0 || k->partial_epoch == epoch);
	k->partial_epoch = 0;
	k->partial_records = 0;
	k->dropped_epoch = epoch;
	k->n_drops++;
}

static inline void sink_apply(struct sink *k, uint64_t epoch)
{
	if (k->partial_epoch == 0)
		return;
	CHECK_EQ(k->partial_epoch, epoch);
	k->crc = k->partial_crc;
	k->records += k->partial_records;
	k->partial_epoch = k->partial_records = 0;
}

/* ---- feeding them ---- */

static inline int feed(struct world *w, unsigned int i, uint64_t *ret_epoch, struct hf_err *err)
{
	const uint8_t *bytes = w->script.message[i].bytes;
	struct hf_wire_view view = { .type = (enum hf_wire_type)(bytes[4] | bytes[5] << 8),
				     .payload = bytes + HF_WIRE_HEADER_BYTES,
				     .len = w->script.message[i].len - HF_WIRE_HEADER_BYTES };

	CHECK(hf_inbox_wants(view.type));
	return hf_inbox_take(w->in, &view, ret_epoch, err);
}

/* All of the script; the last answer. */
static inline int feed_all(struct world *w, struct hf_err *err)
{
	uint64_t epoch = 0;
	int r = 0;

	for (unsigned int i = 0; i < w->script.n && r == 0; i++)
		r = feed(w, i, &epoch, err);
	if (r == HF_INBOX_WHOLE)
		CHECK_EQ(epoch, w->script.end.epoch);
	else
		CHECK_EQ(epoch, 0);
	return r;
}

struct frame_check {
	const struct model *model;
	unsigned int n;
};

static inline void check_frame(void *ctx, unsigned int netdev, const uint8_t *frame, size_t len)
{
	struct frame_check *c = ctx;
	const struct frame *want = &c->model->frame[c->n++];

	CHECK(c->n <= c->model->n_frames);
	CHECK_EQ(netdev, want->netdev);
	CHECK_EQ(len, want->len);
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(frame[i], want->fill);
}

static inline void check_equals_model(const struct world *w)
{
	struct frame_check c = { .model = &w->model };
	struct hf_inbox_stats stats;
	size_t len;
	const uint8_t *state = hf_inbox_state(w->in, &len);

	CHECK(memcmp(w->ram.base, w->model.ram, sizeof(w->model.ram)) == 0);
	CHECK_EQ(len, w->model.state_len);
	CHECK(len == 0 || memcmp(state, w->model.state, len) == 0);
	CHECK_EQ(hf_inbox_epoch(w->in), w->model.epoch);
	CHECK_EQ(hf_inbox_is_vm_running(w->in), w->model.is_running);
	hf_inbox_each_frame(w->in, check_frame, &c);
	CHECK_EQ(c.n, w->model.n_frames);
	CHECK_EQ(w->sink.crc, w->model.disk_crc);
	CHECK_EQ(w->sink.records, w->model.disk_records);
	hf_inbox_get_stats(w->in, &stats);
	CHECK_EQ(stats.kept_frames, w->model.n_frames);
	CHECK_EQ(stats.lost_frames, 0);
}

static inline void apply(struct world *w)
{
	hf_inbox_apply(w->in);
	sink_apply(&w->sink, w->after.epoch);
	w->model = w->after;
	check_equals_model(w);
}

/* The epoch made last does not become whole; the one before it stays. */
static inline void check_bad(struct world *w, const char *part)
{
	struct hf_err err = { "" };

	CHECK_EQ(feed_all(w, &err), HF_INBOX_BAD);
	CHECK_CONTAINS(err.text, part);
	CHECK_EQ(feed(w, 0, NULL, &err), HF_INBOX_BAD); /* it does not go on as if nothing were */
	hf_inbox_drop_partial(w->in);
	CHECK_EQ(w->sink.partial_epoch, 0);
	check_equals_model(w);
}

/* ---- a world ---- */

static inline struct world *world_with_disks(uint64_t with_seed, uint64_t epoch_max,
					     uint64_t frames_max, struct hf_inbox_disks disks)
{
	struct world *w = calloc(1, sizeof(*w));
	struct hf_inbox_config config = { .epoch_max_bytes = epoch_max,
					  .state_max_bytes = STATE_MAX,
					  .frames_max_bytes = frames_max,
					  .n_netdevs = N_NETDEVS,
					  .disks = disks };

	CHECK(w);
	seed = with_seed;
	w->ram = HF_RAM_NONE;
	CHECK_EQ(hf_ram_open("test", HF_RAM_PAGES_DEFAULT, sizeof(w->model.ram), &w->ram, NULL), 0);
	config.ram = &w->ram;
	config.disks.ctx = &w->sink;
	CHECK_EQ(hf_inbox_new(&config, &w->in, NULL), 0);
	check_equals_model(w);
	return w;
}

static inline struct hf_inbox_disks plain_disks(void)
{
	return (struct hf_inbox_disks){ .n_disks = N_DISKS,
					.disk_bytes = disk_bytes,
					.take = sink_take,
					.drop_partial = sink_drop };
}

static inline struct world *new_world(uint64_t with_seed, uint64_t epoch_max, uint64_t frames_max)
{
	return world_with_disks(with_seed, epoch_max, frames_max, plain_disks());
}

static inline struct world *plain_world(uint64_t with_seed)
{
	return new_world(with_seed, 16 << 20, 0);
}

static inline void free_world(struct world *w)
{
	clear_script(&w->script);
	hf_inbox_free(w->in);
	hf_ram_close(&w->ram);
	free(w);
}

static inline void run_epochs(struct world *w, unsigned int n)
{
	struct hf_err err = { "" };

	while (n-- > 0) {
		make_epoch(w);
		CHECK_EQ(feed_all(w, &err), HF_INBOX_WHOLE);
		CHECK_EQ(hf_inbox_epoch(w->in), w->model.epoch);
		apply(w);
	}
}

/* A copy of all of RAM outside of any epoch. */
static inline void first_copy(struct world *w)
{
	struct hf_inbox_stats stats;

	clear_script(&w->script);
	w->after = w->model;
	for (int i = 0; i < 3; i++)
		add_pages(w, 40, /* has_gaps= */ false);
	for (unsigned int i = 0; i < w->script.n; i++)
		CHECK_EQ(feed(w, i, NULL, NULL), 0);
	w->model = w->after;
	check_equals_model(w);
	hf_inbox_get_stats(w->in, &stats);
	CHECK_EQ(stats.sync_messages, 3);
	CHECK_EQ(stats.sync_data_pages, w->script.end.data_pages);
	CHECK_EQ(stats.sync_zero_pages, w->script.end.zero_pages);
	CHECK_EQ(stats.epochs, 0);
}

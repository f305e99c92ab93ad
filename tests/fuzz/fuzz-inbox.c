/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A sequence of messages for the standby's inbox. Each begins with a byte that says what: some are
 * made so that an epoch can become whole at all, others are the input's own bytes. Whatever comes,
 * what is committed changes only by hf_inbox_apply() and hf_inbox_clear().
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "cluster/inbox.h"
#include "codec/delta.h"
#include "codec/wire-bulk.h"
#include "codec/wire-disk.h"

enum { RAM_PAGES = 8, STATE_MAX = 4096, EPOCH_MAX = 256 * 1024, FRAMES_MAX = 4096 };
enum { N_DISKS = 2, DISK_EPOCH_MAX = 16 * 1024 };

static const uint64_t disk_bytes[N_DISKS] = { 65536, HF_WIRE_DISK_BYTES_MAX };

struct input {
	const uint8_t *data;
	size_t size;
};

/* What must not change by itself. */
struct committed {
	uint32_t ram, state;
	size_t state_len;
	uint64_t epoch, frames;
};

/* Who takes the disk records: must see those of one epoch at a time, and hear of its end. */
struct sink {
	uint64_t epoch, bytes, records; /* under way */
};

static struct hf_ram ram = { .fd = -1 };
static uint8_t message[HF_WIRE_MESSAGE_MAX];

struct fuzz {
	struct input in;
	struct hf_inbox *inbox;
	struct hf_wire_epoch_end end; /* of the epoch under way, if nothing was bad */
	bool has_begun; /* since the last clear */
	bool is_broken;
	struct committed committed;
	struct sink sink;
};

static uint8_t next(struct input *in)
{
	if (in->size == 0)
		return 0;
	in->size--;
	return *in->data++;
}

static size_t next_bytes(struct input *in, const uint8_t **ret, size_t n)
{
	n = n < in->size ? n : in->size;
	*ret = in->data;
	in->data += n;
	in->size -= n;
	return n;
}

static void count_frame(void *ctx, unsigned int netdev, const uint8_t *frame, size_t len)
{
	uint64_t *sum = ctx;

	FUZZ_CHECK(netdev < 2);
	*sum = *sum * 31 + hf_crc32c(netdev, frame, len);
}

static struct committed look(const struct hf_inbox *inbox)
{
	struct committed c = { .ram = hf_crc32c(0, ram.base, ram.size_bytes),
			       .epoch = hf_inbox_epoch(inbox) };
	const uint8_t *state = hf_inbox_state(inbox, &c.state_len);

	c.state = hf_crc32c(0, state, c.state_len);
	hf_inbox_each_frame(inbox, count_frame, &c.frames);
	return c;
}

static void check_unchanged(const struct fuzz *f)
{
	struct committed now = look(f->inbox);

	FUZZ_CHECK(now.ram == f->committed.ram);
	FUZZ_CHECK(now.state == f->committed.state);
	FUZZ_CHECK(now.state_len == f->committed.state_len);
	FUZZ_CHECK(now.epoch == f->committed.epoch);
	FUZZ_CHECK(now.frames == f->committed.frames);
}

static int take_records(void *ctx, uint64_t epoch, bool is_sync, const uint8_t *records, size_t len,
			uint32_t n_records)
{
	struct fuzz *f = ctx;
	struct sink *k = &f->sink;
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record r;

	while (hf_wire_disk_next(records, len, &cursor, &r, NULL) == HF_WIRE_DISK_RECORD) {
		FUZZ_CHECK(r.disk < N_DISKS && r.offset_bytes <= disk_bytes[r.disk]);
		FUZZ_CHECK(r.length_bytes <= disk_bytes[r.disk] - r.offset_bytes);
	}
	FUZZ_CHECK(cursor.offset == len && cursor.n == n_records && n_records > 0);
	if (is_sync) {
		FUZZ_CHECK(epoch == 0 && f->committed.epoch == 0);
		return 0;
	}
	FUZZ_CHECK(epoch > f->committed.epoch && (k->epoch == 0 || k->epoch == epoch));
	k->epoch = epoch;
	k->bytes += len;
	k->records += n_records;
	FUZZ_CHECK(k->bytes <= DISK_EPOCH_MAX);
	return k->records > 200 ? -ENOBUFS : 0;
}

static void drop_records(void *ctx, uint64_t epoch)
{
	struct sink *k = &((struct fuzz *)ctx)->sink;

	FUZZ_CHECK(epoch > 0 && (k->epoch == 0 || k->epoch == epoch));
	*k = (struct sink){ 0 };
}

static void apply(struct fuzz *f, uint64_t epoch)
{
	FUZZ_CHECK(f->has_begun);
	FUZZ_CHECK(epoch > f->committed.epoch);
	FUZZ_CHECK(f->sink.epoch == 0 || f->sink.epoch == epoch);
	if (next(&f->in) % 4 == 0) {
		hf_inbox_drop_partial(f->inbox);
		FUZZ_CHECK(f->sink.epoch == 0);
		check_unchanged(f);
		return;
	}
	f->sink = (struct sink){ 0 };
	hf_inbox_apply(f->inbox);
	f->committed = look(f->inbox);
	FUZZ_CHECK(f->committed.epoch == epoch);
	FUZZ_CHECK(f->committed.state_len > 0);
}

static void take(struct fuzz *f, enum hf_wire_type type, const uint8_t *payload, size_t len)
{
	struct hf_wire_view view = { .type = type, .payload = payload, .len = len };
	struct hf_err err = { "" };
	struct hf_inbox_stats stats;
	uint64_t epoch = 0;
	int r = hf_inbox_take(f->inbox, &view, &epoch, &err);

	FUZZ_CHECK(r >= 0);
	FUZZ_CHECK(!f->is_broken || r == HF_INBOX_BAD);
	FUZZ_CHECK((r == HF_INBOX_BAD) == (err.text[0] != '\0'));
	f->is_broken = r == HF_INBOX_BAD;
	if (r == 0 && type == HF_WIRE_EPOCH_BEGIN)
		f->has_begun = true;
	if (r == 0 && type == HF_WIRE_PAGES && !f->has_begun)
		f->committed = look(f->inbox); /* the first copy */
	check_unchanged(f);
	hf_inbox_get_stats(f->inbox, &stats);
	FUZZ_CHECK(stats.held_bytes <= EPOCH_MAX);
	FUZZ_CHECK(stats.kept_frame_bytes <= FRAMES_MAX);
	if (r == HF_INBOX_WHOLE)
		apply(f, epoch);
	else
		FUZZ_CHECK(epoch == 0);
}

static void take_control(struct fuzz *f, const struct hf_wire_msg *msg)
{
	size_t len;

	if (hf_wire_encode(msg, message, sizeof(message), &len, NULL) == 0)
		take(f, msg->type, message + HF_WIRE_HEADER_BYTES, len - HF_WIRE_HEADER_BYTES);
}

static void send_begin(struct fuzz *f)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_BEGIN };
	uint8_t b = next(&f->in);

	f->end = (struct hf_wire_epoch_end){ .epoch = f->committed.epoch + b % 4 };
	msg.epoch_begin.epoch = f->end.epoch;
	msg.epoch_begin.is_first = (f->committed.epoch == 0) != (b >= 240);
	msg.epoch_begin.is_vm_running = b >> 4 & 1;
	take_control(f, &msg);
}

static void send_pages(struct fuzz *f)
{
	struct hf_wire_pages_builder b;
	uint32_t at = 0, taken, n;
	uint8_t control;
	size_t len;

	hf_wire_pages_begin(&b, message);
	do {
		control = next(&f->in);
		at += control & 7;
		n = 1 + (control >> 3 & 3);
		if (control & 32) {
			(void)hf_wire_pages_add_zero(&b, at, n);
			f->end.zero_pages += n;
		} else {
			memset(hf_wire_pages_add_data(&b, at, n, &taken), next(&f->in),
			       (size_t)n * HF_WIRE_PAGE_BYTES);
			f->end.data_pages += n;
		}
		at += n;
	} while (control & 64);
	f->end.pages_messages++;
	len = hf_wire_pages_finish(&b);
	take(f, HF_WIRE_PAGES, message + HF_WIRE_HEADER_BYTES, len - HF_WIRE_HEADER_BYTES);
}

static void send_pieces(struct fuzz *f, uint8_t mode, const uint8_t *bytes, size_t total)
{
	size_t at = 0;

	while (at < total) {
		struct hf_wire_state s = {
			.total_bytes = total, .offset_bytes = at, .mode = mode, .data = bytes + at
		};
		size_t len = 1 + (size_t)next(&f->in) * 16;

		s.len = len < total - at ? len : total - at;
		len = hf_wire_state_encode(&s, message, NULL);
		take(f, HF_WIRE_STATE, message + HF_WIRE_HEADER_BYTES, len - HF_WIRE_HEADER_BYTES);
		at += s.len;
	}
}

static void send_state(struct fuzz *f)
{
	static uint8_t state[STATE_MAX], patch[STATE_MAX];
	uint8_t control = next(&f->in), fill = next(&f->in);
	size_t prev_len, len = 1 + (size_t)control * 16, patch_len;
	const uint8_t *prev = hf_inbox_state(f->inbox, &prev_len);

	memset(state, 0, sizeof(state));
	if (prev_len > 0)
		memcpy(state, prev, prev_len);
	state[fill * 16] = fill;
	f->end.state_bytes = len;
	f->end.state_crc32c = hf_crc32c(0, state, len);
	if (control % 2 &&
	    hf_delta_encode(prev, prev_len, state, len, patch, sizeof(patch), &patch_len) == 0)
		send_pieces(f, HF_WIRE_STATE_DELTA, patch, patch_len);
	else
		send_pieces(f, HF_WIRE_STATE_WHOLE, state, len);
}

static void send_frames(struct fuzz *f)
{
	struct hf_wire_frames_builder b;
	uint8_t control = next(&f->in);
	const uint8_t *frame;
	size_t len;

	hf_wire_frames_begin(&b, message, control & 3);
	do {
		len = next_bytes(&f->in, &frame, 1 + next(&f->in));
		if (len == 0)
			return;
		(void)hf_wire_frames_add(&b, frame, len);
		f->end.frames++;
	} while (next(&f->in) & 1);
	len = hf_wire_frames_finish(&b);
	take(f, HF_WIRE_FRAMES, message + HF_WIRE_HEADER_BYTES, len - HF_WIRE_HEADER_BYTES);
}

/* Lengths and offsets are small or enormous; now and then a record lies outside of its disk. */
static struct hf_wire_disk_record next_record(struct input *in)
{
	uint8_t control = next(in);
	struct hf_wire_disk_record r = { .kind = (enum hf_wire_disk_kind)(1 + (control & 3)),
					 .disk = control >> 2 & 1 };

	if (r.kind == HF_WIRE_DISK_FLUSH)
		return r;
	r.length_bytes = 1 + next(in);
	r.offset_bytes = (uint64_t)next(in) * 300;
	r.flags = control & 16 ? HF_WIRE_DISK_FUA : 0;
	if (r.kind != HF_WIRE_DISK_WRITE && control & 32)
		r.length_bytes = HF_WIRE_DISK_BYTES_MAX - r.offset_bytes;
	return r;
}

static void send_disk(struct fuzz *f)
{
	uint8_t *records = message + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;
	uint8_t control = next(&f->in);
	enum hf_wire_type type = control & 128 ? HF_WIRE_DISK_SYNC : HF_WIRE_DISK;
	uint32_t n = 1 + (control & 63);
	size_t used = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct hf_wire_disk_record r = next_record(&f->in);

		if (r.kind == HF_WIRE_DISK_WRITE)
			memset(records + used + HF_WIRE_DISK_RECORD_BYTES, control,
			       (size_t)r.length_bytes);
		hf_wire_disk_put_record(records + used, &r);
		used += hf_wire_disk_record_bytes(r.kind, r.length_bytes);
	}
	if (type == HF_WIRE_DISK) {
		f->end.disk_messages++;
		f->end.disk_records += n;
	}
	take(f, type, message + HF_WIRE_HEADER_BYTES,
	     hf_wire_disk_finish(message, type, n, used) - HF_WIRE_HEADER_BYTES);
}

static void send_end(struct fuzz *f)
{
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_END, .epoch_end = f->end };
	uint8_t b = next(&f->in);

	msg.epoch_end.released = f->end.epoch > 0 ? f->end.epoch - 1 - (b & 1) : 0;
	if (b >= 240)
		msg.epoch_end.state_crc32c ^= 1;
	take_control(f, &msg);
}

static void send_raw(struct fuzz *f)
{
	static const enum hf_wire_type types[] = { HF_WIRE_PAGES,     HF_WIRE_EPOCH_BEGIN,
						   HF_WIRE_STATE,     HF_WIRE_FRAMES,
						   HF_WIRE_EPOCH_END, HF_WIRE_DISK,
						   HF_WIRE_DISK_SYNC };
	enum hf_wire_type type = types[next(&f->in) % 7];
	const uint8_t *bytes;
	size_t n = next_bytes(&f->in, &bytes, next(&f->in));
	uint8_t *exact = malloc(n + !n); /* so that reading beyond it is noticed */

	FUZZ_CHECK(exact);
	memcpy(exact, bytes, n);
	take(f, type, exact, n);
	free(exact);
}

static void forget(struct fuzz *f)
{
	if (next(&f->in) % 4 == 0) {
		hf_inbox_clear(f->inbox);
		f->has_begun = false;
		FUZZ_CHECK(hf_inbox_epoch(f->inbox) == 0);
		f->committed.epoch = f->committed.state_len = f->committed.frames = 0;
		f->committed.state = 0;
	} else {
		hf_inbox_drop_partial(f->inbox);
	}
	FUZZ_CHECK(f->sink.epoch == 0);
	f->is_broken = false;
	check_unchanged(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const steps[])(struct fuzz * f) = { send_begin,  send_pages, send_state,
							  send_frames, send_end,   send_raw,
							  forget,      send_disk };
	struct hf_inbox_config config = { .ram = &ram,
					  .epoch_max_bytes = EPOCH_MAX,
					  .state_max_bytes = STATE_MAX,
					  .frames_max_bytes = FRAMES_MAX,
					  .n_netdevs = 2 };
	struct fuzz f = { .in = { data, size } };

	config.disks = (struct hf_inbox_disks){ .n_disks = N_DISKS,
						.disk_bytes = disk_bytes,
						.epoch_max_bytes = DISK_EPOCH_MAX,
						.take = take_records,
						.drop_partial = drop_records,
						.ctx = &f };

	if (ram.fd < 0)
		FUZZ_CHECK(hf_ram_open("fuzz", HF_RAM_PAGES_DEFAULT, RAM_PAGES * HF_WIRE_PAGE_BYTES,
				       &ram, NULL) == 0);
	memset(ram.base, 0x55, ram.size_bytes);
	FUZZ_CHECK(hf_inbox_new(&config, &f.inbox, NULL) == 0);
	f.committed = look(f.inbox);
	while (f.in.size > 0)
		steps[next(&f.in) % 8](&f);
	hf_inbox_free(f.inbox);
	return 0;
}

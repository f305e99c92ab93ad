/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disk records on their way through outbox, link and inbox: their place, their limits, their end. */
#include "cluster/test-inbox-world.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/outbox.h"
#include "sys/fd.h"

/* One message alone; what is counted for it is forgotten. */
static int feed_one(struct world *w, enum hf_wire_type type, struct hf_err *err)
{
	clear_script(&w->script);
	w->after = w->model;
	add_disk(w, type);
	return feed(w, 0, NULL, err);
}

static void begin_epoch(struct world *w)
{
	clear_script(&w->script);
	w->after = w->model;
	w->script.end.epoch = w->model.epoch + 1;
	add_begin(w, w->model.epoch + 1);
}

/* Pieces of the first copy come in any place before the first epoch is whole, and in none after. */
TEST(a_first_copy_ends_with_the_first_epoch)
{
	struct world *w = plain_world(1);
	struct hf_inbox_stats stats;
	struct hf_err err;

	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, NULL), 0);
	begin_epoch(w);
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, NULL), 0);
	hf_inbox_drop_partial(w->in);
	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, NULL), 0);
	CHECK(w->sink.sync_records >= 3);
	hf_inbox_get_stats(w->in, &stats);
	CHECK_EQ(stats.sync_disk_messages, 3);
	CHECK_EQ(stats.sync_disk_records, w->sink.sync_records);
	CHECK_EQ(stats.disk_records, 0);
	run_epochs(w, 1);
	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, &err), HF_INBOX_BAD);
	CHECK_CONTAINS(err.text, "DISK_SYNC outside of an epoch");
	hf_inbox_drop_partial(w->in);
	begin_epoch(w);
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, &err), HF_INBOX_BAD);
	CHECK_CONTAINS(err.text, "DISK_SYNC inside epoch");
	hf_inbox_clear(w->in);
	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, NULL), 0); /* another session */
	free_world(w);
}

/* They do not count as the epoch's, wherever they come. */
TEST(pieces_of_a_copy_inside_the_first_epoch)
{
	struct world *w = plain_world(2);
	struct sink before;

	begin_epoch(w);
	add_disk(w, HF_WIRE_DISK);
	add_disk(w, HF_WIRE_DISK_SYNC);
	add_disk(w, HF_WIRE_DISK);
	add_state(w);
	add_end(w);
	before = w->sink;
	CHECK_EQ(feed_all(w, NULL), HF_INBOX_WHOLE);
	CHECK(w->sink.sync_crc != before.sync_crc);
	apply(w);
	CHECK(w->sink.records > 0);
	free_world(w);
}

TEST(without_disks_all_of_it_is_refused)
{
	struct world *w = world_with_disks(3, 16 << 20, 0, (struct hf_inbox_disks){ .n_disks = 0 });
	struct hf_err err;

	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, &err), HF_INBOX_BAD);
	CHECK_CONTAINS(err.text, "DISK_SYNC, but this VM has no protected disks");
	hf_inbox_drop_partial(w->in);
	begin_epoch(w);
	add_disk(w, HF_WIRE_DISK);
	check_bad(w, "DISK, but this VM has no protected disks");
	free_world(w);
}

TEST(a_shared_disk_is_not_copied)
{
	struct hf_inbox_disks disks = plain_disks();
	struct world *w;
	struct hf_err err;

	disks.is_shared = true;
	disks.drop_partial = NULL;
	w = world_with_disks(4, 16 << 20, 0, disks);
	run_epochs(w, 3);
	hf_inbox_clear(w->in);
	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, &err), HF_INBOX_BAD);
	CHECK_CONTAINS(err.text, "that both hosts share");
	hf_inbox_drop_partial(w->in);
	free_world(w);
}

static void add_record(struct world *w, enum hf_wire_type type, struct hf_wire_disk_record record)
{
	uint8_t *buf = new_message(), *at = buf + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;
	size_t used = hf_wire_disk_record_bytes(record.kind, record.length_bytes);

	memset(at, 0, used);
	hf_wire_disk_put_record(at, &record);
	add(&w->script, buf, hf_wire_disk_finish(buf, type, 1, used));
}

TEST(records_outside_of_their_disk)
{
	static const struct {
		struct hf_wire_disk_record record;
		const char *part;
	} rows[] = {
		{ { .kind = HF_WIRE_DISK_FLUSH, .disk = N_DISKS }, "disk 2, there are 2 here" },
		{ { 1 << 20, 1, HF_WIRE_DISK_WRITE, 0, 0, NULL },
		  "disk 0, which has 1048576 bytes" },
		{ { 1, 1 << 20, HF_WIRE_DISK_ZERO, 0, 0, NULL },
		  "disk 0, which has 1048576 bytes" },
		{ { UINT64_C(3) << 40, 1, HF_WIRE_DISK_TRIM, 1, 0, NULL },
		  "bytes at 3298534883328" },
	};
	struct world *w = plain_world(5);

	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		enum hf_wire_type type = i % 2 ? HF_WIRE_DISK : HF_WIRE_DISK_SYNC;
		struct sink before = w->sink;

		clear_script(&w->script);
		if (type == HF_WIRE_DISK)
			begin_epoch(w);
		add_record(w, type, rows[i / 2].record);
		check_bad(w, rows[i / 2].part);
		CHECK_EQ(w->sink.sync_crc, before.sync_crc);
	}
	run_epochs(w, 3);
	free_world(w);
}

/* Exactly as much as is allowed passes, a byte more does not. */
TEST(disk_writes_of_an_epoch_are_limited)
{
	struct hf_wire_disk_record record = { 0, 4096, HF_WIRE_DISK_WRITE, 0, 0, NULL };
	struct hf_inbox_disks disks = plain_disks();
	struct world *w;

	disks.epoch_max_bytes =
		3 * (HF_WIRE_DISK_HEAD_BYTES + HF_WIRE_DISK_RECORD_BYTES + UINT64_C(4096)) - 1;
	w = world_with_disks(6, 16 << 20, 0, disks);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, NULL), 0); /* of no epoch */
	begin_epoch(w);
	for (int i = 0; i < 3; i++)
		add_record(w, HF_WIRE_DISK, record);
	check_bad(w, "the disk of epoch 1 has 12384 bytes or more, the limit here is 12383");
	begin_epoch(w);
	for (int i = 0; i < 2; i++)
		add_record(w, HF_WIRE_DISK, record);
	record.length_bytes = 4088;
	add_record(w, HF_WIRE_DISK, record);
	for (unsigned int i = 0; i < w->script.n; i++)
		CHECK_EQ(feed(w, i, NULL, NULL), 0);
	free_world(w);
}

TEST(who_takes_them_may_have_no_room)
{
	struct world *w = plain_world(7);
	struct hf_err err = { "" };

	w->sink.result = -ENOBUFS;
	CHECK_EQ(feed_one(w, HF_WIRE_DISK_SYNC, &err), HF_INBOX_BAD);
	CHECK_CONTAINS(err.text, "the copy of the disks finds no room");
	hf_inbox_drop_partial(w->in);
	begin_epoch(w);
	add_disk(w, HF_WIRE_DISK);
	check_bad(w, "the disk writes of epoch 1 find no room");
	w->sink.result = -ENOMEM;
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	CHECK_EQ(feed(w, 1, NULL, &err), -ENOMEM);
	hf_inbox_drop_partial(w->in);
	w->sink.result = 0;
	run_epochs(w, 3);
	free_world(w);
}

/* ---- from the outbox ---- */

struct receiver {
	struct world *w;
	unsigned int n_whole;
};

static bool receive(void *ctx, const struct hf_wire_view *view)
{
	struct receiver *rx = ctx;
	struct hf_err err = { "" };
	uint64_t epoch = 0;
	int r;

	CHECK(hf_inbox_wants(view->type));
	r = hf_inbox_take(rx->w->in, view, &epoch, &err);
	if (r == HF_INBOX_WHOLE) {
		hf_inbox_apply(rx->w->in);
		sink_apply(&rx->w->sink, epoch);
		rx->n_whole++;
	} else if (r != 0) {
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	}
	return true;
}

/* The disk messages of the script, between what every epoch has. */
static void send_epoch(struct hf_outbox *o, struct hf_link *link, struct world *w)
{
	struct hf_wire_epoch_begin begin = { .epoch = w->script.end.epoch,
					     .is_first = w->script.end.epoch == 1 };

	CHECK_EQ(hf_outbox_begin(o, link, &begin), 0);
	for (unsigned int i = 0; i < w->script.n; i++) {
		uint8_t *m = w->script.message[i].bytes;

		CHECK_EQ(hf_outbox_disk(o, link, m, w->script.message[i].len,
					m[HF_WIRE_HEADER_BYTES]), /* fewer than 256 */
			 0);
	}
	CHECK_EQ(hf_outbox_state(o, link, (const uint8_t *)"state", 5), 0);
	CHECK_EQ(hf_outbox_frame(o, link, 1, (const uint8_t *)"frame", 5), 0);
	CHECK_EQ(hf_outbox_end(o, link, 0, 0, 0), 0);
	CHECK_EQ(hf_outbox_committed(o, (const uint8_t *)"state", 5), 0);
}

static void pump(struct hf_link *from, struct hf_link *to, struct receiver *rx)
{
	struct hf_err err;

	for (unsigned int n = rx->n_whole, turn = 0; rx->n_whole == n; turn++) {
		CHECK(turn < 100000);
		hf_link_flush(from);
		CHECK_EQ(hf_link_dispatch(to, EPOLLIN, receive, rx, &err), 0);
	}
	CHECK_EQ(hf_link_bulk_pending(from), 0);
}

TEST(epochs_with_disk_writes_through_a_link)
{
	struct world *w = plain_world(8);
	struct receiver rx = { .w = w };
	struct hf_outbox out = { .base_len = 0 };
	struct hf_link *a = NULL, *b = NULL;
	struct hf_stream *ends[2] = { NULL };
	uint64_t records = 0;
	uint32_t crc = 0;
	int fds[2];

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(hf_stream_new_plain(fds[i], &ends[i]), 0);
	CHECK_EQ(hf_link_new(ends[0], &a), 0);
	CHECK_EQ(hf_link_new(ends[1], &b), 0);
	for (uint64_t epoch = 1; epoch <= 20; epoch++) {
		clear_script(&w->script);
		w->after.disk_crc = crc;
		w->script.end.epoch = epoch;
		for (uint32_t n = random_below(6); n > 0; n--)
			add_disk(w, HF_WIRE_DISK);
		records += w->script.end.disk_records;
		crc = w->after.disk_crc;
		send_epoch(&out, a, w);
		pump(a, b, &rx);
		CHECK_EQ(hf_inbox_epoch(w->in), epoch);
		CHECK_EQ(w->sink.crc, crc);
		CHECK_EQ(w->sink.records, records);
	}
	CHECK(records > 0);
	hf_outbox_fini(&out);
	hf_link_free(a);
	hf_link_free(b);
	free_world(w);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a peer might send that makes no sense. */
#include "cluster/test-inbox-world.h"

/* Each message left out, and each sent twice, of many epochs. */
TEST(one_message_missing_or_twice)
{
	for (uint64_t s = 200; s < 230; s++) {
		struct world *w = plain_world(s);
		unsigned int n;

		run_epochs(w, 2);
		make_epoch(w);
		n = w->script.n;
		for (unsigned int odd = 0; odd < 2 * n - 1; odd++) {
			int r = 0;
			uint64_t epoch;

			for (unsigned int i = 0; i < n && r == 0; i++) {
				if (odd == i)
					continue;
				r = feed(w, i, &epoch, NULL);
				if (r == 0 && odd == n + i)
					r = feed(w, i, &epoch, NULL);
			}
			CHECK_EQ(r, odd == n - 1 ? 0 : HF_INBOX_BAD);
			hf_inbox_drop_partial(w->in);
			check_equals_model(w);
		}
		free_world(w);
	}
}

TEST(epoch_inside_another)
{
	struct world *w = plain_world(1);

	run_epochs(w, 2);
	make_epoch(w);
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	check_bad(w, "EPOCH_BEGIN inside epoch");
	free_world(w);
}

TEST(messages_outside_of_an_epoch)
{
	struct world *w = plain_world(2);
	struct hf_err err;

	run_epochs(w, 1);
	w->after = w->model;
	for (int i = 0; i < 6; i++) {
		clear_script(&w->script);
		w->script.end.epoch = 9;
		if (i == 0)
			add_pages(w, 4, /* has_gaps= */ true);
		else if (i == 1)
			add_frames(w, 9);
		else if (i == 2)
			add_state_pieces(w, HF_WIRE_STATE_WHOLE, w->model.state, 10);
		else if (i == 3)
			add_disk(w, HF_WIRE_DISK);
		else if (i == 4)
			add_disk(w, HF_WIRE_DISK_SYNC);
		else
			add_end(w);
		CHECK_EQ(feed(w, 0, NULL, &err), HF_INBOX_BAD);
		CHECK_CONTAINS(err.text, "outside of an epoch");
		hf_inbox_drop_partial(w->in);
		check_equals_model(w);
	}
	free_world(w);
}

/* A first epoch that was cut ends the first copy for good: RAM may no longer change under it. */
TEST(no_first_copy_after_an_epoch_has_begun)
{
	struct world *w = plain_world(3);

	make_epoch(w);
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	hf_inbox_drop_partial(w->in);
	clear_script(&w->script);
	w->after = w->model;
	add_pages(w, 4, /* has_gaps= */ true);
	check_bad(w, "PAGES outside of an epoch");
	hf_inbox_clear(w->in);
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	w->model = w->after;
	check_equals_model(w);
	free_world(w);
}

TEST(epoch_numbers_rise)
{
	struct world *w = plain_world(4);

	run_epochs(w, 3);
	for (uint64_t back = 0; back < 2; back++) {
		clear_script(&w->script);
		add_begin(w, w->model.epoch - back);
		check_bad(w, "begins after epoch");
	}
	free_world(w);
}

TEST(first_epoch_says_so)
{
	struct world *w = plain_world(5);
	struct hf_wire_msg msg = { .type = HF_WIRE_EPOCH_BEGIN, .epoch_begin.epoch = 50 };

	add_control(&w->script, &msg);
	check_bad(w, "not announced as its session's first");
	run_epochs(w, 1);
	clear_script(&w->script);
	msg.epoch_begin.is_first = 1;
	add_control(&w->script, &msg);
	check_bad(w, "is not its session's first");
	free_world(w);
}

/* Each number in EPOCH_END, a little off. */
TEST(end_that_does_not_match)
{
	static const struct {
		size_t offset;
		const char *part;
	} rows[] = {
		{ offsetof(struct hf_wire_epoch_end, pages_messages), "PAGES messages" },
		{ offsetof(struct hf_wire_epoch_end, data_pages), "data pages" },
		{ offsetof(struct hf_wire_epoch_end, zero_pages), "zero pages" },
		{ offsetof(struct hf_wire_epoch_end, frames), "frames" },
		{ offsetof(struct hf_wire_epoch_end, disk_messages), "DISK messages" },
		{ offsetof(struct hf_wire_epoch_end, disk_records), "disk records" },
		{ offsetof(struct hf_wire_epoch_end, state_bytes), "bytes of device state" },
		{ offsetof(struct hf_wire_epoch_end, state_crc32c), "checksum" },
		{ offsetof(struct hf_wire_epoch_end, epoch), "the end of epoch" },
	};
	struct world *w = plain_world(6);

	run_epochs(w, 2);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *field;

		make_epoch(w);
		free(w->script.message[--w->script.n].bytes);
		field = (uint8_t *)&w->script.end + rows[i].offset;
		*field = (uint8_t)(*field + 1);
		add_end(w);
		check_bad(w, rows[i].part);
		run_epochs(w, 1);
	}
	free_world(w);
}

TEST(released_before_it_was_committed)
{
	struct world *w = plain_world(7);

	make_epoch(w);
	free(w->script.message[--w->script.n].bytes);
	w->script.end.released = w->script.end.epoch;
	add_end(w);
	check_bad(w, "have left before the end");
	free_world(w);
}

TEST(page_outside_of_ram)
{
	struct world *w = plain_world(8);

	for (int is_in_epoch = 0; is_in_epoch < 2; is_in_epoch++) {
		struct hf_wire_pages_builder b;
		uint8_t *buf = new_message();

		clear_script(&w->script);
		if (is_in_epoch)
			add_begin(w, w->model.epoch + 1);
		hf_wire_pages_begin(&b, buf);
		CHECK(hf_wire_pages_add_zero(&b, N_PAGES - 1, 2));
		add(&w->script, buf, hf_wire_pages_finish(&b));
		check_bad(w, "of a RAM of 96 pages");
	}
	free_world(w);
}

static void replace_state(struct world *w, uint8_t mode, uint64_t total, uint64_t offset,
			  size_t len)
{
	static uint8_t bytes[STATE_MAX + 1];
	struct hf_wire_state s = { .total_bytes = total,
				   .offset_bytes = offset,
				   .mode = mode,
				   .data = bytes,
				   .len = len };
	uint8_t *buf = new_message(), *unused;

	add(&w->script, buf, hf_wire_state_encode(&s, buf, &unused));
}

TEST(state_pieces_that_do_not_fit_together)
{
	static const struct {
		uint8_t mode;
		uint64_t total, offset;
		size_t len;
		const char *part;
	} second[] = {
		{ HF_WIRE_STATE_WHOLE, 100, 51, 10, "does not continue" },
		{ HF_WIRE_STATE_WHOLE, 100, 49, 10, "does not continue" },
		{ HF_WIRE_STATE_WHOLE, 100, 0, 50, "does not continue" },
		{ HF_WIRE_STATE_WHOLE, 101, 50, 50, "does not continue" },
		{ HF_WIRE_STATE_DELTA, 100, 50, 50, "does not continue" },
		{ HF_WIRE_STATE_WHOLE, 100, 50, 49, "ends after 99 of 100 bytes" },
	};
	struct world *w = plain_world(10);

	run_epochs(w, 2);
	for (size_t i = 0; i < sizeof(second) / sizeof(second[0]); i++) {
		clear_script(&w->script);
		w->script.end.epoch = w->model.epoch + 1;
		add_begin(w, w->model.epoch + 1);
		replace_state(w, HF_WIRE_STATE_WHOLE, 100, 0, 50);
		replace_state(w, second[i].mode, second[i].total, second[i].offset, second[i].len);
		add_end(w);
		check_bad(w, second[i].part);
	}
	free_world(w);
}

TEST(state_that_is_bad_as_a_whole)
{
	static const struct {
		uint8_t mode;
		size_t total;
		const char *part;
	} rows[] = {
		{ HF_WIRE_STATE_WHOLE, STATE_MAX + 1, "the limit here is 40000" },
		{ HF_WIRE_STATE_DELTA, STATE_MAX + 1, "the limit here is 40000" },
		{ HF_WIRE_STATE_DELTA, 7, "a state delta of only 7 bytes" },
		{ HF_WIRE_STATE_DELTA, 9, "ends inside a record" },
		{ HF_WIRE_STATE_DELTA, 8, "(0 bytes)" }, /* an empty state: nothing to promote */
		{ HF_WIRE_STATE_WHOLE, 0, "ends after 0 of 0 bytes" },
	};
	struct world *w = plain_world(11);

	run_epochs(w, 2);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		clear_script(&w->script);
		w->script.end.epoch = w->model.epoch + 1;
		add_begin(w, w->model.epoch + 1);
		if (rows[i].total > 0)
			replace_state(w, rows[i].mode, rows[i].total, 0, rows[i].total);
		add_end(w);
		check_bad(w, rows[i].part);
	}
	free_world(w);
}

TEST(frames_of_an_unknown_netdev)
{
	struct world *w = plain_world(12);
	struct hf_wire_frames_builder b;
	uint8_t *buf = new_message();

	add_begin(w, 1);
	hf_wire_frames_begin(&b, buf, N_NETDEVS);
	CHECK(hf_wire_frames_add(&b, (const uint8_t *)"x", 1));
	add(&w->script, buf, hf_wire_frames_finish(&b));
	check_bad(w, "frames of netdev 3, there are 3 here");
	free_world(w);
}

/* What was not accepted is not counted either, so the end of the epoch would match. */
TEST(nothing_counts_after_a_bad_message)
{
	struct world *w = plain_world(18);
	struct hf_wire_view odd = { .type = HF_WIRE_FRAMES,
				    .payload = (const uint8_t *)"",
				    .len = 1 };
	struct hf_err err;
	int r = 0;

	run_epochs(w, 1);
	make_epoch(w);
	for (unsigned int i = 0; i < w->script.n; i++) {
		uint64_t epoch;

		if (i == 1)
			CHECK_EQ(hf_inbox_take(w->in, &odd, &epoch, &err), HF_INBOX_BAD);
		r = feed(w, i, &epoch, &err);
		CHECK_EQ(r, i == 0 ? 0 : HF_INBOX_BAD);
	}
	CHECK_CONTAINS(err.text, "EPOCH_END after a message that was not accepted");
	hf_inbox_drop_partial(w->in);
	check_equals_model(w);
	CHECK_EQ(feed_all(w, &err), HF_INBOX_WHOLE);
	apply(w);
	free_world(w);
}

/* The last byte of each message missing: the codec's answers are passed on. */
TEST(damaged_payloads)
{
	for (uint64_t s = 300; s < 310; s++) {
		struct world *w = plain_world(s);

		run_epochs(w, 1);
		make_epoch(w);
		for (unsigned int i = 0; i < w->script.n; i++) {
			uint64_t epoch;
			int r = 0;

			w->script.message[i].len--;
			for (unsigned int k = 0; k < w->script.n && r == 0; k++)
				r = feed(w, k, &epoch, NULL);
			CHECK_EQ(r, HF_INBOX_BAD);
			hf_inbox_drop_partial(w->in);
			check_equals_model(w);
			w->script.message[i].len++;
		}
		free_world(w);
	}
}

TEST(epoch_that_is_too_large)
{
	struct world *w = new_world(13, 3 * PAGE * N_PAGES, 0);
	struct hf_inbox_stats stats;

	run_epochs(w, 1);
	clear_script(&w->script);
	w->script.end.epoch = w->model.epoch + 1;
	add_begin(w, w->model.epoch + 1);
	for (int i = 0; i < 12; i++)
		add_pages(w, 10, /* has_gaps= */ false);
	add_end(w);
	check_bad(w, "the limit here is 1179648");
	hf_inbox_get_stats(w->in, &stats);
	CHECK(stats.held_bytes <= 3 * PAGE * N_PAGES + PAGE);
	run_epochs(w, 3);
	free_world(w);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Epochs that are in order: applied, dropped, and what is kept of them. */
#include "cluster/test-inbox-world.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

TEST(epochs_equal_the_model)
{
	for (uint64_t s = 1; s <= 20; s++) {
		struct world *w = plain_world(s);

		first_copy(w);
		run_epochs(w, 30);
		free_world(w);
	}
	hf_inbox_free(NULL);
}

TEST(dropped_at_each_message)
{
	for (uint64_t s = 100; s < 110; s++) {
		struct world *w = plain_world(s);
		struct hf_inbox_stats stats;
		uint64_t epoch;

		run_epochs(w, 3);
		make_epoch(w);
		for (unsigned int cut = 0; cut <= w->script.n; cut++) {
			for (unsigned int i = 0; i < cut; i++)
				CHECK_EQ(feed(w, i, &epoch, NULL),
					 i + 1 < w->script.n ? 0 : HF_INBOX_WHOLE);
			check_equals_model(w);
			hf_inbox_drop_partial(w->in);
			hf_inbox_drop_partial(w->in);
			check_equals_model(w);
			hf_inbox_get_stats(w->in, &stats);
			CHECK_EQ(stats.dropped_epochs, cut);
			CHECK_EQ(w->sink.n_drops, cut);
			CHECK(cut == 0 || w->sink.dropped_epoch == w->script.end.epoch);
			CHECK_EQ(w->sink.partial_epoch, 0);
			CHECK_EQ(stats.partial_disk_bytes, 0);
			CHECK_EQ(stats.partial_epoch, 0);
		}
		/* The very same epoch, sent again from its beginning. */
		CHECK_EQ(feed_all(w, NULL), HF_INBOX_WHOLE);
		apply(w);
		run_epochs(w, 2);
		free_world(w);
	}
}

TEST(later_copy_of_a_page_wins)
{
	struct world *w = plain_world(9);

	for (int i = 0; i < 20; i++) {
		clear_script(&w->script);
		w->after = w->model;
		w->script.end.epoch = w->model.epoch + 1;
		add_begin(w, w->model.epoch + 1);
		for (int k = 0; k < 3; k++)
			add_pages(w, 5, /* has_gaps= */ false);
		add_state(w);
		add_end(w);
		CHECK_EQ(feed_all(w, NULL), HF_INBOX_WHOLE);
		apply(w);
	}
	free_world(w);
}

TEST(frames_over_the_limit_go_oldest_first)
{
	struct world *w = new_world(14, 16 << 20, 20000);
	struct hf_inbox_stats stats;
	uint64_t sent = 0;

	for (int i = 0; i < 10; i++) {
		clear_script(&w->script);
		w->after = w->model;
		w->script.end.epoch = w->model.epoch + 1;
		add_begin(w, w->model.epoch + 1);
		for (int k = 0; k < 10; k++)
			add_frames(w, w->model.epoch + 1);
		sent += w->script.end.frames;
		add_state(w);
		add_end(w);
		CHECK_EQ(feed_all(w, NULL), HF_INBOX_WHOLE);
		hf_inbox_apply(w->in);
		hf_inbox_get_stats(w->in, &stats);
		CHECK(stats.kept_frame_bytes <= 20000);
		CHECK_EQ(stats.kept_frames + stats.lost_frames, sent);
		/* What is left is the end of what was sent. */
		w->model = w->after;
		memmove(w->model.frame, w->model.frame + w->model.n_frames - stats.kept_frames,
			stats.kept_frames * sizeof(w->model.frame[0]));
		w->model.n_frames = (unsigned int)stats.kept_frames;
		hf_inbox_each_frame(w->in, check_frame, &(struct frame_check){ &w->model, 0 });
	}
	CHECK(stats.lost_frames > 0);
	CHECK(stats.kept_frame_bytes > 15000);
	free_world(w);
}

TEST(new_session_forgets_everything)
{
	struct world *w = plain_world(15);

	do
		run_epochs(w, 1);
	while (w->model.n_frames == 0);
	make_epoch(w);
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	hf_inbox_clear(w->in);
	CHECK_EQ(w->sink.n_drops, 1);
	CHECK_EQ(w->sink.dropped_epoch, w->script.end.epoch);
	hf_inbox_clear(w->in);
	CHECK_EQ(w->sink.n_drops, 1);
	w->model.epoch = 0;
	w->model.state_len = 0;
	w->model.n_frames = 0;
	w->model.is_running = false;
	check_equals_model(w); /* RAM stays as it was */
	first_copy(w);
	run_epochs(w, 3);
	free_world(w);
}

static uint64_t ram_blocks(const struct world *w)
{
	struct stat st;

	CHECK_EQ(fstat(w->ram.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void write_zeros(struct world *w, uint64_t first, uint32_t n)
{
	struct hf_wire_pages_builder b;
	uint8_t *buf = new_message();

	clear_script(&w->script);
	hf_wire_pages_begin(&b, buf);
	CHECK(hf_wire_pages_add_zero(&b, first, n));
	add(&w->script, buf, hf_wire_pages_finish(&b));
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	memset(w->model.ram + first * PAGE, 0, (size_t)n * PAGE);
	check_equals_model(w);
}

/* Comparing RAM with the model fills its holes, so the blocks are counted before. */
TEST(zeros_take_no_memory)
{
	struct world *w = plain_world(16);

	hf_ram_zero(&w->ram, 0, w->ram.size_bytes);
	CHECK_EQ(ram_blocks(w), 0);
	clear_script(&w->script);
	{
		struct hf_wire_pages_builder b;
		uint8_t *buf = new_message();

		hf_wire_pages_begin(&b, buf);
		CHECK(hf_wire_pages_add_zero(&b, 0, N_PAGES));
		add(&w->script, buf, hf_wire_pages_finish(&b));
	}
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	CHECK_EQ(ram_blocks(w), 0);
	/* One page of content in the middle: found, and its memory given back. */
	w->ram.base[50 * PAGE + 4095] = 1;
	CHECK_EQ(ram_blocks(w), PAGE);
	CHECK_EQ(feed(w, 0, NULL, NULL), 0);
	CHECK_EQ(ram_blocks(w), 0);
	CHECK_EQ(w->ram.base[50 * PAGE + 4095], 0);
	memset(w->ram.base, 7, w->ram.size_bytes);
	memset(w->model.ram, 7, w->ram.size_bytes);
	write_zeros(w, 3, 1);
	write_zeros(w, 2, 3);
	write_zeros(w, N_PAGES - 1, 1);
	write_zeros(w, 0, N_PAGES);
	free_world(w);
}

static size_t resident_bytes(const struct hf_area *a)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0;
	unsigned char *map = malloc(a->size / page);

	CHECK(map);
	CHECK_EQ(mincore(a->base, a->size, map), 0);
	for (size_t i = 0; i < a->size / page; i++)
		n += (map[i] & 1) * page;
	free(map);
	return n;
}

TEST(memory_of_a_large_epoch_is_given_back)
{
	enum { LARGE = 8 << 20, SMALL = 256 << 10 };
	struct hf_area a;

	CHECK_EQ(hf_area_open(&a, 16 << 20), 0);
	memset(hf_area_add(&a, LARGE), 1, LARGE);
	hf_area_recycle(&a);
	CHECK(resident_bytes(&a) >= LARGE);
	for (int i = 0; i < HF_AREA_WINDOW - 1; i++) {
		memset(hf_area_add(&a, SMALL), 1, SMALL);
		hf_area_recycle(&a);
		CHECK_EQ(a.touched, LARGE);
	}
	memset(hf_area_add(&a, SMALL), 1, SMALL);
	hf_area_recycle(&a);
	CHECK_EQ(a.touched, SMALL);
	CHECK(resident_bytes(&a) < LARGE / 2);
	CHECK(hf_area_add(&a, (16 << 20) + 1) == NULL);
	CHECK(hf_area_add(&a, 16 << 20) == a.base);
	CHECK(hf_area_add(&a, 1) == NULL);
	hf_area_release(&a);
	CHECK_EQ(resident_bytes(&a), 0);
	hf_area_close(&a);
	hf_area_close(&a);
}

TEST(statistics)
{
	struct world *w = plain_world(17);
	struct hf_inbox_stats stats;
	uint64_t data = 0, zero = 0, records = 0, epoch;

	for (int i = 0; i < 5; i++) {
		make_epoch(w);
		data += w->script.end.data_pages;
		zero += w->script.end.zero_pages;
		records += w->script.end.disk_records;
		CHECK_EQ(feed(w, 0, &epoch, NULL), 0);
		hf_inbox_get_stats(w->in, &stats);
		CHECK_EQ(stats.partial_epoch, w->script.end.epoch);
		hf_inbox_drop_partial(w->in);
		CHECK_EQ(feed_all(w, NULL), HF_INBOX_WHOLE);
		apply(w);
	}
	hf_inbox_get_stats(w->in, &stats);
	CHECK_EQ(stats.epochs, 5);
	CHECK_EQ(stats.dropped_epochs, 5);
	CHECK_EQ(stats.data_pages, data);
	CHECK_EQ(stats.zero_pages, zero);
	CHECK(records > 0);
	CHECK_EQ(stats.disk_records, records);
	CHECK(stats.disk_bytes > records * HF_WIRE_DISK_RECORD_BYTES);
	CHECK_EQ(stats.last.epoch, w->model.epoch);
	CHECK_EQ(stats.last.sent_ns, w->model.epoch * 1000);
	CHECK_EQ(stats.last.data_pages, w->script.end.data_pages);
	CHECK_EQ(stats.last.frames, w->script.end.frames);
	CHECK_EQ(stats.last.disk_messages, w->script.end.disk_messages);
	CHECK_EQ(stats.last.disk_records, w->script.end.disk_records);
	CHECK_EQ(stats.last.state_bytes, w->model.state_len);
	free_world(w);
}

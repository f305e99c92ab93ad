/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine's ways, one at a time. Many threads and sudden deaths: test-engine-crash.c. */
#include "disk/test-engine-world.h"

TEST(past_the_log_it_is_in_the_image)
{
	struct world w;

	make_world(&w);
	CHECK_EQ(w.ready.ready.condition, HF_DISK_FRESH);
	CHECK_EQ(w.ready.ready.disk[0].size_bytes, DISK_BYTES);
	write_block(&w, 3, 7);
	CHECK_EQ(read_block(&w, 3), 7);
	CHECK_EQ(image_block(&w, 3), 7);
	CHECK_EQ(hf_engine_flush(w.engine, 0), 0);
	CHECK_EQ(hf_engine_zero(w.engine, 0, BLOCK, 3 * BLOCK, true, true), 0);
	CHECK_EQ(image_block(&w, 3), 0);
	world_end(&w);
}

TEST(nothing_reaches_the_image_before_its_commit)
{
	struct world w;
	struct hf_diskshm_words *words;

	make_world(&w);
	words = w.keeper.words;
	write_block(&w, 1, 1);
	hold(&w, 1);
	write_block(&w, 1, 2);
	write_block(&w, 2, 2);
	CHECK_EQ(read_block(&w, 1), 2);
	capture(&w, 1);
	write_block(&w, 2, 3);
	AWAIT(&w, atomic_load(&words->journaled) == 1);
	CHECK_EQ(image_block(&w, 1), 1);
	CHECK_EQ(image_block(&w, 2), 0);
	commit(&w, 1);
	AWAIT(&w, atomic_load(&words->applied) == 1);
	CHECK_EQ(image_block(&w, 1), 2);
	CHECK_EQ(image_block(&w, 2), 2);
	CHECK_EQ(read_block(&w, 2), 3);
	AWAIT(&w, atomic_load(&words->settled) == 1);
	CHECK_EQ(hf_diskshm_in_use(&w.keeper, HF_DISKSHM_OUT), 1);
	drain(&w);
	CHECK_EQ(image_block(&w, 2), 3);
	CHECK_EQ(hf_diskshm_in_use(&w.keeper, HF_DISKSHM_OUT), 0);
	CHECK(atomic_load(&words->redo_ns) > 0);
	write_block(&w, 2, 4);
	CHECK_EQ(image_block(&w, 2), 4);
	world_end(&w);
}

/* The tags of chunks, as the keeper sends them. */
TEST(each_chunk_is_of_one_epoch)
{
	struct world w;
	struct hf_diskshm_view v;

	make_world(&w);
	hold(&w, 5);
	write_block(&w, 1, 1);
	write_block(&w, 2, 1);
	capture(&w, 5);
	write_block(&w, 3, 1);
	CHECK_EQ(hf_engine_flush(w.engine, 0), 0);
	CHECK(hf_diskshm_look(&w.keeper, HF_DISKSHM_OUT, 0, &v));
	CHECK_EQ(v.epoch, 5);
	CHECK_EQ(v.n_records, 2);
	CHECK(hf_diskshm_look(&w.keeper, HF_DISKSHM_OUT, 1, &v));
	CHECK_EQ(v.epoch, 6);
	CHECK_EQ(v.n_records, 2);
	CHECK_EQ(atomic_load(&w.keeper.words->flushed), 6);
	CHECK_EQ(atomic_load(&w.keeper.words->n_flush_us), 1);
	CHECK(atomic_load(&w.keeper.words->flush_us[0]) > 0);
	world_end(&w);
}

TEST(a_long_write_is_split_and_read_whole)
{
	static uint8_t out[DISK_BYTES], in[DISK_BYTES];
	struct world w;

	make_world(&w);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 31 + i / 4096);
	hold(&w, 1);
	write_block(&w, 0, 9); /* so that the pieces do not begin with a chunk */
	CHECK_EQ(hf_engine_write(w.engine, 0, out, DISK_BYTES, 0, false), 0);
	CHECK_EQ(hf_engine_read(w.engine, 0, in, DISK_BYTES, 0), 0);
	CHECK_EQ(memcmp(in, out, sizeof(in)), 0);
	drain(&w);
	memset(in, 0, sizeof(in));
	CHECK_EQ(hf_engine_read(w.engine, 0, in, DISK_BYTES, 0), 0);
	CHECK_EQ(memcmp(in, out, sizeof(in)), 0);
	world_end(&w);
}

TEST(many_pieces_and_gaps_are_put_together)
{
	static uint8_t in[DISK_BYTES];
	struct world w;

	make_world(&w);
	for (uint64_t b = 0; b < BLOCKS; b++)
		write_block(&w, b, (uint8_t)(b % 100));
	hold(&w, 1);
	for (uint64_t b = 0; b < BLOCKS; b += 2)
		write_block(&w, b, 200);
	CHECK_EQ(hf_engine_trim(w.engine, 0, BLOCK, 4 * BLOCK, false), 0);
	CHECK_EQ(hf_engine_read(w.engine, 0, in, DISK_BYTES, 0), 0);
	for (uint64_t b = 0; b < BLOCKS; b++)
		CHECK_EQ(value_of(in + b * BLOCK), b == 4 ? 0 : b % 2 ? (int)(b % 100) : 200);
	world_end(&w);
}

TEST(out_of_range_is_refused)
{
	struct world w;
	uint8_t buf[BLOCK] = { 0 };
	uint64_t len;
	bool is_hole;

	make_world(&w);
	CHECK_EQ(hf_engine_write(w.engine, 0, buf, BLOCK, DISK_BYTES, false), -EINVAL);
	CHECK_EQ(hf_engine_write(w.engine, 0, buf, BLOCK, UINT64_MAX - 4095, false), -EINVAL);
	CHECK_EQ(hf_engine_read(w.engine, 0, buf, 0, 0), -EINVAL);
	CHECK_EQ(hf_engine_read(w.engine, 1, buf, BLOCK, 0), -EINVAL);
	CHECK_EQ(hf_engine_zero(w.engine, 0, UINT64_MAX, 1, true, false), -EINVAL);
	CHECK_EQ(hf_engine_trim(w.engine, 0, DISK_BYTES + BLOCK, 0, false), -EINVAL);
	CHECK_EQ(hf_engine_flush(w.engine, 1), -EINVAL);
	CHECK_EQ(hf_engine_extent(w.engine, 0, BLOCK, BLOCK, &len, &is_hole), -EINVAL);
	world_end(&w);
}

TEST(extents_are_those_of_log_and_image_together)
{
	struct world w;
	uint64_t len;
	bool is_hole;

	make_world(&w);
	write_block(&w, 0, 1);
	hold(&w, 1);
	write_block(&w, 512, 1);
	CHECK_EQ(hf_engine_zero(w.engine, 0, BLOCK, 0, true, false), 0);
	CHECK_EQ(hf_engine_extent(w.engine, 0, 0, DISK_BYTES, &len, &is_hole), 0);
	CHECK(is_hole);
	CHECK_EQ(len, BLOCK);
	CHECK_EQ(hf_engine_extent(w.engine, 0, BLOCK, DISK_BYTES, &len, &is_hole), 0);
	CHECK(is_hole);
	CHECK_EQ(len, 511 * BLOCK);
	CHECK_EQ(hf_engine_extent(w.engine, 0, 512 * BLOCK, DISK_BYTES, &len, &is_hole), 0);
	CHECK(!is_hole);
	CHECK_EQ(len, BLOCK);
	world_end(&w);
}

/* ---- the soft limit ---- */

struct writer {
	struct world *w;
	uint64_t block;
	uint8_t value;
	_Atomic int result; /* 1: under way */
	pthread_t thread;
};

static void *write_one(void *arg)
{
	static uint8_t buf[1 << 20];
	struct writer *x = arg;

	memset(buf, x->value, sizeof(buf));
	atomic_store(&x->result,
		     hf_engine_write(x->w->engine, 0, buf, sizeof(buf), x->block * BLOCK, false));
	return NULL;
}

static void begin_write(struct writer *x, struct world *w, uint64_t block, uint8_t value)
{
	*x = (struct writer){ .w = w, .block = block, .value = value };
	atomic_store(&x->result, 1);
	CHECK_EQ(pthread_create(&x->thread, NULL, write_one, x), 0);
}

static void fill_to_soft(struct world *w)
{
	static uint8_t buf[1 << 20];

	while (hf_diskshm_in_use(&w->keeper, HF_DISKSHM_OUT) <
	       w->keeper.soft_chunks[HF_DISKSHM_OUT])
		CHECK_EQ(hf_engine_write(w->engine, 0, buf, sizeof(buf), 0, false), 0);
}

TEST(over_the_soft_limit_writers_wait_for_the_commit)
{
	struct world w;
	struct writer x;
	struct hf_diskshm_words *words;

	make_world(&w);
	words = w.keeper.words;
	hold(&w, 1);
	fill_to_soft(&w);
	CHECK(atomic_load(&words->epoch_bytes) > (7u << 20));
	begin_write(&x, &w, 256, 77);
	AWAIT(&w, atomic_load(&words->is_over_soft));
	for (int i = 0; i < 20; i++)
		nap();
	CHECK_EQ(atomic_load(&x.result), 1);
	/* QEMU stops: the write may not wait any more, it takes from the reserve. */
	atomic_store(&words->is_draining, 1);
	hf_diskshm_kick(&w.keeper);
	AWAIT(&w, atomic_load(&x.result) != 1);
	CHECK_EQ(atomic_load(&x.result), 0);
	pthread_join(x.thread, NULL);
	capture(&w, 1);
	atomic_store(&words->is_draining, 0);
	AWAIT(&w, atomic_load(&words->epoch_bytes) == 0);
	begin_write(&x, &w, 256, 78);
	commit(&w, 1);
	AWAIT(&w, atomic_load(&x.result) == 0);
	pthread_join(x.thread, NULL);
	AWAIT(&w, !atomic_load(&words->is_over_soft));
	AWAIT(&w, atomic_load(&words->applied) == 1);
	CHECK_EQ(image_block(&w, 256), 77);
	CHECK_EQ(read_block(&w, 256), 78);
	world_end(&w);
}

TEST(with_the_reserve_full_a_write_fails_and_can_be_sent_again)
{
	static uint8_t buf[1 << 20];
	struct world w;
	int r = 0, n = 0;

	make_world(&w);
	hold(&w, 1);
	atomic_store(&w.keeper.words->is_draining, 1);
	for (; r == 0; n++)
		r = hf_engine_write(w.engine, 0, buf, sizeof(buf), 0, false);
	CHECK_EQ(r, -ENOSPC);
	CHECK(n >= 15); /* soft and reserve */
	capture(&w, 1);
	commit(&w, 1);
	AWAIT(&w, atomic_load(&w.keeper.words->applied) == 1);
	CHECK_EQ(hf_engine_write(w.engine, 0, buf, sizeof(buf), 0, false), 0);
	world_end(&w);
}

/* A boundary that is wrong would let what is being logged count as committed. */
TEST(numbers_that_are_used_up_are_refused)
{
	struct world w;
	uint8_t buf[BLOCK] = { 0 };

	make_world(&w);
	hold(&w, 3);
	write_block(&w, 1, 1);
	drain(&w);
	hold(&w, 3);
	CHECK_EQ(hf_engine_write(w.engine, 0, buf, BLOCK, 0, false), -EPROTO);
	put(&w, &w.keeper.words->open_epoch, 4);
	CHECK_EQ(hf_engine_write(w.engine, 0, buf, BLOCK, 0, false), 0);
	world_end(&w);
}

/* ---- conditions ---- */

TEST(the_condition_is_recorded_and_told)
{
	struct world w;

	make_world(&w);
	CHECK_EQ(set_state(&w, HF_DISK_REPLICATED, 5), -EINVAL); /* an owner's is not */
	stop(&w);
	world_memory(&w, 8 << 20, 8 << 20);
	start(&w);
	CHECK_EQ(w.ready.ready.condition, HF_DISK_OWNED);
	hold(&w, 1);
	CHECK_EQ(set_state(&w, HF_DISK_HELD, 7), 0);
	stop(&w);
	world_memory(&w, 8 << 20, 8 << 20);
	start(&w);
	CHECK_EQ(w.ready.ready.condition, HF_DISK_HELD);
	CHECK_EQ(w.ready.ready.session.lo, 7);
	hold(&w, 1);
	CHECK_EQ(set_state(&w, HF_DISK_HELD, 8), 0);
	drain(&w);
	stop(&w);
	start(&w); /* a successor says the same */
	CHECK_EQ(w.ready.ready.condition, HF_DISK_OWNED);
	world_end(&w);
}

TEST(an_owner_redoes_its_journal)
{
	struct world w;

	make_world(&w);
	hold(&w, 1);
	CHECK_EQ(set_state(&w, HF_DISK_HELD, 7), 0);
	for (uint64_t epoch = 1; epoch <= 3; epoch++) {
		write_block(&w, 1, (uint8_t)epoch);
		write_block(&w, 10 + epoch, (uint8_t)epoch);
		capture(&w, epoch);
	}
	write_block(&w, 1, 99); /* of no whole epoch: lost with the host */
	put(&w, &w.keeper.words->urgent, 3);
	AWAIT(&w, atomic_load(&w.keeper.words->journaled) == 3);
	stop(&w);
	CHECK_EQ(image_block(&w, 1), 0);
	world_memory(&w, 8 << 20, 8 << 20); /* the host's memory is gone */
	start(&w);
	CHECK_EQ(w.ready.ready.recovered_epochs, 3);
	CHECK_EQ(read_block(&w, 1), 3);
	CHECK_EQ(read_block(&w, 11), 1);
	CHECK_EQ(read_block(&w, 13), 3);
	stop(&w);
	world_memory(&w, 8 << 20, 8 << 20);
	start(&w);
	CHECK_EQ(w.ready.ready.recovered_epochs, 0);
	world_end(&w);
}

/* ---- a successor on the same memory ---- */

TEST(a_successor_goes_on_in_every_mode)
{
	struct world w;
	struct hf_diskshm_words *words;

	make_world(&w);
	words = w.keeper.words;
	write_block(&w, 1, 1);
	stop(&w);
	start(&w);
	hold(&w, 1);
	write_block(&w, 1, 2);
	stop(&w);
	CHECK_EQ(image_block(&w, 1), 1);
	start(&w);
	CHECK_EQ(read_block(&w, 1), 2);
	write_block(&w, 2, 2);
	CHECK_EQ(hf_diskshm_in_use(&w.keeper, HF_DISKSHM_OUT), 1); /* in the same chunk */
	capture(&w, 1);
	write_block(&w, 2, 3);
	AWAIT(&w, atomic_load(&words->journaled) == 1);
	stop(&w);
	start(&w);
	CHECK_EQ(read_block(&w, 1), 2);
	commit(&w, 1);
	AWAIT(&w, atomic_load(&words->applied) == 1);
	stop(&w);
	start(&w);
	CHECK_EQ(image_block(&w, 2), 2);
	CHECK_EQ(read_block(&w, 2), 3);
	atomic_store(&words->mode, HF_DISKSHM_DRAIN);
	stop(&w);
	start(&w);
	AWAIT(&w, atomic_load(&words->state) == HF_DISKSHM_DIRECT);
	CHECK_EQ(image_block(&w, 2), 3);
	hold(&w, 3);
	write_block(&w, 2, 4);
	CHECK_EQ(image_block(&w, 2), 3);
	world_end(&w);
}

TEST(damaged_memory_is_refused)
{
	struct world w;
	struct hf_engine *e;
	struct hf_err err = { "" };

	make_world(&w);
	hold(&w, 1);
	write_block(&w, 1, 1);
	stop(&w);
	w.keeper.chunks[HF_DISKSHM_OUT][HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES + 16] = 99;
	CHECK_EQ(try_engine(&w, -1, &e, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "kind 99");
	atomic_store(&w.keeper.words->applied, 77);
	CHECK(try_engine(&w, -1, &e, &err) < 0);
	atomic_store(&w.keeper.words->state, 77);
	CHECK_EQ(try_engine(&w, -1, &e, &err), -EINVAL);
	world_end(&w);
}

/* ---- standbys ---- */

TEST(a_replica_is_filled_and_follows)
{
	struct world w;
	struct hf_diskshm_words *words;
	uint8_t buf[BLOCK] = { 0 };

	make_world_of(&w, 1, HF_DISKSHM_REPLICA);
	words = w.keeper.words;
	CHECK_EQ(hf_engine_write(w.engine, 0, buf, BLOCK, 0, false), -EROFS);
	CHECK_EQ(set_state(&w, HF_DISK_PARTIAL, 9), 0);
	for (uint64_t b = 0; b < 600; b++)
		receive(&w, 0, b % BLOCKS, (uint8_t)(b % 50));
	receive(&w, 10, 5, 60); /* comes with its session's first epoch, before the copy is whole */
	receive(&w, 0, 5, 55);
	CHECK_EQ(order(&w, (struct hf_diskctl_msg){ .type = HF_DISKCTL_FLUSH_SYNC }), 0);
	CHECK_EQ(image_block(&w, 5), 55);
	CHECK_EQ(image_block(&w, 599), 599 % 50);
	atomic_store(&words->captured, 10);
	commit(&w, 10);
	CHECK_EQ(set_state(&w, HF_DISK_REPLICATED, 9), 0);
	AWAIT(&w, atomic_load(&words->settled) == 10);
	CHECK_EQ(image_block(&w, 5), 60);
	hf_diskshm_reclaim(&w.keeper);
	CHECK_EQ(hf_diskshm_in_use(&w.keeper, HF_DISKSHM_IN), 0);
	CHECK_EQ(hf_diskshm_in_use(&w.keeper, HF_DISKSHM_COPY), 0);
	/* A partial epoch never counts. */
	receive(&w, 11, 5, 61);
	hf_diskshm_drop_epoch(&w.keeper, 11);
	receive(&w, 11, 6, 62);
	atomic_store(&words->captured, 11);
	commit(&w, 11);
	AWAIT(&w, atomic_load(&words->applied) == 11);
	CHECK_EQ(image_block(&w, 5), 60);
	CHECK_EQ(image_block(&w, 6), 62);
	world_end(&w);
}

static void promote(struct world *w, uint64_t epoch)
{
	struct hf_diskshm_words *words = w->keeper.words;

	atomic_store(&words->open_epoch, epoch + 1);
	atomic_store(&words->mode, HF_DISKSHM_DRAIN);
	atomic_store(&words->role, HF_DISKSHM_OWNER);
	hf_diskshm_kick(&w->keeper);
}

TEST(a_promoted_replica_reads_what_it_was_given)
{
	struct world w;
	struct hf_diskshm_words *words;

	make_world_of(&w, 1, HF_DISKSHM_REPLICA);
	words = w.keeper.words;
	CHECK_EQ(set_state(&w, HF_DISK_PARTIAL, 9), 0);
	CHECK_EQ(order(&w, (struct hf_diskctl_msg){ .type = HF_DISKCTL_FLUSH_SYNC }), 0);
	CHECK_EQ(set_state(&w, HF_DISK_REPLICATED, 9), 0);
	for (uint64_t epoch = 1; epoch <= 12; epoch++) {
		for (uint64_t b = 0; b < 20; b++)
			receive(&w, epoch, b, (uint8_t)(epoch + b));
	}
	receive(&w, 13, 3, 99); /* partial */
	hf_diskshm_drop_epoch(&w.keeper, 13);
	atomic_store(&words->captured, 12);
	atomic_store(&words->committed, 12);
	promote(&w, 12);
	for (uint64_t b = 0; b < 20; b++)
		CHECK_EQ(read_block(&w, b), (int)(12 + b));
	write_block(&w, 3, 111); /* waits for the drain */
	CHECK_EQ(atomic_load(&words->state), HF_DISKSHM_DIRECT);
	CHECK_EQ(image_block(&w, 3), 111);
	CHECK_EQ(image_block(&w, 4), 16);
	stop(&w);
	w.is_standby = false;
	world_memory(&w, 8 << 20, 8 << 20);
	start(&w);
	CHECK_EQ(w.ready.ready.condition, HF_DISK_OWNED);
	/* What the old owner's copy lacks: that write, and what it had not said to be settled. */
	CHECK_EQ(w.ready.ready.map_session.lo, 9);
	CHECK(w.ready.ready.is_map_trusted);
	world_end(&w);
}

TEST(a_watcher_keeps_and_a_promoted_one_writes)
{
	struct world w;
	struct hf_diskshm_words *words;

	make_world_of(&w, 1, HF_DISKSHM_WATCHER);
	words = w.keeper.words;
	for (uint64_t epoch = 1; epoch <= 4; epoch++) {
		receive(&w, epoch, 1, (uint8_t)epoch);
		receive(&w, epoch, 1 + epoch, (uint8_t)epoch);
	}
	atomic_store(&words->captured, 4);
	commit(&w, 4);
	put(&w, &words->peer_settled, 2);
	AWAIT(&w, atomic_load(&words->settled) == 2);
	CHECK_EQ(image_block(&w, 1), 0);
	CHECK_EQ(atomic_load(&words->in_done), 0);
	hf_diskshm_free_oldest(&w.keeper, HF_DISKSHM_IN);
	hf_diskshm_free_oldest(&w.keeper, HF_DISKSHM_IN);
	promote(&w, 4);
	CHECK_EQ(read_block(&w, 1), 4);
	AWAIT(&w, atomic_load(&words->state) == HF_DISKSHM_DIRECT);
	CHECK_EQ(image_block(&w, 1), 4);
	CHECK_EQ(image_block(&w, 3), 0); /* the old owner's, settled */
	CHECK_EQ(image_block(&w, 5), 4);
	world_end(&w);
}

TEST(a_standbys_copy_is_left_alone_until_the_vm_uses_it)
{
	struct world w;

	make_world_of(&w, 1, HF_DISKSHM_REPLICA);
	CHECK_EQ(set_state(&w, HF_DISK_PARTIAL, 9), 0);
	CHECK_EQ(set_state(&w, HF_DISK_REPLICATED, 9), 0);
	receive(&w, 1, 1, 5);
	atomic_store(&w.keeper.words->captured, 1);
	commit(&w, 1);
	AWAIT(&w, atomic_load(&w.keeper.words->journaled) == 1);
	stop(&w);
	w.is_standby = false;
	for (int i = 0; i < 2; i++) {
		world_memory(&w, 8 << 20, 8 << 20);
		start(&w);
		CHECK_EQ(w.ready.ready.condition, HF_DISK_REPLICATED);
		stop(&w);
	}
	start(&w);
	CHECK_EQ(read_block(&w, 1), 5);
	write_block(&w, 1, 6);
	stop(&w);
	world_memory(&w, 8 << 20, 8 << 20);
	start(&w);
	CHECK_EQ(w.ready.ready.condition, HF_DISK_OWNED);
	world_end(&w);
}

/* ---- permission ---- */

static void check_lease_counts(struct world *w)
{
	struct hf_diskshm_words *words = w->keeper.words;
	int before = image_block(w, 3);
	struct writer x;

	put(w, &words->lease_ns, 1); /* long over */
	begin_write(&x, w, 3, 7);
	for (int i = 0; i < 30; i++)
		nap();
	CHECK_EQ(atomic_load(&x.result), 1);
	CHECK_EQ(image_block(w, 3), before);
	put(w, &words->lease_ns, UINT64_MAX);
	pthread_join(x.thread, NULL);
	CHECK_EQ(image_block(w, 3), 7);
}

TEST(an_owner_writes_only_under_its_lease)
{
	struct world w;

	make_world_of(&w, 1, HF_DISKSHM_OWNER);
	AWAIT(&w, atomic_load(&w.keeper.words->state) == HF_DISKSHM_DIRECT);
	check_lease_counts(&w);
	world_end(&w);
}

TEST(no_image_write_begins_without_permission)
{
	struct world w;
	struct hf_diskshm_words *words;
	struct writer x;

	make_world_of(&w, 1, HF_DISKSHM_WATCHER);
	words = w.keeper.words;
	promote(&w, 0);
	AWAIT(&w, atomic_load(&words->state) == HF_DISKSHM_DIRECT);
	check_lease_counts(&w);
	put(&w, &words->permit_ns, 1); /* long over */
	begin_write(&x, &w, 0, 1);
	for (int i = 0; i < 30; i++)
		nap();
	CHECK_EQ(atomic_load(&x.result), 1);
	CHECK_EQ(image_block(&w, 0), 0);
	put(&w, &words->permit_ns, UINT64_MAX);
	pthread_join(x.thread, NULL);
	CHECK_EQ(image_block(&w, 0), 1);
	hold(&w, 1);
	put(&w, &words->permit_ns, 1);
	write_block(&w, 0, 2);
	capture(&w, 1);
	commit(&w, 1);
	AWAIT(&w, atomic_load(&words->journaled) == 1);
	for (int i = 0; i < 30; i++)
		nap();
	CHECK_EQ(atomic_load(&words->applied), 0);
	CHECK_EQ(image_block(&w, 0), 1);
	put(&w, &words->permit_ns, UINT64_MAX);
	AWAIT(&w, atomic_load(&words->applied) == 1);
	CHECK_EQ(image_block(&w, 0), 2);
	world_end(&w);
}

/* Both hosts die, the second one just after it was promoted, on a shared image: the old owner's journal does not
 * have all that the new one may already have begun to write. */
TEST(a_promoted_watchers_journal_counts_before_it_writes)
{
	struct world w;
	struct hf_diskshm_words *words;

	world_files(&w, 1, "/tmp");
	world_memory(&w, (uint64_t)8 << 20, (uint64_t)8 << 20);
	w.is_shared = true;
	start(&w);
	hold(&w, 1);
	write_block(&w, 0, 1);
	capture(&w, 1);
	put(&w, &w.keeper.words->urgent, 1);
	AWAIT(&w, atomic_load(&w.keeper.words->journaled) == 1);
	stop(&w);
	world_memory(&w, (uint64_t)8 << 20, (uint64_t)8 << 20);
	w.is_standby = true;
	words = w.keeper.words;
	atomic_store(&words->role, HF_DISKSHM_WATCHER);
	start(&w);
	receive(&w, 1, 0, 1);
	receive(&w, 2, 0, 2);
	receive(&w, 2, 1, 2);
	atomic_store(&words->captured, 2);
	commit(&w, 2);
	put(&w, &words->permit_ns, 1); /* nothing is written yet */
	promote(&w, 2);
	AWAIT(&w, atomic_load(&words->journaled) == 2);
	stop(&w);
	world_memory(&w, (uint64_t)8 << 20, (uint64_t)8 << 20);
	w.is_standby = false;
	start(&w);
	CHECK_EQ(w.ready.ready.recovered_epochs, 2);
	CHECK_EQ(set_state(&w, HF_DISK_OWNED, 0), 0);
	CHECK_EQ(image_block(&w, 0), 2);
	CHECK_EQ(image_block(&w, 1), 2);
	world_end(&w);
}

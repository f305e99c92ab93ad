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
	CHECK_EQ(atomic_load(&w.keeper.words->prev_flushed), 0);
	CHECK(atomic_load(&w.keeper.words->first_flush_us) > 0);
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

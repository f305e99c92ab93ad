/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The epoch's pages against an oracle: what was laid out is sealed and read back as a standby
 * would, each page asked for has to be there once, with its content, and none else.
 */
#include "vm/pages.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../../tests/test.h"

#define PAGE HF_WIRE_PAGE_BYTES

struct rig {
	struct hf_ram ram;
	struct hf_pool *pool;
	struct hf_pages *pages;
	struct hf_bitmap todo;
	uint8_t *seen; /* for each page: how often it came */
	uint8_t *buf;
};

static uint64_t rng_state;

static uint64_t rng(void)
{
	uint64_t z = (rng_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void setup(struct rig *r, uint64_t n_pages, unsigned int n_threads, size_t n_slots)
{
	struct hf_err err;

	*r = (struct rig){ .ram = HF_RAM_NONE };
	CHECK_EQ(hf_ram_open("test-pages", HF_RAM_PAGES_DEFAULT, n_pages * PAGE, &r->ram, &err), 0);
	CHECK_EQ(hf_pool_new(n_threads, &r->pool), 0);
	CHECK_EQ(hf_pages_new(&r->ram, r->pool, n_slots * HF_PAGES_SLOT_BYTES + 1, &r->pages), 0);
	CHECK_EQ(hf_bitmap_init(&r->todo, n_pages), 0);
	r->seen = calloc(n_pages, 1);
	r->buf = malloc(HF_WIRE_MESSAGE_MAX);
	CHECK(r->seen && r->buf);
}

static void teardown(struct rig *r)
{
	hf_pages_free(r->pages);
	hf_pool_free(r->pool);
	hf_bitmap_fini(&r->todo);
	hf_ram_close(&r->ram);
	free(r->seen);
	free(r->buf);
}

static void fill_page(struct rig *r, uint64_t page)
{
	uint64_t *word = (uint64_t *)(void *)(r->ram.base + page * PAGE);

	for (size_t i = 0; i < PAGE / sizeof(*word); i++)
		word[i] = rng();
}

/* A page that looks zero for long: one byte decides. */
static void mark_page(struct rig *r, uint64_t page, size_t offset)
{
	memset(r->ram.base + page * PAGE, 0, PAGE);
	r->ram.base[page * PAGE + offset] = 1;
}

static uint64_t blocks(const struct rig *r)
{
	struct stat st;

	CHECK_EQ(fstat(r->ram.fd, &st), 0);
	return (uint64_t)st.st_blocks;
}

static void check_run(struct rig *r, const struct hf_wire_run *run)
{
	static const uint8_t zeros[PAGE];

	for (uint64_t i = 0; i < run->n_pages; i++) {
		uint64_t page = run->first_page + i;
		const uint8_t *sent = run->is_zero ? zeros : run->data + i * PAGE;

		CHECK(hf_bitmap_test(&r->todo, page));
		CHECK_EQ(r->seen[page], 0);
		r->seen[page] = run->is_zero ? 2 : 1;
		/* A hole must not be read here either: it would not be one any more. */
		if (!run->is_zero) {
			CHECK(memcmp(sent, r->ram.base + page * PAGE, PAGE) == 0);
			CHECK(memcmp(sent, zeros, PAGE) != 0);
		}
	}
}

static void check_message(struct rig *r, uint8_t *message, size_t len, struct hf_pages_stats *sum)
{
	struct hf_wire_pages_cursor at = { 0 };
	struct hf_wire_reader reader;
	struct hf_wire_pages pages;
	struct hf_wire_view view;
	struct hf_wire_run run;
	struct hf_err err;
	uint8_t *to;
	size_t n, done = 0;

	CHECK_EQ((uintptr_t)message % PAGE, 4032);
	CHECK_EQ(hf_wire_seal(message), len);
	hf_wire_reader_init(&reader, r->buf, HF_WIRE_MESSAGE_MAX);
	while (done < len) {
		CHECK_EQ(hf_wire_reader_next(&reader, &view, &err), HF_WIRE_NEED_MORE);
		hf_wire_reader_space(&reader, &to, &n);
		n = n < len - done ? n : len - done;
		memcpy(to, message + done, n);
		hf_wire_reader_commit(&reader, n);
		done += n;
	}
	CHECK_EQ(hf_wire_reader_next(&reader, &view, &err), HF_WIRE_MESSAGE);
	CHECK_EQ(hf_wire_pages_decode(&view, &pages, &err), 0);
	CHECK_EQ(hf_wire_pages_check(&pages, r->ram.size_bytes / PAGE, &err), 0);
	while (hf_wire_pages_next(&pages, &at, &run))
		check_run(r, &run);
	sum->data_pages += pages.n_data_pages;
	sum->zero_pages += pages.n_zero_pages;
}

/* All messages there are; the numbers have to agree with what the object says of itself. */
static void check_messages(struct rig *r)
{
	struct hf_pages_stats sum = { 0 }, said = hf_pages_stats(r->pages);
	uint64_t bytes = 0;

	for (size_t i = 0; i < hf_pages_count(r->pages); i++) {
		size_t len;
		uint8_t *message = hf_pages_message(r->pages, i, &len);

		check_message(r, message, len, &sum);
		bytes += len;
	}
	CHECK_EQ(said.data_pages, sum.data_pages);
	CHECK_EQ(said.zero_pages, sum.zero_pages);
	CHECK_EQ(hf_pages_bytes(r->pages), bytes);
}

/* Was each page before @cursor taken, as data if and only if it is not zero? */
static void check_seen(struct rig *r, uint64_t cursor)
{
	static const uint8_t zeros[PAGE];

	for (uint64_t page = 0; page < r->todo.n_bits; page++) {
		bool is_zero = memcmp(r->ram.base + page * PAGE, zeros, PAGE) == 0;
		int want = page < cursor && hf_bitmap_test(&r->todo, page) ? 1 + is_zero : 0;

		CHECK_EQ(r->seen[page], want);
	}
}

/* Fills, checks and resets until all is done. Returns the number of fills. */
static unsigned int run_through(struct rig *r, bool may_have_holes)
{
	uint64_t cursor = 0, n, total = 0;
	unsigned int n_fills = 0;

	do {
		uint64_t before = cursor;

		n = hf_pages_fill(r->pages, &r->todo, &cursor, may_have_holes);
		CHECK(n > 0 || cursor == r->todo.n_bits);
		CHECK(cursor >= before);
		CHECK(hf_pages_count(r->pages) <= hf_pages_capacity(r->pages));
		check_messages(r);
		hf_pages_reset(r->pages);
		CHECK_EQ(hf_pages_count(r->pages), 0);
		total += n;
		n_fills++;
	} while (cursor < r->todo.n_bits);
	CHECK_EQ(total, hf_bitmap_count(&r->todo));
	return n_fills;
}

TEST(too_little_memory)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_pages *pages = NULL;

	CHECK_EQ(hf_pages_new(&ram, NULL, HF_PAGES_SLOT_BYTES - 1, &pages), -EINVAL);
	CHECK_EQ(hf_pages_new(&ram, NULL, UINT64_MAX, &pages), -EINVAL);
	CHECK(!pages);
	hf_pages_free(NULL);
}

TEST(nothing_to_do)
{
	uint64_t cursor = 0;
	struct rig r;

	setup(&r, 1000, 2, 4);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 0);
	CHECK_EQ(cursor, 1000);
	CHECK_EQ(hf_pages_count(r.pages), 0);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, true), 0);
	CHECK_EQ(cursor, 1000);
	teardown(&r);
}

TEST(one_page_at_each_end)
{
	uint64_t cursor = 0;
	struct rig r;

	setup(&r, 1000, 2, 4);
	fill_page(&r, 0);
	mark_page(&r, 999, PAGE - 1);
	hf_bitmap_set_range(&r.todo, 0, 1);
	hf_bitmap_set_range(&r.todo, 999, 1);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 2);
	CHECK_EQ(hf_pages_count(r.pages), 1);
	check_messages(&r);
	check_seen(&r, cursor);
	teardown(&r);
}

/* Single pages at the borders of what is searched at once. */
TEST(lonely_pages)
{
	static const uint64_t lonely[] = { 63, 4096, 8191, 12287, 12352, 16384 };

	for (size_t i = 0; i < sizeof(lonely) / sizeof(lonely[0]); i++) {
		uint64_t cursor = 0;
		struct rig r;

		setup(&r, 16385, 2, 2);
		fill_page(&r, lonely[i]);
		hf_bitmap_set_range(&r.todo, lonely[i], 1);
		CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, i % 2), 1);
		CHECK_EQ(cursor, 16385);
		check_messages(&r);
		CHECK_EQ(r.seen[lonely[i]], 1);
		teardown(&r);
	}
}

/* Runs longer than a message, a claim and a window of the bitmap. */
TEST(long_run)
{
	for (unsigned int threads = 1; threads <= 3; threads += 2) {
		uint64_t cursor = 0;
		struct rig r;

		setup(&r, 9001, threads, 60);
		for (uint64_t page = 0; page < 9001; page++)
			fill_page(&r, page);
		hf_bitmap_set_range(&r.todo, 3, 8990);
		CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 8990);
		CHECK_EQ(cursor, 9001);
		CHECK_EQ(hf_pages_stats(r.pages).data_pages, 8990);
		/* All full, but for the last one of each thread. */
		CHECK(hf_pages_count(r.pages) >= (8990 + 254) / 255);
		CHECK(hf_pages_count(r.pages) <= 8990 / 255 + threads);
		check_messages(&r);
		check_seen(&r, cursor);
		teardown(&r);
	}
}

/* Every other page, zero or not in turn: the most runs there can be. */
TEST(many_runs)
{
	for (unsigned int threads = 1; threads <= 3; threads += 2) {
		uint64_t cursor = 0;
		struct rig r;

		setup(&r, 8000, threads, 40);
		for (uint64_t page = 0; page < 8000; page += 2) {
			hf_bitmap_set_range(&r.todo, page, 1);
			if (page % 4 == 0)
				mark_page(&r, page, page % PAGE);
		}
		CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 4000);
		CHECK_EQ(hf_pages_stats(r.pages).data_pages, 2000);
		CHECK_EQ(hf_pages_stats(r.pages).zero_pages, 2000);
		CHECK(hf_pages_count(r.pages) <= 2000 / 255 + threads);
		check_messages(&r);
		check_seen(&r, cursor);
		teardown(&r);
	}
}

TEST(zero_pages_need_no_room)
{
	uint64_t cursor = 0;
	struct rig r;
	size_t len;

	setup(&r, 20000, 1, 1);
	memset(r.ram.base, 0, r.ram.size_bytes);
	hf_bitmap_set_range(&r.todo, 0, 20000);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 20000);
	CHECK_EQ(hf_pages_count(r.pages), 1);
	(void)hf_pages_message(r.pages, 0, &len);
	CHECK_EQ(len, HF_WIRE_HEADER_BYTES + 32 + 16); /* a single run */
	check_messages(&r);
	check_seen(&r, cursor);
	teardown(&r);
}

/* The byte that makes a page not zero may be any of them. */
TEST(zero_check_sees_every_byte)
{
	uint64_t cursor = 0;
	struct rig r;

	setup(&r, PAGE + 1, 2, 30);
	for (uint64_t page = 0; page < PAGE; page++)
		mark_page(&r, page, page);
	hf_bitmap_set_range(&r.todo, 0, PAGE + 1);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), PAGE + 1);
	CHECK_EQ(hf_pages_stats(r.pages).data_pages, PAGE);
	CHECK_EQ(hf_pages_stats(r.pages).zero_pages, 1);
	check_messages(&r);
	check_seen(&r, cursor);
	teardown(&r);
}

static void check_holes(unsigned int threads)
{
	uint64_t before, cursor = 0;
	struct rig r;

	setup(&r, 32768, threads, 8);
	for (uint64_t page = 5000; page < 5300; page++)
		fill_page(&r, page);
	memset(r.ram.base + 9000 * PAGE, 0, 10 * PAGE); /* zero, but not a hole */
	fill_page(&r, 32767);
	hf_bitmap_set_range(&r.todo, 0, 32768);
	before = blocks(&r);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, true), 32768);
	CHECK_EQ(blocks(&r), before);
	CHECK_EQ(hf_pages_stats(r.pages).data_pages, 301);
	check_messages(&r);
	CHECK_EQ(blocks(&r), before);
	check_seen(&r, cursor); /* this one reads everything */
	CHECK(blocks(&r) > before);
	teardown(&r);
}

TEST(holes_stay_holes)
{
	check_holes(1);
	check_holes(3);
}

TEST(holes_and_a_sparse_bitmap)
{
	uint64_t before;
	struct rig r;

	rng_state = 7;
	setup(&r, 8192, 3, 2);
	for (unsigned int i = 0; i < 600; i++)
		fill_page(&r, rng() % 8192);
	for (unsigned int i = 0; i < 900; i++)
		hf_bitmap_set_range(&r.todo, rng() % 8180, 1 + rng() % 12);
	before = blocks(&r);
	(void)run_through(&r, true);
	CHECK_EQ(blocks(&r), before);
	check_seen(&r, 8192);
	teardown(&r);
}

TEST(full_slots_and_continuation)
{
	uint64_t cursor = 0, n;
	struct rig r;

	setup(&r, 5000, 1, 3);
	for (uint64_t page = 0; page < 5000; page++)
		fill_page(&r, page);
	hf_bitmap_set_range(&r.todo, 0, 5000);
	CHECK_EQ(hf_pages_capacity(r.pages), 3);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 3 * 255);
	CHECK_EQ(cursor, 3 * 255);
	n = cursor;
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 0); /* still full */
	CHECK_EQ(cursor, n);
	check_messages(&r);
	check_seen(&r, cursor);
	hf_pages_reset(r.pages);
	memset(r.seen, 0, 5000);
	CHECK_EQ(run_through(&r, false), 7); /* 5000 / 765 */
	check_seen(&r, 5000);
	teardown(&r);
}

TEST(several_fills_before_a_reset)
{
	uint64_t cursor = 0;
	struct rig r;

	setup(&r, 1000, 2, 6);
	for (uint64_t page = 0; page < 1000; page++)
		fill_page(&r, page);
	hf_bitmap_set_range(&r.todo, 100, 50);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 50);
	hf_bitmap_set_range(&r.todo, 200, 500);
	cursor = 150;
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 500);
	CHECK_EQ(hf_pages_stats(r.pages).data_pages, 550);
	check_messages(&r);
	check_seen(&r, 1000);
	teardown(&r);
}

static void check_random(uint64_t seed, unsigned int threads)
{
	uint64_t n_pages;
	struct rig r;

	rng_state = seed;
	n_pages = 1 + rng() % 6000;
	setup(&r, n_pages, threads, 1 + rng() % 12);
	for (uint64_t page = 0; page < n_pages; page++) {
		uint64_t kind = rng() % 8;

		if (kind < 4)
			fill_page(&r, page);
		else if (kind == 4)
			mark_page(&r, page, rng() % PAGE);
		else if (kind == 5)
			memset(r.ram.base + page * PAGE, 0, PAGE);
	}
	for (uint64_t i = rng() % 1500; i > 0; i--) {
		uint64_t first = rng() % n_pages, n = 1 + rng() % (rng() % 16 == 0 ? 600 : 3);

		hf_bitmap_set_range(&r.todo, first, n < n_pages - first ? n : n_pages - first);
	}
	(void)run_through(&r, seed % 2);
	check_seen(&r, n_pages);
	teardown(&r);
}

TEST(random_bitmaps)
{
	for (uint64_t seed = 0; seed < 60; seed++)
		check_random(seed, seed % 3 == 0 ? 1 : 3);
}

static size_t resident_pages(struct rig *r)
{
	size_t n = 0, bytes = hf_pages_capacity(r->pages) * HF_PAGES_SLOT_BYTES;
	unsigned char *map = malloc(bytes / PAGE);
	uint64_t cursor = 0;
	size_t len;

	/* The first message tells where the memory is. */
	CHECK(hf_pages_fill(r->pages, &r->todo, &cursor, false) > 0);
	CHECK(map);
	CHECK_EQ(mincore(hf_pages_message(r->pages, 0, &len) - 4032, bytes, map), 0);
	for (size_t i = 0; i < bytes / PAGE; i++)
		n += map[i] & 1;
	free(map);
	return n;
}

TEST(memory_is_given_back)
{
	uint64_t cursor = 0;
	size_t large, small;
	struct rig r;

	setup(&r, 20 * 255, 1, 20);
	for (uint64_t page = 0; page < 20 * 255; page++)
		fill_page(&r, page);
	hf_bitmap_set_range(&r.todo, 0, 20 * 255);
	CHECK_EQ(hf_pages_fill(r.pages, &r.todo, &cursor, false), 20 * 255);
	CHECK_EQ(cursor, 20 * 255);
	hf_pages_reset(r.pages);
	hf_bitmap_clear_all(&r.todo);
	hf_bitmap_set_range(&r.todo, 0, 10);
	large = resident_pages(&r);
	CHECK(large >= 20 * 255);
	/* The large round is forgotten only after as many others. */
	for (unsigned int i = 0; i < HF_PAGES_MEMORY_RESETS - 1; i++)
		hf_pages_reset(r.pages);
	CHECK(resident_pages(&r) >= 20 * 255);
	hf_pages_reset(r.pages);
	small = resident_pages(&r);
	CHECK(small < 4 * 512); /* one slot, and what huge pages round it up to */
	hf_pages_reset(r.pages);
	/* And it can be used again. */
	hf_bitmap_set_range(&r.todo, 0, 20 * 255);
	(void)run_through(&r, false);
	check_seen(&r, 20 * 255);
	teardown(&r);
}

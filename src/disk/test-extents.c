/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/extents.h"

#include "../../tests/test.h"

#define DISK 4096u

/* What a byte of the disk is, in the model: whose, and which byte of that content. */
struct cell {
	uint64_t serial; /* 0: nothing */
	uint64_t place;
	bool is_zero;
};

static struct cell model[DISK];
static uint64_t seed = 88172645463325252u;

static uint32_t rnd(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed % below);
}

static void model_set(const struct hf_extent *e)
{
	for (uint64_t i = 0; i < e->length_bytes; i++)
		model[e->offset_bytes + i] = (struct cell){
			.serial = e->serial,
			.place = e->is_zero ? e->place : e->place + i,
			.is_zero = e->is_zero,
		};
}

static void model_drop(uint64_t offset, uint64_t length, uint64_t serial)
{
	for (uint64_t i = offset; i < offset + length; i++) {
		if (model[i].serial == serial)
			model[i] = (struct cell){ 0 };
	}
}

static void check_extent(const struct hf_extent *e)
{
	for (uint64_t i = 0; i < e->length_bytes; i++) {
		const struct cell *c = &model[e->offset_bytes + i];

		CHECK_EQ(c->serial, e->serial);
		CHECK_EQ(c->is_zero, e->is_zero);
		CHECK_EQ(c->place, e->is_zero ? e->place : e->place + i);
	}
}

/* All of the range, extents and gaps. Returns how many extents. */
static uint64_t check_range(const struct hf_extents *x, uint64_t from, uint64_t end)
{
	struct hf_extent e;
	uint64_t n = 0;

	for (uint64_t at = from; at < end; n++) {
		uint64_t gap_end = end;
		bool is_found = hf_extents_find(x, at, end, &e);

		if (is_found) {
			CHECK(e.offset_bytes >= at && e.length_bytes > 0);
			CHECK(e.offset_bytes + e.length_bytes <= end);
			gap_end = e.offset_bytes;
		}
		for (; at < gap_end; at++)
			CHECK_EQ(model[at].serial, 0);
		if (!is_found)
			break;
		check_extent(&e);
		at += e.length_bytes;
	}
	return n;
}

static struct hf_extent random_extent(uint64_t serial)
{
	struct hf_extent e = { .offset_bytes = rnd(DISK - 1), .serial = serial };

	e.length_bytes = 1 + rnd(rnd(8) == 0 ? DISK : 64);
	if (e.length_bytes > DISK - e.offset_bytes)
		e.length_bytes = DISK - e.offset_bytes;
	e.is_zero = rnd(4) == 0;
	e.place = e.is_zero ? rnd(3) : (uint64_t)serial << 20;
	return e;
}

TEST(empty_map_has_nothing)
{
	struct hf_extents *x;
	struct hf_extent e;

	CHECK_EQ(hf_extents_new(&x), 0);
	CHECK(!hf_extents_find(x, 0, UINT64_MAX, &e));
	CHECK_EQ(hf_extents_count(x), 0);
	hf_extents_drop(x, 0, UINT64_MAX, 1);
	hf_extents_free(x);
	hf_extents_free(NULL);
}

TEST(a_cut_keeps_both_sides)
{
	struct hf_extents *x;
	struct hf_extent e;

	CHECK_EQ(hf_extents_new(&x), 0);
	CHECK_EQ(hf_extents_reserve(x, 2), 0);
	hf_extents_set(x, &(struct hf_extent){ 100, 100, false, 5000, 1 });
	hf_extents_set(x, &(struct hf_extent){ 120, 30, true, 7, 2 });
	CHECK_EQ(hf_extents_count(x), 3);
	CHECK(hf_extents_find(x, 0, 1000, &e));
	CHECK(e.offset_bytes == 100 && e.length_bytes == 20 && e.place == 5000 && e.serial == 1);
	CHECK(hf_extents_find(x, 120, 1000, &e));
	CHECK(e.offset_bytes == 120 && e.length_bytes == 30 && e.is_zero && e.place == 7);
	CHECK(hf_extents_find(x, 160, 170, &e));
	CHECK(e.offset_bytes == 160 && e.length_bytes == 10 && e.place == 5060 && !e.is_zero);
	CHECK(!hf_extents_find(x, 200, 1000, &e));
	CHECK(!hf_extents_find(x, 0, 100, &e));
	CHECK(!hf_extents_find(x, 150, 150, &e));
	hf_extents_free(x);
}

TEST(what_came_later_stays)
{
	struct hf_extents *x;
	struct hf_extent e;

	CHECK_EQ(hf_extents_new(&x), 0);
	CHECK_EQ(hf_extents_reserve(x, 3), 0);
	hf_extents_set(x, &(struct hf_extent){ 0, 100, false, 0, 1 });
	hf_extents_set(x, &(struct hf_extent){ 50, 100, false, 1000, 2 });
	hf_extents_drop(x, 0, 60, 1);
	CHECK_EQ(hf_extents_count(x), 1);
	CHECK(hf_extents_find(x, 0, 200, &e));
	CHECK(e.offset_bytes == 50 && e.length_bytes == 100 && e.serial == 2);
	hf_extents_drop(x, 0, 200, 2);
	CHECK_EQ(hf_extents_count(x), 0);
	hf_extents_free(x);
}

/* Nodes are needed only for what is cut: after a reserve(1) for each set, drops of whole records go. */
TEST(drop_of_a_whole_record_needs_no_room)
{
	struct hf_extents *x;
	uint64_t n = 2000;

	CHECK_EQ(hf_extents_new(&x), 0);
	for (uint64_t i = 0; i < n; i++) {
		CHECK_EQ(hf_extents_reserve(x, 1), 0);
		hf_extents_set(x, &(struct hf_extent){ i * 2, 4, false, 0, i + 1 });
	}
	CHECK_EQ(hf_extents_count(x), n);
	for (uint64_t i = 0; i < n; i++)
		hf_extents_drop(x, i * 2, 4, i + 1);
	CHECK_EQ(hf_extents_count(x), 0);
	hf_extents_free(x);
}

TEST(a_hundred_thousand_random_steps_agree_with_the_model)
{
	struct hf_extents *x;
	uint64_t seen = 0;

	memset(model, 0, sizeof(model));
	CHECK_EQ(hf_extents_new(&x), 0);
	for (uint64_t serial = 1; serial <= 100000; serial++) {
		struct hf_extent e = random_extent(serial);
		uint64_t old = serial > 8 ? serial - 1 - rnd(8) : serial;

		CHECK_EQ(hf_extents_reserve(x, 1), 0);
		if (rnd(3) > 0) {
			hf_extents_set(x, &e);
			model_set(&e);
		} else {
			hf_extents_drop(x, e.offset_bytes, e.length_bytes, old);
			model_drop(e.offset_bytes, e.length_bytes, old);
		}
		(void)check_range(x, e.offset_bytes, e.offset_bytes + e.length_bytes);
		if (serial % 1000 == 0) {
			seen = check_range(x, 0, DISK);
			CHECK_EQ(seen, hf_extents_count(x));
		}
	}
	CHECK(seen > 10); /* or the test would not have tested anything */
	hf_extents_clear(x);
	CHECK_EQ(hf_extents_count(x), 0);
	hf_extents_free(x);
}

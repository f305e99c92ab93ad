/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/disk.h"

/* ---- the order of journal, image and flush ---- */

TEST(an_epoch_goes_to_the_journal_then_to_the_image_then_it_is_flushed)
{
	struct hf_disk d;
	uint64_t from, to;

	hf_disk_init(&d, 7, /* may_apply= */ true);
	CHECK(hf_disk_is_drained(&d));
	CHECK(!hf_disk_next_journal(&d, &from, &to));
	hf_disk_captured(&d, 8);
	CHECK(!hf_disk_is_drained(&d));
	CHECK(hf_disk_next_journal(&d, &from, &to));
	CHECK_EQ(from, 7);
	CHECK_EQ(to, 8);
	CHECK(!hf_disk_next_journal(&d, &from, &to));
	hf_disk_committed(&d, 8);
	CHECK(!hf_disk_next_apply(&d, 0, UINT64_MAX, &from, &to));
	hf_disk_journal_done(&d, true);
	CHECK(!hf_disk_may_reset_journal(&d));
	CHECK(hf_disk_next_apply(&d, 0, UINT64_MAX, &from, &to));
	CHECK_EQ(to, 8);
	CHECK(!hf_disk_next_settle(&d, &to));
	hf_disk_apply_done(&d, true);
	CHECK(!hf_disk_may_reset_journal(&d));
	CHECK(hf_disk_next_settle(&d, &to));
	CHECK_EQ(to, 8);
	hf_disk_settle_done(&d, true);
	CHECK(hf_disk_may_reset_journal(&d));
	CHECK(hf_disk_is_drained(&d));
}

TEST(what_is_journaled_and_not_committed_stays_out_of_the_image)
{
	struct hf_disk d;
	uint64_t from, to;

	hf_disk_init(&d, 0, true);
	hf_disk_captured(&d, 3);
	hf_disk_committed(&d, 2);
	CHECK(hf_disk_next_journal(&d, &from, &to));
	hf_disk_journal_done(&d, true);
	CHECK(hf_disk_next_apply(&d, 0, UINT64_MAX, &from, &to));
	CHECK_EQ(to, 2);
	hf_disk_apply_done(&d, true);
	CHECK(!hf_disk_next_apply(&d, 0, UINT64_MAX, &from, &to));
}

TEST(no_write_begins_once_the_permit_has_run_out)
{
	struct hf_disk d;
	uint64_t from, to;

	hf_disk_init(&d, 0, true);
	hf_disk_captured(&d, 1);
	hf_disk_committed(&d, 1);
	CHECK(hf_disk_next_journal(&d, &from, &to));
	hf_disk_journal_done(&d, true);
	CHECK(!hf_disk_next_apply(&d, 100, 100, &from, &to));
	CHECK(!hf_disk_next_apply(&d, 101, 100, &from, &to));
	CHECK(hf_disk_next_apply(&d, 99, 100, &from, &to));
	CHECK(hf_disk_may_write(99, 100));
	CHECK(!hf_disk_may_write(100, 100));
}

TEST(who_may_not_write_only_keeps_until_it_takes_over)
{
	struct hf_disk d;
	uint64_t from, to;

	hf_disk_init(&d, 4, /* may_apply= */ false);
	hf_disk_captured(&d, 9);
	hf_disk_committed(&d, 9);
	CHECK(!hf_disk_next_journal(&d, &from, &to));
	hf_disk_settled_by_owner(&d, 10); /* more than it can have: not believed */
	CHECK_EQ(d.settled, 4);
	hf_disk_settled_by_owner(&d, 6);
	hf_disk_settled_by_owner(&d, 5);
	CHECK_EQ(d.settled, 6);
	CHECK(!hf_disk_is_drained(&d));
	hf_disk_take_over(&d);
	CHECK(hf_disk_next_journal(&d, &from, &to));
	CHECK_EQ(from, 6);
	CHECK_EQ(to, 9);
}

TEST(a_successor_goes_on_where_its_predecessor_died)
{
	struct hf_disk was = { .may_apply = true,
			       .captured = 9,
			       .committed = 8,
			       .journaled = 7,
			       .applied = 6,
			       .settled = 5,
			       .journaling = 9,
			       .applying = 7,
			       .settling = 6 };
	struct hf_disk d;
	uint64_t from, to;

	CHECK(hf_disk_restore(&d, &was));
	CHECK(hf_disk_next_journal(&d, &from, &to));
	CHECK_EQ(from, 7);
	CHECK_EQ(to, 9);
	CHECK(hf_disk_next_apply(&d, 0, UINT64_MAX, &from, &to));
	CHECK_EQ(from, 6);
	CHECK_EQ(to, 7);
	was.applied = 8;
	CHECK(!hf_disk_restore(&d, &was));
	was.applied = 6;
	was.committed = 10;
	CHECK(!hf_disk_restore(&d, &was));
}

/*
 * Every state that can be reached with epochs up to EPOCHS. Beside each goes what the world would
 * really hold, kept without asking the numbers: bit n stands for epoch n.
 */
#define EPOCHS 5u
#define STATES_MAX 50000u

struct world {
	struct hf_disk d;
	uint8_t in_journal, is_committed, touched, in_image, durable;
	uint8_t being_written; /* to the image */
	uint8_t flushed; /* what the image held when the flush began */
};

static struct world seen[STATES_MAX];
static unsigned int n_seen;
static unsigned int index_of[1u << 17];

static unsigned int slot_of(const struct world *w)
{
	const uint8_t *bytes = (const uint8_t *)w;
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < sizeof(*w); i++)
		h = (h ^ bytes[i]) * 1099511628211u;
	return (unsigned int)(h >> 20) % (sizeof(index_of) / sizeof(index_of[0]));
}

static void reach(const struct world *w)
{
	unsigned int i = slot_of(w);

	for (; index_of[i]; i = (i + 1) % (sizeof(index_of) / sizeof(index_of[0])))
		if (!memcmp(&seen[index_of[i] - 1], w, sizeof(*w)))
			return;
	CHECK(n_seen < STATES_MAX);
	memcpy(&seen[n_seen++], w, sizeof(*w));
	index_of[i] = n_seen;
}

static uint8_t bits(uint64_t from, uint64_t to)
{
	return (uint8_t)((1u << (to + 1)) - (1u << (from + 1)));
}

static void judge(const struct world *w)
{
	uint8_t all = bits(0, w->d.captured);

	/* Nothing goes near the image that is not committed and durable in the journal. */
	CHECK((w->touched & ~(w->in_journal & w->is_committed)) == 0);
	if (hf_disk_may_reset_journal(&w->d))
		CHECK((w->in_journal & ~w->durable) == 0);
	if (hf_disk_is_drained(&w->d)) {
		CHECK(w->durable == all);
		CHECK(!w->being_written);
	}
	/* What is in the image in part only can be redone: there is no gap before it in the
	 * journal. */
	for (unsigned int n = 1; n <= EPOCHS; n++)
		if (w->touched & 1u << n)
			CHECK((bits(0, n) & ~w->in_journal) == 0);
}

static void try_numbers(const struct world *at)
{
	struct world w;

	for (uint64_t n = 1; n <= EPOCHS; n++) {
		w = *at;
		hf_disk_captured(&w.d, n);
		reach(&w);
		if (n > at->d.captured)
			continue;
		w = *at;
		hf_disk_committed(&w.d, n);
		w.is_committed |= bits(0, n);
		reach(&w);
	}
}

static void try_journal(const struct world *at)
{
	struct world w = *at;
	uint64_t from, to;

	if (hf_disk_next_journal(&w.d, &from, &to)) {
		CHECK(!at->d.journaling);
		reach(&w);
	}
	for (int is_done = 0; at->d.journaling && is_done < 2; is_done++) {
		w = *at;
		hf_disk_journal_done(&w.d, is_done);
		if (is_done)
			w.in_journal |= bits(at->d.journaled, at->d.journaling);
		reach(&w);
	}
}

static void try_apply(const struct world *at)
{
	struct world w = *at;
	uint64_t from, to;

	CHECK(!hf_disk_next_apply(&w.d, 5, 5, &from, &to));
	if (hf_disk_next_apply(&w.d, 4, 5, &from, &to)) {
		CHECK(!at->being_written);
		/* each range once more than needed at most, and none left out before it */
		CHECK((bits(0, from) & ~w.in_image) == 0);
		w.being_written = bits(from, to);
		w.touched |= w.being_written;
		reach(&w);
	}
	for (int is_done = 0; at->d.applying && is_done < 2; is_done++) {
		w = *at;
		hf_disk_apply_done(&w.d, is_done);
		if (is_done)
			w.in_image |= w.being_written;
		w.being_written = 0;
		reach(&w);
	}
}

static void try_settle(const struct world *at)
{
	struct world w = *at;
	uint64_t to;

	if (hf_disk_next_settle(&w.d, &to)) {
		w.flushed = w.in_image;
		reach(&w);
	}
	for (int is_done = 0; at->d.settling && is_done < 2; is_done++) {
		w = *at;
		hf_disk_settle_done(&w.d, is_done);
		if (is_done)
			w.durable |= w.flushed;
		w.flushed = 0;
		CHECK((bits(0, w.d.settled) & ~w.durable) == 0);
		reach(&w);
	}
}

/* The process dies and another one goes on: what was under way is neither done nor undone. */
static void try_successor(const struct world *at)
{
	struct world w = *at;

	CHECK(hf_disk_restore(&w.d, &at->d));
	w.being_written = 0;
	w.flushed = 0;
	reach(&w);
}

TEST(in_every_state_that_can_be_reached_the_image_can_be_brought_to_the_end_of_an_epoch)
{
	struct world first;

	memset(&first, 0, sizeof(first));
	hf_disk_init(&first.d, 0, true);
	reach(&first);
	for (unsigned int i = 0; i < n_seen; i++) {
		judge(&seen[i]);
		try_numbers(&seen[i]);
		try_journal(&seen[i]);
		try_apply(&seen[i]);
		try_settle(&seen[i]);
		try_successor(&seen[i]);
	}
	printf("# %u states\n", n_seen);
	CHECK(n_seen > 1000);
	/* The last one is reached, too: all that can be done is done. */
	for (unsigned int i = 0;; i++) {
		CHECK(i < n_seen);
		if (seen[i].d.captured == EPOCHS && hf_disk_is_drained(&seen[i].d))
			break;
	}
}

/* ---- the gate ---- */

TEST(a_flush_that_the_guest_saw_binds_its_own_epoch)
{
	struct hf_gate g;

	hf_gate_init(&g, HF_DURABILITY_DISK);
	CHECK(hf_gate_may_pass(&g));
	hf_gate_hold(&g);
	CHECK(!hf_gate_may_pass(&g));
	hf_gate_captured(&g, 5, /* has_flush= */ true, /* was_seen= */ true);
	CHECK_EQ(hf_gate_wants(&g), 5);
	hf_gate_committed(&g, 5);
	CHECK_EQ(hf_gate_open_to(&g), 0);
	hf_gate_journaled(&g, 5);
	CHECK_EQ(hf_gate_open_to(&g), 5);
	CHECK_EQ(hf_gate_wants(&g), 0);
}

TEST(a_flush_that_came_with_the_stop_binds_the_epochs_after_it)
{
	struct hf_gate g;

	hf_gate_init(&g, HF_DURABILITY_DISK);
	hf_gate_hold(&g);
	hf_gate_captured(&g, 5, true, /* was_seen= */ false);
	hf_gate_committed(&g, 5);
	CHECK_EQ(hf_gate_open_to(&g), 5);
	hf_gate_captured(&g, 6, true, false);
	CHECK_EQ(hf_gate_wants(&g), 5);
	hf_gate_committed(&g, 6);
	CHECK_EQ(hf_gate_open_to(&g), 5);
	hf_gate_journaled(&g, 5);
	CHECK_EQ(hf_gate_open_to(&g), 6);
}

TEST(without_a_flush_nothing_waits_and_two_memories_wait_for_no_disk)
{
	struct hf_gate g;

	hf_gate_init(&g, HF_DURABILITY_DISK);
	hf_gate_hold(&g);
	hf_gate_captured(&g, 1, false, false);
	hf_gate_committed(&g, 1);
	CHECK_EQ(hf_gate_open_to(&g), 1);
	hf_gate_init(&g, HF_DURABILITY_MEMORY);
	hf_gate_hold(&g);
	hf_gate_captured(&g, 1, true, true);
	CHECK_EQ(hf_gate_wants(&g), 0);
	CHECK_EQ(hf_gate_open_to(&g), 0);
	hf_gate_committed(&g, 1);
	CHECK_EQ(hf_gate_open_to(&g), 1);
}

TEST(outputs_pass_only_when_the_log_is_drained_whatever_the_durability)
{
	const enum hf_durability both[] = { HF_DURABILITY_DISK, HF_DURABILITY_MEMORY };
	struct hf_gate g;

	for (unsigned int i = 0; i < 2; i++) {
		hf_gate_init(&g, both[i]);
		hf_gate_hold(&g);
		hf_gate_drained(&g); /* of what came before: it says nothing about now */
		hf_gate_captured(&g, 2, true, true);
		hf_gate_pass(&g);
		CHECK(!hf_gate_may_pass(&g));
		hf_gate_drained(&g);
		CHECK(hf_gate_may_pass(&g));
		hf_gate_pass(&g);
		CHECK(!hf_gate_may_pass(&g));
		hf_gate_drained(&g);
		hf_gate_hold(&g);
		CHECK(!hf_gate_may_pass(&g));
		/* The flush of 2 is on the disk: nothing of it binds a later session. */
		hf_gate_captured(&g, 3, false, false);
		hf_gate_committed(&g, 3);
		CHECK_EQ(hf_gate_open_to(&g), 3);
	}
}

/* All histories of GATE_EPOCHS epochs against what the rule says, told from the history itself. */
#define GATE_EPOCHS 4u

struct history {
	unsigned int flush[GATE_EPOCHS + 1]; /* 0 none, 1 with the stop, 2 seen by the guest */
	unsigned int committed;
	unsigned int captured;
	unsigned int journaled;
	unsigned int was_open;
};

/* What an output of @epoch can know to be flushed. */
static unsigned int known_flushed(const struct history *h, unsigned int epoch)
{
	for (unsigned int n = epoch; n > 0; n--)
		if (h->flush[n] == 2 || (h->flush[n] == 1 && n < epoch))
			return n;
	return 0;
}

static void judge_gate(const struct history *h, const struct hf_gate *g)
{
	unsigned int open = (unsigned int)hf_gate_open_to(g);

	CHECK(open <= h->committed);
	CHECK(open >= h->was_open);
	for (unsigned int n = 1; n <= open; n++)
		CHECK(known_flushed(h, n) <= h->journaled);
	/* Nor does anything wait without need: what was committed last waits for just that. */
	if (h->committed == h->captured && known_flushed(h, h->committed) <= h->journaled)
		CHECK(open == h->committed);
	CHECK(open >= (h->journaled < h->committed ? h->journaled : h->committed));
	CHECK(hf_gate_wants(g) ==
	      (known_flushed(h, h->captured) > h->journaled ? known_flushed(h, h->captured) : 0));
}

static unsigned int n_histories;

static void walk(struct history h, struct hf_gate g)
{
	n_histories++;
	judge_gate(&h, &g);
	h.was_open = (unsigned int)hf_gate_open_to(&g);
	for (unsigned int flush = 0; h.captured < GATE_EPOCHS && flush < 3; flush++) {
		struct history next = h;
		struct hf_gate after = g;

		next.flush[++next.captured] = flush;
		hf_gate_captured(&after, next.captured, flush != 0, flush == 2);
		walk(next, after);
	}
	/* An epoch that is not committed before the next one is captured was dropped. */
	if (h.committed < h.captured) {
		struct history next = h;
		struct hf_gate after = g;

		next.committed = h.captured;
		hf_gate_committed(&after, next.committed);
		walk(next, after);
	}
	if (h.journaled < h.captured) {
		struct history next = h;
		struct hf_gate after = g;

		next.journaled++;
		hf_gate_journaled(&after, next.journaled);
		walk(next, after);
	}
}

TEST(in_every_history_the_gate_waits_for_what_is_needed_and_for_nothing_else)
{
	struct hf_gate g;

	hf_gate_init(&g, HF_DURABILITY_DISK);
	hf_gate_hold(&g);
	walk((struct history){ .captured = 0 }, g);
	printf("# %u histories\n", n_histories);
	CHECK(n_histories > 10000);
}

/* ---- copies ---- */

TEST(a_delta_is_copied_only_onto_a_copy_that_the_map_is_about)
{
	const struct hf_id one = { 1, 1 }, two = { 1, 2 }, none = { 0, 0 };

	CHECK(hf_disk_may_copy_delta(one, true, one, true));
	CHECK(!hf_disk_may_copy_delta(one, false, one, true));
	CHECK(!hf_disk_may_copy_delta(one, true, two, true));
	CHECK(!hf_disk_may_copy_delta(one, true, one, false));
	CHECK(!hf_disk_may_copy_delta(none, true, none, true));
}

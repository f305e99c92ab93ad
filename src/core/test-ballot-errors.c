/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ballots: I/O that fails, damage, taking back, delays. */
#include "core/test-ballot.h"

static struct hf_ballot_action fail(struct world *w, struct hf_ballot *b)
{
	struct hf_ballot_event ev = event(w, HF_BALLOT_IO_FAILED);
	struct hf_ballot_action a;

	hf_ballot_step(b, &ev, &a);
	return a;
}

TEST(an_error_anywhere_is_followed_by_a_look_and_one_end)
{
	static const enum hf_ballot_op ops[] = { HF_BALLOT_CLAIM, HF_BALLOT_TRANSFER,
						 HF_BALLOT_RELEASE };

	for (int op = 0; op < 3; op++)
		for (int at = 0; at < 7; at++)
			for (int lands = 0; lands < 2; lands++) {
				struct hf_ballot_want t = transfer(1, 5, 2);
				struct hf_ballot_action a;
				struct hf_ballot b;
				struct world w;

				world_init(&w);
				own(&w.disk, 1, 11, 5);
				t.op = ops[op];
				hf_ballot_begin(&b, &t, w.now_ns, &a);
				for (int i = 0; i < at && a.kind != HF_BALLOT_DONE; i++)
					serve(&w, &b, &a);
				if (a.kind == HF_BALLOT_DO_WRITE_BLOCK && lands)
					w.disk.blocks[0] = a.block;
				if (a.kind == HF_BALLOT_DO_WRITE_LEADER && lands)
					w.disk.leader = a.leader;
				if (a.kind != HF_BALLOT_DONE)
					a = fail(&w, &b);
				a = finish(&w, &b, a);
				CHECK_EQ(a.result, op == 0   ? HF_BALLOT_WON
						   : op == 1 ? HF_BALLOT_GIVEN
							     : HF_BALLOT_RELEASED);
				CHECK_EQ(w.disk.leader.owner, op == 1 ? 2 : 1);
				CHECK_EQ(w.disk.leader.lver, op == 2 ? 5 : 6);
				CHECK_EQ(!w.disk.leader.timestamp_s, op == 2);
			}
}

TEST(a_mark_that_could_not_be_taken_away_is_tried_again)
{
	struct world w;
	struct hf_ballot b;

	world_init(&w);
	w.disk.blocks[1].is_released = true;
	run_until(&w, &b, want(HF_BALLOT_PREPARE, 2, 0), HF_BALLOT_DO_WRITE_BLOCK, 1);
	CHECK_EQ(finish(&w, &b, fail(&w, &b)).result, HF_BALLOT_PREPARED);
	CHECK(!w.disk.blocks[1].is_released);
}

TEST(cancelling_ends_an_operation_only_before_its_value_is_written)
{
	for (int at = 0; at < 6; at++) {
		struct hf_ballot_want c = want(HF_BALLOT_CLAIM, 1, 5);
		struct hf_ballot_action a, n;
		struct hf_ballot_event ev;
		struct hf_ballot b;
		struct world w;

		world_init(&w);
		own(&w.disk, 1, 11, 5);
		hf_ballot_begin(&b, &c, w.now_ns, &a);
		for (int i = 0; i < at; i++)
			serve(&w, &b, &a);
		ev = event(&w, HF_BALLOT_CANCEL);
		hf_ballot_step(&b, &ev, &n);
		CHECK_EQ(n.kind, HF_BALLOT_NOTHING);
		a = finish(&w, &b, a);
		/* R, W, R | W, R, W */
		CHECK_EQ(a.result, at < 3 ? HF_BALLOT_CANCELLED : HF_BALLOT_WON);
		if (at < 3)
			check_leader(&w, 1, 11, 5);
	}
}

TEST(cancelling_a_wait_ends_it_at_once)
{
	struct hf_ballot_want q = want(HF_BALLOT_ACQUIRE, 2, 0);
	struct hf_ballot_action a;
	struct hf_ballot_event ev;
	struct hf_ballot b;
	struct world w;

	for (int is_wait = 0; is_wait < 2; is_wait++) {
		world_init(&w);
		own(&w.disk, 1, 11, 5);
		w.life[1] = HF_LEASE_LIFE_ALIVE;
		q.patience_ms = 100000;
		run_until(&w, &b, q, is_wait ? HF_BALLOT_DO_WAIT : HF_BALLOT_DO_LOOK, 1);
		ev = event(&w, HF_BALLOT_CANCEL);
		hf_ballot_step(&b, &ev, &a);
		CHECK_EQ(a.kind, HF_BALLOT_DONE);
		CHECK_EQ(a.result, HF_BALLOT_CANCELLED);
	}
}

TEST(nothing_is_written_where_something_is_damaged)
{
	for (uint64_t bad = 0; bad <= HOSTS; bad++) {
		struct world w;
		struct hf_ballot_action a;

		world_init(&w);
		if (bad)
			w.disk.blocks[bad - 1].is_damaged = true;
		else
			w.is_leader_damaged = true;
		a = run(&w, want(HF_BALLOT_ACQUIRE, 2, 0));
		CHECK_EQ(a.result, HF_BALLOT_DAMAGED);
		CHECK_EQ(a.bad_host, bad);
		CHECK_EQ(w.writes, 0);
		CHECK(w.reads > 1);
	}
}

TEST(a_block_that_this_operation_wrote_is_written_again)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;

	for (int nth = 2; nth <= 3; nth++) {
		world_init(&w);
		own(&w.disk, 1, 11, 5);
		a = run_until(&w, &b, want(HF_BALLOT_CLAIM, 1, 5), HF_BALLOT_DO_READ, nth);
		w.disk.blocks[0].is_damaged = true;
		a = finish(&w, &b, a);
		CHECK_EQ(a.result, HF_BALLOT_WON);
		CHECK(!w.disk.blocks[0].is_damaged);
	}
}

TEST(what_is_bound_waits_for_a_repair)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	a = run_until(&w, &b, want(HF_BALLOT_CLAIM, 1, 5), HF_BALLOT_DO_READ, 3);
	w.disk.blocks[3].is_damaged = true;
	for (int i = 0; i < 100; i++) {
		CHECK(a.kind == HF_BALLOT_DO_READ || a.kind == HF_BALLOT_DO_WAIT);
		serve(&w, &b, &a);
	}
	w.disk.blocks[3].is_damaged = false;
	CHECK_EQ(finish(&w, &b, a).result, HF_BALLOT_WON);
}

TEST(a_block_that_may_still_land_is_waited_for_before_anything_else)
{
	for (int is_settled = 0; is_settled < 2; is_settled++) {
		struct world w;
		struct hf_ballot b;
		struct hf_ballot_action a, n;
		struct hf_ballot_event ev;

		world_init(&w);
		own(&w.disk, 1, 11, 5);
		run_until(&w, &b, want(HF_BALLOT_CLAIM, 1, 5), HF_BALLOT_DO_WRITE_BLOCK, 1);
		ev = event(&w, HF_BALLOT_IO_FAILED);
		ev.is_settled = is_settled;
		hf_ballot_step(&b, &ev, &a);
		CHECK_EQ(a.kind, HF_BALLOT_DO_WAIT);
		CHECK_EQ(a.at_ns >= w.now_ns + HF_BALLOT_SETTLE_MS * MS_NS, !is_settled);
		/* also before an end: the next operation writes to that block */
		ev = event(&w, HF_BALLOT_CANCEL);
		hf_ballot_step(&b, &ev, &n);
		CHECK_EQ(n.kind, is_settled ? HF_BALLOT_DONE : HF_BALLOT_NOTHING);
		if (!is_settled)
			n = finish(&w, &b, a);
		CHECK_EQ(n.result, HF_BALLOT_CANCELLED);
	}
}

TEST(a_given_lease_is_given_though_its_mark_fails)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;
	uint64_t now_ns;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	run_until(&w, &b, transfer(1, 5, 2), HF_BALLOT_DO_WRITE_BLOCK, 3);
	now_ns = w.now_ns;
	a = finish(&w, &b, fail(&w, &b));
	CHECK_EQ(a.result, HF_BALLOT_GIVEN);
	CHECK(w.now_ns - now_ns >= HF_BALLOT_SETTLE_MS * MS_NS);
}

TEST(a_leader_with_impossible_numbers_is_damaged)
{
	struct world w;

	world_init(&w);
	w.disk.leader.num_hosts = HOSTS + 1; /* more than was read */
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).result, HF_BALLOT_DAMAGED);
	w.disk.leader.num_hosts = 0;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).result, HF_BALLOT_DAMAGED);
	w.disk.leader.num_hosts = 2;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 3, 0)).result, HF_BALLOT_NO_SLOT);
	own(&w.disk, 1, 11, 5);
	CHECK_EQ(run(&w, transfer(1, 5, 3)).result, HF_BALLOT_NO_SLOT);
	own(&w.disk, 1, 11, UINT64_MAX);
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).result, HF_BALLOT_DAMAGED);
}

TEST(a_read_that_is_old_is_repeated_before_the_leader_is_written)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;
	struct hf_ballot_event ev;

	world_init(&w);
	a = run_until(&w, &b, want(HF_BALLOT_ACQUIRE, 1, 0), HF_BALLOT_DO_READ, 3);
	ev = event(&w, HF_BALLOT_READ);
	ev.now_ns += 2 * S_NS;
	hf_ballot_step(&b, &ev, &a);
	CHECK_EQ(a.kind, HF_BALLOT_DO_READ);
	w.now_ns = ev.now_ns;
	/* while it slept, another one had bid higher */
	w.disk.blocks[2] = (struct hf_lease_block){ .mbal = 4003, .lver = 1 };
	a = finish(&w, &b, a);
	CHECK_EQ(a.result, HF_BALLOT_WON);
	CHECK(w.disk.blocks[0].mbal > 4003);
}

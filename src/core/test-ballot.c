/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/test-ballot.h"

TEST(a_free_lease_costs_three_reads_and_three_writes)
{
	struct world w;
	struct hf_ballot_action a;

	world_init(&w);
	a = run(&w, want(HF_BALLOT_ACQUIRE, 1, 0));
	CHECK_EQ(a.result, HF_BALLOT_WON);
	CHECK_EQ(a.lver, 1);
	CHECK_EQ(a.owner, 1);
	CHECK_EQ(w.reads, 3);
	CHECK_EQ(w.writes, 3);
	check_leader(&w, 1, 11, 1);
	CHECK_EQ(w.disk.blocks[0].mbal, 2001);
	CHECK_EQ(w.disk.blocks[0].bal, 2001);
}

TEST(numbers_are_above_all_that_stand_there)
{
	struct world w;

	world_init(&w);
	w.disk.blocks[2].mbal = 6003; /* at another lver: counts all the same */
	run(&w, want(HF_BALLOT_ACQUIRE, 2, 0));
	CHECK_EQ(w.disk.blocks[1].mbal, 8002);
	w.disk.blocks[2].mbal = UINT64_MAX - 5;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).result, HF_BALLOT_DAMAGED);
}

TEST(an_owner_is_left_alone_unless_it_is_dead)
{
	static const struct {
		enum hf_lease_life life;
		enum hf_ballot_result result;
	} table[] = {
		{ HF_LEASE_LIFE_ALIVE, HF_BALLOT_OWNED },
		{ HF_LEASE_LIFE_UNKNOWN, HF_BALLOT_OWNED },
		{ HF_LEASE_LIFE_DEAD, HF_BALLOT_WON },
		{ HF_LEASE_LIFE_GONE, HF_BALLOT_WON },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct world w;
		struct hf_ballot_action a;

		world_init(&w);
		own(&w.disk, 1, 11, 5);
		w.life[1] = table[i].life;
		a = run(&w, want(HF_BALLOT_ACQUIRE, 2, 0));
		CHECK_EQ(a.result, table[i].result);
		CHECK_EQ(w.looks, 1);
		CHECK_EQ(a.owner, table[i].result == HF_BALLOT_WON ? 2 : 1);
		CHECK_EQ(a.lver, table[i].result == HF_BALLOT_WON ? 6 : 5);
	}
}

TEST(evidence_is_asked_for_after_the_leader_was_read_and_for_one_lver_only)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.life[1] = HF_LEASE_LIFE_DEAD;
	a = run_until(&w, &b, want(HF_BALLOT_ACQUIRE, 2, 0), HF_BALLOT_DO_LOOK, 1);
	CHECK_EQ(a.owner, 1);
	CHECK_EQ(a.generation, 11);
	CHECK_EQ(a.since_ns, w.now_ns);
	serve(&w, &b, &a); /* dead, at lver 5 */
	own(&w.disk, 1, 11, 6); /* but it has come back and verified its lease */
	w.life[1] = HF_LEASE_LIFE_ALIVE;
	a = finish(&w, &b, a);
	CHECK_EQ(a.result, HF_BALLOT_OWNED);
	CHECK_EQ(a.lver, 6);
}

TEST(patience_waits_for_the_owner)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_want wanted = want(HF_BALLOT_ACQUIRE, 2, 0);
	struct hf_ballot_action a;
	uint64_t begun_ns;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.life[1] = HF_LEASE_LIFE_ALIVE;
	wanted.patience_ms = 5000;
	begun_ns = w.now_ns;
	CHECK_EQ(run(&w, wanted).result, HF_BALLOT_OWNED);
	CHECK(w.now_ns - begun_ns >= 5 * S_NS);
	a = run_until(&w, &b, wanted, HF_BALLOT_DO_WAIT, 3);
	w.disk.leader.timestamp_s = 0;
	CHECK_EQ(finish(&w, &b, a).result, HF_BALLOT_WON);
}

TEST(an_acquisition_may_be_tied_to_an_lver)
{
	struct world w;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.disk.leader.timestamp_s = 0;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 4)).result, HF_BALLOT_MOVED_ON);
	CHECK_EQ(w.writes, 0);
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 5)).result, HF_BALLOT_WON);
}

TEST(ours_is_ours_in_this_generation_and_before_but_not_in_a_later_one)
{
	struct world w;

	world_init(&w);
	own(&w.disk, 2, 12, 5);
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).lver, 6);
	own(&w.disk, 2, 3, 8);
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).lver, 9);
	own(&w.disk, 2, 13, 12);
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).result, HF_BALLOT_OWNED);
}

TEST(a_release_frees_the_leader_and_keeps_the_values)
{
	struct world w;
	struct hf_ballot_action a;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	a = run(&w, want(HF_BALLOT_RELEASE, 1, 5));
	CHECK_EQ(a.result, HF_BALLOT_RELEASED);
	CHECK_EQ(w.disk.leader.timestamp_s, 0);
	CHECK_EQ(w.disk.leader.lver, 5);
	CHECK(w.disk.blocks[0].is_released);
	CHECK_EQ(w.disk.blocks[0].bal, 2001);
	CHECK_EQ(w.disk.blocks[0].owner, 1);
	w.writes = 0;
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 1, 5)).result, HF_BALLOT_RELEASED);
	CHECK_EQ(w.writes, 0);
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 1, 0)).lver, 6);
	CHECK(!w.disk.blocks[0].is_released);
}

TEST(a_release_writes_nothing_into_what_is_anothers)
{
	struct world w;
	struct hf_ballot_action a;

	world_init(&w);
	own(&w.disk, 2, 12, 6);
	a = run(&w, want(HF_BALLOT_RELEASE, 1, 5));
	CHECK_EQ(a.result, HF_BALLOT_RELEASED);
	CHECK_EQ(a.owner, 2);
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 1, 6)).result, HF_BALLOT_NOT_OWNER);
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 1, 9)).result, HF_BALLOT_NOT_OWNER);
	CHECK_EQ(w.writes, 0);
}

TEST(a_release_under_an_old_leader_frees_the_lver_that_is_ours)
{
	struct world w;

	world_init(&w);
	own(&w.disk, 2, 12, 4);
	own(&w.disk, 1, 11, 5);
	w.disk.leader.lver = 4; /* a slow committer's write came over it */
	w.disk.leader.owner = w.disk.leader.write_id = 2;
	w.disk.leader.generation = 12;
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 1, 5)).result, HF_BALLOT_RELEASED);
	CHECK_EQ(w.disk.leader.lver, 5);
	CHECK_EQ(w.disk.leader.owner, 1);
	CHECK_EQ(w.disk.leader.timestamp_s, 0);
}

TEST(a_release_leaves_the_leader_to_whom_was_voted_for)
{
	struct world w;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.disk.blocks[1] = (struct hf_lease_block){
		.mbal = 4002, .bal = 4002, .owner = 2, .generation = 12, .lver = 6, .timestamp_s = 1
	};
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 1, 5)).result, HF_BALLOT_RELEASED);
	CHECK_EQ(w.disk.leader.timestamp_s, 77);
	CHECK(w.disk.blocks[0].is_released);
	/* ... and the mark lets anybody bring that to its end, after a while */
	w.life[1] = HF_LEASE_LIFE_ALIVE;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 3, 0)).result, HF_BALLOT_LOST);
	check_leader(&w, 2, 12, 6);
}

TEST(another_host_that_committed_our_value_has_taken_nothing)
{
	struct world w;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.disk.leader.write_id = 3; /* as sanlock does it */
	w.disk.leader.write_generation = 13;
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 1, 5)).result, HF_BALLOT_RELEASED);
	/* the mark alone frees it, at once: whoever took it by that keeps his leader */
	CHECK(w.disk.leader.timestamp_s != 0);
	CHECK(w.disk.blocks[0].is_released);
	CHECK_EQ(w.writes, 1);
	w.life[1] = HF_LEASE_LIFE_ALIVE;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 3, 0)).result, HF_BALLOT_WON);
	own(&w.disk, 1, 11, 7);
	w.disk.leader.write_id = 3;
	CHECK_EQ(run(&w, want(HF_BALLOT_CLAIM, 1, 7)).result, HF_BALLOT_WON);
	check_leader(&w, 1, 11, 8);
}

TEST(a_mark_of_a_release_counts_as_sanlock_has_it_but_not_a_stale_one)
{
	static const struct {
		uint64_t write_id, block_lver;
		enum hf_ballot_result result;
	} table[] = {
		{ 3, 5,
		  HF_BALLOT_WON }, /* committed by another: its release does not free the leader */
		{ 3, 4, HF_BALLOT_OWNED }, /* the mark of an earlier tenure: the owner is alive */
		{ 1, 5,
		  HF_BALLOT_WON }, /* released, but the leader was never freed: after a while */
		{ 1, 4, HF_BALLOT_OWNED },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct world w;

		world_init(&w);
		own(&w.disk, 1, 11, 5);
		w.life[1] = HF_LEASE_LIFE_ALIVE;
		w.disk.leader.write_id = table[i].write_id;
		w.disk.blocks[0].is_released = true;
		w.disk.blocks[0].lver = table[i].block_lver;
		CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).result, table[i].result);
	}
}

TEST(shared_holders_of_sanlock_keep_the_lease)
{
	struct world w;
	struct hf_ballot_action a;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.disk.leader.timestamp_s = 0;
	w.disk.blocks[2].is_shared = true;
	w.disk.blocks[2].shared_generation = 4;
	w.disk.blocks[3].is_shared = true;
	w.life[3] = HF_LEASE_LIFE_ALIVE;
	w.life[4] = HF_LEASE_LIFE_GONE;
	a = run(&w, want(HF_BALLOT_ACQUIRE, 2, 0));
	CHECK_EQ(a.result, HF_BALLOT_OWNED);
	CHECK_EQ(a.owner, 3);
	w.life[3] = HF_LEASE_LIFE_DEAD;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 2, 0)).result, HF_BALLOT_WON);
	CHECK(w.disk.blocks[2].is_shared);
	/* one that was dead as a shared holder is not dead as the owner */
	own(&w.disk, 3, 9, 20);
	w.disk.blocks[2].is_shared = true;
	w.life[3] = HF_LEASE_LIFE_GONE;
	a = run_until(&w, (struct hf_ballot[]){ { .stage = 0 } }, want(HF_BALLOT_ACQUIRE, 2, 0),
		      HF_BALLOT_DO_LOOK, 3);
	CHECK_EQ(a.owner, 3);
	CHECK_EQ(a.generation, 9);
}

/* ---- hand-over ---- */

TEST(a_transfer_has_no_free_moment_and_looks_as_if_the_new_owner_had_done_it)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;
	struct hf_ballot_want t = transfer(1, 5, 2);

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.disk.blocks[1].is_released = true; /* it had it before */
	CHECK_EQ(run(&w, want(HF_BALLOT_PREPARE, 2, 0)).result, HF_BALLOT_PREPARED);
	CHECK(!w.disk.blocks[1].is_released);
	hf_ballot_begin(&b, &t, w.now_ns, &a);
	while (a.kind != HF_BALLOT_DONE) {
		serve(&w, &b, &a);
		CHECK(w.disk.leader.timestamp_s != 0);
	}
	CHECK_EQ(a.result, HF_BALLOT_GIVEN);
	CHECK_EQ(a.lver, 6);
	check_leader(&w, 2, 12, 6);
	CHECK(w.disk.blocks[0].is_released);
	CHECK_EQ(w.disk.blocks[0].owner, 2);
	/* the source has lost it, and writes nothing more */
	w.writes = 0;
	w.life[2] = HF_LEASE_LIFE_ALIVE;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 1, 0)).result, HF_BALLOT_OWNED);
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 1, 5)).result, HF_BALLOT_RELEASED);
	CHECK_EQ(run(&w, transfer(1, 5, 3)).result, HF_BALLOT_NOT_OWNER);
	CHECK_EQ(w.writes, 0);
	CHECK_EQ(run(&w, want(HF_BALLOT_RELEASE, 2, 6)).result, HF_BALLOT_RELEASED);
	CHECK_EQ(w.disk.leader.timestamp_s, 0);
}

TEST(a_transfer_that_was_broken_off_is_found_to_be_done)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;

	for (int nth = 1; nth <= 2; nth++) {
		world_init(&w);
		own(&w.disk, 1, 11, 5);
		/* the daemon dies with the leader on its way; it lands, or does not */
		a = run_until(&w, &b, transfer(1, 5, 2), HF_BALLOT_DO_WRITE_LEADER, 1);
		if (nth == 1)
			w.disk.leader = a.leader;
		a = run(&w, transfer(1, 5, 2));
		CHECK_EQ(a.result, HF_BALLOT_GIVEN);
		check_leader(&w, 2, 12, 6);
	}
}

TEST(a_transfer_that_was_begun_is_what_a_contender_brings_to_its_end)
{
	struct world w;
	struct hf_ballot b;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	run_until(&w, &b, transfer(1, 5, 2), HF_BALLOT_DO_WRITE_LEADER, 1);
	w.life[1] = HF_LEASE_LIFE_DEAD;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 3, 0)).result, HF_BALLOT_LOST);
	check_leader(&w, 2, 12, 6);
}

TEST(a_slow_commit_over_a_newer_leader_gives_nothing_away)
{
	/* Facts on the bare write of an owner: with it two hosts would own the lease now. */
	for (int is_owner_dead = 0; is_owner_dead < 2; is_owner_dead++) {
		struct world w;
		struct hf_lease_leader late;

		world_init(&w);
		own(&w.disk, 1, 11, 5);
		late = w.disk.leader;
		late.write_id = 3;
		CHECK_EQ(run(&w, transfer(1, 5, 2)).result, HF_BALLOT_GIVEN);
		w.disk.leader = late;
		w.life[1] = is_owner_dead ? HF_LEASE_LIFE_DEAD : HF_LEASE_LIFE_ALIVE;
		w.life[2] = HF_LEASE_LIFE_ALIVE;
		CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 3, 0)).result, HF_BALLOT_LOST);
		check_leader(&w, 2, 12, 6);
	}
}

TEST(an_old_leader_under_newer_blocks_is_mended_never_followed)
{
	struct world w;
	struct hf_lease_leader late;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	late = w.disk.leader;
	CHECK_EQ(run(&w, transfer(1, 5, 2)).result, HF_BALLOT_GIVEN);
	CHECK_EQ(run(&w, want(HF_BALLOT_CLAIM, 2, 6)).lver, 7);
	w.disk.leader = late; /* two ballots late */
	w.life[1] = HF_LEASE_LIFE_DEAD;
	w.life[2] = HF_LEASE_LIFE_ALIVE;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 3, 0)).result, HF_BALLOT_OWNED);
	check_leader(&w, 2, 12, 7);
	/* nothing accepted there: nobody knows who owned it before. Nothing is taken. */
	w.disk.leader = late;
	w.disk.blocks[1].bal = 0;
	w.disk.blocks[1].owner = 0;
	w.disk.blocks[2].bal = 0;
	w.disk.blocks[2].owner = 0;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 3, 0)).result, HF_BALLOT_OWNED);
	/* but its owner knows */
	CHECK_EQ(run(&w, want(HF_BALLOT_CLAIM, 2, 7)).result, HF_BALLOT_WON);
}

TEST(a_number_alone_notes_whose_the_lver_before_was)
{
	for (int is_alive = 0; is_alive < 2; is_alive++) {
		struct world w;
		struct hf_ballot b;
		struct hf_ballot_action a;

		world_init(&w);
		own(&w.disk, 2, 12, 8);
		run_until(&w, &b, transfer(2, 8, 3), HF_BALLOT_DO_READ, 2);
		CHECK_EQ(w.disk.blocks[1].lver, 9);
		CHECK_EQ(w.disk.blocks[1].bal, 0);
		/* its host dies; a leader of long ago lands again: nothing else shows lver 8 */
		w.disk.leader.lver = 6;
		w.disk.leader.owner = w.disk.leader.write_id = 1;
		w.disk.leader.generation = 11;
		w.life[1] = HF_LEASE_LIFE_GONE;
		w.life[2] = is_alive ? HF_LEASE_LIFE_ALIVE : HF_LEASE_LIFE_DEAD;
		a = run(&w, want(HF_BALLOT_ACQUIRE, 4, 0));
		CHECK_EQ(a.result, is_alive ? HF_BALLOT_OWNED : HF_BALLOT_WON);
		CHECK_EQ(a.lver, is_alive ? 8 : 9);
		CHECK_EQ(a.owner, is_alive ? 2 : 4);
	}
}

TEST(who_knows_an_lver_to_be_decided_notes_what_was_chosen_there)
{
	struct hf_ballot_action a;
	struct hf_ballot_event ev;
	struct hf_ballot b;
	struct world w;

	world_init(&w);
	own(&w.disk, 2, 12, 2);
	w.disk.leader.lver = 1; /* put back */
	w.disk.leader.owner = w.disk.leader.write_id = 1;
	/* a standby of 2 claims, and takes that back */
	run_until(&w, &b, want(HF_BALLOT_CLAIM, 3, 2), HF_BALLOT_DO_READ, 2);
	ev = event(&w, HF_BALLOT_CANCEL);
	hf_ballot_step(&b, &ev, &a);
	ev = event(&w, HF_BALLOT_READ);
	hf_ballot_step(&b, &ev, &a);
	CHECK_EQ(a.result, HF_BALLOT_CANCELLED);
	w.life[2] = HF_LEASE_LIFE_ALIVE;
	CHECK_EQ(run(&w, want(HF_BALLOT_ACQUIRE, 4, 0)).owner, 2);
	w.life[2] = HF_LEASE_LIFE_DEAD;
	a = run(&w, want(HF_BALLOT_ACQUIRE, 4, 0));
	CHECK_EQ(a.result, HF_BALLOT_WON);
	CHECK_EQ(a.lver, 3);
}

/* ---- claims ---- */

TEST(a_claim_takes_what_its_owner_has_consented_to)
{
	struct world w;
	struct hf_ballot_action a;

	world_init(&w);
	own(&w.disk, 1, 11, 5);
	w.life[1] = HF_LEASE_LIFE_ALIVE;
	a = run(&w, want(HF_BALLOT_CLAIM, 2, 5));
	CHECK_EQ(a.result, HF_BALLOT_WON);
	CHECK_EQ(a.lver, 6);
	CHECK_EQ(w.looks, 0);
	a = run(&w, want(HF_BALLOT_CLAIM, 1, 5));
	CHECK_EQ(a.result, HF_BALLOT_LOST);
	CHECK_EQ(a.owner, 2);
	CHECK_EQ(run(&w, want(HF_BALLOT_CLAIM, 1, 9)).result, HF_BALLOT_LOST);
}

TEST(a_claim_is_not_won_by_a_ballot_of_an_earlier_tenure)
{
	struct world w;
	struct hf_ballot b;
	struct hf_ballot_action a;

	/* accepted, broken off, never committed: may have been decided long ago */
	world_init(&w);
	own(&w.disk, 1, 11, 5);
	run_until(&w, &b, want(HF_BALLOT_CLAIM, 1, 5), HF_BALLOT_DO_WRITE_LEADER, 1);
	a = run(&w, want(HF_BALLOT_CLAIM, 1, 5));
	CHECK_EQ(a.result, HF_BALLOT_WON);
	CHECK_EQ(a.lver, 7);
	/* committed: the same */
	a = run(&w, want(HF_BALLOT_CLAIM, 1, 5));
	CHECK_EQ(a.result, HF_BALLOT_WON);
	CHECK_EQ(a.lver, 8);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/test-ballot.h"

#define MS_NS 1000000ULL

/* ---- one disk, operations run on it one after the other ---- */

struct world {
	struct disk disk;
	uint64_t now_ns;
	enum hf_lease_life life[HOSTS + 1];
	bool is_leader_damaged;
	unsigned int reads, writes, looks;
};

static void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->now_ns = 1000 * S_NS;
	w->disk.leader.num_hosts = HOSTS;
}

static struct hf_ballot_event event(const struct world *w, enum hf_ballot_event_kind kind)
{
	return (struct hf_ballot_event){ .kind = kind,
					 .now_ns = w->now_ns,
					 .issued_ns = w->now_ns,
					 .now_s = w->now_ns / S_NS,
					 .leader = &w->disk.leader,
					 .is_leader_damaged = w->is_leader_damaged,
					 .blocks = w->disk.blocks,
					 .n_blocks = HOSTS };
}

/* Carries out one action. */
static void serve(struct world *w, struct hf_ballot *b, struct hf_ballot_action *a)
{
	struct hf_ballot_event ev;

	w->now_ns += MS_NS;
	if (a->kind == HF_BALLOT_DO_READ) {
		w->reads++;
		ev = event(w, HF_BALLOT_READ);
	} else if (a->kind == HF_BALLOT_DO_WRITE_BLOCK) {
		w->writes++;
		w->disk.blocks[b->want.host_id - 1] = a->block;
		ev = event(w, HF_BALLOT_WRITTEN);
	} else if (a->kind == HF_BALLOT_DO_WRITE_LEADER) {
		w->writes++;
		w->disk.leader = a->leader;
		ev = event(w, HF_BALLOT_WRITTEN);
	} else if (a->kind == HF_BALLOT_DO_LOOK) {
		w->looks++;
		CHECK(a->since_ns <= w->now_ns);
		ev = event(w, HF_BALLOT_OWNER_LIFE);
		ev.life = w->life[a->owner];
	} else {
		CHECK_EQ(a->kind, HF_BALLOT_DO_WAIT);
		CHECK(a->at_ns > w->now_ns - MS_NS);
		w->now_ns = a->at_ns > w->now_ns ? a->at_ns : w->now_ns;
		ev = event(w, HF_BALLOT_WAKE);
	}
	hf_ballot_step(b, &ev, a);
}

static struct hf_ballot_action finish(struct world *w, struct hf_ballot *b,
				      struct hf_ballot_action a)
{
	for (int i = 0; a.kind != HF_BALLOT_DONE; i++) {
		CHECK(i < 1000);
		serve(w, b, &a);
	}
	return a;
}

static struct hf_ballot_action run(struct world *w, struct hf_ballot_want want)
{
	struct hf_ballot b;
	struct hf_ballot_action a;

	hf_ballot_begin(&b, &want, w->now_ns, &a);
	return finish(w, &b, a);
}

/* Runs until the machine asks for the @nth action of this kind, which is not carried out. */
static struct hf_ballot_action run_until(struct world *w, struct hf_ballot *b,
					 struct hf_ballot_want want,
					 enum hf_ballot_action_kind kind, int nth)
{
	struct hf_ballot_action a;

	hf_ballot_begin(b, &want, w->now_ns, &a);
	while (a.kind != kind || --nth) {
		CHECK(a.kind != HF_BALLOT_DONE);
		serve(w, b, &a);
	}
	return a;
}

static void check_leader(const struct world *w, uint64_t owner, uint64_t generation, uint64_t lver)
{
	const struct hf_lease_leader *l = &w->disk.leader;

	CHECK_EQ(l->owner, owner);
	CHECK_EQ(l->generation, generation);
	CHECK_EQ(l->lver, lver);
	CHECK(l->timestamp_s != 0);
	CHECK_EQ(l->write_id, owner);
	CHECK_EQ(l->write_generation, generation);
}

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

/* ---- errors ---- */

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

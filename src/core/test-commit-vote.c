/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both machines where the VM has a lease: nothing goes on that has not won, whoever is dead. */
#include "../../tests/test.h"
#include "core/commit.h"

static const struct hf_id S1 = { 1, 1 };
static const struct hf_id S2 = { 2, 2 };

static struct hf_primary p;
static struct hf_standby s;
static struct hf_primary_actions pa;
static struct hf_standby_actions sa;

static void primary(enum hf_primary_event_kind kind, uint64_t epoch, uint64_t lver)
{
	struct hf_primary_event ev = { .kind = kind,
				       .epoch = epoch,
				       .session = S1,
				       .fresh = S1,
				       .lver = lver,
				       .won = lver + 1 };

	hf_primary_step(&p, &ev, &pa);
}

static void standby(enum hf_standby_event_kind kind, uint64_t epoch, uint64_t lver)
{
	struct hf_standby_event ev = { .kind = kind, .epoch = epoch, .session = S1, .lver = lver };

	hf_standby_step(&s, &ev, &sa);
}

static const struct hf_primary_action *did(enum hf_primary_action_kind kind)
{
	for (unsigned int i = 0; i < pa.n; i++)
		if (pa.a[i].kind == kind)
			return &pa.a[i];
	return NULL;
}

static const struct hf_standby_action *standby_did(enum hf_standby_action_kind kind)
{
	for (unsigned int i = 0; i < sa.n; i++)
		if (sa.a[i].kind == kind)
			return &sa.a[i];
	return NULL;
}

/* PROTECTED with epoch 1 committed; this host owns lver 7. */
static void protect(void)
{
	hf_primary_init(&p, 0);
	p.has_vote = true;
	p.lver = 7;
	primary(HF_PRIMARY_LINK_UP, 0, 0);
	CHECK_EQ(did(HF_PRIMARY_BEGIN_SYNC)->lver, 7);
	primary(HF_PRIMARY_SYNCED, 0, 0);
	primary(HF_PRIMARY_CAPTURED, 1, 0);
	primary(HF_PRIMARY_ACK, 1, 0);
	CHECK_EQ(p.committed, 1);
}

static void make_ready(void)
{
	hf_standby_init(&s);
	s.has_vote = true;
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_SYNC_BEGIN, 0, 7);
	standby(HF_STANDBY_EPOCH_WHOLE, 1, 0);
	CHECK_EQ(s.state, HF_STANDBY_READY);
}

static void be_lost(void)
{
	make_ready();
	standby(HF_STANDBY_LINK_DOWN, 0, 0);
	CHECK_EQ(s.state, HF_STANDBY_LOST);
	CHECK_EQ(standby_did(HF_STANDBY_ASK_ARBITER)->lver, 7);
}

/* ---- the primary ---- */

TEST(a_dead_standby_may_have_won_before)
{
	const enum hf_primary_event_kind before[] = { HF_PRIMARY_EPOCH_DUE,
						      HF_PRIMARY_HANDOVER_WANTED,
						      HF_PRIMARY_ABANDON_WANTED,
						      HF_PRIMARY_LINK_DOWN };

	for (unsigned int i = 0; i < 4; i++) {
		protect();
		primary(before[i], 0, 0);
		primary(HF_PRIMARY_PEER_DEAD, 0, 0);
		CHECK(p.state == HF_PRIMARY_HOLDING || p.state == HF_PRIMARY_LEAVING);
		CHECK(p.is_asking);
		CHECK(!did(HF_PRIMARY_PASS));
		primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
		CHECK_EQ(p.state, HF_PRIMARY_ALONE);
		CHECK(did(HF_PRIMARY_PASS));
		CHECK_EQ(p.lver, 8);
	}
}

TEST(a_lost_vote_ends_this_side_in_every_state)
{
	const enum hf_primary_event_kind before[] = {
		HF_PRIMARY_LINK_DOWN,      HF_PRIMARY_HANDOVER_WANTED, HF_PRIMARY_ABANDON_WANTED,
		HF_PRIMARY_PEER_DISCARDED, HF_PRIMARY_VM_DIED,         HF_PRIMARY_VM_ENDED,
		HF_PRIMARY_EPOCH_DUE,
	};

	for (unsigned int i = 0; i < 7; i++) {
		protect();
		primary(before[i], 0, 0);
		primary(HF_PRIMARY_ARBITER_DENIED, 0, 7);
		CHECK_EQ(p.state, HF_PRIMARY_SUPERSEDED);
		CHECK_EQ(pa.a[0].kind, HF_PRIMARY_DISCARD);
		CHECK_EQ(pa.a[1].kind, HF_PRIMARY_FREEZE);
	}
}

TEST(a_question_is_taken_back_when_the_two_are_in_touch_again)
{
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	CHECK_EQ(did(HF_PRIMARY_ASK_ARBITER)->lver, 7);
	primary(HF_PRIMARY_PEER_HEARD, 0, 0);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
	CHECK(did(HF_PRIMARY_CANCEL_ARBITER));
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	CHECK(!did(HF_PRIMARY_ASK_ARBITER)); /* the one before has no answer yet */
	primary(HF_PRIMARY_ARBITER_CANCELLED, 0, 7);
	CHECK(did(HF_PRIMARY_ASK_ARBITER));
}

TEST(a_vote_that_is_won_in_touch_moves_what_the_standby_asks_about)
{
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	primary(HF_PRIMARY_PEER_HEARD, 0, 0);
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
	CHECK(!did(HF_PRIMARY_PASS));
	CHECK_EQ(did(HF_PRIMARY_SEND_LEASE)->lver, 8);
	/* That word was lost: it is said again with the connection. */
	primary(HF_PRIMARY_LINK_DOWN, 0, 0);
	CHECK_EQ(did(HF_PRIMARY_ASK_ARBITER)->lver, 8);
	primary(HF_PRIMARY_LINK_UP, 1, 0);
	CHECK_EQ(did(HF_PRIMARY_SEND_LEASE)->lver, 8);
}

TEST(an_answer_about_an_older_lver_is_none)
{
	protect();
	primary(HF_PRIMARY_LINK_DOWN, 0, 0);
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 6);
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING);
	primary(HF_PRIMARY_ARBITER_DENIED, 0, 6);
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING);
	CHECK(p.is_asking);
}

/* Else the standby would be told to go live, and lose the vote. */
TEST(a_death_is_told_when_the_own_vote_is_over)
{
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	primary(HF_PRIMARY_PEER_HEARD, 0, 0);
	primary(HF_PRIMARY_VM_DIED, 0, 0);
	CHECK(!did(HF_PRIMARY_SEND_DEAD));
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(pa.a[0].kind, HF_PRIMARY_SEND_LEASE);
	CHECK_EQ(pa.a[1].kind, HF_PRIMARY_SEND_DEAD);
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	primary(HF_PRIMARY_VM_DIED, 0, 0);
	CHECK(did(HF_PRIMARY_CANCEL_ARBITER));
	primary(HF_PRIMARY_ARBITER_CANCELLED, 0, 7);
	CHECK(did(HF_PRIMARY_SEND_DEAD));
}

TEST(no_hand_over_begins_while_the_own_vote_is_open)
{
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	primary(HF_PRIMARY_PEER_HEARD, 0, 0);
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, 0);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
	primary(HF_PRIMARY_ARBITER_CANCELLED, 0, 7);
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, 0);
	CHECK_EQ(p.state, HF_PRIMARY_HANDING_OVER);
}

TEST(a_vm_that_ended_out_of_touch_ends_by_the_vote)
{
	protect();
	primary(HF_PRIMARY_VM_ENDED, 0, 0);
	CHECK(!did(HF_PRIMARY_ASK_ARBITER));
	primary(HF_PRIMARY_PEER_DEAD, 0, 0);
	CHECK(did(HF_PRIMARY_ASK_ARBITER));
	CHECK(!did(HF_PRIMARY_PASS));
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(p.state, HF_PRIMARY_FINISHED);
	CHECK(did(HF_PRIMARY_PASS));
}

/* On shared storage its last writes need the lease, which the standby had won meanwhile. */
TEST(a_vm_that_ended_asks_for_what_the_standby_had_won)
{
	be_lost();
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_VM_ENDED, 0, 0);
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(standby_did(HF_STANDBY_SEND_DISCARDED)->lver, 8);
	protect();
	primary(HF_PRIMARY_LINK_DOWN, 0, 0);
	primary(HF_PRIMARY_VM_ENDED, 0, 0);
	primary(HF_PRIMARY_LINK_UP, 1, 0);
	primary(HF_PRIMARY_PEER_DISCARDED, 0, 8);
	CHECK_EQ(p.state, HF_PRIMARY_ENDING);
	CHECK(!did(HF_PRIMARY_PASS));
	primary(HF_PRIMARY_ARBITER_DENIED, 0, 7);
	CHECK_EQ(p.state, HF_PRIMARY_ENDING);
	CHECK_EQ(did(HF_PRIMARY_ASK_ARBITER)->lver, 8);
	primary(HF_PRIMARY_PEER_DISCARDED, 0, 0); /* it is met again, and holds nothing */
	CHECK_EQ(p.state, HF_PRIMARY_ENDING);
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 8);
	CHECK_EQ(p.state, HF_PRIMARY_FINISHED);
	CHECK(did(HF_PRIMARY_PASS));
}

TEST(a_standby_that_has_discarded_needs_no_vote)
{
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	primary(HF_PRIMARY_PEER_DISCARDED, 0, 0);
	CHECK_EQ(p.state, HF_PRIMARY_ALONE);
	CHECK(did(HF_PRIMARY_PASS));
	CHECK(did(HF_PRIMARY_CANCEL_ARBITER));
	primary(HF_PRIMARY_LINK_UP, 0, 0);
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(p.state, HF_PRIMARY_SYNCING);
	CHECK_EQ(did(HF_PRIMARY_SEND_LEASE)->lver, 8);
}

/* Not even if the two are in touch: another host may own it by now. */
TEST(a_lease_that_had_expired_is_asked_for_until_it_is_granted)
{
	protect();
	primary(HF_PRIMARY_LEASE_RENEWED, 0, 0);
	CHECK_EQ(did(HF_PRIMARY_ASK_ARBITER)->lver, 7);
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, 0);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
	primary(HF_PRIMARY_PEER_SILENT, 0, 0);
	primary(HF_PRIMARY_PEER_HEARD, 0, 0);
	CHECK(!did(HF_PRIMARY_CANCEL_ARBITER));
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(did(HF_PRIMARY_SEND_LEASE)->lver, 8);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
}

TEST(a_hand_over_that_is_under_way_waits_for_the_lease)
{
	protect();
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, 0);
	primary(HF_PRIMARY_LEASE_RENEWED, 0, 0);
	primary(HF_PRIMARY_CAPTURED, 2, 0);
	primary(HF_PRIMARY_ACK, 2, 0);
	CHECK_EQ(p.state, HF_PRIMARY_HANDED_OVER);
	CHECK(did(HF_PRIMARY_CANCEL_ARBITER));
	CHECK(!did(HF_PRIMARY_SEND_HANDOVER));
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(pa.a[0].kind, HF_PRIMARY_SEND_LEASE);
	CHECK_EQ(pa.a[1].kind, HF_PRIMARY_SEND_HANDOVER);
}

/* ---- the standby ---- */

TEST(proof_loads_and_the_vote_runs)
{
	const enum hf_standby_event_kind proofs[] = { HF_STANDBY_PEER_DEAD, HF_STANDBY_VM_DIED,
						      HF_STANDBY_HANDOVER };

	for (unsigned int i = 0; i < 3; i++) {
		make_ready();
		standby(proofs[i], 1, 0);
		CHECK(standby_did(HF_STANDBY_PROMOTE)->must_win);
		CHECK_EQ(standby_did(HF_STANDBY_ASK_ARBITER)->lver, 7);
		standby(HF_STANDBY_LIVE, 0, 0);
		CHECK_EQ(s.state, HF_STANDBY_PROMOTING); /* it may not run yet */
		standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
		CHECK(standby_did(HF_STANDBY_RUN));
		standby(HF_STANDBY_LIVE, 0, 0);
		CHECK_EQ(s.state, HF_STANDBY_PROMOTED);
	}
}

TEST(who_is_denied_while_it_loads_never_runs)
{
	make_ready();
	standby(HF_STANDBY_VM_DIED, 0, 0);
	standby(HF_STANDBY_ARBITER_DENIED, 0, 7);
	CHECK_EQ(s.state, HF_STANDBY_DENIED);
	CHECK(standby_did(HF_STANDBY_DISCARD));
	CHECK(standby_did(HF_STANDBY_SEND_DISCARDED));
	standby(HF_STANDBY_LIVE, 0, 0);
	CHECK_EQ(s.state, HF_STANDBY_DENIED);
	standby(HF_STANDBY_LINK_DOWN, 0, 0);
	standby(HF_STANDBY_LINK_UP, 0, 0);
	CHECK(standby_did(HF_STANDBY_REFUSE));
}

TEST(without_proof_nothing_is_loaded_before_the_vote_is_won)
{
	be_lost();
	CHECK(!standby_did(HF_STANDBY_PROMOTE));
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	CHECK(!standby_did(HF_STANDBY_PROMOTE)->must_win);
	be_lost();
	standby(HF_STANDBY_ARBITER_DENIED, 0, 7);
	CHECK_EQ(s.state, HF_STANDBY_IDLE);
	CHECK(standby_did(HF_STANDBY_DISCARD));
}

TEST(a_vote_that_is_won_on_shared_storage_waits_for_the_write_deadline)
{
	make_ready();
	s.is_storage_shared = true;
	standby(HF_STANDBY_LINK_DOWN, 0, 0);
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	CHECK(standby_did(HF_STANDBY_PROMOTE)->must_wait);
	make_ready();
	s.is_storage_shared = true;
	standby(HF_STANDBY_PEER_DEAD, 0, 0);
	CHECK(!standby_did(HF_STANDBY_PROMOTE)->must_wait);
}

/* The standby was promised nothing and waits with its epoch: it has to hear that it is over. */
TEST(whoever_goes_alone_without_a_link_still_has_to_say_so)
{
	protect();
	primary(HF_PRIMARY_LINK_DOWN, 0, 0);
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, 7);
	CHECK(hf_id_is_equal(did(HF_PRIMARY_SEND_ABANDON)->session, S1));
}

TEST(a_verdict_holds_when_the_two_are_in_touch_again)
{
	be_lost();
	standby(HF_STANDBY_LINK_UP, 0, 0);
	CHECK_EQ(s.state, HF_STANDBY_READY);
	CHECK(standby_did(HF_STANDBY_CANCEL_ARBITER));
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	CHECK(standby_did(HF_STANDBY_PROMOTE));
	be_lost();
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_ARBITER_DENIED, 0, 7);
	CHECK_EQ(s.state, HF_STANDBY_IDLE);
	CHECK(standby_did(HF_STANDBY_SEND_DISCARDED));
}

TEST(a_denial_about_an_older_lver_costs_nothing)
{
	be_lost();
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_LEASE, 0, 8);
	standby(HF_STANDBY_ARBITER_DENIED, 0, 7);
	CHECK_EQ(s.state, HF_STANDBY_READY);
	standby(HF_STANDBY_LINK_DOWN, 0, 0);
	CHECK_EQ(standby_did(HF_STANDBY_ASK_ARBITER)->lver, 8);
	/* The same while it loads. */
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_HANDOVER, 1, 0);
	CHECK(!standby_did(HF_STANDBY_ASK_ARBITER));
	standby(HF_STANDBY_LEASE, 0, 9);
	standby(HF_STANDBY_ARBITER_DENIED, 0, 8);
	CHECK_EQ(s.state, HF_STANDBY_PROMOTING);
	CHECK_EQ(standby_did(HF_STANDBY_ASK_ARBITER)->lver, 9);
}

TEST(the_lease_of_another_session_or_of_the_past_is_ignored)
{
	struct hf_standby_event ev = { .kind = HF_STANDBY_LEASE, .session = S2, .lver = 9 };

	make_ready();
	hf_standby_step(&s, &ev, &sa);
	standby(HF_STANDBY_LEASE, 0, 6);
	CHECK_EQ(s.lver, 7);
}

/* To have discarded lets the primary go on alone: it is not said while the vote may be won. */
TEST(who_is_asked_to_discard_waits_for_its_vote)
{
	const enum hf_standby_event_kind ends[] = { HF_STANDBY_ARBITER_CANCELLED,
						    HF_STANDBY_ARBITER_DENIED };

	for (unsigned int i = 0; i < 2; i++) {
		be_lost();
		standby(HF_STANDBY_LINK_UP, 0, 0);
		standby(HF_STANDBY_ABANDON, 0, 0);
		CHECK_EQ(sa.n, 0);
		CHECK_EQ(s.state, HF_STANDBY_READY);
		standby(ends[i], 0, 7);
		CHECK_EQ(s.state, HF_STANDBY_IDLE);
		CHECK(standby_did(HF_STANDBY_SEND_DISCARDED));
	}
	be_lost();
	standby(HF_STANDBY_ABANDON, 0, 0);
	CHECK(standby_did(HF_STANDBY_CANCEL_ARBITER));
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	CHECK(standby_did(HF_STANDBY_PROMOTE));
}

TEST(a_vm_that_ended_is_not_promoted_by_a_vote_that_is_won)
{
	be_lost();
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_VM_ENDED, 0, 0);
	CHECK(!standby_did(HF_STANDBY_DISCARD));
	standby(HF_STANDBY_PEER_DEAD, 0, 0);
	CHECK(!standby_did(HF_STANDBY_PROMOTE));
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	CHECK_EQ(sa.a[0].kind, HF_STANDBY_RELEASE_LEASE);
	CHECK(!standby_did(HF_STANDBY_SEND_DISCARDED)); /* there is no link any more */
	CHECK_EQ(s.state, HF_STANDBY_IDLE);
}

/* The vote, not the proof, decides against what the primary had asked for before it died. */
TEST(proof_while_a_discard_is_pending_promotes)
{
	be_lost();
	standby(HF_STANDBY_ABANDON, 0, 0);
	standby(HF_STANDBY_PEER_DEAD, 0, 0);
	CHECK(standby_did(HF_STANDBY_PROMOTE)->must_win);
	standby(HF_STANDBY_ARBITER_CANCELLED, 0, 7);
	CHECK(standby_did(HF_STANDBY_ASK_ARBITER));
}

TEST(force_runs_without_a_verdict_but_not_against_one)
{
	be_lost();
	standby(HF_STANDBY_PROMOTE_FORCED, 0, 0);
	CHECK(!standby_did(HF_STANDBY_PROMOTE)->must_win);
	standby(HF_STANDBY_LIVE, 0, 0);
	CHECK_EQ(s.state, HF_STANDBY_PROMOTED);
	be_lost();
	standby(HF_STANDBY_PROMOTE_FORCED, 0, 0);
	standby(HF_STANDBY_ARBITER_DENIED, 0, 7);
	CHECK_EQ(s.state, HF_STANDBY_DENIED);
}

TEST(a_lease_that_nobody_will_use_is_released)
{
	make_ready();
	standby(HF_STANDBY_VM_DIED, 0, 0);
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	standby(HF_STANDBY_LOAD_FAILED, 0, 0);
	CHECK(standby_did(HF_STANDBY_RELEASE_LEASE));
	make_ready();
	standby(HF_STANDBY_VM_DIED, 0, 0);
	standby(HF_STANDBY_LOAD_FAILED, 0, 0);
	CHECK(standby_did(HF_STANDBY_CANCEL_ARBITER));
	standby(HF_STANDBY_ARBITER_GRANTED, 0, 7);
	CHECK(standby_did(HF_STANDBY_RELEASE_LEASE));
}

TEST(both_sides_have_a_lease_or_none_has)
{
	hf_standby_init(&s);
	s.has_vote = true;
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_SYNC_BEGIN, 0, 0);
	CHECK(standby_did(HF_STANDBY_REFUSE));
	hf_standby_init(&s);
	standby(HF_STANDBY_LINK_UP, 0, 0);
	standby(HF_STANDBY_SYNC_BEGIN, 0, 7);
	CHECK(standby_did(HF_STANDBY_REFUSE));
}

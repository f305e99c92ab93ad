/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/commit.h"

static const struct hf_id S1 = { 1, 1 };
static const struct hf_id S2 = { 2, 2 };

static struct hf_primary p;
static struct hf_standby s;
static struct hf_primary_actions pa;
static struct hf_standby_actions sa;

static void primary(enum hf_primary_event_kind kind, uint64_t epoch, struct hf_id session)
{
	struct hf_primary_event ev = {
		.kind = kind, .epoch = epoch, .session = session, .fresh = S1
	};

	hf_primary_step(&p, &ev, &pa);
}

static void standby(enum hf_standby_event_kind kind, uint64_t epoch, struct hf_id session)
{
	struct hf_standby_event ev = { .kind = kind, .epoch = epoch, .session = session };

	hf_standby_step(&s, &ev, &sa);
}

static bool did(enum hf_primary_action_kind kind)
{
	for (unsigned int i = 0; i < pa.n; i++)
		if (pa.a[i].kind == kind)
			return true;
	return false;
}

static bool standby_did(enum hf_standby_action_kind kind)
{
	for (unsigned int i = 0; i < sa.n; i++)
		if (sa.a[i].kind == kind)
			return true;
	return false;
}

static void protect(void)
{
	hf_primary_init(&p, 0);
	primary(HF_PRIMARY_LINK_UP, 0, (struct hf_id){ 0 });
	CHECK(did(HF_PRIMARY_BEGIN_SYNC));
	CHECK(!did(HF_PRIMARY_HOLD));
	primary(HF_PRIMARY_SYNCED, 0, S1);
	CHECK_EQ(pa.a[0].kind, HF_PRIMARY_HOLD);
	CHECK_EQ(pa.a[1].kind, HF_PRIMARY_CAPTURE);
	CHECK(pa.a[1].resume);
	primary(HF_PRIMARY_CAPTURED, 1, S1);
	CHECK(did(HF_PRIMARY_SEND));
	primary(HF_PRIMARY_ACK, 1, S1);
	CHECK(did(HF_PRIMARY_RELEASE));
	CHECK_EQ(p.committed, 1);
}

TEST(outputs_leave_with_their_acknowledgement_only)
{
	protect();
	primary(HF_PRIMARY_EPOCH_DUE, 0, S1);
	CHECK(did(HF_PRIMARY_CAPTURE));
	primary(HF_PRIMARY_ACK, 2, S1);
	CHECK(!did(HF_PRIMARY_RELEASE)); /* nothing was sent yet */
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	primary(HF_PRIMARY_ACK, 1, S1);
	CHECK(!did(HF_PRIMARY_RELEASE)); /* an old one */
	primary(HF_PRIMARY_ACK, 2, S1);
	CHECK(did(HF_PRIMARY_RELEASE));
}

TEST(a_cut_link_releases_nothing)
{
	protect();
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING);
	CHECK(!did(HF_PRIMARY_PASS));
	primary(HF_PRIMARY_EPOCH_DUE, 0, S1);
	CHECK(!did(HF_PRIMARY_CAPTURE));
	primary(HF_PRIMARY_PEER_DEAD, 0, S1);
	CHECK(did(HF_PRIMARY_PASS));
	CHECK_EQ(p.state, HF_PRIMARY_ALONE);
}

TEST(a_lost_acknowledgement_counts_when_the_link_is_back)
{
	protect();
	primary(HF_PRIMARY_EPOCH_DUE, 0, S1);
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	primary(HF_PRIMARY_LINK_UP, 2, S1);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
	CHECK(did(HF_PRIMARY_RELEASE));
	CHECK_EQ(p.committed, 2);
}

TEST(a_lost_epoch_goes_with_the_next_one)
{
	protect();
	primary(HF_PRIMARY_EPOCH_DUE, 0, S1);
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	primary(HF_PRIMARY_LINK_UP, 1, S1);
	CHECK(did(HF_PRIMARY_DROP));
	CHECK(!did(HF_PRIMARY_RELEASE));
	primary(HF_PRIMARY_EPOCH_DUE, 0, S1);
	CHECK_EQ(pa.a[0].epoch, 3);
}

/* Without a lease nobody is asked, and nobody else's word counts. */
TEST(without_a_lease_there_is_no_vote)
{
	protect();
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	CHECK(!did(HF_PRIMARY_ASK_ARBITER));
	primary(HF_PRIMARY_ARBITER_GRANTED, 0, S1);
	primary(HF_PRIMARY_ARBITER_DENIED, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING);
}

TEST(silence_is_no_proof_and_passes)
{
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING);
	primary(HF_PRIMARY_PEER_HEARD, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
}

TEST(a_promoted_peer_ends_this_side)
{
	protect();
	primary(HF_PRIMARY_PEER_SILENT, 0, S1);
	primary(HF_PRIMARY_PEER_PROMOTED, 1, S2);
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING); /* not our session: not our business */
	primary(HF_PRIMARY_PEER_PROMOTED, 1, S1);
	CHECK_EQ(p.state, HF_PRIMARY_SUPERSEDED);
	CHECK_EQ(pa.a[0].kind, HF_PRIMARY_DISCARD);
	CHECK_EQ(pa.a[1].kind, HF_PRIMARY_FREEZE);
}

TEST(protection_is_given_up_only_with_the_standby_s_word)
{
	protect();
	for (uint64_t e = 2; e < 2 + HF_PRIMARY_FAILURES_MAX; e++) {
		primary(HF_PRIMARY_EPOCH_DUE, 0, S1);
		primary(HF_PRIMARY_CAPTURE_FAILED, e, S1);
	}
	CHECK_EQ(p.state, HF_PRIMARY_LEAVING);
	CHECK(did(HF_PRIMARY_SEND_ABANDON));
	CHECK(!did(HF_PRIMARY_PASS));
	primary(HF_PRIMARY_PEER_DISCARDED, 0, S1);
	CHECK(did(HF_PRIMARY_PASS));
}

TEST(handover_stops_the_vm_before_it_says_so)
{
	protect();
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, S1);
	CHECK_EQ(pa.a[0].kind, HF_PRIMARY_CAPTURE);
	CHECK(!pa.a[0].resume);
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	CHECK(!did(HF_PRIMARY_SEND_HANDOVER));
	primary(HF_PRIMARY_ACK, 2, S1);
	CHECK_EQ(pa.a[1].kind, HF_PRIMARY_FREEZE);
	CHECK_EQ(pa.a[2].kind, HF_PRIMARY_SEND_HANDOVER);
	CHECK_EQ(pa.a[2].epoch, 2);
}

TEST(handover_is_called_off_when_the_link_goes)
{
	protect();
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, S1);
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	CHECK(did(HF_PRIMARY_RESUME));
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING);
	CHECK(!did(HF_PRIMARY_PASS));
}

/* Silence calls it off while the final capture runs, and is over before that ends: the VM stood
 * still for a hand-over that nobody wanted any more. */
TEST(handover_that_was_called_off_does_not_leave_the_vm_stopped)
{
	protect();
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, S1);
	primary(HF_PRIMARY_PEER_SILENT, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_HOLDING);
	CHECK(!did(HF_PRIMARY_RESUME)); /* the capture still needs it to stand still */
	primary(HF_PRIMARY_PEER_HEARD, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	CHECK(did(HF_PRIMARY_SEND));
	CHECK(did(HF_PRIMARY_RESUME));
	primary(HF_PRIMARY_ACK, 2, S1);
	CHECK(did(HF_PRIMARY_RELEASE));
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
}

TEST(handover_wanted_again_takes_the_final_capture_that_runs)
{
	protect();
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, S1);
	primary(HF_PRIMARY_PEER_SILENT, 0, S1);
	primary(HF_PRIMARY_PEER_HEARD, 0, S1);
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, S1);
	CHECK(!did(HF_PRIMARY_CAPTURE));
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	CHECK(!did(HF_PRIMARY_RESUME));
	primary(HF_PRIMARY_ACK, 2, S1);
	CHECK(did(HF_PRIMARY_SEND_HANDOVER));
}

/* As PROTECTED it would have held outputs for a standby that is not there, and asked nobody. */
TEST(protection_does_not_begin_while_the_standby_is_silent)
{
	hf_primary_init(&p, 0);
	primary(HF_PRIMARY_LINK_UP, 0, (struct hf_id){ 0 });
	primary(HF_PRIMARY_PEER_SILENT, 0, S1);
	primary(HF_PRIMARY_SYNCED, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_SYNCING);
	CHECK(!did(HF_PRIMARY_HOLD));
	primary(HF_PRIMARY_PEER_HEARD, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_PROTECTED);
	CHECK_EQ(pa.a[0].kind, HF_PRIMARY_HOLD);
	CHECK_EQ(pa.a[1].kind, HF_PRIMARY_CAPTURE);
}

TEST(what_was_synced_on_a_connection_that_broke_is_forgotten)
{
	hf_primary_init(&p, 0);
	primary(HF_PRIMARY_LINK_UP, 0, (struct hf_id){ 0 });
	primary(HF_PRIMARY_PEER_SILENT, 0, S1);
	primary(HF_PRIMARY_SYNCED, 0, S1);
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	CHECK(did(HF_PRIMARY_STOP_SYNC));
	primary(HF_PRIMARY_LINK_UP, 0, (struct hf_id){ 0 });
	primary(HF_PRIMARY_PEER_HEARD, 0, S1);
	CHECK_EQ(p.state, HF_PRIMARY_SYNCING);
}

static void make_ready(void)
{
	hf_standby_init(&s);
	standby(HF_STANDBY_LINK_UP, 0, (struct hf_id){ 0 });
	standby(HF_STANDBY_SYNC_BEGIN, 0, S1);
	CHECK(standby_did(HF_STANDBY_CLEAR));
	CHECK(!hf_standby_may_promote(&s));
	standby(HF_STANDBY_EPOCH_WHOLE, 1, S1);
	CHECK(standby_did(HF_STANDBY_ACK));
	CHECK(hf_standby_may_promote(&s));
}

TEST(standby_is_promoted_by_proof_only)
{
	make_ready();
	standby(HF_STANDBY_LINK_DOWN, 0, S1);
	CHECK_EQ(s.state, HF_STANDBY_LOST);
	CHECK(!standby_did(HF_STANDBY_PROMOTE));
	standby(HF_STANDBY_PROMOTE_WANTED, 0, S1);
	CHECK(standby_did(HF_STANDBY_REFUSE_ORDER));
	standby(HF_STANDBY_PEER_DEAD, 0, S1);
	CHECK(standby_did(HF_STANDBY_PROMOTE));
	standby(HF_STANDBY_LIVE, 0, S1);
	CHECK_EQ(s.state, HF_STANDBY_PROMOTED);
	standby(HF_STANDBY_LINK_UP, 0, S1);
	CHECK(standby_did(HF_STANDBY_SEND_PROMOTED));
}

TEST(half_a_synchronisation_cannot_be_promoted)
{
	hf_standby_init(&s);
	standby(HF_STANDBY_LINK_UP, 0, S1);
	standby(HF_STANDBY_SYNC_BEGIN, 0, S1);
	standby(HF_STANDBY_PEER_DEAD, 0, S1);
	CHECK(!standby_did(HF_STANDBY_PROMOTE));
	CHECK_EQ(s.state, HF_STANDBY_IDLE);
}

TEST(another_primary_cannot_overwrite_an_epoch)
{
	make_ready();
	standby(HF_STANDBY_LINK_DOWN, 0, S1);
	standby(HF_STANDBY_LINK_UP, 0, S2);
	CHECK(standby_did(HF_STANDBY_REFUSE));
	CHECK_EQ(s.epoch, 1);
	standby(HF_STANDBY_LINK_UP, 0, S1);
	CHECK_EQ(s.state, HF_STANDBY_READY);
	standby(HF_STANDBY_SYNC_BEGIN, 0, S2);
	CHECK(standby_did(HF_STANDBY_REFUSE));
}

TEST(after_promotion_nothing_is_acknowledged)
{
	make_ready();
	standby(HF_STANDBY_PEER_SILENT, 0, S1);
	CHECK(!standby_did(HF_STANDBY_ASK_ARBITER));
	standby(HF_STANDBY_ARBITER_GRANTED, 0, S1);
	CHECK_EQ(s.state, HF_STANDBY_LOST);
	standby(HF_STANDBY_PROMOTE_FORCED, 0, S1);
	CHECK(standby_did(HF_STANDBY_PROMOTE));
	standby(HF_STANDBY_EPOCH_WHOLE, 2, S1);
	CHECK(!standby_did(HF_STANDBY_ACK));
}

static void protect_shared(void)
{
	protect();
	p.is_storage_shared = true;
}

TEST(on_shared_storage_a_death_is_told_only_when_the_disks_are_cut)
{
	protect_shared();
	primary(HF_PRIMARY_VM_DIED, 0, S1);
	CHECK(did(HF_PRIMARY_CUT_DISKS));
	CHECK(!did(HF_PRIMARY_SEND_DEAD));
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	primary(HF_PRIMARY_LINK_UP, 1, S1);
	CHECK(p.is_link_up);
	CHECK(!did(HF_PRIMARY_SEND_DEAD));
	primary(HF_PRIMARY_DISKS_CUT, 0, S1);
	CHECK(did(HF_PRIMARY_SEND_DEAD));
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	primary(HF_PRIMARY_LINK_UP, 1, S1);
	CHECK(did(HF_PRIMARY_SEND_DEAD));
}

TEST(disks_that_are_cut_while_nobody_listens_are_told_of_later)
{
	protect_shared();
	primary(HF_PRIMARY_LINK_DOWN, 0, S1);
	primary(HF_PRIMARY_VM_DIED, 0, S1);
	CHECK(did(HF_PRIMARY_CUT_DISKS));
	primary(HF_PRIMARY_DISKS_CUT, 0, S1);
	CHECK(!did(HF_PRIMARY_SEND_DEAD));
	primary(HF_PRIMARY_LINK_UP, 1, S1);
	CHECK(did(HF_PRIMARY_SEND_DEAD));
}

TEST(on_shared_storage_a_hand_over_is_told_only_when_the_disks_are_cut)
{
	protect_shared();
	primary(HF_PRIMARY_HANDOVER_WANTED, 0, S1);
	primary(HF_PRIMARY_CAPTURED, 2, S1);
	primary(HF_PRIMARY_ACK, 2, S1);
	CHECK_EQ(p.state, HF_PRIMARY_HANDED_OVER);
	CHECK(did(HF_PRIMARY_FREEZE));
	CHECK(did(HF_PRIMARY_CUT_DISKS));
	CHECK(!did(HF_PRIMARY_SEND_HANDOVER));
	primary(HF_PRIMARY_DISKS_CUT, 0, S1);
	CHECK(did(HF_PRIMARY_SEND_HANDOVER));
	CHECK_EQ(pa.a[0].epoch, 2);
}

TEST(disks_are_cut_when_the_standby_went_live_and_only_on_shared_storage)
{
	protect_shared();
	primary(HF_PRIMARY_PEER_PROMOTED, 1, S1);
	CHECK(did(HF_PRIMARY_CUT_DISKS));
	protect();
	primary(HF_PRIMARY_PEER_PROMOTED, 1, S1);
	CHECK(!did(HF_PRIMARY_CUT_DISKS));
	protect();
	primary(HF_PRIMARY_VM_DIED, 0, S1);
	CHECK(!did(HF_PRIMARY_CUT_DISKS));
	CHECK(did(HF_PRIMARY_SEND_DEAD));
}

/* LOST with epoch 1, on shared storage or not. */
static void be_lost(bool is_storage_shared)
{
	hf_standby_init(&s);
	s.is_storage_shared = is_storage_shared;
	standby(HF_STANDBY_LINK_UP, 0, S1);
	standby(HF_STANDBY_SYNC_BEGIN, 0, S1);
	standby(HF_STANDBY_EPOCH_WHOLE, 1, S1);
	standby(HF_STANDBY_PEER_SILENT, 0, S1);
	CHECK_EQ(s.state, HF_STANDBY_LOST);
}

static bool did_promote_at_once(void)
{
	CHECK_EQ(sa.n, 2);
	CHECK_EQ(sa.a[1].kind, HF_STANDBY_PROMOTE);
	return !sa.a[1].must_wait;
}

TEST(without_proof_a_promotion_on_shared_storage_waits_for_the_write_deadline)
{
	const enum hf_standby_event_kind proofs[] = { HF_STANDBY_PEER_DEAD, HF_STANDBY_VM_DIED,
						      HF_STANDBY_HANDOVER };
	for (unsigned int i = 0; i < 3; i++) {
		be_lost(true);
		standby(proofs[i], 1, S1);
		CHECK(did_promote_at_once());
	}
	be_lost(true);
	standby(HF_STANDBY_PROMOTE_FORCED, 1, S1);
	CHECK(!did_promote_at_once());
	be_lost(false);
	standby(HF_STANDBY_PROMOTE_FORCED, 1, S1);
	CHECK(did_promote_at_once());
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* R7 of core/supervise.h: a cluster manager decides. */
#include "core/test-supervise.h"

static const struct hf_supervise_definition managed = { .is_managed = true,
							.restarts_max = 3,
							.restart_window_ns = 10 * MIN_NS };
static const struct hf_supervise_definition managed_pair = { .is_managed = true,
							     .has_two_hosts = true,
							     .restarts_max = 3,
							     .restart_window_ns = 10 * MIN_NS };

static enum hf_supervise_action assign(enum hf_supervise_assigned what)
{
	return feed(
		(struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_ASSIGNED, .assigned = what });
}

static enum hf_supervise_action define(const struct hf_supervise_definition *d)
{
	return feed(
		(struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_DEFINED, .definition = d });
}

/* Pacemaker has it run here. */
static void run_managed(const struct hf_supervise_definition *d)
{
	begin(d);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
}

TEST(nothing_is_started_that_is_not_assigned)
{
	begin(&managed);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_NOTHING);
	CHECK(!s.is_wanted);
	CHECK_EQ(tell(HF_SUPERVISE_EV_RECOVER), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING); /* nor without an order */
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
}

TEST(a_managed_vm_that_has_died_waits_for_the_manager)
{
	static const int codes[] = { HF_SUPERVISE_VM_DIED, HF_SUPERVISE_KILLED, HF_SUPERVISE_CANNOT,
				     HF_SUPERVISE_SUPERSEDED, HF_SUPERVISE_LEASE_LOST };

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		run_managed(i % 2 ? &managed : &managed_pair);
		CHECK_EQ(ended(codes[i]), HF_SUPERVISE_DO_NOTHING);
		CHECK(s.state == HF_SUPERVISE_FAILED || s.state == HF_SUPERVISE_OFF);
		CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(tell(HF_SUPERVISE_EV_CLEAR), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_NONE), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	}
}

TEST(a_crash_is_shown_until_the_next_start_and_a_stop_is_no_cure)
{
	run_managed(&managed);
	CHECK_EQ(ended(HF_SUPERVISE_VM_DIED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_CRASHED);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_NONE), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_FAILED);
	CHECK_EQ(tell(HF_SUPERVISE_EV_CLEAR), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
}

TEST(its_own_policy_to_restart_it_is_obeyed)
{
	run_managed(&managed);
	CHECK_EQ(ended(HF_SUPERVISE_AGAIN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_WAITING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START);
	CHECK_EQ(ended(HF_SUPERVISE_AGAIN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_NONE), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING); /* it was stopped meanwhile */
}

/* Neither CLEAR nor a definition that is mended is an order to start it. */
TEST(what_has_failed_is_started_by_the_manager_alone)
{
	run_managed(&managed);
	for (unsigned int i = 0; i < managed.restarts_max; i++) {
		CHECK_EQ(ended(HF_SUPERVISE_AGAIN), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(later(30 * S_NS), HF_SUPERVISE_DO_START);
		CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	}
	CHECK_EQ(ended(HF_SUPERVISE_AGAIN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_TOO_OFTEN);
	CHECK_EQ(tell(HF_SUPERVISE_EV_CLEAR), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	CHECK_EQ(ended(HF_SUPERVISE_USAGE), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_BAD_DEFINITION);
	CHECK_EQ(define(&managed), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
}

/* What the manager wanted was not an operator's word, either. */
TEST(managed_no_more_only_what_runs_is_wanted)
{
	static const struct hf_supervise_definition pair = { .has_two_hosts = true,
							     .is_first = true,
							     .restarts_max = 3,
							     .restart_window_ns = 10 * MIN_NS };

	run_managed(&managed_pair);
	CHECK_EQ(define(&pair), HF_SUPERVISE_DO_NOTHING);
	CHECK(s.is_wanted);
	begin(&managed_pair);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(define(&pair), HF_SUPERVISE_DO_NOTHING);
	CHECK(!s.is_wanted);
	CHECK_EQ(s.state, HF_SUPERVISE_UP); /* the other host's may need it */
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING);
}

TEST(a_managed_start_that_fails_is_told_and_not_tried_again)
{
	begin(&managed);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_FAILED);
	CHECK_EQ(s.why, HF_SUPERVISE_NO_START);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START); /* nothing to be cleared */
	CHECK_EQ(ended(HF_SUPERVISE_LEASE_LOST), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_ELSEWHERE);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START); /* the lease may be free */
}

/* The lease of a host that has died is free only after a while: the agent waits for it. */
TEST(a_lease_that_is_not_free_yet_is_tried_for_again_and_again)
{
	begin(&managed_pair);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(ended(i % 2 ? HF_SUPERVISE_LEASE_LOST : HF_SUPERVISE_UNKNOWN_PEER),
			 HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(s.state, HF_SUPERVISE_WAITING);
		CHECK(s.is_ordered);
		CHECK_EQ(later(2 * S_NS), HF_SUPERVISE_DO_START);
	}
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK(!s.is_ordered);
}

TEST(frozen_it_is_started_by_the_manager_alone)
{
	run_managed(&managed);
	CHECK_EQ(froze(), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(frozen(0),
		 HF_SUPERVISE_DO_NOTHING); /* released: Pacemaker's affair all the same */
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(frozen(1), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_START,
						   .is_fresh = true }),
		 HF_SUPERVISE_DO_START);

	run_managed(&managed_pair);
	CHECK_EQ(froze(), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START_STANDBY);
}

TEST(an_assigned_standby_needs_no_order_and_comes_back)
{
	begin(&managed_pair);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_NOTHING);
	CHECK(!hf_supervise_is_pending(&s));
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_NONE), HF_SUPERVISE_DO_NOTHING); /* not ended yet */
	CHECK_EQ(place(HF_SUPERVISE_PLACE_END), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);

	begin(&managed);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_NO_PAIR);
}

TEST(an_empty_standby_makes_room_for_what_is_to_run)
{
	begin(&managed_pair);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING); /* not without an order */
	CHECK_EQ(place(HF_SUPERVISE_PLACE_WAIT), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_NOTHING);
	CHECK(hf_supervise_is_pending(&s));
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_START);
	CHECK(s.is_ordered);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK(!s.is_ordered);
}

TEST(also_one_that_was_still_starting_makes_room)
{
	begin(&managed_pair);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_START);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK(!s.is_ordered);
}

TEST(a_standby_of_what_runs_elsewhere_is_left)
{
	begin(&managed_pair);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_NOTHING);
	CHECK(!hf_supervise_is_pending(&s));
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING); /* the order is done */
}

/* The agent says "run", and then has the keeper promoted: one that dies at that moment is not replaced by a
 * VM that boots. */
TEST(a_standby_that_dies_before_it_is_promoted_is_not_booted)
{
	begin(&managed_pair);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
}

TEST(handed_over_by_an_operator_it_becomes_the_standby)
{
	run_managed(&managed_pair);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
						   .end = { .is_handed_over = true } }),
		 HF_SUPERVISE_DO_NOTHING); /* its place is of before */
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_START_STANDBY);

	run_managed(&managed_pair); /* shut down by the guest */
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
}

TEST(demoted_it_is_followed_by_a_standby)
{
	run_managed(&managed_pair);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_NOTHING); /* left alone */
	CHECK_EQ(s.role, HF_SUPERVISE_RUN);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_NOTHING);

	run_managed(&managed_pair); /* the same without the daemon's order */
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_STANDBY), HF_SUPERVISE_DO_START_STANDBY);
}

/* A daemon that is started anew, or that slept: what is here is found, what is not is not made up for. */
TEST(what_a_new_daemon_finds_counts)
{
	begin(&managed_pair);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_KEEPER_FOUND), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK(s.is_wanted);
	CHECK_EQ(assign(HF_SUPERVISE_ASSIGNED_NONE), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
	CHECK_EQ(ended(HF_SUPERVISE_AGAIN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);

	hf_supervise_init(&s); /* wanted, by an earlier definition */
	s.is_wanted = true;
	CHECK_EQ(define(&managed), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
}

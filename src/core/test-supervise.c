/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/test-supervise.h"
#include "../../tests/test.h"

static const struct hf_supervise_definition single = { .restarts_max = 3,
						       .restart_window_ns = 10 * MIN_NS };
static const struct hf_supervise_definition first = {
	.has_two_hosts = true, .is_first = true, .restarts_max = 3, .restart_window_ns = 10 * MIN_NS
};
static const struct hf_supervise_definition second = { .has_two_hosts = true,
						       .restarts_max = 3,
						       .restart_window_ns = 10 * MIN_NS };

TEST(what_is_not_wanted_stays_down)
{
	begin(&single);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
	CHECK_EQ(hf_supervise_deadline_ns(&s), UINT64_MAX);
}

TEST(an_order_starts_it_and_a_second_one_is_refused)
{
	begin(&single);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
}

TEST(what_is_not_defined_is_not_started)
{
	hf_supervise_init(&s);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_REFUSE);
	CHECK(!s.is_wanted);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_UNDEFINED);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_DEFINED,
						   .definition = &single }),
		 HF_SUPERVISE_DO_START);
}

TEST(an_orderly_end_and_an_order_to_stop_stay)
{
	run(&single);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_NOTHING);
	CHECK(!s.is_wanted);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);

	run(&single);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_STOP); /* with force, this time */
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
}

TEST(a_start_while_it_stops_is_obeyed_afterwards)
{
	run(&single);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_START);
}

TEST(a_stop_that_the_keeper_refuses_has_not_been)
{
	run(&first);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP_REFUSED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
	CHECK(s.is_wanted);
}

TEST(a_dead_keeper_is_replaced_with_growing_delays_until_it_is_too_often)
{
	static const uint64_t delay_s[] = { 1, 2, 4 };

	run(&single);
	for (unsigned int i = 0; i < 3; i++) {
		CHECK_EQ(ended(i == 1 ? HF_SUPERVISE_AGAIN : HF_SUPERVISE_KILLED),
			 HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(s.state, HF_SUPERVISE_WAITING);
		CHECK_EQ(hf_supervise_deadline_ns(&s) - now_ns, delay_s[i] * S_NS);
		CHECK_EQ(later(delay_s[i] * S_NS - 1), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(later(1), HF_SUPERVISE_DO_START);
		(void)up(HF_SUPERVISE_RUN);
	}
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_FAILED);
	CHECK_EQ(s.why, HF_SUPERVISE_TOO_OFTEN);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_CLEAR), HF_SUPERVISE_DO_START);
}

TEST(the_window_passes)
{
	run(&single);
	for (unsigned int i = 0; i < 20; i++) {
		CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(later(S_NS * 4), HF_SUPERVISE_DO_START);
		(void)up(HF_SUPERVISE_RUN);
		now_ns += 4 * MIN_NS; /* three of them in ten minutes at most */
	}
}

TEST(no_restarts_means_none)
{
	struct hf_supervise_definition d = single;

	d.restarts_max = 0;
	run(&d);
	CHECK_EQ(ended(HF_SUPERVISE_AGAIN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_FAILED);
}

TEST(who_ordered_the_start_hears_that_it_failed)
{
	begin(&single);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	CHECK_EQ(ended(HF_SUPERVISE_CANNOT), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_FAILED);
	CHECK_EQ(s.why, HF_SUPERVISE_NO_START);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_START);
	/* ... and a boot tries again: what it needs may not have been there yet */
	begin(&single);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START);
	CHECK_EQ(ended(HF_SUPERVISE_CANNOT), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START);
}

TEST(a_bad_definition_waits_for_a_better_one)
{
	begin(&single);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START);
	CHECK_EQ(ended(HF_SUPERVISE_USAGE), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_BAD_DEFINITION);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_DEFINED,
						   .definition = &single }),
		 HF_SUPERVISE_DO_START);
}

TEST(a_definition_may_go_and_come_while_it_runs)
{
	run(&single);
	CHECK_EQ(tell(HF_SUPERVISE_EV_UNDEFINED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_HELD);
	CHECK_EQ(later(MIN_NS), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_DEFINED,
						   .definition = &single }),
		 HF_SUPERVISE_DO_START);
}

TEST(what_is_found_is_left_as_it_is)
{
	begin(&single);
	CHECK_EQ(tell(HF_SUPERVISE_EV_KEEPER_FOUND), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING); /* it hangs */
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
}

TEST(frozen_here_is_not_run_here_unless_that_is_allowed)
{
	struct hf_supervise_definition d = single;

	run(&single);
	CHECK_EQ(froze(), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_FROZEN);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_START,
						   .is_fresh = true }),
		 HF_SUPERVISE_DO_START);
	(void)up(HF_SUPERVISE_RUN);
	CHECK_EQ(froze(), HF_SUPERVISE_DO_NOTHING); /* once was allowed */
	CHECK_EQ(s.why, HF_SUPERVISE_FROZEN);
	now_ns += MIN_NS;
	CHECK_EQ(frozen(0), HF_SUPERVISE_DO_START); /* released, and wanted still */

	d.may_run_beside_frozen = true;
	run(&d);
	for (unsigned int i = 0; i < 3; i++) {
		CHECK_EQ(froze(), HF_SUPERVISE_DO_NOTHING);
		CHECK_EQ(later(MIN_NS), HF_SUPERVISE_DO_START);
		(void)up(HF_SUPERVISE_RUN);
	}
	CHECK_EQ(froze(), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_FAILED); /* a guest that panics at each boot */
}

TEST(who_cannot_recover_a_vm_forgets_that_it_was_asked)
{
	run(&single);
	(void)tell(HF_SUPERVISE_EV_STOP);
	(void)ended(0);
	CHECK_EQ(frozen(1), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_RECOVER), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(frozen(0), HF_SUPERVISE_DO_NOTHING); /* another host was asked meanwhile */
	CHECK_EQ(tell(HF_SUPERVISE_EV_RECOVER), HF_SUPERVISE_DO_START);
}

TEST(of_two_hosts_the_first_runs_it)
{
	begin(&first);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START);
	begin(&second);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START_STANDBY);
	CHECK_EQ(up(HF_SUPERVISE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING); /* it went live */
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START); /* it was here last */
}

TEST(after_a_failover_this_side_becomes_the_standby)
{
	static const int codes[] = { HF_SUPERVISE_VM_DIED, HF_SUPERVISE_SUPERSEDED,
				     HF_SUPERVISE_LEASE_LOST };

	for (unsigned int i = 0; i < 3; i++) {
		run(&first);
		CHECK_EQ(ended(codes[i]), HF_SUPERVISE_DO_START_STANDBY);
	}
	run(&first);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
						   .end = { .is_handed_over = true } }),
		 HF_SUPERVISE_DO_START_STANDBY);
	run(&first);
	CHECK_EQ(froze(), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START_STANDBY);
	/* A dead keeper's host asks: the other side may have nothing to go on from. */
	run(&first);
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START);
	CHECK_EQ(ended(HF_SUPERVISE_SUPERSEDED), HF_SUPERVISE_DO_START_STANDBY);
}

TEST(nobody_knows_is_asked_again_and_never_counted)
{
	begin(&first);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START);
	for (unsigned int i = 0; i < 50; i++) {
		CHECK_EQ(ended(HF_SUPERVISE_UNKNOWN_PEER), HF_SUPERVISE_DO_NOTHING);
		CHECK(hf_supervise_deadline_ns(&s) - now_ns <= MIN_NS);
		CHECK_EQ(later(MIN_NS), HF_SUPERVISE_DO_START);
	}
	CHECK_EQ(s.restarts, 0);
}

TEST(a_lease_that_another_host_has_is_no_fault)
{
	run(&single);
	CHECK_EQ(ended(HF_SUPERVISE_LEASE_LOST), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_ELSEWHERE);
	CHECK_EQ(tell(HF_SUPERVISE_EV_RECOVER), HF_SUPERVISE_DO_START);
}

TEST(a_crash_that_is_to_be_left_is_left)
{
	struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
					 .end = { .code = HF_SUPERVISE_VM_DIED, .is_left = true } };

	run(&single);
	CHECK_EQ(feed(ev), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_CRASHED);
	CHECK_EQ(later(3600 * S_NS), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(tell(HF_SUPERVISE_EV_START), HF_SUPERVISE_DO_REFUSE);
	CHECK_EQ(tell(HF_SUPERVISE_EV_CLEAR), HF_SUPERVISE_DO_START); /* it is wanted still */
}

TEST(who_has_nobody_to_go_to_is_started_here)
{
	struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
					 .end = { .code = HF_SUPERVISE_VM_DIED,
						  .is_given = true } };

	run(&single);
	CHECK_EQ(ended(HF_SUPERVISE_VM_DIED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START);
	(void)up(HF_SUPERVISE_RUN);
	CHECK_EQ(feed(ev), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_ELSEWHERE);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_NOTHING);
	later(2 * S_NS);
	CHECK_EQ(tell(HF_SUPERVISE_EV_RECOVER), HF_SUPERVISE_DO_START);
	(void)up(HF_SUPERVISE_RUN);
	(void)feed(ev);
	later(9 * S_NS);
	CHECK_EQ(tell(HF_SUPERVISE_EV_RECOVER), HF_SUPERVISE_DO_START);
	(void)up(HF_SUPERVISE_RUN);
	(void)feed(ev); /* as often as that it is started again, and no more */
	CHECK_EQ(s.why, HF_SUPERVISE_TOO_OFTEN);
	CHECK_EQ(tell(HF_SUPERVISE_EV_RECOVER), HF_SUPERVISE_DO_REFUSE);
}

TEST(what_is_to_end_ends_when_it_is_up)
{
	begin(&first);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_END), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
}

/* E.g. a standby that may hold the only copy. It would refuse as often as it is asked. */
TEST(what_refuses_to_end_is_not_asked_again_at_once)
{
	begin(&second);
	want(true);
	up(HF_SUPERVISE_STANDBY);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_END), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(tell(HF_SUPERVISE_EV_STOP_REFUSED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
	CHECK(s.is_wanted);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_END), HF_SUPERVISE_DO_STOP);
}

TEST(a_standby_that_was_stopped_rests_and_one_that_died_comes_back)
{
	begin(&second);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START_STANDBY);
	(void)up(HF_SUPERVISE_STANDBY);
	CHECK_EQ(ended(HF_SUPERVISE_KILLED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(later(S_NS), HF_SUPERVISE_DO_START_STANDBY);
	(void)up(HF_SUPERVISE_STANDBY);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_RESTING);
	CHECK(s.is_wanted);
}

TEST(the_other_hosts_word_ends_a_standby_and_no_running_vm)
{
	begin(&second);
	(void)want(true);
	(void)up(HF_SUPERVISE_STANDBY);
	CHECK_EQ(want(false), HF_SUPERVISE_DO_STOP);
	CHECK_EQ(ended(HF_SUPERVISE_ENDED), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
	run(&first);
	CHECK_EQ(want(false), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
}

TEST(the_place_is_told)
{
	begin(&first);
	(void)place(HF_SUPERVISE_PLACE_WAIT);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.why, HF_SUPERVISE_NOT_YET);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_NOTHING), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_STANDBY), HF_SUPERVISE_DO_START_STANDBY);
	(void)up(HF_SUPERVISE_STANDBY);
	CHECK_EQ(place(HF_SUPERVISE_PLACE_RUN), HF_SUPERVISE_DO_NOTHING); /* R1 */
}

TEST(every_name_and_text_is_there)
{
	for (int i = 0; i < HF_SUPERVISE_STATE_COUNT; i++)
		CHECK(hf_supervise_state_name((enum hf_supervise_state)i)[0]);
	for (int i = 1; i < HF_SUPERVISE_WHY_COUNT; i++)
		CHECK(hf_supervise_why_text((enum hf_supervise_why)i)[0]);
}

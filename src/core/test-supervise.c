/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/supervise.h"

#define S_NS 1000000000ULL
#define MIN_NS (60 * S_NS)

static const struct hf_supervise_definition single = { .restarts_max = 3,
						       .restart_window_ns = 10 * MIN_NS };
static const struct hf_supervise_definition first = {
	.has_two_hosts = true, .is_first = true, .restarts_max = 3, .restart_window_ns = 10 * MIN_NS
};
static const struct hf_supervise_definition second = { .has_two_hosts = true,
						       .restarts_max = 3,
						       .restart_window_ns = 10 * MIN_NS };

static struct hf_supervise s;
static uint64_t now_ns;

static enum hf_supervise_action feed(struct hf_supervise_event ev)
{
	ev.now_ns = now_ns;
	return hf_supervise_step(&s, &ev);
}

static enum hf_supervise_action tell(enum hf_supervise_event_kind kind)
{
	return feed((struct hf_supervise_event){ .kind = kind });
}

static enum hf_supervise_action up(enum hf_supervise_role role)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_UP, .role = role });
}

static enum hf_supervise_action ended(int code)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
						 .end = { .code = code } });
}

static enum hf_supervise_action want(bool is_wanted)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_WANTED,
						 .is_wanted = is_wanted });
}

static enum hf_supervise_action frozen(unsigned int count)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_FROZEN, .count = count });
}

static enum hf_supervise_action froze(void)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
						 .end = { .is_frozen = true } });
}

static enum hf_supervise_action place(enum hf_supervise_place where)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_PLACE, .place = where });
}

static enum hf_supervise_action later(uint64_t ns)
{
	now_ns += ns;
	return tell(HF_SUPERVISE_EV_TIME);
}

static void begin(const struct hf_supervise_definition *d)
{
	now_ns = 1000 * S_NS;
	hf_supervise_init(&s);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_DEFINED,
						   .definition = d }),
		 HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
}

/* Runs, as after a boot. */
static void run(const struct hf_supervise_definition *d)
{
	begin(d);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
}

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

/* ---- every state, every event ---- */

#define STATES_MAX (1u << 18)
#define T_NS (1000 * S_NS)

static struct hf_supervise *seen;
static unsigned int n_seen;
static unsigned int *table;

static void remember(const struct hf_supervise *state)
{
	const unsigned char *bytes = (const unsigned char *)state;
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < sizeof(*state); i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	for (uint32_t i = hash;; i++) {
		unsigned int *at = &table[i % (2 * STATES_MAX)];

		if (*at && memcmp(&seen[*at - 1], state, sizeof(*state)) == 0)
			return;
		if (*at)
			continue;
		CHECK(n_seen < STATES_MAX);
		seen[n_seen++] = *state;
		*at = n_seen;
		return;
	}
}

static void check_step(const struct hf_supervise *was, const struct hf_supervise *is,
		       enum hf_supervise_action action, const struct hf_supervise_event *ev)
{
	bool is_start = action == HF_SUPERVISE_DO_START || action == HF_SUPERVISE_DO_START_STANDBY;

	CHECK(is->restarts <= is->definition.restarts_max);
	CHECK(!is->why || is->state == HF_SUPERVISE_HELD || is->state == HF_SUPERVISE_FAILED);
	CHECK(is->state != HF_SUPERVISE_HELD || is->why);
	CHECK(is->state != HF_SUPERVISE_FAILED || is->why);
	CHECK(hf_supervise_has_keeper(is) || is->role == HF_SUPERVISE_NO_ROLE);
	CHECK(is->state != HF_SUPERVISE_WAITING || hf_supervise_deadline_ns(is) > ev->now_ns);
	if (action == HF_SUPERVISE_DO_REFUSE)
		CHECK(memcmp(was, is, sizeof(*is)) == 0);
	/* R1 */
	if (is_start)
		CHECK(!hf_supervise_has_keeper(was) || ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED);
	if (action == HF_SUPERVISE_DO_STOP)
		CHECK(ev->kind == HF_SUPERVISE_EV_STOP ||
		      (is->place == HF_SUPERVISE_PLACE_END && is->definition.has_two_hosts) ||
		      (ev->kind == HF_SUPERVISE_EV_WANTED && was->role == HF_SUPERVISE_STANDBY));
	if (hf_supervise_has_keeper(was))
		CHECK(hf_supervise_has_keeper(is) || ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED);
	/* R2 */
	if (is_start) {
		CHECK(is->is_wanted && is->is_defined);
		CHECK(is->state == HF_SUPERVISE_STARTING && is->role != HF_SUPERVISE_NO_ROLE);
	}
	if (is_start && was->state == HF_SUPERVISE_FAILED)
		CHECK(ev->kind == HF_SUPERVISE_EV_START || ev->kind == HF_SUPERVISE_EV_CLEAR ||
		      ev->kind == HF_SUPERVISE_EV_WANTED || ev->kind == HF_SUPERVISE_EV_DEFINED);
	/* R3 */
	if (action == HF_SUPERVISE_DO_START)
		CHECK(!is->frozen || is->is_fresh || is->definition.may_run_beside_frozen);
	/* R4 */
	if (action == HF_SUPERVISE_DO_START_STANDBY)
		CHECK(is->definition.has_two_hosts);
	if (action == HF_SUPERVISE_DO_START && ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED)
		CHECK(!is->is_elsewhere || is->place == HF_SUPERVISE_PLACE_RUN);
	/* R6 */
	if (ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED && was->state == HF_SUPERVISE_UP &&
	    ev->end.code == HF_SUPERVISE_ENDED && !ev->end.is_frozen && !ev->end.is_handed_over &&
	    was->role == HF_SUPERVISE_RUN)
		CHECK(is->state == HF_SUPERVISE_OFF && !is->is_wanted);
	/* Whatever is wanted and possible is not forgotten: there is a keeper, a time, or a reason. */
	if (is->is_wanted && is->place < HF_SUPERVISE_PLACE_NOTHING)
		CHECK(is->state != HF_SUPERVISE_OFF);
}

static void try_event(unsigned int i, struct hf_supervise_event ev)
{
	struct hf_supervise next = seen[i];
	enum hf_supervise_action action;

	ev.now_ns = T_NS;
	if (ev.kind == HF_SUPERVISE_EV_TIME && next.state == HF_SUPERVISE_WAITING)
		ev.now_ns = next.retry_ns;
	action = hf_supervise_step(&next, &ev);
	check_step(&seen[i], &next, action, &ev);
	if (next.retry_ns && next.retry_ns <= ev.now_ns)
		next.retry_ns = 0; /* all that has passed is the same */
	else if (next.retry_ns)
		next.retry_ns = T_NS + S_NS;
	if (next.retries > 1)
		next.retries = 1;
	next.window_began_ns = next.window_began_ns ? T_NS : 0;
	remember(&next);
}

static void try_ends(unsigned int i)
{
	struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_KEEPER_ENDED };

	for (int code = -1; code <= 9; code++) {
		ev.end = (struct hf_supervise_end){ .code = code };
		try_event(i, ev);
	}
	ev.end = (struct hf_supervise_end){ .is_frozen = true };
	try_event(i, ev);
	ev.end = (struct hf_supervise_end){ .code = 4, .is_left = true };
	try_event(i, ev);
	ev.end = (struct hf_supervise_end){ .code = 4, .is_given = true };
	try_event(i, ev);
	ev.end = (struct hf_supervise_end){ .is_handed_over = true };
	try_event(i, ev);
}

static void try_all(unsigned int i)
{
	static const struct hf_supervise_definition definitions[] = {
		{ .restarts_max = 2, .restart_window_ns = MIN_NS },
		{ .restarts_max = 0, .restart_window_ns = MIN_NS, .may_run_beside_frozen = true },
		{ .restarts_max = 2,
		  .restart_window_ns = MIN_NS,
		  .has_two_hosts = true,
		  .is_first = true },
		{ .restarts_max = 2, .restart_window_ns = MIN_NS, .has_two_hosts = true },
	};
	struct hf_supervise_event ev = { 0 };

	for (int kind = 0; kind < HF_SUPERVISE_EVENT_COUNT; kind++) {
		ev = (struct hf_supervise_event){ .kind = (enum hf_supervise_event_kind)kind };
		if (kind == HF_SUPERVISE_EV_KEEPER_ENDED)
			try_ends(i);
		else if (kind == HF_SUPERVISE_EV_KEEPER_UP)
			for (int role = 1; role <= 2; role++) {
				ev.role = (enum hf_supervise_role)role;
				try_event(i, ev);
			}
		else if (kind == HF_SUPERVISE_EV_PLACE)
			for (int where = 0; where < HF_SUPERVISE_PLACE_COUNT; where++) {
				ev.place = (enum hf_supervise_place)where;
				try_event(i, ev);
			}
		else if (kind == HF_SUPERVISE_EV_DEFINED) {
			/* As the first word, or a file that says the same: each kind by itself. */
			for (unsigned int n = 0; n < 4; n++) {
				ev.definition = &definitions[n];
				if (i == 0 || memcmp(&seen[i].definition, ev.definition,
						     sizeof(*ev.definition)) == 0)
					try_event(i, ev);
			}
		} else {
			for (unsigned int flag = 0; flag < 2; flag++) {
				ev.is_fresh = ev.is_wanted = flag;
				ev.count = flag;
				try_event(i, ev);
			}
		}
	}
}

TEST(every_state_and_every_event)
{
	struct hf_supervise start;

	seen = calloc(STATES_MAX, sizeof(*seen));
	table = calloc(2 * STATES_MAX, sizeof(*table));
	CHECK(seen && table);
	hf_supervise_init(&start);
	remember(&start);
	for (unsigned int i = 0; i < n_seen; i++)
		try_all(i);
	printf("# %u states\n", n_seen);
	CHECK(n_seen > 1000);
	free(seen);
	free(table);
}

TEST(every_name_and_text_is_there)
{
	for (int i = 0; i < HF_SUPERVISE_STATE_COUNT; i++)
		CHECK(hf_supervise_state_name((enum hf_supervise_state)i)[0]);
	for (int i = 1; i < HF_SUPERVISE_WHY_COUNT; i++)
		CHECK(hf_supervise_why_text((enum hf_supervise_why)i)[0]);
}

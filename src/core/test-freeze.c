/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/freeze.h"

#define MS_NS 1000000ULL

/* A freeze and its driver, who tells what the test says. */
struct bench {
	struct hf_freeze f;
	struct hf_freeze_actions out;
	uint64_t now_ns;
};

static const struct hf_freeze_given whole = {
	.is_qemu_alive = true, .has_nets = true, .has_disks = true, .has_cgroup = true
};

static void feed(struct bench *b, const struct hf_freeze_event *ev)
{
	struct hf_freeze_event timed = *ev;

	b->now_ns += MS_NS;
	timed.now_ns = b->now_ns;
	hf_freeze_step(&b->f, &timed, &b->out);
}

static void begin(struct bench *b, const struct hf_freeze_given *given)
{
	memset(b, 0, sizeof(*b));
	hf_freeze_init(&b->f);
	feed(b, &(struct hf_freeze_event){ .kind = HF_FREEZE_EV_BEGIN, .given = given });
}

static void say(struct bench *b, enum hf_freeze_event_kind kind)
{
	feed(b, &(struct hf_freeze_event){ .kind = kind });
}

static void done(struct bench *b, enum hf_freeze_step step)
{
	feed(b, &(struct hf_freeze_event){ .kind = HF_FREEZE_EV_DONE, .step = step });
}

static void failed(struct bench *b, enum hf_freeze_step step)
{
	feed(b, &(struct hf_freeze_event){ .kind = HF_FREEZE_EV_FAILED, .step = step });
}

/* Until the next deadline, and beyond it by nothing. */
static void wait_limit(struct bench *b)
{
	uint64_t deadline_ns = hf_freeze_deadline_ns(&b->f);

	CHECK(deadline_ns != UINT64_MAX);
	CHECK(deadline_ns > b->now_ns);
	b->now_ns = deadline_ns - MS_NS;
	say(b, HF_FREEZE_EV_TIME);
}

#define EXPECT(b, ...)                                                                             \
	expect(b, __LINE__, (const enum hf_freeze_action[]){ __VA_ARGS__ },                        \
	       sizeof((const enum hf_freeze_action[]){ __VA_ARGS__ }) /                            \
		       sizeof(enum hf_freeze_action))

static void expect(const struct bench *b, int line, const enum hf_freeze_action *a, size_t n)
{
	bool is_same = b->out.n == n;

	for (size_t i = 0; is_same && i < n; i++)
		is_same = b->out.a[i] == a[i];
	if (is_same)
		return;
	for (unsigned int i = 0; i < b->out.n; i++)
		printf("# action %s\n", hf_freeze_action_name(b->out.a[i]));
	hf_test_fail(__FILE__, line, "other actions than expected");
}

#define NOTHING(b) CHECK_EQ((b)->out.n, 0)
#define RESULT(b, step_, want) CHECK_EQ((b)->f.step[step_].result, want)

TEST(all_goes_as_it_should)
{
	struct bench b;

	begin(&b, &whole);
	EXPECT(&b, HF_FREEZE_DO_LATCH, HF_FREEZE_DO_STOP);
	done(&b, HF_FREEZE_STOP);
	EXPECT(&b, HF_FREEZE_DO_NETS, HF_FREEZE_DO_STATE);
	done(&b, HF_FREEZE_NETS);
	NOTHING(&b);
	done(&b, HF_FREEZE_LATCH);
	NOTHING(&b);
	done(&b, HF_FREEZE_STATE);
	EXPECT(&b, HF_FREEZE_DO_CGROUP, HF_FREEZE_DO_DISKS);
	done(&b, HF_FREEZE_CGROUP);
	NOTHING(&b);
	say(&b, HF_FREEZE_EV_DISKS_DEAD);
	EXPECT(&b, HF_FREEZE_DO_VERIFY);
	say(&b, HF_FREEZE_EV_VERIFIED);
	EXPECT(&b, HF_FREEZE_DO_CERTIFY);
	CHECK_EQ(b.f.state, HF_FREEZE_WORKING);
	done(&b, HF_FREEZE_CERTIFY);
	EXPECT(&b, HF_FREEZE_DO_TELL);
	CHECK_EQ(b.f.state, HF_FREEZE_CERTIFIED);
	RESULT(&b, HF_FREEZE_LEASE, HF_FREEZE_SKIPPED);
	CHECK(hf_freeze_deadline_ns(&b.f) == UINT64_MAX);
	for (unsigned int i = 0; i < HF_FREEZE_STEP_COUNT; i++)
		CHECK(b.f.step[i].began_ns && b.f.step[i].ended_ns >= b.f.step[i].began_ns);
}

TEST(a_dead_qemu_needs_no_more_than_its_disks_and_nets)
{
	struct hf_freeze_given given = whole;
	struct bench b;

	given.is_qemu_alive = false;
	begin(&b, &given);
	EXPECT(&b, HF_FREEZE_DO_LATCH, HF_FREEZE_DO_NETS, HF_FREEZE_DO_DISKS);
	done(&b, HF_FREEZE_NETS);
	say(&b, HF_FREEZE_EV_DISKS_DEAD);
	EXPECT(&b, HF_FREEZE_DO_VERIFY);
	say(&b, HF_FREEZE_EV_VERIFIED);
	NOTHING(&b); /* the latch's write comes first */
	failed(&b, HF_FREEZE_LATCH);
	EXPECT(&b, HF_FREEZE_DO_CERTIFY);
	RESULT(&b, HF_FREEZE_LATCH, HF_FREEZE_FAILED);
	done(&b, HF_FREEZE_CERTIFY);
	EXPECT(&b, HF_FREEZE_DO_TELL);
}

TEST(a_silent_qemu_is_frozen_as_it_is)
{
	struct hf_freeze_given given = whole;
	struct bench b;

	given.is_qmp_silent = true;
	begin(&b, &given);
	EXPECT(&b, HF_FREEZE_DO_LATCH, HF_FREEZE_DO_NETS, HF_FREEZE_DO_CGROUP, HF_FREEZE_DO_DISKS);
	RESULT(&b, HF_FREEZE_STOP, HF_FREEZE_FELL_BACK);
	RESULT(&b, HF_FREEZE_STATE, HF_FREEZE_FAILED);
}

TEST(a_latch_that_hangs_costs_qemu_its_life)
{
	struct bench b;

	begin(&b, &whole);
	done(&b, HF_FREEZE_STOP);
	done(&b, HF_FREEZE_NETS);
	done(&b, HF_FREEZE_STATE);
	done(&b, HF_FREEZE_CGROUP);
	say(&b, HF_FREEZE_EV_DISKS_DEAD);
	say(&b, HF_FREEZE_EV_VERIFIED);
	NOTHING(&b);
	wait_limit(&b);
	EXPECT(&b, HF_FREEZE_DO_KILL_QEMU);
	say(&b, HF_FREEZE_EV_QEMU_DEAD);
	EXPECT(&b, HF_FREEZE_DO_VERIFY);
	done(&b, HF_FREEZE_LATCH); /* late */
	NOTHING(&b);
	say(&b, HF_FREEZE_EV_VERIFIED);
	EXPECT(&b, HF_FREEZE_DO_CERTIFY);
	done(&b, HF_FREEZE_CERTIFY);
	EXPECT(&b, HF_FREEZE_DO_TELL);
	RESULT(&b, HF_FREEZE_LATCH, HF_FREEZE_FELL_BACK);
	RESULT(&b, HF_FREEZE_STATE, HF_FREEZE_DONE);
}

static struct bench *up_to_verify(struct bench *b, const struct hf_freeze_given *given)
{
	begin(b, given);
	done(b, HF_FREEZE_LATCH);
	done(b, HF_FREEZE_STOP);
	done(b, HF_FREEZE_NETS);
	done(b, HF_FREEZE_STATE);
	done(b, HF_FREEZE_CGROUP);
	say(b, HF_FREEZE_EV_DISKS_DEAD);
	EXPECT(b, HF_FREEZE_DO_VERIFY);
	return b;
}

static struct bench *up_to_certify(struct bench *b)
{
	up_to_verify(b, &whole);
	say(b, HF_FREEZE_EV_VERIFIED);
	EXPECT(b, HF_FREEZE_DO_CERTIFY);
	return b;
}

TEST(a_stop_that_fails_or_hangs_holds_up_nothing)
{
	struct bench b;

	begin(&b, &whole);
	failed(&b, HF_FREEZE_STOP);
	EXPECT(&b, HF_FREEZE_DO_NETS, HF_FREEZE_DO_CGROUP, HF_FREEZE_DO_DISKS);
	begin(&b, &whole);
	done(&b, HF_FREEZE_LATCH);
	wait_limit(&b);
	EXPECT(&b, HF_FREEZE_DO_NETS, HF_FREEZE_DO_CGROUP, HF_FREEZE_DO_DISKS);
	RESULT(&b, HF_FREEZE_STOP, HF_FREEZE_FELL_BACK);
	RESULT(&b, HF_FREEZE_STATE, HF_FREEZE_FAILED);
	done(&b,
	     HF_FREEZE_STOP); /* late: no device state is begun with a QEMU that is being frozen */
	NOTHING(&b);
	RESULT(&b, HF_FREEZE_STOP, HF_FREEZE_FELL_BACK);
}

TEST(a_guest_that_stands_still_already_is_not_stopped_again)
{
	struct hf_freeze_given given = whole;
	struct bench b;

	given.is_guest_stopped = true;
	begin(&b, &given);
	EXPECT(&b, HF_FREEZE_DO_LATCH, HF_FREEZE_DO_NETS, HF_FREEZE_DO_STATE);
	given.is_qmp_silent = true;
	begin(&b, &given);
	EXPECT(&b, HF_FREEZE_DO_LATCH, HF_FREEZE_DO_NETS, HF_FREEZE_DO_CGROUP, HF_FREEZE_DO_DISKS);
}

TEST(a_device_state_that_does_not_come_is_done_without)
{
	struct bench b;

	begin(&b, &whole);
	done(&b, HF_FREEZE_LATCH);
	done(&b, HF_FREEZE_STOP);
	done(&b, HF_FREEZE_NETS);
	wait_limit(&b);
	EXPECT(&b, HF_FREEZE_DO_DROP_STATE, HF_FREEZE_DO_CGROUP, HF_FREEZE_DO_DISKS);
	RESULT(&b, HF_FREEZE_STATE, HF_FREEZE_FAILED);
}

/* With its own files, without a cgroup, without a latch: it must go, but not before its state is here. */
TEST(a_qemu_that_cannot_stay_dies_after_its_state)
{
	for (int why = 0; why < 3; why++) {
		struct hf_freeze_given given = whole;
		struct bench b;

		given.has_own_files = why == 0;
		given.has_cgroup = why != 1;
		begin(&b, &given);
		if (why == 2)
			failed(&b, HF_FREEZE_LATCH);
		else
			done(&b, HF_FREEZE_LATCH);
		NOTHING(&b);
		done(&b, HF_FREEZE_STOP);
		EXPECT(&b, HF_FREEZE_DO_NETS, HF_FREEZE_DO_STATE);
		done(&b, HF_FREEZE_NETS);
		done(&b, HF_FREEZE_STATE);
		EXPECT(&b, HF_FREEZE_DO_KILL_QEMU, HF_FREEZE_DO_DISKS);
		say(&b, HF_FREEZE_EV_DISKS_DEAD);
		NOTHING(&b);
		say(&b, HF_FREEZE_EV_QEMU_DEAD);
		EXPECT(&b, HF_FREEZE_DO_VERIFY);
		RESULT(&b, HF_FREEZE_STATE, HF_FREEZE_DONE);
		RESULT(&b, HF_FREEZE_CGROUP, HF_FREEZE_FELL_BACK);
	}
}

TEST(memory_alone)
{
	struct hf_freeze_given given = whole;
	struct bench b;

	given.is_kill_wanted = true;
	begin(&b, &given);
	EXPECT(&b, HF_FREEZE_DO_LATCH, HF_FREEZE_DO_KILL_QEMU, HF_FREEZE_DO_NETS,
	       HF_FREEZE_DO_DISKS);
	RESULT(&b, HF_FREEZE_STATE, HF_FREEZE_SKIPPED);
}

TEST(the_lease_goes_after_the_proof_and_its_failure_is_told_only)
{
	struct hf_freeze_given given = whole;
	struct bench b;

	given.has_lease = true;
	for (int is_failing = 0; is_failing < 3; is_failing++) {
		up_to_verify(&b, &given);
		say(&b, HF_FREEZE_EV_VERIFIED);
		EXPECT(&b, HF_FREEZE_DO_LEASE);
		if (is_failing == 0)
			done(&b, HF_FREEZE_LEASE);
		else if (is_failing == 1)
			failed(&b, HF_FREEZE_LEASE);
		else
			wait_limit(&b);
		EXPECT(&b, HF_FREEZE_DO_CERTIFY);
		RESULT(&b, HF_FREEZE_LEASE, is_failing ? HF_FREEZE_FAILED : HF_FREEZE_DONE);
		done(&b, HF_FREEZE_LEASE);
		NOTHING(&b);
	}
	given.is_pledged = true;
	up_to_verify(&b, &given);
	say(&b, HF_FREEZE_EV_VERIFIED);
	EXPECT(&b, HF_FREEZE_DO_CERTIFY);
	RESULT(&b, HF_FREEZE_LEASE, HF_FREEZE_SKIPPED);
}

TEST(the_lease_is_not_let_go_before_the_latch_is_durable)
{
	struct hf_freeze_given given = whole;
	struct bench b;

	given.has_lease = true;
	begin(&b, &given);
	done(&b, HF_FREEZE_STOP);
	done(&b, HF_FREEZE_NETS);
	done(&b, HF_FREEZE_STATE);
	done(&b, HF_FREEZE_CGROUP);
	say(&b, HF_FREEZE_EV_DISKS_DEAD);
	say(&b, HF_FREEZE_EV_VERIFIED);
	NOTHING(&b);
	done(&b, HF_FREEZE_LATCH);
	EXPECT(&b, HF_FREEZE_DO_LEASE);
}

TEST(a_disk_process_that_does_not_die_is_what_it_is_stuck_on)
{
	struct bench b;

	begin(&b, &whole);
	done(&b, HF_FREEZE_LATCH);
	done(&b, HF_FREEZE_STOP);
	done(&b, HF_FREEZE_NETS);
	done(&b, HF_FREEZE_STATE);
	done(&b, HF_FREEZE_CGROUP);
	wait_limit(&b);
	EXPECT(&b, HF_FREEZE_DO_KILL_DISKS);
	done(&b, HF_FREEZE_DISKS); /* late */
	NOTHING(&b);
	wait_limit(&b);
	EXPECT(&b, HF_FREEZE_DO_TELL_STUCK);
	CHECK_EQ(b.f.state, HF_FREEZE_STUCK);
	CHECK_EQ(b.f.stuck_on, HF_FREEZE_DISKS);
	CHECK(hf_freeze_deadline_ns(&b.f) == UINT64_MAX);
	say(&b, HF_FREEZE_EV_TIME);
	NOTHING(&b);
	say(&b, HF_FREEZE_EV_DISKS_DEAD);
	EXPECT(&b, HF_FREEZE_DO_VERIFY);
	CHECK_EQ(b.f.state, HF_FREEZE_WORKING);
	RESULT(&b, HF_FREEZE_DISKS, HF_FREEZE_FELL_BACK);
}

TEST(a_disk_process_that_has_flushed_need_not_end_by_itself)
{
	struct bench b;

	begin(&b, &whole);
	done(&b, HF_FREEZE_LATCH);
	done(&b, HF_FREEZE_STOP);
	done(&b, HF_FREEZE_NETS);
	done(&b, HF_FREEZE_STATE);
	done(&b, HF_FREEZE_CGROUP);
	done(&b, HF_FREEZE_DISKS);
	EXPECT(&b, HF_FREEZE_DO_KILL_DISKS);
	RESULT(&b, HF_FREEZE_DISKS, HF_FREEZE_BEGUN);
	say(&b, HF_FREEZE_EV_DISKS_DEAD);
	EXPECT(&b, HF_FREEZE_DO_VERIFY);
	RESULT(&b, HF_FREEZE_DISKS, HF_FREEZE_DONE);
}

TEST(a_cgroup_that_does_not_freeze_ends_with_sigkill)
{
	for (int is_hanging = 0; is_hanging < 2; is_hanging++) {
		struct bench b;

		begin(&b, &whole);
		done(&b, HF_FREEZE_LATCH);
		done(&b, HF_FREEZE_STOP);
		done(&b, HF_FREEZE_NETS);
		done(&b, HF_FREEZE_STATE);
		say(&b, HF_FREEZE_EV_DISKS_DEAD);
		if (is_hanging)
			wait_limit(&b);
		else
			failed(&b, HF_FREEZE_CGROUP);
		EXPECT(&b, HF_FREEZE_DO_KILL_QEMU);
		done(&b, HF_FREEZE_CGROUP); /* late */
		NOTHING(&b);
		wait_limit(&b);
		EXPECT(&b, HF_FREEZE_DO_TELL_STUCK);
		CHECK_EQ(b.f.stuck_on, HF_FREEZE_CGROUP);
		say(&b, HF_FREEZE_EV_QEMU_DEAD);
		EXPECT(&b, HF_FREEZE_DO_VERIFY);
	}
}

TEST(a_resume_before_stop_is_a_checkpoints)
{
	struct bench b;

	begin(&b, &whole);
	say(&b, HF_FREEZE_EV_WOKEN);
	NOTHING(&b);
	done(&b, HF_FREEZE_STOP);
	say(&b, HF_FREEZE_EV_WOKEN);
	EXPECT(&b, HF_FREEZE_DO_DROP_STATE, HF_FREEZE_DO_KILL_QEMU, HF_FREEZE_DO_DISKS);
}

TEST(woken_while_it_is_certified_it_dies_and_all_is_looked_at_again)
{
	for (int is_failing = 0; is_failing < 2; is_failing++) {
		struct bench b;

		up_to_certify(&b);
		say(&b, HF_FREEZE_EV_WOKEN);
		EXPECT(&b, HF_FREEZE_DO_KILL_QEMU);
		if (is_failing)
			failed(&b, HF_FREEZE_CERTIFY);
		else
			done(&b, HF_FREEZE_CERTIFY); /* of what was true before */
		NOTHING(&b);
		CHECK_EQ(b.f.state, HF_FREEZE_WORKING);
		say(&b, HF_FREEZE_EV_QEMU_DEAD);
		EXPECT(&b, HF_FREEZE_DO_VERIFY);
		say(&b, HF_FREEZE_EV_VERIFIED);
		EXPECT(&b, HF_FREEZE_DO_CERTIFY);
		done(&b, HF_FREEZE_CERTIFY);
		EXPECT(&b, HF_FREEZE_DO_TELL);
		CHECK_EQ(b.f.awakenings, 0);
	}
}

TEST(a_verification_of_what_has_changed_is_worth_nothing)
{
	struct bench b;

	up_to_verify(&b, &whole);
	say(&b, HF_FREEZE_EV_QEMU_DEAD); /* somebody has killed it */
	NOTHING(&b);
	say(&b, HF_FREEZE_EV_VERIFIED);
	EXPECT(&b, HF_FREEZE_DO_VERIFY);
	say(&b, HF_FREEZE_EV_VERIFIED);
	EXPECT(&b, HF_FREEZE_DO_CERTIFY);
}

TEST(woken_after_the_proof_it_dies_and_that_goes_on_record)
{
	struct bench b;

	up_to_certify(&b);
	done(&b, HF_FREEZE_CERTIFY);
	say(&b, HF_FREEZE_EV_WOKEN);
	EXPECT(&b, HF_FREEZE_DO_KILL_QEMU);
	say(&b, HF_FREEZE_EV_WOKEN);
	NOTHING(&b);
	CHECK_EQ(b.f.awakenings, 2);
	wait_limit(&b);
	EXPECT(&b, HF_FREEZE_DO_TELL_STUCK);
	CHECK_EQ(b.f.state, HF_FREEZE_CERTIFIED);
	CHECK(hf_freeze_deadline_ns(&b.f) == UINT64_MAX);
	say(&b, HF_FREEZE_EV_QEMU_DEAD);
	EXPECT(&b, HF_FREEZE_DO_AMEND);
	CHECK_EQ(b.f.state, HF_FREEZE_CERTIFIED);
	say(&b, HF_FREEZE_EV_WOKEN);
	say(&b, HF_FREEZE_EV_QEMU_DEAD);
	NOTHING(&b);
}

static void refute(struct bench *b, uint32_t what)
{
	feed(b, &(struct hf_freeze_event){ .kind = HF_FREEZE_EV_REFUTED, .refuted = what });
}

TEST(what_is_refuted_is_met_by_death_and_looked_at_again)
{
	struct bench b;

	up_to_verify(&b, &whole);
	refute(&b, 4); /* a tap is still held */
	EXPECT(&b, HF_FREEZE_DO_KILL_QEMU, HF_FREEZE_DO_NETS);
	done(&b, HF_FREEZE_NETS);
	say(&b, HF_FREEZE_EV_QEMU_DEAD);
	EXPECT(&b, HF_FREEZE_DO_VERIFY);
	refute(&b, 2); /* nothing is left to be killed */
	NOTHING(&b);
	CHECK_EQ(b.f.refuted, 2);
	for (int i = 0; b.out.n == 0 || b.out.a[0] == HF_FREEZE_DO_VERIFY; i++) {
		CHECK(i < 1000);
		wait_limit(&b);
		if (b.out.n && b.out.a[0] == HF_FREEZE_DO_VERIFY)
			refute(&b, 2);
	}
	EXPECT(&b, HF_FREEZE_DO_TELL_STUCK);
	CHECK_EQ(b.f.stuck_on, HF_FREEZE_VERIFY);
	while (!b.out.n || b.out.a[0] != HF_FREEZE_DO_VERIFY)
		wait_limit(&b);
	say(&b, HF_FREEZE_EV_VERIFIED);
	EXPECT(&b, HF_FREEZE_DO_CERTIFY);
	CHECK_EQ(b.f.state, HF_FREEZE_WORKING);
}

TEST(a_certificate_that_cannot_be_written_is_tried_again)
{
	struct bench b;

	up_to_certify(&b);
	failed(&b, HF_FREEZE_CERTIFY);
	NOTHING(&b);
	wait_limit(&b);
	EXPECT(&b, HF_FREEZE_DO_CERTIFY);
	wait_limit(&b); /* it hangs */
	EXPECT(&b, HF_FREEZE_DO_TELL_STUCK);
	CHECK_EQ(b.f.stuck_on, HF_FREEZE_CERTIFY);
	done(&b, HF_FREEZE_CERTIFY);
	EXPECT(&b, HF_FREEZE_DO_TELL);
}

TEST(nothing_counts_before_it_has_begun_and_it_begins_once)
{
	struct bench b;

	memset(&b, 0, sizeof(b));
	hf_freeze_init(&b.f);
	for (unsigned int kind = HF_FREEZE_EV_BEGIN + 1; kind < HF_FREEZE_EVENT_COUNT; kind++) {
		say(&b, kind);
		NOTHING(&b);
		CHECK_EQ(b.f.state, HF_FREEZE_IDLE);
	}
	CHECK(hf_freeze_deadline_ns(&b.f) == UINT64_MAX);
	begin(&b, &whole);
	feed(&b, &(struct hf_freeze_event){ .kind = HF_FREEZE_EV_BEGIN, .given = &whole });
	NOTHING(&b);
}

TEST(limits_may_be_given)
{
	static const struct hf_freeze_limits limits = { .stop_ns = 7 * MS_NS };
	struct bench b = { .now_ns = MS_NS };

	hf_freeze_init(&b.f);
	feed(&b, &(struct hf_freeze_event){
			 .kind = HF_FREEZE_EV_BEGIN, .given = &whole, .limits = &limits });
	CHECK_EQ(hf_freeze_deadline_ns(&b.f), b.now_ns + 7 * MS_NS);
	CHECK_EQ(b.f.limits.state_ns, HF_FREEZE_STATE_NS);
}

TEST(names_there_and_back)
{
	for (unsigned int i = 0; i < HF_FREEZE_STEP_COUNT; i++)
		CHECK_EQ(hf_freeze_step_find(hf_freeze_step_name(i)), i);
	for (unsigned int i = 0; i < HF_FREEZE_RESULT_COUNT; i++)
		CHECK_EQ(hf_freeze_result_find(hf_freeze_result_name(i)), i);
	for (unsigned int i = 0; i < HF_FREEZE_STATE_COUNT; i++)
		CHECK(hf_freeze_state_name(i));
	for (unsigned int i = 0; i < HF_FREEZE_ACTION_COUNT; i++)
		CHECK(hf_freeze_action_name(i));
	CHECK_EQ(hf_freeze_step_find("latches"), -1);
	CHECK_EQ(hf_freeze_result_find("don"), -1);
}

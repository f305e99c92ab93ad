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
	for (int i = 0; i < HF_FREEZE_STEP_COUNT; i++)
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/announce.h"

static const struct hf_announce_links all = { true, true };
static const struct hf_announce_links no_controller = { .has_attributes = true };
static const struct hf_announce_links no_attributes = { .has_controller = true };

static const struct hf_announce_facts in_order = { .place = HF_ANNOUNCE_HERE, .placed_ns = 10 };
static const struct hf_announce_facts frozen = { .place = HF_ANNOUNCE_HERE,
						 .placed_ns = 10,
						 .trouble = HF_TROUBLE_FROZEN,
						 .trouble_ns = 20,
						 .reason = 7 };

/* Until nothing is owed; the attribute that ASK asks for says @had. Each action's first letter, into @ret. */
static const char *run_with(struct hf_announce *a, const struct hf_announce_facts *f,
			    const struct hf_announce_links *links, enum hf_trouble had)
{
	static char ret[32];
	unsigned int n = 0;
	enum hf_announce_action action;

	while ((action = hf_announce_next(a, f, links)) != HF_ANNOUNCE_NOTHING) {
		CHECK(n < sizeof(ret) - 1);
		ret[n++] = hf_announce_action_name(action)[0];
		if (action == HF_ANNOUNCE_ASK)
			hf_announce_asked(a, had);
		else
			hf_announce_done(a, f, action);
	}
	ret[n] = '\0';
	return ret;
}

static const char *run(struct hf_announce *a, const struct hf_announce_facts *f)
{
	return run_with(a, f, &all, HF_TROUBLE_NONE);
}

TEST(in_order)
{
	struct hf_announce a = { 0 };

	CHECK_STR(run(&a, &in_order), "ar"); /* a reason that was left over is deleted */
	CHECK_STR(run(&a, &in_order), "");
}

TEST(a_failure_is_announced_before_anything_else_and_once)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	CHECK_STR(run(&a, &f), "fatr");
	CHECK_STR(run(&a, &f), "");
	f.reason++;
	CHECK_STR(run(&a, &f), "r");
}

TEST(what_is_cleared_before_the_manager_deals_with_it_is_cleaned_after_that)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	CHECK_STR(run(&a, &f), "fatr");
	f.trouble = HF_TROUBLE_NONE; /* released in maintenance */
	f.trouble_ns = f.reason = 0;
	CHECK_STR(run(&a, &f), "tr");
	f.place = HF_ANNOUNCE_AWAY; /* it is over */
	CHECK_STR(run(&a, &f), "c");
	CHECK_STR(run(&a, &f), "");
}

TEST(what_the_manager_starts_again_keeps_its_count)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	CHECK_STR(run(&a, &f), "fatr");
	f.placed_ns = 30;
	f.trouble = HF_TROUBLE_NONE;
	f.trouble_ns = f.reason = 0;
	CHECK_STR(run(&a, &f), "tr");
	f.place = HF_ANNOUNCE_AWAY;
	CHECK_STR(run(&a, &f), "");
}

TEST(why_an_instance_is_kept_outlives_the_trouble)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	CHECK_STR(run(&a, &f), "fatr");
	f.placed_ns = 30;
	f.trouble = HF_TROUBLE_NONE; /* a standby was started beside it */
	CHECK_STR(run(&a, &f), "t");
	f.reason = 0; /* released */
	CHECK_STR(run(&a, &f), "r");
}

TEST(what_is_known_of_it_follows_the_failure)
{
	struct hf_announce a = { 0 };

	CHECK_STR(run(&a, &in_order), "ar");
	CHECK_STR(run(&a, &frozen), "ftr");
}

TEST(on_the_way_to_be_frozen_is_no_failure_yet)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	f.trouble = HF_TROUBLE_FREEZING;
	CHECK_STR(run(&a, &f), "atr");
	f.trouble = HF_TROUBLE_FROZEN;
	CHECK_STR(run(&a, &f), "ft");
}

TEST(what_it_is_about_waits_until_the_manager_deals_with_it)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	CHECK_STR(run(&a, &in_order), "ar");
	f.is_fresh = true;
	f.trouble = HF_TROUBLE_FREEZING;
	CHECK_STR(run(&a, &f), "");
	f.trouble = HF_TROUBLE_FROZEN;
	CHECK_STR(run(&a, &f), "f");
	f.place = HF_ANNOUNCE_AWAY; /* the stop has begun */
	f.placed_ns = 30;
	CHECK_STR(run(&a, &f), "tr");
	a = (struct hf_announce){ 0 };
	f = frozen;
	f.is_fresh = true;
	CHECK_STR(run(&a, &f), "fa");
	f.is_fresh = false;
	CHECK_STR(run(&a, &f), "tr");
}

TEST(who_could_not_start_it_knows_that)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	f.trouble = HF_TROUBLE_FAILED;
	f.is_unborn = true;
	CHECK_STR(run(&a, &f), "atr");
	f.is_unborn = false; /* it was up, and could not be kept so */
	CHECK_STR(run(&a, &f), "f");
}

TEST(the_score_comes_before_the_failure)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = in_order;

	f.is_promotable = true;
	f.score = 10000;
	CHECK_STR(run(&a, &f), "sar");
	f = frozen;
	f.is_promotable = true;
	CHECK_STR(run_with(&a, &f, &no_attributes, HF_TROUBLE_NONE), "");
	CHECK_STR(run(&a, &f), "sftr");
}

TEST(nothing_is_announced_of_what_was_ended_here)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	f.place = HF_ANNOUNCE_AWAY;
	f.placed_ns = 30;
	CHECK_STR(run(&a, &f), "atr");
	/* A start comes: what is wrong is older, with or without a time. */
	f.place = HF_ANNOUNCE_HERE;
	f.placed_ns = 40;
	CHECK_STR(run(&a, &f), "");
	f.trouble_ns = 0;
	CHECK_STR(run(&a, &f), "");
	hf_announce_lost_controller(&a);
	CHECK_STR(run(&a, &f), "");
}

TEST(when_it_failed_is_not_known)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	f.trouble_ns = 0;
	f.place = HF_ANNOUNCE_AWAY;
	CHECK_STR(run(&a, &f), "atr");
	f.place = HF_ANNOUNCE_HERE; /* but it was so before this decision */
	f.placed_ns = 40;
	CHECK_STR(run(&a, &f), "");
	a = (struct hf_announce){ 0 };
	CHECK_STR(run(&a, &f), "fatr"); /* who has just come cannot know */
}

TEST(an_old_failure_is_not_announced_by_one_who_has_just_come)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	f.placed_ns = 21;
	CHECK_STR(run(&a, &f), "atr");
}

TEST(another_failure_after_another_start)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	CHECK_STR(run(&a, &f), "fatr");
	f.placed_ns = 30; /* nobody looked while it ran */
	f.trouble_ns = 40;
	CHECK_STR(run(&a, &f), "f");
}

TEST(the_decision_cannot_be_told)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	f.place = HF_ANNOUNCE_UNKNOWN;
	CHECK_STR(run(&a, &f), "atr");
	f.place = HF_ANNOUNCE_HERE;
	CHECK_STR(run(&a, &f), "f");
}

TEST(a_lost_controller_is_told_again)
{
	struct hf_announce a = { 0 };

	CHECK_STR(run(&a, &frozen), "fatr");
	hf_announce_lost_controller(&a);
	CHECK_STR(run_with(&a, &frozen, &no_controller, HF_TROUBLE_NONE), "");
	CHECK_STR(run(&a, &frozen), "f");
}

TEST(lost_attributes_are_written_again)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	f.is_promotable = true;
	CHECK_STR(run(&a, &f), "sfatr");
	hf_announce_lost_attributes(&a);
	CHECK_STR(run(&a, &f), "satr");
	hf_announce_lost_attributes(&a);
	CHECK_STR(run_with(&a, &f, &all, HF_TROUBLE_FROZEN), "sar"); /* one of them was kept */
}

TEST(a_host_may_be_used_again_when_the_cause_is_cleared)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = frozen;

	CHECK_STR(run(&a, &f), "fatr");
	f.place = HF_ANNOUNCE_AWAY;
	f.placed_ns = 30;
	CHECK_STR(run(&a, &f), "");
	f.trouble = HF_TROUBLE_NONE;
	f.reason = 0;
	CHECK_STR(run_with(&a, &f, &no_controller, HF_TROUBLE_NONE), "");
	CHECK_STR(run(&a, &f), "ctr");
	CHECK_STR(run(&a, &f), "");
}

TEST(what_was_announced_is_remembered_by_the_attribute)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = { .place = HF_ANNOUNCE_AWAY, .placed_ns = 30 };

	CHECK_STR(run_with(&a, &f, &all, HF_TROUBLE_CRASHED), "actr");
}

TEST(a_vm_that_was_started_here_anew_keeps_its_failures)
{
	struct hf_announce a = { 0 };
	struct hf_announce_facts f = in_order;

	CHECK_STR(run(&a, &frozen), "fatr");
	f.placed_ns = 30;
	CHECK_STR(run(&a, &f), "tr");
	f.place = HF_ANNOUNCE_AWAY; /* stopped in order, later */
	CHECK_STR(run(&a, &f), "");
}

TEST(words)
{
	for (int i = 0; i < HF_TROUBLE_COUNT; i++)
		CHECK_EQ(hf_trouble_find(hf_trouble_name((enum hf_trouble)i)), i);
	CHECK_EQ(hf_trouble_find("froz"), -1);
	CHECK_EQ(hf_trouble_find("frozen "), -1);
}

TEST(troubles)
{
	CHECK_EQ(hf_trouble_of(HF_VM_RUNNING, HF_VM_PAUSE_NONE, HF_VM_CAUSE_NONE, false),
		 HF_TROUBLE_NONE);
	CHECK_EQ(hf_trouble_of(HF_VM_RUNNING, HF_VM_PAUSE_NONE, HF_VM_CAUSE_HANG, false),
		 HF_TROUBLE_HUNG);
	CHECK_EQ(hf_trouble_of(HF_VM_RUNNING, HF_VM_PAUSE_NONE, HF_VM_CAUSE_NONE, true),
		 HF_TROUBLE_SILENT);
	CHECK_EQ(hf_trouble_of(HF_VM_FROZEN, HF_VM_PAUSE_NONE, HF_VM_CAUSE_HANG, true),
		 HF_TROUBLE_FROZEN);
	CHECK_EQ(hf_trouble_of(HF_VM_PAUSED, HF_VM_PAUSE_USER, HF_VM_CAUSE_ORDER, false),
		 HF_TROUBLE_NONE);
	CHECK_EQ(hf_trouble_of(HF_VM_PAUSED, HF_VM_PAUSE_GUEST, HF_VM_CAUSE_NONE, false),
		 HF_TROUBLE_NONE);
	CHECK_EQ(hf_trouble_of(HF_VM_PAUSED, HF_VM_PAUSE_FAULT, HF_VM_CAUSE_IO_ERROR, false),
		 HF_TROUBLE_PAUSED);
	CHECK_EQ(hf_trouble_of(HF_VM_PAUSED, HF_VM_PAUSE_LEASE, HF_VM_CAUSE_NONE, false),
		 HF_TROUBLE_SUSPENDED);
	CHECK_EQ(hf_trouble_of(HF_VM_SHUT_OFF, HF_VM_PAUSE_NONE, HF_VM_CAUSE_NONE, true),
		 HF_TROUBLE_NONE);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/ocf.h"

#define N_BITS 14

static struct hf_ocf_verdict judge(struct hf_ocf_facts f)
{
	struct hf_ocf_verdict v = { .rc = 99, .reason = NULL, .score = -1 };

	hf_ocf_monitor(&f, &v);
	return v;
}

static struct hf_ocf_facts combination(enum hf_vm_state state, unsigned int bits)
{
	return (struct hf_ocf_facts){
		.state = state,
		.is_known = bits & 1 << 0,
		.is_alive = bits & 1 << 1,
		.is_pause_by_user = bits & 1 << 2,
		.is_pause_fault = bits & 1 << 3,
		.is_hung = bits & 1 << 4,
		.is_primary = bits & 1 << 5,
		.has_epoch = bits & 1 << 6,
		.is_in_touch = bits & 1 << 7,
		.has_run_last = bits & 1 << 8,
		.is_peer_running = bits & 1 << 9,
		.is_promotable = bits & 1 << 10,
		.is_probe = bits & 1 << 11,
		.is_assigned_standby = bits & 1 << 12,
		.is_paused_failure = bits & 1 << 13,
	};
}

/* @check is called with every combination of facts. */
static void each(void (*check)(const struct hf_ocf_facts *f, const struct hf_ocf_verdict *v))
{
	for (int state = 0; state < HF_VM_STATE_COUNT; state++)
		for (unsigned int bits = 0; bits < 1u << N_BITS; bits++) {
			struct hf_ocf_facts f = combination((enum hf_vm_state)state, bits);
			struct hf_ocf_verdict v = judge(f);

			check(&f, &v);
		}
}

static bool is_failure(const struct hf_ocf_verdict *v)
{
	return v->rc == HF_OCF_ERR_GENERIC || v->rc == HF_OCF_FAILED_PROMOTED;
}

/* ---- what holds whatever the facts are ---- */

static void check_not_running(const struct hf_ocf_facts *f, const struct hf_ocf_verdict *v)
{
	if (v->rc != HF_OCF_NOT_RUNNING)
		return;
	CHECK(f->is_known);
	CHECK(!f->is_alive);
	CHECK(f->state == HF_VM_SHUT_OFF || f->state == HF_VM_FROZEN || f->state == HF_VM_SAVED ||
	      f->state == HF_VM_CRASHED || f->state == HF_VM_FAILED);
}

TEST(what_may_live_is_never_called_stopped)
{
	each(check_not_running);
}

static void check_frozen(const struct hf_ocf_facts *f, const struct hf_ocf_verdict *v)
{
	if (f->state == HF_VM_FROZEN && f->is_known && !f->is_alive)
		CHECK_EQ(v->rc, HF_OCF_NOT_RUNNING);
}

TEST(what_is_frozen_is_stopped_whatever_else_is_said)
{
	each(check_frozen);
}

static void check_unknown(const struct hf_ocf_facts *f, const struct hf_ocf_verdict *v)
{
	if (!f->is_known)
		CHECK(is_failure(v));
}

TEST(what_is_not_known_is_a_failure)
{
	each(check_unknown);
}

static void check_failed(const struct hf_ocf_facts *f, const struct hf_ocf_verdict *v)
{
	bool is_paused_wrongly = f->state == HF_VM_PAUSED &&
				 (!f->is_pause_by_user || f->is_paused_failure);

	if (f->state == HF_VM_FREEZING || is_paused_wrongly ||
	    (f->is_hung && f->state != HF_VM_FROZEN))
		CHECK(is_failure(v));
}

TEST(what_is_paused_by_a_fault_hangs_or_freezes_is_a_failure)
{
	each(check_failed);
}

static void check_form(const struct hf_ocf_facts *f, const struct hf_ocf_verdict *v)
{
	CHECK(v->rc == HF_OCF_SUCCESS || v->rc == HF_OCF_NOT_RUNNING ||
	      v->rc == HF_OCF_RUNNING_PROMOTED || is_failure(v));
	CHECK(v->reason != NULL);
	CHECK(v->score >= 0);
	if (v->rc == HF_OCF_RUNNING_PROMOTED || v->rc == HF_OCF_FAILED_PROMOTED)
		CHECK(f->is_promotable);
	if (is_failure(v) || v->rc == HF_OCF_NOT_RUNNING) {
		CHECK(v->reason[0] != '\0');
		CHECK_EQ(v->score, 0);
	}
	if (!f->is_promotable)
		CHECK_EQ(v->score, 0);
	if (v->rc == HF_OCF_RUNNING_PROMOTED)
		CHECK_EQ(v->score, HF_OCF_SCORE_LIVE);
}

TEST(the_answer_has_a_form)
{
	each(check_form);
}

/* A standby outbids what runs in order under no circumstances, nor does one that would lose what was acknowledged. */
static void check_score(const struct hf_ocf_facts *f, const struct hf_ocf_verdict *v)
{
	if (f->state == HF_VM_STANDBY)
		CHECK(v->score <= HF_OCF_SCORE_SYNCHRONISED);
	if (f->state == HF_VM_STANDBY && f->is_peer_running && !(f->has_epoch && f->is_in_touch))
		CHECK_EQ(v->score, 0);
	if (v->score >= HF_OCF_SCORE_OUT_OF_TOUCH && v->score < HF_OCF_SCORE_LIVE)
		CHECK(f->has_epoch);
}

TEST(scores_are_in_order)
{
	each(check_score);
}

/* ---- the table, row by row ---- */

static struct hf_ocf_facts plain(enum hf_vm_state state)
{
	bool is_over = state == HF_VM_SHUT_OFF || state == HF_VM_FROZEN || state == HF_VM_SAVED ||
		       state == HF_VM_CRASHED || state == HF_VM_FAILED;

	return (struct hf_ocf_facts){ .state = state,
				      .is_known = true,
				      .is_alive = !is_over,
				      .is_primary = !is_over && state != HF_VM_STANDBY };
}

static struct hf_ocf_facts clone(enum hf_vm_state state)
{
	struct hf_ocf_facts f = plain(state);

	f.is_promotable = true;
	return f;
}

TEST(a_plain_vm)
{
	static const enum hf_ocf want[HF_VM_STATE_COUNT] = {
		[HF_VM_SHUT_OFF] = HF_OCF_NOT_RUNNING, [HF_VM_STARTING] = HF_OCF_SUCCESS,
		[HF_VM_RUNNING] = HF_OCF_SUCCESS,      [HF_VM_PAUSED] = HF_OCF_ERR_GENERIC,
		[HF_VM_INCOMING] = HF_OCF_SUCCESS,     [HF_VM_STANDBY] = HF_OCF_ERR_GENERIC,
		[HF_VM_MIGRATING] = HF_OCF_SUCCESS,    [HF_VM_FREEZING] = HF_OCF_ERR_GENERIC,
		[HF_VM_FROZEN] = HF_OCF_NOT_RUNNING,   [HF_VM_SAVED] = HF_OCF_NOT_RUNNING,
		[HF_VM_CRASHED] = HF_OCF_NOT_RUNNING,  [HF_VM_FAILED] = HF_OCF_NOT_RUNNING,
	};

	for (int s = 0; s < HF_VM_STATE_COUNT; s++)
		CHECK_EQ(judge(plain((enum hf_vm_state)s)).rc, want[s]);
}

TEST(a_promotable_vm)
{
	static const enum hf_ocf want[HF_VM_STATE_COUNT] = {
		[HF_VM_SHUT_OFF] = HF_OCF_NOT_RUNNING,
		[HF_VM_STARTING] = HF_OCF_RUNNING_PROMOTED,
		[HF_VM_RUNNING] = HF_OCF_RUNNING_PROMOTED,
		[HF_VM_PAUSED] = HF_OCF_FAILED_PROMOTED,
		[HF_VM_INCOMING] = HF_OCF_RUNNING_PROMOTED,
		[HF_VM_STANDBY] = HF_OCF_SUCCESS,
		[HF_VM_MIGRATING] = HF_OCF_RUNNING_PROMOTED,
		[HF_VM_FREEZING] = HF_OCF_FAILED_PROMOTED,
		[HF_VM_FROZEN] = HF_OCF_NOT_RUNNING,
		[HF_VM_SAVED] = HF_OCF_NOT_RUNNING,
		[HF_VM_CRASHED] = HF_OCF_NOT_RUNNING,
		[HF_VM_FAILED] = HF_OCF_NOT_RUNNING,
	};

	for (int s = 0; s < HF_VM_STATE_COUNT; s++)
		CHECK_EQ(judge(clone((enum hf_vm_state)s)).rc, want[s]);
}

TEST(a_starting_standby_is_unpromoted)
{
	struct hf_ocf_facts f = clone(HF_VM_STARTING);

	f.is_primary = false;
	CHECK_EQ(judge(f).rc, HF_OCF_SUCCESS);
	CHECK_EQ(judge(f).score, 0);
}

TEST(a_pause_is_what_the_parameter_says_if_its_user_made_it)
{
	struct hf_ocf_facts f = plain(HF_VM_PAUSED);

	CHECK_CONTAINS(judge(f).reason, "lease");
	f.is_pause_fault = true;
	CHECK_CONTAINS(judge(f).reason, "fault");
	f.is_pause_fault = false;
	f.is_pause_by_user = true;
	CHECK_EQ(judge(f).rc, HF_OCF_SUCCESS);
	f.is_paused_failure = true;
	CHECK_EQ(judge(f).rc, HF_OCF_ERR_GENERIC);
	f.is_promotable = true;
	CHECK_EQ(judge(f).rc, HF_OCF_FAILED_PROMOTED);
	f.is_paused_failure = false;
	CHECK_EQ(judge(f).rc, HF_OCF_RUNNING_PROMOTED);
}

TEST(what_went_live_before_the_cluster_knew_is_no_failure)
{
	struct hf_ocf_facts f = clone(HF_VM_RUNNING);

	f.is_assigned_standby = true;
	CHECK_EQ(judge(f).rc, HF_OCF_SUCCESS);
	CHECK_EQ(judge(f).score, HF_OCF_SCORE_LIVE);
	f.is_probe = true;
	CHECK_EQ(judge(f).rc, HF_OCF_RUNNING_PROMOTED);
	f.is_probe = false;
	f.state = HF_VM_PAUSED;
	CHECK_EQ(judge(f).rc, HF_OCF_FAILED_PROMOTED);
}

TEST(a_process_that_outlives_its_vm_is_a_failure)
{
	struct hf_ocf_facts f = plain(HF_VM_CRASHED);

	f.is_alive = true;
	CHECK_EQ(judge(f).rc, HF_OCF_ERR_GENERIC);
	f.state = HF_VM_FROZEN; /* says a certificate, and yet: */
	CHECK_EQ(judge(f).rc, HF_OCF_ERR_GENERIC);
}

TEST(the_scores_of_a_standby)
{
	struct hf_ocf_facts f = clone(HF_VM_STANDBY);

	CHECK_EQ(judge(f).score, HF_OCF_SCORE_COLD);
	f.has_run_last = true;
	CHECK_EQ(judge(f).score, HF_OCF_SCORE_RAN_LAST);
	f.has_epoch = true;
	CHECK_EQ(judge(f).score, HF_OCF_SCORE_OUT_OF_TOUCH);
	f.is_in_touch = true;
	f.is_peer_running = true;
	CHECK_EQ(judge(f).score, HF_OCF_SCORE_SYNCHRONISED);
	f.has_epoch = false;
	CHECK_EQ(judge(f).score, 0);
	f.has_epoch = true;
	f.is_in_touch = false;
	CHECK_EQ(judge(f).score, 0);
	f.is_hung = true;
	CHECK_EQ(judge(f).rc, HF_OCF_ERR_GENERIC);
}

TEST(names)
{
	CHECK_STR(hf_ocf_name(HF_OCF_SUCCESS), "OCF_SUCCESS");
	CHECK_STR(hf_ocf_name(HF_OCF_ERR_INSTALLED), "OCF_ERR_INSTALLED");
	CHECK_STR(hf_ocf_name(HF_OCF_FAILED_PROMOTED), "OCF_FAILED_PROMOTED");
	CHECK_STR(hf_ocf_name((enum hf_ocf)10), "?");
}

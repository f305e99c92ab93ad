/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/announce.h"

#include <assert.h>

static const char *const words[HF_TROUBLE_COUNT] = { "",          "freezing", "frozen",
						     "crashed",   "failed",   "paused",
						     "suspended", "silent",   "hung" };

const char *hf_trouble_name(enum hf_trouble trouble)
{
	return (unsigned int)trouble < HF_TROUBLE_COUNT ? words[trouble] : "?";
}

static bool is_same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

int hf_trouble_find(const char *name)
{
	for (int i = 0; i < HF_TROUBLE_COUNT; i++)
		if (is_same(words[i], name))
			return i;
	return -1;
}

bool hf_trouble_is_failure(enum hf_trouble trouble)
{
	return trouble == HF_TROUBLE_FROZEN || trouble == HF_TROUBLE_CRASHED ||
	       trouble == HF_TROUBLE_FAILED || trouble == HF_TROUBLE_PAUSED ||
	       trouble == HF_TROUBLE_HUNG;
}

/* What has ended is in no doubt, however silent who guards it. */
enum hf_trouble hf_trouble_of(enum hf_vm_state state, enum hf_vm_pause pause,
			      enum hf_vm_cause cause, bool is_silent)
{
	if (state == HF_VM_FROZEN)
		return HF_TROUBLE_FROZEN;
	if (state == HF_VM_CRASHED)
		return HF_TROUBLE_CRASHED;
	if (state == HF_VM_FAILED)
		return HF_TROUBLE_FAILED;
	if (state == HF_VM_SHUT_OFF || state == HF_VM_SAVED)
		return HF_TROUBLE_NONE;
	if (state == HF_VM_RUNNING && cause == HF_VM_CAUSE_HANG)
		return HF_TROUBLE_HUNG;
	if (is_silent)
		return HF_TROUBLE_SILENT;
	if (state == HF_VM_FREEZING)
		return HF_TROUBLE_FREEZING;
	if (state != HF_VM_PAUSED)
		return HF_TROUBLE_NONE;
	if (pause == HF_VM_PAUSE_FAULT)
		return HF_TROUBLE_PAUSED;
	return pause == HF_VM_PAUSE_LEASE ? HF_TROUBLE_SUSPENDED : HF_TROUBLE_NONE;
}

/* ---- what follows from the facts ---- */

/* It befell the VM after the manager had decided to have it here, or it is not known when. */
static bool is_of_this_placement(const struct hf_announce_facts *f)
{
	return !f->trouble_ns || f->trouble_ns > f->placed_ns;
}

/* What is settled is open again when it is over, or when it is another one. */
static void take_facts(struct hf_announce *a, const struct hf_announce_facts *f)
{
	bool is_another = f->place == HF_ANNOUNCE_HERE && f->trouble_ns > f->placed_ns &&
			  f->trouble_ns != a->settled_ns;

	if (is_another || !hf_trouble_is_failure(f->trouble))
		a->is_announced = a->is_past = false;
	/* Whatever is wrong with what the manager has ended here is no news to it, now or later. */
	if (hf_trouble_is_failure(f->trouble) &&
	    (f->place == HF_ANNOUNCE_AWAY ||
	     (f->place == HF_ANNOUNCE_HERE && !is_of_this_placement(f)))) {
		a->is_past = true;
		a->settled_ns = f->trouble_ns;
	}
}

static bool is_failure_owed(const struct hf_announce *a, const struct hf_announce_facts *f)
{
	if (f->trouble == HF_TROUBLE_FAILED && f->is_unborn)
		return false;
	return f->place == HF_ANNOUNCE_HERE && hf_trouble_is_failure(f->trouble) &&
	       !a->is_announced && !a->is_past;
}

static bool is_score_owed(const struct hf_announce *a, const struct hf_announce_facts *f)
{
	return f->is_promotable && (!a->is_score_told || a->told_score != f->score);
}

/*
 * What the manager has started here again by its own decision keeps what it has counted. While it has not dealt with the
 * failure yet, as in maintenance, there is nothing to clean: that is due once it has.
 */
static bool is_cleaning_due(struct hf_announce *a, const struct hf_announce_facts *f)
{
	if (!a->is_cleaning_owed || f->trouble)
		return false;
	if (f->place == HF_ANNOUNCE_HERE && f->placed_ns > a->settled_ns)
		a->is_cleaning_owed = false;
	return a->is_cleaning_owed && f->place == HF_ANNOUNCE_AWAY;
}

static enum hf_announce_action next_level(struct hf_announce *a, const struct hf_announce_facts *f,
					  const struct hf_announce_links *links)
{
	bool is_reason_right = a->is_reason_told && a->told_reason == f->reason;

	if (!links->has_attributes)
		return HF_ANNOUNCE_NOTHING;
	if (!a->is_asked)
		return HF_ANNOUNCE_ASK;
	/* Before the attribute goes, by which it is remembered that there is something to clean. */
	if (is_cleaning_due(a, f))
		return links->has_controller ? HF_ANNOUNCE_CLEAN : HF_ANNOUNCE_NOTHING;
	if (f->is_fresh && f->trouble && f->place == HF_ANNOUNCE_HERE)
		return HF_ANNOUNCE_NOTHING;
	if (a->told_trouble != f->trouble)
		return HF_ANNOUNCE_TROUBLE;
	return is_reason_right ? HF_ANNOUNCE_NOTHING : HF_ANNOUNCE_REASON;
}

enum hf_announce_action hf_announce_next(struct hf_announce *a, const struct hf_announce_facts *f,
					 const struct hf_announce_links *links)
{
	assert(f->trouble < HF_TROUBLE_COUNT);
	take_facts(a, f);
	if (is_score_owed(a, f)) {
		if (links->has_attributes)
			return HF_ANNOUNCE_SCORE;
	} else if (links->has_controller && is_failure_owed(a, f)) {
		return HF_ANNOUNCE_FAIL;
	}
	return next_level(a, f, links);
}

/* ---- what was done ---- */

void hf_announce_done(struct hf_announce *a, const struct hf_announce_facts *f,
		      enum hf_announce_action action)
{
	if (action == HF_ANNOUNCE_SCORE) {
		a->is_score_told = true;
		a->told_score = f->score;
	} else if (action == HF_ANNOUNCE_FAIL) {
		assert(f->place == HF_ANNOUNCE_HERE && hf_trouble_is_failure(f->trouble));
		a->is_announced = a->is_cleaning_owed = true;
		a->settled_ns = f->trouble_ns;
	} else if (action == HF_ANNOUNCE_TROUBLE) {
		a->told_trouble = f->trouble;
		a->is_cleaning_owed |= hf_trouble_is_failure(f->trouble);
	} else if (action == HF_ANNOUNCE_REASON) {
		a->is_reason_told = true;
		a->told_reason = f->reason;
	} else if (action == HF_ANNOUNCE_CLEAN) {
		a->is_cleaning_owed = false;
	}
}

void hf_announce_asked(struct hf_announce *a, enum hf_trouble told)
{
	assert(told < HF_TROUBLE_COUNT);
	a->is_asked = true;
	a->told_trouble = told;
	a->is_cleaning_owed |= hf_trouble_is_failure(told);
}

void hf_announce_lost_attributes(struct hf_announce *a)
{
	a->is_asked = a->is_reason_told = a->is_score_told = false;
}

/* It may have died with the news: said again if it is still so. */
void hf_announce_lost_controller(struct hf_announce *a)
{
	a->is_announced = false;
}

const char *hf_announce_action_name(enum hf_announce_action action)
{
	static const char *const names[HF_ANNOUNCE_ACTION_COUNT] = {
		"nothing", "ask", "score", "fail", "trouble", "reason", "clean",
	};

	return (unsigned int)action < HF_ANNOUNCE_ACTION_COUNT ? names[action] : "?";
}

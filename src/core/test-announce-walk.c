/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random histories of a host: a VM that fails and is released, a manager that starts and stops it, connections that are
 * lost, who announces being killed. The manager takes news at once, and loses what real ones lose. Looked at: no
 * failure of what was ended, none that is older than the decision, none before its score; and that in the end all is
 * as it should be, whatever was lost on the way.
 */
#include "../../tests/test.h"
#include "core/announce.h"

#define HISTORIES 4000u
#define STEPS 120u

struct manager {
	enum hf_trouble trouble;
	uint32_t reason;
	int score;
	bool is_banned; /* a failure was counted */
};

static struct world {
	struct hf_announce a;
	struct hf_announce_facts f;
	struct hf_announce_links links;
	struct manager m;
	uint64_t now_ns;
	bool is_told; /* this failure reached the manager */
	unsigned int n_fails, n_cleaned;
} w;

static uint64_t seed;

static unsigned int chance(unsigned int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int)((seed >> 20) % n);
}

static void take_failure(void)
{
	CHECK_EQ(w.f.place, HF_ANNOUNCE_HERE);
	CHECK(hf_trouble_is_failure(w.f.trouble));
	CHECK(!w.f.trouble_ns || w.f.trouble_ns > w.f.placed_ns);
	if (w.f.is_promotable)
		CHECK_EQ(w.m.score, w.f.score);
	w.m.is_banned = w.is_told = true;
	w.n_fails++;
}

static void carry_out(enum hf_announce_action action)
{
	if (action == HF_ANNOUNCE_ASK) {
		hf_announce_asked(&w.a, w.m.trouble);
		return;
	}
	if (action == HF_ANNOUNCE_FAIL)
		take_failure();
	else if (action == HF_ANNOUNCE_SCORE)
		w.m.score = w.f.score;
	else if (action == HF_ANNOUNCE_TROUBLE)
		w.m.trouble = w.f.trouble;
	else if (action == HF_ANNOUNCE_REASON)
		w.m.reason = w.f.reason;
	else if (action == HF_ANNOUNCE_CLEAN) {
		CHECK(w.f.place != HF_ANNOUNCE_HERE && !w.f.trouble);
		w.m.is_banned = false;
		w.n_cleaned++;
	}
	hf_announce_done(&w.a, &w.f, action);
}

/* @steps: then something else happens. */
static void announce(unsigned int steps)
{
	enum hf_announce_action action;

	while (steps--) {
		action = hf_announce_next(&w.a, &w.f, &w.links);
		if (action == HF_ANNOUNCE_NOTHING)
			return;
		if (action == HF_ANNOUNCE_FAIL || action == HF_ANNOUNCE_CLEAN)
			CHECK(w.links.has_controller);
		else
			CHECK(w.links.has_attributes);
		carry_out(action);
	}
}

static void vm_event(void)
{
	unsigned int what = chance(4);

	if (what == 0 && w.f.place == HF_ANNOUNCE_HERE && !w.f.trouble) {
		w.f.trouble = (enum hf_trouble)(1 + chance(HF_TROUBLE_COUNT - 1));
		w.f.trouble_ns = w.now_ns;
		w.f.reason = 1 + chance(1000);
		w.f.score = 0;
		w.is_told = false;
	} else if (what == 1 && w.f.trouble == HF_TROUBLE_FREEZING) {
		w.f.trouble = HF_TROUBLE_FROZEN;
	} else if (what == 2 && w.f.trouble) {
		w.f.trouble = HF_TROUBLE_NONE; /* released, cleared, resumed */
		w.f.reason = 0;
	} else if (what == 3 && !w.f.trouble) {
		w.f.score = w.f.place == HF_ANNOUNCE_HERE ? (int)chance(3) * 1000 : 0;
	}
}

static void manager_event(void)
{
	if (chance(2)) {
		w.f.place = chance(12) ? HF_ANNOUNCE_AWAY : HF_ANNOUNCE_UNKNOWN;
		w.f.placed_ns = w.now_ns;
		w.f.score = 0;
		return;
	}
	w.f.place = HF_ANNOUNCE_HERE;
	w.f.placed_ns = w.now_ns;
	if (chance(2)) {
		w.f.trouble = HF_TROUBLE_NONE; /* the start has cleared it, by and by */
		w.f.reason *= chance(2); /* or what was frozen is kept beside what was started */
		w.is_told = false;
	}
}

static void loss(void)
{
	switch (chance(6)) {
	case 0:
		w.links.has_attributes = false;
		hf_announce_lost_attributes(&w.a);
		break;
	case 1:
		w.links.has_controller = false;
		hf_announce_lost_controller(&w.a);
		break;
	case 2: /* who keeps attributes begins with nothing, counted failures included */
		w.links.has_attributes = false;
		hf_announce_lost_attributes(&w.a);
		w.m = (struct manager){ 0 };
		break;
	case 3:
		w.a = (struct hf_announce){ 0 };
		w.links = (struct hf_announce_links){ false, false };
		break;
	case 4:
		w.links.has_attributes = true;
		break;
	default:
		w.links.has_controller = true;
	}
}

static void check_all_told(void)
{
	bool is_owed = w.f.place == HF_ANNOUNCE_HERE && hf_trouble_is_failure(w.f.trouble) &&
		       w.f.trouble_ns > w.f.placed_ns;

	w.links = (struct hf_announce_links){ true, true };
	announce(100);
	CHECK_EQ(hf_announce_next(&w.a, &w.f, &w.links), HF_ANNOUNCE_NOTHING);
	CHECK_EQ(w.m.trouble, w.f.trouble);
	CHECK_EQ(w.m.reason, w.f.reason);
	if (w.f.is_promotable)
		CHECK_EQ(w.m.score, w.f.score);
	if (is_owed)
		CHECK(w.is_told);
}

static void live_through(uint64_t n)
{
	memset(&w, 0, sizeof(w));
	seed = 0x9e3779b97f4a7c15u ^ (n * 0xbf58476d1ce4e5b9u);
	w.f.place = HF_ANNOUNCE_AWAY;
	w.f.is_promotable = chance(2);
	for (unsigned int i = 0; i < STEPS; i++) {
		w.now_ns += 1 + chance(3);
		if (chance(3))
			vm_event();
		else if (chance(2))
			manager_event();
		else
			loss();
		w.f.is_fresh = chance(2);
		announce(chance(5));
	}
	w.f.is_fresh = false;
	check_all_told();
}

TEST(histories)
{
	unsigned int n_fails = 0, n_cleaned = 0;

	for (uint64_t n = 1; n <= HISTORIES; n++) {
		live_through(n);
		n_fails += w.n_fails;
		n_cleaned += w.n_cleaned;
	}
	CHECK(n_fails > HISTORIES / 2);
	CHECK(n_cleaned > HISTORIES / 10);
	printf("# %u failures announced, %u cleaned up\n", n_fails, n_cleaned);
}

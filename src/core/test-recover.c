/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/recover.h"

#define SECOND UINT64_C(1000000000)

/* ---- wanted ---- */

TEST(the_newest_order_wins_on_both_sides)
{
	struct hf_wanted a = { 0 };
	struct hf_wanted b = { 0 };

	hf_wanted_order(&a, true, "hostA", "hostA");
	CHECK_EQ(a.version, 1);
	CHECK(hf_wanted_take(&b, &a));
	CHECK(b.is_started);
	CHECK_STR(b.host, "hostA");
	CHECK(!hf_wanted_take(&b, &a)); /* is known */
	hf_wanted_order(&b, false, "", "hostB");
	CHECK(hf_wanted_take(&a, &b));
	CHECK(!a.is_started);
	CHECK_STR(a.host, "");
	CHECK_EQ(a.version, 2);
}

TEST(of_two_orders_at_once_both_sides_choose_the_same)
{
	struct hf_wanted a = { 0 };
	struct hf_wanted b = { 0 };
	struct hf_wanted first;

	hf_wanted_order(&a, true, "hostA", "hostA");
	hf_wanted_order(&b, true, "hostB", "hostB");
	first = a;
	CHECK(hf_wanted_take(&a, &b));
	CHECK(!hf_wanted_take(&b, &first));
	CHECK_STR(a.host, "hostB");
	CHECK_STR(b.host, "hostB");
}

TEST(a_version_never_leaves_what_json_keeps)
{
	struct hf_wanted w = { .version = HF_WANTED_VERSION_MAX };

	hf_wanted_order(&w, true, "h", "h");
	CHECK(w.version == HF_WANTED_VERSION_MAX);
}

/* ---- place: one host ---- */

static struct hf_place_facts facts(void)
{
	return (struct hf_place_facts){
		.is_wanted = true,
		.may_run = true,
		.may_stand_by = true,
		.is_peer_up = true,
		.has_peer_definition = true,
		.is_same_definition = true,
		.may_peer_run = true,
		.now_ns = SECOND,
	};
}

static enum hf_place place(const struct hf_place_facts *f)
{
	struct hf_place_verdict v;

	hf_place(f, &v);
	CHECK(hf_place_text(v.why)[0]);
	CHECK(hf_place_name(v.place)[0]);
	return v.place;
}

TEST(it_runs_where_it_is_wanted_and_the_other_keeps_the_standby)
{
	struct hf_place_facts f = facts();

	CHECK_EQ(place(&f), HF_PLACE_WAIT); /* the other one's to start */
	f.there = HF_HAVE_RUNNING;
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
	f = facts();
	f.is_wanted_here = true;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.there = HF_HAVE_RUNNING; /* it was started there all the same: e.g. a failover */
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
}

TEST(no_standby_of_another_definition)
{
	struct hf_place_facts f = facts();
	struct hf_place_verdict v;

	f.there = HF_HAVE_RUNNING;
	f.is_same_definition = false;
	hf_place(&f, &v);
	CHECK_EQ(v.place, HF_PLACE_NOTHING);
	CHECK_EQ(v.why, HF_PLACE_DIFFERS);
	f.here = HF_HAVE_STANDBY; /* but one that stands by goes on */
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
}

TEST(what_holds_the_state_goes_live_before_anybody_boots)
{
	struct hf_place_facts f = facts();

	f.is_wanted_here = true;
	f.there = HF_HAVE_STANDBY;
	CHECK_EQ(place(&f), HF_PLACE_WAIT);
	f.there = HF_HAVE_EMPTY_STANDBY;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
}

TEST(frozen_there_it_is_started_here)
{
	struct hf_place_facts f = facts();

	f.may_peer_run = false;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.here = HF_HAVE_EMPTY_STANDBY;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.may_run = false;
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
	f.here = HF_HAVE_NOTHING;
	CHECK_EQ(place(&f), HF_PLACE_NOTHING);
}

TEST(a_silent_host_is_waited_for_and_an_order_is_not)
{
	struct hf_place_facts f = facts();
	struct hf_place_verdict v;

	f.is_peer_up = false;
	f.peer_since_ns = SECOND;
	f.is_wanted_here = true;
	hf_place(&f, &v);
	CHECK_EQ(v.place, HF_PLACE_WAIT);
	CHECK(v.again_ns == SECOND + HF_PLACE_PATIENCE_NS);
	f.now_ns = v.again_ns;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.now_ns = SECOND;
	f.is_ordered = true;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
}

TEST(only_with_a_reason_does_anybody_try_without_the_other)
{
	struct hf_place_facts f = facts();
	struct hf_place_verdict v;

	f.is_peer_up = false;
	f.now_ns = 1000 * SECOND;
	hf_place(&f, &v);
	CHECK_EQ(v.place, HF_PLACE_WAIT);
	CHECK(v.again_ns == UINT64_MAX);
	f.has_run_last = true;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.here = HF_HAVE_EMPTY_STANDBY;
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
	f.has_lease = true;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
}

TEST(stopped_the_standby_goes_last)
{
	struct hf_place_facts f = facts();

	f.is_wanted = false;
	CHECK_EQ(place(&f), HF_PLACE_WAIT);
	f.here = HF_HAVE_RUNNING;
	CHECK_EQ(place(&f), HF_PLACE_END);
	f.here = HF_HAVE_STANDBY;
	f.there = HF_HAVE_RUNNING;
	CHECK_EQ(place(&f), HF_PLACE_NOTHING);
	f.there = HF_HAVE_NOTHING;
	CHECK_EQ(place(&f), HF_PLACE_END);
	f.is_peer_up = false; /* may be the only copy of something that runs */
	CHECK_EQ(place(&f), HF_PLACE_NOTHING);
}

/* All facts there are: no host that runs or holds a state is told to boot it anew, nor one that has a
 * running one beside it. */
TEST(nobody_is_told_to_run_what_runs_or_can_go_live)
{
	struct hf_place_verdict v;

	for (unsigned int bits = 0; bits < 1u << 14; bits++)
		for (unsigned int h = 0; h < HF_HAVE_COUNT * HF_HAVE_COUNT; h++) {
			const struct hf_place_facts f = {
				.is_wanted = bits & 1,
				.is_wanted_here = bits & 2,
				.is_ordered = bits & 4,
				.may_run = bits & 8,
				.may_stand_by = bits & 16,
				.has_run_last = bits & 32,
				.has_lease = bits & 64,
				.is_peer_up = bits & 128,
				.has_peer_definition = bits & 256,
				.is_same_definition = bits & 512,
				.may_peer_run = bits & 1024,
				.is_managed = bits & 4096,
				.is_in_touch = bits & 8192,
				.here = (enum hf_place_have)(h % HF_HAVE_COUNT),
				.there = (enum hf_place_have)(h / HF_HAVE_COUNT),
				.now_ns = bits & 2048 ? 1000 * SECOND : SECOND,
			};

			hf_place(&f, &v);
			CHECK(v.place < HF_PLACE_COUNT && v.why < HF_PLACE_WHY_COUNT);
			CHECK(v.place != HF_PLACE_END || (!f.is_wanted && f.here && !f.is_managed));
			if (v.place != HF_PLACE_RUN || f.here == HF_HAVE_RUNNING)
				continue;
			CHECK(f.is_wanted && f.may_run && f.here != HF_HAVE_STANDBY);
			CHECK(!f.is_managed || (f.is_wanted_here && !f.is_in_touch));
			CHECK(!f.is_peer_up ||
			      (f.there != HF_HAVE_RUNNING && f.there != HF_HAVE_STANDBY));
		}
}

/* ---- place: what a cluster manager has assigned ---- */

static struct hf_place_facts assigned(bool is_run)
{
	struct hf_place_facts f = facts();

	f.is_managed = true;
	f.is_wanted_here = f.may_run = is_run;
	f.may_peer_run = false; /* nor is it to run there */
	return f;
}

TEST(an_assigned_standby_is_kept_and_never_run)
{
	struct hf_place_facts f = assigned(false);
	struct hf_place_verdict v;

	hf_place(&f, &v);
	CHECK_EQ(v.place, HF_PLACE_STANDBY); /* although it runs nowhere */
	CHECK_EQ(v.why, HF_PLACE_ASSIGNED);
	f.here = HF_HAVE_EMPTY_STANDBY;
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
	f.is_peer_up = false;
	f.now_ns = 3600 * SECOND;
	f.has_lease = true;
	CHECK_EQ(place(&f), HF_PLACE_STANDBY); /* however long the other one is silent */
	f = assigned(false);
	f.there = HF_HAVE_RUNNING;
	hf_place(&f, &v);
	CHECK_EQ(v.place, HF_PLACE_STANDBY);
	CHECK_EQ(v.why, HF_PLACE_PEER_RUNS);
	f.is_same_definition = false;
	hf_place(&f, &v);
	CHECK_EQ(v.place, HF_PLACE_NOTHING);
	CHECK_EQ(v.why, HF_PLACE_DIFFERS);
	f = assigned(false);
	f.here = HF_HAVE_RUNNING; /* it has gone live */
	CHECK_EQ(place(&f), HF_PLACE_RUN);
}

TEST(what_is_assigned_to_run_runs_if_it_runs_nowhere)
{
	struct hf_place_facts f = assigned(true);

	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.here = HF_HAVE_EMPTY_STANDBY; /* makes room */
	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.is_in_touch = true; /* its primary lives, whatever the daemons know */
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
	f.is_in_touch = false;
	f.there = HF_HAVE_RUNNING;
	CHECK_EQ(place(&f), HF_PLACE_STANDBY);
	f.there = HF_HAVE_STANDBY; /* its vote decides: what is here waits for that */
	CHECK_EQ(place(&f), HF_PLACE_WAIT);
	f.here = HF_HAVE_NOTHING;
	CHECK_EQ(place(&f), HF_PLACE_WAIT);
	f.there = HF_HAVE_EMPTY_STANDBY;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
	f.may_run = false; /* frozen here */
	CHECK_EQ(place(&f), HF_PLACE_NOTHING);
}

TEST(an_assigned_start_without_the_other_host_is_as_any_other)
{
	struct hf_place_facts f = assigned(true);

	f.is_peer_up = false;
	CHECK_EQ(place(&f), HF_PLACE_WAIT);
	f.is_ordered = true;
	CHECK_EQ(place(&f), HF_PLACE_RUN); /* the lease, or the keepers' question, decides */
	f.is_ordered = false;
	f.has_lease = true;
	f.now_ns = 3600 * SECOND;
	CHECK_EQ(place(&f), HF_PLACE_RUN);
}

TEST(what_is_not_assigned_is_left_as_it_is)
{
	struct hf_place_facts f = assigned(false);

	f.is_wanted = false;
	for (int here = 0; here < HF_HAVE_COUNT; here++) {
		f.here = (enum hf_place_have)here;
		CHECK_EQ(place(&f), HF_PLACE_NOTHING);
	}
}

/* ---- place: two hosts that tell each other ---- */

struct host {
	enum hf_place_have have;
	bool may_run;
	bool has_run_last;
	struct hf_wanted wanted;
};

struct world {
	struct host host[2];
	bool is_joined; /* the two reach each other */
	uint64_t seed;
};

static const char *const names[2] = { "hostA", "hostB" };

static unsigned int pick(struct world *w, unsigned int n)
{
	w->seed = w->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned int)(w->seed >> 33) % n;
}

static struct hf_place_facts facts_of(const struct world *w, unsigned int i, uint64_t now_ns)
{
	const struct host *own = &w->host[i];
	const struct host *other = &w->host[1 - i];

	return (struct hf_place_facts){
		.is_wanted = own->wanted.is_started,
		.is_wanted_here = strcmp(own->wanted.host, names[i]) == 0,
		.may_run = own->may_run,
		.may_stand_by = true,
		.has_run_last = own->has_run_last,
		.here = own->have,
		.is_peer_up = w->is_joined,
		.has_peer_definition = true,
		.is_same_definition = true,
		.may_peer_run = other->may_run,
		.there = w->is_joined ? other->have : HF_HAVE_NOTHING,
		.now_ns = now_ns,
	};
}

static void exchange(struct world *w)
{
	struct hf_wanted a = w->host[0].wanted;

	if (!w->is_joined)
		return;
	(void)hf_wanted_take(&w->host[0].wanted, &w->host[1].wanted);
	(void)hf_wanted_take(&w->host[1].wanted, &a);
}

/* The keepers' question: refused when it runs there or its state is held, or nobody answers. */
static void try_to_run(struct world *w, unsigned int i)
{
	const struct host *other = &w->host[1 - i];

	if (!w->is_joined || other->have == HF_HAVE_RUNNING || other->have == HF_HAVE_STANDBY)
		return;
	w->host[i].have = HF_HAVE_RUNNING;
	w->host[i].has_run_last = true;
}

static void act(struct world *w, unsigned int i, uint64_t now_ns)
{
	const struct hf_place_facts f = facts_of(w, i, now_ns);
	struct host *own = &w->host[i];
	struct hf_place_verdict v;

	hf_place(&f, &v);
	if (v.place == HF_PLACE_RUN && own->have != HF_HAVE_RUNNING)
		try_to_run(w, i);
	else if (v.place == HF_PLACE_STANDBY && own->have == HF_HAVE_NOTHING)
		own->have = HF_HAVE_EMPTY_STANDBY;
	else if (v.place == HF_PLACE_END)
		own->have = HF_HAVE_NOTHING;
	if (own->have == HF_HAVE_RUNNING && own->wanted.is_started && !f.is_wanted_here)
		hf_wanted_order(&own->wanted, true, names[i], names[i]);
}

/* The standby takes a state in; goes live when its primary has gone. */
static void replicate(struct world *w)
{
	for (unsigned int i = 0; i < 2; i++) {
		if (!w->is_joined)
			continue;
		if (w->host[i].have == HF_HAVE_EMPTY_STANDBY &&
		    w->host[1 - i].have == HF_HAVE_RUNNING)
			w->host[i].have = HF_HAVE_STANDBY;
		else if (w->host[i].have == HF_HAVE_STANDBY &&
			 w->host[1 - i].have != HF_HAVE_RUNNING) {
			w->host[i].have = HF_HAVE_RUNNING;
			w->host[i].has_run_last = true;
		}
	}
}

static void disturb(struct world *w)
{
	unsigned int i = pick(w, 2);

	switch (pick(w, 6)) {
	case 0: /* dies, and is back at once */
	case 1:
		w->host[i].have = HF_HAVE_NOTHING;
		break;
	case 2:
		w->is_joined = !w->is_joined;
		break;
	case 3: /* frozen, or released */
		if (w->host[i].have == HF_HAVE_RUNNING)
			w->host[i].have = HF_HAVE_NOTHING;
		w->host[i].may_run = !w->host[i].may_run;
		break;
	case 4:
		hf_wanted_order(&w->host[i].wanted, pick(w, 3) > 0, names[pick(w, 2)], names[i]);
		break;
	default:
		break;
	}
}

static void settle(struct world *w)
{
	w->is_joined = true;
	w->host[pick(w, 2)].may_run = true;
	for (unsigned int n = 0; n < 20; n++) {
		exchange(w);
		act(w, n % 2, 1000 * SECOND);
		replicate(w);
	}
}

static unsigned int count(const struct world *w, enum hf_place_have have)
{
	return (w->host[0].have == have ? 1u : 0u) + (w->host[1].have == have ? 1u : 0u);
}

/* Whatever happened to the two: once it is over it runs, once, and is protected; or is gone. */
TEST(two_hosts_settle_after_anything)
{
	for (uint64_t seed = 0; seed < 5000; seed++) {
		struct world w = { .seed = seed, .is_joined = true };

		w.host[0].may_run = w.host[1].may_run = true;
		for (unsigned int n = 0; n < 40; n++) {
			disturb(&w);
			if (pick(&w, 2))
				exchange(&w);
			act(&w, pick(&w, 2), (1 + n) * SECOND);
			if (pick(&w, 2))
				replicate(&w);
			CHECK(count(&w, HF_HAVE_RUNNING) < 2);
		}
		settle(&w);
		CHECK_EQ(w.host[0].wanted.version, w.host[1].wanted.version);
		CHECK_EQ(count(&w, HF_HAVE_RUNNING), w.host[0].wanted.is_started ? 1 : 0);
		CHECK_EQ(count(&w, HF_HAVE_STANDBY), w.host[0].wanted.is_started ? 1 : 0);
	}
}

/* ---- recover ---- */

static int step(struct hf_recover *r, enum hf_recover_event_kind kind, unsigned int host,
		uint64_t now_ns)
{
	const struct hf_recover_event ev = { .kind = kind,
					     .host = host,
					     .n_hosts = 3,
					     .has_lease = r->has_lease,
					     .now_ns = now_ns };

	return hf_recover_step(r, &ev);
}

static struct hf_recover begun(bool has_lease, int first)
{
	struct hf_recover r;

	hf_recover_init(&r);
	r.has_lease = has_lease;
	CHECK_EQ(step(&r, HF_RECOVER_EV_UP, 0, 1), -1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_UP, 2, 1), -1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_BEGIN, 0, 2), first);
	return r;
}

TEST(the_best_that_is_up_is_asked_and_the_next_if_it_refuses)
{
	struct hf_recover r = begun(false, 0);

	CHECK_EQ(step(&r, HF_RECOVER_EV_REFUSED, 0, 3), 2); /* 1 is down */
	CHECK_EQ(step(&r, HF_RECOVER_EV_REFUSED, 2, 4), -1);
	CHECK_EQ(r.state, HF_RECOVER_WAITING);
	CHECK(hf_recover_deadline_ns(&r) == 3 + HF_RECOVER_AGAIN_NS);
	CHECK_EQ(step(&r, HF_RECOVER_EV_UP, 1, 5), 1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_STARTED, 1, 6), -1);
	CHECK_EQ(r.state, HF_RECOVER_DONE);
	CHECK_EQ(r.asked, 1);
	CHECK(hf_recover_deadline_ns(&r) == UINT64_MAX);
}

TEST(without_a_lease_the_one_that_was_asked_is_waited_for)
{
	struct hf_recover r = begun(false, 0);

	CHECK_EQ(step(&r, HF_RECOVER_EV_DOWN, 0, 3), -1);
	CHECK_EQ(r.state, HF_RECOVER_UNSURE);
	CHECK_EQ(step(&r, HF_RECOVER_EV_UP, 1, 4), -1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_TIME, 0, 1000 * SECOND), -1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_UP, 0, 1001 * SECOND), 0);
	CHECK_EQ(step(&r, HF_RECOVER_EV_TIME, 0, 1001 * SECOND + HF_RECOVER_ANSWER_NS), -1);
	CHECK_EQ(r.state, HF_RECOVER_UNSURE);
	CHECK_EQ(step(&r, HF_RECOVER_EV_REFUSED, 0, 1100 * SECOND), 1);
}

TEST(with_a_lease_others_may_contend)
{
	struct hf_recover r = begun(true, 0);

	CHECK_EQ(step(&r, HF_RECOVER_EV_DOWN, 0, 3), 2);
	CHECK_EQ(step(&r, HF_RECOVER_EV_TIME, 0, 3 + HF_RECOVER_ANSWER_NS), -1);
	CHECK_EQ(r.state, HF_RECOVER_WAITING);
	CHECK_EQ(step(&r, HF_RECOVER_EV_UP, 0, 4 + HF_RECOVER_ANSWER_NS), 0);
	CHECK_EQ(step(&r, HF_RECOVER_EV_STARTED, 2, 5 + HF_RECOVER_ANSWER_NS), -1);
	CHECK_EQ(r.state, HF_RECOVER_DONE);
}

TEST(what_is_cancelled_asks_nobody)
{
	struct hf_recover r = begun(true, 0);

	CHECK_EQ(step(&r, HF_RECOVER_EV_CANCEL, 0, 3), -1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_REFUSED, 0, 4), -1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_UP, 1, 5), -1);
	CHECK_EQ(step(&r, HF_RECOVER_EV_STARTED, 0, 6), -1);
	CHECK_EQ(r.state, HF_RECOVER_IDLE);
	CHECK_EQ(step(&r, HF_RECOVER_EV_BEGIN, 0, 7), 0);
}

/* Any run of events: without a lease nobody is asked while somebody else may have started it; what is
 * open has a deadline or waits for a host; and in the end somebody is asked again. */
TEST(recover_walks)
{
	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct world w = { .seed = seed };
		struct hf_recover r;
		int open = -1; /* was asked, and has not said */
		uint64_t now_ns = 1;

		hf_recover_init(&r);
		r.has_lease = seed % 2;
		for (unsigned int n = 0; n < 60; n++) {
			enum hf_recover_event_kind kind =
				(enum hf_recover_event_kind)pick(&w, HF_RECOVER_EVENT_COUNT);
			unsigned int host = pick(&w, 3);
			int asked;

			if (pick(&w, 2))
				now_ns += pick(&w, 40) * SECOND;
			asked = step(&r, kind, host, now_ns);
			if (kind == HF_RECOVER_EV_CANCEL || r.state == HF_RECOVER_DONE ||
			    (kind == HF_RECOVER_EV_REFUSED && (int)host == open))
				open = -1;
			CHECK(asked < 0 || r.host[asked].is_up);
			CHECK(asked < 0 || r.has_lease || open < 0 || open == asked);
			if (asked >= 0)
				open = asked;
			CHECK(kind != HF_RECOVER_EV_TIME || hf_recover_deadline_ns(&r) > now_ns);
		}
		if (r.state == HF_RECOVER_IDLE || r.state == HF_RECOVER_DONE)
			continue;
		for (unsigned int i = 0; i < 3; i++)
			(void)step(&r, HF_RECOVER_EV_UP, i, now_ns);
		CHECK(r.state == HF_RECOVER_ASKING);
	}
}

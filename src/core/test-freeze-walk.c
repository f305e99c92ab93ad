/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Freezing under events in any order, also in orders that no driver produces; and with a fair driver, who
 * answers each action in one of the ways that there are, in every combination of ways: it has to end
 * certified, or stuck on what was made to live on, and certified when that dies.
 */
#include "../../tests/test.h"
#include "core/freeze.h"

#define MS_NS 1000000ULL
#define WALKS 100000u
#define STEPS 60u

static uint64_t random_state;

static unsigned int draw(unsigned int below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned int)(random_state >> 33) % below;
}

static struct hf_freeze_given given_of(unsigned int bits)
{
	return (struct hf_freeze_given){
		.is_qemu_alive = bits & 1,
		.is_qmp_silent = bits & 2,
		.is_guest_stopped = bits & 4,
		.has_nets = bits & 8,
		.has_disks = bits & 16,
		.has_own_files = bits & 32,
		.has_cgroup = bits & 64,
		.has_lease = bits & 128,
		.is_pledged = bits & 256,
		.is_kill_wanted = bits & 512,
	};
}
#define GIVEN_BITS 10

/* ---- what has been reported, and what may follow from that ---- */

struct account {
	struct hf_freeze_given given;
	unsigned int ordered[HF_FREEZE_ACTION_COUNT]; /* how often */
	bool is_qemu_dead, are_disks_dead;
	bool are_nets_over, is_cgroup_frozen, is_latch_durable, is_latch_over;
	bool is_lease_over;
	bool is_verified; /* and nothing has changed since */
	bool has_changed; /* since DO_VERIFY */
	bool is_certificate_stale;
};

static void note_change(struct account *a)
{
	a->is_verified = false;
	a->has_changed = true;
	a->is_certificate_stale = true;
}

static void note_done(struct account *a, const struct hf_freeze *before,
		      const struct hf_freeze_event *ev)
{
	if (before->step[ev->step].result != HF_FREEZE_BEGUN)
		return;
	a->are_nets_over |= ev->step == HF_FREEZE_NETS;
	a->is_lease_over |= ev->step == HF_FREEZE_LEASE;
	a->is_latch_over |= ev->step == HF_FREEZE_LATCH;
	if (ev->kind != HF_FREEZE_EV_DONE)
		return;
	a->is_cgroup_frozen |= ev->step == HF_FREEZE_CGROUP;
	a->is_latch_durable |= ev->step == HF_FREEZE_LATCH;
}

static void note(struct account *a, const struct hf_freeze *before,
		 const struct hf_freeze_event *ev)
{
	if (ev->kind == HF_FREEZE_EV_DONE || ev->kind == HF_FREEZE_EV_FAILED)
		note_done(a, before, ev);
	if (ev->kind == HF_FREEZE_EV_QEMU_DEAD && !a->is_qemu_dead) {
		a->is_qemu_dead = true;
		note_change(a);
	}
	if (ev->kind == HF_FREEZE_EV_DISKS_DEAD)
		a->are_disks_dead = true;
	if (ev->kind == HF_FREEZE_EV_VERIFIED && !a->has_changed &&
	    before->step[HF_FREEZE_VERIFY].result == HF_FREEZE_BEGUN)
		a->is_verified = true;
}

static bool is_p123(const struct account *a)
{
	if (!a->is_qemu_dead && (!a->is_cgroup_frozen || a->ordered[HF_FREEZE_DO_KILL_QEMU] ||
				 a->given.has_own_files || a->given.is_kill_wanted))
		return false;
	if (a->given.has_disks && !a->are_disks_dead)
		return false;
	return a->are_nets_over || !a->given.has_nets;
}

static bool is_p4(const struct account *a)
{
	return a->is_latch_durable || a->is_qemu_dead;
}

static void check_action(struct account *a, const struct hf_freeze *before,
			 const struct hf_freeze_event *ev, enum hf_freeze_action action)
{
	bool may_repeat = action == HF_FREEZE_DO_NETS || action == HF_FREEZE_DO_VERIFY ||
			  action == HF_FREEZE_DO_CERTIFY || action == HF_FREEZE_DO_TELL_STUCK;

	CHECK(!a->ordered[action] || may_repeat);
	a->ordered[action]++;
	if (action == HF_FREEZE_DO_KILL_QEMU) {
		CHECK(!a->is_qemu_dead);
		note_change(a);
	}
	if (action == HF_FREEZE_DO_NETS)
		a->are_nets_over = false;
	if (action == HF_FREEZE_DO_VERIFY) {
		CHECK(is_p123(a));
		a->has_changed = false;
	}
	if (action == HF_FREEZE_DO_LEASE)
		CHECK(a->is_verified && is_p123(a) && is_p4(a) && a->given.has_lease &&
		      !a->given.is_pledged);
	if (action == HF_FREEZE_DO_CERTIFY) {
		CHECK(a->is_verified && is_p123(a) && is_p4(a));
		a->is_certificate_stale = false;
	}
	if (action == HF_FREEZE_DO_TELL) {
		CHECK(ev->kind == HF_FREEZE_EV_DONE && ev->step == HF_FREEZE_CERTIFY);
		CHECK(a->ordered[HF_FREEZE_DO_CERTIFY] && !a->is_certificate_stale);
		CHECK(a->is_verified && is_p123(a) && is_p4(a));
		CHECK(before->state != HF_FREEZE_CERTIFIED);
	}
	if (action == HF_FREEZE_DO_AMEND)
		CHECK(before->state == HF_FREEZE_CERTIFIED && a->is_qemu_dead);
}

/* A report that belongs to nothing under way is no more than a look at the clock. */
static bool is_idle_talk(const struct hf_freeze *f, const struct hf_freeze_event *ev)
{
	if (ev->kind == HF_FREEZE_EV_DONE || ev->kind == HF_FREEZE_EV_FAILED)
		return f->step[ev->step].result != HF_FREEZE_BEGUN;
	if (ev->kind == HF_FREEZE_EV_VERIFIED || ev->kind == HF_FREEZE_EV_REFUTED)
		return f->step[HF_FREEZE_VERIFY].result != HF_FREEZE_BEGUN;
	return ev->kind == HF_FREEZE_EV_BEGIN && f->state != HF_FREEZE_IDLE;
}

static bool is_same(const struct hf_freeze *a, const struct hf_freeze *b)
{
	for (unsigned int s = 0; s < HF_FREEZE_STEP_COUNT; s++)
		if (a->step[s].result != b->step[s].result ||
		    a->step[s].began_ns != b->step[s].began_ns ||
		    a->step[s].ended_ns != b->step[s].ended_ns)
			return false;
	return a->state == b->state && a->is_qemu_dead == b->is_qemu_dead &&
	       a->is_qemu_killed == b->is_qemu_killed && a->are_disks_dead == b->are_disks_dead &&
	       a->are_disks_flushed == b->are_disks_flushed &&
	       a->are_disks_killed == b->are_disks_killed && a->overdue == b->overdue &&
	       a->is_stale == b->is_stale && a->retries == b->retries &&
	       a->retry_verify_ns == b->retry_verify_ns &&
	       a->retry_certify_ns == b->retry_certify_ns && a->refuted == b->refuted &&
	       a->awakenings == b->awakenings && a->verifications == b->verifications;
}

static void step(struct hf_freeze *f, struct account *a, const struct hf_freeze_event *ev,
		 struct hf_freeze_actions *out)
{
	const struct hf_freeze before = *f;

	note(a, &before, ev);
	hf_freeze_step(f, ev, out);
	for (unsigned int i = 0; i < out->n; i++)
		check_action(a, &before, ev, out->a[i]);
	if (is_idle_talk(&before, ev)) {
		struct hf_freeze looked = before;
		struct hf_freeze_event look = { .kind = HF_FREEZE_EV_TIME, .now_ns = ev->now_ns };
		struct hf_freeze_actions then;

		hf_freeze_step(&looked, &look, &then);
		CHECK(is_same(&looked, f));
	}
	CHECK(before.state != HF_FREEZE_CERTIFIED || f->state == HF_FREEZE_CERTIFIED);
	CHECK(f->state != HF_FREEZE_STUCK || f->overdue & 1u << f->stuck_on);
	CHECK(hf_freeze_deadline_ns(f) > ev->now_ns);
}

static struct hf_freeze_event draw_event(const struct hf_freeze *f, uint64_t *now_ns)
{
	uint64_t deadline_ns = hf_freeze_deadline_ns(f);
	struct hf_freeze_event ev = { .kind = draw(HF_FREEZE_EVENT_COUNT),
				      .step = draw(HF_FREEZE_STEP_COUNT),
				      .refuted = draw(16) };

	if (draw(3) == 0)
		ev.kind = HF_FREEZE_EV_DONE;
	/* The worst is rare, or no walk comes far. */
	if ((ev.kind == HF_FREEZE_EV_QEMU_DEAD || ev.kind == HF_FREEZE_EV_WOKEN) && draw(4))
		ev.kind = HF_FREEZE_EV_VERIFIED;
	if (draw(6) == 0 && deadline_ns != UINT64_MAX) {
		*now_ns = deadline_ns;
		ev.kind = HF_FREEZE_EV_TIME;
	}
	*now_ns += draw(2) * MS_NS;
	ev.now_ns = *now_ns;
	return ev;
}

TEST(any_event_at_any_time)
{
	static bool is_seen[HF_FREEZE_STATE_COUNT][HF_FREEZE_EVENT_COUNT];
	static bool is_met[HF_FREEZE_STEP_COUNT][HF_FREEZE_RESULT_COUNT][2];
	unsigned int n_seen = 0, n_met = 0;

	for (unsigned int walk = 0; walk < WALKS; walk++) {
		struct account a = { .given = given_of(draw(1u << GIVEN_BITS)) };
		struct hf_freeze f;
		uint64_t now_ns = 1;

		hf_freeze_init(&f);
		for (unsigned int n = 0; n < STEPS; n++) {
			struct hf_freeze_event ev = draw_event(&f, &now_ns);
			struct hf_freeze_actions out;

			ev.given = &a.given;
			n_seen += !is_seen[f.state][ev.kind];
			is_seen[f.state][ev.kind] = true;
			if (ev.kind == HF_FREEZE_EV_DONE || ev.kind == HF_FREEZE_EV_FAILED)
				is_met[ev.step][f.step[ev.step].result]
				      [ev.kind == HF_FREEZE_EV_DONE] = true;
			if (f.state == HF_FREEZE_IDLE && ev.kind != HF_FREEZE_EV_BEGIN) {
				hf_freeze_step(&f, &ev, &out);
				CHECK_EQ(out.n, 0);
				continue;
			}
			if (f.state == HF_FREEZE_IDLE)
				a.is_qemu_dead = !a.given.is_qemu_alive;
			step(&f, &a, &ev, &out);
		}
	}
	CHECK_EQ(n_seen, HF_FREEZE_STATE_COUNT * HF_FREEZE_EVENT_COUNT);
	for (int s = 0; s < HF_FREEZE_STEP_COUNT; s++)
		for (int r = 0; r < HF_FREEZE_RESULT_COUNT; r++)
			n_met += is_met[s][r][0] && is_met[s][r][1];
	printf("# reports met %u pairs of step and result\n", n_met);
	CHECK(n_met > 35);
}

/* ---- a fair driver ---- */

enum way { WELL, BADLY, NEVER, WAYS };

/* How each thing that is ordered ends. NEVER: not before all is healed. */
struct ways {
	enum way latch, stop, state, cgroup, lease, verify, certify;
	enum way disks; /* BADLY: by SIGKILL alone; NEVER: not by that either */
	enum way qemu; /* NEVER: SIGKILL does not end it */
};

struct driver {
	struct hf_freeze f;
	struct account a;
	struct ways w;
	struct hf_freeze_event queue[32];
	unsigned int n_queue;
	uint64_t now_ns;
	bool is_healed, is_newest_first;
	bool is_out[HF_FREEZE_STEP_COUNT]; /* hangs */
	bool is_qemu_waited_for, are_disks_waited_for;
	unsigned int n_tried[HF_FREEZE_STEP_COUNT];
	bool is_told, is_told_stuck;
};

static void post(struct driver *d, enum hf_freeze_event_kind kind, enum hf_freeze_step s)
{
	CHECK(d->n_queue < 32);
	d->queue[d->n_queue++] = (struct hf_freeze_event){ .kind = kind, .step = s, .refuted = 1 };
}

static void answer(struct driver *d, enum hf_freeze_step s, enum way way)
{
	bool is_verify = s == HF_FREEZE_VERIFY;

	/* What is tried again fails twice at most. */
	if (way == BADLY && d->n_tried[s]++ > 1)
		way = WELL;
	if (way == NEVER && !d->is_healed)
		d->is_out[s] = true;
	else if (way == BADLY)
		post(d, is_verify ? HF_FREEZE_EV_REFUTED : HF_FREEZE_EV_FAILED, s);
	else
		post(d, is_verify ? HF_FREEZE_EV_VERIFIED : HF_FREEZE_EV_DONE, s);
}

static void kill_one(struct driver *d, bool is_dying, bool *ret_waited_for,
		     enum hf_freeze_event_kind kind)
{
	if (is_dying || d->is_healed)
		post(d, kind, 0);
	else
		*ret_waited_for = true;
}

static void carry_out(struct driver *d, enum hf_freeze_action action)
{
	switch (action) {
	case HF_FREEZE_DO_LATCH:
		return answer(d, HF_FREEZE_LATCH, d->w.latch);
	case HF_FREEZE_DO_STOP:
		return answer(d, HF_FREEZE_STOP, d->w.stop);
	case HF_FREEZE_DO_NETS:
		return answer(d, HF_FREEZE_NETS, WELL);
	case HF_FREEZE_DO_STATE:
		return answer(d, HF_FREEZE_STATE, d->w.state);
	case HF_FREEZE_DO_CGROUP:
		return answer(d, HF_FREEZE_CGROUP, d->w.cgroup);
	case HF_FREEZE_DO_LEASE:
		return answer(d, HF_FREEZE_LEASE, d->w.lease);
	case HF_FREEZE_DO_VERIFY:
		return answer(d, HF_FREEZE_VERIFY, d->w.verify);
	case HF_FREEZE_DO_CERTIFY:
		return answer(d, HF_FREEZE_CERTIFY, d->w.certify);
	case HF_FREEZE_DO_DISKS:
		if (d->w.disks == WELL)
			post(d, HF_FREEZE_EV_DISKS_DEAD, 0);
		return;
	case HF_FREEZE_DO_KILL_DISKS:
		return kill_one(d, d->w.disks != NEVER, &d->are_disks_waited_for,
				HF_FREEZE_EV_DISKS_DEAD);
	case HF_FREEZE_DO_KILL_QEMU:
		return kill_one(d, d->w.qemu != NEVER, &d->is_qemu_waited_for,
				HF_FREEZE_EV_QEMU_DEAD);
	case HF_FREEZE_DO_TELL:
		d->is_told = true;
		return;
	case HF_FREEZE_DO_TELL_STUCK:
		d->is_told_stuck = true;
		return;
	case HF_FREEZE_DO_DROP_STATE:
	case HF_FREEZE_DO_AMEND:
	case HF_FREEZE_ACTION_COUNT:
		break;
	}
}

static bool next_event(struct driver *d, struct hf_freeze_event *ret)
{
	uint64_t deadline_ns = hf_freeze_deadline_ns(&d->f);

	d->now_ns += MS_NS / 2;
	if (d->n_queue) {
		unsigned int at = d->is_newest_first ? d->n_queue - 1 : 0;

		*ret = d->queue[at];
		memmove(&d->queue[at], &d->queue[at + 1],
			(--d->n_queue - at) * sizeof(d->queue[0]));
	} else if (deadline_ns != UINT64_MAX) {
		*ret = (struct hf_freeze_event){ .kind = HF_FREEZE_EV_TIME };
		d->now_ns = deadline_ns;
	} else {
		return false;
	}
	ret->now_ns = d->now_ns;
	return true;
}

/* Until nothing more happens; VERIFY that is refuted for ever does not occur here. */
static void run(struct driver *d)
{
	struct hf_freeze_event ev;

	for (unsigned int n = 0; next_event(d, &ev); n++) {
		struct hf_freeze_actions out;

		CHECK(n < 500);
		step(&d->f, &d->a, &ev, &out);
		for (unsigned int i = 0; i < out.n; i++)
			carry_out(d, out.a[i]);
	}
}

static void heal(struct driver *d)
{
	d->is_healed = true;
	for (unsigned int s = 0; s < HF_FREEZE_STEP_COUNT; s++)
		if (d->is_out[s])
			post(d, s == HF_FREEZE_VERIFY ? HF_FREEZE_EV_VERIFIED : HF_FREEZE_EV_DONE,
			     s);
	if (d->is_qemu_waited_for)
		post(d, HF_FREEZE_EV_QEMU_DEAD, 0);
	if (d->are_disks_waited_for)
		post(d, HF_FREEZE_EV_DISKS_DEAD, 0);
}

static void check_stuck(const struct driver *d)
{
	CHECK_EQ(d->f.state, HF_FREEZE_STUCK);
	CHECK(d->is_told_stuck);
	if (d->f.stuck_on == HF_FREEZE_DISKS)
		CHECK(d->are_disks_waited_for);
	else if (d->f.stuck_on == HF_FREEZE_CGROUP)
		CHECK(d->is_qemu_waited_for);
	else
		CHECK(d->is_out[d->f.stuck_on]);
}

static unsigned int n_certified, n_stuck;

static void drive(unsigned int given_bits, const struct ways *w, bool is_newest_first)
{
	struct driver d = { .w = *w, .now_ns = 1000, .is_newest_first = is_newest_first };
	struct hf_freeze_actions out;
	struct hf_freeze_event ev = { .kind = HF_FREEZE_EV_BEGIN, .now_ns = 1000 };

	d.a.given = given_of(given_bits);
	d.a.is_qemu_dead = !d.a.given.is_qemu_alive;
	ev.given = &d.a.given;
	hf_freeze_init(&d.f);
	step(&d.f, &d.a, &ev, &out);
	for (unsigned int i = 0; i < out.n; i++)
		carry_out(&d, out.a[i]);
	run(&d);
	if (d.f.state != HF_FREEZE_CERTIFIED) {
		check_stuck(&d);
		n_stuck++;
		heal(&d);
		run(&d);
	}
	n_certified++;
	CHECK_EQ(d.f.state, HF_FREEZE_CERTIFIED);
	CHECK(d.is_told);
}

static unsigned int digit(unsigned int *number, unsigned int base)
{
	unsigned int d = *number % base;

	*number /= base;
	return d;
}

TEST(every_combination_of_ways_ends_certified_or_stuck_on_what_lives)
{
	static const unsigned int givens[] = {
		1 | 8 | 16 | 64,          1 | 8 | 16 | 64 | 128, 1 | 2 | 8 | 16 | 64 | 128,
		1 | 4 | 8 | 16 | 64,      1 | 8 | 16 | 32 | 64,  1 | 8 | 16,
		1 | 16 | 64 | 128 | 512u, 16 | 8 | 128 | 256,
	};
	unsigned int n_ways = 3 * 3 * 3 * 3 * 3 * 3 * 3 * 3 * 2;

	for (unsigned int g = 0; g < sizeof(givens) / sizeof(givens[0]); g++) {
		for (unsigned int n = 0; n < n_ways; n++) {
			unsigned int number = n;
			struct ways w = { .latch = digit(&number, WAYS),
					  .stop = digit(&number, WAYS),
					  .state = digit(&number, WAYS),
					  .cgroup = digit(&number, WAYS),
					  .lease = digit(&number, WAYS),
					  .verify = digit(&number, WAYS),
					  .certify = digit(&number, WAYS),
					  .disks = digit(&number, WAYS),
					  .qemu = digit(&number, 2) ? NEVER : WELL };

			drive(givens[g], &w, n & 1);
		}
	}
	printf("# %u certified, %u after they were stuck\n", n_certified, n_stuck);
	CHECK(n_stuck > 1000);
}

TEST(all_that_can_be_given_in_some_ways)
{
	for (unsigned int bits = 0; bits < 1u << GIVEN_BITS; bits++) {
		for (unsigned int n = 0; n < 50; n++) {
			struct ways w = { draw(3), draw(3), draw(3),
					  draw(3), draw(3), draw(3),
					  draw(3), draw(3), draw(2) ? NEVER : WELL };

			drive(bits, &w, draw(2));
		}
	}
}

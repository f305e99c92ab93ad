/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. There is no list of phases: each step has a condition under which it may begin
 * (advance), a limit (expire), and an end. What can run side by side does. The order that the conditions
 * make:
 *
 *	BEGIN --+-- LATCH -------------------------------------------+
 *	        |                                                    |
 *	        +-- STOP --+-- NETS ------------------+              |
 *	                   |                          |              |
 *	                   +-- STATE --+-- DISKS -----+-- VERIFY -- LEASE -- CERTIFY -- TELL
 *	                               |              |
 *	                               +-- CGROUP ----+
 *
 * A STOP that fails lets go of what would have waited for it: no STATE, and NETS, DISKS and CGROUP at
 * once. The death of QEMU, ordered or not, ends STOP, STATE and CGROUP and stands for all that they
 * prove. It is ordered when one of these fails that has no other fallback, and when QEMU must not stay
 * (must_die), then after STATE.
 *
 * VERIFY looks at facts of a moment. When they change after it has begun, it is done again before
 * anything is built on it: its answer, or CERTIFY's, is stale.
 */
#include "core/freeze.h"

#include <assert.h>
#include <string.h>

#define BIT(step) (1u << (step))

#define P2 2u
#define P3 4u

void hf_freeze_init(struct hf_freeze *f)
{
	memset(f, 0, sizeof(*f));
}

static void act(struct hf_freeze_actions *ret, enum hf_freeze_action action)
{
	assert(ret->n < HF_FREEZE_ACTIONS_MAX);
	ret->a[ret->n++] = action;
}

static bool is_begun(const struct hf_freeze *f, enum hf_freeze_step step)
{
	return f->step[step].result == HF_FREEZE_BEGUN;
}

static bool is_due(const struct hf_freeze *f, enum hf_freeze_step step)
{
	return f->step[step].result == HF_FREEZE_NOT_YET;
}

static bool is_over(const struct hf_freeze *f, enum hf_freeze_step step)
{
	return f->step[step].result > HF_FREEZE_BEGUN;
}

static bool is_done(const struct hf_freeze *f, enum hf_freeze_step step)
{
	return f->step[step].result == HF_FREEZE_DONE;
}

static void begin(struct hf_freeze *f, enum hf_freeze_step step, uint64_t now_ns,
		  enum hf_freeze_action action, struct hf_freeze_actions *ret)
{
	f->step[step].result = HF_FREEZE_BEGUN;
	if (!f->step[step].began_ns)
		f->step[step].began_ns = now_ns;
	f->step[step].ended_ns = 0;
	act(ret, action);
}

static void end(struct hf_freeze *f, enum hf_freeze_step step, enum hf_freeze_result result,
		uint64_t now_ns)
{
	struct hf_freeze_record *r = &f->step[step];

	if (!r->began_ns)
		r->began_ns = now_ns;
	r->ended_ns = now_ns;
	r->result = result;
	f->overdue &= ~BIT(step);
}

/* What VERIFY has seen, or is about to say, is not how things are any more. */
static void outdate(struct hf_freeze *f)
{
	f->retry_verify_ns = f->retry_certify_ns = 0;
	f->retries = 0;
	f->overdue &= ~(BIT(HF_FREEZE_VERIFY) | BIT(HF_FREEZE_CERTIFY));
	f->is_stale = is_begun(f, HF_FREEZE_VERIFY) || is_begun(f, HF_FREEZE_CERTIFY);
	for (unsigned int step = HF_FREEZE_VERIFY; step < HF_FREEZE_STEP_COUNT; step++)
		if (step != HF_FREEZE_LEASE && !is_begun(f, step))
			f->step[step] = (struct hf_freeze_record){ .result = HF_FREEZE_NOT_YET };
}

/* ---- what has to die ---- */

static void kill_qemu(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (f->is_qemu_dead || f->is_qemu_killed)
		return;
	f->is_qemu_killed = true;
	f->killed_qemu_ns = now_ns;
	if (f->state != HF_FREEZE_CERTIFIED) {
		if (!is_over(f, HF_FREEZE_STOP))
			end(f, HF_FREEZE_STOP, HF_FREEZE_FELL_BACK, now_ns);
		if (is_begun(f, HF_FREEZE_STATE))
			act(ret, HF_FREEZE_DO_DROP_STATE);
		if (!is_over(f, HF_FREEZE_STATE))
			end(f, HF_FREEZE_STATE, HF_FREEZE_FAILED, now_ns);
		end(f, HF_FREEZE_CGROUP, HF_FREEZE_FELL_BACK, now_ns);
		outdate(f);
	}
	act(ret, HF_FREEZE_DO_KILL_QEMU);
}

static void kill_disks(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (f->are_disks_dead || f->are_disks_killed)
		return;
	f->are_disks_killed = true;
	f->killed_disks_ns = now_ns;
	act(ret, HF_FREEZE_DO_KILL_DISKS);
}

static void qemu_is_dead(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	static const enum hf_freeze_step steps[] = { HF_FREEZE_STOP, HF_FREEZE_STATE,
						     HF_FREEZE_CGROUP };

	if (f->is_qemu_dead)
		return;
	f->is_qemu_dead = true;
	f->overdue &= ~BIT(HF_FREEZE_CGROUP);
	if (f->state == HF_FREEZE_CERTIFIED) {
		act(ret, HF_FREEZE_DO_AMEND);
		return;
	}
	if (is_begun(f, HF_FREEZE_STATE)) {
		act(ret, HF_FREEZE_DO_DROP_STATE);
		end(f, HF_FREEZE_STATE, HF_FREEZE_FAILED, now_ns);
	}
	for (unsigned int i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (!is_over(f, steps[i]))
			end(f, steps[i], HF_FREEZE_SKIPPED, now_ns);
	outdate(f);
}

static void disks_are_dead(struct hf_freeze *f, uint64_t now_ns)
{
	if (f->are_disks_dead)
		return;
	f->are_disks_dead = true;
	if (is_begun(f, HF_FREEZE_DISKS))
		end(f, HF_FREEZE_DISKS,
		    f->are_disks_killed && !f->are_disks_flushed ? HF_FREEZE_FELL_BACK
								 : HF_FREEZE_DONE,
		    now_ns);
}

/* Nothing but the saved state is left to wait for with a QEMU that cannot stay: its proof would lack P1
 * (no cgroup), P2 (its own files) or P4 (no latch). */
static bool must_die(const struct hf_freeze *f)
{
	return !f->given.has_cgroup || f->given.has_own_files || f->given.is_kill_wanted ||
	       (is_over(f, HF_FREEZE_LATCH) && !is_done(f, HF_FREEZE_LATCH));
}

/* ---- what may begin ---- */

/* QEMU will do nothing for us: it does not answer, or not in time. */
static bool is_stop_lost(const struct hf_freeze *f)
{
	return !is_done(f, HF_FREEZE_STOP) && !f->given.is_guest_stopped;
}

static void advance_nets(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (!is_due(f, HF_FREEZE_NETS) || !is_over(f, HF_FREEZE_STOP))
		return;
	if (f->given.has_nets)
		begin(f, HF_FREEZE_NETS, now_ns, HF_FREEZE_DO_NETS, ret);
	else
		end(f, HF_FREEZE_NETS, HF_FREEZE_SKIPPED, now_ns);
}

static void advance_state(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (!is_due(f, HF_FREEZE_STATE) || !is_over(f, HF_FREEZE_STOP))
		return;
	if (is_stop_lost(f) || f->given.is_qmp_silent)
		end(f, HF_FREEZE_STATE, HF_FREEZE_FAILED, now_ns);
	else
		begin(f, HF_FREEZE_STATE, now_ns, HF_FREEZE_DO_STATE, ret);
}

static void advance_qemu(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (f->is_qemu_dead || !is_over(f, HF_FREEZE_STATE))
		return;
	if (must_die(f))
		kill_qemu(f, now_ns, ret);
	else if (is_due(f, HF_FREEZE_CGROUP))
		begin(f, HF_FREEZE_CGROUP, now_ns, HF_FREEZE_DO_CGROUP, ret);
}

static void advance_disks(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (!is_due(f, HF_FREEZE_DISKS) || !is_over(f, HF_FREEZE_STATE))
		return;
	if (f->are_disks_dead)
		end(f, HF_FREEZE_DISKS, HF_FREEZE_SKIPPED, now_ns);
	else
		begin(f, HF_FREEZE_DISKS, now_ns, HF_FREEZE_DO_DISKS, ret);
}

static bool is_still(const struct hf_freeze *f)
{
	return f->is_qemu_dead || (!f->is_qemu_killed && is_done(f, HF_FREEZE_CGROUP));
}

static void advance_verify(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (!is_due(f, HF_FREEZE_VERIFY) || f->retry_verify_ns || f->is_stale)
		return;
	if (!is_still(f) || !f->are_disks_dead || !is_over(f, HF_FREEZE_DISKS) ||
	    !is_over(f, HF_FREEZE_NETS))
		return;
	f->verifications++;
	begin(f, HF_FREEZE_VERIFY, now_ns, HF_FREEZE_DO_VERIFY, ret);
}

/* P1 to P4. */
static bool is_proven(const struct hf_freeze *f)
{
	return is_done(f, HF_FREEZE_VERIFY) && is_over(f, HF_FREEZE_LATCH) &&
	       (is_done(f, HF_FREEZE_LATCH) || f->is_qemu_dead);
}

static void advance_lease(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (!is_due(f, HF_FREEZE_LEASE) || !is_proven(f))
		return;
	if (f->given.has_lease && !f->given.is_pledged)
		begin(f, HF_FREEZE_LEASE, now_ns, HF_FREEZE_DO_LEASE, ret);
	else
		end(f, HF_FREEZE_LEASE, HF_FREEZE_SKIPPED, now_ns);
}

static void advance_certify(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (!is_due(f, HF_FREEZE_CERTIFY) || f->retry_certify_ns || f->is_stale)
		return;
	if (!is_proven(f) || !is_over(f, HF_FREEZE_LEASE))
		return;
	begin(f, HF_FREEZE_CERTIFY, now_ns, HF_FREEZE_DO_CERTIFY, ret);
}

static void advance(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (f->state == HF_FREEZE_IDLE || f->state == HF_FREEZE_CERTIFIED)
		return;
	advance_nets(f, now_ns, ret);
	advance_state(f, now_ns, ret);
	advance_qemu(f, now_ns, ret);
	advance_disks(f, now_ns, ret);
	advance_verify(f, now_ns, ret);
	advance_lease(f, now_ns, ret);
	advance_certify(f, now_ns, ret);
}

/* ---- limits ---- */

static uint64_t limit_ns(const struct hf_freeze *f, unsigned int step)
{
	switch (step) {
	case HF_FREEZE_LATCH:
		return f->limits.latch_ns;
	case HF_FREEZE_STOP:
		return f->limits.stop_ns;
	case HF_FREEZE_STATE:
		return f->limits.state_ns;
	case HF_FREEZE_DISKS:
		return f->are_disks_killed ? UINT64_MAX : f->limits.disks_ns;
	case HF_FREEZE_CGROUP:
		return f->limits.cgroup_ns;
	case HF_FREEZE_VERIFY:
		return HF_FREEZE_VERIFY_NS;
	case HF_FREEZE_LEASE:
		return f->limits.lease_ns;
	case HF_FREEZE_CERTIFY:
		return HF_FREEZE_CERTIFY_NS;
	default: /* NETS: done at once */
		return UINT64_MAX;
	}
}

/* UINT64_MAX: none. VERIFY and CERTIFY have theirs from the first attempt on, until all is well. */
static uint64_t step_deadline_ns(const struct hf_freeze *f, unsigned int step)
{
	uint64_t began_ns = f->step[step].began_ns, limit = limit_ns(f, step);
	bool is_tried = step == HF_FREEZE_VERIFY || step == HF_FREEZE_CERTIFY;

	if (f->overdue & BIT(step) || limit == UINT64_MAX)
		return UINT64_MAX;
	if (is_begun(f, step) || (is_tried && is_due(f, step) && began_ns))
		return began_ns + limit;
	return UINT64_MAX;
}

static uint64_t kill_deadline_ns(const struct hf_freeze *f, unsigned int step)
{
	if (f->overdue & BIT(step))
		return UINT64_MAX;
	if (step == HF_FREEZE_CGROUP && f->is_qemu_killed && !f->is_qemu_dead)
		return f->killed_qemu_ns + f->limits.kill_ns;
	if (step == HF_FREEZE_DISKS && f->are_disks_killed && !f->are_disks_dead)
		return f->killed_disks_ns + f->limits.kill_ns;
	return UINT64_MAX;
}

static void step_has_expired(struct hf_freeze *f, unsigned int step, uint64_t now_ns,
			     struct hf_freeze_actions *ret)
{
	switch (step) {
	case HF_FREEZE_LATCH:
		end(f, step, f->is_qemu_dead ? HF_FREEZE_FAILED : HF_FREEZE_FELL_BACK, now_ns);
		break;
	case HF_FREEZE_STOP:
		end(f, step, HF_FREEZE_FELL_BACK, now_ns);
		break;
	case HF_FREEZE_STATE:
		act(ret, HF_FREEZE_DO_DROP_STATE);
		end(f, step, HF_FREEZE_FAILED, now_ns);
		break;
	case HF_FREEZE_DISKS:
		kill_disks(f, now_ns, ret);
		break;
	case HF_FREEZE_CGROUP:
		kill_qemu(f, now_ns, ret);
		break;
	case HF_FREEZE_LEASE:
		end(f, step, HF_FREEZE_FAILED, now_ns);
		break;
	default:
		if (step == HF_FREEZE_VERIFY)
			kill_qemu(f, now_ns, ret); /* dead it is easier to look at */
		f->overdue |= BIT(step);
	}
}

static void expire(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	if (now_ns >= f->retry_verify_ns)
		f->retry_verify_ns = 0;
	if (now_ns >= f->retry_certify_ns)
		f->retry_certify_ns = 0;
	for (unsigned int step = 0; step < HF_FREEZE_STEP_COUNT; step++) {
		if (f->state != HF_FREEZE_CERTIFIED && now_ns >= step_deadline_ns(f, step))
			step_has_expired(f, step, now_ns, ret);
		if (now_ns >= kill_deadline_ns(f, step))
			f->overdue |= BIT(step);
	}
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t hf_freeze_deadline_ns(const struct hf_freeze *f)
{
	uint64_t deadline_ns = UINT64_MAX;

	if (f->state == HF_FREEZE_IDLE)
		return UINT64_MAX;
	for (unsigned int step = 0; step < HF_FREEZE_STEP_COUNT; step++) {
		deadline_ns = earlier(deadline_ns, kill_deadline_ns(f, step));
		if (f->state != HF_FREEZE_CERTIFIED)
			deadline_ns = earlier(deadline_ns, step_deadline_ns(f, step));
	}
	if (f->retry_verify_ns)
		deadline_ns = earlier(deadline_ns, f->retry_verify_ns);
	if (f->retry_certify_ns)
		deadline_ns = earlier(deadline_ns, f->retry_certify_ns);
	return deadline_ns;
}

/* ---- events ---- */

static void set_limits(struct hf_freeze_limits *l, const struct hf_freeze_limits *given)
{
	if (given)
		*l = *given;
	l->latch_ns = l->latch_ns ? l->latch_ns : HF_FREEZE_LATCH_NS;
	l->stop_ns = l->stop_ns ? l->stop_ns : HF_FREEZE_STOP_NS;
	l->state_ns = l->state_ns ? l->state_ns : HF_FREEZE_STATE_NS;
	l->disks_ns = l->disks_ns ? l->disks_ns : HF_FREEZE_DISKS_NS;
	l->cgroup_ns = l->cgroup_ns ? l->cgroup_ns : HF_FREEZE_CGROUP_NS;
	l->lease_ns = l->lease_ns ? l->lease_ns : HF_FREEZE_LEASE_NS;
	l->kill_ns = l->kill_ns ? l->kill_ns : HF_FREEZE_KILL_NS;
}

static void begin_freezing(struct hf_freeze *f, const struct hf_freeze_event *ev,
			   struct hf_freeze_actions *ret)
{
	f->state = HF_FREEZE_WORKING;
	f->given = *ev->given;
	set_limits(&f->limits, ev->limits);
	f->are_disks_dead = !f->given.has_disks;
	begin(f, HF_FREEZE_LATCH, ev->now_ns, HF_FREEZE_DO_LATCH, ret);
	if (!f->given.is_qemu_alive)
		qemu_is_dead(f, ev->now_ns, ret);
	else if (f->given.is_kill_wanted) {
		end(f, HF_FREEZE_STATE, HF_FREEZE_SKIPPED, ev->now_ns);
		kill_qemu(f, ev->now_ns, ret);
	} else if (f->given.is_guest_stopped)
		end(f, HF_FREEZE_STOP, HF_FREEZE_SKIPPED, ev->now_ns);
	else if (f->given.is_qmp_silent)
		end(f, HF_FREEZE_STOP, HF_FREEZE_FELL_BACK, ev->now_ns);
	else
		begin(f, HF_FREEZE_STOP, ev->now_ns, HF_FREEZE_DO_STOP, ret);
}

static void certified(struct hf_freeze *f, struct hf_freeze_actions *ret)
{
	assert(is_proven(f));
	assert(is_still(f) && f->are_disks_dead);
	f->state = HF_FREEZE_CERTIFIED;
	f->overdue = 0;
	act(ret, HF_FREEZE_DO_TELL);
}

static uint64_t next_try_ns(struct hf_freeze *f, uint64_t now_ns)
{
	uint64_t wait_ns = HF_FREEZE_RETRY_NS << f->retries;

	if (f->retries < HF_FREEZE_RETRY_DOUBLINGS)
		f->retries++;
	return now_ns + wait_ns;
}

/* VERIFY or CERTIFY has come to an end, but what it was about has changed meanwhile. */
static bool take_stale(struct hf_freeze *f, enum hf_freeze_step step)
{
	if (!f->is_stale)
		return false;
	f->is_stale = false;
	f->step[step] = (struct hf_freeze_record){ .result = HF_FREEZE_NOT_YET };
	f->overdue &= ~BIT(step);
	return true;
}

static void done(struct hf_freeze *f, const struct hf_freeze_event *ev,
		 struct hf_freeze_actions *ret)
{
	if (!is_begun(f, ev->step) || ev->step == HF_FREEZE_VERIFY)
		return;
	if (ev->step == HF_FREEZE_DISKS) {
		f->are_disks_flushed |= !f->are_disks_killed;
		return kill_disks(f, ev->now_ns, ret);
	}
	if (ev->step == HF_FREEZE_CERTIFY && take_stale(f, ev->step))
		return;
	end(f, ev->step, HF_FREEZE_DONE, ev->now_ns);
	if (ev->step == HF_FREEZE_CERTIFY)
		certified(f, ret);
}

static void failed(struct hf_freeze *f, const struct hf_freeze_event *ev,
		   struct hf_freeze_actions *ret)
{
	if (!is_begun(f, ev->step) || ev->step == HF_FREEZE_VERIFY)
		return;
	if (ev->step == HF_FREEZE_CERTIFY) {
		if (take_stale(f, ev->step))
			return;
		f->step[ev->step].result = HF_FREEZE_NOT_YET;
		f->retry_certify_ns = next_try_ns(f, ev->now_ns);
	} else if (ev->step == HF_FREEZE_NETS || ev->step == HF_FREEZE_STATE) {
		end(f, ev->step, HF_FREEZE_FAILED, ev->now_ns); /* of NETS VERIFY says more */
	} else {
		step_has_expired(f, ev->step, ev->now_ns, ret);
	}
}

static void verified(struct hf_freeze *f, uint64_t now_ns)
{
	if (!is_begun(f, HF_FREEZE_VERIFY) || take_stale(f, HF_FREEZE_VERIFY))
		return;
	f->refuted = 0;
	f->retries = 0;
	end(f, HF_FREEZE_VERIFY, HF_FREEZE_DONE, now_ns);
}

/* Something is not as the steps have reported it. A dead QEMU proves most; what still does not hold then
 * may pass by itself. */
static void refuted(struct hf_freeze *f, const struct hf_freeze_event *ev,
		    struct hf_freeze_actions *ret)
{
	if (!is_begun(f, HF_FREEZE_VERIFY) || take_stale(f, HF_FREEZE_VERIFY))
		return;
	f->refuted = ev->refuted;
	f->step[HF_FREEZE_VERIFY].result = HF_FREEZE_NOT_YET;
	f->retry_verify_ns = next_try_ns(f, ev->now_ns);
	if (ev->refuted & P3 && f->given.has_nets)
		f->step[HF_FREEZE_NETS].result = HF_FREEZE_NOT_YET;
	kill_qemu(f, ev->now_ns, ret);
}

static void woken(struct hf_freeze *f, uint64_t now_ns, struct hf_freeze_actions *ret)
{
	/* Before STOP has its answer a RESUME may be a checkpoint's. */
	if (f->is_qemu_dead || !(is_over(f, HF_FREEZE_STOP) || is_over(f, HF_FREEZE_CGROUP)))
		return;
	if (f->state == HF_FREEZE_CERTIFIED)
		f->awakenings++;
	kill_qemu(f, now_ns, ret);
}

static void take(struct hf_freeze *f, const struct hf_freeze_event *ev,
		 struct hf_freeze_actions *ret)
{
	switch (ev->kind) {
	case HF_FREEZE_EV_DONE:
		return done(f, ev, ret);
	case HF_FREEZE_EV_FAILED:
		return failed(f, ev, ret);
	case HF_FREEZE_EV_QEMU_DEAD:
		return qemu_is_dead(f, ev->now_ns, ret);
	case HF_FREEZE_EV_DISKS_DEAD:
		return disks_are_dead(f, ev->now_ns);
	case HF_FREEZE_EV_VERIFIED:
		return verified(f, ev->now_ns);
	case HF_FREEZE_EV_REFUTED:
		return refuted(f, ev, ret);
	case HF_FREEZE_EV_WOKEN:
		return woken(f, ev->now_ns, ret);
	case HF_FREEZE_EV_BEGIN: /* once is enough */
	case HF_FREEZE_EV_TIME:
	case HF_FREEZE_EVENT_COUNT:
		break;
	}
}

/* Told each time when something more is overdue; nothing overdue is work as ever. */
static void tell_stuck(struct hf_freeze *f, uint32_t overdue_before, struct hf_freeze_actions *ret)
{
	unsigned int step = 0;

	if (f->state == HF_FREEZE_STUCK && !f->overdue)
		f->state = HF_FREEZE_WORKING;
	if (!f->overdue)
		return;
	if (f->state == HF_FREEZE_WORKING)
		f->state = HF_FREEZE_STUCK;
	while (!(f->overdue & BIT(step)))
		step++;
	f->stuck_on = step;
	if (f->overdue & ~overdue_before)
		act(ret, HF_FREEZE_DO_TELL_STUCK);
}

void hf_freeze_step(struct hf_freeze *f, const struct hf_freeze_event *ev,
		    struct hf_freeze_actions *ret)
{
	uint32_t overdue_before = f->overdue;

	assert(ev->kind < HF_FREEZE_EVENT_COUNT);
	assert(ev->step < HF_FREEZE_STEP_COUNT);
	ret->n = 0;
	if (f->state == HF_FREEZE_IDLE) {
		if (ev->kind != HF_FREEZE_EV_BEGIN)
			return;
		begin_freezing(f, ev, ret);
	} else {
		take(f, ev, ret);
	}
	expire(f, ev->now_ns, ret);
	advance(f, ev->now_ns, ret);
	tell_stuck(f, overdue_before, ret);
}

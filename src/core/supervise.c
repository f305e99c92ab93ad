/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/supervise.h"

#include <assert.h>
#include <string.h>

#define SECOND 1000000000ull
#define DELAY_MAX_NS (60 * SECOND)

void hf_supervise_init(struct hf_supervise *s)
{
	memset(s, 0, sizeof(*s));
}

bool hf_supervise_has_keeper(const struct hf_supervise *s)
{
	return s->state == HF_SUPERVISE_STARTING || s->state == HF_SUPERVISE_UP ||
	       s->state == HF_SUPERVISE_STOPPING;
}

uint64_t hf_supervise_deadline_ns(const struct hf_supervise *s)
{
	return s->state == HF_SUPERVISE_WAITING ? s->retry_ns : UINT64_MAX;
}

/* R7 */
static bool is_barred(const struct hf_supervise *s)
{
	return s->definition.is_managed && s->assigned == HF_SUPERVISE_ASSIGNED_NONE;
}

/* ---- what is to be here ---- */

/* R4. Where nobody says, the last word counts, then the order in the definition. */
static enum hf_supervise_role choose_of_two(const struct hf_supervise *s)
{
	if (s->place == HF_SUPERVISE_PLACE_RUN)
		return HF_SUPERVISE_RUN;
	if (s->place == HF_SUPERVISE_PLACE_STANDBY || s->is_elsewhere)
		return HF_SUPERVISE_STANDBY;
	if (s->definition.is_managed)
		return HF_SUPERVISE_RUN;
	return s->ran_here || s->definition.is_first ? HF_SUPERVISE_RUN : HF_SUPERVISE_STANDBY;
}

static enum hf_supervise_role choose_role(const struct hf_supervise *s)
{
	if (s->definition.is_managed && s->assigned == HF_SUPERVISE_ASSIGNED_STANDBY) /* R7 */
		return HF_SUPERVISE_STANDBY;
	return s->definition.has_two_hosts ? choose_of_two(s) : HF_SUPERVISE_RUN;
}

/* What keeps something that is wanted from being started. */
static enum hf_supervise_why find_hindrance(const struct hf_supervise *s,
					    enum hf_supervise_role role)
{
	bool has_two = s->definition.has_two_hosts;

	if (!s->is_defined) /* R2 */
		return HF_SUPERVISE_UNDEFINED;
	if (!has_two && role == HF_SUPERVISE_STANDBY)
		return HF_SUPERVISE_NO_PAIR;
	if (has_two && s->place == HF_SUPERVISE_PLACE_WAIT)
		return HF_SUPERVISE_NOT_YET;
	if (!has_two && (s->is_elsewhere || s->place == HF_SUPERVISE_PLACE_NOTHING))
		return HF_SUPERVISE_ELSEWHERE;
	if (role == HF_SUPERVISE_STANDBY && s->is_resting) /* R6 */
		return HF_SUPERVISE_RESTING;
	if (role == HF_SUPERVISE_RUN && s->frozen && !s->is_fresh &&
	    !s->definition.may_run_beside_frozen) /* R3 */
		return HF_SUPERVISE_FROZEN;
	return HF_SUPERVISE_IN_ORDER;
}

static void set_state(struct hf_supervise *s, enum hf_supervise_state state,
		      enum hf_supervise_why why)
{
	s->state = state;
	s->why = why;
}

static enum hf_supervise_action start(struct hf_supervise *s, enum hf_supervise_role role)
{
	assert(s->is_wanted && s->is_defined && !hf_supervise_has_keeper(s) && !is_barred(s));
	assert(!s->definition.is_managed || role == HF_SUPERVISE_STANDBY ||
	       s->assigned == HF_SUPERVISE_ASSIGNED_RUN);
	set_state(s, HF_SUPERVISE_STARTING, HF_SUPERVISE_IN_ORDER);
	s->role = role;
	return role == HF_SUPERVISE_RUN ? HF_SUPERVISE_DO_START : HF_SUPERVISE_DO_START_STANDBY;
}

/* R1: the end of a VM of two hosts is the order of whoever stopped it on the other one. */
static enum hf_supervise_action end_if_placed(struct hf_supervise *s)
{
	if (!s->definition.has_two_hosts || s->place != HF_SUPERVISE_PLACE_END ||
	    s->state != HF_SUPERVISE_UP)
		return HF_SUPERVISE_DO_NOTHING;
	s->is_wanted = false;
	s->state = HF_SUPERVISE_STOPPING;
	return HF_SUPERVISE_DO_STOP;
}

bool hf_supervise_is_pending(const struct hf_supervise *s)
{
	return s->definition.is_managed && s->is_ordered && s->state == HF_SUPERVISE_UP &&
	       s->role == HF_SUPERVISE_STANDBY;
}

/* R7: who is to run it has an empty standby of it here: another place than WAIT says that it is one, or that
 * what it holds is needed. */
static enum hf_supervise_action make_room(struct hf_supervise *s)
{
	if (!hf_supervise_is_pending(s) || s->place == HF_SUPERVISE_PLACE_WAIT)
		return HF_SUPERVISE_DO_NOTHING;
	if (s->place != HF_SUPERVISE_PLACE_RUN || s->assigned != HF_SUPERVISE_ASSIGNED_RUN) {
		s->is_ordered = false;
		return HF_SUPERVISE_DO_NOTHING;
	}
	s->state = HF_SUPERVISE_STOPPING;
	return HF_SUPERVISE_DO_STOP;
}

/* After anything has changed: R1 and R2 first. */
static enum hf_supervise_action settle(struct hf_supervise *s, uint64_t now_ns)
{
	bool is_nothing = s->definition.has_two_hosts && (s->place == HF_SUPERVISE_PLACE_NOTHING ||
							  s->place == HF_SUPERVISE_PLACE_END);
	enum hf_supervise_role role = choose_role(s);
	enum hf_supervise_why why;

	if (hf_supervise_has_keeper(s))
		return s->definition.is_managed ? make_room(s) : end_if_placed(s);
	if (s->state == HF_SUPERVISE_FAILED) /* R2 */
		return HF_SUPERVISE_DO_NOTHING;
	s->role = HF_SUPERVISE_NO_ROLE;
	if (!s->is_wanted || is_barred(s) || (s->is_defined && is_nothing)) { /* R2, R7 */
		set_state(s, HF_SUPERVISE_OFF, HF_SUPERVISE_IN_ORDER);
		return HF_SUPERVISE_DO_NOTHING;
	}
	why = find_hindrance(s, role);
	if (why) {
		set_state(s, HF_SUPERVISE_HELD, why);
		return HF_SUPERVISE_DO_NOTHING;
	}
	if (now_ns < s->retry_ns) {
		set_state(s, HF_SUPERVISE_WAITING, HF_SUPERVISE_IN_ORDER);
		return HF_SUPERVISE_DO_NOTHING;
	}
	return start(s, role);
}

/* ---- starting again ---- */

static uint64_t delay_ns(uint32_t n)
{
	return n < 6 ? SECOND << n : DELAY_MAX_NS;
}

/* R5. The first second lets a standby on the other host go live. */
static void count_restart(struct hf_supervise *s, uint64_t now_ns)
{
	if (!s->restarts || now_ns - s->window_began_ns >= s->definition.restart_window_ns) {
		s->restarts = 0;
		s->window_began_ns = now_ns;
	}
	if (s->restarts >= s->definition.restarts_max) {
		set_state(s, HF_SUPERVISE_FAILED, HF_SUPERVISE_TOO_OFTEN);
		return;
	}
	s->retry_ns = now_ns + delay_ns(s->restarts++);
}

static void retry_later(struct hf_supervise *s, uint64_t now_ns)
{
	s->retry_ns = now_ns + delay_ns(s->retries);
	if (s->retries < 16)
		s->retries++;
}

static void clear(struct hf_supervise *s)
{
	if (s->state == HF_SUPERVISE_FAILED)
		set_state(s, HF_SUPERVISE_OFF, HF_SUPERVISE_IN_ORDER);
	s->restarts = 0;
	s->retries = 0;
	s->retry_ns = 0;
}

/* ---- ends ---- */

/* A standby is started again whenever it ends by itself: that harms nobody. */
static void standby_ended(struct hf_supervise *s, const struct hf_supervise_end *end,
			  uint64_t now_ns)
{
	if (end->code == HF_SUPERVISE_ENDED)
		s->is_resting = true; /* R6: not is_wanted, which is the other host's, too */
	else if (end->code == HF_SUPERVISE_USAGE)
		set_state(s, HF_SUPERVISE_FAILED, HF_SUPERVISE_BAD_DEFINITION);
	else
		retry_later(s, now_ns);
}

static void start_failed(struct hf_supervise *s, uint64_t now_ns)
{
	if (s->is_ordered)
		set_state(s, HF_SUPERVISE_FAILED, HF_SUPERVISE_NO_START);
	else
		count_restart(s, now_ns);
}

/* A VM of two hosts that has died here is the other's now: R4. One that has nobody to go to is started
 * again here, perhaps after others were asked: R5 in either case. */
static void died(struct hf_supervise *s, const struct hf_supervise_end *end, uint64_t now_ns)
{
	if (s->definition.has_two_hosts || end->is_given)
		s->is_elsewhere = true;
	if (s->definition.has_two_hosts)
		return;
	if (end->is_left)
		set_state(s, HF_SUPERVISE_FAILED, HF_SUPERVISE_CRASHED);
	else
		count_restart(s, now_ns);
}

static void run_ended(struct hf_supervise *s, const struct hf_supervise_end *end, bool has_served,
		      uint64_t now_ns)
{
	switch ((enum hf_supervise_code)end->code) {
	case HF_SUPERVISE_ENDED:
		s->is_elsewhere = end->is_handed_over;
		s->is_wanted = end->is_handed_over; /* R6 */
		break;
	case HF_SUPERVISE_USAGE:
		set_state(s, HF_SUPERVISE_FAILED, HF_SUPERVISE_BAD_DEFINITION);
		break;
	case HF_SUPERVISE_VM_DIED:
		died(s, end, now_ns);
		break;
	case HF_SUPERVISE_SUPERSEDED:
	case HF_SUPERVISE_LEASE_LOST:
		s->is_elsewhere = true;
		if (s->place == HF_SUPERVISE_PLACE_RUN) /* was said before it was refused */
			retry_later(s, now_ns);
		break;
	case HF_SUPERVISE_UNKNOWN_PEER:
		retry_later(s, now_ns);
		break;
	case HF_SUPERVISE_CANNOT:
		if (!has_served) {
			start_failed(s, now_ns);
			break;
		}
		count_restart(s, now_ns);
		break;
	case HF_SUPERVISE_AGAIN:
	case HF_SUPERVISE_KILLED:
	default:
		count_restart(s, now_ns);
		break;
	}
}

/* R7: what follows is the cluster manager's to say. */
static void managed_died(struct hf_supervise *s)
{
	s->has_died = true;
	s->is_wanted = false;
}

/* R7: somebody waits, with a deadline of his own. */
static void retry_soon(struct hf_supervise *s, uint64_t now_ns)
{
	if (s->retries > 1)
		s->retries = 1;
	retry_later(s, now_ns);
}

static void managed_run_ended(struct hf_supervise *s, const struct hf_supervise_end *end,
			      bool has_served, uint64_t now_ns)
{
	switch ((enum hf_supervise_code)end->code) {
	case HF_SUPERVISE_ENDED:
		s->is_elsewhere = end->is_handed_over;
		s->is_wanted = end->is_handed_over || s->assigned == HF_SUPERVISE_ASSIGNED_STANDBY;
		if (end->is_handed_over && s->place == HF_SUPERVISE_PLACE_RUN) /* of before */
			retry_soon(s, now_ns);
		break;
	case HF_SUPERVISE_USAGE:
		set_state(s, HF_SUPERVISE_FAILED, HF_SUPERVISE_BAD_DEFINITION);
		s->is_wanted = false; /* one that is mended is not started by that */
		break;
	case HF_SUPERVISE_SUPERSEDED:
	case HF_SUPERVISE_LEASE_LOST:
		s->is_elsewhere = true;
		if (has_served)
			managed_died(s);
		else if (s->place == HF_SUPERVISE_PLACE_RUN)
			retry_soon(s, now_ns);
		break;
	case HF_SUPERVISE_UNKNOWN_PEER:
		retry_soon(s, now_ns);
		break;
	case HF_SUPERVISE_AGAIN:
		count_restart(s, now_ns);
		if (s->state == HF_SUPERVISE_FAILED) /* CLEAR is no order to start it */
			managed_died(s);
		break;
	case HF_SUPERVISE_VM_DIED:
	case HF_SUPERVISE_CANNOT:
	case HF_SUPERVISE_KILLED:
	default:
		set_state(s, HF_SUPERVISE_FAILED,
			  has_served ? HF_SUPERVISE_CRASHED : HF_SUPERVISE_NO_START);
		managed_died(s);
		break;
	}
}

static void froze(struct hf_supervise *s, const struct hf_supervise_end *end, uint64_t now_ns)
{
	s->frozen += s->frozen == 0; /* how many there are is told in a moment */
	s->is_elsewhere = s->definition.has_two_hosts || end->is_given;
	if (s->definition.is_managed)
		managed_died(s);
	else
		count_restart(s, now_ns);
}

/* Its role may never have been told: then only what was no orderly end says anything. */
static void lived_ended(struct hf_supervise *s, enum hf_supervise_role role,
			const struct hf_supervise_end *end, bool has_served, uint64_t now_ns)
{
	if (role == HF_SUPERVISE_STANDBY)
		standby_ended(s, end, now_ns);
	else if (role != HF_SUPERVISE_RUN && end->code == HF_SUPERVISE_ENDED)
		return;
	else if (s->definition.is_managed)
		managed_run_ended(s, end, has_served, now_ns);
	else
		run_ended(s, end, has_served, now_ns);
}

static void keeper_ended(struct hf_supervise *s, const struct hf_supervise_event *ev)
{
	enum hf_supervise_role role = s->role;
	enum hf_supervise_state was = s->state;

	if (!hf_supervise_has_keeper(s))
		return;
	set_state(s, HF_SUPERVISE_OFF, HF_SUPERVISE_IN_ORDER);
	s->role = HF_SUPERVISE_NO_ROLE;
	if (was == HF_SUPERVISE_STOPPING)
		s->retry_ns = 0; /* whether it is wanted again was said meanwhile */
	else if (ev->end.is_frozen)
		froze(s, &ev->end, ev->now_ns);
	else
		lived_ended(s, role, &ev->end, was == HF_SUPERVISE_UP, ev->now_ns);
	/* R7: it made room, or is tried again: who ordered that waits. */
	s->is_ordered = s->is_ordered && s->definition.is_managed && s->is_wanted &&
			s->state != HF_SUPERVISE_FAILED;
}

/* ---- arrivals and orders ---- */

static void keeper_up(struct hf_supervise *s, const struct hf_supervise_event *ev)
{
	if (s->state != HF_SUPERVISE_STOPPING) {
		set_state(s, HF_SUPERVISE_UP, HF_SUPERVISE_IN_ORDER);
		s->is_wanted |= ev->role == HF_SUPERVISE_RUN; /* also what was started by hand */
	}
	s->role = ev->role;
	/* R7: who ordered it to run, while an empty standby was being started, waits for that to make room. */
	s->is_ordered = s->is_ordered && s->definition.is_managed &&
			ev->role == HF_SUPERVISE_STANDBY &&
			s->assigned == HF_SUPERVISE_ASSIGNED_RUN;
	s->is_resting = false;
	s->has_died = false;
	s->retries = 0;
	s->retry_ns = 0;
	if (ev->role == HF_SUPERVISE_RUN) {
		s->ran_here = true;
		s->is_elsewhere = false;
		s->is_fresh = false;
	}
}

/* Not what an order could not do: that may be ordered again. */
static bool needs_clearing(const struct hf_supervise *s)
{
	return s->state == HF_SUPERVISE_FAILED &&
	       (s->why == HF_SUPERVISE_TOO_OFTEN || s->why == HF_SUPERVISE_CRASHED);
}

static bool is_frozen_in_the_way(const struct hf_supervise *s, bool is_fresh)
{
	bool is_standby = s->place == HF_SUPERVISE_PLACE_STANDBY ||
			  (s->definition.is_managed &&
			   s->assigned == HF_SUPERVISE_ASSIGNED_STANDBY);

	return s->frozen && !is_fresh && !s->definition.may_run_beside_frozen && !is_standby;
}

/* R7: given again, it changes nothing; where the VM runs, or stands by, that is what was wanted. */
static enum hf_supervise_action order_assigned(struct hf_supervise *s,
					       const struct hf_supervise_event *ev)
{
	if (!s->is_defined || is_barred(s))
		return HF_SUPERVISE_DO_REFUSE;
	if (!hf_supervise_has_keeper(s)) {
		if (is_frozen_in_the_way(s, ev->is_fresh) ||
		    (!s->definition.has_two_hosts && s->place == HF_SUPERVISE_PLACE_NOTHING))
			return HF_SUPERVISE_DO_REFUSE;
		clear(s);
		s->is_fresh = ev->is_fresh;
		s->is_elsewhere = false;
		s->has_died = false;
		s->is_ordered = true;
	} else if (s->role != HF_SUPERVISE_RUN) {
		s->is_ordered = s->assigned == HF_SUPERVISE_ASSIGNED_RUN;
	}
	s->is_wanted = true;
	s->is_resting = false;
	return settle(s, ev->now_ns);
}

static enum hf_supervise_action order_start(struct hf_supervise *s,
					    const struct hf_supervise_event *ev)
{
	if (s->definition.is_managed)
		return order_assigned(s, ev);
	if (s->state == HF_SUPERVISE_STOPPING) {
		s->is_wanted = true; /* once it has ended */
		return HF_SUPERVISE_DO_NOTHING;
	}
	if (!s->is_defined || hf_supervise_has_keeper(s) || needs_clearing(s))
		return HF_SUPERVISE_DO_REFUSE;
	if (is_frozen_in_the_way(s, ev->is_fresh))
		return HF_SUPERVISE_DO_REFUSE;
	if (!s->definition.has_two_hosts && s->place == HF_SUPERVISE_PLACE_NOTHING) /* R4 */
		return HF_SUPERVISE_DO_REFUSE;
	clear(s);
	s->is_wanted = true;
	s->is_fresh = ev->is_fresh;
	s->is_ordered = true;
	s->is_elsewhere = false;
	s->is_resting = false;
	s->ran_here = true; /* from now on it is this host's */
	return settle(s, ev->now_ns);
}

static enum hf_supervise_action order_recover(struct hf_supervise *s,
					      const struct hf_supervise_event *ev)
{
	bool is_frozen = s->frozen && !s->definition.may_run_beside_frozen;

	/* Refused is without a trace: what is released later is not to start here by an old order. */
	if (hf_supervise_has_keeper(s) || !s->is_defined || s->state == HF_SUPERVISE_FAILED ||
	    is_frozen || s->definition.is_managed)
		return HF_SUPERVISE_DO_REFUSE;
	s->is_wanted = true;
	s->is_elsewhere = false;
	s->ran_here = true;
	return settle(s, ev->now_ns);
}

/* R7: what has died here is shown until it is started again; and a standby follows if that is assigned. */
static enum hf_supervise_action order_managed_stop(struct hf_supervise *s)
{
	s->is_wanted = s->assigned == HF_SUPERVISE_ASSIGNED_STANDBY && s->role == HF_SUPERVISE_RUN;
	s->is_ordered = false;
	if (hf_supervise_has_keeper(s)) {
		s->state = HF_SUPERVISE_STOPPING;
		return HF_SUPERVISE_DO_STOP;
	}
	if (s->state != HF_SUPERVISE_FAILED)
		set_state(s, HF_SUPERVISE_OFF, HF_SUPERVISE_IN_ORDER);
	return HF_SUPERVISE_DO_NOTHING;
}

static enum hf_supervise_action order_stop(struct hf_supervise *s)
{
	if (s->definition.is_managed)
		return order_managed_stop(s);
	s->is_wanted = false;
	if (!hf_supervise_has_keeper(s)) {
		clear(s);
		set_state(s, HF_SUPERVISE_OFF, HF_SUPERVISE_IN_ORDER);
		return HF_SUPERVISE_DO_NOTHING;
	}
	s->state = HF_SUPERVISE_STOPPING;
	return HF_SUPERVISE_DO_STOP;
}

static void stop_refused(struct hf_supervise *s)
{
	if (s->state != HF_SUPERVISE_STOPPING)
		return;
	s->is_wanted = true;
	s->state = s->role ? HF_SUPERVISE_UP : HF_SUPERVISE_STARTING;
}

/* R7: a standby is begun by this alone; what runs here is left as it is, and what is to run here is STARTed: not
 * booted because a standby has died that was to go live. */
static void assigned(struct hf_supervise *s, enum hf_supervise_assigned what)
{
	bool is_new = s->assigned != what;

	s->assigned = what;
	if (!s->definition.is_managed)
		return;
	if (what == HF_SUPERVISE_ASSIGNED_RUN && is_new && s->role != HF_SUPERVISE_RUN)
		s->is_wanted = false;
	if (what != HF_SUPERVISE_ASSIGNED_RUN)
		s->is_ordered = false;
	if (what == HF_SUPERVISE_ASSIGNED_NONE)
		s->is_wanted = false;
	else if (what == HF_SUPERVISE_ASSIGNED_STANDBY && !s->has_died)
		s->is_wanted = true;
}

static void defined(struct hf_supervise *s, const struct hf_supervise_event *ev)
{
	bool is_newly_managed = ev->definition->is_managed && !s->definition.is_managed;
	bool was_managed = s->definition.is_managed && !ev->definition->is_managed;

	s->definition = *ev->definition;
	s->is_defined = true;
	if (was_managed) /* nor is the manager's word an operator's: what does not run is not booted */
		s->is_wanted = hf_supervise_has_keeper(s) && s->role == HF_SUPERVISE_RUN;
	if (is_newly_managed) { /* what was wanted of it before was not the manager's word */
		s->is_wanted = false;
		assigned(s, s->assigned);
	}
	if (s->state == HF_SUPERVISE_FAILED && s->why == HF_SUPERVISE_BAD_DEFINITION)
		clear(s);
}

/* Not wanted any more, by the other host's word: a standby has nothing to stand by for. */
static enum hf_supervise_action wanted(struct hf_supervise *s, const struct hf_supervise_event *ev)
{
	bool was_wanted = s->is_wanted;

	if (s->definition.is_managed)
		return settle(s, ev->now_ns);
	s->is_wanted = ev->is_wanted;
	if (!was_wanted && ev->is_wanted) {
		clear(s);
		s->is_resting = false;
	}
	if (ev->is_wanted || s->role != HF_SUPERVISE_STANDBY || s->state != HF_SUPERVISE_UP ||
	    s->place != HF_SUPERVISE_PLACE_OWN)
		return settle(s, ev->now_ns);
	s->state = HF_SUPERVISE_STOPPING;
	return HF_SUPERVISE_DO_STOP;
}

enum hf_supervise_action hf_supervise_step(struct hf_supervise *s,
					   const struct hf_supervise_event *ev)
{
	switch (ev->kind) {
	case HF_SUPERVISE_EV_START:
		return order_start(s, ev);
	case HF_SUPERVISE_EV_RECOVER:
		return order_recover(s, ev);
	case HF_SUPERVISE_EV_STOP:
		return order_stop(s);
	case HF_SUPERVISE_EV_WANTED:
		return wanted(s, ev);
	case HF_SUPERVISE_EV_DEFINED:
		defined(s, ev);
		break;
	case HF_SUPERVISE_EV_UNDEFINED:
		s->is_defined = false;
		break;
	case HF_SUPERVISE_EV_PLACE:
		s->retries = s->place == ev->place ? s->retries : 0;
		s->retry_ns = s->place == ev->place || s->restarts ? s->retry_ns : 0;
		s->place = ev->place;
		break;
	case HF_SUPERVISE_EV_FROZEN:
		s->frozen = ev->count;
		break;
	case HF_SUPERVISE_EV_ASSIGNED:
		assigned(s, ev->assigned);
		break;
	case HF_SUPERVISE_EV_STOP_REFUSED:
		stop_refused(s);
		return HF_SUPERVISE_DO_NOTHING; /* not the same order at once again */
	case HF_SUPERVISE_EV_CLEAR:
		clear(s);
		break;
	case HF_SUPERVISE_EV_KEEPER_FOUND:
		if (!hf_supervise_has_keeper(s)) {
			set_state(s, HF_SUPERVISE_STARTING, HF_SUPERVISE_IN_ORDER);
			s->role = HF_SUPERVISE_NO_ROLE;
			s->has_died = false;
		}
		break;
	case HF_SUPERVISE_EV_KEEPER_UP:
		keeper_up(s, ev);
		break;
	case HF_SUPERVISE_EV_KEEPER_ENDED:
		keeper_ended(s, ev);
		break;
	case HF_SUPERVISE_EV_TIME:
	case HF_SUPERVISE_EVENT_COUNT:
	default:
		break;
	}
	return settle(s, ev->now_ns);
}

const char *hf_supervise_state_name(enum hf_supervise_state state)
{
	static const char *const names[] = {
		[HF_SUPERVISE_OFF] = "off",         [HF_SUPERVISE_HELD] = "held",
		[HF_SUPERVISE_WAITING] = "waiting", [HF_SUPERVISE_STARTING] = "starting",
		[HF_SUPERVISE_UP] = "up",           [HF_SUPERVISE_STOPPING] = "stopping",
		[HF_SUPERVISE_FAILED] = "failed",
	};

	return names[state];
}

const char *hf_supervise_why_text(enum hf_supervise_why why)
{
	static const char *const texts[] = {
		[HF_SUPERVISE_IN_ORDER] = "",
		[HF_SUPERVISE_UNDEFINED] = "there is no valid definition of it",
		[HF_SUPERVISE_FROZEN] = "a frozen instance of it is here",
		[HF_SUPERVISE_ELSEWHERE] = "another host owns it",
		[HF_SUPERVISE_NOT_YET] = "it is not known what the other host does",
		[HF_SUPERVISE_RESTING] = "the standby was stopped by an order",
		[HF_SUPERVISE_TOO_OFTEN] = "it had to be started again too often",
		[HF_SUPERVISE_NO_START] = "it could not be started",
		[HF_SUPERVISE_BAD_DEFINITION] = "its keeper does not take the definition",
		[HF_SUPERVISE_CRASHED] = "it died, and is not to be started again",
		[HF_SUPERVISE_NO_PAIR] = "a standby of it is assigned, and it has no second host",
	};

	return texts[why];
}

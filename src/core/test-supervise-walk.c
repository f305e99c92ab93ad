/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/supervise.h in every state it can come to, each with every event. */
#include "core/test-supervise.h"

#define STATES_MAX (1u << 19)
#define T_NS (1000 * S_NS)

static struct hf_supervise *seen;
static unsigned int n_seen;
static unsigned int *table;

static void remember(const struct hf_supervise *state)
{
	const unsigned char *bytes = (const unsigned char *)state;
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < sizeof(*state); i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	for (uint32_t i = hash;; i++) {
		unsigned int *at = &table[i % (2 * STATES_MAX)];

		if (*at && memcmp(&seen[*at - 1], state, sizeof(*state)) == 0)
			return;
		if (*at)
			continue;
		CHECK(n_seen < STATES_MAX);
		seen[n_seen++] = *state;
		*at = n_seen;
		return;
	}
}

/* R7: an empty standby for what is to run here. */
static bool makes_room(const struct hf_supervise *is)
{
	return is->definition.is_managed && is->role == HF_SUPERVISE_STANDBY && is->is_ordered &&
	       is->assigned == HF_SUPERVISE_ASSIGNED_RUN && is->place == HF_SUPERVISE_PLACE_RUN;
}

static void check_managed_step(const struct hf_supervise *was, const struct hf_supervise *is,
			       enum hf_supervise_action action, const struct hf_supervise_event *ev)
{
	bool is_end = ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED;

	if (action == HF_SUPERVISE_DO_START)
		CHECK(is->assigned == HF_SUPERVISE_ASSIGNED_RUN);
	if (action == HF_SUPERVISE_DO_START_STANDBY)
		CHECK(is->assigned != HF_SUPERVISE_ASSIGNED_NONE);
	if (is_end && action == HF_SUPERVISE_DO_START)
		CHECK(was->is_wanted &&
		      (was->state == HF_SUPERVISE_STOPPING || was->role != HF_SUPERVISE_RUN));
	/* What has died is not started again by itself. */
	if (is_end && was->state == HF_SUPERVISE_UP && was->role == HF_SUPERVISE_RUN &&
	    (ev->end.is_frozen ||
	     (ev->end.code != HF_SUPERVISE_ENDED && ev->end.code != HF_SUPERVISE_AGAIN &&
	      ev->end.code != HF_SUPERVISE_UNKNOWN_PEER)))
		CHECK(!hf_supervise_has_keeper(is) && hf_supervise_deadline_ns(is) == UINT64_MAX);
	CHECK(!is->is_wanted || !is->has_died);
	if (ev->kind == HF_SUPERVISE_EV_WANTED || ev->kind == HF_SUPERVISE_EV_RECOVER)
		CHECK(is->is_wanted == was->is_wanted);
	CHECK(ev->kind != HF_SUPERVISE_EV_RECOVER || action == HF_SUPERVISE_DO_REFUSE);
}

static void check_step(const struct hf_supervise *was, const struct hf_supervise *is,
		       enum hf_supervise_action action, const struct hf_supervise_event *ev)
{
	bool is_start = action == HF_SUPERVISE_DO_START || action == HF_SUPERVISE_DO_START_STANDBY;

	CHECK(is->restarts <= is->definition.restarts_max);
	CHECK(!is->why || is->state == HF_SUPERVISE_HELD || is->state == HF_SUPERVISE_FAILED);
	CHECK(is->state != HF_SUPERVISE_HELD || is->why);
	CHECK(is->state != HF_SUPERVISE_FAILED || is->why);
	CHECK(hf_supervise_has_keeper(is) || is->role == HF_SUPERVISE_NO_ROLE);
	CHECK(is->state != HF_SUPERVISE_WAITING || hf_supervise_deadline_ns(is) > ev->now_ns);
	if (action == HF_SUPERVISE_DO_REFUSE)
		CHECK(memcmp(was, is, sizeof(*is)) == 0);
	/* R1 */
	if (is_start)
		CHECK(!hf_supervise_has_keeper(was) || ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED);
	if (action == HF_SUPERVISE_DO_STOP)
		CHECK(ev->kind == HF_SUPERVISE_EV_STOP || makes_room(is) ||
		      (!is->definition.is_managed && is->place == HF_SUPERVISE_PLACE_END &&
		       is->definition.has_two_hosts) ||
		      (ev->kind == HF_SUPERVISE_EV_WANTED && was->role == HF_SUPERVISE_STANDBY));
	if (hf_supervise_has_keeper(was))
		CHECK(hf_supervise_has_keeper(is) || ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED);
	/* R2 */
	if (is_start) {
		CHECK(is->is_wanted && is->is_defined);
		CHECK(is->state == HF_SUPERVISE_STARTING && is->role != HF_SUPERVISE_NO_ROLE);
	}
	if (is_start && was->state == HF_SUPERVISE_FAILED)
		CHECK(ev->kind == HF_SUPERVISE_EV_START || ev->kind == HF_SUPERVISE_EV_CLEAR ||
		      ev->kind == HF_SUPERVISE_EV_WANTED || ev->kind == HF_SUPERVISE_EV_DEFINED);
	/* R3 */
	if (action == HF_SUPERVISE_DO_START)
		CHECK(!is->frozen || is->is_fresh || is->definition.may_run_beside_frozen);
	/* R4 */
	if (action == HF_SUPERVISE_DO_START_STANDBY)
		CHECK(is->definition.has_two_hosts);
	if (action == HF_SUPERVISE_DO_START && ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED)
		CHECK(!is->is_elsewhere || is->place == HF_SUPERVISE_PLACE_RUN);
	/* R6 */
	if (ev->kind == HF_SUPERVISE_EV_KEEPER_ENDED && was->state == HF_SUPERVISE_UP &&
	    ev->end.code == HF_SUPERVISE_ENDED && !ev->end.is_frozen && !ev->end.is_handed_over &&
	    was->role == HF_SUPERVISE_RUN &&
	    !(is->definition.is_managed && is->assigned == HF_SUPERVISE_ASSIGNED_STANDBY))
		CHECK(is->state == HF_SUPERVISE_OFF && !is->is_wanted);
	if (is->definition.is_managed)
		check_managed_step(was, is, action, ev);
	/* Whatever is wanted and possible is not forgotten: there is a keeper, a time, or a reason. */
	if (is->is_wanted && is->place < HF_SUPERVISE_PLACE_NOTHING &&
	    (!is->definition.is_managed || is->assigned))
		CHECK(is->state != HF_SUPERVISE_OFF);
}

static void try_event(unsigned int i, struct hf_supervise_event ev)
{
	struct hf_supervise next = seen[i];
	enum hf_supervise_action action;

	ev.now_ns = T_NS;
	if (ev.kind == HF_SUPERVISE_EV_TIME && next.state == HF_SUPERVISE_WAITING)
		ev.now_ns = next.retry_ns;
	action = hf_supervise_step(&next, &ev);
	check_step(&seen[i], &next, action, &ev);
	if (next.retry_ns && next.retry_ns <= ev.now_ns)
		next.retry_ns = 0; /* all that has passed is the same */
	else if (next.retry_ns)
		next.retry_ns = T_NS + S_NS;
	if (next.retries > 1)
		next.retries = 1;
	next.window_began_ns = next.window_began_ns ? T_NS : 0;
	remember(&next);
}

static void try_ends(unsigned int i)
{
	struct hf_supervise_event ev = { .kind = HF_SUPERVISE_EV_KEEPER_ENDED };

	for (int code = -1; code <= 9; code++) {
		ev.end = (struct hf_supervise_end){ .code = code };
		try_event(i, ev);
	}
	ev.end = (struct hf_supervise_end){ .is_frozen = true };
	try_event(i, ev);
	ev.end = (struct hf_supervise_end){ .code = 4, .is_left = true };
	try_event(i, ev);
	ev.end = (struct hf_supervise_end){ .code = 4, .is_given = true };
	try_event(i, ev);
	ev.end = (struct hf_supervise_end){ .is_handed_over = true };
	try_event(i, ev);
}

static const struct hf_supervise_definition plain_definitions[] = {
	{ .restarts_max = 2, .restart_window_ns = MIN_NS },
	{ .restarts_max = 0, .restart_window_ns = MIN_NS, .may_run_beside_frozen = true },
	{ .restarts_max = 2, .restart_window_ns = MIN_NS, .has_two_hosts = true, .is_first = true },
	{ .restarts_max = 2, .restart_window_ns = MIN_NS, .has_two_hosts = true },
};

static const struct hf_supervise_definition managed_definitions[] = {
	{ .restarts_max = 1, .restart_window_ns = MIN_NS, .is_managed = true },
	{ .restart_window_ns = MIN_NS, .has_two_hosts = true, .is_managed = true },
	/* And one that was not managed before. */
	{ .restart_window_ns = MIN_NS, .has_two_hosts = true },
};

/* What may be said of one that is managed; a file that was not may say so now. */
static bool may_define(unsigned int i, const struct hf_supervise_definition *d)
{
	const struct hf_supervise_definition *was = &seen[i].definition;

	if (i == 0 || memcmp(was, d, sizeof(*d)) == 0)
		return true;
	return d->is_managed && seen[i].is_defined && !was->is_managed && was->has_two_hosts &&
	       d->has_two_hosts;
}

static void try_all(unsigned int i, const struct hf_supervise_definition *definitions,
		    unsigned int n_definitions)
{
	bool is_managed = definitions == managed_definitions;
	struct hf_supervise_event ev = { 0 };

	for (int kind = 0; kind < HF_SUPERVISE_EVENT_COUNT; kind++) {
		ev = (struct hf_supervise_event){ .kind = (enum hf_supervise_event_kind)kind };
		if (kind == HF_SUPERVISE_EV_KEEPER_ENDED)
			try_ends(i);
		else if (kind == HF_SUPERVISE_EV_KEEPER_UP)
			for (int role = 1; role <= 2; role++) {
				ev.role = (enum hf_supervise_role)role;
				try_event(i, ev);
			}
		else if (kind == HF_SUPERVISE_EV_PLACE)
			for (int where = 0; where < HF_SUPERVISE_PLACE_COUNT; where++) {
				ev.place = (enum hf_supervise_place)where;
				try_event(i, ev);
			}
		else if (kind == HF_SUPERVISE_EV_DEFINED) {
			/* As the first word, or a file that says the same: each kind by itself. */
			for (unsigned int n = 0; n < n_definitions; n++) {
				ev.definition = &definitions[n];
				if (may_define(i, ev.definition))
					try_event(i, ev);
			}
		} else if (kind == HF_SUPERVISE_EV_ASSIGNED) {
			for (int n = 0; is_managed && n < HF_SUPERVISE_ASSIGNED_COUNT; n++) {
				ev.assigned = (enum hf_supervise_assigned)n;
				try_event(i, ev);
			}
		} else {
			for (unsigned int flag = 0; flag < 2; flag++) {
				ev.is_fresh = ev.is_wanted = flag;
				ev.count = flag;
				try_event(i, ev);
			}
		}
	}
}

static void walk(const struct hf_supervise_definition *definitions, unsigned int n)
{
	struct hf_supervise start;

	seen = calloc(STATES_MAX, sizeof(*seen));
	table = calloc(2 * STATES_MAX, sizeof(*table));
	CHECK(seen && table);
	n_seen = 0;
	hf_supervise_init(&start);
	remember(&start);
	for (unsigned int i = 0; i < n_seen; i++)
		try_all(i, definitions, n);
	printf("# %u states\n", n_seen);
	CHECK(n_seen > 1000);
	free(seen);
	free(table);
}

TEST(every_state_and_every_event)
{
	walk(plain_definitions, 4);
}

TEST(every_state_and_every_event_of_a_managed_vm)
{
	walk(managed_definitions, 3);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Time, and what happens in it. */
#include <stdio.h>
#include <string.h>

#include "freezesim.h"

#define CALM_NS (120 * FS_S)

void fs_say(struct fs_world *w, const char *format, ...)
{
	char line[256];
	va_list args;
	int n;

	if (!w->narrate)
		return;
	n = snprintf(line, sizeof(line), "%12.3f ms  ", (double)w->now_ns / (double)FS_MS);
	va_start(args, format);
	(void)vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	w->narrate(w->narrate_arg, line);
}

void fs_fail(struct fs_world *w, enum fs_rule rule, const char *format, ...)
{
	va_list args;
	int n;

	if (w->has_failed)
		return;
	w->has_failed = true;
	n = snprintf(w->failure, sizeof(w->failure), "rule %d at %.3f ms: ", (int)rule,
		     (double)w->now_ns / (double)FS_MS);
	va_start(args, format);
	(void)vsnprintf(w->failure + n, sizeof(w->failure) - (size_t)n, format, args);
	va_end(args);
	fs_say(w, "FAILED: %s", w->failure);
}

void fs_post(struct fs_world *w, uint64_t delay_ns, const struct fs_event *ev)
{
	struct fs_event *e = &w->events[w->n_events];

	if (w->n_events == FS_EVENTS) {
		fs_fail(w, FS_RULE_PROGRESS, "too much is under way");
		return;
	}
	w->n_events++;
	*e = *ev;
	e->at_ns = w->now_ns + delay_ns;
	e->seq = w->event_seq++;
}

uint64_t fs_delay(struct fs_world *w, uint64_t max_ns)
{
	return simkit_rand_next(&w->rand) % (max_ns + 1);
}

static bool take_next(struct fs_world *w, struct fs_event *ret)
{
	unsigned int best = 0;

	if (!w->n_events)
		return false;
	for (unsigned int i = 1; i < w->n_events; i++) {
		const struct fs_event *a = &w->events[i], *b = &w->events[best];

		if (a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->seq < b->seq))
			best = i;
	}
	*ret = w->events[best];
	w->events[best] = w->events[--w->n_events];
	return true;
}

static void calm(struct fs_world *w)
{
	fs_say(w, "calm");
	w->is_calm = true;
	fs_fault_heal_all(w);
}

static void handle(struct fs_world *w, const struct fs_event *ev)
{
	switch (ev->kind) {
	case FS_EV_BEGIN:
		return fs_keeper_begin(w);
	case FS_EV_JOB:
		return fs_host_job(w, ev->a, ev->inst);
	case FS_EV_REPORT:
		return fs_keeper_report(w, ev);
	case FS_EV_TIMER:
		if (ev->inst == w->keeper.inst)
			fs_keeper_timer(w, ev->c);
		return;
	case FS_EV_FAULT:
		return fs_fault_strike(w, ev->a);
	case FS_EV_KEEPER:
		return fs_keeper_start(w);
	case FS_EV_CALM:
		return calm(w);
	case FS_EV_LOOK:
		break;
	}
}

/* Faults that come after the so-manieth event, whatever that is. */
static void count(struct fs_world *w)
{
	w->n_handled++;
	for (unsigned int i = 0; i < w->plan->n_faults; i++) {
		const struct fs_fault *f = &w->plan->faults[i];

		if (f->nth && f->nth == w->n_handled)
			fs_post(w, f->at_ns, &(struct fs_event){ .kind = FS_EV_FAULT, .a = i });
	}
}

static void hash(struct fs_stats *s, const struct fs_event *ev)
{
	s->hash = (s->hash ^ ev->at_ns ^ ((uint64_t)ev->kind << 56) ^ ((uint64_t)ev->a << 48)) *
		  0x100000001b3u;
}

static void set_up(struct fs_world *w, const struct fs_plan *plan, struct fs_stats *stats)
{
	enum fs_plant plant = w->plant;
	fs_narrator *narrate = w->narrate;
	void *arg = w->narrate_arg;

	memset(w, 0, sizeof(*w));
	w->plan = plan;
	w->stats = stats;
	w->plant = plant;
	w->narrate = narrate;
	w->narrate_arg = arg;
	w->rand.state = plan->seed * 0x9e3779b97f4a7c15u + 17;
	w->now_ns = FS_MS;
	fs_host_init(w);
	fs_post(w, plan->safety_ns, &(struct fs_event){ .kind = FS_EV_CALM });
	fs_post(w, plan->safety_ns + CALM_NS, &(struct fs_event){ .kind = FS_EV_LOOK });
	for (unsigned int i = 0; i < plan->n_faults; i++)
		if (!plan->faults[i].nth)
			fs_post(w, plan->faults[i].at_ns,
				&(struct fs_event){ .kind = FS_EV_FAULT, .a = i });
	fs_post(w, 0, &(struct fs_event){ .kind = FS_EV_BEGIN });
}

void fs_run(struct fs_world *w, const struct fs_plan *plan, struct fs_stats *stats)
{
	struct fs_event ev;

	set_up(w, plan, stats);
	while (!w->has_failed && take_next(w, &ev)) {
		if (ev.at_ns > plan->safety_ns + CALM_NS + FS_S)
			break;
		w->now_ns = ev.at_ns;
		hash(stats, &ev);
		stats->events++;
		handle(w, &ev);
		count(w);
		fs_check(w);
	}
	fs_check_end(w);
	stats->runs++;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim.h"

#include <assert.h>

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->seq < b->seq);
}

void sim_queue_push(struct sim_world *w, const struct sim_event *ev)
{
	unsigned int i = w->n_events++;

	assert(i < SIM_EVENTS);
	while (i && is_before(ev, &w->events[(i - 1) / 2])) {
		w->events[i] = w->events[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->events[i] = *ev;
}

bool sim_queue_pop(struct sim_world *w, struct sim_event *ret)
{
	struct sim_event last;
	unsigned int i = 0, child;

	if (!w->n_events)
		return false;
	*ret = w->events[0];
	last = w->events[--w->n_events];
	while ((child = 2 * i + 1) < w->n_events) {
		if (child + 1 < w->n_events && is_before(&w->events[child + 1], &w->events[child]))
			child++;
		if (!is_before(&w->events[child], &last))
			break;
		w->events[i] = w->events[child];
		i = child;
	}
	w->events[i] = last;
	return true;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define REPLY_MAX_NS (4 * SIM_MS)
#define SWEEP_NS (40 * SIM_MS)
#define POWER_CHECKS_PERCENT 10
#define SWEEP SIM_NONE /* as the index of a fault: heal, and start what is missing */

char sim_letter(int node)
{
	return (char)('A' + node);
}

void sim_say(struct sim_world *w, const char *format, ...)
{
	char line[400];
	va_list ap;
	int at;

	if (!w->narrate)
		return;
	at = snprintf(line, sizeof(line), "%8.3f ", (double)w->now_ns / SIM_MS);
	va_start(ap, format);
	(void)vsnprintf(line + at, sizeof(line) - (size_t)at, format, ap);
	va_end(ap);
	w->narrate(w->narrate_arg, line);
}

void sim_fail(struct sim_world *w, enum sim_rule rule, const char *format, ...)
{
	va_list ap;
	int at;

	if (w->has_failed)
		return;
	w->has_failed = true;
	at = snprintf(w->failure, sizeof(w->failure), "invariant %u (%s): ", rule,
		      sim_rule_names[rule]);
	va_start(ap, format);
	(void)vsnprintf(w->failure + at, sizeof(w->failure) - (size_t)at, format, ap);
	va_end(ap);
	sim_say(w, "VIOLATION of %s", w->failure);
}

uint64_t sim_delay(struct sim_world *w, uint64_t max_ns)
{
	uint64_t r = sim_rand_next(&w->rand);

	if (w->plan->delays == SIM_DELAYS_FIXED)
		return max_ns / 2;
	if (w->plan->delays == SIM_DELAYS_EDGE && (r & 1))
		return r & 2 ? max_ns : 0;
	return (r >> 8) % (max_ns + 1);
}

void sim_post(struct sim_world *w, uint64_t delay_ns, const struct sim_event *ev)
{
	struct sim_event mine = *ev;

	mine.at_ns = w->now_ns + delay_ns;
	mine.seq = ++w->event_seq;
	sim_queue_push(w, &mine);
}

/* Somebody rings at a host: 0 nobody lives there, 1 a process took the call, -1 no answer at
 * all. */
static int ring(const struct sim_world *w, int from, int to)
{
	/* A disk process inherits the listening socket: while it lives the port is not closed. */
	if (sim_net_is_cut(w, from, to) || sim_net_is_cut(w, to, from) || w->is_orphaned[to])
		return -1;
	return w->keepers[to].inst != 0;
}

static void on_connect(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_keeper *k = &w->keepers[ev->node];
	struct sim_event refused = { .kind = SIM_EV_REFUSED, .session = ev->session };
	struct sim_msg hello = { .kind = SIM_MSG_HELLO, .inst = ev->inst };
	int r = ring(w, ev->node, ev->a);

	if (k->inst != ev->inst || k->is_frozen || k->out_conn || !k->is_primary)
		return;
	if (r == 0)
		sim_keeper_post(w, k, REPLY_MAX_NS, &refused);
	if (r != 1)
		return;
	k->out_conn = sim_net_connect(w, ev->node, ev->a);
	hello.session = k->p.session;
	sim_net_send(w, k->out_conn, k->node, &hello);
}

static void on_inquire(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_keeper *k = &w->keepers[ev->node];
	const struct sim_keeper *peer = &w->keepers[ev->a];
	struct sim_event answer = { .kind = SIM_EV_ANSWER,
				    .session = ev->session,
				    .epoch = peer->inst };
	int r = ring(w, ev->node, ev->a);

	if (k->inst != ev->inst || r < 0 || peer->is_frozen)
		return;
	answer.value = (uint64_t)r;
	sim_keeper_post(w, k, REPLY_MAX_NS, &answer);
}

static void on_fault(struct sim_world *w, int i)
{
	if (i != SWEEP) {
		sim_fault_strike(w, (unsigned int)i);
		for (int n = 0; n < SIM_NODES; n++)
			sim_keeper_work(w, &w->keepers[n]);
		return;
	}
	sim_fault_heal_all(w);
	sim_post(w, SWEEP_NS, &(struct sim_event){ .kind = SIM_EV_FAULT, .a = SWEEP });
}

static void on_land(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_keeper *k = &w->keepers[ev->node];

	sim_store_land(w, ev);
	sim_keeper_work(w, k);
}

static void on_orphan(struct sim_world *w, const struct sim_event *ev)
{
	if (w->is_orphaned[ev->node])
		sim_store_settle_dead(w, ev->node);
	w->is_orphaned[ev->node] = false;
}

/* The daemon tells the keeper that is there. */
static void on_fenced(struct sim_world *w, const struct sim_event *ev)
{
	if (w->keepers[ev->node].inst)
		sim_keeper_handle(w, ev);
}

static void handle(struct sim_world *w, const struct sim_event *ev)
{
	w->stats->events++;
	if (ev->kind == SIM_EV_FAULT)
		on_fault(w, ev->a);
	else if (ev->kind == SIM_EV_UNDO)
		sim_fault_undo(w, (unsigned int)ev->a);
	else if (ev->kind == SIM_EV_CONNECT)
		on_connect(w, ev);
	else if (ev->kind == SIM_EV_INQUIRE)
		on_inquire(w, ev);
	else if (ev->kind == SIM_EV_DAEMON)
		sim_daemon_event(w, ev);
	else if (ev->kind == SIM_EV_RENEW)
		sim_daemon_renew(w, ev);
	else if (ev->kind == SIM_EV_AREA_LAND)
		sim_area_land(w, ev);
	else if (ev->kind == SIM_EV_LAND)
		on_land(w, ev);
	else if (ev->kind == SIM_EV_ORPHAN)
		on_orphan(w, ev);
	else if (ev->kind == SIM_EV_FENCED)
		on_fenced(w, ev);
	else
		sim_keeper_handle(w, ev);
	sim_check_world(w);
	if (sim_has_disks(w) && sim_rand_percent(&w->crash_rand, POWER_CHECKS_PERCENT))
		sim_check_power(w);
}

static void begin(struct sim_world *w, const struct sim_plan *plan, struct sim_stats *stats)
{
	sim_narrator *narrate = w->narrate;
	void *arg = w->narrate_arg;
	bool is_verbose = w->is_verbose;
	enum sim_plant plant = w->plant;

	memset(w, 0, offsetof(struct sim_world, epochs));
	w->narrate = narrate;
	w->narrate_arg = arg;
	w->is_verbose = is_verbose;
	w->plant = plant;
	w->plan = plan;
	w->stats = stats;
	w->rand.state = plan->seed;
	sim_net_init(w);
	sim_store_init(w);
	for (int n = 0; n < SIM_NODES; n++)
		w->keepers[n].node = n;
	sim_area_init(w);
	sim_keeper_start(w, 0, /* is_primary= */ true);
	sim_keeper_start(w, 1, /* is_primary= */ false);
	sim_daemons_init(w);
	for (unsigned int i = 0; i < plan->n_faults; i++) {
		struct sim_event ev = { .kind = SIM_EV_FAULT, .a = (int)i };

		if (plan->faults[i].when == SIM_WHEN_AT)
			sim_post(w, plan->faults[i].at_ns, &ev);
	}
	sim_post(w, plan->safety_ns, &(struct sim_event){ .kind = SIM_EV_FAULT, .a = SWEEP });
}

void sim_run(struct sim_world *w, const struct sim_plan *plan, struct sim_stats *stats)
{
	uint64_t end_ns = plan->safety_ns + plan->calm_ns;
	struct sim_event ev;

	begin(w, plan, stats);
	while (!w->has_failed && sim_queue_pop(w, &ev) && ev.at_ns <= end_ns) {
		w->now_ns = ev.at_ns;
		handle(w, &ev);
	}
	if (!w->has_failed)
		sim_check_calm(w);
	stats->runs++;
}

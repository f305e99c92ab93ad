/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Connections as TCP gives them: in order, and reliable until they break. A cut way delays what is
 * sent over it, for TCP repeats; a reset or a crash loses any suffix. One DELIVER event is posted
 * for each message and takes the head of its queue, so that one too many does no harm.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define MSG_MAX_NS (1 * SIM_MS)
#define RESET_MAX_NS (5 * SIM_MS)

void sim_net_init(struct sim_world *w)
{
	memset(w->conns, 0, sizeof(w->conns));
	for (int i = 0; i < SIM_MSGS; i++)
		w->msgs[i].next = i + 1 < SIM_MSGS ? i + 1 : SIM_NONE;
	w->free_msg = 0;
	w->next_conn = 1;
}

bool sim_net_is_cut(const struct sim_world *w, int from, int to)
{
	return w->cuts[from][to] || w->is_host_down[from] || w->is_host_down[to];
}

struct sim_conn *sim_net_find(struct sim_world *w, uint64_t id)
{
	struct sim_conn *c = &w->conns[id % SIM_CONNS];

	return id && c->id == id ? c : NULL;
}

static struct sim_msg pop(struct sim_world *w, struct sim_conn *c, int dir)
{
	int i = c->head[dir];
	struct sim_msg msg;

	assert(i != SIM_NONE);
	msg = w->msgs[i];
	c->head[dir] = msg.next;
	if (c->head[dir] == SIM_NONE)
		c->tail[dir] = SIM_NONE;
	w->msgs[i].next = w->free_msg;
	w->free_msg = i;
	return msg;
}

static void recycle(struct sim_world *w, struct sim_conn *c)
{
	for (int dir = 0; dir < 2; dir++)
		while (c->id && c->head[dir] != SIM_NONE)
			(void)pop(w, c, dir);
}

uint64_t sim_net_connect(struct sim_world *w, int from, int to)
{
	for (unsigned int tries = 0; tries < SIM_CONNS; tries++) {
		uint64_t id = w->next_conn++;
		struct sim_conn *c = &w->conns[id % SIM_CONNS];

		if (c->is_open[0] || c->is_open[1])
			continue;
		recycle(w, c);
		*c = (struct sim_conn){ .id = id,
					.node = { from, to },
					.inst = { w->keepers[from].inst, w->keepers[to].inst },
					.is_open = { true, true },
					.heard_ns = { w->now_ns, w->now_ns },
					.head = { SIM_NONE, SIM_NONE },
					.tail = { SIM_NONE, SIM_NONE } };
		return id;
	}
	assert(false && "every connection is in use");
	return 0;
}

static void post_delivery(struct sim_world *w, struct sim_conn *c, int dir)
{
	struct sim_event ev = {
		.kind = SIM_EV_DELIVER, .node = c->node[!dir], .a = dir, .conn = c->id
	};
	uint64_t at_ns = w->now_ns + sim_delay(w, MSG_MAX_NS);

	if (at_ns < c->last_ns[dir])
		at_ns = c->last_ns[dir];
	c->last_ns[dir] = at_ns;
	sim_post(w, at_ns - w->now_ns, &ev);
}

static void append(struct sim_world *w, struct sim_conn *c, int dir, const struct sim_msg *msg)
{
	int i = w->free_msg;

	assert(i != SIM_NONE);
	w->free_msg = w->msgs[i].next;
	w->msgs[i] = *msg;
	w->msgs[i].next = SIM_NONE;
	if (c->tail[dir] == SIM_NONE)
		c->head[dir] = i;
	else
		w->msgs[c->tail[dir]].next = i;
	c->tail[dir] = i;
	post_delivery(w, c, dir);
}

void sim_net_send(struct sim_world *w, uint64_t conn, int from, const struct sim_msg *msg)
{
	struct sim_conn *c = sim_net_find(w, conn);
	int end;

	if (!c)
		return;
	end = c->node[0] == from ? 0 : 1;
	if (c->is_open[end])
		append(w, c, end, msg);
}

void sim_net_close(struct sim_world *w, uint64_t conn, int node)
{
	struct sim_conn *c = sim_net_find(w, conn);
	int end;

	if (!c)
		return;
	end = c->node[0] == node ? 0 : 1;
	if (!c->is_open[end])
		return;
	append(w, c, end, &(struct sim_msg){ .kind = SIM_MSG_EOF });
	c->is_open[end] = false;
}

static void lose_suffix(struct sim_world *w, struct sim_conn *c, int dir)
{
	unsigned int n = 0, keep;
	int i = c->head[dir], last = SIM_NONE;

	for (; i != SIM_NONE; i = w->msgs[i].next)
		n++;
	if (!n)
		return;
	keep = sim_rand_below(&w->rand, n + 1);
	i = c->head[dir];
	for (unsigned int at = 0; at < keep; at++) {
		last = i;
		i = w->msgs[i].next;
	}
	if (last == SIM_NONE)
		c->head[dir] = SIM_NONE;
	else
		w->msgs[last].next = SIM_NONE;
	c->tail[dir] = last;
	while (i != SIM_NONE) {
		int next = w->msgs[i].next;

		w->msgs[i].next = w->free_msg;
		w->free_msg = i;
		i = next;
	}
}

void sim_net_crash(struct sim_world *w, int node, bool is_silent)
{
	for (unsigned int i = 0; i < SIM_CONNS; i++) {
		struct sim_conn *c = &w->conns[i];

		for (int end = 0; end < 2; end++) {
			if (!c->is_open[end] || c->node[end] != node)
				continue;
			lose_suffix(w, c, end);
			if (!is_silent)
				append(w, c, end, &(struct sim_msg){ .kind = SIM_MSG_EOF });
			c->is_open[end] = false;
		}
	}
}

static void post_reset(struct sim_world *w, struct sim_conn *c, int end, bool needs_way)
{
	struct sim_event ev = { .kind = SIM_EV_RESET,
				.node = c->node[end],
				.a = end,
				.conn = c->id,
				.inst = c->inst[end],
				.value = needs_way };

	sim_post(w, sim_delay(w, RESET_MAX_NS), &ev);
}

void sim_net_reset(struct sim_world *w, int a, int b)
{
	for (unsigned int i = 0; i < SIM_CONNS; i++) {
		struct sim_conn *c = &w->conns[i];

		for (int end = 0; end < 2; end++)
			if (c->is_open[end] && ((c->node[0] == a && c->node[1] == b) ||
						(c->node[0] == b && c->node[1] == a)))
				post_reset(w, c, end, /* needs_way= */ false);
	}
}

void sim_net_healed(struct sim_world *w, int from, int to)
{
	for (unsigned int i = 0; i < SIM_CONNS; i++) {
		struct sim_conn *c = &w->conns[i];

		for (int dir = 0; dir < 2; dir++) {
			if (!c->id || c->node[dir] != from || c->node[!dir] != to)
				continue;
			for (; c->stalled[dir]; c->stalled[dir]--)
				post_delivery(w, c, dir);
		}
	}
}

bool sim_net_deliver(struct sim_world *w, const struct sim_event *ev, struct sim_msg *ret)
{
	struct sim_conn *c = sim_net_find(w, ev->conn);
	int dir = ev->a;

	if (!c || c->head[dir] == SIM_NONE)
		return false;
	if (sim_net_is_cut(w, c->node[dir], c->node[!dir])) {
		c->stalled[dir]++;
		return false;
	}
	*ret = pop(w, c, dir);
	if (c->is_open[!dir])
		return true;
	/* Nobody reads there: the kernel on that host says so. */
	if (c->is_open[dir])
		post_reset(w, c, dir, /* needs_way= */ true);
	return false;
}

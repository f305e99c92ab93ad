/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Storage: writes that land late and in any order, and what a loss of power leaves of them.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define LAND_MAX_NS (3 * SIM_MS)

void sim_store_init(struct sim_world *w)
{
	w->crash_rand.state = sim_mix(w->plan->seed, 4711);
	for (int n = 0; n < SIM_NODES; n++)
		w->stores[n].map.is_trusted = true;
}

struct sim_store *sim_store_of(struct sim_world *w, int node)
{
	return &w->stores[w->plan->layout == SIM_DISKS_SHARED ? 0 : node];
}

struct sim_redo *sim_store_redo(struct sim_store *s)
{
	return &s->redo[s->area];
}

uint64_t sim_store_landed(const struct sim_store *s)
{
	return s->n_gone + s->n_pending;
}

/* The oldest is durable now. */
static void drain_one(struct sim_store *s)
{
	s->durable[s->pending[0].block] = s->pending[0].value;
	s->n_gone++;
	s->n_pending--;
	memmove(s->pending, s->pending + 1, s->n_pending * sizeof(s->pending[0]));
}

void sim_store_flushed(struct sim_store *s, uint64_t n_landed)
{
	while (s->n_pending && s->n_gone < n_landed)
		drain_one(s);
}

static void put(struct sim_store *s, unsigned int block, uint64_t value)
{
	if (s->n_pending == SIM_PENDING_MAX)
		drain_one(s);
	s->pending[s->n_pending++] = (struct sim_pending){ .block = block, .value = value };
	s->now[block] = value;
}

static void forget(struct sim_world *w, struct sim_write *write)
{
	w->n_writes -= write->id != 0;
	write->id = 0;
}

bool sim_store_is_busy(const struct sim_world *w, int node)
{
	for (unsigned int i = 0; w->n_writes && i < SIM_WRITES_MAX; i++)
		if (w->writes[i].id && w->writes[i].node == node)
			return true;
	return false;
}

void sim_store_write(struct sim_world *w, struct sim_keeper *k, unsigned int block, uint64_t value,
		     bool is_apply)
{
	unsigned int i = 0;

	while (i < SIM_WRITES_MAX && w->writes[i].id)
		i++;
	assert(i < SIM_WRITES_MAX);
	w->n_writes++;
	w->writes[i] = (struct sim_write){ .id = ++w->next_write,
					   .node = k->node,
					   .inst = k->inst,
					   .gen = k->disk.gen,
					   .block = block,
					   .value = value,
					   .is_apply = is_apply };
	sim_post(w, sim_delay(w, LAND_MAX_NS),
		 &(struct sim_event){ .kind = SIM_EV_LAND,
				      .node = k->node,
				      .a = (int)i,
				      .value = w->next_write });
}

/* It lands whatever has become of its process; that learns of it if it is there. */
void sim_store_land(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_write write = w->writes[ev->a];
	struct sim_keeper *k = &w->keepers[write.node];
	bool is_failing = k->inst == write.inst && k->disk.is_failing;

	if (write.id != ev->value)
		return; /* it was settled when its process died */
	forget(w, &w->writes[ev->a]);
	if (!is_failing) {
		sim_check_landing(w, &write);
		put(sim_store_of(w, write.node), write.block, write.value);
	}
	if (k->inst == write.inst && k->disk.gen == write.gen && !k->disk.is_dying)
		sim_disk_landed(w, k, &write);
}

static uint64_t mix_halves(uint64_t low, uint64_t high)
{
	return (low & UINT32_MAX) | (high & ~(uint64_t)UINT32_MAX);
}

void sim_store_settle_dead(struct sim_world *w, int node)
{
	struct sim_store *s = sim_store_of(w, node);

	for (unsigned int i = 0; i < SIM_WRITES_MAX; i++) {
		struct sim_write *write = &w->writes[i];
		unsigned int what = sim_rand_below(&w->rand, 4);
		uint64_t old = s->now[write->block];

		if (!write->id || write->node != node)
			continue;
		forget(w, write);
		if (what == 0)
			continue;
		sim_check_landing(w, write);
		put(s, write->block, what == 1 ? mix_halves(write->value, old) : write->value);
	}
}

/* ---- loss of power ---- */

/* Of several contents of each half block, each as likely as the others. */
struct draw {
	unsigned int n[SIM_BLOCKS];
	uint64_t low[SIM_BLOCKS], high[SIM_BLOCKS];
};

static void offer(struct sim_world *w, struct draw *d, unsigned int block, uint64_t value)
{
	uint64_t r = sim_rand_next(&w->crash_rand);
	unsigned int n = ++d->n[block] + 1;

	if ((unsigned int)(r >> 40) % n == 0)
		d->low[block] = value;
	if ((unsigned int)(r & 0xffffff) % n == 0)
		d->high[block] = value;
}

/* Any part of what was not flushed, half by half. */
static void crash_image(struct sim_world *w, const struct sim_store *s, uint64_t *ret)
{
	struct draw d = { .n = { 0 } };

	memcpy(d.low, s->durable, sizeof(d.low));
	memcpy(d.high, s->durable, sizeof(d.high));
	for (unsigned int i = 0; i < s->n_pending; i++)
		offer(w, &d, s->pending[i].block, s->pending[i].value);
	for (unsigned int i = 0; w->n_writes && i < SIM_WRITES_MAX; i++)
		if (w->writes[i].id && sim_store_of(w, w->writes[i].node) == s)
			offer(w, &d, w->writes[i].block, w->writes[i].value);
	for (unsigned int b = 0; b < SIM_BLOCKS; b++)
		ret[b] = mix_halves(d.low[b], d.high[b]);
}

static unsigned int end_of_entry(const struct sim_redo *r, unsigned int i)
{
	uint64_t epoch = r->recs[i].epoch;

	while (i < r->n && r->recs[i].epoch == epoch)
		i++;
	return i;
}

/* Of the entries that were not synced some are whole; of the first that is not, a part is there. */
static void crash_redo(struct sim_world *w, struct sim_redo *r)
{
	unsigned int i = r->n_synced;

	while (i < r->n && sim_rand_percent(&w->crash_rand, 60))
		i = end_of_entry(r, i);
	r->n_valid = i;
	if (i < r->n)
		r->n = i + sim_rand_below(&w->crash_rand, end_of_entry(r, i) - i);
}

static void redo(struct sim_world *w, const struct sim_redo *r, uint64_t *blocks)
{
	unsigned int n = w->plant == SIM_PLANT_TORN_ENTRY_REDONE ? r->n : r->n_valid;

	for (unsigned int i = 0; i < n; i++) {
		const struct sim_rec *rec =
			&r->recs[w->plant == SIM_PLANT_REDO_BACKWARDS ? n - 1 - i : i];

		blocks[rec->block] = rec->value;
	}
}

void sim_store_recover(struct sim_world *w, int node, uint64_t *ret)
{
	static struct sim_redo copy;
	struct sim_store *s = sim_store_of(w, node);
	const struct sim_redo *r = sim_store_redo(s);

	copy.n = r->n;
	copy.n_synced = r->n_synced;
	memcpy(copy.recs, r->recs, r->n * sizeof(r->recs[0]));
	crash_redo(w, &copy);
	crash_image(w, s, ret);
	redo(w, &copy, ret);
}

void sim_store_redo_all(struct sim_world *w, int node)
{
	struct sim_store *s = sim_store_of(w, node);
	struct sim_redo *r = sim_store_redo(s);

	r->n_valid = r->n;
	redo(w, r, s->now);
	for (unsigned int i = 0; i < r->n; i++)
		s->map.now |= 1u << r->recs[i].block;
	memcpy(s->durable, s->now, sizeof(s->durable));
	s->n_gone += s->n_pending;
	s->n_pending = 0;
	r->n = r->n_synced = r->n_valid = 0;
}

/* A process that dies has added whole entries or, at the end, a part of one: that is written
 * over. */
void sim_store_kill_journaling(struct sim_world *w, struct sim_redo *r)
{
	crash_redo(w, r);
	r->n = r->n_synced = r->n_valid;
}

void sim_store_power_loss(struct sim_world *w, int node)
{
	struct sim_store *s = sim_store_of(w, node);

	if (w->plan->layout == SIM_DISKS_SHARED)
		return; /* it has a life of its own, and what is under way still lands */
	crash_image(w, s, s->durable);
	memcpy(s->now, s->durable, sizeof(s->now));
	s->n_gone += s->n_pending;
	s->n_pending = 0;
	sim_store_kill_journaling(w, sim_store_redo(s));
	/* Of the map, too, some may not have been written: it is not believed any more. */
	s->map.is_trusted = false;
	s->map.now &= (unsigned int)sim_rand_next(&w->crash_rand);
	s->map.before &= (unsigned int)sim_rand_next(&w->crash_rand);
	for (unsigned int i = 0; i < SIM_WRITES_MAX; i++)
		if (w->writes[i].node == node)
			forget(w, &w->writes[i]);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sectors of the VM's lease, and what is known of it when everything is known. */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define MAX_HOSTS 8 /* stride of ballot numbers */

void sim_area_init(struct sim_world *w)
{
	struct sim_area *a = &w->area;

	memset(a, 0, sizeof(*a));
	a->leader = (struct hf_lease_leader){ .owner = 1,
					      .generation = 1,
					      .lver = 1,
					      .timestamp_s = 1,
					      .write_id = 1,
					      .write_generation = 1,
					      .num_hosts = SIM_LEASE_HOSTS };
	a->owners[1] = 1;
	a->best = 1;
}

uint32_t sim_area_stride(void)
{
	return MAX_HOSTS;
}

uint64_t sim_area_owner_of(const struct sim_world *w, uint64_t lver)
{
	assert(lver < SIM_LVERS);
	return w->area.owners[lver];
}

static void land_leader(struct sim_world *w, const struct hf_lease_leader *l)
{
	struct sim_area *a = &w->area;

	assert(l->lver < SIM_LVERS);
	if (a->owners[l->lver] && a->owners[l->lver] != l->owner)
		sim_fail(w, SIM_RULE_OWNER, "lver %llu has two owners, %c and %c",
			 (unsigned long long)l->lver, sim_letter((int)a->owners[l->lver] - 1),
			 sim_letter((int)l->owner - 1));
	if (!a->owners[l->lver])
		sim_say(w, "%c owns lver %llu of the lease", sim_letter((int)l->owner - 1),
			(unsigned long long)l->lver);
	a->owners[l->lver] = l->owner;
	if (l->lver > a->best)
		a->best = l->lver;
	if (!l->timestamp_s && l->lver > a->freed)
		a->freed = l->lver;
	a->leader = *l;
}

static struct sim_area_write *find(struct sim_world *w, uint64_t id)
{
	for (unsigned int i = 0; i < SIM_AREA_WRITES_MAX; i++)
		if (w->area.writes[i].id == id)
			return &w->area.writes[i];
	return NULL;
}

void sim_area_land(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_area_write *write = find(w, ev->value);
	int node = ev->node;

	assert(write);
	if (!write->is_doomed && write->is_leader)
		land_leader(w, &write->leader);
	else if (!write->is_doomed)
		w->area.blocks[node] = write->block;
	write->id = 0;
	sim_daemon_work(w, node); /* it may wait to write there */
}

bool sim_area_is_writing(const struct sim_world *w, int node, bool is_leader)
{
	for (unsigned int i = 0; i < SIM_AREA_WRITES_MAX; i++) {
		const struct sim_area_write *write = &w->area.writes[i];

		if (write->id && write->node == node && write->is_leader == is_leader)
			return true;
	}
	return false;
}

/* Posts its landing: after @delay_ns, or, if it @is_failing, late or never. */
void sim_area_write(struct sim_world *w, int node, const struct hf_ballot_action *a,
		    uint64_t delay_ns, bool is_failing)
{
	struct sim_area_write *write = find(w, 0);
	bool is_leader = a->kind == HF_BALLOT_DO_WRITE_LEADER;

	assert(write);
	*write = (struct sim_area_write){ .id = ++w->area.next_id,
					  .node = node,
					  .is_leader = is_leader,
					  .leader = a->leader,
					  .block = a->block };
	if (is_failing) {
		write->is_doomed = sim_rand_percent(&w->rand, 40);
		delay_ns = sim_delay(w, SIM_LATE_MAX_NS);
	}
	sim_post(w, delay_ns,
		 &(struct sim_event){ .kind = SIM_EV_AREA_LAND, .node = node, .value = write->id });
}

void sim_area_power_loss(struct sim_world *w, int node)
{
	for (unsigned int i = 0; i < SIM_AREA_WRITES_MAX; i++)
		if (w->area.writes[i].id && w->area.writes[i].node == node)
			w->area.writes[i].is_doomed |= sim_rand_percent(&w->rand, 50);
}

static bool is_bid(const struct hf_lease_block *b, int node, uint64_t lver)
{
	return b->lver == lver && b->bal && b->owner == (uint64_t)node + 1;
}

/* Could @node come to own @lver by what it has written, whatever becomes of it? */
bool sim_area_has_bid(const struct sim_world *w, int node, uint64_t lver)
{
	for (int n = 0; n < SIM_LEASE_HOSTS; n++)
		if (is_bid(&w->area.blocks[n], node, lver))
			return true;
	for (unsigned int i = 0; i < SIM_AREA_WRITES_MAX; i++) {
		const struct sim_area_write *write = &w->area.writes[i];

		if (write->id && !write->is_leader && is_bid(&write->block, node, lver))
			return true;
	}
	return sim_area_owner_of(w, lver) == (uint64_t)node + 1;
}

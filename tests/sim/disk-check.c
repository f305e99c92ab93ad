/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The checkers of disks. What the guest has been told is in its own memory; what was captured is
 * known; what a loss of power would leave is drawn again and again.
 */
#include "sim.h"

#include <string.h>

/* Whoever could be promoted must know of what goes to the image, as of what leaves the VM. */
void sim_check_image_write(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	if (w->is_forked)
		return;
	if (!k->is_primary && epoch > k->whole_epoch)
		sim_fail(w, SIM_RULE_APPLY, "%c writes epoch %llu to its image, which is not whole",
			 sim_letter(k->node), (unsigned long long)epoch);
	for (int n = 0; n < SIM_NODES; n++) {
		const struct sim_keeper *s = &w->keepers[n];

		if (!s->inst || s == k || !k->is_primary || !s->is_standby ||
		    s->primary_inst != k->inst ||
		    (s->s.state != HF_STANDBY_READY && s->s.state != HF_STANDBY_LOST &&
		     s->s.state != HF_STANDBY_PROMOTING) ||
		    sim_vote_is_lost(w, s))
			continue;
		if (s->s.epoch < epoch)
			sim_fail(w, SIM_RULE_APPLY,
				 "%c writes epoch %llu to its image, but %c could go on from %llu",
				 sim_letter(k->node), (unsigned long long)epoch, sim_letter(n),
				 (unsigned long long)s->s.epoch);
	}
}

void sim_check_landing(struct sim_world *w, const struct sim_write *write)
{
	if (w->plan->layout == SIM_DISKS_SHARED && !w->is_forked && write->inst != w->owner)
		sim_fail(w, SIM_RULE_PATH,
			 "a write of %c lands in the image after another host went live",
			 sim_letter(write->node));
}

/* A VM that another host has gone on from may find anything in a shared image: nobody will hear of
 * it. */
static bool is_readable(const struct sim_world *w, const struct sim_keeper *k)
{
	if (w->plan->layout == SIM_DISKS_SHARED && w->owner != k->inst)
		return false;
	return k->disk.gen && !k->disk.is_dying && !k->disk.is_frozen && !w->is_forked;
}

void sim_check_read(struct sim_world *w, struct sim_keeper *k, unsigned int block)
{
	const struct sim_req *req = &k->vm.req;
	uint64_t got;

	if (!is_readable(w, k) || (req->kind == SIM_REQ_WRITE && req->block == block))
		return;
	got = sim_disk_read(w, k, block);
	if (got != k->vm.g.disk[block])
		sim_fail(w, SIM_RULE_READ, "the VM on %c reads %llx from block %u, it wrote %llx",
			 sim_letter(k->node), (unsigned long long)got, block,
			 (unsigned long long)k->vm.g.disk[block]);
}

void sim_check_view(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	const struct sim_epoch *e = sim_find_epoch(w, k->s.session, epoch);

	/* Whom somebody has let go on alone writes on; what is held here is of no use any more. */
	if (!e || w->is_forked || !sim_has_disks(w) || sim_vote_is_lost(w, k))
		return;
	for (unsigned int b = 0; b < SIM_BLOCKS; b++)
		if (sim_disk_read(w, k, b) != e->g.disk[b])
			sim_fail(w, SIM_RULE_READ,
				 "%c would read %llx from block %u, it is %llx as of epoch %llu",
				 sim_letter(k->node), (unsigned long long)sim_disk_read(w, k, b), b,
				 (unsigned long long)e->g.disk[b], (unsigned long long)epoch);
	if (e->g.n_writes < w->outside.durable)
		sim_fail(w, SIM_RULE_DURABLE,
			 "%c holds writes up to %llu, the outside was told that %llu is durable",
			 sim_letter(k->node), (unsigned long long)e->g.n_writes,
			 (unsigned long long)w->outside.durable);
}

void sim_check_told(struct sim_world *w, const struct sim_keeper *k, const struct sim_output *o)
{
	(void)k;
	if (o->durable > w->outside.durable)
		w->outside.durable = o->durable;
}

/* ---- after a loss of power ---- */

static bool is_owner(const struct sim_world *w, int node)
{
	return w->plan->layout == SIM_DISKS_SHARED || w->owner_node == node;
}

static void check_durable(struct sim_world *w, int node, uint64_t serial)
{
	if (is_owner(w, node) && !w->plan->is_memory_enough && serial < w->outside.durable)
		sim_fail(w, SIM_RULE_DURABLE,
			 "without power the disk of %c would be as of write %llu, but the outside "
			 "was told that %llu is durable",
			 sim_letter(node), (unsigned long long)serial,
			 (unsigned long long)w->outside.durable);
}

void sim_check_passed(struct sim_store *s, const struct sim_guest *g)
{
	memcpy(s->passed, g->disk, sizeof(s->passed));
	s->passed_serial = g->n_writes;
}

static bool is_same(const uint64_t *a, const uint64_t *b)
{
	return memcmp(a, b, SIM_BLOCKS * sizeof(*a)) == 0;
}

/* Held: it has to be as of the end of an epoch. Of states that look the same the newest counts. */
static bool find_state(const struct sim_world *w, int node, const struct sim_store *s,
		       const uint64_t *blocks, uint64_t *ret_serial)
{
	bool is_found = is_same(blocks, s->base);

	*ret_serial = is_found ? s->base_serial : 0;
	if (is_owner(w, node) && s->passed_serial >= *ret_serial && is_same(blocks, s->passed)) {
		*ret_serial = s->passed_serial;
		is_found = true;
	}
	for (unsigned int i = w->n_epochs; i-- > 0;) {
		const struct sim_epoch *e = &w->epochs[i];

		if (!hf_id_is_equal(e->session, s->session) || !is_same(blocks, e->g.disk))
			continue;
		if (e->g.n_writes > *ret_serial)
			*ret_serial = e->g.n_writes;
		return true;
	}
	return is_found;
}

static void check_held(struct sim_world *w, int node, const struct sim_store *s,
		       const uint64_t *blocks)
{
	uint64_t serial;

	if (find_state(w, node, s, blocks, &serial))
		check_durable(w, node, serial);
	else
		sim_fail(w, SIM_RULE_RECOVER,
			 "without power the disk of %c would not be as of the end of an epoch",
			 sim_letter(node));
}

uint64_t sim_check_recovered(struct sim_world *w, int node)
{
	const struct sim_store *s = sim_store_of(w, node);
	uint64_t serial = 0;

	if (find_state(w, node, s, s->now, &serial))
		check_durable(w, node, serial);
	else
		sim_fail(w, SIM_RULE_RECOVER,
			 "the disk of %c, started from, is not as of the end of an epoch",
			 sim_letter(node));
	return serial;
}

static bool may_be(const struct sim_world *w, const struct sim_store *s, unsigned int block,
		   uint64_t value, uint64_t mask)
{
	if (((value ^ s->base[block]) & mask) == 0)
		return true;
	for (uint64_t n = s->flushed_serial + 1; n <= w->n_history; n++) {
		const struct sim_piece *p = &w->history[n % SIM_HISTORY];

		if (p->block == block && ((value ^ p->value) & mask) == 0)
			return true;
	}
	return false;
}

/* Written to directly: each half block as of the last flush, or later, as with any disk. */
static void check_owned(struct sim_world *w, int node, struct sim_store *s, const uint64_t *blocks)
{
	for (; s->base_serial < s->flushed_serial; s->base_serial++) {
		const struct sim_piece *p = &w->history[(s->base_serial + 1) % SIM_HISTORY];

		s->base[p->block] = p->value;
	}
	for (unsigned int b = 0; b < SIM_BLOCKS; b++)
		if (!may_be(w, s, b, blocks[b], UINT32_MAX) ||
		    !may_be(w, s, b, blocks[b], ~(uint64_t)UINT32_MAX))
			sim_fail(w, SIM_RULE_RECOVER,
				 "without power block %u of %c would have what was not written "
				 "since the last flush",
				 b, sim_letter(node));
	check_durable(w, node, s->flushed_serial);
}

void sim_check_power(struct sim_world *w)
{
	int n_stores = w->plan->layout == SIM_DISKS_SHARED ? 1 : w->plan->n_hosts;
	uint64_t blocks[SIM_BLOCKS];

	for (int n = 0; n < n_stores && !w->is_forked; n++) {
		struct sim_store *s = sim_store_of(w, n);

		if (s->condition == SIM_COPY_FRESH || s->condition == SIM_COPY_PARTIAL ||
		    (s->condition == SIM_COPY_OWNED && !is_owner(w, n)))
			continue;
		sim_store_recover(w, n, blocks);
		if (s->condition == SIM_COPY_OWNED)
			check_owned(w, n, s, blocks);
		else
			check_held(w, n, s, blocks);
	}
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nothing of the VM is left but its disks: an operator starts it from the one of its last owner.
 */
#include "sim.h"

#include <string.h>

bool sim_cold_is_needed(const struct sim_world *w)
{
	if (!sim_has_disks(w) || w->is_forked || w->is_ended)
		return false;
	/* Of a dead host, to the image that both reach: over before an operator comes to that. */
	if (w->plan->layout == SIM_DISKS_SHARED && w->n_writes)
		return false;
	for (int n = 0; n < SIM_NODES; n++) {
		const struct sim_keeper *k = &w->keepers[n];

		if (!k->inst)
			continue;
		if (k->is_primary && k->p.state != HF_PRIMARY_SUPERSEDED &&
		    k->p.state != HF_PRIMARY_FINISHED)
			return false;
		if (k->is_standby && k->s.state != HF_STANDBY_IDLE &&
		    k->s.state != HF_STANDBY_FAILED)
			return false;
	}
	return true;
}

/* The journal goes to the image, which is flushed; then it is the owner's own and the journal is
 * empty. */
static uint64_t recover(struct sim_world *w, int node)
{
	struct sim_store *s = sim_store_of(w, node);
	uint64_t serial = w->n_history;

	sim_store_redo_all(w, node);
	if (s->condition != SIM_COPY_OWNED)
		serial = sim_check_recovered(w, node);
	memcpy(s->base, s->now, sizeof(s->base));
	memcpy(s->passed, s->now, sizeof(s->passed));
	s->base_serial = s->flushed_serial = s->passed_serial = serial;
	s->condition = SIM_COPY_OWNED;
	s->session = (struct hf_id){ 0 };
	return serial;
}

/* It boots: of what it was there is only what its disk tells. */
void sim_cold_start(struct sim_world *w)
{
	int node = w->owner_node;
	struct sim_keeper *k = &w->keepers[node];
	struct sim_outside *out = &w->outside;
	uint64_t serial = recover(w, node);
	struct sim_guest *g = &k->vm.g;

	sim_say(w, "%c is started from its disk", sim_letter(node));
	w->stats->cold_starts++;
	sim_keeper_start(w, node, /* is_primary= */ true);
	memcpy(g->disk, sim_store_of(w, node)->now, sizeof(g->disk));
	g->n_writes = g->flushed = w->n_history = serial;
	g->out_seq = out->next_seq;
	g->out_digest = out->next_seq ? out->seen[(out->next_seq - 1) % SIM_SEEN] : 0;
	out->gap_inst = k->inst;
	if (out->durable > serial)
		out->durable = serial;
}

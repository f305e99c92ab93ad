/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a keeper does about its disks: modes, boundaries, the gate, the permit to write, and what a
 * standby does with what it is sent. docs/replication.md, "What the drivers owe the protocol", has
 * the rules.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define IN_SOFT (2 * SIM_LOG_SOFT)

bool sim_has_disks(const struct sim_world *w)
{
	return w->plan->layout != SIM_DISKS_NONE;
}

static bool is_shared(const struct sim_world *w)
{
	return w->plan->layout == SIM_DISKS_SHARED;
}

static enum hf_durability durability(const struct sim_world *w)
{
	return w->plan->is_memory_enough ? HF_DURABILITY_MEMORY : HF_DURABILITY_DISK;
}

void sim_disks_init(struct sim_world *w, struct sim_keeper *k, bool is_primary)
{
	struct sim_store *s = sim_store_of(w, k->node);

	if (!sim_has_disks(w))
		return;
	k->disk.is_owner = is_primary;
	k->disk.permit_ns = UINT64_MAX;
	k->disk.open_epoch = 1;
	hf_disk_init(&k->disk.d, 0, /* may_apply= */ is_primary || !is_shared(w));
	hf_gate_init(&k->disk.gate, durability(w));
	k->p.is_storage_shared = is_primary && is_shared(w) &&
				 w->plant != SIM_PLANT_DEAD_BEFORE_CUT;
	k->s.is_storage_shared = !is_primary && is_shared(w);
	k->disk.area = s->area;
	if (is_primary) {
		s->condition = SIM_COPY_OWNED;
		w->owner_node = k->node;
		w->owner = k->inst;
	} else if (s->condition == SIM_COPY_FRESH) {
		for (unsigned int b = 0; b < SIM_BLOCKS; b++)
			s->now[b] = s->durable[b] = sim_mix(0xf00d, b);
	}
	sim_disk_start(w, k);
}

/* ---- the owner ---- */

static void let_out(struct sim_world *w, struct sim_keeper *k)
{
	const struct hf_gate *g = &k->disk.gate;
	uint64_t to = w->plant == SIM_PLANT_GATE_IGNORED ? g->committed : hf_gate_open_to(g);

	sim_tap_release(w, k, to);
}

void sim_disks_journaled(struct sim_world *w, struct sim_keeper *k)
{
	if (!k->disk.is_owner || !k->disk.is_based)
		return;
	hf_gate_journaled(&k->disk.gate, k->disk.d.journaled);
	if (k->is_primary && k->tap.mode == SIM_TAP_HOLD)
		let_out(w, k);
}

void sim_disks_hold(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	if (!sim_has_disks(w))
		return;
	k->disk.open_epoch = epoch;
	k->disk.session = k->p.session;
	k->disk.mode = SIM_DISK_HOLD;
	k->disk.peer_settled = 0;
	k->disk.told_settled = 0;
	/* What the guest saw flushed before is durable. */
	k->disk.is_flush_seen = false;
	hf_gate_hold(&k->disk.gate);
	/* The standby cannot go live before it hears what is sent from now on. */
	if (is_shared(w))
		k->disk.permit_ns = w->now_ns + SIM_SILENCE_NS;
	sim_disk_work(w, k);
}

/* True: outputs may pass at once. */
bool sim_disks_pass(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	struct sim_disk *disk = &k->disk;
	struct sim_store *s = sim_store_of(w, k->node);

	if (!sim_has_disks(w))
		return true;
	disk->permit_ns = UINT64_MAX;
	disk->peer_settled = 0;
	disk->open_epoch = epoch + 1;
	hf_disk_captured(&disk->d, epoch);
	hf_disk_committed(&disk->d, epoch);
	hf_gate_pass(&disk->gate);
	sim_check_passed(s, &k->vm.g);
	/* Also if nothing is logged: a flush may have been acknowledged for what went past the
	 * log. */
	if (disk->mode != SIM_DISK_DIRECT && w->plant != SIM_PLANT_EMPTY_LOG_IS_DRAINED) {
		disk->mode = SIM_DISK_DRAIN;
	} else if (disk->is_based || disk->n_log) {
		disk->mode = SIM_DISK_DRAIN;
	} else {
		disk->op[SIM_OP_BASE].is_on = false;
		disk->mode = disk->state = SIM_DISK_DIRECT;
		hf_disk_init(&disk->d, disk->d.captured, true);
		hf_gate_drained(&disk->gate);
	}
	sim_disk_work(w, k);
	return hf_gate_may_pass(&disk->gate);
}

void sim_disks_drained(struct sim_world *w, struct sim_keeper *k)
{
	w->owner_node = k->node;
	hf_gate_drained(&k->disk.gate);
	if (!hf_gate_may_pass(&k->disk.gate))
		return;
	sim_say(w, "%c disks are drained", sim_letter(k->node));
	sim_standby_resend(w, k);
	if (k->tap.mode == SIM_TAP_HOLD && !hf_primary_is_holding(&k->p))
		sim_tap_pass(w, k);
	if (k->is_exit_wanted)
		(void)sim_keeper_item(w, k, SIM_ITEM_EXIT);
}

/* QEMU stands still and has nothing under way. */
void sim_disks_boundary(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	(void)w;
	k->disk.open_epoch = epoch + 1;
	k->was_flush_seen = k->disk.is_flush_seen;
	k->disk.is_flush_seen = false; /* what comes from now on is of the next epoch */
}

void sim_disks_captured(struct sim_world *w, struct sim_keeper *k, uint64_t epoch, bool is_failed)
{
	if (!sim_has_disks(w) || k->p.captured != epoch || !hf_primary_is_holding(&k->p))
		return;
	if (is_failed) {
		/* QEMU has flushed for it, and the guest runs on and may know. */
		k->disk.is_flush_seen = true;
		return;
	}
	/* QEMU flushes whenever it stops. */
	hf_gate_captured(&k->disk.gate, epoch, /* has_flush= */ true, k->was_flush_seen);
	hf_disk_captured(&k->disk.d, epoch);
	sim_disk_work(w, k);
}

void sim_disks_committed(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	if (!sim_has_disks(w)) {
		sim_tap_release(w, k, epoch);
		return;
	}
	hf_disk_committed(&k->disk.d, epoch);
	hf_gate_committed(&k->disk.gate, epoch);
	let_out(w, k);
	sim_disk_work(w, k);
}

void sim_disks_send(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	const struct sim_disk *disk = &k->disk;

	for (unsigned int i = 0; i < disk->n_log; i++) {
		const struct sim_rec *rec = &disk->log[i];
		struct sim_msg msg = { .kind = SIM_MSG_DISK,
				       .word = rec->block,
				       .value = rec->value,
				       .epoch = epoch };

		if (rec->epoch > disk->d.committed && rec->epoch <= epoch)
			sim_net_send(w, k->out_conn, k->node, &msg);
	}
}

void sim_disks_cut(struct sim_world *w, struct sim_keeper *k)
{
	bool is_dead = !k->disk.gen;

	k->disk.is_cut = true;
	if (is_dead)
		sim_primary_event(w, k, HF_PRIMARY_DISKS_CUT, 0, k->p.session);
	else
		sim_disk_kill(w, k);
}

void sim_disks_renew(struct sim_world *w, struct sim_keeper *k, uint64_t sent_ns)
{
	uint64_t until_ns = sent_ns + SIM_SILENCE_NS;

	if (is_shared(w) && sent_ns && k->disk.permit_ns != UINT64_MAX &&
	    until_ns > k->disk.permit_ns)
		k->disk.permit_ns = until_ns;
}

/* ---- the standby ---- */

/* A session begins: nothing of an earlier one is written any more. */
void sim_disks_clear(struct sim_world *w, struct sim_keeper *k, struct hf_id session)
{
	struct sim_disk *disk = &k->disk;
	struct sim_store *s = sim_store_of(w, k->node);

	if (!sim_has_disks(w))
		return;
	hf_disk_init(&disk->d, 0, !is_shared(w));
	disk->n_log = disk->n_pieces = disk->n_in = 0;
	disk->has_end = false;
	disk->is_first = true;
	disk->is_based = false;
	disk->is_piece_landing = false;
	disk->n_in_flight = 0;
	disk->peer_settled = disk->told_settled = 0;
	memset(disk->op, 0, sizeof(disk->op));
	if (disk->gen)
		disk->gen = ++w->next_gen; /* what was under way tells nobody any more */
	if (is_shared(w))
		return;
	s->condition = SIM_COPY_PARTIAL;
	s->session = session;
	s->redo[s->area].n = s->redo[s->area].n_synced = s->redo[s->area].n_valid = 0;
}

void sim_disks_based(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_store *s = sim_store_of(w, k->node);
	struct sim_map *m = &s->map;

	if (k->disk.is_owner) {
		k->disk.state = SIM_DISK_HOLD;
		s->condition = SIM_COPY_HELD;
		s->session = k->disk.session;
		return;
	}
	s->condition = SIM_COPY_REPLICATED;
	s->session = k->s.session;
	/* What was in it is more than the owner's copy can lack now. */
	m->session = k->s.session;
	m->now |= m->before | m->to_send;
	m->before = m->to_send = 0;
	m->turned_mark = 0;
	m->is_trusted = true;
}

/* The end of an epoch has come: it is whole as soon as all that it stands on is durable. */
void sim_disks_whole(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	bool is_early = w->plant == SIM_PLANT_FIRST_ACK_EARLY;

	if (!disk->has_end || disk->n_log > IN_SOFT)
		return;
	if (disk->is_first && !is_early && !is_shared(w) && (disk->n_pieces || !disk->is_based))
		return;
	disk->has_end = false;
	sim_standby_whole(w, k, disk->end_epoch, disk->end_slot);
	sim_keeper_work(w, k);
}

/* It is whole: what it wrote may go to the image. */
void sim_disks_take(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	struct sim_disk *disk = &k->disk;

	if (!sim_has_disks(w))
		return;
	assert(disk->n_log + disk->n_in <= SIM_LOG_MAX);
	for (unsigned int i = 0; i < disk->n_in; i++)
		sim_map_set(&sim_store_of(w, k->node)->map, disk->in[i].block, false);
	memcpy(disk->log + disk->n_log, disk->in, disk->n_in * sizeof(disk->in[0]));
	disk->n_log += disk->n_in;
	disk->n_in = 0;
	disk->is_first = false;
	hf_disk_captured(&disk->d, epoch);
	hf_disk_committed(&disk->d, epoch);
	sim_check_view(w, k, epoch);
	sim_disk_work(w, k);
}

void sim_disks_live(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	struct sim_store *s = sim_store_of(w, k->node);

	if (!sim_has_disks(w))
		return;
	k->p.is_storage_shared = is_shared(w) && w->plant != SIM_PLANT_DEAD_BEFORE_CUT;
	w->owner = k->inst;
	disk->is_owner = true;
	disk->is_based = true;
	disk->is_flush_seen = false;
	disk->peer_settled = disk->told_settled =
		0; /* it says nothing of what is written from now on */
	disk->permit_ns = UINT64_MAX;
	disk->open_epoch = k->s.epoch + 1;
	disk->mode = SIM_DISK_DRAIN;
	disk->state = SIM_DISK_HOLD;
	if (w->plant == SIM_PLANT_REDO_FORGOTTEN)
		disk->n_log = 0;
	if (is_shared(w)) {
		hf_disk_take_over(&disk->d);
		disk->area = s->area ^ 1u;
		s->redo[disk->area].n = s->redo[disk->area].n_synced = 0;
		disk->must_switch = w->plant != SIM_PLANT_EMPTY_AREA_COUNTS;
		if (!disk->must_switch)
			s->area = disk->area;
	}
	hf_gate_init(&disk->gate, durability(w));
	hf_gate_pass(&disk->gate);
	sim_disk_work(w, k);
}

/* ---- both ---- */

static void tell_settled(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	struct sim_msg msg = { .kind = SIM_MSG_SETTLED, .epoch = disk->d.settled };
	bool is_in_step = k->is_primary ? k->p.state == HF_PRIMARY_PROTECTED && k->p.committed
					: k->s.state == HF_STANDBY_READY && !disk->is_first;

	if (!is_in_step || disk->told_settled >= disk->d.settled)
		return;
	disk->told_settled = disk->d.settled;
	sim_net_send(w, k->is_primary ? k->out_conn : k->in_conn, k->node, &msg);
}

void sim_disks_settled(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	struct sim_disk *disk = &k->disk;

	if (is_shared(w)) {
		hf_disk_settled_by_owner(&disk->d, epoch);
		sim_disk_forget_applied(disk);
	} else if (epoch > disk->peer_settled) {
		disk->peer_settled = epoch;
	}
	sim_disk_work(w, k);
}

void sim_disks_tick(struct sim_world *w, struct sim_keeper *k)
{
	if (!sim_has_disks(w))
		return;
	/* It does not answer: killed, and its death waited for. */
	if (k->disk.is_frozen && w->now_ns - k->disk.frozen_ns > SIM_SILENCE_NS)
		sim_disk_kill(w, k);
	tell_settled(w, k);
	sim_disk_work(w, k);
}

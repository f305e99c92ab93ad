/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults, and what operators do. A fault that makes no sense at its moment (nobody is there to
 * crash) does nothing.
 */
#include "sim.h"

#include <string.h>

#define ORPHAN_MAX_NS (3 * SIM_MS)
#define WAITPID_MAX_NS (5 * SIM_MS)

/* The kernel kills the disk process of a dead keeper, in its own time. */
static void leave_disk(struct sim_world *w, struct sim_keeper *k, bool is_power)
{
	sim_disk_abandon(w, k);
	if (is_power || w->is_orphaned[k->node])
		return;
	w->is_orphaned[k->node] = true;
	sim_post(w, sim_delay(w, ORPHAN_MAX_NS),
		 &(struct sim_event){ .kind = SIM_EV_ORPHAN, .node = k->node });
}

static void crash(struct sim_world *w, int node, bool is_silent)
{
	struct sim_keeper *k = &w->keepers[node];

	sim_note_death(w, node);
	sim_net_crash(w, node, is_silent);
	if (!k->inst)
		return;
	if (sim_has_disks(w))
		leave_disk(w, k, is_silent);
	sim_daemon_keeper_gone(w, k, !hf_id_is_none(k->p.session));
	sim_keeper_stop(w, k);
}

static void stop_vm(struct sim_world *w, int node, bool is_ended)
{
	struct sim_keeper *k = &w->keepers[node];

	if (!k->inst || !k->vm.is_alive || k->is_stopped_for_good)
		return;
	if (is_ended)
		w->is_ended = true;
	else
		sim_note_death(w, node);
	k->vm.is_alive = false;
	k->vm.is_running = false;
	k->vm.req.kind = SIM_REQ_NONE;
	k->has_capture = false;
	sim_keeper_post(w, k, WAITPID_MAX_NS,
			&(struct sim_event){ .kind = SIM_EV_VM_GONE, .value = is_ended });
}

static void start(struct sim_world *w, int node)
{
	if (node < w->plan->n_hosts && !w->keepers[node].inst && !w->is_host_down[node] &&
	    !w->is_orphaned[node])
		sim_keeper_start(w, node, /* is_primary= */ false);
}

static void wake(struct sim_world *w, int node)
{
	struct sim_keeper *k = &w->keepers[node];
	unsigned int kept = 0;

	k->is_frozen = false;
	for (unsigned int i = 0; i < w->n_deferred; i++) {
		if (w->deferred[i].node == node)
			sim_post(w, 0, &w->deferred[i]);
		else
			w->deferred[kept++] = w->deferred[i];
	}
	w->n_deferred = kept;
	sim_keeper_work(w, k);
}

/* An honest operator looks first: the primary's host is down, its keeper dead or frozen. */
static bool may_force(struct sim_world *w, const struct sim_keeper *k)
{
	const struct sim_keeper *p;

	if (k->s.state != HF_STANDBY_LOST)
		return false;
	p = &w->keepers[k->primary_node];
	return w->plan->is_operator_wrong || p->inst != k->primary_inst || p->is_frozen;
}

static void force(struct sim_world *w, struct sim_keeper *k)
{
	if (!may_force(w, k))
		return;
	sim_check_proof(w, k, k->s.session);
	w->forced = k->s.session;
	if (w->plan->is_operator_wrong)
		w->is_forked = true;
	sim_standby_event(w, k, HF_STANDBY_PROMOTE_FORCED, 0, k->s.session);
}

static void order(struct sim_world *w, const struct sim_fault *f)
{
	struct sim_keeper *k = &w->keepers[f->a];

	if (!k->inst || k->is_frozen)
		return;
	if (f->kind == SIM_FAULT_PROMOTE && k->is_standby)
		sim_standby_event(w, k, HF_STANDBY_PROMOTE_WANTED, 0, k->s.session);
	else if (f->kind == SIM_FAULT_FORCE && k->is_standby)
		force(w, k);
	else if (f->kind == SIM_FAULT_HANDOVER && k->is_primary)
		sim_primary_event(w, k, HF_PRIMARY_HANDOVER_WANTED, 0, k->p.session);
	else if (f->kind == SIM_FAULT_ABANDON && k->is_primary)
		sim_primary_event(w, k, HF_PRIMARY_ABANDON_WANTED, 0, k->p.session);
}

/* What @b reads from @a makes no sense any more. */
static void damage(struct sim_world *w, int a, int b)
{
	struct sim_keeper *k = &w->keepers[b];
	struct sim_conn *in = sim_net_find(w, k->in_conn);
	struct sim_conn *out = sim_net_find(w, k->out_conn);

	if (!k->inst || k->is_frozen)
		return;
	if (in && in->node[0] == a) {
		sim_net_close(w, in->id, b);
		k->in_conn = 0;
		sim_standby_event(w, k, HF_STANDBY_BAD_PEER, 0, k->s.session);
	} else if (out && out->node[1] == a) {
		sim_net_close(w, out->id, b);
		sim_keeper_link_gone(w, k, out->id);
	}
}

static void cut(struct sim_world *w, int from, int to, bool is_on)
{
	if (is_on)
		w->cuts[from][to]++;
	else if (!--w->cuts[from][to])
		sim_net_healed(w, from, to);
}

static void power_up(struct sim_world *w, int node)
{
	w->is_host_down[node] = false;
	sim_daemon_start(w, node);
	for (int n = 0; n < SIM_NODES; n++) {
		if (n == node)
			continue;
		sim_net_healed(w, n, node);
		sim_net_healed(w, node, n);
	}
}

static void freeze(struct sim_world *w, int node)
{
	if (w->keepers[node].inst) {
		w->keepers[node].is_frozen = true;
		w->freezes[node]++;
	}
}

static void hurt_disk(struct sim_world *w, struct sim_keeper *k, enum sim_fault_kind kind)
{
	if (!k->inst || k->is_frozen || !k->disk.gen)
		return;
	if (kind == SIM_FAULT_KILL_DISK) {
		sim_disk_kill(w, k);
	} else if (kind == SIM_FAULT_FREEZE_DISK) {
		k->disk.is_frozen = true;
		k->disk.frozen_ns = w->now_ns;
	} else if (k->is_primary) {
		k->disk.is_failing = true;
	} else {
		/* A standby whose disk fails ends: the primary is better off alone. */
		crash(w, k->node, /* is_silent= */ false);
	}
}

static void power_off(struct sim_world *w, int node)
{
	crash(w, node, /* is_silent= */ true);
	w->is_orphaned[node] = false;
	sim_store_power_loss(w, node);
	sim_daemon_stop(w, node, /* is_power= */ true);
	w->is_host_down[node] = true;
}

/* Whoever does it tells the others, in its own time: the host may be back by then, and be heard. */
static void fence(struct sim_world *w, const struct sim_fault *f)
{
	struct sim_event told = { .kind = SIM_EV_FENCED, .a = f->a, .value = w->now_ns };

	if (w->plant != SIM_PLANT_FENCED_ALIVE)
		power_off(w, f->a);
	for (told.node = 0; told.node < SIM_NODES; told.node++)
		if (told.node != f->a)
			sim_post(w, f->n * SIM_MS + sim_delay(w, SIM_MS), &told);
}

static void strike(struct sim_world *w, const struct sim_fault *f)
{
	struct sim_keeper *k = &w->keepers[f->a];

	switch (f->kind) {
	case SIM_FAULT_CUT:
	case SIM_FAULT_SPLIT:
		cut(w, f->a, f->b, true);
		if (f->kind == SIM_FAULT_SPLIT)
			cut(w, f->b, f->a, true);
		break;
	case SIM_FAULT_RESET:
		sim_net_reset(w, f->a, f->b);
		break;
	case SIM_FAULT_CRASH:
		crash(w, f->a, /* is_silent= */ false);
		break;
	case SIM_FAULT_POWER:
		power_off(w, f->a);
		break;
	case SIM_FAULT_FENCE:
		fence(w, f);
		break;
	case SIM_FAULT_FREEZE:
		freeze(w, f->a);
		break;
	case SIM_FAULT_KILL_VM:
	case SIM_FAULT_END_VM:
		stop_vm(w, f->a, f->kind == SIM_FAULT_END_VM);
		break;
	case SIM_FAULT_START:
		start(w, f->a);
		break;
	case SIM_FAULT_FAIL_CAPTURE:
		k->captures_to_fail = k->inst ? f->n : 0;
		break;
	case SIM_FAULT_FAIL_LOAD:
		k->will_load_fail = k->inst != 0;
		break;
	case SIM_FAULT_PROMOTE:
	case SIM_FAULT_FORCE:
	case SIM_FAULT_HANDOVER:
	case SIM_FAULT_ABANDON:
		order(w, f);
		break;
	case SIM_FAULT_DAMAGE:
		damage(w, f->a, f->b);
		break;
	case SIM_FAULT_CUT_STORAGE:
		w->storage_cuts[f->a]++;
		break;
	case SIM_FAULT_KILL_DAEMON:
		sim_daemon_stop(w, f->a, /* is_power= */ false);
		break;
	case SIM_FAULT_KILL_DISK:
	case SIM_FAULT_FREEZE_DISK:
	case SIM_FAULT_FAIL_DISK:
		hurt_disk(w, k, f->kind);
		break;
	case SIM_FAULT_COUNT:
		break;
	}
}

void sim_fault_strike(struct sim_world *w, unsigned int i)
{
	const struct sim_fault *f = &w->plan->faults[i];
	struct sim_event undo = { .kind = SIM_EV_UNDO, .a = (int)i };

	if (w->is_calm)
		return;
	w->stats->faults++;
	if (f->kind == SIM_FAULT_CUT || f->kind == SIM_FAULT_SPLIT || f->kind == SIM_FAULT_RESET ||
	    f->kind == SIM_FAULT_DAMAGE)
		sim_say(w, "fault: %s %c %c", sim_fault_names[f->kind], sim_letter(f->a),
			sim_letter(f->b));
	else
		sim_say(w, "fault: %s %c", sim_fault_names[f->kind], sim_letter(f->a));
	w->is_on[i] = true;
	strike(w, f);
	if (f->for_ns)
		sim_post(w, f->for_ns, &undo);
}

void sim_fault_undo(struct sim_world *w, unsigned int i)
{
	const struct sim_fault *f = &w->plan->faults[i];

	if (!w->is_on[i])
		return;
	w->is_on[i] = false;
	if (f->kind == SIM_FAULT_CUT || f->kind == SIM_FAULT_SPLIT) {
		sim_say(w, "healed: %s %c %c", sim_fault_names[f->kind], sim_letter(f->a),
			sim_letter(f->b));
		cut(w, f->a, f->b, false);
		if (f->kind == SIM_FAULT_SPLIT)
			cut(w, f->b, f->a, false);
	} else if (f->kind == SIM_FAULT_POWER || f->kind == SIM_FAULT_FENCE) {
		sim_say(w, "healed: %s %c", sim_fault_names[f->kind], sim_letter(f->a));
		power_up(w, f->a);
	} else if (f->kind == SIM_FAULT_FREEZE && w->freezes[f->a] && !--w->freezes[f->a]) {
		sim_say(w, "healed: freeze %c", sim_letter(f->a));
		wake(w, f->a);
	} else if (f->kind == SIM_FAULT_CUT_STORAGE) {
		w->storage_cuts[f->a]--;
	} else if (f->kind == SIM_FAULT_KILL_DAEMON) {
		sim_daemon_start(w, f->a);
	} else if (f->kind == SIM_FAULT_FREEZE_DISK) {
		w->keepers[f->a].disk.is_frozen = false;
	} else if (f->kind == SIM_FAULT_FAIL_DISK) {
		w->keepers[f->a].disk.is_failing = false;
	}
}

/* A node comes by a point: is it the one that a fault waits for? */
void sim_fault_point(struct sim_world *w, int node, enum sim_when when, unsigned int point)
{
	for (unsigned int i = 0; i < w->plan->n_faults; i++) {
		const struct sim_fault *f = &w->plan->faults[i];

		if (f->when != when || f->point != point || f->point_node != node ||
		    w->is_done[i] || ++w->hits[i] != f->nth)
			continue;
		w->is_done[i] = true;
		if (f->at_ns)
			sim_post(w, f->at_ns,
				 &(struct sim_event){ .kind = SIM_EV_FAULT, .a = (int)i });
		else
			sim_fault_strike(w, i);
	}
}

static void start_what_is_missing(struct sim_world *w)
{
	int owner = w->owner_node;
	bool is_cold = sim_cold_is_needed(w);

	if (is_cold && w->keepers[owner].inst)
		crash(w, owner, /* is_silent= */ false);
	else if (is_cold && !w->is_orphaned[owner] && sim_has_vote(w))
		sim_daemon_start_vm(w, owner);
	else if (is_cold && !w->is_orphaned[owner])
		sim_cold_start(w);
	for (int n = 0; n < SIM_NODES; n++)
		if (!is_cold || n != owner)
			start(w, n);
}

void sim_fault_heal_all(struct sim_world *w)
{
	if (!w->is_calm) {
		w->is_calm = true;
		sim_say(w, "all is healed");
		for (unsigned int i = 0; i < w->plan->n_faults; i++)
			sim_fault_undo(w, i);
		for (int n = 0; n < SIM_NODES; n++) {
			w->keepers[n].captures_to_fail = 0;
			w->keepers[n].will_load_fail = false;
			sim_daemon_start(w, n);
		}
	}
	start_what_is_missing(w);
}

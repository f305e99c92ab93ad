/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A keeper's main loop. What it has to do stands in two queues, items (what was learned) and todo
 * (what the last step of a machine told it to do); todo goes first. So a freeze can strike between
 * any two actions and a later wake-up goes on exactly there.
 */
#include "sim.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define TICK_MAX_NS (8 * SIM_MS)
#define GUEST_MAX_NS (3 * SIM_MS)
#define DUE_MAX_NS (5 * SIM_MS)

void sim_keeper_post(struct sim_world *w, struct sim_keeper *k, uint64_t max_ns,
		     const struct sim_event *ev)
{
	struct sim_event mine = *ev;

	mine.node = k->node;
	mine.inst = k->inst;
	sim_post(w, sim_delay(w, max_ns), &mine);
}

static void post_tick(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_event ev = { .kind = SIM_EV_TICK, .node = k->node, .inst = k->inst };

	sim_post(w, 2 * SIM_MS + sim_delay(w, TICK_MAX_NS), &ev);
}

static void post_guest(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_event ev = { .kind = SIM_EV_GUEST, .node = k->node, .inst = k->inst };

	sim_post(w, SIM_MS + sim_delay(w, GUEST_MAX_NS), &ev);
}

void sim_keeper_start(struct sim_world *w, int node, bool is_primary)
{
	struct sim_keeper *k = &w->keepers[node];

	assert(!k->inst);
	memset(k, 0, sizeof(*k));
	k->node = node;
	k->inst = ++w->next_inst;
	k->dial_node = node;
	k->standby_node = SIM_NONE;
	k->primary_node = SIM_NONE;
	sim_say(w, "%c keeper starts as %s", sim_letter(node), is_primary ? "primary" : "standby");
	hf_standby_init(&k->s);
	hf_primary_init(&k->p, 0);
	k->s.has_vote = k->p.has_vote = sim_has_vote(w);
	k->p.lver = k->p.has_vote && is_primary;
	sim_disks_init(w, k, is_primary);
	if (is_primary) {
		k->is_primary = true;
		sim_guest_init(&k->vm.g, w->plan->seed);
		k->vm.is_alive = true;
		k->vm.is_running = true;
		post_guest(w, k);
	} else {
		k->is_standby = true;
	}
	post_tick(w, k);
}

void sim_keeper_stop(struct sim_world *w, struct sim_keeper *k)
{
	int node = k->node;

	memset(k, 0, sizeof(*k));
	k->node = node;
	w->freezes[node] = 0;
}

struct sim_item *sim_keeper_item(struct sim_world *w, struct sim_keeper *k, enum sim_item_kind kind)
{
	struct sim_item *item;

	(void)w;
	assert(k->n_items < SIM_ITEMS);
	item = &k->items[k->n_items++];
	memset(item, 0, sizeof(*item));
	item->kind = kind;
	return item;
}

static void narrate_step(struct sim_world *w, struct sim_keeper *k, bool is_standby,
			 const char *event, const char *from, const char *to, bool is_dull)
{
	char actions[200] = "";
	size_t at = 0;

	if (!w->narrate || (is_dull && !w->is_verbose))
		return;
	for (unsigned int i = 0; i < k->n_todo && at < sizeof(actions) - 1; i++) {
		const struct sim_todo *t = &k->todo[i];
		const char *name = is_standby ? sim_standby_action_names[t->s.kind]
					      : sim_primary_action_names[t->p.kind];
		uint64_t epoch = is_standby ? t->s.epoch : t->p.epoch;
		int len = epoch ? snprintf(actions + at, sizeof(actions) - at, "%s %s %llu",
					   i ? "," : ":", name, (unsigned long long)epoch)
				: snprintf(actions + at, sizeof(actions) - at, "%s %s",
					   i ? "," : ":", name);

		at += len > 0 ? (size_t)len : 0;
	}
	sim_say(w, "%c %s %s --%s--> %s%s", sim_letter(k->node), is_standby ? "standby" : "primary",
		from, event, to, actions);
}

/* Epochs come and go without a word. */
static bool is_dull_primary(enum hf_primary_action_kind kind)
{
	return kind == HF_PRIMARY_CAPTURE || kind == HF_PRIMARY_SEND || kind == HF_PRIMARY_RELEASE;
}

static void count_step(struct sim_world *w, struct sim_keeper *k, unsigned int event,
		       unsigned int to)
{
	w->stats->steps++;
	w->stats->hash = sim_mix(w->stats->hash ^ w->now_ns,
				 ((uint64_t)k->node << 16) | (uint64_t)(event << 8) | to);
}

static void step_primary(struct sim_world *w, struct sim_keeper *k, struct hf_primary_event *ev)
{
	enum hf_primary_state from = k->p.state;
	struct hf_primary before = k->p;
	struct hf_primary_actions out;
	bool is_dull;

	if (ev->kind == HF_PRIMARY_ARBITER_DENIED && ev->lver == k->p.lver) {
		k->was_denied = true;
		w->may_be_lost |= !hf_id_is_none(w->forced);
	}
	sim_plant_primary_event(w->plant, &k->p, ev);
	hf_primary_step(&k->p, ev, &out);
	sim_plant_primary_actions(w->plant, &before, ev, &k->p, &out);
	if (ev->kind == HF_PRIMARY_PEER_DEAD)
		sim_daemon_hasten(w, k);
	is_dull = from == k->p.state;
	for (unsigned int i = 0; i < out.n; i++) {
		k->todo[k->n_todo++] = (struct sim_todo){ .p = out.a[i] };
		is_dull &= is_dull_primary(out.a[i].kind);
	}
	w->stats->p_edge[from][ev->kind][k->p.state]++;
	count_step(w, k, ev->kind, k->p.state);
	narrate_step(w, k, false, sim_primary_event_names[ev->kind], hf_primary_state_name(from),
		     hf_primary_state_name(k->p.state), is_dull);
}

static void step_standby(struct sim_world *w, struct sim_keeper *k, struct hf_standby_event *ev)
{
	enum hf_standby_state from = k->s.state;
	struct hf_standby before = k->s;
	struct hf_standby_actions out;
	bool is_dull;

	/* One that is whole when the connection has ended counts as never sent. */
	if (ev->kind == HF_STANDBY_EPOCH_WHOLE && k->s.is_link_up &&
	    (from == HF_STANDBY_SYNCING || from == HF_STANDBY_READY || from == HF_STANDBY_LOST))
		k->whole_epoch = ev->epoch;
	if (ev->kind == HF_STANDBY_ARBITER_DENIED && ev->lver == k->s.lver)
		k->denied = k->s.session;
	sim_plant_standby_event(w->plant, &k->s, ev);
	hf_standby_step(&k->s, ev, &out);
	sim_plant_standby_actions(w->plant, &before, ev, &k->s, &out);
	if (k->s.state == HF_STANDBY_PROMOTING && from != HF_STANDBY_PROMOTING)
		sim_daemon_hasten(w, k);
	is_dull = from == k->s.state;
	for (unsigned int i = 0; i < out.n; i++) {
		k->todo[k->n_todo++] = (struct sim_todo){ .is_standby = true, .s = out.a[i] };
		is_dull &= out.a[i].kind == HF_STANDBY_ACK || out.a[i].kind == HF_STANDBY_APPLY;
	}
	if (k->s.state == HF_STANDBY_DENIED && from != HF_STANDBY_DENIED)
		(void)sim_keeper_item(w, k, SIM_ITEM_EXIT);
	w->stats->s_edge[from][ev->kind][k->s.state]++;
	count_step(w, k, 64u + ev->kind, k->s.state);
	narrate_step(w, k, true, sim_standby_event_names[ev->kind], hf_standby_state_name(from),
		     hf_standby_state_name(k->s.state), is_dull);
}

static void exit_keeper(struct sim_world *w, struct sim_keeper *k)
{
	sim_say(w, "%c keeper exits", sim_letter(k->node));
	sim_net_close(w, k->out_conn, k->node);
	sim_net_close(w, k->in_conn, k->node);
	/* Connections that nobody took yet. */
	sim_net_crash(w, k->node, /* is_silent= */ false);
	if (sim_has_disks(w)) {
		sim_disk_abandon(w, k);
		sim_store_settle_dead(w, k->node);
	}
	sim_daemon_keeper_gone(w, k, /* is_pledged= */ false);
	sim_keeper_stop(w, k);
}

static void do_item(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_item item = k->items[0];

	k->n_items--;
	memmove(k->items, k->items + 1, k->n_items * sizeof(k->items[0]));
	switch (item.kind) {
	case SIM_ITEM_PRIMARY:
		if (k->is_primary)
			step_primary(w, k, &item.pev);
		break;
	case SIM_ITEM_STANDBY:
		if (k->is_standby)
			step_standby(w, k, &item.sev);
		break;
	case SIM_ITEM_ACCEPT:
		sim_standby_accept(w, k, &item);
		break;
	case SIM_ITEM_REPLY:
		sim_standby_reply(w, k, &item);
		break;
	case SIM_ITEM_ATTACH:
		sim_primary_attach(w, k, &item);
		break;
	case SIM_ITEM_LIVE:
		sim_standby_live(w, k);
		post_guest(w, k);
		break;
	case SIM_ITEM_EXIT:
		exit_keeper(w, k);
		break;
	}
}

static void do_action(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_todo t = k->todo[k->next_todo];
	uint64_t inst = k->inst;

	if (!k->is_past_point) {
		k->is_past_point = true;
		sim_fault_point(w, k->node, t.is_standby ? SIM_WHEN_STANDBY : SIM_WHEN_PRIMARY,
				t.is_standby ? (unsigned int)t.s.kind : (unsigned int)t.p.kind);
		if (k->inst != inst || k->is_frozen)
			return;
	}
	k->is_past_point = false;
	k->next_todo++;
	if (t.is_standby)
		sim_standby_do(w, k, &t.s);
	else
		sim_primary_do(w, k, &t.p);
}

void sim_keeper_work(struct sim_world *w, struct sim_keeper *k)
{
	uint64_t inst = k->inst;

	while (inst && k->inst == inst && !k->is_frozen && !w->has_failed) {
		if (k->next_todo < k->n_todo) {
			do_action(w, k);
			continue;
		}
		k->n_todo = 0;
		k->next_todo = 0;
		if (!k->n_items)
			break;
		do_item(w, k);
	}
	/* As core/pace.h has it: an epoch is due some time after the VM ran on. */
	if (k->inst != inst || k->is_frozen || !k->is_primary || k->is_due_posted ||
	    !k->vm.is_running || !hf_primary_may_capture(&k->p))
		return;
	k->is_due_posted = true;
	sim_keeper_post(w, k, DUE_MAX_NS, &(struct sim_event){ .kind = SIM_EV_DUE });
}

static void on_reset(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	struct sim_conn *c = sim_net_find(w, ev->conn);

	if (!c || !c->is_open[ev->a] ||
	    (ev->value && sim_net_is_cut(w, c->node[!ev->a], c->node[ev->a])))
		return;
	c->is_open[ev->a] = false;
	sim_keeper_link_gone(w, k, ev->conn);
}

static void on_message(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	uint64_t inst = k->inst;
	struct sim_msg msg;

	if (!sim_net_deliver(w, ev, &msg))
		return;
	sim_fault_point(w, k->node, SIM_WHEN_GOT, msg.kind);
	if (k->inst == inst)
		sim_keeper_message(w, k, sim_net_find(w, ev->conn), &msg);
}

static void on_vm_gone(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	if (k->is_primary)
		sim_primary_event(w, k, ev->value ? HF_PRIMARY_VM_ENDED : HF_PRIMARY_VM_DIED, 0,
				  k->p.session);
}

/* The events of the world itself were taken out before. */
static void handle(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	switch (ev->kind) {
	case SIM_EV_TICK:
		post_tick(w, k);
		sim_keeper_tick(w, k);
		break;
	case SIM_EV_GUEST:
		sim_guest_run(w, k);
		if (k->vm.is_alive)
			post_guest(w, k);
		break;
	case SIM_EV_DELIVER:
		on_message(w, k, ev);
		break;
	case SIM_EV_RESET:
		on_reset(w, k, ev);
		break;
	case SIM_EV_REFUSED:
		sim_keeper_refused(w, k, ev);
		break;
	case SIM_EV_ANSWER:
		sim_keeper_answered(w, k, ev);
		break;
	case SIM_EV_FENCED:
		sim_keeper_fenced(w, k, ev);
		break;
	case SIM_EV_DUE:
		k->is_due_posted = false;
		sim_primary_event(w, k, HF_PRIMARY_EPOCH_DUE, 0, k->p.session);
		break;
	case SIM_EV_CAPTURED:
		sim_primary_captured(w, k, ev);
		break;
	case SIM_EV_VM_GONE:
		on_vm_gone(w, k, ev);
		break;
	case SIM_EV_SYNC:
		sim_primary_sync(w, k, ev);
		break;
	case SIM_EV_LOADED:
		sim_standby_loaded(w, k);
		break;
	case SIM_EV_VERDICT:
		sim_vote_verdict(w, k, ev);
		break;
	case SIM_EV_DISK_OP:
		sim_disk_op_over(w, k, ev);
		break;
	case SIM_EV_DISK_DEAD:
		if (k->disk.is_dying)
			sim_disk_dead(w, k);
		break;
	case SIM_EV_CONNECT:
	case SIM_EV_INQUIRE:
	case SIM_EV_DAEMON:
	case SIM_EV_AREA_LAND:
	case SIM_EV_RENEW:
	case SIM_EV_LAND:
	case SIM_EV_ORPHAN:
	case SIM_EV_FAULT:
	case SIM_EV_UNDO:
	case SIM_EV_COUNT:
		assert(false && "not a keeper's event");
	}
}

void sim_keeper_handle(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_keeper *k = &w->keepers[ev->node];
	struct sim_msg msg;

	if (ev->inst && ev->inst != k->inst)
		return;
	if (!k->inst) {
		(void)sim_net_deliver(w, ev, &msg); /* nobody is there to read it */
		return;
	}
	if (k->is_frozen) {
		assert(w->n_deferred < sizeof(w->deferred) / sizeof(w->deferred[0]));
		w->deferred[w->n_deferred++] = *ev;
		return;
	}
	handle(w, k, ev);
	sim_keeper_work(w, k);
}

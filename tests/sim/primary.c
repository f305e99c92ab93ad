/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Carrying out what the primary's machine says.
 */
#include "sim.h"

#include <assert.h>

#define CAPTURE_MAX_NS (2 * SIM_MS)
#define SYNC_MAX_NS (1 * SIM_MS)
#define SLOW_CAPTURE_NS (90 * SIM_MS)
#define SLOW_SYNC_NS (25 * SIM_MS)
#define ALL_WORDS ((1u << SIM_WORDS) - 1)

static uint64_t sync_max_ns(const struct sim_world *w)
{
	return w->plan->is_slow ? SLOW_SYNC_NS : SYNC_MAX_NS;
}

static uint64_t capture_max_ns(struct sim_world *w)
{
	return w->plan->is_slow && sim_rand_percent(&w->rand, 15) ? SLOW_CAPTURE_NS
								  : CAPTURE_MAX_NS;
}

/* All of it, or what the map says, as soon as nothing is left in the log. */
static void copy_disks(struct sim_world *w, struct sim_keeper *k)
{
	const struct sim_map *m = &sim_store_of(w, k->node)->map;
	bool has_copy = k->peer_condition == SIM_COPY_REPLICATED ||
			k->peer_condition == SIM_COPY_HELD || k->peer_condition == SIM_COPY_PARTIAL;
	bool is_trusted = m->is_trusted || w->plant == SIM_PLANT_DELTA_UNTRUSTED;

	k->disk.is_full_wanted = !hf_disk_may_copy_delta(m->session, is_trusted, k->peer_copy,
							 has_copy);
	k->disk.wants_copy = true;
	w->stats->deltas += !k->disk.is_full_wanted;
	sim_say(w, "%c copies %s", sim_letter(k->node),
		k->disk.is_full_wanted ? "its disks" : "what differs of its disks");
	sim_disk_work(w, k);
}

static void begin_sync(struct sim_world *w, struct sim_keeper *k, struct hf_id session,
		       uint64_t lver)
{
	struct sim_conn *c = sim_net_find(w, k->out_conn);
	struct sim_msg msg = { .kind = SIM_MSG_SYNC_BEGIN, .session = session, .value = lver };

	if (!c)
		return; /* it broke since; the machine hears of that next */
	k->begun_session = session;
	if (w->plan->layout == SIM_DISKS_REPLICATED)
		copy_disks(w, k);
	w->stats->sessions++;
	k->standby_node = c->node[1];
	k->standby_inst = c->inst[1];
	k->vm.dirty = ALL_WORDS;
	k->sync_word = 0;
	sim_net_send(w, k->out_conn, k->node, &msg);
	sim_keeper_post(w, k, sync_max_ns(w),
			&(struct sim_event){ .kind = SIM_EV_SYNC, .value = ++k->sync_gen });
}

void sim_primary_sync(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	unsigned int i = k->sync_word;
	struct sim_msg msg = { .kind = SIM_MSG_SYNC_PAGE, .word = i };

	if (ev->value != k->sync_gen || k->p.state != HF_PRIMARY_SYNCING)
		return;
	if (i == SIM_WORDS && (k->disk.mode != SIM_DISK_DIRECT || k->disk.wants_copy ||
			       !sim_copy_is_nearly_done(w, k))) {
		sim_keeper_post(w, k, sync_max_ns(w), ev);
		return;
	}
	if (i == SIM_WORDS) {
		sim_primary_event(w, k, HF_PRIMARY_SYNCED, 0, k->p.session);
		return;
	}
	msg.value = k->vm.g.words[i];
	k->vm.dirty &= ~(1u << i);
	k->sync_word++;
	sim_net_send(w, k->out_conn, k->node, &msg);
	sim_keeper_post(w, k, sync_max_ns(w), ev);
}

/* QEMU stops, and waits for the requests that it has under way. */
static void capture(struct sim_world *w, struct sim_keeper *k, const struct hf_primary_action *a)
{
	k->vm.is_running = false;
	k->has_capture = true;
	k->capture = *a;
	sim_disk_work(w, k);
	if (k->has_capture && k->vm.req.kind == SIM_REQ_NONE)
		sim_primary_snapshot(w, k);
}

void sim_primary_snapshot(struct sim_world *w, struct sim_keeper *k)
{
	const struct hf_primary_action *a = &k->capture;
	struct sim_epoch *e = &w->epochs[w->n_epochs];

	assert(w->n_epochs < SIM_EPOCHS);
	k->has_capture = false;
	k->slot = (int)w->n_epochs++;
	sim_tap_mark(k, a->epoch);
	sim_disks_boundary(w, k, a->epoch);
	e->session = k->p.session;
	e->epoch = a->epoch;
	e->begun_ns = w->now_ns;
	e->g = k->vm.g;
	e->dirty = k->vm.dirty;
	k->vm.dirty = 0;
	/* All that is held, also from an epoch that was dropped: it leaves with this one. */
	e->n_frames = k->tap.n;
	for (unsigned int i = 0; i < k->tap.n; i++)
		e->frames[i] = k->tap.held[i];
	sim_keeper_post(w, k, capture_max_ns(w),
			&(struct sim_event){
				.kind = SIM_EV_CAPTURED, .epoch = a->epoch, .value = a->resume });
}

void sim_primary_captured(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	bool is_failed = k->captures_to_fail != 0;
	struct sim_event again;

	/*
	 * A capture that fails because QEMU died is not a failed capture: waitpid will tell, and
	 * until then nothing is said. Three failures in a row would give up the session that saves
	 * the VM.
	 */
	if (!k->vm.is_alive)
		return;
	if (!is_failed && !ev->a && !sim_copy_is_done(w, k) && k->out_conn) {
		/* The first epoch's end waits for the first copy of the disks; the VM does not. */
		again = *ev;
		again.a = k->p.stage == HF_STAGE_CAPTURE ? 0 : 1;
		k->vm.is_running = !k->is_stopped_for_good && ev->value;
		sim_keeper_post(w, k, CAPTURE_MAX_NS, &again);
		return;
	}
	k->captures_to_fail -= is_failed;
	k->vm.is_running = k->vm.is_alive && !k->is_stopped_for_good && (ev->value || is_failed);
	sim_copy_end(w, k, is_failed);
	sim_disks_captured(w, k, ev->epoch, is_failed);
	sim_primary_event(w, k, is_failed ? HF_PRIMARY_CAPTURE_FAILED : HF_PRIMARY_CAPTURED,
			  ev->epoch, k->p.session);
}

static void send_epoch(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	const struct sim_epoch *e = &w->epochs[k->slot];
	struct sim_msg msg = {
		.kind = SIM_MSG_BEGIN, .epoch = epoch, .slot = k->slot, .session = e->session
	};

	assert(e->epoch == epoch);
	sim_net_send(w, k->out_conn, k->node, &msg);
	msg.kind = SIM_MSG_PIECE;
	for (unsigned int i = 0; i < SIM_WORDS; i++) {
		if (!(e->dirty & 1u << i))
			continue;
		msg.word = i;
		msg.value = e->g.words[i];
		sim_net_send(w, k->out_conn, k->node, &msg);
	}
	sim_disks_send(w, k, epoch);
	msg.kind = SIM_MSG_END;
	sim_net_send(w, k->out_conn, k->node, &msg);
}

static void tell(struct sim_world *w, struct sim_keeper *k, enum sim_msg_kind kind,
		 const struct hf_primary_action *a)
{
	struct sim_msg msg = {
		.kind = kind, .epoch = a->epoch, .session = a->session, .value = a->lver
	};

	sim_net_send(w, k->out_conn, k->node, &msg);
}

static void refuse(struct sim_world *w, struct sim_keeper *k)
{
	uint64_t conn = k->out_conn;

	sim_net_send(w, conn, k->node, &(struct sim_msg){ .kind = SIM_MSG_REFUSE });
	sim_net_close(w, conn, k->node);
	sim_keeper_link_gone(w, k, conn);
}

static void finish(struct sim_world *w, struct sim_keeper *k)
{
	/* What PASS has let go waits for the disks to be drained. */
	k->is_exit_wanted = sim_has_disks(w) && k->p.state == HF_PRIMARY_FINISHED &&
			    k->disk.mode == SIM_DISK_DRAIN;
	if (k->is_exit_wanted)
		return;
	if (k->vm.is_alive && k->vm.is_running)
		sim_fail(w, SIM_RULE_LIVE, "%c finishes and leaves its VM running",
			 sim_letter(k->node));
	(void)sim_keeper_item(w, k, SIM_ITEM_EXIT);
}

static void resume(struct sim_world *w, struct sim_keeper *k)
{
	if (k->is_stopped_for_good)
		sim_fail(w, SIM_RULE_LIVE, "%c runs a VM again that it had frozen",
			 sim_letter(k->node));
	k->vm.is_running = k->vm.is_alive;
}

static void pass(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	if (k->tap.mode == SIM_TAP_DEAD)
		sim_fail(w, SIM_RULE_LIVE, "%c lets outputs pass again", sim_letter(k->node));
	sim_copy_stop(k);
	k->passed_session = k->begun_session;
	if (sim_disks_pass(w, k, epoch) || w->plant == SIM_PLANT_PASS_BEFORE_DRAINED)
		sim_tap_pass(w, k);
}

/* Held outputs, and what is logged and not committed. */
static void discard(struct sim_world *w, struct sim_keeper *k)
{
	k->tap.n = 0;
	k->tap.mode = SIM_TAP_DEAD;
	k->disk.is_cut = true;
	sim_disk_kill(w, k);
}

static void hand_over(struct sim_world *w, struct sim_keeper *k, const struct hf_primary_action *a)
{
	w->stats->handovers++;
	tell(w, k, SIM_MSG_HANDOVER, a);
}

static void abandon(struct sim_world *w, struct sim_keeper *k, const struct hf_primary_action *a)
{
	k->abandoned = a->session;
	/* To give up protection while the VM is dead, and nobody knows yet, gives up the VM. */
	if (!k->vm.is_alive)
		w->may_be_lost = true;
	tell(w, k, SIM_MSG_ABANDON, a);
}

void sim_primary_do(struct sim_world *w, struct sim_keeper *k, const struct hf_primary_action *a)
{
	switch (a->kind) {
	case HF_PRIMARY_BEGIN_SYNC:
		begin_sync(w, k, a->session, a->lver);
		break;
	case HF_PRIMARY_STOP_SYNC:
		k->sync_gen++;
		sim_copy_stop(k);
		break;
	case HF_PRIMARY_HOLD:
		k->tap.mode = SIM_TAP_HOLD;
		k->is_pass_wanted = false;
		sim_disks_hold(w, k, a->epoch);
		break;
	case HF_PRIMARY_CAPTURE:
		capture(w, k, a);
		break;
	case HF_PRIMARY_SEND:
		send_epoch(w, k, a->epoch);
		break;
	case HF_PRIMARY_DROP:
		k->vm.dirty |= w->epochs[k->slot].dirty;
		break;
	case HF_PRIMARY_RELEASE:
		w->stats->commits++;
		sim_disks_renew(w, k, w->epochs[k->slot].begun_ns);
		sim_disks_committed(w, k, a->epoch);
		break;
	case HF_PRIMARY_PASS:
		pass(w, k, a->epoch);
		break;
	case HF_PRIMARY_DISCARD:
		discard(w, k);
		break;
	case HF_PRIMARY_FREEZE:
		k->vm.is_running = false;
		k->is_stopped_for_good = true;
		break;
	case HF_PRIMARY_RESUME:
		resume(w, k);
		break;
	case HF_PRIMARY_SEND_DEAD:
		tell(w, k, SIM_MSG_DEAD, a);
		break;
	case HF_PRIMARY_SEND_ENDED:
		tell(w, k, SIM_MSG_ENDED, a);
		break;
	case HF_PRIMARY_SEND_HANDOVER:
		hand_over(w, k, a);
		break;
	case HF_PRIMARY_SEND_ABANDON:
		abandon(w, k, a);
		break;
	case HF_PRIMARY_ASK_ARBITER:
		sim_vote_ask(w, k, /* is_standby= */ false, a->lver);
		break;
	case HF_PRIMARY_CANCEL_ARBITER:
		sim_daemon_cancel(w, k);
		break;
	case HF_PRIMARY_SEND_LEASE:
		tell(w, k, SIM_MSG_LEASE, a);
		break;
	case HF_PRIMARY_REFUSE:
		refuse(w, k);
		break;
	case HF_PRIMARY_CUT_DISKS:
		sim_disks_cut(w, k);
		break;
	case HF_PRIMARY_FINISH:
		finish(w, k);
		break;
	case HF_PRIMARY_ACTION_COUNT:
		assert(false && "no such action");
	}
}

/* The standby's hello: which session it holds, and how far. */
void sim_primary_attach(struct sim_world *w, struct sim_keeper *k, const struct sim_item *item)
{
	struct sim_conn *c = sim_net_find(w, item->conn);
	const struct sim_msg *hello = &item->msg;

	if (!c || item->conn != k->out_conn || !k->is_primary)
		return;
	c->is_ready[0] = true;
	k->standby_sight.established_ns = k->standby_sight.heard_ns = w->now_ns;
	k->peer_condition = hello->word;
	k->peer_copy = hello->copy_session;
	if (!hf_id_is_none(k->p.session) && !hf_id_is_equal(k->p.session, hello->session)) {
		/* At its address only one process can listen: another one there means that it
		 * died. */
		if (hello->inst != k->standby_inst)
			sim_primary_peer_dead(w, k);
		else
			sim_primary_event(w, k, HF_PRIMARY_PEER_DISCARDED, 0, k->p.session);
	}
	sim_primary_event(w, k, HF_PRIMARY_LINK_UP, hello->epoch, hello->session);
}

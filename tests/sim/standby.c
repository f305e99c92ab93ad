/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Carrying out what the standby's machine says, and taking connections.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define LOAD_MAX_NS (8 * SIM_MS)

static void send(struct sim_world *w, struct sim_keeper *k, enum sim_msg_kind kind,
		 const struct hf_standby_action *a)
{
	struct sim_msg msg = {
		.kind = kind,
		.epoch = a->epoch,
		.session = a->session,
		.inst = k->inst,
		.value = a->lver,
	};

	sim_net_send(w, k->in_conn, k->node, &msg);
}

static void clear(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_conn *c = sim_net_find(w, k->in_conn);

	if (c) {
		k->primary_node = c->node[0];
		k->primary_inst = c->inst[0];
	}
	k->denied = (struct hf_id){ 0 };
	memset(&k->replica, 0, sizeof(k->replica));
	k->partial.is_active = false;
	k->n_frames = 0;
	k->whole_epoch = 0;
	k->was_told_ended = false;
	sim_disks_clear(w, k, k->s.session);
}

static void apply(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	const struct sim_epoch *e = &w->epochs[k->partial.slot];

	assert(e->epoch == epoch);
	for (unsigned int i = 0; i < SIM_WORDS; i++)
		if (k->partial.got & 1u << i)
			k->replica.words[i] = k->partial.words[i];
	k->replica.steps = e->g.steps;
	k->replica.out_seq = e->g.out_seq;
	k->replica.out_digest = e->g.out_digest;
	memcpy(k->replica.disk, e->g.disk, sizeof(k->replica.disk));
	k->replica.n_writes = e->g.n_writes;
	k->replica.flushed = e->g.flushed;
	memcpy(k->frames, e->frames, e->n_frames * sizeof(e->frames[0]));
	k->n_frames = e->n_frames;
	k->partial.is_active = false;
	sim_disks_take(w, k, epoch);
}

/* A primary that is not taken is left the connection, for it may have something to say. */
static void refuse(struct sim_world *w, struct sim_keeper *k)
{
	uint64_t conn = k->in_conn;

	sim_net_send(w, conn, k->node,
		     &(struct sim_msg){
			     .kind = SIM_MSG_REFUSE, .inst = k->inst, .session = k->s.session });
	k->in_conn = 0;
	if (!k->s.is_link_up)
		return;
	sim_net_close(w, conn, k->node);
	sim_standby_event(w, k, HF_STANDBY_LINK_DOWN, 0, k->s.session);
}

static void drop_partial(struct sim_keeper *k)
{
	k->partial.is_active = false;
	k->disk.n_in = 0;
	k->disk.has_end = false;
}

/* Without proof the old primary may write to a shared image until its permit has run out for
 * certain. */
static void load(struct sim_world *w, struct sim_keeper *k, bool must_wait, bool must_win)
{
	uint64_t live_ns = w->now_ns + sim_delay(w, LOAD_MAX_NS);
	uint64_t deadline_ns = k->primary_heard_ns + SIM_SILENCE_NS / 4 * 5;

	if (must_wait && live_ns < deadline_ns && w->plant != SIM_PLANT_DEADLINE_IGNORED)
		live_ns = deadline_ns;
	k->may_run = !must_win;
	k->is_loaded = false;
	if (must_wait)
		sim_say(w, "%c goes live %.3f ms after it heard its primary", sim_letter(k->node),
			(double)(live_ns - k->primary_heard_ns) / SIM_MS);
	sim_post(w, live_ns - w->now_ns,
		 &(struct sim_event){ .kind = SIM_EV_LOADED, .node = k->node, .inst = k->inst });
}

void sim_standby_do(struct sim_world *w, struct sim_keeper *k, const struct hf_standby_action *a)
{
	switch (a->kind) {
	case HF_STANDBY_CLEAR:
		clear(w, k);
		break;
	case HF_STANDBY_APPLY:
		apply(w, k, a->epoch);
		break;
	case HF_STANDBY_ACK:
		send(w, k, SIM_MSG_ACK, a);
		break;
	case HF_STANDBY_DROP_PARTIAL:
		drop_partial(k);
		break;
	case HF_STANDBY_DISCARD:
		memset(&k->replica, 0xdd, sizeof(k->replica));
		drop_partial(k);
		k->n_frames = 0;
		break;
	case HF_STANDBY_SEND_DISCARDED:
		send(w, k, SIM_MSG_DISCARDED, a);
		break;
	case HF_STANDBY_REQUEST_HANDOVER:
		send(w, k, SIM_MSG_WANT_HANDOVER, a);
		break;
	case HF_STANDBY_ASK_ARBITER:
		sim_vote_ask(w, k, /* is_standby= */ true, a->lver);
		break;
	case HF_STANDBY_CANCEL_ARBITER:
		sim_daemon_cancel(w, k);
		break;
	case HF_STANDBY_RELEASE_LEASE:
		sim_daemon_release(w, k);
		break;
	case HF_STANDBY_PROMOTE:
		sim_check_promote(w, k, a->epoch);
		if (!a->must_win)
			sim_note_promotion(w, k);
		load(w, k, a->must_wait, a->must_win);
		break;
	case HF_STANDBY_RUN:
		sim_note_promotion(w, k);
		k->may_run = true;
		if (k->is_loaded)
			sim_standby_loaded(w, k);
		break;
	case HF_STANDBY_SEND_PROMOTED:
		send(w, k, SIM_MSG_PROMOTED, a);
		break;
	case HF_STANDBY_REFUSE:
		refuse(w, k);
		break;
	case HF_STANDBY_REFUSE_ORDER:
		break;
	case HF_STANDBY_ACTION_COUNT:
		assert(false && "no such action");
	}
}

static struct sim_item *again(struct sim_world *w, struct sim_keeper *k,
			      const struct sim_item *item)
{
	struct sim_item *copy = sim_keeper_item(w, k, item->kind);

	*copy = *item;
	return copy;
}

static void greet(struct sim_world *w, struct sim_keeper *k, struct sim_conn *c)
{
	struct sim_msg msg = { .kind = SIM_MSG_HELLO_REPLY,
			       .inst = k->inst,
			       .epoch = k->s.epoch,
			       .session = k->s.session,
			       .word = sim_store_of(w, k->node)->condition,
			       .copy_session = sim_store_of(w, k->node)->session };

	c->is_ready[1] = true;
	sim_net_send(w, c->id, k->node, &msg);
}

/* A primary says hello. What the old connection meant is settled before the new one counts. */
void sim_standby_accept(struct sim_world *w, struct sim_keeper *k, const struct sim_item *item)
{
	struct sim_conn *c = sim_net_find(w, item->conn);
	bool is_waiting = k->s.state == HF_STANDBY_SYNCING || k->s.state == HF_STANDBY_READY ||
			  k->s.state == HF_STANDBY_LOST;

	if (!c || !c->is_open[1])
		return;
	if (!k->is_standby || (k->in_conn && is_waiting && item->msg.inst != k->primary_inst)) {
		struct sim_msg no = { .kind = SIM_MSG_REFUSE, .inst = k->inst };

		sim_net_send(w, c->id, k->node, &no);
		sim_net_close(w, c->id, k->node);
	} else if (k->in_conn) {
		sim_net_close(w, k->in_conn, k->node);
		sim_keeper_link_gone(w, k, k->in_conn);
		(void)again(w, k, item);
	} else {
		k->in_conn = c->id;
		k->primary_sight.established_ns = k->primary_sight.heard_ns = w->now_ns;
		/* It still greets as a standby, and says what it has become as soon as it may. */
		if (k->s.state == HF_STANDBY_PROMOTING && k->may_run)
			greet(w, k, c);
		sim_standby_event(w, k, HF_STANDBY_LINK_UP, 0, item->msg.session);
		again(w, k, item)->kind = SIM_ITEM_REPLY;
	}
}

/* Nothing of it is missing, and what it stands on is durable. */
void sim_standby_whole(struct sim_world *w, struct sim_keeper *k, uint64_t epoch, int slot)
{
	k->partial.slot = slot;
	sim_standby_event(w, k, HF_STANDBY_EPOCH_WHOLE, epoch, k->s.session);
}

void sim_standby_reply(struct sim_world *w, struct sim_keeper *k, const struct sim_item *item)
{
	struct sim_conn *c = sim_net_find(w, item->conn);

	if (c && k->in_conn == item->conn && k->s.state != HF_STANDBY_PROMOTING &&
	    k->s.state != HF_STANDBY_PROMOTED)
		greet(w, k, c);
}

void sim_standby_loaded(struct sim_world *w, struct sim_keeper *k)
{
	if (k->will_load_fail) {
		w->may_be_lost = true;
		sim_standby_event(w, k, HF_STANDBY_LOAD_FAILED, 0, k->s.session);
		(void)sim_keeper_item(w, k, SIM_ITEM_EXIT);
		return;
	}
	k->is_loaded = true;
	if (!k->may_run && w->plant != SIM_PLANT_RUN_BEFORE_WON)
		return;
	if (!k->may_run)
		k->tenure = w->daemons[k->node].tenure;
	(void)sim_keeper_item(w, k, SIM_ITEM_LIVE);
	sim_standby_event(w, k, HF_STANDBY_LIVE, 0, k->s.session);
}

/* From here on it is a primary, too; the standby's half stays to tell the old one so. */
void sim_standby_live(struct sim_world *w, struct sim_keeper *k)
{
	k->is_primary = true;
	hf_primary_init(&k->p, k->s.epoch);
	k->p.has_vote = k->s.has_vote;
	k->p.lver = k->s.lver;
	k->p.is_asking = k->s.is_asking;
	k->p.is_cancelling = k->s.is_cancelling;
	k->passed_session = k->s.session;
	sim_check_gone_on(w, k, k->passed_session);
	k->vm = (struct sim_vm){ .g = k->replica, .is_alive = true, .is_running = true };
	k->tap.mode = sim_has_disks(w) ? SIM_TAP_HOLD : SIM_TAP_PASS;
	w->stats->promotions++;
	if (w->plant == SIM_PLANT_RESEND_TOO_MUCH && k->n_frames)
		k->frames[k->n_frames - 1].seq++;
	k->must_resend = true;
	if (sim_has_disks(w))
		sim_disks_live(w, k);
	else
		sim_standby_resend(w, k);
}

/* They may say of a flush that it is done: so they wait until what was logged is on the disk. */
void sim_standby_resend(struct sim_world *w, struct sim_keeper *k)
{
	if (!k->must_resend)
		return;
	/* Later, but before anything else leaves: then a new standby stands behind them. */
	k->is_resend_due = !sim_vote_may_go_on(w, k) && !hf_primary_is_holding(&k->p);
	if (k->is_resend_due)
		return;
	k->must_resend = false;
	if (w->plan->does_resend && k->n_frames && !hf_primary_is_holding(&k->p))
		sim_check_may_go_on(w, k);
	for (unsigned int i = 0; w->plan->does_resend && i < k->n_frames; i++)
		sim_outside_sees(w, k, &k->frames[i], /* is_again= */ true);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What comes over a connection, and what a keeper does about peers that it does not hear: the rules
 * of a driver. docs/replication.md, "What the drivers owe the protocol", lists them.
 */
#include "sim.h"

#include <assert.h>

#define SILENCE_NS SIM_SILENCE_NS
#define GIVE_UP_NS (100 * SIM_MS)
#define DIAL_AGAIN_NS (25 * SIM_MS)
#define INQUIRE_AGAIN_NS (20 * SIM_MS)
#define REPLY_MAX_NS (4 * SIM_MS)

void sim_primary_event(struct sim_world *w, struct sim_keeper *k, enum hf_primary_event_kind kind,
		       uint64_t epoch, struct hf_id session)
{
	struct hf_primary_event *ev = &sim_keeper_item(w, k, SIM_ITEM_PRIMARY)->pev;

	*ev = (struct hf_primary_event){ .kind = kind, .epoch = epoch, .session = session };
	if (kind == HF_PRIMARY_LINK_UP)
		ev->fresh = (struct hf_id){ 1, ++w->next_session };
}

void sim_standby_event(struct sim_world *w, struct sim_keeper *k, enum hf_standby_event_kind kind,
		       uint64_t epoch, struct hf_id session)
{
	struct hf_standby_event *ev = &sim_keeper_item(w, k, SIM_ITEM_STANDBY)->sev;

	*ev = (struct hf_standby_event){ .kind = kind, .epoch = epoch, .session = session };
}

void sim_keeper_link_gone(struct sim_world *w, struct sim_keeper *k, uint64_t conn)
{
	if (conn == k->out_conn) {
		k->out_conn = 0;
		k->dial_ns = w->now_ns + sim_delay(w, DIAL_AGAIN_NS);
		sim_primary_event(w, k, HF_PRIMARY_LINK_DOWN, 0, k->p.session);
	} else if (conn == k->in_conn) {
		k->in_conn = 0;
		sim_standby_event(w, k, HF_STANDBY_LINK_DOWN, 0, k->s.session);
	}
}

static void hang_up(struct sim_world *w, struct sim_keeper *k, uint64_t conn)
{
	sim_net_close(w, conn, k->node);
	sim_keeper_link_gone(w, k, conn);
}

void sim_primary_peer_dead(struct sim_world *w, struct sim_keeper *k)
{
	if (!sim_has_vote(w))
		sim_check_proof(w, k, k->p.session);
	sim_primary_event(w, k, HF_PRIMARY_PEER_DEAD, 0, k->p.session);
}

void sim_keeper_refused(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	/* The proof is about who held the session when we dialled, not about who came after. */
	if (k->is_primary && !hf_id_is_none(ev->session) &&
	    hf_id_is_equal(ev->session, k->p.session))
		sim_primary_peer_dead(w, k);
}

static void standby_peer_dead(struct sim_world *w, struct sim_keeper *k)
{
	if (!sim_has_vote(w))
		sim_check_proof(w, k, k->s.session);
	sim_standby_event(w, k, HF_STANDBY_PEER_DEAD, 0, k->s.session);
}

/* ev->value: 0 refused, 1 answered; ev->epoch: by whom. */
void sim_keeper_answered(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	if (k->s.state != HF_STANDBY_LOST || !hf_id_is_equal(ev->session, k->s.session))
		return;
	if (ev->value == 0 || ev->epoch != k->primary_inst)
		standby_peer_dead(w, k);
}

/* ---- fencing ---- */

static struct hf_fenced_sight see(struct sim_world *w, const struct sim_keeper *k, uint64_t conn,
				  const struct hf_fenced_sight *sight)
{
	struct hf_fenced_sight now = *sight;
	struct sim_conn *c = sim_net_find(w, conn);

	now.is_in_touch = c && !c->is_silent[c->node[1] == k->node];
	if (w->plant == SIM_PLANT_FENCED_LATE && now.established_ns)
		now = (struct hf_fenced_sight){ 1, 1, false };
	return now;
}

static bool is_proof(struct sim_world *w, struct sim_keeper *k, uint64_t conn,
		     const struct hf_fenced_sight *sight)
{
	struct hf_fenced_sight now = see(w, k, conn, sight);
	enum hf_fenced_verdict verdict = hf_fenced_judge(&now, k->fenced_ns);

	if (verdict == HF_FENCED_WAIT)
		return false;
	k->fenced_ns = 0;
	sim_say(w, "%c is told that %c was fenced: %s", sim_letter(k->node),
		sim_letter(k->fenced_node), hf_fenced_verdict_text(verdict));
	return verdict == HF_FENCED_PROOF;
}

static bool depends_on_primary(const struct sim_keeper *k)
{
	return k->is_standby && !k->is_primary && k->primary_node == k->fenced_node &&
	       (k->s.state == HF_STANDBY_SYNCING || k->s.state == HF_STANDBY_READY ||
		k->s.state == HF_STANDBY_LOST);
}

/* What comes before the silence has lasted is judged again. A connection that stands is one to nobody. */
static void judge_fencing(struct sim_world *w, struct sim_keeper *k)
{
	bool has_standby = k->is_primary && !hf_id_is_none(k->p.session) &&
			   k->standby_node == k->fenced_node;

	if (!k->fenced_ns) {
		return;
	} else if (has_standby) {
		if (!is_proof(w, k, k->out_conn, &k->standby_sight))
			return;
		if (k->out_conn)
			hang_up(w, k, k->out_conn);
		sim_primary_peer_dead(w, k);
	} else if (depends_on_primary(k)) {
		if (!is_proof(w, k, k->in_conn, &k->primary_sight))
			return;
		if (k->in_conn)
			hang_up(w, k, k->in_conn);
		standby_peer_dead(w, k);
	} else {
		k->fenced_ns = 0;
	}
}

void sim_keeper_fenced(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	k->fenced_ns = ev->value;
	k->fenced_node = ev->a;
	judge_fencing(w, k);
}

static void got_end(struct sim_world *w, struct sim_keeper *k, const struct sim_msg *msg)
{
	if (!k->partial.is_active)
		return;
	if (!sim_has_disks(w)) {
		sim_standby_whole(w, k, msg->epoch, msg->slot);
		return;
	}
	k->disk.has_end = true;
	k->disk.end_epoch = msg->epoch;
	k->disk.end_slot = msg->slot;
	sim_disk_work(w, k);
}

static void got_write(struct sim_world *w, struct sim_keeper *k, const struct sim_msg *msg)
{
	struct sim_disk *disk = &k->disk;

	if (!k->partial.is_active)
		return;
	assert(disk->n_in < SIM_LOG_MAX);
	disk->in[disk->n_in++] = (struct sim_rec){ msg->epoch, msg->value, msg->word };
	if (w->plant == SIM_PLANT_PARTIAL_WRITTEN && disk->n_log < SIM_LOG_MAX)
		disk->log[disk->n_log++] = (struct sim_rec){ disk->d.applied + 1, msg->value,
							     msg->word };
}

static void got_piece(struct sim_world *w, struct sim_keeper *k, const struct sim_msg *msg)
{
	if (!k->partial.is_active)
		return;
	if (w->plant == SIM_PLANT_PARTIAL_APPLIED)
		k->replica.words[msg->word] = msg->value;
	k->partial.words[msg->word] = msg->value;
	k->partial.got |= 1u << msg->word;
}

static void told_lver(struct sim_world *w, struct sim_keeper *k, enum hf_standby_event_kind kind,
		      const struct sim_msg *msg)
{
	sim_keeper_item(w, k, SIM_ITEM_STANDBY)->sev = (struct hf_standby_event){
		.kind = kind, .session = msg->session, .lver = msg->value
	};
}

static void got_as_standby(struct sim_world *w, struct sim_keeper *k, const struct sim_msg *msg)
{
	struct hf_id session = k->s.session;

	if (msg->kind == SIM_MSG_SYNC_BEGIN) {
		told_lver(w, k, HF_STANDBY_SYNC_BEGIN, msg);
	} else if (msg->kind == SIM_MSG_LEASE) {
		told_lver(w, k, HF_STANDBY_LEASE, msg);
	} else if (msg->kind == SIM_MSG_SYNC_PAGE) {
		if (k->s.state == HF_STANDBY_SYNCING)
			k->replica.words[msg->word] = msg->value;
	} else if (msg->kind == SIM_MSG_BEGIN) {
		sim_check_begin(w, k);
		k->partial = (struct sim_partial){ .is_active = true, .epoch = msg->epoch };
		k->disk.n_in = 0;
		k->disk.has_end = false;
		if (w->plant == SIM_PLANT_ACK_BEFORE_WHOLE)
			sim_net_send(w, k->in_conn, k->node,
				     &(struct sim_msg){ .kind = SIM_MSG_ACK, .epoch = msg->epoch });
	} else if (msg->kind == SIM_MSG_PIECE) {
		got_piece(w, k, msg);
	} else if (msg->kind == SIM_MSG_DISK) {
		got_write(w, k, msg);
	} else if (msg->kind == SIM_MSG_DISK_SYNC || msg->kind == SIM_MSG_SYNC_MARK) {
		sim_copy_got(w, k, msg);
	} else if (msg->kind == SIM_MSG_SETTLED) {
		if (k->s.state == HF_STANDBY_READY && !k->disk.is_first)
			sim_disks_settled(w, k, msg->epoch);
	} else if (msg->kind == SIM_MSG_END) {
		got_end(w, k, msg);
	} else if (msg->kind == SIM_MSG_DEAD) {
		sim_standby_event(w, k, HF_STANDBY_VM_DIED, 0, session);
	} else if (msg->kind == SIM_MSG_ENDED) {
		k->was_told_ended = true;
		sim_standby_event(w, k, HF_STANDBY_VM_ENDED, 0, session);
	} else if (msg->kind == SIM_MSG_HANDOVER) {
		sim_standby_event(w, k, HF_STANDBY_HANDOVER, msg->epoch, session);
	} else if (msg->kind == SIM_MSG_ABANDON) {
		sim_standby_event(w, k, HF_STANDBY_ABANDON, 0, msg->session);
	} else if (msg->kind == SIM_MSG_REFUSE) {
		hang_up(w, k, k->in_conn);
	}
}

static void got_as_primary(struct sim_world *w, struct sim_keeper *k, const struct sim_msg *msg)
{
	struct sim_item *item;

	if (msg->kind == SIM_MSG_HELLO_REPLY) {
		item = sim_keeper_item(w, k, SIM_ITEM_ATTACH);
		item->conn = k->out_conn;
		item->msg = *msg;
	} else if (msg->kind == SIM_MSG_ACK) {
		sim_primary_event(w, k, HF_PRIMARY_ACK, msg->epoch, k->p.session);
	} else if (msg->kind == SIM_MSG_SYNC_DONE) {
		sim_copy_got(w, k, msg);
	} else if (msg->kind == SIM_MSG_SETTLED) {
		if (hf_primary_is_holding(&k->p) && k->p.committed)
			sim_disks_settled(w, k, msg->epoch);
	} else if (msg->kind == SIM_MSG_HEARTBEAT) {
		sim_disks_renew(w, k, msg->epoch);
	} else if (msg->kind == SIM_MSG_WANT_HANDOVER) {
		sim_primary_event(w, k, HF_PRIMARY_HANDOVER_WANTED, 0, k->p.session);
	} else if (msg->kind == SIM_MSG_DISCARDED) {
		sim_keeper_item(w, k, SIM_ITEM_PRIMARY)->pev =
			(struct hf_primary_event){ .kind = HF_PRIMARY_PEER_DISCARDED,
						   .session = msg->session,
						   .lver = msg->value };
		hang_up(w, k, k->out_conn);
	} else if (msg->kind == SIM_MSG_PROMOTED) {
		sim_primary_event(w, k, HF_PRIMARY_PEER_PROMOTED, msg->epoch, msg->session);
		hang_up(w, k, k->out_conn);
	} else if (msg->kind == SIM_MSG_REFUSE) {
		/* Even a refusal says who listens there now. */
		if (!hf_id_is_none(k->p.session) && msg->inst != k->standby_inst)
			sim_primary_peer_dead(w, k);
		if (hf_id_is_none(k->p.session) && !hf_id_is_none(k->abandoned) &&
		    hf_id_is_equal(msg->session, k->abandoned))
			sim_net_send(w, k->out_conn, k->node,
				     &(struct sim_msg){ .kind = SIM_MSG_ABANDON,
							.session = k->abandoned });
		hang_up(w, k, k->out_conn);
	}
}

static void heard(struct sim_world *w, struct sim_keeper *k, struct sim_conn *c, int end)
{
	c->heard_ns[end] = w->now_ns;
	if (!c->is_silent[end])
		return;
	c->is_silent[end] = false;
	if (c->id == k->out_conn)
		sim_primary_event(w, k, HF_PRIMARY_PEER_HEARD, 0, k->p.session);
	else if (c->id == k->in_conn)
		sim_standby_event(w, k, HF_STANDBY_PEER_HEARD, 0, k->s.session);
}

void sim_keeper_message(struct sim_world *w, struct sim_keeper *k, struct sim_conn *c,
			const struct sim_msg *msg)
{
	int end = c->node[1] == k->node;
	struct sim_item *item;

	if (msg->kind == SIM_MSG_EOF) {
		c->is_open[end] = false;
		sim_keeper_link_gone(w, k, c->id);
		return;
	}
	heard(w, k, c, end);
	if (c->id == k->in_conn)
		k->primary_heard_ns = k->primary_sight.heard_ns = w->now_ns;
	else if (c->id == k->out_conn)
		k->standby_heard_ns = k->standby_sight.heard_ns = w->now_ns;
	if (c->id == k->in_conn && msg->kind == SIM_MSG_HEARTBEAT)
		k->primary_stamp = msg->value;
	if (end == 1 && msg->kind == SIM_MSG_HELLO) {
		item = sim_keeper_item(w, k, SIM_ITEM_ACCEPT);
		item->conn = c->id;
		item->msg = *msg;
	} else if (c->id == k->in_conn && k->is_standby) {
		got_as_standby(w, k, msg);
	} else if (c->id == k->out_conn && k->is_primary) {
		got_as_primary(w, k, msg);
	} else if (k->is_standby && msg->kind == SIM_MSG_ABANDON) {
		sim_standby_event(w, k, HF_STANDBY_ABANDON, 0, msg->session);
	}
}

static bool is_going_live(const struct sim_keeper *k)
{
	return k->s.state == HF_STANDBY_PROMOTING || k->s.state == HF_STANDBY_PROMOTED;
}

static void watch(struct sim_world *w, struct sim_keeper *k, uint64_t conn)
{
	struct sim_conn *c = sim_net_find(w, conn);
	struct sim_msg beat = { .kind = SIM_MSG_HEARTBEAT };
	uint64_t silence_ns;
	int end;

	if (!c)
		return;
	end = c->node[1] == k->node;
	beat.value = w->now_ns;
	/* An answer lets the primary write to a shared image. */
	if (conn == k->in_conn && !is_going_live(k))
		beat.epoch = k->primary_stamp;
	sim_net_send(w, conn, k->node, &beat);
	silence_ns = w->now_ns - c->heard_ns[end];
	if ((w->plan->does_give_up && silence_ns > GIVE_UP_NS) ||
	    (silence_ns > SILENCE_NS && !c->is_ready[end])) {
		hang_up(w, k, conn);
	} else if (silence_ns > SILENCE_NS && !c->is_silent[end]) {
		c->is_silent[end] = true;
		if (conn == k->out_conn)
			sim_primary_event(w, k, HF_PRIMARY_PEER_SILENT, 0, k->p.session);
		else
			sim_standby_event(w, k, HF_STANDBY_PEER_SILENT, 0, k->s.session);
	}
}

static void dial(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_event ev = { .kind = SIM_EV_CONNECT, .session = k->p.session };

	if (!k->is_primary || k->out_conn || w->now_ns < k->dial_ns)
		return;
	if (w->plant == SIM_PLANT_NEVER_REDIAL && !hf_id_is_none(k->p.session))
		return;
	if (hf_id_is_none(k->p.session)) {
		do
			k->dial_node = (k->dial_node + 1) % w->plan->n_hosts;
		while (k->dial_node == k->node);
		ev.a = k->dial_node;
	} else {
		ev.a = k->standby_node; /* who holds a session is the only one worth asking */
	}
	k->dial_ns = w->now_ns + DIAL_AGAIN_NS;
	sim_keeper_post(w, k, REPLY_MAX_NS, &ev);
}

static void inquire(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_event ev = { .kind = SIM_EV_INQUIRE,
				.a = k->primary_node,
				.session = k->s.session };

	if (k->s.state != HF_STANDBY_LOST || w->now_ns < k->inquire_ns)
		return;
	k->inquire_ns = w->now_ns + INQUIRE_AGAIN_NS;
	sim_keeper_post(w, k, REPLY_MAX_NS, &ev);
}

void sim_keeper_tick(struct sim_world *w, struct sim_keeper *k)
{
	watch(w, k, k->out_conn);
	watch(w, k, k->in_conn);
	judge_fencing(w, k);
	dial(w, k);
	inquire(w, k);
	sim_vote_go_on(w, k);
	sim_disks_tick(w, k);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * First copies of replicated disks, and the map of what the other host's copy lacks. Only what the
 * other side has said to be durable there leaves the map.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define READ_MAX_NS (1 * SIM_MS)
#define SLOW_READ_MAX_NS (15 * SIM_MS)
#define MARK_MAX_NS (2 * SIM_MS)
#define PIECES_PER_MARK 2u
#define NEARLY_DONE 2u /* blocks; of more a guest that writes fast never gets rid */
#define UNMARKED_MAX                                                                               \
	8u /* so many pieces may be under way that no mark has confirmed or waits for */

void sim_map_set(struct sim_map *m, unsigned int block, bool is_copying)
{
	m->now |= 1u << block;
	if (is_copying)
		m->to_send |= 1u << block;
}

void sim_copy_begin(struct sim_world *w, struct sim_keeper *k, struct hf_id session, bool is_full)
{
	struct sim_map *m = &sim_store_of(w, k->node)->map;

	m->to_send = is_full ? SIM_ALL_BLOCKS : m->now | m->before | m->to_send;
	m->now = m->before = 0;
	m->turned_mark = 0;
	m->session = session;
	m->is_trusted = true;
	k->disk.is_copying = true;
	k->disk.n_since_mark = 0;
}

/* What was not confirmed stays in the map. */
void sim_copy_stop(struct sim_keeper *k)
{
	k->disk.is_copying = false;
	k->disk.op[SIM_OP_READ].is_on = false;
}

/* The first epoch is captured: all is sent. One that failed is taken again, and may wait again. */
void sim_copy_end(struct sim_world *w, struct sim_keeper *k, bool is_failed)
{
	if (k->disk.is_copying && !is_failed && sim_copy_is_done(w, k))
		k->disk.is_copying = false;
}

static unsigned int count(unsigned int bits)
{
	return (unsigned int)__builtin_popcount(bits);
}

bool sim_copy_is_done(struct sim_world *w, const struct sim_keeper *k)
{
	return !k->disk.is_copying ||
	       (!sim_store_of(w, k->node)->map.to_send && !k->disk.op[SIM_OP_READ].is_on &&
		!sim_store_is_busy(w, k->node));
}

bool sim_copy_is_nearly_done(struct sim_world *w, const struct sim_keeper *k)
{
	return !k->disk.is_copying || count(sim_store_of(w, k->node)->map.to_send) <= NEARLY_DONE;
}

static void post_op(struct sim_world *w, struct sim_keeper *k, enum sim_disk_op which,
		    uint64_t max_ns)
{
	k->disk.op[which].is_on = true;
	k->disk.op[which].is_over = false;
	sim_keeper_post(w, k, max_ns,
			&(struct sim_event){
				.kind = SIM_EV_DISK_OP, .a = (int)which, .epoch = k->disk.gen });
}

/* All that was taken off the list is sent, so what the mark confirms is in the older generation. */
static void send_mark(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_map *m = &sim_store_of(w, k->node)->map;
	struct sim_msg msg = { .kind = SIM_MSG_SYNC_MARK, .value = k->disk.n_marks + 1 };

	/* What is logged is in the map, too, and no piece brings it over. */
	if (k->disk.n_since_mark < PIECES_PER_MARK || m->before ||
	    (k->disk.mode != SIM_DISK_DIRECT && w->plant != SIM_PLANT_MARK_TAKES_LOGGED))
		return;
	k->disk.n_since_mark = 0;
	m->before = w->plant == SIM_PLANT_CONFIRM_EARLY ? 0 : m->now;
	m->now = 0;
	m->turned_mark = ++k->disk.n_marks;
	sim_net_send(w, k->out_conn, k->node, &msg);
}

static void send_pieces(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_store *s = sim_store_of(w, k->node);
	struct sim_op *op = &k->disk.op[SIM_OP_READ];
	struct sim_msg msg = { .kind = SIM_MSG_DISK_SYNC };

	if (op->is_on && op->is_over) {
		op->is_on = false;
		msg.word = op->n;
		msg.value = s->now[op->n];
		if (k->disk.is_failing)
			s->map.to_send |= 1u << op->n;
		else
			sim_net_send(w, k->out_conn, k->node, &msg);
		k->disk.n_since_mark++;
		send_mark(w, k);
	}
	if (op->is_on || !s->map.to_send ||
	    (k->disk.n_since_mark >= UNMARKED_MAX && k->disk.mode == SIM_DISK_DIRECT))
		return;
	op->n = (unsigned int)__builtin_ctz(s->map.to_send);
	s->map.to_send &= ~(1u << op->n);
	s->map.now |= 1u << op->n;
	post_op(w, k, SIM_OP_READ, w->plan->is_slow ? SLOW_READ_MAX_NS : READ_MAX_NS);
}

void sim_copy_repeat(struct sim_disk *disk)
{
	if (!disk->op[SIM_OP_MARK].is_on)
		return;
	assert(disk->n_pieces < SIM_PIECES_MAX);
	memmove(disk->pieces + 1, disk->pieces, disk->n_pieces++ * sizeof(disk->pieces[0]));
	disk->pieces[0] = (struct sim_piece){ SIM_BLOCKS, disk->op[SIM_OP_MARK].mark };
}

static void take_pieces(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	struct sim_op *op = &disk->op[SIM_OP_MARK];
	struct sim_msg done = { .kind = SIM_MSG_SYNC_DONE, .value = op->mark };

	if (op->is_on && op->is_over) {
		op->is_on = false;
		if (w->plant != SIM_PLANT_MARK_NOT_FLUSHED)
			sim_store_flushed(sim_store_of(w, k->node), op->n_landed);
		sim_net_send(w, k->in_conn, k->node, &done);
	}
	if (!disk->n_pieces || disk->is_piece_landing || op->is_on || sim_store_is_busy(w, k->node))
		return;
	if (disk->pieces[0].block < SIM_BLOCKS) {
		disk->is_piece_landing = true;
		sim_store_write(w, k, disk->pieces[0].block, disk->pieces[0].value, false);
		return;
	}
	op->mark = disk->pieces[0].value;
	op->n_landed = sim_store_landed(sim_store_of(w, k->node));
	memmove(disk->pieces, disk->pieces + 1, --disk->n_pieces * sizeof(disk->pieces[0]));
	post_op(w, k, SIM_OP_MARK, MARK_MAX_NS);
}

void sim_copy_work(struct sim_world *w, struct sim_keeper *k)
{
	if (k->disk.wants_copy && k->disk.state == SIM_DISK_DIRECT &&
	    k->disk.mode == SIM_DISK_DIRECT) {
		k->disk.wants_copy = false;
		sim_copy_begin(w, k, k->p.session, k->disk.is_full_wanted);
	}
	if (k->disk.is_owner && k->disk.is_copying)
		send_pieces(w, k);
	else if (!k->disk.is_owner)
		take_pieces(w, k);
}

static void push_piece(struct sim_disk *disk, unsigned int block, uint64_t value)
{
	assert(disk->n_pieces < SIM_PIECES_MAX);
	disk->pieces[disk->n_pieces++] = (struct sim_piece){ .block = block, .value = value };
}

void sim_copy_got(struct sim_world *w, struct sim_keeper *k, const struct sim_msg *msg)
{
	struct sim_map *m = &sim_store_of(w, k->node)->map;

	if (msg->kind == SIM_MSG_DISK_SYNC && k->s.state == HF_STANDBY_SYNCING) {
		push_piece(&k->disk, msg->word, msg->value);
	} else if (msg->kind == SIM_MSG_SYNC_MARK && k->s.state == HF_STANDBY_SYNCING) {
		push_piece(&k->disk, SIM_BLOCKS, msg->value);
	} else if (msg->kind == SIM_MSG_SYNC_DONE && m->turned_mark &&
		   msg->value == m->turned_mark) {
		m->before = 0;
		m->turned_mark = 0;
		if (k->disk.is_copying && !k->disk.op[SIM_OP_READ].is_on)
			send_mark(w, k);
	}
	sim_disk_work(w, k);
}

/*
 * While both are in step: a generation goes when the other side has settled what is in it, and it
 * cannot be lost here either. Else a VM that is started from this disk alone could be behind the
 * other's copy.
 */
void sim_map_work(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_map *m = &sim_store_of(w, k->node)->map;
	const struct hf_disk *d = &k->disk.d;

	if (w->plan->layout != SIM_DISKS_REPLICATED || k->disk.is_copying || !k->disk.peer_settled)
		return;
	if (m->before && k->disk.peer_settled >= m->turned_epoch &&
	    (d->journaled >= m->turned_epoch || w->plant == SIM_PLANT_CONFIRM_UNJOURNALED))
		m->before = 0;
	if (m->before || !m->now)
		return;
	m->before = w->plant == SIM_PLANT_CONFIRM_EARLY ? 0 : m->now;
	m->now = 0;
	m->turned_mark = 0;
	m->turned_epoch = k->disk.is_owner ? k->disk.open_epoch : d->captured;
}

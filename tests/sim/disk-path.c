/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk process: it serves the guest's requests, and does what core/disk.h offers. Each thing
 * that takes time is an operation; its end is noticed when the process runs, not when it is frozen.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define OP_MAX_NS (2 * SIM_MS)
#define SLOW_OP_MAX_NS (15 * SIM_MS)
#define DEATH_MAX_NS (3 * SIM_MS)
#define LAZY_EPOCHS 3u

static bool can_work(const struct sim_world *w, const struct sim_keeper *k)
{
	return w->plan->layout != SIM_DISKS_NONE && k->inst && !k->is_frozen && k->disk.gen &&
	       !k->disk.is_dying && !k->disk.is_frozen;
}

static struct sim_redo *journal_of(struct sim_world *w, struct sim_keeper *k)
{
	return &sim_store_of(w, k->node)->redo[k->disk.area];
}

static void empty(struct sim_redo *r)
{
	r->n = r->n_synced = r->n_valid = 0;
}

static struct sim_op *begin(struct sim_world *w, struct sim_keeper *k, enum sim_disk_op which)
{
	struct sim_op *op = &k->disk.op[which];

	assert(!op->is_on);
	*op = (struct sim_op){ .is_on = true,
			       .n_landed = sim_store_landed(sim_store_of(w, k->node)) };
	sim_keeper_post(w, k, w->plan->is_slow ? SLOW_OP_MAX_NS : OP_MAX_NS,
			&(struct sim_event){
				.kind = SIM_EV_DISK_OP, .a = (int)which, .epoch = k->disk.gen });
	return op;
}

/* Over, and noticed: true once. */
static bool take_end(struct sim_disk *k, enum sim_disk_op which)
{
	struct sim_op *op = &k->op[which];

	if (!op->is_on || !op->is_over)
		return false;
	op->is_on = false;
	return true;
}

void sim_disk_op_over(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev)
{
	if (ev->epoch != k->disk.gen || k->disk.is_dying)
		return;
	k->disk.op[ev->a].is_over = true;
	sim_disk_work(w, k);
}

/* ---- birth and death ---- */

/* A successor goes on with the words, and behind the valid entries of the journal. */
void sim_disk_start(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	struct hf_disk was = disk->d;
	struct sim_redo *r = journal_of(w, k);

	disk->gen = ++w->next_gen;
	disk->is_frozen = false;
	disk->is_dying = false;
	disk->n_in_flight = 0;
	disk->is_piece_landing = false;
	sim_copy_repeat(disk);
	memset(disk->op, 0, sizeof(disk->op));
	k->vm.req.is_begun = false; /* QEMU sends it again */
	if (disk->is_based && was.may_apply && r->n && r->recs[r->n - 1].epoch > was.journaled)
		was.journaled = r->recs[r->n - 1].epoch;
	if (!hf_disk_restore(&disk->d, &was))
		assert(false && "the words contradict each other");
	sim_disks_journaled(w, k);
}

void sim_disk_abandon(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_op *op = k->disk.op;

	if (op[SIM_OP_JOURNAL].is_on)
		sim_store_kill_journaling(w, journal_of(w, k));
	if (op[SIM_OP_READ].is_on)
		sim_store_of(w, k->node)->map.to_send |= 1u << op[SIM_OP_READ].n;
}

void sim_disk_kill(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;

	if (!disk->gen || disk->is_dying)
		return;
	disk->is_dying = true;
	sim_disk_abandon(w, k);
	sim_keeper_post(w, k, DEATH_MAX_NS,
			&(struct sim_event){ .kind = SIM_EV_DISK_DEAD, .epoch = disk->gen });
}

void sim_disk_dead(struct sim_world *w, struct sim_keeper *k)
{
	sim_store_settle_dead(w, k->node);
	k->disk.gen = 0;
	sim_say(w, "%c disk process is dead%s", sim_letter(k->node),
		k->disk.is_cut ? "" : ", another one starts");
	if (k->disk.is_cut) {
		sim_primary_event(w, k, HF_PRIMARY_DISKS_CUT, 0, k->p.session);
		return;
	}
	sim_disk_start(w, k);
	sim_disk_work(w, k);
}

/* ---- requests of the guest ---- */

static void answer(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_req *req = &k->vm.req;
	struct sim_guest *g = &k->vm.g;

	if (req->kind == SIM_REQ_WRITE) {
		g->disk[req->block] = req->value;
		g->n_writes = req->serial;
	} else {
		g->flushed = req->serial;
		k->disk.is_flush_seen |= k->vm.is_running;
	}
	req->kind = SIM_REQ_NONE;
	if (k->has_capture)
		sim_primary_snapshot(w, k);
}

static void add_to_log(struct sim_disk *disk, const struct sim_rec *rec)
{
	assert(disk->n_log < SIM_LOG_MAX);
	disk->log[disk->n_log++] = *rec;
}

static void log_late(struct sim_disk *disk)
{
	if (disk->is_late) {
		disk->late.epoch = disk->open_epoch;
		add_to_log(disk, &disk->late);
	}
	disk->is_late = false;
}

static void log_request(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	const struct sim_req *req = &k->vm.req;
	struct sim_rec rec = { disk->open_epoch, req->value, req->block };

	if (req->kind == SIM_REQ_WRITE)
		sim_map_set(&sim_store_of(w, k->node)->map, req->block, false);
	/* QEMU, when it is being stopped, waits for its requests: then the reserve is used. */
	if (disk->n_log >= SIM_LOG_SOFT && k->vm.is_running)
		return;
	if (req->kind == SIM_REQ_WRITE && w->plant == SIM_PLANT_ACK_BEFORE_LOGGED) {
		log_late(disk);
		disk->late = rec;
		disk->is_late = true;
	} else if (req->kind == SIM_REQ_WRITE) {
		add_to_log(disk, &rec);
	}
	answer(w, k);
}

static void begin_direct(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_req *req = &k->vm.req;

	if (req->kind == SIM_REQ_WRITE) {
		sim_check_image_write(w, k, k->disk.open_epoch);
		sim_map_set(&sim_store_of(w, k->node)->map, req->block,
			    k->disk.is_copying && w->plant != SIM_PLANT_COPY_MISSES_WRITES);
		sim_store_write(w, k, req->block, req->value, /* is_apply= */ false);
	} else {
		(void)begin(w, k, SIM_OP_FLUSH);
	}
	req->is_begun = true;
	req->has_landed = false;
}

static void serve(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_req *req = &k->vm.req;

	if (req->kind == SIM_REQ_NONE || !k->vm.is_alive || req->is_begun)
		return;
	if (k->disk.mode == SIM_DISK_DIRECT)
		begin_direct(w, k);
	else if (k->disk.mode == SIM_DISK_HOLD)
		log_request(w, k);
}

static void end_direct_flush(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_store *s = sim_store_of(w, k->node);

	if (!take_end(&k->disk, SIM_OP_FLUSH))
		return;
	if (k->disk.is_failing || k->vm.req.kind != SIM_REQ_FLUSH || !k->vm.req.is_begun) {
		k->vm.req.is_begun = false;
		return;
	}
	sim_store_flushed(s, k->disk.op[SIM_OP_FLUSH].n_landed);
	if (s->area == k->disk.area)
		s->flushed_serial = k->vm.req.serial;
	answer(w, k);
}

void sim_disk_landed(struct sim_world *w, struct sim_keeper *k, const struct sim_write *write)
{
	struct sim_disk *disk = &k->disk;
	struct sim_req *req = &k->vm.req;

	if (write->is_apply) {
		disk->has_failed |= disk->is_failing;
		disk->n_in_flight -= disk->n_in_flight > 0;
	} else if (disk->is_piece_landing) {
		disk->is_piece_landing = false;
		if (!disk->is_failing && disk->n_pieces)
			memmove(disk->pieces, disk->pieces + 1,
				--disk->n_pieces * sizeof(disk->pieces[0]));
	} else if (req->is_begun && req->kind == SIM_REQ_WRITE) {
		req->has_landed = true;
		req->has_failed = disk->is_failing;
	} else if (disk->is_owner) {
		/* Its QEMU is dead; the disk process ends it all the same. */
		sim_map_set(&sim_store_of(w, k->node)->map, write->block, disk->is_copying);
	}
	sim_disk_work(w, k);
}

static void end_direct_write(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_req *req = &k->vm.req;

	if (req->kind != SIM_REQ_WRITE || !req->is_begun || !req->has_landed)
		return;
	req->is_begun = false;
	/* Once more: a copy may have read the block while the write was under way. */
	sim_map_set(&sim_store_of(w, k->node)->map, req->block,
		    k->disk.is_copying && w->plant != SIM_PLANT_COPY_MISSES_WRITES);
	if (!req->has_failed)
		answer(w, k);
}

uint64_t sim_disk_read(struct sim_world *w, const struct sim_keeper *k, unsigned int block)
{
	const struct sim_disk *disk = &k->disk;

	for (unsigned int i = disk->n_log; i-- > 0 && w->plant != SIM_PLANT_READ_PAST_LOG;)
		if (disk->log[i].block == block)
			return disk->log[i].value;
	if (disk->is_late && disk->late.block == block)
		return disk->late.value;
	return sim_store_of(w, k->node)->now[block];
}

/* ---- the journal ---- */

static void count_in_new_area(struct sim_world *w, struct sim_keeper *k)
{
	if (k->disk.must_switch)
		sim_store_of(w, k->node)->area = k->disk.area;
	k->disk.must_switch = false;
}

static void end_journal(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_redo *r = journal_of(w, k);

	if (!take_end(&k->disk, SIM_OP_JOURNAL))
		return;
	if (k->disk.is_failing) {
		r->n = r->n_synced; /* the next try writes over it */
	} else {
		r->n_synced = k->disk.op[SIM_OP_JOURNAL].n;
		if (w->plant != SIM_PLANT_AREA_COUNTS_LATE)
			count_in_new_area(w, k);
	}
	hf_disk_journal_done(&k->disk.d, !k->disk.is_failing);
	sim_disks_journaled(w, k);
}

static void begin_journal(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	struct sim_redo *r = journal_of(w, k);
	uint64_t from, to;

	if (!disk->is_based || r->n + disk->n_log > SIM_REDO_MAX ||
	    !hf_disk_next_journal(&disk->d, &from, &to))
		return;
	for (unsigned int i = 0; i < disk->n_log; i++) {
		const struct sim_rec *rec = &disk->log[i];

		if (rec->epoch > from && rec->epoch <= to &&
		    w->plant != SIM_PLANT_APPLY_BEFORE_JOURNAL)
			r->recs[r->n++] = *rec;
	}
	begin(w, k, SIM_OP_JOURNAL)->n = r->n;
}

static void reset_journal(struct sim_world *w, struct sim_keeper *k)
{
	const struct sim_disk *disk = &k->disk;
	struct sim_redo *r = journal_of(w, k);
	bool may = hf_disk_may_reset_journal(&disk->d);

	if (w->plant == SIM_PLANT_RESET_BEFORE_SETTLE)
		may = !disk->d.journaling && disk->d.journaled == disk->d.applied;
	if (disk->is_based && may && !disk->must_switch && r->n &&
	    (r->n > SIM_REDO_FULL || disk->mode == SIM_DISK_DRAIN))
		empty(r);
}

/* ---- the image ---- */

void sim_disk_forget_applied(struct sim_disk *disk)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < disk->n_log; i++)
		if (disk->log[i].epoch > disk->d.applied)
			disk->log[kept++] = disk->log[i];
	disk->n_log = kept;
}

static void end_apply(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;

	(void)w;
	if (!disk->d.applying || disk->n_in_flight)
		return;
	hf_disk_apply_done(&disk->d, !disk->has_failed);
	disk->has_failed = false;
	sim_disk_forget_applied(disk);
}

/* Of each block the newest content only. */
static void write_range(struct sim_world *w, struct sim_keeper *k, uint64_t from, uint64_t to)
{
	struct sim_disk *disk = &k->disk;
	unsigned int written = 0;

	for (unsigned int i = disk->n_log; i-- > 0;) {
		const struct sim_rec *rec = &disk->log[i];

		if (rec->epoch <= from || rec->epoch > to || (written & 1u << rec->block))
			continue;
		written |= 1u << rec->block;
		sim_check_image_write(w, k, rec->epoch);
		disk->n_in_flight++;
		sim_store_write(w, k, rec->block, rec->value, /* is_apply= */ true);
	}
}

static void begin_apply(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	uint64_t permit_ns = w->plant == SIM_PLANT_PERMIT_IGNORED ? UINT64_MAX : disk->permit_ns;
	uint64_t from, to;

	if (!disk->is_based || disk->is_failing ||
	    (disk->must_switch && w->plant != SIM_PLANT_AREA_COUNTS_LATE))
		return;
	if (w->plant == SIM_PLANT_APPLY_BEFORE_COMMIT)
		hf_disk_committed(&disk->d, disk->d.captured);
	if (hf_disk_next_apply(&disk->d, w->now_ns, permit_ns, &from, &to))
		write_range(w, k, from, to);
}

static void end_settle(struct sim_world *w, struct sim_keeper *k)
{
	if (!take_end(&k->disk, SIM_OP_SETTLE))
		return;
	if (!k->disk.is_failing)
		sim_store_flushed(sim_store_of(w, k->node), k->disk.op[SIM_OP_SETTLE].n_landed);
	hf_disk_settle_done(&k->disk.d, !k->disk.is_failing);
}

static void begin_settle(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	uint64_t to;

	if (disk->mode != SIM_DISK_DRAIN && journal_of(w, k)->n <= SIM_REDO_FULL &&
	    disk->d.applied <= disk->d.settled + LAZY_EPOCHS)
		return;
	if (!disk->op[SIM_OP_SETTLE].is_on && hf_disk_next_settle(&disk->d, &to))
		(void)begin(w, k, SIM_OP_SETTLE);
}

/* ---- from one mode to another ---- */

/* What lies under the log becomes durable before anything is put on it. */
static void end_base(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_store *s = sim_store_of(w, k->node);
	struct sim_disk *disk = &k->disk;

	if (!take_end(disk, SIM_OP_BASE) || disk->is_failing)
		return;
	if (w->plant != SIM_PLANT_BASE_NOT_FLUSHED)
		sim_store_flushed(s, disk->op[SIM_OP_BASE].n_landed);
	disk->is_based = true;
	if (s->area != disk->area)
		return; /* a new owner has the other area: the header of this one does not count */
	memcpy(s->base, s->now, sizeof(s->base));
	/* A write past the log may have been under way when outputs were let pass. */
	if (disk->mode == SIM_DISK_DRAIN)
		sim_check_passed(s, &k->vm.g);
	s->base_serial = k->vm.g.n_writes - (disk->is_owner ? disk->n_log + disk->is_late : 0);
	sim_disks_based(w, k);
}

static void begin_base(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	bool is_wanted = disk->is_owner ? disk->mode != SIM_DISK_DIRECT
					: disk->has_end && disk->is_first && !disk->n_pieces &&
						  w->plan->layout == SIM_DISKS_REPLICATED;

	if (is_wanted && !disk->is_based && !disk->op[SIM_OP_BASE].is_on &&
	    !sim_store_is_busy(w, k->node) && !disk->op[SIM_OP_FLUSH].is_on)
		(void)begin(w, k, SIM_OP_BASE);
}

static bool is_drained(const struct sim_world *w, const struct sim_disk *disk)
{
	if (w->plant == SIM_PLANT_DIRECT_BEFORE_SETTLED)
		return disk->d.applied == disk->d.captured && !disk->d.applying &&
		       !disk->d.journaling;
	return hf_disk_is_drained(&disk->d);
}

static void go_direct(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_disk *disk = &k->disk;
	struct sim_store *s = sim_store_of(w, k->node);

	if (disk->mode != SIM_DISK_DRAIN || !disk->is_based || !is_drained(w, disk))
		return;
	assert(!disk->n_log);
	count_in_new_area(w, k);
	empty(journal_of(w, k));
	s->condition = SIM_COPY_OWNED;
	s->session = (struct hf_id){ 0 };
	memcpy(s->base, k->vm.g.disk, sizeof(s->base));
	s->base_serial = s->flushed_serial = k->vm.g.n_writes;
	disk->is_based = false;
	disk->state = disk->mode = SIM_DISK_DIRECT;
	sim_disks_drained(w, k);
}

void sim_disk_work(struct sim_world *w, struct sim_keeper *k)
{
	uint64_t inst = k->inst;

	if (!can_work(w, k) || w->has_failed)
		return;
	end_direct_write(w, k);
	end_direct_flush(w, k);
	end_base(w, k);
	end_journal(w, k);
	end_apply(w, k);
	end_settle(w, k);
	sim_copy_work(w, k);
	serve(w, k);
	begin_base(w, k);
	if (k->disk.d.journaled == k->disk.d.captured && w->plant != SIM_PLANT_AREA_COUNTS_LATE)
		count_in_new_area(w, k); /* nothing is to be redone */
	begin_journal(w, k);
	begin_apply(w, k);
	end_apply(w, k); /* an epoch without writes is applied at once */
	begin_settle(w, k);
	reset_journal(w, k);
	sim_map_work(w, k);
	go_direct(w, k);
	if (k->inst == inst)
		sim_disks_whole(w, k);
}

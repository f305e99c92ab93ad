/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The shared disk and the ways to it: leasesim.h says what it may do. */
#include "leasesim.h"

#include <assert.h>
#include <string.h>

#define PREPARE_NS (LS_MS / 2) /* from reading the clock to submitting */
#define RETRY_NS (100 * LS_MS)
#define TIMEOUT_NS (700 * LS_MS)
#define SETTLE_NS (UINT64_C(4700) * LS_MS) /* HF_BALLOT_SETTLE_MS, on the fastest clock */
#define FIRST 0
#define SECOND 1

/* What the way to the disk does with one I/O. */
enum fate { FATE_WELL, FATE_STALL, FATE_NEVER, FATE_LANDED, FATE_LATE, FATE_TWICE };

struct ls_io *ls_io_new(struct ls_world *w, struct ls_machine *m, enum ls_io_kind kind,
			enum ls_io_for what_for)
{
	unsigned int i = 0;

	while (i < LS_IOS && w->ios[i].refs)
		i++;
	assert(i < LS_IOS);
	w->ios[i].refs = 1; /* the submission */
	w->ios[i].kind = kind;
	w->ios[i].what_for = what_for;
	w->ios[i].machine = ls_index(w, m);
	w->ios[i].inst = m->inst;
	w->ios[i].issued_ns = ls_local_ns(w, m);
	w->ios[i].id = m->id;
	w->ios[i].lease = 0;
	w->ios[i].order = 0;
	w->ios[i].serial = 0;
	w->ios[i].is_failed = w->ios[i].is_landed = w->ios[i].is_dropped = false;
	w->ios[i].is_first = false;
	w->ios[i].is_torn = w->ios[i].is_unsettled = w->ios[i].is_settled = false;
	w->stats->ios++;
	return &w->ios[i];
}

void ls_io_unref(struct ls_io *io)
{
	assert(io->refs);
	io->refs--;
}

static void post_io(struct ls_world *w, const struct ls_io *io, enum ls_event_kind kind,
		    uint64_t delay_ns, uint64_t part)
{
	ls_post(w, delay_ns,
		&(struct ls_event){ .kind = kind,
				    .machine = io->machine,
				    .inst = io->inst,
				    .a = (int)(io - w->ios),
				    .b = part });
}

static bool is_read(const struct ls_io *io)
{
	return io->kind == LS_IO_READ_SLOTS || io->kind == LS_IO_READ_AREA;
}

static unsigned int point_of(const struct ls_io *io, bool is_end)
{
	unsigned int at = is_end ? LS_POINT_SLOTS_READ - LS_POINT_READ_SLOTS : 0;

	switch (io->kind) {
	case LS_IO_READ_SLOTS:
		return LS_POINT_READ_SLOTS + at;
	case LS_IO_READ_AREA:
		return LS_POINT_READ_AREA + at;
	case LS_IO_SLOT:
		return LS_POINT_SLOT + at;
	case LS_IO_LEADER:
		return LS_POINT_LEADER + at;
	case LS_IO_BLOCK:
		break;
	}
	return (io->u.block.bal ? LS_POINT_PHASE2 : LS_POINT_PHASE1) + at;
}

/*
 * sanlock has no answer to a leader that an old write has put back: beside it a leader goes out in
 * the moment in which it was decided on, does not get stuck, and does not land late.
 */
static bool is_swift(const struct ls_world *w, const struct ls_io *io)
{
	return io->kind == LS_IO_LEADER && w->plan->has_sanlock;
}

static enum fate failing_fate(struct ls_world *w, const struct ls_io *io)
{
	static const enum fate fates[] = { FATE_NEVER, FATE_LANDED, FATE_LATE };

	return is_read(io) ? FATE_NEVER : fates[simkit_rand_below(&w->rand, 3)];
}

static enum fate draw_fate(struct ls_world *w, const struct ls_machine *m, const struct ls_io *io)
{
	/* sanlock does not wait for what may land late: its disk only stalls. */
	if (is_swift(w, io))
		return !m->is_sanlock &&
				       (m->cuts || (m->errors && simkit_rand_percent(&w->rand, 40)))
			       ? FATE_NEVER + simkit_rand_below(&w->rand, 2)
			       : FATE_WELL;
	if (m->is_sanlock)
		return m->cuts ? FATE_STALL : FATE_WELL;
	if (m->cuts)
		return simkit_rand_percent(&w->rand, 60) ? FATE_STALL : failing_fate(w, io);
	if (m->errors && simkit_rand_percent(&w->rand, 40))
		return failing_fate(w, io);
	if (m->doubles && !is_read(io) && simkit_rand_percent(&w->rand, 50))
		return FATE_TWICE;
	return FATE_WELL;
}

/* How long after it was given up: a block has to land before its host relies on the next one. */
static uint64_t late(struct ls_world *w, struct ls_io *io)
{
	uint64_t most = w->plan->late_ns;

	io->is_unsettled = true;
	w->stats->late++;
	if (io->kind == LS_IO_BLOCK && most > SETTLE_NS)
		most = SETTLE_NS;
	return ls_delay(w, most);
}

/* Both halves of what is read, or the landing; and then the end. */
static void run_io(struct ls_world *w, struct ls_machine *m, struct ls_io *io, enum fate fate)
{
	unsigned int factor = m->slows && !is_swift(w, io) ? 60 : 1;
	uint64_t all = ls_delay(w, w->plan->io_ns) * factor + 20000, effect;

	if (fate == FATE_NEVER || fate == FATE_LANDED || fate == FATE_LATE) {
		io->is_failed = true;
		all += ls_delay(w, TIMEOUT_NS);
		w->stats->failed_ios++;
	}
	effect = ls_delay(w, all);
	if (fate == FATE_LATE)
		effect = all + late(w, io);
	io->is_settled = fate != FATE_LATE && simkit_rand_percent(&w->rand, 30);
	if (fate != FATE_NEVER) {
		io->refs++;
		post_io(w, io, LS_EV_EFFECT, effect, FIRST);
	}
	if (is_read(io) && fate == FATE_WELL) {
		io->refs++;
		io->first_part = (unsigned int)simkit_rand_next(&w->rand);
		post_io(w, io, LS_EV_EFFECT, effect + ls_delay(w, all - effect), SECOND);
	} else if (fate == FATE_TWICE) {
		io->refs++;
		w->stats->twice++;
		post_io(w, io, LS_EV_EFFECT, all + ls_delay(w, w->plan->late_ns), SECOND);
	}
	post_io(w, io, LS_EV_DONE, all, 0);
}

void ls_io_submit(struct ls_world *w, struct ls_io *io)
{
	if (is_swift(w, io)) {
		io->order = ++w->io_order;
		run_io(w, &w->machines[io->machine], io,
		       draw_fate(w, &w->machines[io->machine], io));
		return;
	}
	post_io(w, io, LS_EV_SUBMIT, ls_delay(w, PREPARE_NS), 0);
}

void ls_io_submitted(struct ls_world *w, const struct ls_event *ev)
{
	struct ls_machine *m = &w->machines[ev->machine];
	struct ls_io *io = &w->ios[ev->a];
	enum fate fate;

	if (!io->order) {
		if (io->what_for == LS_FOR_WORK && !ls_work_may_go(w, m, io)) {
			ls_io_unref(io);
			return;
		}
		io->order = ++w->io_order;
		ls_fault_point(w, m, point_of(io, false));
		if (ls_machine_is_still(m) || m->inst != ev->inst) {
			ls_post(w, 0, ev);
			return;
		}
	}
	fate = draw_fate(w, m, io);
	if (fate == FATE_STALL)
		ls_post(w, RETRY_NS, ev);
	else
		run_io(w, m, io, fate);
}

/* The order up to which writes of this machine to this sector have settled. */
static uint64_t *settled(struct ls_world *w, const struct ls_io *io)
{
	if (io->kind == LS_IO_SLOT)
		return &w->settled_slot[io->machine];
	return io->kind == LS_IO_LEADER ? &w->settled_leader[io->machine][io->lease]
					: &w->settled_block[io->machine][io->lease];
}

static void land(struct ls_world *w, struct ls_io *io)
{
	struct ls_area *area = &w->disk.areas[io->lease];

	if (io->is_dropped || (io->is_unsettled && io->is_landed) ||
	    (io->order < *settled(w, io) && !io->is_unsettled && !w->plan->is_unordered))
		return;
	if (io->is_failed || io->is_torn || io->inst != w->machines[io->machine].inst ||
	    io->is_landed)
		ls_say(w, "disk: a write of %c lands %s", ls_letter(io->machine),
		       io->is_torn     ? "torn"
		       : io->is_landed ? "again"
				       : "late");
	if (io->kind == LS_IO_SLOT && io->is_landed && io->order < w->landed_slot[io->machine])
		return;
	io->is_landed = true;
	if (io->kind == LS_IO_SLOT) {
		if (w->landed_slot[io->machine] < io->order)
			w->landed_slot[io->machine] = io->order;
		w->disk.slots[io->id - 1] = io->u.slot;
		w->disk.slots[io->id - 1].is_damaged = io->is_torn;
	} else if (io->kind == LS_IO_LEADER) {
		area->leader = io->u.leader;
		area->leader.is_damaged = io->is_torn;
		/* What sanlock decides counts from here: it may forget it before. */
		if (!io->is_torn && w->machines[io->machine].is_sanlock)
			ls_check_leader(w, &w->machines[io->machine], io->lease,
					&io->u.leader.leader);
		if (!io->is_torn)
			ls_check_landed(w, io->lease, &io->u.leader.leader);
	} else {
		area->blocks[io->id - 1] = io->u.block;
		area->blocks[io->id - 1].is_damaged = io->is_torn;
	}
}

static void read_part(struct ls_world *w, struct ls_io *io, bool is_first)
{
	const struct ls_area *area = &w->disk.areas[io->lease];
	unsigned int part = is_first ? io->first_part : ~io->first_part;

	for (unsigned int i = 0; i < LS_IDS; i++) {
		if (!(part & 1u << i))
			continue;
		if (io->kind == LS_IO_READ_SLOTS)
			io->u.slots[i] = w->disk.slots[i];
		else
			io->u.area.blocks[i] = area->blocks[i];
	}
	if (io->kind == LS_IO_READ_AREA && part & 1u << LS_IDS)
		io->u.area.leader = area->leader;
}

void ls_io_effect(struct ls_world *w, const struct ls_event *ev)
{
	struct ls_io *io = &w->ios[ev->a];

	if (is_read(io))
		read_part(w, io, ev->b == FIRST);
	else
		land(w, io);
	ls_io_unref(io);
}

void ls_io_done(struct ls_world *w, const struct ls_event *ev)
{
	struct ls_machine *m = &w->machines[ev->machine];
	struct ls_io *io = &w->ios[ev->a];

	if (!ev->b) {
		struct ls_event again = *ev;

		ls_fault_point(w, m, point_of(io, true));
		again.b = 1;
		if (ls_machine_is_still(m) || m->inst != ev->inst) {
			ls_post(w, 0, &again);
			return;
		}
	}
	if (!is_read(io) && !io->is_failed && *settled(w, io) < io->order)
		*settled(w, io) = io->order;
	if (m->is_sanlock)
		ls_san_io(w, m, io);
	else if (io->what_for == LS_FOR_MEMBER)
		ls_member_io(w, m, io);
	else if (io->what_for == LS_FOR_WORK)
		ls_work_io(w, m, io);
	else
		ls_keeper_await_io(w, m, io);
	ls_io_unref(io);
}

void ls_disk_orphan(struct ls_world *w, struct ls_machine *m, bool is_power)
{
	for (unsigned int i = 0; i < LS_IOS; i++) {
		struct ls_io *io = &w->ios[i];

		if (!io->refs || io->machine != ls_index(w, m) || io->inst != m->inst ||
		    is_read(io) || io->is_landed || io->is_dropped || !io->order)
			continue;
		if (simkit_rand_percent(&w->rand, 30)) {
			io->is_dropped = true;
		} else if (is_power && w->plan->may_tear && simkit_rand_percent(&w->rand, 40)) {
			io->is_torn = true;
			io->refs++;
			post_io(w, io, LS_EV_EFFECT, 0, SECOND);
			w->stats->torn++;
		} else if (!io->is_failed && !w->plan->has_sanlock &&
			   simkit_rand_percent(&w->rand, 50)) {
			/* Its landing was to come before its end: now it comes at any time. */
			io->refs++;
			post_io(w, io, LS_EV_EFFECT, late(w, io), SECOND);
		}
	}
}

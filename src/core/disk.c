/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of the disks.
 *
 *     logged --> captured --> committed --+
 *                   |                     +--> applied --> settled
 *                   +-----> journaled ----+
 */
#include "core/disk.h"

#include <assert.h>
#include <string.h>

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool is_ordered(const struct hf_disk *d)
{
	return d->settled <= d->applied && d->applied <= d->journaled &&
	       d->applied <= d->committed && d->committed <= d->captured &&
	       d->journaled <= d->captured;
}

static void check(const struct hf_disk *d)
{
	assert(is_ordered(d));
	assert(!d->journaling || (d->journaling > d->journaled && d->journaling <= d->captured));
	assert(!d->applying ||
	       (d->applying > d->applied && d->applying <= least(d->committed, d->journaled)));
	assert(!d->settling || (d->settling > d->settled && d->settling <= d->applied));
	if (!d->may_apply)
		assert(!d->journaling && !d->applying && !d->settling);
}

void hf_disk_init(struct hf_disk *d, uint64_t epoch, bool may_apply)
{
	memset(d, 0, sizeof(*d));
	d->may_apply = may_apply;
	d->captured = d->committed = d->journaled = d->applied = d->settled = epoch;
}

bool hf_disk_restore(struct hf_disk *d, const struct hf_disk *was)
{
	if (!is_ordered(was))
		return false;
	*d = *was;
	d->journaling = d->applying = d->settling = 0;
	check(d);
	return true;
}

void hf_disk_captured(struct hf_disk *d, uint64_t epoch)
{
	d->captured = most(d->captured, epoch);
	check(d);
}

void hf_disk_committed(struct hf_disk *d, uint64_t epoch)
{
	assert(epoch <= d->captured);
	d->committed = most(d->committed, epoch);
	check(d);
}

void hf_disk_settled_by_owner(struct hf_disk *d, uint64_t epoch)
{
	if (d->may_apply || epoch <= d->settled || epoch > d->committed)
		return;
	d->journaled = d->applied = d->settled = epoch;
	check(d);
}

void hf_disk_take_over(struct hf_disk *d)
{
	d->may_apply = true;
	check(d);
}

bool hf_disk_next_journal(struct hf_disk *d, uint64_t *ret_from, uint64_t *ret_to)
{
	if (!d->may_apply || d->journaling || d->journaled == d->captured)
		return false;
	d->journaling = d->captured;
	*ret_from = d->journaled;
	*ret_to = d->journaling;
	check(d);
	return true;
}

void hf_disk_journal_done(struct hf_disk *d, bool is_done)
{
	assert(d->journaling);
	if (is_done)
		d->journaled = d->journaling;
	d->journaling = 0;
	check(d);
}

bool hf_disk_may_write(uint64_t now_ns, uint64_t permit_ns)
{
	return now_ns < permit_ns;
}

bool hf_disk_next_apply(struct hf_disk *d, uint64_t now_ns, uint64_t permit_ns, uint64_t *ret_from,
			uint64_t *ret_to)
{
	uint64_t to = least(d->committed, d->journaled);

	if (!d->may_apply || d->applying || d->applied == to ||
	    !hf_disk_may_write(now_ns, permit_ns))
		return false;
	d->applying = to;
	*ret_from = d->applied;
	*ret_to = to;
	check(d);
	return true;
}

void hf_disk_apply_done(struct hf_disk *d, bool is_done)
{
	assert(d->applying);
	if (is_done)
		d->applied = d->applying;
	d->applying = 0;
	check(d);
}

/* A flush makes durable what was written before it began: so it settles what is applied by then. */
bool hf_disk_next_settle(struct hf_disk *d, uint64_t *ret_to)
{
	if (!d->may_apply || d->settling || d->settled == d->applied)
		return false;
	d->settling = d->applied;
	*ret_to = d->settling;
	check(d);
	return true;
}

void hf_disk_settle_done(struct hf_disk *d, bool is_done)
{
	assert(d->settling);
	if (is_done)
		d->settled = d->settling;
	d->settling = 0;
	check(d);
}

bool hf_disk_may_reset_journal(const struct hf_disk *d)
{
	return d->may_apply && !d->journaling && d->settled == d->journaled;
}

bool hf_disk_is_drained(const struct hf_disk *d)
{
	return d->may_apply && d->settled == d->captured && !d->journaling && !d->applying;
}

/* ---- the gate ---- */

static void check_gate(const struct hf_gate *g)
{
	assert(g->committed <= g->captured);
	assert(g->open <= g->committed);
	assert(g->need_committed <= g->committed);
	assert(g->need_captured <= g->captured && g->need_captured <= g->need_next);
	assert(g->need_committed <= g->need_captured);
	assert(!g->is_drained || g->is_passing);
}

void hf_gate_init(struct hf_gate *g, enum hf_durability durability)
{
	memset(g, 0, sizeof(*g));
	g->durability = durability;
	g->is_passing = g->is_drained = true;
}

/* An epoch never needs more than itself, so all that is journaled may leave, whatever it needs. */
static void open_up(struct hf_gate *g)
{
	bool is_enough = g->durability == HF_DURABILITY_MEMORY || g->need_committed <= g->journaled;
	uint64_t to = is_enough ? g->committed : least(g->journaled, g->committed);

	g->open = most(g->open, to);
	check_gate(g);
}

void hf_gate_captured(struct hf_gate *g, uint64_t epoch, bool has_flush, bool was_seen)
{
	if (epoch <= g->captured)
		return;
	g->captured = epoch;
	g->need_captured = has_flush && was_seen ? epoch : g->need_next;
	if (has_flush)
		g->need_next = epoch;
	check_gate(g);
}

void hf_gate_committed(struct hf_gate *g, uint64_t epoch)
{
	if (epoch <= g->committed || epoch > g->captured)
		return;
	g->committed = epoch;
	/* Of an epoch before the one captured last it is only known that it needs no more than
	 * that. */
	g->need_committed = least(g->need_captured, epoch);
	open_up(g);
}

void hf_gate_journaled(struct hf_gate *g, uint64_t epoch)
{
	g->journaled = most(g->journaled, epoch);
	open_up(g);
}

void hf_gate_hold(struct hf_gate *g)
{
	/* What was drained is on the disk, whatever number it had in the journal. */
	if (g->is_drained)
		g->need_next = g->need_captured = g->need_committed = 0;
	else if (g->is_passing)
		g->need_next = g->captured;
	g->is_passing = g->is_drained = false;
	open_up(g);
}

void hf_gate_pass(struct hf_gate *g)
{
	g->is_passing = true;
	g->is_drained = false;
	check_gate(g);
}

void hf_gate_drained(struct hf_gate *g)
{
	g->is_drained = g->is_passing;
	check_gate(g);
}

uint64_t hf_gate_open_to(const struct hf_gate *g)
{
	return g->open;
}

bool hf_gate_may_pass(const struct hf_gate *g)
{
	return g->is_passing && g->is_drained;
}

uint64_t hf_gate_wants(const struct hf_gate *g)
{
	if (g->durability == HF_DURABILITY_MEMORY || g->need_captured <= g->journaled)
		return 0;
	return g->need_captured;
}

/* ---- copies ---- */

bool hf_disk_may_copy_delta(struct hf_id map_session, bool is_map_trusted,
			    struct hf_id copy_session, bool has_copy)
{
	return has_copy && is_map_trusted && !hf_id_is_none(map_session) &&
	       hf_id_is_equal(map_session, copy_session);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What may be done to a VM's disks, and when; and when outputs may leave that rely on them. Layer:
 * core; pure, any thread, no allocation, no clock. docs/replication.md has the rules and the
 * reasons.
 *
 * Words. A write is *logged* when it stands in the log: then it is acknowledged, and reads see it.
 * An epoch's writes are *captured* when the epoch is, *committed* when the epoch is, *journaled*
 * when they are durable in the redo journal, *applied* when they have been written to the image,
 * *settled* when that is durable. On each host
 *
 *     settled <= applied <= min(committed, journaled)
 *     committed <= captured,  journaled <= captured
 *
 * An epoch is journaled whole before any of it is applied, so that an image can always be brought
 * to the end of an epoch, whatever dies in between.
 *
 * What a disk process owes these numbers (docs/replication.md has what goes wrong otherwise):
 *  1. From DIRECT to HOLD: the direct writes end, the image is flushed, HELD is recorded; nothing
 *     is journaled before. Else a loss of power takes direct writes that were never flushed, and
 *     redo puts newer ones beside them: a mixture.
 *  2. From DRAIN to DIRECT: all applied, the image flushed, OWNED recorded and the journal emptied,
 *     in this order and durably; then the first direct write. Also when nothing was logged: in HOLD
 *     a flush is acknowledged at once, and it may have been meant for what went past the log
 *     before.
 *  3. A successor with the same memory goes on behind the valid entries of the same area: it syncs
 *     them, takes the last one's epoch for journaled, and does not add what is there. (5 6 5 and
 *     then a torn 6 would be redone as a mixture; the other area, empty, would forget what is
 *     journaled and not settled.)
 *  4. Who takes the other area while something is unsettled makes its header count only when the
 *     entries that are to be redone stand in it durably.
 *  5. A standby records PARTIAL and empties its journal before the first piece of a copy, when
 *     nothing of an earlier session is under way to its image; pieces are durable and REPLICATED is
 *     recorded before anything of the session's first epoch is journaled or applied, and before
 *     that is acknowledged.
 *  6. The dirty map gets its bit before a write is acknowledged: when it is logged, when a standby
 *     takes it in, when it is about to go to the image past the log. A generation that ended while
 *     nothing later than epoch n was in it is dropped when the peer has settled n and n is
 *     journaled here, not before: whoever is started from his disk alone may be behind the other's
 *     copy, and has to put that back. A mark in a first copy ends a generation only while writes go
 *     past the log: no piece brings over what is logged. What a peer settled in an earlier session,
 *     or before outputs passed, says nothing: start from 0.
 *
 * A standby's numbers begin at 0 with each session: its VM may have been started anew since the
 * last one, and counts from 1 then.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/commit.h"

struct hf_disk {
	bool may_apply; /* false: a standby on a shared image, which only keeps what it is given */
	uint64_t captured;
	uint64_t committed;
	uint64_t journaled;
	uint64_t applied;
	uint64_t settled;
	/* what is under way; 0: nothing */
	uint64_t journaling;
	uint64_t applying;
	uint64_t settling;
};

/* @epoch: everything up to it is settled: 0, or what a predecessor had reached. */
void hf_disk_init(struct hf_disk *d, uint64_t epoch, bool may_apply);

/*
 * A successor goes on with the numbers of a predecessor that died, with nothing under way: what was
 * begun and not finished is offered again. False: the five numbers of @was contradict each other,
 * *d is as it was. Only for the same machine, up all the time: what was written and not flushed is
 * still there.
 */
bool hf_disk_restore(struct hf_disk *d, const struct hf_disk *was);

/* Numbers only go up; one that does not is ignored. Commit of what was not captured is a bug
 * (asserted). */
void hf_disk_captured(struct hf_disk *d, uint64_t epoch);
void hf_disk_committed(struct hf_disk *d, uint64_t epoch);

/* Shared image, this side only keeps: the owner says that all up to @epoch is durable in it, so
 * nothing is left to do with that here. More than what is committed is ignored: an owner has
 * nothing else settled. */
void hf_disk_settled_by_owner(struct hf_disk *d, uint64_t epoch);
/* This side becomes the owner: the deadline of the old one's writes has passed, or it is proven
 * dead. */
void hf_disk_take_over(struct hf_disk *d);

/* What to do next, if anything: true with the range *ret_from < epoch <= *ret_to. It is under way
 * from then on, until the matching _done(). A failure is reported as is_done false: it will be
 * offered again. */
bool hf_disk_next_journal(struct hf_disk *d, uint64_t *ret_from, uint64_t *ret_to);
void hf_disk_journal_done(struct hf_disk *d, bool is_done);
/* @now_ns, @permit_ns: one clock. No write to the image may begin once now has reached permit: who
 * takes long over a range asks hf_disk_may_write() before each write, and reports is_done false
 * when refused. */
bool hf_disk_next_apply(struct hf_disk *d, uint64_t now_ns, uint64_t permit_ns, uint64_t *ret_from,
			uint64_t *ret_to);
bool hf_disk_may_write(uint64_t now_ns, uint64_t permit_ns);
void hf_disk_apply_done(struct hf_disk *d, bool is_done);
bool hf_disk_next_settle(struct hf_disk *d, uint64_t *ret_to);
void hf_disk_settle_done(struct hf_disk *d, bool is_done);

/* May the journal be emptied? Only when all that it holds is settled, and nothing is being
 * added. */
bool hf_disk_may_reset_journal(const struct hf_disk *d);

/* May the image be written to past the log? Only when nothing is left in it. */
bool hf_disk_is_drained(const struct hf_disk *d);

/* ---- outputs that rely on a flush ---- */

enum hf_durability {
	HF_DURABILITY_DISK, /* an output leaves after what was flushed before it is on a disk */
	HF_DURABILITY_MEMORY, /* two memories are enough */
};

/*
 * The gate stands between "epoch n is committed" and "its outputs leave". A guest that has seen a
 * flush done may tell the outside so; hence epoch n may leave when everything is journaled that was
 * captured up to the last flush that an output of n can know of. QEMU itself flushes whenever it
 * stops: such a flush is seen by the guest only after it runs on, so it binds the epochs after it.
 *
 * Outputs of a dropped epoch leave with the next one, so what an epoch needs never goes back.
 */
struct hf_gate {
	enum hf_durability durability;
	uint64_t captured;
	uint64_t committed;
	uint64_t journaled;
	uint64_t need_next; /* what is captured from now on needs at least this much journaled */
	uint64_t need_captured; /* what the epoch captured last needs */
	uint64_t need_committed; /* what the epoch committed last needs */
	uint64_t open; /* epochs that may leave, for need_committed does not say it of older ones */
	bool is_passing; /* outputs are no longer held, once what is logged is durable */
	bool is_drained;
};

/* Passing and drained, as a VM that starts here. One that was promoted here: hf_gate_pass()
 * next. */
void hf_gate_init(struct hf_gate *g, enum hf_durability durability);
/* Numbers only go up; one that does not is ignored, and so is more committed than captured. */
/* @has_flush: one came in this epoch; @was_seen: before the guest stood still, so that it may
 * know. */
void hf_gate_captured(struct hf_gate *g, uint64_t epoch, bool has_flush, bool was_seen);
void hf_gate_committed(struct hf_gate *g, uint64_t epoch);
void hf_gate_journaled(struct hf_gate *g, uint64_t epoch);
/* Outputs are held from now on; or are to pass as soon as hf_gate_drained() is said after this,
 * also if it was said before. Whichever durability: what two memories held is about to be in one
 * only. */
void hf_gate_hold(struct hf_gate *g);
void hf_gate_pass(struct hf_gate *g);
void hf_gate_drained(struct hf_gate *g); /* ignored unless passing */
/* Outputs of which epochs may leave: all up to the returned one. */
uint64_t hf_gate_open_to(const struct hf_gate *g);
/* May outputs pass unheld? */
bool hf_gate_may_pass(const struct hf_gate *g);
/* The journal must reach this for what is captured to leave when it is committed; 0: it has. Known
 * before the commit, so that the journal is written while the epoch is on its way. */
uint64_t hf_gate_wants(const struct hf_gate *g);

/* ---- copies ---- */

/*
 * May a standby's images be brought up to date with the blocks that the dirty map names, or is
 * everything to be copied? The map says what a copy of @map_session lacks. @has_copy: its images
 * are of @copy_session: whole as a standby's, partial with its filling begun from that map, or as
 * an owner's that was held all the time (never written past the log).
 */
bool hf_disk_may_copy_delta(struct hf_id map_session, bool is_map_trusted,
			    struct hf_id copy_session, bool has_copy);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bugs on purpose: the proof that the checkers can fail. Each one changes what goes into a machine,
 * what comes out of it, or what a driver does (then the file of that driver asks for it by name):
 * the machines that are tested are the ones that are shipped.
 */
#include "sim.h"

#include <assert.h>
#include <stdio.h>

#define RULE(rule) (1u << SIM_RULE_##rule)

/* The invariants of which one has to be reported, and what is wrong. */
const struct simkit_plant sim_plants[SIM_PLANT_COUNT] = {
	[SIM_PLANT_FENCED_LATE] = { "fenced-late",
				    RULE(COMMIT) | RULE(LIVE) | RULE(APPLY) | RULE(ONCE) |
					    RULE(PATH) | RULE(READ),
				    "a host that was heard since is taken for fenced" },
	[SIM_PLANT_FENCED_ALIVE] = { "fenced-alive",
				     RULE(COMMIT) | RULE(LIVE) | RULE(APPLY) | RULE(ONCE) |
					     RULE(PATH) | RULE(READ),
				     "a host is said to be fenced, and lives" },
	[SIM_PLANT_RELEASE_AT_SEND] = { "release-at-send", RULE(COMMIT),
					"outputs leave when their epoch is sent" },
	[SIM_PLANT_PASS_ON_CUT] = { "pass-on-cut", RULE(COMMIT) | RULE(APPLY),
				    "out of touch with the standby outputs pass" },
	[SIM_PLANT_HOLD_FORGOTTEN] = { "hold-forgotten", RULE(COMMIT) | RULE(APPLY),
				       "outputs are not held when protection begins" },
	[SIM_PLANT_DROP_FORGOTTEN] = { "drop-forgotten", RULE(WHOLE),
				       "pages of a lost epoch do not go with the next one" },
	[SIM_PLANT_ABANDON_AT_ONCE] = { "abandon-at-once", RULE(COMMIT) | RULE(APPLY),
					"protection ends before the standby has discarded" },
	[SIM_PLANT_REJOIN_COUNTS_FLIGHT] = { "rejoin-counts-flight", RULE(COMMIT) | RULE(WHOLE),
					     "a standby that is back is taken to hold all" },
	[SIM_PLANT_NO_RESUME] = { "no-resume", RULE(PROGRESS),
				  "a hand-over that is called off leaves the VM stopped" },
	[SIM_PLANT_NO_LATE_RESUME] = { "no-late-resume", RULE(PROGRESS),
				       "the same, only if silence came and went in its capture" },
	[SIM_PLANT_SILENCE_IS_DEATH] = { "silence-is-death",
					 RULE(COMMIT) | RULE(LIVE) | RULE(APPLY),
					 "a silent standby is taken for a dead one" },
	[SIM_PLANT_DEATH_SAID_ONCE] = { "death-said-once", RULE(PROGRESS),
					"the VM's death is not repeated on a new connection" },
	[SIM_PLANT_HANDOVER_UNACKNOWLEDGED] = { "handover-unacknowledged", RULE(COMMIT),
						"a hand-over does not wait for its last epoch" },
	[SIM_PLANT_PROMOTE_ON_CUT] = { "promote-on-cut",
				       RULE(LIVE) | RULE(COMMIT) | RULE(PATH) | RULE(ONCE),
				       "the end of the connection is taken for a proof" },
	[SIM_PLANT_PARTIAL_KEPT] = { "partial-kept", RULE(WHOLE),
				     "what came of a broken epoch is not thrown away" },
	[SIM_PLANT_PARTIAL_APPLIED] = { "partial-applied", RULE(WHOLE),
					"pages are written before their epoch is whole" },
	[SIM_PLANT_ACK_BEFORE_WHOLE] = { "ack-before-whole", RULE(COMMIT),
					 "an epoch is acknowledged when it begins" },
	[SIM_PLANT_ACK_AFTER_PROMOTION] = { "ack-after-promotion", RULE(COMMIT) | RULE(LIVE),
					    "epochs are acknowledged while the standby goes live" },
	[SIM_PLANT_DISCARD_FORGOTTEN] = { "discard-forgotten",
					  RULE(COMMIT) | RULE(LIVE) | RULE(APPLY),
					  "the standby says that it discards, and does not" },
	[SIM_PLANT_DISCARD_UNSAID] = { "discard-unsaid", RULE(PROGRESS),
				       "the standby discards and does not say so" },
	[SIM_PLANT_PROMOTION_SAID_ONCE] = { "promotion-said-once", RULE(PROGRESS),
					    "an old primary that comes back is not told" },
	[SIM_PLANT_END_IS_DEATH] = { "end-is-death", RULE(ENDED),
				     "a VM that ended in order is promoted" },
	[SIM_PLANT_DENIAL_IS_GRANT] = { "denial-is-grant",
					RULE(COMMIT) | RULE(READ) | RULE(OWNER) | RULE(DENIED) |
						RULE(LIVE),
					"the standby goes live although the arbiter said no" },
	[SIM_PLANT_BOTH_GRANTED] = { "both-granted", RULE(OWNER) | RULE(LIVE) | RULE(COMMIT),
				     "who has lost the vote is told that it has won" },
	[SIM_PLANT_NEVER_REDIAL] = { "never-redial", RULE(PROGRESS),
				     "a broken connection is not made again" },
	[SIM_PLANT_RESEND_TOO_MUCH] = { "resend-too-much", RULE(RESEND),
					"a frame is sent again that the epoch does not contain" },
	[SIM_PLANT_RELEASE_BACKWARDS] = { "release-backwards", RULE(ORDER),
					  "held outputs leave in the wrong order" },
	[SIM_PLANT_APPLY_BEFORE_COMMIT] = { "apply-before-commit", RULE(APPLY) | RULE(READ),
					    "writes go to the image when they are captured" },
	[SIM_PLANT_APPLY_BEFORE_JOURNAL] = { "apply-before-journal", RULE(RECOVER) | RULE(DURABLE),
					     "writes go to the image and not to the journal" },
	[SIM_PLANT_ACK_BEFORE_LOGGED] = { "ack-before-logged", RULE(READ) | RULE(RECOVER),
					  "a write is acknowledged and logged later" },
	[SIM_PLANT_READ_PAST_LOG] = { "read-past-log", RULE(READ),
				      "reads see the image only, not the log" },
	[SIM_PLANT_GATE_IGNORED] = { "gate-ignored", RULE(DURABLE),
				     "outputs leave on commit, whatever was flushed" },
	[SIM_PLANT_PERMIT_IGNORED] = { "permit-ignored", RULE(PATH) | RULE(RECOVER),
				       "a shared image is written to after the permit has run "
				       "out" },
	[SIM_PLANT_DEADLINE_IGNORED] = { "deadline-ignored", RULE(PATH),
					 "the standby does not wait out the write deadline" },
	[SIM_PLANT_DEAD_BEFORE_CUT] = { "dead-before-cut", RULE(PATH),
					"the standby is told to go live before the disks are cut" },
	[SIM_PLANT_REDO_FORGOTTEN] = { "redo-forgotten", RULE(READ) | RULE(RECOVER),
				       "a standby that goes live does not write what was logged" },
	[SIM_PLANT_REDO_BACKWARDS] = { "redo-backwards", RULE(RECOVER) | RULE(DURABLE),
				       "the journal is redone from its end" },
	[SIM_PLANT_TORN_ENTRY_REDONE] = { "torn-entry-redone", RULE(RECOVER),
					  "an entry of the journal that is not whole is redone" },
	[SIM_PLANT_PARTIAL_WRITTEN] = { "partial-written", RULE(READ) | RULE(RECOVER),
					"the standby writes an epoch that is not whole" },
	[SIM_PLANT_CONFIRM_EARLY] = { "confirm-early", RULE(READ) | RULE(RECOVER),
				      "the dirty map forgets before the other side has settled" },
	[SIM_PLANT_CONFIRM_UNJOURNALED] = { "confirm-unjournaled", RULE(READ) | RULE(RECOVER),
					    "the dirty map forgets what could be lost here" },
	[SIM_PLANT_MARK_TAKES_LOGGED] = { "mark-takes-logged", RULE(READ) | RULE(RECOVER),
					  "a mark in a copy confirms what was only logged" },
	[SIM_PLANT_MARK_NOT_FLUSHED] = { "mark-not-flushed", RULE(READ) | RULE(RECOVER),
					 "pieces of a copy are confirmed and not durable" },
	[SIM_PLANT_COPY_MISSES_WRITES] = { "copy-misses-writes", RULE(READ),
					   "a first copy leaves out what is written meanwhile" },
	[SIM_PLANT_DELTA_UNTRUSTED] = { "delta-untrusted", RULE(READ),
					"a map that went through a loss of power is believed" },
	[SIM_PLANT_RESET_BEFORE_SETTLE] = { "reset-before-settle", RULE(RECOVER) | RULE(DURABLE),
					    "the journal is emptied before the image is flushed" },
	[SIM_PLANT_BASE_NOT_FLUSHED] = { "base-not-flushed", RULE(RECOVER) | RULE(DURABLE),
					 "epochs are put on an image that was not flushed" },
	[SIM_PLANT_DIRECT_BEFORE_SETTLED] = { "direct-before-settled",
					      RULE(RECOVER) | RULE(DURABLE),
					      "the journal is given up before the image is "
					      "flushed" },
	[SIM_PLANT_EMPTY_LOG_IS_DRAINED] = { "empty-log-is-drained", RULE(DURABLE) | RULE(RECOVER),
					     "an image under an empty log is not flushed" },
	[SIM_PLANT_EMPTY_AREA_COUNTS] = { "empty-area-counts", RULE(RECOVER) | RULE(DURABLE),
					  "a new owner's journal counts before it holds anything" },
	[SIM_PLANT_AREA_COUNTS_LATE] = { "area-counts-late", RULE(RECOVER),
					 "a new owner writes to the image before its journal "
					 "counts" },
	[SIM_PLANT_FIRST_ACK_EARLY] = { "first-ack-early", RULE(READ) | RULE(RECOVER),
					"the first epoch does not wait for the copy under it" },
	[SIM_PLANT_PASS_BEFORE_DRAINED] = { "pass-before-drained", RULE(DURABLE),
					    "outputs pass while the log is in memory only" },
	[SIM_PLANT_FREEZE_FORGOTTEN] = { "freeze-forgotten", RULE(LIVE),
					 "a primary that is superseded leaves its VM running" },
	[SIM_PLANT_RUN_BEFORE_WON] = { "run-before-won",
				       RULE(OWNER) | RULE(ONCE) | RULE(COMMIT) | RULE(LIVE),
				       "a standby that has loaded runs before the vote is won" },
	[SIM_PLANT_EXPIRY_IGNORED] = { "expiry-ignored", RULE(OWNER),
				       "the VM runs on when its host's lease has run out" },
	[SIM_PLANT_TENURE_IGNORED] = { "tenure-ignored", RULE(OWNER),
				       "a lease that is valid again is taken for never lost" },
	[SIM_PLANT_DEATH_IS_LEAVE] = { "death-is-leave", RULE(OWNER) | RULE(ONCE) | RULE(LIVE),
				       "a dead standby is taken for one that did not win" },
	[SIM_PLANT_LOSER_GOES_ON] = { "loser-goes-on", RULE(DENIED),
				      "the primary goes on alone although it has lost the vote" },
	[SIM_PLANT_DISCARD_UNDECIDED] = { "discard-undecided",
					  RULE(APPLY) | RULE(OWNER) | RULE(ONCE) | RULE(COMMIT),
					  "the standby has discarded, it says, and may win yet" },
	[SIM_PLANT_CANCEL_BOUND] = { "cancel-bound", RULE(OWNER) | RULE(PROGRESS),
				     "a claim that may be chosen is said to be taken back" },
	[SIM_PLANT_LEASE_UNSAID] = { "lease-unsaid", RULE(PROGRESS),
				     "the standby is not told that the primary owns a new lver" },
	[SIM_PLANT_LEASE_SAID_EARLY] = { "lease-said-early",
					 RULE(APPLY) | RULE(OWNER) | RULE(LIVE) | RULE(ONCE) |
						 RULE(COMMIT),
					 "the standby is told so before the vote is won" },
	[SIM_PLANT_RESTART_RELEASES] = { "restart-releases", RULE(OWNER),
					 "a daemon that comes back releases what its keeper has" },
	[SIM_PLANT_ANSWER_LOST] = { "answer-lost", RULE(PROGRESS),
				    "a daemon that was killed forgets who asked" },
};

void sim_plant_primary_event(enum sim_plant plant, const struct hf_primary *p,
			     struct hf_primary_event *ev)
{
	if (plant == SIM_PLANT_REJOIN_COUNTS_FLIGHT && ev->kind == HF_PRIMARY_LINK_UP &&
	    p->stage == HF_STAGE_FLIGHT)
		ev->epoch = p->captured;
	if (plant == SIM_PLANT_SILENCE_IS_DEATH && ev->kind == HF_PRIMARY_PEER_SILENT &&
	    !p->has_vote)
		ev->kind = HF_PRIMARY_PEER_DEAD;
	if (plant == SIM_PLANT_DEATH_IS_LEAVE && ev->kind == HF_PRIMARY_PEER_DEAD && p->has_vote)
		ev->kind = HF_PRIMARY_PEER_DISCARDED;
	if (plant == SIM_PLANT_LOSER_GOES_ON && ev->kind == HF_PRIMARY_ARBITER_DENIED)
		ev->kind = HF_PRIMARY_ARBITER_GRANTED;
}

static void add(struct hf_primary_actions *out, enum hf_primary_action_kind kind, uint64_t epoch)
{
	assert(out->n < HF_PRIMARY_ACTIONS_MAX);
	out->a[out->n++] = (struct hf_primary_action){ .kind = kind, .epoch = epoch };
}

static bool has(const struct hf_primary_actions *out, enum hf_primary_action_kind kind)
{
	for (unsigned int i = 0; i < out->n; i++)
		if (out->a[i].kind == kind)
			return true;
	return false;
}

static void forget(struct hf_primary_actions *out, enum hf_primary_action_kind kind)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < out->n; i++)
		if (out->a[i].kind != kind)
			out->a[kept++] = out->a[i];
	out->n = kept;
}

/* As if the acknowledgement of the last epoch had come when it was sent. */
static void acknowledge(struct hf_primary *p, struct hf_primary_actions *out)
{
	struct hf_primary_event ack = { .kind = HF_PRIMARY_ACK, .epoch = p->captured };
	struct hf_primary_actions more;

	hf_primary_step(p, &ack, &more);
	for (unsigned int i = 0; i < more.n; i++)
		out->a[out->n++] = more.a[i];
}

static void let_too_much_out(enum sim_plant plant, const struct hf_primary *before,
			     struct hf_primary *after, struct hf_primary_actions *out)
{
	if (plant == SIM_PLANT_RELEASE_AT_SEND && has(out, HF_PRIMARY_SEND))
		add(out, HF_PRIMARY_RELEASE, after->captured);
	else if ((plant == SIM_PLANT_PASS_ON_CUT && after->state == HF_PRIMARY_HOLDING &&
		  before->state != HF_PRIMARY_HOLDING) ||
		 (plant == SIM_PLANT_ABANDON_AT_ONCE && has(out, HF_PRIMARY_SEND_ABANDON)))
		add(out, HF_PRIMARY_PASS, after->captured + 1);
	else if (plant == SIM_PLANT_HANDOVER_UNACKNOWLEDGED && has(out, HF_PRIMARY_SEND) &&
		 after->state == HF_PRIMARY_HANDING_OVER && after->is_final)
		acknowledge(after, out);
}

static void say_lease(const struct hf_primary *p, struct hf_primary_actions *out)
{
	if (!p->has_vote || !p->is_link_up)
		return;
	add(out, HF_PRIMARY_SEND_LEASE, 0);
	out->a[out->n - 1].session = p->session;
	out->a[out->n - 1].lver = p->lver + 1;
}

void sim_plant_primary_actions(enum sim_plant plant, const struct hf_primary *before,
			       const struct hf_primary_event *ev, struct hf_primary *after,
			       struct hf_primary_actions *out)
{
	let_too_much_out(plant, before, after, out);
	if (plant == SIM_PLANT_HOLD_FORGOTTEN)
		forget(out, HF_PRIMARY_HOLD);
	else if (plant == SIM_PLANT_DROP_FORGOTTEN)
		forget(out, HF_PRIMARY_DROP);
	else if (plant == SIM_PLANT_NO_RESUME ||
		 (plant == SIM_PLANT_NO_LATE_RESUME && ev->kind == HF_PRIMARY_CAPTURED &&
		  after->state == HF_PRIMARY_PROTECTED))
		forget(out, HF_PRIMARY_RESUME);
	else if (plant == SIM_PLANT_FREEZE_FORGOTTEN)
		forget(out, HF_PRIMARY_FREEZE);
	else if (plant == SIM_PLANT_LEASE_UNSAID)
		forget(out, HF_PRIMARY_SEND_LEASE);
	else if (plant == SIM_PLANT_LEASE_SAID_EARLY && has(out, HF_PRIMARY_ASK_ARBITER))
		say_lease(after, out);
	else if (plant == SIM_PLANT_DEATH_SAID_ONCE && ev->kind == HF_PRIMARY_LINK_UP)
		forget(out, HF_PRIMARY_SEND_DEAD);
}

static bool holds_epoch(const struct hf_standby *s)
{
	return s->state == HF_STANDBY_READY || s->state == HF_STANDBY_LOST;
}

void sim_plant_standby_event(enum sim_plant plant, const struct hf_standby *s,
			     struct hf_standby_event *ev)
{
	if (plant == SIM_PLANT_PROMOTE_ON_CUT && ev->kind == HF_STANDBY_LINK_DOWN && holds_epoch(s))
		ev->kind = HF_STANDBY_PEER_DEAD;
	else if (plant == SIM_PLANT_END_IS_DEATH && ev->kind == HF_STANDBY_VM_ENDED)
		ev->kind = HF_STANDBY_VM_DIED;
	else if (plant == SIM_PLANT_DENIAL_IS_GRANT && ev->kind == HF_STANDBY_ARBITER_DENIED)
		ev->kind = HF_STANDBY_ARBITER_GRANTED;
}

static void standby_forget(struct hf_standby_actions *out, enum hf_standby_action_kind kind)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < out->n; i++)
		if (out->a[i].kind != kind)
			out->a[kept++] = out->a[i];
	out->n = kept;
}

void sim_plant_standby_actions(enum sim_plant plant, const struct hf_standby *before,
			       const struct hf_standby_event *ev, struct hf_standby *after,
			       struct hf_standby_actions *out)
{
	if (plant == SIM_PLANT_PARTIAL_KEPT) {
		standby_forget(out, HF_STANDBY_DROP_PARTIAL);
	} else if (plant == SIM_PLANT_DISCARD_UNSAID) {
		standby_forget(out, HF_STANDBY_SEND_DISCARDED);
	} else if (plant == SIM_PLANT_DISCARD_UNDECIDED && ev->kind == HF_STANDBY_ABANDON &&
		   after->leave == HF_STANDBY_LEAVE_ABANDONED) {
		out->a[out->n++] = (struct hf_standby_action){ .kind = HF_STANDBY_SEND_DISCARDED,
							       .session = after->session };
	} else if (plant == SIM_PLANT_PROMOTION_SAID_ONCE && ev->kind == HF_STANDBY_LINK_UP) {
		standby_forget(out, HF_STANDBY_SEND_PROMOTED);
	} else if (plant == SIM_PLANT_ACK_AFTER_PROMOTION && ev->kind == HF_STANDBY_EPOCH_WHOLE &&
		   after->state == HF_STANDBY_PROMOTING) {
		out->a[out->n++] = (struct hf_standby_action){ .kind = HF_STANDBY_ACK,
							       .epoch = ev->epoch };
	} else if (plant == SIM_PLANT_DISCARD_FORGOTTEN && ev->kind == HF_STANDBY_ABANDON &&
		   before->is_link_up && holds_epoch(before)) {
		*after = *before;
		standby_forget(out, HF_STANDBY_DISCARD);
	}
}

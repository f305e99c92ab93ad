/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The commit protocol: when may an output leave, and who may run the VM. Layer: core; pure, any
 * thread, no allocation, no clock. docs/replication.md has the diagrams and the reasons.
 *
 * Two machines, one for each side. Each is a plain struct that can be copied and compared, and is
 * driven by hf_primary_step() or hf_standby_step(): an event goes in, actions come out, in the
 * order in which the driver has to carry them out. The driver holds no policy: it does what it is
 * told and reports what came of it as the next event.
 *
 * Words. An *epoch* is what happens between two checkpoints; epoch n is *captured* when the VM has
 * stood still and its pages, device state and held outputs are complete in the buffer, *whole* when
 * the standby has all of it verified, *committed* when the primary knows that. A *session* is one
 * standby kept in step by one primary; its id is new for each first synchronisation. *Proof* of
 * death is knowledge that a process can do nothing any more; silence and a cut link are none.
 *
 * The vote, where the VM has a lease: the primary owns it at some lver and names that to its
 * standby; each side's question to the arbiter is one try to own lver + 1, of which exactly one
 * succeeds. A question (ASK_ARBITER) has one answer: granted, denied, or cancelled, which is asked
 * for by CANCEL_ARBITER and comes only if nothing can have been won; however late, and not before
 * the next event is fed. Until then no other is asked.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* 128 random bits; all zero is "none". */
struct hf_id {
	uint64_t hi;
	uint64_t lo;
};

static inline bool hf_id_is_none(struct hf_id id)
{
	return !id.hi && !id.lo;
}

static inline bool hf_id_is_equal(struct hf_id a, struct hf_id b)
{
	return a.hi == b.hi && a.lo == b.lo;
}

/* ---- the primary ---- */

enum hf_primary_state {
	HF_PRIMARY_ALONE, /* no standby: outputs pass */
	HF_PRIMARY_SYNCING, /* a standby is being filled: outputs pass, it cannot be promoted yet */
	HF_PRIMARY_PROTECTED, /* outputs are held until their epoch is committed */
	HF_PRIMARY_HOLDING, /* lost touch with the standby, no proof: outputs are held, none leaves */
	HF_PRIMARY_LEAVING, /* asked the standby to discard the session; held until it says so */
	HF_PRIMARY_HANDING_OVER, /* stopping for a planned promotion of the standby */
	HF_PRIMARY_HANDED_OVER, /* VM stopped for good, the standby may be live */
	HF_PRIMARY_DEAD, /* the VM died here; the standby is to promote */
	HF_PRIMARY_ENDING, /* the VM ended in order; the standby is to discard */
	HF_PRIMARY_SUPERSEDED, /* the standby went live: nothing of this side may leave any more */
	HF_PRIMARY_FINISHED, /* the VM no longer exists here */
	HF_PRIMARY_STATE_COUNT
};

/* What happens to the running epoch. */
enum hf_stage {
	HF_STAGE_RUN, /* nothing captured that is not committed */
	HF_STAGE_CAPTURE, /* the driver is capturing epoch `captured` */
	HF_STAGE_FLIGHT, /* epoch `captured` was sent, at least in part; no acknowledgement yet */
};

enum hf_primary_event_kind {
	HF_PRIMARY_LINK_UP, /* a checked standby is connected: session and epoch it holds, fresh id */
	HF_PRIMARY_LINK_DOWN, /* the connection is gone; nothing is proven */
	HF_PRIMARY_PEER_SILENT, /* connected, but nothing heard for the time-out */
	HF_PRIMARY_PEER_HEARD, /* it speaks again, on the same connection */
	/* Proven: the keeper that held our session is gone. With a vote it may have won before. */
	HF_PRIMARY_PEER_DEAD,
	HF_PRIMARY_PEER_PROMOTED, /* it says that it has gone live from `session` */
	HF_PRIMARY_PEER_DISCARDED, /* it says that it has thrown `session` away */
	HF_PRIMARY_SYNCED, /* what is left of the first copy fits into one epoch */
	HF_PRIMARY_EPOCH_DUE, /* see core/pace.h */
	HF_PRIMARY_CAPTURED, /* epoch is complete in the buffer */
	HF_PRIMARY_CAPTURE_FAILED, /* it is not; the VM runs on, unless it is gone */
	HF_PRIMARY_ACK, /* the standby has `epoch` whole */
	HF_PRIMARY_ARBITER_GRANTED, /* this host owns `won`: this side may go on alone */
	HF_PRIMARY_ARBITER_DENIED, /* another one owns the lease: the VM may not run here */
	HF_PRIMARY_ARBITER_CANCELLED, /* the question was taken back: nothing has changed */
	HF_PRIMARY_VM_DIED, /* proven: QEMU is dead, and it was not the VM's own wish */
	HF_PRIMARY_VM_ENDED, /* guest shut down, or an operator stopped the VM */
	HF_PRIMARY_HANDOVER_WANTED, /* by command, or requested by the standby */
	HF_PRIMARY_ABANDON_WANTED, /* give up protection: by command, or because capturing fails */
	HF_PRIMARY_LEASE_RENEWED, /* the host's lease is valid again, and had not been */
	HF_PRIMARY_DISKS_CUT, /* proven: no write of this side can reach the image any more */
	HF_PRIMARY_EVENT_COUNT
};

struct hf_primary_event {
	enum hf_primary_event_kind kind;
	uint64_t epoch; /* LINK_UP: last whole epoch the peer holds (0: none); CAPTURED, ACK */
	struct hf_id session; /* LINK_UP: the peer's; PEER_PROMOTED, PEER_DISCARDED */
	struct hf_id fresh; /* LINK_UP: id for a new session, never used before */
	/* ARBITER_*: of the question; PEER_DISCARDED: the one it had won and does not use, or 0 */
	uint64_t lver;
	uint64_t won; /* ARBITER_GRANTED: above lver if that was decided before; 0: lver + 1 */
};

enum hf_primary_action_kind {
	HF_PRIMARY_BEGIN_SYNC, /* start session `session`, naming `lver`: copy all of RAM while the
				* VM runs */
	HF_PRIMARY_STOP_SYNC, /* forget about it */
	HF_PRIMARY_HOLD, /* from now on hold outputs, each marked with its epoch; `epoch` is open */
	HF_PRIMARY_CAPTURE, /* stop the VM, take `epoch`, mark the boundary, run on if `resume` */
	HF_PRIMARY_SEND, /* send `epoch` from the buffer */
	HF_PRIMARY_DROP, /* `epoch` will not be committed: its pages are dirty again */
	HF_PRIMARY_RELEASE, /* outputs of epochs <= `epoch` may leave */
	HF_PRIMARY_PASS, /* outputs may leave, when the disks are drained up to `epoch` */
	HF_PRIMARY_DISCARD, /* throw held outputs away; none may ever leave again */
	HF_PRIMARY_FREEZE, /* the VM must never run here again */
	HF_PRIMARY_RESUME, /* run the VM on (a hand-over was called off) */
	HF_PRIMARY_SEND_DEAD, /* tell the standby: the VM died, promote */
	HF_PRIMARY_SEND_ENDED, /* tell it: the VM ended, discard */
	HF_PRIMARY_SEND_HANDOVER, /* tell it: I have stopped for good after `epoch`, promote */
	HF_PRIMARY_SEND_ABANDON, /* discard `session`, and say so; without a link: as soon as it is met */
	HF_PRIMARY_ASK_ARBITER, /* may I go on alone? try to own `lver` + 1 */
	HF_PRIMARY_CANCEL_ARBITER, /* the answer is not wanted any more, but will come */
	HF_PRIMARY_SEND_LEASE, /* tell the standby of `session`: I own `lver`, ask about that */
	HF_PRIMARY_REFUSE, /* this peer cannot be used now: tell it and let go of it */
	HF_PRIMARY_CUT_DISKS, /* shared storage: kill the disk path for good, report DISKS_CUT */
	HF_PRIMARY_FINISH, /* nothing left to do on this side */
	HF_PRIMARY_ACTION_COUNT
};

struct hf_primary_action {
	enum hf_primary_action_kind kind;
	uint64_t epoch;
	struct hf_id session;
	uint64_t lver;
	bool resume;
};

#define HF_PRIMARY_ACTIONS_MAX 6

struct hf_primary_actions {
	unsigned int n;
	struct hf_primary_action a[HF_PRIMARY_ACTIONS_MAX];
};

/*
 * Invariant, checked after every step: committed <= captured <= committed + what DROP skipped;
 * stage is RUN unless outputs are held; a session is named in every state in which a standby may
 * hold our state.
 */
struct hf_primary {
	enum hf_primary_state state;
	enum hf_stage stage;
	bool is_link_up;
	bool is_peer_silent;
	bool is_synced; /* SYNCING: what is left fits into an epoch, but the standby is silent */
	bool is_final; /* the capture under way is that of a hand-over: no resume */
	struct hf_id session; /* none while ALONE */
	uint64_t captured; /* last epoch number given out; never goes back, over all sessions */
	uint64_t committed; /* last committed epoch of this session, 0: none yet */
	unsigned int failures; /* captures that failed in a row */
	/*
	 * Both hosts reach the same image. Set by the driver after hf_primary_init(). Then the
	 * standby is not told to go live (SEND_DEAD, SEND_HANDOVER) before the disks are cut.
	 */
	bool is_storage_shared;
	bool is_cut;
	/*
	 * The VM has a lease. Set by the driver after hf_primary_init(), with the lver that this host
	 * owns. Then the standby's death alone is no leave to go on alone: it may have won before.
	 */
	bool has_vote;
	uint64_t lver;
	bool is_asking; /* a question is open; after a promotion by force: the standby half's */
	bool is_cancelling;
	bool must_verify; /* LEASE_RENEWED: until it is granted, which nothing takes back */
	bool must_win; /* ENDING: the standby owned the lease last, and has discarded */
};

/* After so many failed captures in a row protection is given up rather than hold for ever. */
#define HF_PRIMARY_FAILURES_MAX 3

/* @last_epoch: 0 for a VM that starts here, the promoted epoch after a failover. */
void hf_primary_init(struct hf_primary *p, uint64_t last_epoch);

void hf_primary_step(struct hf_primary *p, const struct hf_primary_event *ev,
		     struct hf_primary_actions *ret);

/* May an epoch be started now? Drivers ask before they feed EPOCH_DUE; feeding it is harmless. */
bool hf_primary_may_capture(const struct hf_primary *p);

/* Are outputs held in this state? */
bool hf_primary_is_holding(const struct hf_primary *p);

const char *hf_primary_state_name(enum hf_primary_state state);

/* ---- the standby ---- */

enum hf_standby_state {
	HF_STANDBY_IDLE, /* waits for a primary */
	HF_STANDBY_SYNCING, /* is being filled; cannot be promoted */
	HF_STANDBY_READY, /* holds a whole epoch and is in touch with the primary */
	HF_STANDBY_LOST, /* holds a whole epoch, lost touch, no proof */
	HF_STANDBY_PROMOTING, /* QEMU is loading the state; nothing turns this back */
	HF_STANDBY_PROMOTED, /* the VM runs here */
	HF_STANDBY_FAILED, /* the state could not be loaded */
	HF_STANDBY_DENIED, /* loaded or loading, and the other side has won the vote */
	HF_STANDBY_STATE_COUNT
};

enum hf_standby_event_kind {
	HF_STANDBY_LINK_UP, /* a checked primary is connected; session: the one it believes in */
	HF_STANDBY_LINK_DOWN,
	HF_STANDBY_PEER_SILENT,
	HF_STANDBY_PEER_HEARD,
	HF_STANDBY_PEER_DEAD, /* proven: the keeper that held the outputs is dead */
	HF_STANDBY_VM_DIED, /* the primary's keeper says: QEMU is dead, promote */
	HF_STANDBY_VM_ENDED, /* the primary's keeper says: ended in order */
	HF_STANDBY_HANDOVER, /* the primary's keeper says: stopped for good after `epoch` */
	HF_STANDBY_SYNC_BEGIN, /* `session` starts; the primary owns `lver` (0: there is no lease) */
	HF_STANDBY_LEASE, /* the primary of `session` owns `lver` by now */
	HF_STANDBY_EPOCH_WHOLE, /* all of `epoch` is here and verified */
	HF_STANDBY_ABANDON, /* the primary wants `session` discarded */
	HF_STANDBY_BAD_PEER, /* it sent what makes no sense: the connection is useless */
	HF_STANDBY_ARBITER_GRANTED, /* this host owns `won`: this side may go live */
	HF_STANDBY_ARBITER_DENIED, /* another one owns the lease: the other side goes on */
	HF_STANDBY_ARBITER_CANCELLED, /* the question was taken back: nothing has changed */
	HF_STANDBY_PROMOTE_WANTED, /* an operator's command */
	HF_STANDBY_PROMOTE_FORCED, /* the same, vouching that the primary is dead: no vote is waited
				    * for, for the storage may be gone; a denial that comes before
				    * LIVE ends it all the same */
	HF_STANDBY_LIVE, /* QEMU has loaded the state and runs: only if it may (must_win) */
	HF_STANDBY_LOAD_FAILED, /* it has not */
	HF_STANDBY_EVENT_COUNT
};

struct hf_standby_event {
	enum hf_standby_event_kind kind;
	uint64_t epoch;
	struct hf_id session;
	uint64_t lver; /* SYNC_BEGIN, LEASE; ARBITER_*: of the question */
	uint64_t won; /* ARBITER_GRANTED: see above */
};

enum hf_standby_action_kind {
	HF_STANDBY_CLEAR, /* make room for `session`: nothing received before counts */
	HF_STANDBY_APPLY, /* write `epoch` into RAM and make it the one to promote */
	HF_STANDBY_ACK, /* tell the primary that `epoch` is whole */
	HF_STANDBY_DROP_PARTIAL, /* throw away what came of an epoch that is not whole */
	HF_STANDBY_DISCARD, /* throw the session away; it must never be promoted */
	HF_STANDBY_SEND_DISCARDED, /* tell the primary so, naming `session` */
	HF_STANDBY_REQUEST_HANDOVER,
	HF_STANDBY_ASK_ARBITER, /* may I go live? try to own `lver` + 1 */
	HF_STANDBY_CANCEL_ARBITER, /* the answer is not wanted any more, but will come */
	HF_STANDBY_RELEASE_LEASE, /* it was won, and nobody here will use it */
	HF_STANDBY_PROMOTE, /* load `epoch` into QEMU and run */
	HF_STANDBY_RUN, /* what PROMOTE with must_win loads may run: the vote is won */
	HF_STANDBY_SEND_PROMOTED, /* tell the old primary, naming `session` and `epoch` */
	HF_STANDBY_REFUSE, /* this peer cannot be used now */
	HF_STANDBY_REFUSE_ORDER, /* the operator's command cannot be obeyed in this state */
	HF_STANDBY_ACTION_COUNT
};

struct hf_standby_action {
	enum hf_standby_action_kind kind;
	uint64_t epoch;
	struct hf_id session;
	uint64_t lver; /* ASK_ARBITER; SEND_DISCARDED: won and released, or 0 */
	/*
	 * PROMOTE on shared storage, without proof that the old path to it is dead: nothing may be
	 * written here, and the VM may not run, before 5/4 of the peer time-out have passed since
	 * the primary was heard last. What can be done without that may be done meanwhile.
	 */
	bool must_wait;
	/*
	 * PROMOTE before the vote is decided: the state may be loaded, but no image written to and
	 * the VM not run before RUN.
	 */
	bool must_win;
};

#define HF_STANDBY_ACTIONS_MAX 4

struct hf_standby_actions {
	unsigned int n;
	struct hf_standby_action a[HF_STANDBY_ACTIONS_MAX];
};

/* READY, LOST: the session is to be discarded when the vote under way is known not to be won. */
enum hf_standby_leave {
	HF_STANDBY_STAY,
	HF_STANDBY_LEAVE_ABANDONED, /* unless it is won: then the primary has lost the VM to us */
	HF_STANDBY_LEAVE_ENDED, /* whatever comes of it: the VM has ended in order */
};

/* Invariant: epoch != 0 exactly in READY, LOST and after; session named unless IDLE. */
struct hf_standby {
	enum hf_standby_state state;
	bool is_link_up;
	struct hf_id session;
	uint64_t epoch; /* last whole epoch */
	bool is_storage_shared; /* both hosts reach one image; set after the init */
	bool has_vote; /* the VM has a lease: nothing goes live that has not won; set after the init */
	uint64_t lver; /* that the primary owns, by its own word; has_won: that this host owns */
	bool is_asking; /* a question is open */
	bool is_cancelling;
	bool has_won; /* PROMOTING, PROMOTED: this host owns the lease */
	bool is_forced; /* PROMOTING, PROMOTED: an operator vouches */
	enum hf_standby_leave leave;
};

void hf_standby_init(struct hf_standby *s);

void hf_standby_step(struct hf_standby *s, const struct hf_standby_event *ev,
		     struct hf_standby_actions *ret);

/* Would proof of the primary's death promote this side now? */
bool hf_standby_may_promote(const struct hf_standby *s);

const char *hf_standby_state_name(enum hf_standby_state state);

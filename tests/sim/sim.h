/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulator's world: hosts, keepers, connections, guests and the outside, in virtual time.
 *
 * Theory of operation. All that happens is an event in one queue, ordered by time and then by the
 * order of posting; every chance comes from one generator. So a plan (a seed, settings and a list
 * of faults) always runs the same way. The keepers here are drivers: they hold the real machines of
 * src/core and do what their actions say, each action being a *point* at which a fault may strike.
 * The checkers (check.c, outside.c) see the whole world and take no part in it.
 *
 * Three hosts, A, B and C. A keeper is a process on a host; it has an instance number that is never
 * used again, as the id in the real protocol. One thread; nothing here blocks; memory is static.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/commit.h"
#include "core/fenced.h"
#include "disk.h"
#include "lease.h"
#include "rand.h"
#include "simkit/simkit.h"

#define SIM_US UINT64_C(1000)
#define SIM_MS UINT64_C(1000000)
#define SIM_NODES 3
#define SIM_SILENCE_NS (25 * SIM_MS) /* the peer time-out */
#define SIM_NONE (-1)

/* ---- the guest ---- */

#define SIM_WORDS 8
#define SIM_HELD_MAX 128

/* What a guest sends: its number, and a digest of everything that it and the guest went through. */
struct sim_output {
	uint64_t seq;
	uint64_t digest;
	uint64_t prev; /* the digest of the output before it */
	uint64_t durable; /* the guest says that its writes up to this one are on a disk */
	uint64_t epoch; /* the epoch that it belongs to; 0: the running one */
};

/* The memory that is sent by pages, and the device state that goes whole with every epoch. */
struct sim_guest {
	uint64_t words[SIM_WORDS];
	uint64_t steps;
	uint64_t out_seq;
	uint64_t out_digest;
	uint64_t disk[SIM_BLOCKS]; /* what it knows to have written */
	uint64_t n_writes; /* that were acknowledged */
	uint64_t flushed; /* it knows that writes up to this one are durable */
};

struct sim_vm {
	struct sim_guest g;
	bool is_alive; /* there is a QEMU with this guest in it */
	bool is_running;
	unsigned int dirty; /* one bit for each word written since it was last taken for sending */
	uint64_t ran_ns; /* when it last did anything */
	struct sim_req req;
};

enum sim_tap_mode { SIM_TAP_PASS, SIM_TAP_HOLD, SIM_TAP_DEAD };

struct sim_tap {
	enum sim_tap_mode mode;
	unsigned int n;
	struct sim_output held[SIM_HELD_MAX];
};

/* An epoch as it was captured; messages name it by its index. */
struct sim_epoch {
	struct hf_id session;
	uint64_t epoch;
	struct sim_guest g;
	uint64_t begun_ns;
	unsigned int dirty;
	unsigned int n_frames;
	struct sim_output frames[SIM_HELD_MAX];
};

/* More than a run captures. */
#define SIM_EPOCHS 1024

/* ---- the network ---- */

enum sim_msg_kind {
	SIM_MSG_HELLO,
	SIM_MSG_HELLO_REPLY,
	SIM_MSG_REFUSE,
	SIM_MSG_SYNC_BEGIN, /* value: the lver that the primary owns */
	SIM_MSG_SYNC_PAGE,
	SIM_MSG_BEGIN,
	SIM_MSG_PIECE,
	SIM_MSG_END,
	SIM_MSG_ACK,
	SIM_MSG_DEAD,
	SIM_MSG_ENDED,
	SIM_MSG_HANDOVER,
	SIM_MSG_ABANDON,
	SIM_MSG_DISCARDED,
	SIM_MSG_PROMOTED,
	SIM_MSG_WANT_HANDOVER,
	SIM_MSG_HEARTBEAT, /* value: when it was sent; epoch: the value that was heard last */
	SIM_MSG_DISK, /* a write of the epoch: word, value */
	SIM_MSG_DISK_SYNC, /* a piece of a first copy: word, value */
	SIM_MSG_SYNC_MARK,
	SIM_MSG_SYNC_DONE,
	SIM_MSG_SETTLED,
	SIM_MSG_LEASE, /* value: the lver that the primary owns now */
	SIM_MSG_EOF,
	SIM_MSG_COUNT
};

struct sim_msg {
	enum sim_msg_kind kind;
	int next;
	int slot; /* PIECE, END: index of the epoch; PAGE, PIECE: word */
	unsigned int word;
	uint64_t value;
	uint64_t epoch;
	uint64_t inst;
	struct hf_id session;
	struct hf_id
		copy_session; /* HELLO_REPLY: what its images are; their condition is in word */
};

#define SIM_MSGS 2048
#define SIM_CONNS 64

/* End 0 dialled, end 1 accepted. Direction d carries what end d sends. */
struct sim_conn {
	uint64_t id;
	int node[2];
	uint64_t inst[2];
	bool is_open[2];
	bool is_ready[2]; /* the hello was exchanged, as this end knows */
	bool is_silent[2]; /* this end has reported silence */
	uint64_t heard_ns[2];
	int head[2];
	int tail[2];
	unsigned int stalled[2];
	uint64_t last_ns[2];
};

/* ---- keepers and hosts ---- */

enum sim_item_kind {
	SIM_ITEM_PRIMARY, /* an event for the primary's machine */
	SIM_ITEM_STANDBY,
	SIM_ITEM_ACCEPT, /* a primary said hello on connection `conn` */
	SIM_ITEM_REPLY, /* answer it, if it was not refused */
	SIM_ITEM_ATTACH, /* the standby's hello came */
	SIM_ITEM_LIVE, /* the loaded VM starts */
	SIM_ITEM_EXIT,
};

struct sim_item {
	enum sim_item_kind kind;
	uint64_t conn;
	struct sim_msg msg;
	struct hf_primary_event pev;
	struct hf_standby_event sev;
};

#define SIM_ITEMS 16

struct sim_todo {
	bool is_standby;
	struct hf_primary_action p;
	struct hf_standby_action s;
};

struct sim_partial {
	bool is_active;
	uint64_t epoch;
	unsigned int got;
	uint64_t words[SIM_WORDS];
	int slot;
};

struct sim_keeper {
	int node;
	uint64_t inst; /* 0: no process */
	bool is_frozen;
	bool is_exiting;
	/* what it was about to do, in order: kept over a freeze, gone with a crash */
	unsigned int n_items, n_todo, next_todo;
	bool is_past_point;
	struct sim_item items[SIM_ITEMS];
	struct sim_todo todo[HF_PRIMARY_ACTIONS_MAX + HF_STANDBY_ACTIONS_MAX];
	/* as primary */
	bool is_primary;
	struct hf_primary p;
	struct sim_vm vm;
	struct sim_tap tap;
	uint64_t out_conn;
	uint64_t dial_ns; /* no dialling before this */
	int dial_node;
	int standby_node; /* who holds our session */
	uint64_t standby_inst;
	struct hf_id abandoned; /* whoever holds it is to discard it */
	int slot; /* the epoch under capture or in flight */
	uint64_t sync_gen;
	unsigned int sync_word;
	bool is_due_posted;
	bool is_stopped_for_good;
	unsigned int captures_to_fail;
	bool has_capture; /* QEMU is being stopped, and waits for its requests */
	struct hf_primary_action capture;
	bool was_flush_seen; /* in the epoch under capture */
	bool is_exit_wanted; /* when the disks are drained */
	bool must_resend; /* frames of the promoted epoch, when the disks are drained */
	enum sim_condition peer_condition; /* of the standby's images, as it said */
	struct hf_id peer_copy;
	struct sim_disk disk;
	/* as standby */
	bool is_standby;
	struct hf_standby s;
	struct sim_guest replica;
	struct sim_partial partial;
	unsigned int n_frames;
	struct sim_output frames[SIM_HELD_MAX];
	uint64_t in_conn;
	uint64_t candidate; /* the connection that an ACCEPT is about */
	int primary_node;
	uint64_t primary_inst;
	uint64_t whole_epoch; /* the checkers' own account: what was whole here last */
	bool was_told_ended;
	bool will_load_fail;
	uint64_t primary_heard_ns;
	uint64_t primary_stamp; /* of its last heartbeat */
	uint64_t inquire_ns;
	/* fencing: what is known of the standby, and of the primary; the word that is to be judged */
	struct hf_fenced_sight standby_sight, primary_sight;
	uint64_t fenced_ns;
	int fenced_node;
	/* the vote */
	uint64_t standby_heard_ns;
	uint64_t tenure; /* of the host's lease: in this one it was verified that the VM is ours */
	bool is_lease_stopped; /* the VM stands still for want of a lease */
	bool is_resend_due; /* the disks are drained */
	bool is_pass_wanted; /* outputs pass when there is one */
	bool is_loaded; /* QEMU has the state, and waits for the vote */
	bool may_run;
	bool was_denied; /* as primary */
	struct hf_id denied; /* as standby of this session */
	struct hf_id begun_session; /* by this primary, last */
	struct hf_id passed_session; /* what PASS has let go belongs to its end */
};

/* ---- events ---- */

enum sim_event_kind {
	SIM_EV_TICK,
	SIM_EV_GUEST,
	SIM_EV_DELIVER, /* conn, a: direction */
	SIM_EV_RESET, /* conn, a: the end that learns of it */
	SIM_EV_CONNECT, /* a dial arrives: node dials a */
	SIM_EV_REFUSED, /* node learns that a refused; session of the dial */
	SIM_EV_INQUIRE, /* node's inquiry arrives at a */
	SIM_EV_ANSWER, /* and its answer comes back */
	SIM_EV_DUE,
	SIM_EV_CAPTURED, /* epoch */
	SIM_EV_VM_GONE, /* value: 0 it died, 1 it ended in order */
	SIM_EV_SYNC, /* the next word of a first copy */
	SIM_EV_LOADED,
	/* value: enum sim_verdict; a: of the standby's; epoch, conn: asked, won; session.lo: tenure */
	SIM_EV_VERDICT,
	SIM_EV_DAEMON, /* a: what is over; value: of which step; epoch: of which process */
	SIM_EV_AREA_LAND, /* value: which write */
	SIM_EV_RENEW, /* a: 1 over; value: issued then */
	SIM_EV_LAND, /* a: which write; value: its id */
	SIM_EV_DISK_OP, /* a: which operation is over; epoch: of which disk process */
	SIM_EV_DISK_DEAD, /* a killed disk process is proven dead */
	SIM_EV_ORPHAN, /* node: what a dead keeper left behind is dead, too */
	SIM_EV_FENCED, /* node is told that host a was, at `value` */
	SIM_EV_FAULT, /* a: index in the plan */
	SIM_EV_UNDO, /* a: index in the plan: what had a duration is over */
	SIM_EV_COUNT
};

struct sim_event {
	uint64_t at_ns;
	uint64_t seq;
	enum sim_event_kind kind;
	int node;
	int a;
	uint64_t inst; /* the process that it is for; dropped when that is gone */
	uint64_t conn;
	uint64_t epoch;
	uint64_t value;
	struct hf_id session;
};

#define SIM_EVENTS 2048

/* ---- plans ---- */

enum sim_fault_kind {
	SIM_FAULT_CUT, /* a to b, one way */
	SIM_FAULT_SPLIT, /* a and b, both ways */
	SIM_FAULT_RESET, /* connections between a and b break; what was under way is lost */
	SIM_FAULT_CRASH, /* keeper of a */
	SIM_FAULT_POWER, /* host a goes down; back after `for` */
	SIM_FAULT_FREEZE, /* keeper of a stands still */
	SIM_FAULT_KILL_VM, /* QEMU of a */
	SIM_FAULT_END_VM, /* the guest of a shuts down */
	SIM_FAULT_START, /* a standby on a, when no keeper is there */
	SIM_FAULT_FAIL_CAPTURE, /* the next n captures of a */
	SIM_FAULT_FAIL_LOAD, /* the next load on a */
	SIM_FAULT_PROMOTE, /* an operator asks a, a standby, to take over */
	SIM_FAULT_FORCE, /* an operator vouches to a that its primary is dead */
	SIM_FAULT_HANDOVER, /* an operator asks a, a primary, to hand over */
	SIM_FAULT_ABANDON, /* an operator tells a, a primary, to give up protection */
	SIM_FAULT_DAMAGE, /* the stream from a to b turns bad */
	SIM_FAULT_CUT_STORAGE, /* a does not reach the lease */
	SIM_FAULT_KILL_DAEMON, /* the daemon of a; it is back after `for` */
	SIM_FAULT_KILL_DISK, /* the disk process of a */
	SIM_FAULT_FREEZE_DISK,
	SIM_FAULT_FAIL_DISK, /* the storage of a gives errors */
	SIM_FAULT_FENCE, /* host a is powered off, back after `for`, and the others are told, n ms later */
	SIM_FAULT_COUNT
};

/* Where it strikes: at a time, or at the n-th time that a node comes by a point. */
enum sim_when { SIM_WHEN_AT, SIM_WHEN_PRIMARY, SIM_WHEN_STANDBY, SIM_WHEN_GOT };

struct sim_fault {
	enum sim_fault_kind kind;
	enum sim_when when;
	int point_node;
	unsigned int point;
	unsigned int nth;
	uint64_t at_ns; /* AT: the time; otherwise how long after the point */
	int a, b;
	uint64_t for_ns;
	unsigned int n;
};

/* WAIT: the VM has no lease; only proof and operators decide. */
enum sim_arbiter { SIM_ARBITER_WAIT, SIM_ARBITER_VOTE };
enum sim_verdict { SIM_DENIED, SIM_GRANTED, SIM_CANCELLED };
enum sim_delays { SIM_DELAYS_FIXED, SIM_DELAYS_UNIFORM, SIM_DELAYS_EDGE };

#define SIM_FAULTS 28

struct sim_plan {
	uint64_t seed;
	enum sim_arbiter arbiter;
	bool is_storage_flaky; /* now and then a read or write of the lease fails */
	enum sim_delays delays;
	bool does_resend;
	bool is_slow; /* a first copy takes long, and now and then a capture does */
	bool does_give_up; /* a connection that is silent for long is closed */
	enum sim_layout layout;
	bool is_memory_enough; /* durability=memory */
	int n_hosts; /* 2: a pair, as holdfast knows it now; 3: C is there, too */
	bool is_operator_wrong; /* vouches without looking: the promises do not hold then */
	uint64_t safety_ns; /* faults strike in this time; then all is healed */
	uint64_t calm_ns; /* and this long after it everything must be well */
	unsigned int n_faults;
	struct sim_fault faults[SIM_FAULTS];
};

/* ---- what is checked ---- */

/* The invariants, with their numbers in docs/replication.md. */
enum sim_rule {
	SIM_RULE_NONE,
	SIM_RULE_COMMIT, /* no output before its commit */
	SIM_RULE_WHOLE, /* the promoted state is the last whole epoch */
	SIM_RULE_LIVE, /* never two promoted by the protocol's own doing */
	SIM_RULE_PROGRESS, /* progress after faults heal */
	SIM_RULE_ORDER, /* outputs in order, none missing, none twice but by a failover */
	SIM_RULE_RESEND, /* what is sent again is part of the promoted state */
	SIM_RULE_ENDED, /* a VM that ended is not promoted by who knows it */
	SIM_RULE_APPLY, /* no write reaches an image before its epoch is committed */
	SIM_RULE_READ, /* what is read is what was written, before and after a failover */
	SIM_RULE_RECOVER, /* an image can always be brought to the end of an epoch */
	SIM_RULE_DURABLE, /* what an output said to be durable is there */
	SIM_RULE_PATH, /* shared image: no late write of an old owner */
	SIM_RULE_OWNER, /* what no standby stands behind leaves only where the lease is */
	SIM_RULE_ONCE, /* of a session one side goes on, ever */
	SIM_RULE_DENIED, /* who lost the vote lets nothing out any more */
	SIM_RULE_COUNT
};

/* Bugs that can be planted around the machines and in the drivers: plant.c says what each does. */
enum sim_plant {
	SIM_PLANT_NONE,
	SIM_PLANT_RELEASE_AT_SEND,
	SIM_PLANT_PASS_ON_CUT,
	SIM_PLANT_HOLD_FORGOTTEN,
	SIM_PLANT_DROP_FORGOTTEN,
	SIM_PLANT_ABANDON_AT_ONCE,
	SIM_PLANT_REJOIN_COUNTS_FLIGHT,
	SIM_PLANT_NO_RESUME,
	SIM_PLANT_NO_LATE_RESUME,
	SIM_PLANT_SILENCE_IS_DEATH,
	SIM_PLANT_DEATH_SAID_ONCE,
	SIM_PLANT_HANDOVER_UNACKNOWLEDGED,
	SIM_PLANT_PROMOTE_ON_CUT,
	SIM_PLANT_PARTIAL_KEPT,
	SIM_PLANT_PARTIAL_APPLIED,
	SIM_PLANT_ACK_BEFORE_WHOLE,
	SIM_PLANT_ACK_AFTER_PROMOTION,
	SIM_PLANT_DISCARD_FORGOTTEN,
	SIM_PLANT_DISCARD_UNSAID,
	SIM_PLANT_PROMOTION_SAID_ONCE,
	SIM_PLANT_END_IS_DEATH,
	SIM_PLANT_DENIAL_IS_GRANT,
	SIM_PLANT_BOTH_GRANTED,
	SIM_PLANT_NEVER_REDIAL,
	SIM_PLANT_RESEND_TOO_MUCH,
	SIM_PLANT_RELEASE_BACKWARDS,
	SIM_PLANT_APPLY_BEFORE_COMMIT,
	SIM_PLANT_APPLY_BEFORE_JOURNAL,
	SIM_PLANT_ACK_BEFORE_LOGGED,
	SIM_PLANT_READ_PAST_LOG,
	SIM_PLANT_GATE_IGNORED,
	SIM_PLANT_PERMIT_IGNORED,
	SIM_PLANT_DEADLINE_IGNORED,
	SIM_PLANT_DEAD_BEFORE_CUT,
	SIM_PLANT_REDO_FORGOTTEN,
	SIM_PLANT_REDO_BACKWARDS,
	SIM_PLANT_TORN_ENTRY_REDONE,
	SIM_PLANT_PARTIAL_WRITTEN,
	SIM_PLANT_CONFIRM_EARLY,
	SIM_PLANT_CONFIRM_UNJOURNALED,
	SIM_PLANT_MARK_TAKES_LOGGED,
	SIM_PLANT_MARK_NOT_FLUSHED,
	SIM_PLANT_COPY_MISSES_WRITES,
	SIM_PLANT_DELTA_UNTRUSTED,
	SIM_PLANT_RESET_BEFORE_SETTLE,
	SIM_PLANT_BASE_NOT_FLUSHED,
	SIM_PLANT_DIRECT_BEFORE_SETTLED,
	SIM_PLANT_EMPTY_LOG_IS_DRAINED,
	SIM_PLANT_EMPTY_AREA_COUNTS,
	SIM_PLANT_AREA_COUNTS_LATE,
	SIM_PLANT_FIRST_ACK_EARLY,
	SIM_PLANT_PASS_BEFORE_DRAINED,
	SIM_PLANT_FREEZE_FORGOTTEN,
	SIM_PLANT_RUN_BEFORE_WON,
	SIM_PLANT_EXPIRY_IGNORED,
	SIM_PLANT_TENURE_IGNORED,
	SIM_PLANT_DEATH_IS_LEAVE,
	SIM_PLANT_LOSER_GOES_ON,
	SIM_PLANT_DISCARD_UNDECIDED,
	SIM_PLANT_CANCEL_BOUND,
	SIM_PLANT_LEASE_UNSAID,
	SIM_PLANT_LEASE_SAID_EARLY,
	SIM_PLANT_RESTART_RELEASES,
	SIM_PLANT_ANSWER_LOST,
	SIM_PLANT_FENCED_LATE,
	SIM_PLANT_FENCED_ALIVE,
	SIM_PLANT_COUNT
};

/* ---- what is counted ---- */

struct sim_stats {
	uint64_t runs, steps, events, faults, promotions, handovers, outputs, duplicates, lost;
	uint64_t forks; /* two histories by force: see docs/failure-model.md */
	uint64_t vms_lost, vms_ended, commits, sessions, votes;
	uint64_t deltas, disk_writes, cold_starts;
	/* [from][event][to] */
	uint64_t p_edge[HF_PRIMARY_STATE_COUNT][HF_PRIMARY_EVENT_COUNT][HF_PRIMARY_STATE_COUNT];
	uint64_t s_edge[HF_STANDBY_STATE_COUNT][HF_STANDBY_EVENT_COUNT][HF_STANDBY_STATE_COUNT];
	uint64_t hash;
};

/* ---- the outside ---- */

#define SIM_SEEN 4096

struct sim_outside {
	uint64_t next_seq;
	uint64_t seen[SIM_SEEN]; /* digest of each output by number */
	uint64_t last_ns; /* when a new one came */
	uint64_t durable; /* it was told that writes up to this one are on a disk */
	uint64_t gap_inst; /* went live without sending again: some are missing */
};

struct sim_gone_on {
	struct hf_id session;
	uint64_t inst;
};

#define SIM_GONE_ON 128

struct sim_promotion {
	struct hf_id session;
	uint64_t inst;
	uint64_t out_seq; /* outputs of the promoted state: all below */
};

#define SIM_PROMOTIONS 32

typedef void sim_narrator(void *arg, const char *line);

struct sim_world {
	const struct sim_plan *plan;
	struct sim_stats *stats;
	struct sim_rand rand;
	uint64_t now_ns;
	uint64_t event_seq;
	unsigned int n_events;
	struct sim_event events[SIM_EVENTS];
	unsigned int n_deferred;
	struct sim_event deferred[512];
	struct sim_keeper keepers[SIM_NODES];
	bool is_host_down[SIM_NODES];
	unsigned int cuts[SIM_NODES][SIM_NODES]; /* how many faults cut this direction now */
	unsigned int freezes[SIM_NODES];
	unsigned int storage_cuts[SIM_NODES];
	struct sim_area area;
	struct sim_daemon daemons[SIM_NODES];
	uint64_t next_process;
	struct sim_conn conns[SIM_CONNS];
	uint64_t next_conn;
	struct sim_msg msgs[SIM_MSGS];
	int free_msg;
	unsigned int n_epochs;
	uint64_t next_inst;
	uint64_t next_session;
	struct sim_outside outside;
	struct sim_gone_on gone_on[SIM_GONE_ON];
	unsigned int n_gone_on;
	struct sim_promotion promotions[SIM_PROMOTIONS];
	unsigned int n_promotions;
	unsigned int hits[SIM_FAULTS];
	bool is_done[SIM_FAULTS];
	bool is_on[SIM_FAULTS];
	bool is_calm; /* faults are over */
	bool is_forked; /* an operator let two histories exist: promises are off */
	bool is_ended; /* the VM ended by its own wish */
	bool may_be_lost; /* a fault took what nothing stood behind */
	struct hf_id
		forced; /* a session that an operator vouched for, while its old primary may wake */
	bool has_failed;
	char failure[256];
	struct sim_rand
		crash_rand; /* what a loss of power would leave: looked at without a trace */
	struct sim_store stores[SIM_NODES]; /* of each host; shared: the first */
	struct sim_write writes[SIM_WRITES_MAX]; /* under way to an image */
	unsigned int n_writes;
	uint64_t next_write;
	uint64_t next_gen;
	uint64_t n_history; /* writes of the VM, as numbered by the one that counts */
	struct sim_piece history[SIM_HISTORY];
	int owner_node; /* whose disk is the VM's when both hosts have died */
	uint64_t owner; /* the instance that runs the VM that counts: whose writes may land */
	bool is_orphaned[SIM_NODES]; /* a keeper died, its disk process is not proven dead */
	enum sim_plant plant;
	bool is_verbose;
	sim_narrator *narrate;
	void *narrate_arg;
	struct sim_epoch
		epochs[SIM_EPOCHS]; /* the first n_epochs; begin() leaves the rest as it is */
};

/* world.c: running a plan. The result is in w->has_failed and w->failure. */
void sim_run(struct sim_world *w, const struct sim_plan *plan, struct sim_stats *stats);
void sim_post(struct sim_world *w, uint64_t delay_ns, const struct sim_event *ev);
/* A delay of at most @max_ns, drawn as the plan says. */
uint64_t sim_delay(struct sim_world *w, uint64_t max_ns);
void sim_say(struct sim_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_fail(struct sim_world *w, enum sim_rule rule, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
char sim_letter(int node);

/* queue.c: the event queue, a binary heap. */
void sim_queue_push(struct sim_world *w, const struct sim_event *ev);
bool sim_queue_pop(struct sim_world *w, struct sim_event *ret);

/* net.c: connections. A conn id of 0 is none. */
void sim_net_init(struct sim_world *w);
bool sim_net_is_cut(const struct sim_world *w, int from, int to);
struct sim_conn *sim_net_find(struct sim_world *w, uint64_t id);
uint64_t sim_net_connect(struct sim_world *w, int from, int to);
void sim_net_send(struct sim_world *w, uint64_t conn, int from, const struct sim_msg *msg);
/* Orderly: what was sent before still arrives. */
void sim_net_close(struct sim_world *w, uint64_t conn, int node);
/* The process is gone: of what it had sent, any suffix is lost. With @is_silent nobody is told. */
void sim_net_crash(struct sim_world *w, int node, bool is_silent);
void sim_net_reset(struct sim_world *w, int a, int b);
void sim_net_healed(struct sim_world *w, int from, int to);
/* Take the next message of @dir; false: none, or it has to wait. */
bool sim_net_deliver(struct sim_world *w, const struct sim_event *ev, struct sim_msg *ret);

/* guest.c: the guest and the tap. */
void sim_guest_init(struct sim_guest *g, uint64_t seed);
uint64_t sim_guest_digest(const struct sim_guest *g);
void sim_guest_run(struct sim_world *w, struct sim_keeper *k);
void sim_tap_release(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_tap_pass(struct sim_world *w, struct sim_keeper *k);
void sim_tap_mark(struct sim_keeper *k, uint64_t epoch);

/* keeper.c: what both roles share. */
void sim_keeper_start(struct sim_world *w, int node, bool is_primary);
void sim_keeper_stop(struct sim_world *w, struct sim_keeper *k); /* the process is gone */
void sim_keeper_handle(struct sim_world *w, const struct sim_event *ev);
struct sim_item *sim_keeper_item(struct sim_world *w, struct sim_keeper *k,
				 enum sim_item_kind kind);
void sim_keeper_work(struct sim_world *w, struct sim_keeper *k);
void sim_keeper_post(struct sim_world *w, struct sim_keeper *k, uint64_t max_ns,
		     const struct sim_event *ev);

/* message.c: what came over a connection; ticks, dialling and asking about the dead. */
void sim_keeper_message(struct sim_world *w, struct sim_keeper *k, struct sim_conn *c,
			const struct sim_msg *msg);
void sim_keeper_link_gone(struct sim_world *w, struct sim_keeper *k, uint64_t conn);
void sim_keeper_tick(struct sim_world *w, struct sim_keeper *k);
void sim_keeper_refused(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev);
void sim_keeper_answered(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev);
void sim_keeper_fenced(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev);
void sim_primary_event(struct sim_world *w, struct sim_keeper *k, enum hf_primary_event_kind kind,
		       uint64_t epoch, struct hf_id session);
void sim_standby_event(struct sim_world *w, struct sim_keeper *k, enum hf_standby_event_kind kind,
		       uint64_t epoch, struct hf_id session);
void sim_primary_peer_dead(struct sim_world *w, struct sim_keeper *k);

/* primary.c, standby.c: carrying out actions. */
void sim_primary_do(struct sim_world *w, struct sim_keeper *k, const struct hf_primary_action *a);
void sim_primary_snapshot(struct sim_world *w, struct sim_keeper *k);
void sim_primary_captured(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev);
void sim_primary_sync(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev);
void sim_primary_attach(struct sim_world *w, struct sim_keeper *k, const struct sim_item *item);
void sim_standby_do(struct sim_world *w, struct sim_keeper *k, const struct hf_standby_action *a);
void sim_standby_accept(struct sim_world *w, struct sim_keeper *k, const struct sim_item *item);
void sim_standby_reply(struct sim_world *w, struct sim_keeper *k, const struct sim_item *item);
void sim_standby_whole(struct sim_world *w, struct sim_keeper *k, uint64_t epoch, int slot);
void sim_standby_resend(struct sim_world *w, struct sim_keeper *k);
void sim_standby_loaded(struct sim_world *w, struct sim_keeper *k);
void sim_standby_live(struct sim_world *w, struct sim_keeper *k);

/* vote.c: what keepers ask, and what is true of it. */
bool sim_has_vote(const struct sim_world *w);
void sim_vote_ask(struct sim_world *w, struct sim_keeper *k, bool is_standby, uint64_t lver);
void sim_vote_verdict(struct sim_world *w, struct sim_keeper *k, const struct sim_event *ev);
bool sim_vote_is_lost(const struct sim_world *w, const struct sim_keeper *s);
bool sim_vote_has_bid(const struct sim_world *w, int node, const struct sim_keeper *s);
bool sim_vote_may_go_on(const struct sim_world *w, const struct sim_keeper *k);
bool sim_vote_may_run(const struct sim_world *w, const struct sim_keeper *k);
void sim_vote_lease_renewed(struct sim_world *w, struct sim_keeper *k);
void sim_vote_go_on(struct sim_world *w, struct sim_keeper *k);
void sim_check_owner(struct sim_world *w, int node, uint64_t lver);
void sim_check_may_go_on(struct sim_world *w, const struct sim_keeper *k);
void sim_check_gone_on(struct sim_world *w, const struct sim_keeper *k, struct hf_id session);
void sim_check_denied(struct sim_world *w, const struct sim_keeper *k);

/* lease-daemon.c: a host's daemon. */
void sim_daemons_init(struct sim_world *w);
void sim_daemon_stop(struct sim_world *w, int node, bool is_power);
void sim_daemon_start(struct sim_world *w, int node);
void sim_daemon_work(struct sim_world *w, int node);
void sim_daemon_event(struct sim_world *w, const struct sim_event *ev);
void sim_daemon_renew(struct sim_world *w, const struct sim_event *ev);
void sim_daemon_ask(struct sim_world *w, struct sim_keeper *k, bool is_standby, uint64_t lver,
		    uint64_t at_ns);
void sim_daemon_hasten(struct sim_world *w, struct sim_keeper *k);
void sim_daemon_cancel(struct sim_world *w, struct sim_keeper *k);
void sim_daemon_release(struct sim_world *w, struct sim_keeper *k);
void sim_daemon_keeper_gone(struct sim_world *w, struct sim_keeper *k, bool is_pledged);
void sim_daemon_start_vm(struct sim_world *w, int node);

/* lease-disk.c: the sectors. */
void sim_area_init(struct sim_world *w);
uint32_t sim_area_stride(void);
uint64_t sim_area_owner_of(const struct sim_world *w, uint64_t lver);
bool sim_area_has_bid(const struct sim_world *w, int node, uint64_t lver);
bool sim_area_is_writing(const struct sim_world *w, int node, bool is_leader);
void sim_area_write(struct sim_world *w, int node, const struct hf_ballot_action *a,
		    uint64_t delay_ns, bool is_failing);
void sim_area_land(struct sim_world *w, const struct sim_event *ev);
void sim_area_power_loss(struct sim_world *w, int node);

/* check.c: the checkers that look at keepers. */
/* What was captured as @epoch of @session; NULL: nothing. */
const struct sim_epoch *sim_find_epoch(const struct sim_world *w, struct hf_id session,
				       uint64_t epoch);
void sim_check_world(struct sim_world *w);
void sim_check_promote(struct sim_world *w, struct sim_keeper *k, uint64_t epoch);
void sim_note_promotion(struct sim_world *w, struct sim_keeper *k);
void sim_check_begin(struct sim_world *w, struct sim_keeper *k);
void sim_check_proof(struct sim_world *w, struct sim_keeper *k, struct hf_id session);
void sim_check_calm(struct sim_world *w);
void sim_note_death(struct sim_world *w, int node);

/* outside.c: what the world outside sees of the VM. */
void sim_outside_sees(struct sim_world *w, struct sim_keeper *k, const struct sim_output *o,
		      bool is_again);

/* fault.c: striking. */
void sim_fault_point(struct sim_world *w, int node, enum sim_when when, unsigned int point);
void sim_fault_strike(struct sim_world *w, unsigned int i);
void sim_fault_undo(struct sim_world *w, unsigned int i);
void sim_fault_heal_all(struct sim_world *w);

/* plan.c: a plan from a seed. */
void sim_plan_draw(struct sim_plan *plan, uint64_t seed);

/* plant.c: bugs on purpose. Each rewrites what goes into a machine and what comes out of it. */
extern const struct simkit_plant sim_plants[SIM_PLANT_COUNT];
void sim_plant_primary_event(enum sim_plant plant, const struct hf_primary *p,
			     struct hf_primary_event *ev);
void sim_plant_primary_actions(enum sim_plant plant, const struct hf_primary *before,
			       const struct hf_primary_event *ev, struct hf_primary *after,
			       struct hf_primary_actions *out);
void sim_plant_standby_event(enum sim_plant plant, const struct hf_standby *s,
			     struct hf_standby_event *ev);
void sim_plant_standby_actions(enum sim_plant plant, const struct hf_standby *before,
			       const struct hf_standby_event *ev, struct hf_standby *after,
			       struct hf_standby_actions *out);

/* names.c */
extern const char *const sim_rule_names[SIM_RULE_COUNT];
extern const char *const sim_primary_event_names[HF_PRIMARY_EVENT_COUNT];
extern const char *const sim_primary_action_names[HF_PRIMARY_ACTION_COUNT];
extern const char *const sim_standby_event_names[HF_STANDBY_EVENT_COUNT];
extern const char *const sim_standby_action_names[HF_STANDBY_ACTION_COUNT];
extern const char *const sim_msg_names[SIM_MSG_COUNT];
extern const char *const sim_fault_names[SIM_FAULT_COUNT];

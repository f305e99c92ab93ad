/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The world of the lease simulator: machines, their daemons and VMs, and one shared disk, in virtual
 * time.
 *
 * Theory of operation. All that happens is an event in one queue, ordered by time and then by the
 * order of posting; every chance comes from one generator. A plan (a seed, settings, a list of
 * faults) always runs the same way. Daemons are drivers: they hold the real machines of src/core and
 * do what their actions say. Each I/O is prepared (the clock is read), submitted, takes effect, and
 * is reported: four events, and a machine may stand still or die between any two. One machine may be
 * a sanlock host: rules of its own, written from its documentation (sanlock.c).
 *
 * What the disk may do (disk.c). A read sees each sector at some moment between its submission and
 * its end, not all at the same one. A write takes effect whole at such a moment. A write that was
 * reported as failed, or whose writer died, may have taken effect, may never, or may do so later,
 * over whatever stands there then; a block not later than HF_BALLOT_SETTLE_MS. A confirmed one may
 * take effect a second time, but not over a later confirmed one of the same machine to the same
 * sector; a slot's, not over any later one. A machine that loses power in the middle of a write may
 * leave a damaged sector.
 *
 * The checkers (check.c) see everything, in true time, and take no part.
 *
 * One thread; nothing blocks; memory is static.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ballot.h"
#include "core/hostlease.h"
#include "core/lease.h"
#include "simkit/rand.h"
#include "simkit/simkit.h"

#define LS_MS UINT64_C(1000000)
#define LS_S UINT64_C(1000000000)
#define LS_MACHINES 6
#define LS_IDS 6 /* host ids 1..6 */
#define LS_LEASES 2
#define LS_MAX_HOSTS 8 /* by the geometry */
#define LS_LVERS 1024
#define LS_NONE (-1)
#define LS_ANY (-1) /* as the machine of a fault: whoever comes by the point, or runs the VM */

/* ---- the disk ---- */

struct ls_slot {
	bool is_damaged;
	struct hf_lease_slot slot;
};

struct ls_leader {
	bool is_damaged;
	struct hf_lease_leader leader;
};

/* A lease's area as a read shows it. Blocks of hosts 1..LS_IDS are at 0..LS_IDS-1. */
struct ls_area {
	struct ls_leader leader;
	struct hf_lease_block blocks[LS_IDS];
};

enum ls_io_kind { LS_IO_READ_SLOTS, LS_IO_READ_AREA, LS_IO_SLOT, LS_IO_LEADER, LS_IO_BLOCK };

/* Who is told about its end. */
enum ls_io_for { LS_FOR_MEMBER, LS_FOR_WORK, LS_FOR_AWAIT };

struct ls_io {
	enum ls_io_kind kind;
	enum ls_io_for what_for;
	unsigned int refs; /* events that name it; 0: not in use */
	int machine;
	uint64_t inst; /* of the daemon that gave it */
	int lease;
	uint64_t id; /* SLOT, BLOCK: whose sector */
	uint64_t order; /* of submission, 0: not yet */
	uint64_t issued_ns; /* on the machine's clock, before the submission */
	uint64_t serial; /* of the operation that it is for */
	bool is_failed; /* as reported */
	bool is_landed, is_dropped, is_torn;
	bool is_unsettled; /* given up, but may land */
	bool is_first; /* BLOCK: the operation's value is named for the first time */
	bool is_settled; /* failed, and known to have landed or never to do so */
	unsigned int first_part; /* READ_*: sectors that are read first */
	union {
		struct ls_slot slots[LS_IDS];
		struct ls_area area;
		struct ls_slot slot;
		struct ls_leader leader;
		struct hf_lease_block block;
	} u;
};

#define LS_IOS 128

struct ls_disk {
	struct ls_slot slots[LS_IDS];
	struct ls_area areas[LS_LEASES];
};

/* ---- machines ---- */

/* The lease page: what a daemon leaves to the next one and shows to keepers. On the own clock. */
struct ls_page {
	uint64_t generation, instance, tenure;
	uint64_t valid_ns, fence_ns;
};

/* An operation on a lease: core/ballot.h with this disk. */
struct ls_work {
	bool is_active;
	bool is_looking; /* waits for a sight of the owner */
	bool is_io_out; /* also of an operation that is over */
	bool was_bound; /* has named a value on the disk */
	struct hf_ballot b;
	struct hf_ballot_action act; /* under way */
	uint64_t serial;
	uint64_t tenure; /* when it began: what it finds out belongs to this one */
	uint64_t began_ns; /* true time */
	struct ls_area last; /* as read last */
	bool has_read;
	uint64_t looked_owner;
	enum hf_lease_life looked_life;
};

enum ls_vm_state {
	LS_VM_NONE,
	LS_VM_ACQUIRING, /* no VM yet; the lease is asked for */
	LS_VM_RUNNING, /* acts, while its guard says so */
	LS_VM_STOPPED, /* the host lease had run out: it has to be claimed anew */
	LS_VM_CLAIMING,
	LS_VM_GIVING, /* stopped, the lease goes to another host */
	LS_VM_RELEASING, /* ended */
	LS_VM_PREPARING, /* destination of a transfer */
	LS_VM_AWAITING,
	LS_VM_STANDBY, /* of `partner`, which owns `lver` */
	LS_VM_VOTING, /* a standby that has lost its primary */
	LS_VM_HOLDING, /* a primary that has lost its standby */
	LS_VM_STATE_COUNT
};

/* A keeper: the VM of one lease on one machine. */
struct ls_vm {
	enum ls_vm_state state;
	uint64_t lver, generation, tenure;
	unsigned int slack; /* permille of the time from valid_ns to fence_ns that stopping takes */
	int partner; /* the other machine of a transfer or a pair */
	bool is_standby_gone; /* the partner has discarded what it held */
	bool was_interrupted; /* the daemon died in a transfer: nothing is known of it */
	uint64_t to, to_generation; /* of that transfer */
	uint64_t until_ns; /* AWAITING */
	bool is_read_out; /* AWAITING */
};

struct ls_san;

struct ls_machine {
	bool is_up, is_retired;
	bool is_paused; /* all of it; */
	bool is_hung; /* only its daemon: its VMs go on as long as the page lets them */
	bool is_sanlock, is_twin;
	bool skips_guard; /* planted: it woke up and did not look */
	uint64_t id;
	char name[HF_LEASE_NAME_BYTES + 1];
	uint64_t offset_ns;
	uint64_t rate_ppm;
	unsigned int pauses, hangs, cuts, slows, errors, doubles; /* how many faults are on now */
	struct ls_page page;
	uint64_t inst; /* of the daemon; 0: none runs */
	uint64_t
		settled_ns; /* own clock: no operation before; writes of the last daemon may land */
	bool is_leaving; /* no operation begins any more */
	struct hf_host host;
	uint64_t wake_serial;
	struct hf_lease_sight sights[LS_IDS];
	struct ls_work works[LS_LEASES];
	struct ls_vm vms[LS_LEASES];
	uint64_t valid_since_ns; /* true time: since when it has been valid without a gap */
	uint64_t seen_fence_ns, valid_generation;
};

/* ---- events ---- */

enum ls_event_kind {
	LS_EV_SUBMIT, /* a: the I/O */
	LS_EV_EFFECT, /* b: 1 the second half of a read, or again */
	LS_EV_DONE,
	LS_EV_WAKE_MEMBER, /* b: serial */
	LS_EV_WAKE_WORK, /* a: lease, b: serial */
	LS_EV_TICK,
	LS_EV_DAEMON, /* one is started */
	LS_EV_BOOT,
	LS_EV_FAULT, /* a: index in the plan */
	LS_EV_UNDO,
	LS_EV_CALM,
	LS_EV_FENCED, /* it is told that a machine was: a: which, b: when, in true time */
	LS_EV_SAN, /* sanlock: a: lease or LS_NONE, b: serial */
};

struct ls_event {
	uint64_t at_ns;
	uint64_t seq;
	enum ls_event_kind kind;
	int machine;
	int a;
	uint64_t inst;
	uint64_t b;
};

#define LS_EVENTS 1024

/* ---- plans ---- */

enum ls_fault_kind {
	LS_FAULT_PAUSE, /* all of the machine stands still */
	LS_FAULT_HANG, /* its daemon does */
	LS_FAULT_POWER, /* it goes down; boots after the duration */
	LS_FAULT_FENCE, /* the same, and others are told, sooner or later, that it was done */
	LS_FAULT_KILL, /* its daemon dies; the next one starts after the duration */
	LS_FAULT_CUT, /* it cannot reach the disk */
	LS_FAULT_SLOW, /* its I/O takes long */
	LS_FAULT_ERRORS, /* some of its I/O fails */
	LS_FAULT_DOUBLE, /* some of its writes land twice */
	LS_FAULT_LOSE, /* standbys on this machine take their primary for lost */
	LS_FAULT_COUNT
};

enum ls_point {
	LS_POINT_READ_SLOTS, /* is about to be submitted */
	LS_POINT_SLOT,
	LS_POINT_READ_AREA,
	LS_POINT_PHASE1,
	LS_POINT_PHASE2,
	LS_POINT_LEADER,
	LS_POINT_SLOTS_READ, /* is about to be reported */
	LS_POINT_SLOT_WRITTEN,
	LS_POINT_AREA_READ,
	LS_POINT_PHASE1_WRITTEN,
	LS_POINT_PHASE2_WRITTEN,
	LS_POINT_LEADER_WRITTEN,
	LS_POINT_COUNT,
	LS_POINT_TIME = LS_POINT_COUNT /* at a time instead */
};

struct ls_fault {
	enum ls_fault_kind kind;
	int machine;
	unsigned int point; /* of this machine */
	unsigned int nth;
	uint64_t at_ns; /* the time, or how long after the point */
	uint64_t for_ns;
};

#define LS_FAULTS 24

/* What the keepers do besides acquiring, as bits. */
enum ls_do {
	LS_DO_RELEASE,
	LS_DO_TRANSFER,
	LS_DO_PAIR,
	LS_DO_DIE,
	LS_DO_LEAVE,
	LS_DO_CANCEL,
	LS_DO_REQUEST,
	LS_DO_COUNT
};

struct ls_plan {
	uint64_t seed;
	int n_machines; /* sanlock's and the twin included */
	int n_leases;
	bool has_sanlock; /* the last machine */
	bool has_twin; /* the last machine has the first one's host id */
	bool is_twin_namesake;
	bool is_edge; /* delays are the shortest or the longest there are, half of the time */
	bool may_tear;
	/* The tenure of an operation is that of its first commitment, and who cancels does not wait for
	 * I/O; otherwise as core/ballot.h has it: that of its beginning, and he does. */
	bool is_like_daemon;
	bool is_unordered; /* the disk keeps no order at all: outside of what is promised */
	uint32_t io_timeout_s;
	uint32_t renew_ms[LS_MACHINES], fence_ms[LS_MACHINES], stop_ms[LS_MACHINES];
	uint64_t rate_ppm[LS_MACHINES];
	uint64_t offset_ns[LS_MACHINES];
	uint64_t io_ns, late_ns, tick_ns;
	unsigned int does, busy; /* busy: how often, 1..8 */
	uint64_t safety_ns, calm_ns;
	unsigned int n_faults;
	struct ls_fault faults[LS_FAULTS];
};

/* ---- what is checked ---- */

enum ls_rule {
	LS_RULE_NONE,
	LS_RULE_ONE_OWNER, /* at most one VM of a lease can act, and never one of an older lver */
	LS_RULE_ONE_VALUE, /* one value for one lver */
	LS_RULE_TRUE, /* results say what was decided */
	LS_RULE_NOT_ROBBED, /* what an owner has that is alive and did not consent, stays his */
	LS_RULE_NOT_FREE, /* a lease that is being given is never free */
	LS_RULE_GENERATION, /* it does not move under VMs, nor back; one valid host for an id */
	LS_RULE_DAMAGE, /* nothing is written to a lease with a damaged leader */
	LS_RULE_PROGRESS, /* after faults heal all operations end and every lease gets an owner */
	LS_RULE_COUNT
};

/* Bugs that can be planted: plant.c says what each does. */
enum ls_plant {
	LS_PLANT_NONE,
	LS_PLANT_OLD_EVIDENCE,
	LS_PLANT_SEEN_AT_END,
	LS_PLANT_FIRST_SEEN_AT_ISSUE,
	LS_PLANT_MARGIN_IGNORED,
	LS_PLANT_CLAIM_AT_END,
	LS_PLANT_OWN_VALUE,
	LS_PLANT_NO_REREAD,
	LS_PLANT_HIGHER_IGNORED,
	LS_PLANT_MBAL_SHARED,
	LS_PLANT_BAL_FORGOTTEN,
	LS_PLANT_RELEASED_KEPT,
	LS_PLANT_TRANSFER_FREE,
	LS_PLANT_WRITE_ID_GIVER,
	LS_PLANT_OLD_GENERATION,
	LS_PLANT_AWAIT_NOTHING,
	LS_PLANT_RELEASE_BLIND,
	LS_PLANT_RELEASE_RUNNING,
	LS_PLANT_FAILURE_ASSUMED,
	LS_PLANT_SUCCESS_ASSUMED,
	LS_PLANT_CANCEL_BOUND,
	LS_PLANT_WRONG_LVER,
	LS_PLANT_PRIMARY_ACTS,
	LS_PLANT_JOIN_UNDER_VMS,
	LS_PLANT_RESUME_ANYWAY,
	LS_PLANT_JOIN_AT_ONCE,
	LS_PLANT_REVIVED,
	LS_PLANT_TENURE_KEPT,
	LS_PLANT_TENURE_AT_END,
	LS_PLANT_WAKES_BLIND,
	LS_PLANT_DAMAGE_IGNORED,
	LS_PLANT_GIVES_UP,
	LS_PLANT_NOT_SETTLED,
	LS_PLANT_LOST_IS_WON,
	LS_PLANT_FENCED_LATE,
	LS_PLANT_FENCED_KEPT,
	LS_PLANT_FENCED_EARLY,
	LS_PLANT_COUNT
};

/* What is known of one lver of one lease. */
struct ls_decided {
	uint64_t owner, generation; /* owner 0: nothing is decided */
	uint64_t at_ns;
	int machine; /* the owner's */
	bool is_released; /* its owner has begun to release it */
	uint64_t may_claim; /* ids that its owner has let claim it or given it to, as bits */
};

struct ls_stats {
	uint64_t runs, events, faults, ios, failed_ios, late, twice, torn, renewals, expiries,
		resumes, excused, pairs, took_over, sanlock_wins, fencings, fenced_dead;
	uint64_t results[HF_BALLOT_OP_COUNT][HF_BALLOT_RESULT_COUNT];
	uint64_t slowest_ns,
		slowest_seed; /* from the end of faults until all is well, no sanlock */
	uint64_t hash;
};

/* sanlock.c: a host of the other kind, as its documentation has it. */
struct ls_san_work {
	unsigned int stage;
	struct ls_area area; /* as it was before the owner was looked at */
	uint64_t lver; /* that the ballot is for */
	struct hf_lease_block own;
	struct hf_lease_leader leader;
};

struct ls_san {
	unsigned int stage;
	bool is_member, is_failing;
	uint64_t generation, serial;
	uint64_t renewed_ns; /* own clock: issue of the last renewal that succeeded */
	uint64_t limit_ns; /* its VMs stand still then: killed, or the watchdog has fired */
	struct hf_lease_slot own;
	struct {
		struct hf_lease_slot slot;
		uint64_t since_ns; /* 0: never seen */
	} sights[LS_IDS];
	struct ls_san_work works[LS_LEASES];
};

typedef void ls_narrator(void *arg, const char *line);

struct ls_world {
	const struct ls_plan *plan;
	struct ls_stats *stats;
	struct simkit_rand rand;
	uint64_t now_ns;
	uint64_t event_seq, io_order, next_serial;
	unsigned int n_events, n_deferred;
	struct ls_event events[LS_EVENTS];
	struct ls_event deferred[LS_EVENTS];
	struct ls_io ios[LS_IOS];
	/* order of the newest confirmed write of each machine to each sector */
	uint64_t settled_slot[LS_MACHINES];
	uint64_t landed_slot[LS_MACHINES]; /* the newest that has landed, confirmed or not */
	uint64_t settled_leader[LS_MACHINES][LS_LEASES];
	uint64_t settled_block[LS_MACHINES][LS_LEASES];
	struct ls_disk disk;
	struct ls_machine machines[LS_MACHINES];
	struct ls_san san;
	struct ls_decided decided[LS_LEASES][LS_LVERS];
	uint64_t acted_lver[LS_LEASES];
	uint64_t request_lver[LS_LEASES]; /* asked for; 0: nobody has */
	uint64_t giving_lver[LS_LEASES]; /* 0: not being given */
	uint64_t max_generation[LS_IDS]; /* that a VM has run under */
	unsigned int hits[LS_FAULTS];
	bool is_done[LS_FAULTS];
	int struck[LS_FAULTS]; /* the machine that it was */
	bool is_calm, is_well;
	uint64_t calm_at_ns;
	bool has_failed;
	char failure[256];
	enum ls_plant plant;
	ls_narrator *narrate;
	void *narrate_arg;
};

/* world.c */
void ls_run(struct ls_world *w, const struct ls_plan *plan, struct ls_stats *stats);
void ls_post(struct ls_world *w, uint64_t delay_ns, const struct ls_event *ev);
uint64_t ls_delay(struct ls_world *w, uint64_t max_ns);
void ls_say(struct ls_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ls_fail(struct ls_world *w, enum ls_rule rule, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
uint64_t ls_local_ns(const struct ls_world *w, const struct ls_machine *m);
uint64_t ls_local_at(const struct ls_machine *m, uint64_t true_ns);
/* True time from now until the machine's clock shows @local_ns. */
uint64_t ls_until_ns(const struct ls_world *w, const struct ls_machine *m, uint64_t local_ns);
int ls_index(const struct ls_world *w, const struct ls_machine *m);
/* Letters for people: A is the first machine. */
char ls_letter(int machine);
void ls_machine_start(struct ls_world *w, struct ls_machine *m); /* its daemon */
void ls_machine_kill(struct ls_world *w, struct ls_machine *m); /* its daemon */
void ls_machine_power_off(struct ls_world *w, struct ls_machine *m);
bool ls_machine_is_still(const struct ls_machine *m); /* nothing of its daemon moves */
void ls_machine_wake(struct ls_world *w, struct ls_machine *m);

/* disk.c */
struct ls_io *ls_io_new(struct ls_world *w, struct ls_machine *m, enum ls_io_kind kind,
			enum ls_io_for what_for);
void ls_io_submit(struct ls_world *w, struct ls_io *io); /* posts; it goes out a moment later */
void ls_io_submitted(struct ls_world *w, const struct ls_event *ev);
void ls_io_effect(struct ls_world *w, const struct ls_event *ev);
void ls_io_done(struct ls_world *w, const struct ls_event *ev);
void ls_io_unref(struct ls_io *io);
/* Its writer is gone: what becomes of what was under way. */
void ls_disk_orphan(struct ls_world *w, struct ls_machine *m, bool is_power);

/* member.c: the host lease. */
void ls_member_start(struct ls_world *w, struct ls_machine *m);
void ls_member_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io);
void ls_member_wake(struct ls_world *w, struct ls_machine *m, uint64_t serial);
void ls_member_leave(struct ls_world *w, struct ls_machine *m);
bool ls_member_is_valid(const struct ls_world *w, const struct ls_machine *m);

/* work.c: operations. */
bool ls_work_may_begin(const struct ls_world *w, const struct ls_machine *m, int lease);
void ls_work_begin(struct ls_world *w, struct ls_machine *m, int lease,
		   const struct hf_ballot_want *want);
/* A write that commits goes out under a valid host lease only; false: the operation has ended. */
bool ls_work_may_go(struct ls_world *w, struct ls_machine *m, const struct ls_io *io);
void ls_work_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io);
void ls_work_wake(struct ls_world *w, struct ls_machine *m, int lease, uint64_t serial);
void ls_work_sights(struct ls_world *w, struct ls_machine *m);
void ls_work_cancel(struct ls_world *w, struct ls_machine *m, int lease);

/* keeper.c: VMs and what is done with them. */
void ls_keeper_tick(struct ls_world *w, struct ls_machine *m);
void ls_keeper_look(struct ls_world *w, struct ls_machine *m); /* at the page */
void ls_keeper_done(struct ls_world *w, struct ls_machine *m, int lease,
		    const struct hf_ballot_action *a);
void ls_keeper_await_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io);
void ls_keeper_daemon_died(struct ls_world *w, struct ls_machine *m);
void ls_keeper_lose(struct ls_world *w, struct ls_machine *m);
bool ls_keeper_uses_page(const struct ls_machine *m);
bool ls_vm_can_act(const struct ls_world *w, const struct ls_machine *m, int lease);

/* sanlock.c: a host of the other kind. */
void ls_san_start(struct ls_world *w, struct ls_machine *m);
void ls_san_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io);
void ls_san_wake(struct ls_world *w, struct ls_machine *m, const struct ls_event *ev);
void ls_san_tick(struct ls_world *w, struct ls_machine *m);
bool ls_san_can_act(const struct ls_world *w, const struct ls_machine *m, int lease);

/* check.c */
void ls_check_world(struct ls_world *w);
void ls_check_leader(struct ls_world *w, struct ls_machine *m, int lease,
		     const struct hf_lease_leader *l);
void ls_check_landed(struct ls_world *w, int lease, const struct hf_lease_leader *l);
void ls_check_done(struct ls_world *w, struct ls_machine *m, int lease,
		   const struct hf_ballot_action *a);
void ls_check_publish(struct ls_world *w, struct ls_machine *m);
void ls_check_progress(struct ls_world *w); /* at the end */
bool ls_check_is_well(struct ls_world *w);
struct ls_decided *ls_decided_at(struct ls_world *w, int lease, uint64_t lver);

/* fault.c */
/* @m is told that machine @who was fenced, at @at_ns of true time. */
void ls_fault_told(struct ls_world *w, struct ls_machine *m, int who, uint64_t at_ns);
void ls_fault_point(struct ls_world *w, struct ls_machine *m, unsigned int point);
void ls_fault_strike(struct ls_world *w, int i);
void ls_fault_undo(struct ls_world *w, int i);
void ls_fault_heal_all(struct ls_world *w);

/* plan.c */
void ls_plan_draw(struct ls_plan *plan, uint64_t seed);
void ls_plan_print(const struct ls_plan *plan);

/* plant.c: bugs on purpose. */
extern const struct simkit_plant ls_plants[LS_PLANT_COUNT];
void ls_plant_host_event(struct ls_world *w, struct ls_machine *m, struct hf_host_event *ev);
void ls_plant_want(struct ls_world *w, struct ls_machine *m, int lease,
		   struct hf_ballot_want *want);
void ls_plant_ballot_read(struct ls_world *w, struct ls_machine *m, int lease, struct ls_area *area,
			  struct hf_ballot_event *ev);
void ls_plant_ballot_action(struct ls_world *w, struct ls_machine *m, int lease,
			    struct hf_ballot_action *a);
enum hf_lease_life ls_plant_life(struct ls_world *w, struct ls_machine *m,
				 const struct hf_ballot_action *look);

/* names.c */
extern const char *const ls_rule_names[LS_RULE_COUNT];
extern const char *const ls_fault_names[LS_FAULT_COUNT];
extern const char *const ls_point_names[LS_POINT_COUNT + 1];
extern const char *const ls_vm_state_names[LS_VM_STATE_COUNT];

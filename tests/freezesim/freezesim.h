/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The world of the freeze simulator: one host with a QEMU, a disk process, a cgroup, storage for what
 * must be remembered, a lease, keepers that come and go, attackers; and somebody elsewhere who starts the
 * VM as soon as he may. Virtual time.
 *
 * Theory of operation. All that happens is an event in one queue, ordered by time and then by the order of
 * posting; every chance comes from one generator. A plan (a seed, settings, a list of faults) always runs
 * the same way. The keeper (keeper.c) is a driver: it holds the real machines of src/core, does what their
 * actions say by giving jobs to the host (host.c), and reports what came of them. A job that cannot be
 * done now, for what it needs hangs, is tried again when that may be over. The kernel's jobs (a signal, the
 * freezing of a cgroup) go on when the keeper dies; its own do not.
 *
 * What the keeper's death does: taps close, QEMU and disk process get SIGKILL; of the files the write
 * that is under way lands whole or not at all, no later than the keeper is gone for good. The next keeper
 * starts after that and looks at what is written. Faults last until they heal, at the latest when calm
 * begins; then all has to end.
 *
 * The observer (check.c) sees everything, in true time, and takes no part.
 *
 * One thread; nothing blocks; memory is static.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/freeze.h"
#include "core/vm.h"
#include "simkit/rand.h"
#include "simkit/simkit.h"

#define FS_MS UINT64_C(1000000)
#define FS_S UINT64_C(1000000000)

/* From the moment at which an attack takes effect until QEMU is dying: the notice, and the signal. */
#define FS_REACTION_NS (25 * FS_MS)
#define FS_NOTICE_NS (10 * FS_MS)
#define FS_SIGNAL_NS (5 * FS_MS)
/* Every limit of core/freeze.h one after the other, and as much again. */
#define FS_TOLD_NS (60 * FS_S)

/* ---- plans ---- */

enum fs_fault_kind {
	FS_FAULT_QMP, /* QEMU does not answer; its vCPUs go on */
	FS_FAULT_STATE, /* the device state cannot be had: an error */
	FS_FAULT_STOPPED, /* SIGSTOP */
	FS_FAULT_D_STATE, /* a thread of QEMU is in state D: SIGKILL and freezing wait for it */
	FS_FAULT_QEMU_DIES,
	FS_FAULT_DISKS_HANG, /* the disk process does not flush */
	FS_FAULT_DISKS_D_STATE,
	FS_FAULT_DISKS_DIE,
	FS_FAULT_CGROUP, /* does not freeze */
	FS_FAULT_FILES_HANG,
	FS_FAULT_FILES_FAIL,
	FS_FAULT_LEASE_HANG,
	FS_FAULT_LEASE_FAIL,
	FS_FAULT_VERIFY, /* looking takes long */
	FS_FAULT_KEEPER, /* killed; the next one after the duration */
	FS_FAULT_REBOOT,
	FS_FAULT_CONT, /* attackers: `cont` to QEMU's monitor */
	FS_FAULT_THAW,
	FS_FAULT_SIGCONT,
	FS_FAULT_START, /* an order to the keeper: start it */
	FS_FAULT_RESUME, /* an order to the keeper: let it run */
	FS_FAULT_COUNT
};
#define FS_FIRST_ATTACK FS_FAULT_CONT

struct fs_fault {
	enum fs_fault_kind kind;
	unsigned int nth; /* after so many events of the world; 0: at a time */
	uint64_t at_ns; /* the time, or how long after the event */
	uint64_t for_ns;
};

#define FS_FAULTS 16

struct fs_plan {
	uint64_t seed;
	enum hf_vm_cause cause;
	bool has_nets, has_disks, has_cgroup, has_lease, is_pledged, is_kill_wanted;
	bool has_own_files, are_own_files_missed; /* missed: nobody saw them when it began */
	bool is_guest_stopped; /* QEMU had stopped it, and said so */
	uint64_t delay_ns; /* at most, of what goes well */
	uint64_t safety_ns;
	unsigned int n_faults;
	struct fs_fault faults[FS_FAULTS];
};

/* ---- the host ---- */

enum fs_job_kind {
	FS_JOB_STOP,
	FS_JOB_STATE,
	FS_JOB_DISKS,
	FS_JOB_CGROUP, /* the kernel's from here on */
	FS_JOB_KILL_QEMU,
	FS_JOB_KILL_DISKS,
	FS_JOB_FILE, /* the first of the queue of files */
	FS_JOB_LEASE,
	FS_JOB_VERIFY,
	FS_JOB_CONT,
};

enum fs_content { FS_NOTHING, FS_LATCH, FS_CERTIFICATE };

struct fs_file {
	enum fs_content content;
	bool is_amendment;
};

#define FS_FILES 32

struct fs_host {
	bool is_qemu_alive, is_qemu_killed, is_stopped, is_frozen;
	bool is_cont_pending; /* said to a monitor that could not listen */
	bool is_freeze_wanted; /* cgroup.freeze is written */
	bool is_qemu_signalled, are_disks_signalled; /* SIGKILL is on its way, or was */
	bool are_disks_alive, are_nets_open;
	bool is_lease_held, is_released;
	enum fs_content durable;
	struct fs_file files[FS_FILES]; /* to be written, the first one under way */
	unsigned int n_files;
	uint64_t until_ns[FS_FAULT_COUNT]; /* how long each fault is on */
};

/* ---- a keeper ---- */

enum fs_keeper_state {
	FS_KEEPER_NONE, /* none lives */
	FS_KEEPER_FREEZES,
	FS_KEEPER_GUARDS, /* found the certificate of another one */
	FS_KEEPER_RUNS_ANEW, /* found nothing: the VM had crashed, and is started again */
};

struct fs_keeper {
	enum fs_keeper_state state;
	uint64_t inst; /* which one this is, from 1 */
	struct hf_vm vm;
	struct hf_freeze freeze;
	struct hf_freeze_given given;
	uint64_t began_ns;
	uint64_t timer_ns, timer_serial;
	bool is_told, is_told_stuck;
};

/* ---- events ---- */

enum fs_event_kind {
	FS_EV_BEGIN,
	FS_EV_JOB, /* a: enum fs_job_kind */
	FS_EV_REPORT, /* to the keeper's machine: a: kind, b: step, c: refuted */
	FS_EV_TIMER, /* c: serial */
	FS_EV_FAULT, /* a: index in the plan */
	FS_EV_KEEPER, /* one starts */
	FS_EV_LOOK, /* for the observer, who cannot wait for something to happen */
	FS_EV_CALM,
};

struct fs_event {
	uint64_t at_ns, seq;
	enum fs_event_kind kind;
	unsigned int a, b;
	uint64_t c;
	uint64_t inst; /* of the keeper that it is for, 0: whoever */
};

#define FS_EVENTS 256

/* ---- what is checked ---- */

enum fs_rule {
	FS_RULE_NONE,
	FS_RULE_STILL, /* certified, the guest runs only when woken, and is dying at once then */
	FS_RULE_DISKS, /* certified, no disk can change */
	FS_RULE_NETS, /* certified, no frame can leave */
	FS_RULE_PROOF, /* nobody is told before the certificate is durable */
	FS_RULE_ONE, /* nobody else is let start it while something here can act or be forgotten */
	FS_RULE_KEPT, /* a certificate stays, and what is frozen is not started here again */
	FS_RULE_TOLD, /* what takes long is told */
	FS_RULE_PROGRESS, /* after the faults all ends certified and told */
	FS_RULE_COUNT
};

/* Bugs that can be planted: plant.c says what each does. */
enum fs_plant {
	FS_PLANT_NONE,
	FS_PLANT_CGROUP_ASSUMED,
	FS_PLANT_DISKS_ASSUMED,
	FS_PLANT_DISKS_FLUSHED,
	FS_PLANT_DEATH_ASSUMED,
	FS_PLANT_NETS_OPEN,
	FS_PLANT_BLIND,
	FS_PLANT_LATCH_ASSUMED,
	FS_PLANT_CERTIFY_ASSUMED,
	FS_PLANT_TELL_EARLY,
	FS_PLANT_LEASE_FIRST,
	FS_PLANT_FILES_UNORDERED,
	FS_PLANT_WOKEN_IGNORED,
	FS_PLANT_WOKEN_WHILE_PROVING,
	FS_PLANT_NO_DEATH_SIGNAL,
	FS_PLANT_LATCH_FORGOTTEN,
	FS_PLANT_PIDS_FORGOTTEN,
	FS_PLANT_START_OBEYED,
	FS_PLANT_RESUME_OBEYED,
	FS_PLANT_NETS_REOPENED,
	FS_PLANT_TIMER_LOST,
	FS_PLANT_DEATH_LOST,
	FS_PLANT_RETRY_LOST,
	FS_PLANT_STUCK_SILENT,
	FS_PLANT_COUNT
};

/* How a run ended. */
enum fs_end {
	FS_END_AT_ONCE, /* certified by the keeper that began, never stuck */
	FS_END_AFTER_STUCK,
	FS_END_BY_NEXT, /* by another keeper, that found the latch */
	FS_END_FOUND, /* another one found the certificate, and told again */
	FS_END_ANEW, /* nothing had been written: a crash like any other */
	FS_END_COUNT
};

struct fs_stats {
	uint64_t runs, events, faults, kills, awakenings, hash;
	uint64_t ends[FS_END_COUNT];
	uint64_t results[HF_FREEZE_STEP_COUNT][HF_FREEZE_RESULT_COUNT];
	uint64_t attacks[FS_FAULT_COUNT]
			[2]; /* how often it had an effect: before, after the proof */
};

typedef void fs_narrator(void *arg, const char *line);

struct fs_world {
	const struct fs_plan *plan;
	struct fs_stats *stats;
	struct simkit_rand rand;
	uint64_t now_ns, event_seq, n_handled;
	unsigned int n_events;
	struct fs_event events[FS_EVENTS];
	bool is_struck[FS_FAULTS];
	bool is_calm;
	struct fs_host host;
	struct fs_keeper keeper;
	bool was_stuck, is_next_due;
	/* the observer's */
	uint64_t certified_ns, running_since_ns, attacked_ns;
	bool is_second_started, was_running;
	bool has_failed;
	char failure[256];
	enum fs_plant plant;
	fs_narrator *narrate;
	void *narrate_arg;
};

/* world.c */
void fs_run(struct fs_world *w, const struct fs_plan *plan, struct fs_stats *stats);
void fs_post(struct fs_world *w, uint64_t delay_ns, const struct fs_event *ev);
uint64_t fs_delay(struct fs_world *w, uint64_t max_ns);
void fs_say(struct fs_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fs_fail(struct fs_world *w, enum fs_rule rule, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* host.c */
void fs_host_init(struct fs_world *w);
bool fs_host_is_running(const struct fs_world *w); /* vCPUs execute */
unsigned int fs_host_refuted(const struct fs_world *w); /* P1 to P3, as they are */
void fs_host_job(struct fs_world *w, enum fs_job_kind kind, uint64_t inst);
void fs_host_start_job(struct fs_world *w, enum fs_job_kind kind);
void fs_host_start_kill(struct fs_world *w, enum fs_job_kind kind);
void fs_host_write(struct fs_world *w, enum fs_content content, bool is_amendment);
void fs_host_close_nets(struct fs_world *w);
bool fs_host_is_on(const struct fs_world *w, enum fs_fault_kind kind);
/* What the kernel does when the keeper is gone. */
void fs_host_keeper_died(struct fs_world *w);
void fs_host_reboot(struct fs_world *w);
void fs_host_cont(struct fs_world *w);
void fs_host_thaw(struct fs_world *w);
void fs_host_qemu_dies(struct fs_world *w);
void fs_host_disks_die(struct fs_world *w);

/* keeper.c */
void fs_keeper_begin(struct fs_world *w); /* the first one, which has run the VM so far */
void fs_keeper_start(struct fs_world *w); /* another one */
void fs_keeper_report(struct fs_world *w, const struct fs_event *ev);
void fs_keeper_timer(struct fs_world *w, uint64_t serial);
void fs_keeper_order(struct fs_world *w, enum fs_fault_kind kind);
void fs_keeper_die(struct fs_world *w, uint64_t next_ns);
/* The host's news, on their way to the keeper that lives now. */
void fs_keeper_tell(struct fs_world *w, uint64_t max_ns, enum hf_freeze_event_kind kind,
		    enum hf_freeze_step step, unsigned int refuted);

/* plan.c */
extern const char *const fs_fault_names[FS_FAULT_COUNT];
void fs_plan_draw(struct fs_plan *p, uint64_t seed);
void fs_plan_print(const struct fs_plan *p);
void fs_fault_strike(struct fs_world *w, unsigned int i);
void fs_fault_heal_all(struct fs_world *w);

/* check.c */
void fs_check(struct fs_world *w); /* after every event */
void fs_check_durable(struct fs_world *w, enum fs_content before);
void fs_check_told(struct fs_world *w);
void fs_check_second(struct fs_world *w, const char *why);
void fs_check_started_here(struct fs_world *w);
void fs_check_end(struct fs_world *w);
extern const char *const fs_end_names[FS_END_COUNT];

/* plant.c */
extern const struct simkit_plant fs_plants[FS_PLANT_COUNT];

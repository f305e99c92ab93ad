/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keepers: the machines of src/core, and their drivers. Never asks the host for what a keeper cannot
 * know. */
#include <string.h>

#include "freezesim.h"

static void feed(struct fs_world *w, struct hf_freeze_event *ev);

void fs_keeper_tell(struct fs_world *w, uint64_t max_ns, enum hf_freeze_event_kind kind,
		    enum hf_freeze_step step, unsigned int refuted)
{
	fs_post(w, fs_delay(w, max_ns),
		&(struct fs_event){ .kind = FS_EV_REPORT,
				    .a = kind,
				    .b = step,
				    .c = refuted,
				    .inst = w->keeper.inst });
}

static enum hf_vm_action live(struct fs_world *w, enum hf_vm_event_kind kind,
			      enum hf_vm_cause cause)
{
	struct hf_vm_event ev = { .kind = kind,
				  .cause = cause,
				  .severity = HF_VM_FATAL,
				  .is_running = true,
				  .now_ns = w->now_ns };

	return hf_vm_step(&w->keeper.vm, &ev);
}

static void told(struct fs_world *w)
{
	w->keeper.is_told = true;
	fs_say(w, "told: FROZEN");
	(void)live(w, HF_VM_EV_FROZEN, 0);
	fs_check_told(w);
}

static void do_kill_qemu(struct fs_world *w)
{
	if (w->plant == FS_PLANT_DEATH_ASSUMED)
		fs_keeper_tell(w, FS_MS, HF_FREEZE_EV_QEMU_DEAD, 0, 0);
	fs_host_start_kill(w, FS_JOB_KILL_QEMU);
}

static void do_kill_disks(struct fs_world *w)
{
	if (w->plant == FS_PLANT_DISKS_ASSUMED)
		fs_keeper_tell(w, FS_MS, HF_FREEZE_EV_DISKS_DEAD, 0, 0);
	fs_host_start_kill(w, FS_JOB_KILL_DISKS);
}

/* Another keeper's disk process has nobody who could tell it to end. */
static void do_disks(struct fs_world *w)
{
	if (w->keeper.inst == 1)
		fs_host_start_job(w, FS_JOB_DISKS);
	else
		fs_keeper_tell(w, 0, HF_FREEZE_EV_FAILED, HF_FREEZE_DISKS, 0);
}

static void do_latch(struct fs_world *w)
{
	if (w->host.durable == FS_LATCH || w->plant == FS_PLANT_LATCH_ASSUMED)
		fs_keeper_tell(w, 0, HF_FREEZE_EV_DONE, HF_FREEZE_LATCH, 0);
	if (w->host.durable != FS_LATCH)
		fs_host_write(w, FS_LATCH, false);
}

static void do_nets(struct fs_world *w)
{
	struct hf_freeze_event ev = { .kind = HF_FREEZE_EV_DONE, .step = HF_FREEZE_NETS };

	if (w->plant != FS_PLANT_NETS_OPEN)
		fs_host_close_nets(w);
	feed(w, &ev);
}

static void do_cgroup(struct fs_world *w)
{
	if (w->plant == FS_PLANT_CGROUP_ASSUMED)
		fs_keeper_tell(w, FS_MS, HF_FREEZE_EV_DONE, HF_FREEZE_CGROUP, 0);
	fs_host_start_job(w, FS_JOB_CGROUP);
}

static void do_certify(struct fs_world *w)
{
	if (w->plant == FS_PLANT_CERTIFY_ASSUMED)
		fs_keeper_tell(w, FS_MS, HF_FREEZE_EV_DONE, HF_FREEZE_CERTIFY, 0);
	if (w->plant == FS_PLANT_TELL_EARLY)
		told(w);
	fs_host_write(w, FS_CERTIFICATE, false);
}

static void carry_out(struct fs_world *w, enum hf_freeze_action action)
{
	fs_say(w, "keeper %llu: %s", (unsigned long long)w->keeper.inst,
	       hf_freeze_action_name(action));
	switch (action) {
	case HF_FREEZE_DO_LATCH:
		return do_latch(w);
	case HF_FREEZE_DO_STOP:
		return fs_host_start_job(w, FS_JOB_STOP);
	case HF_FREEZE_DO_NETS:
		return do_nets(w);
	case HF_FREEZE_DO_STATE:
		return fs_host_start_job(w, FS_JOB_STATE);
	case HF_FREEZE_DO_DISKS:
		return do_disks(w);
	case HF_FREEZE_DO_KILL_DISKS:
		return do_kill_disks(w);
	case HF_FREEZE_DO_CGROUP:
		return do_cgroup(w);
	case HF_FREEZE_DO_KILL_QEMU:
		return do_kill_qemu(w);
	case HF_FREEZE_DO_LEASE:
		return fs_host_start_job(w, FS_JOB_LEASE);
	case HF_FREEZE_DO_VERIFY:
		return fs_host_start_job(w, FS_JOB_VERIFY);
	case HF_FREEZE_DO_CERTIFY:
		return do_certify(w);
	case HF_FREEZE_DO_TELL:
		return w->keeper.is_told ? (void)0 : told(w);
	case HF_FREEZE_DO_TELL_STUCK:
		w->was_stuck = true;
		w->keeper.is_told_stuck |= w->plant != FS_PLANT_STUCK_SILENT;
		return;
	case HF_FREEZE_DO_AMEND:
		return fs_host_write(w, FS_CERTIFICATE, true);
	case HF_FREEZE_DO_DROP_STATE:
	case HF_FREEZE_ACTION_COUNT:
		break;
	}
}

static void arm(struct fs_world *w)
{
	struct fs_keeper *k = &w->keeper;
	uint64_t deadline_ns = hf_freeze_deadline_ns(&k->freeze);

	if (deadline_ns == k->timer_ns)
		return;
	k->timer_ns = deadline_ns;
	k->timer_serial++;
	if (deadline_ns == UINT64_MAX || w->plant == FS_PLANT_TIMER_LOST)
		return;
	fs_post(w,
		(deadline_ns > w->now_ns ? deadline_ns - w->now_ns : 0) + fs_delay(w, FS_MS / 10),
		&(struct fs_event){ .kind = FS_EV_TIMER, .c = k->timer_serial, .inst = k->inst });
}

static void feed(struct fs_world *w, struct hf_freeze_event *ev)
{
	struct hf_freeze_actions out;

	ev->now_ns = w->now_ns;
	hf_freeze_step(&w->keeper.freeze, ev, &out);
	for (unsigned int i = 0; i < out.n; i++)
		carry_out(w, out.a[i]);
	arm(w);
}

void fs_keeper_timer(struct fs_world *w, uint64_t serial)
{
	struct hf_freeze_event ev = { .kind = HF_FREEZE_EV_TIME };

	if (w->keeper.state != FS_KEEPER_FREEZES || serial != w->keeper.timer_serial)
		return;
	w->keeper.timer_ns = 0;
	feed(w, &ev);
}

/* Is this report one that the planted bug does not let through? */
static bool is_swallowed(const struct fs_world *w, const struct fs_event *ev)
{
	const struct hf_freeze *f = &w->keeper.freeze;

	if (w->plant == FS_PLANT_WOKEN_IGNORED)
		return ev->a == HF_FREEZE_EV_WOKEN;
	if (w->plant == FS_PLANT_WOKEN_WHILE_PROVING)
		return ev->a == HF_FREEZE_EV_WOKEN && f->state != HF_FREEZE_CERTIFIED;
	if (w->plant == FS_PLANT_RETRY_LOST)
		return ev->a == HF_FREEZE_EV_FAILED && ev->b == HF_FREEZE_CERTIFY;
	return false;
}

void fs_keeper_report(struct fs_world *w, const struct fs_event *ev)
{
	struct hf_freeze_event event = { .kind = ev->a, .step = ev->b, .refuted = (uint32_t)ev->c };

	if (ev->inst != w->keeper.inst || w->keeper.state != FS_KEEPER_FREEZES ||
	    is_swallowed(w, ev))
		return;
	if (ev->a == HF_FREEZE_EV_WOKEN) {
		(void)live(w, HF_VM_EV_RESUMED, 0);
		w->stats->awakenings++;
	}
	feed(w, &event);
}

/* ---- keepers come and go ---- */

static void begin(struct fs_world *w)
{
	struct fs_keeper *k = &w->keeper;
	struct hf_freeze_event ev = { .kind = HF_FREEZE_EV_BEGIN, .given = &k->given };

	k->state = FS_KEEPER_FREEZES;
	k->began_ns = w->now_ns;
	hf_freeze_init(&k->freeze);
	feed(w, &ev);
}

static void init_vm(struct fs_world *w)
{
	struct hf_vm_policy policy;

	hf_vm_policy_default(&policy);
	memset(policy.on, HF_VM_FREEZE, sizeof(policy.on));
	hf_vm_init(&w->keeper.vm, &policy);
	(void)live(w, HF_VM_EV_START, 0);
	(void)live(w, HF_VM_EV_STARTED, 0);
}

static enum hf_vm_action befall(struct fs_world *w)
{
	enum hf_vm_cause cause = w->plan->cause;

	if (cause == HF_VM_CAUSE_ORDER)
		return live(w, HF_VM_EV_ORDER_FREEZE, 0);
	return live(w, cause == HF_VM_CAUSE_KILLED ? HF_VM_EV_ENDED : HF_VM_EV_FAULT, cause);
}

void fs_keeper_begin(struct fs_world *w)
{
	const struct fs_plan *p = w->plan;
	const struct fs_host *h = &w->host;

	w->keeper = (struct fs_keeper){ .inst = 1 };
	init_vm(w);
	if (befall(w) != HF_VM_DO_FREEZE)
		return fs_fail(w, FS_RULE_PROGRESS, "the VM's machine does not freeze it");
	w->keeper.given = (struct hf_freeze_given){
		.is_qemu_alive = h->is_qemu_alive,
		.is_qmp_silent = p->cause == HF_VM_CAUSE_HANG,
		.is_guest_stopped = p->is_guest_stopped,
		.has_nets = p->has_nets,
		.has_disks = h->are_disks_alive,
		.has_own_files = p->has_own_files && !p->are_own_files_missed,
		.has_cgroup = p->has_cgroup,
		.has_lease = p->has_lease,
		.is_pledged = p->is_pledged,
		.is_kill_wanted = p->is_kill_wanted,
	};
	if (w->plant == FS_PLANT_LEASE_FIRST && p->has_lease)
		fs_host_start_job(w, FS_JOB_LEASE);
	begin(w);
}

/* What was left behind is ended by its recorded ids; until then nothing else is done. */
static bool is_cleared(struct fs_world *w)
{
	if (w->plant == FS_PLANT_PIDS_FORGOTTEN ||
	    (!w->host.is_qemu_alive && !w->host.are_disks_alive))
		return true;
	fs_host_start_kill(w, FS_JOB_KILL_QEMU);
	fs_host_start_kill(w, FS_JOB_KILL_DISKS);
	fs_post(w, 50 * FS_MS, &(struct fs_event){ .kind = FS_EV_KEEPER });
	return false;
}

static void go_on_freezing(struct fs_world *w)
{
	const struct fs_host *h = &w->host;
	bool is_looking = w->plant != FS_PLANT_PIDS_FORGOTTEN;

	w->is_next_due = false;
	init_vm(w);
	(void)befall(w);
	w->keeper.given = (struct hf_freeze_given){
		.is_qemu_alive = h->is_qemu_alive && is_looking,
		.is_kill_wanted = true,
		.has_disks = h->are_disks_alive && is_looking,
		.has_own_files = true,
		.has_lease = w->plan->has_lease && h->is_lease_held,
		.is_pledged = w->plan->is_pledged,
	};
	begin(w);
}

void fs_keeper_start(struct fs_world *w)
{
	enum fs_content found = w->host.durable;

	if (!w->is_next_due)
		return;
	if (w->plant == FS_PLANT_LATCH_FORGOTTEN && found == FS_LATCH)
		found = FS_NOTHING;
	if (found == FS_LATCH) {
		fs_say(w, "keeper %llu finds the latch", (unsigned long long)w->keeper.inst);
		return go_on_freezing(w);
	}
	if (!is_cleared(w))
		return;
	w->is_next_due = false;
	if (found == FS_CERTIFICATE) {
		fs_say(w, "keeper %llu finds the certificate", (unsigned long long)w->keeper.inst);
		init_vm(w);
		(void)befall(w);
		w->keeper.state = FS_KEEPER_GUARDS;
		told(w);
		return;
	}
	w->keeper.state = FS_KEEPER_RUNS_ANEW;
	if (!w->plan->has_lease || w->host.is_lease_held)
		fs_check_started_here(w);
}

void fs_keeper_die(struct fs_world *w, uint64_t next_ns)
{
	uint64_t lingers_ns = w->host.until_ns[FS_FAULT_FILES_HANG];

	fs_say(w, "keeper %llu is killed", (unsigned long long)w->keeper.inst);
	w->stats->kills++;
	fs_host_keeper_died(w);
	w->keeper = (struct fs_keeper){ .inst = w->keeper.inst + 1 };
	w->is_next_due = true;
	/* Not before the old one, which may hang in a write, is gone. */
	if (lingers_ns > w->now_ns && lingers_ns - w->now_ns > next_ns)
		next_ns = lingers_ns - w->now_ns;
	fs_post(w, next_ns, &(struct fs_event){ .kind = FS_EV_KEEPER });
}

void fs_keeper_order(struct fs_world *w, enum fs_fault_kind kind)
{
	struct fs_keeper *k = &w->keeper;
	bool is_frozen = k->state == FS_KEEPER_FREEZES || k->state == FS_KEEPER_GUARDS;

	if (!is_frozen)
		return;
	w->stats->attacks[kind][w->certified_ns != 0]++;
	if (kind == FS_FAULT_START) {
		if (live(w, HF_VM_EV_START, 0) == HF_VM_DO_START ||
		    w->plant == FS_PLANT_START_OBEYED)
			fs_check_started_here(w);
	} else if (w->plant == FS_PLANT_NETS_REOPENED) {
		w->host.are_nets_open = w->certified_ns && w->plan->has_nets;
	} else if (k->vm.state == HF_VM_PAUSED || w->plant == FS_PLANT_RESUME_OBEYED) {
		w->host.is_frozen = w->host.is_freeze_wanted = w->host.is_stopped = false;
	}
}

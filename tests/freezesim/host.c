/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host: QEMU, the disk process, the cgroup, files, the lease; and what is true of them. */
#include <string.h>

#include "freezesim.h"

void fs_host_init(struct fs_world *w)
{
	w->host = (struct fs_host){
		.is_qemu_alive = w->plan->cause != HF_VM_CAUSE_KILLED,
		.is_stopped = w->plan->is_guest_stopped,
		.are_disks_alive = w->plan->has_disks,
		.are_nets_open = w->plan->has_nets,
		.is_lease_held = w->plan->has_lease,
	};
	w->was_running = fs_host_is_running(w);
}

bool fs_host_is_running(const struct fs_world *w)
{
	const struct fs_host *h = &w->host;

	/* A thread in state D keeps the process; the vCPUs are other threads, and die of the signal. */
	return h->is_qemu_alive && !h->is_qemu_killed && !h->is_stopped && !h->is_frozen &&
	       !fs_host_is_on(w, FS_FAULT_STOPPED);
}

bool fs_host_is_on(const struct fs_world *w, enum fs_fault_kind kind)
{
	return w->now_ns < w->host.until_ns[kind];
}

/* Bit 0: P1. */
unsigned int fs_host_refuted(const struct fs_world *w)
{
	const struct fs_host *h = &w->host;
	unsigned int refuted = 0;

	if (h->is_qemu_alive && !h->is_frozen)
		refuted |= 1;
	if (h->are_disks_alive || (h->is_qemu_alive && w->plan->has_own_files))
		refuted |= 2;
	if (h->are_nets_open)
		refuted |= 4;
	return refuted;
}

/* ---- jobs ---- */

static void post_job(struct fs_world *w, enum fs_job_kind kind, uint64_t delay_ns, uint64_t inst)
{
	fs_post(w, delay_ns, &(struct fs_event){ .kind = FS_EV_JOB, .a = kind, .inst = inst });
}

void fs_host_start_job(struct fs_world *w, enum fs_job_kind kind)
{
	if (kind == FS_JOB_CGROUP)
		w->host.is_freeze_wanted = true;
	/* Freezing is the kernel's work from here on. */
	post_job(w, kind, fs_delay(w, w->plan->delay_ns),
		 kind == FS_JOB_CGROUP ? 0 : w->keeper.inst);
}

void fs_host_start_kill(struct fs_world *w, enum fs_job_kind kind)
{
	bool *is_on_its_way = kind == FS_JOB_KILL_QEMU ? &w->host.is_qemu_signalled
						       : &w->host.are_disks_signalled;

	if (!*is_on_its_way)
		post_job(w, kind, fs_delay(w, FS_SIGNAL_NS), 0);
	*is_on_its_way = true;
}

/* Not now: tried again when what is in the way is over, or is believed to be. */
static void again(struct fs_world *w, enum fs_job_kind kind, uint64_t inst, enum fs_fault_kind what)
{
	uint64_t until_ns = w->host.until_ns[what];
	uint64_t wait_ns = until_ns > w->now_ns ? until_ns - w->now_ns : 50 * FS_MS;

	post_job(w, kind, wait_ns + fs_delay(w, FS_MS), inst);
}

/* QEMU's main thread can do something; if not, what is in the way. */
static bool is_answering(const struct fs_world *w, enum fs_fault_kind *ret_what)
{
	const struct fs_host *h = &w->host;

	*ret_what = FS_FAULT_COUNT;
	if (!h->is_qemu_alive || h->is_qemu_killed || h->is_frozen)
		return false;
	if (fs_host_is_on(w, FS_FAULT_QMP))
		*ret_what = FS_FAULT_QMP;
	else if (fs_host_is_on(w, FS_FAULT_STOPPED))
		*ret_what = FS_FAULT_STOPPED;
	else if (fs_host_is_on(w, FS_FAULT_D_STATE))
		*ret_what = FS_FAULT_D_STATE;
	return *ret_what == FS_FAULT_COUNT;
}

static void done(struct fs_world *w, enum hf_freeze_step step)
{
	fs_keeper_tell(w, FS_MS, HF_FREEZE_EV_DONE, step, 0);
}

static void failed(struct fs_world *w, enum hf_freeze_step step)
{
	fs_keeper_tell(w, FS_MS, HF_FREEZE_EV_FAILED, step, 0);
}

static void job_for_qemu(struct fs_world *w, enum fs_job_kind kind, uint64_t inst)
{
	enum fs_fault_kind what;

	if (!is_answering(w, &what)) {
		if (what != FS_FAULT_COUNT)
			again(w, kind, inst, what);
		else if (kind == FS_JOB_CONT)
			w->host.is_cont_pending = true;
		return;
	}
	if (kind == FS_JOB_STOP) {
		w->host.is_stopped = true;
		done(w, HF_FREEZE_STOP);
	} else if (kind == FS_JOB_STATE) {
		if (fs_host_is_on(w, FS_FAULT_STATE))
			failed(w, HF_FREEZE_STATE);
		else
			done(w, HF_FREEZE_STATE);
	} else {
		if (!w->host.is_stopped)
			return;
		fs_say(w, "QEMU obeys `cont`");
		w->host.is_stopped = false;
		w->attacked_ns = w->now_ns;
		w->stats->attacks[FS_FAULT_CONT][w->certified_ns != 0]++;
		fs_keeper_tell(w, FS_NOTICE_NS, HF_FREEZE_EV_WOKEN, 0, 0);
	}
}

static void job_disks(struct fs_world *w, uint64_t inst)
{
	if (!w->host.are_disks_alive)
		return;
	if (fs_host_is_on(w, FS_FAULT_DISKS_D_STATE))
		again(w, FS_JOB_DISKS, inst, FS_FAULT_DISKS_D_STATE);
	else if (fs_host_is_on(w, FS_FAULT_DISKS_HANG))
		again(w, FS_JOB_DISKS, inst, FS_FAULT_DISKS_HANG);
	else if (w->plant == FS_PLANT_DISKS_FLUSHED) {
		fs_keeper_tell(w, FS_MS, HF_FREEZE_EV_DISKS_DEAD, 0, 0);
		post_job(w, FS_JOB_KILL_DISKS, FS_S, 0); /* it ends in its own time */
	} else {
		/* A server waits for its client, which may be frozen. */
		done(w, HF_FREEZE_DISKS);
		if (!w->host.is_frozen)
			fs_host_disks_die(w);
	}
}

static void job_cgroup(struct fs_world *w)
{
	struct fs_host *h = &w->host;

	if (!h->is_freeze_wanted || h->is_frozen || !h->is_qemu_alive)
		return; /* thawed again before it was frozen, dead */
	if (fs_host_is_on(w, FS_FAULT_CGROUP))
		return again(w, FS_JOB_CGROUP, 0, FS_FAULT_CGROUP);
	if (fs_host_is_on(w, FS_FAULT_D_STATE))
		return again(w, FS_JOB_CGROUP, 0, FS_FAULT_D_STATE);
	h->is_frozen = true;
	fs_say(w, "the cgroup is frozen");
	done(w, HF_FREEZE_CGROUP);
}

static void job_kill_qemu(struct fs_world *w)
{
	if (!w->host.is_qemu_alive)
		return;
	w->host.is_qemu_killed = true;
	if (fs_host_is_on(w, FS_FAULT_D_STATE))
		again(w, FS_JOB_KILL_QEMU, 0, FS_FAULT_D_STATE);
	else
		fs_host_qemu_dies(w);
}

static void job_kill_disks(struct fs_world *w)
{
	if (!w->host.are_disks_alive)
		return;
	if (fs_host_is_on(w, FS_FAULT_DISKS_D_STATE))
		again(w, FS_JOB_KILL_DISKS, 0, FS_FAULT_DISKS_D_STATE);
	else
		fs_host_disks_die(w);
}

static void job_lease(struct fs_world *w, uint64_t inst)
{
	if (fs_host_is_on(w, FS_FAULT_LEASE_HANG))
		return again(w, FS_JOB_LEASE, inst, FS_FAULT_LEASE_HANG);
	if (fs_host_is_on(w, FS_FAULT_LEASE_FAIL))
		return failed(w, HF_FREEZE_LEASE);
	if (w->host.is_lease_held) {
		w->host.is_lease_held = false;
		w->host.is_released = true;
		fs_check_second(w, "the lease is free");
	}
	done(w, HF_FREEZE_LEASE);
}

/* What the planted bug does not see. */
static unsigned int overlooked(const struct fs_world *w)
{
	const struct fs_host *h = &w->host;
	bool has_own_files = h->is_qemu_alive && w->plan->has_own_files;

	if (w->plant == FS_PLANT_CGROUP_ASSUMED)
		return 1;
	if (w->plant == FS_PLANT_BLIND)
		return h->are_disks_alive ? 0 : 2;
	if (w->plant == FS_PLANT_DISKS_ASSUMED || w->plant == FS_PLANT_DISKS_FLUSHED)
		return has_own_files ? 0 : 2;
	if (w->plant == FS_PLANT_NETS_OPEN)
		return 4;
	if (w->plant == FS_PLANT_DEATH_ASSUMED)
		return h->is_qemu_killed || h->is_qemu_signalled ? 3 : 0;
	return w->plant == FS_PLANT_PIDS_FORGOTTEN && w->keeper.inst > 1 ? 7 : 0;
}

static void job_verify(struct fs_world *w, uint64_t inst)
{
	unsigned int refuted = fs_host_refuted(w) & ~overlooked(w);

	if (fs_host_is_on(w, FS_FAULT_VERIFY))
		return again(w, FS_JOB_VERIFY, inst, FS_FAULT_VERIFY);
	fs_keeper_tell(w, w->plan->delay_ns, refuted ? HF_FREEZE_EV_REFUTED : HF_FREEZE_EV_VERIFIED,
		       HF_FREEZE_VERIFY, refuted);
}

/* ---- files: one after the other ---- */

void fs_host_write(struct fs_world *w, enum fs_content content, bool is_amendment)
{
	struct fs_host *h = &w->host;
	unsigned int at = h->n_files;

	if (h->n_files == FS_FILES)
		return fs_fail(w, FS_RULE_PROGRESS, "too many files to be written");
	if (w->plant == FS_PLANT_FILES_UNORDERED && content == FS_CERTIFICATE && at) {
		memmove(&h->files[1], &h->files[0], at * sizeof(h->files[0]));
		at = 0; /* each has a thread of its own, and the latch's one is late */
	}
	h->n_files++;
	h->files[at] = (struct fs_file){ content, is_amendment };
	if (h->n_files == 1)
		fs_host_start_job(w, FS_JOB_FILE);
}

static void land(struct fs_world *w, const struct fs_file *f)
{
	enum fs_content before = w->host.durable;

	w->host.durable = f->content;
	fs_say(w, "%s is durable", f->content == FS_LATCH ? "the latch" : "the certificate");
	fs_check_durable(w, before);
}

static void job_file(struct fs_world *w, uint64_t inst)
{
	struct fs_host *h = &w->host;
	struct fs_file f = h->files[0];
	enum hf_freeze_step step = f.content == FS_LATCH ? HF_FREEZE_LATCH : HF_FREEZE_CERTIFY;

	if (!h->n_files)
		return;
	if (fs_host_is_on(w, FS_FAULT_FILES_HANG))
		return again(w, FS_JOB_FILE, inst, FS_FAULT_FILES_HANG);
	memmove(&h->files[0], &h->files[1], --h->n_files * sizeof(h->files[0]));
	if (fs_host_is_on(w, FS_FAULT_FILES_FAIL)) {
		if (!f.is_amendment)
			failed(w, step);
	} else {
		land(w, &f);
		if (!f.is_amendment)
			done(w, step);
	}
	if (h->n_files)
		fs_host_start_job(w, FS_JOB_FILE);
}

void fs_host_job(struct fs_world *w, enum fs_job_kind kind, uint64_t inst)
{
	if (inst && inst != w->keeper.inst)
		return;
	switch (kind) {
	case FS_JOB_STOP:
	case FS_JOB_STATE:
	case FS_JOB_CONT:
		return job_for_qemu(w, kind, inst);
	case FS_JOB_DISKS:
		return job_disks(w, inst);
	case FS_JOB_CGROUP:
		return job_cgroup(w);
	case FS_JOB_KILL_QEMU:
		return job_kill_qemu(w);
	case FS_JOB_KILL_DISKS:
		return job_kill_disks(w);
	case FS_JOB_FILE:
		return job_file(w, inst);
	case FS_JOB_LEASE:
		return job_lease(w, inst);
	case FS_JOB_VERIFY:
		return job_verify(w, inst);
	}
}

/* ---- what befalls it ---- */

void fs_host_close_nets(struct fs_world *w)
{
	w->host.are_nets_open = false;
}

void fs_host_qemu_dies(struct fs_world *w)
{
	if (!w->host.is_qemu_alive)
		return;
	fs_say(w, "QEMU is dead");
	w->host.is_qemu_alive = w->host.is_cont_pending = false;
	if (w->plant != FS_PLANT_DEATH_LOST)
		fs_keeper_tell(w, FS_NOTICE_NS, HF_FREEZE_EV_QEMU_DEAD, 0, 0);
}

void fs_host_disks_die(struct fs_world *w)
{
	if (!w->host.are_disks_alive)
		return;
	fs_say(w, "the disk process is dead");
	w->host.are_disks_alive = false;
	fs_keeper_tell(w, FS_NOTICE_NS, HF_FREEZE_EV_DISKS_DEAD, 0, 0);
}

/* Of the write under way, all or nothing. */
static void drop_files(struct fs_world *w)
{
	struct fs_file f = w->host.files[0];
	bool is_landing = w->host.n_files && simkit_rand_percent(&w->rand, 50);

	w->host.n_files = 0;
	if (is_landing)
		land(w, &f);
}

void fs_host_keeper_died(struct fs_world *w)
{
	fs_host_close_nets(w);
	drop_files(w);
	if (w->plant == FS_PLANT_NO_DEATH_SIGNAL)
		return;
	fs_host_start_kill(w, FS_JOB_KILL_QEMU);
	fs_host_start_kill(w, FS_JOB_KILL_DISKS);
}

void fs_host_reboot(struct fs_world *w)
{
	struct fs_host *h = &w->host;

	fs_say(w, "the host goes down");
	h->is_qemu_alive = h->is_qemu_killed = h->is_frozen = h->is_freeze_wanted = false;
	h->is_cont_pending = h->are_disks_alive = h->are_nets_open = false;
	drop_files(w);
	memset(h->until_ns, 0, sizeof(h->until_ns));
}

void fs_host_cont(struct fs_world *w)
{
	post_job(w, FS_JOB_CONT, 0, 0);
}

void fs_host_thaw(struct fs_world *w)
{
	struct fs_host *h = &w->host;

	if (!h->is_freeze_wanted)
		return;
	h->is_freeze_wanted = false;
	if (!h->is_frozen || !h->is_qemu_alive)
		return;
	fs_say(w, "the cgroup is thawed");
	h->is_frozen = false;
	w->attacked_ns = w->now_ns;
	w->stats->attacks[FS_FAULT_THAW][w->certified_ns != 0]++;
	fs_keeper_tell(w, FS_NOTICE_NS, HF_FREEZE_EV_WOKEN, 0, 0);
	if (h->is_cont_pending)
		post_job(w, FS_JOB_CONT, fs_delay(w, FS_MS), 0);
	h->is_cont_pending = false;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plans are drawn from a seed; faults strike, and heal. */
#include <stdio.h>
#include <string.h>

#include "freezesim.h"

const char *const fs_fault_names[FS_FAULT_COUNT] = {
	[FS_FAULT_QMP] = "QEMU does not answer",
	[FS_FAULT_STATE] = "no device state",
	[FS_FAULT_STOPPED] = "SIGSTOP to QEMU",
	[FS_FAULT_D_STATE] = "QEMU in state D",
	[FS_FAULT_QEMU_DIES] = "QEMU dies",
	[FS_FAULT_DISKS_HANG] = "the disk process hangs",
	[FS_FAULT_DISKS_D_STATE] = "the disk process in state D",
	[FS_FAULT_DISKS_DIE] = "the disk process dies",
	[FS_FAULT_CGROUP] = "the cgroup does not freeze",
	[FS_FAULT_FILES_HANG] = "files hang",
	[FS_FAULT_FILES_FAIL] = "files fail",
	[FS_FAULT_LEASE_HANG] = "the lease hangs",
	[FS_FAULT_LEASE_FAIL] = "the lease fails",
	[FS_FAULT_VERIFY] = "looking takes long",
	[FS_FAULT_KEEPER] = "the keeper is killed",
	[FS_FAULT_REBOOT] = "reboot",
	[FS_FAULT_CONT] = "attack: cont",
	[FS_FAULT_THAW] = "attack: thaw",
	[FS_FAULT_SIGCONT] = "attack: SIGCONT",
	[FS_FAULT_START] = "attack: start it",
	[FS_FAULT_RESUME] = "attack: resume it",
};

static uint64_t between_ms(struct simkit_rand *r, unsigned int from, unsigned int to)
{
	return (from + simkit_rand_below(r, to - from + 1)) * FS_MS;
}

/* Short, about as long as the limits, or longer than all of them. */
static uint64_t draw_duration(struct simkit_rand *r)
{
	unsigned int n = simkit_rand_below(r, 10);

	return n < 3   ? between_ms(r, 1, 50)
	       : n < 7 ? between_ms(r, 500, 6000)
		       : between_ms(r, 5000, 70000);
}

static void draw_trigger(struct simkit_rand *r, struct fs_fault *f)
{
	unsigned int n = simkit_rand_below(r, 10);

	if (n < 6) {
		f->nth = 1 + simkit_rand_below(r, 30);
		f->at_ns = simkit_rand_percent(r, 60)
				   ? 0
				   : simkit_rand_below(r, 10000) * UINT64_C(1000);
	} else if (n < 7) {
		f->at_ns = 0;
	} else if (n < 9) {
		f->at_ns = simkit_rand_below(r, 40000) * UINT64_C(1000);
	} else {
		f->at_ns = between_ms(r, 0, 20000);
	}
}

static void draw_fault(struct simkit_rand *r, struct fs_plan *p, unsigned int kinds)
{
	struct fs_fault *f = &p->faults[p->n_faults++];

	do
		f->kind = simkit_rand_below(r, FS_FAULT_COUNT);
	while (!(kinds & 1u << f->kind));
	f->for_ns = draw_duration(r);
	/* Trouble comes in groups. */
	if (p->n_faults > 1 && simkit_rand_percent(r, 25)) {
		f->nth = f[-1].nth;
		f->at_ns = f[-1].at_ns + simkit_rand_below(r, 5000) * UINT64_C(1000);
	} else {
		draw_trigger(r, f);
	}
}

static void draw_settings(struct simkit_rand *r, struct fs_plan *p)
{
	static const enum hf_vm_cause causes[] = { HF_VM_CAUSE_PANIC,    HF_VM_CAUSE_PANIC,
						   HF_VM_CAUSE_ORDER,    HF_VM_CAUSE_ORDER,
						   HF_VM_CAUSE_HANG,     HF_VM_CAUSE_KILLED,
						   HF_VM_CAUSE_WATCHDOG, HF_VM_CAUSE_LEASE };

	p->cause = causes[simkit_rand_below(r, 8)];
	p->has_nets = simkit_rand_percent(r, 70);
	p->has_disks = simkit_rand_percent(r, 70);
	p->has_cgroup = simkit_rand_percent(r, 90);
	p->has_lease = simkit_rand_percent(r, 50);
	p->is_pledged = p->has_lease && simkit_rand_percent(r, 30);
	p->is_kill_wanted = simkit_rand_percent(r, 8);
	p->has_own_files = simkit_rand_percent(r, 20);
	p->are_own_files_missed = simkit_rand_percent(r, 30);
	p->is_guest_stopped = p->cause == HF_VM_CAUSE_PANIC && simkit_rand_percent(r, 60);
	p->delay_ns = simkit_rand_percent(r, 70) ? 3 * FS_MS : between_ms(r, 1, 200);
}

void fs_plan_draw(struct fs_plan *p, uint64_t seed)
{
	struct simkit_rand r = { .state = seed * 0x9e3779b97f4a7c15u + 4711 };
	unsigned int kinds;

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	draw_settings(&r, p);
	p->safety_ns = simkit_rand_percent(&r, 75) ? between_ms(&r, 100, 20000)
						   : between_ms(&r, 65000, 90000);
	do
		kinds = (unsigned int)simkit_rand_next(&r) & ((1u << FS_FAULT_COUNT) - 1);
	while (!kinds);
	for (unsigned int n = simkit_rand_below(&r, 9); n; n--)
		draw_fault(&r, p, kinds);
	if (p->cause == HF_VM_CAUSE_HANG)
		p->faults[p->n_faults++] = (struct fs_fault){
			.kind = simkit_rand_percent(&r, 60) ? FS_FAULT_QMP : FS_FAULT_STOPPED,
			.for_ns = draw_duration(&r),
		};
}

void fs_plan_print(const struct fs_plan *p)
{
	(void)printf("seed %llu: %s%s%s%s%s%s%s%s%s, delays to %llu ms, faults for %llu ms\n",
		     (unsigned long long)p->seed, hf_vm_cause_name(p->cause),
		     p->is_guest_stopped ? " (stopped)" : "", p->has_nets ? ", nets" : "",
		     p->has_disks ? ", disks" : "", p->has_cgroup ? "" : ", no cgroup",
		     p->has_lease ? ", lease" : "", p->is_pledged ? " (pledged)" : "",
		     p->is_kill_wanted ? ", kill" : "",
		     !p->has_own_files         ? ""
		     : p->are_own_files_missed ? ", own files (not seen)"
					       : ", own files",
		     (unsigned long long)(p->delay_ns / FS_MS),
		     (unsigned long long)(p->safety_ns / FS_MS));
	for (unsigned int i = 0; i < p->n_faults; i++) {
		const struct fs_fault *f = &p->faults[i];

		(void)printf("  fault %u: %s for %.0f ms at %.3f ms", i, fs_fault_names[f->kind],
			     (double)f->for_ns / (double)FS_MS, (double)f->at_ns / (double)FS_MS);
		if (f->nth)
			(void)printf(" after event %u", f->nth);
		(void)puts("");
	}
}

/* ---- striking ---- */

static void strike_keeper(struct fs_world *w, const struct fs_fault *f)
{
	if (!w->keeper.inst || w->keeper.state == FS_KEEPER_NONE)
		return;
	if (f->kind == FS_FAULT_REBOOT)
		fs_host_reboot(w);
	fs_keeper_die(w, f->for_ns);
}

static void strike_sigcont(struct fs_world *w)
{
	if (!fs_host_is_on(w, FS_FAULT_STOPPED))
		return;
	w->host.until_ns[FS_FAULT_STOPPED] = 0;
	w->stats->attacks[FS_FAULT_SIGCONT][w->certified_ns != 0]++;
}

static void last(struct fs_world *w, const struct fs_fault *f)
{
	uint64_t until_ns = w->now_ns + f->for_ns;

	if (w->host.until_ns[f->kind] < until_ns)
		w->host.until_ns[f->kind] = until_ns;
	fs_post(w, f->for_ns + 1, &(struct fs_event){ .kind = FS_EV_LOOK });
}

void fs_fault_strike(struct fs_world *w, unsigned int i)
{
	const struct fs_fault *f = &w->plan->faults[i];

	if (w->is_calm || w->is_struck[i])
		return;
	w->is_struck[i] = true;
	w->stats->faults++;
	fs_say(w, "fault %u: %s", i, fs_fault_names[f->kind]);
	if (f->kind == FS_FAULT_QEMU_DIES)
		fs_host_qemu_dies(w);
	else if (f->kind == FS_FAULT_DISKS_DIE)
		fs_host_disks_die(w);
	else if (f->kind == FS_FAULT_KEEPER || f->kind == FS_FAULT_REBOOT)
		strike_keeper(w, f);
	else if (f->kind == FS_FAULT_CONT)
		fs_host_cont(w);
	else if (f->kind == FS_FAULT_THAW)
		fs_host_thaw(w);
	else if (f->kind == FS_FAULT_SIGCONT)
		strike_sigcont(w);
	else if (f->kind == FS_FAULT_START || f->kind == FS_FAULT_RESUME)
		fs_keeper_order(w, f->kind);
	else
		last(w, f);
}

void fs_fault_heal_all(struct fs_world *w)
{
	memset(w->host.until_ns, 0, sizeof(w->host.until_ns));
}

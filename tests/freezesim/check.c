/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The observer: what is true of the host, against what has been promised. */
#include "freezesim.h"

const char *const fs_end_names[FS_END_COUNT] = {
	[FS_END_AT_ONCE] = "certified",
	[FS_END_AFTER_STUCK] = "certified after it was stuck",
	[FS_END_BY_NEXT] = "certified by the next keeper",
	[FS_END_FOUND] = "found certified by the next keeper",
	[FS_END_ANEW] = "crashed before anything was written",
};

/* From here on somebody relies on it. */
static bool is_sealed(const struct fs_world *w)
{
	return w->certified_ns || w->is_second_started;
}

static enum fs_rule rule(const struct fs_world *w, enum fs_rule of_certificate)
{
	return w->certified_ns ? of_certificate : FS_RULE_ONE;
}

static void check_still(struct fs_world *w)
{
	bool is_running = fs_host_is_running(w);

	if (is_running && !w->was_running) {
		w->running_since_ns = w->now_ns;
		fs_post(w, FS_REACTION_NS + 1, &(struct fs_event){ .kind = FS_EV_LOOK });
	}
	w->was_running = is_running;
	if (!is_running || !is_sealed(w))
		return;
	if (!w->attacked_ns || w->now_ns - w->attacked_ns > FS_REACTION_NS)
		fs_fail(w, rule(w, FS_RULE_STILL), "the guest runs, and nobody has just woken it");
	else if (w->now_ns - w->running_since_ns > FS_REACTION_NS)
		fs_fail(w, rule(w, FS_RULE_STILL), "the guest was woken, and is let run");
}

static void check_told(struct fs_world *w)
{
	const struct fs_keeper *k = &w->keeper;

	if (k->state == FS_KEEPER_FREEZES && !k->is_told && !k->is_told_stuck &&
	    w->now_ns - k->began_ns > FS_TOLD_NS)
		fs_fail(w, FS_RULE_TOLD, "it takes longer than all limits, and nobody knows");
}

void fs_check(struct fs_world *w)
{
	const struct fs_host *h = &w->host;

	check_still(w);
	check_told(w);
	if (!is_sealed(w))
		return;
	if (h->are_disks_alive)
		fs_fail(w, rule(w, FS_RULE_DISKS), "the disk process lives");
	if (h->is_qemu_alive && w->plan->has_own_files)
		fs_fail(w, rule(w, FS_RULE_DISKS), "QEMU lives, with files of its own");
	if (h->are_nets_open)
		fs_fail(w, rule(w, FS_RULE_NETS), "a tap is open");
}

void fs_check_durable(struct fs_world *w, enum fs_content before)
{
	if (before == FS_CERTIFICATE && w->host.durable != FS_CERTIFICATE)
		fs_fail(w, FS_RULE_KEPT, "the certificate has been written over");
	if (w->host.durable == FS_CERTIFICATE && !w->certified_ns)
		w->certified_ns = w->now_ns;
}

void fs_check_told(struct fs_world *w)
{
	if (w->host.durable != FS_CERTIFICATE)
		fs_fail(w, FS_RULE_PROOF, "told, and the certificate is not durable");
	fs_check_second(w, "told");
}

void fs_check_second(struct fs_world *w, const char *why)
{
	if (w->is_second_started)
		return;
	fs_say(w, "another host starts the VM: %s", why);
	w->is_second_started = true;
	/* If the keeper were killed now, a QEMU whose death signal is late could be found by nobody. */
	if (w->host.durable == FS_NOTHING && w->host.is_qemu_alive)
		fs_fail(w, FS_RULE_ONE, "another one is started, and this one may be forgotten");
}

void fs_check_started_here(struct fs_world *w)
{
	fs_say(w, "the VM is started here");
	if (w->certified_ns || w->is_second_started || w->keeper.is_told)
		fs_fail(w, FS_RULE_KEPT, "what was frozen is started here again");
	else if (w->host.durable == FS_LATCH)
		fs_fail(w, FS_RULE_KEPT, "what was about to be frozen is started here again");
}

static enum fs_end end_of(const struct fs_world *w)
{
	if (w->keeper.state == FS_KEEPER_RUNS_ANEW)
		return FS_END_ANEW;
	if (w->keeper.state == FS_KEEPER_GUARDS)
		return FS_END_FOUND;
	if (w->keeper.inst > 1)
		return FS_END_BY_NEXT;
	return w->was_stuck ? FS_END_AFTER_STUCK : FS_END_AT_ONCE;
}

void fs_check_end(struct fs_world *w)
{
	const struct fs_keeper *k = &w->keeper;

	if (w->has_failed)
		return;
	if (k->state == FS_KEEPER_NONE)
		return fs_fail(w, FS_RULE_PROGRESS, "no keeper has come back");
	w->stats->ends[end_of(w)]++;
	for (unsigned int s = 0; k->state == FS_KEEPER_FREEZES && s < HF_FREEZE_STEP_COUNT; s++)
		w->stats->results[s][k->freeze.step[s].result]++;
	if (k->state == FS_KEEPER_RUNS_ANEW)
		return;
	if (!k->is_told || w->host.durable != FS_CERTIFICATE)
		return fs_fail(w, FS_RULE_PROGRESS, "all is well again, and it is still %s",
			       hf_freeze_state_name(k->freeze.state));
	if (k->vm.state != HF_VM_FROZEN)
		fs_fail(w, FS_RULE_PROGRESS, "certified, but the VM is %s",
			hf_vm_state_name(k->vm.state));
	if (w->host.is_qemu_alive && w->host.is_qemu_killed)
		fs_fail(w, FS_RULE_PROGRESS, "QEMU has not died of SIGKILL");
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a keeper knows of its VM, as a certificate. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "keeper/freezer.h"
#include "keeper/keeper.h"
#include "sys/procstat.h"
#include "vm/frozen.h"

static void copy(char *to, size_t size, const char *from)
{
	(void)snprintf(to, size, "%.*s", (int)size - 1, from ? from : "");
}

static void name_host(const struct hf_keeper *k, char *to, size_t size)
{
	struct utsname uts;

	copy(to, size, k->set->host);
	if (to[0] || uname(&uts) < 0)
		return;
	uts.nodename[strcspn(uts.nodename, ".")] = '\0';
	copy(to, size, hf_is_valid_name(uts.nodename) ? uts.nodename : "localhost");
}

static void name_nets(const struct hf_keeper *k, struct hf_certificate *c)
{
	for (size_t i = 0; i < hf_guest_net_count(k->guest); i++)
		if (c->n_nets < HF_CERTIFICATE_NETS_MAX)
			copy(c->net[c->n_nets++], sizeof(c->net[0]),
			     hf_guest_net_ifname(k->guest, i));
}

static void describe_vm(const struct hf_keeper *k, struct hf_certificate *c)
{
	const struct hf_guest_identity *id = hf_guest_identity(k->guest);
	const struct hf_process *qemu = hf_guest_process(k->guest);
	char text[HF_ID_TEXT];

	copy(c->vm, sizeof(c->vm), k->name);
	c->instance = k->instance;
	(void)snprintf(c->id, sizeof(c->id), "%.*s", HF_CERTIFICATE_ID,
		       hf_id_format(k->instance, text));
	name_host(k, c->host, sizeof(c->host));
	if (hf_procstat_boot_id(c->boot_id) < 0)
		c->boot_id[0] = '\0';
	if (!getcwd(c->cwd, sizeof(c->cwd)))
		c->cwd[0] = '\0';
	c->keeper = hf_process_id_of(getpid());
	if (qemu->pid >= 0)
		c->qemu = hf_process_id_of(qemu->pid);
	if (k->disks && k->disks->process.pid >= 0)
		c->disks = hf_process_id_of(k->disks->process.pid);
	copy(c->cgroup, sizeof(c->cgroup), k->cgroup.path);
	c->cgroup_id = k->cgroup.id;
	name_nets(k, c);
	copy(c->qemu_version, sizeof(c->qemu_version), id->qemu_version);
	copy(c->machine, sizeof(c->machine), id->machine);
	c->argv = k->set->argv;
	c->hold_net = k->set->hold_net;
	c->unprotected = k->set->unprotected;
}

static void describe_ram(struct hf_keeper *k, struct hf_certificate *c)
{
	c->ram_bytes = hf_guest_ram(k->guest)->size_bytes;
	c->page_bytes = k->cmdline->page_bytes;
	c->n_ram_parts = (unsigned int)hf_guest_ram_parts(k->guest, c->ram_part,
							  HF_CERTIFICATE_RAM_PARTS_MAX);
}

void hf_freezer_describe(struct hf_freezer *f, const struct hf_freezer_why *why)
{
	struct hf_keeper *k = f->k;
	struct hf_certificate *c = &f->certificate;

	describe_vm(k, c);
	describe_ram(k, c);
	c->cause = why->cause;
	c->severity = why->severity;
	copy(c->cause_text, sizeof(c->cause_text), why->text);
	copy(c->topology, sizeof(c->topology), why->topology);
	c->cause_time_ns = hf_now_real_ns();
	c->lver = hf_ownership_lver(k->ownership);
	copy(c->lease_fate, sizeof(c->lease_fate), k->ownership ? "held" : "none");
	c->qemu_fate = c->qemu.pid ? HF_REMAINS_PROCESS : HF_REMAINS_NONE;
}

void hf_freezer_update(struct hf_freezer *f)
{
	struct hf_certificate *c = &f->certificate;

	for (int i = 0; i < HF_FREEZE_STEP_COUNT; i++) {
		const struct hf_freeze_record *r = &f->machine.step[i];

		c->step[i].result = r->result;
		c->step[i].began_us = r->began_ns ? (r->began_ns - f->began_ns) / 1000 : 0;
		c->step[i].ended_us = r->ended_ns ? (r->ended_ns - f->began_ns) / 1000 : 0;
	}
	if (c->step[HF_FREEZE_STATE].result == HF_FREEZE_DONE && c->device_state != HF_REMAINS_FILE)
		c->step[HF_FREEZE_STATE].result = HF_FREEZE_FAILED; /* given, but not on disk */
	c->qemu_fate = f->machine.is_qemu_dead || !c->qemu.pid ? HF_REMAINS_NONE
							       : HF_REMAINS_PROCESS;
	if (f->machine.step[HF_FREEZE_LEASE].result == HF_FREEZE_SKIPPED)
		copy(c->lease_fate, sizeof(c->lease_fate),
		     f->machine.given.has_lease ? "pledged" : "none");
}

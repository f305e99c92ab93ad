/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What follows for a VM here from what this host and the others say of it: core/recover.h's machine is
 * given the facts, and vms.h the verdict.
 */
#include <string.h>

#include "daemon/peers-internal.h"

bool hf_peers_may_run(const struct hf_vms_vm *vm)
{
	if (!vm->has_file || vm->sup.state == HF_SUPERVISE_FAILED)
		return false;
	if (vm->file.is_managed && vm->sup.assigned != HF_SUPERVISE_ASSIGNED_RUN)
		return false;
	return !vm->n_frozen || vm->file.may_run_beside_frozen || vm->sup.is_fresh;
}

static bool is_wanted(const struct hf_vms_vm *vm)
{
	if (hf_vms_is_managed(vm))
		return vm->sup.assigned != HF_SUPERVISE_ASSIGNED_NONE;
	return vm->wanted.is_started || vm->sup.is_wanted;
}

static bool is_wanted_here(const struct hf_vms_vm *vm)
{
	if (hf_vms_is_managed(vm))
		return vm->sup.assigned == HF_SUPERVISE_ASSIGNED_RUN;
	if (vm->wanted.host[0])
		return strcmp(vm->wanted.host, vm->d->conf.name) == 0;
	return vm->file.n_hosts != 2 || vm->file.own == 0;
}

/* ---- what others are told ---- */

static void describe_frozen(const struct hf_vms_vm *vm, struct hf_peermsg_vm *ret)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < vm->n_frozen && n < HF_PEERMSG_FROZEN_MAX; i++)
		if (strlen(vm->frozen[i]) == HF_PEERMSG_ID_MAX)
			memcpy(ret->frozen[n++], vm->frozen[i], HF_PEERMSG_ID_MAX);
	ret->frozen_count = n < HF_PEERMSG_FROZEN_MAX ? n : vm->n_frozen;
}

static const char *find_text(const struct hf_vms_vm *vm)
{
	if (vm->sup.state != HF_SUPERVISE_FAILED && vm->sup.state != HF_SUPERVISE_HELD)
		return vm->file_error;
	return vm->trouble[0] ? vm->trouble : hf_supervise_why_text(vm->sup.why);
}

static void put_printable(char *to, size_t size, const char *from)
{
	(void)snprintf(to, size, "%s", from);
	for (; *to; to++)
		if ((unsigned char)*to < ' ' || (unsigned char)*to >= 0x7f)
			*to = ' ';
}

void hf_peer_describe(const struct hf_peers *ps __attribute__((unused)), const struct hf_vms_vm *vm,
		      struct hf_peermsg_vm *ret)
{
	memset(ret, 0, sizeof(*ret));
	put_printable(ret->vm, sizeof(ret->vm), vm->name);
	ret->is_defined = vm->has_file;
	ret->definition_crc = vm->has_file ? vm->file.crc : 0;
	ret->may_run = hf_peers_may_run(vm);
	ret->has_run_last = vm->sup.ran_here;
	ret->is_protected = vm->is_protected;
	ret->have = hf_vms_have(vm);
	if (!hf_vms_is_managed(vm))
		ret->wanted = vm->wanted;
	put_printable(ret->life, sizeof(ret->life), hf_vms_life_name(vm));
	put_printable(ret->cause, sizeof(ret->cause), vm->cause);
	put_printable(ret->text, sizeof(ret->text), find_text(vm));
	describe_frozen(vm, ret);
}

/* ---- two hosts ---- */

static void gather(const struct hf_peers *ps, const struct hf_vms_vm *vm,
		   const struct hf_peer_host *p, struct hf_place_facts *f)
{
	const struct hf_peermsg_vm *said = p ? hf_peer_said(p, vm->name) : NULL;

	*f = (struct hf_place_facts){
		.is_wanted = is_wanted(vm),
		.is_wanted_here = is_wanted_here(vm),
		.is_ordered = vm->sup.is_ordered,
		.may_run = hf_peers_may_run(vm),
		.may_stand_by = vm->has_file && vm->sup.state != HF_SUPERVISE_FAILED,
		.has_run_last = vm->sup.ran_here,
		.has_lease = ps->d->conf.area != NULL,
		.is_managed = hf_vms_is_managed(vm),
		.is_in_touch = vm->sup.role == HF_SUPERVISE_STANDBY && vm->is_connected,
		.here = hf_vms_have(vm),
		.is_peer_up = p && p->is_up,
		.peer_since_ns = p && !p->is_fenced ? p->since_ns : 0,
		.now_ns = hf_now_ns(),
	};
	if (!said)
		return;
	f->has_peer_definition = said->is_defined;
	f->is_same_definition = said->is_defined && said->definition_crc == vm->file.crc;
	f->may_peer_run = said->may_run;
	f->there = said->have;
}

static void on_place_time(void *ctx)
{
	struct hf_peers *ps = ctx;

	ps->place_ns = UINT64_MAX;
	for (const struct hf_vms_vm *vm = hf_vms_next(ps->d, NULL); vm; vm = hf_vms_next(ps->d, vm))
		if (vm->file.n_hosts == 2)
			hf_peers_touch(ps, vm->name);
}

static void look_again(struct hf_peers *ps, uint64_t at_ns)
{
	if (at_ns == UINT64_MAX || (ps->place_ns && ps->place_ns <= at_ns))
		return;
	ps->place_ns = at_ns;
	hf_timer_set(&ps->place_timer, &ps->d->loop, at_ns, on_place_time, ps);
}

static void place_pair(struct hf_peers *ps, struct hf_vms_vm *vm)
{
	const struct hf_peer_host *p = hf_peer_of_pair(ps, vm);
	struct hf_place_verdict verdict;
	struct hf_place_facts facts;

	gather(ps, vm, p, &facts);
	hf_place(&facts, &verdict);
	look_again(ps, verdict.again_ns);
	hf_vms_set_place(vm, verdict.place,
			 verdict.why == HF_PLACE_IN_ORDER ? "" : hf_place_text(verdict.why));
}

/* What runs here is wanted here: after a failover the other host learns it from this. */
static void renew_wanted(struct hf_vms_vm *vm)
{
	struct hf_wanted newer = vm->wanted;

	if (hf_vms_is_managed(vm) || hf_vms_have(vm) != HF_HAVE_RUNNING || !vm->sup.is_wanted ||
	    is_wanted_here(vm))
		return;
	hf_wanted_order(&newer, true, vm->d->conf.name, vm->d->conf.name);
	(void)hf_vms_take_wanted(vm, &newer);
}

static void look_at_pair(struct hf_peers *ps, struct hf_vms_vm *vm)
{
	const struct hf_peer_host *p = hf_peer_of_pair(ps, vm);
	const struct hf_peermsg_vm *said = p ? hf_peer_said(p, vm->name) : NULL;

	if (said && said->wanted.version)
		(void)hf_vms_take_wanted(vm, &said->wanted);
	renew_wanted(vm);
	place_pair(ps, vm);
}

/* ---- without a standby ---- */

/* One that runs elsewhere is not to be started here. */
static void look_at_single(struct hf_peers *ps, struct hf_vms_vm *vm)
{
	char why[128] = "";

	for (const struct hf_peer_host *p = ps->first; p; p = p->next) {
		const struct hf_peermsg_vm *said = hf_peer_said(p, vm->name);

		if (said && p->is_up && said->have == HF_HAVE_RUNNING &&
		    hf_peer_shares(ps, vm, p->name))
			(void)snprintf(why, sizeof(why), "it runs on %s", p->name);
	}
	hf_vms_set_place(vm, why[0] ? HF_PLACE_NOTHING : HF_PLACE_RUN, why);
	hf_peers_give_look(ps, vm);
}

void hf_peers_look(struct hf_peers *ps, struct hf_vms_vm *vm)
{
	if (!vm->has_file)
		return;
	if (vm->file.n_hosts == 2)
		look_at_pair(ps, vm);
	else if (vm->file.n_prefer)
		look_at_single(ps, vm);
}

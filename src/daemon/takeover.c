/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/takeover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/jobs.h"
#include "daemon/membership.h"
#include "daemon/survey.h"
#include "daemon/vms.h"

#define TURN_NS 300000000ull
#define LOOK_NS 30000000000ull

struct hf_takeover {
	struct hf_daemon *d;
	struct hf_timer timer;
	bool is_scanning;
	bool is_again; /* something changed meanwhile */
};

/* ---- contending ---- */

static struct json_object *about(const char *vm)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(vm));
	return o;
}

/* The lease is ours: the supervision starts it, like everything else. */
static void start_vm(struct hf_daemon *d, struct hf_held *h)
{
	struct hf_vms_vm *vm = hf_vms_find(d, h->vm);
	struct hf_err err = { "" };
	int r = vm ? hf_vms_recover(vm, "its host is dead", &err) : -ENOENT;
	pid_t pid = vm ? hf_vms_keeper_pid(vm) : 0;

	if (!r && !pid) {
		hf_err_set(&err, "%s",
			   vm->trouble[0] ? vm->trouble : "it is not to be started now");
		r = -EAGAIN;
	}
	if (!r)
		r = hf_held_set_pids(h, &pid, 1, &err);
	if (!r) {
		hf_jobs_save(d);
		hf_event(&d->journal, "takeover-started", about(h->vm),
			 "its host is dead: '%s' is started here (process %d)", h->vm, (int)pid);
		return;
	}
	hf_event(&d->journal, "takeover-failed", about(h->vm), "'%s' cannot be started here: %s",
		 h->vm, err.text);
	hf_jobs_give_back(d, h);
}

static void contend_run(struct hf_job *j)
{
	const struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE, .lver = j->lver };

	if (hf_now_ns() < j->deadline_ns)
		j->again_ns = j->deadline_ns;
	else if (hf_held_find(&j->d->held, j->vm) || hf_job_other(j) ||
		 !hf_membership_is_valid(j->d))
		hf_job_end(j); /* if it is still to be done, the next look says so */
	else
		(void)hf_job_ballot(j, &want);
}

static void contend_done(struct hf_job *j, const struct hf_work_result *result)
{
	struct hf_daemon *d = j->d;
	struct hf_held *h = NULL;

	if (result->r == 0 && result->result == HF_BALLOT_WON)
		h = hf_job_won(j, result);
	if (h) {
		h->is_expected = true;
		hf_event(&d->journal, "lease-taken-over", about(h->vm),
			 "this host has taken over '%s'", h->vm);
	}
	hf_job_end(j);
	if (h)
		start_vm(d, h);
}

static const struct hf_job_ops contend_ops = {
	.name = "takeover", .run = contend_run, .done = contend_done, .is_owning = true
};

static void contend(struct hf_daemon *d, const struct hf_vms_vm *vm, uint64_t lver)
{
	int position = hf_vmfile_position(&vm->file, d->conf.name);
	struct hf_job *j;

	if (position < 0 || hf_held_find(&d->held, vm->name) ||
	    hf_job_find(d, vm->name, &contend_ops))
		return;
	j = hf_job_new(d, &contend_ops, vm->name, NULL);
	if (!j)
		return;
	j->lver = lver;
	j->deadline_ns = hf_now_ns() + (unsigned int)position * TURN_NS;
	hf_job_begin(j);
}

/* ---- looking ---- */

/* What it takes to be taken over: a definition that says so, and nothing of it here, frozen neither: who
 * wins a lease and cannot start the VM lets go of it as of one that has ended in order, and then nobody
 * else would contend. */
static struct hf_vms_vm *find_candidate(const struct hf_takeover *t, const char *name)
{
	struct hf_vms_vm *vm = hf_vms_find(t->d, name);

	if (!vm || !vm->has_file || !vm->file.is_taken_over || hf_supervise_has_keeper(&vm->sup) ||
	    vm->sup.state == HF_SUPERVISE_FAILED)
		return NULL;
	return vm->n_frozen && !vm->file.may_run_beside_frozen ? NULL : vm;
}

static bool has_candidate(const struct hf_takeover *t)
{
	struct hf_vms_vm *vm = NULL;

	while ((vm = hf_vms_next(t->d, vm)))
		if (find_candidate(t, vm->name))
			return true;
	return false;
}

/* Of who was fenced the ballot finds out by itself: it reads the slot before it takes anything. */
static bool is_owner_dead(const struct hf_daemon *d, const struct hf_lease_leader *l)
{
	enum hf_lease_life life = hf_membership_life(d, l->owner, l->generation);

	return l->timestamp_s != 0 && (life == HF_LEASE_LIFE_DEAD || life == HF_LEASE_LIFE_GONE ||
				       hf_membership_is_fenced(d, l->owner, l->generation));
}

static void on_scanned(void *ctx, const struct hf_survey_result *result)
{
	struct hf_takeover *t = ctx;

	t->is_scanning = false;
	for (unsigned int i = 0; i < result->n && hf_membership_is_valid(t->d); i++) {
		const struct hf_survey_lease *l = &result->leases[i];
		const struct hf_vms_vm *vm = find_candidate(t, l->name);

		if (vm && l->r == 0 && is_owner_dead(t->d, &l->leader))
			contend(t->d, vm, l->leader.lver);
	}
	if (t->is_again)
		hf_takeover_look(t);
}

static void on_time(void *ctx)
{
	hf_takeover_look(ctx);
}

void hf_takeover_look(struct hf_takeover *t)
{
	if (!t)
		return;
	hf_timer_set(&t->timer, &t->d->loop, hf_now_ns() + LOOK_NS, on_time, t);
	t->is_again = t->is_scanning;
	if (t->is_scanning || !hf_membership_is_valid(t->d))
		return;
	if (has_candidate(t) && hf_survey_start(t->d->survey, on_scanned, t) == 0)
		t->is_scanning = true;
}

int hf_takeover_new(struct hf_daemon *d, struct hf_takeover **ret)
{
	struct hf_takeover *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->d = d;
	*ret = t;
	return 0;
}

void hf_takeover_free(struct hf_takeover *t)
{
	if (!t)
		return;
	hf_timer_fini(&t->timer);
	free(t);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/takeover.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "daemon/jobs.h"
#include "daemon/membership.h"
#include "daemon/spawn.h"
#include "daemon/survey.h"
#include "daemon/vmfile.h"

#define TURN_NS 300000000ull
#define LOOK_NS 30000000000ull
#define VMS_MAX 1024

struct candidate {
	char name[HF_NAME_MAX + 1];
	unsigned int position;
};

struct hf_takeover {
	struct hf_daemon *d;
	struct hf_timer timer;
	bool is_scanning;
	bool is_again; /* something changed meanwhile */
	struct candidate *vms;
	unsigned int n_vms;
	char trouble[HF_ERR_MAX]; /* with the definitions, as it was logged */
};

/* ---- contending ---- */

static struct json_object *about(const char *vm)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(vm));
	return o;
}

static void start_keeper(struct hf_daemon *d, struct hf_held *h)
{
	struct hf_err err = { "" };
	pid_t pid;
	int r = hf_spawn_keeper(&d->conf, h->vm, &pid, &err);

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
		start_keeper(d, h);
}

static const struct hf_job_ops contend_ops = {
	.name = "takeover", .run = contend_run, .done = contend_done, .is_owning = true
};

static void contend(struct hf_daemon *d, const struct candidate *vm, uint64_t lver)
{
	struct hf_job *j;

	if (hf_held_find(&d->held, vm->name) || hf_job_find(d, vm->name, &contend_ops))
		return;
	j = hf_job_new(d, &contend_ops, vm->name, NULL);
	if (!j)
		return;
	j->lver = lver;
	j->deadline_ns = hf_now_ns() + vm->position * TURN_NS;
	hf_job_begin(j);
}

/* ---- looking ---- */

static const struct candidate *find_vm(const struct hf_takeover *t, const char *name)
{
	for (unsigned int i = 0; i < t->n_vms; i++)
		if (strcmp(t->vms[i].name, name) == 0)
			return &t->vms[i];
	return NULL;
}

static bool is_owner_dead(const struct hf_daemon *d, const struct hf_lease_leader *l)
{
	enum hf_lease_life life = hf_membership_life(d, l->owner, l->generation);

	return l->timestamp_s != 0 && (life == HF_LEASE_LIFE_DEAD || life == HF_LEASE_LIFE_GONE);
}

static void on_scanned(void *ctx, const struct hf_survey_result *result)
{
	struct hf_takeover *t = ctx;

	t->is_scanning = false;
	for (unsigned int i = 0; i < result->n && hf_membership_is_valid(t->d); i++) {
		const struct hf_survey_lease *l = &result->leases[i];
		const struct candidate *vm = find_vm(t, l->name);

		if (vm && l->r == 0 && is_owner_dead(t->d, &l->leader))
			contend(t->d, vm, l->leader.lver);
	}
	if (t->is_again)
		hf_takeover_look(t);
}

static void add_vm(struct hf_takeover *t, const char *name, struct hf_err *err)
{
	struct hf_vmfile f;
	int position;

	if (hf_vmfile_read(t->d->conf.vms, name, &f, err) < 0)
		return;
	position = hf_vmfile_position(&f, t->d->conf.name);
	if (!f.is_taken_over || position < 0 || strlen(name) > HF_LEASE_NAME_BYTES)
		return;
	(void)snprintf(t->vms[t->n_vms].name, sizeof(t->vms[0].name), "%s", name);
	t->vms[t->n_vms++].position = (unsigned int)position;
}

static void read_definitions(struct hf_takeover *t)
{
	DIR *folder = opendir(t->d->conf.vms);
	struct hf_err err = { "" };
	const struct dirent *e;
	char name[NAME_MAX + 1];

	t->n_vms = 0;
	while (folder && (e = readdir(folder)) && t->n_vms < VMS_MAX) {
		size_t n = strlen(e->d_name);

		if (n < 6 || strcmp(e->d_name + n - 5, ".conf") != 0)
			continue;
		(void)snprintf(name, sizeof(name), "%.*s", (int)(n - 5), e->d_name);
		if (hf_is_valid_name(name))
			add_vm(t, name, &err);
	}
	if (folder)
		(void)closedir(folder);
	if (err.text[0] && strcmp(err.text, t->trouble) != 0)
		hf_log(&t->d->journal, HF_LOG_ERROR, "a definition is left out: %s", err.text);
	(void)snprintf(t->trouble, sizeof(t->trouble), "%s", err.text);
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
	read_definitions(t);
	if (t->n_vms && hf_survey_start(t->d->survey, on_scanned, t) == 0)
		t->is_scanning = true;
}

int hf_takeover_new(struct hf_daemon *d, struct hf_takeover **ret)
{
	struct hf_takeover *t = calloc(1, sizeof(*t));

	if (t)
		t->vms = calloc(VMS_MAX, sizeof(*t->vms));
	if (!t || !t->vms) {
		free(t);
		return -ENOMEM;
	}
	t->d = d;
	*ret = t;
	return 0;
}

void hf_takeover_free(struct hf_takeover *t)
{
	if (!t)
		return;
	hf_timer_fini(&t->timer);
	free(t->vms);
	free(t);
}

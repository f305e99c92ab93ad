/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is wanted of the VMs, over restarts. A thread writes it: who renews leases does not wait for the
 * disk that STATE_DIR is on. One at a time, so that what is older never lands over what is newer.
 */
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/vms.h"
#include "service/worker.h"

#define END_MS 5000 /* at the daemon's end, for one that is under way */

struct hf_vms_saving {
	struct hf_daemon *d; /* the thread does not touch it */
	struct hf_worker *worker;
	char folder[PATH_MAX];
	struct hf_wanted_all all;
	struct hf_err err;
	_Atomic bool is_through;
};

static void host_folder(const struct hf_daemon *d, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s/.host", d->conf.state_dir);
}

static struct hf_vms_saving *saving_new(struct hf_daemon *d)
{
	struct hf_vms_saving *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->d = d;
	host_folder(d, s->folder, sizeof(s->folder));
	s->all.vms = calloc(d->vms->n + 1, sizeof(*s->all.vms));
	if (!s->all.vms) {
		free(s);
		return NULL;
	}
	(void)snprintf(s->all.boot_id, sizeof(s->all.boot_id), "%s", d->vms->boot_id);
	for (const struct hf_vms_vm *vm = d->vms->first; vm; vm = vm->next) {
		struct hf_wanted_entry *e = &s->all.vms[s->all.n];

		if (vm->wanted.version == 0)
			continue;
		(void)snprintf(e->vm, sizeof(e->vm), "%s", vm->name);
		e->wanted = vm->wanted;
		e->was_stopped_by_order = vm->was_stopped_by_order;
		s->all.n++;
	}
	return s;
}

static void saving_free(void *ctx)
{
	struct hf_vms_saving *s = ctx;

	hf_wantedfile_fini(&s->all);
	free(s);
}

static int run(void *ctx)
{
	struct hf_vms_saving *s = ctx;
	int r = hf_wantedfile_save(s->folder, &s->all, &s->err);

	s->is_through = true;
	return r;
}

static void say(struct hf_daemon *d, const char *trouble)
{
	struct hf_vms *v = d->vms;

	if (trouble[0] && strcmp(v->save_trouble, trouble) != 0)
		hf_log(&d->journal, HF_LOG_ERROR,
		       "%s: after a restart it is not known what is wanted", trouble);
	(void)snprintf(v->save_trouble, sizeof(v->save_trouble), "%s", trouble);
}

static void done(void *ctx, int result)
{
	struct hf_vms_saving *s = ctx;
	struct hf_vms *v = s->d->vms;

	v->saving = NULL;
	say(s->d, result < 0 ? s->err.text : "");
	if (v->is_save_due)
		hf_vms_save_later(s->d);
	saving_free(s);
}

static void save(void *ctx)
{
	struct hf_daemon *d = ctx;
	struct hf_vms *v = d->vms;
	struct hf_vms_saving *s;

	if (v->saving) /* done() comes back to it */
		return;
	s = saving_new(d);
	if (s && hf_worker_start(&d->loop, run, done, saving_free, s, &s->worker) == 0) {
		v->saving = s;
		v->is_save_due = false;
		return;
	}
	if (s)
		saving_free(s);
	say(d, "no memory to write what is wanted");
}

/* Once for all that changes in this turn of the loop. */
void hf_vms_save_later(struct hf_daemon *d)
{
	d->vms->is_save_due = true;
	hf_timer_set(&d->vms->save_timer, &d->loop, 0, save, d);
}

void hf_vms_save_at_end(struct hf_daemon *d)
{
	struct hf_vms *v = d->vms;
	struct hf_vms_saving *s;
	bool is_stuck = false;

	if (v->saving) {
		for (int ms = 0; !v->saving->is_through && ms < END_MS; ms += 10)
			(void)usleep(10000);
		is_stuck = !v->saving->is_through;
		hf_worker_abandon(v->saving->worker);
		v->saving = NULL;
	}
	s = v->is_save_due && !is_stuck ? saving_new(d) : NULL;
	if (s) {
		say(d, run(s) < 0 ? s->err.text : "");
		saving_free(s);
	} else if (is_stuck) {
		say(d, "the disk under the state folder hangs");
	}
}

void hf_vms_load_wanted(struct hf_daemon *d)
{
	struct hf_wanted_all all;
	char folder[PATH_MAX];
	struct hf_err err;
	int r;

	host_folder(d, folder, sizeof(folder));
	(void)hf_boot_id(d->vms->boot_id);
	r = hf_wantedfile_load(folder, &all, &err);
	if (r < 0 && r != -ENOENT)
		hf_log(&d->journal, HF_LOG_ERROR, "what was wanted is not known: %s", err.text);
	d->vms->is_boot = strcmp(all.boot_id, d->vms->boot_id) != 0;
	for (size_t i = 0; i < all.n; i++) {
		struct hf_vms_vm *vm = hf_vms_get(d, all.vms[i].vm);

		if (!vm)
			break;
		vm->wanted = all.vms[i].wanted;
		vm->was_stopped_by_order = all.vms[i].was_stopped_by_order;
		vm->sup.is_wanted = vm->wanted.is_started && !d->vms->is_boot;
	}
	hf_wantedfile_fini(&all);
}

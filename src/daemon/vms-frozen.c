/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Freezes that a keeper has begun and did not live to prove are finished here, by a thread: it waits for
 * processes to die, and for storage. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/vms.h"
#include "service/worker.h"
#include "vm/frozen.h"

struct hf_vms_finish {
	struct hf_vms_vm *vm; /* the thread does not touch it */
	struct hf_worker *worker;
	char state_dir[PATH_MAX];
	char name[HF_NAME_MAX + 1];
	char ids[HF_VMS_FROZEN_MAX][HF_CERTIFICATE_ID + 1]; /* what was finished */
	enum hf_vm_cause causes[HF_VMS_FROZEN_MAX];
	unsigned int n;
	struct hf_err err;
};

/* In the thread. */
static int finish_one(struct hf_vms_finish *f, struct hf_frozen *frozen)
{
	struct hf_certificate *c = &frozen->certificate;
	int r;

	if (!frozen->is_readable || c->is_certified || hf_process_id_is_alive(&c->keeper) ||
	    f->n == HF_VMS_FROZEN_MAX)
		return 0;
	r = hf_frozen_finish(f->state_dir, c, &f->err);
	if (r < 0)
		return r;
	(void)snprintf(f->ids[f->n], sizeof(f->ids[0]), "%s", c->id);
	f->causes[f->n++] = c->cause;
	return 0;
}

static int run(void *ctx)
{
	struct hf_vms_finish *f = ctx;
	struct hf_frozen *list;
	size_t n;
	int r = hf_frozen_list(f->state_dir, f->name, &list, &n, &f->err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (finish_one(f, &list[i]) < 0)
			r = -EAGAIN; /* the others all the same */
	hf_frozen_free(list, n);
	return r;
}

static void tell(struct hf_vms_vm *vm, const char *id, enum hf_vm_cause cause)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(vm->name));
	json_object_object_add(o, "id", json_object_new_string(id));
	json_object_object_add(o, "cause", json_object_new_string(hf_vm_cause_name(cause)));
	hf_event(&vm->d->journal, "frozen", o,
		 "frozen as %s@%s: its keeper had died before that was done", vm->name, id);
}

static void done(void *ctx, int result)
{
	struct hf_vms_finish *f = ctx;
	struct hf_vms_vm *vm = f->vm;

	vm->finish = NULL;
	for (unsigned int i = 0; i < f->n; i++)
		tell(vm, f->ids[i], f->causes[i]);
	if (result < 0)
		hf_log(&vm->d->journal, HF_LOG_ERROR, "a freeze of '%s' cannot be finished: %s",
		       vm->name, f->err.text[0] ? f->err.text : strerror(-result));
	free(f);
	hf_vms_changed(vm);
}

void hf_vms_finish_frozen(struct hf_vms_vm *vm)
{
	struct hf_vms_finish *f;

	if (!vm->n_frozen || vm->finish)
		return;
	f = calloc(1, sizeof(*f));
	if (!f)
		return;
	f->vm = vm;
	(void)snprintf(f->name, sizeof(f->name), "%s", vm->name);
	(void)snprintf(f->state_dir, sizeof(f->state_dir), "%s",
		       vm->file.state_dir[0] ? vm->file.state_dir : vm->d->conf.state_dir);
	if (hf_worker_start(&vm->d->loop, run, done, free, f, &f->worker) < 0)
		free(f);
	else
		vm->finish = f;
}

void hf_vms_finish_abandon(struct hf_vms_vm *vm)
{
	if (vm->finish)
		hf_worker_abandon(vm->finish->worker);
	vm->finish = NULL;
}

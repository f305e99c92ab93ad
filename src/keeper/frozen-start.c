/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What earlier keepers of this VM have left: a freeze that one of them did not live to finish is
 * finished here. Its QEMU died with it, or is killed now, by the process id and start time on the latch;
 * so is its disk process.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keeper/frozen-side.h"
#include "keeper/keeper.h"
#include "vm/frozen.h"

static void note(struct hf_keeper *k, const struct hf_frozen *f)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "id", json_object_new_string(f->id));
	json_object_object_add(o, "cause",
			       json_object_new_string(hf_vm_cause_name(f->certificate.cause)));
	hf_event(&k->journal, "frozen", o,
		 "frozen as %s@%s: its keeper had died before that was done", k->name, f->id);
}

static int finish(struct hf_keeper *k, struct hf_frozen *f, struct hf_err *err)
{
	int r;

	if (hf_process_id_is_alive(&f->certificate.keeper)) {
		hf_err_set(err, "%s@%s is still being frozen, by process %d", k->name, f->id,
			   (int)f->certificate.keeper.pid);
		return -EBUSY;
	}
	r = hf_frozen_finish(k->set->state_dir, &f->certificate, err);

	if (!r)
		note(k, f);
	return r;
}

int hf_frozen_finish_all(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_frozen *list;
	size_t n;
	int r = hf_frozen_list(k->set->state_dir, k->name, &list, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; !r && i < n; i++)
		if (list[i].is_readable && !list[i].certificate.is_certified &&
		    (!k->set->frozen_id || strcmp(k->set->frozen_id, list[i].id) == 0))
			r = finish(k, &list[i], err);
	hf_frozen_free(list, n);
	return r;
}

int hf_frozen_check_start(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_frozen *list;
	size_t n;
	int r = hf_frozen_list(k->set->state_dir, k->name, &list, &n, err);

	if (r < 0)
		return r;
	if (n && k->set->when_frozen == HF_WHEN_FROZEN_REFUSE) {
		hf_err_set(err,
			   "'%s' was frozen here as %s@%s (%s): look at it with 'holdfast status', "
			   "'dump' or 'inspect', then 'holdfast release %s@%s'; or start a fresh "
			   "copy beside it with --when-frozen fresh",
			   k->name, k->name, list[n - 1].id,
			   list[n - 1].is_readable ? list[n - 1].certificate.cause_text
						   : list[n - 1].trouble,
			   k->name, list[n - 1].id);
		r = -EEXIST;
	}
	hf_frozen_free(list, n);
	return r;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/frozen-side.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "keeper/freezer.h"
#include "keeper/keeper.h"
#include "keeper/offloader.h"
#include "vm/frozen.h"

/* ---- the role ---- */

static void on_qmp_event(void *role __attribute__((unused)),
			 const char *name __attribute__((unused)),
			 struct json_object *data __attribute__((unused)),
			 uint64_t timestamp_us __attribute__((unused)))
{
	/* the freezer has seen it */
}

static void on_guest_gone(void *role __attribute__((unused)),
			  const struct hf_process_exit *how __attribute__((unused)))
{
}

static void nothing(void *role __attribute__((unused)))
{
}

/* The host goes down, or somebody wants this process gone: QEMU goes with it, the memory does not. */
static void on_signal(void *role, int signal)
{
	struct hf_keeper *k = role;

	hf_log(&k->journal, HF_LOG_INFO,
	       "signal %d: this guard ends, and QEMU with it; memory and certificate stay", signal);
	hf_loop_exit(&k->loop, HF_KEEPER_EXIT_ENDED);
}

static void add_status(void *role __attribute__((unused)), struct json_object *status)
{
	json_object_object_add(status, "role", json_object_new_string("frozen"));
	json_object_object_add(status, "state", json_object_new_string("frozen"));
	json_object_object_add(status, "protected", json_object_new_boolean(false));
	json_object_object_add(status, "protection",
			       json_object_new_string("no: this instance is frozen"));
}

static int refuse(struct hf_err *err)
{
	hf_err_set(err, "this instance is frozen and never runs again; 'holdfast release' discards "
			"it");
	return -EPERM;
}

static int order_forced(void *role __attribute__((unused)), bool is_forced __attribute__((unused)),
			struct hf_err *err)
{
	return refuse(err);
}

static int order(void *role __attribute__((unused)), struct hf_err *err)
{
	return refuse(err);
}

static const struct hf_role_ops frozen_ops = {
	.on_qmp_event = on_qmp_event,
	.on_guest_gone = on_guest_gone,
	.on_first_held = nothing,
	.on_over_limit = nothing,
	.on_signal = on_signal,
	.add_status = add_status,
	.promote = order_forced,
	.stop = order_forced,
	.resume = order,
	.pause = order,
};

/* ---- coming here ---- */

void hf_frozen_side_certified(struct hf_keeper *k)
{
	hf_life_note(k, HF_VM_EV_FROZEN);
	if (k->freezer->is_kept)
		hf_frozen_side_enter(k);
	else
		k->ops->frozen(k->role);
}

/* Not from within the calls of what is let go of here. What the role has in memory stays till the end of the
 * program. */
static void let_go(void *ctx)
{
	struct hf_keeper *k = ctx;

	k->ops->rest(k->role);
	k->role = k;
	k->ops = &frozen_ops;
	hf_guest_remove_nets(k->guest);
	hf_meetings_free(k->meetings);
	k->meetings = NULL;
	hf_disks_free(k->disks);
	k->disks = NULL;
	/* Whoever has it now: holdfastd is to forget that this host did, although a process of it lives on. */
	if (k->ownership)
		hf_ownership_release(k->ownership, nothing, k);
	hf_event(&k->journal, "guarding", NULL,
		 "the frozen instance is guarded; its port, disks and lease are free for another");
	hf_offloader_follow_policy(k);
}

void hf_frozen_side_enter(struct hf_keeper *k)
{
	if (k->ops != &frozen_ops)
		hf_timer_set(&k->frozen_timer, &k->loop, 0, let_go, k);
}

/* ---- release ---- */

struct release {
	struct hf_keeper *k;
	struct hf_err err;
};

static int do_release(void *ctx)
{
	struct release *rel = ctx;
	struct hf_frozen f;
	int r = hf_frozen_find(rel->k->set->state_dir, rel->k->name,
			       rel->k->freezer->certificate.id, &f, &rel->err);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	r = hf_frozen_release(&f, &rel->err);
	hf_frozen_fini(&f);
	return r;
}

static void on_released(void *ctx, int result)
{
	struct release *rel = ctx;
	struct hf_keeper *k = rel->k;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "id", json_object_new_string(k->freezer->certificate.id));
	if (result < 0) {
		hf_event(&k->journal, "release-failed", o, "what was kept is not all gone: %s",
			 rel->err.text);
		free(rel);
		k->freezer->is_released = false;
		return;
	}
	hf_life_note(k, HF_VM_EV_RELEASED);
	hf_event(&k->journal, "released", o, "the frozen instance %s@%s is discarded", k->name,
		 k->freezer->certificate.id);
	free(rel);
	if (k->freezer->is_kept)
		hf_keeper_finish(k, HF_KEEPER_EXIT_ENDED);
	/* Else the role still has to tell the standby, and ends by itself. */
}

void hf_frozen_side_writer_is_idle(struct hf_keeper *k)
{
	struct release *rel;
	struct hf_worker *w;

	if (k->freezer->worker || k->offloader)
		return; /* called again when that ends */
	rel = calloc(1, sizeof(*rel));
	if (rel)
		rel->k = k;
	if (rel && hf_worker_start(&k->loop, do_release, on_released, free, rel, &w) == 0)
		return;
	free(rel);
	k->freezer->is_released = false;
	hf_log(&k->journal, HF_LOG_ERROR, "cannot release: no thread could be started for it");
}

int hf_frozen_side_release(struct hf_keeper *k, struct hf_err *err)
{
	if (!hf_freezer_is_certified(k->freezer)) {
		hf_err_set(err, "there is no frozen instance here yet");
		return -EPERM;
	}
	if (k->freezer->is_released)
		return 0;
	k->freezer->is_released = true;
	(void)!hf_guest_kill(k->guest); /* its end is waited for in the thread */
	hf_offloader_call_off(k);
	hf_frozen_side_writer_is_idle(k);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/offloader.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>

#include "codec/json.h"
#include "keeper/freezer.h"
#include "keeper/keeper.h"
#include "sys/fd.h"
#include "sys/procstat.h"
#include "vm/frozen.h"
#include "vm/offload.h"

#define NOT_POSSIBLE "org.holdfast.Keeper.NotPossible"
#define PROGRESS_NS 250000000ull
#define GUARD_END_MS 10000

/* ---- memory to a file ---- */

struct hf_offloader {
	struct hf_keeper *k;
	struct hf_certificate certificate; /* its lists are the keeper's */
	const char *state_dir;
	uint64_t space_bytes;
	_Atomic uint64_t done_bytes;
	_Atomic bool is_called_off;
	struct hf_varlink_request *rq; /* NULL: nobody waits */
	struct hf_timer timer;
	struct hf_err err;
};

static bool on_progress(void *ctx, uint64_t done_bytes,
			uint64_t total_bytes __attribute__((unused)))
{
	struct hf_offloader *o = ctx;

	atomic_store(&o->done_bytes, done_bytes);
	return !atomic_load(&o->is_called_off);
}

static int move_memory(void *ctx)
{
	struct hf_offloader *o = ctx;

	return hf_offload(o->state_dir, &o->certificate, o->space_bytes, on_progress, o, &o->err);
}

static void forget_request(void *data)
{
	struct hf_offloader *o = data;

	o->rq = NULL;
}

static void tell_progress(void *ctx)
{
	struct hf_offloader *o = ctx;
	struct json_object *p;

	hf_timer_set(&o->timer, &o->k->loop, hf_now_ns() + PROGRESS_NS, tell_progress, o);
	if (!o->rq)
		return;
	p = json_object_new_object();
	json_object_object_add(p, "done_bytes",
			       json_object_new_uint64(atomic_load(&o->done_bytes)));
	json_object_object_add(p, "total_bytes", json_object_new_uint64(o->certificate.ram_bytes));
	hf_varlink_continue(o->rq, p);
}

static void answer(struct hf_offloader *o, int result)
{
	if (!o->rq)
		return;
	hf_varlink_request_watch(o->rq, NULL, NULL);
	if (result < 0)
		hf_varlink_refuse(o->rq, NOT_POSSIBLE, o->err.text);
	else
		hf_varlink_done(o->rq, NULL);
	o->rq = NULL;
}

/* QEMU maps the memory, and so has to end for it to be free. */
static void on_moved(void *ctx, int result)
{
	struct hf_offloader *o = ctx;
	struct hf_keeper *k = o->k;
	struct hf_certificate *c = &k->freezer->certificate;

	if (result < 0) {
		hf_event(&k->journal, "offload-failed", NULL, "the memory stays where it is: %s",
			 o->err.text);
	} else {
		c->ram = o->certificate.ram;
		c->ram_holder = o->certificate.ram_holder;
		hf_event(&k->journal, "offloaded", NULL, "the memory of %s@%s is in a file",
			 k->name, c->id);
		(void)!hf_guest_kill(k->guest);
	}
	answer(o, result);
	hf_timer_fini(&o->timer);
	k->offloader = NULL;
	free(o);
	hf_freezer_offload_ended(k->freezer);
}

static int begin(struct hf_keeper *k, struct hf_varlink_request *rq, struct hf_err *err)
{
	struct hf_offloader *o;
	struct hf_worker *w;
	int r;

	if (!hf_freezer_is_certified(k->freezer) || k->freezer->is_released ||
	    k->freezer->certificate.ram != HF_REMAINS_PROCESS) {
		hf_err_set(err, "there is no frozen instance here with its memory in memory");
		return -EPERM;
	}
	if (k->offloader) {
		hf_err_set(err, "its memory is being moved already");
		return -EALREADY;
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->k = k;
	o->certificate = k->freezer->certificate;
	o->state_dir = k->set->state_dir;
	o->space_bytes = k->set->frozen_space_bytes;
	r = hf_worker_start(&k->loop, move_memory, on_moved, free, o, &w);
	if (r < 0) {
		free(o);
		hf_err_set(err, "no thread could be started for it: %s", strerror(-r));
		return r;
	}
	o->rq = rq;
	if (rq)
		hf_varlink_request_watch(rq, forget_request, o);
	k->offloader = o;
	tell_progress(o);
	return 0;
}

void hf_offloader_call_off(struct hf_keeper *k)
{
	if (k->offloader)
		atomic_store(&k->offloader->is_called_off, true);
}

void hf_offloader_order(struct hf_keeper *k, struct hf_varlink_request *rq)
{
	struct hf_err err = { "out of memory" };

	if (begin(k, rq, &err) < 0)
		hf_varlink_refuse(rq, NOT_POSSIBLE, err.text);
}

/* ---- how many are kept ---- */

struct retirement {
	struct hf_keeper *k;
	const char *state_dir;
	const char *vm;
	unsigned int keep;
	uint64_t space_bytes;
	unsigned int n_retired;
	struct hf_err err;
};

/* A guard that lives has QEMU for its child, and is asked to end first. */
static void end_guard(const struct hf_certificate *c)
{
	struct pollfd guard = { .events = POLLIN };

	guard.fd = hf_procstat_open(c->keeper.pid, c->keeper.start_ticks);
	if (guard.fd < 0)
		return;
	if (pidfd_send_signal(guard.fd, SIGTERM, NULL, 0) == 0)
		(void)poll(&guard, 1, GUARD_END_MS);
	hf_fd_close(&guard.fd);
}

static int retire(void *ctx)
{
	struct retirement *t = ctx;
	bool is_over[HF_FROZEN_MAX] = { false };
	struct hf_frozen *list;
	size_t n;
	int r = hf_frozen_list(t->state_dir, t->vm, &list, &n, &t->err);

	if (r < 0)
		return r;
	(void)hf_frozen_retire(list, n, t->keep, t->space_bytes, is_over);
	for (size_t i = 0; !r && i < n; i++) {
		if (!is_over[i])
			continue;
		end_guard(&list[i].certificate);
		r = hf_frozen_release(&list[i], &t->err);
		if (!r)
			t->n_retired++;
	}
	hf_frozen_free(list, n);
	return r;
}

static void on_retired(void *ctx, int result)
{
	struct retirement *t = ctx;

	if (t->n_retired)
		hf_event(&t->k->journal, "retired", NULL,
			 "%u older frozen instances of this VM were released: frozen-keep is %u",
			 t->n_retired, t->keep);
	if (result < 0)
		hf_log(&t->k->journal, HF_LOG_ERROR,
		       "an older frozen instance could not be released: %s", t->err.text);
	free(t);
}

static void retire_others(struct hf_keeper *k)
{
	struct retirement *t = calloc(1, sizeof(*t));
	struct hf_worker *w;

	if (!t)
		return;
	*t = (struct retirement){ .k = k,
				  .state_dir = k->set->state_dir,
				  .vm = k->name,
				  .keep = k->set->frozen_keep,
				  .space_bytes = k->set->frozen_space_bytes };
	if (hf_worker_start(&k->loop, retire, on_retired, free, t, &w) < 0)
		free(t);
}

void hf_offloader_follow_policy(struct hf_keeper *k)
{
	struct hf_err err = { "" };

	retire_others(k);
	if (k->set->frozen_memory != HF_FROZEN_MEMORY_FILE)
		return;
	if (begin(k, NULL, &err) < 0)
		hf_log(&k->journal, HF_LOG_ERROR, "frozen-memory=file: %s", err.text);
}

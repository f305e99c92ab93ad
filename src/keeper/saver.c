/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/saver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "codec/json.h"
#include "keeper/keeper.h"
#include "service/varlink-server.h"
#include "service/worker.h"
#include "sys/fd.h"
#include "vm/checkpoint.h"
#include "vm/savefile.h"

#define ERROR_NOT_POSSIBLE "org.holdfast.Keeper.NotPossible"
#define STATE_ROOM_BYTES ((uint64_t)32 << 20)
#define QUIET_TRY_NS 5000000ull
#define QUIET_MAX_NS 10000000000ull
#define PROGRESS_NS 200000000ull

enum step { STEP_QUIET, STEP_STATE, STEP_PREPARE, STEP_WRITE, STEP_COMMIT, STEP_DONE };

/* What the worker has to itself: it may outlive the save, if storage hangs. */
struct job {
	struct hf_saver *saver; /* for the loop alone */
	char *state_dir;
	struct hf_savenote note;
	int ram_fd; /* its own */
	uint8_t *state;
	size_t state_len;
	struct hf_err err;
	bool is_committing;
	bool is_undoing; /* that */
	atomic_bool is_cancelled;
	atomic_ullong done_bytes;
};

struct hf_saver {
	struct hf_keeper *k;
	struct hf_varlink_request *rq; /* NULL: its client is gone */
	enum step step;
	bool was_running;
	uint64_t began_ns;
	struct hf_checkpoint checkpoint;
	bool has_checkpoint;
	bool is_called_off; /* while the worker made it `saved` */
	struct hf_watch stream_watch;
	struct hf_timer timer;
	struct hf_worker *worker;
	struct job *job;
	struct hf_savenote note; /* of what was saved: for settle */
};

/* ---- the worker's part ---- */

static bool on_copied(void *ctx, uint64_t done_bytes)
{
	struct job *j = ctx;

	atomic_store(&j->done_bytes, done_bytes);
	return !atomic_load(&j->is_cancelled);
}

static int write_files(struct job *j)
{
	uint64_t bytes;
	int r = hf_sparse_data_bytes(j->ram_fd, j->note.ram_bytes, &bytes);

	if (!r)
		r = hf_savefile_prepare(j->state_dir, j->note.vm, bytes + STATE_ROOM_BYTES,
					&j->err);
	if (!r)
		r = hf_savefile_write(j->state_dir, &j->note, j->ram_fd, j->state, j->state_len,
				      on_copied, j, &j->err);
	if (r < 0 || atomic_load(&j->is_cancelled))
		hf_savefile_drop_new(j->state_dir, j->note.vm);
	return r;
}

static int run_job(void *ctx)
{
	struct job *j = ctx;

	if (j->is_undoing)
		return hf_savefile_discard(j->state_dir, j->note.vm, &j->err);
	return j->is_committing ? hf_savefile_commit(j->state_dir, j->note.vm, &j->err)
				: write_files(j);
}

static void free_job(void *ctx)
{
	struct job *j = ctx;

	if (!j)
		return;
	free(j->state_dir);
	free(j->state);
	hf_fd_close(&j->ram_fd);
	free(j);
}

/* ---- how it ends ---- */

static void forget_client(void *data)
{
	struct hf_saver *s = data;

	s->rq = NULL;
	if (s->job)
		atomic_store(&s->job->is_cancelled, true);
}

static void answer(struct hf_saver *s, const char *why)
{
	struct hf_varlink_request *rq = s->rq;
	struct json_object *o;

	s->rq = NULL;
	if (!rq)
		return;
	hf_varlink_request_watch(rq, NULL, NULL);
	if (why) {
		hf_varlink_refuse(rq, ERROR_NOT_POSSIBLE, why);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "bytes", json_object_new_uint64(s->note.ram_bytes));
	hf_varlink_done(rq, o);
}

static void free_saver(struct hf_saver *s)
{
	hf_timer_fini(&s->timer);
	hf_watch_remove(&s->stream_watch);
	if (s->has_checkpoint)
		hf_checkpoint_fini(&s->checkpoint);
	if (s->worker) {
		atomic_store(&s->job->is_cancelled, true);
		hf_worker_abandon(s->worker); /* which frees the job */
	} else {
		free_job(s->job);
	}
	free(s);
}

/* The VM goes on as if nothing had been. */
static void fail(struct hf_saver *s, const char *why)
{
	struct hf_keeper *k = s->k;
	bool was_running = s->was_running;

	hf_event(&k->journal, "save-failed", NULL, "the VM was not saved: %s", why);
	answer(s, why);
	k->saver = NULL;
	free_saver(s);
	if (was_running && !k->is_guest_running)
		hf_keeper_qmp(k, "cont");
	if (k->disks)
		hf_disks_draining(k->disks, false);
	hf_life_note(k, HF_VM_EV_SAVE_FAILED);
	if (k->ops->hold)
		(void)k->ops->hold(k->role, /* is_held= */ false);
	hf_freezer_role_is_quiet(k->freezer); /* it may have waited for our checkpoint */
}

static void succeed(struct hf_saver *s)
{
	struct hf_keeper *k = s->k;

	s->note = s->job->note;
	free_job(s->job);
	s->job = NULL;
	s->step = STEP_DONE;
	hf_event(&k->journal, "saved", NULL, "the VM's state is in files; it ends here");
	answer(s, NULL);
	hf_life_note(k, HF_VM_EV_SAVED);
	hf_keeper_qmp(k, "quit");
}

/* ---- writing ---- */

static void on_progress(void *ctx)
{
	struct hf_saver *s = ctx;
	struct json_object *o;

	if (s->rq && s->job && hf_varlink_request_has_more(s->rq)) {
		o = json_object_new_object();
		json_object_object_add(o, "done_bytes",
				       json_object_new_uint64(atomic_load(&s->job->done_bytes)));
		json_object_object_add(o, "total_bytes",
				       json_object_new_uint64(s->job->note.ram_bytes));
		hf_varlink_continue(s->rq, o);
	}
	hf_timer_set(&s->timer, &s->k->loop, hf_now_ns() + PROGRESS_NS, on_progress, s);
}

static void on_written(void *ctx, int result);

static void start_job(struct hf_saver *s)
{
	int r = hf_worker_start(&s->k->loop, run_job, on_written, free_job, s->job, &s->worker);

	if (r < 0) {
		s->worker = NULL;
		fail(s, strerror(-r));
	}
}

static void on_written(void *ctx, int result)
{
	struct job *j = ctx;
	struct hf_saver *s = j->saver;

	s->worker = NULL;
	if (result < 0) {
		fail(s, j->err.text[0] ? j->err.text : strerror(-result));
	} else if (j->is_undoing) {
		fail(s, "it was called off");
	} else if (s->is_called_off) {
		j->is_undoing = true;
		start_job(s);
	} else if (j->is_committing)
		succeed(s);
	else if (atomic_load(&j->is_cancelled) || s->k->is_guest_running)
		fail(s, s->k->is_guest_running ? "the guest was let go on meanwhile"
					       : "it was called off");
	else {
		s->step = STEP_COMMIT;
		j->is_committing = true;
		start_job(s);
	}
}

static void fill_note(const struct hf_keeper *k, bool was_running, struct hf_savenote *n)
{
	const struct hf_guest_identity *id = hf_guest_identity(k->guest);
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	n->saved_time_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	(void)snprintf(n->vm, sizeof(n->vm), "%s", k->name);
	(void)gethostname(n->host, sizeof(n->host) - 1);
	(void)snprintf(n->qemu_version, sizeof(n->qemu_version), "%s", id->qemu_version);
	(void)snprintf(n->machine, sizeof(n->machine), "%s", id->machine);
	n->ram_bytes = id->ram_bytes;
	n->was_running = was_running;
	n->lver = k->ownership ? hf_ownership_lver(k->ownership) : 0;
	for (size_t i = 0; i < k->cmdline->disk_count && i < HF_SAVENOTE_IMAGES_MAX; i++)
		(void)snprintf(n->image[n->n_images++].location, PATH_MAX, "%s",
			       k->cmdline->disk[i].location);
}

static struct job *new_job(struct hf_saver *s)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->saver = s;
	j->ram_fd = fcntl(hf_guest_ram(s->k->guest)->fd, F_DUPFD_CLOEXEC, 3);
	j->state_dir = strdup(s->k->set->state_dir);
	j->state = malloc(s->checkpoint.state_len + 1);
	if (j->ram_fd < 0 || !j->state_dir || !j->state) {
		free_job(j);
		return NULL;
	}
	memcpy(j->state, s->checkpoint.state, s->checkpoint.state_len);
	j->state_len = s->checkpoint.state_len;
	fill_note(s->k, s->was_running, &j->note);
	return j;
}

/* ---- the device state ---- */

static void on_standstill(void *ctx)
{
	struct hf_saver *s = ctx;

	hf_checkpoint_stay(&s->checkpoint);
}

static void on_running(void *ctx __attribute__((unused)))
{
}

static void on_stream_end(void *ctx)
{
	struct hf_saver *s = ctx;

	if (!s->rq) {
		fail(s, "it was called off");
		return;
	}
	s->step = STEP_WRITE;
	s->job = new_job(s);
	if (!s->job) {
		fail(s, "no memory");
		return;
	}
	on_progress(s);
	start_job(s);
}

/* From within the checkpoint, which fail() would free. */
static void on_late_failure(void *ctx)
{
	fail(ctx, "QEMU could not save the device state (its own message is on its stderr)");
}

static void on_failed(void *ctx, const char *why __attribute__((unused)))
{
	struct hf_saver *s = ctx;

	hf_timer_set(&s->timer, &s->k->loop, hf_now_ns(), on_late_failure, s);
}

static void on_stream_close(void *ctx)
{
	struct hf_saver *s = ctx;

	hf_watch_remove(&s->stream_watch);
}

static const struct hf_checkpoint_ops checkpoint_ops = {
	.on_standstill = on_standstill,
	.on_running = on_running,
	.on_stream_end = on_stream_end,
	.on_failed = on_failed,
	.on_stream_close = on_stream_close,
};

static uint32_t stream_wanted(void *ctx)
{
	const struct hf_saver *s = ctx;

	return s->checkpoint.stream_fd >= 0 ? EPOLLIN : 0;
}

static void stream_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_saver *s = ctx;

	hf_checkpoint_dispatch(&s->checkpoint);
}

static void take_state(struct hf_saver *s)
{
	struct hf_err err = { "" };
	int r;

	s->step = STEP_STATE;
	s->was_running = s->k->is_guest_running;
	/* QEMU waits for the guest's writes, and a full log may have made them wait. */
	if (s->k->disks)
		hf_disks_draining(s->k->disks, true);
	hf_checkpoint_init(&s->checkpoint, hf_guest_qmp(s->k->guest), &checkpoint_ops, s);
	s->has_checkpoint = true;
	r = hf_checkpoint_begin(&s->checkpoint, s->was_running, &err);
	if (!r)
		r = hf_watch_add(&s->stream_watch, &s->k->loop, s->checkpoint.stream_fd,
				 HF_PRIORITY_VM, stream_wanted, stream_ready, s);
	if (r < 0)
		fail(s, err.text[0] ? err.text : strerror(-r));
}

/* An epoch that is being captured has to come to its end first. */
static void try_quiet(void *ctx)
{
	struct hf_saver *s = ctx;

	if (!s->rq)
		fail(s, "it was called off");
	else if (s->k->ops->hold(s->k->role, /* is_held= */ true))
		take_state(s);
	else if (hf_now_ns() - s->began_ns > QUIET_MAX_NS)
		fail(s, "the checkpoint that is under way does not end");
	else
		hf_timer_set(&s->timer, &s->k->loop, hf_now_ns() + QUIET_TRY_NS, try_quiet, s);
}

/* ---- the order ---- */

static int may_save(struct hf_keeper *k, struct hf_err *err)
{
	if (!k->ops || !k->ops->hold)
		hf_err_set(err, "this is the standby: the VM is to be saved where it runs");
	else if (k->saver)
		hf_err_set(err, "the VM is being saved already");
	else if (k->dumper)
		hf_err_set(err, "a dump of the VM is being written: wait for its end");
	else
		return hf_life_order_save(k, err);
	return -EPERM;
}

void hf_saver_order(struct hf_keeper *k, struct hf_varlink_request *rq,
		    struct json_object *parameters __attribute__((unused)))
{
	struct hf_err err = { "" };
	struct hf_saver *s;

	if (may_save(k, &err) < 0) {
		hf_varlink_refuse(rq, ERROR_NOT_POSSIBLE, err.text);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		hf_varlink_refuse(rq, ERROR_NOT_POSSIBLE, "no memory");
		return;
	}
	s->k = k;
	s->rq = rq;
	s->began_ns = hf_now_ns();
	k->saver = s;
	hf_varlink_request_watch(rq, forget_client, s);
	hf_event(&k->journal, "saving", NULL, "an operator saves the VM");
	try_quiet(s);
}

void hf_saver_qmp_event(struct hf_keeper *k, const char *name, struct json_object *data)
{
	if (k->saver && k->saver->has_checkpoint)
		hf_checkpoint_event(&k->saver->checkpoint, name, data);
}

bool hf_saver_call_off(struct hf_keeper *k, const char *why)
{
	struct hf_saver *s = k->saver;

	if (!s || s->step == STEP_DONE)
		return true;
	if (s->step == STEP_QUIET || s->step == STEP_WRITE) {
		fail(s, why);
		return true;
	}
	answer(s, why);
	s->is_called_off = true;
	if (s->step != STEP_STATE)
		return true;
	hf_checkpoint_hold(&s->checkpoint);
	return s->checkpoint.step == HF_CHECKPOINT_IDLE;
}

void hf_saver_guest_gone(struct hf_keeper *k)
{
	struct hf_saver *s = k->saver;

	if (!s || s->step == STEP_DONE)
		return;
	if (s->step == STEP_COMMIT) { /* what lies there then is not to be resumed */
		(void)hf_saver_call_off(k, "QEMU has ended");
		return;
	}
	hf_event(&k->journal, "save-failed", NULL, "the VM was not saved: QEMU has ended");
	answer(s, "QEMU has ended");
	k->saver = NULL;
	free_saver(s);
}

bool hf_saver_is_at_work(const struct hf_keeper *k)
{
	return k->saver && k->saver->step != STEP_DONE;
}

bool hf_saver_is_done(const struct hf_keeper *k)
{
	return k->saver && k->saver->step == STEP_DONE;
}

void hf_saver_settle(struct hf_keeper *k)
{
	struct hf_err err = { "" };

	if (!hf_saver_is_done(k))
		return;
	if (hf_savefile_settle(k->set->state_dir, &k->saver->note, &err) < 0)
		hf_log(&k->journal, HF_LOG_ERROR,
		       "the VM is saved, but a resume will want --force: %s", err.text);
}

void hf_saver_free(struct hf_keeper *k)
{
	if (k->saver) {
		answer(k->saver, "the keeper ends");
		free_saver(k->saver);
	}
	k->saver = NULL;
	free(k->saved);
	k->saved = NULL;
}

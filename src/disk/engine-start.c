/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Start: what a predecessor left is found out and gone on with; and the end.
 *
 * The shared memory is new, or it was a predecessor's that died anywhere. Of the latter, the records in the
 * chunks and the words are all that is needed: what was acknowledged is a whole record; what was
 * applied and not freed is applied again, the oldest first; what the journal has it says itself. In new memory there is
 * no log, so an owner redoes its journal, and a standby leaves everything as it is.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "disk/engine-internal.h"
#include "sys/fd.h"

/* ---- making and unmaking ---- */

static int init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (!r)
		r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!r)
		r = pthread_cond_init(cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	return -r;
}

static int init_locks(struct hf_engine *e)
{
	(void)pthread_mutex_init(&e->log_lock, NULL);
	(void)pthread_mutex_init(&e->lock, NULL);
	(void)pthread_mutex_init(&e->redo_lock, NULL);
	(void)pthread_mutex_init(&e->sync_lock, NULL);
	for (uint32_t i = 0; i < HF_WIRE_DISKS_MAX; i++)
		(void)pthread_rwlock_init(&e->disk[i].lock, NULL);
	return init_cond(&e->log_changed) || init_cond(&e->changed) || init_cond(&e->sync_changed)
		       ? -ENOMEM
		       : 0;
}

static int open_disk(struct hf_engine *e, uint32_t i, const struct hf_engine_config *c,
		     struct hf_err *err)
{
	struct engine_disk *d = &e->disk[i];
	int r = hf_image_open(&c->image[i], &d->image, err);

	if (r < 0)
		return r;
	d->size_bytes = e->disk_bytes[i] = hf_image_size_bytes(d->image);
	d->block_bytes = hf_image_block_bytes(d->image);
	d->can_trim = hf_image_can_trim(d->image);
	if (hf_extents_new(&d->overlay) < 0 || hf_extents_new(&d->batch) < 0)
		return -ENOMEM;
	if (c->map_path[i])
		r = hf_dirtymap_open(c->map_path[i], d->size_bytes, &d->map, err);
	return r;
}

/* Without a keeper the words are our own, and say that everything goes past the log. */
static int set_words(struct hf_engine *e)
{
	if (e->has_keeper) {
		e->words = e->shm.words;
		return 0;
	}
	e->words = calloc(1, sizeof(*e->words));
	if (!e->words)
		return -ENOMEM;
	atomic_store(&e->words->permit_ns, UINT64_MAX);
	atomic_store(&e->words->lease_ns, UINT64_MAX);
	return 0;
}

static int make(const struct hf_engine_config *c, struct hf_engine *e, struct hf_err *err)
{
	int r = 0;

	e->n_disks = c->n_disks;
	e->is_shared = c->is_shared;
	e->has_keeper = c->shm.words != NULL;
	e->vm = strdup(c->vm ? c->vm : "vm");
	e->redo_location = strdup(c->redo_location ? c->redo_location : "");
	e->redo_area_bytes = c->redo_area_bytes;
	e->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!e->vm || !e->redo_location || e->stop_fd < 0)
		r = -ENOMEM;
	if (!r)
		r = set_words(e);
	for (uint32_t i = 0; !r && i < e->n_disks; i++)
		r = open_disk(e, i, c, err);
	if (!r && e->has_keeper)
		r = engine_open_redo(e, err);
	if (r || !e->has_keeper)
		return r;
	e->iov = calloc(e->shm.n_chunks[HF_DISKSHM_OUT] + (size_t)e->shm.n_chunks[HF_DISKSHM_IN],
			sizeof(*e->iov));
	return e->iov ? 0 : -ENOMEM;
}

static void unmake(struct hf_engine *e)
{
	for (uint32_t i = 0; i < e->n_disks; i++) {
		hf_dirtymap_close(e->disk[i].map);
		hf_extents_free(e->disk[i].overlay);
		hf_extents_free(e->disk[i].batch);
		if (e->disk[i].image)
			hf_image_close(e->disk[i].image);
	}
	hf_redo_close(e->redo);
	if (!e->has_keeper)
		free(e->words);
	free(e->iov);
	free(e->vm);
	free(e->redo_location);
	hf_fd_close(&e->stop_fd);
	hf_fd_close(&e->control_fd);
	hf_diskshm_close(&e->shm);
	free(e);
}

/* ---- what a predecessor left ---- */

static int add_to_overlay(struct hf_engine *e, enum hf_diskshm_pool_id pool, struct hf_err *err)
{
	uint64_t head = hf_diskshm_head(&e->shm, pool);
	struct hf_diskshm_view v;
	int r = 0;

	for (uint64_t at = engine_first(e, pool); !r && at < head; at++) {
		if (!hf_diskshm_look(&e->shm, pool, at, &v)) {
			hf_err_set(err, "the shared log is damaged");
			return -EBADMSG;
		}
		if (v.epoch > e->d.applied)
			r = engine_overlay_add(e, pool, at, err);
	}
	return r;
}

int engine_build_overlay(struct hf_engine *e, struct hf_err *err)
{
	int r;

	for (uint32_t i = 0; i < e->n_disks; i++)
		hf_extents_clear(e->disk[i].overlay);
	r = add_to_overlay(e, HF_DISKSHM_IN, err);
	if (!r)
		r = add_to_overlay(e, HF_DISKSHM_OUT, err);
	return r;
}

/* Bytes and epochs of OUT, and its newest chunk to go on with. */
static void find_open_chunk(struct hf_engine *e)
{
	uint64_t head = hf_diskshm_head(&e->shm, HF_DISKSHM_OUT), logged = 0, of_epoch = 0;
	uint64_t epoch = atomic_load(&e->words->open_epoch);
	struct hf_diskshm_view v;

	for (uint64_t at = hf_diskshm_tail(&e->shm, HF_DISKSHM_OUT); at < head; at++) {
		if (!hf_diskshm_look(&e->shm, HF_DISKSHM_OUT, at, &v))
			return;
		logged += v.used;
		if (v.epoch != epoch)
			continue;
		of_epoch += v.used;
		e->open = (struct engine_open){
			.is_open = true,
			.chunk = v.chunk,
			.records = v.message + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES,
			.position = at,
			.epoch = epoch,
			.used = v.used,
			.n = v.n_records,
		};
	}
	e->log_epoch = epoch;
	e->drained_epoch = e->d.settled;
	atomic_store(&e->words->logged_bytes, logged);
	atomic_store(&e->words->epoch_bytes, of_epoch);
	atomic_store(&e->is_holding,
		     logged > 0 || atomic_load(&e->words->state) != HF_DISKSHM_DIRECT);
}

/* The first chunk that the journal does not have. */
static void find_journal_at(struct hf_engine *e, enum hf_diskshm_pool_id pool)
{
	uint64_t head = hf_diskshm_head(&e->shm, pool);
	uint64_t at = engine_first(e, pool);
	struct hf_diskshm_view v;

	while (at < head && hf_diskshm_look(&e->shm, pool, at, &v) && v.epoch <= e->d.journaled)
		at++;
	e->journal_at[pool] = at;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* In a drain numbers are used that the keeper has not captured: they are in the words that are ours. */
static int restore_numbers(struct hf_engine *e, struct hf_err *err)
{
	const struct hf_diskshm_words *w = e->words;
	struct hf_disk was = {
		.may_apply = atomic_load(&w->reached_role) != HF_DISKSHM_WATCHER,
		.journaled = atomic_load(&w->journaled),
		.applied = atomic_load(&w->applied),
		.settled = atomic_load(&w->settled),
	};
	struct hf_redo_state state;

	was.captured = most(atomic_load(&w->captured), was.journaled);
	was.committed = most(atomic_load(&w->committed), was.applied);
	hf_redo_get_state(e->redo, &state);
	if (state.epoch > was.journaled && state.epoch <= was.captured)
		was.journaled = state.epoch;
	if (hf_disk_restore(&e->d, &was))
		return 0;
	hf_err_set(err, "the numbers in the shared log contradict each other");
	return -EBADMSG;
}

static int go_on(struct hf_engine *e, struct hf_err *err)
{
	int r = restore_numbers(e, err);

	if (r < 0)
		return r;
	atomic_store(&e->role, atomic_load(&e->words->reached_role));
	e->unsettled_bytes = 1; /* at least: what a predecessor wrote is not known */
	find_open_chunk(e);
	if (atomic_load(&e->role) == HF_DISKSHM_OWNER)
		r = engine_build_overlay(e, err);
	find_journal_at(e, HF_DISKSHM_IN);
	find_journal_at(e, HF_DISKSHM_OUT);
	if (atomic_load(&e->words->state) == HF_DISKSHM_HOLD)
		atomic_store(&e->hold_epoch, atomic_load(&e->words->open_epoch));
	if (atomic_load(&e->words->state) == HF_DISKSHM_DRAIN)
		engine_begin_drain(e);
	return r;
}

/* ---- in new memory ---- */

/* Images that may be behind another host's, or were being filled, are not the owner's before its keeper claims
 * them (SET_STATE) or the VM uses them: it may find that it must not run. */
static int begin(struct hf_engine *e, bool is_standby, uint64_t *ret_epochs, struct hf_err *err)
{
	const struct hf_id none = { 0 };
	struct hf_redo_state state;
	uint32_t role = atomic_load(&e->words->role);
	int r = 0;

	if (is_standby && role == HF_DISKSHM_OWNER)
		role = e->is_shared ? HF_DISKSHM_WATCHER : HF_DISKSHM_REPLICA;
	hf_disk_init(&e->d, atomic_load(&e->words->captured), role == HF_DISKSHM_REPLICA);
	hf_redo_get_state(e->redo, &state);
	*ret_epochs = role == HF_DISKSHM_OWNER ? state.entries : 0;
	if (role == HF_DISKSHM_OWNER &&
	    (e->condition == HF_DISK_REPLICATED || e->condition == HF_DISK_PARTIAL ||
	     e->condition == HF_DISK_HELD)) {
		e->needs_claim = true;
		atomic_store(&e->role, HF_DISKSHM_WATCHER);
		return 0;
	}
	if (role == HF_DISKSHM_OWNER) {
		e->d.may_apply = true;
		if (state.entries > 0)
			r = engine_redo(e, UINT64_MAX, err);
		if (!r)
			r = engine_take_over(e, HF_DISK_OWNED, none, err);
	}
	if (r < 0)
		return r;
	atomic_store(&e->role, role);
	atomic_store(&e->words->reached_role, role);
	atomic_store(&e->words->is_started, 1);
	return 0;
}

static void clear_words(struct hf_diskshm_words *w)
{
	atomic_store(&w->error, 0);
	atomic_store(&w->is_over_soft, 0);
	atomic_store(&w->is_sync_done, 0);
	atomic_store(&w->sync_left_bytes, 0);
	atomic_store(&w->sync_total_bytes, 0);
	atomic_store(&w->direct_writes, 0);
}

static int check_words(const struct hf_engine *e, struct hf_err *err)
{
	if (e->words->n_disks == e->n_disks && atomic_load(&e->words->role) <= HF_DISKSHM_WATCHER &&
	    atomic_load(&e->words->reached_role) <= HF_DISKSHM_WATCHER &&
	    atomic_load(&e->words->state) <= HF_DISKSHM_DRAIN)
		return 0;
	hf_err_set(err, "the shared log is one of %u disks, %u are given, or it is damaged",
		   e->words->n_disks, e->n_disks);
	return -EINVAL;
}

static int recover(struct hf_engine *e, bool is_standby, uint64_t *ret_epochs, struct hf_err *err)
{
	int r = check_words(e, err);

	if (r < 0)
		return r;
	clear_words(e->words);
	r = atomic_load(&e->words->is_started) ? go_on(e, err)
					       : begin(e, is_standby, ret_epochs, err);
	if (!r)
		engine_publish(e);
	return r;
}

/* ---- threads ---- */

static void say_ready(struct hf_engine *e, uint64_t epochs, enum hf_disk_condition condition,
		      struct hf_id session)
{
	struct hf_diskctl_msg msg = { .type = HF_DISKCTL_READY };

	msg.ready.condition = condition;
	msg.ready.session = session;
	msg.ready.recovered_epochs = epochs;
	msg.ready.n_disks = e->n_disks;
	msg.ready.is_map_trusted = true;
	for (uint32_t i = 0; i < e->n_disks; i++) {
		struct hf_dirtymap *m = e->disk[i].map;
		struct hf_id map_session = m ? hf_dirtymap_session(m) : (struct hf_id){ 0 };

		hf_engine_geometry(e, i, &msg.ready.disk[i]);
		if (i == 0)
			msg.ready.map_session = map_session;
		if (!m || !hf_dirtymap_is_trusted(m) ||
		    !hf_id_is_equal(map_session, msg.ready.map_session))
			msg.ready.is_map_trusted = false;
	}
	/* A standby's own: it does not know what its owner had in excess of what is here. */
	if (e->needs_claim && condition != HF_DISK_HELD)
		msg.ready.is_map_trusted = false;
	engine_say(e, &msg);
}

static int start_threads(struct hf_engine *e)
{
	static void *(*const threads[])(void *) = {
		engine_control_thread, engine_orders_thread, engine_journal_thread,
		engine_apply_thread,   engine_sync_thread,
	};
	static_assert(sizeof(threads) / sizeof(threads[0]) ==
			      sizeof(e->thread) / sizeof(e->thread[0]),
		      "one place for each thread");

	for (; e->n_threads < sizeof(threads) / sizeof(threads[0]); e->n_threads++) {
		int r = pthread_create(&e->thread[e->n_threads], NULL, threads[e->n_threads], e);

		if (r)
			return -r;
	}
	return 0;
}

static void stop_threads(struct hf_engine *e)
{
	uint64_t one = 1;

	pthread_mutex_lock(&e->lock);
	e->is_stopping = true;
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	pthread_mutex_lock(&e->sync_lock);
	pthread_cond_broadcast(&e->sync_changed);
	pthread_mutex_unlock(&e->sync_lock);
	(void)!write(e->stop_fd, &one, sizeof(one));
	for (uint32_t i = 0; i < e->n_threads; i++)
		(void)pthread_join(e->thread[i], NULL);
	e->n_threads = 0;
}

int hf_engine_start(const struct hf_engine_config *config, struct hf_engine **ret,
		    struct hf_err *err)
{
	struct hf_engine *e = calloc(1, sizeof(*e));
	enum hf_disk_condition condition;
	struct hf_id session;
	uint64_t epochs = 0;
	int r = e ? init_locks(e) : -ENOMEM;

	assert(config->n_disks > 0 && config->n_disks <= HF_WIRE_DISKS_MAX);
	if (r < 0) {
		free(e);
		return r;
	}
	e->shm = config->shm;
	e->control_fd = config->control_fd;
	r = make(config, e, err);
	if (r < 0)
		goto fail;
	if (e->has_keeper) {
		condition = e->condition;
		session = e->session;
		r = recover(e, config->is_standby, &epochs, err);
	}
	if (!r && e->has_keeper) {
		say_ready(e, epochs, condition, session);
		engine_look_at_words(e);
		r = start_threads(e);
	}
	if (r < 0)
		goto fail;
	*ret = e;
	return 0;
fail:
	stop_threads(e);
	e->shm = HF_DISKSHM_NONE; /* the caller's still, and so is the control socket */
	e->control_fd = -1;
	unmake(e);
	if (err && !err->text[0])
		hf_err_set(err, "cannot start: %s", strerror(-r));
	return r;
}

void hf_engine_stop(struct hf_engine *e)
{
	stop_threads(e);
	unmake(e);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Modes and roles: what the keeper's words order, and when it is reached.
 *
 *            mode HOLD: direct writes have ended, images are flushed
 *     DIRECT ------------------------------------------------------> HOLD
 *        ^                                                             | mode is another,
 *        |      all is settled, the journal is empty, OWNED            v or the role changes to owner
 *        +--------------------------------------------------------- DRAIN
 *
 * A drain that has begun is ended, whatever the mode is by then. Writers are logged from the moment
 * that mode is HOLD and state not DRAIN, and go past the log while mode is not HOLD and state is DIRECT.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "disk/engine-internal.h"

#define RETRY_NS (1 * ENGINE_S_NS)

static void put_word(_Atomic uint64_t *word, uint64_t value, bool *is_new)
{
	if (atomic_load(word) == value)
		return;
	atomic_store(word, value);
	*is_new = true;
}

void engine_publish(struct hf_engine *e)
{
	struct hf_diskshm_words *w = e->words;
	bool is_new = false;

	put_word(&w->journaled, e->d.journaled, &is_new);
	put_word(&w->applied, e->d.applied, &is_new);
	put_word(&w->settled, e->d.settled, &is_new);
	if (is_new)
		hf_diskshm_notify(&e->shm);
}

/*
 * A VM that was started anew counts from 1, and a standby outlives it: with a session its keeper begins at 0. lock
 * held. A watcher has never written, a replica has settled all that it was given by then.
 */
static void follow_numbers_back(struct hf_engine *e, uint64_t captured)
{
	uint32_t role = atomic_load(&e->role);

	if (role == HF_DISKSHM_OWNER || atomic_load(&e->words->role) == HF_DISKSHM_OWNER ||
	    captured >= e->d.captured)
		return;
	if (role == HF_DISKSHM_REPLICA && !hf_disk_is_drained(&e->d))
		return;
	hf_disk_init(&e->d, 0, e->d.may_apply);
	engine_publish(e);
}

/* The keeper stores captured before committed, and the next epoch's number before both: what is still being
 * logged is not captured, whatever it says. */
void engine_look_at_words(struct hf_engine *e)
{
	const struct hf_diskshm_words *w = e->words;
	uint64_t committed = atomic_load(&w->committed);
	uint64_t captured = atomic_load(&w->captured);
	uint64_t open = atomic_load(&w->open_epoch);

	pthread_mutex_lock(&e->lock);
	if (atomic_load(&e->role) == HF_DISKSHM_OWNER && open > 0 && captured >= open)
		captured = open - 1;
	follow_numbers_back(e, captured);
	hf_disk_captured(&e->d, captured);
	hf_disk_committed(&e->d, committed < e->d.captured ? committed : e->d.captured);
	if (atomic_load(&e->role) == HF_DISKSHM_WATCHER) {
		hf_disk_settled_by_owner(&e->d, atomic_load(&w->peer_settled));
		engine_publish(e);
	}
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	engine_look_at_epoch(e);
}

static void retry_later(struct hf_engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->apply_retry_ns = engine_now_ns() + RETRY_NS;
	pthread_mutex_unlock(&e->lock);
}

/* log_lock held. */
static void set_state(struct hf_engine *e, enum hf_diskshm_mode state)
{
	atomic_store(&e->words->state, state);
	pthread_cond_broadcast(&e->log_changed);
	hf_diskshm_notify(&e->shm);
}

/* ---- DIRECT to HOLD ---- */

/* A flush that is logged from now on is one for what was written past the log, too: hence the images' flush.
 * If that fails, what it was for may be lost, and the next flush would not say so: the guest is told at its own.
 * Whether a first copy is done has to be found out anew after the last such write. */
static bool step_hold(struct hf_engine *e)
{
	int r;

	if (atomic_load(&e->n_direct) > 0)
		return false;
	r = engine_flush_images(e);
	for (uint32_t i = 0; r < 0 && i < e->n_disks; i++)
		atomic_store(&e->disk[i].lost, r);
	if (r < 0) {
		retry_later(e);
		return false;
	}
	pthread_mutex_lock(&e->sync_lock);
	pthread_mutex_lock(&e->log_lock);
	atomic_store(&e->words->is_sync_done, 0);
	atomic_store(&e->hold_epoch, atomic_load(&e->words->open_epoch));
	set_state(e, HF_DISKSHM_HOLD);
	pthread_cond_broadcast(&e->sync_changed);
	pthread_mutex_unlock(&e->log_lock);
	pthread_mutex_unlock(&e->sync_lock);
	return true;
}

/* ---- HOLD to DRAIN to DIRECT ---- */

static uint64_t last_epoch(const struct hf_engine *e, enum hf_diskshm_pool_id pool)
{
	struct hf_diskshm_view v;
	uint64_t head = hf_diskshm_head(&e->shm, pool);

	if (hf_diskshm_in_use(&e->shm, pool) == 0 || !hf_diskshm_look(&e->shm, pool, head - 1, &v))
		return 0;
	return v.epoch;
}

void engine_begin_drain(struct hf_engine *e)
{
	uint64_t out = last_epoch(e, HF_DISKSHM_OUT);

	hf_disk_captured(&e->d, out);
	hf_disk_committed(&e->d, e->d.captured);
	e->drain_ns = engine_now_ns();
	atomic_store(&e->hold_epoch, 0);
	set_state(e, HF_DISKSHM_DRAIN);
	engine_signal(e);
}

static bool step_drain(struct hf_engine *e)
{
	pthread_mutex_lock(&e->lock);
	pthread_mutex_lock(&e->log_lock);
	engine_begin_drain(e);
	pthread_mutex_unlock(&e->log_lock);
	pthread_mutex_unlock(&e->lock);
	return true;
}

/* From here on writes go to the image, past any journal: that is recorded first. */
static int be_owned(struct hf_engine *e)
{
	const struct hf_id none = { 0 };
	struct hf_err err = { "" };
	int r = engine_reset_journal(e);

	if (r < 0)
		return r;
	r = engine_set_condition(e, HF_DISK_OWNED, none, &err);
	engine_fault(e, ENGINE_FAULT_JOURNAL, 0, r, "the redo journal: %s", err.text);
	return r;
}

static bool is_log_empty(struct hf_engine *e)
{
	for (uint32_t i = 0; i < e->n_disks; i++) {
		if (atomic_load(&e->disk[i].n_overlay) > 0)
			return false;
	}
	return hf_diskshm_in_use(&e->shm, HF_DISKSHM_OUT) == 0;
}

static bool step_drained(struct hf_engine *e)
{
	bool is_drained;

	pthread_mutex_lock(&e->lock);
	is_drained = hf_disk_is_drained(&e->d) && is_log_empty(e);
	pthread_mutex_unlock(&e->lock);
	if (!is_drained)
		return false;
	if (be_owned(e) < 0) {
		retry_later(e);
		return false;
	}
	pthread_mutex_lock(&e->lock);
	pthread_mutex_lock(&e->log_lock);
	atomic_store(&e->words->redo_ns, engine_now_ns() - e->drain_ns);
	e->drained_epoch = e->d.captured;
	atomic_store(&e->is_holding, false);
	set_state(e, HF_DISKSHM_DIRECT);
	pthread_mutex_unlock(&e->log_lock);
	pthread_mutex_unlock(&e->lock);
	return true;
}

/* ---- roles ---- */

/* What a standby was given and has not applied: reads find it in the log from now on. A watcher has never
 * written: its journal begins with what it was given. Until all of that stands in it durably the old owner's area counts,
 * should this host die as well: nothing that was done since has left it. */
static int take_role(struct hf_engine *e, struct hf_err *err)
{
	int r = 0;

	if (e->needs_claim)
		r = engine_redo(e, UINT64_MAX, err);
	if (!r && e->needs_claim)
		r = engine_take_over(e, HF_DISK_OWNED, (struct hf_id){ 0 }, err);
	else if (!r && atomic_load(&e->role) == HF_DISKSHM_WATCHER)
		r = engine_take_over(e, HF_DISK_PARTIAL, e->session, err);
	if (!r)
		r = engine_build_overlay(e, err);
	return r;
}

static void become_owner(struct hf_engine *e)
{
	pthread_mutex_lock(&e->lock);
	pthread_mutex_lock(&e->log_lock);
	if (e->needs_claim || atomic_load(&e->role) == HF_DISKSHM_WATCHER) {
		e->journal_at[HF_DISKSHM_IN] = engine_first(e, HF_DISKSHM_IN);
		hf_disk_take_over(&e->d);
	}
	if (!e->needs_claim)
		engine_begin_drain(e);
	e->needs_claim = false;
	atomic_store(&e->words->reached_role, HF_DISKSHM_OWNER);
	atomic_store(&e->words->is_started, 1);
	atomic_store(&e->role, HF_DISKSHM_OWNER);
	pthread_cond_broadcast(&e->log_changed);
	engine_signal(e);
	pthread_mutex_unlock(&e->log_lock);
	pthread_mutex_unlock(&e->lock);
}

static bool step_role(struct hf_engine *e)
{
	struct hf_err err = { "" };
	int r;

	if (e->needs_claim && !atomic_load(&e->is_claimed) &&
	    atomic_load(&e->words->mode) == HF_DISKSHM_DIRECT)
		return false;
	r = take_role(e, &err);
	engine_fault(e, ENGINE_FAULT_JOURNAL, 0, r, "%s", err.text[0] ? err.text : strerror(-r));
	if (r < 0) {
		retry_later(e);
		return false;
	}
	become_owner(e);
	return true;
}

bool engine_step_state(struct hf_engine *e)
{
	bool is_hold = atomic_load(&e->words->mode) == HF_DISKSHM_HOLD;
	uint32_t state = atomic_load(&e->words->state);

	if (!e->has_keeper || atomic_load(&e->words->role) != HF_DISKSHM_OWNER)
		return false;
	if (atomic_load(&e->role) != HF_DISKSHM_OWNER)
		return step_role(e);
	if (state == HF_DISKSHM_DRAIN)
		return step_drained(e);
	if (is_hold)
		return state == HF_DISKSHM_DIRECT && step_hold(e);
	return (state == HF_DISKSHM_HOLD || atomic_load(&e->is_holding)) && step_drain(e);
}

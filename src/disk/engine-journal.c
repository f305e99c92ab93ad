/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Captured epochs into the redo journal, and the journal's emptying.
 *
 * Lazily: several epochs share one flush, unless the keeper has outputs that wait for it (urgent), writers
 * wait for room, or the log is drained. An area that fills up is emptied when all that is in it is settled;
 * from half full on nothing is added until then, so that this comes true at all. What is in it and not yet
 * committed will be: that depends on the other host, not on this journal.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "disk/engine-internal.h"

#define LAZY_NS (200 * ENGINE_MS_NS)
#define RETRY_NS (1 * ENGINE_S_NS)

/* A copy that is being filled is no state of any time: no epoch comes on top of it before it is whole. */
bool engine_may_work(const struct hf_engine *e)
{
	return atomic_load(&e->role) != HF_DISKSHM_REPLICA || e->condition != HF_DISK_PARTIAL;
}

/* lock held. When to begin: 0: there is nothing to do. */
static uint64_t due_ns(struct hf_engine *e, uint64_t now)
{
	const struct hf_diskshm_words *w = e->words;
	bool is_holding = atomic_load(&e->role) != HF_DISKSHM_OWNER ||
			  atomic_load(&w->state) != HF_DISKSHM_DIRECT;

	if (!e->d.may_apply || e->d.journaled == e->d.captured || e->wants_reset || !is_holding ||
	    !engine_may_work(e)) {
		e->capture_ns = 0;
		return 0;
	}
	if (!e->capture_ns)
		e->capture_ns = now;
	if (e->journal_retry_ns > now)
		return e->journal_retry_ns;
	if (e->is_pressed || e->wants_settle || atomic_load(&w->urgent) > e->d.journaled ||
	    atomic_load(&w->state) == HF_DISKSHM_DRAIN ||
	    atomic_load(&w->logged_bytes) >
		    (uint64_t)e->shm.soft_chunks[HF_DISKSHM_OUT] * HF_DISKSHM_CHUNK_BYTES / 2)
		return now;
	return e->capture_ns + LAZY_NS;
}

/* ---- epochs into the journal ---- */

struct gather {
	uint64_t after, to; /* epochs */
	uint64_t epoch; /* that iov belongs to, 0: none */
	int n;
	uint64_t bytes;
	uint64_t at[HF_DISKSHM_POOLS]; /* how far it came */
};

/* redo_lock held. */
static int append_gathered(struct hf_engine *e, struct gather *g, struct hf_err *err)
{
	int r = 0;

	if (g->n > 0)
		r = hf_redo_append(e->redo, g->epoch, e->iov, g->n, err);
	g->n = 0;
	return r;
}

/* Whole chunks, as they lie, from the first that is not journaled: none of those is freed meanwhile. */
static int gather_pool(struct hf_engine *e, enum hf_diskshm_pool_id pool, struct gather *g,
		       struct hf_err *err)
{
	uint64_t head = hf_diskshm_head(&e->shm, pool), at;
	struct hf_diskshm_view v;
	int r = 0;

	for (at = e->journal_at[pool]; !r && at < head; at++) {
		if (!hf_diskshm_look(&e->shm, pool, at, &v)) {
			hf_err_set(err, "the shared log is damaged");
			return -EBADMSG;
		}
		if (v.epoch > g->to)
			break;
		if (v.epoch <= g->after || !v.used)
			continue;
		if (v.epoch != g->epoch)
			r = append_gathered(e, g, err);
		g->epoch = v.epoch;
		e->iov[g->n++] = (struct iovec){ (void *)(uintptr_t)v.records, v.used };
		g->bytes += v.used;
	}
	g->at[pool] = at;
	return r;
}

/*
 * redo_lock held. A watcher that was promoted has all that it was given in its own area now: from here on that one
 * counts, before any of it goes to the image. The old owner's may lack epochs of it.
 */
static int make_area_count(struct hf_engine *e, struct hf_err *err)
{
	int r;

	if (!e->is_shared || e->condition != HF_DISK_PARTIAL ||
	    atomic_load(&e->role) != HF_DISKSHM_OWNER)
		return 0;
	r = hf_redo_set_state(e->redo, HF_DISK_HELD, e->session, err);
	if (!r)
		engine_note_condition(e, HF_DISK_HELD, e->session);
	return r;
}

/* What was appended in an attempt that failed is not appended again. */
static int write_epochs(struct hf_engine *e, uint64_t from, uint64_t to, struct hf_err *err)
{
	struct gather g = { .to = to };
	struct hf_redo_state state;
	int r;

	pthread_mutex_lock(&e->redo_lock);
	hf_redo_get_state(e->redo, &state);
	g.after = state.epoch > from ? state.epoch : from;
	r = gather_pool(e, HF_DISKSHM_IN, &g, err);
	if (!r)
		r = gather_pool(e, HF_DISKSHM_OUT, &g, err);
	if (!r)
		r = append_gathered(e, &g, err);
	if (!r && (g.bytes > 0 || state.epoch > from))
		r = hf_redo_sync(e->redo, err);
	if (!r)
		r = make_area_count(e, err);
	atomic_store(&e->redo_used_bytes, hf_redo_used_bytes(e->redo));
	pthread_mutex_unlock(&e->redo_lock);
	if (r < 0)
		return r;
	e->journal_at[HF_DISKSHM_IN] = g.at[HF_DISKSHM_IN];
	e->journal_at[HF_DISKSHM_OUT] = g.at[HF_DISKSHM_OUT];
	atomic_fetch_add(&e->words->journal_bytes, g.bytes);
	return 0;
}

/* No room: it is there when all that is in the journal is settled. Unless the epoch is too large, or what the
 * journal lies on is full. lock held. */
static bool may_be_emptied(struct hf_engine *e, int r)
{
	return r == -ENOSPC && atomic_load(&e->redo_used_bytes) > 0 && !e->has_emptied;
}

static void journal_once(struct hf_engine *e, uint64_t from, uint64_t to)
{
	struct hf_err err = { "" };
	int r = write_epochs(e, from, to, &err);
	bool is_fault;

	pthread_mutex_lock(&e->lock);
	hf_disk_journal_done(&e->d, r == 0);
	e->capture_ns = 0;
	e->is_pressed = false;
	is_fault = r < 0 && !may_be_emptied(e, r);
	if (!r)
		e->has_emptied = false;
	e->journal_retry_ns = is_fault ? engine_now_ns() + RETRY_NS : 0;
	e->wants_reset = (r < 0 && !is_fault) ||
			 atomic_load(&e->redo_used_bytes) > e->redo_area_bytes / 2;
	engine_publish(e);
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	if (is_fault)
		engine_fault(e, ENGINE_FAULT_JOURNAL, 0, r, "the redo journal: %s",
			     err.text[0] ? err.text : strerror(-r));
	else if (r == 0)
		engine_fault(e, ENGINE_FAULT_JOURNAL, 0, 0, "the redo journal goes again");
}

void *engine_journal_thread(void *arg)
{
	struct hf_engine *e = arg;
	uint64_t from, to, due;

	pthread_mutex_lock(&e->lock);
	while (!e->is_stopping) {
		uint64_t now = engine_now_ns();

		due = due_ns(e, now);
		if (!due || due > now) {
			engine_wait(&e->changed, &e->lock, due);
			continue;
		}
		if (!hf_disk_next_journal(&e->d, &from, &to))
			continue;
		pthread_mutex_unlock(&e->lock);
		journal_once(e, from, to);
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* ---- emptying ---- */

int engine_reset_journal(struct hf_engine *e)
{
	struct hf_err err = { "" };
	bool may_reset;
	int r = 0;

	pthread_mutex_lock(&e->redo_lock);
	pthread_mutex_lock(&e->lock);
	may_reset = hf_disk_may_reset_journal(&e->d);
	pthread_mutex_unlock(&e->lock);
	if (may_reset && e->redo)
		r = hf_redo_reset(e->redo, &err);
	if (e->redo)
		atomic_store(&e->redo_used_bytes, hf_redo_used_bytes(e->redo));
	pthread_mutex_unlock(&e->redo_lock);
	if (r < 0) {
		engine_fault(e, ENGINE_FAULT_JOURNAL, 0, r, "the redo journal: %s", err.text);
		return r;
	}
	pthread_mutex_lock(&e->lock);
	if (may_reset && e->wants_reset) {
		e->wants_reset = false;
		e->has_emptied = true;
	}
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

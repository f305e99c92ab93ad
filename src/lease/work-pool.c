/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The workers: threads that wait for the storage so that the main loop does not. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lease/work-internal.h"
#include "sys/leasepage.h"

uint64_t hf_work_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- a worker's store ---- */

/* Smaller sectors than the storage's cannot be written one by one. */
static int check_store(struct hf_worker *k, struct hf_err *err)
{
	uint32_t sector = hf_store_sector_bytes(k->store);

	if (sector > k->shop->geometry.sector_bytes) {
		hf_err_set(err, "%s: it is written in blocks of %u bytes, its leases in %u",
			   k->shop->path, sector, k->shop->geometry.sector_bytes);
		return -EINVAL;
	}
	k->buf = hf_store_buffer(k->store, k->shop->geometry.align_bytes);
	return k->buf ? 0 : -ENOMEM;
}

static void close_store(struct hf_worker *k)
{
	hf_store_close(k->store);
	k->store = NULL;
	k->buf = NULL;
}

static int open_store(struct hf_worker *k, struct hf_err *err)
{
	struct hf_store_config config = { .path = k->shop->path,
					  .timeout_ms = k->shop->timeout_ms };
	int r = hf_store_open(&config, &k->store, err);

	if (r < 0) {
		k->store = NULL;
		return r;
	}
	r = check_store(k, err);
	if (r < 0)
		close_store(k);
	return r;
}

/* What does not get better by trying again on the same descriptor. */
static bool is_stale(int r)
{
	return r == -ESTALE || r == -ENODEV || r == -ENXIO || r == -EBADF;
}

static void serve(struct hf_worker *k, struct hf_work *w)
{
	struct hf_work_io *io = &w->io;

	io->err.text[0] = '\0';
	io->issued_ns = hf_work_now_ns();
	io->r = k->store ? 0 : open_store(k, &io->err);
	if (io->r == 0)
		io->r = io->run(k, w);
	io->done_ns = hf_work_now_ns();
	if (k->store && is_stale(io->r))
		close_store(k);
}

/* ---- what workers do ---- */

bool hf_work_is_cut_short(int r)
{
	return r == -ERANGE || r == -ENODATA;
}

static int decode_lease(struct hf_work *w, const uint8_t *bytes)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;
	int r = hf_lease_leader_decode(bytes, g, w->shop->space, w->lease.name, &w->leader,
				       &w->io.err);

	if (r == 0 && w->leader.num_hosts > g->max_hosts) {
		hf_err_set(&w->io.err, "it is for %u hosts, an area has room for %u",
			   w->leader.num_hosts, g->max_hosts);
		r = -EBADMSG;
	}
	if (r < 0)
		hf_err_prefix(&w->io.err, "%s: lease \"%s\" at offset %llu: ", w->shop->path,
			      w->lease.name, (unsigned long long)w->lease.offset);
	return r;
}

int hf_work_run_read(struct hf_worker *k, struct hf_work *w)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;
	size_t bytes = (2 + (size_t)w->n_wanted) * g->sector_bytes;
	int r;

	assert(bytes <= g->align_bytes);
	w->io.issued_ns = hf_work_now_ns();
	r = hf_store_read(k->store, k->buf, bytes, w->lease.offset, &w->io.err);
	w->is_leader_damaged = hf_work_is_cut_short(r);
	if (r < 0)
		return w->is_leader_damaged ? 0 : r;
	w->is_leader_damaged = decode_lease(w, k->buf) < 0;
	w->n_blocks = w->n_wanted;
	for (uint32_t i = 0; i < w->n_blocks; i++)
		hf_lease_block_decode(k->buf + hf_lease_block_at(g, i + 1), &w->blocks[i]);
	if (w->asked.host_id >= 1 && w->asked.host_id <= w->n_blocks)
		memcpy(w->own_sector, k->buf + hf_lease_block_at(g, w->asked.host_id),
		       g->sector_bytes);
	return 0;
}

/* The last look at the clock before something is written that must not be late. */
int hf_work_check_guard(struct hf_work *w)
{
	struct hf_lease_state s;

	if (!w->io.is_guarded ||
	    (hf_lease_page_read(w->shop->page, &s) && s.generation == w->generation &&
	     hf_lease_page_is_valid(w->shop->page, w->tenure)))
		return 0;
	hf_err_set(&w->io.err, "the host lease was not valid any more");
	return -ESHUTDOWN;
}

int hf_work_run_write(struct hf_worker *k, struct hf_work *w)
{
	uint32_t bytes = w->shop->geometry.sector_bytes;

	int r = hf_work_check_guard(w);

	if (r < 0)
		return r;
	memcpy(k->buf, w->io.sector, bytes);
	return hf_store_write(k->store, k->buf, bytes, w->io.offset, &w->io.err);
}

int hf_work_run_read_slot(struct hf_worker *k, struct hf_work *w)
{
	const struct hf_lease_geometry *g = &w->shop->geometry;
	uint64_t owner = w->look_owner;
	int r;

	w->is_slot_read = false;
	w->io.issued_ns = hf_work_now_ns();
	r = hf_store_read(k->store, k->buf, g->sector_bytes,
			  w->shop->offset + hf_lease_slot_at(g, owner), &w->io.err);
	if (r < 0)
		return r;
	/* A damaged slot says nothing. */
	w->is_slot_read = hf_lease_slot_decode(k->buf, g, owner, w->shop->space, &w->slot,
					       &w->io.err) == 0;
	return 0;
}

/* ---- the queues ---- */

static void append(struct hf_work ***tail, struct hf_work *w)
{
	w->io.next = NULL;
	**tail = w;
	*tail = &w->io.next;
}

static struct hf_work *take_first(struct hf_work **head, struct hf_work ***tail)
{
	struct hf_work *w = *head;

	if (!w)
		return NULL;
	*head = w->io.next;
	if (!*head)
		*tail = head;
	return w;
}

static struct hf_work *wait_for_work(struct hf_workshop *s)
{
	struct hf_work *w = NULL;

	(void)pthread_mutex_lock(&s->lock);
	while (!s->is_closed && !(w = take_first(&s->todo, &s->todo_tail)))
		(void)pthread_cond_wait(&s->has_work, &s->lock);
	(void)pthread_mutex_unlock(&s->lock);
	return w;
}

static void give_back(struct hf_workshop *s, struct hf_work *w)
{
	(void)pthread_mutex_lock(&s->lock);
	append(&s->back_tail, w);
	(void)pthread_mutex_unlock(&s->lock);
	(void)eventfd_write(s->event_fd, 1);
}

static void *worker_main(void *arg)
{
	struct hf_worker *k = arg;
	struct hf_work *w;

	while ((w = wait_for_work(k->shop))) {
		serve(k, w);
		give_back(k->shop, w);
	}
	close_store(k);
	(void)pthread_mutex_lock(&k->shop->lock);
	k->shop->n_running--;
	(void)pthread_cond_signal(&k->shop->is_gone);
	(void)pthread_mutex_unlock(&k->shop->lock);
	return NULL;
}

void hf_work_pool_put(struct hf_workshop *s, struct hf_work *w)
{
	(void)pthread_mutex_lock(&s->lock);
	append(&s->todo_tail, w);
	(void)pthread_cond_signal(&s->has_work);
	(void)pthread_mutex_unlock(&s->lock);
}

struct hf_work *hf_work_pool_take_back(struct hf_workshop *s)
{
	struct hf_work *w;

	(void)pthread_mutex_lock(&s->lock);
	w = take_first(&s->back, &s->back_tail);
	(void)pthread_mutex_unlock(&s->lock);
	return w;
}

/* ---- beginning and end ---- */

static void init_conditions(struct hf_workshop *s)
{
	pthread_condattr_t attr;

	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->has_work, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&s->is_gone, &attr);
	(void)pthread_condattr_destroy(&attr);
}

static int start_worker(struct hf_workshop *s)
{
	struct hf_worker *k = &s->worker[s->n_workers];
	int r;

	k->shop = s;
	(void)pthread_mutex_lock(&s->lock);
	r = pthread_create(&k->thread, NULL, worker_main, k);
	if (r == 0) {
		s->n_workers++;
		s->n_running++;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return -r;
}

int hf_work_pool_start(struct hf_workshop *s, unsigned int threads)
{
	sigset_t all, before;
	int r = 0;

	assert(threads >= 1 && threads <= HF_WORKERS_MAX);
	s->todo_tail = &s->todo;
	s->back_tail = &s->back;
	init_conditions(s);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	while (r == 0 && s->n_workers < threads)
		r = start_worker(s);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static bool wait_until_gone(struct hf_workshop *s, uint64_t deadline_ns)
{
	struct timespec t = { .tv_sec = (time_t)(deadline_ns / 1000000000u),
			      .tv_nsec = (long)(deadline_ns % 1000000000u) };
	bool is_gone;
	int r = 0;

	(void)pthread_mutex_lock(&s->lock);
	s->is_closed = true;
	(void)pthread_cond_broadcast(&s->has_work);
	while (s->n_running > 0 && r == 0)
		r = pthread_cond_timedwait(&s->is_gone, &s->lock, &t);
	is_gone = s->n_running == 0;
	(void)pthread_mutex_unlock(&s->lock);
	return is_gone;
}

int hf_work_pool_stop(struct hf_workshop *s, uint64_t deadline_ns)
{
	if (!wait_until_gone(s, deadline_ns))
		return -ETIMEDOUT;
	while (s->n_workers > 0)
		(void)pthread_join(s->worker[--s->n_workers].thread, NULL);
	(void)pthread_cond_destroy(&s->is_gone);
	(void)pthread_cond_destroy(&s->has_work);
	(void)pthread_mutex_destroy(&s->lock);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * The lock guards everything but the next task's number, which is drawn with an atomic add so that
 * many small tasks do not queue for the lock. A run opens a job (fn, ctx, n_tasks), wakes the
 * workers and draws tasks like one of them. A worker enters an open job under the lock (n_inside +
 * 1), draws until nothing is left, and leaves. When the caller finds nothing left to draw it closes
 * the job, so that a worker still waking up finds no way in, and waits only for those inside. Hence
 * after hf_pool_run() no worker holds fn or ctx, and a slow wake-up costs nothing.
 *
 * @next is reset while no worker is inside and the lock is held, therefore no draw can see a number
 * of one run together with the function of another.
 */
#include "sys/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct hf_pool {
	pthread_mutex_t lock;
	pthread_cond_t work; /* a job was opened, or the pool ends */
	pthread_cond_t left; /* the last worker left a closed job */
	hf_pool_fn *fn;
	void *ctx;
	size_t n_tasks;
	atomic_size_t next;
	unsigned int n_inside;
	bool is_open;
	bool is_ending;
	unsigned int n_workers; /* started so far: hf_pool_free() must work on a half-built pool */
	pthread_t workers[];
};

static void draw_tasks(struct hf_pool *pool, hf_pool_fn *fn, void *ctx, size_t n_tasks)
{
	size_t task;

	while ((task = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < n_tasks)
		fn(ctx, task);
}

/* Called and left with the lock held. */
static void join_job(struct hf_pool *pool)
{
	hf_pool_fn *fn = pool->fn;
	void *ctx = pool->ctx;
	size_t n_tasks = pool->n_tasks;

	pool->n_inside++;
	pthread_mutex_unlock(&pool->lock);
	draw_tasks(pool, fn, ctx, n_tasks);
	pthread_mutex_lock(&pool->lock);
	/* Nothing is left to draw: whoever comes now would only go round in circles. */
	pool->is_open = false;
	if (--pool->n_inside == 0)
		pthread_cond_signal(&pool->left);
}

static void *worker_main(void *arg)
{
	struct hf_pool *pool = arg;

	pthread_mutex_lock(&pool->lock);
	while (!pool->is_ending) {
		if (pool->is_open)
			join_job(pool);
		else
			pthread_cond_wait(&pool->work, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static int start_workers(struct hf_pool *pool, unsigned int n)
{
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (r == 0 && pool->n_workers < n) {
		r = pthread_create(&pool->workers[pool->n_workers], NULL, worker_main, pool);
		if (r == 0)
			pool->n_workers++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int hf_pool_new(unsigned int n_threads, struct hf_pool **ret)
{
	struct hf_pool *pool;
	int r;

	if (n_threads < 1 || n_threads > HF_POOL_MAX_THREADS)
		return -EINVAL;
	pool = calloc(1, sizeof(*pool) + (n_threads - 1) * sizeof(pool->workers[0]));
	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->left, NULL);
	r = start_workers(pool, n_threads - 1);
	if (r < 0) {
		hf_pool_free(pool);
		return r;
	}
	*ret = pool;
	return 0;
}

void hf_pool_free(struct hf_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	assert(!pool->is_open);
	pool->is_ending = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned int i = 0; i < pool->n_workers; i++)
		pthread_join(pool->workers[i], NULL);
	pthread_cond_destroy(&pool->left);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

unsigned int hf_pool_threads(const struct hf_pool *pool)
{
	return pool->n_workers + 1;
}

static void open_job(struct hf_pool *pool, hf_pool_fn *fn, void *ctx, size_t n_tasks)
{
	pthread_mutex_lock(&pool->lock);
	assert(pool->n_inside == 0);
	assert(!pool->is_open);
	pool->fn = fn;
	pool->ctx = ctx;
	pool->n_tasks = n_tasks;
	atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
	pool->is_open = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

static void close_job(struct hf_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->is_open = false;
	while (pool->n_inside > 0)
		pthread_cond_wait(&pool->left, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

void hf_pool_run(struct hf_pool *pool, hf_pool_fn *fn, void *ctx, size_t n_tasks)
{
	if (pool->n_workers == 0 || n_tasks < 2) {
		for (size_t task = 0; task < n_tasks; task++)
			fn(ctx, task);
		return;
	}
	open_job(pool, fn, ctx, n_tasks);
	draw_tasks(pool, fn, ctx, n_tasks);
	close_job(pool);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "sys/pool.h"

#define MAX_TASKS 1000

/* Plain counters on purpose: under a thread sanitizer two threads on one task would be reported. */
struct tally {
	unsigned int done[MAX_TASKS];
};

static void count_task(void *ctx, size_t task)
{
	struct tally *tally = ctx;

	tally->done[task]++;
}

static void check_runs(unsigned int n_threads, size_t n_tasks, unsigned int n_runs)
{
	struct tally tally = { 0 };
	struct hf_pool *pool;

	CHECK_EQ(hf_pool_new(n_threads, &pool), 0);
	CHECK_EQ(hf_pool_threads(pool), n_threads);
	for (unsigned int run = 1; run <= n_runs; run++) {
		hf_pool_run(pool, count_task, &tally, n_tasks);
		for (size_t i = 0; i < n_tasks; i++)
			CHECK_EQ(tally.done[i], run);
	}
	hf_pool_free(pool);
}

TEST(every_task_runs_once_per_run)
{
	check_runs(1, 7, 10);
	check_runs(2, 0, 10);
	check_runs(2, 1, 10);
	check_runs(2, 2, 3000);
	check_runs(4, 3, 3000);
	check_runs(4, MAX_TASKS, 200);
	check_runs(HF_POOL_MAX_THREADS, 65, 100);
}

struct meeting {
	pthread_barrier_t barrier;
	atomic_uint n_arrived;
};

static void meet(void *ctx, size_t task)
{
	struct meeting *m = ctx;

	(void)task;
	pthread_barrier_wait(&m->barrier);
	atomic_fetch_add(&m->n_arrived, 1);
}

/* Each task waits for the others, so this ends only if they really run side by side. */
TEST(tasks_run_at_the_same_time)
{
	struct meeting m = { 0 };
	struct hf_pool *pool;

	alarm(60);
	CHECK_EQ(hf_pool_new(4, &pool), 0);
	pthread_barrier_init(&m.barrier, NULL, 4);
	for (int i = 0; i < 100; i++)
		hf_pool_run(pool, meet, &m, 4);
	CHECK_EQ(m.n_arrived, 400);
	pthread_barrier_destroy(&m.barrier);
	hf_pool_free(pool);
	alarm(0);
}

struct who {
	pthread_t self;
	pthread_barrier_t barrier;
	atomic_uint n_open; /* workers that could take a SIGTERM */
};

static void look_at_signals(void *ctx, size_t task)
{
	struct who *who = ctx;
	sigset_t mask;

	(void)task;
	pthread_barrier_wait(&who->barrier);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	if (!pthread_equal(who->self, pthread_self()) && !sigismember(&mask, SIGTERM))
		atomic_fetch_add(&who->n_open, 1);
}

TEST(workers_take_no_signals)
{
	struct who who = { .self = pthread_self() };
	struct hf_pool *pool;
	sigset_t mask;

	alarm(60);
	CHECK_EQ(hf_pool_new(3, &pool), 0);
	pthread_barrier_init(&who.barrier, NULL, 3);
	hf_pool_run(pool, look_at_signals, &who, 3);
	CHECK_EQ(who.n_open, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	CHECK_EQ(sigismember(&mask, SIGTERM), 0);
	pthread_barrier_destroy(&who.barrier);
	hf_pool_free(pool);
	alarm(0);
}

TEST(refuses_senseless_sizes)
{
	struct hf_pool *pool = NULL;

	CHECK_EQ(hf_pool_new(0, &pool), -EINVAL);
	CHECK_EQ(hf_pool_new(HF_POOL_MAX_THREADS + 1, &pool), -EINVAL);
	CHECK(!pool);
	hf_pool_free(NULL);
}

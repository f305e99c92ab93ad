/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that stand ready to share out one piece of work at a time: scanning and copying guest
 * RAM. Layer: sys. One thread owns a pool and is the only one to call it; the workers run nothing
 * but the function handed to hf_pool_run(), and only during that call.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* More threads than this never pay for memory-bound work. */
#define HF_POOL_MAX_THREADS 64

struct hf_pool;

/* Called once for each task 0 .. n_tasks - 1, in any order, on any of the pool's threads. */
typedef void hf_pool_fn(void *ctx, size_t task);

/**
 * hf_pool_new() - a pool of @n_threads, the calling thread counted in
 * @n_threads: 1 .. HF_POOL_MAX_THREADS; with 1 no thread is created and everything runs inline
 * The workers block every signal, so a signal meant for the program's main loop never lands in one.
 * Allocates; the workers sleep until there is work. Free with hf_pool_free().
 * Return: 0; -EINVAL: @n_threads out of range; -ENOMEM, -EAGAIN: no memory, or no more threads.
 */
int hf_pool_new(unsigned int n_threads, struct hf_pool **ret) HF_MUST_CHECK;

/* Ends the workers and waits for them. Takes NULL. */
void hf_pool_free(struct hf_pool *pool);

/* As given to hf_pool_new(). */
unsigned int hf_pool_threads(const struct hf_pool *pool);

/**
 * hf_pool_run() - do fn(ctx, 0) .. fn(ctx, n_tasks - 1) and return when all are done
 * The calling thread works too, and does not wait for a worker that has not woken up by the time
 * the tasks are gone. What the tasks wrote is visible to the caller afterwards, and what the caller
 * wrote before is visible to the tasks. Blocks; does not allocate; cannot fail. @fn must not call
 * the pool.
 */
void hf_pool_run(struct hf_pool *pool, hf_pool_fn *fn, void *ctx, size_t n_tasks);

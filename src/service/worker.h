/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Something that may block, done by a thread of its own while the event loop goes on: a file on storage
 * that hangs must not stop who guards a VM. Layer: service. Main thread only, but for what @run does.
 */
#pragma once

#include "service/loop.h"

struct hf_worker;

/* In the thread: touches nothing but @ctx. Return: 0 or -errno. */
typedef int hf_worker_run(void *ctx);
/* In the loop: @result is what run() returned. @ctx is the caller's again. */
typedef void hf_worker_done(void *ctx, int result);

/**
 * hf_worker_start() - begin
 * @drop: releases @ctx if the worker was abandoned; called by the thread, whenever it is through
 * Allocates. Return: 0: done() will be called, unless it is abandoned; -errno: nothing was started.
 */
int hf_worker_start(struct hf_loop *loop, hf_worker_run *run, hf_worker_done *done,
		    void (*drop)(void *ctx), void *ctx, struct hf_worker **ret) HF_MUST_CHECK;

/* Not from within done(). The thread goes on by itself, and calls drop() at its end. Takes NULL. */
void hf_worker_abandon(struct hf_worker *w);

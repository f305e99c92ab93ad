/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One of the two, the loop or the thread, is the last to know of a worker, and frees it: a small state
 * says who. The eventfd wakes the loop.
 */
#include "service/worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sys/fd.h"

enum { UNDER_WAY, THROUGH, ABANDONED };

struct hf_worker {
	hf_worker_run *run;
	hf_worker_done *done;
	void (*drop)(void *ctx);
	void *ctx;
	_Atomic int state;
	int result;
	int event_fd;
	struct hf_watch watch;
};

static void destroy(struct hf_worker *w)
{
	hf_fd_close(&w->event_fd);
	free(w);
}

static void *work(void *data)
{
	struct hf_worker *w = data;
	uint64_t one = 1;
	int expected = UNDER_WAY;

	w->result = w->run(w->ctx);
	/* From here on the loop may free it at any time, unless it has let go of it. */
	if (atomic_compare_exchange_strong(&w->state, &expected, THROUGH)) {
		(void)!write(w->event_fd, &one, sizeof(one));
		return NULL;
	}
	w->drop(w->ctx);
	destroy(w);
	return NULL;
}

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

/* The thread's last touch of the worker is its write(), which has happened. */
static void ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_worker *w = ctx;
	hf_worker_done *done = w->done;
	void *its = w->ctx;
	int result = w->result;

	hf_watch_remove(&w->watch);
	destroy(w);
	done(its, result);
}

static int start_thread(struct hf_worker *w)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;
	sigset_t before;
	int r;

	(void)sigfillset(&all);
	r = pthread_attr_init(&attr);
	if (r)
		return -r;
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
	r = pthread_create(&thread, &attr, work, w);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return -r;
}

int hf_worker_start(struct hf_loop *loop, hf_worker_run *run, hf_worker_done *done,
		    void (*drop)(void *ctx), void *ctx, struct hf_worker **ret)
{
	struct hf_worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	*w = (struct hf_worker){ .run = run, .done = done, .drop = drop, .ctx = ctx };
	w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = w->event_fd < 0 ? -errno : 0;
	if (!r)
		r = hf_watch_add(&w->watch, loop, w->event_fd, HF_PRIORITY_VM, wanted, ready, w);
	if (!r)
		r = start_thread(w);
	if (r < 0) {
		hf_watch_remove(&w->watch);
		destroy(w);
		return r;
	}
	*ret = w;
	return 0;
}

void hf_worker_abandon(struct hf_worker *w)
{
	struct pollfd pfd = { .events = POLLIN };
	int expected = UNDER_WAY;

	if (!w)
		return;
	pfd.fd = w->event_fd;
	hf_watch_remove(&w->watch);
	if (atomic_compare_exchange_strong(&w->state, &expected, ABANDONED))
		return;
	/* It is through but for its write(), for which it still needs the worker. */
	while (poll(&pfd, 1, -1) < 0 && errno == EINTR)
		;
	w->drop(w->ctx);
	destroy(w);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

/* A descriptor from which nothing is wanted has to leave the loop: epoll would report its hang-up. */
static void ask_again(struct hf_watch *w)
{
	uint32_t mask = w->wanted(w->ctx);
	int r = 0;

	if (mask == w->mask || !w->source)
		return;
	if (mask)
		r = sd_event_source_set_io_events(w->source, mask);
	if (r >= 0 && !mask != !w->mask)
		r = sd_event_source_set_enabled(w->source, mask ? SD_EVENT_ON : SD_EVENT_OFF);
	if (r >= 0) /* else it is asked again after the next dispatch */
		w->mask = mask;
}

static int after_dispatch(sd_event_source *source __attribute__((unused)), void *data)
{
	struct hf_loop *loop = data;

	for (unsigned int i = 0; i < loop->n_watches; i++)
		ask_again(loop->watches[i]);
	return 0;
}

/* Before anything else that is due: a watch that is ready for what is not wanted any more would be
 * dispatched for ever, and keep all of lower priority waiting. */
static int add_after_dispatch(struct hf_loop *loop)
{
	sd_event_source *post = NULL;
	int r = sd_event_add_post(loop->event, &post, after_dispatch, loop);

	if (r >= 0)
		r = sd_event_source_set_priority(post, INT64_MIN);
	if (r >= 0)
		r = sd_event_source_set_floating(post, true);
	(void)sd_event_source_unref(post);
	return r;
}

int hf_loop_init(struct hf_loop *loop)
{
	int r;

	memset(loop, 0, sizeof(*loop));
	r = sd_event_new(&loop->event);
	if (r < 0)
		return r;
	r = add_after_dispatch(loop);
	if (r < 0)
		hf_loop_fini(loop);
	return r < 0 ? r : 0;
}

void hf_loop_fini(struct hf_loop *loop)
{
	while (loop->n_watches)
		hf_watch_remove(loop->watches[0]);
	loop->event = sd_event_unref(loop->event);
}

int hf_loop_run(struct hf_loop *loop)
{
	(void)after_dispatch(NULL, loop);
	return sd_event_loop(loop->event);
}

void hf_loop_exit(struct hf_loop *loop, int code)
{
	(void)sd_event_exit(loop->event, code);
}

uint64_t hf_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t hf_now_real_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int on_io(sd_event_source *source __attribute__((unused)), int fd __attribute__((unused)),
		 uint32_t revents, void *data)
{
	struct hf_watch *w = data;

	w->ready(w->ctx, revents);
	return 0;
}

int hf_watch_add(struct hf_watch *w, struct hf_loop *loop, int fd, enum hf_priority priority,
		 uint32_t (*wanted)(void *ctx), void (*ready)(void *ctx, uint32_t revents),
		 void *ctx)
{
	int r;

	assert(!w->source);
	if (loop->n_watches == HF_LOOP_WATCHES_MAX)
		return -ENOSPC;
	*w = (struct hf_watch){ .loop = loop, .wanted = wanted, .ready = ready, .ctx = ctx };
	w->mask = wanted(ctx);
	r = sd_event_add_io(loop->event, &w->source, fd, w->mask, on_io, w);
	if (r < 0)
		return r;
	r = sd_event_source_set_priority(w->source, priority);
	if (r >= 0 && !w->mask)
		r = sd_event_source_set_enabled(w->source, SD_EVENT_OFF);
	if (r < 0) {
		w->source = sd_event_source_unref(w->source);
		return r;
	}
	loop->watches[loop->n_watches++] = w;
	return 0;
}

void hf_watch_remove(struct hf_watch *w)
{
	struct hf_loop *loop = w->loop;

	if (!w->source)
		return;
	w->source = sd_event_source_disable_unref(w->source);
	for (unsigned int i = 0; i < loop->n_watches; i++) {
		if (loop->watches[i] != w)
			continue;
		loop->watches[i] = loop->watches[--loop->n_watches];
		break;
	}
}

static int on_time(sd_event_source *source __attribute__((unused)),
		   uint64_t usec __attribute__((unused)), void *data)
{
	struct hf_timer *t = data;

	t->fire(t->ctx);
	return 0;
}

void hf_timer_set(struct hf_timer *t, struct hf_loop *loop, uint64_t at_ns, void (*fire)(void *ctx),
		  void *ctx)
{
	uint64_t at_us = at_ns / 1000;
	int r = 0;

	t->fire = fire;
	t->ctx = ctx;
	if (at_ns == UINT64_MAX) {
		if (t->source)
			r = sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
	} else if (!t->source) {
		/* accuracy 1 us: 0 would mean the default of 250 ms */
		r = sd_event_add_time(loop->event, &t->source, CLOCK_MONOTONIC, at_us, 1, on_time,
				      t);
	} else {
		r = sd_event_source_set_time(t->source, at_us);
		if (r >= 0)
			r = sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
	}
	if (r < 0) {
		(void)fprintf(stderr, "holdfast: cannot set a timer: %s\n", strerror(-r));
		abort();
	}
}

void hf_timer_fini(struct hf_timer *t)
{
	t->source = sd_event_source_disable_unref(t->source);
}

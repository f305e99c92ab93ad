/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program's main loop: sd-event, plus watches whose wanted events follow from an object's state.
 * Layer: service. Main thread only.
 *
 * The modules below never see the loop. They own a descriptor, say which events they want, and are
 * told when one comes. After each dispatch the loop asks all of them again, so whoever queues output
 * anywhere need not remember to ask for writability.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

#define HF_LOOP_WATCHES_MAX 2048

/* Smaller runs first, when several are ready at once. */
enum hf_priority {
	HF_PRIORITY_VM = -20, /* QMP: the guest stands still while this waits */
	HF_PRIORITY_LINK = -10, /* commits and promotion */
	HF_PRIORITY_NET = 0,
	HF_PRIORITY_CONTROL = 10, /* people */
};

struct hf_loop {
	sd_event *event;
	struct hf_watch *watches[HF_LOOP_WATCHES_MAX];
	unsigned int n_watches;
};

/* Embedded in its owner. All zero is a valid watch of nothing. */
struct hf_watch {
	struct hf_loop *loop;
	sd_event_source *source;
	uint32_t mask;
	uint32_t (*wanted)(void *ctx); /* EPOLLIN | EPOLLOUT; asked after every dispatch */
	void (*ready)(void *ctx, uint32_t revents);
	void *ctx;
};

int hf_loop_init(struct hf_loop *loop) HF_MUST_CHECK;
void hf_loop_fini(struct hf_loop *loop);

/* Until hf_loop_exit(); returns its code, or -errno. */
int hf_loop_run(struct hf_loop *loop) HF_MUST_CHECK;
void hf_loop_exit(struct hf_loop *loop, int code);

/* CLOCK_MONOTONIC. */
uint64_t hf_now_ns(void);
/* CLOCK_REALTIME, for people. */
uint64_t hf_now_real_ns(void);

/**
 * hf_watch_add() - call @ready when @fd has what @wanted asks for
 * @fd stays its owner's and must be removed from the loop before it is closed.
 * Return: 0; -ENOSPC with too many; -errno of epoll.
 */
int hf_watch_add(struct hf_watch *w, struct hf_loop *loop, int fd, enum hf_priority priority,
		 uint32_t (*wanted)(void *ctx), void (*ready)(void *ctx, uint32_t revents),
		 void *ctx) HF_MUST_CHECK;

/* Takes one that was never added. */
void hf_watch_remove(struct hf_watch *w);

/* One moment in the future. All zero is valid and unarmed; created on first use. */
struct hf_timer {
	sd_event_source *source;
	void (*fire)(void *ctx);
	void *ctx;
};

/* @at_ns on hf_now_ns()'s clock; UINT64_MAX disarms. Precise to a microsecond. Cannot fail once the
 * timer was armed before; the first time it may for lack of memory, which ends the program. */
void hf_timer_set(struct hf_timer *t, struct hf_loop *loop, uint64_t at_ns, void (*fire)(void *ctx),
		  void *ctx);
void hf_timer_fini(struct hf_timer *t);

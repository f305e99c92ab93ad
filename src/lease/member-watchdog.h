/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hardware watchdog that resets this host before its lease's hard deadline, if the renewals end
 * and somebody still runs something under the lease. Layer: lease.
 *
 * The device counts whole seconds from the last time it was petted; so it is petted only while this
 * leaves the reset before fence_ns, the moment from which others may take over. Three rules:
 *  - the lease is valid, or was and fence_ns has not come: once after each renewal, if that came back
 *    soon enough;
 *  - fence_ns has passed and the lease page is used: never. Whoever uses it had to be gone by then;
 *  - fence_ns has passed, or there has been none, and nobody uses the page: freely. There is nothing
 *    to fence.
 * What it cannot do: a thread that loses the processor between looking at the clock and petting pets
 * too late. It runs with real-time priority against that.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* What is done with a device; a test puts its own here. Each 0 or -errno. */
struct hf_watchdog_ops {
	int (*open)(void *ctx, const char *path); /* a descriptor; the device counts from now on */
	int (*identify)(void *ctx, int fd, uint32_t *ret_options); /* -ENOTTY: no watchdog */
	int (*set_timeout)(void *ctx, int fd, uint32_t *seconds); /* may choose another one */
	int (*keep_alive)(void *ctx, int fd);
	void (*close)(void *ctx, int fd, bool is_disarming);
};

struct hf_watchdog;

/* The longest time-out in seconds that fits into a fence, 0: none does. */
uint32_t hf_watchdog_fit_s(uint32_t fence_ms);

/**
 * hf_watchdog_open() - arms the device
 * @fence_ns: until when something may be running under the lease already: then opening it, which
 *	pets it, waits for the first renewal. 0: nothing is: it is armed at once
 * @ops: NULL: the real ones; borrowed
 * Return: 0; -EINVAL with @err: no watchdog, one without a time-out that can be set, or none of its
 * time-outs fits into @fence_ms; other -errno. Disarmed again if it fails.
 */
int hf_watchdog_open(const char *path, uint32_t fence_ms, uint64_t fence_ns,
		     const struct hf_watchdog_ops *ops, void *ctx, struct hf_watchdog **ret,
		     struct hf_err *err) HF_MUST_CHECK;

/* @is_disarming: nothing runs under the lease. Else the device goes on counting, and a daemon that
 * is started again has so long to take it over. Takes NULL. */
void hf_watchdog_close(struct hf_watchdog *w, bool is_disarming);

/* Before it is opened: what it will be asked for. */
uint32_t hf_watchdog_timeout_s(const struct hf_watchdog *w);

/* Before a renewal is published, by the renewing thread: false: this one must not be, since the
 * device was petted freely after it was issued, and would fire too late. */
bool hf_watchdog_may_publish(struct hf_watchdog *w, uint64_t fence_ns) HF_MUST_CHECK;

/* What a tick looks at. */
struct hf_watchdog_view {
	uint64_t (*now_ns)(void *ctx);
	bool (*is_used)(void *ctx); /* the lease page; only asked if it matters */
	void *ctx;
};

/* By one other thread: after each renewal, and several times within the time-out. Pets if it may.
 * 0, or -errno of the device with @err; it goes on trying. */
int hf_watchdog_tick(struct hf_watchdog *w, const struct hf_watchdog_view *v,
		     struct hf_err *err) HF_MUST_CHECK;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TAP network interfaces: opening, setting up, and moving frames. Layer: sys. One thread for one
 * interface. Source: linux/Documentation/networking/tuntap.rst, drivers/net/tun.c.
 */
#pragma once

#include <net/if.h>
#include <stddef.h>

#include "base/error.h"

struct hf_tap {
	int fd; /* non-blocking; one frame for each read and each write, without any header */
	char name[IFNAMSIZ];
};

#define HF_TAP_NONE ((struct hf_tap){ .fd = -1 })

/**
 * hf_tap_open() - attach to the interface of that name, or make it
 * @name: 1..15 characters
 * One that is made here vanishes when the last descriptor closes; one that an administrator made
 * (ip tuntap add) stays. Return: 0; -EBUSY: another process is attached; -EINVAL: the name, or the
 * interface exists and is something else; -EPERM: needs CAP_NET_ADMIN; -ENOENT: no /dev/net/tun.
 * @err says so.
 */
int hf_tap_open(const char *name, struct hf_tap *ret, struct hf_err *err) HF_MUST_CHECK;

/* Makes the interface a port of that bridge; one that it is in already is no error. 0 or -errno. */
int hf_tap_join_bridge(const struct hf_tap *tap, const char *bridge,
		       struct hf_err *err) HF_MUST_CHECK;

/* Sets the interface up. 0 or -errno. */
int hf_tap_set_up(const struct hf_tap *tap, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_tap_run_script() - run "SCRIPT IFNAME", as QEMU runs its ifup and ifdown scripts
 * BLOCKS until the script has ended, for at most @timeout_ms, after which it is killed. Main thread
 * (hf_process_spawn()), at start-up and shutdown only.
 * Return: 0: it exited with status 0; -EIO: it did not; -ETIMEDOUT; what hf_process_spawn() gave.
 */
int hf_tap_run_script(const struct hf_tap *tap, const char *script, int timeout_ms,
		      struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_tap_detach() - to let go of an interface takes the kernel a while (15 to 40 ms); this makes it stay
 * From then on closing the descriptor is quick, and the interface, which nobody is attached to, remains
 * until hf_tap_remove(). Return: 1: it is to be removed later; 0: it stays anyway, an administrator made
 * it; -errno: it goes with its descriptor, as ever.
 */
int hf_tap_detach(int fd) HF_MUST_CHECK;
/* Unless somebody is attached to it. BLOCKS as long as the kernel needs. */
void hf_tap_remove(const char *name);

/* Takes HF_TAP_NONE. */
void hf_tap_close(struct hf_tap *tap);

enum hf_tap_io {
	HF_TAP_AGAIN = 1, /* wait for the descriptor's event */
	HF_TAP_DROPPED = 2, /* the kernel would not have this frame; it is lost as on any network */
};

/**
 * hf_tap_read() - one frame towards the guest
 * @size: large enough for the largest frame (MTU + 18): the kernel cuts what does not fit
 * Return: 0 with *ret_len; HF_TAP_AGAIN; -errno (-EBADFD: the interface was deleted).
 */
int hf_tap_read(int fd, void *frame, size_t size, size_t *ret_len) HF_MUST_CHECK;

/**
 * hf_tap_write() - one frame from the guest
 * Return: 0; HF_TAP_AGAIN; HF_TAP_DROPPED (the interface is down, the frame is shorter than an
 * Ethernet header or too long, no buffer); -errno (-EBADFD: the interface was deleted).
 */
int hf_tap_write(int fd, const void *frame, size_t len) HF_MUST_CHECK;

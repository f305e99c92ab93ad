/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The network tap: carries Ethernet frames between QEMU and a TAP interface, and holds back what
 * the guest sends until the epoch in which it was sent is committed. Layer: vm. One thread for each
 * tap. Knows no event loop: it has two descriptors, each with the events it wants and its dispatch;
 * the wanted events may change with every call below, so ask after each.
 *
 * QEMU's side is `-netdev stream` over a unix stream socket; format in codec/netframe.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum hf_nettap_mode {
	HF_NETTAP_PASS, /* both directions straight through */
	HF_NETTAP_HOLD, /* the guest's frames wait for hf_nettap_release() */
	HF_NETTAP_STANDBY, /* as HOLD, and frames for the guest are read and thrown away */
};

#define HF_NETTAP_LIMIT_DEFAULT_BYTES (UINT64_C(8) << 20)
#define HF_NETTAP_LIMIT_MIN_BYTES (UINT64_C(256) << 10)
#define HF_NETTAP_LIMIT_MAX_BYTES (UINT64_C(1) << 30)

struct hf_nettap_config {
	int tap_fd; /* one frame for each read and write, non-blocking */
	int qemu_fd; /* connected, non-blocking */
	/* The queue's size at which the guest is no longer read, so that its own queue fills and
	 * nothing is lost. 0: the default; else within MIN and MAX. */
	uint64_t limit_bytes;
	enum hf_nettap_mode mode;
	/* Called at the end of a dispatch, in HOLD and STANDBY mode only; may call all functions
	 * here but hf_nettap_free(). Either may be NULL. */
	void (*on_first_held)(void *ctx); /* the first frame since the last mark: begin an epoch */
	/* May a frame be written to the TAP now? NULL: yes. Asked before each; while it says no the
	 * frames wait, in every mode. */
	bool (*may_send)(void *ctx);
	void (*on_over_limit)(void *ctx); /* the limit is reached, with frames of no epoch yet: the
					   * guest's card stands still until an epoch is released */
	void *ctx;
};

struct hf_nettap_stats {
	uint64_t held_frames, held_bytes; /* now */
	uint64_t out_frames, out_bytes; /* written to the TAP */
	uint64_t out_dropped_frames; /* refused by the kernel (interface down, malformed) */
	uint64_t discarded_frames; /* thrown away by hf_nettap_discard() */
	uint64_t in_frames, in_bytes; /* given to QEMU */
	uint64_t in_discarded_frames; /* thrown away in STANDBY mode or after QEMU's end */
	uint64_t over_limit_count;
	uint64_t longest_hold_ns; /* from the first frame of an epoch to its release */
};

struct hf_nettap;

/**
 * hf_nettap_new() - both descriptors belong to the tap if 0 is returned
 * Allocates; nothing after it does. Return: 0; -EINVAL: limit_bytes; -errno.
 */
int hf_nettap_new(const struct hf_nettap_config *config, struct hf_nettap **ret,
		  struct hf_err *err) HF_MUST_CHECK;

/* Closes both; what is queued is lost. Takes NULL. */
void hf_nettap_free(struct hf_nettap *t);

/* EPOLLIN and EPOLLOUT as wanted. While they are 0 the descriptor must be out of the loop: epoll
 * reports EPOLLHUP and EPOLLERR even to those who want nothing. The descriptors stay open and the
 * same until hf_nettap_free(). */
int hf_nettap_tap_fd(const struct hf_nettap *t);
uint32_t hf_nettap_tap_events(const struct hf_nettap *t);
int hf_nettap_qemu_fd(const struct hf_nettap *t);
uint32_t hf_nettap_qemu_events(const struct hf_nettap *t);

enum hf_nettap_result {
	HF_NETTAP_CLOSED =
		1, /* QEMU has closed its side (or died). Not repeated; what is held stays
			       * and can still be released */
};

/**
 * hf_nettap_dispatch_qemu() - move frames after an event on QEMU's descriptor
 * hf_nettap_dispatch_tap() - the same for the TAP's
 * A bounded amount of work each; do not block. Return: 0; HF_NETTAP_CLOSED; -EBADMSG: QEMU's stream
 * is out of step; other -errno of a descriptor, -EBADFD: the interface was deleted. @err says what.
 * After an error that side moves nothing more and wants no events.
 */
int hf_nettap_dispatch_qemu(struct hf_nettap *t, struct hf_err *err) HF_MUST_CHECK;
int hf_nettap_dispatch_tap(struct hf_nettap *t, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_nettap_drain() - read all that QEMU has written; while the VM stands still, before the mark
 * May take the queue beyond its limit by what a socket holds; what does not fit even so stays in
 * the socket and becomes part of a later epoch, which is safe. Does not call back. As
 * hf_nettap_dispatch_qemu().
 */
int hf_nettap_drain(struct hf_nettap *t, struct hf_err *err) HF_MUST_CHECK;

/* All frames read so far belong to @epoch or before; @epoch is larger than each before. 0, or
 * -ENOBUFS when 64 epochs are unreleased: the frames then belong to the next mark. */
int hf_nettap_mark(struct hf_nettap *t, uint64_t epoch) HF_MUST_CHECK;

/* Frames of epochs up to @epoch leave: those that the TAP takes at once before this returns, the
 * others as the TAP becomes writable, in order. 0 or -errno of the TAP, with @err. */
int hf_nettap_release(struct hf_nettap *t, uint64_t epoch, struct hf_err *err) HF_MUST_CHECK;

/* Writes what may leave and has not left yet, as much as the TAP takes now. 0 or -errno of the TAP,
 * with @err. */
int hf_nettap_flush(struct hf_nettap *t, struct hf_err *err) HF_MUST_CHECK;

/* Has all that may leave been taken by the TAP? If not, it is lost with this process. */
bool hf_nettap_is_flushed(const struct hf_nettap *t);

/* Throws away what is held and not released: this host has lost its right to the VM. */
void hf_nettap_discard(struct hf_nettap *t);

/* To PASS: what is held leaves first, in order. 0 or -errno of the TAP, with @err. */
int hf_nettap_set_mode(struct hf_nettap *t, enum hf_nettap_mode mode,
		       struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_nettap_epoch() - the frames of one marked, unreleased epoch, to send to the standby
 * @ret_len: bytes, with the 4-byte big-endian length before each frame; 0 when there is none
 * The memory belongs to the tap and is valid until that epoch is released or discarded, or a frame
 * is injected.
 */
const uint8_t *hf_nettap_epoch(const struct hf_nettap *t, uint64_t epoch, size_t *ret_len,
			       uint64_t *ret_frames);

/* Walks what hf_nettap_epoch() gave, or a copy of it that came from a peer. *pos begins at 0.
 * Return: 1 a frame; 0 the end; -EBADMSG with @err. */
int hf_nettap_next_frame(const uint8_t *bytes, size_t len, size_t *pos, const uint8_t **ret_frame,
			 size_t *ret_len, struct hf_err *err) HF_MUST_CHECK;

/* Sends one frame to the network, behind what is released and before what is held. 0; -EINVAL: its
 * length; -ENOBUFS: the TAP is full and so is the queue; -errno of the TAP. */
int hf_nettap_inject(struct hf_nettap *t, const uint8_t *frame, size_t len,
		     struct hf_err *err) HF_MUST_CHECK;

void hf_nettap_get_stats(const struct hf_nettap *t, struct hf_nettap_stats *ret);

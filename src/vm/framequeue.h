/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The frames that a guest has sent and the world has not seen: a byte ring with a mark for each
 * epoch's end. Layer: vm. One thread. Knows no descriptor.
 *
 *   head            released          marks ...      complete      tail
 *    |  may leave    |  held: epoch n, n+1, open ...   |  partial   |  free
 *
 * The ring holds the stream as QEMU wrote it, a length before each frame, so no frame needs an
 * entry or an allocation of its own, and an epoch's frames are one contiguous stretch (the ring is
 * mapped twice in a row). Invariants: head <= released <= complete <= tail, and tail - head <=
 * capacity; each of the first three is at the border of a frame; the marks lie between released and
 * complete, ascending by position and by epoch.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "sys/memfd.h"

/* Epochs that may be marked and not yet released. */
#define HF_FRAMEQUEUE_EPOCHS_MAX 64

/* Frames of one epoch; the last, open one has no epoch yet. */
struct hf_framequeue_mark {
	uint64_t epoch;
	uint64_t end; /* position behind its last frame */
	uint64_t first_ns; /* when its first frame came */
	uint64_t frames;
};

struct hf_framequeue {
	struct hf_mirror ring;
	uint64_t head, released, complete, tail;
	uint64_t released_frames; /* between head and released */
	struct hf_framequeue_mark
		mark[HF_FRAMEQUEUE_EPOCHS_MAX + 1]; /* [n_marks] is the open one */
	unsigned int n_marks;
	uint64_t longest_hold_ns;
};

/* Takes memory for @capacity_bytes as it is used. 0 or -errno. */
int hf_framequeue_init(struct hf_framequeue *q, size_t capacity_bytes) HF_MUST_CHECK;
void hf_framequeue_fini(struct hf_framequeue *q); /* takes all-zero memory */

/* Where the stream's next bytes go: contiguous, *ret_n may be 0. Then how many came, at what time.
 * hf_framequeue_commit(): 0, or -EBADMSG with @err: the stream is out of step for good; frames
 * before that point are good. */
uint8_t *hf_framequeue_space(struct hf_framequeue *q, size_t *ret_n);
int hf_framequeue_commit(struct hf_framequeue *q, size_t n, uint64_t now_ns,
			 struct hf_err *err) HF_MUST_CHECK;

/* Bytes in the ring, with headers and a partial frame. */
uint64_t hf_framequeue_used_bytes(const struct hf_framequeue *q);
/* Frames that wait for their epoch's release, and their bytes without headers. */
uint64_t hf_framequeue_held_frames(const struct hf_framequeue *q);
uint64_t hf_framequeue_held_bytes(const struct hf_framequeue *q);
/* Are there frames that belong to no epoch yet? */
bool hf_framequeue_has_open(const struct hf_framequeue *q);

/**
 * hf_framequeue_mark() - all frames so far belong to @epoch or before, later ones to a later one
 * @epoch: larger than each before (asserted)
 * Return: 0; -ENOBUFS: HF_FRAMEQUEUE_EPOCHS_MAX are waiting; the frames then stay in the open epoch
 * and so will be released with a later one.
 */
int hf_framequeue_mark(struct hf_framequeue *q, uint64_t epoch) HF_MUST_CHECK;

/* Frames of epochs up to @epoch may leave. */
void hf_framequeue_release(struct hf_framequeue *q, uint64_t epoch, uint64_t now_ns);
/* All whole frames may leave, marked or not. */
void hf_framequeue_release_all(struct hf_framequeue *q, uint64_t now_ns);

/* Throws away the frames that are held. Those released stay, and so does a partial one, whose rest
 * is still to come. Returns how many frames were thrown away. */
uint64_t hf_framequeue_discard(struct hf_framequeue *q);

/* The oldest frame that may leave: false when there is none. Then: it has left. */
bool hf_framequeue_peek(const struct hf_framequeue *q, const uint8_t **ret, size_t *ret_len);
void hf_framequeue_pop(struct hf_framequeue *q);

/* Puts a frame behind those released and before those held. 0 or -ENOBUFS. */
int hf_framequeue_insert(struct hf_framequeue *q, const uint8_t *frame, size_t len) HF_MUST_CHECK;

/* The frames of one marked epoch, each with its length before it; *ret_len 0 when it has none.
 * Valid until that epoch is released or discarded, or a frame is inserted. */
const uint8_t *hf_framequeue_epoch(const struct hf_framequeue *q, uint64_t epoch, size_t *ret_len,
				   uint64_t *ret_frames);

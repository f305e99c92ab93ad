/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation.
 *
 * Goal: no frame that the guest sent in epoch n reaches the network before epoch n is committed;
 * none is lost or overtaken; and a frame to the guest is never delayed.
 *
 * Outbound (QEMU -> TAP). Bytes are read from QEMU's socket straight into the frame queue's ring
 * (vm/framequeue.h), which knows frames and epochs. Frames that may leave are written to the TAP
 * until it says EAGAIN; then writability is waited for. In PASS mode all whole frames may leave at
 * once, so there is one path for both modes and with it one order.
 *
 * When does a frame belong to an epoch? The VM is stopped, then hf_nettap_drain() empties the
 * socket, then hf_nettap_mark(). A frame read before the mark may have been sent before the stop
 * only, so its cause is part of the state that was saved. A frame that is read too late (the ring
 * was full, or QEMU still had it in a queue of its own) gets a later epoch: it leaves later than it
 * could have, never earlier than it may.
 *
 * Limit: at limit_bytes the socket is no longer read. It fills, QEMU's own queue fills, and the
 * guest's network card stops taking frames: back-pressure, no loss. The owner is told, to end the
 * epoch early. The ring is larger than the limit by DRAIN_BYTES, so that a drain at the boundary
 * still finds room.
 *
 * Inbound (TAP -> QEMU). A batch of frames is read into a flat buffer, each with its length, and
 * sent at once. While QEMU's socket takes only a part of it, the TAP is not read: the interface's
 * own queue fills, and drops at its limit as that of any network card does.
 *
 * A frame that the kernel refuses (interface down, malformed) is counted and gone: retrying would
 * hold up everything behind it.
 */
#include "vm/nettap.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/bytes.h"
#include "codec/netframe.h"
#include "sys/fd.h"
#include "sys/tap.h"
#include "vm/framequeue.h"

/* As much as QEMU's socket holds (guest-net.c). */
#define DRAIN_BYTES (UINT64_C(1) << 20)
/* Work of one dispatch: what is left over keeps its descriptor ready. */
#define READ_BYTES (UINT64_C(256) << 10)
#define WRITE_FRAMES 512
#define IN_BATCHES 4
#define DISCARD_FRAMES 1024
#define IN_BYTES ((size_t)4 * (HF_NETFRAME_HEADER_BYTES + HF_NETFRAME_MAX))

struct hf_nettap {
	int tap_fd, qemu_fd;
	bool is_tap_broken; /* no more reading and writing there */
	bool is_qemu_broken;
	enum hf_nettap_mode mode;
	uint64_t limit_bytes;
	struct hf_framequeue queue;
	uint8_t *in; /* IN_BYTES; waiting to be sent to QEMU: [in_start, in_end) */
	size_t in_start, in_end;
	bool is_first_told, is_limit_told; /* each callback once for its occasion */
	void (*on_first_held)(void *ctx);
	void (*on_over_limit)(void *ctx);
	bool (*may_send)(void *ctx);
	void *ctx;
	struct hf_nettap_stats stats;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int check_limit(uint64_t limit, struct hf_err *err)
{
	if (limit >= HF_NETTAP_LIMIT_MIN_BYTES && limit <= HF_NETTAP_LIMIT_MAX_BYTES)
		return 0;
	hf_err_set(err,
		   "a queue of %llu bytes for held frames is not possible: 256 KiB to 1 GiB are",
		   (unsigned long long)limit);
	return -EINVAL;
}

static int allocate(struct hf_nettap *t, struct hf_err *err)
{
	int r;

	t->in = malloc(IN_BYTES);
	r = t->in ? hf_framequeue_init(&t->queue, (size_t)(t->limit_bytes + DRAIN_BYTES)) : -ENOMEM;
	if (r < 0)
		hf_err_set(err, "no memory for a queue of held frames: %s", strerror(-r));
	return r;
}

int hf_nettap_new(const struct hf_nettap_config *config, struct hf_nettap **ret, struct hf_err *err)
{
	struct hf_nettap *t = calloc(1, sizeof(*t));
	int r;

	if (!t) {
		hf_err_set(err, "no memory for a network tap");
		return -ENOMEM;
	}
	t->tap_fd = t->qemu_fd = -1;
	t->mode = config->mode;
	t->limit_bytes = config->limit_bytes ? config->limit_bytes : HF_NETTAP_LIMIT_DEFAULT_BYTES;
	t->on_first_held = config->on_first_held;
	t->on_over_limit = config->on_over_limit;
	t->may_send = config->may_send;
	t->ctx = config->ctx;
	r = check_limit(t->limit_bytes, err);
	if (r == 0)
		r = allocate(t, err);
	if (r < 0) {
		hf_nettap_free(t);
		return r;
	}
	t->tap_fd = config->tap_fd;
	t->qemu_fd = config->qemu_fd;
	*ret = t;
	return 0;
}

void hf_nettap_free(struct hf_nettap *t)
{
	if (!t)
		return;
	hf_fd_close(&t->tap_fd);
	hf_fd_close(&t->qemu_fd);
	hf_framequeue_fini(&t->queue);
	free(t->in);
	free(t);
}

int hf_nettap_tap_fd(const struct hf_nettap *t)
{
	return t->tap_fd;
}

int hf_nettap_qemu_fd(const struct hf_nettap *t)
{
	return t->qemu_fd;
}

static bool has_inbound(const struct hf_nettap *t)
{
	return t->in_start < t->in_end;
}

static bool is_over_limit(const struct hf_nettap *t)
{
	return hf_framequeue_used_bytes(&t->queue) >= t->limit_bytes;
}

/* With QEMU gone, frames for it are read and thrown away: the TAP would stay readable. */
static bool is_discarding_inbound(const struct hf_nettap *t)
{
	return t->mode == HF_NETTAP_STANDBY || t->is_qemu_broken;
}

static bool may_send(const struct hf_nettap *t)
{
	return !t->may_send || t->may_send(t->ctx);
}

uint32_t hf_nettap_tap_events(const struct hf_nettap *t)
{
	const uint8_t *frame;
	uint32_t events = 0;
	size_t len;

	if (t->is_tap_broken)
		return 0;
	if (!has_inbound(t) || is_discarding_inbound(t))
		events |= EPOLLIN;
	if (hf_framequeue_peek(&t->queue, &frame, &len) && may_send(t))
		events |= EPOLLOUT;
	return events;
}

uint32_t hf_nettap_qemu_events(const struct hf_nettap *t)
{
	uint32_t events = 0;

	if (t->is_qemu_broken)
		return 0;
	if (!is_over_limit(t))
		events |= EPOLLIN;
	if (has_inbound(t))
		events |= EPOLLOUT;
	return events;
}

static int break_tap(struct hf_nettap *t, int r, struct hf_err *err)
{
	t->is_tap_broken = true;
	hf_err_set(err, "the TAP interface failed: %s",
		   r == -EBADFD ? "it was deleted" : strerror(-r));
	return r;
}

/* The descriptor stays open until the tap is freed: its number must not become another one's while
 * the event loop still knows it. */
static int end_qemu(struct hf_nettap *t, int r, struct hf_err *err)
{
	if (t->is_qemu_broken)
		return 0; /* told already */
	t->is_qemu_broken = true;
	t->in_start = t->in_end = 0; /* what was on its way to QEMU is lost with it */
	if (r == HF_FD_EOF || r == -EPIPE || r == -ECONNRESET) {
		hf_err_set(err, "QEMU closed its network socket");
		return HF_NETTAP_CLOSED;
	}
	if (r != -EBADMSG) /* that one has its sentence */
		hf_err_set(err, "QEMU's network socket failed: %s", strerror(-r));
	return r;
}

/* Writes what may leave, in order, at most @max_frames. */
static int flush_out(struct hf_nettap *t, unsigned int max_frames, struct hf_err *err)
{
	const uint8_t *frame;
	size_t len;

	for (unsigned int i = 0; i < max_frames && hf_framequeue_peek(&t->queue, &frame, &len);
	     i++) {
		bool is_stuck = t->is_tap_broken || !may_send(t);
		int r = is_stuck ? HF_TAP_AGAIN : hf_tap_write(t->tap_fd, frame, len);

		if (r == HF_TAP_AGAIN)
			return 0;
		if (r < 0)
			return break_tap(t, r, err);
		if (r == HF_TAP_DROPPED) {
			t->stats.out_dropped_frames++;
		} else {
			t->stats.out_frames++;
			t->stats.out_bytes += len;
		}
		hf_framequeue_pop(&t->queue);
	}
	return 0;
}

static int flush_in(struct hf_nettap *t)
{
	while (has_inbound(t)) {
		size_t n;
		int r = hf_fd_send(t->qemu_fd, t->in + t->in_start, t->in_end - t->in_start, &n);

		if (r != 0)
			return r;
		t->in_start += n;
	}
	t->in_start = t->in_end = 0;
	return 0;
}

/* One batch, as much as the buffer surely takes. HF_TAP_AGAIN: the TAP is empty now. */
static int read_tap(struct hf_nettap *t)
{
	while (IN_BYTES - t->in_end >= HF_NETFRAME_HEADER_BYTES + HF_NETFRAME_MAX) {
		uint8_t *to = t->in + t->in_end;
		size_t len;
		int r = hf_tap_read(t->tap_fd, to + HF_NETFRAME_HEADER_BYTES, HF_NETFRAME_MAX,
				    &len);

		if (r != 0)
			return r;
		hf_netframe_encode_header(to, len);
		t->in_end += HF_NETFRAME_HEADER_BYTES + len;
		t->stats.in_frames++;
		t->stats.in_bytes += len;
	}
	return 0;
}

static int carry_in(struct hf_nettap *t, struct hf_err *err)
{
	for (int i = 0; i < IN_BATCHES; i++) {
		int r, sent;

		if (has_inbound(t))
			return 0;
		r = read_tap(t);
		sent = flush_in(t);
		if (sent != 0 && sent != HF_FD_AGAIN)
			return end_qemu(t, sent, err);
		if (r < 0)
			return break_tap(t, r, err);
		if (r == HF_TAP_AGAIN)
			return 0;
	}
	return 0;
}

static int discard_in(struct hf_nettap *t, struct hf_err *err)
{
	for (int i = 0; i < DISCARD_FRAMES; i++) {
		uint8_t start[64]; /* the kernel drops the rest of the frame */
		size_t len;
		int r = hf_tap_read(t->tap_fd, start, sizeof(start), &len);

		if (r < 0)
			return break_tap(t, r, err);
		if (r == HF_TAP_AGAIN)
			return 0;
		t->stats.in_discarded_frames++;
	}
	return 0;
}

int hf_nettap_dispatch_tap(struct hf_nettap *t, struct hf_err *err)
{
	int r;

	if (t->is_tap_broken)
		return 0;
	r = flush_out(t, WRITE_FRAMES, err);
	if (r != 0)
		return r;
	return is_discarding_inbound(t) ? discard_in(t, err) : carry_in(t, err);
}

/* Reads until the socket is empty, @max_bytes are read, or the queue holds @up_to_bytes.
 * HF_FD_AGAIN: empty; 0: one of the others. */
static int read_qemu(struct hf_nettap *t, uint64_t max_bytes, uint64_t up_to_bytes,
		     struct hf_err *err)
{
	uint64_t done = 0;

	while (done < max_bytes) {
		uint64_t used = hf_framequeue_used_bytes(&t->queue);
		size_t room, n;
		uint8_t *to = hf_framequeue_space(&t->queue, &room);
		int r;

		if (used >= up_to_bytes || room == 0)
			return 0;
		if (room > up_to_bytes - used)
			room = (size_t)(up_to_bytes - used);
		r = hf_fd_read(t->qemu_fd, to, room, &n);
		if (r == 0)
			r = hf_framequeue_commit(&t->queue, n, now_ns(), err);
		if (r != 0)
			return r;
		done += n;
	}
	return 0;
}

static void tell(struct hf_nettap *t)
{
	bool has_open = hf_framequeue_has_open(&t->queue);
	bool is_first = !t->is_first_told && has_open;
	bool is_limit = !t->is_limit_told && has_open && is_over_limit(t);

	if (t->mode == HF_NETTAP_PASS)
		return;
	t->is_first_told |= is_first;
	t->is_limit_told |= is_limit;
	t->stats.over_limit_count += is_limit;
	if (is_first && t->on_first_held)
		t->on_first_held(t->ctx);
	if (is_limit && t->on_over_limit)
		t->on_over_limit(t->ctx);
}

/* In PASS mode whole frames may leave as soon as they are here. */
static int pass_on(struct hf_nettap *t, struct hf_err *err)
{
	if (t->mode != HF_NETTAP_PASS)
		return 0;
	hf_framequeue_release_all(&t->queue, now_ns());
	return flush_out(t, WRITE_FRAMES, err);
}

int hf_nettap_dispatch_qemu(struct hf_nettap *t, struct hf_err *err)
{
	int r, out;

	if (t->is_qemu_broken)
		return 0;
	if (!is_over_limit(t))
		t->is_limit_told = false;
	r = flush_in(t);
	if (r == 0 || r == HF_FD_AGAIN)
		r = read_qemu(t, READ_BYTES, t->limit_bytes, err);
	r = r == 0 || r == HF_FD_AGAIN ? 0 : end_qemu(t, r, err);
	out = pass_on(t, r == 0 ? err : NULL);
	tell(t);
	return r != 0 ? r : out;
}

int hf_nettap_drain(struct hf_nettap *t, struct hf_err *err)
{
	int r;

	if (t->is_qemu_broken)
		return 0;
	r = read_qemu(t, UINT64_MAX, t->queue.ring.size_bytes, err);
	r = r == 0 || r == HF_FD_AGAIN ? 0 : end_qemu(t, r, err);
	return r != 0 ? r : pass_on(t, err);
}

int hf_nettap_mark(struct hf_nettap *t, uint64_t epoch)
{
	int r = hf_framequeue_mark(&t->queue, epoch);

	if (r == 0)
		t->is_first_told = false;
	return r;
}

int hf_nettap_release(struct hf_nettap *t, uint64_t epoch, struct hf_err *err)
{
	hf_framequeue_release(&t->queue, epoch, now_ns());
	return flush_out(t, WRITE_FRAMES, err);
}

int hf_nettap_flush(struct hf_nettap *t, struct hf_err *err)
{
	return flush_out(t, UINT_MAX, err);
}

bool hf_nettap_is_flushed(const struct hf_nettap *t)
{
	const uint8_t *frame;
	size_t len;

	return !hf_framequeue_peek(&t->queue, &frame, &len);
}

void hf_nettap_discard(struct hf_nettap *t)
{
	t->stats.discarded_frames += hf_framequeue_discard(&t->queue);
	t->is_first_told = t->is_limit_told = false;
}

int hf_nettap_set_mode(struct hf_nettap *t, enum hf_nettap_mode mode, struct hf_err *err)
{
	t->mode = mode;
	t->is_first_told = t->is_limit_told = false;
	if (mode != HF_NETTAP_PASS)
		return 0;
	hf_framequeue_release_all(&t->queue, now_ns());
	return flush_out(t, WRITE_FRAMES, err);
}

const uint8_t *hf_nettap_epoch(const struct hf_nettap *t, uint64_t epoch, size_t *ret_len,
			       uint64_t *ret_frames)
{
	return hf_framequeue_epoch(&t->queue, epoch, ret_len, ret_frames);
}

int hf_nettap_next_frame(const uint8_t *bytes, size_t len, size_t *pos, const uint8_t **ret_frame,
			 size_t *ret_len, struct hf_err *err)
{
	size_t left = len - *pos, n;

	assert(*pos <= len);
	if (left == 0)
		return 0;
	n = left >= HF_NETFRAME_HEADER_BYTES ? hf_be32_get(bytes + *pos) : 0;
	if (n == 0 || n > HF_NETFRAME_MAX || n > left - HF_NETFRAME_HEADER_BYTES) {
		hf_err_set(err, "the list of frames is damaged at byte %zu of %zu", *pos, len);
		return -EBADMSG;
	}
	*ret_frame = bytes + *pos + HF_NETFRAME_HEADER_BYTES;
	*ret_len = n;
	*pos += HF_NETFRAME_HEADER_BYTES + n;
	return 1;
}

int hf_nettap_inject(struct hf_nettap *t, const uint8_t *frame, size_t len, struct hf_err *err)
{
	int r;

	if (len == 0 || len > HF_NETFRAME_MAX) {
		hf_err_set(err, "a frame of %zu bytes cannot be sent", len);
		return -EINVAL;
	}
	r = hf_framequeue_insert(&t->queue, frame, len);
	if (r < 0) {
		hf_err_set(err, "no room for one more frame: the network does not take any");
		return r;
	}
	return flush_out(t, WRITE_FRAMES, err);
}

void hf_nettap_get_stats(const struct hf_nettap *t, struct hf_nettap_stats *ret)
{
	*ret = t->stats;
	ret->held_frames = hf_framequeue_held_frames(&t->queue);
	ret->held_bytes = hf_framequeue_held_bytes(&t->queue);
	ret->longest_hold_ns = t->queue.longest_hold_ns;
}

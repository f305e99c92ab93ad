/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * Sending. What waits is a ring of segments in the order in which it has to leave. A segment is
 * either control messages, whose bytes lie in a ring buffer of their own (mapped twice, so that
 * each stretch is contiguous), or one borrowed bulk message. Neighbouring control messages share
 * one segment. One write takes up to 64 segments, but no more than about BATCH_BYTES: a borrowed
 * message is sealed when it enters a batch, and the peer should not wait for checksums of what the
 * socket cannot take yet anyway.
 *
 * Receiving. codec/wire.c's reader cuts messages; they are given out from its buffer.
 *
 * The end. A failed write says nothing about what still lies unread in the socket: the peer may
 * have said DEAD or PROMOTED before it closed. So a failed write only stops writing, and the end is
 * told when reading finds nothing more. The kernel reports an error of the connection to one call
 * only: if write() has got ETIMEDOUT, read() finds what looks like the peer's orderly end. An
 * orderly end comes from the peer's host and a time-out does not, so the write's error must not be
 * forgotten.
 */
#include "cluster/link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "sys/fd.h"
#include "sys/memfd.h"

#define READ_BUFFER_BYTES (HF_WIRE_MESSAGE_MAX + (size_t)64 * 1024)
#define IOVECS_MAX 64
#define BATCH_BYTES ((size_t)1024 * 1024)
#define SEGMENTS_FIRST 64

struct segment {
	uint8_t *data; /* of what has not left yet */
	uint32_t len;
	uint16_t type; /* of a bulk message, as read when it was queued */
	bool is_bulk;
	bool is_sealed;
};

struct hf_link {
	struct hf_stream *stream;
	bool is_paused, is_dispatching, is_over;
	bool is_mute; /* nothing may be written any more, by the caller's own wish */
	enum hf_conn_end end; /* once is_over */
	int write_error; /* -errno that ended writing */
	struct hf_wire_reader reader;
	uint8_t *read_buf;

	struct segment *ring; /* ring_cap is a power of two */
	size_t ring_cap, ring_head, n_segments;
	struct hf_mirror control;
	uint64_t control_head, control_tail; /* control bytes sent and queued since the start */

	size_t n_bulk;
	uint64_t bulk_done, sent_bytes, received_bytes;
};

int hf_link_new(struct hf_stream *stream, struct hf_link **ret)
{
	struct hf_link *link = calloc(1, sizeof(*link));
	int r;

	if (!link)
		return -ENOMEM;
	link->ring_cap = SEGMENTS_FIRST;
	link->ring = calloc(link->ring_cap, sizeof(*link->ring));
	link->read_buf = malloc(READ_BUFFER_BYTES);
	r = link->ring && link->read_buf ? hf_mirror_open(HF_LINK_CONTROL_MAX, &link->control)
					 : -ENOMEM;
	if (r < 0) {
		hf_link_free(link);
		return r;
	}
	hf_wire_reader_init(&link->reader, link->read_buf, READ_BUFFER_BYTES);
	link->stream = stream;
	*ret = link;
	return 0;
}

void hf_link_free(struct hf_link *link)
{
	if (!link)
		return;
	assert(!link->is_dispatching);
	hf_stream_free(link->stream);
	hf_mirror_close(&link->control);
	free(link->read_buf);
	free(link->ring);
	free(link);
}

int hf_link_fd(const struct hf_link *link)
{
	return hf_stream_fd(link->stream);
}

bool hf_link_is_ready(const struct hf_link *link)
{
	return hf_stream_is_ready(link->stream);
}

const char *hf_link_error(const struct hf_link *link)
{
	return hf_stream_error(link->stream);
}

/* With a write error EPOLLOUT comes at once, so that the end is found even if nothing else tells.
 * */
uint32_t hf_link_events(const struct hf_link *link)
{
	uint32_t events = hf_stream_events(link->stream, !link->is_paused, link->n_segments > 0);

	if (link->write_error && !link->is_paused)
		events |= EPOLLOUT;
	return events;
}

void hf_link_pause(struct hf_link *link, bool is_paused)
{
	link->is_paused = is_paused;
}

enum hf_conn_end hf_link_end(const struct hf_link *link)
{
	assert(link->is_over);
	return link->end;
}

/* ---- the queue ---- */

static struct segment *segment_at(const struct hf_link *link, size_t i)
{
	return &link->ring[(link->ring_head + i) & (link->ring_cap - 1)];
}

static int grow_ring(struct hf_link *link)
{
	struct segment *ring;

	if (link->ring_cap >= HF_LINK_SEGMENTS_MAX)
		return -ENOBUFS;
	ring = calloc(link->ring_cap * 2, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (size_t i = 0; i < link->n_segments; i++)
		ring[i] = *segment_at(link, i);
	free(link->ring);
	link->ring = ring;
	link->ring_cap *= 2;
	link->ring_head = 0;
	return 0;
}

static int push(struct hf_link *link, struct segment segment)
{
	int r = link->n_segments == link->ring_cap ? grow_ring(link) : 0;

	if (r < 0)
		return r;
	*segment_at(link, link->n_segments++) = segment;
	return 0;
}

static int push_control(struct hf_link *link, uint8_t *data, size_t len)
{
	struct segment *last = link->n_segments > 0 ? segment_at(link, link->n_segments - 1) : NULL;
	int r = 0;

	if (last && !last->is_bulk)
		last->len += (uint32_t)len;
	else
		r = push(link, (struct segment){ .data = data, .len = (uint32_t)len });
	if (r == 0)
		link->control_tail += len;
	return r;
}

static void forget_queue(struct hf_link *link)
{
	link->n_segments = 0;
	link->n_bulk = 0;
	link->control_head = link->control_tail;
}

/* @n bytes of @s have left. The start of a control segment stays in the first of the two maps. */
static void consume(struct hf_link *link, struct segment *s, size_t n)
{
	s->data += n;
	s->len -= (uint32_t)n;
	if (s->is_bulk)
		return;
	link->control_head += n;
	if (s->data >= link->control.base + link->control.size_bytes)
		s->data -= link->control.size_bytes;
}

static void advance(struct hf_link *link, size_t n)
{
	link->sent_bytes += n;
	while (n > 0) {
		struct segment *s = segment_at(link, 0);
		size_t part = n < s->len ? n : s->len;

		assert(link->n_segments > 0); /* the kernel took no more than it was given */
		consume(link, s, part);
		n -= part;
		if (s->len > 0)
			continue;
		if (s->is_bulk) {
			link->n_bulk--;
			link->bulk_done++;
		}
		link->ring_head = (link->ring_head + 1) & (link->ring_cap - 1);
		link->n_segments--;
	}
	/* From the front again: the same few pages of the ring buffer serve for ever. */
	if (link->control_head == link->control_tail)
		link->control_head = link->control_tail = 0;
}

/* By what was queued, not by what the header says now: disk records lie in memory that another
 * process can write to, and a wrong length there must do no harm here. */
static void seal(struct segment *s)
{
	if (!s->is_bulk || s->is_sealed)
		return;
	hf_wire_seal_as(s->data, (enum hf_wire_type)s->type, s->len - HF_WIRE_HEADER_BYTES);
	s->is_sealed = true;
}

static int gather(struct hf_link *link, struct iovec iov[IOVECS_MAX], size_t *ret_bytes)
{
	size_t bytes = 0;
	int n = 0;

	while ((size_t)n < link->n_segments && n < IOVECS_MAX && bytes < BATCH_BYTES) {
		struct segment *s = segment_at(link, (size_t)n);

		seal(s);
		iov[n++] = (struct iovec){ .iov_base = s->data, .iov_len = s->len };
		bytes += s->len;
	}
	*ret_bytes = bytes;
	return n;
}

/* What could be written of one batch; less than @ret_wanted: the stream is full or has failed. */
static size_t write_batch(struct hf_link *link, size_t *ret_wanted)
{
	struct iovec iov[IOVECS_MAX];
	size_t n = 0;
	int r = hf_stream_writev(link->stream, iov, gather(link, iov, ret_wanted), &n);

	if (r == 0) {
		advance(link, n);
		return n;
	}
	if (r < 0) {
		link->write_error = r;
		forget_queue(link);
	}
	return 0;
}

void hf_link_flush(struct hf_link *link)
{
	size_t total = 0, wanted = 0, n = 0;

	while (link->n_segments > 0 && total < HF_LINK_TURN_BYTES && n == wanted) {
		n = write_batch(link, &wanted);
		total += n;
	}
}

int hf_link_send(struct hf_link *link, const struct hf_wire_msg *msg, struct hf_err *err)
{
	size_t queued = (size_t)(link->control_tail - link->control_head);
	uint8_t *at = link->control.base + link->control_tail % link->control.size_bytes;
	size_t len;
	int r;

	if (link->write_error || link->is_mute)
		return 0;
	r = hf_wire_encode(msg, at, HF_LINK_CONTROL_MAX - queued, &len, err);
	if (r == 0)
		r = push_control(link, at, len);
	if (r == -ENOBUFS)
		hf_err_set(err, "the peer does not read: %zu bytes of control messages wait for it",
			   queued);
	if (r == 0 && link->n_segments == 1 && segment_at(link, 0)->data == at)
		hf_link_flush(link);
	return r;
}

int hf_link_send_bulk(struct hf_link *link, uint8_t *message, size_t len)
{
	unsigned int type;
	int r;

	assert(len >= HF_WIRE_HEADER_BYTES);
	assert(len <= HF_WIRE_MESSAGE_MAX);
	type = hf_wire_header_type(message);
	if (len - HF_WIRE_HEADER_BYTES > hf_wire_payload_max(type))
		return -EINVAL;
	if (link->write_error || link->is_mute)
		return 0;
	r = push(link, (struct segment){ .data = message,
					 .len = (uint32_t)len,
					 .type = (uint16_t)type,
					 .is_bulk = true });
	if (r == 0)
		link->n_bulk++;
	return r;
}

size_t hf_link_bulk_pending(const struct hf_link *link)
{
	return link->n_bulk;
}

uint64_t hf_link_bulk_done(const struct hf_link *link)
{
	return link->bulk_done;
}

void hf_link_drop_bulk(struct hf_link *link)
{
	forget_queue(link);
	link->is_mute = true;
}

uint64_t hf_link_sent_bytes(const struct hf_link *link)
{
	return link->sent_bytes;
}

uint64_t hf_link_received_bytes(const struct hf_link *link)
{
	return link->received_bytes;
}

/* ---- receiving ---- */

enum { DELIVERED_ALL, DELIVER_STOPPED, DELIVER_BAD };

static int deliver(struct hf_link *link, hf_link_on_message *on_message, void *ctx,
		   struct hf_err *err)
{
	struct hf_wire_view view;
	int r;

	for (;;) {
		if (link->is_paused)
			return DELIVER_STOPPED;
		r = hf_wire_reader_next(&link->reader, &view, err);
		if (r == HF_WIRE_NEED_MORE)
			return DELIVERED_ALL;
		if (r != HF_WIRE_MESSAGE)
			return DELIVER_BAD;
		if (!on_message(ctx, &view))
			return DELIVER_STOPPED;
	}
}

/* @read_result: HF_FD_EOF, HF_FD_AGAIN after a failed write, or -errno. */
static int finish(struct hf_link *link, int read_result, struct hf_err *err)
{
	const char *why = hf_stream_error(link->stream);
	int error = read_result < 0 ? read_result : 0;

	if (read_result == HF_FD_AGAIN || (read_result == HF_FD_EOF && link->write_error != -EPIPE))
		error = link->write_error;
	link->end = hf_conn_end_of(error);
	forget_queue(link);
	if (link->end == HF_CONN_OTHER) {
		hf_err_set(err, "%s", *why ? why : strerror(-error));
		hf_err_prefix(err, "the replication link failed");
		return error;
	}
	link->is_over = true;
	hf_err_set(err, "%s%s", *why ? "" : "the replication link was ",
		   *why ? why : hf_conn_end_text(link->end));
	return HF_LINK_ENDED;
}

static int read_once(struct hf_link *link, bool is_kept_only, size_t *ret_n, bool *ret_is_short)
{
	uint8_t *space;
	size_t size;
	int r;

	hf_wire_reader_space(&link->reader, &space, &size);
	r = is_kept_only ? hf_stream_read_kept(link->stream, space, size, ret_n)
			 : hf_stream_read(link->stream, space, size, ret_n);
	if (r != 0)
		return r;
	hf_wire_reader_commit(&link->reader, *ret_n);
	link->received_bytes += *ret_n;
	*ret_is_short = *ret_n < size && !hf_stream_has_input(link->stream);
	return 0;
}

/* A short read means that the stream is empty, which saves the call that would say so. After a
 * failed write that has to be known for sure: then nothing is going to come any more. What TLS has
 * taken from the socket makes no event, so a turn ends only when that has been read. */
static int receive(struct hf_link *link, bool is_readable, hf_link_on_message *on_message,
		   void *ctx, struct hf_err *err)
{
	int r = deliver(link, on_message, ctx, err);
	bool is_short = false;
	size_t n = 0;

	for (size_t total = 0;
	     is_readable && r == DELIVERED_ALL && (!is_short || link->write_error); total += n) {
		bool is_enough = total >= HF_LINK_TURN_BYTES;

		if (is_enough && !hf_stream_has_input(link->stream))
			return 0;
		r = read_once(link, is_enough, &n, &is_short);
		if (r == HF_FD_AGAIN && (is_enough || !link->write_error))
			return 0;
		if (r != 0)
			return finish(link, r, err);
		r = deliver(link, on_message, ctx, err);
	}
	return r == DELIVER_BAD ? HF_LINK_BAD : 0;
}

/* Also what the stream still keeps of what it took before. */
static void send_on(struct hf_link *link)
{
	size_t n;

	if (link->n_segments > 0)
		hf_link_flush(link);
	else if (hf_stream_unsent_bytes(link->stream) > 0)
		(void)!hf_stream_writev(link->stream, NULL, 0, &n);
}

int hf_link_dispatch(struct hf_link *link, uint32_t revents, hf_link_on_message *on_message,
		     void *ctx, struct hf_err *err)
{
	bool is_readable = revents & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP) ||
			   hf_stream_has_input(link->stream);
	int r;

	assert(!link->is_dispatching);
	if (link->is_over) {
		hf_err_set(err, "the replication link was %s", hf_conn_end_text(link->end));
		return HF_LINK_ENDED;
	}
	link->is_dispatching = true;
	r = receive(link, is_readable || link->write_error, on_message, ctx, err);
	if (r == 0 && revents & EPOLLOUT)
		send_on(link);
	link->is_dispatching = false;
	return r;
}

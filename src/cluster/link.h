/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection between two keepers: messages in and out of a stream. Layer: cluster. One
 * thread, that of the caller's event loop, which waits on hf_link_fd() for hf_link_events() and
 * then calls hf_link_dispatch(). Nothing blocks. Messages: codec/wire.h; docs/wire-format.md.
 *
 * Sending never fails because the connection has ended: what the peer sent before its end has to be
 * read first, for it may be the very word that decides who may run the VM. The end is told by
 * hf_link_dispatch() after the last message; until then what is sent goes nowhere.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/wire-msg.h"
#include "codec/wire.h"
#include "sys/sock.h"
#include "sys/stream.h"

/* Control messages that wait to be sent, in bytes; and pieces of both kinds in the queue. */
#define HF_LINK_CONTROL_MAX ((size_t)1024 * 1024)
#define HF_LINK_SEGMENTS_MAX ((size_t)1 << 20)
/* Most that one hf_link_dispatch() reads, and most that it or hf_link_flush() writes, plus at most
 * one read's or write's worth more. */
#define HF_LINK_TURN_BYTES ((size_t)4 * 1024 * 1024)

struct hf_link;

/**
 * hf_link_new() - take over a stream, ready or not
 * @stream: the link's on success, still the caller's on failure
 * Allocates about 1.1 MiB for receiving, of which only what is used is touched, and more for a long
 * queue.
 * Return: 0 or -errno.
 */
int hf_link_new(struct hf_stream *stream, struct hf_link **ret) HF_MUST_CHECK;

/* Closes the connection. Borrowed messages are the caller's again. Takes NULL. Not from inside
 * hf_link_dispatch(): let on_message() return false there. */
void hf_link_free(struct hf_link *link);

/* Stays the link's. */
int hf_link_fd(const struct hf_link *link);

/* Has the peer proven who it is? Plain: always. */
bool hf_link_is_ready(const struct hf_link *link);

/* What to wait for now; to be asked again after each call of hf_link_*(). 0 (paused, nothing to
 * send): take the descriptor out of the event loop, which would report its hang-up for ever. */
uint32_t hf_link_events(const struct hf_link *link);

/**
 * hf_link_pause() - stop or resume reading
 * While paused neither messages nor the connection's end are told. After resuming, call
 * hf_link_dispatch() with EPOLLIN at once: messages that are already here make no event.
 */
void hf_link_pause(struct hf_link *link, bool is_paused);

enum {
	HF_LINK_ENDED = 1, /* the connection is over: hf_link_end(); free the link */
	HF_LINK_BAD = 2, /* the peer sent what makes no sense: close, after ERROR(protocol) */
};

/* @view is valid only during the call. May send and pause. Return: false to stop: then the rest
 * waits for another hf_link_dispatch(), which the caller has to make, or frees the link instead. */
typedef bool hf_link_on_message(void *ctx, const struct hf_wire_view *view);

/**
 * hf_link_dispatch() - read, give out each whole message, write
 * @revents: what epoll reported
 * Return: 0; HF_LINK_ENDED with @err, also for each later call; HF_LINK_BAD with @err (messages
 * before it have been given out; sending still works); -errno with @err: the stream is unusable
 * (-EPROTO: TLS came to nothing).
 */
int hf_link_dispatch(struct hf_link *link, uint32_t revents, hf_link_on_message *on_message,
		     void *ctx, struct hf_err *err) HF_MUST_CHECK;

/* Why TLS came to nothing: hf_stream_error(); "" otherwise. The link's. */
const char *hf_link_error(const struct hf_link *link);

/* How it ended; only after HF_LINK_ENDED. */
enum hf_conn_end hf_link_end(const struct hf_link *link);

/**
 * hf_link_send() - queue a control message, and write it at once if nothing waits before it
 * Return: 0: queued, sent, or dropped because the connection has ended; -EINVAL with @err, see
 * hf_wire_encode(); -ENOBUFS with @err: the peer takes nothing, close; -ENOMEM.
 */
int hf_link_send(struct hf_link *link, const struct hf_wire_msg *msg,
		 struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_link_send_bulk() - queue a message that lies in the caller's memory
 * @message: laid out, not sealed: the link computes its checksum right before its first byte is
 *	written, so that the VM need not wait for it. Borrowed and not to be touched until
 *	hf_link_bulk_done() has grown past it, or hf_link_bulk_pending() is 0.
 *	It may lie in memory that another process writes to: what is changed meanwhile makes the
 *	peer refuse the message, no more.
 * @len: of the whole message, as hf_wire_*_finish() returned it
 * Keeps its place among all messages. Writes nothing yet: call hf_link_flush() after the last.
 * Return: 0: queued, or not even borrowed because the connection has ended; -ENOBUFS: more than
 * HF_LINK_SEGMENTS_MAX; -EINVAL: the header's type is none, or too long for it; -ENOMEM.
 */
int hf_link_send_bulk(struct hf_link *link, uint8_t *message, size_t len) HF_MUST_CHECK;

/* Writes as much as the stream takes, up to HF_LINK_TURN_BYTES; the rest follows with EPOLLOUT. */
void hf_link_flush(struct hf_link *link);

/* Borrowed messages that the stream has not yet taken whole; 0 once the connection has failed, as
 * nothing will be read from them any more. */
size_t hf_link_bulk_pending(const struct hf_link *link);

/* Borrowed messages that the stream has taken whole, since hf_link_new(). They go in order. */
uint64_t hf_link_bulk_done(const struct hf_link *link);

/* Gives all borrowed messages back at once. Ends sending for good, since a message may have been
 * cut in the middle: only for a link that is going to be freed. */
void hf_link_drop_bulk(struct hf_link *link);

/* Bytes that went through the stream. The peer lives as long as the second grows. */
uint64_t hf_link_sent_bytes(const struct hf_link *link);
uint64_t hf_link_received_bytes(const struct hf_link *link);

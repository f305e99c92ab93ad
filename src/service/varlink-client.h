/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection to a Varlink service that never blocks: calls are queued, replies come as callbacks.
 * Layer: service. Main thread only. Over a unix socket, or over a stream to another host. To connect again after an end is the caller's.
 *
 * Replies arrive in the order of the calls, which is Varlink's rule; a call with "more" that has no
 * end (Events) therefore wants a connection of its own.
 */
#pragma once

#include <json-c/json_object.h>

#include "codec/varlink.h"
#include "service/loop.h"
#include "sys/stream.h"

#define HF_VARLINK_CLIENT_CALLS_MAX 64
#define HF_VARLINK_CLIENT_QUEUE_MAX_BYTES (1u << 20)

struct hf_varlink_client;

/*
 * One reply, borrowed: reply->error is NULL or the error's name, reply->is_continues says that
 * another one follows. May call everything below, hf_varlink_client_close() too.
 */
typedef void hf_varlink_answer(void *ctx, const struct hf_varlink_reply *reply);

/* The connection has ended: -ECONNRESET by the service, or another -errno; @why is fit for the user.
 * No open call gets an answer any more. The client is still to be closed, here or later. */
typedef void hf_varlink_ended(void *ctx, int error, const char *why);

/**
 * hf_varlink_client_open() - connect to the unix socket @path
 * @ended: called at most once, never from inside of a function below
 * Return: 0; -ENOENT, -ECONNREFUSED: no such service now; -EAGAIN: it is too busy to take a
 * connection, try again later; -ENAMETOOLONG; other -errno.
 */
int hf_varlink_client_open(struct hf_loop *loop, const char *path, hf_varlink_ended *ended,
			   void *ctx, struct hf_varlink_client **ret,
			   struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_varlink_client_adopt() - the same over a connection that was made elsewhere
 * @stream: connected, plain or TLS, also before its handshake is done: what is called until then waits.
 *	The client's on success. How long a handshake may take is the caller's to see to.
 * Return: 0; -errno: @stream is still the caller's.
 */
int hf_varlink_client_adopt(struct hf_loop *loop, struct hf_stream *stream, hf_varlink_ended *ended,
			    void *ctx, struct hf_varlink_client **ret) HF_MUST_CHECK;

/* Its connection, to look at. */
const struct hf_stream *hf_varlink_client_stream(const struct hf_varlink_client *c);

/* Calls nobody back any more. Takes NULL. */
void hf_varlink_client_close(struct hf_varlink_client *c);

/**
 * hf_varlink_client_call() - send a call
 * @method: "org.example.Interface.Method"
 * @parameters: an object or NULL; taken over, also on failure
 * @answer: for each reply; NULL: they are not of interest
 * Return: 0; -EBUSY: too much is under way; -ENOTCONN: it has ended; -ENOMEM.
 */
int hf_varlink_client_call(struct hf_varlink_client *c, const char *method,
			   struct json_object *parameters, bool is_more, hf_varlink_answer *answer,
			   void *ctx) HF_MUST_CHECK;

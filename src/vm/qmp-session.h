/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One QMP conversation over a connected stream socket: commands are queued and pipelined, answers
 * find their caller, events go to one callback. Layer: vm. One thread for each session. Knows no
 * event loop: wait for hf_qmp_events() on hf_qmp_fd(), then call hf_qmp_dispatch().
 *
 * Source: QEMU's docs/interop/qmp-spec; the descriptors, QEMU's chardev/char-socket.c.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define HF_QMP_OUTSTANDING_MAX 64
#define HF_QMP_QUEUE_MAX_BYTES ((size_t)256 * 1024)

/* Error classes of the session's own, beside QEMU's (GenericError, CommandNotFound, ...). */
#define HF_QMP_CLASS_LOST "ConnectionLost"

struct hf_qmp;

/**
 * hf_qmp_reply - the answer to one command; called exactly once for each, from hf_qmp_dispatch()
 * @ret: what QEMU returned: its owner is the session, json_object_get() keeps it; NULL after an
 *	error, and where QEMU returned null
 * @error_class: NULL when the command succeeded
 * @error_desc: one sentence; valid during the call
 * May queue further commands. Must not close the session.
 */
typedef void hf_qmp_reply(void *ctx, struct json_object *ret, const char *error_class,
			  const char *error_desc);

/* @data: an object of the session's, or NULL. Same rules as for hf_qmp_reply. */
typedef void hf_qmp_event(void *ctx, const char *name, struct json_object *data,
			  uint64_t timestamp_us);

/**
 * hf_qmp_open() - begin a conversation
 * @fd: connected, non-blocking; belongs to the session if 0 is returned
 * @on_event: may be NULL
 * Negotiates by itself: the greeting is awaited and qmp_capabilities goes out ahead of the first
 * command, so commands may be queued at once. Does not block; allocates. Return: 0 or -ENOMEM.
 */
int hf_qmp_open(int fd, hf_qmp_event *on_event, void *ctx, struct hf_qmp **ret) HF_MUST_CHECK;

/* Closes. Callbacks of unanswered commands are not called any more. Takes NULL. */
void hf_qmp_close(struct hf_qmp *q);

int hf_qmp_fd(const struct hf_qmp *q);
/* EPOLLIN, with EPOLLOUT while commands wait for room in the socket; 0 once the session is over:
 * then take the descriptor out of the loop. */
uint32_t hf_qmp_events(const struct hf_qmp *q);

/* "7.2.22", from the greeting; "" before it has come. */
const char *hf_qmp_version(const struct hf_qmp *q);

/**
 * hf_qmp_dispatch() - read, call back, write; as far as it goes without blocking
 * Return: 0; -EPIPE: QEMU closed the connection; -EMSGSIZE, -EBADMSG: it sent what is no QMP; other
 * -errno of the socket. @err says which. On an error the session is over: every unanswered command
 * has been called back with HF_QMP_CLASS_LOST; only hf_qmp_close() makes sense now.
 */
int hf_qmp_dispatch(struct hf_qmp *q, struct hf_err *err) HF_MUST_CHECK;

struct hf_qmp_command {
	const char *name;
	struct json_object *arguments; /* NULL for none; stays the caller's, and is not kept */
	const char *arguments_text; /* instead of @arguments: JSON text of an object, or NULL */
	bool has_fd;
	int fd; /* with has_fd: goes to QEMU with this command (getfd); stays the caller's */
	hf_qmp_reply *on_reply; /* NULL when nobody wants to know */
	void *ctx;
};

/**
 * hf_qmp_submit() - queue a command; written at once when nothing is waiting in front of it
 * Never calls back by itself. Return: 0: on_reply will be called; else it will not be:
 * -ENOBUFS: HF_QMP_OUTSTANDING_MAX unanswered or HF_QMP_QUEUE_MAX_BYTES unsent; -EPIPE: the session
 * is over; -ENOMEM; -errno of duplicating the descriptor.
 */
int hf_qmp_submit(struct hf_qmp *q, const struct hf_qmp_command *command) HF_MUST_CHECK;

/* hf_qmp_submit() of a command without a descriptor. */
int hf_qmp_call(struct hf_qmp *q, const char *name, struct json_object *arguments,
		hf_qmp_reply *on_reply, void *ctx) HF_MUST_CHECK;

/**
 * hf_qmp_wait() - submit one command and BLOCK until it is answered; at start-up only
 * Other callbacks and events are dispatched meanwhile. @command's on_reply and ctx are ignored.
 * @ret: may be NULL; else the caller's to json_object_put()
 * Return: 0; -EREMOTEIO: QEMU answered with an error, which is in @err; -ETIMEDOUT; what
 * hf_qmp_submit() and hf_qmp_dispatch() return.
 */
int hf_qmp_wait(struct hf_qmp *q, const struct hf_qmp_command *command, int timeout_ms,
		struct json_object **ret, struct hf_err *err) HF_MUST_CHECK;

/* hf_qmp_wait() of a command without a descriptor. */
int hf_qmp_call_wait(struct hf_qmp *q, const char *name, struct json_object *arguments,
		     int timeout_ms, struct json_object **ret, struct hf_err *err) HF_MUST_CHECK;

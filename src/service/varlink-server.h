/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A Varlink service on a listening unix socket: connections, their limits and queues, and a table of
 * methods. Layer: service. Main thread only; nothing blocks.
 *
 * Each call becomes a request, which its method answers at once or at any later time. Calls that
 * arrive behind one that is still open are handled as they arrive, so that one can cancel another;
 * but what they answer is held back until the earlier ones have been answered, as Varlink demands.
 *
 * Who may do what, on a unix socket: root, and the user who runs this, everything. If the socket is a
 * group's (its file's group may write), its members may call what is_looking; anything else is refused
 * with the interface's error PermissionDenied, and logged once for each user. Nobody else is served.
 *
 * A connection ends when its client closes it, says what is no Varlink, has more than
 * HF_VARLINK_SERVER_REQUESTS_MAX calls open, or does not read while HF_VARLINK_SERVER_QUEUE_MAX_BYTES
 * wait for it. It is never freed inside of a function below: a pointer to it holds until closed().
 */
#pragma once

#include <json-c/json_object.h>

#include "codec/varlink.h"
#include "service/journal.h"
#include "service/loop.h"
#include "sys/stream.h"

#define HF_VARLINK_SERVER_CLIENTS_MAX 512
#define HF_VARLINK_SERVER_REQUESTS_MAX 64
#define HF_VARLINK_SERVER_QUEUE_MAX_BYTES (1u << 20)
/* Connections of one user who may only look; all such users together get half of clients_max. */
#define HF_VARLINK_SERVER_USER_MAX 16

struct hf_varlink_server;
struct hf_varlink_conn; /* one client's connection */
struct hf_varlink_request; /* one call, until it is answered or its connection has ended */

/*
 * A method. @parameters: an object or NULL, borrowed. @rq has to be answered once, now or later; what
 * refers to it afterwards must forget it. A oneway call is answered the same way, into nothing.
 */
typedef void hf_varlink_method(void *ctx, struct hf_varlink_request *rq,
			       struct json_object *parameters);

struct hf_varlink_entry {
	const char *name; /* "org.example.Interface.Method" */
	hf_varlink_method *call;
	bool needs_more; /* refused without "more": org.varlink.service.ExpectedMore */
	bool is_looking; /* for those, too, who may only look */
};

/* An interface, for org.varlink.service: its definition as people read it (varlink.org, "Interface
 * Definition"). */
struct hf_varlink_interface {
	const char *name;
	const char *text;
};

struct hf_varlink_service {
	const struct hf_varlink_entry *methods;
	size_t n_methods;
	unsigned int clients_max; /* at most HF_VARLINK_SERVER_CLIENTS_MAX */
	/* What GetInfo() and GetInterfaceDescription() tell; none: these two are not served. */
	const struct hf_varlink_interface *interfaces;
	size_t n_interfaces;
	/* The connection has ended, its open requests are gone; forget it. May be NULL. */
	void (*closed)(void *ctx, struct hf_varlink_conn *conn);
};

/**
 * hf_varlink_server_new() - serve @listen_fd, which stays the caller's
 * @listen_fd: -1: only connections that are adopted
 * @journal: what clients do wrong is logged there
 * @service: borrowed as long as the server lives
 * Return: 0 or -errno.
 */
int hf_varlink_server_new(struct hf_loop *loop, int listen_fd, struct hf_journal *journal,
			  const struct hf_varlink_service *service, void *ctx,
			  struct hf_varlink_server **ret) HF_MUST_CHECK;

/**
 * hf_varlink_server_adopt() - serve a connection that was accepted elsewhere
 * @stream: plain or TLS, also before its handshake is done; the server's on success. How long that may
 *	take is the caller's to see to, by hf_varlink_conn_close().
 * @ret: may be NULL
 * Return: 0; -EBUSY: clients_max; other -errno. On failure @stream is still the caller's.
 */
int hf_varlink_server_adopt(struct hf_varlink_server *s, struct hf_stream *stream,
			    struct hf_varlink_conn **ret) HF_MUST_CHECK;

/* Sends what can be sent without waiting, then lets go of all clients. Takes NULL. */
void hf_varlink_server_free(struct hf_varlink_server *s);

/* Answers: @parameters (may be NULL) is taken over. After done() and error() @rq is gone. */
void hf_varlink_done(struct hf_varlink_request *rq, struct json_object *parameters);
void hf_varlink_error(struct hf_varlink_request *rq, const char *error,
		      struct json_object *parameters);
/* One of several: more follow. Only if the call had "more", else it is without effect. */
void hf_varlink_continue(struct hf_varlink_request *rq, struct json_object *parameters);

/* org.varlink.service.InvalidParameter, with the text of @err as its parameter. */
void hf_varlink_invalid(struct hf_varlink_request *rq, const struct hf_err *err);
/* An error with the one member {reason: text}. */
void hf_varlink_refuse(struct hf_varlink_request *rq, const char *error, const char *reason);

struct hf_varlink_conn *hf_varlink_request_conn(const struct hf_varlink_request *rq);
bool hf_varlink_request_has_more(const struct hf_varlink_request *rq);

/* The connection has ended with @rq open: @gone(@data) is called before closed(), then @rq is gone.
 * All NULL: no longer. */
void hf_varlink_request_watch(struct hf_varlink_request *rq, void (*gone)(void *data), void *data);

/* How much waits to be sent on its connection; and to be told when that has become less. NULL: no longer. */
size_t hf_varlink_request_queued_bytes(const struct hf_varlink_request *rq);
void hf_varlink_request_on_room(struct hf_varlink_request *rq, void (*room)(void *data),
				void *data);

/* Ends a connection, soon: closed() is called from the loop. What was answered is sent if that goes
 * without waiting. */
void hf_varlink_conn_close(struct hf_varlink_conn *conn);
/* Over what it goes, to look at. */
const struct hf_stream *hf_varlink_conn_stream(const struct hf_varlink_conn *conn);

/* What the owner keeps for a connection; NULL at first. */
void hf_varlink_conn_set_data(struct hf_varlink_conn *conn, void *data);
void *hf_varlink_conn_data(const struct hf_varlink_conn *conn);
/* The client's process as it connected; 0: not known. */
int hf_varlink_conn_pid(const struct hf_varlink_conn *conn);

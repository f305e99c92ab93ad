/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keeper's control socket: Varlink on RUN_DIR/NAME/control. Layer: keeper. Main thread only.
 *
 * Interface org.holdfast.Keeper:
 *   Status() -> (status: object)            docs/man/holdfast.1 describes the members
 *   Events(after: int) -> (event: object)   with "more": events kept since, then each as it happens
 *   Promote(force: bool) -> ()              error NotPossible(reason: string)
 *   HandOver() -> ()                        when the standby has been told; error NotPossible(reason: string)
 *   PeerDied(host: string, time_ns: int, text: string) -> (is_dead: bool, text: string)
 *                                           error NotPossible(reason: string)
 *   Stop(force: bool) -> ()                 error NotPossible(reason: string)
 *   Resume() -> ()                          error NotPossible(reason: string)
 *   Pause() -> ()                           error NotPossible(reason: string)
 *   Freeze(reason, cause, severity, topology: string, kill: bool; all optional)
 *       -> (id: string, certificate: object) once it is proven; with "more" first (step, result, us, text)
 *   Release() -> ()                         a frozen instance; error NotPossible(reason: string)
 *   Offload() -> ()                         with "more" first (done_bytes, total_bytes)
 *   Save(force: bool) -> ()                 with "more" first (done_bytes, total_bytes)
 *   Dump(file, format: string, force: bool) -> ()  with "more" first (done_bytes, total_bytes)
 * Only the user who runs the keeper can reach the socket (folder 0700). A client that does not read
 * is let go of once 1 MiB waits for it. Everything that is not of this interface is in
 * service/varlink-server.h.
 */
#pragma once

#include <json-c/json_object.h>

#include "service/journal.h"
#include "service/loop.h"
#include "service/varlink-server.h"

#define HF_CONTROL_CLIENTS_MAX 32

/* What the role behind the socket can be asked for. */
struct hf_control_ops {
	/* A new object for the caller. */
	struct json_object *(*status)(void *ctx);
	/* 0, or a negative value with @err: why it cannot be done. */
	int (*promote)(void *ctx, bool is_forced, struct hf_err *err);
	int (*stop)(void *ctx, bool is_forced, struct hf_err *err);
	int (*resume)(void *ctx, struct hf_err *err);
	int (*pause)(void *ctx, struct hf_err *err);
	/* Those that take their time; each answers the request itself. */
	hf_varlink_method *freeze, *release, *offload, *save, *dump, *hand_over, *peer_died;
};

struct hf_control;

/**
 * hf_control_new() - serve @listen_fd, which stays the caller's
 * @journal: becomes its listener. Return: 0 or -errno.
 */
int hf_control_new(struct hf_loop *loop, int listen_fd, struct hf_journal *journal,
		   const struct hf_control_ops *ops, void *ctx,
		   struct hf_control **ret) HF_MUST_CHECK;

/* Sends what can be sent without waiting, then lets go of all clients. Takes NULL. */
void hf_control_free(struct hf_control *c);

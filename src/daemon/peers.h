/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemons of the other hosts with which this one shares VMs: who they are, what they say, what they
 * are told. Layer: daemon. Main thread only. docs/peers.md describes the protocol.
 *
 * peers.c        who they are: from the definitions and holdfastd.conf; what people see of them
 * peers-dial.c   the connection to each: made, made again, asked whether it lives
 * peers-tell.c   what each is told over it: VMs, events
 * peers-serve.c  the connections from them: who may speak, and of what
 * peers-place.c  what follows for the VMs here
 * peers-ask.c    orders to others: start it there, go on with it there
 *
 * Each daemon connects to each peer, and speaks on its own connection only. All that is told is
 * the present state, so nothing is lost by a connection that is. Nothing waits for a peer.
 */
#pragma once

#include "daemon/daemon.h"

#define HF_PEERS_PORT 7399
#define HF_PEERS_MAX 64

/* From the present definitions; begins to connect. Sets hooks of daemon/vms.h. 0 or -errno. */
int hf_peers_new(struct hf_daemon *d, struct hf_err *err) HF_MUST_CHECK;
/* Takes a daemon without. */
void hf_peers_free(struct hf_daemon *d);

/* The host of this name was fenced at @fenced_ns of hf_now_ns()'s clock: unless it was heard after that it
 * is out of touch at once, and nobody waits for it to be asked. False: no peer has this name. */
bool hf_peers_fenced(struct hf_daemon *d, const char *name, uint64_t fenced_ns);
/* The @i-th peer's name; NULL: there are fewer. */
const char *hf_peers_name(const struct hf_daemon *d, unsigned int i);

/* [{host, address, state, is_up, since_ns, text, vms}], for Status. NULL: there are none. */
struct json_object *hf_peers_view(const struct hf_daemon *d);

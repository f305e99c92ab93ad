/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of peers.h share. Layer: daemon. Main thread only. */
#pragma once

#include "codec/peermsg.h"
#include "daemon/peers.h"
#include "daemon/vms.h"
#include "service/doorlog.h"
#include "service/varlink-client.h"
#include "service/varlink-server.h"
#include "service/worker.h"
#include "sys/sock.h"
#include "sys/tls.h"

#define HF_PEER_INTERFACE "org.holdfast.Peer"
#define HF_PEER_SECOND 1000000000ull
#define HF_PEER_GREETING_NS (10 * HF_PEER_SECOND) /* for connection, TLS and Hello, each */
#define HF_PEER_SILENCE_NS (5 * HF_PEER_SECOND) /* then it is asked whether it lives */
#define HF_PEER_DEAD_NS (10 * HF_PEER_SECOND) /* and has so long to say */
#define HF_PEER_CALL_NS (40 * HF_PEER_SECOND) /* for an order to be answered */

/* Names of VMs. */
struct hf_names {
	char (*at)[HF_NAME_MAX + 1];
	unsigned int n, room;
};

/* What a peer said of a VM. */
struct hf_peer_vm {
	struct hf_peer_vm *next;
	struct hf_peermsg_vm said;
	bool is_stale; /* a new telling has begun, and has not named it yet */
};

enum hf_peer_dial {
	HF_PEER_IDLE, /* until timer */
	HF_PEER_RESOLVING,
	HF_PEER_CONNECTING,
	HF_PEER_GREETING,
	HF_PEER_LISTENS, /* it has answered our Hello */
};

struct hf_peer_host {
	struct hf_peer_host *next;
	struct hf_peers *peers;
	char name[HF_NAME_MAX + 1];
	struct hf_addr addr;
	bool is_wanted; /* while the definitions are gone through */

	/* peers-dial.c: to it */
	enum hf_peer_dial dial;
	struct hf_worker *resolver;
	int fd; /* CONNECTING, else -1 */
	struct hf_watch watch;
	struct hf_varlink_client *client; /* GREETING and LISTENS */
	struct hf_timer timer;
	uint64_t backoff_ns;
	uint64_t heard_ns;
	bool is_pinging;
	char trouble[HF_ERR_MAX]; /* why there is no connection, as was logged */

	/* peers-tell.c */
	struct hf_names untold;
	bool is_telling; /* one call at a time */
	bool is_retelling; /* is_first and is_last are still to be said */
	bool is_first_told;
	bool is_noticing;
	uint64_t noticed_seq; /* of our journal, it knows all up to this one */

	/* peers-serve.c: from it */
	struct hf_varlink_conn *conn;
	bool is_synced; /* all was told */
	uint64_t instance; /* of its daemon */
	uint64_t seq; /* the last of its events */
	struct hf_peermsg_event last_event; /* that was told here */
	struct hf_peer_vm *vms;
	unsigned int n_vms;

	bool is_up; /* both ways */
	bool is_fenced; /* and was not heard since: it is silent for long enough */
	uint64_t since_ns;
};

struct hf_peer_order; /* peers-ask.c */

struct hf_peers {
	struct hf_daemon *d;
	struct hf_peer_host *first;
	unsigned int n;
	uint64_t instance;
	struct hf_tls *tls; /* NULL: plain, or not to be had now */
	char trouble[HF_ERR_MAX]; /* why not, or what is to be known of it, as was logged */
	struct hf_timer tls_timer;

	int listen_fd;
	struct hf_watch watch;
	struct hf_varlink_server *server;
	struct hf_timer greeting_timer; /* for those that have connected and said nothing */
	unsigned int n_guests;
	struct hf_peer_guest *guests;
	struct hf_doorlog door; /* who was turned away */

	struct hf_names touched; /* VMs to be looked at */
	bool is_looking;
	struct hf_timer work_timer;
	struct hf_timer place_timer;
	uint64_t place_ns;
	struct hf_peer_order *orders;
	unsigned int n_orders;
	struct hf_timer order_timer;
};

/* peers.c */
struct hf_peer_host *hf_peer_find(const struct hf_peers *ps, const char *name);
/* Does a definition that is in force share @vm with @host? */
bool hf_peer_shares(const struct hf_peers *ps, const struct hf_vms_vm *vm, const char *host);
/* What it said; NULL: nothing. */
const struct hf_peermsg_vm *hf_peer_said(const struct hf_peer_host *p, const char *vm);
/* The one other host of a VM that has two; NULL. */
struct hf_peer_host *hf_peer_of_pair(const struct hf_peers *ps, const struct hf_vms_vm *vm);
/* TLS as it is to be had now; true: @ret (NULL: plain by name). Says why not once. */
bool hf_peers_get_tls(struct hf_peers *ps, struct hf_tls **ret, struct hf_err *err);
/* Is it up both ways? Tells when that has changed. @why: fit for people. */
void hf_peer_settle(struct hf_peer_host *p, const char *why);
/* @vm is to be looked at, soon. */
void hf_peers_touch(struct hf_peers *ps, const char *vm);
/* False: there is no room; it is in there already: true. */
bool hf_names_add(struct hf_names *names, const char *name);
bool hf_names_take(struct hf_names *names, char *ret); /* any; false: empty */

/* peers-dial.c */
void hf_peer_dial(struct hf_peer_host *p); /* now, unless it is under way */
void hf_peer_hang_up(struct hf_peer_host *p, const char *why); /* and again later */
void hf_peer_dial_free(struct hf_peer_host *p);
void hf_peer_heard(struct hf_peer_host *p);

/* peers-tell.c */
void hf_peer_tell_all(
	struct hf_peer_host *p); /* a connection has been made, definitions have changed */
void hf_peer_tell(struct hf_peer_host *p); /* what is untold */
void hf_peer_forget_telling(struct hf_peer_host *p); /* the connection has gone */

/* peers-serve.c */
void hf_peers_listen(struct hf_peers *ps); /* or no longer: as there are peers */
void hf_peers_serve_free(struct hf_peers *ps);
void hf_peer_drop_conn(struct hf_peer_host *p);
void hf_peer_forget_vms(struct hf_peer_host *p);

/* peers-place.c */
void hf_peers_look(struct hf_peers *ps, struct hf_vms_vm *vm);
bool hf_peers_may_run(const struct hf_vms_vm *vm);
void hf_peer_describe(const struct hf_peers *ps, const struct hf_vms_vm *vm,
		      struct hf_peermsg_vm *ret);

/* peers-ask.c */
bool hf_peers_start_elsewhere(struct hf_vms_vm *vm, const char *host, bool is_fresh,
			      struct hf_varlink_request *rq);
bool hf_peers_give(struct hf_vms_vm *vm, enum hf_vm_cause cause);
/* Answers @rq as soon as it runs here, or will not. */
void hf_peers_await(struct hf_peers *ps, const struct hf_vms_vm *vm, struct hf_varlink_request *rq);
void hf_peers_orders_look(struct hf_peers *ps, const char *vm); /* something has changed */
void hf_peers_orders_free(struct hf_peers *ps);
/* The connection to it has gone: nothing that was asked over it is answered any more. */
void hf_peer_orders_drop(struct hf_peer_host *p);
/* A VM without a standby may have to be given to another host, or no longer. */
void hf_peers_give_look(struct hf_peers *ps, struct hf_vms_vm *vm);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The leases that something on this host holds, and what has to be dead before one of them may be
 * given back. Layer: daemon. Main thread only. Knows processes, no disk.
 *
 * A lease is held by a connection. When that ends, the lease is an *orphan*: it stays this host's
 * until every process that its holder named has ended, which pidfds tell. A holder that comes back
 * (the daemon was restarted, the connection broke) takes it up again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "core/lease.h"
#include "service/loop.h"
#include "service/varlink-server.h"

#define HF_HELD_MAX 1024
#define HF_HELD_PIDS_MAX 16

struct hf_held;

struct hf_held_pid {
	struct hf_held *held;
	pid_t pid;
	int fd; /* -1: has ended */
	struct hf_watch watch;
};

struct hf_held {
	struct hf_held *next;
	struct hf_held_table *table;
	char vm[HF_LEASE_NAME_BYTES + 1];
	uint64_t lver, generation;
	uint64_t tenure; /* of the host's lease, in which it was verified; 0: not since our start */
	struct hf_varlink_conn *conn; /* NULL: an orphan */
	pid_t holder; /* who connected last */
	bool is_pledged;
	bool is_expected; /* taken over: its keeper is being started */
	bool is_unverified; /* an earlier daemon held it; the disk has to be asked */
	bool is_blind; /* a process could not be watched: kept until it is released */
	bool is_ending; /* being given back, or away: nobody can take it up any more */
	uint64_t request_lver; /* of another host's request that was obeyed already */
	struct hf_held_pid pids[HF_HELD_PIDS_MAX];
	unsigned int n_pids;
};

struct hf_held_table {
	struct hf_loop *loop;
	struct hf_held *first;
	unsigned int count;
	/* An orphan's last process has ended. Called from the loop, or from hf_held_orphan(). */
	void (*ended)(void *ctx, struct hf_held *h);
	void *ctx;
};

void hf_held_table_init(struct hf_held_table *t, struct hf_loop *loop,
			void (*ended)(void *ctx, struct hf_held *h), void *ctx);
void hf_held_table_fini(struct hf_held_table *t);

struct hf_held *hf_held_find(const struct hf_held_table *t, const char *vm);

/* A new one, of @conn and the process @holder (0: none). NULL: there are too many, or no memory. */
struct hf_held *hf_held_add(struct hf_held_table *t, const char *vm, struct hf_varlink_conn *conn,
			    pid_t holder);
void hf_held_remove(struct hf_held *h);

/* @conn and its process take it up. */
void hf_held_attach(struct hf_held *h, struct hf_varlink_conn *conn, pid_t holder);

/* The connection has gone. May call ended(), which may remove @h. */
void hf_held_orphan(struct hf_held *h);

/**
 * hf_held_set_pids() - these processes, and the holder, have to end before the lease may go
 * Those of before are forgotten. One that has ended already is no error.
 * Return: 0; -E2BIG, -EINVAL (no process can have such an id): nothing has changed; other -errno: the
 * lease is_blind until this succeeds.
 */
int hf_held_set_pids(struct hf_held *h, const pid_t *pids, unsigned int n,
		     struct hf_err *err) HF_MUST_CHECK;

/* How many of them live. */
unsigned int hf_held_alive(const struct hf_held *h);

/* Sends a signal to the holder alone, or to all. By pidfd: never to another process of that id. */
void hf_held_signal(const struct hf_held *h, int signal, bool is_to_all);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A keeper for tests of the disk path: it makes the shared memory, starts nbdkit with the plugin, and does
 * with epochs what it is told, with no VM and no network. One thread; nothing waits for nbdkit.
 *
 * Two sides, a and b, each with a memory and a disk process of its own. a is an owner; b, when there is
 * one, its standby: what a logs is copied from a's OUT into b's IN, as the link would do it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/diskctl.h"
#include "disk/diskshm.h"
#include "sys/process.h"

#define ARGS_MAX 96
#define ENV_MAX 16
#define WAITS_MAX 8

struct wait {
	const char *name;
	bool is_equal; /* else: at least */
	uint64_t value;
};

/* Commits by itself: driver-auto.c. */
struct autocommit {
	uint64_t interval_ns; /* 0: off */
	uint64_t next_ns;
	struct nbd_handle *nbd; /* NULL: not connected */
	int64_t cookie; /* of the flush under way, 0: none */
	bool is_on; /* also while the last epoch is to end */
	uint64_t epochs;
};

struct side {
	char name; /* 'a' or 'b' */
	struct hf_diskshm shm;
	struct hf_process process;
	int listen_fd;
	char socket_path[104];
	int control_fd;
	char *args[ARGS_MAX + 1];
	size_t n_args;
	char *env[ENV_MAX + 1];
	size_t n_env;
	uint32_t last_number;
	uint64_t epoch; /* the last one that was captured */
	uint64_t shipped; /* position in OUT up to which the other side has it */
	uint64_t sync_shipped; /* position in SYNC */
	bool is_pumping; /* pieces of a first copy go over by themselves */
	struct wait waits[WAITS_MAX];
	size_t n_waits;
	struct autocommit autocommit;
};

uint64_t driver_now_ns(void);
/* A line of JSON: {"event": @event, "side": "a", @format...}. */
void driver_event(const struct side *s, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A text as it may stand inside of JSON's quotes. Static memory. */
const char *driver_quote(const char *text);
/* Says what is wrong and ends the program: a test that gives wrong orders is of no use. */
__attribute__((noreturn, format(printf, 1, 2))) void driver_die(const char *format, ...);

/* ---- driver-side.c ---- */

void side_init(struct side *s, char name, const char *folder);
void side_fini(struct side *s);
/* New memory; what was in the old one is gone. */
void side_make(struct side *s, uint32_t n_disks, uint64_t soft_bytes, uint64_t reserve_bytes);
void side_start(struct side *s);
void side_on_control(struct side *s);
void side_on_process(struct side *s);
void side_order(struct side *s, struct hf_diskctl_msg *msg);

/* Words by name. False: there is none of that name. */
bool side_get(const struct side *s, const char *name, uint64_t *ret);
bool side_put(struct side *s, const char *name, uint64_t value);
void side_print_words(const struct side *s);
void side_wait(struct side *s, const char *name, bool is_equal, uint64_t value);
void side_check_waits(struct side *s);

/* The boundary of an epoch, while the guest stands still. */
void side_capture(struct side *s);
/* What @from logged up to its last captured epoch, into @to: as whole epochs. */
void side_ship(struct side *from, struct side *to);
void side_pump(struct side *from, struct side *to);
void side_reclaim(struct side *s);
/* An owner that has begun a copy and its standby: each hears what is settled on the other side. */
void side_meet(struct side *a, struct side *b);

/* ---- driver-auto.c ---- */

/* Every @ms an epoch, committed at once; 0: no more. @peer: gets the records; NULL: nobody does. */
void auto_set(struct side *s, uint64_t ms);
int auto_fd(const struct side *s, short *ret_events); /* -1: none */
void auto_step(struct side *s, struct side *peer, short revents);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One keeper's process, as the daemon sees it: by its pidfd and over its control socket. Layer:
 * daemon. Main thread only; nothing waits for it, however it hangs.
 *
 * It is followed by one connection for its events, which lasts; for what is asked or ordered there is
 * a second one, made when it is needed and closed when all is answered.
 */
#pragma once

#include <json-c/json_object.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/supervise.h"
#include "service/loop.h"
#include "service/varlink-client.h"

#define HF_VMLINK_ID 16
#define HF_VMLINK_SILENCE_NS 1000000000ull /* unanswered for so long is worth a word */
#define HF_VMLINK_KILL_NS 5000000000ull /* an order to stop with force that is not taken */

struct hf_vmlink;

struct hf_vmlink_ops {
	/* What it says of itself: the object of Status. */
	void (*status)(void *ctx, struct hf_vmlink *l, const struct json_object *status);
	void (*event)(void *ctx, struct hf_vmlink *l, struct json_object *event);
	void (*refused)(void *ctx, struct hf_vmlink *l, const char *reason); /* to stop */
	/* The process is gone; l->end says how. To be freed by this. */
	void (*ended)(void *ctx, struct hf_vmlink *l);
};

struct hf_vmlink {
	struct hf_vmlink *next; /* the owner's */
	struct hf_loop *loop;
	const struct hf_vmlink_ops *ops;
	void *ctx;
	char path[PATH_MAX + 96]; /* of its control socket */
	char id[HF_VMLINK_ID + 1]; /* of the frozen instance that it guards; "" */
	pid_t pid;
	int pidfd;
	struct hf_watch pid_watch;
	struct hf_timer retry_timer, kill_timer;
	unsigned int retries;
	int why_fd; /* -1 */
	bool is_dead;
	bool has_served;
	bool has_said_end; /* by its event "ended", or what came before there was that */
	struct hf_supervise_end end;
	struct hf_varlink_client *events, *calls;
	uint64_t seq; /* of the last event that was seen */
	uint64_t asked_ns; /* since then Status is unanswered; 0: it is not */
	uint64_t answered_ns; /* the last one */
	bool is_asking_again;
	bool is_stop_open; /* ordered and not answered */
	bool is_stop_sent;
	unsigned int n_calls; /* open on `calls` */
	bool is_forced;
};

/**
 * hf_vmlink_new() - follow the process @pid
 * @why_fd: of hf_spawn_keeper(), taken over; -1
 * Return: 0; -ESRCH: there is no such process; -errno.
 */
int hf_vmlink_new(struct hf_loop *loop, const struct hf_vmlink_ops *ops, void *ctx,
		  const char *run_dir, const char *name, pid_t pid, int why_fd,
		  struct hf_vmlink **ret) HF_MUST_CHECK;
/* The process stays. Takes NULL. */
void hf_vmlink_free(struct hf_vmlink *l);

/* Its control socket may be there now. */
void hf_vmlink_try(struct hf_vmlink *l);

/* Ask for its status; while that is unanswered nothing more is asked. */
void hf_vmlink_refresh(struct hf_vmlink *l);

/* Order it to stop, as soon as it can be told; with force a keeper that does not take the order is
 * killed, and QEMU with it. */
void hf_vmlink_stop(struct hf_vmlink *l, bool is_forced);

/* The other host was fenced at @time_ns of CLOCK_REALTIME: the keeper judges what follows, and tells it in its log. */
void hf_vmlink_peer_fenced(struct hf_vmlink *l, const char *host, uint64_t time_ns,
			   const char *text);

/* It guards a frozen instance from now on: its folder has another name. */
void hf_vmlink_rename(struct hf_vmlink *l, const char *run_dir, const char *name, const char *id);

/* Since when it does not answer, on hf_now_ns()'s clock; 0: it does, as far as is known. */
uint64_t hf_vmlink_silent_ns(const struct hf_vmlink *l);

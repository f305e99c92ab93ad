/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keeper's side of its VM's disks: the disk process (nbdkit with our plugin), the memory shared
 * with it, and the words between the two. Layer: keeper. Main thread only. Nothing here waits for the
 * disk process once it has started: it may hang with the storage, and the keeper must not.
 *
 * A disk process that dies is started again on the same memory, and QEMU connects to it anew, for the
 * listening socket is the keeper's. One that does not answer for peer-timeout is killed first.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/outbox.h"
#include "core/disk.h"
#include "disk/diskctl.h"
#include "disk/diskshm.h"
#include "service/loop.h"
#include "sys/process.h"

struct hf_keeper;

/* Beyond the log's limit: for what QEMU has under way when it is stopped. */
#define HF_DISKS_RESERVE_BYTES ((uint64_t)512 << 20)
/* Requests that the disk process works on at once; QEMU has 16 on a connection. */
#define HF_DISKS_THREADS 16

/* Each is called from the loop, never from within a call of hf_disks_*(). Each may be NULL. */
struct hf_disks_ops {
	/* Words of the shared memory have changed. */
	void (*on_notice)(void *ctx);
	/* An order that was given a number is carried out; @error: 0 or -errno. */
	void (*on_done)(void *ctx, uint32_t number, int error, const char *text);
	/* A disk fails (@is_well: goes again). What was logged is kept. */
	void (*on_fault)(void *ctx, bool is_well, const char *text);
	/* The disk process could not be had back: no storage for this VM any more. */
	void (*on_lost)(void *ctx, const char *why);
	/* A new disk process is at work: orders that were not answered are lost. */
	void (*on_restarted)(void *ctx);
	/* After hf_disks_cut(): the path is proven dead. */
	void (*on_cut)(void *ctx);
};

struct hf_disks {
	struct hf_keeper *k;
	const struct hf_disks_ops *ops;
	void *ctx;
	struct hf_diskshm shm;
	size_t n;
	const char *id[HF_WIRE_DISKS_MAX]; /* QEMU's */
	const char *format[HF_WIRE_DISKS_MAX];
	uint64_t want_bytes[HF_WIRE_DISKS_MAX]; /* to be exported; 0: the image's own size */
	uint64_t size_bytes[HF_WIRE_DISKS_MAX]; /* as exported */
	char text[HF_WIRE_DISKS_MAX][160]; /* as in HELLO */

	/* What the disk process found when it was first started, kept up to date by our orders. */
	enum hf_disk_condition condition;
	struct hf_id session;
	struct hf_id map_session;
	uint64_t recovered_epochs; /* an owner's journal had so many to be redone */

	struct hf_process process;
	struct hf_watch process_watch;
	int inherit_fd;
	int listen_fd;
	char socket_path[108];
	int control_fd;
	struct hf_watch control_watch;
	struct hf_watch notice_watch;
	struct hf_timer ping_timer;
	struct hf_timer cut_timer; /* if it does not die */
	uint32_t last_number;
	uint32_t state_order; /* SET_STATE that was not answered; 0: none */
	uint32_t ping_number; /* 0: none is waited for */
	uint64_t ping_ns;
	uint64_t started_ns;
	unsigned int starts_in_a_row;
	bool is_shared;
	bool is_map_trusted;
	bool is_pass_wanted; /* once the disk process holds */
	bool is_copying; /* a first copy, all of it or (is_delta) what the map says */
	bool is_delta;
	bool has_hung; /* killed for it */
	bool is_cut; /* ordered: not to be started again */
	bool has_fault;
	char fault_text[HF_DISKCTL_TEXT_MAX + 1];

	/* The owner: what of OUT is on its way. Positions in the pool. */
	uint64_t out_sent; /* sent, or there is nothing to send of it */
	uint64_t marked; /* last epoch whose boundary was drawn */
	uint64_t out_kept; /* committed: what a lost epoch begins again from */
	/* The owner: the first copy. */
	uint64_t sync_sent; /* position in SYNC */
	uint64_t sync_mark; /* asked to be confirmed; 0: none is waited for */
	uint64_t sync_marked; /* last one asked for */
	uint64_t sync_confirmed; /* last one that was */
	uint64_t sync_bulk[HF_DISKSHM_SYNC_CHUNKS]; /* the link's count by which each has gone */
	uint64_t sync_bytes; /* sent in this copy */
	uint64_t sync_started_ns; /* 0: there has been none */
	uint64_t sync_ended_ns;
	uint64_t told_settled; /* last SETTLED sent */
};

/**
 * hf_disks_start() - make memory and socket, start the disk process, hear what it found
 * @inherit_fd: kept open by the disk process as long as it lives; -1: none
 * BLOCKS until it is ready: an owner redoes its journal first.
 * Return: 0, also when there are no disks (k->disks stays NULL); -errno with @err.
 */
int hf_disks_start(struct hf_keeper *k, int inherit_fd, struct hf_err *err) HF_MUST_CHECK;

/* Ends the disk process: in order if it was not cut, which BLOCKS up to a bound. Takes NULL. */
void hf_disks_free(struct hf_disks *d);

void hf_disks_set_ops(struct hf_disks *d, const struct hf_disks_ops *ops, void *ctx);

/* "ID LAYOUT FORMAT BYTES" for HELLO. */
const char *hf_disks_text(const struct hf_disks *d, size_t i);

/* Have this recorded; on_done() says when it is. Return: the order's number. */
uint32_t hf_disks_set_state(struct hf_disks *d, enum hf_disk_condition condition,
			    struct hf_id session);

/* SIGKILL, and never again: on_cut() comes when it is dead, or can write nothing any more. */
void hf_disks_cut(struct hf_disks *d);

/* {"layout", "durability", ...} for status. */
struct json_object *hf_disks_status(const struct hf_disks *d);

/* ---- owner: disks-out.c ---- */

/* From now on writes are logged, as part of @epoch. */
void hf_disks_hold(struct hf_disks *d, uint64_t epoch);
/* Log to image, then directly: on_notice() tells when hf_disks_is_direct(). */
void hf_disks_pass(struct hf_disks *d);
/* To be called when words have changed. */
void hf_disks_follow(struct hf_disks *d);
bool hf_disks_is_direct(const struct hf_disks *d);
/* QEMU is being stopped (or was not, after all): writers must not wait for room. */
void hf_disks_draining(struct hf_disks *d, bool is_draining);
/* QEMU stands still: what comes from now on belongs to the epoch after @epoch. Tells the gate about its
 * flushes; @resume_us, @stop_us: CLOCK_REALTIME of QEMU's events, 0: unknown. */
void hf_disks_mark(struct hf_disks *d, uint64_t epoch, uint64_t resume_us, uint64_t stop_us,
		   struct hf_gate *gate);
/* @epoch is complete in the log. */
void hf_disks_captured(struct hf_disks *d, uint64_t epoch);
/* Puts the records up to @epoch on the link. 0 or -errno. */
int hf_disks_send(struct hf_disks *d, uint64_t epoch, struct hf_outbox *outbox,
		  struct hf_link *link) HF_MUST_CHECK;
void hf_disks_committed(struct hf_disks *d, uint64_t epoch);
void hf_disks_dropped(struct hf_disks *d);
void hf_disks_permit(struct hf_disks *d, uint64_t until_ns);
/* By the VM's lease: no image write begins after it. UINT64_MAX: there is no such end. */
void hf_disks_lease(struct hf_disks *d, uint64_t until_ns);
/* Should an epoch end early for the log's sake? */
bool hf_disks_wants_epoch(const struct hf_disks *d);
/* Should epochs wait for the images to catch up? on_notice() comes when they have. */
bool hf_disks_is_behind(const struct hf_disks *d);
/* Words for the gate: tells what is durable, and asks the journal for what outputs wait for. */
void hf_disks_feed_gate(struct hf_disks *d, struct hf_gate *gate);

/* The first copy. Its pieces go out as the link takes them. */
void hf_disks_copy_begin(struct hf_disks *d, bool is_delta, struct hf_id session);
void hf_disks_copy_end(struct hf_disks *d);
/* With a new disk process: what was not confirmed is sent again. */
void hf_disks_copy_again(struct hf_disks *d);
/* @max_pieces: at most so many more are put on the link. */
int hf_disks_copy_pump(struct hf_disks *d, struct hf_link *link,
		       unsigned int max_pieces) HF_MUST_CHECK;
void hf_disks_copy_confirmed(struct hf_disks *d, uint64_t mark);
/* The link is gone, and all that it had borrowed is ours again. */
void hf_disks_copy_link_lost(struct hf_disks *d);
/* Nothing is left to be sent, nothing under way. */
bool hf_disks_is_copied(const struct hf_disks *d);
uint64_t hf_disks_copy_left_bytes(const struct hf_disks *d);

/* ---- standby: disks-in.c ---- */

struct hf_inbox_disks;
/* What the inbox is to do with disk records. */
void hf_disks_inbox(struct hf_disks *d, struct hf_inbox_disks *ret);
/* @epoch is whole: to be written to the images. */
void hf_disks_whole(struct hf_disks *d, uint64_t epoch);
/* Is there room for another epoch? Else acknowledgements are to wait for on_notice(). */
bool hf_disks_has_room(const struct hf_disks *d);
/* Frees what is done with. */
void hf_disks_reclaim(struct hf_disks *d);
/* Standby: before the first record of a session; the disk process has nothing of an earlier one to do. */
void hf_disks_begin_session(struct hf_disks *d);
/* The other host's images are durable up to @epoch. */
void hf_disks_peer_settled(struct hf_disks *d, uint64_t epoch);
/* What was put in so far is to be durable: on_done(). Return: the order's number. */
uint32_t hf_disks_flush_copy(struct hf_disks *d);
/* This host's VM goes live: redo, then directly. */
void hf_disks_promote(struct hf_disks *d);

/* ---- between disks*.c ---- */

/* disks-check.c: are the images what the command line says, and fit to be replicated? 0 or -errno. */
int hf_disks_check_images(struct hf_disks *d, struct hf_err *err) HF_MUST_CHECK;
/* Once it is known what they are: may this role use them? */
int hf_disks_check_condition(const struct hf_disks *d, struct hf_err *err) HF_MUST_CHECK;

/* Sends a control message; a full socket means that the disk process hangs, which is found out. */
void hf_disks_say(struct hf_disks *d, struct hf_diskctl_msg *msg);

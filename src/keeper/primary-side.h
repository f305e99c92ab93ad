/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside of the primary's driver, shared by primary.c (decisions), primary-peer.c (the peer), primary-disks.c, epoch.c (one
 * checkpoint after the other), sync.c (the first copy) and primary-orders.c (people). Layer: keeper; no one else includes it.
 */
#pragma once

#include "base/bitmap.h"
#include "base/histogram.h"
#include "cluster/inbox.h"
#include "cluster/outbox.h"
#include "core/disk.h"
#include "core/pace.h"
#include "keeper/arbiter.h"
#include "keeper/primary.h"
#include "sys/pool.h"
#include "vm/checkpoint.h"
#include "vm/pages.h"
#include "vm/tracker.h"

#define HF_PRIMARY_QUEUE 16
/* The first copy's pages ahead of the link: enough to keep it busy, few enough to stay young. */
#define HF_SYNC_AHEAD_BYTES (8 * HF_PAGES_SLOT_BYTES)

/* The epoch being captured or in flight. */
struct hf_epoch_work {
	uint64_t epoch;
	bool may_resume;
	bool is_first; /* of its session */
	bool is_guest_running;
	bool is_broken; /* the link went while a part of it was being sent from the standing VM */
	bool has_begun; /* EPOCH_BEGIN is on the link */
	bool has_overflowed; /* is it, or was it */
	bool is_overflowing; /* the VM stands still until there is room for more pages */
	bool is_begin_due; /* as soon as the link has taken what is left of the first copy */
	bool is_awaiting_copy; /* the first copy of the disks has to be sent before its end */
	size_t sent_pages; /* messages of the pages' buffer that are on the link */
	uint64_t early_pages; /* copied before the stop */
	uint64_t data_pages;
	uint64_t zero_pages;
	uint64_t cursor;
	uint64_t begun_ns;
	uint64_t standstill_ns;
};

enum hf_sync_step {
	HF_SYNC_OFF,
	HF_SYNC_DRAINING, /* what was held is being written to the disks first */
	HF_SYNC_DISKS, /* the disks, before RAM: they take longer, and change more slowly */
	HF_SYNC_STOPPING, /* the VM is stopped for the time of one scan */
	HF_SYNC_COPYING,
};

struct hf_sync {
	enum hf_sync_step step;
	unsigned int round;
	bool was_running;
	uint64_t scanned_pages;
	uint64_t cursor;
	uint64_t left_pages; /* of this round */
	uint64_t last_pages; /* of the round before */
	uint64_t total_bytes; /* to be looked at in the first round */
	uint64_t done_bytes;
	uint64_t started_ns;
	uint64_t started_bytes; /* the link's counter */
	struct hf_id session;
	uint8_t disks; /* enum hf_wire_sync_disks */
	bool is_disks_turn; /* RAM and what is left of the disks share the link */
};

#define HF_HANDOVER_WAITERS_MAX 8

struct hf_handover_waiter {
	struct hf_varlink_request *rq; /* NULL: none */
};

struct hf_primary_side {
	struct hf_keeper *k;
	struct hf_primary machine;
	struct hf_primary_event queue[HF_PRIMARY_QUEUE];
	unsigned int n_queued;
	bool is_stepping;

	struct hf_arbiter arbiter;
	bool has_lapsed; /* the VM's lease; it is being claimed anew */
	bool is_fenced; /* the VM stands still for it */
	bool was_running_before_fence;
	bool is_pledged; /* as the daemon was told */
	bool is_peer_proven_dead; /* nothing to wait for before the arbiter is asked */
	bool is_lease_lost; /* to a host that was not our standby */
	struct hf_timer fence_timer;
	struct hf_link *link; /* NULL: none */
	struct hf_watch link_watch;
	bool is_dispatching; /* the link must not be freed now */
	bool is_link_doomed; /* to be dropped after the dispatch */
	bool is_refused; /* the machine does not want this peer now */
	struct hf_id
		abandoned; /* a session that this side has left; its standby is to discard it */
	uint64_t established_ns; /* the last connection to a standby was; 0: none ever */
	uint64_t heard_ns;
	uint64_t said_ns;
	struct hf_timer beat_timer;
	struct hf_timer dial_timer;
	uint64_t redial_ns; /* how long to wait before the next try */
	char last_miss[128]; /* so that each reason is logged once */

	struct hf_pace pace;
	struct hf_timer pace_timer;

	struct hf_tracker *tracker;
	struct hf_pool *pool;
	struct hf_pages *pages; /* an epoch's */
	struct hf_pages *sync_pages; /* the first copy's: a few messages */
	struct hf_bitmap todo; /* pages that the standby lacks and that are not in flight */
	struct hf_bitmap flight; /* pages of the epoch that is captured and not committed */
	struct hf_checkpoint checkpoint;
	struct hf_watch stream_watch;
	struct hf_outbox outbox;
	struct hf_epoch_work work;
	struct hf_sync sync;
	struct hf_gate gate; /* holds outputs back that rely on what is not durable yet */
	bool is_passing; /* the taps are told to hold nothing */
	uint64_t let_out; /* last epoch whose outputs the taps were told to let out */
	struct hf_inbox *resend; /* frames to be sent again as soon as outputs pass; NULL: none */
	struct hf_id peer_disk_session; /* of the standby that is connected */
	uint8_t peer_disk_condition;
	bool was_running_before_fault; /* is_stop_wanted: but for it the guest would run */
	bool is_stop_wanted; /* a disk fails: the VM is to stop once the checkpoint is through */
	bool is_pause_wanted; /* by an order */
	bool is_held; /* nothing is begun with the guest for now: it is being saved or dumped */
	bool is_freezing; /* nothing is begun with the guest any more */
	bool is_end_due; /* once the freeze is through with disks and lease */
	bool is_finishing; /* only the disks' log has to be written out */
	enum hf_keeper_exit finish_code;
	uint64_t released; /* last epoch whose outputs have left */
	uint64_t committed_ns;

	struct hf_histogram pause;
	struct hf_histogram commit;
	uint64_t resume_us; /* QEMU's time of the first RESUME in this epoch, 0: none */
	uint64_t stop_us; /* QEMU's own time of its last STOP, 0: none */
	uint64_t dirty_pages;
	uint64_t early_commits;
	bool has_stopped_orderly; /* an operator's stop is under way */
	bool has_vm_died;
	bool is_told_protected;
	bool was_handed_over;
	struct hf_handover_waiter handover_waiters[HF_HANDOVER_WAITERS_MAX];
	char death_text[96];
	enum hf_wire_death death;
	char *why_unprotectable; /* NULL: it is not */
};

/* primary.c: let the machine decide about an event; may be called from within its actions. */
void hf_primary_feed(struct hf_primary_side *s, enum hf_primary_event_kind kind, uint64_t epoch);

void hf_primary_feed_event(struct hf_primary_side *s, const struct hf_primary_event *ev);
void hf_primary_feed_session(struct hf_primary_side *s, enum hf_primary_event_kind kind,
			     struct hf_id session);

/* primary-peer.c: answer those who come; look for a standby, now and whenever there is none. */
void hf_primary_answer_peers(struct hf_primary_side *s);
void hf_primary_look_for_standby(struct hf_primary_side *s);
/* struct hf_role_ops' calls about the other host's death. */
bool hf_primary_see_peer(void *role, struct hf_fenced_sight *ret);
void hf_primary_peer_dead(void *role, const char *why);
/* The connection is of no use any more. Feeds LINK_DOWN. */
void hf_primary_drop_link(struct hf_primary_side *s, const char *why);

/* Says it to the standby, if there is a connection. */
void hf_primary_say(struct hf_primary_side *s, const struct hf_wire_msg *msg);
void hf_primary_send_mark(struct hf_primary_side *s, enum hf_wire_type type, uint64_t epoch,
			  struct hf_id session);
void hf_primary_send_reason(struct hf_primary_side *s, enum hf_wire_type type, uint32_t code,
			    const char *text);

const char *hf_primary_state_text(enum hf_primary_state state);

/* primary-orders.c: struct hf_role_ops' calls for people. */
int hf_primary_order_promote(void *role, bool is_forced, struct hf_err *err) HF_MUST_CHECK;
int hf_primary_order_stop(void *role, bool is_forced, struct hf_err *err) HF_MUST_CHECK;
int hf_primary_order_resume(void *role, struct hf_err *err) HF_MUST_CHECK;
int hf_primary_order_pause(void *role, struct hf_err *err) HF_MUST_CHECK;
void hf_primary_order_signal(void *role, int signal);
void hf_primary_add_status(void *role, struct json_object *status);

/* primary-handover.c: an order to hand over, answered when that is through; after each step: is it? */
void hf_primary_order_handover(void *role, struct hf_varlink_request *rq);
void hf_primary_follow_handover(struct hf_primary_side *s, enum hf_primary_state before);

/* primary-disks.c */
void hf_primary_watch_disks(struct hf_primary_side *s);
/* Lets out what may leave, as far as the gate and the disks see it. */
void hf_primary_let_out(struct hf_primary_side *s);
void hf_primary_hold(struct hf_primary_side *s, uint64_t epoch);
void hf_primary_pass(struct hf_primary_side *s);
void hf_primary_finish(struct hf_primary_side *s, enum hf_keeper_exit code);
void hf_primary_tell_settled(struct hf_primary_side *s);
void hf_primary_stop_for_fault(struct hf_primary_side *s);
/* QEMU's BLOCK_IO_ERROR: an error of a write or read that went past the log. */
void hf_primary_on_io_error(struct hf_primary_side *s, struct json_object *data);
/* What the first copy of the disks for the standby that is connected is to be: enum hf_wire_sync_disks. */
uint8_t hf_primary_copy_kind(const struct hf_primary_side *s);

/* primary-lease.c */
void hf_primary_start_lease(struct hf_primary_side *s);
void hf_primary_follow_lease(struct hf_primary_side *s);
void hf_primary_ask_arbiter(struct hf_primary_side *s, uint64_t lver);
/* Also if it only stands still for a checkpoint, or for a scan of the first copy. */
bool hf_primary_is_guest_meant_to_run(const struct hf_primary_side *s);
/* `cont`, as soon as the lease allows it. */
void hf_primary_run_on(struct hf_primary_side *s);
void hf_primary_send_lease(struct hf_primary_side *s, uint64_t lver);
/* Ends the program with finish_code, after the lease was given back if it may be anybody's. */
void hf_primary_end(struct hf_primary_side *s);

/* epoch.c */
int hf_epoch_init(struct hf_primary_side *s, struct hf_err *err) HF_MUST_CHECK;
void hf_epoch_capture(struct hf_primary_side *s, uint64_t epoch, bool may_resume);
void hf_epoch_send(struct hf_primary_side *s);
void hf_epoch_drop(struct hf_primary_side *s);
void hf_epoch_committed(struct hf_primary_side *s, uint64_t epoch);
void hf_epoch_link_moved(struct hf_primary_side *s);
void hf_epoch_qmp_event(struct hf_primary_side *s, const char *name, struct json_object *data,
			uint64_t timestamp_us);
void hf_epoch_reschedule(struct hf_primary_side *s);

/* sync.c */
void hf_sync_begin(struct hf_primary_side *s, struct hf_id session);
void hf_sync_stop(struct hf_primary_side *s);
void hf_sync_link_moved(struct hf_primary_side *s);
void hf_sync_disks_moved(struct hf_primary_side *s);
void hf_epoch_copy_moved(struct hf_primary_side *s);
void hf_sync_add_status(const struct hf_primary_side *s, struct json_object *status);

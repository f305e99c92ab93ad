/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside of the standby's driver, shared by standby.c (decisions and the peer), standby-proof.c (is
 * the primary dead?), standby-live.c (promotion) and standby-orders.c (people). Layer: keeper; no one
 * else includes it.
 */
#pragma once

#include "cluster/inbox.h"
#include "keeper/arbiter.h"
#include "keeper/standby.h"

#define HF_STANDBY_QUEUE 16

struct hf_standby_side {
	struct hf_keeper *k;
	struct hf_standby machine;
	struct hf_standby_event queue[HF_STANDBY_QUEUE];
	unsigned int n_queued;
	bool is_stepping;

	struct hf_arbiter arbiter;
	struct hf_inbox *inbox;
	struct hf_link *link; /* NULL: none */
	struct hf_watch link_watch;
	bool is_dispatching;
	bool is_link_doomed;
	bool is_refused;
	bool is_silent;
	uint64_t established_ns; /* the last connection from a primary was; 0: none ever */
	uint64_t heard_ns;
	uint64_t word_ns; /* as heard_ns, but not while nobody listens */
	uint64_t said_ns;
	struct hf_timer beat_timer;
	struct hf_timer inquiry_timer;
	uint64_t inquiry_wait_ns;

	struct hf_id primary; /* instance of the keeper that our session is with */
	bool is_address_verified; /* its address leads to it: a closed port there is proof */
	bool has_told_unverified;

	int load_fd; /* the device state goes in here */
	struct hf_watch load_watch;
	size_t loaded_bytes;
	uint64_t proof_ns; /* when the promotion was decided */
	uint64_t whole_ns; /* when the last epoch was */
	bool is_reset_wanted; /* the guest itself had failed: what it was is no use */
	bool must_win; /* QEMU is not given the end of the state before the vote is won */
	bool is_order_refused;
	bool has_been_signalled; /* once, while it may hold the only copy */
	struct hf_timer live_timer;

	/* Disks. */
	uint64_t ack_epoch; /* whole, but its acknowledgement waits for the disks; 0: none */
	uint32_t ack_order; /* what it waits for, 0: only for room */
	bool is_copy_durable; /* the first copy is, and recorded as whole */
	uint32_t begin_order; /* the link waits until the images are recorded as partial */
	uint32_t mark_order; /* SYNC_DONE waits for it */
	uint64_t mark;
	bool is_paused; /* nothing is read from the link for now */
	uint64_t told_settled;
};

/* standby.c: let the machine decide about an event; may be called from within its actions. */
void hf_standby_feed(struct hf_standby_side *s, enum hf_standby_event_kind kind, uint64_t epoch);
void hf_standby_feed_verdict(struct hf_standby_side *s, enum hf_standby_event_kind kind,
			     uint64_t lver, uint64_t won);
const char *hf_standby_state_text(enum hf_standby_state state);

/* standby-proof.c. look: begin to look for a proof, every while until there is one. ask: for a
 * verdict, with a lease. met: is the primary's address known to lead to it? missed, learnt: what
 * came of an inquiry. see_peer, peer_dead: struct hf_role_ops' calls. */
void hf_standby_proof_look(struct hf_standby_side *s);
void hf_standby_proof_ask(struct hf_standby_side *s, uint64_t lver);
void hf_standby_proof_met(struct hf_standby_side *s, struct hf_id instance);
bool hf_standby_see_peer(void *role, struct hf_fenced_sight *ret);
void hf_standby_peer_dead(void *role, const char *why);
void hf_standby_proof_missed(void *ctx, enum hf_meeting_miss why, const char *text);
void hf_standby_proof_learnt(void *ctx, const struct hf_wire_hello *theirs);

/* standby-disks.c */
void hf_standby_watch_disks(struct hf_standby_side *s);
void hf_standby_begin_copy(struct hf_standby_side *s, struct hf_id session);
void hf_standby_ack(struct hf_standby_side *s, uint64_t epoch);
void hf_standby_on_mark(struct hf_standby_side *s, uint64_t mark);
void hf_standby_forget_waits(struct hf_standby_side *s);

/* standby.c: for the above. */
void hf_standby_send(struct hf_standby_side *s, enum hf_wire_type type, uint64_t epoch,
		     struct hf_id session);
void hf_standby_say(struct hf_standby_side *s, const struct hf_wire_msg *msg);
void hf_standby_read_on(struct hf_standby_side *s);
void hf_standby_drop_link(struct hf_standby_side *s, const char *why);

/* standby-live.c: feed QEMU the state; with its RESUME the keeper becomes the primary, and @s is
 * freed. */
void hf_standby_go_live(struct hf_standby_side *s, bool must_wait, bool must_win);
/* What is being loaded may run: the vote was won. */
void hf_standby_may_run(struct hf_standby_side *s);
/* It may not, ever. Ends the program. */
void hf_standby_denied(struct hf_standby_side *s);
void hf_standby_live_event(struct hf_standby_side *s, const char *name, struct json_object *data);
void hf_standby_load_failed(struct hf_standby_side *s, const char *why);

/* standby-orders.c: struct hf_role_ops' calls for people. */
int hf_standby_order_promote(void *role, bool is_forced, struct hf_err *err) HF_MUST_CHECK;
int hf_standby_order_stop(void *role, bool is_forced, struct hf_err *err) HF_MUST_CHECK;
int hf_standby_order_resume(void *role, struct hf_err *err) HF_MUST_CHECK;
void hf_standby_order_signal(void *role, int signal);
void hf_standby_add_status(void *role, struct json_object *status);

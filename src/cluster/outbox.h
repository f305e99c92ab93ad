/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The primary's side of a session: lays an epoch out on the link. Layer: cluster. Main thread. The
 * counterpart of cluster/inbox.h.
 *
 *   begin, pages..., disk..., state, frames..., end
 *
 * The device state travels as a patch of the last committed epoch's, which both sides hold.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cluster/link.h"
#include "codec/wire-bulk.h"

#define HF_OUTBOX_BUFFERS_MAX 256

/* All zero is a valid empty one. */
struct hf_outbox {
	uint8_t *base; /* device state of the last committed epoch */
	size_t base_len;
	size_t base_cap;
	uint8_t *patch;
	size_t patch_cap;
	uint8_t *buffers[HF_OUTBOX_BUFFERS_MAX]; /* of HF_WIRE_MESSAGE_MAX, for STATE and FRAMES */
	unsigned int n_buffers;
	unsigned int n_used;
	struct hf_wire_epoch_end end;
	struct hf_wire_frames_builder frames;
	bool is_frames_open;
};

void hf_outbox_fini(struct hf_outbox *o);

/* A new session: nothing is committed yet. */
void hf_outbox_reset(struct hf_outbox *o);

/*
 * All of these queue on @link without blocking and return 0, -ENOMEM, or what hf_link_send() and
 * hf_link_send_bulk() return; after an error the link is of no use any more. What was queued must
 * have left (or the link been freed) before the next begin.
 */
int hf_outbox_begin(struct hf_outbox *o, struct hf_link *link,
		    const struct hf_wire_epoch_begin *begin) HF_MUST_CHECK;
/* @message stays the caller's, untouched until it has left. */
int hf_outbox_pages(struct hf_outbox *o, struct hf_link *link, uint8_t *message,
		    size_t len) HF_MUST_CHECK;
/* A DISK message of the epoch, as hf_wire_disk_finish() made it; DISK_SYNC belongs to no epoch and
 * goes past the outbox. @message: as above; it may lie in memory that another process writes to. */
int hf_outbox_disk(struct hf_outbox *o, struct hf_link *link, uint8_t *message, size_t len,
		   uint32_t n_records) HF_MUST_CHECK;
int hf_outbox_state(struct hf_outbox *o, struct hf_link *link, const uint8_t *state,
		    size_t len) HF_MUST_CHECK;
/* Frames of one netdev in a row, netdevs in any order. */
int hf_outbox_frame(struct hf_outbox *o, struct hf_link *link, uint8_t netdev, const uint8_t *frame,
		    size_t len) HF_MUST_CHECK;
/* Its counts of messages, frames and disk records are the outbox's own. */
int hf_outbox_end(struct hf_outbox *o, struct hf_link *link, uint64_t data_pages,
		  uint64_t zero_pages, uint64_t released) HF_MUST_CHECK;

/* The epoch whose device state is @state was acknowledged: the next patch is against it. */
int hf_outbox_committed(struct hf_outbox *o, const uint8_t *state, size_t len) HF_MUST_CHECK;

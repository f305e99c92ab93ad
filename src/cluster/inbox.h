/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby's side of a session: puts the epochs together that arrive, verifies them, and applies
 * them to RAM. Layer: cluster. One thread. Nothing waits for anything; hf_inbox_take() and
 * hf_inbox_apply() copy what they are given. Commit rules: docs/replication.md; messages:
 * docs/wire-format.md.
 *
 * Of a session come first PAGES outside of any epoch: the first copy, made while the VM runs on,
 * and written to RAM at once. From its first EPOCH_BEGIN on, RAM changes only in hf_inbox_apply():
 * it is always that of a whole epoch, to which the committed device state and frames belong.
 *
 * Disk records are checked and counted here and handed on to who keeps them (struct hf_inbox_disks).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/wire.h"
#include "sys/memfd.h"

#define HF_INBOX_FRAMES_MAX_BYTES ((uint64_t)64 * 1024 * 1024)

struct hf_inbox;

/* Where disk records go. They are not kept here: who takes them also forgets those of an epoch that
 * does not become whole, and may let go of no write before hf_inbox_take() has said HF_INBOX_WHOLE. */
struct hf_inbox_disks {
	size_t n_disks; /* 0: DISK and DISK_SYNC are refused, and the rest is not looked at */
	const uint64_t *disk_bytes; /* borrowed; records beyond a disk's end are refused */
	bool is_shared; /* both hosts use the same images: DISK_SYNC is refused */
	uint64_t epoch_max_bytes; /* of one epoch's DISK payloads; 0: only take() knows a limit */
	/*
	 * Checked records of one message, to be copied. @epoch: that they belong to; 0 with @is_sync,
	 * pieces of a first copy, which belong to none. Must not call the inbox.
	 * Return: 0; -ENOBUFS: there is no room for them, which counts as a limit of the inbox; other
	 * -errno: handed through by hf_inbox_take().
	 */
	int (*take)(void *ctx, uint64_t epoch, bool is_sync, const uint8_t *records, size_t len,
		    uint32_t n_records);
	/* @epoch has begun and is forgotten now, whole or not, and whether it had records or not.
	 * Pieces of a first copy may stay or go: only SYNC_DONE promises anything. NULL: not told. */
	void (*drop_partial)(void *ctx, uint64_t epoch);
	void *ctx;
};

struct hf_inbox_config {
	struct hf_ram *ram; /* borrowed; a multiple of HF_WIRE_PAGE_BYTES */
	/* Memory for the PAGES messages of one epoch, up to 96 bytes more for each. */
	uint64_t epoch_max_bytes;
	/* Of a device state, and of its delta. 0: the format's own limit, 64 MiB. */
	uint64_t state_max_bytes;
	/* Of one epoch's frames, and of all that are kept. 0: HF_INBOX_FRAMES_MAX_BYTES. */
	uint64_t frames_max_bytes;
	size_t n_netdevs; /* FRAMES of others are refused */
	struct hf_inbox_disks disks;
};

/**
 * hf_inbox_new() - an inbox in which a session can begin
 * Reserves address space for the limits; memory is taken as messages arrive.
 * Return: 0; -ENOMEM with @err: not even the address space.
 */
int hf_inbox_new(const struct hf_inbox_config *config, struct hf_inbox **ret,
		 struct hf_err *err) HF_MUST_CHECK;

/* RAM stays the caller's. Takes NULL. */
void hf_inbox_free(struct hf_inbox *in);

/* A new session: nothing received before counts, neither epochs nor device state nor frames. RAM is
 * left as it is: the first copy writes all of it. */
void hf_inbox_clear(struct hf_inbox *in);

enum {
	HF_INBOX_WHOLE = 1, /* the epoch is whole and verified: acknowledge and apply it */
	HF_INBOX_BAD = 2, /* the peer sent what makes no sense: close the connection */
};

/**
 * hf_inbox_take() - one message of the session
 * @view: of one of the types for which hf_inbox_wants() holds; copied where it is needed longer
 * @ret_epoch: set with HF_INBOX_WHOLE
 * Not allowed between HF_INBOX_WHOLE and hf_inbox_apply() or hf_inbox_drop_partial().
 *
 * HF_INBOX_BAD names what is wrong: an order that is not the format's, an epoch that is not above
 * the last, a page outside of RAM or a record outside of its disk, an unknown netdev, a limit, a count
 * or checksum that EPOCH_END says otherwise. What was committed is untouched by it; call
 * hf_inbox_drop_partial().
 * Return: 0, HF_INBOX_WHOLE, HF_INBOX_BAD with @err; -ENOMEM, or what disks.take() returned: as if the
 * link were cut.
 */
int hf_inbox_take(struct hf_inbox *in, const struct hf_wire_view *view, uint64_t *ret_epoch,
		  struct hf_err *err) HF_MUST_CHECK;

/* PAGES, EPOCH_BEGIN, STATE, FRAMES, DISK, DISK_SYNC, EPOCH_END. */
bool hf_inbox_wants(enum hf_wire_type type);

/* Forgets an epoch that has not been applied, whole or not. May be called at any time, repeatedly.
 * */
void hf_inbox_drop_partial(struct hf_inbox *in);

/**
 * hf_inbox_apply() - write the whole epoch to RAM and make it the committed one
 * Only after HF_INBOX_WHOLE. Cannot fail. Gives back memory beyond what the largest of the last 64
 * epochs needed.
 */
void hf_inbox_apply(struct hf_inbox *in);

/* The last applied epoch of this session; 0: none yet. */
uint64_t hf_inbox_epoch(const struct hf_inbox *in);

/* Its device state, to be fed to QEMU byte for byte; *ret_len is 0 when there is none. Valid until
 * the next hf_inbox_apply() or hf_inbox_clear(). */
const uint8_t *hf_inbox_state(const struct hf_inbox *in, size_t *ret_len);

/* Did the VM go on after that epoch, or was it stopped for good or by its operator? */
bool hf_inbox_is_vm_running(const struct hf_inbox *in);

/**
 * hf_inbox_each_frame() - what the guest may have sent for nothing
 * Gives out, in the order in which the guest sent them, the frames of applied epochs that the
 * primary is not known to have released. Those over frames_max_bytes are lost, oldest first.
 */
void hf_inbox_each_frame(const struct hf_inbox *in,
			 void (*fn)(void *ctx, unsigned int netdev, const uint8_t *frame,
				    size_t len),
			 void *ctx);

/* All since hf_inbox_clear(). */
struct hf_inbox_stats {
	uint64_t sync_messages, sync_data_pages, sync_zero_pages; /* the first copy */
	uint64_t sync_disk_messages, sync_disk_records, sync_disk_bytes;
	uint64_t epochs; /* applied */
	uint64_t dropped_epochs; /* begun and forgotten */
	uint64_t data_pages, zero_pages; /* of all applied epochs */
	uint64_t disk_records, disk_bytes;
	struct {
		uint64_t epoch;
		uint64_t sent_ns; /* the primary's clock */
		uint64_t data_pages, zero_pages, frames;
		uint64_t pages_bytes; /* its PAGES messages */
		uint64_t disk_messages, disk_records, disk_bytes;
		uint64_t state_bytes, state_received_bytes;
	} last; /* applied */
	uint64_t partial_epoch; /* that is arriving, or 0 */
	uint64_t partial_bytes; /* its PAGES messages so far */
	uint64_t partial_disk_bytes; /* its DISK messages so far */
	uint64_t kept_frames, kept_frame_bytes;
	uint64_t lost_frames; /* over frames_max_bytes */
	uint64_t held_bytes; /* memory for epochs' pages that has not been given back */
};

void hf_inbox_get_stats(const struct hf_inbox *in, struct hf_inbox_stats *ret);

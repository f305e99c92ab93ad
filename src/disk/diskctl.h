/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Words between a keeper and its disk process, over a SEQPACKET socket: what is too rare or too large for
 * the shared words (diskshm.h). One packet is one message, little-endian, of fixed size for its type.
 * Layer: disk. Any thread. Nothing allocates or blocks. Strict: anything unknown, short or long is
 * -EBADMSG. Only the two programs of one build speak it, so it has no versions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/wire-disk.h"
#include "core/commit.h"

enum hf_diskctl_type {
	/* keeper -> disk process */
	HF_DISKCTL_SET_STATE = 1, /* record this durably, then answer DONE */
	HF_DISKCTL_SYNC_START =
		2, /* fill SYNC: all that is allocated, or what the dirty map says */
	HF_DISKCTL_SYNC_STOP = 3, /* no more of it; what was not confirmed stays dirty */
	HF_DISKCTL_SYNC_CONFIRMED = 4, /* pieces up to mark are durable there */
	HF_DISKCTL_FLUSH_SYNC =
		5, /* standby: pieces put into IN so far are to be durable; then DONE */
	HF_DISKCTL_PING = 6, /* answered with PONG as long as the disk process can serve */
	/* disk process -> keeper */
	HF_DISKCTL_READY = 32, /* after start and recovery: what it found */
	HF_DISKCTL_DONE = 33, /* the order with this number is carried out, or failed */
	HF_DISKCTL_FAULT = 34, /* a disk (or the journal) fails; repeated when it changes */
	HF_DISKCTL_WELL = 35, /* what failed goes again */
	HF_DISKCTL_PONG = 36,
};

/* What a host's images are, as recorded durably (disk/redo.h). */
enum hf_disk_condition {
	HF_DISK_FRESH = 0, /* nothing known: never used with holdfast */
	HF_DISK_OWNED = 1, /* a VM runs or ran here on its own: writes went straight to the image */
	HF_DISK_HELD = 2, /* owned, and in `session`: the image changes by committed epochs only */
	HF_DISK_REPLICATED = 3, /* a standby's whole copy in `session` */
	HF_DISK_PARTIAL = 4, /* a standby's copy that is being filled: no state of any time */
	HF_DISK_CONDITION_COUNT
};

struct hf_diskctl_geometry {
	uint64_t size_bytes; /* of the export */
	uint32_t block_bytes; /* smallest unit that can be written */
	bool can_trim;
};

#define HF_DISKCTL_TEXT_MAX 200

struct hf_diskctl_msg {
	enum hf_diskctl_type type;
	uint32_t number; /* SET_STATE, FLUSH_SYNC, PING: the order's; DONE, PONG: the same */
	union {
		struct {
			enum hf_disk_condition condition;
			struct hf_id session;
		} set_state;
		struct {
			bool is_full; /* else what the dirty map says */
			struct hf_id session; /* the map is relative to it from now on */
		} sync_start;
		uint64_t
			mark; /* SYNC_CONFIRMED: position in SYNC (hf_diskshm_pool.head), all before it */
		struct {
			enum hf_disk_condition condition;
			struct hf_id session; /* of the condition */
			struct hf_id
				map_session; /* the dirty map says what a copy of that session lacks */
			bool is_map_trusted;
			uint64_t recovered_epochs; /* redone from the journal at this start */
			uint32_t n_disks;
			struct hf_diskctl_geometry disk[HF_WIRE_DISKS_MAX];
		} ready;
		struct {
			int32_t error; /* 0 or -errno */
			char text[HF_DISKCTL_TEXT_MAX + 1];
		} done;
		struct {
			int32_t error; /* errno */
			uint8_t disk; /* HF_WIRE_DISKS_MAX: the journal or the map */
			uint64_t offset_bytes;
			char text[HF_DISKCTL_TEXT_MAX + 1]; /* a sentence for a person */
		} fault; /* FAULT, WELL */
	};
};

#define HF_DISKCTL_PACKET_MAX 1024

/* @msg: within the limits that the decoder checks (asserted). What in a text cannot be shown to a person
 * becomes '?'. @buf: HF_DISKCTL_PACKET_MAX. Return: length. */
size_t hf_diskctl_encode(const struct hf_diskctl_msg *msg, uint8_t *buf);
/* Return: 0 with *ret, nothing of which points into @buf; -EBADMSG with @err. */
int hf_diskctl_decode(const uint8_t *buf, size_t len, struct hf_diskctl_msg *ret,
		      struct hf_err *err) HF_MUST_CHECK;
const char *hf_disk_condition_name(enum hf_disk_condition condition);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Control messages of the replication link: structs to bytes and back. Layer: codec. Any thread.
 * Nothing allocates or blocks. Byte tables: docs/wire-format.md.
 */
#pragma once

#include "codec/wire.h"
#include "core/commit.h"

#define HF_WIRE_VERSION_TEXT_MAX 32
#define HF_WIRE_MACHINE_TEXT_MAX 64
#define HF_WIRE_QEMU_TEXT_MAX 64
#define HF_WIRE_LOCKSPACE_TEXT_MAX 48
#define HF_WIRE_DEVICES_MAX 256
#define HF_WIRE_DEVICE_TEXT_MAX 128
#define HF_WIRE_NETDEVS_MAX 16
#define HF_WIRE_NETDEV_TEXT_MAX 64
#define HF_WIRE_DISK_TEXT_MAX 160
#define HF_WIRE_REASON_TEXT_MAX 256
#define HF_WIRE_VCPUS_MAX 4096
#define HF_WIRE_RAM_BYTES_MAX ((uint64_t)1 << 46)
#define HF_WIRE_PAGE_BYTES 4096
/* Of the device state, and of what is sent for it. */
#define HF_WIRE_STATE_BYTES_MAX 67108864

/* How a keeper's VM stands. A number that is not listed here, up to HF_WIRE_STATE_MAX, is one of a
 * later minor release and to be shown as "?". */
enum hf_wire_vm_state {
	HF_WIRE_VM_STARTING = 0,
	HF_WIRE_VM_ALONE = 1,
	HF_WIRE_VM_SYNCING = 2,
	HF_WIRE_VM_PROTECTED = 3,
	HF_WIRE_VM_HOLDING = 4,
	HF_WIRE_VM_LEAVING = 5,
	HF_WIRE_VM_HANDING_OVER = 6,
	HF_WIRE_VM_HANDED_OVER = 7,
	HF_WIRE_VM_DEAD = 8,
	HF_WIRE_VM_ENDED = 9,
	HF_WIRE_VM_SUPERSEDED = 10,
	HF_WIRE_VM_WAITING = 11, /* a standby that holds nothing yet */
	HF_WIRE_VM_READY = 12,
	HF_WIRE_VM_LOST = 13,
	HF_WIRE_VM_PROMOTING = 14,
	HF_WIRE_VM_PROMOTED = 15,
	HF_WIRE_VM_FAILED = 16,
	HF_WIRE_VM_STATE_COUNT
};
#define HF_WIRE_STATE_MAX 31

/* What a host's disk images are; the numbers are also disk/diskctl.h's. */
enum hf_wire_disk_condition {
	HF_WIRE_DISKS_FRESH = 0, /* nothing known, or there are no disks */
	HF_WIRE_DISKS_OWNED = 1, /* the VM runs or ran on them alone */
	HF_WIRE_DISKS_HELD = 2, /* owned, and changed only by whole epochs of the session */
	HF_WIRE_DISKS_REPLICATED = 3, /* a standby's whole copy in the session */
	HF_WIRE_DISKS_PARTIAL = 4, /* a standby's copy that is being filled in the session */
	HF_WIRE_DISKS_CONDITION_COUNT
};

/* What a session begins with for the standby's images. */
enum hf_wire_sync_disks {
	HF_WIRE_SYNC_DISKS_NONE = 0, /* there are none, or both hosts use the same */
	HF_WIRE_SYNC_DISKS_FULL = 1, /* all that is allocated is copied */
	HF_WIRE_SYNC_DISKS_DELTA = 2, /* only what may differ is */
	HF_WIRE_SYNC_DISKS_COUNT
};

/* Why a connection is refused or ended. */
enum hf_wire_refusal {
	HF_WIRE_REFUSE_VERSION = 1,
	HF_WIRE_REFUSE_NAME = 2,
	HF_WIRE_REFUSE_ROLE = 3,
	HF_WIRE_REFUSE_SIZE = 4,
	HF_WIRE_REFUSE_MACHINE = 5,
	HF_WIRE_REFUSE_QEMU = 6,
	HF_WIRE_REFUSE_DEVICES = 7,
	HF_WIRE_REFUSE_SETTINGS = 8,
	HF_WIRE_REFUSE_BUSY = 9,
	HF_WIRE_REFUSE_STATE = 10,
	HF_WIRE_REFUSE_PROTOCOL = 11,
	HF_WIRE_REFUSE_DISKS = 12,
	HF_WIRE_REFUSE_COUNT
};

enum hf_wire_death {
	HF_WIRE_DEATH_QEMU_KILLED = 1, /* by a signal */
	HF_WIRE_DEATH_QEMU_EXITED = 2, /* by itself, with an error */
	HF_WIRE_DEATH_QEMU_HUNG = 3, /* it did not answer and was killed by its keeper */
	HF_WIRE_DEATH_FROZEN = 4, /* the keeper stopped it for good: a fault of the host */
	HF_WIRE_DEATH_GUEST = 5, /* frozen for a fault of the guest's own: it is to boot anew */
	HF_WIRE_DEATH_COUNT
};

enum hf_wire_ending {
	HF_WIRE_ENDING_GUEST_SHUTDOWN = 1,
	HF_WIRE_ENDING_OPERATOR = 2,
	HF_WIRE_ENDING_GUEST_PANIC = 3,
	HF_WIRE_ENDING_COUNT
};

/* Strings: NUL-terminated printable UTF-8; in a decoded message they lie in its payload. */
struct hf_wire_list {
	uint16_t n;
	const char *item[HF_WIRE_DEVICES_MAX];
};

struct hf_wire_hello {
	uint16_t version_min, version_max;
	uint8_t role; /* enum hf_wire_role */
	uint32_t state; /* enum hf_wire_vm_state */
	struct hf_id instance; /* random for each start of a keeper */
	struct hf_id session; /* none: holds no session */
	uint64_t epoch; /* last whole epoch of that session */
	uint8_t disk_condition; /* enum hf_wire_disk_condition */
	struct hf_id disk_session; /* that it belongs to; none: to no session */
	uint64_t ram_bytes;
	uint32_t page_bytes; /* HF_WIRE_PAGE_BYTES */
	uint32_t vcpus;
	const char *holdfast; /* version of the program */
	const char *vm; /* name of the VM: a valid name by base/text.h */
	const char *machine; /* with its version: "pc-q35-7.2" */
	const char *qemu;
	const char *lockspace; /* that the VM's lease is in; "": it has none */
	struct hf_wire_list devices; /* "id type" each, so that a difference can be named */
	struct hf_wire_list netdevs; /* ids of the held ones; their order gives FRAMES' index */
	/* HF_WIRE_DISKS_MAX at most, "ID LAYOUT FORMAT BYTES" each, as in "d0 replicated raw 1048576";
	 * their order gives the index in disk records. */
	struct hf_wire_list disks;
};

/* REFUSE, ERROR: enum hf_wire_refusal; DEAD: enum hf_wire_death; ENDED: enum hf_wire_ending. */
struct hf_wire_reason {
	uint32_t code;
	const char *text;
};

struct hf_wire_sync_begin {
	struct hf_id session;
	uint64_t ram_bytes;
	uint64_t pages; /* estimate of those to come */
	uint8_t disks; /* enum hf_wire_sync_disks */
	/* The primary's tenure of the VM's lease, 0: it has none. By this it agrees that the standby
	 * may hold a ballot for the one after it. */
	uint64_t lver;
};

struct hf_wire_epoch_begin {
	uint64_t epoch; /* > 0 */
	uint8_t is_vm_running; /* 0: the VM stays stopped after it */
	uint8_t is_first; /* the session's first: it completes the synchronisation */
	uint64_t time_ns; /* sender's monotonic clock; for display */
};

struct hf_wire_epoch_end {
	uint64_t epoch;
	uint64_t pages_messages;
	uint64_t data_pages;
	uint64_t zero_pages;
	uint64_t frames;
	uint64_t state_bytes; /* of the whole device state, after the delta has been applied */
	uint32_t state_crc32c;
	uint64_t released; /* frames of epochs up to this one have left */
	uint64_t disk_messages; /* DISK; DISK_SYNC counts nowhere */
	uint64_t disk_records;
};

struct hf_wire_ping {
	uint64_t token;
	uint64_t time_ns;
};

/* ACK, HANDOVER_REQUEST, SETTLED: epoch; HANDOVER, PROMOTED: epoch and session; ABANDON, DISCARDED:
 * session, DISCARDED also lver; SYNC_MARK, SYNC_DONE: sync_mark; LEASE: session and lver. What a type does not carry is left alone by encode and
 * zero after decode. */
struct hf_wire_mark {
	uint64_t epoch;
	struct hf_id session;
	uint64_t sync_mark; /* the primary's own; the standby only repeats it */
	/* LEASE: as in SYNC_BEGIN, it has moved within the session. DISCARDED: what the standby has won
	 * and does not use; 0: nothing. */
	uint64_t lver;
};

struct hf_wire_msg {
	enum hf_wire_type type;
	union {
		struct hf_wire_hello hello;
		struct hf_wire_reason reason; /* REFUSE, DEAD, ENDED, ERROR */
		struct hf_wire_sync_begin sync_begin;
		struct hf_wire_epoch_begin epoch_begin;
		struct hf_wire_epoch_end epoch_end;
		struct hf_wire_ping ping; /* PING, PONG */
		struct hf_wire_mark mark;
	};
};

/* Does hf_wire_decode() take this type? The others are wire-bulk.h's and wire-disk.h's. */
bool hf_wire_is_control(enum hf_wire_type type);

/**
 * hf_wire_encode() - a whole sealed control message
 * @buf: HF_WIRE_CONTROL_BUFFER bytes are always enough
 * @ret_len: length of the message
 * Return: 0; -EINVAL with @err: a value outside its limits (a text may come from a person);
 * -ENOBUFS @size is too small.
 */
int hf_wire_encode(const struct hf_wire_msg *msg, uint8_t *buf, size_t size, size_t *ret_len,
		   struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_wire_decode() - the struct of a control message
 * @view: of a type for which hf_wire_is_control() holds
 * @ret: strings in it point into @view->payload
 * Return: 0, or -EBADMSG with @err naming message, field and what is wrong: answer with
 * ERROR(protocol) and close.
 */
int hf_wire_decode(const struct hf_wire_view *view, struct hf_wire_msg *ret,
		   struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_wire_hello_versions() - only the versions, which every version of HELLO has in the same place
 * To be used first: with a keeper of another version the rest may look different.
 * Return: 0, or -EBADMSG with @err.
 */
int hf_wire_hello_versions(const struct hf_wire_view *view, unsigned int *ret_min,
			   unsigned int *ret_max, struct hf_err *err) HF_MUST_CHECK;

/* "ready", "qemu killed", ...; "?" for a number that is none. */
const char *hf_wire_vm_state_name(uint32_t state);
const char *hf_wire_refusal_name(uint32_t code);
const char *hf_wire_death_name(uint32_t code);
const char *hf_wire_ending_name(uint32_t code);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disk records: what the guest did to its disks, in order. The same bytes are the shared log between
 * keeper and disk process, the payload of DISK and DISK_SYNC on the link, and the body of an entry of
 * the redo journal: they are written once and sent and stored from where they lie. Layer: codec. Any
 * thread. Nothing allocates or blocks. Byte tables: docs/wire-format.md.
 *
 * Payload: u32 number of records (1 to HF_WIRE_DISK_RECORDS_MAX), u32 reserved, the records.
 * Record: u64 offset, u64 length, u8 kind, u8 disk, u8 flags, 5 bytes reserved; for a WRITE its data,
 * padded with zeros to a multiple of 8.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/wire.h"

#define HF_WIRE_DISKS_MAX 16
#define HF_WIRE_DISK_HEAD_BYTES 8
#define HF_WIRE_DISK_RECORD_BYTES 24
#define HF_WIRE_DISK_DATA_MAX ((uint32_t)1 << 20) /* of one WRITE */
#define HF_WIRE_DISK_RECORDS_MAX 65536
#define HF_WIRE_DISK_BYTES_MAX ((uint64_t)1 << 62) /* of a disk, hence of a range */

enum hf_wire_disk_kind {
	HF_WIRE_DISK_WRITE = 1,
	HF_WIRE_DISK_ZERO = 2, /* the range reads as zeros from now on */
	HF_WIRE_DISK_TRIM = 3, /* the guest does not care for it any more; reads as zeros here */
	HF_WIRE_DISK_FLUSH =
		4, /* the guest wants what is before it durable; offset and length are 0 */
	HF_WIRE_DISK_KIND_COUNT
};

enum hf_wire_disk_flag {
	HF_WIRE_DISK_MAY_TRIM = 1, /* ZERO: the space may be given back */
	HF_WIRE_DISK_FUA = 2, /* WRITE, ZERO, TRIM: durable by itself, as if followed by a FLUSH */
};

struct hf_wire_disk_record {
	uint64_t offset_bytes;
	uint64_t length_bytes; /* > 0 unless FLUSH; for a WRITE at most HF_WIRE_DISK_DATA_MAX */
	enum hf_wire_disk_kind kind;
	uint8_t disk; /* index, in the order of HELLO's disks */
	uint8_t flags;
	const uint8_t *data; /* WRITE; else NULL */
};

/* Room that a record takes, padding included. */
size_t hf_wire_disk_record_bytes(enum hf_wire_disk_kind kind, uint64_t length_bytes);

/* Writes the head of a record; a WRITE's data goes behind it (HF_WIRE_DISK_RECORD_BYTES on), and its
 * padding is written here. @buf has hf_wire_disk_record_bytes(). */
void hf_wire_disk_put_record(uint8_t *buf, const struct hf_wire_disk_record *record);

/* Walks records: start at the first byte behind the payload's head with a zeroed offset. */
struct hf_wire_disk_cursor {
	size_t offset;
	uint32_t n;
};

enum { HF_WIRE_DISK_END = 0, HF_WIRE_DISK_RECORD = 1 };

/**
 * hf_wire_disk_next() - the next record of @records, checked
 * Return: HF_WIRE_DISK_RECORD with *ret; HF_WIRE_DISK_END at exactly @len; -EBADMSG with @err: kind,
 * flags, reserved bytes, length or padding are not what they must be, or it is cut off.
 */
int hf_wire_disk_next(const uint8_t *records, size_t len, struct hf_wire_disk_cursor *cursor,
		      struct hf_wire_disk_record *ret, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_wire_disk_check() - a whole DISK or DISK_SYNC payload
 * @disk_bytes, @n_disks: every record must lie inside its disk
 * @ret_records: how many there are
 * Return: 0; -EBADMSG with @err.
 */
int hf_wire_disk_check(const uint8_t *payload, size_t len, const uint64_t *disk_bytes,
		       size_t n_disks, uint32_t *ret_records, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_wire_disk_finish() - make a message of records that stand at
 * @message + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES
 * @type: HF_WIRE_DISK or HF_WIRE_DISK_SYNC; @records_bytes: of all records, > 0
 * Not sealed. Touches only the first HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES bytes.
 * Return: length of the whole message.
 */
size_t hf_wire_disk_finish(uint8_t *message, enum hf_wire_type type, uint32_t n_records,
			   size_t records_bytes);

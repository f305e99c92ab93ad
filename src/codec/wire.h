/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The replication link between two keepers: messages in a reliable byte stream. Layer: codec.
 * Nothing allocates or blocks. One thread for each reader; everything else any thread. The format,
 * its limits and its promises are docs/wire-format.md.
 *
 * Here: framing, checksums, who may send what. wire-msg.h has the control messages, wire-bulk.h the
 * three that carry the guest's RAM, device state and frames, wire-disk.h the two that carry its disks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HF_WIRE_VERSION_MIN 1
#define HF_WIRE_VERSION_MAX 1

#define HF_WIRE_MAGIC 0x31524648 /* "HFR1", little-endian */
#define HF_WIRE_HEADER_BYTES 32
#define HF_WIRE_PAYLOAD_MAX 1056768 /* 1 MiB + 8 KiB */
#define HF_WIRE_MESSAGE_MAX (HF_WIRE_HEADER_BYTES + HF_WIRE_PAYLOAD_MAX)
/* Largest HELLO payload: every HELLO within its own limits fits. */
#define HF_WIRE_HELLO_MAX 40960
/* Largest payload of every other control message. */
#define HF_WIRE_CONTROL_MAX 512
/* A buffer that holds any control message whole. */
#define HF_WIRE_CONTROL_BUFFER (HF_WIRE_HEADER_BYTES + HF_WIRE_HELLO_MAX)

enum hf_wire_type {
	HF_WIRE_HELLO = 1,
	HF_WIRE_REFUSE = 2,
	HF_WIRE_SYNC_BEGIN = 3,
	HF_WIRE_PAGES = 4,
	HF_WIRE_EPOCH_BEGIN = 5,
	HF_WIRE_STATE = 6,
	HF_WIRE_FRAMES = 7,
	HF_WIRE_EPOCH_END = 8,
	HF_WIRE_ACK = 9,
	HF_WIRE_PING = 10,
	HF_WIRE_PONG = 11,
	HF_WIRE_DEAD = 12,
	HF_WIRE_ENDED = 13,
	HF_WIRE_PROMOTED = 14,
	HF_WIRE_HANDOVER_REQUEST = 15,
	HF_WIRE_HANDOVER = 16,
	HF_WIRE_ABANDON = 17,
	HF_WIRE_DISCARDED = 18,
	HF_WIRE_ERROR = 19,
	HF_WIRE_DISK = 20,
	HF_WIRE_DISK_SYNC = 21,
	HF_WIRE_SYNC_MARK = 22,
	HF_WIRE_SYNC_DONE = 23,
	HF_WIRE_SETTLED = 24,
	HF_WIRE_LEASE = 25,
	HF_WIRE_TYPE_COUNT
};

enum hf_wire_role {
	HF_WIRE_ROLE_PRIMARY = 1,
	HF_WIRE_ROLE_STANDBY = 2,
	HF_WIRE_ROLE_INQUIRER = 3, /* only asks how things stand, then leaves */
	HF_WIRE_ROLE_COUNT
};

/* "PAGES"; "?" for a number that is none. */
const char *hf_wire_type_name(unsigned int type);

/* Largest payload of a type; 0 for a number that is none. */
size_t hf_wire_payload_max(unsigned int type);

/* May a keeper of this role send this type at all? The order is the commit protocol's matter. */
bool hf_wire_may_send(enum hf_wire_role role, enum hf_wire_type type);

enum { HF_WIRE_NO_COMMON_VERSION = 1 };

/**
 * hf_wire_negotiate() - the version that both speak: the highest common one
 * @peer_min, @peer_max: from its HELLO
 * Return: 0, or HF_WIRE_NO_COMMON_VERSION: answer with REFUSE(version) and close.
 */
int hf_wire_negotiate(unsigned int peer_min, unsigned int peer_max,
		      unsigned int *ret) HF_MUST_CHECK;

/**
 * hf_wire_put_header() - lay out a header without its checksums
 * @buf: HF_WIRE_HEADER_BYTES. hf_wire_seal() must follow once the payload stands behind it.
 */
void hf_wire_put_header(uint8_t *buf, enum hf_wire_type type, size_t payload_len);

/* The type in a header that hf_wire_put_header() has laid out. */
unsigned int hf_wire_header_type(const uint8_t *buf);

/**
 * hf_wire_seal() - compute both checksums of a message that is laid out
 * @buf: header and payload; its length is taken from the header
 * May run in another thread than the one that filled @buf. Reads the whole payload once.
 * Return: length of the whole message in bytes, ready to be sent.
 */
size_t hf_wire_seal(uint8_t *buf);

/**
 * hf_wire_seal_as() - the same for memory that another process may write to meanwhile
 * @buf: HF_WIRE_HEADER_BYTES of room for the header, of which nothing is believed, and the payload
 * @payload_len: at most hf_wire_payload_max(@type)
 * What the other process changes afterwards, the receiver's checksums find.
 */
void hf_wire_seal_as(uint8_t *buf, enum hf_wire_type type, size_t payload_len);

/* One message as it lies in the reader's buffer; its checksums have been verified. */
struct hf_wire_view {
	enum hf_wire_type type;
	const uint8_t *payload;
	size_t len;
};

/* What hf_wire_reader_next() returns. From HF_WIRE_E_MAGIC on the stream is useless: close it. */
enum {
	HF_WIRE_NEED_MORE = 0,
	HF_WIRE_MESSAGE = 1,
	HF_WIRE_E_MAGIC = 2, /* this is not our protocol, or the stream is out of step */
	HF_WIRE_E_HEADER_CHECKSUM = 3,
	HF_WIRE_E_HEADER_RESERVED = 4, /* a flag or field that this version does not know */
	HF_WIRE_E_TYPE = 5,
	HF_WIRE_E_TOO_LONG = 6, /* for its type */
	HF_WIRE_E_PAYLOAD_CHECKSUM = 7,
};

struct hf_wire_reader {
	uint8_t *buf; /* the caller's */
	size_t cap, start, end;
	uint64_t offset; /* bytes consumed of the whole stream: where an error was found */
	int error; /* sticky */
};

/* @buf: @size >= HF_WIRE_MESSAGE_MAX bytes that the caller keeps as long as the reader. 64 KiB more
 * than that save a copy now and then. */
void hf_wire_reader_init(struct hf_wire_reader *r, uint8_t *buf, size_t size);

/**
 * hf_wire_reader_space() - where to read() to
 * To be called when hf_wire_reader_next() has returned HF_WIRE_NEED_MORE. Always offers at least
 * one byte, and no more than what keeps copying small: the rest of a long message with the header
 * after it, or 64 KiB. Invalidates the messages given out.
 */
void hf_wire_reader_space(struct hf_wire_reader *r, uint8_t **ret, size_t *ret_n);

/* @n bytes, at most what hf_wire_reader_space() offered, have arrived there. */
void hf_wire_reader_commit(struct hf_wire_reader *r, size_t n);

/**
 * hf_wire_reader_next() - the next whole message
 * @ret: points into the buffer, valid until hf_wire_reader_space()
 * A wrong header is reported as soon as it is there, so a false length is never waited for.
 * Return: HF_WIRE_MESSAGE, HF_WIRE_NEED_MORE, or HF_WIRE_E_* with @err (again at each later call,
 * then without a new sentence).
 */
int hf_wire_reader_next(struct hf_wire_reader *r, struct hf_wire_view *ret,
			struct hf_err *err) HF_MUST_CHECK;

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * The stream carries long messages, mostly of one MiB, at several GiB/s. The reader gives them out
 * where read() put them, and space() never asks for much beyond the message that is under way:
 * after a long one only the next header lies in the buffer, and moving that to the front is cheap.
 * A long message of which a part has come along with short ones is moved only if the buffer has no
 * room for READ_AHEAD_BYTES beside the longest message, and then at most that much of it.
 *
 * The header has a checksum of its own: a length is believed only after it has been verified, and
 * an error can be told from the other keeper's as soon as 32 bytes are there.
 */
#include "codec/wire.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define READ_AHEAD_BYTES ((size_t)64 * 1024)

/* Offsets in the header. */
enum {
	AT_MAGIC = 0,
	AT_TYPE = 4,
	AT_FLAGS = 6,
	AT_LENGTH = 8,
	AT_PAYLOAD_CRC = 12,
	AT_RESERVED_64 = 16,
	AT_RESERVED_32 = 24,
	AT_HEADER_CRC = 28,
};

#define P (1u << HF_WIRE_ROLE_PRIMARY)
#define S (1u << HF_WIRE_ROLE_STANDBY)
#define I (1u << HF_WIRE_ROLE_INQUIRER)

static const struct {
	const char *name;
	uint32_t payload_max;
	unsigned int senders;
} types[HF_WIRE_TYPE_COUNT] = {
	[HF_WIRE_HELLO] = { "HELLO", HF_WIRE_HELLO_MAX, P | S | I },
	[HF_WIRE_REFUSE] = { "REFUSE", HF_WIRE_CONTROL_MAX, P | S },
	[HF_WIRE_SYNC_BEGIN] = { "SYNC_BEGIN", HF_WIRE_CONTROL_MAX, P },
	[HF_WIRE_PAGES] = { "PAGES", HF_WIRE_PAYLOAD_MAX, P },
	[HF_WIRE_EPOCH_BEGIN] = { "EPOCH_BEGIN", HF_WIRE_CONTROL_MAX, P },
	[HF_WIRE_STATE] = { "STATE", HF_WIRE_PAYLOAD_MAX, P },
	[HF_WIRE_FRAMES] = { "FRAMES", HF_WIRE_PAYLOAD_MAX, P },
	[HF_WIRE_EPOCH_END] = { "EPOCH_END", HF_WIRE_CONTROL_MAX, P },
	[HF_WIRE_ACK] = { "ACK", HF_WIRE_CONTROL_MAX, S },
	[HF_WIRE_PING] = { "PING", HF_WIRE_CONTROL_MAX, P | S },
	[HF_WIRE_PONG] = { "PONG", HF_WIRE_CONTROL_MAX, P | S },
	[HF_WIRE_DEAD] = { "DEAD", HF_WIRE_CONTROL_MAX, P | S },
	[HF_WIRE_ENDED] = { "ENDED", HF_WIRE_CONTROL_MAX, P | S },
	/* Also a primary: the promoted side has become one when the old one comes back and asks. */
	[HF_WIRE_PROMOTED] = { "PROMOTED", HF_WIRE_CONTROL_MAX, P | S },
	[HF_WIRE_HANDOVER_REQUEST] = { "HANDOVER_REQUEST", HF_WIRE_CONTROL_MAX, S },
	[HF_WIRE_HANDOVER] = { "HANDOVER", HF_WIRE_CONTROL_MAX, P },
	[HF_WIRE_ABANDON] = { "ABANDON", HF_WIRE_CONTROL_MAX, P },
	[HF_WIRE_DISCARDED] = { "DISCARDED", HF_WIRE_CONTROL_MAX, S },
	[HF_WIRE_ERROR] = { "ERROR", HF_WIRE_CONTROL_MAX, P | S | I },
	[HF_WIRE_DISK] = { "DISK", HF_WIRE_PAYLOAD_MAX, P },
	[HF_WIRE_DISK_SYNC] = { "DISK_SYNC", HF_WIRE_PAYLOAD_MAX, P },
	[HF_WIRE_SYNC_MARK] = { "SYNC_MARK", HF_WIRE_CONTROL_MAX, P },
	[HF_WIRE_SYNC_DONE] = { "SYNC_DONE", HF_WIRE_CONTROL_MAX, S },
	[HF_WIRE_SETTLED] = { "SETTLED", HF_WIRE_CONTROL_MAX, P | S },
	[HF_WIRE_LEASE] = { "LEASE", HF_WIRE_CONTROL_MAX, P },
};

#undef P
#undef S
#undef I

static bool is_known_type(unsigned int type)
{
	return type < HF_WIRE_TYPE_COUNT && types[type].name;
}

const char *hf_wire_type_name(unsigned int type)
{
	return is_known_type(type) ? types[type].name : "?";
}

size_t hf_wire_payload_max(unsigned int type)
{
	return is_known_type(type) ? types[type].payload_max : 0;
}

bool hf_wire_may_send(enum hf_wire_role role, enum hf_wire_type type)
{
	assert(role > 0 && role < HF_WIRE_ROLE_COUNT);
	return is_known_type(type) && (types[type].senders & 1u << role);
}

int hf_wire_negotiate(unsigned int peer_min, unsigned int peer_max, unsigned int *ret)
{
	unsigned int highest = peer_max < HF_WIRE_VERSION_MAX ? peer_max : HF_WIRE_VERSION_MAX;

	if (highest < peer_min || highest < HF_WIRE_VERSION_MIN)
		return HF_WIRE_NO_COMMON_VERSION;
	*ret = highest;
	return 0;
}

void hf_wire_put_header(uint8_t *buf, enum hf_wire_type type, size_t payload_len)
{
	assert(is_known_type(type));
	assert(payload_len <= types[type].payload_max);
	memset(buf, 0, HF_WIRE_HEADER_BYTES);
	hf_le32_put(buf + AT_MAGIC, HF_WIRE_MAGIC);
	hf_le16_put(buf + AT_TYPE, (uint16_t)type);
	hf_le32_put(buf + AT_LENGTH, (uint32_t)payload_len);
}

unsigned int hf_wire_header_type(const uint8_t *buf)
{
	return hf_le16_get(buf + AT_TYPE);
}

void hf_wire_seal_as(uint8_t *buf, enum hf_wire_type type, size_t payload_len)
{
	uint8_t h[HF_WIRE_HEADER_BYTES];

	hf_wire_put_header(h, type, payload_len);
	hf_le32_put(h + AT_PAYLOAD_CRC, hf_crc32c(0, buf + HF_WIRE_HEADER_BYTES, payload_len));
	hf_le32_put(h + AT_HEADER_CRC, hf_crc32c(0, h, AT_HEADER_CRC));
	memcpy(buf, h, sizeof(h));
}

size_t hf_wire_seal(uint8_t *buf)
{
	size_t len = hf_le32_get(buf + AT_LENGTH);

	assert(hf_le32_get(buf + AT_MAGIC) == HF_WIRE_MAGIC);
	assert(len <= hf_wire_payload_max(hf_le16_get(buf + AT_TYPE)));
	hf_wire_seal_as(buf, (enum hf_wire_type)hf_le16_get(buf + AT_TYPE), len);
	return HF_WIRE_HEADER_BYTES + len;
}

void hf_wire_reader_init(struct hf_wire_reader *r, uint8_t *buf, size_t size)
{
	assert(size >= HF_WIRE_MESSAGE_MAX);
	*r = (struct hf_wire_reader){ .buf = buf, .cap = size };
}

/* What is still missing of the message under way with its header verified, or 0 if none is. */
static size_t missing_bytes(const struct hf_wire_reader *r)
{
	size_t have = r->end - r->start, total;

	if (have < HF_WIRE_HEADER_BYTES)
		return 0;
	total = HF_WIRE_HEADER_BYTES + hf_le32_get(r->buf + r->start + AT_LENGTH);
	assert(total > have);
	assert(total <= HF_WIRE_MESSAGE_MAX);
	return total - have;
}

static void move_to_front(struct hf_wire_reader *r)
{
	memmove(r->buf, r->buf + r->start, r->end - r->start);
	r->end -= r->start;
	r->start = 0;
}

void hf_wire_reader_space(struct hf_wire_reader *r, uint8_t **ret, size_t *ret_n)
{
	size_t missing = missing_bytes(r);
	size_t wanted = missing > 0 ? missing + HF_WIRE_HEADER_BYTES : READ_AHEAD_BYTES;

	assert(r->error == 0);
	if (wanted < READ_AHEAD_BYTES)
		wanted = READ_AHEAD_BYTES;
	/* Without a whole header there are at most 31 bytes to move: the cheapest moment. */
	if (missing == 0 || r->cap - r->end < missing)
		move_to_front(r);
	*ret = r->buf + r->end;
	*ret_n = r->cap - r->end < wanted ? r->cap - r->end : wanted;
	assert(*ret_n > 0);
}

void hf_wire_reader_commit(struct hf_wire_reader *r, size_t n)
{
	assert(n <= r->cap - r->end);
	r->end += n;
}

static int bad_header(const struct hf_wire_reader *r, int code, struct hf_err *err,
		      const char *what)
{
	hf_err_set(err, "replication link: %s at byte %" PRIu64 " of the stream", what, r->offset);
	return code;
}

static int check_type(const struct hf_wire_reader *r, const uint8_t *h, struct hf_err *err)
{
	unsigned int type = hf_le16_get(h + AT_TYPE);
	uint32_t len = hf_le32_get(h + AT_LENGTH);

	if (!is_known_type(type)) {
		hf_err_set(err, "replication link: unknown message type %u at byte %" PRIu64, type,
			   r->offset);
		return HF_WIRE_E_TYPE;
	}
	if (len > types[type].payload_max) {
		hf_err_set(err,
			   "replication link: %s of %" PRIu32 " bytes at byte %" PRIu64
			   ", at most %" PRIu32 " are allowed",
			   types[type].name, len, r->offset, types[type].payload_max);
		return HF_WIRE_E_TOO_LONG;
	}
	return 0;
}

static int check_header(const struct hf_wire_reader *r, const uint8_t *h, struct hf_err *err)
{
	if (hf_le32_get(h + AT_MAGIC) != HF_WIRE_MAGIC)
		return bad_header(r, HF_WIRE_E_MAGIC, err,
				  "something else than holdfast's protocol");
	if (hf_le32_get(h + AT_HEADER_CRC) != hf_crc32c(0, h, AT_HEADER_CRC))
		return bad_header(r, HF_WIRE_E_HEADER_CHECKSUM, err, "wrong header checksum");
	if (hf_le16_get(h + AT_FLAGS) || hf_le64_get(h + AT_RESERVED_64) ||
	    hf_le32_get(h + AT_RESERVED_32))
		return bad_header(r, HF_WIRE_E_HEADER_RESERVED, err,
				  "a header field that has to be zero is not");
	return check_type(r, h, err);
}

static int check_payload(const struct hf_wire_reader *r, const uint8_t *h, size_t len,
			 struct hf_err *err)
{
	if (hf_le32_get(h + AT_PAYLOAD_CRC) == hf_crc32c(0, h + HF_WIRE_HEADER_BYTES, len))
		return 0;
	hf_err_set(err,
		   "replication link: wrong checksum of a %s at byte %" PRIu64 " of the stream",
		   hf_wire_type_name(hf_le16_get(h + AT_TYPE)), r->offset);
	return HF_WIRE_E_PAYLOAD_CHECKSUM;
}

int hf_wire_reader_next(struct hf_wire_reader *r, struct hf_wire_view *ret, struct hf_err *err)
{
	const uint8_t *h = r->buf + r->start;
	size_t have = r->end - r->start, len;

	if (r->error)
		return r->error;
	if (have < HF_WIRE_HEADER_BYTES)
		return HF_WIRE_NEED_MORE;
	r->error = check_header(r, h, err);
	if (r->error)
		return r->error;
	len = hf_le32_get(h + AT_LENGTH);
	if (have - HF_WIRE_HEADER_BYTES < len)
		return HF_WIRE_NEED_MORE;
	r->error = check_payload(r, h, len, err);
	if (r->error)
		return r->error;
	*ret = (struct hf_wire_view){ .type = (enum hf_wire_type)hf_le16_get(h + AT_TYPE),
				      .payload = h + HF_WIRE_HEADER_BYTES,
				      .len = len };
	r->start += HF_WIRE_HEADER_BYTES + len;
	r->offset += HF_WIRE_HEADER_BYTES + len;
	return HF_WIRE_MESSAGE;
}

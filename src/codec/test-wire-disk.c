/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bytes.h"
#include "codec/wire-disk.h"

#define MIB ((uint64_t)1 << 20)

static uint8_t message[HF_WIRE_MESSAGE_MAX];
static uint8_t *const payload = message + HF_WIRE_HEADER_BYTES;
static uint8_t *const records = message + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;

static const uint64_t sizes[] = { 4 * MIB, HF_WIRE_DISK_BYTES_MAX };

/* Appends at *used; a WRITE's bytes are @seed, @seed + 1, ... */
static void put(size_t *used, struct hf_wire_disk_record record, uint8_t seed)
{
	uint8_t *p = records + *used;
	size_t n = hf_wire_disk_record_bytes(record.kind, record.length_bytes);

	memset(p, 0xff, n);
	for (uint64_t i = 0; record.kind == HF_WIRE_DISK_WRITE && i < record.length_bytes; i++)
		p[HF_WIRE_DISK_RECORD_BYTES + i] = (uint8_t)(seed + i);
	hf_wire_disk_put_record(p, &record);
	*used += n;
}

/* A WRITE of 13 bytes at 512 (record at 8, data at 32, padding at 45), a ZERO at 48, a TRIM at 72, a FLUSH
 * at 96, all offsets in the payload, which has 120 bytes. */
static size_t sample(void)
{
	size_t used = 0;

	put(&used,
	    (struct hf_wire_disk_record){ 512, 13, HF_WIRE_DISK_WRITE, 0, HF_WIRE_DISK_FUA, NULL },
	    7);
	put(&used,
	    (struct hf_wire_disk_record){ MIB, HF_WIRE_DISK_BYTES_MAX - MIB, HF_WIRE_DISK_ZERO, 1,
					  HF_WIRE_DISK_FUA | HF_WIRE_DISK_MAY_TRIM, NULL },
	    0);
	put(&used, (struct hf_wire_disk_record){ 4 * MIB - 1, 1, HF_WIRE_DISK_TRIM, 0, 0, NULL },
	    0);
	put(&used, (struct hf_wire_disk_record){ 0, 0, HF_WIRE_DISK_FLUSH, 1, 0, NULL }, 0);
	CHECK_EQ(used, 112);
	return hf_wire_disk_finish(message, HF_WIRE_DISK, 4, used) - HF_WIRE_HEADER_BYTES;
}

TEST(records_have_whole_words)
{
	CHECK_EQ(hf_wire_disk_record_bytes(HF_WIRE_DISK_WRITE, 1), 32);
	CHECK_EQ(hf_wire_disk_record_bytes(HF_WIRE_DISK_WRITE, 8), 32);
	CHECK_EQ(hf_wire_disk_record_bytes(HF_WIRE_DISK_WRITE, 9), 40);
	CHECK_EQ(hf_wire_disk_record_bytes(HF_WIRE_DISK_WRITE, MIB), 24 + MIB);
	CHECK_EQ(hf_wire_disk_record_bytes(HF_WIRE_DISK_ZERO, UINT64_MAX), 24);
	CHECK_EQ(hf_wire_disk_record_bytes(HF_WIRE_DISK_FLUSH, 0), 24);
}

static struct hf_wire_disk_record next(size_t len, struct hf_wire_disk_cursor *cursor)
{
	struct hf_wire_disk_record r;
	struct hf_err err = { "" };

	if (hf_wire_disk_next(records, len, cursor, &r, &err) != HF_WIRE_DISK_RECORD)
		hf_test_fail(__FILE__, __LINE__, "no record: %s", err.text);
	return r;
}

static void expect(const struct hf_wire_disk_record *r, enum hf_wire_disk_kind kind, uint8_t disk,
		   uint64_t offset, uint64_t length, unsigned int flags)
{
	CHECK_EQ(r->kind, kind);
	CHECK_EQ(r->disk, disk);
	CHECK_EQ(r->offset_bytes, offset);
	CHECK_EQ(r->length_bytes, length);
	CHECK_EQ(r->flags, flags);
	CHECK_EQ(r->data != NULL, kind == HF_WIRE_DISK_WRITE);
}

TEST(records_come_back)
{
	size_t len = sample() - HF_WIRE_DISK_HEAD_BYTES;
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record r = next(len, &cursor);

	expect(&r, HF_WIRE_DISK_WRITE, 0, 512, 13, HF_WIRE_DISK_FUA);
	CHECK(r.data == records + 24);
	for (unsigned int i = 0; i < 13; i++)
		CHECK_EQ(r.data[i], 7 + i);
	CHECK_EQ(cursor.offset, 40);
	r = next(len, &cursor);
	expect(&r, HF_WIRE_DISK_ZERO, 1, MIB, HF_WIRE_DISK_BYTES_MAX - MIB,
	       HF_WIRE_DISK_FUA | HF_WIRE_DISK_MAY_TRIM);
	r = next(len, &cursor);
	expect(&r, HF_WIRE_DISK_TRIM, 0, 4 * MIB - 1, 1, 0);
	r = next(len, &cursor);
	expect(&r, HF_WIRE_DISK_FLUSH, 1, 0, 0, 0);
	CHECK_EQ(cursor.n, 4);
	CHECK_EQ(hf_wire_disk_next(records, len, &cursor, &r, NULL), HF_WIRE_DISK_END);
	CHECK_EQ(hf_wire_disk_next(records, len, &cursor, &r, NULL), HF_WIRE_DISK_END);
}

/* Where each byte stands is the format, so it is spelled out once. */
TEST(the_bytes_are_the_format_s)
{
	static const uint8_t
		want[] = {
			4,    0,    0,    0,    0,  0,  0,  0, /* four records */
			0,    2,    0,    0,    0,  0,  0,  0,  13, 0,  0,    0,
			0,    0,    0,    0,    1,  0,  2,  0,  0,  0,  0,    0, /* WRITE */
			7,    8,    9,    10,   11, 12, 13, 14, 15, 16, 17,   18,
			19,   0,    0,    0, /* its data */
			0,    0,    16,   0,    0,  0,  0,  0,  0,  0,  0xf0, 0xff,
			0xff, 0xff, 0xff, 0x3f, /* ZERO */
			2,    1,    3,    0,    0,  0,  0,  0, /* on disk 1, both flags */
			0xff, 0xff, 0x3f, 0,    0,  0,  0,  0,  1,  0,  0,    0,
			0,    0,    0,    0,    3,  0,  0,  0,  0,  0,  0,    0,
			0,    0,    0,    0,    0,  0,  0,  0,  0,  0,  0,    0,
			0,    0,    0,    0,    4,  1,  0,  0,  0,  0,  0,    0, /* FLUSH */
		};

	CHECK_EQ(sample(), sizeof(want));
	CHECK(memcmp(payload, want, sizeof(want)) == 0);
}

TEST(a_message_goes_through_the_reader)
{
	static uint8_t buf[HF_WIRE_MESSAGE_MAX];
	size_t len = sample() + HF_WIRE_HEADER_BYTES, n;
	struct hf_wire_view view;
	struct hf_wire_reader r;
	uint32_t n_records = 0;
	uint8_t *space;

	CHECK_EQ(hf_wire_disk_finish(message, HF_WIRE_DISK_SYNC, 4, 112), len);
	CHECK_EQ(hf_wire_seal(message), len);
	hf_wire_reader_init(&r, buf, sizeof(buf));
	hf_wire_reader_space(&r, &space, &n);
	CHECK(n >= len);
	memcpy(space, message, len);
	hf_wire_reader_commit(&r, len);
	CHECK_EQ(hf_wire_reader_next(&r, &view, NULL), HF_WIRE_MESSAGE);
	CHECK_EQ(view.type, HF_WIRE_DISK_SYNC);
	CHECK_EQ(hf_wire_disk_check(view.payload, view.len, sizes, 2, &n_records, NULL), 0);
	CHECK_EQ(n_records, 4);
}

TEST(the_longest_record_fits)
{
	size_t used = 0, len;
	uint32_t n = 0;

	put(&used, (struct hf_wire_disk_record){ 3 * MIB, MIB, HF_WIRE_DISK_WRITE, 0, 0, NULL }, 1);
	len = hf_wire_disk_finish(message, HF_WIRE_DISK, 1, used);
	CHECK(len <= sizeof(message));
	CHECK_EQ(hf_wire_disk_check(payload, len - HF_WIRE_HEADER_BYTES, sizes, 1, &n, NULL), 0);
	CHECK_EQ(n, 1);
}

/* As many of the shortest records as find room are fewer than the limit on their number. */
TEST(the_most_records_fit)
{
	size_t used = 0, len;
	uint32_t sent = 0, n = 0;

	while (HF_WIRE_DISK_HEAD_BYTES + used + HF_WIRE_DISK_RECORD_BYTES <= HF_WIRE_PAYLOAD_MAX) {
		put(&used, (struct hf_wire_disk_record){ .kind = HF_WIRE_DISK_FLUSH }, 0);
		sent++;
	}
	CHECK(sent <= HF_WIRE_DISK_RECORDS_MAX);
	len = hf_wire_disk_finish(message, HF_WIRE_DISK, sent, used) - HF_WIRE_HEADER_BYTES;
	CHECK_EQ(hf_wire_disk_check(payload, len, sizes, 1, &n, NULL), 0);
	CHECK_EQ(n, sent);
}

/* A writer that fills memory which another process reads must touch no more than it says. */
TEST(nothing_else_is_touched)
{
	size_t used = 0;

	memset(message, 0xa5, sizeof(message));
	put(&used, (struct hf_wire_disk_record){ 0, 1, HF_WIRE_DISK_WRITE, 0, 0, NULL }, 0);
	CHECK_EQ(used, 32);
	CHECK_EQ(records[used], 0xa5);
	CHECK_EQ(payload[HF_WIRE_DISK_HEAD_BYTES - 1], 0xa5);
	records[24] = 0x77;
	(void)hf_wire_disk_finish(message, HF_WIRE_DISK, 1, used);
	CHECK_EQ(records[24], 0x77);
	CHECK_EQ(records[used], 0xa5);
}

struct patch {
	unsigned int at;
	unsigned int bytes;
	uint64_t value;
	const char *says;
};

static const struct patch patches[] = {
	{ 0, 4, 0, "0 disk records, possible is 1 to 65536" },
	{ 0, 4, 65537, "65537 disk records" },
	{ 0, 4, UINT32_MAX, "4294967295 disk records" },
	{ 0, 4, 3, "it has 4 disk records, it announces 3" },
	{ 0, 4, 5, "it has 4 disk records, it announces 5" },
	{ 4, 1, 1, "a reserved field" },
	{ 7, 1, 1, "a reserved field" },
	/* the WRITE */
	{ 8, 8, 4 * MIB - 12,
	  "disk record 0: a WRITE of 13 bytes at 4194292 of disk 0, which has" },
	{ 8, 8, 4 * MIB + 1, "of disk 0, which has 4194304 bytes" },
	{ 8, 8, HF_WIRE_DISK_BYTES_MAX, "makes no sense" },
	{ 8, 8, UINT64_MAX,
	  "disk record 0 at byte 0: a WRITE of 13 bytes at 18446744073709551615" },
	{ 8, 8, UINT64_MAX - 12, "makes no sense" },
	{ 16, 8, 0, "a WRITE of 0 bytes at 512 makes no sense" },
	{ 16, 8, MIB + 1, "a WRITE of 1048577 bytes at 512 makes no sense" },
	{ 16, 8, UINT64_MAX, "makes no sense" },
	{ 16, 8, UINT64_MAX - 7, "makes no sense" },
	{ 16, 8, MIB, "its 1048576 bytes of data are cut off" },
	{ 16, 8, 89, "its 89 bytes of data are cut off" },
	{ 16, 8, 12, "the padding behind its data is not zero" },
	{ 16, 8, 5, "disk record 0 at byte 0: the padding" },
	{ 24, 1, 0, "the kind 0 is unknown" },
	{ 24, 1, 5, "the kind 5 is unknown" },
	{ 24, 1, 255, "the kind 255 is unknown" },
	{ 24, 1, HF_WIRE_DISK_FLUSH, "a FLUSH with the flags 0x02" },
	{ 25, 1, 16, "disk 16, at most 16 are possible" },
	{ 25, 1, 2, "disk record 0: disk 2, there are 2 here" },
	{ 26, 1, 1, "a WRITE with the flags 0x01" },
	{ 26, 1, 4, "a WRITE with the flags 0x04" },
	{ 27, 1, 1, "a reserved field" },
	{ 31, 1, 1, "a reserved field" },
	{ 45, 1, 1, "the padding" },
	{ 47, 1, 0x80, "the padding" },
	/* the ZERO */
	{ 48, 8, MIB + 1, "disk record 1 at byte 40: a ZERO of" },
	{ 56, 8, 0, "a ZERO of 0 bytes" },
	{ 56, 8, UINT64_MAX, "makes no sense" },
	{ 64, 1, HF_WIRE_DISK_TRIM, "a TRIM with the flags 0x03" },
	{ 64, 1, HF_WIRE_DISK_WRITE, "a WRITE with the flags 0x03" },
	{ 65, 1, 0, "disk record 1: a ZERO of 4611686018426339328 bytes at 1048576 of disk 0" },
	{ 66, 1, 4, "a ZERO with the flags 0x04" },
	{ 71, 1, 1, "a reserved field" },
	/* the TRIM */
	{ 80, 8, 2, "disk record 2: a TRIM of 2 bytes at 4194303 of disk 0, which has 4194304" },
	{ 80, 8, 0, "a TRIM of 0 bytes" },
	{ 90, 1, HF_WIRE_DISK_MAY_TRIM, "a TRIM with the flags 0x01" },
	/* the FLUSH */
	{ 96, 8, 1, "a FLUSH of 0 bytes at 1 makes no sense" },
	{ 104, 8, 1, "a FLUSH of 1 bytes at 0 makes no sense" },
	{ 112, 1, HF_WIRE_DISK_TRIM, "a TRIM of 0 bytes at 0 makes no sense" },
	{ 114, 1, HF_WIRE_DISK_FUA, "disk record 3 at byte 88: a FLUSH with the flags 0x02" },
};

TEST(bad_messages_are_refused)
{
	for (size_t i = 0; i < sizeof(patches) / sizeof(*patches); i++) {
		const struct patch *p = &patches[i];
		struct hf_err err = { "accepted" };
		size_t len = sample();
		uint32_t n = 99;
		uint8_t le[8];

		CHECK_EQ(hf_wire_disk_check(payload, len, sizes, 2, &n, NULL), 0);
		CHECK_EQ(n, 4);
		n = 99;
		hf_le64_put(le, p->value);
		memcpy(payload + p->at, le, p->bytes);
		CHECK_EQ(hf_wire_disk_check(payload, len, sizes, 2, &n, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, p->says);
		CHECK_EQ(n, 99);
	}
}

/* The disks are the receiver's: nothing is written beyond what it has. */
TEST(what_is_beyond_a_disk_is_refused)
{
	size_t len = sample();
	uint64_t shorter[] = { 4 * MIB - 1, HF_WIRE_DISK_BYTES_MAX };
	uint32_t n = 99;

	CHECK_EQ(hf_wire_disk_check(payload, len, shorter, 2, &n, NULL), -EBADMSG);
	shorter[0] = 0;
	CHECK_EQ(hf_wire_disk_check(payload, len, shorter, 2, &n, NULL), -EBADMSG);
	CHECK_EQ(hf_wire_disk_check(payload, len, sizes, 1, &n, NULL), -EBADMSG);
	CHECK_EQ(hf_wire_disk_check(payload, len, NULL, 0, &n, NULL), -EBADMSG);
	CHECK_EQ(n, 99);
}

/* Copied to memory of exactly that size, so that a sanitizer sees any read beyond the end. */
TEST(every_truncation_is_refused)
{
	size_t full = sample();
	uint32_t n;

	for (size_t len = 0; len < full; len++) {
		struct hf_err err = { "" };
		uint8_t *exact = malloc(len + !len);

		CHECK(exact);
		memcpy(exact, payload, len);
		CHECK_EQ(hf_wire_disk_check(exact, len, sizes, 2, &n, &err), -EBADMSG);
		CHECK(err.text[0] != '\0');
		free(exact);
	}
	payload[full] = 0;
	CHECK_EQ(hf_wire_disk_check(payload, full + 1, sizes, 2, &n, NULL), -EBADMSG);
}

/* The walk does not know of disks: it is also used where only their number is known. */
TEST(the_walk_stops_at_what_is_bad)
{
	size_t len = sample() - HF_WIRE_DISK_HEAD_BYTES;
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record r = next(len, &cursor);
	struct hf_err err = { "" };

	records[cursor.offset + 16] = 9;
	r.disk = 77;
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(hf_wire_disk_next(records, len, &cursor, &r, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, "disk record 1 at byte 40: the kind 9 is unknown");
		CHECK_EQ(cursor.offset, 40);
		CHECK_EQ(r.disk, 77);
	}
}

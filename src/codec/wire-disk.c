/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is looked at may lie in memory that another process writes to: each field is read once, and what
 * is checked is what was read.
 */
#include "codec/wire-disk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

/* Offsets in a record. */
enum {
	AT_OFFSET = 0,
	AT_LENGTH = 8,
	AT_KIND = 16,
	AT_DISK = 17,
	AT_FLAGS = 18,
	AT_RESERVED = 19,
};

#define ALIGN_BYTES 8u

static_assert(HF_WIRE_DISK_HEAD_BYTES + HF_WIRE_DISK_RECORD_BYTES + HF_WIRE_DISK_DATA_MAX <=
		      HF_WIRE_PAYLOAD_MAX,
	      "the longest record fits");
static_assert(HF_WIRE_DISK_DATA_MAX % ALIGN_BYTES == 0, "the longest record needs no padding");

static const struct {
	const char *name;
	uint8_t flags; /* that it may have */
} kinds[HF_WIRE_DISK_KIND_COUNT] = {
	[HF_WIRE_DISK_WRITE] = { "WRITE", HF_WIRE_DISK_FUA },
	[HF_WIRE_DISK_ZERO] = { "ZERO", HF_WIRE_DISK_MAY_TRIM | HF_WIRE_DISK_FUA },
	[HF_WIRE_DISK_TRIM] = { "TRIM", HF_WIRE_DISK_FUA },
	[HF_WIRE_DISK_FLUSH] = { "FLUSH", 0 },
};

static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static size_t padding_bytes(uint64_t data_bytes)
{
	return (size_t)(-data_bytes % ALIGN_BYTES);
}

static bool is_range_valid(const struct hf_wire_disk_record *r)
{
	uint64_t max = r->kind == HF_WIRE_DISK_WRITE ? HF_WIRE_DISK_DATA_MAX
						     : HF_WIRE_DISK_BYTES_MAX;

	if (r->kind == HF_WIRE_DISK_FLUSH)
		return r->offset_bytes == 0 && r->length_bytes == 0;
	return r->length_bytes > 0 && r->length_bytes <= max &&
	       r->offset_bytes <= HF_WIRE_DISK_BYTES_MAX &&
	       r->length_bytes <= HF_WIRE_DISK_BYTES_MAX - r->offset_bytes;
}

size_t hf_wire_disk_record_bytes(enum hf_wire_disk_kind kind, uint64_t length_bytes)
{
	if (kind != HF_WIRE_DISK_WRITE)
		return HF_WIRE_DISK_RECORD_BYTES;
	assert(length_bytes <= HF_WIRE_DISK_DATA_MAX);
	return HF_WIRE_DISK_RECORD_BYTES + (size_t)length_bytes + padding_bytes(length_bytes);
}

void hf_wire_disk_put_record(uint8_t *buf, const struct hf_wire_disk_record *record)
{
	assert(record->kind > 0 && record->kind < HF_WIRE_DISK_KIND_COUNT);
	assert(record->disk < HF_WIRE_DISKS_MAX);
	assert((record->flags & ~kinds[record->kind].flags) == 0);
	assert(is_range_valid(record));
	memset(buf, 0, HF_WIRE_DISK_RECORD_BYTES);
	hf_le64_put(buf + AT_OFFSET, record->offset_bytes);
	hf_le64_put(buf + AT_LENGTH, record->length_bytes);
	buf[AT_KIND] = (uint8_t)record->kind;
	buf[AT_DISK] = record->disk;
	buf[AT_FLAGS] = record->flags;
	if (record->kind == HF_WIRE_DISK_WRITE)
		memset(buf + HF_WIRE_DISK_RECORD_BYTES + record->length_bytes, 0,
		       padding_bytes(record->length_bytes));
}

/* The head of a record, all but whether its data is there. */
static int check_head(const uint8_t *p, struct hf_wire_disk_record *r, struct hf_err *err)
{
	unsigned int kind = p[AT_KIND];

	if (kind == 0 || kind >= HF_WIRE_DISK_KIND_COUNT) {
		hf_err_set(err, "the kind %u is unknown", kind);
		return -EINVAL;
	}
	*r = (struct hf_wire_disk_record){ .offset_bytes = hf_le64_get(p + AT_OFFSET),
					   .length_bytes = hf_le64_get(p + AT_LENGTH),
					   .kind = (enum hf_wire_disk_kind)kind,
					   .disk = p[AT_DISK],
					   .flags = p[AT_FLAGS] };
	if (r->disk >= HF_WIRE_DISKS_MAX)
		hf_err_set(err, "disk %u, at most %d are possible", r->disk, HF_WIRE_DISKS_MAX);
	else if (r->flags & ~kinds[kind].flags)
		hf_err_set(err, "a %s with the flags 0x%02x", kinds[kind].name, r->flags);
	else if (!is_zero(p + AT_RESERVED, HF_WIRE_DISK_RECORD_BYTES - AT_RESERVED))
		hf_err_set(err, "a reserved field is not zero");
	else if (!is_range_valid(r))
		hf_err_set(err, "a %s of %" PRIu64 " bytes at %" PRIu64 " makes no sense",
			   kinds[kind].name, r->length_bytes, r->offset_bytes);
	else
		return 0;
	return -EINVAL;
}

static int check_record(const uint8_t *p, size_t len, struct hf_wire_disk_record *r, size_t *ret_n,
			struct hf_err *err)
{
	if (len < HF_WIRE_DISK_RECORD_BYTES) {
		hf_err_set(err, "it is cut off in its head");
		return -EINVAL;
	}
	if (check_head(p, r, err) < 0)
		return -EINVAL;
	*ret_n = hf_wire_disk_record_bytes(r->kind, r->length_bytes);
	if (*ret_n > len) {
		hf_err_set(err, "its %" PRIu64 " bytes of data are cut off", r->length_bytes);
		return -EINVAL;
	}
	if (r->kind != HF_WIRE_DISK_WRITE)
		return 0;
	r->data = p + HF_WIRE_DISK_RECORD_BYTES;
	if (is_zero(r->data + r->length_bytes, padding_bytes(r->length_bytes)))
		return 0;
	hf_err_set(err, "the padding behind its data is not zero");
	return -EINVAL;
}

int hf_wire_disk_next(const uint8_t *records, size_t len, struct hf_wire_disk_cursor *cursor,
		      struct hf_wire_disk_record *ret, struct hf_err *err)
{
	struct hf_wire_disk_record record;
	size_t n = 0;

	assert(cursor->offset <= len);
	if (cursor->offset == len)
		return HF_WIRE_DISK_END;
	if (check_record(records + cursor->offset, len - cursor->offset, &record, &n, err) < 0) {
		hf_err_prefix(err, "disk record %" PRIu32 " at byte %zu: ", cursor->n,
			      cursor->offset);
		return -EBADMSG;
	}
	cursor->offset += n;
	cursor->n++;
	*ret = record;
	return HF_WIRE_DISK_RECORD;
}

static int check_inside(const struct hf_wire_disk_record *r, const uint64_t *disk_bytes,
			size_t n_disks, struct hf_err *err)
{
	if (r->disk >= n_disks)
		hf_err_set(err, "disk %u, there are %zu here", r->disk, n_disks);
	else if (r->offset_bytes > disk_bytes[r->disk] ||
		 r->length_bytes > disk_bytes[r->disk] - r->offset_bytes)
		hf_err_set(err,
			   "a %s of %" PRIu64 " bytes at %" PRIu64 " of disk %u, which has %" PRIu64
			   " bytes",
			   kinds[r->kind].name, r->length_bytes, r->offset_bytes, r->disk,
			   disk_bytes[r->disk]);
	else
		return 0;
	return -EBADMSG;
}

static int check_records(const uint8_t *records, size_t len, const uint64_t *disk_bytes,
			 size_t n_disks, uint32_t *ret_n, struct hf_err *err)
{
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record record;
	int r;

	while ((r = hf_wire_disk_next(records, len, &cursor, &record, err)) > 0) {
		r = check_inside(&record, disk_bytes, n_disks, err);
		if (r < 0) {
			hf_err_prefix(err, "disk record %" PRIu32 ": ", cursor.n - 1);
			return r;
		}
	}
	*ret_n = cursor.n;
	return r;
}

int hf_wire_disk_check(const uint8_t *payload, size_t len, const uint64_t *disk_bytes,
		       size_t n_disks, uint32_t *ret_records, struct hf_err *err)
{
	uint32_t announced, n = 0;
	int r;

	if (len < HF_WIRE_DISK_HEAD_BYTES) {
		hf_err_set(err, "it ends inside its count of records");
		return -EBADMSG;
	}
	announced = hf_le32_get(payload);
	if (announced == 0 || announced > HF_WIRE_DISK_RECORDS_MAX) {
		hf_err_set(err, "%" PRIu32 " disk records, possible is 1 to %d", announced,
			   HF_WIRE_DISK_RECORDS_MAX);
		return -EBADMSG;
	}
	if (hf_le32_get(payload + 4) != 0) {
		hf_err_set(err, "a reserved field is not zero");
		return -EBADMSG;
	}
	r = check_records(payload + HF_WIRE_DISK_HEAD_BYTES, len - HF_WIRE_DISK_HEAD_BYTES,
			  disk_bytes, n_disks, &n, err);
	if (r == 0 && n != announced) {
		hf_err_set(err, "it has %" PRIu32 " disk records, it announces %" PRIu32, n,
			   announced);
		r = -EBADMSG;
	}
	if (r == 0)
		*ret_records = n;
	return r;
}

size_t hf_wire_disk_finish(uint8_t *message, enum hf_wire_type type, uint32_t n_records,
			   size_t records_bytes)
{
	size_t len = HF_WIRE_DISK_HEAD_BYTES + records_bytes;

	assert(type == HF_WIRE_DISK || type == HF_WIRE_DISK_SYNC);
	assert(n_records > 0 && n_records <= HF_WIRE_DISK_RECORDS_MAX);
	assert(records_bytes >= (size_t)n_records * HF_WIRE_DISK_RECORD_BYTES);
	assert(records_bytes % ALIGN_BYTES == 0);
	hf_wire_put_header(message, type, len);
	hf_le32_put(message + HF_WIRE_HEADER_BYTES, n_records);
	hf_le32_put(message + HF_WIRE_HEADER_BYTES + 4, 0);
	return HF_WIRE_HEADER_BYTES + len;
}

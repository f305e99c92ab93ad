/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk made of steps: raw bytes; a header or an entry whose fields the input changes, with its
 * checksums right afterwards, entries chained. Whatever stands there as a redo journal: it is
 * refused with a sentence, or opened, and then only whole records inside of the disks come out, and
 * what is added is found again.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "disk/image-internal.h"
#include "disk/redo-internal.h"

enum { AREA = 16 * 4096, SIZE = 4 * 4096 + 2 * AREA, DISK = 1 << 20 };

static uint8_t disk[SIZE];

/* No files, no exports here. */
int hf_image_file_open(const struct hf_image_config *config, struct hf_image **ret,
		       struct hf_err *err)
{
	(void)config;
	(void)ret;
	(void)err;
	return -ENOENT;
}

int hf_image_nbd_open(const struct hf_image_config *config, struct hf_image **ret,
		      struct hf_err *err)
{
	return hf_image_file_open(config, ret, err);
}

static int disk_read(struct hf_image *i, void *buf, size_t len, uint64_t offset)
{
	FUZZ_CHECK(i && offset <= SIZE && len <= SIZE - offset);
	memcpy(buf, disk + offset, len);
	return 0;
}

static int disk_writev(struct hf_image *i, const struct iovec *iov, int n, uint64_t offset)
{
	size_t len = hf_image_iov_bytes(iov, n);

	FUZZ_CHECK(i && offset <= SIZE && len <= SIZE - offset);
	hf_image_gather(iov, n, 0, disk + offset, len);
	return 0;
}

static int disk_flush(struct hf_image *i)
{
	(void)i;
	return 0;
}

static void disk_close(struct hf_image *i)
{
	hf_image_fini(i);
}

static const struct hf_image_ops disk_ops = {
	.read = disk_read, .writev = disk_writev, .flush = disk_flush, .close = disk_close
};

/* ---- the disk ---- */

struct input {
	const uint8_t *data;
	size_t size;
};

static uint8_t next(struct input *in)
{
	if (in->size == 0)
		return 0;
	in->size--;
	return *in->data++;
}

static void take(struct input *in, uint8_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = next(in);
}

static void seal(uint8_t *bytes, size_t len, size_t at)
{
	hf_le32_put(bytes + at, 0);
	hf_le32_put(bytes + at, hf_crc32c(0, bytes, len));
}

/* Some words of it become the input's. */
static void change(struct input *in, uint8_t *bytes)
{
	for (unsigned int n = next(in) % 4; n > 0; n--)
		take(in, bytes + (size_t)next(in) % 60 * 4, 4);
}

static void put_raw(struct input *in)
{
	size_t at = (size_t)next(in) % (SIZE / 4096) * 4096 + (size_t)next(in) * 16;
	size_t n = next(in);

	take(in, disk + at, n < SIZE - at ? n : SIZE - at);
}

static void put_header(struct input *in)
{
	unsigned int slot = next(in) % 4;
	uint8_t *block = disk + (size_t)slot * 4096;
	struct hf_redo_header h = { .serial = 1 + slot % 2,
				    .generation = 1 + slot / 2,
				    .first_seq = 1,
				    .root = 9,
				    .start_bytes = HF_REDO_HEADERS_BYTES + slot / 2 * AREA,
				    .area_bytes = AREA,
				    .condition = HF_DISK_HELD,
				    .n_disks = 1,
				    .disk_bytes = { DISK },
				    .vm = "vm" };

	hf_redo_put_header(block, &h);
	change(in, block);
	seal(block, 4096, 12);
}

struct chain {
	uint64_t seq, prev;
	size_t at;
};

static void put_entry(struct input *in, struct chain *c)
{
	static uint8_t payload[AREA];
	unsigned int area = next(in) % 2;
	size_t len = next(in) | (size_t)next(in) % 8 << 8;
	struct hf_redo_entry e = { .generation = 1 + area,
				   .seq = c->seq,
				   .epoch = c->seq,
				   .id = c->seq * 1000,
				   .prev = c->prev,
				   .payload_bytes = len };
	uint8_t *at = disk + HF_REDO_HEADERS_BYTES + area * AREA + c->at;

	if (c->at + hf_redo_entry_bytes(len) > AREA)
		return;
	take(in, payload, len);
	memcpy(at + HF_REDO_ENTRY_HEAD_BYTES, payload, len);
	e.payload_crc32c = hf_crc32c(0, payload, len);
	hf_redo_put_entry(at, &e);
	for (unsigned int n = next(in) % 4; n > 0; n--)
		take(in, at + (size_t)next(in) % 16 * 4, 4);
	seal(at, HF_REDO_ENTRY_HEAD_BYTES, 4);
	c->seq++;
	c->prev = e.id;
	c->at += hf_redo_entry_bytes(len);
}

static void make_disk(struct input *in)
{
	const struct chain begin = { .seq = 1, .prev = 9 };
	struct chain c = begin;

	memset(disk, 0, sizeof(disk));
	while (in->size > 0) {
		switch (next(in) % 4) {
		case 0:
			put_raw(in);
			break;
		case 1:
			put_header(in);
			break;
		case 2:
			put_entry(in, &c);
			break;
		default:
			c = begin;
		}
	}
}

/* ---- the journal ---- */

static struct hf_redo *open_disk(struct hf_image *image)
{
	static const uint64_t disk_bytes[] = { DISK };
	struct hf_redo_config config = { .location = "fuzz",
					 .vm = "vm",
					 .area_bytes = AREA,
					 .n_disks = 1,
					 .disk_bytes = disk_bytes };
	struct hf_err err = { "" };
	struct hf_redo *r = NULL;
	int e;

	*image = (struct hf_image){ .size_bytes = SIZE };
	hf_image_init(image, &disk_ops, &(struct hf_image_config){ .size_bytes = SIZE });
	e = hf_redo_open_image(&config, image, &r, &err);
	FUZZ_CHECK(e == 0 || e == -EBADMSG);
	FUZZ_CHECK((e < 0) == (err.text[0] != '\0'));
	FUZZ_CHECK((e == 0) == (r != NULL));
	return r;
}

struct replayed {
	uint64_t n, epoch;
};

static int check_entry(void *ctx, uint64_t epoch, const uint8_t *records, size_t len)
{
	struct replayed *p = ctx;
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record r;
	int n;

	FUZZ_CHECK(epoch > p->epoch);
	p->epoch = epoch;
	p->n++;
	while ((n = hf_wire_disk_next(records, len, &cursor, &r, NULL)) == HF_WIRE_DISK_RECORD)
		FUZZ_CHECK(r.disk == 0 && r.offset_bytes <= DISK &&
			   r.length_bytes <= DISK - r.offset_bytes);
	FUZZ_CHECK(n == HF_WIRE_DISK_END);
	return 0;
}

static void check_state(const struct hf_redo *r, const struct hf_redo_state *want)
{
	struct hf_redo_state s;

	hf_redo_get_state(r, &s);
	FUZZ_CHECK(s.condition == want->condition && hf_id_is_equal(s.session, want->session));
	FUZZ_CHECK(s.epoch == want->epoch && s.entries == want->entries);
	FUZZ_CHECK(s.generation == want->generation);
}

static void go_on(struct hf_redo *r, struct hf_image *image)
{
	struct hf_redo_state s;
	int e = -ENOSPC;

	hf_redo_get_state(r, &s);
	if (s.epoch < UINT64_MAX && s.generation < UINT64_MAX)
		e = hf_redo_append(r, s.epoch + 1, NULL, 0, NULL);
	FUZZ_CHECK(e == 0 || e == -ENOSPC);
	FUZZ_CHECK(hf_redo_sync(r, NULL) == 0);
	hf_redo_get_state(r, &s);
	hf_redo_close(r);
	r = open_disk(image);
	FUZZ_CHECK(r);
	check_state(r, &s);
	/* An area in the middle of the disk may leave no room for another. */
	e = s.generation < UINT64_MAX
		    ? hf_redo_take_over(r, HF_DISK_OWNED, (struct hf_id){ 5, 5 }, NULL)
		    : -ENOSPC;
	FUZZ_CHECK(e == 0 || e == -ENOSPC);
	if (e == 0) {
		s.generation++;
		s.condition = HF_DISK_OWNED;
		s.session = (struct hf_id){ 5, 5 };
		s.epoch = s.entries = 0;
	}
	check_state(r, &s);
	hf_redo_close(r);
	r = open_disk(image);
	FUZZ_CHECK(r);
	check_state(r, &s);
	hf_redo_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct replayed p = { 0 };
	struct hf_redo_state s;
	struct hf_err err = { "" };
	struct hf_image image;
	struct hf_redo *r;
	int e;

	make_disk(&in);
	r = open_disk(&image);
	if (!r)
		return 0;
	hf_redo_get_state(r, &s);
	e = hf_redo_replay(r, check_entry, &p, &err);
	FUZZ_CHECK(e == 0 || e == -EBADMSG);
	FUZZ_CHECK((e < 0) == (err.text[0] != '\0'));
	FUZZ_CHECK(p.n == s.entries || e < 0);
	go_on(r, &image);
	return 0;
}

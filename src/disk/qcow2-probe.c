/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is to be known of a qcow2 file before QEMU opens it: docs/interop/qcow2.txt of QEMU has the
 * format.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "disk/image.h"
#include "disk/qcow2-internal.h"

#define MAGIC 0x514649fbu /* "QFI\xfb" */
#define BLOCK_BYTES UINT64_C(65536) /* of the export's size */
#define SPARE_BYTES ((uint64_t)1 << 30)
#define HEADER_V2_BYTES 72u
#define HEADER_V3_BYTES 104u
#define CLUSTER_BITS_MIN 9u
#define CLUSTER_BITS_MAX 21u
#define L1_MAX_BYTES ((uint64_t)32 << 20) /* QEMU's own limit */
#define BACKING_FILE_MAX 1023u

enum offset {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_BACKING_OFFSET = 8,
	AT_BACKING_BYTES = 16,
	AT_CLUSTER_BITS = 20,
	AT_VIRTUAL_BYTES = 24,
	AT_INCOMPATIBLE = 72,
	AT_REFCOUNT_ORDER = 96,
	AT_HEADER_BYTES = 100,
};

enum incompatible { HAS_DATA_FILE = 1u << 2, HAS_LARGE_L2_ENTRIES = 1u << 4 };

struct geometry {
	uint32_t version;
	uint32_t cluster_bits;
	uint32_t refcount_order;
	uint64_t incompatible;
	uint64_t virtual_bytes;
};

static uint64_t be64_get(const uint8_t *p)
{
	return (uint64_t)hf_be32_get(p) << 32 | hf_be32_get(p + 4);
}

static uint64_t divide_up(uint64_t n, uint64_t by)
{
	return n / by + !!(n % by);
}

static uint64_t entry_bytes(const struct geometry *g)
{
	return g->incompatible & HAS_LARGE_L2_ENTRIES ? 16 : 8;
}

/* Tables that say where the data is. */
static uint64_t l2_tables(const struct geometry *g)
{
	uint64_t cluster = (uint64_t)1 << g->cluster_bits;

	return divide_up(divide_up(g->virtual_bytes, cluster), cluster / entry_bytes(g));
}

/*
 * Everything allocated: header, data, L2 and L1 tables, and the reference counts of all of it and
 * of themselves. Those are a small part of what they count (at most 1/64, with the smallest
 * clusters and the largest counts: 64 counters in a block of 512 bytes), so that counting them
 * three times over settles it.
 */
static uint64_t worst_bytes(const struct geometry *g)
{
	uint64_t cluster = (uint64_t)1 << g->cluster_bits, counts = 0, total = 0;
	uint64_t l2 = l2_tables(g), data = divide_up(g->virtual_bytes, cluster);
	uint64_t fixed = 1 + data + l2 + divide_up(l2 * 8, cluster);
	uint64_t per_block = (cluster * 8) >> g->refcount_order;

	for (int i = 0; i < 4; i++) {
		total = fixed + counts;
		counts = divide_up(total, per_block);
		counts += divide_up(counts * 8, cluster) + 1;
	}
	return (fixed + counts) * cluster;
}

static uint64_t room_for(const struct geometry *g)
{
	uint64_t room = 2 * worst_bytes(g) + SPARE_BYTES;

	return divide_up(room, BLOCK_BYTES) * BLOCK_BYTES;
}

static int bad(struct hf_err *err, const char *what, uint64_t value)
{
	hf_err_set(err, "its qcow2 header names %s %llu", what, (unsigned long long)value);
	return -EBADMSG;
}

static int get_v3(const uint8_t *buf, size_t len, struct geometry *g, struct hf_err *err)
{
	uint32_t header_bytes;

	g->refcount_order = 4;
	if (g->version < 3)
		return 0;
	if (len < HEADER_V3_BYTES)
		return bad(err, "version 3, but it ends at byte", len);
	g->incompatible = be64_get(buf + AT_INCOMPATIBLE);
	g->refcount_order = hf_be32_get(buf + AT_REFCOUNT_ORDER);
	header_bytes = hf_be32_get(buf + AT_HEADER_BYTES);
	if (g->refcount_order > 6)
		return bad(err, "a refcount order of", g->refcount_order);
	if (header_bytes < HEADER_V3_BYTES || header_bytes % 8 != 0 ||
	    header_bytes > (uint64_t)1 << g->cluster_bits)
		return bad(err, "a header length of", header_bytes);
	return 0;
}

static int get_geometry(const uint8_t *buf, size_t len, struct geometry *g, struct hf_err *err)
{
	uint64_t l1_entries;
	int r;

	if (len < HEADER_V2_BYTES)
		return bad(err, "nothing: it ends at byte", len);
	g->version = hf_be32_get(buf + AT_VERSION);
	g->cluster_bits = hf_be32_get(buf + AT_CLUSTER_BITS);
	g->virtual_bytes = be64_get(buf + AT_VIRTUAL_BYTES);
	if (g->version != 2 && g->version != 3)
		return bad(err, "version", g->version);
	if (g->cluster_bits < CLUSTER_BITS_MIN || g->cluster_bits > CLUSTER_BITS_MAX)
		return bad(err, "a cluster size of 2 to the power of", g->cluster_bits);
	r = get_v3(buf, len, g, err);
	if (r < 0)
		return r;
	l1_entries = l2_tables(g);
	if (l1_entries > L1_MAX_BYTES / 8)
		return bad(err, "a size that its clusters cannot map:", g->virtual_bytes);
	return 0;
}

static int get_backing_file(const uint8_t *buf, size_t len, const struct geometry *g,
			    struct hf_qcow2_info *info, struct hf_err *err)
{
	uint64_t offset = be64_get(buf + AT_BACKING_OFFSET);
	uint32_t bytes = hf_be32_get(buf + AT_BACKING_BYTES);
	uint64_t cluster = (uint64_t)1 << g->cluster_bits;

	if (offset == 0)
		return 0;
	if (bytes == 0 || bytes > BACKING_FILE_MAX)
		return bad(err, "a backing file whose name has bytes:", bytes);
	if (offset > cluster - bytes || offset > len || bytes > len - offset)
		return bad(err, "a backing file whose name would stand at byte", offset);
	if (memchr(buf + offset, 0, bytes))
		return bad(err, "a backing file with a NUL in its name at byte", offset);
	info->has_backing_file = true;
	memcpy(info->backing_file, buf + offset, bytes);
	return 0;
}

int hf_qcow2_parse(const uint8_t *buf, size_t len, struct hf_qcow2_info *ret, struct hf_err *err)
{
	struct hf_qcow2_info info = { 0 };
	struct geometry g = { 0 };
	int r;

	if (len < 4 || hf_be32_get(buf + AT_MAGIC) != MAGIC) {
		*ret = info;
		return 0;
	}
	r = get_geometry(buf, len, &g, err);
	if (r == 0)
		r = get_backing_file(buf, len, &g, &info, err);
	if (r < 0)
		return r;
	info.is_qcow2 = true;
	info.virtual_bytes = g.virtual_bytes;
	info.has_data_file = g.incompatible & HAS_DATA_FILE;
	info.room_bytes = room_for(&g);
	*ret = info;
	return 0;
}

/* A file that grows may have grown more than anybody expects; a device is as large as it is. */
static void fit(struct hf_qcow2_info *info, const struct hf_image *image)
{
	uint64_t own = hf_image_size_bytes(image);

	if (!hf_image_can_grow(image))
		info->room_bytes = own;
	else if (own > info->room_bytes)
		info->room_bytes = divide_up(own, BLOCK_BYTES) * BLOCK_BYTES;
}

int hf_qcow2_probe(const char *location, struct hf_qcow2_info *ret, struct hf_err *err)
{
	struct hf_image_config config = { .location = location, .is_read_only = true };
	static const size_t max = HF_QCOW2_HEAD_BYTES;
	uint8_t buf[HF_QCOW2_HEAD_BYTES];
	struct hf_image *image;
	size_t len;
	int r = hf_image_open(&config, &image, err);

	if (r < 0)
		return r;
	len = hf_image_size_bytes(image) < max ? (size_t)hf_image_size_bytes(image) : max;
	r = hf_image_read(image, buf, len, 0);
	if (r < 0)
		hf_err_set(err, "%s: %s", location, strerror(-r));
	if (r == 0) {
		r = hf_qcow2_parse(buf, len, ret, err);
		if (r < 0)
			hf_err_prefix(err, "%s: ", location);
	}
	if (r == 0 && ret->is_qcow2)
		fit(ret, image);
	hf_image_close(image);
	return r;
}

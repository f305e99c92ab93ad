/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/leasedisk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "codec/leasedisk-internal.h"

#define MIB (1024u * 1024)
#define IO_TIMEOUT_DEFAULT_S 10 /* what 0 means */
#define IO_TIMEOUT_MAX_S 255 /* sanlock writes eight bits */

static const struct hf_lease_geometry geometries[] = {
	{ 512, MIB, 2000 },      { 4096, MIB, 250 },      { 4096, 2 * MIB, 500 },
	{ 4096, 4 * MIB, 1000 }, { 4096, 8 * MIB, 2000 },
};

int hf_lease_geometry_make(uint32_t sector_bytes, uint32_t align_bytes,
			   struct hf_lease_geometry *ret, struct hf_err *err)
{
	for (size_t i = 0; i < sizeof(geometries) / sizeof(*geometries); i++) {
		if (geometries[i].sector_bytes == sector_bytes &&
		    geometries[i].align_bytes == align_bytes) {
			*ret = geometries[i];
			return 0;
		}
	}
	hf_err_set(err,
		   "sectors of %" PRIu32 " bytes with areas of %" PRIu32
		   " bytes: there are 512 with 1 MiB and 4096 with 1, 2, 4 or 8 MiB",
		   sector_bytes, align_bytes);
	return -EINVAL;
}

/* Areas from before sanlock 3.7 do not say their size. */
static uint32_t align_from_flags(uint32_t flags, uint32_t sector_bytes)
{
	uint32_t align = (flags & FLAG_ALIGN_MASK) >> FLAG_ALIGN_SHIFT;

	if (align)
		return align * MIB;
	return sector_bytes == 512 ? MIB : 8 * MIB;
}

static void identify_geometry(const uint8_t *bytes, enum hf_lease_kind kind,
			      struct hf_lease_geometry *ret)
{
	uint32_t flags = hf_le32_get(bytes + R_FLAGS);
	uint32_t sector = hf_le32_get(bytes + R_SECTOR_BYTES);

	/* The index has its flags and sector size at the same places, but counts flags from 0. */
	if (kind == HF_LEASE_KIND_INDEX)
		flags = (flags & 0xf) << FLAG_ALIGN_SHIFT;
	if (hf_lease_geometry_make(sector, align_from_flags(flags, sector), ret, NULL) < 0)
		memset(ret, 0, sizeof(*ret));
}

enum hf_lease_kind hf_lease_identify(const uint8_t *bytes, size_t len,
				     struct hf_lease_geometry *ret)
{
	static const struct {
		uint32_t magic;
		enum hf_lease_kind kind;
	} magics[] = {
		{ LOCKSPACE_MAGIC, HF_LEASE_KIND_LOCKSPACE },
		{ RESOURCE_MAGIC, HF_LEASE_KIND_RESOURCE },
		{ CLEARED_MAGIC, HF_LEASE_KIND_CLEARED },
		{ INDEX_MAGIC, HF_LEASE_KIND_INDEX },
	};
	size_t used = 0;

	memset(ret, 0, sizeof(*ret));
	if (len < 512)
		return HF_LEASE_KIND_FOREIGN;
	for (size_t i = 0; i < sizeof(magics) / sizeof(*magics); i++) {
		if (hf_le32_get(bytes) == magics[i].magic) {
			identify_geometry(bytes, magics[i].kind, ret);
			return magics[i].kind;
		}
	}
	while (used < len && bytes[used] == 0)
		used++;
	return used == len ? HF_LEASE_KIND_NONE : HF_LEASE_KIND_FOREIGN;
}

const char *hf_lease_kind_name(enum hf_lease_kind kind)
{
	switch (kind) {
	case HF_LEASE_KIND_NONE:
		return "nothing";
	case HF_LEASE_KIND_LOCKSPACE:
		return "lockspace";
	case HF_LEASE_KIND_RESOURCE:
		return "lease";
	case HF_LEASE_KIND_CLEARED:
		return "deleted lease";
	case HF_LEASE_KIND_INDEX:
		return "index";
	case HF_LEASE_KIND_FOREIGN:
		return "something else";
	}
	return "?";
}

/* ---- names ---- */

void hf_lease_name_put(uint8_t *bytes, const char *name)
{
	size_t len = strnlen(name, HF_LEASE_NAME_BYTES);

	memset(bytes, 0, HF_LEASE_NAME_BYTES);
	memcpy(bytes, name, len);
}

void hf_lease_name_get(const uint8_t *bytes, char *ret)
{
	memset(ret, 0, HF_LEASE_NAME_BYTES + 1);
	memcpy(ret, bytes, strnlen((const char *)bytes, HF_LEASE_NAME_BYTES));
}

void hf_lease_names(const uint8_t *sector, char *ret_space, char *ret_resource)
{
	hf_lease_name_get(sector + R_SPACE, ret_space);
	hf_lease_name_get(sector + R_RESOURCE, ret_resource);
}

/* A name from the disk, in a sentence: what a terminal might take for an order is a '?'. */
static void make_printable(char *name)
{
	for (; *name; name++)
		if (*name < ' ' || *name > '~')
			*name = '?';
}

static int check_name(const uint8_t *bytes, const char *what, const char *want, struct hf_err *err)
{
	char name[HF_LEASE_NAME_BYTES + 1], wanted[HF_LEASE_NAME_BYTES + 1] = "";

	if (!want)
		return 0;
	hf_lease_name_get(bytes, name);
	if (strncmp(name, want, HF_LEASE_NAME_BYTES) == 0)
		return 0;
	memcpy(wanted, want, strnlen(want, HF_LEASE_NAME_BYTES)); /* may be from the disk, too */
	make_printable(name);
	make_printable(wanted);
	hf_err_set(err, "it is %s \"%s\"'s, not \"%s\"'s", what, name, wanted);
	return -EBADMSG;
}

/* ---- what slot and leader have in common ---- */

struct record_kind {
	const char *name;
	uint32_t magic;
	uint32_t version;
};

static const struct record_kind slot_kind = { "a slot", LOCKSPACE_MAGIC, LOCKSPACE_VERSION };
static const struct record_kind leader_kind = { "a leader record", RESOURCE_MAGIC,
						RESOURCE_VERSION };

static int check_magic(const uint8_t *sector, const struct record_kind *kind, struct hf_err *err)
{
	uint32_t magic = hf_le32_get(sector + R_MAGIC), version = hf_le32_get(sector + R_VERSION);

	if (magic == CLEARED_MAGIC && kind == &leader_kind) {
		hf_err_set(err, "this lease has been deleted (magic 0x%08" PRIx32 ")", magic);
		return -EBADMSG;
	}
	if (magic != kind->magic) {
		hf_err_set(err, "the magic is 0x%08" PRIx32 ", %s has 0x%08" PRIx32, magic,
			   kind->name, kind->magic);
		return -EBADMSG;
	}
	if (version >> 16 != kind->version >> 16) {
		hf_err_set(err, "version %" PRIu32 ".%" PRIu32 " is unknown, %s has %" PRIu32 ".x",
			   version >> 16, version & 0xffff, kind->name, kind->version >> 16);
		return -EBADMSG;
	}
	return 0;
}

static int check_checksum(const uint8_t *bytes, size_t at, struct hf_err *err)
{
	uint32_t stored = hf_le32_get(bytes + at), computed = hf_lease_checksum(bytes, at);

	if (stored == computed)
		return 0;
	hf_err_set(err, "the checksum is 0x%08" PRIx32 ", but that of its contents is 0x%08" PRIx32,
		   stored, computed);
	return -EBADMSG;
}

static int check_geometry(const uint8_t *sector, const struct hf_lease_geometry *g,
			  struct hf_err *err)
{
	uint32_t sector_bytes = hf_le32_get(sector + R_SECTOR_BYTES);
	uint32_t align = align_from_flags(hf_le32_get(sector + R_FLAGS), sector_bytes);

	if (sector_bytes == g->sector_bytes && align == g->align_bytes)
		return 0;
	hf_err_set(err,
		   "it is made for sectors of %" PRIu32 " and areas of %" PRIu32
		   " bytes, here they have %" PRIu32 " and %" PRIu32,
		   sector_bytes, align, g->sector_bytes, g->align_bytes);
	return -EBADMSG;
}

static int check_record(const uint8_t *sector, const struct record_kind *kind,
			const struct hf_lease_geometry *g, const char *space, struct hf_err *err)
{
	int r = check_magic(sector, kind, err);

	if (r == 0)
		r = check_checksum(sector, R_CHECKSUM, err);
	if (r == 0)
		r = check_geometry(sector, g, err);
	if (r == 0)
		r = check_name(sector + R_SPACE, "lockspace", space, err);
	return r;
}

static void begin_record(uint8_t *sector, const struct record_kind *kind,
			 const struct hf_lease_geometry *g, uint32_t own_flags)
{
	uint32_t flags;

	if (check_magic(sector, kind, NULL) < 0) {
		memset(sector, 0, g->sector_bytes);
		hf_le32_put(sector + R_VERSION, kind->version);
	}
	flags = hf_le32_get(sector + R_FLAGS) & ~(FLAG_ALIGN_MASK | FLAG_SHORT_HOLD);
	flags |= own_flags | g->align_bytes / MIB << FLAG_ALIGN_SHIFT;
	hf_le32_put(sector + R_MAGIC, kind->magic);
	hf_le32_put(sector + R_FLAGS, flags);
	hf_le32_put(sector + R_SECTOR_BYTES, g->sector_bytes);
}

static void end_record(uint8_t *sector)
{
	hf_le32_put(sector + R_CHECKSUM, hf_lease_checksum(sector, R_CHECKSUM));
}

/* ---- slots ---- */

/* One that makes no sense would have this host judged dead too early: it counts as none. */
static bool is_sensible(const struct hf_lease_extra *x, uint32_t io_timeout_s)
{
	return x->instance != 0 && x->renew_ms > 0 && x->fence_ms >= x->renew_ms &&
	       x->fence_ms < 8000 * io_timeout_s;
}

static void decode_extra(const uint8_t *sector, uint32_t io_timeout_s, struct hf_lease_extra *ret)
{
	struct hf_lease_extra x = {
		.is_present = true,
		.instance = hf_le64_get(sector + X_INSTANCE),
		.sequence = hf_le64_get(sector + X_SEQUENCE),
		.renew_ms = hf_le32_get(sector + X_RENEW_MS),
		.fence_ms = hf_le32_get(sector + X_FENCE_MS),
	};

	memset(ret, 0, sizeof(*ret));
	if (hf_le32_get(sector + X_MAGIC) != EXTRA_MAGIC ||
	    hf_le32_get(sector + X_VERSION) != EXTRA_VERSION ||
	    hf_le32_get(sector + X_CRC32C) != hf_lease_extra_checksum(sector))
		return;
	if (is_sensible(&x, io_timeout_s))
		*ret = x;
}

static void encode_extra(uint8_t *sector, const struct hf_lease_extra *x)
{
	memset(sector + X_MAGIC, 0, X_END - X_MAGIC);
	if (!x->is_present)
		return;
	hf_le32_put(sector + X_MAGIC, EXTRA_MAGIC);
	hf_le32_put(sector + X_VERSION, EXTRA_VERSION);
	hf_le64_put(sector + X_INSTANCE, x->instance);
	hf_le64_put(sector + X_SEQUENCE, x->sequence);
	hf_le32_put(sector + X_RENEW_MS, x->renew_ms);
	hf_le32_put(sector + X_FENCE_MS, x->fence_ms);
	hf_le32_put(sector + X_CRC32C, hf_lease_extra_checksum(sector));
}

static int check_slot(const uint8_t *sector, uint64_t host_id, struct hf_err *err)
{
	uint64_t owner = hf_le64_get(sector + R_OWNER);

	if (owner != host_id && (owner != 0 || hf_le64_get(sector + R_TIMESTAMP) != 0)) {
		hf_err_set(err, "it is held for host %" PRIu64, owner);
		return -EBADMSG;
	}
	if (hf_le16_get(sector + R_IO_TIMEOUT) > IO_TIMEOUT_MAX_S) {
		hf_err_set(err, "an io-timeout of %u s: at most %d",
			   hf_le16_get(sector + R_IO_TIMEOUT), IO_TIMEOUT_MAX_S);
		return -EBADMSG;
	}
	return 0;
}

int hf_lease_slot_decode(const uint8_t *sector, const struct hf_lease_geometry *g, uint64_t host_id,
			 const char *space, struct hf_lease_slot *ret, struct hf_err *err)
{
	int r = check_record(sector, &slot_kind, g, space, err);

	assert(host_id >= 1 && host_id <= g->max_hosts);
	if (r == 0)
		r = check_slot(sector, host_id, err);
	if (r < 0)
		return r;
	memset(ret, 0, sizeof(*ret));
	ret->owner = hf_le64_get(sector + R_OWNER);
	ret->generation = hf_le64_get(sector + R_GENERATION);
	ret->timestamp_s = hf_le64_get(sector + R_TIMESTAMP);
	ret->io_timeout_s = hf_le16_get(sector + R_IO_TIMEOUT);
	if (ret->io_timeout_s == 0)
		ret->io_timeout_s = IO_TIMEOUT_DEFAULT_S;
	hf_lease_name_get(sector + R_RESOURCE, ret->host_name);
	decode_extra(sector, ret->io_timeout_s, &ret->extra);
	return 0;
}

void hf_lease_slot_encode(uint8_t *sector, const struct hf_lease_geometry *g,
			  const struct hf_lease_slot *slot, const char *space)
{
	assert(slot->owner <= g->max_hosts);
	assert(slot->io_timeout_s >= 1 && slot->io_timeout_s <= IO_TIMEOUT_MAX_S);
	assert(!slot->extra.is_present || is_sensible(&slot->extra, slot->io_timeout_s));
	begin_record(sector, &slot_kind, g, 0);
	hf_le64_put(sector + R_NUM_HOSTS, 0);
	hf_le64_put(sector + R_MAX_HOSTS, 1);
	hf_le64_put(sector + R_OWNER, slot->owner);
	hf_le64_put(sector + R_GENERATION, slot->generation);
	hf_le64_put(sector + R_LVER, 0);
	hf_lease_name_put(sector + R_SPACE, space);
	hf_lease_name_put(sector + R_RESOURCE, slot->host_name);
	hf_le64_put(sector + R_TIMESTAMP, slot->timestamp_s);
	hf_le16_put(sector + R_IO_TIMEOUT, (uint16_t)slot->io_timeout_s);
	end_record(sector);
	encode_extra(sector, &slot->extra);
}

/* ---- leaders ---- */

static int check_leader(const uint8_t *sector, const struct hf_lease_geometry *g,
			struct hf_err *err)
{
	uint64_t num_hosts = hf_le64_get(sector + R_NUM_HOSTS);
	uint64_t max_hosts = hf_le64_get(sector + R_MAX_HOSTS);
	uint64_t owner = hf_le64_get(sector + R_OWNER);

	if (max_hosts != g->max_hosts)
		hf_err_set(err, "it is for %" PRIu64 " hosts at most, here they are %" PRIu32,
			   max_hosts, g->max_hosts);
	else if (num_hosts == 0 || num_hosts > max_hosts)
		hf_err_set(err, "%" PRIu64 " hosts take part: 1 to %" PRIu64 " can", num_hosts,
			   max_hosts);
	else if (owner > num_hosts)
		hf_err_set(err, "its owner is host %" PRIu64 " of %" PRIu64, owner, num_hosts);
	else if (owner == 0 && hf_le64_get(sector + R_TIMESTAMP) != 0)
		hf_err_set(err, "it is held, but by host 0");
	else
		return 0;
	return -EBADMSG;
}

int hf_lease_leader_decode(const uint8_t *sector, const struct hf_lease_geometry *g,
			   const char *space, const char *resource, struct hf_lease_leader *ret,
			   struct hf_err *err)
{
	int r = check_record(sector, &leader_kind, g, space, err);

	if (r == 0)
		r = check_name(sector + R_RESOURCE, "resource", resource, err);
	if (r == 0)
		r = check_leader(sector, g, err);
	if (r < 0)
		return r;
	*ret = (struct hf_lease_leader){
		.owner = hf_le64_get(sector + R_OWNER),
		.generation = hf_le64_get(sector + R_GENERATION),
		.lver = hf_le64_get(sector + R_LVER),
		.timestamp_s = hf_le64_get(sector + R_TIMESTAMP),
		.write_id = hf_le64_get(sector + R_WRITE_ID),
		.write_generation = hf_le64_get(sector + R_WRITE_GENERATION),
		.num_hosts = (uint32_t)hf_le64_get(sector + R_NUM_HOSTS),
		.is_short_hold = (hf_le32_get(sector + R_FLAGS) & FLAG_SHORT_HOLD) != 0,
	};
	return 0;
}

void hf_lease_leader_encode(uint8_t *sector, const struct hf_lease_geometry *g,
			    const struct hf_lease_leader *leader, const char *space,
			    const char *resource)
{
	assert(leader->num_hosts >= 1 && leader->num_hosts <= g->max_hosts);
	assert(leader->owner <= leader->num_hosts && (leader->owner || !leader->timestamp_s));
	begin_record(sector, &leader_kind, g, leader->is_short_hold ? FLAG_SHORT_HOLD : 0);
	hf_le64_put(sector + R_NUM_HOSTS, leader->num_hosts);
	hf_le64_put(sector + R_MAX_HOSTS, g->max_hosts);
	hf_le64_put(sector + R_OWNER, leader->owner);
	hf_le64_put(sector + R_GENERATION, leader->generation);
	hf_le64_put(sector + R_LVER, leader->lver);
	hf_lease_name_put(sector + R_SPACE, space);
	hf_lease_name_put(sector + R_RESOURCE, resource);
	hf_le64_put(sector + R_TIMESTAMP, leader->timestamp_s);
	hf_le64_put(sector + R_WRITE_ID, leader->write_id);
	hf_le64_put(sector + R_WRITE_GENERATION, leader->write_generation);
	if (leader->timestamp_s)
		hf_le64_put(sector + R_WRITE_TIMESTAMP, leader->timestamp_s);
	end_record(sector);
}

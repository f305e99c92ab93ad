/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lease/index.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static int check_header(const struct hf_index_query *q, const uint8_t *bytes,
			struct hf_lease_index *ret, struct hf_err *err)
{
	int r = hf_lease_index_decode(bytes, ret, err);

	if (r < 0)
		return r;
	if (ret->geometry.sector_bytes != q->geometry->sector_bytes ||
	    ret->geometry.align_bytes != q->geometry->align_bytes) {
		hf_err_set(
			err,
			"it is of sectors of %u and areas of %u bytes, its lockspace of %u and %u",
			ret->geometry.sector_bytes, ret->geometry.align_bytes,
			q->geometry->sector_bytes, q->geometry->align_bytes);
		return -EBADMSG;
	}
	if (ret->offset != q->offset || strcmp(ret->space, q->space) != 0) {
		hf_err_set(err, "it is the index of lockspace \"%s\" at offset %llu, not of \"%s\"",
			   ret->space, (unsigned long long)ret->offset, q->space);
		return -EBADMSG;
	}
	return 0;
}

static bool is_inside(const struct hf_index_query *q, uint64_t offset)
{
	return offset <= q->store_bytes && q->geometry->align_bytes <= q->store_bytes - offset;
}

static int found(const struct hf_index_query *q, uint64_t offset, struct hf_index_find *ret,
		 struct hf_err *err)
{
	if (!is_inside(q, offset)) {
		hf_err_set(err, "lease \"%s\" would be at offset %llu, beyond the end (%llu bytes)",
			   q->name, (unsigned long long)offset, (unsigned long long)q->store_bytes);
		return -EBADMSG;
	}
	ret->offset = offset;
	return 0;
}

static void note_free(const struct hf_index_query *q, const struct hf_lease_index *index,
		      uint32_t i, struct hf_index_find *ret)
{
	uint64_t offset = hf_lease_index_resource_at(index, i);

	if (ret->free_offset != 0 || !is_inside(q, offset))
		return;
	ret->free_offset = offset;
	ret->free_entry_at = hf_lease_index_entry_at(index, i);
}

int hf_index_search(const struct hf_index_query *q, const uint8_t *bytes, struct hf_index_find *ret,
		    struct hf_err *err)
{
	struct hf_lease_index_entry entry;
	struct hf_lease_index index;
	bool has_damage = false;
	int r = check_header(q, bytes, &index, err);

	memset(ret, 0, sizeof(*ret));
	if (r < 0) {
		hf_err_prefix(err, "index at offset %llu: ", (unsigned long long)q->offset);
		return r;
	}
	for (uint32_t i = 0; i < index.max_resources; i++) {
		uint64_t at = hf_lease_index_entry_at(&index, i);

		assert(at + HF_LEASE_INDEX_ENTRY_BYTES <= q->geometry->align_bytes);
		/* Of several damaged ones, the first is told. */
		if (hf_lease_index_entry_decode(bytes + at, &index, i, &entry,
						has_damage ? NULL : err) < 0)
			has_damage = true;
		else if (entry.offset == 0)
			note_free(q, &index, i, ret);
		else if (strcmp(entry.name, q->name) == 0)
			return found(q, entry.offset, ret, err);
	}
	return has_damage ? -EBADMSG : 0;
}

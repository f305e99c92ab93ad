/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looking up a name in the index of a lease area (sanlock's rindex), and where a new lease could
 * lie. Layer: lease; pure, any thread, no allocation. The bytes are from a disk that others write.
 * Layout: codec/leasedisk.h.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/leasedisk.h"

/* What is expected there, and what is looked for. */
struct hf_index_query {
	const struct hf_lease_geometry *geometry;
	const char *space;
	uint64_t offset; /* of the index */
	uint64_t store_bytes; /* size of what it lies on */
	const char *name; /* not "" */
};

struct hf_index_find {
	uint64_t offset; /* of the lease; 0: there is none of that name */
	uint64_t free_offset; /* of the first one that is not in use; 0: there is no room */
	uint64_t free_entry_at; /* where its entry is, from the start of the index */
};

/* Where a lockspace's index is. */
static inline uint64_t hf_index_at(const struct hf_lease_geometry *g, uint64_t lockspace_offset)
{
	return lockspace_offset + g->align_bytes;
}

/**
 * hf_index_search() - look for a name
 * @bytes: the index's whole area, geometry->align_bytes
 * Return: 0, also when there is no such lease; -EBADMSG with @err that says what stands where: it
 * is no index, another lockspace's, or of another geometry; the lease would lie beyond the end; or
 * it was not found, and an entry that is damaged may have been the one.
 */
int hf_index_search(const struct hf_index_query *q, const uint8_t *bytes, struct hf_index_find *ret,
		    struct hf_err *err) HF_MUST_CHECK;

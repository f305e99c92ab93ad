/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/lease-scan.h"

#include <errno.h>
#include <string.h>

#define AREA_MAX_BYTES (8 * HF_SCAN_STEP_BYTES)

/* Where no index says how far to look: at as many areas as sanlock's index has. */
static uint64_t extent(uint64_t offset, uint64_t areas, uint64_t align_bytes)
{
	return offset + areas * align_bytes;
}

int hf_scan_open(struct hf_scan *s, const char *path, struct hf_err *err)
{
	const struct hf_store_config config = { .path = path, .is_read_only = true };
	int r;

	memset(s, 0, sizeof(*s));
	r = hf_store_open(&config, &s->store, err);
	if (r < 0)
		return r;
	s->size_bytes = hf_store_size_bytes(s->store);
	s->end = extent(0, HF_LEASE_INDEX_RESOURCES, AREA_MAX_BYTES);
	s->bytes = hf_store_buffer(s->store, AREA_MAX_BYTES);
	if (s->bytes)
		return 0;
	hf_store_close(s->store);
	s->store = NULL;
	hf_err_set(err, "no memory");
	return -ENOMEM;
}

void hf_scan_close(struct hf_scan *s)
{
	hf_store_close(s->store);
	s->store = NULL;
}

static void note_extent(struct hf_scan *s, const struct hf_scan_area *area)
{
	struct hf_lease_index index;
	uint64_t end;

	if (s->geometry.align_bytes == 0) {
		s->geometry = area->geometry;
		s->end = extent(area->offset, 3 + HF_LEASE_INDEX_RESOURCES,
				s->geometry.align_bytes);
	}
	if (area->kind != HF_LEASE_KIND_INDEX ||
	    hf_lease_index_decode(area->head, &index, NULL) < 0)
		return;
	end = extent(area->offset, 2 + (uint64_t)index.max_resources, index.geometry.align_bytes);
	if (end > s->end)
		s->end = end;
}

/* Return: 1, or 0: the storage ends here; -errno. The rest of the head is zero if it is cut. */
static int read_head(struct hf_scan *s, struct hf_err *err)
{
	uint64_t left = s->next < s->size_bytes ? s->size_bytes - s->next : 0;
	size_t len = left < HF_SCAN_HEAD_BYTES ? (size_t)left : HF_SCAN_HEAD_BYTES;
	int r;

	if (len < 512 || s->next >= s->end)
		return 0;
	memset(s->bytes, 0, HF_SCAN_HEAD_BYTES);
	r = hf_store_read(s->store, s->bytes, len, s->next, err);
	return r < 0 ? r : 1;
}

static bool is_shown(const struct hf_scan *s, const struct hf_scan_area *area)
{
	if (area->kind == HF_LEASE_KIND_NONE)
		return false;
	if (area->kind != HF_LEASE_KIND_FOREIGN)
		return true;
	return area->offset == 0 ||
	       (s->geometry.align_bytes && area->offset % s->geometry.align_bytes == 0);
}

int hf_scan_again(struct hf_scan *s, const struct hf_scan_area *area, struct hf_err *err)
{
	return hf_store_read(s->store, s->bytes, area->geometry.align_bytes, area->offset, err);
}

int hf_scan_next(struct hf_scan *s, struct hf_scan_area *ret, struct hf_err *err)
{
	int r;

	while ((r = read_head(s, err)) > 0) {
		*ret = (struct hf_scan_area){ .offset = s->next, .head = s->bytes };
		ret->kind = hf_lease_identify(s->bytes, HF_SCAN_HEAD_BYTES, &ret->geometry);
		if (is_shown(s, ret))
			break;
		s->next += HF_SCAN_STEP_BYTES;
	}
	if (r <= 0)
		return r;
	s->next += HF_SCAN_STEP_BYTES;
	if (ret->geometry.align_bytes == 0)
		return 1;
	note_extent(s, ret);
	if (ret->geometry.align_bytes > s->size_bytes - ret->offset)
		return 1;
	s->next = ret->offset + ret->geometry.align_bytes;
	ret->bytes = s->bytes;
	r = hf_scan_again(s, ret, err);
	return r < 0 ? r : 1;
}

const char *hf_scan_printable(char *name)
{
	for (char *c = name; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return name;
}

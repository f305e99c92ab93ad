/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Zeros need care. Reading a hole of the RAM file through its mapping would fill it with memory, so
 * a standby that looked at all the pages it is told are zero would use as much memory as the guest
 * was given, not as it uses. SEEK_DATA tells where the holes are and is cheap: it ends at the first
 * page that is there. (SEEK_HOLE, and with it hf_ram_next_data(), walks the whole range of data
 * that follows, for each of perhaps thousands of runs.)
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cluster/inbox-internal.h"

/* A kept message begins with its length, filled up so that its page data is aligned: 32 bytes of
 * counts stand before that. */
#define KEPT_LENGTH_BYTES 32
#define KEPT_ALIGN_BYTES 64

static bool is_all_zero(const uint8_t *p, size_t len)
{
	/* Each byte equals the one after it, and the first is 0. */
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* The first byte at or after @from, before @end, that is in a page with memory; or @end. */
static uint64_t skip_hole(const struct hf_ram *ram, uint64_t from, uint64_t end)
{
	off_t at = lseek(ram->fd, (off_t)from, SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? end : from; /* where it cannot be told, all is data */
	return (uint64_t)at < end ? (uint64_t)at : end;
}

/* Frees from the first page on that holds something else; what is zero up to there stays. */
static void write_zeros(struct hf_ram *ram, uint64_t from, uint64_t end)
{
	while ((from = skip_hole(ram, from, end)) < end) {
		uint64_t page_end = (from / HF_WIRE_PAGE_BYTES + 1) * HF_WIRE_PAGE_BYTES;

		if (!is_all_zero(ram->base + from, (size_t)(page_end - from))) {
			hf_ram_zero(ram, from, end - from);
			return;
		}
		from = page_end;
	}
}

void hf_inbox_pages_write(struct hf_ram *ram, const struct hf_wire_pages *pages)
{
	struct hf_wire_pages_cursor cursor = { 0 };
	struct hf_wire_run run;

	assert(pages->end_page <= ram->size_bytes / HF_WIRE_PAGE_BYTES);
	while (hf_wire_pages_next(pages, &cursor, &run)) {
		uint64_t from = run.first_page * HF_WIRE_PAGE_BYTES;
		uint64_t len = (uint64_t)run.n_pages * HF_WIRE_PAGE_BYTES;

		if (run.is_zero)
			write_zeros(ram, from, from + len);
		else
			memcpy(ram->base + from, run.data, len);
	}
}

size_t hf_inbox_pages_room(const struct hf_wire_view *view)
{
	return (KEPT_LENGTH_BYTES + view->len + KEPT_ALIGN_BYTES - 1) / KEPT_ALIGN_BYTES *
	       KEPT_ALIGN_BYTES;
}

bool hf_inbox_pages_keep(struct hf_area *a, const struct hf_wire_view *view)
{
	uint8_t *p = hf_area_add(a, hf_inbox_pages_room(view));

	if (!p)
		return false;
	hf_le64_put(p, view->len);
	memcpy(p + KEPT_LENGTH_BYTES, view->payload, view->len);
	return true;
}

void hf_inbox_pages_write_kept(struct hf_ram *ram, const struct hf_area *a)
{
	size_t at = 0;

	while (at < a->used) {
		struct hf_wire_view view = { .type = HF_WIRE_PAGES,
					     .payload = a->base + at + KEPT_LENGTH_BYTES,
					     .len = hf_le64_get(a->base + at) };
		struct hf_wire_pages pages;
		int r = hf_wire_pages_decode(&view, &pages, NULL);

		assert(r == 0); /* it was decoded before it was kept */
		hf_inbox_pages_write(ram, &pages);
		at += hf_inbox_pages_room(&view);
	}
}

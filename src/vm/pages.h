/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pages of an epoch, copied out of guest RAM and laid out as PAGES messages, ready to be sealed
 * and sent. Layer: vm. One thread owns it; the copying inside hf_pages_fill() is done by a pool.
 *
 * Memory is cut into slots that hold one message each. It is taken as it is written, and what has
 * not been needed for a while is given back. Source of the format: codec/wire-bulk.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "base/error.h"
#include "codec/wire-bulk.h"
#include "sys/memfd.h"
#include "sys/pool.h"

/* What one slot takes: a whole message whose page data is page-aligned. */
#define HF_PAGES_SLOT_BYTES ((size_t)259 * HF_WIRE_PAGE_BYTES)

/* Resets after which memory that none of them needed is given back. */
#define HF_PAGES_MEMORY_RESETS 64

struct hf_pages;

struct hf_pages_stats {
	uint64_t data_pages; /* since the last reset */
	uint64_t zero_pages;
};

/**
 * hf_pages_new() - room for the pages of an epoch
 * @ram, @pool: stay the caller's and must outlive it; a RAM of at most HF_WIRE_RAM_BYTES_MAX
 * @max_bytes: at most this much memory; rounded down to whole slots, at least one
 * Allocates (address space; the memory itself comes with the first use). Free with hf_pages_free().
 * Return: 0; -EINVAL: @max_bytes is less than HF_PAGES_SLOT_BYTES; -ENOMEM.
 */
int hf_pages_new(const struct hf_ram *ram, struct hf_pool *pool, uint64_t max_bytes,
		 struct hf_pages **ret) HF_MUST_CHECK;

/* Takes NULL. */
void hf_pages_free(struct hf_pages *p);

/**
 * hf_pages_fill() - copy pages into free slots
 * @todo: one bit for each page of HF_WIRE_PAGE_BYTES, no more than RAM has (asserted). Not changed
 * @cursor: page to begin at; moved to where the next call has to go on: @todo->n_bits when all
 *	pages are taken, less when the slots were full first
 * @may_have_holes: look for parts of the RAM file that have no memory, and turn them into zero
 *	pages without reading, because to read them would allocate them. Only worth its time when
 *	@todo has pages that were perhaps never written
 * Pages that are all zero become runs without data. Pages ascend within a message, and each is in
 * one message only; between messages there is no order. Adds to what earlier calls have filled.
 * The guest may run meanwhile: then a page may be torn, and must be taken again once it is
 * reported. Blocks for as long as the copying takes; does not allocate, except for touching its own
 * memory.
 * Return: how many pages were taken; 0 when @todo has none from the cursor on, or all slots are
 * full.
 */
uint64_t hf_pages_fill(struct hf_pages *p, const struct hf_bitmap *todo, uint64_t *cursor,
		       bool may_have_holes);

/* Messages filled since the last reset; how many can be. */
size_t hf_pages_count(const struct hf_pages *p);
size_t hf_pages_capacity(const struct hf_pages *p);

/**
 * hf_pages_message() - message @i < hf_pages_count()
 * @ret_len: its length in bytes, header and all
 * Not sealed: hf_wire_seal() must come before sending, in any thread, once. Valid until the reset.
 */
uint8_t *hf_pages_message(struct hf_pages *p, size_t i, size_t *ret_len);

/* Since the last reset. */
struct hf_pages_stats hf_pages_stats(const struct hf_pages *p);

/* Bytes of the messages filled since the last reset. */
uint64_t hf_pages_bytes(const struct hf_pages *p);

/**
 * hf_pages_reset() - all slots are free again
 * Messages given out are invalid. Memory beyond what the largest of the last HF_PAGES_MEMORY_RESETS
 * rounds needed goes back to the system.
 */
void hf_pages_reset(struct hf_pages *p);

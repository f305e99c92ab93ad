/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * Each of the pool's threads fills a message of its own. It claims the next few pages of the bitmap
 * under a lock and copies them without it. A claim is never larger than what still fits into the
 * thread's message whatever the pages hold, so a claimed page always finds its place, and all pages
 * before the cursor are taken when the threads are done. A message ascends because claims do.
 *
 * A thread takes a slot only together with its first claim for it; hence no slot stays empty, and
 * the slots in use are the first ones. Zero pages take no room for data, so a message of many zero
 * pages covers more of RAM instead of costing a slot for every 255 of them.
 *
 * Whether a page is zero is looked at before it is copied: almost always the first words decide,
 * and otherwise the page is in the cache then. If the guest writes in between it does so at its own
 * risk: the page will be reported as written and taken again.
 */
#include "vm/pages.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES ((size_t)HF_WIRE_PAGE_BYTES)

/* Where a message begins in its slot: its page data is then aligned (wire-bulk.h). */
#define MESSAGE_OFFSET 4032

/* Pages of one claim: long enough to be worth the lock, short enough that the threads end
 * together. */
#define CLAIM_PAGES 64

/* To wake another thread takes as long as to copy this many pages. */
#define ALONE_PAGES 64

static_assert(MESSAGE_OFFSET + HF_WIRE_MESSAGE_MAX <= HF_PAGES_SLOT_BYTES,
	      "a message fits its slot");

struct message {
	size_t len;
	struct hf_pages_stats stats;
};

struct hf_pages {
	const struct hf_ram *ram;
	struct hf_pool *pool;
	uint8_t *memory;
	size_t capacity;
	struct message *messages; /* of the slots in use */
	size_t n_used;
	size_t n_touched; /* slots that have memory, at most */
	size_t used_then[HF_PAGES_MEMORY_RESETS];
	size_t next_then;

	/* One call of hf_pages_fill(); the lock guards the cursor, what follows it, and n_used. */
	pthread_mutex_t lock;
	const struct hf_bitmap *todo;
	uint64_t cursor;
	bool may_have_holes;
	uint64_t data_start, data_end; /* pages: the stretch of the file at or after the cursor */
};

/* The pages that one thread is to take next: those in @todo from @first up to @end. */
struct claim {
	uint64_t first, end;
	bool is_hole; /* all of them are zero and must not be touched */
};

struct filler {
	struct hf_wire_pages_builder builder;
	size_t slot;
	bool has_slot;
	struct hf_pages_stats stats;
};

static uint8_t *message_at(const struct hf_pages *p, size_t slot)
{
	return p->memory + slot * HF_PAGES_SLOT_BYTES + MESSAGE_OFFSET;
}

int hf_pages_new(const struct hf_ram *ram, struct hf_pool *pool, uint64_t max_bytes,
		 struct hf_pages **ret)
{
	struct hf_pages *p;
	void *memory;

	if (max_bytes < HF_PAGES_SLOT_BYTES || max_bytes > INT64_MAX)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->ram = ram;
	p->pool = pool;
	(void)pthread_mutex_init(&p->lock, NULL);
	p->capacity = max_bytes / HF_PAGES_SLOT_BYTES;
	p->messages = calloc(p->capacity, sizeof(*p->messages));
	memory = mmap(NULL, p->capacity * HF_PAGES_SLOT_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	p->memory = memory == MAP_FAILED ? NULL : memory;
	if (!p->messages || !p->memory) {
		hf_pages_free(p);
		return -ENOMEM;
	}
	/* Both are wishes: a kernel without them works as well, only slower or less discreet. */
	(void)madvise(p->memory, p->capacity * HF_PAGES_SLOT_BYTES, MADV_HUGEPAGE);
	(void)madvise(p->memory, p->capacity * HF_PAGES_SLOT_BYTES, MADV_DONTDUMP);
	*ret = p;
	return 0;
}

void hf_pages_free(struct hf_pages *p)
{
	if (!p)
		return;
	if (p->memory)
		(void)munmap(p->memory, p->capacity * HF_PAGES_SLOT_BYTES);
	free(p->messages);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

/* libc's comparison uses the widest registers there are and stops at the first difference. */
static bool is_zero_page(const uint8_t *page)
{
	uint64_t word;

	memcpy(&word, page, sizeof(word));
	return word == 0 && memcmp(page, page + sizeof(word), PAGE_BYTES - sizeof(word)) == 0;
}

/* How many pages may be claimed for this message, whatever they hold: each may need a run. */
static uint64_t room(const struct filler *f)
{
	uint64_t data = HF_WIRE_DATA_PAGES_MAX - f->builder.n_data_pages;
	uint64_t runs = HF_WIRE_RUNS_MAX - f->builder.n_runs;
	uint64_t n = data < runs ? data : runs;

	if (!f->has_slot)
		n = HF_WIRE_DATA_PAGES_MAX;
	return n < CLAIM_PAGES ? n : CLAIM_PAGES;
}

/* Finds the stretch with memory at or after @page. When the file does not say, all counts as data:
 * to read a hole costs memory but is right. */
static void look_for_data(struct hf_pages *p, uint64_t page)
{
	uint64_t start, end;
	int r = hf_ram_next_data(p->ram, page * PAGE_BYTES, &start, &end);

	if (r == HF_RAM_NO_MORE_DATA) {
		start = end = p->ram->size_bytes;
	} else if (r < 0) {
		start = page * PAGE_BYTES;
		end = p->ram->size_bytes;
	}
	p->data_start = start / PAGE_BYTES;
	p->data_end = (end + PAGE_BYTES - 1) / PAGE_BYTES;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * As hf_bitmap_next_set_run(), but does not look for the end of a run further than a window's end:
 * with most of a large bitmap set, to find each run's end for each claim would take longer than
 * the copying. A window ends with a word, as the bitmap itself could.
 */
#define WINDOW_WORDS 64

static bool next_run(const struct hf_bitmap *todo, uint64_t from, uint64_t *ret_first,
		     uint64_t *ret_n)
{
	struct hf_bitmap window = *todo;

	do {
		window.n_bits = min_u64((from / 64 + WINDOW_WORDS) * 64, todo->n_bits);
		if (hf_bitmap_next_set_run(&window, from, ret_first, ret_n))
			return true;
		from = window.n_bits;
	} while (from < todo->n_bits);
	return false;
}

/* Claims the hole at the cursor, as far as it is to be taken; false when there is none. */
static bool claim_hole(struct hf_pages *p, uint64_t first, uint64_t n, struct claim *ret)
{
	if (first >= p->data_end)
		look_for_data(p, first);
	if (first >= p->data_start)
		return false;
	ret->first = first;
	ret->end = min_u64(first + n, p->data_start);
	ret->is_hole = true;
	return true;
}

/* Claims up to @max pages from the cursor on. Return: false when there is none left. */
static bool claim_pages(struct hf_pages *p, uint64_t max, struct claim *ret)
{
	uint64_t first, n, limit = p->todo->n_bits, taken = 0;

	if (!next_run(p->todo, p->cursor, &first, &n)) {
		p->cursor = p->todo->n_bits;
		return false;
	}
	if (p->may_have_holes) {
		if (claim_hole(p, first, n, ret)) {
			p->cursor = ret->end;
			return true;
		}
		limit = p->data_end;
	}
	*ret = (struct claim){ .first = first };
	do {
		n = min_u64(min_u64(n, max - taken), limit - first);
		taken += n;
		p->cursor = first + n;
	} while (taken < max && next_run(p->todo, p->cursor, &first, &n) && first < limit);
	ret->end = p->cursor;
	return true;
}

/* Gives the filler work, and a slot if it has none; false when there is no more of either. */
static bool claim(struct hf_pages *p, struct filler *f, struct claim *ret)
{
	bool has_work = false;

	(void)pthread_mutex_lock(&p->lock);
	if (f->has_slot || p->n_used < p->capacity)
		has_work = claim_pages(p, room(f), ret);
	if (has_work && !f->has_slot) {
		f->slot = p->n_used++;
		f->has_slot = true;
		hf_wire_pages_begin(&f->builder, message_at(p, f->slot));
	}
	(void)pthread_mutex_unlock(&p->lock);
	return has_work;
}

static void finish_message(struct hf_pages *p, struct filler *f)
{
	struct message *m = &p->messages[f->slot];

	m->len = hf_wire_pages_finish(&f->builder);
	m->stats = f->stats;
	*f = (struct filler){ .has_slot = false };
}

static void add_zero(struct filler *f, uint64_t first, uint64_t n)
{
	bool is_added = hf_wire_pages_add_zero(&f->builder, first, (uint32_t)n);

	assert(is_added);
	f->stats.zero_pages += n;
}

static void add_page(const struct hf_pages *p, struct filler *f, uint64_t page)
{
	const uint8_t *from = p->ram->base + page * PAGE_BYTES;
	uint32_t taken = 0;
	uint8_t *to;

	if (is_zero_page(from)) {
		add_zero(f, page, 1);
		return;
	}
	to = hf_wire_pages_add_data(&f->builder, page, 1, &taken);
	assert(to && taken == 1);
	memcpy(to, from, PAGE_BYTES);
	f->stats.data_pages++;
}

static void take(const struct hf_pages *p, struct filler *f, const struct claim *c)
{
	uint64_t first, n;

	if (c->is_hole) {
		add_zero(f, c->first, c->end - c->first);
		return;
	}
	for (uint64_t at = c->first; at < c->end && next_run(p->todo, at, &first, &n);
	     at = first + n) {
		assert(first < c->end); /* a claim ends with a page that is set */
		n = min_u64(n, c->end - first);
		for (uint64_t i = 0; i < n; i++)
			add_page(p, f, first + i);
	}
}

static void fill_messages(void *ctx, size_t task)
{
	struct hf_pages *p = ctx;
	struct filler f = { .has_slot = false };
	struct claim c;

	(void)task;
	while (claim(p, &f, &c)) {
		take(p, &f, &c);
		if (room(&f) == 0)
			finish_message(p, &f);
	}
	if (f.has_slot)
		finish_message(p, &f);
}

/* Whether there is so little to do that waking the other threads would take longer. */
static bool is_little(const struct hf_bitmap *todo, uint64_t cursor)
{
	uint64_t first, n, total = 0;

	while (total <= ALONE_PAGES && next_run(todo, cursor, &first, &n)) {
		total += n;
		cursor = first + n;
	}
	return total <= ALONE_PAGES;
}

uint64_t hf_pages_fill(struct hf_pages *p, const struct hf_bitmap *todo, uint64_t *cursor,
		       bool may_have_holes)
{
	size_t first_new = p->n_used;
	uint64_t taken = 0;

	assert(todo->n_bits <= p->ram->size_bytes / PAGE_BYTES);
	p->todo = todo;
	p->cursor = *cursor;
	p->may_have_holes = may_have_holes;
	p->data_start = p->data_end = 0;
	hf_pool_run(p->pool, fill_messages, p,
		    is_little(todo, *cursor) ? 1 : hf_pool_threads(p->pool));
	*cursor = p->cursor;
	p->todo = NULL;
	for (size_t i = first_new; i < p->n_used; i++)
		taken += p->messages[i].stats.data_pages + p->messages[i].stats.zero_pages;
	if (p->n_touched < p->n_used)
		p->n_touched = p->n_used;
	return taken;
}

size_t hf_pages_count(const struct hf_pages *p)
{
	return p->n_used;
}

size_t hf_pages_capacity(const struct hf_pages *p)
{
	return p->capacity;
}

uint8_t *hf_pages_message(struct hf_pages *p, size_t i, size_t *ret_len)
{
	assert(i < p->n_used);
	*ret_len = p->messages[i].len;
	return message_at(p, i);
}

struct hf_pages_stats hf_pages_stats(const struct hf_pages *p)
{
	struct hf_pages_stats sum = { 0 };

	for (size_t i = 0; i < p->n_used; i++) {
		sum.data_pages += p->messages[i].stats.data_pages;
		sum.zero_pages += p->messages[i].stats.zero_pages;
	}
	return sum;
}

uint64_t hf_pages_bytes(const struct hf_pages *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < p->n_used; i++)
		sum += p->messages[i].len;
	return sum;
}

static size_t largest_of_late(const struct hf_pages *p)
{
	size_t largest = 0;

	for (size_t i = 0; i < HF_PAGES_MEMORY_RESETS; i++)
		if (largest < p->used_then[i])
			largest = p->used_then[i];
	return largest;
}

/* In a steady state the largest number hardly changes, so this gives back rarely. */
void hf_pages_reset(struct hf_pages *p)
{
	size_t keep;

	p->used_then[p->next_then] = p->n_used;
	p->next_then = (p->next_then + 1) % HF_PAGES_MEMORY_RESETS;
	p->n_used = 0;
	keep = largest_of_late(p);
	if (p->n_touched <= keep)
		return;
	(void)madvise(p->memory + keep * HF_PAGES_SLOT_BYTES,
		      (p->n_touched - keep) * HF_PAGES_SLOT_BYTES, MADV_DONTNEED);
	p->n_touched = keep;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Locks. `lock` is held for every change of a set but one: a block that is already in `current`
 * (and on the list, while sending) needs no change, and that is what a writer looks for first,
 * without it. That is safe because a block in `current` is always set in the file, and leaves
 * `current` only by a turn, to `previous`, where the writer's own count (writers[]) keeps it until
 * its end.
 */
#include "disk/dirtymap.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "disk/dirtymap-internal.h"

struct hf_dirtymap {
	struct hf_dirtyfile file;
	uint64_t disk_bytes;
	uint64_t n_blocks;
	uint64_t n_words;
	_Atomic uint64_t *bits; /* of the file */
	_Atomic uint64_t *written[2]; /* current and previous: by generation, modulo 2 */
	_Atomic uint64_t *to_send;
	pthread_mutex_t lock;
	bool is_trusted;
	atomic_bool is_sending;
	atomic_uint generation; /* the current one */
	_Atomic uint64_t writers[2]; /* by the generation that they began in, modulo 2 */
	bool has_previous; /* a turn is not confirmed, or not let go yet */
	bool is_confirmed;
	_Atomic uint64_t n_dirty; /* blocks set in the file */
	_Atomic uint64_t n_to_send;
};

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

static bool has(const _Atomic uint64_t *bits, uint64_t block)
{
	return load(&bits[block / 64]) >> (block % 64) & 1;
}

/* The three below: under the lock, which makes the change; atomic for those who look without it. */
static bool put(_Atomic uint64_t *bits, uint64_t block)
{
	uint64_t bit = (uint64_t)1 << (block % 64);

	return !(atomic_fetch_or_explicit(&bits[block / 64], bit, memory_order_release) & bit);
}

static bool clear(_Atomic uint64_t *bits, uint64_t block)
{
	uint64_t bit = (uint64_t)1 << (block % 64);

	return atomic_fetch_and_explicit(&bits[block / 64], ~bit, memory_order_release) & bit;
}

static _Atomic uint64_t *current(const struct hf_dirtymap *m)
{
	return m->written[atomic_load(&m->generation) % 2];
}

/* First the file: whatever is in another set is set in it. */
static void put_current(struct hf_dirtymap *m, uint64_t block)
{
	if (put(m->bits, block))
		m->n_dirty++;
	(void)put(current(m), block);
}

static void put_to_send(struct hf_dirtymap *m, uint64_t block)
{
	if (put(m->bits, block))
		m->n_dirty++;
	if (put(m->to_send, block))
		m->n_to_send++;
}

struct range {
	uint64_t first, end; /* blocks */
};

static struct range blocks(const struct hf_dirtymap *m, uint64_t offset, uint64_t length)
{
	struct range r = { offset / HF_DIRTYMAP_BLOCK_BYTES, 0 };

	assert(offset <= m->disk_bytes && length <= m->disk_bytes - offset);
	r.end = length == 0 ? r.first : (offset + length - 1) / HF_DIRTYMAP_BLOCK_BYTES + 1;
	return r;
}

/* ---- writers ---- */

static bool is_noted(const struct hf_dirtymap *m, uint64_t block)
{
	return has(current(m), block) && (!atomic_load(&m->is_sending) || has(m->to_send, block));
}

static void note(struct hf_dirtymap *m, struct range r)
{
	while (r.first < r.end && is_noted(m, r.first))
		r.first++;
	if (r.first == r.end)
		return;
	(void)pthread_mutex_lock(&m->lock);
	for (; r.first < r.end; r.first++) {
		put_current(m, r.first);
		if (atomic_load(&m->is_sending))
			put_to_send(m, r.first);
	}
	(void)pthread_mutex_unlock(&m->lock);
}

/* Counted in the generation that is current once it is counted: hf_dirtymap_turn() looks at the
 * count after it has made the new one current. */
static unsigned int enter(struct hf_dirtymap *m)
{
	for (;;) {
		unsigned int g = atomic_load(&m->generation);

		atomic_fetch_add(&m->writers[g % 2], 1);
		if (atomic_load(&m->generation) == g)
			return g % 2;
		atomic_fetch_sub(&m->writers[g % 2], 1);
	}
}

unsigned int hf_dirtymap_write_begin(struct hf_dirtymap *m, uint64_t offset_bytes,
				     uint64_t length_bytes)
{
	unsigned int token = enter(m);

	note(m, blocks(m, offset_bytes, length_bytes));
	return token;
}

/* Once more: a turn, or a send_next() that read the old content, may have come in between. */
void hf_dirtymap_write_end(struct hf_dirtymap *m, unsigned int token, uint64_t offset_bytes,
			   uint64_t length_bytes)
{
	note(m, blocks(m, offset_bytes, length_bytes));
	atomic_fetch_sub(&m->writers[token], 1);
}

void hf_dirtymap_set(struct hf_dirtymap *m, uint64_t offset_bytes, uint64_t length_bytes)
{
	note(m, blocks(m, offset_bytes, length_bytes));
}

void hf_dirtymap_log(struct hf_dirtymap *m, uint64_t offset_bytes, uint64_t length_bytes)
{
	struct range r = blocks(m, offset_bytes, length_bytes);

	while (r.first < r.end && has(current(m), r.first))
		r.first++;
	if (r.first == r.end)
		return;
	(void)pthread_mutex_lock(&m->lock);
	for (; r.first < r.end; r.first++)
		put_current(m, r.first);
	(void)pthread_mutex_unlock(&m->lock);
}

/* ---- generations ---- */

/* Under the lock. */
static void let_go_word(struct hf_dirtymap *m, _Atomic uint64_t *previous, uint64_t w)
{
	uint64_t gone = load(&previous[w]), old;

	if (gone == 0)
		return;
	gone &= ~load(&current(m)[w]) & ~load(&m->to_send[w]);
	old = atomic_fetch_and_explicit(&m->bits[w], ~gone, memory_order_release);
	m->n_dirty -= (uint64_t)__builtin_popcountll(old & gone);
	atomic_store_explicit(&previous[w], 0, memory_order_release);
}

static void let_go(struct hf_dirtymap *m)
{
	unsigned int before = (atomic_load(&m->generation) + 1) % 2;

	if (!m->has_previous || !m->is_confirmed || atomic_load(&m->writers[before]) > 0)
		return;
	for (uint64_t w = 0; w < m->n_words; w++)
		let_go_word(m, m->written[before], w);
	m->has_previous = false;
}

/* The next generation takes over the set and the count of the one before the current: both are
 * empty, since that has been let go. */
bool hf_dirtymap_turn(struct hf_dirtymap *m)
{
	bool may_turn;

	(void)pthread_mutex_lock(&m->lock);
	let_go(m);
	may_turn = !m->has_previous;
	if (may_turn) {
		m->has_previous = true;
		m->is_confirmed = false;
		atomic_fetch_add(&m->generation, 1);
	}
	(void)pthread_mutex_unlock(&m->lock);
	return may_turn;
}

void hf_dirtymap_confirm(struct hf_dirtymap *m)
{
	(void)pthread_mutex_lock(&m->lock);
	m->is_confirmed = true;
	let_go(m);
	(void)pthread_mutex_unlock(&m->lock);
}

/* ---- the list ---- */

/* Bits of word @w that stand for blocks. */
static uint64_t valid_bits(const struct hf_dirtymap *m, uint64_t w)
{
	uint64_t n = m->n_blocks - w * 64;

	return n >= 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;
}

static void list_word(struct hf_dirtymap *m, uint64_t w, bool is_all)
{
	uint64_t bits = is_all ? valid_bits(m, w) : load(&m->bits[w]);

	if (is_all)
		atomic_store_explicit(&m->bits[w], bits, memory_order_release);
	atomic_store_explicit(&m->to_send[w], bits, memory_order_release);
	m->n_to_send += (uint64_t)__builtin_popcountll(bits);
}

static void list_all(struct hf_dirtymap *m, bool is_all)
{
	m->n_to_send = 0;
	for (uint64_t w = 0; w < m->n_words; w++)
		list_word(m, w, is_all);
	m->n_dirty = m->n_to_send;
}

void hf_dirtymap_send_begin(struct hf_dirtymap *m, bool is_full, struct hf_id session)
{
	(void)pthread_mutex_lock(&m->lock);
	atomic_store(&m->is_sending, true);
	list_all(m, is_full || !m->is_trusted);
	hf_dirtyfile_set_session(&m->file, session);
	m->is_trusted = true;
	(void)pthread_mutex_unlock(&m->lock);
}

void hf_dirtymap_send_end(struct hf_dirtymap *m)
{
	(void)pthread_mutex_lock(&m->lock);
	atomic_store(&m->is_sending, false);
	(void)pthread_mutex_unlock(&m->lock);
}

/* The first block on the list at or after @block; n_blocks: none. */
static uint64_t next_listed(const struct hf_dirtymap *m, uint64_t block)
{
	uint64_t bits, w = block / 64;

	if (block >= m->n_blocks)
		return m->n_blocks;
	bits = load(&m->to_send[w]) & (UINT64_MAX << (block % 64));
	while (bits == 0) {
		if (++w == m->n_words)
			return m->n_blocks;
		bits = load(&m->to_send[w]);
	}
	return w * 64 + (uint64_t)__builtin_ctzll(bits);
}

/* Off the list, and sent from now on: it stays set until that is confirmed. */
static uint64_t take_run(struct hf_dirtymap *m, uint64_t first, uint64_t max_blocks)
{
	uint64_t n = 0;

	while (n < max_blocks && first + n < m->n_blocks && has(m->to_send, first + n)) {
		put_current(m, first + n);
		(void)clear(m->to_send, first + n);
		m->n_to_send--;
		n++;
	}
	return n;
}

bool hf_dirtymap_send_next(struct hf_dirtymap *m, uint64_t *cursor, uint64_t max_bytes,
			   uint64_t *ret_offset, uint64_t *ret_length)
{
	uint64_t max = max_bytes / HF_DIRTYMAP_BLOCK_BYTES, first, n, end;

	(void)pthread_mutex_lock(&m->lock);
	first = next_listed(m, hf_dirtyfile_blocks(*cursor));
	n = take_run(m, first, max > 0 ? max : 1);
	(void)pthread_mutex_unlock(&m->lock);
	if (n == 0)
		return false;
	end = (first + n) * HF_DIRTYMAP_BLOCK_BYTES;
	*ret_offset = first * HF_DIRTYMAP_BLOCK_BYTES;
	*ret_length = (end < m->disk_bytes ? end : m->disk_bytes) - *ret_offset;
	*cursor = end;
	return true;
}

void hf_dirtymap_send_again(struct hf_dirtymap *m, uint64_t offset_bytes, uint64_t length_bytes)
{
	struct range r = blocks(m, offset_bytes, length_bytes);

	(void)pthread_mutex_lock(&m->lock);
	for (; r.first < r.end; r.first++)
		put_to_send(m, r.first);
	(void)pthread_mutex_unlock(&m->lock);
}

/* ---- asking ---- */

bool hf_dirtymap_is_trusted(const struct hf_dirtymap *m)
{
	return m->is_trusted;
}

struct hf_id hf_dirtymap_session(const struct hf_dirtymap *m)
{
	return m->file.header.session;
}

/* The last block may be a short one. */
static uint64_t bytes_in(const struct hf_dirtymap *m, const _Atomic uint64_t *set, uint64_t n)
{
	uint64_t bytes = n * HF_DIRTYMAP_BLOCK_BYTES;

	if (n > 0 && has(set, m->n_blocks - 1))
		bytes -= m->n_blocks * HF_DIRTYMAP_BLOCK_BYTES - m->disk_bytes;
	return bytes;
}

uint64_t hf_dirtymap_left_bytes(const struct hf_dirtymap *m)
{
	return atomic_load(&m->is_sending) ? bytes_in(m, m->to_send, m->n_to_send) : 0;
}

uint64_t hf_dirtymap_dirty_bytes(const struct hf_dirtymap *m)
{
	return bytes_in(m, m->bits, m->n_dirty);
}

/* ---- begin and end ---- */

static _Atomic uint64_t *new_set(const struct hf_dirtymap *m)
{
	return calloc(m->n_words, sizeof(_Atomic uint64_t));
}

static void free_map(struct hf_dirtymap *m)
{
	free(m->written[0]);
	free(m->written[1]);
	free(m->to_send);
	(void)pthread_mutex_destroy(&m->lock);
	free(m);
}

static int new_map(uint64_t disk_bytes, struct hf_dirtymap **ret)
{
	struct hf_dirtymap *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	(void)pthread_mutex_init(&m->lock, NULL);
	m->disk_bytes = disk_bytes;
	m->n_blocks = hf_dirtyfile_blocks(disk_bytes);
	m->n_words = (m->n_blocks + 63) / 64;
	m->written[0] = new_set(m);
	m->written[1] = new_set(m);
	m->to_send = new_set(m);
	if (!m->written[0] || !m->written[1] || !m->to_send) {
		free_map(m);
		return -ENOMEM;
	}
	*ret = m;
	return 0;
}

/* Bits that stand for no block are not believed. */
static void take_bits(struct hf_dirtymap *m)
{
	m->bits = (_Atomic uint64_t *)(void *)(m->file.map + HF_DIRTYFILE_HEADER_BYTES);
	m->bits[m->n_words - 1] &= valid_bits(m, m->n_words - 1);
	m->is_trusted = m->file.is_trusted;
	list_all(m, false);
}

int hf_dirtymap_open(const char *path, uint64_t disk_bytes, struct hf_dirtymap **ret,
		     struct hf_err *err)
{
	struct hf_dirtymap *m;
	int r;

	if (disk_bytes == 0 || disk_bytes > HF_DIRTYMAP_DISK_MAX_BYTES) {
		hf_err_set(err, "%s: no dirty map can be made for a disk of %llu bytes", path,
			   (unsigned long long)disk_bytes);
		return -EINVAL;
	}
	r = new_map(disk_bytes, &m);
	if (r < 0)
		return r;
	r = hf_dirtyfile_open(path, disk_bytes, &m->file, err);
	if (r < 0) {
		free_map(m);
		return r;
	}
	take_bits(m);
	*ret = m;
	return 0;
}

void hf_dirtymap_close(struct hf_dirtymap *m)
{
	if (!m)
		return;
	hf_dirtyfile_close(&m->file);
	free_map(m);
}

void hf_dirtymap_abandon(struct hf_dirtymap *m)
{
	hf_dirtyfile_abandon(&m->file);
	free_map(m);
}

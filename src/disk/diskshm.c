/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Layout of the file: the words, the pools' heads, the chunks of each pool; every part begins on a page.
 * Only the number of chunks decides where things are, and each side keeps it where the other cannot
 * change it.
 */
#include "disk/diskshm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/memfd.h"

#define PAGE_BYTES ((size_t)4096)

static_assert(HF_DISKSHM_CHUNK_BYTES >= HF_WIRE_MESSAGE_MAX, "a message fits into a chunk");
static_assert(HF_DISKSHM_CHUNK_BYTES % PAGE_BYTES == 0, "chunks can be given back page by page");
static_assert(HF_DISKSHM_ROOM_BYTES >= HF_WIRE_DISK_RECORD_BYTES + HF_WIRE_DISK_DATA_MAX,
	      "the longest record fits");

/* The chunks that are not in use, last in first out, and what was put where, so as not to have to
 * believe the ring. */
struct hf_diskshm_free {
	uint64_t seen_tail; /* chunks before it are in the stack */
	uint32_t n;
	uint32_t stack[HF_DISKSHM_CHUNKS_MAX];
	uint32_t order[HF_DISKSHM_CHUNKS_MAX];
};

static size_t whole_pages(size_t n)
{
	return (n + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/* Where everything is, once n_chunks is known. Return: size of all. */
static size_t lay_out(struct hf_diskshm *s, uint8_t *base)
{
	size_t at = whole_pages(sizeof(struct hf_diskshm_words));

	s->words = (struct hf_diskshm_words *)(void *)base;
	for (int i = 0; i < HF_DISKSHM_POOLS; i++) {
		if (base)
			s->pool[i] = (struct hf_diskshm_pool *)(void *)(base + at);
		at += whole_pages(sizeof(struct hf_diskshm_pool));
	}
	for (int i = 0; i < HF_DISKSHM_POOLS; i++) {
		if (base)
			s->chunks[i] = base + at;
		at += s->n_chunks[i] * HF_DISKSHM_CHUNK_BYTES;
	}
	return at;
}

static int new_free(struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	struct hf_diskshm_free *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	for (f->n = 0; f->n < s->n_chunks[pool]; f->n++)
		f->stack[f->n] = s->n_chunks[pool] - 1 - f->n;
	s->free[pool] = f;
	return 0;
}

/* ---- making it ---- */

static int count_chunks(uint64_t soft_bytes, uint64_t reserve_bytes, struct hf_diskshm *s,
			struct hf_err *err)
{
	uint64_t soft = soft_bytes / HF_DISKSHM_CHUNK_BYTES + 2;
	uint64_t all = soft + reserve_bytes / HF_DISKSHM_CHUNK_BYTES + 2;

	if (soft_bytes > UINT64_MAX / 4 || reserve_bytes > UINT64_MAX / 4 ||
	    all > HF_DISKSHM_CHUNKS_MAX) {
		hf_err_set(err, "a disk log of %llu + %llu bytes is not possible, at most %llu are",
			   (unsigned long long)soft_bytes, (unsigned long long)reserve_bytes,
			   (unsigned long long)(HF_DISKSHM_CHUNKS_MAX - 4) *
				   HF_DISKSHM_CHUNK_BYTES);
		return -EINVAL;
	}
	for (int i = HF_DISKSHM_OUT; i <= HF_DISKSHM_IN; i++) {
		s->n_chunks[i] = (uint32_t)all;
		s->soft_chunks[i] = (uint32_t)soft;
	}
	s->n_chunks[HF_DISKSHM_SYNC] = s->soft_chunks[HF_DISKSHM_SYNC] = HF_DISKSHM_SYNC_CHUNKS;
	s->n_chunks[HF_DISKSHM_COPY] = HF_DISKSHM_COPY_CHUNKS;
	s->soft_chunks[HF_DISKSHM_COPY] = HF_DISKSHM_SYNC_CHUNKS;
	return 0;
}

static int make_memory(struct hf_diskshm *s, struct hf_err *err)
{
	struct hf_ram ram = HF_RAM_NONE;
	int r;

	s->size_bytes = lay_out(s, NULL);
	r = hf_ram_open("holdfast-disks", HF_RAM_PAGES_DEFAULT, s->size_bytes, &ram, err);
	if (r < 0) {
		hf_err_prefix(err, "shared memory for disk writes: ");
		return r;
	}
	s->fd = ram.fd;
	(void)lay_out(s, ram.base);
	return 0;
}

static int make_eventfd(int *ret, struct hf_err *err)
{
	*ret = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*ret >= 0)
		return 0;
	hf_err_set(err, "cannot make an eventfd: %s", strerror(errno));
	return -errno;
}

static void fill_in(struct hf_diskshm *s, uint32_t n_disks)
{
	s->words->magic = HF_DISKSHM_MAGIC;
	s->words->n_disks = n_disks;
	atomic_store(&s->words->permit_ns, UINT64_MAX);
	atomic_store(&s->words->lease_ns, UINT64_MAX);
	for (int i = 0; i < HF_DISKSHM_POOLS; i++) {
		s->pool[i]->n_chunks = s->n_chunks[i];
		s->pool[i]->soft_chunks = s->soft_chunks[i];
	}
}

int hf_diskshm_create(uint32_t n_disks, uint64_t soft_bytes, uint64_t reserve_bytes,
		      struct hf_diskshm *ret, struct hf_err *err)
{
	struct hf_diskshm s = HF_DISKSHM_NONE;
	int r = count_chunks(soft_bytes, reserve_bytes, &s, err);

	assert(n_disks > 0 && n_disks <= HF_WIRE_DISKS_MAX);
	if (!r)
		r = make_memory(&s, err);
	if (!r)
		r = make_eventfd(&s.kick_fd, err);
	if (!r)
		r = make_eventfd(&s.notice_fd, err);
	if (!r)
		r = new_free(&s, HF_DISKSHM_IN);
	if (!r)
		r = new_free(&s, HF_DISKSHM_COPY);
	if (r < 0) {
		hf_diskshm_close(&s);
		return r;
	}
	fill_in(&s, n_disks);
	*ret = s;
	return 0;
}

/* ---- mapping what was inherited ---- */

static int check_file(int fd, size_t *ret_size, struct hf_err *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0) {
		hf_err_set(err, "descriptor %d is no sealed memory file", fd);
		return -EINVAL;
	}
	if ((uint64_t)st.st_size <
	    whole_pages(sizeof(struct hf_diskshm_words)) +
		    HF_DISKSHM_POOLS * whole_pages(sizeof(struct hf_diskshm_pool))) {
		hf_err_set(err, "descriptor %d has %lld bytes: it is not the shared disk log", fd,
			   (long long)st.st_size);
		return -EINVAL;
	}
	*ret_size = (size_t)st.st_size;
	return 0;
}

static int check_sizes(struct hf_diskshm *s, uint8_t *base, struct hf_err *err)
{
	(void)lay_out(s, base);
	if (s->words->magic != HF_DISKSHM_MAGIC || s->words->n_disks < 1 ||
	    s->words->n_disks > HF_WIRE_DISKS_MAX) {
		hf_err_set(err, "the shared memory is not a disk log of this version");
		return -EINVAL;
	}
	for (int i = 0; i < HF_DISKSHM_POOLS; i++) {
		s->n_chunks[i] = s->pool[i]->n_chunks;
		s->soft_chunks[i] = s->pool[i]->soft_chunks;
		if (s->n_chunks[i] < 2 || s->n_chunks[i] > HF_DISKSHM_CHUNKS_MAX ||
		    s->soft_chunks[i] > s->n_chunks[i]) {
			hf_err_set(err, "the shared disk log's pool %d cannot have %u chunks", i,
				   s->n_chunks[i]);
			return -EINVAL;
		}
	}
	if (lay_out(s, base) == s->size_bytes)
		return 0;
	hf_err_set(err, "the shared disk log has %zu bytes, its pools take %zu", s->size_bytes,
		   lay_out(s, base));
	return -EINVAL;
}

/* What a predecessor had in use. */
static int restore_free(struct hf_diskshm *s, enum hf_diskshm_pool_id pool, struct hf_err *err)
{
	struct hf_diskshm_pool *p = s->pool[pool];
	uint64_t head = atomic_load(&p->head), tail = atomic_load(&p->tail);
	uint32_t n = s->n_chunks[pool];
	struct hf_diskshm_free *f;
	int r = new_free(s, pool);

	if (r < 0)
		return r;
	f = s->free[pool];
	if (head < tail || head - tail > n)
		goto nonsense;
	for (uint64_t at = tail; at < head; at++) {
		uint32_t c = atomic_load(&p->order[at % n]);

		if (c >= n || f->stack[n - 1 - c] == UINT32_MAX)
			goto nonsense;
		f->stack[n - 1 - c] = UINT32_MAX;
		f->order[at % n] = c;
	}
	f->n = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (f->stack[i] != UINT32_MAX)
			f->stack[f->n++] = f->stack[i];
	}
	f->seen_tail = tail;
	return 0;
nonsense:
	hf_err_set(err, "the shared disk log's pool %u is damaged", (unsigned int)pool);
	return -EBADMSG;
}

int hf_diskshm_attach(int fd, int kick_fd, int notice_fd, struct hf_diskshm *ret,
		      struct hf_err *err)
{
	struct hf_diskshm s = HF_DISKSHM_NONE;
	uint8_t *base;
	int r = check_file(fd, &s.size_bytes, err);

	if (r < 0)
		return r;
	base = mmap(NULL, s.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED) {
		hf_err_set(err, "cannot map the shared disk log: %s", strerror(errno));
		return -errno;
	}
	r = check_sizes(&s, base, err);
	if (!r)
		r = restore_free(&s, HF_DISKSHM_OUT, err);
	if (!r)
		r = restore_free(&s, HF_DISKSHM_SYNC, err);
	if (r < 0) {
		hf_diskshm_close(&s);
		return r;
	}
	s.fd = fd;
	s.kick_fd = kick_fd;
	s.notice_fd = notice_fd;
	*ret = s;
	return 0;
}

void hf_diskshm_close(struct hf_diskshm *s)
{
	if (s->words)
		(void)munmap(s->words, s->size_bytes);
	for (int i = 0; i < HF_DISKSHM_POOLS; i++)
		free(s->free[i]);
	hf_fd_close(&s->fd);
	hf_fd_close(&s->kick_fd);
	hf_fd_close(&s->notice_fd);
	*s = HF_DISKSHM_NONE;
}

/* A full counter means that the other side has yet to look: nothing is lost. */
static void ring(int fd)
{
	uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

void hf_diskshm_kick(const struct hf_diskshm *s)
{
	ring(s->kick_fd);
}

void hf_diskshm_notify(const struct hf_diskshm *s)
{
	ring(s->notice_fd);
}

/* ---- chunks ---- */

uint64_t hf_diskshm_head(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	return atomic_load_explicit(&s->pool[pool]->head, memory_order_acquire);
}

uint64_t hf_diskshm_tail(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	return atomic_load_explicit(&s->pool[pool]->tail, memory_order_acquire);
}

/* The tail first: it never passes the head. */
uint64_t hf_diskshm_in_use(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	uint64_t tail = hf_diskshm_tail(s, pool);

	return hf_diskshm_head(s, pool) - tail;
}

/* Chunks that the freeing side has given back since. */
static bool collect(struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	struct hf_diskshm_free *f = s->free[pool];
	uint64_t tail = hf_diskshm_tail(s, pool);
	uint64_t in_use = s->n_chunks[pool] - f->n;

	if (tail - f->seen_tail > in_use)
		return false;
	for (; f->seen_tail < tail; f->seen_tail++)
		f->stack[f->n++] = f->order[f->seen_tail % s->n_chunks[pool]];
	return true;
}

static uint64_t own_head(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	const struct hf_diskshm_free *f = s->free[pool];

	return f->seen_tail + (s->n_chunks[pool] - f->n);
}

uint8_t *hf_diskshm_prepare(struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	struct hf_diskshm_free *f = s->free[pool];

	assert(f);
	if (!collect(s, pool) || f->n == 0)
		return NULL;
	return s->chunks[pool] + f->stack[f->n - 1] * HF_DISKSHM_CHUNK_BYTES;
}

/* The head last: a reader sees a chunk that is as it is meant to be. */
struct hf_diskshm_chunk *hf_diskshm_publish(struct hf_diskshm *s, enum hf_diskshm_pool_id pool,
					    uint64_t epoch, uint32_t used_bytes, uint32_t n_records)
{
	struct hf_diskshm_pool *p = s->pool[pool];
	struct hf_diskshm_free *f = s->free[pool];
	uint64_t head = own_head(s, pool);
	uint32_t c;

	assert(f->n > 0);
	c = f->stack[--f->n];
	atomic_store(&p->chunk[c].epoch, epoch);
	hf_diskshm_set_fill(&p->chunk[c], used_bytes, n_records);
	f->order[head % s->n_chunks[pool]] = c;
	atomic_store(&p->order[head % s->n_chunks[pool]], c);
	atomic_store_explicit(&p->head, head + 1, memory_order_release);
	return &p->chunk[c];
}

uint8_t *hf_diskshm_take(struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t epoch,
			 uint32_t *ret_i)
{
	uint8_t *message = hf_diskshm_prepare(s, pool);

	if (message)
		*ret_i =
			(uint32_t)(hf_diskshm_publish(s, pool, epoch, 0, 0) - s->pool[pool]->chunk);
	return message;
}

void hf_diskshm_untake(struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	struct hf_diskshm_free *f = s->free[pool];
	uint64_t head;

	assert(f);
	if (!collect(s, pool) || f->n == s->n_chunks[pool])
		return;
	head = own_head(s, pool) - 1;
	f->stack[f->n++] = f->order[head % s->n_chunks[pool]];
	atomic_store(&s->pool[pool]->chunk[f->stack[f->n - 1]].fill, 0);
	atomic_store_explicit(&s->pool[pool]->head, head, memory_order_release);
}

static void give_back(const struct hf_diskshm *s, const uint8_t *message)
{
	off_t at = message - (const uint8_t *)s->words;

	(void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
			(off_t)HF_DISKSHM_CHUNK_BYTES);
}

void hf_diskshm_free_oldest(struct hf_diskshm *s, enum hf_diskshm_pool_id pool)
{
	uint64_t tail = hf_diskshm_tail(s, pool);
	struct hf_diskshm_view v;

	if (!hf_diskshm_look(s, pool, tail, &v))
		return;
	atomic_store(&v.chunk->fill, 0);
	if (hf_diskshm_in_use(s, pool) > s->soft_chunks[pool])
		give_back(s, v.message);
	atomic_store_explicit(&s->pool[pool]->tail, tail + 1, memory_order_release);
}

void hf_diskshm_set_fill(struct hf_diskshm_chunk *chunk, uint32_t used_bytes, uint32_t n_records)
{
	atomic_store_explicit(&chunk->fill, (uint64_t)n_records << 32 | used_bytes,
			      memory_order_release);
}

bool hf_diskshm_look(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t position,
		     struct hf_diskshm_view *ret)
{
	struct hf_diskshm_pool *p = s->pool[pool];
	uint64_t tail = hf_diskshm_tail(s, pool), in_use = hf_diskshm_in_use(s, pool);
	uint32_t n = s->n_chunks[pool];
	uint64_t fill;
	uint32_t c;

	if (in_use > n || position - tail >= in_use)
		return false;
	c = atomic_load(&p->order[position % n]);
	if (c >= n)
		return false;
	ret->chunk = &p->chunk[c];
	ret->message = s->chunks[pool] + c * HF_DISKSHM_CHUNK_BYTES;
	ret->records = ret->message + HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;
	fill = atomic_load_explicit(&ret->chunk->fill, memory_order_acquire);
	ret->used = (uint32_t)fill;
	ret->n_records = (uint32_t)(fill >> 32);
	ret->epoch = atomic_load(&ret->chunk->epoch);
	return ret->used <= HF_DISKSHM_ROOM_BYTES && !ret->used == !ret->n_records &&
	       ret->n_records <= HF_WIRE_DISK_RECORDS_MAX &&
	       ret->used >= ret->n_records * (uint64_t)HF_WIRE_DISK_RECORD_BYTES &&
	       ret->used % 8 == 0;
}

/* ---- the keeper's side ---- */

/* The newest chunk, if it is of @epoch and has room. */
static bool find_room(const struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t epoch,
		      size_t len, uint32_t n_records, struct hf_diskshm_view *ret)
{
	return hf_diskshm_in_use(s, pool) > 0 &&
	       hf_diskshm_look(s, pool, hf_diskshm_head(s, pool) - 1, ret) && ret->epoch == epoch &&
	       ret->used + len <= HF_DISKSHM_ROOM_BYTES &&
	       ret->n_records + n_records <= HF_WIRE_DISK_RECORDS_MAX;
}

bool hf_diskshm_put(struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t epoch,
		    const uint8_t *records, size_t len, uint32_t n_records)
{
	const size_t head = HF_WIRE_HEADER_BYTES + HF_WIRE_DISK_HEAD_BYTES;
	struct hf_diskshm_view v;
	uint8_t *message;

	assert(len > 0 && len <= HF_DISKSHM_ROOM_BYTES);
	assert(pool == HF_DISKSHM_IN ? epoch > 0 : pool == HF_DISKSHM_COPY && epoch == 0);
	/* A piece of a copy may be taken out at any moment, an epoch only when it is whole. */
	if (pool == HF_DISKSHM_IN && find_room(s, pool, epoch, len, n_records, &v)) {
		memcpy(v.message + head + v.used, records, len);
		hf_diskshm_set_fill(v.chunk, v.used + (uint32_t)len, v.n_records + n_records);
		return true;
	}
	message = hf_diskshm_prepare(s, pool);
	if (!message)
		return false;
	memcpy(message + head, records, len);
	(void)hf_diskshm_publish(s, pool, epoch, (uint32_t)len, n_records);
	return true;
}

void hf_diskshm_drop_epoch(struct hf_diskshm *s, uint64_t epoch)
{
	struct hf_diskshm_view v;

	while (hf_diskshm_in_use(s, HF_DISKSHM_IN) > 0 &&
	       hf_diskshm_look(s, HF_DISKSHM_IN, hf_diskshm_head(s, HF_DISKSHM_IN) - 1, &v) &&
	       v.epoch == epoch) {
		uint64_t before = hf_diskshm_head(s, HF_DISKSHM_IN);

		hf_diskshm_untake(s, HF_DISKSHM_IN);
		if (hf_diskshm_head(s, HF_DISKSHM_IN) >= before)
			return; /* the memory makes no sense */
	}
}

static void free_to(struct hf_diskshm *s, enum hf_diskshm_pool_id pool, uint64_t done)
{
	uint64_t in_use = hf_diskshm_in_use(s, pool);

	for (uint64_t i = 0; i < in_use && i < s->n_chunks[pool]; i++) {
		if (hf_diskshm_tail(s, pool) >= done)
			return;
		hf_diskshm_free_oldest(s, pool);
	}
}

void hf_diskshm_reclaim(struct hf_diskshm *s)
{
	free_to(s, HF_DISKSHM_IN, atomic_load(&s->words->in_done));
	free_to(s, HF_DISKSHM_COPY, atomic_load(&s->words->copy_done));
}

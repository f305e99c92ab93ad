/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The oracle: a disk and the other host's copy of it, as a version number for each block. Whatever
 * happens, a block that differs must be set in the file: at every moment, for the process may die
 * at any. What the file says is read past the map's own code.
 */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/dirtymap-internal.h"

#define BLOCK ((uint64_t)HF_DIRTYMAP_BLOCK_BYTES)
#define BLOCKS_MAX 200u

static const struct hf_id first = { 1, 1 }, second = { 2, 2 };
/* In memory if possible: thousands of files are made, each made durable. */
static char in_memory[] = "/dev/shm/test-dirtymap-XXXXXX", on_disk[] = "/tmp/test-dirtymap-XXXXXX";
static const char *folder;
static char path[64];

static void clean_up(void)
{
	(void)unlink(path);
	(void)rmdir(folder);
}

/* A file that is not there. */
static const char *new_path(void)
{
	if (path[0] == '\0') {
		folder = mkdtemp(in_memory);
		folder = folder ? folder : mkdtemp(on_disk);
		CHECK(folder);
		CHECK_EQ(atexit(clean_up), 0);
		(void)snprintf(path, sizeof(path), "%s/map", folder);
	}
	(void)unlink(path);
	return path;
}

static struct hf_dirtymap *open_map(uint64_t disk_bytes)
{
	struct hf_err err = { "" };
	struct hf_dirtymap *m;

	if (hf_dirtymap_open(path, disk_bytes, &m, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return m;
}

static bool is_set_in(int fd, uint64_t block)
{
	uint8_t byte;

	CHECK_EQ(pread(fd, &byte, 1, (off_t)(HF_DIRTYFILE_HEADER_BYTES + block / 8)), 1);
	return byte >> (block % 8) & 1;
}

static bool is_set(uint64_t block)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool set;

	CHECK(fd >= 0);
	set = is_set_in(fd, block);
	(void)close(fd);
	return set;
}

/* Everything sent and confirmed: the map is empty. */
static void empty(struct hf_dirtymap *m, struct hf_id session)
{
	uint64_t cursor = 0, offset, length;

	hf_dirtymap_send_begin(m, false, session);
	while (hf_dirtymap_send_next(m, &cursor, UINT64_MAX, &offset, &length))
		continue;
	hf_dirtymap_send_end(m);
	(void)hf_dirtymap_turn(m);
	hf_dirtymap_confirm(m);
	(void)hf_dirtymap_turn(m);
	hf_dirtymap_confirm(m);
	CHECK_EQ(hf_dirtymap_dirty_bytes(m), 0);
}

static struct hf_dirtymap *die_and_open(struct hf_dirtymap *m, uint64_t disk_bytes)
{
	hf_dirtymap_abandon(m);
	return open_map(disk_bytes);
}

/* ---- the oracle ---- */

#define SENT_MAX 4096u
#define WRITERS_MAX 4u

struct piece {
	uint64_t block;
	uint64_t version;
	bool is_read; /* else the block is off the list, and not read yet */
};

struct writer {
	bool is_on, has_stored;
	uint64_t block;
	unsigned int token;
};

struct oracle {
	struct hf_dirtymap *m;
	int fd; /* the file, read past the map */
	uint64_t n_blocks;
	uint64_t disk[BLOCKS_MAX], copy[BLOCKS_MAX];
	struct piece piece[SENT_MAX]; /* in the order in which they came off the list */
	unsigned int n_pieces, n_delivered;
	unsigned int turned_at; /* pieces before the last turn */
	bool may_confirm; /* a turn is not confirmed */
	bool is_sending;
	bool has_snapshot; /* at the last turn, for what epochs carry */
	uint64_t snapshot[BLOCKS_MAX];
	uint64_t cursor;
	struct writer writer[WRITERS_MAX];
};

static void begin_oracle(struct oracle *o, uint64_t n_blocks)
{
	memset(o, 0, sizeof(*o));
	o->n_blocks = n_blocks;
	(void)new_path();
	o->m = open_map(n_blocks * BLOCK);
	empty(o->m, first);
	o->fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(o->fd >= 0);
}

static void end_oracle(struct oracle *o)
{
	hf_dirtymap_abandon(o->m);
	(void)close(o->fd);
}

/* A store may have reached the disk, or may yet, as long as its writer is not done. */
static void check_oracle(const struct oracle *o)
{
	for (uint64_t b = 0; b < o->n_blocks; b++)
		CHECK(o->disk[b] == o->copy[b] || is_set_in(o->fd, b));
	for (unsigned int i = 0; i < WRITERS_MAX; i++)
		CHECK(!o->writer[i].is_on || is_set_in(o->fd, o->writer[i].block));
}

enum op {
	OP_BEGIN,
	OP_STORE,
	OP_END,
	OP_SEND_BEGIN,
	OP_SEND_END,
	OP_TAKE,
	OP_READ,
	OP_AGAIN,
	OP_DELIVER,
	OP_TURN,
	OP_CONFIRM,
	OP_DIE,
	OPS,
};

static bool do_begin(struct oracle *o, struct writer *w, uint64_t block)
{
	if (w->is_on)
		return false;
	*w = (struct writer){ .is_on = true, .block = block };
	w->token = hf_dirtymap_write_begin(o->m, block * BLOCK, BLOCK);
	return true;
}

static bool do_store(struct oracle *o, struct writer *w)
{
	if (!w->is_on || w->has_stored)
		return false;
	w->has_stored = true;
	o->disk[w->block]++;
	return true;
}

static bool do_end(struct oracle *o, struct writer *w)
{
	if (!w->is_on)
		return false;
	hf_dirtymap_write_end(o->m, w->token, w->block * BLOCK, BLOCK);
	w->is_on = false;
	return true;
}

static bool do_take(struct oracle *o)
{
	uint64_t offset, length;

	if (o->n_pieces == SENT_MAX)
		return false;
	if (!hf_dirtymap_send_next(o->m, &o->cursor, BLOCK, &offset, &length)) {
		o->cursor = 0;
		return hf_dirtymap_left_bytes(o->m) > 0;
	}
	CHECK_EQ(length, BLOCK);
	o->piece[o->n_pieces++] = (struct piece){ .block = offset / BLOCK };
	return true;
}

/* The oldest that is not read: pieces are sent in order. */
static bool do_read(struct oracle *o, bool fails)
{
	unsigned int i = o->n_delivered;

	while (i < o->n_pieces && o->piece[i].is_read)
		i++;
	if (i == o->n_pieces)
		return false;
	if (fails) {
		hf_dirtymap_send_again(o->m, o->piece[i].block * BLOCK, BLOCK);
		o->piece[i].version = UINT64_MAX; /* there is nothing to deliver */
	} else {
		o->piece[i].version = o->disk[o->piece[i].block];
	}
	o->piece[i].is_read = true;
	return true;
}

static void deliver(struct oracle *o, uint64_t block, uint64_t version)
{
	if (version > o->copy[block])
		o->copy[block] = version;
}

static bool do_deliver(struct oracle *o)
{
	const struct piece *p = &o->piece[o->n_delivered];

	if (o->n_delivered == o->n_pieces || !p->is_read)
		return false;
	if (p->version != UINT64_MAX)
		deliver(o, p->block, p->version);
	o->n_delivered++;
	return true;
}

static bool do_sending(struct oracle *o, bool is_begin)
{
	if (is_begin)
		hf_dirtymap_send_begin(o->m, false, second);
	else if (o->is_sending)
		hf_dirtymap_send_end(o->m);
	else
		return false;
	o->is_sending = is_begin;
	o->cursor = 0;
	return true;
}

/* While a copy is sent, only pieces carry content over; else epochs do: all that was stored
 * before. */
static bool do_turn(struct oracle *o)
{
	if (!hf_dirtymap_turn(o->m))
		return false;
	CHECK(!o->may_confirm);
	o->turned_at = o->n_pieces;
	o->may_confirm = true;
	o->has_snapshot = !o->is_sending;
	memcpy(o->snapshot, o->disk, sizeof(o->snapshot));
	return true;
}

static bool do_confirm(struct oracle *o)
{
	if (!o->may_confirm || o->n_delivered < o->turned_at)
		return false;
	for (uint64_t b = 0; o->has_snapshot && b < o->n_blocks; b++)
		deliver(o, b, o->snapshot[b]);
	hf_dirtymap_confirm(o->m);
	o->may_confirm = false;
	return true;
}

/* Stores that were under way may still land; what was read and not sent is gone. */
static bool do_die(struct oracle *o)
{
	o->m = die_and_open(o->m, o->n_blocks * BLOCK);
	CHECK(hf_dirtymap_is_trusted(o->m));
	for (unsigned int i = 0; i < WRITERS_MAX; i++) {
		(void)do_store(o, &o->writer[i]);
		o->writer[i].is_on = false;
	}
	o->n_delivered = o->n_pieces = o->turned_at = 0;
	o->cursor = 0;
	o->may_confirm = o->is_sending = false;
	return true;
}

/* False: that is not possible now. */
static bool do_op(struct oracle *o, enum op op, struct writer *w, uint64_t block)
{
	switch (op) {
	case OP_BEGIN:
		return do_begin(o, w, block);
	case OP_STORE:
		return do_store(o, w);
	case OP_END:
		return do_end(o, w);
	case OP_SEND_BEGIN:
	case OP_SEND_END:
		return do_sending(o, op == OP_SEND_BEGIN);
	case OP_TAKE:
		return do_take(o);
	case OP_READ:
	case OP_AGAIN:
		return do_read(o, op == OP_AGAIN);
	case OP_DELIVER:
		return do_deliver(o);
	case OP_TURN:
		return do_turn(o);
	case OP_CONFIRM:
		return do_confirm(o);
	case OP_DIE:
		return do_die(o);
	case OPS:
	default:
		return false;
	}
}

/* Everybody finishes: then nothing differs, and nothing is set. */
static void finish(struct oracle *o)
{
	for (unsigned int i = 0; i < WRITERS_MAX; i++)
		(void)do_end(o, &o->writer[i]);
	(void)do_sending(o, true);
	for (int pass = 0; pass < 3; pass++) {
		while (do_take(o))
			continue;
		while (do_read(o, false) || do_deliver(o))
			continue;
		(void)do_confirm(o);
		(void)do_turn(o);
		check_oracle(o);
	}
	CHECK_EQ(hf_dirtymap_left_bytes(o->m), 0);
	CHECK_EQ(hf_dirtymap_dirty_bytes(o->m), 0);
	CHECK_EQ(memcmp(o->disk, o->copy, sizeof(o->disk)), 0);
}

/* ---- all short stories of one block ---- */

#define DEPTH_MAX 16u

struct story {
	unsigned int len;
	uint8_t op[DEPTH_MAX]; /* and writer: op * 2 + which */
	unsigned int depth;
	uint64_t n;
	struct oracle o;
};

static bool tell(struct story *s)
{
	bool is_possible = true;

	begin_oracle(&s->o, 1);
	for (unsigned int i = 0; i < s->len; i++) {
		is_possible = do_op(&s->o, (enum op)(s->op[i] / 2), &s->o.writer[s->op[i] % 2], 0);
		if (!is_possible)
			break;
		check_oracle(&s->o);
	}
	if (is_possible)
		finish(&s->o);
	end_oracle(&s->o);
	return is_possible;
}

static void tell_all(struct story *s)
{
	if (s->len > 0 && !tell(s))
		return;
	s->n++;
	if (s->len == s->depth)
		return;
	s->len++;
	for (unsigned int op = 0; op < OPS * 2u; op++) {
		if (op % 2 == 1 && op / 2 > OP_END)
			continue; /* no writer's matter */
		s->op[s->len - 1] = (uint8_t)op;
		tell_all(s);
	}
	s->len--;
}

TEST(every_short_story_of_a_block)
{
	struct story *s = calloc(1, sizeof(*s));

	CHECK(s);
	s->depth = 5;
	tell_all(s);
	printf("# %" PRIu64 " stories\n", s->n);
	free(s);
}

/* ---- long ones ---- */

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* In half of them deaths are rare: they forget much that is interesting. */
static void long_story(struct oracle *o, uint64_t seed)
{
	uint64_t random = seed, n_blocks = 1 + seed * 7 % 150;

	begin_oracle(o, n_blocks);
	for (unsigned int i = 0; i < 1500; i++) {
		enum op op = (enum op)(next_random(&random) % OPS);
		struct writer *w = &o->writer[next_random(&random) % WRITERS_MAX];
		uint64_t block = next_random(&random) % n_blocks;

		if (op == OP_DIE && next_random(&random) % 16 > seed % 2)
			continue;
		if (do_op(o, op, w, block))
			check_oracle(o);
		if (o->n_pieces == SENT_MAX)
			(void)do_die(o);
	}
	finish(o);
	end_oracle(o);
}

TEST(long_stories)
{
	struct oracle *o = malloc(sizeof(*o));

	CHECK(o);
	for (uint64_t seed = 0; seed < 60; seed++)
		long_story(o, seed);
	free(o);
}

/* ---- threads ---- */

struct crowd {
	struct hf_dirtymap *m;
	_Atomic uint64_t disk[BLOCKS_MAX];
	_Atomic uint64_t copy[BLOCKS_MAX];
	atomic_bool is_over;
	_Atomic uint64_t n_writes;
	uint64_t n_blocks;
};

static void *write_blocks(void *arg)
{
	struct crowd *c = arg;
	uint64_t random = atomic_fetch_add(&c->n_writes, 1);

	while (!atomic_load(&c->is_over)) {
		uint64_t first_block = next_random(&random) % c->n_blocks;
		uint64_t n = 1 + next_random(&random) % 3;
		unsigned int token;

		n = n < c->n_blocks - first_block ? n : c->n_blocks - first_block;
		token = hf_dirtymap_write_begin(c->m, first_block * BLOCK + 1, n * BLOCK - 1);
		for (uint64_t b = first_block; b < first_block + n; b++)
			atomic_fetch_add(&c->disk[b], 1);
		hf_dirtymap_write_end(c->m, token, first_block * BLOCK + 1, n * BLOCK - 1);
		atomic_fetch_add(&c->n_writes, 1);
	}
	return NULL;
}

/* Sends in order, and confirms after each round. */
static void *send_blocks(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->is_over)) {
		uint64_t cursor = 0, offset, length;

		while (hf_dirtymap_send_next(c->m, &cursor, 4 * BLOCK, &offset, &length))
			for (uint64_t b = offset / BLOCK; b < (offset + length) / BLOCK; b++)
				atomic_store(&c->copy[b], atomic_load(&c->disk[b]));
		hf_dirtymap_confirm(c->m);
		(void)hf_dirtymap_turn(c->m);
	}
	return NULL;
}

static void run_crowd(struct crowd *c, uint64_t n_writes)
{
	pthread_t writer[3], sender;

	hf_dirtymap_send_begin(c->m, false, second);
	CHECK_EQ(pthread_create(&sender, NULL, send_blocks, c), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&writer[i], NULL, write_blocks, c), 0);
	while (atomic_load(&c->n_writes) < n_writes)
		(void)sched_yield();
	atomic_store(&c->is_over, true);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_join(writer[i], NULL), 0);
	CHECK_EQ(pthread_join(sender, NULL), 0);
}

TEST(many_writers_and_a_sender)
{
	static struct crowd c;

	for (unsigned int round = 0; round < 10; round++) {
		memset(&c, 0, sizeof(c));
		c.n_blocks = 1 + round * 7;
		(void)new_path();
		c.m = open_map(c.n_blocks * BLOCK);
		empty(c.m, first);
		run_crowd(&c, 20000);
		for (uint64_t b = 0; b < c.n_blocks; b++)
			CHECK(c.disk[b] == c.copy[b] || is_set(b));
		hf_dirtymap_abandon(c.m);
	}
}

/* ---- what stands in the file ---- */

TEST(a_new_map_knows_nothing)
{
	struct hf_dirtymap *m;
	uint64_t size = 100 * BLOCK + 512;
	struct stat st;

	(void)new_path();
	m = open_map(size);
	CHECK(!hf_dirtymap_is_trusted(m));
	CHECK(hf_id_is_none(hf_dirtymap_session(m)));
	CHECK_EQ(hf_dirtymap_dirty_bytes(m), size);
	CHECK_EQ(hf_dirtymap_left_bytes(m), 0); /* nothing is being sent */
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_size, 8192);
	CHECK(st.st_blocks * 512 >= 8192); /* all of it is there: no SIGBUS later */
	CHECK_EQ(st.st_mode & 0777, 0600);
	hf_dirtymap_close(m);
}

TEST(a_full_list_is_all_of_the_disk_and_the_last_block_is_short)
{
	struct hf_dirtymap *m;
	uint64_t size = 100 * BLOCK + 512, cursor = 0, offset, length, sum = 0;

	(void)new_path();
	m = open_map(size);
	empty(m, first);
	hf_dirtymap_send_begin(m, true, second);
	CHECK(hf_dirtymap_is_trusted(m));
	CHECK(hf_id_is_equal(hf_dirtymap_session(m), second));
	CHECK_EQ(hf_dirtymap_left_bytes(m), size);
	while (hf_dirtymap_send_next(m, &cursor, 7 * BLOCK + 1, &offset, &length)) {
		CHECK_EQ(offset, sum);
		CHECK(length <= 7 * BLOCK);
		sum += length;
		CHECK_EQ(hf_dirtymap_left_bytes(m), size - sum);
	}
	CHECK_EQ(sum, size);
	CHECK_EQ(hf_dirtymap_dirty_bytes(m), size);
	hf_dirtymap_send_again(m, 100 * BLOCK, 512);
	CHECK_EQ(hf_dirtymap_left_bytes(m), 512);
	hf_dirtymap_close(m);
}

TEST(only_what_was_written_is_set)
{
	struct hf_dirtymap *m;
	uint64_t cursor = 0, offset, length;

	(void)new_path();
	m = open_map(1000 * BLOCK);
	empty(m, first);
	hf_dirtymap_set(m, 3 * BLOCK - 1, 2);
	hf_dirtymap_set(m, 64 * BLOCK, BLOCK);
	hf_dirtymap_set(m, 10 * BLOCK, 0);
	CHECK_EQ(hf_dirtymap_dirty_bytes(m), 3 * BLOCK);
	m = die_and_open(m, 1000 * BLOCK);
	CHECK(hf_dirtymap_is_trusted(m));
	CHECK(hf_id_is_equal(hf_dirtymap_session(m), first));
	hf_dirtymap_send_begin(m, false, second);
	CHECK_EQ(hf_dirtymap_left_bytes(m), 3 * BLOCK);
	CHECK(hf_dirtymap_send_next(m, &cursor, UINT64_MAX, &offset, &length));
	CHECK_EQ(offset, 2 * BLOCK);
	CHECK_EQ(length, 2 * BLOCK);
	CHECK(hf_dirtymap_send_next(m, &cursor, UINT64_MAX, &offset, &length));
	CHECK_EQ(offset, 64 * BLOCK);
	CHECK_EQ(length, BLOCK);
	CHECK(!hf_dirtymap_send_next(m, &cursor, UINT64_MAX, &offset, &length));
	hf_dirtymap_close(m);
}

static void change_header(void (*change)(struct hf_dirtyfile_header *h))
{
	uint8_t buf[HF_DIRTYFILE_HEADER_BYTES];
	struct hf_dirtyfile_header h;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(hf_dirtyfile_get(buf, &h));
	change(&h);
	hf_dirtyfile_put(buf, &h);
	CHECK_EQ(pwrite(fd, buf, sizeof(buf), 0), sizeof(buf));
	(void)close(fd);
}

static void boot(struct hf_dirtyfile_header *h)
{
	h->boot.lo ^= 1;
}

TEST(trust_after_a_reboot_only_if_closed_in_order)
{
	struct hf_dirtymap *m;

	(void)new_path();
	m = open_map(10 * BLOCK);
	empty(m, first);
	hf_dirtymap_set(m, 0, 1);
	hf_dirtymap_abandon(m);
	change_header(boot);
	m = open_map(10 * BLOCK);
	CHECK(!hf_dirtymap_is_trusted(m));
	CHECK(hf_id_is_none(hf_dirtymap_session(m)));
	CHECK_EQ(hf_dirtymap_dirty_bytes(m), 10 * BLOCK);
	empty(m, first);
	hf_dirtymap_set(m, 0, 1);
	hf_dirtymap_close(m);
	change_header(boot);
	m = open_map(10 * BLOCK);
	CHECK(hf_dirtymap_is_trusted(m));
	CHECK_EQ(hf_dirtymap_dirty_bytes(m), BLOCK);
	hf_dirtymap_abandon(m);
	/* Open since then: the word that it was closed in order is gone. */
	change_header(boot);
	m = open_map(10 * BLOCK);
	CHECK(!hf_dirtymap_is_trusted(m));
	hf_dirtymap_close(m);
}

static void write_byte(off_t at, uint8_t with)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, &with, 1, at), 1);
	(void)close(fd);
}

TEST(what_cannot_be_read_is_begun_anew)
{
	struct hf_dirtymap *m;

	for (int kind = 0; kind < 4; kind++) {
		uint64_t size = 10 * BLOCK;

		(void)new_path();
		m = open_map(size);
		empty(m, first);
		hf_dirtymap_close(m);
		if (kind == 0)
			write_byte(3000, 1);
		if (kind == 1)
			CHECK_EQ(truncate(path, 5000), 0);
		if (kind == 2)
			CHECK_EQ(truncate(path, 0), 0);
		if (kind == 3)
			size = 11 * BLOCK;
		m = open_map(size);
		CHECK(!hf_dirtymap_is_trusted(m));
		CHECK_EQ(hf_dirtymap_dirty_bytes(m), size);
		hf_dirtymap_close(m);
	}
}

TEST(bits_beyond_the_disk_do_not_count)
{
	struct hf_dirtymap *m;

	(void)new_path();
	m = open_map(10 * BLOCK);
	empty(m, first);
	hf_dirtymap_close(m);
	write_byte(HF_DIRTYFILE_HEADER_BYTES + 1, 0xff);
	m = open_map(10 * BLOCK);
	CHECK_EQ(hf_dirtymap_dirty_bytes(m), 2 * BLOCK);
	hf_dirtymap_close(m);
}

static void expect_refusal(const char *at, uint64_t bytes, int want, const char *text)
{
	struct hf_dirtymap *m = NULL;
	struct hf_err err = { "" };

	CHECK_EQ(hf_dirtymap_open(at, bytes, &m, &err), want);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, at);
	CHECK(!m);
}

TEST(refusals)
{
	struct hf_dirtymap *m;

	(void)new_path();
	expect_refusal(path, 0, -EINVAL, "of 0 bytes");
	expect_refusal(path, HF_DIRTYMAP_DISK_MAX_BYTES + 1, -EINVAL, "no dirty map");
	expect_refusal("/proc/none/map", BLOCK, -ENOENT, "No such file");
	expect_refusal(folder, BLOCK, -EISDIR, "directory");
	m = open_map(BLOCK);
	expect_refusal(path, BLOCK, -EBUSY, "another process");
	hf_dirtymap_close(m);
	hf_dirtymap_close(NULL);
}

/* A real death: every block of which the child said that it was about to write it is set. */
TEST(a_killed_process_loses_no_bit)
{
	struct hf_dirtymap *m;
	uint64_t block, n = 0;
	int pipes[2], status;
	pid_t child;

	(void)new_path();
	m = open_map(BLOCKS_MAX * BLOCK);
	empty(m, first);
	hf_dirtymap_close(m);
	CHECK_EQ(pipe(pipes), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		m = open_map(BLOCKS_MAX * BLOCK);
		for (block = 0;; block = (block + 7) % BLOCKS_MAX) {
			(void)hf_dirtymap_write_begin(m, block * BLOCK, 1);
			if (write(pipes[1], &block, sizeof(block)) != sizeof(block))
				_exit(1);
		}
	}
	(void)close(pipes[1]);
	for (; n < 60; n++)
		CHECK_EQ(read(pipes[0], &block, sizeof(block)), sizeof(block));
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, &status, 0), child);
	for (; read(pipes[0], &block, sizeof(block)) == sizeof(block); n++)
		CHECK(is_set(block));
	for (uint64_t i = 0; i < 60; i++)
		CHECK(is_set(i * 7 % BLOCKS_MAX));
	(void)close(pipes[0]);
	m = open_map(BLOCKS_MAX * BLOCK);
	CHECK(hf_dirtymap_is_trusted(m));
	CHECK(hf_dirtymap_dirty_bytes(m) >= 60 * BLOCK);
	hf_dirtymap_close(m);
}

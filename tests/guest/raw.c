/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Blocks with a memory: the oracle of a disk without a file system, and load in any amount. Theory of
 * operation:
 *
 * Writes are numbered from 0; write n goes to block n * stride % blocks, so that each round meets
 * every block once and seldom two neighbours in a row. A block's content says its number and follows
 * from it. A batch of writes is under way at a time (Linux AIO, O_DIRECT), then comes a flush, and then
 * "durable" says the number behind the last write.
 *
 * So one number says which write each block must hold: exactly the last one to it, in the boot that wrote;
 * that one or a later one of those that the outside was told, when the guest itself has died with a
 * batch under way. The boot after it goes on behind what was told, and writes the rest once more.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define BLOCK_BYTES ((size_t)4096)
#define BLOCKS_PER_MIB 256
#define MIB_MAX 4096
#define BATCH_MAX 128
#define CHECK_BYTES ((size_t)1 << 20)
#define MAGIC UINT64_C(0x31574152664821)

static struct {
	pthread_mutex_t lock;
	pthread_cond_t is_changed;
	bool has_thread;
	bool is_active;
	_Atomic bool is_wanted;
	char device[24];
	uint64_t blocks;
	uint64_t batch;
	uint64_t rate;
	uint64_t base; /* this boot's first */
	uint64_t next;
	_Atomic uint64_t durable;
	_Atomic uint64_t count;
} raw = { .lock = PTHREAD_MUTEX_INITIALIZER, .is_changed = PTHREAD_COND_INITIALIZER };

struct batch {
	aio_context_t context;
	uint8_t *buf;
	struct iocb iocb[BATCH_MAX];
	struct iocb *list[BATCH_MAX];
	struct io_event event[BATCH_MAX];
};

/* --- where and what --- */

/* Near the golden section, and without a common divisor. */
static uint64_t stride_for(uint64_t blocks)
{
	uint64_t stride = blocks * 618 / 1000 | 1;

	for (;; stride += 2) {
		uint64_t a = stride, b = blocks;

		while (b != 0) {
			uint64_t t = a % b;

			a = b;
			b = t;
		}
		if (a == 1)
			return stride;
	}
}

static void fill_block(uint8_t *buf, uint64_t number)
{
	hf_le64_put(buf, MAGIC);
	hf_le64_put(buf + 8, number);
	hf_pattern_fill(buf + 16, BLOCK_BYTES - 16, hf_pattern_mix(MAGIC + number), 0);
}

static bool is_block(const uint8_t *buf, uint64_t *ret_number)
{
	*ret_number = hf_le64_get(buf + 8);
	return hf_le64_get(buf) == MAGIC &&
	       hf_pattern_match(buf + 16, BLOCK_BYTES - 16, hf_pattern_mix(MAGIC + *ret_number),
				0) == BLOCK_BYTES - 16;
}

/* The last write before @end to the block that the @order-th of each round goes to; false: none. */
static bool last_write(uint64_t order, uint64_t blocks, uint64_t end, uint64_t *ret)
{
	if (end <= order)
		return false;
	*ret = order + (end - 1 - order) / blocks * blocks;
	return true;
}

static int open_device(const char *device, int flags, uint64_t blocks, char *reply)
{
	char path[64];
	uint64_t bytes = 0;
	int fd;

	(void)snprintf(path, sizeof(path), "/dev/%s", device);
	fd = open(path, flags | O_DIRECT | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, BLKGETSIZE64, &bytes) == 0 && bytes >= blocks * BLOCK_BYTES)
		return fd;
	(void)snprintf(reply, GUEST_TEXT_MAX, "error %s: %s, %llu bytes", path,
		       fd < 0 ? strerror(errno) : "too small", (unsigned long long)bytes);
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

/* --- writing --- */

static void prepare(struct batch *b, int fd, uint64_t count, uint64_t stride)
{
	memset(b->iocb, 0, sizeof(b->iocb));
	for (uint64_t n = 0; n < count; n++) {
		uint64_t number = raw.next + n;
		uint8_t *buf = b->buf + n * BLOCK_BYTES;

		fill_block(buf, number);
		b->iocb[n].aio_lio_opcode = IOCB_CMD_PWRITE;
		b->iocb[n].aio_fildes = (uint32_t)fd;
		b->iocb[n].aio_buf = (uint64_t)(uintptr_t)buf;
		b->iocb[n].aio_nbytes = BLOCK_BYTES;
		b->iocb[n].aio_offset =
			(int64_t)(number % raw.blocks * stride % raw.blocks * BLOCK_BYTES);
		b->list[n] = &b->iocb[n];
	}
}

static int wait_batch(struct batch *b, long count)
{
	int r = 0;

	for (long done = 0; done < count;) {
		long n = syscall(SYS_io_getevents, b->context, 1, count - done, b->event, NULL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (long i = 0; i < n; i++)
			if (b->event[i].res != (int64_t)BLOCK_BYTES)
				r = b->event[i].res < 0 ? (int)b->event[i].res : -EIO;
		done += n;
	}
	return r;
}

/* A batch of writes and the flush behind it. */
static int write_batch(struct batch *b, int fd, uint64_t count, uint64_t stride)
{
	long sent = 0;
	int r = 0, r2;

	prepare(b, fd, count, stride);
	while (r == 0 && sent < (long)count) {
		long n = syscall(SYS_io_submit, b->context, (long)count - sent, b->list + sent);

		if (n < 0)
			r = -errno;
		else
			sent += n;
	}
	r2 = wait_batch(b, sent);
	if (r == 0)
		r = r2;
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	if (r < 0)
		return r;
	raw.next += count;
	raw.durable = raw.next;
	raw.count += count;
	return 0;
}

/* Sleep until @count writes more are due. What was missed is not done later. */
static void pace(uint64_t count, uint64_t *due_ns)
{
	uint64_t now = guest_now_ns();
	struct timespec ts;

	if (raw.rate == 0)
		return;
	*due_ns += count * 1000000000 / raw.rate;
	if (*due_ns < now)
		*due_ns = now;
	ts.tv_sec = (time_t)(*due_ns / 1000000000);
	ts.tv_nsec = (long)(*due_ns % 1000000000);
	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void write_until_stopped(struct batch *b, int fd)
{
	uint64_t stride = stride_for(raw.blocks), due_ns = guest_now_ns();

	while (raw.is_wanted) {
		int r = write_batch(b, fd, raw.batch, stride);

		if (r < 0) {
			guest_io_error("raw", -r);
			raw.is_wanted = false;
		} else {
			pace(raw.batch, &due_ns);
		}
	}
}

static void write_job(struct batch *b)
{
	char reply[GUEST_TEXT_MAX];
	int fd = open_device(raw.device, O_RDWR, raw.blocks, reply);

	if (fd < 0) {
		guest_io_error(reply, errno);
		raw.is_wanted = false;
		return;
	}
	write_until_stopped(b, fd);
	(void)close(fd);
}

static void *raw_thread(void *unused)
{
	static struct batch b;

	(void)unused;
	if (posix_memalign((void **)&b.buf, BLOCK_BYTES, BATCH_MAX * BLOCK_BYTES) != 0 ||
	    syscall(SYS_io_setup, BATCH_MAX, &b.context) < 0) {
		guest_io_error("raw: no memory for it", ENOMEM);
		return NULL;
	}
	(void)pthread_mutex_lock(&raw.lock);
	for (;;) {
		while (!raw.is_wanted)
			(void)pthread_cond_wait(&raw.is_changed, &raw.lock);
		raw.is_active = true;
		(void)pthread_mutex_unlock(&raw.lock);
		write_job(&b);
		(void)pthread_mutex_lock(&raw.lock);
		raw.is_active = false;
		(void)pthread_cond_broadcast(&raw.is_changed);
	}
}

/* With the lock held. */
static void stop_writer(void)
{
	raw.is_wanted = false;
	while (raw.is_active)
		(void)pthread_cond_wait(&raw.is_changed, &raw.lock);
}

/* With the lock held. Another region is another story. */
static void use_region(const char *device, uint64_t blocks)
{
	if (strcmp(raw.device, device) == 0 && raw.blocks == blocks)
		return;
	(void)snprintf(raw.device, sizeof(raw.device), "%s", device);
	raw.blocks = blocks;
	raw.base = 0;
	raw.next = 0;
	raw.durable = 0;
}

static bool is_region(uint64_t mib, char *reply)
{
	if (mib > 0 && mib <= MIB_MAX)
		return true;
	(void)snprintf(reply, GUEST_TEXT_MAX, "error want 1 to %d MiB", MIB_MAX);
	return false;
}

void guest_raw_start(const char *device, uint64_t mib, uint64_t batch, uint64_t rate, char *reply)
{
	pthread_t t;

	if (!is_region(mib, reply))
		return;
	(void)pthread_mutex_lock(&raw.lock);
	stop_writer();
	use_region(device, mib * BLOCKS_PER_MIB);
	raw.batch = batch > BATCH_MAX ? BATCH_MAX : batch;
	raw.rate = rate;
	if (!raw.has_thread)
		raw.has_thread = pthread_create(&t, NULL, raw_thread, NULL) == 0;
	raw.is_wanted = batch > 0 && raw.has_thread;
	(void)pthread_cond_broadcast(&raw.is_changed);
	(void)snprintf(reply, GUEST_TEXT_MAX, "ok next=%llu", (unsigned long long)raw.next);
	(void)pthread_mutex_unlock(&raw.lock);
}

/* --- verifying --- */

struct check {
	uint64_t blocks;
	uint64_t told;
	uint64_t highest; /* number behind the highest found */
	unsigned int bad;
	char first[GUEST_TEXT_MAX / 2];
};

static void complain(struct check *c, uint64_t block, uint64_t want, const char *found)
{
	if (c->bad++ == 0)
		(void)snprintf(c->first, sizeof(c->first), "block %llu: want write %llu, found %s",
			       (unsigned long long)block, (unsigned long long)want, found);
}

/* Is this what the @order-th of each round must hold? */
static void check_block(struct check *c, const uint8_t *buf, uint64_t order, uint64_t block)
{
	uint64_t number = 0, want = 0;
	bool is_whole = is_block(buf, &number);
	char text[64];

	(void)snprintf(text, sizeof(text), is_whole ? "write %llu" : "no write, first word %llx",
		       is_whole ? (unsigned long long)number
				: (unsigned long long)hf_le64_get(buf));
	if (is_whole && number >= c->highest)
		c->highest = number + 1;
	if (last_write(order, c->blocks, raw.next, &want) && want >= raw.base) {
		if (!is_whole || number != want)
			complain(c, block, want, text);
	} else if (last_write(order, c->blocks, c->told, &want)) {
		if (!is_whole || number < want || number % c->blocks != order)
			complain(c, block, want, text);
	}
}

/* Reads where the blocks lie one after the other, so the order's number has to be looked up. */
static int check_all(struct check *c, int fd, uint8_t *buf, uint64_t *order_of)
{
	uint64_t stride = stride_for(c->blocks), at = 0;

	for (uint64_t order = 0; order < c->blocks; order++)
		order_of[order * stride % c->blocks] = order;
	while (at < c->blocks) {
		uint64_t n = CHECK_BYTES / BLOCK_BYTES;
		ssize_t got = pread(fd, buf, CHECK_BYTES, (off_t)(at * BLOCK_BYTES));

		if (got < (ssize_t)CHECK_BYTES)
			return got < 0 ? -errno : -EIO;
		for (uint64_t i = 0; i < n; i++)
			check_block(c, buf + i * BLOCK_BYTES, order_of[at + i], at + i);
		at += n;
	}
	return 0;
}

/* A boot that has not written here goes on behind what was told. */
static void adopt(struct check *c)
{
	if (raw.next == 0) {
		raw.next = c->told;
		raw.base = c->told;
	} else if (raw.next < c->told && c->bad++ == 0) {
		(void)snprintf(c->first, sizeof(c->first), "the guest has done %llu, it told %llu",
			       (unsigned long long)raw.next, (unsigned long long)c->told);
	}
}

static int check_region(struct check *c, char *reply)
{
	uint64_t *order_of = calloc(c->blocks, sizeof(*order_of));
	uint8_t *buf = NULL;
	int fd = open_device(raw.device, O_RDONLY, c->blocks, reply);
	int r = -1;

	if (fd >= 0 && order_of && posix_memalign((void **)&buf, BLOCK_BYTES, CHECK_BYTES) == 0) {
		r = check_all(c, fd, buf, order_of);
		if (r < 0) {
			guest_io_error("rawcheck", -r);
			(void)snprintf(reply, GUEST_TEXT_MAX, "error read: %s", strerror(-r));
		}
	}
	if (fd >= 0)
		(void)close(fd);
	free(buf);
	free(order_of);
	return r;
}

void guest_raw_check(const char *device, uint64_t mib, uint64_t told, char *reply)
{
	struct check c = { .blocks = mib * BLOCKS_PER_MIB, .told = told };

	if (!is_region(mib, reply))
		return;
	(void)pthread_mutex_lock(&raw.lock);
	stop_writer();
	use_region(device, c.blocks);
	if (check_region(&c, reply) == 0) {
		adopt(&c);
		if (c.bad > 0)
			(void)snprintf(reply, GUEST_TEXT_MAX, "error bad=%u: %s", c.bad, c.first);
		else
			(void)snprintf(reply, GUEST_TEXT_MAX, "ok bad=0 found=%llu next=%llu",
				       (unsigned long long)c.highest, (unsigned long long)raw.next);
	}
	(void)pthread_mutex_unlock(&raw.lock);
}

uint64_t guest_raw_durable(void)
{
	return raw.durable;
}

uint64_t guest_raw_count(void)
{
	return raw.count;
}

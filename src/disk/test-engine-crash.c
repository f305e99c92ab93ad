/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An engine in a process of its own that is killed at any moment, again and again, under writers of several
 * threads, while outputs are held, committed, dropped and passed. Its successor gets the same memory.
 * What is checked against a model:
 *
 *   reads    a block reads as what was acknowledged last, also by a predecessor
 *   images   when no epoch is being applied, the image is the state at the end of the last committed one
 *   journal  with the memory gone, images and journal give the end of an epoch that is not older than the
 *            last one that was said to be journaled
 */
#include "disk/test-engine-world.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#define THREADS 3u
#define EPOCHS_KEPT 256u
#define LIVES 24
#define RANGE_FIRST 768u /* blocks behind it are written in long ranges */
#define RANGE_MAX 200u

/* Between this process and the engine's. */
struct shared {
	_Atomic bool is_paused; /* QEMU is to stand still */
	_Atomic uint32_t n_parked;
	_Atomic uint64_t intent[BLOCKS]; /* stamp of the write under way, or of the last one */
	_Atomic uint64_t acked[BLOCKS];
	_Atomic uint64_t next_stamp;
	_Atomic uint64_t n_writes, n_reads;
};

static struct shared *sh;
static struct world w;
static pid_t child;
static uint64_t snapshot[EPOCHS_KEPT][BLOCKS]; /* by epoch */
static uint64_t seed;

static uint64_t rnd(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

/* Stamps divisible by 5 stand for zeros, so that some writes are zeros and trims. */
static bool is_zero_stamp(uint64_t stamp)
{
	return stamp % 5 == 0;
}

static void fill(uint8_t *buf, uint64_t stamp)
{
	for (size_t i = 0; i < BLOCK; i += sizeof(stamp))
		memcpy(buf + i, &stamp, sizeof(stamp));
}

static bool is_block(const uint8_t *buf, uint64_t stamp)
{
	uint8_t want[BLOCK];

	fill(want, is_zero_stamp(stamp) ? 0 : stamp);
	return memcmp(buf, want, BLOCK) == 0;
}

static uint64_t stamp_in(const uint8_t *buf)
{
	uint64_t stamp;

	memcpy(&stamp, buf, sizeof(stamp));
	return stamp;
}

/* ---- the engine's process ---- */

static void write_range(uint64_t first, uint64_t n, uint64_t stamp)
{
	static _Thread_local uint8_t buf[RANGE_MAX * BLOCK];
	uint64_t offset = first * BLOCK, len = n * BLOCK;
	int r;

	for (uint64_t b = 0; b < n; b++) {
		fill(buf + b * BLOCK, stamp);
		atomic_store(&sh->intent[first + b], stamp);
	}
	if (is_zero_stamp(stamp) && stamp % 2)
		r = hf_engine_trim(w.engine, 0, len, offset, false);
	else if (is_zero_stamp(stamp))
		r = hf_engine_zero(w.engine, 0, len, offset, true, stamp % 4 == 0);
	else
		r = hf_engine_write(w.engine, 0, buf, (uint32_t)len, offset, stamp % 16 == 1);
	CHECK_EQ(r, 0);
	for (uint64_t b = 0; b < n; b++)
		atomic_store(&sh->acked[first + b], stamp);
	atomic_fetch_add(&sh->n_writes, 1);
}

static void check_block(uint64_t b)
{
	uint8_t buf[BLOCK];
	uint64_t want = atomic_load(&sh->acked[b]);

	CHECK_EQ(hf_engine_read(w.engine, 0, buf, BLOCK, b * BLOCK), 0);
	if (!is_block(buf, want))
		hf_test_fail(__FILE__, __LINE__,
			     "block %" PRIu64 " reads as %" PRIu64 ", acknowledged was %" PRIu64, b,
			     stamp_in(buf), want);
	atomic_fetch_add(&sh->n_reads, 1);
}

static bool is_of(uint64_t b, uint64_t thread)
{
	return b >= RANGE_FIRST ? thread == 0 : b % THREADS == thread;
}

/* What was under way when the predecessor died is sent again, as QEMU does; then everything is looked at. */
static void take_up(uint64_t thread)
{
	for (uint64_t b = 0; b < BLOCKS; b++) {
		uint64_t stamp = atomic_load(&sh->intent[b]);

		if (is_of(b, thread) && atomic_load(&sh->acked[b]) != stamp)
			write_range(b, 1, stamp);
	}
	for (uint64_t b = 0; b < BLOCKS; b++) {
		if (is_of(b, thread))
			check_block(b);
	}
}

static void park(void)
{
	atomic_fetch_add(&sh->n_parked, 1);
	while (atomic_load(&sh->is_paused))
		nap();
	atomic_fetch_sub(&sh->n_parked, 1);
}

static void do_something(uint64_t thread, uint64_t *random)
{
	uint64_t b = rnd(random, RANGE_FIRST / THREADS) * THREADS + thread;
	uint64_t stamp;

	if (rnd(random, 3) == 0) {
		check_block(b);
		return;
	}
	stamp = atomic_fetch_add(&sh->next_stamp, 1);
	if (rnd(random, 50) == 0)
		(void)!hf_engine_flush(w.engine, 0);
	if (thread == 0 && rnd(random, 10) == 0) {
		uint64_t n = 1 + rnd(random, RANGE_MAX);

		write_range(RANGE_FIRST + rnd(random, BLOCKS - RANGE_FIRST - n + 1), n, stamp);
		return;
	}
	write_range(b, 1, stamp);
}

static void *writer(void *arg)
{
	uint64_t thread = (uint64_t)(uintptr_t)arg;
	uint64_t random = seed * 31 + thread * 977 + (uint64_t)getpid();

	take_up(thread);
	for (;;) {
		if (atomic_load(&sh->is_paused))
			park();
		do_something(thread, &random);
		if (rnd(&random, 4) == 0)
			nap();
	}
	return NULL;
}

_Noreturn static void engine_process(int control_fd)
{
	struct hf_err err = { "" };
	pthread_t thread;
	int r = try_engine(&w, control_fd, &w.engine, &err);

	if (r < 0)
		hf_test_fail(__FILE__, __LINE__, "engine: %s", err.text);
	for (uint64_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&thread, NULL, writer, (void *)(uintptr_t)i), 0);
	for (;;)
		(void)pause();
}

/* ---- the keeper's process ---- */

static void start_child(void)
{
	int pair[2];

	atomic_store(&sh->n_parked, 0);
	CHECK_EQ(hf_fd_pair(SOCK_SEQPACKET, pair), 0);
	hf_fd_close(&w.control);
	w.control = pair[0];
	(void)fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (child == 0)
		engine_process(pair[1]);
	close(pair[1]);
}

static void kill_child(void)
{
	int status;

	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, &status, 0), child);
	/* Anything else is a check that failed over there. */
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* A failed check in the other process must not look like one that hangs. */
static bool is_child_alive(void)
{
	siginfo_t info = { 0 };

	CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid == 0;
}

#define AWAIT_CHILD(cond) AWAIT(&w, (is_child_alive() || (exit(1), 0)) && (cond))

static void pause_all(void)
{
	atomic_store(&w.keeper.words->is_draining, 1);
	hf_diskshm_kick(&w.keeper);
	atomic_store(&sh->is_paused, true);
	AWAIT_CHILD(atomic_load(&sh->n_parked) == THREADS);
}

static void resume_all(void)
{
	atomic_store(&w.keeper.words->is_draining, 0);
	hf_diskshm_kick(&w.keeper);
	atomic_store(&sh->is_paused, false);
	AWAIT_CHILD(atomic_load(&sh->n_parked) == 0);
}

static void take_snapshot(uint64_t epoch)
{
	for (uint64_t b = 0; b < BLOCKS; b++)
		snapshot[epoch % EPOCHS_KEPT][b] = atomic_load(&sh->acked[b]);
}

static void next_epoch(uint64_t *epoch)
{
	pause_all();
	take_snapshot(*epoch);
	capture(&w, *epoch);
	resume_all();
	++*epoch;
}

static void commit_up_to(uint64_t epoch)
{
	if (epoch > atomic_load(&w.keeper.words->committed))
		commit(&w, epoch);
}

static int64_t first_difference(const char *path, uint64_t epoch)
{
	static uint8_t buf[DISK_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK_EQ(pread(fd, buf, DISK_BYTES, 0), (ssize_t)DISK_BYTES);
	close(fd);
	for (uint64_t b = 0; b < BLOCKS; b++) {
		if (!is_block(buf + b * BLOCK, snapshot[epoch % EPOCHS_KEPT][b]))
			return (int64_t)b;
	}
	return -1;
}

/* No epoch is applied while no more are committed, though the journal has them. */
static void check_image(void)
{
	struct hf_diskshm_words *words = w.keeper.words;
	uint64_t epoch = atomic_load(&words->committed);
	int64_t b;

	put(&w, &words->urgent, atomic_load(&words->captured));
	AWAIT_CHILD(atomic_load(&words->journaled) == atomic_load(&words->captured));
	AWAIT_CHILD(atomic_load(&words->applied) >= epoch);
	b = first_difference(w.image[0], epoch);
	if (b >= 0)
		hf_test_fail(__FILE__, __LINE__,
			     "block %" PRId64 " of the image is not that of epoch %" PRIu64, b,
			     epoch);
}

static void copy_file(const char *from, const char *to)
{
	char command[400];

	(void)snprintf(command, sizeof(command), "cp --sparse=always '%s' '%s'", from, to);
	CHECK_EQ(system(command), 0);
}

/* The host with its memory is gone; what is on its disks is recovered by another engine. */
static void check_recovery(uint64_t next)
{
	struct world other;
	uint64_t journaled = atomic_load(&w.keeper.words->journaled);
	bool is_found = false;

	world_files(&other, 1, "/tmp");
	copy_file(w.image[0], other.image[0]);
	copy_file(w.redo, other.redo);
	world_memory(&other, 8 << 20, 8 << 20);
	(void)fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		start(&other);
		CHECK_EQ(set_state(&other, HF_DISK_OWNED, 0), 0);
		stop(&other);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &(int){ 0 }, 0), child);
	for (uint64_t epoch = journaled; epoch < next && !is_found; epoch++)
		is_found = first_difference(other.image[0], epoch) < 0;
	if (!is_found)
		hf_test_fail(__FILE__, __LINE__,
			     "recovered is no epoch from %" PRIu64 " to %" PRIu64, journaled,
			     next - 1);
	world_end(&other);
}

/* Epochs as a keeper makes them: committed one late, or several at once. */
static void live_held(uint64_t *epoch, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		next_epoch(epoch);
		if (rnd(&seed, 3) == 0)
			put(&w, &w.keeper.words->urgent, *epoch - 1);
		if (rnd(&seed, 3) > 0)
			commit_up_to(*epoch - 1 - rnd(&seed, 2));
		for (uint64_t k = rnd(&seed, 10); k > 0; k--)
			nap();
	}
}

/* Either while QEMU stands still, or under writes: then what the images are is known from the next epoch on. */
static void hold_again(uint64_t *epoch)
{
	struct hf_diskshm_words *words = w.keeper.words;
	bool is_still = rnd(&seed, 2);

	if (is_still) {
		pause_all();
		take_snapshot(*epoch);
	}
	++*epoch; /* the number that was open is used up */
	atomic_store(&words->open_epoch, *epoch);
	atomic_store(&words->mode, HF_DISKSHM_HOLD);
	hf_diskshm_kick(&w.keeper);
	AWAIT_CHILD(atomic_load(&words->state) == HF_DISKSHM_HOLD);
	if (is_still) {
		resume_all();
		return;
	}
	next_epoch(epoch);
	put(&w, &words->urgent, *epoch - 1);
	AWAIT_CHILD(atomic_load(&words->journaled) == *epoch - 1);
}

static void live_drain(uint64_t *epoch)
{
	struct hf_diskshm_words *words = w.keeper.words;

	atomic_store(&words->mode, HF_DISKSHM_DRAIN);
	hf_diskshm_kick(&w.keeper);
	if (rnd(&seed, 2)) {
		kill_child();
		start_child();
	}
	AWAIT_CHILD(atomic_load(&words->state) == HF_DISKSHM_DIRECT);
	for (uint64_t k = rnd(&seed, 20); k > 0; k--)
		nap();
	if (rnd(&seed, 2)) {
		kill_child();
		start_child();
	}
	hold_again(epoch);
}

static void start_story(void)
{
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(sh != MAP_FAILED);
	atomic_store(&sh->next_stamp, 1);
	world_files(&w, 1, "/tmp");
	world_memory(&w, 8 << 20, 8 << 20);
	seed = getenv("HF_SEED") ? strtoull(getenv("HF_SEED"), NULL, 0)
				 : (uint64_t)getpid() * 2654435761u + (uint64_t)time(NULL);
	printf("# HF_SEED=%" PRIu64 "\n", seed);
	start_child();
}

TEST(killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_uncommitted_applied)
{
	uint64_t epoch = 1;

	start_story();
	atomic_store(&w.keeper.words->open_epoch, epoch);
	atomic_store(&w.keeper.words->mode, HF_DISKSHM_HOLD);
	hf_diskshm_kick(&w.keeper);
	AWAIT_CHILD(atomic_load(&w.keeper.words->state) == HF_DISKSHM_HOLD);
	for (int life = 0; life < LIVES; life++) {
		live_held(&epoch, 1 + rnd(&seed, 4));
		kill_child();
		if (life % 4 == 0)
			check_recovery(epoch);
		start_child();
		live_held(&epoch, 1 + rnd(&seed, 3));
		commit_up_to(epoch - 1 - rnd(&seed, 2)); /* one more may be captured */
		check_image();
		if (rnd(&seed, 3) == 0)
			live_drain(&epoch);
	}
	printf("# %" PRIu64 " epochs, %" PRIu64 " writes, %" PRIu64 " reads checked\n", epoch,
	       atomic_load(&sh->n_writes), atomic_load(&sh->n_reads));
	CHECK(atomic_load(&sh->n_writes) > 100);
	pause_all();
	kill_child();
	world_end(&w);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The redo journal against power failures, exhaustively for recorded runs: at every step of every
 * call the disk is left in each of many states, opened again, and must hold exactly a prefix of
 * whole epochs that has every synced one in it, under a condition that was set or was being set.
 * Then it goes on from there and must not find leftovers. The same with each step of the run
 * failing once.
 */
#include "disk/test-fake-image.h"

#include <limits.h>

#include "codec/wire-disk.h"
#include "disk/redo-internal.h"

#define AREA ((size_t)16 * 4096)
#define SIZE (HF_REDO_HEADERS_BYTES + 2 * AREA)
#define DISK_BYTES ((uint64_t)1 << 20)
#define PAYLOAD_MAX 16384u
#define WORLDS_MAX 16u
#define EPOCHS_MAX 64u

static const uint64_t disk_bytes[] = { DISK_BYTES };
static const struct hf_redo_config config = {
	.location = "fake", .vm = "vm", .area_bytes = AREA, .n_disks = 1, .disk_bytes = disk_bytes
};

/* ---- what an epoch holds ---- */

/* A function of its number and of who wrote it; many of the same length, so that leftovers fit. */
static size_t make_payload(uint8_t *buf, uint64_t epoch, unsigned int version)
{
	struct hf_wire_disk_record r = { .kind = HF_WIRE_DISK_WRITE,
					 .offset_bytes = epoch * 4096,
					 .length_bytes = epoch % 5 == 0 ? 9000 : 512 };
	size_t len = hf_wire_disk_record_bytes(r.kind, r.length_bytes);

	CHECK(len <= PAYLOAD_MAX);
	hf_wire_disk_put_record(buf, &r);
	for (size_t i = 0; i < r.length_bytes; i++)
		buf[HF_WIRE_DISK_RECORD_BYTES + i] = (uint8_t)(epoch * 31 + version * 101 + i);
	return len;
}

/* In three pieces: one of them empty. */
static int append(struct hf_redo *r, uint64_t epoch, unsigned int version)
{
	uint8_t buf[PAYLOAD_MAX];
	size_t len = make_payload(buf, epoch, version), half = len / 2;
	struct iovec iov[] = { { buf, half }, { buf, 0 }, { buf + half, len - half } };

	return hf_redo_append(r, epoch, iov, 3, NULL);
}

/* ---- what may be found ---- */

/* Epochs base + 1 .. base + n; the first n_synced of them must be there. */
struct world {
	enum hf_disk_condition condition;
	uint64_t session;
	uint64_t base;
	uint64_t n_synced;
	uint64_t n;
};

struct run {
	struct fake *fake;
	struct hf_redo *redo;
	struct world now;
	/* also possible, while a call is under way or after one that failed */
	struct world maybe[WORLDS_MAX];
	unsigned int n_maybe;
	/* for every step: what was possible just before it */
	struct world at[FAKE_STEPS_MAX][WORLDS_MAX + 1];
	unsigned int n_at[FAKE_STEPS_MAX];
};

static void note_step(void *ctx, unsigned int step)
{
	struct run *run = ctx;

	run->at[step][0] = run->now;
	memcpy(&run->at[step][1], run->maybe, sizeof(run->maybe));
	run->n_at[step] = run->n_maybe + 1;
}

static void also(struct run *run, struct world w)
{
	CHECK(run->n_maybe < WORLDS_MAX);
	run->maybe[run->n_maybe++] = w;
}

/* A call that leaves no doubt has succeeded. */
static void settled(struct run *run, struct world w)
{
	run->now = w;
	run->n_maybe = 0;
}

/* ---- a caller that keeps to the contract ---- */

static void do_append(struct run *run, uint64_t n)
{
	struct world w = run->now;

	w.n = n > w.n ? n : w.n;
	if (run->now.n < w.n)
		also(run, w);
	while (append(run->redo, w.base + n, 1) < 0)
		continue;
	settled(run, w);
}

static void do_sync(struct run *run)
{
	struct world w = run->now;

	while (hf_redo_sync(run->redo, NULL) < 0)
		for (uint64_t n = w.n_synced + 1; n <= w.n; n++)
			do_append(run, n);
	w.n_synced = w.n;
	run->now = w;
}

static void do_set_state(struct run *run, enum hf_disk_condition condition, uint64_t session)
{
	struct world w = run->now;

	w.condition = condition;
	w.session = session;
	also(run, w);
	if (hf_redo_set_state(run->redo, condition, (struct hf_id){ 1, session }, NULL) < 0) {
		for (uint64_t n = w.n_synced + 1; n <= w.n; n++) {
			int r = append(run->redo, w.base + n, 1);

			CHECK(r == 0 || r == -EINVAL); /* one of the two flushes went well */
		}
		CHECK_EQ(
			hf_redo_set_state(run->redo, condition, (struct hf_id){ 1, session }, NULL),
			0);
	}
	w.n_synced = w.n;
	settled(run, w);
}

static void do_reset(struct run *run)
{
	struct world w = run->now;

	w.base += w.n;
	w.n = w.n_synced = 0;
	also(run, w);
	while (hf_redo_reset(run->redo, NULL) < 0)
		continue;
	settled(run, w);
}

/* Once: if it fails, what was there is still there, and more comes behind it. */
static void do_try_reset(struct run *run)
{
	struct world w = run->now;

	w.base += w.n;
	w.n = w.n_synced = 0;
	also(run, w);
	if (hf_redo_reset(run->redo, NULL) == 0)
		settled(run, w);
}

static void do_take_over(struct run *run, enum hf_disk_condition condition, uint64_t session)
{
	struct world w = run->now;

	w.base += w.n;
	w.n = w.n_synced = 0;
	w.condition = condition;
	w.session = session;
	also(run, w);
	while (hf_redo_take_over(run->redo, condition, (struct hf_id){ 1, session }, NULL) < 0)
		continue;
	settled(run, w);
}

static void story(struct run *run)
{
	do_take_over(run, HF_DISK_OWNED, 1);
	do_append(run, 1);
	do_append(run, 2);
	do_sync(run);
	do_append(run, 3);
	do_append(run, 4);
	do_append(run, 5);
	do_sync(run);
	do_append(run, 6);
	do_set_state(run, HF_DISK_HELD, 2);
	do_append(run, 7);
	do_reset(run);
	do_append(run, 1);
	do_sync(run);
	do_append(run, 2);
	do_sync(run);
	do_try_reset(run);
	do_append(run, run->now.n + 1);
	do_append(run, run->now.n + 1);
	do_sync(run);
	do_append(run, run->now.n + 1);
	do_reset(run);
	do_append(run, 1);
	do_append(run, 2);
	do_take_over(run, HF_DISK_OWNED, 2);
	do_append(run, 1);
	do_sync(run);
	do_set_state(run, HF_DISK_REPLICATED, 3);
	do_reset(run);
	do_append(run, 1);
	do_append(run, 2);
	do_sync(run);
	do_append(run, 3);
	do_take_over(run, HF_DISK_PARTIAL, 4);
	do_set_state(run, HF_DISK_REPLICATED, 4);
	do_append(run, 1);
	do_append(run, 2);
	do_sync(run);
	do_append(run, 3);
}

static void run_story(struct run *run, unsigned int fail_at)
{
	memset(run, 0, sizeof(*run));
	run->fake = fake_new(SIZE, NULL);
	run->fake->on_step = note_step;
	run->fake->ctx = run;
	run->fake->fail_at = fail_at;
	run->now = (struct world){ .condition = HF_DISK_FRESH };
	CHECK_EQ(hf_redo_open_image(&config, &run->fake->image, &run->redo, NULL), 0);
	story(run);
	note_step(run, run->fake->n_steps);
}

/* ---- what is found ---- */

struct found {
	struct hf_redo_state state;
	uint64_t epoch[EPOCHS_MAX];
	unsigned int version[EPOCHS_MAX];
	uint64_t n;
};

static int note_entry(void *ctx, uint64_t epoch, const uint8_t *records, size_t len)
{
	struct found *found = ctx;
	uint8_t want[PAYLOAD_MAX];
	unsigned int version;

	CHECK(found->n < EPOCHS_MAX);
	for (version = 1; version <= 2; version++)
		if (make_payload(want, epoch, version) == len && memcmp(want, records, len) == 0)
			break;
	CHECK(version <= 2);
	found->epoch[found->n] = epoch;
	found->version[found->n++] = version;
	return 0;
}

/* NULL: it is refused as no journal. */
static struct hf_redo *open_on(const uint8_t *disk, struct found *ret)
{
	struct fake *fake = fake_new(SIZE, disk);
	struct hf_err err = { "" };
	struct hf_redo *r;

	memset(ret, 0, sizeof(*ret));
	if (hf_redo_open_image(&config, &fake->image, &r, &err) < 0) {
		if (!strstr(err.text, "this is no redo journal"))
			hf_test_fail(__FILE__, __LINE__, "it cannot be opened: %s", err.text);
		hf_image_close(&fake->image);
		return NULL;
	}
	hf_redo_get_state(r, &ret->state);
	CHECK_EQ(hf_redo_replay(r, note_entry, ret, &err), 0);
	CHECK_EQ(ret->n, ret->state.entries);
	return r;
}

static bool is_world(const struct found *found, const struct world *w)
{
	if (found->state.condition != w->condition || found->n < w->n_synced || found->n > w->n ||
	    found->state.session.lo != w->session)
		return false;
	for (uint64_t i = 0; i < found->n; i++)
		if (found->epoch[i] != w->base + i + 1 || found->version[i] != 1)
			return false;
	return true;
}

static void check_found(const struct run *run, unsigned int at, struct fake_crash c,
			const struct found *found)
{
	for (unsigned int i = 0; i < run->n_at[at]; i++)
		if (is_world(found, &run->at[at][i]))
			return;
	printf("# before step %u, fate %d %" PRIu64 ": condition %d, session %" PRIu64 ", %" PRIu64
	       " entries, the first %" PRIu64 ", version %u\n",
	       at, (int)c.fate, c.which, (int)found->state.condition, found->state.session.lo,
	       found->n, found->epoch[0], found->version[0]);
	for (unsigned int i = 0; i < run->n_at[at]; i++) {
		const struct world *w = &run->at[at][i];

		printf("# or: condition %d, session %" PRIu64 ", %" PRIu64 " to %" PRIu64
		       " entries from %" PRIu64 "\n",
		       (int)w->condition, w->session, w->n_synced, w->n, w->base + 1);
	}
	hf_test_fail(__FILE__, __LINE__, "that is none of what may be found");
}

/* The successor goes on in place: with epochs of its own, of which one is lost again. What the
 * predecessor had behind must not come after them. */
static void go_on(struct hf_redo *r, struct found *before)
{
	struct fake *fake = fake_of(r->image);
	uint64_t next = before->state.epoch + 1;
	struct found after;
	struct hf_redo *again;
	uint8_t *disk;

	CHECK_EQ(append(r, next, 2), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	disk = fake_crash(fake, fake->n_steps, (struct fake_crash){ FAKE_ALL, 0 });
	again = open_on(disk, &after);
	CHECK_EQ(after.n, before->n + 1);
	CHECK_EQ(after.epoch[before->n], next);
	CHECK_EQ(after.version[before->n], 2);
	CHECK_EQ(memcmp(after.epoch, before->epoch, before->n * sizeof(uint64_t)), 0);
	hf_redo_close(again);
	free(disk);
}

static bool is_header_torn(const struct run *run, unsigned int at, const struct fake_crash *c)
{
	const struct fake_step *last = at > 0 ? &run->fake->step[at - 1] : NULL;

	return last && !last->is_flush && last->offset < HF_REDO_HEADERS_BYTES &&
	       (c->fate == FAKE_TORN_HEAD || c->fate == FAKE_RANDOM);
}

/* One header is torn already, and the power fails again while the next is written. */
static void tear_another(struct hf_redo *r, const struct found *before)
{
	struct fake *fake = fake_of(r->image);
	unsigned int at = fake->n_steps;
	struct found found;

	CHECK_EQ(hf_redo_set_state(r, HF_DISK_HELD, (struct hf_id){ 1, 99 }, NULL), 0);
	for (; at <= fake->n_steps; at++) {
		for (uint64_t i = 0; i < 3; i++) {
			uint8_t *disk = fake_crash(fake, at, (struct fake_crash){ FAKE_RANDOM, i });
			struct hf_redo *again = open_on(disk, &found);

			CHECK(again);
			CHECK(found.state.session.lo == 99 ||
			      found.state.session.lo == before->state.session.lo);
			CHECK_EQ(found.n, before->n + 1);
			hf_redo_close(again);
			free(disk);
		}
	}
}

static void crash_once(const struct run *run, unsigned int at, struct fake_crash c)
{
	uint8_t *disk = fake_crash(run->fake, at, c);
	struct found found;
	struct hf_redo *r = open_on(disk, &found);

	if (r) {
		check_found(run, at, c, &found);
		go_on(r, &found);
		if (is_header_torn(run, at, &c))
			tear_another(r, &found);
		hf_redo_close(r);
	} else {
		/* The very first header is torn inside of its only sector that is not all zero:
		 * disks do not, and nothing was promised yet. */
		CHECK_EQ(run->at[at][0].condition, HF_DISK_FRESH);
	}
	free(disk);
}

static unsigned int crash_each_way(const struct run *run, unsigned int at, uint64_t n_random)
{
	size_t sectors;
	unsigned int writes = fake_unflushed(run->fake, at, &sectors), n = 2;

	crash_once(run, at, (struct fake_crash){ FAKE_NONE, 0 });
	crash_once(run, at, (struct fake_crash){ FAKE_ALL, 0 });
	for (uint64_t i = 0; writes > 1 && i < writes; i++, n += 2) {
		crash_once(run, at, (struct fake_crash){ FAKE_ONLY, i });
		crash_once(run, at, (struct fake_crash){ FAKE_ALL_BUT, i });
	}
	/* Every place in a header, and some behind it. */
	for (uint64_t i = 1; i < sectors; i += i < 12 ? 1 : i / 2, n += 2) {
		crash_once(run, at, (struct fake_crash){ FAKE_TORN_HEAD, i });
		crash_once(run, at, (struct fake_crash){ FAKE_TORN_TAIL, i });
	}
	for (uint64_t i = 0; writes > 0 && i < n_random; i++, n++)
		crash_once(run, at, (struct fake_crash){ FAKE_RANDOM, i });
	return n;
}

static struct run *new_run(void)
{
	struct run *run = malloc(sizeof(*run));

	CHECK(run);
	return run;
}

TEST(power_failures_at_every_step)
{
	struct run *run = new_run();
	unsigned int n = 0;

	run_story(run, UINT_MAX);
	for (unsigned int at = 0; at <= run->fake->n_steps; at++)
		n += crash_each_way(run, at, 20);
	printf("# %u steps, %u crashes\n", run->fake->n_steps, n);
	CHECK(run->fake->n_steps > 60);
	hf_redo_close(run->redo);
	free(run);
}

TEST(each_step_fails_once_and_then_the_power)
{
	struct run *run = new_run();
	unsigned int n_steps, n = 0;

	run_story(run, UINT_MAX);
	n_steps = run->fake->n_steps;
	hf_redo_close(run->redo);
	for (unsigned int fail = 1; fail < n_steps; fail++) {
		run_story(run, fail);
		for (unsigned int at = fail; at <= run->fake->n_steps && at < fail + 12; at++) {
			size_t sectors;
			unsigned int writes = fake_unflushed(run->fake, at, &sectors);

			crash_once(run, at, (struct fake_crash){ FAKE_NONE, 0 });
			crash_once(run, at, (struct fake_crash){ FAKE_ALL, 0 });
			crash_once(run, at, (struct fake_crash){ FAKE_TORN_HEAD, 1 });
			n += 3;
			for (uint64_t i = 0; writes > 0 && i < 4; i++, n++)
				crash_once(run, at, (struct fake_crash){ FAKE_RANDOM, i });
		}
		hf_redo_close(run->redo);
	}
	printf("# %u steps, %u crashes\n", n_steps, n);
	free(run);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Power failures are in test-redo-crash.c. */
#include "disk/test-fake-image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/wire-disk.h"
#include "disk/redo-internal.h"

#define AREA ((uint64_t)16 * 4096)
#define SIZE ((size_t)(HF_REDO_HEADERS_BYTES + 2 * AREA))
#define DISK ((uint64_t)1 << 20)

static const uint64_t disk_bytes[HF_WIRE_DISKS_MAX] = { DISK, DISK };
static const struct hf_id session = { 7, 9 };
static char folder[] = "/tmp/test-redo-XXXXXX";
static char path[64];

static struct hf_redo_config config_of(const char *location)
{
	return (struct hf_redo_config){ .location = location,
					.vm = "vm",
					.area_bytes = AREA,
					.n_disks = 2,
					.disk_bytes = disk_bytes };
}

static void clean_up(void)
{
	(void)unlink(path);
	(void)rmdir(folder);
}

/* A file that is not there. */
static const char *new_path(void)
{
	if (path[0] == '\0') {
		CHECK(mkdtemp(folder));
		CHECK_EQ(atexit(clean_up), 0);
		(void)snprintf(path, sizeof(path), "%s/redo", folder);
	}
	(void)unlink(path);
	return path;
}

static size_t put(uint8_t *buf, uint8_t disk, uint64_t offset, uint64_t len, uint8_t fill)
{
	struct hf_wire_disk_record r = { .kind = HF_WIRE_DISK_WRITE,
					 .disk = disk,
					 .offset_bytes = offset,
					 .length_bytes = len };

	hf_wire_disk_put_record(buf, &r);
	memset(buf + HF_WIRE_DISK_RECORD_BYTES, fill, len);
	return hf_wire_disk_record_bytes(r.kind, len);
}

static int append_at(struct hf_redo *r, uint64_t epoch, uint8_t disk, uint64_t offset, uint64_t len,
		     struct hf_err *err)
{
	uint8_t *buf = malloc(hf_wire_disk_record_bytes(HF_WIRE_DISK_WRITE, len));
	struct iovec iov = { buf, 0 };
	int e;

	CHECK(buf);
	iov.iov_len = put(buf, disk, offset, len, (uint8_t)epoch);
	e = hf_redo_append(r, epoch, &iov, 1, err);
	free(buf);
	return e;
}

static int append(struct hf_redo *r, uint64_t epoch, struct hf_err *err)
{
	return append_at(r, epoch, 0, 0, 512, err);
}

static struct hf_redo *open_at(const char *location)
{
	struct hf_redo_config config = config_of(location);
	struct hf_redo *r = NULL;
	struct hf_err err = { "" };

	if (hf_redo_open(&config, &r, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return r;
}

static struct hf_redo_state state_of(const struct hf_redo *r)
{
	struct hf_redo_state s;

	hf_redo_get_state(r, &s);
	return s;
}

static void expect_refusal(const struct hf_redo_config *config, int want, const char *text)
{
	struct hf_redo *r = NULL;
	struct hf_err err = { "" };

	CHECK_EQ(hf_redo_open(config, &r, &err), want);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, config->location);
	CHECK(!r);
}

static void overwrite(const char *file, off_t at, uint8_t with, size_t n)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(pwrite(fd, &with, 1, at + (off_t)i), 1);
	CHECK_EQ(close(fd), 0);
}

struct sum {
	uint64_t n, epochs, bytes, stop_at;
};

static int add_up(void *ctx, uint64_t epoch, const uint8_t *records, size_t len)
{
	struct sum *sum = ctx;
	struct hf_wire_disk_cursor cursor = { 0 };
	struct hf_wire_disk_record record;

	if (epoch == sum->stop_at)
		return -EINTR;
	while (hf_wire_disk_next(records, len, &cursor, &record, NULL) == HF_WIRE_DISK_RECORD) {
		CHECK_EQ(record.data[0], (uint8_t)epoch);
		sum->bytes += record.length_bytes;
	}
	sum->n++;
	sum->epochs = sum->epochs * 100 + epoch;
	return 0;
}

TEST(a_new_file_is_made_and_remembers)
{
	const char *location = new_path();
	struct hf_redo *r = open_at(location);
	struct sum sum = { 0 };
	struct stat st;

	CHECK_EQ(state_of(r).generation, 0);
	CHECK_EQ(state_of(r).condition, HF_DISK_FRESH);
	CHECK_EQ(stat(location, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_EQ(st.st_size, 0); /* nothing is written by a look */
	CHECK_EQ(hf_redo_take_over(r, HF_DISK_HELD, session, NULL), 0);
	CHECK_EQ(append(r, 3, NULL), 0);
	CHECK_EQ(append_at(r, 5, 1, DISK - 100000, 100000, NULL), -ENOSPC);
	CHECK_EQ(append_at(r, 5, 1, DISK - 30000, 30000, NULL), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	CHECK_EQ(hf_redo_used_bytes(r), 4096 + 32768);
	hf_redo_close(r);

	r = open_at(location);
	CHECK_EQ(state_of(r).condition, HF_DISK_HELD);
	CHECK(hf_id_is_equal(state_of(r).session, session));
	CHECK_EQ(state_of(r).generation, 1);
	CHECK_EQ(state_of(r).epoch, 5);
	CHECK_EQ(state_of(r).entries, 2);
	CHECK_EQ(hf_redo_replay(r, add_up, &sum, NULL), 0);
	CHECK_EQ(sum.epochs, 305);
	CHECK_EQ(sum.bytes, 30512);
	sum.stop_at = 5;
	CHECK_EQ(hf_redo_replay(r, add_up, &sum, NULL), -EINTR);
	CHECK_EQ(sum.epochs, 30503);
	CHECK_EQ(hf_redo_take_over(r, HF_DISK_OWNED, (struct hf_id){ 0, 0 }, NULL), 0);
	CHECK_EQ(state_of(r).generation, 2);
	CHECK_EQ(state_of(r).entries, 0);
	CHECK_EQ(hf_redo_used_bytes(r), 0);
	hf_redo_close(r);
}

TEST(a_full_area_is_reset_lap_after_lap)
{
	struct hf_redo *r = open_at(new_path());
	uint64_t epoch = 0, laps = 0;
	struct hf_err err = { "" };

	for (; laps < 5; laps++) {
		while (append(r, epoch + 1, &err) == 0)
			epoch++;
		CHECK_CONTAINS(err.text, "does not fit");
		CHECK_EQ(hf_redo_used_bytes(r), AREA);
		CHECK_EQ(hf_redo_sync(r, NULL), 0);
		CHECK_EQ(append(r, epoch, NULL), -EINVAL); /* it is durable already */
		CHECK_EQ(hf_redo_reset(r, NULL), 0);
		CHECK_EQ(state_of(r).epoch, 0);
	}
	CHECK_EQ(epoch, laps * (AREA / 4096));
	CHECK_EQ(append(r, 1, NULL), 0); /* numbers may begin anew after a reset */
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	hf_redo_close(r);
	r = open_at(path);
	CHECK_EQ(state_of(r).entries, 1);
	CHECK_EQ(state_of(r).epoch, 1);
	hf_redo_close(r);
}

/* More than the window it is written through, in more pieces than one system call takes. */
TEST(a_large_epoch_in_many_pieces)
{
	static struct iovec iov[3000];
	struct hf_redo_config config = config_of(new_path());
	const size_t one = hf_wire_disk_record_bytes(HF_WIRE_DISK_WRITE, 1000);
	uint8_t *records = malloc(one * 3000);
	struct sum sum = { 0 };
	struct hf_redo *r;

	CHECK(records);
	config.area_bytes = 4 << 20;
	for (size_t i = 0; i < 3000; i++) {
		iov[i] = (struct iovec){ records + i * one, one };
		CHECK_EQ(put(iov[i].iov_base, 0, i * 100, 1000, 200), one);
	}
	CHECK_EQ(hf_redo_open(&config, &r, NULL), 0);
	CHECK_EQ(hf_redo_append(r, 200, iov, 3000, NULL), 0);
	CHECK_EQ(hf_redo_append(r, 201, NULL, 0, NULL), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	hf_redo_close(r);
	CHECK_EQ(hf_redo_open(&config, &r, NULL), 0);
	CHECK_EQ(state_of(r).entries, 2);
	CHECK_EQ(hf_redo_replay(r, add_up, &sum, NULL), 0);
	CHECK_EQ(sum.bytes, 3000000);
	CHECK_EQ(sum.n, 2);
	hf_redo_close(r);
	free(records);
}

TEST(either_copy_of_a_header_may_be_damaged_not_both)
{
	const char *location = new_path();
	struct hf_redo *r = open_at(location);
	struct hf_redo_config config = config_of(location);

	CHECK_EQ(hf_redo_take_over(r, HF_DISK_OWNED, session, NULL), 0);
	CHECK_EQ(hf_redo_take_over(r, HF_DISK_HELD, session, NULL), 0);
	CHECK_EQ(append(r, 1, NULL), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	for (off_t slot = 0; slot < 2; slot++) {
		/* Of the area that counts: either alone says it all, also after a reset. */
		hf_redo_close(r);
		overwrite(location, (2 + slot) * 4096 + 100, 0xee, 1);
		r = open_at(location);
		CHECK_EQ(state_of(r).condition, HF_DISK_HELD);
		CHECK_EQ(state_of(r).generation, 2);
		CHECK_EQ(state_of(r).entries, 1);
		CHECK_EQ(hf_redo_reset(r, NULL), 0);
		CHECK_EQ(append(r, 1, NULL), 0);
		CHECK_EQ(hf_redo_sync(r, NULL), 0);
	}
	hf_redo_close(r);
	overwrite(location, 2 * 4096 + 4000, 1, 1);
	overwrite(location, 3 * 4096 + 8, 7, 1);
	expect_refusal(&config, -EBADMSG, "damaged");
}

TEST(what_is_not_ours_is_refused)
{
	const char *location = new_path();
	struct hf_redo_config config = config_of(location);
	static const uint64_t larger[2] = { 2 * DISK, DISK };
	struct hf_redo *r;

	overwrite(location, 1024, 0x53, 2);
	expect_refusal(&config, -EBADMSG, "no redo journal");
	r = open_at(new_path());
	CHECK_EQ(append(r, 1, NULL), 0);
	hf_redo_close(r);
	config.vm = "another";
	expect_refusal(&config, -EBADMSG, "of VM vm");
	config.vm = "vm";
	config.disk_bytes = larger;
	expect_refusal(&config, -EBADMSG, "wait to be redone");
	r = open_at(location);
	CHECK_EQ(hf_redo_reset(r, NULL), 0);
	hf_redo_close(r);
	/* Without entries a disk may have grown. */
	CHECK_EQ(hf_redo_open(&config, &r, NULL), 0);
	CHECK_EQ(append_at(r, 1, 0, 2 * DISK - 512, 512, NULL), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	hf_redo_close(r);
	CHECK_EQ(hf_redo_open(&config, &r, NULL), 0);
	CHECK_EQ(state_of(r).entries, 1);
	hf_redo_close(r);
	config.location = "/proc/none/redo";
	expect_refusal(&config, -ENOENT, "cannot be made");
	config.location = folder;
	expect_refusal(&config, -EISDIR, "directory");
}

TEST(configurations_that_cannot_be)
{
	struct hf_redo_config config = config_of(new_path());

	config.vm = "../vm";
	expect_refusal(&config, -EINVAL, "the VM's name");
	config = config_of(path);
	config.n_disks = 17;
	expect_refusal(&config, -EINVAL, "number of disks");
	config = config_of(path);
	config.area_bytes = 4096;
	expect_refusal(&config, -EINVAL, "its size");
}

TEST(a_journal_in_use_is_refused)
{
	struct hf_redo *r = open_at(new_path());
	struct hf_redo_config config = config_of(path);

	expect_refusal(&config, -EBUSY, "another program has it open");
	hf_redo_close(r);
	hf_redo_close(open_at(path));
}

/* Valid in form, but it writes beyond a disk: never given out. */
TEST(records_outside_of_a_disk_are_refused)
{
	struct hf_redo *r = open_at(new_path());
	struct hf_err err = { "" };
	struct sum sum = { 0 };

	CHECK_EQ(append(r, 1, NULL), 0);
	CHECK_EQ(append_at(r, 2, 1, DISK - 511, 512, NULL), 0);
	CHECK_EQ(hf_redo_replay(r, add_up, &sum, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "beyond the end of disk 1");
	CHECK_CONTAINS(err.text, path);
	CHECK_EQ(sum.n, 1);
	CHECK_EQ(hf_redo_reset(r, NULL), 0);
	CHECK_EQ(append_at(r, 2, 2, 0, 512, NULL), 0);
	CHECK_EQ(hf_redo_replay(r, add_up, &sum, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "for disk 2 of 2");
	hf_redo_close(r);
}

static void take_over_beside(struct hf_redo *r)
{
	uint64_t old_start = r->header.start_bytes, old_end = old_start + r->header.area_bytes;

	CHECK_EQ(hf_redo_take_over(r, HF_DISK_OWNED, session, NULL), 0);
	CHECK(r->header.start_bytes >= old_end ||
	      r->header.start_bytes + r->header.area_bytes <= old_start);
	CHECK_EQ(append_at(r, 1, 0, 0, 60000, NULL), 0);
}

TEST(another_size_counts_from_the_next_owner_on)
{
	static const uint64_t sizes[] = {
		AREA, 4 * AREA, 4 * AREA, AREA, AREA, 2 * AREA, 4 * AREA
	};
	struct hf_redo_config config = config_of(new_path());
	struct hf_redo *r;

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		config.area_bytes = sizes[i];
		CHECK_EQ(hf_redo_open(&config, &r, NULL), 0);
		CHECK_EQ(state_of(r).entries, i > 0);
		take_over_beside(r);
		CHECK_EQ(hf_redo_area_bytes(r), sizes[i]);
		hf_redo_close(r);
	}
}

TEST(on_a_device_another_size_counts_when_there_is_room)
{
	static const uint64_t sizes[] = { 1, 4, 4, 4, 4, 2, 2 }, want[] = { 1, 4, 3, 4, 4, 2, 2 };
	struct fake *fake = fake_new(HF_REDO_HEADERS_BYTES + 8 * AREA, NULL);
	struct hf_redo_config config = config_of("fake");
	struct hf_redo *r;

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		config.area_bytes = sizes[i] * AREA;
		CHECK_EQ(hf_redo_open_image(&config, &fake->image, &r, NULL), 0);
		CHECK_EQ(state_of(r).entries, i > 0);
		take_over_beside(r);
		CHECK_EQ(hf_redo_area_bytes(r), want[i] * AREA);
		r->image = NULL;
		hf_redo_close(r);
	}
	hf_image_close(&fake->image);
}

/* ---- failures ---- */

static struct hf_redo *open_fake(struct fake *fake)
{
	struct hf_redo_config config = config_of("fake");
	struct hf_redo *r;

	CHECK_EQ(hf_redo_open_image(&config, &fake->image, &r, NULL), 0);
	return r;
}

TEST(after_a_failed_flush_nothing_passes_for_durable)
{
	struct fake *fake = fake_new(SIZE, NULL);
	struct hf_redo *r = open_fake(fake);
	struct hf_err err = { "" };

	CHECK_EQ(append(r, 1, NULL), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	CHECK_EQ(append(r, 2, NULL), 0);
	CHECK_EQ(append(r, 3, NULL), 0);
	CHECK_EQ(append(r, 3, NULL), 0); /* it is there */
	CHECK_EQ(state_of(r).entries, 3);
	fake->fail_at = fake->n_steps;
	CHECK_EQ(hf_redo_sync(r, &err), -EIO);
	CHECK_EQ(state_of(r).entries, 1);
	CHECK_EQ(hf_redo_sync(r, &err), -EIO);
	CHECK_CONTAINS(err.text, "epoch 2 and later");
	CHECK_EQ(append(r, 3, &err), -EIO);
	CHECK_CONTAINS(err.text, "epoch 2 comes first");
	CHECK_EQ(append(r, 1, &err), -EINVAL);
	CHECK_EQ(append(r, 2, NULL), 0);
	CHECK_EQ(append(r, 3, NULL), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	CHECK_EQ(state_of(r).epoch, 3);
	/* Nothing new: nothing to flush, nothing to fail. */
	fake->fail_at = fake->n_steps;
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	hf_redo_close(r);
}

TEST(a_failed_write_is_simply_tried_again)
{
	struct fake *fake = fake_new(SIZE, NULL);
	struct hf_redo *r = open_fake(fake);
	struct hf_err err = { "" };

	CHECK_EQ(append(r, 1, NULL), 0);
	fake->fail_at = fake->n_steps;
	CHECK_EQ(append(r, 2, &err), -EIO);
	CHECK_CONTAINS(err.text, "epoch 2 cannot be written at byte 20480");
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	CHECK_EQ(append(r, 2, NULL), 0);
	CHECK_EQ(hf_redo_sync(r, NULL), 0);
	CHECK_EQ(state_of(r).entries, 2);
	hf_redo_close(r);
}

TEST(half_a_take_over_must_be_finished)
{
	for (unsigned int step = 0; step < 4; step++) {
		struct fake *fake = fake_new(SIZE, NULL);
		struct hf_redo *r = open_fake(fake);
		struct hf_err err = { "" };

		CHECK_EQ(hf_redo_take_over(r, HF_DISK_HELD, session, NULL), 0);
		fake->fail_at = fake->n_steps + step;
		CHECK_EQ(hf_redo_take_over(r, HF_DISK_OWNED, session, &err), -EIO);
		CHECK_CONTAINS(err.text, "header cannot be written");
		CHECK_EQ(append(r, 1, &err), -EIO);
		CHECK_CONTAINS(err.text, "taking it over has failed");
		CHECK_EQ(hf_redo_set_state(r, HF_DISK_OWNED, session, &err), -EIO);
		CHECK_EQ(hf_redo_reset(r, &err), -EIO);
		CHECK_EQ(hf_redo_take_over(r, HF_DISK_OWNED, session, NULL), 0);
		CHECK_EQ(append(r, 1, NULL), 0);
		CHECK_EQ(state_of(r).condition, HF_DISK_OWNED);
		hf_redo_close(r);
	}
}

/* A process that dies leaves its entries in the cache; its successor promises them. */
TEST(what_a_successor_finds_is_durable)
{
	struct fake *fake = fake_new(SIZE, NULL);
	struct hf_redo *r = open_fake(fake);
	uint8_t *disk;

	CHECK_EQ(append(r, 1, NULL), 0);
	r->image = NULL; /* it dies here */
	hf_redo_close(r);
	r = open_fake(fake);
	CHECK_EQ(state_of(r).epoch, 1);
	disk = fake_crash(fake, fake->n_steps, (struct fake_crash){ FAKE_NONE, 0 });
	hf_redo_close(r);
	r = open_fake(fake_new(SIZE, disk));
	CHECK_EQ(state_of(r).epoch, 1);
	hf_redo_close(r);
	free(disk);
}

/* A frozen owner that wakes up still writes where it wrote: that is not where its successor
 * looks. */
TEST(a_promoted_standby_counts_when_it_has_brought_everything_to_a_shared_image)
{
	struct hf_redo_config config = config_of(new_path());
	struct hf_redo *owner, *standby, *next;
	struct sum sum = { 0 };

	config.is_shared = true;
	CHECK_EQ(hf_redo_open(&config, &owner, NULL), 0);
	CHECK_EQ(hf_redo_take_over(owner, HF_DISK_HELD, session, NULL), 0);
	CHECK_EQ(append(owner, 7, NULL), 0);
	CHECK_EQ(hf_redo_sync(owner, NULL), 0);
	CHECK_EQ(hf_redo_open(&config, &standby, NULL), 0);
	CHECK_EQ(hf_redo_take_over(standby, HF_DISK_PARTIAL, session, NULL), 0);
	CHECK_EQ(hf_redo_open(&config, &next, NULL), 0);
	CHECK_EQ(state_of(next).condition, HF_DISK_HELD);
	CHECK_EQ(hf_redo_replay(next, add_up, &sum, NULL), 0);
	CHECK_EQ(sum.epochs, 7);
	/* It dies here; the next owner must not be mistaken for it. */
	CHECK_EQ(hf_redo_take_over(next, HF_DISK_OWNED, session, NULL), 0);
	CHECK_EQ(append(next, 8, NULL), 0);
	CHECK_EQ(hf_redo_sync(next, NULL), 0);
	hf_redo_close(next);
	CHECK_EQ(hf_redo_open(&config, &next, NULL), 0);
	CHECK_EQ(state_of(next).epoch, 8);
	CHECK_EQ(state_of(next).entries, 1);
	hf_redo_close(next);
	hf_redo_close(owner);
	/* One that lives says when it is through. */
	CHECK_EQ(hf_redo_take_over(standby, HF_DISK_PARTIAL, session, NULL), 0);
	CHECK_EQ(hf_redo_set_state(standby, HF_DISK_OWNED, session, NULL), 0);
	hf_redo_close(standby);
	CHECK_EQ(hf_redo_open(&config, &next, NULL), 0);
	CHECK_EQ(state_of(next).condition, HF_DISK_OWNED);
	CHECK_EQ(state_of(next).entries, 0);
	hf_redo_close(next);
}

TEST(a_late_owner_reaches_nothing_that_counts)
{
	struct fake *fake = fake_new(SIZE, NULL);
	struct hf_redo *old = open_fake(fake), *new;

	CHECK_EQ(append(old, 1, NULL), 0);
	CHECK_EQ(hf_redo_sync(old, NULL), 0);
	new = open_fake(fake);
	CHECK_EQ(state_of(new).entries, 1);
	CHECK_EQ(hf_redo_take_over(new, HF_DISK_OWNED, session, NULL), 0);
	CHECK_EQ(append(new, 10, NULL), 0);
	CHECK_EQ(hf_redo_sync(new, NULL), 0);
	for (uint64_t epoch = 2; epoch < 2 + AREA / 4096 - 1; epoch++)
		CHECK_EQ(append(old, epoch, NULL), 0);
	CHECK_EQ(append(old, 100, NULL), -ENOSPC);
	CHECK_EQ(hf_redo_set_state(old, HF_DISK_HELD, (struct hf_id){ 6, 6 }, NULL), 0);
	CHECK_EQ(hf_redo_reset(old, NULL), 0);
	new->image = NULL;
	hf_redo_close(new);
	old->image = NULL;
	hf_redo_close(old);
	new = open_fake(fake);
	CHECK_EQ(state_of(new).condition, HF_DISK_OWNED);
	CHECK_EQ(state_of(new).generation, 2);
	CHECK_EQ(state_of(new).epoch, 10);
	CHECK_EQ(state_of(new).entries, 1);
	hf_redo_close(new);
}

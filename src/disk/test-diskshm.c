/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/diskshm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../tests/test.h"

#define SOFT (4 * HF_DISKSHM_CHUNK_BYTES)
#define RESERVE (4 * HF_DISKSHM_CHUNK_BYTES)

struct pair {
	struct hf_diskshm keeper, disk;
};

static struct hf_diskshm attach(const struct hf_diskshm *keeper)
{
	struct hf_diskshm s;
	struct hf_err err = { "" };

	CHECK_EQ(hf_diskshm_attach(dup(keeper->fd), dup(keeper->kick_fd), dup(keeper->notice_fd),
				   &s, &err),
		 0);
	return s;
}

static struct pair make(void)
{
	struct pair p;
	struct hf_err err = { "" };

	CHECK_EQ(hf_diskshm_create(2, SOFT, RESERVE, &p.keeper, &err), 0);
	p.disk = attach(&p.keeper);
	return p;
}

static void end(struct pair *p)
{
	hf_diskshm_close(&p->keeper);
	hf_diskshm_close(&p->disk);
}

/* One FLUSH record, which has no data, with a sign in its place. */
static size_t put_flush(uint8_t *at)
{
	hf_wire_disk_put_record(at, &(struct hf_wire_disk_record){ .kind = HF_WIRE_DISK_FLUSH });
	return HF_WIRE_DISK_RECORD_BYTES;
}

TEST(both_sides_see_the_same_memory)
{
	struct pair p = make();
	uint8_t record[HF_WIRE_DISK_RECORD_BYTES];
	struct hf_diskshm_view v;

	CHECK_EQ(p.disk.words->n_disks, 2);
	CHECK_EQ(atomic_load(&p.disk.words->permit_ns), UINT64_MAX);
	CHECK(hf_diskshm_put(&p.keeper, HF_DISKSHM_IN, 7, record, put_flush(record), 1));
	CHECK(hf_diskshm_put(&p.keeper, HF_DISKSHM_IN, 7, record, sizeof(record), 1));
	CHECK(hf_diskshm_put(&p.keeper, HF_DISKSHM_IN, 8, record, sizeof(record), 1));
	CHECK_EQ(hf_diskshm_in_use(&p.disk, HF_DISKSHM_IN), 2);
	CHECK(hf_diskshm_look(&p.disk, HF_DISKSHM_IN, 0, &v));
	CHECK_EQ(v.epoch, 7);
	CHECK_EQ(v.n_records, 2);
	CHECK_EQ(v.used, 2 * sizeof(record));
	CHECK_EQ(memcmp(v.records + sizeof(record), record, sizeof(record)), 0);
	CHECK(hf_diskshm_look(&p.disk, HF_DISKSHM_IN, 1, &v));
	CHECK_EQ(v.epoch, 8);
	CHECK(!hf_diskshm_look(&p.disk, HF_DISKSHM_IN, 2, &v));
	end(&p);
}

TEST(a_partial_epoch_is_dropped_and_no_other)
{
	struct pair p = make();
	uint8_t big[HF_DISKSHM_ROOM_BYTES] = { 0 };

	for (uint64_t epoch = 1; epoch <= 2; epoch++) {
		for (int i = 0; i < 3; i++)
			CHECK(hf_diskshm_put(&p.keeper, HF_DISKSHM_IN, epoch, big, sizeof(big), 1));
	}
	hf_diskshm_drop_epoch(&p.keeper, 2);
	CHECK_EQ(hf_diskshm_head(&p.disk, HF_DISKSHM_IN), 3);
	hf_diskshm_drop_epoch(&p.keeper, 2);
	CHECK_EQ(hf_diskshm_head(&p.disk, HF_DISKSHM_IN), 3);
	hf_diskshm_drop_epoch(&p.keeper, 1);
	CHECK_EQ(hf_diskshm_in_use(&p.disk, HF_DISKSHM_IN), 0);
	end(&p);
}

TEST(a_pool_fills_up_and_goes_round)
{
	struct pair p = make();
	uint32_t n = p.keeper.n_chunks[HF_DISKSHM_OUT], i;
	uint8_t was_used[HF_DISKSHM_CHUNKS_MAX] = { 0 };

	for (uint32_t k = 0; k < n; k++) {
		CHECK(hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, k, &i));
		CHECK(i < n && !was_used[i]);
		was_used[i] = 1;
	}
	CHECK(!hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, n, &i));
	for (uint32_t k = 0; k < 10 * n; k++) {
		hf_diskshm_free_oldest(&p.disk, HF_DISKSHM_OUT);
		CHECK(hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, n + k, &i));
		CHECK(!hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, 0, &i));
	}
	CHECK_EQ(hf_diskshm_tail(&p.keeper, HF_DISKSHM_OUT), 10 * n);
	end(&p);
}

/* The keeper frees what the disk process has allocated, in the pool where pieces of a copy go. */
TEST(one_side_allocates_and_the_other_frees)
{
	struct pair p = make();
	uint32_t i;

	for (int k = 0; k < 1000; k++) {
		CHECK(hf_diskshm_take(&p.disk, HF_DISKSHM_SYNC, 0, &i));
		if (k % 3 == 2) {
			hf_diskshm_free_oldest(&p.keeper, HF_DISKSHM_SYNC);
			hf_diskshm_free_oldest(&p.keeper, HF_DISKSHM_SYNC);
			hf_diskshm_free_oldest(&p.keeper, HF_DISKSHM_SYNC);
			hf_diskshm_free_oldest(&p.keeper, HF_DISKSHM_SYNC); /* none: ignored */
		}
	}
	CHECK_EQ(hf_diskshm_in_use(&p.keeper, HF_DISKSHM_SYNC), 1);
	end(&p);
}

static uint64_t resident_bytes(const struct hf_diskshm *s)
{
	off_t at = 0, data, hole;
	uint64_t n = 0;

	while ((data = lseek(s->fd, at, SEEK_DATA)) >= 0) {
		hole = lseek(s->fd, data, SEEK_HOLE);
		n += (uint64_t)(hole - data);
		at = hole;
	}
	return n;
}

TEST(memory_over_the_soft_limit_goes_back)
{
	struct pair p = make();
	uint32_t n = p.keeper.n_chunks[HF_DISKSHM_OUT], i;
	uint32_t soft = p.keeper.soft_chunks[HF_DISKSHM_OUT];
	uint64_t full;

	for (uint32_t k = 0; k < n; k++)
		memset(hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, 1, &i), 1, HF_DISKSHM_CHUNK_BYTES);
	full = resident_bytes(&p.keeper);
	CHECK(full >= n * HF_DISKSHM_CHUNK_BYTES);
	for (uint32_t k = 0; k < n; k++)
		hf_diskshm_free_oldest(&p.disk, HF_DISKSHM_OUT);
	CHECK_EQ(full - resident_bytes(&p.keeper), (n - soft) * HF_DISKSHM_CHUNK_BYTES);
	end(&p);
}

TEST(reclaim_frees_what_the_disk_process_is_done_with)
{
	struct pair p = make();
	uint8_t record[HF_WIRE_DISK_RECORD_BYTES];

	for (uint64_t epoch = 1; epoch <= 5; epoch++)
		CHECK(hf_diskshm_put(&p.keeper, HF_DISKSHM_IN, epoch, record, put_flush(record),
				     1));
	for (int k = 0; k < 3; k++)
		CHECK(hf_diskshm_put(&p.keeper, HF_DISKSHM_COPY, 0, record, sizeof(record), 1));
	atomic_store(&p.disk.words->in_done, 3);
	atomic_store(&p.disk.words->copy_done, 2);
	hf_diskshm_reclaim(&p.keeper);
	CHECK_EQ(hf_diskshm_tail(&p.disk, HF_DISKSHM_IN), 3);
	CHECK_EQ(hf_diskshm_tail(&p.disk, HF_DISKSHM_COPY), 2);
	atomic_store(&p.disk.words->in_done, UINT64_MAX); /* nonsense: no more than there is */
	hf_diskshm_reclaim(&p.keeper);
	CHECK_EQ(hf_diskshm_tail(&p.disk, HF_DISKSHM_IN), 5);
	CHECK(hf_diskshm_put(&p.keeper, HF_DISKSHM_IN, 6, record, sizeof(record), 1));
	end(&p);
}

TEST(a_successor_finds_what_is_in_use)
{
	struct pair p = make();
	uint32_t i, n = p.keeper.n_chunks[HF_DISKSHM_OUT], used[3];

	for (int k = 0; k < 5; k++)
		CHECK(hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, 1, &i));
	hf_diskshm_free_oldest(&p.disk, HF_DISKSHM_OUT);
	hf_diskshm_free_oldest(&p.disk, HF_DISKSHM_OUT);
	for (uint64_t at = 2; at < 5; at++)
		used[at - 2] = atomic_load(&p.disk.pool[HF_DISKSHM_OUT]->order[at % n]);
	hf_diskshm_close(&p.disk);
	p.disk = attach(&p.keeper);
	for (uint32_t k = 0; k < n - 3; k++) {
		CHECK(hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, 2, &i));
		CHECK(i != used[0] && i != used[1] && i != used[2]);
	}
	CHECK(!hf_diskshm_take(&p.disk, HF_DISKSHM_OUT, 2, &i));
	end(&p);
}

/* Whatever the other process writes into what it can write to, nothing outside is ever looked at. */
TEST(damaged_words_lead_nowhere)
{
	struct pair p = make();
	struct hf_diskshm_pool *pool = p.keeper.pool[HF_DISKSHM_OUT];
	const uint8_t *first = p.keeper.chunks[HF_DISKSHM_OUT];
	const uint8_t *last = first + p.keeper.n_chunks[HF_DISKSHM_OUT] * HF_DISKSHM_CHUNK_BYTES;
	static const uint64_t evil[] = {
		0, 1, 2, 7, 8, 1000, UINT32_MAX, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX
	};
	uint64_t seed = 1;
	struct hf_diskshm_view v;
	int n_seen = 0;

	for (int k = 0; k < 200000; k++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		atomic_store(&pool->head, evil[(seed >> 33) % 10]);
		atomic_store(&pool->tail, evil[(seed >> 37) % 10]);
		atomic_store(&pool->order[(seed >> 41) % 16], (uint32_t)evil[(seed >> 45) % 10]);
		atomic_store(&pool->chunk[(seed >> 49) % 16].fill,
			     evil[(seed >> 53) % 10] << 32 | (seed >> 20 & 0xfff));
		pool->n_chunks = (uint32_t)evil[(seed >> 57) % 10];
		if (!hf_diskshm_look(&p.keeper, HF_DISKSHM_OUT, evil[(seed >> 60) % 10], &v))
			continue;
		CHECK(v.message >= first && v.message + HF_DISKSHM_CHUNK_BYTES <= last);
		CHECK(v.used <= HF_DISKSHM_ROOM_BYTES);
		n_seen++;
		hf_diskshm_free_oldest(&p.keeper, HF_DISKSHM_OUT);
	}
	CHECK(n_seen > 100);
	end(&p);
}

TEST(a_damaged_pool_of_ones_own_is_still_ones_own)
{
	struct pair p = make();
	uint32_t i;

	for (int k = 0; k < 100; k++) {
		atomic_store(&p.keeper.pool[HF_DISKSHM_IN]->head, (uint64_t)k * 977);
		atomic_store(&p.keeper.pool[HF_DISKSHM_IN]->tail, (uint64_t)(k % 7) * 131071);
		if (hf_diskshm_take(&p.keeper, HF_DISKSHM_IN, 1, &i))
			CHECK(i < p.keeper.n_chunks[HF_DISKSHM_IN]);
		hf_diskshm_untake(&p.keeper, HF_DISKSHM_IN);
		hf_diskshm_drop_epoch(&p.keeper, 1);
		hf_diskshm_reclaim(&p.keeper);
	}
	end(&p);
}

static void refuse(int fd, const char *what)
{
	struct hf_diskshm s;
	struct hf_err err = { "" };
	int r = hf_diskshm_attach(fd, -1, -1, &s, &err);

	CHECK(r == -EINVAL || r == -EBADMSG);
	CHECK_CONTAINS(err.text, what);
}

TEST(what_is_no_log_is_not_attached)
{
	struct pair p = make();
	int file = open("/dev/null", O_RDWR | O_CLOEXEC);
	int memory = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	struct hf_diskshm_pool *pool = p.keeper.pool[HF_DISKSHM_OUT];

	refuse(file, "sealed");
	refuse(memory, "sealed");
	CHECK_EQ(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	refuse(memory, "0 bytes");
	pool->n_chunks++;
	refuse(p.keeper.fd, "its pools take");
	pool->n_chunks = UINT32_MAX;
	refuse(p.keeper.fd, "cannot have");
	pool->n_chunks = p.keeper.n_chunks[HF_DISKSHM_OUT];
	atomic_store(&pool->head, 1000);
	refuse(p.keeper.fd, "damaged");
	atomic_store(&pool->head, 2);
	atomic_store(&pool->order[0], 1);
	atomic_store(&pool->order[1], 1);
	refuse(p.keeper.fd, "damaged");
	atomic_store(&pool->order[1], 4000);
	refuse(p.keeper.fd, "damaged");
	p.keeper.words->n_disks = 0;
	refuse(p.keeper.fd, "version");
	close(file);
	close(memory);
	end(&p);
}

TEST(limits_are_said)
{
	struct hf_diskshm s;
	struct hf_err err = { "" };

	CHECK_EQ(hf_diskshm_create(1, UINT64_MAX, 0, &s, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "at most");
	CHECK_EQ(hf_diskshm_create(1, (uint64_t)8192 * HF_DISKSHM_CHUNK_BYTES, 0, &s, &err),
		 -EINVAL);
	CHECK_EQ(hf_diskshm_create(1, 0, 0, &s, &err), 0);
	hf_diskshm_close(&s);
	s = HF_DISKSHM_NONE;
	hf_diskshm_close(&s);
}

TEST(bells_never_block)
{
	struct pair p = make();
	uint64_t n = 0;

	for (int i = 0; i < 1000; i++) {
		hf_diskshm_kick(&p.keeper);
		hf_diskshm_notify(&p.disk);
	}
	CHECK_EQ(read(p.disk.kick_fd, &n, sizeof(n)), sizeof(n));
	CHECK_EQ(n, 1000);
	CHECK_EQ(read(p.keeper.notice_fd, &n, sizeof(n)), sizeof(n));
	CHECK_EQ(n, 1000);
	CHECK_EQ(read(p.keeper.notice_fd, &n, sizeof(n)), -1);
	end(&p);
}

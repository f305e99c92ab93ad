/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For the tests of the engine: files, the shared memory, an engine, and a keeper of a few functions that says
 * what the real one would. Waits are generous: the machine may be busy with other tests.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "disk/engine.h"
#include "sys/fd.h"

#include "../../tests/test.h"

#define DISK_BYTES ((uint64_t)4 << 20)
#define BLOCK 4096u
#define BLOCKS (DISK_BYTES / BLOCK)
#define WAIT_MS 60000
#define AREA_BYTES ((uint64_t)32 << 20)

struct world {
	char folder[64];
	uint32_t n_disks;
	char image[2][128];
	char map[2][128];
	char redo[128];
	struct hf_diskshm keeper; /* the keeper's side */
	int control; /* the keeper's end */
	struct hf_engine *engine;
	struct hf_diskctl_msg ready;
	bool is_shared;
	bool is_standby;
	uint32_t last_number;
};

static inline void path_of(struct world *w, char *buf, const char *name, uint32_t i)
{
	(void)snprintf(buf, 128, "%s/%s%u", w->folder, name, i);
}

static inline void make_image(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)DISK_BYTES), 0);
	close(fd);
}

static inline void world_files(struct world *w, uint32_t n_disks, const char *parent)
{
	memset(w, 0, sizeof(*w));
	w->keeper = HF_DISKSHM_NONE;
	w->control = -1;
	w->n_disks = n_disks;
	(void)snprintf(w->folder, sizeof(w->folder), "%s/hf-engine-XXXXXX", parent);
	CHECK(mkdtemp(w->folder));
	for (uint32_t i = 0; i < n_disks; i++) {
		path_of(w, w->image[i], "image", i);
		path_of(w, w->map[i], "map", i);
		make_image(w->image[i]);
	}
	path_of(w, w->redo, "redo", 0);
}

static inline void world_memory(struct world *w, uint64_t soft, uint64_t reserve)
{
	struct hf_err err = { "" };

	hf_diskshm_close(&w->keeper);
	CHECK_EQ(hf_diskshm_create(w->n_disks, soft, reserve, &w->keeper, &err), 0);
}

/* What the engine is started with, in this process or another one. */
static inline int try_engine(struct world *w, int control_fd, struct hf_engine **ret,
			     struct hf_err *err)
{
	struct hf_engine_config c = {
		.vm = "test",
		.n_disks = w->n_disks,
		.redo_location = w->redo,
		.redo_area_bytes = AREA_BYTES,
		.is_shared = w->is_shared,
		.is_standby = w->is_standby,
		.shm = HF_DISKSHM_NONE,
		.control_fd = control_fd,
	};
	int r;

	for (uint32_t i = 0; i < w->n_disks; i++) {
		c.image[i].location = w->image[i];
		c.map_path[i] = w->is_shared ? NULL : w->map[i];
	}
	CHECK_EQ(hf_diskshm_attach(dup(w->keeper.fd), dup(w->keeper.kick_fd),
				   dup(w->keeper.notice_fd), &c.shm, err),
		 0);
	r = hf_engine_start(&c, ret, err);
	if (r < 0)
		hf_diskshm_close(&c.shm);
	return r;
}

static inline bool hear(struct world *w, struct hf_diskctl_msg *ret, int timeout_ms)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];
	struct pollfd p = { .fd = w->control, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, timeout_ms) <= 0)
		return false;
	n = recv(w->control, buf, sizeof(buf), 0);
	return n > 0 && hf_diskctl_decode(buf, (size_t)n, ret, NULL) == 0;
}

/* Of a type; others are passed over. */
static inline struct hf_diskctl_msg await_msg(struct world *w, enum hf_diskctl_type type)
{
	struct hf_diskctl_msg msg;

	do {
		if (!hear(w, &msg, WAIT_MS))
			hf_test_fail(__FILE__, __LINE__, "no message of type %d came", (int)type);
	} while (msg.type != type);
	return msg;
}

static inline void start(struct world *w)
{
	struct hf_err err = { "" };
	int pair[2], r;

	CHECK_EQ(hf_fd_pair(SOCK_SEQPACKET, pair), 0);
	hf_fd_close(&w->control);
	w->control = pair[0];
	r = try_engine(w, pair[1], &w->engine, &err);
	if (r < 0)
		hf_test_fail(__FILE__, __LINE__, "engine: %s", err.text);
	w->ready = await_msg(w, HF_DISKCTL_READY);
}

static inline void stop(struct world *w)
{
	hf_engine_stop(w->engine);
	w->engine = NULL;
}

static inline void world_end(struct world *w)
{
	char command[160];

	if (w->engine)
		stop(w);
	hf_fd_close(&w->control);
	hf_diskshm_close(&w->keeper);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", w->folder);
	CHECK_EQ(system(command), 0);
}

static inline void make_world_of(struct world *w, uint32_t n_disks, enum hf_diskshm_role role)
{
	world_files(w, n_disks, "/tmp");
	world_memory(w, (uint64_t)8 << 20, (uint64_t)8 << 20);
	w->is_standby = role != HF_DISKSHM_OWNER;
	w->is_shared = role == HF_DISKSHM_WATCHER;
	atomic_store(&w->keeper.words->role, role);
	start(w);
}

static inline void make_world(struct world *w)
{
	make_world_of(w, 1, HF_DISKSHM_OWNER);
}

/* ---- the keeper's words ---- */

static inline void say(struct world *w, struct hf_diskctl_msg msg)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];
	size_t n = hf_diskctl_encode(&msg, buf);

	CHECK_EQ(send(w->control, buf, n, MSG_NOSIGNAL), (ssize_t)n);
}

static inline int order(struct world *w, struct hf_diskctl_msg msg)
{
	struct hf_diskctl_msg done;

	msg.number = ++w->last_number;
	say(w, msg);
	do {
		done = await_msg(w, HF_DISKCTL_DONE);
	} while (done.number != msg.number);
	return done.done.error;
}

static inline int set_state(struct world *w, enum hf_disk_condition condition, uint64_t session)
{
	return order(w, (struct hf_diskctl_msg){
				.type = HF_DISKCTL_SET_STATE,
				.set_state = { condition, { 0, session } },
			});
}

static inline void put(struct world *w, _Atomic uint64_t *word, uint64_t value)
{
	atomic_store(word, value);
	hf_diskshm_kick(&w->keeper);
}

static inline void nap(void)
{
	const struct timespec t = { .tv_nsec = 1000000 };

	(void)nanosleep(&t, NULL);
}

#define AWAIT(w, cond)                                                                             \
	do {                                                                                       \
		int n_ = 0;                                                                        \
		while (!(cond)) {                                                                  \
			if (n_++ > WAIT_MS)                                                        \
				hf_test_fail(__FILE__, __LINE__, "waited for %s", #cond);          \
			nap();                                                                     \
		}                                                                                  \
	} while (0)

static inline void hold(struct world *w, uint64_t epoch)
{
	struct hf_diskshm_words *words = w->keeper.words;

	atomic_store(&words->open_epoch, epoch);
	atomic_store(&words->mode, HF_DISKSHM_HOLD);
	hf_diskshm_kick(&w->keeper);
	AWAIT(w, atomic_load(&words->state) == HF_DISKSHM_HOLD);
}

/* The boundary: only while no request is under way. */
static inline void capture(struct world *w, uint64_t epoch)
{
	atomic_store(&w->keeper.words->open_epoch, epoch + 1);
	put(w, &w->keeper.words->captured, epoch);
}

static inline void commit(struct world *w, uint64_t epoch)
{
	put(w, &w->keeper.words->committed, epoch);
}

static inline void drain(struct world *w)
{
	struct hf_diskshm_words *words = w->keeper.words;

	atomic_store(&words->mode, HF_DISKSHM_DRAIN);
	hf_diskshm_kick(&w->keeper);
	AWAIT(w, atomic_load(&words->state) == HF_DISKSHM_DIRECT);
}

/* ---- blocks ---- */

static inline void write_block(struct world *w, uint64_t block, uint8_t value)
{
	uint8_t buf[BLOCK];

	memset(buf, value, sizeof(buf));
	CHECK_EQ(hf_engine_write(w->engine, 0, buf, BLOCK, block * BLOCK, false), 0);
}

/* The one value that a block has. */
static inline int value_of(const uint8_t *buf)
{
	return memcmp(buf, buf + 1, BLOCK - 1) == 0 ? buf[0] : -1;
}

static inline int read_block(struct world *w, uint64_t block)
{
	uint8_t buf[BLOCK];

	CHECK_EQ(hf_engine_read(w->engine, 0, buf, BLOCK, block * BLOCK), 0);
	return value_of(buf);
}

static inline int image_block(struct world *w, uint64_t block)
{
	uint8_t buf[BLOCK];
	int fd = open(w->image[0], O_RDONLY | O_CLOEXEC);

	CHECK_EQ(pread(fd, buf, BLOCK, (off_t)(block * BLOCK)), (ssize_t)BLOCK);
	close(fd);
	return value_of(buf);
}

/* ---- what another host sends ---- */

static inline size_t make_write(uint8_t *buf, uint64_t block, uint8_t value)
{
	struct hf_wire_disk_record rec = {
		.kind = HF_WIRE_DISK_WRITE,
		.offset_bytes = block * BLOCK,
		.length_bytes = BLOCK,
	};

	hf_wire_disk_put_record(buf, &rec);
	memset(buf + HF_WIRE_DISK_RECORD_BYTES, value, BLOCK);
	return HF_WIRE_DISK_RECORD_BYTES + BLOCK;
}

static inline bool try_receive(struct world *w, uint64_t epoch, const uint8_t *buf, size_t n)
{
	hf_diskshm_reclaim(&w->keeper);
	return hf_diskshm_put(&w->keeper, epoch ? HF_DISKSHM_IN : HF_DISKSHM_COPY, epoch, buf, n,
			      1);
}

/* A block's write arrives in @epoch; 0: as a piece of a first copy. */
static inline void receive(struct world *w, uint64_t epoch, uint64_t block, uint8_t value)
{
	uint8_t buf[HF_WIRE_DISK_RECORD_BYTES + BLOCK];
	size_t n = make_write(buf, block, value);

	AWAIT(w, try_receive(w, epoch, buf, n));
	hf_diskshm_kick(&w->keeper);
}

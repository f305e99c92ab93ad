/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hosts that share a lease area, all in this process: pages, members, workshops, and one main
 * loop. */
#pragma once

#include "lease/test-storage.h"

#include <errno.h>
#include <poll.h>

#include "lease/index.h"
#include "lease/member.h"
#include "lease/store.h"
#include "lease/work.h"
#include "sys/leasepage.h"

#define WORLD_HOSTS_MAX 3u
#define WORLD_NUM_HOSTS 8u
#define WORLD_LEASES 10u /* room for them */
#define WORLD_GENEROUS_NS (120 * 1000000000ull)
#define WORLD_FENCE_MS 6000u

struct world_host {
	struct hf_lease_page *page;
	struct hf_member *member;
	struct hf_workshop *shop;
};

static struct world_host world_host[WORLD_HOSTS_MAX + 1]; /* by id */
static struct hf_lease_geometry world_geometry;
static char world_area[96];

struct world_op {
	bool is_done;
	struct hf_work_result res;
	struct hf_work *work;
};

/* ---- the area ---- */

STORAGE_UNUSED static uint64_t world_offset(unsigned int area)
{
	return (uint64_t)area * world_geometry.align_bytes;
}

static void world_pwrite(const uint8_t *bytes, size_t n, uint64_t offset)
{
	int fd = open(world_area, O_WRONLY | O_DSYNC | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, bytes, n, (off_t)offset), n);
	(void)close(fd);
}

STORAGE_UNUSED static void world_pread(uint8_t *ret, size_t n, uint64_t offset)
{
	int fd = open(world_area, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, ret, n, (off_t)offset), n);
	(void)close(fd);
}

/* Sectors as small as the file system lets them be. */
static void world_choose_geometry(void)
{
	struct hf_store_config config = { .path = world_area };
	struct hf_err err = { "" };
	struct hf_store *s;

	if (hf_store_open(&config, &s, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	CHECK_EQ(hf_lease_geometry_make(hf_store_sector_bytes(s), 1 << 20, &world_geometry, NULL),
		 0);
	hf_store_close(s);
}

static void world_make_lockspace(void)
{
	uint8_t *buf = malloc(1 << 20);

	CHECK(buf);
	(void)storage_path(world_area, sizeof(world_area), "area");
	storage_file(world_area, 1 << 20);
	world_choose_geometry();
	hf_lease_lockspace_format(buf, &world_geometry, "space", 10);
	world_pwrite(buf, 1 << 20, 0);
	free(buf);
}

/* Behind the lockspace: an index without leases, its own lease, room. */
STORAGE_UNUSED static void world_make_index(void)
{
	struct hf_lease_index index = { .max_resources = HF_LEASE_INDEX_RESOURCES,
					.space = "space" };
	uint8_t *buf = calloc(1, 1 << 20);

	CHECK(buf);
	CHECK_EQ(truncate(world_area, 1 << 20), 0);
	CHECK_EQ(truncate(world_area, (off_t)(3 + WORLD_LEASES) << 20), 0);
	index.geometry = world_geometry;
	index.offset = 1 << 20;
	hf_lease_index_encode(buf, &index);
	world_pwrite(buf, 1 << 20, 1 << 20);
	hf_lease_resource_format(buf, &world_geometry, WORLD_NUM_HOSTS, "space",
				 HF_LEASE_INDEX_LEASE_NAME);
	world_pwrite(buf, 1 << 20, 2 << 20);
	free(buf);
}

STORAGE_UNUSED static struct hf_lease_leader world_leader(uint64_t offset)
{
	uint8_t sector[4096];
	struct hf_lease_leader leader;
	struct hf_err err = { "" };

	world_pread(sector, world_geometry.sector_bytes, offset);
	if (hf_lease_leader_decode(sector, &world_geometry, "space", NULL, &leader, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return leader;
}

STORAGE_UNUSED static struct hf_lease_block world_block(uint64_t offset, unsigned int host)
{
	uint8_t sector[4096];
	struct hf_lease_block block;

	world_pread(sector, world_geometry.sector_bytes,
		    offset + hf_lease_block_at(&world_geometry, host));
	hf_lease_block_decode(sector, &block);
	return block;
}

/* ---- the main loop ---- */

static void world_dispatch(struct world_host *h)
{
	if (h->member) {
		(void)hf_member_dispatch(h->member);
		if (h->shop)
			hf_workshop_notice_sights(h->shop);
	}
	if (h->shop)
		hf_workshop_dispatch(h->shop);
}

/* One round: until something happens, but not long. */
STORAGE_UNUSED static void world_turn(void)
{
	struct pollfd p[2 * (WORLD_HOSTS_MAX + 1)];
	uint64_t next = storage_now_ns() + 20000000, now;
	nfds_t n = 0;

	for (unsigned int i = 1; i <= WORLD_HOSTS_MAX; i++) {
		struct world_host *h = &world_host[i];

		if (h->member)
			p[n++] = (struct pollfd){ .fd = hf_member_fd(h->member), .events = POLLIN };
		if (h->shop)
			p[n++] = (struct pollfd){ .fd = hf_workshop_fd(h->shop), .events = POLLIN };
		if (h->shop && hf_workshop_next_ns(h->shop) < next)
			next = hf_workshop_next_ns(h->shop);
	}
	now = storage_now_ns();
	CHECK(poll(p, n, next > now ? (int)((next - now) / 1000000) + 1 : 0) >= 0);
	for (unsigned int i = 1; i <= WORLD_HOSTS_MAX; i++)
		world_dispatch(&world_host[i]);
}

static void world_on_done(void *ctx, const struct hf_work_result *res)
{
	struct world_op *op = ctx;

	CHECK(!op->is_done);
	op->is_done = true;
	op->res = *res;
}

STORAGE_UNUSED static void world_wait(const struct world_op *op)
{
	uint64_t end = storage_now_ns() + WORLD_GENEROUS_NS;

	while (!op->is_done) {
		if (storage_now_ns() > end)
			hf_test_fail(__FILE__, __LINE__, "no end: %s", hf_work_trouble(op->work));
		world_turn();
	}
}

/* ---- hosts ---- */

static void world_begin_member(struct world_host *h, unsigned int id, const char *path)
{
	struct hf_member_config c = { .path = path, .space = "space" };
	struct hf_err err = { "" };
	char page[96], name[16];

	(void)snprintf(name, sizeof(name), "page-%u", id);
	(void)storage_path(page, sizeof(page), name);
	if (hf_lease_page_create(page, &h->page, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	c.page = h->page;
	c.host = (struct hf_host_config){ .host_id = id,
					  .io_timeout_s = 10,
					  .renew_ms = 400,
					  .fence_ms = WORLD_FENCE_MS,
					  .stop_ms = 600 };
	(void)snprintf(c.host.name, sizeof(c.host.name), "host%u", id);
	if (hf_member_start(&c, &h->member, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static void world_begin_shop(struct world_host *h, const char *path)
{
	struct hf_workshop_config c = {
		.path = path, .space = "space", .member = h->member, .page = h->page, .threads = 3
	};
	struct hf_err err = { "" };

	if (hf_workshop_new(&c, &h->shop, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static bool world_is_member(unsigned int id)
{
	struct hf_member_status status;

	hf_member_get_status(world_host[id].member, &status);
	return status.state == HF_HOST_MEMBER;
}

static void world_wait_member(unsigned int id)
{
	uint64_t end = storage_now_ns() + WORLD_GENEROUS_NS;

	while (!world_is_member(id)) {
		CHECK(storage_now_ns() < end);
		world_turn();
	}
}

STORAGE_UNUSED static void world_stop_renewing(unsigned int id, bool is_leaving)
{
	CHECK_EQ(hf_member_stop(world_host[id].member, is_leaving, 60000), 0);
	world_host[id].member = NULL;
}

STORAGE_UNUSED static void world_end_shop(unsigned int id)
{
	CHECK_EQ(hf_workshop_free(world_host[id].shop, 60000), 0);
	world_host[id].shop = NULL;
}

static void world_end_host(unsigned int id)
{
	struct world_host *h = &world_host[id];

	world_end_shop(id);
	if (h->member)
		world_stop_renewing(id, true);
	hf_lease_page_close(h->page);
	memset(h, 0, sizeof(*h));
}

/* By which way its member and its workshop reach the area. What is there stays. */
STORAGE_UNUSED static void world_ensure(unsigned int id, const char *path, const char *shop_path)
{
	struct world_host *h = &world_host[id];

	if (h->page && !h->member)
		world_end_host(id);
	if (!h->member)
		world_begin_member(h, id, path);
	if (!h->shop)
		world_begin_shop(h, shop_path);
}

/* Members 1..n of a lockspace without leases. They stay for the next test: joining takes
 * seconds. */
STORAGE_UNUSED static void world_begin_by(unsigned int n, const char *const *paths)
{
	world_make_index();
	for (unsigned int id = 1; id <= n; id++)
		world_ensure(id, world_area, paths[id - 1]);
	for (unsigned int id = 1; id <= n; id++)
		world_wait_member(id);
}

STORAGE_UNUSED static void world_begin(unsigned int n)
{
	const char *const paths[] = { world_area, world_area, world_area };

	CHECK(n <= WORLD_HOSTS_MAX);
	if (world_area[0] == '\0')
		world_make_lockspace();
	world_begin_by(n, paths);
}

/* Nobody works on any lease any more. */
STORAGE_UNUSED static void world_end(void)
{
	for (unsigned int id = 1; id <= WORLD_HOSTS_MAX; id++)
		if (world_host[id].shop)
			CHECK_EQ(hf_workshop_next_ns(world_host[id].shop), UINT64_MAX);
}

/* ---- operations ---- */

STORAGE_UNUSED static struct hf_lease_ref world_ref(const char *name)
{
	struct hf_lease_ref ref = { .offset = 0 };

	CHECK(strlen(name) < sizeof(ref.name));
	memcpy(ref.name, name, strlen(name));
	return ref;
}

STORAGE_UNUSED static void world_start(unsigned int id, const char *name,
				       const struct hf_ballot_want *want, struct world_op *ret)
{
	struct hf_lease_ref ref = world_ref(name);

	memset(ret, 0, sizeof(*ret));
	CHECK_EQ(hf_work_start(world_host[id].shop, &ref, want, world_on_done, ret, &ret->work), 0);
}

STORAGE_UNUSED static struct hf_work_result world_do(unsigned int id, const char *name,
						     const struct hf_ballot_want *want)
{
	struct world_op op;

	world_start(id, name, want, &op);
	world_wait(&op);
	return op.res;
}

STORAGE_UNUSED static struct hf_work_result world_read(unsigned int id, const char *name)
{
	struct hf_lease_ref ref = world_ref(name);
	struct world_op op = { .is_done = false };

	CHECK_EQ(hf_work_read(world_host[id].shop, &ref, world_on_done, &op, &op.work), 0);
	world_wait(&op);
	return op.res;
}

STORAGE_UNUSED static struct hf_work_result world_create(unsigned int id, const char *name)
{
	struct world_op op = { .is_done = false };

	CHECK_EQ(hf_work_create(world_host[id].shop, name, world_on_done, &op, &op.work), 0);
	world_wait(&op);
	if (op.res.r < 0)
		printf("# create %s: %s\n", name, op.res.error.text);
	return op.res;
}

STORAGE_UNUSED static struct hf_work_result world_acquire(unsigned int id, const char *name)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };

	return world_do(id, name, &want);
}

STORAGE_UNUSED static void world_release(unsigned int id, const char *name, uint64_t lver)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_RELEASE, .lver = lver };
	struct hf_work_result res = world_do(id, name, &want);

	CHECK_EQ(res.r, 0);
	CHECK_EQ(res.result, HF_BALLOT_RELEASED);
}

/* It came to an end, and this one. */
#define WORLD_EXPECT(res, want)                                                                    \
	do {                                                                                       \
		struct hf_work_result res_ = (res);                                                \
		if (res_.r != 0)                                                                   \
			hf_test_fail(__FILE__, __LINE__, "%s: %d: %s", #res, res_.r,               \
				     res_.error.text);                                             \
		CHECK_STR(hf_ballot_result_text(res_.result), hf_ballot_result_text(want));        \
	} while (0)

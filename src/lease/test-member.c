/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Members of one lockspace in one process: each with a page of its own, on a file or behind an NBD
 * server that can be stopped. All share one clock, so what one says of another can be held against
 * the other's page.
 */
#include "lease/test-storage.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>

#include "lease/member.h"

#define HOSTS 4
#define RENEW_MS 150
#define FENCE_MS 2000
#define STOP_MS 500
#define PATIENCE_MS 60000u
#define MS_NS UINT64_C(1000000)

struct host {
	struct hf_member *member;
	struct hf_lease_page *page; /* the daemon's */
	struct hf_lease_page *reader; /* somebody who runs something; NULL: nobody */
	struct hf_member_config config;
	char page_path[96];
};

static char file[96], sock[96], uri[160], trigger[96], error_file[128];
static struct host host[HOSTS + 1];
static struct hf_lease_geometry geometry;

/* ---- the area, by hand ---- */

static void write_file(const void *bytes, size_t len, uint64_t offset)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC | O_DSYNC);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, bytes, len, (off_t)offset), len);
	(void)close(fd);
}

static void read_sector(uint64_t id, uint8_t sector[512])
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, sector, 512, (off_t)hf_lease_slot_at(&geometry, id)), 512);
	(void)close(fd);
}

static struct hf_lease_slot slot_on_disk(uint64_t id)
{
	struct hf_lease_slot slot;
	struct hf_err err = { "" };
	uint8_t sector[512];

	read_sector(id, sector);
	if (hf_lease_slot_decode(sector, &geometry, id, "space", &slot, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return slot;
}

/* As another host would, whatever stands there. */
static void put_slot(uint64_t id, const char *name, uint64_t generation)
{
	struct hf_lease_slot slot = {
		.owner = id, .generation = generation, .timestamp_s = 1000, .io_timeout_s = 10
	};
	uint8_t sector[512] = { 0 };

	(void)snprintf(slot.host_name, sizeof(slot.host_name), "%s", name);
	hf_lease_slot_encode(sector, &geometry, &slot, "space");
	write_file(sector, sizeof(sector), hf_lease_slot_at(&geometry, id));
}

static void make_area(uint32_t sector_bytes)
{
	static uint8_t area[1 << 20];

	(void)storage_path(file, sizeof(file), "area");
	(void)storage_path(sock, sizeof(sock), "sock");
	(void)storage_path(trigger, sizeof(trigger), "trigger");
	(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
	(void)snprintf(error_file, sizeof(error_file), "error-file=%s", trigger);
	CHECK_EQ(hf_lease_geometry_make(sector_bytes, 1 << 20, &geometry, NULL), 0);
	hf_lease_lockspace_format(area, &geometry, "space", 10);
	storage_file(file, sizeof(area));
	write_file(area, sizeof(area), 0);
}

/* ---- hosts ---- */

static struct hf_member_config config_of(unsigned int n, uint64_t id, const char *path)
{
	struct hf_member_config c = { .path = path,
				      .space = "space",
				      .host = { .host_id = id,
						.io_timeout_s = 10,
						.renew_ms = RENEW_MS,
						.fence_ms = FENCE_MS,
						.stop_ms = STOP_MS },
				      .page = host[n].page };

	(void)snprintf(c.host.name, sizeof(c.host.name), "host%u", n);
	return c;
}

/* A page as after a boot. */
static void new_page(unsigned int n)
{
	struct hf_err err = { "" };
	char name[16];

	(void)snprintf(name, sizeof(name), "page%u", n);
	(void)storage_path(host[n].page_path, sizeof(host[n].page_path), name);
	(void)unlink(host[n].page_path);
	if (hf_lease_page_create(host[n].page_path, &host[n].page, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static void use_page(unsigned int n)
{
	struct hf_err err = { "" };

	if (hf_lease_page_open(host[n].page_path, &host[n].reader, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static void start_member(unsigned int n)
{
	struct hf_err err = { "" };

	host[n].config.may_resume = hf_lease_page_is_used(host[n].page);
	if (hf_member_start(&host[n].config, &host[n].member, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static void start_as(unsigned int n, uint64_t id, const char *path)
{
	if (!host[n].page)
		new_page(n);
	host[n].config = config_of(n, id, path);
	start_member(n);
}

static void start(unsigned int n)
{
	start_as(n, n, file);
}

static void stop(unsigned int n, bool is_leaving)
{
	CHECK_EQ(hf_member_stop(host[n].member, is_leaving, PATIENCE_MS), 0);
	host[n].member = NULL;
}

static void end_all(void)
{
	for (unsigned int n = 1; n <= HOSTS; n++) {
		if (host[n].member)
			stop(n, false);
		hf_lease_page_close(host[n].reader);
		hf_lease_page_close(host[n].page);
		host[n] = (struct host){ 0 };
	}
}

static struct hf_member_status status_of(unsigned int n)
{
	struct hf_member_status s;

	hf_member_get_status(host[n].member, &s);
	return s;
}

static struct hf_lease_state page_of(unsigned int n)
{
	struct hf_lease_state s;

	CHECK(hf_lease_page_read(host[n].page, &s));
	return s;
}

/* One turn of a main loop. */
static void turn(void)
{
	struct pollfd p[HOSTS];
	nfds_t k = 0;

	for (unsigned int n = 1; n <= HOSTS; n++)
		if (host[n].member)
			p[k++] = (struct pollfd){ .fd = hf_member_fd(host[n].member),
						  .events = POLLIN };
	(void)poll(p, k, 20);
	for (unsigned int n = 1; n <= HOSTS; n++)
		if (host[n].member)
			(void)hf_member_dispatch(host[n].member);
}

#define WAIT_FOR(cond)                                                                             \
	do {                                                                                       \
		uint64_t until_ = storage_now_ns() + PATIENCE_MS * MS_NS;                          \
                                                                                                   \
		while (!(cond) && storage_now_ns() < until_)                                       \
			turn();                                                                    \
		CHECK(cond);                                                                       \
	} while (0)

static void expect_state(unsigned int n, enum hf_host_state state)
{
	uint64_t until = storage_now_ns() + PATIENCE_MS * MS_NS;
	struct hf_member_status s = status_of(n);

	for (; s.state != state && storage_now_ns() < until; s = status_of(n))
		turn();
	if (s.state != state)
		hf_test_fail(__FILE__, __LINE__, "host %u is %s (%s; %s), not %s", n,
			     hf_host_state_name(s.state), hf_host_why_text(s.why), s.error.text,
			     hf_host_state_name(state));
}

static enum hf_lease_life life(unsigned int of, unsigned int by)
{
	uint64_t id = host[of].config.host.host_id;

	return hf_lease_life(hf_member_sight(host[by].member, id), id, page_of(of).generation, 0);
}

/* ---- tests ---- */

TEST(a_member_joins_renews_and_leaves)
{
	struct hf_member_status s;
	struct hf_lease_state p;
	struct hf_lease_slot slot;
	uint64_t renewals, fence_ns;

	make_area(512);
	start(1);
	CHECK(!hf_lease_page_is_valid(host[1].page, 0));
	expect_state(1, HF_HOST_MEMBER);
	p = page_of(1);
	CHECK_EQ(p.host_id, 1);
	CHECK_EQ(p.generation, 1);
	CHECK(p.instance != 0);
	CHECK_EQ(p.daemon_pid, getpid());
	CHECK_STR(p.lockspace, "space");
	CHECK_STR(p.host_name, "host1");
	WAIT_FOR(hf_lease_page_is_valid(host[1].page, page_of(1).tenure));

	renewals = status_of(1).renewals;
	fence_ns = page_of(1).fence_ns;
	WAIT_FOR(status_of(1).renewals >= renewals + 3 && page_of(1).fence_ns > fence_ns);
	s = status_of(1);
	CHECK_EQ(s.generation, 1);
	CHECK_EQ(s.failures, 0);
	CHECK(s.last_io_ns > 0 && s.max_io_ns >= s.last_io_ns);
	CHECK_STR(s.error.text, "");
	CHECK_EQ(s.fence_ns - s.valid_ns, STOP_MS * MS_NS);
	slot = slot_on_disk(1);
	CHECK_STR(slot.host_name, "host1");
	CHECK_EQ(slot.extra.instance, p.instance);
	CHECK_EQ(slot.extra.fence_ms, FENCE_MS);

	stop(1, true);
	CHECK_EQ(slot_on_disk(1).timestamp_s, 0);
	CHECK_EQ(slot_on_disk(1).generation, 1);
	CHECK_EQ(page_of(1).generation, 0);
	CHECK(!hf_lease_page_is_valid(host[1].page, p.tenure));
	end_all();
}

/* A word that is wrong ends with the next renewals; a right one stands. */
TEST(a_fenced_host_is_dead_unless_it_renews)
{
	const struct hf_lease_sight *sight;
	uint64_t now_ns;

	make_area(512);
	start(1);
	start(2);
	expect_state(1, HF_HOST_MEMBER);
	expect_state(2, HF_HOST_MEMBER);
	sight = hf_member_sight(host[2].member, 1);
	WAIT_FOR(life(1, 2) == HF_LEASE_LIFE_ALIVE);
	now_ns = storage_now_ns();
	CHECK_EQ(hf_member_fenced(host[2].member, 1, "host7", now_ns, now_ns),
		 HF_LEASE_FENCING_OTHER_NAME);
	CHECK_EQ(hf_member_fenced(host[2].member, 1, "host1", sight->joined_ns, now_ns),
		 HF_LEASE_FENCING_TOO_NEW);
	CHECK_EQ(hf_member_fenced(host[2].member, 3, "host3", now_ns, now_ns),
		 HF_LEASE_FENCING_NO_HOST);
	CHECK_EQ(hf_member_fenced(host[2].member, 1, "host1", now_ns, now_ns),
		 HF_LEASE_FENCING_TAKEN);
	WAIT_FOR(!sight->fenced_ns); /* it lives */

	stop(1, false);
	now_ns = storage_now_ns();
	CHECK_EQ(hf_member_fenced(host[2].member, 1, "host1", now_ns, now_ns),
		 HF_LEASE_FENCING_TAKEN);
	WAIT_FOR(hf_lease_life(sight, 1, sight->slot.generation, 0) == HF_LEASE_LIFE_DEAD);
	CHECK(hf_lease_is_fenced(sight, 1, sight->slot.generation));
	end_all();
}

/* Nobody takes in what is read: it is renewed all the same, and the newest is there later. */
TEST(a_main_loop_that_hangs)
{
	uint64_t began_ns, until = storage_now_ns() + PATIENCE_MS * MS_NS;

	make_area(512);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	began_ns = storage_now_ns();
	while (page_of(1).fence_ns < began_ns + 3 * FENCE_MS * MS_NS && storage_now_ns() < until)
		(void)usleep(10000);
	CHECK(page_of(1).fence_ns >= began_ns + 3 * FENCE_MS * MS_NS);
	(void)hf_member_dispatch(host[1].member);
	CHECK(hf_member_sight(host[1].member, 1)->issued_ns > began_ns + FENCE_MS * MS_NS);
	end_all();
}

/* What is not the main thread here renews. */
static atomic_uint renewals_allocate;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAN_COUNT_MALLOC true

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static void count_malloc(void)
{
	if (gettid() != getpid())
		(void)atomic_fetch_add(&renewals_allocate, 1);
}

void *malloc(size_t size)
{
	count_malloc();
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	count_malloc();
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	count_malloc();
	return __libc_realloc(p, size);
}
#else
#define CAN_COUNT_MALLOC false
#endif

TEST(renewing_allocates_nothing)
{
	unsigned int before;
	uint64_t renewals;

	if (!CAN_COUNT_MALLOC) {
		printf("# skipped: the sanitizer has malloc\n");
		return;
	}
	make_area(512);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	before = atomic_load(&renewals_allocate);
	CHECK(before > 0); /* it gets ready: they are counted */
	renewals = status_of(1).renewals;
	WAIT_FOR(status_of(1).renewals > renewals + 10);
	CHECK_EQ(atomic_load(&renewals_allocate), before);
	end_all();
}

/* Two hosts and a request, in both sector sizes. */
static void meet(uint32_t sector_bytes)
{
	uint64_t from = 0;
	uint8_t sector[512];

	make_area(sector_bytes);
	start(1);
	start_as(2, geometry.max_hosts, file);
	expect_state(1, HF_HOST_MEMBER);
	expect_state(2, HF_HOST_MEMBER);
	WAIT_FOR(life(1, 2) == HF_LEASE_LIFE_ALIVE && life(2, 1) == HF_LEASE_LIFE_ALIVE);
	CHECK_STR(hf_member_sight(host[1].member, geometry.max_hosts)->slot.host_name, "host2");
	CHECK(!hf_member_take_request(host[2].member, &from));

	hf_member_set_request(host[1].member, geometry.max_hosts, 1000);
	WAIT_FOR(from != 0 || hf_member_take_request(host[2].member, &from));
	CHECK_EQ(from, 1);
	read_sector(1, sector);
	WAIT_FOR((read_sector(1, sector), !hf_lease_bitmap_has(sector, geometry.max_hosts)));

	stop(2, true);
	host[2].config.host.host_id = geometry.max_hosts;
	WAIT_FOR(hf_lease_life(hf_member_sight(host[1].member, geometry.max_hosts),
			       geometry.max_hosts, 1, 0) == HF_LEASE_LIFE_GONE);
	end_all();
}

TEST(two_members_see_each_other)
{
	meet(512);
	meet(4096);
}

/*
 * A host whose storage hangs publishes nothing more, and is not called dead before its fence. When
 * the storage comes back it has the same generation and the next tenure.
 */
TEST(a_member_whose_storage_hangs_and_comes_back)
{
	static const char *const on_file[] = { "file", file, NULL };
	struct hf_lease_state p;
	pid_t server;

	make_area(512);
	server = storage_serve(sock, on_file);
	if (server < 0)
		return;
	start(1);
	start_as(2, 2, uri);
	expect_state(1, HF_HOST_MEMBER);
	expect_state(2, HF_HOST_MEMBER);
	WAIT_FOR(life(2, 1) == HF_LEASE_LIFE_ALIVE);

	storage_stop(server);
	WAIT_FOR(life(2, 1) == HF_LEASE_LIFE_DEAD);
	p = page_of(2);
	CHECK(storage_now_ns() > p.fence_ns);
	CHECK(!hf_lease_page_is_valid(host[2].page, p.tenure));
	WAIT_FOR(status_of(2).failures > 0);
	CHECK_CONTAINS(status_of(2).error.text, "within 750 ms");
	expect_state(2, HF_HOST_EXPIRED);
	CHECK_EQ(page_of(2).fence_ns, p.fence_ns);

	CHECK_EQ(kill(server, SIGCONT), 0);
	WAIT_FOR(hf_lease_page_is_valid(host[2].page, page_of(2).tenure));
	CHECK_EQ(page_of(2).generation, p.generation);
	CHECK_EQ(page_of(2).instance, p.instance);
	CHECK(page_of(2).tenure > p.tenure);
	WAIT_FOR(life(2, 1) == HF_LEASE_LIFE_ALIVE);
	CHECK_STR(status_of(2).error.text, "");
	end_all();
	storage_end(server);
}

TEST(errors_of_the_storage_are_told_and_survived)
{
	static const char *const failing[] = { "--filter=error",  "file",     file, "error=ENOSPC",
					       "error-rate=100%", error_file, NULL };
	uint64_t renewals;
	pid_t server;

	make_area(512);
	server = storage_serve(sock, failing);
	if (server < 0)
		return;
	start_as(1, 1, uri);
	expect_state(1, HF_HOST_MEMBER);
	storage_toggle(trigger, true);
	WAIT_FOR(status_of(1).failures >= 3);
	CHECK_CONTAINS(status_of(1).error.text, "No space left");
	CHECK_CONTAINS(status_of(1).error.text, sock);
	storage_toggle(trigger, false);
	renewals = status_of(1).renewals;
	WAIT_FOR(status_of(1).renewals > renewals + 1);
	CHECK_STR(status_of(1).error.text, "");
	expect_state(1, HF_HOST_MEMBER);
	CHECK_EQ(page_of(1).generation, 1);

	/* It cannot leave when nothing can be written: its slot stays as a dead host's. */
	storage_toggle(trigger, true);
	CHECK_EQ(hf_member_stop(host[1].member, true, 1000), -EIO);
	host[1].member = NULL;
	CHECK(slot_on_disk(1).timestamp_s != 0);
	storage_toggle(trigger, false);
	end_all();
	storage_end(server);
}

/* The storage has the thread: it is left where it is until it comes back. */
TEST(a_stop_does_not_wait_for_ever)
{
	static const char *const on_file[] = { "file", file, NULL };
	pid_t server;

	make_area(512);
	server = storage_serve(sock, on_file);
	if (server < 0)
		return;
	new_page(1);
	host[1].config = config_of(1, 1, uri);
	host[1].config.host.fence_ms = 79000; /* so an answer is waited for for half a minute */
	start_member(1);
	expect_state(1, HF_HOST_CONFIRMING);
	storage_stop(server);
	WAIT_FOR(status_of(1).io_since_ns != 0 &&
		 storage_now_ns() - status_of(1).io_since_ns > 1000 * MS_NS);
	CHECK_EQ(hf_member_stop(host[1].member, false, 50), -ETIMEDOUT);
	CHECK_EQ(kill(server, SIGCONT), 0);
	end_all();
	storage_end(server);
}

/* The daemon is started again while something runs: nothing that runs notices. */
TEST(resumed_with_the_same_page)
{
	struct hf_lease_state before, after;

	make_area(512);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	use_page(1);
	CHECK_EQ(hf_member_stop(host[1].member, true, PATIENCE_MS), -EBUSY);
	stop(1, false);
	before = page_of(1);
	CHECK_EQ(before.generation, 1);
	start_member(1);
	WAIT_FOR(page_of(1).fence_ns > before.fence_ns);
	after = page_of(1);
	CHECK_EQ(after.generation, before.generation);
	CHECK_EQ(after.instance, before.instance);
	/* On a machine that is too busy the lease may have run out meanwhile. */
	CHECK(after.tenure == before.tenure ||
	      after.fence_ns - FENCE_MS * MS_NS + RENEW_MS * MS_NS > before.valid_ns);
	CHECK_EQ(slot_on_disk(1).generation, 1);

	/* Nobody uses it any more: a new generation. */
	stop(1, false);
	hf_lease_page_close(host[1].reader);
	host[1].reader = NULL;
	start_member(1);
	CHECK_EQ(page_of(1).generation, 0);
	expect_state(1, HF_HOST_MEMBER);
	CHECK_EQ(page_of(1).generation, 2);
	CHECK(page_of(1).instance != before.instance);
	end_all();
}

/* Resumed after its time has run out: the same generation still, but what runs has to ask anew. */
TEST(resumed_too_late_for_its_tenure)
{
	struct hf_lease_state before;

	make_area(512);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	use_page(1);
	stop(1, false);
	before = page_of(1);
	WAIT_FOR(storage_now_ns() > before.fence_ns);
	start_member(1);
	WAIT_FOR(hf_lease_page_is_valid(host[1].page, before.tenure + 1));
	CHECK_EQ(page_of(1).generation, before.generation);
	end_all();
}

TEST(not_resumed_if_the_slot_is_anothers)
{
	struct hf_member *m;
	struct hf_err err = { "" };

	make_area(512);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	use_page(1);
	stop(1, false);
	put_slot(1, "other", 2);
	start_member(1);
	expect_state(1, HF_HOST_LOST);
	CHECK_EQ(status_of(1).why, HF_HOST_WHY_NOT_RESUMED);
	CHECK(!hf_lease_page_is_valid(host[1].page, page_of(1).tenure));
	CHECK_STR(slot_on_disk(1).host_name, "other");
	stop(1, false);

	/* Nor as another host, as long as something runs that was started as this one. */
	host[1].config.may_resume = true;
	host[1].config.host.host_id = 2;
	CHECK_EQ(hf_member_start(&host[1].config, &m, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "host 1 (host1) of lockspace space");
	end_all();
}

TEST(a_slot_that_is_taken_away)
{
	make_area(512);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	/* A renewal that is under way may go over it. */
	WAIT_FOR((status_of(1).state == HF_HOST_LOST) || (put_slot(1, "other", 7), false));
	CHECK_EQ(status_of(1).why, HF_HOST_WHY_CHANGED);
	CHECK(!hf_lease_page_is_valid(host[1].page, page_of(1).tenure));
	CHECK_STR(slot_on_disk(1).host_name, "other");
	CHECK_EQ(hf_member_stop(host[1].member, true, PATIENCE_MS), 0);
	host[1].member = NULL;
	CHECK_STR(slot_on_disk(1).host_name, "other");
	end_all();
}

/* The second of two hosts with one id goes away, and the first does not notice. */
TEST(an_id_that_is_in_use)
{
	make_area(512);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	start_as(2, 1, file);
	expect_state(2, HF_HOST_LOST);
	CHECK_EQ(status_of(2).why, HF_HOST_WHY_TAKEN);
	CHECK_EQ(page_of(2).valid_ns, 0);
	expect_state(1, HF_HOST_MEMBER);
	CHECK_EQ(page_of(1).generation, 1);
	CHECK_STR(slot_on_disk(1).host_name, "host1");
	end_all();
}

/* A damaged slot of another host shows nothing; the own one is written anew. */
TEST(damaged_slots)
{
	static const char junk[8] = "damaged";
	uint64_t issued_ns, renewals;

	make_area(512);
	put_slot(2, "other", 3);
	start(1);
	expect_state(1, HF_HOST_MEMBER);
	WAIT_FOR(hf_member_sight(host[1].member, 2)->is_seen);
	write_file(junk, sizeof(junk), hf_lease_slot_at(&geometry, 2) + 60);
	renewals = status_of(1).renewals;
	WAIT_FOR(status_of(1).renewals >= renewals + 2);
	issued_ns = hf_member_sight(host[1].member, 2)->issued_ns;
	WAIT_FOR(status_of(1).renewals >= renewals + 5);
	CHECK_EQ(hf_member_sight(host[1].member, 2)->issued_ns, issued_ns);
	CHECK(hf_member_sight(host[1].member, 1)->issued_ns > issued_ns);

	write_file(junk, sizeof(junk), hf_lease_slot_at(&geometry, 1) + 60);
	renewals = status_of(1).renewals;
	WAIT_FOR(status_of(1).renewals >= renewals + 3);
	CHECK_STR(slot_on_disk(1).host_name, "host1");
	expect_state(1, HF_HOST_MEMBER);
	end_all();
}

static void expect_refusal(struct hf_member_config c, int want, const char *text)
{
	struct hf_member *m;
	struct hf_err err = { "" };

	CHECK_EQ(hf_member_start(&c, &m, &err), want);
	CHECK_CONTAINS(err.text, text);
}

TEST(what_cannot_be_joined)
{
	struct hf_member_config c;

	make_area(4096);
	new_page(1);
	c = config_of(1, 251, file);
	expect_refusal(c, -EINVAL, "host id 251 in a lockspace for 250 hosts");
	c.host.host_id = 2001;
	expect_refusal(c, -EINVAL, "1 to 2000");
	c = config_of(1, 1, file);
	c.space = "place";
	expect_refusal(c, -EBADMSG, "place");
	c = config_of(1, 1, file);
	c.offset = 4096;
	expect_refusal(c, -EINVAL, "an offset of 4096");
	c.offset = 512 * 3 + 1;
	expect_refusal(c, -EINVAL, "multiple");
	c.offset = UINT64_C(16) << 20;
	expect_refusal(c, -EBADMSG, "1048576 bytes only");
	c = config_of(1, 1, file);
	c.host.fence_ms = 80000;
	expect_refusal(c, -EINVAL, "8 I/O time-outs");
	c.host.fence_ms = 3 * RENEW_MS - 1;
	expect_refusal(c, -EINVAL, "three renewals");
	c = config_of(1, 1, file);
	c.watchdog = "/dev/null";
	expect_refusal(c, -EINVAL, "/dev/null is no watchdog");
	c = config_of(1, 1, uri);
	expect_refusal(c, -EIO, "no NBD export");
	storage_file(file, 1 << 20);
	c = config_of(1, 1, file);
	expect_refusal(c, -EBADMSG, "there is no lockspace");
	end_all();
}

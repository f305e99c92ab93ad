/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sys/leasepage.h"

#define HOUR_NS UINT64_C(3600000000000)

static char folder[] = "/tmp/test-leasepage-XXXXXX";
static char path[64];

static void clean_up(void)
{
	(void)unlink(path);
	(void)rmdir(folder);
}

static void fresh(void)
{
	if (path[0] == '\0') {
		CHECK(mkdtemp(folder));
		CHECK_EQ(atexit(clean_up), 0);
		(void)snprintf(path, sizeof(path), "%s/lease-page", folder);
	}
	(void)unlink(path);
}

static struct hf_lease_page *create(void)
{
	struct hf_lease_page *p;
	struct hf_err err = { "" };

	if (hf_lease_page_create(path, &p, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return p;
}

static struct hf_lease_page *look(void)
{
	struct hf_lease_page *p;
	struct hf_err err = { "" };

	if (hf_lease_page_open(path, &p, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return p;
}

static void expect_no_reader(int want, const char *text)
{
	struct hf_lease_page *p;
	struct hf_err err = { "" };

	CHECK_EQ(hf_lease_page_open(path, &p, &err), want);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, path);
}

static void expect_no_daemon(int want, const char *text)
{
	struct hf_lease_page *p;
	struct hf_err err = { "" };

	CHECK_EQ(hf_lease_page_create(path, &p, &err), want);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, path);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &t), 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* All that can be derived from one number, so that a mixture of two shows. */
static struct hf_lease_state state_of(uint64_t n)
{
	struct hf_lease_state s = { .host_id = n,
				    .generation = n,
				    .instance = n,
				    .tenure = n,
				    .valid_ns = n,
				    .fence_ns = n,
				    .asleep_ns = n,
				    .daemon_pid = (int32_t)(n % 1000000) };

	(void)snprintf(s.lockspace, sizeof(s.lockspace), "lockspace %038" PRIu64, n);
	(void)snprintf(s.host_name, sizeof(s.host_name), "host %043" PRIu64, n);
	return s;
}

static void expect_state(const struct hf_lease_state *s)
{
	struct hf_lease_state want = state_of(s->tenure);

	CHECK_EQ(s->host_id, want.host_id);
	CHECK_EQ(s->generation, want.generation);
	CHECK_EQ(s->instance, want.instance);
	CHECK_EQ(s->valid_ns, want.valid_ns);
	CHECK_EQ(s->fence_ns, want.fence_ns);
	CHECK_EQ(s->asleep_ns, want.asleep_ns);
	CHECK_EQ(s->daemon_pid, want.daemon_pid);
	CHECK_STR(s->lockspace, want.lockspace);
	CHECK_STR(s->host_name, want.host_name);
}

TEST(what_is_published_is_read)
{
	struct hf_lease_page *d, *r;
	struct hf_lease_state s, want = state_of(7);

	fresh();
	d = create();
	r = look();
	CHECK(hf_lease_page_read(r, &s));
	CHECK_EQ(s.generation, 0);
	CHECK_STR(s.lockspace, "");
	hf_lease_page_publish(d, &want);
	CHECK(hf_lease_page_read(r, &s));
	CHECK_EQ(s.tenure, 7);
	CHECK_EQ(strlen(s.lockspace), 48);
	expect_state(&s);
	CHECK(hf_lease_page_read(d, &s));
	expect_state(&s);
	hf_lease_page_close(d);
	CHECK(hf_lease_page_read(r, &s));
	expect_state(&s);
	hf_lease_page_close(r);
}

TEST(the_next_daemon_finds_what_it_was)
{
	struct hf_lease_state s, was = state_of(9);
	struct hf_lease_page *d;

	fresh();
	d = create();
	expect_no_daemon(-EBUSY, "another daemon");
	hf_lease_page_publish(d, &was);
	hf_lease_page_close(d);
	d = create();
	CHECK(hf_lease_page_read(d, &s));
	CHECK_EQ(s.tenure, 9);
	expect_state(&s);
	hf_lease_page_close(d);
}

TEST(used_is_what_a_reader_has_open)
{
	struct hf_lease_page *d, *a, *b;

	fresh();
	d = create();
	CHECK(!hf_lease_page_is_used(d));
	a = look();
	CHECK(hf_lease_page_is_used(d));
	b = look();
	hf_lease_page_close(a);
	CHECK(hf_lease_page_is_used(d));
	hf_lease_page_close(b);
	CHECK(!hf_lease_page_is_used(d));
	hf_lease_page_close(d);
}

/* A reader that dies lets go, and a daemon that looks does not keep readers out. */
TEST(a_killed_reader_uses_nothing)
{
	struct hf_lease_page *d;
	pid_t child;

	fresh();
	d = create();
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)look();
		for (;;)
			(void)pause();
	}
	for (unsigned int i = 0; i < 6000 && !hf_lease_page_is_used(d); i++)
		(void)usleep(10000);
	CHECK(hf_lease_page_is_used(d));
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK(!hf_lease_page_is_used(d));
	hf_lease_page_close(d);
}

TEST(valid_is_this_tenure_before_its_deadline)
{
	struct hf_lease_state s = { .generation = 3, .tenure = 2 };
	struct hf_lease_page *d;

	fresh();
	d = create();
	CHECK(!hf_lease_page_is_valid(d, 0));
	s.asleep_ns = hf_lease_page_asleep_ns();
	s.valid_ns = now_ns() + HOUR_NS;
	hf_lease_page_publish(d, &s);
	CHECK(hf_lease_page_is_valid(d, 2));
	CHECK(!hf_lease_page_is_valid(d, 1));
	CHECK(!hf_lease_page_is_valid(d, 3));
	s.valid_ns = now_ns();
	hf_lease_page_publish(d, &s);
	CHECK(!hf_lease_page_is_valid(d, 2));
	s.valid_ns = now_ns() + HOUR_NS;
	s.generation = 0;
	hf_lease_page_publish(d, &s);
	CHECK(!hf_lease_page_is_valid(d, 2));
	hf_lease_page_close(d);
}

TEST(nothing_is_valid_after_a_sleep)
{
	struct hf_lease_state s = { .generation = 3, .tenure = 2 };
	struct hf_lease_page *d;

	fresh();
	d = create();
	s.valid_ns = now_ns() + HOUR_NS;
	s.asleep_ns = hf_lease_page_asleep_ns() - 100000000;
	hf_lease_page_publish(d, &s);
	CHECK(!hf_lease_page_is_valid(d, 2));
	s.asleep_ns = hf_lease_page_asleep_ns() + 100000000;
	hf_lease_page_publish(d, &s);
	CHECK(!hf_lease_page_is_valid(d, 2));
	s.asleep_ns = hf_lease_page_asleep_ns();
	hf_lease_page_publish(d, &s);
	CHECK(hf_lease_page_is_valid(d, 2));
	hf_lease_page_close(d);
}

TEST(what_is_no_page)
{
	static const char junk[4096] = "not a page";
	struct hf_lease_page *d;
	int fd;

	fresh();
	expect_no_reader(-ENOENT, "no daemon has ever run here");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	expect_no_reader(-ENOENT, "no daemon has ever run here");
	CHECK_EQ(write(fd, junk, 100), 100);
	expect_no_reader(-EBADMSG, "damaged");
	CHECK_EQ(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
	expect_no_reader(-EBADMSG, "damaged");

	/* Somebody relies on what another version wrote. */
	CHECK_EQ(flock(fd, LOCK_SH), 0);
	expect_no_daemon(-EBADMSG, "in use");
	CHECK_EQ(ftruncate(fd, 100), 0);
	expect_no_daemon(-EBADMSG, "in use");
	CHECK_EQ(flock(fd, LOCK_UN), 0);
	d = create();
	hf_lease_page_close(look());
	hf_lease_page_close(d);
	(void)close(fd);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(symlink("/dev/null", path), 0);
	expect_no_reader(-ELOOP, "");
	expect_no_daemon(-ELOOP, "");
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	expect_no_daemon(-EBADMSG, "");
	expect_no_reader(-EBADMSG, "");
}

static atomic_bool is_over;

static void *read_on(void *arg)
{
	const struct hf_lease_page *p = arg;
	struct hf_lease_state s = { 0 };
	uint64_t last = 0, seen = 0;

	while (!atomic_load(&is_over) || seen == 0) {
		if (!hf_lease_page_read(p, &s))
			continue; /* lost the processor again and again */
		if (s.tenure == 0)
			continue;
		expect_state(&s);
		CHECK(s.tenure >= last);
		last = s.tenure;
		seen++;
	}
	return NULL;
}

TEST(readers_never_see_half_of_it)
{
	struct hf_lease_page *d, *r[2];
	pthread_t thread[2];

	fresh();
	d = create();
	for (unsigned int i = 0; i < 2; i++) {
		r[i] = look();
		CHECK_EQ(pthread_create(&thread[i], NULL, read_on, r[i]), 0);
	}
	for (uint64_t n = 1; n <= 20000; n++) {
		struct hf_lease_state s = state_of(n);

		hf_lease_page_publish(d, &s);
	}
	atomic_store(&is_over, true);
	for (unsigned int i = 0; i < 2; i++) {
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
		hf_lease_page_close(r[i]);
	}
	hf_lease_page_close(d);
}

static void publish_for_ever(void)
{
	struct hf_lease_page *d = create();
	struct hf_lease_state s;

	CHECK(hf_lease_page_read(d, &s));
	for (uint64_t n = s.tenure + 1;; n++) {
		s = state_of(n);
		hf_lease_page_publish(d, &s);
	}
}

/* Killed wherever it is: what it left is whole, and the next one goes on from there. */
TEST(a_writer_killed_in_the_middle_leaves_the_last_whole_state)
{
	struct hf_lease_page *r;
	struct hf_lease_state s;
	uint64_t last = 0;

	fresh();
	hf_lease_page_close(create());
	r = look();
	for (unsigned int i = 0; i < 30; i++) {
		pid_t child = fork();

		CHECK(child >= 0);
		if (child == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			publish_for_ever();
		}
		do {
			(void)usleep(100 * i);
			(void)hf_lease_page_read(r, &s);
		} while (s.tenure < last + 10);
		CHECK_EQ(kill(child, SIGKILL), 0);
		CHECK_EQ(waitpid(child, NULL, 0), child);
		CHECK(hf_lease_page_read(r, &s));
		expect_state(&s);
		last = s.tenure;
	}
	hf_lease_page_close(r);
}

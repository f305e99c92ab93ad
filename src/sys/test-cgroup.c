/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * With real cgroups, of both versions where there are both. A child writes a file that grows: so that it
 * stands still is seen, and not believed.
 */
#include "../../tests/test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/process.h"

#define DEADLINE_MS 20000

/* A check that fails ends the program: what it had started must not stay. */
static char paths[16][PATH_MAX];
static unsigned int n_paths;

static void clean_up(void)
{
	for (unsigned int i = 0; i < n_paths; i++) {
		struct hf_cgroup c = HF_CGROUP_NONE;

		if (hf_cgroup_find(paths[i], &c, NULL) < 0)
			continue;
		(void)!hf_cgroup_kill(&c);
		for (int left = 200; left > 0 && hf_cgroup_is_empty(&c) == 0; left--)
			(void)usleep(10000);
		hf_cgroup_close(&c, true);
	}
}

static void sleep_ms(int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&ts, NULL);
}

/* Of v2, or of v1: false when this machine has none that can be written to. */
static bool open_one(bool is_v1, const char *name, struct hf_cgroup *ret)
{
	struct hf_err err = { "" };
	char folder[PATH_MAX];
	int r = hf_cgroup_own(is_v1, folder);

	if (r == 0)
		r = hf_cgroup_open_in(folder, name, ret, &err);
	if (r < 0) {
		printf("# no %s cgroup here: %s %s\n", is_v1 ? "v1" : "v2", strerror(-r), err.text);
		return false;
	}
	if (n_paths == 0)
		(void)atexit(clean_up);
	if (n_paths < sizeof(paths) / sizeof(paths[0]))
		(void)snprintf(paths[n_paths++], PATH_MAX, "%s", ret->path);
	CHECK_EQ(ret->is_v1, is_v1);
	CHECK_EQ(ret->events_fd >= 0, !is_v1);
	return true;
}

static void own_name(char *buf, size_t size, const char *what)
{
	(void)snprintf(buf, size, "holdfast-test-%s-%d", what, (int)getpid());
}

/* A shell and what it starts: all of them are born in the cgroup. */
static struct hf_process start_in(const struct hf_cgroup *c, const char *script)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	struct hf_process_spec spec = { .argv = argv,
					.has_cgroup = true,
					.cgroup_procs_fd = hf_cgroup_procs_fd(c) };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_err err = { "" };

	if (hf_process_spawn(&spec, &p, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return p;
}

static void await_frozen(const struct hf_cgroup *c, bool is_wanted)
{
	struct pollfd pfd = { .fd = c->events_fd, .events = POLLPRI };
	int r, left = DEADLINE_MS;

	while ((r = hf_cgroup_is_frozen(c)) != is_wanted) {
		CHECK(r >= 0);
		CHECK(left > 0);
		if (c->is_v1)
			sleep_ms(10);
		else
			CHECK_EQ(poll(&pfd, 1, left), 1); /* the events say so */
		left -= 10;
	}
}

static void await_empty(const struct hf_cgroup *c)
{
	int r;

	for (int left = DEADLINE_MS; (r = hf_cgroup_is_empty(c)) != 1; left -= 10) {
		CHECK(r >= 0);
		CHECK(left > 0);
		sleep_ms(10);
	}
}

static void reap(struct hf_process *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };
	struct hf_process_exit e;

	CHECK_EQ(poll(&pfd, 1, DEADLINE_MS), 1);
	CHECK_EQ(hf_process_reap(p, &e), 0);
	CHECK(e.is_signal);
	CHECK_EQ(e.code, SIGKILL);
	hf_process_close(p);
}

/* A file that grows by a byte as long as the script lives. */
static off_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : 0;
}

static void await_growth(const char *path, off_t than)
{
	for (int left = DEADLINE_MS; size_of(path) <= than; left -= 10) {
		CHECK(left > 0);
		sleep_ms(10);
	}
}

static void freeze_thaw_kill(bool is_v1)
{
	char name[64], path[80], script[160], folder[PATH_MAX];
	struct hf_cgroup c = HF_CGROUP_NONE;
	struct hf_process p;
	off_t size;

	own_name(name, sizeof(name), "f");
	if (!open_one(is_v1, name, &c))
		return;
	(void)snprintf(path, sizeof(path), "/tmp/%s", name);
	(void)snprintf(script, sizeof(script),
		       "(while :; do printf x; done) >%s & while :; do :; done", path);
	CHECK_EQ(hf_cgroup_is_empty(&c), 1);
	p = start_in(&c, script);
	CHECK_EQ(hf_cgroup_is_empty(&c), 0);
	CHECK_EQ(hf_cgroup_is_frozen(&c), 0);
	await_growth(path, 0);

	CHECK_EQ(hf_cgroup_freeze(&c, true), 0);
	await_frozen(&c, true);
	size = size_of(path);
	sleep_ms(200);
	CHECK_EQ(size_of(path), size);

	CHECK_EQ(hf_cgroup_freeze(&c, false), 0);
	await_frozen(&c, false);
	await_growth(path, size);

	CHECK_EQ(hf_cgroup_freeze(&c, true), 0);
	await_frozen(&c, true);
	size = size_of(path);
	CHECK_EQ(hf_cgroup_kill(&c), 0); /* frozen: and it does not run once more for it */
	reap(&p);
	await_empty(&c);
	CHECK_EQ(size_of(path), size);
	CHECK_EQ(unlink(path), 0);
	memcpy(folder, c.path, sizeof(folder));
	hf_cgroup_close(&c, true);
	CHECK_EQ(access(folder, F_OK), -1);
}

TEST(frozen_thawed_killed_v2)
{
	freeze_thaw_kill(false);
}

TEST(frozen_thawed_killed_v1)
{
	freeze_thaw_kill(true);
}

/* A name that is taken by somebody who lives gets a number; one left over is made anew. */
static void names(bool is_v1)
{
	struct hf_cgroup first = HF_CGROUP_NONE, second = HF_CGROUP_NONE, found = HF_CGROUP_NONE;
	struct hf_process p;
	char name[64];

	own_name(name, sizeof(name), "n");
	if (!open_one(is_v1, name, &first))
		return;
	p = start_in(&first, "while :; do :; done");
	CHECK(open_one(is_v1, name, &second));
	CHECK_CONTAINS(second.path, "-2");
	CHECK_EQ(hf_cgroup_is_empty(&second), 1);

	CHECK_EQ(hf_cgroup_find(first.path, &found, NULL), 0);
	CHECK_EQ(hf_cgroup_freeze(&found, true), 0);
	await_frozen(&first, true);
	CHECK_EQ(hf_cgroup_is_frozen(&second), 0);
	CHECK_EQ(hf_cgroup_kill(&found), 0);
	reap(&p);
	await_empty(&first);
	hf_cgroup_close(&second, true);

	/* The one that is left over is frozen, and open here. */
	CHECK(open_one(is_v1, name, &second));
	CHECK_STR(second.path, found.path);
	CHECK_EQ(hf_cgroup_is_frozen(&second), 0);
	CHECK(hf_cgroup_is_frozen(&found) < 0);
	hf_cgroup_close(&found, true);
	hf_cgroup_close(&first, true);
	CHECK_EQ(hf_cgroup_is_empty(&second), 1);
	hf_cgroup_close(&second, true);
}

TEST(names_v2)
{
	names(false);
}

TEST(names_v1)
{
	names(true);
}

TEST(a_child_that_cannot_be_placed_is_none)
{
	const char *const argv[] = { "true", NULL };
	struct hf_process_spec spec = { .argv = argv, .has_cgroup = true };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_cgroup c = HF_CGROUP_NONE;
	struct hf_err err = { "" };
	char name[64];

	own_name(name, sizeof(name), "r");
	if (hf_cgroup_open(name, &c, &err) < 0) {
		printf("# %s\n", err.text);
		return;
	}
	spec.cgroup_procs_fd = hf_cgroup_procs_fd(&c);
	CHECK_EQ(rmdir(c.path), 0);
	CHECK_EQ(hf_process_spawn(&spec, &p, &err), -ENODEV);
	CHECK_CONTAINS(err.text, "cannot be put into its cgroup");
	CHECK_EQ(p.pid, -1);
	hf_cgroup_close(&c, true);
}

TEST(what_is_no_cgroup)
{
	struct hf_cgroup c = HF_CGROUP_NONE;
	struct hf_err err = { "" };

	CHECK_EQ(hf_cgroup_find("/nonexistent", &c, &err), -ENOENT);
	CHECK_EQ(hf_cgroup_find("/tmp", &c, &err), -ENOTSUP);
	CHECK_CONTAINS(err.text, "/tmp cannot be used: it cannot be frozen");
	CHECK_EQ(c.dir_fd, -1);
	hf_cgroup_close(&c, true);
}

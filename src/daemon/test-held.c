/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Held leases with real processes; a connection is only an address here. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "daemon/held.h"

#define PATIENCE_NS 60000000000ull

static struct hf_loop loop;
static struct hf_held_table table;
static unsigned int n_ended;
static char ended_vm[64];
static int conn_a, conn_b;
#define CONN(c) ((struct hf_varlink_conn *)(void *)&(c))

static void on_ended(void *ctx __attribute__((unused)), struct hf_held *h)
{
	n_ended++;
	(void)snprintf(ended_vm, sizeof(ended_vm), "%s", h->vm);
	hf_held_remove(h);
}

static void start(void)
{
	n_ended = 0;
	ended_vm[0] = '\0';
	CHECK_EQ(hf_loop_init(&loop), 0);
	hf_held_table_init(&table, &loop, on_ended, NULL);
}

static void stop(void)
{
	hf_held_table_fini(&table);
	CHECK_EQ(loop.n_watches, 0);
	hf_loop_fini(&loop);
}

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			(void)pause();
	CHECK(pid > 0);
	return pid;
}

static void reap(pid_t pid)
{
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

/* True: an orphan has ended within @ns. */
static bool ends_within(uint64_t ns)
{
	uint64_t until = hf_now_ns() + ns;

	while (n_ended == 0 && hf_now_ns() < until)
		(void)sd_event_run(loop.event, 10000);
	return n_ended > 0;
}

TEST(an_orphan_ends_with_its_last_process)
{
	struct hf_err err;
	pid_t pids[3] = { child(), child(), child() };
	struct hf_held *h;

	start();
	h = hf_held_add(&table, "web", CONN(conn_a), pids[0]);
	CHECK(h && hf_held_find(&table, "web") == h);
	CHECK(!hf_held_find(&table, "db"));
	CHECK_EQ(hf_held_set_pids(h, pids + 1, 2, &err), 0);
	CHECK_EQ(hf_held_alive(h), 3);
	reap(pids[2]);
	reap(pids[0]);
	CHECK(!ends_within(200000000));
	CHECK_EQ(hf_held_alive(h), 1);
	hf_held_orphan(h);
	CHECK(!ends_within(100000000));
	reap(pids[1]);
	CHECK(ends_within(PATIENCE_NS));
	CHECK_STR(ended_vm, "web");
	CHECK_EQ(table.count, 0);
	stop();
}

TEST(with_its_processes_dead_an_orphan_ends_at_once)
{
	pid_t pid = child();

	start();
	CHECK(hf_held_add(&table, "web", CONN(conn_a), pid));
	reap(pid);
	CHECK(!ends_within(100000000)); /* a connection holds it */
	hf_held_orphan(hf_held_find(&table, "web"));
	CHECK_EQ(n_ended, 1);
	stop();
}

TEST(a_holder_that_comes_back)
{
	struct hf_err err;
	pid_t old = child(), new = child();
	struct hf_held *h;

	start();
	h = hf_held_add(&table, "web", CONN(conn_a), old);
	hf_held_orphan(h);
	CHECK_EQ(n_ended, 0);
	hf_held_attach(h, CONN(conn_b), new);
	CHECK_EQ(hf_held_alive(h), 2);
	reap(old);
	CHECK(!ends_within(100000000));
	CHECK_EQ(hf_held_set_pids(h, NULL, 0, &err), 0);
	CHECK_EQ(hf_held_alive(h), 1); /* the holder itself always counts */
	hf_held_orphan(h);
	CHECK_EQ(n_ended, 0);
	reap(new);
	CHECK(ends_within(PATIENCE_NS));
	stop();
}

TEST(one_that_is_ending_is_left_alone)
{
	pid_t pid = child();
	struct hf_held *h;

	start();
	h = hf_held_add(&table, "web", CONN(conn_a), pid);
	h->is_ending = true;
	reap(pid);
	hf_held_orphan(h);
	CHECK(!ends_within(100000000));
	stop();
}

TEST(processes_that_cannot_be)
{
	struct hf_err err;
	pid_t many[HF_HELD_PIDS_MAX];
	pid_t gone = child();
	struct hf_held *h;

	start();
	h = hf_held_add(&table, "web", CONN(conn_a), getpid());
	CHECK_EQ(hf_held_set_pids(h, (pid_t[]){ 0 }, 1, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "0 is no process id");
	CHECK_EQ(hf_held_set_pids(h, (pid_t[]){ -5 }, 1, &err), -EINVAL);
	for (int i = 0; i < HF_HELD_PIDS_MAX; i++)
		many[i] = getpid();
	CHECK_EQ(hf_held_set_pids(h, many, HF_HELD_PIDS_MAX, &err), -E2BIG);
	CHECK_CONTAINS(err.text, "15 are the most");
	CHECK_EQ(hf_held_alive(h), 1);
	reap(gone);
	CHECK_EQ(hf_held_set_pids(h, &gone, 1, &err), 0);
	CHECK_EQ(hf_held_alive(h), 1);
	stop();
}

TEST(signals_reach_the_holder_or_all)
{
	struct hf_err err;
	pid_t holder = child(), other = child();
	struct hf_held *h;
	int status;

	start();
	h = hf_held_add(&table, "web", CONN(conn_a), holder);
	CHECK_EQ(hf_held_set_pids(h, &other, 1, &err), 0);
	hf_held_signal(h, SIGTERM, false);
	CHECK_EQ(waitpid(holder, &status, 0), holder);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	CHECK_EQ(waitpid(other, &status, WNOHANG), 0);
	hf_held_signal(h, SIGKILL, true);
	CHECK_EQ(waitpid(other, &status, 0), other);
	stop();
}

TEST(there_is_a_limit)
{
	char name[16];

	start();
	for (int i = 0; i < HF_HELD_MAX; i++) {
		(void)snprintf(name, sizeof(name), "vm%d", i);
		CHECK(hf_held_add(&table, name, CONN(conn_a), 0));
	}
	CHECK(!hf_held_add(&table, "one-more", CONN(conn_a), 0));
	hf_held_remove(hf_held_find(&table, "vm7"));
	CHECK(!hf_held_find(&table, "vm7"));
	CHECK(hf_held_find(&table, "vm8"));
	CHECK(hf_held_add(&table, "one-more", CONN(conn_a), 0));
	stop();
}

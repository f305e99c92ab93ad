/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "daemon/heldfile.h"

static struct hf_loop loop;
static struct hf_held_table table;
static char folder[] = "/tmp/test-heldfile-XXXXXX";

static void on_ended(void *ctx __attribute__((unused)), struct hf_held *h)
{
	hf_held_remove(h);
}

static void clean(void)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/" HF_HELDFILE_NAME, folder);
	(void)unlink(path);
	(void)rmdir(folder);
}

static void start(void)
{
	static bool is_made;

	if (!is_made) {
		CHECK(mkdtemp(folder));
		CHECK_EQ(atexit(clean), 0);
	}
	is_made = true;
	CHECK_EQ(hf_loop_init(&loop), 0);
	hf_held_table_init(&table, &loop, on_ended, NULL);
}

static void stop(void)
{
	hf_held_table_fini(&table);
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

static int parse(const char *text, struct hf_err *err)
{
	char copy[512];

	(void)snprintf(copy, sizeof(copy), "%s", text);
	return hf_heldfile_parse(&table, copy, err);
}

TEST(what_was_held_is_found_again)
{
	struct hf_err err;
	pid_t lives = child(), dies = child();
	struct hf_held *h;

	start();
	h = hf_held_add(&table, "web", (struct hf_varlink_conn *)&loop, lives);
	h->lver = 7;
	h->generation = 3;
	h->tenure = 2;
	h->is_pledged = true;
	CHECK_EQ(hf_held_set_pids(h, &dies, 1, &err), 0);
	CHECK(hf_held_add(&table, "db", NULL, 0));
	CHECK_EQ(hf_heldfile_save(&table, folder), 0);
	hf_held_table_fini(&table);
	reap(dies);
	CHECK_EQ(hf_heldfile_load(&table, folder, &err), 0);
	CHECK_EQ(table.count, 2);
	h = hf_held_find(&table, "web");
	CHECK(h && !h->conn && h->is_pledged && h->is_unverified);
	CHECK_EQ(h->lver, 7);
	CHECK_EQ(h->generation, 3);
	CHECK_EQ(h->tenure, 2);
	CHECK_EQ(h->holder, lives);
	CHECK_EQ(hf_held_alive(h), 1);
	CHECK_EQ(hf_held_alive(hf_held_find(&table, "db")), 0);
	reap(lives);
	stop();
}

/* The same id, but not the process that was meant. */
TEST(another_process_of_that_id_is_not_waited_for)
{
	struct hf_err err;
	char text[128];

	start();
	(void)snprintf(text, sizeof(text), "holdfastd-held 1\nweb 1 1 1 0 %d %d:1\n", getpid(),
		       getpid());
	CHECK_EQ(parse(text, &err), 0);
	CHECK_EQ(hf_held_alive(hf_held_find(&table, "web")), 0);
	stop();
}

TEST(without_a_file_nothing_was_held)
{
	struct hf_err err;

	start();
	CHECK_EQ(hf_heldfile_load(&table, "/nonexistent", &err), 0);
	CHECK_EQ(parse("holdfastd-held 1\n", &err), 0);
	CHECK_EQ(table.count, 0);
	stop();
}

TEST(damage_is_seen_and_adds_nothing)
{
	static const char *const texts[] = {
		"",
		"holdfastd-held 2\n",
		"holdfastd-held 1\nweb 1 1 1 0 1",
		"holdfastd-held 1\nweb 1 1 1 0\n",
		"holdfastd-held 1\nweb 1 1 1 2 1\n",
		"holdfastd-held 1\nweb 1 1 1 0 1 5\n",
		"holdfastd-held 1\nweb 1 1 1 0 1 0:5\n",
		"holdfastd-held 1\nweb 1 1 1 0 1 -1:5\n",
		"holdfastd-held 1\nweb 1 1 99999999999999999999 0 1\n",
		"holdfastd-held 1\n.web 1 1 1 0 1\n",
		"holdfastd-held 1\nok 1 1 1 0 1\n\n",
		"holdfastd-held 1\nok 1 1 1 0 1\nok 1 1 1 0 1\n",
		"holdfastd-held 1\nok 1 1 1 0 1 1:1 1:1 1:1 1:1 x\n",
	};
	struct hf_err err;

	start();
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		CHECK_EQ(parse(texts[i], &err), -EBADMSG);
		CHECK_CONTAINS(err.text, "is damaged");
		CHECK_EQ(table.count, 0);
	}
	stop();
}

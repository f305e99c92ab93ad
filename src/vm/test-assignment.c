/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "vm/assignment.h"

#define BOOT "3f0f7c2e-0000-0000-0000-00000000000a"
#define MEMBERS                                                                                    \
	"\"manager\":\"pacemaker\",\"resource\":\"vm1\",\"instance\":\"vm1:0\",\"node\":\"a\","    \
	"\"promotable\":true,\"time_ns\":7"

static const struct hf_assignment example = {
	.place = HF_ASSIGNED_STANDBY,
	.manager = "pacemaker",
	.resource = "vm1",
	.instance = "vm1:0",
	.node = "node-a",
	.is_promotable = true,
	.time_ns = 1700000000123456789,
};

struct folder {
	char path[32];
	char below[64]; /* does not exist yet */
};

static void make_folder(struct folder *f)
{
	(void)snprintf(f->path, sizeof(f->path), "/tmp/test-assigned-XXXXXX");
	CHECK(mkdtemp(f->path));
	(void)snprintf(f->below, sizeof(f->below), "%s/run", f->path);
}

static void remove_folder(const struct folder *f)
{
	static const char *const names[] = { "run/.assigned/web", "run/.assigned/.lock.web",
					     "run/.assigned", "run" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->path, names[i]);
		(void)remove(path);
	}
	CHECK_EQ(rmdir(f->path), 0); /* nothing else was left there */
}

static void put(const struct folder *f, const char *text)
{
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/.assigned/web", f->below);
	file = fopen(path, "w");
	CHECK(file);
	CHECK(fputs(text, file) >= 0);
	CHECK_EQ(fclose(file), 0);
}

TEST(what_was_written_is_read)
{
	struct hf_assignment a = { .place = HF_ASSIGNED_RUN };
	struct folder f;
	struct hf_err err;

	make_folder(&f);
	CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), -ENOENT);
	CHECK_EQ(a.place, HF_ASSIGNED_RUN); /* untouched */
	CHECK_EQ(hf_assignment_write(f.below, "web", &example, &err), 0);
	CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), 0);
	CHECK_EQ(a.place, HF_ASSIGNED_STANDBY);
	CHECK_STR(a.manager, "pacemaker");
	CHECK_STR(a.resource, "vm1");
	CHECK_STR(a.instance, "vm1:0");
	CHECK_STR(a.node, "node-a");
	CHECK(a.is_promotable);
	CHECK_EQ(a.time_ns, example.time_ns);
	remove_folder(&f);
}

TEST(what_is_written_last_counts)
{
	struct hf_assignment a = example;
	struct folder f;
	struct hf_err err;
	struct stat st;
	char path[128];

	make_folder(&f);
	CHECK_EQ(hf_assignment_write(f.below, "web", &example, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/.assigned", f.below);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0700);
	a.place = HF_ASSIGNED_NONE;
	a.is_promotable = false;
	CHECK_EQ(hf_assignment_write(f.below, "web", &a, &err), 0);
	a = example;
	CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), 0);
	CHECK_EQ(a.place, HF_ASSIGNED_NONE);
	CHECK(!a.is_promotable);
	CHECK_EQ(hf_assignment_read(f.below, "db", &a, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "/.assigned/db: ");
	remove_folder(&f);
}

TEST(the_longest_names_fit_and_longer_ones_are_refused)
{
	struct hf_assignment a = example, got;
	char text[1024], name[HF_ASSIGNMENT_TEXT_MAX + 2];
	struct folder f;
	struct hf_err err;

	make_folder(&f);
	memset(a.resource, '"', HF_ASSIGNMENT_TEXT_MAX); /* two bytes each in JSON */
	memset(a.instance, '\\', HF_ASSIGNMENT_TEXT_MAX);
	memset(a.node, '/', HF_ASSIGNMENT_TEXT_MAX);
	CHECK_EQ(hf_assignment_write(f.below, "web", &a, &err), 0);
	CHECK_EQ(hf_assignment_read(f.below, "web", &got, &err), 0);
	CHECK(strcmp(got.resource, a.resource) == 0 && strcmp(got.instance, a.instance) == 0 &&
	      strcmp(got.node, a.node) == 0);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	(void)snprintf(text, sizeof(text),
		       "{\"place\":\"run\",\"boot_id\":\"" BOOT "\",\"manager\":\"pacemaker\","
		       "\"resource\":\"%s\",\"instance\":\"\",\"node\":\"\",\"promotable\":false,"
		       "\"time_ns\":1}",
		       name);
	CHECK_EQ(hf_assignment_parse(text, strlen(text), BOOT, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "\"resource\" has more than 255 bytes");
	remove_folder(&f);
}

TEST(what_an_earlier_boot_was_told_is_forgotten)
{
	static const char text[] = "{\"place\":\"run\",\"boot_id\":\"" BOOT "\"," MEMBERS "}";
	struct hf_assignment a = { .place = HF_ASSIGNED_NONE };
	struct folder f;
	struct hf_err err;

	CHECK_EQ(hf_assignment_parse(text, sizeof(text) - 1, BOOT, &a, &err), 0);
	CHECK_EQ(a.place, HF_ASSIGNED_RUN);
	a.place = HF_ASSIGNED_NONE;
	CHECK_EQ(hf_assignment_parse(text, sizeof(text) - 1, "another", &a, &err), -ENOENT);
	CHECK_EQ(a.place, HF_ASSIGNED_NONE);
	make_folder(&f);
	CHECK_EQ(hf_assignment_write(f.below, "web", &example, &err), 0);
	put(&f, text);
	CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "before this host was booted");
	remove_folder(&f);
}

TEST(what_is_damaged_is_refused_with_what_is_wrong)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "" },
		{ "[]", "\"place\"" },
		{ "{\"place\":\"run\"", "" },
		{ "{\"place\":\"sideways\",\"boot_id\":\"" BOOT "\"," MEMBERS "}",
		  "'sideways', not none, standby or run" },
		{ "{\"place\":\"run\"," MEMBERS "}", "\"boot_id\"" },
		{ "{\"place\":\"run\",\"boot_id\":\"" BOOT "\",\"manager\":\"pacemaker\"}",
		  "\"resource\"" },
		{ "{\"place\":\"run\",\"place\":\"none\",\"boot_id\":\"" BOOT "\"," MEMBERS "}",
		  "" },
		{ "{\"place\":\"run\",\"boot_id\":\"" BOOT "\",\"manager\":\"a\\nb\"," MEMBERS "}",
		  "" },
		{ "{\"place\":\"run\",\"boot_id\":\"" BOOT
		  "\",\"manager\":\"a manager's long name\"}",
		  "\"manager\" has more than 15 bytes" },
		{ "{\"place\":\"run\",\"boot_id\":\"" BOOT "\",\"manager\":\"a\",\"resource\":"
		  "\"a\\u0007\"}",
		  "\"resource\" has a control character" },
	};
	struct hf_assignment a;
	struct folder f;
	struct hf_err err;

	make_folder(&f);
	CHECK_EQ(hf_assignment_write(f.below, "web", &example, &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		put(&f, bad[i].text);
		CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, "/.assigned/web: ");
		CHECK_CONTAINS(err.text, bad[i].says);
	}
	remove_folder(&f);
}

TEST(a_file_without_end_is_damaged)
{
	char text[HF_ASSIGNMENT_FILE_MAX + 2];
	struct hf_assignment a;
	struct folder f;
	struct hf_err err;

	memset(text, ' ', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	make_folder(&f);
	CHECK_EQ(hf_assignment_write(f.below, "web", &example, &err), 0);
	put(&f, text);
	CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "more than 4096 bytes");
	remove_folder(&f);
}

TEST(a_link_is_not_followed)
{
	struct hf_assignment a;
	struct folder f;
	struct hf_err err;
	char path[128];

	make_folder(&f);
	CHECK_EQ(hf_assignment_write(f.below, "web", &example, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/.assigned/web", f.below);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(symlink("/etc/passwd", path), 0);
	CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), -ELOOP);
	CHECK_EQ(hf_assignment_write(f.below, "web", &example, &err), 0); /* it is replaced */
	CHECK_EQ(hf_assignment_read(f.below, "web", &a, &err), 0);
	remove_folder(&f);
}

TEST(a_name_that_leads_elsewhere_is_refused)
{
	static const char *const names[] = { "", "../web", ".lock.web", "a/b" };
	struct hf_assignment a = example;
	struct hf_err err;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		CHECK_EQ(hf_assignment_read("/tmp", names[i], &a, &err), -EINVAL);
		CHECK_EQ(hf_assignment_write("/tmp", names[i], &a, &err), -EINVAL);
		CHECK_EQ(hf_assignment_lock("/tmp", names[i], 0, &err), -EINVAL);
		CHECK_CONTAINS(err.text, "is no name of a VM");
	}
}

TEST(the_lock_is_held_by_one)
{
	struct folder f;
	struct hf_err err;
	int first, second, other;

	make_folder(&f);
	first = hf_assignment_lock(f.below, "web", 0, &err);
	CHECK(first >= 0);
	CHECK_EQ(hf_assignment_lock(f.below, "web", 0, &err), -ETIMEDOUT);
	CHECK_EQ(hf_assignment_lock(f.below, "web", 20, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.text, ".lock.web: held by another process");
	other = hf_assignment_lock(f.below, "db", 0, &err); /* of another VM */
	CHECK(other >= 0);
	CHECK_EQ(close(other), 0);
	CHECK_EQ(close(first), 0);
	second = hf_assignment_lock(f.below, "web", 0, &err);
	CHECK(second >= 0);
	CHECK_EQ(fcntl(second, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	CHECK_EQ(close(second), 0);
	{
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/.assigned/.lock.db", f.below);
		CHECK_EQ(unlink(path), 0);
	}
	remove_folder(&f);
}

/* Whoever dies with the lock lets go of it; who waits gets it then. */
TEST(the_lock_of_one_that_dies_is_taken_by_who_waits)
{
	int to_child[2], from_child[2], fd, status;
	struct folder f;
	struct hf_err err;
	char c = 0;
	pid_t pid;

	make_folder(&f);
	CHECK_EQ(pipe(to_child), 0);
	CHECK_EQ(pipe(from_child), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		fd = hf_assignment_lock(f.below, "web", 0, &err);
		c = fd >= 0 ? 'l' : 'e';
		if (write(from_child[1], &c, 1) != 1 || read(to_child[0], &c, 1) != 1)
			_exit(1);
		(void)usleep(50000);
		_exit(0); /* without a close */
	}
	CHECK_EQ(read(from_child[0], &c, 1), 1);
	CHECK_EQ(c, 'l');
	CHECK_EQ(hf_assignment_lock(f.below, "web", 0, &err), -ETIMEDOUT);
	CHECK_EQ(write(to_child[1], &c, 1), 1);
	fd = hf_assignment_lock(f.below, "web", 60000, &err);
	CHECK(fd >= 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	for (int i = 0; i < 2; i++)
		CHECK(close(to_child[i]) == 0 && close(from_child[i]) == 0);
	remove_folder(&f);
}

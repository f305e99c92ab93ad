/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store of frozen instances; who holds what of one is test-frozen-verify.c's. */
#include "vm/test-frozen.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "codec/words.h"
#include "sys/fd.h"
#include "sys/memfd.h"
#include "sys/memholder.h"
#include "vm/offload.h"

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	CHECK(f);
	CHECK(fputs(text, f) >= 0);
	CHECK_EQ(fclose(f), 0);
}

TEST(latch_then_proof)
{
	struct hf_frozen f, *list = NULL;
	struct hf_certificate c;
	struct stat st;
	size_t n = 77;

	make_state_dir();
	CHECK_EQ(hf_frozen_list(state_dir, "web", &list, &n, NULL), 0);
	CHECK_EQ(n, 0);
	CHECK(!list);
	fill(&c, "web", 0xabc, false);
	write_one(&c);
	CHECK_EQ(stat(path_in("web/frozen/00000abc"), &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0700);
	CHECK_EQ(stat(path_in("web/frozen/00000abc/certificate.json"), &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, NULL), 0);
	CHECK(f.is_readable);
	CHECK(!f.certificate.is_certified);
	hf_frozen_fini(&f);

	CHECK_EQ(hf_frozen_write_state(state_dir, "web", "00000abc", (const uint8_t *)"QEVM", 4,
				       NULL),
		 0);
	fill(&c, "web", 0xabc, true);
	c.device_state = HF_REMAINS_FILE;
	c.device_state_bytes = 4;
	write_one(&c);
	CHECK_EQ(hf_frozen_list(state_dir, "web", &list, &n, NULL), 0);
	CHECK_EQ(n, 1);
	CHECK(list[0].certificate.is_certified);
	CHECK_STR(list[0].certificate.argv[0], arg0);
	CHECK_EQ(stat(path_in("web/frozen/00000abc/device-state"), &st), 0);
	CHECK_EQ(st.st_size, 4);
	CHECK(hf_frozen_used_bytes(&list[0]) > 0);
	hf_frozen_free(list, n);
}

static void limit_file_size(rlim_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	(void)signal(SIGXFSZ, SIG_IGN);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int count_files(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	int n = 0;

	CHECK(dir);
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.';
	(void)closedir(dir);
	return n;
}

/* A file that may not grow stands for a full disk: what was there stays, and nothing half written does. */
TEST(no_room)
{
	static uint8_t state[8192];
	struct hf_certificate c;
	struct hf_err err = { "" };
	struct hf_frozen f;

	make_state_dir();
	limit_file_size(16);
	fill(&c, "web", 1, false);
	CHECK_EQ(hf_frozen_write(state_dir, &c, &err), -EFBIG);
	CHECK_CONTAINS(err.text, "cannot write");
	CHECK_EQ(access(path_in("web/frozen/.new-00000001"), F_OK), -1);
	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, NULL), -ENOENT);
	limit_file_size(RLIM_INFINITY);
	write_one(&c);
	limit_file_size(4096);
	CHECK_EQ(hf_frozen_write_state(state_dir, "web", "00000001", state, sizeof(state), &err),
		 -EFBIG);
	CHECK_EQ(count_files(path_in("web/frozen/00000001")), 1);
	limit_file_size(16);
	fill(&c, "web", 1, true);
	CHECK_EQ(hf_frozen_write(state_dir, &c, &err), -EFBIG);
	CHECK_EQ(count_files(path_in("web/frozen/00000001")), 1);
	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, NULL), 0);
	CHECK(f.is_readable && !f.certificate.is_certified); /* still the latch */
	hf_frozen_fini(&f);
	limit_file_size(RLIM_INFINITY);
	CHECK_EQ(hf_frozen_write_state(state_dir, "web", "00000001", state, sizeof(state), &err),
		 0);
	write_file(path_in("web/frozen/00000001/device-state.new-7"), "x");
	CHECK_EQ(hf_frozen_drop_state(state_dir, "web", "00000001", &err), 0);
	CHECK_EQ(count_files(path_in("web/frozen/00000001")), 1);
	CHECK_EQ(hf_frozen_drop_state(state_dir, "web", "00000001", &err), 0);
}

TEST(names_of_instances)
{
	struct hf_err err = { "" };
	struct hf_certificate c;
	struct hf_frozen f;
	char **vms = NULL;

	make_state_dir();
	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "there is no frozen instance 'web' on this host");
	fill(&c, "web", 0x12345678, true);
	write_one(&c);
	fill(&c, "web", 0x12abcdef, true);
	write_one(&c);
	fill(&c, "db.1", 1, true);
	write_one(&c);
	CHECK_EQ(hf_frozen_find(state_dir, "web", "", &f, &err), -EEXIST);
	CHECK_CONTAINS(err.text, "'web' has 2 frozen instances, say which: ");
	CHECK_CONTAINS(err.text, "web@12345678");
	CHECK_CONTAINS(err.text, "web@12abcdef");
	CHECK_EQ(hf_frozen_find(state_dir, "web", "12", &f, &err), -EEXIST);
	CHECK_EQ(hf_frozen_find(state_dir, "web", "13", &f, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "'web@13'");
	CHECK_EQ(hf_frozen_find(state_dir, "web", "12a", &f, &err), 0);
	CHECK_STR(f.id, "12abcdef");
	hf_frozen_fini(&f);
	CHECK_EQ(hf_frozen_find(state_dir, "../x", "", &f, &err), -EINVAL);
	CHECK_EQ(hf_frozen_find(state_dir, "web", "../../../x", &f, &err), -ENOENT);

	CHECK_EQ(mkdir(path_in("running"), 0700), 0);
	CHECK_EQ(hf_frozen_vms(state_dir, &vms, NULL), 0);
	CHECK_EQ(hf_words_count(vms), 2);
	CHECK(strcmp(vms[0], "web") == 0 || strcmp(vms[1], "web") == 0);
	hf_words_free(vms);
	CHECK_EQ(hf_frozen_vms("/nonexistent", &vms, NULL), 0);
	CHECK_EQ(hf_words_count(vms), 0);
	hf_words_free(vms);
}

/* What cannot be read counts, whatever is wrong with it; a crash in the making leaves nothing. */
TEST(damaged_and_half_made)
{
	static const char *const texts[] = { "", "{", "{}" };
	struct hf_frozen *list = NULL;
	struct hf_certificate c;
	char path[PATH_MAX];
	size_t n = 0;

	make_state_dir();
	fill(&c, "web", 1, true);
	write_one(&c);
	CHECK_EQ(mkdir(path_in("web/frozen/.new-00000002"), 0700), 0);
	CHECK_EQ(mkdir(path_in("web/frozen/.old-00000003"), 0700), 0);
	CHECK_EQ(mkdir(path_in("web/frozen/notes"), 0700), 0);
	CHECK_EQ(mkdir(path_in("web/frozen/0000000a"), 0700), 0);
	memcpy(path, path_in("web/frozen/00000001/certificate.json"), sizeof(path));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_file(path, texts[i]);
		CHECK_EQ(hf_frozen_list(state_dir, "web", &list, &n, NULL), 0);
		CHECK_EQ(n, 2);
		CHECK(!list[0].is_readable && !list[1].is_readable);
		CHECK_CONTAINS(list[0].trouble, "certificate.json: ");
		CHECK_CONTAINS(list[1].trouble, "certificate.json: ");
		hf_frozen_free(list, n);
	}
	/* Another instance's certificate is none for this one. */
	fill(&c, "web", 0xb, true);
	write_one(&c);
	CHECK_EQ(rename(path_in("web/frozen/0000000b/certificate.json"), path), 0);
	CHECK_EQ(hf_frozen_list(state_dir, "web", &list, &n, NULL), 0);
	CHECK_EQ(n, 3);
	for (size_t i = 0; i < n; i++)
		CHECK(!list[i].is_readable);
	hf_frozen_free(list, n);
	CHECK_EQ(access(path_in("web/frozen/.old-00000003"), F_OK), -1); /* cleared by the write */
	CHECK_EQ(access(path_in("web/frozen/.new-00000002"), F_OK), 0); /* may be at work */
}

TEST(removed)
{
	struct hf_certificate c;
	struct hf_frozen f;

	make_state_dir();
	fill(&c, "web", 5, true);
	c.keeper = hf_process_id_of(getpid());
	write_one(&c);
	write_file(path_in("web/frozen/00000005/ram"), "x");
	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, NULL), 0);
	CHECK_EQ(hf_frozen_release(&f, NULL), 0);
	CHECK_EQ(access(path_in("web/frozen/00000005"), F_OK), -1);
	CHECK_EQ(hf_frozen_remove(&f, NULL), -ENOENT);
	hf_frozen_fini(&f);
	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, NULL), -ENOENT);
}

TEST(too_many_and_too_long)
{
	struct hf_frozen *list;
	struct hf_certificate c;
	struct hf_err err = { "" };
	static char name[sizeof(state_dir) + 40];
	size_t n;

	make_state_dir();
	CHECK_EQ(mkdir(path_in("web"), 0700), 0);
	CHECK_EQ(mkdir(path_in("web/frozen"), 0700), 0);
	for (unsigned int i = 0; i <= HF_FROZEN_MAX; i++)
		CHECK_EQ(mkdir(path_in("web/frozen/%08x", i), 0700), 0);
	CHECK_EQ(hf_frozen_list(state_dir, "web", &list, &n, &err), -E2BIG);
	CHECK_CONTAINS(err.text, "more than 64 frozen instances");
	fill(&c, "a/b", 1, true);
	CHECK_EQ(hf_frozen_write(state_dir, &c, &err), -EINVAL);
	fill(&c, "web", 1, true);
	memcpy(c.id, "../../..", 9);
	CHECK_EQ(hf_frozen_write(state_dir, &c, &err), -EINVAL);
	(void)snprintf(name, sizeof(name), "%s/none/none", state_dir);
	fill(&c, "web", 1, true);
	CHECK_EQ(hf_frozen_write(name, &c, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "cannot make the folder");
}

/* @space_bytes 0: none. Which of 1..5 go, as a string of their numbers. */
static const char *retired(unsigned int keep, uint64_t space_bytes)
{
	static char text[16];
	bool is_over[HF_FROZEN_MAX];
	struct hf_frozen *list;
	size_t n, used = 0, told;

	CHECK_EQ(hf_frozen_list(state_dir, "web", &list, &n, NULL), 0);
	told = hf_frozen_retire(list, n, keep, space_bytes, is_over);
	for (size_t i = 0; i < n; i++)
		if (is_over[i])
			text[used++] = list[i].id[HF_CERTIFICATE_ID - 1];
	text[used] = '\0';
	CHECK_EQ(used, told);
	hf_frozen_free(list, n);
	return text;
}

TEST(retired_the_oldest_first)
{
	static char data[512 << 10];
	struct hf_certificate c;

	make_state_dir();
	for (unsigned int i = 5; i >= 1; i--) {
		fill(&c, "web", i, i != 2);
		write_one(&c);
	}
	CHECK_STR(retired(5, 0), "");
	CHECK_STR(retired(0, 0), "");
	CHECK_STR(retired(3, 0), "13"); /* 2 is not certified */
	CHECK_STR(retired(1, 0), "134");
	memset(data, 'x', sizeof(data) - 1);
	write_file(path_in("web/frozen/00000003/ram"), data);
	CHECK_STR(retired(5, 10 << 20), "");
	CHECK_STR(retired(5, 256 << 10), "13"); /* that is enough */
	CHECK_STR(retired(5, 1), "134"); /* the newest stays */
}

/* ---- memory ---- */

static pid_t holder;

static void end_holder(void)
{
	if (holder > 0)
		(void)kill(holder, SIGTERM);
}

/* A certificate of memory that a holder has, with a mark in it. */
static void hold(struct hf_certificate *c)
{
	struct hf_ram ram = HF_RAM_NONE;
	struct hf_err err = { "" };

	fill(c, "web", 7, true);
	CHECK_EQ(hf_ram_open("web", HF_RAM_PAGES_DEFAULT, 4 << 20, &ram, NULL), 0);
	memcpy(ram.base + 4096, "mark", 4);
	if (hf_memholder_start(ram.fd, "web", &holder, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	CHECK_EQ(atexit(end_holder), 0);
	hf_ram_close(&ram);
	c->ram = HF_REMAINS_PROCESS;
	c->ram_holder = hf_process_id_of(holder);
	CHECK_EQ(c->ram_holder.pid, holder);
	c->ram_fd = HF_MEMHOLDER_FD;
	c->ram_bytes = 4 << 20;
}

static int open_ram(int *fd, struct hf_err *err)
{
	struct hf_frozen f;
	int r;

	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, NULL), 0);
	r = hf_frozen_open_ram(&f, fd, err);
	hf_frozen_fini(&f);
	return r;
}

static void check_mark(void)
{
	struct hf_err err = { "" };
	char mark[5] = "";
	int fd = -1;

	if (open_ram(&fd, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	CHECK_EQ(pread(fd, mark, 4, 4096), 4);
	CHECK_STR(mark, "mark");
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	hf_fd_close(&fd);
}

static void await_end(struct hf_process_id p)
{
	for (int left = 2000; hf_process_id_is_alive(&p); left--) {
		CHECK(left > 0);
		(void)usleep(10000);
	}
}

static bool count_calls(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	CHECK(done_bytes <= total_bytes);
	return ++*(int *)ctx < 100;
}

static bool call_off(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	(void)ctx;
	(void)done_bytes;
	(void)total_bytes;
	return false;
}

TEST(memory_in_a_process_then_in_a_file)
{
	struct hf_certificate c;
	struct hf_err err = { "" };
	struct hf_process_id was;
	int calls = 0;

	make_state_dir();
	hold(&c);
	was = c.ram_holder;
	write_one(&c);
	check_mark();

	CHECK_EQ(hf_offload(state_dir, &c, 1, NULL, NULL, &err), -ENOSPC);
	CHECK_CONTAINS(err.text, "frozen-space");
	CHECK_EQ(hf_offload(state_dir, &c, 0, call_off, NULL, &err), -ECANCELED);
	CHECK_EQ(c.ram, HF_REMAINS_PROCESS);
	CHECK(hf_process_id_is_alive(&was));
	CHECK_EQ(access(path_in("web/frozen/00000007/ram"), F_OK), -1);
	CHECK_EQ(access(path_in("web/frozen/00000007/ram.new"), F_OK), -1);

	if (hf_offload(state_dir, &c, 64 << 20, count_calls, &calls, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	CHECK(calls >= 1);
	CHECK_EQ(c.ram, HF_REMAINS_FILE);
	await_end(was);
	holder = 0;
	check_mark();
	CHECK_EQ(hf_offload(state_dir, &c, 1, NULL, NULL, &err), 0); /* it is there already */
	CHECK_EQ(truncate(path_in("web/frozen/00000007/ram"), 4096), 0);
	CHECK_EQ(open_ram(&calls, &err), -ENODATA);
	CHECK_CONTAINS(err.text, "another size");
}

TEST(memory_that_is_lost)
{
	struct hf_certificate c, other;
	struct hf_err err = { "" };
	int fd = -1;

	make_state_dir();
	hold(&c);
	other = c;
	other.ram_holder.start_ticks++; /* another process with its number */
	write_one(&other);
	CHECK_EQ(open_ram(&fd, &err), -ENODATA);
	CHECK_CONTAINS(err.text, "the process that kept it has ended");
	other = c;
	other.ram_fd = 9;
	write_one(&other);
	CHECK_EQ(open_ram(&fd, &err), -ENODATA);
	other = c;
	other.boot_id[0] = other.boot_id[0] == '0' ? '1' : '0';
	write_one(&other);
	CHECK_EQ(open_ram(&fd, &err), -ENODATA);
	CHECK_CONTAINS(err.text, "the host has been started anew since");
	other = c;
	other.ram_bytes *= 2;
	write_one(&other);
	CHECK_EQ(open_ram(&fd, &err), -ENODATA);
	CHECK_CONTAINS(err.text, "another size");
	other.ram = HF_REMAINS_NONE;
	write_one(&other);
	CHECK_EQ(open_ram(&fd, &err), -ENODATA);
	CHECK_CONTAINS(err.text, "it was not kept");
	CHECK_EQ(fd, -1);
	write_one(&c);
	check_mark();
	CHECK_EQ(kill(holder, SIGKILL), 0);
	await_end(c.ram_holder);
	holder = 0;
	CHECK_EQ(open_ram(&fd, &err), -ENODATA);
}

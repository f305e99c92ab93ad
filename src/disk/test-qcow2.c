/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "disk/qcow2-internal.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static char folder[] = "/tmp/test-qcow2-XXXXXX";
static char path[64];

static void clean_up(void)
{
	(void)unlink(path);
	(void)rmdir(folder);
}

static const char *new_path(void)
{
	if (path[0] == '\0') {
		CHECK(mkdtemp(folder));
		CHECK_EQ(atexit(clean_up), 0);
		(void)snprintf(path, sizeof(path), "%s/image", folder);
	}
	(void)unlink(path);
	return path;
}

static void be64_put(uint8_t *p, uint64_t v)
{
	hf_be32_put(p, (uint32_t)(v >> 32));
	hf_be32_put(p + 4, (uint32_t)v);
}

/* A header of version 3 that makes sense. */
static void make(uint8_t *buf, uint64_t virtual_bytes, uint32_t cluster_bits)
{
	memset(buf, 0, 4096);
	hf_be32_put(buf, 0x514649fb);
	hf_be32_put(buf + 4, 3);
	hf_be32_put(buf + 20, cluster_bits);
	be64_put(buf + 24, virtual_bytes);
	hf_be32_put(buf + 96, 4);
	hf_be32_put(buf + 100, 112);
}

static void expect_refusal(const uint8_t *buf, size_t len, const char *text)
{
	struct hf_qcow2_info info = { .virtual_bytes = 99 };
	struct hf_err err = { "" };

	CHECK_EQ(hf_qcow2_parse(buf, len, &info, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, text);
	CHECK_EQ(info.virtual_bytes, 99);
}

static struct hf_qcow2_info parse(const uint8_t *buf, size_t len)
{
	struct hf_qcow2_info info;
	struct hf_err err = { "" };

	if (hf_qcow2_parse(buf, len, &info, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return info;
}

TEST(what_is_no_qcow2)
{
	static const uint8_t raw[4096];

	CHECK(!parse(raw, sizeof(raw)).is_qcow2);
	CHECK(!parse(raw, 0).is_qcow2);
	CHECK(!parse((const uint8_t *)"QFI", 3).is_qcow2);
}

TEST(room_is_enough_and_not_absurd)
{
	uint8_t buf[4096];
	struct hf_qcow2_info info;

	for (uint32_t bits = 9; bits <= 21; bits++)
		for (unsigned int order = 0; order <= 6; order++) {
			make(buf, GIB, bits);
			hf_be32_put(buf + 96, order);
			info = parse(buf, sizeof(buf));
			CHECK(info.is_qcow2);
			CHECK_EQ(info.virtual_bytes, GIB);
			CHECK_EQ(info.room_bytes % 65536, 0);
			CHECK(info.room_bytes >= 3 * GIB);
			CHECK(info.room_bytes < 4 * GIB);
		}
	make(buf, 0, 16);
	CHECK(parse(buf, sizeof(buf)).room_bytes >= GIB);
	/* The largest that 2 MiB clusters can map. */
	make(buf, (uint64_t)1 << 61, 21);
	CHECK(parse(buf, sizeof(buf)).room_bytes > (uint64_t)1 << 62);
}

TEST(headers_that_make_no_sense)
{
	uint8_t buf[4096];

	make(buf, GIB, 16);
	expect_refusal(buf, 71, "it ends at byte 71");
	expect_refusal(buf, 103, "it ends at byte 103");
	hf_be32_put(buf + 4, 4);
	expect_refusal(buf, sizeof(buf), "version 4");
	make(buf, GIB, 8);
	expect_refusal(buf, sizeof(buf), "power of 8");
	make(buf, GIB, 22);
	expect_refusal(buf, sizeof(buf), "power of 22");
	make(buf, GIB, 16);
	hf_be32_put(buf + 96, 7);
	expect_refusal(buf, sizeof(buf), "refcount order of 7");
	make(buf, GIB, 16);
	hf_be32_put(buf + 100, 96);
	expect_refusal(buf, sizeof(buf), "header length of 96");
	make(buf, GIB, 9);
	hf_be32_put(buf + 100, 520);
	expect_refusal(buf, sizeof(buf), "header length of 520");
	make(buf, UINT64_MAX, 21);
	expect_refusal(buf, sizeof(buf), "cannot map");
	make(buf, (uint64_t)1 << 50, 9);
	expect_refusal(buf, sizeof(buf), "cannot map");
}

TEST(backing_files)
{
	uint8_t buf[4096];
	struct hf_qcow2_info info;

	make(buf, GIB, 16);
	be64_put(buf + 8, 200);
	hf_be32_put(buf + 16, 4);
	memcpy(buf + 200, "base", 4);
	info = parse(buf, sizeof(buf));
	CHECK(info.has_backing_file);
	CHECK_STR(info.backing_file, "base");
	buf[202] = 0;
	expect_refusal(buf, sizeof(buf), "a NUL in its name");
	hf_be32_put(buf + 16, 0);
	expect_refusal(buf, sizeof(buf), "name has bytes: 0");
	hf_be32_put(buf + 16, 1024);
	expect_refusal(buf, sizeof(buf), "name has bytes: 1024");
	hf_be32_put(buf + 16, 1023);
	be64_put(buf + 8, 65536 - 1022);
	expect_refusal(buf, sizeof(buf), "stand at byte 64514");
	be64_put(buf + 8, 4096 - 1022);
	expect_refusal(buf, sizeof(buf), "stand at byte 3074");
	be64_put(buf + 8, UINT64_MAX);
	expect_refusal(buf, sizeof(buf), "stand at byte");
	be64_put(buf + 8, 4096 - 1023);
	memset(buf + 1024, 'x', sizeof(buf) - 1024);
	CHECK_EQ(strlen(parse(buf, sizeof(buf)).backing_file), 1023);
}

/* ---- what QEMU makes ---- */

static bool run(const char *const *argv)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		(void)dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 1);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	if (WEXITSTATUS(status) == 127) {
		printf("# skipped: no %s\n", argv[0]);
		return false;
	}
	CHECK_EQ(status, 0);
	return true;
}

static struct hf_qcow2_info probe(const char *location)
{
	struct hf_qcow2_info info;
	struct hf_err err = { "" };

	if (hf_qcow2_probe(location, &info, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return info;
}

/* Written full, with the smallest clusters and the largest counts, and once more with a snapshot:
 * it stays below. */
TEST(a_full_image_of_qemu_fits)
{
	const char *const create[] = { "qemu-img",
				       "create",
				       "-q",
				       "-f",
				       "qcow2",
				       "-o",
				       "cluster_size=512,refcount_bits=64",
				       new_path(),
				       "8M",
				       NULL };
	const char *const fill[] = { "qemu-io", "-c", "write -P 1 0 8M", path, NULL };
	const char *const snapshot[] = { "qemu-img", "snapshot", "-c", "one", path, NULL };
	struct hf_qcow2_info info;
	uint64_t worst;
	struct stat st;

	if (!run(create))
		return;
	info = probe(path);
	CHECK(info.is_qcow2 && !info.has_backing_file && !info.has_data_file);
	CHECK_EQ(info.virtual_bytes, 8 * MIB);
	worst = (info.room_bytes - GIB) / 2;
	if (!run(fill))
		return;
	CHECK_EQ(stat(path, &st), 0);
	CHECK((uint64_t)st.st_size > 8 * MIB);
	CHECK((uint64_t)st.st_size <=
	      worst + worst / 256); /* tables that it outgrew lie there still */
	CHECK(run(snapshot));
	CHECK(run(fill));
	CHECK_EQ(stat(path, &st), 0);
	CHECK((uint64_t)st.st_size <= info.room_bytes);
	CHECK_EQ(probe(path).room_bytes, info.room_bytes);
	CHECK_EQ(truncate(path, (off_t)(2 * GIB + 1)), 0);
	CHECK_EQ(probe(path).room_bytes, 2 * GIB + 65536);
}

TEST(kinds_of_images_of_qemu)
{
	char data[96];
	const char *const version_2[] = { "qemu-img", "create",      "-q",       "-f", "qcow2",
					  "-o",       "compat=0.10", new_path(), "1G", NULL };
	const char *const based[] = { "qemu-img", "create", "-q",  "-f", "qcow2",
				      "-u",       "-F",     "raw", "-b", "some where/base.img",
				      path,       "1G",     NULL };
	const char *const large_l2[] = {
		"qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=2M",
		path,       "8T",     NULL
	};
	char option[128];
	const char *const external[] = { "qemu-img", "create", "-q", "-f", "qcow2",
					 "-o",       option,   path, "1G", NULL };
	struct hf_qcow2_info info;

	if (!run(version_2))
		return;
	CHECK_EQ(probe(path).virtual_bytes, GIB);
	CHECK(run(based));
	info = probe(path);
	CHECK(info.has_backing_file);
	CHECK_STR(info.backing_file, "some where/base.img");
	CHECK(run(large_l2));
	CHECK_EQ(probe(path).virtual_bytes, 8192 * GIB);
	(void)snprintf(data, sizeof(data), "%s/data", folder);
	(void)snprintf(option, sizeof(option), "data_file=%s", data);
	CHECK(run(external));
	CHECK(probe(path).has_data_file);
	(void)unlink(data);
}

TEST(files_that_cannot_be_read)
{
	struct hf_qcow2_info info;
	struct hf_err err = { "" };

	CHECK_EQ(hf_qcow2_probe(new_path(), &info, &err), -ENOENT);
	CHECK_CONTAINS(err.text, path);
	CHECK_EQ(hf_qcow2_probe(folder, &info, &err), -EISDIR);
}

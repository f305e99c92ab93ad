/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files, block devices, and NBD exports served by nbdkit: as they should be, and as they fail. */
#include "lease/test-storage.h"

#include <errno.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "lease/store.h"

#define SIZE ((uint64_t)2 << 20)
#define AREA ((size_t)1 << 20)

static char file[96], sock[96], uri[160], trigger[96];

static void prepare(void)
{
	(void)storage_path(file, sizeof(file), "area");
	(void)storage_path(sock, sizeof(sock), "sock");
	(void)storage_path(trigger, sizeof(trigger), "trigger");
	(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
	storage_file(file, SIZE);
}

static struct hf_store *open_store(const char *path, uint32_t timeout_ms)
{
	struct hf_store_config config = { .path = path, .timeout_ms = timeout_ms };
	struct hf_err err = { "" };
	struct hf_store *s;

	if (hf_store_open(&config, &s, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return s;
}

static void expect_refusal(const char *path, int want, const char *text)
{
	struct hf_store_config config = { .path = path, .timeout_ms = 10000 };
	struct hf_err err = { "" };
	struct hf_store *s;

	CHECK_EQ(hf_store_open(&config, &s, &err), want);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, path);
}

static int try_write(struct hf_store *s, void *buf, int fill, size_t bytes, uint64_t offset)
{
	struct hf_err err = { "" };
	int r;

	memset(buf, fill, bytes);
	r = hf_store_write(s, buf, bytes, offset, &err);
	if (r != 0)
		CHECK_CONTAINS(err.text, "/");
	return r;
}

static int try_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset)
{
	struct hf_err err = { "" };
	int r = hf_store_read(s, buf, bytes, offset, &err);

	if (r != 0)
		CHECK_CONTAINS(err.text, "/");
	return r;
}

static void expect_fill(const uint8_t *buf, int fill, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		CHECK_EQ(buf[i], fill);
}

/* What stands in the file itself, whatever way it came there. */
static int on_disk(uint64_t offset)
{
	uint8_t byte;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, &byte, 1, (off_t)offset), 1);
	(void)close(fd);
	return byte;
}

static void expect_on_disk(uint64_t offset, int want)
{
	for (unsigned int i = 0; i < STORAGE_GENEROUS_S * 100 && on_disk(offset) != want; i++)
		(void)usleep(10000);
	CHECK_EQ(on_disk(offset), want);
}

static void live(const char *path, uint64_t size, uint32_t sector)
{
	struct hf_store *s = open_store(path, 30000), *other = open_store(path, 30000);
	uint8_t *one, *all;

	CHECK_EQ(hf_store_size_bytes(s), size);
	CHECK_EQ(hf_store_sector_bytes(s), sector);
	one = hf_store_buffer(s, 4096);
	all = hf_store_buffer(other, AREA);
	CHECK(one && all);
	CHECK_EQ((uintptr_t)one % 4096, 0);
	for (unsigned int n = 0; n < 20; n++) {
		CHECK_EQ(try_write(s, one, (int)n + 1, sector, (uint64_t)n * sector), 0);
		CHECK_EQ(try_read(other, all, AREA, 0), 0);
		expect_fill(all, (int)n + 1, (size_t)n * sector, (size_t)(n + 1) * sector);
		expect_fill(all, 0, (size_t)(n + 1) * sector, 32 * 4096);
	}
	CHECK_EQ(try_write(s, one, 7, 4096, size - 4096), 0);
	CHECK_EQ(try_read(other, all, 4096, size - 4096), 0);
	expect_fill(all, 7, 0, 4096);
	CHECK_EQ(try_write(s, one, 1, 4096, size), -ERANGE);
	CHECK_EQ(try_read(s, one, 4096, size), -ERANGE);
	CHECK_EQ(try_read(other, all, AREA, size - 4096), -ERANGE);
	CHECK_EQ(try_read(s, one, 4096, UINT64_MAX & ~(uint64_t)4095), -ERANGE);
	hf_store_close(s);
	hf_store_close(other);
	hf_store_close(NULL);
}

TEST(a_file)
{
	struct hf_store *s;
	uint8_t *buf;

	prepare();
	s = open_store(file, 0);
	buf = hf_store_buffer(s, 4096);
	live(file, SIZE, hf_store_sector_bytes(s));

	/* Others may make it larger, or cut it short. */
	CHECK_EQ(truncate(file, (off_t)(SIZE + 4096)), 0);
	CHECK_EQ(try_write(s, buf, 3, 4096, SIZE), 0);
	CHECK_EQ(truncate(file, 4096), 0);
	CHECK_EQ(try_read(s, buf, 4096, SIZE), -ENODATA);
	hf_store_close(s);
}

TEST(a_file_for_reading)
{
	struct hf_store_config config = { .path = file, .is_read_only = true };
	struct hf_err err = { "" };
	struct hf_store *s;
	uint8_t *buf;

	prepare();
	CHECK_EQ(chmod(file, 0400), 0);
	CHECK_EQ(hf_store_open(&config, &s, &err), 0);
	buf = hf_store_buffer(s, 4096);
	memset(buf, 9, 4096);
	CHECK_EQ(try_read(s, buf, 4096, 4096), 0);
	expect_fill(buf, 0, 0, 4096);
	hf_store_close(s);
}

TEST(what_is_no_storage)
{
	char path[96];

	prepare();
	expect_refusal("area", -EMEDIUMTYPE, "neither an absolute path");
	expect_refusal("http://host/area", -EMEDIUMTYPE, "neither an absolute path");
	expect_refusal("/dev/null", -EMEDIUMTYPE, "neither a file nor a block device");
	expect_refusal(storage_path(path, sizeof(path), ""), -EMEDIUMTYPE, "neither a file");
	expect_refusal(storage_path(path, sizeof(path), "none"), -ENOENT, "No such file");
	expect_refusal("/proc/self/status", -EINVAL, "O_DIRECT");
	expect_refusal("nbd://[", -EINVAL, "unable to parse");
	expect_refusal(uri, -EIO, "no NBD export can be reached");
}

/* ---- block devices ---- */

/* A loop device over the file; -1: none can be had. It goes away with its last user. */
static int new_device(char *ret_path, size_t size, uint32_t sector)
{
	struct loop_config config = { .block_size = sector, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n, fd;

	if (control < 0)
		return -1;
	n = ioctl(control, LOOP_CTL_GET_FREE);
	(void)close(control);
	(void)snprintf(ret_path, size, "/dev/loop%d", n);
	fd = n < 0 ? -1 : open(ret_path, O_RDWR | O_CLOEXEC);
	config.fd = (uint32_t)open(file, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
		(void)close(fd);
		fd = -1;
	}
	(void)close((int)config.fd);
	return fd;
}

TEST(block_devices_of_both_sector_sizes)
{
	static const uint32_t sectors[] = { 512, 4096 };
	char device[32];

	for (unsigned int i = 0; i < 2; i++) {
		int fd;

		prepare();
		fd = new_device(device, sizeof(device), sectors[i]);
		if (fd < 0) {
			printf("# skipped: no loop device of %u-byte sectors\n", sectors[i]);
			continue;
		}
		live(device, SIZE, sectors[i]);
		(void)close(fd);
	}
}

/* ---- NBD exports ---- */

static const char *const on_file[] = { "file", file, NULL };

TEST(an_export)
{
	pid_t server;

	prepare();
	server = storage_serve(sock, on_file);
	if (server < 0)
		return;
	live(uri, SIZE, 512);
	storage_end(server);
}

static void live_with(const char *const *words, uint32_t sector)
{
	pid_t server;

	prepare();
	server = storage_serve(sock, words);
	if (server < 0)
		return;
	live(uri, SIZE, sector);
	storage_end(server);
}

TEST(exports_that_can_do_little)
{
	static const char *const strict[] = { "--filter=multi-conn",
					      "--filter=blocksize-policy",
					      "file",
					      file,
					      "multi-conn-mode=disable",
					      "blocksize-minimum=4096",
					      "blocksize-preferred=4096",
					      "blocksize-maximum=65536",
					      "blocksize-error-policy=error",
					      NULL };
	static const char *const no_fua[] = { "--filter=fua", "file", file,
					      NULL }; /* its default */

	live_with(strict, 4096);
	live_with(no_fua, 512);
}

static bool is_in_log(const char *path, const char *word)
{
	static char text[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	CHECK(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	CHECK(n >= 0);
	text[n] = '\0';
	(void)close(fd);
	return strstr(text, word);
}

/* What the server was asked for, as it tells itself. */
static void expect_durable(const char *const *words, const char *log, const char *word)
{
	struct hf_store *s;
	pid_t server;

	prepare();
	server = storage_serve(sock, words);
	if (server < 0)
		return;
	s = open_store(uri, 30000);
	CHECK(!is_in_log(log, word));
	CHECK_EQ(try_write(s, hf_store_buffer(s, 512), 1, 512, 0), 0);
	CHECK(is_in_log(log, word));
	hf_store_close(s);
	storage_end(server);
}

TEST(a_write_is_durable_with_and_without_fua)
{
	static char log[96], log_file[128];
	static const char *const fua[] = { "--filter=log", "file", file, log_file, NULL };
	static const char *const no_fua[] = { "--filter=fua", "--filter=log", "file",
					      file,           log_file,       NULL };

	(void)snprintf(log_file, sizeof(log_file), "logfile=%s",
		       storage_path(log, sizeof(log), "log"));
	expect_durable(fua, log, " fua=1 ");
	(void)unlink(log);
	expect_durable(no_fua, log, " Flush ");
}

TEST(exports_that_will_not_do)
{
	static const char *const read_only[] = { "-r", "file", file, NULL };
	static const char *const large[] = {
		"--filter=blocksize-policy", "file", file, "blocksize-minimum=65536",
		"blocksize-preferred=65536", NULL
	};
	pid_t server;

	prepare();
	server = storage_serve(sock, read_only);
	if (server < 0)
		return;
	expect_refusal(uri, -EROFS, "lets nobody write");
	storage_end(server);
	server = storage_serve(sock, large);
	expect_refusal(uri, -EINVAL, "blocks of 65536 bytes");
	storage_end(server);
}

/* Until @s answers again: after a failure it does not try at once. */
static void expect_back(struct hf_store *s, void *buf)
{
	int r = -1;

	for (unsigned int i = 0; i < STORAGE_GENEROUS_S * 100 && r < 0; i++) {
		r = try_read(s, buf, 512, 0);
		if (r < 0)
			(void)usleep(10000);
	}
	CHECK_EQ(r, 0);
}

TEST(a_server_that_dies_and_comes_back)
{
	struct hf_store *s;
	uint8_t *buf;
	pid_t server;

	prepare();
	server = storage_serve(sock, on_file);
	if (server < 0)
		return;
	s = open_store(uri, 30000);
	buf = hf_store_buffer(s, 4096);
	CHECK_EQ(try_write(s, buf, 42, 512, 0), 0);
	CHECK_EQ(on_disk(0), 42);
	storage_end(server);
	CHECK_EQ(try_read(s, buf, 512, 0), -EIO);
	CHECK_EQ(try_write(s, buf, 1, 512, 0), -EIO); /* nothing was sent: it is settled */
	server = storage_serve(sock, on_file);
	expect_back(s, buf);
	expect_fill(buf, 42, 0, 512);
	CHECK_EQ(try_write(s, buf, 43, 512, 0), 0);
	CHECK_EQ(on_disk(0), 43);

	/* Started again while nothing was asked of it: nobody notices. */
	storage_end(server);
	server = storage_serve(sock, on_file);
	CHECK_EQ(try_write(s, buf, 44, 512, 0), 0);
	hf_store_close(s);
	storage_end(server);
}

/* Stopped, it has taken the write into its socket; let go on, it carries it out although nobody waits
 * any more. That is what "unsettled" warns of. */
TEST(a_server_that_hangs_is_given_up_and_its_write_lands_late)
{
	/* With more threads one may see the end of the connection before another has written. */
	static const char *const one_thread[] = { "-t", "1", "file", file, NULL };
	struct hf_store *s;
	uint8_t *buf;
	pid_t server;

	prepare();
	server = storage_serve(sock, one_thread);
	if (server < 0)
		return;
	s = open_store(uri, 400);
	buf = hf_store_buffer(s, 4096);
	storage_stop(server);
	CHECK_EQ(try_write(s, buf, 5, 512, 512), HF_STORE_UNSETTLED);
	CHECK_EQ(try_read(s, buf, 512, 0), -ETIMEDOUT); /* no new connection, either */
	CHECK_EQ(try_read(s, buf, 512, 0), -EIO); /* and is not asked at once */
	CHECK_EQ(on_disk(512), 0);
	CHECK_EQ(kill(server, SIGCONT), 0);
	expect_on_disk(512, 5);
	expect_back(s, buf);
	hf_store_close(s);
	storage_end(server);
}

/* This server drops a write whose sender has gone; the store cannot know. */
TEST(an_answer_that_is_too_slow)
{
	static const char *const slow[] = { "--filter=delay",    "file", file, "delay-read=0",
					    "delay-write=900ms", NULL };
	struct hf_store *s;
	uint8_t *buf;
	pid_t server;

	prepare();
	server = storage_serve(sock, slow);
	if (server < 0)
		return;
	s = open_store(uri, 300);
	buf = hf_store_buffer(s, 4096);
	CHECK_EQ(try_write(s, buf, 6, 512, 1024), HF_STORE_UNSETTLED);
	expect_back(s, buf);
	hf_store_close(s);
	s = open_store(uri, 30000);
	buf = hf_store_buffer(s, 4096);
	CHECK_EQ(try_write(s, buf, 7, 512, 1024), 0);
	CHECK_EQ(on_disk(1024), 7);
	hf_store_close(s);
	storage_end(server);
}

/* The connection lives on. What is a refusal is settled; else its storage may still be at it. */
static void fail_with(const char *error, int want_write, int want_read)
{
	char error_file[128], error_is[32];
	const char *const failing[] = { "--filter=error",  "file",     file, error_is,
					"error-rate=100%", error_file, NULL };
	struct hf_store *s;
	uint8_t *buf;
	pid_t server;

	prepare();
	(void)snprintf(error_file, sizeof(error_file), "error-file=%s", trigger);
	(void)snprintf(error_is, sizeof(error_is), "error=%s", error);
	server = storage_serve(sock, failing);
	if (server < 0)
		return;
	s = open_store(uri, 30000);
	buf = hf_store_buffer(s, 4096);
	CHECK_EQ(try_write(s, buf, 1, 512, 0), 0);
	storage_toggle(trigger, true);
	CHECK_EQ(try_write(s, buf, 2, 512, 0), want_write);
	CHECK_EQ(try_read(s, buf, 512, 0), want_read);
	storage_toggle(trigger, false);
	CHECK_EQ(try_write(s, buf, 3, 512, 0), 0);
	CHECK_EQ(on_disk(0), 3);
	hf_store_close(s);
	storage_end(server);
}

TEST(errors_of_the_storage_come_through)
{
	fail_with("ENOSPC", -ENOSPC, -ENOSPC);
	fail_with("EIO", HF_STORE_UNSETTLED, -EIO);
}

/* A file that others put in its place may be larger or smaller, but not of other sectors. */
TEST(a_server_that_comes_back_as_another)
{
	static const char *const coarse[] = {
		"--filter=blocksize-policy", "file", file, "blocksize-minimum=4096",
		"blocksize-preferred=4096",  NULL
	};
	struct hf_store *s;
	uint8_t *buf;
	pid_t server;

	prepare();
	server = storage_serve(sock, on_file);
	if (server < 0)
		return;
	s = open_store(uri, 30000);
	buf = hf_store_buffer(s, 4096);
	storage_end(server);
	server = storage_serve(sock, coarse);
	CHECK_EQ(try_write(s, buf, 1, 512, 0), -EIO);
	CHECK_EQ(hf_store_sector_bytes(s), 512);
	storage_end(server);
	CHECK_EQ(truncate(file, 4096), 0);
	server = storage_serve(sock, on_file);
	expect_back(s, buf);
	CHECK_EQ(hf_store_size_bytes(s), 4096);
	CHECK_EQ(try_write(s, buf, 1, 512, 4096), -ERANGE);
	hf_store_close(s);
	storage_end(server);
}

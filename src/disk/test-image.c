/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files and block devices; NBD exports are in test-image-nbd.c. */
#include "disk/test-image-model.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/test-fake-image.h"

#define SIZE ((uint64_t)4 << 20)
#define STEPS 300u

static char folder[] = "/tmp/test-image-XXXXXX";
static char path[64];

static void clean_up(void)
{
	(void)unlink(path);
	(void)rmdir(folder);
}

/* A file of @size bytes, all of it a hole. */
static const char *new_file(uint64_t size)
{
	int fd;

	if (path[0] == '\0') {
		CHECK(mkdtemp(folder));
		CHECK_EQ(atexit(clean_up), 0);
		(void)snprintf(path, sizeof(path), "%s/image", folder);
	}
	(void)unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
	return path;
}

static struct hf_image *open_image(const struct hf_image_config *config)
{
	struct hf_err err = { "" };
	struct hf_image *i = NULL;

	if (hf_image_open(config, &i, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return i;
}

static void expect_refusal(const struct hf_image_config *config, int want, const char *text)
{
	struct hf_err err = { "" };
	struct hf_image *i = NULL;

	CHECK_EQ(hf_image_open(config, &i, &err), want);
	CHECK(!i);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, config->location);
}

static void live(const struct hf_image_config *config, uint64_t unit)
{
	struct hf_image *i = open_image(config);
	struct model m;

	model_begin(&m, i, unit);
	for (unsigned int n = 0; n < STEPS; n++)
		model_step(&m, 100000);
	model_check(&m);
	(void)model_check_extents(&m);
	model_zero(&m, 0, m.size);
	model_check(&m);
	(void)model_check_extents(&m);
	hf_image_close(i);
	model_end(&m);
}

TEST(a_file_does_what_memory_does)
{
	live(&(struct hf_image_config){ .location = new_file(SIZE) }, 1);
	live(&(struct hf_image_config){ .location = new_file(0), .size_bytes = SIZE }, 512);
}

TEST(a_file_past_the_page_cache)
{
	struct hf_image_config config = { .location = new_file(SIZE), .is_direct = true };
	struct hf_err err = { "" };
	struct hf_image *i;
	int r = hf_image_open(&config, &i, &err);

	if (r == -EINVAL) {
		printf("# skipped: %s\n", err.text);
		return;
	}
	CHECK_EQ(r, 0);
	CHECK(hf_image_block_bytes(i) >= 512);
	hf_image_close(i);
	live(&config, 4096);
	live(&(struct hf_image_config){ .location = new_file(SIZE), .is_direct = true }, 1);
	config = (struct hf_image_config){ .location = new_file(12345), .is_direct = true };
	expect_refusal(&config, -EINVAL, "no multiple");
	config.size_bytes = SIZE;
	live(&config, 512);
}

/* tmpfs makes no zeros that keep their room in one step. */
TEST(a_file_in_memory)
{
	char other[] = "/dev/shm/test-image-XXXXXX";
	int fd = mkstemp(other);

	if (fd < 0) {
		printf("# skipped: no /dev/shm\n");
		return;
	}
	live(&(struct hf_image_config){ .location = other, .size_bytes = SIZE }, 1);
	(void)close(fd);
	(void)unlink(other);
}

/* Whole blocks only below: parts of them are read, changed and written back. */
TEST(parts_of_blocks)
{
	struct fake *fake = fake_new(65536, NULL);
	struct model m;

	model_begin(&m, &fake->image, 1);
	for (unsigned int n = 0; n < 700; n++)
		model_step(&m, 20000);
	model_check(&m);
	model_end(&m);
	hf_image_close(&fake->image);
}

struct halves {
	struct hf_image *image;
	uint64_t at;
};

static void *write_halves(void *arg)
{
	struct halves *h = arg;
	uint8_t byte;

	for (unsigned int n = 1; n <= 500; n++)
		for (uint64_t block = 0; block < 8; block++) {
			byte = (uint8_t)n;
			CHECK_EQ(hf_image_write(h->image, &byte, 1, block * 4096 + h->at), 0);
		}
	return NULL;
}

/* Two threads in the same blocks, each in its own byte: neither undoes what the other did. */
TEST(parts_of_one_block_at_once)
{
	struct fake *fake = fake_new(65536, NULL);
	struct halves h[2] = { { &fake->image, 0 }, { &fake->image, 4095 } };
	pthread_t other;

	fake->is_silent = true;
	CHECK_EQ(pthread_create(&other, NULL, write_halves, &h[1]), 0);
	(void)write_halves(&h[0]);
	CHECK_EQ(pthread_join(other, NULL), 0);
	for (uint64_t block = 0; block < 8; block++) {
		CHECK_EQ(fake->view[block * 4096], (uint8_t)500);
		CHECK_EQ(fake->view[block * 4096 + 4095], (uint8_t)500);
	}
	hf_image_close(&fake->image);
}

TEST(a_file_grows_when_it_is_written)
{
	struct hf_image *i = open_image(
		&(struct hf_image_config){ .location = new_file(1000), .size_bytes = SIZE });
	struct stat st;
	uint64_t len;
	bool is_hole;
	uint8_t byte = 7;

	CHECK(hf_image_can_grow(i));
	CHECK(hf_image_can_trim(i));
	CHECK_EQ(hf_image_extent(i, 5000, SIZE, &len, &is_hole), 0);
	CHECK(is_hole);
	CHECK_EQ(len, SIZE - 5000);
	CHECK_EQ(hf_image_trim(i, 1000, SIZE - 1000), 0);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_size, 1000);
	CHECK_EQ(hf_image_write(i, &byte, 1, 2000000), 0);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_size, 2000001);
	byte = 0;
	CHECK_EQ(hf_image_read(i, &byte, 1, 2000000), 0);
	CHECK_EQ(byte, 7);
	hf_image_close(i);
}

static uint64_t allocated(void)
{
	struct stat st;

	CHECK_EQ(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

TEST(trim_gives_room_back_and_zero_keeps_it)
{
	struct hf_image *i = open_image(&(struct hf_image_config){ .location = new_file(SIZE) });
	struct model m;

	model_begin(&m, i, 1);
	model_write(&m, 0, SIZE);
	CHECK_EQ(hf_image_flush(i), 0);
	CHECK(allocated() >= SIZE);
	CHECK_EQ(hf_image_zero(i, SIZE / 2, 0, false), 0);
	CHECK(allocated() >= SIZE);
	CHECK_EQ(hf_image_zero(i, SIZE / 4, 0, true), 0);
	CHECK(allocated() <= SIZE - SIZE / 4);
	CHECK_EQ(hf_image_trim(i, SIZE / 2, 0), 0);
	CHECK(allocated() <= SIZE / 2);
	memset(m.bytes, 0, SIZE / 2);
	model_check(&m);
	CHECK_EQ(model_check_extents(&m), SIZE / 2);
	hf_image_close(i);
	model_end(&m);
}

TEST(ranges_and_rights)
{
	struct hf_image_config config = { .location = new_file(SIZE) };
	struct hf_image *i = open_image(&config);
	uint8_t byte = 0;
	uint64_t len;
	bool is_hole;

	CHECK_EQ(hf_image_read(i, &byte, 1, SIZE), -EINVAL);
	CHECK_EQ(hf_image_write(i, &byte, 1, SIZE), -EINVAL);
	CHECK_EQ(hf_image_read(i, &byte, 1, UINT64_MAX), -EINVAL);
	CHECK_EQ(hf_image_zero(i, UINT64_MAX, 1, true), -EINVAL);
	CHECK_EQ(hf_image_trim(i, SIZE + 1, 0), -EINVAL);
	CHECK_EQ(hf_image_extent(i, 5, 5, &len, &is_hole), -EINVAL);
	CHECK_EQ(hf_image_extent(i, 0, SIZE + 1, &len, &is_hole), -EINVAL);
	CHECK_EQ(hf_image_read(i, &byte, 0, SIZE), 0);
	hf_image_close(i);
	config.is_read_only = true;
	i = open_image(&config);
	CHECK_EQ(hf_image_write(i, &byte, 1, 0), -EROFS);
	CHECK_EQ(hf_image_zero(i, 1, 0, false), -EROFS);
	CHECK_EQ(hf_image_read(i, &byte, 1, 0), 0);
	CHECK_EQ(hf_image_flush(i), 0);
	hf_image_close(i);
	hf_image_close(NULL);
}

TEST(what_is_no_image)
{
	struct hf_image_config config = { .location = new_file(SIZE) };

	config.location = folder;
	expect_refusal(&config, -EISDIR, "directory");
	config.location = "/dev/null";
	expect_refusal(&config, -EINVAL, "neither a file nor a block device");
	config.location = "/proc/none/image";
	expect_refusal(&config, -ENOENT, "No such file");
	config.is_direct = config.is_read_only = true;
	config.location = "/proc/version";
	expect_refusal(&config, -EINVAL, "past the page cache");
}

/* ---- locks ---- */

static int run(const char *const *argv)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		(void)dup2(null, 0);
		(void)dup2(null, 1);
		(void)dup2(null, 2);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char *const qemu_writes[] = {
	"qemu-io", "-f", "raw", "-c", "write 0 512", path, NULL
};
static const char *const qemu_copies[] = { "qemu-img", "convert", "-f",        "raw", "-O",
					   "raw",      path,      "/dev/null", NULL };
static const char *const qemu_dares[] = { "qemu-img", "info", "-U", path, NULL };

TEST(an_image_in_use_is_refused_to_us_and_by_us)
{
	struct hf_image_config config = { .location = new_file(SIZE) };
	struct hf_image *i = open_image(&config), *other;
	int r;

	expect_refusal(&config, -EBUSY, "another program has it open");
	config.is_read_only = true;
	hf_image_close(open_image(&config));
	config.is_read_only = false;
	config.is_shared = true;
	other = open_image(&config);
	r = run(qemu_writes);
	if (r == 127) {
		printf("# skipped: no qemu-io\n");
	} else {
		CHECK_EQ(r, 1);
		CHECK_EQ(run(qemu_copies), 1);
		CHECK_EQ(run(qemu_dares), 0);
	}
	hf_image_close(i);
	if (r != 127) /* a shared one is left alone */
		CHECK_EQ(run(qemu_writes), 0);
	hf_image_close(other);
}

TEST(an_image_that_qemu_writes_to_is_refused)
{
	static const char *const argv[] = { "qemu-io", "-f",          "raw", "-c", "write 0 512",
					    "-c",      "sleep 60000", path,  NULL };
	struct hf_image_config config = { .location = new_file(SIZE) };
	struct hf_image *i = NULL;
	struct hf_err err = { "" };
	pid_t child = fork();
	int status, r = 0;

	CHECK(child >= 0);
	if (child == 0) {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	while (r == 0 && waitpid(child, &status, WNOHANG) == 0) {
		r = hf_image_open(&config, &i, &err);
		if (r == 0)
			hf_image_close(i);
		(void)usleep(10000);
	}
	if (r == 0) {
		CHECK_EQ(WEXITSTATUS(status), 127);
		printf("# skipped: no qemu-io\n");
		return;
	}
	CHECK_EQ(r, -EBUSY);
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, &status, 0), child);
	hf_image_close(open_image(&config));
}

/* ---- storage that refuses ---- */

/* The limit is inside of the write: a part of it is taken, the rest is not. */
TEST(a_write_that_is_cut_short_fails)
{
	struct hf_image *i = open_image(
		&(struct hf_image_config){ .location = new_file(0), .size_bytes = SIZE });
	struct rlimit old, limit;
	uint8_t *buf = calloc(1, 100000);

	CHECK(buf);
	CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 50000;
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQ(hf_image_write(i, buf, 100000, 0), -EFBIG);
	CHECK_EQ(hf_image_writev(i, (struct iovec[]){ { buf, 60000 }, { buf, 100 } }, 2, 0),
		 -EFBIG);
	CHECK_EQ(hf_image_write(i, buf, 50000, 0), 0);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
	CHECK_EQ(hf_image_write(i, buf, 100000, 0), 0);
	hf_image_close(i);
	free(buf);
}

/* In a child with mounts of its own. 0: as it should be; 77: it could not be tried. */
static int fill_a_small_disk(bool is_direct)
{
	struct hf_image_config config = { .size_bytes = SIZE, .is_direct = is_direct };
	uint8_t *buf = calloc(1, SIZE);
	struct hf_image *i;
	char file[64];

	if (!buf || unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", folder, "tmpfs", 0, "size=1m") < 0)
		return 77;
	(void)snprintf(file, sizeof(file), "%s/image", folder);
	(void)close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	config.location = file;
	if (hf_image_open(&config, &i, NULL) < 0)
		return 77;
	CHECK_EQ(hf_image_write(i, buf, SIZE, 0), -ENOSPC);
	CHECK_EQ(hf_image_trim(i, SIZE, 0), 0);
	CHECK_EQ(hf_image_write(i, buf, SIZE / 8, SIZE / 2), 0);
	CHECK_EQ(hf_image_zero(i, SIZE, 0, false), -ENOSPC);
	CHECK_EQ(hf_image_zero(i, SIZE, 0, true), 0);
	hf_image_close(i);
	return 0;
}

TEST(a_full_file_system_says_so)
{
	int status;
	pid_t child;

	(void)new_file(0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0)
		_exit(fill_a_small_disk(false));
	CHECK_EQ(waitpid(child, &status, 0), child);
	if (WEXITSTATUS(status) == 77)
		printf("# skipped: not permitted to mount a small tmpfs\n");
	else
		CHECK_EQ(status, 0);
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
	config.fd = (uint32_t)open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
		(void)close(fd);
		fd = -1;
	}
	(void)close((int)config.fd);
	return fd;
}

static void live_on_device(uint32_t sector, bool is_direct)
{
	struct hf_image_config config = { .is_direct = is_direct };
	struct hf_image *i;
	char device[32];
	int fd;

	(void)new_file(SIZE);
	fd = new_device(device, sizeof(device), sector);
	if (fd < 0) {
		printf("# skipped: no loop device\n");
		return;
	}
	config.location = device;
	i = open_image(&config);
	CHECK_EQ(hf_image_size_bytes(i), SIZE);
	CHECK(!hf_image_can_grow(i));
	CHECK_EQ(hf_image_block_bytes(i), is_direct ? sector : 1);
	hf_image_close(i);
	live(&config, 1);
	live(&config, 4096);
	config.size_bytes = SIZE + 512;
	expect_refusal(&config, -EINVAL, "and the disk 4194816");
	(void)close(fd);
}

TEST(a_block_device_with_and_without_the_page_cache)
{
	live_on_device(512, false);
	live_on_device(4096, false);
	live_on_device(512, true);
	live_on_device(4096, true);
}

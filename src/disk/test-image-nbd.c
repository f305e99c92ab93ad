/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* NBD exports, served by nbdkit: as they should be, and as they fail. */
#include "disk/test-image-model.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/image-internal.h"

#define SIZE ((uint64_t)4 << 20)
#define ARGS_MAX 16
#define GENEROUS_S 60u

static char folder[] = "/tmp/test-image-nbd-XXXXXX";
static char sock[64], uri[96], file[64];

static void clean_up(void)
{
	(void)unlink(sock);
	(void)unlink(file);
	(void)rmdir(folder);
}

static void make_folder(void)
{
	if (sock[0] != '\0')
		return;
	CHECK(mkdtemp(folder));
	CHECK_EQ(atexit(clean_up), 0);
	(void)snprintf(sock, sizeof(sock), "%s/sock", folder);
	(void)snprintf(file, sizeof(file), "%s/file", folder);
	(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
}

static bool can_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	CHECK(fd >= 0);
	memcpy(addr.sun_path, sock, sizeof(sock));
	r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	(void)close(fd);
	return r == 0;
}

/* Words of nbdkit's command line behind its socket. Ends with this process. -1: there is no
 * nbdkit. */
static pid_t serve(const char *const *words)
{
	const char *argv[ARGS_MAX] = { "nbdkit", "-f", "-U", NULL };
	pid_t child;
	int n = 4;

	make_folder();
	argv[3] = sock;
	while (*words && n < ARGS_MAX - 1)
		argv[n++] = *words++;
	(void)unlink(sock);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		(void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	for (unsigned int i = 0; i < GENEROUS_S * 100 && !can_connect(); i++) {
		if (waitpid(child, NULL, WNOHANG) == child) {
			printf("# skipped: nbdkit or a part of it is missing\n");
			return -1;
		}
		(void)usleep(10000);
	}
	CHECK(can_connect());
	return child;
}

static void end(pid_t server)
{
	CHECK_EQ(kill(server, SIGKILL), 0);
	CHECK_EQ(waitpid(server, NULL, 0), server);
}

static struct hf_image *open_export(uint64_t size)
{
	struct hf_image_config config = { .location = uri, .size_bytes = size };
	struct hf_err err = { "" };
	struct hf_image *i;

	if (hf_image_open(&config, &i, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return i;
}

static void expect_refusal(const struct hf_image_config *config, int want, const char *text)
{
	struct hf_err err = { "" };
	struct hf_image *i;

	CHECK_EQ(hf_image_open(config, &i, &err), want);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, config->location);
}

static void live(struct hf_image *i, uint64_t unit, unsigned int steps)
{
	struct model m;

	model_begin(&m, i, unit);
	for (unsigned int n = 0; n < steps; n++)
		model_step(&m, 300000);
	model_check(&m);
	(void)model_check_extents(&m);
	model_end(&m);
}

TEST(an_export_does_what_memory_does)
{
	static const char *const memory[] = { "memory", "4M", NULL };
	pid_t server = serve(memory);
	struct hf_image *i;
	struct model m;

	if (server < 0)
		return;
	i = open_export(0);
	CHECK_EQ(hf_image_size_bytes(i), SIZE);
	CHECK(hf_image_can_trim(i));
	CHECK(!hf_image_can_grow(i));
	live(i, 1, 300);
	hf_image_close(i);
	end(server);

	server = serve(memory);
	i = open_export(SIZE);
	model_begin(&m, i, 1);
	model_write(&m, SIZE / 2, SIZE / 2);
	CHECK_EQ(model_check_extents(&m), SIZE / 2);
	model_zero(&m, 0, SIZE);
	model_check(&m);
	model_end(&m);
	hf_image_close(i);
	end(server);
}

/* Only whole blocks, small requests, no zeros, no extents, one connection. */
TEST(an_export_that_can_do_little)
{
	static const char *const strict[] = { "--filter=multi-conn",
					      "--filter=noextents",
					      "--filter=nozero",
					      "--filter=blocksize-policy",
					      "memory",
					      "4M",
					      "multi-conn-mode=disable",
					      "blocksize-minimum=4096",
					      "blocksize-preferred=4096",
					      "blocksize-maximum=65536",
					      "blocksize-error-policy=error",
					      NULL };
	pid_t server = serve(strict);
	struct hf_image *i;

	if (server < 0)
		return;
	i = open_export(0);
	CHECK_EQ(hf_image_block_bytes(i), 4096);
	CHECK(!hf_image_can_trim(i));
	live(i, 1, 100);
	hf_image_close(i);
	end(server);
}

TEST(what_cannot_be_opened)
{
	struct hf_image_config config = { .location = uri };
	static const char *const read_only[] = { "-r", "memory", "4M", NULL };
	pid_t server = serve(read_only);

	if (server < 0)
		return;
	expect_refusal(&config, -EROFS, "lets nobody write");
	config.size_bytes = SIZE + 1;
	config.is_read_only = true;
	expect_refusal(&config, -EINVAL, "it has 4194304 bytes");
	end(server);
	expect_refusal(&config, -ECONNREFUSED, "no NBD export can be reached");
	config.location = "nbd+unix:///?socket=/proc/none";
	expect_refusal(&config, -ENOENT, "no NBD export can be reached");
	config.location = "nbd://[";
	expect_refusal(&config, -EINVAL, "no NBD export can be reached");
}

struct share {
	struct hf_image *image;
	uint64_t from, len;
};

static void *live_in_share(void *arg)
{
	const struct share *s = arg;
	uint8_t *buf = malloc(s->len), *back = malloc(s->len);

	CHECK(buf && back);
	for (unsigned int n = 0; n < 30; n++) {
		memset(buf, (int)(s->from / s->len + n), s->len);
		CHECK_EQ(hf_image_write(s->image, buf, s->len, s->from), 0);
		CHECK_EQ(hf_image_flush(s->image), 0);
		CHECK_EQ(hf_image_read(s->image, back, s->len, s->from), 0);
		CHECK_EQ(memcmp(buf, back, s->len), 0);
	}
	free(buf);
	free(back);
	return NULL;
}

/* More of them than connections. */
TEST(many_threads_share_the_connections)
{
	static const char *const memory[] = { "memory", "4M", NULL };
	pid_t server = serve(memory);
	struct share share[16];
	pthread_t thread[16];
	struct hf_image *i;

	if (server < 0)
		return;
	i = open_export(0);
	for (unsigned int n = 0; n < 16; n++) {
		share[n] = (struct share){ i, n * (SIZE / 16), SIZE / 16 };
		CHECK_EQ(pthread_create(&thread[n], NULL, live_in_share, &share[n]), 0);
	}
	for (unsigned int n = 0; n < 16; n++)
		CHECK_EQ(pthread_join(thread[n], NULL), 0);
	hf_image_close(i);
	end(server);
}

static const char *const on_file[] = { "file", file, NULL };

static pid_t serve_file(void)
{
	int fd;

	make_folder();
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)SIZE), 0);
	(void)close(fd);
	return serve(on_file);
}

/* Fails as long as there is no server, then goes again; and the first flush tells that what was not
 * flushed before may be gone. */
TEST(a_server_that_dies_and_comes_back)
{
	pid_t server = serve_file();
	uint8_t byte = 42;
	struct hf_image *i;

	if (server < 0)
		return;
	i = open_export(0);
	CHECK_EQ(hf_image_write(i, &byte, 1, 7), 0);
	CHECK_EQ(hf_image_flush(i), 0);
	end(server);
	CHECK(hf_image_read(i, &byte, 1, 7) < 0);
	CHECK(hf_image_write(i, &byte, 1, 7) < 0);
	server = serve(on_file);
	byte = 0;
	CHECK_EQ(hf_image_read(i, &byte, 1, 7), 0);
	CHECK_EQ(byte, 42);
	(void)!hf_image_flush(i); /* the write that failed may have been taken */
	CHECK_EQ(hf_image_flush(i), 0);

	CHECK_EQ(hf_image_write(i, &byte, 1, 8), 0);
	end(server);
	CHECK(hf_image_read(i, &byte, 1, 7) < 0);
	server = serve(on_file);
	CHECK_EQ(hf_image_write(i, &byte, 1, 9), 0);
	CHECK_EQ(hf_image_flush(i), -EIO);
	CHECK_EQ(hf_image_flush(i), 0);

	/* Nothing unflushed: nothing is lost. */
	end(server);
	CHECK(hf_image_read(i, &byte, 1, 7) < 0);
	server = serve(on_file);
	CHECK_EQ(hf_image_write(i, &byte, 1, 9), 0);
	CHECK_EQ(hf_image_flush(i), 0);
	hf_image_close(i);
	end(server);
}

TEST(a_server_that_comes_back_smaller_is_not_used)
{
	static const char *const large[] = { "memory", "4M", NULL };
	static const char *const small[] = { "memory", "1M", NULL };
	pid_t server = serve(large);
	struct hf_image *i;
	uint8_t byte = 0;

	if (server < 0)
		return;
	i = open_export(0);
	end(server);
	CHECK(hf_image_read(i, &byte, 1, 0) < 0);
	server = serve(small);
	CHECK_EQ(hf_image_read(i, &byte, 1, 0), -EIO);
	end(server);
	server = serve(large);
	CHECK_EQ(hf_image_read(i, &byte, 1, 0), 0);
	hf_image_close(i);
	end(server);
}

TEST(a_server_that_hangs_is_given_up)
{
	pid_t server = serve_file();
	uint8_t byte = 1;
	struct hf_image *i;

	if (server < 0)
		return;
	i = open_export(0);
	CHECK_EQ(hf_image_write(i, &byte, 1, 0), 0);
	hf_image_nbd_timeout_ms = 300;
	CHECK_EQ(kill(server, SIGSTOP), 0);
	CHECK_EQ(waitpid(server, NULL, WUNTRACED), server); /* all of its threads stand still */
	CHECK_EQ(hf_image_read(i, &byte, 1, 0), -ETIMEDOUT);
	CHECK_EQ(kill(server, SIGCONT), 0);
	hf_image_nbd_timeout_ms = GENEROUS_S * 1000;
	byte = 0;
	CHECK_EQ(hf_image_read(i, &byte, 1, 0), 0);
	CHECK_EQ(byte, 1);
	CHECK_EQ(hf_image_flush(i), -EIO); /* the write before may have been lost with it */
	CHECK_EQ(hf_image_flush(i), 0);
	hf_image_close(i);
	end(server);
}

/* The server's own error comes through, and the connection lives on. */
TEST(errors_of_the_storage_come_through)
{
	static char trigger[80];
	static char error_file[128];
	static const char *const failing[] = { "--filter=error",  "memory",   "4M", "error=ENOSPC",
					       "error-rate=100%", error_file, NULL };
	struct hf_image *i;
	uint8_t byte = 0;
	pid_t server;
	int fd;

	make_folder();
	(void)snprintf(trigger, sizeof(trigger), "%s/trigger", folder);
	(void)snprintf(error_file, sizeof(error_file), "error-file=%s", trigger);
	server = serve(failing);
	if (server < 0)
		return;
	i = open_export(0);
	CHECK_EQ(hf_image_write(i, &byte, 1, 0), 0);
	fd = open(trigger, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	(void)close(fd);
	CHECK_EQ(hf_image_write(i, &byte, 1, 0), -ENOSPC);
	CHECK_EQ(hf_image_read(i, &byte, 1, 0), -ENOSPC);
	CHECK_EQ(hf_image_zero(i, 1, 0, true), -ENOSPC);
	CHECK_EQ(unlink(trigger), 0);
	CHECK_EQ(hf_image_write(i, &byte, 1, 0), 0);
	CHECK_EQ(hf_image_flush(i), 0); /* no connection was lost */
	hf_image_close(i);
	end(server);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For tests of this layer: a folder of their own, files, and real NBD servers. */
#pragma once

#include "../../tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STORAGE_UNUSED __attribute__((unused))
#define STORAGE_ARGS_MAX 24
#define STORAGE_GENEROUS_S 60u

/* Not on a tmpfs where that can be helped: it has no sectors. */
static char storage_folder[] = "/var/tmp/test-lease-XXXXXX";
static pid_t storage_owner;

static void storage_clean_up(void)
{
	char command[80];

	if (getpid() != storage_owner)
		return;
	(void)snprintf(command, sizeof(command), "rm -rf %s", storage_folder);
	(void)!system(command); /* NOLINT(cert-env33-c): a name of our own */
}

/* "FOLDER/NAME" in @buf, which it returns. */
STORAGE_UNUSED static char *storage_path(char *buf, size_t size, const char *name)
{
	if (storage_owner == 0) {
		CHECK(mkdtemp(storage_folder));
		storage_owner = getpid();
		CHECK_EQ(atexit(storage_clean_up), 0);
	}
	(void)snprintf(buf, size, "%s/%s", storage_folder, name);
	return buf;
}

/* A file of zeros in place of whatever had that name. */
STORAGE_UNUSED static void storage_file(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	(void)close(fd);
}

/* Makes it exist, or not: what toggles nbdkit's filters. */
STORAGE_UNUSED static void storage_toggle(const char *path, bool is_there)
{
	if (is_there)
		storage_file(path, 0);
	else
		CHECK_EQ(unlink(path), 0);
}

STORAGE_UNUSED static uint64_t storage_now_ns(void)
{
	struct timespec t;

	CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &t), 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool storage_can_connect(const char *sock)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	CHECK(fd >= 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", sock);
	r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	(void)close(fd);
	return r == 0;
}

/* nbdkit behind the unix socket @sock, with these words; it ends with this process. -1: there is no
 * nbdkit, or a part of it is missing. */
STORAGE_UNUSED static pid_t storage_serve(const char *sock, const char *const *words)
{
	const char *argv[STORAGE_ARGS_MAX] = { "nbdkit", "-f", "-U", sock, NULL };
	int n = 4;
	pid_t child;

	while (*words && n < STORAGE_ARGS_MAX - 1)
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
	for (unsigned int i = 0; i < STORAGE_GENEROUS_S * 100; i++) {
		if (storage_can_connect(sock))
			return child;
		if (waitpid(child, NULL, WNOHANG) == child) {
			printf("# skipped: nbdkit or a part of it is missing\n");
			return -1;
		}
		(void)usleep(10000);
	}
	hf_test_fail(__FILE__, __LINE__, "nbdkit does not come up behind %s", sock);
}

STORAGE_UNUSED static void storage_end(pid_t server)
{
	CHECK_EQ(kill(server, SIGKILL), 0);
	CHECK_EQ(waitpid(server, NULL, 0), server);
}

/* All of its threads stand still when this returns. */
STORAGE_UNUSED static void storage_stop(pid_t server)
{
	int status;

	CHECK_EQ(kill(server, SIGSTOP), 0);
	CHECK_EQ(waitpid(server, &status, WUNTRACED), server);
	CHECK(WIFSTOPPED(status));
}

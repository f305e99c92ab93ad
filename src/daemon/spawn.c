/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fork, setsid, fork, exec: the second child belongs to process 1 at once, so that the keeper is no
 * child that would have to be reaped, and does not die with us. Between fork and exec only what is
 * safe after a fork of a process with threads: everything is made ready before.
 */
#include "daemon/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fd.h"

/* Through the pipe: the keeper's pid, then, if it could not be loaded, why. */
struct news {
	pid_t pid;
	int error;
};

static void find_program(char *buf, size_t size)
{
	const char *given = getenv("HOLDFAST");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (given) {
		(void)snprintf(buf, size, "%s", given);
		return;
	}
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	(void)snprintf(buf, size, "%.*s/../cli/holdfast", slash ? (int)(slash - self) : 0, self);
	if (access(buf, X_OK) < 0)
		(void)snprintf(buf, size, "%s", HF_BINDIR "/holdfast");
}

static __attribute__((noreturn)) void second_child(char *const *argv, int out)
{
	struct news news = { .pid = getpid() };
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (write(out, &news, sizeof(news)) != (ssize_t)sizeof(news))
		_exit(127);
	(void)execv(argv[0], argv);
	news.error = errno;
	(void)!write(out, &news, sizeof(news));
	_exit(127);
}

static __attribute__((noreturn)) void first_child(char *const *argv, int out)
{
	struct news news = { .pid = 0 };

	(void)setsid();
	switch (fork()) {
	case -1:
		news.error = errno;
		(void)!write(out, &news, sizeof(news));
		break;
	case 0:
		second_child(argv, out);
	default:
		break;
	}
	_exit(0);
}

/* Until all that could write has closed the pipe: by exec, or by its end. */
static int read_news(int in, pid_t *ret_pid)
{
	struct news news;
	ssize_t n;
	int r = -EIO;

	for (;;) {
		n = read(in, &news, sizeof(news));
		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof(news))
			return r;
		*ret_pid = news.pid;
		r = -news.error;
	}
}

static int spawn(char *const *argv, pid_t *ret_pid)
{
	int fds[2];
	pid_t pid;
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		first_child(argv, fds[1]);
	r = pid < 0 ? -errno : 0;
	hf_fd_close(&fds[1]);
	if (!r) {
		r = read_news(fds[0], ret_pid);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	hf_fd_close(&fds[0]);
	return r;
}

int hf_spawn_keeper(const struct hf_hostconf *conf, const char *vm, pid_t *ret_pid,
		    struct hf_err *err)
{
	char program[PATH_MAX];
	char run[] = "run", run_dir_option[] = "--run-dir", config_option[] = "--config";
	char name[HF_LEASE_NAME_BYTES + 1];
	char config[PATH_MAX];
	char *argv[] = { program,       run,           name,   run_dir_option,
			 conf->run_dir, config_option, config, NULL };
	int r;

	find_program(program, sizeof(program));
	(void)snprintf(name, sizeof(name), "%s", vm);
	(void)snprintf(config, sizeof(config), "%s/%s.conf", conf->vms, vm);
	r = spawn(argv, ret_pid);
	if (r < 0)
		hf_err_set(err, "cannot run %.300s: %s", program, strerror(-r));
	return r;
}

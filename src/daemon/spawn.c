/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between fork and exec nothing is touched that a thread of the parent could have had under its lock,
 * but what the C library makes whole by itself. */
#include "daemon/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "sys/fd.h"

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

/* The keeper is told the number of the descriptor, and closes it once it serves. */
static void pass_why(int why_fd)
{
	char number[16];

	if (why_fd < 0 || fcntl(why_fd, F_SETFD, 0) < 0)
		return;
	(void)snprintf(number, sizeof(number), "%d", why_fd);
	(void)setenv("HOLDFAST_WHY_FD", number, 1);
}

/* In the child. Its standard input is nothing; what it says goes where the daemon's words go. */
static __attribute__((noreturn)) void become_keeper(char *const *argv, const char *assigned,
						    int why_fd, int error_fd)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;
	int error;

	(void)setsid();
	(void)signal(SIGPIPE, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (null >= 0)
		(void)dup2(null, STDIN_FILENO);
	pass_why(why_fd);
	if (assigned)
		(void)setenv("HOLDFAST_ASSIGNED", assigned, 1);
	(void)execv(argv[0], argv);
	error = errno;
	(void)!write(error_fd, &error, sizeof(error));
	_exit(127);
}

/* Until the pipe is closed by exec, or says why that could not be. */
static int read_error(int in)
{
	int error = 0;
	ssize_t n;

	do {
		n = read(in, &error, sizeof(error));
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(error) ? -error : 0;
}

static int spawn(char *const *argv, const char *assigned, int why_fd, pid_t *ret_pid)
{
	int fds[2];
	pid_t pid;
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		become_keeper(argv, assigned, why_fd, fds[1]);
	r = pid < 0 ? -errno : 0;
	hf_fd_close(&fds[1]);
	if (!r)
		r = read_error(fds[0]);
	hf_fd_close(&fds[0]);
	if (pid > 0 && r < 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	*ret_pid = pid;
	return r;
}

int hf_spawn_keeper(const struct hf_hostconf *conf, const struct hf_spawn *what, pid_t *ret_pid,
		    int *ret_why_fd, struct hf_err *err)
{
	char run[] = "run", standby[] = "standby", run_dir_option[] = "--run-dir";
	char config_option[] = "--config", host_option[] = "--host",
	     fresh[] = "--when-frozen=fresh";
	char program[PATH_MAX], config[PATH_MAX];
	char name[HF_NAME_MAX + 1], host[HF_NAME_MAX + 1];
	char *argv[12] = { program,       what->is_standby ? standby : run,
			   name,          run_dir_option,
			   conf->run_dir, config_option,
			   config };
	unsigned int n = 7;
	int r;

	find_program(program, sizeof(program));
	(void)snprintf(name, sizeof(name), "%s", what->vm);
	(void)snprintf(config, sizeof(config), "%s/%s.conf", conf->vms, what->vm);
	(void)snprintf(host, sizeof(host), "%s", conf->name);
	if (what->is_fresh)
		argv[n++] = fresh;
	if (what->has_two_hosts) {
		argv[n++] = host_option;
		argv[n++] = host;
	}
	*ret_why_fd = memfd_create("holdfast-why", MFD_CLOEXEC); /* without one it goes as well */
	r = spawn(argv, what->assigned, *ret_why_fd, ret_pid);
	if (r < 0) {
		hf_fd_close(ret_why_fd);
		hf_err_set(err, "cannot run %.300s: %s", program, strerror(-r));
	}
	return r;
}

const char *hf_spawn_read_why(int why_fd, char *buf, size_t size)
{
	ssize_t n = why_fd >= 0 ? pread(why_fd, buf, size - 1, 0) : 0;

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

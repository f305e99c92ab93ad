/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/process.h"

static void wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	CHECK_EQ(poll(&p, 1, 10000), 1);
}

static struct hf_process_exit wait_end(struct hf_process *p)
{
	struct hf_process_exit e;

	wait_readable(p->pidfd);
	CHECK_EQ(hf_process_reap(p, &e), 0);
	hf_process_close(p);
	return e;
}

/* Runs a shell command with the given descriptors and returns what it wrote to its stdout. */
static const char *output_of(const char *command, struct hf_process_spec spec,
			     struct hf_process_fd *fds, size_t n_fds)
{
	const char *const argv[] = { "sh", "-c", command, NULL };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_err err = { "" };
	static char out[4096];
	int pipe_fds[2];
	size_t len = 0;
	ssize_t n;

	CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	fds[n_fds] = (struct hf_process_fd){ pipe_fds[1], 1 };
	spec.argv = argv;
	spec.fds = fds;
	spec.n_fds = n_fds + 1;
	if (hf_process_spawn(&spec, &p, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	hf_fd_close(&pipe_fds[1]);
	while ((n = read(pipe_fds[0], out + len, sizeof(out) - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	hf_fd_close(&pipe_fds[0]);
	CHECK_EQ(wait_end(&p).code, 0);
	return out;
}

static int spawn_one(const char *program, const char *arg, struct hf_process *p, struct hf_err *err)
{
	const char *const argv[] = { program, arg, NULL };
	struct hf_process_spec spec = { .argv = argv };

	return hf_process_spawn(&spec, p, err);
}

TEST(status_and_signal)
{
	const char *const argv[] = { "sh", "-c", "exit 7", NULL };
	struct hf_process_spec spec = { .argv = argv };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_process_exit e;
	char buf[HF_PROCESS_EXIT_TEXT];

	CHECK_EQ(hf_process_spawn(&spec, &p, NULL), 0);
	e = wait_end(&p);
	CHECK_STR(hf_process_exit_format(&e, buf, sizeof(buf)), "exited with status 7");
	CHECK_EQ(p.pidfd, -1);

	CHECK_EQ(spawn_one("sleep", "100", &p, NULL), 0);
	CHECK_EQ(hf_process_reap(&p, &e), HF_PROCESS_RUNNING);
	CHECK_EQ(hf_process_kill(&p, SIGKILL), 0);
	wait_readable(p.pidfd);
	CHECK_EQ(hf_process_kill(&p, SIGKILL), 0);
	e = wait_end(&p);
	CHECK(e.is_signal);
	CHECK_STR(hf_process_exit_format(&e, buf, sizeof(buf)), "killed by signal 9 (Killed)");
	CHECK_EQ(hf_process_kill(&p, SIGKILL), 0);
}

TEST(own_pid_in_the_environment)
{
	static const char *const set[] = { "HF_TEST_PID=stale", "HF_TEST_OTHER=kept", NULL };
	struct hf_process_fd fds[1];
	struct hf_process_spec spec = { .env_set = set, .env_pid = "HF_TEST_PID" };
	struct hf_process p = HF_PROCESS_NONE;
	const char *const argv[] = { "true", NULL };
	struct hf_err err;

	CHECK_EQ(setenv("HF_TEST_PID", "older", 1), 0);
	CHECK_STR(output_of("test $HF_TEST_PID = $$ && echo $HF_TEST_OTHER"
			    " && grep -zc ^HF_TEST_PID= /proc/$$/environ",
			    spec, fds, 0),
		  "kept\n1\n");
	CHECK_STR(getenv("HF_TEST_PID"), "older");
	CHECK_EQ(unsetenv("HF_TEST_PID"), 0);

	spec.argv = argv;
	spec.env_pid = "A_NAME_OF_MORE_THAN_THIRTY_ONE_LETTERS";
	CHECK_EQ(hf_process_spawn(&spec, &p, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "has more than 31 letters");
}

TEST(programs_that_cannot_be_run)
{
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_err err;

	CHECK_EQ(spawn_one("no-such-program-here", NULL, &p, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "no program 'no-such-program-here' in PATH (");
	CHECK_EQ(spawn_one("", NULL, &p, &err), -ENOENT);
	CHECK_EQ(spawn_one("/no/such/program", NULL, &p, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "'/no/such/program': cannot be executed: No such file");
	CHECK_EQ(spawn_one("/etc/passwd", NULL, &p, &err), -EACCES);
	CHECK_EQ(spawn_one("/dev", NULL, &p, &err), -EACCES);
	CHECK_EQ(p.pid, -1);
	CHECK_EQ(p.pidfd, -1);
	/* No zombie stayed behind. */
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
	CHECK_EQ(errno, ECHILD);
}

TEST(a_descriptor_that_is_not_open)
{
	const char *const argv[] = { "true", NULL };
	struct hf_process_fd fds[] = { { 777, 5 } };
	struct hf_process_spec spec = { .argv = argv, .fds = fds, .n_fds = 1 };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_err err;

	CHECK_EQ(hf_process_spawn(&spec, &p, &err), -EBADF);
	CHECK_CONTAINS(err.text, "descriptors");
	spec.n_fds = HF_PROCESS_FDS_MAX + 1;
	CHECK_EQ(hf_process_spawn(&spec, &p, &err), -EINVAL);
}

TEST(only_the_named_descriptors_are_inherited)
{
	struct hf_process_fd fds[4];
	int leak = open("/dev/zero", O_RDONLY); /* on purpose without O_CLOEXEC */
	int a = open("/dev/null", O_RDONLY | O_CLOEXEC),
	    b = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	const char *out;
	char want[64];

	/* Each takes the other's number: a copy in place would lose one of them. */
	fds[0] = (struct hf_process_fd){ a, b };
	fds[1] = (struct hf_process_fd){ b, a };
	(void)snprintf(want, sizeof(want), "/dev/zero\n/dev/null\n");
	out = output_of(
		"for f in /proc/$$/fd/*; do n=${f##*/}; [ $n -gt 2 ] && readlink $f; done; true",
		(struct hf_process_spec){ 0 }, fds, 2);
	CHECK(a < b);
	CHECK_STR(out, want);
	hf_fd_close(&leak);
	hf_fd_close(&a);
	hf_fd_close(&b);
}

TEST(environment)
{
	static const char *const set[] = { "HF_TEST_A=new", "HF_TEST_B=two words", NULL };
	static const char *const unset[] = { "HF_TEST_C", NULL };
	struct hf_process_spec spec = { .env_set = set, .env_unset = unset };
	struct hf_process_fd fds[1];

	CHECK_EQ(setenv("HF_TEST_A", "old", 1), 0);
	CHECK_EQ(setenv("HF_TEST_AB", "kept", 1), 0);
	CHECK_EQ(setenv("HF_TEST_C", "gone", 1), 0);
	CHECK_STR(
		output_of("echo $HF_TEST_A,$HF_TEST_B,${HF_TEST_C-none},$HF_TEST_AB", spec, fds, 0),
		"new,two words,none,kept\n");
}

/* As some programs that start others leave it; signal() refuses to, so it takes a system call. */
static void ignore_libc_signal(void)
{
	const unsigned long action[16] = { (unsigned long)(uintptr_t)SIG_IGN };

	CHECK_EQ(syscall(SYS_rt_sigaction, 32, action, NULL, (size_t)(_NSIG - 1) / 8), 0);
}

TEST(signals_are_back_to_default)
{
	sigset_t set, before;
	struct hf_process_fd fds[1];
	const char *out;

	CHECK_EQ(sigemptyset(&set), 0);
	CHECK_EQ(sigaddset(&set, SIGUSR1), 0);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, &before), 0);
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	ignore_libc_signal();
	out = output_of("grep -E 'Sig(Blk|Ign)' /proc/self/status", (struct hf_process_spec){ 0 },
			fds, 0);
	CHECK_STR(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	CHECK_EQ(sigprocmask(SIG_SETMASK, NULL, &set), 0);
	CHECK_EQ(sigismember(&set, SIGUSR1), 1);
	CHECK_EQ(sigprocmask(SIG_SETMASK, &before, NULL), 0);
	CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
}

/* The middle process spawns a child that holds a pipe open, and is then killed outright: the pipe
 * ends only if the child dies too. */
TEST(the_child_dies_with_its_parent)
{
	int pipe_fds[2], status;
	char byte;
	pid_t middle;

	CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	middle = fork();
	if (middle == 0) {
		const char *const argv[] = { "sh", "-c", "echo; exec sleep 1000", NULL };
		struct hf_process_fd fds[] = { { pipe_fds[1], 1 } };
		struct hf_process_spec spec = { .argv = argv, .fds = fds, .n_fds = 1 };
		struct hf_process p;

		if (hf_process_spawn(&spec, &p, NULL) < 0)
			_exit(1);
		for (;;)
			(void)pause();
	}
	hf_fd_close(&pipe_fds[1]);
	CHECK_EQ(read(pipe_fds[0], &byte, 1), 1);
	CHECK_EQ(kill(middle, SIGKILL), 0);
	CHECK_EQ(waitpid(middle, &status, 0), middle);
	wait_readable(pipe_fds[0]);
	CHECK_EQ(read(pipe_fds[0], &byte, 1), 0);
	hf_fd_close(&pipe_fds[0]);
}

TEST(a_child_may_have_a_process_group_of_its_own)
{
	const char *const argv[] = { "sleep", "1000", NULL };

	for (int is_own = 0; is_own < 2; is_own++) {
		struct hf_process_spec spec = { .argv = argv, .is_own_group = is_own };
		struct hf_process p;

		CHECK_EQ(hf_process_spawn(&spec, &p, NULL), 0);
		CHECK_EQ(getpgid(p.pid), is_own ? p.pid : getpgrp());
		CHECK_EQ(hf_process_kill(&p, SIGKILL), 0);
		CHECK(wait_end(&p).is_signal);
		hf_process_close(&p);
	}
}

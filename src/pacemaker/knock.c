/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pacemaker/knock.h"

#include <assert.h>
#include <crm/common/ipc.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fd.h"

static __attribute__((noreturn)) void knock(const char *server)
{
	crm_ipc_t *ipc;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGALRM, SIG_DFL);
	(void)alarm(HF_KNOCK_LIMIT_S);
	ipc = crm_ipc_new(server, 0);
	_exit(ipc && crm_ipc_connect(ipc) ? 0 : 1);
}

static void stop(struct hf_knock *k)
{
	hf_watch_remove(&k->watch);
	hf_fd_close(&k->pidfd);
	k->pid = 0;
}

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_knock *k = ctx;
	int status = -1;
	pid_t pid = waitpid(k->pid, &status, WNOHANG);

	if (pid == 0)
		return;
	stop(k);
	k->answer(k->ctx, pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int hf_knock_begin(struct hf_knock *k, struct hf_loop *loop, const char *server,
		   hf_knock_answer *answer, void *ctx)
{
	int r;

	assert(!k->pid);
	k->answer = answer;
	k->ctx = ctx;
	k->pid = fork();
	if (k->pid == 0)
		knock(server);
	if (k->pid < 0) {
		k->pid = 0;
		return -errno;
	}
	k->pidfd = (int)syscall(SYS_pidfd_open, k->pid, 0);
	r = k->pidfd < 0 ? -errno : 0;
	if (!r)
		r = hf_watch_add(&k->watch, loop, k->pidfd, HF_PRIORITY_CONTROL, wanted, ready, k);
	if (r < 0)
		hf_knock_end(k);
	return r;
}

bool hf_knock_is_under_way(const struct hf_knock *k)
{
	return k->pid != 0;
}

void hf_knock_end(struct hf_knock *k)
{
	pid_t pid = k->pid;

	if (!pid)
		return;
	stop(k);
	(void)kill(pid, SIGKILL); /* ours, and not reaped yet */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

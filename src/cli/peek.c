/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/peek.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/procstat.h"

#define LOCK_NAME "lock" /* of sys/rundir.c, which writes the process id into it */
#define PROC_PATH 64

static bool read_text(const char *path, char *ret, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, ret, size - 1);
	(void)close(fd);
	ret[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* Its number may have gone to another program since. */
static bool is_called(pid_t pid, const char *beginning)
{
	char path[PROC_PATH];
	char comm[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	return read_text(path, comm, sizeof(comm)) &&
	       strncmp(comm, beginning, strlen(beginning)) == 0;
}

static pid_t find_qemu(pid_t keeper)
{
	char path[PROC_PATH];
	char text[4096];
	char *at = text;
	long pid;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)keeper, (int)keeper);
	if (!read_text(path, text, sizeof(text)))
		return 0;
	while ((pid = strtol(at, &at, 10)) > 0)
		if (pid <= INT_MAX && is_called((pid_t)pid, "qemu"))
			return (pid_t)pid;
	return 0;
}

static char state_of(pid_t pid)
{
	struct hf_procstat s;

	return pid > 0 && hf_procstat_read(pid, 0, &s) == 0 ? s.state : 'Z';
}

static bool is_stopped(char state)
{
	return state == 'T' || state == 't';
}

static const char *condition(char state)
{
	return is_stopped(state)              ? "is stopped (by a signal or a debugger)"
	       : state == 'D'                 ? "waits in the kernel, for storage mostly"
	       : state == 'Z' || state == 'X' ? "has died"
					      : "lives";
}

static void tell(struct hf_peek *p, char state, char qemu_state)
{
	size_t n = (size_t)snprintf(p->text, sizeof(p->text), "its process %d %s", (int)p->pid,
				    condition(state));

	if (p->qemu_pid && n < sizeof(p->text))
		(void)snprintf(p->text + n, sizeof(p->text) - n, "; its QEMU, %d, %s",
			       (int)p->qemu_pid, condition(qemu_state));
}

void hf_peek_at(const char *run_dir, const char *name, struct hf_peek *ret)
{
	char path[PATH_MAX];
	char text[32] = "";
	char state, qemu_state;
	long pid;

	*ret = (struct hf_peek){ .text = "its process is not known" };
	(void)snprintf(path, sizeof(path), "%s/%s/%s", run_dir, name, LOCK_NAME);
	if (!read_text(path, text, sizeof(text)))
		return;
	pid = strtol(text, NULL, 10);
	if (pid <= 0 || pid > INT_MAX || !is_called((pid_t)pid, "holdfast"))
		return;
	ret->pid = (pid_t)pid;
	ret->qemu_pid = find_qemu(ret->pid);
	state = state_of(ret->pid);
	qemu_state = state_of(ret->qemu_pid);
	ret->is_stopped = is_stopped(state);
	ret->is_waiting = state == 'D';
	ret->is_qemu_stopped = is_stopped(qemu_state);
	ret->is_qemu_waiting = qemu_state == 'D';
	tell(ret, state, qemu_state);
}

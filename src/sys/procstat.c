/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/procstat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "sys/fd.h"

static int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, text, size - 1);
	r = n < 0 ? -errno : 0; /* ESRCH: it has ended since */
	hf_fd_close(&fd);
	if (r == 0)
		text[n] = '\0';
	return r;
}

/* The number that is field @number of proc(5). @text begins behind the second one, which is a name in
 * brackets and may contain anything. */
static int number_at(const char *text, int number, uint64_t *ret)
{
	const char *at = text;
	char *end;

	for (int field = 3; at && field < number; field++)
		at = strchr(at + 1, ' ');
	if (!at || at[1] < '0' || at[1] > '9')
		return -EPROTO;
	errno = 0;
	*ret = strtoull(at + 1, &end, 10);
	return errno || (*end != ' ' && *end != '\n') ? -EPROTO : 0;
}

static int parse(const char *text, struct hf_procstat *ret)
{
	const char *at = strrchr(text, ')');
	struct hf_procstat s = { .state = at && at[1] ? at[2] : '\0' };
	uint64_t ppid = 0;
	int r = s.state ? number_at(at + 1, 4, &ppid) : -EPROTO;

	if (r == 0)
		r = number_at(at + 1, 22, &s.start_ticks);
	if (r == 0)
		r = number_at(at + 1, 48, &s.args_start);
	if (r == 0)
		r = number_at(at + 1, 49, &s.args_end);
	s.ppid = (pid_t)ppid;
	if (r == 0)
		*ret = s;
	return r;
}

int hf_procstat_read(pid_t pid, pid_t tid, struct hf_procstat *ret)
{
	char path[64], text[2048];
	int r;

	if (tid)
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	else
		(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	r = read_text(path, text, sizeof(text));
	return r < 0 ? r : parse(text, ret);
}

int hf_procstat_boot_id(char ret[HF_BOOT_ID_TEXT])
{
	char text[HF_BOOT_ID_TEXT + 1] = "";
	int r = read_text("/proc/sys/kernel/random/boot_id", text, sizeof(text));

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	if (strlen(text) != HF_BOOT_ID_TEXT - 1)
		return -EPROTO;
	memcpy(ret, text, HF_BOOT_ID_TEXT);
	return 0;
}

/* Its first thread may have ended before the others: then it is a zombie that works. */
static bool has_other_threads(pid_t pid)
{
	char path[32];
	unsigned int n = 0;
	struct dirent *e;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && n < 2 && (e = readdir(dir)))
		n += e->d_name[0] != '.';
	if (dir)
		(void)closedir(dir);
	return n > 1;
}

bool hf_procstat_is_alive(pid_t pid, uint64_t start_ticks)
{
	struct hf_procstat s = { .state = 'X' };

	if (pid <= 0 || hf_procstat_read(pid, 0, &s) < 0 || s.start_ticks != start_ticks)
		return false;
	return (s.state != 'Z' && s.state != 'X') || has_other_threads(pid);
}

int hf_procstat_open(pid_t pid, uint64_t start_ticks)
{
	int fd = pid > 0 ? pidfd_open(pid, 0) : -1;

	if (fd < 0)
		return pid > 0 ? -errno : -ESRCH;
	if (hf_procstat_is_alive(pid, start_ticks))
		return fd;
	hf_fd_close(&fd);
	return -ESRCH;
}

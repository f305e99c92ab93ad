/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/ocf-processes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/procstat.h"
#include "sys/rundir.h"

#define KEEPER "holdfast-keeper" /* 15 letters: all that /proc/PID/comm has room for */
#define PROGRAM "holdfast"
#define HOLDER "holdfast-memory" /* keeps the memory of an instance, and can do nothing else */
#define KTHREADD 2 /* where that is its name: elsewhere, in a container, it is anybody */
#define PROCESSES_MAX 262144

enum owner {
	OWNER_NONE, /* it holds no lock: is just starting, or dying */
	OWNER_THIS,
	OWNER_OTHER, /* of another VM, of a frozen instance, of another run folder */
};

struct seen {
	pid_t pid, ppid;
	uint64_t start_ticks;
	char state;
	char name[16];
	enum owner owner; /* of a keeper */
};

struct scan {
	const char *run_dir, *vm;
	struct seen *list;
	size_t n;
	struct stat lock; /* st_ino 0: there is none */
	pid_t kthreadd; /* 0: there is none */
};

/* ---- /proc ---- */

static ssize_t read_file(pid_t pid, const char *name, char *ret, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, ret, size - 1);
	(void)close(fd);
	ret[n > 0 ? n : 0] = '\0';
	return n;
}

static void read_name(pid_t pid, char ret[16])
{
	(void)!read_file(pid, "comm", ret, 16);
	ret[strcspn(ret, "\n")] = '\0';
}

/* 1: it lives; 0: not any more, or it is the kernel's; -errno: that cannot be told. */
static int take_one(const struct scan *s, pid_t pid, struct seen *ret)
{
	struct hf_procstat st;
	int r = hf_procstat_read(pid, 0, &st);

	if (r < 0)
		return r == -ESRCH ? 0 : r;
	if (s->kthreadd && (pid == s->kthreadd || st.ppid == s->kthreadd))
		return 0;
	if ((st.state == 'Z' || st.state == 'X') && !hf_procstat_is_alive(pid, st.start_ticks))
		return 0;
	*ret = (struct seen){
		.pid = pid, .ppid = st.ppid, .start_ticks = st.start_ticks, .state = st.state
	};
	read_name(pid, ret->name);
	return 1;
}

/* The next number in /proc; 0: there is none; -errno. */
static long next_pid(DIR *dir)
{
	struct dirent *e;
	long pid;

	do {
		errno = 0;
		e = readdir(dir);
		pid = e ? strtol(e->d_name, NULL, 10) : -errno;
	} while (e && (pid <= 0 || pid > INT_MAX));
	return pid;
}

static int take_each(struct scan *s, DIR *dir)
{
	long pid;
	int r = 0;

	while (r >= 0 && (pid = next_pid(dir)) > 0) {
		if (s->n == PROCESSES_MAX)
			return -EOVERFLOW;
		r = take_one(s, (pid_t)pid, &s->list[s->n]);
		s->n += r > 0;
	}
	if (r < 0 || pid < 0)
		return r < 0 ? r : (int)pid;
	return s->n ? 0 : -ENOENT; /* not even who asks: that is no /proc */
}

static int explain(int r, struct hf_err *err)
{
	if (r < 0)
		hf_err_set(err, "/proc cannot be read: %s", strerror(-r));
	return r;
}

/* All, or nothing is proven by who is missing. */
static int take_all(struct scan *s, struct hf_err *err)
{
	DIR *dir = opendir("/proc");
	char name[16] = "";
	int r;

	if (!dir)
		return explain(-errno, err);
	read_name(KTHREADD, name);
	s->kthreadd = strcmp(name, "kthreadd") == 0 ? KTHREADD : 0;
	s->list = calloc(PROCESSES_MAX, sizeof(*s->list));
	r = s->list ? take_each(s, dir) : -ENOMEM;
	(void)closedir(dir);
	return explain(r, err);
}

/* ---- whose a keeper is ---- */

static bool is_lock(int dir_fd, const char *name)
{
	static const char end[] = "/lock";
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target));

	return n >= (ssize_t)sizeof(end) - 1 &&
	       memcmp(target + n - (sizeof(end) - 1), end, sizeof(end) - 1) == 0;
}

static enum owner owner_of(const struct scan *s, pid_t pid)
{
	enum owner owner = OWNER_NONE;
	struct dirent *e;
	struct stat st;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && owner != OWNER_THIS && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || !is_lock(dirfd(dir), e->d_name) ||
		    fstatat(dirfd(dir), e->d_name, &st, 0) < 0)
			continue;
		owner = s->lock.st_ino == st.st_ino && s->lock.st_dev == st.st_dev ? OWNER_THIS
										   : OWNER_OTHER;
	}
	if (dir)
		(void)closedir(dir);
	return owner;
}

/* ---- whose anything else is ---- */

/* Eight hex digits, and maybe a small number behind them. */
static bool is_id(const char *at)
{
	size_t n = strspn(at, "0123456789abcdef");

	if (n != 8)
		return false;
	at += n;
	if (*at == '-')
		for (n = 0, at++; n < 3 && isdigit((unsigned char)*at); n++)
			at++;
	return !*at || *at == '\n' || *at == '/';
}

/* "holdfast-NAME-ID" is the cgroup that NAME's keeper has made. */
static bool is_in_cgroup_of(pid_t pid, const char *vm)
{
	char text[4096], wanted[128];
	const char *at = text;
	size_t n = (size_t)snprintf(wanted, sizeof(wanted), "/holdfast-%s-", vm);

	if (read_file(pid, "cgroup", text, sizeof(text)) <= 0)
		return false;
	while ((at = strstr(at, wanted))) {
		at += n;
		if (is_id(at))
			return true;
	}
	return false;
}

static bool is_disk_process_of(const struct seen *p, const char *vm)
{
	char text[8192], wanted[80];
	size_t n = (size_t)snprintf(wanted, sizeof(wanted), "vm=%s", vm);
	ssize_t size = read_file(p->pid, "cmdline", text, sizeof(text));
	bool is_ours = false, is_plugins = false;

	for (const char *at = text; size > 0 && at < text + size; at += strlen(at) + 1) {
		is_ours |= strlen(at) == n && strcmp(at, wanted) == 0;
		is_plugins |= strstr(at, "holdfast-plugin") != NULL;
	}
	return is_ours && is_plugins;
}

static bool is_keeper(const struct seen *p)
{
	return strcmp(p->name, KEEPER) == 0;
}

/* `holdfast run NAME`, which becomes one, or a keeper that has not taken its lock yet. */
static bool is_keeper_of(pid_t pid, const char *vm)
{
	char text[1024];
	ssize_t size = read_file(pid, "cmdline", text, sizeof(text));
	const char *verb = text + strlen(text) + 1;
	const char *name;

	if (size <= 0 || verb >= text + size)
		return false;
	name = verb + strlen(verb) + 1;
	return name < text + size && strcmp(name, vm) == 0 &&
	       (strcmp(verb, "run") == 0 || strcmp(verb, "standby") == 0);
}

static const struct seen *keeper_above(const struct scan *s, const struct seen *p)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i].pid == p->ppid && is_keeper(&s->list[i]))
			return &s->list[i];
	return NULL;
}

static bool is_of_vm(const struct scan *s, const struct seen *p)
{
	const struct seen *keeper;

	if (is_keeper(p) || strcmp(p->name, PROGRAM) == 0)
		return p->owner == OWNER_THIS ||
		       (p->owner == OWNER_NONE && is_keeper_of(p->pid, s->vm));
	if (strcmp(p->name, HOLDER) == 0)
		return false;
	keeper = keeper_above(s, p);
	if (keeper && keeper->owner != OWNER_NONE)
		return keeper->owner == OWNER_THIS;
	return is_in_cgroup_of(p->pid, s->vm) || is_disk_process_of(p, s->vm);
}

/* ---- all in all ---- */

static void add(struct hf_ocf_processes *ret, const struct seen *p, bool is_keeper)
{
	struct hf_ocf_process *to = &ret->p[ret->n];

	if (ret->n == HF_OCF_PROCESSES_MAX)
		return;
	ret->n++;
	*to = (struct hf_ocf_process){ .pid = p->pid,
				       .start_ticks = p->start_ticks,
				       .state = p->state,
				       .is_keeper = is_keeper };
	memcpy(to->name, p->name, sizeof(to->name));
}

static bool is_in(const struct hf_ocf_processes *p, pid_t pid)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->p[i].pid == pid)
			return true;
	return false;
}

/* What its last keeper has noted, too: who is dying cannot be known by its arguments any more. */
static void add_noted(const struct scan *s, struct hf_ocf_processes *ret)
{
	uint64_t ticks = 0;
	pid_t pid = 0;

	for (int which = 0; which < HF_RUNDIR_CHILD_COUNT; which++) {
		if (hf_rundir_noted(s->run_dir, s->vm, (enum hf_rundir_child)which, &pid, &ticks) <
		    0)
			continue;
		for (size_t i = 0; i < s->n; i++)
			if (s->list[i].pid == pid && s->list[i].start_ticks == ticks &&
			    !is_in(ret, pid))
				add(ret, &s->list[i], false);
	}
}

static void sort_out(struct scan *s, struct hf_ocf_processes *ret)
{
	for (size_t i = 0; i < s->n; i++)
		if (is_keeper(&s->list[i]))
			s->list[i].owner = owner_of(s, s->list[i].pid);
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i].owner == OWNER_THIS)
			add(ret, &s->list[i], true);
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i].owner != OWNER_THIS && is_of_vm(s, &s->list[i]))
			add(ret, &s->list[i], false);
	add_noted(s, ret);
}

int hf_ocf_processes_look(const char *run_dir, const char *vm, struct hf_ocf_processes *ret,
			  struct hf_err *err)
{
	struct scan s = { .run_dir = run_dir, .vm = vm };
	char path[PATH_MAX];
	int r;

	*ret = (struct hf_ocf_processes){ .n = 0 };
	(void)snprintf(path, sizeof(path), "%s/%s/lock", run_dir, vm);
	if (stat(path, &s.lock) < 0)
		s.lock.st_ino = 0;
	r = take_all(&s, err);
	if (!r)
		sort_out(&s, ret);
	free(s.list);
	return r;
}

void hf_ocf_processes_again(struct hf_ocf_processes *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (hf_procstat_is_alive(p->p[i].pid, p->p[i].start_ticks))
			p->p[n++] = p->p[i];
	p->n = n;
}

/* ---- their end ---- */

/* Where a process's cgroup of the first version's freezer is mounted: beside our own. */
static int find_freezer(pid_t pid, char ret[PATH_MAX])
{
	char own[PATH_MAX], mine[4096], text[4096];
	char *rel, *here;

	if (hf_cgroup_own(/* is_v1= */ true, own) < 0 ||
	    read_file(getpid(), "cgroup", mine, sizeof(mine)) <= 0 ||
	    read_file(pid, "cgroup", text, sizeof(text)) <= 0)
		return -ENOTSUP;
	here = strstr(mine, ":freezer:");
	rel = strstr(text, ":freezer:");
	if (!here || !rel)
		return -ENOTSUP;
	here += strlen(":freezer:");
	rel += strlen(":freezer:");
	here[strcspn(here, "\n")] = '\0';
	rel[strcspn(rel, "\n")] = '\0';
	if (strlen(own) >= strlen(here) && here[1])
		own[strlen(own) - strlen(here)] = '\0';
	return snprintf(ret, PATH_MAX, "%s%s", own, rel) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* A frozen process has SIGKILL and does not die of it there. */
static void thaw(pid_t pid)
{
	struct hf_cgroup c = HF_CGROUP_NONE;
	struct hf_err err;
	char path[PATH_MAX];

	if (find_freezer(pid, path) < 0 || !strstr(path, "/holdfast-") ||
	    hf_cgroup_find(path, &c, &err) < 0)
		return;
	if (hf_cgroup_has_thread(&c, pid) == 1)
		(void)!hf_cgroup_kill(&c);
	hf_cgroup_close(&c, /* is_removed= */ false);
}

static void kill_one(const struct hf_ocf_process *p)
{
	int fd = hf_procstat_open(p->pid, p->start_ticks);

	if (fd < 0)
		return;
	(void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	hf_fd_close(&fd);
}

void hf_ocf_processes_kill(const struct hf_ocf_processes *p)
{
	bool has_keeper = p->n && p->p[0].is_keeper;

	for (size_t i = 0; i < p->n; i++) {
		if (!has_keeper || p->p[i].is_keeper)
			kill_one(&p->p[i]);
		if (!has_keeper)
			thaw(p->p[i].pid);
	}
}

static const char *condition(char state)
{
	if (state == 'D')
		return "waits in the kernel, for storage mostly";
	if (state == 'Z')
		return "is dead but for what waits in the kernel, for storage mostly";
	return state == 'T' || state == 't' ? "is stopped, by a signal or a debugger" : "lives";
}

const char *hf_ocf_processes_text(const struct hf_ocf_processes *p, char *buf, size_t size)
{
	*buf = '\0';
	if (p->n)
		(void)snprintf(buf, size, "%s, process %d, %s", p->p[0].name, (int)p->p[0].pid,
			       condition(p->p[0].state));
	return buf;
}

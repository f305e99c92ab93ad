/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. Nothing that holdfast believes of itself counts here: each check asks the kernel
 * about the processes by number and start time, and says in words what it saw.
 *
 * A file of a process is looked at through /proc/PID/fd with statx(AT_STATX_DONT_SYNC), which does not ask
 * a server: storage that hangs must not hang the proof. Memory files are told by their file system, which
 * is the kernel's own and has nothing else: their names could be anyone's.
 *
 * Devices of the host are harmless by a list, not by default: what is not on it might be a disk (SCSI
 * generic), a network (vhost) or do DMA of its own (VFIO), all of which go on while a process is frozen.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/procstat.h"
#include "vm/frozen-internal.h"

enum { P1 = 1, P2 = 2, P3 = 4 };

#define FDINFO_BYTES 2048
#define TUN_MINOR 200 /* of MISC_MAJOR: Documentation/admin-guide/devices.txt */
#define MISC_MAJOR 10

/* ---- one descriptor of a process ---- */

struct open_file {
	int number;
	struct statx st;
	bool is_writable;
	char link[256]; /* what /proc shows: for people, and to know VFIO by */
	char ifname[16]; /* of a TAP descriptor; "" */
};

/* File systems of nothing but memory files. */
struct memory_devices {
	dev_t dev[3];
	unsigned int n;
};

static void find_memory_devices(struct memory_devices *m)
{
	static const unsigned int flags[] = { 0, MFD_HUGETLB | MFD_HUGE_2MB,
					      MFD_HUGETLB | MFD_HUGE_1GB };

	m->n = 0;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		int fd = memfd_create("holdfast-probe", MFD_CLOEXEC | flags[i]);
		struct stat st;

		if (fd >= 0 && fstat(fd, &st) == 0)
			m->dev[m->n++] = st.st_dev;
		hf_fd_close(&fd);
	}
}

static bool is_memory(const struct memory_devices *m, const struct statx *st)
{
	for (unsigned int i = 0; i < m->n; i++)
		if (m->dev[i] == makedev(st->stx_dev_major, st->stx_dev_minor))
			return true;
	return false;
}

/* The value of a line "key:\tvalue" of fdinfo; NULL. */
static const char *info_value(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && line[n] == ':')
			return line + n + 1 + strspn(line + n + 1, "\t ");
	}
	return NULL;
}

static int read_info(pid_t pid, struct open_file *f)
{
	char path[64], text[FDINFO_BYTES];
	const char *flags, *iff;
	unsigned long mode;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, f->number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	hf_fd_close(&fd);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	flags = info_value(text, "flags");
	if (!flags)
		return -EPROTO;
	mode = strtoul(flags, NULL, 8);
	f->is_writable = !(mode & O_PATH) && (mode & O_ACCMODE) != O_RDONLY;
	iff = info_value(text, "iff");
	(void)snprintf(f->ifname, sizeof(f->ifname), "%.*s", iff ? (int)strcspn(iff, "\n") : 0,
		       iff ? iff : "");
	return 0;
}

/* -ENOENT: it has been closed meanwhile. */
static int look_at(pid_t pid, int number, struct open_file *f)
{
	char path[64];
	ssize_t n;

	*f = (struct open_file){ .number = number };
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, number);
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &f->st) < 0)
		return -errno;
	n = readlink(path, f->link, sizeof(f->link) - 1);
	if (n < 0)
		return -errno;
	f->link[n] = '\0';
	return read_info(pid, f);
}

/* Calls @look for each descriptor until that returns other than 0, which is passed on. 0; -errno. */
static int each_file(pid_t pid, int (*look)(const struct open_file *f, void *ctx), void *ctx)
{
	struct open_file f;
	struct dirent *e;
	char path[32];
	DIR *dir;
	int r = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (r == 0 && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		r = look_at(pid, (int)strtol(e->d_name, NULL, 10), &f);
		if (r == -ENOENT)
			r = 0;
		else if (r == 0)
			r = look(&f, ctx);
	}
	(void)closedir(dir);
	return r;
}

static bool is_tap(const struct open_file *f)
{
	return S_ISCHR(f->st.stx_mode) && f->st.stx_rdev_major == MISC_MAJOR &&
	       f->st.stx_rdev_minor == TUN_MINOR;
}

/* devices.txt: null, zero, full, random, urandom; tty, console, ptmx; pseudo terminals; kvm. */
static bool is_harmless_device(const struct open_file *f)
{
	static const struct {
		unsigned int major, first, last;
	} known[] = { { 1, 3, 3 }, { 1, 5, 5 },     { 1, 7, 9 },
		      { 5, 0, 2 }, { 136, 0, ~0u }, { MISC_MAJOR, 232, 232 } };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (f->st.stx_rdev_major == known[i].major &&
		    f->st.stx_rdev_minor >= known[i].first && f->st.stx_rdev_minor <= known[i].last)
			return true;
	return f->st.stx_rdev_major > 136 && f->st.stx_rdev_major <= 143; /* more terminals */
}

static bool is_own_device(const struct open_file *f)
{
	if (S_ISCHR(f->st.stx_mode))
		return f->is_writable && !is_harmless_device(f);
	return !(f->st.stx_mode & S_IFMT) && strstr(f->link, "[vfio");
}

struct search {
	struct memory_devices memory;
	bool has_but;
	struct stat but;
	bool are_devices, are_files; /* what is looked for */
	char found[HF_CERTIFICATE_TEXT / 2];
};

static bool is_own_file(const struct open_file *f, const struct search *s)
{
	if (!f->is_writable || is_memory(&s->memory, &f->st))
		return false;
	if (s->has_but && f->st.stx_ino == s->but.st_ino &&
	    makedev(f->st.stx_dev_major, f->st.stx_dev_minor) == s->but.st_dev)
		return false;
	return S_ISBLK(f->st.stx_mode) || (S_ISREG(f->st.stx_mode) && f->number > STDERR_FILENO);
}

static int look_for_own(const struct open_file *f, void *ctx)
{
	struct search *s = ctx;

	if (!(s->are_files && is_own_file(f, s)) && !(s->are_devices && is_own_device(f)))
		return 0;
	(void)snprintf(s->found, sizeof(s->found), "%.*s (descriptor %d)",
		       (int)sizeof(s->found) - 32, f->link, f->number);
	return 1;
}

int hf_process_has_own_files(pid_t pid, int but_fd, char *ret, size_t size)
{
	struct search s = { .are_devices = true, .are_files = true };
	int r;

	s.has_but = but_fd >= 0;
	if (s.has_but && fstat(but_fd, &s.but) < 0)
		return -errno;
	find_memory_devices(&s.memory);
	r = each_file(pid, look_for_own, &s);
	if (r == 1)
		(void)snprintf(ret, size, "%s", s.found);
	return r;
}

/* ---- the proof ---- */

struct proof {
	struct hf_certificate *c;
	unsigned int refuted;
	bool is_of_this_boot; /* nothing of an earlier one lives, whatever has its number now */
};

/* @property: which of them rest on it. Each fits: HF_CERTIFICATE_CHECKS_MAX is more than there are. */
__attribute__((format(printf, 5, 6))) static void note(struct proof *p, unsigned int property,
						       const char *what, bool is_ok,
						       const char *format, ...)
{
	struct hf_certificate_check *check;
	struct timespec now;
	va_list ap;

	if (!is_ok)
		p->refuted |= property;
	if (p->c->n_checks == HF_CERTIFICATE_CHECKS_MAX)
		return;
	check = &p->c->check[p->c->n_checks++];
	(void)clock_gettime(CLOCK_REALTIME, &now);
	*check = (struct hf_certificate_check){ .is_ok = is_ok };
	check->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	(void)snprintf(check->what, sizeof(check->what), "%s", what);
	va_start(ap, format);
	(void)vsnprintf(check->text, sizeof(check->text), format, ap);
	va_end(ap);
}

static bool is_alive(const struct proof *p, const struct hf_process_id *who)
{
	return p->is_of_this_boot && hf_process_id_is_alive(who);
}

/* The cgroup of the certificate, if that is still the one: another VM's may have its path by now. */
static int find_cgroup(const struct hf_certificate *c, struct hf_cgroup *ret, struct hf_err *err)
{
	int r = hf_cgroup_find(c->cgroup, ret, err);

	if (r < 0 || !c->cgroup_id || ret->id == c->cgroup_id)
		return r;
	hf_err_set(err, "the cgroup %.150s has been removed and made anew", c->cgroup);
	hf_cgroup_close(ret, false);
	return -ENOENT;
}

/* Every thread is in the cgroup, and none runs. Return: their number; -errno with @why. */
static int check_threads(pid_t pid, const struct hf_cgroup *cgroup, char *why, size_t size)
{
	struct hf_procstat s = { .state = '?' };
	struct dirent *e;
	char path[32];
	int n = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && n >= 0 && (e = readdir(dir))) {
		pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);

		if (tid <= 0)
			continue;
		n++;
		if (hf_procstat_read(pid, tid, &s) < 0 || strchr("ZX", s.state))
			continue;
		if (s.state == 'R' || hf_cgroup_has_thread(cgroup, tid) != 1) {
			(void)snprintf(why, size, "thread %d %s", (int)tid,
				       s.state == 'R' ? "runs" : "is not in the cgroup");
			n = -EBUSY;
		}
	}
	if (dir)
		(void)closedir(dir);
	if (n == 0)
		(void)snprintf(why, size, "it has no threads that can be seen");
	return n > 0 ? n : n < 0 ? n : -ESRCH;
}

static void check_frozen(struct proof *p)
{
	const struct hf_certificate *c = p->c;
	struct hf_cgroup cgroup = HF_CGROUP_NONE;
	struct hf_err err = { "" };
	char why[64] = "";
	int n, frozen;

	if (!*c->cgroup || find_cgroup(c, &cgroup, &err) < 0) {
		note(p, P1, "qemu-cgroup-frozen", false, "QEMU (process %d) lives, and %.200s",
		     (int)c->qemu.pid, *c->cgroup ? err.text : "has no cgroup of its own");
		return;
	}
	n = check_threads(c->qemu.pid, &cgroup, why, sizeof(why));
	frozen = hf_cgroup_is_frozen(
		&cgroup); /* after: then it was so while the threads were seen */
	note(p, P1, "qemu-cgroup-frozen", frozen == 1, "%.200s %s", c->cgroup,
	     frozen == 1   ? "is frozen"
	     : frozen == 0 ? "is not frozen"
			   : "cannot be read");
	if (n > 0)
		note(p, P1, "qemu-threads-stopped", true,
		     "%d thread%s of QEMU (process %d) stand%s still in it", n, n == 1 ? "" : "s",
		     (int)c->qemu.pid, n == 1 ? "s" : "");
	else
		note(p, P1, "qemu-threads-stopped", false, "of QEMU (process %d), %s",
		     (int)c->qemu.pid, why);
	hf_cgroup_close(&cgroup, false);
}

static void check_own(struct proof *p)
{
	struct search files = { .are_files = true }, devices = { .are_devices = true };
	int r;

	find_memory_devices(&files.memory);
	r = each_file(p->c->qemu.pid, look_for_own, &files);
	note(p, P2, "qemu-own-files", r == 0, "%s%s",
	     r == 0   ? "QEMU has no file and no block device open for writing"
	     : r == 1 ? "QEMU has something open for writing: "
		      : "QEMU's open files cannot be seen: ",
	     r == 1  ? files.found
	     : r < 0 ? strerror(-r)
		     : "");
	r = each_file(p->c->qemu.pid, look_for_own, &devices);
	note(p, P2 | P3, "qemu-own-devices", r == 0, "%s%s",
	     r == 0   ? "QEMU has no TAP interface and no other device of the host"
	     : r == 1 ? "QEMU has a device of the host: "
		      : "QEMU's open files cannot be seen: ",
	     r == 1  ? devices.found
	     : r < 0 ? strerror(-r)
		     : "");
}

/* What it had started outlives it. */
static void check_left_over(struct proof *p)
{
	const struct hf_certificate *c = p->c;
	struct hf_cgroup cgroup = HF_CGROUP_NONE;
	struct hf_err err = { "" };
	bool is_quiet;

	if (!*c->cgroup || !p->is_of_this_boot || find_cgroup(c, &cgroup, &err) < 0)
		return; /* a cgroup that is gone had nobody in it */
	is_quiet = hf_cgroup_is_empty(&cgroup) == 1 || hf_cgroup_is_frozen(&cgroup) == 1;
	note(p, P1 | P2, "qemu-cgroup-quiet", is_quiet, "%.200s: %s", c->cgroup,
	     is_quiet ? "nothing of what QEMU had started runs"
		      : "what QEMU had started still runs");
	hf_cgroup_close(&cgroup, false);
}

static void check_qemu(struct proof *p)
{
	const struct hf_process_id *qemu = &p->c->qemu;

	if (is_alive(p, qemu)) {
		check_frozen(p);
		check_own(p);
		return;
	}
	note(p, P1, "qemu-dead", true,
	     qemu->pid ? "QEMU (process %d) has ended" : "there was no QEMU", (int)qemu->pid);
	check_left_over(p);
}

static void check_disks(struct proof *p)
{
	const struct hf_process_id *disks = &p->c->disks;
	bool is_left = is_alive(p, disks);

	if (disks->pid)
		note(p, P2, "disk-process-dead", !is_left, "the disk process (%d) %s",
		     (int)disks->pid, is_left ? "lives" : "has ended: its images are closed");
	else
		note(p, P2, "disk-process-dead", true, "there was no disk process");
}

struct tap_search {
	const struct hf_certificate *c;
	char found[16];
};

static int look_for_tap(const struct open_file *f, void *ctx)
{
	struct tap_search *s = ctx;

	for (unsigned int i = 0; is_tap(f) && i < s->c->n_nets; i++) {
		if (strcmp(f->ifname, s->c->net[i]) != 0)
			continue;
		memcpy(s->found, f->ifname, sizeof(s->found));
		return 1;
	}
	return 0;
}

static void check_taps_of(struct proof *p, const struct hf_process_id *who, const char *name,
			  bool *is_closed)
{
	struct tap_search s = { .c = p->c };
	int r = is_alive(p, who) ? each_file(who->pid, look_for_tap, &s) : 0;

	if (r == 0 || r == -ESRCH)
		return;
	*is_closed = false;
	if (r == 1)
		note(p, P3, "taps-closed", false, "%s (process %d) holds the TAP interface '%s'",
		     name, (int)who->pid, s.found);
	else
		note(p, P3, "taps-closed", false, "the open files of %s (process %d): %s", name,
		     (int)who->pid, strerror(-r));
}

static void check_taps(struct proof *p)
{
	const struct hf_process_id self = hf_process_id_of(getpid());
	bool is_closed = true;

	if (p->c->n_nets == 0) {
		note(p, P3, "taps-closed", true, "it had no TAP interface of ours");
		return;
	}
	check_taps_of(p, &p->c->keeper, "its keeper", &is_closed);
	if (p->c->keeper.pid != self.pid)
		check_taps_of(p, &self, "this program", &is_closed);
	check_taps_of(p, &p->c->disks, "its disk process", &is_closed);
	if (is_closed)
		note(p, P3, "taps-closed", true,
		     "none of its processes holds one of its %u TAP interfaces", p->c->n_nets);
}

unsigned int hf_frozen_verify(struct hf_certificate *c)
{
	struct proof p = { .c = c, .is_of_this_boot = hf_frozen_is_of_this_boot(c) };

	c->n_checks = 0;
	check_qemu(&p);
	check_disks(&p);
	check_taps(&p);
	return p.refuted;
}

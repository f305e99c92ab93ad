/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/rundir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "sys/fd.h"
#include "sys/procstat.h"

#define LOCK_NAME "lock"
#define BACKLOG 16
/* Each attempt can only be lost to another keeper that closed or opened in just this moment. */
#define LOCK_ATTEMPTS 8

static bool is_valid_id(const char *id)
{
	return strlen(id) == HF_RUNDIR_ID && strspn(id, "0123456789abcdef") == HF_RUNDIR_ID;
}

/* NAME@ID: no VM can have such a name. */
static bool is_instance(const char *name)
{
	const char *at = strchr(name, '@');
	char vm[HF_NAME_MAX + 1];

	if (!at || at - name > HF_NAME_MAX || !is_valid_id(at + 1))
		return false;
	(void)snprintf(vm, sizeof(vm), "%.*s", (int)(at - name), name);
	return hf_is_valid_name(vm);
}

static int set_path(const char *run_dir, const char *name, struct hf_rundir *r, struct hf_err *err)
{
	if (!hf_is_valid_name(name) && strcmp(name, HF_RUNDIR_HOST) != 0 && !is_instance(name)) {
		hf_err_set(err,
			   "'%.64s' is not a name: 1 to %d of letters, digits, '.', '_' and '-'",
			   name, HF_NAME_MAX);
		return -EINVAL;
	}
	if ((size_t)snprintf(r->path, sizeof(r->path), "%s/%s", run_dir, name) < sizeof(r->path))
		return 0;
	hf_err_set(err, "the path of the run directory is longer than %d bytes", PATH_MAX - 1);
	return -ENAMETOOLONG;
}

/* The folder decides who may talk to the keeper: it must be ours alone. */
static int check_dir(const struct hf_rundir *r, struct hf_err *err)
{
	struct stat st;

	if (fstat(r->dir_fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid()) {
		hf_err_set(err, "%.300s belongs to user %u, not to user %u who runs this", r->path,
			   st.st_uid, geteuid());
		return -EPERM;
	}
	if (r->gid && (fchown(r->dir_fd, (uid_t)-1, r->gid) < 0 || fchmod(r->dir_fd, 0750) < 0))
		return -errno;
	if (!r->gid && st.st_mode & 077 && fchmod(r->dir_fd, 0700) < 0)
		return -errno;
	return 0;
}

static unsigned int group_of(const char *run_dir)
{
	struct stat st;

	return stat(run_dir, &st) == 0 && geteuid() == 0 ? st.st_gid : 0;
}

static int open_dir(const char *run_dir, struct hf_rundir *r, struct hf_err *err)
{
	int e;

	if ((mkdir(run_dir, 0755) < 0 && errno != EEXIST) ||
	    (mkdir(r->path, 0700) < 0 && errno != EEXIST)) {
		e = errno;
		hf_err_set(err, "cannot make the folder %.300s: %s", r->path, strerror(e));
		return -e;
	}
	r->gid = group_of(run_dir);
	hf_fd_close(&r->dir_fd);
	r->dir_fd = open(r->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r->dir_fd < 0) {
		e = errno;
		hf_err_set(err, "cannot open the folder %.300s: %s", r->path, strerror(e));
		return -e;
	}
	return check_dir(r, err);
}

/* "the keeper for 'web'", or the host's daemon. */
static const char *whose(const char *name, char *buf, size_t size)
{
	if (strcmp(name, HF_RUNDIR_HOST) == 0)
		(void)snprintf(buf, size, "holdfastd");
	else
		(void)snprintf(buf, size, "a keeper for '%s'", name);
	return buf;
}

static void name_holder(const struct hf_rundir *r, struct hf_err *err)
{
	const char *name = strrchr(r->path, '/') + 1;
	char who[HF_NAME_MAX + 32];
	char text[32] = "";
	long pid;

	if (pread(r->lock_fd, text, sizeof(text) - 1, 0) < 0)
		text[0] = '\0';
	pid = strtol(text, NULL, 10);
	if (pid > 0)
		hf_err_set(err, "%s is running already (pid %ld, %.300s)",
			   whose(name, who, sizeof(who)), pid, r->path);
	else
		hf_err_set(err, "%s is starting or ending right now (%.300s)",
			   whose(name, who, sizeof(who)), r->path);
}

/* 0: held and still the file of that name; 1: the holder removed it meanwhile, try again. */
static int lock_once(struct hf_rundir *r, struct hf_err *err)
{
	struct stat held, named;

	r->lock_fd = openat(r->dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (r->lock_fd < 0)
		return errno == ENOENT ? 1 : -errno;
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;
		name_holder(r, err);
		return -EBUSY;
	}
	if (fstat(r->lock_fd, &held) < 0)
		return -errno;
	if (fstatat(r->dir_fd, LOCK_NAME, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 1 : -errno;
	return held.st_ino == named.st_ino && held.st_dev == named.st_dev ? 0 : 1;
}

static int write_pid(int fd)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) < 0)
		return -errno;
	return pwrite(fd, text, (size_t)n, 0) == n ? 0 : -EIO;
}

static int lock_dir(const char *run_dir, struct hf_rundir *r, struct hf_err *err)
{
	int e = -EBUSY;

	for (int i = 0; i < LOCK_ATTEMPTS; i++) {
		hf_err_set(err, "the lock in %.300s keeps changing hands", r->path);
		e = open_dir(run_dir, r, err);
		if (e < 0)
			return e;
		e = lock_once(r, err);
		if (e <= 0)
			break;
		hf_fd_close(&r->lock_fd);
		e = -EBUSY;
	}
	if (e == 0)
		e = write_pid(r->lock_fd);
	if (e < 0 && e != -EBUSY)
		hf_err_set(err, "cannot lock %.300s: %s", r->path, strerror(-e));
	return e;
}

/* Lets go without removing anything: it is not ours. */
static void drop(struct hf_rundir *r)
{
	hf_fd_close(&r->listen_fd);
	hf_fd_close(&r->lock_fd);
	hf_fd_close(&r->dir_fd);
}

int hf_rundir_open(const char *run_dir, const char *name, struct hf_rundir *ret, struct hf_err *err)
{
	struct hf_rundir r = HF_RUNDIR_NONE;
	int e = set_path(run_dir, name, &r, err);

	if (e < 0)
		return e;
	e = lock_dir(run_dir, &r, err);
	if (e < 0) {
		drop(&r);
		return e;
	}
	hf_err_set(err, "%s", "");
	*ret = r;
	return 0;
}

static int set_socket_path(const struct hf_rundir *r, struct sockaddr_un *sun, struct hf_err *err)
{
	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if ((size_t)snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/" HF_RUNDIR_SOCKET,
			     r->path) < sizeof(sun->sun_path))
		return 0;
	hf_err_set(err,
		   "the path %.300s/" HF_RUNDIR_SOCKET
		   " is longer than the %zu bytes that a unix socket may have: choose a shorter "
		   "run directory or name",
		   r->path, sizeof(sun->sun_path) - 1);
	return -ENAMETOOLONG;
}

static int permit_group(const struct hf_rundir *r)
{
	if (fchownat(r->dir_fd, HF_RUNDIR_SOCKET, (uid_t)-1, r->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	return fchmodat(r->dir_fd, HF_RUNDIR_SOCKET, 0660, 0);
}

/* unix(7): the mode of the file is the mode of the socket, less the umask; so it is set before
 * bind() and there is no moment in which others could connect. */
static int bind_control(struct hf_rundir *r, const struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if ((unlinkat(r->dir_fd, HF_RUNDIR_SOCKET, 0) < 0 && errno != ENOENT) ||
	    fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 ||
	    (r->gid && permit_group(r) < 0) || listen(fd, BACKLOG) < 0) {
		int e = errno;

		hf_fd_close(&fd);
		return -e;
	}
	r->listen_fd = fd;
	return 0;
}

int hf_rundir_listen(struct hf_rundir *r, struct hf_err *err)
{
	struct sockaddr_un sun;
	int e;

	assert(r->lock_fd >= 0);
	assert(r->listen_fd < 0);
	e = set_socket_path(r, &sun, err);
	if (e < 0)
		return e;
	e = bind_control(r, &sun);
	if (e < 0)
		hf_err_set(err, "cannot make the control socket %s: %s", sun.sun_path,
			   strerror(-e));
	return e;
}

static int explain_connect(int error, const char *name, const struct sockaddr_un *sun,
			   struct hf_err *err)
{
	bool is_host = strcmp(name, HF_RUNDIR_HOST) == 0;

	if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) {
		hf_err_set(err, "no %s%s%s is running on this host (nothing answers at %s)",
			   is_host ? "holdfastd" : "keeper for '", is_host ? "" : name,
			   is_host ? "" : "'", sun->sun_path);
		return -ESRCH;
	}
	hf_err_set(err, "cannot talk to %s at %s: %s", is_host ? "holdfastd" : "the keeper",
		   sun->sun_path, strerror(error));
	return -error;
}

int hf_rundir_connect(const char *run_dir, const char *name, int *ret_fd, struct hf_err *err)
{
	struct hf_rundir r = HF_RUNDIR_NONE;
	struct sockaddr_un sun;
	int fd, e = set_path(run_dir, name, &r, err);

	if (e == 0)
		e = set_socket_path(&r, &sun, err);
	if (e < 0)
		return e;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return explain_connect(errno, name, &sun, err);
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		e = errno;
		hf_fd_close(&fd);
		return explain_connect(e, name, &sun, err);
	}
	*ret_fd = fd;
	return 0;
}

int hf_rundir_rename(struct hf_rundir *r, const char *id, struct hf_err *err)
{
	char path[sizeof(r->path)];
	int n = snprintf(path, sizeof(path), "%s@%s", r->path, id);

	if (!is_valid_id(id) || n < 0 || (size_t)n >= sizeof(path)) {
		hf_err_set(err, "'%.64s' is not the id of an instance, or its path is too long",
			   id);
		return -EINVAL;
	}
	if (rename(r->path, path) < 0) {
		n = -errno;
		hf_err_set(err, "%.200s cannot become %.200s: %s", r->path, path, strerror(-n));
		return n;
	}
	memcpy(r->path, path, sizeof(path));
	return 0;
}

/* The lock file goes last but one, and while it is still locked: who opens it now finds, once the
 * lock is free, that it is no longer the file of that name. */
/* ---- children ---- */

static const char *const notes[HF_RUNDIR_CHILD_COUNT] = { "qemu.pid", "disks.pid" };

static int write_note(int dir_fd, const char *name, const char *text)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t n = (ssize_t)strlen(text);
	int r = fd < 0 ? -errno : 0;

	if (!r && write(fd, text, (size_t)n) != n)
		r = -EIO;
	hf_fd_close(&fd);
	return r;
}

int hf_rundir_note(const struct hf_rundir *r, enum hf_rundir_child which, pid_t pid)
{
	struct hf_procstat s;
	char text[64];
	int e = hf_procstat_read(pid, 0, &s);

	if (e < 0)
		return e;
	(void)snprintf(text, sizeof(text), "%d %" PRIu64 "\n", (int)pid, s.start_ticks);
	e = write_note(r->dir_fd, "pid.new", text);
	if (!e && renameat(r->dir_fd, "pid.new", r->dir_fd, notes[which]) < 0)
		e = -errno;
	return e;
}

static int read_note(int dir_fd, enum hf_rundir_child which, pid_t *ret_pid, uint64_t *ret_ticks)
{
	int fd = openat(dir_fd, notes[which], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[64], *end;
	ssize_t n = fd < 0 ? -errno : read(fd, text, sizeof(text) - 1);
	long pid;

	hf_fd_close(&fd);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	pid = strtol(text, &end, 10);
	if (pid <= 0 || pid > INT_MAX || *end != ' ')
		return -EBADMSG;
	*ret_pid = (pid_t)pid;
	*ret_ticks = strtoull(end, NULL, 10);
	return 0;
}

int hf_rundir_noted(const char *run_dir, const char *name, enum hf_rundir_child which,
		    pid_t *ret_pid, uint64_t *ret_start_ticks)
{
	char path[PATH_MAX];
	int dir_fd, r;

	(void)snprintf(path, sizeof(path), "%s/%s", run_dir, name);
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	r = read_note(dir_fd, which, ret_pid, ret_start_ticks);
	hf_fd_close(&dir_fd);
	return r;
}

static void remove_notes(struct hf_rundir *r)
{
	uint64_t ticks = 0;
	pid_t pid = 0;

	for (int i = 0; i < HF_RUNDIR_CHILD_COUNT; i++)
		if (read_note(r->dir_fd, (enum hf_rundir_child)i, &pid, &ticks) < 0 ||
		    !hf_procstat_is_alive(pid, ticks))
			(void)unlinkat(r->dir_fd, notes[i], 0);
}

void hf_rundir_close(struct hf_rundir *r)
{
	if (r->lock_fd >= 0) {
		remove_notes(r);
		(void)unlinkat(r->dir_fd, HF_RUNDIR_SOCKET, 0);
		(void)unlinkat(r->dir_fd, LOCK_NAME, 0);
		(void)rmdir(r->path);
	}
	drop(r);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. /proc/self/mountinfo says where the hierarchy is mounted and which part of it,
 * /proc/self/cgroup where this process is in it: together the folder in which ours is made. Both are
 * tables of the kernel's, with one line for each hierarchy.
 *
 * v2: "1" into cgroup.freeze, and cgroup.events says "frozen 1" once every thread stands. A frozen
 * process dies of SIGKILL like any other. v1: "FROZEN" into freezer.state, which says FREEZING until it
 * is so. A frozen process keeps a SIGKILL for later, so there the kill is followed by a thaw: with that
 * signal pending no thread reaches its program, or a guest, again (the kernel looks at signals before it
 * returns to either).
 */
#include "sys/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/fd.h"

#define NUMBERS_MAX 100 /* cgroups of one name */
#define KILL_ROUNDS_MAX 16 /* processes that were born during the one before */
#define TEXT_MAX 4096
#define SWEEP_AGE_S 60

/* ---- where ---- */

/* Of a line "N:controllers:path": v2 has number 0 and no controllers. Cuts the line at its end. */
static const char *path_in_line(char *line, bool is_v1)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path || path[1] != '/')
		return NULL;
	*path++ = '\0';
	path[strcspn(path, "\n")] = '\0';
	if (!is_v1)
		return strcmp(line, "0:") == 0 ? path : NULL;
	for (char *word, *rest = controllers + 1; (word = strsep(&rest, ","));)
		if (strcmp(word, "freezer") == 0)
			return path;
	return NULL;
}

static int own_path(bool is_v1, char ret[PATH_MAX])
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	const char *path = NULL;
	char *line = NULL;
	size_t size = 0;
	int r = -ENOTSUP;

	if (!f)
		return -ENOTSUP;
	while (r == -ENOTSUP && getline(&line, &size, f) > 0) {
		path = path_in_line(line, is_v1);
		if (path)
			r = snprintf(ret, PATH_MAX, "%s", path) < PATH_MAX ? 0 : -ENAMETOOLONG;
	}
	free(line);
	(void)fclose(f);
	return r;
}

/* Blanks and backslashes of a path are told as \040 and the like. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
		    from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static bool has_option(char *options, const char *name)
{
	char *word;

	while ((word = strsep(&options, ",")))
		if (strcmp(word, name) == 0)
			return true;
	return false;
}

/* proc(5): id parent major:minor ROOT MOUNTPOINT options [tags...] - TYPE source SUPER-OPTIONS. True: it
 * is the hierarchy, and @ret_root and @ret_point point into the line. */
static bool parse_mount(char *line, bool is_v1, char **ret_root, char **ret_point)
{
	char *tail = strstr(line, " - "), *rest = line, *type;

	if (!tail)
		return false;
	*tail = '\0';
	tail += 3;
	tail[strcspn(tail, "\n")] = '\0';
	for (int i = 0; i < 3; i++)
		(void)strsep(&rest, " ");
	*ret_root = strsep(&rest, " ");
	*ret_point = strsep(&rest, " ");
	type = strsep(&tail, " ");
	(void)strsep(&tail, " ");
	if (!*ret_root || !*ret_point || !tail)
		return false;
	unescape(*ret_root);
	unescape(*ret_point);
	return is_v1 ? strcmp(type, "cgroup") == 0 && has_option(tail, "freezer")
		     : strcmp(type, "cgroup2") == 0;
}

/* @path of the hierarchy, under a mount of the part @root of it. */
static int join(const char *root, const char *point, const char *path, char ret[PATH_MAX])
{
	size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (strncmp(root, path, n) != 0 || (path[n] != '/' && path[n] != '\0'))
		return -ENOTSUP;
	path += n;
	if (strcmp(path, "/") == 0)
		path = "";
	return snprintf(ret, PATH_MAX, "%s%s", point, path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int hf_cgroup_own(bool is_v1, char ret[PATH_MAX])
{
	char path[PATH_MAX], *line = NULL, *root, *point;
	size_t size = 0;
	int r = own_path(is_v1, path);
	FILE *f;

	if (r < 0)
		return r;
	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -ENOTSUP;
	r = -ENOTSUP;
	while (r == -ENOTSUP && getline(&line, &size, f) > 0)
		if (parse_mount(line, is_v1, &root, &point))
			r = join(root, point, path, ret);
	free(line);
	(void)fclose(f);
	return r;
}

/* ---- its files ---- */

static int write_file(const struct hf_cgroup *c, const char *name, const char *text)
{
	int fd = openat(c->dir_fd, name, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	hf_fd_close(&fd);
	return r;
}

static int read_fd(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return 0;
}

static int read_file(const struct hf_cgroup *c, const char *name, char *text, size_t size)
{
	int fd = openat(c->dir_fd, name, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = read_fd(fd, text, size);
	hf_fd_close(&fd);
	return r;
}

static bool has_file(const struct hf_cgroup *c, const char *name)
{
	return faccessat(c->dir_fd, name, F_OK, 0) == 0;
}

/* The number behind "key " at the start of a line of cgroup.events. */
static int event_value(const struct hf_cgroup *c, const char *key)
{
	char text[TEXT_MAX];
	size_t n = strlen(key);
	int r = read_fd(c->events_fd, text, sizeof(text));

	if (r < 0)
		return r;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return line[n + 1] == '1';
	}
	return -EPROTO;
}

/* ---- making, finding, letting go ---- */

static int open_dir(const char *path, struct hf_cgroup *ret, struct hf_err *err)
{
	struct hf_cgroup c = HF_CGROUP_NONE;
	struct stat st = { 0 };
	int r = 0;

	c.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c.dir_fd < 0 || fstat(c.dir_fd, &st) < 0)
		r = -errno;
	if (r == 0 && has_file(&c, "cgroup.freeze")) {
		c.events_fd = openat(c.dir_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
		r = c.events_fd < 0 ? -errno : 0;
	} else if (r == 0) {
		c.is_v1 = has_file(&c, "freezer.state");
		r = c.is_v1 ? 0 : -ENOTSUP;
	}
	if (r == 0) {
		c.procs_fd = openat(c.dir_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
		r = c.procs_fd < 0 ? -errno : 0;
	}
	if (r < 0) {
		hf_err_set(err, "the cgroup %.300s cannot be used: %s", path,
			   r == -ENOTSUP ? "it cannot be frozen" : strerror(-r));
		hf_cgroup_close(&c, false);
		return r;
	}
	(void)snprintf(c.path, sizeof(c.path), "%s", path);
	c.id = st.st_ino;
	*ret = c;
	return 0;
}

/* One that is left over is removed and made anew: who still has it open must not take ours for his. */
static int make_dir(const char *folder, const char *name, char path[PATH_MAX])
{
	for (int i = 1; i <= NUMBERS_MAX; i++) {
		char number[16] = "";

		if (i > 1)
			(void)snprintf(number, sizeof(number), "-%d", i);
		if (snprintf(path, PATH_MAX, "%s/%s%s", folder, name, number) >= PATH_MAX)
			return -ENAMETOOLONG;
		if (rmdir(path) < 0 && errno != ENOENT && errno != EBUSY)
			return -errno;
		if (mkdir(path, 0755) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int hf_cgroup_open_in(const char *folder, const char *name, struct hf_cgroup *ret,
		      struct hf_err *err)
{
	char path[PATH_MAX];
	int r = make_dir(folder, name, path);

	if (r < 0) {
		hf_err_set(err, "cannot make a cgroup '%.100s' in %.300s: %s", name, folder,
			   strerror(-r));
		return r;
	}
	r = open_dir(path, ret, err);
	if (r < 0)
		(void)rmdir(path);
	return r;
}

int hf_cgroup_open(const char *name, struct hf_cgroup *ret, struct hf_err *err)
{
	struct hf_err why[2] = { { "" }, { "" } };
	char folder[PATH_MAX];

	for (int is_v1 = 0; is_v1 <= 1; is_v1++) {
		if (hf_cgroup_own(is_v1, folder) < 0)
			hf_err_set(&why[is_v1], "it is not mounted");
		else if (hf_cgroup_open_in(folder, name, ret, &why[is_v1]) == 0)
			return 0;
	}
	hf_err_set(err,
		   "there is no cgroup in which QEMU can be frozen: v2: %.200s; v1 freezer: %.200s",
		   why[0].text, why[1].text);
	return -ENOTSUP;
}

int hf_cgroup_find(const char *path, struct hf_cgroup *ret, struct hf_err *err)
{
	return open_dir(path, ret, err);
}

void hf_cgroup_close(struct hf_cgroup *c, bool is_removed)
{
	if (c->dir_fd >= 0 && is_removed && hf_cgroup_is_empty(c) == 1)
		(void)rmdir(c->path);
	hf_fd_close(&c->procs_fd);
	hf_fd_close(&c->events_fd);
	hf_fd_close(&c->dir_fd);
	*c = HF_CGROUP_NONE;
}

/* ---- what is done to those in it ---- */

int hf_cgroup_procs_fd(const struct hf_cgroup *c)
{
	return c->procs_fd;
}

int hf_cgroup_freeze(const struct hf_cgroup *c, bool is_wanted)
{
	if (c->is_v1)
		return write_file(c, "freezer.state", is_wanted ? "FROZEN" : "THAWED");
	return write_file(c, "cgroup.freeze", is_wanted ? "1" : "0");
}

int hf_cgroup_is_frozen(const struct hf_cgroup *c)
{
	char text[TEXT_MAX];
	int r;

	if (!c->is_v1)
		return event_value(c, "frozen");
	r = read_file(c, "freezer.state", text, sizeof(text));
	return r < 0 ? r : strcmp(text, "FROZEN\n") == 0;
}

/* A signal to each process; more than fit are for the next round. Return: how many. */
static int signal_all(const struct hf_cgroup *c)
{
	char text[16 * TEXT_MAX], *rest = text, *word;
	int r = read_file(c, "cgroup.procs", text, sizeof(text)), n = 0;

	while (r == 0 && (word = strsep(&rest, "\n"))) {
		pid_t pid = (pid_t)strtol(word, NULL, 10);

		if (!rest) /* the last one may be cut off */
			break;
		if (pid > 0 && kill(pid, SIGKILL) == 0)
			n++;
	}
	return r < 0 ? r : n;
}

int hf_cgroup_kill(const struct hf_cgroup *c)
{
	int r = c->is_v1 ? -ENOENT : write_file(c, "cgroup.kill", "1"), before = 0;

	if (r != -ENOENT) /* Linux 5.14 */
		return r;
	for (int i = 0; i < KILL_ROUNDS_MAX; i++) {
		r = signal_all(c);
		if (r <= 0 || (i > 0 && r <= before))
			break;
		before = r;
	}
	if (r >= 0 && c->is_v1)
		r = write_file(c, "freezer.state", "THAWED");
	return r < 0 ? r : 0;
}

int hf_cgroup_has_thread(const struct hf_cgroup *c, pid_t tid)
{
	int fd = openat(c->dir_fd, c->is_v1 ? "tasks" : "cgroup.threads", O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
	char line[32];
	int r = 0;

	if (!f) {
		r = -errno;
		hf_fd_close(&fd);
		return r;
	}
	while (r == 0 && fgets(line, sizeof(line), f))
		r = strtol(line, NULL, 10) == tid;
	if (r == 0 && ferror(f))
		r = -EIO;
	(void)fclose(f);
	return r;
}

int hf_cgroup_is_empty(const struct hf_cgroup *c)
{
	char text[TEXT_MAX];
	int r;

	if (!c->is_v1) {
		r = event_value(c, "populated");
		return r < 0 ? r : !r;
	}
	text[0] = '\0';
	r = read_file(c, "cgroup.procs", text, sizeof(text));
	return r < 0 ? r : text[0] == '\0';
}

static void sweep_in(const char *folder, const char *prefix)
{
	DIR *dir = opendir(folder);
	const struct dirent *e;
	struct stat st;

	while (dir && (e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
		    fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISDIR(st.st_mode) && time(NULL) - st.st_ctime > SWEEP_AGE_S)
			(void)unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR); /* if it is empty */
	if (dir)
		(void)closedir(dir);
}

void hf_cgroup_sweep(const char *prefix)
{
	char folder[PATH_MAX];

	for (int is_v1 = 0; is_v1 < 2; is_v1++)
		if (hf_cgroup_own(is_v1, folder) == 0)
			sweep_in(folder, prefix);
}

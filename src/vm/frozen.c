/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. A folder with the name of an id is an instance. It comes into being complete: made
 * under a name that is none, with its certificate in it, and renamed. It ends the same way: when all but
 * the certificate is gone it is renamed to what is no instance, and then removed. So a crash leaves an
 * instance or none, and at most garbage with a dot in front, which the next change clears away.
 */
#include "vm/frozen.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/words.h"
#include "sys/fd.h"
#include "vm/frozen-internal.h"

#define FOLDER "frozen"
#define NEW_PREFIX ".new-"
#define OLD_PREFIX ".old-"
#define NEW_SUFFIX ".new"
#define GARBAGE_AGE_S 3600 /* a younger new one may be another keeper's at work */

/* ---- paths ---- */

static bool is_id(const char *name, size_t len)
{
	return strlen(name) == len && strspn(name, "0123456789abcdef") == len;
}

int hf_frozen_join(const char *dir, const char *name, char ret[PATH_MAX], struct hf_err *err)
{
	if (snprintf(ret, PATH_MAX, "%s/%s", dir, name) < PATH_MAX)
		return 0;
	hf_err_set(err, "the path %.300s/%.100s is longer than %d bytes", dir, name, PATH_MAX - 1);
	return -ENAMETOOLONG;
}

int hf_frozen_path(const char *state_dir, const char *vm, const char *id, char ret[PATH_MAX],
		   struct hf_err *err)
{
	char name[HF_NAME_MAX + sizeof("/" FOLDER "/") + HF_CERTIFICATE_ID];

	if (!hf_is_valid_name(vm) || (id && !is_id(id, HF_CERTIFICATE_ID))) {
		hf_err_set(err, "'%.64s@%.16s' does not name a frozen instance", vm, id ? id : "");
		return -EINVAL;
	}
	(void)snprintf(name, sizeof(name), "%s/" FOLDER "%s%s", vm, id ? "/" : "", id ? id : "");
	return hf_frozen_join(state_dir, name, ret, err);
}

static int fail(int r, const char *what, const char *path, struct hf_err *err)
{
	hf_err_set(err, "cannot %s %.300s: %s", what, path, strerror(-r));
	return r;
}

int hf_frozen_sync_dir(const char *path, struct hf_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0 || fsync(fd) < 0)
		r = fail(-errno, "sync", path, err);
	hf_fd_close(&fd);
	return r;
}

/* The folder that has @path in it. */
static int sync_parent(const char *path, struct hf_err *err)
{
	char parent[PATH_MAX];
	char *slash;

	(void)snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (!slash)
		return hf_frozen_sync_dir(".", err);
	slash[slash == parent] = '\0';
	return hf_frozen_sync_dir(parent, err);
}

/* A folder, durable if it was not there before. Its contents are guests' memory: nobody else's. */
static int make_dir(const char *path, mode_t mode, struct hf_err *err)
{
	if (mkdir(path, mode) == 0)
		return sync_parent(path, err);
	return errno == EEXIST ? 0 : fail(-errno, "make the folder", path, err);
}

static int make_parents(const char *state_dir, const char *vm, const char *folder,
			struct hf_err *err)
{
	char path[PATH_MAX];
	int r = make_dir(state_dir, 0755, err);

	if (r == 0)
		r = hf_frozen_join(state_dir, vm, path, err);
	if (r == 0)
		r = make_dir(path, 0700, err);
	return r < 0 ? r : make_dir(folder, 0700, err);
}

/* ---- what was left half made, or half removed ---- */

static int remove_dir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    unlinkat(dirfd(dir), e->d_name, 0) < 0)
			r = -errno;
	(void)closedir(dir);
	return r == 0 && rmdir(path) < 0 ? -errno : r;
}

static bool is_garbage(int dir_fd, const char *name)
{
	struct stat st;

	if (strncmp(name, OLD_PREFIX, strlen(OLD_PREFIX)) == 0)
		return true;
	return strncmp(name, NEW_PREFIX, strlen(NEW_PREFIX)) == 0 &&
	       fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_mtim.tv_sec < time(NULL) - GARBAGE_AGE_S;
}

static void clear_garbage(const char *folder)
{
	DIR *dir = opendir(folder);
	char path[PATH_MAX];
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (is_garbage(dirfd(dir), e->d_name) &&
		    hf_frozen_join(folder, e->d_name, path, NULL) == 0)
			(void)remove_dir(path);
	if (dir)
		(void)closedir(dir);
}

/* ---- writing ---- */

static int write_all(int fd, const void *data, size_t len)
{
	const uint8_t *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A whole new file @dir/@name, synced; not yet the folder. */
static int write_new(const char *dir, const char *name, const void *data, size_t len,
		     struct hf_err *err)
{
	char path[PATH_MAX];
	int r = hf_frozen_join(dir, name, path, err), fd;

	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(-errno, "make", path, err);
	r = write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0)
		return 0;
	(void)unlink(path); /* half of it would only take the space that is missing */
	return fail(r, "write", path, err);
}

/* Replaces a file as a whole. Two may do so at once: a daemon and a keeper that both finish a freeze. */
static int replace(const char *dir, const char *name, const void *data, size_t len,
		   struct hf_err *err)
{
	char new_name[64], from[PATH_MAX], to[PATH_MAX];
	int r;

	(void)snprintf(new_name, sizeof(new_name), "%s" NEW_SUFFIX "-%d", name, (int)gettid());
	r = write_new(dir, new_name, data, len, err);
	if (r == 0)
		r = hf_frozen_join(dir, new_name, from, err);
	if (r == 0)
		r = hf_frozen_join(dir, name, to, err);
	if (r == 0 && rename(from, to) < 0)
		r = fail(-errno, "replace", to, err);
	return r < 0 ? r : hf_frozen_sync_dir(dir, err);
}

/* A new instance: complete, or not there. */
static int add(const char *folder, const char *path, const char *id, const char *text,
	       struct hf_err *err)
{
	char name[sizeof(NEW_PREFIX) + HF_CERTIFICATE_ID], made[PATH_MAX];
	int r;

	(void)snprintf(name, sizeof(name), NEW_PREFIX "%s", id);
	r = hf_frozen_join(folder, name, made, err);
	if (r < 0)
		return r;
	(void)remove_dir(made); /* of an attempt that failed */
	if (mkdir(made, 0700) < 0)
		r = fail(-errno, "make the folder", made, err);
	if (r == 0)
		r = write_new(made, HF_FROZEN_CERTIFICATE, text, strlen(text), err);
	if (r == 0)
		r = hf_frozen_sync_dir(made, err);
	if (r == 0 && rename(made, path) < 0)
		r = fail(-errno, "make the folder", path, err);
	if (r < 0) {
		(void)remove_dir(made);
		return r;
	}
	return hf_frozen_sync_dir(folder, err);
}

static int write_text(const char *state_dir, const struct hf_certificate *c, const char *text,
		      struct hf_err *err)
{
	char folder[PATH_MAX], path[PATH_MAX];
	int r = hf_frozen_path(state_dir, c->vm, NULL, folder, err);

	if (r == 0)
		r = hf_frozen_path(state_dir, c->vm, c->id, path, err);
	if (r < 0)
		return r;
	if (access(path, F_OK) == 0)
		return replace(path, HF_FROZEN_CERTIFICATE, text, strlen(text), err);
	r = make_parents(state_dir, c->vm, folder, err);
	if (r < 0)
		return r;
	clear_garbage(folder);
	return add(folder, path, c->id, text, err);
}

int hf_frozen_write(const char *state_dir, const struct hf_certificate *c, struct hf_err *err)
{
	struct json_object *o = hf_certificate_encode(c);
	const char *text = NULL;
	int r;

	if (o)
		text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
								 JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text) {
		hf_err_set(err, "no memory for the certificate of '%s'", c->vm);
		r = -ENOMEM;
	} else if (strlen(text) > HF_CERTIFICATE_MAX_BYTES) {
		hf_err_set(
			err,
			"the certificate of '%s' has %zu bytes, with QEMU's arguments: at most %u",
			c->vm, strlen(text), HF_CERTIFICATE_MAX_BYTES);
		r = -E2BIG;
	} else {
		r = write_text(state_dir, c, text, err);
	}
	json_object_put(o);
	return r;
}

int hf_frozen_write_state(const char *state_dir, const char *vm, const char *id,
			  const uint8_t *state, size_t len, struct hf_err *err)
{
	char folder[PATH_MAX], path[PATH_MAX];
	int r = hf_frozen_path(state_dir, vm, NULL, folder, err);

	if (r == 0)
		r = hf_frozen_path(state_dir, vm, id, path, err);
	if (r == 0)
		r = make_parents(state_dir, vm, folder, err);
	if (r == 0)
		r = make_dir(path, 0700, err);
	return r < 0 ? r : replace(path, HF_FROZEN_STATE, state, len, err);
}

static bool may_be_dropped(const char *name)
{
	return strcmp(name, HF_FROZEN_STATE) == 0 || strstr(name, NEW_SUFFIX);
}

int hf_frozen_drop_state(const char *state_dir, const char *vm, const char *id, struct hf_err *err)
{
	char path[PATH_MAX];
	int r = hf_frozen_path(state_dir, vm, id, path, err);
	struct dirent *e;
	DIR *dir;

	if (r < 0)
		return r;
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : fail(-errno, "read the folder", path, err);
	while (r == 0 && (e = readdir(dir)))
		if (may_be_dropped(e->d_name) && unlinkat(dirfd(dir), e->d_name, 0) < 0 &&
		    errno != ENOENT)
			r = fail(-errno, "remove the device state in", path, err);
	(void)closedir(dir);
	return r;
}

/* ---- reading ---- */

static int read_text(const char *path, char **ret, size_t *ret_len, struct hf_err *err)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char *text = NULL;
	size_t len = 0;
	ssize_t n = 1;
	int r = 0;

	if (fd < 0)
		return fail(-errno, "open", path, err);
	text = malloc(HF_CERTIFICATE_MAX_BYTES + 1);
	if (!text)
		r = -ENOMEM;
	while (r == 0 && n > 0 && len <= HF_CERTIFICATE_MAX_BYTES) {
		n = read(fd, text + len, HF_CERTIFICATE_MAX_BYTES + 1 - len);
		if (n < 0)
			r = -errno;
		else
			len += (size_t)n;
	}
	hf_fd_close(&fd);
	if (r < 0) {
		free(text);
		return fail(r, "read", path, err);
	}
	*ret = text;
	*ret_len = len;
	return 0;
}

static int load(const char *vm, struct hf_frozen *f, struct hf_err *err)
{
	struct hf_certificate *c = &f->certificate;
	char path[PATH_MAX], *text = NULL;
	size_t len = 0;
	int r = hf_frozen_join(f->path, HF_FROZEN_CERTIFICATE, path, err);

	if (r == 0)
		r = read_text(path, &text, &len, err);
	if (r < 0)
		return r;
	r = hf_certificate_decode(path, text, len, c, err);
	free(text);
	if (r < 0 || (strcmp(c->vm, vm) == 0 && strcmp(c->id, f->id) == 0))
		return r;
	hf_err_set(err, "%.300s: it is of %s@%s", path, c->vm, c->id);
	hf_certificate_fini(c);
	return -EINVAL;
}

/* What cannot be read is an instance all the same. */
static int take(const char *folder, const char *vm, const char *id, struct hf_frozen *f,
		struct hf_err *err)
{
	struct hf_err trouble = { "" };
	struct stat st = { 0 };
	int r;

	memset(f, 0, sizeof(*f));
	memcpy(f->id, id, HF_CERTIFICATE_ID + 1);
	r = hf_frozen_join(folder, id, f->path, err);
	if (r < 0)
		return r;
	f->is_readable = load(vm, f, &trouble) == 0;
	if (f->is_readable) {
		f->time_ns = f->certificate.cause_time_ns;
		return 0;
	}
	memset(&f->certificate, 0, sizeof(f->certificate));
	memcpy(f->trouble, trouble.text, sizeof(f->trouble));
	if (stat(f->path, &st) == 0)
		f->time_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u +
			     (uint64_t)st.st_mtim.tv_nsec;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct hf_frozen *x = a, *y = b;

	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	return strcmp(x->id, y->id);
}

/* Names of the instances; -ENOENT: there is no folder. */
static int list_ids(const char *folder, char ids[HF_FROZEN_MAX][HF_CERTIFICATE_ID + 1],
		    size_t *ret_n, struct hf_err *err)
{
	DIR *dir = opendir(folder);
	struct dirent *e;
	int r = 0;

	*ret_n = 0;
	if (!dir)
		return errno == ENOENT ? 0 : fail(-errno, "read the folder", folder, err);
	for (errno = 0; r == 0 && (e = readdir(dir));) {
		if (!is_id(e->d_name, HF_CERTIFICATE_ID))
			continue;
		if (*ret_n == HF_FROZEN_MAX) {
			hf_err_set(err, "%.300s has more than %d frozen instances: release some",
				   folder, HF_FROZEN_MAX);
			r = -E2BIG;
		} else {
			memcpy(ids[(*ret_n)++], e->d_name, HF_CERTIFICATE_ID + 1);
		}
	}
	if (r == 0 && errno)
		r = fail(-errno, "read the folder", folder, err);
	(void)closedir(dir);
	return r;
}

int hf_frozen_list(const char *state_dir, const char *vm, struct hf_frozen **ret, size_t *ret_n,
		   struct hf_err *err)
{
	char ids[HF_FROZEN_MAX][HF_CERTIFICATE_ID + 1], folder[PATH_MAX];
	struct hf_frozen *list = NULL;
	size_t n = 0, i = 0;
	int r = hf_frozen_path(state_dir, vm, NULL, folder, err);

	if (r == 0)
		r = list_ids(folder, ids, &n, err);
	if (r == 0 && n > 0) {
		list = calloc(n, sizeof(*list));
		if (!list) {
			hf_err_set(err, "no memory for %zu frozen instances", n);
			r = -ENOMEM;
		}
	}
	for (; r == 0 && i < n; i++)
		r = take(folder, vm, ids[i], &list[i], err);
	if (r < 0) {
		hf_frozen_free(list, i);
		return r;
	}
	if (list)
		qsort(list, n, sizeof(*list), compare);
	*ret = list;
	*ret_n = n;
	return 0;
}

void hf_frozen_fini(struct hf_frozen *f)
{
	if (f->is_readable)
		hf_certificate_fini(&f->certificate);
	f->is_readable = false;
}

void hf_frozen_free(struct hf_frozen *list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		hf_frozen_fini(&list[i]);
	free(list);
}

/* "web@0123abcd, web@..." */
static void name_all(const char *vm, char ids[][HF_CERTIFICATE_ID + 1], size_t n, char *buf,
		     size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s@%s", i ? ", " : "", vm,
					 ids[i]);
}

/* Keeps those that begin with @id. */
static size_t choose(char ids[][HF_CERTIFICATE_ID + 1], size_t n, const char *id)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (strncmp(ids[i], id, strlen(id)) == 0)
			memmove(ids[kept++], ids[i], sizeof(ids[i]));
	return kept;
}

int hf_frozen_find(const char *state_dir, const char *vm, const char *id, struct hf_frozen *ret,
		   struct hf_err *err)
{
	char ids[HF_FROZEN_MAX][HF_CERTIFICATE_ID + 1], folder[PATH_MAX], all[300];
	size_t n = 0;
	int r = hf_frozen_path(state_dir, vm, NULL, folder, err);

	if (r == 0)
		r = list_ids(folder, ids, &n, err);
	if (r < 0)
		return r;
	if (id)
		n = choose(ids, n, id);
	if (n == 1)
		return take(folder, vm, ids[0], ret, err);
	if (n == 0) {
		hf_err_set(err, "there is no frozen instance '%s%s%.32s' on this host", vm,
			   id && *id ? "@" : "", id && *id ? id : "");
		return -ENOENT;
	}
	name_all(vm, ids, n, all, sizeof(all));
	hf_err_set(err, "'%s' has %zu frozen instances, say which: %s", vm, n, all);
	return -EEXIST;
}

int hf_frozen_vms(const char *state_dir, char ***ret, struct hf_err *err)
{
	char ids[HF_FROZEN_MAX][HF_CERTIFICATE_ID + 1], folder[PATH_MAX];
	char **vms = calloc(1, sizeof(*vms));
	DIR *dir = opendir(state_dir);
	struct dirent *e;
	int r = vms ? 0 : -ENOMEM;

	if (r == 0 && !dir && errno != ENOENT)
		r = fail(-errno, "read the folder", state_dir, err);
	while (r == 0 && dir && (e = readdir(dir))) {
		size_t n = 0;

		if (!hf_is_valid_name(e->d_name) ||
		    hf_frozen_path(state_dir, e->d_name, NULL, folder, NULL) < 0)
			continue;
		/* Too many, or a folder that cannot be read: a VM whose list has to be looked at. */
		if (list_ids(folder, ids, &n, NULL) < 0 || n > 0)
			r = hf_words_append(&vms, e->d_name);
	}
	if (dir)
		(void)closedir(dir);
	if (r < 0)
		hf_words_free(vms);
	else
		*ret = vms;
	return r;
}

/* ---- removing ---- */

/* Its folder, without the certificate. */
static int remove_remains(const struct hf_frozen *f, struct hf_err *err)
{
	DIR *dir = opendir(f->path);
	struct dirent *e;
	int r = 0;

	if (!dir)
		return fail(-errno, "read the folder", f->path, err);
	while (r == 0 && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    strcmp(e->d_name, HF_FROZEN_CERTIFICATE) != 0 &&
		    unlinkat(dirfd(dir), e->d_name, 0) < 0)
			r = fail(-errno, "remove all of", f->path, err);
	(void)closedir(dir);
	return r;
}

int hf_frozen_remove(const struct hf_frozen *f, struct hf_err *err)
{
	char folder[PATH_MAX], name[sizeof(OLD_PREFIX) + HF_CERTIFICATE_ID], old[PATH_MAX];
	char *slash;
	int r = remove_remains(f, err);

	(void)snprintf(folder, sizeof(folder), "%s", f->path);
	slash = strrchr(folder, '/');
	assert(slash);
	*slash = '\0';
	(void)snprintf(name, sizeof(name), OLD_PREFIX "%s", f->id);
	if (r == 0)
		r = hf_frozen_join(folder, name, old, err);
	if (r < 0)
		return r;
	clear_garbage(folder);
	if (rename(f->path, old) < 0)
		return fail(-errno, "remove", f->path, err);
	r = remove_dir(old);
	return r < 0 ? fail(r, "remove", old, err) : hf_frozen_sync_dir(folder, err);
}

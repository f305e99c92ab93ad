/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/assignment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json_object.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/json.h"
#include "sys/fd.h"
#include "sys/procstat.h"

#define LOCK_STEP_NS 2000000
#define NS_PER_MS 1000000

static const char *const place_names[HF_ASSIGNED_COUNT] = {
	[HF_ASSIGNED_NONE] = "none",
	[HF_ASSIGNED_STANDBY] = "standby",
	[HF_ASSIGNED_RUN] = "run",
};

const char *hf_place_assigned_name(enum hf_place_assigned place)
{
	assert(place < HF_ASSIGNED_COUNT);
	return place_names[place];
}

/* ---- the text ---- */

/* These texts end up in messages, and on command lines of the manager's own tools. */
static int take_text(const struct json_object *o, const char *key, char *ret, size_t size,
		     struct hf_err *err)
{
	int r = hf_json_copy_str(o, key, ret, size, err);

	for (const char *c = ret; !r && *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f) {
			hf_err_set(err, "\"%s\" has a control character", key);
			r = -EINVAL;
		}
	}
	return r;
}

static int take_place(const struct json_object *o, enum hf_place_assigned *ret, struct hf_err *err)
{
	const char *text;
	int r = hf_json_str(o, "place", &text, err);
	int at;

	if (r < 0)
		return r;
	at = hf_name_find(place_names, HF_ASSIGNED_COUNT, text);
	if (at < 0) {
		hf_err_set(err, "\"place\" is '%.80s', not none, standby or run", text);
		return -EINVAL;
	}
	*ret = (enum hf_place_assigned)at;
	return 0;
}

static int take_members(const struct json_object *o, struct hf_assignment *a,
			char boot_id[HF_BOOT_ID_TEXT], struct hf_err *err)
{
	int r = take_place(o, &a->place, err);

	if (!r)
		r = take_text(o, "boot_id", boot_id, HF_BOOT_ID_TEXT, err);
	if (!r)
		r = take_text(o, "manager", a->manager, sizeof(a->manager), err);
	if (!r)
		r = take_text(o, "resource", a->resource, sizeof(a->resource), err);
	if (!r)
		r = take_text(o, "instance", a->instance, sizeof(a->instance), err);
	if (!r)
		r = take_text(o, "node", a->node, sizeof(a->node), err);
	if (!r)
		r = hf_json_bool(o, "promotable", &a->is_promotable, err);
	return r ? r : hf_json_u64(o, "time_ns", &a->time_ns, err);
}

int hf_assignment_parse(const char *text, size_t len, const char *boot_id,
			struct hf_assignment *ret, struct hf_err *err)
{
	struct hf_assignment a = { .place = HF_ASSIGNED_NONE };
	struct json_object *o = NULL;
	char written_in[HF_BOOT_ID_TEXT] = "";
	int r = hf_json_parse(text, len, &o, err);

	if (!r)
		r = take_members(o, &a, written_in, err);
	json_object_put(o);
	if (r < 0)
		return r == -EINVAL ? -EBADMSG : r;
	if (strcmp(written_in, boot_id) != 0) {
		hf_err_set(err, "written before this host was booted");
		return -ENOENT;
	}
	*ret = a;
	return 0;
}

static struct json_object *make_object(const struct hf_assignment *a, const char *boot_id)
{
	struct json_object *o = json_object_new_object();

	if (!o)
		return NULL;
	hf_json_add_str(o, "place", hf_place_assigned_name(a->place));
	hf_json_add_str(o, "boot_id", boot_id);
	hf_json_add_str(o, "manager", a->manager);
	hf_json_add_str(o, "resource", a->resource);
	hf_json_add_str(o, "instance", a->instance);
	hf_json_add_str(o, "node", a->node);
	hf_json_add_bool(o, "promotable", a->is_promotable);
	hf_json_add_u64(o, "time_ns", a->time_ns);
	return o;
}

/* ---- the folder ---- */

static int check_vm(const char *vm, struct hf_err *err)
{
	if (hf_is_valid_name(vm))
		return 0;
	hf_err_set(err, "'%.80s' is no name of a VM", vm);
	return -EINVAL;
}

static int make_parent(const char *run_dir)
{
	return mkdir(run_dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* A descriptor of RUN_DIR/.assigned. */
static int open_folder(const char *run_dir, bool may_make)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/" HF_ASSIGNMENT_DIR, run_dir);
	int r = may_make ? make_parent(run_dir) : 0;
	int fd;

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	if (r < 0)
		return r;
	if (may_make && mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* ---- reading ---- */

static int read_text(int dir, const char *vm, char *text, size_t size, size_t *ret_len)
{
	int fd = openat(dir, vm, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	n = read(fd, text, size);
	if (n < 0)
		r = -errno;
	*ret_len = n > 0 ? (size_t)n : 0;
	hf_fd_close(&fd);
	return r;
}

static int read_file(const char *run_dir, const char *vm, char *text, size_t size, size_t *ret_len)
{
	int dir = open_folder(run_dir, false);
	int r = dir < 0 ? dir : read_text(dir, vm, text, size, ret_len);

	hf_fd_close(&dir);
	return r;
}

int hf_assignment_read(const char *run_dir, const char *vm, struct hf_assignment *ret,
		       struct hf_err *err)
{
	char text[HF_ASSIGNMENT_FILE_MAX + 1], boot_id[HF_BOOT_ID_TEXT];
	size_t len = 0;
	int r = check_vm(vm, err);

	if (r < 0)
		return r;
	r = read_file(run_dir, vm, text, sizeof(text), &len);
	if (!r)
		r = hf_procstat_boot_id(boot_id);
	if (r < 0) {
		hf_err_set(err, "%s", strerror(-r));
	} else if (len > HF_ASSIGNMENT_FILE_MAX) {
		hf_err_set(err, "more than %d bytes", HF_ASSIGNMENT_FILE_MAX);
		r = -EBADMSG;
	} else {
		r = hf_assignment_parse(text, len, boot_id, ret, err);
	}
	if (r < 0)
		hf_err_prefix(err, "%.300s/" HF_ASSIGNMENT_DIR "/%s: ", run_dir, vm);
	return r;
}

/* ---- writing ---- */

static int write_new(int dir, const char *name, const char *text)
{
	size_t len = strlen(text);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n != (ssize_t)len)
		r = n < 0 ? -errno : -ENOSPC;
	hf_fd_close(&fd);
	return r;
}

/* Not durable: it is of this boot only. Two that write at once, each with its own name, leave one of the two whole. */
static int replace(int dir, const char *vm, const char *text)
{
	char name[HF_NAME_MAX + 32];
	int r;

	(void)snprintf(name, sizeof(name), ".new.%s.%d", vm, (int)gettid());
	r = write_new(dir, name, text);
	if (!r && renameat(dir, name, dir, vm) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir, name, 0);
	return r;
}

static int write_object(const char *run_dir, const char *vm, struct json_object *o)
{
	const char *text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	int dir, r;

	if (!text)
		return -ENOMEM;
	if (strlen(text) > HF_ASSIGNMENT_FILE_MAX)
		return -E2BIG;
	dir = open_folder(run_dir, true);
	r = dir < 0 ? dir : replace(dir, vm, text);
	hf_fd_close(&dir);
	return r;
}

int hf_assignment_write(const char *run_dir, const char *vm, const struct hf_assignment *a,
			struct hf_err *err)
{
	struct json_object *o = NULL;
	char boot_id[HF_BOOT_ID_TEXT];
	int r = check_vm(vm, err);

	if (r < 0)
		return r;
	r = hf_procstat_boot_id(boot_id);
	if (!r)
		o = make_object(a, boot_id);
	if (!r)
		r = o ? write_object(run_dir, vm, o) : -ENOMEM;
	json_object_put(o);
	if (r < 0)
		hf_err_set(err, "cannot write %.300s/" HF_ASSIGNMENT_DIR "/%s: %s", run_dir, vm,
			   strerror(-r));
	return r;
}

/* ---- the lock ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int open_lock(const char *run_dir, const char *vm)
{
	char name[HF_NAME_MAX + 16];
	int dir = open_folder(run_dir, true);
	int fd;

	if (dir < 0)
		return dir;
	(void)snprintf(name, sizeof(name), ".lock.%s", vm);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		fd = -errno;
	hf_fd_close(&dir);
	return fd;
}

/* flock(2) has no deadline; who holds it does so for milliseconds, and is hung otherwise. */
static int wait_for_lock(int fd, unsigned int timeout_ms)
{
	const struct timespec step = { .tv_nsec = LOCK_STEP_NS };
	uint64_t end_ns = now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (now_ns() >= end_ns)
			return -ETIMEDOUT;
		(void)nanosleep(&step, NULL);
	}
	return 0;
}

int hf_assignment_lock(const char *run_dir, const char *vm, unsigned int timeout_ms,
		       struct hf_err *err)
{
	int r = check_vm(vm, err);
	int fd;

	if (r < 0)
		return r;
	fd = open_lock(run_dir, vm);
	r = fd < 0 ? fd : wait_for_lock(fd, timeout_ms);
	if (!r)
		return fd;
	hf_fd_close(&fd);
	if (r == -ETIMEDOUT)
		hf_err_set(err, "%.300s/" HF_ASSIGNMENT_DIR "/.lock.%s: held by another process",
			   run_dir, vm);
	else
		hf_err_set(err, "%.300s/" HF_ASSIGNMENT_DIR "/.lock.%s: %s", run_dir, vm,
			   strerror(-r));
	return r;
}

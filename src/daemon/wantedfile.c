/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/wantedfile.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json_object.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/json.h"
#include "sys/fd.h"

#define FILE_MAX_BYTES (2u << 20)

/* ---- reading ---- */

static int take_name(const struct json_object *o, const char *key, bool may_be_empty, char *ret,
		     struct hf_err *err)
{
	const char *text;
	int r = hf_json_str(o, key, &text, err);

	if (r < 0)
		return r;
	if (!(may_be_empty && !text[0]) && !hf_is_valid_name(text)) {
		hf_err_set(err, "%s: '%.80s' is no name", key, text);
		return -EINVAL;
	}
	(void)snprintf(ret, HF_NAME_MAX + 1, "%s", text);
	return 0;
}

static int take_entry(const struct json_object *o, struct hf_wanted_entry *e, struct hf_err *err)
{
	int r = take_name(o, "vm", false, e->vm, err);

	if (!r)
		r = hf_json_bool(o, "started", &e->wanted.is_started, err);
	if (!r)
		r = take_name(o, "host", true, e->wanted.host, err);
	if (!r)
		r = take_name(o, "by", true, e->wanted.by, err);
	if (!r)
		r = hf_json_u64(o, "version", &e->wanted.version, err);
	if (!r && e->wanted.version > HF_WANTED_VERSION_MAX) {
		hf_err_set(err, "version: too large");
		r = -EINVAL;
	}
	return r ? r : hf_json_bool(o, "stopped_by_order", &e->was_stopped_by_order, err);
}

static bool has_entry(const struct hf_wanted_all *all, const char *vm)
{
	for (size_t i = 0; i < all->n; i++)
		if (strcmp(all->vms[i].vm, vm) == 0)
			return true;
	return false;
}

static int take_entries(const struct json_object *list, struct hf_wanted_all *ret,
			struct hf_err *err)
{
	size_t n = json_object_array_length(list);
	int r = 0;

	if (n > HF_WANTED_VMS_MAX) {
		hf_err_set(err, "more than %d VMs", HF_WANTED_VMS_MAX);
		return -EINVAL;
	}
	ret->vms = calloc(n + 1, sizeof(*ret->vms));
	for (size_t i = 0; ret->vms && !r && i < n; i++) {
		struct hf_wanted_entry e = { .vm = "" };

		r = take_entry(json_object_array_get_idx(list, i), &e, err);
		if (!r && has_entry(ret, e.vm)) {
			hf_err_set(err, "'%s' stands there twice", e.vm);
			r = -EINVAL;
		}
		if (!r)
			ret->vms[ret->n++] = e;
	}
	return ret->vms ? r : -ENOMEM;
}

int hf_wantedfile_parse(const char *text, size_t len, struct hf_wanted_all *ret, struct hf_err *err)
{
	struct json_object *o = NULL, *list;
	const char *boot_id;
	int r = hf_json_parse(text, len, &o, err);

	*ret = (struct hf_wanted_all){ .n = 0 };
	if (!r)
		r = hf_json_str(o, "boot_id", &boot_id, err);
	if (!r && strlen(boot_id) > HF_BOOT_ID) {
		hf_err_set(err, "boot_id is too long");
		r = -EINVAL;
	}
	if (!r)
		r = hf_json_array(o, "vms", &list, err);
	if (!r) {
		(void)snprintf(ret->boot_id, sizeof(ret->boot_id), "%s", boot_id);
		r = take_entries(list, ret, err);
	}
	if (r < 0)
		hf_wantedfile_fini(ret);
	json_object_put(o);
	return r == -EINVAL ? -EBADMSG : r;
}

static int read_file(const char *path, char *text, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	n = read(fd, text, FILE_MAX_BYTES);
	if (n < 0)
		r = -errno;
	hf_fd_close(&fd);
	*ret_len = n > 0 ? (size_t)n : 0;
	return n == FILE_MAX_BYTES ? -EFBIG : r;
}

int hf_wantedfile_load(const char *folder, struct hf_wanted_all *ret, struct hf_err *err)
{
	char *text = malloc(FILE_MAX_BYTES);
	char path[PATH_MAX];
	size_t len = 0;
	int r = -ENOMEM;

	*ret = (struct hf_wanted_all){ .n = 0 };
	(void)snprintf(path, sizeof(path), "%s/" HF_WANTED_FILE, folder);
	if (text)
		r = read_file(path, text, &len);
	if (r < 0)
		hf_err_set(err, "%s", strerror(-r));
	else
		r = hf_wantedfile_parse(text, len, ret, err);
	free(text);
	if (r < 0)
		hf_err_prefix(err, "%.300s: ", path);
	return r;
}

/* ---- writing ---- */

static struct json_object *make_entry(const struct hf_wanted_entry *e)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vm", json_object_new_string(e->vm));
	json_object_object_add(o, "started", json_object_new_boolean(e->wanted.is_started));
	json_object_object_add(o, "host", json_object_new_string(e->wanted.host));
	json_object_object_add(o, "version", json_object_new_uint64(e->wanted.version));
	json_object_object_add(o, "by", json_object_new_string(e->wanted.by));
	json_object_object_add(o, "stopped_by_order",
			       json_object_new_boolean(e->was_stopped_by_order));
	return o;
}

static int write_durably(int dir, const char *text)
{
	static const char new_name[] = HF_WANTED_FILE ".new";
	size_t len = strlen(text);
	int fd = openat(dir, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		r = errno ? -errno : -EIO;
	if (!r && fsync(fd) < 0)
		r = -errno;
	hf_fd_close(&fd);
	if (!r && renameat(dir, new_name, dir, HF_WANTED_FILE) < 0)
		r = -errno;
	return !r && fsync(dir) < 0 ? -errno : r;
}

static int open_folder(const char *folder)
{
	char parent[PATH_MAX];
	char *slash;
	int fd;

	(void)snprintf(parent, sizeof(parent), "%s", folder);
	slash = strrchr(parent, '/');
	if (slash && slash != parent) {
		*slash = '\0';
		(void)mkdir(parent, 0755);
	}
	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int hf_wantedfile_save(const char *folder, const struct hf_wanted_all *all, struct hf_err *err)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();
	int dir = open_folder(folder);
	int r = dir < 0 ? dir : 0;

	json_object_object_add(o, "boot_id", json_object_new_string(all->boot_id));
	for (size_t i = 0; i < all->n; i++)
		json_object_array_add(list, make_entry(&all->vms[i]));
	json_object_object_add(o, "vms", list);
	if (!r)
		r = write_durably(dir, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
	hf_fd_close(&dir);
	if (r < 0)
		hf_err_set(err, "cannot write %.300s/" HF_WANTED_FILE ": %s", folder, strerror(-r));
	return r;
}

void hf_wantedfile_fini(struct hf_wanted_all *all)
{
	free(all->vms);
	*all = (struct hf_wanted_all){ .n = 0 };
}

const char *hf_boot_id(char buf[HF_BOOT_ID + 1])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, buf, HF_BOOT_ID) : -1;

	hf_fd_close(&fd);
	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/plugin-options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define REDO_BYTES_MIN ((uint64_t)1 << 20)
#define FD_MAX 65535

/* @at: where in the options, or in the last disk. */
struct key {
	const char *name;
	int (*parse)(const struct key *key, void *at, const char *value, struct hf_err *err);
	size_t at;
	bool is_of_disk;
};

void hf_plugin_options_init(struct hf_plugin_options *o)
{
	*o = (struct hf_plugin_options){ .redo_bytes = HF_PLUGIN_REDO_BYTES,
					 .shm_fd = -1,
					 .kick_fd = -1,
					 .notice_fd = -1,
					 .control_fd = -1,
					 .hold_fd = -1 };
}

void hf_plugin_options_fini(struct hf_plugin_options *o)
{
	for (uint32_t i = 0; i < o->n_disks; i++) {
		free(o->disk[i].location);
		free(o->disk[i].map);
	}
	free(o->vm);
	free(o->redo);
	hf_plugin_options_init(o);
}

bool hf_plugin_is_uri(const char *location)
{
	static const char *const schemes[] = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://" };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (strncmp(location, schemes[i], strlen(schemes[i])) == 0)
			return true;
	}
	return false;
}

/* The server leaves its folder when it goes into the background. */
static int make_absolute(const char *path, char **ret, struct hf_err *err)
{
	char folder[PATH_MAX];
	int r = 0;

	if (path[0] == '/' || hf_plugin_is_uri(path)) {
		*ret = strdup(path);
		return *ret ? 0 : -ENOMEM;
	}
	if (!getcwd(folder, sizeof(folder))) {
		r = -errno;
		hf_err_set(err, "cannot tell the current folder: %s", strerror(-r));
	} else if (asprintf(ret, "%s/%s", folder, path) < 0) {
		r = -ENOMEM;
	}
	return r;
}

static int parse_location(const struct key *key, void *at, const char *value, struct hf_err *err)
{
	char **location = at;

	if (*location) {
		hf_err_set(err, "%s= was given twice", key->name);
		return -EINVAL;
	}
	if (!*value) {
		hf_err_set(err, "%s= needs a path or an NBD URI", key->name);
		return -EINVAL;
	}
	return make_absolute(value, location, err);
}

static int parse_vm(const struct key *key, void *at, const char *value, struct hf_err *err)
{
	char **vm = at;

	if (*vm || !hf_is_valid_name(value)) {
		hf_err_set(err, *vm ? "%s= was given twice" : "%s= is no name of a VM", key->name);
		return -EINVAL;
	}
	*vm = strdup(value);
	return *vm ? 0 : -ENOMEM;
}

static int parse_size(const struct key *key, void *at, const char *value, struct hf_err *err)
{
	uint64_t *size = at, n;
	int r = hf_parse_size_bytes(value, &n, err);

	if (r == 0 && n > HF_WIRE_DISK_BYTES_MAX) {
		hf_err_set(err, "'%.100s' is out of range", value);
		r = -EINVAL;
	}
	if (r == 0)
		*size = n;
	else
		hf_err_prefix(err, "%s: ", key->name);
	return r;
}

static int parse_yes_no(const struct key *key, void *at, const char *value, struct hf_err *err)
{
	bool *flag = at;
	int r = hf_parse_bool(value, flag, err);

	if (r < 0)
		hf_err_prefix(err, "%s: ", key->name);
	return r;
}

static int parse_cache(const struct key *key, void *at, const char *value, struct hf_err *err)
{
	bool *is_direct = at;

	if (strcmp(value, "direct") != 0 && strcmp(value, "writeback") != 0) {
		hf_err_set(err, "%s is 'direct' or 'writeback', not '%.100s'", key->name, value);
		return -EINVAL;
	}
	*is_direct = value[0] == 'd';
	return 0;
}

static int parse_fd(const struct key *key, void *at, const char *value, struct hf_err *err)
{
	char *end = NULL;
	int *fd = at;
	long n = strtol(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end || n <= STDERR_FILENO || n > FD_MAX) {
		hf_err_set(err, "%s: '%.100s' is no number of a descriptor", key->name, value);
		return -EINVAL;
	}
	if (fcntl((int)n, F_GETFD) < 0) {
		hf_err_set(err, "%s: there is no descriptor %ld; only holdfast-keeper passes any",
			   key->name, n);
		return -EINVAL;
	}
	*fd = (int)n;
	return 0;
}

#define OF_ALL(name, parse, member)                                                                \
	{                                                                                          \
		name, parse, offsetof(struct hf_plugin_options, member), false                     \
	}
#define OF_DISK(name, parse, member)                                                               \
	{                                                                                          \
		name, parse, offsetof(struct hf_plugin_disk, member), true                         \
	}

static const struct key keys[] = {
	OF_DISK("disk", parse_location, location),
	OF_DISK("size", parse_size, size_bytes),
	OF_DISK("cache", parse_cache, is_direct),
	OF_DISK("map", parse_location, map),
	OF_ALL("vm", parse_vm, vm),
	OF_ALL("redo", parse_location, redo),
	OF_ALL("redo-area", parse_size, redo_bytes),
	OF_ALL("shared", parse_yes_no, is_shared),
	OF_ALL("standby", parse_yes_no, is_standby),
	OF_ALL("shm-fd", parse_fd, shm_fd),
	OF_ALL("kick-fd", parse_fd, kick_fd),
	OF_ALL("notice-fd", parse_fd, notice_fd),
	OF_ALL("control-fd", parse_fd, control_fd),
	OF_ALL("hold-fd", parse_fd, hold_fd),
};

static const struct key *find_key(const char *name)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	}
	return NULL;
}

static int set_of_disk(struct hf_plugin_options *o, const struct key *key, const char *value,
		       struct hf_err *err)
{
	bool is_new = key->at == offsetof(struct hf_plugin_disk, location);
	uint32_t i = is_new ? o->n_disks : o->n_disks - 1;
	int r;

	if (is_new && o->n_disks >= HF_WIRE_DISKS_MAX) {
		hf_err_set(err, "a VM has at most %d disks", HF_WIRE_DISKS_MAX);
		return -EINVAL;
	}
	if (!is_new && o->n_disks == 0) {
		hf_err_set(err, "%s= is about the disk named before it: disk= comes first",
			   key->name);
		return -EINVAL;
	}
	r = key->parse(key, (uint8_t *)&o->disk[i] + key->at, value, err);
	if (r == 0 && is_new)
		o->n_disks++;
	return r;
}

int hf_plugin_options_set(struct hf_plugin_options *o, const char *key, const char *value,
			  struct hf_err *err)
{
	const struct key *k = find_key(key);

	if (!k) {
		hf_err_set(err, "there is no parameter '%.100s'", key);
		return -EINVAL;
	}
	if (k->is_of_disk)
		return set_of_disk(o, k, value, err);
	return k->parse(k, (uint8_t *)o + k->at, value, err);
}

static int check_descriptors(const struct hf_plugin_options *o, struct hf_err *err)
{
	bool has_all = o->shm_fd >= 0 && o->kick_fd >= 0 && o->notice_fd >= 0 && o->control_fd >= 0;
	bool has_none = o->shm_fd < 0 && o->kick_fd < 0 && o->notice_fd < 0 && o->control_fd < 0;

	if (has_all || has_none)
		return 0;
	hf_err_set(err, "shm-fd, kick-fd, notice-fd and control-fd go together");
	return -EINVAL;
}

static int check_without_keeper(const struct hf_plugin_options *o, struct hf_err *err)
{
	if (!o->redo && !o->is_standby && !o->is_shared)
		return 0;
	hf_err_set(err, "redo=, standby= and shared= are holdfast-keeper's, and need shm-fd=");
	return -EINVAL;
}

static int check_with_keeper(const struct hf_plugin_options *o, struct hf_err *err)
{
	if (!o->redo) {
		hf_err_set(err, "shm-fd= needs redo=");
		return -EINVAL;
	}
	if (o->redo_bytes < REDO_BYTES_MIN) {
		hf_err_set(err, "redo-area must be 1M or more");
		return -EINVAL;
	}
	for (uint32_t i = 0; i < o->n_disks; i++) {
		if (!o->disk[i].map == !o->is_shared) {
			hf_err_set(err,
				   "disk%u: a replicated disk needs map=, a shared one has none",
				   i);
			return -EINVAL;
		}
	}
	return 0;
}

int hf_plugin_options_complete(struct hf_plugin_options *o, struct hf_err *err)
{
	int r;

	if (o->n_disks == 0) {
		hf_err_set(err, "name the image that is to be served: disk=PATH");
		return -EINVAL;
	}
	if (!o->vm)
		o->vm = strdup("none");
	if (!o->vm)
		return -ENOMEM;
	r = check_descriptors(o, err);
	if (r < 0)
		return r;
	return o->shm_fd < 0 ? check_without_keeper(o, err) : check_with_keeper(o, err);
}

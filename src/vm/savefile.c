/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/savefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "sys/fd.h"

#define HEAD_ROOM_BYTES ((uint64_t)4 << 20)

static const char *const names[] = { "save.json", "device-state", "ram" };

/* Returns @buf; too long a path does not exist, and opening it says so. */
static const char *path_of(char *buf, const char *state_dir, const char *vm, const char *folder,
			   const char *name)
{
	(void)snprintf(buf, PATH_MAX, "%s/%s/%s%s%s", state_dir, vm, folder, name ? "/" : "",
		       name ? name : "");
	return buf;
}

static int fail(struct hf_err *err, const char *path, int r)
{
	hf_err_set(err, "%.400s: %s", path, strerror(-r));
	return r;
}

static int sync_folder(const char *path, struct hf_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	hf_fd_close(&fd);
	return r < 0 ? fail(err, path, r) : 0;
}

static int sync_parent(const char *state_dir, const char *vm, struct hf_err *err)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", state_dir, vm);
	return sync_folder(path, err);
}

static void remove_folder(const char *state_dir, const char *vm, const char *folder)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)unlink(path_of(path, state_dir, vm, folder, names[i]));
	(void)unlink(path_of(path, state_dir, vm, folder, "save.json.new"));
	(void)rmdir(path_of(path, state_dir, vm, folder, NULL));
}

/* In place of an older one. */
static int move_folder(const char *state_dir, const char *vm, const char *from, const char *to,
		       struct hf_err *err)
{
	char old[PATH_MAX], new[PATH_MAX];

	path_of(old, state_dir, vm, from, NULL);
	path_of(new, state_dir, vm, to, NULL);
	if (access(old, F_OK) < 0)
		return fail(err, old, -errno);
	remove_folder(state_dir, vm, to);
	if (rename(old, new) < 0)
		return fail(err, old, -errno);
	return sync_parent(state_dir, vm, err);
}

/* ---- writing ---- */

static int make_folder(const char *path, struct hf_err *err)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? fail(err, path, -errno) : 0;
}

int hf_savefile_prepare(const char *state_dir, const char *vm, uint64_t bytes, struct hf_err *err)
{
	char path[PATH_MAX];
	int r = make_folder(state_dir, err);

	(void)snprintf(path, sizeof(path), "%s/%s", state_dir, vm);
	if (!r)
		r = make_folder(path, err);
	return r ? r : hf_sparse_check_space(path, bytes + HEAD_ROOM_BYTES, err);
}

static int open_new(const char *path, struct hf_err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? fail(err, path, -errno) : fd;
}

static int write_whole(const char *path, const void *data, size_t len, struct hf_err *err)
{
	const char *at = data;
	int fd = open_new(path, err);
	int r = fd < 0 ? fd : 0;
	ssize_t n;

	while (!r && len) {
		n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = fail(err, path, -errno);
		at += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	if (!r && fsync(fd) < 0)
		r = fail(err, path, -errno);
	hf_fd_close(&fd);
	return r;
}

static int write_ram(const char *path, uint64_t bytes, int ram_fd, hf_sparse_progress *progress,
		     void *ctx, struct hf_err *err)
{
	int fd = open_new(path, err);
	int r = fd < 0 ? fd : 0;

	if (r < 0)
		return r;
	if (ftruncate(fd, (off_t)bytes) < 0)
		r = -errno;
	if (!r)
		r = hf_sparse_copy(ram_fd, 0, bytes, fd, 0, progress, ctx);
	if (!r && fsync(fd) < 0)
		r = -errno;
	hf_fd_close(&fd);
	return r < 0 ? fail(err, path, r) : 0;
}

static int write_note(const char *state_dir, const struct hf_savenote *note, const char *folder,
		      const char *name, struct hf_err *err)
{
	struct json_object *o = hf_savenote_encode(note);
	char path[PATH_MAX];
	const char *text;
	int r;

	if (!o)
		return -ENOMEM;
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
							 JSON_C_TO_STRING_NOSLASHESCAPE);
	r = write_whole(path_of(path, state_dir, note->vm, folder, name), text, strlen(text), err);
	json_object_put(o);
	return r;
}

int hf_savefile_write(const char *state_dir, struct hf_savenote *note, int ram_fd,
		      const uint8_t *state, size_t state_len, hf_sparse_progress *progress,
		      void *ctx, struct hf_err *err)
{
	char path[PATH_MAX];
	int r;

	hf_savefile_drop_new(state_dir, note->vm);
	note->device_state_bytes = state_len;
	note->device_state_crc = hf_crc32c(0, state, state_len);
	r = make_folder(path_of(path, state_dir, note->vm, "saved.new", NULL), err);
	if (!r)
		r = write_whole(path_of(path, state_dir, note->vm, "saved.new", "device-state"),
				state, state_len, err);
	if (!r)
		r = write_ram(path_of(path, state_dir, note->vm, "saved.new", "ram"),
			      note->ram_bytes, ram_fd, progress, ctx, err);
	if (!r)
		r = write_note(state_dir, note, "saved.new", "save.json", err);
	if (!r)
		r = sync_folder(path_of(path, state_dir, note->vm, "saved.new", NULL), err);
	return r;
}

int hf_savefile_commit(const char *state_dir, const char *vm, struct hf_err *err)
{
	return move_folder(state_dir, vm, "saved.new", "saved", err);
}

void hf_savefile_drop_new(const char *state_dir, const char *vm)
{
	remove_folder(state_dir, vm, "saved.new");
}

/* ---- images ---- */

static int look_at(struct hf_saved_image *i, struct hf_err *err)
{
	struct stat st;

	if (strncmp(i->location, "nbd://", 6) == 0 || strncmp(i->location, "nbd+unix://", 11) == 0)
		return 0;
	if (stat(i->location, &st) < 0)
		return fail(err, i->location, -errno);
	if (!S_ISREG(st.st_mode))
		return 0;
	i->is_file = true;
	i->bytes = (uint64_t)st.st_size;
	i->inode = st.st_ino;
	i->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	return 0;
}

int hf_savefile_settle(const char *state_dir, struct hf_savenote *note, struct hf_err *err)
{
	int r = 0;

	for (unsigned int i = 0; !r && i < note->n_images; i++)
		r = look_at(&note->image[i], err);
	if (r < 0)
		return r;
	note->is_settled = true;
	return hf_savefile_update(state_dir, note, err);
}

int hf_savefile_update(const char *state_dir, const struct hf_savenote *note, struct hf_err *err)
{
	char old[PATH_MAX], new[PATH_MAX];
	int r;

	path_of(old, state_dir, note->vm, "saved", "save.json.new");
	path_of(new, state_dir, note->vm, "saved", "save.json");
	(void)unlink(old);
	r = write_note(state_dir, note, "saved", "save.json.new", err);
	if (!r && rename(old, new) < 0)
		r = fail(err, new, -errno);
	return r ? r : sync_folder(path_of(old, state_dir, note->vm, "saved", NULL), err);
}

static bool is_same(const struct hf_saved_image *was, const struct hf_saved_image *is)
{
	return was->is_file == is->is_file && was->bytes == is->bytes && was->inode == is->inode &&
	       was->mtime_ns == is->mtime_ns;
}

int hf_savefile_check_images(const struct hf_savenote *note, struct hf_err *err)
{
	struct hf_saved_image now;
	int r;

	if (!note->is_settled) {
		hf_err_set(err, "whether the disks have all that was written is not known: the end "
				"of the save was not recorded");
		return -ESTALE;
	}
	for (unsigned int i = 0; i < note->n_images; i++) {
		now = (struct hf_saved_image){ 0 };
		(void)snprintf(now.location, sizeof(now.location), "%s", note->image[i].location);
		r = look_at(&now, err);
		if (r < 0)
			return r;
		if (is_same(&note->image[i], &now))
			continue;
		hf_err_set(err, "%.300s has been changed since the VM was saved", now.location);
		return -ESTALE;
	}
	return 0;
}

/* ---- reading ---- */

static int read_whole(const char *path, size_t max, uint8_t **ret, size_t *ret_len,
		      struct hf_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st = { 0 };
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
	uint8_t *data = NULL;

	if (!r && (st.st_size < 0 || (uint64_t)st.st_size > max))
		r = -EFBIG;
	if (!r) {
		data = malloc((size_t)st.st_size + 1);
		r = data ? 0 : -ENOMEM;
	}
	if (!r && pread(fd, data, (size_t)st.st_size, 0) != st.st_size)
		r = errno ? -errno : -EIO;
	hf_fd_close(&fd);
	if (r < 0) {
		free(data);
		return r == -ENOENT ? r : fail(err, path, r);
	}
	*ret = data;
	*ret_len = (size_t)st.st_size;
	return 0;
}

int hf_savefile_find(const char *state_dir, const char *vm, struct hf_savenote *ret,
		     struct hf_err *err)
{
	char path[PATH_MAX];
	uint8_t *text;
	size_t len;
	int r = read_whole(path_of(path, state_dir, vm, "saved", "save.json"),
			   HF_SAVENOTE_MAX_BYTES, &text, &len, err);

	if (r < 0)
		return r;
	r = hf_savenote_decode(path, (char *)text, len, ret, err);
	free(text);
	if (!r && strcmp(ret->vm, vm) != 0) {
		hf_err_set(err, "%.300s is of another VM, %s", path, ret->vm);
		r = -EBADMSG;
	}
	return r;
}

static int load_ram(const char *path, uint64_t bytes, int ram_fd, struct hf_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st = { 0 };
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (!r && (uint64_t)st.st_size != bytes) {
		hf_fd_close(&fd);
		hf_err_set(err, "%.300s has %lld bytes, and %llu are right", path,
			   (long long)st.st_size, (unsigned long long)bytes);
		return -EBADMSG;
	}
	if (!r)
		r = hf_sparse_copy(fd, 0, bytes, ram_fd, 0, NULL, NULL);
	hf_fd_close(&fd);
	return r < 0 ? fail(err, path, r) : 0;
}

int hf_savefile_load(const char *state_dir, const struct hf_savenote *note, int ram_fd,
		     uint8_t **ret_state, size_t *ret_len, struct hf_err *err)
{
	char path[PATH_MAX];
	uint8_t *state;
	size_t len;
	int r = read_whole(path_of(path, state_dir, note->vm, "saved", "device-state"),
			   note->device_state_bytes, &state, &len, err);

	if (r == -ENOENT)
		return fail(err, path, r);
	if (r < 0)
		return r;
	if (len != note->device_state_bytes || hf_crc32c(0, state, len) != note->device_state_crc) {
		hf_err_set(err, "%.300s is damaged", path);
		r = -EBADMSG;
	}
	if (!r)
		r = load_ram(path_of(path, state_dir, note->vm, "saved", "ram"), note->ram_bytes,
			     ram_fd, err);
	if (r < 0) {
		free(state);
		return r;
	}
	*ret_state = state;
	*ret_len = len;
	return 0;
}

/* ---- used once ---- */

int hf_savefile_use(const char *state_dir, const char *vm, struct hf_err *err)
{
	return move_folder(state_dir, vm, "saved", "saved.used", err);
}

int hf_savefile_give_back(const char *state_dir, const char *vm, struct hf_err *err)
{
	return move_folder(state_dir, vm, "saved.used", "saved", err);
}

void hf_savefile_remove_used(const char *state_dir, const char *vm)
{
	remove_folder(state_dir, vm, "saved.used");
}

bool hf_savefile_has_used(const char *state_dir, const char *vm)
{
	char path[PATH_MAX];

	return access(path_of(path, state_dir, vm, "saved.used", NULL), F_OK) == 0;
}

int hf_savefile_discard(const char *state_dir, const char *vm, struct hf_err *err)
{
	char path[PATH_MAX];

	remove_folder(state_dir, vm, "saved");
	path_of(path, state_dir, vm, "saved", NULL);
	if (access(path, F_OK) == 0) {
		hf_err_set(err, "%.400s cannot be removed", path);
		return -EBUSY;
	}
	return 0;
}

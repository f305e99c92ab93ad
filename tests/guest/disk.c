/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's file system: the host has made it, an ext4 one on a virtio disk. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

void guest_io_error(const char *what, int error)
{
	int none = 0;

	guest_stats.io_errors++;
	if (atomic_compare_exchange_strong(&guest_stats.io_errno, &none, error))
		printf("guest: I/O ERROR: %s: %s\n", what, strerror(error));
}

void guest_drop_caches(void)
{
	int fd;

	sync();
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "3", 1) != 1)
		guest_io_error("drop_caches", errno);
	if (fd >= 0)
		(void)close(fd);
}

void guest_disk_mount(const char *device, const char *options, char *reply)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/dev/%s", device);
	(void)mkdir(GUEST_MOUNT, 0755);
	if (mount(path, GUEST_MOUNT, "ext4", MS_NOATIME, options) < 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error mount %s: %s", path, strerror(errno));
	else
		(void)snprintf(reply, GUEST_TEXT_MAX, "ok");
}

void guest_disk_unmount(char *reply)
{
	guest_files_forget();
	if (umount(GUEST_MOUNT) < 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error umount: %s", strerror(errno));
	else
		(void)snprintf(reply, GUEST_TEXT_MAX, "ok");
}

void guest_disk_trim(char *reply)
{
	struct fstrim_range range = { .len = UINT64_MAX };
	int fd = open(GUEST_MOUNT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, FITRIM, &range) < 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error trim: %s", strerror(errno));
	else
		(void)snprintf(reply, GUEST_TEXT_MAX, "ok bytes=%llu",
			       (unsigned long long)range.len);
	if (fd >= 0)
		(void)close(fd);
}

int guest_disk_sync_names(void)
{
	int fd = open(GUEST_MOUNT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		(void)close(fd);
	return r;
}

static int write_word(int fd, const char *word)
{
	ssize_t n = write(fd, word, strlen(word));

	if (n != (ssize_t)strlen(word))
		return n < 0 ? -errno : -ENOSPC;
	return fsync(fd) < 0 ? -errno : 0;
}

static int open_named(const char *name, int flags)
{
	char path[64];

	(void)snprintf(path, sizeof(path), GUEST_MOUNT "/%s", name);
	return open(path, flags | O_CLOEXEC, 0644);
}

void guest_disk_put(const char *name, const char *word, char *reply)
{
	int fd = open_named(name, O_WRONLY | O_CREAT | O_TRUNC);
	int r = fd < 0 ? -errno : write_word(fd, word);

	if (r == 0)
		r = guest_disk_sync_names();
	if (fd >= 0)
		(void)close(fd);
	if (r < 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error put: %s", strerror(-r));
	else
		(void)snprintf(reply, GUEST_TEXT_MAX, "ok");
}

void guest_disk_get(const char *name, char *reply)
{
	char word[64] = "";
	int fd;

	guest_drop_caches();
	fd = open_named(name, O_RDONLY);
	if (fd < 0 || read(fd, word, sizeof(word) - 1) < 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error get: %s", strerror(errno));
	else
		(void)snprintf(reply, GUEST_TEXT_MAX, "ok word=%s", word);
	if (fd >= 0)
		(void)close(fd);
}

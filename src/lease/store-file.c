/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files and block devices: O_DIRECT, so that nothing is read from this host's memory that another
 * host has changed on the disk; O_DSYNC, so that a write that has returned is there after a power
 * failure.
 *
 * What a failed write leaves behind is not known in general: a multipath queue, an iSCSI session or
 * a mount that gives up may still carry it out after the error was returned. Only refusals that are
 * made before anything is sent count as settled.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lease/store-internal.h"
#include "sys/fd.h"

struct file {
	struct hf_store store;
	int fd;
	bool is_device;
};

static struct file *file_of(struct hf_store *s)
{
	return (struct file *)(void *)s;
}

/* ---- transfers ---- */

static int failed(const struct file *f, const char *verb, size_t bytes, uint64_t offset, int e,
		  struct hf_err *err)
{
	hf_err_set(err, "%s: cannot %s %zu bytes at offset %llu: %s", f->store.path, verb, bytes,
		   (unsigned long long)offset, strerrordesc_np(e));
	return -e;
}

static int file_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset,
		     struct hf_err *err)
{
	struct file *f = file_of(s);
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(f->fd, (uint8_t *)buf + done, bytes - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(f, "read", bytes, offset, errno, err);
		/* Cut short since it was measured; a rest of a sector is none. */
		if ((size_t)n < s->sector_bytes)
			return failed(f, "read", bytes, offset, ENODATA, err);
		done += (size_t)n & ~(size_t)(s->sector_bytes - 1);
	}
	return 0;
}

static int file_write(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
		      struct hf_err *err)
{
	struct file *f = file_of(s);
	size_t done = 0;
	int r;

	while (done < bytes) {
		ssize_t n = pwrite(f->fd, (const uint8_t *)buf + done, bytes - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n >= 0 && (size_t)n < s->sector_bytes) {
			errno = ENOSPC; /* nothing taken, nothing refused: there is no room */
			n = -1;
		}
		if (n < 0) {
			r = failed(f, "write", bytes, offset, errno, err);
			return hf_store_is_refusal(r) ? r : HF_STORE_UNSETTLED;
		}
		done += (size_t)n & ~(size_t)(s->sector_bytes - 1);
	}
	return 0;
}

/* ---- what it is ---- */

static int measure(struct file *f)
{
	struct stat st;

	if (f->is_device)
		return ioctl(f->fd, BLKGETSIZE64, &f->store.size_bytes) < 0 ? -errno : 0;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	f->store.size_bytes = (uint64_t)st.st_size & ~(uint64_t)(f->store.sector_bytes - 1);
	return 0;
}

static void file_measure(struct hf_store *s)
{
	(void)measure(file_of(s));
}

/* statx(2) tells since Linux 6.1 and for some file systems; others are tried: a read that is not
 * aligned enough is refused. */
static int sector_of_file(const struct file *f, uint64_t *ret)
{
	_Alignas(HF_STORE_SECTOR_MAX_BYTES) uint8_t probe[HF_STORE_SECTOR_MIN_BYTES];
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align > 0) {
		*ret = sx.stx_dio_offset_align;
		if (*ret < HF_STORE_SECTOR_MIN_BYTES)
			*ret = HF_STORE_SECTOR_MIN_BYTES;
		return 0;
	}
#endif
	*ret = HF_STORE_SECTOR_MIN_BYTES;
	if (pread(f->fd, probe, sizeof(probe), 0) >= 0)
		return 0;
	*ret = HF_STORE_SECTOR_MAX_BYTES;
	return errno == EINVAL ? 0 : -errno;
}

static int sector_of(const struct file *f, uint64_t *ret)
{
	int size;

	if (!f->is_device)
		return sector_of_file(f, ret);
	if (ioctl(f->fd, BLKSSZGET, &size) < 0)
		return -errno;
	*ret = (uint64_t)size;
	return 0;
}

static int learn(struct file *f, struct hf_err *err)
{
	uint64_t sector = 0;
	int r = sector_of(f, &sector);

	if (r == 0) {
		r = hf_store_check_sector(f->store.path, sector, err);
		if (r < 0)
			return r;
		f->store.sector_bytes = (uint32_t)sector;
		r = measure(f);
	}
	if (r < 0)
		hf_err_set(err, "%s: %s", f->store.path, strerror(-r));
	return r;
}

/* ---- opening ---- */

static void file_close(struct hf_store *s)
{
	struct file *f = file_of(s);

	hf_fd_close(&f->fd);
	hf_store_fini(s);
	free(f);
}

static const struct hf_store_ops file_ops = {
	.read = file_read,
	.write = file_write,
	.measure = file_measure,
	.close = file_close,
};

static int check_kind(const char *path, bool *ret_is_device, struct hf_err *err)
{
	struct stat st;
	int r = stat(path, &st) < 0 ? -errno : 0;

	if (r < 0)
		hf_err_set(err, "%s: %s", path, strerror(-r));
	else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		hf_err_set(err, "%s: neither a file nor a block device", path);
		r = -EMEDIUMTYPE;
	} else
		*ret_is_device = S_ISBLK(st.st_mode);
	return r;
}

/* Looks before it opens: opening some devices does something. */
static int open_it(struct file *f, struct hf_err *err)
{
	const char *path = f->store.path;
	int flags = O_DIRECT | O_CLOEXEC | (f->store.is_read_only ? O_RDONLY : O_RDWR | O_DSYNC);
	int r = check_kind(path, &f->is_device, err);

	if (r < 0)
		return r;
	f->fd = open(path, flags);
	if (f->fd >= 0)
		return 0;
	r = -errno;
	if (r == -EINVAL)
		hf_err_set(err, "%s: its file system has no direct I/O (O_DIRECT)", path);
	else
		hf_err_set(err, "%s: cannot be opened: %s", path, strerror(-r));
	return r;
}

int hf_store_file_open(const struct hf_store_config *config, struct hf_store **ret,
		       struct hf_err *err)
{
	struct file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->fd = -1;
	r = hf_store_init(&f->store, &file_ops, config);
	if (r == 0)
		r = open_it(f, err);
	if (r == 0)
		r = learn(f, err);
	if (r < 0)
		file_close(&f->store);
	else
		*ret = &f->store;
	return r;
}

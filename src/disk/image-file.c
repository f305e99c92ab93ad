/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files and block devices. Past the page cache (is_direct) the kernel wants offsets, lengths and
 * memory aligned: memory is seen to here, through a buffer of our own; offsets and lengths by
 * image.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/image-internal.h"

#define BOUNCE_BYTES ((size_t)1 << 20)
/* What is assumed where the kernel does not say. */
#define DIRECT_MEMORY_BYTES 4096u
#define BLOCK_MAX_BYTES 65536u

/* Bytes of QEMU's locks: one for each permission held, and one for each not shared with others. */
enum { LOCK_HELD = 100, LOCK_NOT_SHARED = 200 };
enum { PERM_READ = 0, PERM_WRITE = 1, PERM_WRITE_UNCHANGED = 2, PERM_RESIZE = 3, PERMS = 4 };

struct file {
	struct hf_image image;
	int fd;
	bool is_device;
	bool is_direct;
	uint32_t memory_bytes; /* alignment of memory, when is_direct */
	uint32_t sector_bytes; /* a device zeroes multiples of it only */
	/* what turned out not to work; asked for once */
	atomic_bool has_no_punch, has_no_zero_range, has_no_allocate, has_no_seek;
};

static struct file *file_of(struct hf_image *i)
{
	return (struct file *)(void *)i;
}

/* ---- reading ---- */

static int read_into(struct file *f, uint8_t *buf, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pread(f->fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
		/* The end of the file; past the cache it may lie inside a block. */
		if (n == 0 || (f->is_direct && (size_t)n % f->image.block_bytes != 0)) {
			memset(buf, 0, len);
			return 0;
		}
	}
	return 0;
}

static int bounce_new(const struct file *f, size_t len, uint8_t **ret, size_t *ret_size)
{
	void *p;

	*ret_size = len < BOUNCE_BYTES ? len : BOUNCE_BYTES;
	if (posix_memalign(&p, f->memory_bytes, *ret_size) != 0)
		return -ENOMEM;
	*ret = p;
	return 0;
}

static bool is_aligned_memory(const struct file *f, const void *p)
{
	return ((uintptr_t)p & (f->memory_bytes - 1)) == 0;
}

static int read_bounced(struct file *f, uint8_t *buf, size_t len, uint64_t offset)
{
	uint8_t *bounce;
	size_t size, n;
	int r = bounce_new(f, len, &bounce, &size);

	if (r < 0)
		return r;
	for (; r == 0 && len > 0; buf += n, len -= n, offset += n) {
		n = len < size ? len : size;
		r = read_into(f, bounce, n, offset);
		if (r == 0)
			memcpy(buf, bounce, n);
	}
	free(bounce);
	return r;
}

static int file_read(struct hf_image *i, void *buf, size_t len, uint64_t offset)
{
	struct file *f = file_of(i);

	if (f->is_direct && !is_aligned_memory(f, buf))
		return read_bounced(f, buf, len, offset);
	return read_into(f, buf, len, offset);
}

/* ---- writing ---- */

/* How much of a write counts: past the cache only whole blocks, the rest is written again. */
static size_t whole(const struct file *f, size_t n)
{
	return f->is_direct ? n & ~(size_t)(f->image.block_bytes - 1) : n;
}

static int write_from(struct file *f, const uint8_t *buf, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(f->fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (whole(f, (size_t)n) == 0)
			return -ENOSPC; /* taken nothing, refused nothing: there is no room */
		n = (ssize_t)whole(f, (size_t)n);
		buf += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int write_bounced(struct file *f, const struct iovec *iov, int n_iov, uint64_t offset)
{
	size_t len = hf_image_iov_bytes(iov, n_iov), at = 0, size, n;
	uint8_t *bounce;
	int r = bounce_new(f, len, &bounce, &size);

	if (r < 0)
		return r;
	for (; r == 0 && at < len; at += n) {
		n = len - at < size ? len - at : size;
		hf_image_gather(iov, n_iov, at, bounce, n);
		r = write_from(f, bounce, n, offset + at);
	}
	free(bounce);
	return r;
}

static bool must_bounce(const struct file *f, const struct iovec *iov, int n)
{
	if (!f->is_direct)
		return false;
	for (int i = 0; i < n; i++)
		if (!is_aligned_memory(f, iov[i].iov_base) ||
		    iov[i].iov_len % f->image.block_bytes != 0)
			return true;
	return false;
}

/* What a single call left of its vector, piece by piece; *at are bytes already written. */
static int write_rest(struct file *f, const struct iovec *iov, int n, size_t at, uint64_t offset)
{
	int r = 0;

	for (int i = 0; r == 0 && i < n; i++) {
		size_t skip = at < iov[i].iov_len ? at : iov[i].iov_len;

		r = write_from(f, (const uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip,
			       offset + skip);
		at -= skip;
		offset += iov[i].iov_len;
	}
	return r;
}

static int write_vector(struct file *f, const struct iovec *iov, int n, uint64_t offset)
{
	size_t len = hf_image_iov_bytes(iov, n);
	ssize_t done;

	do {
		done = pwritev(f->fd, iov, n, (off_t)offset);
	} while (done < 0 && errno == EINTR);
	if (done < 0)
		return -errno;
	return (size_t)done == len ? 0 : write_rest(f, iov, n, whole(f, (size_t)done), offset);
}

static int file_writev(struct hf_image *i, const struct iovec *iov, int n, uint64_t offset)
{
	struct file *f = file_of(i);
	int r = 0;

	if (must_bounce(f, iov, n))
		return write_bounced(f, iov, n, offset);
	while (r == 0 && n > 0) {
		int now = n < IOV_MAX ? n : IOV_MAX;

		r = write_vector(f, iov, now, offset);
		offset += hf_image_iov_bytes(iov, now);
		iov += now;
		n -= now;
	}
	return r;
}

/* ---- zeros ---- */

enum { NOT_SUPPORTED = 1 };

/* 0, NOT_SUPPORTED or -errno. */
static int allocate(struct file *f, int mode, uint64_t len, uint64_t offset, atomic_bool *has_not)
{
	int r;

	if (atomic_load_explicit(has_not, memory_order_relaxed))
		return NOT_SUPPORTED;
	do {
		r = fallocate(f->fd, mode, (off_t)offset, (off_t)len);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	/* Devices say EINVAL or EREMOTEIO, too, for what they cannot do. */
	if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL && errno != ENODEV &&
	    errno != EREMOTEIO)
		return -errno;
	atomic_store_explicit(has_not, true, memory_order_relaxed);
	return NOT_SUPPORTED;
}

static int punch(struct file *f, uint64_t len, uint64_t offset)
{
	return allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, len, offset,
			&f->has_no_punch);
}

/* Zeros that keep their room. Where a file system cannot make them in one step (tmpfs): a hole, and
 * then room for it. */
static int zero_range(struct file *f, uint64_t len, uint64_t offset)
{
	int r = allocate(f, FALLOC_FL_ZERO_RANGE, len, offset, &f->has_no_zero_range);

	if (r != NOT_SUPPORTED || f->is_device)
		return r;
	r = punch(f, len, offset);
	if (r != 0)
		return r;
	r = allocate(f, 0, len, offset, &f->has_no_allocate);
	return r == NOT_SUPPORTED ? 0 : r;
}

/* The kernel's own way for a device that has no command for it: it writes the zeros. */
static int zero_device(struct file *f, uint64_t len, uint64_t offset)
{
	uint64_t range[2] = { offset, len };
	int r;

	do {
		r = ioctl(f->fd, BLKZEROOUT, range);
	} while (r < 0 && errno == EINTR);
	return r == 0 ? 0 : NOT_SUPPORTED;
}

/* A device's discard need not read as zeros; both of these do (fallocate(2) on devices:
 * block/fops.c). */
static int zero_whole(struct file *f, uint64_t len, uint64_t offset, bool may_trim)
{
	int r = may_trim ? punch(f, len, offset) : NOT_SUPPORTED;

	if (r == NOT_SUPPORTED)
		r = zero_range(f, len, offset);
	if (r == NOT_SUPPORTED && f->is_device)
		r = zero_device(f, len, offset);
	return r == NOT_SUPPORTED ? hf_image_write_zeros(&f->image, len, offset) : r;
}

static int file_zero(struct hf_image *i, uint64_t len, uint64_t offset, bool may_trim)
{
	struct file *f = file_of(i);
	uint64_t mask = f->sector_bytes - 1, head, tail;
	int r;

	if (!f->is_device)
		return zero_whole(f, len, offset, may_trim);
	head = -offset & mask;
	if (head >= len)
		return hf_image_write_zeros(i, len, offset);
	tail = (offset + len) & mask;
	r = head ? hf_image_write_zeros(i, head, offset) : 0;
	if (r == 0 && len - head > tail)
		r = zero_whole(f, len - head - tail, offset + head, may_trim);
	if (r == 0 && tail)
		r = hf_image_write_zeros(i, tail, offset + len - tail);
	return r;
}

/* ---- the rest ---- */

static int file_flush(struct hf_image *i)
{
	int r;

	do {
		r = fdatasync(file_of(i)->fd);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int file_extent(struct hf_image *i, uint64_t offset, uint64_t end, uint64_t *ret_len,
		       bool *ret_is_hole)
{
	struct file *f = file_of(i);
	off_t data = -1, hole;

	*ret_is_hole = false;
	*ret_len = end - offset;
	if (atomic_load_explicit(&f->has_no_seek, memory_order_relaxed))
		return 0;
	data = lseek(f->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 &&
	    errno == ENXIO) { /* nothing but a hole behind it, or it is behind the end */
		*ret_is_hole = true;
		return 0;
	}
	if (data < 0) {
		atomic_store_explicit(&f->has_no_seek, true, memory_order_relaxed);
		return 0;
	}
	if ((uint64_t)data > offset) {
		*ret_is_hole = true;
		*ret_len = (uint64_t)data - offset;
		return 0;
	}
	hole = lseek(f->fd, (off_t)offset, SEEK_HOLE);
	if (hole > 0 && (uint64_t)hole > offset)
		*ret_len = (uint64_t)hole - offset;
	return 0;
}

static void file_close(struct hf_image *i)
{
	struct file *f = file_of(i);

	if (f->fd >= 0)
		(void)close(f->fd);
	hf_image_fini(i);
	free(f);
}

static const struct hf_image_ops file_ops = {
	.read = file_read,
	.writev = file_writev,
	.zero = file_zero,
	.flush = file_flush,
	.extent = file_extent,
	.close = file_close,
};

/* ---- opening ---- */

enum lock { LOCK_TAKEN, LOCK_IN_USE };

static int lock_byte(int fd, int command, short type, off_t byte, struct flock *ret)
{
	*ret = (struct flock){ .l_whence = SEEK_SET, .l_start = byte, .l_len = 1, .l_type = type };
	return fcntl(fd, command, ret);
}

/*
 * As QEMU: shared locks only. On a byte for each thing that we do, and on one for each that others
 * must not do; then a look whether somebody has locked a byte of the other kind. First take, then
 * look: of two that come at once at least one gives way. A file system without such locks has none
 * (as with QEMU).
 */
static enum lock take_locks(int fd)
{
	static const bool is_shared[PERMS] = { [PERM_READ] = true, [PERM_WRITE_UNCHANGED] = true };
	struct flock l;

	for (int p = 0; p < PERMS; p++) {
		if (lock_byte(fd, F_OFD_SETLK, F_RDLCK, LOCK_HELD + p, &l) < 0 ||
		    (!is_shared[p] &&
		     lock_byte(fd, F_OFD_SETLK, F_RDLCK, LOCK_NOT_SHARED + p, &l) < 0))
			return errno == EAGAIN || errno == EACCES ? LOCK_IN_USE : LOCK_TAKEN;
	}
	for (int p = 0; p < PERMS; p++) {
		if (lock_byte(fd, F_OFD_GETLK, F_WRLCK, LOCK_NOT_SHARED + p, &l) == 0 &&
		    l.l_type != F_UNLCK)
			return LOCK_IN_USE;
		if (!is_shared[p] && lock_byte(fd, F_OFD_GETLK, F_WRLCK, LOCK_HELD + p, &l) == 0 &&
		    l.l_type != F_UNLCK)
			return LOCK_IN_USE;
	}
	return LOCK_TAKEN;
}

static bool is_power_of_two(uint64_t n)
{
	return n > 0 && (n & (n - 1)) == 0;
}

/* Smallest block that a file can be read by past the cache, if the kernel does not say. */
static uint32_t probe_block(int fd)
{
	void *p;
	uint32_t block = 512;

	if (posix_memalign(&p, DIRECT_MEMORY_BYTES, DIRECT_MEMORY_BYTES) != 0)
		return DIRECT_MEMORY_BYTES;
	if (pread(fd, p, 512, 512) < 0 && errno == EINVAL)
		block = DIRECT_MEMORY_BYTES;
	free(p);
	return block;
}

static void find_direct_alignment(struct file *f)
{
	struct statx x = { 0 };

	f->memory_bytes = DIRECT_MEMORY_BYTES;
	f->image.block_bytes = 0;
#ifdef STATX_DIOALIGN
	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) == 0 &&
	    (x.stx_mask & STATX_DIOALIGN) && is_power_of_two(x.stx_dio_offset_align) &&
	    is_power_of_two(x.stx_dio_mem_align)) {
		f->image.block_bytes = x.stx_dio_offset_align;
		f->memory_bytes = x.stx_dio_mem_align > sizeof(void *) ? x.stx_dio_mem_align
								       : (uint32_t)sizeof(void *);
	}
#endif
	if (f->image.block_bytes == 0)
		f->image.block_bytes = f->is_device ? f->sector_bytes : probe_block(f->fd);
}

static int device_size(struct file *f, uint64_t *ret_bytes)
{
	int sector = 0;

	if (ioctl(f->fd, BLKGETSIZE64, ret_bytes) < 0 || ioctl(f->fd, BLKSSZGET, &sector) < 0)
		return -errno;
	if (sector < 512 || (uint32_t)sector > BLOCK_MAX_BYTES ||
	    !is_power_of_two((uint64_t)sector))
		return -EINVAL;
	f->sector_bytes = (uint32_t)sector;
	return 0;
}

/* How large it is, what kind it is, how it wants to be read. */
static int look_at(struct file *f, const struct stat *st, const struct hf_image_config *config,
		   struct hf_err *err)
{
	uint64_t own = (uint64_t)st->st_size;
	int r = f->is_device ? device_size(f, &own) : 0;

	if (r < 0) {
		hf_err_set(err, "%s: its size cannot be found: %s", config->location, strerror(-r));
		return r;
	}
	f->image.can_trim = true;
	f->image.can_grow = !f->is_device;
	if (config->size_bytes == 0)
		f->image.size_bytes = own;
	if (f->is_direct)
		find_direct_alignment(f);
	if (f->image.size_bytes > own && f->is_device) {
		hf_err_set(err, "%s: it has %llu bytes, and the disk %llu", config->location,
			   (unsigned long long)own, (unsigned long long)f->image.size_bytes);
		return -EINVAL;
	}
	if (f->image.size_bytes % f->image.block_bytes != 0) {
		hf_err_set(err,
			   "%s: the disk's %llu bytes are no multiple of the %u that this storage "
			   "wants past the page cache",
			   config->location, (unsigned long long)f->image.size_bytes,
			   f->image.block_bytes);
		return -EINVAL;
	}
	return 0;
}

static int check_kind(const char *path, struct stat *ret, struct hf_err *err)
{
	int r = 0;

	if (stat(path, ret) < 0)
		r = -errno;
	else if (S_ISDIR(ret->st_mode))
		r = -EISDIR;
	if (r < 0)
		hf_err_set(err, "%s: %s", path, strerror(-r));
	else if (!S_ISREG(ret->st_mode) && !S_ISBLK(ret->st_mode)) {
		r = -EINVAL;
		hf_err_set(err, "%s: it is neither a file nor a block device", path);
	}
	return r;
}

static int open_fd(const struct hf_image_config *config, struct hf_err *err)
{
	int flags = (config->is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
	int fd = open(config->location, flags | (config->is_direct ? O_DIRECT : 0)), r = -errno;

	if (fd < 0 && r == -EINVAL && config->is_direct)
		hf_err_set(err, "%s: its file system cannot be used past the page cache (O_DIRECT)",
			   config->location);
	else if (fd < 0)
		hf_err_set(err, "%s: %s", config->location, strerror(-r));
	return fd < 0 ? r : fd;
}

int hf_image_file_open(const struct hf_image_config *config, struct hf_image **ret,
		       struct hf_err *err)
{
	struct stat st;
	struct file *f;
	int r = check_kind(config->location, &st, err);

	if (r < 0)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	hf_image_init(&f->image, &file_ops, config);
	f->is_device = S_ISBLK(st.st_mode);
	f->is_direct = config->is_direct;
	f->fd = open_fd(config, err);
	r = f->fd < 0 ? f->fd : look_at(f, &st, config, err);
	if (r == 0 && !config->is_read_only && !config->is_shared &&
	    take_locks(f->fd) == LOCK_IN_USE) {
		hf_err_set(err,
			   "%s: another program has it open for writing, or for reading while "
			   "nobody writes (a QEMU, qemu-img, another disk process)",
			   config->location);
		r = -EBUSY;
	}
	if (r < 0)
		file_close(&f->image);
	else
		*ret = &f->image;
	return r;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "disk/dirtymap-internal.h"

#define VERSION 1u
#define FLAG_CLEAN 1u

static const char magic[8] = "HFDIRTY1";

enum offset {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_CRC32C = 12,
	AT_DISK_BYTES = 16,
	AT_BLOCK_BYTES = 24,
	AT_FLAGS = 28,
	AT_SESSION = 32,
	AT_BOOT = 48,
	AT_END = 64,
};

uint64_t hf_dirtyfile_blocks(uint64_t disk_bytes)
{
	return disk_bytes / HF_DIRTYMAP_BLOCK_BYTES + !!(disk_bytes % HF_DIRTYMAP_BLOCK_BYTES);
}

/* Of the whole page; the checksum itself counts as zeros. */
static uint32_t checksum(const uint8_t *buf)
{
	static const uint8_t zeros[4];
	uint32_t crc = hf_crc32c(0, buf, AT_CRC32C);

	crc = hf_crc32c(crc, zeros, sizeof(zeros));
	return hf_crc32c(crc, buf + AT_CRC32C + 4, HF_DIRTYFILE_HEADER_BYTES - AT_CRC32C - 4);
}

static void put_id(uint8_t *buf, struct hf_id id)
{
	hf_le64_put(buf, id.hi);
	hf_le64_put(buf + 8, id.lo);
}

static struct hf_id get_id(const uint8_t *buf)
{
	return (struct hf_id){ .hi = hf_le64_get(buf), .lo = hf_le64_get(buf + 8) };
}

void hf_dirtyfile_put(uint8_t *buf, const struct hf_dirtyfile_header *header)
{
	memset(buf, 0, HF_DIRTYFILE_HEADER_BYTES);
	memcpy(buf + AT_MAGIC, magic, sizeof(magic));
	hf_le32_put(buf + AT_VERSION, VERSION);
	hf_le64_put(buf + AT_DISK_BYTES, header->disk_bytes);
	hf_le32_put(buf + AT_BLOCK_BYTES, HF_DIRTYMAP_BLOCK_BYTES);
	hf_le32_put(buf + AT_FLAGS, header->is_clean ? FLAG_CLEAN : 0);
	put_id(buf + AT_SESSION, header->session);
	put_id(buf + AT_BOOT, header->boot);
	hf_le32_put(buf + AT_CRC32C, checksum(buf));
}

bool hf_dirtyfile_get(const uint8_t *buf, struct hf_dirtyfile_header *ret)
{
	uint32_t flags = hf_le32_get(buf + AT_FLAGS);

	if (memcmp(buf + AT_MAGIC, magic, sizeof(magic)) != 0 ||
	    hf_le32_get(buf + AT_VERSION) != VERSION ||
	    hf_le32_get(buf + AT_CRC32C) != checksum(buf))
		return false;
	if (hf_le32_get(buf + AT_BLOCK_BYTES) != HF_DIRTYMAP_BLOCK_BYTES ||
	    (flags & ~FLAG_CLEAN) != 0)
		return false;
	*ret = (struct hf_dirtyfile_header){ .disk_bytes = hf_le64_get(buf + AT_DISK_BYTES),
					     .is_clean = flags & FLAG_CLEAN,
					     .session = get_id(buf + AT_SESSION),
					     .boot = get_id(buf + AT_BOOT) };
	return true;
}

/* "3f0e...-...": the digits of it. None where there is no such file: then no boot is like
 * another. */
static struct hf_id read_boot_id(void)
{
	struct hf_id id = { 0, 0 };
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned int digits = 0;
	int c;

	while (f && (c = fgetc(f)) != EOF) {
		const char *at = c > 0 ? strchr("0123456789abcdef", c) : NULL;

		if (!at)
			continue;
		id.hi = id.hi << 4 | id.lo >> 60;
		id.lo = id.lo << 4 | (uint64_t)(at - "0123456789abcdef");
		digits++;
	}
	if (f)
		(void)fclose(f);
	return digits == 32 ? id : (struct hf_id){ 0, 0 };
}

static int write_all(int fd, const uint8_t *buf, size_t len, off_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, buf, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		buf += n;
		len -= (size_t)n;
		at += n;
	}
	return 0;
}

static int write_header(struct hf_dirtyfile *f)
{
	uint8_t buf[HF_DIRTYFILE_HEADER_BYTES];
	int r;

	hf_dirtyfile_put(buf, &f->header);
	r = write_all(f->fd, buf, sizeof(buf), 0);
	return r < 0 ? r : fdatasync(f->fd) < 0 ? -errno : 0;
}

/* Is what stands there about this disk, and complete? */
static bool is_known(const struct hf_dirtyfile *f, uint64_t disk_bytes, struct hf_id boot,
		     struct hf_dirtyfile_header *ret)
{
	uint8_t buf[HF_DIRTYFILE_HEADER_BYTES];
	struct hf_dirtyfile_header h;
	struct stat st;

	if (fstat(f->fd, &st) < 0 || (uint64_t)st.st_size != f->size_bytes ||
	    pread(f->fd, buf, sizeof(buf), 0) != (ssize_t)sizeof(buf) ||
	    !hf_dirtyfile_get(buf, &h) || h.disk_bytes != disk_bytes)
		return false;
	*ret = h;
	return h.is_clean || (!hf_id_is_none(boot) && hf_id_is_equal(h.boot, boot));
}

/* All of it now: a mapped page without room would end the process when it is written. */
static int make_room(struct hf_dirtyfile *f)
{
	int r;

	if (ftruncate(f->fd, (off_t)f->size_bytes) < 0)
		return -errno;
	do {
		r = posix_fallocate(f->fd, 0, (off_t)f->size_bytes);
	} while (r == EINTR);
	return -r;
}

static int map_file(struct hf_dirtyfile *f)
{
	void *map = mmap(NULL, f->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	f->map = map;
	return 0;
}

static int begin_anew(struct hf_dirtyfile *f)
{
	int r = ftruncate(f->fd, 0) < 0 ? -errno : make_room(f);

	if (r == 0)
		r = map_file(f);
	if (r == 0 && f->map)
		memset(f->map + HF_DIRTYFILE_HEADER_BYTES, 0xff, f->bits_bytes);
	return r;
}

static int lock_and_map(struct hf_dirtyfile *f, uint64_t disk_bytes)
{
	struct hf_id boot = read_boot_id();
	int r;

	if (flock(f->fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	f->is_trusted = is_known(f, disk_bytes, boot, &f->header);
	if (!f->is_trusted)
		f->header = (struct hf_dirtyfile_header){ .disk_bytes = disk_bytes };
	r = f->is_trusted ? make_room(f) : 0;
	if (r == 0)
		r = f->is_trusted ? map_file(f) : begin_anew(f);
	if (r < 0)
		return r;
	/* Before the first bit is set, or a power failure would make an old map a trusted one. */
	f->header.is_clean = false;
	f->header.boot = boot;
	return write_header(f);
}

void hf_dirtyfile_abandon(struct hf_dirtyfile *f)
{
	if (f->map)
		(void)munmap(f->map, f->size_bytes);
	if (f->fd >= 0)
		(void)close(f->fd);
	f->map = NULL;
	f->fd = -1;
}

int hf_dirtyfile_open(const char *path, uint64_t disk_bytes, struct hf_dirtyfile *ret,
		      struct hf_err *err)
{
	struct hf_dirtyfile f = { .fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) };
	int r = f.fd < 0 ? -errno : 0;

	f.bits_bytes = ((hf_dirtyfile_blocks(disk_bytes) + 63) / 64 * 8 + 4095) & ~(uint64_t)4095;
	f.size_bytes = HF_DIRTYFILE_HEADER_BYTES + f.bits_bytes;
	if (r == 0)
		r = lock_and_map(&f, disk_bytes);
	if (r < 0) {
		hf_err_set(err, "%s: the dirty map cannot be used: %s", path,
			   r == -EBUSY ? "another process has it" : strerror(-r));
		hf_dirtyfile_abandon(&f);
		return r;
	}
	*ret = f;
	return 0;
}

/* A process that dies in the middle of it leaves a wrong checksum: a map that is not trusted. */
void hf_dirtyfile_set_session(struct hf_dirtyfile *f, struct hf_id session)
{
	f->header.session = session;
	hf_dirtyfile_put(f->map, &f->header);
}

void hf_dirtyfile_close(struct hf_dirtyfile *f)
{
	if (f->map && msync(f->map, f->size_bytes, MS_SYNC) == 0) {
		f->header.is_clean = true;
		(void)write_header(f);
	}
	hf_dirtyfile_abandon(f);
}

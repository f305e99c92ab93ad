/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files with a memory: the oracle of a disk with a file system. Theory of operation:
 *
 * Writers give each file one version after the other. A version's content says which file and which
 * version it is, and follows from both. Only when the kernel has said that a version is durable
 * (fsync, and that of the folder where a name has changed), "durable" says so to the outside, and
 * from then on that version or a later one must be found, whatever dies.
 *
 * The three kinds of file never destroy the version that counts while they write the next:
 *   ring     slots in one file, overwritten in turn: data in place, no new names
 *   rename   written under another name, which then takes the place of the old one
 *   replace  a new name for each version; the one before is deleted once the new one is durable
 *
 * A check of the boot that wrote the files knows exactly what must be there, and reads it from the
 * disk after dropping the kernel's caches. After a crash of the guest itself the version
 * under way may be there in part, so one bad piece per file is legal, and what counts is what the
 * outside was told.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define WRITERS_MAX 16
#define MAGIC UINT64_C(0x31454c4946464821)
#define HEAD_BYTES 32
#define CONTENT_MAX ((size_t)1 << 20)
#define CONTENT_DEFAULT_KIB 16
#define SLOTS 8
#define SLOT_BYTES ((size_t)32 << 10)

enum kind { RING, RENAME, REPLACE, KINDS };

struct file {
	uint64_t version; /* the last one written; its writer's alone while it runs */
	bool is_known; /* this boot has written it, so that it must be exactly this */
	_Atomic uint64_t durable;
	_Atomic uint64_t found;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t is_changed;
	struct file file[GUEST_FILES_MAX];
	unsigned int started;
	unsigned int active; /* writers in the middle of something */
	_Atomic uint64_t wanted;
	uint64_t files;
	uint64_t max_bytes;
	uint64_t rate;
	_Atomic uint64_t count;
} files = { .lock = PTHREAD_MUTEX_INITIALIZER, .is_changed = PTHREAD_COND_INITIALIZER };

/* What a check has seen of one file. */
struct finding {
	uint64_t version; /* highest whole one */
	unsigned int bad; /* pieces that are no version */
	unsigned int names; /* whole versions that are there */
	int error;
};

static enum kind kind_of(unsigned int i)
{
	return (enum kind)(i % KINDS);
}

/* --- contents --- */

static uint64_t content_seed(unsigned int i, uint64_t version)
{
	return hf_pattern_mix(MAGIC + i * UINT64_C(0x10001) + (version << 20));
}

static size_t content_bytes(unsigned int i, uint64_t version)
{
	uint64_t max = files.max_bytes;

	if (kind_of(i) == RING && max > SLOT_BYTES)
		max = SLOT_BYTES;
	return HEAD_BYTES + content_seed(i, version) % (max - HEAD_BYTES);
}

static uint64_t head_check(const uint8_t *buf)
{
	uint64_t check = MAGIC;

	for (size_t at = 0; at < HEAD_BYTES - 8; at += 8)
		check = hf_pattern_mix(check ^ hf_le64_get(buf + at));
	return check;
}

static void fill_content(uint8_t *buf, size_t len, unsigned int i, uint64_t version)
{
	hf_le64_put(buf, MAGIC);
	hf_le64_put(buf + 8, (uint64_t)i << 32 | len);
	hf_le64_put(buf + 16, version);
	hf_le64_put(buf + 24, head_check(buf));
	hf_pattern_fill(buf + HEAD_BYTES, len - HEAD_BYTES, content_seed(i, version), 0);
}

/* The version that stands at the front of @buf, whole and right, or 0. */
static uint64_t version_in(const uint8_t *buf, size_t len, unsigned int i)
{
	uint64_t version;
	size_t bytes;

	if (len < HEAD_BYTES || hf_le64_get(buf) != MAGIC ||
	    hf_le64_get(buf + 24) != head_check(buf) || hf_le64_get(buf + 8) >> 32 != i)
		return 0;
	bytes = (size_t)(hf_le64_get(buf + 8) & UINT32_MAX);
	version = hf_le64_get(buf + 16);
	if (bytes > len || bytes < HEAD_BYTES)
		return 0;
	bytes -= HEAD_BYTES;
	return hf_pattern_match(buf + HEAD_BYTES, bytes, content_seed(i, version), 0) == bytes
		       ? version
		       : 0;
}

/* --- writing --- */

static void path_of(char *path, size_t size, const char *what, unsigned int i, uint64_t version)
{
	if (version > 0)
		(void)snprintf(path, size, GUEST_MOUNT "/%s-%u-%llu", what, i,
			       (unsigned long long)version);
	else
		(void)snprintf(path, size, GUEST_MOUNT "/%s-%u", what, i);
}

/* Writes, makes durable, closes. */
static int write_out(const char *path, int flags, const uint8_t *buf, size_t len, off_t offset)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
	int r = 0;

	if (fd < 0)
		return -errno;
	for (size_t done = 0; r == 0 && done < len;) {
		ssize_t n = pwrite(fd, buf + done, len - done, offset + (off_t)done);

		if (n < 0)
			r = -errno;
		else
			done += (size_t)n;
	}
	if (r == 0 && (flags & O_TRUNC ? fsync(fd) : fdatasync(fd)) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int write_ring(unsigned int i, uint64_t version, const uint8_t *buf, size_t len)
{
	char path[64];
	int r;

	path_of(path, sizeof(path), "ring", i, 0);
	r = write_out(path, 0, buf, len, (off_t)(version % SLOTS * SLOT_BYTES));
	return r == 0 && version <= SLOTS ? guest_disk_sync_names() : r;
}

static int write_rename(unsigned int i, const uint8_t *buf, size_t len)
{
	char path[64], temporary[64];
	int r;

	path_of(path, sizeof(path), "file", i, 0);
	path_of(temporary, sizeof(temporary), "new", i, 0);
	r = write_out(temporary, O_TRUNC, buf, len, 0);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	return r < 0 ? r : guest_disk_sync_names();
}

static int write_replace(unsigned int i, uint64_t version, const uint8_t *buf, size_t len)
{
	char path[64];
	int r;

	path_of(path, sizeof(path), "gen", i, version);
	r = write_out(path, O_TRUNC, buf, len, 0);
	return r < 0 ? r : guest_disk_sync_names();
}

static void remove_replaced(unsigned int i, uint64_t version)
{
	char path[64];

	path_of(path, sizeof(path), "gen", i, version);
	if (version > 0 && unlink(path) < 0 && errno != ENOENT)
		guest_io_error("unlink", errno);
}

static int write_version(unsigned int i, uint8_t *buf)
{
	struct file *f = &files.file[i];
	uint64_t version = f->version + 1;
	size_t len = content_bytes(i, version);
	int r;

	fill_content(buf, len, i, version);
	if (kind_of(i) == RING)
		r = write_ring(i, version, buf, len);
	else if (kind_of(i) == RENAME)
		r = write_rename(i, buf, len);
	else
		r = write_replace(i, version, buf, len);
	if (r < 0)
		return r;
	f->version = version;
	f->is_known = true;
	f->durable = version;
	files.count++;
	if (kind_of(i) == REPLACE)
		remove_replaced(i, version - 1);
	return 0;
}

static void rest(uint64_t rate)
{
	struct timespec ts = { 0, rate > 1 ? (long)(1000000000 / rate) : 999999999 };

	if (rate > 0)
		(void)nanosleep(&ts, NULL);
}

/* Until the writers are to stop, or a disk fails. */
static void write_all(unsigned int index, uint8_t *buf)
{
	uint64_t writers = files.wanted, count = files.files, rate = files.rate;

	for (unsigned int i = index;; i = i + writers < count ? i + (unsigned int)writers : index) {
		int r;

		if (files.wanted != writers || index >= count)
			return;
		r = write_version(i, buf);
		if (r < 0) {
			guest_io_error("files", -r);
			files.wanted = 0;
			return;
		}
		rest(rate);
	}
}

static void *writer_thread(void *arg)
{
	unsigned int index = (unsigned int)(uintptr_t)arg;
	uint8_t *buf = malloc(CONTENT_MAX);

	if (!buf)
		return NULL;
	(void)pthread_mutex_lock(&files.lock);
	for (;;) {
		while (index >= files.wanted)
			(void)pthread_cond_wait(&files.is_changed, &files.lock);
		files.active++;
		(void)pthread_mutex_unlock(&files.lock);
		write_all(index, buf);
		(void)pthread_mutex_lock(&files.lock);
		files.active--;
		(void)pthread_cond_broadcast(&files.is_changed);
		/* One that has failed, or has no files, waits for another order. */
		while (index < files.wanted && index >= files.files)
			(void)pthread_cond_wait(&files.is_changed, &files.lock);
	}
}

/* With the lock held. */
static void stop_writers(void)
{
	files.wanted = 0;
	while (files.active > 0)
		(void)pthread_cond_wait(&files.is_changed, &files.lock);
}

static bool start_threads(uint64_t count)
{
	pthread_t t;

	while (files.started < count) {
		if (pthread_create(&t, NULL, writer_thread, (void *)(uintptr_t)files.started) != 0)
			return false;
		files.started++;
	}
	return true;
}

static bool are_sound(uint64_t writers, uint64_t count, uint64_t max_kib, char *reply)
{
	if (writers <= WRITERS_MAX && count <= GUEST_FILES_MAX && writers <= count &&
	    max_kib <= CONTENT_MAX >> 10)
		return true;
	(void)snprintf(reply, GUEST_TEXT_MAX, "error at most %d writers of at most %d files",
		       WRITERS_MAX, GUEST_FILES_MAX);
	return false;
}

void guest_files_start(uint64_t writers, uint64_t count, uint64_t max_kib, uint64_t rate,
		       char *reply)
{
	if (!are_sound(writers, count, max_kib, reply))
		return;
	(void)pthread_mutex_lock(&files.lock);
	stop_writers();
	files.files = count;
	files.max_bytes = (max_kib ? max_kib : CONTENT_DEFAULT_KIB) << 10;
	files.rate = rate;
	(void)snprintf(reply, GUEST_TEXT_MAX, "ok writers=%llu", (unsigned long long)writers);
	if (!start_threads(writers))
		(void)snprintf(reply, GUEST_TEXT_MAX, "error no more threads");
	else
		files.wanted = writers;
	(void)pthread_cond_broadcast(&files.is_changed);
	(void)pthread_mutex_unlock(&files.lock);
}

/* --- verifying --- */

static void look_at(struct finding *found, unsigned int i, const uint8_t *buf, size_t len)
{
	uint64_t version = version_in(buf, len, i);

	if (version == 0) {
		found->bad++;
		return;
	}
	found->names++;
	if (version > found->version)
		found->version = version;
}

/* The whole of a file, or what fits; negative with the reason counted. */
static ssize_t read_all(const char *path, uint8_t *buf, size_t size, struct finding *found)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0 && errno == ENOENT)
		return -1;
	while (fd >= 0 && n > 0 && len < size) {
		n = read(fd, buf + len, size - len);
		if (n > 0)
			len += (size_t)n;
	}
	if (fd < 0 || n < 0)
		found->error = errno;
	if (fd >= 0)
		(void)close(fd);
	return found->error ? -1 : (ssize_t)len;
}

static bool is_all_zero(const uint8_t *buf, size_t len)
{
	for (size_t n = 0; n < len; n++)
		if (buf[n])
			return false;
	return true;
}

static void find_ring(unsigned int i, uint8_t *buf, struct finding *found)
{
	char path[64];
	ssize_t len;

	path_of(path, sizeof(path), "ring", i, 0);
	len = read_all(path, buf, SLOTS * SLOT_BYTES, found);
	for (size_t at = 0; len > 0 && at < (size_t)len; at += SLOT_BYTES) {
		size_t room = (size_t)len - at < SLOT_BYTES ? (size_t)len - at : SLOT_BYTES;

		if (!is_all_zero(buf + at, room))
			look_at(found, i, buf + at, room);
	}
}

static void find_name(const char *path, unsigned int i, uint8_t *buf, struct finding *found)
{
	ssize_t len = read_all(path, buf, CONTENT_MAX, found);

	if (len >= 0)
		look_at(found, i, buf, (size_t)len);
}

static void find_replace(unsigned int i, uint8_t *buf, struct finding *found)
{
	char prefix[16], path[sizeof(GUEST_MOUNT) + 256];
	DIR *folder = opendir(GUEST_MOUNT);

	(void)snprintf(prefix, sizeof(prefix), "gen-%u-", i);
	if (!folder)
		found->error = errno;
	for (struct dirent *e; folder && (e = readdir(folder));) {
		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
			continue;
		(void)snprintf(path, sizeof(path), GUEST_MOUNT "/%s", e->d_name);
		find_name(path, i, buf, found);
	}
	if (folder)
		(void)closedir(folder);
}

static struct finding find_file(unsigned int i, uint8_t *buf)
{
	struct finding found = { 0 };
	char path[64];

	if (kind_of(i) == RING) {
		find_ring(i, buf, &found);
	} else if (kind_of(i) == REPLACE) {
		find_replace(i, buf, &found);
	} else {
		path_of(path, sizeof(path), "file", i, 0);
		find_name(path, i, buf, &found);
	}
	return found;
}

/* Is it what it must be? A boot that has not written the file takes it as it is. */
static bool is_right(unsigned int i, const struct finding *found)
{
	const struct file *f = &files.file[i];
	unsigned int in_part = kind_of(i) == RENAME ? 0 : 1;

	if (found->error)
		return false;
	if (!f->is_known)
		return found->bad <= in_part && (kind_of(i) != REPLACE || found->names <= 2);
	return found->bad == 0 && found->version == f->version &&
	       (kind_of(i) != REPLACE || found->names == 1);
}

static void check_file(unsigned int i, uint8_t *buf, unsigned int *bad, char *first)
{
	struct file *f = &files.file[i];
	struct finding found = find_file(i, buf);

	f->found = found.version;
	if (!is_right(i, &found) && (*bad)++ == 0)
		(void)snprintf(first, GUEST_TEXT_MAX / 2,
			       "file %u (kind %d): found version %llu, want %s%llu; %u bad pieces, "
			       "%u names, %s",
			       i, kind_of(i), (unsigned long long)found.version,
			       f->is_known ? "" : "any, had ", (unsigned long long)f->version,
			       found.bad, found.names, strerror(found.error));
	if (found.error)
		guest_io_error("filecheck", found.error);
	if (f->is_known)
		return;
	f->version = found.version;
	/* The crash may have undone that. */
	if (kind_of(i) == REPLACE && found.version > 0)
		remove_replaced(i, found.version - 1);
}

void guest_files_check(char *reply)
{
	uint8_t *buf = malloc(CONTENT_MAX);
	char first[GUEST_TEXT_MAX / 2] = "";
	unsigned int bad = 0;
	uint64_t sum = 0;

	_Static_assert(SLOTS * SLOT_BYTES <= CONTENT_MAX, "the buffer holds a whole ring");
	if (!buf) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error no memory");
		return;
	}
	(void)pthread_mutex_lock(&files.lock);
	stop_writers();
	guest_drop_caches();
	for (unsigned int i = 0; i < GUEST_FILES_MAX; i++) {
		check_file(i, buf, &bad, first);
		sum += files.file[i].found;
	}
	(void)pthread_mutex_unlock(&files.lock);
	free(buf);
	if (bad > 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error bad=%u: %s", bad, first);
	else
		(void)snprintf(reply, GUEST_TEXT_MAX, "ok bad=0 versions=%llu",
			       (unsigned long long)sum);
}

void guest_files_forget(void)
{
	(void)pthread_mutex_lock(&files.lock);
	stop_writers();
	for (unsigned int i = 0; i < GUEST_FILES_MAX; i++) {
		files.file[i].is_known = false;
		files.file[i].version = 0;
		files.file[i].durable = 0;
	}
	(void)pthread_mutex_unlock(&files.lock);
}

uint64_t guest_files_durable(unsigned int i)
{
	return files.file[i].durable;
}

uint64_t guest_files_found(unsigned int i)
{
	return files.file[i].found;
}

uint64_t guest_files_count(void)
{
	return files.count;
}

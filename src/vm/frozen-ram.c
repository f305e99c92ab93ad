/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a frozen instance keeps: its memory, and how much that takes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/procstat.h"
#include "vm/frozen-internal.h"

bool hf_process_id_is_alive(const struct hf_process_id *p)
{
	return hf_procstat_is_alive(p->pid, p->start_ticks);
}

struct hf_process_id hf_process_id_of(pid_t pid)
{
	struct hf_process_id id = { .pid = 0 };
	struct hf_procstat s;

	if (pid > 0 && hf_procstat_read(pid, 0, &s) == 0) {
		id.pid = pid;
		id.start_ticks = s.start_ticks;
	}
	return id;
}

/* In doubt they are: what lives under the number and start time of one is taken for it then. */
bool hf_frozen_is_of_this_boot(const struct hf_certificate *c)
{
	char boot_id[HF_BOOT_ID_TEXT];

	return !*c->boot_id || hf_procstat_boot_id(boot_id) < 0 || strcmp(c->boot_id, boot_id) == 0;
}

/* ---- its memory ---- */

static int lost(struct hf_err *err, const char *why)
{
	hf_err_set(err, "the memory of the frozen instance is lost: %s", why);
	return -ENODATA;
}

/* The holder must be alive after the file is open, too: then it was its file. */
static int open_held(const struct hf_certificate *c, int *ret_fd, struct hf_err *err)
{
	char path[64];
	int fd;

	if (!hf_frozen_is_of_this_boot(c))
		return lost(err, "the host has been started anew since");
	if (!hf_process_id_is_alive(&c->ram_holder))
		return lost(err, "the process that kept it has ended");
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)c->ram_holder.pid, c->ram_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT) {
		hf_err_set(err, "cannot open the memory of the frozen instance, %s: %s", path,
			   strerror(errno));
		return -errno;
	}
	if (fd < 0 || !hf_process_id_is_alive(&c->ram_holder)) {
		hf_fd_close(&fd);
		return lost(err, "the process that kept it has ended, or has let go of it");
	}
	*ret_fd = fd;
	return 0;
}

static int open_file(const struct hf_frozen *f, int *ret_fd, struct hf_err *err)
{
	char path[PATH_MAX];
	int r = hf_frozen_join(f->path, HF_FROZEN_RAM, path, err);

	if (r < 0)
		return r;
	*ret_fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret_fd >= 0)
		return 0;
	r = -errno;
	hf_err_set(err, "cannot open %.300s: %s", path, strerror(-r));
	return r == -ENOENT ? -ENODATA : r;
}

static int check_size(int fd, uint64_t want_bytes, struct hf_err *err)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == want_bytes)
		return 0;
	return lost(err, "what is in its place has another size");
}

int hf_frozen_open_ram_of(const struct hf_certificate *c, int *ret_fd, struct hf_err *err)
{
	int fd = -1, r;

	if (c->ram != HF_REMAINS_PROCESS)
		return lost(err, "it was not kept");
	r = open_held(c, &fd, err);
	if (r == 0)
		r = check_size(fd, c->ram_bytes, err);
	if (r < 0)
		hf_fd_close(&fd);
	else
		*ret_fd = fd;
	return r;
}

int hf_frozen_open_ram(const struct hf_frozen *f, int *ret_fd, struct hf_err *err)
{
	const struct hf_certificate *c = &f->certificate;
	int fd = -1, r;

	if (!f->is_readable)
		return lost(err, f->trouble);
	if (c->ram != HF_REMAINS_FILE)
		return hf_frozen_open_ram_of(c, ret_fd, err);
	r = open_file(f, &fd, err);
	if (r == 0)
		r = check_size(fd, c->ram_bytes, err);
	if (r < 0)
		hf_fd_close(&fd);
	else
		*ret_fd = fd;
	return r;
}

/* ---- how much it takes ---- */

static uint64_t blocks_of(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512;
}

uint64_t hf_frozen_disk_bytes(const struct hf_frozen *f)
{
	DIR *dir = opendir(f->path);
	uint64_t bytes = 0;
	struct dirent *e;
	struct stat st;

	while (dir && (e = readdir(dir)))
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			bytes += blocks_of(&st);
	if (dir)
		(void)closedir(dir);
	return bytes;
}

uint64_t hf_frozen_used_bytes(const struct hf_frozen *f)
{
	uint64_t bytes = hf_frozen_disk_bytes(f);
	struct stat st;
	int fd = -1;

	if (f->is_readable && f->certificate.ram == HF_REMAINS_PROCESS &&
	    hf_frozen_open_ram(f, &fd, NULL) == 0 && fstat(fd, &st) == 0)
		bytes += blocks_of(&st);
	hf_fd_close(&fd);
	return bytes;
}

static bool may_go(const struct hf_frozen *f)
{
	return f->is_readable && f->certificate.is_certified;
}

size_t hf_frozen_retire(const struct hf_frozen *list, size_t n, unsigned int keep,
			uint64_t space_bytes, bool *ret_is_over)
{
	size_t left = n, retired = 0;
	uint64_t used = 0;

	for (size_t i = 0; space_bytes && i < n; i++)
		used += hf_frozen_used_bytes(&list[i]);
	for (size_t i = 0; i < n; i++) {
		bool is_over = (keep && left > keep) || (space_bytes && used > space_bytes);

		ret_is_over[i] = i + 1 < n && is_over && may_go(&list[i]);
		if (!ret_is_over[i])
			continue;
		if (space_bytes)
			used -= hf_frozen_used_bytes(&list[i]);
		left--;
		retired++;
	}
	return retired;
}

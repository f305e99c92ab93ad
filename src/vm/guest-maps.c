/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where QEMU has mapped guest RAM, found from outside: for when no preloaded library tells. The lines
 * of /proc/PID/maps are those of proc_pid_maps(5): start-end perms offset major:minor inode path.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "vm/guest-internal.h"

struct range {
	unsigned long long start, end, offset;
};

/* The next number of a line, and the one character behind it that must be @end. */
static bool take_number(const char **at, int base, char end, unsigned long long *ret)
{
	char *stop;

	errno = 0;
	*ret = strtoull(*at, &stop, base);
	if (errno || stop == *at || *stop != end)
		return false;
	*at = stop + 1;
	return true;
}

/* Is this line about the file? */
static bool parse_line(const char *line, const struct stat *st, struct range *ret)
{
	unsigned long long major_no, minor_no, inode;

	if (!take_number(&line, 16, '-', &ret->start) || !take_number(&line, 16, ' ', &ret->end))
		return false;
	line += strcspn(line, " "); /* permissions */
	line += *line == ' ';
	return take_number(&line, 16, ' ', &ret->offset) &&
	       take_number(&line, 16, ':', &major_no) && take_number(&line, 16, ' ', &minor_no) &&
	       take_number(&line, 10, ' ', &inode) && major_no == major(st->st_dev) &&
	       minor_no == minor(st->st_dev) && inode == st->st_ino;
}

/* One mapping may be told in several lines, when parts of it differ in their advice. */
static bool join(struct range *all, const struct range *next)
{
	if (all->end == all->start) {
		*all = *next;
		return true;
	}
	if (next->start != all->end || next->offset != all->offset + (all->end - all->start))
		return false;
	all->end = next->end;
	return true;
}

static int scan(FILE *maps, const struct stat *st, struct range *ret)
{
	struct range all = { 0 }, one;
	char *line = NULL;
	size_t size = 0;
	int r = 0;

	while (r == 0 && getline(&line, &size, maps) > 0) {
		if (parse_line(line, st, &one) && !join(&all, &one))
			r = -EMLINK;
	}
	free(line);
	if (r == 0 && all.end == all.start)
		r = -ENOENT;
	if (r == 0)
		*ret = all;
	return r;
}

int hf_guest_find_ram(const struct hf_guest *g, struct hf_report *report, struct hf_err *err)
{
	char path[64];
	struct range range;
	struct stat st;
	FILE *maps;
	int r;

	if (fstat(g->ram.fd, &st) < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)g->process.pid);
	maps = fopen(path, "re");
	if (!maps) {
		r = -errno;
		hf_err_set(err, "cannot read %s: %s", path, strerror(-r));
		return r;
	}
	r = scan(maps, &st, &range);
	(void)fclose(maps);
	if (r < 0) {
		hf_err_set(err, "guest memory is %s in QEMU, by %s",
			   r == -EMLINK ? "mapped in more than one place" : "not mapped", path);
		return r;
	}
	report->address = range.start;
	report->length_bytes = range.end - range.start;
	report->file_offset_bytes = range.offset;
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tracker has to know from /proc and /sys before it can trust the kernel's records. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/tracker-internal.h"

/* Long enough for every line that matters here; the rest of a longer one is read as further lines,
 * and a path that looks like one of ours cannot follow since it would start with a space or '/'. */
#define LINE_MAX_BYTES 512

static FILE *open_proc(pid_t pid, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
	return fopen(path, "re");
}

/* "7f00-7f10 rw-s ...": the first line of a mapping in smaps. */
static bool parse_header(const char *line, uint64_t *ret_start, uint64_t *ret_end)
{
	unsigned long long start, end;
	char *stop;

	if (!strchr("0123456789abcdef", line[0]))
		return false;
	start = strtoull(line, &stop, 16);
	if (*stop != '-')
		return false;
	end = strtoull(stop + 1, &stop, 16);
	if (*stop != ' ')
		return false;
	*ret_start = start;
	*ret_end = end;
	return true;
}

/* The lines of one mapping, up to VmFlags, which is the last. Returns whether both were found. */
static bool parse_smaps_entry(FILE *smaps, struct hf_tracker_mapping *mapping)
{
	static const char size[] = "KernelPageSize:", flags[] = "VmFlags:";
	char line[LINE_MAX_BYTES];

	while (fgets(line, sizeof(line), smaps)) {
		if (strncmp(line, size, sizeof(size) - 1) == 0)
			mapping->page_bytes = strtoull(line + sizeof(size) - 1, NULL, 10) * 1024;
		if (strncmp(line, flags, sizeof(flags) - 1) != 0)
			continue;
		mapping->is_locked = strstr(line, " lo") != NULL;
		return mapping->page_bytes >= HF_TRACKER_PAGE_BYTES;
	}
	return false;
}

static int read_smaps(FILE *smaps, uint64_t address, struct hf_tracker_mapping *mapping)
{
	char line[LINE_MAX_BYTES];
	uint64_t start, end;

	while (fgets(line, sizeof(line), smaps))
		if (parse_header(line, &start, &end) && address >= start && address < end)
			return parse_smaps_entry(smaps, mapping) ? 0 : -EIO;
	return -ESRCH;
}

static int read_thp_disabled(pid_t pid, bool *ret)
{
	FILE *status = open_proc(pid, "status");
	char line[LINE_MAX_BYTES];

	if (!status)
		return errno == ENOENT ? -ESRCH : -errno;
	*ret = false;
	while (fgets(line, sizeof(line), status))
		if (strcmp(line, "THP_enabled:\t0\n") == 0)
			*ret = true;
	(void)fclose(status);
	return 0;
}

int hf_tracker_mapping_read(pid_t pid, uint64_t address, struct hf_tracker_mapping *ret)
{
	struct hf_tracker_mapping mapping = { 0 };
	FILE *smaps = open_proc(pid, "smaps");
	int r;

	if (!smaps)
		return errno == ENOENT ? -ESRCH : -errno;
	r = read_smaps(smaps, address, &mapping);
	(void)fclose(smaps);
	if (r == 0)
		r = read_thp_disabled(pid, &mapping.is_thp_disabled);
	if (r == 0)
		*ret = mapping;
	return r;
}

bool hf_tracker_has_swap(void)
{
	FILE *swaps = fopen("/proc/swaps", "re");
	char line[LINE_MAX_BYTES];
	int n_lines = 0;

	if (!swaps)
		return errno != ENOENT; /* a kernel without swap has no such file */
	while (fgets(line, sizeof(line), swaps))
		n_lines++;
	(void)fclose(swaps);
	return n_lines > 1; /* the first one is a heading */
}

/* Whether the setting in @path, "always [never] ...", is one of those that give no huge pages. */
static bool is_thp_setting_off(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[LINE_MAX_BYTES] = "";

	if (!file)
		return true; /* a kernel that cannot */
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	(void)fclose(file);
	return strstr(line, "[never]") || strstr(line, "[deny]") || strstr(line, "[inherit]");
}

bool hf_tracker_has_shmem_thp(void)
{
	return !is_thp_setting_off("/sys/kernel/mm/transparent_hugepage/shmem_enabled") ||
	       !is_thp_setting_off(
		       "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/shmem_enabled");
}

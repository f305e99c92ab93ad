/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A line for each lease: VM LVER GENERATION TENURE PLEDGED HOLDER [PID:START ...] */
#include "daemon/heldfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "sys/fd.h"

#define HEADING "holdfastd-held 1\n"
#define FILE_MAX_BYTES (1u << 20)

/* Field 22 of /proc/PID/stat; the second is a name in brackets and may contain anything. 0: it has
 * ended. */
static uint64_t start_time(pid_t pid)
{
	char path[48];
	char text[1024];
	const char *at;
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, text, sizeof(text) - 1);
	hf_fd_close(&fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

/* ---- saving ---- */

static void put(FILE *to, const struct hf_held *h)
{
	(void)fprintf(to, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %d", h->vm, h->lver,
		      h->generation, h->tenure, h->is_pledged, (int)h->holder);
	for (unsigned int i = 0; i < h->n_pids; i++)
		if (h->pids[i].fd >= 0)
			(void)fprintf(to, " %d:%" PRIu64, (int)h->pids[i].pid,
				      start_time(h->pids[i].pid));
	(void)fputc('\n', to);
}

int hf_heldfile_save(const struct hf_held_table *t, const char *folder)
{
	char new_path[PATH_MAX], path[PATH_MAX];
	FILE *to;
	int r = 0;

	(void)snprintf(path, sizeof(path), "%s/" HF_HELDFILE_NAME, folder);
	(void)snprintf(new_path, sizeof(new_path), "%s/" HF_HELDFILE_NAME ".new", folder);
	to = fopen(new_path, "we");
	if (!to)
		return -errno;
	(void)fputs(HEADING, to);
	for (const struct hf_held *h = t->first; h; h = h->next)
		put(to, h);
	if (ferror(to))
		r = -EIO;
	if (fclose(to) != 0 && !r)
		r = -errno;
	if (!r && rename(new_path, path) < 0)
		r = -errno;
	return r;
}

/* ---- loading ---- */

struct line {
	char vm[HF_NAME_MAX + 1];
	uint64_t lver, generation, tenure;
	int is_pledged;
	int holder;
	pid_t pids[HF_HELD_PIDS_MAX];
	unsigned int n_pids;
};

static int take_number(char **at, uint64_t max, uint64_t *ret)
{
	char *word = strsep(at, " ");
	char *end;

	if (!word || *word < '0' || *word > '9')
		return -EBADMSG;
	errno = 0;
	*ret = strtoull(word, &end, 10);
	return errno || *end || *ret > max ? -EBADMSG : 0;
}

/* One that has ended, or another of the same id, is left out. */
static int take_pid(struct line *l, char *word)
{
	char *number = strsep(&word, ":");
	uint64_t start;
	uint64_t pid;

	if (!word || take_number(&number, INT32_MAX, &pid) < 0 || pid == 0 ||
	    take_number(&word, UINT64_MAX, &start) < 0 || l->n_pids == HF_HELD_PIDS_MAX)
		return -EBADMSG;
	if (start && start_time((pid_t)pid) == start)
		l->pids[l->n_pids++] = (pid_t)pid;
	return 0;
}

static int parse_line(char *text, struct line *l)
{
	char *name = strsep(&text, " ");
	uint64_t pledged = 0, holder = 0;
	char *word;
	int r = 0;

	if (!hf_is_valid_name(name) || strlen(name) > HF_LEASE_NAME_BYTES ||
	    take_number(&text, UINT64_MAX, &l->lver) < 0 ||
	    take_number(&text, UINT64_MAX, &l->generation) < 0 ||
	    take_number(&text, UINT64_MAX, &l->tenure) < 0 || take_number(&text, 1, &pledged) < 0 ||
	    take_number(&text, INT32_MAX, &holder) < 0)
		return -EBADMSG;
	(void)snprintf(l->vm, sizeof(l->vm), "%s", name);
	l->is_pledged = (int)pledged;
	l->holder = (int)holder;
	while (!r && (word = strsep(&text, " ")))
		r = take_pid(l, word);
	return r;
}

static int add_line(struct hf_held_table *t, const struct line *l)
{
	pid_t others[HF_HELD_PIDS_MAX];
	unsigned int n = 0;
	bool is_there = false;
	struct hf_held *h;

	if (hf_held_find(t, l->vm))
		return -EBADMSG;
	h = hf_held_add(t, l->vm, NULL, 0);
	if (!h)
		return -ENOMEM;
	h->lver = l->lver;
	h->generation = l->generation;
	h->tenure = l->tenure;
	h->is_pledged = l->is_pledged;
	h->is_unverified = true;
	h->holder = l->holder;
	for (unsigned int i = 0; i < l->n_pids; i++)
		if (l->pids[i] != l->holder)
			others[n++] = l->pids[i];
		else
			is_there = true;
	if (!is_there)
		h->holder = 0; /* or another process of that id would be watched */
	if (n == HF_HELD_PIDS_MAX || hf_held_set_pids(h, others, n, NULL) < 0)
		h->is_blind = true;
	h->holder = l->holder;
	return 0;
}

int hf_heldfile_parse(struct hf_held_table *t, char *text, struct hf_err *err)
{
	unsigned int number = 1;
	char *line = strsep(&text, "\n");
	int r = strcmp(line, "holdfastd-held 1") == 0 ? 0 : -EBADMSG;

	while (!r && (line = strsep(&text, "\n"))) {
		struct line l = { .n_pids = 0 };

		if (!text && !*line) /* behind the last one's end */
			return 0;
		number++;
		r = parse_line(line, &l);
		if (!r)
			r = add_line(t, &l);
	}
	if (!r) /* the last line has no end: it was cut off */
		r = -EBADMSG;
	hf_err_set(err, "line %u is damaged", number);
	hf_held_table_fini(t);
	return r;
}

int hf_heldfile_load(struct hf_held_table *t, const char *folder, struct hf_err *err)
{
	char *text = malloc(FILE_MAX_BYTES);
	char path[PATH_MAX];
	ssize_t n = -1;
	int fd;
	int r;

	(void)snprintf(path, sizeof(path), "%s/" HF_HELDFILE_NAME, folder);
	fd = text ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	r = text ? 0 : -ENOMEM;
	if (fd >= 0)
		n = read(fd, text, FILE_MAX_BYTES);
	if (!r && n < 0)
		r = -errno;
	hf_fd_close(&fd);
	if (!r && n == FILE_MAX_BYTES)
		r = -EFBIG;
	if (!r) {
		text[n] = '\0';
		r = hf_heldfile_parse(t, text, err);
	}
	free(text);
	if (r < 0 && r != -ENOENT)
		hf_err_prefix(err, "%.300s: ", path);
	return r == -ENOENT ? 0 : r;
}

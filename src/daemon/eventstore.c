/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/eventstore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/json.h"
#include "sys/fd.h"

#define FILE_NAME "events"
#define OLD_NAME "events.old"

struct hf_eventstore {
	struct hf_journal *journal;
	char path[PATH_MAX];
	char old_path[PATH_MAX];
	int fd;
	size_t n_bytes;
};

/* ---- reading ---- */

static void take_line(struct hf_journal *j, const char *line, size_t len)
{
	struct json_object *event = NULL;
	const char *name;
	uint64_t seq;

	if (len > HF_EVENTSTORE_LINE_BYTES || hf_json_parse(line, len, &event, NULL) < 0)
		return;
	if (hf_json_u64(event, "seq", &seq, NULL) < 0 ||
	    hf_json_str(event, "event", &name, NULL) < 0 || seq <= j->seq || seq > UINT64_MAX / 2)
		json_object_put(event);
	else
		hf_journal_restore(j, seq, event);
}

void hf_eventstore_parse(struct hf_journal *j, const char *text, size_t len)
{
	const char *end = text + len;

	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));

		if (!nl) /* cut off as it was written */
			return;
		take_line(j, text, (size_t)(nl - text));
		text = nl + 1;
	}
}

static void read_file(struct hf_journal *j, const char *path)
{
	const size_t max = HF_EVENTSTORE_FILE_BYTES + 2 * HF_EVENTSTORE_LINE_BYTES;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char *text = fd >= 0 ? malloc(max) : NULL;
	ssize_t n = text ? read(fd, text, max) : -1;

	if (n > 0)
		hf_eventstore_parse(j, text, (size_t)n);
	free(text);
	hf_fd_close(&fd);
}

/* ---- writing ---- */

static int open_file(struct hf_eventstore *s)
{
	s->fd = open(s->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fd < 0)
		return -errno;
	s->n_bytes = (size_t)lseek(s->fd, 0, SEEK_END);
	return 0;
}

static void turn_over(struct hf_eventstore *s)
{
	if (s->n_bytes < HF_EVENTSTORE_FILE_BYTES)
		return;
	hf_fd_close(&s->fd);
	(void)rename(s->path, s->old_path);
	(void)open_file(s); /* without it the events are still told, and kept in memory */
}

static void store(void *ctx, struct json_object *event)
{
	struct hf_eventstore *s = ctx;
	const char *text = json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN);
	size_t len = strlen(text);
	char *line;

	turn_over(s);
	if (s->fd < 0 || len >= HF_EVENTSTORE_LINE_BYTES)
		return;
	line = malloc(len + 1);
	if (!line)
		return;
	memcpy(line, text, len);
	line[len] = '\n';
	if (write(s->fd, line, len + 1) == (ssize_t)(len + 1))
		s->n_bytes += len + 1;
	free(line);
}

int hf_eventstore_open(struct hf_journal *j, const char *folder, struct hf_eventstore **ret,
		       struct hf_err *err)
{
	struct hf_eventstore *s = calloc(1, sizeof(*s));
	int r = s ? hf_journal_keep(j, HF_EVENTSTORE_KEPT) : -ENOMEM;

	if (r < 0) {
		free(s);
		return r;
	}
	s->journal = j;
	(void)snprintf(s->path, sizeof(s->path), "%s/" FILE_NAME, folder);
	(void)snprintf(s->old_path, sizeof(s->old_path), "%s/" OLD_NAME, folder);
	read_file(j, s->old_path);
	read_file(j, s->path);
	r = open_file(s);
	if (r < 0) {
		hf_err_set(err, "cannot write %.300s: %s", s->path, strerror(-r));
		free(s);
		return r;
	}
	j->store = store;
	j->store_ctx = s;
	*ret = s;
	return 0;
}

void hf_eventstore_close(struct hf_eventstore *s)
{
	if (!s)
		return;
	s->journal->store = NULL;
	hf_fd_close(&s->fd);
	free(s);
}

uint64_t hf_eventstore_seen(const struct hf_eventstore *s, const char *vm, pid_t keeper_pid)
{
	const struct hf_journal *j = s->journal;
	const char *name;
	uint64_t seen;
	int64_t pid;

	for (uint64_t i = 0; i < j->n_kept && i < j->seq; i++) {
		const struct json_object *event = j->events[(j->seq - i) % j->n_kept];

		if (event && hf_json_has(event, "keeper_seq") &&
		    hf_json_str(event, "vm", &name, NULL) == 0 && strcmp(name, vm) == 0 &&
		    hf_json_i64(event, "keeper_pid", &pid, NULL) == 0 && pid == keeper_pid &&
		    hf_json_u64(event, "keeper_seq", &seen, NULL) == 0)
			return seen;
	}
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/journal.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

void hf_journal_init(struct hf_journal *j, const char *program, const char *key, const char *name,
		     enum hf_log_level level)
{
	memset(j, 0, sizeof(*j));
	j->program = program;
	j->key = key;
	(void)snprintf(j->name, sizeof(j->name), "%s", name);
	j->level = level;
	j->is_for_journald = getenv("JOURNAL_STREAM") != NULL;
	if (hf_journal_keep(j, HF_EVENTS_KEPT) < 0)
		abort(); /* at the very beginning of a program */
}

int hf_journal_keep(struct hf_journal *j, unsigned int n)
{
	struct json_object **events = calloc(n, sizeof(struct json_object *));

	if (!events)
		return -ENOMEM;
	free(j->events);
	j->events = events;
	j->n_kept = n;
	return 0;
}

void hf_journal_fini(struct hf_journal *j)
{
	for (unsigned int i = 0; i < j->n_kept; i++)
		json_object_put(j->events[i]);
	free(j->events);
	j->events = NULL;
	j->n_kept = 0;
}

static void write_line(struct hf_journal *j, enum hf_log_level level, const char *text)
{
	static const char *const priorities[] = { "<3>", "<6>", "<7>" };
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	char line[LINE_MAX_BYTES];
	int n;

	n = snprintf(line, sizeof(line), "%s%s[%s]: %s%s\n",
		     j->is_for_journald ? priorities[level] : "", j->program, j->name,
		     level == HF_LOG_ERROR ? "error: " : "", text);
	if (n >= (int)sizeof(line)) {
		n = (int)sizeof(line);
		line[n - 1] = '\n';
	}
	/* Who reads the log must not be able to stop the guest by not reading. */
	if (poll(&out, 1, 0) != 1 || write(STDERR_FILENO, line, (size_t)n) != n)
		j->dropped_lines++;
}

void hf_log(struct hf_journal *j, enum hf_log_level level, const char *format, ...)
{
	char text[LINE_MAX_BYTES - 128];
	va_list ap;

	if (level > j->level)
		return;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	write_line(j, level, text);
}

static uint64_t wall_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void add_details(struct json_object *event, struct json_object *details)
{
	if (!details)
		return;
	json_object_object_foreach(details, key, value)
		json_object_object_add(event, key, json_object_get(value));
	json_object_put(details);
}

static struct json_object *new_event(struct hf_journal *j, uint64_t time_ns)
{
	struct json_object *event = json_object_new_object();

	json_object_object_add(event, "seq", json_object_new_uint64(++j->seq));
	json_object_object_add(event, "time_ns", json_object_new_uint64(time_ns));
	json_object_object_add(event, j->key, json_object_new_string(j->name));
	return event;
}

static void put_event(struct hf_journal *j, struct json_object *event)
{
	struct json_object **slot = &j->events[j->seq % j->n_kept];

	json_object_put(*slot);
	*slot = event;
	if (j->store)
		j->store(j->store_ctx, event);
	if (j->listener)
		j->listener(j->listener_ctx, event);
}

void hf_event(struct hf_journal *j, const char *name, struct json_object *details,
	      const char *format, ...)
{
	struct json_object *event = new_event(j, wall_ns());
	char text[LINE_MAX_BYTES - 128];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (j->level >= HF_LOG_INFO)
		write_line(j, HF_LOG_INFO, text);
	json_object_object_add(event, "event", json_object_new_string(name));
	json_object_object_add(event, "text", json_object_new_string(text));
	add_details(event, details);
	put_event(j, event);
}

void hf_event_forward(struct hf_journal *j, const struct json_object *event, int keeper_pid)
{
	struct json_object *time = json_object_object_get(event, "time_ns");
	struct json_object *copy = new_event(j, time ? json_object_get_uint64(time) : wall_ns());

	json_object_object_foreach(event, key, value)
	{
		if (strcmp(key, "seq") == 0)
			json_object_object_add(copy, "keeper_seq", json_object_get(value));
		else if (strcmp(key, "time_ns") != 0 && strcmp(key, j->key) != 0)
			json_object_object_add(copy, key, json_object_get(value));
	}
	json_object_object_add(copy, "keeper_pid", json_object_new_int(keeper_pid));
	put_event(j, copy);
}

/* Over a gap goes what an earlier lap has left in its places: else that would be told as of the gap. */
void hf_journal_restore(struct hf_journal *j, uint64_t seq, struct json_object *event)
{
	uint64_t gap = seq - j->seq > j->n_kept ? seq - j->n_kept + 1 : j->seq + 1;

	for (; gap < seq; gap++) {
		json_object_put(j->events[gap % j->n_kept]);
		j->events[gap % j->n_kept] = NULL;
	}
	j->seq = seq;
	json_object_put(j->events[seq % j->n_kept]);
	j->events[seq % j->n_kept] = event;
}

/* Numbers may have gaps, where an earlier run's events were not kept. */
struct json_object *hf_journal_next(const struct hf_journal *j, uint64_t after, uint64_t *ret_seq)
{
	uint64_t oldest = j->seq > j->n_kept ? j->seq - j->n_kept + 1 : 1;
	uint64_t seq = after + 1 > oldest ? after + 1 : oldest;

	while (seq <= j->seq && !j->events[seq % j->n_kept])
		seq++;
	if (seq > j->seq)
		return NULL;
	*ret_seq = seq;
	return j->events[seq % j->n_kept];
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * disk-driver FOLDER - play a keeper: orders on stdin, events on stdout, each a line
 *
 * Orders are "SIDE VERB [ARGUMENT...]", SIDE is a or b; see verbs[]. Sockets are FOLDER/a.sock and
 * FOLDER/b.sock. It ends with the end of stdin, and its disk processes with it.
 */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define WORDS_MAX 64
#define TICK_MS 5

static struct side sides[2];

uint64_t driver_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void driver_event(const struct side *s, const char *event, const char *format, ...)
{
	va_list ap;

	printf("{\"event\": \"%s\", \"side\": \"%c\"", event, s->name);
	va_start(ap, format);
	(void)vprintf(format, ap);
	va_end(ap);
	printf("}\n");
	(void)fflush(stdout);
}

const char *driver_quote(const char *text)
{
	static char out[2 * HF_DISKCTL_TEXT_MAX + 1];
	size_t n = 0;

	for (; *text && n < sizeof(out) - 2; text++) {
		if (*text == '"' || *text == '\\')
			out[n++] = '\\';
		out[n++] = *text;
	}
	out[n] = '\0';
	return out;
}

void driver_die(const char *format, ...)
{
	va_list ap;

	(void)fflush(stdout);
	va_start(ap, format);
	(void)fprintf(stderr, "disk-driver: ");
	(void)vfprintf(stderr, format, ap);
	(void)fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

/* ---- orders ---- */

struct order {
	struct side *side;
	char *arg[WORDS_MAX];
	size_t n;
};

static struct side *other(const struct side *s)
{
	return s == &sides[0] ? &sides[1] : &sides[0];
}

static uint64_t number(const struct order *o, size_t i)
{
	char *end;
	uint64_t n;

	if (i >= o->n)
		driver_die("argument %zu is missing", i + 1);
	n = strtoull(o->arg[i], &end, 0);
	if (*end || !*o->arg[i])
		driver_die("'%s' is no number", o->arg[i]);
	return n;
}

static void keep(char **list, size_t *n, size_t max, const char *text)
{
	if (*n >= max)
		driver_die("too many: %s", text);
	list[(*n)++] = strdup(text);
}

/* nbdkit WORD...: its command line, without the descriptors */
static void do_nbdkit(const struct order *o)
{
	struct side *s = o->side;

	while (s->n_args)
		free(s->args[--s->n_args]);
	for (size_t i = 0; i < o->n; i++)
		keep(s->args, &s->n_args, ARGS_MAX, o->arg[i]);
}

/* env [NAME=VALUE...]: of the next start */
static void do_env(const struct order *o)
{
	struct side *s = o->side;

	while (s->n_env)
		free(s->env[--s->n_env]);
	for (size_t i = 0; i < o->n; i++)
		keep(s->env, &s->n_env, ENV_MAX, o->arg[i]);
}

/* make DISKS SOFT-MIB RESERVE-MIB */
static void do_make(const struct order *o)
{
	side_make(o->side, (uint32_t)number(o, 0), number(o, 1) << 20, number(o, 2) << 20);
	driver_event(o->side, "made", "%s", "");
}

static void do_start(const struct order *o)
{
	side_start(o->side);
}

/* signal NUMBER */
static void do_signal(const struct order *o)
{
	(void)!hf_process_kill(&o->side->process, (int)number(o, 0));
}

/* put NAME VALUE [NAME VALUE...], in that order */
static void do_put(const struct order *o)
{
	for (size_t i = 0; i + 1 < o->n; i += 2) {
		if (!side_put(o->side, o->arg[i], number(o, i + 1)))
			driver_die("no word '%s'", o->arg[i]);
	}
	driver_event(o->side, "put", "%s", "");
}

static void do_words(const struct order *o)
{
	side_print_words(o->side);
}

/* wait NAME is|reaches VALUE */
static void do_wait(const struct order *o)
{
	if (o->n != 3)
		driver_die("wait NAME is|reaches VALUE");
	side_wait(o->side, o->arg[0], strcmp(o->arg[1], "is") == 0, number(o, 2));
}

/* hold EPOCH: writes are logged from now on, as part of it */
static void do_hold(const struct order *o)
{
	struct side *s = o->side;

	s->epoch = number(o, 0) - 1;
	s->shipped = hf_diskshm_head(&s->shm, HF_DISKSHM_OUT);
	(void)side_put(s, "open_epoch", s->epoch + 1);
	(void)side_put(s, "mode", HF_DISKSHM_HOLD);
	driver_event(s, "holding", "%s", "");
}

static void do_capture(const struct order *o)
{
	side_capture(o->side);
}

static void do_ship(const struct order *o)
{
	side_ship(o->side, other(o->side));
}

/* commit EPOCH */
static void do_commit(const struct order *o)
{
	(void)side_put(o->side, "committed", number(o, 0));
	driver_event(o->side, "committed", "%s", "");
}

/* auto MS [alone]: an epoch every MS, sent to the other side unless alone; 0: no more */
static void do_auto(const struct order *o)
{
	auto_set(o->side, number(o, 0));
}

/* pump yes|no: pieces of a first copy go to the other side as they come */
static void do_pump(const struct order *o)
{
	o->side->is_pumping = number(o, 0) != 0;
	o->side->sync_shipped = hf_diskshm_tail(&o->side->shm, HF_DISKSHM_SYNC);
	driver_event(o->side, "pump", "%s", "");
}

/* set-state CONDITION SESSION */
static void do_set_state(const struct order *o)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_SET_STATE };

	m.set_state.condition = (enum hf_disk_condition)number(o, 0);
	m.set_state.session = (struct hf_id){ .hi = 0, .lo = number(o, 1) };
	side_order(o->side, &m);
}

/* sync-start FULL SESSION */
static void do_sync_start(const struct order *o)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_SYNC_START };

	m.sync_start.is_full = number(o, 0) != 0;
	m.sync_start.session = (struct hf_id){ .hi = 0, .lo = number(o, 1) };
	atomic_store(&o->side->shm.words->is_sync_done, 0);
	side_order(o->side, &m);
}

/* sync-confirmed: all that has gone over so far */
static void do_sync_confirmed(const struct order *o)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_SYNC_CONFIRMED,
				    .mark = o->side->sync_shipped };

	side_order(o->side, &m);
}

static void do_sync_stop(const struct order *o)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_SYNC_STOP };

	side_order(o->side, &m);
}

static void do_flush_sync(const struct order *o)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_FLUSH_SYNC };

	side_order(o->side, &m);
}

static void do_ping(const struct order *o)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_PING };

	side_order(o->side, &m);
}

/* promote: a standby becomes the owner, and redoes what it has */
static void do_promote(const struct order *o)
{
	struct hf_diskshm_words *w = o->side->shm.words;

	(void)side_put(o->side, "permit_ns", UINT64_MAX);
	(void)side_put(o->side, "open_epoch", atomic_load(&w->committed) + 1);
	(void)side_put(o->side, "mode", HF_DISKSHM_DRAIN);
	(void)side_put(o->side, "role", HF_DISKSHM_OWNER);
	driver_event(o->side, "promoting", "%s", "");
}

static const struct {
	const char *name;
	void (*run)(const struct order *o);
} verbs[] = {
	{ "nbdkit", do_nbdkit },
	{ "env", do_env },
	{ "make", do_make },
	{ "start", do_start },
	{ "signal", do_signal },
	{ "put", do_put },
	{ "words", do_words },
	{ "wait", do_wait },
	{ "hold", do_hold },
	{ "capture", do_capture },
	{ "ship", do_ship },
	{ "commit", do_commit },
	{ "auto", do_auto },
	{ "pump", do_pump },
	{ "set-state", do_set_state },
	{ "sync-start", do_sync_start },
	{ "sync-confirmed", do_sync_confirmed },
	{ "sync-stop", do_sync_stop },
	{ "flush-sync", do_flush_sync },
	{ "ping", do_ping },
	{ "promote", do_promote },
};

static void obey(char *line)
{
	struct order o = { .side = NULL };
	char *save = NULL, *word = strtok_r(line, " \n", &save);
	const char *verb;

	if (!word)
		return;
	if (strcmp(word, "a") != 0 && strcmp(word, "b") != 0)
		driver_die("'%s' is no side", word);
	o.side = &sides[word[0] - 'a'];
	verb = strtok_r(NULL, " \n", &save);
	while ((word = strtok_r(NULL, " \n", &save))) {
		if (o.n == WORDS_MAX)
			driver_die("too many words");
		o.arg[o.n++] = word;
	}
	for (size_t i = 0; verb && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].name, verb) == 0) {
			verbs[i].run(&o);
			return;
		}
	}
	driver_die("there is no order '%s'", verb ? verb : "");
}

/* ---- the loop ---- */

/* False: the end of it. */
static bool read_orders(void)
{
	static char buf[65536];
	static size_t used;
	ssize_t n = read(STDIN_FILENO, buf + used, sizeof(buf) - 1 - used);
	char *line = buf, *end;

	if (n <= 0)
		return false;
	used += (size_t)n;
	buf[used] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		obey(line);
		line = end + 1;
	}
	used -= (size_t)(line - buf);
	memmove(buf, line, used);
	if (used >= sizeof(buf) - 1)
		driver_die("a line is too long");
	return true;
}

enum { SLOT_CONTROL, SLOT_PROCESS, SLOT_NOTICE, SLOT_NBD, SLOTS };

static void fill_slots(const struct side *s, struct pollfd *p)
{
	p[SLOT_CONTROL] = (struct pollfd){ .fd = s->control_fd, .events = POLLIN };
	p[SLOT_PROCESS] = (struct pollfd){ .fd = s->process.pidfd, .events = POLLIN };
	p[SLOT_NOTICE] = (struct pollfd){ .fd = s->shm.notice_fd, .events = POLLIN };
	p[SLOT_NBD] = (struct pollfd){ .events = 0 };
	p[SLOT_NBD].fd = auto_fd(s, &p[SLOT_NBD].events);
}

static void serve(struct side *s, const struct pollfd *p)
{
	struct side *peer = other(s)->process.pid >= 0 ? other(s) : NULL;
	uint64_t drain;

	if (p[SLOT_CONTROL].revents)
		side_on_control(s);
	if (p[SLOT_NOTICE].revents)
		(void)!read(s->shm.notice_fd, &drain, sizeof(drain));
	if (p[SLOT_PROCESS].revents)
		side_on_process(s);
	if (!s->shm.words)
		return;
	auto_step(s, peer, p[SLOT_NBD].revents);
	if (peer)
		side_pump(s, peer);
	side_reclaim(s);
	side_check_waits(s);
}

int main(int argc, char **argv)
{
	struct pollfd p[1 + 2 * SLOTS];

	if (argc != 2)
		driver_die("usage: disk-driver FOLDER");
	(void)signal(SIGPIPE, SIG_IGN);
	side_init(&sides[0], 'a', argv[1]);
	side_init(&sides[1], 'b', argv[1]);
	for (;;) {
		p[0] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
		fill_slots(&sides[0], p + 1);
		fill_slots(&sides[1], p + 1 + SLOTS);
		if (poll(p, 1 + 2 * SLOTS, TICK_MS) < 0)
			continue;
		serve(&sides[0], p + 1);
		serve(&sides[1], p + 1 + SLOTS);
		side_meet(&sides[0], &sides[1]);
		if (p[0].revents && !read_orders())
			break;
	}
	side_fini(&sides[0]);
	side_fini(&sides[1]);
	return 0;
}

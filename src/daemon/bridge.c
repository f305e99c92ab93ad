/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bridge.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "sys/process.h"

#define PROGRAM "holdfast-pacemaker"
#define PACEMAKERD "/usr/sbin/pacemakerd"
#define FIRST_NS 500000000ull
#define LONGEST_NS 16000000000ull
#define WELL_NS 60000000000ull /* who lived so long did not fail at once */

struct hf_bridge {
	struct hf_daemon *d;
	char program[PATH_MAX];
	struct hf_process process;
	struct hf_watch watch;
	struct hf_timer timer;
	uint64_t began_ns, pause_ns;
	bool has_failed; /* and that was said */
};

static void start(void *ctx);

/* The one beside this program in a build folder, or the installed one. */
static void find_program(char *buf, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	(void)snprintf(buf, size, "%.*s/../pacemaker/" PROGRAM, slash ? (int)(slash - self) : 0,
		       self);
	if (access(buf, X_OK) < 0)
		(void)snprintf(buf, size, "%s", HF_LIBEXECDIR "/" PROGRAM);
}

static void start_later(struct hf_bridge *b)
{
	bool was_well = b->began_ns && hf_now_ns() - b->began_ns >= WELL_NS;

	b->pause_ns = was_well || !b->pause_ns ? FIRST_NS : 2 * b->pause_ns;
	if (b->pause_ns > LONGEST_NS)
		b->pause_ns = LONGEST_NS;
	hf_timer_set(&b->timer, &b->d->loop, hf_now_ns() + b->pause_ns, start, b);
}

static void let_go(struct hf_bridge *b)
{
	hf_watch_remove(&b->watch);
	hf_process_close(&b->process);
	b->process = HF_PROCESS_NONE;
}

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void on_end(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_bridge *b = ctx;
	char text[HF_PROCESS_EXIT_TEXT];
	struct hf_process_exit end;

	if (hf_process_reap(&b->process, &end) != 0)
		return;
	hf_log(&b->d->journal, HF_LOG_INFO, PROGRAM " %s; it is started again",
	       hf_process_exit_format(&end, text, sizeof(text)));
	let_go(b);
	start_later(b);
}

static int spawn(struct hf_bridge *b, struct hf_err *err)
{
	static const char *const levels[] = { "error", "info", "debug" };
	const struct hf_hostconf *conf = &b->d->conf;
	const char *argv[] = { b->program,
			       "--run-dir",
			       conf->run_dir,
			       "--fencing",
			       conf->is_fencing_ignored ? "ignore" : "proof",
			       "--log-level",
			       levels[conf->log_level],
			       NULL };
	struct hf_process_spec spec = { .argv = argv };

	return hf_process_spawn(&spec, &b->process, err);
}

static void start(void *ctx)
{
	struct hf_bridge *b = ctx;
	struct hf_err err = { "" };
	int r = spawn(b, &err);

	if (!r)
		r = hf_watch_add(&b->watch, &b->d->loop, b->process.pidfd, HF_PRIORITY_CONTROL,
				 wanted, on_end, b);
	b->began_ns = hf_now_ns();
	if (r < 0) {
		if (!b->has_failed)
			hf_log(&b->d->journal, HF_LOG_ERROR, "Pacemaker is told nothing: %s",
			       err.text[0] ? err.text : strerror(-r));
		start_later(b);
	}
	b->has_failed = r < 0;
}

/* auto: where both can be run. One that finds no Pacemaker to talk to waits for it. */
static bool is_to_be(const struct hf_hostconf *conf, const char *program)
{
	if (conf->bridge != HF_HOSTCONF_AUTO)
		return conf->bridge == HF_HOSTCONF_YES;
	return access(program, X_OK) == 0 && access(PACEMAKERD, X_OK) == 0;
}

int hf_bridge_new(struct hf_daemon *d, struct hf_bridge **ret)
{
	char program[PATH_MAX];
	struct hf_bridge *b;

	*ret = NULL;
	find_program(program, sizeof(program));
	if (!is_to_be(&d->conf, program))
		return 0;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->d = d;
	(void)snprintf(b->program, sizeof(b->program), "%s", program);
	b->process = HF_PROCESS_NONE;
	hf_timer_set(&b->timer, &d->loop, hf_now_ns(), start, b);
	*ret = b;
	return 0;
}

void hf_bridge_free(struct hf_bridge *b)
{
	struct hf_process_exit end;

	if (!b)
		return;
	hf_timer_fini(&b->timer);
	if (b->process.pid > 0) {
		(void)!hf_process_kill(&b->process, SIGKILL);
		(void)!hf_process_reap(&b->process, &end); /* or init does */
	}
	let_go(b);
	free(b);
}

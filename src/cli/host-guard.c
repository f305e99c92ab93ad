/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. One loop waits for signals (the command's end among them), for the daemon, and
 * for the page's deadline; nothing in it blocks, since what blocks could not stop the command in
 * time. Calls are sent and forgotten until their answer comes; a daemon that does not take them has
 * gone, and is looked for again. States:
 *
 *   running --deadline--> stopped, claiming --won--> running
 *                                  `--lost--> killed
 */
#include "cli/host-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/host-call.h"
#include "codec/json.h"
#include "sys/fd.h"
#include "sys/rundir.h"

#define MS 1000000ull
#define RETRY_NS (200 * MS)
#define LOOK_NS (50 * MS)
#define RELEASE_MS 5000
#define CALLS_MAX 8

enum answer { ANSWER_HOLD, ANSWER_CLAIM };

struct guard {
	const struct hf_guard_job *job;
	struct hf_client *client; /* fd -1: not connected now */
	enum answer calls[CALLS_MAX]; /* without an answer so far, oldest first */
	unsigned int n_calls;
	uint64_t retry_ns;
	uint64_t lver, tenure;
	pid_t pid;
	int signal_fd;
	bool is_stopped;
	bool is_seen_stopped; /* by the kernel's word */
	bool is_claiming;
	bool is_lost;
	bool is_ended;
	uint64_t kill_ns; /* while stopping: then it is killed */
	int status;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void say(const struct guard *g, const char *text)
{
	(void)fprintf(stderr, "holdfast lease: %s: %s\n", g->job->vm, text);
}

/* ---- the command ---- */

/* The terminal is the command's: its Ctrl-C goes there. */
static void give_terminal(pid_t group)
{
	if (!isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) < 0)
		return;
	(void)signal(SIGTTOU, SIG_IGN);
	(void)tcsetpgrp(STDIN_FILENO, group);
}

/* Waits for a byte, without which it ends: nothing is run before the daemon knows of it. */
static __attribute__((noreturn)) void child(const struct guard *g, pid_t parent, int go,
					    const sigset_t *old)
{
	char byte;

	(void)setpgid(0, 0);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(126);
	if (read(go, &byte, 1) != 1)
		_exit(126);
	(void)signal(SIGTTOU, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, old, NULL);
	(void)execvp(g->job->command[0], g->job->command);
	(void)fprintf(stderr, "holdfast lease: cannot run %s: %s\n", g->job->command[0],
		      strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int take_signals(struct guard *g, sigset_t *old)
{
	static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaddset(&set, signals[i]);
	if (sigprocmask(SIG_BLOCK, &set, old) < 0)
		return -errno;
	g->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return g->signal_fd < 0 ? -errno : 0;
}

/* *ret_go: a byte written there lets it begin; closing it ends it. */
static int start_child(struct guard *g, int *ret_go)
{
	pid_t parent = getpid();
	sigset_t old;
	int go[2];
	int r = take_signals(g, &old);

	if (r < 0)
		return r;
	if (pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	g->pid = fork();
	if (g->pid == 0)
		child(g, parent, go[0], &old);
	r = g->pid < 0 ? -errno : 0;
	(void)close(go[0]);
	if (r < 0)
		(void)close(go[1]);
	else
		*ret_go = go[1];
	(void)setpgid(g->pid, g->pid);
	return r;
}

static void stop_command(struct guard *g)
{
	struct hf_lease_state page;
	uint64_t now = now_ns();

	if (g->is_stopped)
		return;
	(void)kill(-g->pid, SIGSTOP);
	g->is_stopped = true;
	g->is_seen_stopped = false;
	g->kill_ns = now;
	if (hf_lease_page_read(g->job->page, &page) && page.fence_ns > now)
		g->kill_ns += (page.fence_ns - now) / 2;
	say(g, "this host's lease has run out: the command is stopped");
}

static void kill_command(struct guard *g, const char *why)
{
	say(g, why);
	(void)kill(-g->pid, SIGKILL);
	g->is_lost = true;
	g->kill_ns = UINT64_MAX;
}

/* ---- the daemon ---- */

static void disconnect(struct guard *g)
{
	hf_client_close(g->client);
	g->n_calls = 0;
	g->is_claiming = false;
	g->retry_ns = now_ns() + RETRY_NS;
}

static void call(struct guard *g, const char *method, struct json_object *p, enum answer answer)
{
	int r = -EBUSY;

	if (g->client->fd >= 0 && g->n_calls < CALLS_MAX)
		r = hf_client_call(g->client, method, p, answer == ANSWER_CLAIM, NULL);
	json_object_put(p);
	if (r == 0)
		g->calls[g->n_calls++] = answer;
	else if (g->client->fd >= 0)
		disconnect(g);
}

static struct json_object *about(const struct guard *g)
{
	struct json_object *p = json_object_new_object();

	json_object_object_add(p, "vm", json_object_new_string(g->job->vm));
	json_object_object_add(p, "lver", json_object_new_uint64(g->lver));
	return p;
}

static struct json_object *about_holder(const struct guard *g)
{
	struct json_object *p = about(g);
	struct json_object *pids = json_object_new_array();

	json_object_array_add(pids, json_object_new_int64(g->pid));
	json_object_object_add(p, "pids", pids);
	json_object_object_add(p, "tenure", json_object_new_uint64(g->tenure));
	return p;
}

static void claim(struct guard *g)
{
	g->is_claiming = true;
	call(g, "Claim", about(g), ANSWER_CLAIM);
}

static void reconnect(struct guard *g)
{
	if (hf_client_open(g->job->run_dir, HF_RUNDIR_HOST, g->client, NULL) < 0) {
		g->client->fd = -1;
		g->retry_ns = now_ns() + RETRY_NS;
		return;
	}
	if (hf_fd_set_nonblocking(g->client->fd) < 0)
		disconnect(g);
	else
		call(g, "Hold", about_holder(g), ANSWER_HOLD);
}

static void won(struct guard *g, const struct json_object *answer)
{
	if (hf_json_u64(answer, "lver", &g->lver, NULL) < 0 ||
	    hf_json_u64(answer, "tenure", &g->tenure, NULL) < 0) {
		disconnect(g);
		return;
	}
	g->is_claiming = false;
	if (!hf_lease_page_is_valid(g->job->page, g->tenure))
		return; /* over again already */
	call(g, "Hold", about_holder(g), ANSWER_HOLD);
	say(g, "the lease has been claimed again: the command goes on");
	g->is_stopped = false;
	g->kill_ns = UINT64_MAX;
	(void)kill(-g->pid, SIGCONT);
}

static void on_claim(struct guard *g, const struct hf_varlink_reply *reply)
{
	const char *state = "";

	if (reply->error) { /* asked again when the page is looked at next */
		g->is_claiming = false;
		return;
	}
	(void)!hf_json_str(reply->parameters, "state", &state, NULL);
	if (strcmp(state, "won") == 0)
		won(g, reply->parameters);
	else if (strcmp(state, "lost") == 0)
		kill_command(g, "another host owns the lease: the command is killed");
	else if (!reply->is_continues)
		g->is_claiming = false;
}

static void on_reply(struct guard *g, const struct hf_varlink_reply *reply)
{
	enum answer answer = g->calls[0];

	if (g->n_calls == 0)
		return;
	if (!reply->is_continues)
		memmove(g->calls, g->calls + 1, --g->n_calls * sizeof(g->calls[0]));
	if (answer == ANSWER_CLAIM)
		on_claim(g, reply);
	else if (reply->error && strcmp(reply->error, "org.holdfast.Host.Lost") == 0)
		kill_command(g, "another host owns the lease: the command is killed");
}

static void receive(struct guard *g)
{
	struct hf_varlink_reply reply;
	size_t n;
	char *at;
	int r = hf_varlink_parser_space(&g->client->parser, &at, &n);

	if (!r)
		r = hf_fd_read(g->client->fd, at, n, &n);
	if (r == HF_FD_AGAIN)
		return;
	if (r) {
		disconnect(g);
		return;
	}
	hf_varlink_parser_commit(&g->client->parser, n);
	while (g->client->fd >= 0 &&
	       (r = hf_varlink_parser_next_reply(&g->client->parser, &reply, NULL)) == 1) {
		on_reply(g, &reply);
		hf_varlink_reply_fini(&reply);
	}
	if (r < 0 && g->client->fd >= 0)
		disconnect(g);
}

/* ---- the loop ---- */

static void look_at_child(struct guard *g)
{
	int status;

	while (!g->is_ended && waitpid(g->pid, &status, WNOHANG | WUNTRACED) == g->pid) {
		if (!WIFSTOPPED(status)) {
			g->is_ended = true;
			g->status = status;
		} else if (g->is_stopped) {
			g->is_seen_stopped = true;
		} else { /* not by us: a lease cannot be put aside */
			(void)kill(-g->pid, SIGCONT);
		}
	}
}

static void on_signal(struct guard *g)
{
	struct signalfd_siginfo si;

	while (read(g->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (si.ssi_signo == SIGCHLD)
			continue;
		(void)kill(-g->pid, (int)si.ssi_signo);
		if (g->is_stopped && si.ssi_signo == SIGTERM)
			kill_command(g, "the command is stopped, and asked to end: it is killed");
	}
	look_at_child(g);
}

static void look_at_page(struct guard *g)
{
	if (g->is_lost)
		return;
	if (!g->is_stopped && !hf_lease_page_is_valid(g->job->page, g->tenure))
		stop_command(g);
	if (!g->is_stopped)
		return;
	if (!g->is_seen_stopped && now_ns() >= g->kill_ns) {
		kill_command(g, "the command does not stand still: it is killed");
		return;
	}
	/* At once: the daemon waits until it can, or says that it never will. */
	if (!g->is_claiming && g->client->fd >= 0)
		claim(g);
}

/* When something is to be looked at again: the deadline, exactly; else often enough. */
static uint64_t next_look_ns(const struct guard *g)
{
	struct hf_lease_state page;
	uint64_t at_ns = now_ns() + RETRY_NS;

	if (g->is_stopped)
		return now_ns() + LOOK_NS;
	if (hf_lease_page_read(g->job->page, &page) && page.valid_ns < at_ns)
		at_ns = page.valid_ns;
	return at_ns;
}

static void wait_a_while(struct guard *g)
{
	struct pollfd fds[2] = { { .fd = g->signal_fd, .events = POLLIN },
				 { .fd = g->client->fd, .events = POLLIN } };
	uint64_t now = now_ns();
	uint64_t at_ns = next_look_ns(g);
	uint64_t for_ns = at_ns > now ? at_ns - now : 0;
	const struct timespec patience = { .tv_sec = (time_t)(for_ns / 1000000000),
					   .tv_nsec = (long)(for_ns % 1000000000) };

	if (ppoll(fds, 2, &patience, NULL) <= 0)
		return;
	if (fds[0].revents)
		on_signal(g);
	if (fds[1].revents)
		receive(g);
}

static int exit_status(const struct guard *g)
{
	if (g->is_lost)
		return HF_HOST_EXIT_LOST;
	return WIFEXITED(g->status) ? WEXITSTATUS(g->status) : 128 + WTERMSIG(g->status);
}

/* The daemon does it by itself, too, once it sees that we have ended: this is faster. */
static void release(struct guard *g)
{
	struct pollfd fd = { .fd = g->client->fd, .events = POLLIN };
	struct json_object *p;

	if (g->client->fd < 0 || g->is_lost)
		return;
	/* Its command may have left others behind: they end here, with the lease. */
	(void)kill(-g->pid, SIGKILL);
	p = about(g);
	if (hf_client_call(g->client, "Release", p, false, NULL) == 0)
		(void)poll(&fd, 1, RELEASE_MS);
	json_object_put(p);
}

static int loop(struct guard *g)
{
	while (!g->is_ended) {
		look_at_page(g);
		if (g->client->fd < 0 && now_ns() >= g->retry_ns)
			reconnect(g);
		wait_a_while(g);
	}
	give_terminal(getpgrp());
	release(g);
	return exit_status(g);
}

int hf_guard_run(const struct hf_guard_job *job)
{
	struct guard g = { .job = job,
			   .client = job->client,
			   .lver = job->lver,
			   .tenure = job->tenure,
			   .signal_fd = -1,
			   .kill_ns = UINT64_MAX };
	struct json_object *p;
	int go = -1;
	int r = start_child(&g, &go);

	if (r < 0) {
		(void)fprintf(stderr, "holdfast lease: cannot start: %s\n", strerror(-r));
		return HF_LEASE_EXIT_FAILED;
	}
	/* Blocking, as nothing runs yet; then its processes are known. */
	p = about_holder(&g);
	r = hf_client_call(g.client, "Hold", p, false, NULL);
	json_object_put(p);
	p = NULL;
	if (!r)
		r = hf_client_reply(g.client, &p, NULL);
	json_object_put(p);
	if (!r)
		r = hf_fd_set_nonblocking(g.client->fd);
	if (!r && hf_lease_page_is_valid(job->page, g.tenure)) {
		give_terminal(g.pid);
		r = write(go, "", 1) == 1 ? 0 : -errno;
	} else if (!r) {
		r = -ESTALE;
	}
	(void)close(go);
	if (r < 0)
		say(&g, "holdfastd or the lease has gone before the command began");
	r = loop(&g);
	(void)close(g.signal_fd);
	return r;
}

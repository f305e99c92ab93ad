/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. The process's end is seen by its pidfd. Its last events may still be in the
 * socket then, so the end is told when the connection for events has ended, too; both follow at once.
 * How it ended: the exit status if it is our child, else its own last word.
 */
#include "daemon/vmlink.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codec/json.h"
#include "sys/fd.h"
#include "sys/sock.h"
#include "sys/stream.h"

#define INTERFACE "org.holdfast.Keeper"
#define RETRY_NS 20000000ull
#define RETRY_MAX_NS 5000000000ull

static void on_events_ended(void *ctx, int error, const char *why);

/* ---- the end ---- */

/* Of one that was killed after its last word, that word counts: it was on its way out. */
static void take_exit_status(struct hf_vmlink *l)
{
	siginfo_t si = { .si_pid = 0 };
	bool is_known = waitid(P_PIDFD, (id_t)l->pidfd, &si, WEXITED | WNOHANG) == 0 &&
			si.si_pid != 0; /* else somebody else's child */

	if (is_known && si.si_code == CLD_EXITED)
		l->end.code = si.si_status;
	else if (!l->has_said_end)
		l->end.code = HF_SUPERVISE_KILLED;
}

static void tell_end(struct hf_vmlink *l)
{
	if (!l->is_dead || l->events)
		return;
	take_exit_status(l);
	l->ops->ended(l->ctx, l);
}

static uint32_t pid_wanted(void *ctx)
{
	const struct hf_vmlink *l = ctx;

	return l->is_dead ? 0 : EPOLLIN;
}

static void pid_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_vmlink *l = ctx;

	l->is_dead = true;
	tell_end(l);
}

/* ---- what it says ---- */

static bool get_bool(const struct json_object *o, const char *key)
{
	bool is_set = false;

	return hf_json_has(o, key) && hf_json_bool(o, key, &is_set, NULL) == 0 && is_set;
}

/* {code, cause, restart, state, handed_over} */
static void take_last_word(struct hf_vmlink *l, const struct json_object *event)
{
	int64_t code = HF_SUPERVISE_KILLED;

	if (hf_json_i64(event, "code", &code, NULL) < 0 || code < 0 || code > 255)
		return;
	l->has_said_end = true;
	l->end.code = (int)code;
	l->end.is_handed_over = get_bool(event, "handed_over");
}

static void on_event(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_vmlink *l = ctx;
	struct json_object *event;
	const char *name;
	uint64_t seq;

	if (reply->error || hf_json_obj(reply->parameters, "event", &event, NULL) < 0 ||
	    hf_json_u64(event, "seq", &seq, NULL) < 0 ||
	    hf_json_str(event, "event", &name, NULL) < 0)
		return;
	l->seq = seq;
	if (strcmp(name, "ended") == 0)
		take_last_word(l, event);
	l->ops->event(l->ctx, l, event);
}

/* ---- connecting ---- */

static void retry_connect(void *ctx)
{
	hf_vmlink_try(ctx);
}

static void retry_later(struct hf_vmlink *l)
{
	uint64_t delay_ns = l->retries < 8 ? RETRY_NS << l->retries : RETRY_MAX_NS;

	if (l->retries < 8)
		l->retries++;
	hf_timer_set(&l->retry_timer, l->loop, hf_now_ns() + delay_ns, retry_connect, l);
}

/* Another keeper may have been faster, by hand or started by an earlier daemon: ours will find its place
 * taken and end, and what that one says is not ours. -ENOENT: as if nobody served yet. */
static int open_own(struct hf_vmlink *l, hf_varlink_ended *ended, struct hf_varlink_client **ret)
{
	struct hf_peer peer = { .pid = 0 };
	int r = hf_varlink_client_open(l->loop, l->path, ended, l, ret, NULL);

	if (r < 0)
		return r;
	r = hf_sock_peer(hf_stream_fd(hf_varlink_client_stream(*ret)), &peer);
	if (r == 0 && peer.pid == l->pid)
		return 0;
	hf_varlink_client_close(*ret);
	*ret = NULL;
	return r < 0 ? r : -ENOENT;
}

static int open_events(struct hf_vmlink *l)
{
	struct json_object *p = json_object_new_object();
	int r = open_own(l, on_events_ended, &l->events);

	if (r < 0) {
		json_object_put(p);
		return r;
	}
	json_object_object_add(p, "after", json_object_new_uint64(l->seq));
	r = hf_varlink_client_call(l->events, INTERFACE ".Events", p, /* is_more= */ true, on_event,
				   l);
	if (r < 0) {
		hf_varlink_client_close(l->events);
		l->events = NULL;
	}
	return r;
}

void hf_vmlink_try(struct hf_vmlink *l)
{
	int r = l->events || l->is_dead ? 0 : open_events(l);

	if (r == -ENOENT) /* not yet: its folder is watched */
		return;
	if (r < 0) {
		retry_later(l);
		return;
	}
	hf_vmlink_refresh(l);
}

/* The socket goes a moment before the process; or the connection was one too many. */
static void on_events_ended(void *ctx, int error __attribute__((unused)),
			    const char *why __attribute__((unused)))
{
	struct hf_vmlink *l = ctx;

	hf_varlink_client_close(l->events);
	l->events = NULL;
	if (l->is_dead)
		tell_end(l);
	else
		retry_later(l);
}

/* ---- questions and orders ---- */

static void close_calls(struct hf_vmlink *l)
{
	hf_varlink_client_close(l->calls);
	l->calls = NULL;
	l->n_calls = 0;
}

static void on_calls_ended(void *ctx, int error __attribute__((unused)),
			   const char *why __attribute__((unused)))
{
	struct hf_vmlink *l = ctx;

	close_calls(l);
	l->asked_ns = 0;
}

static void call_answered(struct hf_vmlink *l)
{
	l->n_calls--;
	if (!l->n_calls)
		close_calls(l);
}

static int call(struct hf_vmlink *l, const char *method, struct json_object *p,
		hf_varlink_answer *answer)
{
	int r = 0;

	if (!l->calls)
		r = open_own(l, on_calls_ended, &l->calls);
	if (r < 0) {
		json_object_put(p);
		return r;
	}
	r = hf_varlink_client_call(l->calls, method, p, /* is_more= */ false, answer, l);
	if (!r)
		l->n_calls++;
	else if (!l->n_calls)
		close_calls(l);
	return r;
}

static void on_status(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_vmlink *l = ctx;
	bool is_again = l->is_asking_again;
	struct json_object *status;

	l->asked_ns = 0;
	l->answered_ns = hf_now_ns();
	l->retries = 0; /* not before: one with too many clients accepts, and hangs up */
	l->is_asking_again = false;
	call_answered(l);
	if (is_again)
		hf_vmlink_refresh(l);
	if (!reply->error && hf_json_obj(reply->parameters, "status", &status, NULL) == 0) {
		l->has_served = true;
		l->ops->status(l->ctx, l, status); /* it may order something */
	}
	if (l->is_stop_open && !l->is_stop_sent)
		hf_vmlink_stop(l, l->is_forced);
}

void hf_vmlink_refresh(struct hf_vmlink *l)
{
	if (l->asked_ns) {
		l->is_asking_again = true;
		return;
	}
	if (!l->is_dead && call(l, INTERFACE ".Status", NULL, on_status) == 0)
		l->asked_ns = hf_now_ns();
}

static void on_stop(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_vmlink *l = ctx;
	const char *reason = reply->error;

	l->is_stop_open = false;
	hf_timer_set(&l->kill_timer, l->loop, UINT64_MAX, NULL, NULL);
	if (reply->error)
		(void)!hf_json_str(reply->parameters, "reason", &reason, NULL);
	if (reply->error)
		l->ops->refused(l->ctx, l, reason);
	call_answered(l);
}

static void on_too_late(void *ctx)
{
	struct hf_vmlink *l = ctx;

	(void)syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
}

void hf_vmlink_stop(struct hf_vmlink *l, bool is_forced)
{
	struct json_object *p = json_object_new_object();

	json_object_object_add(p, "force", json_object_new_boolean(is_forced));
	l->is_stop_open = true;
	if (is_forced)
		hf_timer_set(&l->kill_timer, l->loop, hf_now_ns() + HF_VMLINK_KILL_NS, on_too_late,
			     l);
	l->is_forced = is_forced;
	/* One that does not serve yet dies of the signal, or is told once it serves. */
	l->is_stop_sent = call(l, INTERFACE ".Stop", p, on_stop) == 0;
	if (!l->is_stop_sent)
		(void)syscall(SYS_pidfd_send_signal, l->pidfd, is_forced ? SIGINT : SIGTERM, NULL,
			      0);
}

static void on_peer_died(void *ctx, const struct hf_varlink_reply *reply __attribute__((unused)))
{
	call_answered(ctx);
}

/* One that cannot be told is about to end, or hangs: then its standby is a better witness. */
void hf_vmlink_peer_fenced(struct hf_vmlink *l, const char *host, uint64_t time_ns,
			   const char *text)
{
	struct json_object *p = json_object_new_object();

	json_object_object_add(p, "host", json_object_new_string(host));
	json_object_object_add(p, "time_ns", json_object_new_uint64(time_ns));
	json_object_object_add(p, "text", json_object_new_string(text));
	(void)!call(l, INTERFACE ".PeerDied", p, on_peer_died);
}

uint64_t hf_vmlink_silent_ns(const struct hf_vmlink *l)
{
	return l->asked_ns && hf_now_ns() - l->asked_ns >= HF_VMLINK_SILENCE_NS ? l->asked_ns : 0;
}

/* ---- the link itself ---- */

static void set_path(struct hf_vmlink *l, const char *run_dir, const char *name)
{
	(void)snprintf(l->path, sizeof(l->path), "%s/%s/control", run_dir, name);
}

void hf_vmlink_rename(struct hf_vmlink *l, const char *run_dir, const char *name, const char *id)
{
	char full[128];

	(void)snprintf(full, sizeof(full), "%.64s@%s", name, id);
	set_path(l, run_dir, full);
	(void)snprintf(l->id, sizeof(l->id), "%s", id);
}

int hf_vmlink_new(struct hf_loop *loop, const struct hf_vmlink_ops *ops, void *ctx,
		  const char *run_dir, const char *name, pid_t pid, int why_fd,
		  struct hf_vmlink **ret)
{
	struct hf_vmlink *l = calloc(1, sizeof(*l));
	int r = l ? 0 : -ENOMEM;

	if (l) {
		*l = (struct hf_vmlink){ .loop = loop, .ops = ops, .ctx = ctx, .pid = pid };
		l->why_fd = why_fd;
		l->end.code = HF_SUPERVISE_KILLED;
		set_path(l, run_dir, name);
		l->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		r = l->pidfd < 0 ? -errno : 0;
	} else {
		hf_fd_close(&why_fd);
	}
	if (!r)
		r = hf_watch_add(&l->pid_watch, loop, l->pidfd, HF_PRIORITY_NET, pid_wanted,
				 pid_ready, l);
	if (r < 0) {
		hf_vmlink_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void hf_vmlink_free(struct hf_vmlink *l)
{
	if (!l)
		return;
	hf_watch_remove(&l->pid_watch);
	hf_timer_fini(&l->retry_timer);
	hf_timer_fini(&l->kill_timer);
	hf_varlink_client_close(l->events);
	hf_varlink_client_close(l->calls);
	hf_fd_close(&l->pidfd);
	hf_fd_close(&l->why_fd);
	free(l);
}

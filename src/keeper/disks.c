/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk process: its start, its death, its words. What is done with it is disks-out.c's (an owner)
 * and disks-in.c's (a standby).
 */
#include "keeper/disks.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "sys/fd.h"

/* An owner redoes its journal before it is ready; storage may be slow, but not for ever. */
#define READY_MAX_MS 600000
#define START_AGAIN_MAX 10
/* Starts that lie so far apart are not in a row. */
#define STARTS_APART_NS 60000000000ull

/* Descriptors in the disk process; 3 is the socket of socket activation. */
enum { LISTEN_FD = 3, SHM_FD, KICK_FD, NOTICE_FD, CONTROL_FD, INHERIT_FD };

#define ARGS_MAX (24 + 4 * HF_WIRE_DISKS_MAX)

struct args {
	char *v[ARGS_MAX + 1];
	size_t n;
	bool has_failed;
};

__attribute__((format(printf, 2, 3))) static void add_arg(struct args *a, const char *format, ...)
{
	__builtin_va_list ap;

	assert(a->n < ARGS_MAX);
	__builtin_va_start(ap, format);
	if (vasprintf(&a->v[a->n], format, ap) < 0) {
		a->v[a->n] = NULL;
		a->has_failed = true;
	} else {
		a->n++;
	}
	__builtin_va_end(ap);
}

static void free_args(struct args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
}

/* The plugin lies beside this program in a build folder's layout, and in the library folder installed. */
static const char *find_plugin(const struct hf_keeper *k, char *buf, size_t size)
{
	ssize_t n;

	if (k->set->disk_plugin)
		return k->set->disk_plugin;
	n = readlink("/proc/self/exe", buf, size - 64);
	if (n > 0) {
		buf[n] = '\0';
		(void)snprintf(strrchr(buf, '/'), 64, "/../plugin/nbdkit-holdfast-plugin.so");
		if (access(buf, R_OK) == 0)
			return buf;
	}
	(void)snprintf(buf, size, "%s/nbdkit-holdfast-plugin.so", HF_LIBDIR);
	return buf;
}

static void state_path(const struct hf_keeper *k, const char *file, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s/%s/%s", k->set->state_dir, k->name, file);
}

static uint64_t redo_area_bytes(const struct hf_keeper *k)
{
	return 2 * k->set->disk_buffer_bytes + HF_DISKS_RESERVE_BYTES;
}

static void add_disks(const struct hf_disks *d, struct args *a)
{
	const struct hf_cmdline *cmd = d->k->cmdline;
	char path[4096];
	char file[96];

	for (size_t i = 0; i < d->n; i++) {
		add_arg(a, "disk=%s", cmd->disk[i].location);
		if (d->want_bytes[i])
			add_arg(a, "size=%" PRIu64, d->want_bytes[i]);
		if (cmd->disk[i].is_direct)
			add_arg(a, "cache=direct");
		if (d->is_shared)
			continue;
		/* By name: a command line in another order must not swap them. */
		(void)snprintf(file, sizeof(file), "%.80s.map", d->id[i]);
		state_path(d->k, file, path, sizeof(path));
		add_arg(a, "map=%s", path);
	}
}

static void build_args(const struct hf_disks *d, bool is_inheriting, struct args *a)
{
	const struct hf_keeper *k = d->k;
	char plugin[4096];
	char redo[4096];

	state_path(k, "redo", redo, sizeof(redo));
	add_arg(a, "%s", k->set->nbdkit ? k->set->nbdkit : "nbdkit");
	add_arg(a, "-f");
	add_arg(a, "-t");
	add_arg(a, "%d", HF_DISKS_THREADS);
	add_arg(a, "%s", find_plugin(k, plugin, sizeof(plugin)));
	add_arg(a, "vm=%s", k->name);
	add_disks(d, a);
	add_arg(a, "redo=%s", k->set->redo_journal ? k->set->redo_journal : redo);
	add_arg(a, "redo-area=%" PRIu64, redo_area_bytes(k));
	add_arg(a, "shared=%d", d->is_shared);
	add_arg(a, "standby=%d", k->set->role == HF_ROLE_STANDBY);
	add_arg(a, "shm-fd=%d", SHM_FD);
	add_arg(a, "kick-fd=%d", KICK_FD);
	add_arg(a, "notice-fd=%d", NOTICE_FD);
	add_arg(a, "control-fd=%d", CONTROL_FD);
	if (is_inheriting)
		add_arg(a, "hold-fd=%d", INHERIT_FD);
}

static int spawn(struct hf_disks *d, struct hf_err *err)
{
	static const char *const env_set[] = { "LISTEN_FDS=1", NULL };
	struct args args = { .n = 0 };
	struct hf_process_fd fds[6];
	struct hf_process_spec spec = {
		.env_set = env_set,
		.env_pid = "LISTEN_PID",
		.is_own_group = true,
		.fds = fds,
	};
	int pair[2];
	int r = hf_fd_pair(SOCK_SEQPACKET, pair);

	if (r < 0)
		return r;
	build_args(d, d->inherit_fd >= 0, &args);
	fds[spec.n_fds++] = (struct hf_process_fd){ d->listen_fd, LISTEN_FD };
	fds[spec.n_fds++] = (struct hf_process_fd){ d->shm.fd, SHM_FD };
	fds[spec.n_fds++] = (struct hf_process_fd){ d->shm.kick_fd, KICK_FD };
	fds[spec.n_fds++] = (struct hf_process_fd){ d->shm.notice_fd, NOTICE_FD };
	fds[spec.n_fds++] = (struct hf_process_fd){ pair[1], CONTROL_FD };
	if (d->inherit_fd >= 0)
		fds[spec.n_fds++] = (struct hf_process_fd){ d->inherit_fd, INHERIT_FD };
	spec.argv = (const char *const *)args.v;
	r = args.has_failed ? -ENOMEM : hf_process_spawn(&spec, &d->process, err);
	free_args(&args);
	hf_fd_close(&pair[1]);
	if (r < 0) {
		hf_fd_close(&pair[0]);
		return r;
	}
	(void)!hf_rundir_note(&d->k->rundir, HF_RUNDIR_DISKS, d->process.pid);
	d->control_fd = pair[0];
	d->started_ns = hf_now_ns();
	d->ping_number = 0;
	return 0;
}

/* ---- words ---- */

void hf_disks_say(struct hf_disks *d, struct hf_diskctl_msg *msg)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];
	size_t len = hf_diskctl_encode(msg, buf);

	if (d->control_fd < 0)
		return;
	if (send(d->control_fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
		hf_log(&d->k->journal, HF_LOG_ERROR,
		       "the disk process takes no orders (%s): it will be found out",
		       strerror(errno));
}

static uint32_t order(struct hf_disks *d, struct hf_diskctl_msg *msg)
{
	if (++d->last_number == 0)
		d->last_number = 1;
	msg->number = d->last_number;
	hf_disks_say(d, msg);
	return msg->number;
}

uint32_t hf_disks_set_state(struct hf_disks *d, enum hf_disk_condition condition,
			    struct hf_id session)
{
	struct hf_diskctl_msg msg = {
		.type = HF_DISKCTL_SET_STATE,
		.set_state = { .condition = condition, .session = session },
	};

	d->condition = condition;
	d->session = session;
	d->state_order = order(d, &msg);
	return d->state_order;
}

uint32_t hf_disks_flush_copy(struct hf_disks *d)
{
	struct hf_diskctl_msg msg = { .type = HF_DISKCTL_FLUSH_SYNC };

	return order(d, &msg);
}

static void on_ready(struct hf_disks *d, const struct hf_diskctl_msg *msg)
{
	d->condition = msg->ready.condition;
	d->session = msg->ready.session;
	d->map_session = msg->ready.map_session;
	d->is_map_trusted = msg->ready.is_map_trusted;
	for (size_t i = 0; i < d->n && i < msg->ready.n_disks; i++)
		d->size_bytes[i] = msg->ready.disk[i].size_bytes;
	d->recovered_epochs = msg->ready.recovered_epochs;
}

static void tell_redone(struct hf_disks *d)
{
	if (d->recovered_epochs)
		hf_event(&d->k->journal, "disks-redone", NULL,
			 "redid %" PRIu64 " epochs' disk writes from the journal",
			 d->recovered_epochs);
}

static void on_fault(struct hf_disks *d, const struct hf_diskctl_msg *msg)
{
	bool is_well = msg->type == HF_DISKCTL_WELL;
	struct json_object *details = json_object_new_object();

	d->has_fault = !is_well;
	(void)snprintf(d->fault_text, sizeof(d->fault_text), "%s", is_well ? "" : msg->fault.text);
	json_object_object_add(details, "disk",
			       json_object_new_string(msg->fault.disk < d->n
							      ? d->id[msg->fault.disk]
							      : "journal"));
	json_object_object_add(details, "errno", json_object_new_int(msg->fault.error));
	json_object_object_add(details, "offset_bytes",
			       json_object_new_uint64(msg->fault.offset_bytes));
	hf_event(&d->k->journal, is_well ? "disk-well" : "disk-error", details, "%s",
		 msg->fault.text);
	if (d->ops && d->ops->on_fault)
		d->ops->on_fault(d->ctx, is_well, msg->fault.text);
}

static void take(struct hf_disks *d, const struct hf_diskctl_msg *msg)
{
	switch ((unsigned int)msg->type) { /* the others are ours to send */
	case HF_DISKCTL_READY:
		break; /* a successor; what the first one found is known */
	case HF_DISKCTL_DONE:
		if (msg->number == d->state_order)
			d->state_order = 0;
		if (d->ops && d->ops->on_done)
			d->ops->on_done(d->ctx, msg->number, msg->done.error, msg->done.text);
		break;
	case HF_DISKCTL_FAULT:
	case HF_DISKCTL_WELL:
		on_fault(d, msg);
		break;
	case HF_DISKCTL_PONG:
		if (msg->number == d->ping_number)
			d->ping_number = 0;
		break;
	default:
		hf_log(&d->k->journal, HF_LOG_ERROR,
		       "the disk process sent an order of its keeper");
		break;
	}
}

/* 1: a message; 0: none waits; -errno, also for its end. */
static int receive(struct hf_disks *d, struct hf_diskctl_msg *ret, struct hf_err *err)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX + 1];
	ssize_t n = recv(d->control_fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	return hf_diskctl_decode(buf, (size_t)n, ret, err) < 0 ? -EBADMSG : 1;
}

static uint32_t readable(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void control_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_disks *d = ctx;
	struct hf_diskctl_msg msg;
	struct hf_err err = { "" };
	int r = receive(d, &msg, &err);

	if (r == 1) {
		take(d, &msg);
	} else if (r < 0) {
		hf_watch_remove(&d->control_watch);
		hf_fd_close(&d->control_fd);
		if (r == -EPIPE || r == -ECONNRESET)
			return; /* it ends; its pidfd says how */
		hf_log(&d->k->journal, HF_LOG_ERROR, "the disk process sent nonsense: %s; killed",
		       err.text[0] ? err.text : strerror(-r));
		(void)!hf_process_kill(&d->process, SIGKILL);
	}
}

static void notice_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_disks *d = ctx;
	uint64_t n;

	if (read(d->shm.notice_fd, &n, sizeof(n)) != sizeof(n))
		return;
	if (d->ops && d->ops->on_notice)
		d->ops->on_notice(d->ctx);
}

/* ---- life and death ---- */

static void process_ready(void *ctx, uint32_t revents);

static int watch(struct hf_disks *d)
{
	struct hf_loop *loop = &d->k->loop;
	int r = hf_watch_add(&d->control_watch, loop, d->control_fd, HF_PRIORITY_VM, readable,
			     control_ready, d);

	if (!r)
		r = hf_watch_add(&d->process_watch, loop, d->process.pidfd, HF_PRIORITY_VM,
				 readable, process_ready, d);
	return r;
}

static void lost(struct hf_disks *d, const char *why)
{
	hf_event(&d->k->journal, "disk-path-lost", NULL, "%s", why);
	if (d->ops && d->ops->on_lost)
		d->ops->on_lost(d->ctx, why);
}

static void start_again(struct hf_disks *d)
{
	struct hf_err err = { "" };

	d->starts_in_a_row = hf_now_ns() - d->started_ns < STARTS_APART_NS ? d->starts_in_a_row + 1
									   : 1;
	if (d->starts_in_a_row > START_AGAIN_MAX) {
		lost(d, "the disk process ends again and again");
	} else if (spawn(d, &err) < 0 || watch(d) < 0) {
		lost(d, err.text[0] ? err.text : "the disk process cannot be started again");
	} else {
		hf_event(&d->k->journal, "disk-path-restarted", NULL,
			 "the disk process is started again, with all that was logged; process id "
			 "%d",
			 (int)d->process.pid);
		hf_diskshm_kick(&d->shm);
		if (d->state_order)
			(void)hf_disks_set_state(d, d->condition, d->session);
		if (d->ops && d->ops->on_restarted)
			d->ops->on_restarted(d->ctx);
	}
}

static void process_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_disks *d = ctx;
	struct hf_process_exit how;
	char text[HF_PROCESS_EXIT_TEXT];

	if (hf_process_reap(&d->process, &how) != 0)
		return;
	hf_watch_remove(&d->process_watch);
	hf_watch_remove(&d->control_watch);
	hf_process_close(&d->process);
	hf_fd_close(&d->control_fd);
	d->has_hung = false;
	if (d->is_cut) {
		if (d->ops && d->ops->on_cut)
			d->ops->on_cut(d->ctx);
		return;
	}
	hf_log(&d->k->journal, HF_LOG_ERROR, "the disk process %s",
	       hf_process_exit_format(&how, text, sizeof(text)));
	start_again(d);
}

/* One that is stopped, or stuck in storage, answers nothing; stuck, it does not even die. */
static void on_ping_timer(void *ctx)
{
	struct hf_disks *d = ctx;
	uint64_t now_ns = hf_now_ns();
	uint64_t patience_ns = d->k->set->peer_timeout_ns;
	struct hf_diskctl_msg ping = { .type = HF_DISKCTL_PING };

	if (d->process.pid >= 0 && !d->is_cut) {
		if (!d->ping_number) {
			d->ping_ns = now_ns;
			d->ping_number = order(d, &ping);
		} else if (d->has_hung && now_ns - d->ping_ns > 2 * patience_ns) {
			d->ping_ns = now_ns;
			lost(d,
			     "the disk process hangs and cannot even be killed: its storage does "
			     "not answer");
		} else if (!d->has_hung && now_ns - d->ping_ns > patience_ns) {
			d->has_hung = true;
			hf_event(
				&d->k->journal, "disk-path-hung", NULL,
				"the disk process does not answer: it is killed and started again");
			(void)!hf_process_kill(&d->process, SIGKILL);
		}
	}
	hf_timer_set(&d->ping_timer, &d->k->loop, now_ns + patience_ns / 4, on_ping_timer, d);
}

/* ---- start ---- */

static int explain_end(struct hf_disks *d, struct hf_err *err)
{
	struct hf_process_exit how;
	char text[HF_PROCESS_EXIT_TEXT] = "has closed its connection";

	if (hf_process_reap(&d->process, &how) == 0)
		(void)hf_process_exit_format(&how, text, sizeof(text));
	hf_err_set(err,
		   "the disk process (nbdkit) %s before it was ready; its own message, if it had "
		   "one, is above",
		   text);
	return -ECHILD;
}

/* The next message, before there is a loop. */
static int await(struct hf_disks *d, struct hf_diskctl_msg *ret, struct hf_err *err)
{
	int r;

	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = d->control_fd, .events = POLLIN },
			{ .fd = d->process.pidfd, .events = POLLIN },
		};

		r = poll(fds, 2, READY_MAX_MS);
		if (r == 0) {
			hf_err_set(err, "the disk process is not ready after %d s",
				   READY_MAX_MS / 1000);
			return -ETIMEDOUT;
		}
		if (r < 0 && errno != EINTR)
			return -errno;
		r = receive(d, ret, err);
		if (r == 1)
			return 0;
		if (r == -EBADMSG)
			return r;
		if (r < 0 || fds[1].revents)
			return explain_end(d, err);
	}
}

static int await_ready(struct hf_disks *d, struct hf_err *err)
{
	struct hf_diskctl_msg msg = { .number = 0 };
	int r;

	do {
		r = await(d, &msg, err);
	} while (!r && msg.type != HF_DISKCTL_READY);
	if (!r)
		on_ready(d, &msg);
	return r;
}

static int listen_at(struct hf_disks *d, struct hf_err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int n = snprintf(d->socket_path, sizeof(d->socket_path), "%s/disks", d->k->rundir.path);
	int r = 0;

	if (n < 0 || (size_t)n >= sizeof(d->socket_path)) {
		hf_err_set(err, "the path %s/disks is too long for a socket", d->k->rundir.path);
		return -ENAMETOOLONG;
	}
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", d->socket_path);
	(void)unlink(d->socket_path); /* a dead keeper's; the folder is ours alone */
	d->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (d->listen_fd < 0 || bind(d->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(d->listen_fd, 16) < 0)
		r = -errno;
	if (r < 0)
		hf_err_set(err, "%s: %s", d->socket_path, strerror(-r));
	return r;
}

static int make_state_dir(struct hf_disks *d, struct hf_err *err)
{
	char path[4096];
	int r = 0;

	if (mkdir(d->k->set->state_dir, 0755) < 0 && errno != EEXIST)
		r = -errno;
	state_path(d->k, "", path, sizeof(path));
	if (!r && mkdir(path, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r < 0)
		hf_err_set(err, "--state-dir: cannot make %s: %s", path, strerror(-r));
	return r;
}

/* The disk process leaves disks alone that another host may have gone on from, until they are claimed: then it
 * redoes their journal. */
static int claim(struct hf_disks *d, struct hf_err *err)
{
	const struct hf_id none = { 0 };
	struct hf_diskctl_msg msg = { .number = 0 };
	uint32_t number;
	int r;

	if (d->k->set->role == HF_ROLE_STANDBY || d->condition == HF_DISK_FRESH ||
	    d->condition == HF_DISK_OWNED)
		return 0;
	number = hf_disks_set_state(d, HF_DISK_OWNED, none);
	do {
		r = await(d, &msg, err);
	} while (!r && (msg.type != HF_DISKCTL_DONE || msg.number != number));
	if (!r && msg.done.error) {
		hf_err_set(err, "the disks cannot be brought up to date: %s", msg.done.text);
		r = msg.done.error;
	}
	d->state_order = 0;
	return r;
}

static int open_all(struct hf_disks *d, struct hf_err *err)
{
	const struct hf_settings *set = d->k->set;
	int r = hf_disks_check_images(d, err);

	if (!r)
		r = make_state_dir(d, err);
	if (!r)
		r = listen_at(d, err);
	if (!r)
		r = hf_diskshm_create((uint32_t)d->n, set->disk_buffer_bytes,
				      HF_DISKS_RESERVE_BYTES, &d->shm, err);
	if (r < 0)
		return r;
	atomic_store(&d->shm.words->permit_ns, UINT64_MAX);
	atomic_store(&d->shm.words->role, set->role != HF_ROLE_STANDBY ? HF_DISKSHM_OWNER
					  : d->is_shared               ? HF_DISKSHM_WATCHER
								       : HF_DISKSHM_REPLICA);
	r = spawn(d, err);
	if (!r)
		r = await_ready(d, err);
	if (!r)
		r = hf_disks_check_condition(d, err);
	if (!r)
		r = claim(d, err);
	if (!r)
		tell_redone(d);
	if (!r)
		r = watch(d);
	if (!r)
		r = hf_watch_add(&d->notice_watch, &d->k->loop, d->shm.notice_fd, HF_PRIORITY_LINK,
				 readable, notice_ready, d);
	return r;
}

static void describe(struct hf_disks *d)
{
	for (size_t i = 0; i < d->n; i++)
		(void)snprintf(d->text[i], sizeof(d->text[i]), "%.80s %s %s %" PRIu64, d->id[i],
			       d->is_shared ? "shared" : "replicated", d->format[i],
			       d->size_bytes[i]);
}

int hf_disks_start(struct hf_keeper *k, int inherit_fd, struct hf_err *err)
{
	struct hf_disks *d;
	int r;

	if (!k->cmdline->disk_count)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->k = k;
	d->shm = HF_DISKSHM_NONE;
	d->process = HF_PROCESS_NONE;
	d->listen_fd = d->control_fd = -1;
	d->is_shared = k->set->disk_layout == HF_DISK_LAYOUT_SHARED;
	d->inherit_fd = inherit_fd;
	r = open_all(d, err);
	if (r < 0) {
		d->is_cut = true;
		hf_disks_free(d);
		return r;
	}
	describe(d);
	k->disks = d;
	on_ping_timer(d);
	return 0;
}

void hf_disks_set_ops(struct hf_disks *d, const struct hf_disks_ops *ops, void *ctx)
{
	d->ops = ops;
	d->ctx = ctx;
}

const char *hf_disks_text(const struct hf_disks *d, size_t i)
{
	assert(i < d->n);
	return d->text[i];
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-keeper: the guardian of one VM on one host. docs/architecture.md says what it does;
 * `holdfast run` and `holdfast standby` are how people start it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "keeper/assigned.h"
#include "keeper/dumper.h"
#include "keeper/frozen-side.h"
#include "keeper/guest-side.h"
#include "keeper/keeper.h"
#include "keeper/orders.h"
#include "keeper/peer-fenced.h"
#include "keeper/primary.h"
#include "keeper/question.h"
#include "keeper/saver.h"
#include "keeper/standby.h"
#include "sys/fd.h"

static int read_cmdline(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_cmdline_want want = {
		.is_standby = k->set->role == HF_ROLE_STANDBY,
		.is_resumed = k->saved != NULL,
		.hold_net = k->set->hold_net,
		.unprotected = k->set->unprotected,
		.page_bytes = k->set->hugepage_bytes,
	};
	char *text;
	int r = hf_cmdline_parse(k->set->argv, &want, &k->cmdline, err);

	if (r < 0)
		return r;
	if (k->cmdline->refused_count) {
		if (hf_cmdline_refusal(k->cmdline, &text) < 0)
			return -ENOMEM;
		(void)fprintf(stderr, "holdfast: %s cannot be protected as it is:\n%s", k->name,
			      text);
		free(text);
		hf_err_set(err, "the VM was not started");
		return -EPERM;
	}
	for (size_t i = 0; i < k->cmdline->problem_count; i++)
		hf_keeper_note(k, k->cmdline->problem[i].text);
	for (char **note = k->cmdline->notes; note && *note; note++)
		hf_log(&k->journal, HF_LOG_INFO, "%s", *note);
	return 0;
}

/* ---- control ---- */

static struct json_object *status(void *ctx)
{
	struct hf_keeper *k = ctx;
	struct json_object *o = json_object_new_object();
	char text[HF_ID_TEXT];

	json_object_object_add(o, "vm", json_object_new_string(k->name));
	k->ops->add_status(k->role, o);
	hf_life_add_status(k, o);
	json_object_object_add(o, "guest",
			       json_object_new_string(k->is_guest_running ? "running" : "stopped"));
	if (k->ownership)
		json_object_object_add(o, "lease", hf_ownership_status(k->ownership));
	hf_meetings_add_status(k->meetings, o, k->notes);
	json_object_object_add(o, "pid", json_object_new_int64(getpid()));
	json_object_object_add(o, "qemu_pid",
			       json_object_new_int64(hf_guest_process(k->guest)->pid));
	json_object_object_add(o, "instance",
			       json_object_new_string(hf_id_format(k->instance, text)));
	json_object_object_add(o, "version", json_object_new_string(HF_VERSION));
	json_object_object_add(o, "qemu_version",
			       json_object_new_string(hf_guest_identity(k->guest)->qemu_version));
	json_object_object_add(o, "machine",
			       json_object_new_string(hf_guest_identity(k->guest)->machine));
	json_object_object_add(o, "ram_bytes",
			       json_object_new_uint64(hf_guest_identity(k->guest)->ram_bytes));
	return o;
}

/* Until the role is through, which knows nothing of the freeze. What runs elsewhere then is not for here. */
static int refuse_frozen(const struct hf_keeper *k, struct hf_err *err)
{
	if (!k->freezer)
		return 0;
	hf_err_set(err, hf_freezer_is_certified(k->freezer)
				? "this instance is frozen and never runs again"
				: "the VM is being frozen, and never runs again here");
	return -EPERM;
}

static int order_promote(void *ctx, bool is_forced, struct hf_err *err)
{
	struct hf_keeper *k = ctx;

	return k->ops->promote(k->role, is_forced, err);
}

static int order_stop(void *ctx, bool is_forced, struct hf_err *err)
{
	struct hf_keeper *k = ctx;
	int r = refuse_frozen(k, err);

	return r < 0 ? r : k->ops->stop(k->role, is_forced, err);
}

static int order_resume(void *ctx, struct hf_err *err)
{
	struct hf_keeper *k = ctx;
	int r = refuse_frozen(k, err);

	return r < 0 ? r : k->ops->resume(k->role, err);
}

static int order_pause(void *ctx, struct hf_err *err)
{
	return hf_life_order_pause(ctx, err);
}

static void order_save(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	hf_saver_order(ctx, rq, parameters);
}

static void order_dump(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	hf_dumper_order(ctx, rq, parameters);
}

static const struct hf_control_ops control_ops = {
	.status = status,
	.promote = order_promote,
	.stop = order_stop,
	.resume = order_resume,
	.pause = order_pause,
	.freeze = hf_order_freeze,
	.release = hf_order_release,
	.offload = hf_order_offload,
	.save = order_save,
	.dump = order_dump,
	.hand_over = hf_order_hand_over,
	.peer_died = hf_order_peer_died,
};

static int on_signal(sd_event_source *source __attribute__((unused)),
		     const struct signalfd_siginfo *si, void *data)
{
	struct hf_keeper *k = data;

	if (k->ops)
		k->ops->on_signal(k->role, (int)si->ssi_signo);
	return 0;
}

static int take_signals(struct hf_keeper *k)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	sigset_t set;
	int r = 0;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaddset(&set, signals[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; r >= 0 && i < sizeof(signals) / sizeof(signals[0]); i++)
		r = sd_event_add_signal(k->loop.event, NULL, signals[i], on_signal, k);
	return r < 0 ? r : 0;
}

static int start_meetings(struct hf_keeper *k, struct hf_err *err)
{
	if (!k->set->peer.is_set && k->set->role == HF_ROLE_RUN) {
		hf_keeper_note(k, "started without --peer: the VM runs unprotected");
		return 0;
	}
	if (!k->set->listen.is_set) {
		hf_err_set(err, "--peer needs --listen: that this port is closed proves to the "
				"peer that the "
				"keeper is dead");
		return -EINVAL;
	}
	if (!k->set->peer.is_set)
		hf_keeper_note(
			k, "started without --peer: the primary's death could not be proven, so "
			   "there is no "
			   "failover by itself, and no protection after one");
	return hf_meetings_new(&k->loop, &k->journal, k->set, &hf_question_ops, NULL, &k->meetings,
			       err);
}

/* On shared storage the port stays open until the disk process is dead, too: so a closed one proves that no
 * write of this host is to come. */
static int start_disks(struct hf_keeper *k, struct hf_err *err)
{
	bool is_shared = k->set->disk_layout == HF_DISK_LAYOUT_SHARED;

	return hf_disks_start(k, is_shared && k->meetings ? hf_meetings_listen_fd(k->meetings) : -1,
			      err);
}

/* ---- the program ---- */

/* Waited for: whether the guest runs must be known before a standby is filled. */
static int run_guest(struct hf_keeper *k, struct hf_err *err)
{
	int r;

	if (k->ownership && !hf_ownership_is_valid(k->ownership)) {
		hf_err_set(err, "the VM's lease ran out while the VM was being started");
		return -ETIMEDOUT;
	}
	if (k->saved) {
		r = hf_saver_load(k, err);
		if (r < 0)
			return r;
	}
	if (k->saved ? !hf_saver_was_running(k) : hf_guest_is_paused_by_user(k->guest))
		return 0;
	return hf_qmp_call_wait(hf_guest_qmp(k->guest), "cont", NULL, HF_GUEST_START_MAX_MS, NULL,
				err);
}

/* Who supervises keepers goes by their exit codes. */
static int ask_peer(struct hf_keeper *k, struct hf_err *err)
{
	int r = hf_question_ask(k, err);

	if (r == -EEXIST)
		k->refusal = HF_KEEPER_EXIT_SUPERSEDED;
	else if (r == -EHOSTUNREACH)
		k->refusal = HF_KEEPER_EXIT_UNKNOWN_PEER;
	return r;
}

static int acquire_lease(struct hf_keeper *k, struct hf_err *err)
{
	int r = hf_ownership_acquire(k->ownership, err);

	if (r == -EBUSY)
		k->refusal = HF_KEEPER_EXIT_LEASE_LOST;
	return r;
}

static int set_up(struct hf_keeper *k, struct hf_err *err)
{
	bool is_standby = k->set->role == HF_ROLE_STANDBY;
	int r = hf_rundir_open(k->set->run_dir, k->name, &k->rundir, err);

	if (!r)
		r = hf_assigned_check(k, err);
	if (!r)
		r = take_signals(k);
	if (!r)
		r = hf_frozen_finish_all(k, err);
	if (!r && !is_standby)
		r = hf_frozen_check_start(k, err);
	if (!r)
		r = start_meetings(k, err);
	/* Before anything is written: an owner's disks are brought up to date by their journal. */
	if (!r && !is_standby && k->meetings)
		r = ask_peer(k, err);
	if (!r)
		r = hf_ownership_open(k, &k->ownership, err);
	if (!r && !is_standby && k->ownership)
		r = acquire_lease(k, err);
	if (!r && k->saved)
		r = hf_saver_check(k, err);
	if (!r)
		r = start_disks(k, err);
	if (!r && k->ownership)
		hf_ownership_permit_disks(k->ownership);
	if (!r)
		r = hf_guest_side_start(k, err);
	if (r < 0) {
		hf_saver_take_back(k);
		return r;
	}
	if (is_standby)
		return hf_standby_side_start(k, err);
	r = run_guest(k, err);
	if (!r)
		r = hf_primary_side_start(k, 0, NULL, err);
	if (!r)
		hf_saver_resumed(k);
	else
		hf_saver_take_back(k);
	return r;
}

static int serve(struct hf_keeper *k, struct hf_err *err)
{
	int r = hf_rundir_listen(&k->rundir, err);

	if (!r)
		r = hf_control_new(&k->loop, k->rundir.listen_fd, &k->journal, &control_ops, k,
				   &k->control);
	if (r < 0)
		return r;
	return 0;
}

static void tear_down(struct hf_keeper *k)
{
	hf_control_free(k->control);
	hf_meetings_free(k->meetings);
	hf_guest_side_unwatch(k);
	hf_freezer_free(k->freezer);
	hf_dumper_free(k);
	hf_guest_free(k->guest);
	hf_disks_free(k->disks);
	hf_saver_settle(k);
	hf_saver_free(k);
	hf_ownership_free(k->ownership); /* all that it could be needed for is dead */
	hf_cgroup_close(&k->cgroup, true);
	hf_life_fini(&k->life);
	hf_timer_fini(&k->frozen_timer);
	hf_cmdline_free(k->cmdline);
	hf_rundir_close(&k->rundir);
	hf_journal_fini(&k->journal);
	json_object_put(k->notes);
}

static void say_ready(struct hf_keeper *k, int ready_fd)
{
	hf_event(&k->journal, "started", NULL, "keeper %d, QEMU %s with process id %d, machine %s",
		 (int)getpid(), hf_guest_identity(k->guest)->qemu_version,
		 (int)hf_guest_process(k->guest)->pid, hf_guest_identity(k->guest)->machine);
	(void)sd_event_set_watchdog(k->loop.event, 1);
	if (ready_fd >= 0) {
		(void)!write(ready_fd, "1", 1);
		hf_fd_close(&ready_fd);
	}
}

/* For who follows the events, and is no parent that could see the exit code. */
static void say_last_word(struct hf_keeper *k, int code)
{
	const struct hf_vm *vm = &k->life.vm;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "code", json_object_new_int(code));
	json_object_object_add(o, "state", json_object_new_string(hf_vm_state_name(vm->state)));
	json_object_object_add(o, "cause", json_object_new_string(hf_vm_cause_name(vm->cause)));
	json_object_object_add(o, "restart",
			       json_object_new_boolean(code == HF_KEEPER_EXIT_RESTART));
	json_object_object_add(o, "handed_over", json_object_new_boolean(k->was_handed_over));
	hf_event(&k->journal, "ended", o, "the keeper ends, with code %d", code);
}

/* `frozen`: what a dead keeper did not finish. */
static int finish_frozen(const struct hf_settings *set)
{
	struct hf_keeper k = { .set = set, .name = set->name };
	struct hf_err err = { "" };
	int r;

	hf_journal_init(&k.journal, "holdfast", "vm", set->name, (enum hf_log_level)set->log_level);
	r = hf_frozen_finish_all(&k, &err);
	if (r < 0)
		hf_log(&k.journal, HF_LOG_ERROR, "%s", err.text[0] ? err.text : strerror(-r));
	hf_journal_fini(&k.journal);
	return r < 0 ? HF_KEEPER_EXIT_FAILED : HF_KEEPER_EXIT_ENDED;
}

/* For a daemon that has started this: a memory file of its own. */
static void leave_why(const char *text)
{
	const char *number = getenv("HOLDFAST_WHY_FD");
	int fd = number ? (int)strtol(number, NULL, 10) : -1;

	if (fd > STDERR_FILENO)
		(void)!pwrite(fd, text, strlen(text), 0);
}

/* Nobody else is to have it, least of all what is started from here. */
static void keep_why_to_us(void)
{
	const char *number = getenv("HOLDFAST_WHY_FD");
	int fd = number ? (int)strtol(number, NULL, 10) : -1;

	if (fd > STDERR_FILENO)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int keep(const struct hf_settings *set, int ready_fd)
{
	struct hf_keeper k = {
		.set = set, .name = set->name, .rundir = HF_RUNDIR_NONE, .cgroup = HF_CGROUP_NONE
	};
	struct hf_err err = { "" };
	bool is_usage;
	int r;

	hf_journal_init(&k.journal, "holdfast", "vm", set->name, (enum hf_log_level)set->log_level);
	k.instance = hf_keeper_new_id();
	k.notes = json_object_new_array();
	hf_life_init(&k);
	r = hf_loop_init(&k.loop);
	if (!r)
		r = hf_assigned_check_order(&k, &err);
	if (!r && set->role == HF_ROLE_RUN)
		r = hf_saver_find(&k, &err);
	if (!r)
		r = read_cmdline(&k, &err);
	is_usage = r == -EINVAL;
	if (!r)
		r = set_up(&k, &err);
	if (!r)
		r = serve(&k, &err);
	if (r < 0) {
		hf_log(&k.journal, HF_LOG_ERROR, "%s", err.text[0] ? err.text : strerror(-r));
		leave_why(err.text[0] ? err.text : strerror(-r));
		r = is_usage    ? HF_KEEPER_EXIT_USAGE
		    : k.refusal ? (int)k.refusal
				: HF_KEEPER_EXIT_FAILED;
	} else {
		say_ready(&k, ready_fd);
		r = hf_loop_run(&k.loop);
		if (r < 0) {
			hf_log(&k.journal, HF_LOG_ERROR, "main loop: %s", strerror(-r));
			r = HF_KEEPER_EXIT_FAILED;
		}
	}
	say_last_word(&k, r);
	tear_down(&k);
	hf_loop_fini(&k.loop);
	return r;
}

/*
 * --detach: the parent waits for the child's word that all is well, or for its end. The child leads a
 * session of its own and lets go of the parent's stdin and stdout, which somebody may wait for the end
 * of; its messages still go to where the parent's went.
 */
static void leave_terminal(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)setsid();
	if (fd < 0)
		return;
	(void)dup2(fd, STDIN_FILENO);
	(void)dup2(fd, STDOUT_FILENO);
	hf_fd_close(&fd);
}

static int detach(const struct hf_settings *set)
{
	int pipe_fds[2];
	char word;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return HF_KEEPER_EXIT_FAILED;
	pid = fork();
	if (pid < 0) {
		(void)fprintf(stderr, "holdfast: cannot fork: %s\n", strerror(errno));
		return HF_KEEPER_EXIT_FAILED;
	}
	if (pid == 0) {
		hf_fd_close(&pipe_fds[0]);
		leave_terminal();
		return keep(set, pipe_fds[1]);
	}
	hf_fd_close(&pipe_fds[1]);
	if (read(pipe_fds[0], &word, 1) != 1)
		return HF_KEEPER_EXIT_FAILED; /* it has said why */
	hf_fd_close(&pipe_fds[0]);
	return HF_KEEPER_EXIT_ENDED;
}

static int print_help(const char *program)
{
	char *text;

	if (hf_settings_format_help(program, &text) < 0)
		return HF_KEEPER_EXIT_FAILED;
	(void)fputs(text, stdout);
	free(text);
	return HF_KEEPER_EXIT_ENDED;
}

/* `check`: would this definition do? QEMU's line is looked at as for the primary. */
static int check(const struct hf_settings *set)
{
	struct hf_keeper k = { .set = set, .name = set->name };
	struct hf_err err = { "" };
	int r;

	hf_journal_init(&k.journal, "holdfast-keeper", "vm", k.name, HF_LOG_ERROR);
	k.notes = json_object_new_array();
	r = read_cmdline(&k, &err);
	for (size_t i = 0; !r && i < json_object_array_length(k.notes); i++)
		(void)printf("note: %s\n",
			     json_object_get_string(json_object_array_get_idx(k.notes, i)));
	if (r < 0 && r != -EPERM) /* what is refused has been told */
		(void)fprintf(stderr, "holdfast: %s\n", err.text[0] ? err.text : strerror(-r));
	else if (!r)
		(void)printf("%s: ok\n", set->config ? set->config : k.name);
	hf_cmdline_free(k.cmdline);
	json_object_put(k.notes);
	hf_journal_fini(&k.journal);
	return r < 0 ? HF_KEEPER_EXIT_USAGE : HF_KEEPER_EXIT_ENDED;
}

int main(int argc __attribute__((unused)), char **argv)
{
	struct hf_settings set = { 0 };
	struct hf_err err = { "" };
	int r;

	keep_why_to_us();
	r = hf_settings_parse(argv, NULL, &set, &err);
	if (r == HF_SETTINGS_E_HELP)
		return print_help("holdfast");
	if (r == HF_SETTINGS_E_VERSION) {
		puts("holdfast-keeper " HF_VERSION);
		return HF_KEEPER_EXIT_ENDED;
	}
	if (r < 0) {
		(void)fprintf(stderr, "holdfast: %s\n", err.text[0] ? err.text : strerror(-r));
		leave_why(err.text[0] ? err.text : strerror(-r));
		return r == -EINVAL ? HF_KEEPER_EXIT_USAGE : HF_KEEPER_EXIT_FAILED;
	}
	if (set.role == HF_ROLE_CHECK)
		r = check(&set);
	else if (set.role == HF_ROLE_FROZEN)
		r = finish_frozen(&set);
	else
		r = set.is_detached ? detach(&set) : keep(&set, -1);
	hf_settings_fini(&set);
	return r;
}

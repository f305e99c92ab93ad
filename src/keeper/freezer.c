/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * core/freeze.h decides, this carries out. Each action ends, at once or later, in an event for the
 * machine: QMP answers, the cgroup's event file, pidfds, and threads for what may block on storage.
 *
 * The role may be in the middle of a checkpoint. It is told first (ops->freeze), forbids its checkpoint
 * to run the guest on, and says when it is quiet. `stop` goes to QEMU at once all the same, behind
 * whatever `cont` the role has sent before; only the device state and the disks wait for the role.
 *
 * After the proof the cgroup's event file and QEMU's RESUME are still looked at: who wakes the instance
 * gets QEMU killed.
 */
#include "keeper/freezer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "codec/json.h"
#include "keeper/dumper.h"
#include "keeper/frozen-side.h"
#include "keeper/keeper.h"
#include "keeper/saver.h"
#include "service/varlink-server.h"
#include "sys/fd.h"
#include "sys/memholder.h"
#include "vm/frozen.h"

#define V1_LOOK_NS 2000000ull
#define V1_GUARD_NS 200000000ull

#define STATE_TRY_NS 1000000ull /* and longer each time */
#define STATE_TRIES_MAX 10

/* ---- QEMU ---- */

static void on_stop_reply(void *ctx, struct json_object *ret __attribute__((unused)),
			  const char *error_class, const char *error_desc)
{
	struct hf_freezer *f = ctx;

	if (error_class && strcmp(error_class, HF_QMP_CLASS_LOST) == 0)
		return; /* QEMU is dead, and its end comes by itself */
	if (error_class)
		hf_freezer_set_text(f, HF_FREEZE_STOP, error_desc);
	hf_freezer_feed(f, error_class ? HF_FREEZE_EV_FAILED : HF_FREEZE_EV_DONE, HF_FREEZE_STOP);
}

static void stop_guest(struct hf_freezer *f)
{
	if (hf_qmp_call(hf_guest_qmp(f->k->guest), "stop", NULL, on_stop_reply, f) < 0)
		hf_freezer_feed(f, HF_FREEZE_EV_FAILED, HF_FREEZE_STOP);
}

static void kill_guest(struct hf_freezer *f)
{
	if (f->k->cgroup.dir_fd >= 0)
		(void)!hf_cgroup_kill(&f->k->cgroup);
	(void)!hf_guest_kill(f->k->guest);
	if (hf_guest_process(f->k->guest)->pid < 0)
		hf_freezer_feed(f, HF_FREEZE_EV_QEMU_DEAD, 0);
}

/* The device state as a stream, as for an epoch. */

static uint32_t stream_wanted(void *ctx)
{
	const struct hf_freezer *f = ctx;

	return f->checkpoint.stream_fd >= 0 ? EPOLLIN : 0;
}

static void stream_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_freezer *f = ctx;

	hf_checkpoint_dispatch(&f->checkpoint);
}

static void on_standstill(void *ctx)
{
	struct hf_freezer *f = ctx;

	hf_checkpoint_stay(&f->checkpoint);
}

static void on_running(void *ctx __attribute__((unused)))
{
}

static void on_stream_close(void *ctx)
{
	struct hf_freezer *f = ctx;

	hf_watch_remove(&f->stream_watch);
}

static void on_stream_end(void *ctx)
{
	struct hf_freezer *f = ctx;
	uint8_t *state = f->checkpoint.state;
	size_t len = f->checkpoint.state_len;

	f->checkpoint.state = NULL;
	f->checkpoint.state_len = f->checkpoint.state_cap = 0;
	hf_freezer_write_down(f, HF_FREEZE_STATE, false, state, len);
	hf_freezer_feed(f, HF_FREEZE_EV_DONE, HF_FREEZE_STATE);
}

static void save_state(struct hf_freezer *f);

static void on_state_timer(void *ctx)
{
	save_state(ctx);
}

/* QEMU refuses as long as it cleans up after an epoch that has only just ended. */
static void on_state_failed(void *ctx, const char *why)
{
	struct hf_freezer *f = ctx;
	uint64_t wait_ns = ++f->state_tries * STATE_TRY_NS;

	if (f->state_tries <= STATE_TRIES_MAX && !f->machine.is_qemu_dead) {
		hf_timer_set(&f->state_timer, &f->k->loop, hf_now_ns() + wait_ns, on_state_timer,
			     f);
		return;
	}
	hf_freezer_set_text(f, HF_FREEZE_STATE, why);
	hf_freezer_feed(f, HF_FREEZE_EV_FAILED, HF_FREEZE_STATE);
}

static const struct hf_checkpoint_ops checkpoint_ops = {
	.on_standstill = on_standstill,
	.on_running = on_running,
	.on_stream_end = on_stream_end,
	.on_failed = on_state_failed,
	.on_stream_close = on_stream_close,
};

static void save_state(struct hf_freezer *f)
{
	struct hf_err err = { "" };
	int r;

	f->is_state_due = !f->is_role_quiet;
	if (f->is_state_due)
		return;
	r = hf_checkpoint_begin(&f->checkpoint, false, &err);
	if (!r)
		r = hf_watch_add(&f->stream_watch, &f->k->loop, f->checkpoint.stream_fd,
				 HF_PRIORITY_VM, stream_wanted, stream_ready, f);
	if (!r)
		return;
	hf_checkpoint_abort(&f->checkpoint);
	on_state_failed(f, err.text[0] ? err.text : strerror(-r));
}

static void drop_state(struct hf_freezer *f)
{
	f->is_state_due = false;
	hf_timer_fini(&f->state_timer);
	hf_checkpoint_abort(&f->checkpoint);
	hf_watch_remove(&f->stream_watch);
}

/* ---- outside resources ---- */

static void cut_nets(struct hf_freezer *f)
{
	struct hf_keeper *k = f->k;

	hf_keeper_flush_nets(k);
	for (size_t i = 0; i < hf_guest_net_count(k->guest); i++) {
		hf_watch_remove(&k->nets[i].tap_watch);
		hf_watch_remove(&k->nets[i].qemu_watch);
	}
	hf_guest_cut_nets(k->guest);
	hf_freezer_feed(f, HF_FREEZE_EV_DONE, HF_FREEZE_NETS);
}

/* What an unprotected guest wrote is in the images by then: QEMU's `stop` has flushed it. The disk process
 * would wait for its client, which is about to be frozen, and is killed. What a standby goes on without is not
 * to reach the images at all. */
static void close_disks(struct hf_freezer *f)
{
	struct hf_disks *d = f->k->disks;
	bool is_pledged = f->k->ops->is_pledged(f->k->role);

	f->are_disks_due = false;
	if (!d) {
		hf_freezer_feed(f, HF_FREEZE_EV_DISKS_DEAD, 0);
		return;
	}
	if (!is_pledged)
		hf_disks_pass(d);
	f->are_disks_due = !is_pledged && !hf_disks_is_direct(d);
	if (!f->are_disks_due)
		hf_disks_cut(d);
}

static uint32_t cgroup_wanted(void *ctx __attribute__((unused)))
{
	return EPOLLPRI;
}

/* Was QEMU taken out of it? It runs then, while the empty cgroup stays frozen. */
static bool is_qemu_outside(const struct hf_freezer *f)
{
	return hf_cgroup_is_empty(&f->k->cgroup) == 1 &&
	       hf_process_id_is_alive(&f->certificate.qemu);
}

static void cgroup_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_freezer *f = ctx;
	int r = hf_cgroup_is_frozen(&f->k->cgroup);
	bool was = f->machine.step[HF_FREEZE_CGROUP].result == HF_FREEZE_DONE;

	if (r == 1 && !was)
		hf_freezer_feed(f, HF_FREEZE_EV_DONE, HF_FREEZE_CGROUP);
	else if (was && !f->machine.is_qemu_dead && (r == 0 || is_qemu_outside(f)))
		hf_freezer_feed(f, HF_FREEZE_EV_WOKEN, 0);
}

/* v1's freezer has no events: it has to be looked at. */
static void look_at_v1(void *ctx)
{
	struct hf_freezer *f = ctx;
	bool is_done = f->machine.step[HF_FREEZE_CGROUP].result > HF_FREEZE_BEGUN;

	cgroup_ready(f, 0);
	if (!f->machine.is_qemu_dead)
		hf_timer_set(&f->v1_timer, &f->k->loop,
			     hf_now_ns() + (is_done ? V1_GUARD_NS : V1_LOOK_NS), look_at_v1, f);
}

static void freeze_cgroup(struct hf_freezer *f)
{
	struct hf_cgroup *c = &f->k->cgroup;
	int r = hf_cgroup_freeze(c, true);

	if (!r && c->events_fd >= 0 && !f->cgroup_watch.source)
		r = hf_watch_add(&f->cgroup_watch, &f->k->loop, c->events_fd, HF_PRIORITY_VM,
				 cgroup_wanted, cgroup_ready, f);
	if (r < 0) {
		hf_freezer_set_text(f, HF_FREEZE_CGROUP, strerror(-r));
		hf_freezer_feed(f, HF_FREEZE_EV_FAILED, HF_FREEZE_CGROUP);
		return;
	}
	cgroup_ready(f, 0); /* mostly it is done already */
	if (c->is_v1)
		hf_timer_set(&f->v1_timer, &f->k->loop, hf_now_ns() + V1_LOOK_NS, look_at_v1, f);
}

static void on_lease_released(void *ctx)
{
	struct hf_freezer *f = ctx;
	bool is_done = hf_ownership_was_released(f->k->ownership);

	if (is_done)
		(void)snprintf(f->certificate.lease_fate, sizeof(f->certificate.lease_fate),
			       "released");
	else
		hf_freezer_set_text(f, HF_FREEZE_LEASE, "holdfastd has not released it yet");
	hf_freezer_feed(f, is_done ? HF_FREEZE_EV_DONE : HF_FREEZE_EV_FAILED, HF_FREEZE_LEASE);
}

static void let_lease_go(struct hf_freezer *f)
{
	if (f->k->ops->is_pledged(f->k->role)) {
		(void)snprintf(f->certificate.lease_fate, sizeof(f->certificate.lease_fate),
			       "pledged");
		hf_freezer_set_text(f, HF_FREEZE_LEASE, "the standby claims it");
		hf_freezer_feed(f, HF_FREEZE_EV_DONE, HF_FREEZE_LEASE);
		return;
	}
	(void)snprintf(f->certificate.lease_fate, sizeof(f->certificate.lease_fate), "held");
	hf_ownership_release(f->k->ownership, on_lease_released, f);
}

static void verify(struct hf_freezer *f)
{
	struct hf_freeze_event ev = { .kind = HF_FREEZE_EV_VERIFIED, .now_ns = hf_now_ns() };

	hf_freezer_update(f);
	ev.refuted = hf_frozen_verify(&f->certificate);
	if (ev.refuted)
		ev.kind = HF_FREEZE_EV_REFUTED;
	for (unsigned int i = 0; ev.refuted && i < f->certificate.n_checks; i++)
		if (!f->certificate.check[i].is_ok)
			hf_log(&f->k->journal, HF_LOG_ERROR, "freezing, check %s: %s",
			       f->certificate.check[i].what, f->certificate.check[i].text);
	assert(f->n_queued < sizeof(f->queue) / sizeof(f->queue[0]));
	f->queue[f->n_queued++] = ev; /* only called from within a step */
}

static void certify(struct hf_freezer *f)
{
	hf_freezer_update(f);
	f->certificate.frozen_time_ns = hf_now_real_ns();
	hf_freezer_write_down(f, HF_FREEZE_CERTIFY, false, NULL, 0);
}

/* ---- telling ---- */

static struct json_object *about(const struct hf_freezer *f)
{
	const struct hf_certificate *c = &f->certificate;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "id", json_object_new_string(c->id));
	json_object_object_add(o, "cause", json_object_new_string(hf_vm_cause_name(c->cause)));
	json_object_object_add(o, "severity",
			       json_object_new_string(hf_vm_severity_name(c->severity)));
	if (c->topology[0])
		json_object_object_add(o, "topology", json_object_new_string(c->topology));
	json_object_object_add(o, "lver", json_object_new_uint64(c->lver));
	json_object_object_add(o, "lease", json_object_new_string(c->lease_fate));
	json_object_object_add(o, "us", json_object_new_uint64((hf_now_ns() - f->began_ns) / 1000));
	return o;
}

static void tell(struct hf_freezer *f)
{
	struct hf_keeper *k = f->k;
	struct hf_err err = { "" };

	f->certificate.is_certified = true;
	hf_freezer_update(f);
	if (hf_rundir_rename(&k->rundir, f->certificate.id, &err) < 0)
		hf_log(&k->journal, HF_LOG_ERROR, "%s", err.text);
	hf_event(&k->journal, "frozen", about(f), "frozen as %s@%s: %s", k->name, f->certificate.id,
		 f->certificate.cause_text);
	hf_freezer_tell_waiters(f, NULL);
	f->is_told = true;
	hf_frozen_side_certified(k);
}

static void tell_stuck(struct hf_freezer *f)
{
	struct json_object *o = about(f);
	const char *on = hf_freeze_step_name(f->machine.stuck_on);

	json_object_object_add(o, "stuck_on", json_object_new_string(on));
	hf_event(&f->k->journal, "freeze-stuck", o,
		 "it is not proven yet, and so not told, that the VM never goes on: %s",
		 f->machine.stuck_on == HF_FREEZE_DISKS    ? "the disk process does not die"
		 : f->machine.stuck_on == HF_FREEZE_CGROUP ? "QEMU does not die"
		 : f->machine.stuck_on == HF_FREEZE_VERIFY ? "what was looked at does not prove it"
							   : "the certificate cannot be written");
}

static void amend(struct hf_freezer *f)
{
	if (f->is_released)
		return; /* its certificate is going, too */
	f->is_amend_due = f->k->offloader != NULL;
	if (f->is_amend_due)
		return; /* that one writes the certificate, too */
	f->certificate.awakenings = f->machine.awakenings;
	hf_freezer_update(f);
	hf_freezer_write_down(f, HF_FREEZE_CERTIFY, true, NULL, 0);
}

void hf_freezer_amended(struct hf_freezer *f)
{
	hf_event(&f->k->journal, "frozen-woken", about(f), "%s; its memory is kept",
		 f->machine.awakenings ? "somebody woke the frozen QEMU: it was killed"
				       : "the frozen QEMU has ended");
}

/* ---- steps ---- */

static void perform(struct hf_freezer *f, enum hf_freeze_action a)
{
	static void (*const doers[HF_FREEZE_ACTION_COUNT])(struct hf_freezer *) = {
		[HF_FREEZE_DO_STOP] = stop_guest,
		[HF_FREEZE_DO_NETS] = cut_nets,
		[HF_FREEZE_DO_STATE] = save_state,
		[HF_FREEZE_DO_DROP_STATE] = drop_state,
		[HF_FREEZE_DO_DISKS] = close_disks,
		[HF_FREEZE_DO_CGROUP] = freeze_cgroup,
		[HF_FREEZE_DO_KILL_QEMU] = kill_guest,
		[HF_FREEZE_DO_LEASE] = let_lease_go,
		[HF_FREEZE_DO_VERIFY] = verify,
		[HF_FREEZE_DO_CERTIFY] = certify,
		[HF_FREEZE_DO_TELL] = tell,
		[HF_FREEZE_DO_TELL_STUCK] = tell_stuck,
		[HF_FREEZE_DO_AMEND] = amend,
	};

	if (a == HF_FREEZE_DO_LATCH)
		hf_freezer_write_down(f, HF_FREEZE_LATCH, false, NULL, 0);
	else if (a == HF_FREEZE_DO_KILL_DISKS)
		hf_disks_cut(f->k->disks);
	else
		doers[a](f);
}

static void tell_step(struct hf_freezer *f, enum hf_freeze_step step)
{
	const struct hf_freeze_record *r = &f->machine.step[step];
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "step", json_object_new_string(hf_freeze_step_name(step)));
	json_object_object_add(o, "result",
			       json_object_new_string(hf_freeze_result_name(r->result)));
	json_object_object_add(o, "us", json_object_new_uint64((hf_now_ns() - f->began_ns) / 1000));
	if (f->certificate.step[step].text[0])
		json_object_object_add(o, "text",
				       json_object_new_string(f->certificate.step[step].text));
	hf_event(&f->k->journal, "freeze-step", json_object_get(o), "freezing: %s: %s",
		 hf_freeze_step_name(step), hf_freeze_result_name(r->result));
	hf_freezer_tell_waiters(f, o);
}

static void on_timer(void *ctx)
{
	hf_freezer_feed(ctx, HF_FREEZE_EV_TIME, 0);
}

static void step(struct hf_freezer *f, const struct hf_freeze_event *ev)
{
	enum hf_freeze_result before[HF_FREEZE_STEP_COUNT];
	struct hf_freeze_actions actions;

	for (int i = 0; i < HF_FREEZE_STEP_COUNT; i++)
		before[i] = f->machine.step[i].result;
	hf_freeze_step(&f->machine, ev, &actions);
	for (int i = 0; i < HF_FREEZE_STEP_COUNT; i++)
		if (f->machine.step[i].result != before[i] &&
		    f->machine.step[i].result != HF_FREEZE_BEGUN)
			tell_step(f, (enum hf_freeze_step)i);
	for (unsigned int i = 0; i < actions.n; i++)
		perform(f, actions.a[i]);
	hf_timer_set(&f->timer, &f->k->loop, hf_freeze_deadline_ns(&f->machine), on_timer, f);
}

static void feed_event(struct hf_freezer *f, const struct hf_freeze_event *ev)
{
	assert(f->n_queued < sizeof(f->queue) / sizeof(f->queue[0]));
	f->queue[f->n_queued++] = *ev;
	if (f->is_stepping)
		return;
	f->is_stepping = true;
	while (f->n_queued) {
		struct hf_freeze_event next = f->queue[0];

		memmove(f->queue, f->queue + 1, --f->n_queued * sizeof(f->queue[0]));
		step(f, &next);
	}
	f->is_stepping = false;
}

void hf_freezer_feed(struct hf_freezer *f, enum hf_freeze_event_kind kind, enum hf_freeze_step step)
{
	struct hf_freeze_event ev = { .kind = kind, .step = step, .now_ns = hf_now_ns() };

	feed_event(f, &ev);
}

/* ---- from outside ---- */

static void look_at(const struct hf_freezer *f, const struct hf_freezer_why *why,
		    struct hf_freeze_given *ret)
{
	const struct hf_keeper *k = f->k;
	const struct hf_process *p = hf_guest_process(k->guest);
	char own[HF_CERTIFICATE_TEXT] = "";

	*ret = (struct hf_freeze_given){
		.is_qemu_alive = p->pid >= 0,
		.is_qmp_silent = why->cause == HF_VM_CAUSE_HANG,
		/* A checkpoint's `cont` may still be on its way. */
		.is_guest_stopped = !k->is_guest_running && why->cause != HF_VM_CAUSE_HANG &&
				    !k->ops->is_own_standstill(k->role),
		.has_nets = hf_guest_net_count(k->guest) > 0,
		.has_disks = k->disks != NULL,
		.has_cgroup = k->cgroup.dir_fd >= 0,
		.has_lease = k->ownership != NULL,
		.is_pledged = k->ops->is_pledged(k->role),
		.is_kill_wanted = why->is_kill_wanted ||
				  k->set->frozen_memory == HF_FROZEN_MEMORY_DISCARD,
	};
	if (p->pid >= 0)
		ret->has_own_files = hf_process_has_own_files(p->pid, hf_guest_ram(k->guest)->fd,
							      own, sizeof(own)) != 0;
	if (ret->has_own_files)
		hf_log(&f->k->journal, HF_LOG_INFO,
		       "QEMU has %s open for writing itself: it has to die for the VM to be frozen",
		       own[0] ? own : "something");
}

/* So that RAM outlives this process. Not being able to is no reason to let the guest run. */
static void hold_memory(struct hf_freezer *f)
{
	struct hf_certificate *c = &f->certificate;
	struct hf_err err = { "" };
	pid_t pid;

	if (f->k->set->frozen_memory == HF_FROZEN_MEMORY_DISCARD)
		return;
	if (hf_memholder_start(hf_guest_ram(f->k->guest)->fd, f->k->name, &pid, &err) < 0) {
		hf_log(&f->k->journal, HF_LOG_ERROR,
		       "guest memory will not outlive this process: %s", err.text);
		c->ram_holder = c->keeper;
		c->ram_fd = hf_guest_ram(f->k->guest)->fd;
	} else {
		c->ram_holder = hf_process_id_of(pid);
		c->ram_fd = HF_MEMHOLDER_FD;
	}
	c->ram = HF_REMAINS_PROCESS;
}

/* What would resume a state from before the freeze, or waits for a QEMU that is to be silent, is called off. */
static bool is_all_quiet(struct hf_freezer *f)
{
	struct hf_keeper *k = f->k;
	bool is_role_quiet = k->ops->freeze(k->role);

	hf_dumper_call_off(k, "the VM is being frozen");
	return hf_saver_call_off(k, "the VM is being frozen") && is_role_quiet;
}

int hf_freezer_begin(struct hf_keeper *k, const struct hf_freezer_why *why, struct hf_err *err)
{
	struct hf_freeze_given given;
	struct hf_freeze_event ev = { .kind = HF_FREEZE_EV_BEGIN, .given = &given };
	struct hf_freezer *f;

	if (k->freezer)
		return 0;
	if (!k->ops || !k->ops->freeze) {
		hf_err_set(err, "this is a standby: the VM runs on the other host");
		return -EOPNOTSUPP;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->k = k;
	f->began_ns = hf_now_ns();
	hf_freeze_init(&f->machine);
	hf_checkpoint_init(&f->checkpoint, hf_guest_qmp(k->guest), &checkpoint_ops, f);
	hf_freezer_describe(f, why);
	look_at(f, why, &given);
	k->freezer = f;
	hf_event(&k->journal, "freezing", about(f), "being frozen: %s", f->certificate.cause_text);
	if (given.is_qemu_alive && !given.is_guest_stopped && !given.is_qmp_silent)
		hf_keeper_qmp(k,
			      "stop"); /* the damage must not spread while the rest is made ready */
	f->is_role_quiet = is_all_quiet(f) || given.is_qmp_silent || !given.is_qemu_alive;
	hold_memory(f);
	ev.now_ns = hf_now_ns();
	feed_event(f, &ev);
	return 0;
}

bool hf_freezer_is_on(const struct hf_freezer *f)
{
	return f != NULL;
}

bool hf_freezer_is_certified(const struct hf_freezer *f)
{
	return f && f->is_told;
}

void hf_freezer_qmp_event(struct hf_freezer *f, const char *name, struct json_object *data)
{
	if (!f)
		return;
	hf_checkpoint_event(&f->checkpoint, name, data);
	if (strcmp(name, "RESUME") == 0 &&
	    f->machine.step[HF_FREEZE_STOP].result != HF_FREEZE_BEGUN)
		hf_freezer_feed(f, HF_FREEZE_EV_WOKEN, 0);
}

void hf_freezer_qemu_gone(struct hf_freezer *f)
{
	if (!f)
		return;
	hf_timer_fini(&f->state_timer);
	hf_checkpoint_abort(&f->checkpoint);
	hf_watch_remove(&f->stream_watch);
	f->is_role_quiet = true;
	hf_freezer_feed(f, HF_FREEZE_EV_QEMU_DEAD, 0);
}

void hf_freezer_role_is_quiet(struct hf_freezer *f)
{
	if (!f || f->is_role_quiet)
		return;
	f->is_role_quiet = true;
	if (f->is_state_due)
		save_state(f);
}

void hf_freezer_disks_moved(struct hf_freezer *f)
{
	if (!f || !f->are_disks_due || !hf_disks_is_direct(f->k->disks))
		return;
	f->are_disks_due = false;
	hf_disks_cut(f->k->disks);
}

void hf_freezer_offload_ended(struct hf_freezer *f)
{
	if (f->is_released)
		hf_frozen_side_writer_is_idle(f->k);
	else if (f->is_amend_due)
		amend(f);
}

bool hf_freezer_keeps(struct hf_freezer *f)
{
	if (!f || f->is_released)
		return false;
	f->is_kept = true;
	if (f->is_told)
		hf_frozen_side_enter(f->k);
	return true;
}

struct json_object *hf_freezer_status(const struct hf_freezer *f)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "id", json_object_new_string(f->certificate.id));
	json_object_object_add(o, "state",
			       json_object_new_string(hf_freeze_state_name(f->machine.state)));
	json_object_object_add(o, "certificate", hf_certificate_encode(&f->certificate));
	return o;
}

void hf_freezer_free(struct hf_freezer *f)
{
	if (!f)
		return;
	hf_timer_fini(&f->timer);
	hf_timer_fini(&f->state_timer);
	hf_timer_fini(&f->v1_timer);
	hf_freezer_drop_papers(f);
	hf_worker_abandon(f->sync_worker);
	hf_watch_remove(&f->stream_watch);
	hf_watch_remove(&f->cgroup_watch);
	hf_checkpoint_fini(&f->checkpoint);
	free(f);
}

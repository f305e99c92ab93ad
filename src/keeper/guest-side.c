/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See guest-side.h. */
#include "keeper/guest-side.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/text.h"
#include "codec/json.h"
#include "keeper/dumper.h"
#include "keeper/saver.h"

/* ---- what QEMU says ---- */

static void on_qmp_event(void *ctx, const char *name, struct json_object *data,
			 uint64_t timestamp_us)
{
	struct hf_keeper *k = ctx;
	const char *reason;

	if (strcmp(name, "RESUME") == 0)
		k->is_guest_running = true;
	else if (strcmp(name, "STOP") == 0)
		k->is_guest_running = false;
	else if (strcmp(name, "RESET") == 0) /* shut down, kept by -no-shutdown, begun anew */
		k->guest_end = HF_GUEST_END_UNKNOWN;
	else if (strcmp(name, "SHUTDOWN") == 0 && hf_json_str(data, "reason", &reason, NULL) == 0)
		k->guest_end = strcmp(reason, "guest-panic") == 0  ? HF_GUEST_END_PANIC
			       : strcmp(reason, "host-error") == 0 ? HF_GUEST_END_UNKNOWN
			       : strncmp(reason, "guest-", 6) == 0 ? HF_GUEST_END_SHUTDOWN
								   : HF_GUEST_END_OPERATOR;
	hf_freezer_qmp_event(k->freezer, name, data);
	hf_saver_qmp_event(k, name, data);
	hf_dumper_qmp_event(k, name, data);
	if (k->ops)
		k->ops->on_qmp_event(k->role, name, data, timestamp_us);
	hf_life_qmp_event(k, name, data);
}

static void on_first_held(void *ctx)
{
	struct hf_keeper *k = ctx;

	if (k->ops)
		k->ops->on_first_held(k->role);
}

static void on_over_limit(void *ctx)
{
	struct hf_keeper *k = ctx;

	if (k->ops)
		k->ops->on_over_limit(k->role);
}

/* Asked before each frame: a keeper that was stopped looks at the clock before it goes on. */
static bool may_send(void *ctx)
{
	const struct hf_keeper *k = ctx;

	return !k->ownership || k->is_guarded_by_standby || k->is_forced_live ||
	       hf_ownership_is_valid(k->ownership);
}

static uint32_t qmp_wanted(void *ctx)
{
	struct hf_keeper *k = ctx;

	return hf_qmp_events(hf_guest_qmp(k->guest));
}

static void qmp_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_keeper *k = ctx;
	struct hf_err err;
	int r = hf_qmp_dispatch(hf_guest_qmp(k->guest), &err);

	if (!r)
		return;
	hf_watch_remove(&k->qmp_watch);
	if (r == -EPIPE)
		return; /* it ends; its pidfd says how */
	hf_log(&k->journal, HF_LOG_ERROR, "QMP: %s; QEMU cannot be kept without it and is killed",
	       err.text);
	(void)!hf_guest_kill(k->guest);
}

static uint32_t readable(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void process_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_keeper *k = ctx;
	struct hf_process_exit how;
	struct hf_err err;

	if (hf_process_reap(hf_guest_process(k->guest), &how) != 0)
		return;
	hf_watch_remove(&k->process_watch);
	/* Its last words may say why. */
	if (k->qmp_watch.source) {
		(void)!hf_qmp_dispatch(hf_guest_qmp(k->guest), &err);
		hf_watch_remove(&k->qmp_watch);
	}
	k->is_guest_running = false;
	hf_saver_guest_gone(k);
	hf_dumper_guest_gone(k);
	if (k->freezer) { /* the role hears of it when it is certified */
		hf_freezer_qemu_gone(k->freezer);
		return;
	}
	(void)hf_life_ended(k, &how);
	k->ops->on_guest_gone(k->role, &how);
}

/* ---- its networks ---- */

static uint32_t tap_wanted(void *ctx)
{
	const struct hf_keeper_net *n = ctx;

	return hf_nettap_tap_events(n->tap);
}

static uint32_t qemu_net_wanted(void *ctx)
{
	const struct hf_keeper_net *n = ctx;

	return hf_nettap_qemu_events(n->tap);
}

/* An error ends that side of the tap; the guest sees a dead cable. */
static void tap_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_keeper_net *n = ctx;
	struct hf_err err = { "" };

	if (hf_nettap_dispatch_tap(n->tap, &err) == 0)
		return;
	hf_watch_remove(&n->tap_watch);
	hf_event(&n->k->journal, "net-error", NULL, "netdev %s, TAP device: %s",
		 hf_guest_net_id(n->k->guest, n->i), err.text);
}

static void qemu_net_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_keeper_net *n = ctx;
	struct hf_err err = { "" };
	int r = hf_nettap_dispatch_qemu(n->tap, &err);

	if (!r)
		return;
	hf_watch_remove(&n->qemu_watch);
	if (r < 0)
		hf_event(&n->k->journal, "net-error", NULL, "netdev %s, QEMU's side: %s",
			 hf_guest_net_id(n->k->guest, n->i), err.text);
}

static int watch_net(struct hf_keeper_net *n)
{
	int r = hf_watch_add(&n->tap_watch, &n->k->loop, hf_nettap_tap_fd(n->tap), HF_PRIORITY_NET,
			     tap_wanted, tap_ready, n);

	if (!r)
		r = hf_watch_add(&n->qemu_watch, &n->k->loop, hf_nettap_qemu_fd(n->tap),
				 HF_PRIORITY_NET, qemu_net_wanted, qemu_net_ready, n);
	return r;
}

static int watch_guest(struct hf_keeper *k)
{
	int r = hf_watch_add(&k->qmp_watch, &k->loop, hf_qmp_fd(hf_guest_qmp(k->guest)),
			     HF_PRIORITY_VM, qmp_wanted, qmp_ready, k);

	if (!r)
		r = hf_watch_add(&k->process_watch, &k->loop, hf_guest_process(k->guest)->pidfd,
				 HF_PRIORITY_VM, readable, process_ready, k);
	for (size_t i = 0; !r && i < hf_guest_net_count(k->guest); i++) {
		k->nets[i] =
			(struct hf_keeper_net){ .k = k, .tap = hf_guest_net(k->guest, i), .i = i };
		r = watch_net(&k->nets[i]);
	}
	return r;
}

/* ---- its start ---- */

/* The library lies beside this program in a build folder's layout, and in the library folder installed. */
static const char *find_preload(const struct hf_keeper *k, char *buf, size_t size)
{
	ssize_t n;

	if (k->set->preload)
		return k->set->preload;
	n = readlink("/proc/self/exe", buf, size - 64);
	if (n > 0) {
		buf[n] = '\0';
		(void)snprintf(strrchr(buf, '/'), 64, "/../preload/libholdfast-qemu.so");
		if (access(buf, R_OK) == 0)
			return buf;
	}
	(void)snprintf(buf, size, "%s/libholdfast-qemu.so", HF_LIBDIR);
	return access(buf, R_OK) == 0 ? buf : NULL;
}

/* Without one a freeze has to kill QEMU: the guest's memory is kept all the same. */
static void open_cgroup(struct hf_keeper *k)
{
	struct hf_err err = { "" };
	char name[16 + HF_NAME_MAX + HF_ID_TEXT];
	char id[HF_ID_TEXT];

	(void)snprintf(name, sizeof(name), "holdfast-%s-", k->name);
	hf_cgroup_sweep(name);
	(void)snprintf(name, sizeof(name), "holdfast-%s-%.8s", k->name,
		       hf_id_format(k->instance, id));
	if (hf_cgroup_open(name, &k->cgroup, &err) == 0)
		return;
	k->cgroup = HF_CGROUP_NONE;
	hf_log(&k->journal, HF_LOG_INFO, "QEMU has no cgroup of its own: %s", err.text);
}

int hf_guest_side_start(struct hf_keeper *k, struct hf_err *err)
{
	char preload[4096];
	struct hf_guest_config config = {
		.cmdline = k->cmdline,
		.preload_path = find_preload(k, preload, sizeof(preload)),
		.name = k->name,
		.is_standby = k->set->role == HF_ROLE_STANDBY || k->saved,
		.disk_socket = k->disks ? k->disks->socket_path : NULL,
		.on_event = on_qmp_event,
		.on_first_held = on_first_held,
		.on_over_limit = on_over_limit,
		.may_send = may_send,
		.ctx = k,
	};
	int r;

	if (config.preload_path && access(config.preload_path, R_OK) < 0) {
		r = -errno;
		hf_err_set(err, "--preload %s: %s", config.preload_path, strerror(-r));
		return r;
	}
	if (!config.preload_path)
		hf_keeper_note(k, "libholdfast-qemu.so was not found: written pages are found by "
				  "soft-dirty bits, if "
				  "the kernel has them");
	open_cgroup(k);
	if (k->cgroup.dir_fd >= 0)
		config.cgroup = &k->cgroup;
	r = hf_guest_start(&config, &k->guest, err);
	if (!r)
		(void)!hf_rundir_note(&k->rundir, HF_RUNDIR_QEMU, hf_guest_process(k->guest)->pid);
	if (!r)
		r = hf_life_prepare(k, err);
	if (!r)
		r = watch_guest(k);
	return r;
}

void hf_guest_side_unwatch(struct hf_keeper *k)
{
	hf_watch_remove(&k->qmp_watch);
	hf_watch_remove(&k->process_watch);
	for (size_t i = 0; i < HF_WIRE_NETDEVS_MAX; i++) {
		hf_watch_remove(&k->nets[i].tap_watch);
		hf_watch_remove(&k->nets[i].qemu_watch);
	}
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The host's VMs: what is defined, what is wanted, what is here. Layer: daemon. Main thread only.
 *
 * One core/supervise.h machine for each VM says what is to be started; this carries it out. Keepers
 * are no part of the daemon: they are started so that they outlive it, and found again by their run
 * folders. All that is known of one comes over its control socket, and nothing here waits for it.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdio.h>

#include "core/recover.h"
#include "core/supervise.h"
#include "daemon/daemon.h"
#include "daemon/vmfile.h"
#include "daemon/wantedfile.h"
#include "service/varlink-server.h"
#include "vm/assignment.h"

#define HF_VMS_MAX 1024
#define HF_VMS_FROZEN_MAX 64

struct hf_vmlink;
struct hf_vms_order;
struct hf_vms_finish;
struct hf_vms_saving;

struct hf_vms_vm {
	struct hf_vms_vm *next;
	struct hf_daemon *d;
	char name[HF_NAME_MAX + 1];
	bool has_file; /* `file` is in force */
	struct hf_vmfile file;
	char file_error[HF_ERR_MAX]; /* what is wrong with the file as it is now, "": nothing */
	struct hf_supervise sup;
	struct hf_wanted wanted; /* not of one that is managed */
	struct hf_assignment assignment; /* of one that is managed: as read last */
	bool has_assignment;
	char assignment_trouble[HF_ERR_MAX]; /* why it could not be read, as was logged */
	bool was_stopped_by_order; /* stays so over a boot */
	bool is_stop_forced;
	struct hf_vmlink *keeper; /* of the VM itself; NULL: none is known of */
	struct hf_vmlink *guards; /* of frozen instances */
	/* What its keeper has said last. Kept after its end. */
	char life[24]; /* names of core/vm.h; "" as long as it has said none */
	char cause[24];
	char cause_text[256];
	char severity[16];
	char topology[128];
	char pause[16];
	char role[16]; /* "primary", "standby" */
	char state[24]; /* of that role */
	char protection[256];
	char peer[256];
	char last_state[24]; /* of the life of the keeper that ended: "saved", "shut-off"... */
	pid_t qemu_pid; /* 0 */
	bool is_protected;
	bool has_epoch; /* as a standby */
	bool is_connected; /* to the other host's keeper */
	char trouble[HF_ERR_MAX]; /* why it could not be started */
	char frozen[HF_VMS_FROZEN_MAX][16 + 1]; /* ids */
	unsigned int n_frozen;
	int run_wd, frozen_wd; /* inotify; -1 */
	char place_text[128]; /* why its place is what it is, as told by whoever decides */
	struct hf_timer timer;
	struct hf_vms_finish *finish; /* of a freeze, under way */
	struct hf_vms_order *orders; /* who waits for it to start or to stop */
};

/* For who settles with other hosts. Any may be NULL. None may call back hf_vms_reload(). */
struct hf_vms_hooks {
	void (*reloaded)(struct hf_daemon *d); /* definitions have changed */
	void (*changed)(struct hf_vms_vm *vm); /* life, role, wanted, frozen... */
	/* Start(vm, host) for another host: takes @rq over. False: no such host is in touch. */
	bool (*start_elsewhere)(struct hf_vms_vm *vm, const char *host, bool is_fresh,
				struct hf_varlink_request *rq);
	/* It is frozen, or has died for good, here: another host is to be asked. True: one will be, and
	 * hf_vms_recover() is called if none does it. */
	bool (*given)(struct hf_vms_vm *vm, enum hf_vm_cause cause);
	/* Adds what other hosts said: members "host", "peer_*". */
	void (*view)(const struct hf_vms_vm *vm, struct json_object *o);
};

struct hf_vms {
	struct hf_vms_vm *first;
	unsigned int n;
	struct hf_vms_hooks hooks;
	char boot_id[HF_BOOT_ID + 1];
	bool is_boot; /* nothing has been started since the kernel has */
	bool is_begun;
	/* vms-wanted.c */
	struct hf_timer save_timer;
	struct hf_vms_saving *saving; /* under way */
	bool is_save_due;
	char save_trouble[HF_ERR_MAX]; /* as was logged */
	/* vms-files.c */
	int inotify_fd;
	int run_wd, file_wd, assigned_wd;
	struct hf_watch watch;
	struct hf_timer reload_timer;
};

/* ---- for the daemon ---- */

int hf_vms_new(struct hf_daemon *d, struct hf_err *err) HF_MUST_CHECK;
/* Finds what runs, reads the definitions, starts what is to be started at a boot. */
void hf_vms_begin(struct hf_daemon *d);
/* Lets go of everything; nothing ends by this. */
void hf_vms_free(struct hf_daemon *d);
/* All definitions anew. */
void hf_vms_reload(struct hf_daemon *d);

/* ---- for all ---- */

struct hf_vms_vm *hf_vms_find(const struct hf_daemon *d, const char *name);
/* All, in no order: @after NULL: the first. NULL: that was the last. */
struct hf_vms_vm *hf_vms_next(const struct hf_daemon *d, const struct hf_vms_vm *after);
void hf_vms_set_hooks(struct hf_daemon *d, const struct hf_vms_hooks *hooks);

/* As if by an operator's order here. 0; -EALREADY; -EPERM: frozen here, managed, or not defined; @err. */
int hf_vms_start(struct hf_vms_vm *vm, bool is_fresh, struct hf_err *err);
void hf_vms_stop(struct hf_vms_vm *vm, bool is_forced);
/* It has failed on another host, whose lease is free. 0; -EALREADY; -EPERM. */
int hf_vms_recover(struct hf_vms_vm *vm, const char *why, struct hf_err *err);
/* What another host says is wanted. True: it was newer. */
bool hf_vms_take_wanted(struct hf_vms_vm *vm, const struct hf_wanted *theirs);
/* Where a VM of two hosts is to be; until the first call its daemons decide each for itself. */
void hf_vms_set_place(struct hf_vms_vm *vm, enum hf_place place, const char *why);

/* What of it is here, for hf_place(): HF_HAVE_*. */
enum hf_place_have hf_vms_have(const struct hf_vms_vm *vm);
/* "shut-off", "running", ...: the keeper's word, or what follows from there being none. */
const char *hf_vms_life_name(const struct hf_vms_vm *vm);
pid_t hf_vms_keeper_pid(const struct hf_vms_vm *vm);

/* ---- the parts of it ---- */

/* vms.c */
struct hf_vms_vm *hf_vms_get(struct hf_daemon *d,
			     const char *name); /* made if need be; NULL: too many */
/* One event of the machine, and what follows from it. DO_REFUSE: nothing does. */
enum hf_supervise_action hf_vms_feed(struct hf_vms_vm *vm, struct hf_supervise_event ev);
/* What reading its file has given: @r of hf_vmfile_read(). */
void hf_vms_take_definition(struct hf_vms_vm *vm, int r, const struct hf_vmfile *file,
			    const struct hf_err *err);
void hf_vms_changed(struct hf_vms_vm *vm);

/* vms-wanted.c */
void hf_vms_load_wanted(struct hf_daemon *d);
void hf_vms_save_later(struct hf_daemon *d);
void hf_vms_save_at_end(struct hf_daemon *d); /* waits for the disk, but not for ever */

/* vms-keeper.c */
int hf_vms_spawn(struct hf_vms_vm *vm, bool is_standby, struct hf_err *err) HF_MUST_CHECK;
/* A keeper that was started by somebody else; @id: of the frozen instance that it guards, or "". */
void hf_vms_found(struct hf_vms_vm *vm, const char *id, pid_t pid);

/* vms-managed.c: of VMs with a cluster manager */
bool hf_vms_is_managed(const struct hf_vms_vm *vm);
/* What is assigned, as the file says now; the machine hears of a change. */
void hf_vms_read_assignment(struct hf_vms_vm *vm);
void hf_vms_read_assignments(struct hf_daemon *d);
/* An order's parameter "manager": is it given, and may the order be? 0; -EINVAL: it is wrong; -EPERM: the order
 * is the manager's, or not the manager's, to give. */
int hf_vms_take_manager(struct hf_vms_vm *vm, const struct json_object *p, bool is_stop,
			bool *ret_is_manager, struct hf_err *err) HF_MUST_CHECK;
/* Its Start: what is assigned is begun. 0; -EPERM with @err. */
int hf_vms_start_assigned(struct hf_vms_vm *vm, bool is_fresh, struct hf_err *err) HF_MUST_CHECK;
void hf_vms_explain_managed(const struct hf_vms_vm *vm, struct hf_err *err);
const char *hf_vms_manager(
	const struct hf_vms_vm *vm); /* its name; "pacemaker" before it has said */

/* vms-files.c */
int hf_vms_watch_open(struct hf_daemon *d, struct hf_err *err) HF_MUST_CHECK;
void hf_vms_watch_close(struct hf_daemon *d);
void hf_vms_watch_vm(struct hf_vms_vm *vm); /* its folders, as far as they are there */
/* --check-config: what is wrong with the definitions, a line each. Returns how many are. */
unsigned int hf_vms_check_files(const struct hf_hostconf *conf, FILE *to);
void hf_vms_look_for_keepers(struct hf_daemon *d);
void hf_vms_look_for_keeper(struct hf_vms_vm *vm); /* of the VM itself */
void hf_vms_look_for_frozen(struct hf_vms_vm *vm);

/* vms-frozen.c: freezes whose keeper is dead */
void hf_vms_finish_frozen(struct hf_vms_vm *vm);
void hf_vms_finish_abandon(struct hf_vms_vm *vm);

/* vms-orders.c: methods of org.holdfast.Host, and who waits for one of them */
void hf_vms_do_vms(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p);
void hf_vms_do_vm(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p);
void hf_vms_do_start(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p);
void hf_vms_do_stop(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p);
void hf_vms_do_clear(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p);
void hf_vms_do_reload(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p);
void hf_vms_orders_look(struct hf_vms_vm *vm); /* something has changed: who waits is told */
void hf_vms_orders_refused(struct hf_vms_vm *vm, const char *reason); /* to stop */
void hf_vms_orders_free(struct hf_vms_vm *vm);

/* vms-view.c */
struct json_object *hf_vms_view(const struct hf_vms_vm *vm);

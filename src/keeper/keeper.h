/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What both roles of a keeper share: one VM's QEMU, one address, one voice. Layer: keeper. Main
 * thread only.
 *
 * A keeper begins as the primary or as the standby. A standby that was promoted becomes the primary
 * in place: its QEMU, taps, port, control socket and subscribers stay.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/commit.h"
#include "core/fenced.h"
#include "keeper/control.h"
#include "keeper/disks.h"
#include "keeper/freezer.h"
#include "keeper/life.h"
#include "keeper/meeting.h"
#include "keeper/ownership.h"
#include "service/journal.h"
#include "service/loop.h"
#include "settings/settings.h"
#include "sys/cgroup.h"
#include "sys/rundir.h"
#include "vm/guest.h"

/* docs/man/holdfast-keeper.8 promises these. */
enum hf_keeper_exit {
	HF_KEEPER_EXIT_ENDED = 0, /* the VM ended in order, or was handed over */
	HF_KEEPER_EXIT_FAILED = 1, /* could not start, or cannot go on */
	HF_KEEPER_EXIT_USAGE = 2,
	HF_KEEPER_EXIT_VM_DIED = 4, /* QEMU died; the log says whether the standby took over */
	HF_KEEPER_EXIT_SUPERSEDED = 5, /* the other side runs it, or holds its state */
	HF_KEEPER_EXIT_LEASE_LOST = 6, /* another host owns the VM's lease; this side was stopped */
	HF_KEEPER_EXIT_RESTART = 7, /* QEMU is gone, and the VM is to be started again here */
	HF_KEEPER_EXIT_UNKNOWN_PEER = 8, /* not started: nobody knows whether it runs there */
};

/* Why the guest's QEMU is no more; UNKNOWN as long as it is. */
enum hf_guest_end {
	HF_GUEST_END_UNKNOWN,
	HF_GUEST_END_SHUTDOWN, /* by the guest */
	HF_GUEST_END_OPERATOR, /* `holdfast stop`, a signal to QEMU, its monitor */
	HF_GUEST_END_PANIC,
};

#define HF_PEER_FENCED_TEXT 512

struct hf_role_ops {
	void (*on_qmp_event)(void *role, const char *name, struct json_object *data,
			     uint64_t timestamp_us);
	void (*on_guest_gone)(void *role, const struct hf_process_exit *how);
	void (*on_first_held)(void *role);
	void (*on_over_limit)(void *role);
	void (*on_signal)(void *role, int signal);
	void (*add_status)(void *role, struct json_object *status);
	int (*promote)(void *role, bool is_forced, struct hf_err *err);
	int (*stop)(void *role, bool is_forced, struct hf_err *err);
	int (*resume)(void *role, struct hf_err *err);
	int (*pause)(void *role, struct hf_err *err);

	/* Of a role that runs the guest; NULL for the others. */
	/* Nothing is begun with the guest any more. Return: nothing is under way either; else
	 * hf_freezer_role_is_quiet() follows. */
	bool (*freeze)(void *role);
	/* The guest is proven never to run again here. */
	void (*frozen)(void *role);
	/* The other host can go on from an epoch. */
	bool (*has_standby)(void *role);
	/* It is through, and stays in memory: nothing of it is to happen any more. */
	void (*rest)(void *role);
	/* Somebody there may claim the VM's lease. */
	bool (*is_pledged)(void *role);
	/* The guest stands still for a checkpoint or the first copy's scan. */
	bool (*is_own_standstill)(void *role);
	bool (*is_standing_for_lease)(void *role);
	/* Only who has something to hand over: answers @rq, now or later. */
	void (*hand_over)(void *role, struct hf_varlink_request *rq);
	/* What is known of the other host's keeper. False: nothing here depends on its life. */
	bool (*see_peer)(void *role, struct hf_fenced_sight *ret);
	/* It is proven dead; see_peer() was true. */
	void (*peer_dead)(void *role, const char *why);
	/* As freeze(), but it can be taken back. Return: nothing is under way; ask again if not. */
	bool (*hold)(void *role, bool is_held);
};

/* A network tap in the loop. */
struct hf_keeper_net {
	struct hf_keeper *k;
	struct hf_nettap *tap;
	size_t i;
	struct hf_watch tap_watch;
	struct hf_watch qemu_watch;
};

struct hf_keeper {
	const struct hf_settings *set;
	const char *name;
	struct hf_loop loop;
	struct hf_journal journal;
	struct hf_rundir rundir;
	struct hf_control *control;
	struct hf_ownership *ownership; /* NULL: the VM has no lease */
	/* The deadline of the lease does not count: a standby in touch is a better witness. */
	bool is_guarded_by_standby;
	bool is_forced_live; /* nor does it after an operator's `promote --force` */
	struct hf_disks *disks; /* NULL: no disk takes part in the epochs */
	struct hf_meetings *meetings; /* NULL: runs without a peer */
	struct hf_cmdline *cmdline;
	struct hf_guest *guest;
	struct hf_watch qmp_watch;
	struct hf_watch process_watch;
	struct hf_keeper_net nets[HF_WIRE_NETDEVS_MAX]; /* as many as the guest has */
	bool is_guest_running; /* vCPUs, as QEMU's events say */
	struct hf_life life;
	struct hf_cgroup cgroup; /* QEMU's; HF_CGROUP_NONE: there are none here */
	struct hf_freezer *freezer; /* NULL: nothing is frozen */
	struct hf_saver *saver; /* NULL: nothing is saved */
	struct hf_saved *saved; /* what the guest is resumed from; NULL: it boots */
	struct hf_dumper *dumper; /* NULL: no dump is written */
	struct hf_timer frozen_timer;
	struct hf_offloader *offloader; /* NULL: none is under way */
	enum hf_guest_end guest_end;
	bool was_handed_over;
	struct hf_id instance;
	enum hf_keeper_exit refusal; /* why it was not started; 0: for another reason */

	/* What the other host's copy of the disks is, as a standby there has said before this guest was
	 * started; FRESH: nobody has. */
	uint8_t peer_disk_condition; /* enum hf_wire_disk_condition */
	struct hf_id peer_disk_session;

	/* After a failover: what was promoted here, to tell a late old primary. */
	struct hf_id promoted_session;
	uint64_t promoted_epoch;

	/* peer-fenced.c: the other host was fenced, and was not silent for long enough then; 0: no. */
	uint64_t peer_fenced_ns;
	char peer_fenced_text[HF_PEER_FENCED_TEXT];

	const struct hf_role_ops *ops;
	void *role;
	struct json_object
		*notes; /* what a person should know: let-through problems and the like */
};

/* The role-independent part of our HELLO; strings belong to the keeper. */
void hf_keeper_describe(const struct hf_keeper *k, struct hf_wire_hello *ret);

/* Random, never none. */
struct hf_id hf_keeper_new_id(void);

/* "1f2e3d4c5b6a7988..." */
#define HF_ID_TEXT 33
const char *hf_id_format(struct hf_id id, char *buf);

/* {"n", "p50_ns", "p99_ns", "max_ns"} */
struct hf_histogram;
struct json_object *hf_status_quantiles(const struct hf_histogram *h);

/* Frames held now, over all taps. */
void hf_keeper_held(const struct hf_keeper *k, uint64_t *ret_frames, uint64_t *ret_bytes);

/* What may leave is to leave before something is said or done that relies on it. Logs failures. */
void hf_keeper_flush_nets(struct hf_keeper *k);

/* Has all that may leave left? What has not is lost if this host dies now. */
bool hf_keeper_has_flushed_nets(const struct hf_keeper *k);

/* To every tap. A tap that cannot obey has lost its device: logged, and the guest goes on. */
void hf_keeper_set_net_mode(struct hf_keeper *k, enum hf_nettap_mode mode);

/* Takes taps' sides that are closed out of the loop; to be called after hf_nettap_drain(). */
void hf_keeper_prune_nets(struct hf_keeper *k);

/* Ask QEMU for something whose failure only needs to be logged. */
void hf_keeper_qmp(struct hf_keeper *k, const char *command);

/* End the program with this code once the loop is through with what it is doing. */
void hf_keeper_finish(struct hf_keeper *k, enum hf_keeper_exit code);

/* Into the log, and kept for `holdfast status`. */
void hf_keeper_note(struct hf_keeper *k, const char *text);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One VM as its host's daemon sees it: is a keeper to be started here, in which role, and when? Layer:
 * core; pure, any thread, no allocation, no clock: the time is in the events.
 *
 * What the VM does while a keeper is here is the keeper's (core/vm.h, core/commit.h). This machine acts
 * only while there is none:
 *
 *          START, BOOT, an end that is followed by another start
 *     OFF ------------> WAITING ------> STARTING ------> UP ------> STOPPING
 *      ^    (HELD: something is in the way)  |            |             |
 *      +-------------------------------------+------------+-------------+
 *                      the keeper has ended  +--> FAILED (too often...; until CLEAR)
 *
 * Rules, each beside the line that implements it:
 *   R1  a keeper that is here is touched by an order to stop alone
 *   R2  nothing is started that is not wanted, has no definition, or is FAILED
 *   R3  nothing runs beside a frozen instance of its own, unless that was allowed; a standby may
 *   R4  a VM with two hosts is run by one: the other keeps a standby. Who may run it is decided by the
 *       keepers and their lease: one that is refused (SUPERSEDED) becomes the standby
 *   R5  starts after a fault are counted: more than restarts_max in the window make it FAILED
 *   R6  what ended in order, or was ordered to stop, stays down
 *   R7  of a VM that a cluster manager decides about (is_managed), only what that has assigned to this host is
 *       started, and nothing is ended but by its order. It starts what died: here that follows only
 *       where the VM's own policy says so (AGAIN), and for a standby, which harms nobody
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/vm.h"

enum hf_supervise_role { HF_SUPERVISE_NO_ROLE, HF_SUPERVISE_RUN, HF_SUPERVISE_STANDBY };

enum hf_supervise_state {
	HF_SUPERVISE_OFF, /* nothing is here, nor shall be */
	HF_SUPERVISE_HELD, /* wanted, but `why` is in the way */
	HF_SUPERVISE_WAITING, /* will be started at retry_ns */
	HF_SUPERVISE_STARTING, /* a keeper was started, or found, and does not serve yet */
	HF_SUPERVISE_UP, /* a keeper serves, in `role` */
	HF_SUPERVISE_STOPPING, /* it was ordered to stop */
	HF_SUPERVISE_FAILED, /* `why`; until CLEAR, some also until START */
	HF_SUPERVISE_STATE_COUNT
};

/* R7: what the cluster manager has decided for this host. */
enum hf_supervise_assigned {
	HF_SUPERVISE_ASSIGNED_NONE,
	HF_SUPERVISE_ASSIGNED_STANDBY, /* one that has gone live is left alone */
	HF_SUPERVISE_ASSIGNED_RUN,
	HF_SUPERVISE_ASSIGNED_COUNT
};

/* Why it is HELD or FAILED. */
enum hf_supervise_why {
	HF_SUPERVISE_IN_ORDER,
	HF_SUPERVISE_UNDEFINED, /* there is no valid definition */
	HF_SUPERVISE_FROZEN, /* a frozen instance is here */
	HF_SUPERVISE_ELSEWHERE, /* another host owns it */
	HF_SUPERVISE_NOT_YET, /* it is not known what the other host does */
	HF_SUPERVISE_RESTING, /* the standby was stopped by an order */
	HF_SUPERVISE_TOO_OFTEN, /* FAILED: restarts_max */
	HF_SUPERVISE_NO_START, /* FAILED: an order to start it came to nothing; may be given again */
	HF_SUPERVISE_BAD_DEFINITION, /* FAILED: the keeper says so */
	HF_SUPERVISE_CRASHED, /* FAILED: it died, and its policy is not to start it again */
	HF_SUPERVISE_NO_PAIR, /* a standby is assigned, and there is no second host */
	HF_SUPERVISE_WHY_COUNT
};

/* What this host shall do with a VM that has two, as told from outside. */
enum hf_supervise_place {
	HF_SUPERVISE_PLACE_OWN, /* nobody says: the first host runs it, R4 does the rest */
	HF_SUPERVISE_PLACE_RUN,
	HF_SUPERVISE_PLACE_STANDBY,
	HF_SUPERVISE_PLACE_WAIT,
	HF_SUPERVISE_PLACE_NOTHING,
	HF_SUPERVISE_PLACE_END, /* it is not wanted on either host: what is here ends, in order */
	HF_SUPERVISE_PLACE_COUNT
};

/* A keeper's exit status (docs/man/holdfast-keeper.8); KILLED: by a signal, or nobody knows. */
enum hf_supervise_code {
	HF_SUPERVISE_KILLED = -1,
	HF_SUPERVISE_ENDED = 0,
	HF_SUPERVISE_CANNOT = 1,
	HF_SUPERVISE_USAGE = 2,
	HF_SUPERVISE_VM_DIED = 4,
	HF_SUPERVISE_SUPERSEDED = 5,
	HF_SUPERVISE_LEASE_LOST = 6,
	HF_SUPERVISE_AGAIN = 7,
	HF_SUPERVISE_UNKNOWN_PEER = 8,
};

/* How a keeper has left its place. */
struct hf_supervise_end {
	int code;
	bool is_frozen; /* it guards a frozen instance now, under another name */
	bool is_handed_over; /* the VM runs on the other host */
	bool is_left; /* its policy for what befell it: leave */
	bool is_given; /* other hosts are asked to run it; RECOVER comes if none will */
};

struct hf_supervise_definition {
	bool has_two_hosts;
	bool is_first; /* of the two, this one runs it if nothing else decides */
	bool may_run_beside_frozen; /* when-frozen = fresh */
	bool is_managed; /* R7; then WANTED does not count, and RECOVER is refused */
	uint32_t restarts_max;
	uint64_t restart_window_ns;
};

enum hf_supervise_event_kind {
	HF_SUPERVISE_EV_DEFINED, /* definition: new, or changed */
	HF_SUPERVISE_EV_UNDEFINED,
	HF_SUPERVISE_EV_WANTED, /* is_wanted: at a boot, or by the other host's word */
	HF_SUPERVISE_EV_PLACE, /* place */
	HF_SUPERVISE_EV_FROZEN, /* count: how many frozen instances are here */
	HF_SUPERVISE_EV_ASSIGNED, /* assigned: anew, or another one */
	HF_SUPERVISE_EV_START, /* order; is_fresh: beside a frozen one. R7: to do what is assigned */
	HF_SUPERVISE_EV_RECOVER, /* it has failed on another host: run it here */
	HF_SUPERVISE_EV_STOP, /* order */
	HF_SUPERVISE_EV_STOP_REFUSED, /* the keeper's answer */
	HF_SUPERVISE_EV_CLEAR, /* order */
	HF_SUPERVISE_EV_KEEPER_FOUND, /* a process; it has not said its role yet */
	HF_SUPERVISE_EV_KEEPER_UP, /* role: it serves; also when a standby has gone live */
	HF_SUPERVISE_EV_KEEPER_ENDED, /* end */
	HF_SUPERVISE_EV_TIME,
	HF_SUPERVISE_EVENT_COUNT
};

struct hf_supervise_event {
	enum hf_supervise_event_kind kind;
	const struct hf_supervise_definition *definition;
	enum hf_supervise_place place;
	enum hf_supervise_assigned assigned;
	enum hf_supervise_role role;
	struct hf_supervise_end end;
	unsigned int count;
	bool is_wanted;
	bool is_fresh;
	uint64_t now_ns;
};

enum hf_supervise_action {
	HF_SUPERVISE_DO_NOTHING,
	HF_SUPERVISE_DO_START,
	HF_SUPERVISE_DO_START_STANDBY,
	HF_SUPERVISE_DO_STOP, /* tell the keeper, as soon as it can be told */
	HF_SUPERVISE_DO_REFUSE, /* the order makes no sense now; nothing has changed */
};

struct hf_supervise {
	struct hf_supervise_definition definition;
	enum hf_supervise_state state;
	enum hf_supervise_why why;
	enum hf_supervise_role role; /* STARTING to STOPPING; NO_ROLE: found, not known yet */
	enum hf_supervise_place place;
	enum hf_supervise_assigned assigned;
	unsigned int frozen;
	bool is_defined;
	bool is_wanted;
	bool is_fresh; /* the next start may be beside a frozen instance */
	bool is_ordered; /* the next start is an operator's: it is told if it fails */
	bool has_died; /* R7: here, since the last START */
	bool ran_here; /* last, as far as is known */
	bool is_elsewhere; /* the last word: another host has it */
	bool is_resting; /* no standby until START */
	uint32_t restarts; /* within the window */
	uint64_t window_began_ns;
	uint32_t retries; /* starts in a row that came to nothing and are not counted */
	uint64_t retry_ns; /* not before */
};

void hf_supervise_init(struct hf_supervise *s);

/* One action at most follows from one event. */
enum hf_supervise_action hf_supervise_step(struct hf_supervise *s,
					   const struct hf_supervise_event *ev);

/* When a TIME event is wanted, UINT64_MAX: never. Early or extra ones do no harm. */
uint64_t hf_supervise_deadline_ns(const struct hf_supervise *s);

/* R7: a START waits for an empty standby to make room, or for word of whether it may. */
bool hf_supervise_is_pending(const struct hf_supervise *s);

/* Is a keeper here, as far as is known? */
bool hf_supervise_has_keeper(const struct hf_supervise *s);

const char *hf_supervise_state_name(enum hf_supervise_state state);
const char *hf_supervise_why_text(enum hf_supervise_why why);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a cluster manager is told of one VM on this host, and when. Layer: core; pure, any thread.
 *
 * Level: two attributes of this node say what is wrong with the VM and why, a third one how well it may be promoted here;
 * each is written again whenever it is not known to be what it should be, so that nothing that was lost on the way
 * matters. Edge: a failure is announced once. Rules, each beside the `if` that keeps it:
 *  - no failure is announced of what the manager has ended here already: it would be taken for one of the instance
 *    that runs elsewhere, which would then be stopped;
 *  - nor one that is older than the manager's last decision to have the VM here: it has been dealt with;
 *  - nor that it could not be started: who has it started is told so, and may be trying on;
 *  - the promotion score that belongs to a failure is there before the failure is: else this side is promoted again;
 *  - what a failure is about is written when the manager has begun to deal with it: each attribute that changes makes it
 *    begin its calculation anew (measured with Pacemaker 2.1.5: 64 to 100 ms to its first action instead of 40). That
 *    is when the VM is not to be here any more, or when the trouble is fresh no longer, by the driver's clock;
 *  - a failure whose cause has been cleared is cleaned up when the VM is not to be here, for else the manager never
 *    uses this host again. A VM that was started here anew keeps its count of failures.
 *
 * The driver calls next() until that has nothing more to say, carries each action out and reports the end with done().
 * FAIL is to be carried out under the lock of vm/assignment.h: with it held, facts are read anew, and next() has to say
 * FAIL again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/vm.h"

enum hf_trouble {
	HF_TROUBLE_NONE,
	HF_TROUBLE_FREEZING,
	HF_TROUBLE_FROZEN,
	HF_TROUBLE_CRASHED,
	HF_TROUBLE_FAILED,
	HF_TROUBLE_PAUSED, /* by a fault */
	HF_TROUBLE_SUSPENDED, /* by the lease: passes, or something else follows */
	HF_TROUBLE_SILENT, /* its keeper does not answer the daemon: who asks it in earnest decides */
	HF_TROUBLE_HUNG,
	HF_TROUBLE_COUNT
};

enum hf_announce_place {
	HF_ANNOUNCE_UNKNOWN, /* the manager's decision cannot be told: nothing of a failure is announced */
	HF_ANNOUNCE_AWAY, /* it is not to be here */
	HF_ANNOUNCE_HERE, /* it is to be here, in whatever role */
};

struct hf_announce_facts {
	enum hf_announce_place place;
	uint64_t placed_ns; /* CLOCK_REALTIME of that decision */
	enum hf_trouble trouble;
	uint64_t trouble_ns; /* CLOCK_REALTIME since when; 0: not known */
	bool is_unborn; /* it has not been up since that decision */
	bool is_fresh; /* the trouble began just now: see below */
	uint32_t reason; /* another number when the text about it is another one; 0: there is none. Also
			  * without trouble: of what was frozen and is kept, beside what runs here anew */
	bool is_promotable;
	int score; /* 0: none */
};

enum hf_announce_action {
	HF_ANNOUNCE_NOTHING,
	HF_ANNOUNCE_ASK, /* which trouble is this node's attribute about? Answer: hf_announce_asked() */
	HF_ANNOUNCE_SCORE, /* write facts.score; 0: delete it */
	HF_ANNOUNCE_FAIL, /* announce the failure */
	HF_ANNOUNCE_TROUBLE, /* write facts.trouble; NONE: delete it */
	HF_ANNOUNCE_REASON, /* write the text; facts.reason 0: delete it */
	HF_ANNOUNCE_CLEAN, /* failures of this VM on this host count no more */
	HF_ANNOUNCE_ACTION_COUNT
};

/* All zero: nothing is known. */
struct hf_announce {
	bool is_asked; /* told_trouble is what the manager has */
	bool is_reason_told, is_score_told;
	enum hf_trouble told_trouble;
	uint32_t told_reason;
	int told_score;
	bool is_announced; /* this trouble is */
	bool is_past; /* it was seen when it was none of the manager's business */
	uint64_t settled_ns; /* facts.trouble_ns of that */
	bool is_cleaning_owed;
};

/* To whom there is a connection. */
struct hf_announce_links {
	bool has_attributes; /* who keeps attributes */
	bool has_controller; /* who takes failures, and cleans them up */
};

/**
 * hf_announce_next() - what is to be done now
 * Takes note of @f, so it is to be called with every change. HF_ANNOUNCE_NOTHING: all is told, or cannot be now.
 */
enum hf_announce_action hf_announce_next(struct hf_announce *a, const struct hf_announce_facts *f,
					 const struct hf_announce_links *links);

/* It was carried out. If it could not be, nothing is to be reported: the connection is lost, or next() says it again. */
void hf_announce_done(struct hf_announce *a, const struct hf_announce_facts *f,
		      enum hf_announce_action action);
/* The answer to ASK. */
void hf_announce_asked(struct hf_announce *a, enum hf_trouble told);

/* A connection was lost: what it was told may be lost as well. */
void hf_announce_lost_attributes(struct hf_announce *a);
void hf_announce_lost_controller(struct hf_announce *a);

/* Is it one that has to be announced? */
bool hf_trouble_is_failure(enum hf_trouble trouble);
/* One word, usable in rules: "frozen", ...; NONE: "". */
const char *hf_trouble_name(enum hf_trouble trouble);
/* -1: no such word */
int hf_trouble_find(const char *name);

/* What is wrong with a VM in this state. @is_silent: its keeper does not answer. */
enum hf_trouble hf_trouble_of(enum hf_vm_state state, enum hf_vm_pause pause,
			      enum hf_vm_cause cause, bool is_silent);

const char *hf_announce_action_name(enum hf_announce_action action);

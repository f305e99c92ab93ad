/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `holdfast ocf ACTION NAME`: what a cluster's resource agent calls. Layer: cli. One thread. No action waits beyond the
 * call's deadline, whoever is silent: keeper, holdfastd, storage. ocf_holdfast_vm(7) has the table of answers, which is
 * core/ocf.h's.
 *
 * An action looks first (hf_ocf_view_take), as often as it takes; says in c->reason why it ends as it does, and returns
 * an enum hf_ocf.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/client.h"
#include "cli/ocf-processes.h"
#include "core/ocf.h"
#include "vm/assignment.h"

#define HF_OCF_MS 1000000ull
#define HF_OCF_MANAGER "pacemaker"

enum hf_ocf_when_frozen { HF_OCF_AS_DEFINED, HF_OCF_REFUSE, HF_OCF_FRESH };

enum hf_ocf_who {
	HF_OCF_ABSENT, /* no such process */
	HF_OCF_ANSWERS,
	HF_OCF_SILENT, /* it is there */
	HF_OCF_FORBIDDEN, /* to this user */
};

/* What is known of the VM here. */
struct hf_ocf_view {
	enum hf_ocf_who keeper, daemon;
	struct hf_ocf_facts facts;
	struct hf_ocf_processes processes; /* looked at unless the keeper answers */
	struct json_object *status; /* the keeper's; NULL */
	struct json_object
		*vm; /* holdfastd's; NULL: it does not answer, or knows none of that name */
	struct hf_assignment assignment; /* NONE if there is none */
	bool is_undefined; /* holdfastd answers that it knows no such VM */
	uint64_t asked_ns; /* how long was listened to who is silent */
	char frozen_id[16]; /* of the newest frozen instance here; "" */
	char trouble[256]; /* who is silent, and what is seen of him */
};

struct hf_ocf_call {
	const char *action;
	const char *vm;
	const char *run_dir, *state_dir, *vms_dir;
	const char *resource, *instance, *node; /* "": not told */
	const char *promote_to, *stop_on; /* nodes, separated by blanks; "" */
	bool is_json;
	bool is_orphan; /* the resource alone was named: vm is what it was assigned to here; "": none */
	bool is_promotable;
	bool is_probe;
	bool is_believed_promoted; /* by the cluster: of a monitor for that role */
	bool is_paused_failure;
	bool is_ending; /* what holdfastd knows is of no interest */
	bool is_demoting; /* a standby may stay */
	bool is_kill_preferred; /* a failed one is killed at a stop, not frozen */
	enum hf_ocf_when_frozen when_frozen;
	uint64_t timeout_ns, shutdown_ns; /* the latter 0: as long as there is time */
	uint64_t begun_ns, deadline_ns; /* CLOCK_MONOTONIC */

	struct hf_ocf_view view; /* as it was looked at last */
	int score; /* -1: of no meaning */
	char reason[512];
};

/* argv[0]: "ocf". For verbs.h's table. */
int hf_ocf_run(int argc, char **argv);
/* 0; -EINVAL: has said what is wrong; 1: help is wanted. */
int hf_ocf_parse(int argc, char **argv, struct hf_ocf_call *ret);

/* Sets c->vm, and what else the assignment knows: a cluster that has forgotten a resource ends it without parameters. */
void hf_ocf_find_orphan(struct hf_ocf_call *c);

/* ---- the actions ---- */

enum hf_ocf hf_ocf_do_monitor(struct hf_ocf_call *c);
enum hf_ocf hf_ocf_do_score(struct hf_ocf_call *c);
enum hf_ocf hf_ocf_do_start(struct hf_ocf_call *c);
enum hf_ocf hf_ocf_do_stop(struct hf_ocf_call *c);
enum hf_ocf hf_ocf_do_promote(struct hf_ocf_call *c);
enum hf_ocf hf_ocf_do_demote(struct hf_ocf_call *c);
enum hf_ocf hf_ocf_do_validate(struct hf_ocf_call *c);
int hf_ocf_print_table(void);

/* ---- for them ---- */

/* Asks keeper and daemon at once, until @until_ns at most; c->view is replaced. */
void hf_ocf_view_take(struct hf_ocf_call *c, uint64_t until_ns);
void hf_ocf_view_fini(struct hf_ocf_view *v);
/* The table's verdict on c->view, with the reason that is known beside it in c->reason. */
enum hf_ocf hf_ocf_view_judge(struct hf_ocf_call *c, struct hf_ocf_verdict *ret);

/* Host.Start in the manager's name until it is here as assigned, refused for good, or late. Then why is in c->reason. */
enum hf_ocf hf_ocf_carry_out(struct hf_ocf_call *c, enum hf_place_assigned place);
/* Ends what is here, whatever it is; @is_assigned: it is written down that it stays so. */
enum hf_ocf hf_ocf_end_it(struct hf_ocf_call *c, bool is_assigned);

/* Sets c->reason. Returns @rc. */
enum hf_ocf hf_ocf_say(struct hf_ocf_call *c, enum hf_ocf rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Under the assignment's lock, for which it waits for a moment at most. 0; -errno, and c->reason says why. */
int hf_ocf_assign(struct hf_ocf_call *c, enum hf_place_assigned place) HF_MUST_CHECK;

/* A moment later, or the deadline if that is earlier. */
uint64_t hf_ocf_soon(const struct hf_ocf_call *c, uint64_t ns);
bool hf_ocf_is_late(const struct hf_ocf_call *c);
/* Sleeps, not beyond the deadline. */
void hf_ocf_rest(const struct hf_ocf_call *c, unsigned int ms);

/**
 * hf_ocf_order() - one call to a keeper (HF_OCF_KEEPER) or holdfastd, until its answer or @until_ns
 * @p: taken over, may be NULL. @is_more: texts meanwhile go to c->reason
 * Return: 0; -EREMOTE: it refuses, c->reason says why; -ESRCH, -ECONNRESET: there is none (any more); -ETIMEDOUT;
 * other -errno, told in c->reason, too.
 */
int hf_ocf_order_keeper(struct hf_ocf_call *c, const char *method, struct json_object *p,
			bool is_more, uint64_t until_ns);
int hf_ocf_order_daemon(struct hf_ocf_call *c, const char *method, bool is_fresh, bool is_forced,
			uint64_t until_ns);

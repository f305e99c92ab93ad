/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stop: whatever is here ends, and success is said only when it is proven that nothing of it can act any more. First the
 * assignment, so that nobody starts it again and no news of a failure comes late; then, by what is here:
 *
 *   nothing, frozen, saved...  success at once; nothing is killed
 *   being frozen               that is waited for
 *   failed                     it is frozen, or killed if that is preferred or does not succeed
 *   running                    the guest is asked to shut down, in the end it is forced to
 *   a standby                  it ends
 *   a silent keeper            is killed, and QEMU and the disk process die with it
 *
 * holdfastd is not needed. The last part of the deadline is kept for the harder ways.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/ocf-call.h"
#include "cli/peek.h"
#include "cli/rows.h"
#include "codec/json.h"

#define LOOK_NS (100 * HF_OCF_MS)
#define ORDER_NS (2000 * HF_OCF_MS)
#define SETTLE_NS (100 * HF_OCF_MS)
#define SILENT_NS (10000 * HF_OCF_MS) /* a keeper that says nothing for so long is lost */
#define LEAVING_NS (2000 * HF_OCF_MS) /* one that has just spoken may be on its way out */
#define AGAIN_MS 10

struct stopping {
	struct hf_ocf_call *c;
	uint64_t force_ns, kill_ns; /* when the harder ways begin */
	uint64_t heard_ns; /* the keeper, last */
	bool has_spoken; /* during this stop */
	bool is_asked, is_forced, is_frozen_in_vain, is_standby_told;
	bool is_assigned;
	const char *did; /* to be told; "": nothing had to be done */
	struct hf_ocf_processes
		killed; /* that live still: they may not be found again by what they are */
};

static uint64_t now(void)
{
	return hf_client_now_ns();
}

static void set_times(struct stopping *s)
{
	struct hf_ocf_call *c = s->c;
	uint64_t force_ns = c->deadline_ns - c->timeout_ns / 4;

	if (c->shutdown_ns && c->begun_ns + c->shutdown_ns < force_ns)
		force_ns = c->begun_ns + c->shutdown_ns;
	s->force_ns = force_ns;
	s->kill_ns = c->deadline_ns - c->timeout_ns / 8;
	s->heard_ns = c->begun_ns;
}

/* ---- the ways ---- */

/* The keeper, and with it all that is its. */
static void kill_it(struct stopping *s)
{
	struct hf_ocf_call *c = s->c;
	struct hf_err err;

	if (hf_ocf_processes_look(c->run_dir, c->vm, &c->view.processes, &err) < 0)
		return;
	if (c->view.processes.n > s->killed.n)
		s->killed = c->view.processes;
	hf_ocf_processes_kill(&c->view.processes);
	if (c->view.processes.n)
		s->did = "it was killed";
}

static void tell_keeper(struct stopping *s, bool is_forced)
{
	struct json_object *p = json_object_new_object();

	hf_json_add_bool(p, "force", is_forced);
	(void)hf_ocf_order_keeper(s->c, "Stop", p, false, hf_ocf_soon(s->c, ORDER_NS));
}

static void end_standby(struct stopping *s)
{
	/* By force: even if it is the only copy that is left, the cluster wants it so. */
	if (!s->is_standby_told)
		tell_keeper(s, /* is_forced= */ true);
	s->is_standby_told = true;
	s->did = "the standby has ended";
}

/* One that stands still cannot hear that it is to shut down. */
static void end_running(struct stopping *s)
{
	bool is_deaf = s->c->view.facts.state == HF_VM_PAUSED;

	if (!s->is_asked && !is_deaf) {
		tell_keeper(s, false);
		s->is_asked = true;
		s->did = "it was shut down";
	} else if (!s->is_forced && (is_deaf || now() >= s->force_ns)) {
		tell_keeper(s, true);
		s->is_forced = true;
		s->did = "it was ended by force";
	}
}

static void freeze(struct stopping *s)
{
	struct hf_ocf_call *c = s->c;
	struct json_object *p = json_object_new_object(), *status = c->view.status;
	const char *cause = status ? hf_rows_text(status, "cause") : "";
	char text[256];

	(void)snprintf(text, sizeof(text), "%.200s",
		       c->view.trouble[0] ? c->view.trouble : "stopped by the cluster");
	hf_json_add_str(p, "reason", text);
	if (hf_vm_cause_find(cause) > HF_VM_CAUSE_ORDER) {
		hf_json_add_str(p, "cause", cause);
		hf_json_add_str(p, "severity", hf_rows_text(status, "severity"));
	}
	if (hf_ocf_order_keeper(c, "Freeze", p, false, s->kill_ns) < 0)
		s->is_frozen_in_vain = true;
}

static void end_failed(struct stopping *s)
{
	if (s->c->is_kill_preferred || s->is_frozen_in_vain)
		kill_it(s);
	else
		freeze(s);
}

static bool is_lost(const struct stopping *s)
{
	struct hf_peek p;

	if (now() >= s->kill_ns || now() - s->heard_ns >= SILENT_NS)
		return true;
	hf_peek_at(s->c->run_dir, s->c->vm, &p);
	return p.is_stopped;
}

/* Its place is given up, its voice is gone, and its processes go in a moment: were they killed now, an end in order would look
 * like a crash. */
static bool is_leaving(const struct stopping *s)
{
	return s->has_spoken && now() - s->heard_ns < LEAVING_NS && now() < s->kill_ns;
}

/* ---- one look, one step ---- */

/* So that holdfastd and the cluster agree; it reads the assignment at any rate. */
static void settle(struct hf_ocf_call *c)
{
	bool is_known = c->view.daemon == HF_OCF_ANSWERS && c->view.vm;

	if (is_known && strcmp(hf_rows_text(c->view.vm, "supervision"), "off") != 0)
		(void)hf_ocf_order_daemon(c, "Stop", false, false, hf_ocf_soon(c, SETTLE_NS));
}

static bool is_live(enum hf_vm_state state)
{
	return state == HF_VM_RUNNING || state == HF_VM_PAUSED || state == HF_VM_MIGRATING;
}

static void step_live(struct stopping *s, enum hf_ocf rc)
{
	enum hf_vm_state state = s->c->view.facts.state;

	bool has_failed = rc == HF_OCF_ERR_GENERIC || rc == HF_OCF_FAILED_PROMOTED;

	if (now() >= s->kill_ns)
		kill_it(s);
	else if (state == HF_VM_STANDBY ||
		 (state == HF_VM_STARTING && !s->c->view.facts.is_primary))
		end_standby(s);
	else if (is_live(state) && has_failed && !s->c->view.facts.is_pause_by_user)
		end_failed(s);
	else if (is_live(state) || state == HF_VM_STARTING || state == HF_VM_INCOMING)
		end_running(s);
	/* else it freezes, or is on its way out */
}

static void step(struct stopping *s, enum hf_ocf rc)
{
	const struct hf_ocf_view *v = &s->c->view;

	if (v->keeper == HF_OCF_ANSWERS) {
		s->heard_ns = now();
		s->has_spoken = true;
		step_live(s, rc);
	} else if (!v->processes.n) {
		settle(s->c); /* holdfastd is about to start one */
	} else if (v->processes.p[0].is_keeper ? is_lost(s) : !is_leaving(s)) {
		kill_it(s); /* else one without a voice yet, or any more: it goes on its way */
	}
}

static enum hf_ocf finish(struct stopping *s)
{
	struct hf_ocf_call *c = s->c;
	char reason[sizeof(c->reason)];

	if (!s->is_assigned)
		return hf_ocf_say(c, HF_OCF_ERR_GENERIC,
				  "it has ended, but that it is to stay so cannot be written down");
	memcpy(reason, c->reason, sizeof(reason));
	if (!c->is_demoting)
		settle(c);
	return hf_ocf_say(c, HF_OCF_SUCCESS, "%s", s->did[0] ? s->did : reason);
}

static enum hf_ocf give_up(struct stopping *s)
{
	struct hf_ocf_call *c = s->c;
	struct hf_err err;
	char text[200];

	if (hf_ocf_processes_look(c->run_dir, c->vm, &c->view.processes, &err) < 0 ||
	    !c->view.processes.n)
		c->view.processes = s->killed;
	hf_ocf_processes_again(&c->view.processes);
	if (!c->view.processes.n)
		return hf_ocf_say(c, HF_OCF_ERR_GENERIC, "it has not ended in time");
	return hf_ocf_say(c, HF_OCF_ERR_GENERIC, "it has not ended in time: %s",
			  hf_ocf_processes_text(&c->view.processes, text, sizeof(text)));
}

/* What is demoted may be followed by a standby, or one on its way. */
static bool is_followed(const struct hf_ocf_call *c)
{
	const struct hf_ocf_view *v = &c->view;
	bool is_standby = v->facts.state == HF_VM_STANDBY || v->facts.state == HF_VM_STARTING;

	return c->is_demoting && is_standby && !v->facts.is_primary &&
	       (v->keeper == HF_OCF_ANSWERS || !v->processes.n);
}

enum hf_ocf hf_ocf_end_it(struct hf_ocf_call *c, bool is_assigned)
{
	struct stopping s = { .c = c, .is_assigned = is_assigned, .did = "" };
	struct hf_ocf_verdict v;
	enum hf_ocf rc;

	set_times(&s);
	do {
		c->is_ending = true;
		hf_ocf_view_take(c, hf_ocf_soon(c, LOOK_NS));
		rc = hf_ocf_view_judge(c, &v);
		hf_ocf_processes_again(&s.killed);
		if ((rc == HF_OCF_NOT_RUNNING || is_followed(c)) && !s.killed.n)
			return finish(&s);
		if (c->view.keeper == HF_OCF_FORBIDDEN)
			return HF_OCF_ERR_PERM;
		if (rc != HF_OCF_NOT_RUNNING)
			step(&s, rc);
		hf_ocf_rest(c, AGAIN_MS);
	} while (!hf_ocf_is_late(c));
	return give_up(&s);
}

enum hf_ocf hf_ocf_do_stop(struct hf_ocf_call *c)
{
	return hf_ocf_end_it(c, hf_ocf_assign(c, HF_ASSIGNED_NONE) == 0);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Start: the assignment first, then holdfastd carries it out. What it cannot do yet (the lease is another host's, for now)
 * it tries again by itself, until the deadline.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/ocf-call.h"
#include "cli/peek.h"
#include "cli/rows.h"
#include "codec/json.h"
#include "sys/rundir.h"

#define LOOK_NS (5000 * HF_OCF_MS)
#define ADOPT_NS (500 * HF_OCF_MS)
#define DAEMON_NS (10000 * HF_OCF_MS) /* to come back: it may just be restarted */
#define AGAIN_MS 100

static const char *what_is_wrong(const struct hf_ocf_call *c)
{
	bool is_managed = !hf_json_has(c->view.vm, "manager") ||
			  strcmp(hf_rows_text(c->view.vm, "manager"), HF_OCF_MANAGER) == 0;

	if (*hf_rows_text(c->view.vm, "definition_error"))
		return hf_rows_text(c->view.vm, "definition_error");
	return is_managed ? NULL : "its definition does not say manager = pacemaker";
}

/* Hard errors, of this node alone: a file that is wrong here says nothing about the other nodes. */
static enum hf_ocf check_definition(struct hf_ocf_call *c)
{
	const char *wrong;

	if (c->view.is_undefined)
		return hf_ocf_say(c, HF_OCF_ERR_INSTALLED, "no VM is called '%s' on this node",
				  c->vm);
	if (!c->view.vm)
		return HF_OCF_SUCCESS;
	wrong = what_is_wrong(c);
	return wrong ? hf_ocf_say(c, HF_OCF_ERR_INSTALLED, "%s", wrong) : HF_OCF_SUCCESS;
}

static enum hf_ocf refuse_frozen(struct hf_ocf_call *c)
{
	return hf_ocf_say(
		c, HF_OCF_ERR_INSTALLED,
		"an instance is frozen on this node: examine it, then `holdfast release %s@%s`",
		c->vm, c->view.frozen_id);
}

/* Does it do here what it is to do? */
static bool is_there(struct hf_ocf_call *c, enum hf_place_assigned place)
{
	struct hf_ocf_verdict v;
	enum hf_ocf rc;

	hf_ocf_view_take(c, hf_ocf_soon(c, LOOK_NS));
	c->view.facts.is_probe = true;
	rc = hf_ocf_view_judge(c, &v);
	/* Being on its way is no answer to a start. */
	if (c->view.facts.state == HF_VM_STARTING || c->view.facts.state == HF_VM_INCOMING)
		return false;
	return rc == HF_OCF_RUNNING_PROMOTED ||
	       (rc == HF_OCF_SUCCESS && (!c->is_promotable || place == HF_ASSIGNED_STANDBY));
}

static int try_once(struct hf_ocf_call *c)
{
	bool is_fresh = c->when_frozen == HF_OCF_FRESH;

	return hf_ocf_order_daemon(c, "Start", is_fresh, false, c->deadline_ns);
}

/* Why it was refused. c->view is what has been seen since. */
static enum hf_ocf explain(struct hf_ocf_call *c, const char *said)
{
	bool is_held = c->view.vm && strcmp(hf_rows_text(c->view.vm, "supervision"), "held") == 0;

	if (c->view.frozen_id[0] && (is_held || strstr(said, "frozen")))
		return refuse_frozen(c);
	if (check_definition(c) != HF_OCF_SUCCESS)
		return HF_OCF_ERR_INSTALLED;
	return hf_ocf_say(c, HF_OCF_ERR_GENERIC, "%s", said);
}

/* Its lease is another host's, which may be about to let go of it, or to be found dead. */
static bool is_for_now(const char *said)
{
	return strstr(said, "another host owns it") || strstr(said, "is owned by host");
}

enum hf_ocf hf_ocf_carry_out(struct hf_ocf_call *c, enum hf_place_assigned place)
{
	uint64_t patience_ns = hf_ocf_soon(c, DAEMON_NS);
	char said[sizeof(c->reason)];
	int r;

	for (;;) {
		r = try_once(c);
		memcpy(said, c->reason, sizeof(said));
		if ((r == 0 || r == -EREMOTE) && is_there(c, place))
			return hf_ocf_say(c, HF_OCF_SUCCESS, "%s", "");
		if (r == -EREMOTE && !is_for_now(said))
			return explain(c, said);
		if (r != 0 && r != -EREMOTE &&
		    (r != -ESRCH && r != -ECONNRESET && r != -ECONNREFUSED))
			return HF_OCF_ERR_GENERIC;
		if (r != 0 && r != -EREMOTE && hf_client_now_ns() >= patience_ns)
			return HF_OCF_ERR_GENERIC;
		if (hf_ocf_is_late(c))
			return hf_ocf_say(c, HF_OCF_ERR_GENERIC, "%s",
					  said[0] ? said : "it was started, and does not run");
		hf_ocf_rest(c, AGAIN_MS);
	}
}

/* It runs already: the daemon only has to know whose it is. */
static enum hf_ocf adopt(struct hf_ocf_call *c, enum hf_place_assigned place)
{
	if (hf_ocf_assign(c, place) < 0)
		return HF_OCF_ERR_GENERIC;
	(void)hf_ocf_order_daemon(c, "Start", false, false, hf_ocf_soon(c, ADOPT_NS));
	return hf_ocf_say(c, HF_OCF_SUCCESS, "%s", "");
}

/* One that hangs: another node may be the better place. */
static bool wait_for_daemon(struct hf_ocf_call *c)
{
	uint64_t until_ns = hf_ocf_soon(c, DAEMON_NS);

	while (c->view.daemon == HF_OCF_SILENT && hf_client_now_ns() < until_ns) {
		hf_ocf_rest(c, AGAIN_MS);
		hf_ocf_view_take(c, hf_ocf_soon(c, LOOK_NS));
	}
	return c->view.daemon != HF_OCF_SILENT;
}

static enum hf_ocf blame_daemon(struct hf_ocf_call *c)
{
	struct hf_peek p;

	hf_peek_at(c->run_dir, HF_RUNDIR_HOST, &p);
	return hf_ocf_say(c, HF_OCF_ERR_GENERIC, "holdfastd does not answer: %s", p.text);
}

/* Its file may have been put there a moment ago. */
static void look_for_definition(struct hf_ocf_call *c)
{
	if (!c->view.is_undefined)
		return;
	(void)hf_ocf_order_daemon(c, "Reload", false, false, hf_ocf_soon(c, LOOK_NS));
	hf_ocf_view_take(c, hf_ocf_soon(c, LOOK_NS));
}

static enum hf_ocf begin(struct hf_ocf_call *c, enum hf_place_assigned place)
{
	enum hf_ocf rc;

	if (!wait_for_daemon(c))
		return blame_daemon(c);
	look_for_definition(c);
	rc = check_definition(c);
	if (rc != HF_OCF_SUCCESS)
		return rc;
	if (place == HF_ASSIGNED_RUN && c->view.frozen_id[0] && c->when_frozen == HF_OCF_REFUSE)
		return refuse_frozen(c);
	if (hf_ocf_assign(c, place) < 0)
		return HF_OCF_ERR_GENERIC;
	return hf_ocf_carry_out(c, place);
}

/* What has ended, but not quite: its processes go in a moment. */
static enum hf_ocf wait_for_room(struct hf_ocf_call *c, enum hf_place_assigned place)
{
	struct hf_ocf_verdict v;
	enum hf_ocf rc;

	for (;;) {
		if (is_there(c, place))
			return HF_OCF_SUCCESS;
		rc = hf_ocf_view_judge(c, &v);
		if (rc == HF_OCF_NOT_RUNNING || rc == HF_OCF_SUCCESS ||
		    rc == HF_OCF_RUNNING_PROMOTED)
			return HF_OCF_NOT_RUNNING;
		if (c->view.keeper != HF_OCF_ABSENT || hf_ocf_is_late(c))
			return HF_OCF_ERR_GENERIC;
		hf_ocf_rest(c, AGAIN_MS);
	}
}

enum hf_ocf hf_ocf_do_start(struct hf_ocf_call *c)
{
	enum hf_place_assigned place = c->is_promotable ? HF_ASSIGNED_STANDBY : HF_ASSIGNED_RUN;
	char reason[sizeof(c->reason)];
	enum hf_ocf rc = wait_for_room(c, place);

	if (rc == HF_OCF_SUCCESS)
		return adopt(c, place);
	if (rc == HF_OCF_NOT_RUNNING)
		rc = begin(c, place);
	if (rc == HF_OCF_SUCCESS)
		return rc;
	/* Or it would come up later, behind the cluster's back. */
	memcpy(reason, c->reason, sizeof(reason));
	(void)!hf_ocf_assign(c, HF_ASSIGNED_NONE);
	return hf_ocf_say(c, rc, "%s", reason);
}

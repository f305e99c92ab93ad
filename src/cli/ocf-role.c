/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promote and demote. Who runs the VM is decided by holdfast's own proof or vote, never by the cluster alone: a promote waits
 * for that, and does not take a VM from a primary that runs; a demote hands the VM over, if the cluster says whom it
 * promotes next and that one has all of it, or else shuts the guest down.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/ocf-call.h"
#include "cli/rows.h"

#define LOOK_NS (2000 * HF_OCF_MS)
#define GRACE_NS                                                                                   \
	(3000 * HF_OCF_MS) /* for the other side's end, which the cluster may have seen first */
#define ASK_AGAIN_NS (1000 * HF_OCF_MS)
#define AGAIN_MS 20

/* ---- names of nodes ---- */

static bool is_among(const char *node, const char *nodes)
{
	size_t n;

	for (; *nodes; nodes += n) {
		nodes += strspn(nodes, " ");
		n = strcspn(nodes, " ");
		if (n && n == strlen(node) && strncmp(nodes, node, n) == 0)
			return true;
	}
	return false;
}

static bool has_other(const char *node, const char *nodes)
{
	size_t n;

	for (; *nodes; nodes += n) {
		nodes += strspn(nodes, " ");
		n = strcspn(nodes, " ");
		if (n && (n != strlen(node) || strncmp(nodes, node, n) != 0))
			return true;
	}
	return false;
}

/* ---- promote ---- */

static const char *where_else(const struct hf_ocf_call *c)
{
	const char *host = c->view.vm ? hf_rows_text(c->view.vm, "peer_host") : "";

	return *host ? host : "the other node";
}

static enum hf_ocf refuse_promotion(struct hf_ocf_call *c)
{
	return hf_ocf_say(c, HF_OCF_ERR_GENERIC,
			  "it runs on %s and was not demoted there: it is not taken from there",
			  where_else(c));
}

/* Asked politely: it goes live at once if it has proof, and by the vote if that is won; else its keeper says why not. */
static void ask_to_go_live(struct hf_ocf_call *c, uint64_t *asked_ns)
{
	if (*asked_ns && hf_client_now_ns() - *asked_ns < ASK_AGAIN_NS)
		return;
	*asked_ns = hf_client_now_ns();
	(void)hf_ocf_order_keeper(c, "Promote", NULL, false, hf_ocf_soon(c, LOOK_NS));
}

static enum hf_ocf too_late(struct hf_ocf_call *c)
{
	const char *why = c->view.status ? hf_rows_text(c->view.status, "protection") : "";

	return hf_ocf_say(c, HF_OCF_ERR_GENERIC, "it has not gone live in time: %s",
			  *why ? why : hf_vm_state_name(c->view.facts.state));
}

static bool is_going_live(const struct hf_ocf_call *c)
{
	const char *state = c->view.status ? hf_rows_text(c->view.status, "state") : "";

	return strcmp(state, "promoting") == 0 || strcmp(state, "promoted") == 0;
}

enum next { NEXT_WAIT, NEXT_DONE, NEXT_FAULT, NEXT_COLD_START, NEXT_REFUSE };

static enum next look(struct hf_ocf_call *c, uint64_t *asked_ns)
{
	const struct hf_ocf_facts *f = &c->view.facts;
	struct hf_ocf_verdict v;
	enum hf_ocf rc;

	hf_ocf_view_take(c, hf_ocf_soon(c, LOOK_NS));
	c->view.facts.is_probe = true;
	rc = hf_ocf_view_judge(c, &v);
	if (rc == HF_OCF_ERR_GENERIC || rc == HF_OCF_FAILED_PROMOTED)
		return c->view.keeper == HF_OCF_ABSENT ? NEXT_WAIT : NEXT_FAULT;
	if (rc == HF_OCF_NOT_RUNNING)
		return NEXT_COLD_START;
	if (rc == HF_OCF_RUNNING_PROMOTED)
		return f->state == HF_VM_RUNNING || f->state == HF_VM_PAUSED ? NEXT_DONE
									     : NEXT_WAIT;
	if (f->state != HF_VM_STANDBY || is_going_live(c))
		return NEXT_WAIT;
	if (f->is_in_touch)
		return hf_client_now_ns() - c->begun_ns < GRACE_NS ? NEXT_WAIT : NEXT_REFUSE;
	if (!f->has_epoch)
		return f->is_peer_running && hf_client_now_ns() - c->begun_ns < GRACE_NS
			       ? NEXT_WAIT
			       : NEXT_COLD_START;
	ask_to_go_live(c, asked_ns);
	return NEXT_WAIT;
}

static enum hf_ocf promote(struct hf_ocf_call *c)
{
	uint64_t asked_ns = 0;

	while (!hf_ocf_is_late(c)) {
		switch (look(c, &asked_ns)) {
		case NEXT_DONE:
			return hf_ocf_say(c, HF_OCF_SUCCESS, "%s", "");
		case NEXT_FAULT:
			return HF_OCF_ERR_GENERIC;
		case NEXT_REFUSE:
			return refuse_promotion(c);
		case NEXT_COLD_START:
			return hf_ocf_carry_out(c, HF_ASSIGNED_RUN);
		case NEXT_WAIT:
			hf_ocf_rest(c, AGAIN_MS);
			break;
		}
	}
	return too_late(c);
}

enum hf_ocf hf_ocf_do_promote(struct hf_ocf_call *c)
{
	char reason[sizeof(c->reason)];
	enum hf_ocf rc;

	if (hf_ocf_assign(c, HF_ASSIGNED_RUN) < 0)
		return HF_OCF_ERR_GENERIC;
	rc = promote(c);
	if (rc == HF_OCF_SUCCESS)
		return rc;
	memcpy(reason, c->reason, sizeof(reason));
	(void)!hf_ocf_assign(c, HF_ASSIGNED_STANDBY);
	return hf_ocf_say(c, rc, "%s", reason);
}

/* ---- demote ---- */

static bool is_live_in_order(struct hf_ocf_call *c, enum hf_ocf *ret)
{
	struct hf_ocf_verdict v;

	hf_ocf_view_take(c, hf_ocf_soon(c, LOOK_NS));
	c->view.facts.is_probe = true;
	*ret = hf_ocf_view_judge(c, &v);
	return *ret == HF_OCF_RUNNING_PROMOTED;
}

static bool is_protected(const struct hf_ocf_call *c)
{
	return c->view.status && hf_rows_is_set(c->view.status, "protected");
}

static bool is_left(enum hf_ocf rc)
{
	return rc == HF_OCF_SUCCESS || rc == HF_OCF_NOT_RUNNING;
}

/*
 * Until it is live here no more. A hand-over that is called off leaves it running: there may be time for another one. One
 * that has failed has not left, and one whose keeper is silent is not known to have.
 */
static bool hand_over(struct hf_ocf_call *c)
{
	uint64_t until_ns = c->deadline_ns - c->timeout_ns / 2;
	enum hf_ocf rc = HF_OCF_RUNNING_PROMOTED;

	while (!is_left(rc) && hf_client_now_ns() < until_ns) {
		if (rc != HF_OCF_RUNNING_PROMOTED && c->view.keeper == HF_OCF_ANSWERS)
			break;
		if (rc == HF_OCF_RUNNING_PROMOTED && is_protected(c) &&
		    hf_ocf_order_keeper(c, "HandOver", NULL, false, until_ns) == 0)
			until_ns = c->deadline_ns -
				   c->timeout_ns / 4; /* its keeper is about to end */
		hf_ocf_rest(c, AGAIN_MS);
		(void)is_live_in_order(c, &rc);
	}
	return is_left(rc);
}

/* So that the cluster finds a standby, as it believes. That it does not come up is the next monitor's to say. */
static enum hf_ocf follow(struct hf_ocf_call *c, enum hf_place_assigned place)
{
	if (place == HF_ASSIGNED_STANDBY && c->view.daemon == HF_OCF_ANSWERS)
		(void)hf_ocf_carry_out(c, place);
	return hf_ocf_say(c, HF_OCF_SUCCESS, "%s", "");
}

enum hf_ocf hf_ocf_do_demote(struct hf_ocf_call *c)
{
	bool is_stop_next = is_among(c->node, c->stop_on);
	enum hf_place_assigned place = is_stop_next ? HF_ASSIGNED_NONE : HF_ASSIGNED_STANDBY;
	bool is_assigned = hf_ocf_assign(c, place) == 0;
	enum hf_ocf rc;

	c->is_demoting = true;
	if (is_live_in_order(c, &rc)) {
		if (has_other(c->node, c->promote_to) && is_protected(c) && hand_over(c))
			return hf_ocf_say(c, HF_OCF_SUCCESS, "handed over");
		rc = hf_ocf_end_it(c, is_assigned);
		return rc == HF_OCF_SUCCESS ? follow(c, place) : rc;
	}
	if (rc == HF_OCF_SUCCESS || rc == HF_OCF_NOT_RUNNING)
		return hf_ocf_say(c, HF_OCF_SUCCESS, "%s", c->reason);
	return hf_ocf_end_it(c, is_assigned); /* it has failed */
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Does the other host hold or run this VM already? A keeper that answers says so itself; a closed
 * port means that none is there. Silence means that nobody knows, and then only an operator can say.
 */
#include "keeper/question.h"

#include <errno.h>
#include <inttypes.h>
#include <systemd/sd-event.h>

struct question {
	struct hf_keeper *k;
	bool is_answered;
	int result;
	struct hf_err *err;
};

static void question_describe(void *ctx, struct hf_wire_hello *ret)
{
	struct question *q = ctx;

	/* There is no guest yet to be described. */
	*ret = (struct hf_wire_hello){
		.version_min = HF_WIRE_VERSION_MIN,
		.version_max = HF_WIRE_VERSION_MAX,
		.role = HF_WIRE_ROLE_INQUIRER,
		.state = HF_WIRE_VM_STARTING,
		.instance = q->k->instance,
		.page_bytes = HF_WIRE_PAGE_BYTES,
		.holdfast = HF_VERSION,
		.vm = q->k->name,
		.machine = "",
		.qemu = "",
		.lockspace = "",
	};
}

static void answer(struct question *q, int result)
{
	q->is_answered = true;
	q->result = result;
}

static void question_learnt(void *ctx, const struct hf_wire_hello *theirs)
{
	struct question *q = ctx;
	const char *peer = hf_meetings_peer_text(q->k->meetings);

	if (theirs->role == HF_WIRE_ROLE_PRIMARY || theirs->state == HF_WIRE_VM_STARTING) {
		hf_err_set(q->err, "the VM runs on %s already (%s); start a standby here instead",
			   peer, hf_wire_vm_state_name(theirs->state));
		answer(q, -EEXIST);
	} else if (theirs->epoch || theirs->state == HF_WIRE_VM_PROMOTING) {
		hf_err_set(q->err,
			   "the standby on %s holds this VM's state (%s, epoch %" PRIu64
			   "): promote it there, or stop it with --force to discard that",
			   peer, hf_wire_vm_state_name(theirs->state), theirs->epoch);
		answer(q, -EEXIST);
	} else {
		q->k->peer_disk_condition = theirs->disk_condition;
		q->k->peer_disk_session = theirs->disk_session;
		answer(q, 0);
	}
}

static void question_missed(void *ctx, enum hf_meeting_miss why, const char *text)
{
	struct question *q = ctx;

	if (why == HF_MEETING_REFUSED_PORT) {
		answer(q, 0);
		return;
	}
	hf_err_set(q->err,
		   "cannot learn from %s whether the VM runs there (%s); if you know that it does "
		   "not, use "
		   "--force",
		   hf_meetings_peer_text(q->k->meetings), text);
	answer(q, -EHOSTUNREACH);
}

static bool question_met(void *ctx __attribute__((unused)),
			 struct hf_link *link __attribute__((unused)),
			 const struct hf_wire_hello *theirs __attribute__((unused)),
			 bool we_dialled __attribute__((unused)))
{
	return false;
}

static void question_told(void *ctx __attribute__((unused)),
			  enum hf_wire_type what __attribute__((unused)),
			  const struct hf_wire_mark *mark __attribute__((unused)))
{
}

const struct hf_meeting_ops hf_question_ops = {
	.describe = question_describe,
	.met = question_met,
	.missed = question_missed,
	.learnt = question_learnt,
	.told = question_told,
};

int hf_question_ask(struct hf_keeper *k, struct hf_err *err)
{
	struct question q = { .k = k, .err = err };

	if (k->set->is_forced)
		return 0;
	hf_meetings_set_ops(k->meetings, &hf_question_ops, &q);
	hf_meetings_inquire(k->meetings);
	while (!q.is_answered) {
		int r = sd_event_run(k->loop.event, UINT64_MAX);

		if (r < 0)
			return r;
	}
	return q.result;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The primary and the VM's lease: asking who may go on, and standing still when the host's lease has
 * run out.
 *
 * The deadline is not enforced while a standby is in touch and the images are each host's own: nobody
 * else has what the VM could be run from, and the standby, which has, acknowledges each epoch only as
 * long as it has not gone live. So a lease storage that fails does not stop what is protected. Both
 * are claimed anew as soon as that can be.
 */
#include "keeper/primary-side.h"

/* For a keeper that finds itself past the deadline: it was stopped. Nothing leaves by then, and a VM that
 * nobody has taken is not to be killed for it. */
#define STOP_MIN_NS 300000000ull

static bool is_vm_here(const struct hf_primary_side *s)
{
	switch (s->machine.state) {
	case HF_PRIMARY_ALONE:
	case HF_PRIMARY_SYNCING:
	case HF_PRIMARY_PROTECTED:
	case HF_PRIMARY_HOLDING:
	case HF_PRIMARY_LEAVING:
	case HF_PRIMARY_HANDING_OVER:
		return true;
	case HF_PRIMARY_HANDED_OVER:
	case HF_PRIMARY_DEAD:
	case HF_PRIMARY_ENDING:
	case HF_PRIMARY_SUPERSEDED:
	case HF_PRIMARY_FINISHED:
	case HF_PRIMARY_STATE_COUNT:
		break;
	}
	return false;
}

static bool is_guarded_by_standby(const struct hf_primary_side *s)
{
	bool is_shared = s->k->disks && s->k->disks->is_shared;

	return !is_shared && s->machine.state == HF_PRIMARY_PROTECTED && s->machine.committed &&
	       s->machine.is_link_up && !s->machine.is_peer_silent;
}

/* ---- standing still ---- */

static void on_fence_timer(void *ctx)
{
	struct hf_primary_side *s = ctx;

	if (!s->is_fenced || !s->k->is_guest_running)
		return;
	hf_event(&s->k->journal, "fence-kill", NULL,
		 "QEMU did not stop in time after the lease had run out: killed");
	(void)!hf_guest_kill(s->k->guest);
}

bool hf_primary_is_guest_meant_to_run(const struct hf_primary_side *s)
{
	bool is_in_checkpoint = s->checkpoint.step != HF_CHECKPOINT_IDLE;
	bool is_in_scan = s->sync.step == HF_SYNC_STOPPING;

	return s->k->is_guest_running || (is_in_checkpoint && s->work.is_guest_running) ||
	       (is_in_scan && s->sync.was_running);
}

static void fence(struct hf_primary_side *s)
{
	uint64_t kill_ns = hf_ownership_fence_ns(s->k->ownership);
	uint64_t soon_ns = hf_now_ns() + STOP_MIN_NS;

	if (s->is_fenced)
		return;
	s->is_fenced = true;
	s->was_running_before_fence = hf_primary_is_guest_meant_to_run(s);
	hf_primary_stop_for_fault(s);
	hf_timer_set(&s->fence_timer, &s->k->loop, kill_ns > soon_ns ? kill_ns : soon_ns,
		     on_fence_timer, s);
	hf_event(&s->k->journal, "fenced", NULL,
		 "the VM stands still, sends and writes nothing: this host's lease has run out");
}

static void unfence(struct hf_primary_side *s)
{
	if (!s->is_fenced)
		return;
	s->is_fenced = false;
	hf_event(&s->k->journal, "unfenced", NULL, "this host may run the VM: it goes on");
	if (s->was_running_before_fence && !s->is_stop_wanted && !s->is_pause_wanted)
		hf_keeper_qmp(s->k, "cont");
}

void hf_primary_run_on(struct hf_primary_side *s)
{
	if (s->is_fenced)
		s->was_running_before_fence = true;
	else
		hf_keeper_qmp(s->k, "cont");
}

/* ---- claiming ---- */

static void on_verdict(void *ctx, enum hf_claim_end end, uint64_t lver)
{
	static const enum hf_primary_event_kind kinds[] = {
		[HF_CLAIM_WON] = HF_PRIMARY_ARBITER_GRANTED,
		[HF_CLAIM_LOST] = HF_PRIMARY_ARBITER_DENIED,
		[HF_CLAIM_CANCELLED] = HF_PRIMARY_ARBITER_CANCELLED,
	};
	struct hf_primary_side *s = ctx;
	struct hf_primary_event ev = { .kind = kinds[end], .lver = lver };

	if (end == HF_CLAIM_WON) {
		ev.won = hf_ownership_lver(s->k->ownership);
		s->has_lapsed = s->k->is_forced_live = false;
		unfence(s);
	} else if (end == HF_CLAIM_LOST && hf_id_is_none(s->machine.session) && is_vm_here(s)) {
		s->is_lease_lost = true; /* not to a standby */
		hf_event(&s->k->journal, "lease-lost", NULL, "the VM is ended here: %s",
			 hf_ownership_trouble(s->k->ownership));
	}
	hf_primary_feed_event(s, &ev);
}

void hf_primary_ask_arbiter(struct hf_primary_side *s, uint64_t lver)
{
	bool is_due = s->is_peer_proven_dead || s->has_lapsed;

	hf_arbiter_ask(&s->arbiter, lver, is_due ? 0 : s->heard_ns + s->k->set->peer_timeout_ns,
		       on_verdict, s);
}

void hf_primary_send_lease(struct hf_primary_side *s, uint64_t lver)
{
	struct hf_wire_msg msg = {
		.type = HF_WIRE_LEASE,
		.mark = { .lver = lver, .session = s->machine.session },
	};

	hf_primary_say(s, &msg);
}

static void on_lapsed(void *ctx)
{
	struct hf_primary_side *s = ctx;

	s->has_lapsed = true;
	hf_primary_follow_lease(s);
	/* The answer comes when the host's lease is valid again; what is asked already need not wait. */
	hf_primary_feed(s, HF_PRIMARY_LEASE_RENEWED, 0);
	hf_arbiter_hasten(&s->arbiter);
}

static const struct hf_ownership_ops ownership_ops = { .on_lapsed = on_lapsed };

/* ---- for the others of the primary's driver ---- */

/* After each step: what the new state means for the lease. */
void hf_primary_follow_lease(struct hf_primary_side *s)
{
	bool is_pledged = !hf_id_is_none(s->machine.session);

	if (!s->k->ownership)
		return;
	if (is_pledged != s->is_pledged) {
		s->is_pledged = is_pledged;
		hf_ownership_pledge(s->k->ownership, is_pledged);
	}
	s->k->is_guarded_by_standby = is_guarded_by_standby(s);
	if (!s->has_lapsed || !is_vm_here(s))
		return;
	if (s->k->is_guarded_by_standby)
		unfence(s);
	else
		fence(s);
}

void hf_primary_start_lease(struct hf_primary_side *s)
{
	struct hf_ownership *o = s->k->ownership;

	s->arbiter = (struct hf_arbiter){ .loop = &s->k->loop, .ownership = o };
	if (!o)
		return;
	s->machine.has_vote = true;
	s->machine.lver = hf_ownership_lver(o);
	hf_ownership_set_ops(o, &ownership_ops, s);
	hf_ownership_hold(o);
}

void hf_primary_inherit_question(struct hf_keeper *k, uint64_t lver)
{
	struct hf_primary_side *s = k->role;

	s->machine.lver = lver;
	s->machine.is_asking = true;
	hf_arbiter_ask(&s->arbiter, lver, 0, on_verdict, s);
}

static void on_released(void *ctx)
{
	struct hf_primary_side *s = ctx;

	hf_keeper_finish(s->k, s->finish_code);
}

/* Not from within the disks' own call. First they let go of what a QEMU that was killed still had under
 * way. */
static void on_end_timer(void *ctx)
{
	struct hf_primary_side *s = ctx;

	hf_disks_free(s->k->disks);
	s->k->disks = NULL;
	hf_ownership_release(s->k->ownership, on_released, s);
}

/* FINISHED: no standby can bring it to life any more, so the lease may be anybody's. */
void hf_primary_end(struct hf_primary_side *s)
{
	s->is_end_due = s->k->freezer && !hf_freezer_is_certified(s->k->freezer);
	if (s->is_end_due)
		return;
	if (s->k->ownership && s->machine.state == HF_PRIMARY_FINISHED)
		hf_timer_set(&s->fence_timer, &s->k->loop, 0, on_end_timer, s);
	else
		hf_keeper_finish(s->k, s->finish_code);
}

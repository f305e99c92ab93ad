/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host's daemon: carries out what a ballot says, one step at a time, for the keeper of its host.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

#define IO_MAX_NS (2 * SIM_MS)
#define IO_TIMEOUT_NS (8 * SIM_MS)
#define ANSWER_MAX_NS (1 * SIM_MS)
#define FLAKY_PERCENT 8
/* Ballots wait as suits real disks: their clock is a faster one, so that a block's late write lands
 * within HF_BALLOT_SETTLE_MS of it. */
#define CLOCK 128u
_Static_assert(SIM_LATE_MAX_NS *CLOCK < HF_BALLOT_SETTLE_MS * SIM_MS, "late writes come too late");

enum outcome { READ_PART, READ_DONE, WRITTEN, FAILED, WOKEN, BEGIN };

static struct sim_daemon *daemon_of(struct sim_world *w, int node)
{
	return &w->daemons[node];
}

static void post(struct sim_world *w, struct sim_daemon *d, enum outcome what, uint64_t delay_ns)
{
	sim_post(w, delay_ns,
		 &(struct sim_event){ .kind = SIM_EV_DAEMON,
				      .node = d->node,
				      .a = (int)what,
				      .epoch = d->process,
				      .value = d->step });
}

static bool does_io_fail(struct sim_world *w, const struct sim_daemon *d)
{
	return w->storage_cuts[d->node] ||
	       (w->plan->is_storage_flaky && sim_rand_percent(&w->rand, FLAKY_PERCENT));
}

static void begin_read(struct sim_world *w, struct sim_daemon *d)
{
	d->issued_ns = w->now_ns;
	d->unread = (1u << (SIM_LEASE_HOSTS + 1)) - 1;
	if (does_io_fail(w, d)) {
		post(w, d, FAILED, IO_TIMEOUT_NS);
		return;
	}
	post(w, d, READ_PART, sim_delay(w, IO_MAX_NS));
}

/* Some sectors now, the rest when the read is over: it is not one moment's picture. */
static void read_sectors(struct sim_world *w, struct sim_daemon *d, unsigned int which)
{
	which &= d->unread;
	d->unread &= ~which;
	if (which & 1u)
		d->leader = w->area.leader;
	for (unsigned int n = 0; n < SIM_LEASE_HOSTS; n++)
		if (which & 2u << n)
			d->blocks[n] = w->area.blocks[n];
}

/* Also when nobody may be left who could use it: that is known when it is written. */
static void note_bid(struct sim_world *w, const struct sim_daemon *d,
		     const struct hf_ballot_action *a)
{
	const struct sim_keeper *k = &w->keepers[d->node];

	if (d->job != SIM_JOB_QUESTION || !a->block.bal)
		return;
	if (k->inst != d->job_inst || (k->is_primary && !k->vm.is_alive))
		w->may_be_lost = true;
}

static void begin_write(struct sim_world *w, struct sim_daemon *d, const struct hf_ballot_action *a)
{
	bool is_failing = does_io_fail(w, d);
	uint64_t delay_ns = sim_delay(w, IO_MAX_NS);

	note_bid(w, d, a);
	sim_area_write(w, d->node, a, delay_ns, is_failing);
	if (is_failing)
		post(w, d, FAILED, IO_TIMEOUT_NS);
	else
		post(w, d, WRITTEN, delay_ns + sim_delay(w, IO_MAX_NS / 2));
}

/* Only the death of the owner's host counts: its daemon comes back with a new generation. */
static enum hf_lease_life life_of(const struct sim_world *w, const struct hf_ballot_action *a)
{
	const struct sim_daemon *d;

	if (!a->owner || a->owner > SIM_LEASE_HOSTS)
		return HF_LEASE_LIFE_GONE;
	d = &w->daemons[a->owner - 1];
	return d->generation == a->generation ? HF_LEASE_LIFE_ALIVE : HF_LEASE_LIFE_GONE;
}

static void stamp(struct sim_world *w, struct hf_ballot_event *ev)
{
	ev->now_ns = w->now_ns * CLOCK;
	ev->now_s = w->now_ns / SIM_MS + 1;
	ev->random = (uint32_t)sim_rand_next(&w->rand);
}

static void feed(struct sim_world *w, struct sim_daemon *d, struct hf_ballot_event *ev);
static void begin_job(struct sim_world *w, struct sim_daemon *d);

static void answer(struct sim_world *w, struct sim_daemon *d, enum sim_verdict verdict,
		   uint64_t lver)
{
	struct sim_question q = d->question;

	d->question = (struct sim_question){ 0 };
	w->stats->votes += verdict == SIM_GRANTED;
	sim_post(w, sim_delay(w, ANSWER_MAX_NS),
		 &(struct sim_event){ .kind = SIM_EV_VERDICT,
				      .node = d->node,
				      .a = q.is_standby,
				      .inst = q.inst,
				      .epoch = q.lver,
				      .conn = lver,
				      .session = { .lo = d->tenure },
				      .value = verdict });
}

static void question_over(struct sim_world *w, struct sim_daemon *d,
			  const struct hf_ballot_action *a)
{
	bool is_won = a->result == HF_BALLOT_WON;
	bool is_wanted = d->question.inst && d->question.inst == d->job_inst;

	assert(is_won || a->result == HF_BALLOT_LOST || a->result == HF_BALLOT_CANCELLED);
	if (is_won)
		sim_check_owner(w, d->node, a->lver);
	if (is_wanted && w->plant == SIM_PLANT_BOTH_GRANTED)
		answer(w, d, SIM_GRANTED, 0);
	else if (is_wanted)
		answer(w, d,
		       is_won                        ? SIM_GRANTED
		       : a->result == HF_BALLOT_LOST ? SIM_DENIED
						     : SIM_CANCELLED,
		       a->lver);
	if (is_won && is_wanted) {
		d->held_lver = a->lver;
		d->held_inst = d->job_inst;
	} else if (is_won) {
		d->release_lver = a->lver;
	}
}

static void start_over(struct sim_world *w, struct sim_daemon *d, const struct hf_ballot_action *a)
{
	d->is_start_wanted = false;
	if (a->result != HF_BALLOT_WON)
		return; /* the operator tries again */
	sim_check_owner(w, d->node, a->lver);
	if (!sim_cold_is_needed(w) || w->owner_node != d->node || w->keepers[d->node].inst ||
	    w->is_orphaned[d->node]) {
		d->release_lver = a->lver;
		return;
	}
	sim_cold_start(w);
	d->held_lver = w->keepers[d->node].p.lver = a->lver;
	d->held_inst = w->keepers[d->node].inst;
	w->keepers[d->node].tenure = d->tenure;
}

static void job_over(struct sim_world *w, struct sim_daemon *d, const struct hf_ballot_action *a)
{
	enum sim_lease_job job = d->job;

	sim_say(w, "%c %s: %s, lver %llu", sim_letter(d->node),
		hf_ballot_op_name(d->ballot.want.op), hf_ballot_result_text(a->result),
		(unsigned long long)a->lver);
	d->job = SIM_JOB_NONE;
	d->step++;
	if (job == SIM_JOB_QUESTION)
		question_over(w, d, a);
	else if (job == SIM_JOB_START)
		start_over(w, d, a);
	else
		d->release_lver = 0;
	begin_job(w, d);
}

static void perform(struct sim_world *w, struct sim_daemon *d, const struct hf_ballot_action *a)
{
	struct hf_ballot_event life = { .kind = HF_BALLOT_OWNER_LIFE };
	uint64_t at_ns;

	if (a->kind == HF_BALLOT_NOTHING)
		return;
	d->step++;
	switch (a->kind) {
	case HF_BALLOT_DO_READ:
		begin_read(w, d);
		break;
	case HF_BALLOT_DO_WRITE_BLOCK:
	case HF_BALLOT_DO_WRITE_LEADER:
		d->pending = *a;
		sim_daemon_work(w, d->node);
		break;
	case HF_BALLOT_DO_LOOK:
		life.life = life_of(w, a);
		feed(w, d, &life);
		break;
	case HF_BALLOT_DO_WAIT:
		at_ns = (a->at_ns + CLOCK - 1) / CLOCK;
		post(w, d, WOKEN, at_ns > w->now_ns ? at_ns - w->now_ns : 0);
		break;
	case HF_BALLOT_DONE:
		job_over(w, d, a);
		break;
	case HF_BALLOT_NOTHING:
		break;
	}
}

static void feed(struct sim_world *w, struct sim_daemon *d, struct hf_ballot_event *ev)
{
	struct hf_ballot_action a;

	stamp(w, ev);
	hf_ballot_step(&d->ballot, ev, &a);
	perform(w, d, &a);
}

/* What its keeper, or the one before, or an operator wants of it; one thing at a time. */
static bool choose_job(const struct sim_world *w, const struct sim_daemon *d,
		       struct hf_ballot_want *ret, enum sim_lease_job *job)
{
	if (d->release_lver) {
		*job = SIM_JOB_RELEASE;
		ret->op = HF_BALLOT_RELEASE;
		ret->lver = d->release_lver;
	} else if (d->question.inst && d->question.at_ns <= w->now_ns) {
		*job = SIM_JOB_QUESTION;
		ret->op = HF_BALLOT_CLAIM;
		ret->lver = d->question.lver;
	} else if (d->is_start_wanted) {
		*job = SIM_JOB_START;
		ret->op = HF_BALLOT_ACQUIRE;
	} else {
		return false;
	}
	return true;
}

static void cancel_job(struct sim_world *w, struct sim_daemon *d)
{
	feed(w, d, &(struct hf_ballot_event){ .kind = HF_BALLOT_CANCEL });
}

static void begin_job(struct sim_world *w, struct sim_daemon *d)
{
	struct hf_ballot_want want = { .host_id = (uint64_t)d->node + 1,
				       .generation = d->generation,
				       .max_hosts = sim_area_stride() };
	struct hf_ballot_action a;

	if (!d->process || d->job != SIM_JOB_NONE || !choose_job(w, d, &want, &d->job))
		return;
	d->job_inst = d->question.inst;
	hf_ballot_begin(&d->ballot, &want, w->now_ns * CLOCK, &a);
	perform(w, d, &a);
	/* A claim that was begun before the daemon died may have been bound: the ballot knows. */
	if (d->job == SIM_JOB_QUESTION && d->question.is_cancelled)
		cancel_job(w, d);
}

/* The own sector is written to only when no older write can land there any more. */
void sim_daemon_work(struct sim_world *w, int node)
{
	struct sim_daemon *d = daemon_of(w, node);
	struct hf_ballot_action a = d->pending;
	bool is_leader = a.kind == HF_BALLOT_DO_WRITE_LEADER;

	if (!d->process || a.kind == HF_BALLOT_NOTHING ||
	    (!is_leader && sim_area_is_writing(w, node, false)))
		return;
	d->pending.kind = HF_BALLOT_NOTHING;
	begin_write(w, d, &a);
}

static void read_done(struct sim_world *w, struct sim_daemon *d)
{
	struct hf_ballot_event ev = { .kind = HF_BALLOT_READ,
				      .issued_ns = d->issued_ns * CLOCK,
				      .leader = &d->leader,
				      .blocks = d->blocks,
				      .n_blocks = SIM_LEASE_HOSTS };

	read_sectors(w, d, d->unread);
	feed(w, d, &ev);
}

void sim_daemon_event(struct sim_world *w, const struct sim_event *ev)
{
	static const enum hf_ballot_event_kind kinds[] = { [WRITTEN] = HF_BALLOT_WRITTEN,
							   [FAILED] = HF_BALLOT_IO_FAILED,
							   [WOKEN] = HF_BALLOT_WAKE };
	struct sim_daemon *d = daemon_of(w, ev->node);
	struct hf_ballot_event plain = { 0 };

	if (ev->a == BEGIN) {
		begin_job(w, d);
		return;
	}
	if (!d->process || ev->epoch != d->process || ev->value != d->step)
		return;
	if (ev->a == READ_PART) {
		read_sectors(w, d, (unsigned int)sim_rand_next(&w->rand));
		post(w, d, READ_DONE, sim_delay(w, IO_MAX_NS));
	} else if (ev->a == READ_DONE) {
		read_done(w, d);
	} else {
		plain.kind = kinds[ev->a];
		feed(w, d, &plain);
	}
}

/* ---- what keepers and operators ask ---- */

void sim_daemon_ask(struct sim_world *w, struct sim_keeper *k, bool is_standby, uint64_t lver,
		    uint64_t at_ns)
{
	struct sim_daemon *d = daemon_of(w, k->node);

	if (d->question.inst == k->inst)
		sim_fail(w, SIM_RULE_OWNER, "%c asks while a question of its is open",
			 sim_letter(k->node));
	d->question = (struct sim_question){
		.inst = k->inst, .lver = lver, .is_standby = is_standby, .at_ns = at_ns
	};
	if (at_ns > w->now_ns)
		post(w, d, BEGIN, at_ns - w->now_ns);
	else
		begin_job(w, d);
}

/* There is nothing to wait for any more. */
void sim_daemon_hasten(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_daemon *d = daemon_of(w, k->node);

	if (d->question.inst != k->inst)
		return;
	d->question.at_ns = 0;
	begin_job(w, d);
}

/* Nothing was begun yet, or the ballot says whether it can still be taken back. */
void sim_daemon_cancel(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_daemon *d = daemon_of(w, k->node);

	if (d->question.inst != k->inst)
		return; /* the answer is on its way */
	d->question.is_cancelled = true;
	if (w->plant == SIM_PLANT_CANCEL_BOUND) {
		answer(w, d, SIM_CANCELLED, 0);
		return;
	}
	if (d->job == SIM_JOB_QUESTION && d->job_inst == k->inst)
		cancel_job(w, d);
	else if (d->question.at_ns > w->now_ns)
		answer(w, d, SIM_CANCELLED, 0);
}

void sim_daemon_release(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_daemon *d = daemon_of(w, k->node);

	if (d->held_inst != k->inst)
		return;
	d->held_inst = 0;
	d->release_lver = d->held_lver;
	begin_job(w, d);
}

/* Its keeper is dead, or has ended. What a standby may claim is only forgotten. */
void sim_daemon_keeper_gone(struct sim_world *w, struct sim_keeper *k, bool is_pledged)
{
	struct sim_daemon *d = daemon_of(w, k->node);

	if (!sim_has_vote(w))
		return;
	if (d->held_inst == k->inst) {
		d->held_inst = 0;
		d->release_lver = is_pledged ? 0 : d->held_lver;
	}
	if (d->question.inst == k->inst) {
		d->question = (struct sim_question){ 0 };
		if (d->job == SIM_JOB_QUESTION && d->job_inst == k->inst && d->process)
			cancel_job(w, d);
	}
	begin_job(w, d);
}

void sim_daemon_start_vm(struct sim_world *w, int node)
{
	struct sim_daemon *d = daemon_of(w, node);

	d->is_start_wanted = true;
	begin_job(w, d);
}

/* ---- the host's lease ---- */

static void post_renewal(struct sim_world *w, struct sim_daemon *d, bool is_done, uint64_t delay_ns)
{
	sim_post(w, delay_ns,
		 &(struct sim_event){ .kind = SIM_EV_RENEW,
				      .node = d->node,
				      .a = is_done,
				      .epoch = d->process,
				      .value = w->now_ns });
}

static void renewed(struct sim_world *w, struct sim_daemon *d, uint64_t issued_ns)
{
	struct sim_keeper *k = &w->keepers[d->node];

	if (d->valid_ns <= w->now_ns)
		d->tenure++;
	d->valid_ns = issued_ns + SIM_VALID_NS;
	if (k->inst)
		sim_vote_lease_renewed(w, k);
}

void sim_daemon_renew(struct sim_world *w, const struct sim_event *ev)
{
	struct sim_daemon *d = daemon_of(w, ev->node);

	if (!ev->a)
		post_renewal(w, d, /* is_done= */ false, SIM_RENEW_NS);
	if (!d->process || (ev->a && ev->epoch != d->process))
		return;
	if (ev->a)
		renewed(w, d, ev->value);
	else if (!does_io_fail(w, d))
		post_renewal(w, d, /* is_done= */ true, sim_delay(w, IO_MAX_NS));
}

/* ---- its life ---- */

void sim_daemons_init(struct sim_world *w)
{
	for (int n = 0; n < SIM_NODES; n++) {
		w->daemons[n] = (struct sim_daemon){ .node = n,
						     .process = ++w->next_process,
						     .generation = 1,
						     .tenure = 1,
						     .valid_ns = SIM_VALID_NS };
		if (sim_has_vote(w))
			post_renewal(w, &w->daemons[n], /* is_done= */ false,
				     sim_delay(w, SIM_RENEW_NS));
	}
	w->keepers[0].tenure = 1;
	w->daemons[0].held_lver = 1;
	w->daemons[0].held_inst = w->keepers[0].inst;
}

void sim_daemon_stop(struct sim_world *w, int node, bool is_power)
{
	struct sim_daemon *d = daemon_of(w, node);

	d->process = 0;
	d->job = SIM_JOB_NONE;
	d->pending.kind = HF_BALLOT_NOTHING;
	if (!is_power)
		return;
	sim_area_power_loss(w, node);
	d->generation++; /* of the one that will come back */
	d->valid_ns = 0;
	d->held_inst = 0;
	d->release_lver = 0;
	d->is_start_wanted = false;
}

/* A process ends when its writes have ended, a host is back later than that. */
void sim_daemon_start(struct sim_world *w, int node)
{
	struct sim_daemon *d = daemon_of(w, node);

	if (d->process || w->is_host_down[node])
		return;
	d->process = ++w->next_process;
	if (w->plant == SIM_PLANT_RESTART_RELEASES && d->held_inst)
		d->release_lver = d->held_lver;
	if (w->plant == SIM_PLANT_ANSWER_LOST)
		d->question = (struct sim_question){ 0 };
	begin_job(w, d);
}

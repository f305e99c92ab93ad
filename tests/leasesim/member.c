/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver of core/hostlease.h: one read or write at a time, the page, sights of the others. */
#include "leasesim.h"

#include <string.h>

static uint64_t seconds(const struct ls_world *w, const struct ls_machine *m)
{
	return ls_local_ns(w, m) / LS_S + 1;
}

static void publish(struct ls_world *w, struct ls_machine *m, const struct hf_host_action *a)
{
	if (w->plant == LS_PLANT_TENURE_KEPT && m->page.generation == m->host.generation)
		m->host.tenure = m->page.tenure;
	m->page = (struct ls_page){ .generation = m->host.generation,
				    .instance = m->host.config.instance,
				    .tenure = m->host.tenure,
				    .valid_ns = a->valid_ns,
				    .fence_ns = a->fence_ns };
	if (m->page.fence_ns > ls_local_ns(w, m))
		w->stats->renewals++;
	ls_check_publish(w, m);
	ls_keeper_look(w, m);
}

static void report(struct ls_world *w, struct ls_machine *m, const struct hf_host_action *a)
{
	w->stats->expiries += m->host.state == HF_HOST_EXPIRED;
	ls_say(w, "%c: host lease is %s%s%s, generation %llu, tenure %llu",
	       ls_letter(ls_index(w, m)), hf_host_state_name(m->host.state),
	       a->why == HF_HOST_WHY_NONE ? "" : ": ",
	       a->why == HF_HOST_WHY_NONE ? "" : hf_host_why_text(a->why),
	       (unsigned long long)m->host.generation, (unsigned long long)m->host.tenure);
}

static void act(struct ls_world *w, struct ls_machine *m, const struct hf_host_action *a)
{
	struct ls_event wake = { .kind = LS_EV_WAKE_MEMBER,
				 .machine = ls_index(w, m),
				 .inst = m->inst };
	struct ls_io *io;

	switch (a->kind) {
	case HF_HOST_DO_READ:
		io = ls_io_new(w, m, LS_IO_READ_SLOTS, LS_FOR_MEMBER);
		ls_io_submit(w, io);
		break;
	case HF_HOST_DO_WRITE:
		io = ls_io_new(w, m, LS_IO_SLOT, LS_FOR_MEMBER);
		io->u.slot = (struct ls_slot){ .slot = a->slot };
		ls_io_submit(w, io);
		break;
	case HF_HOST_DO_WAKE:
		wake.b = m->wake_serial = ++w->next_serial;
		ls_post(w, ls_until_ns(w, m, a->at_ns), &wake);
		break;
	case HF_HOST_DO_PUBLISH:
		publish(w, m, a);
		break;
	case HF_HOST_DO_REPORT:
		report(w, m, a);
		break;
	}
}

static void step(struct ls_world *w, struct ls_machine *m, struct hf_host_event *ev)
{
	struct hf_host_actions out = { 0 };
	uint64_t inst = m->inst;

	ev->now_ns = ls_local_ns(w, m);
	ev->now_s = seconds(w, m);
	ls_plant_host_event(w, m, ev);
	hf_host_step(&m->host, ev, &out);
	for (unsigned int i = 0; i < out.n && m->inst == inst; i++)
		act(w, m, &out.a[i]);
}

void ls_member_start(struct ls_world *w, struct ls_machine *m)
{
	const struct ls_plan *p = w->plan;
	int i = ls_index(w, m);
	struct hf_host_config config = { .host_id = m->id,
					 .io_timeout_s = p->io_timeout_s,
					 .renew_ms = p->renew_ms[i],
					 .fence_ms = p->fence_ms[i],
					 .stop_ms = p->stop_ms[i],
					 .instance = simkit_rand_next(&w->rand) | 1 };
	struct hf_host_event ev = { .kind = HF_HOST_START };

	memcpy(config.name, m->name, sizeof(config.name));
	hf_host_init(&m->host, &config);
	/* Its own predecessor is known by what it left on the page. */
	ev.resume_instance = m->page.instance;
	if (m->page.generation && ls_keeper_uses_page(m) && w->plant != LS_PLANT_JOIN_UNDER_VMS) {
		ev.resume_generation = m->page.generation;
		ev.resume_tenure = m->page.tenure;
		ev.resume_valid_ns = m->page.valid_ns;
		ev.resume_fence_ns = m->page.fence_ns;
		w->stats->resumes++;
	} else if (w->plant != LS_PLANT_JOIN_UNDER_VMS) {
		memset(&m->page, 0, sizeof(m->page)); /* nothing of it holds any more */
	}
	step(w, m, &ev);
}

static void take_sights(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	uint64_t done = ls_local_ns(w, m), issued = io->issued_ns;

	if (w->plant == LS_PLANT_SEEN_AT_END)
		issued = done;
	else if (w->plant == LS_PLANT_FIRST_SEEN_AT_ISSUE)
		done = issued;
	for (unsigned int i = 0; i < LS_IDS; i++) {
		uint64_t fenced = m->sights[i].fenced_ns;

		if (io->u.slots[i].is_damaged)
			continue;
		hf_lease_sight_update(&m->sights[i], &io->u.slots[i].slot, issued, done);
		if (w->plant == LS_PLANT_FENCED_KEPT)
			m->sights[i].fenced_ns = fenced;
	}
}

void ls_member_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	struct hf_host_event ev = { .issued_ns = io->issued_ns, .is_settled = io->is_settled };

	if (io->kind == LS_IO_SLOT) {
		ev.kind = io->is_failed && w->plant != LS_PLANT_SUCCESS_ASSUMED
				  ? HF_HOST_WRITE_FAILED
				  : HF_HOST_WRITTEN;
	} else if (io->is_failed) {
		ev.kind = HF_HOST_READ_FAILED;
	} else {
		take_sights(w, m, io);
		ev.kind = HF_HOST_READ;
		ev.slot = io->u.slots[m->id - 1].slot;
		ev.is_slot_damaged = io->u.slots[m->id - 1].is_damaged;
	}
	step(w, m, &ev);
	if (ev.kind == HF_HOST_READ)
		ls_work_sights(w, m);
}

void ls_member_wake(struct ls_world *w, struct ls_machine *m, uint64_t serial)
{
	if (serial == m->wake_serial)
		step(w, m, &(struct hf_host_event){ .kind = HF_HOST_WAKE });
}

void ls_member_leave(struct ls_world *w, struct ls_machine *m)
{
	m->is_leaving = true;
	ls_say(w, "%c: leaves", ls_letter(ls_index(w, m)));
	step(w, m, &(struct hf_host_event){ .kind = HF_HOST_LEAVE });
}

bool ls_member_is_valid(const struct ls_world *w, const struct ls_machine *m)
{
	return m->is_up && m->inst && !m->is_sanlock &&
	       hf_host_is_valid(&m->host, ls_local_ns(w, m));
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim.h"

#include <assert.h>
#include <string.h>

void sim_guest_init(struct sim_guest *g, uint64_t seed)
{
	memset(g, 0, sizeof(*g));
	for (unsigned int i = 0; i < SIM_WORDS; i++)
		g->words[i] = sim_mix(seed, i);
}

uint64_t sim_guest_digest(const struct sim_guest *g)
{
	uint64_t d = sim_mix(g->steps, g->out_seq) ^ g->out_digest;

	for (unsigned int i = 0; i < SIM_WORDS; i++)
		d = sim_mix(d, g->words[i]);
	for (unsigned int i = 0; g->n_writes && i < SIM_BLOCKS; i++)
		d = sim_mix(d, g->disk[i]);
	return d ^ g->flushed;
}

static void emit(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_guest *g = &k->vm.g;
	uint64_t prev = g->out_digest;
	struct sim_output o;

	g->out_digest = sim_mix(g->out_digest, sim_guest_digest(g));
	o = (struct sim_output){
		.seq = g->out_seq++, .digest = g->out_digest, .prev = prev, .durable = g->flushed
	};
	switch (k->tap.mode) {
	case SIM_TAP_PASS:
		sim_check_may_go_on(w, k);
		sim_outside_sees(w, k, &o, /* is_again= */ false);
		break;
	case SIM_TAP_HOLD:
		k->tap.held[k->tap.n++] = o;
		break;
	case SIM_TAP_DEAD:
		break;
	}
}

static void write_disk(struct sim_world *w, struct sim_keeper *k)
{
	struct sim_req *req = &k->vm.req;

	*req = (struct sim_req){ .kind = SIM_REQ_WRITE,
				 .block = sim_rand_below(&w->rand, SIM_BLOCKS),
				 .value = sim_rand_percent(&w->rand, 10) ? 0
									 : sim_rand_next(&w->rand),
				 .serial = k->vm.g.n_writes + 1 };
	w->stats->disk_writes++;
	if (w->owner != k->inst)
		return; /* another host has gone on: nobody will hear of it */
	w->n_history = req->serial;
	w->history[req->serial % SIM_HISTORY] = (struct sim_piece){ .block = req->block,
								    .value = req->value };
	assert(w->n_history < SIM_HISTORY);
}

/* A request to the disk, if none is under way; or a read, which has to find what was written. */
static void use_disk(struct sim_world *w, struct sim_keeper *k)
{
	unsigned int what = sim_rand_below(&w->rand, 100);

	if (what < 40 && k->vm.req.kind == SIM_REQ_NONE)
		write_disk(w, k);
	else if (what < 55 && k->vm.req.kind == SIM_REQ_NONE)
		k->vm.req = (struct sim_req){ .kind = SIM_REQ_FLUSH, .serial = k->vm.g.n_writes };
	else if (what < 80)
		sim_check_read(w, k, sim_rand_below(&w->rand, SIM_BLOCKS));
	sim_disk_work(w, k);
}

/* One step: an input from outside changes a word, and now and then something is sent. */
void sim_guest_run(struct sim_world *w, struct sim_keeper *k)
{
	unsigned int i = sim_rand_below(&w->rand, SIM_WORDS);

	if (!k->vm.is_alive || !k->vm.is_running)
		return;
	if (!sim_vote_may_run(w, k)) {
		k->vm.is_running = false;
		k->is_lease_stopped = true;
		sim_say(w, "%c the VM stands still: its host's lease has run out",
			sim_letter(k->node));
		return;
	}
	k->vm.ran_ns = w->now_ns;
	k->vm.g.steps++;
	k->vm.g.words[i] = sim_mix(k->vm.g.words[i], sim_rand_next(&w->rand));
	k->vm.dirty |= 1u << i;
	if (sim_has_disks(w))
		use_disk(w, k);
	/* A full queue stands for the bound at which the real tap stops reading. */
	if (sim_rand_percent(&w->rand, 60) && k->tap.n < SIM_HELD_MAX)
		emit(w, k);
}

void sim_tap_mark(struct sim_keeper *k, uint64_t epoch)
{
	for (unsigned int i = 0; i < k->tap.n; i++)
		if (!k->tap.held[i].epoch)
			k->tap.held[i].epoch = epoch;
}

static void let_go(struct sim_world *w, struct sim_keeper *k, unsigned int n)
{
	struct sim_tap *t = &k->tap;

	assert(n <= t->n);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int at = w->plant == SIM_PLANT_RELEASE_BACKWARDS ? n - 1 - i : i;

		sim_outside_sees(w, k, &t->held[at], /* is_again= */ false);
	}
	memmove(t->held, t->held + n, (t->n - n) * sizeof(t->held[0]));
	t->n -= n;
}

void sim_tap_release(struct sim_world *w, struct sim_keeper *k, uint64_t epoch)
{
	unsigned int n = 0;

	if (k->is_resend_due)
		sim_standby_resend(w, k);
	while (n < k->tap.n && k->tap.held[n].epoch && k->tap.held[n].epoch <= epoch)
		n++;
	let_go(w, k, n);
}

void sim_tap_pass(struct sim_world *w, struct sim_keeper *k)
{
	k->is_pass_wanted = !sim_vote_may_go_on(w, k);
	if (k->is_pass_wanted)
		return;
	sim_check_gone_on(w, k, k->passed_session);
	if (k->tap.n)
		sim_check_may_go_on(w, k);
	let_go(w, k, k->tap.n);
	k->tap.mode = SIM_TAP_PASS;
}

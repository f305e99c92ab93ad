/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/recover.h"

#include <assert.h>
#include <string.h>

/* ---- wanted ---- */

static void set_name(char *to, const char *from)
{
	unsigned int n = 0;

	for (; from[n] && n < HF_NAME_MAX; n++)
		to[n] = from[n];
	memset(to + n, 0, HF_NAME_MAX + 1 - n);
}

/* As strcmp(). */
static int compare(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (int)(unsigned char)*a - (int)(unsigned char)*b;
}

void hf_wanted_order(struct hf_wanted *w, bool is_started, const char *host, const char *by)
{
	w->is_started = is_started;
	w->is_forced = false;
	set_name(w->host, host);
	set_name(w->by, by);
	if (w->version < HF_WANTED_VERSION_MAX)
		w->version++;
}

bool hf_wanted_take(struct hf_wanted *w, const struct hf_wanted *theirs)
{
	if (theirs->version < w->version)
		return false;
	if (theirs->version == w->version && compare(theirs->by, w->by) <= 0)
		return false;
	*w = *theirs;
	return true;
}

/* ---- place ---- */

static void say(struct hf_place_verdict *ret, enum hf_place place, enum hf_place_why why)
{
	*ret = (struct hf_place_verdict){ .place = place, .why = why, .again_ns = UINT64_MAX };
}

/* The standby of a VM that is being stopped lasts as long as that runs; and one that cannot ask keeps
 * what may be the only copy. */
static void place_unwanted(const struct hf_place_facts *f, struct hf_place_verdict *ret)
{
	bool is_standby = f->here != HF_HAVE_NOTHING && f->here != HF_HAVE_RUNNING;

	if (f->here == HF_HAVE_NOTHING) /* an order is followed by another look */
		say(ret, HF_PLACE_WAIT, HF_PLACE_NOT_WANTED);
	else if (is_standby && !f->is_peer_up)
		say(ret, HF_PLACE_NOTHING, HF_PLACE_PEER_SILENT);
	else if (is_standby && f->there == HF_HAVE_RUNNING)
		say(ret, HF_PLACE_NOTHING, HF_PLACE_PEER_ENDS);
	else
		say(ret, HF_PLACE_END, HF_PLACE_NOT_WANTED);
}

static void place_run(const struct hf_place_facts *f, enum hf_place_why why,
		      struct hf_place_verdict *ret)
{
	if (f->may_run)
		say(ret, HF_PLACE_RUN, why);
	else if (f->here == HF_HAVE_EMPTY_STANDBY)
		say(ret, HF_PLACE_STANDBY, HF_PLACE_CANNOT);
	else
		say(ret, HF_PLACE_NOTHING, HF_PLACE_CANNOT);
}

/* What is here stays, or what is not is waited for. */
static void place_wait(const struct hf_place_facts *f, enum hf_place_why why, uint64_t again_ns,
		       struct hf_place_verdict *ret)
{
	bool is_kept = f->here == HF_HAVE_EMPTY_STANDBY && !f->is_managed;

	say(ret, is_kept ? HF_PLACE_STANDBY : HF_PLACE_WAIT, why);
	ret->again_ns = again_ns;
}

/* Nobody can be asked. Who tries all the same meets the lease, or the question of the keepers, which is
 * refused as long as it is not answered: so only those try who have a reason to. */
static void place_alone(const struct hf_place_facts *f, struct hf_place_verdict *ret)
{
	uint64_t until_ns = f->peer_since_ns + HF_PLACE_PATIENCE_NS;
	bool has_reason = f->has_lease ||
			  (f->here == HF_HAVE_NOTHING && (f->is_wanted_here || f->has_run_last));

	if (f->is_ordered && f->is_wanted_here)
		place_run(f, HF_PLACE_IN_ORDER, ret);
	else if (!has_reason)
		place_wait(f, HF_PLACE_PEER_SILENT, UINT64_MAX, ret);
	else if (f->now_ns < until_ns)
		place_wait(f, HF_PLACE_PEER_SILENT, until_ns, ret);
	else
		place_run(f, HF_PLACE_PEER_GONE, ret);
}

static void place_beside_running(const struct hf_place_facts *f, struct hf_place_verdict *ret)
{
	bool is_here = f->here != HF_HAVE_NOTHING;

	if (is_here || (f->is_same_definition && f->may_stand_by))
		say(ret, HF_PLACE_STANDBY, HF_PLACE_PEER_RUNS);
	else
		say(ret, HF_PLACE_NOTHING,
		    f->is_same_definition ? HF_PLACE_CANNOT : HF_PLACE_DIFFERS);
}

/* It runs nowhere, and both know. */
static void place_one(const struct hf_place_facts *f, struct hf_place_verdict *ret)
{
	bool may_peer_run = f->may_peer_run && f->has_peer_definition;

	if (f->is_wanted_here && (f->may_run || !may_peer_run))
		place_run(f, HF_PLACE_IN_ORDER, ret);
	else if (may_peer_run)
		place_wait(f, HF_PLACE_PEER_STARTS, UINT64_MAX, ret);
	else
		place_run(f, f->has_peer_definition ? HF_PLACE_PEER_CANNOT : HF_PLACE_PEER_LACKS,
			  ret);
}

/* A standby is assigned: it is kept whether or not there is something to stand by for. */
static void place_assigned_standby(const struct hf_place_facts *f, struct hf_place_verdict *ret)
{
	bool is_other = f->is_peer_up && f->has_peer_definition && !f->is_same_definition;
	bool does_peer_run = f->is_peer_up && f->there == HF_HAVE_RUNNING;

	if (f->here == HF_HAVE_NOTHING && (is_other || !f->may_stand_by))
		say(ret, HF_PLACE_NOTHING, is_other ? HF_PLACE_DIFFERS : HF_PLACE_CANNOT);
	else
		say(ret, HF_PLACE_STANDBY, does_peer_run ? HF_PLACE_PEER_RUNS : HF_PLACE_ASSIGNED);
}

/* What is to run here does so unless it runs there, or what there holds its state: as without a manager. */
static void place_assigned(const struct hf_place_facts *f, struct hf_place_verdict *ret)
{
	if (!f->is_wanted)
		say(ret, HF_PLACE_NOTHING, HF_PLACE_NOT_WANTED);
	else if (f->here == HF_HAVE_RUNNING)
		say(ret, HF_PLACE_RUN, HF_PLACE_IN_ORDER);
	else if (f->here == HF_HAVE_STANDBY)
		say(ret, HF_PLACE_STANDBY, HF_PLACE_IN_ORDER);
	else if (!f->is_wanted_here)
		place_assigned_standby(f, ret);
	else if (f->is_in_touch)
		say(ret, HF_PLACE_STANDBY, HF_PLACE_PEER_RUNS);
	else if (!f->is_peer_up)
		place_alone(f, ret);
	else if (f->there == HF_HAVE_RUNNING)
		place_beside_running(f, ret);
	else if (f->there == HF_HAVE_STANDBY)
		place_wait(f, HF_PLACE_PEER_HOLDS, UINT64_MAX, ret);
	else
		place_one(f, ret);
}

void hf_place(const struct hf_place_facts *f, struct hf_place_verdict *ret)
{
	assert(f->here < HF_HAVE_COUNT && f->there < HF_HAVE_COUNT);
	if (f->is_managed) {
		place_assigned(f, ret);
		return;
	}
	if (!f->is_wanted)
		place_unwanted(f, ret);
	else if (f->here == HF_HAVE_RUNNING)
		say(ret, HF_PLACE_RUN, HF_PLACE_IN_ORDER);
	else if (f->here == HF_HAVE_STANDBY) /* its machine and its vote decide */
		say(ret, HF_PLACE_STANDBY, HF_PLACE_IN_ORDER);
	else if (!f->is_peer_up)
		place_alone(f, ret);
	else if (f->there == HF_HAVE_RUNNING)
		place_beside_running(f, ret);
	else if (f->there == HF_HAVE_STANDBY)
		place_wait(f, HF_PLACE_PEER_HOLDS, UINT64_MAX, ret);
	else
		place_one(f, ret);
}

static const char *const place_names[HF_PLACE_COUNT] = {
	[HF_PLACE_NOTHING] = "nothing", [HF_PLACE_RUN] = "run", [HF_PLACE_STANDBY] = "standby",
	[HF_PLACE_WAIT] = "wait",       [HF_PLACE_END] = "end",
};

static const char *const why_texts[HF_PLACE_WHY_COUNT] = {
	[HF_PLACE_IN_ORDER] = "all is in order",
	[HF_PLACE_NOT_WANTED] = "it is not wanted",
	[HF_PLACE_PEER_RUNS] = "it runs on the other host",
	[HF_PLACE_PEER_STARTS] = "it is the other host's to start",
	[HF_PLACE_PEER_HOLDS] = "the standby on the other host holds its state",
	[HF_PLACE_PEER_ENDS] = "it is being stopped on the other host",
	[HF_PLACE_PEER_CANNOT] = "the other host cannot run it",
	[HF_PLACE_PEER_SILENT] = "the other host cannot be asked",
	[HF_PLACE_PEER_GONE] = "the other host could not be asked for too long",
	[HF_PLACE_PEER_LACKS] = "the other host has no definition of it",
	[HF_PLACE_DIFFERS] = "the definitions of the two hosts differ",
	[HF_PLACE_CANNOT] = "it cannot be started here",
	[HF_PLACE_ASSIGNED] = "a standby of it is assigned to this host",
};

const char *hf_place_name(enum hf_place place)
{
	assert(place < HF_PLACE_COUNT);
	return place_names[place];
}

const char *hf_place_text(enum hf_place_why why)
{
	assert(why < HF_PLACE_WHY_COUNT);
	return why_texts[why];
}

/* ---- recover ---- */

void hf_recover_init(struct hf_recover *r)
{
	memset(r, 0, sizeof(*r));
}

static bool may_ask(const struct hf_recover *r, unsigned int i, uint64_t now_ns)
{
	if (!r->host[i].is_up)
		return false;
	return !r->host[i].has_refused || now_ns - r->host[i].refused_ns >= HF_RECOVER_AGAIN_NS;
}

static int ask_next(struct hf_recover *r, uint64_t now_ns)
{
	r->state = HF_RECOVER_WAITING;
	for (unsigned int i = 0; i < r->n_hosts; i++) {
		if (!may_ask(r, i, now_ns))
			continue;
		r->state = HF_RECOVER_ASKING;
		r->host[i].has_refused = false;
		r->asked = i;
		r->asked_ns = now_ns;
		return (int)i;
	}
	return -1;
}

static int pass_over(struct hf_recover *r, unsigned int i, uint64_t now_ns)
{
	r->host[i].has_refused = true;
	r->host[i].refused_ns = now_ns;
	return ask_next(r, now_ns);
}

/* The one that was asked has not said, and perhaps will not. */
static int give_up_on(struct hf_recover *r, uint64_t now_ns)
{
	if (r->has_lease)
		return pass_over(r, r->asked, now_ns);
	r->state = HF_RECOVER_UNSURE;
	r->asked_ns = now_ns;
	return -1;
}

static bool is_open(const struct hf_recover *r)
{
	return r->state == HF_RECOVER_ASKING || r->state == HF_RECOVER_UNSURE;
}

static int on_begin(struct hf_recover *r, const struct hf_recover_event *ev)
{
	assert(ev->n_hosts <= HF_RECOVER_HOSTS_MAX);
	if (r->state != HF_RECOVER_IDLE)
		return -1;
	r->n_hosts = ev->n_hosts;
	r->has_lease = ev->has_lease;
	for (unsigned int i = 0; i < r->n_hosts; i++)
		r->host[i].has_refused = false;
	return ask_next(r, ev->now_ns);
}

static int on_up(struct hf_recover *r, unsigned int i, uint64_t now_ns)
{
	r->host[i].is_up = true;
	r->host[i].has_refused = false;
	if (r->state == HF_RECOVER_WAITING)
		return ask_next(r, now_ns);
	if (r->state != HF_RECOVER_UNSURE || i != r->asked)
		return -1;
	r->state = HF_RECOVER_ASKING; /* the same one again: it answers what has become of it */
	r->asked_ns = now_ns;
	return (int)i;
}

static int on_down(struct hf_recover *r, unsigned int i, uint64_t now_ns)
{
	r->host[i].is_up = false;
	return r->state == HF_RECOVER_ASKING && i == r->asked ? give_up_on(r, now_ns) : -1;
}

static int on_started(struct hf_recover *r, unsigned int i)
{
	if (r->state == HF_RECOVER_IDLE)
		return -1;
	r->state = HF_RECOVER_DONE;
	r->asked = i;
	return -1;
}

static int on_refused(struct hf_recover *r, unsigned int i, uint64_t now_ns)
{
	return is_open(r) && i == r->asked ? pass_over(r, i, now_ns) : -1;
}

static int on_time(struct hf_recover *r, uint64_t now_ns)
{
	if (now_ns < hf_recover_deadline_ns(r))
		return -1;
	if (r->state == HF_RECOVER_WAITING)
		return ask_next(r, now_ns);
	if (r->state == HF_RECOVER_ASKING)
		return give_up_on(r, now_ns);
	return r->state == HF_RECOVER_UNSURE ? on_up(r, r->asked, now_ns) : -1;
}

static int on_cancel(struct hf_recover *r)
{
	r->state = HF_RECOVER_IDLE;
	return -1;
}

int hf_recover_step(struct hf_recover *r, const struct hf_recover_event *ev)
{
	assert(ev->kind < HF_RECOVER_EVENT_COUNT && ev->host < HF_RECOVER_HOSTS_MAX);
	switch (ev->kind) {
	case HF_RECOVER_EV_BEGIN:
		return on_begin(r, ev);
	case HF_RECOVER_EV_UP:
		return on_up(r, ev->host, ev->now_ns);
	case HF_RECOVER_EV_DOWN:
		return on_down(r, ev->host, ev->now_ns);
	case HF_RECOVER_EV_STARTED:
		return on_started(r, ev->host);
	case HF_RECOVER_EV_REFUSED:
		return on_refused(r, ev->host, ev->now_ns);
	case HF_RECOVER_EV_CANCEL:
		return on_cancel(r);
	case HF_RECOVER_EV_TIME:
		return on_time(r, ev->now_ns);
	case HF_RECOVER_EVENT_COUNT:
		break;
	}
	return -1;
}

uint64_t hf_recover_deadline_ns(const struct hf_recover *r)
{
	uint64_t first_ns = UINT64_MAX;

	if (r->state == HF_RECOVER_ASKING)
		return r->asked_ns + HF_RECOVER_ANSWER_NS;
	if (r->state == HF_RECOVER_UNSURE && r->host[r->asked].is_up)
		return r->asked_ns + HF_RECOVER_AGAIN_NS;
	if (r->state != HF_RECOVER_WAITING)
		return UINT64_MAX;
	for (unsigned int i = 0; i < r->n_hosts; i++)
		if (r->host[i].is_up && r->host[i].has_refused &&
		    r->host[i].refused_ns + HF_RECOVER_AGAIN_NS < first_ns)
			first_ns = r->host[i].refused_ns + HF_RECOVER_AGAIN_NS;
	return first_ns;
}

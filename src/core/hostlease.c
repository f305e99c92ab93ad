/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. docs/lease.md has the diagram and the proof.
 *
 * A cycle is: read the slot, see that it is ours, write it anew, publish how long that is good for.
 * Joining is the same cycle without publishing, until `confirm_ns`: by then whoever else could have
 * had the slot has read that it is ours, or has run out. Coming back after an expiry is the same
 * again, if a write went out so long after the read before it that somebody may have taken the slot
 * in between.
 *
 * What a renewal proves, and from when: others take this host for dead if its slot stands still for
 * longer than `fence` from the end of a read on. A write that came to its end shows to every read
 * issued later, so nobody counts from before that write's issue: the lease is good for `fence` from
 * there. If it came to its end only after the last deadline, somebody may have judged in between,
 * and acted: hence a new tenure, in which all has to be verified again.
 */
#include "core/hostlease.h"

#include <assert.h>
#include <string.h>

#define MS_NS 1000000u
#define S_NS 1000000000u

/* A predecessor's last renewals may still land: their numbers stay below ours. */
#define RESUME_SEQUENCE_STEP 1024u
#define UNREAD_SEQUENCE_STEP (1ULL << 40)
/* Watching a slot: one change may be a late write of the dead; a second one is a living host's. */
#define CHANGES_MAX 2u

static struct hf_host_action *add(struct hf_host_actions *ret, enum hf_host_action_kind kind)
{
	struct hf_host_action *a = &ret->a[ret->n++];

	assert(ret->n <= HF_HOST_ACTIONS_MAX);
	memset(a, 0, sizeof(*a));
	a->kind = kind;
	return a;
}

static void enter(struct hf_host *h, enum hf_host_state state, enum hf_host_why why,
		  struct hf_host_actions *ret)
{
	if (h->state == state && h->why == why)
		return;
	h->state = state;
	h->why = why;
	add(ret, HF_HOST_DO_REPORT)->why = why;
}

static void publish(const struct hf_host *h, struct hf_host_actions *ret)
{
	struct hf_host_action *a = add(ret, HF_HOST_DO_PUBLISH);

	a->valid_ns = h->valid_ns;
	a->fence_ns = h->fence_ns;
}

static uint64_t renew_ns(const struct hf_host *h)
{
	return (uint64_t)h->config.renew_ms * MS_NS;
}

static uint64_t retry_ns(const struct hf_host *h)
{
	return renew_ns(h) / 4;
}

static void wake_at(struct hf_host *h, uint64_t at_ns, struct hf_host_actions *ret)
{
	h->next_ns = at_ns;
	if (h->state == HF_HOST_MEMBER && h->valid_ns < at_ns)
		at_ns = h->valid_ns;
	add(ret, HF_HOST_DO_WAKE)->at_ns = at_ns;
}

static void read_slot(struct hf_host *h, struct hf_host_actions *ret)
{
	assert(!h->is_io_out);
	h->is_io_out = true;
	if (h->state == HF_HOST_MEMBER)
		add(ret, HF_HOST_DO_WAKE)->at_ns = h->valid_ns;
	add(ret, HF_HOST_DO_READ);
}

/* Until a claim counts, others wait for whoever had the slot before, too: by our record. */
static uint32_t advertised_fence_ms(const struct hf_host *h)
{
	const struct hf_lease_extra *before = &h->seen.slot.extra;
	bool is_claim = h->state == HF_HOST_CLAIMING ||
			(h->state == HF_HOST_CONFIRMING && h->read_issued_ns < h->confirm_ns);

	if (is_claim && before->is_present && before->fence_ms > h->config.fence_ms)
		return before->fence_ms;
	return h->config.fence_ms;
}

static void write_slot(struct hf_host *h, const struct hf_host_event *ev, bool is_free,
		       struct hf_host_actions *ret)
{
	struct hf_lease_slot *s = &h->written;
	const struct hf_host_config *c = &h->config;

	assert(!h->is_io_out);
	assert(ev->now_s);
	s->owner = c->host_id;
	s->generation = h->generation;
	s->timestamp_s = is_free ? 0 : ev->now_s;
	s->io_timeout_s = c->io_timeout_s;
	memset(s->host_name, 0, sizeof(s->host_name));
	for (unsigned int i = 0; i < HF_LEASE_NAME_BYTES && c->name[i]; i++)
		s->host_name[i] = c->name[i];
	s->extra.is_present = true;
	s->extra.instance = c->instance;
	s->extra.sequence++;
	s->extra.renew_ms = c->renew_ms;
	s->extra.fence_ms = advertised_fence_ms(h);
	h->is_io_out = true;
	h->is_written = true;
	add(ret, HF_HOST_DO_WRITE)->slot = *s;
}

static bool is_own_name(const struct hf_host *h, const struct hf_lease_slot *s)
{
	for (unsigned int i = 0; i < HF_LEASE_NAME_BYTES; i++) {
		if (s->host_name[i] != h->config.name[i])
			return false;
		if (!s->host_name[i])
			break;
	}
	return true;
}

/*
 * Is it a record that this host wrote, the last one or one that landed late? A generation below ours
 * under our name is such a one: whoever takes a slot writes a higher one.
 */
static bool is_ours(const struct hf_host *h, const struct hf_lease_slot *s)
{
	if (s->owner != h->config.host_id || !is_own_name(h, s))
		return false;
	if (s->generation != h->generation)
		return s->generation && s->generation < h->generation;
	return s->extra.is_present && s->extra.instance == h->config.instance &&
	       (h->is_resuming || (int64_t)(s->extra.sequence - h->written.extra.sequence) <= 0);
}

static void lose(struct hf_host *h, enum hf_host_why why, struct hf_host_actions *ret)
{
	/* What was promised for fence_ns stands: whoever took the slot waits for it. */
	if (h->valid_ns) {
		h->valid_ns = 0;
		publish(h, ret);
	}
	enter(h, HF_HOST_LOST, why, ret);
}

static bool is_past(const struct hf_host *h, uint64_t now_ns)
{
	return now_ns >= h->valid_ns;
}

/* ---- joining ---- */

/* For whoever had the slot before to find out, or to run out. */
static uint64_t confirm_span_ns(const struct hf_host *h, const struct hf_lease_slot *before)
{
	struct hf_lease_slot own = { .extra = { .is_present = true } };
	uint64_t span_ns, before_ns = 0;

	own.extra.fence_ms = h->config.fence_ms;
	span_ns = hf_lease_dead_after_ns(&own);
	if (before->extra.is_present)
		before_ns = hf_lease_dead_after_ns(before);
	else if (before->timestamp_s)
		before_ns = 2ULL * (before->io_timeout_s ? before->io_timeout_s : 10) * S_NS;
	return span_ns > before_ns ? span_ns : before_ns;
}

static void claim(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	const struct hf_lease_slot *s = &ev->slot;

	if (s->generation >= h->generation)
		h->generation = s->generation + 1;
	h->seen.slot = *s; /* says how long to wait */
	h->is_resuming = false;
	enter(h, HF_HOST_CLAIMING, HF_HOST_WHY_NONE, ret);
	write_slot(h, ev, false, ret);
}

static void watch(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	uint64_t was_ns = h->seen.first_seen_ns, step_ns = renew_ns(h);
	bool is_first = !h->seen.is_seen;
	const struct hf_lease_sight *s = &h->seen;

	hf_lease_sight_update(&h->seen, &ev->slot, ev->issued_ns, ev->now_ns);
	if (!is_first && s->first_seen_ns != was_ns && ++h->changes >= CHANGES_MAX) {
		lose(h, HF_HOST_WHY_TAKEN, ret);
		return;
	}
	if (s->issued_ns > s->first_seen_ns &&
	    s->issued_ns - s->first_seen_ns >= hf_lease_dead_after_ns(&s->slot)) {
		claim(h, ev, ret);
		return;
	}
	enter(h, HF_HOST_WAITING, HF_HOST_WHY_NONE, ret);
	wake_at(h, ev->now_ns + step_ns, ret);
}

/* Our name alone may be another machine's, too. But a predecessor that the caller knows is none, and
 * sanlock does not run beside us. */
static bool is_known(const struct hf_host *h, const struct hf_lease_slot *s)
{
	return !s->extra.is_present || (h->known && s->extra.instance == h->known);
}

static void look(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	const struct hf_lease_slot *s = &ev->slot;

	if (h->generation && is_ours(h, s) && s->generation == h->generation) {
		/* A claim that was reported as failed has landed: what it overwrote was ours to take.
		 * It is written once more, so that it counts from a write that is known to be over. */
		enter(h, HF_HOST_CLAIMING, HF_HOST_WHY_NONE, ret);
		write_slot(h, ev, false, ret);
	} else if (!s->timestamp_s || (is_own_name(h, s) && is_known(h, s))) {
		claim(h, ev, ret);
	} else {
		watch(h, ev, ret);
	}
}

/* ---- the cycle ---- */

static void start_cycle(struct hf_host *h, uint64_t now_ns, struct hf_host_actions *ret)
{
	h->next_ns = now_ns + renew_ns(h);
	read_slot(h, ret);
}

/*
 * A record older than the last one that we know to have landed is a late write of ours, or one of a
 * machine with our name that had the slot and lives: it is given the time to find out once more.
 */
static void heed_older(struct hf_host *h, const struct hf_host_event *ev)
{
	const struct hf_lease_slot *s = &ev->slot;
	bool is_older = s->generation != h->generation ||
			(int64_t)(s->extra.sequence - h->landed) < 0;
	uint64_t until_ns = ev->now_ns + confirm_span_ns(h, s);

	if (is_older && is_past(h, ev->now_ns) && h->landed && until_ns > h->confirm_ns)
		h->confirm_ns = until_ns;
}

static void verify(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	if (is_ours(h, &ev->slot)) {
		heed_older(h, ev);
		write_slot(h, ev, h->state == HF_HOST_LEAVING, ret);
	} else if (h->state == HF_HOST_CONFIRMING) {
		lose(h, HF_HOST_WHY_TAKEN, ret);
	} else {
		lose(h, h->is_resuming ? HF_HOST_WHY_NOT_RESUMED : HF_HOST_WHY_CHANGED, ret);
	}
}

/* Nobody takes the slot of a host whose deadline is ahead: what is damaged then is our own. */
static void mend(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	if (h->generation && !is_past(h, ev->now_ns)) {
		if (h->is_resuming) /* its number is not known: above any that can still land */
			h->written.extra.sequence += UNREAD_SEQUENCE_STEP;
		write_slot(h, ev, false, ret);
		return;
	}
	enter(h, h->state, HF_HOST_WHY_DAMAGED, ret);
	wake_at(h, ev->now_ns + renew_ns(h), ret);
}

static void renewed(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	uint64_t fence_ns = (uint64_t)h->config.fence_ms * MS_NS;

	if (is_past(h, ev->now_ns))
		h->tenure++;
	h->is_resuming = false;
	h->is_unsettled = false;
	h->fence_ns = ev->issued_ns + fence_ns;
	h->valid_ns = h->fence_ns - (uint64_t)h->config.stop_ms * MS_NS;
	publish(h, ret);
	enter(h, is_past(h, ev->now_ns) ? HF_HOST_EXPIRED : HF_HOST_MEMBER, HF_HOST_WHY_NONE, ret);
	wake_at(h, h->next_ns > ev->now_ns ? h->next_ns : ev->now_ns, ret);
}

/* Did a write end so long after the read before it that somebody may have taken the slot in between? */
static bool is_blind(const struct hf_host *h, const struct hf_host_event *ev)
{
	return ev->now_ns - h->read_issued_ns > (uint64_t)h->config.fence_ms * MS_NS;
}

/*
 * With the deadline passed somebody may have taken the slot. A blind write may have gone over his
 * record; and writes that had failed may have landed over it, so that a read of our own record
 * proves nothing. He finds that out, or runs out, before ours counts.
 */
static void cycle_done(struct hf_host *h, const struct hf_host_event *ev,
		       struct hf_host_actions *ret)
{
	bool is_doubtful = is_past(h, ev->now_ns) && (is_blind(h, ev) || h->is_unsettled);

	if (!is_doubtful && h->read_issued_ns >= h->confirm_ns) {
		renewed(h, ev, ret);
		return;
	}
	if (is_doubtful)
		h->confirm_ns = ev->now_ns + confirm_span_ns(h, &h->written);
	h->is_unsettled = false;
	if (h->state == HF_HOST_MEMBER)
		enter(h, HF_HOST_EXPIRED, HF_HOST_WHY_NONE, ret);
	if (h->state == HF_HOST_CONFIRMING && is_blind(h, ev)) {
		h->generation += 2; /* nothing runs: above whatever he had */
		enter(h, HF_HOST_LOOKING, HF_HOST_WHY_NONE, ret);
	}
	wake_at(h, h->next_ns > ev->now_ns ? h->next_ns : ev->now_ns, ret);
}

/* ---- events ---- */

static void on_start(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	assert(h->state == HF_HOST_OUT);
	h->known = ev->resume_instance;
	if (ev->resume_generation) {
		assert(ev->resume_instance);
		h->is_resuming = true;
		h->is_written = true;
		h->generation = ev->resume_generation;
		h->config.instance = ev->resume_instance;
		h->tenure = ev->resume_tenure;
		h->fence_ns = ev->resume_fence_ns;
		h->valid_ns = ev->resume_valid_ns;
		if (!h->valid_ns && h->fence_ns > (uint64_t)h->config.stop_ms * MS_NS)
			h->valid_ns = h->fence_ns - (uint64_t)h->config.stop_ms * MS_NS;
	}
	enter(h, HF_HOST_LOOKING, HF_HOST_WHY_NONE, ret);
	read_slot(h, ret);
}

static void on_read(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	h->read_issued_ns = ev->issued_ns;
	if (ev->is_slot_damaged) {
		mend(h, ev, ret);
		return;
	}
	enter(h, h->state, HF_HOST_WHY_NONE, ret);
	if (h->state == HF_HOST_WAITING || (h->state == HF_HOST_LOOKING && !h->is_resuming)) {
		look(h, ev, ret);
		return;
	}
	if (h->state == HF_HOST_LOOKING)
		h->written.extra.sequence = ev->slot.extra.sequence + RESUME_SEQUENCE_STEP;
	verify(h, ev, ret);
}

static void on_written(struct hf_host *h, const struct hf_host_event *ev,
		       struct hf_host_actions *ret)
{
	h->landed = h->written.extra.sequence;
	if (h->state == HF_HOST_CLAIMING) {
		h->confirm_ns = ev->now_ns + confirm_span_ns(h, &h->seen.slot);
		h->is_unsettled = false;
		enter(h, HF_HOST_CONFIRMING, HF_HOST_WHY_NONE, ret);
		wake_at(h, ev->now_ns + renew_ns(h), ret);
	} else if (h->state == HF_HOST_LEAVING) {
		h->generation = 0;
		h->fence_ns = 0;
		publish(h, ret);
		enter(h, HF_HOST_OUT, HF_HOST_WHY_NONE, ret);
	} else {
		cycle_done(h, ev, ret);
	}
}

static void on_failed(struct hf_host *h, const struct hf_host_event *ev,
		      struct hf_host_actions *ret)
{
	if (ev->kind == HF_HOST_WRITE_FAILED && !ev->is_settled)
		h->is_unsettled = true;
	if (h->state == HF_HOST_CLAIMING) /* may have landed: look what stands there */
		enter(h, HF_HOST_LOOKING, HF_HOST_WHY_NONE, ret);
	wake_at(h, ev->now_ns + retry_ns(h), ret);
}

static void leave(struct hf_host *h, struct hf_host_actions *ret)
{
	h->is_leaving = false;
	if (h->state == HF_HOST_OUT || h->state == HF_HOST_LOST)
		return;
	if (!h->is_written) {
		enter(h, HF_HOST_OUT, HF_HOST_WHY_NONE, ret);
		return;
	}
	h->valid_ns = 0;
	h->is_resuming = false;
	publish(h, ret);
	enter(h, HF_HOST_LEAVING, HF_HOST_WHY_NONE, ret);
	read_slot(h, ret);
}

static void on_wake(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	if (h->is_io_out || h->state == HF_HOST_OUT || h->state == HF_HOST_LOST)
		return;
	if (ev->now_ns >= h->next_ns)
		start_cycle(h, ev->now_ns, ret);
	else
		wake_at(h, h->next_ns, ret);
}

static void take_in(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	if (ev->kind == HF_HOST_START)
		on_start(h, ev, ret);
	else if (ev->kind == HF_HOST_READ)
		on_read(h, ev, ret);
	else if (ev->kind == HF_HOST_WRITTEN)
		on_written(h, ev, ret);
	else if (ev->kind == HF_HOST_WAKE)
		on_wake(h, ev, ret);
	else if (ev->kind != HF_HOST_LEAVE)
		on_failed(h, ev, ret);
}

void hf_host_step(struct hf_host *h, const struct hf_host_event *ev, struct hf_host_actions *ret)
{
	bool is_end = ev->kind == HF_HOST_READ || ev->kind == HF_HOST_WRITTEN ||
		      ev->kind == HF_HOST_READ_FAILED || ev->kind == HF_HOST_WRITE_FAILED;

	assert(ev->kind < HF_HOST_EVENT_COUNT);
	assert(!is_end || h->is_io_out);
	ret->n = 0;
	if (is_end)
		h->is_io_out = false;
	if (ev->kind == HF_HOST_LEAVE && h->state != HF_HOST_LEAVING)
		h->is_leaving = true;
	if (h->is_leaving && !h->is_io_out) {
		leave(h, ret);
		return;
	}
	if (h->state == HF_HOST_MEMBER && is_past(h, ev->now_ns) && ev->kind != HF_HOST_WRITTEN)
		enter(h, HF_HOST_EXPIRED, HF_HOST_WHY_NONE, ret);
	take_in(h, ev, ret);
}

void hf_host_init(struct hf_host *h, const struct hf_host_config *config)
{
	assert(config->host_id);
	assert(config->host_id <= HF_LEASE_HOSTS_MAX);
	assert(config->name[0]);
	assert(config->instance);
	assert(config->io_timeout_s && config->io_timeout_s <= 255);
	assert(config->renew_ms >= 100 && config->renew_ms <= 20000);
	assert(config->fence_ms >= 3 * config->renew_ms);
	assert(config->fence_ms < 8000 * config->io_timeout_s);
	assert(config->stop_ms < config->fence_ms / 2);
	memset(h, 0, sizeof(*h));
	h->config = *config;
}

bool hf_host_is_valid(const struct hf_host *h, uint64_t now_ns)
{
	return h->state == HF_HOST_MEMBER && !h->is_leaving && !is_past(h, now_ns);
}

const char *hf_host_state_name(enum hf_host_state state)
{
	static const char *const names[HF_HOST_STATE_COUNT] = {
		"out",    "looking", "waiting", "claiming", "confirming",
		"member", "expired", "leaving", "lost",
	};

	return state < HF_HOST_STATE_COUNT ? names[state] : "?";
}

const char *hf_host_why_text(enum hf_host_why why)
{
	switch (why) {
	case HF_HOST_WHY_NONE:
		return "";
	case HF_HOST_WHY_TAKEN:
		return "the host id is in use by another host, or by a second one of this name";
	case HF_HOST_WHY_CHANGED:
		return "the slot was taken by another host, or initialised anew";
	case HF_HOST_WHY_NOT_RESUMED:
		return "the slot is not what this host had left there, and something still runs";
	case HF_HOST_WHY_DAMAGED:
		return "the slot is damaged";
	}
	return "?";
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lease.h"

#include <assert.h>
#include <string.h>

#define MS_NS 1000000u
#define S_NS 1000000000u

/* Clocks of two hosts run at rates that differ by less than one part in this. */
#define CLOCK_RATES 16u
#define DEAD_EXTRA_MS 100u

/* No host of ours fences faster: less is not believed, and sanlock's rule is safe for everybody. */
#define FENCE_LEAST_MS 300u

#define SANLOCK_DEFAULT_T 10u

static bool is_same(const struct hf_lease_slot *a, const struct hf_lease_slot *b)
{
	const struct hf_lease_extra *x = &a->extra, *y = &b->extra;

	return a->owner == b->owner && a->generation == b->generation &&
	       a->timestamp_s == b->timestamp_s && a->io_timeout_s == b->io_timeout_s &&
	       memcmp(a->host_name, b->host_name, sizeof(a->host_name)) == 0 &&
	       x->is_present == y->is_present && x->instance == y->instance &&
	       x->sequence == y->sequence && x->renew_ms == y->renew_ms &&
	       x->fence_ms == y->fence_ms;
}

static bool is_same_life(const struct hf_lease_slot *a, const struct hf_lease_slot *b)
{
	return a->owner == b->owner && a->generation == b->generation && b->timestamp_s &&
	       a->extra.is_present == b->extra.is_present && a->extra.instance == b->extra.instance;
}

void hf_lease_sight_update(struct hf_lease_sight *s, const struct hf_lease_slot *slot,
			   uint64_t issued_ns, uint64_t done_ns)
{
	assert(issued_ns <= done_ns);
	if (s->is_seen && issued_ns < s->issued_ns)
		return;
	if (!s->is_seen || s->slot.generation != slot->generation)
		s->joined_ns = done_ns;
	if (!s->is_seen || !is_same(&s->slot, slot)) {
		/* A last renewal may show, or land, once more; but not twice, and not of another life. */
		if (s->issued_ns > s->fenced_ns || !is_same_life(&s->slot, slot))
			s->fenced_ns = 0;
		s->slot = *slot;
		s->is_seen = true;
		s->first_seen_ns = done_ns;
	}
	s->issued_ns = issued_ns;
}

static bool is_named(const struct hf_lease_slot *slot, const char *name)
{
	for (unsigned int i = 0; i < HF_LEASE_NAME_BYTES; i++) {
		if (slot->host_name[i] != name[i])
			return false;
		if (!name[i])
			break;
	}
	return true;
}

enum hf_lease_fencing hf_lease_sight_fenced(struct hf_lease_sight *s, const char *name,
					    uint64_t not_before_ns, uint64_t told_ns)
{
	assert(not_before_ns <= told_ns);
	if (!s->is_seen || !s->slot.timestamp_s)
		return HF_LEASE_FENCING_NO_HOST;
	if (!is_named(&s->slot, name))
		return HF_LEASE_FENCING_OTHER_NAME;
	if (!s->slot.extra.is_present)
		return HF_LEASE_FENCING_FOREIGN;
	if (s->joined_ns >= not_before_ns)
		return HF_LEASE_FENCING_TOO_NEW;
	s->fenced_ns = told_ns;
	return HF_LEASE_FENCING_TAKEN;
}

bool hf_lease_is_fenced(const struct hf_lease_sight *s, uint64_t owner, uint64_t generation)
{
	return s->is_seen && s->fenced_ns && s->slot.owner == owner &&
	       s->slot.generation == generation;
}

uint64_t hf_lease_dead_after_ns(const struct hf_lease_slot *slot)
{
	uint64_t fence_ms = slot->extra.fence_ms;
	uint64_t t = slot->io_timeout_s ? slot->io_timeout_s : SANLOCK_DEFAULT_T;

	if (!slot->extra.is_present || fence_ms < FENCE_LEAST_MS)
		return HF_LEASE_SANLOCK_DEAD_S(t) * S_NS;
	return (fence_ms + fence_ms / CLOCK_RATES + DEAD_EXTRA_MS) * MS_NS;
}

static bool is_over(const struct hf_lease_sight *s, uint64_t begun_ns)
{
	return s->issued_ns > begun_ns &&
	       s->issued_ns - begun_ns >= hf_lease_dead_after_ns(&s->slot);
}

/*
 * A late write can put an older generation back into the slot, also that of a host that had left: it
 * says nothing about a later generation but that this has not been renewed since.
 *
 * A later generation is at first only a claim, which a host that had been found dead may not have read
 * yet. When the claim counts, that one has, or has run out. (sanlock's hosts take it at once.)
 */
static bool is_gone(const struct hf_lease_sight *s, uint64_t owner, uint64_t generation)
{
	const struct hf_lease_slot *slot = &s->slot;

	if (slot->timestamp_s && slot->owner != owner)
		return true;
	if (slot->generation > generation)
		return !slot->extra.is_present || is_over(s, s->joined_ns);
	return slot->generation == generation && !slot->timestamp_s;
}

enum hf_lease_life hf_lease_life(const struct hf_lease_sight *s, uint64_t owner,
				 uint64_t generation, uint64_t since_ns)
{
	if (!s->is_seen || s->issued_ns < since_ns)
		return HF_LEASE_LIFE_UNKNOWN;
	if (is_gone(s, owner, generation))
		return HF_LEASE_LIFE_GONE;
	if (is_over(s, s->first_seen_ns))
		return HF_LEASE_LIFE_DEAD;
	if (hf_lease_is_fenced(s, owner, generation) && s->issued_ns > s->fenced_ns)
		return HF_LEASE_LIFE_DEAD;
	return HF_LEASE_LIFE_ALIVE;
}

const char *hf_lease_fencing_text(enum hf_lease_fencing fencing)
{
	switch (fencing) {
	case HF_LEASE_FENCING_TAKEN:
		return "its leases may be taken over";
	case HF_LEASE_FENCING_OTHER_NAME:
		return "its place in the lockspace is another host's";
	case HF_LEASE_FENCING_NO_HOST:
		return "it is no member of the lockspace, as far as was seen";
	case HF_LEASE_FENCING_TOO_NEW:
		return "it may have joined the lockspace after that";
	case HF_LEASE_FENCING_FOREIGN:
		return "it is a sanlock host, for which only time counts";
	}
	return "?";
}

const char *hf_lease_life_name(enum hf_lease_life life)
{
	switch (life) {
	case HF_LEASE_LIFE_UNKNOWN:
		return "unknown";
	case HF_LEASE_LIFE_ALIVE:
		return "alive";
	case HF_LEASE_LIFE_DEAD:
		return "dead";
	case HF_LEASE_LIFE_GONE:
		return "gone";
	}
	return "?";
}

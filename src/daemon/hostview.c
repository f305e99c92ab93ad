/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hostview.h"

#include <unistd.h>

#include "codec/json.h"
#include "daemon/membership.h"
#include "daemon/peers.h"
#include "daemon/vms.h"

#define MS 1000000ull

/* ---- this host ---- */

/* Negative: over for so long. */
static int64_t valid_ms(const struct hf_daemon *d)
{
	struct hf_lease_state s;
	uint64_t now_ns = hf_now_ns();

	if (!d->page || !hf_lease_page_read(d->page, &s) || s.valid_ns == 0)
		return 0;
	return s.valid_ns >= now_ns ? (int64_t)((s.valid_ns - now_ns) / MS)
				    : -(int64_t)((now_ns - s.valid_ns) / MS);
}

static const char *storage(const struct hf_daemon *d)
{
	const struct hf_member_status *s = &d->status;
	uint64_t waits_ns = s->io_since_ns ? hf_now_ns() - s->io_since_ns : 0;

	if (!d->conf.area)
		return "none";
	if (!d->member || waits_ns > d->conf.fence_ns)
		return "unreachable";
	if (s->error.text[0] && !hf_membership_is_valid(d))
		return "unreachable";
	return waits_ns > 2 * d->conf.renew_ns || s->error.text[0] ? "slow" : "ok";
}

static void add_profile(struct json_object *o, const struct hf_hostconf *c)
{
	struct json_object *p = json_object_new_object();

	hf_json_add_u64(p, "io_timeout_ms", c->io_timeout_ns / MS);
	hf_json_add_u64(p, "renew_ms", c->renew_ns / MS);
	hf_json_add_u64(p, "fence_ms", c->fence_ns / MS);
	hf_json_add_u64(p, "stop_ms", c->stop_ns / MS);
	json_object_object_add(o, "profile", p);
}

static void add_membership(struct json_object *o, const struct hf_daemon *d)
{
	const struct hf_member_status *s = &d->status;
	char why[HF_ERR_MAX] = "";

	if (!hf_membership_is_valid(d))
		(void)hf_membership_reason(d, why, sizeof(why));
	hf_json_add_str(o, "state",
			d->member      ? hf_host_state_name(s->state)
			: d->conf.area ? "no-storage"
				       : "no-lockspace");
	hf_json_add_bool(o, "valid", why[0] == '\0');
	hf_json_add_str(o, "why", why);
	hf_json_add_u64(o, "generation", s->generation);
	hf_json_add_u64(o, "tenure", s->tenure);
	json_object_object_add(o, "valid_ms", json_object_new_int64(valid_ms(d)));
	hf_json_add_u64(o, "renewals", s->renewals);
	hf_json_add_u64(o, "io_errors", s->failures);
	hf_json_add_u64(o, "io_ns", s->last_io_ns);
	hf_json_add_u64(o, "io_max_ns", s->max_io_ns);
	hf_json_add_str(o, "storage", storage(d));
	hf_json_add_str(o, "error", d->member ? s->error.text : d->trouble);
}

struct json_object *hf_hostview_status(const struct hf_daemon *d)
{
	struct json_object *o = json_object_new_object();
	struct json_object *peers = hf_peers_view(d);

	hf_json_add_str(o, "host", d->conf.name);
	hf_json_add_u64(o, "host_id", d->conf.id);
	hf_json_add_str(o, "lockspace", d->conf.lockspace);
	hf_json_add_str(o, "area", d->conf.area ? d->conf.area : "");
	add_membership(o, d);
	json_object_object_add(o, "watchdog",
			       d->conf.watchdog ? json_object_new_string(d->conf.watchdog) : NULL);
	hf_json_add_u64(o, "held", d->held.count);
	hf_json_add_u64(o, "vms", d->vms->n);
	add_profile(o, &d->conf);
	hf_json_add_str(o, "version", HF_VERSION);
	json_object_object_add(o, "pid", json_object_new_int64(getpid()));
	if (peers)
		json_object_object_add(o, "peers", peers);
	return o;
}

/* ---- the hosts ---- */

static struct json_object *host(const struct hf_daemon *d, uint64_t id,
				const struct hf_lease_sight *s)
{
	struct json_object *o = json_object_new_object();
	bool is_free = s->slot.timestamp_s == 0;
	uint64_t now_ns = hf_now_ns();

	hf_json_add_u64(o, "host_id", id);
	hf_json_add_str(o, "host", s->slot.host_name);
	hf_json_add_str(o, "life",
			hf_lease_life_name(is_free ? HF_LEASE_LIFE_GONE
						   : hf_lease_life(s, id, s->slot.generation, 0)));
	hf_json_add_u64(o, "generation", s->slot.generation);
	hf_json_add_u64(o, "age_ms",
			now_ns > s->first_seen_ns ? (now_ns - s->first_seen_ns) / MS : 0);
	hf_json_add_u64(o, "dead_after_ms", hf_lease_dead_after_ns(&s->slot) / MS);
	hf_json_add_str(o, "kind", s->slot.extra.is_present ? "holdfast" : "sanlock");
	hf_json_add_bool(o, "self", id == d->conf.id);
	return o;
}

struct json_object *hf_hostview_hosts(const struct hf_daemon *d)
{
	struct json_object *all = json_object_new_array();
	uint32_t max = d->member ? hf_member_geometry(d->member)->max_hosts : 0;

	for (uint64_t id = 1; id <= max; id++) {
		const struct hf_lease_sight *s = hf_member_sight(d->member, id);

		if (s && s->is_seen && (s->slot.timestamp_s || s->slot.generation))
			json_object_array_add(all, host(d, id, s));
	}
	return all;
}

/* ---- leases ---- */

static void add_owner(struct json_object *o, const struct hf_daemon *d, uint64_t owner,
		      uint64_t generation, const char *life_key)
{
	hf_json_add_u64(o, "owner_id", owner);
	hf_json_add_str(o, "owner", hf_membership_host_name(d, owner));
	hf_json_add_u64(o, "generation", generation);
	hf_json_add_str(o, life_key, hf_lease_life_name(hf_membership_life(d, owner, generation)));
}

struct json_object *hf_hostview_owner(const struct hf_daemon *d,
				      const struct hf_work_result *result)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "lver", result->lver);
	add_owner(o, d, result->owner, result->generation, "life");
	return o;
}

struct json_object *hf_hostview_self(const struct hf_daemon *d, uint64_t lver)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "lver", lver);
	add_owner(o, d, d->conf.id, d->status.generation, "life");
	return o;
}

static void add_held(struct json_object *o, const struct hf_held *h)
{
	struct json_object *pids = json_object_new_array();

	for (unsigned int i = 0; h && i < h->n_pids; i++)
		if (h->pids[i].fd >= 0)
			json_object_array_add(pids, json_object_new_int64(h->pids[i].pid));
	hf_json_add_bool(o, "held", h != NULL);
	json_object_object_add(o, "pids", pids);
	hf_json_add_bool(o, "pledged", h && h->is_pledged);
}

/* @timestamp_s: 0: nobody owns it */
static struct json_object *lease(const struct hf_daemon *d, const char *vm, uint64_t offset,
				 const struct hf_lease_leader *l)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_str(o, "vm", vm);
	hf_json_add_u64(o, "offset", offset);
	hf_json_add_u64(o, "lver", l->lver);
	add_owner(o, d, l->owner, l->generation, "owner_life");
	hf_json_add_bool(o, "free", l->timestamp_s == 0);
	add_held(o, hf_held_find(&d->held, vm));
	return o;
}

struct json_object *hf_hostview_lease(const struct hf_daemon *d, const char *vm,
				      const struct hf_work_result *result)
{
	const struct hf_lease_leader l = { .owner = result->owner,
					   .generation = result->generation,
					   .lver = result->lver,
					   .timestamp_s = result->timestamp_s };

	return lease(d, vm, result->offset, &l);
}

struct json_object *hf_hostview_leases(const struct hf_daemon *d,
				       const struct hf_survey_result *all)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < all->n; i++) {
		const struct hf_survey_lease *l = &all->leases[i];
		struct json_object *o;

		if (l->r == 0) {
			o = lease(d, l->name, l->offset, &l->leader);
		} else {
			o = json_object_new_object();
			hf_json_add_str(o, "vm", l->name);
			hf_json_add_u64(o, "offset", l->offset);
			hf_json_add_str(o, "error", l->error);
		}
		json_object_array_add(list, o);
	}
	return list;
}

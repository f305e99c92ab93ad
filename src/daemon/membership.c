/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/membership.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "daemon/jobs.h"
#include "daemon/survey.h"
#include "daemon/takeover.h"
#include "sys/fd.h"

#define SECOND 1000000000ull
#define RETRY_NS SECOND
#define TAKEN_RETRY_NS (5 * SECOND)
#define WORKERS 4
#define END_PATIENCE_MS 3000

static void begin_later(struct hf_daemon *d, uint64_t after_ns);

static struct json_object *about_host(const struct hf_daemon *d, uint64_t id)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "host_id", json_object_new_uint64(id));
	json_object_object_add(o, "host_name",
			       json_object_new_string(hf_membership_host_name(d, id)));
	return o;
}

/* ---- the others ---- */

const char *hf_membership_host_name(const struct hf_daemon *d, uint64_t id)
{
	const struct hf_lease_sight *s;

	if (!d->member || id < 1 || id > hf_member_geometry(d->member)->max_hosts)
		return "";
	s = hf_member_sight(d->member, id);
	return s && s->is_seen ? s->slot.host_name : "";
}

enum hf_lease_life hf_membership_life(const struct hf_daemon *d, uint64_t id, uint64_t generation)
{
	const struct hf_lease_sight *s;

	if (!d->member || id < 1 || id > hf_member_geometry(d->member)->max_hosts)
		return HF_LEASE_LIFE_UNKNOWN;
	s = hf_member_sight(d->member, id);
	return s ? hf_lease_life(s, id, generation, 0) : HF_LEASE_LIFE_UNKNOWN;
}

bool hf_membership_is_member(const struct hf_daemon *d, uint64_t id, uint64_t generation)
{
	return hf_membership_life(d, id, generation) == HF_LEASE_LIFE_ALIVE &&
	       hf_member_sight(d->member, id)->slot.generation == generation;
}

uint64_t hf_membership_find_host(const struct hf_daemon *d, const char *name)
{
	uint32_t max = d->member ? hf_member_geometry(d->member)->max_hosts : 0;
	char *end;
	unsigned long id = strtoul(name, &end, 10);

	if (*end == '\0' && id >= 1 && id <= max)
		return id;
	for (uint64_t i = 1; i <= max; i++)
		if (strcmp(hf_membership_host_name(d, i), name) == 0)
			return i;
	return 0;
}

/* Of an id that it had before the slot is free, or another's. */
enum hf_lease_fencing hf_membership_fenced(struct hf_daemon *d, const char *name,
					   uint64_t not_before_ns, uint64_t told_ns)
{
	uint32_t max = d->member ? hf_member_geometry(d->member)->max_hosts : 0;
	enum hf_lease_fencing best = HF_LEASE_FENCING_NO_HOST;

	for (uint64_t id = 1; id <= max; id++) {
		enum hf_lease_fencing one;

		if (id == d->conf.id || strcmp(hf_membership_host_name(d, id), name) != 0)
			continue;
		one = hf_member_fenced(d->member, id, name, not_before_ns, told_ns);
		if (best == HF_LEASE_FENCING_NO_HOST || one == HF_LEASE_FENCING_TAKEN)
			best = one;
	}
	if (best == HF_LEASE_FENCING_TAKEN)
		hf_takeover_look(d->takeover);
	return best;
}

bool hf_membership_is_fenced(const struct hf_daemon *d, uint64_t id, uint64_t generation)
{
	if (!d->member || id < 1 || id > hf_member_geometry(d->member)->max_hosts)
		return false;
	return hf_lease_is_fenced(hf_member_sight(d->member, id), id, generation);
}

static void tell_neighbour(struct hf_daemon *d, uint64_t id, const struct hf_neighbour *old,
			   const struct hf_neighbour *new)
{
	static const struct {
		const char *event;
		const char *text;
	} words[] = {
		[HF_LEASE_LIFE_ALIVE] = { "host-alive", "is there" },
		[HF_LEASE_LIFE_DEAD] = { "host-dead", "is dead: it has not renewed in time" },
		[HF_LEASE_LIFE_GONE] = { "host-left", "has left" },
	};
	struct json_object *details;
	const char *text = words[new->life].text;

	/* What was there before we were is no news. */
	if (old->life == HF_LEASE_LIFE_UNKNOWN && new->life != HF_LEASE_LIFE_DEAD)
		return;
	if (new->life == HF_LEASE_LIFE_UNKNOWN)
		return;
	if (new->life == HF_LEASE_LIFE_DEAD && hf_membership_is_fenced(d, id, new->generation))
		text = "is dead: it was fenced";
	details = about_host(d, id);
	json_object_object_add(details, "generation", json_object_new_uint64(new->generation));
	hf_event(&d->journal, words[new->life].event, details, "host %s (%d) %s",
		 hf_membership_host_name(d, id), (int)id, text);
}

/* True: what it ran may have to be run by others. */
static bool look_at_neighbour(struct hf_daemon *d, uint64_t id)
{
	const struct hf_lease_sight *s = hf_member_sight(d->member, id);
	struct hf_neighbour *known = &d->neighbours[id];
	struct hf_neighbour now;
	struct hf_neighbour old = *known;

	if (!s || !s->is_seen || id == d->conf.id)
		return false;
	now.generation = s->slot.generation;
	now.life = s->slot.timestamp_s == 0 ? HF_LEASE_LIFE_GONE
					    : hf_lease_life(s, id, s->slot.generation, 0);
	if (now.life == known->life && now.generation == known->generation)
		return false;
	*known = now;
	tell_neighbour(d, id, &old, &now);
	return now.life == HF_LEASE_LIFE_DEAD || now.life == HF_LEASE_LIFE_GONE ||
	       now.generation != old.generation;
}

static void look_at_neighbours(struct hf_daemon *d)
{
	uint32_t max = hf_member_geometry(d->member)->max_hosts;
	bool is_news = false;

	for (uint64_t id = 1; id <= max && id <= HF_LEASE_HOSTS_MAX; id++)
		is_news |= look_at_neighbour(d, id);
	if (is_news)
		hf_takeover_look(d->takeover);
}

static void look_for_requests(struct hf_daemon *d)
{
	uint64_t from;

	while (hf_member_take_request(d->member, &from))
		d->is_scan_wanted = true;
	if (d->is_scan_wanted && d->held.first)
		hf_jobs_look_for_requests(d);
}

/* ---- this host ---- */

bool hf_membership_is_valid(const struct hf_daemon *d)
{
	return d->page && d->member && d->status.state == HF_HOST_MEMBER &&
	       hf_lease_page_is_valid(d->page, d->status.tenure);
}

bool hf_membership_is_used(const struct hf_daemon *d)
{
	return d->held.first || (d->page && hf_lease_page_is_used(d->page));
}

const char *hf_membership_reason(const struct hf_daemon *d, char *buf, size_t size)
{
	const struct hf_member_status *s = &d->status;

	if (!d->conf.area)
		(void)snprintf(buf, size, "this host has no lease area: none is configured");
	else if (!d->member)
		(void)snprintf(buf, size, "the lease area cannot be opened: %s", d->trouble);
	else if (s->state == HF_HOST_LOST)
		(void)snprintf(buf, size, "this host has lost its place in the lockspace: %s",
			       hf_host_why_text(s->why));
	else if (s->error.text[0] && !hf_membership_is_valid(d))
		(void)snprintf(buf, size, "this host's lease is not valid (%s): %s",
			       hf_host_state_name(s->state), s->error.text);
	else
		(void)snprintf(buf, size, "this host's lease is not valid (%s)",
			       hf_host_state_name(s->state));
	return buf;
}

/* After a new generation nothing that was held before is this host's any more. */
static void forget_old(struct hf_daemon *d)
{
	struct hf_held *next;

	for (struct hf_held *h = d->held.first; h; h = next) {
		next = h->next;
		/* What a holder has just told us of is looked up by itself. */
		if (h->generation != d->status.generation && !(h->conn && h->is_unverified))
			hf_jobs_lost(d, h, "this host has joined anew");
	}
}

static void tell_valid(struct hf_daemon *d)
{
	struct json_object *o = json_object_new_object();
	const char *event = "valid";
	const char *text = "this host's lease is valid again";

	json_object_object_add(o, "generation", json_object_new_uint64(d->status.generation));
	json_object_object_add(o, "tenure", json_object_new_uint64(d->status.tenure));
	if (d->generation != d->status.generation) {
		event = "joined";
		text = "this host is a member of the lockspace";
	}
	d->generation = d->status.generation;
	hf_event(&d->journal, event, o, "%s", text);
}

static void tell_invalid(struct hf_daemon *d)
{
	char reason[HF_ERR_MAX];

	if (d->status.state == HF_HOST_LOST)
		hf_event(&d->journal, "lost", NULL, "%s",
			 hf_membership_reason(d, reason, sizeof(reason)));
	else
		hf_event(&d->journal, "expired", NULL,
			 "this host's lease was not renewed in time%s%s",
			 d->status.error.text[0] ? ": " : "", d->status.error.text);
}

static void on_deadline(void *ctx);

static void look_at_validity(struct hf_daemon *d)
{
	bool was_valid = d->is_valid;

	d->is_valid = hf_membership_is_valid(d);
	/* A little later, so that it has really passed. */
	hf_timer_set(&d->valid_timer, &d->loop,
		     d->is_valid ? d->status.valid_ns + 1000000 : UINT64_MAX, on_deadline, d);
	if (d->is_valid == was_valid)
		return;
	if (!d->is_valid) {
		tell_invalid(d);
		return;
	}
	tell_valid(d);
	forget_old(d);
	hf_jobs_check_orphans(d);
	hf_jobs_try_again(d);
	hf_takeover_look(d->takeover);
}

static void on_deadline(void *ctx)
{
	struct hf_daemon *d = ctx;

	hf_member_get_status(d->member, &d->status);
	look_at_validity(d);
}

/* It is over for this membership; with nothing running under it another one may be begun. */
static void look_at_end(struct hf_daemon *d)
{
	if (d->status.state == HF_HOST_LOST)
		begin_later(d, d->status.why == HF_HOST_WHY_TAKEN ? TAKEN_RETRY_NS : RETRY_NS);
}

static uint32_t always(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void member_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_daemon *d = ctx;
	enum hf_host_state before = d->status.state;

	(void)hf_member_dispatch(d->member);
	hf_member_get_status(d->member, &d->status);
	if (d->status.state != before) {
		hf_log(&d->journal, HF_LOG_DEBUG, "the host lease is now: %s",
		       hf_host_state_name(d->status.state));
		look_at_end(d);
	}
	if (d->status.state == HF_HOST_LOST && before != HF_HOST_LOST && !d->is_valid)
		tell_invalid(d);
	look_at_validity(d);
	hf_workshop_notice_sights(d->workshop);
	look_at_neighbours(d);
	look_for_requests(d);
}

static void work_due(void *ctx)
{
	struct hf_daemon *d = ctx;

	hf_workshop_dispatch(d->workshop);
}

/* The loop asks after each dispatch: whatever was started or went on meanwhile is seen here. */
static uint32_t workshop_wanted(void *ctx)
{
	struct hf_daemon *d = ctx;
	uint64_t at_ns = hf_workshop_next_ns(d->workshop);

	if (at_ns != d->work_at_ns)
		hf_timer_set(&d->work_timer, &d->loop, at_ns, work_due, d);
	d->work_at_ns = at_ns;
	return EPOLLIN;
}

static void workshop_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_daemon *d = ctx;

	d->work_at_ns = 0; /* a timer that has fired is to be set again */
	hf_workshop_dispatch(d->workshop);
}

/* ---- beginning ---- */

/* Opening may hang with the storage, so a thread does it; what it makes is the main loop's once that
 * has joined it. */
struct hf_starter {
	const struct hf_daemon *d; /* only what does not change */
	pthread_t thread;
	int done_fd;
	struct hf_watch watch;
	bool may_resume;
	struct hf_member *member;
	struct hf_workshop *workshop;
	int r;
	struct hf_err err;
};

static int start_member(struct hf_starter *s)
{
	const struct hf_hostconf *conf = &s->d->conf;
	struct hf_member_config config = {
		.path = conf->area,
		.space = conf->lockspace,
		.host = {
			.host_id = conf->id,
			.io_timeout_s = (uint32_t)(conf->io_timeout_ns / SECOND),
			.renew_ms = (uint32_t)(conf->renew_ns / 1000000),
			.fence_ms = (uint32_t)(conf->fence_ns / 1000000),
			.stop_ms = (uint32_t)(conf->stop_ns / 1000000),
		},
		.page = s->d->page,
		.may_resume = s->may_resume,
		.watchdog = conf->watchdog,
	};

	(void)snprintf(config.host.name, sizeof(config.host.name), "%s", conf->name);
	return hf_member_start(&config, &s->member, &s->err);
}

static int start_workshop(struct hf_starter *s)
{
	const struct hf_workshop_config config = {
		.path = s->d->conf.area,
		.space = s->d->conf.lockspace,
		.member = s->member,
		.page = s->d->page,
		.threads = WORKERS,
	};

	return hf_workshop_new(&config, &s->workshop, &s->err);
}

static void *starter_run(void *data)
{
	struct hf_starter *s = data;

	s->r = start_member(s);
	if (!s->r)
		s->r = start_workshop(s);
	(void)eventfd_write(s->done_fd, 1);
	return NULL;
}

static void starter_free(struct hf_starter *s)
{
	hf_watch_remove(&s->watch);
	hf_fd_close(&s->done_fd);
	free(s);
}

static int watch(struct hf_daemon *d)
{
	int r = hf_watch_add(&d->member_watch, &d->loop, hf_member_fd(d->member), HF_PRIORITY_VM,
			     always, member_ready, d);

	d->work_at_ns = UINT64_MAX;
	if (!r)
		r = hf_watch_add(&d->workshop_watch, &d->loop, hf_workshop_fd(d->workshop),
				 HF_PRIORITY_LINK, workshop_wanted, workshop_ready, d);
	return r;
}

static void end_now(struct hf_daemon *d)
{
	hf_log(&d->journal, HF_LOG_ERROR,
	       "the lease storage hangs, and this process with it: it ends now");
	_Exit(1);
}

/* The member and its workshop; @is_leaving: if nothing runs under the lease. */
static int stop_member(struct hf_daemon *d, bool is_leaving)
{
	int r = 0;

	hf_watch_remove(&d->member_watch);
	hf_watch_remove(&d->workshop_watch);
	hf_timer_set(&d->work_timer, &d->loop, UINT64_MAX, work_due, d);
	hf_timer_set(&d->valid_timer, &d->loop, UINT64_MAX, on_deadline, d);
	if (d->workshop)
		r = hf_workshop_free(d->workshop, END_PATIENCE_MS);
	d->workshop = NULL;
	if (!r && d->member)
		r = hf_member_stop(d->member, is_leaving && !hf_membership_is_used(d),
				   END_PATIENCE_MS); /* a last ballot may have been won just now */
	/* Else it is still there: stuck in the storage, or something has begun to run under it. */
	if (r != -ETIMEDOUT && r != -EBUSY)
		d->member = NULL;
	memset(&d->status, 0, sizeof(d->status));
	d->is_valid = false;
	return r;
}

static void no_storage(struct hf_daemon *d, const struct hf_starter *s)
{
	const char *text = s->err.text[0] ? s->err.text : strerror(-s->r);

	if (strcmp(text, d->trouble) != 0)
		hf_event(&d->journal, "no-storage", NULL, "the lease area cannot be opened: %s",
			 text);
	(void)snprintf(d->trouble, sizeof(d->trouble), "%s", text);
	begin_later(d, RETRY_NS);
}

static void starter_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_daemon *d = ctx;
	struct hf_starter *s = d->starter;

	(void)pthread_join(s->thread, NULL);
	d->starter = NULL;
	d->member = s->member;
	d->workshop = s->workshop;
	if (!s->r)
		s->r = watch(d);
	if (s->r < 0 && stop_member(d, /* is_leaving= */ false) < 0)
		end_now(d);
	if (s->r < 0)
		no_storage(d, s);
	else
		hf_member_get_status(d->member, &d->status);
	if (!s->r)
		d->trouble[0] = '\0';
	starter_free(s);
}

void hf_membership_begin(struct hf_daemon *d)
{
	struct hf_starter *s = d->conf.area ? calloc(1, sizeof(*s)) : NULL;
	int r = -ENOMEM;

	if (!d->conf.area)
		return;
	if (s) {
		s->d = d;
		s->may_resume = hf_lease_page_is_used(d->page);
		s->done_fd = eventfd(0, EFD_CLOEXEC);
		r = s->done_fd < 0 ? -errno
				   : hf_watch_add(&s->watch, &d->loop, s->done_fd, HF_PRIORITY_VM,
						  always, starter_ready, d);
	}
	if (!r)
		r = -pthread_create(&s->thread, NULL, starter_run, s);
	if (!r) {
		d->starter = s;
		return;
	}
	hf_log(&d->journal, HF_LOG_ERROR, "cannot open the lease area: %s", strerror(-r));
	if (s)
		starter_free(s);
	begin_later(d, RETRY_NS);
}

static void on_retry(void *ctx)
{
	struct hf_daemon *d = ctx;

	if (d->starter)
		return;
	if (!d->member) {
		hf_membership_begin(d);
		return;
	}
	/* Lost. What runs under the old lease has to end first; it does so by the page's deadline. */
	if (hf_membership_is_used(d) || d->jobs) {
		begin_later(d, RETRY_NS);
		return;
	}
	if (stop_member(d, /* is_leaving= */ false) < 0)
		end_now(d);
	hf_membership_begin(d);
}

static void begin_later(struct hf_daemon *d, uint64_t after_ns)
{
	hf_timer_set(&d->retry_timer, &d->loop, hf_now_ns() + after_ns, on_retry, d);
}

/* ---- the end ---- */

static int end_starter(struct hf_daemon *d)
{
	struct hf_starter *s = d->starter;
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += END_PATIENCE_MS / 1000;
	if (pthread_timedjoin_np(s->thread, NULL, &until) != 0)
		return -ETIMEDOUT;
	d->member = s->member;
	d->workshop = s->workshop;
	d->starter = NULL;
	starter_free(s);
	return 0;
}

int hf_membership_end(struct hf_daemon *d)
{
	bool is_leaving;

	hf_timer_fini(&d->retry_timer);
	if (d->starter && end_starter(d) < 0)
		return -ETIMEDOUT;
	if (!d->member)
		return 0;
	is_leaving = !hf_membership_is_used(d) && d->status.state != HF_HOST_LOST;
	if (!is_leaving && d->held.first)
		hf_log(&d->journal, HF_LOG_INFO,
		       "%u leases are held here: this host's place is kept for the next holdfastd, "
		       "which has to come before they run out",
		       d->held.count);
	else if (!is_leaving)
		hf_log(&d->journal, HF_LOG_INFO,
		       "something runs under this host's lease: its place is kept");
	return stop_member(d, is_leaving);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The main loop's side: opens, takes in what the renewal has read, and ends it. */
#include "lease/member.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "lease/member-internal.h"
#include "sys/fd.h"

#define MS_NS UINT64_C(1000000)
#define SLOT_BYTES 512u /* of a sector: the rest of a larger one is unused */
#define PROBE_BYTES ((size_t)4096)
#define STACK_BYTES ((size_t)512 * 1024)
#define TIMEOUT_MIN_MS 500u
#define LEAVING_GRACE_MS 200u

/* ---- the configuration ---- */

static int refuse(struct hf_err *err, const char *what, uint64_t value, const char *range)
{
	hf_err_set(err, "%s of %llu is not possible: %s", what, (unsigned long long)value, range);
	return -EINVAL;
}

static int check_config(const struct hf_member_config *c, struct hf_err *err)
{
	const struct hf_host_config *h = &c->host;

	if (h->host_id < 1 || h->host_id > HF_LEASE_HOSTS_MAX)
		return refuse(err, "a host id", h->host_id, "1 to 2000");
	if (h->io_timeout_s < 1 || h->io_timeout_s > 255)
		return refuse(err, "an I/O time-out in s", h->io_timeout_s, "1 to 255");
	if (h->renew_ms < 100 || h->renew_ms > 20000)
		return refuse(err, "a renewal interval in ms", h->renew_ms, "100 to 20000");
	if (h->fence_ms / 3 < h->renew_ms)
		return refuse(err, "a fence in ms", h->fence_ms, "three renewals at least");
	if (h->fence_ms >= 8000 * h->io_timeout_s)
		return refuse(err, "a fence in ms", h->fence_ms,
			      "less than 8 I/O time-outs, after which sanlock hosts take over");
	if (h->stop_ms >= h->fence_ms / 2)
		return refuse(err, "a stop time in ms", h->stop_ms, "less than half of the fence");
	if (h->name[0] == '\0' || strlen(c->space) > HF_LEASE_NAME_BYTES || c->space[0] == '\0') {
		hf_err_set(err, "a host and a lockspace need names of 1 to 48 bytes");
		return -EINVAL;
	}
	return 0;
}

/* ---- the area ---- */

static int open_store(struct hf_member *m, const struct hf_member_config *c, struct hf_err *err)
{
	/* A server that is silent has to leave time for another try, behind a new connection. */
	uint32_t patience_ms = (c->host.fence_ms - c->host.stop_ms) / 2;
	struct hf_store_config config = {
		.path = c->path,
		.timeout_ms = patience_ms > TIMEOUT_MIN_MS ? patience_ms : TIMEOUT_MIN_MS,
	};

	return hf_store_open(&config, &m->store, err);
}

/* What an area must be like for this host and this storage. */
static int check_geometry(const struct hf_member *m, const struct hf_member_config *c,
			  struct hf_err *err)
{
	const struct hf_lease_geometry *g = &m->geometry;

	if (g->sector_bytes % hf_store_sector_bytes(m->store) != 0) {
		hf_err_set(err, "a lockspace with sectors of %u bytes on storage with %u",
			   g->sector_bytes, hf_store_sector_bytes(m->store));
		return -EINVAL;
	}
	if (c->offset % g->align_bytes != 0)
		return refuse(err, "an offset", c->offset, "a multiple of the area's size");
	if (c->host.host_id > g->max_hosts) {
		hf_err_set(err, "host id %llu in a lockspace for %u hosts",
			   (unsigned long long)c->host.host_id, g->max_hosts);
		return -EINVAL;
	}
	return 0;
}

static int learn_geometry(struct hf_member *m, const struct hf_member_config *c, struct hf_err *err)
{
	uint32_t sector = hf_store_sector_bytes(m->store);
	uint8_t *probe = hf_store_buffer(m->store, PROBE_BYTES);
	struct hf_lease_slot first;
	int r;

	if (!probe)
		return -ENOMEM;
	if (c->offset % sector != 0)
		return refuse(err, "an offset", c->offset, "a multiple of the area's size");
	r = hf_store_read(m->store, probe, PROBE_BYTES, c->offset, err);
	if (r < 0)
		return r == -ERANGE ? -EBADMSG : r;
	if (hf_lease_identify(probe, PROBE_BYTES, &m->geometry) != HF_LEASE_KIND_LOCKSPACE ||
	    m->geometry.max_hosts == 0) {
		hf_err_set(err, "there is no lockspace (see holdfast lease init)");
		return -EBADMSG;
	}
	/* The name stands in every slot; the first one has been read. */
	r = hf_lease_slot_decode(probe, &m->geometry, 1, m->space, &first, err);
	return r < 0 ? r : check_geometry(m, c, err);
}

static int open_area(struct hf_member *m, const struct hf_member_config *c, struct hf_err *err)
{
	int r = open_store(m, c, err);

	if (r < 0)
		return r;
	r = learn_geometry(m, c, err);
	if (r < 0)
		hf_err_prefix(err, "%s, offset %llu", c->path, (unsigned long long)c->offset);
	return r;
}

/* ---- the page ---- */

static void remember_names(struct hf_member *m, const struct hf_member_config *c)
{
	struct hf_lease_state *s = &m->published;

	s->host_id = c->host.host_id;
	s->daemon_pid = (int32_t)getpid();
	memcpy(s->lockspace, m->space, sizeof(m->space));
	memcpy(s->host_name, c->host.name, sizeof(c->host.name));
}

/* The page's clock is CLOCK_MONOTONIC, the machine's CLOCK_BOOTTIME; the page knows what lay between
 * the two. */
static void resume(struct hf_member *m, const struct hf_lease_state *s)
{
	m->start.resume_generation = s->generation;
	m->start.resume_instance = s->instance;
	m->start.resume_tenure = s->tenure;
	m->start.resume_valid_ns = s->valid_ns ? s->valid_ns + s->asleep_ns : 0;
	m->start.resume_fence_ns = s->fence_ns ? s->fence_ns + s->asleep_ns : 0;
	m->now.valid_ns = s->valid_ns;
	m->now.fence_ns = s->fence_ns;
}

static int check_owner(const struct hf_member *m, const struct hf_member_config *c,
		       const struct hf_lease_state *s, struct hf_err *err)
{
	if (s->host_id == c->host.host_id && strcmp(s->host_name, c->host.name) == 0 &&
	    strcmp(s->lockspace, m->space) == 0)
		return 0;
	hf_err_set(
		err,
		"something runs under the lease of host %llu (%s) of lockspace %s: host %llu (%s) "
		"of lockspace %s cannot be joined before it has ended",
		(unsigned long long)s->host_id, s->host_name, s->lockspace,
		(unsigned long long)c->host.host_id, c->host.name, m->space);
	return -EINVAL;
}

/* Joins anew. Whoever had the last instance is dead: its slot need not be watched for long. It stays on
 * the page until there is another one, should this daemon end before. */
static void begin_anew(struct hf_member *m, const struct hf_lease_state *s)
{
	m->start.resume_instance = s->instance;
	m->published.instance = s->instance;
}

/* A page that is used and says nothing is one that nobody has become anything by. */
static int take_over_page(struct hf_member *m, const struct hf_member_config *c, struct hf_err *err)
{
	struct hf_lease_state s;
	int r = 0;

	m->page = c->page;
	m->start.kind = HF_HOST_START;
	(void)hf_lease_page_read(c->page, &s);
	if (c->may_resume && s.generation != 0) {
		r = check_owner(m, c, &s, err);
		m->published = s;
		resume(m, &s);
	} else {
		begin_anew(m, &s);
	}
	if (r < 0)
		return r;
	remember_names(m, c);
	hf_lease_page_publish(m->page, &m->published);
	return 0;
}

/* ---- starting ---- */

static int make_descriptors(struct hf_member *m)
{
	int *const fds[] = { &m->news_fd, &m->order_fd, &m->end_fd, &m->dog_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		*fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (*fds[i] < 0)
			return -errno;
	}
	return 0;
}

static int make_memory(struct hf_member *m)
{
	size_t n = (size_t)m->geometry.max_hosts + 1;
	bool is_there = true;

	for (unsigned int i = 0; i < HF_HANDOFF_PLACES; i++) {
		m->sweep[i].bytes = hf_store_buffer(m->store, m->geometry.align_bytes);
		is_there = is_there && m->sweep[i].bytes;
	}
	m->own = hf_store_buffer(m->store, PROBE_BYTES);
	m->sights = calloc(n, sizeof(*m->sights));
	m->last = calloc(n, SLOT_BYTES);
	m->is_damaged = calloc(n, sizeof(*m->is_damaged));
	m->has_asked = calloc(n, sizeof(*m->has_asked));
	m->request_until_ns = calloc(n, sizeof(*m->request_until_ns));
	return is_there && m->own && m->sights && m->last && m->is_damaged && m->has_asked &&
			       m->request_until_ns
		       ? 0
		       : -ENOMEM;
}

static int start_thread(pthread_t *ret, void *(*body)(void *), struct hf_member *m)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return -r;
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* they are the main loop's */
	r = pthread_create(ret, &attr, body, m);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return -r;
}

static void end_watching(struct hf_member *m)
{
	if (!m->dog)
		return;
	atomic_store(&m->is_dog_over, true);
	hf_member_signal(m->dog_fd);
	(void)pthread_join(m->dog_thread, NULL);
}

static int start_threads(struct hf_member *m)
{
	int r = m->dog ? start_thread(&m->dog_thread, hf_member_watch, m) : 0;

	if (r < 0) {
		hf_watchdog_close(m->dog, true);
		m->dog = NULL;
		return r;
	}
	r = start_thread(&m->thread, hf_member_renew, m);
	if (r < 0)
		end_watching(m);
	return r;
}

static int open_watchdog(struct hf_member *m, const struct hf_member_config *c, struct hf_err *err)
{
	uint64_t fence_ns = m->start.resume_generation ? m->published.fence_ns : 0;
	int r;

	if (!c->watchdog)
		return 0;
	r = hf_watchdog_open(c->watchdog, c->host.fence_ms, fence_ns, NULL, NULL, &m->dog, err);
	if (r == 0)
		m->now.watchdog_s = hf_watchdog_timeout_s(m->dog);
	return r;
}

/* Not all zero, which would be none. */
static uint64_t random_instance(void)
{
	uint64_t n = 0;

	while (n == 0)
		if (getrandom(&n, sizeof(n), 0) != (ssize_t)sizeof(n))
			n = 0;
	return n;
}

static void init(struct hf_member *m, const struct hf_member_config *c)
{
	struct hf_host_config host = c->host;

	m->news_fd = m->order_fd = m->end_fd = m->dog_fd = -1;
	m->offset = c->offset;
	m->host_id = host.host_id;
	memcpy(m->space, c->space, strlen(c->space));
	if (host.instance == 0)
		host.instance = random_instance();
	hf_host_init(&m->host, &host);
	hf_handoff_init(&m->sweep_handoff);
	hf_handoff_init(&m->status_handoff);
	m->asleep_ns = hf_lease_page_asleep_ns();
	m->wake_ns = UINT64_MAX;
}

static void member_free(struct hf_member *m)
{
	hf_store_close(m->store);
	hf_fd_close(&m->news_fd);
	hf_fd_close(&m->order_fd);
	hf_fd_close(&m->end_fd);
	hf_fd_close(&m->dog_fd);
	free(m->sights);
	free(m->last);
	free(m->is_damaged);
	free(m->has_asked);
	free(m->request_until_ns);
	free(m);
}

/* The page changes hands when nothing can go wrong any more but a lack of threads. */
static int set_up(struct hf_member *m, const struct hf_member_config *c, struct hf_err *err)
{
	int r = open_area(m, c, err);

	if (r == 0)
		r = make_descriptors(m);
	if (r == 0)
		r = make_memory(m);
	if (r == 0)
		r = take_over_page(m, c, err);
	if (r == 0)
		r = open_watchdog(m, c, err);
	if (r == 0)
		r = start_threads(m);
	if ((r == -ENOMEM || r == -EMFILE || r == -EAGAIN) && err && err->text[0] == '\0')
		hf_err_set(err, "lockspace %s: %s", c->space, strerror(-r));
	return r;
}

int hf_member_start(const struct hf_member_config *config, struct hf_member **ret,
		    struct hf_err *err)
{
	struct hf_member *m;
	int r = check_config(config, err);

	if (r < 0)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	init(m, config);
	r = set_up(m, config, err);
	if (r < 0) {
		hf_watchdog_close(m->dog, !hf_lease_page_is_used(config->page));
		member_free(m);
	} else
		*ret = m;
	return r;
}

/* ---- what is new ---- */

int hf_member_fd(const struct hf_member *m)
{
	return m->news_fd;
}

const struct hf_lease_geometry *hf_member_geometry(const struct hf_member *m)
{
	return &m->geometry;
}

const struct hf_lease_sight *hf_member_sight(const struct hf_member *m, uint64_t host_id)
{
	assert(host_id >= 1 && host_id <= m->geometry.max_hosts);
	return &m->sights[host_id];
}

enum hf_lease_fencing hf_member_fenced(struct hf_member *m, uint64_t host_id, const char *name,
				       uint64_t not_before_ns, uint64_t told_ns)
{
	assert(host_id >= 1 && host_id <= m->geometry.max_hosts);
	return hf_lease_sight_fenced(&m->sights[host_id], name, not_before_ns, told_ns);
}

/* What is damaged shows nothing: that host is neither seen alive nor standing still. */
static void take_in_changed(struct hf_member *m, const struct hf_member_sweep *sweep,
			    const uint8_t *sector, uint64_t id)
{
	struct hf_lease_slot slot;

	m->is_damaged[id] = hf_lease_slot_decode(sector, &m->geometry, id, m->space, &slot, NULL) <
			    0;
	if (m->is_damaged[id])
		return;
	hf_lease_sight_update(&m->sights[id], &slot, sweep->issued_ns, sweep->done_ns);
	if (slot.timestamp_s != 0 && hf_lease_bitmap_has(sector, m->host_id))
		m->has_asked[id] = true;
}

/* Most of the slots are as they were: those are not decoded again. */
static void take_in_slot(struct hf_member *m, const struct hf_member_sweep *sweep, uint64_t id)
{
	const uint8_t *sector = sweep->bytes + hf_lease_slot_at(&m->geometry, id);
	uint8_t *last = m->last + id * SLOT_BYTES;
	struct hf_lease_sight *s = &m->sights[id];

	if (memcmp(sector, last, SLOT_BYTES) != 0) {
		memcpy(last, sector, SLOT_BYTES);
		take_in_changed(m, sweep, sector, id);
	} else if (s->is_seen && !m->is_damaged[id]) {
		const struct hf_lease_slot same = s->slot;

		hf_lease_sight_update(s, &same, sweep->issued_ns, sweep->done_ns);
	}
}

static void end_requests(struct hf_member *m)
{
	uint64_t now = hf_member_now_ns();

	for (uint64_t id = 1; id <= m->geometry.max_hosts; id++)
		if (m->request_until_ns[id] != 0 && now >= m->request_until_ns[id]) {
			m->request_until_ns[id] = 0;
			(void)atomic_fetch_and(&m->requests[(id - 1) / 64],
					       ~(UINT64_C(1) << ((id - 1) % 64)));
		}
}

int hf_member_dispatch(struct hf_member *m)
{
	enum hf_host_state was = m->told;

	hf_member_drain(m->news_fd);
	if (hf_handoff_take(&m->sweep_handoff))
		for (uint64_t id = 1; id <= m->geometry.max_hosts; id++)
			take_in_slot(m, &m->sweep[m->sweep_handoff.reads], id);
	(void)hf_handoff_take(&m->status_handoff);
	m->told = m->status[m->status_handoff.reads].state;
	end_requests(m);
	return m->told != was;
}

void hf_member_get_status(struct hf_member *m, struct hf_member_status *ret)
{
	(void)hf_handoff_take(&m->status_handoff);
	*ret = m->status[m->status_handoff.reads];
	ret->io_since_ns = atomic_load(&m->io_since_ns);
	ret->watchdog_error = atomic_load(&m->dog_error);
}

/* ---- requests ---- */

bool hf_member_take_request(struct hf_member *m, uint64_t *ret_host_id)
{
	for (uint64_t n = 0; n < m->geometry.max_hosts; n++) {
		m->asked_at = m->asked_at % m->geometry.max_hosts + 1;
		if (!m->has_asked[m->asked_at])
			continue;
		m->has_asked[m->asked_at] = false;
		*ret_host_id = m->asked_at;
		return true;
	}
	return false;
}

void hf_member_set_request(struct hf_member *m, uint64_t host_id, uint32_t for_ms)
{
	assert(host_id >= 1 && host_id <= m->geometry.max_hosts);
	m->request_until_ns[host_id] = hf_member_now_ns() + for_ms * MS_NS;
	(void)atomic_fetch_or(&m->requests[(host_id - 1) / 64], UINT64_C(1)
									<< ((host_id - 1) % 64));
}

/* ---- the end ---- */

static void order(struct hf_member *m, enum hf_member_order o)
{
	atomic_store(&m->order, (int)o);
	hf_member_signal(m->order_fd);
}

static bool has_ended(const struct hf_member *m, uint32_t patience_ms)
{
	struct pollfd p = { .fd = m->end_fd, .events = POLLIN };
	uint64_t until = hf_member_now_ns() + patience_ms * MS_NS, now;
	int r;

	do {
		now = hf_member_now_ns();
		r = poll(&p, 1, now < until ? (int)((until - now) / MS_NS) + 1 : 0);
	} while (r < 0 && errno == EINTR);
	return r > 0;
}

/* Nobody is to find in the page what has been given up. */
static int finish_leaving(struct hf_member *m)
{
	if (m->host.state != HF_HOST_OUT)
		return m->host.state == HF_HOST_LOST ? 0 : -EIO;
	m->published.generation = 0;
	m->published.instance = 0;
	m->published.valid_ns = 0;
	hf_lease_page_publish(m->page, &m->published);
	return 0;
}

int hf_member_stop(struct hf_member *m, bool is_leaving, uint32_t patience_ms)
{
	bool is_over;
	int r = 0;

	if (is_leaving && hf_lease_page_is_used(m->page))
		return -EBUSY;
	order(m, is_leaving ? HF_MEMBER_LEAVE : HF_MEMBER_STOP);
	is_over = has_ended(m, patience_ms);
	if (!is_over && is_leaving) {
		order(m, HF_MEMBER_STOP);
		is_over = has_ended(m, LEAVING_GRACE_MS);
	}
	if (!is_over)
		return -ETIMEDOUT;
	(void)pthread_join(m->thread, NULL);
	end_watching(m);
	if (is_leaving)
		r = finish_leaving(m);
	hf_watchdog_close(m->dog, !hf_lease_page_is_used(m->page));
	member_free(m);
	return r;
}

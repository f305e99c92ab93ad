/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The workshop itself: which operations there are, which may begin, and what comes next in each. */
#include "lease/work.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "lease/work-internal.h"

#define RETRY_NS 10000000ull /* after the first failure; then twice as long each time, up to */
#define RETRY_MAX_NS 1000000000ull
#define TIMEOUT_MS 5000u

/* ---- steps ---- */

void hf_work_io(struct hf_work *w, hf_work_run *run, hf_work_step *then)
{
	assert(w->state == HF_WORK_RUNNING && !w->is_io_out && w->wake_ns == UINT64_MAX);
	w->io.run = run;
	w->then = then;
	w->is_io_out = true;
	if (w->stuck_ns == 0)
		w->stuck_ns = hf_work_now_ns();
	hf_work_pool_put(w->shop, w);
}

void hf_work_wait(struct hf_work *w, uint64_t at_ns, hf_work_step *then)
{
	assert(w->state == HF_WORK_RUNNING && !w->is_io_out && w->wake_ns == UINT64_MAX);
	w->wake_ns = at_ns < UINT64_MAX ? at_ns : UINT64_MAX - 1;
	w->then = then;
	/* hf_workshop_next_ns() is asked after a dispatch. */
	if (!w->shop->is_dispatching)
		(void)eventfd_write(w->shop->event_fd, 1);
}

int hf_work_note_io(struct hf_work *w)
{
	bool may_be_late = w->io.may_be_late;

	w->io.is_guarded = false;
	w->io.may_be_late = false;
	if (w->io.r == 0) {
		w->failures = 0;
		w->stuck_ns = 0;
		w->trouble.text[0] = '\0';
		return 0;
	}
	w->failures++;
	w->trouble = w->io.err;
	if (w->trouble.text[0] == '\0')
		hf_err_set(&w->trouble, "%s: %s", w->shop->path, strerrordesc_np(-w->io.r));
	if (w->io.r == HF_STORE_UNSETTLED && !may_be_late)
		w->settle_ns = w->io.done_ns + HF_WORK_SETTLE_NS;
	return w->io.r;
}

uint64_t hf_work_retry_ns(const struct hf_work *w)
{
	unsigned int n = w->failures < 8 ? w->failures : 8;
	uint64_t pause_ns = RETRY_NS << n;
	uint64_t at = hf_work_now_ns() + (pause_ns < RETRY_MAX_NS ? pause_ns : RETRY_MAX_NS);

	return at > w->settle_ns ? at : w->settle_ns;
}

void hf_work_end(struct hf_work *w, int r, const struct hf_err *err)
{
	assert(w->state <= HF_WORK_RUNNING);
	assert(r <= 0);
	w->state = HF_WORK_ENDED;
	w->then = NULL;
	w->wake_ns = UINT64_MAX;
	w->is_balloting = false;
	w->result.r = r;
	w->result.offset = r == 0 || w->kind != HF_WORK_CREATE ? w->lease.offset : 0;
	w->result.duration_ns = hf_work_now_ns() - w->begun_ns;
	if (err)
		w->result.error = *err;
	if (!w->shop->is_dispatching)
		(void)eventfd_write(w->shop->event_fd, 1);
}

bool hf_work_enter_tenure(struct hf_work *w)
{
	struct hf_lease_state s;

	if (!hf_lease_page_read(w->shop->page, &s) || s.generation == 0 ||
	    !hf_lease_page_is_valid(w->shop->page, s.tenure))
		return false;
	if (w->generation != 0 && w->generation != s.generation)
		return false;
	w->asked.host_id = s.host_id;
	w->generation = s.generation;
	w->tenure = s.tenure;
	return true;
}

enum hf_lease_life hf_work_owner_life(const struct hf_work *w)
{
	const struct hf_lease_leader *l = &w->leader;

	if (l->owner == 0 || l->owner > w->shop->geometry.max_hosts)
		return HF_LEASE_LIFE_UNKNOWN;
	return hf_lease_life(hf_member_sight(w->shop->member, l->owner), l->owner, l->generation,
			     0);
}

/* ---- which may begin ---- */

/* Operations of the same one follow each other. NULL: it waits for nobody. */
static const char *queue_of(const struct hf_work *w)
{
	switch (w->kind) {
	case HF_WORK_BALLOT:
		return w->name;
	case HF_WORK_CREATE:
		return HF_LEASE_INDEX_LEASE_NAME;
	case HF_WORK_READ:
	case HF_WORK_REQUEST:
		break;
	}
	return NULL;
}

static bool is_first(const struct hf_work *w)
{
	const char *queue = queue_of(w);

	if (!queue)
		return true;
	for (const struct hf_work *x = w->shop->works; x != w; x = x->next) {
		const char *other = queue_of(x);

		if (other && strcmp(other, queue) == 0)
			return false;
	}
	return true;
}

static void begin(struct hf_work *w)
{
	static hf_work_step *const begin_kind[] = {
		[HF_WORK_BALLOT] = hf_work_begin_ballot,
		[HF_WORK_READ] = hf_work_begin_read,
		[HF_WORK_CREATE] = hf_work_begin_create,
		[HF_WORK_REQUEST] = hf_work_begin_request,
	};

	w->state = HF_WORK_RUNNING;
	begin_kind[w->kind](w);
}

static void begin_ready(struct hf_workshop *s)
{
	for (struct hf_work *w = s->works; w; w = w->next)
		if (w->state == HF_WORK_QUEUED && is_first(w))
			begin(w);
}

/* ---- one round ---- */

static void next_step(struct hf_work *w)
{
	hf_work_step *then = w->then;

	w->then = NULL;
	w->wake_ns = UINT64_MAX;
	then(w);
}

static void take_back(struct hf_workshop *s)
{
	struct hf_work *w;

	while ((w = hf_work_pool_take_back(s))) {
		w->is_io_out = false;
		if (w->state == HF_WORK_RUNNING)
			next_step(w);
		else
			(void)hf_work_note_io(w); /* cancelled; what it wrote has to settle */
	}
}

static void look_at_clock(struct hf_workshop *s)
{
	uint64_t now = hf_work_now_ns();

	for (struct hf_work *w = s->works; w; w = w->next)
		if (w->state == HF_WORK_RUNNING && w->wake_ns <= now)
			next_step(w);
}

static struct hf_work *find_ended(struct hf_workshop *s)
{
	struct hf_work *w = s->works;

	while (w && w->state != HF_WORK_ENDED)
		w = w->next;
	return w;
}

/* A callback may start and cancel others. */
static void call_back(struct hf_workshop *s)
{
	struct hf_work *w;

	while ((w = find_ended(s))) {
		w->state = HF_WORK_CALLED_BACK;
		w->done(w->ctx, &w->result);
	}
}

static void free_work(struct hf_work *w)
{
	free(w->blocks);
	free(w);
}

static bool is_over(const struct hf_work *w, uint64_t now)
{
	return w->state == HF_WORK_CALLED_BACK && !w->is_io_out && w->settle_ns <= now;
}

static void clean_up(struct hf_workshop *s)
{
	uint64_t now = hf_work_now_ns();

	for (struct hf_work **at = &s->works, *w; (w = *at);) {
		if (!is_over(w, now)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		s->n_works--;
		free_work(w);
	}
}

/* What begins may end at once, and callbacks may start more: until nothing is left to call. */
void hf_workshop_dispatch(struct hf_workshop *s)
{
	eventfd_t count;

	(void)eventfd_read(s->event_fd, &count);
	s->is_dispatching = true;
	take_back(s);
	look_at_clock(s);
	do {
		call_back(s);
		clean_up(s);
		begin_ready(s);
	} while (find_ended(s));
	s->is_dispatching = false;
}

void hf_workshop_notice_sights(struct hf_workshop *s)
{
	for (struct hf_work *w = s->works; w; w = w->next)
		if (w->state == HF_WORK_RUNNING)
			hf_work_ballot_notice(w);
}

uint64_t hf_workshop_next_ns(const struct hf_workshop *s)
{
	uint64_t next = UINT64_MAX;

	for (const struct hf_work *w = s->works; w; w = w->next) {
		uint64_t at = w->wake_ns;

		if (w->state == HF_WORK_CALLED_BACK && !w->is_io_out)
			at = w->settle_ns;
		if (at < next)
			next = at;
	}
	return next;
}

int hf_workshop_fd(const struct hf_workshop *s)
{
	return s->event_fd;
}

/* ---- operations ---- */

static bool know_geometry(struct hf_workshop *s)
{
	const struct hf_lease_geometry *g;

	if (s->geometry.sector_bytes != 0)
		return true;
	g = hf_member_geometry(s->member);
	if (!g || g->sector_bytes == 0)
		return false;
	s->geometry = *g;
	s->hosts_hint = g->max_hosts;
	return true;
}

static bool is_host_valid(struct hf_workshop *s)
{
	struct hf_lease_state state;

	return hf_lease_page_read(s->page, &state) && state.generation != 0 &&
	       hf_lease_page_is_valid(s->page, state.tenure);
}

static int check_ref(const struct hf_workshop *s, const struct hf_lease_ref *lease)
{
	size_t n = strnlen(lease->name, sizeof(lease->name));

	if (n == 0 || n > HF_LEASE_NAME_BYTES)
		return -EINVAL;
	if (strcmp(lease->name, HF_LEASE_INDEX_LEASE_NAME) == 0)
		return -EINVAL;
	return lease->offset % s->geometry.align_bytes == 0 ? 0 : -EINVAL;
}

static int may_start(struct hf_workshop *s, enum hf_work_kind kind,
		     const struct hf_lease_ref *lease)
{
	if (s->is_ending || !know_geometry(s))
		return -ESHUTDOWN;
	if (kind != HF_WORK_READ && !is_host_valid(s))
		return -ESHUTDOWN;
	if (s->n_works >= HF_WORKS_MAX)
		return -EBUSY;
	return check_ref(s, lease);
}

static void append_work(struct hf_workshop *s, struct hf_work *w)
{
	struct hf_work **at = &s->works;

	while (*at)
		at = &(*at)->next;
	*at = w;
	s->n_works++;
}

static int new_work(struct hf_workshop *s, enum hf_work_kind kind, const struct hf_lease_ref *lease,
		    hf_work_done *done, void *ctx, struct hf_work **ret)
{
	int r = may_start(s, kind, lease);
	struct hf_work *w = r == 0 ? calloc(1, sizeof(*w)) : NULL;

	if (!w)
		return r < 0 ? r : -ENOMEM;
	w->shop = s;
	w->kind = kind;
	w->done = done;
	w->ctx = ctx;
	w->lease = *lease;
	memcpy(w->name, lease->name, sizeof(w->name));
	w->wake_ns = UINT64_MAX;
	w->begun_ns = hf_work_now_ns();
	*ret = w;
	return 0;
}

static void start(struct hf_work *w, struct hf_work **ret)
{
	append_work(w->shop, w);
	if (ret)
		*ret = w;
	if (is_first(w))
		begin(w);
}

static bool is_receiver(struct hf_workshop *s, const struct hf_ballot_want *want)
{
	struct hf_lease_state state;

	return want->to >= 1 && want->to <= s->geometry.max_hosts && want->to_generation != 0 &&
	       hf_lease_page_read(s->page, &state) && want->to != state.host_id;
}

int hf_work_start(struct hf_workshop *s, const struct hf_lease_ref *lease,
		  const struct hf_ballot_want *want, hf_work_done *done, void *ctx,
		  struct hf_work **ret)
{
	struct hf_work *w;
	int r = new_work(s, HF_WORK_BALLOT, lease, done, ctx, &w);

	if (r < 0)
		return r;
	if (want->op == HF_BALLOT_TRANSFER && !is_receiver(s, want)) {
		free_work(w);
		return -EINVAL;
	}
	w->asked = *want;
	start(w, ret);
	return 0;
}

int hf_work_read(struct hf_workshop *s, const struct hf_lease_ref *lease, hf_work_done *done,
		 void *ctx, struct hf_work **ret)
{
	struct hf_work *w;
	int r = new_work(s, HF_WORK_READ, lease, done, ctx, &w);

	if (r == 0)
		start(w, ret);
	return r;
}

int hf_work_create(struct hf_workshop *s, const char *name, hf_work_done *done, void *ctx,
		   struct hf_work **ret)
{
	struct hf_lease_ref lease = { .offset = 0 };
	struct hf_work *w;
	int r;

	if (strlen(name) > HF_LEASE_NAME_BYTES)
		return -EINVAL;
	memcpy(lease.name, name, strlen(name));
	r = new_work(s, HF_WORK_CREATE, &lease, done, ctx, &w);
	if (r == 0)
		start(w, ret);
	return r;
}

int hf_work_request(struct hf_workshop *s, const struct hf_lease_ref *lease,
		    enum hf_lease_force force, hf_work_done *done, void *ctx, struct hf_work **ret)
{
	struct hf_work *w;
	int r = new_work(s, HF_WORK_REQUEST, lease, done, ctx, &w);

	if (r < 0)
		return r;
	w->force = force;
	start(w, ret);
	return 0;
}

void hf_work_cancel(struct hf_work *w)
{
	if (w->state > HF_WORK_RUNNING || w->is_cancelled)
		return;
	w->is_cancelled = true;
	if (w->is_balloting)
		hf_work_ballot_cancel(w);
	else if (w->index_lver == 0) /* else it has to release the index first */
		hf_work_end(w, -ECANCELED, NULL);
}

uint64_t hf_work_stuck_since_ns(const struct hf_work *w)
{
	return w->stuck_ns;
}

const char *hf_work_trouble(const struct hf_work *w)
{
	return w->trouble.text;
}

/* ---- the workshop ---- */

static void free_shop(struct hf_workshop *s)
{
	while (s->works) {
		struct hf_work *w = s->works;

		s->works = w->next;
		free_work(w);
	}
	if (s->event_fd >= 0)
		(void)close(s->event_fd);
	free(s->path);
	free(s->space);
	free(s);
}

static int set_up(struct hf_workshop *s, const struct hf_workshop_config *config)
{
	struct hf_lease_state before;

	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event_fd < 0)
		return -errno;
	s->path = strdup(config->path);
	s->space = strdup(config->space);
	if (!s->path || !s->space)
		return -ENOMEM;
	s->member = config->member;
	s->page = config->page;
	s->offset = config->offset;
	s->timeout_ms = config->timeout_ms ? config->timeout_ms : TIMEOUT_MS;
	/* Who leaves in order takes its instance off the page. */
	if (!hf_lease_page_read(s->page, &before) || before.instance != 0)
		s->quiet_ns = hf_work_now_ns() + HF_WORK_SETTLE_NS;
	if (getrandom(&s->random, sizeof(s->random), 0) != (ssize_t)sizeof(s->random))
		return -EIO;
	s->random |= 1;
	return 0;
}

int hf_workshop_new(const struct hf_workshop_config *config, struct hf_workshop **ret,
		    struct hf_err *err)
{
	struct hf_workshop *s = calloc(1, sizeof(*s));
	int r;

	assert(config->member && config->page);
	if (!s)
		return -ENOMEM;
	s->event_fd = -1;
	r = config->threads >= 1 && config->threads <= HF_WORKERS_MAX ? set_up(s, config) : -EINVAL;
	if (r == 0)
		r = hf_work_pool_start(s, config->threads);
	if (r == 0) {
		*ret = s;
		return 0;
	}
	hf_err_set(err, "cannot make %u threads for operations on leases: %s", config->threads,
		   strerrordesc_np(-r));
	if (s->n_workers == 0 || hf_work_pool_stop(s, INT64_MAX) == 0)
		free_shop(s);
	return r;
}

static bool is_busy(const struct hf_workshop *s)
{
	for (const struct hf_work *w = s->works; w; w = w->next)
		if (w->state != HF_WORK_CALLED_BACK)
			return true;
	return false;
}

static void wait_until(const struct hf_workshop *s, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = s->event_fd, .events = POLLIN };
	uint64_t now = hf_work_now_ns(), next = hf_workshop_next_ns(s);

	if (next > deadline_ns)
		next = deadline_ns;
	(void)poll(&p, 1, next > now ? (int)((next - now) / 1000000u) + 1 : 0);
}

int hf_workshop_free(struct hf_workshop *s, uint32_t patience_ms)
{
	uint64_t deadline = hf_work_now_ns() + (uint64_t)patience_ms * 1000000u;
	int r;

	if (!s)
		return 0;
	s->is_ending = true;
	for (struct hf_work *w = s->works; w; w = w->next)
		hf_work_cancel(w);
	hf_workshop_dispatch(s);
	while (is_busy(s) && hf_work_now_ns() < deadline) {
		wait_until(s, deadline);
		hf_workshop_dispatch(s);
	}
	r = hf_work_pool_stop(s, deadline);
	if (r == 0)
		free_shop(s);
	return r;
}

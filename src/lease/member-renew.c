/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The renewal thread: carries out what core/hostlease.h says, one read or write at a time.
 *
 * It allocates nothing (NBD: what libnbd does), logs nothing, waits for nobody but the storage and
 * the clock. Its memory is locked and it has real-time priority, where that is permitted.
 *
 * Clocks. The machine runs on CLOCK_BOOTTIME, which goes on while the host sleeps: after a sleep it
 * finds its lease expired, as the others have. Deadlines on the page are CLOCK_MONOTONIC, with the
 * time slept as it was before the renewal's write was issued; a reader that finds another one knows
 * that the host has slept since, and that nothing is valid.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "lease/member-internal.h"

#define TOUCHED_BYTES 65536
#define MS_NS UINT64_C(1000000)
#define S_NS UINT64_C(1000000000)
#define POLL_MAX_MS 60000u

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * S_NS + (uint64_t)t.tv_nsec;
}

uint64_t hf_member_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

void hf_member_signal(int fd)
{
	const uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

void hf_member_drain(int fd)
{
	uint64_t n;

	(void)!read(fd, &n, sizeof(n));
}

/* ---- getting ready ---- */

static __attribute__((noinline)) void touch_stack(void)
{
	volatile char room[TOUCHED_BYTES];

	for (size_t i = 0; i < sizeof(room); i += 1024)
		room[i] = 0;
}

/* libnbd takes memory for each request: from an arena of this thread's own, which is to be there
 * before memory is locked. */
static void touch_heap(void)
{
	char *room = malloc(TOUCHED_BYTES);

	for (size_t i = 0; room && i < TOUCHED_BYTES; i += 1024)
		*(volatile char *)(room + i) = 0; /* or the compiler does without it all */
	free(room);
}

/* All that is mapped now, and not what the process maps later: with a limit on locked memory that
 * would make its allocations fail. */
static bool lock_memory(void)
{
	return mlockall(MCL_CURRENT) == 0;
}

static bool be_realtime(void)
{
	struct sched_param p = { .sched_priority = sched_get_priority_min(SCHED_RR) };

	return pthread_setschedparam(pthread_self(), SCHED_RR, &p) == 0;
}

static void get_ready(struct hf_member *m)
{
	(void)prctl(PR_SET_NAME, "lease-renewal");
	touch_stack();
	touch_heap();
	m->now.is_realtime = be_realtime();
	m->now.is_memory_locked = lock_memory();
}

/* ---- telling ---- */

static void tell_status(struct hf_member *m)
{
	m->now.state = m->host.state;
	m->now.why = m->host.why;
	m->now.generation = m->host.generation;
	m->now.tenure = m->host.tenure;
	m->status[m->status_handoff.writes] = m->now;
	hf_handoff_put(&m->status_handoff);
	if (m->host.state == m->signalled && m->now.failures == m->signalled_failures)
		return; /* a renewal like the last one: the sweep has woken it */
	m->signalled = m->host.state;
	m->signalled_failures = m->now.failures;
	hf_member_signal(m->news_fd);
}

/* The machine's clock to the page's. 0 stays what it is: never. */
static uint64_t to_page_clock(const struct hf_member *m, uint64_t at_ns)
{
	return at_ns > m->asleep_ns ? at_ns - m->asleep_ns : 0;
}

/* A renewal that the watchdog would outlast is not published: the next one will be. */
static void publish(struct hf_member *m, const struct hf_host_action *a)
{
	struct hf_lease_state *s = &m->published;

	s->valid_ns = to_page_clock(m, a->valid_ns);
	s->fence_ns = to_page_clock(m, a->fence_ns);
	if (m->dog && s->valid_ns > 0 && !hf_watchdog_may_publish(m->dog, s->fence_ns))
		return;
	s->generation = m->host.generation;
	s->instance = m->host.config.instance;
	s->tenure = m->host.tenure;
	s->asleep_ns = m->asleep_ns;
	hf_lease_page_publish(m->page, s);
	m->now.valid_ns = s->valid_ns;
	m->now.fence_ns = s->fence_ns;
	if (m->dog)
		hf_member_signal(m->dog_fd);
}

/* ---- input and output ---- */

static void begin_io(struct hf_member *m)
{
	atomic_store(&m->io_since_ns, hf_member_now_ns());
}

static void end_io(struct hf_member *m, int r, const struct hf_err *err)
{
	uint64_t took = hf_member_now_ns() - atomic_load(&m->io_since_ns);

	atomic_store(&m->io_since_ns, 0);
	m->now.last_io_ns = took;
	if (took > m->now.max_io_ns)
		m->now.max_io_ns = took;
	if (r != 0) {
		m->now.failures++;
		m->now.error = *err;
	}
}

/* Sees the own slot before the main loop gets the whole: that may be long after. */
static void look_at_own(struct hf_member *m, const struct hf_member_sweep *sweep,
			struct hf_host_event *ev)
{
	uint64_t id = m->host_id;
	struct hf_err err = { "" };
	int r = hf_lease_slot_decode(sweep->bytes + hf_lease_slot_at(&m->geometry, id),
				     &m->geometry, id, m->space, &ev->slot, &err);

	ev->is_slot_damaged = r < 0;
	if (r < 0) {
		hf_err_prefix(&err, "slot of host %llu", (unsigned long long)id);
		m->now.error = err;
	}
}

static void do_read(struct hf_member *m, struct hf_host_event *ev)
{
	struct hf_member_sweep *sweep = &m->sweep[m->sweep_handoff.writes];
	struct hf_err err = { "" };
	int r;

	begin_io(m);
	sweep->issued_ns = hf_member_now_ns();
	ev->issued_ns = boot_ns();
	r = hf_store_read(m->store, sweep->bytes,
			  (size_t)m->geometry.max_hosts * m->geometry.sector_bytes, m->offset,
			  &err);
	sweep->done_ns = hf_member_now_ns();
	end_io(m, r, &err);
	ev->kind = r == 0 ? HF_HOST_READ : HF_HOST_READ_FAILED;
	if (r != 0)
		return;
	look_at_own(m, sweep, ev);
	hf_handoff_put(&m->sweep_handoff);
	hf_member_signal(m->news_fd);
}

static void set_requests(struct hf_member *m)
{
	for (unsigned int w = 0; w < HF_MEMBER_REQUEST_WORDS; w++) {
		uint64_t bits = atomic_load(&m->requests[w]);

		for (uint64_t id = (uint64_t)w * 64 + 1; bits; bits >>= 1, id++)
			if (bits & 1)
				hf_lease_bitmap_set(m->own, id, true);
	}
}

static void do_write(struct hf_member *m, const struct hf_lease_slot *slot,
		     struct hf_host_event *ev)
{
	struct hf_err err = { "" };
	int r;

	memset(m->own, 0, m->geometry.sector_bytes);
	hf_lease_slot_encode(m->own, &m->geometry, slot, m->space);
	set_requests(m);
	begin_io(m);
	m->asleep_ns = hf_lease_page_asleep_ns();
	ev->issued_ns = boot_ns();
	r = hf_store_write(m->store, m->own, m->geometry.sector_bytes,
			   m->offset + hf_lease_slot_at(&m->geometry, slot->owner), &err);
	end_io(m, r, &err);
	ev->kind = r == 0 ? HF_HOST_WRITTEN : HF_HOST_WRITE_FAILED;
	ev->is_settled = r != HF_STORE_UNSETTLED;
	if (r == 0) {
		m->now.renewals++;
		m->now.error.text[0] = '\0';
	}
}

/* ---- the machine ---- */

static void stamp(struct hf_host_event *ev)
{
	ev->now_ns = boot_ns();
	ev->now_s = ev->now_ns / S_NS + 1;
}

/* All but I/O, of which there is one at most. */
static const struct hf_host_action *carry_out(struct hf_member *m, const struct hf_host_actions *a)
{
	const struct hf_host_action *io = NULL;

	for (unsigned int i = 0; i < a->n; i++) {
		switch (a->a[i].kind) {
		case HF_HOST_DO_READ:
		case HF_HOST_DO_WRITE:
			io = &a->a[i];
			break;
		case HF_HOST_DO_WAKE:
			m->wake_ns = a->a[i].at_ns;
			break;
		case HF_HOST_DO_PUBLISH:
			publish(m, &a->a[i]);
			break;
		case HF_HOST_DO_REPORT: /* the status is told after each step */
		default:
			break;
		}
	}
	return io;
}

/* An event, and all I/O that follows from it. Not even a stop interrupts a step: what was asked of the
 * storage has to come to its end. */
static void step(struct hf_member *m, struct hf_host_event *ev)
{
	const struct hf_host_action *io;
	struct hf_host_actions actions;

	for (;;) {
		stamp(ev);
		hf_host_step(&m->host, ev, &actions);
		io = carry_out(m, &actions);
		tell_status(m);
		if (!io || atomic_load(&m->order) == HF_MEMBER_STOP)
			return;
		*ev = (struct hf_host_event){ 0 };
		if (io->kind == HF_HOST_DO_READ)
			do_read(m, ev);
		else
			do_write(m, &io->slot, ev);
	}
}

/* Until the machine wants to be woken, or the main loop has an order. */
static void wait_for_time_or_order(struct hf_member *m)
{
	struct pollfd p = { .fd = m->order_fd, .events = POLLIN };
	uint64_t now = boot_ns();
	uint64_t ms = m->wake_ns <= now ? 0 : (m->wake_ns - now + MS_NS - 1) / MS_NS;

	if (poll(&p, 1, (int)(ms < POLL_MAX_MS ? ms : POLL_MAX_MS)) > 0)
		hf_member_drain(m->order_fd);
}

static bool is_over(const struct hf_member *m)
{
	return m->host.state == HF_HOST_OUT || m->host.state == HF_HOST_LOST;
}

void *hf_member_renew(void *member)
{
	struct hf_member *m = member;
	struct hf_host_event ev = m->start;
	bool is_leaving = false;
	int order;

	get_ready(m);
	step(m, &ev);
	while ((order = atomic_load(&m->order)) != HF_MEMBER_STOP) {
		if (is_leaving && is_over(m))
			break;
		if (order == HF_MEMBER_GO_ON || is_leaving)
			wait_for_time_or_order(m);
		if (boot_ns() >= m->wake_ns)
			m->wake_ns = UINT64_MAX;
		ev = (struct hf_host_event){ .kind = HF_HOST_WAKE };
		if (order == HF_MEMBER_LEAVE && !is_leaving) {
			ev.kind = HF_HOST_LEAVE;
			is_leaving = true;
		}
		step(m, &ev);
	}
	hf_member_signal(m->end_fd);
	return NULL;
}

/* ---- the watchdog's thread ---- */

static uint64_t view_now(void *member)
{
	(void)member;
	return hf_member_now_ns();
}

static bool view_is_used(void *member)
{
	const struct hf_member *m = member;

	return hf_lease_page_is_used(m->page);
}

void *hf_member_watch(void *member)
{
	struct hf_member *m = member;
	const struct hf_watchdog_view view = { view_now, view_is_used, m };
	struct pollfd p = { .fd = m->dog_fd, .events = POLLIN };
	struct hf_err err = { "" };

	(void)prctl(PR_SET_NAME, "lease-watchdog");
	(void)be_realtime();
	while (!atomic_load(&m->is_dog_over)) {
		atomic_store(&m->dog_error, hf_watchdog_tick(m->dog, &view, &err));
		/* An event comes after each renewal; without one a quarter of the least time-out. */
		if (poll(&p, 1, 250) > 0)
			hf_member_drain(m->dog_fd);
	}
	return NULL;
}

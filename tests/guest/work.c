/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Load, and the oracle of guest RAM. Theory of operation:
 *
 * The buffer's pages are written in one fixed order, a walk with a stride that meets every page
 * once per round and seldom two neighbours in a row. The one number written_pages therefore says
 * which generation each page must hold: a page that a failover lost, brought back old, or mixed up
 * is seen, even though the old page was a valid one. The order's number of a page and its
 * generation determine words 0, 1 and 511 (written each time); its index determines all other words
 * (written once, by "mem").
 *
 * One lock covers buffer and numbers. The dirtier takes it per batch; whoever else wants it counts
 * itself in waiters first, and the dirtier stands aside: a plain mutex would starve them.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "guest.h"
#include "pattern.h"

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / 8)
#define PAGES_PER_MIB ((1 << 20) / PAGE_BYTES)
#define BATCH_PAGES 64
#define SPIN_MAX 16
#define DEFAULT_MIB 64
#define RESERVE_MIB 24
#define RATE_MAX_PAGES_PER_MS 100000
#define MS_NS 1000000
/* Work that a stopped VM missed is not done later. */
#define BEHIND_MAX_NS (UINT64_C(100) * MS_NS)
/* Below the services (init.c); a pace must be kept beside threads that only compute. */
#define DIRTY_NICE -5
#define SPIN_NICE 15

static struct {
	pthread_mutex_t lock;
	pthread_cond_t is_changed;
	_Atomic int waiters;
	uint64_t *base;
	uint64_t pages;
	uint64_t stride;
	uint64_t seed;
	uint64_t written_pages;
	uint64_t rate_pages_per_ms;
	bool is_max;
} mem = { .lock = PTHREAD_MUTEX_INITIALIZER, .is_changed = PTHREAD_COND_INITIALIZER };

static struct {
	pthread_mutex_t lock;
	pthread_cond_t is_changed;
	_Atomic uint64_t wanted;
	uint64_t started;
	_Atomic uint64_t loops;
} spin = { .lock = PTHREAD_MUTEX_INITIALIZER, .is_changed = PTHREAD_COND_INITIALIZER };

static _Atomic uint64_t dirtied_pages;

static void mem_lock(void)
{
	mem.waiters++;
	(void)pthread_mutex_lock(&mem.lock);
}

static void mem_unlock(void)
{
	mem.waiters--;
	(void)pthread_cond_broadcast(&mem.is_changed);
	(void)pthread_mutex_unlock(&mem.lock);
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t t = a % b;

		a = b;
		b = t;
	}
	return a;
}

/* Near the golden section, so that consecutive writes lie far apart. */
static uint64_t stride_for(uint64_t pages)
{
	uint64_t stride = pages * 618 / 1000 | 1;

	while (gcd(stride, pages) != 1)
		stride += 2;
	return stride;
}

static uint64_t *page_at(uint64_t order)
{
	return mem.base + order * mem.stride % mem.pages * PAGE_WORDS;
}

/* How often the page written as the @order-th of each round has been written. */
static uint64_t generation_of(uint64_t order)
{
	return mem.written_pages / mem.pages + (order < mem.written_pages % mem.pages);
}

static uint64_t fixed_base(const uint64_t *page)
{
	return hf_pattern_mix(mem.seed ^ (uint64_t)(page - mem.base));
}

static void page_stamp(uint64_t *page, uint64_t order, uint64_t generation)
{
	uint64_t check = hf_pattern_mix(mem.seed + order * 2654435761u + generation);

	page[0] = generation;
	page[1] = check;
	page[PAGE_WORDS - 1] = ~check;
}

static bool is_page_right(const uint64_t *page, uint64_t order, uint64_t generation)
{
	uint64_t check = hf_pattern_mix(mem.seed + order * 2654435761u + generation);
	uint64_t base = fixed_base(page);

	for (uint64_t i = 2; i < PAGE_WORDS - 1; i++)
		if (page[i] != base + i)
			return false;
	return page[0] == generation && page[1] == check && page[PAGE_WORDS - 1] == ~check;
}

static void fill_all(void)
{
	for (uint64_t order = 0; order < mem.pages; order++) {
		uint64_t *page = page_at(order);
		uint64_t base = fixed_base(page);

		for (uint64_t i = 2; i < PAGE_WORDS - 1; i++)
			page[i] = base + i;
		page_stamp(page, order, 0);
	}
}

static uint64_t free_mib(void)
{
	struct sysinfo info;

	return sysinfo(&info) == 0 ? info.freeram * info.mem_unit >> 20 : 0;
}

/* Called with the lock held. A new buffer of @mib, filled; false with the reason in @reply. */
static bool replace_buffer(uint64_t mib, char *reply)
{
	uint64_t have = free_mib() + mem.pages / PAGES_PER_MIB;
	void *p;

	if (mib == 0 || mib > have || mib + RESERVE_MIB > have) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error %llu MiB wanted, 1 to %lld possible",
			       (unsigned long long)mib, (long long)have - RESERVE_MIB);
		return false;
	}
	if (mem.base)
		(void)munmap(mem.base, mem.pages * PAGE_BYTES);
	mem.base = NULL;
	mem.pages = 0;
	p = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error mmap failed");
		return false;
	}
	mem.base = p;
	mem.pages = mib * PAGES_PER_MIB;
	mem.stride = stride_for(mem.pages);
	mem.seed = hf_pattern_mix(guest_now_ns());
	mem.written_pages = 0;
	fill_all();
	return true;
}

static void report_buffer(char *reply)
{
	(void)snprintf(reply, GUEST_TEXT_MAX, "ok pages=%llu rate=%llu max=%d",
		       (unsigned long long)mem.pages, (unsigned long long)mem.rate_pages_per_ms,
		       mem.is_max);
}

void guest_work_mem(uint64_t mib, char *reply)
{
	mem_lock();
	if (replace_buffer(mib, reply))
		report_buffer(reply);
	mem_unlock();
}

void guest_work_dirty(uint64_t pages_per_ms, char *reply)
{
	mem_lock();
	if (pages_per_ms > RATE_MAX_PAGES_PER_MS) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error at most %d pages per ms",
			       RATE_MAX_PAGES_PER_MS);
	} else if (pages_per_ms == 0 || mem.pages > 0 || replace_buffer(DEFAULT_MIB, reply)) {
		mem.is_max = false;
		mem.rate_pages_per_ms = pages_per_ms;
		report_buffer(reply);
	}
	mem_unlock();
}

void guest_work_dirty_max(uint64_t mib, char *reply)
{
	mem_lock();
	if ((mib > 0 && mem.pages / PAGES_PER_MIB == mib) || replace_buffer(mib, reply)) {
		mem.rate_pages_per_ms = 0;
		mem.is_max = true;
		report_buffer(reply);
	}
	mem_unlock();
}

void guest_work_memcheck(char *reply)
{
	uint64_t bad = 0, first_bad = 0;

	mem_lock();
	for (uint64_t order = 0; order < mem.pages; order++) {
		uint64_t *page = page_at(order);

		if (is_page_right(page, order, generation_of(order)))
			continue;
		if (bad++ == 0)
			first_bad = (uint64_t)(page - mem.base) / PAGE_WORDS;
	}
	if (bad > 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error bad=%llu first=%llu pages=%llu",
			       (unsigned long long)bad, (unsigned long long)first_bad,
			       (unsigned long long)mem.pages);
	else
		(void)snprintf(reply, GUEST_TEXT_MAX, "ok bad=0 pages=%llu written=%llu",
			       (unsigned long long)mem.pages,
			       (unsigned long long)mem.written_pages);
	mem_unlock();
}

/* With the lock held. */
static void dirty_batch(uint64_t count)
{
	uint64_t order = mem.written_pages % mem.pages;

	for (uint64_t i = 0; i < count; i++) {
		page_stamp(page_at(order), order, generation_of(order) + 1);
		mem.written_pages++;
		if (++order == mem.pages)
			order = 0;
	}
	dirtied_pages += count;
}

static bool may_dirty(void)
{
	return mem.waiters == 0 && mem.pages > 0 && (mem.is_max || mem.rate_pages_per_ms > 0);
}

/* Sleep to the next millisecond of the pace; @due_ns is when that is. */
static void pace(uint64_t *due_ns)
{
	uint64_t now = guest_now_ns();
	struct timespec ts;

	*due_ns += MS_NS;
	if (*due_ns + BEHIND_MAX_NS < now)
		*due_ns = now;
	ts.tv_sec = (time_t)(*due_ns / 1000000000);
	ts.tv_nsec = (long)(*due_ns % 1000000000);
	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void *dirty_thread(void *unused)
{
	uint64_t due_ns = guest_now_ns(), left = 0;

	(void)unused;
	(void)setpriority(PRIO_PROCESS, 0, DIRTY_NICE);
	for (;;) {
		bool is_max;

		(void)pthread_mutex_lock(&mem.lock);
		while (!may_dirty())
			(void)pthread_cond_wait(&mem.is_changed, &mem.lock);
		is_max = mem.is_max;
		if (!is_max && left == 0)
			left = mem.rate_pages_per_ms;
		if (is_max)
			dirty_batch(BATCH_PAGES);
		else
			dirty_batch(left < BATCH_PAGES ? left : BATCH_PAGES);
		(void)pthread_mutex_unlock(&mem.lock);
		left -= left < BATCH_PAGES ? left : BATCH_PAGES;
		if (!is_max && left == 0)
			pace(&due_ns);
	}
	return NULL;
}

static void *spin_thread(void *arg)
{
	uint64_t index = (uint64_t)(uintptr_t)arg, x = index + 1;

	(void)setpriority(PRIO_PROCESS, 0, SPIN_NICE);
	for (;;) {
		(void)pthread_mutex_lock(&spin.lock);
		while (index >= spin.wanted)
			(void)pthread_cond_wait(&spin.is_changed, &spin.lock);
		(void)pthread_mutex_unlock(&spin.lock);
		while (index < spin.wanted) {
			for (int i = 0; i < 1000; i++)
				x = hf_pattern_mix(x + 1);
			/* The result must be used, or the compiler may leave the work out. */
			__asm__ volatile("" : : "r"(x));
			spin.loops++;
		}
	}
	return NULL;
}

void guest_work_spin(uint64_t threads, char *reply)
{
	pthread_t t;

	if (threads > SPIN_MAX) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error at most %d threads", SPIN_MAX);
		return;
	}
	(void)pthread_mutex_lock(&spin.lock);
	while (spin.started < threads &&
	       pthread_create(&t, NULL, spin_thread, (void *)(uintptr_t)spin.started) == 0)
		spin.started++;
	spin.wanted = threads;
	(void)pthread_cond_broadcast(&spin.is_changed);
	(void)snprintf(reply, GUEST_TEXT_MAX, "ok threads=%llu", (unsigned long long)threads);
	(void)pthread_mutex_unlock(&spin.lock);
}

void guest_work_counts(uint64_t *ret_dirtied, uint64_t *ret_spun, uint64_t *ret_pages)
{
	/* Without the lock: an answer that waits for a memcheck would be of no use. */
	*ret_dirtied = dirtied_pages;
	*ret_spun = spin.loops;
	*ret_pages = __atomic_load_n(&mem.pages, __ATOMIC_RELAXED);
}

void guest_work_start(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, dirty_thread, NULL) != 0)
		printf("guest: no thread for dirty\n");
}

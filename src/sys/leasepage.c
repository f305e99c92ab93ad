/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. The file has a header and two copies of the state, and a counter whose lowest
 * bit says which copy counts. The writer fills in the other copy, then adds one. So a writer that is
 * killed at any moment leaves the last complete state behind, and a restarted daemon finds in it
 * what it was. A reader takes the copy that counts and looks whether the counter has moved: only
 * then may the writer have come back to that copy. A publication every few hundred milliseconds does
 * not make a reader try often.
 *
 * All words are 64-bit atomics; a word of a copy is stored with release and loaded with acquire, so
 * a reader that sees one of the next but one publication sees the counter of the next, too.
 *
 * Two kinds of lock, which do not see each other: readers hold a shared flock(); the daemon that
 * owns the page holds an open file description lock (fcntl(2)) on its first byte.
 */
#include "sys/leasepage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/fd.h"

#define PAGE_MAGIC UINT64_C(0x6567617065736c68)
#define PAGE_VERSION 1u
#define PAGE_BYTES ((size_t)4096)
#define NAME_WORDS 7 /* 49 bytes */
#define READ_TRIES 1000
/* The daemon has the exclusive lock for the two system calls that find out whether it can. */
#define LOCK_TRIES 200
#define LOCK_PAUSE_NS 10000000L
/* Two clocks cannot be read at once: in between the thread may have lost the processor. */
#define ASLEEP_SLACK_NS 10000000u
#define ASLEEP_CLOSE_NS 20000u
#define ASLEEP_TRIES 16

struct copy {
	_Atomic uint64_t host_id, generation, instance, tenure, valid_ns, fence_ns, asleep_ns, pid;
	_Atomic uint64_t lockspace[NAME_WORDS], host_name[NAME_WORDS];
};

struct shared {
	_Atomic uint64_t magic; /* written last */
	_Atomic uint64_t version;
	_Atomic uint64_t counter;
	struct copy copy[2];
};

_Static_assert(sizeof(struct shared) <= PAGE_BYTES, "fits into the page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomics that work between processes");

struct hf_lease_page {
	int fd;
	struct shared *shared; /* NULL: not mapped */
};

/* ---- clocks ---- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Never less than it is: what lies between the two readings is added. */
uint64_t hf_lease_page_asleep_ns(void)
{
	uint64_t least = UINT64_MAX;

	for (unsigned int i = 0; i < ASLEEP_TRIES; i++) {
		uint64_t before = clock_ns(CLOCK_MONOTONIC), boot = clock_ns(CLOCK_BOOTTIME);
		uint64_t after = clock_ns(CLOCK_MONOTONIC);

		if (boot - before < least)
			least = boot - before;
		if (after - before < ASLEEP_CLOSE_NS)
			break;
	}
	return least;
}

/* ---- one copy ---- */

static void name_store(_Atomic uint64_t *to, const char *name)
{
	uint64_t words[NAME_WORDS] = { 0 };

	memcpy(words, name, strnlen(name, sizeof(((struct hf_lease_state *)NULL)->lockspace) - 1));
	for (unsigned int i = 0; i < NAME_WORDS; i++)
		atomic_store_explicit(&to[i], words[i], memory_order_release);
}

static void name_load(const _Atomic uint64_t *from, char *name, size_t size)
{
	uint64_t words[NAME_WORDS];

	for (unsigned int i = 0; i < NAME_WORDS; i++)
		words[i] = atomic_load_explicit(&from[i], memory_order_acquire);
	memcpy(name, words, size);
	name[size - 1] = '\0';
}

static void copy_store(struct copy *c, const struct hf_lease_state *s)
{
	atomic_store_explicit(&c->host_id, s->host_id, memory_order_release);
	atomic_store_explicit(&c->generation, s->generation, memory_order_release);
	atomic_store_explicit(&c->instance, s->instance, memory_order_release);
	atomic_store_explicit(&c->tenure, s->tenure, memory_order_release);
	atomic_store_explicit(&c->valid_ns, s->valid_ns, memory_order_release);
	atomic_store_explicit(&c->fence_ns, s->fence_ns, memory_order_release);
	atomic_store_explicit(&c->asleep_ns, s->asleep_ns, memory_order_release);
	atomic_store_explicit(&c->pid, (uint64_t)s->daemon_pid, memory_order_release);
	name_store(c->lockspace, s->lockspace);
	name_store(c->host_name, s->host_name);
}

static void copy_load(const struct copy *c, struct hf_lease_state *s)
{
	s->host_id = atomic_load_explicit(&c->host_id, memory_order_acquire);
	s->generation = atomic_load_explicit(&c->generation, memory_order_acquire);
	s->instance = atomic_load_explicit(&c->instance, memory_order_acquire);
	s->tenure = atomic_load_explicit(&c->tenure, memory_order_acquire);
	s->valid_ns = atomic_load_explicit(&c->valid_ns, memory_order_acquire);
	s->fence_ns = atomic_load_explicit(&c->fence_ns, memory_order_acquire);
	s->asleep_ns = atomic_load_explicit(&c->asleep_ns, memory_order_acquire);
	s->daemon_pid = (int32_t)atomic_load_explicit(&c->pid, memory_order_acquire);
	name_load(c->lockspace, s->lockspace, sizeof(s->lockspace));
	name_load(c->host_name, s->host_name, sizeof(s->host_name));
}

/* ---- publishing and reading ---- */

void hf_lease_page_publish(struct hf_lease_page *p, const struct hf_lease_state *s)
{
	uint64_t n = atomic_load_explicit(&p->shared->counter, memory_order_relaxed);

	copy_store(&p->shared->copy[(n + 1) & 1], s);
	atomic_store_explicit(&p->shared->counter, n + 1, memory_order_release);
}

bool hf_lease_page_read(const struct hf_lease_page *p, struct hf_lease_state *ret)
{
	for (unsigned int i = 0; i < READ_TRIES; i++) {
		uint64_t n = atomic_load_explicit(&p->shared->counter, memory_order_acquire);

		copy_load(&p->shared->copy[n & 1], ret);
		if (atomic_load_explicit(&p->shared->counter, memory_order_relaxed) == n)
			return true;
	}
	*ret = (struct hf_lease_state){ 0 };
	return false;
}

static bool is_same_sleep(uint64_t a, uint64_t b)
{
	return a - b <= ASLEEP_SLACK_NS || b - a <= ASLEEP_SLACK_NS;
}

/* The sleep is looked for after the deadline: one that comes in between is found then. */
bool hf_lease_page_is_valid(const struct hf_lease_page *p, uint64_t tenure)
{
	struct hf_lease_state s;

	if (!hf_lease_page_read(p, &s) || s.generation == 0 || s.tenure != tenure)
		return false;
	for (unsigned int i = 0; i < ASLEEP_TRIES; i++) {
		uint64_t now = clock_ns(CLOCK_MONOTONIC), boot = clock_ns(CLOCK_BOOTTIME);

		if (now >= s.valid_ns)
			return false;
		if (is_same_sleep(boot - now, s.asleep_ns))
			return true;
	}
	return false;
}

bool hf_lease_page_is_used(const struct hf_lease_page *p)
{
	if (flock(p->fd, LOCK_EX | LOCK_NB) < 0)
		return true;
	(void)flock(p->fd, LOCK_UN);
	return false;
}

/* ---- opening ---- */

static struct hf_lease_page *page_new(void)
{
	struct hf_lease_page *p = calloc(1, sizeof(*p));

	if (p)
		p->fd = -1;
	return p;
}

void hf_lease_page_close(struct hf_lease_page *p)
{
	if (!p)
		return;
	if (p->shared)
		(void)munmap(p->shared, PAGE_BYTES);
	hf_fd_close(&p->fd);
	free(p);
}

static int map(struct hf_lease_page *p, int protection)
{
	void *at = mmap(NULL, PAGE_BYTES, protection, MAP_SHARED, p->fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	p->shared = at;
	return 0;
}

static int size_of(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	*ret = (uint64_t)st.st_size;
	return 0;
}

static bool is_ours(const struct shared *s)
{
	return atomic_load_explicit(&s->magic, memory_order_acquire) == PAGE_MAGIC &&
	       atomic_load_explicit(&s->version, memory_order_relaxed) == PAGE_VERSION;
}

static bool is_begun(const struct shared *s)
{
	return atomic_load_explicit(&s->magic, memory_order_relaxed) != 0;
}

static void make_empty(struct shared *s)
{
	const struct hf_lease_state none = { 0 };

	atomic_store_explicit(&s->magic, 0, memory_order_relaxed);
	atomic_store_explicit(&s->version, PAGE_VERSION, memory_order_relaxed);
	atomic_store_explicit(&s->counter, 0, memory_order_relaxed);
	copy_store(&s->copy[0], &none);
	copy_store(&s->copy[1], &none);
	atomic_store_explicit(&s->magic, PAGE_MAGIC, memory_order_release);
}

static int lock_as_daemon(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };

	if (fcntl(fd, F_OFD_SETLK, &l) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* What another version left is replaced, unless somebody still relies on it. */
static int take_over(struct hf_lease_page *p)
{
	uint64_t size = 0;
	int r = size_of(p->fd, &size);

	if (r == 0 && size != 0 && size != PAGE_BYTES && hf_lease_page_is_used(p))
		return -EBADMSG;
	if (r == 0 && size != PAGE_BYTES && ftruncate(p->fd, (off_t)PAGE_BYTES) < 0)
		r = -errno;
	if (r == 0)
		r = map(p, PROT_READ | PROT_WRITE);
	if (r < 0 || is_ours(p->shared))
		return r;
	if (is_begun(p->shared) && hf_lease_page_is_used(p))
		return -EBADMSG;
	make_empty(p->shared);
	return 0;
}

static const char *text_of(int r)
{
	switch (r) {
	case -EBUSY:
		return "another daemon has it";
	case -EBADMSG:
		return "it is damaged, or of another version of holdfast, and in use";
	case -ENOENT:
		return "no daemon has ever run here";
	case -EAGAIN:
		return "a daemon keeps it locked";
	default:
		return strerror(-r);
	}
}

static int fail(struct hf_lease_page *p, const char *path, int r, struct hf_err *err)
{
	hf_err_set(err, "lease page %s: %s", path, text_of(r));
	hf_lease_page_close(p);
	return r;
}

int hf_lease_page_create(const char *path, struct hf_lease_page **ret, struct hf_err *err)
{
	struct hf_lease_page *p = page_new();
	int r = 0;

	if (!p)
		return -ENOMEM;
	p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	r = p->fd < 0 ? -errno : lock_as_daemon(p->fd);
	if (r == 0)
		r = take_over(p);
	if (r < 0)
		return fail(p, path, r, err);
	*ret = p;
	return 0;
}

static int lock_as_reader(int fd)
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };

	for (unsigned int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_SH | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
	return -EAGAIN;
}

/* A file that a daemon is about to fill in is none yet. */
static int look(struct hf_lease_page *p)
{
	uint64_t size = 0;
	int r = size_of(p->fd, &size);

	if (r == 0 && size != PAGE_BYTES)
		r = size == 0 ? -ENOENT : -EBADMSG;
	if (r == 0)
		r = map(p, PROT_READ);
	if (r == 0 && !is_ours(p->shared))
		r = atomic_load_explicit(&p->shared->magic, memory_order_relaxed) == 0 ? -ENOENT
										       : -EBADMSG;
	return r;
}

int hf_lease_page_open(const char *path, struct hf_lease_page **ret, struct hf_err *err)
{
	struct hf_lease_page *p = page_new();
	int r;

	if (!p)
		return -ENOMEM;
	p->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	r = p->fd < 0 ? -errno : lock_as_reader(p->fd);
	if (r == 0)
		r = look(p);
	if (r < 0)
		return fail(p, path, r, err);
	*ret = p;
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One scan at a time. The main loop fills in what is asked and wakes the thread through one eventfd;
 * the thread fills in the result and wakes the loop through another. Each side touches `leases` only
 * while it is its turn; the two descriptors order what they see.
 */
#include "daemon/survey.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lease/store.h"
#include "sys/fd.h"

#define WAITERS_MAX 64
#define END_PATIENCE_S 2
#define PROBE_BYTES 4096u /* the largest sector there is */

struct waiter {
	hf_survey_done *done;
	void *ctx;
	bool is_next; /* for the scan after the one under way */
};

struct hf_survey {
	/* the main loop's */
	struct hf_watch watch;
	struct waiter waiters[WAITERS_MAX];
	unsigned int n_waiters;
	bool is_under_way;
	pthread_t thread;

	/* neither's to change */
	char *path;
	char *space;
	int ask_fd, answer_fd;

	/* whose turn it is */
	_Atomic bool is_ending;
	struct hf_store *store;
	struct hf_lease_geometry geometry;
	uint8_t *index; /* of the geometry's align_bytes, in the store's memory */
	uint8_t *sectors;
	struct hf_survey_result result;
	struct hf_survey_lease *leases;
	unsigned int max_leases;
};

/* ---- the thread ---- */

static int find_geometry(struct hf_survey *s, struct hf_err *err)
{
	uint8_t *probe = hf_store_buffer(s->store, PROBE_BYTES);
	int r = probe ? hf_store_read(s->store, probe, PROBE_BYTES, 0, err) : -ENOMEM;

	if (r)
		return r < 0 ? r : -EIO;
	if (hf_lease_identify(probe, PROBE_BYTES, &s->geometry) != HF_LEASE_KIND_LOCKSPACE) {
		hf_err_set(err, "%.200s does not begin with a lockspace", s->path);
		return -EBADMSG;
	}
	s->index = hf_store_buffer(s->store, s->geometry.align_bytes);
	s->sectors = hf_store_buffer(s->store, 2 * (size_t)s->geometry.sector_bytes);
	return s->index && s->sectors ? 0 : -ENOMEM;
}

static int open_store(struct hf_survey *s, struct hf_err *err)
{
	const struct hf_store_config config = { .path = s->path, .is_read_only = true };
	int r;

	if (s->store)
		return 0;
	r = hf_store_open(&config, &s->store, err);
	if (r < 0)
		return r;
	r = find_geometry(s, err);
	if (r < 0) {
		hf_store_close(s->store);
		s->store = NULL;
	}
	return r;
}

static void read_lease(struct hf_survey *s, struct hf_survey_lease *l)
{
	size_t sector = s->geometry.sector_bytes;
	struct hf_err err = { "" };

	l->r = hf_store_read(s->store, s->sectors, 2 * sector, l->offset, &err);
	if (!l->r)
		l->r = hf_lease_leader_decode(s->sectors, &s->geometry, s->space, l->name,
					      &l->leader, &err);
	if (!l->r)
		l->has_request = hf_lease_request_decode(s->sectors + sector, &l->request, NULL) ==
				 0;
	if (l->r)
		(void)snprintf(l->error, sizeof(l->error), "%.159s", err.text);
}

static int grow(struct hf_survey *s)
{
	unsigned int max = s->max_leases ? 2 * s->max_leases : 64;
	struct hf_survey_lease *grown = realloc(s->leases, max * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	s->leases = grown;
	s->max_leases = max;
	return 0;
}

static int read_entries(struct hf_survey *s, const struct hf_lease_index *index)
{
	for (uint32_t i = 0; i < index->max_resources; i++) {
		const uint8_t *at = s->index + hf_lease_index_entry_at(index, i);
		struct hf_lease_index_entry entry;
		struct hf_survey_lease *l;

		/* One that is damaged is no reason to hide the others; `holdfast lease check`
		 * says more. */
		if (hf_lease_index_entry_decode(at, index, i, &entry, NULL) < 0 ||
		    entry.offset == 0)
			continue;
		if (s->result.n == s->max_leases && grow(s) < 0)
			return -ENOMEM;
		l = &s->leases[s->result.n++];
		memset(l, 0, sizeof(*l));
		(void)snprintf(l->name, sizeof(l->name), "%s", entry.name);
		l->offset = entry.offset;
		read_lease(s, l);
	}
	return 0;
}

static int scan(struct hf_survey *s, struct hf_err *err)
{
	struct hf_lease_index index;
	int r = open_store(s, err);

	if (!r)
		r = hf_store_read(s->store, s->index, s->geometry.align_bytes,
				  s->geometry.align_bytes, err);
	if (!r)
		r = hf_lease_index_decode(s->index, &index, err);
	if (!r && strcmp(index.space, s->space) != 0) {
		hf_err_set(err, "%.200s: the index is of another lockspace, '%s'", s->path,
			   index.space);
		r = -EBADMSG;
	}
	if (!r)
		r = read_entries(s, &index);
	return r > 0 ? -EIO : r;
}

static void *run(void *data)
{
	struct hf_survey *s = data;
	eventfd_t n;

	while (eventfd_read(s->ask_fd, &n) == 0 && !s->is_ending) {
		s->result = (struct hf_survey_result){ .n = 0 };
		s->result.r = scan(s, &s->result.error);
		s->result.leases = s->leases;
		(void)eventfd_write(s->answer_fd, 1);
	}
	hf_store_close(s->store);
	return NULL;
}

/* ---- the main loop ---- */

static void begin(struct hf_survey *s)
{
	for (unsigned int i = 0; i < s->n_waiters; i++)
		s->waiters[i].is_next = false;
	s->is_under_way = true;
	(void)eventfd_write(s->ask_fd, 1);
}

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_survey *s = ctx;
	struct waiter now[WAITERS_MAX];
	unsigned int n = 0, left = 0;
	eventfd_t count;

	if (eventfd_read(s->answer_fd, &count) < 0)
		return;
	for (unsigned int i = 0; i < s->n_waiters; i++) {
		if (s->waiters[i].is_next)
			s->waiters[left++] = s->waiters[i];
		else
			now[n++] = s->waiters[i];
	}
	s->n_waiters = left;
	/* It stays under way, so that the result is not touched while they look at it. */
	for (unsigned int i = 0; i < n; i++)
		now[i].done(now[i].ctx, &s->result);
	s->is_under_way = false;
	if (s->n_waiters)
		begin(s);
}

int hf_survey_start(struct hf_survey *s, hf_survey_done *done, void *ctx)
{
	if (s->n_waiters == WAITERS_MAX)
		return -EBUSY;
	s->waiters[s->n_waiters++] =
		(struct waiter){ .done = done, .ctx = ctx, .is_next = s->is_under_way };
	if (!s->is_under_way)
		begin(s);
	return 0;
}

static void nobody(void *ctx __attribute__((unused)),
		   const struct hf_survey_result *result __attribute__((unused)))
{
}

void hf_survey_forget(struct hf_survey *s, const void *ctx)
{
	for (unsigned int i = 0; i < s->n_waiters; i++)
		if (s->waiters[i].ctx == ctx)
			s->waiters[i].done = nobody;
}

static void scan_free(struct hf_survey *s)
{
	hf_fd_close(&s->ask_fd);
	hf_fd_close(&s->answer_fd);
	free(s->path);
	free(s->space);
	free(s->leases);
	free(s);
}

int hf_survey_new(struct hf_loop *loop, const char *path, const char *space, struct hf_survey **ret,
		  struct hf_err *err)
{
	struct hf_survey *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return r;
	s->ask_fd = eventfd(0, EFD_CLOEXEC);
	s->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->path = strdup(path);
	s->space = strdup(space);
	if (s->ask_fd >= 0 && s->answer_fd >= 0 && s->path && s->space)
		r = hf_watch_add(&s->watch, loop, s->answer_fd, HF_PRIORITY_CONTROL, wanted, ready,
				 s);
	if (!r)
		r = -pthread_create(&s->thread, NULL, run, s);
	if (r < 0) {
		hf_err_set(err, "cannot begin to look for leases: %s", strerror(-r));
		hf_watch_remove(&s->watch);
		scan_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int hf_survey_free(struct hf_survey *s)
{
	struct timespec until;

	if (!s)
		return 0;
	hf_watch_remove(&s->watch);
	s->is_ending = true;
	(void)eventfd_write(s->ask_fd, 1);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += END_PATIENCE_S;
	if (pthread_timedjoin_np(s->thread, NULL, &until) != 0)
		return -ETIMEDOUT;
	scan_free(s);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/held.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/fd.h"

void hf_held_table_init(struct hf_held_table *t, struct hf_loop *loop,
			void (*ended)(void *ctx, struct hf_held *h), void *ctx)
{
	*t = (struct hf_held_table){ .loop = loop, .ended = ended, .ctx = ctx };
}

struct hf_held *hf_held_find(const struct hf_held_table *t, const char *vm)
{
	struct hf_held *h = t->first;

	while (h && strcmp(h->vm, vm) != 0)
		h = h->next;
	return h;
}

static void forget_pid(struct hf_held_pid *p)
{
	hf_watch_remove(&p->watch);
	hf_fd_close(&p->fd);
}

static void forget_pids(struct hf_held *h)
{
	for (unsigned int i = 0; i < h->n_pids; i++)
		forget_pid(&h->pids[i]);
	h->n_pids = 0;
}

void hf_held_table_fini(struct hf_held_table *t)
{
	struct hf_held *next;

	for (struct hf_held *h = t->first; h; h = next) {
		next = h->next;
		forget_pids(h);
		free(h);
	}
	t->first = NULL;
	t->count = 0;
}

unsigned int hf_held_alive(const struct hf_held *h)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < h->n_pids; i++)
		n += h->pids[i].fd >= 0;
	return n;
}

static void check_ended(struct hf_held *h)
{
	if (!h->conn && !h->is_ending && !h->is_blind && hf_held_alive(h) == 0)
		h->table->ended(h->table->ctx, h);
}

static uint32_t pid_wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void pid_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_held_pid *p = ctx;

	forget_pid(p);
	check_ended(p->held);
}

/* A watch is known by its address, so pids[] is filled in place. */
static int watch_pid(struct hf_held *h, struct hf_held_pid *p, pid_t pid)
{
	int r;

	*p = (struct hf_held_pid){ .held = h, .pid = pid, .fd = -1 };
	p->fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p->fd < 0)
		return errno == ESRCH ? 0 : -errno;
	r = hf_watch_add(&p->watch, h->table->loop, p->fd, HF_PRIORITY_NET, pid_wanted, pid_ready,
			 p);
	if (r < 0)
		hf_fd_close(&p->fd);
	return r;
}

static bool has_pid(const struct hf_held *h, pid_t pid)
{
	for (unsigned int i = 0; i < h->n_pids; i++)
		if (h->pids[i].pid == pid)
			return true;
	return false;
}

static int add_pid(struct hf_held *h, pid_t pid)
{
	int r = 0;

	if (pid <= 0 || has_pid(h, pid))
		return 0;
	if (h->n_pids == HF_HELD_PIDS_MAX)
		return -E2BIG;
	r = watch_pid(h, &h->pids[h->n_pids], pid);
	if (!r)
		h->n_pids++;
	return r;
}

static int check_pids(const pid_t *pids, unsigned int n, struct hf_err *err)
{
	if (n >= HF_HELD_PIDS_MAX) { /* one place is the holder's own */
		hf_err_set(err, "%u processes are named, %d are the most", n, HF_HELD_PIDS_MAX - 1);
		return -E2BIG;
	}
	for (unsigned int i = 0; i < n; i++) {
		if (pids[i] > 0)
			continue;
		hf_err_set(err, "%d is no process id", (int)pids[i]);
		return -EINVAL;
	}
	return 0;
}

int hf_held_set_pids(struct hf_held *h, const pid_t *pids, unsigned int n, struct hf_err *err)
{
	int r = check_pids(pids, n, err);

	if (r < 0)
		return r;
	forget_pids(h);
	r = add_pid(h, h->holder);
	for (unsigned int i = 0; !r && i < n; i++)
		r = add_pid(h, pids[i]);
	h->is_blind = r < 0;
	if (r < 0)
		hf_err_set(err, "cannot watch a process: %s", strerror(-r));
	return r;
}

struct hf_held *hf_held_add(struct hf_held_table *t, const char *vm, struct hf_varlink_conn *conn,
			    pid_t holder)
{
	struct hf_held *h = t->count < HF_HELD_MAX ? calloc(1, sizeof(*h)) : NULL;

	assert(!hf_held_find(t, vm));
	if (!h)
		return NULL;
	h->table = t;
	(void)snprintf(h->vm, sizeof(h->vm), "%s", vm);
	h->conn = conn;
	h->holder = holder;
	if (add_pid(h, holder) < 0) {
		free(h);
		return NULL;
	}
	h->next = t->first;
	t->first = h;
	t->count++;
	return h;
}

void hf_held_remove(struct hf_held *h)
{
	struct hf_held **at = &h->table->first;

	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	h->table->count--;
	forget_pids(h);
	free(h);
}

/* What the one before had named still counts, until the new one says what its own are. */
void hf_held_attach(struct hf_held *h, struct hf_varlink_conn *conn, pid_t holder)
{
	h->conn = conn;
	h->holder = holder;
	h->is_expected = false;
	if (add_pid(h, holder) < 0)
		h->is_blind = true;
}

void hf_held_orphan(struct hf_held *h)
{
	h->conn = NULL;
	check_ended(h);
}

void hf_held_signal(const struct hf_held *h, int signal, bool is_to_all)
{
	for (unsigned int i = 0; i < h->n_pids; i++)
		if (h->pids[i].fd >= 0 && (is_to_all || h->pids[i].pid == h->holder))
			(void)syscall(SYS_pidfd_send_signal, h->pids[i].fd, signal, NULL, 0);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Epochs by the clock, under clients that know nothing of them.
 *
 * A keeper ends an epoch while its VM stands still; nobody can tell fio to. So the end is found in another
 * way: open_epoch goes up first, and then the driver flushes through a connection of its own. Records are
 * appended one at a time, each under the epoch that it finds open. Hence when that flush is logged, all that is
 * part of the older epoch has been.
 */
#include <libnbd.h>
#include <poll.h>
#include <stdio.h>

#include "driver.h"

static void disconnect(struct autocommit *a)
{
	nbd_close(a->nbd);
	a->nbd = NULL;
	a->cookie = 0;
}

void auto_set(struct side *s, uint64_t ms)
{
	struct autocommit *a = &s->autocommit;

	a->is_on = a->is_on || ms;
	a->interval_ns = ms * 1000000;
	a->next_ns = driver_now_ns() + a->interval_ns;
}

static void end_auto(struct side *s)
{
	disconnect(&s->autocommit);
	s->autocommit.is_on = false;
	driver_event(s, "auto-off", ", \"epochs\": %llu", (unsigned long long)s->autocommit.epochs);
}

/* Begins to connect. Nothing here waits: the disk process may be stopped. */
static void begin_connect(struct side *s)
{
	struct autocommit *a = &s->autocommit;

	a->nbd = nbd_create();
	if (!a->nbd || nbd_set_export_name(a->nbd, "disk0") < 0 ||
	    nbd_aio_connect_unix(a->nbd, s->socket_path) < 0)
		driver_die("%c: libnbd: %s", s->name, nbd_get_error());
}

int auto_fd(const struct side *s, short *ret_events)
{
	const struct autocommit *a = &s->autocommit;
	unsigned int direction;

	if (!a->nbd || nbd_aio_is_dead(a->nbd) || nbd_aio_is_closed(a->nbd))
		return -1;
	direction = nbd_aio_get_direction(a->nbd);
	*ret_events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
			      (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
	return nbd_aio_get_fd(a->nbd);
}

static void begin_epoch(struct side *s)
{
	struct autocommit *a = &s->autocommit;

	atomic_store(&s->shm.words->is_draining, 1);
	atomic_store(&s->shm.words->open_epoch, s->epoch + 2);
	hf_diskshm_kick(&s->shm);
	a->cookie = nbd_aio_flush(a->nbd, NBD_NULL_COMPLETION, 0);
	if (a->cookie < 0) {
		a->cookie = 0;
		disconnect(a);
	}
}

static void end_epoch(struct side *s, struct side *peer)
{
	struct autocommit *a = &s->autocommit;

	a->cookie = 0;
	atomic_store(&s->shm.words->is_draining, 0);
	s->epoch++;
	a->epochs++;
	atomic_store(&s->shm.words->captured, s->epoch);
	if (peer)
		side_ship(s, peer);
	atomic_store(&s->shm.words->committed, s->epoch);
	hf_diskshm_kick(&s->shm);
	a->next_ns = driver_now_ns() + a->interval_ns;
}

static void notify(struct autocommit *a, short revents)
{
	/* Failures show in the state. */
	if (revents & (POLLIN | POLLHUP | POLLERR))
		(void)nbd_aio_notify_read(a->nbd);
	else if (revents & POLLOUT)
		(void)nbd_aio_notify_write(a->nbd);
}

/*
 * While QEMU is being stopped, its writers may use the reserve. So a keeper that went on with epochs
 * while the images do not keep up would let the reserve fill, a little with each of them: it has to wait.
 */
static bool is_behind(const struct side *s)
{
	const struct hf_diskshm_words *w = s->shm.words;
	uint32_t soft = s->shm.soft_chunks[HF_DISKSHM_OUT];
	uint32_t all = s->shm.n_chunks[HF_DISKSHM_OUT];

	return atomic_load(&w->applied) < atomic_load(&w->committed) &&
	       hf_diskshm_in_use(&s->shm, HF_DISKSHM_OUT) > soft + (all - soft) / 2;
}

void auto_step(struct side *s, struct side *peer, short revents)
{
	struct autocommit *a = &s->autocommit;
	bool is_due = a->interval_ns && driver_now_ns() >= a->next_ns;

	if (a->nbd && revents)
		notify(a, revents);
	if (a->nbd && (nbd_aio_is_dead(a->nbd) || nbd_aio_is_closed(a->nbd)))
		disconnect(a); /* an epoch that was about to end is tried again */
	if (a->cookie && nbd_aio_command_completed(a->nbd, (uint64_t)a->cookie) == 1)
		end_epoch(s, peer);
	if (a->is_on && !a->interval_ns && !a->cookie)
		end_auto(s);
	else if (is_due && !a->nbd && s->process.pid >= 0)
		begin_connect(s);
	else if (is_due && a->nbd && !a->cookie && nbd_aio_is_ready(a->nbd) && !is_behind(s))
		begin_epoch(s);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of the disk process. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "sys/fd.h"

/* How long an orderly end may take: images are flushed. */
#define END_MAX_MS 60000

static void on_cut_timer(void *ctx)
{
	struct hf_disks *d = ctx;

	if (d->process.pid < 0)
		return;
	hf_event(&d->k->journal, "disk-path-hung", NULL,
		 "the disk process cannot be killed, but it may write nothing any more: its "
		 "permission has run out");
	if (d->ops && d->ops->on_cut)
		d->ops->on_cut(d->ctx);
}

/* One that is stuck in storage does not die. On a shared image its permission runs out all the same, and what was begun
 * before has the quarter of the time-out that a standby waits for as well. */
void hf_disks_cut(struct hf_disks *d)
{
	uint64_t permit_ns = atomic_load(&d->shm.words->permit_ns);

	d->is_cut = true;
	if (d->process.pid >= 0)
		(void)!hf_process_kill(&d->process, SIGKILL);
	else if (d->ops && d->ops->on_cut)
		d->ops->on_cut(d->ctx); /* it had died before, and could not be started again */
	if (d->process.pid >= 0 && permit_ns != UINT64_MAX)
		hf_timer_set(&d->cut_timer, &d->k->loop, permit_ns + d->k->set->peer_timeout_ns / 4,
			     on_cut_timer, d);
}

static bool is_ended_within(const struct hf_process *p, int timeout_ms)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) > 0;
}

void hf_disks_free(struct hf_disks *d)
{
	struct hf_process_exit how;

	if (!d)
		return;
	hf_timer_fini(&d->ping_timer);
	hf_timer_fini(&d->cut_timer);
	hf_watch_remove(&d->control_watch);
	hf_watch_remove(&d->process_watch);
	hf_watch_remove(&d->notice_watch);
	if (d->process.pid >= 0) {
		(void)!hf_process_kill(&d->process, d->is_cut ? SIGKILL : SIGTERM);
		if (!is_ended_within(&d->process, END_MAX_MS))
			(void)!hf_process_kill(&d->process, SIGKILL);
		(void)!hf_process_reap(&d->process, &how);
	}
	hf_process_close(&d->process);
	hf_fd_close(&d->control_fd);
	hf_fd_close(&d->listen_fd);
	if (d->socket_path[0])
		(void)unlink(d->socket_path);
	hf_diskshm_close(&d->shm);
	free(d);
}

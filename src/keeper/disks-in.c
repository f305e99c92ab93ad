/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The standby's disks: records that arrive go into the shared log, where the disk process takes them from
 * once their epoch is whole; on a shared image they are only kept, until the owner says that they are
 * durable there.
 */
#include <errno.h>
#include <string.h>

#include "cluster/inbox.h"
#include "keeper/disks.h"
#include "keeper/keeper.h"

static int take_records(void *ctx, uint64_t epoch, bool is_sync, const uint8_t *records, size_t len,
			uint32_t n_records)
{
	struct hf_disks *d = ctx;
	enum hf_diskshm_pool_id pool = is_sync ? HF_DISKSHM_COPY : HF_DISKSHM_IN;

	hf_disks_reclaim(d);
	if (!hf_diskshm_put(&d->shm, pool, is_sync ? 0 : epoch, records, len, n_records))
		return -ENOBUFS;
	if (is_sync)
		hf_diskshm_kick(&d->shm);
	return 0;
}

static void drop_partial(void *ctx, uint64_t epoch)
{
	struct hf_disks *d = ctx;

	hf_diskshm_drop_epoch(&d->shm, epoch);
}

void hf_disks_inbox(struct hf_disks *d, struct hf_inbox_disks *ret)
{
	*ret = (struct hf_inbox_disks){
		.disk_bytes = d->size_bytes,
		.n_disks = d->n,
		.is_shared = d->is_shared,
		.take = take_records,
		.drop_partial = drop_partial,
		.ctx = d,
	};
}

void hf_disks_whole(struct hf_disks *d, uint64_t epoch)
{
	struct hf_diskshm_words *w = d->shm.words;

	atomic_store(&w->captured, epoch);
	atomic_store(&w->committed, epoch);
	hf_diskshm_kick(&d->shm);
}

bool hf_disks_has_room(const struct hf_disks *d)
{
	return hf_diskshm_in_use(&d->shm, HF_DISKSHM_IN) <= d->shm.soft_chunks[HF_DISKSHM_IN];
}

static bool is_watcher(const struct hf_disks *d);

/* A session begins: what an earlier one has left is of no use, and a VM that was started anew counts from 1. The
 * disk process has nothing under way. What the peer settled goes first, for it speaks of the old numbers. */
void hf_disks_begin_session(struct hf_disks *d)
{
	struct hf_diskshm_words *w = d->shm.words;

	atomic_store(&w->peer_settled, 0);
	atomic_store(&w->committed, 0);
	atomic_store(&w->captured, 0);
	while (is_watcher(d) && hf_diskshm_in_use(&d->shm, HF_DISKSHM_IN))
		hf_diskshm_free_oldest(&d->shm, HF_DISKSHM_IN);
	hf_diskshm_kick(&d->shm);
}

/* The image is another's to write: records are kept until it says that it has them. */
static bool is_watcher(const struct hf_disks *d)
{
	return atomic_load(&d->shm.words->role) == HF_DISKSHM_WATCHER;
}

static void forget_settled(struct hf_disks *d)
{
	struct hf_diskshm_words *w = d->shm.words;
	uint64_t settled = atomic_load(&w->peer_settled);
	uint64_t committed = atomic_load(&w->committed);
	struct hf_diskshm_view v;

	while (hf_diskshm_in_use(&d->shm, HF_DISKSHM_IN) &&
	       hf_diskshm_look(&d->shm, HF_DISKSHM_IN, hf_diskshm_tail(&d->shm, HF_DISKSHM_IN),
			       &v) &&
	       v.epoch <= settled && v.epoch <= committed)
		hf_diskshm_free_oldest(&d->shm, HF_DISKSHM_IN);
}

void hf_disks_reclaim(struct hf_disks *d)
{
	if (is_watcher(d))
		forget_settled(d);
	else
		hf_diskshm_reclaim(&d->shm);
}

void hf_disks_peer_settled(struct hf_disks *d, uint64_t epoch)
{
	struct hf_diskshm_words *w = d->shm.words;

	if (epoch <= atomic_load(&w->peer_settled))
		return;
	atomic_store(&w->peer_settled, epoch);
	hf_diskshm_kick(&d->shm);
	if (is_watcher(d))
		hf_disks_reclaim(d);
}

void hf_disks_promote(struct hf_disks *d)
{
	struct hf_diskshm_words *w = d->shm.words;

	atomic_store(&w->permit_ns, UINT64_MAX);
	atomic_store(&w->open_epoch, atomic_load(&w->committed) + 1);
	atomic_store(&w->mode, HF_DISKSHM_DRAIN);
	d->condition = HF_DISK_OWNED; /* once it is drained */
	atomic_store(&w->role, HF_DISKSHM_OWNER);
	hf_diskshm_kick(&d->shm);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An NBD export, through libnbd.
 *
 * Theory of operation. One connection, one request at a time. A request that has no answer within
 * timeout_ms, or whose connection breaks, fails, and the connection is thrown away: nothing can
 * arrive in the caller's memory any more. A write that fails so is unsettled: it may lie in the
 * server's socket, or be on its way to the disk, and land at any later time. After an error that the
 * server itself reports the connection lives on; a write is settled then if that was a refusal.
 *
 * The next request makes a new connection first, within the same time-out. After a connection that
 * could not be made, requests fail at once for a while that grows: a server that is gone is not
 * asked a thousand times a second, and a renewal that is due is not held up for long.
 *
 * A write is durable when it returns: by FUA, or by a flush behind it where the server has no FUA.
 * A server that has neither keeps nothing back.
 *
 * libnbd allocates memory for each request, which is accepted in the renewal's thread, too; a name in the URI that has to be looked up
 * takes as long as that takes: an address is better.
 */
#include <errno.h>
#include <libnbd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lease/store-internal.h"

#define TRANSFER_MAX_BYTES ((size_t)1 << 20) /* every server takes it */
#define BACKOFF_FIRST_MS 20u
#define BACKOFF_MAX_MS 400u

struct export
{
	struct hf_store store;
	struct nbd_handle *nbd; /* NULL: to be made */
	size_t max_bytes; /* of one transfer */
	bool has_fua;
	bool has_flush;
	bool is_known; /* its size and blocks have been seen: it has to stay what it was */
	uint64_t retry_ms; /* no connection is tried before */
	uint32_t backoff_ms;
};

static struct export *export_of(struct hf_store *s)
{
	return (struct export *)(void *)s;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int last_error(void)
{
	int e = nbd_get_errno();

	return e > 0 ? -e : -EIO;
}

/* One round of whatever the handle waits for. 0, -ETIMEDOUT or -errno. */
static int poll_until(struct nbd_handle *nbd, uint64_t deadline_ms)
{
	uint64_t now = now_ms();

	if (now >= deadline_ms)
		return -ETIMEDOUT;
	if (nbd_poll(nbd, (int)(deadline_ms - now)) < 0)
		return nbd_get_errno() == EINTR ? 0 : last_error();
	return 0;
}

/* ---- the connection ---- */

static int set_up(struct nbd_handle *nbd, const char *uri, uint32_t timeout_ms)
{
	uint64_t deadline = now_ms() + timeout_ms;
	int r = nbd_aio_connect_uri(nbd, uri) < 0 ? last_error() : 0;

	while (r == 0 && nbd_aio_is_ready(nbd) <= 0) {
		if (nbd_aio_is_dead(nbd) > 0 || nbd_aio_is_closed(nbd) > 0)
			return -ENOTCONN;
		r = poll_until(nbd, deadline);
	}
	return r;
}

static int learn_blocks(struct export *x, struct nbd_handle *nbd, struct hf_err *err)
{
	int64_t least = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
	int64_t most = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);
	uint64_t sector = least > HF_STORE_SECTOR_MIN_BYTES ? (uint64_t)least
							    : HF_STORE_SECTOR_MIN_BYTES;
	int r = hf_store_check_sector(x->store.path, sector, err);

	if (r < 0)
		return r;
	x->store.sector_bytes = (uint32_t)sector;
	x->max_bytes = TRANSFER_MAX_BYTES;
	if (most >= (int64_t)sector && (uint64_t)most < x->max_bytes)
		x->max_bytes = (size_t)most & ~(size_t)(sector - 1);
	x->has_fua = nbd_can_fua(nbd) > 0;
	x->has_flush = nbd_can_flush(nbd) > 0;
	return 0;
}

/* A server that comes back must serve what it served before: sectors of another size cannot be
 * read with what the caller knows. */
static int learn(struct export *x, struct nbd_handle *nbd, struct hf_err *err)
{
	int64_t size = nbd_get_size(nbd);
	uint32_t sector = x->store.sector_bytes;
	int r;

	if (size < 0) {
		hf_err_set(err, "%s: %s", x->store.path, nbd_get_error());
		return last_error();
	}
	if (nbd_is_read_only(nbd) != 0 && !x->store.is_read_only) {
		hf_err_set(err, "%s: the server lets nobody write to it", x->store.path);
		return -EROFS;
	}
	r = learn_blocks(x, nbd, err);
	if (r == 0 && x->is_known && sector != x->store.sector_bytes) {
		hf_err_set(err, "%s: it came back with blocks of %u instead of %u bytes",
			   x->store.path, x->store.sector_bytes, sector);
		x->store.sector_bytes = sector;
		r = -EIO;
	}
	if (r == 0)
		x->store.size_bytes = (uint64_t)size & ~(uint64_t)(x->store.sector_bytes - 1);
	return r;
}

/* To hf_store_open()'s and -read()'s callers a server is there, or is not, or is silent. */
static int unreachable(const struct export *x, int r, struct hf_err *err)
{
	const char *text = nbd_get_error();

	if (r == -ETIMEDOUT)
		hf_err_set(err, "%s: no NBD server answered there within %u ms", x->store.path,
			   x->store.timeout_ms);
	else
		hf_err_set(err, "%s: no NBD export can be reached there: %s", x->store.path,
			   text ? text : strerrordesc_np(-r));
	return r == -ETIMEDOUT || r == -EINVAL || r == -ENOMEM ? r : -EIO;
}

static int make_connection(struct export *x, struct hf_err *err)
{
	struct nbd_handle *nbd = nbd_create();
	int r = nbd ? set_up(nbd, x->store.path, x->store.timeout_ms) : -ENOMEM;

	if (r < 0)
		r = unreachable(x, r, err);
	else
		r = learn(x, nbd, err);
	if (r < 0) {
		nbd_close(nbd);
		return r;
	}
	x->nbd = nbd;
	x->is_known = true;
	return 0;
}

static void throw_away(struct export *x)
{
	nbd_close(x->nbd);
	x->nbd = NULL;
}

/* A server that ended while nothing was asked of it is noticed here, and not by the next request. */
static void drop_if_dead(struct export *x)
{
	if (!x->nbd)
		return;
	(void)nbd_poll(x->nbd, 0);
	if (nbd_aio_is_ready(x->nbd) <= 0)
		throw_away(x);
}

static void back_off(struct export *x)
{
	x->backoff_ms = x->backoff_ms == 0 ? BACKOFF_FIRST_MS : 2 * x->backoff_ms;
	if (x->backoff_ms > BACKOFF_MAX_MS)
		x->backoff_ms = BACKOFF_MAX_MS;
	x->retry_ms = now_ms() + x->backoff_ms;
}

static int connect_if_need_be(struct export *x, struct hf_err *err)
{
	int r;

	drop_if_dead(x);
	if (x->nbd)
		return 0;
	if (now_ms() < x->retry_ms) {
		hf_err_set(err, "%s: the NBD server could not be reached a moment ago",
			   x->store.path);
		return -EIO;
	}
	r = make_connection(x, err);
	if (r < 0)
		back_off(x);
	else
		x->backoff_ms = 0;
	return r;
}

/* ---- requests ---- */

static int failed(const struct export *x, const char *verb, size_t bytes, uint64_t offset, int r,
		  struct hf_err *err)
{
	const char *path = x->store.path;

	if (r == -ETIMEDOUT)
		hf_err_set(err, "%s: no answer within %u ms to a %s of %zu bytes at offset %llu",
			   path, x->store.timeout_ms, verb, bytes, (unsigned long long)offset);
	else
		hf_err_set(err, "%s: a %s of %zu bytes at offset %llu failed: %s", path, verb,
			   bytes, (unsigned long long)offset, strerrordesc_np(-r));
	return r;
}

/* Waits for the one request. @cookie < 0: it was not even sent. Its connection goes, if the answer
 * has not come: the request still has a hold on the caller's memory. @ret_is_settled: the server has
 * said how it ended. */
static int finish(struct export *x, int64_t cookie, bool *ret_is_settled)
{
	uint64_t deadline = now_ms() + x->store.timeout_ms;
	int r = cookie < 0 ? last_error() : 0;
	int answer = cookie < 0 ? -1 : 0;

	while (r == 0 && answer == 0) {
		answer = nbd_aio_command_completed(x->nbd, (uint64_t)cookie);
		if (answer < 0)
			r = last_error();
		else if (answer == 0)
			r = poll_until(x->nbd, deadline);
	}
	*ret_is_settled = answer != 0 && nbd_aio_is_ready(x->nbd) > 0;
	if (!*ret_is_settled)
		throw_away(x);
	return r;
}

static int export_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset,
		       struct hf_err *err)
{
	struct export *x = export_of(s);
	bool is_settled;
	int r = connect_if_need_be(x, err);

	if (r < 0)
		return r;
	for (size_t at = 0, n; r == 0 && at < bytes; at += n) {
		n = bytes - at < x->max_bytes ? bytes - at : x->max_bytes;
		r = finish(x,
			   nbd_aio_pread(x->nbd, (uint8_t *)buf + at, n, offset + at,
					 NBD_NULL_COMPLETION, 0),
			   &is_settled);
		if (r == 0 && !is_settled && at + n < bytes)
			r = -ENOTCONN;
	}
	return r < 0 ? failed(x, "read", bytes, offset, r, err) : 0;
}

static int write_pieces(struct export *x, const uint8_t *buf, size_t bytes, uint64_t offset,
			bool *ret_is_settled)
{
	uint32_t flags = x->has_fua ? LIBNBD_CMD_FLAG_FUA : 0;
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < bytes; at += n) {
		n = bytes - at < x->max_bytes ? bytes - at : x->max_bytes;
		r = finish(x,
			   nbd_aio_pwrite(x->nbd, buf + at, n, offset + at, NBD_NULL_COMPLETION,
					  flags),
			   ret_is_settled);
		if (r == 0 && !*ret_is_settled && at + n < bytes)
			r = -ENOTCONN;
	}
	return r;
}

/* A write whose flush failed may be lost, or not: nobody knows. */
static int flush(struct export *x, bool *ret_is_settled)
{
	int r = -ENOTCONN;

	if (x->has_fua || !x->has_flush)
		return 0;
	if (x->nbd)
		r = finish(x, nbd_aio_flush(x->nbd, NBD_NULL_COMPLETION, 0), ret_is_settled);
	if (r < 0)
		*ret_is_settled = false;
	return r;
}

static int export_write(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
			struct hf_err *err)
{
	struct export *x = export_of(s);
	bool is_settled = true;
	int r = connect_if_need_be(x, err);

	if (r < 0)
		return r;
	r = write_pieces(x, buf, bytes, offset, &is_settled);
	if (r == 0)
		r = flush(x, &is_settled);
	if (r == 0)
		return 0;
	r = failed(x, "write", bytes, offset, r, err);
	return is_settled && hf_store_is_refusal(r) ? r : HF_STORE_UNSETTLED;
}

/* A size is told when a connection is made. */
static void export_measure(struct hf_store *s)
{
	(void)s;
}

static void export_close(struct hf_store *s)
{
	struct export *x = export_of(s);

	if (x->nbd)
		(void)nbd_aio_disconnect(x->nbd, 0);
	nbd_close(x->nbd);
	hf_store_fini(s);
	free(x);
}

static const struct hf_store_ops export_ops = {
	.read = export_read,
	.write = export_write,
	.measure = export_measure,
	.close = export_close,
};

int hf_store_nbd_open(const struct hf_store_config *config, struct hf_store **ret,
		      struct hf_err *err)
{
	struct export *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	r = hf_store_init(&x->store, &export_ops, config);
	if (r == 0)
		r = make_connection(x, err);
	if (r < 0)
		export_close(&x->store);
	else
		*ret = &x->store;
	return r;
}

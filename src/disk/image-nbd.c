/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An NBD export, through libnbd.
 *
 * Theory of operation. A connection carries one request at a time and belongs to a thread while it
 * does, so a request can be given up after a time without a question of whose it is. If the server
 * says that several connections see the same (multi-conn), up to CONNECTIONS_MAX are made as they
 * are needed; else one.
 *
 * A connection that breaks is thrown away, the call that had it fails, and the next one makes a new
 * one. Behind it may be a server that has just been started again, without the writes that its
 * predecessor acknowledged and had not yet flushed. So if there are any, the next flush fails: the
 * caller then writes them again, as after any failed flush.
 */
#include <errno.h>
#include <libnbd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk/image-internal.h"

#define CONNECTIONS_MAX 8
#define CONNECT_TIMEOUT_MS 10000u
#define TRANSFER_MAX_BYTES ((size_t)1 << 20) /* every server takes it */
#define ZERO_MAX_BYTES ((uint64_t)64 << 20) /* in time, even where zeros are written out */
#define BLOCK_MAX_BYTES 65536u

unsigned int hf_image_nbd_timeout_ms = 30000;

struct connection {
	struct nbd_handle *nbd; /* NULL: to be made */
	bool is_busy;
};

struct export
{
	struct hf_image image;
	char *uri;
	size_t max_bytes; /* of one transfer */
	bool can_zero;
	bool can_flush;
	bool has_extents;
	atomic_bool is_dirty; /* something was written since the last good flush */
	atomic_bool is_lost; /* and may be gone */
	pthread_mutex_t lock; /* the connections */
	pthread_cond_t is_free;
	unsigned int n_connections;
	struct connection connection[CONNECTIONS_MAX];
};

static struct export *export_of(struct hf_image *i)
{
	return (struct export *)(void *)i;
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

/* ---- connections ---- */

static int set_up(struct nbd_handle *nbd, const char *uri)
{
	uint64_t deadline = now_ms() + CONNECT_TIMEOUT_MS;
	int r = 0;

	if (nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
	    nbd_aio_connect_uri(nbd, uri) < 0)
		return last_error();
	while (r == 0 && nbd_aio_is_ready(nbd) <= 0) {
		if (nbd_aio_is_dead(nbd) > 0 || nbd_aio_is_closed(nbd) > 0)
			return -ENOTCONN;
		r = poll_until(nbd, deadline);
	}
	return r;
}

static int connect_to(const char *uri, struct nbd_handle **ret)
{
	struct nbd_handle *nbd = nbd_create();
	int r;

	if (!nbd)
		return last_error();
	r = set_up(nbd, uri);
	if (r < 0)
		nbd_close(nbd);
	else
		*ret = nbd;
	return r;
}

/* A server that comes back must serve what it served before. */
static int connect_again(struct export *x, struct nbd_handle **ret)
{
	struct nbd_handle *nbd = NULL;
	int r = connect_to(x->uri, &nbd);

	if (r < 0)
		return r;
	if (nbd_get_size(nbd) < (int64_t)x->image.size_bytes ||
	    (nbd_is_read_only(nbd) != 0 && !x->image.is_read_only)) {
		nbd_close(nbd);
		return -EIO;
	}
	*ret = nbd;
	return 0;
}

/* A connection that is there rather than one to be made. NULL: all are in use. */
static struct connection *find_free(struct export *x)
{
	struct connection *c = NULL;

	for (unsigned int i = 0; i < x->n_connections; i++)
		if (!x->connection[i].is_busy && (!c || (!c->nbd && x->connection[i].nbd)))
			c = &x->connection[i];
	return c;
}

static void give_back(struct export *x, struct connection *c)
{
	(void)pthread_mutex_lock(&x->lock);
	c->is_busy = false;
	(void)pthread_cond_signal(&x->is_free);
	(void)pthread_mutex_unlock(&x->lock);
}

static int take(struct export *x, struct connection **ret)
{
	struct connection *c;
	int r = 0;

	(void)pthread_mutex_lock(&x->lock);
	while (!(c = find_free(x)))
		(void)pthread_cond_wait(&x->is_free, &x->lock);
	c->is_busy = true;
	(void)pthread_mutex_unlock(&x->lock);
	if (!c->nbd)
		r = connect_again(x, &c->nbd);
	if (r < 0)
		give_back(x, c);
	else
		*ret = c;
	return r;
}

static void throw_away(struct export *x, struct connection *c)
{
	nbd_close(c->nbd);
	c->nbd = NULL;
	if (atomic_load(&x->is_dirty))
		atomic_store(&x->is_lost, true);
}

/* Waits for the one request on this connection, then gives it back. @cookie < 0: it was not even
 * sent. A request without an answer still has a hold on the caller's memory: its connection has to
 * go. */
static int finish(struct export *x, struct connection *c, int64_t cookie)
{
	uint64_t deadline = now_ms() + hf_image_nbd_timeout_ms;
	int r = cookie < 0 ? last_error() : 0;
	int answer = cookie < 0 ? -1 : 0;

	while (r == 0 && answer == 0) {
		answer = nbd_aio_command_completed(c->nbd, (uint64_t)cookie);
		if (answer < 0)
			r = last_error();
		else if (answer == 0)
			r = poll_until(c->nbd, deadline);
	}
	if (answer == 0 || nbd_aio_is_ready(c->nbd) <= 0)
		throw_away(x, c);
	give_back(x, c);
	return r;
}

/* ---- requests ---- */

static int export_read(struct hf_image *i, void *buf, size_t len, uint64_t offset)
{
	struct export *x = export_of(i);
	struct connection *c;
	uint8_t *to = buf;
	int r = 0;

	while (r == 0 && len > 0) {
		size_t n = len < x->max_bytes ? len : x->max_bytes;

		r = take(x, &c);
		if (r == 0)
			r = finish(x, c,
				   nbd_aio_pread(c->nbd, to, n, offset, NBD_NULL_COMPLETION, 0));
		to += n;
		len -= n;
		offset += n;
	}
	return r;
}

static int write_piece(struct export *x, const uint8_t *buf, size_t len, uint64_t offset)
{
	struct connection *c;
	int r = take(x, &c);

	if (r < 0)
		return r;
	r = finish(x, c, nbd_aio_pwrite(c->nbd, buf, len, offset, NBD_NULL_COMPLETION, 0));
	atomic_store(&x->is_dirty, true);
	return r;
}

static int write_flat(struct export *x, const uint8_t *buf, size_t len, uint64_t offset)
{
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < len; at += n) {
		n = len - at < x->max_bytes ? len - at : x->max_bytes;
		r = write_piece(x, buf + at, n, offset + at);
	}
	return r;
}

/* One request takes one stretch of memory: pieces are joined, not sent one by one. */
static int export_writev(struct hf_image *i, const struct iovec *iov, int n_iov, uint64_t offset)
{
	struct export *x = export_of(i);
	size_t len = hf_image_iov_bytes(iov, n_iov);
	uint8_t *flat;
	int r = 0;

	if (n_iov == 1)
		return write_flat(x, iov->iov_base, len, offset);
	flat = malloc(len < x->max_bytes ? len : x->max_bytes);
	if (!flat)
		return -ENOMEM;
	for (size_t at = 0, n; r == 0 && at < len; at += n) {
		n = len - at < x->max_bytes ? len - at : x->max_bytes;
		hf_image_gather(iov, n_iov, at, flat, n);
		r = write_piece(x, flat, n, offset + at);
	}
	free(flat);
	return r;
}

/* A trim over NBD promises nothing about what is read afterwards; this does, and may free the room,
 * too. */
static int export_zero(struct hf_image *i, uint64_t len, uint64_t offset, bool may_trim)
{
	struct export *x = export_of(i);
	uint32_t flags = may_trim ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
	struct connection *c;
	int r = 0;

	if (!x->can_zero)
		return hf_image_write_zeros(i, len, offset);
	for (uint64_t n; r == 0 && len > 0; len -= n, offset += n) {
		n = len < ZERO_MAX_BYTES ? len : ZERO_MAX_BYTES;
		r = take(x, &c);
		if (r == 0)
			r = finish(x, c,
				   nbd_aio_zero(c->nbd, n, offset, NBD_NULL_COMPLETION, flags));
		atomic_store(&x->is_dirty, true);
	}
	return r;
}

static int export_flush(struct hf_image *i)
{
	struct export *x = export_of(i);
	struct connection *c;
	int r = 0;

	if (atomic_exchange(&x->is_dirty, false) && x->can_flush) {
		r = take(x, &c);
		if (r == 0)
			r = finish(x, c, nbd_aio_flush(c->nbd, NBD_NULL_COMPLETION, 0));
	}
	if (r < 0)
		atomic_store(&x->is_dirty, true);
	return atomic_exchange(&x->is_lost, false) ? -EIO : r;
}

struct first_extent {
	uint32_t len;
	uint32_t flags;
};

static int note_extent(void *ctx, const char *context, uint64_t offset, uint32_t *entries, size_t n,
		       int *error)
{
	struct first_extent *first = ctx;

	(void)offset;
	(void)error;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 && n >= 2 && first->len == 0) {
		first->len = entries[0];
		first->flags = entries[1];
	}
	return 0;
}

static int export_extent(struct hf_image *i, uint64_t offset, uint64_t end, uint64_t *ret_len,
			 bool *ret_is_hole)
{
	struct export *x = export_of(i);
	uint64_t len = end - offset < ZERO_MAX_BYTES ? end - offset : ZERO_MAX_BYTES;
	struct first_extent first = { 0 };
	nbd_extent_callback callback = { .callback = note_extent, .user_data = &first };
	struct connection *c;
	int r;

	*ret_len = len;
	*ret_is_hole = false;
	if (!x->has_extents)
		return 0;
	r = take(x, &c);
	if (r == 0)
		r = finish(x, c,
			   nbd_aio_block_status(c->nbd, len, offset, callback, NBD_NULL_COMPLETION,
						LIBNBD_CMD_FLAG_REQ_ONE));
	if (r == 0 && first.len > 0) {
		*ret_len = first.len;
		*ret_is_hole = first.flags & LIBNBD_STATE_ZERO;
	}
	return r;
}

static void export_close(struct hf_image *i)
{
	struct export *x = export_of(i);

	for (unsigned int n = 0; n < CONNECTIONS_MAX; n++)
		if (x->connection[n].nbd) {
			(void)nbd_aio_disconnect(x->connection[n].nbd, 0);
			nbd_close(x->connection[n].nbd);
		}
	(void)pthread_cond_destroy(&x->is_free);
	(void)pthread_mutex_destroy(&x->lock);
	hf_image_fini(i);
	free(x->uri);
	free(x);
}

static const struct hf_image_ops export_ops = {
	.read = export_read,
	.writev = export_writev,
	.zero = export_zero,
	.flush = export_flush,
	.extent = export_extent,
	.close = export_close,
};

/* ---- opening ---- */

static int learn_size(struct export *x, struct nbd_handle *nbd, struct hf_err *err)
{
	int64_t own = nbd_get_size(nbd);
	int64_t block = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);

	if (own < 0) {
		hf_err_set(err, "%s: %s", x->uri, nbd_get_error());
		return last_error();
	}
	x->image.block_bytes = block > 1 ? (uint32_t)block : 1;
	if (block > BLOCK_MAX_BYTES || (x->image.block_bytes & (x->image.block_bytes - 1)) != 0) {
		hf_err_set(err, "%s: blocks of %lld bytes", x->uri, (long long)block);
		return -EINVAL;
	}
	if (x->image.size_bytes == 0)
		x->image.size_bytes = (uint64_t)own;
	if (x->image.size_bytes > (uint64_t)own ||
	    x->image.size_bytes % x->image.block_bytes != 0) {
		hf_err_set(err, "%s: it has %lld bytes in blocks of %u, and the disk %llu", x->uri,
			   (long long)own, x->image.block_bytes,
			   (unsigned long long)x->image.size_bytes);
		return -EINVAL;
	}
	return 0;
}

static int learn(struct export *x, struct nbd_handle *nbd, struct hf_err *err)
{
	int64_t max = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);
	int r = learn_size(x, nbd, err);

	if (r < 0)
		return r;
	if (nbd_is_read_only(nbd) != 0 && !x->image.is_read_only) {
		hf_err_set(err, "%s: the server lets nobody write to it", x->uri);
		return -EROFS;
	}
	x->max_bytes = TRANSFER_MAX_BYTES;
	if (max >= x->image.block_bytes && (uint64_t)max < x->max_bytes)
		x->max_bytes = (size_t)max & ~(size_t)(x->image.block_bytes - 1);
	x->can_zero = nbd_can_zero(nbd) > 0;
	x->can_flush = nbd_can_flush(nbd) > 0;
	x->has_extents = nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	x->image.can_trim = x->can_zero;
	x->n_connections = nbd_can_multi_conn(nbd) > 0 ? CONNECTIONS_MAX : 1;
	return 0;
}

int hf_image_nbd_open(const struct hf_image_config *config, struct hf_image **ret,
		      struct hf_err *err)
{
	struct export *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	hf_image_init(&x->image, &export_ops, config);
	(void)pthread_mutex_init(&x->lock, NULL);
	(void)pthread_cond_init(&x->is_free, NULL);
	x->uri = strdup(config->location);
	r = x->uri ? connect_to(x->uri, &x->connection[0].nbd) : -ENOMEM;
	if (r < 0)
		hf_err_set(err, "%s: no NBD export can be reached there: %s", config->location,
			   r == -ETIMEDOUT ? "no answer in time" : strerror(-r));
	else
		r = learn(x, x->connection[0].nbd, err);
	if (r < 0)
		export_close(&x->image);
	else
		*ret = &x->image;
	return r;
}

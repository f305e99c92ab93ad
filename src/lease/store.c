/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all kinds of storage have in common: names, buffers, ranges. */
#include "lease/store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lease/store-internal.h"

/* What O_DIRECT may ask of memory: a page, or a device's largest sector. */
#define MEMORY_ALIGN_BYTES ((size_t)4096)
#define TIMEOUT_DEFAULT_MS 5000u

struct hf_store_memory {
	struct hf_store_memory *next;
	void *bytes;
};

/* ---- for the kinds ---- */

int hf_store_init(struct hf_store *s, const struct hf_store_ops *ops,
		  const struct hf_store_config *config)
{
	s->ops = ops;
	s->is_read_only = config->is_read_only;
	s->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS;
	s->path = strdup(config->path);
	return s->path ? 0 : -ENOMEM;
}

void hf_store_fini(struct hf_store *s)
{
	while (s->memory) {
		struct hf_store_memory *m = s->memory;

		s->memory = m->next;
		free(m->bytes);
		free(m);
	}
	free(s->path);
}

int hf_store_check_sector(const char *path, uint64_t bytes, struct hf_err *err)
{
	if (bytes >= HF_STORE_SECTOR_MIN_BYTES && bytes <= HF_STORE_SECTOR_MAX_BYTES &&
	    (bytes & (bytes - 1)) == 0)
		return 0;
	hf_err_set(err, "%s: it is written in blocks of %llu bytes: leases need 512 to 4096", path,
		   (unsigned long long)bytes);
	return -EINVAL;
}

bool hf_store_is_refusal(int r)
{
	switch (-r) {
	case EINVAL:
	case EBADF:
	case EPERM:
	case EROFS:
	case EFBIG:
	case ENOSPC:
	case EDQUOT:
		return true;
	default:
		return false;
	}
}

/* ---- opening and closing ---- */

static bool is_uri(const char *path)
{
	static const char *const schemes[] = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://" };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncmp(path, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

int hf_store_open(const struct hf_store_config *config, struct hf_store **ret, struct hf_err *err)
{
	if (is_uri(config->path))
		return hf_store_nbd_open(config, ret, err);
	if (config->path[0] == '/')
		return hf_store_file_open(config, ret, err);
	hf_err_set(err, "%s: neither an absolute path nor the URI of an NBD export (nbd://...)",
		   config->path);
	return -EMEDIUMTYPE;
}

void hf_store_close(struct hf_store *s)
{
	if (s)
		s->ops->close(s);
}

uint64_t hf_store_size_bytes(const struct hf_store *s)
{
	return s->size_bytes;
}

uint32_t hf_store_sector_bytes(const struct hf_store *s)
{
	return s->sector_bytes;
}

/* Written to once, so that its pages are there when the first transfer needs them. */
void *hf_store_buffer(struct hf_store *s, size_t bytes)
{
	struct hf_store_memory *m = malloc(sizeof(*m));

	assert(bytes > 0);
	if (!m)
		return NULL;
	if (posix_memalign(&m->bytes, MEMORY_ALIGN_BYTES, bytes) != 0) {
		free(m);
		return NULL;
	}
	memset(m->bytes, 0, bytes);
	m->next = s->memory;
	s->memory = m;
	return m->bytes;
}

/* ---- transfers ---- */

static bool is_inside(const struct hf_store *s, size_t bytes, uint64_t offset)
{
	return offset <= s->size_bytes && bytes <= s->size_bytes - offset;
}

/* Writing past the end would make a file larger, which is nothing for a lease to do. */
static int check_range(struct hf_store *s, const char *verb, size_t bytes, uint64_t offset,
		       struct hf_err *err)
{
	assert(bytes > 0 && bytes % s->sector_bytes == 0);
	assert(offset % s->sector_bytes == 0);
	if (!is_inside(s, bytes, offset))
		s->ops->measure(s);
	if (is_inside(s, bytes, offset))
		return 0;
	hf_err_set(err, "%s: cannot %s %zu bytes at offset %llu: it has %llu bytes only", s->path,
		   verb, bytes, (unsigned long long)offset, (unsigned long long)s->size_bytes);
	return -ERANGE;
}

int hf_store_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset, struct hf_err *err)
{
	int r = check_range(s, "read", bytes, offset, err);

	return r < 0 ? r : s->ops->read(s, buf, bytes, offset, err);
}

int hf_store_write(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
		   struct hf_err *err)
{
	int r;

	assert(!s->is_read_only);
	r = check_range(s, "write", bytes, offset, err);
	return r < 0 ? r : s->ops->write(s, buf, bytes, offset, err);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "disk/image-internal.h"
#include "disk/redo-internal.h"

/* The name must last as well as what is in the file. */
static int sync_folder_of(const char *path)
{
	char *copy = strdup(path);
	int fd, r = 0;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		r = -errno;
	if (fd >= 0)
		(void)close(fd);
	free(copy);
	return r;
}

/* Two hosts may do it at once: both find it made. */
static int make_file(const char *path, struct hf_err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : 0;

	if (r == -EEXIST)
		return 0;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (fd >= 0)
		(void)close(fd);
	if (r == 0)
		r = sync_folder_of(path);
	if (r < 0)
		hf_err_set(err, "%s: it cannot be made: %s", path, strerror(-r));
	return r;
}

/* Past the page cache where that goes: it is read once, after a crash, and then from the disk
 * itself. */
static int open_image(const struct hf_redo_config *config, struct hf_image **ret,
		      struct hf_err *err)
{
	struct hf_image_config image = { .location = config->location,
					 .is_direct = true,
					 .is_shared = config->is_shared };
	struct stat st;
	int r = 0;

	if (!hf_image_is_uri(config->location)) {
		if (stat(config->location, &st) < 0 && errno == ENOENT)
			r = make_file(config->location, err);
		if (r == 0 && stat(config->location, &st) == 0 && S_ISREG(st.st_mode))
			image.size_bytes = HF_REDO_SIZE_MAX_BYTES;
	}
	if (r < 0)
		return r;
	r = hf_image_open(&image, ret, err);
	if (r == -EINVAL && !config->is_shared) {
		image.is_direct = false;
		r = hf_image_open(&image, ret, err);
	}
	return r;
}

static int check_config(const struct hf_redo_config *config, struct hf_err *err)
{
	const char *wrong = NULL;

	if (!hf_is_valid_name(config->vm))
		wrong = "the VM's name";
	else if (config->n_disks == 0 || config->n_disks > HF_WIRE_DISKS_MAX)
		wrong = "the number of disks";
	else if (config->area_bytes < HF_REDO_AREA_MIN_BYTES ||
		 config->area_bytes > HF_REDO_AREA_MAX_BYTES)
		wrong = "its size";
	if (!wrong)
		return 0;
	hf_err_set(err, "%s: %s is not valid for a redo journal", config->location, wrong);
	return -EINVAL;
}

static int check_size(const struct hf_redo *r, struct hf_err *err)
{
	uint64_t need = HF_REDO_HEADERS_BYTES + HF_REDO_AREAS * r->wanted_area_bytes;
	uint64_t has = hf_image_size_bytes(r->image);

	if (has >= need)
		return 0;
	hf_err_set(err, "%s: it has %llu bytes, and two areas of %llu need %llu", r->location,
		   (unsigned long long)has, (unsigned long long)r->wanted_area_bytes,
		   (unsigned long long)need);
	return -ENOSPC;
}

static int fill_in(struct hf_redo *r, const struct hf_redo_config *config)
{
	void *window;

	r->is_shared = config->is_shared;
	r->wanted_area_bytes = (config->area_bytes + HF_REDO_BLOCK_BYTES - 1) &
			       ~(uint64_t)(HF_REDO_BLOCK_BYTES - 1);
	r->header.n_disks = config->n_disks;
	memcpy(r->header.disk_bytes, config->disk_bytes, config->n_disks * sizeof(uint64_t));
	(void)strncpy(r->header.vm, config->vm, sizeof(r->header.vm) - 1);
	r->location = strdup(config->location);
	if (!r->location || posix_memalign(&window, HF_REDO_BLOCK_BYTES, HF_REDO_WINDOW_BYTES) != 0)
		return -ENOMEM;
	r->window = window;
	return 0;
}

static bool has_disks(const struct hf_redo_header *a, const struct hf_redo_header *b)
{
	return a->n_disks == b->n_disks &&
	       memcmp(a->disk_bytes, b->disk_bytes, a->n_disks * sizeof(uint64_t)) == 0;
}

static int refuse_disks(const struct hf_redo *r, const struct hf_redo_header *mine,
			struct hf_err *err)
{
	hf_err_set(err,
		   "%s: %llu epochs wait to be redone on %u disks, the first of %llu bytes; the VM "
		   "has "
		   "%u, the first of %llu",
		   r->location, (unsigned long long)r->chain.entries, r->header.n_disks,
		   (unsigned long long)r->header.disk_bytes[0], mine->n_disks,
		   (unsigned long long)mine->disk_bytes[0]);
	return -EBADMSG;
}

/* Entries for other disks cannot be redone on these. Without any the new sizes are what counts,
 * from the first entry on: the header that says so comes before it. */
static int take_disks(struct hf_redo *r, const struct hf_redo_header *mine, struct hf_err *err)
{
	if (has_disks(&r->header, mine))
		return 0;
	if (r->chain.entries > 0)
		return refuse_disks(r, mine, err);
	r->header.n_disks = mine->n_disks;
	memcpy(r->header.disk_bytes, mine->disk_bytes, sizeof(mine->disk_bytes));
	r->is_in_doubt = true;
	return 0;
}

static int recover(struct hf_redo *r, struct hf_err *err)
{
	struct hf_redo_header mine = r->header;
	struct hf_redo_found found;
	int e = hf_redo_find_header(r, &found, err);

	if (e < 0)
		return e;
	if (found.is_fresh) {
		hf_redo_chain_begin(&r->header, &r->chain);
		r->synced = r->chain;
		return 0;
	}
	r->area = found.area;
	r->next_slot = found.next_slot[found.area];
	r->header = found.header;
	e = hf_redo_scan(r, &r->chain, err);
	if (e < 0)
		return e;
	r->synced = r->chain;
	return take_disks(r, &mine, err);
}

int hf_redo_open_image(const struct hf_redo_config *config, struct hf_image *image,
		       struct hf_redo **ret, struct hf_err *err)
{
	struct hf_redo *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->image = image;
	e = check_config(config, err);
	if (e == 0)
		e = fill_in(r, config);
	if (e == 0)
		e = check_size(r, err);
	/* What a predecessor wrote and did not flush is about to be relied on. */
	if (e == 0)
		e = hf_image_flush(image);
	if (e == 0)
		e = recover(r, err);
	if (e < 0) {
		r->image = NULL;
		hf_redo_close(r);
	} else {
		*ret = r;
	}
	return e;
}

int hf_redo_open(const struct hf_redo_config *config, struct hf_redo **ret, struct hf_err *err)
{
	struct hf_image *image;
	int e = open_image(config, &image, err);

	if (e < 0)
		return e;
	e = hf_redo_open_image(config, image, ret, err);
	if (e < 0)
		hf_image_close(image);
	return e;
}

void hf_redo_close(struct hf_redo *r)
{
	if (!r)
		return;
	hf_image_close(r->image);
	free(r->window);
	free(r->location);
	free(r);
}

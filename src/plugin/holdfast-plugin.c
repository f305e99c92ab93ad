/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbdkit's side of the disk path: NBD requests become calls of the engine. docs/man has the parameters.
 *
 * Threads: nbdkit calls the requests from many; the rest, up to after_fork(), from its main one. The
 * engine is started in after_fork(), for its threads would not survive nbdkit's going into the
 * background; images are opened for reading once before, so that who starts nbdkit by hand sees what
 * is wrong with them.
 *
 * Several connections see one disk: all go through one engine, and a flush on one of them covers what
 * was acknowledged on any. Hence can_multi_conn.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "disk/engine.h"
#include "plugin/plugin-options.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define REQUEST_BYTES_MAX ((uint32_t)32 << 20) /* what NBD clients must get by with */
#define PREFERRED_BYTES 4096u
#define EXTENTS_MAX 1024 /* in one answer; the client asks for more */
#define ERROR_INTERVAL_S 1

static struct hf_plugin_options options;
static struct hf_engine *engine;

/* A connection's; never changes. */
struct export
{
	uint32_t disk;
	struct hf_diskctl_geometry geometry;
};

/* One for each disk: connections share them. */
static struct export exports[HF_WIRE_DISKS_MAX];

/* ---- start and end ---- */

static void on_load(void)
{
	hf_plugin_options_init(&options);
}

static void on_unload(void)
{
	hf_plugin_options_fini(&options);
}

static int on_config(const char *key, const char *value)
{
	struct hf_err err = { "" };
	int r = hf_plugin_options_set(&options, key, value, &err);

	if (r < 0)
		nbdkit_error("%s", err.text[0] ? err.text : strerror(-r));
	return r < 0 ? -1 : 0;
}

static int on_config_complete(void)
{
	struct hf_err err = { "" };
	int r = hf_plugin_options_complete(&options, &err);

	if (r < 0)
		nbdkit_error("%s", err.text[0] ? err.text : strerror(-r));
	return r < 0 ? -1 : 0;
}

static struct hf_image_config image_config(uint32_t i)
{
	return (struct hf_image_config){
		.location = options.disk[i].location,
		.size_bytes = options.disk[i].size_bytes,
		.is_direct = options.disk[i].is_direct || options.is_shared,
		.is_shared = options.is_shared,
	};
}

/* What a person who starts this by hand is to be told before nbdkit goes into the background. */
static int on_get_ready(void)
{
	struct hf_err err = { "" };

	for (uint32_t i = 0; i < options.n_disks && options.shm_fd < 0; i++) {
		struct hf_image_config config = image_config(i);
		struct hf_image *image = NULL;
		int r;

		config.is_read_only = true;
		r = hf_image_open(&config, &image, &err);
		if (r < 0) {
			nbdkit_error("%s", err.text[0] ? err.text : strerror(-r));
			return -1;
		}
		hf_image_close(image);
	}
	return 0;
}

/* nbdkit's children, if a filter starts any, have no business with them. */
static void keep_from_children(void)
{
	const int fds[] = { options.shm_fd, options.kick_fd, options.notice_fd, options.control_fd,
			    options.hold_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			(void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
	}
}

static int start_engine(struct hf_err *err)
{
	struct hf_engine_config config = {
		.vm = options.vm,
		.n_disks = options.n_disks,
		.redo_location = options.redo,
		.redo_area_bytes = options.redo_bytes,
		.is_shared = options.is_shared,
		.is_standby = options.is_standby,
		.shm = HF_DISKSHM_NONE,
		.control_fd = options.control_fd,
	};
	int r;

	for (uint32_t i = 0; i < options.n_disks; i++) {
		config.image[i] = image_config(i);
		config.map_path[i] = options.disk[i].map;
	}
	if (options.shm_fd >= 0) {
		r = hf_diskshm_attach(options.shm_fd, options.kick_fd, options.notice_fd,
				      &config.shm, err);
		if (r < 0)
			return r;
	}
	return hf_engine_start(&config, &engine, err);
}

static int on_after_fork(void)
{
	struct hf_err err = { "" };
	int r;

	keep_from_children();
	r = start_engine(&err);
	if (r < 0) {
		nbdkit_error("%s", err.text[0] ? err.text : strerror(-r));
		return -1;
	}
	for (uint32_t i = 0; i < options.n_disks; i++) {
		exports[i].disk = i;
		hf_engine_geometry(engine, i, &exports[i].geometry);
	}
	return 0;
}

static void on_cleanup(void)
{
	if (engine)
		hf_engine_stop(engine);
	engine = NULL;
}

static void on_dump_plugin(void)
{
	printf("holdfast_version=%s\n", HF_VERSION);
	printf("holdfast_disks_max=%d\n", HF_WIRE_DISKS_MAX);
}

/* ---- exports ---- */

static void format_name(uint32_t i, char name[16])
{
	(void)snprintf(name, 16, "disk%u", i);
}

static int on_list_exports(int is_readonly, int is_tls, struct nbdkit_exports *list)
{
	(void)is_readonly;
	(void)is_tls;
	for (uint32_t i = 0; i < options.n_disks; i++) {
		char name[16];

		format_name(i, name);
		if (nbdkit_add_export(list, name, options.disk[i].location) < 0)
			return -1;
	}
	return 0;
}

static const char *on_default_export(int is_readonly, int is_tls)
{
	(void)is_readonly;
	(void)is_tls;
	return "disk0";
}

static void *on_open(int is_readonly)
{
	const char *wanted = nbdkit_export_name();

	for (uint32_t i = 0; wanted && i < options.n_disks; i++) {
		char name[16];

		format_name(i, name);
		if (strcmp(wanted, name) == 0 || (i == 0 && !*wanted)) {
			nbdkit_debug("export %s%s: '%s'", name, is_readonly ? ", read-only" : "",
				     options.disk[i].location);
			return &exports[i];
		}
	}
	nbdkit_set_error(ENOENT);
	nbdkit_error("there is no export '%.100s': they are disk0 to disk%u", wanted ? wanted : "",
		     options.n_disks - 1);
	return NULL;
}

static const char *on_export_description(void *handle)
{
	const struct export *x = handle;

	return options.disk[x->disk].location;
}

static int64_t on_get_size(void *handle)
{
	const struct export *x = handle;

	return (int64_t)x->geometry.size_bytes;
}

static int on_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	const struct export *x = handle;

	*minimum = x->geometry.block_bytes;
	*preferred = *minimum > PREFERRED_BYTES ? *minimum : PREFERRED_BYTES;
	*maximum = REQUEST_BYTES_MAX;
	return 0;
}

static int say_yes(void *handle)
{
	(void)handle;
	return 1;
}

static int say_native_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

/* A read fills the page cache as well as anything. */
static int say_emulate_cache(void *handle)
{
	(void)handle;
	return NBDKIT_CACHE_EMULATE;
}

/* ---- requests ---- */

/* A guest can make requests fail as often as it likes: the log gets one line in a while. */
static bool may_log(void)
{
	static _Atomic int64_t last_s = INT64_MIN / 2;
	struct timespec now;
	int64_t before = atomic_load(&last_s);

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - before >= ERROR_INTERVAL_S &&
	       atomic_compare_exchange_strong(&last_s, &before, now.tv_sec);
}

/* NBD has words for these only; nbdkit would call all others "invalid", as if the client were wrong. */
static int nbd_error(int error)
{
	static const int known[] = { EPERM,  EROFS, EIO,    ENOMEM,     EINVAL,
				     ENOSPC, EFBIG, EDQUOT, EOPNOTSUPP, ESHUTDOWN };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (error == known[i])
			return error;
	}
	return EIO;
}

/* What nbdkit wants returned for @r, 0 or -errno. */
static int answer(const struct export *x, const char *what, int r, uint64_t count, uint64_t offset)
{
	if (r >= 0)
		return 0;
	if (may_log())
		nbdkit_error("disk%u: cannot %s %llu bytes at %llu: %s", x->disk, what,
			     (unsigned long long)count, (unsigned long long)offset, strerror(-r));
	nbdkit_set_error(nbd_error(-r));
	return -1;
}

/* nbdkit has checked the range, but leaves the granularity to us. */
static bool is_aligned(const struct export *x, uint64_t count, uint64_t offset)
{
	return ((count | offset) & (x->geometry.block_bytes - 1)) == 0;
}

static int on_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct export *x = handle;
	int r = -EINVAL;

	(void)flags;
	if (is_aligned(x, count, offset))
		r = hf_engine_read(engine, x->disk, buf, count, offset);
	return answer(x, "read", r, count, offset);
}

static int on_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct export *x = handle;
	int r = -EINVAL;

	if (is_aligned(x, count, offset))
		r = hf_engine_write(engine, x->disk, buf, count, offset, flags & NBDKIT_FLAG_FUA);
	return answer(x, "write", r, count, offset);
}

static int on_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct export *x = handle;
	int r = -EINVAL;

	if (is_aligned(x, count, offset))
		r = hf_engine_zero(engine, x->disk, count, offset, flags & NBDKIT_FLAG_MAY_TRIM,
				   flags & NBDKIT_FLAG_FUA);
	return answer(x, "zero", r, count, offset);
}

/* The part of a block that is trimmed only in part keeps its content, which the protocol allows. */
static int on_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct export *x = handle;
	uint64_t mask = x->geometry.block_bytes - 1;
	uint64_t from = (offset + mask) & ~mask, end = (offset + count) & ~mask;
	int r = 0;

	if (from < end)
		r = hf_engine_trim(engine, x->disk, end - from, from, flags & NBDKIT_FLAG_FUA);
	else if (flags & NBDKIT_FLAG_FUA)
		r = hf_engine_flush(engine, x->disk);
	return answer(x, "trim", r, count, offset);
}

static int on_flush(void *handle, uint32_t flags)
{
	const struct export *x = handle;

	(void)flags;
	return answer(x, "flush", hf_engine_flush(engine, x->disk), 0, 0);
}

static int on_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
		      struct nbdkit_extents *list)
{
	const struct export *x = handle;
	uint64_t end = offset + count;

	for (unsigned int n = 0; offset < end && n < EXTENTS_MAX; n++) {
		uint64_t len = 0;
		bool is_hole = false;
		int r = hf_engine_extent(engine, x->disk, offset, end, &len, &is_hole);

		if (r < 0)
			return answer(x, "find what is allocated in", r, end - offset, offset);
		if (nbdkit_add_extent(list, offset, len,
				      is_hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) < 0)
			return -1;
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
		offset += len;
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name = "holdfast",
	.longname = "holdfast disk path",
	.version = HF_VERSION,
	.description = "a VM's disks, for high availability: see nbdkit-holdfast-plugin(1)",
	.magic_config_key = "disk",
	.config_help = "disk=PATH|URI   image, block device or NBD export; may be repeated\n"
		       "size=SIZE       of the disk before it, if not the image's own\n"
		       "cache=direct    past the page cache\n"
		       "The other parameters are holdfast-keeper's: see nbdkit-holdfast-plugin(1).",
	.load = on_load,
	.unload = on_unload,
	.config = on_config,
	.config_complete = on_config_complete,
	.get_ready = on_get_ready,
	.after_fork = on_after_fork,
	.cleanup = on_cleanup,
	.dump_plugin = on_dump_plugin,
	.list_exports = on_list_exports,
	.default_export = on_default_export,
	.open = on_open,
	.export_description = on_export_description,
	.get_size = on_get_size,
	.block_size = on_block_size,
	.can_write = say_yes,
	.can_flush = say_yes,
	.can_trim = say_yes,
	.can_zero = say_yes,
	.can_extents = say_yes,
	.can_multi_conn = say_yes,
	.can_fua = say_native_fua,
	.can_cache = say_emulate_cache,
	.pread = on_pread,
	.pwrite = on_pwrite,
	.zero = on_zero,
	.trim = on_trim,
	.flush = on_flush,
	.extents = on_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast lease init: lockspace, index, the index's lease.
 *
 * The lockspace's first sector decides whether there is a lease area. It is made zero before
 * anything else is written, and written last. So what a crash leaves behind is no lease area, also
 * where one had been: nobody can join it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/lease-verbs.h"
#include "codec/leasedisk.h"
#include "lease/store.h"

#define MIB ((uint64_t)1024 * 1024)
#define PROBE_BYTES 4096u
#define HOSTS_DEFAULT 64u
#define LEASES_DEFAULT 64u
#define LEASES_MAX ((8 * MIB - 4096) / HF_LEASE_INDEX_ENTRY_BYTES) /* the largest index's */
#define HEAD_AREAS 3u /* lockspace, index, the index's lease */

struct settings {
	const char *space;
	char path[PATH_MAX];
	uint64_t hosts; /* 0: not given */
	uint64_t sector_bytes; /* 0: not given */
	uint64_t align_bytes;
	uint64_t io_timeout_ns;
	uint64_t leases; /* 0: not given */
	bool is_forced;
};

struct init {
	struct settings set;
	struct hf_lease_geometry g;
	struct hf_store *store;
	uint8_t *area;
	uint32_t num_hosts;
	bool is_created; /* the file is ours to remove if this fails */
};

/* ---- the command line ---- */

static int parse_count(const char *name, const char *text, uint64_t min, uint64_t max,
		       uint64_t *ret, struct hf_err *err)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < min || n > max) {
		hf_err_set(err, "--%s %s: a number from %" PRIu64 " to %" PRIu64, name, text, min,
			   max);
		return -EINVAL;
	}
	*ret = n;
	return 0;
}

static int parse_option(struct settings *s, int option, const char *value, struct hf_err *err)
{
	int r;

	switch (option) {
	case 'l':
		s->space = value;
		return 0;
	case 'h':
		return parse_count("hosts", value, 1, HF_LEASE_HOSTS_MAX, &s->hosts, err);
	case 's':
		return parse_count("sector", value, 512, 4096, &s->sector_bytes, err);
	case 'a':
		r = hf_parse_size_bytes(value, &s->align_bytes, err);
		break;
	case 't':
		r = hf_parse_duration_ns(value, &s->io_timeout_ns, err);
		break;
	case 'n':
		return parse_count("leases", value, 1, LEASES_MAX, &s->leases, err);
	default:
		s->is_forced = true;
		return 0;
	}
	if (r < 0)
		hf_err_prefix(err, "--%s", option == 'a' ? "align" : "io-timeout");
	return r;
}

static int check_settings(const struct settings *s, struct hf_err *err)
{
	if (!s->space)
		hf_err_set(err, "--lockspace NAME is missing");
	else if (!hf_is_valid_name(s->space) || strlen(s->space) > HF_LEASE_NAME_BYTES)
		hf_err_set(err,
			   "--lockspace '%s': up to %d letters, digits and ._-, not first a . or -",
			   s->space, HF_LEASE_NAME_BYTES);
	else if (s->io_timeout_ns < 1000000000 || s->io_timeout_ns > 255000000000 ||
		 s->io_timeout_ns % 1000000000)
		hf_err_set(err, "--io-timeout: whole seconds from 1s to 255s");
	else if (s->align_bytes > 8 * MIB)
		hf_err_set(err, "--align: 1M, 2M, 4M or 8M");
	else
		return 0;
	return -EINVAL;
}

/* Return: 0; 1: help is wanted; -EINVAL. */
static int parse(int argc, char **argv, struct settings *s, struct hf_err *err)
{
	static const struct option table[] = {
		{ "lockspace", required_argument, NULL, 'l' },
		{ "hosts", required_argument, NULL, 'h' },
		{ "sector", required_argument, NULL, 's' },
		{ "align", required_argument, NULL, 'a' },
		{ "io-timeout", required_argument, NULL, 't' },
		{ "leases", required_argument, NULL, 'n' },
		{ "force", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, '?' + 1 },
		{ NULL, 0, NULL, 0 },
	};
	int c, r;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		if (c == '?' + 1)
			return 1;
		if (c == '?' || c == ':') {
			hf_err_set(err, "%s: %s", argv[optind - 1],
				   c == ':' ? "needs a value" : "no such option");
			return -EINVAL;
		}
		r = parse_option(s, c, optarg, err);
		if (r < 0)
			return r;
	}
	if (argc - optind != 1) {
		hf_err_set(err, "one AREA has to be given");
		return -EINVAL;
	}
	r = hf_lease_area_path(argv[optind], s->path, sizeof(s->path), err);
	return r < 0 ? r : check_settings(s, err);
}

/* ---- the place ---- */

static uint64_t wanted_leases(const struct settings *s)
{
	return s->leases ? s->leases : LEASES_DEFAULT;
}

/* A file that is not there is made, an empty one is made large enough; with its blocks, so that no
 * renewal ever fails for want of room. */
static int grow_file(int fd, uint64_t bytes)
{
	if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int make_file(struct init *in, struct hf_err *err)
{
	const char *path = in->set.path;
	uint64_t bytes = (HEAD_AREAS + wanted_leases(&in->set)) * in->set.align_bytes;
	struct stat st;
	int fd, r = 0;

	if (*path != '/' || (stat(path, &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > 0)))
		return 0;
	in->is_created = stat(path, &st) < 0;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (in->is_created ? O_EXCL : 0), 0660);
	if (fd >= 0)
		r = grow_file(fd, bytes);
	if (fd < 0 || r < 0) {
		hf_err_set(err, "%s: a file of %" PRIu64 " bytes cannot be made: %s", path, bytes,
			   strerror(fd < 0 ? errno : -r));
		r = fd < 0 ? -errno : r;
		in->is_created = in->is_created && fd >= 0;
	}
	if (fd >= 0)
		(void)close(fd);
	return r;
}

static int check_sector(struct init *in, struct hf_err *err)
{
	uint32_t least = hf_store_sector_bytes(in->store);

	if (!in->set.sector_bytes)
		in->set.sector_bytes = least <= 512 ? 512 : 4096;
	if (in->set.sector_bytes >= least)
		return hf_lease_geometry_make((uint32_t)in->set.sector_bytes,
					      (uint32_t)in->set.align_bytes, &in->g, err);
	hf_err_set(err, "%s: it is written in sectors of %" PRIu32 " bytes: --sector 4096",
		   in->set.path, least);
	return -EINVAL;
}

static int check_hosts(struct init *in, struct hf_err *err)
{
	uint64_t hosts = in->set.hosts ? in->set.hosts : HOSTS_DEFAULT;

	if (hosts > in->g.max_hosts) {
		hf_err_set(err,
			   "--hosts %" PRIu64 ": with sectors of %" PRIu32 " bytes and areas of "
			   "%" PRIu64 " MiB there is room for %" PRIu32,
			   hosts, in->g.sector_bytes, in->g.align_bytes / MIB, in->g.max_hosts);
		return -EINVAL;
	}
	in->num_hosts = (uint32_t)hosts;
	return 0;
}

static int check_size(const struct init *in, struct hf_err *err)
{
	uint64_t size = hf_store_size_bytes(in->store), align = in->g.align_bytes;
	uint64_t leases = in->set.leases ? in->set.leases : 1;
	uint64_t most = (align - in->g.sector_bytes) / HF_LEASE_INDEX_ENTRY_BYTES;

	if (leases > most) {
		hf_err_set(err, "--leases %" PRIu64 ": the index has room for %" PRIu64, leases,
			   most);
		return -EINVAL;
	}
	if (size >= (HEAD_AREAS + leases) * align)
		return 0;
	hf_err_set(err,
		   "%s: it has %" PRIu64 " bytes; lockspace, index and %" PRIu64 " lease%s of "
		   "%" PRIu64 " MiB each need %" PRIu64,
		   in->set.path, size, leases, leases == 1 ? "" : "s", align / MIB,
		   (HEAD_AREAS + leases) * align);
	return -ENOSPC;
}

/* ---- what is there already ---- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* The index's areas for leases are looked at where something recognisable would begin. */
static uint64_t layout_bytes(const struct init *in)
{
	uint64_t leases = in->set.leases > HF_LEASE_INDEX_RESOURCES ? in->set.leases
								    : HF_LEASE_INDEX_RESOURCES;
	uint64_t bytes = (HEAD_AREAS - 1 + leases) * in->g.align_bytes;
	uint64_t size = hf_store_size_bytes(in->store) & ~(uint64_t)(PROBE_BYTES - 1);

	return bytes < size ? bytes : size;
}

static int refuse(const struct init *in, uint64_t offset, size_t len, struct hf_err *err)
{
	struct hf_lease_geometry g;
	enum hf_lease_kind kind = hf_lease_identify(in->area, len, &g);
	char space[HF_LEASE_NAME_BYTES + 1] = "", name[HF_LEASE_NAME_BYTES + 1];

	if (kind == HF_LEASE_KIND_LOCKSPACE || kind == HF_LEASE_KIND_RESOURCE)
		hf_lease_names(in->area, space, name);
	hf_err_set(err, "%s: not empty: %s%s%s%s at offset %" PRIu64 "; --force destroys it",
		   in->set.path,
		   kind == HF_LEASE_KIND_FOREIGN || kind == HF_LEASE_KIND_NONE
			   ? "bytes other than zero"
			   : hf_lease_kind_name(kind),
		   hf_is_valid_name(space) ? " (lockspace \"" : "",
		   hf_is_valid_name(space) ? space : "", hf_is_valid_name(space) ? "\")" : "",
		   offset);
	return -EEXIST;
}

static int refuse_used(const struct init *in, struct hf_err *err)
{
	uint64_t head = (uint64_t)HEAD_AREAS * in->g.align_bytes, end = layout_bytes(in);
	int r;

	for (uint64_t at = 0; at < end; at += at < head ? in->g.align_bytes : MIB) {
		size_t len = at < head ? in->g.align_bytes : PROBE_BYTES;

		r = hf_store_read(in->store, in->area, len, at, err);
		if (r < 0)
			return r;
		if (!is_zero(in->area, len))
			return refuse(in, at, len, err);
	}
	return 0;
}

/* ---- writing ---- */

static int put(const struct init *in, size_t len, uint64_t at, struct hf_err *err)
{
	int r = hf_store_write(in->store, in->area, len, at, err);

	return r == 0 ? 0 : r < 0 ? r : -EIO;
}

/* From the second sector on, and with it the first: that one is kept back. */
static int put_all_but_first(const struct init *in, uint64_t at, uint8_t *ret_first,
			     struct hf_err *err)
{
	memcpy(ret_first, in->area, in->g.sector_bytes);
	memset(in->area, 0, in->g.sector_bytes);
	return put(in, in->g.align_bytes, at, err);
}

static int put_first(const struct init *in, uint64_t at, const uint8_t *first, struct hf_err *err)
{
	memcpy(in->area, first, in->g.sector_bytes);
	return put(in, in->g.sector_bytes, at, err);
}

/* With --force: leases of the past would be found by whoever makes an index anew. */
static int clear_old(const struct init *in, struct hf_err *err)
{
	uint64_t end = layout_bytes(in);
	int r = 0;

	for (uint64_t at = (uint64_t)HEAD_AREAS * in->g.align_bytes; r == 0 && at < end;
	     at += MIB) {
		r = hf_store_read(in->store, in->area, PROBE_BYTES, at, err);
		if (r < 0 || is_zero(in->area, PROBE_BYTES))
			continue;
		memset(in->area, 0, PROBE_BYTES);
		r = put(in, PROBE_BYTES, at, err);
	}
	return r;
}

static int write_index(const struct init *in, struct hf_err *err)
{
	struct hf_lease_index index = {
		.geometry = in->g,
		.max_resources = HF_LEASE_INDEX_RESOURCES,
		.offset = in->g.align_bytes,
	};
	uint8_t first[PROBE_BYTES];
	int r;

	if (in->set.leases > index.max_resources)
		index.max_resources = (uint32_t)in->set.leases;
	(void)snprintf(index.space, sizeof(index.space), "%s", in->set.space);
	hf_lease_resource_format(in->area, &in->g, in->num_hosts, in->set.space,
				 HF_LEASE_INDEX_LEASE_NAME);
	r = put_all_but_first(in, hf_lease_index_lease_at(&index), first, err);
	if (r == 0)
		r = put_first(in, hf_lease_index_lease_at(&index), first, err);
	if (r < 0)
		return r;
	memset(in->area, 0, in->g.align_bytes);
	hf_lease_index_encode(in->area, &index);
	return put(in, in->g.align_bytes, index.offset, err);
}

static int write_all(const struct init *in, struct hf_err *err)
{
	uint32_t io_timeout_s = (uint32_t)(in->set.io_timeout_ns / 1000000000);
	uint8_t first[PROBE_BYTES];
	int r;

	memset(in->area, 0, in->g.sector_bytes);
	r = put(in, in->g.sector_bytes, 0, err);
	if (r == 0)
		r = clear_old(in, err);
	if (r == 0)
		r = write_index(in, err);
	if (r < 0)
		return r;
	hf_lease_lockspace_format(in->area, &in->g, in->set.space, io_timeout_s);
	r = put_all_but_first(in, 0, first, err);
	return r < 0 ? r : put_first(in, 0, first, err);
}

/* ---- all of it ---- */

static int check_place(struct init *in, struct hf_err *err)
{
	int r = check_sector(in, err);

	if (r == 0)
		r = check_hosts(in, err);
	return r < 0 ? r : check_size(in, err);
}

static int open_place(struct init *in, struct hf_err *err)
{
	const struct hf_store_config config = { .path = in->set.path };
	int r = make_file(in, err);

	if (r == 0)
		r = hf_store_open(&config, &in->store, err);
	if (r < 0)
		return r;
	in->area = hf_store_buffer(in->store, 8 * MIB);
	if (in->area)
		return 0;
	hf_err_set(err, "no memory");
	return -ENOMEM;
}

static int init_area(struct init *in, struct hf_err *err)
{
	int code = HF_LEASE_EXIT_STORAGE;
	int r = open_place(in, err);

	if (r == 0) {
		r = check_place(in, err);
		code = r < 0 ? HF_LEASE_EXIT_FAILED : HF_LEASE_EXIT_STORAGE;
	}
	if (r == 0 && !in->set.is_forced) {
		r = refuse_used(in, err);
		code = r == -EEXIST ? HF_LEASE_EXIT_FAILED : HF_LEASE_EXIT_STORAGE;
	}
	if (r == 0)
		r = write_all(in, err);
	if (r < 0 && in->is_created)
		(void)unlink(in->set.path);
	return r < 0 ? code : HF_LEASE_EXIT_DONE;
}

static void tell(const struct init *in)
{
	uint64_t areas = hf_store_size_bytes(in->store) / in->g.align_bytes - HEAD_AREAS;

	printf("lockspace \"%s\" in %s: sectors of %" PRIu32 " bytes, areas of %" PRIu64
	       " MiB, io-timeout %" PRIu64 " s, host ids 1 to %" PRIu32 ", room for %" PRIu64
	       " leases\n",
	       in->set.space, in->set.path, in->g.sector_bytes, in->g.align_bytes / MIB,
	       in->set.io_timeout_ns / 1000000000, in->num_hosts, areas);
}

int hf_lease_init_run(int argc, char **argv)
{
	struct init in = { .set = { .align_bytes = MIB, .io_timeout_ns = 10000000000 } };
	struct hf_err err = { "" };
	int code, r = parse(argc, argv, &in.set, &err);

	if (r > 0)
		return -1;
	if (r < 0)
		return hf_lease_complain("init", HF_LEASE_EXIT_USAGE, &err);
	code = init_area(&in, &err);
	if (code == HF_LEASE_EXIT_DONE)
		tell(&in);
	else
		(void)hf_lease_complain("init", code, &err);
	hf_store_close(in.store);
	return code;
}

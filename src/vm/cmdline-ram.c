/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's RAM. Theory of operation.
 *
 * Goal: one memory backend in a file that the keeper has made, shared, so that QEMU does not send
 * RAM (x-ignore-shared) and the keeper can read it; with everything else as the user wanted it.
 *
 * There are four ways in which a line describes RAM, and all end in the same -object:
 *   -m SIZE                            a backend of our own, named by -machine memory-backend=
 *   -m SIZE -mem-path DIR [...]        the same; DIR only says which pages are wanted
 *   -machine memory-backend=ID         the user's object ID is replaced where it stands, id kept
 *   -numa node,memdev=ID, just one     the same, and -machine must not name it again
 * The id is kept because other options may refer to it; size, preallocation and NUMA policy because
 * they are the user's; type, path and sharing go. What cannot be followed is refused: several
 * backends (one file is tracked), memory that can be plugged, memory that is meant to stay on a
 * disk, and encrypted memory. None of these can be let through: RAM is what is protected.
 */
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "vm/cmdline-internal.h"

#define PAGE_BYTES UINT64_C(4096)
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)
/* vl.c rounds -m up to this. */
#define RAM_ALIGN_BYTES UINT64_C(8192)
#define RAM_MAX_BYTES (UINT64_C(64) << 40)

static bool is_equal(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

static bool has_prefix(const char *text, const char *prefix)
{
	return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

static int probe_statfs(const char *path, uint64_t *ret_page_bytes)
{
	struct statfs fs;
	char *copy;
	int r;

	r = statfs(path, &fs) < 0 ? -errno : 0;
	if (r == -ENOENT) {
		/* A file that QEMU would make: its folder tells. */
		copy = strdup(path);
		r = !copy ? -ENOMEM : statfs(dirname(copy), &fs) < 0 ? -errno : 0;
		free(copy);
	}
	if (r < 0)
		return r;
	*ret_page_bytes = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : 0;
	return fs.f_type == HUGETLBFS_MAGIC || fs.f_type == TMPFS_MAGIC ? 0 : HF_CMDLINE_E_ON_DISK;
}

static void look_at_path(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
			 const char *option, const char *path)
{
	int r = (want->probe ? want->probe : probe_statfs)(path, &cmd->page_bytes);

	if (r == HF_CMDLINE_E_ON_DISK)
		hf_cmdline_problem(cmd, "memory", option,
				   "'%s' is on a disk: holdfast keeps guest memory "
				   "in memory; name a hugetlbfs or tmpfs, or leave it out",
				   path);
	else if (r < 0)
		hf_cmdline_problem(cmd, "memory", option, "cannot tell what '%s' lies on: %s", path,
				   strerror(-r));
}

/* -m options add up, the last one of each key counts. */
static const char *memory_key(struct hf_cmdline *cmd, const char *key)
{
	const char *found = NULL;
	const char *v;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_MEMORY, e));) {
		v = hf_keyval_get(&e->kv, key);
		if (v)
			found = v;
	}
	return found;
}

/* Returns 0 when the line does not say, or not rightly. */
static uint64_t size_of_m(struct hf_cmdline *cmd)
{
	const char *text = memory_key(cmd, "size");
	struct hf_err err = { "" };
	uint64_t bytes = 0;

	if (text && hf_keyval_parse_size(text, UINT64_C(1) << 20, &bytes, &err) < 0)
		hf_cmdline_problem(cmd, "memory", "-m", "%s", err.text);
	if (bytes > RAM_MAX_BYTES) {
		hf_cmdline_problem(cmd, "memory", "-m", "%s is more than 64T", text);
		return 0;
	}
	return (bytes + RAM_ALIGN_BYTES - 1) / RAM_ALIGN_BYTES * RAM_ALIGN_BYTES;
}

static void check_plugging(struct hf_cmdline *cmd)
{
	static const char *const devices[] = { "pc-dimm", "nvdimm", "virtio-mem", "virtio-pmem",
					       "cxl-type3" };
	const char *slots = memory_key(cmd, "slots");
	const char *driver;
	const char *id;

	if (slots && strcmp(slots, "0") != 0)
		hf_cmdline_problem(cmd, "memory", "-m",
				   "memory hot-plug is not tracked (slots=%s); leave "
				   "slots= and maxmem= out",
				   slots);
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DEVICE, e));) {
		driver = hf_keyval_get(&e->kv, "driver");
		id = hf_keyval_get(&e->kv, "id");
		for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
			if (has_prefix(driver, devices[i]))
				hf_cmdline_problem(cmd, "memory", id ? id : driver,
						   "memory of a %s device "
						   "is not tracked; give it all with -m",
						   driver);
	}
}

/* The id of the backend that -machine names; also refuses what a machine can say about memory. */
static const char *machine_backend(struct hf_cmdline *cmd)
{
	const char *id = NULL;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_MACHINE, e));) {
		for (size_t i = 0; i < e->kv.count; i++) {
			const char *key = e->kv.pairs[i].key;

			if (is_equal(key, "memory-backend"))
				id = e->kv.pairs[i].value;
			else if (is_equal(key, "memory-encryption") ||
				 is_equal(key, "confidential-guest-support"))
				hf_cmdline_problem(cmd, "memory", e->word,
						   "%s= encrypts the guest's memory: it "
						   "cannot be copied to another host",
						   key);
			else if (has_prefix(key, "memory.") || has_prefix(key, "sgx-epc") ||
				 has_prefix(key, "cxl-fmw"))
				hf_cmdline_problem(cmd, "memory", e->word,
						   "holdfast does not follow '%s='; give "
						   "the memory with -m",
						   key);
		}
	}
	return id;
}

static const char *numa_backend(struct hf_cmdline *cmd)
{
	const char *id = NULL;
	const char *v;
	size_t n = 0;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_NUMA, e));) {
		if (hf_keyval_get(&e->kv, "mem"))
			hf_cmdline_problem(cmd, "memory", "-numa",
					   "mem= splits the memory by hand, which "
					   "QEMU has given up; leave it out");
		v = hf_keyval_get(&e->kv, "memdev");
		n += v != NULL;
		if (v)
			id = v;
	}
	if (n > 1)
		hf_cmdline_problem(cmd, "memory", "-numa",
				   "several nodes have a backend of their own "
				   "(memdev=), and only one is tracked; use one node, or nodes "
				   "without memdev=");
	return n == 1 ? id : NULL;
}

static struct hf_cmdline_entry *find_object(struct hf_cmdline *cmd, const char *id)
{
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_OBJECT, e));)
		if (is_equal(hf_keyval_get(&e->kv, "id"), id))
			return e;
	return NULL;
}

static void take_page_size(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
			   const struct hf_keyval *kv, const char *id)
{
	const char *text = hf_keyval_get(kv, "hugetlbsize");
	const char *path = hf_keyval_get(kv, "mem-path");
	struct hf_err err = { "" };

	if (path)
		look_at_path(cmd, want, id, path);
	if (!hf_keyval_is_on(kv, "hugetlb", false))
		return;
	cmd->page_bytes = HUGE_PAGE_BYTES;
	if (text && hf_keyval_parse_size(text, 1, &cmd->page_bytes, &err) < 0)
		hf_cmdline_problem(cmd, "memory", id, "hugetlbsize=: %s", err.text);
}

/* The user's backend, with all but its kind of memory. Returns the size it has, 0 on a mistake. */
static uint64_t take_backend(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
			     struct hf_keyval *kv, const char *id)
{
	static const char *const replaced[] = {
		"qom-type", "id",   "mem-path", "share",        "hugetlb", "hugetlbsize", "seal",
		"readonly", "pmem", "size",     "discard-data", "align",   "offset",      "rom"
	};
	const char *size = hf_keyval_get(kv, "size");
	struct hf_err err = { "" };
	uint64_t bytes = 0;

	if (!size || hf_keyval_parse_size(size, 1, &bytes, &err) < 0)
		hf_cmdline_problem(cmd, "memory", id, "size=: %s",
				   size ? err.text : "it is missing");
	else if (bytes == 0)
		hf_cmdline_problem(cmd, "memory", id, "size=: the guest's memory cannot be empty");
	if (hf_keyval_is_on(kv, "pmem", false) || hf_keyval_is_on(kv, "readonly", false))
		hf_cmdline_problem(cmd, "memory", id,
				   "persistent or read-only memory cannot be the guest's "
				   "RAM here; leave pmem= and readonly= out");
	take_page_size(cmd, want, kv, id);
	for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++)
		(void)hf_keyval_remove(kv, replaced[i]);
	return bytes;
}

static const char *const backend_types[] = { "memory-backend-ram", "memory-backend-file",
					     "memory-backend-memfd", "memory-backend-shm" };

static bool is_known_backend(const char *type)
{
	for (size_t i = 0; i < sizeof(backend_types) / sizeof(backend_types[0]); i++)
		if (is_equal(type, backend_types[i]))
			return true;
	return false;
}

/* Returns the backend's size, 0 when there is none or something is wrong. @rest: its other keys. */
static uint64_t replace_backend(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
				const char *id, struct hf_keyval *rest)
{
	struct hf_cmdline_entry *e = find_object(cmd, id);
	const char *type = e ? hf_keyval_get(&e->kv, "qom-type") : NULL;
	uint64_t bytes;

	if (e && !hf_cmdline_is_valid_id(id)) {
		hf_cmdline_problem(cmd, "memory", id, "QEMU does not take this id");
		return 0;
	}
	if (!e || !is_known_backend(type)) {
		hf_cmdline_problem(
			cmd, "memory", id,
			e ? "an object of this type cannot be the guest's RAM; "
			    "use memory-backend-ram, -memfd or -file"
			  : "the machine's memory is to be this, but no -object has this id");
		return 0;
	}
	hf_cmdline_note(
		cmd,
		"%s %s: replaced by a memory-backend-file that holdfast shares; its id, size "
		"and policy stay",
		e->word, e->arg);
	e->fate = HF_FATE_RAM;
	cmd->is_ram_placed = true;
	bytes = take_backend(cmd, want, &e->kv, id);
	*rest = e->kv;
	e->kv = (struct hf_keyval){ 0 };
	return bytes;
}

/* -mem-path and -mem-prealloc cannot go with a backend (vl.c): they become part of ours. */
static bool take_old_options(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
			     bool has_backend)
{
	bool is_prealloc = false;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_MEM_PATH, e));) {
		e->fate = HF_FATE_DROP;
		if (has_backend)
			hf_cmdline_problem(cmd, "memory", e->word,
					   "QEMU does not take it together with a "
					   "memory backend; leave it out");
		else
			look_at_path(cmd, want, e->word, e->arg);
		hf_cmdline_note(
			cmd,
			"%s %s: left out: the memory lies in a file that holdfast makes, with "
			"pages of the same size",
			e->word, e->arg);
	}
	for (struct hf_cmdline_entry *e = NULL;
	     (e = hf_cmdline_next(cmd, HF_OPT_MEM_PREALLOC, e));) {
		e->fate = HF_FATE_DROP;
		is_prealloc = true;
		hf_cmdline_note(cmd, "%s: becomes prealloc=on of the memory backend", e->word);
	}
	return is_prealloc;
}

static void format_object(struct hf_cmdline *cmd, const struct hf_keyval *rest)
{
	char size[32];
	struct hf_keyval kv = { 0 };
	int r;

	(void)snprintf(size, sizeof(size), "%" PRIu64, cmd->ram_bytes);
	r = hf_keyval_add(&kv, "qom-type", "memory-backend-file");
	if (!r)
		r = hf_keyval_add(&kv, "id", cmd->ram_id);
	if (!r)
		r = hf_keyval_add(&kv, "size", size);
	for (size_t i = 0; !r && i < rest->count; i++)
		r = hf_keyval_add(&kv, rest->pairs[i].key, rest->pairs[i].value);
	if (!r)
		r = hf_keyval_format(&kv, "qom-type", &cmd->ram_object);
	hf_keyval_fini(&kv);
	if (r < 0)
		cmd->has_failed = true;
}

static void check_size(struct hf_cmdline *cmd, uint64_t of_m, uint64_t of_backend, bool has_backend)
{
	uint64_t page_bytes = cmd->page_bytes ? cmd->page_bytes : PAGE_BYTES;

	cmd->ram_bytes = of_m;
	if (has_backend && of_m && of_backend && of_m != of_backend)
		hf_cmdline_problem(cmd, "memory", cmd->ram_id,
				   "its size is %" PRIu64 " bytes, but -m says %" PRIu64,
				   of_backend, of_m);
	if (has_backend)
		cmd->ram_bytes = of_backend;
	else if (!of_m)
		cmd->ram_bytes = HF_CMDLINE_RAM_DEFAULT_BYTES;
	if (cmd->ram_bytes > RAM_MAX_BYTES)
		hf_cmdline_problem(cmd, "memory", cmd->ram_id, "its size is more than 64T");
	if (page_bytes & (page_bytes - 1) || page_bytes < PAGE_BYTES ||
	    cmd->ram_bytes % page_bytes != 0)
		hf_cmdline_problem(cmd, "memory", cmd->ram_id,
				   "a size of %" PRIu64 " bytes does not divide "
				   "into pages of %" PRIu64,
				   cmd->ram_bytes, page_bytes);
}

void hf_cmdline_check_ram(struct hf_cmdline *cmd, const struct hf_cmdline_want *want)
{
	const char *of_machine = machine_backend(cmd);
	const char *of_numa = numa_backend(cmd);
	const char *id = of_numa ? of_numa : of_machine;
	struct hf_keyval rest = { 0 };
	uint64_t of_backend = 0;
	uint64_t of_m = size_of_m(cmd);

	if (of_numa && of_machine)
		hf_cmdline_problem(cmd, "memory", "-numa",
				   "QEMU does not take memdev= together with "
				   "-machine memory-backend=; leave one out");
	check_plugging(cmd);
	cmd->is_ram_of_numa = of_numa != NULL;
	cmd->ram_id = hf_cmdline_dup(cmd, id ? id : HF_CMDLINE_RAM_ID);
	if (id)
		of_backend = replace_backend(cmd, want, id, &rest);
	if (take_old_options(cmd, want, id != NULL) &&
	    (hf_keyval_remove(&rest, "prealloc"), hf_keyval_add(&rest, "prealloc", "on")) < 0)
		cmd->has_failed = true;
	/* It would copy all of RAM, or keep it out of a dump. */
	if (cmd->is_inspection) {
		(void)hf_keyval_remove(&rest, "prealloc");
		(void)hf_keyval_remove(&rest, "dump");
		(void)hf_keyval_remove(&rest, "reserve");
	}
	if (want->page_bytes)
		cmd->page_bytes = want->page_bytes;
	if (cmd->ram_id) {
		check_size(cmd, of_m, of_backend, id != NULL);
		format_object(cmd, &rest);
	}
	hf_keyval_fini(&rest);
}

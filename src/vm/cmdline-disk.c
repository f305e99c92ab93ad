/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks. Each one that the guest can write to becomes an NBD export that holdfast serves, so that its writes
 * take part in the epochs; what cannot, is a problem.
 *
 * Theory of operation. QEMU's disks are graphs of nodes: a format (qcow2) stands on a protocol (file), filters
 * may stand between. A drive writes its graph into one option, "file.driver=..."; -blockdev nodes may
 * also name each other. From each node on top we follow the child that holds the guest's data, through nodes
 * that are not read-only, down to the protocol node: the leaf, which is exchanged (cmdline-swap.c). What
 * stands aside, a backing chain above all, is only read and stays as it is. Formats that write to more than one
 * child, or that we do not know, are refused, so a leaf that is written to cannot be missed.
 *
 * A disk is called by its node on top, under the name by which --unprotected would let it through.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "codec/wire-disk.h"
#include "vm/cmdline-internal.h"

#define DEPTH_MAX 16

#define TO_FORMAT "add format=raw or format=qcow2, whichever it is"

static const char reason_asked[] =
	"it takes no part in the epochs, as asked: after a failover it may be "
	"ahead of the memory; make it read-only";
static const char reason_temporary[] =
	"what the guest writes goes to a temporary file, which the standby "
	"has not got; make it read-only";
static const char reason_format[] = "its format is not stated, and to guess it from what the guest "
				    "wrote is not safe; " TO_FORMAT;

enum driver_kind {
	DRIVER_PROTOCOL, /* one that is not known: it is none of ours */
	DRIVER_FILE,
	DRIVER_NBD,
	DRIVER_NULL,
	DRIVER_RAW,
	DRIVER_QCOW2,
	DRIVER_FILTER, /* passes everything to its file, in the same places */
	DRIVER_FORMAT, /* writable, but not known to us */
	DRIVER_OTHER, /* may write elsewhere, or keep things back */
};

static const struct {
	const char *name;
	enum driver_kind kind;
} drivers[] = {
	{ "file", DRIVER_FILE },
	{ "host_device", DRIVER_FILE },
	{ "nbd", DRIVER_NBD },
	{ "null-co", DRIVER_NULL },
	{ "null-aio", DRIVER_NULL },
	{ "raw", DRIVER_RAW },
	{ "qcow2", DRIVER_QCOW2 },
	{ "throttle", DRIVER_FILTER },
	{ "copy-on-read", DRIVER_FILTER },
	{ "bochs", DRIVER_FORMAT },
	{ "cloop", DRIVER_FORMAT },
	{ "dmg", DRIVER_FORMAT },
	{ "luks", DRIVER_FORMAT },
	{ "parallels", DRIVER_FORMAT },
	{ "qcow", DRIVER_FORMAT },
	{ "qed", DRIVER_FORMAT },
	{ "vdi", DRIVER_FORMAT },
	{ "vhdx", DRIVER_FORMAT },
	{ "vmdk", DRIVER_FORMAT },
	{ "vpc", DRIVER_FORMAT },
	{ "blkdebug", DRIVER_OTHER },
	{ "blklogwrites", DRIVER_OTHER },
	{ "blkreplay", DRIVER_OTHER },
	{ "blkverify", DRIVER_OTHER },
	{ "compress", DRIVER_OTHER },
	{ "copy-before-write", DRIVER_OTHER },
	{ "preallocate", DRIVER_OTHER },
	{ "quorum", DRIVER_OTHER },
	{ "replication", DRIVER_OTHER },
	{ "snapshot-access", DRIVER_OTHER },
};

/* The way down from a node on top. */
struct way {
	struct hf_cmdline *cmd;
	const char *id;
	const char *format;
	bool is_direct;
	unsigned int depth;
};

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static enum driver_kind kind_of(const char *driver)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		if (strcmp(drivers[i].name, driver) == 0)
			return drivers[i].kind;
	return DRIVER_PROTOCOL;
}

static void refuse(const struct way *w, const char *reason)
{
	hf_cmdline_problem(w->cmd, "disk", w->id, "%s", reason);
}

static bool is_drive_itself(const struct hf_cmdline_node *n)
{
	return n->e->opt->kind == HF_OPT_DRIVE && !*n->prefix;
}

static bool is_on(const struct hf_cmdline_node *n, const char *key)
{
	char full[2 * HF_CMDLINE_PREFIX_MAX];

	(void)snprintf(full, sizeof(full), "%s%s", n->prefix, key);
	return hf_keyval_is_on(&n->e->kv, full, false);
}

static const char *driver_of(const struct hf_cmdline_node *n)
{
	const char *driver = hf_cmdline_node_get(n, "driver");

	return driver || !is_drive_itself(n) ? driver : hf_cmdline_node_get(n, "format");
}

static bool is_read_only(const struct hf_cmdline_node *n)
{
	const char *media = is_drive_itself(n) ? hf_cmdline_node_get(n, "media") : NULL;

	return is_on(n, "read-only") || (is_drive_itself(n) && is_on(n, "readonly")) ||
	       (media && strcmp(media, "cdrom") == 0);
}

static bool is_direct(const struct hf_cmdline_node *n)
{
	const char *cache = is_drive_itself(n) ? hf_cmdline_node_get(n, "cache") : NULL;

	return is_on(n, "cache.direct") ||
	       (cache && (strcmp(cache, "none") == 0 || strcmp(cache, "directsync") == 0));
}

/* ---- the leaf ---- */

static const char *clash(const struct way *w, const struct hf_cmdline_node *n, const char *location)
{
	const struct hf_cmdline *cmd = w->cmd;

	if (!hf_is_valid_name(w->id))
		return "give it another id: up to 63 letters, digits and ._-, not first a . or -";
	if (n->e->fate == HF_FATE_DISK)
		return "its option has another disk in it; write its nodes as -blockdev of their "
		       "own";
	if (!hf_cmdline_may_swap_disk(n->e, n->prefix))
		return "QEMU would not take its option: members of JSON have no dots in their "
		       "names";
	for (size_t i = 0; i < cmd->disk_count; i++) {
		if (strcmp(cmd->disk[i].id, w->id) == 0)
			return "another disk has this id, too";
		if (strcmp(cmd->disk[i].location, location) == 0)
			return "another disk has the same image; make it one node, used by both "
			       "devices";
	}
	return NULL;
}

static void add_disk(const struct way *w, const struct hf_cmdline_node *n, char *location)
{
	struct hf_cmdline *cmd = w->cmd;
	struct hf_cmdline_entry *e = n->e;
	struct hf_cmdline_disk *grown = realloc(cmd->disk,
						(cmd->disk_count + 1) * sizeof(*cmd->disk));

	if (!grown) {
		cmd->has_failed = true;
		free(location);
		return;
	}
	cmd->disk = grown;
	grown[cmd->disk_count] = (struct hf_cmdline_disk){
		.id = hf_cmdline_dup(cmd, w->id),
		.option = hf_cmdline_text(cmd, "%s %s", e->word, e->arg),
		.location = location,
		.format = w->format,
		.is_direct = w->is_direct,
	};
	e->fate = HF_FATE_DISK;
	e->leaf = hf_cmdline_dup(cmd, n->prefix);
	e->disk = cmd->disk_count++;
	if (!cmd->has_failed)
		hf_cmdline_note_swap(cmd, e);
}

/* @location is taken over; NULL: there was a problem with it. */
static void protect(const struct way *w, const struct hf_cmdline_node *n, char *location)
{
	const char *reason;

	if (!location)
		return;
	reason = clash(w, n, location);
	if (!reason && w->cmd->disk_count < HF_WIRE_DISKS_MAX) {
		add_disk(w, n, location);
		return;
	}
	if (reason)
		refuse(w, reason);
	else
		hf_cmdline_problem(w->cmd, "disk", w->id,
				   "it is one too many: up to %d disks can be protected",
				   HF_WIRE_DISKS_MAX);
	free(location);
}

/* A way came here before: the disk is used twice, which makes it no second one. */
static bool is_found_already(const struct hf_cmdline_node *n)
{
	return n->e->fate == HF_FATE_DISK && n->e->leaf && has_prefix(n->e->leaf, n->prefix);
}

static void reach_file(const struct way *w, const struct hf_cmdline_node *n)
{
	const char *path = hf_cmdline_node_get(n, "filename");

	if (!path && is_drive_itself(n))
		path = hf_cmdline_node_get(n, "file");
	if (!path)
		refuse(w, "its filename= is missing");
	else
		protect(w, n, hf_cmdline_image_of_file(w->cmd, w->id, path));
}

/* A name without a driver: QEMU looks at it to find one. @n: the leaf to be. */
static void reach_name(const struct way *w, const struct hf_cmdline_node *n, const char *name)
{
	if (has_prefix(name, "null-co://") || has_prefix(name, "null-aio://"))
		return;
	protect(w, n, hf_cmdline_image_of_name(w->cmd, w->id, name));
}

/* ---- the way down ---- */

static void follow(struct way *w, const struct hf_cmdline_node *n);

/* Finds "node-name=NAME", also of a node inside of another. */
static bool find_node(struct hf_cmdline *cmd, const char *name, struct hf_cmdline_node *ret)
{
	static const char key[] = "node-name";
	size_t n;

	for (size_t i = 0; i < cmd->entry_count; i++) {
		const struct hf_keyval *kv = &cmd->entry[i].kv;

		for (size_t k = 0; k < kv->count; k++) {
			n = strlen(kv->pairs[k].key);
			if (strcmp(kv->pairs[k].value, name) != 0 || n < strlen(key) ||
			    n - strlen(key) >= sizeof(ret->prefix))
				continue;
			n -= strlen(key);
			if (strcmp(kv->pairs[k].key + n, key) != 0 ||
			    (n > 0 && kv->pairs[k].key[n - 1] != '.'))
				continue;
			ret->e = &cmd->entry[i];
			(void)snprintf(ret->prefix, sizeof(ret->prefix), "%.*s", (int)n,
				       kv->pairs[k].key);
			return true;
		}
	}
	return false;
}

static bool is_drive_id(struct hf_cmdline *cmd, const char *name)
{
	const char *id;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DRIVE, e));) {
		id = hf_keyval_get(&e->kv, "id");
		if (id && strcmp(id, name) == 0)
			return true;
	}
	return false;
}

/* These call each other as deep as DEPTH_MAX. */
/* NOLINTBEGIN(misc-no-recursion) */
static void follow_reference(struct way *w, const char *name)
{
	struct hf_cmdline_node child;

	if (find_node(w->cmd, name, &child))
		follow(w, &child);
	else if (!is_drive_id(w->cmd, name)) /* that one is looked at by itself */
		hf_cmdline_problem(w->cmd, "disk", w->id,
				   "it stands on a node '%s', and there is none of that name",
				   name);
}

static bool has_keys_below(const struct hf_cmdline_node *n, const char *prefix)
{
	for (size_t i = 0; i < n->e->kv.count; i++)
		if (has_prefix(n->e->kv.pairs[i].key, prefix))
			return true;
	return false;
}

static void follow_child(struct way *w, const struct hf_cmdline_node *n)
{
	struct hf_cmdline_node child = { .e = n->e };
	const char *value = hf_cmdline_node_get(n, "file");
	int len = snprintf(child.prefix, sizeof(child.prefix), "%sfile.", n->prefix);

	if (len >= (int)sizeof(child.prefix))
		refuse(w, "it stands on too many nodes");
	else if (value && is_drive_itself(n))
		reach_name(w, &child, value);
	else if (value)
		follow_reference(w, value);
	else if (has_keys_below(n, child.prefix))
		follow(w, &child);
	else
		refuse(w, "it stands on nothing: its file= is missing");
}

/* Where a raw node begins elsewhere, what is above it is not at the start of the image. */
static bool is_a_part(const struct hf_cmdline_node *n)
{
	return hf_cmdline_node_get(n, "offset") || hf_cmdline_node_get(n, "size");
}

static void follow_driver(struct way *w, const struct hf_cmdline_node *n, const char *driver)
{
	switch (kind_of(driver)) {
	case DRIVER_NULL:
		return;
	case DRIVER_FILE:
		reach_file(w, n);
		return;
	case DRIVER_NBD:
		protect(w, n, hf_cmdline_image_of_nbd(w->cmd, w->id, n));
		return;
	case DRIVER_QCOW2:
		if (hf_cmdline_node_get(n, "data-file") ||
		    hf_cmdline_node_get(n, "data-file.driver"))
			refuse(w, "a qcow2 image with a data file of its own cannot be protected; "
				  "convert it with qemu-img convert");
		w->format = "qcow2";
		break;
	case DRIVER_RAW:
		w->format = is_a_part(n) ? "raw" : w->format;
		break;
	case DRIVER_FILTER:
		break;
	case DRIVER_FORMAT:
		hf_cmdline_problem(
			w->cmd, "disk", w->id,
			"an image of format %s cannot be protected when it is written to; "
			"convert it with qemu-img convert -O qcow2, or to raw",
			driver);
		return;
	case DRIVER_OTHER:
		hf_cmdline_problem(w->cmd, "disk", w->id,
				   "holdfast does not follow what the driver %s does to its files; "
				   "leave that out",
				   driver);
		return;
	case DRIVER_PROTOCOL:
		hf_cmdline_problem(
			w->cmd, "disk", w->id,
			"%s is not a file, block device or NBD export, and nothing else "
			"can be protected; copy the image into one with qemu-img convert",
			driver);
		return;
	}
	follow_child(w, n);
}

static void follow(struct way *w, const struct hf_cmdline_node *n)
{
	const char *driver = driver_of(n);
	const char *name = hf_cmdline_node_get(n, "filename");

	if (is_read_only(n) || is_found_already(n))
		return;
	w->is_direct |= is_direct(n);
	if (w->depth++ == DEPTH_MAX)
		refuse(w, "it stands on too many nodes");
	else if (driver)
		follow_driver(w, n, driver);
	else if (is_drive_itself(n))
		refuse(w, reason_format);
	else if (name)
		reach_name(w, n, name);
	else
		refuse(w, "the driver= of a node that it stands on is missing");
}
/* NOLINTEND(misc-no-recursion) */

/* ---- the nodes on top ---- */

static bool is_listed(char *const *list, const char *id)
{
	for (; list && *list; list++)
		if (strcmp(*list, id) == 0)
			return true;
	return false;
}

static void check_top(struct hf_cmdline *cmd, const struct hf_cmdline_want *want, const char *id,
		      const struct hf_cmdline_node *top, bool is_temporary)
{
	struct way w = { .cmd = cmd, .id = id, .format = "raw" };

	if (is_temporary)
		refuse(&w, reason_temporary);
	else if (is_listed(want->unprotected, id))
		refuse(&w, reason_asked);
	else
		follow(&w, top);
}

static bool is_null(const char *driver)
{
	return driver && (has_prefix(driver, "null-co") || has_prefix(driver, "null-aio"));
}

/* Without a medium, or with one that has no contents. */
static bool is_empty_drive(const struct hf_keyval *kv)
{
	if (is_null(hf_keyval_get(kv, "driver")) || is_null(hf_keyval_get(kv, "format")) ||
	    is_null(hf_keyval_get(kv, "file")) || is_null(hf_keyval_get(kv, "file.driver")))
		return true;
	for (size_t i = 0; i < kv->count; i++)
		if (strcmp(kv->pairs[i].key, "driver") == 0 || has_prefix(kv->pairs[i].key, "file"))
			return false;
	return true;
}

static void check_drives(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
			 bool is_snapshot)
{
	size_t unnamed = 0;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DRIVE, e));) {
		const struct hf_cmdline_node itself = { .e = e };
		const char *id = hf_keyval_get(&e->kv, "id");
		char *made = id ? NULL : hf_cmdline_text(cmd, "drive%zu", unnamed++);

		if ((id || made) && !is_read_only(&itself) && !is_empty_drive(&e->kv))
			check_top(cmd, want, id ? id : made, &itself,
				  hf_keyval_is_on(&e->kv, "snapshot", is_snapshot));
		free(made);
	}
}

/* Does this key name another node? Of the last word of a dotted key: "file.backing". */
static bool is_child_key(const char *key)
{
	static const char *const children[] = { "file", "backing", "data-file", "image" };
	const char *dot = strrchr(key, '.');
	const char *last = dot ? dot + 1 : key;

	for (size_t i = 0; i < sizeof(children) / sizeof(children[0]); i++)
		if (strcmp(last, children[i]) == 0)
			return true;
	return has_prefix(key, "children.");
}

static bool is_named_by(const struct hf_cmdline_entry *e, const char *node)
{
	for (size_t i = 0; i < e->kv.count; i++)
		if (is_child_key(e->kv.pairs[i].key) && strcmp(e->kv.pairs[i].value, node) == 0)
			return true;
	return false;
}

/* QEMU makes the nodes in order, so only a later one can stand on this. */
static bool has_parent(struct hf_cmdline *cmd, const struct hf_cmdline_entry *child,
		       const char *node)
{
	for (struct hf_cmdline_entry *e = hf_cmdline_next(cmd, HF_OPT_BLOCKDEV, child); e;
	     e = hf_cmdline_next(cmd, HF_OPT_BLOCKDEV, e))
		if (is_named_by(e, node))
			return true;
	return false;
}

static bool has_device(struct hf_cmdline *cmd, const char *node)
{
	const char *drive;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DEVICE, e));) {
		drive = hf_keyval_get(&e->kv, "drive");
		if (drive && strcmp(drive, node) == 0)
			return true;
	}
	return false;
}

static void check_blockdevs(struct hf_cmdline *cmd, const struct hf_cmdline_want *want)
{
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_BLOCKDEV, e));) {
		const struct hf_cmdline_node itself = { .e = e };
		const char *node = hf_keyval_get(&e->kv, "node-name");

		if (is_read_only(&itself) || is_null(hf_keyval_get(&e->kv, "driver")))
			continue;
		if (node && has_parent(cmd, e, node) && !has_device(cmd, node))
			continue;
		check_top(cmd, want, node ? node : "blockdev", &itself, /* is_temporary= */ false);
	}
}

/* A node inside of another option may have a device, too. */
static void check_inner_nodes(struct hf_cmdline *cmd, const struct hf_cmdline_want *want)
{
	struct hf_cmdline_node node;
	const char *name;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DEVICE, e));) {
		name = hf_keyval_get(&e->kv, "drive");
		if (name && find_node(cmd, name, &node) && *node.prefix && !is_read_only(&node) &&
		    !is_found_already(&node))
			check_top(cmd, want, name, &node, /* is_temporary= */ false);
	}
}

/* -hda and its like, and how -drive says the same; QEMU guesses their format. */
static const struct {
	const char *option;
	const char *as_drive;
} short_forms[] = {
	{ "fda", "if=floppy,index=0" },
	{ "fdb", "if=floppy,index=1" },
	{ "hda", "index=0,media=disk" },
	{ "hdb", "index=1,media=disk" },
	{ "hdc", "index=2,media=disk" },
	{ "hdd", "index=3,media=disk" },
	{ "mtdblock", "if=mtd" },
	{ "pflash", "if=pflash" },
	{ "sd", "if=sd" },
};

static void check_short_form(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
			     const struct hf_cmdline_entry *e, bool is_snapshot)
{
	const char *id = e->opt->name;
	const struct way w = { .cmd = cmd, .id = id };
	const char *as_drive = "";

	for (size_t i = 0; i < sizeof(short_forms) / sizeof(short_forms[0]); i++)
		if (strcmp(short_forms[i].option, id) == 0)
			as_drive = short_forms[i].as_drive;
	if (is_snapshot)
		refuse(&w, reason_temporary);
	else if (is_listed(want->unprotected, id))
		refuse(&w, reason_asked);
	else
		hf_cmdline_problem(cmd, "disk", id,
				   "its format cannot be stated in this form; write it as -drive "
				   "file=%s,format=raw,%s (or format=qcow2)",
				   e->arg ? e->arg : e->word, as_drive);
}

void hf_cmdline_check_disks(struct hf_cmdline *cmd, const struct hf_cmdline_want *want)
{
	bool is_snapshot = hf_cmdline_has(cmd, HF_OPT_SNAPSHOT);

	check_drives(cmd, want, is_snapshot);
	check_blockdevs(cmd, want);
	check_inner_nodes(cmd, want);
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DISK_FILE, e));)
		check_short_form(cmd, want, e, is_snapshot);
}

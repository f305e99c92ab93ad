/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks. None takes part in the epochs yet, so each one that the guest can write to is a problem.
 *
 * -blockdev builds graphs: the node that a device uses stands on others. Only the node on top is
 * reported, under its own name, because whoever lets it through lets through what it stands on.
 */
#include <stdlib.h>
#include <string.h>

#include "vm/cmdline-internal.h"

static const char reason[] = "disks take no part in the epochs yet: after a failover the disk may "
			     "be ahead of the memory";
static const char reason_temporary[] =
	"what the guest writes goes to a temporary file, which the standby has not got";

static void report(struct hf_cmdline *cmd, const char *id, bool is_temporary)
{
	hf_cmdline_problem(cmd, "disk", id, "%s; make it read-only",
			   is_temporary ? reason_temporary : reason);
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_null_driver(const char *driver)
{
	return driver && (has_prefix(driver, "null-co") || has_prefix(driver, "null-aio"));
}

/* Without a medium, or with one that has no contents. */
static bool is_empty_drive(const struct hf_keyval *kv)
{
	if (is_null_driver(hf_keyval_get(kv, "driver")) ||
	    is_null_driver(hf_keyval_get(kv, "format")) ||
	    is_null_driver(hf_keyval_get(kv, "file")) ||
	    is_null_driver(hf_keyval_get(kv, "file.driver")))
		return true;
	for (size_t i = 0; i < kv->count; i++)
		if (strcmp(kv->pairs[i].key, "driver") == 0 || has_prefix(kv->pairs[i].key, "file"))
			return false;
	return true;
}

static bool is_read_only(const struct hf_keyval *kv)
{
	const char *media = hf_keyval_get(kv, "media");

	return hf_keyval_is_on(kv, "readonly", false) || hf_keyval_is_on(kv, "read-only", false) ||
	       (media && strcmp(media, "cdrom") == 0);
}

static void check_drives(struct hf_cmdline *cmd, bool is_snapshot)
{
	size_t unnamed = 0;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DRIVE, e));) {
		const char *id = hf_keyval_get(&e->kv, "id");
		char *made = id ? NULL : hf_cmdline_text(cmd, "drive%zu", unnamed++);

		if ((id || made) && !is_read_only(&e->kv) && !is_empty_drive(&e->kv))
			report(cmd, id ? id : made,
			       hf_keyval_is_on(&e->kv, "snapshot", is_snapshot));
		free(made);
	}
}

static bool is_child_key(const char *key)
{
	return strcmp(key, "node-name") != 0 && strcmp(key, "driver") != 0 &&
	       !strstr(key, "filename") && strcmp(key, "path") != 0;
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

static void check_blockdevs(struct hf_cmdline *cmd)
{
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_BLOCKDEV, e));) {
		const char *node = hf_keyval_get(&e->kv, "node-name");

		if (is_read_only(&e->kv) || is_null_driver(hf_keyval_get(&e->kv, "driver")))
			continue;
		if (node && has_parent(cmd, e, node) && !has_device(cmd, node))
			continue;
		report(cmd, node ? node : "blockdev", /* is_temporary= */ false);
	}
}

void hf_cmdline_check_disks(struct hf_cmdline *cmd)
{
	bool is_snapshot = hf_cmdline_has(cmd, HF_OPT_SNAPSHOT);

	check_drives(cmd, is_snapshot);
	check_blockdevs(cmd);
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DISK_FILE, e));)
		report(cmd, e->opt->name, is_snapshot);
}

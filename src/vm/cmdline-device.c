/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices and folders that somebody outside QEMU has a part in, and options that cannot be had
 * together with protection. What merely cannot migrate is left to QEMU: it says so itself over QMP,
 * for whatever version it is.
 */
#include <string.h>

#include "vm/cmdline-internal.h"

/* Devices by the start of their name; the memory ones are in cmdline-ram.c. */
static const struct {
	const char *prefix;
	const char *reason;
} foreign[] = {
	{ "vfio-", "the device writes to the guest's memory by itself and keeps state of its own" },
	{ "vhost-user-",
	  "its state is in another process, which also writes to the guest's memory" },
	{ "vhost-vdpa-",
	  "the device writes to the guest's memory by itself and keeps state of its own" },
	{ "vhost-vsock-", "its connections end in this host's kernel" },
	{ "vhost-scsi", "its disk is in this host's kernel and takes no part in the epochs" },
	{ "ivshmem-", "its memory is shared with other processes and is not copied" },
	{ "x-pci-proxy-dev", "its state is in another process" },
	{ "scsi-block",
	  "the guest's commands go to the host's device itself, past its disk's epochs" },
	{ "scsi-generic",
	  "the guest's commands go to the host's device itself, past its disk's epochs" },
	{ "usb-host", "the standby has not got this host's USB device" },
};

const char *hf_cmdline_foreign_device(const char *driver)
{
	for (size_t i = 0; driver && i < sizeof(foreign) / sizeof(foreign[0]); i++)
		if (strncmp(driver, foreign[i].prefix, strlen(foreign[i].prefix)) == 0)
			return foreign[i].reason;
	return NULL;
}

static void check_device(struct hf_cmdline *cmd, const struct hf_keyval *kv)
{
	const char *driver = hf_keyval_get(kv, "driver");
	const char *id = hf_keyval_get(kv, "id");

	const char *why = hf_cmdline_foreign_device(driver);

	if (why)
		hf_cmdline_problem(cmd, "device", id ? id : driver, "%s (%s); leave it out", why,
				   driver);
}

static void check_files(struct hf_cmdline *cmd, const struct hf_keyval *kv)
{
	const char *id = hf_keyval_get(kv, "id");

	if (!id)
		id = hf_keyval_get(kv, "mount_tag");
	hf_cmdline_problem(
		cmd, "files", id ? id : "files",
		"the files of this host take no part in the epochs, and QEMU cannot save "
		"the device while the guest has them mounted; leave it out");
}

/* -set changes an option that was given earlier: only a device's can be left to it. */
static void check_set(struct hf_cmdline *cmd, const char *arg)
{
	if (strncmp(arg, "device.", strlen("device.")) != 0)
		hf_cmdline_problem(cmd, "option", "-set",
				   "'%s' changes an option behind holdfast's back; write it there",
				   arg);
}

static void check_own_ids(struct hf_cmdline *cmd, const struct hf_cmdline_entry *e)
{
	const char *id = hf_keyval_get(&e->kv, "id");

	if (id && (strcmp(id, HF_CMDLINE_QMP_ID) == 0 || strcmp(id, HF_CMDLINE_RAM_ID) == 0))
		hf_cmdline_problem(cmd, "option", e->word,
				   "the id '%s' is holdfast's own; take another", id);
}

static void check_cpu(struct hf_cmdline *cmd, const char *arg)
{
	size_t n = strcspn(arg, ",");

	if ((n == 4 && memcmp(arg, "host", n) == 0) || (n == 3 && memcmp(arg, "max", n) == 0))
		hf_cmdline_note(
			cmd, "-cpu %s: passed on; both hosts then need the same kind of processor",
			arg);
}

static void check_entry(struct hf_cmdline *cmd, const struct hf_cmdline_entry *e)
{
	if (e->opt->is_keyval)
		check_own_ids(cmd, e);
	if (e->opt->kind == HF_OPT_DEVICE)
		check_device(cmd, &e->kv);
	else if (e->opt->kind == HF_OPT_FILES)
		check_files(cmd, &e->kv);
	else if (e->opt->kind == HF_OPT_SET)
		check_set(cmd, e->arg);
	else if (e->opt->kind == HF_OPT_CPU)
		check_cpu(cmd, e->arg);
	else if (e->opt->kind == HF_OPT_REFUSED)
		hf_cmdline_problem(cmd, "option", e->word, "%s", e->opt->text);
	else if (e->opt->kind == HF_OPT_NOTED)
		hf_cmdline_note(cmd, "%s %s: %s", e->word, e->arg ? e->arg : "", e->opt->text);
	else if (e->opt->kind == HF_OPT_LOADVM && cmd->is_standby)
		hf_cmdline_problem(cmd, "option", e->word,
				   "the standby takes its state from the other host; leave it out");
}

void hf_cmdline_check_devices(struct hf_cmdline *cmd)
{
	for (size_t i = 0; i < cmd->entry_count; i++)
		check_entry(cmd, &cmd->entry[i]);
}

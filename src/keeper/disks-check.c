/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* May the VM be started on these images? What the user has to know is said here. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "disk/image.h"
#include "keeper/disks.h"
#include "keeper/keeper.h"

static int check_qcow2(struct hf_disks *d, size_t i, struct hf_err *err)
{
	const struct hf_cmdline_disk *disk = &d->k->cmdline->disk[i];
	struct hf_qcow2_info info;
	int r = hf_qcow2_probe(disk->location, &info, err);

	if (r < 0)
		return r;
	if (!info.is_qcow2) {
		hf_err_set(err,
			   "disk %s: %s is no qcow2 file, but format=qcow2 says so; a standby's is "
			   "made with 'qemu-img create -f qcow2 FILE SIZE', of the primary's size",
			   disk->id, disk->location);
		return -EINVAL;
	}
	if (info.has_data_file || (info.has_backing_file && !d->is_shared)) {
		hf_err_set(err, "disk %s: %s has %s, which is not replicated: %s", disk->id,
			   disk->location,
			   info.has_data_file ? "an external data file" : "a backing file",
			   info.has_data_file ? "convert it with 'qemu-img convert'"
					      : "flatten it with 'qemu-img rebase -b \"\"'");
		return -EINVAL;
	}
	d->want_bytes[i] = info.room_bytes;
	return 0;
}

static int check_image(struct hf_disks *d, size_t i, struct hf_err *err)
{
	const struct hf_cmdline_disk *disk = &d->k->cmdline->disk[i];

	if (!strstr(disk->location, "://") && access(disk->location, F_OK) < 0) {
		hf_err_set(err,
			   "disk %s: %s: %s; if it is to be a standby's copy, make it as large as "
			   "the primary's: 'qemu-img create -f %s %s SIZE'",
			   disk->id, disk->location, strerror(errno), disk->format, disk->location);
		return -ENOENT;
	}
	return strcmp(disk->format, "qcow2") == 0 ? check_qcow2(d, i, err) : 0;
}

int hf_disks_check_images(struct hf_disks *d, struct hf_err *err)
{
	const struct hf_cmdline *cmd = d->k->cmdline;
	int r = 0;

	d->n = cmd->disk_count;
	for (size_t i = 0; !r && i < d->n; i++) {
		d->id[i] = cmd->disk[i].id;
		d->format[i] = cmd->disk[i].format;
		r = check_image(d, i, err);
	}
	return r;
}

static int refuse_partial(const struct hf_disks *d, struct hf_err *err)
{
	hf_err_set(
		err,
		"the disks here are a copy that was being made when it ended: they hold no state "
		"of any time. Start the VM on the other host and a standby here; if the images "
		"were replaced by good ones, remove %s/%s",
		d->k->set->state_dir, d->k->name);
	return -EINVAL;
}

/* The standby of the session that these disks were in says itself that it never went live. */
static bool has_peer_stayed_standby(const struct hf_disks *d)
{
	const struct hf_keeper *k = d->k;

	return (k->peer_disk_condition == HF_WIRE_DISKS_REPLICATED ||
		k->peer_disk_condition == HF_WIRE_DISKS_PARTIAL) &&
	       hf_id_is_equal(k->peer_disk_session, d->session);
}

/* A copy that is half made, or that the VM may have gone on from elsewhere, is not to be started. */
int hf_disks_check_condition(const struct hf_disks *d, struct hf_err *err)
{
	/* Of what both hosts use there is one state only, and nobody uses it: that has been asked before. */
	if (d->k->set->role == HF_ROLE_STANDBY || d->is_shared)
		return 0;
	if (d->condition == HF_DISK_PARTIAL)
		return refuse_partial(d, err);
	if (d->k->set->is_forced)
		return 0;
	if (d->condition == HF_DISK_REPLICATED) {
		hf_err_set(err, "the disks here are a standby's copy, and the VM may have gone on "
				"elsewhere since: start it there, or use --force if this copy is "
				"the one to go on with");
		return -EINVAL;
	}
	if (d->condition == HF_DISK_HELD && !has_peer_stayed_standby(d)) {
		hf_err_set(err, "the VM ended here without order while a standby was in step with "
				"it, which may have gone live and be ahead of these disks. Start a "
				"standby there, so that it can be asked, and then the VM here; or "
				"use --force if it did not");
		return -EINVAL;
	}
	return 0;
}

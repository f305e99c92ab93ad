/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is wanted of each VM, over restarts of the daemon and of the host: STATE_DIR/.host/wanted.json.
 * Layer: daemon. Main thread. Blocks as the file system does; the file is small, and replaced as a whole.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "core/recover.h"

#define HF_WANTED_FILE "wanted.json"
#define HF_WANTED_VMS_MAX 4096
#define HF_BOOT_ID 36

struct hf_wanted_entry {
	char vm[HF_NAME_MAX + 1];
	struct hf_wanted wanted;
	bool was_stopped_by_order;
};

struct hf_wanted_all {
	char boot_id[HF_BOOT_ID + 1]; /* of when it was written */
	struct hf_wanted_entry *vms;
	size_t n;
};

/* A text of the file. 0; -EBADMSG with @err: what is wrong; -ENOMEM. @ret is to be released. */
int hf_wantedfile_parse(const char *text, size_t len, struct hf_wanted_all *ret,
			struct hf_err *err) HF_MUST_CHECK;
/* -ENOENT: there is none yet. */
int hf_wantedfile_load(const char *folder, struct hf_wanted_all *ret,
		       struct hf_err *err) HF_MUST_CHECK;
/* Durable on return. Makes the folder. */
int hf_wantedfile_save(const char *folder, const struct hf_wanted_all *all,
		       struct hf_err *err) HF_MUST_CHECK;
void hf_wantedfile_fini(struct hf_wanted_all *all);

/* Of the running kernel. "" if it does not say. Returns @buf. */
const char *hf_boot_id(char buf[HF_BOOT_ID + 1]);

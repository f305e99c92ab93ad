/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of frozen share. Layer: vm, private to frozen and offload. */
#pragma once

#include "vm/frozen.h"

#define HF_FROZEN_CERTIFICATE "certificate.json"
#define HF_FROZEN_STATE "device-state"
#define HF_FROZEN_RAM "ram"

/* STATE_DIR/VM/frozen/ID; without @id its parent. 0; -EINVAL: not a VM's name or not an id; -ENAMETOOLONG. */
int hf_frozen_path(const char *state_dir, const char *vm, const char *id, char ret[PATH_MAX],
		   struct hf_err *err) HF_MUST_CHECK;

/* @dir + "/" + @name; -ENAMETOOLONG with @err. */
int hf_frozen_join(const char *dir, const char *name, char ret[PATH_MAX],
		   struct hf_err *err) HF_MUST_CHECK;

/* What was written or renamed in a folder is there after a crash. 0 or -errno with @err. */
int hf_frozen_sync_dir(const char *path, struct hf_err *err) HF_MUST_CHECK;

/* Are its processes' numbers of this boot of the host? Otherwise they are others' now. */
bool hf_frozen_is_of_this_boot(const struct hf_certificate *c);

/* Ends the process that keeps its memory, if there is one. 0 or -errno with @err. */
int hf_frozen_end_holder(const struct hf_certificate *c, struct hf_err *err) HF_MUST_CHECK;

/* RAM that a process holds. As hf_frozen_open_ram(). */
int hf_frozen_open_ram_of(const struct hf_certificate *c, int *ret_fd,
			  struct hf_err *err) HF_MUST_CHECK;

/* What its folder takes. */
uint64_t hf_frozen_disk_bytes(const struct hf_frozen *f);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plugin's parameters, KEY=VALUE each. Layer: plugin. Main thread. Allocates; blocks for no longer
 * than getcwd(3). docs/man/nbdkit-holdfast-plugin.1 says what each means.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/wire-disk.h"

struct hf_plugin_disk {
	char *location; /* absolute path, or NBD URI */
	char *map; /* absolute path of its dirty map; NULL: none */
	uint64_t size_bytes; /* 0: the image's own */
	bool is_direct;
};

struct hf_plugin_options {
	uint32_t n_disks;
	struct hf_plugin_disk disk[HF_WIRE_DISKS_MAX];
	char *vm; /* never NULL once complete */
	char *redo; /* NULL: none */
	uint64_t redo_bytes; /* of one area */
	bool is_shared;
	bool is_standby;
	/* What a keeper has passed; -1: none. With the first one come the next three. */
	int shm_fd;
	int kick_fd;
	int notice_fd;
	int control_fd;
	int hold_fd; /* kept open as long as the process lives, not used */
};

#define HF_PLUGIN_REDO_BYTES ((uint64_t)256 << 20) /* unless redo-area says otherwise */

void hf_plugin_options_init(struct hf_plugin_options *o);
void hf_plugin_options_fini(struct hf_plugin_options *o);

/* One parameter. 0; -EINVAL with @err: no such key, a bad value, one too many; -errno. */
int hf_plugin_options_set(struct hf_plugin_options *o, const char *key, const char *value,
			  struct hf_err *err) HF_MUST_CHECK;

/* All were given: do they go together? Fills in what was left out. 0; -EINVAL with @err. */
int hf_plugin_options_complete(struct hf_plugin_options *o, struct hf_err *err) HF_MUST_CHECK;

/* Is it an NBD URI, and not a path? */
bool hf_plugin_is_uri(const char *location);

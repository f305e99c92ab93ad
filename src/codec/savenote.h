/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is known about a saved VM: one JSON object in STATE_DIR/NAME/saved/save.json. Layer: codec. Any thread;
 * allocates. docs/examination.md tells every member.
 */
#pragma once

#include <json-c/json_object.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

#define HF_SAVENOTE_MAX_BYTES (1u << 20)
#define HF_SAVENOTE_IMAGES_MAX 16

/* A disk's image as it was left. */
struct hf_saved_image {
	char location[PATH_MAX]; /* as QEMU's command line names it */
	bool is_file; /* else (a block device, an NBD server) there is nothing below to compare */
	uint64_t bytes;
	uint64_t inode;
	int64_t mtime_ns; /* CLOCK_REALTIME */
};

struct hf_savenote {
	char vm[HF_NAME_MAX + 1];
	char host[HF_NAME_MAX + 1];
	uint64_t saved_time_ns; /* CLOCK_REALTIME */
	char qemu_version[64];
	char machine[64];
	uint64_t ram_bytes;
	uint64_t device_state_bytes;
	uint32_t device_state_crc; /* CRC-32C */
	bool was_running;
	uint64_t lver; /* of the lease under which it ran last; 0: none */
	/* Everything is in the images, and they are as `image` says. Before that a resume would be of RAM with
	 * disks that are not its own. */
	bool is_settled;
	struct hf_saved_image image[HF_SAVENOTE_IMAGES_MAX];
	unsigned int n_images;
};

/* A new object; NULL: no memory. */
struct json_object *hf_savenote_encode(const struct hf_savenote *n);

/**
 * hf_savenote_decode() - strict: a missing, double, wrong or too long member is an error; one of a later version
 * that this one does not know is passed over
 * @name: of the file, for messages
 * Return: 0; -EINVAL, -E2BIG with @err; -ENOMEM.
 */
int hf_savenote_decode(const char *name, const char *text, size_t len, struct hf_savenote *ret,
		       struct hf_err *err) HF_MUST_CHECK;
